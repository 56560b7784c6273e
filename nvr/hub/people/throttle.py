"""How long to wait before the next password may be tried, by address and by account. Pure; `access.py` keeps the counts.

Counting by address stops one machine that tries many accounts, counting by account stops many machines that try one. Nobody is locked out
for good: an account waits 30 s at most, or anyone who knows a name could keep its owner out.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

FREE_TRIES = 4  # for typing errors
ADDRESS_WAIT_S = (1.0, 2.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0)
ACCOUNT_WAIT_S = (1.0, 2.0, 5.0, 10.0, 30.0)
FORGIVEN_AFTER_S = 3600.0


@dataclass(frozen=True, slots=True)
class Tries:
    """Failed tries in a row under one key, and when the last one was."""

    count: int = 0
    last_ms: int = 0


def subscriber(address: str) -> str:
    """Who an address stands for: itself, or the /64 that an IPv6 host can choose from."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)


def wait_ms(tries: Tries, now_ms: int, waits_s: tuple[float, ...]) -> int:
    """0: the next try is free."""
    if tries.count < FREE_TRIES or _is_forgiven(tries, now_ms):
        return 0
    wait_s = waits_s[min(tries.count - FREE_TRIES, len(waits_s) - 1)]
    return max(0, tries.last_ms + round(wait_s * 1000) - now_ms)


def counted(tries: Tries, now_ms: int) -> Tries:
    """One more try was made: before its outcome is known, so that tries at the same time count too."""
    return Tries(1 if _is_forgiven(tries, now_ms) else tries.count + 1, now_ms)


def _is_forgiven(tries: Tries, now_ms: int) -> bool:
    # A clock that was set back must not keep anybody out for longer than the wait itself.
    return abs(now_ms - tries.last_ms) > FORGIVEN_AFTER_S * 1000
