"""What the API answers and takes: alerts, reports, boxes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from nvr.hub.people.answers import Long, Ms, Name, Short, Taken, Title


class InstructionAnswer(BaseModel):
    to: str
    what: str
    due_ms: int
    by: str
    created_ms: int
    done_ms: int | None
    overdue_ms: int | None


class AlertAnswer(BaseModel):
    id: int
    version: int
    place: str | None
    place_title: Title | None
    camera_id: int | None
    camera: str | None
    box_id: str | None
    box_name: str | None
    family: str
    kind: str
    what: str
    value: int
    first_ms: int
    last_ms: int
    count: int
    state: Literal["open", "acknowledged", "instructed", "done"]
    over_ms: int | None
    due_ms: int | None
    is_overdue: bool
    numbers: dict[str, Any]
    event_ids: list[str]
    instructions: list[InstructionAnswer]  # the newest first
    still_url: str | None
    may_act: bool


class AlertStep(BaseModel):
    at_ms: int
    who: str  # "": the hub
    what: str
    more: dict[str, Any]


class AlertWhole(AlertAnswer):
    now_ms: int
    steps: list[AlertStep]


class Alerts(BaseModel):
    now_ms: int
    alerts: list[AlertAnswer]
    before: int | None


class Ask(Taken):
    """An instruction about a place where nothing rang."""

    place: Name
    to: Short
    what: Long
    due_ms: Ms


class Instruct(Taken):
    to: Short
    what: Long
    due_ms: Ms


class DoneNote(Taken):
    note: Long


class OpeningDay(BaseModel):
    place: str
    place_title: Title
    day: str
    due_s: int
    open_s: int
    closed_s: int
    cannot_tell_s: int
    maybe_holiday_s: int
    kept: float | None
    due_from_ms: int | None
    due_to_ms: int | None
    opened_ms: int | None
    last_open_ms: int | None


class OpeningReport(BaseModel):
    now_ms: int
    month: str
    days: list[OpeningDay]
    places: list[dict[str, Any]]  # sums for each place


class WaitingHour(BaseModel):
    place: str
    place_title: Title
    hour: int
    visits: int
    median_s: int
    p90_s: int
    longest_s: int


class WaitingReport(BaseModel):
    now_ms: int
    month: str
    hours: list[WaitingHour]
    is_complete: bool


class TrafficHour(BaseModel):
    place: str
    place_title: Title
    day: str
    hour: int
    thing: str
    direction: str
    count: int


class JamHour(BaseModel):
    place: str
    place_title: Title
    day: str
    hour: int
    jam_s: int
    dense_s: int


class TrafficReport(BaseModel):
    now_ms: int
    month: str
    hours: list[TrafficHour]
    jams: list[JamHour]


class BoxAnswer(BaseModel):
    id: str
    name: str
    site: str
    software: str
    slot: str
    state: Literal["here", "silent", "never heard", "blocked"]
    blocked: bool
    enrolled_ms: int
    seen_ms: int | None
    silent_since_ms: int | None
    fingerprint: str
    heartbeat: dict[str, Any] | None
    cameras: list[dict[str, Any]]


class StoreState(BaseModel):
    """Whether this hub process can store what boxes bring; if not, boxes keep it."""

    database: Literal["ok", "failing"]
    objects: Literal["ok", "not mounted", "read only", "full", "failing"]


class Boxes(BaseModel):
    now_ms: int
    boxes: list[BoxAnswer]
    store: StoreState
