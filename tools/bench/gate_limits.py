"""How much decoding any measure of sizes could save, at best: the threshold is chosen afterwards, by whoever knows the truth.

    python -m tools.bench.gate_limits [--fps 5] [--times 4] [--length-s 600] FILM|SCENE ...

Films, scenes and encoders are those of `gate_misses`. Each measure turns the sizes of a stream into one number for each access unit; a
gate by it decodes what lies above a threshold and the two seconds behind it, and every keyframe. Of all thresholds the one that saves most is told,
first of those with which no look at a movement passes undecoded, then of those with which every movement is looked at within LATE_S of its
beginning. No gate on a box can do better: it would have to find the threshold as well. Nothing is timed here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, log2

import numpy as np

from nvr.detect.activity import Type, type_of
from nvr.detect.pipeline import AWAKE_NS
from nvr.media import AccessUnit
from tools.bench.detect_cost import at_ns
from tools.bench.gate_misses import asked, looks, movements, streams

NS_PER_S = 1_000_000_000
LATE_S = 0.6  # three looks
REMEMBERED = 40  # quiet sizes of one kind
KNOWN = 8  # of them, before a size says anything
THRESHOLDS = 81
QUIET_AFTER_NS = NS_PER_S  # stillness for so long before a size counts as quiet


@dataclass(frozen=True, slots=True)
class Unit:
    at_ns: int
    type: Type
    place: int  # in its GOP; 0 is the keyframe
    size: float  # log2 of its bytes


@dataclass(frozen=True, slots=True)
class Gated:
    """What a gate by one threshold comes to."""

    decoded: float  # share of access units
    missed: int  # looks at movement that passed undecoded
    latest_s: float  # how long a movement went unseen at its beginning, at most; inf: one was never seen


def units_of(events: Sequence[object]) -> list[Unit]:
    found: list[Unit] = []
    for unit in (event for event in events if isinstance(event, AccessUnit)):
        kind = type_of(unit)
        place = 0 if kind is Type.KEYFRAME else found[-1].place + 1 if found else 1
        if kind is Type.REFERENCE and place == 1:
            kind = Type.AFTER_KEYFRAME
        found.append(Unit(at_ns(unit), kind, place, log2(unit.payload.size_bytes + 32)))
    return found


# -- measures ----------------------------------------------------------------------------------------


def against_quiet(
    units: Sequence[Unit], moves: Mapping[int, bool], kind_of: Callable[[Unit], Hashable], *, is_robust: bool
) -> list[float]:
    """Each size against the last quiet ones of its kind: in log2, or (robust) as deviations from their median in units of their spread."""
    quiet: dict[Hashable, deque[float]] = {}
    found, moved_ns = [], -10 * NS_PER_S
    for unit in units:
        known = quiet.setdefault(kind_of(unit), deque(maxlen=REMEMBERED))
        if len(known) < KNOWN:
            found.append(inf)  # nothing is known: decode
        elif is_robust:
            sizes = np.array(known)
            middle = float(np.median(sizes))
            spread = 1.4826 * float(np.median(abs(sizes - middle)))
            found.append((unit.size - middle) / max(spread, 0.02))
        else:
            found.append(unit.size - float(np.mean(known)))
        if moves.get(unit.at_ns):
            moved_ns = unit.at_ns
        elif unit.at_ns in moves and unit.at_ns - moved_ns > QUIET_AFTER_NS:
            known.append(unit.size)
    return found


def _mean_of_three(levels: Sequence[float]) -> list[float]:
    return [sum(levels[max(place - 2, 0) : place + 1]) / 3**0.5 for place in range(len(levels))]


def _summed(levels: Sequence[float]) -> list[float]:
    """Page's cumulative sum, slowly forgetting: many small excesses tell as much as a large one."""
    total, found = 0.0, []
    for level in levels:
        total = total if level == inf else max(0.0, 0.9 * total + level - 0.3)
        found.append(inf if level == inf else total)
    return found


def _by_place(units: Sequence[Unit], moves: Mapping[int, bool]) -> list[float]:
    return against_quiet(units, moves, lambda unit: unit.place, is_robust=True)


MEASURES: dict[str, Callable[[Sequence[Unit], Mapping[int, bool]], list[float]]] = {
    "mean of its type": lambda units, moves: against_quiet(units, moves, lambda unit: unit.type, is_robust=False),
    "median and MAD of its place": _by_place,
    "the same, mean of three": lambda units, moves: _mean_of_three(_by_place(units, moves)),
    "the same, cumulative sum": lambda units, moves: _summed(_by_place(units, moves)),
}


# -- what a gate would do ----------------------------------------------------------------------------


def gated(units: Sequence[Unit], moves: Mapping[int, bool], levels: Sequence[float], threshold: float) -> Gated:
    """As `Pipeline.take` decides: whoever wakes decodes what was held since the keyframe as well."""
    awake_until_ns, held, decoded = -1, 0, 0
    passed: set[int] = set()
    for unit, level in zip(units, levels, strict=True):
        if unit.type is Type.KEYFRAME:
            held = 0
        elif level > threshold:
            awake_until_ns = unit.at_ns + AWAKE_NS
        if unit.type is not Type.KEYFRAME and unit.at_ns > awake_until_ns:
            held += 1
            passed.add(unit.at_ns)
            continue
        decoded, held = decoded + held + 1, 0
        if moves.get(unit.at_ns):
            awake_until_ns = max(awake_until_ns, unit.at_ns + AWAKE_NS)
    latest_s = max(
        (
            (min((at for at in group if at not in passed), default=inf) - group[0]) / NS_PER_S
            for group in movements(dict(moves))
        ),
        default=0.0,
    )
    return Gated(decoded / len(units), sum(is_moving and at in passed for at, is_moving in moves.items()), latest_s)


def best(units: Sequence[Unit], moves: Mapping[int, bool], levels: Sequence[float], *, may_be_late: bool) -> float:
    """The least share of access units that had to be decoded; 1.0 when no threshold keeps the promise."""
    known = [level for level in levels if level != inf] or [0.0]
    tried = (gated(units, moves, levels, float(at)) for at in np.percentile(known, np.linspace(0, 100, THRESHOLDS)))
    good = (each for each in tried if (each.latest_s <= LATE_S if may_be_late else not each.missed))
    return min((each.decoded for each in good), default=1.0)


def main(arguments: Sequence[str] | None = None) -> None:
    options = asked(__doc__, arguments)
    print(f"| film | encoder | who knows the truth | {' | '.join(MEASURES)} |\n|{' --- |' * (3 + len(MEASURES))}")
    for film, encoder, events in streams(options):
        moves, _, _ = looks(events, options.fps, is_gated=False)
        units = units_of(events)
        truth = gated(units, moves, [inf if moves.get(unit.at_ns) else 0.0 for unit in units], 1.0)
        cells = [
            f"{best(units, moves, levels, may_be_late=False):.0%}, {best(units, moves, levels, may_be_late=True):.0%}"
            for levels in (measure(units, moves) for measure in MEASURES.values())
        ]
        print(f"| {film} | {encoder} | {truth.decoded:.0%} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
