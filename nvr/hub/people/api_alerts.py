"""`/api/v1/alerts`: read, acknowledge, instruct, done. The steps are decided in alerts.py and kept, each, with who and when."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from sqlalchemy import Connection, or_, select

from nvr import wire
from nvr.hub import tables as core
from nvr.hub.people import alerting, alerts, answers_work, guard, roles, tables
from nvr.hub.people.api_events import Limit, cameras_by_id, places_by_id
from nvr.hub.people.guard import Asked, Needs

router = APIRouter(prefix="/alerts", tags=["alerts"])

AlertId = Annotated[int, Path(ge=1, le=guard.KEY_MOST)]


def alert_answers(connection: Connection, rows: Iterable[Any], asked: Asked) -> list[dict[str, Any]]:
    rows = list(rows)
    places = places_by_id(connection, asked.tenant_id)
    cameras = cameras_by_id(connection, (row.camera_id for row in rows))
    boxes = dict(
        connection.execute(select(core.box.c.id, core.box.c.name).where(core.box.c.tenant_id == asked.tenant_id)).all()
    )
    instructions = _instructions(connection, [row.id for row in rows])
    stills = _with_still(connection, [row.event_ids[0] for row in rows if row.event_ids])
    found = []
    for row in rows:
        place, title = places.get(row.place_id, (None, None)) if row.place_id is not None else (None, None)
        first = row.event_ids[0] if row.event_ids else None
        found.append(
            {
                "id": row.id, "version": row.version, "place": place, "place_title": title, "camera_id": row.camera_id,
                "camera": cameras.get(row.camera_id), "box_id": row.box_id, "box_name": boxes.get(row.box_id), "family": row.family,
                "kind": row.kind, "what": row.what, "value": row.value, "first_ms": row.first_ms, "last_ms": row.last_ms,
                "count": row.times, "state": row.state, "over_ms": row.over_ms or None, "due_ms": row.due_ms or None,
                "is_overdue": any(each.overdue_ms and not each.done_ms for each in instructions.get(row.id, ())),
                "numbers": row.numbers, "event_ids": row.event_ids,
                "instructions": [_instruction(each) for each in instructions.get(row.id, ())],
                "still_url": f"/api/v1/events/{first}/still" if first in stills else None,
                "may_act": _may_act(connection, asked, row),
            }
        )  # fmt: skip
    return found


def _may_act(connection: Connection, asked: Asked, row: Any) -> bool:
    if row.place_id is not None:
        return asked.may(roles.ACT, row.place_id)
    return asked.person.rights.has_everywhere(roles.ACT) or any(
        asked.may(roles.ACT, each) for each in asked.box_places(connection, row.box_id)
    )


def _instructions(connection: Connection, ids: list[int]) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    if ids:
        table = tables.instruction
        for row in connection.execute(select(table).where(table.c.alert_id.in_(ids)).order_by(table.c.id.desc())):
            found.setdefault(row.alert_id, []).append(row)
    return found


def _instruction(row: Any) -> dict[str, Any]:
    return {
        "to": row.recipient, "what": row.what, "due_ms": row.due_ms, "by": row.by_user, "created_ms": row.created_ms,
        "done_ms": row.done_ms or None, "overdue_ms": row.overdue_ms or None,
    }  # fmt: skip


def _with_still(connection: Connection, event_ids: list[str]) -> set[str]:
    if not event_ids:
        return set()
    table = core.event
    return set(
        connection.execute(select(table.c.id).where(table.c.id.in_(event_ids), table.c.has_still.is_(True))).scalars()
    )


@router.get("", response_model=answers_work.Alerts)
def list_alerts(
    asked: Annotated[Asked, Depends(Needs(roles.SEE))],
    state: Annotated[
        str | None, Query(pattern=r"^(open|acknowledged|instructed|done)(,(open|acknowledged|instructed|done)){0,3}$")
    ] = None,
    before: Annotated[int | None, Query(ge=1, le=guard.KEY_MOST)] = None,
    limit: Limit = 200,
) -> Any:
    """The newest first; `state` may name several, with commas."""
    table = tables.alert
    with asked.hub.store.reading() as connection:
        question = select(table).where(table.c.tenant_id == asked.tenant_id)
        places = asked.places()
        if places is not None:
            # Alerts of a box as a whole are for those who see one of its places.
            seen_boxes = select(core.camera.c.box_id).where(
                core.camera.c.place_id.in_(sorted(places)), core.camera.c.gone_ms.is_(None)
            )
            question = question.where(
                or_(table.c.place_id.in_(sorted(places)), table.c.place_id.is_(None) & table.c.box_id.in_(seen_boxes))
            )
        if state is not None:
            question = question.where(table.c.state.in_(state.split(",")))
        if before is not None:
            question = question.where(table.c.id < before)
        rows = connection.execute(question.order_by(table.c.id.desc()).limit(limit)).all()
        found = alert_answers(connection, rows, asked)
    return {"now_ms": asked.now_ms, "alerts": found, "before": rows[-1].id if len(rows) == limit else None}


@router.post("", status_code=201, response_model=answers_work.AlertWhole)
def ask(body: answers_work.Ask, asked: Annotated[Asked, Depends(Needs(roles.ACT))]) -> Any:
    """Tell somebody to do something about a place where no alert is: opens one of kind `asked`, instructed already."""
    sign = alerts.Sign(alerts.ASKED, alerts.ASKED, "", asked.now_ms, wire.STATE, False)
    now = alerts.instructed(alerts.opened(sign), body.to, body.what, body.due_ms, asked.now_ms)
    with asked.hub.store.writing() as connection:
        place = asked.place(connection, body.place, roles.ACT)
        alert_id = alerting.open_alert(connection, asked.tenant_id, None, None, place.id, replace(now, signs=()), {})
        _add_instruction(connection, asked, alert_id, body.to, body.what, body.due_ms)
        more = {"to": body.to, "what": body.what, "due_ms": body.due_ms}
        alerting.add_step(connection, alert_id, asked.person.who, "instructed", more, asked.now_ms)
        asked.hub.changes.tell(connection, "alerts", [alert_id])
        asked.log(connection, "alert instructed", f"alert {alert_id}", place=body.place, **more)
        return _whole(connection, asked, asked.alert(connection, alert_id, roles.ACT))


def _add_instruction(connection: Connection, asked: Asked, alert_id: int, to: str, what: str, due_ms: int) -> None:
    connection.execute(
        tables.instruction.insert().values(
            alert_id=alert_id,
            recipient=to,
            what=what,
            due_ms=due_ms,
            by_user=asked.person.name,
            created_ms=asked.now_ms,
        )
    )


@router.get("/{alert_id}", response_model=answers_work.AlertWhole)
def one_alert(alert_id: AlertId, asked: Annotated[Asked, Depends(Needs(roles.SEE))]) -> Any:
    """With its whole history."""
    with asked.hub.store.reading() as connection:
        return _whole(connection, asked, asked.alert(connection, alert_id))


def _whole(connection: Connection, asked: Asked, row: Any) -> dict[str, Any]:
    table = tables.alert_step
    steps = connection.execute(select(table).where(table.c.alert_id == row.id).order_by(table.c.id)).all()
    return {
        **alert_answers(connection, [row], asked)[0], "now_ms": asked.now_ms,
        "steps": [{"at_ms": each.at_ms, "who": each.who, "what": each.what, "more": each.more} for each in steps],
    }  # fmt: skip


@router.post("/{alert_id}/acknowledge", response_model=answers_work.AlertWhole)
def acknowledge(alert_id: AlertId, asked: Annotated[Asked, Depends(Needs(roles.ACT))]) -> Any:
    """Somebody has it in hand. 409 when it is not open any more."""
    with asked.hub.store.writing() as connection:
        row = asked.alert(connection, alert_id, roles.ACT)
        alerting.step(
            connection,
            asked.hub,
            row,
            alerts.acknowledged(alerting.value_of(row)),
            asked.person.who,
            "acknowledged",
            {},
            asked.now_ms,
        )
        asked.log(connection, "alert acknowledged", f"alert {alert_id}")
        return _whole(connection, asked, asked.alert(connection, alert_id, roles.ACT))


@router.post("/{alert_id}/instruct", response_model=answers_work.AlertWhole)
def instruct(alert_id: AlertId, body: answers_work.Instruct, asked: Annotated[Asked, Depends(Needs(roles.ACT))]) -> Any:
    """Tell somebody to do something by a time. When it is not done by then, the alert is open again."""
    with asked.hub.store.writing() as connection:
        row = asked.alert(connection, alert_id, roles.ACT)
        now = alerts.instructed(alerting.value_of(row), body.to, body.what, body.due_ms, asked.now_ms)
        _add_instruction(connection, asked, alert_id, body.to, body.what, body.due_ms)
        more = {"to": body.to, "what": body.what, "due_ms": body.due_ms}
        alerting.step(connection, asked.hub, row, now, asked.person.who, "instructed", more, asked.now_ms)
        asked.log(connection, "alert instructed", f"alert {alert_id}", to=body.to, what=body.what, due_ms=body.due_ms)
        return _whole(connection, asked, asked.alert(connection, alert_id, roles.ACT))


@router.post("/{alert_id}/done", response_model=answers_work.AlertWhole)
def done(alert_id: AlertId, body: answers_work.DoneNote, asked: Annotated[Asked, Depends(Needs(roles.ACT))]) -> Any:
    """Close it, with a word about what was done. The only way an alert ends."""
    with asked.hub.store.writing() as connection:
        row = asked.alert(connection, alert_id, roles.ACT)
        now = alerts.done(alerting.value_of(row), body.note)
        table = tables.instruction
        connection.execute(
            table.update()
            .where(table.c.alert_id == alert_id, table.c.done_ms == 0)
            .values(done_ms=asked.now_ms, done_by=asked.person.name)
        )
        alerting.step(connection, asked.hub, row, now, asked.person.who, "done", {"note": body.note}, asked.now_ms)
        asked.log(connection, "alert done", f"alert {alert_id}", note=body.note)
        return _whole(connection, asked, asked.alert(connection, alert_id, roles.ACT))
