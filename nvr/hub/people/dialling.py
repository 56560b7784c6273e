"""Where the hub may call when it delivers what administrators set: not itself, and nothing of the link it stands on.

Whoever may write an address into a page is not whoever may log in to the hub's machine: its database, its other services and a cloud's metadata
answer to who comes from here. What counts is the address that is dialled, however a name, a redirect or a service's own code led there;
so the look-up of names is the place: httpx, requests and smtplib all pass through it, and dial what it gave. Decision 0111.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass
class Watch:
    """One delivery."""

    may_call_itself: bool
    refused: list[str] = field(default_factory=list)  # hosts that were not dialled, and why


def may_call_itself(settings: Any) -> bool:
    """`people.may_call_itself` of hub.yaml: a gateway for SMS or a program of Home Assistant may run on the hub's machine."""
    return settings.people.get("may_call_itself", False) is True


_watch: ContextVar[Watch | None] = ContextVar("watch", default=None)
_look_up = socket.getaddrinfo


@contextlib.contextmanager
def watched(may_call_itself: bool) -> Iterator[Watch]:
    """What this thread looks up in here is not dialled where it must not be: the look-up fails, and `refused` says why."""
    watch = Watch(may_call_itself)
    token = _watch.set(watch)
    try:
        yield watch
    finally:
        _watch.reset(token)


def why_refused(ip: Address, may_call_itself: bool) -> str:
    """ "" for an address that may be called."""
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    ip = mapped or ip  # ::ffff:127.0.0.1 is dialled as what it maps
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified:
        return "leads to an address that is none of a receiver"
    if not may_call_itself and (ip.is_loopback or is_own(ip)):
        return "leads to the hub itself (hub.yaml: people.may_call_itself)"
    return ""


def is_own(ip: Address) -> bool:
    """Whether what is sent to `ip` stays on this machine: then it comes from the same address. Nothing is sent."""
    try:
        with socket.socket(socket.AF_INET if ip.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.connect((str(ip), 9))
            return ipaddress.ip_address(probe.getsockname()[0]) == ip
    except OSError:
        return False  # no way there: it will not be dialled either


def _watched_look_up(host: Any, *arguments: Any, **more: Any) -> Any:
    found = _look_up(host, *arguments, **more)
    watch = _watch.get()
    if watch is None:
        return found
    for each in found:
        why = why_refused(ipaddress.ip_address(str(each[4][0]).partition("%")[0]), watch.may_call_itself)
        if why:
            name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
            watch.refused.append(f"{name} {why}")
            raise socket.gaierror(socket.EAI_FAIL, watch.refused[-1])
    return found


socket.getaddrinfo = _watched_look_up
