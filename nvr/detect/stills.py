"""The still of an event: the frame with its zone, and rects around what it is about, as a JPEG."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from nvr.detect.decoder import Pixels, jpeg, resized
from nvr.scene import Line, Point, Rect, Track, Zone

WIDEST_PX = 960  # a still is looked at on a phone, and sent over a slow link
_CHOSEN = (255, 196, 0)  # things the event is about
_OTHER = (190, 205, 215)
_PLACE = (64, 200, 235)


def still(rgb: Pixels, tracks: Iterable[Track], chosen: frozenset[int], place: Zone | Line | None = None) -> bytes:
    """The JPEG of an event: its zone or line, all tracks thin, those it is about bright. Privacy masks are black in `rgb` already."""
    height, width = rgb.shape[:2]
    if width > WIDEST_PX:
        height, width = max(2, round(height * WIDEST_PX / width)), WIDEST_PX
    picture = resized(rgb, width, height).copy()
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
