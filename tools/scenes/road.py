"""A street as a simulation: cars, trucks and two-wheelers on two lanes, and what an all-knowing observer would say of them.

Vehicles follow the one in front (Treiber, Hennecke, Helbing: intelligent driver model, 2000); two-wheelers ride beside
cars and filter through what stands. A light at the stop line or behind the picture makes queues, a breakdown makes a
vehicle stand in its lane while the others change to the other one. One seed gives one street, on every machine.

Ways run from 0 m at the far end to `WAY_M` behind the camera; only what lies from `NEAR_M` to `FAR_M` ahead is looked at.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from tools.scenes.view import View

STEP_S = 0.2
WAY_M = 210.0
HORIZON_M = 170.0  # z = HORIZON_M - way: vehicles come towards the camera and leave under it
NEAR_M, FAR_M = 12.0, 52.0  # the zone: beyond it a two-wheeler is less than 9 pixels wide at 640
LANE_M = 3.3
SIZES_M = {"car": (1.8, 1.5, 4.3), "truck": (2.4, 2.9, 7.5), "two-wheeler": (0.7, 1.6, 1.9)}  # width, height, length
UNITS = {"car": 1.0, "truck": 1.8, "two-wheeler": 0.35}  # passenger car units, for density
_ACCELERATION, _BRAKING, _GAP_M, _HEADWAY_S = 1.4, 2.0, 1.8, 1.1
_HARDEST_BRAKING = 7.0  # dry asphalt, locked wheels


@dataclass(frozen=True, slots=True)
class Phase:
    """From `from_s` on: how many want to come on each lane, how fast, and what a light does to them."""

    from_s: float
    per_hour: float
    speed: float = 11.0  # m/s
    light_m: float | None = None  # where on the way the light is; behind HORIZON_M - NEAR_M it is out of the picture
    green_s: float = 30.0
    cycle_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Breakdown:
    """The first car of a lane that passes `at_m` after `from_s` stands there for `for_s`."""

    from_s: float
    for_s: float
    at_m: float
    lane: int = 0


@dataclass(slots=True)
class Vehicle:
    number: int
    kind: str
    lane: int
    way_m: float  # its front
    speed: float
    wish: float  # its own idea of a good speed, as a factor
    side_m: float  # from the middle of its lane
    shade: int
    breaks_until_s: float = -1.0
    stands_since_s: float | None = None
    drift_m: float = 0.0  # what is left of a change of lanes

    @property
    def size_m(self) -> tuple[float, float, float]:
        return SIZES_M[self.kind]

    @property
    def x_m(self) -> float:
        return (self.lane - 0.5) * LANE_M + self.side_m + self.drift_m

    @property
    def z_m(self) -> float:
        """Middle of the vehicle, ahead of the camera."""
        return HORIZON_M - self.way_m + self.size_m[2] / 2


@dataclass(frozen=True, slots=True)
class Look:
    """The street at one moment."""

    at_s: float
    vehicles: tuple[Vehicle, ...]  # copies: the street goes on
    density: float  # passenger car units per km and lane in the zone
    speed: float | None  # their mean, m/s; None for an empty zone


@dataclass
class Street:
    phases: Sequence[Phase]
    breakdowns: Sequence[Breakdown] = ()
    two_wheelers: float = 0.45  # of all; Ambon's streets have more of them than cars
    parked: int = 0  # beside the lanes, for ever
    seed: int = 1
    vehicles: list[Vehicle] = field(default_factory=list)
    at_s: float = 0.0
    stood: list[tuple[int, float, float]] = field(default_factory=list)  # number, from_s, to_s of each breakdown

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._number = 0
        self._due_s = [0.0, 0.0]
        self._open = list(self.breakdowns)
        self._parked = [self._parked_one(place) for place in range(self.parked)]

    def _parked_one(self, place: int) -> Vehicle:
        self._number += 1
        way = HORIZON_M - 18.0 - place * 7.0
        return Vehicle(self._number, "car", 2, way, 0.0, 1.0, -0.7, self._random.randrange(40, 220))

    def phase(self) -> Phase:
        return [phase for phase in self.phases if phase.from_s <= self.at_s][-1]

    def step(self) -> None:
        phase = self.phase()
        for lane in (0, 1):
            self._enter(lane, phase)
        ordered = sorted(self.vehicles, key=lambda vehicle: -vehicle.way_m)
        pushes = [self._push(vehicle, ordered[:index], phase) for index, vehicle in enumerate(ordered)]
        for vehicle, push in zip(ordered, pushes, strict=True):
            self._move(vehicle, push, ordered)
        self.vehicles = [vehicle for vehicle in ordered if vehicle.way_m - vehicle.size_m[2] < WAY_M]
        self.at_s = round(self.at_s + STEP_S, 3)

    def _enter(self, lane: int, phase: Phase) -> None:
        last = min(
            (vehicle.way_m - vehicle.size_m[2] for vehicle in self.vehicles if vehicle.lane == lane), default=1e9
        )
        if self.at_s < self._due_s[lane] or last < 12.0:
            return
        # Never closer than a second; who cannot enter waits before the street and is not counted.
        self._due_s[lane] = self.at_s + 1.0 + self._random.expovariate(1.0) * max(0.2, 3600 / phase.per_hour - 1.0)
        chance = self._random.random()
        kind = "two-wheeler" if chance < self.two_wheelers else "truck" if chance > 0.95 else "car"
        side = self._random.choice((-1.5, 1.5)) if kind == "two-wheeler" else self._random.uniform(-0.2, 0.2)
        self._number += 1
        wish = self._random.uniform(0.85, 1.15)
        speed = min(phase.speed * wish, 4.0 + last / 4)
        self.vehicles.append(Vehicle(self._number, kind, lane, 0.0, speed, wish, side, self._random.randrange(25, 235)))

    def _push(self, vehicle: Vehicle, ahead: list[Vehicle], phase: Phase) -> float:
        """Acceleration in m/s2."""
        wish = phase.speed * vehicle.wish
        leader = None
        for other in reversed(ahead):
            if other.lane != vehicle.lane:
                continue
            gap = other.way_m - other.size_m[2] - vehicle.way_m
            if gap > (90 if leader is None else leader[0]) + 8:  # a longer vehicle's rear may still be nearer
                break
            if abs(other.side_m - vehicle.side_m) < (other.size_m[0] + vehicle.size_m[0]) / 2 + 0.15:
                if leader is None or gap < leader[0]:
                    leader = (max(gap, 0.05), other.speed)
            elif gap < 6 and vehicle.kind == "two-wheeler":
                wish = min(wish, other.speed + 4.0)  # beside what stands one rides with care
        light = phase.light_m
        # A light behind the picture stands for whatever holds a jam up; two-wheelers find a way around that.
        if light is not None and (vehicle.kind != "two-wheeler" or light < HORIZON_M - NEAR_M):
            gap = light - vehicle.way_m
            is_red = self.at_s % phase.cycle_s >= phase.green_s
            can_stop = gap > vehicle.speed**2 / (2 * 4.0)
            if is_red and 0 < gap < 90 and can_stop and (leader is None or gap < leader[0]):
                leader = (gap, 0.0)
        push = _ACCELERATION * (1 - (vehicle.speed / max(wish, 0.1)) ** 4)
        if leader is not None:
            gap, speed = leader
            closing = vehicle.speed * (vehicle.speed - speed) / (2 * (_ACCELERATION * _BRAKING) ** 0.5)
            wanted = _GAP_M + max(0.0, vehicle.speed * _HEADWAY_S + closing)
            push -= _ACCELERATION * (wanted / gap) ** 2
        return max(push, -_HARDEST_BRAKING)

    def _move(self, vehicle: Vehicle, push: float, ordered: list[Vehicle]) -> None:
        due = next(
            (
                each
                for each in self._open
                if vehicle.kind == "car" and vehicle.lane == each.lane and self.at_s >= each.from_s
                and each.at_m - 12 < vehicle.way_m < each.at_m and vehicle.breaks_until_s < 0
            ),
            None,
        )  # fmt: skip
        if due is not None:
            self._open.remove(due)
            vehicle.breaks_until_s = self.at_s + due.for_s
        if self.at_s < vehicle.breaks_until_s:
            push = -4.0
        before = vehicle.speed
        vehicle.speed = max(0.0, before + push * STEP_S)
        vehicle.way_m += (before + vehicle.speed) / 2 * STEP_S
        vehicle.drift_m -= max(-1.2 * STEP_S, min(1.2 * STEP_S, vehicle.drift_m))
        if self.at_s < vehicle.breaks_until_s and vehicle.speed == 0 and before > 0:
            vehicle.stands_since_s = self.at_s
        if vehicle.stands_since_s is not None and self.at_s >= vehicle.breaks_until_s and vehicle.speed > 0:
            self.stood.append((vehicle.number, vehicle.stands_since_s, self.at_s))
            vehicle.stands_since_s = None
        self._pass_a_breakdown(vehicle, ordered)

    def _pass_a_breakdown(self, vehicle: Vehicle, ordered: list[Vehicle]) -> None:
        """Change lanes behind a vehicle that broke down, when the other lane has room."""
        blocked = any(
            other.lane == vehicle.lane and other is not vehicle and self.at_s < other.breaks_until_s
            and 0 < other.way_m - other.size_m[2] - vehicle.way_m < 35
            for other in ordered
        )  # fmt: skip
        if not blocked or self.at_s < vehicle.breaks_until_s:
            return
        room = all(
            other.lane == vehicle.lane
            or other.way_m - other.size_m[2] > vehicle.way_m + 3.0
            or other.way_m < vehicle.way_m - vehicle.size_m[2] - 2.0 - max(0.0, other.speed - vehicle.speed) * 1.5
            for other in ordered
        )
        if room:
            vehicle.drift_m += (vehicle.lane - (1 - vehicle.lane)) * LANE_M
            vehicle.lane = 1 - vehicle.lane

    def look(self) -> Look:
        seen = [vehicle for vehicle in self.vehicles if NEAR_M <= vehicle.z_m <= FAR_M]
        units = sum(UNITS[vehicle.kind] for vehicle in seen)
        speed = sum(UNITS[vehicle.kind] * vehicle.speed for vehicle in seen) / units if seen else None
        copies = tuple(
            Vehicle(**{name: getattr(vehicle, name) for name in Vehicle.__slots__})
            for vehicle in (*self.vehicles, *self._parked)
            if 4.0 < vehicle.z_m < 95.0
        )
        return Look(self.at_s, copies, units / (2 * (FAR_M - NEAR_M) / 1000), speed)

    def run(self, length_s: float, *, every_s: float = STEP_S) -> Iterator[Look]:
        """Looks at the street, `every_s` seconds apart (a multiple of STEP_S)."""
        every = max(1, round(every_s / STEP_S))
        for number in range(round(length_s / STEP_S)):
            if number % every == 0:
                yield self.look()
            self.step()

    def standing(self) -> list[tuple[int, float, float]]:
        """All breakdowns so far, those that still stand included."""
        return self.stood + [
            (vehicle.number, vehicle.stands_since_s, self.at_s)
            for vehicle in self.vehicles
            if vehicle.stands_since_s is not None
        ]


# What traffic engineers call it, for a street with 40 km/h: below 20 units per km and lane nobody has to think of the
# others; a jam is where two minutes bring a mean below 2.2 m/s (8 km/h), with cars close together.
DENSE_PER_KM, JAM_PER_KM, JAM_SPEED = 20.0, 38.0, 2.2
WINDOW_S = 120.0


def traffic_states(looks: Sequence[Look]) -> list[str]:
    """free, dense or jam at each look, from the mean over the WINDOW_S around it: whole red phases, not their parts."""
    if not looks:
        return []
    half = max(1, round(WINDOW_S / 2 / max(STEP_S, looks[-1].at_s / max(1, len(looks) - 1))))
    density = np.array([look.density for look in looks])
    flow = np.array([look.density * (look.speed or 0.0) for look in looks])
    kernel = np.ones(2 * half + 1)
    count = np.convolve(np.ones(len(looks)), kernel, "same") if len(looks) > len(kernel) else None
    if count is None:
        density, flow = np.full(len(looks), density.mean()), np.full(len(looks), flow.mean())
    else:
        density, flow = np.convolve(density, kernel, "same") / count, np.convolve(flow, kernel, "same") / count
    speed = flow / np.maximum(density, 1e-6)
    return [
        "jam" if d >= JAM_PER_KM and v < JAM_SPEED else "dense" if d >= DENSE_PER_KM else "free"
        for d, v in zip(density, speed, strict=True)
    ]


def zone(view: View) -> tuple[tuple[float, float], ...]:
    return view.strip(-LANE_M, LANE_M, NEAR_M, FAR_M)
