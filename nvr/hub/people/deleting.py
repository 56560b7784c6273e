"""Deletes what retention or a granted request covers, leaves a tombstone for each, and never touches what is held.

In this order: the row says deleted and a tombstone names the blob, in one transaction; then the bytes go; then the tombstone
forgets the blob. A hub that dies in between goes on where it was. Done by the one worker.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from nvr.hub import tables as core
from nvr.hub.parts import Hub
from nvr.hub.people import audit, retention, tables

log = logging.getLogger(__name__)

ANSWER_MS = 3 * 24 * 3_600_000  # law 27/2022 counts three times 24 hours
AT_ONCE = 500


def legal_holds(connection: Connection, tenant_id: int) -> list[retention.LegalHold]:
    table = tables.legal_hold
    rows = connection.execute(select(table).where(table.c.tenant_id == tenant_id, table.c.released_ms == 0))
    return [retention.LegalHold(row.id, row.place_id, row.camera_id, row.from_ms, row.to_ms) for row in rows]


def mark_held(connection: Connection, tenant_id: int) -> None:
    """`object.held` as the holds say now: for lists, and for whatever deletes without asking here."""
    table = core.object_
    found = legal_holds(connection, tenant_id)
    rows = (
        connection.execute(select(table).where(table.c.tenant_id == tenant_id, table.c.deleted_ms.is_(None))).all()
        if found
        else []
    )
    held = {row.id for row in rows if any(hold.protects(_kept(row)) for hold in found)}
    was = set(
        connection.execute(select(table.c.id).where(table.c.tenant_id == tenant_id, table.c.held.is_(True))).scalars()
    )
    for ids, is_held in ((held - was, True), (was - held, False)):
        for some in _some(sorted(ids)):
            connection.execute(update(table).where(table.c.id.in_(some)).values(held=is_held))


def _some(ids: list[Any]) -> Iterable[list[Any]]:
    return (ids[begin : begin + AT_ONCE] for begin in range(0, len(ids), AT_ONCE))


def _kept(row: Any) -> retention.Kept:
    return retention.Kept(row.kind, row.place_id, row.camera_id, row.from_ms, row.to_ms, row.stored_ms)


def _kept_event(row: Any) -> retention.Kept:
    return retention.Kept("event", row.place_id, row.camera_id, row.from_ms, row.to_ms, row.received_ms)


def delete_expired(connection: Connection, tenant_id: int, now_ms: int) -> int:
    """Some of what is over its time; 0 when nothing is. One transaction."""
    holds = legal_holds(connection, tenant_id)
    by_place = dict(
        connection.execute(
            select(core.place.c.id, core.place.c.retention).where(core.place.c.tenant_id == tenant_id)
        ).all()
    )
    count = 0
    table = core.object_
    for kind in retention.DEFAULT_DAYS:
        least_days = min([retention.days(None, kind), *(retention.days(each, kind) for each in by_place.values())])
        rows = connection.execute(
            select(table)
            .where(
                table.c.tenant_id == tenant_id, table.c.kind == kind, table.c.deleted_ms.is_(None), table.c.held.is_(False),
                table.c.stored_ms < now_ms - least_days * retention.DAY_MS,
            )
            .order_by(table.c.stored_ms)
            .limit(AT_ONCE * 4)
        ).all()  # fmt: skip
        over = [row for row in rows if retention.is_expired(_kept(row), by_place.get(row.place_id), holds, now_ms)][
            :AT_ONCE
        ]
        for row in over:
            delete_object(connection, row, retention.EXPIRED, now_ms)
        count += len(over)
    return count + _delete_events(connection, tenant_id, by_place, holds, now_ms)


def _delete_events(
    connection: Connection, tenant_id: int, by_place: dict[int, Any], holds: list[retention.LegalHold], now_ms: int
) -> int:
    """An event that a state rests on stays, whatever its age. Events leave no tombstone each: there are millions; the log says how many."""
    event, state = core.event, core.state_now
    count = 0
    for place_id, said in by_place.items():
        old_ms = now_ms - retention.days(said, "event") * retention.DAY_MS
        rows = connection.execute(
            select(event.c.id, event.c.place_id, event.c.camera_id, event.c.from_ms, event.c.to_ms, event.c.received_ms)
            .where(
                event.c.tenant_id == tenant_id, event.c.place_id == place_id, event.c.from_ms < old_ms, event.c.received_ms < old_ms,
                event.c.id.not_in(select(state.c.event_id).where(state.c.event_id.is_not(None))),
            )
            .limit(AT_ONCE)
        ).all()  # fmt: skip
        ids = [row.id for row in rows if retention.is_expired(_kept_event(row), said, holds, now_ms)]
        if ids:
            connection.execute(delete(event).where(event.c.id.in_(ids)))
            count += len(ids)
    return count


def delete_object(connection: Connection, row: Any, why: str, now_ms: int) -> None:
    """The row stays, as deleted; events no longer point to it. Bytes go later (remove_blobs)."""
    table, event = core.object_, core.event
    connection.execute(update(table).where(table.c.id == row.id).values(deleted_ms=now_ms))
    if row.kind == "still":
        same = event.c.box_id == row.box_id, event.c.still_sha256 == row.sha256
        connection.execute(update(event).where(*same).values(has_still=False))
    elif row.kind == "clip":
        same = event.c.box_id == row.box_id, event.c.clip_sha256 == row.sha256
        connection.execute(update(event).where(*same).values(clip_sha256=None))
    connection.execute(
        insert(tables.tombstone).values(
            tenant_id=row.tenant_id, kind=row.kind, object=row.sha256, camera_id=row.camera_id, place_id=row.place_id, from_ms=row.from_ms,
            to_ms=row.to_ms, why=why, deleted_ms=now_ms, blob=row.blob,
        )
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Amount:
    """Of clips and stills."""

    count: int
    size_bytes: int


def amount(rows: Iterable[Any]) -> Amount:
    sizes = [int(row.size_bytes) for row in rows]
    return Amount(len(sizes), sum(sizes))


def kept_by_holds(connection: Connection, tenant_id: int) -> dict[int, Amount]:
    """By hold that was not released: what it keeps now. A thing that two of them keep is counted for both."""
    table, holds = core.object_, legal_holds(connection, tenant_id)
    held = table.c.tenant_id == tenant_id, table.c.deleted_ms.is_(None), table.c.held.is_(True)
    rows = connection.execute(select(table).where(*held)).all() if holds else []
    return {hold.id: amount(row for row in rows if hold.protects(_kept(row))) for hold in holds}


def covered(connection: Connection, request: Any) -> tuple[list[Any], list[Any]]:
    """Rows of clips and stills that a request of a person covers: those that a grant deletes, and those that a hold keeps."""
    stored = core.object_
    holds = legal_holds(connection, request.tenant_id)
    rows = connection.execute(
        select(stored)
        .where(
            stored.c.tenant_id == request.tenant_id, stored.c.deleted_ms.is_(None), stored.c.kind.in_(("clip", "still")),
            stored.c.from_ms > 0, stored.c.from_ms < request.to_ms, stored.c.to_ms >= request.from_ms,
        )
        .order_by(stored.c.id)
    ).all()  # fmt: skip
    places = None if request.place_ids is None else frozenset(request.place_ids)
    asked = [row for row in rows if retention.is_asked_for(_kept(row), places, request.from_ms, request.to_ms)]
    held = {row.id for row in asked if any(hold.protects(_kept(row)) for hold in holds)}
    return [row for row in asked if row.id not in held], [row for row in asked if row.id in held]


def carry_out_granted(connection: Connection, now_ms: int) -> int:
    """Some of what granted requests cover; how many things were deleted. A request is done when nothing of it is left but what is held."""
    table = tables.deletion_request
    count = 0
    for request in connection.execute(select(table).where(table.c.state == "granted").order_by(table.c.id)).all():
        free, held = covered(connection, request)
        for row in free[:AT_ONCE]:
            delete_object(connection, row, f"request {request.id}", now_ms)
        values: dict[str, Any] = {"deleted": request.deleted + len(free[:AT_ONCE]), "kept_by_hold": len(held)}
        if len(free) <= AT_ONCE:
            values |= {"state": "done", "done_ms": now_ms}
            more = {"deleted": values["deleted"], "kept_by_hold": values["kept_by_hold"]}
            audit.append(
                connection,
                request.tenant_id,
                audit.Entry("hub", "deletion done", f"deletion {request.id}", more=more),
                now_ms,
            )
        connection.execute(update(table).where(table.c.id == request.id).values(**values))
        count += len(free[:AT_ONCE])
    return count


def remove_blobs(hub: Hub) -> int:
    """Take away the bytes of what was deleted; how many. Not while the same bytes are needed under the same key."""
    table, stored = tables.tombstone, core.object_
    with hub.store.reading() as connection:
        rows = connection.execute(
            select(table.c.id, table.c.blob).where(table.c.blob != "").order_by(table.c.id).limit(AT_ONCE)
        ).all()
        keys = [row.blob for row in rows]
        needed = set(
            connection.execute(
                select(stored.c.blob).where(stored.c.blob.in_(keys), stored.c.deleted_ms.is_(None))
            ).scalars()
        )
    gone = []
    for row in rows:
        if row.blob not in needed:
            try:
                hub.blobs.delete(row.blob)
            except Exception as error:
                log.warning("an object that was deleted cannot be removed yet: %s", error)
                break
        gone.append(row.id)
    if gone:
        with hub.store.writing() as connection:
            connection.execute(update(table).where(table.c.id.in_(gone)).values(blob=""))
    return len(gone)


def run(hub: Hub) -> None:
    """All that is due now, in short transactions."""
    with hub.store.reading() as connection:
        tenants = connection.execute(select(core.tenant.c.id)).scalars().all()
    for tenant_id in tenants:
        total = 0
        while True:
            with hub.store.writing() as connection:
                count = delete_expired(connection, tenant_id, hub.now_ms())
                total += count
                if not count:
                    if total:
                        audit.append(
                            connection,
                            tenant_id,
                            audit.Entry("hub", "retention", more={"deleted": total}),
                            hub.now_ms(),
                        )
                    break
        if total:
            log.info("retention: %d things of tenant %d deleted", total, tenant_id)
    while True:
        with hub.store.writing() as connection:
            if not carry_out_granted(connection, hub.now_ms()):
                break
    while remove_blobs(hub):
        pass
