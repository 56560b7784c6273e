"""The control channel: one WebSocket to the hub, opened again for ever. What is urgent goes first, and never waits behind more than one message.

    replies and pongs, the newest heartbeat, events (alarms first) with their stills, the newest still of each camera, live

An event is sent until the hub acknowledged it after its own commit, at most WINDOW at a time. Whatever comes from the hub is hostile until
it was parsed: a message that is none is counted and answered by nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from nvr import wire
from nvr.uplink.budget import Budget, Meter
from nvr.uplink.link import CONNECT_S, HubFailed, Link, NotWelcome
from nvr.uplink.relay import Relay
from nvr.uplink.worth import RANK_CLIP, RANK_MOMENT
from nvr.wire import Message

log = logging.getLogger(__name__)

WINDOW = 32  # events on their way
WINDOW_BYTES = 64 * 1024  # of them; on a slow link an alarm does not wait behind more
ACK_S = 60.0  # then an event is sent again
PING_S, PONG_S = 10.0, 35.0
RANK_STILL, RANK_LIVE = RANK_MOMENT + 1, RANK_CLIP - 1
STEADY_S = 60.0
BLOCKED_S = 600.0
BAD_MOST = 50  # messages that are none, on one connection; then it is closed: this is no hub


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An event as it is to be sent, with its still where it has one."""

    id: str
    event: Message
    still: Message | None
    came_ms: int = 0  # taken over from DATA/events, by the box's clock


