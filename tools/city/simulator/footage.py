"""What a real box has: its ledger, the pictures in its rings, and whether a clip holds the same bytes. Read only, while nothing of it runs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from nvr import fmp4, journal, verify_clip
from nvr.clock import ClockReading, boot_id
from nvr.errors import NvrError
from nvr.ledger import Part, ledger
from nvr.ring import check
from nvr.ring.reader import Ring, streams
from nvr.timeline import ClockSample, Timeline
from tools.city.simulator.score import pictures_by_second


@dataclass(frozen=True, slots=True)
class Account:
    parts: tuple[Part, ...]
    pictures: dict[int, float]  # in the ring, by second of real time


def accounts(data_dir: Path, from_ns: int, to_ns: int, now: ClockReading) -> dict[str, Account]:
    """Camera -> what its ledger says of [from_ns, to_ns), and what lies in its ring."""
    boot = boot_id()
    told = {each.stream: each for each in ledger(data_dir, None, from_ns, to_ns, now=now, boot_id=boot)}
    rows = {}
    for stream, path in streams(data_dir).items():
        with closing(Ring(path)) as ring:
            rows[stream] = [row.record for row in ring.rows()]
    story = journal.read(data_dir / "journal")
    present = ClockSample(boot, now.mono_ns, now.wall_ns, now.state, now.error_ns)
    timeline = Timeline.from_rows(rows.values(), [*story.samples(), present])
    found = {}
    for stream, account in told.items():
        placed = timeline.place(rows.get(stream, []))
        fragments = [(place.from_ns, place.what.duration_ns, place.what.pictures) for place in placed]
        found[stream.partition("/")[0]] = Account(account.parts, pictures_by_second(fragments))
    return found


def check_faults(box: str, data_dir: Path) -> list[str]:
    return [
        f"{box}: {fault.stream}, segment {fault.segment} at {fault.offset}: {fault.what}"
        for fault in check.check(data_dir)
    ]


def held_against(
    clip: bytes, sha256: str, data_dir: Path, camera: str, public_key: str, path: Path
) -> tuple[bool, bool, str]:
    """(its bytes have that hash, it is genuine, how its media differs from the ring's: "" not at all). `path`: where it may lie meanwhile."""
    path.write_bytes(clip)
    verdict = verify_clip.verify(path, public_key)
    path.unlink()
    is_whole = hashlib.sha256(clip).hexdigest() == sha256
    try:
        return is_whole, bool(verdict["genuine"]), _difference(clip, data_dir, f"{camera}/main")
    except (NvrError, OSError, KeyError) as error:
        return is_whole, bool(verdict["genuine"]), f"cannot be held against the ring: {error}"


def _difference(clip: bytes, data_dir: Path, stream: str) -> str:
    """What was recycled since it was cut cannot be compared any more; that the ring had it is what the box has signed."""
    with closing(Ring(streams(data_dir)[stream])) as ring:
        rows = {row.record.sequence: row for row in ring.rows()}
        count = 0
        for head, media, record_data in fragments_of(clip):
            count += 1
            sequence = fmp4.parse_commit_record(record_data).sequence
            row = rows.get(sequence)
            if row is None and sequence < min(rows, default=0):
                continue
            if row is None:
                return f"fragment {sequence} is not in the ring"
            original = ring.read(row.position)
            _, own_media, own_record = next(iter(fragments_of(original)))
            if media != own_media or record_data[:-4] != own_record[:-4]:
                return f"fragment {sequence} has other bytes than the ring"
            # Its number and its time in the file are the clip's own (docs/formats/clip.md).
            if fmp4.renumbered(head, 1, 0) != fmp4.renumbered(fmp4_head(original), 1, 0):
                return f"fragment {sequence} has another head than the ring"
    return "" if count else "it holds no fragment"


def fmp4_head(fragment: bytes) -> bytes:
    return bytes(fragment[: fmp4.HEAD_RESERVE_BYTES])


def fragments_of(data: bytes) -> Iterable[tuple[bytes, bytes, bytes]]:
    """(head, media, commit record) of each fragment of a clip, or of one fragment."""
    at = data.find(b"moof") - 4
    while at >= 0 and data[at + 4 : at + 8] == b"moof":
        media_at = at + fmp4.HEAD_RESERVE_BYTES
        size = int.from_bytes(data[media_at - 8 : media_at - 4], "big") - 8
        record_at = media_at + size
        end = record_at + int.from_bytes(data[record_at : record_at + 4], "big")
        yield bytes(data[at:media_at]), bytes(data[media_at:record_at]), bytes(data[record_at:end])
        at = end
