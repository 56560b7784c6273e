"""What was seen, as values: rects, detections, tracks, facts for each zone, events.

Nothing here looks at a picture or asks for the time. `detect/` makes `Facts` from pixels, one for each sampled frame of a
camera; `rules/` turn them into states and events. Both are pure from there on and run on media time, so the same film
gives the same answers on every machine, at any speed.

Places are fractions of the picture, from the upper left: (0, 0) to (1, 1). Times are ns. A length or a speed that must
not depend on the picture's shape is in picture heights; `Facts.height_px` turns it into pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

Point = tuple[float, float]

# What a thing is, as people are told. A model's own labels are mapped to these by its card; others are left out.
PERSON = "person"
CAR = "car"
TRUCK = "truck"
BUS = "bus"
TWO_WHEELER = "two-wheeler"  # motorcycle against bicycle is not reliable, so it is not told
ANIMAL = "animal"
MOVING = "moving"  # something that moves, seen without a model, or by a model that does not know it

VEHICLES = frozenset((CAR, TRUCK, BUS, TWO_WHEELER))
KINDS = (PERSON, CAR, TRUCK, BUS, TWO_WHEELER, ANIMAL, MOVING)


@dataclass(frozen=True, slots=True)
class Zone:
    name: str
    corners: tuple[Point, ...]  # fractions of width and height, from the upper left

    def contains(self, point: Point) -> bool:
        """Whether a point lies inside; what lies on an edge counts once for two zones that share it."""
        x, y = point
        inside = False
        before = self.corners[-1]
        for corner in self.corners:
            if (corner[1] > y) != (before[1] > y):
                across = (before[0] - corner[0]) * (y - corner[1]) / (before[1] - corner[1]) + corner[0]
                if x < across:
                    inside = not inside
            before = corner
        return inside

    @property
    def rect(self) -> Rect:
        """The smallest rect around it."""
        xs, ys = [x for x, _ in self.corners], [y for _, y in self.corners]
        return Rect(min(xs), min(ys), max(xs), max(ys))


@dataclass(frozen=True, slots=True)
class Line:
    """Has a direction: who walks from `start` to `end` has a left and a right hand."""

    name: str
    start: Point
    end: Point

    def side(self, point: Point) -> float:
        """Positive on the right hand, negative on the left one, 0 on the line that goes on for ever."""
        (x0, y0), (x1, y1) = self.start, self.end
        return (x1 - x0) * (point[1] - y0) - (y1 - y0) * (point[0] - x0)


@dataclass(frozen=True, slots=True)
class Rect:
    """A rect in the picture; right and bottom are not part of it."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.bottom - self.top

    @property
    def area(self) -> float:
        return max(self.width, 0.0) * max(self.height, 0.0)

    @property
    def centre(self) -> Point:
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

    @property
    def foot(self) -> Point:
        """Where it stands on the ground: the middle of its lower edge, just inside the picture."""
        return min(max((self.left + self.right) / 2, 0.0), 0.999), min(max(self.bottom, 0.0), 0.999)

    def overlap(self, other: Rect) -> float:
        """Area of what both have in common."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return width * height if width > 0 and height > 0 else 0.0

    def iou(self, other: Rect) -> float:
        """Intersection over union: 1 for the same rect, 0 for strangers."""
        common = self.overlap(other)
        return common / (self.area + other.area - common) if common > 0 else 0.0

    def clipped(self) -> Rect:
        """What of it lies in the picture."""
        left, top = min(max(self.left, 0.0), 1.0), min(max(self.top, 0.0), 1.0)
        return Rect(left, top, max(min(self.right, 1.0), left), max(min(self.bottom, 1.0), top))

    def moved(self, dx: float, dy: float) -> Rect:
        return Rect(self.left + dx, self.top + dy, self.right + dx, self.bottom + dy)


@dataclass(frozen=True, slots=True)
class Detection:
    """One thing on one frame."""

    rect: Rect
    kind: str  # one of KINDS
    score: float  # 0 to 1, what the model says; for MOVING the share of the rect that differs from the background


@dataclass(frozen=True, slots=True)
class Track:
    """One thing followed from frame to frame, as it stands at one moment."""

    number: int  # counts the tracks of a camera, from 1; never used again in the same process
    kind: str  # what most of its detections say, weighted by score
    score: float  # mean of its detections
    rect: Rect  # smoothed, and predicted while it is missed
    first_ns: int  # its first detection
    seen_ns: int  # its last one; earlier than Facts.at_ns while it is missed
    detections: int
    velocity: Point  # fractions of width and height per second
    speed: float  # picture heights per second
    has_moved: bool  # by itself, ever: a poster, a parked car and a false detection have not
    moved_ns: int  # when it last moved; first_ns while it never has
    kind_share: float = 1.0  # how much of its detections agree with `kind`


@dataclass(frozen=True, slots=True)
class InZone:
    """A track whose foot is in a zone."""

    track: Track
    entered_ns: int  # foot came in; short absences (2 s) do not count as leaving
    share: float  # of its rect inside the zone

    def dwell_ns(self, at_ns: int) -> int:
        return at_ns - self.entered_ns


@dataclass(frozen=True, slots=True)
class ZoneFacts:
    zone: str
    tracks: tuple[InZone, ...]  # all of them, also the ones that never moved; by number
    motion_share: float  # of its area: changed against the frame before
    foreground_share: float  # of its area: differs from the empty scene, also when it stands still
    covered_share: float  # of its area: under the rects of tracks that are in the picture

    def present(self, *kinds: str) -> tuple[InZone, ...]:
        """Tracks of these kinds that count: they have moved at some time. Without kinds: of any."""
        return tuple(each for each in self.tracks if each.track.has_moved and (not kinds or each.track.kind in kinds))

    def parked(self, *kinds: str) -> tuple[InZone, ...]:
        """Tracks that never moved since this process sees them."""
        return tuple(
            each for each in self.tracks if not each.track.has_moved and (not kinds or each.track.kind in kinds)
        )


@dataclass(frozen=True, slots=True)
class Crossing:
    """A track's foot went over a line."""

    line: str
    track: int
    kind: str
    at_ns: int
    is_to_right: bool  # seen from Line.start towards Line.end; over a line drawn from left to right: downwards


