"""Does a card hold what it claims, and does it keep what it is given? Where to write marks, and what the answers mean.

Pure. A mark is a block that knows where it was written. Cards that lie about their size wrap around (what is written behind
their end lands further in front) or let writes behind their end vanish; others acknowledge every write and keep some. Marks
are written before the image and read after it, past the cache:

    behind the image       so densely that a wrap of any size hits what the image writes later, or another mark
    around powers of two   because memory chips come so
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

BLOCK = 4096
_MAGIC = b"nvrctl mark\0"
EVEN_MOST = 256  # at 10 ms for a small write of a slow card: 3 s


def places(size_bytes: int, image_bytes: int) -> tuple[int, ...]:
    """Where marks are written on a card that claims `size_bytes`: multiples of BLOCK behind the image, the last block among them."""
    first = -(-image_bytes // BLOCK) * BLOCK
    last = size_bytes // BLOCK * BLOCK - BLOCK
    if last < first:
        return ()
    found = {last, first}
    step = max(BLOCK, (last - first) // EVEN_MOST // BLOCK * BLOCK)
    found |= set(range(first, last, step))
    power = 1 << 20
    while power <= size_bytes:
        # Just behind a chip's end, and where the beginning of an image has data on any chip.
        found |= {power + more for more in (0, BLOCK, 1 << 20, 9 << 20, 33 << 20)}
        power *= 2
    return tuple(sorted(place for place in found if first <= place <= last and place % BLOCK == 0))


def mark(nonce: bytes, offset: int) -> bytes:
    """The block for `offset`: all of it depends on where it lies and on this card's `nonce`."""
    seed = hashlib.sha256(nonce + struct.pack("<Q", offset)).digest()
    head = _MAGIC + struct.pack("<Q", offset) + nonce[:12]
    return (head + seed * (BLOCK // len(seed) + 1))[:BLOCK]


def offset_of(block: bytes, nonce: bytes) -> int | None:
    """Where a block says that it was written; None when it is no mark of this card."""
    if block[:12] != _MAGIC or len(block) != BLOCK:
        return None
    offset = int(struct.unpack_from("<Q", block, 12)[0])
    return offset if block == mark(nonce, offset) else None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back from one place."""

    offset: int
    size_bytes: int
    is_right: bool
    is_mark: bool
    came_from: int | None = None  # where we wrote what came back, if it is anything of ours
    is_blank: bool = False  # zeros or ones all over


@dataclass(frozen=True, slots=True)
class Finding:
    kind: str  # "good", "lies about its size", "drops writes"
    detail: str
    real_bytes: int | None = None  # what the card seems to have


def finding(answers: Sequence[Answer], size_bytes: int) -> Finding:
    """What all answers of a card together mean."""
    wrong = sorted((each for each in answers if not each.is_right), key=lambda each: each.offset)
    right = [each for each in answers if each.is_right]
    if not wrong:
        return Finding("good", "")
    wraps = [
        abs(each.offset - each.came_from)
        for each in wrong
        if each.came_from is not None and each.came_from != each.offset
    ]
    if wraps:
        real = math.gcd(*wraps)
        return Finding(
            "lies about its size",
            f"claims {_gb(size_bytes)}; what was written further behind came back in front, as on a card of {_gb(real)}",
            real,
        )
    first = wrong[0].offset
    good_end = max((each.offset + each.size_bytes for each in right if each.offset < first), default=0)
    behind = [each for each in right if each.offset > first]
    if right and good_end and (not behind or all(each.is_mark for each in wrong)) and first >= good_end:
        return Finding(
            "lies about its size", f"claims {_gb(size_bytes)}; nothing behind {_gb(good_end)} is kept", good_end
        )
    blank = sum(each.is_blank for each in wrong)
    as_if = f", {blank} of them blank as if never written" if blank else ""
    return Finding(
        "drops writes",
        f"took everything without an error, but {len(wrong)} of {len(answers)} places came back wrong{as_if}; the first at {_gb(first)}",
    )


def _gb(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.0f} MB"
