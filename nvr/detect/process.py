"""The `detect` process: looks at streams that are recorded, or that it opens itself, and tells what it saw.

    announced fragments, own sources -> Feed (one thread) -> Pipeline -> Rules -> events, stills, what is seen (the other)

It is nobody's precondition: it runs at idle priority, reads what `record` wrote from the page cache, leaves out pictures when it
is slow and counts them, and may be killed at any moment. Events go to DATA/events in transactions of a second; what is seen
now is told on DATA/run/seen.sock, as `announce.py` tells of fragments. Kinds of messages there:

    seen    camera, at_ms (box clock), has_picture, tracks [[number, kind, left, top, right, bottom, dx/s, dy/s, has_moved, missed_ms]],
            zones {name: [things that count, motion share, foreground share]}, with what the model could tell
    event   event: as events.Stored.to_json() gives it, once it is stored
    status  once a second: for each camera what is looked at, pictures a second, how far behind, how many were left out
"""

from __future__ import annotations

import logging
import os
import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nvr import systemd
from nvr.announce import SEEN_SOCKET, Announcer, Subscriber, fragment_of
from nvr.arena import Arena
from nvr.clock import Clock, SystemClock, boot_id
from nvr.detect.feeds import (
    SMALL_PIXELS,
    Feed,
    OwnStream,
    Picture,
    Piece,
    RingPictures,
    keyframes,
    own_pictures,
    piece_of,
)
from nvr.detect.objects import ObjectModel
from nvr.detect.pipeline import Pipeline, Settings
from nvr.detect.stills import still
from nvr.errors import NvrError
from nvr.events import EventLog, Evidence, Stored
from nvr.media import Cause
from nvr.rules.templates import Rules
from nvr.scene import Event, Facts, Health, Line, Zone
from nvr.site_settings import Camera, Site
from nvr.source import Source

log = logging.getLogger(__name__)

NS_PER_S = 1_000_000_000
SILENT_NS = 3 * NS_PER_S  # fragments come every second, and late ones a little later
BLIND_NS = 15 * NS_PER_S  # media that comes and gives no frame at all: damaged beyond decoding
GIVE_UP_NS = 10 * NS_PER_S
STATUS_NS = NS_PER_S
RATE_MARKS = 12  # one a second: fragments come every second, so a shorter time would say too much or too little
DRAIN_S = 0.1
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


