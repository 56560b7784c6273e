"""What time it is, and how sure that is.

Everything that needs time takes a `Clock`; tests pass one of their own. The monotonic side orders and
measures; the wall side is only ever a label with a state and an error bound (docs/time.md).
"""

from __future__ import annotations

import time
from typing import Protocol

from nvr.media import ClockReading, ClockState


class Clock(Protocol):
    def mono_ns(self) -> int:
        """Nanoseconds since boot; never steps."""

    def read(self) -> ClockReading:
        """Both clocks at one instant, with state and error bound."""

    def sleep_until(self, mono_ns: int) -> None:
        """Return at `mono_ns` or soon after; at once if that has passed."""


class SystemClock:
    """The clocks of this machine."""

    def mono_ns(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def read(self) -> ClockReading:
        return ClockReading(self.mono_ns(), time.time_ns(), ClockState.PLAUSIBLE, 0)  # state: to be read from the kernel

    def sleep_until(self, mono_ns: int) -> None:
        remaining_ns = mono_ns - self.mono_ns()
        if remaining_ns > 0:
            time.sleep(remaining_ns / 1e9)
