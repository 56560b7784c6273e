"""H.264 access units to frames, and films to and from files: the only file here that imports PyAV.

One thread for each decoder, so that frames come out at the same calls every time. FFmpeg's own attempts to repair a
damaged picture are not shown to anybody: a picture that is not whole is counted and left out.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from nvr.errors import NvrError
from nvr.media import AccessUnit, RunStarted

Pixels = NDArray[np.uint8]

MAX_PIXELS = 4096 * 3072  # 12 Mpixel cameras exist; a damaged SPS can ask for a hundred times as much memory
_START_CODE = b"\0\0\0\1"
_NS = Fraction(1, 1_000_000_000)


class CannotDecode(NvrError):
    """The stream as a whole cannot be decoded; single damaged pictures never raise."""


class Frame:
    """One decoded picture. What is asked for is made once; nobody may write into it."""

    __slots__ = ("_picture", "_rgb", "at_ns", "height", "is_keyframe", "width")

    def __init__(self, picture: av.VideoFrame) -> None:
        self._picture = picture
        self._rgb: Pixels | None = None
        self.at_ns = int(picture.pts or 0)  # media time when it is shown
        self.width: int = picture.width
        self.height: int = picture.height
        self.is_keyframe = bool(picture.key_frame)

    @property
    def luma(self) -> Pixels:
        """Height x width, as the camera sent it: usually 16 to 235. A view of the decoder's memory."""
        plane = self._picture.planes[0]
        return np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: self.height, : self.width]

    @property
    def rgb(self) -> Pixels:
        """Height x width x 3."""
        if self._rgb is None:
            self._rgb = np.asarray(self._picture.to_ndarray(format="rgb24"), np.uint8)
        return self._rgb


def resized(rgb: Pixels, width: int, height: int) -> Pixels:
    """`rgb` (rows x columns x 3) at another size, bilinear."""
    if rgb.shape[:2] == (height, width):
        return rgb
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
    return np.asarray(picture.reformat(width, height, "rgb24", interpolation="BILINEAR").to_ndarray(), np.uint8)


class Decoder:
    """One run of one stream."""

    def __init__(self, started: RunStarted) -> None:
        """Raises CannotDecode for a picture size that no camera has."""
        if not 0 < started.width * started.height <= MAX_PIXELS:
            raise CannotDecode(
                f"pictures of {started.width} x {started.height} are not looked at, {MAX_PIXELS} pixels at most",
                hint="Give detection a smaller stream: `small:` in the site file.",
            )
        sets = started.parameter_sets
        self._head = b"".join(_START_CODE + unit for unit in (*sets.sps, *sets.pps))
        self._context: Any = av.CodecContext.create("h264", "r")
        self._context.thread_count = 1
        self._context.thread_type = "NONE"
        self._context.options = {"max_pixels": str(MAX_PIXELS)}
        self.damaged = 0  # access units that were refused, or came out damaged
        self._needs_head = True

    def decode(self, unit: AccessUnit, shown_ns: int) -> list[Frame]:
        """Frames that are ready after this one, in the order they are shown; often of earlier access units (B-frames).

        Access units are given in decoding order from a keyframe on; ones that no other needs may be left out.
        """
        data = annex_b(unit)
        if not data:  # to the decoder an empty packet is the end of the stream
            self.damaged += 1
            return []
        # Once; and again where a damaged picture may have brought damaged parameter sets. FFmpeg takes them for the
        # beginning of another sequence, and would leave out pictures that are shown before the keyframe.
        if self._needs_head and unit.is_keyframe:
            data = self._head + data
            self._needs_head = False
        packet = av.Packet(data)
        packet.pts = shown_ns
        packet.time_base = _NS
        packet.is_keyframe = unit.is_keyframe
        return self._frames(packet)

    def drain(self) -> list[Frame]:
        """What it still holds; nothing can be decoded afterwards."""
        return self._frames(None)

    def _frames(self, packet: av.Packet | None) -> list[Frame]:
        try:
            pictures = self._context.decode(packet)
        except (av.FFmpegError, ValueError, OverflowError):
            self.damaged += 1
            self._needs_head = True
            return []
        frames = []
        for picture in pictures:
            if picture.is_corrupt or not picture.width or picture.pts is None:
                self.damaged += 1
            else:
                frames.append(Frame(picture))
        return frames


