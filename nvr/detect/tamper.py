"""The picture as a whole, as numbers: is the camera covered, blind, out of focus, turned, frozen, or shown a loop?

Only numbers; what is an alarm is a rule's business, because a night is not a cover. Compared with a learned picture, which
follows the day's light with a time constant of ten minutes and is not learned while the picture is suspicious, for half an hour at most.
"""

from __future__ import annotations

from dataclasses import replace
from math import exp
from typing import Any

import numpy as np

from nvr.detect.decoder import Pixels
from nvr.detect.loops import LoopLook
from nvr.detect.motion import Luma, Motion
from nvr.scene import Tamper

LEARN_S = 600.0
SUSPICIOUS_KEPT = 0.5  # fewer edges than this are where they were
SUSPICIOUS_MOST_S = 1800.0
EDGE_LEVELS = 14.0  # between the blocks on both sides of one
SURE_EDGE = 0.6  # an edge that is there most of the time is part of the scene
DARK_LEVELS = 30.0  # 0.12 of 255
TEXTURE_LEVELS = 2.5
STRONG_LEVELS = 24  # within four pixels
EVERY_ROW = 4  # rows that are looked at for sharpness
SHIFT_EVERY_NS = 1_000_000_000
SAME_LEVELS = 0.25  # mean difference that coding alone makes of the same picture
SAME_MOST = 4.0


