"""Fragmented MP4: init segments, fragments and their commit records, for one H.264 stream.

Builds bytes and parses them back; files and sockets are somebody else's business. Follows ISO/IEC 14496-12:2015
(section numbers below) and 14496-15:2017; the byte tables are in docs/formats/ring.md. A fragment is:

    moof          8.8.4   what the fragment contains; always 1016 bytes
      mfhd        8.8.5   sequence number in this file, from 1
      traf        8.8.6
        tfhd      8.8.7   offsets count from the start of the moof
        tfdt      8.8.12  decode time of the first access unit in this file, in ticks
        trun      8.8.8   size, duration and composition offset of each access unit, flags of the first
      free        8.1.2   padding: the media always starts 1024 bytes into the fragment
    mdat          8.1.1   the access units
    uuid          11.1    commit record: who, when, evidence hash, CRC-32C of all the above; ends on a page boundary

Everything lies at a fixed place, so a parser reads the fields, builds the head again and compares: there is one
way to write a fragment, and whatever differs from it is not one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import crc32c

from nvr import h264
from nvr.errors import NvrError
from nvr.media import PAGE_BYTES, TICKS_PER_S, ClockState, FragmentRecord, ParameterSets

Buffer = bytes | bytearray | memoryview  # and whatever else has the buffer protocol: mmap

HEAD_RESERVE_BYTES = 1024  # moof and the head of mdat, at the start of the fragment's first page
MAX_SAMPLES = 76  # as many as fit in the reserve when each has a composition offset
MAX_PAYLOAD_BYTES = 0xFFFF_FFFF - 8  # mdat has a 32-bit size

RECORD_MIN_BYTES = 512  # a commit record without padding: fixed, so that a fragment's size follows from its payload
RECORD_VERSION = 1
RECORD_USERTYPE = b"nvr:commit-rec:1"
STREAM_NAME_MAX_BYTES = 255

_MDAT_HEAD_BYTES = 8
_MOOF_BYTES = HEAD_RESERVE_BYTES - _MDAT_HEAD_BYTES

# The two fields that say where a fragment stands in one file; hash and CRC take them as zero.
SEQUENCE_FIELD = slice(20, 24)  # mfhd.sequence_number
DECODE_TIME_FIELD = slice(60, 68)  # tfdt.baseMediaDecodeTime

# 8.8.3.1: an IDR picture depends on nothing; the others depend on something and are not sync samples.
_KEYFRAME_FLAGS = 0x0200_0000
_OTHER_FLAGS = 0x0101_0000

_TFHD_DEFAULT_BASE_IS_MOOF = 0x02_0000
_TRUN_DATA_OFFSET, _TRUN_FIRST_FLAGS, _TRUN_DURATION, _TRUN_SIZE, _TRUN_COMPOSITION = 0x1, 0x4, 0x100, 0x200, 0x800
_TRUN_FLAGS = _TRUN_DATA_OFFSET | _TRUN_FIRST_FLAGS | _TRUN_DURATION | _TRUN_SIZE

# moof, mfhd, traf, tfhd, tfdt and trun up to the first sample.
_HEAD = struct.Struct(">I4s I4sII I4s I4sII I4sIQ I4sIIII")
_FREE = struct.Struct(">I4s")


class BadAtom(NvrError):
    """These bytes are not the MP4 they should be."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One access unit in a fragment."""

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


class PayloadHasher(Protocol):
    """hashlib's objects."""

    def copy(self) -> PayloadHasher: ...
    def update(self, data: Buffer, /) -> None: ...
    def digest(self) -> bytes: ...


# -- atoms -------------------------------------------------------------------------------------------


