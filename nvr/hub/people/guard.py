"""Stands before every route: who asks, whether the request comes from our own page, what they may do, and with which object.

What somebody may not see does not exist for them: an id of another tenant or place gives 404, like one that never was. What they may see
and not do gives 403. A route without a guard fails tests/hub/people/test_authorisation.py.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy import Connection, select
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from nvr.errors import NvrError
from nvr.hub import tables
from nvr.hub.blobs import BlobsUnusable
from nvr.hub.parts import Hub
from nvr.hub.people import access, alerts, audit, passwords, roles
from nvr.hub.people import tables as people
from nvr.hub.people.sealed import Seal

COOKIE, COOKIE_PLAIN = "__Host-nvr", "nvr"
CSRF_HEADER = "X-CSRF"
SAFE = ("GET", "HEAD", "OPTIONS")
KEY_MOST = 2**53  # of numbers in addresses: larger ones are no row, and some databases refuse them


class Refused(NvrError):
    """An answer that is no success, as the API gives it."""

    def __init__(self, status: int, key: str, message: str, *, hint: str = "", **more: Any) -> None:
        super().__init__(message, hint=hint)
        self.status, self.key, self.more = status, key, more


def not_found(what: str) -> Refused:
    return Refused(404, "not found", f"there is no such {what}", hint="It was deleted, or it is not yours to see.")


def not_allowed(permission: str, *, is_out_of_scope: bool = False) -> Refused:
    """`is_out_of_scope`: it is the token that may not, whatever the role of whom it belongs to."""
    if is_out_of_scope:
        hint = f"Make a token that has it, such as `nvrctl hub token add NAME --scope {permission}`; --scope may be repeated."
        return Refused(403, "not allowed", f"this token lacks the scope {permission}", hint=hint, permission=permission)
    return Refused(
        403, "not allowed", "your role does not allow this", hint="Ask an administrator.", permission=permission
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """One request whose sender is known."""

    hub: Hub
    seal: Seal
    person: access.Person
    address: str
    now_ms: int

    @property
    def tenant_id(self) -> int:
        return self.person.tenant_id

    def places(self, permission: str = roles.SEE) -> Collection[int] | None:
        """Where it is allowed; None: everywhere."""
        return self.person.rights.places(permission)

    def may(self, permission: str, place_id: int | None) -> bool:
        return self.person.rights.has_at(permission, place_id)

    def check(self, permission: str, place_id: int | None, what: str) -> None:
        """Raises 404 for what is not to be seen, 403 for what is not to be done. `place_id` None: of no place."""
        if not self.may(roles.SEE, place_id) and not self.may(permission, place_id):
            raise not_found(what)
        if not self.may(permission, place_id):
            raise not_allowed(permission)

    def log(self, connection: Connection, what: str, object_: str = "", /, **more: Any) -> None:
        """Into the audit log, in this transaction."""
        audit.append(
            connection, self.tenant_id, audit.Entry(self.person.who, what, object_, self.address, more), self.now_ms
        )

    def log_look(self, what: str, object_: str = "", /, **more: Any) -> None:
        """Into the audit log, in a transaction of its own; the same look again within ten minutes is one line."""
        entry = audit.Entry(self.person.who, what, object_, self.address, more)
        with self.hub.store.reading() as connection:
            if audit.is_said(connection, self.tenant_id, entry, self.now_ms - audit.LOOK_SPAN_MS):
                return
        with self.hub.store.writing() as connection:
            audit.append(connection, self.tenant_id, entry, self.now_ms)

    def log_still(self, event_id: str) -> None:
        """Into the audit log, together with the others of the same list."""
        with self.hub.store.writing() as connection:
            audit.note_look(
                connection, self.tenant_id, audit.Entry(self.person.who, "", "", self.address), event_id, self.now_ms
            )

    # -- objects, by id, each checked by tenant and place

    def place(self, connection: Connection, name: str, permission: str = roles.SEE) -> Any:
        table = tables.place
        row = connection.execute(
            select(table).where(table.c.tenant_id == self.tenant_id, table.c.name == name)
        ).one_or_none()
        if row is None:
            raise not_found("place")
        self.check(permission, row.id, "place")
        return row

    def camera(self, connection: Connection, camera_id: int, permission: str = roles.SEE) -> Any:
        camera, place = tables.camera, tables.place
        row = connection.execute(
            select(camera, place.c.name.label("place"), place.c.title_id, place.c.title_en, place.c.kind)
            .join(place, place.c.id == camera.c.place_id)
            .where(camera.c.tenant_id == self.tenant_id, camera.c.id == camera_id)
        ).one_or_none()
        if row is None:
            raise not_found("camera")
        self.check(permission, row.place_id, "camera")
        return row

    def event(self, connection: Connection, event_id: str, permission: str = roles.SEE) -> Any:
        table = tables.event
        row = connection.execute(
            select(table).where(table.c.tenant_id == self.tenant_id, table.c.id == event_id)
        ).one_or_none()
        if row is None:
            raise not_found("event")
        self.check(permission, row.place_id, "event")
        return row

    def clip(self, connection: Connection, sha256: str, permission: str = roles.FOOTAGE) -> Any:
        """Where two boxes sent the same bytes, one that may be seen."""
        table = tables.object_
        rows = connection.execute(
            select(table)
            .where(
                table.c.tenant_id == self.tenant_id,
                table.c.sha256 == sha256,
                table.c.kind == "clip",
                table.c.deleted_ms.is_(None),
            )
            .order_by(table.c.id)
        ).all()
        for row in rows:
            if self.may(permission, row.place_id):
                return row
        if not rows:
            raise not_found("clip")
        self.check(permission, rows[0].place_id, "clip")
        raise not_found("clip")

    def alert(self, connection: Connection, alert_id: int, permission: str = roles.SEE) -> Any:
        table = people.alert
        row = connection.execute(
            select(table).where(table.c.tenant_id == self.tenant_id, table.c.id == alert_id)
        ).one_or_none()
        if row is None:
            raise not_found("alert")
        if row.place_id is None:
            # Of a box as a whole: for who sees one of its places; acting needs the permission at one of them.
            seen = self.box_places(connection, row.box_id)
            if not any(self.may(roles.SEE, each) for each in seen):
                raise not_found("alert")
            if not any(self.may(permission, each) for each in seen):
                raise not_allowed(permission)
        else:
            self.check(permission, row.place_id, "alert")
        return row

    def box(self, connection: Connection, box_id: str, permission: str = roles.HEALTH) -> Any:
        table = tables.box
        row = connection.execute(
            select(table).where(table.c.tenant_id == self.tenant_id, table.c.id == box_id)
        ).one_or_none()
        if row is None:
            raise not_found("box")
        seen = self.box_places(connection, box_id)
        if not any(self.may(roles.SEE, each) or self.may(permission, each) for each in seen):
            raise not_found("box")
        if not any(self.may(permission, each) for each in seen):
            raise not_allowed(permission)
        return row

    def box_places(self, connection: Connection, box_id: str) -> list[int | None]:
        """Places its cameras hang at; a box without cameras is of no place: for those with a role everywhere."""
        table = tables.camera
        found: list[int | None] = list(
            connection.execute(
                select(table.c.place_id).where(table.c.box_id == box_id, table.c.gone_ms.is_(None)).distinct()
            ).scalars()
        )
        return found or [None]


class Needs:
    """A dependency: the sender of this request, who has `permission` somewhere (or everywhere); the route checks the object."""

    def __init__(self, permission: str = "", *, everywhere: bool = False, by_session: bool = False) -> None:
        """`by_session`: a person in a browser, no token, whatever its scopes."""
        self.permission, self.everywhere, self.by_session = permission, everywhere, by_session

    def __call__(self, request: Request) -> Asked:
        asked = who_asks(request)
        if self.by_session and not asked.person.session_hash:
            raise Refused(403, "session needed", "a token cannot do this", hint="Log in with a browser.")
        if request.method not in SAFE and asked.person.session_hash:
            check_csrf(request, asked.person)
        rights = asked.person.rights
        if self.permission:
            is_allowed = (
                rights.has_everywhere(self.permission) if self.everywhere else rights.has_somewhere(self.permission)
            )
            if not is_allowed:
                raise not_allowed(self.permission, is_out_of_scope=not rights.is_in_scope(self.permission))
        return asked


def who_asks(connection: HTTPConnection) -> Asked:
    """By bearer token or session cookie. Raises Refused 401. Reads the database: not for the event loop."""
    hub = connection.app.state.hub
    now_ms = hub.now_ms()
    header = connection.headers.get("authorization", "")
    scheme, _, token = header.partition(" ")
    if header:
        person = access.by_token(hub.store, token.strip(), now_ms) if scheme.lower() == "bearer" else None
    else:
        person = access.by_session(hub.store, session_cookie(connection), now_ms)
    if person is None:
        raise Refused(401, "not logged in", "log in first", hint="The session may have ended.")
    return Asked(hub, connection.app.state.seal, person, address_of(connection), now_ms)


def is_secure(connection: HTTPConnection) -> bool:
    return connection.url.scheme in ("https", "wss")


def session_cookie(connection: HTTPConnection) -> str | None:
    """Over TLS only the cookie that no other host and no plain page can set."""
    return connection.cookies.get(COOKIE if is_secure(connection) else COOKIE_PLAIN)


def address_of(connection: HTTPConnection) -> str:
    return connection.client.host if connection.client else ""


def check_csrf(request: Request, person: access.Person) -> None:
    check_origin(request)
    given = request.headers.get(CSRF_HEADER, "")
    if not hmac.compare_digest(given.encode(), person.csrf.encode()):
        raise Refused(403, "csrf", "the page is from another session", hint="Reload it.")


def check_origin(connection: HTTPConnection) -> None:
    """A browser says which page sends: another site's may not. Programs say nothing."""
    origin = connection.headers.get("origin", "")
    if origin and origin.partition("://")[2].lower() != connection.headers.get("host", "").lower():
        raise Refused(403, "origin", "the request comes from another site", hint="Open the hub by its own address.")


