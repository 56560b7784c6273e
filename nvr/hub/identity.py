"""Who a box is: one-time codes, enrolment, signed tokens.

A box proves once that it holds a code, and from then on that it holds its key. The hub keeps hashes of codes only. Formats: nvr/wire.py.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select, update

from nvr import evidence, wire
from nvr.errors import NvrError
from nvr.hub import tables
from nvr.hub.changes import Changes
from nvr.hub.database import Store

CODE_VALID_MS = 90 * 24 * 3600 * 1000  # cards are prepared weeks before they hang on poles
CODE_LETTERS = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"  # 32; without what people misread: 0 O 1 I
CODE_LENGTH = 12  # 60 bits; guesses are throttled
JTI_PER_BOX = 256
JTI_BOXES = 20_000
TRIES_MOST, TRIES_WINDOW_S = 10, 60.0
ADDRESSES_MOST = 10_000


class Refused(NvrError):
    """A box is not let in; `status` is HTTP's, `close_code` the WebSocket's."""

    def __init__(self, message: str, status: int, close_code: int = 4401, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status, self.close_code = status, close_code


@dataclass(frozen=True, slots=True)
class Box:
    """A box that proved who it is."""

    id: str
    tenant_id: int
    name: str
    public_key: bytes


# -- codes -------------------------------------------------------------------------------------------------------


def new_code() -> str:
    letters = "".join(secrets.choice(CODE_LETTERS) for _ in range(CODE_LENGTH))
    return "-".join(letters[place : place + 4] for place in range(0, CODE_LENGTH, 4))


def add_code(
    connection: Connection,
    *,
    tenant_id: int,
    now_ms: int,
    site: str = "",
    box: str = "",
    by_user: str = "",
    valid_ms: int = CODE_VALID_MS,
    code: str | None = None,
) -> str:
    """A new one-time code, to be shown once; only its hash is kept."""
    code = code or new_code()
    connection.execute(
        insert(tables.code).values(
            code_hash=wire.code_hash(code), tenant_id=tenant_id, site=site, box=box, by_user=by_user,
            created_ms=now_ms, expires_ms=now_ms + valid_ms,
        )
    )  # fmt: skip
    return code


def tenant_id(connection: Connection, name: str) -> int | None:
    return connection.execute(select(tables.tenant.c.id).where(tables.tenant.c.name == name)).scalar_one_or_none()


def place_id(connection: Connection, tenant: int, name: str) -> int | None:
    table = tables.place
    return connection.execute(
        select(table.c.id).where(table.c.tenant_id == tenant, table.c.name == name)
    ).scalar_one_or_none()


def enrolment_signed(code_hash: str, public_key: bytes) -> bytes:
    """What the proof of an enrolment covers (docs/formats/wire.md)."""
    return b"\0".join((b"nvr enrol", code_hash.encode(), public_key))


def enrol(store: Store, body: dict[str, Any], now_ms: int) -> str:
    """Make the box known whose key and code `body` holds; its id. Asked again with the same key it answers the same.

    Raises wire.WireError for a body that is none, Refused otherwise.
    """
    asked = wire.Message("enrol", body)
    if asked.whole("v") != wire.VERSION:
        raise wire.WireError(f"another version; this hub speaks {wire.VERSION}", hint="Update the older side.")
    code_hash = wire.code_hash(asked.text("code", most=100))
    public_key, proof = (
        _hex(asked, "public_key", evidence.PUBLIC_KEY_BYTES),
        _hex(asked, "proof", evidence.SIGNATURE_BYTES),
    )
    name, site, software = asked.name("box"), asked.name("site"), plain(asked.text("software", most=100, default=""))
    if not evidence.is_signed_by(public_key, enrolment_signed(code_hash, public_key), proof):
        raise Refused("the proof does not fit the key", 403, hint="The box must sign with the key it enrols.")
    box_id = evidence.box_id(public_key).hex()
    with store.writing() as connection:
        _use_code(connection, code_hash, box_id, name, site, now_ms)
        row = connection.execute(select(tables.code.c.tenant_id).where(tables.code.c.code_hash == code_hash)).one()
        known = connection.execute(select(tables.box).where(tables.box.c.id == box_id)).one_or_none()
        if known is None:
            connection.execute(
                insert(tables.box).values(
                    id=box_id, tenant_id=row.tenant_id, name=name, site=site, public_key=public_key.hex(),
                    software=software, state="new", since_ms=now_ms, enrolled_ms=now_ms,
                )
            )  # fmt: skip
        elif known.blocked:
            raise Refused("this box is blocked", 409, 4403, hint="An administrator of the hub blocked it.")
        elif known.tenant_id != row.tenant_id:
            raise Refused(
                "this box belongs to another tenant", 409, 4403, hint="Give it a new key, or a code of its tenant."
            )
        else:
            connection.execute(update(tables.box).where(tables.box.c.id == box_id).values(name=name, site=site))
    return box_id


def _use_code(connection: Connection, code_hash: str, box_id: str, name: str, site: str, now_ms: int) -> None:
    """Works once, also when two boxes come at the same moment. Raises Refused without saying which codes exist."""
    code = tables.code
    row = connection.execute(select(code).where(code.c.code_hash == code_hash)).one_or_none()
    refused = Refused(
        "this code is wrong, was used by another box, or expired", 403, hint="Ask for a new code: `nvr hub code`."
    )
    if row is None or (row.box and row.box != name) or (row.site and row.site != site):
        raise refused
    if row.used_by == box_id:
        return  # the answer was lost
    if row.used_by is not None or row.expires_ms < now_ms:
        raise refused
    used = connection.execute(
        update(code)
        .where(code.c.code_hash == code_hash, code.c.used_by.is_(None))
        .values(used_by=box_id, used_ms=now_ms)
    )
    if used.rowcount != 1:
        raise refused


def _hex(message: wire.Message, key: str, length: int) -> bytes:
    try:
        value = bytes.fromhex(message.text(key, most=2 * length))
    except ValueError:
        value = b""
    if len(value) != length:
        raise wire.WireError(f"{message.kind}.{key} must be {length} bytes in hexadecimal")
    return value


def plain(text: str) -> str:
    """Text that every database takes: no NUL, no half of a surrogate pair."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


