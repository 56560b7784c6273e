"""Block maps: which blocks of an image hold data, with a SHA-256 for each range (bmaptool's format, version 2.0).

Pure. A map comes with an image from somewhere: every fault in it is BlockMapFaulty, and nothing of it is believed that its own
checksum does not cover.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from xml.etree.ElementTree import Element, ParseError

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from nvr.errors import NvrError

FILE_BYTES = 16 << 20  # a fragmented 64 GB image has a map of 2 MB


class BlockMapFaulty(NvrError):
    """The block map cannot be used."""


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes of the image that hold data."""

    offset: int
    size_bytes: int
    sha256: str  # hex; "" where the map does not say

    @property
    def end(self) -> int:
        return self.offset + self.size_bytes


@dataclass(frozen=True, slots=True)
class BlockMap:
    image_bytes: int
    ranges: tuple[Range, ...]  # in order, not touching each other wrongly

    @property
    def mapped_bytes(self) -> int:
        return sum(each.size_bytes for each in self.ranges)


def whole(image_bytes: int) -> BlockMap:
    """The map of an image of which nothing is known but its size."""
    return BlockMap(image_bytes, (Range(0, image_bytes, ""),) if image_bytes else ())


def parsed(data: bytes, name: str) -> BlockMap:
    """The map in a .bmap file. Raises BlockMapFaulty."""
    try:
        return _parsed(data)
    except (DefusedXmlException, ParseError, ValueError, LookupError, RecursionError) as error:
        raise BlockMapFaulty(
            f"{name} is no good block map: {error}",
            hint="Fetch or build the image with its .bmap again, or take the .bmap away: then every block is written.",
        ) from None


def _parsed(data: bytes) -> BlockMap:
    if len(data) > FILE_BYTES:
        raise ValueError(f"it has more than {FILE_BYTES >> 20} MB")
    root = ElementTree.fromstring(data, forbid_dtd=True)
    if root.tag != "bmap" or not root.get("version", "").startswith("2."):
        raise ValueError(
            f"it is a {root.tag[:20]} of version {root.get('version', 'none')[:10]}, not a bmap of version 2"
        )
    if _text(root, "ChecksumType").lower() != "sha256":
        raise ValueError("its checksums are no SHA-256")
    said = _text(root, "BmapFileChecksum").lower()
    if (
        not re.fullmatch(r"[0-9a-f]{64}", said)
        or hashlib.sha256(data.replace(said.encode(), b"0" * 64, 1)).hexdigest() != said
    ):
        raise ValueError("its own checksum is wrong: it was changed or cut off")
    image_bytes, block_bytes = _number(_text(root, "ImageSize")), _number(_text(root, "BlockSize"))
    if not 512 <= block_bytes <= 1 << 20 or block_bytes & (block_bytes - 1):
        raise ValueError(f"a block of {block_bytes} bytes makes no sense")
    blocks = -(-image_bytes // block_bytes)
    ranges: list[Range] = []
    after = 0
    listed = root.find("BlockMap")
    for element in listed if listed is not None else ():
        first, _, last = (element.text or "").strip().partition("-")
        from_block, to_block = _number(first.strip()), _number((last or first).strip())
        sha256 = (element.get("chksum") or "").lower()
        if not after <= from_block <= to_block < blocks:
            raise ValueError(f"the range {from_block}-{to_block} lies outside the image or overlaps another")
        if not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise ValueError(f"the range {from_block}-{to_block} has no checksum")
        after = to_block + 1
        ranges.append(
            Range(from_block * block_bytes, min(after * block_bytes, image_bytes) - from_block * block_bytes, sha256)
        )
    if sum(-(-each.size_bytes // block_bytes) for each in ranges) != _number(_text(root, "MappedBlocksCount")):
        raise ValueError("it does not list as many blocks as it says")
    return BlockMap(image_bytes, tuple(ranges))


def _text(root: Element, tag: str) -> str:
    return (root.findtext(tag) or "").strip()


def _number(text: str) -> int:
    if not re.fullmatch(r"\d{1,15}", text, re.ASCII):
        raise ValueError(f"{text[:20]!r} is no number")
    return int(text)


def written(image_bytes: int, ranges: list[tuple[int, bytes]], block_bytes: int = 4096) -> bytes:
    """A .bmap file for data at these offsets, as bmaptool writes it; for tests and for `nvrctl image map`."""
    blocks = -(-image_bytes // block_bytes)
    lines = []
    for offset, data in ranges:
        first, last = offset // block_bytes, -(-(offset + len(data)) // block_bytes) - 1
        text = str(first) if first == last else f"{first}-{last}"
        lines.append(f'        <Range chksum="{hashlib.sha256(data).hexdigest()}"> {text} </Range>')
    mapped = sum(-(-len(data) // block_bytes) for _, data in ranges)
    zeros = "0" * 64
    text = "\n".join(
        [
            '<?xml version="1.0" ?>', '<bmap version="2.0">',
            f"    <ImageSize> {image_bytes} </ImageSize>", f"    <BlockSize> {block_bytes} </BlockSize>",
            f"    <BlocksCount> {blocks} </BlocksCount>", f"    <MappedBlocksCount> {mapped} </MappedBlocksCount>",
            "    <ChecksumType> sha256 </ChecksumType>", f"    <BmapFileChecksum> {zeros} </BmapFileChecksum>",
            "    <BlockMap>", *lines, "    </BlockMap>", "</bmap>", "",
        ]
    )  # fmt: skip
    return text.replace(zeros, hashlib.sha256(text.encode()).hexdigest(), 1).encode()
