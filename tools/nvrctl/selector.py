"""The card's FAT partition (`selector`): which bytes change when a site file is put on it. Nothing is mounted; no root is needed.

The partition is unpacked once into a temporary file; mtools (a program of Debian, which the image builder uses as well) puts each
card's site file into a copy of it, and what differs becomes that card's patch.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from nvr.errors import NvrError
from tools.nvrctl import image_file
from tools.nvrctl.image_file import ImageFile
from tools.nvrctl.partitions import HEAD_BYTES, Partition, partitions, selector_of
from tools.nvrctl.plan import Patch

FOLDER = "site"  # where the box looks (firmware/firstboot.py)
PARTITION_BYTES = 1 << 30  # a larger FAT is not ours, and would be unpacked into a temporary file
BLOCK = 4096
_COMPARED = 1 << 20


class NoSelector(NvrError):
    """The image has no partition for a site file, or nothing can be put on it."""


def patches_for(image: ImageFile, contents: Sequence[Mapping[str, bytes]]) -> list[tuple[Patch, ...]]:
    """What differs on each card from the image when it carries these files in its folder `site`. Raises NoSelector, ImageFaulty."""
    if shutil.which("mcopy") is None:
        raise NoSelector(
            "mtools is not installed: it puts the site file on the card's FAT partition", hint="sudo apt install mtools"
        )
    with tempfile.TemporaryDirectory(prefix="nvrctl-") as folder:
        base, work = Path(folder) / "selector", Path(folder) / "with-site"
        partition = _unpack(image, base)
        made = []
        for files in contents:
            shutil.copyfile(base, work)
            put(work, files, Path(folder))
            made.append(tuple(_differences(base, work, partition.offset)))
        return made


def _unpack(image: ImageFile, base: Path) -> Partition:
    """Write the selector partition of the image to `base`; where it lies."""
    with image_file.opened(image) as stream:
        found = selector_of(partitions(image_file.head(image)))
        if found is None:
            raise NoSelector(
                f"{image.path} has no partition called `selector` that could take the site file",
                hint="Is this an image for a box? `nvrctl image show` tells its partitions.",
            )
        if (
            found.size_bytes > PARTITION_BYTES
            or found.offset + found.size_bytes > image.size_bytes
            or found.offset < HEAD_BYTES
        ):
            raise NoSelector(
                f"the partition `selector` of {image.path} lies at {found.offset} with {found.size_bytes} bytes, which cannot be",
                hint="Build the image again.",
            )
        stream.skip_to(found.offset)
        chunk, zeros = memoryview(bytearray(_COMPARED)), memoryview(bytes(_COMPARED))
        with open(base, "wb") as file:
            left = found.size_bytes
            while left:
                part = chunk[: min(left, len(chunk))]
                stream.read_into(part)
                # Holes stay holes: most of it is empty.
                if part != zeros[: len(part)]:
                    file.write(part)
                else:
                    file.seek(len(part), os.SEEK_CUR)
                left -= len(part)
            file.truncate(found.size_bytes)
        return found


def put(fat: Path, files: Mapping[str, bytes], folder: Path) -> None:
    """Put files into the folder `site` of a FAT in a file, in place of those that are there. Raises NoSelector."""
    # The folder exists on our images; then mmd says so and changes nothing.
    _mtools("mmd", "-D", "s", "-i", str(fat), f"::{FOLDER}")
    for name, data in files.items():
        source = folder / name
        fd = os.open(source, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
        done = _mtools("mcopy", "-D", "o", "-o", "-i", str(fat), str(source), f"::{FOLDER}/{name}")
        source.unlink()
        if done.returncode != 0:
            why = done.stderr.decode("utf-8", "replace").strip()[:200]
            raise NoSelector(
                f"{name} does not go on the FAT partition: {why}",
                hint="Build the image again; its partition `selector` is full or damaged.",
            )


def _mtools(*command: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "MTOOLSRC": os.devnull, "MTOOLS_SKIP_CHECK": "1", "LC_ALL": "C.UTF-8"}
    return subprocess.run(command, env=environment, capture_output=True, check=False, stdin=subprocess.DEVNULL)


def read(fat: Path, name: str = "site.yaml") -> bytes:
    """A file in the folder `site` of a FAT that lies in a file. Raises NoSelector."""
    done = _mtools("mtype", "-i", str(fat), f"::{FOLDER}/{name}")
    if done.returncode != 0:
        raise NoSelector(f"there is no {FOLDER}/{name} on the FAT partition", hint="nvrctl card write puts it there.")
    return done.stdout


def _differences(base: Path, work: Path, offset: int) -> Iterator[Patch]:
    """Whole blocks of `work` that are not those of `base`, neighbours together."""
    with open(base, "rb") as first, open(work, "rb") as second:
        at, start, data = 0, 0, b""
        while old := first.read(_COMPARED):
            new = second.read(_COMPARED)
            if old != new:
                for place in range(0, len(new), BLOCK):
                    block = new[place : place + BLOCK]
                    if block == old[place : place + BLOCK]:
                        continue
                    if data and start + len(data) != at + place:
                        yield Patch(offset + start, data)
                        data = b""
                    start, data = (start, data + block) if data else (at + place, block)
            at += len(new)
        if data:
            yield Patch(offset + start, data)
