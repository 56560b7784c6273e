"""Is the camera shown a loop? A sensor's noise never repeats itself; a film's does, in a room where nobody moves as well.

Of every picture the finest grain is taken: the difference between neighbouring blocks, and how that changed since the picture before. Grain of minutes
ago that comes again, picture by picture, is the same recording: correlation 1 where the stream itself is repeated, 0.2 to 0.6 where pictures were
encoded again, and 0.1 at most between pictures of a living camera. Whatever moves counts no more than the noise around it, because one car drives
by like another; and a lag is only believed as far as it stands out from all other lags, because a mast that sways resembles itself at many.

Where coding took all noise away, what moved is compared instead, on a coarse grid and strictly: a loop of a street without noise is one still.

Not recognised: a loop longer than HISTORY_NS; one without noise and movement that was encoded again; and one whose length is not a multiple of the time between
two looks, until it came round so often that the same pictures are looked at.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nvr.detect.motion import Luma, Mask

HISTORY = 1500  # looks; 5 minutes at 5 a second, 9 MB
HISTORY_NS = 300_000_000_000  # the same while less is looked at: `closed` is said of the time before (rules/service_open.py, CONFIRM_S)
LAG_LEAST = 15  # looks; whatever sways repeats itself within seconds
EVERY = 4  # rows and columns of blocks whose grain is compared: some 900 pairs are enough
CELLS = (18, 32)  # of which movement is compared
GRAIN_CLIP = 1.5  # times the median change: what moves counts no more than noise does
MOVEMENT_CLIP = 4.0  # the same: a headlight is not the whole picture
QUIET_LEVELS = 0.05  # of a median change; coding leaves quiet blocks exactly as they were
CHANGED_LEVELS = 0.02
CHANGED_SHARE = 0.25  # of the pairs must have changed: fewer is something that moves in a picture without noise
LIVELY_LEVELS = 0.35  # mean change of the cells: below it nothing moves
SAME_MOVEMENT = 0.9  # correlation: one car drives by like another
SAME_MOST = 0.1  # of all lags; more is something that moves evenly
GRAIN_USUAL = 0.03  # the least that is usual: chance alone, with 900 pairs
STANDS_OUT = 3.0  # times the usual correlation of all lags; more speaks for a loop, less against it
STEP_LEAST = -2.0  # one look says no more than this against it
GRAIN_STEP, MOVEMENT_STEP = 4.0, 2.0  # and no more than this for it
SURE = 24.0  # the sum that is believed: six looks at grain, twelve at movement
SUM_MOST = 48.0  # a loop that ends is over within five seconds
RESTS_MOST = 50  # looks without anything to compare; then what was believed is too old


class LoopLook:
    """What one camera has shown in the last minutes: its grain, and what moved."""

    def __init__(self) -> None:
        self._before: Luma | None = None
        self.grain, self.movement = _Lags(_outstanding, GRAIN_STEP), _Lags(_same, MOVEMENT_STEP)

    def look(self, small: Luma, at_ns: int) -> tuple[int, int]:
        """(how long it has repeated, how long ago that was shown), ns; (0, 0) for a living camera. Costs 0.2 ms."""
        before, self._before = self._before, small
        if before is None or before.shape != small.shape:
            self.grain, self.movement = _Lags(_outstanding, GRAIN_STEP), _Lags(_same, MOVEMENT_STEP)
            return 0, 0
        change = small - before
        grain = _grain(change)
        movement = (
            _movement(change) if grain is None else None
        )  # a mast that sways evenly moves the same way again; its grain is new
        return max(self.grain.look(grain, at_ns), self.movement.look(movement, at_ns))


class _Lags:
    """Changes of the last minutes, and what speaks for a loop of each length."""

    def __init__(self, clearness: Callable[[Luma, Mask], Luma], step_most: float) -> None:
        """`clearness` judges the correlations of all lags, of which those of the mask are known: above 0 speaks for a loop."""
        self._clearness, self._step_most = clearness, step_most
        self._history = np.zeros((0, 0), np.float32)  # vectors of length 1, or 0 where there was nothing to compare
        self._times = np.zeros(HISTORY, np.int64)
        self._is_told = np.zeros(HISTORY, np.bool_)
        self._count = 0
        self._rests = 0
        self.sums = np.zeros(HISTORY, np.float32)  # by lag in looks
        self._since = np.zeros(HISTORY, np.int64)  # when the sum began to rise

    def look(self, vector: Luma | None, at_ns: int) -> tuple[int, int]:
        """`vector`: of length 1; None: nothing to compare."""
        if vector is not None and not self._history.size:
            self._history = np.zeros((HISTORY, len(vector)), np.float32)
        found = self._compare(vector, at_ns)
        place = self._count % HISTORY
        if self._history.size:
            self._history[place] = 0.0 if vector is None else vector
        self._times[place] = at_ns
        self._is_told[place] = vector is not None
        self._count += 1
        return found

    def _compare(self, vector: Luma | None, at_ns: int) -> tuple[int, int]:
        known = min(self._count, HISTORY)
        rows = (self._count - 1 - np.arange(known)) % HISTORY  # of the look `lag` ago, for lag = 1, 2 ...
        sums, since = self.sums[:known], self._since[:known]
        if vector is None:
            self._rests += 1
            if self._rests > RESTS_MOST:
                sums[:] = 0.0
        else:
            self._rests = 0
            is_told = self._is_told[rows] & (at_ns - self._times[rows] <= HISTORY_NS)
            if int(np.count_nonzero(is_told)) <= LAG_LEAST:
                return 0, 0
            alike = (self._history[:known] @ vector)[rows]
            step = np.clip(self._clearness(alike, is_told), STEP_LEAST, self._step_most)
            sums += np.where(is_told, step, 0.0)
            sums[:LAG_LEAST] = 0.0
            np.clip(sums, 0.0, SUM_MOST, out=sums)
        since[:] = np.where(sums > 0.0, np.where(since, since, at_ns), 0)
        running = np.flatnonzero(sums >= SURE)
        if not running.size:
            return 0, 0
        best = int(running[np.argmin(since[running])])
        return int(at_ns - since[best]), int(at_ns - self._times[rows[best]])


def _outstanding(alike: Luma, is_told: Mask) -> Luma:
    """How far each lag stands out from all of them, beyond what speaks for a loop."""
    usual = max(float(np.median(np.abs(alike[is_told]))) / 0.6745, GRAIN_USUAL)
    return np.asarray(alike / usual - STANDS_OUT)


def _same(alike: Luma, is_told: Mask) -> Luma:
    """All or nothing: what moves resembles itself at many lags, and only at a loop's own length it is the same."""
    is_same = alike > SAME_MOVEMENT
    many = np.count_nonzero(is_same & is_told) > SAME_MOST * np.count_nonzero(is_told)
    return np.where(is_same & ~many, MOVEMENT_STEP, STEP_LEAST)


