"""What happens in the city, as plain functions of time: the same second of the same story is the same every time.

Nothing here is measured anywhere; it is a story that has everything in it which the pages must show. It repeats every ROUND_S. Offices keep the
hours of the city's file; in the demo they are open around the clock instead, because whoever tries it does so at any hour.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from hashlib import sha256

from tools.city.city import Place

ROUND_S = 600
OPEN, CLOSED, CANNOT_TELL = "open", "closed", "cannot tell"
FREE, DENSE, JAM = "free", "dense", "jam"
_DENSE_AT, _JAM_AT = 0.42, 0.74


@dataclass(frozen=True, slots=True)
class Scene:
    """What one camera would see at one moment."""

    light: float = 1.0  # 1 day, 0.3 night with lamps
    people: int = 0  # who waits, or walks about
    staff: int = 0
    shut: bool = False  # the shutter is down
    vehicles: float = 0.0  # 0 empty road, 1 full
    standing: bool = False  # one vehicle stands in the lane
    fault: str = ""  # "", covered, frozen, dark, down


@dataclass(frozen=True, slots=True)
class State:
    """What a rule would say of it; the words are those of nvr/rules."""

    kind: str
    zone: str
    state: str
    numbers: tuple[tuple[str, float], ...] = ()
    words: tuple[tuple[str, str], ...] = ()
    detail: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """Of states that follow each other one holds; of all others each begins and ends."""
        follows = self.kind in ("service_open", "congestion") or (self.kind, self.state) == ("queue", "waiting")
        return (self.kind, self.zone, "" if follows else self.state)


def chance(*parts: object) -> float:
    """A number from 0 to 1 that depends on nothing but `parts`."""
    return int.from_bytes(sha256("\0".join(map(str, parts)).encode()).digest()[:6], "big") / 2**48


def scene(place: Place, camera: str, story_s: float, *, is_due: bool, light: float = 1.0) -> Scene:
    """`story_s`: seconds since the story began; `is_due`: whether the office should be open."""
    at_s = story_s % ROUND_S
    shift = chance(place.name, "shift") * 400
    wave = 0.5 + 0.5 * math.sin((story_s + shift) / 95 + chance(camera) * 2)
    fault = "covered" if place.pattern == "covered" and 60 <= at_s < 420 else ""
    if place.kind == "traffic":
        return Scene(
            light=light,
            vehicles=_vehicles(place.pattern, at_s, wave),
            standing=place.pattern == "incident" and 45 <= at_s < 330,
            fault=fault,
        )
    if place.kind == "public-space":
        people = 26 if place.pattern == "crowd" and 90 <= at_s < 360 else 3 + round(7 * wave)
        return Scene(light=light, people=people, fault=fault)
    is_open = is_due and not (place.pattern == "shut" and at_s >= 20) and not (place.pattern == "late" and at_s < 200)
    people = 0
    if is_open:
        people = round((9 if place.pattern == "queue" else 3) * (0.4 + 0.6 * wave)) + (
            4 if place.pattern == "queue" and 120 <= at_s < 400 else 0
        )
    return Scene(light=light, people=people, staff=2 if is_open else 0, shut=not is_open, fault=fault)


def _vehicles(pattern: str, at_s: float, wave: float) -> float:
    if pattern == "jam":
        build = min(1.0, max(0.0, (at_s - 30) / 60)) if at_s < 400 else max(0.0, 1 - (at_s - 400) / 60)
        return 0.2 + 0.75 * build
    return {"busy": 0.5 + 0.15 * wave, "wave": 0.15 + 0.5 * wave, "incident": 0.35 + 0.15 * wave}.get(
        pattern, 0.08 + 0.2 * wave
    )


def states(place: Place, seen: Scene, *, due: str) -> list[State]:
    """What the rules of such a camera would say now. `due`: "open", "closed"."""
    found: list[State] = []
    blind = seen.fault in ("covered", "dark", "down", "frozen")
    if blind and seen.fault != "down":
        found.append(State("tamper", "", seen.fault))
    if place.kind == "traffic":
        if blind:
            return [*found, State("congestion", "lane", CANNOT_TELL, detail=f"the picture is {seen.fault}")]
        state = JAM if seen.vehicles >= _JAM_AT else DENSE if seen.vehicles >= _DENSE_AT else FREE
        speed = round(max(0.6, 11.5 * (1 - seen.vehicles) ** 1.3), 1)
        numbers = (
            ("occupancy", round(seen.vehicles * 0.8, 2)),
            ("vehicles", round(seen.vehicles * 18, 1)),
            ("speed_m_s", speed),
        )
        found.append(State("congestion", "lane", state, numbers, (("by", "vehicles"),)))
        if seen.standing:
            found.append(State("stopped_vehicle", "lane", "stopped", (("stood_s", 15.0),), (("class", "car"),)))
        return found
    if place.kind == "public-space":
        if seen.people >= 20 and not blind:
            found.append(State("crowd", "square", "crowd", (("people", float(seen.people)),)))
        return found
    if blind:
        found.append(
            State(
                "service_open",
                "counter",
                CANNOT_TELL,
                (),
                (("due", due), ("by", "people")),
                f"the picture is {seen.fault}",
            )
        )
        return found
    found.append(
        State("service_open", "counter", OPEN if not seen.shut else CLOSED, (), (("due", due), ("by", "people")))
    )
    if not seen.shut:
        found.append(State("queue", "counter", "waiting", queue_numbers(seen.people)))
        if seen.people > 10:
            found.append(State("queue", "counter", "long queue", queue_numbers(seen.people)))
    return found


def queue_numbers(people: int) -> tuple[tuple[str, float], ...]:
    """A count is an interval; beyond ten nobody can say."""
    found = [("waiting", float(people)), ("waiting_least", float(max(0, people - people // 4)))]
    if people <= 10:
        found.append(("waiting_most", float(people + (people + 3) // 4)))
    if people:
        found.append(("longest_s", 150.0 * people + 60))
    return tuple(found)


def crossings(place: Place, camera: str, from_s: float, to_s: float) -> list[tuple[str, str]]:
    """Class and direction of everybody who passes the line from `from_s` to `to_s`."""
    found = []
    step_s = 4.0
    for number in range(math.ceil(from_s / step_s), math.ceil(to_s / step_s)):
        if chance(camera, number) < 0.55:
            kind = chance(camera, number, "class")
            thing = "two-wheeler" if kind < 0.62 else "car" if kind < 0.9 else "truck" if kind < 0.97 else "bus"
            found.append((thing, "down" if chance(camera, number, "way") < 0.5 else "up"))
    return found


def is_silent(box: str, story_s: float) -> bool:
    """One box loses its link in every round."""
    return box == "poka-1" and 150 <= story_s % ROUND_S < 390
