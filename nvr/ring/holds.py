"""Spans that must not be recycled: evidence, and clips that are not safe elsewhere yet.

One small JSON file, DATA/holds.json, replaced as a whole by whoever changes it; the syncer of `record` reads it again
when it has changed. It carries a CRC-32C, and there is a copy beside it, DATA/holds.copy.json: evidence must not be recycled because a
bit flipped. Where holds.json cannot be read the copy counts, and the next change writes both anew. A hold names wall time; where footage lies whose clock was wrong, it also names the
sequence numbers (the timeline knows them), and what either of the two covers is kept.
"""

from __future__ import annotations

import fcntl
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from nvr.crc import crc32c
from nvr.errors import NvrError
from nvr.ring.disk import failed, write_file
from nvr.ring.layout import SegmentState

log = logging.getLogger(__name__)

HOLDS_NAME = "holds.json"


class HoldsDamaged(NvrError):
    """DATA/holds.json is not what we wrote, and neither is its copy. What was held when it was last readable stays held until the next start."""


class NoSuchHold(NvrError):
    """No hold has that id."""


@dataclass(frozen=True, slots=True)
class Hold:
    """One held span of one stream."""

    id: str
    stream: str
    from_ns: int  # wall time
    to_ns: int
    reason: str  # for people
    from_sequence: int = 0  # 0: by wall time only
    to_sequence: int = 0  # the last one

    def covers(self, segment: SegmentState) -> bool:
        """Whether any fragment of `segment` may lie in the held span."""
        if not segment.fragments:
            return False
        if (
            self.to_sequence
            and self.from_sequence <= segment.last_sequence
            and segment.first_sequence <= self.to_sequence
        ):
            return True
        return bool(segment.wall_to_ns) and segment.wall_from_ns < self.to_ns and self.from_ns < segment.wall_to_ns


def load(path: Path) -> list[Hold]:
    """All holds; none when there is no file. Raises HoldsDamaged, or DiskFailed."""
    try:
        return _load(path)
    except HoldsDamaged as damaged:
        copy = copy_of(path)
        if not copy.exists():
            raise
        found = _load(copy)
        log.warning("%s; its copy counts", damaged)
        return found


def _is_damaged(path: Path) -> bool:
    try:
        _load(path)
    except HoldsDamaged:
        return True
    return False


def copy_of(path: Path) -> Path:
    return path.with_name(f"{path.stem}.copy{path.suffix}")


def _crc(holds: object) -> int:
    return int(crc32c(json.dumps(holds, sort_keys=True, separators=(",", ":")).encode()))


def _load(path: Path) -> list[Hold]:
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise failed(error, f"reading {path}") from error
    try:
        found = json.loads(text)
        if found.get("crc32c", _crc(found["holds"])) != _crc(found["holds"]):  # one made by hand has none
            raise ValueError("its checksum is wrong")
        holds = [Hold(**fields) for fields in found["holds"]]
        for hold in holds:
            if not (isinstance(hold.id, str) and isinstance(hold.stream, str) and isinstance(hold.reason, str)):
                raise TypeError("id, stream and reason must be text")
            for number in (hold.from_ns, hold.to_ns, hold.from_sequence, hold.to_sequence):
                if type(number) is not int:
                    raise TypeError("times and sequences must be whole numbers")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise HoldsDamaged(
            f"{path}: {error}", hint="Put it back from a copy, or remove it: then nothing is held."
        ) from None
    return holds


def save(path: Path, holds: Iterable[Hold]) -> None:
    """Replace the file and its copy. Raises DiskFailed."""
    fields = [asdict(hold) for hold in holds]
    text = json.dumps({"version": 1, "crc32c": _crc(fields), "holds": fields}, indent=1)
    try:
        for each in (path, copy_of(path)):
            write_file(each, text.encode() + b"\n")
    except OSError as error:
        raise failed(error, f"writing {path}") from error


def add(path: Path, hold: Hold) -> None:
    """Add a hold, or replace the one with its id."""
    with _locked(path):
        save(path, [*(other for other in load(path) if other.id != hold.id), hold])


def release(path: Path, id: str) -> Hold:
    """Take a hold away and return it. Raises NoSuchHold."""
    with _locked(path):
        holds = load(path)
        for hold in holds:
            if hold.id == id:
                save(path, [other for other in holds if other.id != id])
                return hold
    raise NoSuchHold(f"there is no hold {id!r}", hint=f"There are: {', '.join(hold.id for hold in holds) or 'none'}.")


def put(path: Path, prefix: str, holds: Sequence[Hold]) -> None:
    """Replace all holds whose id starts with `prefix` by these, behind everybody else's. Writes nothing when nothing changes."""
    with _locked(path):
        before = load(path)
        after = [*(hold for hold in before if not hold.id.startswith(prefix)), *holds]
        if after != before or _is_damaged(path):
            save(path, after)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Two commands must not lose each other's hold. Readers need no lock: the file is replaced as a whole."""
    try:
        lock = open(path.with_name(f".{path.name}.lock"), "w")
    except OSError as error:
        raise failed(error, f"changing {path}") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def held_segments(
    segments: Sequence[SegmentState], holds: Iterable[Hold], budget_segments: int
) -> tuple[set[int], set[int]]:
    """(numbers that are kept, numbers that are held but over the budget); holds are served in their order."""
    kept: set[int] = set()
    refused: set[int] = set()
    for hold in holds:
        for segment in sorted(segments, key=lambda segment: segment.first_sequence):
            if segment.number in kept or not hold.covers(segment):
                continue
            if len(kept) < budget_segments:
                kept.add(segment.number)
            else:
                refused.add(segment.number)
    return kept, refused - kept
