"""Who is a camera on the networks of this machine? WS-Discovery by multicast, then a knock at the doors of the subnet.

Nothing leaves the networks this machine is part of: multicast goes out with a hop limit of 1 on the chosen interfaces, and only
addresses within their prefixes are knocked at, HOSTS_MOST at most. Answers are believed only as far as their sender's own address.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import select
import socket
import struct
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from nvr.errors import NvrError
from tools.nvrctl import onvif

GROUP, PORT = "239.255.255.250", 3702
HOSTS_MOST = 1024
AT_ONCE = 128
PORTS = (80, 8080, 8000, 8899, 2020)  # most; 8000 Hikvision's and Dahua's second, 8899 XM, 2020 TP-Link
RTSP_PORT = 554
ANSWERS_MOST = 1000
PATH = "/onvif/device_service"  # ONVIF Core 5.1.1

Network = ipaddress.IPv4Network


class NoNetwork(NvrError):
    """There is no network to look at, or one that may not be looked at."""


@dataclass(frozen=True, slots=True)
class Interface:
    name: str
    address: str
    network: Network


@dataclass(frozen=True, slots=True)
class Sighting:
    """Something that may be a camera."""

    host: str
    service: str  # ONVIF address; "" when only RTSP is there
    how: str  # "answered", "knocked"
    name: str = ""


def interfaces() -> list[Interface]:
    """IPv4 addresses of this machine."""
    import ifaddr

    found = []
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            if ip.is_IPv4:
                address = str(ip.ip)
                network = ipaddress.ip_network(f"{address}/{ip.network_prefix}", strict=False)
                assert isinstance(network, Network)
                found.append(Interface(adapter.nice_name, address, network))
    return found


def chosen(known: Sequence[Interface], name: str | None) -> list[Interface]:
    """The interface of this name or address; without one all but loopback. Raises NoNetwork."""
    if name is None:
        found = [each for each in known if not each.network.is_loopback]
        if not found:
            raise NoNetwork(
                "this machine is on no network", hint="Plug in the cable of the cameras' switch, or join their Wi-Fi."
            )
        return found
    found = [each for each in known if name in (each.name, each.address)]
    if not found:
        names = ", ".join(f"{each.name} ({each.address})" for each in known)
        raise NoNetwork(f"there is no interface {name}", hint=f"There are: {names}.")
    return found


def hosts_to_knock(own: Sequence[Interface], networks: Sequence[str]) -> list[str]:
    """Every address to knock at. Raises NoNetwork for one that is not ours, or for too many.

    Without `networks` those of the interfaces, narrowed to the /24 around us where they are larger.
    """
    wanted: list[Network] = []
    for text in networks:
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise NoNetwork(f"{text!r} is no network", hint="Write it as 192.168.1.0/24.") from None
        if not isinstance(network, Network) or not any(network.subnet_of(each.network) for each in own):
            raise NoNetwork(
                f"{text} is no network of this machine",
                hint=f"It is on {', '.join(str(each.network) for each in own)}. Others are not looked at.",
            )
        wanted.append(network)
    if not networks:
        for each in own:
            network = each.network
            if network.num_addresses > HOSTS_MOST:
                narrowed = ipaddress.ip_network(f"{each.address}/24", strict=False)
                assert isinstance(narrowed, Network)
                network = narrowed
            wanted.append(network)
    mine = {each.address for each in own}
    found = dict.fromkeys(
        str(host) for network in wanted for host in _hosts(network) if str(host) not in mine or network.is_loopback
    )
    if len(found) > HOSTS_MOST:
        raise NoNetwork(
            f"{len(found)} addresses are too many to knock at, {HOSTS_MOST} at most",
            hint="Give a smaller one with --network, such as 192.168.1.0/24.",
        )
    return list(found)


def _hosts(network: Network) -> Iterable[ipaddress.IPv4Address]:
    if network.num_addresses > HOSTS_MOST + 2:
        raise NoNetwork(
            f"{network} has {network.num_addresses} addresses, {HOSTS_MOST} at most are knocked at",
            hint="Give a smaller one with --network, such as 192.168.1.0/24.",
        )
    return network.hosts()


# -- multicast -----------------------------------------------------------------------------------------


def answered(own: Sequence[Interface], *, wait_s: float, group: str = GROUP, port: int = PORT) -> list[Sighting]:
    """Whoever answers a WS-Discovery probe on these interfaces within `wait_s`."""
    sockets: list[socket.socket] = []
    found: dict[str, Sighting] = {}
    try:
        for each in own:
            with contextlib.suppress(OSError):  # an interface that just went away
                sockets.append(_probing(each.address))
        message_id = str(uuid.uuid4())
        end_s, again_s = time.monotonic() + wait_s, time.monotonic()
        sent = 0
        while (now_s := time.monotonic()) < end_s and len(found) < ANSWERS_MOST:
            if sent < 3 and now_s >= again_s:  # UDP loses, so three times (WS-Discovery 3.1.3 asks for repetition)
                for each_socket in sockets:
                    with contextlib.suppress(OSError):
                        each_socket.sendto(onvif.probe(message_id), (group, port))
                sent, again_s = sent + 1, now_s + 0.4
            readable, _, _ = select.select(sockets, [], [], max(0.0, min(end_s - now_s, 0.2)))
            for each_socket in readable:
                data, sender = each_socket.recvfrom(65_536)
                for sighting in sightings(data, sender[0]):
                    found.setdefault(sighting.service, sighting)
    finally:
        for each_socket in sockets:
            each_socket.close()
    return list(found.values())


def _probing(address: str) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
        made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, struct.pack("B", 1))
        made.bind((address, 0))
    except OSError:
        made.close()
        raise
    return made


def sightings(data: bytes, sender: str) -> list[Sighting]:
    """What a datagram says, at its sender's own address whatever it names."""
    try:
        matches = onvif.probe_matches(data)
    except NvrError:
        return []
    found = []
    for match in matches[:8]:
        services = [each for each in match.services if each.lower().startswith(("http://", "https://"))]
        same = [each for each in services if _hostname(each) == sender]
        service = onvif.at_host((same or services or [f"http://{sender}{PATH}"])[0], sender, default_path=PATH)
        if service:
            found.append(Sighting(sender, service, "answered", match.name))
    return found


def _hostname(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


# -- knocking ------------------------------------------------------------------------------------------


def knocked(
    hosts: Sequence[str], ports: Sequence[int] = PORTS, *, timeout_s: float = 1.0, rtsp_port: int = RTSP_PORT
) -> list[Sighting]:
    """Hosts where something that may be a camera listens: HTTP ports to be asked, or RTSP alone."""
    return asyncio.run(_knock_all(hosts, (*ports, rtsp_port), timeout_s, rtsp_port))


async def _knock_all(hosts: Sequence[str], ports: Sequence[int], timeout_s: float, rtsp_port: int) -> list[Sighting]:
    limit = asyncio.Semaphore(AT_ONCE)

    async def knock(host: str, port: int) -> tuple[str, int] | None:
        async with limit:
            try:
                _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), timeout_s)
            except (OSError, TimeoutError):
                return None
            writer.close()
            return host, port

    open_ports = [
        each
        for each in await asyncio.gather(*(knock(host, port) for host in hosts for port in dict.fromkeys(ports)))
        if each
    ]
    return [
        Sighting(
            host,
            "" if port == rtsp_port else f"http://{host}:{port}{PATH}" if port != 80 else f"http://{host}{PATH}",
            "knocked",
        )
        for host, port in open_ports
    ]
