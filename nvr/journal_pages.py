"""What stands in a journal: cells, pages, and the story that they tell. Nothing here waits, writes or asks for the time.

Byte table, order of writes and recovery: docs/formats/journal.md; journal.py writes it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from pathlib import Path

from nvr.crc import crc32c
from nvr.media import PAGE_BYTES, Cause, ClockReading, ClockState
from nvr.timeline import KNOT_NS, SAME_SETTING_NS, ClockSample

CELL_BYTES = 128
ENTRIES_PER_PAGE = PAGE_BYTES // CELL_BYTES - 1  # the first cell of each page is the sign of life
HEADS = 2

# crc, magic and version, kind, clock state, cause, length of stream, length of detail, sequence, boot, mono, wall, error
_CELL = struct.Struct("<I4sBBBBBxxxQ16sqqQ")
_MAGIC = b"nvj1"
_TEXT_BYTES = CELL_BYTES - _CELL.size
MAX_STREAM_BYTES = 48  # of the name, as UTF-8; the detail gets what is left
_INT64 = 2**63


class Kind(IntEnum):
    """What an entry tells."""

    LIFE = 0  # the recorder was alive; in a page's first cell, and as an entry for a recorder that was cut off
    STARTED = 1  # the recorder began
    STOPPED = 2  # it ended by itself, with everything durable
    STREAM = 3  # a stream is recorded from now on (no cause), or is not, with the cause
    CLOCK = 4  # a clock reading, by the box, the hub or a person
    DISK = 5  # something happened to the disk; for people


_CAUSES: tuple[Cause | None, ...] = (
    None,
    Cause.CAMERA,
    Cause.NETWORK,
    Cause.DISK_SLOW,
    Cause.DISK_FULL,
    Cause.DISK_FAILED,
    Cause.BOX_OFF,
    Cause.RECYCLED,
    Cause.HELD_BACK,
    Cause.CLOCK_UNKNOWN,
    Cause.NOT_KNOWN,
    Cause.BOX_BUSY,
)  # the number on disk is the place in this list: only ever add at the end


_KINDS = tuple(Kind)  # by number; looked up 127,000 times for a full journal
_STATES = tuple(ClockState)


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened, and when by both clocks."""

    kind: Kind
    boot_id: bytes
    reading: ClockReading
    stream: str = ""  # at most MAX_STREAM_BYTES are kept; compare with kept_name()
    cause: Cause | None = None
    detail: str = ""  # one line for people; what does not fit is cut off
    sequence: int = 0  # counts all entries of this journal from 1; given by append()

    def sample(self) -> ClockSample:
        reading = self.reading
        return ClockSample(self.boot_id, reading.mono_ns, reading.wall_ns, reading.state, reading.error_ns)


@dataclass(frozen=True, slots=True)
class Story:
    """All that a journal still tells, in the order in which it was told."""

    entries: tuple[Entry, ...] = ()
    life: Entry | None = None  # the newest sign of life
    missing: tuple[tuple[int, int], ...] = ()  # sequence numbers (first, last) of entries lost between those told

    @property
    def is_from_the_start(self) -> bool:
        """Whether nothing older was ever there: the journal has not gone round yet, and was not damaged."""
        return bool(self.entries) and self.entries[0].sequence == 1

    def samples(self) -> list[ClockSample]:
        """What the clocks said, for a Timeline; in order, without those that say nothing new."""
        told = self.entries if self.life is None else (*self.entries, self.life)
        return [entry.sample() for entry in _telling(told)]


