"""The head of a fragment: `moof`, its padding, and the first eight bytes of `mdat`. Docs: the package."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nvr.fmp4.atom import ATOM_HEAD, BadAtom, Buffer, name_of
from nvr.media import PAGE_BYTES

HEAD_RESERVE_BYTES = 1024  # moof and the head of mdat, at the start of the fragment's first page
MAX_SAMPLES = 76  # as many as fit in the reserve when each has a composition offset
MAX_PAYLOAD_BYTES = 0xFFFF_FFFF - 8  # mdat has a 32-bit size
RECORD_MIN_BYTES = 512  # a commit record without padding: fixed, so that a fragment's size follows from its payload

_MDAT_HEAD_BYTES = 8
_MOOF_BYTES = HEAD_RESERVE_BYTES - _MDAT_HEAD_BYTES

# The two fields that say where a fragment stands in one file; hash and CRC take them as zero.
SEQUENCE_FIELD = slice(20, 24)  # mfhd.sequence_number
DECODE_TIME_FIELD = slice(60, 68)  # tfdt.baseMediaDecodeTime

# 8.8.3.1: an IDR picture depends on nothing; the others depend on something and are not sync samples.
_KEYFRAME_FLAGS = 0x0200_0000
OTHER_FLAGS = 0x0101_0000

_TFHD_DEFAULT_BASE_IS_MOOF = 0x02_0000
_TRUN_DATA_OFFSET, _TRUN_FIRST_FLAGS, _TRUN_DURATION, _TRUN_SIZE, _TRUN_COMPOSITION = 0x1, 0x4, 0x100, 0x200, 0x800
_TRUN_FLAGS = _TRUN_DATA_OFFSET | _TRUN_FIRST_FLAGS | _TRUN_DURATION | _TRUN_SIZE

# moof, mfhd, traf, tfhd, tfdt and trun up to the first sample.
_HEAD = struct.Struct(">I4s I4sII I4s I4sII I4sIQ I4sIIII")


class Sample(NamedTuple):
    """One access unit in a fragment. A tuple, because 25 a second are made for each camera."""

    size_bytes: int  # with the 4-byte length of each NAL unit
    duration_ticks: int
    composition_ticks: int  # shown this much after decoding; never negative
    is_keyframe: bool  # only the first of a fragment may be one


@dataclass(frozen=True, slots=True)
class Head:
    """What the first HEAD_RESERVE_BYTES of a fragment say."""

    sequence: int  # in this file, from 1
    decode_ticks: int  # in this file
    samples: tuple[Sample, ...]
    payload_bytes: int

    @property
    def duration_ticks(self) -> int:
        return sum(sample.duration_ticks for sample in self.samples)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the parts of a fragment lie, in bytes from its start."""

    payload_offset: int
    payload_bytes: int
    record_offset: int
    record_bytes: int
    size_bytes: int  # all of it: a multiple of PAGE_BYTES


def open_head(size_to_segment_end: int) -> bytes:
    """HEAD_RESERVE_BYTES that make everything up to the end of the segment a `free` atom."""
    return ATOM_HEAD.pack(size_to_segment_end, b"free") + bytes(HEAD_RESERVE_BYTES - 8)


def head(sequence_in_segment: int, decode_ticks: int, samples: Sequence[Sample], payload_bytes: int) -> bytes:
    """The first HEAD_RESERVE_BYTES of a fragment: `moof` with its padding and the head of `mdat`.

    Raises ValueError for what a fragment cannot hold: no sample or more than MAX_SAMPLES, a keyframe that is not the
    first, a number that does not fit its field, sizes that do not add up to `payload_bytes`.
    """
    if any(sample.is_keyframe for sample in samples[1:]):
        raise ValueError("a keyframe starts a new fragment")
    sizes, durations, compositions, keyframes = zip(*samples, strict=True) if samples else ((), (), (), (False,))
    return head_of_tables(
        sequence_in_segment, decode_ticks, sizes, durations, compositions, payload_bytes, is_keyframe=keyframes[0]
    )


