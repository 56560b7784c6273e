"""A file played as if it were a camera: in its own time, n times as fast, or as fast as it goes.

Reads MP4 (progressive, fragmented, our own segments and clips) and raw H.264 byte streams (`.264`, `.h264`, `.jsv`), which have
no times of their own and need `fps`. The file is mapped, and what is handed on are views of the mapping: no
media byte is copied. Where lengths of NAL units are not 4 bytes long, the 4 bytes are pieces of their own.

The file must not get shorter while it plays: the kernel ends whoever reads a mapping behind the end of its file.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nvr import byte_stream, h264, parameter_sets
from nvr.errors import NvrError
from nvr.gather import Gather
from nvr.media import TICKS_PER_S, AccessUnit, Cause, ParameterSets, RunEnded, RunStarted, StreamEvent
from nvr.mp4file import Mp4File

BATCH_TICKS = 2 * TICKS_PER_S  # as fast as it goes: so much video in one drain, so that other streams get their turn
PAUSE_NS = 10_000_000_000  # nobody drained for so long (the machine slept): play on from where it was
LEFT_OUT_MAX = 500  # damaged pictures, and those before the first keyframe, that one drain passes over
DEFAULT_FPS = 25.0
MAX_UNIT_BYTES = 32 << 20  # no encoder makes such a picture; a file that has one is damaged

_MATROSKA = b"\x1a\x45\xdf\xa3"
_MP4_ATOMS = (b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide")


class BadReplay(NvrError):
    """The file cannot be played."""


@dataclass(frozen=True, slots=True)
class _Picture:
    payload: Gather
    units: tuple[memoryview, ...]
    decode_ticks: int
    composition_ticks: int
    duration_ticks: int  # until the next one; 0 when the file does not say


class Replay:
    """A source that plays one file; see the module. Nothing is opened before the first drain."""

    def __init__(
        self, path: str | os.PathLike[str], *, loop: bool, speed: float | None, fps: float | None = None
    ) -> None:
        """`speed` None is as fast as it goes. `fps` is for files without times and is ignored otherwise."""
        if speed is not None and not 0 < speed <= 1000:
            raise BadReplay(f"{path}: a speed of {speed} makes no sense", hint="Use 1.0, a number up to 1000, or max.")
        if fps is not None and not 0 < fps <= 1000:
            raise BadReplay(
                f"{path}: {fps} pictures a second make no sense", hint="Use the camera's own number, such as 25."
            )
        self._path = Path(path)
        self._loop = loop
        self._speed = speed
        self._fps = fps
        self._events: Iterator[tuple[int, StreamEvent | None]] = self._play()
        self._waiting: tuple[int, StreamEvent | None] | None = None  # ticks since the start when it is due, and what
        self._start_ns: int | None = None
        self._drained_ns = 0
        self._now_ns = 0
        self._size_bytes = 0
        self._fd = -1
        self._loops = self._pictures = self._damaged = 0
        self._played_ticks = 0
        self._ended = ""

    # -- Source --------------------------------------------------------------------------------------

    def drain(self, now_ns: int) -> Sequence[StreamEvent]:
        """Whatever is due by `now_ns`; see Source.drain. The last event of all is a RunEnded with is_final."""
        if self._start_ns is None:
            self._start_ns = now_ns
        elif now_ns - self._drained_ns > PAUSE_NS:
            self._start_ns += now_ns - self._drained_ns
        self._drained_ns = self._now_ns = now_ns
        if self._fd >= 0 and os.fstat(self._fd).st_size < self._size_bytes:
            self._waiting = None
            self._events = iter([(self._played_ticks, self._shrunk())])
        until_ticks: int | None = None
        if self._speed is not None:
            until_ticks = int((now_ns - self._start_ns) * self._speed) * 9 // 100_000
        found: list[StreamEvent] = []
        left_out = 0
        while left_out < LEFT_OUT_MAX:
            if self._waiting is None:
                self._waiting = next(self._events, None)
                if self._waiting is None:
                    break
            due_ticks, event = self._waiting
            if until_ticks is None:
                until_ticks = due_ticks + BATCH_TICKS
            if due_ticks > until_ticks:
                break
            self._waiting = None
            self._played_ticks = due_ticks
            if event is None:
                left_out += 1
                continue
            if isinstance(event, RunEnded):
                self._ended = event.detail
            found.append(event)
        return found

    def close(self) -> None:
        """Let go of the file; nothing more is given. Access units that were handed out stay valid."""
        self._events = iter(())
        self._waiting = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def may_wait(self) -> int:
        return 1

    def facts(self) -> dict[str, object]:
        return {
            "kind": "replay",
            "file": str(self._path),
            "speed": "max" if self._speed is None else self._speed,
            "pictures": self._pictures,
            "damaged": self._damaged,
            "loops": self._loops,
            "position_s": round(self._played_ticks / TICKS_PER_S, 3),
            "ended": self._ended,
        }

    # -- playing -------------------------------------------------------------------------------------

    def _play(self) -> Iterator[tuple[int, StreamEvent | None]]:
        """Every event of the whole play, lazily, each with the ticks since the start when it is due; None for a picture left out."""
        due = 0
        ending = RunEnded(Cause.CAMERA, f"{self._path.name}: end of the file", is_final=True)
        try:
            data = self._map()
            opening = self._opening(data)
            sets = parameter_sets.ParameterSetStore(opening.parameter_sets if isinstance(opening, Mp4File) else None)
            in_force: ParameterSets | None = None  # those of the run
            run_begins = pass_begins = lost = at = last_ticks = 0
            spacing_ticks = round(TICKS_PER_S / DEFAULT_FPS)  # between the last two pictures
            while True:
                first_ticks: int | None = None  # of this pass: pictures before the first keyframe are left out
                for picture in self._pictures_of(data, opening):
                    if picture is None:
                        lost += 1
                        yield due, None
                        continue
                    is_keyframe = h264.is_keyframe(picture.units)
                    for unit in picture.units:
                        if h264.nal_type(unit) in (h264.SPS, h264.PPS):
                            sets.add(unit)
                    if first_ticks is None:
                        if not is_keyframe:
                            yield due, None
                            continue
                        first_ticks = picture.decode_ticks
                    elif picture.decode_ticks > first_ticks:
                        spacing_ticks = pass_begins + picture.decode_ticks - first_ticks - at
                    at = due = pass_begins + picture.decode_ticks - first_ticks
                    if is_keyframe and (wanted := sets.current()) != in_force:
                        if in_force is not None:
                            yield due, RunEnded(Cause.CAMERA, f"{self._path.name}: the parameter sets change")
                        yield due, self._run_started(wanted)
                        in_force, run_begins = wanted, at
                    self._pictures += 1
                    yield (
                        due,
                        AccessUnit(
                            payload=picture.payload,
                            decode_ticks=at - run_begins,
                            composition_ticks=picture.composition_ticks,
                            arrival_ns=self._arrival_ns(due),
                            is_keyframe=is_keyframe,
                            lost_packets=lost,
                        ),
                    )
                    lost = 0
                    last_ticks = picture.duration_ticks
                if first_ticks is None:
                    raise BadReplay("there is no keyframe in it", hint="Take another file, or the whole one.")
                if not self._loop:
                    break
                self._loops += 1
                pass_begins = at + (last_ticks or spacing_ticks)  # many files give their last picture no duration
        except OSError as error:
            ending = RunEnded(Cause.CAMERA, f"cannot read {self._path}: {error.strerror}", is_final=True)
        except NvrError as error:
            ending = RunEnded(Cause.CAMERA, f"{self._path.name}: {error}. {error.hint}".strip(), is_final=True)
        yield due, ending

    def _shrunk(self) -> RunEnded:
        self._fd, fd = -1, self._fd
        os.close(fd)
        return RunEnded(Cause.CAMERA, f"{self._path.name}: the file became shorter while it played", is_final=True)

    def _arrival_ns(self, due_ticks: int) -> int:
        """When a camera would have delivered it, which is a little before we were asked."""
        if self._speed is None or self._start_ns is None:
            return self._now_ns
        return self._start_ns + int(due_ticks * 100_000 / 9 / self._speed)

    def _run_started(self, sets: ParameterSets) -> RunStarted:
        if not sets.sps or not sets.pps:
            raise BadReplay("its first keyframe has no parameter sets", hint="Take the file from its very beginning.")
        sps = parameter_sets.parse_sps(sets.sps[0])
        return RunStarted(sets, sps.width, sps.height, f"replay of {self._path.name}")

    # -- the file ------------------------------------------------------------------------------------

    def _map(self) -> mmap.mmap:
        self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        self._size_bytes = os.fstat(self._fd).st_size
        if self._size_bytes == 0:
            raise BadReplay("the file is empty", hint="Take another file.")
        data = mmap.mmap(self._fd, 0, access=mmap.ACCESS_READ)
        data.madvise(mmap.MADV_SEQUENTIAL)  # read ahead, so that a drain seldom waits for the disk
        return data

    def _opening(self, data: mmap.mmap) -> Mp4File | None:
        """The MP4 file, or None for a byte stream. Raises BadReplay for what it cannot be."""
        if data[4:8] in _MP4_ATOMS:
            return Mp4File(data)
        if data[:4] == _MATROSKA:
            raise BadReplay(
                "Matroska files (MKV, WebM) are not read",
                hint="Put it into MP4 without a loss: `ffmpeg -i FILE -c copy other.mp4`.",
            )
        if data[:3] == h264.START_CODE or data[:4] == b"\0" + h264.START_CODE:
            return None
        raise BadReplay(
            f"neither MP4 nor an H.264 byte stream: it starts with {data[:8].hex(' ')}",
            hint="Put it into MP4: `ffmpeg -i FILE -c copy other.mp4`.",
        )

    def _pictures_of(self, data: mmap.mmap, film: Mp4File | None) -> Iterator[_Picture | None]:
        """Every picture of the file, None for one that is damaged."""
        pictures = _byte_stream_pictures(data, self._fps or DEFAULT_FPS) if film is None else _mp4_pictures(data, film)
        for picture in pictures:
            if picture is None or picture.payload.size_bytes > MAX_UNIT_BYTES:
                self._damaged += 1
                yield None
            else:
                yield picture


def _byte_stream_pictures(data: mmap.mmap, fps: float) -> Iterator[_Picture]:
    for picture in byte_stream.pictures(data, fps):
        payload = _with_lengths(picture.units)
        yield _Picture(payload, picture.units, picture.decode_ticks, picture.composition_ticks, picture.duration_ticks)


def _mp4_pictures(data: mmap.mmap, film: Mp4File) -> Iterator[_Picture | None]:
    view = memoryview(data)
    for sample in film.samples():
        body = view[sample.offset : sample.offset + sample.size_bytes]
        units = _units(body, film.length_size)
        if units is None:
            yield None
            continue
        if film.length_size == 4:
            payload = Gather()
            payload.append(body)
        else:
            payload = _with_lengths(units)
        yield _Picture(payload, units, sample.decode_ticks, sample.composition_ticks, sample.duration_ticks)


def _with_lengths(units: tuple[memoryview, ...]) -> Gather:
    payload = Gather()
    for unit in units:
        payload.append(memoryview(struct.pack(">I", len(unit))))
        payload.append(unit)
    return payload


def _units(body: memoryview, length_size: int) -> tuple[memoryview, ...] | None:
    """The NAL units of one sample (14496-15, 5.3.2); None when their lengths do not fill it."""
    units: list[memoryview] = []
    place, end = 0, len(body)
    while place < end:
        start = place + length_size
        place = start + int.from_bytes(body[place:start], "big")
        if start >= end or place > end or place == start:
            return None
        units.append(body[start:place])
    return tuple(units)
