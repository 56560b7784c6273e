"""One camera from access units to facts: which stage works when, and what is left out when nothing happens.

Owns nothing but its stages. Time is media time and comes with the access units; the wall clock is never asked, so the
same access units give the same facts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from nvr.detect import tile
from nvr.detect.activity import Gate, Type
from nvr.detect.decoder import Decoder, Frame, Pixels
from nvr.detect.motion import Background, Mask, Motion, Sums, blobs, small, zone_mask
from nvr.detect.objects import ObjectModel, without_doubles
from nvr.detect.tamper import TamperLook
from nvr.detect.tracks import Tracker
from nvr.detect.zones import LineKeeper, ZoneKeeper
from nvr.media import AccessUnit, RunStarted
from nvr.scene import MOVING, Detection, Facts, Health, Line, Rect, Sight, Zone

NS_PER_S = 1_000_000_000
FPS_OVER_NS = 10 * NS_PER_S
HELD_MOST = 1024  # access units that are kept undecoded; a GOP of 40 s at 25 a second
AWAKE_NS = 2 * NS_PER_S  # after the last movement everything is decoded for so long
GAP_NS = 2 * NS_PER_S  # without pictures; then nobody knows where those who walked are
BLOB_MOST = 0.6  # of the picture; larger ones are light, not things


@dataclass(frozen=True, slots=True)
class Settings:
    frames_per_s: float = 5.0  # looked at; 5 are enough to follow a walker and a car in town
    motion_least: float = (
        0.001  # of the picture or of a zone: less is no movement. 0.1 % is a person of 4 % of its height
    )
    look_again_s: float = 2.0  # the model looks this often while nothing moves
    is_gated: bool = True  # sizes of access units decide what is decoded
    has_crops: bool = True  # small zones are looked at enlarged
    crops_most: int = 3  # each costs as much as the whole picture
    masks: tuple[
        Zone, ...
    ] = ()  # privacy: black in all that leaves the box and in what the model sees; nothing moves there


@dataclass(slots=True)
class Spent:
    """What each stage did, for the page and the bench."""

    units: int = 0
    decoded: int = 0
    frames: int = 0  # sampled and looked at
    quiet: int = 0  # sampled and not decoded
    model: int = 0  # pictures and crops the model saw
    shed: int = 0
    damaged: int = 0


@dataclass(slots=True)
class _Picture:
    """What the frames of one size share."""

    shape: tuple[int, int]
    ignored: Mask | None = None
    black: Mask | None = None


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the motion stage tells the tracker."""

    motion: Motion

    @property
    def known_s(self) -> float:
        return self.motion.known_s

    def moving(self, rect: Rect) -> float:
        return self.motion.moving.in_rect(rect)

    def foreground(self, rect: Rect) -> float:
        return self.motion.foreground.in_rect(rect)


@dataclass(slots=True)
class _Held:
    units: list[tuple[AccessUnit, int]] = field(default_factory=list)
    is_lost: bool = False  # too many: nothing can be decoded before the next keyframe


