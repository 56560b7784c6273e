"""One card, or one file that plays a card: writing, and reading back what the medium really holds. Only system calls.

Everything goes past the page cache (O_DIRECT), so what is read comes from the medium and not from our own memory, and progress is
what was really written. Where a file system cannot do that (tmpfs, some network disks), `is_direct` is False and the cache is
dropped instead.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
from pathlib import Path
from typing import Protocol

from nvr.errors import NvrError

ALIGN = 4096
_BLKGETSIZE64 = 0x80081272
_BLKFLSBUF = 0x1261
_BLKRRPART = 0x125F


class DeviceFailed(NvrError):
    """A device cannot be opened as a card."""


class Disk(Protocol):
    """What `burn.py` needs of a card. All of it may raise OSError."""

    name: str
    size_bytes: int
    is_file: bool

    def write(self, offset: int, view: memoryview) -> None: ...
    def read_into(self, offset: int, view: memoryview) -> None: ...
    def sync(self) -> None: ...
    def close(self, *, whole: bool) -> None: ...


def buffer(size_bytes: int) -> memoryview:
    """Memory that the kernel can transfer to and from directly."""
    return memoryview(mmap.mmap(-1, max(size_bytes, ALIGN)))[:size_bytes]


class BlockDisk:
    """A block device. Nobody else can have it mounted or claim it while it is open (O_EXCL)."""

    is_file = False

    def __init__(self, path: Path, expected_bytes: int | None = None) -> None:
        """`expected_bytes`: as it was shown to the person who agreed. Raises DeviceFailed when another card is there now."""
        self.name = str(path)
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_EXCL | os.O_DIRECT | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise DeviceFailed(
                    f"{path} is in use: mounted, or part of another disk",
                    hint=f"lsblk {path} shows by whom; unmount it.",
                ) from error
            if error.errno in (errno.EACCES, errno.EPERM):
                raise DeviceFailed(
                    f"{path} may not be written by this user",
                    hint="Run it with sudo, or join the group that `ls -l` shows (usually `disk`).",
                ) from error
            raise DeviceFailed(
                f"cannot open {path}: {error.strerror}", hint="Is the card in the reader, and its lock open?"
            ) from error
        try:
            if not stat.S_ISBLK(os.fstat(self._fd).st_mode):
                raise DeviceFailed(f"{path} is no block device", hint="lsblk lists them.")
            size = bytearray(8)
            fcntl.ioctl(self._fd, _BLKGETSIZE64, size)
            self.size_bytes = int.from_bytes(size, "little")
            if expected_bytes is not None and self.size_bytes != expected_bytes:
                raise DeviceFailed(
                    f"{path} had {expected_bytes} bytes when you were asked and has {self.size_bytes} now: another card?",
                    hint="Start again.",
                )
        except BaseException:
            os.close(self._fd)
            raise

    def write(self, offset: int, view: memoryview) -> None:
        _write_all(self._fd, offset, view)

    def read_into(self, offset: int, view: memoryview) -> None:
        _read_all(self._fd, offset, view)

    def sync(self) -> None:
        os.fsync(self._fd)
        fcntl.ioctl(self._fd, _BLKFLSBUF, 0)

    def close(self, *, whole: bool) -> None:
        try:
            if whole:
                fcntl.ioctl(self._fd, _BLKRRPART, 0)
        except OSError:
            pass  # a loop device without partitions, or a desktop that was quicker
        finally:
            os.close(self._fd)


class FileDisk:
    """A plain file: written beside its name, which it takes only when it is whole."""

    is_file = True

    def __init__(self, path: Path, size_bytes: int) -> None:
        """Raises DeviceFailed when another writing has the name, OSError."""
        self.name, self._path = str(path), path
        self.size_bytes = size_bytes
        self._draft = path.with_name(f"{path.name}.unfinished")
        self._remove_leftover()
        self._fd = os.open(self._draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ours until it is closed
            os.ftruncate(self._fd, size_bytes)
            self._direct_fd: int | None = os.open(self._draft, os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC)
        except OSError as error:
            self._direct_fd = None
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                os.close(self._fd)
                self._draft.unlink(missing_ok=True)
                raise

    def _remove_leftover(self) -> None:
        """Of a writing that was killed. Never written into: it may be a link, and whoever writes cards may be root and write anywhere.

        Raises DeviceFailed while another writing has it: both would end as one file, half of each.
        """
        try:
            fd = os.open(self._draft, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        except OSError:
            self._draft.unlink()
            return
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DeviceFailed(
                f"{self.name} is being written at this moment, by another nvrctl", hint="Give another name, or wait."
            ) from error
        else:
            self._draft.unlink(missing_ok=True)
        finally:
            os.close(fd)

    @property
    def is_direct(self) -> bool:
        return self._direct_fd is not None

    def _fd_for(self, offset: int, view: memoryview) -> int:
        """The end of an image need not fill a block of the file system."""
        is_aligned = offset % ALIGN == 0 and len(view) % ALIGN == 0
        return self._direct_fd if self._direct_fd is not None and is_aligned else self._fd

    def write(self, offset: int, view: memoryview) -> None:
        _write_all(self._fd_for(offset, view), offset, view)

    def read_into(self, offset: int, view: memoryview) -> None:
        fd = self._fd_for(offset, view)
        if fd == self._fd:
            os.posix_fadvise(fd, offset, len(view), os.POSIX_FADV_DONTNEED)
        _read_all(fd, offset, view)

    def sync(self) -> None:
        os.fsync(self._fd)

    def close(self, *, whole: bool) -> None:
        if self._direct_fd is not None:
            os.close(self._direct_fd)
        os.close(self._fd)
        if whole:
            os.replace(self._draft, self._path)
            folder_fd = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder_fd)
            finally:
                os.close(folder_fd)
        else:
            self._draft.unlink(missing_ok=True)


def _write_all(fd: int, offset: int, view: memoryview) -> None:
    done = 0
    while done < len(view):
        done += os.pwrite(fd, view[done:], offset + done)


def _read_all(fd: int, offset: int, view: memoryview) -> None:
    done = 0
    while done < len(view):
        size_bytes = os.preadv(fd, [view[done:]], offset + done)
        if size_bytes == 0:
            raise OSError(errno.EIO, "it ends before its size")
        done += size_bytes
