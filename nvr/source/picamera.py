"""Cameras at the ribbon connector of a Raspberry Pi, through picamera2.

`PiCamera` is the source in `record`; `feed()` runs in the feeder and alone imports picamera2, whose `H264Encoder`
is the board's encoder where there is one (up to Pi 4, Zero 2) and libx264 elsewhere (Pi 5).
"""

from __future__ import annotations

import threading
from typing import Any

from nvr.arena import Arena
from nvr.media import TICKS_PER_S
from nvr.source.backoff import Backoff
from nvr.source.feed import Fed, Writer

_TICKS_PER_MS = TICKS_PER_S // 1000


class PiCamera(Fed):
    def __init__(
        self,
        number: int = 0,
        width: int = 1280,
        height: int = 720,
        fps: float = 25.0,
        rate_mbit: float = 2.0,
        *,
        arena: Arena | None = None,
        label: str = "",
        stall_s: float = 10.0,
        backoff: Backoff | None = None,
    ) -> None:
        """`number` as `rpicam-hello --list-cameras` counts."""
        options: dict[str, Any] = {
            "number": number,
            "width": width,
            "height": height,
            "fps": fps,
            "rate_mbit": rate_mbit,
        }
        super().__init__("picamera", options, label=label, stall_s=stall_s, backoff=backoff)


def feed(options: dict[str, Any], writer: Writer) -> None:
    """Send the camera's pictures until the encoder fails. Raises OSError, RuntimeError (picamera2's own), IndexError."""
    from picamera2 import Picamera2
    from picamera2.encoders import H264Encoder
    from picamera2.outputs import Output

    from nvr.source.pictures import Pictures

    if options["number"] >= len(Picamera2.global_camera_info()):
        raise RuntimeError(
            f"there is no camera {options['number']}: {len(Picamera2.global_camera_info())} found; check the ribbon cable"
        )
    pictures = Pictures(writer, f"picamera {options['number']}")
    failed = threading.Event()
    failures: list[BaseException] = []

    class Feed(Output):  # type: ignore[misc]
        def outputframe(
            self, frame: bytes, keyframe: bool = True, timestamp: int | None = None, *more: Any, **named: Any
        ) -> None:
            """Called in the encoder's thread, with microseconds since the first frame. Newer picamera2 passes more."""
            try:
                pictures.put(frame, (timestamp or 0) * _TICKS_PER_MS // 1000)
            except BaseException as error:
                failures.append(error)
                failed.set()

    camera = Picamera2(options["number"])
    frame_us = round(1_000_000 / options["fps"])
    configuration = camera.create_video_configuration(
        main={"size": (options["width"], options["height"]), "format": "YUV420"},
        controls={"FrameDurationLimits": (frame_us, frame_us)},
    )
    camera.configure(configuration)
    # repeat: parameter sets before every keyframe. The stream needs them only once, but a lost first one would be final.
    encoder = H264Encoder(
        bitrate=int(options["rate_mbit"] * 1_000_000), repeat=True, iperiod=max(1, round(options["fps"]))
    )
    camera.start_recording(encoder, Feed())
    try:
        failed.wait()
    finally:
        camera.stop_recording()
        camera.close()
    raise failures[0]