def _telling(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Entries whose clock a Timeline needs: a full journal has 127,000, and most repeat the one before.

    Kept are the first and last of every boot and setting, one at least every ten minutes, and each that is surer.
    """
    before: Entry | None = None
    kept: Entry | None = None
    for entry in entries:
        if before is not None and kept is not None:
            now, then = entry.reading, kept.reading
            away_ns = now.mono_ns - then.mono_ns
            if (
                0 <= away_ns < KNOT_NS
                and now.error_ns >= then.error_ns
                and now.state is then.state
                and -SAME_SETTING_NS < now.wall_ns - then.wall_ns - away_ns < SAME_SETTING_NS
                and entry.boot_id == kept.boot_id
            ):
                before = entry
                continue
            if before is not kept:
                yield before
        yield entry
        kept = before = entry
    if before is not None and before is not kept:
        yield before


def kept_name(stream: str) -> str:
    """A stream's name as the journal keeps it."""
    return _cut(stream, MAX_STREAM_BYTES).decode()


def _cut(text: str, size_bytes: int) -> bytes:
    """UTF-8, at most so long, never half a character."""
    raw = text.encode("utf-8", "replace")
    return raw if len(raw) <= size_bytes else raw[:size_bytes].decode("utf-8", "ignore").encode()


# -- cells: pure -------------------------------------------------------------------------------------


def cell_of(entry: Entry) -> bytes:
    """128 bytes: little-endian, the CRC-32C of everything behind it first."""
    stream = _cut(entry.stream, MAX_STREAM_BYTES)
    detail = _cut(entry.detail, _TEXT_BYTES - len(stream))
    reading = entry.reading
    fields = (
        _MAGIC,
        entry.kind,
        reading.state,
        _CAUSES.index(entry.cause),
        len(stream),
        len(detail),
        entry.sequence,
        entry.boot_id,
        max(-_INT64, min(reading.mono_ns, _INT64 - 1)),
        max(-_INT64, min(reading.wall_ns, _INT64 - 1)),
        max(0, min(reading.error_ns, 2 * _INT64 - 1)),
    )
    cell = (_CELL.pack(0, *fields) + stream + detail).ljust(CELL_BYTES, b"\0")
    return struct.pack("<I", crc32c(cell[4:])) + cell[4:]


def entry_of(cell: bytes | memoryview) -> Entry | None:
    """What a cell says; None where it is empty, torn, or from a later version than this."""
    if len(cell) != CELL_BYTES:
        return None
    crc, magic, kind, state, cause, stream_bytes, detail_bytes, sequence, boot_id, mono_ns, wall_ns, error_ns = (
        _CELL.unpack_from(cell)
    )
    if magic != _MAGIC or crc32c(cell[4:]) != crc:
        return None
    detail_begin = _CELL.size + stream_bytes
    try:
        return Entry(
            _KINDS[kind],
            boot_id,
            ClockReading(mono_ns, wall_ns, _STATES[state], error_ns),
            str(cell[_CELL.size : detail_begin], "utf-8"),
            _CAUSES[cause],
            str(cell[detail_begin : detail_begin + detail_bytes], "utf-8"),
            sequence,
        )
    except (ValueError, IndexError):
        return None


def page_of(life: Entry, entries: Sequence[Entry]) -> bytes:
    """One page: the sign of life, then at most ENTRIES_PER_PAGE entries."""
    return b"".join([cell_of(life), *map(cell_of, entries)]).ljust(PAGE_BYTES, b"\0")


def page_number(sequence: int) -> int:
    """Which page an entry belongs to, over all laps of the ring."""
    return (sequence - 1) // ENTRIES_PER_PAGE


def page_offset(number: int, size_bytes: int) -> int:
    """Where a full page lies in a journal of that size."""
    return (HEADS + number % (size_bytes // PAGE_BYTES - HEADS)) * PAGE_BYTES


@dataclass(frozen=True, slots=True)
class _Page:
    """What one page tells; `life` only where its first cell says so."""

    entries: tuple[Entry, ...]
    life: Entry | None


def _told_by(page: bytes) -> _Page:
    entries = []
    for offset in range(CELL_BYTES, len(page) - CELL_BYTES + 1, CELL_BYTES):
        if page.startswith(_MAGIC, offset + 4):
            entry = entry_of(page[offset : offset + CELL_BYTES])
            if entry is not None and entry.sequence > 0:
                entries.append(entry)
    life = entry_of(page[:CELL_BYTES]) if page.startswith(_MAGIC, 4) else None
    return _Page(tuple(entries), life if life is not None and life.kind is Kind.LIFE else None)


def _story(pages: Iterable[_Page]) -> Story:
    found: dict[int, Entry] = {}
    life: Entry | None = None
    for page in pages:
        # A sign of life is numbered by the syncs, so the newest is known without any clock.
        if page.life is not None and (life is None or page.life.sequence > life.sequence):
            life = page.life
        for entry in page.entries:
            found[entry.sequence] = entry
    numbers = sorted(found)
    missing = tuple((a + 1, b - 1) for a, b in pairwise(numbers) if b != a + 1)
    return Story(tuple(found[number] for number in numbers), life, missing)


def story_of(content: bytes) -> Story:
    """Everything readable in the bytes of a journal; never raises, whatever they are."""
    return _story(_told_by(content[offset : offset + PAGE_BYTES]) for offset in range(0, len(content), PAGE_BYTES))


class Reader:
    """Reads a journal again and again, also while it is written; pages that have not changed are not parsed anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._raw: list[bytes] = []
        self._pages: list[_Page] = []
        self._told = Story()

    def story(self) -> Story:
        """What the journal tells now; an empty story where there is none or it cannot be read."""
        try:
            content = self._path.read_bytes()
        except OSError:
            content = b""
        raw = [content[offset : offset + PAGE_BYTES] for offset in range(0, len(content), PAGE_BYTES)]
        if raw != self._raw:
            known = self._raw
            self._pages = [
                self._pages[n] if n < len(known) and known[n] == page else _told_by(page) for n, page in enumerate(raw)
            ]
            self._raw = raw
            self._told = _story(self._pages)
        return self._told


def read(path: Path) -> Story:
    """What the journal tells now, also while it is being written; an empty story where there is none."""
    return Reader(path).story()
