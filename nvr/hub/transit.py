"""How long messages of one connection are on their way, beyond the fastest of late: the age of a live picture counts it.

A box says with each message what its clock that never jumps showed. That clock and ours began at different times and drift a little, so only
differences mean something: the message that came soonest, by both, is taken to have needed no time. Pure.
"""

from __future__ import annotations

KEEP_S = 300.0  # so long, to twice as long, the fastest counts: two clocks of 100 ppm are 60 ms apart by then
LATE_MOST_MS = 120_000


class Transit:
    def __init__(self) -> None:
        self._since_s = float("-inf")
        self._before_ms = self._fastest_ms = float("inf")  # arrival by our clock minus sending by theirs

    def late_ms(self, sent_mono_ms: int, now_s: float) -> int:
        """Of a message that arrived at `now_s` of our own such clock. What a box that lies can reach is a picture that looks old."""
        took_ms = now_s * 1000 - sent_mono_ms
        if now_s - self._since_s > KEEP_S:
            self._since_s, self._before_ms, self._fastest_ms = now_s, self._fastest_ms, took_ms
        self._fastest_ms = min(self._fastest_ms, took_ms)
        return int(min(took_ms - min(self._fastest_ms, self._before_ms), LATE_MOST_MS))
