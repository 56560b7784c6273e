"""Webhook signatures: HMAC-SHA256 over the time and the body, so that the receiver knows who sent it and that it is not an old one.

    Nvr-Signature: t=1764025200,v1=5f2c...     v1 = hex(HMAC-SHA256(secret, t + "." + body))

The receiver computes the same over the bytes it received, compares without leaking time, and refuses a `t` more than five minutes off.
"""

from __future__ import annotations

import hmac
import re

VALID_S = 300
_HEADER = re.compile(r"t=(\d{1,12}),v1=([0-9a-f]{64})")


def signature(secret: str, body: bytes, at_s: int) -> str:
    return f"t={at_s},v1={_mac(secret, body, at_s)}"


def is_genuine(secret: str, body: bytes, header: str, now_s: float) -> bool:
    """What a receiver does; the tests and docs/api.md use it."""
    match = _HEADER.fullmatch(header)
    if match is None or abs(now_s - int(match[1])) > VALID_S:
        return False
    return hmac.compare_digest(match[2], _mac(secret, body, int(match[1])))


def _mac(secret: str, body: bytes, at_s: int) -> str:
    return hmac.new(secret.encode(), f"{at_s}.".encode() + body, "sha256").hexdigest()
