"""A pretend ONVIF camera over real sockets: HTTP on a loopback address, and a responder in the discovery multicast group.

It answers from a folder of recorded answers (`../shared/data/protocol/onvif-agsh`) or from the few written here, checks users as
cameras do (HTTP digest, WS-UsernameToken, or not at all), and counts how often a password was tried. The rest of an answer is as the
folder has it.
"""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import struct
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ENVELOPE = '<?xml version="1.0"?><env:Envelope xmlns:env="http://www.w3.org/2003/05/soap-envelope" xmlns:tds="http://www.onvif.org/ver10/device/wsdl" xmlns:trt="http://www.onvif.org/ver10/media/wsdl" xmlns:tt="http://www.onvif.org/ver10/schema"><env:Body>{}</env:Body></env:Envelope>'
# Written for the plain tests, after the standard's own examples; prefixes differ from the recorded ones on purpose.
ANSWERS = {
    "GetDeviceInformation": "<tds:GetDeviceInformationResponse><tds:Manufacturer>Acme</tds:Manufacturer><tds:Model>D3</tds:Model><tds:FirmwareVersion>5.7</tds:FirmwareVersion><tds:SerialNumber>1</tds:SerialNumber></tds:GetDeviceInformationResponse>",
    "GetCapabilities": "<tds:GetCapabilitiesResponse><tds:Capabilities><tt:Media><tt:XAddr>http://192.0.2.1/onvif/media</tt:XAddr></tt:Media></tds:Capabilities></tds:GetCapabilitiesResponse>",
    "GetProfiles": "<trt:GetProfilesResponse>"
    + "".join(
        f'<trt:Profiles token="{token}"><tt:Name>{token}</tt:Name><tt:VideoEncoderConfiguration token="enc-{token}"><tt:Name>e</tt:Name><tt:Encoding>{codec}</tt:Encoding>'
        f"<tt:Resolution><tt:Width>{width}</tt:Width><tt:Height>{height}</tt:Height></tt:Resolution><tt:RateControl><tt:FrameRateLimit>25</tt:FrameRateLimit>"
        f"<tt:EncodingInterval>1</tt:EncodingInterval><tt:BitrateLimit>4096</tt:BitrateLimit></tt:RateControl><tt:H264><tt:GovLength>250</tt:GovLength><tt:H264Profile>Main</tt:H264Profile></tt:H264></tt:VideoEncoderConfiguration></trt:Profiles>"
        for token, codec, width, height in (
            ("main", "H264", 1920, 1080),
            ("hevc", "H265", 2560, 1440),
            ("sub", "H264", 640, 360),
        )
    )
    + "</trt:GetProfilesResponse>",
    "GetStreamUri": "<trt:GetStreamUriResponse><trt:MediaUri><tt:Uri>rtsp://admin:secret@192.0.2.1:554/{token}?a=1&amp;b=2</tt:Uri></trt:MediaUri></trt:GetStreamUriResponse>",
    "GetNTP": "<tds:GetNTPResponse><tds:NTPInformation><tt:FromDHCP>true</tt:FromDHCP></tds:NTPInformation></tds:GetNTPResponse>",
    "SetNTP": "<tds:SetNTPResponse/>",
    "SetSystemDateAndTime": "<tds:SetSystemDateAndTimeResponse/>",
    "SetVideoEncoderConfiguration": "<trt:SetVideoEncoderConfigurationResponse/>",
}
NOT_AUTHORIZED = '<env:Fault><env:Code><env:Value>env:Sender</env:Value><env:Subcode><env:Value>ter:NotAuthorized</env:Value></env:Subcode></env:Code><env:Reason><env:Text xml:lang="en">Sender not Authorized</env:Text></env:Reason></env:Fault>'


