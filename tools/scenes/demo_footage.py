"""Four short drawn films for the demo, for machines where no real footage is at hand.

`python -m tools.scenes.demo_footage FOLDER` writes gate.mp4, street.mp4, square.mp4 and clinic.mp4: H.264,
25 pictures a second, a keyframe every second, with the camera's name and a running clock burned in. The same
call writes the same pictures on every machine; nothing is downloaded. Needs PyAV and numpy (extra `dev`).
"""

from __future__ import annotations

import argparse
import functools
import math
import pathlib
from collections.abc import Callable
from dataclasses import dataclass

import av
import numpy as np

FPS = 25
LENGTH_S = 20

# 5 x 7 dots a letter, one number for each row, the leftmost dot is the highest of five bits.
_FONT = {
    "0": (14, 17, 19, 21, 25, 17, 14), "1": (4, 12, 4, 4, 4, 4, 14), "2": (14, 17, 1, 2, 4, 8, 31), "3": (31, 2, 4, 2, 1, 17, 14),
    "4": (2, 6, 10, 18, 31, 2, 2), "5": (31, 16, 30, 1, 1, 17, 14), "6": (6, 8, 16, 30, 17, 17, 14), "7": (31, 1, 2, 4, 8, 8, 8),
    "8": (14, 17, 17, 14, 17, 17, 14), "9": (14, 17, 17, 15, 1, 2, 12), ":": (0, 4, 4, 0, 4, 4, 0), ".": (0, 0, 0, 0, 0, 4, 4),
    "A": (14, 17, 17, 31, 17, 17, 17), "C": (14, 17, 16, 16, 16, 17, 14), "E": (31, 16, 16, 30, 16, 16, 31), "G": (14, 17, 16, 23, 17, 17, 15),
    "I": (14, 4, 4, 4, 4, 4, 14), "L": (16, 16, 16, 16, 16, 16, 31), "N": (17, 25, 21, 19, 17, 17, 17), "Q": (14, 17, 17, 17, 21, 18, 13),
    "R": (30, 17, 17, 30, 20, 18, 17), "S": (15, 16, 16, 14, 1, 1, 30), "T": (31, 4, 4, 4, 4, 4, 4), "U": (17, 17, 17, 17, 17, 17, 14),
    " ": (0, 0, 0, 0, 0, 0, 0),
}  # fmt: skip

Color = tuple[int, int, int]  # Y, Cb, Cr


