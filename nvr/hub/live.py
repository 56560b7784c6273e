"""Fragments from a box to whoever watches, while somebody watches.

Viewers connect to /live/{box_id} at the process that has the box (nginx hashes both on the box id). The first viewer of a stream
turns it on at the box, and so does every 30 s of watching; the box turns it off by itself after a minute without. A viewer that is too
slow loses whole fragments up to the next keyframe and is told how many; it holds up nobody, and the box sends each fragment once.

The page's side of the WebSocket is that of the box's own page (nvr/web/live.py): {"watch"}, {"got"}, {"again"} come;
{"kind": "status" | "alive", ...} and binary fragments go.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from nvr import wire

log = logging.getLogger(__name__)

WATCH_S = 60  # how long a box sends after it was last asked
RENEW_S = 30.0
CHECK_S = 10.0  # a viewer that may no longer watch is let go after so long
QUEUE_LENGTH = 4  # fragments of one stream that wait for one viewer
QUEUE_MOST = 12
WINDOW = 3  # fragments of one stream on the way to one viewer
RECENT_BYTES = 8 * 1024 * 1024  # since the last keyframe, for who comes later
RECENT_S = 10.0
VIEWERS_MOST = 300  # of one process
STREAMS_MOST = 16  # of one viewer
MESSAGE_BYTES = 16 * 1024
INIT_BYTES_MOST = 64 * 1024

MayWatch = Callable[[WebSocket, str, str], Awaitable[bool]]
Say = Callable[[str, wire.Message], bool]


@dataclass(frozen=True, slots=True)
class LiveFragment:
    header: dict[str, Any]
    init_number: int
    init: bytes
    payload: bytes
    arrived_s: float

    @property
    def is_keyframe(self) -> bool:
        return bool(self.header["is_keyframe"])

    def to_viewer(self, with_init: bool, skipped: int, now_ms: int) -> bytes:
        """`now_ms`: the hub's wall clock, which a page knows, too: it adds how long the fragment then takes to it."""
        age_ms = self.header["age_ms"] + int((time.monotonic() - self.arrived_s) * 1000)
        init = self.init if with_init else b""
        header = {
            **self.header, "init_bytes": len(init), "age_ms": age_ms, "sent_ms": now_ms, "skipped": self.header["skipped"] + skipped,
        }  # fmt: skip
        text = json.dumps(header, separators=(",", ":")).encode()
        return b"".join((len(text).to_bytes(4, "big"), text, init, self.payload))


class Queue:
    """What one viewer has not been sent yet of one stream."""

    def __init__(self, recent: list[LiveFragment]) -> None:
        self.waiting: deque[LiveFragment] = deque(recent)
        self.needs_keyframe = not recent
        self.on_the_way = 0
        self.skipped = 0
        self.init_number = -1  # that the viewer has

    def put(self, fragment: LiveFragment) -> None:
        """Add the newest; when the viewer is behind, forget what waits and go on at a keyframe."""
        if len(self.waiting) >= QUEUE_LENGTH and (fragment.is_keyframe or len(self.waiting) >= QUEUE_MOST):
            self.skipped += len(self.waiting)
            self.waiting.clear()
            self.needs_keyframe = True
        if self.needs_keyframe and not fragment.is_keyframe:
            self.skipped += 1
            return
        self.needs_keyframe = False
        self.waiting.append(fragment)


@dataclass(slots=True)
class Stream:
    """One stream of one box that somebody watches."""

    asked_s: float = float("-inf")
    heard_s: float = float("-inf")
    init_number: int = 0
    init: bytes = b""
    recent: list[LiveFragment] = field(default_factory=list)
    recent_bytes: int = 0
    viewers: set[Viewer] = field(default_factory=set)


class Viewer:
    """One open page. Only ever touched by the event loop."""

    def __init__(self, box_id: str) -> None:
        self.box_id = box_id
        self.queues: dict[str, Queue] = {}
        self.texts: deque[str] = deque(maxlen=4)
        self.awake = asyncio.Event()

    def got(self, stream: str) -> None:
        queue = self.queues.get(stream)
        if queue is not None and queue.on_the_way > 0:
            queue.on_the_way -= 1
            self.awake.set()

    def next_bytes(self, now_ms: int) -> bytes | None:
        """The next fragment to send, each stream in its turn; it counts as on its way."""
        for name, queue in self.queues.items():
            if queue.waiting and queue.on_the_way < WINDOW:
                del self.queues[name]
                self.queues[name] = queue  # to the end of the turn
                queue.on_the_way += 1
                fragment = queue.waiting.popleft()
                data = fragment.to_viewer(fragment.init_number != queue.init_number, queue.skipped, now_ms)
                queue.init_number, queue.skipped = fragment.init_number, 0
                return data
        return None


