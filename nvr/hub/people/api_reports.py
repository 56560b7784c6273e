"""`/api/v1/reports`: opening hours kept, waiting, traffic; JSON, or `?format=csv` with headers in the asker's language."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
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
OPENING = (
    "day", "due_from", "due_to", "opened", "last_open", "due_s", "open_s", "closed_s", "cannot_tell_s", "maybe_holiday_s", "kept",
)  # fmt: skip
WAITING = ("hour", "visits", "median_s", "p90_s", "longest_s")
CROSSED = ("day", "hour", "thing", "direction", "count")
CSV: dict[int | str, dict[str, Any]] = {200: {"content": {"text/csv": {}}}}


def _zone(asked: Asked) -> ZoneInfo:
    return ZoneInfo(asked.hub.settings.city.time_zone)


def _month(asked: Asked, month: str | None) -> str:
    return month or reports.month_of(asked.now_ms, _zone(asked))


def _places(connection: Connection, asked: Asked, place: str | None) -> Collection[int] | None:
    if place is not None:
        return [asked.place(connection, place, roles.REPORT).id]
    return asked.places(roles.REPORT)


def _by_place(
    names: dict[int, tuple[str, dict[str, str]]], found: Mapping[int, Sequence[Any]], columns: Sequence[str]
) -> list[dict[str, Any]]:
    """A row for each thing found, in the order of the places' names: the place, then the thing's `columns`."""
    return [
        {"place": name, "place_title": title, **{column: getattr(each, column) for column in columns}}
        for place_id, (name, title) in _in_order(names, found)
        for each in found[place_id]
    ]


def _in_order(
    names: dict[int, tuple[str, dict[str, str]]], found: Collection[int]
) -> list[tuple[int, tuple[str, dict[str, str]]]]:
    return sorted(((place_id, names.get(place_id, NO_PLACE)) for place_id in found), key=lambda each: each[1][0])


def _exported(
    asked: Asked, name: str, month: str, place: str | None, columns: Sequence[str], rows: list[dict[str, Any]], language: str | None,
) -> Response:  # fmt: skip
    """The rows as CSV; that somebody took them is logged."""
    with asked.hub.store.writing() as connection:
        asked.log(connection, "report exported", name, month=month, place=place)
    text = reports.table_text(["place", "place_title", *columns], rows, language or asked.person.language)
    headers = {"Content-Disposition": f'attachment; filename="{name}-{month}.csv"', "X-Content-Type-Options": "nosniff"}
    return Response(text.encode(), media_type="text/csv; charset=utf-8", headers=headers)


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
    for place_id, (name, title) in _in_order(names, found):
        days += [_day(name, title, day, zone) for day in found[place_id]]
        sums.append({"place": name, "place_title": title, **_sum(found[place_id])})
    if format == "csv":
        return _exported(asked, "opening", month, place, OPENING, days, language)
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
    rows = _by_place(names, found, WAITING)
    if format == "csv":
        return _exported(asked, "waiting", month, place, WAITING, rows, language)
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
    hours = _by_place(names, counts, CROSSED)
    if format == "csv":
        return _exported(asked, "traffic", month, place, CROSSED, hours, language)
    jammed = _by_place(names, jams, ("day", "hour", "jam_s", "dense_s"))
    return {"now_ms": asked.now_ms, "month": month, "hours": hours, "jams": jammed}
