"""The messages between box and hub, with their version.

Bytes and values only: sockets, retries and tables are somebody else's business. docs/formats/wire.md is the same for people.
The box dials out; everything below travels inside TLS. Three ways, one version:

    HTTPS      POST /box/v1/enrol, GET /box/v1/time                  once, and whenever the clock is not known
    WebSocket  /box/v1/control, subprotocol "nvr.1"                  heartbeats, events, stills, live; commands down
    tus 1.0    /box/v1/uploads                                       clips and other large objects, by content

Whatever parses here comes from a network: every function returns a value or raises WireError, for every input. Unknown
keys are ignored and unknown kinds are answered with a refusal, so that an older hub and a newer box understand each other.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from nvr.errors import NvrError

VERSION = 1
SUBPROTOCOL = "nvr.1"
AUDIENCE = "nvr-hub"

HEARTBEAT_S = 10.0
STILL_S = 10.0
SILENT_S = 30.0  # a box that said nothing for so long is shown as silent

TEXT_BYTES_MOST = 256 * 1024  # one JSON message
BINARY_BYTES_MOST = 8 * 1024 * 1024  # one still or live fragment with its header
HEADER_BYTES_MOST = 16 * 1024
TOKEN_VALID_S = 300  # a token that leaked is worth five minutes
TOKEN_SKEW_S = 120  # the box takes the hub's time, but links are slow

# What waits in the outbox, most urgent first; the number is the wire's.
ALARM, STATE, CLIP, BULK = 0, 1, 2, 3
VALUES = {"alarm": ALARM, "state": STATE, "clip": CLIP, "bulk": BULK}

COMMANDS = frozenset(
    # live_on {stream, watch_s}, live_off {stream}, fetch {camera, from_ms, to_ms, reason}, site {text, digest, rollback_s},
    # still {camera}, hold {camera, from_ms, to_ms, reason}, release {hold}, update {url, sha256, version}, restart {}, logs {lines},
    # ledger {camera, from_ms, to_ms}
    ("live_on", "live_off", "fetch", "site", "still", "hold", "release", "update", "restart", "logs", "ledger")
)
UP = frozenset(("hello", "heartbeat", "event", "still", "live", "reply", "pong"))
DOWN = frozenset(("welcome", "ack", "command", "ping", "refused"))

_ID = re.compile(r"[0-9a-f]{32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}")
_STREAM = re.compile(r"[A-Za-z0-9_-]{1,63}/(main|small)")


class WireError(NvrError):
    """A message that is not one: too long, not JSON, a key missing or of another kind."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the control channel. `payload` is what follows the header of a binary one."""

    kind: str
    body: Mapping[str, Any] = field(default_factory=dict)
    payload: bytes = b""

    def to_text(self) -> str:
        assert not {"v", "kind"} & self.body.keys(), "an event has a kind of its own: it travels inside `event`"
        return json.dumps({"v": VERSION, "kind": self.kind, **self.body}, separators=(",", ":"), ensure_ascii=False)

    def to_bytes(self) -> bytes:
        """Binary form: uint32 big-endian length of the JSON header, the header, the payload."""
        header = self.to_text().encode()
        return struct.pack(">I", len(header)) + header + self.payload

    # What a body holds, checked: each raises WireError naming the key.

    def text(self, key: str, *, most: int = 1000, default: str | None = None) -> str:
        value = self.body.get(key, default)
        if not isinstance(value, str) or len(value) > most:
            raise WireError(f"{self.kind}.{key} must be text of at most {most} characters")
        return value

    def whole(self, key: str, *, least: int = 0, most: int = 2**62, default: int | None = None) -> int:
        value = self.body.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise WireError(f"{self.kind}.{key} must be a whole number from {least} to {most}")
        return value

    def object(self, key: str) -> dict[str, Any]:
        value = self.body.get(key)
        if not isinstance(value, dict):
            raise WireError(f"{self.kind}.{key} must be an object")
        return value

    def id(self, key: str = "id") -> str:
        return _matching(_ID, self.body.get(key), f"{self.kind}.{key}", "32 hexadecimal digits")

    def name(self, key: str) -> str:
        return _matching(_NAME, self.body.get(key), f"{self.kind}.{key}", "a name")

    def stream(self, key: str = "stream") -> str:
        return _matching(_STREAM, self.body.get(key), f"{self.kind}.{key}", "a stream such as gate/main")


def _matching(pattern: re.Pattern[str], value: Any, where: str, what: str) -> str:
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise WireError(f"{where} must be {what}")
    return value


def parse(data: str | bytes, kinds: frozenset[str]) -> Message:
    """One received WebSocket message: text, or bytes with a header. Raises WireError; unknown kinds too."""
    if isinstance(data, str):
        if len(data) > TEXT_BYTES_MOST:
            raise WireError(f"a message of {len(data)} characters, at most {TEXT_BYTES_MOST} are taken")
        return _message(data, kinds, b"")
    if len(data) > BINARY_BYTES_MOST:
        raise WireError(f"a message of {len(data)} bytes, at most {BINARY_BYTES_MOST} are taken")
    if len(data) < 4:
        raise WireError("a binary message shorter than its length field")
    (length,) = struct.unpack_from(">I", data)
    if not 2 <= length <= min(HEADER_BYTES_MOST, len(data) - 4):
        raise WireError(f"a header of {length} bytes in a message of {len(data)}")
    try:
        header = bytes(data[4 : 4 + length]).decode()
    except UnicodeDecodeError:
        raise WireError("a header that is not UTF-8") from None
    return _message(header, kinds, bytes(data[4 + length :]))


