"""One camera, asked over HTTP. httpx does the talking; the password is tried once and stands in no message, log or repr.

A wrong password must not lock the camera, as many do after three to five tries. So the way in is found out without it: a question
that needs a user is asked without one, and the refusal tells how the camera wants it (HTTP digest, or WS-UsernameToken). Then it is
tried, once; refused, this camera is never asked with it again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit
from xml.etree.ElementTree import Element

import httpx

from nvr.errors import NvrError
from tools.nvrctl import onvif
from tools.nvrctl.onvif import BadOnvif, ClockSetting, Device, OnvifFault, Profile, Wanted


class NoAnswer(NvrError):
    """Nothing at this address speaks ONVIF."""


class Refused(NvrError):
    """The camera did not take user and password."""


@dataclass(frozen=True, slots=True)
class StreamFound:
    profile: Profile
    url: str  # at the host that answered; "" when the camera would not tell


@dataclass(frozen=True, slots=True)
class CameraFound:
    """What one camera told."""

    host: str
    service: str
    device: Device | None = None
    clock: ClockSetting | None = None
    clock_error_s: float | None = None  # ahead of this laptop
    streams: tuple[StreamFound, ...] = ()
    trouble: str = ""  # why there is not more


@dataclass(slots=True)
class OnvifCamera:
    """Use it in a `with` statement."""

    service: str
    user: str = ""
    password: str = field(default="", repr=False)
    timeout_s: float = 5.0
    _client: httpx.Client = field(init=False, repr=False)
    _media: str = field(default="", init=False)
    _ahead: timedelta = field(default=timedelta(0), init=False)  # the camera's clock, against ours
    _way: str = field(default="unknown", init=False)  # unknown, none, digest, token, refused

    def __post_init__(self) -> None:
        # Neither a proxy nor .netrc of the laptop has anything to do with a camera on the next pole.
        self._client = httpx.Client(
            timeout=self.timeout_s, trust_env=False, verify=False, follow_redirects=False
        )  # cameras sign their own certificates; only digests of the password travel

    def __enter__(self) -> OnvifCamera:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    @property
    def host(self) -> str:
        return urlsplit(self.service).hostname or ""

    # -- questions

    def clock(self) -> tuple[ClockSetting, float | None]:
        """Its clock, and by how much that is ahead of ours; by the standard it needs no user. Raises NoAnswer, BadOnvif, OnvifFault, Refused."""
        before = datetime.now(UTC)
        body = onvif.question("GetSystemDateAndTime")
        try:
            found = onvif.clock(self._post(self.service, onvif.envelope(body), None))
        except _WantsDigest:
            before = datetime.now(UTC)
            found = onvif.clock(self.ask(self.service, body))
        middle = before + (datetime.now(UTC) - before) / 2
        if found.utc is None:
            return found, None
        self._ahead = found.utc - middle
        return found, round(self._ahead.total_seconds(), 1)

    def device(self) -> Device:
        return onvif.device(self.ask(self.service, onvif.question("GetDeviceInformation")))

    def media(self) -> str:
        """Where its media service is."""
        if not self._media:
            try:
                body = self.ask(self.service, onvif.question("GetCapabilities", inside="<Category>Media</Category>"))
                told = onvif.media_service(body)
            except OnvifFault as fault:
                if fault.is_refused:
                    raise
                told = ""
            # Same host, same port as what we reached: a camera does not decide who else is asked.
            path = urlsplit(told).path or "/onvif/media_service"
            own = urlsplit(self.service)
            self._media = f"{own.scheme}://{own.netloc}{path}"
        return self._media

    def profiles(self) -> tuple[Element, tuple[Profile, ...]]:
        body = self.ask(self.media(), onvif.question("GetProfiles", onvif.MEDIA))
        return body, onvif.profiles(body)

    def stream_url(self, profile: Profile) -> str:
        from xml.sax.saxutils import escape

        inside = (
            "<StreamSetup><tt:Stream>RTP-Unicast</tt:Stream><tt:Transport><tt:Protocol>RTSP</tt:Protocol></tt:Transport></StreamSetup>"
            f"<ProfileToken>{escape(profile.token)}</ProfileToken>"
        )
        return onvif.at_host(
            onvif.stream_uri(self.ask(self.media(), onvif.question("GetStreamUri", onvif.MEDIA, inside))), self.host
        )

    def ntp_server(self) -> str:
        return onvif.ntp_server(self.ask(self.service, onvif.question("GetNTP")))

    # -- settings

    def set_clock(self, before: ClockSetting, *, ntp_server: str, time_zone: str) -> None:
        """What is not given stays as it was `before`: the question sets everything at once."""
        if ntp_server:
            self.ask(self.service, onvif.set_ntp(ntp_server))
        question = onvif.set_clock(
            datetime.now(UTC),
            use_ntp=bool(ntp_server) or before.is_ntp,
            time_zone=time_zone or before.time_zone,
            has_daylight_savings=before.has_daylight_savings,
        )
        self.ask(self.service, question)

    def set_stream(self, profile: Profile, wanted: Wanted) -> None:
        body, _ = self.profiles()
        self.ask(self.media(), onvif.set_encoder(body, profile, wanted))

    # -- talking

    def ask(self, service: str, body: str) -> Element:
        """The body of the answer, with user and password if they are needed. Raises NoAnswer, BadOnvif, OnvifFault, Refused."""
        if self._way == "refused":
            raise self._refused()
        try:
            return self._post(service, self._envelope(body), self._auth())
        except OnvifFault as fault:
            if not fault.is_refused or self._way != "unknown":
                if fault.is_refused and self._way in ("digest", "token"):
                    self._way = "refused"
                    raise self._refused() from fault
                raise
            self._way = "token"
        except _WantsDigest as wants:
            if self._way != "unknown":
                self._way = "refused"
                raise self._refused() from None
            self._way = "digest" if wants.is_digest else "token"
        if not self.user:
            self._way = "refused"
            raise self._refused()
        return self.ask(service, body)

    def _refused(self) -> Refused:
        if not self.user:
            return Refused("wants a user and a password", hint="Give --user and --password-file.")
        return Refused(
            f"refuses user {self.user}",
            hint="Check user and password; they were tried once and are not tried again. ONVIF users are kept apart from others on some cameras (Hikvision, Axis).",
        )

    def _envelope(self, body: str) -> bytes:
        if self._way != "token":
            return onvif.envelope(body)
        # Cameras compare `Created` with their own clock, and refuse what is minutes off.
        return onvif.envelope(body, user=self.user, password=self.password, created=datetime.now(UTC) + self._ahead)

    def _auth(self) -> httpx.Auth | None:
        return _OnceDigest(self.user, self.password) if self._way == "digest" else None

    def _post(self, service: str, data: bytes, auth: httpx.Auth | None) -> Element:
        headers = {"content-type": "application/soap+xml; charset=utf-8", "user-agent": "nvrctl"}
        try:
            with self._client.stream("POST", service, content=data, headers=headers, auth=auth) as answer:
                content = bytearray()
                for chunk in answer.iter_bytes():
                    content += chunk
                    if len(content) > onvif.ANSWER_BYTES:
                        raise BadOnvif(f"{self.host} answers with more than {onvif.ANSWER_BYTES >> 20} MB")
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise NoAnswer(
                f"{self.host} gives no ONVIF answer: {str(error) or type(error).__name__}",
                hint="Is it on, and at this address? Many cameras need ONVIF switched on on their own page. `nvrctl camera find` shows what answers.",
            ) from None
        if answer.status_code in (401, 403):
            raise _WantsDigest(is_digest="digest" in answer.headers.get("www-authenticate", "").lower())
        try:
            return onvif.parsed(bytes(content))
        except BadOnvif as error:
            raise BadOnvif(f"{self.host} answers {answer.status_code}: {error}") from None


class _WantsDigest(Exception):
    def __init__(self, *, is_digest: bool) -> None:
        super().__init__()
        self.is_digest = is_digest


class _OnceDigest(httpx.DigestAuth):
    """httpx asks without, is refused, and tries once."""


def look(service: str, user: str, password: str, *, timeout_s: float = 5.0) -> CameraFound:
    """All that one camera tells, as far as it tells anything. Raises NoAnswer when it is no camera."""
    with OnvifCamera(service, user, password, timeout_s) as camera:
        trouble, clock, ahead_s = "", None, None
        try:
            clock, ahead_s = camera.clock()
        except Refused as error:
            return CameraFound(camera.host, service, trouble=str(error))
        except (BadOnvif, OnvifFault) as error:
            raise NoAnswer(str(error)) from None
        device, streams = None, []
        try:
            device = camera.device()
            _, profiles = camera.profiles()
            for profile in profiles:
                try:
                    url = camera.stream_url(profile)
                except (BadOnvif, OnvifFault) as error:
                    url, trouble = "", str(error)
                streams.append(StreamFound(profile, url))
        except (Refused, NoAnswer, BadOnvif, OnvifFault) as error:
            trouble = str(error)
        return CameraFound(camera.host, service, device, clock, ahead_s, tuple(streams), trouble)
