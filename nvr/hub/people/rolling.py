"""Carries updates out: asks boxes, hears how they fare, goes on to the next group or stops. Done by the one worker (rollouts.py decides)."""

from __future__ import annotations

import logging
from typing import Any

from sqlalchemy import Connection, insert, select, update

from nvr.hub import tables as core
from nvr.hub.parts import Hub
from nvr.hub.people import audit, rollouts, tables, tile

log = logging.getLogger(__name__)

RUNNING, STOPPED, DONE = "running", "stopped", "done"
BUNDLES = "/box/v1/bundles"


def begin(
    connection: Connection,
    tenant_id: int,
    boxes: list[Any],
    *,
    version: str,
    sha256: str,
    url: str,
    by: str,
    now_ms: int,
) -> int:
    """`boxes`: rows of `box` in the order in which they are to be tried; the number of the new update."""
    inserted = connection.execute(
        insert(tables.rollout).values(
            tenant_id=tenant_id, version=version, sha256=sha256, url=url, state=RUNNING, by_user=by, created_ms=now_ms
        )
    )
    number = int(inserted.inserted_primary_key[0])  # type: ignore[index]
    stages = rollouts.stages([box.id for box in boxes])
    connection.execute(
        insert(tables.rollout_box),
        [{"rollout_id": number, "box_id": box.id, "stage": stage} for box, stage in zip(boxes, stages, strict=True)],
    )
    return number


def stop(connection: Connection, rollout: Any, why: str, now_ms: int) -> None:
    """No further box is asked; what boxes do already they end by themselves."""
    table = tables.rollout
    this = update(table).where(table.c.id == rollout.id)
    connection.execute(this.values(state=STOPPED, ended_ms=now_ms, why=why[:500]))


def step(connection: Connection, hub: Hub, now_ms: int) -> int:
    """One look at every update that runs; how many there are."""
    table = tables.rollout
    running = connection.execute(select(table).where(table.c.state == RUNNING).order_by(table.c.id)).all()
    for rollout in running:
        _step(connection, hub, rollout, now_ms)
    return len(running)


def _step(connection: Connection, hub: Hub, rollout: Any, now_ms: int) -> None:
    rows = _rows(connection, rollout.id)
    failed = []
    for number, row in enumerate(rows):
        values = _heard(row, rollout, now_ms)
        if values:
            _put(connection, row, values)
            rows[number] = {**row, **values}
            if values.get("state") == rollouts.FAILED:
                failed.append(rows[number])
    if any(_is_news(row) for row in rows) or failed:
        hub.changes.tell(connection, "boxes", [row["box_id"] for row in rows])
    if failed:
        why = "; ".join(f"{row['name']}: {row['detail']}" for row in failed)
        stop(connection, rollout, why, now_ms)
        _log(connection, rollout, "rollout stopped", now_ms, why=why[:300])
        log.warning("the update to %s is stopped: %s", rollout.version, why)
        return
    boxes = [
        rollouts.Box(row["stage"], row["state"], not tile.is_silent(row["seen_ms"] or None, now_ms), row["ended_ms"])
        for row in rows
    ]
    stage = rollouts.next_stage(rollout.stage, boxes, now_ms)
    if stage >= rollouts.STAGES:
        table = tables.rollout
        this = update(table).where(table.c.id == rollout.id)
        connection.execute(this.values(state=DONE, ended_ms=now_ms))
        _log(connection, rollout, "rollout done", now_ms)
        hub.changes.tell(connection, "boxes", [row["box_id"] for row in rows])
        return
    if stage != rollout.stage:
        connection.execute(update(tables.rollout).where(tables.rollout.c.id == rollout.id).values(stage=stage))
    _ask(connection, hub, rollout, stage, rows, now_ms)


