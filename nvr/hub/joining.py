"""What a hello makes known: the box as it is now, its cameras and their places. A few statements, however many cameras."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from nvr import wire
from nvr.hub import tables
from nvr.hub.checking import Row
from nvr.hub.database import upsert
from nvr.hub.identity import Box

CAMERAS_EVER = 256  # of one box, with those that went
PLACES_MOST = 20_000  # of one tenant, made by boxes
PLACE_OF_TEMPLATE = {"traffic": "traffic", "service-office": "service-office", "health-centre": "health-centre"}
_TOLD = ("place_id", "template", "streams", "zones", "lines", "rules", "hours", "gone_ms")


def join(
    connection: Connection, box: Box, connection_id: str, hello: Row, received_ms: int
) -> dict[str, tuple[int, int]]:
    """Store what a box said in its hello; all its cameras that were ever known, by name: (camera_id, place_id).

    A camera that the site file names no more is marked as gone; its footage stays. Raises WireError for more than one box may have.
    """
    _put_box(connection, box, connection_id, hello, received_ms)
    table = tables.camera
    known = {row.name: row for row in connection.execute(select(table).where(table.c.box_id == box.id))}
    told = {each["camera"]: each for each in hello["cameras"]}
    if len(known.keys() | told.keys()) > CAMERAS_EVER:
        raise wire.WireError(f"more than {CAMERAS_EVER} cameras of one box")
    places = _places(connection, box.tenant_id, {each["place"]: each["template"] for each in told.values()})
    new, changed = [], []
    for order, (name, each) in enumerate(told.items()):
        values = {**each, "place_id": places[each["place"]], "gone_ms": None}
        values = {key: values[key] for key in _TOLD}
        row = known.get(name)
        if row is None:
            new.append({"name": name, "box_id": box.id, "tenant_id": box.tenant_id, "order": order, **values})
        elif any(getattr(row, key) != value for key, value in values.items()):
            changed.append({"b_id": row.id, **{f"b_{key}": value for key, value in values.items()}})
    if new:
        connection.execute(insert(table), new)
    if changed:
        to: dict[str, Any] = {key: bindparam(f"b_{key}") for key in _TOLD}
        connection.execute(update(table).where(table.c.id == bindparam("b_id")).values(**to), changed)
    gone = [row.id for name, row in known.items() if row.gone_ms is None and name not in told]
    if gone:
        connection.execute(update(table).where(table.c.id.in_(gone)).values(gone_ms=received_ms))
        connection.execute(delete(tables.state_now).where(tables.state_now.c.camera_id.in_(gone)))
    rows: Any = known.values()
    if new or changed:
        rows = connection.execute(select(table.c.name, table.c.id, table.c.place_id).where(table.c.box_id == box.id))
    return {row.name: (row.id, row.place_id) for row in rows}


def _put_box(connection: Connection, box: Box, connection_id: str, hello: Row, received_ms: int) -> None:
    connection.execute(
        update(tables.box)
        .where(tables.box.c.id == box.id)
        .values(
            software=hello["software"], slot=hello["slot"], boot_id=hello["boot_id"], time_zone=hello["time_zone"],
            site_digest=hello["site_digest"], name=hello["box"], site=hello["site"], connected_ms=received_ms, connection_id=connection_id,
        )
    )  # fmt: skip


def _places(connection: Connection, tenant_id: int, wanted: dict[str, str]) -> dict[str, int]:
    """The numbers of places by name; those that are new are made, of the kind that the first camera's template says."""
    table = tables.place
    question = select(table.c.name, table.c.id).where(table.c.tenant_id == tenant_id, table.c.name.in_(list(wanted)))
    found = {row.name: row.id for row in connection.execute(question)} if wanted else {}
    new = [
        {"tenant_id": tenant_id, "name": name, "kind": _kind(name, template)}
        for name, template in wanted.items()
        if name not in found
    ]
    if not new:
        return found
    count = connection.execute(
        select(func.count()).select_from(table).where(table.c.tenant_id == tenant_id)
    ).scalar_one()
    if count + len(new) > PLACES_MOST:
        raise wire.WireError(f"there are {count} places already, more than {PLACES_MOST} are not made by boxes")
    connection.execute(upsert(connection, table).on_conflict_do_nothing(index_elements=["tenant_id", "name"]), new)
    return {row.name: row.id for row in connection.execute(question)}


def _kind(name: str, template: str) -> str:
    return "health-centre" if name.startswith("puskesmas") else PLACE_OF_TEMPLATE.get(template, "public-space")
