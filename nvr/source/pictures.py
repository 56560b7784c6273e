"""From an encoder's byte stream to runs on a feed; runs in the feeder's process."""

from __future__ import annotations

import time
from collections.abc import Iterable

from nvr.h264 import annex_b_units, is_keyframe, nal_type
from nvr.media import TICKS_PER_S, Cause, ParameterSets
from nvr.parameter_sets import parse_sps
from nvr.source.feed import Writer

_SPS, _PPS, _DELIMITER = 7, 8, 9
_JUMP_TICKS = 10 * TICKS_PER_S
_USUAL_TICKS = TICKS_PER_S // 25
_WAIT_MS = 2000  # `record` may be busy for so long before a picture is left out


class Pictures:
    """What an encoder puts out, picture by picture, as runs on a feed."""

    def __init__(self, writer: Writer, detail: str, *, wait_ms: int = _WAIT_MS) -> None:
        """`detail` says for the log what it is: "usb /dev/video0, H.264 of the camera"."""
        self._writer, self._detail, self._wait_ms = writer, detail, wait_ms
        self._sps: tuple[bytes, ...] = ()
        self._pps: tuple[bytes, ...] = ()
        self._sets: ParameterSets | None = None  # of the run, while there is one
        self._source_ticks = self._ticks = 0  # of the last picture: by the source, and in the run
        self._left_out = self._runs = 0

    def put(self, data: bytes | memoryview, decode_ticks: int, composition_ticks: int = 0) -> None:
        """One access unit as a byte stream (H.264 annex B), with its times from any origin. Raises OSError, BadH264."""
        mono_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        view = memoryview(data)
        units = [view[offset : offset + size_bytes] for offset, size_bytes in annex_b_units(bytes(data))]
        self._learn(units)
        units = [unit for unit in units if nal_type(unit) not in (_SPS, _PPS, _DELIMITER)]
        if not units:
            return
        is_key = is_keyframe(units)
        if not self._writer.has_room(self._wait_ms if self._sets is not None else 0):
            self._sets = None  # what comes now could not be decoded without this picture
            self._left_out += 1
            return
        if is_key and self._sps and self._pps:
            self._begin()
        elif self._sets is None:
            self._left_out += 1
        if self._sets is None:
            return
        self._ticks += self._step(decode_ticks)
        self._writer.unit(
            units,
            decode_ticks=self._ticks,
            composition_ticks=max(0, composition_ticks),
            mono_ns=mono_ns,
            is_keyframe=is_key,
        )

    def _step(self, source_ticks: int) -> int:
        """From the last picture to this one. Some drivers repeat a time, and clocks are set: then a usual step is taken."""
        step, self._source_ticks = source_ticks - self._source_ticks, source_ticks
        if self._ticks < 0:
            return 1  # the first one of a run, from -1
        return step if 0 < step <= _JUMP_TICKS else _USUAL_TICKS

    def _learn(self, units: Iterable[memoryview]) -> None:
        sps = tuple(bytes(unit) for unit in units if nal_type(unit) == _SPS)
        pps = tuple(bytes(unit) for unit in units if nal_type(unit) == _PPS)
        self._sps, self._pps = sps or self._sps, pps or self._pps

    def _begin(self) -> None:
        sets = ParameterSets(self._sps, self._pps)
        if sets == self._sets:
            return
        sps = parse_sps(sets.sps[0])
        if self._left_out and self._runs:
            self._writer.stop(Cause.DISK_SLOW, f"the recorder did not take {self._left_out} pictures in time")
        self._writer.start(sets, sps.width, sps.height, self._detail)
        self._sets, self._ticks, self._left_out = sets, -1, 0
        self._runs += 1
