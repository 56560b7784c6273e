"""Which parts of the picture the model sees enlarged: zones that are small in the picture, where things are few pixels high.

A model looks at 300 x 300 pixels. A motorcycle that is 4 % of the picture's height is 12 of these, and not found; in a crop
of a third of the picture it is 36.
"""

from __future__ import annotations

from collections.abc import Sequence

from nvr.scene import Detection, Rect, Zone

SMALL_AREA = 0.45  # of the picture; the crop of a larger zone gains less than a factor of 1.5
MARGIN = 0.15  # of the zone's size on every side: things stand out of the zone that their feet are in
HEAD_ROOM = 0.3  # above it, for the same reason
EDGE = 0.01  # of the crop: a rect that ends there was cut through


def crops(zones: Sequence[Zone], aspect: float, *, most: int = 2) -> tuple[Rect, ...]:
    """Rects to look at enlarged, square in pixels where the picture allows it; the smallest zones first."""
    found: list[Rect] = []
    for zone in sorted(zones, key=lambda zone: (zone.rect.area, zone.name)):
        rect = zone.rect
        wide = Rect(
            rect.left - MARGIN * rect.width,
            rect.top - HEAD_ROOM * rect.height,
            rect.right + MARGIN * rect.width,
            rect.bottom + MARGIN * rect.height,
        )
        crop = _squared(wide, aspect)
        if crop.area > SMALL_AREA or any(crop.overlap(other) > 0.8 * crop.area for other in found):
            continue
        found.append(crop)
    return tuple(found[:most])


def _squared(rect: Rect, aspect: float) -> Rect:
    """As wide as high in pixels, by growing; moved into the picture."""
    width, height = rect.width * aspect, rect.height
    side = max(width, height, 0.2)
    half_x, half_y = min(side / aspect, 1.0) / 2, min(side, 1.0) / 2
    x, y = rect.centre
    x, y = min(max(x, half_x), 1 - half_x), min(max(y, half_y), 1 - half_y)
    return Rect(x - half_x, y - half_y, x + half_x, y + half_y)


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
