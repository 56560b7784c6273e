"""How long a source waits before it tries again.

Short at first, because most cameras are back within seconds; then longer, with a random part, so that the
cameras of a site whose switch comes back do not all dial at one instant.
"""

from __future__ import annotations

import random
from collections.abc import Callable

_NS = 1_000_000_000
_STEPS_S = (1, 2, 4, 8, 16, 30)
# After a refused login: cameras of several makes lock the account after five to seven wrong ones in half an hour.
_SLOW_STEPS_S = (60, 300, 900)
_GOOD_RUN_NS = 30 * _NS  # who played for so long is healthy: start again with the shortest wait
_JITTER = 0.25


class Backoff:
    """When to try next; one for each source."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._failures = 0
        self._is_slow = False
        self.failed_in_a_row = 0

    def next_ns(self, now_ns: int, *, played_ns: int = 0, is_slow: bool = False) -> int:
        """The moment of the next try, after one that failed now and had played for `played_ns`.

        `is_slow`: asking again soon would do harm, and only a person can change the answer.
        """
        if played_ns >= _GOOD_RUN_NS or is_slow is not self._is_slow:
            self._failures = 0
        if played_ns >= _GOOD_RUN_NS:
            self.failed_in_a_row = 0
        self._is_slow = is_slow
        steps = _SLOW_STEPS_S if is_slow else _STEPS_S
        wait_s = steps[min(self._failures, len(steps) - 1)]
        self._failures += 1
        self.failed_in_a_row += 1
        return now_ns + int(wait_s * _NS * (1 - _JITTER + 2 * _JITTER * self._chance()))
