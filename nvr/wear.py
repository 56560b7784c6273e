"""How much was written to the recording disk, and until when a card bears that.

Cards say nothing of themselves (SD has no SMART; eMMC has two registers), so the kernel's count of written sectors is added up over all boots,
and a forecast is made from it with assumptions that it names: nobody should believe a date without them.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from nvr.ring.disk import write_file

SECTOR_BYTES = 512  # what /sys/block/*/stat and size count in, whatever the disk's own sectors are
SYS = Path("/sys")
NAME = "wear.json"

# Program and erase cycles of a consumer card's TLC flash; makers give 500 to 3,000 and seldom in writing. Endurance cards bear several times more.
CYCLES = 1000
# Bytes the flash writes for each byte we write. Rings are written in order and in whole segments, so little is moved about; 2 is cautious.
WRITE_AMPLIFICATION = 2.0
MIN_OBSERVED_S = 3600.0  # before that a rate says little: the first hour writes what later hours only write over


@dataclass(frozen=True, slots=True)
class Disk:
    """One whole disk as the kernel shows it."""

    name: str  # "mmcblk0"
    identity: str  # changes when another disk is put in
    size_bytes: int
    written_bytes: int  # since the kernel saw it
    life_used_percent: (
        int | None
    )  # eMMC's own estimate (JESD84-B51, DEVICE_LIFE_TIME_EST_TYP_A and _B), the worse of both


@dataclass(frozen=True, slots=True)
class Wear:
    """What was written to one disk, kept over boots."""

    identity: str
    written_bytes: int = 0  # in all
    observed_s: float = 0.0  # over so long
    boot_id: str = ""
    boot_written_bytes: int = 0  # the kernel's count when it was last looked at
    boot_mono_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Forecast:
    written_bytes: int
    bytes_per_day: int | None  # None: not observed for long enough
    life_left_percent: float
    days_left: float | None
    is_from_disk: bool  # the disk's own estimate, not ours
    cycles: int = CYCLES
    write_amplification: float = WRITE_AMPLIFICATION

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def disk_of(path: Path, sys: Path = SYS) -> Disk | None:
    """The disk that `path` lies on; None where there is none of its own (tmpfs, overlays, network)."""
    try:
        device = os.stat(path).st_dev
        folder = (sys / "dev" / "block" / f"{os.major(device)}:{os.minor(device)}").resolve(strict=True)
        if (folder / "partition").exists():
            folder = folder.parent
        fields = (folder / "stat").read_text().split()
        size_bytes = int((folder / "size").read_text()) * SECTOR_BYTES
        written_bytes = int(fields[6]) * SECTOR_BYTES
    except (OSError, ValueError, IndexError):
        return None
    identity = next(
        (
            text
            for name in ("device/cid", "device/serial", "device/wwid", "wwid", "serial")
            if (text := _text(folder / name))
        ),
        "",
    )
    return Disk(folder.name, identity or f"{folder.name} {size_bytes}", size_bytes, written_bytes, _life_used(folder))


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _life_used(folder: Path) -> int | None:
    """0x01 means up to 10 % used, 0x0b beyond what it was made for."""
    try:
        used = max(int(text, 16) for text in _text(folder / "device" / "life_time").split())
    except ValueError:
        return None
    return used * 10 if 1 <= used <= 11 else None


def looked(wear: Wear | None, disk: Disk, boot_id: str, mono_s: float) -> Wear:
    """`wear` with what was written since the last look; a new account for another disk."""
    if wear is None or wear.identity != disk.identity:
        return Wear(disk.identity, 0, 0.0, boot_id, disk.written_bytes, mono_s)
    if wear.boot_id == boot_id and disk.written_bytes >= wear.boot_written_bytes and mono_s >= wear.boot_mono_s:
        written, seconds = disk.written_bytes - wear.boot_written_bytes, mono_s - wear.boot_mono_s
    else:  # another boot, or the disk was taken out and put in: the kernel counts from its beginning
        written, seconds = disk.written_bytes, mono_s if wear.boot_id != boot_id else 0.0
    return replace(
        wear, written_bytes=wear.written_bytes + written, observed_s=wear.observed_s + seconds, boot_id=boot_id,
        boot_written_bytes=disk.written_bytes, boot_mono_s=mono_s,
    )  # fmt: skip


def forecast(
    wear: Wear, disk: Disk, *, cycles: int = CYCLES, write_amplification: float = WRITE_AMPLIFICATION
) -> Forecast:
    """From what was written: the disk bears size * cycles / write_amplification bytes of ours. From its own registers where it has them."""
    bears_bytes = disk.size_bytes * cycles / write_amplification
    left_percent = max(0.0, 100.0 * (1 - wear.written_bytes / bears_bytes)) if bears_bytes else 0.0
    is_from_disk = disk.life_used_percent is not None
    if disk.life_used_percent is not None:
        left_percent = max(0.0, 100.0 - disk.life_used_percent)
    per_day = round(wear.written_bytes * 86_400 / wear.observed_s) if wear.observed_s >= MIN_OBSERVED_S else None
    days_left = bears_bytes * left_percent / 100 / per_day if per_day else None
    return Forecast(
        wear.written_bytes, per_day, round(left_percent, 1), None if days_left is None else round(days_left, 1), is_from_disk,
        cycles, write_amplification,
    )  # fmt: skip


def load(data_dir: Path) -> Wear | None:
    """None where there is none, or none that can be read: counting begins anew."""
    try:
        fields = json.loads((data_dir / NAME).read_bytes())
        wear = Wear(**fields)
        if not isinstance(wear.identity, str) or not isinstance(wear.boot_id, str):
            return None
        numbers = (wear.written_bytes, wear.observed_s, wear.boot_written_bytes, wear.boot_mono_s)
        return wear if all(isinstance(number, int | float) and number >= 0 for number in numbers) else None
    except (OSError, ValueError, TypeError):
        return None


def save(data_dir: Path, wear: Wear) -> None:
    """Raises OSError."""
    write_file(data_dir / NAME, json.dumps(asdict(wear)).encode() + b"\n")
