"""What all rules have in common: facts go in, events come out, and nothing else is known.

A rule keeps what it must remember from one look to the next and decides by plain functions over values. It never
asks for the time, a picture or a file; so the same film gives the same events on every machine and at any speed.
"""

from __future__ import annotations

from typing import Protocol

from nvr.scene import MOVING, PERSON, VEHICLES, Event, Facts, InZone, ZoneFacts

NS_PER_S = 1_000_000_000

CANNOT_TELL = "cannot tell"


class Rule(Protocol):
    """One rule of one camera, for one zone or line."""

    kind: str  # as in site_keys.RULES
    where: str  # zone or line; "" for the camera as a whole

    def look(self, facts: Facts) -> list[Event]:
        """What follows from one more moment. Facts of one camera, in order."""


def seconds(ns: int) -> float:
    return ns / NS_PER_S


def event(
    rule: Rule,
    facts: Facts,
    state: str,
    from_ns: int | None = None,
    *,
    tracks: tuple[int, ...] = (),
    numbers: tuple[tuple[str, float], ...] = (),
    words: tuple[tuple[str, str], ...] = (),
    detail: str = "",
    is_end: bool = False,
) -> Event:
    """An event of `rule` that rests on what was seen from `from_ns` until now."""
    from_ns = facts.at_ns if from_ns is None else min(from_ns, facts.at_ns)
    wall_ns = None if facts.wall_ns is None else facts.wall_ns - (facts.at_ns - from_ns)
    return Event(
        rule.kind,
        facts.camera,
        rule.where,
        state,
        from_ns,
        facts.at_ns,
        wall_ns,
        tracks,
        numbers,
        words,
        detail,
        is_end,
    )


def people(facts: Facts, zone: ZoneFacts) -> tuple[InZone, ...]:
    """Who is in the zone. Without a model that knows people, whatever moves may be one.

    Whoever rides a two-wheeler is part of it.
    """
    if PERSON not in facts.sight.kinds:
        return zone.present(MOVING)
    return tuple(each for each in zone.present(PERSON) if not rides(facts, each.track.number))


def rides(facts: Facts, number: int) -> bool:
    """Whether a track is somebody on a two-wheeler: most of one lies on the other, and they go the same way."""
    track = next((each for each in facts.tracks if each.number == number), None)
    if track is None:
        return False
    for other in facts.tracks:
        if other.kind != "two-wheeler" or other.number == number:
            continue
        common = track.rect.overlap(other.rect)
        if common < 0.4 * min(track.rect.area, other.rect.area):
            continue
        dx, dy = track.velocity[0] - other.velocity[0], track.velocity[1] - other.velocity[1]
        if (dx * facts.aspect) ** 2 + dy**2 <= max(0.05, 0.5 * other.speed) ** 2:
            return True
    return False


def vehicles(facts: Facts, zone: ZoneFacts) -> tuple[InZone, ...]:
    """Vehicles that have driven at some time; without a model, whatever moves."""
    return zone.present(*(VEHICLES if VEHICLES & facts.sight.kinds else (MOVING,)))


def is_motion_only(facts: Facts, kind: str = PERSON) -> bool:
    """Whether the box runs without a model that knows `kind`."""
    return kind not in facts.sight.kinds
