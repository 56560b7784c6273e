"""Under which address a browser on the LAN reaches this box."""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nvr.site import Site

DEFAULT_PORT = 8080


def page_address(site: Site | None, host: str | None = None) -> str:
    """http://HOST:PORT of the page; the host is the one address the site file names, or this machine's own."""
    port = site.web.port if site is not None else DEFAULT_PORT
    if host is None:
        listen = ipaddress.ip_address(site.web.listen if site is not None else "0.0.0.0")
        host = own_address() if listen.is_unspecified else str(listen)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def taken(site: Site) -> str:
    """Why the page cannot listen where the site file says, in words; "" when it can."""
    address = ipaddress.ip_address(site.web.listen)
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        socket.create_server((site.web.listen, site.web.port), family=family).close()
    except OSError as error:
        return f"the page cannot listen on {site.web.listen} port {site.web.port}: {error.strerror}"
    return ""


def own_address() -> str:
    """The address of the interface that leads out; nothing is sent. Loopback where there is no network."""
    for family, target in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):  # RFC 5737, RFC 3849
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((target, 9))
                return str(probe.getsockname()[0])
        except OSError:
            continue
    return "127.0.0.1"
