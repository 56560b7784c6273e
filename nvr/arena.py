"""Where network bytes are received: large buffers that all streams share, each written once.

Bytes are received one behind the other; whoever made views of them keeps the buffer alive. A full buffer is put aside and
used again when nobody holds a view of it any more, which Python's own reference count tells. So nothing is copied
out, memory follows what is still in use, and no fresh pages are asked of the kernel (50 us for each buffer, measured).
"""

from __future__ import annotations

import sys
from collections import deque

BUFFER_BYTES = 512 * 1024
ROOM_BYTES = 256 * 1024  # as much as one call may bring: of a mad camera that is thousands of pictures
LEAST_ROOM_BYTES = 32 * 1024  # less than this is not worth a system call
_ONLY_OURS = 2  # references to a buffer while only `_unused` looks at it: its variable, and getrefcount's argument
_SPENT_MAX = 32  # buffers that are remembered; more views than 16 MiB in use is somebody else's leak
_FREE_MAX, _LOOK_EVERY = (
    4,
    64,
)  # free buffers that are kept, and after how many taken ones it is looked whether there are more
SLACK_BYTES = 32  # readers may look this far behind the end of what was received


class Arena:
    """Hands out room to receive into. One thread, one user at a time: room(), then took()."""

    def __init__(self, buffer_bytes: int = BUFFER_BYTES) -> None:
        self._buffer_bytes = buffer_bytes
        self.buffer = bytearray(buffer_bytes)
        self.used = 0  # where the next bytes go
        self._view = memoryview(self.buffer)
        self._spent: deque[bytearray] = deque()  # full ones, oldest first
        self._taken = 0

    def _unused(self, size_bytes: int) -> bytearray:
        """A buffer that nobody looks at: the oldest spent one that is free, or a new one."""
        spent = self._spent
        self._taken += 1
        if self._taken % _LOOK_EVERY == 0:
            self._let_go()
        for _ in range(len(spent)):
            buffer = spent.popleft()
            if sys.getrefcount(buffer) == _ONLY_OURS:
                if len(buffer) == size_bytes:
                    return buffer
                continue  # a large one, made for somebody special
            if len(spent) < _SPENT_MAX:
                spent.append(buffer)  # else its last user lets go of it
        return bytearray(size_bytes)

    def _let_go(self) -> None:
        """Give back what a slow disk or a burst of pictures once needed."""
        free = 0
        for _ in range(len(self._spent)):
            buffer = self._spent.popleft()
            is_free = sys.getrefcount(buffer) == _ONLY_OURS
            free += is_free
            if not is_free or free <= _FREE_MAX:
                self._spent.append(buffer)

    def room(self, before: bytes = b"", at_least: int = LEAST_ROOM_BYTES) -> memoryview:
        """Where to receive. `before` (an incomplete packet from last time) is put in front of it, at `used`.

        The view has at least `at_least` bytes. Nothing is taken until took().
        """
        start = self.used
        if self._buffer_bytes - SLACK_BYTES - start < len(before) + at_least:
            # A packet is at most 64 KiB, so this is a larger buffer only for those who ask for one.
            size = max(self._buffer_bytes, len(before) + at_least + SLACK_BYTES)
            self._view = memoryview(b"")
            self._spent.append(self.buffer)
            self.buffer = self._unused(size)
            self._view = memoryview(self.buffer)
            self.used = start = 0
        if before:
            self.buffer[start : start + len(before)] = before
            start += len(before)
        return self._view[start : min(len(self.buffer) - SLACK_BYTES, start + max(at_least, ROOM_BYTES))]

    def took(self, size_bytes: int) -> None:
        """`size_bytes` from `used` on now belong to whoever received them, `before` included."""
        self.used += size_bytes
