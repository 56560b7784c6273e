"""What leaves the builder: the disk packed, its block map, checksums, the list of what is inside, the bundle, and the build report."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from dataclasses import asdict
from pathlib import Path
from xml.sax.saxutils import escape

from image import sbom
from image.cache import Made, Took
from image.disk import mapped
from image.run import Toolbox

BLOCK = 4096
LARGEST = 25


def file_hash(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make(
    into: Path, toolbox: Toolbox, *, disk: Made, bundle: Made, recipe: str, version: str, compression: int
) -> None:
    """The files of an image that do not depend on how long it took to build."""
    image = disk.path / "disk.img"
    (into / f"{recipe}.bmap").write_text(block_map(image, mapped(disk)))
    packed = into / f"{recipe}.img.zst"
    toolbox.run(["zstd", "-q", "-T2", f"-{compression}", "-o", packed, image])
    os.link(bundle.path / "update.raucb", into / f"{recipe}-{version}.raucb")
    names = sorted(path.name for path in into.iterdir())
    (into / "SHA256SUMS").write_text("".join(f"{file_hash(into / each)}  {each}\n" for each in names))


def block_map(image: Path, spans: list[tuple[int, int]]) -> str:
    """A block map (bmaptool's format, version 2.0) of what has to be written; each range has its checksum."""
    size = image.stat().st_size
    ranges, blocks = [], 0
    with open(image, "rb") as file:
        for start, end in merged(spans):
            file.seek(start)
            data = hashlib.sha256()
            left = min(end, size) - start
            while left:
                block = file.read(min(left, 1 << 20))
                data.update(block)
                left -= len(block)
            first, last = start // BLOCK, (min(end, size) - 1) // BLOCK
            blocks += last - first + 1
            ranges.append((f"{first}-{last}" if first != last else f"{first}", data.hexdigest()))
    head = [
        '<?xml version="1.0" ?>', '<bmap version="2.0">', f"  <ImageSize> {size} </ImageSize>", f"  <BlockSize> {BLOCK} </BlockSize>",
        f"  <BlocksCount> {-(-size // BLOCK)} </BlocksCount>", f"  <MappedBlocksCount> {blocks} </MappedBlocksCount>",
        "  <ChecksumType> sha256 </ChecksumType>", f"  <BmapFileChecksum> {'0' * 64} </BmapFileChecksum>", "  <BlockMap>",
    ]  # fmt: skip
    rows = [f'    <Range chksum="{checksum}"> {escape(span)} </Range>' for span, checksum in ranges]
    text = "\n".join([*head, *rows, "  </BlockMap>", "</bmap>"]) + "\n"
    return text.replace("0" * 64, hashlib.sha256(text.encode()).hexdigest(), 1)


def merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Whole blocks, neighbours joined."""
    found: list[tuple[int, int]] = []
    for start, end in spans:
        start, end = start // BLOCK * BLOCK, -(-end // BLOCK) * BLOCK
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def exposures(toolbox: Toolbox, tree: Path, units: list[str]) -> dict[str, float]:
    """How much each service may do, from 0 (nothing) to 10 (all), as systemd-analyze security counts it."""
    found = {}
    for unit in units:
        told = toolbox.run(
            ["systemd-analyze", "security", "--offline=true", f"--root={tree}", "--no-pager", unit]
        ).output
        found[unit] = float(re.findall(r"exposure level for \S+: ([0-9.]+)", told)[-1])
    return found


def report(
    packages: list[sbom.Package], took: list[Took], *, sizes: dict[str, int], version: str, base: Made
) -> dict[str, object]:
    """What a build tells: times, sizes, and what takes the room. Sizes of packages are dpkg's, before anything was pruned."""
    largest = sorted(packages, key=lambda each: -each.size_kib)[:LARGEST]
    return {
        "version": version,
        "steps": [asdict(each) for each in took],
        "sizes_bytes": sizes,
        "packages": len(packages),
        "largest_packages": [
            {"name": each.name, "installed_kib": each.size_kib, "source": each.source} for each in largest
        ],
    }


def largest_folders(tree: Path, depth: int = 4) -> list[tuple[int, str]]:
    """Where the room of a root goes, after pruning: (bytes, folder), largest first."""
    sizes: dict[str, int] = {}
    seen: set[int] = set()
    for folder, _, names in os.walk(tree):
        place = "/".join(Path(folder).relative_to(tree).parts[:depth])
        for name in names:
            state = os.lstat(os.path.join(folder, name))
            if state.st_ino not in seen:
                seen.add(state.st_ino)
                sizes[place] = sizes.get(place, 0) + state.st_size
    return sorted(((size, place) for place, size in sizes.items()), reverse=True)[:LARGEST]


def hand_out(made: Made, folder: Path, report_: dict[str, object], sbom_: dict[str, object]) -> list[Path]:
    """Copy the results to where somebody wants them."""
    folder.mkdir(parents=True, exist_ok=True)
    out = []
    for path in sorted(made.path.iterdir()):
        if path.name != "made.json":
            target = folder / path.name
            target.unlink(missing_ok=True)
            try:
                os.link(path, target)
            except OSError:
                shutil.copy(path, target)
            out.append(target)
    sbom.write(folder / "sbom.spdx.json", sbom_)
    (folder / "report.json").write_text(json.dumps(report_, indent=1) + "\n")
    return [*out, folder / "sbom.spdx.json", folder / "report.json"]
