"""`/api/v1/session`: log in and out, one-time links, the second factor, what people change about themselves."""

from __future__ import annotations

from typing import Annotated

import pyotp
from fastapi import APIRouter, Depends, Request, Response
from sqlalchemy import select, update

from nvr.hub import tables as core
from nvr.hub.parts import Hub
from nvr.hub.people import access, answers, answers_see, audit, guard, passwords, roles, tables
from nvr.hub.people.guard import Asked, Needs

router = APIRouter(tags=["session"])


def cookie(request: Request, response: Response, session: str) -> None:
    """HttpOnly: no script reads it. Lax: a link in a message opens the hub logged in, no other site sends it along."""
    is_secure = guard.is_secure(request)
    response.set_cookie(
        guard.COOKIE if is_secure else guard.COOKIE_PLAIN, session, max_age=access.SESSION_MOST_S, path="/", secure=is_secure,
        httponly=True, samesite="lax",
    )  # fmt: skip


def session_answer(hub: Hub, person: access.Person) -> answers_see.SessionAnswer:
    with hub.store.reading() as connection:
        places = dict(
            connection.execute(
                select(core.place.c.id, core.place.c.name).where(core.place.c.tenant_id == person.tenant_id)
            ).all()
        )
        totp = connection.execute(select(tables.user.c.totp).where(tables.user.c.id == person.user_id)).scalar_one()
    city, people = hub.settings.city, hub.settings.people
    return answers_see.SessionAnswer(
        user=person.name, name=person.title, language="en" if person.language == "en" else "id",
        roles=[
            answers.RoleAt.model_construct(role=grant.role, place=None if grant.place_id is None else places.get(grant.place_id))
            for grant in person.rights.grants
        ],
        permissions=[each for each in roles.PERMISSIONS if person.rights.has_somewhere(each)],
        csrf=person.csrf, has_totp=bool(totp),
        city=answers_see.City(title=city.title, lat=city.lat, lon=city.lon, time_zone=city.time_zone, tiles=people.get("tiles")),
    )  # fmt: skip


@router.get("/session")
def who_am_i(asked: Annotated[Asked, Depends(Needs())]) -> answers_see.SessionAnswer:
    """Who this session, or token, belongs to; with the CSRF token that changing requests carry."""
    return session_answer(asked.hub, asked.person)


@router.post("/session")
def log_in(body: answers_see.LogIn, request: Request, response: Response) -> answers_see.SessionAnswer:
    """Log in: a session cookie. 401 with key `totp needed` asks for the code of the second factor; 429 says how long to wait."""
    guard.check_origin(request)
    hub = request.app.state.hub
    now_ms, address = hub.now_ms(), guard.address_of(request)
    try:
        session, _ = access.log_in(
            hub.store, request.app.state.seal, body.tenant, body.name, body.password, body.totp, address, now_ms
        )
    except access.UserRefused:  # no such tenant: not told apart
        passwords.is_right("", body.password)
        raise access.NotAllowed("name or password is wrong", hint="An administrator can give you a new link.") from None
    _end_old(request, hub)
    cookie(request, response, session)
    person = access.by_session(hub.store, session, now_ms)
    assert person is not None
    return session_answer(hub, person)


@router.post("/session/link")
def use_link(body: answers_see.UseLink, request: Request, response: Response) -> answers_see.SessionAnswer:
    """Set a password with a one-time link, and log in. The first link makes the first administrator, called `name`."""
    guard.check_origin(request)
    hub = request.app.state.hub
    now_ms, address = hub.now_ms(), guard.address_of(request)
    access.take_try(hub.store, "", "link", address, now_ms)
    with hub.store.writing() as connection:
        user_id = access.use_link(connection, body.code, body.name.strip().lower(), body.password, now_ms)
        access.forgive(connection, "", "link", address)
        session = access.start_session(connection, user_id, address, now_ms)
        user = connection.execute(select(tables.user).where(tables.user.c.id == user_id)).one()
        audit.append(
            connection, user.tenant_id, audit.Entry(user.name, "link used", f"user {user.name}", address), now_ms
        )
    _end_old(request, hub)
    cookie(request, response, session)
    person = access.by_session(hub.store, session, now_ms)
    assert person is not None
    return session_answer(hub, person)


