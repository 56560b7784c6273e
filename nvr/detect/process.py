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
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nvr import systemd
from nvr.announce import SEEN_SOCKET, Announcer, Subscriber, fragment_of
from nvr.arena import Arena
from nvr.clock import Clock, SystemClock
from nvr.detect.feeds import OwnStream, piece_of
from nvr.detect.looker import GIVE_UP_NS, NS_PER_S, SILENT_NS, Looker, looked_of
from nvr.detect.objects import ObjectModel
from nvr.errors import NvrError
from nvr.events import EventLog, Stored
from nvr.media import Cause
from nvr.scene import Facts, Health
from nvr.site_settings import Camera, Site
from nvr.source import Source

log = logging.getLogger(__name__)

STATUS_NS = NS_PER_S
RATE_MARKS = 12  # one a second: fragments come every second, so a shorter time would say too much or too little
DRAIN_S = 0.1


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
