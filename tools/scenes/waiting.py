"""A queue at a counter as a discrete-event simulation: who comes when, waits how long, stands where.

Arrivals are Poisson, services log-normal, first come first served; people stand one behind the other in a line that winds
through the waiting area, move up when somebody is served, and some only walk through. The seed settles everything; the
truth is the simulation itself, not what a camera could see of it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tools.scenes.view import View

PERSON_M = (0.55, 1.68, 0.35)  # width, height, depth
_PLACE_M = 0.85  # from one to the next in the line
_ROW_M, _ROWS_APART_M, _FIRST_ROW_M, _LEFT_M = 5.1, 1.2, 5.2, -2.6
_COUNTER = (3.4, 4.6)  # where the one being served stands: x, z
_DOOR = (-4.6, 9.5)
_WALK = 1.1  # m/s indoors
VIEW = View(height_m=3.0, tilt_deg=20.0, focal=0.75)


@dataclass(frozen=True, slots=True)
class Rate:
    """From `from_s` on, so many come in an hour, served by so many clerks."""

    from_s: float
    per_hour: float
    clerks: int = 1


@dataclass(frozen=True, slots=True)
class Visit:
    number: int
    arrives_s: float  # joins the end of the line
    served_s: float  # leaves the line for the counter
    done_s: float
    clerk: int


@dataclass(frozen=True, slots=True)
class Stander:
    """One person at one moment."""

    number: int
    x_m: float
    z_m: float
    is_waiting: bool
    shade: int


def visits(rates: Sequence[Rate], length_s: float, *, mean_service_s: float, seed: int) -> list[Visit]:
    """Everybody who joins the line before `length_s`, in the order they came."""
    chance = random.Random(seed)
    free_s: list[float] = [0.0] * max(rate.clerks for rate in rates)
    spread = 0.5  # sigma of the logarithm: most are quick, a few are not
    found: list[Visit] = []
    at_s, number = 0.0, 0
    while True:
        rate = [each for each in rates if each.from_s <= at_s][-1]
        at_s += chance.expovariate(max(rate.per_hour, 1e-6) / 3600)
        if at_s >= length_s:
            return found
        rate = [each for each in rates if each.from_s <= at_s][-1]
        clerk = min(range(rate.clerks), key=lambda each: free_s[each])
        served_s = max(at_s, free_s[clerk])
        free_s[clerk] = served_s + mean_service_s * math.exp(chance.gauss(-(spread**2) / 2, spread))
        found.append(Visit(number, at_s, served_s, free_s[clerk], clerk))
        number += 1


def waiting_at(everybody: Sequence[Visit], at_s: float) -> list[Visit]:
    return [visit for visit in everybody if visit.arrives_s <= at_s < visit.served_s]


def place_in_line(number: int) -> tuple[float, float]:
    """Where the `number`-th of the line stands (x, z), 0 is next."""
    per_row = int(_ROW_M / _PLACE_M)
    row, column = divmod(number, per_row)
    across = column if row % 2 else per_row - 1 - column
    return _LEFT_M + across * _PLACE_M, _FIRST_ROW_M + row * _ROWS_APART_M


def zone() -> tuple[tuple[float, float], ...]:
    """The waiting area with a step of room around it."""
    return VIEW.strip(_LEFT_M - 0.5, _LEFT_M + _ROW_M + 0.1, _FIRST_ROW_M - 0.5, _FIRST_ROW_M + 3.6)


def counter_zone() -> tuple[tuple[float, float], ...]:
    return VIEW.strip(_COUNTER[0] - 0.45, _COUNTER[0] + 1.4, _COUNTER[1] - 0.6, _COUNTER[1] + 2.2)


class Room:
    """Walks the people of a simulation through the picture."""

    def __init__(self, everybody: Sequence[Visit], *, passers_per_hour: float = 0.0, seed: int = 1) -> None:
        self._everybody = everybody
        self._places: dict[int, tuple[float, float]] = {}
        self._chance = random.Random(seed * 7919 + 1)
        self._passers_per_hour = passers_per_hour
        self._passers: list[tuple[int, float, float]] = []  # number, from_s, z

    def run(self, length_s: float, *, every_s: float) -> Iterator[tuple[float, list[Stander]]]:
        """People in the room, `every_s` apart. They walk to where the simulation wants them, at walking speed."""
        for number in range(round(length_s / every_s)):
            at_s = number * every_s
            yield at_s, self.people_at(at_s, every_s)

    def people_at(self, at_s: float, every_s: float) -> list[Stander]:
        """Everybody in the room; `every_s` after the call before, so that people walk at walking speed."""
        found = []
        wanted: dict[int, tuple[tuple[float, float], bool]] = {}
        for place, visit in enumerate(waiting_at(self._everybody, at_s)):
            wanted[visit.number] = (place_in_line(place), True)
        for visit in self._everybody:
            if visit.served_s <= at_s < visit.done_s:
                wanted[visit.number] = ((_COUNTER[0], _COUNTER[1] + 1.1 * visit.clerk), False)
            elif visit.done_s <= at_s < visit.done_s + 8.0:
                wanted[visit.number] = ((6.5, 3.0), False)  # out to the right
        for number, (goal, is_waiting) in wanted.items():
            # Who joins has just come through the door: the walk there belongs to arriving, so it is skipped.
            here = self._places.get(number, goal)
            away = math.dist(here, goal)
            step = min(1.0, _WALK * every_s / away) if away else 0.0
            here = (here[0] + (goal[0] - here[0]) * step, here[1] + (goal[1] - here[1]) * step)
            self._places[number] = here
            # People shift from foot to foot: two slow waves of a few centimetres, different for each.
            sway = 0.04 * math.sin(at_s / 3.1 + number) + 0.03 * math.sin(at_s / 1.7 + 2.3 * number)
            found.append(Stander(number, here[0] + sway, here[1], is_waiting, 60 + number * 53 % 150))
        if self._passers_per_hour and self._chance.random() < self._passers_per_hour * every_s / 3600:
            self._passers.append((100_000 + len(self._passers), at_s, self._chance.uniform(6.0, 8.0)))
        for number, from_s, z_m in self._passers[-3:]:
            x_m = -5.0 + _WALK * (at_s - from_s)
            if x_m < 5.0:
                found.append(Stander(number, x_m, z_m, False, 200))
        return found


def rects(people: Sequence[Stander], view: View = VIEW) -> np.ndarray:
    centres = np.array([(each.x_m, each.z_m) for each in people]).reshape(-1, 2)
    return view.rects(centres, np.tile(PERSON_M, (len(people), 1)))


def waits_s(everybody: Sequence[Visit], at_s: float) -> list[float]:
    """How long each of those who wait now has waited so far, the longest first."""
    return [at_s - visit.arrives_s for visit in waiting_at(everybody, at_s)]
