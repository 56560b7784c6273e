"""The `uplink` process: everything of this room put together, in one event loop. It may be killed at any moment.

    DATA/events -> outbox -> control channel            events, alarms first
    ring -> outbox (spans, then files) -> upload lanes   clips, one lane for alarms, two for the rest
    record, detect, disk -> heartbeat every 10 s; newest keyframes -> stills; fragments -> live, while asked for

DATA/run/uplink.json says how it stands, replaced every few seconds; `nvr uplink status` prints it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import json
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from nvr import __version__, journal, wire
from nvr.clock import Clock, SystemClock, boot_id, offer_reading
from nvr.errors import NvrError
from nvr.events import Events, EventsUnreadable, Stored
from nvr.evidence import Identity
from nvr.media import ClockState
from nvr.site_settings import Site
from nvr.timeline import Timeline
from nvr.uplink import health, heartbeat, ladder, worth
from nvr.uplink.budget import Budget, is_quiet
from nvr.uplink.commands import Commands
from nvr.uplink.control import Control, Outgoing
from nvr.uplink.cutting import CannotCut, Cutter, Gone
from nvr.uplink.enrol import Enrolment, enrol
from nvr.uplink.hearing import Heard
from nvr.uplink.link import ASK_TIME_S, HubFailed, Link, NotWelcome
from nvr.uplink.outbox import Clip, Outbox, OutboxFailed, Told, Wanted
from nvr.uplink.relay import Relay
from nvr.uplink.upload import Counts, Lane, Refused, Spoilt, Yielded, back_off_s
from nvr.wire import Message

if TYPE_CHECKING:
    from nvr.uplink.stills import Stills

log = logging.getLogger(__name__)

TAKE_S = 0.5  # new events are looked for so often, and at once when `detect` tells of one
TAKE_MOST = 200
HOLD_S = 10.0
SLOW_FACTS_S = 10.0  # ledger and clock
SLOW_FACTS_PART = (
    50.0  # late in the day they are seconds of work on a small board, and a fiftieth of its time is enough
)
STATUS_S = 3.0
SETTLE_S = 0.2
REFUSED_S = 60.0  # until a hub that refuses us is asked again
CONTROL_WAIT_S = 15.0  # between two tries of the control channel, at most
OFFER_S = 600.0
DETECT_SILENT_S = 30.0  # then nobody knows any more what is true


class Uplink:
    """run() until cancelled. Raises NvrError at once when a box cannot report like this at all."""

    def __init__(self, site: Site, data_dir: Path, *, clock: Clock | None = None) -> None:
        assert site.hub is not None
        self.site, self.hub, self.data_dir = site, site.hub, data_dir
        self.clock = clock or SystemClock()
        self.boot_id = boot_id().hex()
        self.run_dir = data_dir / "run"
        self.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = _locked(self.run_dir / "uplink.lock")
        self.identity = Identity.load_or_create(data_dir / "identity" / "key")
        self.outbox = Outbox(data_dir / "outbox")
        self.events = Events(data_dir / "events")
        self.link = Link(self.hub.url, self.hub.fingerprint, self.identity, self.clock)
        self.budget = Budget(self.hub.cap_kbit_s, self.hub.floor_kbit_s)
        self.heard = Heard(self.run_dir)
        self.relay = Relay(data_dir, self.clock)
        self.cutter = Cutter(site, data_dir, self.outbox, self.identity, self.clock, self.boot_id)
        self.enrolment = Enrolment(data_dir / "outbox" / "enrolled", self.hub.url, self.link.box_id)
        self.counts = Counts()
        self.control = Control(
            self.link, self.budget, self.relay, hello=self._hello, next_events=self._next_events, acknowledged=self._acknowledged,
            refused=self._refused, welcomed=self._welcomed, command=self._command,
        )  # fmt: skip
        self.commands = Commands(
            site, data_dir, self.outbox, self.relay, self.heard, self.clock, reply=self.control.reply,
            want_still=self._want_still, now_ns=self.link.now_ns,
        )  # fmt: skip
        self.lanes = [self._lane("alarms"), self._lane("clips 1"), self._lane("clips 2")]
        self._sending: set[str] = set()
        self._new_clips = [asyncio.Event() for _ in self.lanes]
        self._new_events, self._to_cut, self._beat_now = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._welcome = asyncio.Event()  # enrolled, and the hub's time is known
        self._heartbeat_s, self._still_s = wire.HEARTBEAT_S, self.hub.still_s
        self._still_wanted: set[str] = set()
        self._stills: Stills | None = None
        self._stills_trouble = ""
        self._still_of: dict[str, tuple[int, int]] = {}  # camera -> run and sequence of its last still
        self._ladder = ladder.Ladder()
        self._ledger: dict[str, Any] = {}
        self._depth: dict[str, Any] = {}
        self._timeline: Timeline | None = None
        self._offered_s = float("-inf")
        self._last_ok_ms = 0
        self._last_error = ""
        self._trouble = ""  # of the outbox

    def _lane(self, name: str) -> Lane:
        return Lane(self.link, self.budget, self.counts, self.outbox.clips_path, name=name)

    async def run(self) -> None:
        self.heard.on_fragment.append(self._take_fragment)
        self.heard.on_status.append(self._take_status)
        self.heard.on_event = self._new_events.set
        swept = await asyncio.to_thread(self.outbox.sweep)
        if swept:
            log.info("%d unfinished clips removed", swept)
        try:
            async with asyncio.TaskGroup() as tasks:
                for work in (
                    self.heard.run, self._stay_connected, self._take_events, self._beat, self._make_stills, self._cut, self._hold,
                    self._settle, self._tell_status, self._look_slowly, *(self._runs_lane(number) for number in range(len(self.lanes))),
                ):  # fmt: skip
                    tasks.create_task(self._kept_running(work))
        finally:
            for lane in self.lanes:
                with contextlib.suppress(Exception):
                    await lane.close()
            self.outbox.close()
            self._lock.close()

    def _runs_lane(self, number: int) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            await self._send_clips(number)

        run.__name__ = f"lane {self.lanes[number].name}"
        return run

    async def _kept_running(self, work: Callable[[], Awaitable[None]]) -> None:
        """One part that fails does not take the others with it; the disk may be away for a while."""
        while True:
            try:
                await work()
            except (OutboxFailed, EventsUnreadable, sqlite3.Error, OSError, NvrError) as error:
                self._trouble = str(error)
                log.warning("%s: %s", work.__name__.strip("_"), error)
            except Exception:
                log.exception("%s failed and begins anew", work.__name__.strip("_"))
            await asyncio.sleep(5.0)

    # -- connection

    async def _stay_connected(self) -> None:
        failures = 0
        while True:
            welcomes, wait_s = self.control.welcomes, 0.0
            try:
                await self._get_in()
                self._last_error = await self.control.session()
                if "took over" in self._last_error:
                    wait_s = REFUSED_S
            except NotWelcome as error:
                self._last_error, wait_s = f"{error} {error.hint}".strip(), REFUSED_S
                self._welcome.clear()
                if "401" in str(error):
                    self.enrolment.forget()
                    wait_s = 5.0 if failures < 3 else REFUSED_S
            except HubFailed as error:
                self._last_error = str(error)
            # A link that breaks all the time is not a hub that is away: a box is silent after 30 s.
            failures = 0 if self.control.welcomes > welcomes else failures + 1
            wait_s = max(wait_s, min(back_off_s(failures), CONTROL_WAIT_S))
            log.info("hub: %s; again in %.1f s", self._last_error, wait_s)
            await asyncio.sleep(wait_s)

    async def _get_in(self) -> None:
        """The hub's time is known and not old, and the hub knows us. Raises HubFailed, NotWelcome."""
        known = self.link.time
        if self.enrolment.is_done() and known is not None and self.clock.mono_ns() - known.mono_ns < ASK_TIME_S * 1e9:
            self._welcome.set()
            return
        client = self.link.client()
        try:
            await self.link.ask_time(client)
            if not self.enrolment.is_done():
                await enrol(client, self.link, self.hub.code, self.site.box, self.site.name, __version__)
                self.enrolment.done()
            self._welcome.set()
        finally:
            await client.aclose()

    def _hello(self) -> dict[str, Any]:
        streams = self.heard.record.get("streams")
        try:
            digest = hashlib.sha256(self.site.path.read_bytes()).hexdigest()
        except OSError:
            digest = ""
        return heartbeat.hello(
            self.site, self.boot_id, __version__, health.slot(), digest, streams if isinstance(streams, dict) else {}
        )

    def _welcomed(self, message: Message) -> None:
        """The hub may ask for less than the site file allows, never for more. Raises WireError."""
        self._last_ok_ms = message.whole("wall_ms", default=0)
        beat_s, still_s = message.body.get("heartbeat_s"), message.body.get("still_s")
        if isinstance(beat_s, int | float) and 1 <= beat_s <= 60:
            self._heartbeat_s = float(beat_s)
        if isinstance(still_s, int | float) and 1 <= still_s <= 3600:
            self._still_s = max(float(still_s), self.hub.still_s)
        cap = message.body.get("cap_kbit_s")
        caps = [
            each
            for each in (cap, self.hub.cap_kbit_s)
            if isinstance(each, int | float) and not isinstance(each, bool) and each >= 32
        ]
        self.budget.set_cap(min(caps, default=None))
        log.info("the hub welcomes us")
        self._last_error = ""

        self._beat_now.set()

    async def _command(self, message: Message) -> None:
        await self.commands.take(message)
        self._to_cut.set()

    # -- events: DATA/events -> outbox -> hub

    async def _take_events(self) -> None:
        while True:
            taken = await asyncio.to_thread(self._take_some_events)
            self._trouble = ""
            if taken:
                self.control.tell_events()
                self._to_cut.set()
            if taken < TAKE_MOST:
                self._new_events.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TAKE_S):
                        await self._new_events.wait()

    def _take_some_events(self) -> int:
        number, life = self.outbox.cursor()
        if number and not self._is_same_store(number, life):
            log.warning("the store of events is another one than before; it is read from its beginning")
            self.outbox.begin_anew((0, ""))
            number = 0
        found = self.events.after(number, TAKE_MOST)
        if not found:
            return 0
        now_ms = self.clock.read().wall_ns // 1_000_000
        told, clips = [], []
        for stored in found:
            id = wire.event_id(self.identity.box_id, stored.life, stored.number)
            clip = self._clip_of(stored, id, now_ms)
            if clip is not None:
                clips.append(clip)
            told.append(Told(stored.number, id, worth.rank_of(stored), clip.id if clip is not None else None))
        self.outbox.take(told, clips, (found[-1].number, found[-1].life), now_ms)
        if clips:
            self.outbox.bound_clips()
            self.cutter.hold()
        return len(found)

    def _is_same_store(self, number: int, life: str) -> bool:
        same = self.events.after(number - 1, 1)
        if same:
            return same[0].number != number or same[0].life == life
        return not self.events.newest(limit=1)  # empty: it is away, or was never there; else its numbers began again

    def _clip_of(self, stored: Stored, event_id: str, now_ms: int) -> Clip | None:
        rank = worth.clip_rank(stored, self.hub)
        if rank is None:
            return None
        event, evidence = stored.event, stored.evidence
        from_ns = max(event.from_ns - round(self.hub.clip_before_s * 1e9), 0)
        # A state that lasted long before it was told is shown by its end, not by an hour of footage.
        from_ns = max(from_ns, event.to_ns - round((self.hub.clip_before_s + 60) * 1e9))
        to_ns = event.to_ns + round(self.hub.clip_after_s * 1e9)
        bits_per_s = self.heard.stream(evidence.stream).get("bits_per_s")
        size_bytes = round((bits_per_s if isinstance(bits_per_s, int | float) else 0) / 8 * (to_ns - from_ns) / 1e9)
        wanted = Wanted(
            evidence.stream, evidence.boot_id, from_ns, to_ns, evidence.from_sequence, evidence.to_sequence, event=event_id,
            size_bytes=size_bytes,
        )  # fmt: skip
        id = hashlib.sha256(f"clip of {event_id}".encode()).hexdigest()[:32]
        return Clip(id, rank, now_ms, wanted, None)

    async def _next_events(self, limit: int, without: frozenset[str]) -> list[Outgoing]:
        return await asyncio.to_thread(self._outgoing, limit, without)

    def _outgoing(self, limit: int, without: frozenset[str]) -> list[Outgoing]:
        found: list[Outgoing] = []
        while not found:
            waiting = self.outbox.events(limit, without)
            if not waiting:
                return []
            gone = []
            for told in waiting:
                stored = next(iter(self.events.after(told.number - 1, 1)), None)
                if stored is None or wire.event_id(self.identity.box_id, stored.life, stored.number) != told.id:
                    gone.append(told.id)
                    continue
                found.append(self._outgoing_of(stored, told))
            if gone:
                self.outbox.give_up_events(gone, "the box keeps only so many events, and these were the oldest")
        return found

    def _outgoing_of(self, stored: Stored, told: Told) -> Outgoing:
        jpeg = self.events.still(stored.number) if stored.has_still else None
        from_ns = self._wall_of(stored)
        digest = None if jpeg is None else hashlib.sha256(jpeg).hexdigest()
        from_ms = None if from_ns is None else from_ns // 1_000_000
        body = heartbeat.event_body(stored, self.identity.box_id, told.clip, digest, from_ms)
        still = None
        if jpeg is not None and digest is not None:
            camera, clock = stored.event.camera, heartbeat.clock_body(self.heard.record, self.clock.read())
            signature = self.identity.sign(wire.still_signed(camera, from_ms or 0, digest)).hex()
            fields = {
                "camera": camera, "captured_ms": from_ms or 0, "clock": clock, "sha256": digest, "signature": signature, "event": told.id,
            }  # fmt: skip
            still = Message("still", fields, jpeg)
        return Outgoing(told.id, Message("event", body), still, told.came_ms)

    def _wall_of(self, stored: Stored) -> int | None:
        """When it was, as it is known now: a clock that was set since moves it (docs/time.md)."""
        if self._timeline is not None and stored.evidence.boot_id:
            wall = self._timeline.wall_of(bytes.fromhex(stored.evidence.boot_id), stored.event.from_ns)
            if wall.state is not ClockState.UNKNOWN:
                return wall.ns
        return stored.event.wall_ns

    async def _acknowledged(self, ids: list[str]) -> None:
        await asyncio.to_thread(self.outbox.acknowledged, ids)
        self._last_ok_ms = (self.link.now_ns() or 0) // 1_000_000

    async def _refused(self, ids: list[str], why: str) -> None:
        await asyncio.to_thread(self.outbox.give_up_events, ids, why)

    # -- clips: ring -> file -> hub

    async def _cut(self) -> None:
        while True:
            urgent_only = self._ladder.level >= ladder.CLIPS or self._is_quiet_now()
            clip = await asyncio.to_thread(self.cutter.next, urgent_only=urgent_only)
            if clip is None:
                self._to_cut.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1.0):
                        await self._to_cut.wait()
                continue
            try:
                await asyncio.to_thread(self.cutter.cut, clip)
            except Gone as error:
                await asyncio.to_thread(self.outbox.give_up_clip, clip.id, str(error))
                if clip.wanted.command:
                    self.control.reply(clip.wanted.command, False, str(error))
            except CannotCut as error:
                log.warning("clip %s: %s", clip.id, error)
                await asyncio.sleep(5.0)
            for event in self._new_clips:
                event.set()

    async def _hold(self) -> None:
        while True:
            await asyncio.to_thread(self.cutter.hold)
            await asyncio.sleep(HOLD_S)

    def _is_quiet_now(self) -> bool:
        now_ns = self.link.now_ns()
        if not self.hub.quiet_hours or now_ns is None:
            return False
        now = datetime.fromtimestamp(now_ns / 1e9, self.site.time_zone)
        return is_quiet(self.hub.quiet_hours, now.hour * 60 + now.minute)

    def _may_go(self, clip: Clip) -> bool:
        if clip.rank < worth.RANK_STATE:
            return self._ladder.level < ladder.ALARMS
        return self._ladder.level < ladder.CLIPS and (clip.rank < worth.RANK_CLIP or not self._is_quiet_now())

    async def _send_clips(self, number: int) -> None:
        lane, failures = self.lanes[number], 0
        warmed_s = float("-inf")
        while True:
            await self._welcome.wait()
            clip = await self._clip_for(number)
            if clip is None:
                if number == 0 and time.monotonic() - warmed_s > 50.0:
                    warmed_s = time.monotonic()
                    with contextlib.suppress(HubFailed):
                        await lane.warm()
                self._new_clips[number].clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1.0):
                        await self._new_clips[number].wait()
                continue
            self._sending.add(clip.id)
            before_bytes = self.counts.through_bytes
            try:
                await lane.send(clip)
                await asyncio.to_thread(self.outbox.stored, clip.id)
                self._last_ok_ms = (self.link.now_ns() or 0) // 1_000_000
                failures = 0
            except Yielded:
                failures = 0
            except Refused as error:
                await asyncio.to_thread(self.outbox.give_up_clip, clip.id, str(error))
                if clip.wanted.command:
                    self.control.reply(clip.wanted.command, False, str(error))
            except Spoilt as error:
                log.warning("clip %s is cut again: %s", clip.id, error)
                await asyncio.to_thread(self.outbox.cut_again, clip.id)
            except HubFailed as error:
                log.info("%s: %s", lane.name, error)
                self._last_error = str(error)
                failures = 0 if self.counts.through_bytes > before_bytes else failures + 1
                await asyncio.sleep(back_off_s(failures))
            finally:
                self._sending.discard(clip.id)
                self._to_cut.set()

    async def _clip_for(self, number: int) -> Clip | None:
        """Lane 0 has the alarms; the others take them as well when it has one already, so that each begins at once."""
        for clip in await asyncio.to_thread(self.outbox.to_send):
            if clip.id in self._sending or not self._may_go(clip):
                continue
            is_alarm = clip.rank < worth.RANK_STATE
            if (number == 0) if not is_alarm else (number > 0 and not self._lane_0_is_busy()):
                continue
            if self.budget.may_begin(clip.rank):
                return clip
        return None

    def _lane_0_is_busy(self) -> bool:
        return self.lanes[0].clip_id is not None

    # -- heartbeats

    async def _beat(self) -> None:
        while True:
            self._depth = await asyncio.to_thread(self.outbox.depth)
            self._send_heartbeat()
            if self.control.is_connected:
                await self.commands.final()
            self._beat_now.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._heartbeat_s):
                    await self._beat_now.wait()

    def _send_heartbeat(self) -> None:
        reading = self.clock.read()
        detect = self.heard.detect if time.monotonic() - self.heard.detect_s < DETECT_SILENT_S else {}
        looks = detect.get("cameras")
        try:
            states = (
                heartbeat.states_body(self.events.states(), str(detect.get("life")), self.identity.box_id)
                if detect
                else []
            )
        except EventsUnreadable:
            states = []
        cameras = heartbeat.cameras_body(
            self.site, self.heard.record, self.heard.silent_s(), looks if isinstance(looks, dict) else {}
        )
        causes = {str(each["cause"]) for each in cameras.values() if str(each["cause"] or "").startswith("disk")}
        rtt_ms = self.budget.rtt_ms()
        body: dict[str, Any] = (
            {
                "at_ms": reading.wall_ns // 1_000_000 if reading.state is not ClockState.UNKNOWN else 0,
                "mono_ms": reading.mono_ns // 1_000_000, "boot_id": self.boot_id,
                "clock": heartbeat.clock_body(self.heard.record, reading), "cameras": cameras, "states": states, "ledger": self._ledger,
                "disk": health.disk(self.data_dir, ", ".join(sorted(causes)) or self._trouble), "temperature_c": health.temperature_c(),
                "load": health.load(), "uplink": self._uplink_body(rtt_ms), "outbox": self._depth, "shed": self._shed(detect),
                "slot": health.slot(), "update": health.update(self.run_dir),
            }
        )  # fmt: skip
        if not self.heard.detect:
            del body["states"]  # a box that has just started does not take back what it said
        self.control.beat(body)

    def _uplink_body(self, rtt_ms: float | None) -> dict[str, Any]:
        return {
            "sent_bytes": self.budget.sent_bytes, "resent_bytes": self.counts.resent_bytes, "cap_kbit_s": self.budget.cap_kbit_s,
            "rtt_ms": None if rtt_ms is None else round(rtt_ms), "breaks": self.counts.breaks, "stored": self.counts.stored,
        }  # fmt: skip

    def _shed(self, detect: dict[str, Any]) -> list[str]:
        shed = list(self._ladder.shed)
        if self._stills_trouble and "stills" not in shed:
            shed.append(f"stills: {self._stills_trouble}")
        behind = [
            name for name, each in (detect.get("cameras") or {}).items() if isinstance(each, dict) and each.get("shed")
        ]
        if behind and "object detection" not in shed:
            shed.append(f"object detection: pictures left out of {', '.join(sorted(behind)[:8])}")
        return shed

    def _take_status(self, status: dict[str, Any]) -> None:
        """Once a second, from `record`."""
        before = self._ladder
        self._ladder = ladder.step(before, ladder.strain_of(status), time.monotonic())
        if self._ladder.level != before.level:
            given = ", ".join(self._ladder.shed) or "nothing"
            log.warning("given up for recording: %s (%s)", given, self._ladder.why or "it goes well again")
            self.control.allows_stills = self._ladder.level < ladder.STILLS
            self.control.allows_live = self._ladder.level < ladder.LIVE

    # -- stills and live

    def _take_fragment(self, fragment: Any) -> None:
        if self.relay.watched:
            self.relay.take(fragment)
            self.control.wake()

    def _want_still(self, camera: str) -> None:
        self._still_wanted.add(camera)

    async def _make_stills(self) -> None:
        try:
            from nvr.uplink import stills
        except ImportError as error:
            self._stills_trouble = f"the package {error.name} is not installed"
            log.warning("no stills: %s", self._stills_trouble)
            await asyncio.Event().wait()
            return
        self._stills = stills.Stills(self.data_dir, self.site.cameras)
        due = {camera.name: time.monotonic() for camera in self.site.cameras}
        while True:
            await asyncio.sleep(0.5)
            now_s = time.monotonic()
            if not self.control.is_connected or self._ladder.level >= ladder.STILLS:
                continue
            for camera in list(due):
                if now_s < due[camera] and camera not in self._still_wanted:
                    continue
                fragment = self._newest_keyframe(camera)
                if fragment is None or self._still_of.get(camera) == (fragment[1].run, fragment[1].sequence):
                    continue  # an old picture is not sent again: the wall shows its age
                due[camera] = now_s + self._still_s
                self._still_wanted.discard(camera)
                self._still_of[camera] = (fragment[1].run, fragment[1].sequence)
                try:
                    made = await asyncio.to_thread(self._stills.make, *fragment)
                except stills.NoStill as error:
                    log.debug("%s", error)
                    continue
                self.control.still(stills.message(made, self.identity, *self._captured(made)))

    def _newest_keyframe(self, camera: str) -> Any:
        """Of the small stream where it is recorded and alive, else of the main one."""
        found = [self.heard.keyframes.get(f"{camera}/{kind}") for kind in ("small", "main")]
        now_ns = self.clock.mono_ns()
        alive = [each for each in found if each is not None and now_ns - each[1].mono_ns < 60_000_000_000]
        return alive[0] if alive else None

    def _captured(self, made: Any) -> tuple[int, str, int]:
        """(wall time, clock state, error): the recorder's, or the hub's own where the box does not know the time."""
        record = made.record
        if record.clock_state is ClockState.SYNCED:
            return made.captured_ns, "synced", record.clock_error_ns
        hub_ns = self.link.now_ns()
        if self.link.time is not None and hub_ns is not None:
            ago_ns = self.clock.mono_ns() - record.mono_ns - (made.captured_ns - record.wall_ns)
            return hub_ns - ago_ns, record.clock_state.name.lower(), self.link.time.error_ns
        if record.clock_state is ClockState.UNKNOWN:
            return 0, "unknown", 0
        return made.captured_ns, "plausible", record.clock_error_ns

    # -- housekeeping

    async def _settle(self) -> None:
        while True:
            self.budget.settle()
            await asyncio.sleep(SETTLE_S)

    async def _look_slowly(self) -> None:
        while True:
            began_s = time.monotonic()
            self._timeline = await asyncio.to_thread(self._read_timeline)
            self._ledger = await asyncio.to_thread(health.ledger_today, self.site, self.data_dir, self.clock)
            self._offer_time()
            await asyncio.sleep(max(SLOW_FACTS_S, SLOW_FACTS_PART * (time.monotonic() - began_s)))

    def _read_timeline(self) -> Timeline:
        return Timeline.from_samples(journal.read(self.data_dir / "journal").samples())

    def _offer_time(self) -> None:
        """The hub's time, for the journal of `record`: a box without a clock learns from it when its footage was."""
        reading = self.link.offer()
        if reading is None or time.monotonic() - self._offered_s < OFFER_S:
            return
        offer_reading(self.run_dir, bytes.fromhex(self.boot_id), reading)
        self._offered_s = time.monotonic()

    async def _tell_status(self) -> None:
        while True:
            await asyncio.to_thread(write_status, self.run_dir, self.status())
            await asyncio.sleep(STATUS_S)

    def status(self) -> dict[str, Any]:
        """DATA/run/uplink.json."""
        return {
            "connected": self.control.is_connected, "enrolled": self.enrolment.is_done(), "hub": self.hub.url, "box_id": self.link.box_id,
            "since_ms": self.control.since_ms, "last_ok_ms": self._last_ok_ms, "last_error": self._last_error[:500],
            "outbox": self._depth, "uplink": self._uplink_body(self.budget.rtt_ms()), "shed": list(self._ladder.shed),
            "trouble": self._trouble, "quiet": self._is_quiet_now(), "connections": self.control.connections,
            "longest_heartbeat_gap_s": round(self.control.longest_heartbeat_gap_s, 1), "bad_messages": self.control.bad_messages,
            "alarm_told_s": [round(each, 2) for each in self.control.alarm_told_s], "alarm_clip_begun_s": [round(each, 2) for each in self.counts.begun_s], "mono_ms": self.clock.mono_ns() // 1_000_000,
        }  # fmt: skip


def _locked(path: Path) -> TextIO:
    """Two of us would take each other's connection and cut each other's clips. Raises NvrError."""
    lock = open(path, "a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise NvrError(
            f"another uplink works for {path.parent.parent}", hint="Stop it, or use another --data directory."
        ) from None
    return lock


def write_status(run_dir: Path, status: dict[str, Any]) -> None:
    """Replace it as a whole; not synced: it is only of now."""
    draft = run_dir / ".uplink.json"
    draft.write_text(json.dumps(status))
    draft.replace(run_dir / "uplink.json")
