"""The site file that is in force: the box's own copy of what the card brought. Run as the recorder's user before it starts.

Root keeps what the card brought in /data/site, where nobody else writes. The hub may send another file and the page's editor of zones
changes it: both write into the copy, which belongs to the recorder's user. A card with another file than the last one wins.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

GIVEN = Path("/data/site/site.yaml")
IN_FORCE = Path("/data/nvr/site/site.yaml")
TAKEN = "card.yaml"  # beside the copy: what the card had brought when it was made


def take(given: Path = GIVEN, in_force: Path = IN_FORCE) -> bool:
    """True when the copy was made anew. Raises OSError; a power cut at any moment leaves the old copy or the new one."""
    text = given.read_bytes()
    taken = in_force.with_name(TAKEN)
    try:
        if taken.read_bytes() == text and in_force.stat().st_size > 0:
            return False
    except OSError:
        pass
    in_force.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in (in_force, taken):  # in this order: cut between them, it is done once more
        _replace(path, text)
    return True


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
        sys.exit(f"the site file could not be taken: {error}")
