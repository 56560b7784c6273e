"""The index of a ring: one slot for each segment. A cache: the media alone gives it again.

    index     header page, then slots of one size (layout.slot_bytes): slot n belongs to segment n
    slot      128 bytes about the segment, then 176 bytes for each of its fragments
    state     FREE, OPEN or SEALED; rows are there when it is SEALED, unless it has more fragments than fit

A slot is OPEN, and that is durable, before the first byte of its segment is used again; it becomes SEALED after the
segment's media is durable. So whatever a power cut leaves, the segments that must be looked at are the ones
whose slots are open or cannot be read. Byte tables: docs/formats/ring.md.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

from nvr.crc import crc32c
from nvr.errors import NvrError
from nvr.media import PAGE_BYTES, ClockState, FragmentRecord, Position
from nvr.ring import layout
from nvr.ring.disk import Directory, failing
from nvr.ring.layout import INDEX_HEADER_BYTES, INDEX_NAME, DamagedHeader, Row, SegmentState, State
from nvr.ring.walk import Walked, foreigner, read_header, walk

NEW_INDEX_NAME = "index.new"  # while it is made; renamed when it is complete

_FILE_MAGIC = b"nvrindex"
_FILE = struct.Struct(">8sIQIH")  # magic, version, segment bytes, slot bytes, length of the stream's name; name; CRC
_VERSION = 1
_CRC = struct.Struct(">I")

_SLOT_MAGIC = b"slot"
# magic, CRC of the header after it, CRC of the rows; version, state, flags, number, lap, fragments, rows, header bytes;
# first and last sequence, last run, run floor, sequence floor, boot, first and last mono, wall from and to, unknown
_SLOT = struct.Struct(">4sIIHBBIIIII QQIIQ16sqqqqI")
SLOT_HEADER_BYTES = 128
_SLOT_PAD = bytes(SLOT_HEADER_BYTES - _SLOT.size)
_FLAG_ROWS_MISSING = 1

# offset and size in pages, sequence, run, pictures; mono, wall, error, run ticks, duration ticks, payload bytes, lost;
# clock state, keyframe, spare, camera wall; boot, box, previous hash, hash
_ROW = struct.Struct(">IIQII qqQQIII BBHq 16s16s32s32s")
ROW_BYTES = _ROW.size

_INT64_MAX = (1 << 63) - 1
_STATES = {int(state): state for state in ClockState}


class IndexDamaged(NvrError):
    """The index file is not there or not one of ours; the media gives it again."""


def rows_max(segment_bytes: int) -> int:
    """How many rows a slot holds."""
    return (layout.slot_bytes(segment_bytes) - SLOT_HEADER_BYTES) // ROW_BYTES


def row_bytes(row: Row) -> bytes:
    position, record = row
    return _ROW.pack(
        position.offset // PAGE_BYTES, position.size_bytes // PAGE_BYTES, record.sequence, record.run, record.pictures,
        record.mono_ns, record.wall_ns, record.clock_error_ns, record.run_ticks, record.duration_ticks,
        record.payload_bytes, record.lost_packets, record.clock_state, record.is_keyframe, 0, record.camera_wall_ns,
        record.boot_id, record.box_id, record.previous_hash, record.hash,
    )  # fmt: skip


def parse_rows(data: bytes, stream: str, segment: int, lap: int) -> list[Row]:
    """The rows behind a slot's header; `data` was checked against its CRC."""
    states = _STATES
    rows = []
    for (
        offset, size, sequence, run, pictures, mono_ns, wall_ns, error_ns, run_ticks, duration_ticks, payload_bytes, lost,
        state, is_keyframe, _, camera_wall_ns, boot_id, box_id, previous_hash, hash_,
    ) in _ROW.iter_unpack(data):  # fmt: skip
        rows.append(Row(
            Position(stream, segment, lap, offset * PAGE_BYTES, size * PAGE_BYTES),
            FragmentRecord(
                box_id, boot_id, stream, run, lap, segment, sequence, mono_ns, wall_ns, states[state], error_ns, run_ticks,
                duration_ticks, pictures, payload_bytes, lost, bool(is_keyframe), camera_wall_ns, previous_hash, hash_,
            ),
        ))  # fmt: skip
    return rows


