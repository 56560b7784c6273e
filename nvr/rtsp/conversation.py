"""What is said to a camera and what it answers: from OPTIONS to PLAY, keep-alives, logins, refusals, goodbye.

Knows no bytes of media and no sockets: messages in, messages out. session.py owns one, feeds it what comes between the
packets, and looks at what was agreed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from urllib.parse import urlsplit

from nvr.errors import NvrError
from nvr.media import Cause, ParameterSets
from nvr.rtsp import messages, sdp
from nvr.rtsp.digest import Credentials
from nvr.rtsp.messages import BadRtsp, Message

USER_AGENT = "nvr"
DEFAULT_TIMEOUT_S = 60  # RFC 2326, 12.37: when the Session header does not say
MESSAGES_LIMIT = 200  # between two drains; a camera says a handful in its whole life, and each costs more than a packet
_NS = 1_000_000_000


class State(Enum):
    IDLE = "idle"
    CONNECTING = "connecting"  # the conversation before PLAY was answered
    PLAYING = "playing"
    ENDED = "ended"


class Again(Enum):
    """What to do after a session ended."""

    LATER = "later"  # back-off
    NOW = "now"  # at once, once: the challenge is known now
    ELSEWHERE = "elsewhere"  # the error has the url
    OTHER_TRANSPORT = "other transport"  # TCP instead of UDP, or the other way round
    NEVER_AS_IS = "never as is"  # a person must change something; ask again every few minutes


class SessionEnded(NvrError):
    """The session is over; the message is one line for a person."""

    def __init__(
        self, message: str, *, cause: Cause, again: Again = Again.LATER, url: str = "", hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.cause = cause
        self.again = again
        self.url = url


@dataclass(slots=True)
class _Asked:
    """A request that waits for its answer."""

    method: str
    url: str
    headers: list[tuple[str, str]]
    cseq: int
    sent_ns: int
    tries: int = 0


class Conversation:
    """One connection's requests and answers; everything that takes a message or `now_ns` may raise SessionEnded."""

    def __init__(
        self, url: str, credentials: Credentials | None, *, is_udp: bool, client_port: int, answer_s: float
    ) -> None:
        """Raises BadRtsp when `url` is not an RTSP url."""
        self.state = State.IDLE
        self.server = ""  # what the camera calls itself
        self.timeout_s = DEFAULT_TIMEOUT_S
        self.video: sdp.Video | None = None  # known once DESCRIBE was answered
        self.agreed: messages.Transport | None = None  # known once SETUP was answered
        self.announced: ParameterSets | None = None  # of the running stream, for whoever takes them
        self.playing_ns = 0
        self.keepalive_ns = 0  # when the last one was sent
        self._url = self._base = messages.without_login(url)
        self._play_url = self._url
        self._credentials = credentials
        self._is_udp, self._client_port = is_udp, client_port
        self._answer_ns = int(answer_s * _NS)
        self._out = bytearray()
        self._cseq = 0
        self._asked: _Asked | None = None
        self._challenged = False  # the last thing that happened was a challenge we can answer
        self._public: frozenset[str] = frozenset()
        self._session_id = ""
        self._messages = 0  # since the last tick
        self._now_ns = 0

    def start(self, now_ns: int) -> None:
        self.state = State.CONNECTING
        self._now_ns = now_ns
        self._ask("OPTIONS", self._url, [])

    def tick(self, now_ns: int) -> None:
        """Keep the session alive; raises SessionEnded when an answer is overdue."""
        self._now_ns = now_ns
        self._messages = 0
        if self.state is State.PLAYING and now_ns - self.keepalive_ns >= self._keepalive_every_ns():
            self.keep_alive(now_ns)
        asked = self._asked
        if self.state is State.CONNECTING and asked is not None and now_ns - asked.sent_ns > self._answer_ns:
            raise self.ended(f"no answer to {asked.method} for {self._answer_ns // _NS} s", Cause.NETWORK)

    def outgoing(self) -> bytes:
        """What is to be sent, once."""
        if not self._out:
            return b""
        out, self._out = bytes(self._out), bytearray()
        return out

    def put_between(self, packet: bytes) -> None:
        """Send an interleaved packet, in order with the requests."""
        self._out += packet

    def keep_alive(self, now_ns: int) -> None:
        self._now_ns = self.keepalive_ns = now_ns
        self._ask(self.keepalive_method, self._play_url, [])

    @property
    def keepalive_method(self) -> str:
        return "GET_PARAMETER" if "GET_PARAMETER" in self._public else "OPTIONS"

    def goodbye(self) -> None:
        """Queue TEARDOWN, if there is anything to tear down. No answer is waited for."""
        if self._session_id and self.state is not State.ENDED:
            self._send("TEARDOWN", self._play_url, [])
        self.state = State.ENDED

    def closed(self) -> SessionEnded:
        """Why it is over when the camera has closed the connection."""
        if self._challenged:
            return self.ended("the camera closed the connection after asking for a login", Cause.CAMERA, Again.NOW)
        if self._asked is not None and self.state is State.CONNECTING:
            return self.ended(
                f"the camera closed the connection instead of answering {self._asked.method}", Cause.CAMERA
            )
        return self.ended("the camera closed the connection", Cause.NETWORK)

    def ended(
        self, message: str, cause: Cause, again: Again = Again.LATER, *, url: str = "", hint: str = ""
    ) -> SessionEnded:
        """It is over; to be raised."""
        self.state = State.ENDED
        return SessionEnded(message, cause=cause, again=again, url=url, hint=hint)

    # -- asking -------------------------------------------------------------------------------------------

    def _ask(self, method: str, url: str, headers: list[tuple[str, str]]) -> None:
        asked = _Asked(method, url, headers, 0, self._now_ns)
        self._asked = asked
        self._put(asked)

    def _put(self, asked: _Asked) -> None:
        asked.sent_ns = self._now_ns
        asked.cseq = self._send(asked.method, asked.url, asked.headers)

    def _send(self, method: str, url: str, headers: list[tuple[str, str]]) -> int:
        self._cseq += 1
        lines = list(headers)
        if self._credentials is not None and (login := self._credentials.header(method, url)):
            lines.append(("Authorization", login))
        if self._session_id:
            lines.append(("Session", self._session_id))
        lines.append(("User-Agent", USER_AGENT))
        self._out += messages.request(method, url, self._cseq, lines)
        return self._cseq

    def _setup(self) -> None:
        assert self.video is not None
        url = sdp.control_url(self._base, self.video.media.control)
        if self._is_udp:
            transport = f"RTP/AVP;unicast;client_port={self._client_port}-{self._client_port + 1}"
        else:
            transport = "RTP/AVP/TCP;unicast;interleaved=0-1"
        self._ask("SETUP", url, [("Transport", transport)])

    def _keepalive_every_ns(self) -> int:
        # Half of the session timeout, so that one may be lost; cameras that offer hours drop idle sessions earlier.
        return min(max(self.timeout_s * _NS // 2, 2 * _NS), 30 * _NS)

    # -- answers, and requests of the camera ------------------------------------------------------------

    def message(self, message: Message, now_ns: int) -> None:
        """Something the camera said."""
        self._now_ns = now_ns
        self._messages += 1
        if self._messages > MESSAGES_LIMIT:
            raise self.ended(f"more than {MESSAGES_LIMIT} RTSP messages at once", Cause.CAMERA)
        if not message.status:
            self._serve(message)
            return
        asked = self._asked
        if asked is None or self.state is State.ENDED or 0 <= message.cseq < asked.cseq:
            return  # to a request that nobody waits for any more
        self._asked = None
        self._challenged = False
        self.server = self.server or message.header("server")[:80]
        if message.status == 401:
            self._challenge(asked, message)
        elif 300 <= message.status < 400:
            self._redirect(message.header("location"))
        elif self.state is State.PLAYING:
            self._keepalive_answered(asked, message)
        else:
            handlers: dict[str, Callable[[_Asked, Message], None]] = {
                "OPTIONS": self._options_answered,
                "DESCRIBE": self._describe_answered,
                "SETUP": self._setup_answered,
                "PLAY": self._play_answered,
            }
            handlers[asked.method](asked, message)

    def _challenge(self, asked: _Asked, message: Message) -> None:
        login = self._credentials
        if login is None:
            raise self.ended(
                "the camera wants a user and a password",
                Cause.CAMERA,
                Again.NEVER_AS_IS,
                hint="Give both in the site file.",
            )
        if not login.accept(message.all("www-authenticate")):
            raise self.ended(
                "the camera asks for a login in a way that is not answered here",
                Cause.CAMERA,
                Again.NEVER_AS_IS,
                hint="Digest and basic are; basic no longer once the camera has asked for digest, until nvr starts again.",
            )
        assert login.challenge is not None
        # An old nonce of the last connection is worth one more try, and so is one that the camera calls stale.
        limit = 1 + login.challenge.is_stale
        if asked.tries >= limit:
            login.challenge = None
            raise self.ended(
                "the camera refused user and password",
                Cause.CAMERA,
                Again.NEVER_AS_IS,
                hint="Compare user and password with those in the camera's own page.",
            )
        asked.tries += 1
        self._asked = asked
        self._challenged = True
        self._put(asked)

    def _redirect(self, location: str) -> None:
        try:
            url = messages.without_login(location)
        except BadRtsp:
            raise self.ended(f"the camera redirects to {location[:80]!r}", Cause.CAMERA) from None
        if urlsplit(self._url).scheme == "rtsps" and urlsplit(url).scheme != "rtsps":
            raise self.ended("the camera redirects from TLS to plain text", Cause.CAMERA, Again.NEVER_AS_IS)
        raise self.ended(f"the camera redirects to {url}", Cause.CAMERA, Again.ELSEWHERE, url=url)

    def _refused(self, method: str, message: Message) -> SessionEnded:
        status = message.status
        text = f"the camera answered {method} with {status} {message.reason[:60]}".rstrip()
        if status == 404:
            return self.ended(text, Cause.CAMERA, Again.NEVER_AS_IS, hint="Check the path of the camera's address.")
        if status == 403:
            return self.ended(
                text,
                Cause.CAMERA,
                Again.NEVER_AS_IS,
                hint="The user may not watch this stream; see the camera's users.",
            )
        if status == 461:
            return self.ended(text, Cause.CAMERA, Again.OTHER_TRANSPORT)
        if status == 453 or status == 503:
            return self.ended(text, Cause.CAMERA, hint="Too many may be watching this camera already.")
        return self.ended(text, Cause.CAMERA)

    def _options_answered(self, asked: _Asked, message: Message) -> None:
        # Some cameras do not know OPTIONS, or want a session for it: then it is only not known what they support.
        if message.status == 200:
            self._public = messages.parse_public(message)
        self._ask("DESCRIBE", self._url, [("Accept", "application/sdp")])

    def _describe_answered(self, asked: _Asked, message: Message) -> None:
        if message.status != 200:
            raise self._refused("DESCRIBE", message)
        description = sdp.parse(message.body)
        self._base = sdp.base_url(self._url, message.header("content-base"), message.header("content-location"))
        try:
            self.video = sdp.choose_video(description)
            self._play_url = sdp.control_url(self._base, description.control)
        except sdp.CodecRefused as error:
            raise self.ended(str(error), Cause.CAMERA, Again.NEVER_AS_IS, hint=error.hint) from None
        self._setup()

    def _setup_answered(self, asked: _Asked, message: Message) -> None:
        if message.status != 200:
            raise self._refused("SETUP", message)
        assert self.video is not None
        identifier, timeout_s = messages.parse_session(message)
        self._session_id, self.timeout_s = identifier, timeout_s or DEFAULT_TIMEOUT_S
        agreed = messages.parse_transport(message)
        if message.header("transport") and agreed.is_tcp == self._is_udp:
            other = "TCP" if self._is_udp else "UDP"
            raise self.ended(f"the camera insists on {other}", Cause.CAMERA, Again.OTHER_TRANSPORT)
        self.agreed = agreed
        self._ask("PLAY", self._play_url, [("Range", "npt=0.000-")])

    def _play_answered(self, asked: _Asked, message: Message) -> None:
        if message.status == 457 and asked.headers:  # live streams have no beginning, and some say so
            self._ask("PLAY", self._play_url, [])
            return
        if message.status != 200:
            raise self._refused("PLAY", message)
        self.timeout_s = messages.parse_session(message)[1] or self.timeout_s
        self.state = State.PLAYING
        self.playing_ns = self.keepalive_ns = self._now_ns

    def _keepalive_answered(self, asked: _Asked, message: Message) -> None:
        if message.status == 454:
            raise self.ended("the camera has forgotten our session (454)", Cause.CAMERA)
        if message.status >= 400 and asked.method == "GET_PARAMETER":
            self._public -= {"GET_PARAMETER"}  # it said so and does not

    def _serve(self, message: Message) -> None:
        """A request of the camera (RFC 2326, section 10)."""
        session = [("Session", self._session_id)] if self._session_id else []
        if message.method == "OPTIONS":
            self._out += messages.response(
                message, 200, "OK", [("Public", "OPTIONS, GET_PARAMETER, SET_PARAMETER, ANNOUNCE, REDIRECT, TEARDOWN")]
            )
        elif message.method in ("GET_PARAMETER", "SET_PARAMETER", "PLAY_NOTIFY", "ANNOUNCE", "REDIRECT", "TEARDOWN"):
            self._out += messages.response(message, 200, "OK", session)
        else:
            self._out += messages.response(message, 405, "Method Not Allowed", [])
        if message.method == "ANNOUNCE" and message.body:
            self._announced(message)
        elif message.method == "REDIRECT":
            if not message.header("location"):
                raise self.ended("the camera sends us away for now (REDIRECT)", Cause.CAMERA)
            self._redirect(message.header("location"))
        elif message.method == "TEARDOWN":
            raise self.ended("the camera ended the session (TEARDOWN)", Cause.CAMERA)

    def _announced(self, message: Message) -> None:
        """Another description of the running stream: its parameter sets count from the next keyframe on."""
        try:
            video = sdp.choose_video(sdp.parse(message.body))
        except BadRtsp as error:
            raise self.ended(str(error), Cause.CAMERA, Again.NEVER_AS_IS, hint=error.hint) from None
        if self.video is not None and video.payload_type != self.video.payload_type:
            raise self.ended("the camera announced another stream", Cause.CAMERA)
        self.announced = video.parameter_sets
