"""What will happen to the city, drawn from a seed. Pure: the same seed, length and boxes give the same script."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256

QUIET_BEFORE_S = 20.0  # after everything records, before the first fault
QUIET_AFTER_S = 40.0  # after the last one: a camera is dialled again after 30 s at most
EVERY_S = 14.0  # a fault begins about so often
ASK_EVERY_S = 40.0  # somebody asks a box for footage about so often
ASK_LENGTH_S = 8.0

# (kind, how) -> how long it may last, in seconds. What has one length only is over at once, or as long as its nature wants.
FAULTS: dict[tuple[str, str], tuple[float, float]] = {
    ("power", "cut"): (2.0, 45.0),  # SIGKILL of all processes of a box, started again so much later
    ("link", "down"): (5.0, 60.0),
    ("link", "slow"): (20.0, 60.0),
    ("link", "lossy"): (20.0, 60.0),
    ("clock", "ahead"): (15.0, 45.0),  # an hour
    ("clock", "behind"): (15.0, 45.0),  # forty minutes
    ("clock", "lost"): (15.0, 45.0),  # 1970
    ("card", "full"): (10.0, 30.0),
    ("card", "errors"): (5.0, 25.0),
    ("card", "read-only"): (5.0, 25.0),
    ("card", "slow"): (15.0, 30.0),  # every sync takes five seconds
    ("card", "stuck"): (3.0, 12.0),  # every write takes five seconds
    ("camera", "silent"): (4.0, 45.0),
    ("camera", "gone"): (3.0, 45.0),  # with all cameras of its box: their switch has no power
    ("camera", "other size"): (10.0, 30.0),
    ("camera", "frozen"): (16.0, 40.0),
    ("hub", "killed"): (1.0, 25.0),
    ("load", "busy"): (10.0, 20.0),  # two processes for each core that do nothing but count
}


@dataclass(frozen=True, slots=True)
class Fault:
    at_s: float  # since the measured time began
    for_s: float
    kind: str
    how: str
    target: str  # a box; a camera for what happens to one; "" for hub and load

    @property
    def end_s(self) -> float:
        return self.at_s + self.for_s


@dataclass(frozen=True, slots=True)
class Ask:
    """Somebody wants the footage of [from_s, to_s) from a box, at `at_s`."""

    at_s: float
    camera: str
    from_s: float
    to_s: float


@dataclass(frozen=True, slots=True)
class Script:
    seed: int
    length_s: float
    faults: tuple[Fault, ...]
    asks: tuple[Ask, ...]

    def digest(self) -> str:
        """Two runs with the same digest were asked to do the same."""
        return sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


def draw(seed: int, length_s: float, real: Mapping[str, Sequence[str]], light: Sequence[str]) -> Script:
    """`real`: cameras by real box; `light`: names of light boxes, to which only their link can happen.

    Every kind of fault comes before one comes again. Two that overlap on the same target are of different kinds. Raises ValueError
    when the time is too short for a single one.
    """
    chance = random.Random(f"city {seed}")
    begin_s, end_s = QUIET_BEFORE_S, length_s - QUIET_AFTER_S
    if end_s - begin_s < 10:
        raise ValueError(f"{length_s:g} s are too short: {QUIET_BEFORE_S + QUIET_AFTER_S + 10:g} s at least")
    faults: list[Fault] = []
    box_of = {camera: box for box, cameras in real.items() for camera in cameras}
    wanted = max(4, round((end_s - begin_s) / EVERY_S))
    order: list[tuple[str, str]] = []
    for _ in range(wanted):
        if not order:
            order = chance.sample(sorted(FAULTS), len(FAULTS))
        kind, how = order.pop()
        for _ in range(50):  # until it fits; in a short time not everything does
            fault = _fault(chance, kind, how, begin_s, end_s, real, light)
            if not any(_collide(fault, other, box_of) for other in faults):
                faults.append(fault)
                break
    faults.sort(key=lambda fault: (fault.at_s, fault.kind, fault.target))
    return Script(seed, length_s, tuple(faults), _asks(chance, length_s, faults, real))


def _fault(
    chance: random.Random, kind: str, how: str, begin_s: float, end_s: float, real: Mapping[str, Sequence[str]], light: Sequence[str]
) -> Fault:  # fmt: skip
    least_s, most_s = FAULTS[kind, how]
    for_s = round(min(chance.uniform(least_s, most_s), (end_s - begin_s) * 0.8), 1)
    at_s = round(chance.uniform(begin_s, end_s - for_s), 1)
    box = chance.choice(sorted(real))
    target = {"hub": "", "load": ""}.get(kind, box)
    if kind == "camera" and how != "gone":
        target = chance.choice(sorted(real[box]))
    if kind == "link":
        target = chance.choice([*sorted(real), *sorted(light)])
    return Fault(at_s, for_s, kind, how, target)


def _collide(one: Fault, other: Fault, box_of: Mapping[str, str]) -> bool:
    """The same thing twice at once, or so soon that nobody could tell which of the two it was. A camera that is gone cannot be switched."""
    targets = [one.target, other.target]
    if one.kind == "camera" and "gone" in (one.how, other.how):
        targets = [box_of.get(target, target) for target in targets]
    is_same = one.kind == other.kind and targets[0] == targets[1]
    return is_same and one.at_s < other.end_s + 15 and other.at_s < one.end_s + 15


def _asks(
    chance: random.Random, length_s: float, faults: Sequence[Fault], real: Mapping[str, Sequence[str]]
) -> tuple[Ask, ...]:
    """Not of a box whose clock is wrong then: what it calls now is another time, and it says so."""
    asks = []
    count = max(2, round(length_s / ASK_EVERY_S))
    for number in range(count):
        box = chance.choice(sorted(real))
        camera = chance.choice(sorted(real[box]))
        at_s = round(QUIET_BEFORE_S + (length_s - QUIET_BEFORE_S) * (number + chance.random()) / count * 0.95, 1)
        from_s = round(chance.uniform(0, at_s - ASK_LENGTH_S - 3), 1)
        ask = Ask(at_s, camera, from_s, from_s + ASK_LENGTH_S)
        clocks = [fault for fault in faults if (fault.kind, fault.target) == ("clock", box)]
        if not any(fault.at_s - 15 < at_s < fault.end_s + 15 for fault in clocks):
            asks.append(ask)
    return tuple(asks)
