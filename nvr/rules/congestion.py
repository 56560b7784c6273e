"""`congestion`: `free`, `dense` or `jam` in one lane zone, with occupancy and mean speed.

A jam is a lane that is full and stands: dense traffic that moves is none, parked cars are none, and a red light is over
before `for_s`. Speed is judged in vehicle lengths a second, which is the same near and far; it is told in pixels a
second, and in m/s where the site says how long the zone is.

Without a model what stands close together is one shape that cannot be counted or timed. Then the lane itself is judged: how much of it
differs from the empty scene, and how much of that moves.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from nvr.rules.debounce import Debounced
from nvr.rules.rule import CANNOT_TELL, NS_PER_S, event, is_motion_only, seconds, vehicles
from nvr.rules.tamper import blindness
from nvr.scene import CAR, Event, Facts, InZone, Zone, ZoneFacts

FREE, DENSE, JAM = "free", "dense", "jam"

# 20 cars on a km of lane, where drivers begin to mind each other, cover 9 % of its length and 5 % of its area; a rect,
# seen obliquely, covers a little more. A jam is several times as full, and stands.
DENSE_OCCUPANCY = 0.06
JAM_OCCUPANCY = 0.22
JAM_VEHICLES = 3
JAM_LENGTHS_S = 0.35  # some 6 km/h for a car
# Without a model. Of what covers a drawn lane 76 % and more moved in traffic that flowed, within each half minute, and 16 % and less in a
# jam that creeps, where 55 % and more of the lane was covered (tools/scenes, seed 51). Two parked cars cover less.
JAM_COVERED = 0.35
JAM_MOVES = 0.25
NOTHING_MOVES = 0.002  # of the lane, in the mean of a minute: not even a two-wheeler passed
# A whole red phase and its green. So long nobody calls a lane free, either: what stands since before anybody looked is parked until
# it drives, and who begins to look in a jam sees an empty lane.
WINDOW_S = 60.0

_HOLD_S = {FREE: 20.0, DENSE: 20.0, CANNOT_TELL: 5.0}


@dataclass(frozen=True, slots=True)
class Traffic:
    """A lane at one moment, or the mean of some."""

    vehicles: float
    occupancy: float  # share of the zone's area under vehicles that have driven
    speed: float  # picture heights a second, mean; 0 without vehicles
    lengths_s: float  # median, in vehicle lengths a second
    moves: float = 0.0  # share of the zone's area that changed against the look before


def area(zone: Zone) -> float:
    """Share of the picture."""
    corners = zone.corners
    return abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(corners, corners[1:] + corners[:1], strict=True))) / 2


def traffic_of(
    present: Iterable[InZone], parked: Iterable[InZone], covered: float, zone_area: float, aspect: float
) -> Traffic:
    """`covered`: share of the zone under all tracks, overlaps counted once; what is parked is taken off."""
    there = tuple(present)
    if not there:
        return Traffic(0.0, 0.0, 0.0, 0.0)
    rects = sum(each.track.rect.area * each.share for each in there) / zone_area
    still = sum(each.track.rect.area * each.share for each in parked) / zone_area
    occupancy = min(rects, covered * rects / max(rects + still, 1e-9), 1.0)
    lengths = sorted(each.track.speed / max(math.sqrt(each.track.rect.area * aspect), 1e-3) for each in there)
    speed = sum(each.track.speed for each in there) / len(there)
    return Traffic(len(there), occupancy, speed, (lengths[(len(lengths) - 1) // 2] + lengths[len(lengths) // 2]) / 2)


def state_of(traffic: Traffic) -> str:
    is_standing = traffic.lengths_s < JAM_LENGTHS_S
    if traffic.vehicles >= JAM_VEHICLES - 0.5 and traffic.occupancy >= JAM_OCCUPANCY and is_standing:
        return JAM
    return DENSE if traffic.occupancy >= DENSE_OCCUPANCY else FREE


def state_by_motion(traffic: Traffic, before: str) -> str:
    """The same without a model: `occupancy` is all that differs from the empty scene, `before` the state so far."""
    if before == JAM and traffic.moves < NOTHING_MOVES:
        return JAM  # what stands for ten minutes belongs to the scene, but nothing drove away
    if traffic.occupancy >= JAM_COVERED and traffic.moves < JAM_MOVES * traffic.occupancy:
        return JAM
    return DENSE if traffic.occupancy >= DENSE_OCCUPANCY else FREE


class Congestion:
    kind = "congestion"

    def __init__(self, zone: Zone, *, length_m: float | None = None, for_s: float = 60.0) -> None:
        self.where = zone.name
        self._zone = zone
        self._length_m = length_m
        self._moments: deque[tuple[float, Traffic]] = deque()
        self._since_s: float | None = None  # without a break it was looked at
        self._state: Debounced[str] = Debounced("", {**_HOLD_S, JAM: for_s, "": 0.0})

    def look(self, facts: Facts) -> list[Event]:
        at_s = seconds(facts.at_ns)
        detail, by_motion = blindness(facts), is_motion_only(facts, CAR)
        if by_motion and facts.is_light_change:
            self._begin()  # the empty scene is learned anew, with all that stands in it
        if detail:
            self._begin()
            found, traffic = CANNOT_TELL, None
        else:
            traffic = self._mean(at_s, facts, facts.zone(self.where))
            found = state_by_motion(traffic, self._state.state) if by_motion else state_of(traffic)
            self._since_s = at_s if self._since_s is None else self._since_s
            if found == FREE and at_s - self._since_s < WINDOW_S:
                found, detail = CANNOT_TELL, "just began to look"
        if self._state.state == "":
            self._state.take(at_s, found if found != JAM else DENSE)
            return [self._event(facts, facts.at_ns, traffic, detail)]
        change = self._state.observe(at_s, found)
        return [] if change is None else [self._event(facts, round(change.from_s * NS_PER_S), traffic, detail)]

    def _begin(self) -> None:
        self._moments.clear()
        self._since_s = None

    def _mean(self, at_s: float, facts: Facts, zone: ZoneFacts) -> Traffic:
        driven = vehicles(facts, zone)
        kinds = {each.track.kind for each in zone.tracks}
        now = traffic_of(
            driven, zone.parked(*kinds) if kinds else (), zone.covered_share, area(self._zone), facts.aspect
        )
        if is_motion_only(facts, CAR):
            covered = max(now.occupancy, zone.foreground_share)
            now = Traffic(now.vehicles, covered, now.speed, now.lengths_s, zone.motion_share)
        self._moments.append((at_s, now))
        while self._moments[0][0] < at_s - WINDOW_S:
            self._moments.popleft()
        count = len(self._moments)
        with_vehicles = [each for _, each in self._moments if each.vehicles]
        return Traffic(
            sum(each.vehicles for _, each in self._moments) / count,
            sum(each.occupancy for _, each in self._moments) / count,
            sum(each.speed for each in with_vehicles) / max(len(with_vehicles), 1),
            sum(each.lengths_s for each in with_vehicles) / max(len(with_vehicles), 1),
            sum(each.moves for _, each in self._moments) / count,
        )

    def _event(self, facts: Facts, from_ns: int, traffic: Traffic | None, detail: str) -> Event:
        found: list[tuple[str, float]] = []
        if traffic is not None:
            found = [("occupancy", round(traffic.occupancy, 4))]
        if traffic is not None and not (is_motion_only(facts, CAR) and self._state.state == JAM):
            found.append(("vehicles", round(traffic.vehicles, 2)))
            found.append(("speed_px_s", round(traffic.speed * facts.height_px, 2)))
            if self._length_m is not None:
                rect = self._zone.rect
                length = max(rect.width * facts.aspect, rect.height)  # picture heights along the lane
                found.append(("speed_m_s", round(traffic.speed * self._length_m / length, 2)))
        driven = () if traffic is None else vehicles(facts, facts.zone(self.where))
        return event(
            self,
            facts,
            self._state.state,
            from_ns,
            tracks=tuple(each.track.number for each in driven),
            numbers=tuple(found),
            words=(("by", "motion" if is_motion_only(facts, CAR) else "vehicles"),),
            detail=detail,
        )
