"""A small image as the image builder makes them, and disks that play good and bad cards.

The disks stand where `tools/nvrctl/device.py` touches the world. The same ones stand behind loop devices in tests marked `root`
(card_of_kernel.py); so do full file systems.
"""

from __future__ import annotations

import errno
import hashlib
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from tools.nvrctl import blockmap

MIB = 1 << 20
IMAGE_BYTES = 48 * MIB
SELECTOR = (1 * MIB, 33 * MIB)  # offset and size: mformat makes no smaller FAT32
ROOT_AT = 34 * MIB
SITE = """\
site: puskesmas-waihaong
time_zone: Asia/Jayapura
box: waihaong-1
hub:
  url: https://hub.example.org   # ours
cameras:
  entrance:
    main: {source: rtsp, url: "rtsp://10.0.0.11/main", user: viewer, password: secret}
    ring_gb: 0.02
"""

needs_tools = pytest.mark.skipif(
    shutil.which("mcopy") is None or shutil.which("sfdisk") is None,
    reason="needs mtools and sfdisk: apt install mtools fdisk",
)


def make_image(
    folder: Path, *, packing: str = "", with_map: bool = True, with_sha256: bool = True, seed: int = 1
) -> Path:
    """A GPT disk: FAT32 `selector` with a folder `site`, then a partition with data, a hole, and data again."""
    raw = folder / "box.img"
    with open(raw, "wb") as file:
        file.truncate(IMAGE_BYTES)
    table = f"label: gpt\nstart={SELECTOR[0] // 512}, size={SELECTOR[1] // 512}, type=uefi, name=selector\nstart={ROOT_AT // 512}, type=linux, name=root-a\n"
    subprocess.run(["sfdisk", "--quiet", str(raw)], input=table, text=True, check=True, capture_output=True)
    environment = {**os.environ, "MTOOLSRC": os.devnull, "MTOOLS_SKIP_CHECK": "1"}
    fat = f"{raw}@@{SELECTOR[0]}"
    subprocess.run(
        ["mformat", "-i", fat, "-F", "-c", "1", "-T", str(SELECTOR[1] // 512), "-v", "SELECTOR", "::"],
        env=environment,
        check=True,
        capture_output=True,
    )
    subprocess.run(["mmd", "-i", fat, "::site"], env=environment, check=True, capture_output=True)
    random_bytes = random.Random(seed).randbytes
    with open(raw, "r+b") as file:
        for offset, size_bytes in ((ROOT_AT, 5 * MIB + 4096), (42 * MIB, 3 * MIB)):
            file.seek(offset)
            file.write(random_bytes(size_bytes))
    data = raw.read_bytes()
    if with_map:
        (folder / "box.img.bmap").write_bytes(blockmap.written(len(data), data_ranges(data)))
    path = raw
    if packing:
        program = {"zstd": ["zstd", "-q", "-3", "--rm"], "xz": ["xz", "-0"]}[packing]
        subprocess.run([*program, str(raw)], check=True)
        path = folder / f"box.img.{'zst' if packing == 'zstd' else 'xz'}"
    if with_sha256:
        (folder / f"{path.name}.sha256").write_text(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n")
    return path


def data_ranges(data: bytes) -> list[tuple[int, bytes]]:
    """Stretches of whole blocks that are not all zeros."""
    found: list[tuple[int, bytes]] = []
    empty = bytes(4096)
    start = None
    for offset in range(0, len(data) + 4096, 4096):
        is_data = data[offset : offset + 4096] not in (empty, b"")
        if is_data and start is None:
            start = offset
        elif not is_data and start is not None:
            found.append((start, data[start:offset]))
            start = None
    return found


class MemoryCard:
    """A good card in memory. `real_bytes` below its size: writes behind that wrap around, as on counterfeit cards."""

    is_file = False

    def __init__(self, size_bytes: int = 64 * MIB, *, name: str = "/dev/card", real_bytes: int | None = None) -> None:
        self.name, self.size_bytes = name, size_bytes
        self.real_bytes = real_bytes or size_bytes
        self.data = bytearray(os.urandom(4096) * (self.real_bytes // 4096))  # somebody used it before
        self.writes: list[tuple[int, int]] = []
        self.closed_whole: bool | None = None

    def write(self, offset: int, view: memoryview) -> None:
        assert offset >= 0 and offset + len(view) <= self.size_bytes
        self.writes.append((offset, len(view)))
        self._store(offset, bytes(view))

    def _store(self, offset: int, data: bytes) -> None:
        while data:
            at = offset % self.real_bytes
            part = data[: self.real_bytes - at]
            self.data[at : at + len(part)] = part
            offset, data = offset + len(part), data[len(part) :]

    def read_into(self, offset: int, view: memoryview) -> None:
        done = 0
        while done < len(view):
            at = (offset + done) % self.real_bytes
            part = self.data[at : min(at + len(view) - done, self.real_bytes)]
            view[done : done + len(part)] = part
            done += len(part)

    def sync(self) -> None:
        pass

    def close(self, *, whole: bool) -> None:
        self.closed_whole = whole

    @property
    def looks_whole(self) -> bool:
        """Whether a computer would see partitions."""
        return self.data[510:512] == b"\x55\xaa" or self.data[512:520] == b"EFI PART"


class LimboCard(MemoryCard):
    """Lies about its size the other way: what is written behind its real end vanishes, and reads as zeros."""

    def _store(self, offset: int, data: bytes) -> None:
        if offset < self.real_bytes:
            self.data[offset : min(offset + len(data), self.real_bytes)] = data[: self.real_bytes - offset]

    def read_into(self, offset: int, view: memoryview) -> None:
        data = bytes(self.data[offset : offset + len(view)])
        view[:] = data + bytes(len(view) - len(data))


class DroppingCard(MemoryCard):
    """Acknowledges every write and keeps `keeps` of them (0: none at all)."""

    def __init__(
        self, size_bytes: int = 64 * MIB, *, name: str = "/dev/card", keeps: float = 0.0, seed: int = 7
    ) -> None:
        super().__init__(size_bytes, name=name)
        self._random, self._keeps = random.Random(seed), keeps

    def _store(self, offset: int, data: bytes) -> None:
        if self._random.random() < self._keeps:
            super()._store(offset, data)


class PulledCard(MemoryCard):
    """Pulled out after so many writes, or while it is read back."""

    def __init__(
        self,
        size_bytes: int = 64 * MIB,
        *,
        name: str = "/dev/card",
        after_writes: int = 10**9,
        after_reads: int = 10**9,
        error: int = errno.ENODEV,
    ) -> None:
        super().__init__(size_bytes, name=name)
        self._left_writes, self._left_reads, self._error = after_writes, after_reads, error

    def write(self, offset: int, view: memoryview) -> None:
        self._left_writes -= 1
        if self._left_writes < 0:
            raise OSError(self._error, os.strerror(self._error))
        super().write(offset, view)

    def read_into(self, offset: int, view: memoryview) -> None:
        self._left_reads -= 1
        if self._left_reads < 0:
            raise OSError(self._error, os.strerror(self._error))
        super().read_into(offset, view)
