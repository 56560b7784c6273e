"""What `nvrctl card write` may write to: devices, and plain files that are not worth anything else."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import click

from tools.nvrctl import disks, image_file
from tools.nvrctl.disks import DiskFacts
from tools.nvrctl.image_file import ImageFile
from tools.nvrctl.output import size_text
from tools.nvrctl.partitions import HEAD_BYTES, partitions
from tools.nvrctl.records import SUFFIXES

AT_ONCE_MOST = 32


def targets(devices: Sequence[str]) -> list[Path]:
    """Each once. Raises click.UsageError."""
    found: dict[str, Path] = {}
    for text in devices:
        path = Path(text)
        real = os.path.realpath(path)
        if real in found:
            raise click.UsageError(
                f"{text} is given twice{'' if text == str(found[real]) else f' (it is {found[real]})'}."
            )
        if not path.exists() and (real.startswith("/dev/") or not path.absolute().parent.is_dir()):
            raise click.UsageError(f"There is no device {text}. `nvrctl card ls` lists what is there.")
        if path.is_dir():
            raise click.UsageError(f"{text} is a folder: give a device, or the name of a file.")
        found[real] = path
    if len(found) > AT_ONCE_MOST:
        raise click.UsageError(f"{len(found)} cards at once are too many, {AT_ONCE_MOST} at most.")
    return list(found.values())


def facts(paths: Sequence[Path], image: ImageFile, even_if_not_removable: bool) -> list[DiskFacts | None]:
    """What each target is, None for a plain file. Raises CardRefused with every refusal at once."""
    found: list[DiskFacts | None] = []
    refusals = []
    for path in paths:
        if path.is_file() or not path.exists():
            found.append(None)
            free_bytes = free_bytes_at(path)
            if free_bytes < image.map.mapped_bytes:
                refusals.append(
                    disks.CardRefused(
                        f"there are {size_text(free_bytes)} free for {path}, the image takes {size_text(image.map.mapped_bytes)}",
                        hint="Write it elsewhere.",
                    )
                )
            continue
        try:
            disk = disks.disk_at(str(path))
        except disks.CardRefused as error:
            refusals.append(error)
            continue
        refused = disks.refusal(disk, image.size_bytes, even_if_not_removable=even_if_not_removable)
        if refused is not None:
            refusals.append(refused)
        found.append(disk)
    if refusals:
        raise disks.CardRefused(
            "\n".join(map(str, refusals)), hint="\n        ".join(dict.fromkeys(each.hint for each in refusals))
        )
    return found


def free_bytes_at(path: Path) -> int:
    state = os.statvfs(path.absolute().parent)
    return state.f_bavail * state.f_frsize


def check_files(
    paths: Sequence[Path], image: ImageFile, site_paths: Sequence[Path], records: Path, *, may_replace: bool
) -> None:
    """Raises CardRefused for a plain file that is not to be replaced.

    Never the image, a site file or a record, by whatever name: the same file by a link is the same. Any other file
    only when it is empty or an image for a box, or with `may_replace`.
    """
    kept = [(path, "the image, or belongs to it") for path in image_file.files_of(image.path)]
    kept += [(path, "a site file") for path in site_paths]
    kept += [(path, "one of the records") for path in records.glob("*") if path.suffix in SUFFIXES]
    for path in paths:
        if path.suffix in SUFFIXES and path.absolute().parent.resolve() == records.resolve():
            raise disks.CardRefused(
                f"{path} would count as one of the records: it is not written", hint="Give a file elsewhere."
            )
        if not path.is_file():
            continue
        what = next((what for other, what in kept if other.exists() and path.samefile(other)), "")
        if what:
            raise disks.CardRefused(
                f"{path} is {what}: it is not written over",
                hint="IMAGE comes first, then the devices or the names of new files.",
            )
        if not may_replace and not _is_worthless(path):
            raise disks.CardRefused(
                f"{path} is there already, and is no image for a box: it is not written over",
                hint="Give another name; or --replace, if it may go.",
            )


def _is_worthless(path: Path) -> bool:
    """Empty, or one that this program wrote, or could write again."""
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES)
    return not head or any(each.name == "selector" for each in partitions(head))
