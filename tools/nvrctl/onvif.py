"""ONVIF, as far as an installer needs it: questions as text, answers as values. Pure; onvif_client.py talks.

Written by hand instead of taken from a library: the ten messages below are all that is asked, every library for it brings a WSDL
engine (lxml, zeep and 30 files of schemas) that refuses what real cameras answer. Namespaces' prefixes are the camera's own business,
so elements are found by their local names.

    ONVIF Core 23.06 (device), Media 23.06 (ver10), WS-Discovery 1.0 (April 2005, which ONVIF uses), WS-UsernameToken 1.0

Answers come from strangers: at most ANSWER_BYTES, no DTD, no entities, no depth that could exhaust the stack; whatever is wrong is
BadOnvif. Text that is shown was cut to TEXT_LENGTH.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit, urlunsplit
from xml.etree.ElementTree import Element, ParseError, SubElement, register_namespace, tostring
from xml.sax.saxutils import escape

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from nvr.errors import NvrError

ANSWER_BYTES = 1 << 20
DEPTH_MOST = 64
TEXT_LENGTH = 200
DEVICE, MEDIA, SCHEMA = (
    "http://www.onvif.org/ver10/device/wsdl",
    "http://www.onvif.org/ver10/media/wsdl",
    "http://www.onvif.org/ver10/schema",
)
_SOAP = "http://www.w3.org/2003/05/soap-envelope"
_WSSE = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
_WSU = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd"
_DIGEST = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-username-token-profile-1.0#PasswordDigest"
_BASE64 = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-soap-message-security-1.0#Base64Binary"


class BadOnvif(NvrError):
    """What came is no answer that ONVIF knows."""


class OnvifFault(NvrError):
    """The camera answered with a fault of its own."""

    def __init__(self, text: str, *, is_refused: bool) -> None:
        super().__init__(f"the camera says: {text}", hint="Check user and password." if is_refused else "")
        self.is_refused = is_refused  # user or password


# -- asking --------------------------------------------------------------------------------------------


def envelope(
    body: str, *, user: str = "", password: str = "", created: datetime | None = None, nonce: bytes | None = None
) -> bytes:
    """A SOAP 1.2 request. The password itself is never in it, only a digest over it, the nonce and the time."""
    header = ""
    if user:
        nonce = os.urandom(16) if nonce is None else nonce
        stamp = (created or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%S.") + "000Z"
        digest = base64.b64encode(
            hashlib.sha1(nonce + stamp.encode() + password.encode(), usedforsecurity=False).digest()
        ).decode()
        header = (
            f'<s:Header><Security s:mustUnderstand="1" xmlns="{_WSSE}"><UsernameToken><Username>{escape(user)}</Username>'
            f'<Password Type="{_DIGEST}">{digest}</Password><Nonce EncodingType="{_BASE64}">{base64.b64encode(nonce).decode()}</Nonce>'
            f'<Created xmlns="{_WSU}">{stamp}</Created></UsernameToken></Security></s:Header>'
        )
    return f'<?xml version="1.0" encoding="UTF-8"?><s:Envelope xmlns:s="{_SOAP}">{header}<s:Body>{body}</s:Body></s:Envelope>'.encode()


def question(name: str, namespace: str = DEVICE, inside: str = "") -> str:
    return f'<{name} xmlns="{namespace}" xmlns:tt="{SCHEMA}">{inside}</{name}>'


def probe(message_id: str) -> bytes:
    """Who is a camera here? (WS-Discovery 5.2)"""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><s:Envelope xmlns:s="{_SOAP}" xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing" '
        'xmlns:d="http://schemas.xmlsoap.org/ws/2005/04/discovery" xmlns:dn="http://www.onvif.org/ver10/network/wsdl"><s:Header>'
        f"<a:MessageID>urn:uuid:{message_id}</a:MessageID><a:To>urn:schemas-xmlsoap-org:ws:2005:04:discovery</a:To>"
        "<a:Action>http://schemas.xmlsoap.org/ws/2005/04/discovery/Probe</a:Action></s:Header>"
        "<s:Body><d:Probe><d:Types>dn:NetworkVideoTransmitter</d:Types></d:Probe></s:Body></s:Envelope>"
    ).encode()


# -- reading -------------------------------------------------------------------------------------------


def parsed(data: bytes) -> Element:
    """The body of an answer. Raises BadOnvif, OnvifFault."""
    if len(data) > ANSWER_BYTES:
        raise BadOnvif(f"an answer of {len(data)} bytes")
    try:
        root = ElementTree.fromstring(data, forbid_dtd=True)
    except (DefusedXmlException, ParseError, ValueError, LookupError, RecursionError) as error:
        raise BadOnvif(f"no XML that can be read: {str(error)[:TEXT_LENGTH]}") from None
    _check_depth(root)
    body = child(root, "Body") if local(root) == "Envelope" else None
    if body is None:
        raise BadOnvif("no SOAP envelope")
    fault = child(body, "Fault")
    if fault is not None:
        raise _fault(fault)
    return body


def _check_depth(root: Element) -> None:
    layer, depth = [root], 0
    while layer:
        depth += 1
        if depth > DEPTH_MOST:
            raise BadOnvif(f"elements nested deeper than {DEPTH_MOST}")
        layer = [each for element in layer for each in element]


def _fault(fault: Element) -> OnvifFault:
    codes = " ".join(text(each) for each in every(fault, "Value"))
    reason = text(next(every(fault, "Text"), None)) or text(child(fault, "faultstring")) or codes or "no reason"
    is_refused = (
        "NotAuthorized" in codes
        or re.search(r"not authori[sz]ed|authenticat|unauthori[sz]ed", reason, re.IGNORECASE) is not None
    )
    return OnvifFault(reason, is_refused=is_refused)


def local(element: Element) -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def child(element: Element | None, *names: str) -> Element | None:
    """The element at a path of local names, the first of each."""
    for name in names:
        if element is None:
            return None
        element = next((each for each in element if local(each) == name), None)
    return element


def every(element: Element | None, name: str) -> Iterator[Element]:
    return (each for each in element.iter() if local(each) == name) if element is not None else iter(())


def text(element: Element | None) -> str:
    return (element.text or "").strip()[:TEXT_LENGTH] if element is not None else ""


def number(element: Element | None) -> float | None:
    """None where there is none: cameras leave these empty, or write nonsense."""
    match = re.fullmatch(r"[+-]?\d{1,12}(\.\d{1,6})?", text(element), re.ASCII)
    return float(match[0]) if match else None


@dataclass(frozen=True, slots=True)
class Match:
    """A device that answered a probe."""

    id: str
    services: tuple[str, ...]  # its own idea of its addresses
    name: str
    model: str


def probe_matches(data: bytes) -> list[Match]:
    """Raises BadOnvif."""
    found = []
    for each in every(parsed(data), "ProbeMatch"):
        scopes = text_all(child(each, "Scopes")).split()
        services = tuple(text_all(child(each, "XAddrs")).split())[:8]
        found.append(
            Match(
                text(child(each, "EndpointReference", "Address")),
                services,
                _scope(scopes, "name"),
                _scope(scopes, "hardware"),
            )
        )
    return found


def text_all(element: Element | None) -> str:
    """A list in one element may be longer than what is ever shown."""
    return (element.text or "").strip()[:8192] if element is not None else ""


def _scope(scopes: list[str], kind: str) -> str:
    from urllib.parse import unquote

    start = f"onvif://www.onvif.org/{kind}/"
    return next((unquote(scope[len(start) :])[:TEXT_LENGTH] for scope in scopes if scope.lower().startswith(start)), "")


@dataclass(frozen=True, slots=True)
class Device:
    maker: str
    model: str
    firmware: str
    serial: str


def device(body: Element) -> Device:
    answer = child(body, "GetDeviceInformationResponse")
    if answer is None:
        raise BadOnvif("no answer to GetDeviceInformation")
    return Device(*(text(child(answer, name)) for name in ("Manufacturer", "Model", "FirmwareVersion", "SerialNumber")))


@dataclass(frozen=True, slots=True)
class ClockSetting:
    utc: datetime | None  # None where the camera says none, or none that exists
    is_ntp: bool
    time_zone: str
    has_daylight_savings: bool


def clock(body: Element) -> ClockSetting:
    answer = child(body, "GetSystemDateAndTimeResponse", "SystemDateAndTime")
    if answer is None:
        raise BadOnvif("no answer to GetSystemDateAndTime")
    date, time = child(answer, "UTCDateTime", "Date"), child(answer, "UTCDateTime", "Time")
    parts = [number(child(date, name)) for name in ("Year", "Month", "Day")] + [
        number(child(time, name)) for name in ("Hour", "Minute", "Second")
    ]
    utc = None
    if None not in parts:
        year, month, day, hour, minute, second = (int(part) for part in parts if part is not None)
        try:
            utc = datetime(year, month, day, hour, minute, tzinfo=UTC) + timedelta(seconds=second)
        except (ValueError, OverflowError):
            pass
    return ClockSetting(
        utc,
        text(child(answer, "DateTimeType")).upper() == "NTP",
        text(child(answer, "TimeZone", "TZ")),
        text(child(answer, "DaylightSavings")).lower() in ("true", "1"),
    )


def media_service(body: Element) -> str:
    """Where the camera says its media service is; "" when it does not."""
    return text(child(body, "GetCapabilitiesResponse", "Capabilities", "Media", "XAddr"))


def ntp_server(body: Element) -> str:
    """The time server it asks, "DHCP", or ""."""
    answer = child(body, "GetNTPResponse", "NTPInformation")
    if text(child(answer, "FromDHCP")).lower() == "true":
        return "DHCP"
    manual = child(answer, "NTPManual")
    return text(child(manual, "IPv4Address")) or text(child(manual, "IPv6Address")) or text(child(manual, "DNSname"))


@dataclass(frozen=True, slots=True)
class Profile:
    """One stream as the camera is set to send it."""

    token: str
    name: str
    codec: str  # H264, H265, JPEG, ""
    width: int
    height: int
    fps: float
    kbit: float  # limit of the bit rate
    gop: float  # pictures from keyframe to keyframe, 0 unknown
    h264_profile: str
    encoder: str  # token of its video encoder


def profiles(body: Element) -> tuple[Profile, ...]:
    answer = child(body, "GetProfilesResponse")
    if answer is None:
        raise BadOnvif("no answer to GetProfiles")
    return tuple(_profile(each) for each in list(answer)[:64] if local(each) == "Profiles")


def _profile(each: Element) -> Profile:
    encoder = child(each, "VideoEncoderConfiguration")
    size, rate = child(encoder, "Resolution"), child(encoder, "RateControl")
    codec = text(child(encoder, "Encoding")).upper().replace(".", "")
    coding = child(encoder, "H264") if codec == "H264" else child(encoder, codec)
    return Profile(
        each.get("token", "")[:TEXT_LENGTH], text(child(each, "Name")), {"HEVC": "H265"}.get(codec, codec),
        int(number(child(size, "Width")) or 0), int(number(child(size, "Height")) or 0),
        number(child(rate, "FrameRateLimit")) or 0.0, number(child(rate, "BitrateLimit")) or 0.0, number(child(coding, "GovLength")) or 0.0,
        text(child(coding, "H264Profile")), encoder.get("token", "")[:TEXT_LENGTH] if encoder is not None else "",
    )  # fmt: skip


def stream_uri(body: Element) -> str:
    answer = child(body, "GetStreamUriResponse", "MediaUri", "Uri")
    uri = (answer.text or "").strip() if answer is not None else ""
    if not re.match(r"rtsps?://", uri, re.IGNORECASE) or len(uri) > 2000 or re.search(r"[\s\x00-\x1f\x7f]", uri):
        raise BadOnvif("no RTSP address in the answer to GetStreamUri")
    return uri


def at_host(url: str, host: str, *, default_path: str = "") -> str:
    """The same service or stream at the host that really answered: cameras behind a router, or moved since, name another.

    A user and a password in it are dropped. So nobody can send us, with our password, to a third party. "" when it is no address.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return ""
    netloc = f"[{host}]" if ":" in host else host
    return urlunsplit(
        (parts.scheme, f"{netloc}:{port}" if port else netloc, parts.path or default_path, parts.query, "")
    )


