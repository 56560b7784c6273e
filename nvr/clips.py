"""Cuts a span out of a ring, without decoding, into one MP4 file that proves where it came from.

The media goes from segment file to clip inside the kernel; only the head of each fragment gets its new place
in this file: two numbers that its hash takes as zero. What belongs into a clip is decided by plain functions
over values; `cut()` at the end acts. The file is described in docs/formats/clip.md; `evidence.py` signs it.
"""

from __future__ import annotations

import datetime
import errno
import hashlib
import os
import secrets
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import nvr
from nvr import evidence, fmp4
from nvr.clock import Clock, SystemClock
from nvr.errors import NvrError
from nvr.media import PAGE_BYTES, TICKS_PER_S, Cause, FragmentRecord, Position, Span
from nvr.ring import layout
from nvr.timeline import Placed, Timeline

CHUNK_BYTES = 8 << 20  # copied between two calls of `progress`: 15 s at 4 Mbit/s
HEADER_MAX_BYTES = 64 * PAGE_BYTES  # of a segment; mostly one page
ZERO_HASH = bytes(evidence.HASH_BYTES)


class ClipFailed(NvrError):
    """The clip could not be cut; nothing of it is left on the disk."""


class NothingRecorded(ClipFailed):
    """No footage in the span."""


class PicturesChange(ClipFailed):
    """The camera's parameter sets change inside the span; one file with one decoder setting cannot hold both."""

    def __init__(self, message: str, changes_ns: tuple[int, ...], *, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.changes_ns = changes_ns  # wall times at which another clip must begin


class Recycled(ClipFailed):
    """The ring used a segment again while it was being copied."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One fragment in the ring, and when it was by the best that is known today."""

    position: Position
    placed: Placed[FragmentRecord]

    @property
    def record(self) -> FragmentRecord:
        return self.placed.what


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch without pictures."""

    from_ns: int
    to_ns: int
    cause: Cause
    after: int = 0  # sequence number of the fragment before it


@dataclass(frozen=True, slots=True)
class ClipReport:
    """What was cut."""

    path: Path
    size_bytes: int
    span: Span  # what the clip contains: whole fragments, from a keyframe on
    fragments: int
    pictures: int
    gaps: tuple[Gap, ...]
    fingerprint: str  # of the key that signed it
    copied_by: str  # "copy_file_range", "sendfile" or "read and write"


@dataclass(frozen=True, slots=True)
class Tail:
    """What the manifest says of a fragment that only its bytes can tell."""

    hash: bytes  # of the commit record, or made while cutting where the ring is without hashes
    crc32c: bytes  # the last 4 bytes


# -- deciding ----------------------------------------------------------------------------------------


def chosen(pieces: Sequence[Piece], from_ns: int | None, to_ns: int | None) -> range:
    """Which of `pieces` (one stream, in order) a clip of this span needs; empty when none touches it.

    From the keyframe at or before `from_ns`, in the same run; where that one is gone, from the first keyframe after it.
    """
    inside = [
        number
        for number, piece in enumerate(pieces)
        if (to_ns is None or piece.placed.from_ns < to_ns) and (from_ns is None or piece.placed.to_ns > from_ns)
    ]
    if not inside:
        return range(0)
    first, end = inside[0], inside[-1] + 1
    while first > 0 and not pieces[first].record.is_keyframe and follows(pieces[first - 1].record, pieces[first].record):
        first -= 1
    while first < end and not pieces[first].record.is_keyframe:
        first += 1
    return range(first, end)


def follows(before: FragmentRecord, record: FragmentRecord) -> bool:
    """Whether nothing is missing between the two."""
    return record.run == before.run and record.sequence == before.sequence + 1


def decode_times(pieces: Sequence[Piece]) -> list[int]:
    """Decode time of each fragment in the clip, from 0. A run keeps its own time; between runs the wall clock counts."""
    times: list[int] = []
    run_begins = end = 0
    for number, piece in enumerate(pieces):
        record = piece.record
        if number == 0 or record.run != pieces[number - 1].record.run:
            since_start_ns = piece.placed.from_ns - pieces[0].placed.from_ns
            run_begins = max(since_start_ns * 9 // 100_000, end) - record.run_ticks
        times.append(run_begins + record.run_ticks)
        end = times[-1] + record.duration_ticks
    return times


def gaps_between(pieces: Sequence[Piece], missing: Sequence[Gap] = ()) -> tuple[Gap, ...]:
    """Where fragments do not follow each other: what `missing` knows about it, "not known" for whatever it does not cover."""
    gaps: list[Gap] = []
    known = sorted(missing, key=lambda gap: gap.from_ns)
    for before, piece in zip(pieces, pieces[1:], strict=False):
        if follows(before.record, piece.record):
            continue
        after, at_ns, until_ns = before.record.sequence, before.placed.to_ns, piece.placed.from_ns
        here: list[Gap] = []
        for gap in known:
            from_ns, to_ns = max(gap.from_ns, at_ns), min(gap.to_ns, until_ns)
            if from_ns < to_ns:
                if from_ns > at_ns:
                    here.append(Gap(at_ns, from_ns, Cause.NOT_KNOWN, after))
                here.append(Gap(from_ns, to_ns, gap.cause, after))
                at_ns = to_ns
        if at_ns < until_ns or not here:  # even a gap of no length is told: the hash chain begins anew there
            here.append(Gap(at_ns, until_ns, Cause.NOT_KNOWN, after))
        gaps += here
    return tuple(gaps)


def stretches(pieces: Sequence[Piece]) -> list[tuple[Piece, int]]:
    """Pieces that lie one behind the other in one segment file, together: the first of them, and their bytes."""
    found: list[tuple[Piece, int]] = []
    for piece in pieces:
        if found:
            first, size_bytes = found[-1]
            if piece.position.segment == first.position.segment and piece.position.offset == first.position.offset + size_bytes:
                found[-1] = (first, size_bytes + piece.position.size_bytes)
                continue
        found.append((piece, piece.position.size_bytes))
    return found


def index_atom(pieces: Sequence[Piece], times: Sequence[int], distance_bytes: int) -> bytes:
    """A `sidx` atom (14496-12, 8.16.3): where each fragment is, so that players know the length and can seek.

    `distance_bytes` lie between its end and the first fragment. Its counter has 16 bits, so a long clip has
    several fragments in each entry.
    """
    together = -(-len(pieces) // 0xFFFF)
    starts = range(0, len(pieces), together)
    entries = []
    for start in starts:
        group = pieces[start : start + together]
        size_bytes = sum(piece.position.size_bytes for piece in group)
        end = times[start + together] if start + together < len(pieces) else times[-1] + pieces[-1].record.duration_ticks
        sap = 0x9000_0000 if group[0].record.is_keyframe else 0  # starts with a closed GOP (SAP type 1)
        entries.append(struct.pack(">III", size_bytes, end - times[start], sap))
    size_bytes = 40 + 12 * len(entries)
    head = struct.pack(">I4sIIIQQHH", size_bytes, b"sidx", 1 << 24, 1, TICKS_PER_S, 0, distance_bytes, 0, len(entries))
    return head + b"".join(entries)


def iso(wall_ns: int) -> str:
    """ISO 8601 in UTC with nanoseconds; what lies before the year 1 or after 9999 is given as plain nanoseconds."""
    seconds, rest_ns = divmod(wall_ns, 1_000_000_000)
    try:
        moment = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    except (OverflowError, ValueError, OSError):
        return f"{wall_ns} ns"
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest_ns:09d}Z"


def manifest(
    identity: evidence.Identity,
    pieces: Sequence[Piece],
    tails: Sequence[Tail],
    times: Sequence[int],
    gaps: Sequence[Gap],
    *,
    head: bytes,
    requested: tuple[int | None, int | None],
    before: bool,
    after: bool,
    cut_at: dict[str, object],
    cut_by: str,
) -> dict[str, object]:
    """What the box says, and signs, about a clip: docs/formats/clip.md lists every name."""
    first, last = pieces[0], pieces[-1]
    surest = min(piece.placed.state for piece in pieces)
    return {
        "format": 1,
        "software": f"nvr {nvr.__version__}",
        "box": identity.box_id.hex(),
        "stream": first.record.stream,
        "cut": {**cut_at, "by": cut_by},
        "requested": {"from": None if requested[0] is None else iso(requested[0]), "to": None if requested[1] is None else iso(requested[1])},
        "contained": {
            "from": iso(first.placed.from_ns),
            "to": iso(last.placed.to_ns),
            "clock": surest.name.lower(),
            "error_ns": max(piece.placed.error_ns for piece in pieces),
        },
        "in_ring": {"before": before, "after": after},
        "head": {"size_bytes": len(head), "sha256": hashlib.sha256(head).hexdigest()},
        "chain": {
            "fragments": len(pieces),
            "first_sequence": first.record.sequence,
            "last_sequence": last.record.sequence,
            "previous_hash": first.record.previous_hash.hex(),
            "last_hash": tails[-1].hash.hex(),
        },
        "gaps": [{"after": gap.after, "from": iso(gap.from_ns), "to": iso(gap.to_ns), "cause": gap.cause.value} for gap in gaps],
        "fragments": [
            {
                "sequence": piece.record.sequence,
                "run": piece.record.run,
                "from": iso(piece.placed.from_ns),
                "to": iso(piece.placed.to_ns),
                "decode_ticks": ticks,
                "size_bytes": piece.position.size_bytes,
                "hash": tail.hash.hex(),
                "crc32c": tail.crc32c.hex(),
                "hashed": "cutting" if piece.record.hash == ZERO_HASH else "recording",
            }
            for piece, ticks, tail in zip(pieces, times, tails, strict=True)
        ],
    }


# -- acting ------------------------------------------------------------------------------------------


class _Copier:
    """Moves bytes between files inside the kernel, by the best way these two file systems know."""

    _LACKING = (errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM)

    def __init__(self, out_fd: int) -> None:
        self._out_fd = out_fd
        self._ways: list[tuple[str, Callable[[int, int, int, int], int]]] = [
            ("copy_file_range", lambda fd, offset, size, to: os.copy_file_range(fd, self._out_fd, size, offset, to)),
            ("sendfile", self._sendfile),
            ("read and write", lambda fd, offset, size, to: os.pwrite(self._out_fd, os.pread(fd, min(size, 1 << 20), offset), to)),
        ]

    @property
    def way(self) -> str:
        return self._ways[0][0]

    def _sendfile(self, fd: int, offset: int, size: int, to: int) -> int:
        os.lseek(self._out_fd, to, os.SEEK_SET)
        return os.sendfile(self._out_fd, fd, offset, size)

    def copy(self, fd: int, offset: int, size_bytes: int, to: int) -> None:
        """Raises OSError; EOFError if the source ends early."""
        while size_bytes > 0:
            try:
                copied = self._ways[0][1](fd, offset, size_bytes, to)
            except OSError as error:
                if error.errno not in self._LACKING or len(self._ways) == 1:
                    raise
                copied = -1
            if copied < 0 or (copied == 0 and len(self._ways) > 1):  # some kernels return 0 for files they cannot copy
                del self._ways[0]
                continue
            if copied == 0:
                raise EOFError(f"the segment file ends at byte {offset}")
            offset, size_bytes, to = offset + copied, size_bytes - copied, to + copied


class Segments(Protocol):
    """Where the fragments of one stream lie."""

    def open_segment(self, number: int) -> int:
        """A descriptor for reading; the caller closes it. Raises OSError."""


class _Source:
    """Segment files opened for one clip, and the header each had then."""

    def __init__(self, segments: Segments) -> None:
        self._segments = segments
        self._opened: dict[int, tuple[int, layout.SegmentHeader]] = {}

    def of(self, piece: Piece) -> tuple[int, layout.SegmentHeader]:
        number = piece.position.segment
        if number not in self._opened:
            fd = self._segments.open_segment(number)
            try:
                header = _read_header(fd, piece)
            except BaseException:
                os.close(fd)
                raise
            self._opened[number] = fd, header
        return self._opened[number]

    def check_laps(self, pieces: Iterable[Piece]) -> None:
        """Raises Recycled if the ring has begun to use one of the segments again; its header changes before its media does."""
        for piece in pieces:
            _read_header(self.of(piece)[0], piece)

    def close(self) -> None:
        for fd, _ in self._opened.values():
            os.close(fd)


def _read_header(fd: int, piece: Piece) -> layout.SegmentHeader:
    header = None
    for size_bytes in (PAGE_BYTES, HEADER_MAX_BYTES):  # almost always one page
        try:
            header = layout.parse_header(os.pread(fd, size_bytes, 0))
            break
        except layout.DamagedHeader:
            continue
    if header is None or header.lap != piece.position.lap or header.flags & layout.HeaderFlag.EMPTIED:
        raise _recycled(piece)
    return header


def _recycled(piece: Piece) -> Recycled:
    return Recycled(
        f"{piece.record.stream}: the footage of {iso(piece.placed.from_ns)} was recycled while the clip was being cut",
        hint="Cut again from a later moment; hold a span first if it must not be recycled.",
    )


def _decoder_setting(init: bytes) -> bytes:
    """The sample description (14496-12, 8.5.2) in an init segment: what must be the same all through a clip."""
    start, end = 0, len(init)
    for wanted in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd"):
        for kind, offset, size, header_bytes in fmp4.atoms(init, start, end):
            if kind == wanted:
                start, end = offset + header_bytes, offset + size
                break
        else:
            raise fmp4.BadAtom(f"there is no {wanted.decode()!r} in this init segment")
    return init[start:end]


def _one_init(source: _Source, pieces: Sequence[Piece]) -> bytes:
    """The init segment for all of `pieces`. Raises PicturesChange."""
    changes = []
    setting = None
    segment = -1
    for piece in pieces:
        if piece.position.segment != segment:
            segment = piece.position.segment
            now = _decoder_setting(source.of(piece)[1].init)
            if setting is not None and now != setting:
                changes.append(piece.placed.from_ns)
            setting = now
    if changes:
        times = ", ".join(iso(change) for change in changes)
        raise PicturesChange(
            f"{pieces[0].record.stream}: the camera changed its picture settings at {times}",
            tuple(changes),
            hint="Cut up to that moment, and another clip from there; or ask for several clips.",
        )
    return source.of(pieces[0])[1].init


def _head(init: bytes, pieces: Sequence[Piece], times: Sequence[int]) -> bytes:
    """Everything before the first fragment, in whole pages."""
    rest_bytes = -(len(init) + len(index_atom(pieces, times, 0))) % PAGE_BYTES
    if rest_bytes < 8:  # no room for the head of a `free` atom
        rest_bytes += PAGE_BYTES
    free = struct.pack(">I4s", rest_bytes, b"free") + bytes(rest_bytes - 8)
    return init + index_atom(pieces, times, rest_bytes) + free


def cut_pieces(
    segments: Segments,
    pieces: Sequence[Piece],
    out_path: Path,
    identity: evidence.Identity,
    *,
    requested: tuple[int | None, int | None] = (None, None),
    before: bool = False,
    after: bool = False,
    missing: Sequence[Gap] = (),
    cut_by: str = "",
    replace: bool = False,
    progress: Callable[[int, int], None] | None = None,
    clock: Clock | None = None,
) -> ClipReport:
    """Write exactly `pieces` (one stream, in order, from a keyframe on) as a clip; cut() chooses them.

    On return the clip is durable under `out_path`. Raises as cut() does.
    """
    out_path = Path(out_path)
    if not replace and out_path.exists():
        raise _taken(out_path)
    draft = out_path.with_name(f".{out_path.name}.{secrets.token_hex(4)}.partial")
    source = _Source(segments)
    try:
        times = decode_times(pieces)
        gaps = gaps_between(pieces, missing)
        head = _head(_one_init(source, pieces), pieces, times)
        out_fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        try:
            copier = _Copier(out_fd)
            _write(out_fd, head, 0)
            end = _copy_media(source, copier, pieces, len(head), progress)
            tails = _settle(out_fd, pieces, times, len(head))
            source.check_laps(pieces)
            reading = (clock or SystemClock()).read()
            cut_at = {"at": iso(reading.wall_ns), "clock": reading.state.name.lower(), "error_ns": reading.error_ns}
            says = manifest(
                identity, pieces, tails, times, gaps, head=head, requested=requested, before=before, after=after, cut_at=cut_at, cut_by=cut_by
            )  # fmt: skip
            proof = evidence.manifest_atom(identity, says)
            _write(out_fd, proof, end)
            os.fsync(out_fd)
        finally:
            os.close(out_fd)
        _move_into_place(draft, out_path, replace)
    except EOFError as error:
        raise ClipFailed(f"{pieces[0].record.stream}: {error}", hint="Run `nvr ring check`.") from error
    except OSError as error:
        needed_mb = sum(piece.position.size_bytes for piece in pieces) / 1e6
        hint = "Free space, or write the clip to another disk." if error.errno == errno.ENOSPC else "Look at the disk."
        raise ClipFailed(f"cannot write {out_path} ({needed_mb:.1f} MB): {error.strerror}", hint=hint) from error
    finally:
        source.close()
        draft.unlink(missing_ok=True)
    return ClipReport(
        path=out_path,
        size_bytes=end + len(proof),
        span=Span(pieces[0].record.stream, pieces[0].placed.from_ns, pieces[-1].placed.to_ns),
        fragments=len(pieces),
        pictures=sum(piece.record.pictures for piece in pieces),
        gaps=gaps,
        fingerprint=identity.fingerprint,
        copied_by=copier.way,
    )


def _write(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        offset, view = offset + written, view[written:]


def _copy_media(source: _Source, copier: _Copier, pieces: Sequence[Piece], end: int, progress: Callable[[int, int], None] | None) -> int:
    """Copy all fragments behind byte `end`; returns where they end."""
    start, total_bytes = end, sum(piece.position.size_bytes for piece in pieces)
    for first, size_bytes in stretches(pieces):
        fd, offset = source.of(first)[0], first.position.offset
        while size_bytes:
            chunk_bytes = min(size_bytes, CHUNK_BYTES)
            copier.copy(fd, offset, chunk_bytes, end)
            offset, end, size_bytes = offset + chunk_bytes, end + chunk_bytes, size_bytes - chunk_bytes
            if progress is not None:
                progress(end - start, total_bytes)
    return end


def _settle(fd: int, pieces: Sequence[Piece], times: Sequence[int], offset: int) -> list[Tail]:
    """Give the copied fragments their places in this file, and read back what they are. Raises Recycled, ClipFailed."""
    tails = []
    for number, (piece, ticks) in enumerate(zip(pieces, times, strict=True), start=1):
        size_bytes = piece.position.size_bytes
        record_bytes = fmp4.commit_record_size(piece.record.payload_bytes)
        record_data = os.pread(fd, record_bytes, offset + size_bytes - record_bytes)
        try:
            record = fmp4.parse_commit_record(record_data)
        except fmp4.BadAtom:
            raise _recycled(piece) from None
        if record != piece.record:
            raise _recycled(piece)
        digest = record.hash
        if digest == ZERO_HASH:
            digest = _hash_now(os.pread(fd, size_bytes, offset), piece)
        head = os.pread(fd, fmp4.HEAD_RESERVE_BYTES, offset)
        os.pwrite(fd, fmp4.renumbered(head, number, ticks), offset)
        tails.append(Tail(digest, record_data[-4:]))
        offset += size_bytes
    return tails


def _hash_now(fragment: bytes, piece: Piece) -> bytes:
    """The evidence hash of a fragment that was recorded without one. Raises ClipFailed unless its CRC is right."""
    try:
        fmp4.check_fragment(fragment)
        return fmp4.hash_of(fragment, hashlib.sha256())
    except fmp4.BadAtom as error:
        raise ClipFailed(
            f"{piece.record.stream}: the footage of {iso(piece.placed.from_ns)} is damaged: {error}",
            hint="Run `nvr ring check`; cut around it.",
        ) from error


def _move_into_place(draft: Path, path: Path, replace: bool) -> None:
    if replace:
        os.rename(draft, path)
    else:
        try:
            os.link(draft, path)  # unlike a rename, this fails when the name is taken
        except FileExistsError:
            raise _taken(path) from None
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            if path.exists():  # FAT and exFAT have no links
                raise _taken(path) from None
            os.rename(draft, path)
        else:
            os.unlink(draft)
    directory_fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory_fd)
    finally:
        os.close(directory_fd)


def _taken(path: Path) -> ClipFailed:
    return ClipFailed(f"{path} is there already", hint="Choose another name, or say that it may be replaced.")
