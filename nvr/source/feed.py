"""Access units from a process of their own, a *feeder*: how they travel, and the source that reads them.

A feeder holds the heavy library (picamera2, PyAV) and the camera; `record` starts it, and reads its messages from a
socket pair. A message is a header and a payload, big-endian:

     0  "NF"             2
     2  kind             1   1 start, 2 access unit, 3 stop
     3  is_keyframe      1
     4  payload bytes    4   at most MOST_BYTES
     8  decode ticks     8   from 0 at each start, strictly rising
    16  composition      4   ticks
    20  mono_ns          8   box clock when the access unit left the encoder

The payload of a start is JSON: sps, pps (hex), width, height, detail. Of an access unit: each NAL unit behind its length in
4 bytes, as it goes to disk. Of a stop: cause, detail. A payload is received into memory of its own and written from there.

The feeder ends when `record` is gone, because the socket ends; `record` notices its death in the same way.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from nvr.errors import NvrError
from nvr.gather import Gather
from nvr.media import AccessUnit, Cause, ParameterSets, RunEnded, RunStarted, StreamEvent
from nvr.source.backoff import Backoff

HEADER = struct.Struct(">2sBBIqiq")
START, UNIT, STOP = 1, 2, 3
MOST_BYTES = 16 << 20
_MAGIC = b"NF"
_NS = 1_000_000_000
_SOCKET_BYTES = 4 << 20  # what waits while `record` is busy: some seconds of one camera
_START_NS = 90 * _NS  # importing picamera2 or PyAV takes half a minute on the slowest boards, from a slow card
_TURN_UNITS = 1024  # so that one feeder that runs wild does not keep the other streams waiting


class BadFeed(NvrError):
    """The bytes from a feeder are not what a feeder writes."""


@dataclass(frozen=True, slots=True)
class Message:
    kind: int
    is_keyframe: bool
    decode_ticks: int
    composition_ticks: int
    mono_ns: int
    payload: bytearray


def pair() -> tuple[socket.socket, socket.socket]:
    """(for `record`, non-blocking; for the feeder)"""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    ours.setblocking(False)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BYTES)
    return ours, theirs


class Writer:
    """The feeder's end."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._poll = select.poll()
        self._poll.register(connection, select.POLLOUT)

    def has_room(self, wait_ms: int = 0) -> bool:
        """Whether `record` keeps up; otherwise the next call would wait for it, and the camera's buffers would run over."""
        return bool(self._poll.poll(wait_ms))

    def start(self, sets: ParameterSets, width: int, height: int, detail: str) -> None:
        """A run begins; its first access unit must be a keyframe with decode tick 0. Raises OSError when `record` is gone."""
        texts = {"sps": [each.hex() for each in sets.sps], "pps": [each.hex() for each in sets.pps]}
        self._send(START, json.dumps({**texts, "width": width, "height": height, "detail": detail}).encode())

    def unit(
        self,
        nal_units: Sequence[bytes | memoryview],
        *,
        decode_ticks: int,
        composition_ticks: int,
        mono_ns: int,
        is_keyframe: bool,
    ) -> None:
        """Send one picture. Raises OSError when `record` is gone."""
        parts: list[bytes | memoryview] = []
        for nal in nal_units:
            parts += (len(nal).to_bytes(4, "big"), nal)
        self._send(UNIT, b"".join(parts), is_keyframe, decode_ticks, composition_ticks, mono_ns)

    def stop(self, cause: Cause, detail: str) -> None:
        """The run, if there was one, is over, for this reason. Raises OSError when `record` is gone."""
        self._send(STOP, json.dumps({"cause": cause.value, "detail": detail}).encode())

    def _send(
        self,
        kind: int,
        payload: bytes,
        is_keyframe: bool = False,
        decode_ticks: int = 0,
        composition_ticks: int = 0,
        mono_ns: int = 0,
    ) -> None:
        header = HEADER.pack(_MAGIC, kind, is_keyframe, len(payload), decode_ticks, composition_ticks, mono_ns)
        sent = self._socket.sendmsg((header, payload))
        if sent < HEADER.size:
            self._socket.sendall(header[sent:])
            sent = HEADER.size
        if sent < HEADER.size + len(payload):
            self._socket.sendall(memoryview(payload)[sent - HEADER.size :])


