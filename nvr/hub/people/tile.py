"""How a camera stands: what its tile on the wall says, and whether what it claims may be believed. Pure.

A tile shows the worst thing that is known, with its reason as a key and numbers; pages translate. Nothing counts as live that was
not confirmed lately: the box by its heartbeat, the picture by the time it was taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nvr import wire

LIVE, LATE, SILENT, TAMPERED, DARK, DOWN, UNKNOWN = "live", "late", "silent", "tampered", "dark", "down", "unknown"
TILES = (LIVE, LATE, SILENT, TAMPERED, DARK, DOWN, UNKNOWN)

LATE_S = 15.0  # a still comes every 10 s; half as much again is late
BEHIND_MOST_S = 86_400.0
AHEAD_S = 60.0  # a picture from the future: the box's clock is wrong
CONFIRMED_S = 45.0  # each heartbeat repeats what is true; four missed ones are a box that does not look any more
BLIND = (TAMPERED, DARK, DOWN, SILENT, UNKNOWN)  # a verdict that rests on such a camera says `cannot tell`

_TAMPERED = ("covered", "out of focus", "moved", "frozen", "looped")


@dataclass(frozen=True, slots=True)
class StateNow:
    """What holds in one zone of one camera, as the box told it last."""

    kind: str
    zone: str
    state: str
    since_ms: int
    event_id: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    detail: str = ""
    has_still: bool = False


@dataclass(frozen=True, slots=True)
class Camera:
    """One camera as the hub knows it. Times are the hub's, but for `captured_ms`, which the box signed."""

    seen_ms: int | None  # when its box was heard last
    heard: Mapping[str, Any]  # its entry in that heartbeat; empty when the box does not name it
    states: tuple[StateNow, ...] = ()
    captured_ms: int = 0  # newest still; 0: the box did not know the time
    received_ms: int = 0  # 0: there is none
    heartbeat_ms: int = 0  # when the last heartbeat came: it repeats all states that are true


@dataclass(frozen=True, slots=True)
class Tile:
    state: str
    why: dict[str, Any]  # {"key": ..., numbers}; empty when live
    still_ms: int  # when the picture was taken, as far as the hub can say; 0: there is none


def behind_ms(numbers: Mapping[str, float]) -> int:
    """How much later than the moment it speaks of a state was told; only `closed` and its end are said of the past. Any number a box sends."""
    behind_s = numbers.get("behind_s", 0.0)
    return round(behind_s * 1000) if 0 <= behind_s <= BEHIND_MOST_S else 0


def still_ms(camera: Camera) -> int:
    """When the newest still was taken; where the box cannot say, when it came, which is later and never flatters by more than the link."""
    if not camera.received_ms:
        return 0
    if camera.captured_ms <= 0 or camera.captured_ms > camera.received_ms + AHEAD_S * 1000:
        return camera.received_ms
    return min(camera.captured_ms, camera.received_ms)


def is_silent(seen_ms: int | None, now_ms: int) -> bool:
    return seen_ms is None or now_ms - seen_ms > wire.SILENT_S * 1000


def tile(camera: Camera, now_ms: int) -> Tile:
    taken_ms = still_ms(camera)
    state, why = _verdict(camera, taken_ms, now_ms)
    return Tile(state, why, taken_ms)


def _verdict(camera: Camera, taken_ms: int, now_ms: int) -> tuple[str, dict[str, Any]]:
    if camera.seen_ms is None:
        return UNKNOWN, {"key": "box never heard"}
    if is_silent(camera.seen_ms, now_ms):
        return SILENT, {"key": "box silent", "since_ms": camera.seen_ms}
    if not camera.heard:
        return UNKNOWN, {"key": "box does not name the camera"}
    if camera.heard.get("recording") is False:
        return DOWN, {
            "key": "not recording",
            "cause": _text(camera.heard.get("cause")),
            "since_ms": _ms(camera.heard.get("since_ms")),
        }
    for each in camera.states:
        if (each.kind == "camera" and each.state == "down") or (each.kind == "tamper" and each.state == "no picture"):
            return DOWN, {"key": "no picture", "since_ms": each.since_ms}
    for each in camera.states:
        if each.kind == "tamper" and each.state in _TAMPERED:
            return TAMPERED, {"key": each.state, "since_ms": each.since_ms}
    for each in camera.states:
        if each.kind == "tamper" and each.state == "dark":
            return DARK, {"key": "dark", "since_ms": each.since_ms}
    if not taken_ms:
        return UNKNOWN, {"key": "no picture yet"}
    if since_ms := _ms(camera.heard.get("same_since_ms")):  # the box compared keyframes byte by byte
        return TAMPERED, {"key": "same picture", "since_ms": since_ms}
    if now_ms - taken_ms > LATE_S * 1000:
        return LATE, {"key": "picture late", "since_ms": taken_ms}
    if camera.captured_ms > camera.received_ms + AHEAD_S * 1000:
        return LIVE, {"key": "box clock ahead", "ahead_ms": camera.captured_ms - camera.received_ms}
    return LIVE, {}


def doubt(camera: Camera, now_ms: int) -> dict[str, Any] | None:
    """Why what a rule of this camera said may not be believed now; None: it may. A late still alone is no doubt: the heartbeat carries states."""
    found = tile(camera, now_ms)
    if found.state in BLIND and found.why.get("key") != "no picture yet":
        return found.why
    looked_at = camera.heard.get("looked_at", "yes")
    if looked_at != "yes":
        return {
            "key": "nobody looks",
            "detail": _text(looked_at),
        }  # detection does not run, or sees nothing: its last word is old
    if now_ms - camera.heartbeat_ms > CONFIRMED_S * 1000:
        return {"key": "not confirmed", "since_ms": camera.heartbeat_ms}  # its other messages still come
    return None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _ms(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