def head_of_tables(
    sequence_in_segment: int, decode_ticks: int, sizes_bytes: Sequence[int], durations_ticks: Sequence[int],
    compositions_ticks: Sequence[int], payload_bytes: int, *, is_keyframe: bool,
) -> bytes:  # fmt: skip
    """head() of samples that are told apart in three tables; only the first may be a keyframe."""
    count = len(sizes_bytes)
    if not 1 <= count <= MAX_SAMPLES:
        raise ValueError(f"a fragment holds 1 to {MAX_SAMPLES} access units, not {count}")
    if sum(sizes_bytes) != payload_bytes or payload_bytes > MAX_PAYLOAD_BYTES:
        raise ValueError(f"the access units do not make a payload of {payload_bytes} bytes")
    flags, columns = _TRUN_FLAGS, [durations_ticks, sizes_bytes]
    if any(compositions_ticks):
        flags |= _TRUN_COMPOSITION
        columns.append(compositions_ticks)
    numbers = [0] * (len(columns) * count)
    for number, column in enumerate(columns):
        numbers[number :: len(columns)] = column
    trun_bytes = 24 + 4 * len(numbers)
    traf_bytes = 8 + 16 + 20 + trun_bytes
    padding_bytes = _MOOF_BYTES - 8 - 16 - traf_bytes
    first_flags = _KEYFRAME_FLAGS if is_keyframe else OTHER_FLAGS
    fields = (
        _MOOF_BYTES, b"moof",
        16, b"mfhd", 0, sequence_in_segment,
        traf_bytes, b"traf",
        16, b"tfhd", _TFHD_DEFAULT_BASE_IS_MOOF, 1,
        20, b"tfdt", 1 << 24, decode_ticks,
        trun_bytes, b"trun", flags, count, HEAD_RESERVE_BYTES, first_flags,
    )  # fmt: skip
    try:
        return b"".join(
            (
                _HEAD.pack(*fields),
                struct.pack(f">{len(numbers)}I", *numbers),
                ATOM_HEAD.pack(padding_bytes, b"free"),
                bytes(padding_bytes - 8),
                ATOM_HEAD.pack(payload_bytes + _MDAT_HEAD_BYTES, b"mdat"),
            )
        )
    except struct.error as error:
        raise ValueError(f"a number does not fit its field: {error}") from None


def parse_head(data: Buffer) -> Head:
    """Read what head() wrote. Raises BadAtom for anything else; `data` may be longer."""
    if len(data) < HEAD_RESERVE_BYTES:
        raise BadAtom(f"{len(data)} bytes are too few for the head of a fragment")
    fields = _HEAD.unpack_from(data, 0)
    sequence, decode_ticks, flags, count, first_flags = fields[5], fields[15], fields[18], fields[19], fields[21]
    payload_bytes = struct.unpack_from(">I", data, _MOOF_BYTES)[0] - _MDAT_HEAD_BYTES
    if fields[1] != b"moof" or not 1 <= count <= MAX_SAMPLES:
        raise BadAtom(f"this is not the head of a fragment: it starts with {name_of(fields[1])} and {count} samples")
    if flags == _TRUN_FLAGS | _TRUN_COMPOSITION:
        numbers = struct.unpack_from(f">{3 * count}I", data, _HEAD.size)
        rows = zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True)
    else:
        numbers = struct.unpack_from(f">{2 * count}I", data, _HEAD.size)
        rows = zip(numbers[::2], numbers[1::2], [0] * count, strict=True)
    samples = tuple(
        Sample(size_bytes, duration_ticks, composition_ticks, index == 0 and first_flags == _KEYFRAME_FLAGS)
        for index, (duration_ticks, size_bytes, composition_ticks) in enumerate(rows)
    )
    try:
        canonical = head(sequence, decode_ticks, samples, payload_bytes)
    except ValueError as error:
        raise BadAtom(f"this is not the head of a fragment: {error}") from None
    if canonical != data[:HEAD_RESERVE_BYTES]:
        raise BadAtom("this head of a fragment was not written by us")
    return Head(sequence, decode_ticks, samples, payload_bytes)


def renumbered(head: Buffer, sequence: int, decode_ticks: int) -> bytes:
    """The same head for another place in a file; neither CRC nor hash of the fragment changes."""
    changed = bytearray(head)
    changed[SEQUENCE_FIELD] = struct.pack(">I", sequence)
    changed[DECODE_TIME_FIELD] = struct.pack(">Q", decode_ticks)
    return bytes(changed)


def fragment_layout(first_page: Buffer) -> Layout:
    """Where everything lies in the fragment that starts with `first_page`, at least HEAD_RESERVE_BYTES. Raises BadAtom."""
    return layout_of(parse_head(first_page).payload_bytes)


def layout_of(payload_bytes: int) -> Layout:
    record_bytes = commit_record_size(payload_bytes)
    record_offset = HEAD_RESERVE_BYTES + payload_bytes
    return Layout(HEAD_RESERVE_BYTES, payload_bytes, record_offset, record_bytes, record_offset + record_bytes)


def commit_record_size(payload_bytes: int) -> int:
    """Bytes of the commit record behind so many bytes of media: it ends where a page ends."""
    used = HEAD_RESERVE_BYTES + payload_bytes + RECORD_MIN_BYTES
    return RECORD_MIN_BYTES + -used % PAGE_BYTES


def fragment_size(payload_bytes: int) -> int:
    """Bytes of a whole fragment with so many bytes of media; a multiple of PAGE_BYTES."""
    return HEAD_RESERVE_BYTES + payload_bytes + commit_record_size(payload_bytes)
