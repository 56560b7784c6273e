"""Bytes as text that shows in a diff what changed: the tree of atoms, then sixteen bytes a line."""

from __future__ import annotations

from nvr import fmp4

_CONTAINERS = {
    b"moov": 8,
    b"trak": 8,
    b"mdia": 8,
    b"minf": 8,
    b"dinf": 8,
    b"stbl": 8,
    b"mvex": 8,
    b"moof": 8,
    b"traf": 8,
    b"stsd": 16,
    b"dref": 16,
    b"avc1": 86,
}


def dump(data: bytes) -> str:
    lines = ["atoms: offset, size, type", *_tree(data, 0, len(data), 1), "", "bytes; * stands for more lines of zeros"]
    zeros = 0
    for place in range(0, len(data), 16):
        row = data[place : place + 16]
        zeros = 0 if any(row) else zeros + 1
        if zeros < 2:
            lines.append(
                f"{place:6d}  {row.hex(' ', 4):35s}  {''.join(chr(byte) if 32 <= byte < 127 else '.' for byte in row)}"
            )
        elif zeros == 2:
            lines.append("     *")
    return "\n".join(lines) + "\n"


def _tree(data: bytes, start: int, end: int, depth: int) -> list[str]:
    lines = []
    for kind, offset, size, _ in fmp4.atoms(data, start, end):
        lines.append(f"{offset:6d} {size:6d} {'  ' * depth}{kind.decode('latin-1')}")
        if kind in _CONTAINERS:
            lines += _tree(data, offset + _CONTAINERS[kind], offset + size, depth + 1)
    return lines
