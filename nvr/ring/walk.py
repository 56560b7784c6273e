"""The fragments of one segment, read from the media alone.

Atom by atom from the header; where the chain of atoms is broken, page by page until there is a whole fragment of the same
lap again. What is found is a value; repairing is recover.py's business.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nvr import fmp4
from nvr.media import PAGE_BYTES, Position
from nvr.ring import layout
from nvr.ring.disk import Directory
from nvr.ring.layout import DamagedHeader, HeaderFlag, Row, Seal, SegmentHeader, State

MIB = 1 << 20
# How far behind the last good fragment others are looked for after a power cut. The syncer lets no stream write
# more than UNSYNCED_MAX_BYTES without a sync, so whatever the cut left lies within this.
SCAN_BYTES = 32 * MIB
_CHUNK_BYTES = MIB
_MOOF = fmp4.head(1, 0, [fmp4.Sample(1, 1, 0, True)], 1)[:8]  # every fragment starts with these bytes


@dataclass(slots=True)
class Walked:
    """What one segment holds."""

    number: int
    header: SegmentHeader | None = None
    header_fault: str = ""
    lap: int = 0
    rows: list[Row] = field(default_factory=list)
    end: int = 0  # behind the last fragment: where the next one goes
    holes: list[tuple[int, int]] = field(default_factory=list)  # between fragments; the end is not part of it
    faults: list[tuple[int, str]] = field(default_factory=list)  # (offset, what); a hole that is a `free` atom is none
    seal: Seal | None = None
    next_in_file: int = 1  # mfhd's number for the next fragment
    decode_end_ticks: int = 0  # tfdt for the next fragment, if it follows at once
    last_decode_ticks: int = 0

    @property
    def state(self) -> State:
        """What the index says of a segment that looks like this."""
        if self.header is not None and self.header.flags & HeaderFlag.EMPTIED:
            return State.FREE
        if self.header is None and not self.rows:
            return State.FREE
        if self.seal is not None and self.rows:
            return State.SEALED
        return State.OPEN


def read_header(directory: Directory, fd: int) -> SegmentHeader:
    """The header of an open file. Raises DamagedHeader, or OSError."""
    page = directory.read(fd, PAGE_BYTES, 0)
    try:
        return layout.parse_header(page)
    except DamagedHeader:
        if page[4:8] != b"ftyp":
            raise
        return layout.parse_header(directory.read(fd, 64 * PAGE_BYTES, 0))  # parameter sets of more than a page


def foreigner(directory: Directory, fd: int, stream: str, number: int, segment_bytes: int) -> str:
    """What a file is whose header is whole and says that it belongs elsewhere; "" for one of ours, or a damaged one.

    Raises OSError.
    """
    try:
        header = read_header(directory, fd)
    except DamagedHeader:
        return ""
    is_ours = (header.stream, header.segment, header.segment_bytes) == (stream, number, segment_bytes)
    return "" if is_ours else what_it_is(header)


def what_it_is(header: SegmentHeader) -> str:
    return f"segment {header.segment} of {header.stream}, {header.segment_bytes} bytes long"


def walk(
    directory: Directory, fd: int, stream: str, number: int, segment_bytes: int, *,
    scan_bytes: int = 0, verify_from: int | None = None, from_row: Row | None = None,
) -> Walked:  # fmt: skip
    """Find the fragments of segment `number`; with `from_row`, one of them, only those behind it.

    `scan_bytes`: how far to look for fragments behind a place where the chain ends; 0 only where it is broken.
    `verify_from`: fragments from this offset on must have the right CRC, others the right atoms; None: none, negative:
    counted from the end of the chain. Raises OSError as the disk does.
    """
    walked = Walked(number)
    try:
        header = read_header(directory, fd)
        if header.stream != stream or header.segment != number or header.segment_bytes != segment_bytes:
            walked.header_fault = f"this is {what_it_is(header)}"
        else:
            walked.header, walked.lap, walked.end = header, header.lap, header.header_bytes
    except DamagedHeader as fault:
        walked.header_fault = str(fault)
    if walked.header is not None and walked.header.flags & HeaderFlag.EMPTIED:
        return walked
    data_end = segment_bytes - PAGE_BYTES
    floor = 0
    if from_row is not None:
        walked.end = from_row.position.offset + from_row.position.size_bytes
        floor = from_row.record.sequence
    _Walk(directory, fd, stream, number, data_end, walked, floor).run(scan_bytes)
    if verify_from is not None:
        start = verify_from if verify_from >= 0 else walked.end + verify_from
        _verify(directory, fd, walked, start)
    seal = layout.parse_seal(directory.read(fd, PAGE_BYTES, data_end))
    if seal is not None and (seal.stream, seal.segment, seal.lap) == (stream, number, walked.lap):
        walked.seal = seal
    return walked


class _Walk:
    def __init__(
        self, directory: Directory, fd: int, stream: str, number: int, data_end: int, walked: Walked, floor: int
    ) -> None:
        self._directory, self._fd, self._stream, self._number = directory, fd, stream, number
        self._sequence = floor  # of the fragment before
        self._data_end = data_end
        self._walked = walked

    def run(self, scan_bytes: int) -> None:
        walked = self._walked
        place = walked.end
        if walked.header is None:  # the lap must come from the fragments
            place = self._next_fragment(0, self._data_end)
            walked.end = place if place < self._data_end else 0
        while place < self._data_end:
            page = self._directory.read(self._fd, PAGE_BYTES, place)
            kind, size_bytes = page[4:8], int.from_bytes(page[:4], "big")
            if kind == b"moof" and self._add(place, page):
                place = walked.end
                continue
            if kind == b"free" and size_bytes % PAGE_BYTES == 0 and 0 < size_bytes <= self._data_end - place:
                after = place + size_bytes
                if after == self._data_end:
                    if scan_bytes == 0:
                        return
                    after = self._next_fragment(place + PAGE_BYTES, min(self._data_end, place + scan_bytes))
                    if after < self._data_end:
                        walked.faults.append((place, "a `free` atom to the end hides fragments behind it"))
            else:
                walked.faults.append((place, f"neither a fragment nor a `free` atom: {page[:8].hex()}"))
                after = self._next_fragment(
                    place + PAGE_BYTES, self._data_end if not scan_bytes else min(self._data_end, place + scan_bytes)
                )
            if after >= self._data_end:
                return
            walked.holes.append((place, after))
            place = after

    def _add(self, place: int, page: bytes) -> bool:
        """Take the fragment at `place`, if its atoms and its record say that it belongs here."""
        walked = self._walked
        found = self._look(place, page)
        if found is None:
            return False
        head, row = found
        if row.record.sequence <= self._sequence:
            return False
        self._sequence = row.record.sequence
        if walked.header is None and not walked.rows:
            walked.lap = row.record.lap
        walked.rows.append(row)
        walked.end = place + row.position.size_bytes
        walked.next_in_file = head.sequence + 1
        walked.last_decode_ticks = head.decode_ticks
        walked.decode_end_ticks = head.decode_ticks + head.duration_ticks
        return True

    def _look(self, place: int, page: bytes) -> tuple[fmp4.Head, Row] | None:
        try:
            head = fmp4.parse_head(page)
            record_offset = fmp4.HEAD_RESERVE_BYTES + head.payload_bytes
            size_bytes = fmp4.fragment_size(head.payload_bytes)
            if size_bytes > self._data_end - place:
                return None
            record_bytes = fmp4.commit_record_size(head.payload_bytes)
            record = fmp4.parse_commit_record(
                page[record_offset:]
                if size_bytes == PAGE_BYTES
                else self._directory.read(self._fd, record_bytes, place + record_offset)
            )
        except fmp4.BadAtom:
            return None
        if (
            record.stream != self._stream
            or record.segment != self._number
            or record.payload_bytes != head.payload_bytes
        ):
            return None
        if self._walked.lap and record.lap != self._walked.lap:
            return None
        return head, Row(Position(self._stream, self._number, record.lap, place, size_bytes), record)

    def _next_fragment(self, place: int, end: int) -> int:
        """Where the next whole fragment of this lap starts, CRC and all; the end of the data if there is none before `end`."""
        while place < end:
            chunk = self._directory.read(self._fd, min(_CHUNK_BYTES, end - place), place)
            if not chunk:
                break
            for start in range(0, len(chunk), PAGE_BYTES):
                if chunk[start : start + 8] == _MOOF and self._is_whole(place + start):
                    return place + start
            place += len(chunk)
        return self._data_end

    def _is_whole(self, place: int) -> bool:
        found = self._look(place, self._directory.read(self._fd, PAGE_BYTES, place))
        if found is None or found[1].record.sequence <= self._sequence:
            return False
        return is_whole(self._directory, self._fd, found[1])


def is_whole(directory: Directory, fd: int, row: Row) -> bool:
    """Whether the fragment's CRC is right, and what it says is what `row` says."""
    try:
        return fmp4.check_fragment(directory.read(fd, row.position.size_bytes, row.position.offset))[1] == row.record
    except fmp4.BadAtom:
        return False


