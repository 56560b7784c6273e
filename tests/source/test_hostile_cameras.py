"""Cameras that want to do harm, with real sockets: what one may cost the others, in pictures for each turn and in memory."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from rtsp.streams import PPS, SPS, Sender
from source_suite import CLOCK

from nvr.arena import Arena
from nvr.media import AccessUnit
from nvr.source.rtsp import Rtsp

SDP = b"v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:t\r\n"
TINY_KEYFRAME = bytes((0x65, 0x88)) + b"1234"


class HostileCamera:
    """Answers as a camera does, up to PLAY; then sends whatever `play` yields, as fast as it is taken."""

    def __init__(self, play: Callable[[], Iterator[bytes]]) -> None:
        self._play = play
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connection: socket.socket | None = None
        self.url = f"rtsp://127.0.0.1:{self._listener.getsockname()[1]}/x"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> HostileCamera:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        for each in (self._connection, self._listener):
            if each is not None:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()
        self._thread.join(5)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            self._connection, _ = self._listener.accept()
            asked = b""
            method = ""
            while method != "PLAY":
                while b"\r\n\r\n" not in asked:
                    if not (more := self._connection.recv(4096)):
                        return
                    asked += more
                head, _, asked = asked.partition(b"\r\n\r\n")
                lines = head.decode().split("\r\n")
                method = lines[0].split()[0]
                body = SDP if method == "DESCRIBE" else b""
                self._connection.sendall(
                    f"RTSP/1.0 200 OK\r\n{lines[1]}\r\nSession: 1\r\n"
                    f"{'Transport: RTP/AVP/TCP;interleaved=0-1' if method == 'SETUP' else 'X: y'}\r\n"
                    f"Content-Length: {len(body)}\r\n\r\n".encode()
                    + body
                )
            for data in self._play():
                self._connection.sendall(data)


def tiny_keyframes() -> Iterator[bytes]:
    sender = Sender()
    while True:
        yield b"".join(b"".join(sender.picture(SPS, PPS, TINY_KEYFRAME)) for _ in range(500))


def pictures_of_20_mb() -> Iterator[bytes]:
    sender = Sender()
    for number in itertools.count():
        yield b"".join(
            sender.picture(SPS, PPS, bytes((0x65, 0x88)) + bytes(100 if number % 2 else 20 << 20), size=60_000)
        )


@pytest.fixture
def source_of():
    made: list[Rtsp] = []

    def make(camera: HostileCamera, arena: Arena) -> Rtsp:
        made.append(Rtsp(camera.url, transport="tcp", arena=arena))
        return made[-1]

    yield make
    for source in made:
        source.close()


def test_a_camera_that_sends_tiny_pictures_as_fast_as_it_can_does_not_keep_the_others_waiting(source_of):
    """75,000 pictures of 80 bytes were within one turn's 6 MiB, each a fragment of its own: every camera waited 8 s."""
    with HostileCamera(tiny_keyframes) as camera:
        source = source_of(camera, Arena())
        most = total = 0
        end = time.monotonic() + 30
        while total < 20_000 and time.monotonic() < end:
            events = source.drain(CLOCK.mono_ns())
            most, total = max(most, len(events)), total + len(events)
            time.sleep(0.02)  # what it sends meanwhile waits in the socket
        assert total >= 20_000
        assert most < 5_000  # 256, and what a single receive brought


def test_pictures_of_20_mb_are_dropped_and_counted_and_the_memory_for_them_is_bounded(source_of):
    with HostileCamera(pictures_of_20_mb) as camera:
        arena = Arena()
        source = source_of(camera, arena)
        sizes: list[int] = []
        end = time.monotonic() + 30
        while source.facts().get("damaged_pictures", 0) < 3 and time.monotonic() < end:
            sizes += [
                event.payload.size_bytes for event in source.drain(CLOCK.mono_ns()) if isinstance(event, AccessUnit)
            ]
            assert sum(len(buffer) for buffer in arena._spent) <= (16 << 20) + (1 << 20)
        assert source.facts()["damaged_pictures"] >= 3
        assert sizes and max(sizes) < 200
