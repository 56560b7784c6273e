"""A disk in memory that loses power and fails, for tests of whatever writes.

`MemoryDisk` has directories that behave as `nvr.ring.disk.Directory` does. It keeps every write and every sync, and
gives back the disks that a power cut could leave at any moment: each page that was written since its file's last
sync holds any of its versions since then, a mix of two of them in sectors of 512 bytes, or zeros.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from nvr.media import PAGE_BYTES

SECTOR_BYTES = 512


@dataclass
class MemoryFile:
    """One file: what reads see, what is durable, and what was written since."""

    data: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes]] = field(default_factory=list)  # in order; lost or kept page by page
    doomed: list[tuple[int, bytes]] = field(default_factory=list)  # a sync of these failed: no later sync helps
    is_named: bool = False  # its name is durable
    is_cached: bool = False  # was read, and not forgotten since

    def write(self, data: bytes, offset: int) -> None:
        end = offset + len(data)
        if end > len(self.data):
            self.data.extend(bytes(end - len(self.data)))
        self.data[offset:end] = data
        self.pending.append((offset, data))

    def sync(self) -> None:
        """What was written is durable. The pages of a failed sync count as clean, so nobody writes them again."""
        doomed = self._doomed_pages()
        length = len(self.data)
        self.durable.extend(bytes(max(0, length - len(self.durable))))
        for offset, data in self.pending:
            for page, start, piece in _by_page(offset, data):
                if page not in doomed:
                    self.durable[start : start + len(piece)] = piece
        # A page that was written again after the failed sync is dirty again, and this sync wrote it as a whole.
        for offset, data in self.pending:
            for page, _, _ in _by_page(offset, data):
                if page in doomed:
                    start = page * PAGE_BYTES
                    self.durable[start : start + PAGE_BYTES] = self.data[start : start + PAGE_BYTES]
                    doomed.discard(page)
        self.doomed = [w for w in self.doomed if any(page in doomed for page, _, _ in _by_page(*w))]
        self.pending.clear()

    def _doomed_pages(self) -> set[int]:
        return {page for offset, data in self.doomed for page, _, _ in _by_page(offset, data)}


def _by_page(offset: int, data: bytes) -> list[tuple[int, int, bytes]]:
    """(page number, offset, bytes) for each page that a write touches."""
    pieces = []
    place = 0
    while place < len(data):
        start = offset + place
        length = min(PAGE_BYTES - start % PAGE_BYTES, len(data) - place)
        pieces.append((start // PAGE_BYTES, start, data[place : place + length]))
        place += length
    return pieces


# How a page can look after a cut: given its versions (oldest first, at least two), one of them, or a mix.
PageFate = Callable[[list[bytes]], bytes]


def kept(versions: list[bytes]) -> bytes:
    return versions[-1]


def lost(versions: list[bytes]) -> bytes:
    return versions[0]


def zeroed(versions: list[bytes]) -> bytes:
    return bytes(len(versions[0]))


def torn(rng: random.Random) -> PageFate:
    """Each sector from one of two versions in a row."""

    def fate(versions: list[bytes]) -> bytes:
        at = rng.randrange(len(versions) - 1)
        return b"".join(
            versions[at + rng.randrange(2)][start : start + SECTOR_BYTES]
            for start in range(0, PAGE_BYTES, SECTOR_BYTES)
        )

    return fate


def any_version(rng: random.Random) -> PageFate:
    return lambda versions: rng.choice(versions)


def mixed(rng: random.Random) -> PageFate:
    """Every page its own fate."""
    fates = [kept, lost, zeroed, torn(rng), any_version(rng), any_version(rng)]
    return lambda versions: rng.choice(fates)(versions)


class MemoryDisk:
    """Files in memory; `calls` counts every call that a real disk could fail."""

    def __init__(self) -> None:
        self.files: dict[str, MemoryFile] = {}
        self.removed: dict[str, MemoryFile] = {}  # removals that are not durable yet
        self.calls = 0
        self.bytes_read = 0
        self.media_into_read_pages = 0  # gathered writes to a file that was read and not forgotten
        self.capacity_bytes: int | None = None
        self._fail_from: int | None = None
        self._fail_to = 0
        self._fail_errno = 0
        self._open: dict[int, MemoryFile] = {}
        self._next_fd = 1_000_000
        self.after_call: Callable[[], None] = lambda: None  # a test looks at the disk after each call
        # Real descriptors, because gathers write to nothing else.
        self._scratch_fd = os.memfd_create("gather")

    def __del__(self) -> None:
        os.close(self._scratch_fd)

    def directory(self, path: str, *, create: bool = False) -> MemoryDirectory:
        return MemoryDirectory(self, str(path))

    def fail(self, call: int, error: int, *, times: int = 1) -> None:
        """Let call number `call` (from 0) and the ones after it fail, `times` in all; times=0: for ever."""
        self._fail_from, self._fail_errno = call, error
        self._fail_to = call + times if times else 1 << 62

    def heal(self) -> None:
        self._fail_from = None

    def call(self) -> None:
        number = self.calls
        self.calls += 1
        if self._fail_from is not None and self._fail_from <= number < self._fail_to:
            raise OSError(self._fail_errno, os.strerror(self._fail_errno))

    def cut(self, fate: PageFate, *, names_kept: bool = True) -> MemoryDisk:
        """The disk that is found after the power went now."""
        disk = MemoryDisk()
        disk.capacity_bytes = self.capacity_bytes
        if not names_kept:
            for path, file in self.removed.items():
                disk.files.setdefault(path, _after_cut(file, fate))
        for path, file in self.files.items():
            if file.is_named or names_kept:
                disk.files[path] = _after_cut(file, fate)
        return disk

    def dirty_pages(self) -> int:
        return sum(len({p for w in f.pending + f.doomed for p, _, _ in _by_page(*w)}) for f in self.files.values())


def _after_cut(file: MemoryFile, fate: PageFate) -> MemoryFile:
    content = bytearray(file.durable)
    content.extend(bytes(max(0, len(file.data) - len(content))))
    versions: dict[int, list[bytes]] = {}
    for offset, data in file.doomed + file.pending:
        for page, start, piece in _by_page(offset, data):
            history = versions.setdefault(page, [bytes(content[page * PAGE_BYTES : (page + 1) * PAGE_BYTES])])
            newest = bytearray(history[-1])
            newest[start - page * PAGE_BYTES : start - page * PAGE_BYTES + len(piece)] = piece
            history.append(bytes(newest))
    for page, history in versions.items():
        content[page * PAGE_BYTES : (page + 1) * PAGE_BYTES] = fate(history)
    return MemoryFile(bytearray(content), bytearray(content), is_named=True)


class MemoryDirectory:
    """Passes for a `nvr.ring.disk.Directory`."""

    def __init__(self, disk: MemoryDisk, path: str) -> None:
        self.disk = disk
        self.path = PurePosixPath(path)

    def _file(self, name: str) -> str:
        return f"{self.path}/{name}"

    def lock(self) -> None:
        pass

    def has_name(self, fd: int) -> bool:
        return any(file is self.disk._open[fd] for file in self.disk.files.values())

    def is_in_place(self) -> bool:
        return True

    def names(self) -> list[str]:
        prefix = f"{self.path}/"
        return sorted(path[len(prefix) :] for path in self.disk.files if path.startswith(prefix))

    def open(self, name: str, *, create: bool = False, write: bool = True) -> int:
        self.disk.call()
        path = self._file(name)
        if create:
            if path in self.disk.files:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
            self.disk.files[path] = MemoryFile()
        elif path not in self.disk.files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        fd = self.disk._next_fd
        self.disk._next_fd += 1
        self.disk._open[fd] = self.disk.files[path]
        return fd

    def close_file(self, fd: int) -> None:
        del self.disk._open[fd]

    def size(self, fd: int) -> int:
        return len(self.disk._open[fd].data)

    def allocate(self, fd: int, size_bytes: int) -> None:
        self.disk.call()
        file = self.disk._open[fd]
        more = size_bytes - len(file.data)
        used = sum(len(other.data) for other in self.disk.files.values())
        if more > 0:
            if self.disk.capacity_bytes is not None and used + more > self.disk.capacity_bytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            file.data.extend(bytes(more))
        self.disk.after_call()

    def read(self, fd: int, size_bytes: int, offset: int) -> bytes:
        data = bytes(self.disk._open[fd].data[offset : offset + size_bytes])
        self.disk.bytes_read += len(data)
        self.disk._open[fd].is_cached = True
        return data

    def forget(self, fd: int) -> None:
        self.disk._open[fd].is_cached = False

    def write(self, fd: int, data: bytes | memoryview, offset: int) -> None:
        self.disk.call()
        self.disk._open[fd].write(bytes(data), offset)
        self.disk.after_call()

    def write_gather(self, fd: int, gather: object, offset: int, size_bytes: int) -> None:
        self.disk.call()
        self.disk.media_into_read_pages += self.disk._open[fd].is_cached
        gather.write(self.disk._scratch_fd, 0, size_bytes)  # type: ignore[attr-defined]
        self.disk._open[fd].write(os.pread(self.disk._scratch_fd, size_bytes, 0), offset)
        self.disk.after_call()

    def sync(self, fd: int) -> None:
        file = self.disk._open[fd]
        try:
            self.disk.call()
        except OSError:
            file.doomed += file.pending
            file.pending = []
            raise
        file.sync()
        self.disk.after_call()

    def sync_names(self) -> None:
        self.disk.call()
        prefix = f"{self.path}/"
        for path, file in self.disk.files.items():
            if path.startswith(prefix):
                file.is_named = True
        for path in [path for path in self.disk.removed if path.startswith(prefix)]:
            del self.disk.removed[path]
        self.disk.after_call()

    def remove(self, name: str) -> None:
        self.disk.call()
        self.disk.removed[self._file(name)] = self.disk.files.pop(self._file(name))
        self.disk.after_call()

    def rename(self, name: str, new_name: str) -> None:
        self.disk.call()
        path = self._file(new_name)
        if path in self.disk.files:
            self.disk.removed[path] = self.disk.files[path]
        self.disk.files[path] = self.disk.files.pop(self._file(name))
        self.disk.after_call()

    def close(self) -> None:
        pass
