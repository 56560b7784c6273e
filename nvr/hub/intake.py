"""What the messages of boxes do to the tables. Everything in them is hostile: bounded, made plain, and never decoded here.

`prepare()` runs before the transaction (signatures, files), `apply()` inside it, both in the committer's thread, for many boxes at once.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from nvr import wire
from nvr.hub import commands, joining, states, tables
from nvr.hub.changes import Changes
from nvr.hub.checking import CAMERAS_MOST, Row, word
from nvr.hub.committer import Item
from nvr.hub.database import Store, upsert
from nvr.hub.identity import Box
from nvr.hub.stills import Stills, still_fault

log = logging.getLogger(__name__)

EventHook = Callable[[Connection, list[Row]], None]
BoxHook = Callable[[Connection, str, list[Row]], None]


@dataclass(slots=True)
class Speaker:
    """What this process knows of a box that is connected; changed by the committer's thread only, after the first hello."""

    box: Box
    connection_id: str
    cameras: dict[str, tuple[int, int]] = field(default_factory=dict)  # name -> (camera_id, place_id)
    states_digest: bytes = b""
    wall_says: frozenset[tuple[str, bool, bool]] = (
        frozenset()
    )  # of its last heartbeat, what tiles show: name, recording, frozen
    minute: int = 0  # of the last row in the history


