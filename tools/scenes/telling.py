"""Facts without pixels: what `nvr/detect` would tell of a simulated scene, so that an hour costs seconds.

Keeps the contract of docs/architecture.md ("From pixels to facts") on top of the scripted detector: a thing is confirmed by
three detections, survives 2 s of misses, and gets a new number after longer ones; it has moved when its foot has gone
a third of its height or ever travelled far. Motion and foreground are counted on a coarse grid of the picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from nvr.scene import (
    KINDS,
    Crossing,
    Detection,
    Facts,
    Health,
    InZone,
    Line,
    Rect,
    Sight,
    Tamper,
    Track,
    Zone,
    ZoneFacts,
)

_NS = 1_000_000_000
ASPECT = 16 / 9
_GRID = (36, 64)
_KEPT_S, _CONFIRMED = 2.0, 3

CLEAR = Tamper(
    brightness=0.45, contrast=0.19, dark_share=0.05, sharpness=0.31, sharpness_usual=0.32, edges_kept=0.97, detail=0.8,
    shift=(0.0, 0.0), shift_trust=0.9, frozen_ns=0, loop_ns=0, loop_period_ns=0, learned_ns=3600 * _NS,
)  # fmt: skip


@dataclass
class _Followed:
    track: Track
    missed: bool = False
    in_zones: dict[str, tuple[int, int]] = field(default_factory=dict)  # name -> entered_ns, last inside
    at: tuple[float, float] = (0.0, 0.0)  # smoothed foot
    from_foot: tuple[float, float] = (0.0, 0.0)


class Teller:
    """One camera. `see()` takes what the detector told of one frame; numbers the truth gave keep things apart."""

    def __init__(
        self, zones: Sequence[Zone], lines: Sequence[Line] = (), *, camera: str = "scene", every_s: float = 0.2,
        height_px: int = 360, wall_at_0_ns: int | None = None, model: str = "scripted",
    ) -> None:  # fmt: skip
        self._camera, self._every_s, self._height_px = camera, every_s, height_px
        self._zones = (*zones, Zone("", ((0, 0), (1, 0), (1, 1), (0, 1))))
        self._lines = tuple(lines)
        self._wall_at_0_ns = wall_at_0_ns
        self._model = model
        self._followed: list[_Followed] = []
        self._number = 0
        rows, columns = _GRID
        self._masks = [
            np.array(
                [[zone.contains(((x + 0.5) / columns, (y + 0.5) / rows)) for x in range(columns)] for y in range(rows)]
            )
            for zone in self._zones
        ]

    def see(
        self, at_s: float, detections: Sequence[Detection], *, is_saturated: bool = False, tamper: Tamper = CLEAR,
        health: Health | None = None, is_light_change: bool = False,
    ) -> Facts:  # fmt: skip
        at_ns = round(at_s * _NS)
        self._match(at_ns, detections)
        crossings = self._place(at_ns)
        confirmed = [each for each in self._followed if each.track.detections >= _CONFIRMED]
        covered = np.zeros(_GRID, bool)
        moving = np.zeros(_GRID, bool)
        for each in confirmed:
            patch = _patch(each.track.rect)
            covered[patch] = True
            # A quarter of a cell between two frames changes enough of its luma.
            if each.track.speed * self._every_s > 0.25 / _GRID[0]:
                moving[patch] = True
        zone_facts = tuple(
            self._zone_facts(zone, mask, confirmed, covered, moving)
            for zone, mask in zip(self._zones, self._masks, strict=True)
        )
        return Facts(
            camera=self._camera, at_ns=at_ns, wall_ns=self._wall_ns(at_ns), has_picture=True, height_px=self._height_px,
            aspect=ASPECT, zones=zone_facts, crossings=crossings,
            tracks=tuple(each.track for each in sorted(confirmed, key=lambda each: each.track.number)),
            motion_share=float(moving.mean()), foreground_share=float(covered.mean()), is_light_change=is_light_change,
            tamper=tamper, health=health or Health(width_px=640, height_px=360, fps=1 / self._every_s),
            sight=Sight(self._model, frozenset(KINDS), looked_ns=at_ns, is_saturated=is_saturated),
        )  # fmt: skip

    def absent(self, at_s: float, last: Facts, health: Health) -> Facts:
        """No picture: everything about it as it last was."""
        at_ns = round(at_s * _NS)
        return replace(last, at_ns=at_ns, wall_ns=self._wall_ns(at_ns), has_picture=False, crossings=(), health=health)

    def _wall_ns(self, at_ns: int) -> int | None:
        return None if self._wall_at_0_ns is None else self._wall_at_0_ns + at_ns

    def _match(self, at_ns: int, detections: Sequence[Detection]) -> None:
        """Greedy by overlap; what a thing would be predicted to be at is where it was plus its velocity."""
        for each in self._followed:
            each.missed = True
        open_ones = list(self._followed)
        ahead = {}
        for each in open_ones:
            for_s = (at_ns - each.track.seen_ns) / _NS
            ahead[id(each)] = each.track.rect.moved(each.track.velocity[0] * for_s, each.track.velocity[1] * for_s)
        pairs = sorted(
            (
                (_nearness(ahead[id(each)], detection.rect), place, number)
                for place, each in enumerate(open_ones)
                for number, detection in enumerate(detections)
                if abs(ahead[id(each)].centre[0] - detection.rect.centre[0]) < 0.3
            ),
            key=lambda pair: -pair[0],
        )
        taken_places: set[int] = set()
        taken: set[int] = set()
        for near, place, number in pairs:
            if near < 0.12:
                break
            if place in taken_places or number in taken:
                continue
            taken_places.add(place)
            taken.add(number)
            self._seen_again(open_ones[place], detections[number], at_ns)
        for number, detection in enumerate(detections):
            if number not in taken:
                self._begin(detection, at_ns)
        self._followed = [each for each in self._followed if at_ns - each.track.seen_ns <= _KEPT_S * _NS]

    def _begin(self, detection: Detection, at_ns: int) -> None:
        self._number += 1
        track = Track(
            self._number,
            detection.kind,
            detection.score,
            detection.rect,
            at_ns,
            at_ns,
            1,
            (0.0, 0.0),
            0.0,
            False,
            at_ns,
        )
        self._followed.append(_Followed(track, at=detection.rect.foot, from_foot=detection.rect.foot))

    def _seen_again(self, followed: _Followed, detection: Detection, at_ns: int) -> None:
        track = followed.track
        for_s = max((at_ns - track.seen_ns) / _NS, 1e-3)
        before = track.rect.moved(track.velocity[0] * for_s, track.velocity[1] * for_s)
        pull = 0.35  # a steady filter: shaking of a rect is halved, a start is followed within a second at 5 a second
        rect = Rect(*(
            old + pull * (new - old)
            for old, new in zip(_edges(before), _edges(detection.rect), strict=True)
        ))  # fmt: skip
        rate = pull * 0.4 / for_s
        velocity = (
            track.velocity[0] + rate * (detection.rect.centre[0] - before.centre[0]),
            track.velocity[1] + rate * (detection.rect.centre[1] - before.centre[1]),
        )
        foot = rect.foot
        gone = math.hypot((foot[0] - followed.from_foot[0]) * ASPECT, foot[1] - followed.from_foot[1])
        speed = math.hypot(velocity[0] * ASPECT, velocity[1])
        moves = gone > 0.33 * rect.height
        if moves:
            followed.from_foot = foot
        followed.missed = False
        followed.track = replace(
            track, score=track.score + (detection.score - track.score) / (track.detections + 1), rect=rect, seen_ns=at_ns,
            detections=track.detections + 1, velocity=velocity, speed=speed, has_moved=track.has_moved or moves,
            moved_ns=at_ns if moves else track.moved_ns,
        )  # fmt: skip

    def _place(self, at_ns: int) -> tuple[Crossing, ...]:
        crossings = []
        for each in self._followed:
            foot = each.track.rect.foot
            if each.track.detections > _CONFIRMED:
                for line in self._lines:
                    before, after = line.side(each.at), line.side(foot)
                    if before * after < 0 and _between(line, each.at, foot):
                        crossings.append(Crossing(line.name, each.track.number, each.track.kind, at_ns, after > 0))
            each.at = foot
            for zone in self._zones:
                if zone.contains(foot):
                    entered_ns, last_ns = each.in_zones.get(zone.name, (at_ns, at_ns))
                    each.in_zones[zone.name] = (entered_ns if at_ns - last_ns <= 2 * _NS else at_ns, at_ns)
        return tuple(crossings)

    def _zone_facts(
        self, zone: Zone, mask: np.ndarray, confirmed: Sequence[_Followed], covered: np.ndarray, moving: np.ndarray
    ) -> ZoneFacts:
        area = max(int(mask.sum()), 1)
        inside = []
        for each in sorted(confirmed, key=lambda each: each.track.number):
            if zone.name in each.in_zones and zone.contains(each.track.rect.foot):
                patch = _patch(each.track.rect)
                cells = covered[patch].size
                share = float(mask[patch].sum()) / cells if cells else 0.0
                inside.append(InZone(each.track, each.in_zones[zone.name][0], share))
        foreground = float((covered & mask).sum()) / area
        return ZoneFacts(zone.name, tuple(inside), float((moving & mask).sum()) / area, foreground, foreground)


def _edges(rect: Rect) -> tuple[float, float, float, float]:
    return rect.left, rect.top, rect.right, rect.bottom


def _patch(rect: Rect) -> tuple[slice, slice]:
    rows, columns = _GRID
    return (
        slice(max(0, round(rect.top * rows)), max(0, min(rows, round(rect.bottom * rows)))),
        slice(max(0, round(rect.left * columns)), max(0, min(columns, round(rect.right * columns)))),
    )


def _nearness(first: Rect, second: Rect) -> float:
    """Overlap, or for small fast things that no longer overlap a little for being close."""
    iou = first.iou(second)
    if iou > 0.12:
        return iou
    apart = math.hypot((first.centre[0] - second.centre[0]) * ASPECT, first.centre[1] - second.centre[1])
    return max(iou, 0.2 * (1 - apart / (1.2 * max(first.height, second.height, 1e-6))))


def _between(line: Line, before: tuple[float, float], after: tuple[float, float]) -> bool:
    """Whether the way from `before` to `after` meets the line between its ends."""
    way = Line("", before, after)
    return way.side(line.start) * way.side(line.end) <= 0