def atoms(data: Buffer, offset: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int, int, int]]:
    """(type, offset, size, header_bytes) of each atom that lies between `offset` and `end` (14496-12, 4.2).

    Raises BadAtom where an atom has no room for its own header, or reaches beyond `end`.
    """
    end = len(data) if end is None else min(end, len(data))
    while offset < end:
        if end - offset < 8:
            raise BadAtom(f"{end - offset} bytes at byte {offset} are too few for an atom")
        size, kind = _FREE.unpack_from(data, offset)
        header_bytes = 8
        if size == 0:  # to the end of the file
            size = end - offset
        elif size == 1:  # 64-bit size
            if end - offset < 16:
                raise BadAtom(f"atom {_name(kind)} at byte {offset} ends inside its own size")
            (size,) = struct.unpack_from(">Q", data, offset + 8)
            header_bytes = 16
        if size < header_bytes:
            raise BadAtom(f"atom {_name(kind)} at byte {offset} says that it has {size} bytes")
        if size > end - offset:
            raise BadAtom(f"atom {_name(kind)} at byte {offset} has {size} bytes, {end - offset} are there")
        yield kind, offset, size, header_bytes
        offset += size


def _name(kind: bytes) -> str:
    return repr(kind.decode("latin-1"))


def _atom(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return _FREE.pack(8 + len(body), kind) + body


def _full_atom(kind: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    return _atom(kind, struct.pack(">I", version << 24 | flags), *parts)


# -- init segment ------------------------------------------------------------------------------------

_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x4000_0000)  # 6.2.2: neither turned nor scaled


def init_segment(parameter_sets: ParameterSets, width: int, height: int) -> bytes:
    """`ftyp` and `moov` for one video track whose pictures come in fragments.

    `width` and `height` are luma samples after cropping. Raises BadH264 if the first SPS cannot be read.
    """
    sps = h264.parse_sps(parameter_sets.sps[0]) if parameter_sets.sps else None
    if sps is None or not parameter_sets.pps:
        raise h264.BadH264("there is no SPS or no PPS", hint="The camera must send both before its first picture.")
    avc_config = _atom(b"avcC", avc_decoder_configuration(parameter_sets))
    shown_width = width
    if sps.sample_aspect not in ((0, 0), (1, 1)):
        across, down = sps.sample_aspect
        avc_config += _atom(b"pasp", struct.pack(">II", across, down))
        shown_width = min(round(width * across / down), 0xFFFF)
    entry = _atom(
        b"avc1",
        struct.pack(">6xH16xHHIIIH32xHh", 1, width, height, 0x48_0000, 0x48_0000, 0, 1, 24, -1),
        avc_config,
    )
    sample_table = _atom(
        b"stbl",
        _full_atom(b"stsd", 0, 0, struct.pack(">I", 1), entry),
        _full_atom(b"stts", 0, 0, bytes(4)),
        _full_atom(b"stsc", 0, 0, bytes(4)),
        _full_atom(b"stsz", 0, 0, bytes(8)),
        _full_atom(b"stco", 0, 0, bytes(4)),
    )
    media = _atom(
        b"mdia",
        _full_atom(b"mdhd", 0, 0, struct.pack(">IIIIHH", 0, 0, TICKS_PER_S, 0, 0x55C4, 0)),  # language "und"
        _full_atom(b"hdlr", 0, 0, struct.pack(">4x4s12x", b"vide"), b"video\0"),
        _atom(
            b"minf",
            _full_atom(b"vmhd", 0, 1, bytes(8)),
            _atom(b"dinf", _full_atom(b"dref", 0, 0, struct.pack(">I", 1), _full_atom(b"url ", 0, 1))),
            sample_table,
        ),
    )
    track = _atom(
        b"trak",
        _full_atom(
            b"tkhd",
            0,
            3,  # enabled, in movie
            struct.pack(">IIIII8xhhHH", 0, 0, 1, 0, 0, 0, 0, 0, 0),
            _MATRIX,
            struct.pack(">II", shown_width << 16, height << 16),
        ),
        media,
    )
    movie = _atom(
        b"moov",
        _full_atom(
            b"mvhd", 0, 0, struct.pack(">IIIIIH10x", 0, 0, TICKS_PER_S, 0, 0x10000, 0x100), _MATRIX, bytes(24), struct.pack(">I", 2)
        ),
        track,
        _atom(b"mvex", _full_atom(b"trex", 0, 0, struct.pack(">IIIII", 1, 1, 0, 0, _OTHER_FLAGS))),
    )
    # iso5 is the first brand with default-base-is-moof, iso6 the first with tfdt.
    return _atom(b"ftyp", struct.pack(">4sI", b"iso6", 0), b"iso5iso6avc1mp41") + movie


def avc_decoder_configuration(parameter_sets: ParameterSets) -> bytes:
    """The body of `avcC` (14496-15, 5.3.3.1). Raises BadH264."""
    first = h264.parse_sps(parameter_sets.sps[0])
    sps, pps = parameter_sets.sps[:31], parameter_sets.pps[:255]
    parts = [bytes((1, first.profile, first.constraints, first.level, 0xFC | 3, 0xE0 | len(sps)))]
    for unit in sps:
        parts += (struct.pack(">H", len(unit)), unit)
    parts.append(bytes((len(pps),)))
    for unit in pps:
        parts += (struct.pack(">H", len(unit)), unit)
    if first.profile in (100, 110, 122, 144):
        parts.append(bytes((0xFC | first.chroma_format, 0xF8 | first.bit_depth - 8, 0xF8 | first.bit_depth_chroma - 8, 0)))
    return b"".join(parts)


# -- head --------------------------------------------------------------------------------------------


def open_head(size_to_segment_end: int) -> bytes:
    """HEAD_RESERVE_BYTES that make everything up to the end of the segment a `free` atom."""
    return _FREE.pack(size_to_segment_end, b"free") + bytes(HEAD_RESERVE_BYTES - 8)


def head(sequence_in_segment: int, decode_ticks: int, samples: Sequence[Sample], payload_bytes: int) -> bytes:
    """The first HEAD_RESERVE_BYTES of a fragment: `moof` with its padding and the head of `mdat`.

    Raises ValueError for what a fragment cannot hold: no sample or more than MAX_SAMPLES, a keyframe that is not the
    first, a number that does not fit its field, sizes that do not add up to `payload_bytes`.
    """
    count = len(samples)
    if not 1 <= count <= MAX_SAMPLES:
        raise ValueError(f"a fragment holds 1 to {MAX_SAMPLES} access units, not {count}")
    if any(sample.is_keyframe for sample in samples[1:]):
        raise ValueError("a keyframe starts a new fragment")
    if sum(sample.size_bytes for sample in samples) != payload_bytes or payload_bytes > MAX_PAYLOAD_BYTES:
        raise ValueError(f"the access units do not make a payload of {payload_bytes} bytes")
    numbers: list[int] = []
    flags = _TRUN_FLAGS
    if any(sample.composition_ticks for sample in samples):
        flags |= _TRUN_COMPOSITION
        for sample in samples:
            numbers += (sample.duration_ticks, sample.size_bytes, sample.composition_ticks)
    else:
        for sample in samples:
            numbers += (sample.duration_ticks, sample.size_bytes)
    trun_bytes = 24 + 4 * len(numbers)
    traf_bytes = 8 + 16 + 20 + trun_bytes
    padding_bytes = _MOOF_BYTES - 8 - 16 - traf_bytes
    first_flags = _KEYFRAME_FLAGS if samples[0].is_keyframe else _OTHER_FLAGS
    try:
        return b"".join(
            (
                # fmt: off
                _HEAD.pack(
                    _MOOF_BYTES, b"moof",
                    16, b"mfhd", 0, sequence_in_segment,
                    traf_bytes, b"traf",
                    16, b"tfhd", _TFHD_DEFAULT_BASE_IS_MOOF, 1,
                    20, b"tfdt", 1 << 24, decode_ticks,
                    trun_bytes, b"trun", flags, count, HEAD_RESERVE_BYTES, first_flags,
                ),
                # fmt: on
                struct.pack(f">{len(numbers)}I", *numbers),
                _FREE.pack(padding_bytes, b"free"),
                bytes(padding_bytes - 8),
                _FREE.pack(payload_bytes + _MDAT_HEAD_BYTES, b"mdat"),
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
        raise BadAtom(f"this is not the head of a fragment: it starts with {_name(fields[1])} and {count} samples")
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
    return _layout(parse_head(first_page).payload_bytes)


def _layout(payload_bytes: int) -> Layout:
    record_bytes = commit_record_size(payload_bytes)
    record_offset = HEAD_RESERVE_BYTES + payload_bytes
    return Layout(HEAD_RESERVE_BYTES, payload_bytes, record_offset, record_bytes, record_offset + record_bytes)


# -- commit record -----------------------------------------------------------------------------------

# fmt: off
_RECORD = struct.Struct(
    ">I4s16s"  # size, "uuid", usertype
    "HBB"      # version, flags (1: starts with a keyframe), clock state
    "16s16s"   # box_id, boot_id
    "IIIQ"     # run, lap, segment, sequence
    "qqQ"      # mono_ns, wall_ns, clock_error_ns
    "QqIIII"   # run_ticks, camera_wall_ns, duration_ticks, pictures, payload_bytes, lost_packets
    "32s32s"   # previous_hash, hash
    "H"        # length of the stream name, which follows in UTF-8
)
# fmt: on
_HASH_FIELD = slice(168, 200)
_CRC = struct.Struct(">I")  # the last four bytes of the record, and so of the fragment


def commit_record_size(payload_bytes: int) -> int:
    """Bytes of the commit record behind so many bytes of media: it ends where a page ends."""
    used = HEAD_RESERVE_BYTES + payload_bytes + RECORD_MIN_BYTES
    return RECORD_MIN_BYTES + -used % PAGE_BYTES


def fragment_size(payload_bytes: int) -> int:
    """Bytes of a whole fragment with so many bytes of media; a multiple of PAGE_BYTES."""
    return HEAD_RESERVE_BYTES + payload_bytes + commit_record_size(payload_bytes)


def commit_record(record: FragmentRecord, head: Buffer, payload_crc: int, size_bytes: int) -> bytes:
    """The `uuid` atom that closes a fragment, of `size_bytes` (always commit_record_size(record.payload_bytes)).

    `payload_crc` is the CRC-32C of the media, starting from 0. Raises ValueError for a number that does not fit.
    """
    if size_bytes != commit_record_size(record.payload_bytes):
        raise ValueError(f"a commit record behind {record.payload_bytes} bytes has not {size_bytes} bytes")
    body = _record_without_crc(record)
    return body + _CRC.pack(_fragment_crc(payload_crc, head, body))


def fragment_hash(payload_hasher: PayloadHasher, head: Buffer, record: FragmentRecord) -> bytes:
    """The evidence hash of a fragment: SHA-256 over payload, head, commit record, in this order.

    `payload_hasher` is hashlib.sha256() that was fed the payload and nothing else; it is not changed. In the head the
    two fields that renumbered() sets count as zero, in the record the hash and the CRC; `record.previous_hash` counts.
    """
    hasher = payload_hasher.copy()
    hasher.update(renumbered(head, 0, 0))
    hasher.update(_record_without_crc(replace(record, hash=bytes(32))))
    hasher.update(bytes(_CRC.size))
    return hasher.digest()


def parse_commit_record(data: Buffer) -> FragmentRecord:
    """Read what commit_record() wrote; the CRC is not looked at. `data` may be longer. Raises BadAtom."""
    if len(data) < RECORD_MIN_BYTES:
        raise BadAtom(f"{len(data)} bytes are too few for a commit record")
    # fmt: off
    (
        size, kind, usertype, version, flags, clock_state, box_id, boot_id, run, lap, segment, sequence,
        mono_ns, wall_ns, clock_error_ns, run_ticks, camera_wall_ns, duration_ticks, pictures, payload_bytes, lost_packets,
        previous_hash, digest, name_bytes,
    ) = _RECORD.unpack_from(data)
    # fmt: on
    if kind != b"uuid" or usertype != RECORD_USERTYPE:
        raise BadAtom(f"this is no commit record: it starts with {_name(kind)}")
    if version != RECORD_VERSION:
        raise BadAtom(
            f"the commit record has version {version}, this program reads version {RECORD_VERSION}",
            hint="A newer nvr wrote this footage: read it with that one.",
        )
    if size != commit_record_size(payload_bytes) or flags & ~1 or name_bytes > STREAM_NAME_MAX_BYTES:
        raise BadAtom(f"the commit record contradicts itself: {size} bytes behind {payload_bytes} bytes of media")
    try:
        stream = bytes(data[_RECORD.size : _RECORD.size + name_bytes]).decode("utf-8")
        state = ClockState(clock_state)
    except ValueError:
        raise BadAtom("the commit record has no readable stream name or clock state") from None
    return FragmentRecord(
        box_id=box_id,
        boot_id=boot_id,
        stream=stream,
        run=run,
        lap=lap,
        segment=segment,
        sequence=sequence,
        mono_ns=mono_ns,
        wall_ns=wall_ns,
        clock_state=state,
        clock_error_ns=clock_error_ns,
        run_ticks=run_ticks,
        duration_ticks=duration_ticks,
        pictures=pictures,
        payload_bytes=payload_bytes,
        lost_packets=lost_packets,
        is_keyframe=bool(flags & 1),
        camera_wall_ns=camera_wall_ns,
        previous_hash=previous_hash,
        hash=digest,
    )


def check_fragment(data: Buffer) -> tuple[Head, FragmentRecord]:
    """Read a whole fragment at the start of `data`. Raises BadAtom unless its CRC and its numbers are right.

    The evidence hash is not compared: hash_of() makes it.
    """
    parsed = parse_head(data)
    layout = _layout(parsed.payload_bytes)
    if len(data) < layout.size_bytes:
        raise BadAtom(f"the fragment has {layout.size_bytes} bytes, {len(data)} are there")
    view = memoryview(data)
    record = parse_commit_record(view[layout.record_offset : layout.size_bytes])
    payload_crc = crc32c.crc32c(view[layout.payload_offset : layout.record_offset])
    found = _fragment_crc(payload_crc, view[:HEAD_RESERVE_BYTES], view[layout.record_offset : layout.size_bytes - _CRC.size])
    (expected,) = _CRC.unpack_from(data, layout.size_bytes - _CRC.size)
    if found != expected:
        raise BadAtom(f"the CRC-32C is {found:08x}, the commit record says {expected:08x}")
    says = (record.payload_bytes, record.pictures, record.duration_ticks, record.is_keyframe)
    if says != (parsed.payload_bytes, len(parsed.samples), parsed.duration_ticks, parsed.samples[0].is_keyframe):
        raise BadAtom("head and commit record of the fragment do not agree")
    return parsed, record


def hash_of(data: Buffer, payload_hasher: PayloadHasher) -> bytes:
    """fragment_hash() of the whole fragment at the start of `data`; `payload_hasher` is a fresh hashlib.sha256(). Raises BadAtom."""
    layout = fragment_layout(data)
    view = memoryview(data)
    record = parse_commit_record(view[layout.record_offset : layout.size_bytes])
    payload_hasher.update(view[layout.payload_offset : layout.record_offset])
    return fragment_hash(payload_hasher, view[:HEAD_RESERVE_BYTES], record)


def _record_without_crc(record: FragmentRecord) -> bytes:
    name = record.stream.encode("utf-8")
    if len(name) > STREAM_NAME_MAX_BYTES:
        raise ValueError(f"the stream name {record.stream!r} has more than {STREAM_NAME_MAX_BYTES} bytes")
    size_bytes = commit_record_size(record.payload_bytes)
    try:
        # fmt: off
        fields = _RECORD.pack(
            size_bytes, b"uuid", RECORD_USERTYPE, RECORD_VERSION, record.is_keyframe, record.clock_state,
            record.box_id, record.boot_id, record.run, record.lap, record.segment, record.sequence,
            record.mono_ns, record.wall_ns, record.clock_error_ns, record.run_ticks, record.camera_wall_ns,
            record.duration_ticks, record.pictures, record.payload_bytes, min(record.lost_packets, 0xFFFF_FFFF),
            record.previous_hash, record.hash, len(name),
        )
        # fmt: on
    except struct.error as error:
        raise ValueError(f"a number does not fit the commit record: {error}") from None
    return (fields + name).ljust(size_bytes - _CRC.size, b"\0")


def _fragment_crc(payload_crc: int, head: Buffer, record_without_crc: Buffer) -> int:
    """CRC-32C over payload, head with its two fields as zero, commit record up to the CRC, in this order.

    The payload comes first so that its CRC can be made while it arrives: the head is only known at the end.
    """
    return crc32c.crc32c(record_without_crc, crc32c.crc32c(renumbered(head, 0, 0), payload_crc))
