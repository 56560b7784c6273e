"""`/api/v1/reports`: opening hours kept, waiting, traffic; JSON, or `?format=csv` with headers in the asker's language."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, Query, Response
from sqlalchemy import Connection

from nvr.hub.people import answers, answers_work, opening, reports, roles
from nvr.hub.people.api_events import NO_PLACE, PlaceQuery, places_by_id
from nvr.hub.people.guard import Asked, Needs

router = APIRouter(prefix="/reports", tags=["reports"])

Reader = Annotated[Asked, Depends(Needs(roles.REPORT))]
Month = Annotated[
    str | None, Query(pattern=r"^20\d\d-(0[1-9]|1[0-2])$", description="2026-11; without it the present month")
]
Format = Annotated[Literal["json", "csv"], Query()]
LanguageQuery = Annotated[answers.Language | None, Query(description="of the CSV; without it the person's")]
CSV: dict[int | str, dict[str, Any]] = {200: {"content": {"text/csv": {}}}}


def _zone(asked: Asked) -> ZoneInfo:
    return ZoneInfo(asked.hub.settings.city.time_zone)


def _month(asked: Asked, month: str | None) -> str:
    return month or reports.month_of(asked.now_ms, _zone(asked))


def _places(connection: Connection, asked: Asked, place: str | None) -> Collection[int] | None:
    if place is not None:
        return [asked.place(connection, place, roles.REPORT).id]
    return asked.places(roles.REPORT)


def _csv(
    asked: Asked, name: str, month: str, columns: list[str], rows: list[dict[str, Any]], language: str | None
) -> Response:
    text = reports.table_text(columns, rows, language or asked.person.language)
    headers = {"Content-Disposition": f'attachment; filename="{name}-{month}.csv"', "X-Content-Type-Options": "nosniff"}
    return Response(text.encode(), media_type="text/csv; charset=utf-8", headers=headers)


def _log(asked: Asked, name: str, month: str, place: str | None) -> None:
    with asked.hub.store.writing() as connection:
        asked.log(connection, "report exported", name, month=month, place=place)


@router.get("/opening", response_model=answers_work.OpeningReport, responses=CSV)
def opening_report(
    asked: Reader,
    month: Month = None,
    place: PlaceQuery = None,
    format: Format = "json",
    language: LanguageQuery = None,
) -> Any:
    """Opening hours kept, each office and day. Seconds open, closed and `cannot tell` add up to those it was due; `kept` is open / (open + closed)."""
    month, zone = _month(asked, month), _zone(asked)
    with asked.hub.store.reading() as connection:
        names = places_by_id(connection, asked.tenant_id)
        found = reports.opening_days(
            connection, asked.tenant_id, _places(connection, asked, place), month, zone, asked.now_ms
        )
    days, sums = [], []
    for place_id in sorted(found, key=lambda each: names.get(each, NO_PLACE)[0]):
        name, title = names.get(place_id, NO_PLACE)
        days += [_day(name, title, day, zone) for day in found[place_id]]
        sums.append({"place": name, "place_title": title, **_sum(found[place_id])})
    if format == "csv":
        _log(asked, "opening", month, place)
        columns = [
            "place",
            "place_title",
            "day",
            "due_from",
            "due_to",
            "opened",
            "last_open",
            "due_s",
            "open_s",
            "closed_s",
            "cannot_tell_s",
            "maybe_holiday_s",
            "kept",
        ]
        return _csv(asked, "opening", month, columns, days, language)
    return {"now_ms": asked.now_ms, "month": month, "days": days, "places": sums}


def _day(name: str, title: dict[str, str], day: opening.Day, zone: ZoneInfo) -> dict[str, Any]:
    return {
        "place": name, "place_title": title, "day": day.day.isoformat(), "due_s": day.due_s, "open_s": day.open_s, "closed_s": day.closed_s,
        "cannot_tell_s": day.cannot_tell_s, "maybe_holiday_s": day.maybe_holiday_s, "kept": day.kept,
        "due_from_ms": day.due_from_ms or None, "due_to_ms": day.due_to_ms or None, "opened_ms": day.opened_ms or None,
        "last_open_ms": day.last_open_ms or None, "due_from": reports.clock(day.due_from_ms, zone),
        "due_to": reports.clock(day.due_to_ms, zone), "opened": reports.clock(day.opened_ms, zone),
        "last_open": reports.clock(day.last_open_ms, zone),
    }  # fmt: skip


def _sum(days: list[opening.Day]) -> dict[str, Any]:
    due, opened, closed = (sum(getattr(day, key) for day in days) for key in ("due_s", "open_s", "closed_s"))
    return {
        "due_s": due, "open_s": opened, "closed_s": closed, "cannot_tell_s": sum(day.cannot_tell_s for day in days),
        "kept": round(opened / (opened + closed), 4) if opened + closed else None,
        "judged": round((opened + closed) / due, 4) if due else None,  # of the due time; the rest nobody could tell
    }  # fmt: skip


@router.get("/waiting", response_model=answers_work.WaitingReport, responses=CSV)
def waiting_report(
    asked: Reader,
    month: Month = None,
    place: PlaceQuery = None,
    format: Format = "json",
    language: LanguageQuery = None,
) -> Any:
    """How long people waited, by hour of the day, over the month."""
    month, zone = _month(asked, month), _zone(asked)
    with asked.hub.store.reading() as connection:
        names = places_by_id(connection, asked.tenant_id)
        found, is_complete = reports.waiting(
            connection, asked.tenant_id, _places(connection, asked, place), month, zone
        )
    rows = [
        {"place": names.get(place_id, NO_PLACE)[0], "place_title": names.get(place_id, NO_PLACE)[1], "hour": each.hour, "visits": each.visits,
         "median_s": each.median_s, "p90_s": each.p90_s, "longest_s": each.longest_s}
        for place_id in sorted(found, key=lambda each: names.get(each, NO_PLACE)[0])
        for each in found[place_id]
    ]  # fmt: skip
    if format == "csv":
        _log(asked, "waiting", month, place)
        return _csv(
            asked,
            "waiting",
            month,
            ["place", "place_title", "hour", "visits", "median_s", "p90_s", "longest_s"],
            rows,
            language,
        )
    return {"now_ms": asked.now_ms, "month": month, "hours": rows, "is_complete": is_complete}


@router.get("/traffic", response_model=answers_work.TrafficReport, responses=CSV)
def traffic_report(
    asked: Reader,
    month: Month = None,
    place: PlaceQuery = None,
    format: Format = "json",
    language: LanguageQuery = None,
) -> Any:
    """What crossed the lines, by hour, class and direction; and how long lanes were dense or jammed."""
    month, zone = _month(asked, month), _zone(asked)
    with asked.hub.store.reading() as connection:
        names = places_by_id(connection, asked.tenant_id)
        counts, jams = reports.traffic(
            connection, asked.tenant_id, _places(connection, asked, place), month, zone, asked.now_ms
        )
    hours = [
        {"place": names.get(place_id, NO_PLACE)[0], "place_title": names.get(place_id, NO_PLACE)[1], "day": each.day, "hour": each.hour,
         "thing": each.thing, "direction": each.direction, "count": each.count}
        for place_id in sorted(counts, key=lambda each: names.get(each, NO_PLACE)[0])
        for each in counts[place_id]
    ]  # fmt: skip
    if format == "csv":
        _log(asked, "traffic", month, place)
        return _csv(
            asked,
            "traffic",
            month,
            ["place", "place_title", "day", "hour", "thing", "direction", "count"],
            hours,
            language,
        )
    jammed = [
        {"place": names.get(place_id, NO_PLACE)[0], "place_title": names.get(place_id, NO_PLACE)[1], "day": each.day, "hour": each.hour,
         "jam_s": each.jam_s, "dense_s": each.dense_s}
        for place_id in sorted(jams, key=lambda each: names.get(each, NO_PLACE)[0])
        for each in jams[place_id]
    ]  # fmt: skip
    return {"now_ms": asked.now_ms, "month": month, "hours": hours, "jams": jammed}
