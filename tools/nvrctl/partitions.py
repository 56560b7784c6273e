"""Partition tables, read: GPT (UEFI specification 2.10, chapter 5.3) and the four entries of an MBR. Pure."""

from __future__ import annotations

import struct
import uuid
import zlib
from dataclasses import dataclass

SECTOR = 512
HEAD_BYTES = 1 << 20  # partition tables and boot loaders in front of the first partition; written to cards last
_FAT_GUIDS = {"c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7"}  # EFI system, basic data
_FAT_TYPES = {0x01, 0x04, 0x06, 0x0B, 0x0C, 0x0E, 0xEF}


@dataclass(frozen=True, slots=True)
class Partition:
    number: int
    name: str  # "" in an MBR
    kind: str  # type GUID, or mbr-XX
    offset: int
    size_bytes: int


def partitions(head: bytes) -> tuple[Partition, ...]:
    """What the first MB of a disk says; none where it says nothing that holds."""
    return _gpt(head) or _mbr(head)


def _gpt(head: bytes) -> tuple[Partition, ...]:
    header = head[SECTOR : SECTOR + 92]
    if len(header) < 92 or header[:8] != b"EFI PART":
        return ()
    size_bytes, crc = struct.unpack_from("<II", header, 12)
    entries_lba, count, entry_bytes, entries_crc = struct.unpack_from("<QIII", header, 72)
    if not 92 <= size_bytes <= SECTOR or not 128 <= entry_bytes <= 4096 or count > 1024:
        return ()
    whole = bytearray(head[SECTOR : SECTOR + size_bytes])
    whole[16:20] = bytes(4)
    entries = head[entries_lba * SECTOR : entries_lba * SECTOR + count * entry_bytes]
    if zlib.crc32(whole) != crc or zlib.crc32(entries) != entries_crc:
        return ()
    found = []
    for number in range(count):
        entry = entries[number * entry_bytes : (number + 1) * entry_bytes]
        if len(entry) < 128 or not any(entry[:16]):
            continue
        first, last = struct.unpack_from("<QQ", entry, 32)
        name = entry[56:128].decode("utf-16-le", "replace").partition("\0")[0]
        if first <= last:
            found.append(
                Partition(
                    number + 1, name, str(uuid.UUID(bytes_le=entry[:16])), first * SECTOR, (last - first + 1) * SECTOR
                )
            )
    return tuple(found)


def _mbr(head: bytes) -> tuple[Partition, ...]:
    if len(head) < SECTOR or head[510:512] != b"\x55\xaa":
        return ()
    found = []
    for number in range(4):
        entry = head[446 + 16 * number : 462 + 16 * number]
        first, sectors = struct.unpack_from("<II", entry, 8)
        if entry[4] not in (0, 0xEE) and sectors:
            found.append(Partition(number + 1, "", f"mbr-{entry[4]:02x}", first * SECTOR, sectors * SECTOR))
    return tuple(found)


def selector_of(found: tuple[Partition, ...]) -> Partition | None:
    """The partition that takes the site file: called `selector`, or the first FAT of an MBR."""
    named = next((each for each in found if each.name == "selector"), None)
    if named is not None:
        return named
    return next((each for each in found if each.kind.startswith("mbr-") and is_fat(each)), None)


def is_fat(found: Partition) -> bool:
    """Whether the table says that a FAT lies there."""
    if found.kind.startswith("mbr-"):
        return int(found.kind[4:], 16) in _FAT_TYPES
    return found.kind in _FAT_GUIDS
