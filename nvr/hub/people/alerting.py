"""Keeps alerts in the tables: what events and the hub's own look at its boxes make of them. Decisions are in alerts.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, insert, select, update

from nvr.hub import tables as core
from nvr.hub.parts import Hub
from nvr.hub.people import alerts, current, guard, hours, outgoing, tables

BOXES_AT_ONCE = 500


def zone_of(hub: Hub) -> ZoneInfo:
    return ZoneInfo(hub.settings.city.time_zone)


def value_of(row: Any) -> alerts.Alert:
    return alerts.Alert(
        row.state, row.value, row.kind, row.what, row.first_ms, row.last_ms, row.times, tuple(row.signs), tuple(row.event_ids),
        row.over_ms, row.due_ms,
    )  # fmt: skip


def _columns(alert: alerts.Alert) -> dict[str, Any]:
    return {
        "state": alert.state, "value": alert.value, "kind": alert.kind, "what": alert.what, "first_ms": alert.first_ms,
        "last_ms": alert.last_ms, "times": alert.count, "signs": list(alert.signs), "event_ids": list(alert.event_ids),
        "over_ms": alert.over_ms, "due_ms": alert.due_ms,
    }  # fmt: skip


def step(
    connection: Connection,
    hub: Hub,
    row: Any,
    now: alerts.Alert,
    who: str,
    what: str,
    more: Mapping[str, Any],
    now_ms: int,
) -> None:
    """Bring an alert where `now` says, with a line in its history. Raises Refused 409 when somebody else did it meanwhile."""
    table = tables.alert
    unchanged = update(table).where(table.c.id == row.id, table.c.version == row.version)
    if connection.execute(unchanged.values(**_columns(now), version=row.version + 1)).rowcount != 1:
        raise guard.Refused(409, "changed meanwhile", "somebody changed this alert just now", hint="Reload it.")
    add_step(connection, row.id, who, what, more, now_ms)
    hub.changes.tell(connection, "alerts", [row.id])
    if who:  # what people do is for webhooks; messages to phones are for what happens
        outgoing.alert_changed(
            connection, row.tenant_id, {**row._mapping, **_columns(now)}, what, who, more, now_ms, zone=None
        )


def add_step(connection: Connection, alert_id: int, who: str, what: str, more: Mapping[str, Any], now_ms: int) -> None:
    connection.execute(
        insert(tables.alert_step).values(alert_id=alert_id, at_ms=now_ms, who=who, what=what, more=dict(more))
    )


def open_alert(
    connection: Connection, tenant_id: int, box_id: str | None, camera_id: int | None, place_id: int | None, alert: alerts.Alert,
    numbers: Mapping[str, Any],
) -> int:  # fmt: skip
    inserted = connection.execute(
        insert(tables.alert).values(
            tenant_id=tenant_id, place_id=place_id, box_id=box_id, camera_id=camera_id, family=alerts.family(alert.kind),
            numbers=dict(numbers), **_columns(alert),
        )
    )  # fmt: skip
    return int(inserted.inserted_primary_key[0])  # type: ignore[index]


def take_sign(
    connection: Connection, hub: Hub, tenant_id: int, box_id: str, camera_id: int | None, place_id: int | None, sign: alerts.Sign,
    numbers: Mapping[str, Any], now_ms: int,
) -> int | None:  # fmt: skip
    """The alert a sign became part of; None: an end of nothing that is known. In the transaction that stores its event."""
    table = tables.alert
    family = alerts.family(sign.kind)
    of_camera = table.c.camera_id.is_(None) if camera_id is None else table.c.camera_id == camera_id
    rows = connection.execute(
        select(table)
        .where(table.c.box_id == box_id, of_camera, table.c.family == family, table.c.state != alerts.DONE)
        .order_by(table.c.id.desc())
        .limit(10)
        .with_for_update()  # somebody may be acknowledging it in this moment (SQLite has one writer anyway)
    ).all()
    row = next((each for each in rows if alerts.joins(value_of(each), sign)), None)
    if row is None:
        if sign.is_over:
            return None
        now = alerts.opened(sign)
        alert_id = open_alert(connection, tenant_id, box_id, camera_id, place_id, now, numbers)
        add_step(
            connection, alert_id, "", "opened", {"kind": sign.kind, "what": sign.what, "event": sign.event_id}, now_ms
        )
        hub.changes.tell(connection, "alerts", [alert_id])
        told = {
            "id": alert_id, "family": family, "place_id": place_id, "camera_id": camera_id, "box_id": box_id, "numbers": numbers,
            **_columns(now),
        }  # fmt: skip
        outgoing.alert_changed(connection, tenant_id, told, "opened", "", {}, now_ms, zone=zone_of(hub))
        return alert_id
    before = value_of(row)
    if sign.event_id and sign.event_id in before.event_ids:
        return int(row.id)  # told twice
    now = alerts.after(before, sign)
    merged = dict(numbers) if not sign.is_over and numbers else row.numbers
    connection.execute(
        update(table).where(table.c.id == row.id).values(**_columns(now), numbers=merged, version=row.version + 1)
    )
    if now.over_ms and not before.over_ms:
        add_step(connection, row.id, "", "over", {"kind": sign.kind, "what": sign.what, "event": sign.event_id}, now_ms)
    if alerts.is_news(before, now):
        add_step(
            connection, row.id, "", "again", {"kind": sign.kind, "what": sign.what, "event": sign.event_id}, now_ms
        )
        outgoing.alert_changed(
            connection, tenant_id, {**row._mapping, **_columns(now)}, "again", "", {}, now_ms, zone=zone_of(hub)
        )
    elif before.over_ms and not now.over_ms:  # nobody is told twice, but the history is whole
        add_step(
            connection, row.id, "", "again", {"kind": sign.kind, "what": sign.what, "event": sign.event_id}, now_ms
        )
    hub.changes.tell(connection, "alerts", [row.id])
    return int(row.id)


# -- from events, in the transaction that stores them -----------------------------------------------------------


def take_events(connection: Connection, hub: Hub, rows: Iterable[Mapping[str, Any]], now_ms: int) -> None:
    """New events: alerts, tallies of what crossed lines, and what webhooks get. Each event comes here once."""
    rows = list(rows)
    for row in rows:
        body = row["body"] if isinstance(row["body"], dict) else {}
        sign = alerts.sign_of(
            row["kind"],
            row["state"],
            row["zone"],
            at_ms=row["from_ms"],
            is_end=row["is_end"],
            event_id=row["id"],
            value=row["value"],
        )
        if sign is not None:
            numbers = current.numbers(body.get("numbers"))
            take_sign(
                connection,
                hub,
                row["tenant_id"],
                row["box_id"],
                row["camera_id"],
                row["place_id"],
                sign,
                numbers,
                now_ms,
            )
    take_crossings(connection, rows)
    outgoing.events_stored(connection, rows, now_ms)


def take_crossings(connection: Connection, rows: Iterable[Mapping[str, Any]]) -> None:
    counts: dict[tuple[int, int, str, str, str], int] = {}
    for row in rows:
        if (row["kind"], row["state"]) != ("line_crossing", "crossed"):
            continue
        words = row["body"].get("words") if isinstance(row["body"], dict) else None
        words = words if isinstance(words, dict) else {}
        key = (
            row["camera_id"],
            hours.hour_of_ms(row["from_ms"]),
            row["zone"],
            _word(words.get("class")),
            _word(words.get("direction")),
        )
        counts[key] = counts.get(key, 0) + 1
    table = tables.tally
    for key in sorted(counts):
        this = dict(zip(("camera_id", "hour_ms", "line", "thing", "direction"), key, strict=True))
        same = [table.c[name] == value for name, value in this.items()]
        added = update(table).where(*same).values(crossed=table.c.crossed + counts[key])
        if connection.execute(added).rowcount == 0:
            # Two processes at the same hour's first crossing: whoever comes second adds.
            with connection.begin_nested() as savepoint:
                try:
                    connection.execute(insert(table).values(**this, crossed=counts[key]))
                except Exception:
                    savepoint.rollback()
                    connection.execute(added)


def _word(value: Any) -> str:
    return value[:40] if isinstance(value, str) and value else "unknown"


# -- what the hub itself notices, by the one worker ---------------------------------------------------------------


def look_at_boxes(connection: Connection, hub: Hub, now_ms: int, after_id: str = "") -> str:
    """Compare some boxes with how they were at the last look; the id to go on after, "" at the end. Blocked ones are left out."""
    box, signs_table = core.box, tables.box_signs
    rows = connection.execute(
        select(box.c.id, box.c.tenant_id, box.c.seen_ms, box.c.enrolled_ms, box.c.heartbeat, signs_table.c.signs)
        .outerjoin(signs_table, signs_table.c.box_id == box.c.id)
        .where(box.c.id > after_id, box.c.blocked.is_(False))
        .order_by(box.c.id)
        .limit(BOXES_AT_ONCE)
    ).all()
    for row in rows:
        found = alerts.conditions(row.seen_ms or None, row.heartbeat or {}, now_ms, was_enrolled_ms=row.enrolled_ms)
        _compare(connection, hub, row, found, now_ms)
    return rows[-1].id if len(rows) == BOXES_AT_ONCE else ""


def _compare(connection: Connection, hub: Hub, row: Any, found: list[alerts.Condition], now_ms: int) -> None:
    before: dict[str, list[str]] = row.signs or {}
    is_silent = any(each.kind == "box silent" for each in found)
    now: dict[str, list[alerts.Condition]] = {}
    for each in found:
        now.setdefault(each.camera, []).append(each)
    cameras: dict[str, Any] = {}
    if any(before) or any(now):  # keys other than "": names of cameras
        table = core.camera
        cameras = {
            each.name: each
            for each in connection.execute(
                select(table.c.id, table.c.name, table.c.place_id).where(table.c.box_id == row.id)
            )
        }
    after: dict[str, list[str]] = {}
    for name in sorted({*before, *now}):
        if is_silent and name:
            after[name] = before.get(name, [])  # nothing is known of its cameras: what was true neither ends nor begins
            continue
        if name and name not in cameras:
            continue
        conditions = now.get(name, [])
        numbers = {f"{each.kind}/{each.what}/": each.numbers for each in conditions}
        for sign in alerts.signs_of(before.get(name, []), conditions, now_ms):
            camera = cameras.get(name)
            take_sign(
                connection, hub, row.tenant_id, row.id, camera.id if camera else None, camera.place_id if camera else None, sign,
                numbers.get(sign.key, {}), now_ms,
            )  # fmt: skip
        after[name] = [f"{each.kind}/{each.what}/" for each in conditions]
    after = {name: keys for name, keys in after.items() if keys}
    if after == before:
        return
    table = tables.box_signs
    if connection.execute(update(table).where(table.c.box_id == row.id).values(signs=after)).rowcount == 0:
        connection.execute(insert(table).values(box_id=row.id, signs=after))


def bring_back_overdue(connection: Connection, hub: Hub, now_ms: int) -> int:
    """Alerts whose instruction was not done in time are open again, and told; how many."""
    table = tables.alert
    rows = connection.execute(
        select(table)
        .where(table.c.due_ms > 0, table.c.due_ms <= now_ms, table.c.state != alerts.DONE)
        .order_by(table.c.id)
        .limit(200)
        .with_for_update()
    ).all()
    for row in rows:
        now = alerts.overdue(value_of(row))
        step(connection, hub, row, now, "", "overdue", {"due_ms": row.due_ms}, now_ms)
        instruction = tables.instruction
        connection.execute(
            update(instruction)
            .where(
                instruction.c.alert_id == row.id,
                instruction.c.done_ms == 0,
                instruction.c.overdue_ms == 0,
                instruction.c.due_ms <= now_ms,
            )
            .values(overdue_ms=now_ms)
        )
        urgent = {**row._mapping, **_columns(now)}
        outgoing.alert_changed(
            connection, row.tenant_id, urgent, "overdue", "", {"due_ms": row.due_ms}, now_ms, zone=zone_of(hub)
        )
    return len(rows)