# -- tokens ------------------------------------------------------------------------------------------------------


def bearer(header: str | None) -> str:
    """The token of an Authorization header. Raises Refused."""
    scheme, _, token = (header or "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Refused("no token", 401, hint="Send `Authorization: Bearer TOKEN`.")
    return token.strip()


def box_of_token(store: Store, text: str, now_s: float) -> tuple[Box, wire.Token]:
    """The box that signed a token. Raises Refused."""
    try:
        token = wire.parse_token(text)
    except wire.WireError as error:
        raise Refused(str(error), 401) from None
    if not wire.is_in_time(token, now_s):
        raise Refused("this token is not valid now", 401, hint="Ask GET /box/v1/time and sign with the hub's time.")
    table = tables.box
    with store.reading() as connection:
        row = connection.execute(
            select(table.c.id, table.c.tenant_id, table.c.name, table.c.public_key, table.c.blocked).where(
                table.c.id == token.box_id
            )
        ).one_or_none()
    if row is None or not evidence.is_signed_by(bytes.fromhex(row.public_key), token.signed, token.signature):
        raise Refused("no box that this hub knows signed this token", 401)
    if row.blocked:
        raise Refused("this box is blocked", 403, 4403)
    return Box(row.id, row.tenant_id, row.name, bytes.fromhex(row.public_key)), token


def block(connection: Connection, changes: Changes, box_id: str, is_blocked: bool) -> None:
    """Shut a box out, wherever it is connected, or let it in again."""
    connection.execute(update(tables.box).where(tables.box.c.id == box_id).values(blocked=is_blocked))
    changes.tell(connection, "blocked", [box_id])


class SeenTokens:
    """Tokens that opened a control channel: each does so once. Bounded; kept by the process that nginx sends a box to."""

    def __init__(self) -> None:
        self._of_box: OrderedDict[str, OrderedDict[str, float]] = OrderedDict()

    def is_new(self, token: wire.Token, now_s: float) -> bool:
        """Remember it. Only ever asked about tokens whose signature was right, so nobody else can fill this up."""
        seen = self._of_box.setdefault(token.box_id, OrderedDict())
        self._of_box.move_to_end(token.box_id)
        if token.jti in seen:
            return False
        while seen and (next(iter(seen.values())) < now_s or len(seen) >= JTI_PER_BOX):
            seen.popitem(last=False)
        while len(self._of_box) > JTI_BOXES:
            self._of_box.popitem(last=False)
        seen[token.jti] = token.expires_s + wire.TOKEN_SKEW_S
        return True


class Tries:
    """How often an address guessed lately."""

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._of: OrderedDict[str, list[float]] = OrderedDict()
        self._lock = threading.Lock()

    def too_many(self, address: str) -> bool:
        with self._lock:
            now_s = self._clock_s()
            recent = [each for each in self._of.get(address, ()) if each > now_s - TRIES_WINDOW_S]
            return len(recent) >= TRIES_MOST

    def failed(self, address: str) -> None:
        with self._lock:
            now_s = self._clock_s()
            recent = [each for each in self._of.pop(address, ()) if each > now_s - TRIES_WINDOW_S]
            self._of[address] = [*recent, now_s][-TRIES_MOST:]
            while len(self._of) > ADDRESSES_MOST:
                self._of.popitem(last=False)
