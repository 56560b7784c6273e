"""One camera of the detect process: the pieces of its stream become facts, and facts become events with what they rest on."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nvr import systemd
from nvr.clock import boot_id
from nvr.detect.feeds import SMALL_PIXELS, Feed, Picture, Piece, RingPictures, keyframes, own_pictures
from nvr.detect.objects import ObjectModel
from nvr.detect.pipeline import Pipeline, Settings
from nvr.detect.stills import still
from nvr.errors import NvrError
from nvr.events import Evidence
from nvr.rules.templates import Rules
from nvr.scene import Event, Facts, Health, Line, Zone
from nvr.site_settings import Camera, Site

log = logging.getLogger(__name__)

NS_PER_S = 1_000_000_000
SILENT_NS = 3 * NS_PER_S  # fragments come every second, and late ones a little later
BLIND_NS = 15 * NS_PER_S  # media that comes and gives no frame at all: damaged beyond decoding
GIVE_UP_NS = 10 * NS_PER_S
STILL_EVERY_NS = (
    2 * NS_PER_S
)  # of one camera, for things that happen by the thousand; what begins or ends always has one
REMEMBERED_FRAGMENTS = 4000  # an hour: what an event rests on seldom began earlier


@dataclass(frozen=True, slots=True)
class Looked:
    """Which stream of a camera is looked at, and how."""

    camera: Camera
    stream: str  # "camera/small"
    recorded: str  # the recorded stream that events point to
    is_own: bool  # nobody records it: this process opens it


def looked_of(camera: Camera) -> Looked:
    main, small = f"{camera.name}/main", f"{camera.name}/small"
    if camera.small is None:
        return Looked(camera, main, main, is_own=False)
    if camera.small_ring_bytes is not None:
        return Looked(camera, small, main, is_own=False)
    return Looked(camera, small, main, is_own=True)


class Looker:
    """One camera: what it shows becomes facts, facts become events."""

    def __init__(self, looked: Looked, site: Site, data_dir: Path, model: ObjectModel | None, began_ns: int) -> None:
        camera = looked.camera
        self.looked = looked
        self.name = camera.name
        self.feed = Feed(looked.stream)
        self.facts: Facts | None = None
        self.looks = 0  # facts so far
        self.trouble = ""
        self.is_keyframes_only = False
        self._places: dict[str, Zone | Line] = {zone.name: zone for zone in camera.zones}
        self._places |= {line.name: line for line in camera.lines}
        self._site, self._model = site, model
        self._begin()
        self._rest_until_ns = 0
        self._pictures = RingPictures(data_dir / "rings" / camera.name / looked.stream.partition("/")[2])
        self._number = 0
        self._started: object = None
        self._told_shed = 0
        self._health = Health()
        self._fragments: deque[tuple[int, int]] = deque(
            maxlen=REMEMBERED_FRAGMENTS
        )  # (mono_ns, sequence) of `recorded`
        self._still_ns = -STILL_EVERY_NS
        self._came_ns = began_ns  # end of the last piece that was read
        self._last_ns = began_ns  # of the last facts: so long nothing is known, and nothing is told

    def _begin(self) -> None:
        camera = self.looked.camera
        self._pipeline = Pipeline(
            camera.name, camera.zones, camera.lines, model=self._model, settings=Settings(masks=camera.masks)
        )
        self._rules = Rules(camera, self._site)
        self._run: object = None

    def give_up(self, now_ns: int, error: Exception) -> None:
        """Looking failed in a way it should not have: begin anew a little later, and leave the other cameras alone."""
        log.error("%s: detection failed and begins anew in %d s", self.name, GIVE_UP_NS // NS_PER_S, exc_info=error)
        self._begin()
        self._pictures.close()
        self._rest_until_ns = now_ns + GIVE_UP_NS
        self.trouble = f"detection failed: {type(error).__name__}: {error}"

    def recorded(self, mono_ns: int, sequence: int) -> None:
        """A fragment of the stream that events point to was announced."""
        if not self._fragments or mono_ns > self._fragments[-1][0]:
            self._fragments.append((mono_ns, sequence))

    def health(self, health: Health) -> None:
        self._health = health
        self._pipeline.health(health)

    def look(self, piece: Piece, tell: Callable[[Looker, Facts, int], None]) -> None:
        """Take one piece; `tell` gets each facts with the box's wall time, and asks for events by judge()."""
        if piece.at_ns < self._rest_until_ns:
            return
        shed = self.feed.shed
        if shed > self._told_shed:
            self._pipeline.shed(shed - self._told_shed)
            self._told_shed = shed
        try:
            started, pictures = own_pictures(piece) if piece.units else self._pictures.read(piece)
        except NvrError as error:
            self._lose(f"a piece of {self.feed.name} could not be read: {error}")
            return
        is_next = piece.run == self._run and piece.number == self._number + 1
        if not is_next and not piece.is_keyframe:
            return  # nothing of it can be decoded
        if self._run is not None and (not is_next or started != self._started):
            self._tell_all(self._pipeline.end_run(), piece.wall_ns - piece.at_ns, tell)
            self._run = None
        if self._run is None:
            try:
                self._pipeline.start_run(started)
            except NvrError as error:  # a picture size that no camera has
                self._lose(f"{self.feed.name} cannot be looked at: {error}")
                return
            self.is_keyframes_only = (
                self.looked.stream.endswith("/main") and started.width * started.height > SMALL_PIXELS
            )
        self._run, self._number, self._started = piece.run, piece.number, started
        self._came_ns = piece.at_ns + piece.duration_ns
        self.trouble = ""
        for picture in keyframes(pictures) if self.is_keyframes_only else pictures:
            self._take(piece, picture, tell)

    def _take(self, piece: Piece, picture: Picture, tell: Callable[[Looker, Facts, int], None]) -> None:
        if picture.at_ns <= self._last_ns:
            return  # the time was already told as one without a picture
        systemd.sign_of_life()  # a second of pictures may be half a minute of work for a model on a small board
        wall_ns = picture.wall_ns if piece.has_wall else None
        found = self._pipeline.take(picture.unit, picture.at_ns, wall_ns)
        self._tell_all(found, picture.wall_ns - picture.at_ns, tell)

    def _tell_all(self, found: list[Facts], ahead_ns: int, tell: Callable[[Looker, Facts, int], None]) -> None:
        for facts in found:
            self._last_ns = max(self._last_ns, facts.at_ns)
            self.facts = facts
            self.looks += 1
            tell(self, facts, facts.at_ns + ahead_ns)

    def _lose(self, why: str) -> None:
        if not self.trouble:
            log.info("%s", why)
        self.trouble = why
        self._run = None
        self._pictures.close()

    def rest(self, now_ns: int, wall_ns: int, has_wall: bool, tell: Callable[[Looker, Facts, int], None]) -> None:
        """Called once a second: without pictures for a while, that itself is a fact."""
        at_ns = now_ns - SILENT_NS  # a picture that comes late may still be younger
        comes = at_ns - self._came_ns < NS_PER_S  # between two keyframes there may be seconds without a frame
        if at_ns - self._last_ns < (BLIND_NS if comes else NS_PER_S) or self.feed.behind_ns(now_ns) > 0:
            return
        ahead_ns = wall_ns - now_ns
        if self._run is not None:
            self._tell_all(self._pipeline.end_run(), ahead_ns, tell)
            self._run = None
        facts = self._pipeline.absent(at_ns, at_ns + ahead_ns if has_wall else None, self._health)
        self._tell_all([facts], ahead_ns, tell)

    def judge(self, facts: Facts) -> list[tuple[Event, Evidence, bytes | None]]:
        """What follows from facts, with what it rests on."""
        return [(event, self._evidence(event), self._still(event, facts)) for event in self._rules.look(facts)]

    def _evidence(self, event: Event) -> Evidence:
        times = [mono_ns for mono_ns, _ in self._fragments]
        first, last = bisect_right(times, event.from_ns) - 1, bisect_right(times, event.to_ns) - 1
        if last < 0:
            return Evidence(self.looked.recorded, boot_id().hex())
        return Evidence(
            self.looked.recorded, boot_id().hex(), self._fragments[max(first, 0)][1], self._fragments[last][1]
        )

    def _still(self, event: Event, facts: Facts) -> bytes | None:
        frame = self._pipeline.frame
        if frame is None or not facts.has_picture:
            return None
        if event.kind == "line_crossing":
            if facts.at_ns - self._still_ns < STILL_EVERY_NS:
                return None
            self._still_ns = facts.at_ns
        try:
            return still(frame, facts.tracks, frozenset(event.tracks), self._places.get(event.zone))
        except (ValueError, OSError, IndexError) as error:  # an event without its still is still an event
            log.warning("%s: no still of an event: %s", self.name, error)
            return None

    def close(self) -> None:
        self._pictures.close()
