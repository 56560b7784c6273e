"""`/api/v1/boxes` and `/codes`: health, blocking, and the one-time codes that new boxes carry."""

from __future__ import annotations

import contextlib
import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path
from sqlalchemy import Connection, delete, insert, select, update

from nvr import evidence, wire
from nvr.hub import commands
from nvr.hub import tables as core
from nvr.hub.people import answers_admin, answers_work, current, roles, tile
from nvr.hub.people.guard import Asked, Needs, Refused, not_found

router = APIRouter(tags=["boxes"])

BoxId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]
_CODE_MOST_MS = 366 * 24 * 3_600_000
_LETTERS = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"  # none that are mistaken for another on a printed card


def box_answers(connection: Connection, asked: Asked, rows: Any) -> list[dict[str, Any]]:
    cameras: dict[str, list[dict[str, Any]]] = {}
    for each in current.cameras_now(connection, asked.tenant_id, asked.places(roles.HEALTH)):
        found = tile.tile(each.camera, asked.now_ms)
        cameras.setdefault(each.box_id, []).append(
            {
                "id": each.id,
                "name": each.name,
                "title": each.title,
                "place": each.place,
                "place_title": each.place_title,
                "state": found.state,
                "why": found.why,
            }
        )
    answered = []
    for row in rows:
        is_silent = tile.is_silent(row.seen_ms or None, asked.now_ms)
        state = "blocked" if row.blocked else "never heard" if not row.seen_ms else "silent" if is_silent else "here"
        fingerprint = ""
        with contextlib.suppress(ValueError):
            fingerprint = evidence.fingerprint(bytes.fromhex(row.public_key))
        answered.append(
            {
                "id": row.id, "name": row.name, "site": row.site, "software": row.software, "slot": row.slot, "state": state,
                "blocked": row.blocked, "enrolled_ms": row.enrolled_ms, "seen_ms": row.seen_ms or None,
                "silent_since_ms": row.seen_ms if is_silent and row.seen_ms else None, "fingerprint": fingerprint,
                "heartbeat": _seen_part(row.heartbeat, asked, {each["name"] for each in cameras.get(row.id, [])}),
                "cameras": cameras.get(row.id, []),
            }
        )  # fmt: skip
    return answered


def _seen_part(heartbeat: Any, asked: Asked, cameras: set[str]) -> dict[str, Any] | None:
    """The last heartbeat, without what it says of cameras at places this person does not see, and without states."""
    if not isinstance(heartbeat, dict):
        return None
    found = {key: value for key, value in heartbeat.items() if key != "states"}
    if asked.places(roles.HEALTH) is not None:
        for key in ("cameras", "ledger"):
            if isinstance(found.get(key), dict):
                found[key] = {name: value for name, value in found[key].items() if name in cameras}
    return found


@router.get("/boxes", response_model=answers_work.Boxes)
def boxes(asked: Annotated[Asked, Depends(Needs(roles.HEALTH))]) -> Any:
    """Every box with what it said last. Those of other places are not listed; one without cameras is for roles at all places."""
    box, camera, places = core.box, core.camera, asked.places(roles.HEALTH)
    with asked.hub.store.reading() as connection:
        question = select(box).where(box.c.tenant_id == asked.tenant_id).order_by(box.c.site, box.c.name, box.c.id)
        if places is not None:
            seen = select(camera.c.box_id).where(camera.c.place_id.in_(sorted(places)), camera.c.gone_ms.is_(None))
            question = question.where(box.c.id.in_(seen))
        found = box_answers(connection, asked, connection.execute(question).all())
    hub = asked.hub
    store = {"database": "failing" if hub.committer.trouble else "ok", "objects": hub.objects_watch.state}
    return {"now_ms": asked.now_ms, "boxes": found, "store": store}


@router.get("/boxes/{box_id}", response_model=answers_work.BoxAnswer)
def box(box_id: BoxId, asked: Annotated[Asked, Depends(Needs(roles.HEALTH))]) -> Any:
    with asked.hub.store.reading() as connection:
        row = asked.box(connection, box_id)
        return box_answers(connection, asked, [row])[0]


@router.post("/boxes/{box_id}/block", status_code=204)
def block(
    box_id: BoxId, body: answers_admin.Block, asked: Annotated[Asked, Depends(Needs(roles.ADMINISTER, everywhere=True))]
) -> None:
    """A blocked box (stolen, sold) is refused from now on; what it sent stays. `blocked: false` lets it in again."""
    with asked.hub.store.writing() as connection:
        asked.box(connection, box_id, roles.ADMINISTER)
        connection.execute(update(core.box).where(core.box.c.id == box_id).values(blocked=body.blocked))
        asked.hub.changes.tell(connection, "blocked", [box_id])
        asked.hub.changes.tell(connection, "boxes", [box_id])
        asked.log(connection, "box blocked" if body.blocked else "box let in", f"box {box_id}")


