"""RTSP 1.0 messages (RFC 2326), read as real devices write them and written as the standard says.

Holds the text only: framing, headers, and the few header values that we use. What a message means for the
conversation is in session.py. `parse()` never looks further than the limits below, returns or raises BadRtsp
for every byte string, and can be asked again when more bytes have come.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from nvr.errors import NvrError

HEAD_LIMIT_BYTES = 16 * 1024  # the longest real head in our collection is under 1 KiB
BODY_LIMIT_BYTES = 64 * 1024  # an SDP of a multi-track NVR is a few KiB
HEADERS_LIMIT = 100
RTP_INFO_LIMIT = 2048  # characters for each stream

# What a server may send that is not interleaved data: answers, and requests of its own (RFC 2326, section 10).
_STARTS = (
    b"RTSP/", b"HTTP/", b"OPTIONS ", b"GET_PARAMETER ", b"SET_PARAMETER ", b"ANNOUNCE ", b"REDIRECT ", b"PLAY_NOTIFY ",
    b"TEARDOWN ", b"PAUSE ", b"PLAY ", b"SETUP ", b"DESCRIBE ", b"RECORD ",
)  # fmt: skip
ANY_START = re.compile(rb"\$|" + b"|".join(map(re.escape, _STARTS)))  # where a packet or a message may begin
LONGEST_START_BYTES = max(map(len, _STARTS))
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")


class BadRtsp(NvrError):
    """What came is not RTSP, or more of it than anybody needs."""


@dataclass(frozen=True, slots=True)
class Message:
    """A response (status is not 0) or a request of the server (method is not empty)."""

    status: int
    reason: str
    method: str
    url: str
    headers: tuple[tuple[str, str], ...]  # names in lower case, in order
    body: bytes

    def header(self, name: str) -> str:
        """The first header of that name (any case), or an empty string."""
        name = name.lower()
        return next((value for key, value in self.headers if key == name), "")

    def all(self, name: str) -> list[str]:
        name = name.lower()
        return [value for key, value in self.headers if key == name]

    @property
    def cseq(self) -> int:
        """-1 when there is none. Longse cameras put a space behind it, others a second word."""
        match = re.match(r"\s*(\d{1,9})", self.header("cseq"))
        return int(match[1]) if match else -1


def starts_message(data: bytes | bytearray, at: int, end: int) -> bool | None:
    """Whether text that RTSP knows starts at `at`; None when more bytes must tell."""
    head = bytes(data[at : min(end, at + 16)])
    maybe = False
    for start in _STARTS:
        if head[: len(start)] == start:
            return True
        maybe = maybe or start[: len(head)] == head
    return None if maybe else False


def parse(data: bytes | bytearray, at: int, end: int) -> tuple[Message, int] | None:
    """The message that starts at `at` and where it ends; None while it is incomplete. Raises BadRtsp."""
    match = _END_OF_HEAD.search(data, at, min(end, at + HEAD_LIMIT_BYTES))
    if match is None:
        if end - at >= HEAD_LIMIT_BYTES:
            raise BadRtsp(f"a head without an end in {HEAD_LIMIT_BYTES} bytes", hint="Is this port an RTSP server?")
        return None
    lines = bytes(data[at : match.start()]).decode("utf-8", "replace").replace("\r\n", "\n").split("\n")
    headers = _headers(lines[1:])
    message = _start_line(lines[0], headers)
    length = _content_length(message)
    body_at = match.end()
    if end - body_at < length:
        return None
    body = bytes(data[body_at : body_at + length])
    return Message(message.status, message.reason, message.method, message.url, headers, body), body_at + length


def _start_line(line: str, headers: tuple[tuple[str, str], ...]) -> Message:
    words = line.split(None, 2)
    if line.startswith("HTTP/"):
        raise BadRtsp(f"the camera answered in HTTP: {line[:60]!r}", hint="Use the camera's RTSP port, usually 554.")
    if line.startswith("RTSP/"):
        if len(words) < 2 or not re.fullmatch(r"[1-9][0-9][0-9]", words[1]):
            raise BadRtsp(f"not a status line: {line[:60]!r}")
        return Message(int(words[1]), words[2].strip() if len(words) > 2 else "", "", "", headers, b"")
    if len(words) < 2:
        raise BadRtsp(f"neither a response nor a request: {line[:60]!r}")
    return Message(0, "", words[0], words[1], headers, b"")


def _headers(lines: list[str]) -> tuple[tuple[str, str], ...]:
    headers: list[tuple[str, str]] = []
    for line in lines:
        if line[:1] in (" ", "\t") and headers:  # RFC 2326, 4.2 by way of RFC 822: a folded line
            headers[-1] = (headers[-1][0], f"{headers[-1][1]} {line.strip()}")
            continue
        name, colon, value = line.partition(":")
        if colon:  # a line without one is somebody's debugging aid
            headers.append((name.strip().lower(), value.strip()))
        if len(headers) > HEADERS_LIMIT:
            raise BadRtsp(f"more than {HEADERS_LIMIT} headers")
    return tuple(headers)


def _content_length(message: Message) -> int:
    text = message.header("content-length")
    if not text:
        return 0
    match = re.match(r"\d{1,9}", text)
    if match is None:
        raise BadRtsp(f"Content-Length is {text[:40]!r}")
    if (length := int(match[0])) > BODY_LIMIT_BYTES:
        raise BadRtsp(f"Content-Length is {length}, more than {BODY_LIMIT_BYTES}")
    return length


def request(method: str, url: str, cseq: int, headers: list[tuple[str, str]]) -> bytes:
    lines = [f"{method} {url} RTSP/1.0", f"CSeq: {cseq}", *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8")


def response(to: Message, status: int, reason: str, headers: list[tuple[str, str]]) -> bytes:
    lines = [
        f"RTSP/1.0 {status} {reason}",
        f"CSeq: {max(to.cseq, 0)}",
        *(f"{name}: {value}" for name, value in headers),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8")


# -- header values ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Transport:
    """What SETUP agreed on (RFC 2326, 12.39); None where the camera did not say."""

    is_tcp: bool
    channels: tuple[int, int] | None  # interleaved: data, control
    server_ports: tuple[int, int] | None
    client_ports: tuple[int, int] | None
    source: str  # "" when it is the host that we asked
    ssrc: int | None


def parse_session(message: Message) -> tuple[str, int | None]:
    """(session id, timeout in seconds if it says). Hikvision pads it with spaces, GW Security puts one before `timeout`."""
    identifier, _, rest = message.header("session").partition(";")
    match = re.search(r"timeout\s*=\s*(\d{1,6})", rest, re.IGNORECASE)
    return identifier.strip(), max(int(match[1]), 1) if match else None


def parse_transport(message: Message) -> Transport:
    """Luckfox puts ssrc first, Hikvision a space into it, H264DVR answers with ports that nobody asked for."""
    fields = [field.strip() for field in message.header("transport").split(",")[0].split(";")]
    values: dict[str, str] = {}
    for field in fields[1:]:
        name, _, value = field.partition("=")
        values.setdefault(name.strip().lower(), value.strip().strip('"'))
    ssrc = values.get("ssrc", "")
    return Transport(
        is_tcp=fields[0].upper().endswith("/TCP") or "interleaved" in values,
        channels=_pair(values.get("interleaved", ""), 255),
        server_ports=_pair(values.get("server_port", ""), 65535),
        client_ports=_pair(values.get("client_port", ""), 65535),
        source=values.get("source", ""),
        ssrc=int(ssrc, 16) if re.fullmatch(r"[0-9A-Fa-f]{1,8}", ssrc) else None,
    )


def _pair(text: str, limit: int) -> tuple[int, int] | None:
    """'0-1' or '0' as two numbers."""
    match = re.fullmatch(r"(\d{1,5})(?:\s*-\s*(\d{1,5}))?", text.strip())
    if match is None:
        return None
    first = int(match[1])
    second = int(match[2]) if match[2] else first + 1
    return (first, second) if first <= limit and second <= limit else None


@dataclass(frozen=True, slots=True)
class RtpInfo:
    url: str
    seq: int | None
    rtptime: int | None  # None also where the camera says -1, as some do


def parse_rtp_info(message: Message) -> tuple[RtpInfo, ...]:
    """RFC 2326, 12.33. Urls hold `;` and `,` of their own, so the known parameters are cut off from the end."""
    entries = []
    for text in re.split(r",\s*(?=url\s*=)", message.header("rtp-info")):
        if len(text) > RTP_INFO_LIMIT:
            continue
        match = re.match(r"\s*url\s*=\s*(.*?)((?:;\s*(?:seq|rtptime|ssrc)\s*=[^;]*)*);?\s*$", text, re.IGNORECASE)
        if match is None:
            continue
        numbers = {
            name.lower(): value
            for name, value in re.findall(r"(seq|rtptime)\s*=\s*(\d{1,10})\s*(?:;|$)", match[2], re.I)
        }
        seq, rtptime = int(numbers.get("seq", -1)), int(numbers.get("rtptime", -1))
        entries.append(
            RtpInfo(match[1], seq if 0 <= seq <= 0xFFFF else None, rtptime if 0 <= rtptime < 1 << 32 else None)
        )
    return tuple(entries)


def parse_public(message: Message) -> frozenset[str]:
    """The methods that OPTIONS named."""
    return frozenset(
        name.strip().upper() for value in message.all("public") for name in value.split(",") if name.strip()
    )


def without_login(url: str) -> str:
    """The url as it may be sent and logged: no user, no password. Raises BadRtsp for what is not an RTSP url."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadRtsp(f"not a url: {error}", hint="Write rtsp://host:554/path.") from None
    if parts.scheme.lower() not in ("rtsp", "rtsps") or not parts.hostname or re.search(r"[\s\x00-\x1f\x7f]", url):
        raise BadRtsp("not an RTSP url", hint="Write rtsp://host:554/path.")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return parts._replace(netloc=host if port is None else f"{host}:{port}", fragment="").geturl()
