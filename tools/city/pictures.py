"""Pictures of the story, drawn: a street, a service hall, a square. Flat shapes with light and grain, unmistakably drawn.

One picture takes some milliseconds, so they are made when they are wanted. Same scene, same second: same picture.
"""

from __future__ import annotations

import functools
import math
from fractions import Fraction
from typing import Any

import av
import numpy as np

from tools.city.city import Place
from tools.city.day import Scene, chance

WIDTH, HEIGHT = 480, 270
QUALITY = "5"  # some 14 kB: 37 of them every ten seconds are 0.4 Mbit/s

Canvas = np.ndarray  # (height, width, 3) float32, 0..255


def jpeg(picture: Canvas) -> bytes:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.clip(picture, 0, 255).astype(np.uint8)), format="rgb24")
    context: Any = av.CodecContext.create("mjpeg", "w")
    context.width, context.height, context.pix_fmt = frame.width, frame.height, "yuvj420p"
    context.time_base = Fraction(1, 25)
    context.thread_count = 1
    context.options = {"qmin": QUALITY, "qmax": QUALITY}
    frame = frame.reformat(format="yuvj420p", dst_colorspace="ITU601", dst_color_range="JPEG")
    frame.pts = 0
    return b"".join(bytes(packet) for packet in (*context.encode(frame), *context.encode(None)))


def still(place: Place, camera: str, seen: Scene, story_s: float) -> bytes:
    """The JPEG that this camera would send at this moment."""
    return jpeg(picture(place, camera, seen, story_s))


def picture(place: Place, camera: str, seen: Scene, story_s: float, *, noise: float = 2.2) -> Canvas:
    """`noise`: grain of the sensor, grey levels; it costs an encoder more than the picture does."""
    if seen.fault == "covered":
        return _grain(np.full((HEIGHT, WIDTH, 3), (26.0, 23.0, 21.0), np.float32) + _blob(), story_s, 3)
    draw = {"traffic": _street, "public-space": _square}.get(place.kind, _hall)
    canvas = draw(place, camera, seen, story_s)
    if seen.light < 1:
        canvas = canvas * np.array((0.28, 0.32, 0.42), np.float32) * (0.4 + seen.light)
        if place.kind != "traffic" and not seen.shut and place.kind != "public-space":
            canvas = canvas * 2.6  # inside, lamps are on
        elif place.kind == "traffic":
            _lamps(canvas)
    return _grain(canvas, story_s, noise if seen.light == 1 else 2 * noise)


# -- shapes ----------------------------------------------------------------------------------------------------------


