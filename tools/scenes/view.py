"""Where a thing on the ground lies in the picture: a camera on a mast, looking down along its way.

World: x metres to the right, y metres up, z metres ahead of the mast. Picture: fractions of width and height from the
upper left, as in a site file. No lens is bent: distortion changes where zones are drawn, not what rules must do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Rect = tuple[float, float, float, float]  # left, top, right, bottom as fractions; may lie partly outside
_CORNERS = np.array([(x, y, z) for x in (-0.5, 0.5) for y in (0.0, 1.0) for z in (-0.5, 0.5)])


@dataclass(frozen=True, slots=True)
class View:
    height_m: float = 7.0
    tilt_deg: float = 18.0  # down from the horizon
    focal: float = 0.9  # focal length as a fraction of the picture's width: 58 degrees across
    aspect: float = 16 / 9
    nearest_m: float = 2.0  # nothing closer than this is drawn

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(..., 3) world points as (..., 2) fractions, and how far ahead each is."""
        tilt = math.radians(self.tilt_deg)
        below = self.height_m - points[..., 1]
        ahead = np.maximum(points[..., 2] * math.cos(tilt) + below * math.sin(tilt), 0.1)
        down = below * math.cos(tilt) - points[..., 2] * math.sin(tilt)
        across = 0.5 + self.focal * points[..., 0] / ahead
        return np.stack([across, 0.5 + self.focal * self.aspect * down / ahead], axis=-1), ahead

    def rects(self, centres: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """The rects around upright blocks: ground centres (n, 2) as x, z and sizes (n, 3) as width, height, length."""
        if len(centres) == 0:
            return np.zeros((0, 4))
        base = np.stack([centres[:, 0], np.zeros(len(centres)), centres[:, 1]], axis=-1)
        places, _ = self.project(base[:, None, :] + _CORNERS[None] * sizes[:, None, :])
        return np.concatenate([places.min(axis=1), places.max(axis=1)], axis=1)

    def ground(self, x_m: float, z_m: float) -> tuple[float, float]:
        """One point of the ground in the picture."""
        (place, _) = self.project(np.array([x_m, 0.0, z_m]))
        return float(place[0]), float(place[1])

    def strip(self, left_m: float, right_m: float, near_m: float, far_m: float) -> tuple[tuple[float, float], ...]:
        """The corners of a zone on the ground, kept inside the picture."""
        corners = ((left_m, near_m), (left_m, far_m), (right_m, far_m), (right_m, near_m))
        return tuple(
            (min(1.0, max(0.0, x)), min(1.0, max(0.0, y))) for x, y in (self.ground(*corner) for corner in corners)
        )


def hidden_share(rects: np.ndarray, nearness: np.ndarray) -> np.ndarray:
    """For each rect, how much of it the one nearer rect that covers most of it hides (0 to 1)."""
    if len(rects) == 0:
        return np.zeros(0)
    upper, lower = (
        np.maximum(rects[:, None, :2], rects[None, :, :2]),
        np.minimum(rects[:, None, 2:], rects[None, :, 2:]),
    )
    shared = np.prod(np.maximum(lower - upper, 0.0), axis=-1)
    shared[nearness[None, :] <= nearness[:, None]] = 0.0
    area = np.maximum(np.prod(rects[:, 2:] - rects[:, :2], axis=1), 1e-9)
    return np.minimum(shared.max(axis=1) / area, 1.0)
