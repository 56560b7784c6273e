"""Whether something happens, from the sizes and types of access units alone: nothing is decoded.

An encoder spends bytes where the picture changes. How many a quiet picture takes is learned from frames that were
decoded and found quiet, for each type of picture on its own; how well sizes tell is learned the same way. Cameras with a constant bit
rate fill quiet pictures up: there sizes tell nothing, `is_trusted` stays False, and everything is decoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from math import log2

from nvr.media import AccessUnit

_STEP = 0.2  # of log2(size / quiet size); a histogram bin
_BINS = 60
_MIDDLE = 30
QUIET_LEAST = 100  # quiet frames before sizes are believed; 20 s at 5 a second
MOVING_LEAST = 20
QUIET_PASSED = 0.97  # of quiet frames must lie below the threshold: it costs decoding some for nothing
MOVING_SEEN = 0.9  # of moving frames must lie above it, or sizes are not believed
_FORGET_AT = 20_000  # an hour at 5 a second; then both histograms are halved


class Type(IntEnum):
    """Of pictures, as far as their sizes differ."""

    KEYFRAME = 0
    REFERENCE = 1
    DISPOSABLE = 2  # no other picture needs it: nal_ref_idc 0 (H.264 7.4.1)


def type_of(unit: AccessUnit) -> Type:
    if unit.is_keyframe:
        return Type.KEYFRAME
    for view in unit.payload.views():
        place, end = 0, len(view)
        while place + 4 < end:
            header = view[place + 4]
            if 1 <= header & 31 <= 5:
                return Type.REFERENCE if header & 0x60 else Type.DISPOSABLE
            place += 4 + int.from_bytes(view[place : place + 4], "big")
        break  # NAL units that are cut in pieces begin in the first one, which is all that is asked
    return Type.REFERENCE


@dataclass(frozen=True, slots=True)
class Activity:
    type: Type
    size_bytes: int
    level: float  # log2 of the size against a quiet picture of this type; 0 while nothing is known
    is_active: bool  # decode it: something may have happened, or sizes tell nothing


class Gate:
    """Sizes of one stream."""

    def __init__(self) -> None:
        self._quiet_size = [0.0, 0.0, 0.0]  # by type, mean of the logarithm
        self._quiet = [0] * _BINS
        self._moving = [0] * _BINS
        self._threshold = 1.0
        self._trusted = False
        self._peak = 0.0  # highest level since the last told()
        self._sizes: list[tuple[int, float]] = []  # (type, log2 of the size) since then
        self._told = 0

    @property
    def is_trusted(self) -> bool:
        return self._trusted

    def look(self, unit: AccessUnit) -> Activity:
        """What one access unit says; in decoding order."""
        kind = type_of(unit)
        size = log2(unit.payload.size_bytes + 32)  # a skipped picture has some 10 bytes: 5 more mean nothing
        quiet = self._quiet_size[kind]
        level = size - quiet if quiet else 0.0
        if kind is Type.KEYFRAME:  # as large as the scene is rich, so it says nothing
            return Activity(kind, unit.payload.size_bytes, level, True)
        if len(self._sizes) < 256:
            self._sizes.append((kind, size))
        self._peak = max(self._peak, level)
        return Activity(kind, unit.payload.size_bytes, level, not self._trusted or level > self._threshold)

    def told(self, is_moving: bool) -> None:
        """What the motion stage found on a frame, for the access units since the one before."""
        if not self._sizes:
            return
        if not is_moving:
            for kind, size in self._sizes:
                quiet = self._quiet_size[kind]
                self._quiet_size[kind] = quiet + 0.03 * (size - quiet) if quiet else size
        counts = self._moving if is_moving else self._quiet
        counts[min(max(_MIDDLE + int(self._peak / _STEP), 0), _BINS - 1)] += 1
        self._sizes, self._peak = [], 0.0
        self._told += 1
        if self._told % 25 == 0:
            self._settle()

    def skipped(self) -> None:
        """The access units since the last told() were not decoded, so nobody knows what was on them."""
        self._sizes, self._peak = [], 0.0

    def _settle(self) -> None:
        quiet, moving = sum(self._quiet), sum(self._moving)
        if quiet + moving > _FORGET_AT:
            self._quiet = [count // 2 for count in self._quiet]
            self._moving = [count // 2 for count in self._moving]
            quiet, moving = sum(self._quiet), sum(self._moving)
        self._trusted = False
        if quiet < QUIET_LEAST:
            return
        below, place = 0, 0
        while place < _BINS and below < QUIET_PASSED * quiet:
            below += self._quiet[place]
            place += 1
        self._threshold = (place - _MIDDLE) * _STEP
        seen = sum(self._moving[place:])
        self._trusted = moving < MOVING_LEAST or seen >= MOVING_SEEN * moving

    def facts(self) -> dict[str, object]:
        return {"trusted": self._trusted, "threshold": round(self._threshold, 2), "quiet": sum(self._quiet), "moving": sum(self._moving)}
