"""Fragments that were durable once and do not read back: the disk has forgotten them.

One small JSON file in a ring's directory, which exists only on disks that do such things. scrub.py writes it; a reader leaves those
fragments out, so that the ledger, the page and clips see a hole with its cause instead of footage that is none. A segment that is
used again forgets its faults with its lap.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from nvr.errors import NvrError
from nvr.ring.disk import write_file

NAME = "forgotten"
MOST = 4000  # fragments of one ring; a disk that forgot more than an hour is known for what it is


class ForgottenDamaged(NvrError):
    """The file is not what we wrote: then nothing is left out, and the next scrub finds the faults again."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """One fragment that does not read back."""

    segment: int
    lap: int
    sequence: int
    what: str  # for people: "the CRC-32C is wrong"


def load(ring_path: Path) -> list[Forgotten]:
    """All of a ring; none when there is no file. Raises ForgottenDamaged, OSError."""
    try:
        text = (ring_path / NAME).read_bytes()
    except FileNotFoundError:
        return []
    try:
        found = [Forgotten(**fields) for fields in json.loads(text)["fragments"]]
        if not all(type(number) is int for each in found for number in (each.segment, each.lap, each.sequence)):
            raise TypeError("numbers must be whole")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ForgottenDamaged(f"{ring_path / NAME}: {error}", hint="Remove it: faults are found again.") from None
    return found


def save(ring_path: Path, known: Iterable[Forgotten]) -> None:
    """Replace the file; the newest faults are kept. Raises OSError."""
    kept = sorted(known, key=lambda each: each.sequence)[-MOST:]
    if not kept:
        (ring_path / NAME).unlink(missing_ok=True)
        return
    write_file(
        ring_path / NAME, json.dumps({"version": 1, "fragments": [asdict(each) for each in kept]}).encode() + b"\n"
    )


def still_true(known: Iterable[Forgotten], laps: Mapping[int, int]) -> list[Forgotten]:
    """Without those whose segment has been used again; `laps` of the segments as they are now."""
    return [each for each in known if laps.get(each.segment) == each.lap]
