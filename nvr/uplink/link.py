"""The way to the hub: TLS, tokens, and what time it is there. Everything else of this room sends through it.

The hub is believed by a public authority, or by the fingerprint of its certificate where the site file has one. A box that does
not know the time cannot say whether a certificate is in date: it checks everything else, asks the hub, and holds the certificate
against that time and against its software's own date.
"""

from __future__ import annotations

import hashlib
import logging
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from nvr import wire
from nvr.clock import Clock, software_date_ns
from nvr.errors import NvrError
from nvr.evidence import Identity
from nvr.media import ClockReading, ClockState

log = logging.getLogger(__name__)

CONNECT_S = 30.0  # three round trips of 300 ms, of which every third loses a packet
ANSWER_S = 60.0
UNSENT_BYTES = (
    4 * 1024
)  # left to the kernel: what is more urgent does not wait behind more, and no more is sent in vain when it breaks
SILENT_MS = 45_000  # a connection that nobody acknowledges is given up
TIME_ERROR_NS = 250_000_000  # of the hub's own clock, which somebody keeps
ASK_TIME_S = 600.0
_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, openssl/x509_vfy.h
_CONGESTION = getattr(socket, "TCP_CONGESTION", 13)
_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", 25)


class HubFailed(NvrError):
    """The hub cannot be reached, or answers in a way that helps nobody now; tried again."""


class NotWelcome(NvrError):
    """The hub knows what we want and refuses it: a wrong code, a blocked box."""


@dataclass(frozen=True, slots=True)
class HubTime:
    """What the hub's clock said at a moment of ours."""

    mono_ns: int
    wall_ns: int
    error_ns: int


def hub_time(sent_ns: int, received_ns: int, wall_ms: int) -> HubTime:
    """From one question and its answer, by box time: it was answered somewhere between."""
    return HubTime((sent_ns + received_ns) // 2, wall_ms * 1_000_000, (received_ns - sent_ns) // 2 + TIME_ERROR_NS)


def better(one: HubTime | None, other: HubTime) -> HubTime:
    """Which of two is to be believed: the surer one, until it is an hour old; then the later."""
    if one is None or other.mono_ns - one.mono_ns > 3600 * 1_000_000_000:
        return other
    apart_ns = abs((other.wall_ns - one.wall_ns) - (other.mono_ns - one.mono_ns))
    if apart_ns > one.error_ns + other.error_ns:
        return other  # the hub's clock was set
    return one if one.error_ns <= other.error_ns else other


def tls_context(fingerprint: str, now_ns: Callable[[], int | None]) -> ssl.SSLContext:
    """Accepts one hub only. `now_ns()`: the time, None while nobody knows it."""

    class Checked(ssl.SSLObject):
        """Looks at the certificate before a byte of ours is sent; asyncio and httpx both make their TLS from this."""

        def do_handshake(self) -> None:
            super().do_handshake()
            if fingerprint:
                found = hashlib.sha256(self.getpeercert(True) or b"").hexdigest()
                if found != fingerprint:
                    raise ssl.SSLCertVerificationError(
                        f"the hub shows a certificate with the fingerprint {found}, the site file wants {fingerprint}"
                    )
                return
            said = self.getpeercert() or {}
            begins_s, ends_s = (_seconds(str(said.get(key, ""))) for key in ("notBefore", "notAfter"))
            known_ns = now_ns()
            at_s = (software_date_ns() if known_ns is None else known_ns) / 1e9
            if at_s > ends_s or (known_ns is not None and at_s < begins_s - 86_400):
                raise ssl.SSLCertVerificationError("the hub's certificate is out of date")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslobject_class = Checked
    if fingerprint:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_default_certs()
        context.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME)  # Checked does, by a better clock than the system's
    return context


def _seconds(text: str) -> float:
    try:
        return float(ssl.cert_time_to_seconds(text))
    except ValueError:
        return 0.0


def socket_options() -> list[tuple[int, int, int] | tuple[int, int, bytes]]:
    """For every connection: little is left to the kernel, silence is noticed, and loss is not taken for a full link."""
    options: list[tuple[int, int, int] | tuple[int, int, bytes]] = [
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.IPPROTO_TCP, _NOTSENT_LOWAT, UNSENT_BYTES),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENT_MS),
        # A hub that lost the connection and could not say so answers the first of these with a reset.
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 8),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 4),
        # BBR keeps the rate of a link that loses 8 % of its packets; cubic falls to a fifth of it (docs/bench.md).
        (socket.IPPROTO_TCP, _CONGESTION, b"bbr"),
    ]
    return [option for option in options if _is_known(option)]


def _is_known(option: tuple[int, int, Any]) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as trial:
        try:
            trial.setsockopt(*option)
        except OSError:
            return False
    return True