class Process:
    """All cameras of the box. run() until stop()."""

    def __init__(
        self, site: Site, data_dir: Path, *, model: ObjectModel | None = None, clock: Clock | None = None,
        make_source: Callable[[Camera, Arena], Source] | None = None,
    ) -> None:  # fmt: skip
        self.clock = clock or SystemClock()
        self.life = os.urandom(6).hex()
        self.model = model
        began_ns = self.clock.mono_ns()
        self.lookers = [
            Looker(looked_of(camera), site, data_dir, model, began_ns) for camera in site.cameras if camera.is_looked_at
        ]
        self.log = EventLog(data_dir / "events", self.life)
        self._run_dir = data_dir / "run"
        self._run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._announcer = Announcer(self._run_dir, SEEN_SOCKET)
        self._by_stream: dict[str, list[Looker]] = {}
        self._by_recorded: dict[str, list[Looker]] = {}
        self._own: list[OwnStream] = []
        arena = Arena()
        for looker in self.lookers:
            if looker.looked.is_own and make_source is not None:
                try:
                    source = make_source(looker.looked.camera, arena)
                except NvrError as error:
                    looker.trouble = f"{looker.looked.stream} cannot be opened: {error}"
                    log.error("%s", looker.trouble)
                else:
                    self._own.append(OwnStream(source, looker.feed, self.clock))
            else:
                self._by_stream.setdefault(looker.looked.stream, []).append(looker)
            self._by_recorded.setdefault(looker.looked.recorded, []).append(looker)
        self._record_status: dict[str, Any] = {}
        self._heard_ns = began_ns  # of the recorder
        self._missed = 0  # announcements that came too fast
        self._awake = threading.Event()
        self._is_stopping = False
        self._fault: BaseException | None = None
        self._marks: dict[str, deque[tuple[int, int]]] = {}

    # -- the thread that fills feeds

    def _fill(self) -> None:
        subscriber: Subscriber | None = None
        try:
            while not self._is_stopping:
                for own in self._own:
                    if self._drained(own):
                        self._awake.set()
                if subscriber is None:
                    try:
                        subscriber = Subscriber(self._run_dir)
                    except OSError:
                        time.sleep(DRAIN_S)
                        continue
                try:
                    self._hear(subscriber)
                except (OSError, ValueError):
                    subscriber.close()  # the recorder is gone; the next one announces at the same place
                    subscriber = None
        except BaseException as error:
            self._fault = error
            self._awake.set()
        finally:
            if subscriber is not None:
                subscriber.close()
            for own in self._own:
                own.source.close()

    def _drained(self, own: OwnStream) -> bool:
        """One turn of a source of our own; one that fails rests, and no other stream with it."""
        now_ns = self.clock.mono_ns()
        if now_ns < own.rest_until_ns:
            return False
        try:
            return own.drain()
        except Exception as error:
            log.error(
                "%s: its source failed, asked again in %d s", own.feed.name, GIVE_UP_NS // NS_PER_S, exc_info=error
            )
            own.rest_until_ns = now_ns + GIVE_UP_NS
            own.is_sending, own.cause, own.detail = False, Cause.CAMERA.value, f"the source failed: {error}"
            return False

    def _hear(self, subscriber: Subscriber) -> None:
        message = subscriber.receive(DRAIN_S)
        for _ in range(256):
            if message is None:
                return
            if message.get("kind") == "fragment":
                position, record = fragment_of(message)
                for looker in self._by_recorded.get(position.stream, ()):
                    looker.recorded(record.mono_ns, record.sequence)
                for looker in self._by_stream.get(position.stream, ()):
                    looker.feed.put(piece_of(position, record))
                    self._awake.set()
            elif message.get("kind") == "status":
                self._record_status, self._heard_ns = message, self.clock.mono_ns()
            elif message.get("kind") == "dropped":
                self._missed += int(message.get("messages", 0))
            message = subscriber.receive(0)

    # -- the thread that looks

    def run(self) -> None:
        """Look until stop(). Raises what the other thread failed with."""
        filler = threading.Thread(target=self._fill, name="feeds", daemon=True)
        filler.start()
        told_ns = 0
        try:
            while not self._is_stopping:
                if self._fault is not None:
                    raise self._fault
                has_looked = False
                systemd.sign_of_life()
                for looker in self.lookers:
                    piece = looker.feed.take()
                    if piece is not None:
                        has_looked = True
                        try:
                            looker.look(piece, self._tell)
                        except Exception as error:
                            looker.give_up(self.clock.mono_ns(), error)
                    if self.clock.mono_ns() - told_ns >= STATUS_NS:
                        told_ns = self.clock.mono_ns()
                        self._beat()
                if not has_looked:
                    self._awake.wait(DRAIN_S)
                    self._awake.clear()
                    if not self.lookers and self.clock.mono_ns() - told_ns >= STATUS_NS:
                        told_ns = self.clock.mono_ns()
                        self._beat()
        finally:
            self._is_stopping = True
            filler.join(5.0)
            self.log.close()
            for looker in self.lookers:
                looker.close()
            self._announcer.close()

    def stop(self) -> None:
        self._is_stopping = True
        self._awake.set()

    def _tell(self, looker: Looker, facts: Facts, wall_ns: int) -> None:
        for event, evidence, jpeg in looker.judge(facts):
            self.log.add(event, evidence, jpeg)
        self._announcer.tell(seen_message(facts, wall_ns))
        self._announcer.flush()

    def _beat(self) -> None:
        """Once a second: health, silence, what is stored, who listens."""
        reading = self.clock.read()
        has_wall = reading.state > 0
        for looker in self.lookers:
            health = self._health_of(looker, reading.mono_ns)
            if health is not None:
                looker.health(health)
            try:
                looker.rest(reading.mono_ns, reading.wall_ns, has_wall, self._tell)
            except Exception as error:
                looker.give_up(reading.mono_ns, error)
        for stored in self.log.commit():
            _log_event(stored)
            self._announcer.tell({"kind": "event", "event": stored.to_json()})
        self._announcer.welcome()
        self._announcer.status(self.status(reading.mono_ns))
        self._announcer.flush()
        self.log.tidy()

    def _health_of(self, looker: Looker, now_ns: int) -> Health | None:
        """What is known of the camera itself; None while nobody told yet."""
        for own in self._own:
            if own.feed is looker.feed:
                return Health(
                    is_sending=own.is_sending, cause=own.cause, detail=own.detail, width_px=own.size[0],
                    height_px=own.size[1], lost_packets=own.lost_packets,
                    camera_clock_error_ns=_offset_ns(own.source.facts()),
                )  # fmt: skip
        if now_ns - self._heard_ns > SILENT_NS + NS_PER_S:
            return Health(is_sending=False, cause=Cause.BOX_OFF.value, detail="the recorder is silent")
        told = self._record_status.get("streams", {}).get(looker.looked.stream)
        if told is None:
            return None
        source = told.get("source")
        return Health(
            is_sending=bool(told.get("recording")), cause=str(told.get("cause") or ""), detail=str(told.get("detail") or ""),
            width_px=int(told.get("width") or 0), height_px=int(told.get("height") or 0),
            fps=float(told.get("pictures_per_s") or 0.0), lost_packets=int(told.get("lost_packets") or 0),
            camera_clock_error_ns=_offset_ns(source if isinstance(source, dict) else {}),
        )  # fmt: skip

    def status(self, now_ns: int) -> dict[str, Any]:
        cameras = {}
        for looker in self.lookers:
            marks = self._marks.setdefault(looker.name, deque(maxlen=RATE_MARKS))
            marks.append((now_ns, looker.looks))
            seconds = (now_ns - marks[0][0]) / NS_PER_S
            cameras[looker.name] = {
                "stream": looker.looked.stream,
                "is_keyframes_only": looker.is_keyframes_only,
                "looks": looker.looks,
                "looks_per_s": round((looker.looks - marks[0][1]) / seconds, 1) if seconds > 0 else None,
                "shed": looker.feed.shed,
                "behind_s": round(looker.feed.behind_ns(now_ns) / NS_PER_S, 1),
                "trouble": looker.trouble,
                "has_picture": looker.facts is not None and looker.facts.has_picture,
            }
        return {
            "life": self.life,
            "model": self.model.card.name if self.model is not None else "",
            "cameras": cameras,
            "missed_announcements": self._missed,
            "events": {"stored": self.log.stored, "dropped": self.log.dropped, "trouble": self.log.trouble},
        }


