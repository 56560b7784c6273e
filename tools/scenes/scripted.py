"""A detector that knows the truth and tells it as badly as a real one: shaken rects, misses, ghosts, ten at the most.

What a model that was trained on photographs makes of drawn people says nothing about anything; so scenes with people and
distant traffic enter here, where a model's answer would. The faults are those of an SSD MobileNet on real footage: a person
is missed on one frame of twelve, more often behind others, rects shake by a few percent of their size, a chair is a
person now and then, and after ten rects nothing more is said (`tests/scenes/` keeps these promises).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nvr.scene import CAR, PERSON, TRUCK, TWO_WHEELER, Detection, Rect
from tools.scenes import waiting
from tools.scenes.road import Vehicle
from tools.scenes.view import View, hidden_share


@dataclass(frozen=True, slots=True)
class Faults:
    miss: float = 0.08  # share of frames on which a thing in plain sight is not told
    hidden_miss: float = 0.95  # the same for what is hidden by 85 % and more; between, in proportion
    shake: float = 0.04  # standard deviation of each edge, as a share of the rect's size
    ghosts: float = 0.004  # false rects per frame
    smallest: float = 0.016  # a rect of less than this share of the picture's height is not seen
    at_most: int = 10  # what the model's last layer can tell
    confused: float = 0.03  # share of cars told as trucks and the other way round


@dataclass
class Detector:
    faults: Faults = Faults()
    seed: int = 1

    def __post_init__(self) -> None:
        self._chance = np.random.default_rng(self.seed)
        self.is_saturated = False  # at the last frame

    def vehicles(self, vehicles: Sequence[Vehicle], view: View) -> list[Detection]:
        centres = np.array([(each.x_m, each.z_m) for each in vehicles]).reshape(-1, 2)
        sizes = np.array([each.size_m for each in vehicles]).reshape(-1, 3)
        kinds = [{"car": CAR, "truck": TRUCK, "two-wheeler": TWO_WHEELER}[each.kind] for each in vehicles]
        return self._tell(view.rects(centres, sizes), -centres[:, 1], kinds)

    def people(self, people: Sequence[waiting.Stander], view: View = waiting.VIEW) -> list[Detection]:
        return self._tell(waiting.rects(people, view), np.array([-each.z_m for each in people]), [PERSON] * len(people))

    def _tell(self, rects: np.ndarray, nearness: np.ndarray, kinds: Sequence[str]) -> list[Detection]:
        """Raises nothing; takes the same number of random numbers for the same number of things."""
        faults, chance, count = self.faults, self._chance, len(rects)
        hidden = np.clip(hidden_share(rects, nearness) / 0.85, 0, 1)
        missed = chance.random(count) < faults.miss + (faults.hidden_miss - faults.miss) * hidden**2
        confused = chance.random(count) < faults.confused
        scores = np.clip(chance.normal(0.78 - 0.2 * hidden, 0.09), 0.5, 0.99) if count else np.zeros(0)
        sizes = np.concatenate([rects[:, 2:] - rects[:, :2]] * 2, axis=1) if count else np.zeros((0, 4))
        shaken = rects + chance.normal(0, faults.shake, rects.shape) * sizes
        told = []
        for number in range(count):
            left, top, right, bottom = np.clip(shaken[number], 0, 1)
            if missed[number] or bottom - top < faults.smallest or right - left < 0.004:
                continue
            kind = kinds[number]
            if confused[number] and kind in (CAR, TRUCK):
                kind = TRUCK if kind == CAR else CAR
            told.append(
                Detection(Rect(float(left), float(top), float(right), float(bottom)), kind, float(scores[number]))
            )
        if chance.random() < faults.ghosts:
            x, y = (float(each) for each in chance.uniform(0.1, 0.8, 2))
            told.append(Detection(Rect(x, y, x + 0.06, y + 0.15), kinds[0] if len(kinds) else PERSON, 0.52))
        told.sort(key=lambda each: -each.score)
        self.is_saturated = len(told) >= faults.at_most
        return told[: faults.at_most]