# -- answers for errors ----------------------------------------------------------------------------------------


def install_errors(app: FastAPI) -> None:
    @app.exception_handler(Refused)
    def refused(request: Request, error: Refused) -> JSONResponse:
        return answer(error)

    @app.exception_handler(access.TooManyTries)
    def throttled(request: Request, error: access.TooManyTries) -> JSONResponse:
        wait_s = max(1, -(-round(error.wait_s * 1000) // 1000))
        found = answer(Refused(429, "too many tries", str(error), hint=error.hint, retry_s=wait_s))
        found.headers["Retry-After"] = str(wait_s)
        return found

    @app.exception_handler(HTTPException)
    def plain(request: Request, error: HTTPException) -> JSONResponse:
        """No such address, no such method, a body that is not even text."""
        found = answer(Refused(error.status_code, f"http {error.status_code}", str(error.detail)))
        found.headers.update(error.headers or {})
        return found

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        """Which key is wrong and why; never what was sent, which may be a password."""
        found = [{"where": [str(part) for part in each["loc"]], "what": each["msg"]} for each in error.errors()[:20]]
        text = "; ".join(f"{'.'.join(each['where'][1:])}: {each['what']}" for each in found[:3])
        return answer(
            Refused(
                422,
                "invalid",
                text or "not what this address takes",
                hint="docs/api.md lists what it takes.",
                faults=found,
            )
        )

    def known(status: int, key: str) -> Any:
        def handler(request: Request, error: NvrError) -> JSONResponse:
            return answer(Refused(status, key, str(error), hint=error.hint))

        return handler

    for kind, status, key in (
        (access.NeedsCode, 401, "totp needed"),
        (access.NotAllowed, 401, "wrong login"),
        (access.UserRefused, 422, "refused"),
        (passwords.PasswordRefused, 422, "password refused"),
        (alerts.NotPossible, 409, "not possible"),
        (BlobsUnusable, 503, "no objects"),
    ):
        app.add_exception_handler(kind, known(status, key))


def answer(error: Refused) -> JSONResponse:
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
    body = {"error": str(error), "key": error.key, "hint": error.hint, **error.more}
    return JSONResponse(body, error.status, {**headers, "Cache-Control": "no-store"})
