"""Who somebody is: users, log-in with throttling and a second factor, sessions, one-time links, API tokens.

Sessions and tokens are rows, so every hub process knows them and ending one ends it everywhere at once. There is no default
password: `nvr hub init` prints a one-time link that makes the first administrator.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyotp
from sqlalchemy import Connection, delete, insert, or_, select, update

from nvr.errors import NvrError
from nvr.hub.database import Store, upsert
from nvr.hub.people import audit, passwords, roles, tables, throttle
from nvr.hub.people.sealed import Seal
from nvr.hub.tables import tenant as tenant_table

SESSION_S = 12 * 3600  # of not being used; a shift
SESSION_MOST_S = 14 * 24 * 3600
LINK_S = 24 * 3600
USED_EVERY_MS = 60_000  # a session's row is not written for each request
SESSIONS_MOST = 20  # of one user; the oldest ends
TOKEN_BEGIN = "nvr_"  # so that scanners for leaked secrets know one
TOTP_STEP_S = 30
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,62}")


class NotAllowed(NvrError):
    """Wrong name, password, code, link, session or token; which of them is not told."""


class NeedsCode(NvrError):
    """The password is right; the second factor is missing."""


class TooManyTries(NvrError):
    def __init__(self, wait_s: float) -> None:
        super().__init__(f"too many wrong tries; the next one in {wait_s:.0f} s", hint="Wait, then try again.")
        self.wait_s = wait_s


class UserRefused(NvrError):
    """A name, role or place that cannot be."""


@dataclass(frozen=True, slots=True)
class Person:
    """Who asks, and what they may. `session_hash` "": by token."""

    tenant_id: int
    user_id: int
    name: str
    title: str
    language: str
    rights: roles.Rights
    session_hash: str = ""
    csrf: str = ""
    watched_ms: int = 0
    token_id: int = 0

    @property
    def who(self) -> str:
        """As the audit log calls them."""
        return f"{self.name} (token {self.token_id})" if self.token_id else self.name


# -- users ---------------------------------------------------------------------------------------------------


def add_user(
    connection: Connection, tenant_id: int, name: str, password: str | None, grants: Iterable[tuple[str, int | None]],
    now_ms: int, *, title: str = "", language: str = "id",
) -> int:  # fmt: skip
    """The id of a new user. Raises UserRefused, PasswordRefused."""
    check_name(name)
    if _user_row(connection, tenant_id, name) is not None:
        raise UserRefused(f"there is a user {name} already", hint="Choose another name, or change that user.")
    if password is not None:
        passwords.check(password, name)
    inserted = connection.execute(
        insert(tables.user).values(
            tenant_id=tenant_id, name=name, title=title or name, language=language, created_ms=now_ms,
            password="" if password is None else passwords.hashed(password),
        )
    )  # fmt: skip
    user_id = int(inserted.inserted_primary_key[0])  # type: ignore[index]
    set_roles(connection, user_id, grants)
    return user_id


def set_roles(connection: Connection, user_id: int, grants: Iterable[tuple[str, int | None]]) -> None:
    """Replace all roles. Places are the caller's to check. Raises UserRefused."""
    wanted = sorted(set(grants), key=lambda each: (each[0], each[1] or 0))
    for role, _ in wanted:
        if role not in roles.ROLES:
            raise UserRefused(f"there is no role {role[:40]!r}", hint=f"Roles are {', '.join(roles.ROLES)}.")
    connection.execute(delete(tables.role).where(tables.role.c.user_id == user_id))
    if wanted:
        connection.execute(
            insert(tables.role), [{"user_id": user_id, "role": role, "place_id": place} for role, place in wanted]
        )


def check_name(name: str) -> None:
    if _NAME.fullmatch(name) is None:
        raise UserRefused(
            "a user name has 2 to 63 characters of a-z, 0-9, dot, dash, underscore",
            hint="The name people see is the title.",
        )


def _user_row(connection: Connection, tenant_id: int, name: str) -> Any:
    table = tables.user
    return connection.execute(select(table).where(table.c.tenant_id == tenant_id, table.c.name == name)).one_or_none()


def tenant_id_of(connection: Connection, name: str) -> int:
    found = connection.execute(select(tenant_table.c.id).where(tenant_table.c.name == name)).scalar_one_or_none()
    if found is None:
        raise UserRefused(f"there is no tenant {name[:63]!r}", hint="The first one is called city.")
    return int(found)


