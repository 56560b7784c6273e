"""One thing that is followed from frame to frame, as the tracker keeps it, and what the motion stage knows of its place."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import hypot, sqrt
from typing import Protocol

from nvr.scene import Point, Rect

FIRST_DETECTIONS = 3  # their mean place is where a thing began
SHOWN_S = 1.0  # missed, but told all the same
FRAMES_MOST_S = 0.5  # a frame counts for at most so long


class Scene(Protocol):
    """What the motion stage knows of a place at this moment."""

    @property
    def known_s(self) -> float:
        """How long the empty scene has been learned."""

    def moving(self, rect: Rect) -> float:
        """Share of the rect that changed against the frame before."""

    def foreground(self, rect: Rect) -> float:
        """Share of the rect that differs from the empty scene."""


@dataclass(slots=True)
class Thing:
    number: int
    x: float  # centre
    y: float
    width: float
    height: float
    first_ns: int
    seen_ns: int
    moved_ns: int
    vx: float = 0.0  # fractions per second
    vy: float = 0.0
    detections: int = 1
    scores: float = 0.0
    votes: dict[str, float] = field(default_factory=dict)
    missed_s: float = 0.0
    sure: float = 0.0
    is_confirmed: bool = False
    has_moved: bool = False
    start: Point = (0.0, 0.0)  # mean place of the first detections
    places: deque[Point] = field(default_factory=lambda: deque(maxlen=8))
    place_ns: int = 0  # when the last of them was noted
    came_frames: int = 0
    fidget_s: float = 0.0
    changed_s: float = 0.0  # with movement in its rect, while it went
    last_place: Point = (0.0, 0.0)  # where it last counted as moved

    @property
    def rect(self) -> Rect:
        return Rect(
            self.x - self.width / 2, self.y - self.height / 2, self.x + self.width / 2, self.y + self.height / 2
        )

    @property
    def kind(self) -> str:
        return max(self.votes, key=lambda kind: (self.votes[kind], kind))

    def size(self, aspect: float) -> float:
        """Root of its area, in picture heights; `aspect` is that of the picture."""
        return sqrt(max(self.width * aspect * self.height, 1e-9))

    def speed(self, aspect: float) -> float:
        """In picture heights per second."""
        return hypot(self.vx * aspect, self.vy)


def core(rect: Rect) -> Rect:
    """Its middle, where a rect that is a little too large still shows the thing."""
    dx, dy = 0.2 * rect.width, 0.1 * rect.height
    return Rect(rect.left + dx, rect.top + dy, rect.right - dx, rect.bottom - dy)
