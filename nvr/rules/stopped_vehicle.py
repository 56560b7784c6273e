"""`stopped_vehicle`: a vehicle that drove stands in a lane: a crash or a breakdown, perhaps.

What never drove is parked. A queue is no incident: while others stand too, it takes traffic that goes past, or
longer than a light is red. A place where vehicles keep stopping and driving on (a light, a bus stop) is learned, and what is usual there
is no incident either. A vehicle that stays for ten minutes after it was told is parked from then on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from nvr.rules.rule import NS_PER_S, event, seconds, vehicles
from nvr.rules.tamper import blindness
from nvr.scene import MOVING, TWO_WHEELER, Event, Facts, InZone, Point, Rect, Track

QUEUE_S = 90.0  # others stand as well and nobody passes: a light or a queue, for so long
JAM_STANDING = 4  # so many others: a jam, which is told by `congestion` and teaches nothing about this place
PARKED_S = 600.0
PASSES = 1  # so many other vehicles went past; two-wheelers go past anything
PASSES_QUEUE = 4  # where others stand as well: one lane may move while the other waits
PASS_LENGTHS_S = 0.8
HEADING_LENGTHS_S = 0.3  # slower, and a direction is guessed
GONE_S = 10.0  # a standing vehicle that the model does not see for so long is gone
SAME_PLACE = 0.4  # iou
LEARNED_STOPS = 3
PLACES_MOST = 64


@dataclass(slots=True)
class _Stand:
    """One vehicle that stands, under whatever track numbers."""

    rect: Rect
    from_ns: int
    seen_ns: int
    track: int
    kind: str
    heading: Point | None = None  # where it drove before, fractions per second
    passed: set[int] = field(default_factory=set)
    most_others: int = 0  # that stood at the same time
    jam_ns: int = 0  # when everything around it stood for the last time
    is_told: bool = False
    is_parked: bool = False


@dataclass(slots=True)
class _Place:
    """Where vehicles stopped and drove on."""

    rect: Rect
    stops: int
    longest_s: float


def is_incident(
    stood_s: float,
    *,
    after_s: float,
    red_light_s: float,
    usual_s: float | None,
    others_stand: int,
    passed: int,
    is_head: bool,
) -> bool:
    """Whether a standing vehicle is worth an alarm. `usual_s`: how long others stood there before they drove on.

    `is_head`: nothing stands ahead of it. What stands behind something else waits for that.
    """
    if stood_s < after_s or not is_head:
        return False
    if usual_s is not None and stood_s < 1.5 * usual_s + after_s:
        return False
    if passed >= (PASSES if others_stand < 2 else PASSES_QUEUE):
        return True
    if stood_s < red_light_s:
        return False
    return others_stand == 0 or stood_s >= QUEUE_S


class StoppedVehicle:
    kind = "stopped_vehicle"

    def __init__(self, zone: str, *, after_s: float = 15.0, red_light_s: float = 0.0) -> None:
        self.where = zone
        self._after_s = after_s
        self._red_light_s = red_light_s
        self._stands: list[_Stand] = []
        self._places: list[_Place] = []
        self._headings: dict[int, Point] = {}

    def look(self, facts: Facts) -> list[Event]:
        if blindness(facts) or facts.is_light_change:
            return self._end(facts, still_unknown=True)
        there = vehicles(facts, facts.zone(self.where))
        standing = [each for each in there if facts.at_ns - each.track.moved_ns >= NS_PER_S]
        moving = [each for each in there if facts.at_ns - each.track.moved_ns < NS_PER_S]
        self._remember_headings(facts, moving)
        told = self._follow(facts, standing, moving)
        for stand in self._stands:
            self._see_passing(facts, stand, moving)
            others = sum(other is not stand and not other.is_parked for other in self._stands)
            stand.most_others = max(stand.most_others, others)
            if others >= JAM_STANDING:
                stand.jam_ns = facts.at_ns
                stand.passed.clear()
            if stand.is_told or stand.is_parked or facts.at_ns - stand.seen_ns > 2 * NS_PER_S:
                continue
            # What stands in a jam is given as long again as the jam is over.
            stood_s = seconds(stand.seen_ns - max(stand.from_ns, stand.jam_ns))
            if is_incident(
                stood_s,
                after_s=self._after_s,
                red_light_s=self._red_light_s,
                usual_s=self._usual_s(stand.rect),
                others_stand=others,
                passed=len(stand.passed),
                is_head=self._is_head(stand, facts.aspect),
            ):
                stand.is_told = True
                told.append(self._event(facts, stand, others))
        return told + self._end(facts, still_unknown=False)

    def _follow(self, facts: Facts, standing: list[InZone], moving: list[InZone]) -> list[Event]:
        """Match what stands with what stood; a stand ends when its track drives on."""
        told = []
        for each in standing:
            stand = next((known for known in self._stands if known.track == each.track.number), None)
            if stand is None:
                # The tracker may have lost it and found it again under another number.
                stand = next((known for known in self._stands if known.rect.iou(each.track.rect) > SAME_PLACE
                              and known.seen_ns < facts.at_ns), None)  # fmt: skip
            if stand is None:
                stand = _Stand(each.track.rect, each.track.moved_ns, facts.at_ns, each.track.number, each.track.kind)
                stand.heading = self._headings.get(each.track.number)
                self._stands.append(stand)
            if each.track.seen_ns >= stand.seen_ns or stand.track != each.track.number:
                stand.seen_ns = max(stand.seen_ns, each.track.seen_ns)
            stand.track, stand.rect, stand.kind = each.track.number, each.track.rect, each.track.kind
        # Under a new number a standing vehicle has never moved: it is parked for the tracker, and still stands for us.
        for track in facts.tracks:
            for stand in self._stands:
                if track.number != stand.track and not track.has_moved and stand.rect.iou(track.rect) > SAME_PLACE:
                    stand.seen_ns = max(stand.seen_ns, track.seen_ns)
        driving = {each.track.number: each.track for each in moving}
        for stand in [stand for stand in self._stands if stand.track in driving]:
            # One that passes shakes the rect of what stands; whoever drives on is soon somewhere else.
            if driving[stand.track].rect.iou(stand.rect) > SAME_PLACE:
                stand.seen_ns = max(stand.seen_ns, driving[stand.track].seen_ns)
                continue
            self._stands.remove(stand)
            if not stand.is_parked:
                self._learn(stand)
            if stand.is_told:
                told.append(self._event(facts, stand, 0, ended="drives on"))
        return told

    def _remember_headings(self, facts: Facts, moving: list[InZone]) -> None:
        present = {track.number for track in facts.tracks}
        self._headings = {number: heading for number, heading in self._headings.items() if number in present}
        for each in moving:
            if each.track.speed > _size(each.track, facts.aspect) * HEADING_LENGTHS_S:
                self._headings[each.track.number] = each.track.velocity

    def _is_head(self, stand: _Stand, aspect: float) -> bool:
        """Whether nothing stands ahead of it in its lane; True where nobody saw it come."""
        if stand.heading is None:
            return True
        x, y = stand.heading[0] * aspect, stand.heading[1]
        speed = math.hypot(x, y)
        for other in self._stands:
            if other is stand or other.is_parked or other.kind == TWO_WHEELER:
                continue
            dx = (other.rect.centre[0] - stand.rect.centre[0]) * aspect
            dy = other.rect.foot[1] - stand.rect.foot[1]
            ahead, beside = (dx * x + dy * y) / speed, abs(dx * y - dy * x) / speed
            size = math.sqrt(max(stand.rect.area, other.rect.area) * aspect)
            if ahead > 0.3 * size and beside < 0.8 * size:
                return False
        return True

    def _see_passing(self, facts: Facts, stand: _Stand, moving: list[InZone]) -> None:
        for each in moving:
            if (
                each.track.kind != TWO_WHEELER
                and each.track.speed > PASS_LENGTHS_S * _size(each.track, facts.aspect)
                and _is_same_way(each.track.velocity, stand.heading)
                and each.track.first_ns < facts.at_ns - NS_PER_S
                and each.track.rect.top < stand.rect.bottom
                and each.track.rect.bottom > stand.rect.top
            ):
                stand.passed.add(each.track.number)

    def _usual_s(self, rect: Rect) -> float | None:
        found = [
            place.longest_s for place in self._places if place.stops >= LEARNED_STOPS and place.rect.iou(rect) > 0.3
        ]
        return max(found, default=None)

    def _learn(self, stand: _Stand) -> None:
        stood_s = seconds(stand.seen_ns - stand.from_ns)
        if stood_s < 3.0 or stand.most_others >= JAM_STANDING:
            return
        for place in self._places:
            if place.rect.iou(stand.rect) > 0.3:
                place.stops += 1
                # A breakdown that was cleared is not how long people usually wait.
                place.longest_s = max(place.longest_s, min(stood_s, 2 * place.longest_s + self._after_s))
                return
        self._places.append(_Place(stand.rect, 1, min(stood_s, QUEUE_S)))
        del self._places[:-PLACES_MOST]

    def _end(self, facts: Facts, *, still_unknown: bool) -> list[Event]:
        told = []
        for stand in list(self._stands):
            if not still_unknown and facts.at_ns - stand.seen_ns > GONE_S * NS_PER_S:
                self._stands.remove(stand)
                if stand.is_told and not stand.is_parked:
                    told.append(self._event(facts, stand, 0, ended="is not seen any more"))
            elif stand.seen_ns - stand.from_ns > PARKED_S * NS_PER_S and not stand.is_parked:
                stand.is_parked = True
                if stand.is_told:
                    told.append(self._event(facts, stand, 0, ended="parked"))
        return told

    def _event(self, facts: Facts, stand: _Stand, others: int, ended: str = "") -> Event:
        stood_s = seconds(stand.seen_ns - stand.from_ns)
        return event(
            self,
            facts,
            "stopped",
            stand.from_ns,
            tracks=(stand.track,),
            numbers=(
                ("stood_s", round(stood_s, 2)),
                ("others_standing", float(others)),
                ("passed_by", float(len(stand.passed))),
            ),
            words=(("class", stand.kind), ("by", "motion" if stand.kind == MOVING else "vehicles")),
            detail=ended or "a vehicle stands in the lane",
            is_end=bool(ended),
        )


def _size(track: Track, aspect: float) -> float:
    """Picture heights."""
    return max(math.sqrt(track.rect.area * aspect), 1e-3)


def _is_same_way(velocity: Point, heading: Point | None) -> bool:
    """Traffic in the other direction passes every crash."""
    return heading is None or velocity[0] * heading[0] + velocity[1] * heading[1] > 0
