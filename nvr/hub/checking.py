"""What boxes say, checked: every key that the tables want, of the right kind, bounded, and plain enough for every database and browser.

Pure. Each function returns a value or raises wire.WireError, for whatever a network brings.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from nvr import wire
from nvr.hub.identity import plain

CAMERAS_MOST = 64  # of one box, in one site file
TEXT_MOST = 4_000
ITEMS_MOST = 20_000  # values in one message
DEPTH_MOST = 12
MS_MOST = 253_402_300_799_000  # the end of the year 9999

Row = dict[str, Any]


def bounded(value: Any, where: str) -> Any:
    """JSON that every database and browser takes: plain text, finite numbers, not deeper or larger than anybody needs. Raises WireError."""
    left = ITEMS_MOST

    def walk(value: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0 or depth > DEPTH_MOST:
            raise wire.WireError(f"{where} holds more than {ITEMS_MOST} values or is deeper than {DEPTH_MOST}")
        if isinstance(value, str):
            return plain(value[:TEXT_MOST])
        if isinstance(value, dict):
            return {plain(str(key)[:200]): walk(each, depth + 1) for key, each in value.items()}
        if isinstance(value, list):
            return [walk(each, depth + 1) for each in value]
        if isinstance(value, float):
            return value if math.isfinite(value) else None
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 2**62:
            return None
        return value

    return walk(value, 0)


def checked(message: wire.Message) -> wire.Message:
    """A message of a box with every key that the tables want in it, of the right kind. Raises WireError."""
    body = _CHECKS[message.kind](wire.Message(message.kind, bounded(dict(message.body), message.kind), message.payload))
    return wire.Message(message.kind, body, message.payload)


def _checked_hello(message: wire.Message) -> Row:
    cameras = message.body.get("cameras", [])
    if not isinstance(cameras, list) or len(cameras) > CAMERAS_MOST:
        raise wire.WireError(f"hello.cameras must be a list of at most {CAMERAS_MOST}")
    listed = [_checked_camera(each) for each in cameras]
    if len({each["camera"] for each in listed}) != len(listed):
        raise wire.WireError("hello.cameras names one twice")
    return {
        "box": message.name("box"), "site": message.name("site"), "boot_id": message.text("boot_id", most=64, default=""),
        "software": message.text("software", most=100, default=""), "slot": message.text("slot", most=20, default=""),
        "time_zone": message.text("time_zone", most=64, default=""), "site_digest": message.text("site_digest", most=64, default=""),
        "cameras": listed,
    }  # fmt: skip


def _checked_camera(value: Any) -> Row:
    if not isinstance(value, dict):
        raise wire.WireError("hello.cameras must hold objects")
    camera = wire.Message("hello.cameras", value)
    return {
        "camera": camera.name("camera"), "place": camera.name("place"), "template": camera.text("template", most=40, default=""),
        **{key: value.get(key) for key in ("streams", "zones", "lines", "rules", "hours")},
    }  # fmt: skip


def _checked_heartbeat(message: wire.Message) -> Row:
    return dict(message.body)


def _checked_event(outer: wire.Message) -> Row:
    """One flat object: what the event says itself, and over it what the message says of it."""
    more = {key: value for key, value in outer.body.items() if key != "event"}
    message = wire.Message("event", {**outer.object("event"), **more})
    body = dict(message.body)
    for key in ("from_ms", "to_ms"):
        if body.get(key) is not None:
            message.whole(key, most=MS_MOST)
        body.setdefault(key, None)
    still = body.get("still_sha256")
    if still is not None and not wire.is_sha256(still):
        raise wire.WireError("event.still_sha256 must be a SHA-256")
    for key in ("is_end", "is_moment"):
        if not isinstance(body.setdefault(key, False), bool):
            raise wire.WireError(f"event.{key} must be true or false")
    body.update(
        id=message.id(), camera=message.name("camera"), kind=message.text("kind", most=40), zone=message.text("zone", most=63, default=""),
        state=message.text("state", most=40), value=message.whole("value", most=wire.BULK, default=wire.STATE), still_sha256=still,
    )  # fmt: skip
    return body


def _checked_still(message: wire.Message) -> Row:
    event = message.body.get("event")
    clock = message.body.get("clock")
    return {
        "camera": message.name("camera"), "captured_ms": message.whole("captured_ms", most=MS_MOST),
        "sha256": message.text("sha256", most=64), "signature": message.text("signature", most=128),
        "event": None if event is None else message.id("event"),
        "clock_state": word(clock.get("state"), 20) if isinstance(clock, dict) else "",
    }  # fmt: skip


def _checked_reply(message: wire.Message) -> Row:
    if not isinstance(message.body.get("ok"), bool):
        raise wire.WireError("reply.ok must be true or false")
    more = message.body.get("more")
    return {
        "id": message.id(), "ok": message.body["ok"], "detail": message.text("detail", most=2000, default=""),
        "more": more if isinstance(more, dict) else None,
    }  # fmt: skip


def word(value: Any, most: int) -> str:
    """A text of at most so many characters; "" for what is none."""
    return value[:most] if isinstance(value, str) else ""


_CHECKS: dict[str, Callable[[wire.Message], Row]] = {
    "hello": _checked_hello,
    "heartbeat": _checked_heartbeat,
    "event": _checked_event,
    "still": _checked_still,
    "reply": _checked_reply,
}
