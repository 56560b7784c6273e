"""Is the camera shown a loop? A sensor's noise never repeats itself; a film's does, in a room where nobody moves as well.

Of every picture the finest grain is taken: the difference between neighbouring blocks, and how that changed since the picture before. Grain of minutes
ago that comes again, picture by picture, is the same recording: correlation 1 where the stream itself is repeated, 0.2 to 0.6 where pictures were
encoded again, and 0.1 at most between pictures of a living camera. Whatever moves counts no more than the noise around it, because one car drives
by like another; and a lag is only believed as far as it stands out from all other lags, because a mast that sways resembles itself at many.

Not recognised: a loop longer than HISTORY, a stream without any noise that was encoded again, and a loop whose length is not a multiple of the time between
two looks until it came round so often that the same pictures are looked at.
"""

from __future__ import annotations

import numpy as np

from nvr.detect.motion import Luma

HISTORY = 1500  # looks; 5 minutes at 5 a second, 5.5 MB
HISTORY_NS = 300_000_000_000  # the same while less is looked at: `closed` is said of the time before (rules/service_open.py, CONFIRM_S)
LAG_LEAST = 15  # looks; whatever sways repeats itself within seconds
EVERY = 4  # rows and columns of blocks that are compared: some 900 pairs are enough
CLIP = 1.5  # times the median change: what moves counts no more than noise does
QUIET_LEVELS = 0.05  # of a median change; coding leaves quiet blocks exactly as they were
CHANGED_LEVELS = 0.02
CHANGED_SHARE = 0.25  # of the pairs must have changed: fewer is something that moves in a picture without noise
STANDS_OUT = 3.0  # times the usual correlation of all lags; more speaks for a loop, less against it
STEP_MOST, STEP_LEAST = 4.0, -2.0  # one look says no more than this
SURE = 24.0  # the sum that is believed: six looks or more
SUM_MOST = 48.0  # a loop that ends is over within five seconds
RESTS_MOST = 50  # looks without any grain; then what was believed is too old


class LoopLook:
    """What one camera has shown in the last minutes."""

    def __init__(self) -> None:
        self._shape: tuple[int, ...] = ()
        self._before: Luma | None = None
        self._forget(0)

    def _forget(self, pairs: int) -> None:
        self._history = np.zeros((HISTORY if pairs else 0, pairs), np.float32)  # changes of grain, length 1 or 0
        self._times = np.zeros(HISTORY, np.int64)
        self._has_grain = np.zeros(HISTORY, np.bool_)
        self._count = 0
        self._rests = 0
        self._sum = np.zeros(HISTORY, np.float32)  # by lag in looks: what speaks for a loop of that length
        self._since = np.zeros(HISTORY, np.int64)  # when that began

    def look(self, small: Luma, at_ns: int) -> tuple[int, int]:
        """(how long it has repeated, how long ago that was shown), ns; (0, 0) for a living camera. Costs 0.5 ms."""
        grain = _grain(small)
        before, self._before = self._before, grain
        if grain.shape != self._shape:
            self._shape = grain.shape
            self._forget(grain.size)
            return 0, 0
        assert before is not None  # of the same shape, so there was one
        vector = _change(grain - before)
        found = self._compare(vector, at_ns) if grain.size else (0, 0)
        place = self._count % HISTORY
        if grain.size:
            self._history[place] = 0.0 if vector is None else vector
        self._times[place] = at_ns
        self._has_grain[place] = vector is not None
        self._count += 1
        return found

    def _compare(self, vector: Luma | None, at_ns: int) -> tuple[int, int]:
        known = min(self._count, HISTORY)
        rows = (self._count - 1 - np.arange(known)) % HISTORY  # of the look `lag` ago, for lag = 1, 2 ...
        sums, since = self._sum[:known], self._since[:known]
        if vector is None:
            self._rests += 1
            if self._rests > RESTS_MOST:
                sums[:] = 0.0
        else:
            self._rests = 0
            has_grain = self._has_grain[rows] & (at_ns - self._times[rows] <= HISTORY_NS)
            if int(np.count_nonzero(has_grain)) <= LAG_LEAST:
                return 0, 0
            alike = (self._history[:known] @ vector)[rows]
            usual = max(float(np.median(np.abs(alike[has_grain]))) / 0.6745, len(vector) ** -0.5)
            step = np.clip(alike / usual - STANDS_OUT, STEP_LEAST, STEP_MOST)
            sums += np.where(has_grain, step, 0.0)
            sums[:LAG_LEAST] = 0.0
            np.clip(sums, 0.0, SUM_MOST, out=sums)
        since[:] = np.where(sums > 0.0, np.where(since, since, at_ns), 0)
        running = np.flatnonzero(sums >= SURE)
        if not running.size:
            return 0, 0
        best = int(running[np.argmin(since[running])])
        return int(at_ns - since[best]), int(at_ns - self._times[rows[best]])


def _grain(small: Luma) -> Luma:
    """Every fourth block against its neighbour: light, clouds and lamps that flicker are the same in both."""
    part = small[1::EVERY]
    right = part[:, 1::EVERY]
    return np.asarray(right - part[:, 0::EVERY][:, : right.shape[1]])


def _change(difference: Luma) -> Luma | None:
    """As a vector of length 1; None where hardly anything changed."""
    vector = difference.ravel()
    size = np.abs(vector)
    if int(np.count_nonzero(size > CHANGED_LEVELS)) < max(CHANGED_SHARE * vector.size, 1):
        return None
    most = CLIP * max(float(np.median(size)), QUIET_LEVELS)
    clipped = np.clip(vector, -most, most)
    return np.asarray(clipped / float(np.sqrt((clipped * clipped).sum())), np.float32)
