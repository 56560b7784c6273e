"""What is in the rings, for the page: which fragments a span has, and their bytes.

A ring may hold a million fragments, so only *stretches* are kept in memory: fragments of one run without a hole, up
to five minutes long. They are read on from where the last look ended; a window is then found by its stretches and only
its own fragments are read. Blocking; the server calls it from threads.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from nvr.clock import Clock, boot_id
from nvr.errors import NvrError
from nvr.journal import Reader, Story
from nvr.media import ClockState, Position
from nvr.ring.reader import NoInitSegment, Recycled, Ring, RingUnreadable, Row
from nvr.timeline import ClockSample, Placed, Timeline
from nvr.web.answers import NotFound, Unavailable
from nvr.web.settings import PageSettings

log = logging.getLogger(__name__)

STRETCH_NS = 300_000_000_000  # 4 TB of footage are 30,000 stretches, some 12 MB
LOOK_AGAIN_S = 2.0  # new fragments are noticed this often; live does not wait for it
FRAGMENTS_AT_ONCE = 600
KEYFRAME_BEFORE_NS = 60_000_000_000  # a GOP longer than this is not begun in its middle


class End(NamedTuple):
    """The fragment at one end of a stretch, as far as the ledger asks."""

    sequence: int
    segment: int
    lap: int


@dataclass(slots=True)
class Stretch:
    """Fragments of one run that follow each other; what ledger.Unbroken says, in less memory."""

    first: End
    last: End
    run: int
    boot_id: bytes
    mono_ns: int
    duration_ns: int
    size_bytes: int
    slack_ns: int  # the next fragment may begin this much later without a gap: one picture, or a clock that is slewed
    sample: ClockSample

    def is_followed_by(self, sequence: int, run: int, boot_id: bytes, mono_ns: int) -> bool:
        """Whether nothing is missing between this and a fragment."""
        return (
            sequence == self.last.sequence + 1
            and run == self.run
            and boot_id == self.boot_id
            and self.mono_ns <= mono_ns <= self.mono_ns + self.duration_ns + self.slack_ns
        )

    def joined(self, other: Stretch) -> Stretch:
        """Both as one; `other` must follow."""
        duration_ns = max(other.mono_ns + other.duration_ns, self.mono_ns + self.duration_ns) - self.mono_ns
        size_bytes = self.size_bytes + other.size_bytes
        return replace(self, last=other.last, duration_ns=duration_ns, size_bytes=size_bytes, slack_ns=other.slack_ns)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A row as timeline.place() wants it."""

    row: Row

    @property
    def boot_id(self) -> bytes:
        return self.row.record.boot_id

    @property
    def mono_ns(self) -> int:
        return self.row.record.mono_ns

    @property
    def duration_ns(self) -> int:
        return self.row.record.duration_ns


@dataclass(slots=True)
class _Known:
    """What is known of one ring."""

    ring: Ring | None = None
    stretches: list[Stretch] = field(default_factory=list)
    looked_s: float = float("-inf")
    lock: threading.Lock = field(default_factory=threading.Lock)


