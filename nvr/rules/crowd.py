"""`crowd`: too many people in a zone for too long."""

from __future__ import annotations

from nvr.rules.crowding import Counter
from nvr.rules.debounce import Debounced
from nvr.rules.queue import numbers
from nvr.rules.rule import NS_PER_S, event, is_motion_only, people, seconds
from nvr.rules.tamper import blindness
from nvr.scene import Event, Facts

MANY = 8  # where the site does not say; models that tell ten things at most can still tell it


class CrowdRule:
    kind = "crowd"

    def __init__(self, zone: str, *, alert_above: int | None = None, for_s: float = 60.0) -> None:
        self.where = zone
        self._above = MANY if alert_above is None else alert_above
        self._counter = Counter()
        self._state: Debounced[bool] = Debounced(False, {True: for_s, False: min(30.0, for_s)})

    def look(self, facts: Facts) -> list[Event]:
        at_s = seconds(facts.at_ns)
        if is_motion_only(facts) or blindness(facts):  # blobs are not counted as people
            self._counter.forget()
            self._state.observe(at_s, None)
            return []
        zone = facts.zone(self.where)
        crowd = self._counter.look(at_s, facts, zone)
        # An open interval begins at what was seen: ten of ten told things are more than nine people only if they are people.
        change = self._state.observe(at_s, crowd.number > self._above)
        if change is None:
            return []
        there = people(facts, zone)
        return [
            event(
                self,
                facts,
                "crowd",
                round(change.from_s * NS_PER_S),
                tracks=tuple(each.track.number for each in there),
                numbers=numbers(facts.at_ns, crowd, there),
                detail=f"{crowd.text} people, more than {self._above}" if change.state else "",
                is_end=not change.state,
            )
        ]
