"""A camera on the network: sockets, reconnecting and transports around the client of `nvr/rtsp/`.

    waiting -> dialling (dial.py) -> a Session plays -> it ended: RunEnded, then waiting again

One turn of drain() empties the sockets, hands the bytes to the session in place, lets time do its part and sends what
is to be sent. A user's password is known to `Credentials` alone and stands in no message, log or repr.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Sequence
from urllib.parse import urlsplit

from nvr.arena import BUFFER_BYTES, LEAST_ROOM_BYTES, Arena
from nvr.clock import Clock, SystemClock
from nvr.media import AccessUnit, AccessUnits, Cause, RunEnded, RunStarted, StreamEvent
from nvr.rtsp.digest import Credentials
from nvr.rtsp.messages import BadRtsp, without_login
from nvr.rtsp.session import DATAGRAM_SLOT_BYTES, DATAGRAMS, Again, Learned, Session, SessionEnded, State
from nvr.source import TURN_NS
from nvr.source.backoff import Backoff
from nvr.source.dial import Dial, DialFailed, Names, Tls, udp_pair

try:
    if os.environ.get("NVR_PURE") == "1":  # for tests and for the bench
        raise ImportError
    from nvr._fast import receive_datagrams
except ImportError:  # no compiler at installation: one system call for each
    receive_datagrams = None

_NS = 1_000_000_000
# What one camera may bring in one turn, so that a mad one cannot keep the others waiting: ten times 50 Mbit/s.
_TURN_BYTES = 6 << 20
_TURN_EVENTS = 256  # ... or so many pictures: a mad one may send 75,000 in as many bytes, each of them a fragment
_TURN_DATAGRAMS = 4096
# Keep-alives, reports and timeouts are looked at so often while pictures come by TCP; nobody waits for them.
_TICK_NS = _NS // 2
# Two of three turns may be left out, as long as a fifth of the buffer is used: the kernel counts about twice the payload, and
# a keyframe comes at once. docs/decisions/0001-one-thread-on-a-timer.md has the figures.
_REST_TURNS, _BUFFER_PART = 2, 5
_UNSENT_BYTES = 256 * 1024  # a camera that reads so little is not reading at all
_UDP_WAIT_NS = 5 * _NS  # nothing by UDP for so long: it is blocked somewhere on the way
_REDIRECTS = 4
# An RTP packet without payload, towards the camera: routers and firewalls then let the answers in.
_OPENING = struct.pack(">BBHII", 0x80, 0, 0, 0, 0)
_COUNTERS = ("bytes", "packets", "lost", "late", "reordered", "malformed", "damaged_pictures", "pictures", "skipped_pictures", "runs", "garbage_bytes")  # fmt: skip


class Rtsp:
    """One stream of one camera. Nothing happens before the first drain."""

    def __init__(
        self,
        url: str,
        user: str = "",
        password: str = "",
        transport: str = "auto",
        tls_fingerprint: str = "",
        tls_verify: bool = True,
        stall_s: float = 10.0,
        *,
        arena: Arena,
        label: str = "",
        joins: bool = False,
        clock: Clock | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        """`transport`: tcp, udp, or auto: TCP, and UDP where the camera will not. Raises BadRtsp for a bad url.

        `joins`: pictures come as `AccessUnits` where they can.
        """
        self._url = without_login(url)
        self._arena, self._label, self._joins = arena, label, joins
        self._clock = clock or SystemClock()
        self._login = Credentials(user, password) if user else None
        self._learned = Learned()
        self._user = user
        self._choices = _transports(transport, is_tls=urlsplit(self._url).scheme.lower() == "rtsps")
        self._transport = self._choices[0]
        self._tls = Tls(tls_fingerprint, tls_verify)
        self._stall_s = stall_s
        self._names = Names()
        self._backoff = backoff or Backoff()
        self._next_ns = 0  # when to dial
        self._target = self._url  # after a redirect another one
        self._redirects = 0
        self._had_second_try = False
        self._dial: Dial | None = None
        self._socket: socket.socket | None = None
        self._is_tls = False
        self._pair: tuple[socket.socket, socket.socket] | None = None
        self._peer: tuple = ("", 0)  # type: ignore[type-arg]  # of the connection, as the socket has it
        self._packed_hosts: tuple[bytes, ...] = ()  # the same, while datagrams are received many at once
        self._hosts: frozenset[str] = frozenset()  # who may send us datagrams; empty: the way is not open yet
        self._session: Session | None = None
        self._unsent = b""
        self._playing_ns = 0  # since when the session plays; 0: it does not
        self._ticked_ns = 0
        self._buffer_bytes = 0  # of the socket, as the kernel says
        self._turn_bytes = 0  # what lately came in one turn, at most
        self._expected_bytes = LEAST_ROOM_BYTES
        self._drained_ns = 0
        self._told: tuple[Cause, str] | None = None
        self._has_run = False
        self._connections = 0
        self._before = dict.fromkeys(_COUNTERS, 0)
        self._last_facts: dict[str, object] = {}

    def __repr__(self) -> str:
        return f"Rtsp({self._url!r}, {self._transport})"

    # -- Source -----------------------------------------------------------------------------------------

    def drain(self, now_ns: int) -> Sequence[StreamEvent]:
        events: list[StreamEvent] = []
        try:
            if self._session is None:
                if now_ns < self._next_ns or not self._connected(now_ns):
                    return events
            self._turn(now_ns, events)
        except SessionEnded as ended:
            self._note(events)
            events += self._over(now_ns, ended)
        except DialFailed as failed:
            self._note(events)
            cause = Cause.CAMERA if failed.is_camera else Cause.NETWORK
            events += self._over(now_ns, SessionEnded(str(failed), cause=cause, hint=failed.hint))
        except OSError as error:
            self._note(events)
            text = f"the connection to the camera broke: {error.strerror or error}"
            events += self._over(now_ns, SessionEnded(text, cause=Cause.NETWORK))
        else:
            self._note(events)
        return events

    def close(self) -> None:
        session = self._session
        if session is not None and self._socket is not None:
            session.close()
            try:
                self._socket.send(self._unsent + session.outgoing())
            except OSError:
                pass  # it was a goodbye
        self._let_go()

    def may_wait(self) -> int:
        """TCP keeps what comes, as long as its buffer is far from full: else the camera would be told to stop sending.

        UDP throws away what its buffer does not hold, and a dial should not be slowed down.
        """
        if not self._playing_ns or self._pair is not None:
            return 0
        return min(_REST_TURNS, self._buffer_bytes // _BUFFER_PART // max(self._turn_bytes, 1))

    def facts(self) -> dict[str, object]:
        """Counters over all connections, and what the present or last one agreed on."""
        session = self._session
        latest = dict(session.facts() if session is not None else self._last_facts)
        if session is not None:
            latest |= {key: latest[key] + count for key, count in self._before.items()}  # type: ignore[operator]
        else:
            latest |= self._before
        latest |= {
            "state": session.state.value
            if session is not None
            else "dialling"
            if self._dial is not None
            else "waiting",
            "transport": self._transport,
            "connections": self._connections,
            "reconnects": max(0, self._connections - 1),
            "camera_clock_offset_s": self._camera_clock_offset_s(latest),
        }
        return latest

    # -- connecting -------------------------------------------------------------------------------------

    def _connected(self, now_ns: int) -> bool:
        """Whether there is a session now; takes one more step towards it."""
        if self._dial is None:
            self._dial = Dial(self._target, self._names, self._tls, now_ns)
        connection = self._dial.step(now_ns)
        if connection is None:
            return False
        host, self._dial = self._dial.host, None
        self._socket, self._peer = connection, connection.getpeername()
        self._is_tls = self._target.lower().startswith("rtsps:")
        self._connections += 1
        client_port = 0
        if self._transport == "udp":
            self._pair = udp_pair(connection.family)
            client_port = self._pair[0].getsockname()[1]
        is_same_host = host == urlsplit(self._url).hostname
        self._session = Session(
            self._target,
            self._arena,
            # A camera that sends us elsewhere does not decide who else learns its password.
            credentials=self._login if is_same_host else None,
            transport=self._transport,
            client_port=client_port,
            stall_s=self._stall_s,
            label=self._label,
            learned=self._learned,
            joins=self._joins,
        )
        self._session.start(now_ns)
        return True

    def _let_go(self) -> None:
        for each in (self._dial, self._socket, *(self._pair or ())):
            if each is not None:
                each.close()
        self._dial = self._socket = self._pair = self._session = None
        self._unsent, self._hosts, self._playing_ns = b"", frozenset(), 0

    def _over(self, now_ns: int, ended: SessionEnded) -> list[StreamEvent]:
        """Let go of the connection, decide when and how to try again, and say what happened if that is news."""
        session = self._session
        if session is not None:
            self._last_facts = session.facts()
            for key in _COUNTERS:
                self._before[key] += self._last_facts[key]  # type: ignore[assignment, operator]
        played_ns = now_ns - self._playing_ns if self._playing_ns else 0
        self._let_go()
        self._decide(now_ns, ended, played_ns)
        detail = str(ended)
        if ended.again is Again.NEVER_AS_IS and self._user and "refused user" in detail:
            detail = f"the camera refuses user {self._user}"
        if ended.hint and ended.again is Again.NEVER_AS_IS:
            detail = f"{detail}. {ended.hint}"
        news = (ended.cause, detail)
        if not self._has_run and news == self._told:
            return []
        self._has_run, self._told = False, news
        return [RunEnded(ended.cause, detail)]

    def _decide(self, now_ns: int, ended: SessionEnded, played_ns: int) -> None:
        target, redirects, self._target, self._redirects = self._target, self._redirects, self._url, 0
        had_second_try, self._had_second_try = self._had_second_try, False
        if ended.again is Again.NOW and not had_second_try:
            self._had_second_try, self._target, self._redirects = True, target, redirects
            self._next_ns = now_ns
        elif ended.again is Again.ELSEWHERE and redirects < _REDIRECTS:
            self._target, self._redirects = ended.url, redirects + 1
            self._next_ns = now_ns
        elif ended.again is Again.OTHER_TRANSPORT and len(self._choices) > 1:
            is_first = self._transport == self._choices[0]
            self._transport = self._choices[1] if is_first else self._choices[0]
            # Once around without waiting, then with.
            self._next_ns = now_ns if is_first else self._backoff.next_ns(now_ns, played_ns=played_ns)
        else:
            self._next_ns = self._backoff.next_ns(now_ns, played_ns=played_ns, is_slow=ended.again is Again.NEVER_AS_IS)

    # -- one turn ---------------------------------------------------------------------------------------

    def _turn(self, now_ns: int, events: list[StreamEvent]) -> None:
        session = self._session
        assert session is not None
        self._receive(session, now_ns, events)
        if self._pair is not None:
            self._receive_datagrams(session, now_ns, events)
        if self._pair is not None or not self._playing_ns or now_ns - self._ticked_ns >= _TICK_NS:
            self._ticked_ns = now_ns
            assert self._socket is not None
            self._buffer_bytes = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
            self._turn_bytes = self._turn_bytes * 7 // 8
            events += session.tick(now_ns)
            if not self._playing_ns and session.state is State.PLAYING:
                self._playing_ns = now_ns
            self._send(session)

    def _receive(self, session: Session, now_ns: int, events: list[StreamEvent]) -> None:
        connection, taken_bytes = self._socket, 0
        assert connection is not None
        while taken_bytes < _TURN_BYTES and len(events) < _TURN_EVENTS:
            room = session.room(self._expected_bytes)
            try:
                size_bytes = connection.recv_into(room)
            except BlockingIOError:
                break
            except OSError as error:
                if self._is_tls and _is_waiting(error):
                    break
                raise
            if size_bytes == 0:
                session.closed_by_peer()
            events += session.received(size_bytes, now_ns)
            taken_bytes += size_bytes
            # Less than there was room for: the socket is empty, and asking again would cost a system call. TLS
            # gives one record at a time and must be asked.
            if size_bytes < len(room) and not self._is_tls:
                break
        turns = max((now_ns - self._drained_ns + TURN_NS // 2) // TURN_NS, 1)
        self._drained_ns = now_ns
        self._turn_bytes = max(self._turn_bytes, taken_bytes // turns)
        # A socket that is emptied by one call saves a second one, and all that follows from it.
        self._expected_bytes = min(max(taken_bytes * 9 // 8, LEAST_ROOM_BYTES), BUFFER_BYTES // 2)

    def _receive_datagrams(self, session: Session, now_ns: int, events: list[StreamEvent]) -> None:
        assert self._pair is not None
        media, control = self._pair
        if not self._hosts:
            if session.peer_ports is None:
                return  # before SETUP is answered nobody has anything to send
            self._hosts = frozenset((self._peer[0], session.peer_host)) - {""}
            self._packed_hosts = _packed(media.family, self._hosts) if receive_datagrams is not None else ()
            self._send_datagram(media, _OPENING, session.peer_ports[0])
        for _ in range(_TURN_DATAGRAMS // DATAGRAMS if self._packed_hosts else 0):
            if len(self._many_datagrams(session, media, now_ns, events)) < DATAGRAMS:
                break
        for _ in range(_TURN_DATAGRAMS if not self._packed_hosts else 0):
            room = session.datagram_room()
            try:
                size_bytes, sender = media.recvfrom_into(room)
            except BlockingIOError:
                break
            except ConnectionRefusedError:
                continue  # the answer to what we sent to a port that is closed: nobody minds
            if sender[0] in self._hosts:
                events += session.datagram(size_bytes, now_ns)
        for _ in range(16):
            try:
                data, sender = control.recvfrom(2048)
            except BlockingIOError:
                break
            except ConnectionRefusedError:
                continue
            if sender[0] in self._hosts:
                events += session.control_datagram(data, now_ns)
        for report in session.outgoing_control():
            if session.peer_ports is not None:
                self._send_datagram(control, report, session.peer_ports[1])
        is_overdue = self._playing_ns and now_ns - self._playing_ns > _UDP_WAIT_NS
        if is_overdue and len(self._choices) > 1 and session.facts()["packets"] == 0:
            raise SessionEnded(
                "no UDP packet arrived for 5 s; a firewall may drop them",
                cause=Cause.NETWORK,
                again=Again.OTHER_TRANSPORT,
            )

    def _many_datagrams(
        self, session: Session, media: socket.socket, now_ns: int, events: list[StreamEvent]
    ) -> list[int]:
        """Take what is there by one system call; sizes as receive_datagrams() gives them."""
        assert receive_datagrams is not None
        buffer, start = session.datagrams_room()
        try:
            end = start + DATAGRAMS * DATAGRAM_SLOT_BYTES
            sizes_bytes = receive_datagrams(
                media.fileno(), memoryview(buffer)[:end], start, DATAGRAM_SLOT_BYTES, self._packed_hosts
            )
        except BlockingIOError:
            return []
        except ConnectionRefusedError:  # the answer to what we sent to a port that is closed: nobody minds
            return [0] * DATAGRAMS
        if -2 in sizes_bytes:  # what was cut off is lost; the next ones are not
            self._packed_hosts = ()
        events += session.datagrams(sizes_bytes, now_ns)
        return sizes_bytes

    def _send_datagram(self, sender: socket.socket, data: bytes, port: int) -> None:
        try:
            sender.sendto(data, (self._peer[0], port, *self._peer[2:]))
        except OSError:
            pass  # reports may get lost; a dead camera is noticed by its silence

    def _send(self, session: Session) -> None:
        self._unsent += session.outgoing()
        if not self._unsent:
            return
        assert self._socket is not None
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError as error:
            if not (self._is_tls and _is_waiting(error)):
                raise
        if len(self._unsent) > _UNSENT_BYTES:
            raise SessionEnded(f"the camera left {len(self._unsent)} bytes of ours unread", cause=Cause.CAMERA)

    def _note(self, events: list[StreamEvent]) -> None:
        """Remember whether a run is open, and that its start made old reasons old."""
        for event in events:
            if type(event) is AccessUnits or type(event) is AccessUnit:
                continue
            if isinstance(event, RunStarted):
                self._has_run, self._told = True, None
            elif isinstance(event, RunEnded):
                self._has_run, self._told = False, (event.cause, event.detail)

    def _camera_clock_offset_s(self, facts: dict[str, object]) -> float | None:
        """By how much the camera's clock is ahead of ours, from its last sender report; None when it never said."""
        wall_ns, arrival_ns = facts.get("camera_wall_ns"), facts.get("camera_wall_arrival_ns")
        if not isinstance(wall_ns, int) or not isinstance(arrival_ns, int) or not wall_ns:
            return None
        reading = self._clock.read()
        return round((wall_ns - (reading.wall_ns - (reading.mono_ns - arrival_ns))) / _NS, 3)


def _packed(family: int, hosts: frozenset[str]) -> tuple[bytes, ...]:
    packed = []
    for host in hosts:
        with contextlib.suppress(OSError):  # a name, or an address of the other family: nothing comes from there
            packed.append(socket.inet_pton(family, host.partition("%")[0]))
    return tuple(packed)


def _transports(wanted: str, *, is_tls: bool) -> tuple[str, ...]:
    if wanted not in ("auto", "tcp", "udp"):
        raise BadRtsp(f"there is no transport {wanted!r}", hint="Use auto, tcp or udp.")
    if is_tls:
        if wanted == "udp":
            raise BadRtsp(
                "rtsps and UDP do not go together: media by UDP would travel in the clear", hint="Use tcp or auto."
            )
        return ("tcp",)
    return ("tcp", "udp") if wanted == "auto" else (wanted,)


def _is_waiting(error: OSError) -> bool:
    import ssl

    return isinstance(error, (ssl.SSLWantReadError, ssl.SSLWantWriteError))
