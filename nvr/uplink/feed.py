"""From DATA/events into the outbox, and from there to what goes over the control channel. Blocking; called in threads."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path

from nvr import journal, wire
from nvr.clock import Clock
from nvr.events import Events, Stored
from nvr.evidence import Identity
from nvr.media import ClockState
from nvr.site_settings import Hub
from nvr.timeline import Timeline
from nvr.uplink import heartbeat, worth
from nvr.uplink.control import Outgoing
from nvr.uplink.hearing import Heard
from nvr.uplink.outbox import Clip, Outbox, Told, Wanted
from nvr.wire import Message

log = logging.getLogger(__name__)

TAKE_MOST = 200
ACKNOWLEDGED_KEPT = 1000


class Feed:
    def __init__(
        self, hub: Hub, data_dir: Path, outbox: Outbox, heard: Heard, identity: Identity, clock: Clock
    ) -> None:
        self.hub, self.outbox, self.heard, self.identity, self.clock = hub, outbox, heard, identity, clock
        self.events = Events(data_dir / "events")
        self._journal_path = data_dir / "journal"
        self._timeline: Timeline | None = None
        self._acknowledged: dict[str, None] = {}  # lately, the oldest first

    def acknowledged(self, ids: Iterable[str]) -> None:
        """The hub has committed these; some may not be in the outbox yet, and need not come there. Waits for nothing."""
        self._acknowledged |= dict.fromkeys(ids)
        while len(self._acknowledged) > ACKNOWLEDGED_KEPT:
            del self._acknowledged[next(iter(self._acknowledged))]

    def learn_times(self) -> None:
        """Read anew when things were: a clock that was set since moves them."""
        self._timeline = Timeline.from_samples(journal.read(self._journal_path).samples())

    def take(self) -> list[Told]:
        """Take over what is new, with the clips that go with it; at most TAKE_MOST. Raises OutboxFailed, EventsUnreadable."""
        number, life = self.outbox.cursor()
        if number and not self._is_same_store(number, life):
            log.warning("the store of events is another one than before; it is read from its beginning")
            self.outbox.begin_anew((0, ""))
            number = 0
        found = self.events.after(number, TAKE_MOST)
        if not found:
            return []
        now_ms = self.clock.read().wall_ns // 1_000_000
        told, clips = [], []
        for stored in found:
            id = wire.event_id(self.identity.box_id, stored.life, stored.number)
            clip = self._clip_of(stored, id, now_ms)
            if clip is not None:
                clips.append(clip)
            told.append(Told(stored.number, id, worth.rank_of(stored), clip.id if clip is not None else None))
        waiting = [each for each in told if each.id not in self._acknowledged]
        self.outbox.take(waiting, clips, (found[-1].number, found[-1].life), now_ms)
        if clips:
            self.outbox.bound_clips()
        return told

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

    def outgoing(self, limit: int, without: frozenset[str]) -> list[Outgoing]:
        """The most urgent events that are not `without`, as they are to be sent. Raises OutboxFailed, EventsUnreadable.

        An alarm is durable in DATA/events already and does not wait until the outbox has taken it over, nor for anybody who writes there.
        """
        found = self._alarms_not_taken(limit, without)
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

    def _alarms_not_taken(self, limit: int, without: frozenset[str]) -> list[Outgoing]:
        number, life = self.outbox.cursor()
        if number and not self._is_same_store(number, life):
            return []  # take() sees to that first
        found = []
        for stored in self.events.after(number, TAKE_MOST):
            id = wire.event_id(self.identity.box_id, stored.life, stored.number)
            rank = worth.rank_of(stored)
            if rank != worth.RANK_ALARM or id in without or id in self._acknowledged:
                continue
            now_ms = self.clock.read().wall_ns // 1_000_000
            clip = self._clip_of(stored, id, now_ms)
            told = Told(stored.number, id, rank, clip.id if clip is not None else None, now_ms)
            found.append(self._outgoing_of(stored, told))
            if len(found) == limit:
                break
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