class Link:
    """To one hub. Belongs to the event loop."""

    def __init__(self, url: str, fingerprint: str, identity: Identity, clock: Clock) -> None:
        self.url = url.rstrip("/")
        self.identity, self.clock = identity, clock
        self.time: HubTime | None = None
        self.options = socket_options()
        self.context = tls_context(fingerprint, self.now_ns)

    @property
    def websocket_url(self) -> str:
        parts = urlsplit(self.url)
        return parts._replace(scheme="wss").geturl()

    @property
    def box_id(self) -> str:
        return self.identity.box_id.hex()

    def now_ns(self) -> int | None:
        """The hub's time, else the box's where it is synced; None while nobody knows it."""
        if self.time is not None:
            return self.time.wall_ns + self.clock.mono_ns() - self.time.mono_ns
        reading = self.clock.read()
        return reading.wall_ns if reading.state is not ClockState.UNKNOWN else None

    def token(self) -> str:
        """A new one, by the hub's time. Raises HubFailed while that is not known."""
        if self.time is None:
            raise HubFailed("the hub's time is not known yet")
        to_sign = wire.token_to_sign(self.identity.box_id, (self.now_ns() or 0) // 1_000_000_000)
        return wire.signed_token(to_sign, self.identity.sign(to_sign))

    def headers(self) -> dict[str, str]:
        return wire.request_headers(self.identity.box_id, self.token())

    def client(self) -> httpx.AsyncClient:
        """One connection that is kept; who needs two lanes makes two."""
        transport = httpx.AsyncHTTPTransport(
            verify=self.context, trust_env=False, retries=0, socket_options=self.options,
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=120.0),
        )  # fmt: skip
        return httpx.AsyncClient(
            transport=transport, base_url=self.url, trust_env=False, follow_redirects=False,
            timeout=httpx.Timeout(ANSWER_S, connect=CONNECT_S), headers={"User-Agent": "nvr-box", "Nvr-Box": self.box_id},
        )  # fmt: skip

    async def ask_time(self, client: httpx.AsyncClient) -> HubTime:
        """Ask the hub what time it is, and remember it. Raises HubFailed."""
        await self._get_time(client)  # the first one also opens the connection: its round trip is a long one
        found = await self._get_time(client)
        self.time = better(self.time, found)
        return self.time

    async def _get_time(self, client: httpx.AsyncClient) -> HubTime:
        sent_ns = self.clock.mono_ns()
        fields = answer_of(await asked(client, "GET", "/box/v1/time"))
        wall_ms = fields.get("wall_ms")
        if (
            isinstance(wall_ms, bool)
            or not isinstance(wall_ms, int)
            or not software_date_ns() < wall_ms * 1_000_000 < 2**62
        ):
            raise HubFailed(f"the hub says that it is {wall_ms!r}, which cannot be", hint="Set the hub's clock.")
        found = hub_time(sent_ns, self.clock.mono_ns(), wall_ms)
        self.time = better(self.time, found)
        return found

    def offer(self) -> ClockReading | None:
        """The hub's time as a reading for the journal: nobody disciplines our clock by it, so it is plausible, within its error."""
        if self.time is None:
            return None
        return ClockReading(self.time.mono_ns, self.time.wall_ns, ClockState.PLAUSIBLE, self.time.error_ns)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the hub said to one request."""

    asked: str  # "PATCH /box/v1/uploads/..."
    status: int
    headers: httpx.Headers
    body: bytes
    socket: socket.socket | None  # of the connection it came over


async def asked(client: httpx.AsyncClient, method: str, path: str, **more: Any) -> Answer:
    """One request and its whole answer, of at most 64 KiB. Raises HubFailed."""
    try:
        async with client.stream(method, path, **more) as response:
            body = bytearray()
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > 64 * 1024:
                    raise HubFailed(f"the hub answers {method} {path} without end")
            stream = response.extensions.get("network_stream")
            found = stream.get_extra_info("socket") if stream is not None else None
            return Answer(f"{method} {path}", response.status_code, response.headers, bytes(body), found)
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise HubFailed(f"{method} {path}: {type(error).__name__}: {error}") from error


def answer_of(answer: Answer) -> dict[str, Any]:
    """The object in an answer of 200. Raises HubFailed."""
    if answer.status != 200:
        raise HubFailed(f"the hub answers {answer.status} to {answer.asked}")
    try:
        return wire.parse_object(answer.body)
    except wire.WireError as error:
        raise HubFailed(f"the hub's answer to {answer.asked} is {error}") from error


def wait_s(answer: Answer) -> float | None:
    """The seconds the hub asks for in Retry-After (RFC 9110, 10.2.3), at most an hour; None where it says none."""
    text = answer.headers.get("Retry-After", "")
    return min(float(text), 3600.0) if text.isascii() and text.isdigit() and len(text) < 9 else None
