"""How much the uplink may take of the link, and whose turn it is: the cap, the floor for what is urgent, quiet hours.

Everything that is sent is paid for by what really went out: payload at once, headers and repetitions of TCP as the kernel counts them
(`Meter`), so the cap holds on a bad link too. What is urgent (heartbeats, events) is sent at once and paid for afterwards; the rest
waits for its turn, the most valuable first, and never takes the floor. While an alarm travels, ordinary clips stand still. Where the
link is also the public's, they yield to it (`courtesy.py`).
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from nvr.uplink.courtesy import Courtesy
from nvr.uplink.worth import RANK_ASKED, RANK_CLIP, RANK_STATE

HEADERS_BYTES = 52  # IPv4 and TCP with timestamps, of each segment; IPv6 has 20 more, an Ethernet frame 14
BURST_S = 0.25  # so much may be saved up while nothing is sent
DEBT_S = 10.0  # what is urgent may run ahead of the cap by so much
_TICK_S = 0.05


def is_quiet(quiet_hours: tuple[tuple[int, int], ...], minute: int) -> bool:
    """Whether a minute of the site's day lies in the hours in which ordinary clips wait."""
    return any(begin <= minute < end if begin < end else minute >= begin or minute < end for begin, end in quiet_hours)


@dataclass(frozen=True, slots=True)
class SocketFacts:
    """What the kernel says of one TCP connection (linux/tcp.h, struct tcp_info)."""

    rtt_ms: float
    least_rtt_ms: float
    sent_bytes: int  # payload, repetitions included
    repeated_bytes: int
    unsent_bytes: int  # given to the kernel and not sent once yet
    segments: int
    delivery_bytes_s: int


def socket_facts(sock: socket.socket) -> SocketFacts | None:
    """None where the kernel is older than 4.19, or the connection is gone."""
    try:
        raw = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    except (OSError, AttributeError):
        return None
    if len(raw) < 216:
        return None
    (rtt_us,) = struct.unpack_from("=I", raw, 68)
    segments, _, unsent, least_rtt_us = struct.unpack_from("=IIII", raw, 136)
    (delivery,) = struct.unpack_from("=Q", raw, 160)
    sent, repeated = struct.unpack_from("=QQ", raw, 200)
    return SocketFacts(rtt_us / 1000, least_rtt_us / 1000, sent, repeated, unsent, segments, delivery)


