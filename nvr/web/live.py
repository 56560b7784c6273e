"""Announced fragments, passed on to browsers while they are still in the page cache.

One `Live` listens to the recorder; each open page is a `Watcher` with a short queue per stream. A page that is
too slow loses whole fragments up to the next keyframe and is told how many; it can hold up nobody. A queue
holds positions, not bytes, so memory stays small however many pages are open.

Wire of the WebSocket /live (version 1), page to box, JSON text:
    {"watch": ["street/main", ...]}     replaces what is watched
    {"got": "street/main"}              one fragment of it has arrived; at most WINDOW may be on the way
    {"again": "street/main"}            send init segment and last keyframe once more; the decoder gave up
box to page, JSON text:
    {"kind": "status", "streams": {name: {"recording", "cause", "detail", "since_ms"}}, "now_ms", "recorder_silent_s", "troubles"}
    {"kind": "alive", "now_ms", "recorder_silent_s", "troubles"}    the same every second, when nothing else changed
box to page, binary: uint32 big-endian length of a JSON header, the header, an init segment or nothing, the fragment
    {"stream", "run", "init_bytes", "run_ticks", "duration_ticks", "is_keyframe", "wall_ms", "clock_state", "age_ms", "skipped"}
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import deque
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nvr import troubles
from nvr.announce import SOCKET_NAME, fragment_of
from nvr.clock import Clock, SystemClock
from nvr.hearing import messages
from nvr.media import FragmentRecord, Position

log = logging.getLogger(__name__)

LOOK_S = 5.0  # for what `nvr run` says
SILENT_S = 10.0  # what a recorder said so long ago is not of now

QUEUE_LENGTH = 4  # fragments of one stream that wait for one page: 4 s, older ones are of no use for live
WINDOW = 3  # fragments of one stream on the way to one page; 3 s of a link's delay
RECENT_LENGTH = 12  # since the last keyframe, so that a page shows a picture at once; a longer GOP waits for the next

Fragment = tuple[Position, FragmentRecord]


class StreamQueue:
    """What one page has not been sent yet of one stream."""

    def __init__(self, recent: list[Fragment]) -> None:
        self.waiting: deque[Fragment] = deque(recent)
        self.needs_keyframe = not recent
        self.on_the_way = 0
        self.skipped = 0
        self.init_of: tuple[int, int] | None = None  # segment and lap whose init segment the page has

    def put(self, fragment: Fragment) -> None:
        """Add the newest; when the page is behind, forget what waits and go on at a keyframe."""
        is_keyframe = fragment[1].is_keyframe
        if len(self.waiting) >= QUEUE_LENGTH and (is_keyframe or len(self.waiting) >= RECENT_LENGTH):
            self.skipped += len(self.waiting)
            self.waiting.clear()
            self.needs_keyframe = True
        if self.needs_keyframe and not is_keyframe:
            self.skipped += 1
            return
        self.needs_keyframe = False
        self.waiting.append(fragment)

    def is_sendable(self) -> bool:
        return bool(self.waiting) and self.on_the_way < WINDOW


class Watcher:
    """One open page. Only ever touched by the event loop."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self.queues: dict[str, StreamQueue] = {}
        self.texts: deque[str] = deque(maxlen=4)
        self.awake = asyncio.Event()

    def watch(self, streams: list[str]) -> None:
        """Replace what is watched; a stream that stays keeps its place."""
        kept = {name: queue for name, queue in self.queues.items() if name in streams}
        for name in streams:
            if name not in kept and name in self._live.stream_names:
                kept[name] = StreamQueue(self._live.recent(name))
        self.queues = kept
        self.awake.set()

    def again(self, stream: str) -> None:
        """Begin a stream anew: init segment and last keyframe first; the page's decoder gave up."""
        old = self.queues.get(stream)
        if old is not None:
            new = self.queues[stream] = StreamQueue(self._live.recent(stream))
            new.on_the_way = old.on_the_way
            self.awake.set()

    def got(self, stream: str) -> None:
        queue = self.queues.get(stream)
        if queue is not None and queue.on_the_way > 0:
            queue.on_the_way -= 1
            self.awake.set()

    def next_fragment(self) -> tuple[StreamQueue, Fragment] | None:
        """The next one to send, each stream in its turn; it counts as on its way."""
        for name, queue in self.queues.items():
            if queue.is_sendable():
                del self.queues[name]
                self.queues[name] = queue  # to the end of the turn
                queue.on_the_way += 1
                return queue, queue.waiting.popleft()
        return None


