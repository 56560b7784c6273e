"""`/api/v1/users`, `/tokens`, `/audit`: for administrators of all places; people make tokens for themselves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from sqlalchemy import Connection, func, select, update

from nvr.hub import tables as core
from nvr.hub.people import access, answers, answers_admin, audit, guard, roles, tables
from nvr.hub.people.api_events import Limit
from nvr.hub.people.guard import Asked, Needs, Refused

router = APIRouter()

Administrator = Annotated[Asked, Depends(Needs(roles.ADMINISTER, everywhere=True))]
# Users and tokens are made by a person: a token that leaked must not make others.
AdministratorHere = Annotated[Asked, Depends(Needs(roles.ADMINISTER, everywhere=True, by_session=True))]
UserName = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9._-]{1,62}$")]
TokenId = Annotated[int, Path(ge=1, le=guard.KEY_MOST)]


def user_answers(connection: Connection, tenant_id: int, rows: Iterable[Any]) -> list[dict[str, Any]]:
    role, session = tables.role, tables.session
    places = dict(
        connection.execute(select(core.place.c.id, core.place.c.name).where(core.place.c.tenant_id == tenant_id)).all()
    )
    grants: dict[int, list[dict[str, Any]]] = {}
    for row in connection.execute(
        select(role)
        .join(tables.user, tables.user.c.id == role.c.user_id)
        .where(tables.user.c.tenant_id == tenant_id)
        .order_by(role.c.id)
    ):
        grants.setdefault(row.user_id, []).append(
            {"role": row.role, "place": None if row.place_id is None else places.get(row.place_id)}
        )
    seen = dict(
        connection.execute(
            select(session.c.user_id, func.max(session.c.used_ms))
            .join(tables.user, tables.user.c.id == session.c.user_id)
            .where(tables.user.c.tenant_id == tenant_id)
            .group_by(session.c.user_id)
        ).all()
    )
    return [
        {
            "name": row.name, "full_name": row.title, "language": row.language, "roles": grants.get(row.id, []), "disabled": row.blocked,
            "has_totp": bool(row.totp), "has_password": bool(row.password), "seen_ms": seen.get(row.id),
        }
        for row in rows
    ]  # fmt: skip


@router.get("/users", response_model=answers_admin.Users, tags=["users"])
def users(asked: Administrator) -> Any:
    table = tables.user
    with asked.hub.store.reading() as connection:
        rows = connection.execute(
            select(table).where(table.c.tenant_id == asked.tenant_id).order_by(table.c.name)
        ).all()
        return {"now_ms": asked.now_ms, "users": user_answers(connection, asked.tenant_id, rows)}


@router.post("/users", status_code=201, response_model=answers_admin.UserMade, tags=["users"])
def make_user(body: answers_admin.UserNew, asked: AdministratorHere) -> Any:
    """A user without a password, and the one-time code of the link with which they set one."""
    with asked.hub.store.writing() as connection:
        grants = _grants(connection, asked.tenant_id, body.roles)
        user_id = access.add_user(
            connection,
            asked.tenant_id,
            body.name,
            None,
            grants,
            asked.now_ms,
            title=body.full_name,
            language=body.language,
        )
        code = access.new_link(connection, asked.tenant_id, user_id, asked.now_ms)
        asked.log(connection, "user made", f"user {body.name}", roles=[each.model_dump() for each in body.roles])
        return {"user": _one(connection, asked, body.name), "link_code": code}


def _one(connection: Connection, asked: Asked, name: str) -> dict[str, Any]:
    return user_answers(connection, asked.tenant_id, [_row(connection, asked, name)])[0]


def _row(connection: Connection, asked: Asked, name: str) -> Any:
    table = tables.user
    row = connection.execute(
        select(table).where(table.c.tenant_id == asked.tenant_id, table.c.name == name)
    ).one_or_none()
    if row is None:
        raise guard.not_found("user")
    return row


def _grants(connection: Connection, tenant_id: int, wanted: Iterable[answers.RoleAt]) -> list[tuple[str, int | None]]:
    places = dict(
        connection.execute(select(core.place.c.name, core.place.c.id).where(core.place.c.tenant_id == tenant_id)).all()
    )
    found: list[tuple[str, int | None]] = []
    for each in wanted:
        if each.place is not None and each.place not in places:
            raise access.UserRefused(
                f"there is no place {each.place}", hint="Places come from the site files of boxes."
            )
        found.append((each.role, None if each.place is None else places[each.place]))
    return found


@router.patch("/users/{name}", response_model=answers_admin.UserMade, tags=["users"])
def change_user(name: UserName, body: answers_admin.UserChange, asked: AdministratorHere) -> Any:
    """Roles, blocking, a new link, removing a second factor. Blocking, and a new link, end all sessions of the user at once."""
    table = tables.user
    with asked.hub.store.writing() as connection:
        row = _row(connection, asked, name)
        code = None
        values: dict[str, Any] = {}
        if body.full_name is not None:
            values["title"] = body.full_name
        if body.language is not None:
            values["language"] = body.language
        if body.disabled is not None:
            values["blocked"] = body.disabled
        if body.remove_totp:
            values |= {"totp": "", "totp_new": "", "totp_step": 0}
        if body.roles is not None:
            access.set_roles(connection, row.id, _grants(connection, asked.tenant_id, body.roles))
        if body.new_link:
            code = access.new_link(connection, asked.tenant_id, row.id, asked.now_ms)
            values["password"] = ""
        if values:
            connection.execute(update(table).where(table.c.id == row.id).values(**values))
        if body.disabled or body.new_link:
            access.end_sessions(connection, row.id)
        if not access.administrators_left(connection, asked.tenant_id, 0):
            raise Refused(
                409,
                "last administrator",
                "nobody would be left to administer the hub",
                hint="Make another administrator first.",
            )
        asked.log(
            connection, "user changed", f"user {name}", **body.model_dump(exclude_none=True, exclude_defaults=True)
        )
        return {"user": _one(connection, asked, name), "link_code": code}


# -- tokens --------------------------------------------------------------------------------------------------


@router.get("/tokens", response_model=answers_admin.Tokens, tags=["tokens"])
def tokens(asked: Annotated[Asked, Depends(Needs())]) -> Any:
    """One's own; an administrator's answer has everybody's."""
    table, user = tables.api_token, tables.user
    question = (
        select(table, user.c.name).join(user, user.c.id == table.c.user_id).where(user.c.tenant_id == asked.tenant_id)
    )
    if not asked.person.rights.has_everywhere(roles.ADMINISTER):
        question = question.where(user.c.id == asked.person.user_id)
    with asked.hub.store.reading() as connection:
        rows = connection.execute(question.where(table.c.revoked_ms == 0).order_by(table.c.id)).all()
    return {
        "now_ms": asked.now_ms,
        "tokens": [
            {"id": row.id, "user": row.name, "title": row.title, "scopes": row.scopes, "created_ms": row.created_ms,
             "expires_ms": row.expires_ms or None, "used_ms": row.used_ms or None}
            for row in rows
        ],
    }  # fmt: skip


