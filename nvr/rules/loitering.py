"""`loitering`: somebody stays in a zone for too long. Told once for each, and again when they leave."""

from __future__ import annotations

from nvr.rules.rule import NS_PER_S, event, is_motion_only, people, seconds
from nvr.rules.tamper import blindness
from nvr.scene import Event, Facts

_GONE_NS = 5 * NS_PER_S


class Loitering:
    kind = "loitering"

    def __init__(self, zone: str, *, after_s: float = 120.0) -> None:
        self.where = zone
        self._after_ns = round(after_s * NS_PER_S)
        self._told: dict[int, tuple[int, int]] = {}  # track -> when it came, when it was last there

    def look(self, facts: Facts) -> list[Event]:
        told = []
        if not is_motion_only(facts) and not blindness(facts):  # a bush stays for hours
            for each in people(facts, facts.zone(self.where)):
                number, stayed_ns = each.track.number, each.track.seen_ns - each.entered_ns
                if number in self._told:
                    self._told[number] = (each.entered_ns, each.track.seen_ns)
                elif stayed_ns >= self._after_ns:
                    self._told[number] = (each.entered_ns, each.track.seen_ns)
                    told.append(self._event(facts, number, ended=False))
        for number in [number for number, (_, seen_ns) in self._told.items() if facts.at_ns - seen_ns > _GONE_NS]:
            told.append(self._event(facts, number, ended=True))
            del self._told[number]
        return told

    def _event(self, facts: Facts, number: int, *, ended: bool) -> Event:
        from_ns, seen_ns = self._told[number]
        return event(
            self,
            facts,
            "loitering",
            from_ns,
            tracks=(number,),
            numbers=(("stayed_s", seconds(seen_ns - from_ns)),),
            is_end=ended,
        )
