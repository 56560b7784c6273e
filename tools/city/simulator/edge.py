"""Builds edge.c, and sets what it does while a program runs with it: `env.environment()` for the program, `edge.set(...)` at any time."""

from __future__ import annotations

import errno
import os
import shutil
import struct
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

_FORM, _COUNTS = struct.Struct("=qqqqqq"), struct.Struct("=qq")


class NoCompiler(Exception):
    """There is no C compiler here."""


def library(folder: Path) -> Path:
    """Built into `folder`. Raises NoCompiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise NoCompiler("needs a C compiler for its clocks and disks: apt install gcc")
    path = folder / "edge.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", path, Path(__file__).with_name("edge.c"), "-ldl"], check=True
    )
    return path


@dataclass(frozen=True, slots=True)
class Setting:
    clock_ns: int = 0
    sync_ms: int = 0
    write_ms: int = 0
    error: int = 0  # errno.ENOSPC, EIO, EROFS
    first: int = 0  # of the calls that could meet it, from 0, this one does ...
    end: int = 0  # ... and those after it, up to before this one; 0: all of them


HEALTHY = Setting()
CARDS = {
    "full": Setting(error=errno.ENOSPC), "errors": Setting(error=errno.EIO), "read-only": Setting(error=errno.EROFS),
    "slow": Setting(sync_ms=5000), "stuck": Setting(write_ms=5000),
}  # fmt: skip


class Edge:
    """Of one box: what is set holds for all its processes, at once."""

    def __init__(self, library_path: Path, control_path: Path, under: Path) -> None:
        self._library, self._path, self._under = library_path, control_path, under
        self.now = HEALTHY
        if not control_path.exists():  # a program that has it mapped may set it itself: never shorten it
            control_path.write_bytes(bytes(_FORM.size + _COUNTS.size))

    def environment(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self._library), "NVR_EDGE_FILE": str(self._path), "NVR_EDGE_UNDER": f"{self._under}/"}

    def set(self, **fields: int) -> None:
        """Any field of Setting; the others stay."""
        self.now = replace(self.now, **fields)
        now = self.now
        self._put(0, _FORM.pack(now.clock_ns, now.sync_ms, now.write_ms, now.error, now.first, now.end))

    def set_card(self, how: str) -> None:
        """As CARDS has it; "" for a healthy one."""
        card = CARDS.get(how, HEALTHY)
        self.set(sync_ms=card.sync_ms, write_ms=card.write_ms, error=card.error, first=0, end=0)

    def held(self) -> int:
        """How many writes `write_ms` has held up so far, those included that still wait."""
        return int(_COUNTS.unpack(self._path.read_bytes()[_FORM.size :])[0])

    def calls(self) -> int:
        """How many calls could have met an error since fail_some()."""
        return int(_COUNTS.unpack(self._path.read_bytes()[_FORM.size :])[1])

    def fail_some(self, error: int, first: int, times: int) -> None:
        """From now on `times` calls that could meet an error do, from number `first` on; they are counted anew."""
        self._put(_FORM.size, _COUNTS.pack(self.held(), 0))
        self.set(error=error, first=first, end=first + times)

    def _put(self, at: int, data: bytes) -> None:
        # In place, because it is mapped by the programs.
        fd = os.open(self._path, os.O_RDWR)
        try:
            os.pwrite(fd, data, at)
        finally:
            os.close(fd)
