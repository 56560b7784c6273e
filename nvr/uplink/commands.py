"""What the hub may ask of a box, and what it answers. Each command is done once, however often it comes (docs/formats/wire.md)."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nvr import site_trial, wire
from nvr.clock import Clock
from nvr.errors import NvrError
from nvr.media import ClockState
from nvr.ring import holds
from nvr.site_settings import Site
from nvr.uplink import health, own_log
from nvr.uplink.bundles import Bundles, WantedBundle
from nvr.uplink.cutting import may_have
from nvr.uplink.hearing import Heard
from nvr.uplink.outbox import Clip, Outbox, Wanted
from nvr.uplink.relay import Relay
from nvr.uplink.worth import RANK_ASKED
from nvr.wire import Message

log = logging.getLogger(__name__)

FETCH_S_MOST = 900  # at 4 Mbit/s 450 MB, and a hub takes 512; more is asked for in pieces
HOLD_S_MOST = 7 * 86_400
LEDGER_S_MOST = 9 * 86_400
LEDGERS_MOST = 8  # that wait for each other: late in the day one is a second of work on a small board
HUB_HOLDS_MOST = 200
PREFIX = "hub-"  # of holds that the hub made; it may release no others
RESTART_AFTER_S = 3.0  # the reply leaves first
EPHEMERAL = frozenset(("live_on", "live_off", "still", "logs", "ledger"))  # not remembered: asked twice, done twice
_VERSION = re.compile(r"[A-Za-z0-9._+~-]{1,64}")
_URL = re.compile(r"(https://[A-Za-z0-9.\-:\[\]]{1,255}(/[A-Za-z0-9._~%+/-]{0,1000})?|/box/v1/bundles/[0-9a-f]{64})")


class Cannot(NvrError):
    """A command that is not done; the message goes back to whoever asked."""


@dataclass(frozen=True, slots=True)
class Done:
    detail: str = ""
    more: dict[str, Any] = field(default_factory=dict)


class Commands:
    def __init__(
        self, site: Site, data_dir: Path, outbox: Outbox, relay: Relay, heard: Heard, clock: Clock, *,
        bundles: Bundles, reply: Callable[..., None], want_still: Callable[[str], None], now_ns: Callable[[], int | None],
    ) -> None:  # fmt: skip
        self._site, self._data_dir, self._outbox, self._relay, self._heard, self._clock = (
            site,
            data_dir,
            outbox,
            relay,
            heard,
            clock,
        )
        self._bundles = bundles
        self._reply, self._want_still, self._now_ns = reply, want_still, now_ns
        self._cameras = {camera.name for camera in site.cameras}
        self._later: set[asyncio.Task[None]] = set()
        self._tells_again = False
        self._counting, self._to_count = asyncio.Lock(), 0

    async def take(self, message: Message) -> None:
        """Do what is asked, and reply. Raises WireError for what is no command."""
        id = message.id()
        do = message.text("do", most=40)
        asked = Message(do, message.object("args"))
        by = message.text("by", most=200, default="")
        if do not in wire.COMMANDS:
            self._reply(id, False, f"this box does not know the command {do!r}")
            return
        if do in EPHEMERAL:
            await self._answer(id, do, asked, by)
            return
        before = await asyncio.to_thread(self._outbox.command, id)
        if before:  # the reply was lost
            self._reply(id, bool(before.get("ok")), str(before.get("detail", "")), before.get("more"))
            return
        if before is not None and do == "site":
            return  # it is being tried; final() tells
        await asyncio.to_thread(self._outbox.answered, id, None)
        log.info("the hub asks: %s %s (by %s)", do, _shown(asked.body), by or "nobody named")
        await self._answer(id, do, asked, by)

    async def _answer(self, id: str, do: str, asked: Message, by: str) -> None:
        try:
            done = await getattr(self, f"do_{do}")(id, asked, by)
        except (wire.WireError, Cannot) as error:
            await self._finish(id, do, False, str(error), {})
        except (NvrError, OSError) as error:
            log.warning("command %s: %s", do, error)
            await self._finish(id, do, False, f"{error}", {})
        else:
            if done is not None:
                await self._finish(id, do, True, done.detail, done.more)

    async def _finish(self, id: str, do: str, ok: bool, detail: str, more: dict[str, Any]) -> None:
        if do not in EPHEMERAL:
            await asyncio.to_thread(self._outbox.answered, id, {"ok": ok, "detail": detail, "more": more})
        self._reply(id, ok, detail, more)

    async def take_back(self, id: str, why: str) -> None:
        """What was answered with yes cannot be done after all; told now, and after every welcome, because answers get lost."""
        answer = {"ok": False, "detail": why, "more": {}, "taken_back": True}
        await asyncio.to_thread(self._outbox.answered, id, answer)
        self._reply(id, False, why)

    def welcomed(self) -> None:
        self._tells_again = True

    async def final(self) -> None:
        """After a welcome or a start: what could not be done after all, and how the trial of a site file that the hub sent ended."""
        if self._tells_again:
            self._tells_again = False
            for id, why in await asyncio.to_thread(self._outbox.taken_back):
                self._reply(id, False, why)
        result = site_trial.result(self._data_dir)
        if result is not None and wire.is_sha256(result.digest) and re.fullmatch(r"[0-9a-f]{32}", result.command):
            await self._finish(result.command, "site", result.is_kept, result.detail, {"digest": result.digest})
            site_trial.forget_result(self._data_dir)

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    # -- one method for each command

    async def do_live_on(self, id: str, asked: Message, by: str) -> Done:
        stream = asked.stream()
        watch_s = asked.body.get("watch_s", 60)
        if isinstance(watch_s, bool) or not isinstance(watch_s, int | float) or not 0 < watch_s < 1e6:
            raise Cannot("watch_s must be seconds")
        why = self._relay.on(stream, float(watch_s), self._heard.keyframes.get(stream))
        if why:
            raise Cannot(why)
        return Done()

    async def do_live_off(self, id: str, asked: Message, by: str) -> Done:
        self._relay.off(asked.stream())
        return Done()

    async def do_still(self, id: str, asked: Message, by: str) -> Done:
        self._want_still(self._camera(asked))
        return Done()

    async def do_fetch(self, id: str, asked: Message, by: str) -> Done:
        stream = f"{self._camera(asked)}/main"
        from_ns, to_ns = self._span(asked, FETCH_S_MOST)
        if not await asyncio.to_thread(may_have, self._data_dir, stream, from_ns, to_ns):
            raise Cannot(f"{stream}: nothing is recorded there (any more)", hint="The ledger says why.")
        bits_per_s = self._heard.stream(stream).get("bits_per_s")
        size_bytes = round((bits_per_s if isinstance(bits_per_s, int | float) else 0) / 8 * (to_ns - from_ns) / 1e9)
        now_ms = self._clock.read().wall_ns // 1_000_000
        wanted = Wanted(stream, "", from_ns, to_ns, command=id, size_bytes=size_bytes)
        await asyncio.to_thread(self._outbox.want, Clip(id, RANK_ASKED, now_ms, wanted, None))
        return Done("it will come", {"clip": id, "size_bytes": size_bytes})

    async def do_hold(self, id: str, asked: Message, by: str) -> Done:
        stream = f"{self._camera(asked)}/main"
        from_ns, to_ns = self._span(asked, HOLD_S_MOST)
        path = self._data_dir / holds.HOLDS_NAME
        reason = f"{by}: {asked.text('reason', most=300, default='')}".strip(": ")

        def hold() -> None:
            if sum(1 for each in holds.load(path) if each.id.startswith(PREFIX)) >= HUB_HOLDS_MOST:
                raise Cannot(f"{HUB_HOLDS_MOST} spans are held already", hint="Release some.")
            holds.add(path, holds.Hold(f"{PREFIX}{id}", stream, from_ns, to_ns, reason or "the hub asked"))

        await asyncio.to_thread(hold)
        return Done("held", {"hold": f"{PREFIX}{id}"})

    async def do_release(self, id: str, asked: Message, by: str) -> Done:
        name = asked.text("hold", most=80)
        if not name.startswith(PREFIX):
            raise Cannot("the hub releases only what it held itself")
        try:
            await asyncio.to_thread(holds.release, self._data_dir / holds.HOLDS_NAME, name)
        except holds.NoSuchHold:
            return Done("it was not held any more")
        return Done("released")

    async def do_site(self, id: str, asked: Message, by: str) -> Done | None:
        text = asked.text("text", most=200_000)
        digest = asked.text("digest", most=64)
        rollback_s = asked.whole("rollback_s", least=20, most=3600, default=180)
        recorded = site_trial.recording(self._heard.record.get("streams", {}))
        await asyncio.to_thread(
            site_trial.begin, self._data_dir, self._site, text.encode(), digest, id, rollback_s, recorded
        )
        log.warning("the hub (%s) sent a new site file; it is tried for up to %d s", by or "nobody named", rollback_s)
        return None  # the box starts anew with it, and says then whether it is kept

    async def do_update(self, id: str, asked: Message, by: str) -> Done:
        url, sha256, version = asked.text("url"), asked.text("sha256", most=64), asked.text("version", most=64)
        if _URL.fullmatch(url) is None or not wire.is_sha256(sha256) or _VERSION.fullmatch(version) is None:
            raise Cannot("an update needs an https address or a bundle of the hub, a SHA-256 and a version")
        await self._bundles.want(WantedBundle(id, url, sha256, version, by))
        log.warning("the hub (%s) wants this box to run %s", by or "nobody named", version)
        return Done("it is fetched; the heartbeat tells how it goes")

    async def do_restart(self, id: str, asked: Message, by: str) -> Done:
        async def later() -> None:
            await asyncio.sleep(RESTART_AFTER_S)
            await asyncio.to_thread(site_trial.ask_restart, self._data_dir, f"the hub asked ({by or 'nobody named'})")

        self._keep(later())
        return Done("it starts anew")

    async def do_logs(self, id: str, asked: Message, by: str) -> Done:
        lines = asked.whole("lines", least=1, most=own_log.LINES_MOST, default=100)
        log.info("the hub (%s) reads the log", by or "nobody named")
        return Done("", {"lines": await asyncio.to_thread(own_log.newest, self._site, lines)})

    async def do_ledger(self, id: str, asked: Message, by: str) -> None:
        """Answered later, one after the other: what comes down meanwhile, acknowledgements first of all, does not wait for it."""
        stream = f"{self._camera(asked)}/main"
        from_ns, to_ns = self._times(asked, LEDGER_S_MOST)
        if self._to_count >= LEDGERS_MOST:
            raise Cannot(f"{LEDGERS_MOST} ledgers are being counted already", hint="Ask again in a minute.")
        self._to_count += 1

        async def count() -> None:
            try:
                async with self._counting:
                    more = await asyncio.to_thread(health.gaps, self._data_dir, stream, from_ns, to_ns, self._clock)
            except (NvrError, OSError, ValueError) as error:
                self._reply(id, False, str(error), {})
            else:
                self._reply(id, True, "", more)
            finally:
                self._to_count -= 1

        self._keep(count())

    # -- what arguments hold

    def _camera(self, asked: Message) -> str:
        name = asked.name("camera")
        if name not in self._cameras:
            raise Cannot(f"there is no camera {name} on this box")
        return name

    def _times(self, asked: Message, longest_s: int) -> tuple[int, int]:
        from_ms, to_ms = asked.whole("from_ms", most=2**45), asked.whole("to_ms", most=2**45)
        if not 0 < to_ms - from_ms <= longest_s * 1000:
            raise Cannot(f"a span is more than 0 and at most {longest_s} s long")
        return from_ms * 1_000_000, to_ms * 1_000_000

    def _span(self, asked: Message, longest_s: int) -> tuple[int, int]:
        """From hub time to box time, where the two differ and the box does not know better."""
        from_ns, to_ns = self._times(asked, longest_s)
        now_ns = self._now_ns()
        reading = self._clock.read()
        if now_ns is not None and to_ns > now_ns + 60_000_000_000:
            raise Cannot("the span lies in the future")
        if now_ns is not None and reading.state is ClockState.UNKNOWN:
            log.info("times of a span are the hub's; this box does not know the time")
        return from_ns, to_ns


def _shown(body: Any) -> str:
    return json.dumps({key: value for key, value in body.items() if key != "text"})[:300]
