"""Facts without pixels: the scripted detector, then the product's own tracker, so that an hour costs seconds.

What `nvr/detect/motion.py` would see in pixels is counted on a coarse grid from where things really are; numbers, "has it ever
moved", zones and lines are the product's (`nvr/detect/tracks.py`, `zones.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nvr.detect.motion import Motion, Sums
from nvr.detect.tracks import Tracker
from nvr.detect.zones import LineKeeper, ZoneKeeper
from nvr.scene import (
    KINDS,
    Detection,
    Facts,
    Health,
    Line,
    Rect,
    Sight,
    Tamper,
    Zone,
)

_NS = 1_000_000_000
ASPECT = 16 / 9
_GRID = (36, 64)
_FLAT = np.zeros(_GRID, np.float32)

CLEAR = Tamper(
    brightness=0.45, contrast=0.19, dark_share=0.05, sharpness=0.31, sharpness_usual=0.32, edges_kept=0.97, detail=0.8,
    shift=(0.0, 0.0), shift_trust=0.9, frozen_ns=0, loop_ns=0, loop_period_ns=0, learned_ns=3600 * _NS,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class There:
    """Something that really is in the picture, whatever the detector tells of it."""

    rect: Rect
    is_moving: bool
    is_new: bool = True  # differs from the empty scene; what stays for ten minutes does not any more


class _Seen:
    """The motion stage, as far as the tracker asks it."""

    def __init__(self, there: Sequence[There], known_s: float) -> None:
        self.known_s = known_s
        moving, foreground = np.zeros(_GRID, bool), np.zeros(_GRID, bool)
        for each in there:
            patch = _patch(each.rect)
            if each.is_new:
                foreground[patch] = True
            if each.is_moving:
                moving[patch] = True
        self.moved, self.new = Sums(moving), Sums(foreground)

    def moving(self, rect: Rect) -> float:
        return self.moved.in_rect(rect)

    def foreground(self, rect: Rect) -> float:
        return self.new.in_rect(rect)


class Teller:
    """One camera. `see()` takes what the detector told of one frame, and what was really there."""

    def __init__(
        self, zones: Sequence[Zone], lines: Sequence[Line] = (), *, camera: str = "scene", every_s: float = 0.2,
        height_px: int = 360, wall_at_0_ns: int | None = None, model: str = "scripted",
    ) -> None:  # fmt: skip
        self._camera, self._every_s, self._height_px = camera, every_s, height_px
        self._zones = ZoneKeeper(zones)
        self._lines = LineKeeper(lines, ASPECT)
        self._wall_at_0_ns = wall_at_0_ns
        self._model = model
        self._tracker = Tracker(ASPECT)
        self._from_s: float | None = None

    def see(
        self, at_s: float, detections: Sequence[Detection], there: Sequence[There], *, is_saturated: bool = False,
        tamper: Tamper = CLEAR, health: Health | None = None,
    ) -> Facts:  # fmt: skip
        at_ns = round(at_s * _NS)
        self._from_s = at_s if self._from_s is None else self._from_s
        seen = _Seen(there, 60.0 + at_s - self._from_s)
        self._tracker.update(detections, at_ns, seen)
        tracks = self._tracker.tracks()
        motion = Motion(_FLAT, seen.moved, seen.new, is_light_change=False, noise=1.0, known_s=seen.known_s)
        return Facts(
            camera=self._camera, at_ns=at_ns, wall_ns=self._wall_ns(at_ns), has_picture=True, height_px=self._height_px,
            aspect=ASPECT, zones=self._zones.facts(tracks, motion, at_ns),
            crossings=self._lines.crossings(tracks, at_ns), tracks=tracks, motion_share=seen.moved.share,
            foreground_share=seen.new.share, is_light_change=False, tamper=tamper,
            health=health or Health(width_px=640, height_px=360, fps=1 / self._every_s),
            sight=Sight(self._model, frozenset(KINDS), looked_ns=at_ns, is_saturated=is_saturated),
        )  # fmt: skip

    def absent(self, at_s: float, last: Facts, health: Health) -> Facts:
        """No picture: everything about it as it last was."""
        at_ns = round(at_s * _NS)
        return replace(last, at_ns=at_ns, wall_ns=self._wall_ns(at_ns), has_picture=False, crossings=(), health=health)

    def _wall_ns(self, at_ns: int) -> int | None:
        return None if self._wall_at_0_ns is None else self._wall_at_0_ns + at_ns


def _patch(rect: Rect) -> tuple[slice, slice]:
    rows, columns = _GRID
    return (
        slice(max(0, round(rect.top * rows)), max(0, min(rows, round(rect.bottom * rows)))),
        slice(max(0, round(rect.left * columns)), max(0, min(columns, round(rect.right * columns)))),
    )
