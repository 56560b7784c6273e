"""The audit log: who looked at footage, took some away, told somebody to do something, or changed something.

Append-only, one chain for each tenant: the hash of a row covers the row and the hash before, so a row that was changed, taken out
or slipped in shows. Rows are written in the transaction of what they tell; what failed leaves none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, insert, select, update

from nvr.evidence import canonical_json
from nvr.hub.database import upsert
from nvr.hub.people import tables

BEGIN = "0" * 64
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
