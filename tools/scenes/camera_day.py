"""What a street and a room look like to their cameras through 24 hours, without and with something wrong.

Light comes and goes with the sun, clouds and rain, lamps are lit, headlights pass, houses throw shadows that wander, a bus
stops before the lens and somebody dusts it: all that a day has and none of it is a fault. Trials then break the camera, in
each light, in each way that `faults.py` knows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from tools.scenes import faults, paint, road, waiting
from tools.scenes.view import View

SIZE = (320, 180)
_H = 3600.0
Frame = np.ndarray


def daylight(at_s: float, *, seed: int = 1) -> paint.Light:
    """Outdoors near the equator: dark until a quarter to six, day an hour later, the same in the evening."""
    hour = at_s / _H % 24
    sun = min(max(min(hour - 5.75, 18.75 - hour), 0.0), 1.0)
    phase = 2 * math.pi * seed / 7
    cloud = 0.18 * math.sin(at_s / 611 + phase) * math.sin(at_s / 97 + 2 * phase)  # some pass in a minute
    rain = 14.2 < hour < 15.7
    return paint.Light(
        level=(0.14 + 0.86 * sun) * (0.7 if rain else 1.0),
        noise=5.0 - 3.0 * sun,
        lamps=sun < 0.6 or rain,
        rain=120 if rain else 0,
        cloud=cloud * sun,
    )


def roomlight(at_s: float) -> paint.Light:
    """A room with a window: lamps from half past seven to half past four, a glimmer at night."""
    hour = at_s / _H % 24
    sun = min(max(min(hour - 5.75, 18.75 - hour), 0.0), 1.0)
    lit = 0.6 if 7.5 <= hour < 16.5 else 0.0
    level = max(lit + 0.3 * sun, 0.035)
    return paint.Light(level=level, noise=2.0 if level > 0.3 else 4.5)


@dataclass
class Camera:
    """Frames of one camera, drawn when asked for; the world behind them goes on between."""

    kind: str  # "street" or "room"
    seed: int = 1
    light: paint.Light | None = None  # fixed, for trials; None: the time of day's
    size: tuple[int, int] = SIZE

    def __post_init__(self) -> None:
        self._chance = np.random.default_rng(self.seed)
        self._view = View()
        self._street = road.Street([road.Phase(0, 500)], seed=self.seed, parked=2)
        self._everybody: list[waiting.Visit] = []
        for day in range(2):  # people come in opening hours
            begin_s = day * 86_400 + 8 * _H
            self._everybody += [
                replace(v, arrives_s=v.arrives_s + begin_s, served_s=v.served_s + begin_s, done_s=v.done_s + begin_s)
                for v in waiting.visits([waiting.Rate(0, 45)], 8 * _H, mean_service_s=60, seed=self.seed)
            ]
        self._room = waiting.Room(self._everybody, seed=self.seed)

    def light_at(self, at_s: float) -> paint.Light:
        if self.light is not None:
            return self.light
        return daylight(at_s, seed=self.seed) if self.kind == "street" else roomlight(at_s)

    def frames(
        self, from_s: float, length_s: float, *, every_s: float, broken: faults.Fault | None = None
    ) -> Iterator[tuple[float, Frame]]:
        """(second of the day, luma); `every_s` apart."""
        for number in range(round(length_s / every_s)):
            at_s = from_s + number * every_s
            yield at_s, self._frame(at_s, every_s, broken)

    def _frame(self, at_s: float, every_s: float, broken: faults.Fault | None) -> Frame:
        light = self.light_at(at_s)
        picture = self._picture(at_s, every_s, light)
        paint.rain(picture, light, self._chance)
        if broken is not None and broken.is_on(at_s):
            picture = broken.apply_to_scene(picture, self._chance)
        frame = paint.expose(picture, light, self._chance)
        if broken is not None:
            broken.remember(frame, at_s)
            if broken.is_on(at_s):
                frame = broken.apply_to_frame(frame)
        return frame

    def _picture(self, at_s: float, every_s: float, light: paint.Light) -> np.ndarray:
        width, height = self.size
        if self.kind == "room":
            people = self._room.people_at(at_s, every_s)
            picture = paint.room(people, light, width, height)
            if at_s % 14_400 < 6:  # somebody dusts the lens, four times a day, for some seconds
                picture[:, int(0.1 * width) : int(0.8 * width)] = 90 * light.level
            return picture
        for _ in range(max(1, min(round(every_s / road.STEP_S), 10))):
            self._street.step()
        picture = paint.street(self._street.look().vehicles, light, self._view, width, height)
        self._shadow(picture, at_s, light)
        if at_s % 21_600 < 45 and at_s % 86_400 > 7 * _H:  # a bus stops before the camera
            picture[int(0.25 * height) :, int(0.05 * width) : int(0.62 * width)] = 120 * light.level
            picture[int(0.3 * height) : int(0.5 * height), int(0.1 * width) : int(0.58 * width) : 9] = 40 * light.level
        return picture

    def _shadow(self, picture: np.ndarray, at_s: float, light: paint.Light) -> None:
        """Of a house beside the street: wanders over the pavement from morning to evening, sharp when the sun is out."""
        hour = at_s / _H % 24
        if light.level < 0.6 or light.rain:
            return
        height, width = picture.shape
        reach = 0.42 * abs(hour - 12) / 6
        columns = slice(0, int(reach * width)) if hour < 12 else slice(int((1 - reach) * width), width)
        picture[int(0.3 * height) :, columns] *= 0.62


# -- trials ------------------------------------------------------------------------------------------

LIGHTS = {
    ("street", "day"): paint.DAY,
    ("street", "dusk"): paint.Light(level=0.4, noise=3.5, lamps=True),
    ("street", "night"): paint.NIGHT,
    ("street", "rain"): replace(paint.RAIN, rain=120),
    ("room", "day"): paint.Light(level=0.9, noise=2.0),
    ("room", "lamp light"): paint.Light(level=0.5, noise=3.0),
}
LEARN_S = 100.0
BROKEN_S = {"looped": 150.0}  # a loop has to come round, and show something that moves; all others 60


@dataclass(frozen=True, slots=True)
class Trial:
    kind: str
    light: str
    fault: faults.Fault


def trials(camera: str, light: str, *, per_class: int = 4) -> list[Trial]:
    """Each class in several ways; what is dark to begin with is not covered as well (that is `dark`, and nothing is claimed)."""
    found = []
    for what in faults.CLASSES:
        for number in range(per_class):
            if what == "covered" and light == "night":
                continue
            fault = faults.Fault(
                what, LEARN_S, BROKEN_S.get(what, 60.0), strength=(0.3, 0.55, 0.8, 1.0)[number], flavour=number % 3
            )
            found.append(Trial(camera, light, fault))
    return found
