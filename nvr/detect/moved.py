"""Whether a thing has *ever moved by itself*: models see persons in posters and coats, and half of all cars in a picture are parked.

It has moved when

* it went away from where it began, by half of its own size, and the picture changed there; or
* it stands where the scene was known to be empty: so it came; or
* it is a person who fidgets: the picture keeps changing inside its rect and not around it.

Pure: what is found is noted in the things themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import exp

from nvr.detect.thing import FIRST_DETECTIONS, FRAMES_MOST_S, SHOWN_S, Scene, Thing, core
from nvr.scene import MOVING, PERSON, Rect, distance

MOVED_BY = 0.5  # of its own size (root of its area, in picture heights)
STEP_BY = 0.08  # of its own size
STEPS = 3
CAME_SHARE = 0.4  # of its rect that differs from the empty scene
CAME_FRAMES = 4
FIDGETS_S = 2.0  # seconds with movement inside, of the last minute; a lively one counts up to five times


def judge(things: Sequence[Thing], at_ns: int, gone_s: float, scene: Scene, aspect: float) -> None:
    """Mark those of `things` seen on this frame that have moved now; `aspect` is width / height of the picture."""
    frame_s = min(gone_s, FRAMES_MOST_S)
    for thing in things:
        if thing.seen_ns != at_ns:
            continue
        rect = thing.rect
        moving = scene.moving(rect)
        if moving > 0.08:
            thing.changed_s += frame_s
        if not thing.has_moved:
            thing.has_moved = (
                _went(thing, things, aspect)
                or _came(thing, things, scene, aspect)
                or _fidgets(thing, things, scene, aspect, moving, frame_s)
            )
            if thing.has_moved:
                thing.moved_ns, thing.last_place = at_ns, (thing.x, thing.y)
        elif distance((thing.x, thing.y), thing.last_place, aspect) > 0.25 * thing.size(aspect) or (
            moving > 0.3 and thing.speed(aspect) > 0.05
        ):
            thing.moved_ns, thing.last_place = at_ns, (thing.x, thing.y)


def _went(thing: Thing, things: Sequence[Thing], aspect: float) -> bool:
    """Its last places are all away from where it began."""
    if thing.detections < FIRST_DETECTIONS + 1 or thing.changed_s < 0.3:
        return False
    size = thing.size(aspect)
    far = MOVED_BY * size * (2 if _crossed_by_another(thing, things, aspect, share=0.3) else 1)
    places = list(thing.places)
    if not all(distance(place, thing.start, aspect) > far for place in places[-2:]):
        return False
    # Where cars stand close together a rect jumps to the neighbour and stays there; whatever goes makes several steps.
    (x0, y0), (x1, y1) = thing.start, places[-1]
    away = distance(thing.start, places[-1], aspect)
    along = [((x - x0) * (x1 - x0) * aspect**2 + (y - y0) * (y1 - y0)) / away for x, y in places]
    return sum(after - before > STEP_BY * size for before, after in pairwise(along)) >= STEPS


def _came(thing: Thing, things: Sequence[Thing], scene: Scene, aspect: float) -> bool:
    if thing.kind == MOVING:  # a blob is nothing but what differs: a wet leaf, a new shadow
        return False
    is_here = scene.known_s > 15.0 and scene.foreground(core(thing.rect)) > CAME_SHARE
    if is_here and not _crossed_by_another(thing, things, aspect):
        thing.came_frames += 1
    else:
        thing.came_frames = max(thing.came_frames - 1, 0)
    return thing.came_frames >= CAME_FRAMES


def _fidgets(thing: Thing, things: Sequence[Thing], scene: Scene, aspect: float, moving: float, frame_s: float) -> bool:
    """Movement inside, three times as dense as around it, again and again."""
    if thing.kind != PERSON:
        return False
    thing.fidget_s *= exp(-frame_s / 60.0)
    rect = thing.rect
    wide = Rect(
        rect.left - 0.25 * rect.width, rect.top - 0.1 * rect.height, rect.right + 0.25 * rect.width, rect.bottom
    ).clipped()
    around_area = wide.area - rect.clipped().area
    around = (
        max(scene.moving(wide) * wide.area - moving * rect.clipped().area, 0.0) / around_area
        if around_area > 0
        else 0.0
    )
    if moving > 0.01 and moving > 3 * around and not _crossed_by_another(thing, things, aspect):
        thing.fidget_s += frame_s * min(max(moving / 0.03, 1.0), 5.0)
    return thing.fidget_s >= FIDGETS_S


def _crossed_by_another(thing: Thing, things: Sequence[Thing], aspect: float, share: float = 0.1) -> bool:
    """Something else covers a share of it, so what changes there need not be its own doing."""
    rect = thing.rect
    least = share * rect.area
    return any(
        other is not thing
        and other.missed_s <= SHOWN_S
        and other.rect.overlap(rect) > least
        and (other.kind != MOVING or other.speed(aspect) > 0.05)
        for other in things
    )
