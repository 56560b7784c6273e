"""`/api/v1/cameras` and `/commands`: one camera, its timeline, footage that is still on the box, live."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from sqlalchemy import Connection, delete, or_, select

from nvr.hub import commands
from nvr.hub import tables as core
from nvr.hub.people import answers_see, current, guard, roles, tile
from nvr.hub.people.api_events import event_answers
from nvr.hub.people.api_wall import wall_camera
from nvr.hub.people.guard import Asked, Needs, Refused
from nvr.hub.people.recorded import MINUTE_MS, Count, Minute, count_of, spans_of

router = APIRouter(tags=["cameras"])

CameraId = Annotated[int, Path(ge=1, le=guard.KEY_MOST)]
CommandId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]
FETCH_MOST_S = 3600
TIMELINE_MOST_MS = 8 * 24 * 3_600_000
EVENTS_MOST = 2000
WAITING_MOST = 20  # fetches of one box that are not answered: its link is slow, and each is a clip
COUNTS_MOST = (
    8  # of one box that are not answered; fewer than WAITING_MOST, so that who looks at days keeps nobody from fetching
)
COUNT_AGAIN_MS = 30_000  # until a box that did not answer is asked to count the same again


@router.get("/cameras/{camera_id}", response_model=answers_see.CameraAnswer)
def camera(camera_id: CameraId, asked: Annotated[Asked, Depends(Needs(roles.SEE))]) -> Any:
    """One camera: how it stands, what its rules say, and what this person may do with it."""
    with asked.hub.store.reading() as connection:
        row = asked.camera(connection, camera_id)
        found = next(
            (each for each in current.cameras_now(connection, asked.tenant_id, [row.place_id]) if each.id == camera_id),
            None,
        )
    if found is None:
        raise Refused(
            404, "not found", "the camera is not in its box's site file any more", hint="Its clips are still listed."
        )
    states = [
        {"kind": each.kind, "zone": each.zone, "state": each.state, "since_ms": each.since_ms, "event": each.event_id or None,
         "numbers": dict(each.numbers), "words": dict(each.words), "detail": each.detail}
        for each in found.camera.states
    ]  # fmt: skip
    return {
        **wall_camera(found, asked.now_ms), "now_ms": asked.now_ms, "template": row.template,
        "streams": row.streams or [], "zones": row.zones, "lines": row.lines, "states": states,
        "may": [each for each in roles.PERMISSIONS if asked.may(each, row.place_id)],
    }  # fmt: skip


# -- timeline ------------------------------------------------------------------------------------------------


def _check_span(from_ms: int, to_ms: int) -> None:
    if not from_ms < to_ms <= from_ms + TIMELINE_MOST_MS:
        raise Refused(422, "span", "a timeline is up to eight days, its end behind its begin", hint="Ask for less.")


@router.get("/cameras/{camera_id}/timeline", response_model=answers_see.Timeline)
def timeline(
    camera_id: CameraId,
    asked: Annotated[Asked, Depends(Needs(roles.FOOTAGE))],
    from_ms: Annotated[int, Query(ge=0, le=2**52)],
    to_ms: Annotated[int, Query(ge=0, le=2**52)],
) -> Any:
    """What the box has (as far as it was heard), what lies at the hub, what is being fetched, and events; at most eight days."""
    _check_span(from_ms, to_ms)
    with asked.hub.store.reading() as connection:
        row = asked.camera(connection, camera_id, roles.FOOTAGE)
        counts = _counts(connection, row, from_ms, to_ms)
        spans = spans_of(minutes_of(connection, row.box_id, row.name, from_ms, to_ms), counts, from_ms, to_ms)
        spans += _clips(connection, asked, row, from_ms, to_ms) + _fetching(connection, row, from_ms, to_ms)
        table = core.event
        rows = connection.execute(
            select(table)
            .where(
                table.c.camera_id == camera_id,
                table.c.from_ms < to_ms,
                table.c.from_ms >= from_ms,
                table.c.is_moment.is_(False),
            )
            .order_by(table.c.from_ms)
            .limit(EVENTS_MOST)
        ).all()
        events = event_answers(connection, rows, asked.tenant_id, lambda at: asked.may(roles.FOOTAGE, at))
        heartbeat = (
            connection.execute(select(core.box.c.heartbeat).where(core.box.c.id == row.box_id)).scalar_one() or {}
        )
    asked.log_look("timeline seen", f"camera {camera_id}", from_ms=from_ms, to_ms=to_ms)
    ledger = heartbeat.get("ledger")
    today = ledger.get(row.name) if isinstance(ledger, dict) else None
    return {
        "now_ms": asked.now_ms, "from_ms": from_ms, "to_ms": to_ms, "spans": spans, "events": events,
        "ledger": today if isinstance(today, dict) else {},
        "counted": {"from_ms": counts[-1].from_ms, "to_ms": counts[-1].to_ms, "at_ms": counts[-1].at_ms} if counts else None,
    }  # fmt: skip


@router.post("/cameras/{camera_id}/count", status_code=202, response_model=answers_see.CommandAnswer)
def count(camera_id: CameraId, body: answers_see.Count, asked: Annotated[Asked, Depends(Needs(roles.FOOTAGE))]) -> Any:
    """Ask the box to count every second of a span, up to eight days. When it has (`/commands/{id}`), the timeline is to the second there."""
    _check_span(body.from_ms, body.to_ms)
    table, args = core.command, {"from_ms": body.from_ms, "to_ms": body.to_ms}
    with asked.hub.store.writing() as connection:
        row = asked.camera(connection, camera_id, roles.FOOTAGE)
        seen_ms = connection.execute(select(core.box.c.seen_ms).where(core.box.c.id == row.box_id)).scalar_one()
        if tile.is_silent(seen_ms or None, asked.now_ms):
            raise Refused(409, "box silent", "the box is silent", hint="What it said before stands in the timeline.")
        args["camera"] = row.name
        before = _counted(connection, row)
        for each in before:
            if each.args == args and not each.answered_ms and each.created_ms > asked.now_ms - COUNT_AGAIN_MS:
                return command_answer(connection, asked, each.id)
        waiting = commands.waiting(connection, row.box_id, asked.now_ms)
        if sum(each.do == "ledger" for each in waiting) >= COUNTS_MOST:
            raise _box_busy()
        same = [each for each in before if each.args == args]
        kept = next((each.id for each in same if each.ok), None)  # until the new one is there
        command_id = commands.add(
            connection, asked.hub.changes, tenant_id=asked.tenant_id, box_id=row.box_id, do="ledger", args=args,
            by=asked.person.who, now_ms=asked.now_ms,
        )  # fmt: skip
        if old := [each.id for each in same if each.id != kept]:
            connection.execute(delete(table).where(table.c.id.in_(old)))
        return command_answer(connection, asked, command_id)


def _box_busy() -> Refused:
    return Refused(
        429, "box busy", "the box has not answered yet what it was asked before", hint="Wait for it.", retry_s=60
    )


def _counted(connection: Connection, camera: Any) -> list[Any]:
    """What the box was asked to count of this camera, the newest first."""
    table = core.command
    of_camera = table.c.args["camera"].as_string() == camera.name
    return list(
        connection.execute(
            select(table)
            .where(table.c.box_id == camera.box_id, table.c.do == "ledger", of_camera)
            .order_by(table.c.created_ms.desc())
            .limit(500)
        )
    )


def _counts(connection: Connection, camera: Any, from_ms: int, to_ms: int) -> list[Count]:
    """What the box counted of this camera and span, oldest first."""
    found = [count_of(row.more, row.args["from_ms"], row.answered_ms) for row in _counted(connection, camera) if row.ok]
    return [each for each in reversed(found) if each and each.from_ms < to_ms and each.to_ms > from_ms]


def minutes_of(connection: Connection, box_id: str, camera: str, from_ms: int, to_ms: int) -> list[Minute]:
    table = core.heartbeat_history
    rows = connection.execute(
        select(table.c.minute, table.c.body)
        .where(table.c.box_id == box_id, table.c.minute >= from_ms // MINUTE_MS, table.c.minute <= to_ms // MINUTE_MS)
        .order_by(table.c.minute)
    )
    found = []
    for row in rows:
        cameras = row.body.get("cameras") if isinstance(row.body, dict) else None
        said = cameras.get(camera) if isinstance(cameras, dict) else None  # True, or the cause
        found.append(Minute(row.minute, None if said is None else said is True, said if isinstance(said, str) else ""))
    return found


def _clips(connection: Connection, asked: Asked, row: Any, from_ms: int, to_ms: int) -> list[dict[str, Any]]:
    table = core.object_
    clips = connection.execute(
        select(table.c.sha256, table.c.from_ms, table.c.to_ms)
        .where(
            table.c.camera_id == row.id, table.c.kind == "clip", table.c.deleted_ms.is_(None), table.c.from_ms < to_ms, table.c.to_ms > from_ms,
        )
        .order_by(table.c.from_ms)
        .limit(EVENTS_MOST)
    )  # fmt: skip
    return [{"from_ms": each.from_ms, "to_ms": each.to_ms, "what": "hub", "clip": each.sha256} for each in clips]


def _fetching(connection: Connection, row: Any, from_ms: int, to_ms: int) -> list[dict[str, Any]]:
    table, stored = core.command, core.object_
    rows = connection.execute(
        select(table.c.id, table.c.args)
        .outerjoin(stored, stored.c.command_id == table.c.id)
        .where(
            table.c.box_id == row.box_id, table.c.do == "fetch", table.c.withdrawn_ms.is_(None), stored.c.id.is_(None),
            or_(table.c.ok.is_(None), table.c.ok.is_(True)),
        )
        .order_by(table.c.created_ms.desc())
        .limit(200)
    )  # fmt: skip
    return [
        {"from_ms": each.args["from_ms"], "to_ms": each.args["to_ms"], "what": "fetching", "command": each.id}
        for each in rows
        if each.args.get("camera") == row.name and each.args["from_ms"] < to_ms and each.args["to_ms"] > from_ms
    ]


# -- what is asked of the box --------------------------------------------------------------------------------


@router.post("/cameras/{camera_id}/fetch", status_code=202, response_model=answers_see.CommandAnswer)
def fetch(camera_id: CameraId, body: answers_see.Fetch, asked: Annotated[Asked, Depends(Needs(roles.FOOTAGE))]) -> Any:
    """Ask the box for the footage of a span, up to an hour. It comes as a clip; `/commands/{id}` tells how far it is."""
    if not body.from_ms < body.to_ms <= body.from_ms + FETCH_MOST_S * 1000:
        raise Refused(422, "span", "a span is up to an hour, its end behind its begin", hint="Fetch an hour at a time.")
    if body.from_ms >= asked.now_ms:
        raise Refused(422, "span", "that has not happened yet", hint="Choose a span of the past.")
    with asked.hub.store.writing() as connection:
        row = asked.camera(connection, camera_id, roles.FOOTAGE)
        if len(commands.waiting(connection, row.box_id, asked.now_ms)) >= WAITING_MOST:
            raise _box_busy()
        command_id = commands.add(
            connection, asked.hub.changes, tenant_id=asked.tenant_id, box_id=row.box_id, do="fetch",
            args={"camera": row.name, "from_ms": body.from_ms, "to_ms": body.to_ms, "reason": body.reason[:200]},
            by=asked.person.who, now_ms=asked.now_ms,
        )  # fmt: skip
        asked.log(
            connection,
            "footage fetched",
            f"camera {camera_id}",
            from_ms=body.from_ms,
            to_ms=body.to_ms,
            reason=body.reason,
        )
        return command_answer(connection, asked, command_id)


@router.get("/commands/{command_id}", response_model=answers_see.CommandAnswer, tags=["cameras"])
def command(command_id: CommandId, asked: Annotated[Asked, Depends(Needs(roles.FOOTAGE))]) -> Any:
    """How far a fetch is. For who may see footage of that camera."""
    with asked.hub.store.reading() as connection:
        return command_answer(connection, asked, command_id)


def command_answer(connection: Connection, asked: Asked, command_id: str) -> dict[str, Any]:
    table, stored, upload = core.command, core.object_, core.upload
    row = connection.execute(
        select(table).where(table.c.tenant_id == asked.tenant_id, table.c.id == command_id)
    ).one_or_none()
    if row is None:
        raise guard.not_found("command")
    camera = core.camera
    place_id = connection.execute(
        select(camera.c.place_id).where(camera.c.box_id == row.box_id, camera.c.name == str(row.args.get("camera", "")))
    ).scalar_one_or_none()
    asked.check(roles.FOOTAGE, place_id, "command")
    clip = connection.execute(
        select(stored.c.sha256, stored.c.size_bytes).where(
            stored.c.command_id == command_id, stored.c.deleted_ms.is_(None)
        )
    ).first()
    coming = None
    if clip is None and row.ok:
        coming = next(
            (
                each
                for each in connection.execute(
                    select(upload.c.offset_bytes, upload.c.size_bytes, upload.c.about).where(
                        upload.c.box_id == row.box_id, upload.c.stored_ms.is_(None)
                    )
                )
                if isinstance(each.about, dict) and each.about.get("command") == command_id
            ),
            None,
        )
    if clip is not None:
        state = "done"
    elif row.withdrawn_ms:
        state = "withdrawn"
    elif row.answered_ms:
        state = "answered" if row.ok else "refused"
    else:
        state = "sent" if row.sent_ms else "waiting"
    return {
        "id": row.id, "do": row.do, "state": state, "created_ms": row.created_ms, "sent_ms": row.sent_ms or None,
        "answered_ms": row.answered_ms or None, "detail": row.detail, "clip": clip.sha256 if clip else None,
        "received_bytes": clip.size_bytes if clip else coming.offset_bytes if coming else None,
        "size_bytes": clip.size_bytes if clip else coming.size_bytes if coming else None,
    }  # fmt: skip


@router.post("/cameras/{camera_id}/live", response_model=answers_see.LiveAnswer)
def live(
    camera_id: CameraId,
    asked: Annotated[Asked, Depends(Needs(roles.SEE))],
    stream: Annotated[str, Query(pattern=r"^(main|small)$")] = "small",
) -> Any:
    """The address of the WebSocket that shows this camera live. Opening it is in the audit log."""
    with asked.hub.store.writing() as connection:
        row = asked.camera(connection, camera_id)
        names = {str(each.get("stream", "")) for each in row.streams or [] if isinstance(each, dict)}
        name = f"{row.name}/{stream}"
        if names and name not in names:
            name = f"{row.name}/main"
        asked.log(connection, "live seen", f"camera {camera_id}", stream=name)
    return {"url": f"/live/{row.box_id}?stream={name}", "stream": name}
