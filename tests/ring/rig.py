"""What the tests of the ring share: access units made up of random bytes, and a recorder around them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from clocks import ManualClock
from fakes import MemoryDirectory, MemoryDisk

from nvr.evidence import Identity
from nvr.gather import Gather
from nvr.media import PAGE_BYTES, AccessUnit, ParameterSets, RunStarted
from nvr.ring.check import Fault, check_ring
from nvr.ring.disk import Directory
from nvr.ring.layout import RingSettings
from nvr.ring.syncer import Syncer
from nvr.ring.writer import Writer, Written

STREAM = "porch/main"
BOX = Identity(bytes(range(32)))
# 640 x 360, Baseline, made by x264; the second differs in its level.
PARAMETER_SETS = ParameterSets(
    sps=(bytes.fromhex("6742c01eda0280bfe5c044000003000400000300c83c58ba80"),), pps=(bytes.fromhex("68ce3c80"),)
)
OTHER_PARAMETER_SETS = ParameterSets(
    sps=(bytes.fromhex("6742c01fda0280bfe5c044000003000400000300c83c58ba80"),), pps=(bytes.fromhex("68ce3c80"),)
)
STARTED = RunStarted(PARAMETER_SETS, 640, 360, "made up")
OTHER_STARTED = RunStarted(OTHER_PARAMETER_SETS, 640, 360, "made up")
SMALL_SEGMENT_BYTES = 32 * PAGE_BYTES
TICKS = 3600  # 25 pictures a second
PICTURE_NS = 40_000_000


def unit_of(
    data: bytes, ticks: int, arrival_ns: int, *, is_keyframe: bool, pieces: int = 1, **fields: int
) -> AccessUnit:
    """One access unit with a single NAL unit, its bytes in `pieces` views."""
    whole = memoryview(len(data).to_bytes(4, "big") + data)
    gather = Gather()
    step = -(-len(whole) // pieces)
    for start in range(0, len(whole), step):
        gather.append(whole[start : start + step])
    return AccessUnit(gather, ticks, 0, arrival_ns, is_keyframe, **fields)


class Rig:
    """One stream with its writer, syncer and clock on a disk, real or in memory."""

    def __init__(
        self, disk: MemoryDisk | Path, *, segments: int = 4, segment_bytes: int = SMALL_SEGMENT_BYTES, seed: int = 1,
        boot: int = 1, clock: ManualClock | None = None, identity: Identity | None = BOX, stream: str = STREAM,
        **settings: object,
    ) -> None:  # fmt: skip
        self.disk = disk
        self.clock = clock or ManualClock()
        self.random = random.Random(seed)
        path = Path("/rings") / stream if isinstance(disk, MemoryDisk) else disk / "rings" / stream
        self.settings = RingSettings(
            stream,
            path,
            segments * segment_bytes,
            segment_bytes=segment_bytes,
            **settings,  # type: ignore[arg-type]
        )
        self.writer = Writer(self.settings, box_id=BOX.box_id, boot_id=bytes([boot]) * 16)
        self.durable: list[int] = []
        self.lost: list[tuple[int, int]] = []
        self.written: list[Written] = []
        self.syncer = Syncer(
            [self.writer], clock=self.clock, loss_bound_s=5, identity=identity,
            holds_path=None if isinstance(disk, MemoryDisk) else disk / "holds.json",
            on_durable=lambda stream, sequence: self.durable.append(sequence),
            on_lost=lambda stream, first, last: self.lost.append((first, last)), open_directory=self.directory,
        )  # fmt: skip
        self.keeper = self.syncer._keepers[0]
        self.ticks = 0

    def directory(self, path: Path | None = None, *, create: bool = False) -> Directory:
        path = path or self.settings.path
        if isinstance(self.disk, MemoryDisk):
            return self.disk.directory(str(path))  # type: ignore[return-value]
        return Directory(path, create=create)

    def open(self) -> Rig:
        self.recovered = self.syncer.open()
        return self

    def start_run(self, started: RunStarted = STARTED) -> None:
        self.written += self.writer.start_run(started, self.clock.read())
        self.ticks = 0

    def push(
        self, data: bytes, *, is_keyframe: bool, pieces: int = 3, ticks: int = TICKS, **fields: int
    ) -> list[Written]:
        self.clock.advance(PICTURE_NS)
        unit = unit_of(data, self.ticks, self.clock.mono_ns(), is_keyframe=is_keyframe, pieces=pieces, **fields)
        self.ticks += ticks
        written = self.writer.push(unit, self.clock.read())
        self.written += written
        return written

    def record(self, pictures: int, *, gop: int = 5, size_bytes: int = 1500, burst_every: int = 0) -> None:
        """Pictures of about `size_bytes` in GOPs; a burst of the syncer after every so many."""
        for number in range(pictures):
            is_keyframe = number % gop == 0
            size = size_bytes * (3 if is_keyframe else 1) + self.random.randrange(size_bytes)
            self.push(self.random.randbytes(size), is_keyframe=is_keyframe)
            if burst_every and (number + 1) % burst_every == 0:
                self.syncer.burst()

    def end_run(self) -> None:
        self.written += self.writer.end_run(self.clock.read())

    def stop(self) -> None:
        self.written += self.writer.close(self.clock.read())
        self.syncer.stop()

    def faults(self) -> list[Fault]:
        return check_ring(self.directory(), self.settings.stream)


def memory_directory(disk: MemoryDisk) -> MemoryDirectory:
    return disk.directory(f"/rings/{STREAM}")


def segment_files(rig: Rig) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of every segment."""
    directory = rig.directory()
    for name in directory.names():
        if name.endswith(".mp4"):
            fd = directory.open(name, write=False)
            yield name, directory.read(fd, directory.size(fd), 0)
            directory.close_file(fd)
