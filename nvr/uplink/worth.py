"""What an event is worth to whoever sits at the hub: how soon it is told, and whether footage goes with it. Pure."""

from __future__ import annotations

from nvr import wire
from nvr.events import Stored
from nvr.site_settings import Hub

# Somebody should look now. Of rules whose states follow each other only the bad state is one (ALARM_STATES).
ALARM_KINDS = frozenset(("intrusion", "loitering", "crowd", "stopped_vehicle", "tamper"))
ALARM_STATES = frozenset((("queue", "long queue"), ("congestion", "jam")))

# The order of everything that waits, lowest first: the wire's value, and within it what is asked for before what is not.
RANK_ALARM, RANK_STATE, RANK_MOMENT, RANK_ASKED, RANK_CLIP, RANK_BULK = 0, 10, 15, 20, 25, 30


def value_of(stored: Stored) -> int:
    """wire.ALARM or wire.STATE. The end of an alarm is a state: nobody has to run."""
    event = stored.event
    if event.is_end:
        return wire.STATE
    if event.kind in ALARM_KINDS or (event.kind, event.state) in ALARM_STATES:
        return wire.ALARM
    if event.kind == "service_open" and event.state == "closed" and dict(event.words).get("due") == "open":
        return wire.ALARM
    return wire.STATE


def rank_of(stored: Stored) -> int:
    """Where an event stands among those that wait. Things counted by the thousand come last."""
    if value_of(stored) == wire.ALARM:
        return RANK_ALARM
    return RANK_MOMENT if stored.is_moment else RANK_STATE


def clip_rank(stored: Stored, hub: Hub) -> int | None:
    """The rank of the clip that goes with an event; None: none does."""
    if hub.clips == "none" or stored.is_moment or stored.event.is_end or not stored.evidence.stream:
        return None
    if value_of(stored) == wire.ALARM:
        return RANK_ALARM
    return RANK_CLIP if hub.clips == "all" else None


def value_of_rank(rank: int) -> int:
    """The wire's value of what has this rank."""
    return min(rank // 10, wire.BULK)


def value_name(rank: int) -> str:
    value = value_of_rank(rank)
    return next(name for name, number in wire.VALUES.items() if number == value)
