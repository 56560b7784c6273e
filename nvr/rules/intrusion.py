"""`intrusion`: somebody is where nobody should be, outside the opening hours or ever.

A thing that never moved is not a person. Without a model whatever moves may be one, and the event says so.
"""

from __future__ import annotations

from nvr.rules.rule import NS_PER_S, event, is_motion_only, people
from nvr.rules.schedule import Due, Schedule
from nvr.rules.tamper import blindness
from nvr.scene import Event, Facts

_GONE_NS = 30 * NS_PER_S  # behind a shelf for a moment: the same intrusion


def is_forbidden(facts: Facts, schedule: Schedule | None) -> bool:
    """`schedule` None: at any time. With a schedule and no clock nobody can say, so nobody is accused."""
    if schedule is None:
        return True
    return facts.wall_ns is not None and schedule.at(facts.wall_ns).due is Due.CLOSED


class Intrusion:
    kind = "intrusion"

    def __init__(self, zone: str, schedule: Schedule | None, *, after_s: float = 2.0) -> None:
        self.where = zone
        self._schedule = schedule
        self._after_ns = round(after_s * NS_PER_S)
        self._began_ns: int | None = None
        self._seen_ns = 0
        self._tracks: tuple[int, ...] = ()

    def look(self, facts: Facts) -> list[Event]:
        there = () if blindness(facts) or facts.is_light_change else people(facts, facts.zone(self.where))
        long_enough = [each for each in there if each.track.seen_ns - each.entered_ns >= self._after_ns]
        if long_enough and (self._began_ns is not None or is_forbidden(facts, self._schedule)):
            self._seen_ns = facts.at_ns
            numbers = tuple(each.track.number for each in long_enough)
            self._tracks = (*self._tracks, *(number for number in numbers if number not in self._tracks))[-32:]
            if self._began_ns is None:
                self._began_ns = min(each.entered_ns for each in long_enough)
                return [self._event(facts, len(long_enough), "")]
        elif self._began_ns is not None and facts.at_ns - self._seen_ns > _GONE_NS:
            ended = self._event(facts, 0, "gone")
            self._began_ns, self._tracks = None, ()
            return [ended]
        return []

    def _event(self, facts: Facts, count: int, ended: str) -> Event:
        what = "something moves" if is_motion_only(facts) else "somebody is there"
        return event(
            self,
            facts,
            "intrusion",
            self._began_ns,
            tracks=self._tracks,
            numbers=(("people", float(count)),),
            words=(("by", "motion" if is_motion_only(facts) else "people"),),
            detail=ended or what,
            is_end=bool(ended),
        )
