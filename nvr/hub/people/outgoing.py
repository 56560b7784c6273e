"""The durable queue of what leaves the hub: messages to people (Apprise) and webhooks.

Put into the transaction of what it tells, so it is neither lost nor sent for something that never was. Sent by the one worker,
retried with back-off for three days, then given up and shown. A message may arrive twice when the hub dies between
sending and noting it; `Nvr-Delivery` lets a receiver notice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, case, delete, func, insert, select, update

from nvr.hub.people import quiet, tables

NOTIFICATION, WEBHOOK = "notification", "webhook"
_NEVER_MS = 2**60
KEPT_MS = 30 * 24 * 3_600_000  # of what was sent or given up


@dataclass(frozen=True, slots=True)
class Letter:
    """One message that waits."""

    id: int
    tenant_id: int
    channel: str
    target_id: int
    value: int
    body: Mapping[str, Any]
    created_ms: int
    due_ms: int
    tries: int


def alert_changed(
    connection: Connection, tenant_id: int, alert: Mapping[str, Any], what: str, who: str, more: Mapping[str, Any], now_ms: int, *,
    zone: ZoneInfo | None,
) -> None:  # fmt: skip
    """Queue an alert's step for those who want it. `zone`: the city's, for quiet hours; None: for webhooks only."""
    body = {
        "what": what, "who": who, "alert": int(alert["id"]), "kind": alert["kind"], "state_of_event": alert["what"],
        "family": alert["family"], "place_id": alert["place_id"], "camera_id": alert["camera_id"], "box": alert["box_id"],
        "state": alert["state"], "first_ms": alert["first_ms"], "last_ms": alert["last_ms"], "count": alert["times"],
        "numbers": dict(alert["numbers"] or {}), "more": dict(more), "at_ms": now_ms,
    }  # fmt: skip
    if zone is not None:
        table = tables.notification
        for row in connection.execute(
            select(table).where(table.c.tenant_id == tenant_id, table.c.is_on.is_(True))
        ).all():
            if row.families and alert["family"] not in row.families:
                continue
            if row.place_ids is not None and alert["place_id"] is not None and alert["place_id"] not in row.place_ids:
                continue
            due_ms = quiet.send_at_ms(now_ms, alert["value"], quiet.quiet_hours(row.quiet), zone)
            _put(connection, tenant_id, NOTIFICATION, row.id, alert["value"], body, now_ms, due_ms)
    _to_webhooks(connection, tenant_id, "alerts", alert["value"], body, now_ms)


def events_stored(connection: Connection, rows: Iterable[Mapping[str, Any]], now_ms: int) -> None:
    """Queue new events for webhooks that want them; not everybody who passed a line."""
    wanted = [row for row in rows if not row["is_moment"]]
    if (
        not wanted
        or connection.execute(select(tables.webhook.c.id).where(tables.webhook.c.is_on.is_(True)).limit(1)).first()
        is None
    ):
        return
    for row in wanted:
        body = {
            "what": "event", "event": row["id"], "kind": row["kind"], "state": row["state"], "zone": row["zone"], "is_end": row["is_end"],
            "camera_id": row["camera_id"], "place_id": row["place_id"], "box": row["box_id"], "from_ms": row["from_ms"],
            "to_ms": row["to_ms"], "at_ms": now_ms,
        }  # fmt: skip
        _to_webhooks(connection, row["tenant_id"], "events", row["value"], body, now_ms)


def _to_webhooks(
    connection: Connection, tenant_id: int, what: str, value: int, body: Mapping[str, Any], now_ms: int
) -> None:
    table = tables.webhook
    for row in connection.execute(select(table).where(table.c.tenant_id == tenant_id, table.c.is_on.is_(True))).all():
        if not row.what or what in row.what:
            _put(connection, tenant_id, WEBHOOK, row.id, value, body, now_ms, now_ms)


def _put(
    connection: Connection,
    tenant_id: int,
    channel: str,
    target_id: int,
    value: int,
    body: Mapping[str, Any],
    now_ms: int,
    due_ms: int,
) -> int:
    inserted = connection.execute(
        insert(tables.outgoing).values(
            tenant_id=tenant_id,
            channel=channel,
            target_id=target_id,
            value=value,
            body=dict(body),
            created_ms=now_ms,
            due_ms=due_ms,
        )
    )
    return int(inserted.inserted_primary_key[0])  # type: ignore[index]


def test(connection: Connection, tenant_id: int, target_id: int, who: str, now_ms: int) -> Letter:
    """A letter of no consequence, with a number of its own. It is due never: whoever made it delivers it, and notes that or drops it."""
    body = {"what": "test", "who": who, "at_ms": now_ms}
    number = _put(connection, tenant_id, WEBHOOK, target_id, 2, body, now_ms, _NEVER_MS)
    return Letter(number, tenant_id, WEBHOOK, target_id, 2, body, now_ms, _NEVER_MS, 0)


def drop(connection: Connection, letter: Letter) -> None:
    connection.execute(delete(tables.outgoing).where(tables.outgoing.c.id == letter.id))


def waiting(connection: Connection, channel: str, now_ms: int) -> dict[int, list[Letter]]:
    """What is due now, by target, the most urgent first."""
    table = tables.outgoing
    rows = connection.execute(
        select(table)
        .where(table.c.channel == channel, table.c.sent_ms == 0, table.c.failed_ms == 0, table.c.due_ms <= now_ms)
        .order_by(table.c.value, table.c.id)
        .limit(500)
    )
    found: dict[int, list[Letter]] = {}
    for row in rows:
        found.setdefault(row.target_id, []).append(
            Letter(
                row.id,
                row.tenant_id,
                row.channel,
                row.target_id,
                row.value,
                row.body,
                row.created_ms,
                row.due_ms,
                row.tries,
            )
        )
    return found


def sent(connection: Connection, letters: Iterable[Letter], now_ms: int) -> None:
    table = tables.outgoing
    ids = [each.id for each in letters]
    connection.execute(
        update(table).where(table.c.id.in_(ids)).values(sent_ms=now_ms, tries=table.c.tries + 1, trouble="")
    )


def failed(
    connection: Connection, letters: Iterable[Letter], trouble: str, now_ms: int, *, is_hopeless: bool = False
) -> None:
    """Try again later, or give up and say so."""
    table = tables.outgoing
    for each in letters:
        again_ms = None if is_hopeless else quiet.retry_at_ms(now_ms, each.tries + 1)
        values = {"failed_ms": now_ms} if again_ms is None else {"due_ms": again_ms}
        connection.execute(
            update(table).where(table.c.id == each.id).values(**values, tries=each.tries + 1, trouble=trouble[:300])
        )


def drop_old(connection: Connection, now_ms: int) -> None:
    table = tables.outgoing
    old_ms = now_ms - KEPT_MS
    connection.execute(delete(table).where((table.c.sent_ms > 0) & (table.c.sent_ms < old_ms)))
    connection.execute(delete(table).where((table.c.failed_ms > 0) & (table.c.failed_ms < old_ms)))
    connection.execute(delete(table).where((table.c.due_ms == _NEVER_MS) & (table.c.created_ms < old_ms)))


def drop_target(connection: Connection, channel: str, target_id: int) -> None:
    """The target is gone: so is what waits for it."""
    connection.execute(
        delete(tables.outgoing).where(tables.outgoing.c.channel == channel, tables.outgoing.c.target_id == target_id)
    )


@dataclass(frozen=True, slots=True)
class Depth:
    waiting: int
    failed: int
    trouble: str


def depths(connection: Connection, tenant_id: int, channel: str) -> dict[int, Depth]:
    """By target: what waits, what was given up, and the last trouble."""
    table = tables.outgoing
    # Sums of CASE, not GROUP BY an expression: PostgreSQL takes the two bound zeros in it for different ones.
    failed_count = func.sum(case((table.c.failed_ms > 0, 1), else_=0))
    rows = connection.execute(
        select(table.c.target_id, func.count(), failed_count, func.max(table.c.trouble))
        .where(
            table.c.tenant_id == tenant_id, table.c.channel == channel, table.c.sent_ms == 0, table.c.due_ms < _NEVER_MS
        )
        .group_by(table.c.target_id)
    )
    return {
        target_id: Depth(count - int(given_up), int(given_up), trouble or "")
        for target_id, count, given_up, trouble in rows
    }
