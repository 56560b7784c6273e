"""The wall and its stills, and what changed: `/api/v1/wall`, `/stills/{camera_id}`, the WebSocket `/changes`."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response, WebSocket, WebSocketDisconnect
from sqlalchemy import update

from nvr.hub.people import answers_see, current, guard, roles, tables, tile
from nvr.hub.people.guard import Asked, Needs, Refused

router = APIRouter(tags=["wall"])

CameraId = Annotated[int, Path(ge=1, le=guard.KEY_MOST)]
WATCHED_EVERY_MS = 3_600_000  # who looks at the wall for a day leaves 24 rows in the audit log, not 320,000
TOLD = ("wall", "places", "alerts", "boxes")
ASK_AGAIN_S = 60.0


def wall_camera(each: current.CameraNow, now_ms: int) -> dict[str, Any]:
    found = tile.tile(each.camera, now_ms)
    return {
        "id": each.id, "name": each.name, "title": each.title, "place": each.place,
        "place_title": each.place_title, "kind": each.kind, "box": each.box_id, "state": found.state,
        "why": found.why, "still_ms": found.still_ms or None, "order": each.order,
        "still_url": f"/api/v1/stills/{each.id}?at={each.camera.captured_ms or each.camera.received_ms}" if found.still_ms else None,
    }  # fmt: skip


@router.get("/wall", response_model=answers_see.Wall, responses={304: {"description": "nothing changed"}})
def wall(asked: Annotated[Asked, Depends(Needs(roles.SEE))], request: Request, response: Response) -> Any:
    """All cameras with how each stands. The ETag leaves out `now_ms`, and is weak because of it and of compression; 304 means that nothing else changed."""
    with asked.hub.store.reading() as connection:
        found = current.cameras_now(connection, asked.tenant_id, asked.places())
    cameras = [wall_camera(each, asked.now_ms) for each in found]
    etag = 'W/"' + sha256(repr(cameras).encode()).hexdigest()[:32] + '"'
    watched(asked)
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers={"ETag": etag})
    response.headers["ETag"] = etag
    response.headers["Cache-Control"] = "private, no-cache"
    return {"now_ms": asked.now_ms, "cameras": cameras}


def watched(asked: Asked) -> None:
    """The audit log says once an hour that a session looks at live stills."""
    person = asked.person
    if not person.session_hash or asked.now_ms - person.watched_ms < WATCHED_EVERY_MS:
        return
    table = tables.session
    with asked.hub.store.writing() as connection:
        mine = update(table).where(table.c.name_hash == person.session_hash, table.c.watched_ms == person.watched_ms)
        if connection.execute(mine.values(watched_ms=asked.now_ms)).rowcount == 1:
            asked.log(connection, "wall watched")


@router.get("/stills/{camera_id}", response_class=Response, responses={200: {"content": {"image/jpeg": {}}}})
def still(
    camera_id: CameraId,
    asked: Annotated[Asked, Depends(Needs(roles.SEE))],
    at: Annotated[int | None, Query(ge=0, le=2**52)] = None,
) -> Response:
    """The newest still of a camera. With `at` (its `still_ms` in the address that /wall gives) it may be cached for good."""
    with asked.hub.store.reading() as connection:
        asked.camera(connection, camera_id)
    found = asked.hub.stills.newest(camera_id)
    if found is None:
        raise Refused(404, "no still", "no picture of this camera has arrived", hint="Look at the camera's box.")
    watched(asked)
    is_that = at is not None and at == (found.captured_ms or found.received_ms)
    caching = "private, max-age=31536000, immutable" if is_that else "private, no-cache"
    headers = {"Cache-Control": caching, "X-Captured-Ms": str(found.captured_ms), "X-Content-Type-Options": "nosniff"}
    return Response(found.jpeg, media_type="image/jpeg", headers=headers)


@router.websocket("/changes")
async def changes(socket: WebSocket) -> None:
    """`{"what": "wall"|"places"|"alerts"|"boxes", "ids": [...]}`: fetch again what you show of it. `ids` is empty: anything."""
    try:
        guard.check_origin(socket)
        asked = await asyncio.to_thread(guard.who_asks, socket)
        if not asked.person.rights.has_somewhere(roles.SEE):
            raise guard.not_allowed(roles.SEE)
    except Refused as refused:
        await socket.close(4401 if refused.status == 401 else 4403, refused.key)
        return
    await socket.accept()
    tasks = [asyncio.create_task(each) for each in (_tell(socket, asked), _still_in(socket), _until_closed(socket))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _tell(socket: WebSocket, asked: Asked) -> None:
    async for what, _ in asked.hub.changes.listen():
        if what in TOLD:
            # No ids: those of other places would tell that something happens there, and what is fetched again is scoped anyway.
            await socket.send_json({"what": what, "ids": []})


async def _still_in(socket: WebSocket) -> None:
    """Whoever was logged out hears nothing any more after a minute."""
    while True:
        await asyncio.sleep(ASK_AGAIN_S)
        try:
            await asyncio.to_thread(guard.who_asks, socket)
        except Refused:
            await socket.close(4401, "not logged in")
            return


async def _until_closed(socket: WebSocket) -> None:
    try:
        while True:
            await socket.receive_text()
    except (WebSocketDisconnect, RuntimeError, KeyError):
        return
