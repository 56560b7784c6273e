"""When the pictures of a camera are decoded, from when they are shown. Pure: numbers in, numbers out."""

from __future__ import annotations

from bisect import insort


class DecodeClock:
    """Makes decoding times from presentation times, picture by picture, without looking ahead.

    A camera's RTP timestamps say when a picture is shown; with B pictures they do not rise. If no picture is overtaken by
    more than `reorder_frames` others, then the n-th picture may be decoded at the (n - reorder_frames)-th smallest
    presentation time: when picture n has come, that one can no longer change. The first `reorder_frames` pictures have
    no such time; they are set before the first presentation time, `picture_ticks` apart. So decoding starts at 0,
    and everything is shown `reorder_frames * picture_ticks` later than the timestamps say, which start at 0 too.
    """

    __slots__ = (
        "_count",
        "_first",
        "_last",
        "_lead_ticks",
        "_picture_ticks",
        "_recent",
        "needed_frames",
        "reorder_frames",
    )

    def __init__(self, reorder_frames: int, picture_ticks: int = 3600) -> None:
        self.reorder_frames = reorder_frames
        self.needed_frames = (
            0  # the most pictures that have overtaken one so far; more than reorder_frames: start again with it
        )
        self._picture_ticks = max(picture_ticks, 1)
        self._lead_ticks = reorder_frames * self._picture_ticks
        self._recent: list[int] = []  # the largest presentation times so far, rising
        self._first = 0
        self._last = -1
        self._count = 0

    def plain_times(self, presentation_ticks: list[int]) -> list[int] | None:
        """Decoding times of pictures with rising times that none overtakes, as almost every camera sends them.

        None: ask times() for each.
        """
        first = self._first
        if self.reorder_frames or not self._count or presentation_ticks[0] - first <= max(self._recent[-1], self._last):
            return None
        times = [ticks - first for ticks in presentation_ticks]
        self._recent = [*self._recent, *times][-17:]
        self._last = times[-1]
        self._count += len(times)
        return times

    def times(self, presentation_ticks: int) -> tuple[int, int]:
        """(decode_ticks, composition_ticks) of the next picture in decoding order.

        Decoding time strictly rises and composition is never negative, whatever comes. Where a picture is overtaken by
        more than `reorder_frames`, or a time repeats, it is shown late by what is missing: see `needed_frames`.
        """
        if self._count == 0:
            self._first = presentation_ticks
        shown = presentation_ticks - self._first + self._lead_ticks
        if not self.reorder_frames and self._count and shown > self._recent[-1]:
            # What almost every camera does: no picture overtakes another.
            self._count += 1
            self._recent.append(shown)
            if len(self._recent) > 17:
                del self._recent[0]
            if shown > self._last:
                self._last = shown
                return shown, 0
            self._last += 1
            return self._last, 0
        insort(self._recent, shown)
        overtaken_by = len(self._recent) - 1 - self._recent.index(shown)
        self.needed_frames = max(self.needed_frames, overtaken_by)
        if self._count < self.reorder_frames:
            decode = self._count * self._picture_ticks
        else:
            decode = self._recent[-1 - self.reorder_frames]
        if len(self._recent) > 17:  # 16 is the most that H.264 allows
            del self._recent[0]
        self._count += 1
        decode = max(decode, self._last + 1)
        self._last = decode
        return decode, max(shown - decode, 0)
