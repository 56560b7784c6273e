"""What is fuzzed: each target takes any bytes and returns, or fails with the room's own error, which counts as returning.

A target is one function. Anything else that comes out of it is a fault of ours: another exception, a wrong answer, more than a
second, more memory than `MEMORY_MB`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nvr import fmp4, h264, parameter_sets, verify_clip, wire
from nvr.arena import Arena
from nvr.byte_stream import pictures
from nvr.errors import NvrError
from nvr.mp4file import Mp4File
from nvr.ring import layout
from nvr.rtsp import messages, rtcp, sdp
from nvr.rtsp.rtp import SLACK_BYTES, PyWalker, Walker
from nvr.rtsp.session import Session, SessionEnded
from nvr.site import check_text
from nvr.uplink import neighbours

ROOT = Path(__file__).resolve().parents[2]
MEMORY_MB = 1024
INPUT_BYTES = 64 * 1024
SPS = bytes.fromhex("6742c01eda0280bfe5c044000003000400000300c83c58ba80")
PPS = bytes.fromhex("68ce3c80")

Target = Callable[[bytes], None]


def _rtsp(data: bytes) -> None:
    messages.starts_message(data, 0, len(data))
    found = messages.parse(data, 0, len(data))
    if found is not None:
        message, end = found
        if not 0 < end <= len(data):
            raise AssertionError(f"a message that ends at {end} of {len(data)}")
        for look in (messages.parse_session, messages.parse_transport, messages.parse_rtp_info, messages.parse_public):
            try:
                look(message)
            except NvrError:
                pass


def _sdp(data: bytes) -> None:
    video = sdp.choose_video(sdp.parse(data))
    sdp.control_url("rtsp://10.0.0.11/main", video.media.control)


def _rtp(data: bytes) -> None:
    """Whole and in pieces, in Python and, where it is built, in C: the same pictures come out."""
    taken = []
    for kind, step in ((PyWalker, len(data) or 1), (PyWalker, 7), (Walker, len(data) or 1), (Walker, 5)):
        walker = kind(96)
        buffer = bytearray(data) + bytes(SLACK_BYTES)  # room that a walker may read ahead of a packet
        start = end = 0
        while end < len(data):
            end = min(end + step, len(data))
            at = walker.walk(buffer, start, end, 1)
            if not start <= at <= end:
                raise AssertionError(f"walked to {at}, outside of {start} to {end}")
            start = at
        walker.flush()
        taken.append([(b"".join(picture[0].views()), *picture[1:5]) for picture in walker.take()])
        walker.take_control()
        if walker.packets < 0 or walker.lost < 0:
            raise AssertionError("negative counters")
    # What ends in the middle of a packet may be left over in both; garbage between packets is the session's business.
    if data[:1] == b"$" and any(each != taken[0] for each in taken):
        raise AssertionError(f"pictures: {[len(each) for each in taken]} whole and in pieces, in Python and in C")


def _session(data: bytes) -> None:
    session = Session("rtsp://10.0.0.11/main", Arena())
    session.start(1)
    now_ns, at = 1, 0
    try:
        while at < len(data):
            session.outgoing()
            room = session.room()
            piece = data[at : at + min(len(room), 997)]
            room[: len(piece)] = piece
            now_ns += 1_000_000
            session.received(len(piece), now_ns)
            at += len(piece)
        session.tick(now_ns + 1)
        session.close()
    except SessionEnded:
        pass


def _rtcp(data: bytes) -> None:
    for report in rtcp.parse(data):
        if isinstance(report, rtcp.SenderReport):
            _ = report.wall_ns


def _h264(data: bytes) -> None:
    for begin, size in h264.annex_b_units(data):
        if begin < 0 or size < 0 or begin + size > len(data):
            raise AssertionError(f"a NAL unit of {size} bytes at {begin} of {len(data)}")
    for look in (parameter_sets.parse_sps, parameter_sets.pps_ids, h264.is_first_slice, h264.nal_type):
        if data:
            try:
                look(data)
            except h264.BadH264:
                pass
    boundary = h264.AccessUnitBoundary()
    if data:
        boundary.is_first(data)


def _byte_stream(data: bytes) -> None:
    last = -1
    for picture in pictures(data, 25.0):
        if picture.decode_ticks <= last:
            raise AssertionError("decode times do not rise")
        last = picture.decode_ticks


def _mp4(data: bytes) -> None:
    file = Mp4File(data)
    for count, sample in enumerate(file.samples()):
        if sample.offset < 0 or sample.offset + sample.size_bytes > len(data):
            raise AssertionError("a sample outside of the file")
        if count > 100_000:
            break


def _fragment(data: bytes) -> None:
    fmp4.check_fragment(data)


def _head(data: bytes) -> None:
    fmp4.parse_head(data)


def _record(data: bytes) -> None:
    fmp4.parse_commit_record(data)


def _segment_header(data: bytes) -> None:
    layout.parse_header(data)
    layout.parse_seal(data)


def _clip(data: bytes) -> None:
    reasons: list[str] = []
    try:
        found = verify_clip.find_manifest(data, reasons)
        if found is not None:
            verify_clip.read_manifest(found[3])
    except verify_clip.Damaged:
        pass


def _site(data: bytes) -> None:
    checked = check_text(data, Path("/nowhere/site.yaml"))
    if (checked.site is None) != bool(checked.faults):
        raise AssertionError("neither a site nor a fault")
    for fault in checked.faults:
        if fault.line < 1 or not fault.what:
            raise AssertionError(f"a fault without its place: {fault}")


def _wire(data: bytes) -> None:
    for look in (
        lambda: wire.parse(data, wire.UP | wire.DOWN),
        lambda: wire.parse(data.decode("utf-8", "replace"), wire.UP),
        lambda: wire.parse_token(data.decode("latin-1")),
    ):
        try:
            message = look()
        except wire.WireError:
            continue
        if isinstance(message, wire.Message):
            json.dumps(dict(message.body), allow_nan=False)


def _mdns(data: bytes) -> None:
    neighbours.read(data)


TARGETS: dict[str, Target] = {
    "rtsp": _rtsp, "sdp": _sdp, "rtp": _rtp, "session": _session, "rtcp": _rtcp, "h264": _h264, "byte_stream": _byte_stream,
    "mp4": _mp4, "fragment": _fragment, "head": _head, "record": _record, "segment_header": _segment_header, "clip": _clip,
    "site": _site, "wire": _wire, "mdns": _mdns,
}  # fmt: skip


def try_one(name: str, data: bytes) -> None:
    """Raises what a target must not raise."""
    try:
        TARGETS[name](data[:INPUT_BYTES])
    except NvrError:
        pass


# -- seeds: small, made here, one of each shape that the parser knows --------------------------------


def seeds(name: str) -> list[bytes]:
    return {
        "rtsp": _rtsp_seeds, "session": _rtsp_seeds, "sdp": _sdp_seeds, "rtp": _rtp_seeds, "rtcp": _rtcp_seeds,
        "h264": lambda: [SPS, PPS, b"\x65\x88" + bytes(40), b"\0\0\0\1" + SPS + b"\0\0\1" + PPS],
        "byte_stream": lambda: [b"\0\0\0\1" + SPS + b"\0\0\0\1" + PPS + b"\0\0\1\x65\x88" + bytes(30) + b"\0\0\1\x41\x9a" + bytes(20)],
        "mp4": lambda: [_segment()], "fragment": lambda: [_golden("fragment-v1.bin")], "head": lambda: [_golden("fragment-v1.bin")],
        "record": lambda: [_golden("fragment-v1.bin")[at:] for at in (-4096, -2048, -1024)], "segment_header": lambda: [_golden("init-v1.bin")],
        "clip": lambda: [_segment() + _manifest()],
        "site": _site_seeds, "wire": _wire_seeds, "mdns": _mdns_seeds,
    }[name]()  # fmt: skip


def _rtsp_seeds() -> list[bytes]:
    body = _sdp_seeds()[0]
    return [
        b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nPublic: OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nCSeq: 2\r\nContent-Type: application/sdp\r\nContent-Length: %d\r\n\r\n" % len(body) + body,
        b'RTSP/1.0 401 Unauthorized\r\nCSeq: 1\r\nWWW-Authenticate: Digest realm="a", nonce="b", qop="auth"\r\n\r\n',
        b"RTSP/1.0 200 OK\r\nCSeq: 3\r\nSession: 12;timeout=60\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1;ssrc=1A2B\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nCSeq: 4\r\nRTP-Info: url=rtsp://10.0.0.11/main/track1;seq=1;rtptime=2\r\n\r\n"
        + _rtp_seeds()[0],
    ]


def _sdp_seeds() -> list[bytes]:
    return [
        b"v=0\r\no=- 1 1 IN IP4 10.0.0.11\r\ns=-\r\nt=0 0\r\na=control:*\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
        b"a=fmtp:96 packetization-mode=1;profile-level-id=42C01E;sprop-parameter-sets=Z0LAHtoCgL/lwEQAAAMABAAAAwDIPFi6gA==,aM48gA==\r\n"
        b"a=control:track1\r\nm=audio 0 RTP/AVP 8\r\na=control:track2\r\n",
        b"v=0\nm=video 0 RTP/AVP 97\na=rtpmap:97 H265/90000\n",
    ]


def _rtp_seeds() -> list[bytes]:
    def packet(seq: int, ts: int, payload: bytes, marker: bool = True) -> bytes:
        whole = struct.pack(">BBHII", 0x80, marker << 7 | 96, seq, ts, 7) + payload
        return struct.pack(">BBH", 0x24, 0, len(whole)) + whole

    aggregate = b"\x18" + b"".join(struct.pack(">H", len(nal)) + nal for nal in (SPS, PPS))
    idr = b"\x65\x88" + bytes(range(60))
    return [
        packet(1, 0, aggregate, False) + packet(2, 0, idr) + packet(3, 3600, b"\x41\x9a" + bytes(40)),
        packet(1, 0, b"\x7c\x85\x88" + bytes(20), False) + packet(2, 0, b"\x7c\x05" + bytes(20), False) + packet(3, 0, b"\x7c\x45" + bytes(20)),
        packet(9, 7200, b"\x41\x9a" + bytes(40)) + struct.pack(">BBH", 0x24, 1, 28) + _rtcp_seeds()[0],
    ]  # fmt: skip


def _rtcp_seeds() -> list[bytes]:
    return [
        struct.pack(">BBHIIIIII", 0x80, 200, 6, 7, 3_900_000_000, 0, 90_000, 10, 5000),
        struct.pack(">BBHI", 0x81, 203, 1, 7),
    ]


def _golden(name: str) -> bytes:
    return (ROOT / "tests" / "golden" / name).read_bytes()


def _segment() -> bytes:
    """An init segment and one fragment, of the first format that was ever shipped."""
    return _golden("init-v1.bin") + _golden("fragment-v1.bin")


def _manifest() -> bytes:
    """As a clip ends, with a signature that fits nothing."""
    text = json.dumps({
        "format": 1, "box": "00" * 16, "stream": "porch/main", "contained": {}, "head": {"size_bytes": 660}, "fragments": [{"size_bytes": 4096}],
        "gaps": [{"after": 0}], "chain": {}, "recorded_by": [],
    }).encode()  # fmt: skip
    head = struct.pack(">I", verify_clip.MANIFEST_HEAD_BYTES + len(text)) + verify_clip.MANIFEST_MARK
    return head + struct.pack(">I", 1) + bytes(32 + 64) + text


def _site_seeds() -> list[bytes]:
    example = ROOT / "docs" / "example-site.yaml"
    return [
        example.read_bytes(),
        b"site: a\nbox: b\ntime_zone: Asia/Jayapura\ncameras:\n  gate: {main: {source: replay, file: a.mp4}, ring_gb: 1}\n",
        b"site: &a {x: *a}\ncameras: [*a, !!python/object:os.system x]\n",
    ]


def _wire_seeds() -> list[bytes]:
    return [
        wire.Message("hello", {"box": "b", "cameras": [{"camera": "gate"}]}).to_text().encode(),
        wire.Message("still", {"camera": "gate", "captured_ms": 1, "sha256": "0" * 64}, b"\xff\xd8\xff").to_bytes(),
        wire.signed_token(wire.token_to_sign(bytes(16), 1_800_000_000), bytes(64)).encode(),
    ]


def _mdns_seeds() -> list[bytes]:
    """Who has our service, and where; the second name points back at the first."""
    pointer = (
        neighbours.question(neighbours.SERVICE, neighbours.PTR)[12:-4]
        + struct.pack(">2HIH", 12, 1, 120, 4)
        + b"\1a\xc0\x0c"
    )
    service = b"\1a\xc0\x0c" + struct.pack(">2HIH", 33, 0x8001, 120, 8) + struct.pack(">3H", 0, 0, 8080) + b"\xc0\x0c"
    return [
        struct.pack(">6H", 0, 0x8400, 0, 1, 0, 1) + pointer + service,
        neighbours.question("a.local", neighbours.SRV),
    ]


def corpus(name: str, folder: Path) -> list[bytes]:
    """What is kept in the tree, and the seeds."""
    return [*(path.read_bytes() for path in sorted((folder / name).glob("*"))), *seeds(name)]


def known() -> dict[str, Any]:
    return dict(TARGETS)
