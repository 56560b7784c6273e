"""Bytes that lie in several places, in order, written to disk without ever being joined.

A gather is how media bytes travel from the buffer they were received in to the segment file: a list of
views. This is the pure-Python form; `nvr._fast.Gather` (built when a compiler is there) has the same
methods and passes the same tests. Import it from here: `from nvr.gather import Gather`.
"""

from __future__ import annotations

import errno
import os
from typing import Protocol

from nvr.crc import crc32c

IOV_MAX = 1024  # Linux: one pwritev takes at most so many buffers


class Hasher(Protocol):
    def update(self, data: memoryview, /) -> None: ...


class PyGather:
    """A growing list of views; whoever holds the gather keeps the memory behind the views alive."""

    __slots__ = ("_views", "size_bytes")

    def __init__(self) -> None:
        self._views: list[memoryview] = []
        self.size_bytes = 0

    @classmethod
    def of(cls, views: list[memoryview], size_bytes: int) -> PyGather:
        """A gather of `views`, which are `size_bytes` together and belong to it from now on."""
        gather = cls.__new__(cls)
        gather._views = views
        gather.size_bytes = size_bytes
        return gather

    def append(self, view: memoryview) -> None:
        """Add bytes at the end. The caller must not change them while the gather lives."""
        if len(view):
            self._views.append(memoryview(view))
            self.size_bytes += len(view)

    def extend(self, other: PyGather) -> None:
        """Add all of `other` at the end; `other` stays as it is."""
        self._views += other.views()
        self.size_bytes += other.size_bytes

    def split(self, size_bytes: int) -> PyGather:
        """Take the first `size_bytes` away, as a gather of their own. Raises ValueError when there are fewer."""
        if not 0 <= size_bytes <= self.size_bytes:
            raise ValueError(f"{size_bytes} bytes of {self.size_bytes}")
        views, left, whole = self._views, size_bytes, 0
        while left and left >= len(views[whole]):
            left -= len(views[whole])
            whole += 1
        head = views[:whole]
        del views[:whole]
        if left:
            head.append(views[0][:left])
            views[0] = views[0][left:]
        self.size_bytes -= size_bytes
        return PyGather.of(head, size_bytes)

    def views(self) -> tuple[memoryview, ...]:
        """The pieces themselves, for readers and tests."""
        return tuple(self._views)

    def crc32c(self, value: int = 0) -> int:
        """CRC-32C (RFC 3720, B.4) of all bytes, continued from `value`."""
        for view in self._views:
            value = crc32c(view, value)
        return value

    def update(self, hasher: Hasher) -> None:
        """Feed all bytes to a hashlib-like object."""
        update = hasher.update
        for view in self._views:
            update(view)

    def write(self, fd: int, offset: int, size_bytes: int) -> None:
        """Write the first `size_bytes` at `offset` and drop them; what is left stays, uncopied.

        Raises OSError as the system call does; a short write is continued. After an error the gather
        still holds everything that was not written. Raises ValueError when there are fewer bytes.
        """
        over = self.size_bytes - size_bytes
        if over < 0:
            raise ValueError(f"{size_bytes} bytes of {self.size_bytes}")
        views = self._views
        if len(views) <= IOV_MAX and size_bytes:
            # Almost all is written, and by one call: looking from the end there are few pieces to look at.
            count, kept = len(views), 0
            while kept < over:
                count -= 1
                kept += len(views[count])
            batch, tail = views[:count], views[count:]
            if kept > over:
                cut = kept - over
                batch.append(tail[0][:cut])
                tail[0] = tail[0][cut:]
            written = os.pwritev(fd, batch, offset)
            if written == size_bytes:
                self._views, self.size_bytes = tail, over
                return
            if written == 0:  # a file never takes nothing
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            offset += written
            size_bytes -= written
            self._drop(written)
        while size_bytes > 0:
            count, taken = 0, 0
            for view in views[:IOV_MAX]:
                count += 1
                taken += len(view)
                if taken >= size_bytes:
                    break
            batch = views[:count]
            over = taken - size_bytes
            if over > 0:
                batch[-1] = batch[-1][: len(batch[-1]) - over]
            written = os.pwritev(fd, batch, offset)
            if written == 0:  # a file never takes nothing
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            offset += written
            size_bytes -= written
            self._drop(written)

    def _drop(self, size_bytes: int) -> None:
        self.size_bytes -= size_bytes
        views = self._views
        gone = 0
        while gone < len(views) and size_bytes >= len(views[gone]):
            size_bytes -= len(views[gone])
            gone += 1
        del views[:gone]
        if size_bytes:
            views[0] = views[0][size_bytes:]


try:
    if os.environ.get("NVR_PURE") == "1":  # for tests and for the bench
        raise ImportError
    from nvr._fast import Gather
except ImportError:  # no compiler at installation: the same, slower
    Gather = PyGather  # type: ignore[assignment,misc]
