"""Passwords: argon2id, and what is refused as one. The only file here that hashes them."""

from __future__ import annotations

import secrets
import threading
from hashlib import sha256

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from nvr.errors import NvrError

MIN_LENGTH = 10
MAX_LENGTH = 256  # nobody types more, and hashing megabytes would be a way to stop the hub

# 19 MiB and two passes: OWASP's figure for argon2id.
_hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
_two_at_once = threading.Semaphore(2)  # a storm of log-ins must not take all memory and every thread's CPU
_nobody = _hasher.hash(secrets.token_hex(16))

_OBVIOUS = ("password", "1234567890", "qwertyuiop", "indonesia", "administrator", "kata sandi", "katasandi")


class PasswordRefused(NvrError):
    """Too short, too long, or the first one anybody would try."""


def check(password: str, name: str) -> None:
    """Raises PasswordRefused."""
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        raise PasswordRefused(
            f"the password has {len(password)} characters, {MIN_LENGTH} to {MAX_LENGTH} are needed",
            hint="Four unrelated words are easy to remember and hard to guess.",
        )
    bare = password.lower().strip()
    if len(set(bare)) < 4 or (name and name.lower() in bare and len(bare) < len(name) + 6) or bare.startswith(_OBVIOUS):
        raise PasswordRefused(
            "this password is among the first that anybody tries", hint="Four unrelated words are better."
        )


def hashed(password: str) -> str:
    with _two_at_once:
        return _hasher.hash(password.encode("utf-8", "surrogatepass"))


def is_right(stored: str, password: str) -> bool:
    """Takes as long when there is no such user (`stored` empty) as when the password is wrong."""
    with _two_at_once:
        try:
            if len(password) > MAX_LENGTH:
                raise VerificationError
            _hasher.verify(stored or _nobody, password.encode("utf-8", "surrogatepass"))
        except (VerificationError, InvalidHashError):
            return False
    return bool(stored)


def token_hash(token: str) -> str:
    """Tokens are 256 random bits, so one fast hash is enough."""
    return sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
