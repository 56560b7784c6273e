"""The account of a span for the timeline: recorded, or missing with its cause, and footage whose time nobody knows.

The ledger decides; this gives it what the page keeps in memory, so that a day is not read from the disk each time.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any, cast

from nvr import journal, ledger
from nvr.clock import Clock
from nvr.errors import NvrError
from nvr.journal import Story
from nvr.media import ClockState
from nvr.web.footage import Footage, unbroken

JOURNAL_READ_S = 2.0  # 16 MB at most, mostly from the page cache


class Missing:
    def __init__(self, data_dir: Path, footage: Footage, clock: Clock) -> None:
        self._journal_path = data_dir / "journal"
        self._footage = footage
        self._clock = clock
        self._story: Story | None = None
        self._story_s = float("-inf")
        self._lock = threading.Lock()

    def story(self) -> Story:
        """What the journal says; where it cannot be read every gap is 'not known'."""
        with self._lock:
            if self._story is None or time.monotonic() - self._story_s > JOURNAL_READ_S:
                try:
                    self._story = journal.read(self._journal_path)
                except (OSError, NvrError):
                    self._story = journal.story_of(b"")
                self._story_s = time.monotonic()
            return self._story

    def of(self, stream: str, from_ns: int, to_ns: int) -> ledger.StreamLedger:
        """The ledger of one stream. Raises Unavailable when its ring cannot be read."""
        # A Stretch has what the ledger looks at, without the whole records at both ends: a year of them fits in memory.
        merged = cast("list[ledger.Unbroken]", unbroken(self._footage.look(stream)))
        now_ns = self._clock.read().wall_ns
        return ledger.account(stream, merged, self.story(), self._footage.timeline(), from_ns, to_ns, now_ns=now_ns)

    def account(self, stream: str, from_ns: int, to_ns: int) -> dict[str, Any]:
        """The same as the API gives it; `to_ms` is the end of the span, the spans may end earlier: now."""
        told = self.of(stream, from_ns, to_ns)
        spans = [
            {
                "from_ms": part.from_ns // 1_000_000,
                "to_ms": part.to_ns // 1_000_000,
                "cause": part.cause.value if part.cause is not None else None,
                "detail": part.detail,
            }
            for part in told.parts
        ]
        loose = [
            {"from_ms": each.from_ns // 1_000_000, "to_ms": each.to_ns // 1_000_000}
            for each in self._footage.timeline().place(unbroken(self._footage.look(stream)))
            if each.state is ClockState.UNKNOWN
        ]
        return {
            "stream": stream,
            "from_ms": from_ns // 1_000_000,
            "to_ms": to_ns // 1_000_000,
            "recorded_ms": told.recorded_ns // 1_000_000,
            "missing_ms": told.missing_ns // 1_000_000,
            "spans": spans,
            "clock_unknown": loose,
        }