@router.post("/tokens", status_code=201, response_model=answers_admin.TokenMade, tags=["tokens"])
def make_token(body: answers_admin.TokenNew, asked: Annotated[Asked, Depends(Needs(by_session=True))]) -> Any:
    """For a program, shown once. It can do what its owner can now and later, and its scopes name."""
    lacking = [scope for scope in body.scopes if not asked.person.rights.has_somewhere(scope)]
    if lacking:
        raise guard.not_allowed(lacking[0])
    expires_ms = asked.now_ms + body.valid_hours * 3_600_000 if body.valid_hours else 0
    with asked.hub.store.writing() as connection:
        number, token = access.new_token(
            connection, asked.person.user_id, body.title, body.scopes, asked.now_ms, expires_ms
        )
        asked.log(connection, "token made", f"token {number}", title=body.title, scopes=sorted(set(body.scopes)))
    return {"id": number, "token": token}


@router.delete("/tokens/{token_id}", status_code=204, tags=["tokens"])
def revoke_token(token_id: TokenId, asked: Annotated[Asked, Depends(Needs(by_session=True))]) -> None:
    """One's own; an administrator everybody's. It opens nothing from now on."""
    table, user = tables.api_token, tables.user
    with asked.hub.store.writing() as connection:
        row = connection.execute(
            select(table.c.id, table.c.user_id)
            .join(user, user.c.id == table.c.user_id)
            .where(table.c.id == token_id, table.c.revoked_ms == 0, user.c.tenant_id == asked.tenant_id)
        ).one_or_none()
        if row is None or (
            row.user_id != asked.person.user_id and not asked.person.rights.has_everywhere(roles.ADMINISTER)
        ):
            raise guard.not_found("token")
        connection.execute(update(table).where(table.c.id == token_id).values(revoked_ms=asked.now_ms))
        asked.log(connection, "token revoked", f"token {token_id}")


# -- audit ---------------------------------------------------------------------------------------------------


@router.get("/audit", response_model=answers_admin.AuditAnswer, tags=["audit"])
def audit_log(
    asked: Administrator,
    before: Annotated[int | None, Query(ge=1, le=guard.KEY_MOST)] = None,
    who: Annotated[str | None, Query(max_length=100, pattern=r"^[^\x00]*$")] = None,
    what: Annotated[str | None, Query(max_length=40, pattern=r"^[^\x00]*$")] = None,
    object: Annotated[str | None, Query(max_length=300, pattern=r"^[^\x00]*$")] = None,
    limit: Limit = 100,
) -> Any:
    """Who looked at what, took it away, or changed something; the newest first. Reading it is in it, too."""
    table = tables.audit
    question = select(table).where(table.c.tenant_id == asked.tenant_id)
    for value, condition in (
        (before, table.c.number < (before or 0)), (who, table.c.who == who), (what, table.c.what == what), (object, table.c.object == object),
    ):  # fmt: skip
        if value is not None:
            question = question.where(condition)
    with asked.hub.store.writing() as connection:
        audit.fold_looks(connection, asked.now_ms, asked.tenant_id)
    with asked.hub.store.reading() as connection:
        rows = connection.execute(question.order_by(table.c.number.desc()).limit(limit)).all()
    asked.log_look("audit read", before=before, who=who, what=what, object=object)
    return {
        "now_ms": asked.now_ms,
        "entries": [
            {"id": row.number, "at_ms": row.at_ms, "who": row.who, "what": row.what, "object": row.object, "address": row.address,
             "more": row.more, "hash": row.hash}
            for row in rows
        ],
        "before": rows[-1].number if len(rows) == limit else None,
    }  # fmt: skip


@router.get("/audit/check", response_model=answers_admin.AuditCheck, tags=["audit"])
def check_audit(asked: Administrator) -> Any:
    """Whether the log is whole: every row follows from the one before."""
    with asked.hub.store.reading() as connection:
        faults = audit.verify(connection, asked.tenant_id)
    return {"is_whole": not faults, "faults": faults[:100]}
