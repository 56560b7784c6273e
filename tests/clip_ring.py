"""A ring on disk for the tests of clips, made fragment by fragment without the recorder."""

from __future__ import annotations

import hashlib
import os
import random
import struct
from dataclasses import dataclass, field, replace
from pathlib import Path

import crc32c

from nvr import fmp4
from nvr.clip_plan import Piece
from nvr.media import PAGE_BYTES, ClockState, FragmentRecord, ParameterSets, Position
from nvr.ring import layout
from nvr.timeline import Placed

# x264, Constrained Baseline, 320x240
SMALL = ParameterSets(
    (bytes.fromhex("6742c00bd90141fb0110000003001000000300a0f142a480"),), (bytes.fromhex("68cb83cb20"),)
)
SMALL_INIT = fmp4.init_segment(SMALL, 320, 240)

NS = 1_000_000_000
START_NS = 1_750_000_000 * NS


@dataclass(frozen=True)
class Picture:
    data: bytes  # NAL units behind their lengths
    is_keyframe: bool
    duration_ticks: int = 3600
    composition_ticks: int = 0


def noise(seed: int = 1, *, seconds: int = 4, per_second: int = 5, size_bytes: int = 900) -> list[list[Picture]]:
    """Fragments of pictures that nobody can decode, one keyframe a second."""
    dice = random.Random(seed)
    fragments = []
    for _ in range(seconds):
        pictures = []
        for number in range(per_second):
            unit = bytes((0x65 if number == 0 else 0x41,)) + dice.randbytes(size_bytes + dice.randrange(400))
            pictures.append(Picture(struct.pack(">I", len(unit)) + unit, number == 0, 90_000 // per_second))
        fragments.append(pictures)
    return fragments


@dataclass
class ClipRing:
    """Segments in a directory; knows its pieces."""

    path: Path
    box_id: bytes = bytes(16)
    stream: str = "porch/main"
    evidence: bool = True
    segment_bytes: int = 1 << 20
    init: bytes = SMALL_INIT
    pieces: list[Piece] = field(default_factory=list)
    sequence: int = 100
    run: int = 7
    segment: int = -1

    def __post_init__(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        self._end = self._run_ticks = 0
        self._previous = bytes(32)
        self._now_ns = START_NS

    def open_segment(self, number: int) -> int:
        return os.open(self.path / layout.segment_name(number), os.O_RDONLY)

    def new_segment(self, init: bytes | None = None, *, lap: int = 1) -> None:
        self.init = self.init if init is None else init
        self.segment, self.lap = self.segment + 1, lap
        header = layout.SegmentHeader(
            self.box_id, bytes(16), self.stream, self.segment, lap, self.segment_bytes, 0, 0, init=self.init
        )
        pages = layout.header_pages(header)
        with open(self.path / layout.segment_name(self.segment), "wb") as file:
            file.truncate(self.segment_bytes)
            file.write(pages)
            self._end = len(pages)
            self._free(file)

    def reuse_segment(self, number: int, lap: int) -> None:
        """What the writer does first when it takes a segment again."""
        header = layout.SegmentHeader(
            self.box_id, bytes(16), self.stream, number, lap, self.segment_bytes, 0, 0, init=self.init
        )
        with open(self.path / layout.segment_name(number), "r+b") as file:
            file.write(layout.header_pages(header))

    def new_run(self, *, after_s: float = 0) -> None:
        self.run, self._run_ticks, self._previous = self.run + 1, 0, bytes(32)
        self._now_ns += round(after_s * NS)

    def lose(self, fragments: int, seconds: float) -> None:
        """Fragments that the ring does not hold any more, in the middle of a run."""
        self.sequence += fragments
        self._run_ticks += round(seconds * 90_000)
        self._now_ns += round(seconds * NS)

    def add(self, fragments: list[list[Picture]]) -> None:
        for pictures in fragments:
            self._add(pictures)

    def _free(self, file) -> None:
        file.seek(self._end)
        file.write(struct.pack(">I4s", self.segment_bytes - self._end, b"free"))

    def _add(self, pictures: list[Picture]) -> None:
        payload = b"".join(picture.data for picture in pictures)
        size_bytes = fmp4.fragment_size(len(payload))
        if self.segment < 0 or self._end + size_bytes + PAGE_BYTES > self.segment_bytes:
            self.new_segment()
        samples = [fmp4.Sample(len(p.data), p.duration_ticks, p.composition_ticks, p.is_keyframe) for p in pictures]
        duration = sum(p.duration_ticks for p in pictures)
        head = fmp4.head(len(self.pieces) + 1, self._run_ticks + 12345, samples, len(payload))
        record = FragmentRecord(
            box_id=self.box_id, boot_id=b"boot" * 4, stream=self.stream, run=self.run, lap=self.lap, segment=self.segment,
            sequence=self.sequence, mono_ns=self._now_ns - START_NS + 5 * NS, wall_ns=self._now_ns, clock_state=ClockState.SYNCED,
            clock_error_ns=20_000_000, run_ticks=self._run_ticks, duration_ticks=duration, pictures=len(pictures),
            payload_bytes=len(payload), lost_packets=0, is_keyframe=pictures[0].is_keyframe, camera_wall_ns=0,
            previous_hash=self._previous if self.evidence else bytes(32), hash=bytes(32),
        )  # fmt: skip
        if self.evidence:
            record = replace(record, hash=fmp4.fragment_hash(hashlib.sha256(payload), head, record))
            self._previous = record.hash
        tail = fmp4.commit_record(record, head, crc32c.crc32c(payload), fmp4.commit_record_size(len(payload)))
        with open(self.path / layout.segment_name(self.segment), "r+b") as file:
            file.seek(self._end)
            file.write(head + payload + tail)
            position = Position(self.stream, self.segment, self.lap, self._end, size_bytes)
            self._end += size_bytes
            self._free(file)
        placed = Placed(
            record, self._now_ns, self._now_ns + record.duration_ns, record.clock_error_ns, record.clock_state
        )
        self.pieces.append(Piece(position, placed))
        self.sequence += 1
        self._run_ticks += duration
        self._now_ns += record.duration_ns