def slot(state: SegmentState, rows: Sequence[Row], segment_bytes: int) -> bytes:
    """The bytes of a slot that are used. An open or free one has no rows: its fragments are read from the media."""
    body, flags = b"", 0
    stored = len(rows) if state.state is State.SEALED else 0
    if stored > rows_max(segment_bytes):
        stored, flags = 0, _FLAG_ROWS_MISSING
    if stored:
        body = b"".join(map(row_bytes, rows))
    if state.state is not State.SEALED:
        # What else is known of it changes with the next fragment; the media says.
        state = SegmentState(
            state.number, state.lap, state.state,
            sequence_floor=state.sequence_floor, run_floor=state.run_floor,
        )  # fmt: skip
    head = _SLOT.pack(
        _SLOT_MAGIC, 0, crc32c(body), _VERSION, state.state, flags, state.number, state.lap, state.fragments, stored,
        state.header_bytes, state.first_sequence, state.last_sequence, state.last_run, state.run_floor,
        state.sequence_floor, state.boot_id, _int64(state.first_mono_ns), _int64(state.last_mono_ns),
        _int64(state.wall_from_ns), _int64(state.wall_to_ns), state.unknown_clock,
    ) + _SLOT_PAD  # fmt: skip
    return b"".join((head[:4], _CRC.pack(crc32c(head[8:])), head[8:], body))


def _int64(value: int) -> int:
    return max(min(value, _INT64_MAX), -_INT64_MAX)


def parse_slot(data: bytes, number: int) -> tuple[SegmentState, int, int] | None:
    """(state, rows stored, CRC of the rows) from a slot's first 128 bytes; None for anything that is not slot `number`."""
    if len(data) < SLOT_HEADER_BYTES or data[:4] != _SLOT_MAGIC:
        return None
    (
        _, crc, rows_crc, version, state, flags, its_number, lap, fragments, stored, header_bytes, first, last, last_run,
        run_floor, sequence_floor, boot_id, first_mono, last_mono, wall_from, wall_to, unknown,
    ) = _SLOT.unpack_from(data)  # fmt: skip
    if crc != crc32c(data[8:SLOT_HEADER_BYTES]) or its_number != number or version != _VERSION or state > State.SEALED:
        return None
    parsed = SegmentState(
        number, lap, State(state), header_bytes, fragments, first, last, last_run, sequence_floor, run_floor, boot_id,
        first_mono, last_mono, wall_from, wall_to, unknown, not flags & _FLAG_ROWS_MISSING,
    )  # fmt: skip
    return parsed, stored, rows_crc


