"""Block maps: a good one is read, anything else is refused by name."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.nvrctl import blockmap
from tools.nvrctl.blockmap import BlockMapFaulty

GOOD = blockmap.written(40_960, [(0, b"a" * 4096), (12_288, b"b" * 8192)])
# As bmaptool 3.5 writes it, by hand: comments, spaces, a single block without a dash.
BMAPTOOL = """<?xml version="1.0" ?>
<!-- This file contains the block map for an image file. -->
<bmap version="2.0">
    <!-- Image size in bytes: 40.0 KiB -->
    <ImageSize> 40960 </ImageSize>
    <BlockSize> 4096 </BlockSize>
    <BlocksCount> 10 </BlocksCount>
    <!-- Count of mapped blocks: 12.0 KiB or 30.0%     -->
    <MappedBlocksCount> 3         </MappedBlocksCount>
    <ChecksumType> sha256 </ChecksumType>
    <BmapFileChecksum> CHECKSUM </BmapFileChecksum>
    <BlockMap>
        <Range chksum="A"> 0 </Range>
        <Range chksum="B"> 3-4 </Range>
    </BlockMap>
</bmap>
"""


def signed(text: str) -> bytes:
    text = text.replace('"A"', f'"{"a" * 64}"').replace('"B"', f'"{"b" * 64}"').replace("CHECKSUM", "0" * 64)
    return text.replace("0" * 64, hashlib.sha256(text.encode()).hexdigest(), 1).encode()


def test_a_map_as_bmaptool_writes_it_is_read():
    found = blockmap.parsed(signed(BMAPTOOL), "x.bmap")
    assert found.image_bytes == 40_960 and found.mapped_bytes == 12_288
    assert [(each.offset, each.size_bytes) for each in found.ranges] == [(0, 4096), (12_288, 8192)]


def test_what_we_write_is_read_back():
    found = blockmap.parsed(GOOD, "x.bmap")
    assert [each.sha256 for each in found.ranges] == [
        hashlib.sha256(b"a" * 4096).hexdigest(),
        hashlib.sha256(b"b" * 8192).hexdigest(),
    ]


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ('<bmap version="2.0">', '<bmap version="1.3">', "version"),
        ("sha256 <", "sha1 <", "SHA-256"),
        (" 3-4 ", " 4-3 ", "range"),
        (" 3-4 ", " 3-40 ", "range"),
        (" 3-4 ", " 0-1 ", "range"),
        (" 3-4 ", " x ", "number"),
        ("> 4096 <", "> 4095 <", "block"),
        (" 3         <", " 2 <", "blocks"),
        ('chksum="B"', 'other="B"', "checksum"),
    ],
)
def test_a_faulty_map_is_refused_and_says_why(old, new, word):
    assert old in BMAPTOOL
    with pytest.raises(BlockMapFaulty, match=re.compile(word, re.IGNORECASE)):
        blockmap.parsed(signed(BMAPTOOL.replace(old, new)), "x.bmap")


def test_a_map_that_was_changed_is_refused():
    with pytest.raises(BlockMapFaulty, match="checksum"):
        blockmap.parsed(signed(BMAPTOOL).replace(b"3-4", b"3-5"), "x.bmap")


@pytest.mark.parametrize(
    "hostile",
    [
        b'<?xml version="1.0"?><!DOCTYPE b [<!ENTITY a "aaaa"><!ENTITY c "&a;&a;&a;&a;">]><bmap version="2.0">&c;</bmap>',
        b'<?xml version="1.0"?><!DOCTYPE b [<!ENTITY x SYSTEM "file:///etc/passwd">]><bmap version="2.0">&x;</bmap>',
        b"<bmap version='2.0'>" * 50_000,
        b"",
        b"\xff\xfe\x00",
    ],
)
def test_a_hostile_map_is_refused(hostile):
    with pytest.raises(BlockMapFaulty):
        blockmap.parsed(hostile, "x.bmap")


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_any_byte_may_be_wrong(place, value):
    changed = GOOD[:place] + bytes([value]) + GOOD[place + 1 :]
    if changed != GOOD:
        with pytest.raises(BlockMapFaulty):
            blockmap.parsed(changed, "x.bmap")
