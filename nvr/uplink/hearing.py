"""What `record` and `detect` announced last (nvr/hearing.py), as far as the hub is to know it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nvr.announce import SEEN_SOCKET, SOCKET_NAME, fragment_of
from nvr.hearing import messages
from nvr.media import FragmentRecord, Position

log = logging.getLogger(__name__)

Fragment = tuple[Position, FragmentRecord]


class Heard:
    """The last word of `record` and `detect`, and the newest keyframe of every stream."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self.record: dict[str, Any] = {}
        self.detect: dict[str, Any] = {}
        self.record_s = time.monotonic()  # silent since we listen
        self.detect_s = float("-inf")
        self.keyframes: dict[str, Fragment] = {}
        self.on_fragment: list[Callable[[Fragment], None]] = []
        self.on_status: list[Callable[[dict[str, Any]], None]] = []
        self.on_event: Callable[[], None] = lambda: None

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._hear(SOCKET_NAME, self._of_record))
            tasks.create_task(self._hear(SEEN_SOCKET, self._of_detect))

    async def _hear(self, name: str, take: Callable[[dict[str, Any]], None]) -> None:
        async for message in messages(self._run_dir, name):
            take(message)

    def _of_record(self, message: dict[str, Any]) -> None:
        if message.get("kind") == "fragment":
            try:
                fragment = fragment_of(message)
            except (KeyError, TypeError, ValueError) as error:
                log.warning("an announced fragment cannot be read: %s", error)
                return
            if fragment[1].is_keyframe:
                self.keyframes[fragment[0].stream] = fragment
            for take in self.on_fragment:
                take(fragment)
        elif message.get("kind") == "status":
            self.record, self.record_s = message, time.monotonic()
            for tell in self.on_status:
                tell(message)

    def _of_detect(self, message: dict[str, Any]) -> None:
        if message.get("kind") == "status":
            self.detect, self.detect_s = message, time.monotonic()
        elif message.get("kind") == "event":
            self.on_event()

    def stream(self, name: str) -> dict[str, Any]:
        """What `record` said of a stream; {} when nothing."""
        streams = self.record.get("streams")
        found = streams.get(name) if isinstance(streams, dict) else None
        return found if isinstance(found, dict) else {}

    def silent_s(self) -> float:
        return time.monotonic() - self.record_s
