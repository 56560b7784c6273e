"""Who is in which zone since when, how full a zone is, and who crossed which line. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nvr.detect.motion import Mask, Motion, Sums, zone_mask
from nvr.scene import Crossing, InZone, Line, Point, Rect, Track, Zone, ZoneFacts, distance

LEFT_AFTER_NS = 2_000_000_000  # a foot that wavers on the edge stays in
FORGET_NS = 10_000_000_000
SURE_HEIGHTS = 0.012  # of the picture's height: nearer to a line nobody knows on which side a foot is
SURE_SIZE = 0.06  # and of the thing's own height

WHOLE = Zone("", ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)))


@dataclass(slots=True)
class _Stay:
    entered_ns: int
    inside_ns: int  # last time


class ZoneKeeper:
    """The zones of one camera."""

    def __init__(self, zones: Sequence[Zone]) -> None:
        self._zones = (*(zone for zone in zones if zone.name), WHOLE)
        self._masks: dict[str, Sums] = {}
        self._shape = (0, 0)
        self._stays: dict[tuple[str, int], _Stay] = {}

    def facts(self, tracks: Sequence[Track], motion: Motion | None, at_ns: int) -> tuple[ZoneFacts, ...]:
        """`motion` None: nothing moved, and what differed from the empty scene is not known anew."""
        if motion is not None and motion.moving.mask.shape != self._shape:
            self._shape = motion.moving.mask.shape
            self._masks = {zone.name: Sums(zone_mask(zone, *self._shape)) for zone in self._zones}
        for key in [key for key, stay in self._stays.items() if at_ns - stay.inside_ns > FORGET_NS]:
            del self._stays[key]
        return tuple(self._of(zone, tracks, motion, at_ns) for zone in self._zones)

    def _of(self, zone: Zone, tracks: Sequence[Track], motion: Motion | None, at_ns: int) -> ZoneFacts:
        sums = self._masks.get(zone.name)
        inside = []
        for track in tracks:
            stay = self._stays.get((zone.name, track.number))
            if zone.contains(track.rect.foot):
                if stay is None or at_ns - stay.inside_ns > LEFT_AFTER_NS:
                    # Who is told for the first time was there since his first detection.
                    since_ns = track.first_ns if stay is None and track.detections <= 4 else at_ns
                    stay = self._stays[zone.name, track.number] = _Stay(since_ns, at_ns)
                stay.inside_ns = at_ns
            elif stay is None or at_ns - stay.inside_ns > LEFT_AFTER_NS:
                continue
            share = sums.in_rect(track.rect) if sums is not None else 1.0
            inside.append(InZone(track, stay.entered_ns, round(share, 4)))
        covered = _covered(sums, tracks) if sums is not None else 0.0
        if motion is None or sums is None:
            return ZoneFacts(zone.name, tuple(inside), 0.0, 0.0, covered)
        moving, foreground = motion.moving.in_mask(sums.mask), motion.foreground.in_mask(sums.mask)
        return ZoneFacts(zone.name, tuple(inside), round(moving, 5), round(foreground, 5), covered)


def _covered(zone: Sums, tracks: Sequence[Track]) -> float:
    total = int(np.count_nonzero(zone.mask))
    if not total or not tracks:
        return 0.0
    painted: Mask = np.zeros(zone.mask.shape, np.bool_)
    for track in tracks:
        painted[_slices(track.rect, *painted.shape)] = True
    return round(int(np.count_nonzero(painted & zone.mask)) / total, 5)


def _slices(rect: Rect, rows: int, columns: int) -> tuple[slice, slice]:
    return (
        slice(max(round(rect.top * rows), 0), max(round(rect.bottom * rows), 0)),
        slice(max(round(rect.left * columns), 0), max(round(rect.right * columns), 0)),
    )


class LineKeeper:
    """The lines of one camera. A track crosses when its foot was surely on one side, and is surely on the other.

    Only what moves by itself crosses; who has not been seen to move yet is told as soon as that is known.
    """

    def __init__(self, lines: Sequence[Line], aspect: float) -> None:
        self._lines = lines
        self.aspect = aspect
        self._sure: dict[
            tuple[str, int], tuple[Point, bool]
        ] = {}  # (line, track) -> where it was, and whether on the right
        self._pending: list[Crossing] = []
        self._last_ns: dict[int, int] = {}

    def crossings(self, tracks: Sequence[Track], at_ns: int) -> tuple[Crossing, ...]:
        for track in tracks:
            self._last_ns[track.number] = at_ns
            for line in self._lines:
                crossing = self._look(line, track, at_ns)
                if crossing is not None:
                    self._pending.append(crossing)
        for number in [number for number, last_ns in self._last_ns.items() if at_ns - last_ns > FORGET_NS]:
            del self._last_ns[number]
            self._sure = {key: value for key, value in self._sure.items() if key[1] != number}
            self._pending = [crossing for crossing in self._pending if crossing.track != number]
        moved = {track.number: track for track in tracks if track.has_moved}
        told = tuple(
            Crossing(each.line, each.track, moved[each.track].kind, each.at_ns, each.is_to_right)
            for each in self._pending
            if each.track in moved
        )
        self._pending = [crossing for crossing in self._pending if crossing.track not in moved]
        return told

    def _look(self, line: Line, track: Track, at_ns: int) -> Crossing | None:
        foot = track.rect.foot
        length = distance(line.start, line.end, self.aspect)
        away = line.side(foot) * self.aspect / length  # in picture heights
        if abs(away) < max(SURE_HEIGHTS, SURE_SIZE * track.rect.height):
            return None
        key, is_right = (line.name, track.number), away > 0
        before = self._sure.get(key)
        self._sure[key] = (foot, is_right)
        if before is None or before[1] == is_right or not _meets(line, before[0], foot):
            return None
        return Crossing(line.name, track.number, track.kind, at_ns, is_right)


def _meets(line: Line, a: Point, b: Point) -> bool:
    """Whether the way from a to b, on different sides of it, goes through the line between its ends."""
    way = Line("", a, b)
    first, second = way.side(line.start), way.side(line.end)
    return (first > 0) != (second > 0)
