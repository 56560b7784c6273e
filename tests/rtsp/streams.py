"""RTP streams and conversations made for tests: packets with every field at will, and a camera that answers from a script."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

from nvr.arena import Arena
from nvr.rtsp.session import Session

PROTOCOL = Path(__file__).resolve().parents[3] / "shared" / "data" / "protocol"

# A real pair (Reolink, 2560x1440, from its SDP would do as well); 320x180, no B pictures.
SPS = bytes.fromhex("6742c01ed903c56840000003004000000c03c58b92")  # 240x160
PPS = bytes.fromhex("68cb8cb2")
OTHER_SPS = bytes.fromhex("6764003 3ace802800b59".replace(" ", ""))  # 2560x1440
IDR = bytes((0x65, 0x88)) + bytes(range(60))
SLICE = bytes((0x41, 0x9A)) + bytes(range(40))
LATER_SLICE = bytes((0x41, 0x4A)) + bytes(30)  # first_mb_in_slice is not 0
SEI = bytes((0x06, 0x05, 0x01, 0x00, 0x80))
AUD = bytes((0x09, 0xF0))


def rtp(
    payload: bytes,
    seq: int,
    ts: int,
    *,
    marker: bool = False,
    payload_type: int = 96,
    ssrc: int = 7,
    csrc: int = 0,
    extension: bytes | None = None,
    padding: int = 0,
    version: int = 2,
) -> bytes:
    first = version << 6 | (padding > 0) << 5 | (extension is not None) << 4 | csrc
    packet = struct.pack(">BBHII", first, marker << 7 | payload_type, seq & 0xFFFF, ts & 0xFFFFFFFF, ssrc) + bytes(
        4 * csrc
    )
    if extension is not None:
        packet += struct.pack(">HH", 0xBEDE, len(extension) // 4) + extension
    packet += payload
    if padding:
        packet += bytes(padding - 1) + bytes((padding,))
    return packet


def interleaved(packet: bytes, channel: int = 0) -> bytes:
    return struct.pack(">BBH", 0x24, channel, len(packet)) + packet


def stap_a(nals: Iterable[bytes]) -> bytes:
    return bytes((24,)) + b"".join(struct.pack(">H", len(nal)) + nal for nal in nals)


def fu_a(nal: bytes, size: int) -> list[bytes]:
    """The payloads of a fragmented NAL unit."""
    parts = [nal[at : at + size] for at in range(1, len(nal), size)]
    return [
        bytes((nal[0] & 0xE0 | 28, (n == 0) << 7 | (n == len(parts) - 1) << 6 | nal[0] & 31)) + part
        for n, part in enumerate(parts)
    ]


class Sender:
    """Numbers packets; what it returns is one interleaved packet each."""

    def __init__(self, seq: int = 100, ts: int = 9000, ssrc: int = 7, channel: int = 0) -> None:
        self.seq, self.ts, self.ssrc, self.channel = seq, ts, ssrc, channel

    def packet(self, payload: bytes, *, marker: bool = False, **more: object) -> bytes:
        data = interleaved(rtp(payload, self.seq, self.ts, marker=marker, ssrc=self.ssrc, **more), self.channel)  # type: ignore[arg-type]
        self.seq += 1
        return data

    def picture(self, *nals: bytes, size: int = 20, step: int = 3600) -> list[bytes]:
        """All packets of one picture, the marker on the last."""
        payloads: list[bytes] = []
        for nal in nals:
            payloads += [nal] if len(nal) <= size + 10 else fu_a(nal, size)
        packets = [self.packet(payload, marker=payload is payloads[-1]) for payload in payloads]
        self.ts += step
        return packets


def keyframe_stream(pictures: int, *, gop: int = 10, sender: Sender | None = None) -> list[list[bytes]]:
    sender = sender or Sender()
    return [
        sender.picture(SPS, PPS, IDR) if n % gop == 0 else sender.picture(SLICE + bytes((n & 255,)))
        for n in range(pictures)
    ]


def flat(pictures: Iterable[list[bytes]]) -> list[bytes]:
    """The packets of several pictures."""
    return [packet for packets in pictures for packet in packets]


def payload_of(gather: object) -> bytes:
    return b"".join(bytes(view) for view in gather.views())  # type: ignore[attr-defined]


def nals_of(payload: bytes) -> list[bytes]:
    """Split length-prefixed NAL units; every byte must belong to one."""
    nals, at = [], 0
    while at < len(payload):
        size = int.from_bytes(payload[at : at + 4], "big")
        assert size and at + 4 + size <= len(payload)
        nals.append(payload[at + 4 : at + 4 + size])
        at += 4 + size
    return nals


def walk_all(walker: object, data: bytes, *, arrival_ns: int = 5, slack: int = 32) -> int:
    buffer = bytearray(data) + bytearray(slack)
    return walker.walk(buffer, 0, len(data), arrival_ns)  # type: ignore[attr-defined]


SDP = """v=0
o=- 1 1 IN IP4 10.0.0.2
s=camera
t=0 0
a=control:*
m=video 0 RTP/AVP 96
a=rtpmap:96 H264/90000
a=fmtp:96 packetization-mode=1;sprop-parameter-sets=Z0LAHtkDxWhAAAADAEAAAAwDxYuS,aMuMsg==
a=control:trackID=1
"""


class Camera:
    """Answers a session's requests from a script, and feeds it in pieces of any size."""

    def __init__(self, session: Session, *, now_ns: int = 1_000_000_000) -> None:
        self.session = session
        self.now_ns = now_ns
        self.events: list[object] = []
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.sdp = SDP
        self.piece_bytes = 32 * 1024  # room() has at least so much
        self.byte_ns = 0  # how long a byte takes on its way
        self.extra = {  # more header lines, by method
            "OPTIONS": "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER\r\n",
            "SETUP": "Session: 42;timeout=60\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n",
            "PLAY": "Session: 42\r\n",
        }
        self.status: dict[str, str] = {}

    def feed(self, data: bytes) -> None:
        for at in range(0, len(data), self.piece_bytes):
            piece = data[at : at + self.piece_bytes]
            room = self.session.room()
            room[: len(piece)] = piece
            self.now_ns += len(piece) * self.byte_ns
            self.events += self.session.received(len(piece), self.now_ns)

    def read_requests(self) -> list[tuple[str, str, dict[str, str]]]:
        """What the session sent since; interleaved reports are passed over."""
        data, new = self.session.outgoing(), []
        while data:
            if data[0] == 0x24:
                data = data[4 + int.from_bytes(data[2:4], "big") :]
                continue
            head, _, data = data.partition(b"\r\n\r\n")
            first, *lines = head.decode().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            method, url, _ = first.split(" ", 2)
            new.append((method, url, headers))
        self.requests += new
        return new

    def answer(self, method: str, headers: dict[str, str]) -> bytes:
        body = self.sdp.replace("\n", "\r\n") if method == "DESCRIBE" else ""
        status = self.status.get(method, "200 OK")
        text = f"RTSP/1.0 {status}\r\nCSeq: {headers.get('cseq', '0')}\r\n{self.extra.get(method, '')}"
        if body and status.startswith("200"):
            text += f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        else:
            text += "\r\n"
        return text.encode()

    def converse(self) -> None:
        """Answer until the session asks nothing more."""
        while new := self.read_requests():
            for method, _, headers in new:
                self.feed(self.answer(method, headers))

    def play(self) -> Camera:
        self.session.start(self.now_ns)
        self.converse()
        return self

    def wait(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1e9)
        self.events += self.session.tick(self.now_ns)


def session(url: str = "rtsp://10.0.0.2/live", **more: object) -> Session:
    return Session(url, Arena(), **more)  # type: ignore[arg-type]
