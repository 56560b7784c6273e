"""Whether the rings of a site fit the disk they are to lie on, with the numbers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from nvr.errors import NvrError
from nvr.ring.layout import disk_bytes
from nvr.site_settings import Site

GB = 1_000_000_000


class BudgetTooLarge(NvrError):
    """The rings do not fit the disk."""


class DiskAbsent(NvrError):
    """The data directory cannot be looked at: not there, not a folder, or not allowed."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a site wants of its disk, and what there is; all in bytes."""

    rings: int  # with their indexes
    hold: int
    reserve: int
    free: int  # for the user that asks, now
    occupied: int  # by rings of this site already: their segments are reused
    orphans: tuple[tuple[str, int], ...]  # rings on the disk that the site file does not name (any more)

    @property
    def wanted(self) -> int:
        return self.rings + self.hold + self.reserve

    @property
    def available(self) -> int:
        return self.free + self.occupied

    @property
    def fits(self) -> bool:
        return self.wanted <= self.available


def budget(site: Site, data_dir: Path) -> Budget:
    """Raises DiskAbsent."""
    streams = site.recorded_streams()
    occupied, orphans = 0, []
    try:
        disk = os.statvfs(_existing(data_dir))
        for name, size_bytes in _rings_on(data_dir):
            if name in {stream.name for stream in streams}:
                occupied += size_bytes
            else:
                orphans.append((name, size_bytes))
    except OSError as error:
        raise DiskAbsent(
            f"cannot look at the data directory {data_dir}: {error.strerror}",
            hint="Mount the disk, or give another place with --data.",
        ) from error
    return Budget(
        rings=sum(disk_bytes(stream.ring_bytes) for stream in streams),
        hold=sum(stream.hold_bytes for stream in streams),
        reserve=site.storage.reserve_bytes,
        free=disk.f_bavail * disk.f_frsize,
        occupied=occupied,
        orphans=tuple(orphans),
    )


def check_budgets(site: Site, data_dir: Path) -> Budget:
    """The budget, when it fits. Raises BudgetTooLarge with the numbers, or DiskAbsent."""
    found = budget(site, data_dir)
    if found.fits:
        return found
    rings = ", ".join(f"{stream.name} {_gb(stream.ring_bytes)}" for stream in site.recorded_streams())
    orphans = ", ".join(f"{name} {_gb(size_bytes)}" for name, size_bytes in found.orphans)
    raise BudgetTooLarge(
        f"the rings do not fit the disk of {data_dir}: {_gb(found.wanted)} GB are wanted, {_gb(found.available)} GB are there\n"
        f"  wanted: rings {_gb(found.rings)} ({rings}), held footage {_gb(found.hold)}, reserve {_gb(found.reserve)} GB\n"
        f"  there: free {_gb(found.free)}, in rings already {_gb(found.occupied)} GB",
        hint=f"Take {_gb(found.wanted - found.available)} GB off the budgets (ring_gb, hold_gb, storage.reserve_gb), or use a larger disk."
        + (f" Rings that this site file does not name hold {orphans} GB; delete them if nobody needs them." if orphans else ""),
    )  # fmt: skip


def _gb(size_bytes: int) -> str:
    return f"{size_bytes / GB:.2f}".rstrip("0").rstrip(".")


def _existing(path: Path) -> Path:
    """The nearest folder above `path` that is there: the disk it will be made on. A file in the way is an OSError."""
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    if not path.is_dir():
        raise NotADirectoryError(20, f"{path} is not a folder")
    return path


def _rings_on(data_dir: Path) -> list[tuple[str, int]]:
    """(stream, bytes allocated) of every ring on the disk."""
    rings_dir = data_dir / "rings"
    if not rings_dir.is_dir():
        return []
    found = []
    for ring in sorted(rings_dir.glob("*/*")):
        if ring.is_dir() and not ring.is_symlink():
            size_bytes = sum(file.stat().st_blocks * 512 for file in ring.iterdir() if file.is_file())
            found.append((f"{ring.parent.name}/{ring.name}", size_bytes))
    return found
