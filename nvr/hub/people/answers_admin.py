"""What the API answers and takes: codes, users, tokens, audit, webhooks, notifications, holds, requests of persons."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, Field, StringConstraints

from nvr.hub.people import roles
from nvr.hub.people.answers import _CLEAN, Language, Long, Ms, Name, RoleAt, Secret, Short, Taken


class Block(Taken):
    blocked: bool = True


class BoxAsk(Taken):
    do: Literal["restart", "logs"]
    lines: Annotated[int, Field(ge=1, le=500)] = 100  # of the log


class BoxAsked(BaseModel):
    id: str
    do: str
    state: Literal["waiting", "sent", "answered", "refused", "withdrawn"]
    detail: str
    lines: list[str] | None  # of the log, once it is there


class CodeNew(Taken):
    site: Name | None = None
    box: Name | None = None
    valid_hours: Annotated[int, Field(ge=1, le=24 * 90)] = 24 * 30
    # Of a card that a laptop wrote: the hub gets the hash (wire.code_hash), the code is on the card alone.
    code_hash: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None
    expires_at: AwareDatetime | None = None  # instead of valid_hours; a year at most
    revoke: bool = False  # takes this code back, if no box has used it


class CodeMade(BaseModel):
    code: str | None  # shown once; none where the laptop made it
    expires_ms: int


class CodeAnswer(BaseModel):
    site: str
    box: str
    by: str
    created_ms: int
    expires_ms: int
    used_by: str | None
    used_ms: int | None


class Codes(BaseModel):
    now_ms: int
    codes: list[CodeAnswer]


class UserAnswer(BaseModel):
    name: str
    full_name: str
    language: Language
    roles: list[RoleAt]
    disabled: bool
    has_totp: bool
    has_password: bool
    seen_ms: int | None


class Users(BaseModel):
    now_ms: int
    users: list[UserAnswer]


UserName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{1,62}$")]


class UserNew(Taken):
    name: UserName
    full_name: Short = ""
    language: Language = "id"
    roles: Annotated[list[RoleAt], Field(max_length=100)] = Field(default=[])


class UserChange(Taken):
    full_name: Short | None = None
    language: Language | None = None
    roles: Annotated[list[RoleAt], Field(max_length=100)] | None = None
    disabled: bool | None = None
    new_link: bool = False  # a one-time link for a new password; ends the old one and all sessions
    remove_totp: bool = False


class UserMade(BaseModel):
    user: UserAnswer
    link_code: str | None  # shown once: /enter#CODE


class AuditEntry(BaseModel):
    id: int
    at_ms: int
    who: str
    what: str
    object: str
    address: str
    more: dict[str, Any]
    hash: str


class AuditAnswer(BaseModel):
    now_ms: int
    entries: list[AuditEntry]
    before: int | None


class AuditCheck(BaseModel):
    is_whole: bool
    faults: list[str]


Scope = Literal["see", "footage", "act", "report", "health", "hold", "administer", "metrics"]

assert set(Scope.__args__) == set(roles.SCOPES)  # type: ignore[attr-defined]


class TokenNew(Taken):
    title: Short
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=20)]
    valid_hours: Annotated[int, Field(ge=1, le=24 * 3650)] | None = 24 * 365


class TokenMade(BaseModel):
    id: int
    token: str  # shown once


class TokenAnswer(BaseModel):
    id: int
    user: str
    title: str
    scopes: list[str]
    created_ms: int
    expires_ms: int | None
    used_ms: int | None


class Tokens(BaseModel):
    now_ms: int
    tokens: list[TokenAnswer]


class WebhookNew(Taken):
    title: Short
    url: Annotated[str, StringConstraints(max_length=2000, pattern=r"^https?://[^\s\x00-\x1f]+$")]
    what: Annotated[list[Literal["alerts", "events"]], Field(max_length=2)] = Field(default=["alerts"])


class WebhookMade(BaseModel):
    id: int
    secret: str  # shown once


class WebhookAnswer(BaseModel):
    id: int
    title: str
    url: str
    what: list[str]
    is_on: bool
    by: str
    waiting: int
    failed: int
    trouble: str
    last_ms: int | None  # when the receiver was last called
    last_trouble: str  # and why it did not take it; "": it did


class Webhooks(BaseModel):
    now_ms: int
    webhooks: list[WebhookAnswer]


Quiet = Annotated[str, StringConstraints(pattern=r"^(|([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d)$")]
Families = Annotated[
    list[Literal["service", "queue", "traffic", "incident", "people", "picture", "footage", "box", "asked"]],
    Field(max_length=9),
]
Places = Annotated[list[Name], Field(max_length=1000)]


class NotificationNew(Taken):
    title: Short
    address: Secret  # of Apprise, such as tgram://token/chat
    language: Language = "id"
    quiet: Quiet = ""
    families: Families = Field(default=[])
    places: Places | None = None


class NotificationChange(Taken):
    """What is not named stays; `places: null` is all of them."""

    title: Short = ""
    language: Language = "id"
    quiet: Quiet = ""
    families: Families = Field(default=[])
    places: Places | None = None
    is_on: bool = True


class NotificationAnswer(BaseModel):
    id: int
    title: str
    service: str  # the address is never shown again
    language: Language
    quiet: str
    families: list[str]
    places: list[str] | None
    is_on: bool
    by: str
    waiting: int
    failed: int
    trouble: str


class Notifications(BaseModel):
    now_ms: int
    notifications: list[NotificationAnswer]


class HoldNew(Taken):
    place: Name | None = None
    camera_id: Annotated[int, Field(ge=1, le=2**53)] | None = None
    from_ms: Ms
    to_ms: Ms
    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=3, max_length=1000, pattern=_CLEAN)]


class HoldRelease(Taken):
    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=3, max_length=1000, pattern=_CLEAN)]


class KeptNow(BaseModel):
    """Clips and stills that the hub has."""

    count: int
    size_bytes: int


class HoldAnswer(BaseModel):
    id: int
    place: str | None
    camera_id: int | None
    from_ms: int
    to_ms: int
    reason: str
    by: str
    created_ms: int
    released_ms: int | None
    released_by: str
    release_reason: str
    kept: KeptNow | None  # what it keeps from being deleted now; null: it was released


class Holds(BaseModel):
    now_ms: int
    holds: list[HoldAnswer]


class DeletionNew(Taken):
    person: Annotated[str, StringConstraints(min_length=1, max_length=300, pattern=_CLEAN)]
    contact: Annotated[str, StringConstraints(max_length=300, pattern=_CLEAN)] = ""
    places: Annotated[list[Name], Field(max_length=1000)] | None = None
    from_ms: Ms
    to_ms: Ms
    reason: Long


class DeletionDecision(Taken):
    granted: bool
    answer: Annotated[str, StringConstraints(strip_whitespace=True, min_length=3, max_length=2000, pattern=_CLEAN)]


class DeletionAnswer(BaseModel):
    id: int
    person: str
    contact: str
    places: list[str] | None
    from_ms: int
    to_ms: int
    reason: str
    state: Literal["received", "granted", "refused", "done"]
    received_ms: int
    answer_by_ms: int
    is_late: bool
    by: str
    decided_ms: int | None
    decided_by: str
    answer: str
    done_ms: int | None
    deleted: int
    kept_by_hold: int


class CoveredThing(BaseModel):
    """One clip or still that a request covers."""

    sha256: str
    kind: Literal["clip", "still"]
    place: str | None
    camera_id: int | None
    camera: str
    from_ms: int
    to_ms: int
    size_bytes: int
    is_held: bool


class DeletionLook(BaseModel):
    now_ms: int
    deletion: DeletionAnswer
    covered: KeptNow  # what a grant would delete, without what is held
    held: KeptNow  # what a hold keeps all the same
    things: list[CoveredThing]  # the newest 200 of both


class Deletions(BaseModel):
    now_ms: int
    deletions: list[DeletionAnswer]
