"""Whose sectors a device was told to write: media, our other files, or the file system's own (journal, inodes, bitmaps, extents).

Each write request comes from the kernel's tracepoint `block_rq_issue` (Documentation/trace/events.rst), in an instance of its own, so that nobody
else's tracing is touched; whose it is, from the extents of the files afterwards (FIEMAP, Documentation/filesystems/fiemap.rst). Flags of
requests are not asked: ext4 marks only some of its metadata as such. Needs root and a file system that lies on the whole device.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

TRACING = Path("/sys/kernel/tracing")
_FIEMAP = 0xC020660B  # _IOWR('f', 11, struct fiemap), linux/fiemap.h
_HEAD = struct.Struct("=QQIIII")  # start, length, flags, mapped, count, reserved
_EXTENT = struct.Struct("=QQQ2QI3I")  # logical, physical, length, reserved, flags, reserved
_FLAG_SYNC, _LAST = 1, 1
_AT_A_TIME = 64
# "fio-1 [001] d..1. 12.5: block_rq_issue: 7,0 WS 4096 () 2048 + 8 none,0,0 [fio]"; older kernels lack "none,0,0"
_REQUEST = re.compile(r"block_rq_issue: (\d+),(\d+) (\w+) \d+ \(.*?\) (\d+) \+ (\d+) ")


@dataclass(frozen=True)
class Extent:
    """Bytes of the device, from `start` to before `end`."""

    start: int
    end: int


@dataclass(frozen=True)
class Share:
    """What was written for one purpose."""

    size_bytes: int
    requests: int


def extents(path: Path) -> list[Extent]:
    """Where a file lies. Raises OSError, also where the file system cannot tell."""
    found: list[Extent] = []
    with open(path, "rb") as file:
        at = 0
        while True:
            room = bytearray(_HEAD.pack(at, (1 << 64) - 1 - at, _FLAG_SYNC, 0, _AT_A_TIME, 0))
            room += bytes(_EXTENT.size * _AT_A_TIME)
            fcntl.ioctl(file, _FIEMAP, room)
            mapped = _HEAD.unpack_from(room)[3]
            for number in range(mapped):
                logical, physical, length, _, _, flags, *_ = _EXTENT.unpack_from(
                    room, _HEAD.size + _EXTENT.size * number
                )
                found.append(Extent(physical, physical + length))
                at = logical + length
                if flags & _LAST:
                    return found
            if not mapped:
                return found


class Writes:
    """In a `with` statement: the write requests of one device, as they are handed to it."""

    def __init__(self, device: str) -> None:
        """`device`: a name such as loop0. Raises OSError where the kernel does not let its requests be traced."""
        numbers = os.stat(f"/dev/{device}").st_rdev
        self._device = (os.major(numbers), os.minor(numbers))
        self._instance = TRACING / "instances" / f"nvr-bench-{os.getpid()}-{device}"

    def __enter__(self) -> Writes:
        self._instance.mkdir()
        major, minor = self._device
        event = self._instance / "events" / "block" / "block_rq_issue"
        (event / "filter").write_text(f"dev == {major << 20 | minor}")
        (event / "enable").write_text("1")
        return self

    def so_far(self) -> list[Extent]:
        return list(requests((self._instance / "trace").read_text().splitlines(), self._device))

    def __exit__(self, *_: object) -> None:
        (self._instance / "events" / "enable").write_text("0")
        self._instance.rmdir()


def requests(lines: Iterable[str], device: tuple[int, int]) -> Iterator[Extent]:
    """The writes that carry data, of a text as in the kernel's file `trace`."""
    for line in lines:
        match = _REQUEST.search(line)
        if match is None or (int(match[1]), int(match[2])) != device or "W" not in match[3]:
            continue
        sector, count = int(match[4]), int(match[5])
        if count:  # a flush alone has none
            yield Extent(sector * 512, (sector + count) * 512)


def shares(written: Iterable[Extent], owners: dict[str, list[Extent]], rest: str) -> dict[str, Share]:
    """How much of what was written belongs to whom; what nobody has is `rest`. A request counts for each whom it touches."""
    places = sorted((extent.start, extent.end, name) for name, own in owners.items() for extent in own)
    starts = [start for start, _, _ in places]
    size = dict.fromkeys([*owners, rest], 0)
    count = dict.fromkeys([*owners, rest], 0)
    for request in written:
        touched = set()
        at = request.start
        while at < request.end:
            number = bisect_right(starts, at) - 1
            if number >= 0 and at < places[number][1]:
                name, until = places[number][2], places[number][1]
            else:
                name, until = rest, starts[number + 1] if number + 1 < len(starts) else request.end
            until = min(until, request.end)
            size[name] += until - at
            touched.add(name)
            at = until
        for name in touched:
            count[name] += 1
    return {name: Share(size[name], count[name]) for name in size}