# -- setting -------------------------------------------------------------------------------------------


def set_clock(now: datetime, *, use_ntp: bool, time_zone: str, has_daylight_savings: bool) -> str:
    """With `use_ntp` `now` is not sent: cameras refuse a time beside a time server, or take it and switch the server off."""
    zone = f"<TimeZone><tt:TZ>{escape(time_zone)}</tt:TZ></TimeZone>" if time_zone else ""
    utc = (
        f"<UTCDateTime><tt:Time><tt:Hour>{now.hour}</tt:Hour><tt:Minute>{now.minute}</tt:Minute><tt:Second>{now.second}</tt:Second></tt:Time>"
        f"<tt:Date><tt:Year>{now.year}</tt:Year><tt:Month>{now.month}</tt:Month><tt:Day>{now.day}</tt:Day></tt:Date></UTCDateTime>"
    )
    kind = "NTP" if use_ntp else "Manual"
    return question(
        "SetSystemDateAndTime",
        inside=f"<DateTimeType>{kind}</DateTimeType><DaylightSavings>{str(has_daylight_savings).lower()}</DaylightSavings>{zone}{'' if use_ntp else utc}",
    )


def set_ntp(server: str) -> str:
    kind = "IPv4" if re.fullmatch(r"\d{1,3}(\.\d{1,3}){3}", server) else "DNS"
    element = "IPv4Address" if kind == "IPv4" else "DNSname"
    return question(
        "SetNTP",
        inside=f"<FromDHCP>false</FromDHCP><NTPManual><tt:Type>{kind}</tt:Type><tt:{element}>{escape(server)}</tt:{element}></NTPManual>",
    )


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a stream should be set to; None leaves it."""

    gop: int | None = None
    fps: int | None = None
    kbit: int | None = None
    size: tuple[int, int] | None = None


def set_encoder(body: Element, profile: Profile, wanted: Wanted) -> str:
    """The camera's own configuration of this stream, as GetProfiles gave it, with what is wanted put in."""
    found = next(
        (
            child(each, "VideoEncoderConfiguration")
            for each in every(body, "Profiles")
            if each.get("token") == profile.token
        ),
        None,
    )
    if found is None:
        raise BadOnvif(f"the camera has no profile {profile.token}")
    found.tag = f"{{{MEDIA}}}Configuration"
    for path, value in (
        (("RateControl", "FrameRateLimit"), wanted.fps), (("RateControl", "BitrateLimit"), wanted.kbit), (("H264", "GovLength"), wanted.gop),
        (("Resolution", "Width"), wanted.size[0] if wanted.size else None), (("Resolution", "Height"), wanted.size[1] if wanted.size else None),
    ):  # fmt: skip
        element = child(found, *path)
        if element is None and value is not None:
            parent = child(found, *path[:-1])
            if parent is None:
                raise BadOnvif(f"the camera's configuration has no {path[0]}", hint="Set it on the camera's own page.")
            element = SubElement(parent, f"{{{SCHEMA}}}{path[-1]}")
        if element is not None and value is not None:
            element.text = str(value)
    register_namespace("tt", SCHEMA)
    return question(
        "SetVideoEncoderConfiguration",
        MEDIA,
        tostring(found, encoding="unicode") + "<ForcePersistence>true</ForcePersistence>",
    )
