"""Where the picture changes: a background model of the luma on a small picture of some 160 x 90 blocks.

Two masks come out of each frame. *Moving*: a block differs from the frame before. *Foreground*: it differs from the
empty scene, which is learned all the time: within seconds where nothing stands, within ten minutes under what stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nvr.detect.decoder import Pixels
from nvr.scene import Rect, Zone

Luma = NDArray[np.float32]
Mask = NDArray[np.bool_]

HEIGHT_BLOCKS = (
    90  # a person of 10 % of the picture's height is 9 blocks high; noise is averaged over 16 pixels at 640x360
)
EMPTY_S = 10.0  # what looks like the empty scene is learned with this time constant
STAYS_S = 600.0  # what differs from it and stays as it is: then it belongs to the scene
SAME_LEVELS = 8.0  # it is still the same thing that stands there
NOISE_LEAST = 1.0  # levels; a coded picture of a still scene pulses by this much with its keyframes
DIFFERS_LEAST = 9.0  # levels of 255
MOVES_LEAST = 7.0
LIGHT_SHARE = 0.55  # of all blocks changed at once: a lamp, the sun, infrared
LIGHT_S = 1.0  # cameras settle their exposure within a second or two


def small(luma: Pixels) -> Luma:
    """Means of square blocks, about HEIGHT_BLOCKS of them from top to bottom; a rest at the right and below is left out."""
    side = max(1, round(luma.shape[0] / HEIGHT_BLOCKS))
    rows, columns = luma.shape[0] // side * side, luma.shape[1] // side * side
    if not rows or not columns:
        return luma.astype(np.float32)
    down: Any = luma[0:rows:side, :columns].astype(np.uint16 if side < 17 else np.uint32)
    for line in range(1, side):
        down += luma[line:rows:side, :columns]
    total = down[:, 0::side].astype(np.uint32 if side > 15 else down.dtype)
    for column in range(1, side):
        total += down[:, column::side]
    return total.astype(np.float32) / (side * side)


class Sums:
    """A mask whose share in any rect is asked for often."""

    __slots__ = ("_sums", "columns", "mask", "rows", "share")

    def __init__(self, mask: Mask) -> None:
        self.mask = mask
        self.rows, self.columns = mask.shape
        self._sums = np.zeros((self.rows + 1, self.columns + 1), np.int32)
        np.cumsum(np.cumsum(mask, 0, dtype=np.int32), 1, out=self._sums[1:, 1:])
        self.share = float(self._sums[-1, -1]) / mask.size

    def blocks(self, rect: Rect) -> tuple[int, int]:
        """(set blocks, all blocks) in a rect; at least one block."""
        left, top = int(rect.left * self.columns), int(rect.top * self.rows)
        left, top = min(max(left, 0), self.columns - 1), min(max(top, 0), self.rows - 1)
        right = min(max(round(rect.right * self.columns), left + 1), self.columns)
        bottom = min(max(round(rect.bottom * self.rows), top + 1), self.rows)
        sums = self._sums
        count = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
        return int(count), (right - left) * (bottom - top)

    def in_rect(self, rect: Rect) -> float:
        """Share of a rect that is set."""
        count, blocks = self.blocks(rect)
        return count / blocks

    def in_mask(self, where: Mask) -> float:
        """Share of another mask that is set."""
        total = int(np.count_nonzero(where))
        return int(np.count_nonzero(self.mask & where)) / total if total else 0.0


@dataclass(frozen=True, slots=True)
class Motion:
    """What moved on one frame."""

    small: Luma
    moving: Sums
    foreground: Sums
    is_light_change: bool
    noise: float  # levels; of blocks where nothing happens
    known_s: float  # for how long the empty scene has been learned


class Background:
    """The empty scene of one camera. A picture of another size begins anew."""

    def __init__(self) -> None:
        self._empty: Luma | None = None
        self._spread: Luma = np.zeros((0, 0), np.float32)  # mean absolute deviation of each block
        self._standing: Luma = self._spread  # what hides the empty scene
        self._stood_s: Luma = self._spread  # for how long it has been the same
        self._before: Luma = self._spread
        self._at_ns = 0
        self._known_s = 0.0
        self._noise = NOISE_LEAST

    def look(self, picture: Luma, at_ns: int, ignored: Mask | None = None) -> Motion:
        """Compare with what is known, then learn. `ignored` blocks never move."""
        if self._empty is None or self._empty.shape != picture.shape:
            self._begin(picture, at_ns)
        assert self._empty is not None
        gone_s = min(max((at_ns - self._at_ns) / 1e9, 0.0), 2.0)
        step = picture - self._before
        step = np.abs(step - _light(step, self._before))
        self._noise += (max(_middle(step) * 1.5, NOISE_LEAST) - self._noise) * min(gone_s, 1.0) * 0.2
        moving = step > max(MOVES_LEAST, 5.0 * self._noise)
        away = picture - self._empty
        light = _light(away, self._empty)
        size = np.abs(away - light)
        foreground = size > np.maximum(DIFFERS_LEAST + self._noise, 4.0 * self._spread)
        if ignored is not None:
            moving &= ~ignored
            foreground &= ~ignored
        moving_sums, foreground_sums = Sums(_without_specks(moving)), Sums(_without_specks(foreground))
        is_light = self._known_s > 0 and moving_sums.share > LIGHT_SHARE
        if is_light:
            self._begin(picture, at_ns)
        else:
            self._learn(away, light, size, foreground_sums.mask, moving, gone_s)
        self._before, self._at_ns = picture, at_ns
        return Motion(picture, moving_sums, foreground_sums, is_light, self._noise, self._known_s)

    def _begin(self, picture: Luma, at_ns: int) -> None:
        self._empty, self._before = picture.copy(), picture
        self._spread = np.full(picture.shape, 1.5, np.float32)
        self._standing, self._stood_s = picture, np.zeros_like(picture)
        self._at_ns, self._known_s = at_ns, 0.0

    def _learn(self, away: Luma, light: Luma, size: Luma, foreground: Mask, moving: Mask, gone_s: float) -> None:
        """At the beginning everything is learned fast, so that what left at once leaves no ghost for long."""
        assert self._empty is not None
        quick = np.float32(1.0 - exp(-gone_s / min(EMPTY_S, 1.0 + self._known_s)))
        # Light is followed everywhere at once, also under what stands there.
        follow = np.float32(1.0 - exp(-gone_s / LIGHT_S))
        picture = self._empty + away
        self._empty += follow * light + np.where(foreground, np.float32(0), quick) * (away - light)
        # What stands there hides the empty scene, which is not touched: when it leaves, no ghost stays behind.
        is_same = foreground & (np.abs(picture - self._standing) < SAME_LEVELS)
        self._stood_s = np.where(
            is_same, self._stood_s + np.float32(gone_s), np.maximum(self._stood_s - np.float32(3 * gone_s), 0)
        )
        self._standing = np.where(is_same | (self._stood_s > 0), self._standing, picture)
        belongs = is_same & (self._stood_s > min(STAYS_S, 2.0 + 3.0 * self._known_s))
        if belongs.any():
            self._empty = np.where(belongs, picture, self._empty)
            self._stood_s = np.where(belongs, np.float32(0), self._stood_s)
        # Swaying leaves and flickering lamps: what often differs must differ more. Half the speed, so that somebody who
        # walks through changes little; what stands still teaches nothing.
        wavers = np.where(foreground, np.where(moving, quick / 30, np.float32(0)), quick)
        self._spread += (np.minimum(size, 40.0) - self._spread) * (wavers * np.float32(0.5))
        self._known_s += gone_s


def _middle(values: Luma) -> float:
    """Median of every 16th value; what covers less than half of the picture does not change it."""
    part = values[1::4, 1::4].ravel()
    return float(np.partition(part, part.size // 2)[part.size // 2]) if part.size else 0.0


def _light(difference: Luma, known: Luma) -> Luma:
    """What of a difference is the camera's exposure or a cloud: the median of blocks that were about as bright.

    A white car makes a camera darken everything else, bright things by more levels than dark ones.
    """
    levels, changes = known[1::4, 1::4].ravel(), difference[1::4, 1::4].ravel()
    middle = _middle(difference)
    marks, steps = [], []
    order = np.argsort(levels, kind="stable")
    for part in np.array_split(order, 5):
        if part.size >= 20:
            marks.append(float(np.median(levels[part])))
            steps.append(float(np.median(changes[part])))
    # Where one brightness belongs to one thing, say the road, what covers it would pass for light.
    steps = [min(max(step, middle - abs(middle) - 3.0), middle + abs(middle) + 3.0) for step in steps]
    if not steps or max(abs(step) for step in steps) < 0.5:
        return np.zeros_like(difference)
    table = np.interp(np.arange(256), marks, steps).astype(np.float32)
    return table[np.clip(known, 0, 255).astype(np.uint8)]


def _without_specks(mask: Mask) -> Mask:
    """Set blocks with fewer than three set neighbours are cleared: noise comes alone."""
    wide = np.zeros((mask.shape[0] + 2, mask.shape[1] + 2), np.uint8)
    wide[1:-1, 1:-1] = mask
    rows = wide[:-2] + wide[1:-1] + wide[2:]
    return mask & ((rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) > 3)


# -- shapes ------------------------------------------------------------------------------------------


def zone_mask(zone: Zone, rows: int, columns: int) -> Mask:
    """Blocks whose middle lies in the zone."""
    y, x = np.mgrid[0:rows, 0:columns]
    xs, ys = (x + 0.5) / columns, (y + 0.5) / rows
    inside = np.zeros((rows, columns), np.bool_)
    (x0, y0) = zone.corners[-1]
    for x1, y1 in zone.corners:
        if y1 != y0:
            inside ^= ((y1 > ys) != (y0 > ys)) & (xs < (x0 - x1) * (ys - y1) / (y0 - y1) + x1)
        x0, y0 = x1, y1
    return inside


@dataclass(frozen=True, slots=True)
class Blob:
    """Set blocks that hang together."""

    rect: Rect
    share: float  # of the rect that is set
    area: float  # set blocks, as a share of the picture


def blobs(mask: Mask, *, area_least: float = 0.0012, most: int = 64) -> list[Blob]:
    """Largest first. Blocks hang together when at most one block lies between them."""
    rows, columns = mask.shape
    runs: list[tuple[int, int, int]] = []  # row, first column, end column
    parent: list[int] = []

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    recent: list[list[int]] = [[], []]  # runs of the two rows before
    for row in range(rows):
        line = mask[row]
        current: list[int] = []
        if line.any():
            edges = np.flatnonzero(np.diff(np.concatenate(([0], line.view(np.int8), [0]))))
            for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
                number = len(runs)
                runs.append((row, start, end))
                parent.append(number)
                for other in (*recent[0], *recent[1], *current[-1:]):
                    if runs[other][1] <= end + 1 and start <= runs[other][2] + 1:
                        low, high = sorted((root(other), root(number)))
                        parent[high] = low
                current.append(number)
        recent = [recent[1], current]
    groups: dict[int, list[int]] = {}
    for number in range(len(runs)):
        groups.setdefault(root(number), []).append(number)
    found: list[Blob] = []
    for members in groups.values():
        count = sum(runs[number][2] - runs[number][1] for number in members)
        if count < area_least * mask.size:
            continue
        left, right = min(runs[n][1] for n in members), max(runs[n][2] for n in members)
        top, bottom = runs[members[0]][0], runs[members[-1]][0] + 1
        rect = Rect(left / columns, top / rows, right / columns, bottom / rows)
        found.append(Blob(rect, count / ((right - left) * (bottom - top)), count / mask.size))
    found.sort(key=lambda blob: (-blob.area, blob.rect.left, blob.rect.top))
    return found[:most]