def annex_b(unit: AccessUnit) -> bytes:
    """The access unit as a byte stream (H.264 annex B): lengths become start codes. What is behind a wrong length is left out."""
    views = unit.payload.views()
    data = bytearray(views[0] if len(views) == 1 else b"".join(views))
    place, end = 0, len(data)
    while place + 4 < end:
        size = int.from_bytes(data[place : place + 4], "big")
        if size == 0 or place + 4 + size > end:
            del data[place:]
            break
        data[place : place + 4] = _START_CODE
        place += 4 + size
    return bytes(data)


def jpeg(rgb: Pixels, coarseness: int = 3) -> bytes:
    """`rgb` as a JPEG: of good quality, some 30 kB for 640 x 360; a third of that with a coarseness of 12. Sizes are made even."""
    height, width = rgb.shape[0] & ~1, rgb.shape[1] & ~1
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb[:height, :width]), format="rgb24")
    context: Any = av.CodecContext.create("mjpeg", "w")
    context.width, context.height, context.pix_fmt = width, height, "yuvj420p"
    context.time_base = _NS
    context.thread_count = 1
    context.options = {"qmin": str(coarseness), "qmax": str(coarseness)}
    # JPEG means full range; without saying so, blacks come out grey.
    picture = picture.reformat(format="yuvj420p", dst_colorspace="ITU601", dst_color_range="JPEG")
    picture.pts, picture.time_base = 0, _NS
    return b"".join(bytes(packet) for packet in (*context.encode(picture), *context.encode(None)))


# -- films -------------------------------------------------------------------------------------------


class NoFilm(NvrError):
    """A file that cannot be opened as a film, or holds no H.264."""


def as_mp4(path: Path, mp4_path: Path) -> None:
    """Put the H.264 of a file of another kind (Matroska, AVI, MPEG-TS) into `mp4_path`, pictures as they are. Raises NoFilm."""
    try:
        with av.open(str(path)) as film, av.open(str(mp4_path), "w", format="mp4") as copy:
            stream = next(iter(film.streams.video), None)
            if stream is None or stream.codec_context.name != "h264":
                found = "no video" if stream is None else stream.codec_context.name
                raise NoFilm(
                    f"{path} holds {found}, H.264 is looked at",
                    hint="Encode it with `ffmpeg -i FILE -c:v libx264 other.mp4`.",
                )
            target = copy.add_stream_from_template(stream)
            packets: list[Any] = [packet for packet in film.demux(stream) if packet.size]
            known = [number for number, packet in enumerate(packets) if packet.dts is not None]
            if len(known) < 2:
                raise NoFilm(
                    f"{path} does not say when its pictures are shown", hint="Give a bare H.264 file and --fps."
                )
            # Matroska has no decoding times; FFmpeg works them out from the third picture or so on.
            step = max((packets[known[-1]].dts - packets[known[0]].dts) // (len(known) - 1), 1)
            for number, packet in enumerate(packets):
                if packet.dts is None:
                    packet.dts = packets[known[0]].dts - step * (known[0] - number)
                packet.stream = target
                copy.mux(packet)
    except (av.FFmpegError, ValueError) as error:
        raise NoFilm(
            f"{path} cannot be read as a film: {error}", hint="Give an MP4, a Matroska or a bare H.264 file."
        ) from None


class FilmWriter:
    """Frames into an H.264 file, at the times they were seen."""

    def __init__(self, path: Path) -> None:
        """Raises NoFilm."""
        try:
            self._film: Any = av.open(str(path), "w", format="mp4")
        except (av.FFmpegError, ValueError) as error:
            raise NoFilm(f"{path} cannot be written: {error}", hint="Name a file in a folder that is there.") from None
        self._stream: Any = None
        self._last_ms = -1

    def add(self, rgb: Pixels, at_ns: int) -> None:
        """One frame; even sizes, all alike."""
        height, width = rgb.shape[0] // 2 * 2, rgb.shape[1] // 2 * 2
        if self._stream is None:
            self._stream = self._film.add_stream("libx264", rate=25, options={"crf": "26", "preset": "veryfast"})
            self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
            self._stream.codec_context.time_base = Fraction(1, 1000)
            self._stream.codec_context.thread_count = 1
        if (self._stream.height, self._stream.width) != (height, width):
            rgb = resized(rgb, self._stream.width, self._stream.height)
            height, width = self._stream.height, self._stream.width
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb[:height, :width]), format="rgb24")
        picture.pts = max(at_ns // 1_000_000, self._last_ms + 1)
        picture.time_base = Fraction(1, 1000)
        self._last_ms = picture.pts
        self._film.mux(self._stream.encode(picture))

    def close(self) -> None:
        if self._stream is not None:
            self._film.mux(self._stream.encode(None))
        self._film.close()
