"""Who we are, told to a camera: digest (RFC 7616, RFC 2617) and basic (RFC 7617) authentication.

One `Credentials` for each camera outlives its connections, so that a reconnect needs no second challenge. The password
leaves this file only as a hash, or in base64 where a camera wants nothing better. Nothing here is ever logged.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field

_HASHES: dict[str, Callable[[bytes], hashlib._Hash]] = {
    "MD5": lambda data: hashlib.md5(data, usedforsecurity=False),
    "SHA-256": hashlib.sha256,
    "SHA-512-256": lambda data: hashlib.new("sha512_256", data),
}
_STRENGTH = ("basic", "MD5", "SHA-512-256", "SHA-256")  # later is preferred; SHA-512-256 is not in every OpenSSL
_PARAMETER = re.compile(r'([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))')


@dataclass(frozen=True, slots=True)
class Challenge:
    scheme: str  # "basic" or "digest"
    realm: str = ""
    nonce: str = ""
    opaque: str | None = None
    algorithm: str = "MD5"
    is_session: bool = False  # "-sess" variants
    quoted_algorithm: str = ""  # as the camera wrote it; empty when it did not
    qop: str = ""  # "auth" when offered, else ""
    is_stale: bool = False


def parse_challenges(values: list[str]) -> list[Challenge]:
    """All challenges of the WWW-Authenticate headers that we can answer; several may share one header."""
    challenges = []
    for value in values:
        # A scheme is a word followed by a space and not by '='.
        starts = [match.start(1) for match in re.finditer(r"(?:^|,)\s*((?i:digest|basic))(?=\s|,|$)", value)]
        for start, end in zip(starts, [*starts[1:], len(value)], strict=False):
            challenge = _challenge(value[start:end])
            if challenge is not None:
                challenges.append(challenge)
    return challenges


def _challenge(text: str) -> Challenge | None:
    scheme, _, rest = text.partition(" ")
    values = {
        name.lower(): re.sub(r"\\(.)", r"\1", quoted) if quoted else plain
        for name, quoted, plain in _PARAMETER.findall(rest)
    }
    if scheme.strip(" ,").lower() == "basic":
        return Challenge("basic", realm=values.get("realm", ""))
    written = values.get("algorithm", "")
    name = written.upper() or "MD5"
    is_session = name.endswith("-SESS")
    name = name.removesuffix("-SESS")
    name = {"SHA256": "SHA-256", "SHA_256": "SHA-256"}.get(name, name)
    offered = [word.strip().lower() for word in values.get("qop", "").split(",")]
    if name not in _HASHES or "nonce" not in values or (values.get("qop") and "auth" not in offered):
        return None
    return Challenge(
        "digest",
        realm=values.get("realm", ""),
        nonce=values["nonce"],
        opaque=values.get("opaque"),
        algorithm=name,
        is_session=is_session,
        quoted_algorithm=written,
        qop="auth" if "auth" in offered else "",
        is_stale=values.get("stale", "").lower() == "true",
    )


@dataclass(slots=True)
class Credentials:
    """A user and what the camera asked of it last."""

    user: str
    password: str = field(repr=False)
    challenge: Challenge | None = None
    _count: int = 0  # nonce count: how often this nonce was used

    def accept(self, values: list[str]) -> bool:
        """Take the strongest of the challenges; False when there is none that can be answered.

        Basic is refused once a camera has offered digest: somebody in between may want the password in clear.
        """
        challenges = parse_challenges(values)
        if self.challenge is not None and self.challenge.scheme == "digest":
            challenges = [challenge for challenge in challenges if challenge.scheme == "digest"]
        if not challenges:
            return False
        self.challenge = max(challenges, key=lambda c: _STRENGTH.index("basic" if c.scheme == "basic" else c.algorithm))
        self._count = 0
        return True

    def header(self, method: str, url: str, *, client_nonce: str = "") -> str:
        """The Authorization header's value, or "" before any challenge."""
        challenge = self.challenge
        if challenge is None:
            return ""
        if challenge.scheme == "basic":
            return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        self._count += 1
        client_nonce = client_nonce or os.urandom(8).hex()
        response = digest_response(challenge, self.user, self.password, method, url, self._count, client_nonce)
        parts = [
            f'username="{_quoted(self.user)}"',
            f'realm="{_quoted(challenge.realm)}"',
            f'nonce="{_quoted(challenge.nonce)}"',
            f'uri="{url}"',
            f'response="{response}"',
        ]
        if challenge.quoted_algorithm:  # some cameras choke on a name that they did not say first
            parts.append(f"algorithm={challenge.quoted_algorithm}")
        if challenge.opaque is not None:
            parts.append(f'opaque="{_quoted(challenge.opaque)}"')
        if challenge.qop:
            parts += [f"qop={challenge.qop}", f"nc={self._count:08x}", f'cnonce="{client_nonce}"']
        elif challenge.is_session:
            parts.append(f'cnonce="{client_nonce}"')
        return "Digest " + ", ".join(parts)


def _quoted(text: str) -> str:
    return re.sub(r"[\r\n\0]", "", text).replace("\\", "\\\\").replace('"', '\\"')


def digest_response(
    challenge: Challenge, user: str, password: str, method: str, url: str, count: int, client_nonce: str
) -> str:
    """RFC 7616, 3.4.1; without qop as RFC 2069 had it, which most cameras still want."""

    def digest(text: str) -> str:
        return _HASHES[challenge.algorithm](text.encode()).hexdigest()

    secret = digest(f"{user}:{challenge.realm}:{password}")
    if challenge.is_session:
        secret = digest(f"{secret}:{challenge.nonce}:{client_nonce}")
    what = digest(f"{method}:{url}")
    if challenge.qop:
        return digest(f"{secret}:{challenge.nonce}:{count:08x}:{client_nonce}:{challenge.qop}:{what}")
    return digest(f"{secret}:{challenge.nonce}:{what}")
