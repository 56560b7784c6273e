"""What a box says first, and of itself every ten seconds (docs/formats/wire.md): bodies of messages, made of what others told. Pure.

What is read from the system for it is in `health.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nvr import wire
from nvr.events import State, Stored
from nvr.media import Cause, ClockReading
from nvr.site_settings import Camera, Site
from nvr.uplink.worth import value_of

STATES_MOST = 150  # some 700 bytes each; a message has 256 KiB
SILENT_S = 10.0  # `record` tells every second
DETAIL_MOST = 200


def hello(
    site: Site, boot_id: str, software: str, slot: str, digest: str, streams: Mapping[str, Any]
) -> dict[str, Any]:
    """`streams`: what `record` says of each, for the size of its pictures."""
    return {
        "box": site.box, "site": site.name, "boot_id": boot_id, "software": software, "slot": slot,
        "time_zone": site.time_zone.key, "site_digest": digest,
        "cameras": [_camera(camera, site, streams) for camera in site.cameras],
    }  # fmt: skip


def _camera(camera: Camera, site: Site, streams: Mapping[str, Any]) -> dict[str, Any]:
    recorded = [stream.name for stream in site.recorded_streams() if stream.name.partition("/")[0] == camera.name]
    return {
        "camera": camera.name, "place": camera.place, "template": camera.template,
        "streams": [
            {"stream": name, "codec": "h264", "width": _whole(streams, name, "width"), "height": _whole(streams, name, "height")}
            for name in recorded
        ],
        "zones": {zone.name: [list(corner) for corner in zone.corners] for zone in camera.zones},
        "lines": {line.name: {"from": list(line.start), "to": list(line.end)} for line in camera.lines},
        "rules": [{"rule": rule.name, **rule.settings} for rule in camera.rules],
        "hours": [[time.day, time.from_min, time.to_min] for time in camera.hours],
    }  # fmt: skip


def _whole(streams: Mapping[str, Any], name: str, key: str) -> int:
    value = streams.get(name, {}).get(key)
    return value if isinstance(value, int) else 0


def event_body(
    stored: Stored, box_id: bytes, clip: str | None, still_sha256: str | None, from_ms: int | None
) -> dict[str, Any]:
    """An event as it goes to the hub; `from_ms` is the best that is known of when it was, None unknown."""
    event = stored.event
    body: dict[str, Any] = {
        "id": wire.event_id(box_id, stored.life, stored.number), "event": _told(stored, from_ms), "boot_id": stored.evidence.boot_id,
        "from_mono_ns": event.from_ns, "to_mono_ns": event.to_ns, "value": value_of(stored),
    }  # fmt: skip
    if clip is not None:
        body["clip"] = clip
    if still_sha256 is not None:
        body["still_sha256"] = still_sha256
    return body


def _told(stored: Stored, from_ms: int | None) -> dict[str, Any]:
    length_ms = (stored.event.to_ns - stored.event.from_ns) // 1_000_000
    return {**stored.to_json(), "from_ms": from_ms, "to_ms": None if from_ms is None else from_ms + length_ms}


def states_body(states: Iterable[State], life: str, box_id: bytes) -> list[dict[str, Any]]:
    """What is true now, by the detect process that runs (`life`); nothing is claimed for one that is gone."""
    now = [state for state in states if state.life == life and state.open > 0 and not state.stored.event.is_end]
    bodies = []
    for state in now[-STATES_MOST:]:
        stored, wall_ns = state.stored, state.stored.event.wall_ns
        body = _told(stored, None if wall_ns is None else wall_ns // 1_000_000)
        bodies.append(
            {**body, "tracks": [], "id": wire.event_id(box_id, stored.life, stored.number), "open": state.open}
        )
    return bodies


def cameras_body(
    site: Site, record: Mapping[str, Any], silent_s: float, looks: Mapping[str, Any], same_since_ms: Mapping[str, int], now_ms: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Per camera: recorded or not, and why; `looks`: what `detect` says of each; `same_since_ms`: see frozen.py. `now_ms`: wall time, 0 where nobody knows it."""
    told = record.get("streams")
    streams = told if isinstance(told, dict) and silent_s <= SILENT_S else {}
    silent_since_ms = now_ms - round(silent_s * 1000) if now_ms else 0
    body = {}
    for camera in site.cameras:
        stream = streams.get(f"{camera.name}/main") or {
            "recording": False, "cause": Cause.BOX_OFF.value, "detail": "the recorder says nothing", "since_ms": silent_since_ms,
        }  # fmt: skip
        body[camera.name] = {
            "recording": bool(stream.get("recording")),
            "cause": stream.get("cause"),
            "detail": str(stream.get("detail") or "")[:DETAIL_MOST],
            "since_ms": stream.get("since_ms") or 0,
            "fps": stream.get("pictures_per_s") or 0.0,
            "kbit_s": round((stream.get("bits_per_s") or 0) / 1000),
            "lost_packets": stream.get("lost_packets") or 0,
            "looked_at": _looked_at(camera, looks),
            "same_since_ms": same_since_ms.get(camera.name, 0),
        }
    return body


def _looked_at(camera: Camera, looks: Mapping[str, Any]) -> str:
    """ "no": nobody asked for it; "yes"; else why not."""
    if not camera.is_looked_at:
        return "no"
    told = looks.get(camera.name)
    if not isinstance(told, dict):
        return "detection does not run"
    return str(told.get("trouble") or "")[:DETAIL_MOST] or ("yes" if told.get("has_picture") else "no picture")


def clock_body(record: Mapping[str, Any], reading: ClockReading) -> dict[str, Any]:
    """The recorder's own clock state where it tells, because its footage carries that."""
    clock = record.get("clock")
    if isinstance(clock, dict) and isinstance(clock.get("state"), str) and isinstance(clock.get("error_ms"), int):
        return {"state": clock["state"], "error_ms": clock["error_ms"]}
    return {"state": reading.state.name.lower(), "error_ms": reading.error_ns // 1_000_000}
