"""`/metrics` for Prometheus: numbers of one tenant, read from the database when asked; any hub process gives the same,
but for whether it can store what it is given.

Needs a bearer token with the scope `metrics`. No label names a person.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
from sqlalchemy import Connection, func, select

from nvr.hub import tables as core
from nvr.hub.parts import Hub
from nvr.hub.people import alerts, current, roles, tables, tile
from nvr.hub.people.guard import Asked, Needs

router = APIRouter(tags=["metrics"])


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(asked: Annotated[Asked, Depends(Needs(roles.METRICS, everywhere=True))]) -> Response:
    """Boxes, cameras by state, alerts, what waits to be sent, what lies at the hub."""
    registry = CollectorRegistry()
    with asked.hub.store.reading() as connection:
        fill(registry, connection, asked.tenant_id, asked.now_ms)
    _fill_store(registry, asked.hub)
    return Response(
        generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST, "Cache-Control": "no-store"}
    )


def fill(registry: CollectorRegistry, connection: Connection, tenant_id: int, now_ms: int) -> None:
    def gauge(name: str, text: str, labels: Iterable[str] = ()) -> Gauge:
        return Gauge(f"nvr_hub_{name}", text, list(labels), registry=registry)

    box = core.box
    rows = connection.execute(select(box).where(box.c.tenant_id == tenant_id)).all()
    by_state = gauge("boxes", "boxes by state", ["state"])
    counts = dict.fromkeys(("here", "silent", "blocked", "never_heard"), 0)
    waiting = gauge("box_outbox_messages", "what a box has not delivered yet", ["box"])
    oldest = gauge("box_outbox_oldest_seconds", "age of the oldest of it", ["box"])
    heard = gauge("box_silence_seconds", "since when a box said nothing", ["box"])
    life = gauge("box_card_life_left_percent", "what is left of a box's card", ["box"])
    for row in rows:
        is_silent = tile.is_silent(row.seen_ms or None, now_ms)
        counts[
            "blocked" if row.blocked else "never_heard" if not row.seen_ms else "silent" if is_silent else "here"
        ] += 1
        label = f"{row.site}/{row.name}"
        if row.seen_ms:
            heard.labels(label).set(max(0, now_ms - row.seen_ms) / 1000)
        heartbeat = row.heartbeat if isinstance(row.heartbeat, dict) else {}
        _set(waiting, label, heartbeat, "outbox", "depth")
        _set(oldest, label, heartbeat, "outbox", "oldest_ms", 0.001)
        _set(life, label, heartbeat, "disk", "life_left_percent")
    for state, count in counts.items():
        by_state.labels(state).set(count)

    cameras = gauge("cameras", "cameras by what their tile says", ["state"])
    states = dict.fromkeys(tile.TILES, 0)
    for each in current.cameras_now(connection, tenant_id, None):
        states[tile.tile(each.camera, now_ms).state] += 1
    for state, count in states.items():
        cameras.labels(state).set(count)

    table = tables.alert
    open_alerts = gauge("alerts", "alerts that are not done", ["family", "state"])
    for family, state, count in connection.execute(
        select(table.c.family, table.c.state, func.count())
        .where(table.c.tenant_id == tenant_id, table.c.state != alerts.DONE)
        .group_by(table.c.family, table.c.state)
    ):
        open_alerts.labels(family, state).set(count)

    queue = tables.outgoing
    queued = gauge("outgoing_messages", "messages that wait to be sent, or were given up", ["channel", "state"])
    for state, is_so in (("waiting", queue.c.failed_ms == 0), ("given up", queue.c.failed_ms > 0)):
        for channel, count in connection.execute(
            select(queue.c.channel, func.count())
            .where(queue.c.tenant_id == tenant_id, queue.c.sent_ms == 0, is_so)
            .group_by(queue.c.channel)
        ):
            queued.labels(channel, state).set(count)

    stored = core.object_
    number = gauge("objects", "clips and stills that lie at the hub", ["kind"])
    size = gauge("objects_bytes", "their bytes", ["kind"])
    for kind, count, size_bytes in connection.execute(
        select(stored.c.kind, func.count(), func.sum(stored.c.size_bytes))
        .where(stored.c.tenant_id == tenant_id, stored.c.deleted_ms.is_(None))
        .group_by(stored.c.kind)
    ):
        number.labels(kind).set(count)
        size.labels(kind).set(int(size_bytes or 0))

    command = core.command
    asked = gauge("commands_waiting", "what boxes were asked and did not answer")
    asked.set(
        connection.execute(
            select(func.count()).where(
                command.c.tenant_id == tenant_id, command.c.answered_ms.is_(None), command.c.withdrawn_ms.is_(None)
            )
        ).scalar_one()
    )


def _fill_store(registry: CollectorRegistry, hub: Hub) -> None:
    """Of this process, unlike all above."""
    can_store = Gauge("nvr_hub_can_store", "1 while what boxes bring is taken", ["what"], registry=registry)
    can_store.labels("database").set(0 if hub.committer.trouble else 1)
    can_store.labels("objects").set(1 if hub.objects_watch.state == "ok" else 0)
    if hub.objects_watch.free_bytes is not None:
        Gauge("nvr_hub_objects_free_bytes", "room under the folder of objects", registry=registry).set(
            hub.objects_watch.free_bytes
        )


def _set(gauge: Gauge, label: str, heartbeat: dict[str, Any], part: str, key: str, factor: float = 1.0) -> None:
    found = heartbeat.get(part)
    value = found.get(key) if isinstance(found, dict) else None
    if isinstance(value, int | float) and not isinstance(value, bool):
        gauge.labels(label).set(value * factor)