class Control:
    """run() until cancelled. Belongs to the event loop."""

    def __init__(
        self, link: Link, budget: Budget, relay: Relay, *,
        hello: Callable[[], dict[str, Any]],
        next_events: Callable[[int, frozenset[str]], Awaitable[list[Outgoing]]],
        acknowledged: Callable[[list[str]], Awaitable[None]],
        refused: Callable[[list[str], str], Awaitable[None]],
        welcomed: Callable[[Message], None],
        command: Callable[[Message], Awaitable[None]],
    ) -> None:  # fmt: skip
        self._link, self._budget, self._relay = link, budget, relay
        self._hello, self._next_events, self._acknowledged, self._refused = hello, next_events, acknowledged, refused
        self._welcomed, self._command = welcomed, command
        self._first: deque[Message] = deque(maxlen=200)  # replies and pongs
        self._heartbeat: Message | None = None
        self._stills: dict[str, Message] = {}
        self._on_the_way: dict[str, tuple[float, int]] = {}  # event -> (when, bytes)
        self._event_stills: deque[Message] = deque()
        self._told_ms = 0
        self._awake = asyncio.Event()
        self._events_wait = True
        self._meter: Meter | None = None
        self._queued: list[int] = []
        self.is_connected = False
        self.since_ms = 0
        self.connections = self.welcomes = 0
        self.alarm_told_s: deque[float] = deque(
            maxlen=100
        )  # from when an alarm was taken over to when it was sent first
        self.heartbeat_sent_s = float("-inf")
        self.longest_heartbeat_gap_s = 0.0
        self.bad_messages = 0
        self.allows_live = self.allows_stills = True  # False where the ladder took them

    # -- what is to be said

    def reply(self, id: str, ok: bool, detail: str = "", more: dict[str, Any] | None = None) -> None:
        self._first.append(Message("reply", {"id": id, "ok": ok, "detail": detail[:1000], "more": more or {}}))
        self._awake.set()

    def beat(self, body: dict[str, Any]) -> None:
        """Only the newest is ever sent."""
        self._heartbeat = Message("heartbeat", body)
        self._awake.set()

    def still(self, message: Message) -> None:
        self._stills[str(message.body["camera"])] = message
        self._awake.set()

    def tell_events(self) -> None:
        """There are new ones."""
        self._events_wait = True
        self._awake.set()

    def wake(self) -> None:
        self._awake.set()

    # -- the connection

    async def session(self) -> str:
        """One connection, until it ends; how it ended. Raises HubFailed, NotWelcome."""
        try:
            async with connect(
                f"{self._link.websocket_url}/box/v1/control", ssl=self._link.context, subprotocols=[websockets.Subprotocol(wire.SUBPROTOCOL)],
                additional_headers=self._link.headers(), compression=None, open_timeout=CONNECT_S, ping_interval=PING_S, ping_timeout=PONG_S,
                close_timeout=5.0, max_size=wire.TEXT_BYTES_MOST * 4, max_queue=8, write_limit=4096, proxy=None, user_agent_header="nvr-box",
            ) as socket:  # fmt: skip
                return await self._talk(socket)
        except InvalidStatus as error:
            status = error.response.status_code
            if status in (401, 403):
                raise NotWelcome(f"the hub answers {status} to our token", hint="Is the box known there?") from error
            raise HubFailed(f"the hub answers {status} to the control channel") from error
        except (WebSocketException, OSError, TimeoutError, ValueError) as error:
            raise HubFailed(f"no control channel: {type(error).__name__}: {error}") from error

    async def _talk(self, socket: ClientConnection) -> str:
        raw = socket.transport.get_extra_info("socket")
        for option in self._link.options:
            raw.setsockopt(*option)
        self._meter = self._budget.watch(raw)
        self._on_the_way.clear()
        self._event_stills.clear()
        self._events_wait = True
        self.connections += 1
        try:
            await self._send(socket, Message("hello", self._hello()))
            works = [asyncio.create_task(self._receive(socket)), asyncio.create_task(self._send_all(socket))]
            try:
                done, _ = await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for work in works:
                    work.cancel()
                await asyncio.gather(*works, return_exceptions=True)
            for work in done:
                error = work.exception()
                if error is not None and not isinstance(error, ConnectionClosed):
                    raise error
        except ConnectionClosed:
            pass
        finally:
            self.is_connected = False
            self._relay.stop()
            self._unqueue()
            self._budget.forget(self._meter)
            self._meter = None
        code, reason = socket.close_code, socket.close_reason
        if code == 4401:
            raise NotWelcome(
                "the hub does not know this box (4401)", hint="It is enrolled again, if the site file has a code."
            )
        if code == 4403:
            raise NotWelcome("the hub has blocked this box (4403)", hint="Ask whoever administers the hub.")
        if code == 4409:
            return "another connection of this box took over: is its key on two boxes?"
        return f"the connection ended ({code}{': ' + reason[:100] if reason else ''})"

    # -- receiving

    async def _receive(self, socket: ClientConnection) -> None:
        bad = 0
        async for data in socket:
            try:
                message = wire.parse(data, wire.DOWN)
            except wire.WireError as error:
                bad += 1
                self.bad_messages += 1
                log.warning("the hub said what is no message: %s", error)
                if bad >= BAD_MOST:
                    raise HubFailed(f"{bad} messages that are none on one connection") from None
                continue
            await self._take(message)

    async def _take(self, message: Message) -> None:
        try:
            if message.kind == "welcome":
                self._welcomed(message)
                self.welcomes += 1
                self.is_connected, self.since_ms = True, message.whole("wall_ms", default=0)
                self._awake.set()
            elif message.kind == "ack":
                ids = message.body.get("events", [])
                known = (
                    [each for each in ids if isinstance(each, str) and each in self._on_the_way]
                    if isinstance(ids, list)
                    else []
                )
                if known:
                    await self._acknowledged(known)
                    for each in known:
                        self._on_the_way.pop(each, None)
                    self.tell_events()
            elif message.kind == "ping":
                self._first.append(Message("pong", {"n": message.whole("n")}))
                self._awake.set()
            elif message.kind == "command":
                await self._command(message)
            elif message.kind == "refused":
                await self._take_refused(message)
        except wire.WireError as error:
            self.bad_messages += 1
            log.warning("the hub said what cannot be understood: %s", error)

    async def _take_refused(self, message: Message) -> None:
        what, hint = message.text("what", default=""), message.text("hint", default="")
        log.warning("the hub refuses: %s %s", what[:200], hint[:200])
        named = [id for id in self._on_the_way if id == message.body.get("event")]
        if named:
            await self._refused(named, f"the hub refused it: {what[:120]}")
            for each in named:
                self._on_the_way.pop(each, None)

    # -- sending

    async def _send_all(self, socket: ClientConnection) -> None:
        while True:
            self._awake.clear()
            if await self._send_one(socket):
                continue
            with contextlib.suppress(TimeoutError):
                # What waits for the budget, or for an acknowledgement that does not come, is looked at again.
                async with asyncio.timeout(0.1 if self._queued else 1.0):
                    await self._awake.wait()

    async def _send_one(self, socket: ClientConnection) -> bool:
        """The most urgent thing there is; False when there is none that may be sent now."""
        if self._first:
            await self._send(socket, self._first.popleft())
            return True
        if not self.is_connected:
            return False  # not welcomed yet
        if self._heartbeat is not None:
            message, self._heartbeat = self._heartbeat, None
            await self._send(socket, message)
            now_s = time.monotonic()
            if self.heartbeat_sent_s > 0:
                self.longest_heartbeat_gap_s = max(self.longest_heartbeat_gap_s, now_s - self.heartbeat_sent_s)
            self.heartbeat_sent_s = now_s
            return True
        if await self._send_event(socket):
            return True
        self._unqueue()
        if self._event_stills:
            return await self._send_if_may(socket, self._event_stills[0], RANK_MOMENT, self._event_stills.popleft)
        if self._stills and self.allows_stills:
            camera = next(iter(self._stills))
            return await self._send_if_may(socket, self._stills[camera], RANK_STILL, lambda: self._stills.pop(camera))
        if self.allows_live and self._budget.may_send(RANK_LIVE):
            return await self._send_live(socket)
        return False

    async def _send_event(self, socket: ClientConnection) -> bool:
        now_s = time.monotonic()
        for id, (sent_s, _) in list(self._on_the_way.items()):
            if now_s - sent_s > ACK_S:
                del self._on_the_way[id]
                self._events_wait = True
        used = sum(size for _, size in self._on_the_way.values())
        # A still may make it more; the next event then waits for an acknowledgement.
        if (
            not self._events_wait
            or len(self._on_the_way) >= WINDOW
            or used >= WINDOW_BYTES
            or len(self._event_stills) > 1
        ):
            return False
        found = await self._next_events(1, frozenset(self._on_the_way))
        if not found:
            self._events_wait = False
            return False
        outgoing = found[0]
        size = await self._send(socket, outgoing.event)
        if outgoing.event.body["value"] == wire.ALARM and outgoing.came_ms > self._told_ms:
            self._told_ms = outgoing.came_ms
            self.alarm_told_s.append(max(time.time() - outgoing.came_ms / 1000, 0.0))
        if outgoing.still is not None:
            size += len(outgoing.still.payload)
            self._event_stills.append(outgoing.still)
        self._on_the_way[outgoing.id] = (now_s, size)
        return True

    async def _send_if_may(
        self, socket: ClientConnection, message: Message, rank: int, taken: Callable[[], object]
    ) -> bool:
        if not self._budget.may_send(rank):
            self._budget.queue(rank)
            self._queued.append(rank)
            return False
        taken()
        await self._send(socket, message, is_urgent=False)
        return True

    def _unqueue(self) -> None:
        for rank in self._queued:
            self._budget.unqueue(rank)
        self._queued.clear()

    async def _send_live(self, socket: ClientConnection) -> bool:
        found = self._relay.next()
        if found is None:
            return False
        message = await asyncio.to_thread(self._relay.message, *found)
        if message is None:
            return True
        began_s = time.monotonic()
        size = await self._send(socket, message, is_urgent=False)
        self._relay.sent(size, time.monotonic() - began_s)
        return True

    async def _send(self, socket: ClientConnection, message: Message, *, is_urgent: bool = True) -> int:
        data: str | bytes = message.to_bytes() if message.payload else message.to_text()
        size = len(data) if isinstance(data, bytes) else len(data.encode())
        if isinstance(data, str) and size > wire.TEXT_BYTES_MOST:
            log.error("a %s of %d bytes is too long and is not sent", message.kind, size)
            return 0
        self._budget.spend(size, is_urgent=is_urgent)
        if self._meter is not None:
            self._meter.paid_bytes += size
        await socket.send(data)
        return size
