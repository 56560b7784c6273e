"""Cameras at the ribbon connector of a Raspberry Pi, through picamera2.

`PiCamera` is the source in `record`; `feed()` runs in the feeder and alone imports picamera2. It encodes with the board's encoder where
there is one (up to Pi 4, Zero 2) and with libx264 elsewhere.

One process can have the camera, and `detect` wants its small stream without costing `record` anything. So the feeder scales and encodes
both from one sensor and gives the small one to whoever connects to `small_socket`, one reader at a time: `PiCameraSmall`, in
`detect`, or in `record` where the small stream has a ring. A small reader that does not keep up loses pictures; the main stream never waits.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any

from nvr.arena import Arena
from nvr.h264 import BadH264
from nvr.media import TICKS_PER_S
from nvr.source.backoff import Backoff
from nvr.source.feed import Fed, Reader, Writer

_TICKS_PER_MS = TICKS_PER_S // 1000
_BOARD_ENCODER = "/dev/video11"  # bcm2835-codec; picamera2 knows it by this name only


class PiCamera(Fed):
    def __init__(
        self,
        number: int = 0,
        width: int = 1280,
        height: int = 720,
        fps: float = 25.0,
        rate_mbit: float = 2.0,
        small_size: tuple[int, int] | None = None,
        small_rate_mbit: float = 0.5,
        *,
        small_socket: str = "",
        arena: Arena | None = None,
        label: str = "",
        stall_s: float = 10.0,
        backoff: Backoff | None = None,
    ) -> None:
        """`number` as `rpicam-hello --list-cameras` counts; `small_size` and `small_socket`: a small stream is offered there."""
        options: dict[str, Any] = {
            "number": number,
            "width": width,
            "height": height,
            "fps": fps,
            "rate_mbit": rate_mbit,
        }
        if small_size is not None and small_socket:
            options |= {
                "small_size": list(small_size),
                "small_rate_mbit": small_rate_mbit,
                "small_socket": small_socket,
            }
        super().__init__("picamera", options, label=label, stall_s=stall_s, backoff=backoff)


class PiCameraSmall(Fed):
    """The small stream of a camera that `record` has: read from its feeder, not started here."""

    def __init__(
        self,
        number: int = 0,
        *,
        small_socket: str = "",
        arena: Arena | None = None,
        label: str = "",
        stall_s: float = 10.0,
        backoff: Backoff | None = None,
    ) -> None:
        super().__init__("picamera", {"number": number}, label=label, stall_s=stall_s, backoff=backoff)
        self._path = small_socket

    def _start(self, now_ns: int) -> None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)
        try:
            connection.connect(self._path)
        except OSError as error:
            connection.close()
            raise OSError(error.errno, "the recorder does not offer its small stream yet") from None
        self._socket, self._reader = connection, Reader(connection)
        self._started_ns = self._heard_ns = now_ns
        self._starts += 1


class SmallSide:
    """The feeder's offer of the small stream: the newest connection has it. Never waits, never raises."""

    def __init__(self, path: str, detail: str) -> None:
        """Raises OSError."""
        self._detail = detail
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # of a feeder that was killed
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        Path(path).chmod(0o600)
        self._listener.listen(1)
        self._listener.setblocking(False)
        self._connection: socket.socket | None = None
        self._pictures: Any = None

    def put(self, data: bytes, ticks: int) -> None:
        from nvr.source.pictures import Pictures

        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            pass
        else:
            self._let_go()
            self._connection = connection
            self._pictures = Pictures(Writer(connection), self._detail, wait_ms=0)
        if self._pictures is None:
            return
        try:
            self._pictures.put(data, ticks)
        except (OSError, BadH264):
            self._let_go()  # the reader is gone, and comes again

    def _let_go(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = self._pictures = None


def feed(options: dict[str, Any], writer: Writer) -> None:
    """Send the camera's pictures until the encoder fails. Raises OSError, RuntimeError (picamera2's own), IndexError."""
    from picamera2 import Picamera2
    from picamera2.encoders import H264Encoder, LibavH264Encoder
    from picamera2.outputs import Output

    from nvr.source.pictures import Pictures

    if options["number"] >= len(Picamera2.global_camera_info()):
        raise RuntimeError(
            f"there is no camera {options['number']}: {len(Picamera2.global_camera_info())} found; check the ribbon cable"
        )
    name = f"picamera {options['number']}"
    pictures = Pictures(writer, name)
    failed = threading.Event()
    failures: list[BaseException] = []

    class Feed(Output):  # type: ignore[misc]
        def __init__(self, put: Any) -> None:
            super().__init__()
            self._put = put

        def outputframe(
            self, frame: bytes, keyframe: bool = True, timestamp: int | None = None, *more: Any, **named: Any
        ) -> None:
            """Called in the encoder's thread, with microseconds since the first frame. Newer picamera2 passes more."""
            try:
                self._put(frame, (timestamp or 0) * _TICKS_PER_MS // 1000)
            except BaseException as error:
                failures.append(error)
                failed.set()

    small = None
    if "small_size" in options:
        try:
            small = SmallSide(options["small_socket"], f"{name}, small")
        except OSError as error:  # the main stream is recorded all the same
            print(f"{name}: no small stream: {options['small_socket']}: {error}", file=sys.stderr)
    camera = Picamera2(options["number"])
    frame_us = round(1_000_000 / options["fps"])
    sizes: dict[str, Any] = {"main": {"size": (options["width"], options["height"]), "format": "YUV420"}}
    if small is not None:
        sizes["lores"] = {"size": tuple(options["small_size"]), "format": "YUV420"}
    configuration = camera.create_video_configuration(**sizes, controls={"FrameDurationLimits": (frame_us, frame_us)})
    camera.configure(configuration)

    # picamera2 0.3.38 takes whatever is no Pi 5 for a board with an encoder, and then fails with "No such file or directory".
    kind = H264Encoder if os.path.exists(_BOARD_ENCODER) else LibavH264Encoder

    def encoder(rate_mbit: float) -> Any:
        # repeat: parameter sets before every keyframe. The stream needs them only once, but a lost first one would be final.
        return kind(bitrate=int(rate_mbit * 1_000_000), repeat=True, iperiod=max(1, round(options["fps"])))

    if small is not None:
        camera.start_encoder(encoder(options["small_rate_mbit"]), Feed(small.put), name="lores")
    camera.start_recording(encoder(options["rate_mbit"]), Feed(pictures.put))
    try:
        failed.wait()
    finally:
        camera.stop_recording()
        camera.close()
    raise failures[0]
