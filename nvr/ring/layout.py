"""Where everything lies in a ring: sizes, the header and the seal of a segment, and which segment is used next.

Pure: no clock, no disk. The byte tables are in docs/formats/ring.md. A segment is

    header      whole pages   ftyp, moov, `uuid` segment atom, `free` to the end of its last page
    fragments   whole pages   fmp4.py; between them `free` atoms where a power cut left a hole
    `free`      to the last page
    last page   `free`, or the seal (`uuid`) when the segment is full
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import NamedTuple

from nvr import evidence
from nvr.crc import crc32c
from nvr.errors import NvrError
from nvr.media import PAGE_BYTES, ClockState, FragmentRecord, Position

MIB = 1 << 20
# 64 MiB: two minutes of 1080p. Larger ones would make the ring's end coarser and recovery longer; smaller ones
# mean more headers, seals and index writes for nothing (measured: docs/formats/ring.md).
SEGMENT_MAX_BYTES = 64 * MIB
SEGMENT_MIN_BYTES = 4 * MIB  # an IDR picture of a 4K camera is up to 1 MiB, and a fragment may fill a quarter
SEGMENTS_MIN = 4  # one open, one prepared, one being sealed, one to look at
RING_MIN_BYTES = SEGMENTS_MIN * SEGMENT_MIN_BYTES

# A fragment takes at most this part of a segment, so that what is left over at a segment's end stays small.
FRAGMENT_PART = 4

# Index bytes for each segment byte: 1500 rows for 64 MiB, one for every 45 kB: enough for 350 kbit/s at 1 s.
_SLOT_PART = 256
SLOT_MIN_BYTES = PAGE_BYTES
INDEX_HEADER_BYTES = PAGE_BYTES

INDEX_NAME = "index"
ASIDE_PREFIX = "not-of-this-ring-"
SETTLE_NS = 86_400 * 1_000_000_000  # how long a clock that jumped must go on before footage goes by its word

NS_PER_S = 1_000_000_000
ZERO_HASH = bytes(32)


class RingRefused(NvrError):
    """A ring cannot be made as the settings say."""


class DamagedHeader(NvrError):
    """The first pages of a segment are not what we wrote; what lies behind them may still be good."""


class Row(NamedTuple):
    """One fragment: where it lies, and what it says."""

    position: Position
    record: FragmentRecord


class State(IntEnum):
    """What the index says of a segment, and the media without it."""

    FREE = 0  # holds nothing that may be read: never used, or emptied because of its age
    OPEN = 1  # prepared, being written, or left so by a power cut
    SEALED = 2  # full and signed


class HeaderFlag(IntFlag):
    NONE = 0
    EMPTIED = 1  # its footage became too old; what lies behind the header must not be read


@dataclass(frozen=True, slots=True)
class RingSettings:
    """The ring of one stream, as the site file wants it."""

    stream: str  # "camera/main"
    path: Path  # DATA/rings/<camera>/<kind>
    ring_bytes: int
    hold_bytes: int = 0  # on top of ring_bytes, for held spans
    keep_days: float | None = None  # footage older than this is made unreadable
    evidence: bool = True  # chain the fragments by SHA-256
    fragment_s: float = 1.0
    segment_bytes: int | None = None  # None: from ring_bytes. An existing ring keeps its own.

    def __post_init__(self) -> None:
        if self.segment_bytes is None:
            if self.ring_bytes < RING_MIN_BYTES:
                raise RingRefused(
                    f"{self.stream}: a ring of {self.ring_bytes / MIB:.1f} MiB is too small",
                    hint=f"Give it at least {RING_MIN_BYTES // MIB} MiB (ring_gb: {RING_MIN_BYTES / 1e9:.3f}).",
                )
        elif not is_segment_size(self.segment_bytes) or self.ring_bytes < SEGMENTS_MIN * self.segment_bytes:
            raise RingRefused(
                f"{self.stream}: {self.ring_bytes} bytes do not hold {SEGMENTS_MIN} segments of {self.segment_bytes} bytes",
                hint="Use whole pages and at least four segments.",
            )

    def new_segment_bytes(self) -> int:
        return self.segment_bytes or segment_bytes_for(self.ring_bytes)


def segment_bytes_for(ring_bytes: int) -> int:
    """The largest power of two that still gives four segments, between 4 and 64 MiB."""
    size_bytes = SEGMENT_MAX_BYTES
    while size_bytes > SEGMENT_MIN_BYTES and size_bytes * SEGMENTS_MIN > ring_bytes:
        size_bytes //= 2
    return size_bytes


def is_segment_size(segment_bytes: int) -> bool:
    """Whether a ring of ours can have segments of this size; tests make them smaller than any site does."""
    return 2 * PAGE_BYTES < segment_bytes <= SEGMENT_MAX_BYTES and segment_bytes % PAGE_BYTES == 0


def slot_bytes(segment_bytes: int) -> int:
    return max(SLOT_MIN_BYTES, segment_bytes // _SLOT_PART // PAGE_BYTES * PAGE_BYTES)


def index_bytes(segment_bytes: int, segments: int) -> int:
    return INDEX_HEADER_BYTES + segments * slot_bytes(segment_bytes)


def disk_bytes(ring_bytes: int, hold_bytes: int = 0) -> int:
    """What one ring takes of the disk at most: segments and index."""
    segment_bytes = segment_bytes_for(ring_bytes)
    segments = ring_bytes // segment_bytes + hold_bytes // segment_bytes
    return segments * segment_bytes + index_bytes(segment_bytes, segments)


def fragment_s_for(loss_bound_s: float) -> float:
    """How long a fragment may be: the open one is lost in a power cut, so at most a quarter of the bound."""
    return min(1.0, loss_bound_s / 4)


ON_THE_WAY_S = 0.4  # through camera and drain: a turn over TCP may take 0.3 s (nvr/source/rtsp.py)


def sync_interval_s(loss_bound_s: float, fragment_s: float, sync_s: float) -> float:
    """From the start of one burst of syncs to the start of the next.

    A cut just before a burst ends costs the fragment that was open when the burst before it began (its first
    picture up to `fragment_s` old, and ON_THE_WAY_S), the interval, and the burst itself.
    """
    return max(0.1, loss_bound_s - fragment_s - ON_THE_WAY_S - 1.5 * sync_s)


def at_risk_s(loss_bound_s: float, fragment_s: float, sync_s: float) -> float:
    """What a power cut costs at most while a burst takes `sync_s`; no more than `loss_bound_s` unless that is too long."""
    return fragment_s + ON_THE_WAY_S + sync_interval_s(loss_bound_s, fragment_s, sync_s) + sync_s


def segment_name(number: int) -> str:
    return f"{number:06}.mp4"


def segment_number(name: str) -> int | None:
    """The number in a segment's file name; None for any other file."""
    stem = name.removesuffix(".mp4")
    if stem == name or not stem.isascii() or not stem.isdigit() or segment_name(int(stem)) != name:
        return None
    return int(stem)