@router.post("/boxes/{box_id}/ask", status_code=202, response_model=answers_admin.BoxAsked)
def ask_box(
    box_id: BoxId,
    body: answers_admin.BoxAsk,
    asked: Annotated[Asked, Depends(Needs(roles.ADMINISTER, everywhere=True))],
) -> Any:
    """Ask a box to start its programs anew, or for the newest lines of its log. `/boxes/{id}/asked/{command}` tells what it says."""
    with asked.hub.store.writing() as connection:
        asked.box(connection, box_id, roles.ADMINISTER)
        if any(each.do == body.do for each in commands.waiting(connection, box_id, asked.now_ms)):
            raise Refused(429, "box busy", "the box has not answered yet what it was asked before", hint="Wait for it.", retry_s=60)  # fmt: skip
        command_id = commands.add(
            connection, asked.hub.changes, tenant_id=asked.tenant_id, box_id=box_id, do=body.do,
            args={"lines": body.lines} if body.do == "logs" else {}, by=asked.person.who, now_ms=asked.now_ms,
        )  # fmt: skip
        asked.log(connection, "box restarted" if body.do == "restart" else "box log read", f"box {box_id}")
        return _asked_answer(connection, asked, box_id, command_id)


@router.get("/boxes/{box_id}/asked/{command_id}", response_model=answers_admin.BoxAsked)
def asked_of_box(
    box_id: BoxId, command_id: BoxId, asked: Annotated[Asked, Depends(Needs(roles.ADMINISTER, everywhere=True))]
) -> Any:
    """What a box said to what it was asked."""
    with asked.hub.store.reading() as connection:
        asked.box(connection, box_id, roles.ADMINISTER)
        return _asked_answer(connection, asked, box_id, command_id)


def _asked_answer(connection: Connection, asked: Asked, box_id: str, command_id: str) -> dict[str, Any]:
    table = core.command
    mine = (table.c.id == command_id, table.c.box_id == box_id, table.c.tenant_id == asked.tenant_id)
    row = connection.execute(select(table).where(*mine)).one_or_none()
    if row is None:
        raise not_found("command")
    state = (
        "withdrawn" if row.withdrawn_ms
        else ("answered" if row.ok else "refused") if row.answered_ms
        else "sent" if row.sent_ms else "waiting"
    )  # fmt: skip
    # A box may say anything.
    told = row.more.get("lines") if row.do == "logs" and isinstance(row.more, dict) else None
    lines = [str(each)[:2000] for each in told[:500]] if isinstance(told, list) else None
    return {"id": row.id, "do": row.do, "state": state, "detail": row.detail, "lines": lines}


@router.get("/codes", response_model=answers_admin.Codes)
def codes(asked: Annotated[Asked, Depends(Needs(roles.ADMINISTER, everywhere=True))]) -> Any:
    """One-time codes: which are open, which box used one. The codes themselves are nowhere."""
    table = core.code
    with asked.hub.store.reading() as connection:
        rows = connection.execute(
            select(table).where(table.c.tenant_id == asked.tenant_id).order_by(table.c.created_ms.desc()).limit(1000)
        ).all()
    return {
        "now_ms": asked.now_ms,
        "codes": [
            {"site": row.site, "box": row.box, "by": row.by_user, "created_ms": row.created_ms, "expires_ms": row.expires_ms,
             "used_by": row.used_by, "used_ms": row.used_ms}
            for row in rows
        ],
    }  # fmt: skip


@router.post("/codes", status_code=201, response_model=answers_admin.CodeMade)
def make_code(
    body: answers_admin.CodeNew, asked: Annotated[Asked, Depends(Needs(roles.ADMINISTER, everywhere=True))]
) -> Any:
    """A code for one box, shown once: it goes onto the box's card. Or, with `code_hash`, one that `nvrctl card write` put on a card."""
    code = None
    if body.code_hash is None:
        bare = "".join(secrets.choice(_LETTERS) for _ in range(12))  # 60 bits, and the hub throttles enrolments
        code = "-".join(bare[begin : begin + 4] for begin in (0, 4, 8))
    code_hash = body.code_hash or wire.code_hash(code or "")
    expires_ms = asked.now_ms + body.valid_hours * 3_600_000
    if body.expires_at is not None:
        expires_ms = min(int(body.expires_at.timestamp() * 1000), asked.now_ms + _CODE_MOST_MS)
    table = core.code
    with asked.hub.store.writing() as connection:
        if body.revoke:
            mine = (table.c.code_hash == code_hash) & (table.c.tenant_id == asked.tenant_id) & table.c.used_by.is_(None)
            if connection.execute(delete(table).where(mine)).rowcount != 1:
                raise not_found("code that could be taken back")
            asked.log(connection, "code taken back", site=body.site or "", box=body.box or "")
            return {"code": None, "expires_ms": 0}
        if connection.execute(select(table.c.code_hash).where(table.c.code_hash == code_hash)).first() is not None:
            raise Refused(409, "code known", "this code is known already", hint="Nothing is to be done.")
        connection.execute(
            insert(table).values(
                code_hash=code_hash, tenant_id=asked.tenant_id, site=body.site or "", box=body.box or "",
                by_user=asked.person.name, created_ms=asked.now_ms, expires_ms=expires_ms,
            )
        )  # fmt: skip
        asked.log(connection, "code made", site=body.site or "", box=body.box or "")
    return {"code": code, "expires_ms": expires_ms}
