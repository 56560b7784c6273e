"""What the detect process looks at: pieces of a stream, from the ring as they are announced, or from a source of its own.

A feed is filled by one thread and emptied by another. It holds positions or access units, never frames, and little of either:
what is more than BEHIND_NS old when a new piece comes is left out, counted, and decoding goes on at the next keyframe.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nvr.clock import Clock, RunClock
from nvr.errors import NvrError
from nvr.fmp4 import BadAtom, fragment_layout, parse_head
from nvr.gather import Gather
from nvr.h264 import BadH264
from nvr.media import AccessUnit, Cause, ClockState, FragmentRecord, ParameterSets, Position, RunEnded, RunStarted
from nvr.mp4file import Mp4File
from nvr.parameter_sets import parse_sps
from nvr.ring.reader import Ring
from nvr.source import Source

NS_PER_S = 1_000_000_000
BEHIND_NS = (
    4 * NS_PER_S
)  # what a live picture may be behind; more than a keyframe's distance, or nothing would ever be decoded
PIECE_BYTES = 32 << 20  # of access units that wait, for a source of our own

# A main stream of so many pixels is as good as a small one and is decoded as a whole.
SMALL_PIXELS = 720 * 576


@dataclass(slots=True)
class Piece:
    """Some access units in a row."""

    run: object  # equal for pieces of one run; another one begins with parameter sets
    number: int  # rises by one while nothing is missing between two pieces of a run
    at_ns: int  # media time of its first access unit, box clock
    duration_ns: int
    wall_ns: int  # the same moment by the box's clock, whatever that is worth
    has_wall: bool  # somebody set that clock
    is_keyframe: bool  # begins with one
    pictures: int
    size_bytes: int = 0  # of memory
    position: Position | None = None  # where it lies in the ring
    units: tuple[AccessUnit, ...] = ()  # or the pictures themselves, with their times in at_of
    started: RunStarted | None = None
    offsets_ns: tuple[int, ...] = ()  # of each picture against at_ns
    sequence: int = 0  # in the ring


@dataclass(frozen=True, slots=True)
class Picture:
    """One access unit with the time it belongs to."""

    unit: AccessUnit
    at_ns: int
    wall_ns: int  # by the box's clock


class Feed:
    """The queue of one camera."""

    def __init__(self, name: str) -> None:
        self.name = name  # of the stream: "camera/small"
        self.shed = 0  # pictures left out because they came faster than they could be looked at
        self._pieces: deque[Piece] = deque()
        self._waits_for_keyframe = False
        self._lock = threading.Lock()

    def put(self, piece: Piece) -> None:
        with self._lock:
            if self._waits_for_keyframe:
                if not piece.is_keyframe:
                    self.shed += piece.pictures
                    return
                self._waits_for_keyframe = False
            self._pieces.append(piece)
            end_ns = piece.at_ns + piece.duration_ns
            held = sum(each.size_bytes for each in self._pieces)
            while (
                self._pieces
                and (end_ns - self._pieces[0].at_ns > BEHIND_NS or held > PIECE_BYTES)
                and len(self._pieces) > 1
            ):
                held -= self._drop()
                while self._pieces and not self._pieces[0].is_keyframe:
                    held -= self._drop()
            self._waits_for_keyframe = not self._pieces

    def _drop(self) -> int:
        gone = self._pieces.popleft()
        self.shed += gone.pictures
        return gone.size_bytes

    def take(self) -> Piece | None:
        with self._lock:
            return self._pieces.popleft() if self._pieces else None

    def behind_ns(self, now_ns: int) -> int:
        """How old the oldest picture is that waits; 0 when none does."""
        with self._lock:
            return max(0, now_ns - self._pieces[0].at_ns) if self._pieces else 0


def piece_of(position: Position, record: FragmentRecord) -> Piece:
    """An announced fragment."""
    return Piece(
        run=(record.boot_id, record.run),
        number=record.sequence,
        at_ns=record.mono_ns,
        duration_ns=record.duration_ns,
        wall_ns=record.wall_ns,
        has_wall=record.clock_state is not ClockState.UNKNOWN,
        is_keyframe=record.is_keyframe,
        pictures=record.pictures,
        position=position,
        sequence=record.sequence,
    )


class RingPictures:
    """Reads the pictures of announced fragments; belongs to one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ring: Ring | None = None
        self._started: dict[tuple[int, int], RunStarted] = {}

    def read(self, piece: Piece) -> tuple[RunStarted, list[Picture]]:
        """Raises NvrError when the fragment is not there any more, or damaged."""
        assert piece.position is not None
        if self._ring is None:
            self._ring = Ring(self._path)
        data = self._ring.read(piece.position)
        where = (piece.position.segment, piece.position.lap)
        if where not in self._started:
            self._started = {where: started_of(self._ring.init_segment(piece.position))}
        return self._started[where], list(_pictures(piece, data))

    def close(self) -> None:
        if self._ring is not None:
            self._ring.close()
            self._ring = None