def administrators_left(connection: Connection, tenant_id: int, without_user_id: int) -> int:
    """How many others could still administer everything: the last one is not taken away."""
    user, role = tables.user, tables.role
    rows = connection.execute(
        select(user.c.id)
        .join(role, role.c.user_id == user.c.id)
        .where(
            user.c.tenant_id == tenant_id, user.c.id != without_user_id, user.c.blocked.is_(False), user.c.password != "",
            role.c.role == roles.ADMINISTRATOR, role.c.place_id.is_(None),
        )
        .distinct()
    )  # fmt: skip
    return len(rows.all())


def set_user(
    store: Store, tenant: str, name: str, password: str | None, grants: Sequence[tuple[str, int | None]], now_ms: int
) -> str:
    """For the command line: make a user or change one; "" or, without a password, a one-time token for setting it.

    Whoever can run this on the hub may do everything anyway. Raises UserRefused, PasswordRefused.
    """
    with store.writing() as connection:
        tenant_id = tenant_id_of(connection, tenant)
        row = _user_row(connection, tenant_id, name)
        if row is None:
            user_id = add_user(connection, tenant_id, name, password, grants, now_ms)
        else:
            user_id = int(row.id)
            set_roles(connection, user_id, grants)
            if password is not None:
                set_password(connection, user_id, name, password)
        token = "" if password is not None else new_link(connection, tenant_id, user_id, now_ms)
        entry = audit.Entry("command line", "user set", f"user {name}", more={"roles": [list(each) for each in grants]})
        audit.append(connection, tenant_id, entry, now_ms)
    return token


def set_password(connection: Connection, user_id: int, name: str, password: str) -> None:
    """Ends all sessions of the user. Raises PasswordRefused."""
    passwords.check(password, name)
    connection.execute(
        update(tables.user).where(tables.user.c.id == user_id).values(password=passwords.hashed(password))
    )
    end_sessions(connection, user_id)


# -- one-time links ------------------------------------------------------------------------------------------


def new_link(connection: Connection, tenant_id: int, user_id: int | None, now_ms: int) -> str:
    """A token that sets a password once, within a day; older ones of the same user stop working."""
    table = tables.link
    of_user = table.c.user_id.is_(None) if user_id is None else table.c.user_id == user_id
    connection.execute(delete(table).where(table.c.tenant_id == tenant_id, of_user))
    token = secrets.token_urlsafe(32)
    connection.execute(
        insert(table).values(
            token_hash=passwords.token_hash(token),
            tenant_id=tenant_id,
            user_id=user_id,
            expires_ms=now_ms + LINK_S * 1000,
        )
    )
    return token


def first_link(store: Store, tenant: str, base_url: str, now_ms: int) -> str:
    """The address with which the first administrator begins. The secret stands behind `#`, which browsers send to nobody."""
    with store.writing() as connection:
        tenant_id = tenant_id_of(connection, tenant)
        token = new_link(connection, tenant_id, None, now_ms)
        audit.append(connection, tenant_id, audit.Entry("command line", "first link made"), now_ms)
    return f"{base_url.rstrip('/')}/enter#{token}"


def link_for_nobody(store: Store, tenant: str, base_url: str, now_ms: int) -> str | None:
    """A first link while nobody can administer the hub; else None."""
    with store.reading() as connection:
        if administrators_left(connection, tenant_id_of(connection, tenant), 0):
            return None
    return first_link(store, tenant, base_url, now_ms)


def use_link(connection: Connection, token: str, name: str, password: str, now_ms: int) -> int:
    """The user whose password is set now; a link without a user makes an administrator called `name`.

    Raises NotAllowed, UserRefused, PasswordRefused: a refused password leaves the link as it was, with the transaction.
    """
    table = tables.link
    row = connection.execute(select(table).where(table.c.token_hash == passwords.token_hash(token))).one_or_none()
    used = (
        update(table)
        .where(table.c.token_hash == passwords.token_hash(token), table.c.used_ms == 0)
        .values(used_ms=now_ms)
    )
    if row is None or now_ms >= row.expires_ms or connection.execute(used).rowcount != 1:
        raise NotAllowed(
            "this link was used already, or is older than a day", hint="Ask an administrator for a new one."
        )
    if row.user_id is None:
        return add_user(connection, int(row.tenant_id), name, password, [(roles.ADMINISTRATOR, None)], now_ms)
    user = connection.execute(select(tables.user).where(tables.user.c.id == row.user_id)).one()
    if user.blocked:
        raise NotAllowed("this user is blocked", hint="Ask an administrator.")
    set_password(connection, int(user.id), user.name, password)
    return int(user.id)


# -- log-in --------------------------------------------------------------------------------------------------