def _grain(change: Luma) -> Luma | None:
    """Every fourth block against its neighbour: light, clouds and lamps that flicker are the same in both."""
    part = change[1::EVERY]
    right = part[:, 1::EVERY]
    vector = (right - part[:, 0::EVERY][:, : right.shape[1]]).ravel()
    size = np.abs(vector)
    if int(np.count_nonzero(size > CHANGED_LEVELS)) < max(CHANGED_SHARE * vector.size, 1):
        return None
    return _clipped(vector, size, GRAIN_CLIP)


def _movement(change: Luma) -> Luma | None:
    rows, columns = change.shape[0] // CELLS[0], change.shape[1] // CELLS[1]
    if not rows or not columns:
        return None
    part = change[: rows * CELLS[0], : columns * CELLS[1]]
    vector = part.reshape(CELLS[0], rows, CELLS[1], columns).mean((1, 3)).ravel()
    vector -= vector.mean()
    size = np.abs(vector)
    return _clipped(vector, size, MOVEMENT_CLIP) if float(size.mean()) > LIVELY_LEVELS else None


def _clipped(vector: Luma, size: Luma, clip: float) -> Luma:
    most = clip * max(float(np.median(size)), QUIET_LEVELS)
    clipped = np.clip(vector, -most, most)
    return np.asarray(clipped / float(np.sqrt((clipped * clipped).sum())), np.float32)
