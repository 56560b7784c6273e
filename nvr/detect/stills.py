"""What leaves the box of a frame: privacy masks made black, rects drawn around what an event is about, as a JPEG."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from nvr.detect.decoder import Pixels, jpeg, resized
from nvr.scene import Line, Point, Rect, Track, Zone

WIDEST_PX = 960  # a still is looked at on a phone, and sent over a slow link
_CHOSEN = (255, 196, 0)  # things the event is about
_OTHER = (190, 205, 215)
_PLACE = (64, 200, 235)


class Masks:
    """The privacy masks of one camera, rastered once for each picture size."""

    def __init__(self, zones: Sequence[Zone]) -> None:
        self._zones = tuple(zones)
        self._known: dict[tuple[int, int], NDArray[np.bool_]] = {}

    def applied(self, rgb: Pixels) -> Pixels:
        """A picture with the masks black; the same one where there are none."""
        if not self._zones:
            return rgb
        size = rgb.shape[:2]
        if size not in self._known:
            self._known = {size: covered(self._zones, *size)}
        masked = rgb.copy()
        masked[self._known[size]] = 0
        return masked


def covered(zones: Iterable[Zone], height: int, width: int) -> NDArray[np.bool_]:
    """Which pixels lie in any of the zones; one that is touched is covered, so that no edge shines through."""
    mask = np.zeros((height, width), np.bool_)
    xs = (np.arange(width) + 0.5) / width
    ys = (np.arange(height) + 0.5) / height
    for zone in zones:
        inside = np.zeros((height, width), np.bool_)
        before = zone.corners[-1]
        for corner in zone.corners:
            if corner[1] != before[1]:
                rows = (corner[1] > ys) != (before[1] > ys)
                across = (before[0] - corner[0]) * (ys - corner[1]) / (before[1] - corner[1]) + corner[0]
                inside[rows] ^= xs[None, :] < across[rows, None]
            before = corner
        mask |= inside
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    grown[:, 1:] |= mask[:, :-1]
    grown[:, :-1] |= mask[:, 1:]
    return grown


def still(
    rgb: Pixels, masks: Masks, tracks: Iterable[Track], chosen: frozenset[int], place: Zone | Line | None = None
) -> bytes:
    """The JPEG of an event: its zone or line, all tracks thin, those it is about bright."""
    height, width = rgb.shape[:2]
    if width > WIDEST_PX:
        height, width = max(2, round(height * WIDEST_PX / width)), WIDEST_PX
    picture = masks.applied(resized(rgb, width, height)).copy()
    if isinstance(place, Line):
        _stroke(picture, place.start, place.end, _PLACE)
    elif place is not None:
        for a, b in zip(place.corners, place.corners[1:] + place.corners[:1], strict=True):
            _stroke(picture, a, b, _PLACE)
    for track in sorted(tracks, key=lambda each: each.number in chosen):
        is_chosen = track.number in chosen
        _frame(picture, track.rect.clipped(), _CHOSEN if is_chosen else _OTHER, 3 if is_chosen else 1)
    return jpeg(picture)


def _frame(picture: Pixels, rect: Rect, colour: tuple[int, int, int], width_px: int) -> None:
    height, width = picture.shape[:2]
    left, right = int(rect.left * width), min(max(int(rect.right * width), int(rect.left * width) + 1), width)
    top, bottom = int(rect.top * height), min(max(int(rect.bottom * height), int(rect.top * height) + 1), height)
    picture[top : top + width_px, left:right] = colour
    picture[max(bottom - width_px, 0) : bottom, left:right] = colour
    picture[top:bottom, left : left + width_px] = colour
    picture[top:bottom, max(right - width_px, 0) : right] = colour


def _stroke(picture: Pixels, start: Point, end: Point, colour: tuple[int, int, int]) -> None:
    height, width = picture.shape[:2]
    steps = int(max(abs(end[0] - start[0]) * width, abs(end[1] - start[1]) * height)) + 2
    xs = np.clip(np.linspace(start[0], end[0], steps) * width, 0, width - 1).astype(int)
    ys = np.clip(np.linspace(start[1], end[1], steps) * height, 0, height - 1).astype(int)
    picture[ys, xs] = colour
    picture[np.minimum(ys + 1, height - 1), xs] = colour
