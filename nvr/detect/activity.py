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
QUIET_AFTER = 10  # quiet frames, 2 s at 5 a second: before that an encoder is still tidying up what movement left
ONSET_FRAMES = 5  # of a movement: within so many frames sizes must have told of it
QUIET_LEAST = 60  # such frames before sizes are believed
ONSETS_LEAST = 3  # movements, too
QUIET_PASSED = 0.97  # of quiet frames must lie below the threshold: the others cost decoding for nothing
ONSETS_SEEN = 0.95  # of movements must have shown themselves above it, or sizes are not believed
_FORGET_AT = 20_000  # quiet frames, an hour or more; then what was learned counts half


class Type(IntEnum):
    """Of pictures, as far as their sizes differ."""

    KEYFRAME = 0
    REFERENCE = 1
    DISPOSABLE = 2  # no other picture needs it: nal_ref_idc 0 (H.264 7.4.1)
    AFTER_KEYFRAME = 3  # mends what the keyframe did coarsely: often ten times as large as the ones behind it


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
        self._quiet_size = [0.0] * len(Type)  # by type, mean of the logarithm
        self._quiet = [0.0] * _BINS  # histogram of levels; of frames while nothing has moved for a while
        self._onsets = [0.0] * _BINS  # of the highest level at the beginning of each movement
        self._threshold = 1.0
        self._trusted = False
        self._peak = 0.0  # highest level since the last told()
        self._sizes: list[tuple[int, float]] = []  # (type, log2 of the size) since then
        self._quiet_frames = 0
        self._onset: list[float] = []  # peaks of the movement that has just begun
        self._is_onset = False
        self._is_after_keyframe = False
        self._told = 0

    @property
    def is_trusted(self) -> bool:
        return self._trusted

    def look(self, unit: AccessUnit) -> Activity:
        """What one access unit says; in decoding order."""
        kind = type_of(unit)
        if kind is Type.REFERENCE and self._is_after_keyframe:
            kind = Type.AFTER_KEYFRAME
        self._is_after_keyframe = kind is Type.KEYFRAME
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
        if is_moving:
            self._is_onset = self._is_onset or self._quiet_frames >= QUIET_AFTER
            self._quiet_frames = 0
        else:
            self._quiet_frames += 1
            for kind, size in self._sizes:
                quiet = self._quiet_size[kind]
                self._quiet_size[kind] = quiet + 0.03 * (size - quiet) if quiet else size
            if self._quiet_frames > QUIET_AFTER:
                self._quiet[_bin(self._peak)] += 1
        if self._is_onset:
            self._onset.append(self._peak)
            if len(self._onset) == ONSET_FRAMES:
                self._onsets[_bin(max(self._onset))] += 1
                self._onset, self._is_onset = [], False
        self._sizes, self._peak = [], 0.0
        self._told += 1
        if self._told % 25 == 0:
            self._settle()

    def skipped(self) -> None:
        """This access unit was not decoded. If the next keyframe shows movement, sizes should have told of it."""
        self._sizes = []
        self._quiet_frames = max(self._quiet_frames, QUIET_AFTER)

    def _settle(self) -> None:
        if sum(self._quiet) > _FORGET_AT:
            self._quiet = [count / 2 for count in self._quiet]
            self._onsets = [count / 2 for count in self._onsets]
        quiet, onsets = sum(self._quiet), sum(self._onsets)
        self._trusted = False
        if quiet < QUIET_LEAST:
            return
        below, place = 0.0, 0
        while place < _BINS and below < QUIET_PASSED * quiet:
            below += self._quiet[place]
            place += 1
        self._threshold = (place - _MIDDLE) * _STEP
        self._trusted = onsets >= ONSETS_LEAST and sum(self._onsets[place:]) >= ONSETS_SEEN * onsets

    def facts(self) -> dict[str, object]:
        return {
            "trusted": self._trusted,
            "threshold": round(self._threshold, 2),
            "quiet": round(sum(self._quiet)),
            "movements": round(sum(self._onsets)),
        }


def _bin(level: float) -> int:
    return min(max(_MIDDLE + int(level / _STEP), 0), _BINS - 1)
