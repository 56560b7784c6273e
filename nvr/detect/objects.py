"""The object model: a picture in, detections out. The only file that imports the model's runtime.

One thread, so that the same picture gives the same numbers. `ai-edge-litert` where it is installed, else `tflite-runtime`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nvr.detect.decoder import Pixels, resized
from nvr.detect.models import Card
from nvr.detect.tflite_file import BadModel
from nvr.errors import NvrError
from nvr.scene import PERSON, TWO_WHEELER, VEHICLES, Detection, Rect

SCORE_LEAST = 0.25  # below this the model guesses; tracks.py asks for more before it begins a track
SATURATED_SCORE = 0.4  # the weakest of all it can tell is this sure: then more were left out
SAME_THING_IOU = 0.55  # a truck that is also said to be a car; two people in a queue overlap less
PART_OF = 0.85  # share of a rect inside another one of its kind: a part of a thing that was seen as a whole


class NoRuntime(NvrError):
    """The package that runs models is not installed."""


def _interpreter(data: bytes) -> Any:
    """Raises NoRuntime; ValueError or RuntimeError for a model the runtime refuses."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        try:
            from tflite_runtime.interpreter import Interpreter  # type: ignore[no-redef]
        except ImportError:
            raise NoRuntime(
                "models cannot be run: neither ai-edge-litert nor tflite-runtime is installed",
                hint="Install nvr with its detection packages. Until then there is motion, and no kinds of things.",
            ) from None
    return Interpreter(model_content=data, num_threads=1)


class ObjectModel:
    """One loaded model; some 15 MB for an SSD MobileNet. Cameras share it: it remembers nothing."""

    def __init__(self, card: Card, data: bytes) -> None:
        """Raises NoRuntime, BadModel."""
        self.card = card
        try:
            self._interpreter = _interpreter(data)
            self._interpreter.allocate_tensors()
            self.detect(np.zeros((card.height, card.width, 3), np.uint8))
        except (ValueError, RuntimeError, IndexError, TypeError) as error:
            raise BadModel(
                f"the runtime refuses model {card.name}: {str(error).splitlines()[0][:200] if str(error) else type(error).__name__}",
                hint="Its card does not fit it, or it needs a newer runtime. nvr model check tells more.",
            ) from None

    @property
    def kinds(self) -> frozenset[str]:
        return frozenset(self.card.kinds.values())

    def detect(self, rgb: Pixels, place: Rect | None = None) -> tuple[list[Detection], bool]:
        """(what is on the picture, whether the model told as many as it can), `rgb` being the part `place` of the camera's picture."""
        card, interpreter = self.card, self._interpreter
        pixels = resized(rgb, card.width, card.height)
        interpreter.set_tensor(card.input_tensor, self._input(pixels)[np.newaxis])
        interpreter.invoke()
        boxes, classes, scores = (interpreter.get_tensor(number)[0] for number in card.output_tensors[:3])
        count = min(int(interpreter.get_tensor(card.output_tensors[3])[0]), len(scores))
        place = place or Rect(0.0, 0.0, 1.0, 1.0)
        found = []
        for (top, left, bottom, right), number, score in zip(
            boxes[:count].tolist(), classes[:count].tolist(), scores[:count].tolist(), strict=True
        ):
            kind = card.kind(round(number)) if score >= SCORE_LEAST else None  # NaN is not at least anything
            if kind is None or not (left < right and top < bottom):
                continue
            rect = Rect(
                place.left + left * place.width,
                place.top + top * place.height,
                place.left + right * place.width,
                place.top + bottom * place.height,
            ).clipped()
            if rect.area > 0:
                found.append(Detection(rect, kind, min(score, 1.0)))
        return found, count == len(scores) and bool(count) and float(scores[:count].min()) >= SATURATED_SCORE

    def _input(self, pixels: Pixels) -> Any:
        if self.card.input_type == "uint8":  # made from camera pictures: bytes as they are
            return pixels
        if self.card.input_type == "int8":
            return (pixels.astype(np.int16) - 128).astype(np.int8)
        return (pixels.astype(np.float32) - 127.5) / 127.5


def without_doubles(found: Sequence[Detection]) -> list[Detection]:
    """One detection for one thing, best first; where crops overlap, or a model says car and truck of the same thing.

    Several rects of one thing become their mean, weighted by score: each look at it errs in its own way. A rider is part of a
    two-wheeler and is not told as a person.
    """
    groups: list[list[Detection]] = []
    for each in sorted(found, key=_rank):
        group = next((group for group in groups if _is_same(each, group[0])), None)
        if group is None:
            groups.append([each])
        elif each.rect.iou(group[0].rect) > SAME_THING_IOU:  # and no mere part of it
            group.append(each)
    kept = [Detection(_mean(group), group[0].kind, group[0].score) for group in groups]
    bikes = [each.rect for each in kept if each.kind == TWO_WHEELER and each.score >= 0.4]
    return [each for each in kept if each.kind != PERSON or not any(_rides(each.rect, bike) for bike in bikes)]


def _mean(group: Sequence[Detection]) -> Rect:
    if len(group) == 1:
        return group[0].rect
    total = sum(each.score for each in group)
    return Rect(
        sum(each.score * each.rect.left for each in group) / total,
        sum(each.score * each.rect.top for each in group) / total,
        sum(each.score * each.rect.right for each in group) / total,
        sum(each.score * each.rect.bottom for each in group) / total,
    )


def _rank(detection: Detection) -> tuple[float, float, float, str]:
    return -detection.score, detection.rect.left, detection.rect.top, detection.kind


def _is_same(each: Detection, other: Detection) -> bool:
    if each.kind != other.kind and not (each.kind in VEHICLES and other.kind in VEHICLES):
        return False
    if each.rect.iou(other.rect) > SAME_THING_IOU:
        return True
    common, least = each.rect.overlap(other.rect), min(each.rect.area, other.rect.area)
    return each.kind == other.kind and common > PART_OF * least and each.rect.area > 0.3 * other.rect.area


def _rides(person: Rect, bike: Rect) -> bool:
    """Most of a bike's upper part lies under the person, and the person's middle above the bike's wheels."""
    x, _ = person.centre
    return (
        bike.left <= x <= bike.right
        and bike.top < person.bottom <= bike.bottom + 0.15 * bike.height
        and (person.overlap(bike) > 0.2 * min(person.area, bike.area))
    )
