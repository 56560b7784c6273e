"""What happens to a camera: covered, out of focus, moved, frozen, looped; each as a change to the frames of a scene.

A fault has a class of its own name, begins at a time and lasts; `Fault.apply` gives what the camera would send then. The
kinds differ as real ones do: a bag lets a little light through, a hand is close and blurred, paint covers most of the
lens, a knock turns the camera by little or much, a frozen encoder repeats a picture exactly, a looped one repeats a film.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

CLASSES = ("covered", "defocused", "moved", "frozen", "looped")


@dataclass
class Fault:
    kind: str
    from_s: float
    for_s: float
    strength: float = 1.0  # 0.3 to 1: how much is covered, how soft, how far moved
    flavour: int = 0  # which of the variants of the class
    _kept: deque[np.ndarray] = field(default_factory=lambda: deque(maxlen=4000), repr=False)
    _shown: int = 0

    def is_on(self, at_s: float) -> bool:
        return self.from_s <= at_s < self.from_s + self.for_s

    def remember(self, frame: np.ndarray, at_s: float) -> None:
        """Frozen and looped cameras show what was: keep what they will need."""
        wanted_s = {"frozen": 3.0, "looped": 10.0 + 10.0 * self.flavour}.get(self.kind)
        if wanted_s is not None and self.from_s - wanted_s <= at_s < self.from_s:
            self._kept.append(frame)

    def apply_to_scene(self, picture: np.ndarray, chance: np.random.Generator) -> np.ndarray:
        """Before the sensor: things in front of the lens, the lens itself, where it points."""
        height, width = picture.shape
        if self.kind == "covered":
            return self._cover(picture)
        if self.kind == "defocused":
            return soften(picture, max(2, round(width * (0.008 + 0.016 * self.strength))))
        if self.kind == "moved":
            across = round(width * (0.08 + 0.3 * self.strength)) * (1 if self.flavour % 2 else -1)
            down = round(height * (0.03 + 0.12 * self.strength)) * (1 if self.flavour % 3 else -1)
            return shifted(picture, across, down)
        return picture

    def _cover(self, picture: np.ndarray) -> np.ndarray:
        height, width = picture.shape
        if self.flavour == 0:  # a bag, a cap: hardly any light, no shapes
            return soften(picture, width // 6) * 0.06 + 10
        if self.flavour == 1:  # a hand or a sheet: bright enough, flat
            return soften(picture, width // 4) * 0.15 + 70 + np.linspace(0, 25, width, dtype=np.float32)[None, :]
        covered = picture.copy()  # paint over most of it
        rows = round(height * (0.8 + 0.2 * self.strength))
        covered[:rows, : round(width * 0.97)] = 55.0
        return covered

    def apply_to_frame(self, frame: np.ndarray) -> np.ndarray:
        """After the sensor: what the encoder sends."""
        if not self._kept or self.kind not in ("frozen", "looped"):
            return frame
        if self.kind == "frozen":
            return self._kept[-1]
        self._shown += 1
        return self._kept[(self._shown - 1) % len(self._kept)]


def soften(picture: np.ndarray, radius: int) -> np.ndarray:
    """Three box blurs, close to a Gaussian; edges are repeated."""
    soft = picture.astype(np.float32)
    radius = max(1, radius // 2)
    for axis in (0, 1) * 3:
        padding = [(0, 0), (0, 0)]
        padding[axis] = (radius + 1, radius)
        total = np.cumsum(np.pad(soft, padding, mode="edge"), axis=axis, dtype=np.float64)
        length = soft.shape[axis]
        ahead, behind = (
            np.take(total, range(2 * radius + 1, 2 * radius + 1 + length), axis),
            np.take(total, range(length), axis),
        )
        soft = ((ahead - behind) / (2 * radius + 1)).astype(np.float32)
    return soft


def shifted(picture: np.ndarray, across: int, down: int) -> np.ndarray:
    """The same scene from a camera that was turned; what comes into view mirrors what was at the edge."""
    rows = np.abs(np.arange(picture.shape[0]) + down)
    columns = np.abs(np.arange(picture.shape[1]) + across)
    rows = np.where(rows >= picture.shape[0], 2 * picture.shape[0] - 2 - rows, rows)
    columns = np.where(columns >= picture.shape[1], 2 * picture.shape[1] - 2 - columns, columns)
    return picture[rows][:, columns]