def take_try(store: Store, tenant: str, name: str, address: str, now_ms: int) -> None:
    """Count one try before it is made, by address and by account. Raises TooManyTries; then it was not counted."""
    keys = (
        (f"address {throttle.subscriber(address)}", throttle.ADDRESS_WAIT_S),
        (account_key(tenant, name), throttle.ACCOUNT_WAIT_S),
    )
    table = tables.login_try
    with store.writing() as connection:
        tries = []
        for key, waits_s in keys:
            # The row is taken before it is read, so that tries at the same time wait for each other in every database.
            connection.execute(upsert(connection, table).values(key=key, tries=0, last_ms=0).on_conflict_do_nothing())
            connection.execute(update(table).where(table.c.key == key).values(tries=table.c.tries))
            row = connection.execute(select(table).where(table.c.key == key)).one()
            found = throttle.Tries(row.tries, row.last_ms)
            if wait_ms := throttle.wait_ms(found, now_ms, waits_s):
                raise TooManyTries(wait_ms / 1000)
            tries.append((key, throttle.counted(found, now_ms)))
        for key, counted in tries:
            connection.execute(
                update(table).where(table.c.key == key).values(tries=counted.count, last_ms=counted.last_ms)
            )
        old_ms = now_ms - round(throttle.FORGIVEN_AFTER_S * 1000)
        connection.execute(delete(table).where(table.c.last_ms < old_ms, table.c.last_ms > 0))


def forgive(connection: Connection, tenant: str, name: str, address: str) -> None:
    keys = (f"address {throttle.subscriber(address)}", account_key(tenant, name))
    connection.execute(delete(tables.login_try).where(tables.login_try.c.key.in_(keys)))


def account_key(tenant: str, name: str) -> str:
    return f"account {passwords.token_hash(f'{tenant}/{name.lower()}')}"  # a password typed as a name lies nowhere


def log_in(
    store: Store, seal: Seal, tenant: str, name: str, password: str, code: str, address: str, now_ms: int
) -> tuple[str, int]:
    """The name of a new session for the cookie, and the user. Raises NotAllowed, NeedsCode, TooManyTries."""
    name = name.strip().lower()[:63]
    take_try(store, tenant, name, address, now_ms)
    with store.reading() as connection:
        row = _user_row(connection, tenant_id_of(connection, tenant), name)
    is_right = passwords.is_right(row.password if row is not None else "", password)
    if row is None or not is_right or row.blocked:
        raise NotAllowed("name or password is wrong", hint="An administrator can give you a new link.")
    if row.totp and not code:
        raise NeedsCode("a code of the second factor is needed", hint="Open your authenticator.")
    with store.writing() as connection:
        if row.totp:
            _use_code(connection, row, seal, code, now_ms)
        forgive(connection, tenant, name, address)
        session = start_session(connection, int(row.id), address, now_ms)
        audit.append(connection, int(row.tenant_id), audit.Entry(name, "logged in", address=address), now_ms)
    return session, int(row.id)


def _use_code(connection: Connection, row: Any, seal: Seal, code: str, now_ms: int) -> None:
    step = totp_step(seal.open(row.totp, f"totp {row.id}"), code, now_ms)
    table = tables.user
    if step is not None:
        # A code works once: of two requests with the same one, the second changes no row.
        is_newer = update(table).where(table.c.id == row.id, table.c.totp_step < step).values(totp_step=step)
        if connection.execute(is_newer).rowcount == 1:
            return
    raise NotAllowed("the code is wrong or was used already", hint="Wait for the next one; is your clock right?")


def totp_step(secret: str, code: str, now_ms: int) -> int | None:
    """Which step of RFC 6238 a code belongs to, one back and one ahead are taken; None: to none of them."""
    totp = pyotp.TOTP(secret, interval=TOTP_STEP_S)
    step = now_ms // 1000 // TOTP_STEP_S
    bare = re.sub(r"\s", "", code)
    if re.fullmatch(r"[0-9]{6}", bare) is None:
        return None
    return next(
        (each for each in (step, step - 1, step + 1) if hmac.compare_digest(totp.generate_otp(each), bare)), None
    )


# -- sessions ------------------------------------------------------------------------------------------------


def start_session(connection: Connection, user_id: int, address: str, now_ms: int) -> str:
    """Always a new name: one that was set in a browser before log-in is worth nothing after it."""
    table = tables.session
    of_user = table.c.user_id == user_id
    kept = connection.execute(
        select(table.c.name_hash)
        .where(of_user)
        .order_by(table.c.created_ms.desc(), table.c.name_hash)
        .limit(SESSIONS_MOST - 1)
    ).scalars()
    connection.execute(
        delete(table).where(of_user, or_(table.c.expires_ms <= now_ms, table.c.name_hash.not_in(list(kept))))
    )
    name = secrets.token_urlsafe(32)
    connection.execute(
        insert(table).values(
            name_hash=passwords.token_hash(name), user_id=user_id, created_ms=now_ms, used_ms=now_ms,
            expires_ms=now_ms + SESSION_MOST_S * 1000, address=address[:64],
        )
    )  # fmt: skip
    return name


