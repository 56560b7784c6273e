"""System calls of the ring, and what their errors mean.

All files of one ring are opened relative to a descriptor of its directory: when the disk behind it goes away,
these calls fail, and can never end up in an empty mount point on another disk. `tests/fakes.py` has the same
class over memory, which loses power and fails at every call.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from nvr import durable
from nvr.errors import NvrError
from nvr.gather import Gather
from nvr.media import PAGE_BYTES, Cause


class DiskFailed(NvrError):
    """The disk did not do what was asked. `cause` is what the ledger says of the seconds that are missing."""

    def __init__(self, message: str, *, cause: Cause = Cause.DISK_FAILED, hint: str = "", error: int = 0) -> None:
        super().__init__(message, hint=hint)
        self.cause = cause
        self.error = error  # errno


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why nothing is being recorded just now."""

    cause: Cause
    detail: str
    since_ns: int  # monotonic


_FULL = {errno.ENOSPC, errno.EDQUOT}
_GONE = {errno.ENODEV, errno.ENXIO, errno.ESTALE, errno.EBADF, errno.ENOENT, errno.ENOTCONN}
_HINTS = {
    errno.EROFS: "The file system became read-only, mostly after an error: look at the kernel's log, check the disk.",
    errno.EIO: "The disk cannot be read or written: look at the kernel's log, replace the disk.",
    errno.EACCES: "Make the data directory writable for the user that records.",
    errno.EPERM: "Make the data directory writable for the user that records.",
}


def cause_of(error: OSError) -> Cause:
    return Cause.DISK_FULL if error.errno in _FULL else Cause.DISK_FAILED


def is_gone(error: int) -> bool:
    """Whether an errno says that the disk is not there any more; then the ring must be opened anew."""
    return error in _GONE


def failed(error: OSError, what: str) -> DiskFailed:
    if error.errno in _FULL:
        hint = "Free space on the disk, or lower ring_gb."
    elif is_gone(error.errno or 0):
        hint = "The disk went away: plug it in again; recording goes on by itself."
    else:
        hint = _HINTS.get(error.errno or 0, "Look at the kernel's log.")
    name = errno.errorcode.get(error.errno or 0, "no number")
    return DiskFailed(f"{what}: {error.strerror} ({name})", cause=cause_of(error), hint=hint, error=error.errno or 0)


@contextmanager
def failing(what: str) -> Iterator[None]:
    """OSError becomes DiskFailed: "`what`: No space left on device (ENOSPC)"."""
    try:
        yield
    except OSError as error:
        raise failed(error, what) from error


