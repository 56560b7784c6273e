"""The journal of a box: why a second is missing, when the recorder lived, and what its clock said.

One file of fixed size, DATA/journal, written by `record` alone and read by everybody, also while it is written.
Byte table, order of writes and recovery: docs/formats/journal.md. In short: 4 KiB pages of 32 cells, each cell
128 bytes with a CRC-32C of its own. Pages 0 and 1 are the *heads*; the rest is a ring of full pages, oldest
first to go. The page being filled lies in a head, together with the last sign of life; every sync uses the
other head, so what the sync before made durable is never written over, and a page goes to the ring when it is full.

append() only remembers and never waits; flush() and sync() write, and belong to the syncer's thread. A journal that
cannot be written says so in `fault` and keeps what it can in memory: it must not stop a recording.
"""

from __future__ import annotations

import errno
import logging
import os
import struct
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import pairwise
from pathlib import Path

from nvr.crc import crc32c
from nvr.errors import NvrError
from nvr.media import PAGE_BYTES, Cause, ClockReading, ClockState
from nvr.timeline import KNOT_NS, SAME_SETTING_NS, ClockSample

log = logging.getLogger(__name__)

SIZE_BYTES = (
    16 * 1024 * 1024
)  # 127,000 entries: two months with one clock reading a minute and 40 state changes an hour
MIN_SIZE_BYTES = 16 * PAGE_BYTES
CELL_BYTES = 128
ENTRIES_PER_PAGE = PAGE_BYTES // CELL_BYTES - 1  # the first cell of each page is the sign of life
HEADS = 2
MAX_WAITING = 10_000  # entries kept while the disk does not take them; two hours of a very bad day

# crc, magic and version, kind, clock state, cause, length of stream, length of detail, sequence, boot, mono, wall, error
_CELL = struct.Struct("<I4sBBBBBxxxQ16sqqQ")
_MAGIC = b"nvj1"
_TEXT_BYTES = CELL_BYTES - _CELL.size
SAME_CAUSE_NS = 60_000_000_000
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


class JournalFailed(NvrError):
    """The journal cannot be made or opened."""


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


# -- writing -----------------------------------------------------------------------------------------


