"""Waiting time and traffic by hour, from visits and tallies. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

HOUR_MS = 3_600_000


def hour_of_ms(at_ms: int) -> int:
    """Begin of the hour in UTC. Zones with half hours (none in Indonesia) are told in whole UTC hours."""
    return at_ms - at_ms % HOUR_MS


@dataclass(frozen=True, slots=True)
class Visit:
    """Somebody who waited and left."""

    left_ms: int
    dwell_s: float


@dataclass(frozen=True, slots=True)
class Waiting:
    """One hour of the day over all days asked for."""

    hour: int  # 0 to 23, local
    visits: int
    median_s: int
    p90_s: int
    longest_s: int


def waiting_by_hour(visits: Iterable[Visit], zone: ZoneInfo) -> list[Waiting]:
    """Hours in which nobody waited are left out: nothing was measured there."""
    by_hour: dict[int, list[float]] = {}
    for visit in visits:
        by_hour.setdefault(datetime.fromtimestamp(visit.left_ms / 1000, zone).hour, []).append(visit.dwell_s)
    return [
        Waiting(hour, len(waits), round(share_of(waits, 0.5)), round(share_of(waits, 0.9)), round(max(waits)))
        for hour, waits in sorted(by_hour.items())
    ]


def share_of(values: Sequence[float], share: float) -> float:
    """The value that `share` of all do not exceed (nearest rank): one that was really there."""
    ordered = sorted(values)
    return ordered[max(0, min(len(ordered) - 1, -(-len(ordered) * round(share * 1000) // 1000) - 1))]


@dataclass(frozen=True, slots=True)
class Tally:
    """What crossed one line in one hour, one class and direction."""

    hour_ms: int
    line: str
    thing: str
    direction: str
    count: int


@dataclass(frozen=True, slots=True)
class TrafficHour:
    day: str  # local
    hour: int
    thing: str
    direction: str
    count: int


def traffic_by_hour(tallies: Iterable[Tally], zone: ZoneInfo) -> list[TrafficHour]:
    """All lines of a place added up, in order of time."""
    sums: dict[tuple[str, int, str, str], int] = {}
    for tally in tallies:
        local = datetime.fromtimestamp(tally.hour_ms / 1000, zone)
        key = (local.date().isoformat(), local.hour, tally.thing, tally.direction)
        sums[key] = sums.get(key, 0) + tally.count
    return [TrafficHour(*key, count) for key, count in sorted(sums.items())]


@dataclass(frozen=True, slots=True)
class Jammed:
    """Seconds of jam in one hour of one day."""

    day: str
    hour: int
    jam_s: int
    dense_s: int


def jam_by_hour(held: Iterable[tuple[int, int, str]], zone: ZoneInfo) -> list[Jammed]:
    """`held`: from, to, state of one place; a place is jammed while one of its lanes is, so they must not overlap."""
    sums: dict[tuple[str, int], list[int]] = {}
    for from_ms, to_ms, state in held:
        if state not in ("jam", "dense"):
            continue
        at_ms = from_ms
        while at_ms < to_ms:
            end_ms = min(hour_of_ms(at_ms) + HOUR_MS, to_ms)
            local = datetime.fromtimestamp(at_ms / 1000, zone)
            sums.setdefault((local.date().isoformat(), local.hour), [0, 0])[state == "dense"] += end_ms - at_ms
            at_ms = end_ms
    return [
        Jammed(day, hour, round(jam / 1000), round(dense / 1000)) for (day, hour), (jam, dense) in sorted(sums.items())
    ]


def worst_of(lanes: Iterable[Sequence[tuple[int, int, str]]]) -> list[tuple[int, int, str]]:
    """Lanes of one place as one: jam where one lane is jammed, else dense where one is."""
    spans = [each for lane in lanes for each in lane if each[2] in ("jam", "dense") and each[1] > each[0]]
    edges = sorted({edge for from_ms, to_ms, _ in spans for edge in (from_ms, to_ms)})
    steps: dict[int, list[int]] = {}
    for from_ms, to_ms, state in spans:
        steps.setdefault(from_ms, [0, 0])[state == "dense"] += 1
        steps.setdefault(to_ms, [0, 0])[state == "dense"] -= 1
    found: list[tuple[int, int, str]] = []
    open_lanes = [0, 0]
    for from_ms, to_ms in itertools.pairwise(edges):
        open_lanes = [open_lanes[0] + steps[from_ms][0], open_lanes[1] + steps[from_ms][1]]
        state = "jam" if open_lanes[0] else "dense" if open_lanes[1] else ""
        if state:
            found.append((from_ms, to_ms, state))
    return found
