"""What is written to a card, in which pieces and in which order; what each card has for itself. Pure.

The first MB goes last (`HEAD_BYTES`): until it is there and read back, no computer and no box takes the card for a disk with
partitions, so whatever stops the writing leaves a card that looks empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tools.nvrctl.blockmap import BlockMap, Range
from tools.nvrctl.partitions import HEAD_BYTES, Partition, is_fat

PIECE_BYTES = 4 << 20  # cards erase in blocks of about this size


@dataclass(frozen=True, slots=True)
class Patch:
    """Bytes in which one card differs from the image."""

    offset: int
    data: bytes

    @property
    def end(self) -> int:
        return self.offset + len(self.data)


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch that is written and read back at once; starts and ends at multiples of 4096 except at the image's end."""

    offset: int
    size_bytes: int
    sources: tuple[Range, ...]  # stretches of the image in it; the rest of it is zeros

    @property
    def end(self) -> int:
        return self.offset + self.size_bytes


def whole_parts(found: BlockMap, parts: Iterable[Partition]) -> list[tuple[int, int]]:
    """Partitions that are written completely, holes as zeros: every FAT that holds anything.

    A block map leaves out what is empty, and what was on the card before stays there. ext4 and erofs do not mind; a FAT does: its
    tables are mostly zeros, and what an earlier use left in them reads as clusters in use, and as files that are not there.
    """
    return [
        (part.offset, min(part.offset + part.size_bytes, found.image_bytes))
        for part in parts
        if is_fat(part)
        and any(each.offset < part.offset + part.size_bytes and each.end > part.offset for each in found.ranges)
    ]


def pieces(
    found: BlockMap, patches: Iterable[Patch] = (), whole: Iterable[tuple[int, int]] = (), align: int = 4096
) -> tuple[Piece, ...]:
    """All pieces in rising order, each within one PIECE_BYTES stretch of the disk; the head is the first one or two.

    What a patch touches is written on every card, so that all cards of one run have the same pieces; `whole` as from whole_parts().
    """
    wanted = sorted([(each.offset, each.end) for each in (*found.ranges, *patches)] + list(whole))
    stretches: list[list[int]] = [
        [0, min(HEAD_BYTES, found.image_bytes)]
    ]  # the head is always written, even where the map has holes in it
    for start, end in wanted:
        start, end = start // align * align, min(-(-end // align) * align, found.image_bytes)
        if start <= stretches[-1][1]:
            stretches[-1][1] = max(stretches[-1][1], end)
        else:
            stretches.append([start, end])
    made: list[Piece] = []
    at = 0
    for start, end in stretches:
        while start < end:
            # The head is a piece of its own.
            stop = min(end, (start // PIECE_BYTES + 1) * PIECE_BYTES, HEAD_BYTES if start < HEAD_BYTES else end)
            at, sources = _sources(found.ranges, start, stop, at)
            made.append(Piece(start, stop - start, sources))
            start = stop
    return tuple(made)


def _sources(ranges: Sequence[Range], start: int, stop: int, at: int) -> tuple[int, tuple[Range, ...]]:
    """The parts of `ranges` within start..stop, and where to look on for the next piece."""
    while at < len(ranges) and ranges[at].end <= start:
        at += 1
    found = []
    for number in range(at, len(ranges)):
        each = ranges[number]
        if each.offset >= stop:
            break
        first, last = max(each.offset, start), min(each.end, stop)
        if first < last:
            found.append(Range(first, last - first, ""))
    return at, tuple(found)


def is_head(piece: Piece) -> bool:
    return piece.offset < HEAD_BYTES


def touching(patches: Sequence[Patch], piece: Piece) -> tuple[Patch, ...]:
    return tuple(each for each in patches if each.offset < piece.end and each.end > piece.offset)


def lay_over(view: memoryview, piece: Piece, patches: Sequence[Patch]) -> None:
    """Put what belongs to one card over the image's bytes of a piece."""
    for each in touching(patches, piece):
        first, last = max(each.offset, piece.offset), min(each.end, piece.end)
        view[first - piece.offset : last - piece.offset] = each.data[first - each.offset : last - each.offset]
