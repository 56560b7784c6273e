"""Builds edge.c, and sets what it does while a program runs with it: `env.environment()` for the program, `edge.set(...)` at any time."""

from __future__ import annotations

import errno
import os
import shutil
import struct
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

_FORM, _HELD = struct.Struct("=qqqq"), struct.Struct("=q")


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
        control_path.write_bytes(bytes(_FORM.size + _HELD.size))

    def environment(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self._library), "NVR_EDGE_FILE": str(self._path), "NVR_EDGE_UNDER": f"{self._under}/"}

    def set(self, **fields: int) -> None:
        """`clock_ns`, `sync_ms`, `write_ms`, `error`; the others stay."""
        self.now = replace(self.now, **fields)
        self._write()

    def set_card(self, how: str) -> None:
        """As CARDS has it; "" for a healthy one."""
        card = CARDS.get(how, HEALTHY)
        self.set(sync_ms=card.sync_ms, write_ms=card.write_ms, error=card.error)

    def held(self) -> int:
        """How many writes `write_ms` has held up so far, those included that still wait."""
        (count,) = _HELD.unpack(self._path.read_bytes()[_FORM.size :])
        return int(count)

    def _write(self) -> None:
        # In place, because it is mapped by the programs.
        fd = os.open(self._path, os.O_RDWR)
        try:
            os.pwrite(fd, _FORM.pack(self.now.clock_ns, self.now.sync_ms, self.now.write_ms, self.now.error), 0)
        finally:
            os.close(fd)