def started_of(init: bytes) -> RunStarted:
    """What an init segment says of the pictures behind it. Raises BadAtom, BadH264, NoH264."""
    sets: ParameterSets = Mp4File(init).parameter_sets
    if not sets.sps:
        raise BadH264("the init segment holds no sequence parameter set")
    sps = parse_sps(sets.sps[0])
    return RunStarted(sets, sps.width, sps.height)


def _pictures(piece: Piece, data: bytes) -> list[Picture]:
    head = parse_head(data)
    layout = fragment_layout(data)
    view = memoryview(data)
    place, ticks = layout.payload_offset, 0
    found = []
    for sample in head.samples:
        if place + sample.size_bytes > layout.record_offset:
            raise BadAtom("the pictures of a fragment reach beyond its media")
        payload = Gather()
        payload.append(view[place : place + sample.size_bytes])
        offset_ns = ticks * 100_000 // 9
        unit = AccessUnit(payload, ticks, sample.composition_ticks, piece.at_ns + offset_ns, sample.is_keyframe)
        found.append(Picture(unit, piece.at_ns + offset_ns, piece.wall_ns + offset_ns))
        place += sample.size_bytes
        ticks += sample.duration_ticks
    return found


@dataclass(slots=True)
class OwnStream:
    """A small stream that nobody records: this process is its only reader. Drained by the thread that fills feeds."""

    source: Source
    feed: Feed
    clock: Clock
    is_sending: bool = False
    cause: str = Cause.CAMERA.value
    detail: str = "waiting for the first picture"
    size: tuple[int, int] = (0, 0)
    lost_packets: int = 0
    rest_until_ns: int = 0  # not drained before
    _started: RunStarted | None = None
    _runs: int = 0
    _number: int = 0
    _run_clock: RunClock | None = None
    _last_at_ns: int = 0
    _units: list[tuple[AccessUnit, int]] = field(default_factory=list)

    def drain(self) -> bool:
        """One turn; whether there is something new."""
        reading = self.clock.read()
        put = False
        for event in self.source.drain(reading.mono_ns):
            if isinstance(event, AccessUnit):
                if event.is_keyframe:
                    put = self._flush(reading.wall_ns - reading.mono_ns, reading.state is not ClockState.UNKNOWN) or put
                self._units.append((event, self._at_ns(event)))
                self.lost_packets += event.lost_packets
                continue
            put = self._flush(reading.wall_ns - reading.mono_ns, reading.state is not ClockState.UNKNOWN) or put
            if isinstance(event, RunStarted):
                self._started, self._run_clock = event, None
                self._runs += 1
                self.size, self.is_sending, self.cause, self.detail = (
                    (event.width, event.height),
                    True,
                    "",
                    event.detail,
                )
            elif isinstance(event, RunEnded):
                self.is_sending, self.cause, self.detail = False, event.cause.value, event.detail
        return self._flush(reading.wall_ns - reading.mono_ns, reading.state is not ClockState.UNKNOWN) or put

    def _at_ns(self, unit: AccessUnit) -> int:
        if self._run_clock is None:
            self._run_clock = RunClock(unit.arrival_ns, not_before_ns=self._last_at_ns)
        self._run_clock.observe(unit.decode_ticks, unit.arrival_ns)
        at_ns = max(self._run_clock.mono_ns(unit.decode_ticks, unit.arrival_ns), self._last_at_ns + 1)
        self._last_at_ns = at_ns
        return at_ns

    def _flush(self, ahead_ns: int, has_wall: bool) -> bool:
        if not self._units or self._started is None:
            self._units.clear()
            return False
        units, self._units = self._units, []
        first_ns = units[0][1]
        self._number += 1
        self.feed.put(
            Piece(
                run=self._runs,
                number=self._number,
                at_ns=first_ns,
                duration_ns=units[-1][1] - first_ns,
                wall_ns=first_ns + ahead_ns,
                has_wall=has_wall,
                is_keyframe=units[0][0].is_keyframe,
                pictures=len(units),
                size_bytes=sum(unit.payload.size_bytes for unit, _ in units),
                units=tuple(unit for unit, _ in units),
                started=self._started,
                offsets_ns=tuple(at_ns - first_ns for _, at_ns in units),
            )
        )
        return True


def own_pictures(piece: Piece) -> tuple[RunStarted, list[Picture]]:
    """The pictures that a piece of an OwnStream holds."""
    if piece.started is None:
        raise NvrError("a piece without parameter sets")
    pictures = [
        Picture(unit, piece.at_ns + offset_ns, piece.wall_ns + offset_ns)
        for unit, offset_ns in zip(piece.units, piece.offsets_ns, strict=True)
    ]
    return piece.started, pictures


def keyframes(pictures: Sequence[Picture]) -> list[Picture]:
    return [picture for picture in pictures if picture.unit.is_keyframe]
