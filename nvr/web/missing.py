"""The account of a span for the timeline: recorded, or missing with its cause, and footage whose time nobody knows.

The ledger decides; this gives it what the page keeps in memory, so that a day is not read from the disk each time.
"""

from __future__ import annotations

from typing import Any, cast

from nvr import ledger
from nvr.media import ClockState
from nvr.web.footage import Footage, unbroken


class Missing:
    def __init__(self, footage: Footage) -> None:
        self._footage = footage

    def of(self, stream: str, from_ns: int, to_ns: int) -> ledger.StreamLedger:
        """The ledger of one stream. Raises Unavailable when its ring cannot be read."""
        # A Stretch has what the ledger looks at, without the whole records at both ends: a year of them fits in memory.
        merged = cast("list[ledger.Unbroken]", unbroken(self._footage.look(stream)))
        return ledger.account(
            stream,
            merged,
            self._footage.story(),
            self._footage.timeline(),
            from_ns,
            to_ns,
            now_ns=self._footage.now_ns(),
            forgotten=self._footage.forgotten(stream),
        )

    def account(self, stream: str, from_ns: int, to_ns: int) -> dict[str, Any]:
        """The same as the API gives it; `to_ms` is the end of the span, the spans may end earlier: now."""
        told = self.of(stream, from_ns, to_ns)
        spans = [
            {
                "from_ms": part.from_ns // 1_000_000,
                "to_ms": part.to_ns // 1_000_000,
                "cause": part.cause.value if part.cause is not None else None,
                "detail": part.detail,
                "is_before": part.detail == ledger.BEFORE_FIRST,  # nobody misses it: the stream was not there yet
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
