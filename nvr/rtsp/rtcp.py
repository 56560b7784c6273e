"""RTCP (RFC 3550, section 6): the camera's clock from its sender reports, and our receiver reports.

Packets that make no sense are passed over: nothing here raises, whatever comes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_SENDER, _RECEIVER, _DESCRIPTION, _BYE = 200, 201, 202, 203
_NTP_EPOCH_S = 2_208_988_800  # from 1900 to 1970
_NS = 1_000_000_000
REPORT_EVERY_NS = 5 * _NS  # RFC 3550, 6.2: the minimum for a session of two


@dataclass(frozen=True, slots=True)
class SenderReport:
    ssrc: int
    ntp: int  # 32.32 fixed point since 1900
    rtp_ts: int  # 32 bits, the same instant in the stream's clock
    packets: int
    payload_bytes: int

    @property
    def wall_ns(self) -> int:
        """Since 1970; 0 when the camera has no wall clock. Seconds below 2^31 are of the next era, from 2036."""
        seconds = self.ntp >> 32
        if seconds == 0:
            return 0
        if seconds < 1 << 31:
            seconds += 1 << 32
        # Some cameras count from 1970 or from boot: then this is before 1970, and no clock at all.
        return max((seconds - _NTP_EPOCH_S) * _NS + ((self.ntp & 0xFFFFFFFF) * _NS >> 32), 0)


@dataclass(frozen=True, slots=True)
class Bye:
    ssrcs: tuple[int, ...]


def parse(data: bytes) -> list[SenderReport | Bye]:
    """What a compound packet says, as far as it can be read. Padding and order are not insisted on."""
    found: list[SenderReport | Bye] = []
    at = 0
    while at + 4 <= len(data):
        first, kind, words = struct.unpack_from(">BBH", data, at)
        end = at + 4 + 4 * words
        if first >> 6 != 2:
            break
        if kind == _SENDER and at + 28 <= min(end, len(data)):
            ssrc, ntp, rtp_ts, packets, payload_bytes = struct.unpack_from(">IQIII", data, at + 4)
            found.append(SenderReport(ssrc, ntp, rtp_ts, packets, payload_bytes))
        elif kind == _BYE:
            count = min(first & 31, (min(end, len(data)) - at - 4) // 4)
            found.append(Bye(struct.unpack_from(f">{count}I", data, at + 4)))
        at = end
    return found


class SenderClock:
    """Which wall time the camera gives to an RTP time stamp, by its last report."""

    def __init__(self) -> None:
        self._wall_ns = 0
        self._rtp_ts = 0
        self.report: SenderReport | None = None
        self.report_arrival_ns = 0

    def learn(self, report: SenderReport, arrival_ns: int) -> None:
        self.report, self.report_arrival_ns = report, arrival_ns
        if report.wall_ns:
            self._wall_ns, self._rtp_ts = report.wall_ns, report.rtp_ts

    def wall_ns(self, rtp_ts: int) -> int:
        """For a time stamp within half a day of the report; 0 when the camera never said."""
        if not self._wall_ns:
            return 0
        ticks = (rtp_ts - self._rtp_ts + 0x80000000 & 0xFFFFFFFF) - 0x80000000
        return max(self._wall_ns + ticks * 100_000 // 9, 0)


class Reception:
    """What a receiver report says about the stream (RFC 3550, 6.4.1, A.3, A.8).

    Jitter is taken from drain to drain, not from packet to packet: all packets of a drain arrive at one time, so what
    stands between them says nothing.
    """

    def __init__(self, own_ssrc: int) -> None:
        self._own_ssrc = own_ssrc
        self._jitter_16 = 0  # jitter times 16, in ticks, as in RFC 3550, A.8
        self._transit: int | None = None
        self._base = (-1, 0, 0)
        self._expected_prior = 0
        self._received_prior = 0

    @property
    def jitter_ticks(self) -> int:
        return self._jitter_16 >> 4

    def picture(self, rtp_ts: int, arrival_ns: int) -> None:
        transit = arrival_ns * 9 // 100_000 - rtp_ts & 0xFFFFFFFF
        if self._transit is not None:
            step = abs((transit - self._transit + 0x80000000 & 0xFFFFFFFF) - 0x80000000)
            if step < 90_000 * 10:  # more is a jump of the time stamps, not of the network
                self._jitter_16 += step - (self._jitter_16 + 8 >> 4)
        self._transit = transit

    def report(
        self, ssrc: int, base: tuple[int, int, int], packets: int, lost: int, clock: SenderClock, now_ns: int
    ) -> bytes:
        """A compound packet: receiver report and our name. `base`: first sequence number, and counters at that time."""
        if base != self._base:
            self._base, self._expected_prior, self._received_prior = base, 0, 0
        received, missing = packets - base[1], lost - base[2]
        expected = received + missing
        expected_step = expected - self._expected_prior
        lost_step = expected_step - (received - self._received_prior)
        self._expected_prior, self._received_prior = expected, received
        fraction = min(max(lost_step, 0) * 256 // expected_step, 255) if expected_step > 0 else 0
        highest = base[0] + expected - 1 & 0xFFFFFFFF
        last_report, delay = 0, 0
        if clock.report is not None and clock.report.ssrc == ssrc:
            last_report = clock.report.ntp >> 16 & 0xFFFFFFFF
            delay = max(now_ns - clock.report_arrival_ns, 0) * 65536 // _NS & 0xFFFFFFFF
        block = struct.pack(
            ">IIIIII",
            ssrc,
            fraction << 24 | min(missing, 0x7FFFFF),
            highest,
            self.jitter_ticks & 0xFFFFFFFF,
            last_report,
            delay,
        )
        return struct.pack(">BBHI", 0x81, _RECEIVER, 7, self._own_ssrc) + block + self._description()

    def empty_report(self) -> bytes:
        """Before the first packet came: RFC 3550, 6.4.2."""
        return struct.pack(">BBHI", 0x80, _RECEIVER, 1, self._own_ssrc) + self._description()

    def _description(self) -> bytes:
        name = b"nvr"
        items = struct.pack(">IBB", self._own_ssrc, 1, len(name)) + name
        items += bytes(4 - len(items) % 4)  # at least one zero ends the list
        return struct.pack(">BBH", 0x81, _DESCRIPTION, len(items) // 4) + items
