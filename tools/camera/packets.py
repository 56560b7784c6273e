"""RTP packets of a picture (RFC 3550, RFC 6184) and RTCP sender reports, as a camera sends them.

The packets of a picture are cut once, with sequence number, time and SSRC left open; sending one is then a
copy and one small patch for each packet. They lie as RTP over TCP wants them (RFC 2326, 10.12), each
behind `$`, the channel and its length; over UDP the first four bytes are left out.

    0  '$'  1 channel  2 length (2)          RFC 2326, 10.12
    4  V P X CC        5 M PT                RFC 3550, 5.1
    6  sequence (2)    8 time (4)   12 SSRC (4)
    16 NAL unit, or FU indicator and FU header and a part of a NAL unit (RFC 6184, 5.6, 5.8)
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

PAYLOAD_TYPE = 96
INTERLEAVED_BYTES = 4
RTP_HEADER_BYTES = 12
FU_A = 28
# 1500 bytes of Ethernet less IPv6, TCP with options and the interleaved header; most cameras send about so much.
PAYLOAD_BYTES = 1400

_NTP_EPOCH_S = 2_208_988_800  # from 1900 to 1970 (RFC 3550, 4)
_PATCH = struct.Struct(">HII")
_SENDER_REPORT = struct.Struct(">BBHIIIIII")


@dataclass(frozen=True, slots=True)
class Template:
    """The packets of one picture with sequence, time and SSRC still to be filled in."""

    data: bytes  # all packets, interleaved form
    offsets: tuple[int, ...]  # where each one's '$' lies
    payload_bytes: int  # RTP payload of all, for the sender report


def template_of(nal_units: Sequence[bytes]) -> Template:
    """Cut a picture into packets; the last one carries the marker bit (RFC 6184, 5.1)."""
    payloads: list[bytes] = []
    for nal in nal_units:
        if len(nal) <= PAYLOAD_BYTES:
            payloads.append(nal)
            continue
        indicator, kind = (nal[0] & 0xE0) | FU_A, nal[0] & 0x1F
        for at in range(1, len(nal), PAYLOAD_BYTES - 2):
            part = nal[at : at + PAYLOAD_BYTES - 2]
            is_first, is_last = at == 1, at + len(part) == len(nal)
            payloads.append(bytes((indicator, is_first << 7 | is_last << 6 | kind)) + part)
    data, offsets = bytearray(), []
    for number, payload in enumerate(payloads):
        offsets.append(len(data))
        marker = 0x80 if number == len(payloads) - 1 else 0
        data += struct.pack(">cBHBBHII", b"$", 0, RTP_HEADER_BYTES + len(payload), 0x80, marker | PAYLOAD_TYPE, 0, 0, 0)
        data += payload
    return Template(bytes(data), tuple(offsets), sum(map(len, payloads)))


def filled(template: Template, sequence: int, rtp_ticks: int, ssrc: int) -> bytearray:
    """The packets, numbered from `sequence`; ready to be sent."""
    data = bytearray(template.data)
    patch, ticks = _PATCH.pack_into, rtp_ticks & 0xFFFFFFFF
    for number, offset in enumerate(template.offsets, sequence):
        patch(data, offset + 6, number & 0xFFFF, ticks, ssrc)
    return data


def split(data: bytearray, offsets: Sequence[int]) -> list[memoryview]:
    """The packets one by one, without their interleaved headers, as UDP carries them."""
    view = memoryview(data)
    ends = (*offsets[1:], len(data))
    return [view[start + INTERLEAVED_BYTES : end] for start, end in zip(offsets, ends, strict=True)]


def sender_report(ssrc: int, wall_ns: int, rtp_ticks: int, packets: int, payload_bytes: int) -> bytes:
    """RTCP sender report and a source description, as one compound packet (RFC 3550, 6.4.1, 6.5)."""
    seconds, rest_ns = divmod(wall_ns, 1_000_000_000)
    report = _SENDER_REPORT.pack(
        0x80, 200, 6, ssrc, (seconds + _NTP_EPOCH_S) & 0xFFFFFFFF, (rest_ns << 32) // 1_000_000_000,
        rtp_ticks & 0xFFFFFFFF, packets & 0xFFFFFFFF, payload_bytes & 0xFFFFFFFF,
    )  # fmt: skip
    name = b"pretend"
    item = struct.pack(">IBB", ssrc, 1, len(name)) + name
    item += bytes(4 - len(item) % 4)  # ends with at least one zero
    return report + struct.pack(">BBH", 0x81, 202, len(item) // 4) + item


def goodbye(ssrc: int) -> bytes:
    """RTCP BYE (RFC 3550, 6.6)."""
    return struct.pack(">BBHI", 0x81, 203, 1, ssrc)
