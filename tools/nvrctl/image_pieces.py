"""An image cut into the pieces of a plan, checked on the way against its block map; and where in it a block comes from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from tools.nvrctl import image_file
from tools.nvrctl.image_file import ImageFaulty, ImageFile
from tools.nvrctl.marks import BLOCK
from tools.nvrctl.plan import PIECE_BYTES, Piece, pieces


class RangeChecks:
    """The SHA-256 of each range of the block map, over pieces that do not care where ranges end."""

    def __init__(self, image: ImageFile) -> None:
        self._path = image.path
        self._ranges = image.map.ranges if image.has_map else ()
        self._at = 0
        self._sha256 = hashlib.sha256()
        self._done = 0

    def add(self, offset: int, view: memoryview) -> None:
        """Bytes of the image, in order, never across a range's end. Raises ImageFaulty."""
        if self._at >= len(self._ranges):
            return
        current = self._ranges[self._at]
        assert offset == current.offset + self._done
        self._sha256.update(view)
        self._done += len(view)
        if self._done == current.size_bytes:
            if self._sha256.hexdigest() != current.sha256:
                raise ImageFaulty(
                    f"{self._path} is not what its block map says, at bytes {current.offset} to {current.end}",
                    hint="Fetch or build both again.",
                )
            self._at, self._done, self._sha256 = self._at + 1, 0, hashlib.sha256()


def fill(stream: image_file.Stream, piece: Piece, view: memoryview, checks: RangeChecks) -> None:
    """The image's bytes of one piece, zeros where the map has none."""
    at = piece.offset
    for source in piece.sources:
        if source.offset > at:
            view[at - piece.offset : source.offset - piece.offset] = bytes(source.offset - at)
        stream.skip_to(source.offset)
        part = view[source.offset - piece.offset : source.end - piece.offset]
        stream.read_into(part)
        checks.add(source.offset, part)
        at = source.end
    if at < piece.end:
        view[at - piece.offset :] = bytes(piece.end - at)


def check_image(image: ImageFile) -> None:
    """Read all of an image as if for a card. Raises ImageFaulty."""
    checks, view = RangeChecks(image), memoryview(bytearray(PIECE_BYTES))
    with image_file.opened(image) as stream:
        for piece in pieces(image.map):
            fill(stream, piece, view[: piece.size_bytes], checks)
        stream.skip_to(image.size_bytes)
        stream.finish()


def whereabouts(image: ImageFile, wanted: Sequence[Piece], blocks: Mapping[int, bytes]) -> dict[int, int]:
    """Where else in the image the blocks are that came back at these offsets: offset -> the only other place. Raises ImageFaulty.

    Reads the whole image once more: for a card that is bad already, to tell in which way.
    """
    digests = {hashlib.sha256(block).digest(): offset for offset, block in blocks.items()}
    found: dict[int, set[int]] = {}
    checks, view = RangeChecks(image), memoryview(bytearray(PIECE_BYTES))
    with image_file.opened(image) as stream:
        for piece in wanted:
            fill(stream, piece, view[: piece.size_bytes], checks)
            for at in range(0, piece.size_bytes, BLOCK):
                digest = hashlib.sha256(view[at : min(at + BLOCK, piece.size_bytes)]).digest()
                if digest in digests:
                    found.setdefault(digests[digest], set()).add(piece.offset + at)
    return {offset: min(places) for offset, places in found.items() if len(places) == 1 and offset not in places}
