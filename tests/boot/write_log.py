"""What a guest wrote to its disk, write by write and flush by flush, and the disks that a power cut could have left at any moment.

QEMU's `blklogwrites` filter lies below the guest's disk and writes a log in the format of the kernel's dm-log-writes
(Documentation/admin-guide/device-mapper/log-writes.rst): a super block, then for each request a sector that describes it and its
data. An entry is there before the guest hears that its request is done. QEMU logs a flush when it is done, so a write that
went on beside a flush and ended before it counts as flushed, though a real disk need not have kept it: that one case is kinder here.

`Cutter.cut()` gives the disk after a cut: everything up to the last flush, and of every write since then all, nothing, or some of
its sectors.
"""

from __future__ import annotations

import json
import os
import random
import struct
import subprocess
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import IO

SECTOR = 512
MAGIC = 0x6A736677736872
_SUPER = struct.Struct("<QQQI")  # magic, version, entries, bytes of a sector
_ENTRY = struct.Struct("<QQQQ")  # sector, sectors, flags, bytes of data (used by marks only)
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8


@dataclass(frozen=True, slots=True)
class Entry:
    """One request; `data_at` is where its data lies in the log, `end` where the next entry begins."""

    offset: int  # on the disk, in bytes
    size: int
    flags: int
    data_at: int
    end: int

    @property
    def is_flush(self) -> bool:
        return bool(self.flags & FLUSH)


def options(disk: Path, log: Path, node: str) -> list[str]:
    """QEMU's words for a disk that is logged; the device names `node`. Makes the empty log."""
    log.write_bytes(b"")
    image = {
        "driver": "raw", "node-name": f"{node}-image", "discard": "unmap", "file": {"driver": "file", "filename": str(disk)},
    }  # fmt: skip
    logged = {
        "driver": "blklogwrites", "node-name": node, "file": f"{node}-image", "log": {"driver": "file", "filename": str(log)},
        "log-sector-size": SECTOR, "discard": "unmap",
    }  # fmt: skip
    return ["-blockdev", json.dumps(image), "-blockdev", json.dumps(logged)]


def entries(log: Path) -> list[Entry]:
    """All whole entries, also those that the super block does not count yet."""
    return list(_entries(log))


def _entries(log: Path) -> Iterator[Entry]:
    size = log.stat().st_size
    with open(log, "rb") as file:
        magic, version, _, sector = _SUPER.unpack(file.read(_SUPER.size).ljust(_SUPER.size, b"\0"))
        # The super block is written with the first flush; a log without one has no flush.
        assert magic in (0, MAGIC) and version in (0, 1) and sector in (0, SECTOR), (magic, version, sector)
        at = SECTOR
        while at + SECTOR <= size:
            file.seek(at)
            start, count, flags, _ = _ENTRY.unpack(file.read(_ENTRY.size))
            has_data = not flags & (FLUSH | DISCARD | MARK)
            end = at + SECTOR + (count * SECTOR if has_data else 0)
            if end > size or not (count or flags):
                return  # it was being written
            yield Entry(start * SECTOR, count * SECTOR, flags, at + SECTOR, end)
            at = end


class Fate(Enum):
    """What becomes of the writes since the last flush."""

    KEPT = "all kept"
    LOST = "all lost"
    PREFIX = "the first ones kept"
    MIXED = "each kept, lost or torn"


class Cutter:
    """The disk as it was flushed, going forward through the log, and copies of it as a cut leaves them.

    A box that restarts gives one log for each start. They are read as one: a reset is no power cut, and the disk still holds what
    the box had sent and not flushed.
    """

    def __init__(self, base: Path, logs: Sequence[Path], work: Path) -> None:
        """`base`: the disk before the first entry; it is copied."""
        self.entries: list[Entry] = []
        self._ends: list[int] = []  # bytes of all logs when an entry was whole
        self._files = [open(log, "rb") for log in logs]
        self._file_of: list[IO[bytes]] = []
        before = 0
        for log, file in zip(logs, self._files, strict=True):
            found = entries(log)
            self.entries += found
            self._ends += [before + entry.end for entry in found]
            self._file_of += [file] * len(found)
            before += log.stat().st_size
        self._flushed = work / "flushed.img"
        sparse_copy(base, self._flushed)
        self._done = 0

    def number_at(self, log_bytes: int) -> int:
        """How many entries were whole when all logs together had so many bytes."""
        return bisect_left(self._ends, log_bytes + 1)

    def log_bytes_at(self, number: int) -> int:
        """How many bytes all logs together had when so many entries were whole."""
        return self._ends[number - 1]

    def cut(self, number: int, fate: Fate, chance: random.Random, to: Path) -> int:
        """`to` is the disk when the power goes behind entry `number` - 1; numbers never fall. Returns how many writes were at stake."""
        backwards = range(number - 1, self._done - 1, -1)
        flushed = next((at + 1 for at in backwards if self.entries[at].is_flush), self._done)
        with open(self._flushed, "r+b") as disk:
            for at in range(self._done, flushed):
                self._apply(disk, at)
            self._done = flushed
        sparse_copy(self._flushed, to)
        at_stake = [at for at in range(flushed, number) if not self.entries[at].is_flush]
        kept_first = chance.randrange(len(at_stake) + 1)
        with open(to, "r+b") as disk:
            for place, at in enumerate(at_stake):
                is_forced = self.entries[at].flags & FUA
                if is_forced or fate is Fate.KEPT or (fate is Fate.PREFIX and place < kept_first):
                    self._apply(disk, at)
                elif fate is Fate.PREFIX and place == kept_first:
                    self._apply(disk, at, chance)
                elif fate is Fate.MIXED:
                    match chance.randrange(3):
                        case 0:
                            self._apply(disk, at)
                        case 1:
                            self._apply(disk, at, chance)
        return len(at_stake)

    def _apply(self, disk: IO[bytes], at: int, torn: random.Random | None = None) -> None:
        """The whole request, or with `torn` every sector with even chances."""
        entry = self.entries[at]
        if entry.flags & DISCARD:
            data = bytes(entry.size)  # a discarded stretch of a raw image reads as zeros
        elif not entry.size or entry.flags & MARK:
            return
        else:
            data = os.pread(self._file_of[at].fileno(), entry.size, entry.data_at)
        if torn is None:
            os.pwrite(disk.fileno(), data, entry.offset)
            return
        for start in range(0, entry.size, SECTOR):
            if torn.random() < 0.5:
                os.pwrite(disk.fileno(), data[start : start + SECTOR], entry.offset + start)

    def close(self) -> None:
        for file in self._files:
            file.close()
        self._flushed.unlink()


def sparse_copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "--sparse=always", source, target], check=True)
