"""Time for tests: a clock that goes on when they say so, and fragments recorded at times they choose."""

from __future__ import annotations

import time

from nvr.clock import NS_PER_S, SYNC_FLOOR_NS
from nvr.media import ClockReading, ClockState, FragmentRecord

T0 = 1_790_000_000 * NS_PER_S  # the truth when a simulation begins


class ManualClock:
    """Passes for a `nvr.clock.Clock`; sleeping moves box time and nothing else waits."""

    def __init__(
        self,
        mono_ns: int = 1_000_000_000,
        wall_ns: int = 1_800_000_000_000_000_000,
        state: ClockState = ClockState.SYNCED,
        error_ns: int = 1_000_000,
    ) -> None:
        self._mono_ns = mono_ns
        self._offset_ns = wall_ns - mono_ns
        self.state = state
        self.error_ns = error_ns

    def mono_ns(self) -> int:
        return self._mono_ns

    def read(self) -> ClockReading:
        return ClockReading(self._mono_ns, self._mono_ns + self._offset_ns, self.state, self.error_ns)

    def sleep_until(self, mono_ns: int) -> None:
        self._mono_ns = max(self._mono_ns, mono_ns)

    def advance(self, ns: int) -> None:
        """Let box time and wall time go on by `ns`."""
        self._mono_ns += ns

    def set_wall(self, wall_ns: int, state: ClockState | None = None, error_ns: int | None = None) -> None:
        """Step the wall clock, as NTP or a person does."""
        self._offset_ns = wall_ns - self._mono_ns
        if state is not None:
            self.state = state
        if error_ns is not None:
            self.error_ns = error_ns


def record(
    boot=b"a" * 16,
    sequence=1,
    mono_ns=0,
    wall_ns=T0,
    state=ClockState.SYNCED,
    error_ns=SYNC_FLOOR_NS,
    run=1,
    duration_ticks=90_000,
    stream="gate/main",
) -> FragmentRecord:
    """A fragment of one second that says when it was, and nothing else of interest."""
    return FragmentRecord(
        box_id=bytes(16),
        boot_id=boot,
        stream=stream,
        run=run,
        lap=1,
        segment=0,
        sequence=sequence,
        mono_ns=mono_ns,
        wall_ns=wall_ns,
        clock_state=state,
        clock_error_ns=error_ns,
        run_ticks=0,
        duration_ticks=duration_ticks,
        pictures=25,
        payload_bytes=500_000,
        lost_packets=0,
        is_keyframe=True,
        camera_wall_ns=0,
        previous_hash=bytes(32),
        hash=bytes(32),
    )


def zone_of_noon() -> str:
    """A time zone in which it is between noon and one o'clock now: a page that shows a day, or the last hour of it, has hours before and behind."""
    return f"Etc/GMT{time.gmtime().tm_hour - 12:+d}"  # its signs are the other way round (tz database, "etcetera")