class Intake:
    def __init__(self, store: Store, changes: Changes, stills: Stills, now_ms: Callable[[], int]) -> None:
        self._store, self._changes, self._stills, self._now_ms = store, changes, stills, now_ms
        self.on_events: list[EventHook] = []
        self.on_boxes: list[BoxHook] = []
        self._told_ms = 0
        self._after: list[Callable[[], object]] = []
        self._news: dict[str, set[Any]] = {"wall": set(), "places": set(), "boxes": set()}

    # -- before the transaction

    def prepare(self, items: list[Item]) -> None:
        for item in items:
            if item.kind == "still":
                self._prepare_still(item)

    def _prepare_still(self, item: Item) -> None:
        """Check it and put its bytes where they lie; the row follows. Bytes of the newest still need not survive a power cut."""
        message, speaker = item.message, item.box
        camera = speaker.cameras.get(message.body["camera"])
        if camera is None:
            item.refusal = f"no camera {message.body['camera']}"
            return
        fault = still_fault(message, speaker.box.public_key)
        if fault:
            item.refusal = fault
            return
        item.prepared = camera
        self._stills.put_newest(camera[0], message.body["captured_ms"], item.received_ms, message.payload)

    # -- inside the transaction

    def committed(self) -> None:
        """What apply() stored is durable: now this process may rely on it."""
        for remember in self._after:
            remember()
        self._after = []

    def apply(self, connection: Connection, items: list[Item]) -> None:
        """May be called again with the same items when the database took nothing; so nothing is remembered before committed()."""
        self._after = []
        for item in items:
            item.refusal, item.acks = "", ()
        of_kind: dict[str, list[Item]] = {}
        for item in items:
            of_kind.setdefault(item.kind, []).append(item)
        for item in of_kind.get("hello", ()):
            self._hello(connection, item)
        self._seen(connection, items)
        has_turned = self._heartbeats(connection, of_kind.get("heartbeat", []))
        self._stills_kept(connection, of_kind.get("kept", []))  # before their events, which look for them
        self._events(connection, of_kind.get("event", []))
        self._stills_newest(connection, of_kind.get("still", []))
        for item in of_kind.get("reply", ()):
            if not commands.answered(connection, item.box.box.id, item.message, item.received_ms):
                item.refusal = "no such command"
        self._tell(connection, urgent=has_turned or "event" in of_kind or "hello" in of_kind)

    def _seen(self, connection: Connection, items: list[Item]) -> None:
        """Every box that said something is here; those that were not are back."""
        heard = {item.box.box.id: item.received_ms for item in items}
        table = tables.box
        with_heartbeat = {item.box.box.id for item in items if item.kind == "heartbeat"}  # their row is written with it
        listed = [{"b_id": box_id, "b_seen": heard[box_id]} for box_id in sorted(heard.keys() - with_heartbeat)]
        if listed:
            connection.execute(
                update(table).where(table.c.id == bindparam("b_id")).values(seen_ms=bindparam("b_seen")), listed
            )
        back: list[Row] = []
        for some in _chunks(list(heard), 500):
            rows = (
                connection.execute(select(*SMALL_BOX).where(table.c.id.in_(some), table.c.state != "here"))
                .mappings()
                .all()
            )
            back += [dict(row) for row in rows]
        if back:
            now_ms = self._now_ms()
            connection.execute(
                update(table).where(table.c.id.in_([row["id"] for row in back])).values(state="here", since_ms=now_ms)
            )
            self._news["boxes"].update(row["id"] for row in back)
            self.run_hooks(connection, self.on_boxes, "back", back)

    def _hello(self, connection: Connection, item: Item) -> None:
        speaker = item.box
        try:
            speaker.cameras = joining.join(
                connection, speaker.box, speaker.connection_id, item.message.body, item.received_ms
            )
        except wire.WireError as error:
            item.refusal = str(error)
            return
        self._changes.tell(connection, "taken", [f"{speaker.box.id}:{speaker.connection_id}"])
        self._news["boxes"].add(speaker.box.id)
        self._news["wall"].update(camera_id for camera_id, _ in speaker.cameras.values())
        self._news["places"].update(place_id for _, place_id in speaker.cameras.values())

    def _heartbeats(self, connection: Connection, items: list[Item]) -> bool:
        """Whether a camera went down, froze or is back."""
        if not items:
            return False
        table = tables.box
        connection.execute(
            update(table)
            .where(table.c.id == bindparam("b_id"))
            .values(heartbeat=bindparam("b_body"), heartbeat_ms=bindparam("b_at"), seen_ms=bindparam("b_at"), slot=bindparam("b_slot")),
            [
                {
                    "b_id": item.box.box.id, "b_at": item.received_ms, "b_body": item.message.body,
                    "b_slot": word(item.message.body.get("slot"), 20),
                }
                for item in items
            ],
        )  # fmt: skip
        history, has_turned = [], False
        for item in items:
            speaker, minute = item.box, item.received_ms // 60_000
            if minute != speaker.minute:
                history.append({"box_id": speaker.box.id, "minute": minute, "body": small_heartbeat(item.message.body)})
                self._after.append(functools.partial(setattr, speaker, "minute", minute))
            self._states(connection, speaker, item)
            has_turned = self._wall(speaker, item.message.body) or has_turned
        if history:
            connection.execute(
                upsert(connection, tables.heartbeat_history).on_conflict_do_nothing(
                    index_elements=["box_id", "minute"]
                ),
                history,
            )
        self._news["boxes"].update(item.box.box.id for item in items)
        return has_turned

    def _wall(self, speaker: Speaker, body: Row) -> bool:
        """Pages hear at once of a camera that went down or froze, and of one that is back."""
        cameras = body.get("cameras")
        says = frozenset(
            (name, camera.get("recording") is not False, bool(camera.get("same_since_ms")))
            for name, camera in (cameras if isinstance(cameras, dict) else {}).items()
            if isinstance(camera, dict)
        )
        has_turned = says != speaker.wall_says
        if has_turned:
            changed = {name for name, _, _ in says ^ speaker.wall_says}
            self._news["wall"].update(camera_id for name, (camera_id, _) in speaker.cameras.items() if name in changed)
            self._after.append(lambda: setattr(speaker, "wall_says", says))
        return has_turned

    def _states(self, connection: Connection, speaker: Speaker, item: Item) -> None:
        """Only where they are others than the heartbeat before said."""
        told = item.message.body.get("states")
        if not isinstance(told, list):
            return
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).digest()
        if digest == speaker.states_digest:
            return
        states.take_heartbeat(connection, speaker.cameras, told, item.received_ms)
        self._after.append(lambda: setattr(speaker, "states_digest", digest))
        self._news["places"].update(place_id for _, place_id in speaker.cameras.values())

    def _events(self, connection: Connection, items: list[Item]) -> None:
        """New ones are stored with their state and their alerts; known ones are only acknowledged again."""
        if not items:
            return
        table = tables.event
        ids = list({item.message.body["id"] for item in items})
        known: dict[str, Row] = {}
        for some in _chunks(ids, 500):
            for row in connection.execute(
                select(table.c.id, table.c.box_id, table.c.still_sha256, table.c.has_still).where(table.c.id.in_(some))
            ):
                known[row.id] = dict(row._mapping)
        new: dict[str, Row] = {}
        for item in items:
            speaker, body = item.box, item.message.body
            event_id = body["id"]
            before = known.get(event_id) or new.get(event_id)
            if before is not None:
                if before["box_id"] != speaker.box.id:
                    item.refusal = "this event is another box's"
                elif before["still_sha256"] is not None and body["still_sha256"] is None and not before["has_still"]:
                    # The box has lost the still: nothing to wait for any more.
                    connection.execute(update(table).where(table.c.id == event_id).values(still_sha256=None))
                    before["still_sha256"] = None
                _acknowledge(item, before)
                continue
            camera = speaker.cameras.get(body["camera"])
            if camera is None:
                item.refusal = f"no camera {body['camera']}"
                continue
            new[event_id] = self._event_row(connection, speaker, body, camera, item.received_ms)
            _acknowledge(item, new[event_id])
        if new:
            connection.execute(insert(table), list(new.values()))
            for item in items:
                item.box.states_digest = (
                    b""  # the next heartbeat is compared with what is stored, not with the one before
                )
            states.take_events(connection, list(new.values()))
            for stored in new.values():
                self._news["places"].add(stored["place_id"])
                self._news["wall"].add(stored["camera_id"])
            self.run_hooks(connection, self.on_events, list(new.values()))

    def _event_row(
        self, connection: Connection, speaker: Speaker, body: Row, camera: tuple[int, int], received_ms: int
    ) -> Row:
        is_time_known = body["from_ms"] is not None
        from_ms = body["from_ms"] if is_time_known else received_ms
        still_sha256, has_still = body["still_sha256"], False
        if still_sha256 is not None:
            table = tables.object_
            has_still = (
                connection.execute(
                    select(table.c.id).where(table.c.box_id == speaker.box.id, table.c.sha256 == still_sha256)
                ).first()
                is not None
            )
        return {
            "id": body["id"], "tenant_id": speaker.box.tenant_id, "box_id": speaker.box.id, "camera_id": camera[0], "place_id": camera[1],
            "kind": body["kind"], "zone": body["zone"], "state": body["state"], "is_end": body["is_end"], "is_moment": body["is_moment"],
            "from_ms": from_ms, "to_ms": max(from_ms, body["to_ms"] or from_ms), "is_time_known": is_time_known, "received_ms": received_ms,
            "value": body["value"], "body": body, "still_sha256": still_sha256, "has_still": has_still, "clip_sha256": None,
        }  # fmt: skip

    def _stills_newest(self, connection: Connection, items: list[Item]) -> None:
        if not items:
            return
        rows = [
            {
                "camera_id": item.prepared[0], "captured_ms": item.message.body["captured_ms"], "received_ms": item.received_ms,
                "clock_state": item.message.body["clock_state"], "sha256": item.message.body["sha256"],
                "signature": item.message.body["signature"], "size_bytes": len(item.message.payload),
            }
            for item in items
        ]  # fmt: skip
        statement = upsert(connection, tables.still)
        changed = {key: statement.excluded[key] for key in rows[0] if key != "camera_id"}
        connection.execute(statement.on_conflict_do_update(index_elements=["camera_id"], set_=changed), rows)
        self._stills.put_rows(
            connection,
            [
                (row["camera_id"], row["captured_ms"], row["received_ms"], item.message.payload)
                for row, item in zip(rows, items, strict=True)
            ],
        )
        self._news["wall"].update(row["camera_id"] for row in rows)

    def _stills_kept(self, connection: Connection, items: list[Item]) -> None:
        """Stills of events; their bytes are in the blobs, durable, before they come here."""
        for item in items:
            row = item.prepared
            connection.execute(
                upsert(connection, tables.object_)
                .values(**row)
                .on_conflict_do_nothing(index_elements=["box_id", "sha256"])
            )
            table = tables.event
            connection.execute(
                update(table)
                .where(
                    table.c.box_id == row["box_id"], table.c.still_sha256 == row["sha256"], table.c.has_still.is_(False)
                )
                .values(has_still=True)
            )
            waited = select(table.c.id).where(table.c.box_id == row["box_id"], table.c.still_sha256 == row["sha256"])
            item.acks = tuple(connection.execute(waited).scalars())
            self._news["places"].add(row["place_id"])

    # -- telling

    def _tell(self, connection: Connection, *, urgent: bool) -> None:
        """Once a second for what changes all the time, at once for events."""
        now_ms = self._now_ms()
        if not urgent and 0 <= now_ms - self._told_ms < 1000:
            return
        for what, ids in self._news.items():
            if ids:
                self._changes.tell(connection, what, sorted(ids))
        self._after.append(functools.partial(self._told, now_ms))

    def _told(self, now_ms: int) -> None:
        self._told_ms = now_ms
        for ids in self._news.values():
            ids.clear()

    def run_hooks(self, connection: Connection, hooks: Iterable[Callable[..., None]], *arguments: Any) -> None:
        """Each in a savepoint: what somebody makes of an event never keeps the event from being stored."""
        for hook in hooks:
            try:
                with connection.begin_nested():
                    hook(connection, *arguments)
            except Exception:
                log.exception(
                    "%s failed; what it was told about is stored all the same", getattr(hook, "__qualname__", hook)
                )


