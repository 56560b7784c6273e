"""Positions of new fragments, told to whoever listens on this box.

`record` announces; `web`, `detect` and `uplink` subscribe, and read the bytes from the segment files, which
are still in memory. A subscriber that falls behind loses its oldest messages and is told how many: it can
never make `record` wait. Each message is one JSON object in one SOCK_SEQPACKET packet; the kinds are listed
in docs/architecture.md.
"""

from __future__ import annotations

import json
import os
import socket
from collections import deque
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nvr.media import ClockState, FragmentRecord, Position

SOCKET_NAME = "announce.sock"
SEEN_SOCKET = "seen.sock"  # where `detect` announces what it sees, in the same way
QUEUE_LENGTH = 256  # 16 cameras for 16 s; more would only be older
LISTENERS_MAX = 64  # a box has three, and a page a few more; descriptors belong to cameras and segments first
_WELCOMES_MAX = 16  # in one turn: whoever connects without end must not keep the cameras waiting
MESSAGE_BYTES = 128 << 10  # a status of 64 streams is about 40 kB


def _address(run_dir: Path, name: str) -> tuple[str, int]:
    """An address for the socket that fits the 108 bytes of sun_path, however deep `run_dir` lies."""
    run_fd = os.open(run_dir, os.O_PATH | os.O_DIRECTORY)
    return f"/proc/self/fd/{run_fd}/{name}", run_fd


class _Listener:
    """One subscriber as the announcer sees it."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.waiting: deque[bytes] = deque()
        self.dropped = 0  # since it was told
        self.lost = 0  # ever

    def put(self, message: bytes) -> None:
        if len(self.waiting) == QUEUE_LENGTH:
            self.waiting.popleft()
            self.dropped += 1
            self.lost += 1
        self.waiting.append(message)

    def flush(self) -> bool:
        """Send what the socket takes; False when the other side is gone."""
        try:
            while self.waiting:
                if self.dropped:
                    self.connection.send(_encoded({"kind": "dropped", "messages": self.dropped}))
                    self.dropped = 0
                self.connection.send(self.waiting[0])
                self.waiting.popleft()
        except BlockingIOError:
            pass
        except OSError:
            self.connection.close()
            return False
        return True


def _encoded(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


class Announcer:
    """The announcing side; belongs to the one thread of `record`. `detect` has one of its own, under another name."""

    def __init__(self, run_dir: Path, name: str = SOCKET_NAME) -> None:
        """Listen in `run_dir`. A socket left behind by a dead recorder is replaced."""
        self._name = name
        self._socket = self._listening(run_dir)
        self._listeners: list[_Listener] = []
        self._status: dict[str, Any] | None = None

    def _listening(self, run_dir: Path) -> socket.socket:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        try:
            (run_dir / self._name).unlink(missing_ok=True)
            address, run_fd = _address(run_dir, self._name)
            try:
                listening.bind(address)
            finally:
                os.close(run_fd)
            listening.listen(16)
        except BaseException:
            listening.close()
            raise
        return listening

    def listen_again(self, run_dir: Path) -> None:
        """The disk with `run_dir` was away: newcomers look for us there. Who listens already goes on. Raises OSError."""
        self.welcome()
        before, self._socket = self._socket, self._listening(run_dir)
        before.close()

    @property
    def has_listeners(self) -> bool:
        return bool(self._listeners)

    def fragment(self, position: Position, record: FragmentRecord) -> None:
        if self._listeners:
            self._put(_encoded(fragment_message(position, record)))

    def durable(self, stream: str, sequence: int) -> None:
        if self._listeners:
            self._put(_encoded({"kind": "durable", "stream": stream, "sequence": sequence}))

    def tell(self, message: dict[str, Any]) -> None:
        """Any other message; encoded only where somebody listens."""
        if self._listeners:
            self._put(_encoded(message))

    def status(self, status: dict[str, Any]) -> None:
        """Tell the state of everything; a new subscriber gets the last one at once."""
        self._status = {"kind": "status", **status}
        if self._listeners:
            self._put(_encoded(self._status))

    def _put(self, message: bytes) -> None:
        for listener in self._listeners:
            listener.put(message)

    def flush(self) -> None:
        """Send what is waiting; never blocks."""
        if self._listeners:
            self._listeners = [listener for listener in self._listeners if listener.flush()]

    def welcome(self) -> None:
        """Take new subscribers, and tell them the last status; never blocks. A system call, so not in every turn.

        Where there are too many, whoever lost most messages makes room for the next.
        """
        for _ in range(_WELCOMES_MAX):
            try:
                connection, _ = self._socket.accept()
            except OSError:  # nobody is there; or there are no descriptors left, and they wait
                break
            connection.setblocking(False)
            listener = _Listener(connection)
            if self._status is not None:
                listener.put(_encoded(self._status))
            if len(self._listeners) == LISTENERS_MAX:
                last = max(self._listeners, key=lambda other: (other.lost, len(other.waiting)))
                last.connection.close()
                self._listeners.remove(last)
            self._listeners.append(listener)

    def close(self) -> None:
        for listener in self._listeners:
            listener.connection.close()
        self._socket.close()


class Subscriber:
    """The listening side, for any other process of the box."""

    def __init__(self, run_dir: Path, name: str = SOCKET_NAME) -> None:
        """Raises OSError while nobody is announcing there."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        address, run_fd = _address(run_dir, name)
        try:
            self._socket.connect(address)
        except OSError:
            self._socket.close()
            raise
        finally:
            os.close(run_fd)

    def fileno(self) -> int:
        return self._socket.fileno()

    def receive(self, timeout_s: float | None = None) -> dict[str, Any] | None:
        """The next message; None when `timeout_s` passed. Raises ConnectionError when the recorder is gone."""
        packet = self.packet(timeout_s)
        if packet is None:
            return None
        message: dict[str, Any] = json.loads(packet)
        return message

    def packet(self, timeout_s: float | None = None) -> bytes | None:
        """The same, still as JSON: for whoever passes it on, or does not need it."""
        self._socket.settimeout(timeout_s)
        try:
            packet = self._socket.recv(MESSAGE_BYTES)
        except (TimeoutError, BlockingIOError):
            return None
        if not packet:
            raise ConnectionResetError("the recorder closed its announcements")
        return packet

    def close(self) -> None:
        self._socket.close()


def fragment_message(position: Position, record: FragmentRecord) -> dict[str, Any]:
    """What is announced of a fragment, as JSON values: bytes become hexadecimal text."""
    fields = {
        name: value.hex() if isinstance(value, bytes) else value
        for name, value in ((name, getattr(record, name)) for name in FragmentRecord.__slots__)
    }
    return {"kind": "fragment", "position": asdict(position), "record": fields}


def fragment_of(message: dict[str, Any]) -> tuple[Position, FragmentRecord]:
    """The values behind a `fragment` message. Raises KeyError, TypeError or ValueError for anything else."""
    fields = dict(message["record"])
    for name in ("box_id", "boot_id", "previous_hash", "hash"):
        fields[name] = bytes.fromhex(fields[name])
    fields["clock_state"] = ClockState(fields["clock_state"])
    return Position(**message["position"]), FragmentRecord(**fields)
