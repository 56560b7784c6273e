"""The site file that is in force: the box's own copy of what the card brought. Run as the recorder's user before it starts.

Whatever is wrong with one of the two, recording starts with the other; with none of them, `nvr run` has the last one that recorded (nvr/site_kept.py).

Root keeps what the card brought in /data/site, where nobody else writes. The hub may send another file and the page's editor of zones
changes it: both write into the copy, which belongs to the recorder's user. A card with another file than the last one wins.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from nvr.site import check_text

GIVEN = Path("/data/site/site.yaml")
IN_FORCE = Path("/data/nvr/site/site.yaml")
TAKEN = "card.yaml"  # beside the copy: what the card had brought when it was made


def take(given: Path = GIVEN, in_force: Path = IN_FORCE) -> bool:
    """True when the copy was made anew. Raises OSError where there is no copy; a power cut at any moment leaves the old copy or the new one."""
    try:
        text = given.read_bytes()
    except OSError as error:
        if in_force.exists():
            print(f"<3>{given} cannot be read ({error.strerror}); the site file in force stays so")
            return False
        raise
    taken = in_force.with_name(TAKEN)
    try:
        if taken.read_bytes() == text and in_force.stat().st_size > 0:
            return False
    except OSError:
        pass
    if (fault := first_fault(text, given)) and not first_fault(_bytes(in_force), in_force):
        # It was good when firstboot.py put it there: the disk did not keep it.
        print(f"<3>{given} is damaged and not taken ({fault}); the site file in force stays so")
        return False
    in_force.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in (in_force, taken):  # in this order: cut between them, it is done once more
        _replace(path, text)
    return True


def first_fault(text: bytes, path: Path) -> str:
    """What is wrong with a site file, in words; "" when nothing is."""
    faults = check_text(text, path).faults
    return f"line {faults[0].line}: {faults[0].what}" if faults else ""


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _replace(path: Path, text: bytes) -> None:
    draft = path.with_name(f".{path.name}.new")
    with open(draft, "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder_fd = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder_fd)
    finally:
        os.close(folder_fd)


if __name__ == "__main__":
    try:
        if take():
            print("the card's site file is in force")
    except OSError as error:
        # Not the end: `nvr run` says what is wrong, and may have kept one that recorded.
        print(f"<3>the site file could not be taken: {error}", file=sys.stderr)
