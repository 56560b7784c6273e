"""Reads how all cameras stand now: rows of boxes, cameras, states and stills as the values that tile.py and board.py judge.

One query each, whatever the number of cameras; scoped by tenant and by the places somebody may see.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, select, true

from nvr.hub import tables
from nvr.hub.people import hours, tile
from nvr.hub.people import tables as people


@dataclass(frozen=True, slots=True)
class CameraNow:
    """One camera with where it hangs."""

    id: int
    name: str
    box_id: str
    box_name: str
    place_id: int
    place: str
    place_title: Mapping[str, str]  # by language
    kind: str
    order: int
    template: str
    camera: tile.Camera

    @property
    def title(self) -> dict[str, str]:
        """Cameras have one name, the installer's."""
        readable = self.name.replace("-", " ").replace("_", " ").capitalize()
        return {"id": readable, "en": readable}


def at_places(column: ColumnElement[Any], place_ids: Collection[int] | None) -> ColumnElement[bool]:
    """None: all of the tenant."""
    return true() if place_ids is None else column.in_(sorted(place_ids))


def titles(name: str, title_id: str, title_en: str) -> dict[str, str]:
    """What a place is called; where nobody said, its name, made readable."""
    fallback = title_id or title_en or name.replace("-", " ").capitalize()
    return {"id": title_id or fallback, "en": title_en or fallback}


def cameras_now(connection: Connection, tenant_id: int, place_ids: Collection[int] | None) -> list[CameraNow]:
    """In the order of the wall. Cameras that left their box's site file are not part of it."""
    camera, box, place, still = tables.camera, tables.box, tables.place, tables.still
    rows = connection.execute(
        select(
            camera.c.id, camera.c.name, camera.c.box_id, camera.c.order, camera.c.template, camera.c.place_id,
            place.c.name.label("place"), place.c.title_id, place.c.title_en, place.c.kind,
            still.c.captured_ms, still.c.received_ms,
        )
        .join(place, place.c.id == camera.c.place_id)
        .outerjoin(still, still.c.camera_id == camera.c.id)
        .where(camera.c.tenant_id == tenant_id, camera.c.gone_ms.is_(None), at_places(camera.c.place_id, place_ids))
        .order_by(camera.c.order, place.c.name, camera.c.name, camera.c.id)
    ).all()  # fmt: skip
    if not rows:
        return []
    box_ids = {row.box_id for row in rows}
    boxes = {
        row.id: row
        for row in connection.execute(
            select(box.c.id, box.c.name, box.c.seen_ms, box.c.heartbeat, box.c.heartbeat_ms).where(
                box.c.tenant_id == tenant_id
            )
        )
        if row.id in box_ids
    }
    states = states_of(connection, tenant_id, place_ids)
    found = []
    for row in rows:
        its_box = boxes[row.box_id]
        heard = (its_box.heartbeat or {}).get("cameras")
        entry = heard.get(row.name) if isinstance(heard, dict) else None
        found.append(
            CameraNow(
                row.id, row.name, row.box_id, its_box.name, row.place_id, row.place, titles(row.place, row.title_id, row.title_en), row.kind, row.order, row.template,
                tile.Camera(
                    its_box.seen_ms or None, entry if isinstance(entry, dict) else {}, tuple(states.get(row.id, ())),
                    row.captured_ms or 0, row.received_ms or 0, heartbeat_ms=its_box.heartbeat_ms,
                ),
            )
        )  # fmt: skip
    return found


def states_of(
    connection: Connection, tenant_id: int, place_ids: Collection[int] | None
) -> dict[int, list[tile.StateNow]]:
    """What is true now, by camera."""
    state, camera, event = tables.state_now, tables.camera, tables.event
    rows = connection.execute(
        select(state, event.c.has_still)
        .join(camera, camera.c.id == state.c.camera_id)
        .outerjoin(event, event.c.id == state.c.event_id)
        .where(camera.c.tenant_id == tenant_id, at_places(camera.c.place_id, place_ids), state.c.open > 0)
        .order_by(state.c.camera_id, state.c.kind, state.c.zone, state.c.slot)
    )
    found: dict[int, list[tile.StateNow]] = {}
    for row in rows:
        body = row.body if isinstance(row.body, dict) else {}
        found.setdefault(row.camera_id, []).append(
            tile.StateNow(
                row.kind, row.zone, row.state, row.since_ms, row.event_id or "", numbers(body.get("numbers")),
                words(body.get("words")), text(body.get("detail")), bool(row.has_still),
            )
        )  # fmt: skip
    return found


def counts_of(
    connection: Connection, tenant_id: int, place_ids: Collection[int] | None, now_ms: int
) -> dict[int, dict[str, int]]:
    """By place: what crossed lines in this hour and the one before, by class."""
    table, camera = people.tally, tables.camera
    rows = connection.execute(
        select(camera.c.place_id, table.c.thing, func.sum(table.c.crossed).label("crossed"))
        .join(camera, camera.c.id == table.c.camera_id)
        .where(
            and_(
                camera.c.tenant_id == tenant_id, at_places(camera.c.place_id, place_ids),
                table.c.hour_ms >= hours.hour_of_ms(now_ms) - hours.HOUR_MS, table.c.hour_ms <= now_ms,
            )
        )
        .group_by(camera.c.place_id, table.c.thing)
    )  # fmt: skip
    found: dict[int, dict[str, int]] = {}
    for row in rows:
        found.setdefault(row.place_id, {})[row.thing] = int(row.crossed)
    return found


def numbers(value: Any) -> dict[str, float]:
    if not isinstance(value, dict):
        return {}
    return {
        str(key): float(each)
        for key, each in value.items()
        if isinstance(each, int | float) and not isinstance(each, bool)
    }


def words(value: Any) -> dict[str, str]:
    return {str(key): each for key, each in value.items() if isinstance(each, str)} if isinstance(value, dict) else {}


def text(value: Any) -> str:
    return value if isinstance(value, str) else ""
