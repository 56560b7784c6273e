"""Pictures of simulated scenes: 8-bit luma, because that is what motion and tamper look at.

Blocks are drawn far to near with a lit top, a darker front and a shadow, on a ground with fixed grain; lamps at night. Noise is
fresh in every frame, as from a sensor, taken from a bank of made ones at a random place: drawing a million numbers a
frame would cost more than everything else. `film.py` adds grey chroma where a file is wanted.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tools.scenes import waiting
from tools.scenes.road import FAR_M, LANE_M, NEAR_M, Vehicle
from tools.scenes.view import View

Frame = np.ndarray  # (height, width) uint8


@dataclass(frozen=True, slots=True)
class Light:
    """How a scene is lit and how noisy the sensor is."""

    level: float = 1.0  # 1 is day, 0.28 a lamp-lit night
    noise: float = 2.0  # standard deviation, grey levels
    lamps: bool = False  # headlights are on
    rain: int = 0  # streaks per frame
    cloud: float = 0.0  # -0.3 to 0.3: what passing clouds add to the level


DAY = Light()
NIGHT = Light(level=0.28, noise=5.0, lamps=True)
RAIN = Light(level=0.75, noise=3.0, rain=220, lamps=True)


@functools.cache
def _grain(width: int, height: int, seed: int) -> np.ndarray:
    """Fixed structure of surfaces: fine grain and soft patches, mean 0."""
    chance = np.random.default_rng(seed)
    fine = chance.normal(0, 4, (height, width))
    coarse = np.kron(chance.normal(0, 9, (height // 20 + 1, width // 20 + 1)), np.ones((20, 20)))[:height, :width]
    return (fine + coarse).astype(np.float32)


@functools.cache
def _noise_bank(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(99).normal(0, 1, (height * 2, width * 2)).astype(np.float32)


@functools.cache
def street_ground(view: View, width: int, height: int) -> np.ndarray:
    """An empty street by day: sky, houses, pavement, lanes with their marks."""
    rows, columns = np.mgrid[0:height, 0:width]
    picture = np.full((height, width), 120.0, np.float32)  # pavement and grass
    for z_m, edge in ((NEAR_M - 6, FAR_M + 60),):
        fill_quad(picture, view, (-LANE_M * 1.05, LANE_M * 1.05), (z_m, edge), 84.0)
        for number in range(int(z_m), int(edge), 6):
            fill_quad(picture, view, (-0.08, 0.08), (number, number + 2.5), 190.0)
        for x_m in (-LANE_M * 1.02, LANE_M * 1.02):
            fill_quad(picture, view, (x_m - 0.07, x_m + 0.07), (z_m, edge), 175.0)
    horizon = view.project(np.array([0.0, 0.0, 115.0]))[0][1] * height
    picture[rows < horizon] = 175.0
    chance = np.random.default_rng(5)
    for side in (0, 1):
        for number in range(6):
            left = (number * 0.075 if side == 0 else 0.58 + number * 0.075) * width
            top = (0.04 + chance.uniform(0, 0.1)) * height
            house = (columns >= left) & (columns < left + 0.07 * width) & (rows > top) & (rows < horizon + 6)
            picture[house] = chance.uniform(70, 150)
            windows = house & ((columns // max(3, width // 90)) % 3 == 0) & ((rows // max(3, height // 60)) % 3 == 0)
            picture[windows] = 45.0
    return picture + _grain(width, height, 1)


@functools.cache
def room_ground(width: int, height: int) -> np.ndarray:
    """An empty waiting room: wall, tiled floor, a counter at the right, a notice on the wall."""
    rows, columns = np.mgrid[0:height, 0:width]
    picture = np.where(rows < 0.32 * height, 165.0, 112.0).astype(np.float32)
    picture[
        (rows > 0.32 * height) & (((rows // max(4, height // 24)) + (columns // max(4, width // 30))) % 2 == 0)
    ] += 9
    picture[(rows > 0.4 * height) & (rows < 0.75 * height) & (columns > 0.93 * width)] = 70.0
    picture[(rows > 0.08 * height) & (rows < 0.24 * height) & (columns > 0.3 * width) & (columns < 0.42 * width)] = (
        225.0
    )
    return picture + _grain(width, height, 2)


def fill_quad(
    picture: np.ndarray, view: View, across_m: tuple[float, float], ahead_m: tuple[float, float], value: float,
    *, above_m: float = 0.0, blend: float = 1.0,
) -> None:  # fmt: skip
    """A level rectangle of the world: its near and far edges are rows of the picture, so rows fill it."""
    height, width = picture.shape
    near_left, near_right, far_left, far_right = (
        view.project(np.array([x_m, above_m, z_m]))[0] for z_m in ahead_m for x_m in across_m
    )
    top, bottom = far_left[1] * height, near_left[1] * height
    first, last = max(0, math.floor(top)), min(height, math.ceil(bottom))
    for row in range(first, last):
        share = min(1.0, max(0.0, (row + 0.5 - top) / max(bottom - top, 1e-6)))
        left = (far_left[0] + (near_left[0] - far_left[0]) * share) * width
        right = (far_right[0] + (near_right[0] - far_right[0]) * share) * width
        start, end = max(0, round(left)), min(width, round(right))
        if start < end:
            stretch = picture[row, start:end]
            picture[row, start:end] = value if blend == 1.0 else stretch * (1 - blend) + value * blend


def _fill(picture: np.ndarray, left: float, top: float, right: float, bottom: float, value: float) -> None:
    """A rect in fractions, upright in the picture."""
    height, width = picture.shape
    rows = slice(max(0, round(top * height)), max(0, round(bottom * height)))
    picture[rows, max(0, round(left * width)) : max(0, round(right * width))] = value


def _glow(picture: np.ndarray, x: float, y: float, radius: float, strength: float) -> None:
    """A soft light at a place in the picture; `radius` as a fraction of the width."""
    height, width = picture.shape
    size = max(2, round(radius * width))
    left, top = round(x * width) - size, round(y * height) - size
    rows = slice(max(0, top), max(0, min(height, top + 2 * size + 1)))
    columns = slice(max(0, left), max(0, min(width, left + 2 * size + 1)))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    spot = _spot(size)[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    picture[rows, columns] += strength * spot


@functools.cache
def _spot(size: int) -> np.ndarray:
    axis = np.arange(-size, size + 1) / size
    return np.clip(1 - np.hypot(axis[:, None], axis[None, :]), 0, 1).astype(np.float32) ** 2


def street(vehicles: Sequence[Vehicle], light: Light, view: View, width: int, height: int) -> np.ndarray:
    """A street as the sensor gets it, before noise: float grey levels."""
    picture = street_ground(view, width, height) * (light.level * (1 + light.cloud))
    lamps: list[tuple[float, float, float]] = []
    for vehicle in sorted(vehicles, key=lambda each: -each.z_m):
        wide, high, long = vehicle.size_m
        x_m, near_m, far_m = vehicle.x_m, vehicle.z_m - long / 2, vehicle.z_m + long / 2
        if near_m < view.nearest_m:
            continue
        shade = vehicle.shade * light.level * (1 + light.cloud)
        edges = (x_m - wide / 2, x_m + wide / 2)
        fill_quad(picture, view, (edges[0] - 0.2, edges[1] + 0.5), (near_m - 0.3, far_m), 40.0 * light.level, blend=0.6)
        if vehicle.kind == "two-wheeler":
            body = view.rects(np.array([[x_m, vehicle.z_m]]), np.array([[wide, high, 0.4]]))[0]
            middle = (body[1] + body[3]) / 2
            _fill(
                picture,
                body[0] + (body[2] - body[0]) * 0.2,
                body[1],
                body[2] - (body[2] - body[0]) * 0.2,
                middle,
                shade,
            )
            _fill(
                picture,
                body[0] + (body[2] - body[0]) * 0.3,
                middle,
                body[2] - (body[2] - body[0]) * 0.3,
                body[3],
                30 * light.level,
            )
        else:
            fill_quad(picture, view, edges, (near_m, far_m), shade * 1.1 + 6, above_m=high)
            front = view.rects(np.array([[x_m, near_m]]), np.array([[wide, high, 0.02]]))[0]
            _fill(picture, *front, shade * 0.75)
            glass = front[1] + (front[3] - front[1]) * 0.4
            _fill(
                picture,
                front[0] + 0.1 * (front[2] - front[0]),
                front[1] + 0.08 * (front[3] - front[1]),
                front[2] - 0.1 * (front[2] - front[0]),
                glass,
                45 * light.level,
            )
            _fill(picture, front[0], front[3] - 0.15 * (front[3] - front[1]), front[2], front[3], 25 * light.level)
        if light.lamps:
            sides = (0.0,) if vehicle.kind == "two-wheeler" else (-wide * 0.38, wide * 0.38)
            for side in sides:
                (place, ahead) = view.project(np.array([x_m + side, 0.7, near_m]))
                lamps.append((float(place[0]), float(place[1]), 0.9 / float(ahead)))
    for x, y, radius in lamps:
        _glow(picture, x, y, radius, 230.0)
        _glow(picture, x, y + 2.2 * radius, radius * 2.5, 45.0)  # the light on the road
    return picture


def room(people: Sequence[waiting.Stander], light: Light, width: int, height: int) -> np.ndarray:
    """The waiting room with people, before noise."""
    picture = room_ground(width, height) * (light.level * (1 + light.cloud))
    ordered = sorted(people, key=lambda each: -each.z_m)
    for each, rect in zip(ordered, waiting.rects(ordered), strict=True):
        left, top, right, bottom = rect
        wide, high = right - left, bottom - top
        shade = each.shade * light.level
        _fill(picture, left + 0.25 * wide, top + 0.5 * high, right - 0.25 * wide, bottom, 40 * light.level)
        _fill(picture, left + 0.1 * wide, top + 0.16 * high, right - 0.1 * wide, top + 0.55 * high, shade)
        _fill(picture, left + 0.33 * wide, top, right - 0.33 * wide, top + 0.15 * high, 150 * light.level)
    return picture


def rain(picture: np.ndarray, light: Light, chance: np.random.Generator) -> None:
    """Streaks before the scene, and behind whatever covers the lens."""
    height, width = picture.shape
    for x, y, length in zip(
        chance.integers(0, width, light.rain),
        chance.integers(0, height, light.rain),
        chance.integers(4, 14, light.rain),
        strict=True,
    ):
        picture[y : y + length, x] += 28.0


def expose(picture: np.ndarray, light: Light, chance: np.random.Generator) -> Frame:
    """What the sensor makes of it: noise, 8 bits."""
    height, width = picture.shape
    row, column = chance.integers(0, height), chance.integers(0, width)
    noisy = picture + light.noise * _noise_bank(width, height)[row : row + height, column : column + width]
    return np.clip(noisy, 0, 255).astype(np.uint8)
