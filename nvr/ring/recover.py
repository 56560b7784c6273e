"""What the last power cut left open, and how a ring goes on from there.

Reads the index; walks the segments whose slots are open or cannot be read, and no others. Repairs the chain of atoms
where the cut broke it: a hole becomes a `free` atom. No good byte is deleted; a file that is whole and of another ring
(a camera's folder was renamed, cards were mixed up) is put aside under another name. All segments but the newest are
sealed; recording goes on in that one, with the next sequence number. Doing it twice changes nothing more.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from nvr.media import PAGE_BYTES
from nvr.ring import layout
from nvr.ring.disk import Directory, failed, is_gone
from nvr.ring.index import (
    NEW_INDEX_NAME,
    Index,
    IndexDamaged,
    highest,
    row_bytes,
    rows_max,
    segment_bytes_of,
    segment_numbers,
)
from nvr.ring.layout import INDEX_NAME, HeaderFlag, RingSettings, SegmentHeader, SegmentState, State
from nvr.ring.segment import OpenSegment, write_header
from nvr.ring.walk import SCAN_BYTES, Walked, foreigner, walk

log = logging.getLogger(__name__)

Sign = Callable[[bytes], bytes]


@dataclass(slots=True)
class Recovered:
    """What opening one ring found and did."""

    stream: str
    sequence: int = 0  # the last one on the disk
    fragments_walked: int = 0  # in segments that were open
    segments_walked: int = 0
    segments: int = 0
    repairs: list[str] = field(default_factory=list)  # one line each, with segment and offset
    unreadable: list[str] = field(default_factory=list)  # what could not be used and was left as it is
    took_s: float = 0.0

    def __str__(self) -> str:
        """One line for the log."""
        if not self.segments and not self.unreadable:
            return "a new ring"
        words = [f"goes on behind fragment {self.sequence}", f"{self.segments} segments"]
        if self.segments_walked:
            words.append(
                f"{self.fragments_walked} fragments of {self.segments_walked} open ones walked in {self.took_s:.1f} s"
            )
        words += [f"repaired: {each}" for each in self.repairs]
        words += [f"left as it is: {each}" for each in self.unreadable]
        return "; ".join(words)


@dataclass(slots=True)
class OpenRing:
    """A ring that is ready to be written."""

    directory: Directory
    index: Index
    states: dict[int, SegmentState]
    refused: set[int]  # segments that the disk does not read
    aside: list[str]  # files of other rings; they count against the budget, and go first
    resume: OpenSegment | None  # where recording may go on
    sequence: int
    run: int
    recovered: Recovered


def open_ring(
    directory: Directory, settings: RingSettings, *, box_id: bytes, boot_id: bytes, sign: Sign | None = None,
    public_key: bytes = bytes(32), mono_ns: Callable[[], int] = time.monotonic_ns,
) -> OpenRing:  # fmt: skip
    """Open the ring in `directory`, making a new one where there is none. Raises DiskFailed."""
    began_ns = mono_ns()
    try:
        ring = _Recovery(directory, settings, box_id, boot_id, sign, public_key).run()
    except OSError as error:
        raise failed(error, f"opening the ring of {settings.stream}") from error
    ring.recovered.took_s = (mono_ns() - began_ns) / 1e9
    for line in ring.recovered.repairs:
        log.warning("%s: repaired %s", settings.stream, line)
    for line in ring.recovered.unreadable:
        log.error("%s: %s", settings.stream, line)
    return ring


class _Recovery:
    def __init__(
        self,
        directory: Directory,
        settings: RingSettings,
        box_id: bytes,
        boot_id: bytes,
        sign: Sign | None,
        public_key: bytes,
    ) -> None:
        self._directory, self._settings = directory, settings
        self._box_id, self._boot_id = box_id, boot_id
        self._sign, self._public_key = sign, public_key
        self._report = Recovered(settings.stream)
        self._states: dict[int, SegmentState] = {}
        self._refused: set[int] = set()
        self._walked: list[tuple[int, Walked]] = []  # descriptor, what it holds
        self._slot_laps: dict[int, int] = {}

    def run(self) -> OpenRing:
        budget = self._settings.ring_bytes // (self._settings.segment_bytes or layout.SEGMENT_MIN_BYTES)
        self._aside = [name for name in self._directory.names() if name.startswith(layout.ASIDE_PREFIX)]
        numbers, strays = segment_numbers(self._directory, self._settings.stream, budget)
        self._report.unreadable += [f"{name} is not a segment of this ring; left as it is" for name in strays]
        index, is_new_index = self._open_index(numbers)
        self._index = index
        for number in numbers:
            state = None if is_new_index else index.state(number)
            if state is not None and state.state is State.SEALED and index.rows(number) is None:
                state = None  # its rows cannot be read
            if state is None or state.state is State.OPEN:
                self._walk(number)
            else:
                self._states[number] = state
        resume = self._newest_open()
        for fd, walked in self._walked:
            self._settle(fd, walked, is_resumed=walked is resume)
        resumed = next((self._resumed(fd, walked) for fd, walked in self._walked if walked is resume), None)
        for fd, walked in self._walked:
            if walked is not resume:
                self._directory.close_file(fd)
        index.sync()
        if is_new_index:
            self._directory.rename(NEW_INDEX_NAME, INDEX_NAME)
            self._directory.sync_names()
        sequence, run = highest(self._states.values())
        if resumed is not None:
            sequence = max(sequence, resumed.last_sequence)
            run = max(run, max(row.record.run for row in resumed.rows()))
        # What cannot be read now may be read tomorrow: no number that it may hold is given again. A fragment has a page at least.
        unknown = len(self._refused) * (self._index.segment_bytes // PAGE_BYTES)
        sequence, run = sequence + unknown, run + unknown
        self._report.sequence, self._report.segments = sequence, len(self._states)
        return OpenRing(
            self._directory, index, self._states, self._refused, self._aside, resumed, sequence, run, self._report
        )  # fmt: skip

    # -- the index ---------------------------------------------------------------------------------

    def _open_index(self, numbers: list[int]) -> tuple[Index, bool]:
        """The index, or a new one beside it, named only when it is complete."""
        names = self._directory.names()
        if NEW_INDEX_NAME in names:
            self._directory.remove(NEW_INDEX_NAME)
        slots = max(numbers, default=-1) + 1
        try:
            index = Index.open(self._directory, write=True)
            if index.stream == self._settings.stream:
                index.grow(slots)
                return index, False
            self._report.unreadable.append(f"the index is of {index.stream}")
            index.close()
        except IndexDamaged as damage:
            if numbers:
                self._report.repairs.append(f"{damage}: made again from {len(numbers)} segments")
        segment_bytes = segment_bytes_of(self._directory, numbers) or self._settings.new_segment_bytes()
        return Index.create(self._directory, self._settings.stream, segment_bytes, slots, name=NEW_INDEX_NAME), True

    # -- segments ----------------------------------------------------------------------------------

    def _walk(self, number: int) -> None:
        size_bytes = self._index.segment_bytes
        slot = self._index.state(number)
        try:
            fd = self._directory.open(layout.segment_name(number))
            foreign = foreigner(self._directory, fd, self._settings.stream, number, size_bytes)
            if foreign:
                self._directory.close_file(fd)
                self._put_aside(number, foreign)
                return
            if self._directory.size(fd) != size_bytes:
                # Cut while it was being made: the name was durable before the blocks were.
                self._directory.allocate(fd, size_bytes)
                self._report.repairs.append(f"segment {number}: its file was too short")
            walked = walk(
                self._directory, fd, self._settings.stream, number, size_bytes,
                scan_bytes=SCAN_BYTES, verify_from=-SCAN_BYTES,
            )  # fmt: skip
        except OSError as error:
            if is_gone(error.errno or 0):
                raise
            # One bad file must not keep the camera from being recorded in the others.
            self._report.unreadable.append(f"segment {number} cannot be read: {error.strerror}; left as it is")
            self._states[number] = slot or SegmentState(number, 0, State.OPEN)
            self._refused.add(number)
            return
        self._report.segments_walked += 1
        self._report.fragments_walked += len(walked.rows)
        self._walked.append((fd, walked))
        self._slot_laps[number] = slot.lap if slot else 0

    def _put_aside(self, number: int, what: str) -> None:
        """Somebody renamed a camera's folder, or mixed up two cards: what was recorded elsewhere is not ours to write over."""
        name = layout.aside_name(number, secrets.token_hex(3))
        self._directory.rename(layout.segment_name(number), name)
        self._directory.sync_names()
        self._aside.append(name)
        self._report.unreadable.append(f"segment {number} is {what}; put aside as {name}")

    def _newest_open(self) -> Walked | None:
        """Where recording may go on: the open segment that holds the newest fragment of the ring."""
        newest = max((state.last_sequence for state in self._states.values()), default=0)
        found = None
        for _, walked in self._walked:
            if walked.rows and walked.rows[-1].record.sequence > newest:
                newest, found = walked.rows[-1].record.sequence, walked
        if found is None or found.seal is not None or found.header is None or not found.header.has_moov:
            return None
        return found

    def _settle(self, fd: int, walked: Walked, *, is_resumed: bool) -> None:
        """Repair the chain of atoms, seal what is not written any more, and put its slot into the index."""
        data_end = self._index.segment_bytes - PAGE_BYTES
        self._repair_header(fd, walked)
        assert walked.header is not None
        changed = False
        for start, end in walked.holes:
            changed |= self._free(fd, start, end - start, walked)
        if not walked.header.flags & HeaderFlag.EMPTIED and walked.end < data_end:
            changed |= self._free(fd, walked.end, data_end - walked.end, walked)
        if not walked.rows:
            walked.seal = None
        if walked.seal is None:
            changed |= self._free(fd, data_end, PAGE_BYTES, None)
        if changed:
            self._report.repairs += [
                f"segment {walked.number}, offset {offset}: {what}" for offset, what in walked.faults
            ]
        self._directory.sync(fd)  # also what the process that wrote it had not synced when it was killed
        records = [row.record for row in walked.rows]
        sign = self._sign_for(walked)
        if records and walked.seal is not None and not walked.seal.fits(records):
            # The cut came while this segment was being prepared for its next lap: some of the old one is gone. What
            # is left is sealed anew, but not signed: the box cannot vouch for a segment that was whole before.
            self._report.repairs.append(
                f"segment {walked.number}: {len(records)} of {walked.seal.fragments} fragments are left"
            )
            walked.seal, sign = None, None
        if records and walked.seal is None and not is_resumed:
            public_key = self._public_key if sign else bytes(32)
            walked.seal = layout.sealed(records, walked.header.box_id, sign, public_key)
            self._directory.write(fd, layout.seal_page(walked.seal), data_end)
            self._directory.sync(fd)
        state = layout.state_of(
            walked.number, walked.lap, walked.state, walked.header.header_bytes, records,
            sequence_floor=walked.header.sequence_floor, run_floor=walked.header.run_floor,
            rows_max=rows_max(self._index.segment_bytes),
        )  # fmt: skip
        self._states[walked.number] = state
        self._index.write(state, walked.rows)

    def _sign_for(self, walked: Walked) -> Sign | None:
        """Only what this box recorded itself is signed by it."""
        return self._sign if walked.header is not None and walked.header.box_id == self._box_id else None

    def _repair_header(self, fd: int, walked: Walked) -> None:
        """A header that cannot be read is replaced by one without parameter sets; the fragments behind it stay."""
        if walked.header is not None:
            return
        first = walked.rows[0] if walked.rows else None
        flags = HeaderFlag.NONE if first else HeaderFlag.EMPTIED
        walked.lap = walked.lap or self._slot_laps[walked.number]
        header = SegmentHeader(
            first.record.box_id if first else self._box_id, first.record.boot_id if first else self._boot_id,
            self._settings.stream, walked.number, walked.lap, self._index.segment_bytes, 0, 0, flags,
        )  # fmt: skip
        if first is None:
            walked.header, walked.end = write_header(self._directory, fd, header)
            return
        pages = layout.header_pages(header)  # one page: no fragment lies there
        self._directory.write(fd, pages, 0)
        walked.header = replace(header, header_bytes=len(pages))
        if first.position.offset > len(pages):
            walked.holes.insert(0, (len(pages), first.position.offset))
        self._report.repairs.append(
            f"segment {walked.number}, header: {walked.header_fault}; its parameter sets are lost"
        )

    def _free(self, fd: int, offset: int, size_bytes: int, walked: Walked | None) -> bool:
        """Make sure that a `free` atom of this size stands there. Only its 8 bytes change; True if they did."""
        wanted = layout.free_page(size_bytes)[:8]
        if self._directory.read(fd, 8, offset) == wanted:
            return False
        self._directory.write(fd, wanted, offset)
        if walked is not None and not any(start == offset for start, _ in walked.faults):
            walked.faults.append((offset, f"no `free` atom of {size_bytes} bytes"))
        return True

    def _resumed(self, fd: int, walked: Walked) -> OpenSegment:
        assert walked.header is not None
        last = walked.rows[-1].record
        self._directory.forget(fd)
        return OpenSegment(
            self._directory, fd, walked.header, walked.end, len(walked.rows),
            bytearray(b"".join(map(row_bytes, walked.rows))), last.sequence, last.boot_id, walked.next_in_file,
            walked.decode_end_ticks, walked.last_decode_ticks, last.mono_ns,
        )  # fmt: skip
