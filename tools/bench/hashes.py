"""What the CRC and the evidence hash cost, on the pieces a fragment really consists of (one RTP payload each)."""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Callable

import crc32c

from nvr.gather import Gather, PyGather

FRAGMENT_BYTES = 512 << 10  # one second of a 4 Mbit/s camera
PIECE_BYTES = 1388  # RTP payload of an Ethernet packet
ROUNDS = 9
REPEATS = 40


def _cost_us(work: Callable[[], object]) -> float:
    """Median CPU time of one call, microseconds."""
    times = []
    for _ in range(ROUNDS):
        start = time.process_time_ns()
        for _ in range(REPEATS):
            work()
        times.append((time.process_time_ns() - start) / REPEATS / 1000)
    return statistics.median(times)


def run() -> str:
    """A Markdown table; a camera-minute of 4 Mbit/s is 57 such fragments."""
    import blake3

    data = bytes(range(256)) * (FRAGMENT_BYTES // 256)
    view = memoryview(data)
    pieces = [view[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES)]

    def gathered(kind: type[PyGather]) -> PyGather:
        gather = kind()
        for piece in pieces:
            gather.append(piece)
        return gather

    rows: list[tuple[str, Callable[[], object], Callable[[], object]]] = [
        ("CRC-32C, crc32c package", lambda: crc32c.crc32c(data), lambda g=gathered(PyGather): g.crc32c(0)),
        ("CRC-32C, C extension", lambda: crc32c.crc32c(data), lambda g=gathered(Gather): g.crc32c(0)),
        ("SHA-256, hashlib", lambda: hashlib.sha256(data), lambda g=gathered(Gather): g.update(hashlib.sha256())),
        (
            "BLAKE3, blake3 package",
            lambda: blake3.blake3(data).digest(),
            lambda g=gathered(Gather): g.update(blake3.blake3()),
        ),
        ("BLAKE2b, hashlib", lambda: hashlib.blake2b(data), lambda g=gathered(Gather): g.update(hashlib.blake2b())),
    ]
    lines = [
        "| what | one piece, us per 512 KiB | GB/s | in RTP pieces, us per 512 KiB | GB/s | CPU s/camera-minute |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    per_minute = 4e6 / 8 * 60 / FRAGMENT_BYTES
    for title, whole, in_pieces in rows:
        whole_us, pieces_us = _cost_us(whole), _cost_us(in_pieces)
        lines.append(
            f"| {title} | {whole_us:.0f} | {FRAGMENT_BYTES / whole_us / 1000:.2f} | {pieces_us:.0f} | "
            f"{FRAGMENT_BYTES / pieces_us / 1000:.2f} | {pieces_us * per_minute / 1e6:.4f} |"
        )
    return "\n".join(lines) + "\n"
