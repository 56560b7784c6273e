"""What belongs into a clip, and what the box says about it: plain functions over values.

Nothing here touches a disk, a key or a clock; `clips.py` acts. The file is described in docs/formats/clip.md.
"""

from __future__ import annotations

import datetime
import hashlib
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import nvr
from nvr.errors import NvrError
from nvr.media import TICKS_PER_S, Cause, FragmentRecord, Position
from nvr.timeline import Placed

ZERO_HASH = bytes(32)


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
class Tail:
    """What the manifest says of a fragment that only its bytes can tell."""

    hash: bytes  # of the commit record, or made while cutting where the ring is without hashes
    crc32c: bytes  # the last 4 bytes


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
    while (
        first > 0 and not pieces[first].record.is_keyframe and follows(pieces[first - 1].record, pieces[first].record)
    ):
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
    for before, piece in pairwise(pieces):
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
            if (
                piece.position.segment == first.position.segment
                and piece.position.offset == first.position.offset + size_bytes
            ):
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
        end = (
            times[start + together] if start + together < len(pieces) else times[-1] + pieces[-1].record.duration_ticks
        )
        sap = 0x9000_0000 if group[0].record.is_keyframe else 0  # starts with a closed GOP (SAP type 1)
        entries.append(struct.pack(">III", size_bytes, end - times[start], sap))
    size_bytes = 40 + 12 * len(entries)
    head = struct.pack(">I4sIIIQQHH", size_bytes, b"sidx", 1 << 24, 1, TICKS_PER_S, 0, distance_bytes, 0, len(entries))
    return head + b"".join(entries)


def iso(wall_ns: int) -> str:
    """ISO 8601 in UTC with nanoseconds; what lies before the year 1 or after 9999 is given as plain nanoseconds."""
    seconds, rest_ns = divmod(wall_ns, 1_000_000_000)
    try:
        moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    except (OverflowError, ValueError, OSError):
        return f"{wall_ns} ns"
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest_ns:09d}Z"


_ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")


def at_the_site(text: str, zone: datetime.tzinfo) -> str:
    """A message in which iso() gave times, as people at the site read them: local, to the millisecond. Clips keep them as they are."""

    def local(match: re.Match[str]) -> str:
        moment = datetime.datetime.fromisoformat(match[0][:26] + "+00:00").astimezone(zone)
        return moment.isoformat(timespec="milliseconds")

    return _ISO.sub(local, text)


def manifest(
    box_id: bytes,
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
        "box": box_id.hex(),
        "recorded_by": sorted({piece.record.box_id.hex() for piece in pieces}),
        "stream": first.record.stream,
        "cut": {**cut_at, "by": cut_by},
        "requested": {
            "from": None if requested[0] is None else iso(requested[0]),
            "to": None if requested[1] is None else iso(requested[1]),
        },
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
        "gaps": [
            {"after": gap.after, "from": iso(gap.from_ns), "to": iso(gap.to_ns), "cause": gap.cause.value}
            for gap in gaps
        ],
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