def seen_message(facts: Facts, wall_ns: int) -> dict[str, Any]:
    """What is drawn over a live picture: short, because it comes several times a second."""
    return {
        "kind": "seen",
        "camera": facts.camera,
        "at_ms": wall_ns // 1_000_000,
        "has_picture": facts.has_picture,
        "model": facts.sight.model,
        "tracks": [
            [
                track.number, track.kind,
                *(round(value, 4) for value in (track.rect.left, track.rect.top, track.rect.right, track.rect.bottom)),
                round(track.velocity[0], 4), round(track.velocity[1], 4), int(track.has_moved),
                (facts.at_ns - track.seen_ns) // 1_000_000,
            ]
            for track in facts.tracks
        ],
        "zones": {
            zone.zone: [len(zone.present()), round(zone.motion_share, 3), round(zone.foreground_share, 3)]
            for zone in facts.zones
            if zone.zone
        },
    }  # fmt: skip


def _log_event(stored: Stored) -> None:
    event = stored.event
    if not stored.is_moment:
        log.info(
            "%s: %s%s: %s%s%s", event.camera, event.kind, f" {event.zone}" if event.zone else "", event.state,
            " is over" if event.is_end else "", f", {event.detail}" if event.detail else "", extra={"stream": stored.evidence.stream},
        )  # fmt: skip


def _offset_ns(facts: dict[str, object]) -> int | None:
    offset = facts.get("clock_offset_s")
    return round(offset * NS_PER_S) if isinstance(offset, int | float) else None