def aside_name(number: int, token: str) -> str:
    """For a file that stands where segment `number` belongs and is of another ring."""
    return f"{ASIDE_PREFIX}{token}-{segment_name(number)}"


def fragment_limit_bytes(segment_bytes: int) -> int:
    return segment_bytes // FRAGMENT_PART


def pages(size_bytes: int) -> int:
    """`size_bytes` rounded up to whole pages, in bytes."""
    return -(-size_bytes // PAGE_BYTES) * PAGE_BYTES


# -- what a segment says about itself ------------------------------------------------------------------

_ATOM = struct.Struct(">I4s")
_FREE_PAGE_TAIL = bytes(PAGE_BYTES - _ATOM.size)

HEADER_USERTYPE = b"nvr:segment-hd:1"
SEAL_USERTYPE = b"nvr:segment-sl:1"
# size, uuid, usertype; flags, box, boot, segment, lap, sequences and runs used before, sizes, stream; then a CRC-32C of
# everything from the first byte of the file.
_HEADER = struct.Struct(">I4s16sI16s16sIIQIIIH")
_SEAL = struct.Struct(">I4s16s16sIIQQI32s32s64sH")
_CRC = struct.Struct(">I")
_HEADER_MAX_BYTES = 64 * PAGE_BYTES  # parameter sets of 250 KiB are no parameter sets
STREAM_MAX_BYTES = 255


def free_page(size_bytes: int) -> bytes:
    """A page that starts a `free` atom of `size_bytes` (14496-12, 8.1.2): valid up to there, whatever lies behind."""
    return _ATOM.pack(size_bytes, b"free") + _FREE_PAGE_TAIL


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """The header of a segment, as values."""

    box_id: bytes
    boot_id: bytes  # of the boot that prepared it
    stream: str
    segment: int
    lap: int  # how often this file has been used, from 1
    segment_bytes: int
    sequence_floor: int  # no sequence number up to this one is ever used again
    run_floor: int
    flags: HeaderFlag = HeaderFlag.NONE
    init: bytes = b""  # ftyp and moov; only ftyp while the parameter sets are not known
    header_bytes: int = 0  # whole pages

    @property
    def has_moov(self) -> bool:
        return b"moov" in self.init  # ftyp holds brands only, none of which reads so


_FTYP = _ATOM.pack(20, b"ftyp") + b"isom\0\0\2\0iso5"


def header_pages(header: SegmentHeader) -> bytes:
    """The pages of `header`; its `header_bytes` is not looked at. Raises ValueError when they would be more than 64."""
    init = header.init or _FTYP
    stream = header.stream.encode()
    atom_bytes = _HEADER.size + len(stream) + _CRC.size
    header_bytes = pages(len(init) + atom_bytes + _ATOM.size)
    if header_bytes > _HEADER_MAX_BYTES or len(stream) > STREAM_MAX_BYTES:
        raise ValueError(f"a segment header of {header_bytes} bytes for stream {header.stream!r} is too long")
    atom = _HEADER.pack(
        atom_bytes, b"uuid", HEADER_USERTYPE, header.flags, header.box_id, header.boot_id, header.segment, header.lap,
        header.sequence_floor, header.run_floor, header.segment_bytes, header_bytes, len(stream),
    ) + stream  # fmt: skip
    crc = crc32c(init + atom)
    rest_bytes = header_bytes - len(init) - atom_bytes
    return b"".join((init, atom, _CRC.pack(crc), _ATOM.pack(rest_bytes, b"free"), bytes(rest_bytes - _ATOM.size)))


def parse_header(data: bytes) -> SegmentHeader:
    """The header at the start of `data`, the first pages of a file. Raises DamagedHeader for anything else."""
    place = 0
    while place + _HEADER.size <= min(len(data), _HEADER_MAX_BYTES):
        size_bytes, kind = _ATOM.unpack_from(data, place)
        if kind == b"uuid" and data[place + 8 : place + 24] == HEADER_USERTYPE:
            return _parse_header_at(data, place)
        if size_bytes < _ATOM.size or kind not in (b"ftyp", b"moov"):
            break
        place += size_bytes
    raise DamagedHeader(f"no segment atom in the first {min(len(data), _HEADER_MAX_BYTES)} bytes (stopped at {place})")


def _parse_header_at(data: bytes, place: int) -> SegmentHeader:
    (
        size_bytes, _, _, flags, box_id, boot_id, segment, lap, sequence_floor, run_floor, segment_bytes, header_bytes,
        stream_bytes,
    ) = _HEADER.unpack_from(data, place)  # fmt: skip
    end = place + _HEADER.size + stream_bytes
    if size_bytes != _HEADER.size + stream_bytes + _CRC.size or end + _CRC.size > len(data):
        raise DamagedHeader(f"the segment atom says {size_bytes} bytes")
    if _CRC.unpack_from(data, end)[0] != crc32c(data[:end]):
        raise DamagedHeader("the header's CRC-32C is wrong")
    if not is_segment_size(segment_bytes) or header_bytes % PAGE_BYTES or flags > HeaderFlag.EMPTIED:
        raise DamagedHeader(f"a header of {header_bytes} bytes for a segment of {segment_bytes}, flags {flags}")
    try:
        stream = data[place + _HEADER.size : end].decode()
    except UnicodeDecodeError:
        raise DamagedHeader("the stream's name is not UTF-8") from None
    return SegmentHeader(
        box_id, boot_id, stream, segment, lap, segment_bytes, sequence_floor, run_floor,
        HeaderFlag(flags), bytes(data[:place]), header_bytes,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Seal:
    """What stands in the last page of a full segment."""

    box_id: bytes
    stream: str
    segment: int
    lap: int
    first_sequence: int
    last_sequence: int
    fragments: int
    hashes_digest: bytes  # SHA-256 over the hashes of all its fragments, one behind the other
    public_key: bytes  # zeros where nobody signed
    signature: bytes

    @property
    def is_signed(self) -> bool:
        return any(self.public_key)

    def fits(self, records: Sequence[FragmentRecord]) -> bool:
        """Whether these, at least one, are all the fragments that were sealed."""
        return (self.first_sequence, self.last_sequence, self.fragments, self.hashes_digest) == (
            records[0].sequence, records[-1].sequence, len(records), hashes_digest(record.hash for record in records)
        )  # fmt: skip

    def message(self) -> bytes:
        """What was signed."""
        return evidence.seal_message(
            box_id=self.box_id, stream=self.stream, segment=self.segment, lap=self.lap,
            first_sequence=self.first_sequence, last_sequence=self.last_sequence, hashes_digest=self.hashes_digest,
        )  # fmt: skip


def hashes_digest(hashes: Iterable[bytes]) -> bytes:
    digest = hashlib.sha256()
    for one in hashes:
        digest.update(one)
    return digest.digest()


def seal_page(seal: Seal) -> bytes:
    stream = seal.stream.encode()
    atom_bytes = _SEAL.size + len(stream) + _CRC.size
    atom = _SEAL.pack(
        atom_bytes, b"uuid", SEAL_USERTYPE, seal.box_id, seal.segment, seal.lap, seal.first_sequence, seal.last_sequence,
        seal.fragments, seal.hashes_digest, seal.public_key, seal.signature, len(stream),
    ) + stream  # fmt: skip
    rest_bytes = PAGE_BYTES - atom_bytes
    return b"".join((atom, _CRC.pack(crc32c(atom)), _ATOM.pack(rest_bytes, b"free"), bytes(rest_bytes - 8)))


def parse_seal(page: bytes) -> Seal | None:
    """The seal in the last page of a segment; None when there is none, or a damaged one."""
    if len(page) < PAGE_BYTES or page[4:24] != b"uuid" + SEAL_USERTYPE:
        return None
    (size_bytes, _, _, box_id, segment, lap, first, last, fragments, digest, key, signature, length) = (
        _SEAL.unpack_from(page)
    )
    end = _SEAL.size + length
    if (
        size_bytes != end + _CRC.size
        or length > STREAM_MAX_BYTES
        or _CRC.unpack_from(page, end)[0] != crc32c(page[:end])
    ):
        return None
    try:
        stream = page[_SEAL.size : end].decode()
    except UnicodeDecodeError:
        return None
    return Seal(box_id, stream, segment, lap, first, last, fragments, digest, key, signature)


def sealed(
    fragments: Sequence[FragmentRecord],
    box_id: bytes,
    sign: Callable[[bytes], bytes] | None,
    public_key: bytes = bytes(32),
) -> Seal:
    """The seal of a segment that holds `fragments`, at least one; unsigned without `sign`."""
    first, last = fragments[0], fragments[-1]
    seal = Seal(
        box_id, first.stream, first.segment, first.lap, first.sequence, last.sequence, len(fragments),
        hashes_digest(record.hash for record in fragments), bytes(32), bytes(64),
    )  # fmt: skip
    if sign is None:
        return seal
    return replace(seal, public_key=public_key, signature=sign(seal.message()))


# -- which segment is used next ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SegmentState:
    """One segment as the index has it. Times are zero where there is no fragment."""

    number: int
    lap: int
    state: State
    header_bytes: int = 0
    fragments: int = 0
    first_sequence: int = 0
    last_sequence: int = 0
    last_run: int = 0
    sequence_floor: int = 0
    run_floor: int = 0
    boot_id: bytes = bytes(16)  # of the last fragment
    first_mono_ns: int = 0
    last_mono_ns: int = 0  # when the last picture ended
    wall_from_ns: int = 0  # earliest and latest possible, by clocks that were known; 0 and 0: none was
    wall_to_ns: int = 0
    unknown_clock: int = 0  # fragments whose wall time says nothing
    has_all_rows: bool = True  # False: more fragments than its slot holds, they are read from the media

    @property
    def highest_sequence(self) -> int:
        return max(self.last_sequence, self.sequence_floor)

    @property
    def highest_run(self) -> int:
        return max(self.last_run, self.run_floor)


def state_of(
    number: int, lap: int, state: State, header_bytes: int, records: Sequence[FragmentRecord], *,
    sequence_floor: int = 0, run_floor: int = 0, rows_max: int | None = None,
) -> SegmentState:  # fmt: skip
    """What the index keeps of a segment with these fragments."""
    if not records:
        return SegmentState(number, lap, state, header_bytes, sequence_floor=sequence_floor, run_floor=run_floor)
    first, last = records[0], records[-1]
    known = [record for record in records if record.clock_state is not ClockState.UNKNOWN]
    return SegmentState(
        number, lap, state, header_bytes, len(records), first.sequence, last.sequence, max(r.run for r in records),
        sequence_floor, run_floor, last.boot_id, first.mono_ns, last.mono_ns + last.duration_ns,
        min((r.wall_ns - r.clock_error_ns for r in known), default=0),
        max((r.wall_ns + r.duration_ns + r.clock_error_ns for r in known), default=0),
        len(records) - len(known), rows_max is None or len(records) <= rows_max,
    )  # fmt: skip


def segment_to_reuse(segments: Iterable[SegmentState], kept: Collection[int]) -> SegmentState | None:
    """The oldest segment that nobody needs: a free one first, then by sequence. None when all are kept.

    `kept` are the numbers that are held, open, prepared, or refused by the disk.
    """
    usable = [segment for segment in segments if segment.number not in kept]
    return min(usable, key=lambda segment: (segment.last_sequence, segment.lap, segment.number), default=None)


def new_number(segments: Collection[int]) -> int:
    """The lowest number that no segment has."""
    number = 0
    while number in segments:
        number += 1
    return number


def expired(segments: Iterable[SegmentState], now_ns: int, keep_days: float, steady_ns: int = 0) -> list[int]:
    """Numbers of segments whose footage is older than `keep_days` for certain; `now_ns` must come from a synced clock.

    A segment that cannot tell its time is as old as the next newer one that can.

    A time server may be wrong by years, and nobody signs what it says. So a clock that has jumped forward counts once it has gone on from
    there for SETTLE_NS: by footage that was recorded since, or by `steady_ns`, how long this process has seen it go without a jump. Until
    then footage from before the jump stays.
    """
    cutoff_ns = now_ns - round(keep_days * 86_400 * NS_PER_S)
    used = sorted((segment for segment in segments if segment.fragments), key=lambda segment: segment.last_sequence)
    timed: Sequence[SegmentState] = [s for s in used if s.wall_to_ns and not s.unknown_clock]
    if steady_ns < SETTLE_NS:
        timed = _since_jump(timed, now_ns)
    newest_old = max((s.last_sequence for s in timed if s.wall_to_ns < cutoff_ns), default=0)
    return sorted(s.number for s in used if s.last_sequence <= newest_old and s.state is State.SEALED)


def _since_jump(timed: Sequence[SegmentState], now_ns: int) -> Sequence[SegmentState]:
    """Those behind the last jump of the clock by more than SETTLE_NS, in order; all, when it was that long ago."""
    later_ns = now_ns
    for place in range(len(timed) - 1, -1, -1):
        segment = timed[place]
        for after_ns, before_ns in ((later_ns, segment.wall_to_ns), (segment.wall_to_ns, segment.wall_from_ns)):
            if after_ns - before_ns > SETTLE_NS:
                return timed if now_ns - after_ns > SETTLE_NS else timed[place + 1 :]
        later_ns = segment.wall_from_ns
    return timed
