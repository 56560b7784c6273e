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
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from nvr import __version__, installed, priority, systemd, wire
from nvr.clock import Clock, SystemClock, boot_id, offer_reading
from nvr.errors import NvrError
from nvr.events import EventsUnreadable
from nvr.evidence import Identity
from nvr.media import ClockState
from nvr.site_settings import Site
from nvr.uplink import health, heartbeat, ladder
from nvr.uplink.budget import Budget
from nvr.uplink.bundles import Bundles
from nvr.uplink.commands import Commands
from nvr.uplink.control import Control, Outgoing
from nvr.uplink.cutting import Cutter
from nvr.uplink.enrol import Enrolment, enrol
from nvr.uplink.feed import TAKE_MOST, Feed
from nvr.uplink.frozen import Frozen
from nvr.uplink.hearing import Heard
from nvr.uplink.link import ASK_TIME_S, HubFailed, Link, NotWelcome
from nvr.uplink.newest import Newest
from nvr.uplink.outbox import Outbox, OutboxFailed
from nvr.uplink.relay import Relay
from nvr.uplink.sending import LANES, Sending
from nvr.uplink.standing import Standing
from nvr.uplink.upload import back_off_s
from nvr.wire import Message

log = logging.getLogger(__name__)

TAKE_S = 0.5  # new events are looked for so often, and at once when `detect` tells of one
SLOW_FACTS_S = 20.0  # ledger and clock
SLOW_FACTS_PART = (
    50.0  # late in the day they are seconds of work on a small board, and a fiftieth of its time is enough
)
STATUS_S = 3.0
STATUS_S_MOST = 20.0  # whoever judges a new slot by DATA/run/uplink.json (firmware/gate.py) believes it for a minute
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
        self.link = Link(self.hub.url, self.hub.fingerprint, self.identity, self.clock)
        self.budget = Budget(self.hub.cap_kbit_s, self.hub.floor_kbit_s, yields=self.hub.yields)
        self.heard = Heard(self.run_dir)
        self.relay = Relay(data_dir, self.clock)
        self.cutter = Cutter(site, data_dir, self.outbox, self.identity, self.clock, self.boot_id)
        self.enrolment = Enrolment(data_dir / "outbox" / "enrolled", self.hub.url, self.link.box_id)
        self.standing = Standing()
        self.feed = Feed(self.hub, data_dir, self.outbox, self.heard, self.identity, self.clock)
        self.control = Control(
            self.link, self.budget, self.relay, hello=self._hello, next_events=self._next_events, acknowledged=self._acknowledged,
            refused=self._refused, welcomed=self._welcomed, command=self._command,
        )  # fmt: skip
        self.newest = Newest(
            site.cameras, data_dir, self.hub.still_s, heard=self.heard, link=self.link, control=self.control, standing=self.standing,
            identity=self.identity, clock=self.clock,
        )  # fmt: skip
        self.frozen = Frozen(data_dir, tuple(camera.name for camera in site.cameras), self.newest.keyframe)
        self.bundles = Bundles(self.link, data_dir, lambda: self.budget.cap_kbit_s, site.box)
        self.commands = Commands(
            site, data_dir, self.outbox, self.relay, self.heard, self.clock, bundles=self.bundles, reply=self.control.reply,
            want_still=self.newest.want, now_ns=self.link.now_ns,
        )  # fmt: skip
        self.sending = Sending(
            site, self.link, self.budget, self.outbox, self.cutter, self.control, self.standing, take_back=self.commands.take_back,
        )  # fmt: skip
        self.counts = self.sending.counts
        self._new_events, self._beat_now, self._acknowledgements = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._to_forget: frozenset[str] = frozenset()  # acknowledged, and still in the outbox
        # Of its own: those that everybody shares may all wait for a sync at once.
        self._asking = ThreadPoolExecutor(1, "events")
        self._heartbeat_s = wire.HEARTBEAT_S
        self._ledger: dict[str, Any] = {}
        self._depth: dict[str, Any] = {}
        self._offered_s = float("-inf")

    async def run(self) -> None:
        self.heard.on_fragment += (self._take_fragment, self.frozen.take)
        self.heard.on_status.append(self._take_status)
        self.heard.on_event = self._hear_event
        swept = await asyncio.to_thread(self.outbox.sweep)
        if swept:
            log.info("%d unfinished clips removed", swept)
        lanes = [partial(self.sending.send, number) for number in range(len(LANES))]
        works: list[Callable[[], Awaitable[None]]] = [
            self.heard.run, self._stay_connected, self._take_events, self._beat, self.newest.run, self.sending.cut, self.sending.hold,
            self._forget_acknowledged, self._settle, systemd.signs_of_life, self._tell_status, self._look_slowly, self._look_for_frozen, self.bundles.run, *lanes,
        ]  # fmt: skip
        try:
            async with asyncio.TaskGroup() as tasks:
                for work in works:
                    tasks.create_task(self._kept_running(work))
        finally:
            await self.sending.close()
            self._asking.shutdown(cancel_futures=True)
            self.outbox.close()
            self._lock.close()

    async def _kept_running(self, work: Callable[[], Awaitable[None]]) -> None:
        """One part that fails does not take the others with it; the disk may be away for a while."""
        name = getattr(work, "__qualname__", "a lane")
        while True:
            try:
                await work()
            except (OutboxFailed, EventsUnreadable, sqlite3.Error, OSError, NvrError) as error:
                self.standing.trouble = str(error)
                log.warning("%s: %s", name, error)
            except Exception:
                log.exception("%s failed and begins anew", name)
            await asyncio.sleep(5.0)

    # -- connection

    async def _stay_connected(self) -> None:
        failures = 0
        while True:
            welcomes, wait_s = self.control.welcomes, 0.0
            try:
                await self._get_in()
                self.standing.last_error = await self.control.session()
                if "took over" in self.standing.last_error:
                    wait_s = REFUSED_S
            except NotWelcome as error:
                self.standing.last_error, wait_s = f"{error} {error.hint}".strip(), REFUSED_S
                self.standing.is_in.clear()
                if "401" in str(error):
                    self.enrolment.forget()
                    wait_s = 5.0 if failures < 3 else REFUSED_S
            except HubFailed as error:
                self.standing.last_error = str(error)
            # A link that breaks all the time is not a hub that is away: a box is silent after 30 s.
            failures = 0 if self.control.welcomes > welcomes else failures + 1
            wait_s = max(wait_s, min(back_off_s(failures), CONTROL_WAIT_S))
            log.info("hub: %s; again in %.1f s", self.standing.last_error, wait_s)
            await asyncio.sleep(wait_s)

    async def _get_in(self) -> None:
        """The hub's time is known and not old, and the hub knows us. Raises HubFailed, NotWelcome."""
        known = self.link.time
        if self.enrolment.is_done() and known is not None and self.clock.mono_ns() - known.mono_ns < ASK_TIME_S * 1e9:
            self.standing.is_in.set()
            return
        client = self.link.client()
        try:
            await self.link.ask_time(client)
            if not self.enrolment.is_done():
                await enrol(client, self.link, self.hub.code, self.site.box, self.site.name, __version__)
                self.enrolment.done()
            self.standing.is_in.set()
        finally:
            await client.aclose()

    def _hello(self) -> dict[str, Any]:
        streams = self.heard.record.get("streams")
        try:
            digest = hashlib.sha256(self.site.path.read_bytes()).hexdigest()
        except OSError:
            digest = ""
        return heartbeat.hello(
            self.site, self.boot_id, __version__, installed.slot(), digest, streams if isinstance(streams, dict) else {}
        )

    def _welcomed(self, message: Message) -> None:
        """The hub may ask for less than the site file allows, never for more. Raises WireError."""
        self.standing.last_ok_ms = message.whole("wall_ms", default=0)
        beat_s, still_s = message.body.get("heartbeat_s"), message.body.get("still_s")
        if isinstance(beat_s, int | float) and 1 <= beat_s <= 60:
            self._heartbeat_s = float(beat_s)
        if isinstance(still_s, int | float) and 1 <= still_s <= 3600:
            self.newest.set_still_s(float(still_s))
        cap = message.body.get("cap_kbit_s")
        caps = [
            each
            for each in (cap, self.hub.cap_kbit_s)
            if isinstance(each, int | float) and not isinstance(each, bool) and each >= 32
        ]
        self.budget.set_cap(min(caps, default=None))
        log.info("the hub welcomes us")
        self.commands.welcomed()
        self.standing.last_error = ""
        self._beat_now.set()

    async def _command(self, message: Message) -> None:
        await self.commands.take(message)
        self.sending.look()

    # -- events and clips

    async def _take_events(self) -> None:
        while True:
            taken = await asyncio.to_thread(self.feed.take)
            self.standing.trouble = ""
            if taken:
                self.control.tell_events()
                self.sending.look()
            if any(told.clip for told in taken):
                await asyncio.to_thread(self.cutter.hold)
            if len(taken) < TAKE_MOST:
                self._new_events.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TAKE_S):
                        await self._new_events.wait()

    def _hear_event(self) -> None:
        self._new_events.set()
        self.control.tell_events()  # an alarm leaves before the outbox has it

    async def _next_events(self, limit: int, without: frozenset[str]) -> list[Outgoing]:
        without |= self._to_forget
        return await asyncio.get_running_loop().run_in_executor(self._asking, self.feed.outgoing, limit, without)

    async def _acknowledged(self, ids: list[str]) -> None:
        """What makes room for the next event waits for no disk; until they are out of the outbox they are not told again."""
        self.feed.acknowledged(ids)
        self._to_forget |= frozenset(ids)
        self._acknowledgements.set()
        self.standing.heard_at(self.link.now_ns())

    async def _forget_acknowledged(self) -> None:
        """As many as came meanwhile in one transaction."""
        while True:
            await self._acknowledgements.wait()
            self._acknowledgements.clear()
            ids = self._to_forget
            try:
                await asyncio.to_thread(self.outbox.acknowledged, sorted(ids))
            except OutboxFailed:
                self._acknowledgements.set()  # once more, a little later
                raise
            self._to_forget -= ids

    async def _refused(self, ids: list[str], why: str) -> None:
        await asyncio.to_thread(self.outbox.give_up_events, ids, why)

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
                heartbeat.states_body(self.feed.events.states(), str(detect.get("life")), self.identity.box_id)
                if detect
                else []
            )
        except EventsUnreadable:
            states = []
        at_ms = reading.wall_ns // 1_000_000 if reading.state is not ClockState.UNKNOWN else 0
        cameras = heartbeat.cameras_body(
            self.site,
            self.heard.record,
            self.heard.silent_s(),
            looks if isinstance(looks, dict) else {},
            self.frozen.since_ms,
            at_ms,
        )
        causes = {str(each["cause"]) for each in cameras.values() if str(each["cause"] or "").startswith("disk")}
        if (slow := self.heard.record.get("disk_slow")) and self.heard.silent_s() < heartbeat.SILENT_S:
            causes.add(f"disk slow: {str(slow)[: heartbeat.DETAIL_MOST]}")
        rtt_ms = self.budget.rtt_ms()
        body: dict[str, Any] = (
            {
                "at_ms": at_ms, "mono_ms": reading.mono_ns // 1_000_000, "boot_id": self.boot_id,
                "clock": heartbeat.clock_body(self.heard.record, reading), "cameras": cameras, "states": states, "ledger": self._ledger,
                "disk": health.disk(self.data_dir, ", ".join(sorted(causes)) or self.standing.trouble), "temperature_c": health.temperature_c(),
                "load": health.load(), "uplink": self._uplink_body(rtt_ms), "outbox": self._depth, "shed": self._shed(detect),
                "troubles": health.troubles_of(self.run_dir, self.heard.record if self.heard.silent_s() < heartbeat.SILENT_S else {}, at_ms),
                "slot": installed.slot(), "update": installed.last_update(self.run_dir),
            }
        )  # fmt: skip
        if not self.heard.detect:
            del body["states"]  # a box that has just started does not take back what it said
        self.control.beat(body)

    def _uplink_body(self, rtt_ms: float | None) -> dict[str, Any]:
        return {
            "sent_bytes": self.budget.sent_bytes, "resent_bytes": self.counts.resent_bytes, "cap_kbit_s": self.budget.cap_kbit_s,
            "yields_kbit_s": None if self.budget.courtesy is None else round(self.budget.courtesy.bytes_s / 125),
            "rtt_ms": None if rtt_ms is None else round(rtt_ms), "breaks": self.counts.breaks, "stored": self.counts.stored,
        }  # fmt: skip

    def _shed(self, detect: dict[str, Any]) -> list[str]:
        shed = list(self.standing.ladder.shed)
        if self.newest.trouble and "stills" not in shed:
            shed.append(f"stills: {self.newest.trouble}")
        behind = [
            name for name, each in (detect.get("cameras") or {}).items() if isinstance(each, dict) and each.get("shed")
        ]
        if behind and "object detection" not in shed:
            shed.append(f"object detection: pictures left out of {', '.join(sorted(behind)[:8])}")
        return shed

    def _take_status(self, status: dict[str, Any]) -> None:
        """Once a second, from `record`."""
        before = self.standing.ladder
        self.standing.ladder = ladder.step(before, ladder.strain_of(status), time.monotonic())
        if self.standing.ladder.level != before.level:
            given = ", ".join(self.standing.ladder.shed) or "nothing"
            log.warning("given up for recording: %s (%s)", given, self.standing.ladder.why or "it goes well again")
            self.control.allows_stills = self.standing.ladder.level < ladder.STILLS
            self.control.allows_live = self.standing.ladder.level < ladder.LIVE

    # -- live

    def _take_fragment(self, fragment: Any) -> None:
        if self.relay.watched:
            self.relay.take(fragment)
            self.control.wake()

    async def _look_for_frozen(self) -> None:
        await self.frozen.run(self.newest.taken_ms, self._beat_now.set)

    # -- housekeeping

    async def _settle(self) -> None:
        while True:
            self.budget.settle()
            await asyncio.sleep(SETTLE_S)

    async def _look_slowly(self) -> None:
        while True:
            began_s = time.monotonic()
            await asyncio.to_thread(self.feed.learn_times)
            self._ledger = await asyncio.to_thread(health.ledger_today, self.site, self.data_dir, self.clock)
            priority.give_back_memory()  # a whole journal is 16 MB
            self._offer_time()
            await asyncio.sleep(max(SLOW_FACTS_S, SLOW_FACTS_PART * (time.monotonic() - began_s)))

    def _offer_time(self) -> None:
        """The hub's time, for the journal of `record`: a box without a clock learns from it when its footage was."""
        reading = self.link.offer()
        if reading is None or time.monotonic() - self._offered_s < OFFER_S:
            return
        offer_reading(self.run_dir, bytes.fromhex(self.boot_id), reading)
        self._offered_s = time.monotonic()

    async def _tell_status(self) -> None:
        while True:
            began_s = time.monotonic()
            self._depth = await asyncio.to_thread(self.outbox.depth)
            took_s = time.monotonic() - began_s  # tens of milliseconds where weeks of clips wait
            await asyncio.to_thread(write_status, self.run_dir, self.status())
            await asyncio.sleep(status_pause_s(took_s))

    def status(self) -> dict[str, Any]:
        """DATA/run/uplink.json."""
        return {
            "connected": self.control.is_connected, "enrolled": self.enrolment.is_done(), "hub": self.hub.url, "box_id": self.link.box_id,
            "since_ms": self.control.since_ms, "last_ok_ms": self.standing.last_ok_ms, "last_error": self.standing.last_error[:500],
            "outbox": self._depth, "uplink": self._uplink_body(self.budget.rtt_ms()), "shed": list(self.standing.ladder.shed),
            "trouble": self.standing.trouble, "quiet": self.sending.is_quiet_now(), "connections": self.control.connections,
            "longest_heartbeat_gap_s": round(self.control.longest_heartbeat_gap_s, 1), "bad_messages": self.control.bad_messages,
            "alarm_told_s": [round(each, 2) for each in self.control.alarm_told_s], "alarm_clip_begun_s": [round(each, 2) for each in self.counts.begun_s], "mono_ms": self.clock.mono_ns() // 1_000_000, "boot_id": self.boot_id,
        }  # fmt: skip


def status_pause_s(took_s: float) -> float:
    """Until the status is told again. A disk that took seconds for it once must not make the word of an uplink that talks an old one."""
    return min(STATUS_S_MOST, max(STATUS_S, SLOW_FACTS_PART * took_s))


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