def _end_old(request: Request, hub: Hub) -> None:
    """Whoever logs in again leaves no open session behind in this browser."""
    if old := guard.session_cookie(request):
        with hub.store.writing() as connection:
            access.end_session(connection, passwords.token_hash(old[:128]))


@router.delete("/session", status_code=204)
def log_out(asked: Annotated[Asked, Depends(Needs(by_session=True))], request: Request, response: Response) -> None:
    """The session ends in every hub process at once, wherever its cookie was copied to."""
    with asked.hub.store.writing() as connection:
        access.end_session(connection, asked.person.session_hash)
        asked.log(connection, "logged out")
    is_secure = guard.is_secure(request)
    response.delete_cookie(
        guard.COOKIE if is_secure else guard.COOKIE_PLAIN, path="/", secure=is_secure, httponly=True, samesite="lax"
    )


@router.patch("/session", status_code=204)
def change_oneself(body: answers_see.OwnChange, asked: Annotated[Asked, Depends(Needs(by_session=True))]) -> None:
    """One's own language or password. A new password needs the old one and ends all other sessions."""
    person, table = asked.person, tables.user
    if body.new_password is not None:
        access.take_try(asked.hub.store, str(asked.tenant_id), person.name, asked.address, asked.now_ms)
    with asked.hub.store.writing() as connection:
        this = table.c.id == person.user_id
        if body.language is not None:
            connection.execute(update(table).where(this).values(language=body.language))
        if body.new_password is not None:
            stored = connection.execute(select(table.c.password).where(this)).scalar_one()
            if not passwords.is_right(stored, body.password or ""):
                raise guard.Refused(
                    403,
                    "wrong password",
                    "the old password is wrong",
                    hint="A new link can be had from an administrator.",
                )
            passwords.check(body.new_password, person.name)
            connection.execute(update(table).where(this).values(password=passwords.hashed(body.new_password)))
            session = tables.session
            connection.execute(
                session.delete().where(session.c.user_id == person.user_id, session.c.name_hash != person.session_hash)
            )
            access.forgive(connection, str(asked.tenant_id), person.name, asked.address)
            asked.log(connection, "password changed", f"user {person.name}")


@router.post("/session/totp")
def begin_totp(asked: Annotated[Asked, Depends(Needs(by_session=True))]) -> answers_see.TotpNew:
    """A new secret for an authenticator; it counts once a code of it was given."""
    secret = pyotp.random_base32()
    with asked.hub.store.writing() as connection:
        table, user_id = tables.user, asked.person.user_id
        if connection.execute(select(table.c.totp).where(table.c.id == user_id)).scalar_one():
            raise guard.Refused(
                409, "has totp", "there is a second factor already", hint="An administrator can remove it."
            )
        sealed = asked.seal.close(secret, f"totp {user_id}")
        connection.execute(update(table).where(table.c.id == user_id).values(totp_new=sealed))
    address = pyotp.TOTP(secret).provisioning_uri(name=asked.person.name, issuer_name=asked.hub.settings.city.title)
    return answers_see.TotpNew(secret=secret, address=address)


@router.put("/session/totp", status_code=204)
def finish_totp(body: answers_see.TotpCode, asked: Annotated[Asked, Depends(Needs(by_session=True))]) -> None:
    """From now on log-ins need a code."""
    table, user_id = tables.user, asked.person.user_id
    access.take_try(asked.hub.store, str(asked.tenant_id), asked.person.name, asked.address, asked.now_ms)
    with asked.hub.store.writing() as connection:
        sealed = connection.execute(select(table.c.totp_new).where(table.c.id == user_id)).scalar_one()
        step = access.totp_step(asked.seal.open(sealed, f"totp {user_id}"), body.code, asked.now_ms) if sealed else None
        if step is None:
            raise guard.Refused(
                409, "wrong code", "the code does not fit", hint="Is the clock of the authenticator right?"
            )
        connection.execute(update(table).where(table.c.id == user_id).values(totp=sealed, totp_new="", totp_step=step))
        access.forgive(connection, str(asked.tenant_id), asked.person.name, asked.address)
        asked.log(connection, "second factor added", f"user {asked.person.name}")
