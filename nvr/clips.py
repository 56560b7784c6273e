"""Cuts a span out of a ring, without decoding, into one MP4 file that proves where it came from.

The media goes from segment file to clip inside the kernel; only the head of each fragment gets its new place
in this file: two numbers that its hash takes as zero. `clip_plan.py` decides what belongs into a clip, `evidence.py`
signs it, `verify_clip.py` checks it. The file is described in docs/formats/clip.md.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import struct
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from nvr import evidence, fmp4, journal, ledger, verify_clip
from nvr.clip_plan import (
    ZERO_HASH,
    Gap,
    Piece,
    Tail,
    chosen,
    decode_times,
    follows,
    gaps_between,
    index_atom,
    iso,
    manifest,
    stretches,
)
from nvr.clock import Clock, SystemClock
from nvr.errors import NvrError
from nvr.media import PAGE_BYTES, Span
from nvr.ring import layout, reader
from nvr.timeline import Timeline

CHUNK_BYTES = 8 << 20  # copied between two calls of `progress`: 15 s at 4 Mbit/s
HEADER_MAX_BYTES = 64 * PAGE_BYTES  # of a segment; mostly one page


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


class _Source:
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


def _settings(source: _Source, pieces: Sequence[Piece]) -> list[int]:
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


def _one_init(source: _Source, pieces: Sequence[Piece]) -> bytes:
    """The init segment for all of `pieces`. Raises PicturesChange."""
    changes = tuple(pieces[start].placed.from_ns for start in _settings(source, pieces)[1:])
    if changes:
        raise PicturesChange(
            f"{pieces[0].record.stream}: the camera changed its picture settings at {', '.join(map(iso, changes))}",
            changes,
            hint="Cut up to that moment, and another clip from there; or ask for several clips.",
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


@dataclass(frozen=True, slots=True)
class _Choice:
    """What one clip, or several with different parameter sets, will hold."""

    ring_path: Path
    pieces: list[Piece]
    before: bool  # the ring has more of the same run before the first piece
    after: bool
    missing: list[Gap]


def _choice(
    data_dir: Path, stream: str, from_ns: int | None, to_ns: int | None, timeline: Timeline | None, clock: Clock
) -> _Choice:
    """Look in the ring and the journal. Raises ClipFailed, NothingRecorded, RingUnreadable."""
    paths = reader.streams(data_dir)
    if stream not in paths:
        known = ", ".join(sorted(paths)) or "none"
        raise NothingRecorded(f"there is no ring of {stream} in {data_dir}", hint=f"Streams that are there: {known}.")
    story = journal.read(data_dir / "journal")
    ring = reader.Ring(paths[stream])
    try:
        if timeline is None:
            timeline = Timeline.from_rows([(row.record for row in ring.rows())], story.samples())
        rows = _rows_around(ring, timeline, from_ns, to_ns)
    finally:
        ring.close()
    placed = timeline.place(row.record for row in rows)
    pieces = [Piece(row.position, place) for row, place in zip(rows, placed, strict=True)]
    here = chosen(pieces, from_ns, to_ns)
    if not here:
        has = (
            f"it has {iso(placed[0].from_ns)} to {iso(placed[-1].to_ns)} near that"
            if placed
            else "its ring is empty there"
        )
        span = f"{'the beginning' if from_ns is None else iso(from_ns)} to {'now' if to_ns is None else iso(to_ns)}"
        raise NothingRecorded(f"{stream}: nothing is recorded from {span}; {has}", hint="`nvr ledger` says why.")
    inside = pieces[here.start : here.stop]
    before = here.start > 0 and follows(pieces[here.start - 1].record, inside[0].record)
    after = here.stop < len(pieces) and follows(inside[-1].record, pieces[here.stop].record)
    return _Choice(paths[stream], inside, before, after, _missing(inside, story, timeline, clock))


def _rows_around(ring: reader.Ring, timeline: Timeline, from_ns: int | None, to_ns: int | None) -> list[layout.Row]:
    """Rows of the span, back to the keyframe before it, and two more at either end where there are such."""

    def begins_ns(row: layout.Row) -> int:
        return timeline.wall_of(row.record.boot_id, row.record.mono_ns).ns

    # Mostly the segment in which the span begins is enough; where not, the one before it is read too.
    starts = [0]
    if from_ns is not None:
        for state in ring.sealed():
            if timeline.wall_of(state.boot_id, state.last_mono_ns).ns <= from_ns:
                starts = [state.last_sequence + 1, state.first_sequence]
    for start in starts:
        rows: list[layout.Row] = []
        for row in ring.rows(start):
            rows.append(row)
            if to_ns is not None and len(rows) % 16 == 0 and begins_ns(row) >= to_ns:
                break
        first = 0 if from_ns is None else max(bisect_left(rows, from_ns, key=begins_ns) - 2, 0)
        while first > 0 and not rows[first].record.is_keyframe:
            first -= 1
        if first >= 2:
            break
    end = len(rows) if to_ns is None else bisect_left(rows, to_ns, key=begins_ns) + 2
    return rows[max(first - 2, 0) : end]


def _missing(pieces: Sequence[Piece], story: journal.Story, timeline: Timeline, clock: Clock) -> list[Gap]:
    """What the ledger says of the gaps between `pieces`; it is not asked when there are none."""
    if all(follows(one.record, other.record) for one, other in pairwise(pieces)):
        return []
    first, last = pieces[0], pieces[-1]
    account = ledger.account(
        first.record.stream, ledger.unbroken(piece.record for piece in pieces), story, timeline,
        first.placed.from_ns, last.placed.to_ns, now_ns=max(clock.read().wall_ns, last.placed.to_ns),
    )  # fmt: skip
    return [Gap(part.from_ns, part.to_ns, part.cause) for part in account.parts if part.cause is not None]


def cut(
    data_dir: Path,
    stream: str,
    from_ns: int | None,
    to_ns: int | None,
    out_path: Path,
    *,
    identity: evidence.Identity | None = None,
    timeline: Timeline | None = None,
    cut_by: str = "",
    replace: bool = False,
    progress: Callable[[int, int], None] | None = None,
    clock: Clock | None = None,
) -> ClipReport:
    """Cut `stream` from `from_ns` up to `to_ns` (wall time; None: all there is) into the file `out_path`, durably.

    It starts with the keyframe at or before `from_ns` and ends with the fragment that `to_ns` lies in. Without
    `identity` it is signed by DATA/identity/key. Without `timeline` one is made, from every row of the ring (10 us each): who
    has one should give it. `progress(done_bytes, total_bytes)` is called every 8 MiB.

    Raises NothingRecorded, PicturesChange (the parameter sets change: see cut_parts()), Recycled, ClipFailed (the disk, or
    `out_path` exists and may not be replaced), IdentityFailed, and RingUnreadable.
    """
    clock = clock or SystemClock()
    identity = identity or evidence.Identity.load_or_create(data_dir / "identity" / "key")
    choice = _choice(data_dir, stream, from_ns, to_ns, timeline, clock)
    return cut_pieces(
        choice.ring_path, choice.pieces, out_path, identity, requested=(from_ns, to_ns), before=choice.before, after=choice.after,
        missing=choice.missing, cut_by=cut_by, replace=replace, progress=progress, clock=clock,
    )  # fmt: skip


def cut_parts(
    data_dir: Path,
    stream: str,
    from_ns: int | None,
    to_ns: int | None,
    out_path: Path,
    *,
    identity: evidence.Identity | None = None,
    timeline: Timeline | None = None,
    cut_by: str = "",
    replace: bool = False,
    clock: Clock | None = None,
) -> list[ClipReport]:
    """As cut(), but where parameter sets change another clip begins: NAME-1.mp4, NAME-2.mp4 and so on; one keeps its name."""
    clock = clock or SystemClock()
    identity = identity or evidence.Identity.load_or_create(data_dir / "identity" / "key")
    choice = _choice(data_dir, stream, from_ns, to_ns, timeline, clock)
    source = _Source(choice.ring_path)
    try:
        starts = [*_settings(source, choice.pieces), len(choice.pieces)]
    finally:
        source.close()
    reports = []
    for number, (start, stop) in enumerate(pairwise(starts), start=1):
        path = out_path if len(starts) == 2 else out_path.with_stem(f"{out_path.stem}-{number}")
        reports.append(
            cut_pieces(
                choice.ring_path, choice.pieces[start:stop], path, identity, requested=(from_ns, to_ns),
                before=choice.before and start == 0, after=choice.after and stop == len(choice.pieces),
                missing=choice.missing, cut_by=cut_by, replace=replace, clock=clock,
            )
        )  # fmt: skip
    return reports


def verify(path: Path, expected_key: str | None = None) -> dict[str, object]:
    """The verdict of the stand-alone verifier: genuine, box, camera, stream, from, to, fingerprint, reasons, notes.

    `expected_key` is the box's public key or fingerprint in hexadecimal. Raises ClipFailed if `path` cannot be read.
    """
    try:
        return verify_clip.verify(path, expected_key)
    except OSError as error:
        raise ClipFailed(f"cannot read {path}: {error.strerror}", hint="Is this the file?") from error


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
    draft = out_path.with_name(f".{out_path.name}.{secrets.token_hex(4)}.partial")
    source = _Source(ring_path)
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
    source: _Source, copier: _Copier, pieces: Sequence[Piece], end: int, progress: Callable[[int, int], None] | None
) -> int:
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
    directory_fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory_fd)
    finally:
        os.close(directory_fd)


def _taken(path: Path) -> ClipFailed:
    return ClipFailed(f"{path} is there already", hint="Choose another name, or say that it may be replaced.")
