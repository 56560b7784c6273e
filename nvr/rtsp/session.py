"""One connection to one camera, from OPTIONS to TEARDOWN, without sockets and without a clock.

    start -> OPTIONS -> DESCRIBE -> SETUP -> PLAY -> playing: keep-alives, receiver reports -> TEARDOWN

The caller receives into room(), tells received() how much came, sends what outgoing() gives, and calls tick() at every
drain. What the session decides is in docs/architecture.md, "RTSP without I/O". Whatever a camera sends, calls return events or
raise SessionEnded.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from urllib.parse import urlsplit

from nvr.arena import Arena
from nvr.errors import NvrError
from nvr.media import Cause, ParameterSets, StreamEvent
from nvr.rtsp import messages, rtcp, sdp
from nvr.rtsp.digest import Credentials
from nvr.rtsp.messages import BadRtsp, Message
from nvr.rtsp.reorder import Place, ReorderWindow
from nvr.rtsp.rtp import Walker
from nvr.rtsp.run import Runs

USER_AGENT = "nvr"
DEFAULT_TIMEOUT_S = 60  # RFC 2326, 12.37: when the Session header does not say
KEYFRAME_WAIT_S = 30  # the longest keyframe interval that cameras offer by default is 10 s
GARBAGE_LIMIT_BYTES = 1 << 20  # between two good packets
DATAGRAM_BYTES = 65_536
MESSAGES_LIMIT = 200  # between two drains; a camera says a handful in its whole life, and each costs more than a packet
_NS = 1_000_000_000
_DOLLAR = 0x24
_FRAME_HEAD = struct.Struct(">BBHBB").unpack_from


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
    had_login: bool = False


class Session:
    def __init__(
        self,
        url: str,
        arena: Arena,
        *,
        credentials: Credentials | None = None,
        transport: str = "tcp",
        client_port: int = 0,
        stall_s: float = 12.0,
        answer_s: float = 10.0,
        label: str = "",
    ) -> None:
        """`url` may hold a user and password; they are not sent. Raises BadRtsp when it is not an RTSP url."""
        self.state = State.IDLE
        self.peer_ports: tuple[int, int] | None = None
        self.peer_host = ""
        self.runs = Runs(ParameterSets((), ()), "")
        self._url = self._base = messages.without_login(url)
        self._play_url = self._url
        self._credentials = credentials
        self._is_udp = transport == "udp"
        self._client_port = client_port
        self._stall_ns, self._answer_ns = int(stall_s * _NS), int(answer_s * _NS)
        self._stall_s = stall_s
        self._label = label
        self._arena = arena
        self._carry = b""  # what of the last receive was incomplete
        self._out = bytearray()
        self._out_control: list[bytes] = []
        self._cseq = 0
        self._asked: _Asked | None = None
        self._messages = 0  # since the last tick
        self._end: SessionEnded | None = None  # to be raised by the next call
        self._challenged = False  # the last thing that happened was a challenge we can answer
        self._public: frozenset[str] = frozenset()
        self._server = ""
        self._session_id = ""
        self._timeout_s = DEFAULT_TIMEOUT_S
        self._video: sdp.Video | None = None
        self._walker = Walker(0, -1, -1)
        self._control_channel = 1
        self._reorder = ReorderWindow()
        self._reception = rtcp.Reception(random.getrandbits(32))
        self._garbage = self._garbage_in_a_row = 0
        self._received_bytes = 0
        self._now_ns = self._playing_ns = self._keepalive_ns = self._report_ns = 0
        self._last_bytes_ns = self._last_picture_ns = 0
        self._bye_ns = 0
        self._bye_packets = 0
        self._asked_for_keyframe = False

    # -- what the source calls ------------------------------------------------------------------------

    def start(self, now_ns: int) -> None:
        """The connection is there: say the first word."""
        self.state = State.CONNECTING
        self._now_ns = self._last_bytes_ns = now_ns
        self._ask("OPTIONS", self._url, [])

    def outgoing(self) -> bytes:
        """What is to be sent on the connection, once."""
        out, self._out = bytes(self._out), bytearray()
        return out

    def outgoing_control(self) -> list[bytes]:
        """RTCP datagrams to be sent to the camera's control port, once."""
        out, self._out_control = self._out_control, []
        return out

    def room(self) -> memoryview:
        """Where to receive from the connection."""
        return self._arena.room(self._carry)

    def received(self, size_bytes: int, now_ns: int) -> list[StreamEvent]:
        """`size_bytes` lie in room(). Raises SessionEnded."""
        arena = self._arena
        buffer, start = arena.buffer, arena.used
        end = start + len(self._carry) + size_bytes
        arena.took(end - start)
        self._now_ns = now_ns
        if size_bytes:
            self._last_bytes_ns = now_ns
            self._received_bytes += size_bytes
        if self._end is not None:
            raise self._end
        try:
            at = self._consume(buffer, start, end)
        except (BadRtsp, SessionEnded) as error:
            end_error = (
                error if isinstance(error, SessionEnded) else self._ended(str(error), Cause.CAMERA, hint=error.hint)
            )
            # Pictures that came before the end are delivered first; the next call says that it is over.
            events = self._events()
            if not events:
                raise end_error from None
            self._end = end_error
            return events
        self._carry = bytes(memoryview(buffer)[at:end])
        return self._events()

    def datagram_room(self) -> memoryview:
        """Where to receive one RTP datagram."""
        return self._arena.room(at_least=DATAGRAM_BYTES)

    def datagram(self, size_bytes: int, now_ns: int) -> list[StreamEvent]:
        """One RTP datagram of `size_bytes` lies in datagram_room(). Raises SessionEnded."""
        arena = self._arena
        buffer, start = arena.buffer, arena.used
        arena.took(size_bytes)
        self._now_ns = self._last_bytes_ns = now_ns
        self._received_bytes += size_bytes
        if size_bytes >= 12:
            seq = buffer[start + 2] << 8 | buffer[start + 3]
            self._walk_places(self._reorder.push(seq, (buffer, start, start + size_bytes, now_ns)))
        return self._events()

    def control_datagram(self, data: bytes, now_ns: int) -> list[StreamEvent]:
        """One RTCP datagram. Raises SessionEnded."""
        self._now_ns = now_ns
        self._control(data)
        return self._events()

    def closed_by_peer(self) -> None:
        """The connection was closed, or broke. Always raises SessionEnded."""
        if self._end is not None:
            raise self._end
        if self._challenged:
            raise self._ended("the camera closed the connection after asking for a login", Cause.CAMERA, Again.NOW)
        if self._asked is not None and self.state is State.CONNECTING:
            raise self._ended(
                f"the camera closed the connection instead of answering {self._asked.method}", Cause.CAMERA
            )
        raise self._ended("the camera closed the connection", Cause.NETWORK)

    def close(self) -> None:
        """Queue a goodbye, if there is anything to say goodbye to. No answer is waited for."""
        if self._session_id and self.state is not State.ENDED:
            self._send("TEARDOWN", self._play_url, [])
        self.state = State.ENDED

    def tick(self, now_ns: int) -> list[StreamEvent]:
        """What time brings: keep-alives, reports, timeouts, datagrams waited for in vain. Raises SessionEnded."""
        self._now_ns = now_ns
        if self._end is not None:
            raise self._end
        if (
            self.state is State.CONNECTING
            and self._asked is not None
            and now_ns - self._asked.sent_ns > self._answer_ns
        ):
            raise self._ended(f"no answer to {self._asked.method} for {self._answer_ns // _NS} s", Cause.NETWORK)
        if self.state is not State.PLAYING:
            return []
        self._walk_places(self._reorder.expire(now_ns))
        events = self._events()
        if now_ns - self._keepalive_ns >= self._keepalive_every_ns():
            self._send_keepalive()
        if now_ns - self._report_ns >= rtcp.REPORT_EVERY_NS:
            self._send_report()
        self._check_silence()
        if (
            not self.runs.is_running
            and not self._asked_for_keyframe
            and now_ns - self._playing_ns > KEYFRAME_WAIT_S * _NS
        ):
            self._asked_for_keyframe = True
            if self.runs.skipped and not self.runs.keyframes:
                events += self.runs.complain(
                    f"pictures for {KEYFRAME_WAIT_S} s, but no keyframe: set the camera's keyframe (I-frame) interval to 2 s"
                )
        return events

    def facts(self) -> dict[str, object]:
        """Counters and what was agreed, for the page and the heartbeat."""
        walker, runs = self._walker, self.runs
        report = runs.clock.report
        return {
            "transport": "udp" if self._is_udp else "tcp",
            "server": self._server,
            "bytes": self._received_bytes,
            "packets": walker.packets,
            "lost": walker.lost,
            "late": walker.late,
            "reordered": self._reorder.reordered,
            "jumps": walker.jumps,
            "malformed": walker.malformed + walker.refused,
            "damaged_pictures": walker.damaged,
            "pictures": runs.pictures,
            "skipped_pictures": runs.skipped,
            "runs": runs.runs,
            "other_packets": walker.other_packets + walker.other_payload,
            "garbage_bytes": self._garbage,
            "jitter_ms": round(self._reception.jitter_ticks / 90, 1),
            "keep_alive": self._keepalive_method(),
            "timeout_s": self._timeout_s,
            "camera_wall_ns": report.wall_ns if report else 0,
            "camera_wall_arrival_ns": runs.clock.report_arrival_ns if report else 0,
        }

    # -- bytes ------------------------------------------------------------------------------------------

    def _consume(self, buffer: bytearray, at: int, end: int) -> int:
        """Take packets and messages; where the first incomplete one starts."""
        while True:
            before = at
            at = self._walker.walk(buffer, at, end, self._now_ns)
            if at > before:
                self._garbage_in_a_row = 0
            if at == end or buffer[at] == _DOLLAR:
                break
            starts = messages.starts_message(buffer, at, end)
            if starts is None:
                break
            if starts:
                parsed = messages.parse(buffer, at, end)
                if parsed is None:
                    break
                message, at = parsed
                self._garbage_in_a_row = 0
                self._message(message)
                continue
            at, is_waiting = self._resync(buffer, at, end)
            if is_waiting:
                break
        for _, packet in self._walker.take_control():
            self._control(packet)
        return at

    def _resync(self, buffer: bytearray, at: int, end: int) -> tuple[int, bool]:
        """Skip what is neither packet nor message; whether more bytes are needed to go on."""
        start, is_waiting = at, False
        # Line ends between messages are not worth counting (RFC 2326, 4.1).
        while at < end and buffer[at] in b"\r\n":
            at += 1
        if at > start:
            return at, False
        at += 1
        while at < end:
            match = messages.ANY_START.search(buffer, at, end)
            # Behind the last candidate only the beginning of a message may be left, cut off by the end.
            at = match.start() if match is not None else max(at, end - messages.LONGEST_START_BYTES)
            if match is None:
                while at < end and messages.starts_message(buffer, at, end) is False:
                    at += 1
                is_waiting = at < end
                break
            looks = self._looks_like_frame(buffer, at, end) if buffer[at] == _DOLLAR else True
            if looks is not False:
                is_waiting = looks is None
                break
            at += 1
        self._garbage += at - start
        self._garbage_in_a_row += at - start
        if self._garbage_in_a_row > GARBAGE_LIMIT_BYTES:
            raise BadRtsp(
                f"{self._garbage_in_a_row} bytes in a row that are not RTSP", hint="Is this port an RTSP server?"
            )
        return at, is_waiting

    def _looks_like_frame(self, buffer: bytearray, at: int, end: int) -> bool | None:
        """Whether an interleaved packet starts here: version 2 and a channel that is in use. None: too few bytes to say."""
        if end - at < 6:
            return None
        _, channel, length, first, second = _FRAME_HEAD(buffer, at)
        if length < 8 or first >> 6 != 2 or channel > self._control_channel + 8:
            return False
        if channel == self._control_channel:
            return 200 <= second <= 207
        if channel == self._control_channel - 1 and self._video is not None:
            return second & 0x7F == self._video.payload_type
        return True

    def _walk_places(self, places: list[Place]) -> None:
        for buffer, start, end, arrival_ns in places:
            self._walker.packet(buffer, start, end, arrival_ns)

    def _events(self) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        for picture in self._walker.take():
            self._last_picture_ns = self._now_ns
            self._reception.picture(picture[1], picture[5])
            events += self.runs.push(picture)
        return events

    def _control(self, data: bytes) -> None:
        for report in rtcp.parse(data):
            if isinstance(report, rtcp.SenderReport):
                if self._walker.ssrc in (-1, report.ssrc):
                    self.runs.clock.learn(report, self._now_ns)
            elif self._walker.ssrc in report.ssrcs and not self._bye_ns:
                self._bye_ns, self._bye_packets = self._now_ns, self._walker.packets

    # -- the conversation: asking -------------------------------------------------------------------------

    def _ask(self, method: str, url: str, headers: list[tuple[str, str]]) -> None:
        asked = _Asked(method, url, headers, 0, self._now_ns)
        self._asked = asked
        self._put(asked)

    def _put(self, asked: _Asked) -> None:
        asked.sent_ns = self._now_ns
        asked.had_login = self._credentials is not None and self._credentials.challenge is not None
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
        assert self._video is not None
        url = sdp.control_url(self._base, self._video.media.control)
        if self._is_udp:
            transport = f"RTP/AVP;unicast;client_port={self._client_port}-{self._client_port + 1}"
        else:
            transport = "RTP/AVP/TCP;unicast;interleaved=0-1"
        self._ask("SETUP", url, [("Transport", transport)])

    def _keepalive_method(self) -> str:
        return "GET_PARAMETER" if "GET_PARAMETER" in self._public else "OPTIONS"

    def _keepalive_every_ns(self) -> int:
        # Half of the session timeout, so that one may be lost; cameras that offer hours drop idle sessions earlier.
        return min(max(self._timeout_s * _NS // 2, 2 * _NS), 30 * _NS)

    def _send_keepalive(self) -> None:
        self._keepalive_ns = self._now_ns
        asked = _Asked(self._keepalive_method(), self._play_url, [], 0, self._now_ns)
        self._asked = asked
        self._put(asked)

    def _send_report(self) -> None:
        self._report_ns = self._now_ns
        walker = self._walker
        if walker.base_seq < 0:
            report = self._reception.empty_report()
        else:
            base = (walker.base_seq, walker.base_packets, walker.base_lost)
            report = self._reception.report(
                walker.ssrc, base, walker.packets, walker.lost, self.runs.clock, self._now_ns
            )
        if self._is_udp:
            self._out_control.append(report)
        else:
            self._out += struct.pack(">BBH", _DOLLAR, self._control_channel, len(report)) + report

    def _check_silence(self) -> None:
        now_ns = self._now_ns
        if self._bye_ns and now_ns - self._bye_ns > _NS:
            if self._walker.packets == self._bye_packets:
                raise self._ended("the camera ended the stream (RTCP BYE)", Cause.CAMERA)
            self._bye_ns = 0  # it did not mean it
        silent_ns = now_ns - max(self._last_picture_ns, self._playing_ns)
        if silent_ns > self._stall_ns:
            seconds = f"{self._stall_s:g} s"
            if self._is_udp and self._walker.packets == 0:
                raise self._ended(
                    f"no UDP packet arrived for {seconds}; a firewall may drop them",
                    Cause.NETWORK,
                    Again.OTHER_TRANSPORT,
                )
            if now_ns - self._last_bytes_ns < self._stall_ns // 2:
                raise self._ended(f"no access unit for {seconds}, though the camera still answers", Cause.CAMERA)
            raise self._ended(f"nothing arrived for {seconds}", Cause.NETWORK)
        if silent_ns > self._stall_ns // 2 and now_ns - self._keepalive_ns > self._stall_ns // 2:
            self._send_keepalive()  # an answer tells a dead camera from a dead link

    def _ended(
        self, message: str, cause: Cause, again: Again = Again.LATER, *, url: str = "", hint: str = ""
    ) -> SessionEnded:
        self.state = State.ENDED
        return SessionEnded(message, cause=cause, again=again, url=url, hint=hint)

    # -- the conversation: answers and requests -----------------------------------------------------------

    def _message(self, message: Message) -> None:
        self._messages += 1
        if self._messages > MESSAGES_LIMIT:
            raise self._ended(f"more than {MESSAGES_LIMIT} RTSP messages at once", Cause.CAMERA)
        if not message.status:
            self._serve(message)
            return
        asked = self._asked
        if asked is None or self.state is State.ENDED or 0 <= message.cseq < asked.cseq:
            return  # to a request that nobody waits for any more
        self._asked = None
        self._challenged = False
        self._server = self._server or message.header("server")[:80]
        if message.status == 401:
            self._challenge(asked, message)
        elif 300 <= message.status < 400:
            self._redirect(message.header("location"))
        elif self.state is State.PLAYING:
            self._keepalive_answered(asked, message)
        else:
            handlers: dict[str, Callable[[Message], None]] = {
                "OPTIONS": self._options_answered,
                "DESCRIBE": self._describe_answered,
                "SETUP": self._setup_answered,
                "PLAY": self._play_answered,
            }
            handlers[asked.method](message)

    def _challenge(self, asked: _Asked, message: Message) -> None:
        login = self._credentials
        if login is None:
            raise self._ended(
                "the camera wants a user and a password",
                Cause.CAMERA,
                Again.NEVER_AS_IS,
                hint="Give both in the site file.",
            )
        if not login.accept(message.all("www-authenticate")):
            raise self._ended(
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
            raise self._ended(
                "the camera refused user and password",
                Cause.CAMERA,
                Again.NEVER_AS_IS,
                hint="Check them in the camera's own page.",
            )
        asked.tries += 1
        self._asked = asked
        self._challenged = True
        self._put(asked)

    def _redirect(self, location: str) -> None:
        try:
            url = messages.without_login(location)
        except BadRtsp:
            raise self._ended(f"the camera redirects to {location[:80]!r}", Cause.CAMERA) from None
        if urlsplit(self._url).scheme == "rtsps" and urlsplit(url).scheme != "rtsps":
            raise self._ended("the camera redirects from TLS to plain text", Cause.CAMERA, Again.NEVER_AS_IS)
        raise self._ended(f"the camera redirects to {url}", Cause.CAMERA, Again.ELSEWHERE, url=url)

    def _refused(self, method: str, message: Message) -> SessionEnded:
        status = message.status
        text = f"the camera answered {method} with {status} {message.reason[:60]}".rstrip()
        if status == 404:
            return self._ended(text, Cause.CAMERA, Again.NEVER_AS_IS, hint="Check the path of the camera's address.")
        if status == 403:
            return self._ended(
                text,
                Cause.CAMERA,
                Again.NEVER_AS_IS,
                hint="The user may not watch this stream; see the camera's users.",
            )
        if status == 461:
            return self._ended(text, Cause.CAMERA, Again.OTHER_TRANSPORT)
        if status == 453 or status == 503:
            return self._ended(text, Cause.CAMERA, hint="Too many may be watching this camera already.")
        return self._ended(text, Cause.CAMERA)

    def _options_answered(self, message: Message) -> None:
        # Some cameras do not know OPTIONS, or want a session for it: then it is only not known what they support.
        if message.status == 200:
            self._public = messages.parse_public(message)
        self._ask("DESCRIBE", self._url, [("Accept", "application/sdp")])

    def _describe_answered(self, message: Message) -> None:
        if message.status != 200:
            raise self._refused("DESCRIBE", message)
        description = sdp.parse(message.body)
        self._base = sdp.base_url(self._url, message.header("content-base"), message.header("content-location"))
        try:
            self._video = sdp.choose_video(description)
            self._play_url = sdp.control_url(self._base, description.control)
        except sdp.CodecRefused as error:
            raise self._ended(str(error), Cause.CAMERA, Again.NEVER_AS_IS, hint=error.hint) from None
        self._setup()

    def _setup_answered(self, message: Message) -> None:
        if message.status != 200:
            raise self._refused("SETUP", message)
        assert self._video is not None
        identifier, timeout_s = messages.parse_session(message)
        self._session_id, self._timeout_s = identifier, timeout_s or DEFAULT_TIMEOUT_S
        agreed = messages.parse_transport(message)
        if message.header("transport") and agreed.is_tcp == self._is_udp:
            other = "TCP" if self._is_udp else "UDP"
            raise self._ended(f"the camera insists on {other}", Cause.CAMERA, Again.OTHER_TRANSPORT)
        channel = -1
        if self._is_udp:
            self.peer_ports, self.peer_host = agreed.server_ports, agreed.source
            self._control_channel = -1
        else:
            channel, self._control_channel = agreed.channels or (0, 1)
        self._walker = Walker(self._video.payload_type, channel, self._control_channel)
        detail = f"rtsp/{'udp' if self._is_udp else 'tcp'}" + (f", {self._server}" if self._server else "")
        self.runs = Runs(self._video.parameter_sets, detail)
        self._ask("PLAY", self._play_url, [("Range", "npt=0.000-")])

    def _play_answered(self, message: Message) -> None:
        if message.status == 457:  # live streams have no beginning, and some say so
            self._ask("PLAY", self._play_url, [])
            return
        if message.status != 200:
            raise self._refused("PLAY", message)
        self._timeout_s = messages.parse_session(message)[1] or self._timeout_s
        self.state = State.PLAYING
        self._playing_ns = self._keepalive_ns = self._report_ns = self._now_ns
        self._last_picture_ns = self._now_ns

    def _keepalive_answered(self, asked: _Asked, message: Message) -> None:
        if message.status == 454:
            raise self._ended("the camera has forgotten our session (454)", Cause.CAMERA)
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
                raise self._ended("the camera sends us away for now (REDIRECT)", Cause.CAMERA)
            self._redirect(message.header("location"))
        elif message.method == "TEARDOWN":
            raise self._ended("the camera ended the session (TEARDOWN)", Cause.CAMERA)

    def _announced(self, message: Message) -> None:
        """Another description of the running stream: its parameter sets count from the next keyframe on."""
        try:
            video = sdp.choose_video(sdp.parse(message.body))
        except BadRtsp as error:
            raise self._ended(str(error), Cause.CAMERA, Again.NEVER_AS_IS, hint=error.hint) from None
        if self._video is not None and video.payload_type != self._video.payload_type:
            raise self._ended("the camera announced another stream", Cause.CAMERA)
        self.runs.offer(video.parameter_sets)
