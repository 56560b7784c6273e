"""A rate for what can wait, lowered as soon as others wait because of it: the link is also the public's (`hub.yields`).

The controller of LEDBAT (RFC 6817), with the round trips that TCP measures anyway: where they are longer than the shortest of late, somebody's
packets stand in a queue, and ordinary clips go more slowly until it is empty. Alarms, events and what somebody asked for do not go
through here. It never gives up everything: an eighth of what the link has shown is kept, so that clips arrive in the end on a link
that is never free.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

TARGET_MS = 60.0  # of queue that we put up with; RFC 6817 allows 100
BEGIN_BYTES_S = 16_000.0
LEAST_BYTES_S = 2_000.0
MOST_BYTES_S = 12.5e6
KEPT_SHARE = 1 / 8
GAIN_EACH_S = 0.15  # slowly up, while the queue is empty
LOSS_EACH_S = 0.5  # down three times as fast; by a fluid model (tests/uplink/test_courtesy.py) this takes 95 % of a free link with 50 ms of queue
BEST_KEPT_S = 600.0  # half of what the link once gave is forgotten after so long
FILTER_LOOKS = 3  # 0.6 s of them
PATIENCE_BYTES = 16_384.0  # may be saved up while nothing is sent


@dataclass(slots=True)
class Courtesy:
    """Belongs to the event loop; told several times a second how it is."""

    bytes_s: float = BEGIN_BYTES_S
    best_bytes_s: float = 0.0  # that we were seen to send
    delay_ms: float = (
        0.0  # of queue: the least of the last looks, since one packet is late for many reasons (RFC 6817, 4.2)
    )
    _delays: deque[float] = field(default_factory=lambda: deque(maxlen=FILTER_LOOKS))
    _tokens: float = PATIENCE_BYTES

    def look(self, delay_ms: float | None, sent_bytes: int, passed_s: float) -> None:
        """`delay_ms`: round trip beyond the shortest of late, None where nothing was sent; `sent_bytes`: of ours since the last look."""
        if passed_s <= 0:
            return
        sent_bytes_s = sent_bytes / passed_s
        self.best_bytes_s = max(self.best_bytes_s * 0.5 ** (passed_s / BEST_KEPT_S), min(sent_bytes_s, self.bytes_s))
        self._tokens = min(self._tokens + self.bytes_s * passed_s, max(PATIENCE_BYTES, self.bytes_s * 0.5))
        if delay_ms is None:
            return
        self._delays.append(delay_ms)
        self.delay_ms = min(self._delays)
        off = max(-1.0, min((TARGET_MS - self.delay_ms) / TARGET_MS, 1.0))
        factor = 1.0 + (GAIN_EACH_S if off > 0 else LOSS_EACH_S) * off * min(passed_s, 0.5)
        if off > 0 and sent_bytes_s < 0.5 * self.bytes_s:
            factor = 1.0  # who does not use what he has learns nothing of the link
        least = max(LEAST_BYTES_S, KEPT_SHARE * self.best_bytes_s)
        self.bytes_s = max(least, min(self.bytes_s * factor, MOST_BYTES_S))

    def may_send(self) -> bool:
        return self._tokens > 0

    def spend(self, size_bytes: int) -> None:
        self._tokens -= size_bytes