class Pipeline:
    """One camera; calls come from one thread, in the order of decoding."""

    def __init__(
        self,
        camera: str,
        zones: Sequence[Zone] = (),
        lines: Sequence[Line] = (),
        *,
        model: ObjectModel | None = None,
        settings: Settings | None = None,
    ) -> None:
        """`model` may be shared with other cameras of the same thread."""
        self.camera = camera
        self.settings = settings or Settings()
        self.spent = Spent()
        self._zones = tuple(zones)
        self._lines = tuple(lines)
        self._model = model
        self._gate = Gate()
        self._decoder: Decoder | None = None
        self._damaged = 0
        self._background = Background()
        self._tamper = TamperLook()
        self._tracker = Tracker()
        self._zone_keeper = ZoneKeeper(zones)
        self._line_keeper = LineKeeper(lines, 16 / 9)
        self._picture = _Picture((0, 0))
        self._frame: Frame | None = None
        self._crops: tuple[Rect, ...] = ()
        self._aspect = 16 / 9
        self._height_px = 0
        self._held = _Held()
        self._due_ns: int | None = None
        self._awake_until_ns = 0
        self._looked_ns = 0
        self._last_ns: int | None = None  # of the last Facts
        self._motion: Motion | None = None
        self._is_saturated = False
        self._wall_offset_ns: int | None = None
        self._health = Health()
        self._moving_before = False
        self._fps_since: tuple[int, int] | None = None  # (media time, access units then)

    @property
    def frame(self) -> Pixels | None:
        """RGB of the last frame that was looked at, masks applied: for stills and for drawing. Not to be written into."""
        return None if self._frame is None else self._masked(self._frame)

    # -- what comes in -------------------------------------------------------------------------------

    def start_run(self, started: RunStarted) -> None:
        """New parameter sets. What was learned of the scene stays. Raises CannotDecode; then take() gives nothing."""
        self._close()
        self._health = replace(
            self._health, is_sending=True, cause="", detail="", width_px=started.width, height_px=started.height,
            wanted_px=self._health.wanted_px or (started.width, started.height),
        )  # fmt: skip
        self._decoder = Decoder(started)

    def take(self, unit: AccessUnit, at_ns: int, wall_ns: int | None = None) -> list[Facts]:
        """Facts that are ready after this access unit; `at_ns` and `wall_ns` are of its decoding time.

        Never raises for damaged media. The unit's payload may be kept until the next keyframe.
        """
        self._wall_offset_ns = None if wall_ns is None else wall_ns - at_ns
        if self._decoder is None:
            return []
        self.spent.units += 1
        self._count_fps(at_ns)
        if not self._health.is_sending:
            self._health = replace(self._health, is_sending=True, cause="", detail="")
        activity = self._gate.look(unit)
        shown_ns = at_ns + unit.composition_ticks * 100_000 // 9
        if unit.lost_packets:
            self._health = replace(self._health, lost_packets=self._health.lost_packets + unit.lost_packets)
        if activity.type is Type.KEYFRAME:
            self._held = _Held()
        elif activity.is_active:
            self._awake_until_ns = shown_ns + AWAKE_NS
        is_asleep = self.settings.is_gated and shown_ns > self._awake_until_ns and self._gate.is_trusted
        if (is_asleep and activity.type is not Type.KEYFRAME) or self._held.is_lost:
            return self._hold(unit, shown_ns, activity.type)
        facts: list[Facts] = []
        if self._held.units:
            held, self._held = self._held, _Held()
            for earlier, earlier_ns in held.units:
                facts += self._decode(earlier, earlier_ns)
        if activity.type is Type.DISPOSABLE and self._due_ns is not None and shown_ns < self._due_ns:
            return facts  # nobody needs it, and it is not to be looked at
        return [*facts, *self._decode(unit, shown_ns)]

    def end_run(self) -> list[Facts]:
        """The run is over: what the decoder still held."""
        if self._decoder is None:
            return []
        facts = [each for frame in self._decoder.drain() for each in self._sampled(frame)]
        self._close()
        return facts

    def absent(self, at_ns: int, wall_ns: int | None, health: Health) -> Facts:
        """There is no picture; to be asked for once a second."""
        self._wall_offset_ns = None if wall_ns is None else wall_ns - at_ns
        self.health(replace(health, is_sending=False))
        return self._facts(at_ns, has_picture=False, motion=None)

    def health(self, health: Health) -> None:
        """What `record` says of the camera, for the Facts to come; size, damage and losses are counted here."""
        mine = self._health
        self._health = replace(
            health, width_px=health.width_px or mine.width_px, height_px=health.height_px or mine.height_px,
            lost_packets=max(health.lost_packets, mine.lost_packets), fps=health.fps or mine.fps,
            wanted_px=health.wanted_px or mine.wanted_px,
        )  # fmt: skip

    def shed(self, count: int = 1) -> None:
        """The caller left out access units, because it is behind; until the next keyframe nothing is decoded."""
        self.spent.shed += count
        self._held = _Held(is_lost=True)

    def _count_fps(self, at_ns: int) -> None:
        """Every ten seconds of media."""
        if self._fps_since is None or at_ns < self._fps_since[0]:
            self._fps_since = (at_ns, self.spent.units)
        elif (gone_ns := at_ns - self._fps_since[0]) >= FPS_OVER_NS:
            fps = (self.spent.units - self._fps_since[1]) * NS_PER_S / gone_ns
            self._health = replace(self._health, fps=round(fps, 2))
            self._fps_since = (at_ns, self.spent.units)

    def _close(self) -> None:
        self._fps_since = None
        if self._decoder is not None:
            self._damaged += self._decoder.damaged
        self._decoder = None
        self._held = _Held()

    # -- decode or not -------------------------------------------------------------------------------

    def _hold(self, unit: AccessUnit, shown_ns: int, kind: Type) -> list[Facts]:
        """Keep it undecoded: if something happens before the next keyframe it is needed after all."""
        if kind is not Type.DISPOSABLE and not self._held.is_lost:
            self._held.units.append((unit, shown_ns))
            if len(self._held.units) > HELD_MOST:
                self._held = _Held(is_lost=True)
        self._gate.skipped()
        if not self._is_due(shown_ns):
            return []
        self.spent.quiet += 1
        self._tracker.hold(shown_ns)
        return [self._facts(shown_ns, has_picture=True, motion=None)]

    def _decode(self, unit: AccessUnit, shown_ns: int) -> Iterator[Facts]:
        assert self._decoder is not None
        self.spent.decoded += 1
        for frame in self._decoder.decode(unit, shown_ns):
            yield from self._sampled(frame)

    def _is_due(self, at_ns: int) -> bool:
        step_ns = round(NS_PER_S / self.settings.frames_per_s)
        if self._due_ns is None or at_ns > self._due_ns + 2 * step_ns or at_ns < self._due_ns - 2 * step_ns:
            self._due_ns = at_ns  # the beginning, a gap, or another clock
        if at_ns < self._due_ns:
            return False
        self._due_ns += step_ns
        return True

    def _sampled(self, frame: Frame) -> Iterator[Facts]:
        if self._last_ns is not None and frame.at_ns <= self._last_ns:
            return
        if self._is_due(frame.at_ns):
            yield self._look(frame)

    # -- look ----------------------------------------------------------------------------------------

    def _look(self, frame: Frame) -> Facts:
        self.spent.frames += 1
        if (frame.height, frame.width) != self._picture.shape:
            self._new_size(frame)
        at_ns = frame.at_ns
        if self._last_ns is not None and at_ns - self._last_ns > GAP_NS:
            self._tracker.jump(at_ns)
        motion = self._motion = self._background.look(small(frame.luma), at_ns, self._picture.ignored)
        self._tamper.look(frame.luma, motion, at_ns)
        is_moving = self._is_moving(motion)
        self._gate.told(is_moving)
        if is_moving:
            self._awake_until_ns = max(self._awake_until_ns, at_ns + AWAKE_NS)
        found, has_looked = self._objects(frame, at_ns, is_moving)
        if motion.is_light_change:
            self._tracker.hold(at_ns)
        elif has_looked or is_moving or self._moving_before:
            self._tracker.update([*found, *self._moving_things(motion)], at_ns, _Seen(motion))
        else:
            self._tracker.hold(at_ns)
        self._moving_before = is_moving
        self._frame = frame
        return self._facts(at_ns, has_picture=True, motion=motion)

    def _is_moving(self, motion: Motion) -> bool:
        least = self.settings.motion_least
        return motion.moving.share >= least or motion.is_light_change

    def _objects(self, frame: Frame, at_ns: int, is_moving: bool) -> tuple[list[Detection], bool]:
        """What the model finds, and whether it was asked."""
        if self._model is None:
            return [], False
        again = at_ns - self._looked_ns >= self.settings.look_again_s * NS_PER_S or not self._looked_ns
        if not (is_moving or self._moving_before or again):
            return [], False
        self._looked_ns = at_ns
        rgb = self._masked(frame)
        found, self._is_saturated = self._model.detect(rgb)
        self.spent.model += 1
        for crop in self._crops:
            part = rgb[
                round(crop.top * frame.height) : round(crop.bottom * frame.height),
                round(crop.left * frame.width) : round(crop.right * frame.width),
            ]
            inside, is_full = self._model.detect(part, crop)
            self.spent.model += 1
            self._is_saturated = self._is_saturated or is_full
            found += tile.whole_in(inside, crop)
        return without_doubles(found), True

    def _moving_things(self, motion: Motion) -> list[Detection]:
        return [
            Detection(blob.rect, MOVING, round(min(blob.share, 1.0), 4))
            for blob in blobs(motion.foreground.mask)
            if blob.rect.area < BLOB_MOST and motion.known_s > 1.0
        ]

    def _new_size(self, frame: Frame) -> None:
        """The camera's picture has another shape: zones are the same fractions of it."""
        self._picture = _Picture((frame.height, frame.width))
        rows, columns = small(frame.luma).shape
        if self.settings.masks:
            ignored = np.zeros((rows, columns), np.bool_)
            black = np.zeros((frame.height, frame.width), np.bool_)
            for mask in self.settings.masks:
                ignored |= zone_mask(mask, rows, columns)
                black |= zone_mask(mask, frame.height, frame.width)
            self._picture.ignored, self._picture.black = ignored, black
        self._aspect = self._tracker.aspect = self._line_keeper.aspect = frame.width / frame.height
        self._height_px = frame.height
        self._crops = ()
        if self.settings.has_crops and self._model is not None:
            self._crops = tile.crops(self._zones, self._aspect, most=self.settings.crops_most)

    def _masked(self, frame: Frame) -> Pixels:
        if self._picture.black is not None and self._picture.shape == (frame.height, frame.width):
            frame.rgb[self._picture.black] = 0
        return frame.rgb

    def _quiet_motion(self) -> Motion | None:
        """Nothing moves, and what stood there stands there still."""
        if self._motion is None:
            return None
        if self._motion.moving.share:
            nothing = Sums(np.zeros_like(self._motion.moving.mask))
            self._motion = replace(self._motion, moving=nothing, is_light_change=False)
        return self._motion

    # -- tell ----------------------------------------------------------------------------------------

    def _facts(self, at_ns: int, *, has_picture: bool, motion: Motion | None) -> Facts:
        self._last_ns = at_ns
        tracks = self._tracker.tracks()
        crossings = self._line_keeper.crossings(tracks, at_ns) if has_picture else ()
        zones = self._zone_keeper.facts(tracks, motion if motion is not None else self._quiet_motion(), at_ns)
        model = self._model
        return Facts(
            camera=self.camera,
            at_ns=at_ns,
            wall_ns=None if self._wall_offset_ns is None else at_ns + self._wall_offset_ns,
            has_picture=has_picture,
            height_px=self._height_px,
            aspect=self._aspect,
            zones=zones,
            crossings=crossings,
            tracks=tracks,
            motion_share=round(motion.moving.share, 5) if motion is not None else 0.0,
            foreground_share=round(self._motion.foreground.share, 5) if self._motion is not None else 0.0,
            is_light_change=motion is not None and motion.is_light_change,
            tamper=self._tamper.last if motion is not None else self._tamper.still(at_ns),
            health=replace(
                self._health, damaged=self._damaged + (self._decoder.damaged if self._decoder is not None else 0)
            ),
            sight=Sight(
                model=model.card.name if model is not None else "",
                kinds=model.kinds | {MOVING} if model is not None else frozenset((MOVING,)),
                looked_ns=self._looked_ns,
                is_saturated=self._is_saturated,
                shed=self.spent.shed,
            ),
        )
