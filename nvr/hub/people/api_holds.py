"""`/api/v1/holds` and `/deletions`: legal holds, and what persons ask for under the law on personal data (docs/privacy.md)."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path
from sqlalchemy import Connection, insert, select, update

from nvr.hub import tables as core
from nvr.hub.people import answers, answers_admin, deleting, guard, roles, tables
from nvr.hub.people.guard import Asked, Needs, Refused

router = APIRouter()

Administrator = Annotated[Asked, Depends(Needs(roles.ADMINISTER, everywhere=True))]
THINGS_MOST = 200  # of what a request covers, on a page
RowId = Annotated[int, Path(ge=1, le=guard.KEY_MOST)]


def _span(from_ms: int, to_ms: int) -> None:
    if from_ms >= to_ms:
        raise Refused(422, "span", "the end of a span lies behind its begin", hint="Swap them.")


def _names(connection: Connection, tenant_id: int) -> dict[int, str]:
    table = core.place
    return dict(connection.execute(select(table.c.id, table.c.name).where(table.c.tenant_id == tenant_id)).all())


@router.get("/holds", response_model=answers_admin.Holds, tags=["holds"])
def holds(asked: Annotated[Asked, Depends(Needs(roles.HOLD))]) -> Any:
    """What must not be deleted, why, and how much that is; released ones too. Holds of other places are not listed."""
    table, places = tables.legal_hold, asked.places(roles.HOLD)
    with asked.hub.store.reading() as connection:
        question = select(table).where(table.c.tenant_id == asked.tenant_id).order_by(table.c.id.desc())
        if places is not None:
            question = question.where(table.c.place_id.in_(sorted(places)))
        rows, names = connection.execute(question.limit(1000)).all(), _names(connection, asked.tenant_id)
        kept = deleting.kept_by_holds(connection, asked.tenant_id)
    nothing = deleting.Amount(0, 0)
    return {
        "now_ms": asked.now_ms,
        "holds": [
            {"id": row.id, "place": names.get(row.place_id), "camera_id": row.camera_id, "from_ms": row.from_ms, "to_ms": row.to_ms,
             "reason": row.reason, "by": row.by_user, "created_ms": row.created_ms, "released_ms": row.released_ms or None,
             "released_by": row.released_by, "release_reason": row.release_reason,
             "kept": None if row.released_ms else asdict(kept.get(row.id, nothing))}
            for row in rows
        ],
    }  # fmt: skip


@router.post("/holds", status_code=201, response_model=answers.Made, tags=["holds"])
def make_hold(body: answers_admin.HoldNew, asked: Annotated[Asked, Depends(Needs(roles.HOLD))]) -> Any:
    """Keep what a camera, a place, or every place saw in a span, against retention and requests, until it is released."""
    _span(body.from_ms, body.to_ms)
    with asked.hub.store.writing() as connection:
        place_id = None
        if body.camera_id is not None:
            place_id = asked.camera(connection, body.camera_id, roles.HOLD).place_id
        if body.place is not None:
            place = asked.place(connection, body.place, roles.HOLD)
            if place_id is not None and place.id != place_id:
                raise Refused(422, "place", "the camera hangs at another place", hint="Name one of them.")
            place_id = place.id
        if place_id is None and not asked.person.rights.has_everywhere(roles.HOLD):
            raise guard.not_allowed(roles.HOLD)
        inserted = connection.execute(
            insert(tables.legal_hold).values(
                tenant_id=asked.tenant_id, place_id=place_id, camera_id=body.camera_id, from_ms=body.from_ms, to_ms=body.to_ms,
                reason=body.reason, by_user=asked.person.name, created_ms=asked.now_ms,
            )
        )  # fmt: skip
        number = int(inserted.inserted_primary_key[0])  # type: ignore[index]
        deleting.mark_held(connection, asked.tenant_id)
        asked.log(connection, "hold made", f"hold {number}", **body.model_dump())
    return {"id": number}


@router.post("/holds/{hold_id}/release", status_code=204, tags=["holds"])
def release_hold(hold_id: RowId, body: answers_admin.HoldRelease, asked: Administrator) -> None:
    """Retention counts again. The hold stays in the list, with who released it and why."""
    table = tables.legal_hold
    with asked.hub.store.writing() as connection:
        open_ = table.c.id == hold_id, table.c.tenant_id == asked.tenant_id, table.c.released_ms == 0
        values = {"released_ms": asked.now_ms, "released_by": asked.person.name, "release_reason": body.reason}
        if connection.execute(update(table).where(*open_).values(**values)).rowcount != 1:
            raise guard.not_found("hold")
        deleting.mark_held(connection, asked.tenant_id)
        asked.log(connection, "hold released", f"hold {hold_id}", reason=body.reason)


# -- what persons ask for ------------------------------------------------------------------------------------


def _deletion(row: Any, names: dict[int, str], now_ms: int) -> dict[str, Any]:
    return {
        "id": row.id, "person": row.person, "contact": row.contact,
        "places": None if row.place_ids is None else sorted(names[each] for each in row.place_ids if each in names),
        "from_ms": row.from_ms, "to_ms": row.to_ms, "reason": row.reason, "state": row.state, "received_ms": row.received_ms,
        "answer_by_ms": row.answer_by_ms, "is_late": row.state == "received" and now_ms > row.answer_by_ms, "by": row.by_user,
        "decided_ms": row.decided_ms or None, "decided_by": row.decided_by, "answer": row.answer, "done_ms": row.done_ms or None,
        "deleted": row.deleted, "kept_by_hold": row.kept_by_hold,
    }  # fmt: skip


@router.get("/deletions", response_model=answers_admin.Deletions, tags=["deletions"])
def deletions(asked: Administrator) -> Any:
    """Requests of persons, the newest first; `answer_by_ms` is three times 24 hours after one was received."""
    table = tables.deletion_request
    with asked.hub.store.reading() as connection:
        rows = connection.execute(
            select(table).where(table.c.tenant_id == asked.tenant_id).order_by(table.c.id.desc()).limit(1000)
        ).all()
        names = _names(connection, asked.tenant_id)
    return {"now_ms": asked.now_ms, "deletions": [_deletion(row, names, asked.now_ms) for row in rows]}


@router.get("/deletions/{deletion_id}", response_model=answers_admin.DeletionLook, tags=["deletions"])
def deletion(deletion_id: RowId, asked: Administrator) -> Any:
    """One request, and what the hub has of what it covers now: to answer the person, and to decide."""
    table, camera = tables.deletion_request, core.camera
    with asked.hub.store.reading() as connection:
        row = connection.execute(
            select(table).where(table.c.id == deletion_id, table.c.tenant_id == asked.tenant_id)
        ).one_or_none()
        if row is None:
            raise guard.not_found("request")
        free, held = deleting.covered(connection, row)
        names = _names(connection, asked.tenant_id)
        of_tenant = select(camera.c.id, camera.c.name).where(camera.c.tenant_id == asked.tenant_id)
        cameras = dict(connection.execute(of_tenant).all())
    asked.log_look("deletion looked at", f"deletion {deletion_id}")
    things = [(each, False) for each in free] + [(each, True) for each in held]
    things.sort(key=lambda thing: (-thing[0].from_ms, thing[0].id))
    return {
        "now_ms": asked.now_ms,
        "deletion": _deletion(row, names, asked.now_ms),
        "covered": asdict(deleting.amount(free)),
        "held": asdict(deleting.amount(held)),
        "things": [
            {"sha256": each.sha256, "kind": each.kind, "place": names.get(each.place_id), "camera_id": each.camera_id,
             "camera": cameras.get(each.camera_id, ""), "from_ms": each.from_ms, "to_ms": each.to_ms, "size_bytes": each.size_bytes,
             "is_held": is_held}
            for each, is_held in things[:THINGS_MOST]
        ],
    }  # fmt: skip


@router.post("/deletions", status_code=201, response_model=answers.Made, tags=["deletions"])
def make_deletion(body: answers_admin.DeletionNew, asked: Administrator) -> Any:
    """Somebody asked that what shows them be deleted. Nothing is deleted before an administrator decided."""
    _span(body.from_ms, body.to_ms)
    with asked.hub.store.writing() as connection:
        place_ids = None
        if body.places is not None:
            place_ids = sorted({asked.place(connection, name, roles.ADMINISTER).id for name in body.places})
        inserted = connection.execute(
            insert(tables.deletion_request).values(
                tenant_id=asked.tenant_id, person=body.person, contact=body.contact, place_ids=place_ids, from_ms=body.from_ms,
                to_ms=body.to_ms, reason=body.reason, state="received", received_ms=asked.now_ms,
                answer_by_ms=asked.now_ms + deleting.ANSWER_MS, by_user=asked.person.name,
            )
        )  # fmt: skip
        number = int(inserted.inserted_primary_key[0])  # type: ignore[index]
        asked.log(
            connection, "deletion asked for", f"deletion {number}"
        )  # without the person: the log is kept for longer
    return {"id": number}


@router.post("/deletions/{deletion_id}/decide", response_model=answers_admin.DeletionAnswer, tags=["deletions"])
def decide_deletion(deletion_id: RowId, body: answers_admin.DeletionDecision, asked: Administrator) -> Any:
    """Grant it, and the hub deletes what it covers but for what is held; or refuse it, with the reason for the person."""
    table = tables.deletion_request
    with asked.hub.store.writing() as connection:
        this = table.c.id == deletion_id, table.c.tenant_id == asked.tenant_id
        if connection.execute(select(table.c.id).where(*this)).first() is None:
            raise guard.not_found("request")
        decided = (
            update(table)
            .where(*this, table.c.state == "received")
            .values(
                state="granted" if body.granted else "refused",
                decided_ms=asked.now_ms,
                decided_by=asked.person.name,
                answer=body.answer,
            )
        )
        if connection.execute(decided).rowcount != 1:
            raise Refused(409, "decided already", "this request was decided already", hint="Reload the list.")
        asked.log(
            connection,
            "deletion granted" if body.granted else "deletion refused",
            f"deletion {deletion_id}",
            answer=body.answer,
        )
        row = connection.execute(select(table).where(*this)).one()
        return _deletion(row, _names(connection, asked.tenant_id), asked.now_ms)
