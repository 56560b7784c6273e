"""Other boxes on the LAN, by multicast DNS (RFC 6762, RFC 6763): each announces its page as `_nvr._tcp`, on an image through systemd-resolved.

`pages()` asks once and listens for a moment; it needs no daemon and no package. A box is believed to be where its answer came from,
never where the answer says, so nobody can point us at a third machine. Whatever is wrong with the network means no neighbours.
"""

from __future__ import annotations

import socket
import struct
import time
from contextlib import suppress
from dataclasses import dataclass, field

from nvr.errors import NvrError

SERVICE = "_nvr._tcp.local"
GROUP, PORT = "224.0.0.251", 5353  # RFC 6762, 3
PTR, SRV, INTERNET = 12, 33, 1  # RFC 1035, 3.2; RFC 2782
LISTEN_S = 1.5  # RFC 6762, 6: an answer may be held back for 0.5 s
PACKET_BYTES = 9000  # RFC 6762, 17
NEIGHBOURS_MOST = 32
_RECORDS_MOST = 256
_JUMPS_MOST = 16


class NotDns(NvrError):
    """These bytes are no answer of DNS."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one packet says of our service; names in lower case."""

    instances: frozenset[str] = frozenset()
    ports: dict[str, int] = field(default_factory=dict)  # instance -> port of its page


def question(name: str, kind: int) -> bytes:
    """A packet that asks for one name (RFC 1035, 4.1)."""
    labels = [part.encode("utf-8", "surrogateescape") for part in name.split(".")]
    written = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    return struct.pack(">6H", 0, 0, 1, 0, 0, 0) + written + struct.pack(">2H", kind, INTERNET)


def read(packet: bytes) -> Answer:
    """Raises NotDns for whatever is no answer."""
    try:
        _, flags, questions, *counts = struct.unpack_from(">6H", packet)
        if not flags & 0x8000:
            raise NotDns("a question")
        place, records = 12, sum(counts)
        if questions + records > _RECORDS_MOST:
            raise NotDns(f"{questions + records} records")
        for _ in range(questions):
            _, place = _name(packet, place)
            place += 4
        instances, ports = set(), {}
        for _ in range(records):
            name, place = _name(packet, place)
            kind, _, _, size = struct.unpack_from(">2HIH", packet, place)
            place += 10
            if place + size > len(packet):
                raise NotDns("a record that is cut off")
            if kind == PTR and name == SERVICE:
                instances.add(_name(packet, place)[0])
            elif kind == SRV and name.endswith(f".{SERVICE}"):
                _, _, ports[name] = struct.unpack_from(">3H", packet, place)
            place += size
    except (struct.error, IndexError):
        raise NotDns("it is cut off") from None
    ours = frozenset(name for name in instances if name.endswith(f".{SERVICE}"))
    return Answer(ours, {name: port for name, port in ports.items() if port})


def _name(packet: bytes, place: int) -> tuple[str, int]:
    """The name at `place`, and where what follows begins. Compressed names point back (RFC 1035, 4.1.4). Raises NotDns, IndexError."""
    labels: list[bytes] = []
    end = 0  # behind the first pointer
    for _ in range(_JUMPS_MOST):
        while 0 < (size := packet[place]) < 64:
            label = packet[place + 1 : place + 1 + size]
            labels.append(label)
            place += 1 + len(label)
            if len(labels) > 32:
                raise NotDns("a name without end")
        if size == 0:
            return b".".join(labels).decode("utf-8", "surrogateescape").lower(), end or place + 1
        if size < 192:
            raise NotDns("a label of an unknown kind")
        end = end or place + 2
        place = (size & 63) << 8 | packet[place + 1]
    raise NotDns("a name that points in a circle")


def pages(listen_s: float = LISTEN_S) -> list[str]:
    """Addresses of the pages of boxes that answer, our own perhaps among them; blocks. Empty where multicast does not work."""
    try:
        asking, interfaces = _open()
    except OSError:
        return []
    with asking:
        _ask(asking, interfaces, question(SERVICE, PTR))
        seen: set[tuple[str, str]] = set()  # address, instance
        found: dict[tuple[str, str], int] = {}
        until_s = time.monotonic() + listen_s
        while (left_s := until_s - time.monotonic()) > 0 and len(found) < NEIGHBOURS_MOST:
            asking.settimeout(left_s)
            try:
                packet, (address, _) = asking.recvfrom(PACKET_BYTES)
                answer = read(packet)
            except (NotDns, OSError):
                continue
            found |= {(address, name): port for name, port in answer.ports.items()}
            for name in answer.instances:
                if (address, name) not in found and (address, name) not in seen and len(seen) < NEIGHBOURS_MOST:
                    _ask(asking, interfaces, question(name, SRV))
                seen.add((address, name))
    return sorted({f"http://{address}:{port}" for (address, _), port in found.items()})


def _open() -> tuple[socket.socket, list[int]]:
    """Port 5353 is shared with systemd-resolved: the firewall lets answers to it in, and answers go to the group. Raises OSError."""
    asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        asking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
        asking.bind(("", PORT))
        interfaces = []
        for number, _ in socket.if_nameindex():
            with suppress(OSError):  # one that is down, or has no address
                asking.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, _request(number))
                interfaces.append(number)
    except BaseException:
        asking.close()
        raise
    return asking, interfaces


def _request(interface: int) -> bytes:
    """struct ip_mreqn (ip(7))."""
    return struct.pack("=4s4si", socket.inet_aton(GROUP), bytes(4), interface)


def _ask(asking: socket.socket, interfaces: list[int], packet: bytes) -> None:
    for number in interfaces:
        with suppress(OSError):
            asking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, _request(number))
            asking.sendto(packet, (GROUP, PORT))