class Reader:
    """`record`'s end: messages from a non-blocking socket, one system call for each."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._header = bytearray(HEADER.size)
        self._header_bytes = 0  # received of it
        self._payload: bytearray | None = None  # None: the header is not complete
        self._payload_bytes = 0
        self.has_ended = False  # the feeder is gone

    def read(self) -> Message | None:
        """The next whole message, or None: there is none now. Raises BadFeed; then the feeder must be ended."""
        header_bytes = HEADER.size
        while not self.has_ended:
            try:
                if self._payload is None:
                    got = self._socket.recv_into(memoryview(self._header)[self._header_bytes :])
                    self._header_bytes += got
                else:
                    # The header of the next message comes with the end of this payload.
                    rest = memoryview(self._payload)[self._payload_bytes :]
                    got = self._socket.recvmsg_into((rest, self._header))[0]
                    self._header_bytes = max(0, got - len(rest))
                    self._payload_bytes += got - self._header_bytes
            except BlockingIOError:
                return None
            except ConnectionError:
                got = 0
            if got == 0:
                self.has_ended = True
                return None
            done, message = self._payload is not None and self._payload_bytes == len(self._payload), None
            if done:
                message, self._payload = self._message(), None
            if self._payload is None and self._header_bytes == header_bytes:
                self._begin()
            if message is not None:
                return message
        return None

    def _begin(self) -> None:
        """The header is there. What it says is kept until its payload is."""
        self._fields = HEADER.unpack(self._header)
        magic, kind, _, size_bytes = self._fields[:4]
        if magic != _MAGIC or kind not in (START, UNIT, STOP) or not 0 < size_bytes <= MOST_BYTES:
            raise BadFeed(f"the feeder sent {bytes(self._header[:8]).hex()} where a message should begin")
        self._header_bytes, self._payload_bytes, self._payload = 0, 0, bytearray(size_bytes)

    def _message(self) -> Message:
        _, kind, is_keyframe, _, decode_ticks, composition_ticks, mono_ns = self._fields
        assert self._payload is not None
        return Message(kind, bool(is_keyframe), decode_ticks, composition_ticks, mono_ns, self._payload)


class Fed:
    """A source whose access units come from a feeder: starts it, watches it, starts it again."""

    def __init__(
        self,
        kind: str,
        options: dict[str, object],
        *,
        label: str = "",
        stall_s: float = 10.0,
        backoff: Backoff | None = None,
    ) -> None:
        """`kind` and `options` go to `nvr.source.feeder`. Nothing is started before the first drain."""
        self._kind, self._options, self._label = kind, options, label
        self._stall_ns = int(stall_s * _NS)
        self._backoff = backoff or Backoff()
        self._next_ns = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._ending: list[subprocess.Popen[bytes]] = []  # killed, and not yet waited for
        self._reader: Reader | None = None
        self._socket: socket.socket | None = None
        self._started_ns = self._heard_ns = self._run_ns = 0
        self._last_ticks = self._last_arrival_ns = -1
        self._has_run = False
        self._told: tuple[Cause, str] | None = None
        self._pictures = self._starts = self._runs = self._bytes = 0

    def drain(self, now_ns: int) -> Sequence[StreamEvent]:
        events: list[StreamEvent] = []
        self._ending = [each for each in self._ending if each.poll() is None]
        if self._reader is None:
            if now_ns < self._next_ns:
                return events
            try:
                self._start(now_ns)
            except OSError as error:  # no memory, no descriptor, no process left
                self._end(now_ns, events, f"the {self._kind} feeder cannot be started: {error.strerror or error}")
                return events
        reader = self._reader
        assert reader is not None
        try:
            for _ in range(_TURN_UNITS):
                message = reader.read()
                if message is None:
                    break
                self._take(message, now_ns, events)
        except (BadFeed, ValueError, KeyError, TypeError) as error:
            self._end(now_ns, events, f"the {self._kind} feeder sends nonsense: {error}")
            return events
        if reader.has_ended:
            self._end(now_ns, events, f"the {self._kind} feeder ended{self._how()}")
        elif now_ns - self._heard_ns > (self._stall_ns if self._has_run else _START_NS):
            seconds = (now_ns - self._heard_ns) // _NS
            self._end(now_ns, events, f"no access unit from the {self._kind} camera for {seconds} s")
        return events

    def close(self) -> None:
        """Ends the feeder; it is gone on return."""
        self._let_go()
        for process in self._ending:
            process.wait()
        self._ending = []

    def may_wait(self) -> int:
        return 1

    def facts(self) -> dict[str, object]:
        return {
            "transport": self._kind,
            "state": "playing" if self._has_run else "starting" if self._reader is not None else "waiting",
            "pictures": self._pictures, "bytes": self._bytes,
            "starts": self._starts, "reconnects": max(0, self._starts - 1), "runs": self._runs,
        }  # fmt: skip

    def _start(self, now_ns: int) -> None:
        self._socket, theirs = pair()
        command = [
            sys.executable,
            "-m",
            "nvr.source.feeder",
            self._kind,
            str(theirs.fileno()),
            json.dumps(self._options),
        ]
        with theirs:
            self._process = subprocess.Popen(
                command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
        self._reader = Reader(self._socket)
        self._started_ns = self._heard_ns = now_ns
        self._starts += 1

    def _take(self, message: Message, now_ns: int, events: list[StreamEvent]) -> None:
        self._heard_ns = now_ns
        if message.kind == UNIT:
            self._take_unit(message, now_ns, events)
            return
        said = json.loads(message.payload)
        if message.kind == STOP:
            self._stopped(Cause(said["cause"]), str(said["detail"]), events)
            return
        if self._has_run:
            self._stopped(Cause.CAMERA, "the camera changed its parameter sets", events)
        sets = ParameterSets(tuple(map(bytes.fromhex, said["sps"])), tuple(map(bytes.fromhex, said["pps"])))
        events.append(RunStarted(sets, int(said["width"]), int(said["height"]), str(said["detail"])))
        self._has_run, self._told, self._run_ns, self._last_ticks = True, None, now_ns, -1
        self._runs += 1

    def _take_unit(self, message: Message, now_ns: int, events: list[StreamEvent]) -> None:
        if not self._has_run:
            return  # what was still on its way when the run ended
        ticks = message.decode_ticks
        if (
            ticks <= self._last_ticks
            or (self._last_ticks < 0 and (ticks or not message.is_keyframe))
            or message.composition_ticks < 0
        ):
            raise BadFeed(f"tick {ticks} after tick {self._last_ticks}")
        # The feeder knows best when the picture came; it may not claim the future, nor go back.
        arrival_ns = max(min(message.mono_ns, now_ns), self._last_arrival_ns + 1)
        self._last_ticks, self._last_arrival_ns = ticks, arrival_ns
        payload = Gather()
        payload.append(memoryview(message.payload))
        self._pictures += 1
        self._bytes += len(message.payload)
        events.append(AccessUnit(payload, ticks, message.composition_ticks, arrival_ns, message.is_keyframe))

    def _stopped(self, cause: Cause, detail: str, events: list[StreamEvent]) -> None:
        if self._has_run or self._told != (cause, detail):
            events.append(RunEnded(cause, detail))
        self._has_run, self._told = False, (cause, detail)

    def _end(self, now_ns: int, events: list[StreamEvent], detail: str) -> None:
        # A feeder that could say why it ended has said it; its end is then no news.
        has_said = not self._has_run and self._told is not None and self._reader is not None and self._reader.has_ended
        if not has_said:
            self._stopped(Cause.CAMERA, detail, events)
        played_ns = now_ns - self._run_ns if self._run_ns else 0
        self._let_go()
        self._next_ns = self._backoff.next_ns(now_ns, played_ns=played_ns)

    def _how(self) -> str:
        status = self._process.poll() if self._process is not None else None
        if status is None:
            return ""
        return f" by signal {-status}" if status < 0 else f" with status {status}"

    def _let_go(self) -> None:
        if self._socket is not None:
            self._socket.close()
        if self._process is not None:
            self._process.kill()  # it holds a camera and nothing that could be damaged
            if self._process.poll() is None:
                self._ending.append(self._process)
        self._socket = self._reader = self._process = None
        self._has_run, self._run_ns = False, 0
