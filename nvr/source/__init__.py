"""Where access units come from: cameras over RTSP, USB and CSI, and files played in their own time.

A source never blocks and owns no thread: the recorder asks every source in turn, some ten times a second
(docs/decisions say why). Sources that need a heavy library (picamera2, PyAV) run it in a process of their
own, a *feeder*, and read access units from a socket, so that `record` stays small and cannot be brought
down by them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from nvr.media import StreamEvent

# How often the recorder goes round. Wake-ups are the cost of receiving (docs/decisions/0001-one-thread-on-a-timer.md): ten a
# second keep it low, and a stream whose bytes are kept for us may be left out of some.
TURN_NS = 100_000_000


class Source(Protocol):
    """One stream. Every kind of source passes tests/source/source_suite.py."""

    def drain(self, now_ns: int) -> Sequence[StreamEvent]:
        """Whatever arrived since the last call, in order; never blocks.

        A run is RunStarted, then access units (the first a keyframe at tick 0), then RunEnded. Reconnecting,
        with back-off, is the source's own business. Before the first run, and while there is none, RunEnded
        is returned whenever the reason becomes known or changes. Access units stay valid for as long as
        somebody holds their payload.
        """

    def close(self) -> None:
        """Let go of sockets, files and feeders; say goodbye to the camera if that takes no time."""

    def may_wait(self) -> int:
        """How many turns may go by before the next drain; 0 where what arrives is lost if it is not fetched."""

    def facts(self) -> dict[str, object]:
        """For the page and the heartbeat: packets, lost, reconnects, transport, camera clock offset ..."""
