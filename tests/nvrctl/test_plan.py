"""Pieces: every byte with data once, on boundaries a disk can take."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tools.nvrctl import plan
from tools.nvrctl.blockmap import BlockMap, Range, whole
from tools.nvrctl.plan import PIECE_BYTES, Patch

MIB = 1 << 20


@st.composite
def maps(draw):
    image_bytes = draw(st.integers(2048, 40_000)) * 512
    at, ranges = 0, []
    for gap, size in draw(st.lists(st.tuples(st.integers(0, 500), st.integers(1, 3000)), max_size=12)):
        start = at + gap * 4096
        end = min(start + size * 4096, image_bytes)
        if start >= end:
            break
        ranges.append(Range(start, end - start, ""))
        at = end
    return BlockMap(image_bytes, tuple(ranges))


@given(maps(), st.lists(st.integers(0, 20 * MIB), max_size=4))
def test_pieces_cover_all_data_once_and_in_order(found, offsets):
    patches = [Patch(offset, b"x" * 100) for offset in offsets if offset + 100 <= found.image_bytes]
    pieces = plan.pieces(found, patches)
    at = 0
    for piece in pieces:
        assert piece.offset >= at and 0 < piece.size_bytes <= PIECE_BYTES
        assert piece.offset % 4096 == 0 and (piece.end % 4096 == 0 or piece.end == found.image_bytes)
        assert piece.offset // PIECE_BYTES == (piece.end - 1) // PIECE_BYTES
        assert plan.is_head(piece) == (piece.end <= MIB)
        at = piece.end
    sources = [source for piece in pieces for source in piece.sources]
    assert sum(source.size_bytes for source in sources) == found.mapped_bytes
    for patch in patches:
        assert (
            sum(
                min(piece.end, patch.end) - max(piece.offset, patch.offset)
                for piece in pieces
                if plan.touching([patch], piece)
            )
            == 100
        )


def test_without_a_map_all_of_an_image_is_written():
    assert sum(piece.size_bytes for piece in plan.pieces(whole(50 * MIB + 512))) == 50 * MIB + 512


def test_a_patch_over_the_border_of_two_pieces_lies_on_both():
    first, second = plan.Piece(0, 4096, ()), plan.Piece(4096, 4096, ())
    patch = Patch(4090, b"abcdefghijkl")
    left, right = memoryview(bytearray(4096)), memoryview(bytearray(4096))
    plan.lay_over(left, first, [patch])
    plan.lay_over(right, second, [patch])
    assert bytes(left[-6:]) == b"abcdef" and bytes(right[:6]) == b"ghijkl"
