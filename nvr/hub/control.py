"""The control channel: one WebSocket of one box. Messages go to the committer; what it committed is acknowledged.

A box that sends faster than the hub stores is not read for a while, so TCP slows it down. What waits to be sent to a box is bounded;
a box that does not read is let go, and comes back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sqlalchemy import select
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from nvr import wire
from nvr.hub import commands, tables
from nvr.hub.blobs import Blobs, object_key
from nvr.hub.changes import Changes
from nvr.hub.checking import checked
from nvr.hub.committer import Committer, Item
from nvr.hub.database import Store
from nvr.hub.identity import Box, Refused, SeenTokens, bearer, box_of_token
from nvr.hub.intake import Speaker
from nvr.hub.live import Live
from nvr.hub.stills import still_fault
from nvr.hub.transit import Transit

log = logging.getLogger(__name__)

HELLO_S = 20.0
QUIET_S, GONE_S = 15.0, 60.0  # then it is asked whether it is there; then it is let go
WAITING_MOST = 64  # events and replies of one box that are not committed yet
OUT_MOST = 256  # messages that wait for one box
FAULTS_MOST = 100  # messages that were none, on one connection
EVENTS_PER_S, EVENTS_AT_ONCE = 200.0, 2000  # of one box; one that was away for weeks is through in an hour
LEAST_S = 1.0  # heartbeats, and stills of one camera, that come closer are left out
KEEPERS = 4  # threads that put stills of events into the blobs


class Connection:
    """One connected box. Only ever touched by the event loop, but for `speaker`."""

    def __init__(self, websocket: WebSocket, box: Box, cap_kbit_s: int | None) -> None:
        self.websocket, self.box = websocket, box
        self.speaker = Speaker(box, secrets.token_hex(8))
        self.cap_kbit_s = cap_kbit_s
        self.is_welcome = False
        self.heard_s = time.monotonic()
        self.waiting = 0
        self.room = asyncio.Event()
        self.room.set()
        self.faults = 0
        self.left_out = 0
        self.sent_commands: set[str] = set()
        self._out: deque[str] = deque()
        self._acks: dict[str, None] = {}
        self._awake = asyncio.Event()
        self._close_code: int | None = None
        self._last_s: dict[str, float] = {}
        self._transit = Transit()
        self._allowance, self._allowed_s = float(EVENTS_AT_ONCE), time.monotonic()

    async def pace(self) -> None:
        """Wait until this box may say one more thing that is stored for good."""
        now_s = time.monotonic()
        self._allowance = min(EVENTS_AT_ONCE, self._allowance + (now_s - self._allowed_s) * EVENTS_PER_S) - 1
        self._allowed_s = now_s
        if self._allowance < 0:
            await asyncio.sleep(-self._allowance / EVENTS_PER_S)

    def say(self, message: wire.Message) -> None:
        if len(self._out) >= OUT_MOST:
            self.end(1008)
            return
        self._out.append(message.to_text())
        self._awake.set()

    def acknowledge(self, event_ids: tuple[str, ...]) -> None:
        self._acks.update(dict.fromkeys(event_ids))
        self._awake.set()

    def refuse(self, what: str, hint: str = "", **more: Any) -> None:
        self.faults += 1
        self.say(wire.Message("refused", {"what": what[:500], "hint": hint[:500], **more}))

    def end(self, code: int) -> None:
        """Close after what waits was sent."""
        if self._close_code is None:
            self._close_code = code
            self._awake.set()

    def late_ms(self, message: wire.Message) -> int:
        """How long it was on its way, beyond the fastest; 0 where the box does not say when it sent it. Raises WireError."""
        sent_ms = message.whole("mono_ms", default=0)
        return self._transit.late_ms(sent_ms, time.monotonic()) if sent_ms else 0

    def is_too_soon(self, what: str) -> bool:
        now_s = time.monotonic()
        if now_s - self._last_s.get(what, -LEAST_S) < LEAST_S:
            self.left_out += 1
            return True
        self._last_s[what] = now_s
        return False

    async def send(self) -> None:
        """Until the connection is to be closed; then it is."""
        while True:
            await self._awake.wait()
            self._awake.clear()
            while self._out or self._acks:
                if self._acks:
                    acks, self._acks = list(self._acks), {}
                    for begin in range(0, len(acks), 500):
                        await self.websocket.send_text(
                            wire.Message("ack", {"events": acks[begin : begin + 500]}).to_text()
                        )
                if self._out:
                    await self.websocket.send_text(self._out.popleft())
            if self._close_code is not None:
                await self.websocket.close(self._close_code)
                return


class Control:
    """All boxes that are connected to this process."""

    def __init__(
        self, store: Store, committer: Committer, changes: Changes, blobs: Blobs, live: Live, now_ms: Callable[[], int]
    ) -> None:
        self._store, self._committer, self._changes = store, committer, changes
        self._blobs, self._live, self._now_ms = blobs, live, now_ms
        self.connections: dict[str, Connection] = {}
        self.seen_tokens = SeenTokens()
        self._keepers = ThreadPoolExecutor(KEEPERS, "stills")
        self.faults = 0
        self.received = 0

    async def serve(self, websocket: WebSocket) -> None:
        """The route /box/v1/control."""
        if wire.SUBPROTOCOL not in websocket.scope.get("subprotocols", []):
            await websocket.close(4400)  # before accepting: HTTP 403
            return
        await websocket.accept(wire.SUBPROTOCOL)
        try:
            now_s = self._now_ms() / 1000
            token_text = bearer(websocket.headers.get("authorization"))
            box, token = await asyncio.to_thread(box_of_token, self._store, token_text, now_s)
            if not self.seen_tokens.is_new(token, now_s):
                raise Refused("this token was used before", 401, hint="Sign a new one for each connection.")
        except Refused as refused:
            with contextlib.suppress(WebSocketDisconnect, RuntimeError):
                await websocket.send_text(
                    wire.Message("refused", {"what": str(refused), "hint": refused.hint}).to_text()
                )
                await websocket.close(refused.close_code)
            return
        await self._serve(Connection(websocket, box, None))

    async def _serve(self, connection: Connection) -> None:
        sending = asyncio.create_task(connection.send())
        hearing = asyncio.create_task(self._hear(connection))
        try:
            done, _ = await asyncio.wait((sending, hearing), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if (error := task.exception()) and not isinstance(
                    error, WebSocketDisconnect | ConnectionError | RuntimeError
                ):
                    log.error("box %s: its connection failed", connection.box.name, exc_info=error)
            if hearing in done and not sending.done():
                connection.end(4400)
                await asyncio.wait(
                    (sending,), timeout=5.0
                )  # it may find that the box is gone: gather() below takes that
        finally:
            for task in (sending, hearing):
                task.cancel()
            await asyncio.gather(sending, hearing, return_exceptions=True)
            if self.connections.get(connection.box.id) is connection:
                del self.connections[connection.box.id]
                self._live.box_went(connection.box.id)
            if connection.websocket.application_state is not WebSocketState.DISCONNECTED:
                with contextlib.suppress(WebSocketDisconnect, ConnectionError, RuntimeError):
                    await connection.websocket.close(1001)

    async def _hear(self, connection: Connection) -> None:
        """Until the box says nonsense too often, is silent, or goes."""
        while connection.faults < FAULTS_MOST:
            await connection.room.wait()
            data = await self._receive(connection)
            if data is None:
                return
            self.received += 1
            connection.heard_s = time.monotonic()
            try:
                message = wire.parse(data, wire.UP)
                if not connection.is_welcome and message.kind != "hello":
                    raise wire.WireError("the first message is hello")
                await self._take(connection, message)
            except wire.WireError as error:
                self.faults += 1
                connection.refuse(str(error), error.hint)
                if not connection.is_welcome:
                    return

    async def _receive(self, connection: Connection) -> str | bytes | None:
        asked = 0
        while True:
            wait_s = HELLO_S if not connection.is_welcome else QUIET_S
            try:
                async with asyncio.timeout(wait_s):
                    received = await connection.websocket.receive()
                break
            except TimeoutError:
                if not connection.is_welcome or time.monotonic() - connection.heard_s > GONE_S:
                    return None
                asked += 1
                connection.say(wire.Message("ping", {"n": asked}))
        if received["type"] != "websocket.receive":
            raise WebSocketDisconnect(received.get("code", 1006))
        text = received.get("text")
        return text if text is not None else received.get("bytes") or b""

    async def _take(self, connection: Connection, message: wire.Message) -> None:
        kind = message.kind
        if kind == "pong":
            return
        if kind == "live":
            self._live.take(connection.box.id, message, connection.late_ms(message))
            return
        if kind == "heartbeat":
            connection.late_ms(message)  # it is short: by it the others are measured
        message = checked(message)
        if kind == "hello":
            if connection.is_too_soon("hello"):
                raise wire.WireError("hello was said within this second already")
            await self._hello(connection, message)
        elif kind == "heartbeat":
            if not connection.is_too_soon("heartbeat"):
                self._put(connection, message, key=("heartbeat", connection.box.id), is_quiet=True)
        elif kind == "still" and message.body["event"] is None:
            camera = message.body["camera"]
            if not connection.is_too_soon(f"still {camera}" if camera in connection.speaker.cameras else "still"):
                self._put(connection, message, key=("still", connection.box.id, camera), is_quiet=True)
        elif kind == "still":
            await connection.pace()
            self._count(connection, 1)
            asyncio.get_running_loop().run_in_executor(
                self._keepers, self._keep, connection, message, asyncio.get_running_loop()
            )
        else:
            await connection.pace()
            self._count(connection, 1)
            self._put(connection, message)

    def _count(self, connection: Connection, more: int) -> None:
        connection.waiting += more
        if connection.waiting < WAITING_MOST:
            connection.room.set()
        else:
            connection.room.clear()

    def _put(
        self, connection: Connection, message: wire.Message, *, key: object = None, is_quiet: bool = False
    ) -> None:
        loop = asyncio.get_running_loop()
        item = Item(message.kind, connection.speaker, message, self._now_ms(), key, is_quiet=is_quiet)
        item.done = lambda error: self._call(loop, self._stored, connection, item, error)
        self._committer.put(item)

    def _call(self, loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the process ends, its loop is closed
            loop.call_soon_threadsafe(function, *arguments)

    def _stored(self, connection: Connection, item: Item, error: Exception | None) -> None:
        """In the event loop, after the commit."""
        if not item.is_quiet:
            self._count(connection, -1)
        if error is not None:
            return  # not stored, so not acknowledged: the box says it again
        if item.refusal:
            self.faults += 1
            more = {"event": item.message.body["id"]} if item.kind == "event" else {}
            connection.refuse(f"{item.kind}: {item.refusal}", **more)
        else:
            connection.acknowledge(item.acks)

    def _keep(self, connection: Connection, message: wire.Message, loop: asyncio.AbstractEventLoop) -> None:
        """A still of an event, in a thread of its own kind: into the blobs, then to the committer."""
        item = Item("kept", connection.speaker, message, self._now_ms())
        item.done = lambda error: self._call(loop, self._stored, connection, item, error)
        try:
            camera = connection.speaker.cameras.get(message.body["camera"])
            item.refusal = "no such camera" if camera is None else still_fault(message, connection.box.public_key)
            if item.refusal or camera is None:
                item.done(None)
                return
            box, digest = connection.box, message.body["sha256"]
            key = object_key(box.tenant_id, box.id, digest)
            self._blobs.put(key, message.payload)
            item.prepared = {
                "sha256": digest, "tenant_id": box.tenant_id, "box_id": box.id, "camera_id": camera[0], "place_id": camera[1],
                "kind": "still", "value": "state", "from_ms": message.body["captured_ms"], "to_ms": message.body["captured_ms"],
                "size_bytes": len(message.payload), "blob": key, "event_id": message.body["event"], "command_id": None, "genuine": True,
                "proof": {"captured_ms": message.body["captured_ms"], "signature": message.body["signature"]}, "stored_ms": self._now_ms(),
                "held": False,
            }  # fmt: skip
            self._committer.put(item)
        except Exception as error:
            log.error("box %s: a still could not be kept: %s", connection.box.name, error)
            item.done(error)

    async def _hello(self, connection: Connection, message: wire.Message) -> None:
        loop = asyncio.get_running_loop()
        stored: asyncio.Future[Exception | None] = loop.create_future()
        item = Item("hello", connection.speaker, message, self._now_ms())

        def told(error: Exception | None) -> None:
            if not stored.done():  # the connection may have gone meanwhile
                stored.set_result(error)

        item.done = lambda error: self._call(loop, told, error)
        self._committer.put(item)
        error = await stored
        if error is not None or item.refusal:
            raise wire.WireError(f"hello could not be taken: {item.refusal or 'the hub has a fault'}")
        old = self.connections.get(connection.box.id)
        if old is not None and old is not connection:
            old.end(4409)
        self.connections[connection.box.id] = connection
        connection.is_welcome = True
        connection.say(
            wire.Message(
                "welcome",
                {
                    "wall_ms": self._now_ms(),
                    "heartbeat_s": wire.HEARTBEAT_S,
                    "still_s": wire.STILL_S,
                    "cap_kbit_s": connection.cap_kbit_s,
                },
            )
        )
        self._live.box_came(connection.box.id)
        await self._send_commands(connection)

    # -- what is told from elsewhere

    async def listen(self) -> None:
        """Commands for boxes that are connected here, newer connections elsewhere, blocked boxes. Until cancelled."""
        async for what, ids in self._changes.listen():
            try:
                if what == "commands":
                    for box_id in ids or list(self.connections):
                        if (connection := self.connections.get(box_id)) is not None:
                            await self._send_commands(connection)
                elif what == "taken":
                    for each in ids:
                        box_id, _, connection_id = each.partition(":")
                        connection = self.connections.get(box_id)
                        if connection is not None and connection.speaker.connection_id != connection_id:
                            await self._leave_if_older(connection)
                elif what == "blocked":
                    for box_id in ids or list(self.connections):
                        if (connection := self.connections.get(box_id)) is not None and await self._is_blocked(box_id):
                            connection.end(4403)
            except Exception:
                log.exception("a change (%s) could not be followed", what)

    async def _leave_if_older(self, connection: Connection) -> None:
        """Another process has this box too: whoever came later keeps it."""

        def owner() -> str | None:
            with self._store.reading() as base:
                return base.execute(
                    select(tables.box.c.connection_id).where(tables.box.c.id == connection.box.id)
                ).scalar_one_or_none()

        if await asyncio.to_thread(owner) != connection.speaker.connection_id:
            connection.end(4409)

    async def _is_blocked(self, box_id: str) -> bool:
        def blocked() -> bool:
            with self._store.reading() as base:
                return bool(
                    base.execute(select(tables.box.c.blocked).where(tables.box.c.id == box_id)).scalar_one_or_none()
                )

        return await asyncio.to_thread(blocked)

    async def _send_commands(self, connection: Connection) -> None:
        def load() -> list[Any]:
            with self._store.reading() as base:
                return commands.waiting(base, connection.box.id, self._now_ms())

        rows = [row for row in await asyncio.to_thread(load) if row.id not in connection.sent_commands]
        if not rows:
            return
        for row in rows:
            connection.sent_commands.add(row.id)
            connection.say(commands.message(row))

        def mark() -> None:
            with self._store.writing() as base:
                commands.sent(base, [row.id for row in rows], self._now_ms())

        await asyncio.to_thread(mark)

    def say(self, box_id: str, message: wire.Message) -> bool:
        """To a box that is connected here; False where it is not."""
        connection = self.connections.get(box_id)
        if connection is None or not connection.is_welcome:
            return False
        connection.say(message)
        return True