@dataclass(frozen=True, slots=True)
class Tamper:
    """Numbers about the picture as a whole; what they mean is the rule's business. Against a learned picture of the same light."""

    brightness: float  # mean luma, 0 to 1
    contrast: float  # standard deviation of luma, 0 to 0.5
    dark_share: float  # of the picture below 0.12
    sharpness: float  # energy of fine detail against that of coarse detail; 0 for a uniform picture
    sharpness_usual: float  # the learned one
    edges_kept: float  # share of the learned edges that are still where they were; 1 while nothing is learned
    detail: float  # share of picture cells with any texture; a covered lens has hardly any
    shift: Point  # whole-picture displacement against the learned picture, fractions; (0, 0) while not measured
    shift_trust: float  # 0 to 1: how clear that displacement is
    frozen_ns: (
        int  # how long pictures have been the same, but for what coding makes of the same picture; see change_usual
    )
    loop_ns: int  # how long what changes from frame to frame has repeated earlier changes; 0 for a living camera
    loop_period_ns: int  # how long ago they were shown first; 0 without a loop
    learned_ns: int  # how much was seen to learn from; below 60 s the learned numbers say little
    change: float = 0.0  # levels of 255: mean change of the picture's quieter half within 2 s; noise keeps it above 0
    change_usual: float = 0.0  # the learned one; below 0.4 a living camera of a quiet place may look frozen


@dataclass(frozen=True, slots=True)
class Health:
    """The camera itself, as `record` and the decoder tell."""

    is_sending: bool = True
    cause: str = ""  # media.Cause, when it is not
    detail: str = ""
    width_px: int = 0  # of the stream as it comes now
    height_px: int = 0
    wanted_px: tuple[int, int] | None = None  # the site's, or the first that was seen
    fps: float = 0.0  # access units per second of media, over the last 10 s
    lost_packets: int = 0  # RTP packets, since the process began
    damaged: int = 0  # access units the decoder refused, since the process began
    camera_clock_error_ns: int | None = None  # camera's clock minus the box's; None while either does not know


@dataclass(frozen=True, slots=True)
class Sight:
    """How well the box could look: what rests on a model says nothing where there is none."""

    model: str = ""  # name of the object model; "" without one: then tracks are MOVING
    kinds: frozenset[str] = frozenset((MOVING,))  # what can be told at all
    looked_ns: int = (
        0  # media time of the last frame the model saw; older than at_ns while nothing moves, or when short of CPU
    )
    is_saturated: bool = False  # the model told as many as it can tell: there may be more
    shed: int = 0  # frames left out because the box was too slow, since the process began


@dataclass(frozen=True, slots=True)
class Facts:
    """What one camera showed at one sampled frame: all that rules get.

    Facts come at the sampling rate while there are pictures, also while nothing moves (tracks are then carried on), and
    once a second while there are none (`has_picture` False: everything about the picture is as it last was).
    """

    camera: str
    at_ns: int  # media time: never steps back; differences are durations. For a file: from its beginning
    wall_ns: int | None  # the same moment in wall time (UTC, since 1970); None while nobody knows it
    has_picture: bool
    height_px: int  # of the frame that was looked at
    aspect: float  # width / height
    zones: tuple[ZoneFacts, ...]  # in the site's order; the last one, named "", is the whole picture
    crossings: tuple[Crossing, ...]  # since the Facts before
    tracks: tuple[Track, ...]  # confirmed ones, in and out of zones, by number
    motion_share: float  # of the picture: changed against the frame before
    foreground_share: float  # of the picture: differs from the empty scene
    is_light_change: bool  # most of the picture changed at once: a lamp, the sun, infrared; motion says nothing
    tamper: Tamper
    health: Health = field(default_factory=Health)
    sight: Sight = field(default_factory=Sight)

    def zone(self, name: str) -> ZoneFacts:
        """Raises KeyError."""
        for zone in self.zones:
            if zone.zone == name:
                return zone
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, or a state that began, with what it rests on."""

    kind: str  # the rule's name: "queue"
    camera: str
    zone: str  # "" for the camera as a whole
    state: str  # "closed", "jam", "crossed" ...; what people are told
    from_ns: int  # media time, like Facts.at_ns
    to_ns: int  # the end of what it rests on; not part of it
    wall_ns: int | None  # of from_ns
    tracks: tuple[int, ...] = ()
    numbers: tuple[tuple[str, float], ...] = ()  # (name with unit, value): ("waiting", 4.0), ("waiting_most", 6.0)
    words: tuple[
        tuple[str, str], ...
    ] = ()  # what is no number: ("class", "car"), ("direction", "down"), ("due", "open")
    detail: str = ""  # one line for a person
    is_end: bool = False  # the state that began earlier is over


def distance(a: Point, b: Point, aspect: float) -> float:
    """Between two points, in picture heights."""
    return math.hypot((a[0] - b[0]) * aspect, a[1] - b[1])
