"""H.264 in its bytes: NAL units, and where an access unit begins. What parameter sets say is in parameter_sets.py.

Follows ITU-T H.264 (08/2021), section numbers below. Nothing here decodes pictures. Every byte string gives a value; nothing is raised.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from mmap import mmap

from nvr.errors import NvrError

Buffer = bytes | bytearray | memoryview

# nal_unit_type, table 7-1
SLICE, SLICE_A, SLICE_B, SLICE_C, IDR, SEI, SPS, PPS, AUD = 1, 2, 3, 4, 5, 6, 7, 8, 9
END_OF_SEQUENCE, END_OF_STREAM, FILLER = 10, 11, 12

START_CODE = b"\0\0\1"


class BadH264(NvrError):
    """These bytes are not the H.264 they should be: raised by whoever reads what is in them."""


def nal_type(unit: Buffer) -> int:
    """nal_unit_type; 0 (unspecified) for an empty unit."""
    return unit[0] & 0x1F if len(unit) else 0


def annex_b_units(data: bytes | bytearray | mmap, offset: int = 0) -> Iterator[tuple[int, int]]:
    """(offset, size) of each NAL unit in a byte stream (annex B.1), without start codes and trailing zeros.

    `data` must have find(): bytes, bytearray or mmap.
    """
    start = data.find(START_CODE, offset)
    while start >= 0:
        start += 3
        following = data.find(START_CODE, start)
        end = len(data) if following < 0 else following
        while end > start and data[end - 1] == 0:
            end -= 1
        if end > start:
            yield start, end - start
        start = following


def rbsp(unit: Buffer) -> bytes:
    """The payload of a NAL unit without its first byte and without emulation prevention (7.3.1, 7.4.1.1)."""
    return bytes(unit[1:]).replace(b"\0\0\3", b"\0\0")


# -- access units ------------------------------------------------------------------------------------

_STARTS_ACCESS_UNIT = frozenset((SEI, SPS, PPS, AUD, 14, 15, 16, 17, 18))  # 7.4.1.2.3
_SLICES = frozenset((SLICE, SLICE_A, IDR))  # those that begin with first_mb_in_slice; B and C follow an A


class AccessUnitBoundary:
    """Tells, NAL unit by NAL unit, where one picture ends and the next begins (7.4.1.2.3, 7.4.1.2.4).

    A slice whose first_mb_in_slice is 0 starts a picture. The standard compares seven fields instead, for streams
    with arbitrary slice order; no camera sends such streams, and what would be wrong is a picture cut in two.
    """

    __slots__ = ("_has_slice",)

    def __init__(self) -> None:
        self._has_slice = False

    def is_first(self, unit: Buffer) -> bool:
        """Whether `unit` is the first NAL unit of another picture than the one before; call it for every unit, in order."""
        kind = nal_type(unit)
        if kind in _SLICES:
            starts = self._has_slice and is_first_slice(unit)
            self._has_slice = True
            return starts
        if kind in _STARTS_ACCESS_UNIT and self._has_slice:
            self._has_slice = False
            return True
        return False


def is_first_slice(unit: Buffer) -> bool:
    """Whether a slice NAL unit begins with macroblock 0: ue(0) is a single 1 bit."""
    return len(unit) > 1 and unit[1] & 0x80 != 0


def is_keyframe(units: Iterable[Buffer]) -> bool:
    """Whether an access unit is an IDR picture: all its slices are of type 5 (7.4.1.2.4)."""
    kinds = [nal_type(unit) for unit in units]
    return IDR in kinds and SLICE not in kinds and SLICE_A not in kinds
