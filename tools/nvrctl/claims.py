"""Which boxes get their card written at this moment: a lock for each, in the folder of the records.

cards/.BOX.lock     held as long as a card for the box is prepared and written
cards/.lock         held for the moment in which a record changes, and the list of codes with it

A lock is the kernel's (flock): it ends with the process that holds it, however that ends, so a writing that was broken off keeps no
box. The empty files stay: to remove one that somebody waits for would give one box to two.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self


class Claims:
    """The boxes that are ours to write; close() or the end of a `with` gives all of them back."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fds: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for box in list(self._fds):
            self.let_go(box)

    def take(self, box: str) -> bool:
        """Whether the box is ours now; False while anybody has it, this process included. Raises OSError."""
        fd = _opened(self._folder / f".{box}.lock")
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        except BaseException:
            os.close(fd)
            raise
        self._fds[box] = fd
        return True

    def let_go(self, box: str) -> None:
        os.close(self._fds.pop(box))


@contextlib.contextmanager
def changing(folder: Path) -> Iterator[None]:
    """Nobody else changes the records meanwhile. Raises OSError."""
    fd = _opened(folder / ".lock")
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _opened(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
