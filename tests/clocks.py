"""A clock that tests set: box time goes on when they say so, and wall time is what they say."""

from __future__ import annotations

from nvr.media import ClockReading, ClockState


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
