"""Cameras at a USB port (V4L2): their own H.264 as it is, or what they send encoded here.

`Usb` is the source in `record`; `feed()` runs in the feeder and alone imports PyAV. Many cameras of 1080p and more
have an H.264 format; the others send Motion JPEG or raw frames, which cost an encoder: the board's
(`h264_v4l2m2m`) or libx264 in its cheapest setting.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from nvr.arena import Arena
from nvr.media import TICKS_PER_S
from nvr.source.backoff import Backoff
from nvr.source.feed import Fed, Writer

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

# In this order: nothing to encode; small on the bus, and full rate at full size; whatever the camera does at all.
_FORMATS = ("h264", "mjpeg", None)
_ENCODERS = ("h264_v4l2m2m", "libx264")
DAMAGED_MOST = 50  # two seconds: then it is started again


class Usb(Fed):
    def __init__(
        self,
        device: str,
        width: int = 1280,
        height: int = 720,
        fps: float = 25.0,
        rate_mbit: float = 2.0,
        *,
        arena: Arena | None = None,
        label: str = "",
        stall_s: float = 10.0,
        opens_as: str = "v4l2",
        backoff: Backoff | None = None,
    ) -> None:
        """`opens_as` is FFmpeg's input format; only tests, which have no camera, name another than v4l2."""
        options: dict[str, Any] = {
            "device": device, "width": width, "height": height, "fps": fps, "rate_mbit": rate_mbit, "opens_as": opens_as,
        }  # fmt: skip
        super().__init__("usb", options, label=label, stall_s=stall_s, backoff=backoff)


def feed(options: dict[str, Any], writer: Writer) -> None:
    """Send the camera's pictures until it ends. Raises OSError or ValueError, as FFmpeg's errors are."""
    from nvr.source.pictures import Pictures

    container = _opened(options)
    stream = container.streams.video[0]
    name = options["device"]
    if stream.codec_context.name == "h264":
        pictures = Pictures(writer, f"usb {name}, the camera's own H.264")
        for packet in container.demux(stream):
            if packet.size:
                shown = _ticks(packet.pts, packet.time_base)
                ticks = _ticks(packet.dts, packet.time_base) if packet.dts is not None else shown
                pictures.put(bytes(packet), ticks, shown - ticks)
        return
    _encode(container, options, writer)


def _opened(options: dict[str, Any]) -> InputContainer:
    import av

    failure: av.FFmpegError | None = None
    is_camera = options["opens_as"] == "v4l2"
    for format_name in _FORMATS if is_camera else (None,):
        wanted = {"video_size": f"{options['width']}x{options['height']}", "framerate": f"{options['fps']:g}"}
        if format_name:
            wanted["input_format"] = format_name
        try:
            return av.open(
                options["device"], format=options["opens_as"], options=wanted if is_camera else {}, timeout=(10.0, None)
            )
        except av.FFmpegError as error:
            # A format that the camera lacks is EINVAL, and EINVAL is a ValueError to PyAV, no OSError.
            failure = error
            if isinstance(error, (FileNotFoundError, PermissionError)):
                break
    assert failure is not None
    raise failure


def _encode(container: InputContainer, options: dict[str, Any], writer: Writer) -> None:
    from nvr.source.pictures import Pictures

    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    encoder: av.VideoCodecContext | None = None
    pictures: Pictures | None = None
    for frame in _decoded(container, stream):
        if encoder is None:
            encoder = _encoder(frame.width, frame.height, options)
            pictures = Pictures(
                writer, f"usb {options['device']}, {stream.codec_context.name} encoded by {encoder.name}"
            )
        ticks = _ticks(frame.pts, frame.time_base)
        frame = frame.reformat(format="yuv420p")
        frame.pts, frame.time_base = ticks, Fraction(1, TICKS_PER_S)
        frame.pict_type = 0  # as the decoder had it, every frame of Motion JPEG would become a keyframe
        assert pictures is not None
        for packet in encoder.encode(frame):
            pictures.put(bytes(packet), packet.pts if packet.pts is not None else ticks)


def _decoded(container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
    """The pictures that can be decoded. Cheap cameras tear one now and then, above all the first; raises what the decoder says of the DAMAGED_MOST-th in a row."""
    import av

    damaged = 0
    for packet in container.demux(stream):
        if not packet.size:
            continue  # a buffer that the driver called damaged; a decoder would take it for the end
        try:
            frames = stream.codec_context.decode(packet)
        except av.FFmpegError:
            damaged += 1
            if damaged >= DAMAGED_MOST:
                raise
            continue
        damaged = 0
        yield from frames


def _encoder(width: int, height: int, options: dict[str, Any]) -> av.VideoCodecContext:
    """The first encoder that opens; a keyframe every second, no B-frames, parameter sets in the stream."""
    import av

    failure: Exception | None = None
    for name in _ENCODERS:
        try:
            encoder = av.CodecContext.create(name, "w")
            assert isinstance(encoder, av.VideoCodecContext)
            encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
            encoder.time_base = Fraction(1, TICKS_PER_S)
            encoder.framerate = Fraction(options["fps"]).limit_denominator(1001)
            encoder.bit_rate = int(options["rate_mbit"] * 1_000_000)
            encoder.gop_size, encoder.max_b_frames = max(1, round(options["fps"])), 0
            if name == "libx264":
                encoder.options = {"preset": "ultrafast", "tune": "zerolatency", "sc_threshold": "0"}
            encoder.open()
            return encoder
        except (OSError, ValueError) as error:  # FFmpeg was built without it, or this board has none
            failure = error
    raise RuntimeError(f"no H.264 encoder works here: {failure}")


def _ticks(value: int | None, time_base: Fraction | None) -> int:
    """In 90 kHz; the present moment for a driver that does not stamp its pictures."""
    if value is None or time_base is None:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) * 9 // 100_000
    return int(value * time_base * TICKS_PER_S)