SMALL_BOX = (
    tables.box.c.id, tables.box.c.tenant_id, tables.box.c.name, tables.box.c.site, tables.box.c.state,
    tables.box.c.since_ms, tables.box.c.seen_ms,
)  # fmt: skip


def _acknowledge(item: Item, row: Row) -> None:
    """An event whose still is not here yet is stored, and not acknowledged: the box says both again."""
    if not item.refusal and (row["still_sha256"] is None or row["has_still"]):
        item.acks = (row["id"],)


def _chunks(values: list[Any], size: int) -> Iterable[list[Any]]:
    return (values[begin : begin + size] for begin in range(0, len(values), size))


def small_heartbeat(body: Row) -> Row:
    """What a graph of the last weeks needs of a heartbeat: `cameras` is {name: true while it records, else the cause}."""
    cameras = body.get("cameras")
    told = cameras.items() if isinstance(cameras, dict) else ()
    small: Row = {
        "cameras": {
            name[:63]: True if each.get("recording") else word(each.get("cause"), 40) or "unknown"
            for name, each in list(told)[:CAMERAS_MOST]
            if isinstance(each, dict)
        }
    }
    for key in ("temperature_c", "load", "uplink", "outbox", "disk", "clock", "slot"):
        value = body.get(key)
        if isinstance(value, dict):
            value = {
                name: each
                for name, each in list(value.items())[:12]
                if isinstance(each, int | float | str) or each is None
            }
        if isinstance(value, int | float | str | dict):
            small[key] = value
    return small