def end_session(connection: Connection, name_hash: str) -> None:
    connection.execute(delete(tables.session).where(tables.session.c.name_hash == name_hash))


def end_sessions(connection: Connection, user_id: int) -> None:
    connection.execute(delete(tables.session).where(tables.session.c.user_id == user_id))


def by_session(store: Store, name: str | None, now_ms: int) -> Person | None:
    """Whose cookie this is."""
    if not name or len(name) > 128:
        return None
    name_hash, session, user = passwords.token_hash(name), tables.session, tables.user
    with store.reading() as connection:
        row = connection.execute(
            select(session, user.c.tenant_id, user.c.name, user.c.title, user.c.language, user.c.blocked)
            .join(user, user.c.id == session.c.user_id)
            .where(session.c.name_hash == name_hash)
        ).one_or_none()
        if row is None or row.blocked or now_ms >= row.expires_ms or now_ms - row.used_ms >= SESSION_S * 1000:
            return None
        rights = _rights(connection, row.user_id, None)
    if now_ms - row.used_ms > USED_EVERY_MS:
        with store.writing() as connection:
            connection.execute(update(session).where(session.c.name_hash == name_hash).values(used_ms=now_ms))
    csrf = hmac.new(name.encode("utf-8", "surrogatepass"), b"csrf", "sha256").hexdigest()
    return Person(
        row.tenant_id, row.user_id, row.name, row.title, row.language, rights, name_hash, csrf, row.watched_ms
    )


def _rights(connection: Connection, user_id: int, scopes: frozenset[str] | None) -> roles.Rights:
    rows = connection.execute(
        select(tables.role.c.role, tables.role.c.place_id).where(tables.role.c.user_id == user_id)
    ).all()
    return roles.rights_of([(row.role, row.place_id) for row in rows], scopes)


# -- API tokens ----------------------------------------------------------------------------------------------


def new_token(
    connection: Connection, user_id: int, title: str, scopes: Iterable[str], now_ms: int, expires_ms: int = 0
) -> tuple[int, str]:
    """Its number and the token, which is shown once. It can do what its user can and its scopes name. Raises UserRefused."""
    wanted = sorted(set(scopes))
    if not wanted or not set(wanted) <= set(roles.SCOPES):
        raise UserRefused("a token needs scopes that exist", hint=f"Scopes are {', '.join(roles.SCOPES)}.")
    token = TOKEN_BEGIN + secrets.token_urlsafe(32)
    inserted = connection.execute(
        insert(tables.api_token).values(
            user_id=user_id, title=title[:200], token_hash=passwords.token_hash(token), scopes=wanted, created_ms=now_ms,
            expires_ms=expires_ms,
        )
    )  # fmt: skip
    return int(inserted.inserted_primary_key[0]), token  # type: ignore[index]


def create_token(store: Store, tenant: str, user_name: str, title: str, scopes: Iterable[str], now_ms: int) -> str:
    """For the command line. Raises UserRefused."""
    with store.writing() as connection:
        tenant_id = tenant_id_of(connection, tenant)
        row = _user_row(connection, tenant_id, user_name)
        if row is None:
            raise UserRefused(f"there is no user {user_name[:63]!r}", hint="Make one first: nvr hub user.")
        number, token = new_token(connection, int(row.id), title, scopes, now_ms)
        audit.append(connection, tenant_id, audit.Entry("command line", "token made", f"token {number}"), now_ms)
    return token


def by_token(store: Store, token: str, now_ms: int) -> Person | None:
    if not token.startswith(TOKEN_BEGIN) or len(token) > 128:
        return None
    table, user = tables.api_token, tables.user
    with store.reading() as connection:
        row = connection.execute(
            select(
                table, user.c.tenant_id, user.c.name, user.c.title.label("user_title"), user.c.language, user.c.blocked
            )
            .join(user, user.c.id == table.c.user_id)
            .where(table.c.token_hash == passwords.token_hash(token))
        ).one_or_none()
        if row is None or row.blocked or row.revoked_ms or 0 < row.expires_ms <= now_ms:
            return None
        rights = _rights(connection, row.user_id, frozenset(row.scopes))
    if now_ms - row.used_ms > USED_EVERY_MS:
        with store.writing() as connection:
            connection.execute(update(table).where(table.c.id == row.id).values(used_ms=now_ms))
    return Person(row.tenant_id, row.user_id, row.name, row.user_title, row.language, rights, token_id=row.id)
