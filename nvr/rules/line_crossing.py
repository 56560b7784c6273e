"""`line_crossing`: what went over a line, by class and direction, with the count so far.

Directions are as people see them in the picture: over a line that lies, `up` and `down` (down is mostly towards the
camera); over one that stands, `left` and `right`. Motorcycle against bicycle is not reliable: both are two-wheelers, and who
rides one is no pedestrian.
"""

from __future__ import annotations

from collections import Counter

from nvr.rules.rule import event, rides
from nvr.scene import PERSON, Crossing, Event, Facts, Line

_AGAIN_NS = 2_000_000_000  # the same track over the same line so soon: it stands on it


def direction(line: Line, is_to_right: bool, aspect: float) -> str:
    """Where something goes that crosses to the right hand of who walks along the line."""
    x, y = (line.end[0] - line.start[0]) * aspect, line.end[1] - line.start[1]
    right_x, right_y = (-y, x) if is_to_right else (y, -x)
    if abs(right_y) >= abs(right_x):
        return "down" if right_y > 0 else "up"
    return "right" if right_x > 0 else "left"


class LineCrossing:
    kind = "line_crossing"

    def __init__(self, line: Line) -> None:
        self.where = line.name
        self._line = line
        self._counts: Counter[tuple[str, str]] = Counter()
        self._last: dict[int, Crossing] = {}

    @property
    def counts(self) -> dict[tuple[str, str], int]:
        """Since the process began, by (class, direction)."""
        return dict(self._counts)

    def look(self, facts: Facts) -> list[Event]:
        told = []
        present = {track.number for track in facts.tracks}
        self._last = {number: last for number, last in self._last.items() if number in present}
        for crossing in facts.crossings:
            if crossing.line != self.where:
                continue
            last = self._last.get(crossing.track)
            self._last[crossing.track] = crossing
            if last is not None and crossing.at_ns - last.at_ns < _AGAIN_NS:
                continue
            if crossing.kind == PERSON and rides(facts, crossing.track):
                continue
            where = direction(self._line, crossing.is_to_right, facts.aspect)
            self._counts[crossing.kind, where] += 1
            track = next((each for each in facts.tracks if each.number == crossing.track), None)
            told.append(
                event(
                    self,
                    facts,
                    "crossed",
                    crossing.at_ns,
                    tracks=(crossing.track,),
                    numbers=(
                        ("count", float(self._counts[crossing.kind, where])),
                        ("class_share", 1.0 if track is None else track.kind_share),
                    ),
                    words=(("class", crossing.kind), ("direction", where)),
                )
            )
        return told
