"""The commit record: the `uuid` atom that closes a fragment, with its CRC-32C and its evidence hash. Docs: the package."""

from __future__ import annotations

import struct
from typing import Protocol

from nvr.crc import crc32c
from nvr.fmp4.atom import BadAtom, Buffer, name_of
from nvr.fmp4.fragment import (
    HEAD_RESERVE_BYTES,
    RECORD_MIN_BYTES,
    Head,
    commit_record_size,
    fragment_layout,
    layout_of,
    parse_head,
    renumbered,
)
from nvr.media import ClockState, FragmentRecord

RECORD_VERSION = 1
RECORD_USERTYPE = b"nvr:commit-rec:1"
STREAM_NAME_MAX_BYTES = 255


class PayloadHasher(Protocol):
    """hashlib's objects."""

    def copy(self) -> PayloadHasher: ...
    def update(self, data: Buffer, /) -> None: ...
    def digest(self) -> bytes: ...


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
    body = bytearray(_record_without_crc(record))
    body[_HASH_FIELD] = bytes(32)
    hasher.update(body)
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
        raise BadAtom(f"this is no commit record: it starts with {name_of(kind)}")
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
    layout = layout_of(parsed.payload_bytes)
    if len(data) < layout.size_bytes:
        raise BadAtom(f"the fragment has {layout.size_bytes} bytes, {len(data)} are there")
    view = memoryview(data)
    record = parse_commit_record(view[layout.record_offset : layout.size_bytes])
    payload_crc = crc32c(view[layout.payload_offset : layout.record_offset])
    found = _fragment_crc(
        payload_crc, view[:HEAD_RESERVE_BYTES], view[layout.record_offset : layout.size_bytes - _CRC.size]
    )
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
    return crc32c(record_without_crc, crc32c(renumbered(head, 0, 0), payload_crc))