class Directory:
    """The directory of one ring. Every method raises OSError as the system call does."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        self.path = path
        if create and not path.is_dir():
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for parent in (path.parent, path.parent.parent):
                durable.sync_folder(parent)
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._files: set[int] = set()  # open ones: close() leaves none behind, whatever failed before

    def is_in_place(self) -> bool:
        """Whether `path` still leads here: not after somebody moved it, or mounted something over it."""
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self._fd))
        except OSError:
            return False

    def lock(self) -> None:
        """Keep other processes from writing here until close(). Raises BlockingIOError when one does so already."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            pass  # NFS locks no directories; recording matters more

    def names(self) -> list[str]:
        return sorted(os.listdir(self._fd))

    def open(self, name: str, *, create: bool = False, write: bool = True) -> int:
        flags = (os.O_RDWR if write else os.O_RDONLY) | (os.O_CREAT | os.O_EXCL if create else 0) | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600, dir_fd=self._fd)
        self._files.add(fd)
        return fd

    def close_file(self, fd: int) -> None:
        self._files.discard(fd)
        os.close(fd)

    def has_name(self, fd: int) -> bool:
        """Whether the file is still in a directory: what is written to a removed one is gone when it is closed."""
        return os.fstat(fd).st_nlink > 0

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def allocate(self, fd: int, size_bytes: int) -> None:
        """Give the file its blocks up to `size_bytes`, so that later writes need no new ones."""
        os.posix_fallocate(fd, 0, size_bytes)

    def read(self, fd: int, size_bytes: int, offset: int) -> bytes:
        """As many bytes as there are, up to `size_bytes`."""
        data = os.pread(fd, size_bytes, offset)
        if len(data) == size_bytes or not data:
            return data
        pieces = [data]
        got = len(data)
        while got < size_bytes and (data := os.pread(fd, size_bytes - got, offset + got)):
            pieces.append(data)
            got += len(data)
        return b"".join(pieces)

    def forget(self, fd: int) -> None:
        """What was read of the file stays in memory no longer, as far as it is on the disk; only advice, and never fails.

        The kernel reads ahead into pieces of up to 2 MiB, and each write into such a piece walks all of its pages (40 us, measured).
        """
        with suppress(OSError):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def write(self, fd: int, data: bytes | memoryview, offset: int) -> None:
        written = os.pwrite(fd, data, offset)
        while written < len(data):
            written += os.pwrite(fd, memoryview(data)[written:], offset + written)

    def write_gather(self, fd: int, gather: Gather, offset: int, size_bytes: int) -> None:
        """Write the first bytes of `gather` and drop them from it."""
        gather.write(fd, offset, size_bytes)

    def sync(self, fd: int) -> None:
        """On return everything written to the file is durable. After an error nobody knows what is."""
        os.fdatasync(fd)

    def sync_names(self) -> None:
        """Make creations and removals durable."""
        os.fsync(self._fd)

    def remove(self, name: str) -> None:
        os.unlink(name, dir_fd=self._fd)

    def rename(self, name: str, new_name: str) -> None:
        os.rename(name, new_name, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def close(self) -> None:
        for fd in list(self._files):
            self.close_file(fd)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class DeviceReader:
    """Reads one file from the device itself, past the page cache: what the disk holds, not what the kernel remembers of it."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        flags = os.O_RDONLY | os.O_CLOEXEC
        try:
            self._fd = os.open(path, flags | os.O_DIRECT)
            self.is_direct = True
        except OSError as error:
            if error.errno != errno.EINVAL:  # tmpfs and some network file systems know no direct reads
                raise
            self._fd = os.open(path, flags)
            self.is_direct = False
        self._room = mmap.mmap(-1, PAGE_BYTES)

    def read(self, size_bytes: int, offset: int) -> memoryview:
        """Whole pages from a page's start; valid until the next call. Shorter at the end of the file. Raises OSError."""
        if size_bytes > len(self._room):
            self._room = mmap.mmap(-1, size_bytes)  # its pages are where direct reads want them
        if not self.is_direct:
            os.posix_fadvise(self._fd, offset, size_bytes, os.POSIX_FADV_DONTNEED)
        view = memoryview(self._room)[:size_bytes]
        got = 0
        while got < size_bytes:
            count = os.preadv(self._fd, [view[got:]], offset + got)
            if count <= 0 or count % PAGE_BYTES:
                got += max(count, 0)
                break
            got += count
        return view[:got]

    def close(self) -> None:
        os.close(self._fd)


def write_file(path: Path, data: bytes) -> None:
    """Replace `path` as a whole: after a power cut it holds the old bytes or the new ones."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    durable.write_new(draft, data)
    try:
        os.rename(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    durable.sync_folder(path.parent)


_MARK_NAME = ".disk"  # in DATA/rings, on the disk that holds the rings
_EXPECTED_NAME = "rings.disk"  # in DATA: which disk that must be


def check_same_disk(data_dir: Path, mark: str = "") -> str:
    """Make sure that DATA/rings lies on the disk that it lay on before; returns that disk's mark.

    Protects a box whose DATA/rings, or all of DATA, is a mount point: without the disk, rings would otherwise grow on the
    root file system. Without `mark` the first call ever marks the disk. With `mark`, what an earlier call returned, nothing
    is made: not even DATA, when it went away together with its disk. Raises DiskFailed when the disk is not there. To
    change disks, remove DATA/rings.disk and start again.
    """
    rings_path, expected_path = data_dir / "rings", data_dir / _EXPECTED_NAME
    mark_path = rings_path / _MARK_NAME
    try:
        expected = mark or (expected_path.read_text().strip() if expected_path.exists() else "")
        if expected and not rings_path.is_dir():
            raise DiskFailed(f"{rings_path} is not there", hint="Mount the recording disk.", error=errno.ENODEV)
        if not expected:
            rings_path.mkdir(mode=0o700, exist_ok=True)
        found = mark_path.read_text().strip() if mark_path.exists() else ""
        if not found and not expected:
            found = secrets.token_hex(16)
            write_file(mark_path, found.encode() + b"\n")
        if not expected:
            write_file(expected_path, found.encode() + b"\n")
        elif found != expected:
            raise DiskFailed(
                f"{rings_path} is on another disk than before ({'marked ' + found[:8] if found else 'not marked'}, expected {expected[:8]})",
                hint=f"Mount the recording disk. If the disk was replaced on purpose, remove {expected_path} and start again.",
                error=errno.ENODEV,
            )
    except OSError as error:
        raise failed(error, f"cannot look at {rings_path}") from error
    return found
