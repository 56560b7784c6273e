"""`/api/v1/events` and `/api/v1/clips`: what happened, its still, and footage with its proof."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy import Connection, or_, select

from nvr import evidence
from nvr.hub import tables as core
from nvr.hub.blobs import byte_range
from nvr.hub.people import answers, answers_see, current, guard, roles
from nvr.hub.people.guard import Asked, Needs, Refused

router = APIRouter()

EventId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]
ClipId = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]
PlaceQuery = Annotated[str | None, Query(pattern=r"^[A-Za-z0-9_-]{1,63}$")]
CameraQuery = Annotated[int | None, Query(ge=1, le=guard.KEY_MOST)]
MsQuery = Annotated[int | None, Query(ge=0, le=2**52)]
Limit = Annotated[int, Query(ge=1, le=500)]


def scope(
    asked: Asked, connection: Connection, table: Any, place: str | None, camera: int | None, permission: str
) -> list[Any]:
    """Conditions of tenant, places, and what was asked for; a place or camera that may not be seen gives 404."""
    found = [table.c.tenant_id == asked.tenant_id, current.at_places(table.c.place_id, asked.places(permission))]
    if place is not None:
        found.append(table.c.place_id == asked.place(connection, place, permission).id)
    if camera is not None:
        found.append(table.c.camera_id == asked.camera(connection, camera, permission).id)
    return found


NO_PLACE: tuple[str, dict[str, str]] = ("", {"id": "", "en": ""})


def places_by_id(connection: Connection, tenant_id: int) -> dict[int, tuple[str, dict[str, str]]]:
    """Name and titles."""
    table = core.place
    rows = connection.execute(
        select(table.c.id, table.c.name, table.c.title_id, table.c.title_en).where(table.c.tenant_id == tenant_id)
    )
    return {row.id: (row.name, current.titles(row.name, row.title_id, row.title_en)) for row in rows}


def cameras_by_id(connection: Connection, ids: Iterable[int | None]) -> dict[int, str]:
    wanted = sorted({each for each in ids if each is not None})
    if not wanted:
        return {}
    table = core.camera
    return {
        row.id: row.name for row in connection.execute(select(table.c.id, table.c.name).where(table.c.id.in_(wanted)))
    }


def event_answers(
    connection: Connection, rows: Iterable[Any], tenant_id: int, may_footage: Any
) -> list[dict[str, Any]]:
    """`may_footage(place_id)`: whether the address of the clip is told."""
    rows = list(rows)
    places = places_by_id(connection, tenant_id)
    cameras = cameras_by_id(connection, (row.camera_id for row in rows))
    found = []
    for row in rows:
        body = row.body if isinstance(row.body, dict) else {}
        place, title = places.get(row.place_id, NO_PLACE)
        clip = row.clip_sha256 if row.clip_sha256 and may_footage(row.place_id) else None
        found.append(
            {
                "id": row.id, "camera_id": row.camera_id, "camera": cameras.get(row.camera_id, ""), "place": place, "place_title": title,
                "kind": row.kind, "zone": row.zone, "state": row.state, "is_end": row.is_end, "is_moment": row.is_moment,
                "from_ms": row.from_ms, "to_ms": row.to_ms, "is_time_known": row.is_time_known, "received_ms": row.received_ms,
                "value": row.value, "numbers": current.numbers(body.get("numbers")), "words": current.words(body.get("words")),
                "detail": current.text(body.get("detail")),
                "still_url": f"/api/v1/events/{row.id}/still" if row.has_still else None,
                "clip": clip, "clip_url": f"/api/v1/clips/{clip}" if clip else None,
            }
        )  # fmt: skip
    return found


@router.get("/events", response_model=answers_see.Events, tags=["events"])
def events(
    asked: Annotated[Asked, Depends(Needs(roles.SEE))],
    place: PlaceQuery = None,
    camera: CameraQuery = None,
    kind: Annotated[str | None, Query(pattern=r"^[a-z_ -]{1,40}$")] = None,
    from_ms: MsQuery = None,
    before: MsQuery = None,
    moments: bool = False,
    limit: Limit = 100,
) -> Any:
    """The newest first. `before` (from the answer) goes on; `moments` adds everybody who passed a line."""
    table = core.event
    with asked.hub.store.reading() as connection:
        question = select(table).where(*scope(asked, connection, table, place, camera, roles.SEE))
        if kind is not None:
            question = question.where(table.c.kind == kind)
        if from_ms is not None:
            question = question.where(table.c.from_ms >= from_ms)
        if before is not None:
            question = question.where(table.c.from_ms < before)
        if not moments:
            question = question.where(table.c.is_moment.is_(False))
        rows = connection.execute(question.order_by(table.c.from_ms.desc(), table.c.id).limit(limit)).all()
        found = event_answers(connection, rows, asked.tenant_id, lambda at: asked.may(roles.FOOTAGE, at))
    return {"now_ms": asked.now_ms, "events": found, "before": rows[-1].from_ms if len(rows) == limit else None}


@router.get("/events/{event_id}", response_model=answers_see.EventAnswer, tags=["events"])
def event(event_id: EventId, asked: Annotated[Asked, Depends(Needs(roles.SEE))]) -> Any:
    with asked.hub.store.reading() as connection:
        row = asked.event(connection, event_id)
        return event_answers(connection, [row], asked.tenant_id, lambda at: asked.may(roles.FOOTAGE, at))[0]


@router.get(
    "/events/{event_id}/still",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}}},
    tags=["events"],
)
def event_still(event_id: EventId, asked: Annotated[Asked, Depends(Needs(roles.SEE))]) -> Response:
    """The evidence of an event. In the audit log."""
    table = core.object_
    with asked.hub.store.reading() as connection:
        row = asked.event(connection, event_id)
        found = connection.execute(
            select(table.c.blob)
            .where(
                table.c.box_id == row.box_id, table.c.kind == "still", table.c.deleted_ms.is_(None),
                or_(table.c.sha256 == row.still_sha256, table.c.event_id == event_id),
            )
            .order_by(table.c.id)
        ).first()  # fmt: skip
    if found is None:
        raise Refused(404, "no still", "this event has no picture", hint="It was not sent, or its time was over.")
    data = b"".join(_bytes(asked, found.blob, 0, None))
    asked.log_still(event_id)
    headers = {"Cache-Control": "private, max-age=3600", "X-Content-Type-Options": "nosniff"}
    return Response(data, media_type="image/jpeg", headers=headers)


def clip_answers(connection: Connection, rows: Iterable[Any], tenant_id: int) -> list[dict[str, Any]]:
    rows = list(rows)
    places, cameras = places_by_id(connection, tenant_id), cameras_by_id(connection, (row.camera_id for row in rows))
    return [
        {
            "sha256": row.sha256, "camera_id": row.camera_id, "camera": cameras.get(row.camera_id, ""),
            "place": places.get(row.place_id, NO_PLACE)[0], "place_title": places.get(row.place_id, NO_PLACE)[1],
            "from_ms": row.from_ms, "to_ms": row.to_ms, "size_bytes": row.size_bytes, "stored_ms": row.stored_ms,
            "event": row.event_id, "command": row.command_id, "genuine": row.genuine, "held": row.held,
            "url": f"/api/v1/clips/{row.sha256}", "proof_url": f"/api/v1/clips/{row.sha256}/proof",
        }
        for row in rows
    ]  # fmt: skip


@router.get("/clips", response_model=answers_see.Clips, tags=["clips"])
def clips(
    asked: Annotated[Asked, Depends(Needs(roles.FOOTAGE))],
    place: PlaceQuery = None,
    camera: CameraQuery = None,
    from_ms: MsQuery = None,
    to_ms: MsQuery = None,
    before: MsQuery = None,
    limit: Limit = 100,
) -> Any:
    """Clips that lie at the hub, the newest first; those that touch the span."""
    table = core.object_
    with asked.hub.store.reading() as connection:
        question = select(table).where(
            *scope(asked, connection, table, place, camera, roles.FOOTAGE),
            table.c.kind == "clip",
            table.c.deleted_ms.is_(None),
        )
        for value, condition in (
            (from_ms, table.c.to_ms > (from_ms or 0)), (to_ms, table.c.from_ms < (to_ms or 0)), (before, table.c.from_ms < (before or 0)),
        ):  # fmt: skip
            if value is not None:
                question = question.where(condition)
        rows = connection.execute(question.order_by(table.c.from_ms.desc(), table.c.id).limit(limit)).all()
        found = clip_answers(connection, rows, asked.tenant_id)
    return {"now_ms": asked.now_ms, "clips": found, "before": rows[-1].from_ms if len(rows) == limit else None}


@router.get(
    "/clips/{sha256}", response_class=Response, tags=["clips"],
    responses={200: {"content": {"video/mp4": {}}}, 206: {"content": {"video/mp4": {}}}, 416: {"model": answers.Fault}},
)  # fmt: skip
def clip(
    sha256: ClipId, asked: Annotated[Asked, Depends(Needs(roles.FOOTAGE))], request: Request, download: bool = False
) -> Response:
    """The MP4 as the box sent it, byte for byte; with `Range`. Who looks at it or takes it away is in the audit log."""
    with asked.hub.store.reading() as connection:
        row = asked.clip(connection, sha256)
        camera = cameras_by_id(connection, [row.camera_id]).get(row.camera_id, "clip")
    size = int(row.size_bytes)
    span = byte_range(request.headers.get("range", ""), size)
    headers = {
        "Accept-Ranges": "bytes", "ETag": f'"{sha256}"', "Cache-Control": "private, max-age=3600", "X-Content-Type-Options": "nosniff",
        "Content-Disposition": f'{"attachment" if download else "inline"}; filename="{camera}-{row.from_ms}.mp4"',
    }  # fmt: skip
    if span is None:
        raise Refused(416, "range", f"the clip has {size} bytes", hint="Ask for a part of it.")
    first, last, is_part = span
    about = {"camera": row.camera_id, "from_ms": row.from_ms, "to_ms": row.to_ms}
    if first == 0 and download:
        with asked.hub.store.writing() as connection:
            asked.log(connection, "clip exported", f"clip {sha256}", **about)
    else:  # any part of it: who leaves out the first byte has the clip all the same
        asked.log_look("clip seen", f"clip {sha256}", **about)  # a player asks for many
    if is_part:
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    headers["Content-Length"] = str(last - first + 1 if size else 0)
    if request.method == "HEAD":
        return Response(status_code=206 if is_part else 200, headers=headers, media_type="video/mp4")
    data = _bytes(asked, row.blob, first, last + 1) if size else iter(())
    return StreamingResponse(data, 206 if is_part else 200, headers, "video/mp4")


def _bytes(asked: Asked, blob: str, from_byte: int, to_byte: int | None) -> Iterator[bytes]:
    from nvr.hub.blobs import BlobGone

    try:
        return iter(asked.hub.blobs.read(blob, from_byte, to_byte))
    except BlobGone:
        raise Refused(
            410, "gone", "the bytes are not there any more", hint="Tell the administrator: the row says they should be."
        ) from None


@router.get("/clips/{sha256}/proof", response_model=answers_see.Proof, tags=["clips"])
def proof(sha256: ClipId, asked: Annotated[Asked, Depends(Needs(roles.FOOTAGE))]) -> Any:
    """What `verify_clip.py` said about these bytes with the key that the box enrolled with. Anybody can check it again."""
    with asked.hub.store.reading() as connection:
        row = asked.clip(connection, sha256)
        key = connection.execute(select(core.box.c.public_key).where(core.box.c.id == row.box_id)).scalar_one()
    asked.log_look("proof seen", f"clip {sha256}")
    fingerprint = ""
    with contextlib.suppress(ValueError):
        fingerprint = evidence.fingerprint(bytes.fromhex(key))
    return {"sha256": sha256, "genuine": row.genuine, "box": row.box_id, "fingerprint": fingerprint, "proof": row.proof}
