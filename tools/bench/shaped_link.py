"""A bad link between two network namespaces: rate, delay, loss, outages and resets, for real TCP of the kernel. Needs root and TUN.

The kernel's own netem is not in every kernel, so packets go through this process: each namespace has a TUN device, and what one sends
arrives at the other late, or never. Used by `tools/bench/uplink.py`, and by the tests of the uplink.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import threading
import time
from dataclasses import dataclass

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
HUB, BOX = "10.77.0.1", "10.77.0.2"


@dataclass
class Shape:
    """Of one direction."""

    kbit_s: float = 256.0
    delay_s: float = 0.15
    loss: float = 0.08
    queue_bytes: int = 32_768  # a second of 256 kbit/s; a cheap modem has more
    is_down: bool = False


@dataclass
class Counted:
    packets: int = 0
    sent_bytes: int = 0  # that entered the link, lost ones too
    lost: int = 0
    overflowed: int = 0


def run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, text=True)


class ShapedLink:
    """Namespaces `NAME-hub` and `NAME-box`; use it in a `with` statement."""

    def __init__(self, name: str, shape: Shape | None = None, seed: int = 1) -> None:
        self.name = name
        first = shape or Shape()
        self.shapes = {"up": first, "down": Shape(first.kbit_s, first.delay_s, first.loss, first.queue_bytes)}
        self.counted = {"up": Counted(), "down": Counted()}
        self.resets = 0
        self.timeline: list[tuple[float, int]] = []  # of "up": (when, bytes) of each packet
        self._dice = random.Random(seed)
        self._reset_until_s = 0.0
        self._reset_flows: set[bytes] = set()
        self._fds: dict[str, int] = {}
        self._stop = False
        self._thread = threading.Thread(target=self._pump, daemon=True)

    def namespace(self, side: str) -> str:
        return f"{self.name}-{side}"

    def command(self, side: str, *words: str) -> list[str]:
        return ["ip", "netns", "exec", self.namespace(side), *words]

    def __enter__(self) -> ShapedLink:
        for side, address, other in (("hub", HUB, BOX), ("box", BOX, HUB)):
            space, device = self.namespace(side), f"{self.name[:8]}-{side}"
            subprocess.run(["ip", "netns", "del", space], capture_output=True, check=False)
            run("ip", "netns", "add", space)
            fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH", device.encode(), _IFF_TUN | _IFF_NO_PI))
            self._fds[side] = fd
            run("ip", "link", "set", device, "netns", space)
            run("ip", "-n", space, "addr", "add", address, "peer", other, "dev", device)
            run("ip", "-n", space, "link", "set", device, "mtu", "1500", "up")
            run("ip", "-n", space, "link", "set", "lo", "up")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop = True
        self._thread.join(5)
        for fd in self._fds.values():
            os.close(fd)
        for side in ("hub", "box"):
            subprocess.run(["ip", "netns", "del", self.namespace(side)], capture_output=True, check=False)

    def down(self, is_down: bool) -> None:
        for shape in self.shapes.values():
            shape.is_down = is_down

    def reset(self) -> None:
        """Break every TCP connection that says something within the next second, at both ends."""
        self._reset_flows.clear()
        self._reset_until_s = time.monotonic() + 1.0

    def _pump(self) -> None:
        late: list[tuple[float, int, int, bytes]] = []  # (when, number, fd, packet)
        free_s = {"up": 0.0, "down": 0.0}
        ways = {self._fds["box"]: ("up", self._fds["hub"]), self._fds["hub"]: ("down", self._fds["box"])}
        number = 0
        while not self._stop:
            now_s = time.monotonic()
            while late and late[0][0] <= now_s:
                _, _, fd, packet = heapq.heappop(late)
                try:
                    os.write(fd, packet)
                except OSError:
                    pass  # the namespace goes away
            wait_s = min(late[0][0] - now_s, 0.2) if late else 0.2
            readable, _, _ = select.select(list(ways), [], [], max(wait_s, 0.0))
            now_s = time.monotonic()
            for fd in readable:
                way, to = ways[fd]
                for _ in range(64):
                    try:
                        packet = os.read(fd, 2048)
                    except (BlockingIOError, OSError):
                        break
                    if packet[0] >> 4 != 4:
                        continue  # IPv6 neighbours look for each other
                    at_s = self._arrival_s(way, packet, now_s, free_s)
                    if at_s is not None:
                        number += 1
                        heapq.heappush(late, (at_s, number, to, self._perhaps_reset(packet, now_s)))

    def _arrival_s(self, way: str, packet: bytes, now_s: float, free_s: dict[str, float]) -> float | None:
        shape, counted = self.shapes[way], self.counted[way]
        counted.packets += 1
        counted.sent_bytes += len(packet)
        if way == "up":
            self.timeline.append((now_s, len(packet)))
        if shape.is_down or self._dice.random() < shape.loss:
            counted.lost += 1
            return None
        bytes_s = shape.kbit_s * 125
        begin_s = max(now_s, free_s[way])
        if (begin_s - now_s) * bytes_s > shape.queue_bytes:
            counted.overflowed += 1
            return None
        free_s[way] = begin_s + len(packet) / bytes_s
        return free_s[way] + shape.delay_s

    def _perhaps_reset(self, packet: bytes, now_s: float) -> bytes:
        """A packet of a connection that is to break becomes a RST with its sequence number (RFC 9293, 3.5.2)."""
        if now_s > self._reset_until_s or packet[9] != 6:
            return packet
        head = (packet[0] & 15) * 4
        tcp = packet[head:]
        if tcp[13] & 0x06:  # SYN or RST
            return packet
        flow = packet[12:20] + tcp[:4]
        if flow not in self._reset_flows:
            self._reset_flows.add(flow)
            self.resets += 1
        return reset_packet(packet[:20], tcp)


def reset_packet(ip: bytes, tcp: bytes) -> bytes:
    new_tcp = tcp[:12] + bytes((5 << 4, 0x14)) + b"\0\0\0\0\0\0"
    pseudo = ip[12:20] + struct.pack(">BBH", 0, 6, len(new_tcp))
    new_tcp = new_tcp[:16] + struct.pack(">H", checksum(pseudo + new_tcp)) + new_tcp[18:]
    new_ip = bytes((0x45,)) + ip[1:2] + struct.pack(">H", 20 + len(new_tcp)) + ip[4:10] + b"\0\0" + ip[12:20]
    return new_ip[:10] + struct.pack(">H", checksum(new_ip)) + new_ip[12:] + new_tcp


def checksum(data: bytes) -> int:
    """RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
