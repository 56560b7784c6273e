"""States that change once, however noisy their input: a vote over the time just passed.

Each sample counts for the time until the next one. A state gives way to another that had most of a whole window, and
the window starts anew at every change; so changes are at least a window apart, and noise that is less than a
quarter of the samples does not delay a true change by more than a few windows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, TypeVar

S = TypeVar("S", bound=Hashable)

SHARE = 0.75  # of the window; with 30 % of wrong samples at 5 a second for 5 s, a wrong change comes once in weeks
SAMPLE_MOST_S = 2.0  # a sample speaks for no longer than this: silence is no evidence
# Unless samples come so slowly: of a large stream with no small one beside it, keyframes alone are looked at, every 4 s on many cameras.
SLOW_SAMPLE_MOST_S = 5.0


@dataclass(frozen=True, slots=True)
class Change(Generic[S]):
    """A state gave way to another."""

    at_s: float  # when it was decided
    from_s: float  # since when the new state's samples are in the window: the evidence
    before: S
    state: S


class Debounced(Generic[S]):
    """One state. `hold_s`: for how long another must be seen to take over, for all or for each; 0 is at once."""

    def __init__(self, state: S, hold_s: float | Mapping[S, float]) -> None:
        self.state = state
        self.since_s: float | None = None  # when it was last decided; None: it never changed
        self._hold_s = hold_s
        self._samples: deque[tuple[float, S | None]] = deque()

    def hold_s(self, state: S) -> float:
        return self._hold_s[state] if isinstance(self._hold_s, Mapping) else self._hold_s

    def observe(self, at_s: float, value: S | None) -> Change[S] | None:
        """Show one sample; None when nothing can be said, which speaks for no state. `at_s` never goes back."""
        self._samples.append((at_s, value))
        if value is None or value == self.state:
            self._forget(at_s)
            return None
        hold_s = self.hold_s(value)
        if hold_s > 0:
            from_s = self._voted(at_s, value, hold_s)
            if from_s is None:
                self._forget(at_s)
                return None
        else:
            from_s = at_s
        before = self.state
        self.take(at_s, value)
        return Change(at_s, from_s, before, value)

    def take(self, at_s: float, state: S) -> None:
        """Change without a vote; what was seen before counts no more."""
        if state != self.state:
            self.state, self.since_s = state, at_s
        self._samples.clear()
        self._samples.append((at_s, state))

    def _voted(self, at_s: float, value: S, hold_s: float) -> float | None:
        """Since when `value` holds, if it had its share of the whole window that ends now."""
        begin_s, speaks_s = at_s - hold_s, self._speaks_s()
        if self._samples[0][0] > begin_s + 1e-9:
            return None  # not watched for a whole window yet
        had_s, first_s = 0.0, None
        later_s = at_s
        for sample_s, sampled in reversed(self._samples):
            from_s = max(sample_s, begin_s)
            if sampled == value:
                had_s += min(later_s - from_s, speaks_s)
                if later_s > begin_s:
                    first_s = from_s
            if sample_s <= begin_s:
                break
            later_s = sample_s
        return first_s if first_s is not None and had_s >= SHARE * hold_s - 1e-9 else None

    def _speaks_s(self) -> float:
        """For how long a sample speaks: as far as the last ones were apart, twice in a row."""
        last = [self._samples[place][0] for place in range(-min(len(self._samples), 3), 0)]
        gaps_s = [after_s - before_s for before_s, after_s in pairwise(last)]
        apart_s = min(gaps_s) if len(gaps_s) == 2 else 0.0
        return min(max(apart_s, SAMPLE_MOST_S), SLOW_SAMPLE_MOST_S)

    def _forget(self, at_s: float) -> None:
        longest_s = max(self._hold_s.values(), default=0.0) if isinstance(self._hold_s, Mapping) else self._hold_s
        while len(self._samples) > 1 and self._samples[1][0] <= at_s - longest_s:
            self._samples.popleft()
