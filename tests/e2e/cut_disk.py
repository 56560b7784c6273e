"""What a real program wrote, call by call, and the disks that a power cut could have left at any moment of it.

The program runs with tests/e2e/write_log.c loaded; its log is played into a MemoryDisk (fakes.py), which knows the fates of pages that were not
synced. A disk is then laid out in a directory, for the program's own recovery to open.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fakes import MemoryDisk, MemoryFile, PageFate

ROOT = Path(__file__).parents[2]
_ENTRY = struct.Struct("=cH")
_REST = struct.Struct("=QI")


@dataclass(frozen=True)
class Entry:
    kind: str  # w write, t truncate, s sync, u unlink, r rename, d directory sync
    path: str
    offset: int
    data: bytes


def shim(folder: Path) -> Path:
    """The library that logs; skips where there is no compiler."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler to log writes: apt install gcc")
    library = folder / "write_log.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-O1", "-o", library, Path(__file__).with_name("write_log.c"), "-ldl", "-lpthread"],
        check=True,
    )
    return library


def logged(code: str, under: Path, folder: Path, *arguments: object) -> list[Entry]:
    """Run Python code with what it writes below `under` logged. Raises CalledProcessError."""
    log = folder / "writes.log"
    log.unlink(missing_ok=True)
    environment = {
        **os.environ, "LD_PRELOAD": str(shim(folder)), "NVR_LOG_FILE": str(log), "NVR_LOG_UNDER": str(under),
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
    }  # fmt: skip
    subprocess.run(
        [sys.executable, "-c", code, str(under), *map(str, arguments)], check=True, env=environment, cwd=ROOT
    )
    return list(entries(log.read_bytes()))


def entries(log: bytes) -> Iterator[Entry]:
    at = 0
    while at < len(log):
        kind, length = _ENTRY.unpack_from(log, at)
        at += _ENTRY.size
        path = log[at : at + length].decode()
        at += length
        offset, size = _REST.unpack_from(log, at)
        at += _REST.size
        yield Entry(kind.decode(), path, offset, log[at : at + size])
        at += size


def play(disk: MemoryDisk, entry: Entry) -> None:
    """One more call on the simulated disk."""
    if entry.kind == "d":
        for path, file in disk.files.items():
            if os.path.dirname(path) == entry.path:
                file.is_named = True
        disk.removed = {path: file for path, file in disk.removed.items() if os.path.dirname(path) != entry.path}
        return
    if entry.kind == "u":
        if entry.path in disk.files:
            disk.removed[entry.path] = disk.files.pop(entry.path)
        return
    if entry.kind == "r":
        target = entry.data.decode()
        if target in disk.files:
            disk.removed[target] = disk.files[target]
        if entry.path in disk.files:
            disk.files[target] = disk.files.pop(entry.path)
        return
    file = disk.files.setdefault(entry.path, MemoryFile())
    if entry.kind == "w":
        file.write(entry.data, entry.offset)
    elif entry.kind == "t":
        # A journalling file system keeps sizes in order: what is cut off is gone, and what is grown is zeros.
        del file.data[entry.offset :]
        file.data.extend(bytes(entry.offset - len(file.data)))
        file.pending = [(at, data[: max(0, entry.offset - at)]) for at, data in file.pending if at < entry.offset]
    elif entry.kind == "s":
        file.sync()


def lay_out(disk: MemoryDisk, fate: PageFate, *, names_kept: bool, under: Path, to: Path) -> None:
    """The disk that is found after the power went now, as real files in `to`; shared memory of processes is gone."""
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(parents=True)
    for path, file in disk.cut(fate, names_kept=names_kept).files.items():
        if path.endswith("-shm"):
            continue
        target = to / os.path.relpath(path, under)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.data)
