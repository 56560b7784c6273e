"""One connection to one camera, from OPTIONS to TEARDOWN, without sockets and without a clock.

    start -> OPTIONS -> DESCRIBE -> SETUP -> PLAY -> playing: keep-alives, receiver reports -> TEARDOWN

Here are the bytes: packets and messages told apart, garbage skipped, pictures made into events, silence noticed. What is said is
in conversation.py. The caller receives into room(), tells received() how much came, sends what outgoing() gives, and calls tick() at every
drain. What the session decides is in docs/architecture.md, "RTSP without I/O". Whatever a camera sends, calls return events or
raise SessionEnded.
"""

from __future__ import annotations

import random
import struct

from nvr.arena import LEAST_ROOM_BYTES, Arena
from nvr.media import Cause, ParameterSets, StreamEvent
from nvr.rtsp import messages, rtcp
from nvr.rtsp.conversation import Again, Conversation, SessionEnded, State
from nvr.rtsp.digest import Credentials
from nvr.rtsp.messages import BadRtsp
from nvr.rtsp.reorder import Place, ReorderWindow
from nvr.rtsp.rtp import Walker
from nvr.rtsp.run import Learned, Runs

__all__ = ["Again", "Learned", "Session", "SessionEnded", "State"]

KEYFRAME_WAIT_S = 30  # the longest keyframe interval that cameras offer by default is 10 s
GARBAGE_LIMIT_BYTES = 1 << 20  # between two good packets
DATAGRAM_BYTES = 65_536
# What comes over Ethernet has at most 1500 bytes. Many at once are received into slots; larger ones only one by one.
DATAGRAM_SLOT_BYTES, DATAGRAMS = 2048, 64
_NS = 1_000_000_000
_DOLLAR = 0x24
_FRAME_HEAD = struct.Struct(">BBHBB").unpack_from


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
        learned: Learned | None = None,
        joins: bool = False,
    ) -> None:
        """`url` may hold a user and password; they are not sent. Raises BadRtsp when it is not an RTSP url.

        `learned` is what earlier sessions of this camera found out; this one adds to it. `joins`: pictures come as
        `AccessUnits` where they can.
        """
        self._is_udp = transport == "udp"
        self._talk = Conversation(url, credentials, is_udp=self._is_udp, client_port=client_port, answer_s=answer_s)
        self._learned = learned or Learned()
        self.runs = Runs(ParameterSets((), ()), "", self._learned)
        self._stall_ns = int(stall_s * _NS)
        self._stall_s = stall_s
        self._label = label
        self._arena = arena
        self._carry = b""  # what of the last receive was incomplete
        self._out_control: list[bytes] = []
        self._end: SessionEnded | None = None  # to be raised by the next call
        self._joins = joins
        self._walker = Walker(0, -1, -1)
        self._other_packets = 0  # of the walker, when its control packets were taken
        self._is_set_up = False  # the walker is that of the camera's stream
        self._control_channel = 1
        self._reorder = ReorderWindow()
        self._reception = rtcp.Reception(random.getrandbits(32))
        self._garbage = self._garbage_in_a_row = 0
        self._received_bytes = 0
        self._now_ns = self._report_ns = 0
        self._last_bytes_ns = self._last_picture_ns = 0
        self._bye_ns = 0
        self._bye_packets = 0
        self._asked_for_keyframe = False

    # -- what the source calls ------------------------------------------------------------------------

    @property
    def state(self) -> State:
        return self._talk.state

    @property
    def peer_ports(self) -> tuple[int, int] | None:
        """UDP: the camera's ports for RTP and RTCP, once it has told them."""
        agreed = self._talk.agreed
        return agreed.server_ports if agreed is not None and self._is_udp else None

    @property
    def peer_host(self) -> str:
        """UDP: where the camera sends from, when it is not the host that was asked."""
        agreed = self._talk.agreed
        return agreed.source if agreed is not None and self._is_udp else ""

    def start(self, now_ns: int) -> None:
        """The connection is there: say the first word."""
        self._now_ns = self._last_bytes_ns = now_ns
        self._talk.start(now_ns)

    def outgoing(self) -> bytes:
        """What is to be sent on the connection, once."""
        return self._talk.outgoing()

    def outgoing_control(self) -> list[bytes]:
        """RTCP datagrams to be sent to the camera's control port, once."""
        out, self._out_control = self._out_control, []
        return out

    def room(self, at_least: int = LEAST_ROOM_BYTES) -> memoryview:
        """Where to receive from the connection; at least so many bytes."""
        return self._arena.room(self._carry, at_least)

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
                error
                if isinstance(error, SessionEnded)
                else self._talk.ended(str(error), Cause.CAMERA, hint=error.hint)
            )
            # Pictures that came before the end are delivered first; the next call says that it is over.
            events = self._events()
            if not events:
                raise end_error from None
            self._end = end_error
            return events
        self._carry = bytes(memoryview(buffer)[at:end]) if at < end else b""
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

    def datagrams_room(self) -> tuple[bytearray, int]:
        """(buffer, start) where to receive many RTP datagrams, each in a slot of DATAGRAM_SLOT_BYTES."""
        self._arena.room(at_least=DATAGRAMS * DATAGRAM_SLOT_BYTES)
        return self._arena.buffer, self._arena.used

    def datagrams(self, sizes_bytes: list[int], now_ns: int) -> list[StreamEvent]:
        """In the first slots of datagrams_room() lie RTP datagrams of these sizes; below 12 bytes it is none."""
        arena, reorder = self._arena, self._reorder
        buffer, start = arena.buffer, arena.used
        arena.took(len(sizes_bytes) * DATAGRAM_SLOT_BYTES)
        self._now_ns = now_ns
        at = 0
        while at < len(sizes_bytes):
            # Almost all come in order, and are taken by one call.
            taken = self._walker.datagrams(buffer, start, DATAGRAM_SLOT_BYTES, sizes_bytes, at, reorder.due, now_ns)
            if taken:
                reorder.took(taken)
            else:
                taken, size_bytes = 1, sizes_bytes[at]
                if size_bytes >= 12:
                    seq = buffer[start + 2] << 8 | buffer[start + 3]
                    self._walk_places(reorder.push(seq, (buffer, start, start + size_bytes, now_ns)))
            for size_bytes in sizes_bytes[at : at + taken]:
                if size_bytes >= 12:
                    self._last_bytes_ns = now_ns
                    self._received_bytes += size_bytes
            at += taken
            start += taken * DATAGRAM_SLOT_BYTES
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
        raise self._talk.closed()

    def close(self) -> None:
        """Queue a goodbye, if there is anything to say goodbye to. No answer is waited for."""
        self._talk.goodbye()

    def tick(self, now_ns: int) -> list[StreamEvent]:
        """What time brings: keep-alives, reports, timeouts, datagrams waited for in vain. Raises SessionEnded."""
        self._now_ns = now_ns
        if self._end is not None:
            raise self._end
        self._talk.tick(now_ns)
        if self._talk.state is not State.PLAYING:
            return []
        self._walk_places(self._reorder.expire(now_ns))
        events = self._events()
        if now_ns - self._report_ns >= rtcp.REPORT_EVERY_NS:
            self._send_report()
        self._check_silence()
        if (
            not self.runs.is_running
            and not self._asked_for_keyframe
            and now_ns - self._talk.playing_ns > KEYFRAME_WAIT_S * _NS
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
            "server": self._talk.server,
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
            "keep_alive": self._talk.keepalive_method,
            "timeout_s": self._talk.timeout_s,
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
                self._talk.message(message, self._now_ns)
                self._look_at_agreement()
                continue
            at, is_waiting = self._resync(buffer, at, end)
            if is_waiting:
                break
        if self._walker.other_packets != self._other_packets:
            self._other_packets = self._walker.other_packets
            for _, packet in self._walker.take_control():
                self._control(packet)
        return at

    def _look_at_agreement(self) -> None:
        """Something was said: perhaps what will come is known now, or has changed."""
        talk = self._talk
        if talk.announced is not None:
            self.runs.offer(talk.announced)
            talk.announced = None
        if self._is_set_up or talk.agreed is None or talk.video is None:
            return
        self._is_set_up = True
        channel, self._control_channel = (-1, -1) if self._is_udp else talk.agreed.channels or (0, 1)
        self._walker = Walker(talk.video.payload_type, channel, self._control_channel, self._joins)
        self._other_packets = 0
        detail = f"rtsp/{'udp' if self._is_udp else 'tcp'}" + (f", {talk.server}" if talk.server else "")
        self.runs = Runs(talk.video.parameter_sets, detail, self._learned)

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
        if channel == self._control_channel - 1 and self._talk.video is not None:
            return second & 0x7F == self._talk.video.payload_type
        return True

    def _walk_places(self, places: list[Place]) -> None:
        for buffer, start, end, arrival_ns in places:
            self._walker.packet(buffer, start, end, arrival_ns)

    def _events(self) -> list[StreamEvent]:
        pictures = self._walker.take()
        if not pictures:
            return []
        self._last_picture_ns = self._now_ns
        last = pictures[-1]
        if len(last) == 4:
            self._reception.picture(last[1][-1], last[3])
        else:
            self._reception.picture(last[1], last[5])
        return self.runs.push_all(pictures)

    def _control(self, data: bytes) -> None:
        for report in rtcp.parse(data):
            if isinstance(report, rtcp.SenderReport):
                if self._walker.ssrc in (-1, report.ssrc):
                    self.runs.clock.learn(report, self._now_ns)
            elif self._walker.ssrc in report.ssrcs and not self._bye_ns:
                self._bye_ns, self._bye_packets = self._now_ns, self._walker.packets

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
            self._talk.put_between(struct.pack(">BBH", _DOLLAR, self._control_channel, len(report)) + report)

    def _check_silence(self) -> None:
        now_ns = self._now_ns
        if self._bye_ns and now_ns - self._bye_ns > _NS:
            if self._walker.packets == self._bye_packets:
                raise self._talk.ended("the camera ended the stream (RTCP BYE)", Cause.CAMERA)
            self._bye_ns = 0  # it did not mean it
        since_ns = max(self._last_picture_ns, self._talk.playing_ns)
        silent_ns = now_ns - since_ns
        if silent_ns > self._stall_ns:
            seconds = f"{self._stall_s:g} s"
            if self._is_udp and self._walker.packets == 0:
                raise self._talk.ended(
                    f"no UDP packet arrived for {seconds}; a firewall may drop them",
                    Cause.NETWORK,
                    Again.OTHER_TRANSPORT,
                )
            # Asked at half of the time at the latest, unless it had answered in the second quarter.
            if self._last_bytes_ns - since_ns > self._stall_ns // 4:
                raise self._talk.ended(f"no access unit for {seconds}, but the camera answers", Cause.CAMERA)
            raise self._talk.ended(f"nothing arrived for {seconds}", Cause.NETWORK)
        if silent_ns > self._stall_ns // 2 and now_ns - self._talk.keepalive_ns > self._stall_ns // 2:
            self._talk.keep_alive(now_ns)  # an answer tells a dead camera from a dead link