class Index:
    """The index file of one ring. Methods raise OSError as the system calls do."""

    def __init__(self, directory: Directory, fd: int, stream: str, segment_bytes: int) -> None:
        self._directory = directory
        self.fd = fd
        self.stream = stream
        self.segment_bytes = segment_bytes
        self._slot_bytes = layout.slot_bytes(segment_bytes)

    @classmethod
    def open(cls, directory: Directory, *, write: bool = False, name: str = INDEX_NAME) -> Index:
        """Raises IndexDamaged when it is missing or its header is damaged."""
        try:
            fd = directory.open(name, write=write)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            raise IndexDamaged(
                f"{directory.path}: no index", hint="nvr ring rebuild makes it from the media."
            ) from None
        data = directory.read(fd, INDEX_HEADER_BYTES, 0)
        parsed = _parse_file_header(data)
        if parsed is None:
            directory.close_file(fd)
            raise IndexDamaged(
                f"{directory.path}: the index's header is damaged", hint="nvr ring rebuild makes it from the media."
            )
        return cls(directory, fd, *parsed)

    @classmethod
    def create(
        cls, directory: Directory, stream: str, segment_bytes: int, slots: int, *, name: str = INDEX_NAME
    ) -> Index:
        """A new file, durable except for its name (Directory.sync_names)."""
        fd = directory.open(name, create=True)
        index = cls(directory, fd, stream, segment_bytes)
        index.grow(slots)
        directory.write(fd, _file_header(stream, segment_bytes), 0)
        directory.sync(fd)
        return index

    def slots(self) -> int:
        """How many slots the file has; not all need be used."""
        return max(0, (self._directory.size(self.fd) - INDEX_HEADER_BYTES) // self._slot_bytes)

    def grow(self, slots: int) -> None:
        """Make room for at least `slots` slots."""
        size_bytes = INDEX_HEADER_BYTES + slots * self._slot_bytes
        if self._directory.size(self.fd) < size_bytes:
            self._directory.allocate(self.fd, size_bytes)

    def state(self, number: int) -> SegmentState | None:
        """What slot `number` says; None when it was never written or cannot be read."""
        data = self._directory.read(self.fd, SLOT_HEADER_BYTES, self.offset(number))
        parsed = parse_slot(data, number)
        return parsed[0] if parsed else None

    def rows(self, number: int) -> tuple[SegmentState, list[Row]] | None:
        """What slot `number` says, with its rows; None when it cannot be read."""
        data = self._directory.read(self.fd, PAGE_BYTES, self.offset(number))
        parsed = parse_slot(data[:SLOT_HEADER_BYTES], number)
        if parsed is None:
            return None
        state, stored, rows_crc = parsed
        end = SLOT_HEADER_BYTES + stored * ROW_BYTES
        if end > self._slot_bytes:
            return None
        if end > len(data):
            data += self._directory.read(self.fd, end - len(data), self.offset(number) + len(data))
        body = data[SLOT_HEADER_BYTES:end]
        if crc32c(body) != rows_crc or len(body) != stored * ROW_BYTES:
            return None
        try:
            rows = parse_rows(body, self.stream, number, state.lap)
        except KeyError:  # a clock state that we do not know
            return None
        if any(position.offset + position.size_bytes > self.segment_bytes for position, _ in rows):
            return None
        return state, rows

    def raw(self, number: int) -> bytes:
        """The bytes of the slot that are used; empty when it cannot be read."""
        found = self.rows(number)
        if found is None:
            return b""
        return self._directory.read(self.fd, SLOT_HEADER_BYTES + len(found[1]) * ROW_BYTES, self.offset(number))

    def write(self, state: SegmentState, rows: Sequence[Row] = ()) -> None:
        """Put a slot into the file; durable after sync().

        Whole pages, so that the kernel need not read what it does not have in memory; nothing behind a slot's bytes means anything.
        """
        data = slot(state, rows, self.segment_bytes)
        self._directory.write(self.fd, data + bytes(-len(data) % PAGE_BYTES), self.offset(state.number))

    def clear(self, number: int) -> None:
        """Forget a segment that was removed."""
        self._directory.write(self.fd, bytes(SLOT_HEADER_BYTES), self.offset(number))

    def sync(self) -> None:
        self._directory.sync(self.fd)

    def close(self) -> None:
        self._directory.close_file(self.fd)

    def offset(self, number: int) -> int:
        """Where slot `number` starts in the file."""
        return INDEX_HEADER_BYTES + number * self._slot_bytes


def _file_header(stream: str, segment_bytes: int) -> bytes:
    name = stream.encode()
    head = _FILE.pack(_FILE_MAGIC, _VERSION, segment_bytes, layout.slot_bytes(segment_bytes), len(name)) + name
    head += _CRC.pack(crc32c(head))
    return head.ljust(INDEX_HEADER_BYTES, b"\0")


def _parse_file_header(data: bytes) -> tuple[str, int] | None:
    if len(data) < INDEX_HEADER_BYTES:
        return None
    magic, version, segment_bytes, slot_size, length = _FILE.unpack_from(data)
    end = _FILE.size + length
    if magic != _FILE_MAGIC or version != _VERSION or length > layout.STREAM_MAX_BYTES:
        return None
    if _CRC.unpack_from(data, end)[0] != crc32c(data[:end]) or slot_size != layout.slot_bytes(segment_bytes):
        return None
    if not layout.is_segment_size(segment_bytes):
        return None
    try:
        return data[_FILE.size : end].decode(), segment_bytes
    except UnicodeDecodeError:
        return None


def slot_of(walked: Walked, segment_bytes: int) -> bytes:
    """The slot that the media gives."""
    header = walked.header
    state = layout.state_of(
        walked.number, walked.lap, walked.state, header.header_bytes if header else 0, [row.record for row in walked.rows],
        sequence_floor=header.sequence_floor if header else 0, run_floor=header.run_floor if header else 0,
        rows_max=rows_max(segment_bytes),
    )  # fmt: skip
    return slot(state, walked.rows, segment_bytes)


def rebuild(data_dir: Path) -> dict[str, int]:
    """Make the index of every ring again from its media; returns how many fragments each has.

    The recorder must not be running. The old index stays until the new one is complete. Raises DiskFailed.
    """
    found = {}
    for camera_path in sorted(path for path in (data_dir / "rings").glob("*/*") if path.is_dir()):
        stream = f"{camera_path.parent.name}/{camera_path.name}"
        with failing(f"rebuilding the index of {stream}"):
            directory = Directory(camera_path)
            try:
                found[stream] = rebuild_ring(directory, stream)
            finally:
                directory.close()
    return found


def rebuild_ring(directory: Directory, stream: str) -> int:
    """The same for one ring; returns how many fragments it has. Raises OSError."""
    names = directory.names()
    numbers, _ = segment_numbers(directory, stream, 0)
    if not numbers:
        return 0
    if NEW_INDEX_NAME in names:
        directory.remove(NEW_INDEX_NAME)
    segment_bytes = segment_bytes_of(directory, numbers) or layout.SEGMENT_MIN_BYTES
    index = Index.create(directory, stream, segment_bytes, max(numbers) + 1, name=NEW_INDEX_NAME)
    fragments = 0
    for number in numbers:
        fd = directory.open(layout.segment_name(number), write=False)
        try:
            if foreigner(directory, fd, stream, number, segment_bytes):
                continue  # no slot: the next start puts it aside
            walked = walk(directory, fd, stream, number, segment_bytes)
        finally:
            directory.close_file(fd)
        directory.write(index.fd, slot_of(walked, segment_bytes), index.offset(number))
        fragments += len(walked.rows)
    index.sync()
    index.close()
    directory.rename(NEW_INDEX_NAME, INDEX_NAME)
    directory.sync_names()
    return fragments


def segment_numbers(directory: Directory, stream: str, expected: int) -> tuple[list[int], list[str]]:
    """(numbers of a ring's segments, file names that only look like it); numbers below `expected` need not prove it.

    The index has a place for every number, so a stray 999999.mp4 would make it huge. Raises OSError.
    """
    numbers, strays = [], []
    names = directory.names()
    candidates = sorted((number, name) for name in names if (number := layout.segment_number(name)) is not None)
    for place, (number, name) in enumerate(candidates):
        if number >= max(expected, 4 * (place + 1)):
            fd = directory.open(name, write=False)
            try:
                header = read_header(directory, fd)
                is_ours = header.segment == number and header.stream == stream
            except DamagedHeader:
                is_ours = False
            finally:
                directory.close_file(fd)
            if not is_ours:
                strays.append(name)
                continue
        numbers.append(number)
    return numbers, strays


def segment_bytes_of(directory: Directory, numbers: Iterable[int]) -> int:
    """The segment size of a ring, by the first header that can be read, or by the size of its files; 0 unknown. Raises OSError."""
    largest = 0
    for number in numbers:
        fd = directory.open(layout.segment_name(number), write=False)
        try:
            return read_header(directory, fd).segment_bytes
        except DamagedHeader:
            largest = max(largest, directory.size(fd))
        finally:
            directory.close_file(fd)
    return min(max(layout.pages(largest), 4 * PAGE_BYTES), layout.SEGMENT_MAX_BYTES) if largest else 0


def highest(states: Iterable[SegmentState]) -> tuple[int, int]:
    """(sequence, run) that were used last in a ring."""
    states = list(states)
    return max((s.highest_sequence for s in states), default=0), max((s.highest_run for s in states), default=0)
