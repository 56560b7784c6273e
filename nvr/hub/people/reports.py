"""Reads what reports need from the tables, and writes them as CSV. The sums are made in opening.py and hours.py."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, select

from nvr.hub import tables as core
from nvr.hub.people import current, hours, opening, tile, words
from nvr.hub.people import tables as people

BEFORE_MS = 8 * 24 * 3_600_000  # far enough back to know what held when the month began
MINUTE_MS = 60_000
VISITS_MOST = 500_000


def cameras_at(connection: Connection, tenant_id: int, place_ids: Iterable[int] | None) -> dict[int, Any]:
    table = core.camera
    rows = connection.execute(
        select(table.c.id, table.c.box_id, table.c.place_id, table.c.name).where(
            table.c.tenant_id == tenant_id,
            current.at_places(table.c.place_id, None if place_ids is None else list(place_ids)),
        )
    )
    return {row.id: row for row in rows}


def opening_days(
    connection: Connection, tenant_id: int, place_ids: Iterable[int] | None, month: str, zone: ZoneInfo, now_ms: int
) -> dict[int, list[opening.Day]]:
    """By place. Raises ValueError for a month that is none."""
    first, last, from_ms, to_ms = opening.month_span(month, zone)
    until_ms = min(to_ms, now_ms)
    cameras = cameras_at(connection, tenant_id, place_ids)
    changes = _changes(connection, cameras, "service_open", from_ms - BEFORE_MS, until_ms)
    heard = _heard(connection, {cameras[camera_id].box_id for camera_id, _ in changes}, from_ms - BEFORE_MS, until_ms)
    by_place: dict[int, list[list[opening.Stretch]]] = {}
    for (camera_id, _), told in changes.items():
        camera = cameras[camera_id]
        by_place.setdefault(camera.place_id, []).append(opening.stretches(told, heard.get(camera.box_id, []), until_ms))
    return {place_id: opening.days(opening.merged(lists), zone, first, last) for place_id, lists in by_place.items()}


def _changes(
    connection: Connection, cameras: Mapping[int, Any], kind: str, from_ms: int, to_ms: int
) -> dict[tuple[int, str], list[opening.Change]]:
    """By camera and zone, in the order the box told them (`to_ms` is when it did)."""
    table = core.event
    found: dict[tuple[int, str], list[opening.Change]] = {}
    if not cameras:
        return found
    rows = connection.execute(
        select(table.c.id, table.c.camera_id, table.c.zone, table.c.state, table.c.from_ms, table.c.body)
        .where(
            table.c.camera_id.in_(sorted(cameras)),
            table.c.kind == kind,
            table.c.from_ms >= from_ms,
            table.c.from_ms < to_ms,
        )
        .order_by(table.c.to_ms, table.c.received_ms, table.c.id)
    )
    for row in rows:
        body = row.body if isinstance(row.body, dict) else {}
        due = current.words(body.get("words")).get("due", "unknown")
        behind_ms = tile.behind_ms(current.numbers(body.get("numbers")))
        change = opening.Change(row.from_ms, row.state, due, current.text(body.get("boot_id")), row.id, behind_ms)
        found.setdefault((row.camera_id, row.zone), []).append(change)
    return found


def _heard(
    connection: Connection, box_ids: Iterable[str], from_ms: int, to_ms: int
) -> dict[str, list[tuple[int, int]]]:
    """Spans in which boxes were heard, from the history of minutes."""
    table = core.heartbeat_history
    found: dict[str, list[tuple[int, int]]] = {}
    for box_id in sorted(box_ids):
        spans = found.setdefault(box_id, [])
        rows = connection.execute(
            select(table.c.minute)
            .where(
                table.c.box_id == box_id, table.c.minute >= from_ms // MINUTE_MS, table.c.minute <= to_ms // MINUTE_MS
            )
            .order_by(table.c.minute)
        ).scalars()
        for minute in rows:
            if spans and spans[-1][1] == minute * MINUTE_MS:
                spans[-1] = (spans[-1][0], (minute + 1) * MINUTE_MS)
            else:
                spans.append((minute * MINUTE_MS, (minute + 1) * MINUTE_MS))
    return found


def waiting(
    connection: Connection, tenant_id: int, place_ids: Iterable[int] | None, month: str, zone: ZoneInfo
) -> tuple[dict[int, list[hours.Waiting]], bool]:
    """By place, and whether all visits were looked at. Raises ValueError."""
    _, _, from_ms, to_ms = opening.month_span(month, zone)
    table = core.event
    where = [
        table.c.tenant_id == tenant_id,
        current.at_places(table.c.place_id, None if place_ids is None else list(place_ids)),
    ]
    rows = connection.execute(
        select(table.c.place_id, table.c.to_ms, table.c.body)
        .where(
            *where,
            table.c.kind == "queue",
            table.c.state == "visit",
            table.c.from_ms >= from_ms,
            table.c.from_ms < to_ms,
        )
        .limit(VISITS_MOST)
    )
    visits: dict[int, list[hours.Visit]] = {}
    count = 0
    for row in rows:
        count += 1
        dwell_s = current.numbers(row.body.get("numbers") if isinstance(row.body, dict) else None).get("dwell_s")
        if dwell_s is not None:
            visits.setdefault(row.place_id, []).append(hours.Visit(row.to_ms, dwell_s))
    return {place_id: hours.waiting_by_hour(each, zone) for place_id, each in visits.items()}, count < VISITS_MOST


def traffic(
    connection: Connection, tenant_id: int, place_ids: Iterable[int] | None, month: str, zone: ZoneInfo, now_ms: int
) -> tuple[dict[int, list[hours.TrafficHour]], dict[int, list[hours.Jammed]]]:
    """Counts and jams, by place. Raises ValueError."""
    _, _, from_ms, to_ms = opening.month_span(month, zone)
    cameras = cameras_at(connection, tenant_id, place_ids)
    if not cameras:
        return {}, {}
    table = people.tally
    tallies: dict[int, list[hours.Tally]] = {}
    for row in connection.execute(
        select(table).where(table.c.camera_id.in_(sorted(cameras)), table.c.hour_ms >= from_ms, table.c.hour_ms < to_ms)
    ):
        tally = hours.Tally(row.hour_ms, row.line, row.thing, row.direction, row.crossed)
        tallies.setdefault(cameras[row.camera_id].place_id, []).append(tally)
    until_ms = min(to_ms, now_ms)
    lanes: dict[int, list[list[tuple[int, int, str]]]] = {}
    changes = _changes(connection, cameras, "congestion", from_ms - BEFORE_MS, until_ms)
    heard = _heard(connection, {cameras[camera_id].box_id for camera_id, _ in changes}, from_ms - BEFORE_MS, until_ms)
    for (camera_id, _), told in changes.items():
        camera = cameras[camera_id]
        held = opening.stretches(told, heard.get(camera.box_id, []), until_ms)
        lanes.setdefault(camera.place_id, []).append(
            [(max(each.from_ms, from_ms), each.to_ms, each.state) for each in held if each.to_ms > from_ms]
        )
    return (
        {place_id: hours.traffic_by_hour(each, zone) for place_id, each in tallies.items()},
        {place_id: hours.jam_by_hour(hours.worst_of(each), zone) for place_id, each in lanes.items()},
    )


def table_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]], language: str) -> str:
    """CSV (RFC 4180), UTF-8 without a byte order mark, with the header in words."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    language = language if language in ("id", "en") else "id"
    writer.writerow([words.COLUMNS[column][language] for column in columns])
    for row in rows:
        writer.writerow([_cell(column, row.get(column), language) for column in columns])
    return out.getvalue()


def _cell(column: str, value: Any, language: str) -> str:
    if column == "place_title" and isinstance(value, Mapping):
        value = value[language]
    elif column == "thing":
        value = words.THINGS.get(value, {}).get(language, value)
    return words.cell(value)


def clock(at_ms: int, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(at_ms / 1000, zone).strftime("%H:%M") if at_ms else ""


def month_of(now_ms: int, zone: ZoneInfo) -> str:
    today: date = datetime.fromtimestamp(now_ms / 1000, zone).date()
    return today.strftime("%Y-%m")
