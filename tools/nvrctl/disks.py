"""The disks of this machine, and which of them may become a card. Deciding is pure; `lsblk` alone is asked about the world.

Refused whatever anybody says: the disk this machine runs from (root, home, boot, swap, or anything they lie on, through LVM, LUKS
or RAID), disks that are in use, read-only, too small. Refused unless spelled out: a disk that is not removable, or larger than any card.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nvr.errors import NvrError

SYSTEM_PLACES = ("/", "/boot", "/efi", "/home", "/usr", "/var", "/opt", "/srv", "/root", "/nix", "/etc")
LARGEST_CARD_BYTES = 2 << 40  # SDXC ends there
_COLUMNS = "PATH,SIZE,RM,RO,HOTPLUG,TRAN,VENDOR,MODEL,SERIAL,TYPE,MOUNTPOINTS,FSTYPE,LABEL,PARTLABEL"


class CardRefused(NvrError):
    """A device may not be written."""


class DisksUnknown(NvrError):
    """lsblk did not answer."""


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """A whole disk as lsblk and sysfs tell of it."""

    path: str
    size_bytes: int
    model: str  # maker and model, "" when unknown
    serial: str
    transport: str  # usb, mmc, nvme, ata, loop ...
    is_removable: bool
    is_read_only: bool
    mounts: tuple[str, ...]  # of it and of all that lies on it; [SWAP] is one
    contents: tuple[str, ...]  # "vfat boot", "ext4", a line for each part
    users: tuple[str, ...] = ()  # types of what is built on it: lvm, crypt, raid1
    is_whole: bool = True  # a disk, not a partition

    @property
    def system_mounts(self) -> tuple[str, ...]:
        return tuple(
            each for each in self.mounts
            if each == "[SWAP]" or each in SYSTEM_PLACES or each.startswith(tuple(f"{place}/" for place in SYSTEM_PLACES if place not in ("/", "/root", "/srv", "/opt", "/home")))
        )  # fmt: skip

    def contents_text(self) -> str:
        return ", ".join(self.contents) or "empty"


def refusal(disk: DiskFacts, needed_bytes: int, *, even_if_not_removable: bool = False) -> CardRefused | None:
    """Why this disk may not be written, or None."""
    if not disk.is_whole:
        return CardRefused(
            f"{disk.path} is a part of a disk", hint="Give the whole disk: an image brings its own partition table."
        )
    if disk.system_mounts:
        return CardRefused(
            f"{disk.path} is a disk this machine runs from: {', '.join(disk.system_mounts)} {'lie' if len(disk.system_mounts) > 1 else 'lies'} on it",
            hint="nvrctl card ls shows which disks are cards.",
        )
    if disk.mounts:
        return CardRefused(
            f"{disk.path} is in use, mounted at {', '.join(disk.mounts)}",
            hint=f"Look whether it is the card you mean; then: umount {' '.join(disk.mounts)}",
        )
    if disk.users:
        return CardRefused(
            f"{disk.path} is a part of something larger: {', '.join(disk.users)}",
            hint="It is no card, or was one of a RAID or LVM: take that apart first.",
        )
    if disk.is_read_only:
        return CardRefused(f"{disk.path} is read-only", hint="Slide the lock at the card's side up.")
    if disk.size_bytes == 0:
        return CardRefused(f"{disk.path} holds no card", hint="Put one into the reader.")
    if disk.size_bytes < needed_bytes:
        return CardRefused(
            f"{disk.path} holds {disk.size_bytes / 1e9:.2f} GB, the image needs {needed_bytes / 1e9:.2f} GB",
            hint="Use a larger card.",
        )
    if not even_if_not_removable:
        what = ""
        if not disk.is_removable:
            what = "is not removable: most likely a built-in disk"
        elif disk.size_bytes > LARGEST_CARD_BYTES:
            what = f"has {disk.size_bytes / 1e12:.1f} TB: no card does"
        if what:
            return CardRefused(
                f"{disk.path} {what} ({disk.model or disk.transport or 'unknown model'}, {disk.size_bytes / 1e9:.1f} GB)",
                hint="If you are certain: --even-if-not-removable.",
            )
    return None


# -- asking --------------------------------------------------------------------------------------------


def all_disks() -> list[DiskFacts]:
    """Every whole disk. Raises DisksUnknown."""
    return [
        facts_of(node)
        for node in _lsblk([])
        if node.get("type") in ("disk", "loop", "mpath") or str(node.get("type", "")).startswith("raid")
    ]


def disk_at(path: str) -> DiskFacts:
    """The disk at `path`, which may be a link. Raises CardRefused when it is none, DisksUnknown."""
    real = os.path.realpath(path)
    try:
        mode = os.stat(real).st_mode
    except OSError as error:
        raise CardRefused(f"{path}: {error.strerror}", hint="nvrctl card ls shows which disks are cards.") from error
    if not stat.S_ISBLK(mode):
        raise CardRefused(f"{path} is no disk", hint="nvrctl card ls shows which disks are cards.")
    nodes = _lsblk([real])
    if not nodes:
        raise DisksUnknown(f"lsblk tells nothing of {path}", hint="Is it a disk? lsblk lists them.")
    return facts_of(nodes[0])


def _lsblk(paths: Sequence[str]) -> list[dict[str, Any]]:
    command = ["lsblk", "--json", "--bytes", "--output", _COLUMNS, *paths]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=30, check=False, env={**os.environ, "LC_ALL": "C.UTF-8"}
        )
        return list(json.loads(done.stdout)["blockdevices"]) if done.stdout.strip() else []
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError) as error:
        raise DisksUnknown(
            f"lsblk does not answer: {error}",
            hint="lsblk comes with util-linux; an unreadable disk may keep it waiting.",
        ) from error


def facts_of(node: dict[str, Any]) -> DiskFacts:
    """One entry of lsblk's answer."""
    path = str(node.get("path") or "")
    below = list(_below(node))
    mounts = dict.fromkeys(
        str(place)
        for each in (node, *below)
        for place in (each.get("mountpoints") or [each.get("mountpoint")])
        if place
    )
    parts = [each for each in (node, *below) if each.get("fstype") or each.get("type") == "part"]
    contents = tuple(
        " ".join(filter(None, (each.get("fstype") or "unknown", each.get("label") or each.get("partlabel"))))
        for each in parts
    )
    name = os.path.basename(path)
    model = " ".join(str(node.get(key) or "").strip() for key in ("vendor", "model")).strip()
    return DiskFacts(
        path=path,
        size_bytes=int(node.get("size") or 0),
        model=model or _sysfs(name, "device/name"),
        serial=str(node.get("serial") or "") or _sysfs(name, "device/serial"),
        transport=str(node.get("tran") or ("mmc" if name.startswith("mmcblk") else node.get("type") or "")),
        # A card in a built-in reader says that it is not removable; eMMC says MMC where a card says SD.
        is_removable=bool(node.get("rm")) or bool(node.get("hotplug")) or _sysfs(name, "device/type") == "SD",
        is_read_only=bool(node.get("ro")),
        mounts=tuple(mounts),
        contents=contents,
        users=tuple(dict.fromkeys(str(each.get("type")) for each in below if each.get("type") not in ("part", None))),
        is_whole=node.get("type") != "part",
    )


def _below(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for child in node.get("children") or ():
        yield child
        yield from _below(child)


def _sysfs(name: str, entry: str) -> str:
    try:
        return (Path("/sys/class/block") / name / entry).read_text().strip()
    except OSError:
        return ""
