"""`queue`: how many wait in a zone and how long, as number and interval; each visit when it is over.

States are the number as text ("0", "3", "10 or more"), `cannot tell` while the camera does not see, and `long queue` (an alert) while
more than `alert_above` have been there for `for_s`. How long people wait is what they have waited so far.
"""

from __future__ import annotations

from dataclasses import dataclass

from nvr.rules.crowding import Counter, Crowd
from nvr.rules.debounce import Debounced
from nvr.rules.rule import CANNOT_TELL, NS_PER_S, event, is_motion_only, people, seconds
from nvr.rules.tamper import blindness
from nvr.scene import Event, Facts, InZone

_HOLD_S = 1.5  # a few people: each one counts, and the number is a median already
_HOLD_MANY_S = 10.0  # many: one more or less is no news
_FEW = 5
_DOUBT_HOLD_S = 5.0
_LEFT_NS = 3 * NS_PER_S  # somebody behind a pillar has not left
_VISIT_NS = 1 * NS_PER_S  # shorter ones walked past a corner of the zone
_END_HOLD_S = 30.0


NO_MODEL = "people cannot be counted without a model that knows them"


@dataclass(slots=True)
class _Visit:
    entered_ns: int
    seen_ns: int
    tracks: tuple[int, ...]
    is_counted: bool = False


class Queue:
    kind = "queue"

    def __init__(self, zone: str, *, alert_above: int | None = None, for_s: float = 60.0) -> None:
        self.where = zone
        self._alert_above = alert_above
        self._counter = Counter()
        self._state: Debounced[str] = Debounced(CANNOT_TELL, 0.0)
        self._few: Debounced[str] = Debounced(CANNOT_TELL, _HOLD_S)
        self._many: Debounced[str] = Debounced(CANNOT_TELL, _HOLD_MANY_S)
        self._is_long: Debounced[bool] = Debounced(False, {True: for_s, False: min(_END_HOLD_S, for_s)})
        self._blind: Debounced[bool] = Debounced(True, {True: _DOUBT_HOLD_S, False: _HOLD_S})
        self._told = ""
        self._visits: dict[int, _Visit] = {}
        self.visits = 0  # begun, each at least _VISIT_NS long

    def look(self, facts: Facts) -> list[Event]:
        at_s = seconds(facts.at_ns)
        zone = facts.zone(self.where)
        why = NO_MODEL if is_motion_only(facts) else blindness(facts)
        is_blind = bool(why)
        self._blind.observe(at_s, is_blind)
        there = () if is_motion_only(facts) else people(facts, zone)
        told = self._end_visits(facts, there)
        if self._blind.state:
            self._counter.forget()
            self._is_long.observe(at_s, None)
            return told + self._tell(facts, CANNOT_TELL, None, (), detail=why)
        if is_blind:
            return told
        crowd = self._counter.look(at_s, facts, zone)
        few, many = self._few.observe(at_s, crowd.text), self._many.observe(at_s, crowd.text)
        if self._told in ("", CANNOT_TELL):
            told += self._tell(facts, crowd.text, crowd, there)
        elif few is not None and (crowd.number <= _FEW or self._number_told() <= _FEW):
            told += self._tell(facts, self._few.state, crowd, there, few.from_s)
        elif many is not None and crowd.number > _FEW:
            told += self._tell(facts, self._many.state, crowd, there, many.from_s)
        return told + self._alert(facts, crowd, there)

    def _number_told(self) -> int:
        return int(self._told.split()[0])

    def _tell(
        self,
        facts: Facts,
        state: str,
        crowd: Crowd | None,
        there: tuple[InZone, ...],
        from_s: float | None = None,
        detail: str = "",
    ) -> list[Event]:
        if state == self._told:
            return []
        self._told = state
        return [
            event(
                self,
                facts,
                state,
                None if from_s is None else round(from_s * NS_PER_S),
                tracks=tuple(each.track.number for each in there),
                numbers=() if crowd is None else numbers(facts.at_ns, crowd, there),
                detail=detail,
            )
        ]

    def _alert(self, facts: Facts, crowd: Crowd, there: tuple[InZone, ...]) -> list[Event]:
        if self._alert_above is None:
            return []
        change = self._is_long.observe(seconds(facts.at_ns), crowd.number > self._alert_above)
        if change is None:
            return []
        return [
            event(
                self,
                facts,
                "long queue",
                round(change.from_s * NS_PER_S),
                tracks=tuple(each.track.number for each in there),
                numbers=numbers(facts.at_ns, crowd, there),
                detail=f"more than {self._alert_above} wait" if change.state else "",
                is_end=not change.state,
            )
        ]

    def _end_visits(self, facts: Facts, there: tuple[InZone, ...]) -> list[Event]:
        for each in there:
            number = each.track.number
            visit = self._visits.get(number)
            if visit is None:
                visit = self._visits[number] = _Visit(each.entered_ns, each.track.seen_ns, (number,))
            visit.seen_ns = max(visit.seen_ns, each.track.seen_ns)
            if not visit.is_counted and visit.seen_ns - visit.entered_ns >= _VISIT_NS:
                visit.is_counted = True
                self.visits += 1
        told = []
        for number, visit in sorted(self._visits.items()):
            if facts.at_ns - visit.seen_ns <= _LEFT_NS:
                continue
            del self._visits[number]
            if visit.seen_ns - visit.entered_ns >= _VISIT_NS:
                dwell_s = seconds(visit.seen_ns - visit.entered_ns)
                told.append(
                    event(self, facts, "visit", visit.entered_ns, tracks=visit.tracks, numbers=(("dwell_s", dwell_s),))
                )
        return told


def numbers(at_ns: int, crowd: Crowd, there: tuple[InZone, ...]) -> tuple[tuple[str, float], ...]:
    """`waiting_most` is left out where nobody can say."""
    waits = sorted(each.dwell_ns(at_ns) for each in there)
    found = [("waiting", float(crowd.number)), ("waiting_least", float(crowd.least))]
    if crowd.most is not None:
        found.append(("waiting_most", float(crowd.most)))
    if waits:
        found += [("longest_s", seconds(waits[-1])), ("median_s", seconds(waits[(len(waits) - 1) // 2]))]
    return tuple(found)