@dataclass(frozen=True, slots=True)
class Canvas:
    """One frame as three planes (4:2:0); every drawing call takes fractions of width and height."""

    y: np.ndarray
    cb: np.ndarray
    cr: np.ndarray

    @classmethod
    def blank(cls, width: int, height: int) -> Canvas:
        planes = ((height, width), (height // 2, width // 2), (height // 2, width // 2))
        return cls(*(np.zeros(shape, np.uint8) for shape in planes))

    def copy(self) -> Canvas:
        return Canvas(self.y.copy(), self.cb.copy(), self.cr.copy())

    def rect(self, left: float, top: float, right: float, bottom: float, color: Color) -> None:
        for plane, value in zip((self.y, self.cb, self.cr), color, strict=True):
            height, width = plane.shape
            rows = slice(max(0, round(top * height)), max(0, round(bottom * height)))
            plane[rows, max(0, round(left * width)) : max(0, round(right * width))] = value

    def text(self, left: float, top: float, text: str) -> None:
        """White letters on a black bar, large enough to be read on a tile of a wall."""
        height, width = self.y.shape
        dot = max(2, height // 180)
        x, y = round(left * width), round(top * height)
        self.rect(
            left - 0.006, top - 0.012, left + (len(text) * 6 * dot) / width, top + 8 * dot / height, (16, 128, 128)
        )
        for number, letter in enumerate(text):
            bits = np.array([[row >> (4 - column) & 1 for column in range(5)] for row in _FONT[letter]], bool)
            area = self.y[y : y + 7 * dot, x + number * 6 * dot : x + number * 6 * dot + 5 * dot]
            area[np.kron(bits, np.ones((dot, dot), bool))[: area.shape[0], : area.shape[1]]] = 235


def _person(canvas: Canvas, x: float, feet: float, size: float, color: Color, step: float) -> None:
    swing = 0.012 * size * math.sin(step)
    canvas.rect(x - 0.02 * size + swing, feet - 0.16 * size, x - 0.004 * size + swing, feet, (50, 120, 132))
    canvas.rect(x + 0.004 * size - swing, feet - 0.16 * size, x + 0.02 * size - swing, feet, (50, 120, 132))
    canvas.rect(x - 0.028 * size, feet - 0.34 * size, x + 0.028 * size, feet - 0.15 * size, color)
    canvas.rect(x - 0.014 * size, feet - 0.42 * size, x + 0.014 * size, feet - 0.345 * size, (150, 112, 150))


def _car(canvas: Canvas, x: float, bottom: float, color: Color) -> None:
    canvas.rect(x - 0.09, bottom - 0.1, x + 0.09, bottom - 0.03, color)
    canvas.rect(x - 0.05, bottom - 0.16, x + 0.05, bottom - 0.1, (70, 138, 120))
    for wheel in (-0.055, 0.055):
        canvas.rect(x + wheel - 0.018, bottom - 0.045, x + wheel + 0.018, bottom, (25, 128, 128))


def _gate(canvas: Canvas, at_s: float) -> None:
    """Somebody walks up, the gate slides open and shuts behind them."""
    opened = min(1.0, max(0.0, at_s - 6)) - min(1.0, max(0.0, at_s - 13))
    canvas.rect(0.62 + 0.2 * opened, 0.3, 0.82 + 0.14 * opened, 0.82, (120, 108, 140))
    if at_s < 14:
        _person(canvas, 0.1 + 0.06 * at_s, 0.9, 1.0, (110, 160, 100), 7 * at_s)


def _street(canvas: Canvas, at_s: float) -> None:
    """Cars in both directions; one stops for a while."""
    _car(canvas, (0.12 * at_s) % 1.4 - 0.2, 0.62, (160, 90, 160))
    _car(canvas, 1.2 - (0.16 * at_s + 0.5) % 1.4, 0.8, (90, 160, 90))
    stopping = 0.1 * min(at_s, 5.0) + 0.1 * max(0.0, at_s - 12.0)
    _car(canvas, stopping - 0.1, 0.92, (200, 128, 128))


def _square(canvas: Canvas, at_s: float) -> None:
    """Seven people cross a square on their own ways."""
    for number in range(7):
        phase = number * 0.9
        x = 0.5 + 0.42 * math.sin(at_s * (0.2 + 0.03 * number) + phase)
        feet = 0.6 + 0.3 * math.sin(at_s * 0.15 + 2 * phase) ** 2
        _person(
            canvas,
            x,
            feet,
            0.6 + 0.5 * (feet - 0.6),
            (70 + 20 * number, 90 + 12 * number, 170 - 12 * number),
            6 * at_s + phase,
        )


def _clinic(canvas: Canvas, at_s: float) -> None:
    """A queue at a counter: every four seconds one is served and all move up."""
    served, moved = divmod(at_s, 4.0)
    for place in range(5):
        x = 0.7 - 0.12 * (place + 1 - min(1.0, moved))
        number = place + int(served)
        _person(
            canvas,
            x,
            0.88,
            1.0,
            (90 + 25 * (number % 5), 100 + 15 * (number % 4), 160 - 17 * (number % 4)),
            8 * min(moved, 1.0),
        )
    _person(canvas, 0.82, 0.72, 0.9, (200, 128, 128), 0)
    canvas.rect(0.74, 0.6, 0.98, 0.8, (100, 112, 144))


@functools.cache
def _ground(width: int, height: int, sky: Color, floor: Color, horizon: float) -> Canvas:
    """Sky and floor with a little fixed grain, as every real sensor has it."""
    canvas = Canvas.blank(width, height)
    canvas.rect(0, 0, 1, horizon, sky)
    canvas.rect(0, horizon, 1, 1, floor)
    rows, columns = np.mgrid[0:height, 0:width]
    canvas.y[:] = np.clip(
        canvas.y.astype(int) + (rows * 7919 + columns * 104729 + rows * columns * 31) % 7 - 3, 16, 235
    )
    return canvas


@dataclass(frozen=True, slots=True)
class Scene:
    name: str
    width: int
    height: int
    sky: Color
    floor: Color
    horizon: float
    draw: Callable[[Canvas, float], None]


SCENES = (
    Scene("gate", 640, 360, (170, 140, 120), (110, 122, 134), 0.45, _gate),
    Scene("street", 1280, 720, (185, 142, 118), (80, 128, 128), 0.4, _street),
    Scene("square", 640, 360, (150, 138, 122), (140, 122, 136), 0.35, _square),
    Scene("clinic", 640, 360, (190, 124, 130), (120, 118, 138), 0.55, _clinic),
)


def draw(scene: Scene, number: int) -> Canvas:
    """The `number`-th frame of a scene, from 0."""
    at_s = number / FPS
    canvas = _ground(scene.width, scene.height, scene.sky, scene.floor, scene.horizon).copy()
    scene.draw(canvas, at_s)
    canvas.text(0.02, 0.04, scene.name.upper())
    canvas.text(0.66, 0.04, f"00:00:{at_s:05.2f}")
    return canvas


def write(scene: Scene, path: pathlib.Path, *, length_s: int = LENGTH_S) -> None:
    """Draw and encode one scene; the file appears under its name only when it is whole."""
    unfinished = path.with_suffix(".unfinished")
    with av.open(str(unfinished), "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = scene.width, scene.height, "yuv420p"
        stream.gop_size = FPS
        # One thread: how x264 divides its work over threads changes what it writes.
        stream.options = {
            "preset": "veryfast",
            "crf": "23",
            "bf": "0",
            "sc_threshold": "0",
            "threads": "1",
            "profile": "main",
        }
        for number in range(length_s * FPS):
            canvas = draw(scene, number)
            planes = np.concatenate([plane.ravel() for plane in (canvas.y, canvas.cb, canvas.cr)])
            frame = av.VideoFrame.from_ndarray(planes.reshape(-1, scene.width), "yuv420p")
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    unfinished.rename(path)


def write_all(folder: pathlib.Path, *, length_s: int = LENGTH_S) -> list[pathlib.Path]:
    """The four films; what is there already is kept. Returns their paths, in the order of SCENES."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{scene.name}.mp4" for scene in SCENES]
    for scene, path in zip(SCENES, paths, strict=True):
        if not path.exists():
            write(scene, path, length_s=length_s)
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.scenes.demo_footage", description="Write four short films for the demo."
    )
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--length-s", type=int, default=LENGTH_S, help="default %(default)s")
    options = parser.parse_args()
    for path in write_all(options.folder, length_s=options.length_s):
        print(path)


if __name__ == "__main__":
    main()
