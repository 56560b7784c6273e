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
import threading
from collections import deque
from dataclasses import replace
from pathlib import Path

from nvr import durable
from nvr.errors import NvrError
from nvr.journal_pages import (
    CELL_BYTES,
    ENTRIES_PER_PAGE,
    HEADS,
    MAX_STREAM_BYTES,
    Entry,
    Kind,
    Reader,
    Story,
    cell_of,
    entry_of,
    kept_name,
    page_number,
    page_of,
    page_offset,
    read,
    story_of,
)
from nvr.media import PAGE_BYTES, Cause, ClockReading

__all__ = [
    "CELL_BYTES",
    "ENTRIES_PER_PAGE",
    "MAX_STREAM_BYTES",
    "MIN_SIZE_BYTES",
    "SIZE_BYTES",
    "Entry",
    "Journal",
    "JournalFailed",
    "JournalFile",
    "Kind",
    "Reader",
    "Story",
    "cell_of",
    "entry_of",
    "kept_name",
    "read",
    "story_of",
]  # what stands in it and how it is read: journal_pages.py

log = logging.getLogger(__name__)

SIZE_BYTES = (
    16 * 1024 * 1024
)  # 127,000 entries: two months with one clock reading a minute and 40 state changes an hour
MIN_SIZE_BYTES = 16 * PAGE_BYTES
MAX_WAITING = 10_000  # entries kept while the disk does not take them; two hours of a very bad day
SAME_CAUSE_NS = 60_000_000_000


class JournalFailed(NvrError):
    """The journal cannot be made or opened."""


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
    durable.sync_folder(path.parent)


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
