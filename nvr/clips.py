"""Cuts a span out of a ring, without decoding, into one MP4 file that proves where it came from.

The media goes from segment file to clip inside the kernel; only the head of each fragment gets its new place
in this file: two numbers that its hash takes as zero. `clip_plan.py` decides what belongs into a clip,
`clip_file.py` writes it, `evidence.py` signs it, `verify_clip.py` checks it. The file is described in docs/formats/clip.md.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from nvr import evidence, journal, ledger, verify_clip
from nvr.clip_file import ClipReport, Source, cut_pieces, setting_changes, sweep
from nvr.clip_plan import (
    ClipFailed,
    Gap,
    NothingRecorded,
    PicturesChange,
    Piece,
    Recycled,
    at_the_site,
    chosen,
    follows,
    iso,
)
from nvr.clock import Clock, SystemClock
from nvr.ring import layout, reader
from nvr.timeline import Timeline

__all__ = [
    "ClipFailed",
    "ClipReport",
    "NothingRecorded",
    "PicturesChange",
    "Recycled",
    "at_the_site",
    "cut",
    "cut_parts",
    "cut_pieces",
    "iso",
    "sweep",
    "verify",
]  # fmt: skip


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
    story: journal.Story | None = None
    ring = reader.Ring(paths[stream])
    try:
        if timeline is None:
            story = journal.read(data_dir / "journal")
            timeline = Timeline.from_rows([ledger.rows_near(ring, from_ns, to_ns)], story.samples())
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
    return _Choice(paths[stream], inside, before, after, _missing(inside, data_dir, story, timeline, clock))


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


def _missing(
    pieces: Sequence[Piece], data_dir: Path, story: journal.Story | None, timeline: Timeline, clock: Clock
) -> list[Gap]:
    """What the ledger says of the gaps between `pieces`; journal and ledger are not asked when there are none."""
    if all(follows(one.record, other.record) for one, other in pairwise(pieces)):
        return []
    if story is None:
        story = journal.read(data_dir / "journal")
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
    `identity` it is signed by DATA/identity/key. Without `timeline` one is made, from the rows around the span (10 us each) and the
    journal: who has one should give it. `progress(done_bytes, total_bytes)` is called every 8 MiB.

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
    source = Source(choice.ring_path)
    try:
        starts = [*setting_changes(source, choice.pieces), len(choice.pieces)]
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
