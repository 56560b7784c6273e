"""The stand-in's encoder; calls its output as picamera2's LibavH264Encoder does."""

from __future__ import annotations

import os
from fractions import Fraction


class LibavH264Encoder:
    def __init__(self, bitrate: int | None = None, repeat: bool = True, iperiod: int | None = None) -> None:
        assert repeat
        self._bitrate, self._iperiod = bitrate, iperiod
        self._copy = None

    def begin(self, configuration: dict, output, name: str) -> None:
        import av

        path = os.environ.get("PICAMERA2_STAND_IN_WRITES")
        self._copy = open(path if name == "main" else f"{path}.{name}", "wb") if path else None
        self._output = output
        self._size = configuration[name]["size"]
        self._encoder = av.CodecContext.create("libx264", "w")
        self._encoder.width, self._encoder.height = self._size
        self._encoder.pix_fmt, self._encoder.time_base = "yuv420p", Fraction(1, 1_000_000)
        self._encoder.bit_rate, self._encoder.gop_size = self._bitrate, self._iperiod
        self._encoder.options = {"preset": "ultrafast", "tune": "zerolatency"}

    def encode(self, number: int, timestamp_us: int) -> None:
        import av

        width, height = self._size
        frame = av.VideoFrame(width, height, "yuv420p")
        for plane, value in zip(frame.planes, (number * 3, 90, 170), strict=True):
            plane.update(bytes((value + at // plane.line_size) % 256 for at in range(0, plane.buffer_size)))
        frame.pts, frame.time_base = timestamp_us, Fraction(1, 1_000_000)
        for packet in self._encoder.encode(frame):
            if self._copy:
                self._copy.write(bytes(packet))
                self._copy.flush()
            self._output.outputframe(bytes(packet), packet.is_keyframe, timestamp=packet.pts, packet=packet)


class H264Encoder:
    """The board's: picamera2 gives this one wherever no Pi 5 is, and it opens its device when it starts."""

    def __init__(self, **options: object) -> None:
        pass

    def begin(self, configuration: dict, output, name: str) -> None:
        with open("/dev/video11", "rb+"):
            raise NotImplementedError
