"""The place board: open or closed, how many wait, how the traffic is, what happened; with the evidence of each. Pure.

A green light must never be a lie: whatever rests on a silent box, a covered, dark or frozen camera, or on a box that does not
look, becomes `cannot tell` with the reason, whatever was said before. `closed` accuses somebody, so it needs every camera that
judges the place to say so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nvr.hub.people.tile import Camera, StateNow, behind_ms, doubt

OPEN, CLOSED, CANNOT_TELL = "open", "closed", "cannot tell"
TRAFFIC = ("jam", "dense", "free")  # the worst first
INCIDENTS = frozenset(("stopped_vehicle", "intrusion", "loitering", "crowd"))


@dataclass(frozen=True, slots=True)
class Watched:
    """One camera of a place."""

    id: int
    camera: Camera


@dataclass(frozen=True, slots=True)
class Said:
    """One state with the camera that said it, and why it may not be believed."""

    camera_id: int
    now: StateNow
    doubt: dict[str, Any] | None
    heartbeat_ms: int = 0  # when its box confirmed it last

    @property
    def sure_ms(self) -> int:
        """Up to when it is confirmed: `closed` is said of the past (docs/decisions/0030-closed-is-said-of-the-past.md)."""
        return self.heartbeat_ms - behind_ms(self.now.numbers)


@dataclass(frozen=True, slots=True)
class Board:
    """None where no camera of the place judges such a thing."""

    service: dict[str, Any] | None
    queue: dict[str, Any] | None
    traffic: dict[str, Any] | None
    incidents: list[dict[str, Any]] = field(default_factory=list)


def board(cameras: Sequence[Watched], now_ms: int, counts: dict[str, int] | None = None) -> Board:
    """`counts`: what crossed lines of the place in the last hour, by class."""
    said = [
        Said(each.id, state, doubt(each.camera, now_ms), each.camera.heartbeat_ms)
        for each in cameras
        for state in each.camera.states
    ]
    return Board(
        service([each for each in said if each.now.kind == "service_open"]),
        queue([each for each in said if each.now.kind == "queue" and each.now.state != "long queue"]),
        traffic([each for each in said if each.now.kind == "congestion"], counts or {}),
        incidents(said),
    )


def service(said: Sequence[Said]) -> dict[str, Any] | None:
    if not said:
        return None
    due = _due(each.now for each in said)
    good = [each for each in said if each.doubt is None]
    opened = [each for each in good if each.now.state == OPEN]
    if opened:
        first = min(opened, key=lambda each: each.now.since_ms)
        return {"state": OPEN, "due": due, "since_ms": first.now.since_ms, "why": {}, "evidence": evidence(first)}
    if all(each.doubt is None and each.now.state == CLOSED for each in said):
        # The place is closed since the last of its doors was.
        last = max(said, key=lambda each: each.now.since_ms)
        return {
            "state": CLOSED, "due": due, "since_ms": last.now.since_ms, "sure_ms": min(each.sure_ms for each in said), "why": {},
            "evidence": evidence(last),
        }  # fmt: skip
    doubted = next((each for each in said if each.doubt is not None), None)
    if doubted is not None:
        since_ms = int(doubted.doubt.get("since_ms", 0)) if doubted.doubt else 0
        return {
            "state": CANNOT_TELL, "due": due, "since_ms": since_ms or doubted.now.since_ms, "why": doubted.doubt,
            "evidence": evidence(doubted),
        }  # fmt: skip
    unsure = next(each for each in said if each.now.state != CLOSED)
    return {
        "state": CANNOT_TELL, "due": due, "since_ms": unsure.now.since_ms, "why": {"key": "rule", "detail": unsure.now.detail},
        "evidence": evidence(unsure),
    }  # fmt: skip


def _due(states: Iterable[StateNow]) -> str:
    """What the place should be by its hours; cameras of one place may have different ones: then open counts."""
    found = {each.words.get("due", "unknown") for each in states}
    return next((due for due in ("open", "unknown", "closed") if due in found), "unknown")


def queue(said: Sequence[Said]) -> dict[str, Any] | None:
    """Several queues of one place are added up. `waiting_most` None: nobody can say."""
    if not said:
        return None
    known = [each for each in said if each.doubt is None and "waiting" in each.now.numbers]
    if not known:
        worst = said[0]
        why = worst.doubt or {"key": "rule", "detail": worst.now.detail}
        return {
            "waiting": None, "waiting_least": None, "waiting_most": None, "wait_s": None, "is_complete": False,
            "since_ms": worst.now.since_ms, "why": why, "evidence": evidence(worst),
        }  # fmt: skip
    most = [each.now.numbers.get("waiting_most") for each in known]
    longest = max(known, key=lambda each: each.now.numbers.get("longest_s", 0.0))
    return {
        "waiting": round(sum(each.now.numbers["waiting"] for each in known)),
        "waiting_least": round(sum(each.now.numbers.get("waiting_least", 0.0) for each in known)),
        "waiting_most": None if None in most else round(sum(each for each in most if each is not None)),
        "wait_s": round(longest.now.numbers.get("longest_s", 0.0)),
        "is_complete": len(known) == len(said),  # False: one of the queues is not seen now
        "since_ms": max(each.now.since_ms for each in known),
        "why": {}
        if len(known) == len(said)
        else next(each.doubt for each in said if each not in known) or {"key": "rule"},
        "evidence": evidence(longest),
    }


def traffic(said: Sequence[Said], counts: dict[str, int]) -> dict[str, Any] | None:
    """The worst lane decides; lanes that are not seen make it incomplete, and `cannot tell` where none is."""
    if not said:
        return None
    known = [each for each in said if each.doubt is None and each.now.state in TRAFFIC]
    if not known:
        first = said[0]
        return {
            "state": CANNOT_TELL, "since_ms": first.now.since_ms, "why": first.doubt or {"key": "rule", "detail": first.now.detail},
            "counts": counts, "speed": None, "is_complete": False, "evidence": evidence(first),
        }  # fmt: skip
    worst = min(known, key=lambda each: (TRAFFIC.index(each.now.state), each.now.since_ms))
    return {
        "state": worst.now.state,
        "since_ms": worst.now.since_ms,
        "why": {},
        "counts": counts,
        "speed": speed(worst.now),
        "is_complete": len(known) == len(said),
        "evidence": evidence(worst),
    }


def speed(state: StateNow) -> dict[str, Any] | None:
    for key in ("speed_m_s", "speed_px_s"):
        if key in state.numbers:
            return {"value": state.numbers[key], "unit": key.removeprefix("speed_")}
    return None


def incidents(said: Iterable[Said]) -> list[dict[str, Any]]:
    """What goes on now, the newest first. One that a blind camera told stays: that it ended was not seen; `why` says so."""
    found = [
        {
            "kind": each.now.kind, "state": each.now.state, "zone": each.now.zone, "since_ms": each.now.since_ms,
            "numbers": dict(each.now.numbers), "why": each.doubt or {}, "evidence": evidence(each),
        }
        for each in said
        if each.now.kind in INCIDENTS or (each.now.kind, each.now.state) == ("queue", "long queue")
    ]  # fmt: skip
    return sorted(found, key=lambda each: -int(each["since_ms"]))


def evidence(said: Said) -> dict[str, Any]:
    return {
        "event": said.now.event_id or None,
        "camera_id": said.camera_id,
        "at_ms": said.now.since_ms,
        "zone": said.now.zone,
        "still_url": f"/api/v1/events/{said.now.event_id}/still" if said.now.event_id and said.now.has_still else None,
    }