def _verify(directory: Directory, fd: int, walked: Walked, start: int) -> None:
    """Drop rows from `start` on whose CRC is wrong; what they occupied becomes a hole."""
    bad = [row for row in walked.rows if row.position.offset >= start and not is_whole(directory, fd, row)]
    if not bad:
        return
    for row in bad:
        offset = row.position.offset
        walked.faults.append((offset, f"the CRC-32C of fragment {row.record.sequence} is wrong"))
        walked.holes.append((offset, offset + row.position.size_bytes))
    walked.rows = [row for row in walked.rows if row not in bad]
    last = walked.rows[-1].position if walked.rows else None
    header_bytes = walked.header.header_bytes if walked.header else walked.end
    walked.end = last.offset + last.size_bytes if last else header_bytes
    walked.holes = _joined([hole for hole in walked.holes if hole[0] < walked.end])
    walked.next_in_file, walked.last_decode_ticks, walked.decode_end_ticks = 1, 0, 0
    if last is not None:
        head = fmp4.parse_head(directory.read(fd, PAGE_BYTES, last.offset))
        walked.next_in_file = head.sequence + 1
        walked.last_decode_ticks = head.decode_ticks
        walked.decode_end_ticks = head.decode_ticks + head.duration_ticks


def _joined(holes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Holes in order, those that touch made one."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(holes):
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined
