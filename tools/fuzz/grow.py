"""The corpus in the tree: few small inputs, each of which reaches something that no seed and no smaller one reaches.

What is reached are steps from line to line in `nvr/`, as Python's own tracing sees them: the same on every machine and for every version of a fuzzer. What
runs in C is not seen; a fuzzer that is guided by more finds inputs, and here it is decided which of them are worth keeping.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any

from tools.fuzz.targets import ROOT, seeds, try_one

KEPT_BYTES = 4096 + 660  # the largest seed of our own: more is never needed to reach another line
Step = tuple[str, int, int]  # file, line before, line
_OURS = str(ROOT / "nvr")


def steps(call: Callable[[], object]) -> frozenset[Step]:
    """The steps from line to line in our own code while `call` runs; exceptions of it are nobody's business here."""
    found: set[Step] = set()

    def enter(frame: FrameType, what: str, _: object) -> Any:
        name = frame.f_code.co_filename
        if not name.startswith(_OURS):
            return None
        last = 0

        def line(frame: FrameType, what: str, _: object) -> Any:
            nonlocal last
            if what == "line":
                found.add((name, last, frame.f_lineno))
                last = frame.f_lineno
            return line

        return line

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        call()
    except Exception:
        pass
    finally:
        sys.settrace(before)
    return frozenset(found)


def worth_keeping(name: str, candidates: Iterable[bytes], *, least: int = 1) -> list[bytes]:
    """Smallest first, those that take at least `least` steps which neither a seed nor one before them takes."""
    for data in seeds(name):  # twice: what runs only once in a process, tables and caches, is no merit of an input
        steps(lambda data=data: try_one(name, data))  # type: ignore[misc]
    reached = {step for data in seeds(name) for step in steps(lambda data=data: try_one(name, data))}  # type: ignore[misc]
    kept = []
    for data in sorted(set(candidates), key=lambda data: (len(data), data)):
        if len(data) > KEPT_BYTES:
            break
        new = steps(lambda data=data: try_one(name, data)) - reached  # type: ignore[misc]
        if len(new) >= least:
            reached |= new
            kept.append(data)
    return kept


def grow(name: str, candidates: Iterable[bytes], folder: Path) -> tuple[int, int]:
    """Make `folder` the smallest of what it had and `candidates`; (files, bytes). Files with a name that is no hash stay as they are: past faults."""
    folder.mkdir(parents=True, exist_ok=True)
    grown = {path for path in folder.iterdir() if is_grown(path)}
    kept = worth_keeping(name, [*(path.read_bytes() for path in grown), *candidates])
    for path in grown:
        path.unlink()
    for data in kept:
        (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    return len(kept), sum(map(len, kept))


def is_grown(path: Path) -> bool:
    """Named by a hash, as the fuzzer names what it finds; a fault that was mended is named by its story."""
    return len(path.name) == 16 and set(path.name) <= set("0123456789abcdef")
