"""Clips on their way: spans are held, cut when their turn comes, and sent over three lanes. Belongs to the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import datetime

from nvr.site_settings import Site
from nvr.uplink import ladder, worth
from nvr.uplink.budget import Budget, is_quiet
from nvr.uplink.control import Control
from nvr.uplink.cutting import CannotCut, Cutter, Gone
from nvr.uplink.link import Busy, HubFailed, Link
from nvr.uplink.outbox import Clip, Outbox
from nvr.uplink.standing import Standing
from nvr.uplink.upload import Counts, Lane, Refused, Spoilt, Yielded, back_off_s

log = logging.getLogger(__name__)

HOLD_S = 10.0
WARM_S = 25.0  # an alarm must not wait for a connection; a hub closes one that is not used for 30 s
LANES = ("alarms", "clips 1", "clips 2")


class Sending:
    def __init__(
        self,
        site: Site,
        link: Link,
        budget: Budget,
        outbox: Outbox,
        cutter: Cutter,
        control: Control,
        standing: Standing,
        *,
        take_back: Callable[[str, str], Awaitable[None]],
    ) -> None:
        """`take_back(command, why)` tells the hub that a clip it asked for does not come."""
        assert site.hub is not None
        self.site, self.hub = site, site.hub
        self.link, self.budget, self.outbox, self.cutter, self.control, self.standing = (
            link,
            budget,
            outbox,
            cutter,
            control,
            standing,
        )
        self._take_back = take_back
        self.counts = Counts()
        self.lanes = [Lane(link, budget, self.counts, outbox.clips_path, name=name) for name in LANES]
        self._sending: set[str] = set()
        self._new_clips = [asyncio.Event() for _ in self.lanes]
        self._to_cut = asyncio.Event()

    def look(self) -> None:
        """There is something new to cut."""
        self._to_cut.set()

    async def close(self) -> None:
        for lane in self.lanes:
            with contextlib.suppress(Exception):
                await lane.close()

    async def cut(self) -> None:
        """Cut what is due, the most valuable first. Runs until cancelled."""
        while True:
            clip = await asyncio.to_thread(self.cutter.next, self._rank_below())
            if clip is None:
                self._to_cut.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1.0):
                        await self._to_cut.wait()
                continue
            try:
                await asyncio.to_thread(self.cutter.cut, clip)
            except Gone as error:
                await self._give_up(clip, str(error))
            except CannotCut as error:
                log.warning("clip %s: %s", clip.id, error)
                await asyncio.sleep(5.0)
            for event in self._new_clips:
                event.set()

    async def _give_up(self, clip: Clip, why: str) -> None:
        """Remembered first, so that a process that ends between the two tells it when it starts again."""
        if clip.wanted.command:
            await self._take_back(clip.wanted.command, why)
        await asyncio.to_thread(self.outbox.give_up_clip, clip.id, why)

    async def hold(self) -> None:
        """Have the ring keep what is owed. Runs until cancelled."""
        while True:
            await asyncio.to_thread(self.cutter.hold)
            await asyncio.sleep(HOLD_S)

    def is_quiet_now(self) -> bool:
        """Whether ordinary clips wait for the quiet hours to end."""
        now_ns = self.link.now_ns()
        if not self.hub.quiet_hours or now_ns is None:
            return False
        now = datetime.fromtimestamp(now_ns / 1e9, self.site.time_zone)
        return is_quiet(self.hub.quiet_hours, now.hour * 60 + now.minute)

    def _rank_below(self) -> int:
        """Only what is more valuable than this may go now."""
        level = self.standing.ladder.level
        if level >= ladder.CLIPS:
            return worth.RANK_ALARM if level >= ladder.ALARMS else worth.RANK_STATE
        return worth.RANK_CLIP if self.is_quiet_now() else worth.RANK_BULK + 1

    async def send(self, number: int) -> None:
        """One lane. Runs until cancelled."""
        lane, failures = self.lanes[number], 0
        warmed_s, breaks = float("-inf"), 0
        while True:
            await self.standing.is_in.wait()
            clip = await self._clip_for(number)
            if clip is None:
                now_breaks = self.counts.breaks + self.control.connections
                if number == 0 and (time.monotonic() - warmed_s > WARM_S or now_breaks != breaks):
                    warmed_s, breaks = time.monotonic(), now_breaks  # what broke elsewhere is broken here as well
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
                self.standing.heard_at(self.link.now_ns())
                failures = 0
            except Yielded:
                failures = 0
            except Refused as error:
                await self._give_up(clip, str(error))
            except Spoilt as error:
                log.warning("clip %s is cut again: %s", clip.id, error)
                await asyncio.to_thread(self.outbox.cut_again, clip.id)
            except Busy as error:
                self.standing.last_error = str(error)
                await asyncio.sleep(max(error.wait_s, 1.0))
            except HubFailed as error:
                log.info("%s: %s", lane.name, error)
                self.standing.last_error = str(error)
                failures = 0 if self.counts.through_bytes > before_bytes else failures + 1
                await asyncio.sleep(back_off_s(failures))
            finally:
                self._sending.discard(clip.id)
                self._to_cut.set()

    async def _clip_for(self, number: int) -> Clip | None:
        """Lane 0 has the alarms; the others take them as well when it has one already, so that each begins at once."""
        below = self._rank_below()
        for clip in await asyncio.to_thread(self.outbox.to_send):
            if clip.id in self._sending or clip.rank >= below:
                continue
            is_alarm = clip.rank < worth.RANK_STATE
            if (number == 0) if not is_alarm else (number > 0 and self.lanes[0].clip_id is None):
                continue
            if self.budget.may_begin(clip.rank):
                return clip
        return None