def stretches_of(rows: Iterable[Row], known: list[Stretch]) -> None:
    """Continue `known` with rows that come after it; in place, because most of the time one row is added to many."""
    last = known[-1] if known else None
    for position, record in rows:
        end = End(record.sequence, position.segment, position.lap)
        duration_ns = record.duration_ns
        slack_ns = max(duration_ns // max(record.pictures, 1), duration_ns // 32)
        sample = ClockSample(
            record.boot_id, record.mono_ns, record.wall_ns, record.clock_state, record.clock_error_ns,
            record.mono_ns + duration_ns,
        )  # fmt: skip
        new = Stretch(
            end, end, record.run, record.boot_id, record.mono_ns, duration_ns, position.size_bytes, slack_ns, sample
        )
        if (
            last is not None
            and last.is_followed_by(record.sequence, record.run, record.boot_id, record.mono_ns)
            and record.mono_ns + duration_ns - last.mono_ns <= STRETCH_NS
        ):
            kept = last.sample
            last = known[-1] = last.joined(new)
            if sample.state >= kept.state and sample.error_ns <= kept.error_ns:
                last.sample = sample
        else:
            last = new
            known.append(last)


def unbroken(stretches: Iterable[Stretch]) -> list[Stretch]:
    """Stretches joined wherever nothing is missing between them, for the ledger."""
    merged: list[Stretch] = []
    for each in stretches:
        if merged and merged[-1].is_followed_by(each.first.sequence, each.run, each.boot_id, each.mono_ns):
            merged[-1] = merged[-1].joined(each)
        else:
            merged.append(each)
    return merged


class Footage:
    def __init__(self, data_dir: Path, settings: PageSettings, clock: Clock) -> None:
        self.data_dir = data_dir
        self._clock = clock
        self._known = {name: _Known() for name in settings.stream_names}
        self._timeline: Timeline | None = None
        self._timeline_s = float("-inf")
        self._timeline_lock = threading.Lock()
        self._boot_id = boot_id()
        self._journal = Reader(data_dir / "journal")
        self._story = Story()
        self._story_s = float("-inf")
        self._story_lock = threading.Lock()

    # -- bytes

    @contextmanager
    def _ring(self, stream: str) -> Iterator[Ring]:
        """A ring to read bytes from, by any number of threads; rows only with the lock of `_Known` held.

        Raises NotFound, or Unavailable while it cannot be read; then it is opened anew the next time, because a disk
        that was taken out comes back as another one.
        """
        known = self._known.get(stream)
        if known is None:
            raise NotFound(f"there is no stream {stream} on this box", hint="GET /api/streams lists them.")
        try:
            ring = known.ring
            if ring is None:
                camera, _, kind = stream.partition("/")
                ring = known.ring = Ring(self.data_dir / "rings" / camera / kind)
            yield ring
        except (RingUnreadable, OSError) as error:
            known.ring = None
            raise Unavailable(
                f"nothing of {stream} can be read: {error}",
                hint="It was never recorded, or the disk is gone: look at the health page.",
            ) from error
        except (Recycled, NoInitSegment) as error:
            raise NotFound(str(error), hint=error.hint) from error

    def fragment(self, position: Position) -> bytes:
        """All bytes of a fragment. Raises NotFound when it is recycled, or Unavailable."""
        with self._ring(position.stream) as ring:
            return ring.read(position)

    def init_segment(self, position: Position) -> bytes:
        """ftyp and moov of the segment `position` lies in. Raises NotFound or Unavailable."""
        with self._ring(position.stream) as ring:
            return ring.init_segment(position)

    def segment_bytes(self, position: Position) -> bytes:
        """`size_bytes` of a segment from `offset` on, fragments or init segment, if it is still on that lap.

        Raises NotFound when the ring has used the segment again, or there never was one; or Unavailable.
        """
        with self._ring(position.stream) as ring:
            try:
                fd = os.open(ring.segment_path(position), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                raise NotFound("there is no such segment", hint="Take numbers from /api/fragments.") from None
            try:
                data = os.pread(fd, position.size_bytes, position.offset)
            finally:
                os.close(fd)
            if not ring.still_there(position):  # asked afterwards: only then what was read counts
                raise NotFound("the ring has used this place again", hint="Ask for the fragments once more.")
        if len(data) != position.size_bytes:
            raise NotFound("the segment is not that long", hint="Take offsets from /api/fragments.")
        return data

    # -- when

    def look(self, stream: str) -> list[Stretch]:
        """All stretches of a stream, oldest first. Raises Unavailable."""
        known = self._known[stream]
        with known.lock, self._ring(stream) as ring:
            if time.monotonic() - known.looked_s > LOOK_AGAIN_S:
                if ring.look_for_forgotten():
                    known.stretches.clear()  # what the disk has forgotten lies in the middle of what is known
                oldest = min((state.first_sequence for state in ring.segments() if state.fragments), default=None)
                if oldest is None:
                    known.stretches.clear()
                else:
                    gone = bisect_left([each.last.sequence for each in known.stretches], oldest)
                    del known.stretches[:gone]
                start = known.stretches[-1].last.sequence + 1 if known.stretches else 0
                stretches_of(ring.rows(start), known.stretches)
                known.looked_s = time.monotonic()
            return list(known.stretches)

    def forgotten(self, stream: str) -> frozenset[int]:
        """Sequence numbers that the disk does not give back, as of the last look()."""
        ring = self._known[stream].ring
        return ring.forgotten if ring is not None else frozenset()

    def timeline(self) -> Timeline:
        """When everything was, as well as it is known now."""
        with self._timeline_lock:
            if self._timeline is None or time.monotonic() - self._timeline_s > LOOK_AGAIN_S:
                histories = []
                for stream in sorted(self._known):
                    try:
                        histories.append([each.sample for each in self.look(stream)])
                    except NvrError:
                        continue
                now = self._clock.read()
                present = ClockSample(self._boot_id, now.mono_ns, now.wall_ns, now.state, now.error_ns)
                self._timeline = Timeline.from_samples(*histories, [*self.story().samples(), present])
                self._timeline_s = time.monotonic()
            return self._timeline

    def story(self) -> Story:
        """What the journal says; an empty story, so that every gap is 'not known', where it cannot be read."""
        with self._story_lock:
            if time.monotonic() - self._story_s > LOOK_AGAIN_S:
                self._story = self._journal.story()
                self._story_s = time.monotonic()
            return self._story

    def now_ns(self) -> int:
        """The present on the timeline, so that it stands right behind the newest footage whatever the clock says."""
        return self.timeline().wall_of(self._boot_id, self._clock.mono_ns()).ns

    def placed(self, stream: str) -> list[Placed[Stretch]]:
        """Stretches of a stream in wall time, oldest first."""
        timeline = self.timeline()
        return timeline.place(self.look(stream))

    def rows(self, stream: str, from_ns: int, to_ns: int) -> Iterator[tuple[Row, Placed[_Piece]]]:
        """Fragments that touch a span, from the keyframe before it on."""
        stretches = self.placed(stream)
        inside = [at for at, each in enumerate(stretches) if each.to_ns > from_ns and each.from_ns < to_ns]
        if not inside:
            return
        first, last = inside[0], inside[-1]
        while (
            first > 0
            and stretches[first - 1].what.run == stretches[first].what.run
            and stretches[first - 1].to_ns > from_ns - KEYFRAME_BEFORE_NS
        ):
            first -= 1
        first_sequence, last_sequence = stretches[first].what.first.sequence, stretches[last].what.last.sequence
        pieces: list[_Piece] = []
        with self._known[stream].lock, self._ring(stream) as ring:
            for row in ring.rows(first_sequence):
                if row.record.sequence > last_sequence:
                    break
                pieces.append(_Piece(row))
        placed = self.timeline().place(pieces)
        begin = next((at for at, each in enumerate(placed) if each.to_ns > from_ns), len(placed))
        key = begin
        while (
            key > 0
            and not placed[key].what.row.record.is_keyframe
            and placed[key - 1].what.row.record.run == placed[key].what.row.record.run
        ):
            key -= 1
        if key < len(placed) and placed[key].what.row.record.is_keyframe:
            begin = key
        for each in placed[begin:]:
            if each.from_ns >= to_ns:
                break
            yield each.what.row, each

    def fragments(self, stream: str, from_ns: int, to_ns: int) -> dict[str, Any]:
        """What a player needs for a span; `next_ms` is where footage goes on when the span has none."""
        found = []
        init_bytes: dict[tuple[int, int], int] = {}
        for row, placed in self.rows(stream, from_ns, to_ns):
            position, record = row.position, row.record
            place = (position.segment, position.lap)
            if place not in init_bytes:
                try:
                    init_bytes[place] = len(self.init_segment(position))
                except NotFound:  # recycled just now, or its parameter sets were lost
                    continue
            found.append(
                {
                    "sequence": record.sequence,
                    "from_ms": placed.from_ns // 1_000_000,
                    "to_ms": placed.to_ns // 1_000_000,
                    "segment": position.segment,
                    "lap": position.lap,
                    "offset": position.offset,
                    "size_bytes": position.size_bytes,
                    "init_bytes": init_bytes[place],
                    "run": record.run,
                    "duration_ticks": record.duration_ticks,
                    "pictures": record.pictures,
                    "is_keyframe": record.is_keyframe,
                    "clock_state": int(placed.state),
                }
            )
            if len(found) == FRAGMENTS_AT_ONCE:
                break
        next_ms = None
        if not found:
            later = [each.from_ns for each in self.placed(stream) if each.from_ns >= to_ns]
            next_ms = min(later) // 1_000_000 if later else None
        return {"fragments": found, "next_ms": next_ms}

    def facts(self, stream: str) -> dict[str, Any]:
        """How far back a ring goes, and how full it is."""
        try:
            placed = self.placed(stream)
        except (NvrError, OSError):  # a disk that is away is told beside it, and must not hide what the recorder says
            placed = []
        timed = [each for each in placed if each.state is not ClockState.UNKNOWN]
        return {
            "used_bytes": sum(each.what.size_bytes for each in placed),
            "from_ms": timed[0].from_ns // 1_000_000 if timed else None,
            "to_ms": timed[-1].to_ns // 1_000_000 if timed else None,
        }
