"""What boxes are asked to do: kept until the box answered, withdrawn after a day.

`live_on` and `live_off` are not here: they mean nothing a minute later, and live.py says them itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from nvr import wire
from nvr.hub import tables
from nvr.hub.changes import Changes

KEPT_MS = 24 * 3600 * 1000
AT_ONCE = 50  # sent to one box that was away


def add(
    connection: Connection,
    changes: Changes,
    *,
    tenant_id: int,
    box_id: str,
    do: str,
    args: Mapping[str, Any],
    by: str,
    now_ms: int,
) -> str:
    """Ask a box for something; the id under which its answer will stand. The caller checked that `by` may."""
    assert do in wire.COMMANDS, do
    command_id = wire.new_id()
    connection.execute(
        insert(tables.command).values(
            id=command_id, tenant_id=tenant_id, box_id=box_id, do=do, args=dict(args), by_user=by, created_ms=now_ms
        )
    )
    changes.tell(connection, "commands", [box_id])
    return command_id


def waiting(connection: Connection, box_id: str, now_ms: int) -> list[Row[Any]]:
    """What a box has not answered yet, oldest first."""
    table = tables.command
    return list(
        connection.execute(
            select(table)
            .where(
                table.c.box_id == box_id,
                table.c.created_ms > now_ms - KEPT_MS,
                table.c.answered_ms.is_(None),
                table.c.withdrawn_ms.is_(None),
            )
            .order_by(table.c.created_ms)
            .limit(AT_ONCE)
        )
    )


def message(row: Row[Any]) -> wire.Message:
    return wire.Message("command", {"id": row.id, "do": row.do, "args": row.args, "by": row.by_user})


def sent(connection: Connection, command_ids: list[str], now_ms: int) -> None:
    table = tables.command
    connection.execute(
        update(table).where(table.c.id.in_(command_ids), table.c.sent_ms.is_(None)).values(sent_ms=now_ms)
    )


def answered(connection: Connection, box_id: str, reply: wire.Message, now_ms: int) -> bool:
    """Keep the first answer; but a no takes back a yes: what it said would come does not. False: no such command of this box."""
    table = tables.command
    this = (table.c.id == reply.id(), table.c.box_id == box_id)
    is_open, is_yes = table.c.answered_ms.is_(None), table.c.ok.is_(True)
    is_news = is_open if reply.body["ok"] else is_open | is_yes
    connection.execute(
        update(table)
        .where(*this, is_news)
        .values(answered_ms=now_ms, ok=reply.body["ok"], detail=reply.body["detail"], more=reply.body.get("more"))
    )
    return connection.execute(select(table.c.id).where(*this)).first() is not None


def withdraw(connection: Connection, changes: Changes, now_ms: int) -> int:
    """Give up what no box answered within a day; how many."""
    table = tables.command
    rows = connection.execute(
        update(table)
        .where(table.c.created_ms <= now_ms - KEPT_MS, table.c.answered_ms.is_(None), table.c.withdrawn_ms.is_(None))
        .values(withdrawn_ms=now_ms)
        .returning(table.c.box_id)
    ).all()
    if rows:
        changes.tell(connection, "commands", [row.box_id for row in rows])
    return len(rows)
