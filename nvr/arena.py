"""Where network bytes are received: large buffers that all streams share, each written once.

Bytes are received one behind the other; whoever made views of them keeps the buffer alive, and a full buffer is
simply dropped. So nothing is copied out, nothing is counted, and memory follows what is still in use. 256 KiB take a few
microseconds to make, about one for every 180 packets.
"""

from __future__ import annotations

BUFFER_BYTES = 256 * 1024
LEAST_ROOM_BYTES = 32 * 1024  # less than this is not worth a system call
SLACK_BYTES = 32  # readers may look this far behind the end of what was received


class Arena:
    """Hands out room to receive into. One thread, one user at a time: room(), then took()."""

    def __init__(self, buffer_bytes: int = BUFFER_BYTES) -> None:
        self._buffer_bytes = buffer_bytes
        self.buffer = bytearray(buffer_bytes)
        self.used = 0  # where the next bytes go
        self._view = memoryview(self.buffer)

    def room(self, before: bytes = b"", at_least: int = LEAST_ROOM_BYTES) -> memoryview:
        """Where to receive. `before` (an incomplete packet from last time) is put in front of it, at `used`.

        The view has at least `at_least` bytes. Nothing is taken until took().
        """
        start = self.used
        if self._buffer_bytes - SLACK_BYTES - start < len(before) + at_least:
            # A packet is at most 64 KiB, so this is a larger buffer only for those who ask for one.
            size = max(self._buffer_bytes, len(before) + at_least + SLACK_BYTES)
            self.buffer = bytearray(size)
            self._view = memoryview(self.buffer)
            self.used = start = 0
        if before:
            self.buffer[start : start + len(before)] = before
            start += len(before)
        return self._view[start : len(self.buffer) - SLACK_BYTES]

    def took(self, size_bytes: int) -> None:
        """`size_bytes` from `used` on now belong to whoever received them, `before` included."""
        self.used += size_bytes