def _polygon(canvas: Canvas, points: list[tuple[float, float]], colour: tuple[float, float, float]) -> None:
    """A convex polygon, clockwise on the screen, with soft edges."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    left, right = max(0, math.floor(min(xs)) - 1), min(canvas.shape[1], math.ceil(max(xs)) + 2)
    top, bottom = max(0, math.floor(min(ys)) - 1), min(canvas.shape[0], math.ceil(max(ys)) + 2)
    if left >= right or top >= bottom:
        return
    grid_y, grid_x = np.mgrid[top:bottom, left:right].astype(np.float32) + 0.5
    cover = np.ones_like(grid_x)
    for (ax, ay), (bx, by) in zip(points, points[1:] + points[:1], strict=True):
        length = math.hypot(bx - ax, by - ay) or 1.0
        cover = np.minimum(cover, np.clip(((bx - ax) * (grid_y - ay) - (by - ay) * (grid_x - ax)) / length + 0.5, 0, 1))
    part = canvas[top:bottom, left:right]
    part += cover[..., None] * (np.array(colour, np.float32) - part)


def _rect(
    canvas: Canvas, left: float, top: float, right: float, bottom: float, colour: tuple[float, float, float]
) -> None:
    _polygon(canvas, [(left, top), (right, top), (right, bottom), (left, bottom)], colour)


def _disc(
    canvas: Canvas, x: float, y: float, rx: float, ry: float, colour: tuple[float, float, float], strength: float = 1.0
) -> None:
    left, right = max(0, math.floor(x - rx) - 1), min(canvas.shape[1], math.ceil(x + rx) + 2)
    top, bottom = max(0, math.floor(y - ry) - 1), min(canvas.shape[0], math.ceil(y + ry) + 2)
    if left >= right or top >= bottom:
        return
    grid_y, grid_x = np.mgrid[top:bottom, left:right].astype(np.float32) + 0.5
    far = np.sqrt(((grid_x - x) / rx) ** 2 + ((grid_y - y) / ry) ** 2)
    cover = np.clip((1 - far) * min(rx, ry) + 0.5, 0, 1) * strength
    part = canvas[top:bottom, left:right]
    part += cover[..., None] * (np.array(colour, np.float32) - part)


@functools.cache
def _blob() -> Canvas:
    canvas = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    _disc(canvas, WIDTH * 0.7, HEIGHT * 0.2, 150, 110, (30, 24, 18), 0.8)
    return canvas


def _grain(canvas: Canvas, story_s: float, noise: float) -> Canvas:
    bank = _noise()
    offset = int(chance("grain", round(story_s, 1)) * 4000)
    return canvas + noise * bank[offset % 200 : offset % 200 + HEIGHT, offset % 190 : offset % 190 + WIDTH]


@functools.cache
def _noise() -> np.ndarray:
    return np.random.default_rng(7).normal(0, 1, (HEIGHT + 200, WIDTH + 200, 1)).astype(np.float32)


@functools.cache
def _glow() -> Canvas:
    grid_y, grid_x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    light = np.zeros((HEIGHT, WIDTH), np.float32)
    for x, y, size in ((70, 66, 60), (410, 60, 60), (150, 92, 34), (330, 90, 34)):
        light += np.exp(-(((grid_x - x) / size) ** 2 + ((grid_y - y - size * 0.5) / (size * 1.2)) ** 2))
        light += 2.4 * np.exp(-(((grid_x - x) / 5) ** 2 + ((grid_y - y) / 4) ** 2))
    return (light[..., None] * np.array((120, 96, 58), np.float32)).astype(np.float32)


def _lamps(canvas: Canvas) -> None:
    canvas += _glow()


def _sky(canvas: Canvas, horizon: int) -> None:
    for row in range(horizon):
        share = row / max(1, horizon)
        canvas[row] = (128 + 84 * share, 176 + 44 * share, 214 + 22 * share)


def _tree(canvas: Canvas, x: float, y: float, size: float, shade: float) -> None:
    _polygon(
        canvas,
        [
            (x - 1.5 * size / 20, y),
            (x - 0.8 * size / 20, y - size),
            (x + 0.8 * size / 20, y - size),
            (x + 2 * size / 20, y),
        ],
        (96 * shade, 78 * shade, 60 * shade),
    )
    for turn in range(7):
        angle = math.pi * (0.05 + 0.9 * turn / 6)
        tip = (
            x - math.cos(angle) * size * 0.62,
            y - size - math.sin(angle) * size * 0.28 + abs(math.cos(angle)) * size * 0.22,
        )
        _polygon(
            canvas,
            sorted_clockwise([(x, y - size - 2), (tip[0], tip[1]), (x, y - size + size * 0.12)]),
            (58 * shade, 104 * shade, 62 * shade),
        )


def sorted_clockwise(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    middle = (sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points))
    return sorted(points, key=lambda each: math.atan2(each[1] - middle[1], each[0] - middle[0]))


def _person(canvas: Canvas, x: float, y: float, tall: float, seed: object, *, sits: bool = False) -> None:
    skin = 96 + 60 * chance(seed, "skin")
    hue = chance(seed, "shirt")
    shirt = (
        (190, 66, 58),
        (66, 112, 164),
        (222, 196, 120),
        (84, 140, 96),
        (230, 228, 222),
        (116, 84, 140),
        (52, 58, 72),
    )[int(hue * 7) % 7]
    _disc(canvas, x, y + 1, tall * 0.24, tall * 0.06, (40, 38, 36), 0.45)
    legs = tall * (0.22 if sits else 0.45)
    _rect(canvas, x - tall * 0.1, y - legs, x - tall * 0.01, y, (52, 54, 66))
    _rect(canvas, x + tall * 0.01, y - legs, x + tall * 0.1, y, (46, 48, 60))
    _polygon(
        canvas,
        [
            (x - tall * 0.14, y - legs - tall * 0.36),
            (x + tall * 0.14, y - legs - tall * 0.36),
            (x + tall * 0.12, y - legs + 2),
            (x - tall * 0.12, y - legs + 2),
        ],
        shirt,
    )
    _disc(canvas, x, y - legs - tall * 0.45, tall * 0.085, tall * 0.105, (skin, skin * 0.74, skin * 0.58))
    _disc(canvas, x, y - legs - tall * 0.5, tall * 0.088, tall * 0.07, (34, 28, 26))


# -- a street ---------------------------------------------------------------------------------------------------------


@functools.cache
def _empty_street(name: str) -> Canvas:
    canvas = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    horizon = 78 + int(22 * chance(name, "horizon"))
    _sky(canvas, horizon)
    for turn in range(9):  # the hills of Leitimor
        x = WIDTH * (turn - 0.5) / 8
        _disc(canvas, x, horizon + 12, 66, 22 + 26 * chance(name, "hill", turn), (104, 132, 118))
    canvas[horizon:] = (148, 146, 138)
    _rect(canvas, 0, horizon, WIDTH, horizon + 4, (120, 138, 116))
    for side in (-1, 1):
        for number in range(6):
            far = number / 6
            left = WIDTH / 2 + side * (300 - 215 * far) * (0.72 + 0.1 * chance(name, side, number))
            wide, tall = 78 * (1 - far) + 12, (96 * chance(name, "house", side, number) + 42) * (1 - far) + 14
            base = horizon + 62 * (1 - far) ** 1.4
            tone = 150 + 80 * chance(name, "wall", side, number)
            wall = (tone, tone * (0.86 + 0.12 * chance(name, "tint", number)), tone * 0.8)
            _rect(canvas, left - wide / 2, base - tall, left + wide / 2, base, wall)
            _polygon(
                canvas,
                [
                    (left - wide / 2 - 3, base - tall),
                    (left - wide / 4, base - tall - 12 * (1 - far) - 3),
                    (left + wide / 4, base - tall - 12 * (1 - far) - 3),
                    (left + wide / 2 + 3, base - tall),
                ],
                (142, 74, 58) if chance(name, "roof", number) < 0.6 else (110, 112, 116),
            )
            for window in range(3):
                x = left - wide / 2 + wide * (0.16 + 0.28 * window)
                _rect(canvas, x, base - tall * 0.72, x + wide * 0.15, base - tall * 0.4, (66, 78, 88))
    vanish = WIDTH * (0.44 + 0.12 * chance(name, "vanish"))
    _polygon(
        canvas,
        [(vanish - 16, horizon + 2), (vanish + 16, horizon + 2), (WIDTH * 1.12, HEIGHT), (-WIDTH * 0.12, HEIGHT)],
        (86, 88, 92),
    )
    for edge in (-1, 1):
        _polygon(
            canvas,
            sorted_clockwise(
                [
                    (vanish + edge * 15, horizon + 2),
                    (vanish + edge * 16.5, horizon + 2),
                    (WIDTH / 2 + edge * WIDTH * 0.6, HEIGHT),
                    (WIDTH / 2 + edge * WIDTH * 0.57, HEIGHT),
                ]
            ),
            (208, 206, 196),
        )
    for number in range(7):
        near, far = _depth(number / 7), _depth((number + 0.45) / 7)
        y0, y1 = horizon + 2 + (HEIGHT - horizon) * near, horizon + 2 + (HEIGHT - horizon) * far
        x0, x1 = vanish + (WIDTH / 2 - vanish) * near, vanish + (WIDTH / 2 - vanish) * far
        _polygon(
            canvas,
            sorted_clockwise(
                [
                    (x0 - 0.4 - 4 * near, y0),
                    (x0 + 0.4 + 4 * near, y0),
                    (x1 + 0.4 + 4 * far, y1),
                    (x1 - 0.4 - 4 * far, y1),
                ]
            ),
            (226, 222, 204),
        )
    _tree(canvas, WIDTH * (0.06 + 0.06 * chance(name, "tree")), horizon + 92, 96, 1.0)
    _tree(canvas, WIDTH * (0.88 + 0.08 * chance(name, "tree2")), horizon + 74, 80, 0.92)
    return canvas


def _depth(share: float) -> float:
    """0 far, 1 near, as a picture shortens it."""
    return share**2.1


def _street(place: Place, camera: str, seen: Scene, story_s: float) -> Canvas:
    canvas = _empty_street(camera).copy()
    horizon = 78 + int(22 * chance(camera, "horizon"))
    vanish = WIDTH * (0.44 + 0.12 * chance(camera, "vanish"))
    count = round(2 + 24 * seen.vehicles)
    speed = 0.11 * max(0.0, 1 - seen.vehicles * 1.25) ** 1.2
    lanes = (-0.74, -0.28, 0.26, 0.72)
    drawn = []
    for number in range(count):
        lane = lanes[number % 4]
        way = 1 if lane > 0 else -1
        place_in = (number // 4 + 0.35 * chance(camera, "gap", number)) / max(1, math.ceil(count / 4))
        drawn.append(
            (
                (place_in + way * speed * story_s * (0.85 + 0.3 * chance(camera, "pace", number))) % 1.0,
                lane,
                number,
                False,
            )
        )
    if seen.standing:
        drawn.append((0.74, 0.26, 999, True))
    for share, lane, number, stands in sorted(drawn):
        near = _depth(0.16 + 0.84 * share)
        y = horizon + 4 + (HEIGHT - horizon - 6) * near
        half = 15 + (WIDTH * 0.56) * near
        x = vanish + (WIDTH / 2 - vanish) * near + lane * half
        _vehicle(canvas, x, y, half * 0.36, number, camera, stands=stands)
    return canvas


def _vehicle(canvas: Canvas, x: float, y: float, size: float, number: int, camera: str, *, stands: bool) -> None:
    kind = chance(camera, "kind", number)
    if stands or kind > 0.48:
        wide, tall = (size, size * 0.78) if kind < 0.88 or stands else (size * 1.16, size * 1.35)
        tone = ((206, 208, 210), (62, 68, 78), (168, 52, 46), (60, 92, 140), (222, 196, 74), (120, 126, 130))[
            int(chance(camera, "paint", number) * 6) % 6
        ]
        _disc(canvas, x, y, wide * 0.62, wide * 0.12, (44, 44, 46), 0.7)
        _polygon(
            canvas,
            [
                (x - wide * 0.36, y - tall),
                (x + wide * 0.36, y - tall),
                (x + wide * 0.46, y - tall * 0.52),
                (x - wide * 0.46, y - tall * 0.52),
            ],
            tuple(each * 0.86 for each in tone),
        )
        _polygon(
            canvas,
            [
                (x - wide * 0.31, y - tall * 0.93),
                (x + wide * 0.31, y - tall * 0.93),
                (x + wide * 0.38, y - tall * 0.56),
                (x - wide * 0.38, y - tall * 0.56),
            ],
            (48, 60, 70),
        )
        _rect(canvas, x - wide * 0.48, y - tall * 0.54, x + wide * 0.48, y - tall * 0.12, tone)
        for side in (-1, 1):
            _rect(
                canvas,
                x + side * wide * 0.36 - wide * 0.07,
                y - tall * 0.14,
                x + side * wide * 0.36 + wide * 0.07,
                y + 1,
                (26, 26, 28),
            )
            lamp = (250, 160, 40) if stands else (238, 226, 190)
            _disc(canvas, x + side * wide * 0.38, y - tall * 0.36, wide * 0.07, wide * 0.05, lamp)
    else:
        tall = size * 0.95
        _disc(canvas, x, y, size * 0.2, size * 0.06, (44, 44, 46), 0.7)
        _rect(canvas, x - size * 0.07, y - tall * 0.46, x + size * 0.07, y, (34, 34, 38))
        _person(canvas, x, y - tall * 0.2, tall * 0.8, (camera, number), sits=True)


# -- a service hall ----------------------------------------------------------------------------------------------------


@functools.cache
def _empty_hall(name: str) -> Canvas:
    canvas = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    tint = chance(name, "tint")
    wall = (214 - 22 * tint, 216 - 6 * tint, 204 + 8 * tint)
    canvas[:150] = wall
    for row in range(150, HEIGHT):
        share = (row - 150) / (HEIGHT - 150)
        canvas[row] = (168 + 26 * share, 160 + 24 * share, 148 + 22 * share)
    for number in range(-8, 9):
        _polygon(
            canvas,
            sorted_clockwise(
                [
                    (WIDTH / 2 + number * 26, 150),
                    (WIDTH / 2 + number * 26 + 1, 150),
                    (WIDTH / 2 + number * 92 + 2, HEIGHT),
                    (WIDTH / 2 + number * 92, HEIGHT),
                ]
            ),
            (150, 144, 134),
        )
    _rect(canvas, 0, 146, WIDTH, 150, (120, 116, 110))
    _rect(canvas, 36, 26, 128, 92, (126, 172, 198))
    _rect(canvas, 80, 26, 84, 92, (230, 230, 226))
    _rect(canvas, 36, 56, 128, 59, (230, 230, 226))
    _rect(canvas, 206, 18, 300, 44, (34, 96, 84))  # a board above the counter
    _rect(canvas, 214, 27, 270, 30, (226, 232, 224))
    _rect(canvas, 214, 34, 252, 36, (188, 208, 200))
    _disc(canvas, 346, 32, 12, 12, (240, 240, 236))
    _rect(canvas, 345, 24, 347, 33, (40, 40, 40))
    _rect(canvas, 345, 31, 352, 33, (40, 40, 40))
    return canvas


def _hall(place: Place, camera: str, seen: Scene, story_s: float) -> Canvas:
    canvas = _empty_hall(camera).copy()
    for number in range(seen.staff):
        sway = 3 * math.sin(story_s / 7 + number * 2)
        _person(canvas, 216 + number * 74 + sway, 142, 74, (camera, "staff", number))
    _rect(canvas, 176, 104, 334, 112, (150, 104, 66))
    _rect(canvas, 180, 112, 330, 160, (124, 82, 52))
    if seen.shut:
        for row in range(50, 104, 7):
            _rect(canvas, 178, row, 332, row + 6, (150, 154, 158) if (row // 7) % 2 else (136, 140, 146))
        _rect(canvas, 178, 100, 332, 106, (96, 100, 104))
        canvas *= 0.62
    if seen.staff:
        across = (story_s * 26 + 300 * chance(camera, "walker")) % (WIDTH * 1.5) - 60
        _person(canvas, across, 182, 78, (camera, "walker", int(story_s / 30)))
    for row, (y, many, tall) in enumerate(((196, 8, 66), (242, 6, 92))):
        step = WIDTH / (many + 0.6)
        for number in range(many):
            x = step * (number + 0.8)
            _rect(
                canvas,
                x - tall * 0.2,
                y - tall * 0.42,
                x + tall * 0.2,
                y - tall * 0.08,
                (58, 104, 140) if not seen.shut else (40, 66, 88),
            )
            _rect(
                canvas,
                x - tall * 0.2,
                y - tall * 0.1,
                x + tall * 0.2,
                y - tall * 0.02,
                (46, 84, 116) if not seen.shut else (32, 54, 74),
            )
        order = sorted(range(many), key=lambda each: chance(camera, "seat", row, each))
        sitting = [each for each in range(seen.people) if each % 2 == row]
        for index, each in enumerate(sitting[:many]):
            x = step * (order[index] + 0.8)
            _person(canvas, x, y, tall * 1.02, (camera, "guest", each, int(story_s / 90)), sits=True)
    return canvas


# -- a square ----------------------------------------------------------------------------------------------------------


@functools.cache
def _empty_square(name: str) -> Canvas:
    canvas = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    _sky(canvas, 84)
    _rect(canvas, 0, 66, WIDTH, 88, (96, 150, 176))  # the bay
    for turn in range(7):
        _disc(canvas, WIDTH * turn / 6, 70, 70, 12 + 16 * chance(name, "hill", turn), (100, 128, 118))
    _rect(canvas, 0, 78, WIDTH, 90, (104, 158, 182))
    for row in range(88, HEIGHT):
        share = (row - 88) / (HEIGHT - 88)
        canvas[row] = (176 + 20 * share, 168 + 18 * share, 146 + 18 * share)
    _polygon(canvas, [(0, 88), (WIDTH * 0.34, 88), (WIDTH * 0.1, HEIGHT), (0, HEIGHT)], (120, 152, 92))
    for number in range(-6, 7):
        _polygon(
            canvas,
            sorted_clockwise(
                [
                    (WIDTH * 0.6 + number * 30, 90),
                    (WIDTH * 0.6 + number * 30 + 1, 90),
                    (WIDTH * 0.6 + number * 120 + 2, HEIGHT),
                    (WIDTH * 0.6 + number * 120, HEIGHT),
                ]
            ),
            (164, 156, 136),
        )
    _rect(canvas, 330, 66, 352, 120, (196, 190, 178))
    _polygon(canvas, [(326, 66), (341, 40), (356, 66)], (176, 64, 50))
    for number, x in enumerate((34, 84, 438)):
        _tree(canvas, x, 128 + 22 * chance(name, "tree", number), 84 + 20 * chance(name, "size", number), 1.0)
    return canvas


def _square(place: Place, camera: str, seen: Scene, story_s: float) -> Canvas:
    canvas = _empty_square(camera).copy()
    drawn = []
    for number in range(seen.people):
        near = 0.12 + 0.88 * chance(camera, "near", number)
        walk = 46 * (chance(camera, "pace", number) - 0.5) * (story_s % 60) / 10
        x = (WIDTH * chance(camera, "x", number) + walk) % WIDTH
        if seen.people >= 20:
            x = WIDTH * (0.3 + 0.5 * chance(camera, "x", number)) + 4 * math.sin(story_s / 5 + number)
        drawn.append((near, x, number))
    for near, x, number in sorted(drawn):
        _person(canvas, x, 100 + 160 * near, 26 + 62 * near, (camera, number))
    return canvas
