"""Steps, each made once for the same inputs and then taken from the cache folder.

The name under which a step is kept is a hash of the step's own code and everything it was given: values, files and folders of
the repository by their content, earlier steps by their own hash. So what changed is made again, and nothing else. A folder
that stands in the cache is whole: it is made beside its place and renamed. Of each step those that were used last stay (KEPT): a cache
that nobody clears grew by 1.3 GB with each change of our code, until the disk of the machine that built was full.
"""

from __future__ import annotations

import ast
import fcntl
import functools
import hashlib
import inspect
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KEY_DIGITS = 16
KEPT = 24  # of each step, 1.3 GB for a whole image: more than several builds at once have in hand


@dataclass(frozen=True, slots=True)
class Made:
    """A finished step: where it is, and the hash that stands for it in the inputs of others."""

    name: str
    path: Path
    key: str


@dataclass(frozen=True, slots=True)
class Took:
    """A line of the build report."""

    name: str
    seconds: float  # when it was made, not when it was taken from the cache
    was_cached: bool


@dataclass
class Kitchen:
    """Makes steps; `folder` is the cache and may be moved. `tell` gets a line for each step."""

    folder: Path
    tell: Callable[[str], None] = print
    took: list[Took] = field(default_factory=list)

    def make(
        self, name: str, maker: Callable[..., None], *, context: dict[str, Any] | None = None, **inputs: Any
    ) -> Made:
        """What `maker(into, **context, **inputs)` puts into the folder `into`; from the cache if it was made before.

        `context` is how it is made (a toolbox, a mirror) and must not change what comes out.
        """
        key = key_of(name, maker, inputs)
        place = self.folder / name / key
        place.parent.mkdir(parents=True, exist_ok=True)
        with _alone(place.with_suffix(".lock")):
            if place.is_dir():
                os.utime(place)
                seconds = json.loads((place / "made.json").read_text())["seconds"]
                self.took.append(Took(name, seconds, True))
                self.tell(f"{name:<12} {'cached':>9}")
                return Made(name, place, key)
            self.tell(f"{name:<12} ...")
            draft = place.with_suffix(".new")
            if draft.exists():
                shutil.rmtree(draft)
            draft.mkdir()
            started = time.monotonic()
            maker(draft, **(context or {}), **inputs)
            seconds = time.monotonic() - started
            (draft / "made.json").write_text(json.dumps({"step": name, "seconds": round(seconds, 1)}) + "\n")
            draft.rename(place)
            os.utime(place)
        for old in outdated(self.folder / name):
            shutil.rmtree(old, ignore_errors=True)
        self.took.append(Took(name, seconds, False))
        self.tell(f"{name:<12} {seconds:7.1f} s")
        return Made(name, place, key)


def outdated(folder: Path) -> list[Path]:
    """What of a step's folder goes: all but those that were used last."""
    used = sorted((path.stat().st_mtime, path) for path in folder.iterdir() if path.is_dir() and not path.suffix)
    return [path for _, path in used[: max(0, len(used) - KEPT)]]


def key_of(name: str, maker: Callable[..., None], inputs: dict[str, Any]) -> str:
    """The hash of a step: the code of its file and its inputs."""
    code = inspect.getsourcefile(maker)
    assert code is not None
    parts = [
        name,
        _code_of(code),
        *(f"{key}={_shown(value)}" for key, value in sorted(inputs.items())),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:KEY_DIGITS]


@functools.cache
def _code_of(path: str) -> str:
    """The syntax tree: comments and layout change nothing. Read once, as Python reads it: what is edited meanwhile is not what runs."""
    return ast.dump(ast.parse(Path(path).read_text("utf-8")))


def _shown(value: Any) -> str:
    if isinstance(value, Made):
        return f"step {value.name} {value.key}"
    if isinstance(value, Path):
        return f"files {content_hash(value)}"
    if isinstance(value, tuple):
        return f"({','.join(map(_shown, value))})"
    assert (
        value is None or isinstance(value, (str, int, float, bool, bytes)) or hasattr(value, "__dataclass_fields__")
    ), value
    return repr(value)


def content_hash(path: Path) -> str:
    """Of a file, or of a folder's files with their names and whether they can be run; what Python left behind is passed over."""
    digest = hashlib.sha256()
    for file in files_under(path):
        digest.update(f"{file.relative_to(path)}\0{os.access(file, os.X_OK)}\0{file.stat().st_size}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def files_under(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    for folder, below, names in os.walk(path):
        below[:] = sorted(name for name in below if name not in ("__pycache__", "node_modules"))
        for name in sorted(names):
            if not name.endswith((".pyc", ".so")):
                yield Path(folder, name)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Two builds at once wait for each other, step by step."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