def _message(text: str, kinds: frozenset[str], payload: bytes) -> Message:
    fields = parse_object(text)
    if fields.pop("v", None) != VERSION:
        raise WireError(f"a message of another version; this side speaks {VERSION}", hint="Update the older side.")
    kind = fields.pop("kind", None)
    if not isinstance(kind, str) or kind not in kinds:  # a list is not hashable
        raise WireError(f"no message is called {str(kind)[:40]!r} here")
    return Message(kind, fields, payload)


def parse_object(text: str | bytes) -> dict[str, Any]:
    """A JSON object without NaN and infinities, which databases and browsers do not take. Raises WireError."""
    try:
        fields = json.loads(text, parse_constant=_no_constant)
    except WireError:
        raise
    except (ValueError, RecursionError):
        raise WireError("not JSON") from None
    if not isinstance(fields, dict):
        raise WireError("not a JSON object")
    return fields


def _no_constant(name: str) -> float:
    raise WireError(f"{name} is no number")


def new_id() -> str:
    """For commands and uploads: 128 random bits."""
    return secrets.token_hex(16)


def event_id(box_id: bytes, life: str, number: int) -> str:
    """The same event has the same id however often it is sent: from the box, its process and its number there."""
    return sha256(b"\0".join((b"nvr event", box_id, life.encode(), str(number).encode()))).hexdigest()[:32]


# -- identity: a box signs with its Ed25519 key; its id is derived from the public half (evidence.py) ------------


def token_to_sign(box_id: bytes, now_s: int) -> bytes:
    """Header and claims of a JWT (RFC 7519) for EdDSA (RFC 8037). With signed_token() they become one.

    `now_s` is the hub's time as the box knows it.
    """
    header = {"alg": "EdDSA", "typ": "JWT", "kid": box_id.hex()}
    claims = {"iss": box_id.hex(), "aud": AUDIENCE, "iat": now_s, "exp": now_s + TOKEN_VALID_S, "jti": new_id()}
    return b".".join(base64url(json.dumps(each, separators=(",", ":")).encode()) for each in (header, claims))


def signed_token(to_sign: bytes, signature: bytes) -> str:
    return (to_sign + b"." + base64url(signature)).decode()


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it was received; nothing of it is true before `signature` was verified over `signed`."""

    box_id: str  # hex
    issued_s: int
    expires_s: int
    jti: str
    signed: bytes
    signature: bytes


def request_headers(box_id: bytes, token: str) -> dict[str, str]:
    """What each request of a box carries; the second is for a load balancer, the hub believes the token only."""
    return {"authorization": f"Bearer {token}", "nvr-box": box_id.hex()}


def parse_token(text: str) -> Token:
    """Raises WireError. Refuses every algorithm but EdDSA: nothing is chosen by who sends it."""
    parts = text.encode("ascii", "replace").split(b".")
    if len(text) > 2000 or len(parts) != 3:
        raise WireError("not a token")
    header, claims = (parse_object(unbase64url(part)) for part in parts[:2])
    if header.get("alg") != "EdDSA" or claims.get("aud") != AUDIENCE:
        raise WireError("a token of another kind")
    if header.get("kid") != claims.get("iss"):
        raise WireError("a token of two boxes")
    claimed = Message("token", claims)
    token = Token(
        claimed.id("iss"), claimed.whole("iat"), claimed.whole("exp"), claimed.id("jti"),
        b".".join(parts[:2]), unbase64url(parts[2]),
    )  # fmt: skip
    if not 0 < token.expires_s - token.issued_s <= TOKEN_VALID_S:
        raise WireError("a token that is valid for too long")
    return token


def is_in_time(token: Token, now_s: float) -> bool:
    """By the hub's clock."""
    return token.issued_s - TOKEN_SKEW_S <= now_s <= token.expires_s + TOKEN_SKEW_S


def base64url(data: bytes) -> bytes:
    """Without padding (RFC 7515, 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def unbase64url(data: bytes) -> bytes:
    """Raises WireError."""
    try:
        return base64.b64decode(data + b"=" * (-len(data) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise WireError("not base64url") from None


def code_hash(code: str) -> str:
    """What a hub keeps of a one-time code: the same for `7f3k qm2p xw9d` and `7F3K-QM2P-XW9D`."""
    bare = re.sub(r"[^A-Z0-9]", "", code.upper())
    return sha256(b"nvr code\0" + bare.encode()).hexdigest()


def is_id(text: object) -> bool:
    return isinstance(text, str) and _ID.fullmatch(text) is not None


def is_stream(text: object) -> bool:
    return isinstance(text, str) and _STREAM.fullmatch(text) is not None


def is_sha256(text: object) -> bool:
    return isinstance(text, str) and _SHA256.fullmatch(text) is not None


# -- stills: the box signs when the picture was taken, so that a wall cannot lie about its age -----------------


def still_signed(camera: str, captured_ms: int, digest: str) -> bytes:
    """What the signature of a still covers: camera, when (box wall time, 0 unknown), SHA-256 of the JPEG in hex."""
    return b"\0".join((b"nvr still", camera.encode(), str(captured_ms).encode(), digest.encode()))
