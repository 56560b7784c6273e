"""What is true now of each camera, rule and zone: moved by events in their order, and put right by the next heartbeat."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select

from nvr import wire
from nvr.hub import tables
from nvr.hub.checking import MS_MOST, Row, word
from nvr.hub.database import upsert

STATES_MOST = 512  # in one heartbeat: eight of each camera

# Rules whose states follow each other; of all others a state begins and ends by itself (nvr/events.py).
FOLLOWING = frozenset(("service_open", "queue", "congestion"))
BEGINS_AND_ENDS = frozenset((("queue", "long queue"),))

_STATE_KEY = ("camera_id", "kind", "zone", "slot")

Cameras = Mapping[str, tuple[int, int]]  # of one box: name -> (camera_id, place_id)


def take_heartbeat(connection: Connection, cameras: Cameras, told: list[Any], received_ms: int) -> None:
    """What a heartbeat says is true now is true now, whatever events say that were told late."""
    rows = {}
    for body in told[:STATES_MOST]:
        row = _state_row(cameras, body, received_ms)
        if row is not None:
            rows[row["camera_id"], row["kind"], row["zone"], row["slot"]] = row
    table = tables.state_now
    ids = [camera_id for camera_id, _ in cameras.values()]
    before = {
        (row.camera_id, row.kind, row.zone, row.slot): row
        for row in connection.execute(select(table).where(table.c.camera_id.in_(ids)))
    }
    _delete(connection, before.keys() - rows.keys())
    changed = []
    for key, row in rows.items():
        old = before.get(key)
        if old is not None and (old.state, old.open, old.body) == (row["state"], row["open"], row["body"]):
            continue
        if old is not None and old.state == row["state"] and row["event_id"] is None:
            row["event_id"] = old.event_id
        changed.append(row)
    _put(connection, changed)


def take_events(connection: Connection, events: list[Row]) -> None:
    """Events move what is true now, in their order, unless something newer is known already."""
    events = [row for row in events if not row["is_moment"]]
    if not events:
        return
    table = tables.state_now
    question = select(*(table.c[name] for name in _STATE_KEY), table.c.since_ms, table.c.open)
    cameras = list({row["camera_id"] for row in events})
    now = {tuple(row[:4]): tuple(row[4:]) for row in connection.execute(question.where(table.c.camera_id.in_(cameras)))}
    put: dict[tuple[Any, ...], Row] = {}
    gone: set[tuple[Any, ...]] = set()
    for row in events:
        slot = slot_of(row["kind"], row["state"])
        key = (row["camera_id"], row["kind"], row["zone"], slot)
        since_ms, were_open = now.get(key, (0, 0))
        if row["from_ms"] < since_ms:
            continue
        are_open = max(0, were_open + (-1 if row["is_end"] else 1)) if slot else 1
        if are_open:
            now[key] = (row["from_ms"], are_open)
            put[key] = {
                **dict(zip(_STATE_KEY, key, strict=True)), "state": row["state"], "open": are_open, "since_ms": row["from_ms"],
                "event_id": row["id"], "body": row["body"],
            }  # fmt: skip
            gone.discard(key)
        else:
            now.pop(key, None)
            put.pop(key, None)
            gone.add(key)
    _delete(connection, gone)
    _put(connection, list(put.values()))


def _delete(connection: Connection, keys: Iterable[tuple[Any, ...]]) -> None:
    listed = [{f"b_{name}": value for name, value in zip(_STATE_KEY, key, strict=True)} for key in keys]
    if listed:
        table = tables.state_now
        connection.execute(
            delete(table).where(*(table.c[name] == bindparam(f"b_{name}") for name in _STATE_KEY)), listed
        )


def _put(connection: Connection, rows: list[Row]) -> None:
    if rows:
        statement = upsert(connection, tables.state_now)
        changed = {key: statement.excluded[key] for key in ("state", "open", "since_ms", "event_id", "body")}
        connection.execute(
            statement.on_conflict_do_update(index_elements=list(_STATE_KEY), set_=changed),
            rows,
        )


def slot_of(kind: str, state: str) -> str:
    """Which state of its rule and zone an event changes (nvr/events.py has the same on the box)."""
    return "" if kind in FOLLOWING and (kind, state) not in BEGINS_AND_ENDS else state


def _state_row(cameras: Cameras, body: Any, received_ms: int) -> Row | None:
    """A state in a heartbeat as a row; None for one that cannot be read: the heartbeat counts all the same."""
    if not isinstance(body, dict):
        return None
    camera = cameras.get(str(body.get("camera")))
    kind, zone, state = word(body.get("kind"), 40), word(body.get("zone"), 63), word(body.get("state"), 40)
    if camera is None or not kind or not state:
        return None
    since_ms, event_id, is_open = body.get("from_ms"), body.get("id"), body.get("open", 1)
    return {
        "camera_id": camera[0], "kind": kind, "zone": zone, "slot": slot_of(kind, state), "state": state,
        "open": is_open if _is_whole(is_open, 10_000) else 1,
        "since_ms": since_ms if _is_whole(since_ms, MS_MOST) else received_ms,
        "event_id": event_id if wire.is_id(event_id) else None, "body": body,
    }  # fmt: skip


def _is_whole(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most