class PretendOnvif:
    """Use it in a `with` statement."""

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        user: str = "",
        password: str = "",
        scheme: str = "none",
        folder: Path | None = None,
        ahead_s: float = 0.0,
        raw: bytes | None = None,
    ) -> None:
        """`scheme`: none, token or digest. `raw`: what it answers to everything instead."""
        self.host, self.user, self.password, self.scheme = host, user, password, scheme
        self.folder, self.ahead_s, self.raw = folder, ahead_s, raw
        self.time_from = "NTP"  # or Manual
        self.tries: list[str] = []  # each time a user was named: "right" or "wrong"
        self.asked: list[tuple[str, str]] = []  # (what, the whole request)
        camera = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                request = self.rfile.read(int(self.headers.get("content-length") or 0)).decode("utf-8", "replace")
                status, headers, content = camera.answer(request, self.headers.get("authorization", ""))
                self.send_response(status)
                for name, value in {
                    "content-type": "application/soap+xml",
                    "content-length": str(len(content)),
                    **headers,
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer((host, 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._responder: threading.Thread | None = None
        self._udp: socket.socket | None = None

    @property
    def service(self) -> str:
        return f"http://{self.host}:{self.port}/onvif/device_service"

    def __enter__(self) -> PretendOnvif:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        if self._udp is not None:
            self._udp.close()

    # -- HTTP

    def answer(self, request: str, authorization: str) -> tuple[int, dict[str, str], bytes]:
        match = re.search(r"Body>\s*<(?:\w+:)?(\w+)", request)
        what = match[1] if match else ""
        self.asked.append((what, request))
        if self.raw is not None:
            return 200, {}, self.raw
        if what != "GetSystemDateAndTime" and self.scheme != "none":
            refused = self._refused(request, authorization)
            if refused is not None:
                return refused
        return 200, {}, self._content(what, request)

    def _refused(self, request: str, authorization: str) -> tuple[int, dict[str, str], bytes] | None:
        if self.scheme == "digest":
            if authorization.startswith("Digest"):
                is_right = self._digest_is_right(authorization)
                self.tries.append("right" if is_right else "wrong")
                if is_right:
                    return None
            return 401, {"www-authenticate": 'Digest realm="cam", nonce="abc", qop="auth", algorithm=MD5'}, b""
        match = re.search(
            r"<Username>(.*?)</Username><Password[^>]*>(.*?)</Password><Nonce[^>]*>(.*?)</Nonce><Created[^>]*>(.*?)</Created>",
            request,
        )
        if match:
            wanted = base64.b64encode(
                hashlib.sha1(base64.b64decode(match[3]) + match[4].encode() + self.password.encode()).digest()
            ).decode()
            created = datetime.fromisoformat(match[4].replace("Z", "+00:00"))
            is_timely = abs((created - self.now()).total_seconds()) < 5  # as strict as real ones are
            is_right = match[1] == self.user and match[2] == wanted and is_timely
            self.tries.append("right" if is_right else "wrong")
            if is_right:
                return None
        return 400, {}, ENVELOPE.format(NOT_AUTHORIZED).encode()

    def _digest_is_right(self, authorization: str) -> bool:
        fields = dict(re.findall(r'(\w+)="?([^",]+)"?', authorization))
        ha1 = hashlib.md5(f"{self.user}:cam:{self.password}".encode()).hexdigest()
        ha2 = hashlib.md5(f"POST:{fields['uri']}".encode()).hexdigest()
        wanted = hashlib.md5(f"{ha1}:abc:{fields['nc']}:{fields['cnonce']}:auth:{ha2}".encode()).hexdigest()
        return fields.get("username") == self.user and fields.get("response") == wanted

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.ahead_s)

    def _content(self, what: str, request: str) -> bytes:
        if self.folder is not None:
            for name in (f"{what}.xml", f"media.{what}.xml", f"device.{what}.xml"):
                if (self.folder / name).exists():
                    return (self.folder / name).read_bytes()
        if what == "GetSystemDateAndTime":
            now = self.now()
            body = (
                f"<tds:GetSystemDateAndTimeResponse><tds:SystemDateAndTime><tt:DateTimeType>{self.time_from}</tt:DateTimeType><tt:DaylightSavings>true</tt:DaylightSavings><tt:TimeZone><tt:TZ>WIT-9</tt:TZ></tt:TimeZone>"
                f"<tt:UTCDateTime><tt:Time><tt:Hour>{now.hour}</tt:Hour><tt:Minute>{now.minute}</tt:Minute><tt:Second>{now.second}</tt:Second></tt:Time>"
                f"<tt:Date><tt:Year>{now.year}</tt:Year><tt:Month>{now.month}</tt:Month><tt:Day>{now.day}</tt:Day></tt:Date></tt:UTCDateTime></tds:SystemDateAndTime></tds:GetSystemDateAndTimeResponse>"
            )
        elif what in ANSWERS:
            token = re.search(r"ProfileToken>(.*?)<", request)
            body = ANSWERS[what].replace("{token}", token[1] if token else "")
        else:
            body = f'<env:Fault><env:Code><env:Value>env:Receiver</env:Value></env:Code><env:Reason><env:Text xml:lang="en">Optional Action Not Implemented: {what}</env:Text></env:Reason></env:Fault>'
        return ENVELOPE.format(body).encode()

    # -- discovery

    def join(self, group: str, port: int, match: str, *, interface: str = "127.0.0.1") -> None:
        """Answer probes that come to the group with `match`, in which SERVICE_URI and RELATES_TO are filled in."""
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((group, port))
        made.setsockopt(
            socket.IPPROTO_IP,
            socket.IP_ADD_MEMBERSHIP,
            struct.pack("4s4s", socket.inet_aton(group), socket.inet_aton(interface)),
        )
        self._udp = made
        answering = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        answering.bind((self.host, 0))

        def respond() -> None:
            with answering:
                while True:
                    try:
                        data, sender = made.recvfrom(65536)
                    except OSError:
                        return
                    message = re.search(rb"MessageID>(.*?)<", data)
                    filled = match.replace("SERVICE_URI", self.service).replace(
                        "RELATES_TO", message[1].decode() if message else ""
                    )
                    answering.sendto(filled.encode(), sender)

        self._responder = threading.Thread(target=respond, daemon=True)
        self._responder.start()


PROBE_MATCH = (
    '<?xml version="1.0"?><s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing" xmlns:d="http://schemas.xmlsoap.org/ws/2005/04/discovery">'
    "<s:Header><a:RelatesTo>RELATES_TO</a:RelatesTo></s:Header><s:Body><d:ProbeMatches><d:ProbeMatch><a:EndpointReference><a:Address>urn:uuid:1</a:Address></a:EndpointReference>"
    "<d:Scopes>onvif://www.onvif.org/name/Acme%20D3 onvif://www.onvif.org/hardware/D3</d:Scopes><d:XAddrs>SERVICE_URI http://[fe80::1]/onvif</d:XAddrs></d:ProbeMatch></d:ProbeMatches></s:Body></s:Envelope>"
)
