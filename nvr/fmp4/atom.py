"""MP4 atoms: an eight-byte header and a body, and atoms in the body (14496-12, 4.2)."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator

from nvr.errors import NvrError

Buffer = bytes | bytearray | memoryview | mmap.mmap

ATOM_HEAD = struct.Struct(">I4s")


class BadAtom(NvrError):
    """These bytes are not the MP4 they should be."""


def atoms(data: Buffer, offset: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int, int, int]]:
    """(type, offset, size, header_bytes) of each atom that lies between `offset` and `end` (14496-12, 4.2).

    Raises BadAtom where an atom has no room for its own header, or reaches beyond `end`.
    """
    end = len(data) if end is None else min(end, len(data))
    while offset < end:
        if end - offset < 8:
            raise BadAtom(f"{end - offset} bytes at byte {offset} are too few for an atom")
        size, kind = ATOM_HEAD.unpack_from(data, offset)
        header_bytes = 8
        if size == 0:  # to the end of the file
            size = end - offset
        elif size == 1:  # 64-bit size
            if end - offset < 16:
                raise BadAtom(f"atom {name_of(kind)} at byte {offset} ends inside its own size")
            (size,) = struct.unpack_from(">Q", data, offset + 8)
            header_bytes = 16
        if size < header_bytes:
            raise BadAtom(f"atom {name_of(kind)} at byte {offset} says that it has {size} bytes")
        if size > end - offset:
            raise BadAtom(f"atom {name_of(kind)} at byte {offset} has {size} bytes, {end - offset} are there")
        yield kind, offset, size, header_bytes
        offset += size


def name_of(kind: bytes) -> str:
    return repr(kind.decode("latin-1"))


def atom(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return ATOM_HEAD.pack(8 + len(body), kind) + body


def full_atom(kind: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    return atom(kind, struct.pack(">I", version << 24 | flags), *parts)
