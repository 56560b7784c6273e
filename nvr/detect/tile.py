"""Which parts of the picture the model sees enlarged: zones that are small in the picture, where things are few pixels high.

A model looks at 300 x 300 pixels. A motorcycle that is 4 % of the picture's height is 12 of these, and not found; in a crop
of a third of the picture it is 36. A zone that is wide and low, as a road far away is, is cut into squares beside each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from nvr.scene import Detection, Rect, Zone

SMALL_AREA = 0.45  # of the picture; a larger crop gains less than a factor of 1.5
SIDE_LEAST = 0.2  # of the picture's height; smaller ones have no more pixels to show
MARGIN = 0.15  # of the zone's size on every side: things stand out of the zone that their feet are in
HEAD_ROOM = 0.3  # above it, for the same reason
OVERLAP = 0.3  # of a square's side at least: what one square cuts through is whole in the next
EDGE = 0.03  # of the crop: a rect that ends there was cut through; a model's rects are no more exact than this


def crops(zones: Sequence[Zone], aspect: float, *, most: int = 3) -> tuple[Rect, ...]:
    """Rects to look at enlarged, square in pixels where the picture allows it; the smallest zones first.

    A zone is covered as a whole or left out, so that nothing in it is seen better than the rest.
    """
    found: list[Rect] = []
    for zone in sorted(zones, key=lambda zone: (zone.rect.area, zone.name)):
        rect = zone.rect
        wide = Rect(
            rect.left - MARGIN * rect.width,
            rect.top - HEAD_ROOM * rect.height,
            rect.right + MARGIN * rect.width,
            rect.bottom + MARGIN * rect.height,
        )
        new = [
            crop
            for crop in _squares(wide.clipped(), aspect)
            if all(crop.overlap(other) <= 0.8 * crop.area for other in found)
        ]
        if any(crop.area > SMALL_AREA for crop in new) or len(found) + len(new) > most:
            continue
        found += new
    return tuple(found)


def _squares(rect: Rect, aspect: float) -> list[Rect]:
    """As wide as high in pixels, as many beside or above each other as cover the rect; inside the picture."""
    width, height = rect.width * aspect, rect.height  # picture heights
    side = min(max(min(width, height), SIDE_LEAST), 1.0, aspect)
    count = max(1, ceil((max(width, height) - OVERLAP * side) / ((1 - OVERLAP) * side) - 1e-9))
    single = min(max(width, height, SIDE_LEAST), 1.0, aspect)
    if count == 2 and single / side < 1.5:  # one that is a little larger costs half
        side, count = single, 1
    half_x, half_y = side / aspect / 2, side / 2
    x, y = rect.centre
    found = []
    for number in range(count):
        part = 0.5 if count == 1 else number / (count - 1)
        if width >= height and count > 1:
            x = rect.left + half_x + part * (rect.width - 2 * half_x)
        elif count > 1:
            y = rect.top + half_y + part * (rect.height - 2 * half_y)
        cx, cy = min(max(x, half_x), 1 - half_x), min(max(y, half_y), 1 - half_y)
        found.append(Rect(cx - half_x, cy - half_y, cx + half_x, cy + half_y))
    return found


def whole_in(found: Sequence[Detection], crop: Rect) -> list[Detection]:
    """Without those that the crop's edge cuts through; at the picture's own edge they are as whole as they can be."""
    dx, dy = EDGE * crop.width, EDGE * crop.height
    return [
        each
        for each in found
        if (each.rect.left > crop.left + dx or crop.left <= 0.001)
        and (each.rect.top > crop.top + dy or crop.top <= 0.001)
        and (each.rect.right < crop.right - dx or crop.right >= 0.999)
        and (each.rect.bottom < crop.bottom - dy or crop.bottom >= 0.999)
    ]