class TamperLook:
    """The learned picture of one camera."""

    def __init__(self) -> None:
        self._edges: Luma | None = None  # how often an edge is there, 0 to 1
        self._learned_s = 0.0
        self._suspicious_s = 0.0
        self._sharpness_usual = 0.0
        self._change_usual = 0.0
        self._at_ns: int | None = None
        self._first: Luma | None = None  # of the frozen stretch
        self._first_ns = 0
        self._older: tuple[int, Luma] | None = None
        self._shift: tuple[tuple[float, float], float] = ((0.0, 0.0), 0.0)
        self._shift_ns = -SHIFT_EVERY_NS
        self._loop = LoopLook()
        self.last = Tamper(0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, (0.0, 0.0), 0.0, 0, 0, 0, 0)

    def look(self, luma: Pixels, motion: Motion, at_ns: int) -> Tamper:
        small = motion.small
        gone_s = 0.0 if self._at_ns is None else min(max((at_ns - self._at_ns) / 1e9, 0.0), 2.0)
        self._at_ns = at_ns
        edges = _edges(small)
        if self._edges is None or self._edges.shape != edges.shape:
            self._edges, self._learned_s = edges.astype(np.float32), 0.0
        sure = self._edges > SURE_EDGE
        total = int(np.count_nonzero(sure))
        kept = _kept(sure, _thick(edges), total) if total >= 20 else 1.0
        sharpness = _sharpness(luma)
        change = self._change(small, at_ns)
        if at_ns - self._shift_ns >= SHIFT_EVERY_NS:
            self._shift, self._shift_ns = _shift(self._edges, edges), at_ns
        frozen_ns = self._frozen(small, at_ns)
        loop_ns, loop_period_ns = self._loop.look(small, at_ns)
        self.last = Tamper(
            brightness=round(float(small.mean()) / 255, 4),
            contrast=round(float(small.std()) / 255, 4),
            dark_share=round(float(np.count_nonzero(small < DARK_LEVELS)) / small.size, 4),
            sharpness=round(sharpness, 4),
            sharpness_usual=round(self._sharpness_usual, 4),
            edges_kept=round(kept, 4),
            detail=round(_detail(small), 4),
            shift=self._shift[0],
            shift_trust=self._shift[1],
            frozen_ns=frozen_ns,
            loop_ns=loop_ns,
            loop_period_ns=loop_period_ns,
            learned_ns=round(self._learned_s * 1e9),
            change=round(change, 3),
            change_usual=round(self._change_usual, 3),
        )
        self._learn(edges, sharpness, change, kept, gone_s)
        return self.last

    def still(self, at_ns: int) -> Tamper:
        """Nothing was decoded, because access units say that nothing happens: only time went by."""
        if self._at_ns is not None and at_ns > self._at_ns and self.last.frozen_ns:
            return replace(self.last, frozen_ns=self.last.frozen_ns + at_ns - self._at_ns)
        return self.last

    def _learn(self, edges: Any, sharpness: float, change: float, kept: float, gone_s: float) -> None:
        assert self._edges is not None
        if kept < SUSPICIOUS_KEPT and self._learned_s > 60:
            self._suspicious_s += gone_s
            if self._suspicious_s < SUSPICIOUS_MOST_S:
                return
            self._edges, self._learned_s = edges.astype(np.float32), 0.0  # this is what it looks like now
        self._suspicious_s = 0.0
        rate = 1.0 - exp(-gone_s / min(LEARN_S, 5.0 + self._learned_s))
        self._edges += np.float32(rate) * (edges - self._edges)
        if sharpness > 0:
            self._sharpness_usual += (sharpness - self._sharpness_usual) * (rate if self._sharpness_usual else 1.0)
        self._change_usual += (min(change, 2.0) - self._change_usual) * (rate if self._change_usual else 1.0)
        self._learned_s += gone_s

    def _change(self, small: Luma, at_ns: int) -> float:
        """Against a picture two seconds or more ago: mean difference of the quieter half of the blocks, levels."""
        if self._older is None or self._older[1].shape != small.shape:
            self._older = (at_ns, small)
            return self.last.change
        if at_ns - self._older[0] < 2_000_000_000:
            return self.last.change
        difference = np.abs(small - self._older[1]).ravel()
        quiet = np.partition(difference, difference.size // 2)[: difference.size // 2]
        self._older = (at_ns, small)
        return float(quiet.mean())

    def _frozen(self, small: Luma, at_ns: int) -> int:
        """How long pictures have been the same, but for what coding makes of the same picture."""
        first = self._first
        if first is not None and first.shape == small.shape:
            difference = np.abs(small - first)
            if float(difference.mean()) <= SAME_LEVELS and float(difference.max()) <= SAME_MOST:
                return at_ns - self._first_ns
        self._first, self._first_ns = small, at_ns
        return 0


def _edges(small: Luma) -> Any:
    """Blocks with an edge, one row and column less on each side."""
    across = np.abs(small[1:-1, 2:] - small[1:-1, :-2])
    down = np.abs(small[2:, 1:-1] - small[:-2, 1:-1])
    return np.maximum(across, down) > EDGE_LEVELS


def _kept(sure: Any, thick: Any, total: int) -> float:
    """Share of the learned edges that are there, without those that any picture as rich would hit by chance."""
    share = int(np.count_nonzero(sure & thick)) / total
    chance = int(np.count_nonzero(thick)) / thick.size
    return max((share - chance) / (1.0 - chance), 0.0) if chance < 0.95 else share


def _thick(edges: Any) -> Any:
    """Edges one block wider: a camera on a mast sways."""
    wide = edges.copy()
    wide[1:] |= edges[:-1]
    wide[:-1] |= edges[1:]
    wide[:, 1:] |= edges[:, :-1]
    wide[:, :-1] |= edges[:, 1:]
    return wide


def _detail(small: Luma) -> float:
    """Share of cells of 6 x 8 blocks with any texture."""
    rows, columns = small.shape[0] // 6, small.shape[1] // 8
    if not rows or not columns:
        return 0.0
    cells = small[: rows * 6, : columns * 8].reshape(rows, 6, columns, 8)
    return float(np.count_nonzero(cells.std((1, 3)) > TEXTURE_LEVELS)) / (rows * columns)


def _sharpness(luma: Pixels) -> float:
    """How much of a strong edge lies within one pixel of four: 0 for a slope, 1 for a step; 0 where there are no strong edges."""
    rows = luma[::EVERY_ROW].astype(np.int16)
    if rows.shape[1] < 8:
        return 0.0
    steps = np.abs(rows[:, 1:] - rows[:, :-1])
    rise = np.abs(rows[:, 4:] - rows[:, :-4])
    steepest = np.maximum(np.maximum(steps[:, :-3], steps[:, 1:-2]), np.maximum(steps[:, 2:-1], steps[:, 3:]))
    strong = rise > STRONG_LEVELS
    count = int(np.count_nonzero(strong))
    if count < 30:
        return 0.0
    ratio = float(np.minimum(steepest[strong] / rise[strong], 1.0).mean())
    return max((ratio - 0.25) / 0.75, 0.0)


def _shift(learned: Luma, edges: Any) -> tuple[tuple[float, float], float]:
    """Displacement of the edges against the learned ones (phase correlation), fractions of the picture; and how clear it is."""
    rows, columns = edges.shape
    window = np.outer(np.hanning(rows), np.hanning(columns))
    first, second = np.fft.rfft2((learned - learned.mean()) * window), np.fft.rfft2((edges - edges.mean()) * window)
    cross = second * np.conj(first)
    size = np.abs(cross)
    if float(size.max()) < 1e-6:
        return (0.0, 0.0), 0.0
    surface = np.fft.irfft2(cross / (size + 0.02 * float(size.max())), s=(rows, columns))
    row, column = divmod(int(np.argmax(surface)), columns)
    peak = float(surface[row, column])
    surface[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3] = 0.0
    second_peak = max(float(surface.max()), 1e-9)
    dy, dx = (row if row <= rows // 2 else row - rows), (column if column <= columns // 2 else column - columns)
    trust = min(max((peak / second_peak - 1.0) / 2.0, 0.0), 1.0)
    return (round(dx / columns, 4), round(dy / rows, 4)), round(trust, 3)