class Live:
    """Listens to the recorder, however often that starts anew, and tells every watcher."""

    def __init__(self, run_dir: Path, stream_names: frozenset[str], clock: Clock | None = None) -> None:
        self._run_dir = run_dir
        self._clock = clock or SystemClock()
        self.stream_names = stream_names
        self.status: dict[str, Any] = {}
        self._heard_s = float("-inf")
        self._started_s = time.monotonic()
        self._since_ms: dict[str, int] = {}
        self.troubles: list[dict[str, Any]] = []  # of the box itself
        self._recent: dict[str, list[Fragment]] = {}
        self._watchers: set[Watcher] = set()
        self._told = ""

    def add(self) -> Watcher:
        watcher = Watcher(self)
        watcher.texts.append(self.status_text("status"))
        self._watchers.add(watcher)
        return watcher

    def remove(self, watcher: Watcher) -> None:
        self._watchers.discard(watcher)

    def recent(self, stream: str) -> list[Fragment]:
        """From the last keyframe on, if that is not longer ago than a queue is long."""
        recent = self._recent.get(stream, [])
        if recent and self._clock.mono_ns() - recent[-1][1].mono_ns > 10_000_000_000:
            return []
        return list(recent)

    def recorder_silent_s(self) -> float:
        """Seconds since the recorder last told its state."""
        return round(time.monotonic() - max(self._heard_s, self._started_s), 1)

    def told(self, stream: str) -> dict[str, Any]:
        """What the recorder last said of a stream, in its own words; {} when nothing that can be understood."""
        streams = self.status.get("streams")
        state = streams.get(stream) if isinstance(streams, dict) else None
        return state if isinstance(state, dict) else {}

    def stream_status(self) -> dict[str, dict[str, Any]]:
        """For each configured stream what the recorder says of it, in the words of the page."""
        answer = {}
        for name in sorted(self.stream_names):
            state = self.told(name)
            answer[name] = {
                "recording": bool(state.get("recording")),
                "cause": state.get("cause") or None,
                "detail": str(state.get("detail") or ""),
                "since_ms": self._since_ms.get(name),
            }
        return answer

    def status_text(self, kind: str) -> str:
        now_ms = self._clock.read().wall_ns // 1_000_000
        message: dict[str, Any] = {
            "kind": kind, "now_ms": now_ms, "recorder_silent_s": self.recorder_silent_s(), "troubles": self.troubles,
        }  # fmt: skip
        if kind == "status":
            message["streams"] = self.stream_status()
        return json.dumps(message, separators=(",", ":"))

    async def listen(self) -> None:
        """Run until cancelled."""
        async for message in messages(self._run_dir, SOCKET_NAME):
            self.take(message)

    def troubles_now(self) -> list[dict[str, Any]]:
        """Waits for the disk."""
        record = self.status if self.recorder_silent_s() < SILENT_S else {}
        now_ms = self._clock.read().wall_ns // 1_000_000
        return [asdict(each) for each in troubles.all_of(self._run_dir, record, now_ms)]

    async def look(self) -> None:
        """What `nvr run` says is wrong with the box itself. Run until cancelled; waits for the disk in a thread."""
        while True:
            self.troubles = await asyncio.to_thread(self.troubles_now)
            await asyncio.sleep(LOOK_S)

    async def tell(self) -> None:
        """Tell every page once a second how things are, also when the recorder is silent. Run until cancelled."""
        while True:
            await asyncio.sleep(1.0)
            streams = json.dumps(self.stream_status())
            kind = "alive" if streams == self._told else "status"
            self._told = streams
            text = self.status_text(kind)
            for watcher in self._watchers:
                if kind == "alive" and watcher.texts:
                    continue  # it is behind; what waits says more
                watcher.texts.append(text)
                watcher.awake.set()

    def take(self, message: dict[str, Any]) -> None:
        """One message of the recorder. What cannot be understood is skipped: a newer recorder may say more."""
        kind = message.get("kind")
        if kind == "fragment":
            try:
                fragment = fragment_of(message)
            except (KeyError, TypeError, ValueError) as error:
                log.warning("an announced fragment cannot be read: %s", error)
                return
            self._take_fragment(fragment)
        elif kind == "status":
            self._take_status(message)

    def _take_status(self, message: dict[str, Any]) -> None:
        self.status, self._heard_s = message, time.monotonic()
        reading = self._clock.read()
        for name in self.stream_names:
            told = self.told(name)
            if isinstance(told.get("since_mono_ns"), int):
                # By box time: the wall clock may have been set since.
                since_ns = reading.wall_ns - (reading.mono_ns - told["since_mono_ns"])
                since_ms = since_ns // 1_000_000
                if abs(since_ms - self._since_ms.get(name, 0)) > 1500:  # drifting digits are not news
                    self._since_ms[name] = since_ms

    def _take_fragment(self, fragment: Fragment) -> None:
        position, record = fragment
        if position.stream not in self.stream_names:
            return
        recent = self._recent.setdefault(position.stream, [])
        if record.is_keyframe or (recent and recent[-1][1].run != record.run):
            recent.clear()
        if record.is_keyframe or recent:
            recent.append(fragment)
        if len(recent) > RECENT_LENGTH:
            recent.clear()
        for watcher in self._watchers:
            queue = watcher.queues.get(position.stream)
            if queue is not None:
                queue.put(fragment)
                watcher.awake.set()

    def header(self, stream: str, record: FragmentRecord, init_bytes: int, skipped: int) -> bytes:
        """What goes before the bytes of one fragment on the wire."""
        age_ns = self._clock.mono_ns() - record.mono_ns - record.duration_ns
        header = json.dumps(
            {
                "stream": stream,
                "run": record.run,
                "init_bytes": init_bytes,
                "run_ticks": record.run_ticks,
                "duration_ticks": record.duration_ticks,
                "is_keyframe": record.is_keyframe,
                "wall_ms": record.wall_ns // 1_000_000,
                "clock_state": int(record.clock_state),
                "age_ms": max(0, age_ns // 1_000_000),
                "skipped": skipped,
            },
            separators=(",", ":"),
        ).encode()
        return len(header).to_bytes(4, "big") + header
