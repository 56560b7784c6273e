"""Things followed from frame to frame: each goes on as it went, and takes the detection that fits best.

A track is told after one strong detection or three weak ones, carried on for a second while it is missed, and kept in mind for some seconds more,
so that somebody behind a pillar keeps his number. Whether it has ever moved by itself is asked in moved.py.

Pure: numbers in, numbers out. Nothing is random, ties are broken by number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import exp, hypot

from nvr.detect.assignment import IMPOSSIBLE, assignment
from nvr.detect.moved import judge
from nvr.detect.thing import FIRST_DETECTIONS, FRAMES_MOST_S, SHOWN_S, Scene, Thing, core
from nvr.scene import MOVING, VEHICLES, Detection, Rect, Track, distance

BEGIN_SCORE = 0.5  # a new thing; measured on real clips, where false ones gather just below
MOVING_SCORE = 0.35  # a new vehicle that moves
MOVING_SHARE = 0.12  # of its rect that changed
GO_ON_SCORE = 0.3  # enough to go on with a thing that is known
SURE_BY = 0.45  # sum of what scores are above GO_ON_SCORE: one of 0.75 is enough, or two of 0.55, or three of 0.5
BLOB_VOTE = 0.12  # for MOVING: a thing is what the model says when it says so on every third frame, and weakly
KEPT_S = 5.0  # missed and not told, but remembered
TENTATIVE_S = 0.7
STANDS_S = 20.0  # missed where the scene is not empty, by something that stood: still told for so long
GONE_AT_ONCE = 0.02  # of the picture: whoever was going out and is missed this near the edge has left
WEAK_COST = 0.1  # against a sure detection that fits as well
BESIDE_COST = 4.0  # more than any sure detection costs
PART_SHARE = 0.8  # of its area within another: then it is a part of that
LOOK_S = 0.2  # the filter's gains are for so many seconds between two looks
PLACE_NS = 150_000_000  # places of a thing are noted at most so often: steps are asked for, and those take time


class Tracker:
    """The things of one camera."""

    def __init__(self, aspect: float = 16 / 9) -> None:
        """`aspect`: width / height of the picture; may be changed when the camera's does."""
        self.aspect = aspect
        self._things: list[Thing] = []
        self._number = 0
        self._at_ns = -1

    def update(self, found: Sequence[Detection], at_ns: int, scene: Scene) -> None:
        """Take one frame that was looked at; `found` may hold MOVING ones, which never become something better."""
        gone_s = self._predict(at_ns)
        free = list(self._things)
        objects = [each for each in found if each.kind != MOVING]
        sure = [each for each in objects if each.score >= BEGIN_SCORE or self._is_on_its_way(each, scene)]
        known = {id(each) for each in sure}
        # Weak ones only go on, but there they count as well: a model is often surer of a truck's cab than of the truck.
        going_on = [each for each in objects if each.score >= GO_ON_SCORE or id(each) in known]
        left, free = self._assign(
            going_on,
            free,
            lambda thing, each: self._cost(thing, each) if id(each) in known else self._weak_cost(thing, each, sure),
            gone_s,
        )
        new = [each for each in left if id(each) in known]
        blobs = [each for each in found if each.kind == MOVING and not self._is_covered(each.rect, objects)]
        new_blobs, free = self._assign(blobs, free, self._cost_of_blob, gone_s)
        self._miss(free, gone_s, scene)
        for each in (*new, *new_blobs):
            if not self._is_double(each):
                self._begin(each, at_ns)
        judge(self._things, at_ns, gone_s, scene, self.aspect)

    def hold(self, at_ns: int) -> None:
        """A frame on which nothing moves was not looked at: everything stays where it is, and who had gone is forgotten in time."""
        gone_s = self._gone_s(at_ns)
        for thing in self._things:
            thing.vx = thing.vy = 0.0
            if not self._is_told(thing):
                thing.missed_s += min(gone_s, FRAMES_MOST_S)
        self._things = [thing for thing in self._things if thing.missed_s <= _kept_s(thing)]

    def jump(self, at_ns: int) -> None:
        """Pictures were missing: whoever was there may be anywhere, so only the standing ones keep their number."""
        self._things = [thing for thing in self._things if hypot(thing.vx, thing.vy) < 0.02 and thing.is_confirmed]
        self.hold(at_ns)

    def tracks(self) -> tuple[Track, ...]:
        """All that are told now, by number."""
        told = [thing for thing in self._things if thing.is_confirmed and self._is_told(thing)]
        return tuple(self._track(thing) for thing in sorted(told, key=lambda thing: thing.number))

    # -- going on ------------------------------------------------------------------------------------

    def _gone_s(self, at_ns: int) -> float:
        """Since the frame before; from now on `at_ns` is that."""
        gone_s = max((at_ns - self._at_ns) / 1e9, 0.0) if self._at_ns >= 0 else 0.0
        self._at_ns = at_ns
        return gone_s

    def _predict(self, at_ns: int) -> float:
        gone_s = self._gone_s(at_ns)
        step_s = min(gone_s, 1.0)
        for thing in self._things:
            slowing = exp(-thing.missed_s)  # who is not seen may have stopped
            thing.x += thing.vx * step_s * slowing
            thing.y += thing.vy * step_s * slowing
        return gone_s

    def _assign(
        self, found: Sequence[Detection], free: list[Thing], cost: Callable[[Thing, Detection], float], gone_s: float
    ) -> tuple[list[Detection], list[Thing]]:
        """Give each thing at most one detection; what is left of both."""
        taken, used = set(), set()
        for row, column in assignment([[cost(thing, each) for each in found] for thing in free]):
            self._correct(free[row], found[column], gone_s)
            taken.add(row)
            used.add(column)
        return (
            [each for place, each in enumerate(found) if place not in used],
            [thing for place, thing in enumerate(free) if place not in taken],
        )

    def _cost(self, thing: Thing, each: Detection) -> float:
        """0 for the same rect; IMPOSSIBLE when they can hardly be the same thing."""
        kind = thing.kind
        if kind == MOVING and not thing.is_confirmed:
            penalty = 0.1
        elif kind == each.kind:
            penalty = 0.0
        elif (kind in VEHICLES and each.kind in VEHICLES) or kind == MOVING:
            penalty = 0.15
        else:
            return IMPOSSIBLE
        rect = thing.rect
        ratio = (thing.width * thing.height) / each.rect.area
        if not 0.2 < ratio < 5.0:
            return IMPOSSIBLE
        iou = rect.iou(each.rect)
        away = distance((thing.x, thing.y), each.rect.centre, self.aspect) / thing.size(self.aspect)
        reach = 0.5 + 0.5 * min(thing.missed_s, 1.0)
        if iou < 0.15 and (away > reach or not 0.4 < ratio < 2.5):
            return IMPOSSIBLE
        return (1.0 - iou) + 0.5 * min(away, 2.0) + penalty + (0.3 if thing.missed_s > SHOWN_S else 0.0)

    def _weak_cost(self, thing: Thing, each: Detection, sure: Sequence[Detection]) -> float:
        """A weak detection only goes on where one is expected, and says little of the kind of vehicle.

        It is taken before a sure one only if that is a part of it, a truck's cab. Beside it the sure one would be left to nobody and begin
        anew: one person with two numbers, of which the older stands where he was and meets whoever comes next.
        """
        same = thing.kind == each.kind or (thing.kind in VEHICLES and each.kind in VEHICLES)
        if not same or thing.missed_s > SHOWN_S + 1.0 or thing.rect.iou(each.rect) < 0.3:
            return IMPOSSIBLE
        is_new = thing.detections < FIRST_DETECTIONS  # nobody knows how large it is
        is_beside = any(
            (is_new or one.rect.overlap(each.rect) < PART_SHARE * one.rect.area) and self._cost(thing, one) < IMPOSSIBLE
            for one in sure
        )
        return self._cost(thing, each) + (BESIDE_COST if is_beside else WEAK_COST)

    def _cost_of_blob(self, thing: Thing, each: Detection) -> float:
        """Blobs carry MOVING things on, and others only where they fit well: a shadow makes a blob larger than its owner."""
        if thing.kind == MOVING:
            return self._cost(thing, each)
        if thing.missed_s > SHOWN_S or not thing.is_confirmed:
            return IMPOSSIBLE
        iou = thing.rect.iou(each.rect)
        return 1.0 - iou if iou >= 0.5 else IMPOSSIBLE

    def _correct(self, thing: Thing, each: Detection, gone_s: float) -> None:
        """Alpha-beta filter: place follows quickly, size and speed slowly."""
        rect = each.rect
        x, y = rect.centre
        dx, dy = x - thing.x, y - thing.y
        alpha, beta = (0.7, 0.35) if thing.detections > 2 else (0.8, 0.7)
        share = min((gone_s + thing.missed_s) / LOOK_S, 1.0)  # many looks a second each say less
        alpha, beta, gamma = (1.0 - (1.0 - gain) ** share for gain in (alpha, beta, 0.5))
        thing.x += alpha * dx
        thing.y += alpha * dy
        if gone_s > 0:
            step_s = max(gone_s + thing.missed_s, 0.05)
            thing.vx += beta * dx / step_s
            thing.vy += beta * dy / step_s
        thing.width += gamma * (rect.width - thing.width)
        thing.height += gamma * (rect.height - thing.height)
        thing.seen_ns, thing.missed_s = self._at_ns, 0.0
        thing.detections += 1
        thing.scores += each.score
        thing.votes[each.kind] = thing.votes.get(each.kind, 0.0) + (each.score if each.kind != MOVING else BLOB_VOTE)
        if thing.detections <= FIRST_DETECTIONS:
            share = 1 / thing.detections
            thing.start = (thing.start[0] + (x - thing.start[0]) * share, thing.start[1] + (y - thing.start[1]) * share)
        if self._at_ns - thing.place_ns >= PLACE_NS:
            thing.places.append((x, y))
            thing.place_ns = self._at_ns
        self._confirm(thing, each)

    def _miss(self, things: Sequence[Thing], gone_s: float, scene: Scene) -> None:
        for thing in things:
            thing.missed_s += min(gone_s, FRAMES_MOST_S)
            gone = not 0.0 <= thing.x <= 1.0 or not 0.0 <= thing.y <= 1.0 or self._is_leaving(thing)
            kept_s = KEPT_S if thing.is_confirmed else TENTATIVE_S
            if self._still_stands(thing, scene):
                kept_s = STANDS_S + KEPT_S
                thing.missed_s = (
                    min(thing.missed_s, SHOWN_S) if (self._at_ns - thing.seen_ns) / 1e9 < STANDS_S else thing.missed_s
                )
            if gone or thing.missed_s > kept_s:
                self._things.remove(thing)

    def _is_leaving(self, thing: Thing) -> bool:
        rect, step_s = thing.rect, 0.5
        ahead = rect.moved(thing.vx * step_s, thing.vy * step_s)
        return (
            (thing.vx < -0.03 and ahead.left < GONE_AT_ONCE and rect.right < 0.35)
            or (thing.vx > 0.03 and ahead.right > 1 - GONE_AT_ONCE and rect.left > 0.65)
            or (thing.vy < -0.03 and ahead.top < GONE_AT_ONCE and rect.bottom < 0.35)
            or (thing.vy > 0.03 and ahead.bottom > 1 - GONE_AT_ONCE and rect.top > 0.65)
        )

    def _still_stands(self, thing: Thing, scene: Scene) -> bool:
        """Somebody who stood there is missed by the model, and the place looks as little empty as before."""
        return (
            thing.has_moved
            and thing.kind != MOVING
            and thing.detections >= 2 * FIRST_DETECTIONS
            and thing.speed(self.aspect) < 0.1
            and scene.foreground(core(thing.rect)) > 0.5
            and scene.moving(thing.rect) < 0.05
        )

    @staticmethod
    def _is_on_its_way(each: Detection, scene: Scene) -> bool:
        """The model is not sure, but something moves just there: what moves on a road is a vehicle more often than not."""
        return each.kind in VEHICLES and each.score >= MOVING_SCORE and scene.moving(each.rect) > MOVING_SHARE

    # -- beginning -----------------------------------------------------------------------------------

    def _begin(self, each: Detection, at_ns: int) -> None:
        self._number += 1
        x, y = each.rect.centre
        thing = Thing(self._number, x, y, each.rect.width, each.rect.height, at_ns, at_ns, at_ns)
        thing.start = thing.last_place = (x, y)
        thing.scores = each.score
        thing.votes[each.kind] = each.score if each.kind != MOVING else BLOB_VOTE
        thing.places.append((x, y))
        thing.place_ns = at_ns
        self._confirm(thing, each)
        self._things.append(thing)

    @staticmethod
    def _confirm(thing: Thing, each: Detection) -> None:
        # A blob's score is no probability: three of them are asked for.
        thing.sure += SURE_BY / FIRST_DETECTIONS if each.kind == MOVING else each.score - GO_ON_SCORE
        thing.is_confirmed = thing.is_confirmed or thing.sure > SURE_BY - 1e-9

    def _is_double(self, each: Detection) -> bool:
        """A second rect of a thing that is known and was seen on this frame: its half, or it with its shadow."""
        for thing in self._things:
            if thing.missed_s > SHOWN_S:
                continue
            same = thing.kind == each.kind or (thing.kind in VEHICLES and each.kind in VEHICLES)
            if not same and each.kind != MOVING and thing.kind != MOVING:
                continue
            common = thing.rect.overlap(each.rect)
            least = min(thing.width * thing.height, each.rect.area)
            if common > (0.3 if each.kind == MOVING or each.score < BEGIN_SCORE else PART_SHARE) * least:
                if thing.kind == MOVING and each.kind != MOVING:
                    continue  # the model knows better than the blob
                return True
        return False

    @staticmethod
    def _is_covered(rect: Rect, objects: Sequence[Detection]) -> bool:
        return any(rect.overlap(each.rect) > 0.4 * min(rect.area, each.rect.area) for each in objects)

    # -- telling -------------------------------------------------------------------------------------

    @staticmethod
    def _is_told(thing: Thing) -> bool:
        return thing.missed_s <= SHOWN_S

    def _track(self, thing: Thing) -> Track:
        kind = thing.kind
        return Track(
            number=thing.number,
            kind=kind,
            score=round(thing.scores / thing.detections, 4),
            rect=_rounded(thing.rect.clipped()),
            first_ns=thing.first_ns,
            seen_ns=thing.seen_ns,
            detections=thing.detections,
            velocity=(round(thing.vx, 5), round(thing.vy, 5)),
            speed=round(thing.speed(self.aspect), 5),
            has_moved=thing.has_moved,
            moved_ns=thing.moved_ns if thing.has_moved else thing.first_ns,
            kind_share=round(thing.votes[kind] / sum(thing.votes.values()), 4),
        )


def _kept_s(thing: Thing) -> float:
    """While nothing is looked at: who had not moved for a while is more likely missed by the model than gone."""
    has_stood = thing.seen_ns - thing.moved_ns > KEPT_S * 1e9
    return KEPT_S + STANDS_S if has_stood else KEPT_S


def _rounded(rect: Rect) -> Rect:
    return Rect(round(rect.left, 5), round(rect.top, 5), round(rect.right, 5), round(rect.bottom, 5))