class Meter:
    """What one connection sent beyond what was paid for already: headers, TLS, repetitions."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.paid_bytes = 0  # payload that was handed over
        self._told_bytes = 0
        self._delay_of_segments = 0

    def overhead_bytes(self) -> int:
        """Since the last call; never negative."""
        facts = socket_facts(self._socket)
        if facts is None:
            return 0
        over = facts.sent_bytes + facts.segments * HEADERS_BYTES - max(self.paid_bytes - facts.unsent_bytes, 0)
        new = max(over - self._told_bytes, 0)
        self._told_bytes += new
        return new

    def facts(self) -> SocketFacts | None:
        return socket_facts(self._socket)

    def delay_ms(self) -> float | None:
        """Round trip beyond the shortest of late (the kernel remembers it for five minutes); None where nothing was sent since the last call."""
        facts = self.facts()
        if facts is None or not facts.rtt_ms or facts.segments == self._delay_of_segments:
            return None
        self._delay_of_segments = facts.segments
        return max(facts.rtt_ms - facts.least_rtt_ms, 0.0)


class Budget:
    """One for all connections of the process. Only ever touched by the event loop."""

    def __init__(
        self,
        cap_kbit_s: float | None,
        floor_kbit_s: float,
        now_s: Callable[[], float] = time.monotonic,
        *,
        yields: bool = False,
    ) -> None:
        self._now_s = now_s
        self.courtesy = Courtesy() if yields else None
        self._looked_s, self._looked_bytes = now_s(), 0
        self._at_s = now_s()
        self._floor_bytes_s = floor_kbit_s * 125
        self.cap_kbit_s: float | None = None
        self._bytes_s = 0.0
        self._all = self._rest = 0.0  # bytes that may be sent now: by anybody; by what is not urgent
        self.set_cap(cap_kbit_s)
        self._waiting: list[int] = []  # ranks
        self._busy: dict[int, int] = {}  # rank -> how many transfers of it are under way
        self.sent_bytes = 0  # all of it, headers too
        self._meters: set[Meter] = set()

    def set_cap(self, cap_kbit_s: float | None) -> None:
        """From now on; None is no cap."""
        self.cap_kbit_s = cap_kbit_s
        self._bytes_s = 0.0 if cap_kbit_s is None else cap_kbit_s * 125
        self._all = min(self._all, self._bytes_s * BURST_S)
        self._rest = min(self._rest, self._bytes_s * BURST_S)

    def _go_on(self) -> None:
        now_s = self._now_s()
        passed_s = min(max(now_s - self._at_s, 0.0), 60.0)
        self._at_s = now_s
        burst = self._bytes_s * BURST_S
        self._all = min(self._all + self._bytes_s * passed_s, burst)
        self._rest = min(self._rest + max(self._bytes_s - self._floor_bytes_s, self._bytes_s / 4) * passed_s, burst)

    def spend(self, size_bytes: int, *, is_urgent: bool) -> None:
        """So much was sent."""
        self.sent_bytes += size_bytes
        if self.cap_kbit_s is None:
            return
        self._go_on()
        self._all = max(self._all - size_bytes, -self._bytes_s * DEBT_S)
        if not is_urgent:
            self._rest -= size_bytes

    def may_begin(self, rank: int) -> bool:
        """Whether a piece of this rank may be begun: ordinary clips stand still while an alarm travels. What was begun is ended."""
        return rank < RANK_ASKED or not any(busy < RANK_STATE for busy in self._busy)

    def may_send(self, rank: int) -> bool:
        """Whether cap and courtesy leave room for something of this rank now."""
        if self.courtesy is not None and rank >= RANK_CLIP and not self.courtesy.may_send():
            return False
        if self.cap_kbit_s is None:
            return True
        self._go_on()
        return self._all > 0 and (rank < RANK_STATE or self._rest > 0)

    def queue(self, rank: int) -> None:
        """Something of this rank waits until unqueue(): what is less valuable waits for it."""
        self._waiting.append(rank)

    def unqueue(self, rank: int) -> None:
        self._waiting.remove(rank)

    async def take(self, size_bytes: int, rank: int) -> None:
        """Wait until `size_bytes` of this rank may go, and pay for them."""
        self._waiting.append(rank)
        try:
            while min(self._waiting) < rank or not self.may_send(rank):
                await asyncio.sleep(_TICK_S)
        finally:
            self._waiting.remove(rank)
        if self.courtesy is not None and rank >= RANK_CLIP:
            self.courtesy.spend(size_bytes)
        self.spend(size_bytes, is_urgent=rank < RANK_STATE)

    def begin(self, rank: int) -> None:
        """A transfer of this rank is under way until end()."""
        self._busy[rank] = self._busy.get(rank, 0) + 1

    def end(self, rank: int) -> None:
        self._busy[rank] -= 1
        if not self._busy[rank]:
            del self._busy[rank]

    # -- headers and repetitions, as the kernel counts them

    def watch(self, sock: socket.socket) -> Meter:
        meter = Meter(sock)
        self._meters.add(meter)
        return meter

    def forget(self, meter: Meter) -> None:
        self._settle(meter)
        self._meters.discard(meter)

    def _settle(self, meter: Meter) -> None:
        over = meter.overhead_bytes()
        if over:
            self.spend(over, is_urgent=False)

    def settle(self) -> None:
        """Pay for what the connections sent beyond their payload; called several times a second."""
        for meter in list(self._meters):
            self._settle(meter)
        if self.courtesy is not None:
            delays = [delay for meter in self._meters if (delay := meter.delay_ms()) is not None]
            now_s = self._now_s()
            sent_bytes, self._looked_bytes = self.sent_bytes - self._looked_bytes, self.sent_bytes
            self.courtesy.look(min(delays, default=None), sent_bytes, now_s - self._looked_s)
            self._looked_s = now_s

    def repeated_bytes(self) -> int:
        """By TCP, of the connections there are now."""
        return sum(facts.repeated_bytes for meter in self._meters if (facts := meter.facts()) is not None)

    def rtt_ms(self) -> float | None:
        """The least of the connections there are now."""
        return min(
            (facts.rtt_ms for meter in self._meters if (facts := meter.facts()) is not None and facts.rtt_ms),
            default=None,
        )
