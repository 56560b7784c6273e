"""How many people are in a zone, as a number and the interval that holds the truth: for `queue` and `crowd`.

One frame's count errs: somebody hides somebody, a model misses, a track is not yet sure. So the number is the upper quartile of two
seconds, because misses are far more common than ghosts, and the interval is what the last ten saw, widened by what the model is known to miss. Who never
moved may be a poster or may have sat there since before the box looked: they widen the interval upwards. A model that told as many
things as it can tell leaves the interval open.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from nvr.rules.rule import people
from nvr.scene import PERSON, Facts, ZoneFacts

NUMBER_S = 2.0
WINDOW_S = 10.0
MISSED_SHARE = 0.15  # of people close together, by the models this is meant for (docs/detection.md)


@dataclass(frozen=True, slots=True)
class Crowd:
    number: int
    least: int
    most: int | None  # None: there may be any number more

    @property
    def text(self) -> str:
        return str(self.number) if self.most is not None else f"{self.number} or more"


@dataclass(frozen=True, slots=True)
class Count:
    """One frame's."""

    at_s: float
    moved: int  # people who have moved
    still: int  # taken for people, never moved
    is_saturated: bool


def crowd_of(counts: tuple[Count, ...]) -> Crowd:
    """`counts`: of the last seconds, at least one."""
    newest = sorted(count.moved for count in counts if count.at_s >= counts[-1].at_s - NUMBER_S)
    number = newest[3 * (len(newest) - 1) // 4]
    moved = sorted(count.moved for count in counts)
    least = moved[len(moved) // 10]
    most = moved[len(moved) - 1 - len(moved) // 10]
    still = sorted(count.still for count in counts)[(len(counts) - 1) // 2]
    most += still + math.ceil(MISSED_SHARE * max(most - 1, 0))
    if 2 * sum(count.is_saturated for count in counts) > len(counts):
        return Crowd(number, min(least, number), None)
    return Crowd(number, min(least, number), max(most, number))


class Counter:
    """Counts of the last seconds."""

    def __init__(self) -> None:
        self._counts: deque[Count] = deque()

    def look(self, at_s: float, facts: Facts, zone: ZoneFacts) -> Crowd:
        there = people(facts, zone)
        still = zone.parked(PERSON)
        self._counts.append(Count(at_s, len(there), len(still), facts.sight.is_saturated))
        while self._counts[0].at_s < at_s - WINDOW_S:
            self._counts.popleft()
        return crowd_of(tuple(self._counts))

    def forget(self) -> None:
        self._counts.clear()