class Live:
    """All that is watched through this process."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self.say: Say = lambda box_id, message: False  # control.py, once it is there
        self.may_watch: MayWatch = _nobody
        self._streams: dict[tuple[str, str], Stream] = {}
        self._here_since_ms: dict[str, int] = {}
        self.viewers: set[Viewer] = set()
        self.left_out = 0  # fragments nobody watched any more, or that were none

    # -- the box's side

    def take(self, box_id: str, message: wire.Message, late_ms: int = 0) -> None:
        """One fragment of a box, so long on its way. Raises WireError."""
        name = message.stream()
        stream = self._streams.get((box_id, name))
        if stream is None:
            self.left_out += 1
            return
        init_bytes = message.whole("init_bytes", most=min(len(message.payload), INIT_BYTES_MOST), default=0)
        is_keyframe = message.body.get("is_keyframe")
        if not isinstance(is_keyframe, bool) or len(message.payload) == init_bytes:
            raise wire.WireError("live.is_keyframe must be true or false, and a fragment must follow")
        header: dict[str, Any] = {
            "stream": name,
            **{
                key: message.whole(key, default=0)
                for key in ("run", "run_ticks", "duration_ticks", "age_ms", "skipped")
            },
            "is_keyframe": is_keyframe,
            "wall_ms": message.whole("captured_ms", default=0),
            "clock_state": message.whole("clock_state", most=9, default=1 if message.body.get("captured_ms") else 0),
        }
        header["age_ms"] += late_ms
        if init_bytes:
            init = message.payload[:init_bytes]
            if init != stream.init:
                stream.init, stream.init_number = init, stream.init_number + 1
                stream.recent, stream.recent_bytes = [], 0
        if not stream.init:
            self.left_out += 1
            return
        fragment = LiveFragment(header, stream.init_number, stream.init, message.payload[init_bytes:], time.monotonic())
        stream.heard_s = fragment.arrived_s
        self._remember(stream, fragment)
        for viewer in stream.viewers:
            queue = viewer.queues.get(name)
            if queue is not None:
                queue.put(fragment)
                viewer.awake.set()

    def _remember(self, stream: Stream, fragment: LiveFragment) -> None:
        if fragment.is_keyframe or (stream.recent and stream.recent[-1].header["run"] != fragment.header["run"]):
            stream.recent, stream.recent_bytes = [], 0
        if fragment.is_keyframe or stream.recent:
            stream.recent.append(fragment)
            stream.recent_bytes += len(fragment.payload)
        if len(stream.recent) > QUEUE_MOST or stream.recent_bytes > RECENT_BYTES:
            stream.recent, stream.recent_bytes = [], 0

    def box_came(self, box_id: str) -> None:
        self._here_since_ms[box_id] = self._now_ms()
        for (box, name), stream in self._streams.items():
            if box == box_id:
                stream.init = b""  # it may have started anew; its first fragment brings one
                self._ask(box, name, stream)

    def box_went(self, box_id: str) -> None:
        self._here_since_ms.pop(box_id, None)

    def _ask(self, box_id: str, name: str, stream: Stream) -> None:
        stream.asked_s = time.monotonic()
        args = {"stream": name, "watch_s": WATCH_S}
        self.say(box_id, wire.Message("command", {"id": wire.new_id(), "do": "live_on", "args": args, "by": ""}))

    # -- the viewer's side

    def watch(self, viewer: Viewer, names: list[str]) -> None:
        """Replace what a viewer watches; a stream that stays keeps its place."""
        for name in viewer.queues.keys() - set(names):
            self._leave(viewer, name)
        for name in names:
            if name not in viewer.queues:
                self._begin(viewer, name)
        viewer.awake.set()

    def _begin(self, viewer: Viewer, name: str) -> None:
        stream = self._streams.setdefault((viewer.box_id, name), Stream())
        stream.viewers.add(viewer)
        recent = stream.recent if time.monotonic() - stream.heard_s < RECENT_S else []
        viewer.queues[name] = Queue(recent)
        if time.monotonic() - stream.asked_s > RENEW_S:
            self._ask(viewer.box_id, name, stream)

    def _leave(self, viewer: Viewer, name: str) -> None:
        viewer.queues.pop(name, None)
        stream = self._streams.get((viewer.box_id, name))
        if stream is None:
            return
        stream.viewers.discard(viewer)
        if not stream.viewers:
            del self._streams[viewer.box_id, name]
            self.say(
                viewer.box_id,
                wire.Message("command", {"id": wire.new_id(), "do": "live_off", "args": {"stream": name}, "by": ""}),
            )

    def again(self, viewer: Viewer, name: str) -> None:
        """Begin a stream anew: init segment and last keyframe first; the page's decoder gave up."""
        old, stream = viewer.queues.get(name), self._streams.get((viewer.box_id, name))
        if old is not None and stream is not None:
            new = viewer.queues[name] = Queue(stream.recent)
            new.on_the_way = old.on_the_way
            viewer.awake.set()

    def status_text(self, viewer: Viewer, kind: str) -> str:
        """As the box's page says it: is anything coming, and if not, why."""
        now_s = time.monotonic()
        here_ms = self._here_since_ms.get(viewer.box_id)
        streams: dict[str, Any] = {}
        heard_s = max((self._streams[viewer.box_id, name].heard_s for name in viewer.queues), default=float("-inf"))
        for name in viewer.queues:
            comes = here_ms is not None and now_s - self._streams[viewer.box_id, name].heard_s < RECENT_S
            cause = None if comes else "box silent" if here_ms is None else "not sent yet"
            streams[name] = {"recording": comes, "cause": cause, "detail": "", "since_ms": here_ms}
        silent_s = round(now_s - heard_s, 1) if heard_s > 0 else None
        return json.dumps({"kind": kind, "streams": streams, "now_ms": self._now_ms(), "recorder_silent_s": silent_s})

    async def run(self) -> None:
        """Keep what is watched on, and tell viewers every second how it is. Until cancelled."""
        while True:
            await asyncio.sleep(1.0)
            for (box_id, name), stream in self._streams.items():
                if time.monotonic() - stream.asked_s > RENEW_S:
                    self._ask(box_id, name, stream)
            for viewer in self.viewers:
                if not viewer.texts:
                    viewer.texts.append(self.status_text(viewer, "status"))
                    viewer.awake.set()

    async def serve(self, websocket: WebSocket) -> None:
        """The route /live/{box_id}."""
        box_id = websocket.path_params["box_id"]
        names = websocket.query_params.getlist("stream")[:STREAMS_MOST]
        if not wire.is_id(box_id) or not await self._may_watch_all(websocket, box_id, names or [""]):
            await websocket.close(4404)  # before accepting; a box that is not theirs is not there
            return
        if len(self.viewers) >= VIEWERS_MOST:
            await websocket.close(4429)
            return
        await websocket.accept()
        viewer = Viewer(box_id)
        self.viewers.add(viewer)
        try:
            self.watch(viewer, names)
            viewer.texts.append(self.status_text(viewer, "status"))
            hearing = asyncio.create_task(self._hear(websocket, viewer))
            try:
                await self._send(websocket, viewer, hearing)
            finally:
                hearing.cancel()
                await asyncio.gather(hearing, return_exceptions=True)
        except (WebSocketDisconnect, ConnectionError, RuntimeError):
            pass  # the page was closed, or the link broke in the middle of a message
        finally:
            self.viewers.discard(viewer)
            self.watch(viewer, [])

    async def _may_watch_all(self, websocket: WebSocket, box_id: str, names: list[str]) -> bool:
        for name in names:
            if name and not wire.is_stream(name):
                return False
            if not await self.may_watch(websocket, box_id, name):
                return False
        return True

    async def _hear(self, websocket: WebSocket, viewer: Viewer) -> None:
        while True:
            text = await websocket.receive_text()
            try:
                message = wire.parse_object(text[: MESSAGE_BYTES + 1])
                if len(text) > MESSAGE_BYTES:
                    raise wire.WireError("too long")
            except wire.WireError:
                await websocket.close(4400)
                return
            if isinstance(names := message.get("watch"), list):
                wanted = [str(name) for name in names[:STREAMS_MOST]]
                if not await self._may_watch_all(websocket, viewer.box_id, wanted):
                    await websocket.close(4404)
                    return
                self.watch(viewer, wanted)
            elif "got" in message:
                viewer.got(str(message["got"]))
            elif "again" in message:
                self.again(viewer, str(message["again"]))

    async def _send(self, websocket: WebSocket, viewer: Viewer, hearing: asyncio.Task[None]) -> None:
        checked_s = time.monotonic()
        while not hearing.done():
            if time.monotonic() - checked_s > CHECK_S:
                checked_s = time.monotonic()
                if not await self._may_watch_all(websocket, viewer.box_id, list(viewer.queues) or [""]):
                    await websocket.close(4401)
                    return
            while viewer.texts:
                await websocket.send_text(viewer.texts.popleft())
            data = viewer.next_bytes(self._now_ms())
            if data is not None:
                await websocket.send_bytes(data)
                continue
            viewer.awake.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(viewer.awake.wait(), 2.0)


async def _nobody(websocket: WebSocket, box_id: str, stream: str) -> bool:
    """Until the people side says who may."""
    return False
