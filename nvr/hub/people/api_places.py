"""`/api/v1/places`: the board. What it shows is decided in board.py."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path
from sqlalchemy import Connection, select, update

from nvr.hub import tables as core
from nvr.hub.people import answers_see, board, current, roles, tile
from nvr.hub.people.guard import Asked, Needs

router = APIRouter(tags=["places"])

PlaceName = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,63}$")]


def places_now(
    connection: Connection, tenant_id: int, place_ids: Any, now_ms: int, only: str | None = None
) -> list[dict[str, Any]]:
    """All places that may be seen, also those without a camera; in the order of their names."""
    table = core.place
    question = (
        select(table)
        .where(table.c.tenant_id == tenant_id, current.at_places(table.c.id, place_ids))
        .order_by(table.c.name)
    )
    if only is not None:
        question = question.where(table.c.name == only)
    rows = connection.execute(question).all()
    ids = None if place_ids is None and only is None else [row.id for row in rows]
    by_place: dict[int, list[current.CameraNow]] = {}
    for each in current.cameras_now(connection, tenant_id, ids):
        by_place.setdefault(each.place_id, []).append(each)
    counts = current.counts_of(connection, tenant_id, ids, now_ms)
    return [place_now(row, by_place.get(row.id, []), counts.get(row.id, {}), now_ms) for row in rows]


def place_now(row: Any, cameras: list[current.CameraNow], counts: dict[str, int], now_ms: int) -> dict[str, Any]:
    found = board.board([board.Watched(each.id, each.camera) for each in cameras], now_ms, counts)
    tiles = {each.id: tile.tile(each.camera, now_ms) for each in cameras}
    states: dict[str, int] = {}
    for each in tiles.values():
        states[each.state] = states.get(each.state, 0) + 1
    return {
        "name": row.name, "title": current.titles(row.name, row.title_id, row.title_en), "kind": row.kind, "lat": row.lat, "lon": row.lon, "address": row.address,
        "service": found.service, "queue": found.queue, "traffic": found.traffic,
        "incidents": [{**each, **_flat(each["evidence"])} for each in found.incidents],
        "cameras": [
            {"id": each.id, "name": each.name, "title": each.title, "state": tiles[each.id].state, "why": tiles[each.id].why}
            for each in cameras
        ],
        "state_of_cameras": states,
    }  # fmt: skip


def _flat(evidence: dict[str, Any]) -> dict[str, Any]:
    return {key: evidence[key] for key in ("event", "camera_id", "still_url")}


@router.get("/places", response_model=answers_see.Places)
def places(asked: Annotated[Asked, Depends(Needs(roles.SEE))]) -> Any:
    """Each place as it is now: open or closed, who waits, how the traffic is, what happened; with the evidence."""
    with asked.hub.store.reading() as connection:
        found = places_now(connection, asked.tenant_id, asked.places(), asked.now_ms)
    return {"now_ms": asked.now_ms, "places": found}


@router.get("/places/{name}", response_model=answers_see.PlaceAnswer)
def place(name: PlaceName, asked: Annotated[Asked, Depends(Needs(roles.SEE))]) -> Any:
    with asked.hub.store.reading() as connection:
        asked.place(connection, name)
        return places_now(connection, asked.tenant_id, asked.places(), asked.now_ms, name)[0]


@router.patch("/places/{name}", status_code=204)
def change_place(
    name: PlaceName, body: answers_see.PlaceChange, asked: Annotated[Asked, Depends(Needs(roles.ADMINISTER))]
) -> None:
    """Title, kind, position, and how long what was seen there is kept."""
    changed = body.model_dump(exclude_none=True)
    with asked.hub.store.writing() as connection:
        row = asked.place(connection, name, roles.ADMINISTER)
        if changed:
            connection.execute(update(core.place).where(core.place.c.id == row.id).values(**changed))
            asked.hub.changes.tell(connection, "places")
            asked.log(connection, "place changed", f"place {name}", **changed)
