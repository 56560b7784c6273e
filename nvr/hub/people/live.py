"""Who may watch live: asked when a WebSocket opens, and every ten seconds while it is open. Who does stands in the audit log, however it was opened."""

from __future__ import annotations

import asyncio

from sqlalchemy import select
from starlette.websockets import WebSocket

from nvr.hub import tables as core
from nvr.hub.people import guard, roles


async def may_watch(socket: WebSocket, box_id: str, stream: str) -> bool:
    """`stream` is `camera/main`, or "" for the socket itself, which shows nothing yet."""
    return await asyncio.to_thread(_may_watch, socket, box_id, stream)


def _may_watch(socket: WebSocket, box_id: str, stream: str) -> bool:
    try:
        guard.check_origin(socket)
        asked = guard.who_asks(socket)
    except guard.Refused:
        return False
    camera = core.camera
    question = select(camera.c.id, camera.c.place_id).where(
        camera.c.tenant_id == asked.tenant_id, camera.c.box_id == box_id, camera.c.gone_ms.is_(None)
    )
    if stream:
        question = question.where(camera.c.name == stream.partition("/")[0])
    with asked.hub.store.reading() as connection:
        found = connection.execute(question).all()
    seen = [each.id for each in found if asked.may(roles.SEE, each.place_id)]
    if stream:
        for camera_id in seen:
            asked.log_look("live seen", f"camera {camera_id}", stream=stream)
    return bool(seen)
