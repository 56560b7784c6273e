"""One segment in the hands of those who write it: prepared, open, finished.

The syncer prepares it, the writer appends fragments, the syncer seals it. It is handed from one to the other, and
the one who does not have it only reads what is said here to be safe.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from nvr.media import PAGE_BYTES, Position
from nvr.ring import layout
from nvr.ring.disk import Directory
from nvr.ring.index import parse_rows, row_bytes
from nvr.ring.layout import Row, SegmentHeader


@dataclass(slots=True)
class OpenSegment:
    """A segment file that may be written. What is said of its fragments changes only after their bytes are in the file."""

    directory: Directory
    fd: int
    header: SegmentHeader
    end: int  # where the next fragment goes
    fragments: int = 0
    packed_rows: bytearray = field(default_factory=bytearray)  # as in the index: a fifth of what the values take
    last_sequence: int = 0
    last_boot_id: bytes = b""
    next_in_file: int = 1
    decode_end_ticks: int = 0
    last_decode_ticks: int = 0
    last_mono_ns: int = 0  # of the last fragment
    tick_run: int = 0  # the run that `tick_base` is for; 0 none
    tick_base: int = 0  # run ticks minus decode time in this file
    written_bytes: int = 0  # since it was opened; the syncer compares it with what it synced
    synced_bytes: int = 0
    has_failed: bool = False  # a write or a sync returned an error: closed for good

    @property
    def number(self) -> int:
        return self.header.segment

    @property
    def lap(self) -> int:
        return self.header.lap

    @property
    def data_end(self) -> int:
        """The last page belongs to the seal."""
        return self.header.segment_bytes - PAGE_BYTES

    def rows(self) -> list[Row]:
        return parse_rows(bytes(self.packed_rows), self.header.stream, self.number, self.lap)

    def append(self, row: Row) -> None:
        """The fragment is in the file: the next one goes behind it."""
        self.packed_rows += row_bytes(row)
        self.fragments += 1
        self.last_boot_id = row.record.boot_id
        self.end = row.position.offset + row.position.size_bytes
        self.last_sequence = row.record.sequence

    def position(self, size_bytes: int) -> Position:
        return Position(self.header.stream, self.number, self.lap, self.end, size_bytes)

    def write_header(self, init: bytes) -> None:
        """Say which parameter sets the fragments need. Only while there are none. Raises OSError, ValueError."""
        assert not self.fragments
        self.header, self.end = write_header(self.directory, self.fd, replace(self.header, init=init))
        self.written_bytes += self.end

    def decode_ticks(self, run: int, run_ticks: int, mono_ns: int, boot_id: bytes) -> int:
        """Where a fragment stands in this file: runs at their distance in box time, never overlapping."""
        if not self.fragments:
            return 0
        if run == self.tick_run:
            return max(run_ticks - self.tick_base, self.decode_end_ticks)
        if boot_id != self.last_boot_id:  # nobody knows yet how long the box was off
            return self.decode_end_ticks
        return max(self.decode_end_ticks, self.last_decode_ticks + (mono_ns - self.last_mono_ns) * 9 // 100_000)


def write_header(directory: Directory, fd: int, header: SegmentHeader) -> tuple[SegmentHeader, int]:
    """Write the header and the `free` atom behind it; returns it with its length, and that length.

    Raises OSError, or ValueError for parameter sets that no header holds.
    """
    pages = layout.header_pages(header)
    free_bytes = header.segment_bytes - PAGE_BYTES - len(pages)
    if free_bytes <= 0:
        raise ValueError(f"a header of {len(pages)} bytes leaves no place in a segment of {header.segment_bytes} bytes")
    directory.write(fd, pages + layout.free_page(free_bytes), 0)
    return replace(header, header_bytes=len(pages)), len(pages)
