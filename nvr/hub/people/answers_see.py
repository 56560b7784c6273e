"""What the API answers and takes: session, wall, places, cameras, events, clips."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints

from nvr.hub.people.answers import Language, Long, Ms, Name, RoleAt, Secret, Short, Taken, Title, Why


class City(BaseModel):
    title: str
    lat: float
    lon: float
    time_zone: str
    tiles: dict[str, str] | None = None


class SessionAnswer(BaseModel):
    user: str
    name: str
    language: Language
    roles: list[RoleAt]
    permissions: list[str]  # what is allowed somewhere
    csrf: str
    has_totp: bool
    city: City


class LogIn(Taken):
    name: Short
    password: Secret
    totp: Annotated[str, StringConstraints(max_length=20)] = ""
    tenant: Name = "city"


class UseLink(Taken):
    code: Secret
    password: Secret
    name: Short = ""


class OwnChange(Taken):
    language: Language | None = None
    password: Secret | None = None
    new_password: Secret | None = None


class TotpNew(BaseModel):
    secret: str
    address: str  # otpauth://, for a QR code


class TotpCode(Taken):
    code: Annotated[str, StringConstraints(max_length=20)]


class Evidence(BaseModel):
    event: str | None
    camera_id: int
    zone: str
    at_ms: int
    still_url: str | None


class WallCamera(BaseModel):
    id: int
    name: str
    title: Title
    place: str
    place_title: Title
    kind: str
    box: str
    state: Literal["live", "late", "silent", "tampered", "dark", "down", "unknown"]
    why: Why
    still_ms: int | None
    still_url: str | None
    order: int


class Wall(BaseModel):
    now_ms: int
    cameras: list[WallCamera]


class Service(BaseModel):
    state: Literal["open", "closed", "cannot tell"]
    due: str
    since_ms: int
    sure_ms: int = 0  # of `closed`: up to when it is confirmed; what a box sees is known to be true some minutes later
    why: Why
    evidence: Evidence


class Queue(BaseModel):
    waiting: int | None
    waiting_least: int | None
    waiting_most: int | None
    wait_s: int | None
    is_complete: bool
    since_ms: int
    why: Why
    evidence: Evidence


class Traffic(BaseModel):
    state: Literal["free", "dense", "jam", "cannot tell"]
    since_ms: int
    why: Why
    counts: dict[str, int]
    speed: dict[str, Any] | None
    is_complete: bool
    evidence: Evidence


class Incident(BaseModel):
    event: str | None
    kind: str
    state: str
    zone: str
    since_ms: int
    numbers: dict[str, float]
    why: Why
    camera_id: int
    still_url: str | None


class PlaceCamera(BaseModel):
    id: int
    name: str
    title: Title
    state: str
    why: Why


class PlaceAnswer(BaseModel):
    name: str
    title: Title
    kind: str
    lat: float | None
    lon: float | None
    address: str
    service: Service | None
    queue: Queue | None
    traffic: Traffic | None
    incidents: list[Incident]
    cameras: list[PlaceCamera]
    state_of_cameras: dict[str, int]


class Places(BaseModel):
    now_ms: int
    places: list[PlaceAnswer]


class PlaceChange(Taken):
    title_id: Short | None = None
    title_en: Short | None = None
    kind: Literal["traffic", "service-office", "health-centre", "public-space"] | None = None
    lat: Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False)] | None = None
    lon: Annotated[float, Field(ge=-180, le=180, allow_inf_nan=False)] | None = None
    address: Short | None = None
    retention: dict[Literal["clip_days", "still_days", "event_days"], Annotated[int, Field(ge=1, le=3650)]] | None = (
        None
    )


class CameraAnswer(WallCamera):
    now_ms: int
    template: str
    streams: list[Any]
    zones: Any
    lines: Any
    states: list[dict[str, Any]]
    may: list[str]


class EventAnswer(BaseModel):
    id: str
    camera_id: int
    camera: str
    place: str
    place_title: Title
    kind: str
    zone: str
    state: str
    is_end: bool
    is_moment: bool
    from_ms: int
    to_ms: int
    is_time_known: bool
    received_ms: int
    value: int
    numbers: dict[str, float]
    words: dict[str, str]
    detail: str
    still_url: str | None
    clip: str | None
    clip_url: str | None


class Events(BaseModel):
    now_ms: int
    events: list[EventAnswer]
    before: int | None  # ask for older ones with it


class ClipAnswer(BaseModel):
    sha256: str
    camera_id: int | None
    camera: str
    place: str
    place_title: Title
    from_ms: int
    to_ms: int
    size_bytes: int
    stored_ms: int
    event: str | None
    command: str | None
    genuine: bool | None
    held: bool
    url: str
    proof_url: str


class Clips(BaseModel):
    now_ms: int
    clips: list[ClipAnswer]
    before: int | None


class Proof(BaseModel):
    sha256: str
    genuine: bool | None
    box: str
    fingerprint: str
    proof: dict[str, Any] | None


class Span(BaseModel):
    from_ms: int
    to_ms: int
    what: Literal["recorded", "missing", "hub", "fetching", "unknown"]
    cause: str = ""
    clip: str | None = None
    command: str | None = None


class Counted(BaseModel):
    from_ms: int
    to_ms: int
    at_ms: int  # when the box said so


class Timeline(BaseModel):
    now_ms: int
    from_ms: int
    to_ms: int
    spans: list[Span]
    events: list[EventAnswer]
    ledger: dict[str, Any]  # of today, as the box said it last
    counted: Counted | None  # where `spans` are to the second; by the minute elsewhere


class Count(Taken):
    from_ms: Ms
    to_ms: Ms


class Fetch(Taken):
    from_ms: Ms
    to_ms: Ms
    reason: Long = ""


class CommandAnswer(BaseModel):
    id: str
    do: str
    state: Literal["waiting", "sent", "answered", "refused", "withdrawn", "done"]
    created_ms: int
    sent_ms: int | None
    answered_ms: int | None
    detail: str
    clip: str | None
    received_bytes: int | None
    size_bytes: int | None


class LiveAnswer(BaseModel):
    url: str
    stream: str
