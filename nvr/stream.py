"""One camera stream on its way from source to ring, and what is told about it.

`recorder.py` turns all streams round; a fault of one stays with it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nvr.clock import MAX_DRIFT_PPM
from nvr.journal import Journal
from nvr.media import AccessUnit, AccessUnits, Cause, ClockReading, ClockState, RunEnded, RunStarted
from nvr.ring.writer import Writer, Written
from nvr.source import Source

log = logging.getLogger(__name__)

NS_PER_S = 1_000_000_000
_RATE_NS = 15 * NS_PER_S


@dataclass(frozen=True, slots=True)
class RecordedStream:
    """One stream that is recorded."""

    name: str  # "camera/main"
    source: dict[str, Any]  # kind: rtsp, replay, usb or picamera; the rest is for its constructor
    ring_bytes: int
    keep_days: float | None = None
    hold_bytes: int = 0
    evidence: bool = True


class Rate:
    """How much came in lately, for people who look at a page: the last five to ten seconds."""

    def __init__(self) -> None:
        self._marks: list[tuple[int, int, int]] = []

    def per_s(self, now_ns: int, pictures: int, payload_bytes: int) -> tuple[float, float]:
        """(pictures, bits) per second; call once a second. The first call, and the first after a pause, gives 0."""
        lately = [mark for mark in self._marks[-9:] if now_ns - mark[0] < _RATE_NS]
        self._marks = [*lately, (now_ns, pictures, payload_bytes)]
        first = self._marks[0]
        seconds = (now_ns - first[0]) / NS_PER_S
        if seconds <= 0:
            return 0.0, 0.0
        return (pictures - first[1]) / seconds, (payload_bytes - first[2]) * 8 / seconds


class Stream:
    """One camera stream on its way from source to ring, and what is told about it."""

    def __init__(
        self, settings: RecordedStream, make_source: Callable[[], Source], writer: Writer, journal: Journal | None,
    ) -> None:  # fmt: skip
        self.name = settings.name
        self.writer = writer
        self.source: Source | None = None
        # A file without a pace of its own is asked again at once, not at the next tick.
        self.is_hurried = settings.source.get("kind") == "replay" and settings.source.get("speed", 1.0) is None
        self.has_ended = False
        self._turn = 0
        self.next_turn = 0  # in which it is to be drained again
        self._make_source = make_source
        self._retry_ns = 0
        self._journal = journal
        self._has_recorded = False
        self._run_detail = ""
        self._source_trouble: tuple[Cause, str] | None = (Cause.CAMERA, "waiting for the first picture")
        self._told: tuple[Cause | None, str] | None = None
        self._last_fault: dict[str, Any] | None = None
        self._since = ClockReading(0, 0, ClockState.UNKNOWN, 0)
        self._pictures = self._payload_bytes = self._lost_packets = self._runs = 0
        self._last_picture_ns = 0
        self._size = (0, 0)
        self._rate = Rate()

    def may_rest(self, turn: int) -> bool:
        """Whether this turn may be left out, because what comes meanwhile is kept.

        Streams that may rest equally long are drained in the same turns: what the first one fetches into the
        processor's caches, code above all, serves the others.
        """
        self._turn = turn
        return turn < self.next_turn

    def drain(self, reading: ClockReading) -> list[Written]:
        """One turn: take what the source has, give it to the ring, note what changed."""
        if self.source is None:
            if reading.mono_ns < self._retry_ns:
                return []
            self.source = self._make_source()
        written: list[Written] = []
        units: list[AccessUnit | AccessUnits] = []
        events = self.source.drain(reading.mono_ns)
        if not self.is_hurried:
            period = self.source.may_wait() + 1
            self.next_turn = (self._turn // period + 1) * period
        for event in events:
            if type(event) is AccessUnits or type(event) is AccessUnit:
                units.append(event)
                continue
            if units:
                written += self._push(units, reading)
                units = []
            if isinstance(event, RunStarted):
                written += self.writer.start_run(event, reading)
                self._size, self._run_detail = (event.width, event.height), event.detail
                self._runs += 1
                self._source_trouble = None
            elif isinstance(event, RunEnded):
                written += self.writer.end_run(reading)
                self.has_ended = event.is_final
                self._source_trouble = (event.cause, event.detail)
        if units:
            written += self._push(units, reading)
        self._note(reading)
        return written

    def _push(self, units: list[AccessUnit | AccessUnits], reading: ClockReading) -> list[Written]:
        for unit in units:  # before the writer takes the payloads over
            self._payload_bytes += unit.payload.size_bytes
            if isinstance(unit, AccessUnits):
                self._pictures += len(unit.sizes_bytes)
            else:
                self._pictures += 1
                self._lost_packets += unit.lost_packets
        self._last_picture_ns = units[-1].arrival_ns
        return self.writer.push_all(units, reading)

    def give_up(self, reading: ClockReading, detail: str) -> list[Written]:
        """The source failed in a way it should not have: let go of it, and make a new one a little later."""
        source, self.source = self.source, None
        self._retry_ns = reading.mono_ns + 10 * NS_PER_S
        self._source_trouble = (Cause.CAMERA, detail)
        if source is not None:
            try:
                source.close()
            except Exception:
                log.exception("%s: the source could not be closed", self.name, extra={"stream": self.name})
        written: list[Written] = []
        try:
            written = self.writer.end_run(reading)
        except Exception:
            log.exception("%s: its open fragment is given up", self.name, extra={"stream": self.name})
            self.writer.abandon_run()
        self._note(reading)
        return written

    def _note(self, reading: ClockReading) -> None:
        """Tell log and journal when the stream begins or ceases to be recorded, or the reason changes."""
        trouble = self.writer.trouble
        if self._source_trouble is not None:
            now: tuple[Cause | None, str] = self._source_trouble
        elif trouble is not None:
            now = (trouble.cause, trouble.detail)
        else:
            now = (None, self._run_detail)
        if now == self._told:
            return
        cause_changed = self._told is None or now[0] is not self._told[0]
        if now[0] is not None and self._told is not None and self._told[0] is None:
            # It takes seconds to notice that a camera fell silent, and it is missing from its last picture on.
            ceased_ns = (
                self._last_picture_ns if self._source_trouble is not None or trouble is None else trouble.since_ns
            )
            reading = _earlier(reading, ceased_ns)
        self._told = now
        if cause_changed:
            self._since = reading
        if self._journal is not None:
            self._journal.note_stream(self.name, reading, now[0], now[1] if now[0] is not None else "")
        if now[0] is not None and self._has_recorded:
            self._last_fault = {"cause": now[0].value, "detail": now[1], "since_ms": reading.wall_ns // 1_000_000}
        if now[0] is None:
            self._has_recorded = True
            log.info("%s: recording, %dx%d, %s", self.name, *self._size, now[1], extra={"stream": self.name})
        elif now[0] in _DISK_CAUSES:
            log.warning("%s: not recording, %s: %s", self.name, now[0].value, now[1], extra={"stream": self.name})
        else:
            log.info("%s: not recording, %s: %s", self.name, now[0].value, now[1], extra={"stream": self.name})

    def held_up(self, reading: ClockReading, late_ns: int, cause: Cause, detail: str) -> None:
        """The box has held up recording for `late_ns`: what a camera left out meanwhile is missing because of that.

        It is still recorded, and says so; only the journal knows, until caught_up().
        """
        if self._journal is not None and self._told is not None and self._told[0] is None:
            began = _earlier(reading, reading.mono_ns - late_ns)
            self._journal.note_stream(self.name, began, cause, detail)

    def caught_up(self, reading: ClockReading) -> None:
        if self._journal is not None and self._told is not None and self._told[0] is None:
            self._journal.note_stream(self.name, reading, None)

    def status(self, now_ns: int) -> dict[str, Any]:
        """What people and other processes are told; called once a second, because rates are counted by it."""
        cause, detail = self._told or (Cause.CAMERA, "starting")
        if self.writer.displaced and cause is None:
            detail = self.writer.displaced
            self._last_fault = {
                "cause": Cause.DISK_FAILED.value,
                "detail": detail,
                "since_ms": self._since.wall_ns // 1_000_000,
            }
        pictures_per_s, bits_per_s = self._rate.per_s(now_ns, self._pictures, self._payload_bytes)
        last_s = (now_ns - self._last_picture_ns) / NS_PER_S if self._last_picture_ns else None
        return {
            "recording": cause is None,
            "cause": cause.value if cause is not None else None,
            "detail": detail,
            "since_ms": self._since.wall_ns // 1_000_000,
            "since_mono_ns": self._since.mono_ns,
            "last_picture_s": round(last_s, 1) if last_s is not None else None,
            "pictures": self._pictures,
            "pictures_per_s": round(pictures_per_s, 1),
            "bits_per_s": round(bits_per_s),
            "lost_packets": self._lost_packets,
            "last_fault": self._last_fault,  # since this process began, and not of its beginning
            "runs": self._runs,
            "width": self._size[0],
            "height": self._size[1],
            "source": self.source.facts() if self.source is not None else {},
            "ring": self.writer.facts(),
        }


def _earlier(reading: ClockReading, mono_ns: int) -> ClockReading:
    """What the clocks said at `mono_ns`, by what they say now; never later than that."""
    ago_ns = max(reading.mono_ns - mono_ns, 0)
    error_ns = reading.error_ns + ago_ns * MAX_DRIFT_PPM // 1_000_000
    return ClockReading(reading.mono_ns - ago_ns, reading.wall_ns - ago_ns, reading.state, error_ns)


_DISK_CAUSES = (Cause.DISK_SLOW, Cause.DISK_FULL, Cause.DISK_FAILED, Cause.HELD_BACK)