class JournalFile:
    """The system calls; tests replace it to cut the power between them."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        """Open, or make with every byte written, so that no later write changes anything but bytes.

        Raises OSError.
        """
        self.fd = -1
        if not path.exists() or not _is_usable(path):
            _create(path, size_bytes)
        self.fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self.size_bytes = os.fstat(self.fd).st_size // PAGE_BYTES * PAGE_BYTES

    def read_all(self) -> bytes:
        return os.pread(self.fd, self.size_bytes, 0)

    def write(self, page: bytes, offset: int) -> None:
        if os.pwrite(self.fd, page, offset) != len(page):
            raise OSError(f"the journal took only a part of {len(page)} bytes")

    def sync(self) -> None:
        os.fdatasync(self.fd)

    def close(self) -> None:
        os.close(self.fd)


def _is_usable(path: Path) -> bool:
    """A file that was cut short is put aside, never written over: what it still tells may be wanted."""
    if path.stat().st_size >= MIN_SIZE_BYTES:
        return True
    path.rename(path.with_name(f"{path.name}.damaged-{os.urandom(3).hex()}"))
    return False


def _create(path: Path, size_bytes: int) -> None:
    making = path.with_name(path.name + ".new")
    fd = os.open(making, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        zeros = bytes(256 * PAGE_BYTES)
        for offset in range(0, size_bytes, len(zeros)):
            os.pwrite(fd, zeros[: size_bytes - offset], offset)
        os.fsync(fd)
    finally:
        os.close(fd)
    making.replace(path)
    folder_fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder_fd)
    finally:
        os.close(folder_fd)


class Journal:
    """The writing side; one per box, opened by `record`. append() from any thread, the rest from the syncer's."""

    def __init__(self, file: JournalFile, boot_id: bytes, reading: ClockReading) -> None:
        """Go on where `file` ends. A recorder that was cut off gets its last sign of life as an entry."""
        self.fault: str | None = None  # why it cannot be written at present
        self.dropped = 0  # entries that were lost because of that
        self._file = file
        self._boot_id = boot_id
        self._lock = threading.Lock()
        self._states: dict[str, Entry] = {}
        self._waiting: deque[Entry] = deque()
        self._life = Entry(Kind.LIFE, boot_id, reading)
        before = story_of(file.read_all())
        self._sequence = max([0, *(entry.sequence for entry in before.entries)])
        self._repeat_at = self._sequence + self._repeat_every()
        self._syncs = before.life.sequence if before.life is not None else 0
        self._full: dict[int, bytes] = {}  # offset: full page that the ring got since the last sync
        number = page_number(max(self._sequence, 1))
        self._page = [entry for entry in before.entries if page_number(entry.sequence) == number]
        # A cut may have left either head torn, and each with entries that the other lacks. So the page goes to its
        # place in the ring first; from then on one head is as good as the other. This also makes durable what
        # a killed process left in memory.
        if self._page:
            life = before.life or self._life
            file.write(page_of(life, self._page), page_offset(number, file.size_bytes))
        file.sync()
        if before.life is not None and not (before.entries and before.entries[-1].kind is Kind.STOPPED):
            self.append(replace(before.life, sequence=0, detail="cut off"))

    @classmethod
    def open(cls, path: Path, boot_id: bytes, reading: ClockReading, size_bytes: int = SIZE_BYTES) -> Journal:
        """Open DATA/journal, or make it. Raises JournalFailed."""
        try:
            return cls(JournalFile(path, size_bytes), boot_id, reading)
        except OSError as error:
            raise JournalFailed(
                f"the journal {path} of {size_bytes / 1e6:.0f} MB cannot be opened: {error.strerror or error}",
                hint="Look whether the disk is full, read-only or gone; without a journal gaps have no cause.",
            ) from error

    def append(self, entry: Entry) -> None:
        """Remember `entry` for the next flush() or sync(); returns at once, never raises."""
        with self._lock:
            self._append(entry)
            if entry.kind is Kind.STREAM:
                self._states[entry.stream] = entry
            if self._sequence >= self._repeat_at:
                # Else a camera that records for months without a change would be forgotten when the ring goes round.
                self._repeat_at = self._sequence + len(self._states) + self._repeat_every()
                for state in self._states.values():
                    self._append(replace(state, reading=entry.reading, boot_id=entry.boot_id))

    def _append(self, entry: Entry) -> None:
        self._sequence += 1
        self._waiting.append(replace(entry, sequence=self._sequence))
        if len(self._waiting) > MAX_WAITING:
            self._waiting.popleft()
            self.dropped += 1

    def _repeat_every(self) -> int:
        return (self._file.size_bytes // PAGE_BYTES - HEADS) * ENTRIES_PER_PAGE // 4

    def note(
        self, kind: Kind, reading: ClockReading, detail: str = "", stream: str = "", cause: Cause | None = None
    ) -> None:
        """append() for this boot: note(Kind.STARTED, clock.read())."""
        self.append(Entry(kind, self._boot_id, reading, stream, cause, detail))

    def note_stream(self, stream: str, reading: ClockReading, cause: Cause | None, detail: str = "") -> None:
        """A stream is recorded from now on (`cause` None), or is not.

        Told best with the reading of the last picture, not of when its absence was noticed. The same again is not
        written again; another detail of the same cause at most once a minute ("for 12 s", "for 13 s").
        """
        state = self._states.get(stream)
        if state is not None and state.cause is cause:
            age_ns = reading.mono_ns - state.reading.mono_ns
            if (
                cause is None
                or state.detail == detail
                or (0 <= age_ns < SAME_CAUSE_NS and state.boot_id == self._boot_id)
            ):
                return
        self.note(Kind.STREAM, reading, detail, stream, cause)

    def flush(self, reading: ClockReading | None = None) -> None:
        """Put everything remembered into the file, for readers and in case this process dies; not durable yet."""
        if reading is not None:
            self._life = Entry(Kind.LIFE, self._boot_id, reading)
        try:
            self._write(again=self.fault is not None)
            self.fault = None
        except OSError as error:
            self._failed(error)

    def sync(self, reading: ClockReading) -> None:
        """flush() with a sign of life, then make it durable. Never raises; see `fault`."""
        self.flush(reading)
        if self.fault is not None:
            return
        try:
            self._file.sync()
        except OSError as error:
            self._failed(error)
            return
        # What is durable now stays as it is until the next sync has made its successor durable.
        self._syncs += 1
        self._full.clear()

    def go_on_in(self, file: JournalFile) -> None:
        """The disk was away, and `file` is the same journal opened anew: what it may lack is written again at the next sync.

        Raises OSError when it is another journal; then nothing has changed.
        """
        if file.size_bytes != self._file.size_bytes:
            raise OSError(errno.ESTALE, f"a journal of {file.size_bytes} bytes, not {self._file.size_bytes}")
        before, self._file = self._file, file
        self.fault = "the disk was away"  # so that the next write repeats what the last sync did not make durable
        try:
            before.close()
        except OSError:
            pass  # it is on a disk that is gone

    def _failed(self, error: OSError) -> None:
        text = error.strerror or str(error)
        if self.fault != text:
            log.warning("journal: %s; causes of gaps are kept in memory until the disk takes them", text)
        self.fault = text

    def _write(self, again: bool) -> None:
        """`again`: nobody knows what the disk holds of what was written since the last sync."""
        with self._lock:
            waiting = list(self._waiting)
        life = replace(self._life, sequence=self._syncs + 1)
        if again:
            for offset, content in self._full.items():
                self._file.write(content, offset)
        page = list(self._page)
        for entry in waiting:
            if page and page_number(page[0].sequence) != page_number(entry.sequence):
                offset, content = page_offset(page_number(page[0].sequence), self._file.size_bytes), page_of(life, page)
                self._file.write(content, offset)
                self._full[offset] = content
                page = []
            page.append(entry)
        self._file.write(page_of(life, page), self._syncs % HEADS * PAGE_BYTES)
        self._page = page
        with self._lock:
            while self._waiting and waiting and self._waiting[0].sequence <= waiting[-1].sequence:
                self._waiting.popleft()

    def close(self, reading: ClockReading) -> None:
        """The recorder ends by itself: say so, make it durable, let go of the file."""
        self.note(Kind.STOPPED, reading)
        self.sync(reading)
        self._file.close()
