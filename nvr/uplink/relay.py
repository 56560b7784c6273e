"""Live pictures to the hub, only while somebody watches: positions are queued, bytes are read from the ring when they go out.

A link that is too slow for a fragment does not get it: whole GOPs are left out and counted, because on the one control channel a heartbeat
would wait behind it.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from nvr.clock import Clock
from nvr.errors import NvrError
from nvr.media import ClockState
from nvr.ring.reader import NoInitSegment, Recycled, Ring, streams
from nvr.uplink.hearing import Fragment
from nvr.wire import BINARY_BYTES_MOST, Message

log = logging.getLogger(__name__)

STREAMS_MOST = 4  # at the same time, of one box
WATCH_S_MOST = 120.0  # then the hub must ask again
QUEUE_LENGTH = 3  # seconds
HOLD_UP_S = 2.0  # so long a fragment may keep the channel
BUSY_S = 0.1
TELLING_BYTES = 64 * 1024
TRY_AGAIN_S = 15.0  # after a fragment that was too large for the link


@dataclass
class Watched:
    until_s: float
    waiting: deque[Fragment] = field(default_factory=deque)
    needs_keyframe: bool = True
    skipped: int = 0
    init_of: tuple[int, int] | None = None  # segment and lap whose init segment the hub has

    def put(self, fragment: Fragment) -> None:
        is_keyframe = fragment[1].is_keyframe
        if len(self.waiting) >= QUEUE_LENGTH:
            self.skip_to_keyframe()
        if self.needs_keyframe and not is_keyframe:
            self.skipped += 1
            return
        self.needs_keyframe = False
        self.waiting.append(fragment)

    def skip_to_keyframe(self) -> None:
        self.skipped += len(self.waiting)
        self.waiting.clear()
        self.needs_keyframe = True


class Relay:
    """Belongs to the event loop; only message() reads the disk, and is called in a thread."""

    def __init__(self, data_dir: Path, clock: Clock, now_s: Callable[[], float] = time.monotonic) -> None:
        self._data_dir, self._clock, self._now_s = data_dir, clock, now_s
        self.watched: dict[str, Watched] = {}
        self._rings: dict[str, Ring] = {}
        self._bytes_s = float("inf")  # what the channel takes, as its last fragments showed
        self._sent: deque[tuple[int, float]] = deque(maxlen=16)  # those the channel was busy with: bytes, seconds
        self._slow_s = float("-inf")

    def on(self, stream: str, watch_s: float, newest: Fragment | None) -> str:
        """Begin, or go on for `watch_s`; why not, "" when it does."""
        if stream not in streams(self._data_dir):
            return f"there is no stream {stream}"
        if stream not in self.watched and len(self.watched) >= STREAMS_MOST:
            return f"{STREAMS_MOST} streams are watched already"
        watched = self.watched.setdefault(stream, Watched(0.0))
        watched.until_s = self._now_s() + min(max(watch_s, 1.0), WATCH_S_MOST)
        watched.init_of = None
        if newest is not None and not watched.waiting and watched.needs_keyframe:
            watched.put(newest)
        return ""

    def off(self, stream: str) -> None:
        self.watched.pop(stream, None)
        ring = self._rings.pop(stream, None)
        if ring is not None:
            ring.close()

    def stop(self) -> None:
        for stream in list(self.watched):
            self.off(stream)

    def take(self, fragment: Fragment) -> None:
        watched = self.watched.get(fragment[0].stream)
        if watched is None:
            return
        if self._now_s() > watched.until_s:
            self.off(fragment[0].stream)
            return
        watched.put(fragment)

    def next(self) -> tuple[str, Watched, Fragment] | None:
        """What is to be sent next, each stream in its turn; a fragment that would hold up the channel is left out."""
        for stream, watched in self.watched.items():
            if not watched.waiting:
                continue
            fragment = watched.waiting[0]
            if fragment[0].size_bytes > self._bytes_s * HOLD_UP_S and self._now_s() - self._slow_s < TRY_AGAIN_S:
                watched.skip_to_keyframe()
                continue
            watched.waiting.popleft()
            del self.watched[stream]
            self.watched[stream] = watched  # to the end of the turn
            return stream, watched, fragment
        return None

    def message(self, stream: str, watched: Watched, fragment: Fragment) -> Message | None:
        """Reads the bytes; None when they are not there any more, or too many."""
        position, record = fragment
        try:
            if stream not in self._rings:
                self._rings[stream] = Ring(streams(self._data_dir)[stream])
            ring = self._rings[stream]
            init = b""
            if watched.init_of != (position.segment, position.lap):
                init = ring.init_segment(position)
            data = ring.read(position)
        except (Recycled, NoInitSegment, KeyError, NvrError) as error:
            log.debug("%s: a live fragment is left out: %s", stream, error)
            watched.skip_to_keyframe()
            return None
        if len(init) + len(data) > BINARY_BYTES_MOST - 4096:
            watched.skip_to_keyframe()
            return None
        watched.init_of = (position.segment, position.lap)
        skipped, watched.skipped = watched.skipped, 0
        is_known = record.clock_state is not ClockState.UNKNOWN
        mono_ns = self._clock.mono_ns()
        body = {
            "mono_ms": mono_ns // 1_000_000, "stream": stream, "run": record.run, "init_bytes": len(init), "run_ticks": record.run_ticks,
            "duration_ticks": record.duration_ticks, "is_keyframe": record.is_keyframe,
            "captured_ms": record.wall_ns // 1_000_000 if is_known else 0,
            "age_ms": max(0, (mono_ns - record.mono_ns - record.duration_ns) // 1_000_000), "skipped": skipped,
        }  # fmt: skip
        return Message("live", body, init + data)

    def sent(self, size_bytes: int, took_s: float) -> None:
        """How long the channel took for one; what it can do is learned from it.

        What the kernel took at once says nothing. What is small says little by itself: it may have waited for the rest of a large one.
        """
        if took_s < BUSY_S:
            return
        now_s = self._now_s()
        if now_s - self._slow_s > TRY_AGAIN_S:
            self._sent.clear()
        self._sent.append((size_bytes, took_s))
        all_bytes, all_s = 0, 0.0
        for size, took in reversed(self._sent):
            all_bytes, all_s = all_bytes + size, all_s + took
            if all_bytes >= TELLING_BYTES:
                break
        self._bytes_s = all_bytes / all_s
        if took_s > HOLD_UP_S:
            self._slow_s = now_s
