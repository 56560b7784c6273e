"""What a camera offers (SDP, RFC 8866; RTSP's use of it, RFC 2326 appendix C), and which of it can be recorded.

Only lines that we use are looked at: `m=` and the attributes `control`, `rtpmap`, `fmtp` and direction. Everything else may be as
wrong as it likes, and is (odd origins, missing `v=`, addresses without an address). A codec that is not
recorded is refused by its name. `parse()` and `choose_video()` return or raise BadRtsp for every byte string.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field

from nvr.media import ParameterSets
from nvr.rtsp.messages import BadRtsp, without_login

LINES_LIMIT = 2000
PARAMETER_SET_LIMIT_BYTES = 4096  # an SPS with every scaling list and VUI field stays below 1 KiB
PARAMETER_SETS_LIMIT = 32  # H.264 allows 32 SPS; nobody sends more than two

_STATIC_NAMES = {  # RFC 3551, table 5: video types that need no rtpmap
    "25": "CelB/90000", "26": "JPEG/90000", "28": "nv/90000", "31": "H261/90000",
    "32": "MPV/90000", "33": "MP2T/90000", "34": "H263/90000",
}  # fmt: skip
_NAL_SPS, _NAL_PPS = 7, 8


class CodecRefused(BadRtsp):
    """The camera offers video, and none of it is what this recorder records."""


@dataclass(frozen=True, slots=True)
class Media:
    """One `m=` section."""

    kind: str  # "video", "audio", "application", "application/TP-LINK", ...
    formats: tuple[str, ...]  # payload types, as text: TP-Link has "smart/1/90000" there
    control: str = ""  # as written; "" when absent
    rtpmap: dict[str, str] = field(default_factory=dict)  # payload type -> "H264/90000"
    fmtp: dict[str, str] = field(default_factory=dict)
    direction: str = ""  # recvonly, sendonly, sendrecv, inactive, as written; many cameras have it backwards

    @property
    def names(self) -> list[str]:
        """What each format is called; a number where nobody says."""
        return [self.rtpmap.get(f) or _STATIC_NAMES.get(f) or f"payload type {f}" for f in self.formats]


@dataclass(frozen=True, slots=True)
class Description:
    control: str  # of the whole session; "" when absent
    media: tuple[Media, ...]


@dataclass(frozen=True, slots=True)
class Video:
    """The H.264 stream to set up."""

    media: Media
    payload_type: int
    parameter_sets: ParameterSets  # empty tuples when they only come in the stream


def parse(body: bytes) -> Description:
    """Raises BadRtsp when there are more lines than any camera sends; odd lines are passed over."""
    lines = body.decode("utf-8", "replace").replace("\r", "\n").split("\n")
    if len(lines) > LINES_LIMIT:
        raise BadRtsp(f"a session description of {len(lines)} lines")
    session_control = ""
    media: list[_Section] = []
    for line in lines:
        letter, equals, value = line.strip().partition("=")
        if not equals:
            continue
        if letter == "m":
            words = value.split()
            media.append(_Section(words[0] if words else "", tuple(words[3:])))
        elif letter == "a":
            name, _, rest = value.partition(":")
            rest = rest.strip()
            if not media:
                if name == "control" and not session_control:
                    session_control = rest
            else:
                media[-1].attribute(name.strip(), rest)
    return Description(session_control, tuple(section.media() for section in media))


class _Section:
    def __init__(self, kind: str, formats: tuple[str, ...]) -> None:
        self._kind, self._formats = kind, formats
        self._control, self._direction = "", ""
        self._rtpmap: dict[str, str] = {}
        self._fmtp: dict[str, str] = {}

    def attribute(self, name: str, value: str) -> None:
        if name == "control":
            self._control = self._control or value
        elif name in ("rtpmap", "fmtp"):
            payload_type, _, rest = value.partition(" ")
            (self._rtpmap if name == "rtpmap" else self._fmtp).setdefault(payload_type, rest.strip())
        elif name in ("recvonly", "sendonly", "sendrecv", "inactive"):
            self._direction = name

    def media(self) -> Media:
        return Media(self._kind, self._formats, self._control, self._rtpmap, self._fmtp, self._direction)


def choose_video(description: Description) -> Video:
    """The first H.264 stream that can be recorded. Raises CodecRefused, naming what is offered instead."""
    refused: list[str] = []
    for media in description.media:
        for payload_type in media.formats:
            name = media.rtpmap.get(payload_type, "")
            if media.kind != "video" or not re.fullmatch(r"[0-9]{1,3}", payload_type) or int(payload_type) > 127:
                continue
            if name.split("/")[0].strip().upper() != "H264":
                continue
            mode = re.search(r"packetization-mode\s*=\s*(\d+)", media.fmtp.get(payload_type, ""))
            if mode and int(mode[1]) > 1:  # RFC 6184, 5.4: interleaved, for which no camera is known
                refused.append(f"{name} with packetization-mode {mode[1]}")
                continue
            return Video(media, int(payload_type), sprop_parameter_sets(media.fmtp.get(payload_type, "")))
        if media.kind == "video":
            refused += [name for name in media.names if not name.upper().startswith("H264/")] or [
                "video without a format"
            ]
    if refused:
        raise CodecRefused(
            f"the camera sends {', '.join(refused)[:200]}, which this recorder does not record yet",
            hint="Set the camera's video codec to H.264 (often called AVC).",
        )
    offered = ", ".join(f"{media.kind} {' '.join(media.names)}" for media in description.media)[:200]
    raise CodecRefused(
        f"the camera offers only {offered}" if offered else "the camera's description names no stream at all",
        hint="Check the path of the camera's address; some paths carry only sound or metadata.",
    )


def sprop_parameter_sets(fmtp: str) -> ParameterSets:
    """The parameter sets of an fmtp line (RFC 6184, 8.1). What does not decode is left out: the stream will bring it.

    GW Security puts a start code behind each set, Dahua a zero byte; neither belongs to it.
    """
    sps: list[bytes] = []
    pps: list[bytes] = []
    match = re.search(r"sprop-parameter-sets\s*=\s*\"?([^;\"\s]+)", fmtp, re.IGNORECASE)
    for text in match[1].split(",")[:PARAMETER_SETS_LIMIT] if match else []:
        try:
            nal = base64.b64decode(text + "=" * (-len(text) % 4))
        except (binascii.Error, ValueError):
            continue
        nal = without_trailer(nal.removeprefix(b"\0\0\0\1"))
        if not 2 <= len(nal) <= PARAMETER_SET_LIMIT_BYTES:
            continue
        if nal[0] & 31 == _NAL_SPS:
            sps.append(nal)
        elif nal[0] & 31 == _NAL_PPS:
            pps.append(nal)
    return ParameterSets(tuple(sps), tuple(pps))


def without_trailer(nal: bytes) -> bytes:
    """Without the zero bytes and start codes that some devices leave behind a parameter set.

    The last byte of a NAL unit is never zero (H.264, 7.4.1), so nothing of the set is lost.
    """
    nal = nal.rstrip(b"\0")
    while nal.endswith(b"\0\0\1"):
        nal = nal[:-1].rstrip(b"\0")
    return nal


# -- where to send SETUP and PLAY -----------------------------------------------------------------------


def base_url(request_url: str, content_base: str, content_location: str) -> str:
    """What controls are relative to (RFC 2326, C.1.1). Anjvision leaves out the scheme; nonsense is passed over."""
    for text in (content_base, content_location):
        text = text.strip()
        if text and "://" not in text and re.match(r"[\w.-]+(:\d+)?/", text):
            text = "rtsp://" + text
        try:
            return without_login(text)
        except BadRtsp:
            continue
    return request_url


def control_url(base: str, control: str) -> str:
    """The url of a control, as cameras mean it: absolute, or put behind the base, query string and all.

    That is not what RFC 3986 says, but what ffmpeg, live555 and so all cameras do: Dahua's base ends in
    `?channel=1&subtype=1&unicast=true&proto=Onvif/` and wants `trackID=0` right behind it. Raises BadRtsp.
    """
    control = control.strip()
    if control in ("", "*"):
        return base
    if re.match(r"rtsps?://", control, re.IGNORECASE):
        return without_login(control)
    if re.search(r"[\s\x00-\x1f\x7f]", control):
        raise BadRtsp(f"a control of {control[:60]!r}")
    if control.startswith("?") or base.endswith("/"):
        return base + control.removeprefix("/")
    return f"{base}/{control.removeprefix('/')}"
