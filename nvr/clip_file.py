"""Writes chosen fragments as one clip: copied inside the kernel, settled in their new places, signed, durable.

`clips.py` chooses the fragments, `clip_plan.py` says what is told of them. The file is described in docs/formats/clip.md.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nvr import durable, evidence, fmp4
from nvr.clip_plan import (
    ZERO_HASH,
    ClipFailed,
    Gap,
    PicturesChange,
    Piece,
    Recycled,
    Tail,
    decode_times,
    gaps_between,
    index_atom,
    iso,
    manifest,
    stretches,
)
from nvr.clock import Clock, SystemClock
from nvr.media import PAGE_BYTES, Span
from nvr.ring import layout

# What the kernel moves at once (a full pipe). Where each of these fills a block of the new file, copying and syncing it cost a
# quarter less: ext4 keeps whole blocks in one piece (docs/bench.md).
BLOCK_BYTES = 64 << 10
CHUNK_BYTES = 8 << 20  # copied between two calls of `progress`: 15 s at 4 Mbit/s
HEADER_MAX_BYTES = 64 * PAGE_BYTES  # of a segment; mostly one page
DRAFT_SUFFIX = ".partial"


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


class _Copier:
    """Moves bytes between files inside the kernel, by the best way these two file systems know."""

    _LACKING = (errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM)

    def __init__(self, out_fd: int) -> None:
        self._out_fd = out_fd
        self._ways: list[tuple[str, Callable[[int, int, int, int], int]]] = [
            ("copy_file_range", lambda fd, offset, size, to: os.copy_file_range(fd, self._out_fd, size, offset, to)),
            ("sendfile", self._sendfile),
            (
                "read and write",
                lambda fd, offset, size, to: os.pwrite(self._out_fd, os.pread(fd, min(size, 1 << 20), offset), to),
            ),
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


class Source:
    """Segment files opened for one clip, and the header each had then."""

    def __init__(self, ring_path: Path) -> None:
        self._ring_path = ring_path
        self._opened: dict[int, tuple[int, layout.SegmentHeader]] = {}

    def of(self, piece: Piece) -> tuple[int, layout.SegmentHeader]:
        number = piece.position.segment
        if number not in self._opened:
            fd = os.open(self._ring_path / layout.segment_name(number), os.O_RDONLY | os.O_CLOEXEC)
            try:
                header = _read_header(fd, piece)
            except BaseException:
                os.close(fd)
                raise
            self._opened[number] = fd, header
        return self._opened[number]

    def check_laps(self, pieces: Iterable[Piece]) -> None:
        """Raises Recycled if the ring has begun to use one of the segments again; its header changes before its media does."""
        for piece in {(piece.position.segment, piece.position.lap): piece for piece in pieces}.values():
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


def setting_changes(source: Source, pieces: Sequence[Piece]) -> list[int]:
    """Where in `pieces` the parameter sets are others than before; the first place is 0."""
    starts = [0]
    setting = b""
    segment = -1
    for number, piece in enumerate(pieces):
        if piece.position.segment != segment:
            segment = piece.position.segment
            header = source.of(piece)[1]
            now = (
                _decoder_setting(header.init) if header.has_moov else setting
            )  # lost in a power cut: as those around it
            if now != setting and setting:
                starts.append(number)
            setting = now
    return starts


def _one_init(source: Source, pieces: Sequence[Piece]) -> bytes:
    """The init segment for all of `pieces`. Raises PicturesChange."""
    changes = tuple(pieces[start].placed.from_ns for start in setting_changes(source, pieces)[1:])
    if changes:
        raise PicturesChange(
            f"{pieces[0].record.stream}: the camera changed its picture settings at {', '.join(map(iso, changes))}",
            changes,
            hint="Cut up to that moment, and another clip from there; `nvr clip cut --parts` makes several.",
        )
    for piece in pieces:
        header = source.of(piece)[1]
        if header.has_moov:
            return header.init
    raise ClipFailed(
        f"{pieces[0].record.stream}: the parameter sets of this footage were lost in a power cut",
        hint="Cut a longer span: those of the segment before or after are taken then.",
    )


def _head(init: bytes, pieces: Sequence[Piece], times: Sequence[int]) -> bytes:
    """Everything before the first fragment, in whole pages."""
    rest_bytes = -(len(init) + len(index_atom(pieces, times, 0))) % PAGE_BYTES
    if rest_bytes < 8:  # no room for the head of a `free` atom
        rest_bytes += PAGE_BYTES
    free = struct.pack(">I4s", rest_bytes, b"free") + bytes(rest_bytes - 8)
    return init + index_atom(pieces, times, rest_bytes) + free


def sweep(directory: Path, *, older_than_s: float = 0.0) -> int:
    """Remove drafts that killed processes left in `directory`, unless they are younger; returns how many.

    With 0 nobody may be cutting there now. Raises OSError.
    """
    swept = 0
    for path in directory.glob(f".*{DRAFT_SUFFIX}"):
        if path.is_file() and not path.is_symlink() and time.time() - path.stat().st_mtime >= older_than_s:
            path.unlink(missing_ok=True)
            swept += 1
    return swept


def cut_pieces(
    ring_path: Path,
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
    draft = out_path.with_name(f".{out_path.name}.{secrets.token_hex(4)}{DRAFT_SUFFIX}")
    source = Source(ring_path)
    try:
        times = decode_times(pieces)
        gaps = gaps_between(pieces, missing)
        head = _head(_one_init(source, pieces), pieces, times)
        out_fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        try:
            copier = _Copier(out_fd)
            # ext4 then finds the blocks once and not page by page, a fifth of the copy; and a full disk is told at once.
            os.posix_fallocate(out_fd, 0, len(head) + sum(piece.position.size_bytes for piece in pieces))
            _write(out_fd, head, 0)
            end = _copy_media(source, copier, pieces, len(head), progress)
            tails = _settle(out_fd, pieces, times, len(head))
            source.check_laps(pieces)
            reading = (clock or SystemClock()).read()
            cut_at = {"at": iso(reading.wall_ns), "clock": reading.state.name.lower(), "error_ns": reading.error_ns}
            says = manifest(
                identity.box_id, pieces, tails, times, gaps, head=head, requested=requested, before=before, after=after, cut_at=cut_at, cut_by=cut_by
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


def _copy_media(
    source: Source, copier: _Copier, pieces: Sequence[Piece], end: int, progress: Callable[[int, int], None] | None
) -> int:
    """Copy all fragments behind byte `end`; returns where they end."""
    start, total_bytes = end, sum(piece.position.size_bytes for piece in pieces)
    for first, size_bytes in stretches(pieces):
        fd, offset = source.of(first)[0], first.position.offset
        while size_bytes:
            to_block_bytes = -end % BLOCK_BYTES
            chunk_bytes = min(size_bytes, CHUNK_BYTES, to_block_bytes or CHUNK_BYTES)
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
        draft.rename(path)
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
            draft.rename(path)
        else:
            draft.unlink()
    durable.sync_folder(path.parent)


def _taken(path: Path) -> ClipFailed:
    return ClipFailed(f"{path} is there already", hint="Choose another name, or say --replace.")