def _rows(connection: Connection, rollout_id: int) -> list[dict[str, Any]]:
    table, box, command = tables.rollout_box, core.box, core.command
    found = connection.execute(
        select(
            table, box.c.name, box.c.seen_ms, box.c.heartbeat, box.c.blocked, command.c.ok, command.c.answered_ms,
            command.c.withdrawn_ms, command.c.detail.label("said"),
        )
        .join(box, box.c.id == table.c.box_id)
        .outerjoin(command, command.c.id == table.c.command_id)
        .where(table.c.rollout_id == rollout_id)
        .order_by(table.c.stage, box.c.name, box.c.id)
    ).mappings()  # fmt: skip
    return [dict(row) for row in found]


def said_of_update(heartbeat: Any) -> dict[str, Any]:
    found = heartbeat.get("update") if isinstance(heartbeat, dict) else None
    return found if isinstance(found, dict) else {}


def _is_news(row: dict[str, Any]) -> bool:
    return row["state"] in (rollouts.ASKED, rollouts.BUSY)


def _heard(row: dict[str, Any], rollout: Any, now_ms: int) -> dict[str, Any]:
    """What changed of a box that was asked; {} when nothing did."""
    if row["state"] == rollouts.WAITING and row["blocked"]:
        return {"state": rollouts.SKIPPED, "detail": "it is blocked", "ended_ms": now_ms}
    if row["state"] not in (rollouts.ASKED, rollouts.BUSY):
        return {}
    answer = ""
    if row["answered_ms"] and row["ok"] is False:
        answer = f"the box says: {row['said']}"
    elif row["withdrawn_ms"]:
        answer = "it did not answer for a day"
    said = said_of_update(row["heartbeat"])
    heard = rollouts.Heard(row["seen_ms"], said, answer, has_begun=row["state"] == rollouts.BUSY)
    state, detail = rollouts.judged(rollout.version, row["asked_ms"], row["said_before"], heard, now_ms)
    values: dict[str, Any] = {}
    if (state, detail) != (row["state"], row["detail"]):
        values = {"state": state, "detail": detail[:500]}
    if row["said_before"] and said != row["said_before"]:
        values["said_before"] = None  # whatever it says from now on is of this update
    if state in (rollouts.GOOD, rollouts.FAILED):
        values["ended_ms"] = now_ms
    return values


def _ask(connection: Connection, hub: Hub, rollout: Any, stage: int, rows: list[dict[str, Any]], now_ms: int) -> None:
    room = rollouts.AT_ONCE - sum(row["state"] in (rollouts.ASKED, rollouts.BUSY) for row in rows)
    for row in rows:
        if row["state"] != rollouts.WAITING or row["stage"] > stage or tile.is_silent(row["seen_ms"] or None, now_ms):
            continue
        said = said_of_update(row["heartbeat"])
        if rollouts.runs_already(said, rollout.version):
            _put(connection, row, {"state": rollouts.GOOD, "detail": "had it already", "ended_ms": now_ms})
            continue
        if room <= 0:
            return
        room -= 1
        args = {"url": rollout.url, "sha256": rollout.sha256, "version": rollout.version}
        command = hub.command(
            connection, tenant_id=rollout.tenant_id, box_id=row["box_id"], do="update", args=args, by=rollout.by_user
        )
        values = {"state": rollouts.ASKED, "command_id": command, "asked_ms": now_ms, "said_before": said or None}
        _put(connection, row, values)
        _log(connection, rollout, "update ordered", now_ms, box=row["name"])


def _put(connection: Connection, row: dict[str, Any], values: dict[str, Any]) -> None:
    table = tables.rollout_box
    this = table.c.rollout_id == row["rollout_id"], table.c.box_id == row["box_id"]
    connection.execute(update(table).where(*this).values(**values))


def _log(connection: Connection, rollout: Any, what: str, now_ms: int, **more: Any) -> None:
    entry = audit.Entry("hub", what, f"rollout {rollout.id}", more={"version": rollout.version, **more})
    audit.append(connection, rollout.tenant_id, entry, now_ms)
