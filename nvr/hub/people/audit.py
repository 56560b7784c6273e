"""The audit log: who looked at footage, took some away, told somebody to do something, or changed something.

Append-only, one chain for each tenant: the hash of a row covers the row and the hash before, so a row that was changed, taken out
or slipped in shows. Rows are written in the transaction of what they tell; what failed leaves none. Looks at
stills wait in a table of their own, and come together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from nvr.evidence import canonical_json
from nvr.hub.database import upsert
from nvr.hub.people import tables

BEGIN = "0" * 64
LOOK_SPAN_MS = 600_000
LOOKS_IN_ROW = 100
_READ_MOST = 1000


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing somebody did. `object` names it so that it can be found: `clip 9f86d0...`, `camera 12`."""

    who: str
    what: str
    object: str = ""
    address: str = ""
    more: Mapping[str, Any] | None = None


def hash_of(before: str, tenant_id: int, number: int, at_ms: int, entry: Entry) -> str:
    fields = {
        "before": before, "tenant": tenant_id, "number": number, "at_ms": at_ms, "who": entry.who, "what": entry.what,
        "object": entry.object, "address": entry.address, "more": entry.more or {},
    }  # fmt: skip
    return sha256(canonical_json(fields)).hexdigest()


def append(connection: Connection, tenant_id: int, entry: Entry, now_ms: int) -> int:
    """The number of the new row. In a writing transaction, as its last step: others of the tenant wait for its end."""
    entry = Entry(entry.who[:100], entry.what[:40], entry.object[:300], entry.address[:64], entry.more)
    head = tables.audit_head
    of_tenant = head.c.tenant_id == tenant_id
    # The update takes the row for this transaction in every database, so numbers follow each other without holes.
    connection.execute(
        upsert(connection, head).values(tenant_id=tenant_id, number=0, hash=BEGIN).on_conflict_do_nothing()
    )
    connection.execute(update(head).where(of_tenant).values(number=head.c.number + 1))
    number, before = connection.execute(select(head.c.number, head.c.hash).where(of_tenant)).one()
    hashed = hash_of(before, tenant_id, number, now_ms, entry)
    connection.execute(
        insert(tables.audit).values(
            tenant_id=tenant_id, number=number, at_ms=now_ms, who=entry.who, what=entry.what, object=entry.object,
            address=entry.address, more=dict(entry.more or {}), hash=hashed,
        )
    )  # fmt: skip
    connection.execute(update(head).where(of_tenant).values(hash=hashed))
    return int(number)


def is_said(connection: Connection, tenant_id: int, entry: Entry, since_ms: int) -> bool:
    """Whether the log says so already, lately: pages ask again every ten seconds, and a log of that hides everything else."""
    table, head = tables.audit, tables.audit_head
    newest = select(head.c.number).where(head.c.tenant_id == tenant_id).scalar_subquery()
    found = select(table.c.number).where(
        table.c.tenant_id == tenant_id, table.c.number > newest - _READ_MOST, table.c.who == entry.who[:100],
        table.c.what == entry.what, table.c.object == entry.object[:300], table.c.address == entry.address[:64], table.c.at_ms >= since_ms,
    )  # fmt: skip
    return connection.execute(found.limit(1)).first() is not None


def note_look(connection: Connection, tenant_id: int, entry: Entry, event_id: str, now_ms: int) -> None:
    """Somebody looked at the still of an event. A list shows fifty at once: they become one row, at the latest LOOK_SPAN_MS later."""
    table = tables.look
    row = {"tenant_id": tenant_id, "who": entry.who[:100], "address": entry.address[:64], "event_id": event_id}
    connection.execute(upsert(connection, table).values(**row, at_ms=now_ms).on_conflict_do_nothing())


def fold_looks(connection: Connection, now_ms: int, tenant_id: int | None = None) -> int:
    """Put looks into the log, one row for each person, address and span; how many rows. With `tenant_id` all of that tenant's, at once."""
    table = tables.look
    which = table.c.at_ms <= now_ms - LOOK_SPAN_MS if tenant_id is None else table.c.tenant_id == tenant_id
    whose = (table.c.tenant_id, table.c.who, table.c.address)
    count = 0
    for owner in connection.execute(select(*whose).where(which).distinct().order_by(*whose)).all():
        gone = delete(table).where(*(column == value for column, value in zip(whose, owner, strict=True)))
        looks = sorted(connection.execute(gone.returning(table.c.at_ms, table.c.event_id)).all())
        for some in (looks[begin : begin + LOOKS_IN_ROW] for begin in range(0, len(looks), LOOKS_IN_ROW)):
            if len(some) == 1:
                object_, more = f"event {some[0].event_id}", {"at_ms": some[0].at_ms}
            else:
                object_ = f"{len(some)} events"
                more = {"from_ms": some[0].at_ms, "to_ms": some[-1].at_ms, "events": [each.event_id for each in some]}
            append(connection, owner.tenant_id, Entry(owner.who, "still seen", object_, owner.address, more), now_ms)
            count += 1
    return count


def verify(connection: Connection, tenant_id: int) -> list[str]:
    """What is wrong with the chain of one tenant; empty: every row is as it was written."""
    faults: list[str] = []
    before, expected = BEGIN, 1
    table = tables.audit
    while True:
        rows = connection.execute(
            select(table)
            .where(table.c.tenant_id == tenant_id, table.c.number >= expected)
            .order_by(table.c.number)
            .limit(_READ_MOST)
        ).all()
        for row in rows:
            if row.number != expected:
                faults.append(f"rows {expected} to {row.number - 1} are missing")
            entry = Entry(row.who, row.what, row.object, row.address, row.more)
            if hash_of(before, tenant_id, row.number, row.at_ms, entry) != row.hash:
                faults.append(f"row {row.number} is not what was written")
            before, expected = row.hash, row.number + 1
        if len(rows) < _READ_MOST:
            break
    head = connection.execute(select(tables.audit_head).where(tables.audit_head.c.tenant_id == tenant_id)).one_or_none()
    if (head is None and expected > 1) or (head is not None and (head.number, head.hash) != (expected - 1, before)):
        faults.append(
            f"the newest rows are missing: the log ends at {expected - 1}, {head.number if head else 0} were written"
        )
    return faults
