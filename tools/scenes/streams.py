"""Drawn frames through an encoder and back, played in a loop: the stream itself repeated, and its pictures encoded again.

What coding does to a sensor's noise depends on how hard it compresses and how often a keyframe comes, so it is tried in several ways. The loop's
keyframes do not fall on the second encoder's: whoever feeds a film to a camera's cable does not know its clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np

from nvr.detect.loops import LoopLook
from nvr.detect.motion import small
from tools.scenes import camera_day

FPS = 5  # what a box looks at
LIVE_S, LOOP_S, ROUNDS = 60, 20, 5
CODINGS = (
    (24, 5, 13),
    (24, 10, 13),
    (28, 50, 47),
    (34, 10, 13),
)  # rate factor, keyframe every so many pictures, and of the second encoder
_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Looped:
    kind: str
    light: str
    coding: str
    is_again: bool  # encoded again
    after_s: float | None  # from the beginning of the loop until it was known for 15 s; None: never
    false_s: float  # told of the living camera, in so long as the trial takes


def looped(kind: str, light: str, *, at_h: float, seed: int) -> list[Looped]:
    """Each coding, the stream repeated and encoded again; at three at night the room is empty."""
    camera = camera_day.Camera(kind, seed=seed, light=camera_day.LIGHTS[kind, light])
    length_s = LIVE_S + LOOP_S * ROUNDS
    frames = [frame for _, frame in camera.frames(at_h * 3600, length_s, every_s=1 / FPS)]
    before, film = frames[: LIVE_S * FPS], frames[(LIVE_S - LOOP_S) * FPS : LIVE_S * FPS]
    found = []
    for factor, every, again_every in CODINGS:
        coding = f"rate factor {factor}, keyframe every {every}"
        false_s = sum(loop_ns > 0 for loop_ns in _told(_decoded(_encoded(frames, factor, every)))) / FPS
        live, loop = _encoded(before, factor, every), _encoded(film, factor, every)
        repeated = _told(_decoded([*live, *(loop * ROUNDS)]))
        again = _told(_decoded(_encoded([*before, *(list(_decoded(loop)) * ROUNDS)], factor, again_every)))
        found += [
            Looped(kind, light, coding, is_again, _after_s(told), false_s)
            for is_again, told in ((False, repeated), (True, again))
        ]
    return found


def _after_s(told: Sequence[int]) -> float | None:
    """As rules/tamper.py tells it: repeated for 15 s."""
    first = next((number for number, loop_ns in enumerate(told) if loop_ns >= 15 * _NS), None)
    return None if first is None else first / FPS - LIVE_S


def _told(frames: Iterator[np.ndarray]) -> list[int]:
    look = LoopLook()
    return [look.look(small(frame), number * _NS // FPS)[0] for number, frame in enumerate(frames)]


def _encoded(frames: Sequence[np.ndarray], factor: int, every: int) -> list[bytes]:
    """One encoder thread, because how x264 divides its work changes what it writes."""
    height, width = frames[0].shape
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base, encoder.framerate, encoder.gop_size = Fraction(1, FPS), Fraction(FPS), every
    encoder.options = {"preset": "veryfast", "crf": str(factor), "bf": "0", "sc_threshold": "0", "threads": "1"}
    grey = np.full((height // 2, width), 128, np.uint8)
    units = []
    for number, luma in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(np.concatenate([luma, grey]), "yuv420p")
        frame.pts = number
        units += [bytes(packet) for packet in encoder.encode(frame)]
    return units + [bytes(packet) for packet in encoder.encode(None)]


def _decoded(units: Sequence[bytes]) -> Iterator[np.ndarray]:
    decoder = av.CodecContext.create("h264", "r")
    for packet in (*(av.Packet(unit) for unit in units), None):
        for frame in decoder.decode(packet):
            yield frame.to_ndarray()[: frame.height].copy()
