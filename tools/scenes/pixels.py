"""Drawn frames through the product's own eyes: motion, tamper numbers and the tamper rule.

Frames are handed over as luma, without encoding: a day is 43,200 frames. What coding does to a picture (a frozen camera's
pictures are then only nearly the same) is in `film_facts()`, which goes through a file, the decoder and the pipeline.
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nvr.cli.detect import film_events
from nvr.detect.motion import Background, small
from nvr.detect.pipeline import Pipeline
from nvr.detect.replay import facts_of
from nvr.detect.tamper import TamperLook
from nvr.rules.tamper import TamperRule
from nvr.scene import Event, Facts, Health, Sight, Tamper, Zone
from tools.scenes import camera_day, faults, film

_NS = 1_000_000_000
_H = 3600

# What the rule calls what we broke.
NAMES = {"covered": "covered", "defocused": "out of focus", "moved": "moved", "frozen": "frozen", "looped": "looped"}


@dataclass
class Eyes:
    """Luma frames in, tamper events out."""

    background: Background = field(default_factory=Background)
    tamper: TamperLook = field(default_factory=TamperLook)
    rule: TamperRule = field(default_factory=TamperRule)
    last: Tamper | None = None

    def look(self, luma: np.ndarray, at_s: float) -> list[Event]:
        at_ns = round(at_s * _NS)
        motion = self.background.look(small(luma), at_ns)
        self.last = self.tamper.look(luma, motion, at_ns)
        height, width = luma.shape
        return self.rule.look(Facts(
            camera="scene", at_ns=at_ns, wall_ns=None, has_picture=True, height_px=height, aspect=width / height, zones=(),
            crossings=(), tracks=(), motion_share=motion.moving.share, foreground_share=motion.foreground.share,
            is_light_change=motion.is_light_change, tamper=self.last, health=Health(width_px=width, height_px=height),
            sight=Sight(),
        ))  # fmt: skip


def alarms_of_day(
    kind: str, *, from_h: float = 0.0, to_h: float = 24.0, every_s: float = 2.0, seed: int = 1
) -> list[Event]:
    """Everything the rule tells of a camera with which nothing is wrong."""
    camera, eyes = camera_day.Camera(kind, seed=seed), Eyes()
    told = []
    for at_s, frame in camera.frames(from_h * _H, (to_h - from_h) * _H, every_s=every_s):
        told += [event for event in eyes.look(frame, at_s - from_h * _H) if not event.is_end]
    return told


@dataclass(frozen=True, slots=True)
class Result:
    trial: camera_day.Trial
    after_s: float | None  # from the fault to its event; None: never
    others: tuple[str, ...]  # what else was told, in the wrong class
    tamper: Tamper | None = None  # at the end


def tried(
    kind: str,
    light: str,
    *,
    every_s: float = 0.4,
    only: Sequence[str] = faults.CLASSES,
    per_class: int = 4,
    seed: int = 3,
) -> list[Result]:
    """Every fault of one camera in one light. It learns once; each trial goes on from there."""
    camera = camera_day.Camera(kind, seed=seed, light=camera_day.LIGHTS[kind, light])
    begin_s = 10 * _H + 600  # in the middle of the morning, away from everything that the day itself brings
    eyes = Eyes()
    shown = []
    for at_s, frame in camera.frames(begin_s, camera_day.LEARN_S, every_s=every_s):
        eyes.look(frame, at_s - begin_s)
        shown.append((at_s, frame))
    results = []
    for trial in camera_day.trials(kind, light, per_class=per_class):
        if trial.fault.kind not in only:
            continue
        one, seen = copy.deepcopy(camera), copy.deepcopy(eyes)
        broken = copy.deepcopy(trial.fault)
        broken.from_s = begin_s + camera_day.LEARN_S
        for at_s, frame in shown:
            broken.remember(frame, at_s)
        told = []
        for at_s, frame in one.frames(broken.from_s, broken.for_s, every_s=every_s, broken=broken):
            told += [
                (event.state, at_s - broken.from_s) for event in seen.look(frame, at_s - begin_s) if not event.is_end
            ]
        name = NAMES[trial.fault.kind]
        after_s = next((at_s for state, at_s in told if state == name), None)
        results.append(Result(trial, after_s, tuple(state for state, _ in told if state != name), seen.last))
    return results


def film_facts(name: str, length_s: int, zones: Sequence[Zone]) -> Iterator[tuple[dict[str, object], Facts]]:
    """A drawn scene through encoder, file, decoder and pipeline, without a model; with what is true at that moment."""
    with tempfile.TemporaryDirectory() as folder:
        path, truth_path = film.write(name, Path(folder), length_s=length_s)
        truth = json.loads(truth_path.read_text("utf-8"))["frames"]
        for facts in facts_of(film_events(path, None), Pipeline("scene", zones), None):
            yield truth[min(round(facts.at_ns / _NS * film.FPS), len(truth) - 1)], facts
