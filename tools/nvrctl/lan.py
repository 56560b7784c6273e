"""Boxes on the LAN, by multicast DNS (RFC 6762, 6763): each announces its page as `_nvr._tcp`. zeroconf is imported only here."""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass
from typing import Any

from nvr.errors import NvrError
from nvr.site_settings import host_name

SERVICE = "_nvr._tcp.local."
BOXES_MOST = 500


class NoLan(NvrError):
    """Multicast does not work here."""


@dataclass(frozen=True, slots=True)
class BoxSeen:
    """A box as it announces itself; only its addresses are certain."""

    name: str
    address: str
    port: int
    facts: tuple[tuple[str, str], ...] = ()  # what it says besides: site, version

    @property
    def page(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"http://{host}:{self.port}"


def boxes(*, wait_s: float = 3.0, interface: str | None = None) -> list[BoxSeen]:
    """Whoever announces itself within `wait_s`. Raises NoLan."""
    from zeroconf import InterfaceChoice, IPVersion, ServiceBrowser, ServiceListener, Zeroconf

    class Listener(ServiceListener):
        def __init__(self) -> None:
            self.names: set[str] = set()

        def add_service(self, zc: Any, type_: str, name: str) -> None:
            if len(self.names) < BOXES_MOST:
                self.names.add(name)

        def update_service(self, zc: Any, type_: str, name: str) -> None:
            self.add_service(zc, type_, name)

        def remove_service(self, zc: Any, type_: str, name: str) -> None:
            self.names.discard(name)

    try:
        browser = Zeroconf(interfaces=[interface] if interface else InterfaceChoice.All, ip_version=IPVersion.V4Only)
    except OSError as error:
        raise NoLan(
            f"multicast does not work here: {error.strerror or error}",
            hint="Join the boxes' network, or give --interface ADDRESS.",
        ) from error
    listener = Listener()
    try:
        ServiceBrowser(browser, SERVICE, listener)
        threading.Event().wait(wait_s)
        found = [
            seen
            for name in sorted(listener.names)
            if (seen := _resolved(browser.get_service_info(SERVICE, name, timeout=2000))) is not None
        ]
    finally:
        browser.close()
    return found


def _resolved(info: Any) -> BoxSeen | None:
    if info is None or not info.parsed_addresses():
        return None
    facts = tuple(
        (key.decode("utf-8", "replace")[:40], (value or b"").decode("utf-8", "replace")[:100])
        for key, value in sorted((info.properties or {}).items())
    )
    return BoxSeen(info.name.removesuffix(f".{SERVICE}")[:63], info.parsed_addresses()[0], info.port or 80, facts)


def address_of(name: str) -> str:
    """Where `name` is: an address as it stands, a host name of DNS, or a box that answers to NAME.local (host_name()). Raises NoLan."""
    for candidate in (name, *(() if "." in name or ":" in name else (f"{host_name(name)}.local",))):
        try:
            return str(socket.getaddrinfo(candidate, None, type=socket.SOCK_STREAM)[0][4][0])
        except (OSError, UnicodeError):
            continue
    if "." not in name and ":" not in name:
        from zeroconf import Zeroconf

        try:
            browser = Zeroconf()
        except OSError:
            browser = None
        if browser is not None:
            try:
                info = browser.get_service_info(SERVICE, f"{host_name(name)}.{SERVICE}", timeout=3000)
            finally:
                browser.close()
            if info is not None and info.parsed_addresses():
                return str(info.parsed_addresses()[0])
    raise NoLan(
        f"there is no box {name} on this network",
        hint="`nvrctl box find` lists those that are; an address will do as well.",
    )
