"""Model cards: what a model file is, where it came from, and what of it is used. `models/` of a box is a folder of such pairs:

    NAME.tflite    the file as it was given
    NAME.json      its card

A model is taken when it has one picture as input and the detection post-processing of TFLite at its end, as SSD-style
models do; anything else is refused by naming what is missing. None is ever downloaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nvr.detect.tflite_file import POST_PROCESS, BadModel, ModelFile, labels_of, read
from nvr.scene import ANIMAL, BUS, CAR, KINDS, PERSON, TRUCK, TWO_WHEELER

FILE_MOST_BYTES = 256 << 20  # no board of ours runs a larger one
CARD_VERSION = 1
OUTPUTS = ("boxes", "classes", "scores", "count")  # of the post-processing, in its order

# COCO's names, and what other label files call the same. What is not here (chairs, bottles) is not told.
KIND_OF_LABEL = {
    "person": PERSON, "pedestrian": PERSON, "rider": PERSON,
    "car": CAR, "van": CAR, "truck": TRUCK, "bus": BUS,
    "bicycle": TWO_WHEELER, "motorcycle": TWO_WHEELER, "motorbike": TWO_WHEELER, "two-wheeler": TWO_WHEELER,
    "bird": ANIMAL, "cat": ANIMAL, "dog": ANIMAL, "horse": ANIMAL, "sheep": ANIMAL, "cow": ANIMAL, "animal": ANIMAL,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Card:
    name: str  # of the files, and what people see
    sha256: str  # of the model file
    size_bytes: int
    licence: str
    origin: str  # where it came from, for the licence's sake; one line
    labels: tuple[str, ...]  # by class index; "" for a number that means nothing
    kinds: Mapping[str, str]  # label -> one of scene.KINDS; labels that are not here are left out
    width: int  # of the input
    height: int
    input_type: str  # uint8, int8 or float32
    scale: float  # what one step of a quantised input is worth; for float32 the range is -1 to 1
    zero: int
    input_tensor: int
    output_tensors: tuple[int, int, int, int]  # boxes, classes, scores, count
    version: int = CARD_VERSION
    notes: str = field(default="")

    def kind(self, number: int) -> str | None:
        """What a class index means to us; None for what is not told."""
        return self.kinds.get(self.labels[number]) if 0 <= number < len(self.labels) else None


def describe(data: bytes, name: str, *, labels: str | None = None, licence: str = "", origin: str = "") -> Card:
    """The card of a model file; `labels` is the text of a label file, needed when the model holds none.

    Raises BadModel, which names all that is missing.
    """
    if re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,60}", name) is None:
        raise BadModel(f"{name!r} cannot be a model's name", hint="Lower-case letters, digits, `.`, `-` and `_`.")
    try:
        model = read(data)
    except BadModel as error:
        raise BadModel(f"model {name} cannot be used: {error}", hint=error.hint) from None
    missing = missing_of(model)
    names = labels_of(labels) if labels is not None else model.labels
    if not names:
        missing.append("labels: the file holds none. Give a label file, one name a line, with --labels")
    kinds = {label: KIND_OF_LABEL[label] for label in dict.fromkeys(names) if label in KIND_OF_LABEL}
    if names and not kinds:
        missing.append(
            f"labels that mean something here: none of {', '.join(sorted(KIND_OF_LABEL))} is among {len(names)} labels"
        )
    licence = licence or model.licence
    if not licence:
        missing.append("a licence: the file names none. Say which one it has with --licence")
    if missing:
        raise BadModel(
            f"model {name} cannot be used, it lacks: " + "; ".join(missing),
            hint="SSD-style models with TFLite's detection post-processing work; nvr model check FILE tells what one has. "
            "`nvr model add` has --labels and --licence.",
        )
    picture = model.inputs[0]
    return Card(
        name=name,
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        licence=licence,
        origin=origin or model.author,
        labels=names,
        kinds=kinds,
        width=picture.shape[2],
        height=picture.shape[1],
        input_type=picture.type,
        scale=picture.scale,
        zero=picture.zero,
        input_tensor=picture.index,
        output_tensors=tuple(tensor.index for tensor in model.post_process[:4]),  # type: ignore[arg-type]
        notes=model.name,
    )


def missing_of(model: ModelFile) -> list[str]:
    """What this program needs and the model has not; empty when it can be used."""
    missing = []
    if len(model.inputs) != 1:
        missing.append(f"one input (it has {len(model.inputs)})")
    else:
        picture = model.inputs[0]
        shape = "x".join(map(str, picture.shape)) or "no shape"
        if len(picture.shape) != 4 or picture.shape[0] != 1 or picture.shape[3] != 3:
            missing.append(f"an input of 1 x height x width x 3 (`{picture.name}` has {shape})")
        elif not all(32 <= side <= 2048 for side in picture.shape[1:3]):
            missing.append(f"an input between 32 and 2048 pixels (`{picture.name}` has {shape})")
        if picture.type not in ("uint8", "int8", "float32"):
            missing.append(f"an input of uint8, int8 or float32 (`{picture.name}` is {picture.type})")
    graph_outputs = {tensor.index for tensor in model.outputs}
    if not model.post_process:
        has = ", ".join(f"`{tensor.name}`" for tensor in model.outputs[:6]) or "none"
        missing.append(
            f"the operator {POST_PROCESS} with its outputs {', '.join(OUTPUTS)} (its outputs are {has}): export it with "
            "detection post-processing"
        )
    else:
        lacking = [
            name for name, tensor in zip(OUTPUTS, model.post_process, strict=False) if tensor.index not in graph_outputs
        ]
        lacking += OUTPUTS[len(model.post_process) :]
        if lacking:
            missing.append(f"the outputs {', '.join(lacking)} of {POST_PROCESS}")
        elif any(tensor.type != "float32" for tensor in model.post_process[:4]):
            missing.append(f"float32 outputs of {POST_PROCESS}")
    return missing


# -- the folder --------------------------------------------------------------------------------------


def add(folder: Path, file: Path, name: str, *, labels: str | None = None, licence: str = "", origin: str = "") -> Card:
    """Put a model and its card into `folder`. A model of that name is replaced, the card last. Raises BadModel, OSError."""
    data = _file_bytes(file)
    card = describe(data, name, labels=labels, licence=licence, origin=origin)
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / f"{name}.tflite", data)
    _replace(folder / f"{name}.json", card_text(card).encode())
    return card


def cards(folder: Path) -> list[tuple[str, Card | BadModel]]:
    """Every card in `folder` by name, or why it cannot be used."""
    found: list[tuple[str, Card | BadModel]] = []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append((path.stem, card_of(path.read_bytes(), path.stem)))
        except BadModel as error:
            found.append((path.stem, error))
    return found


def load(folder: Path, name: str) -> tuple[Card, bytes]:
    """A card and the model it belongs to, which is compared with it. Raises BadModel."""
    path = folder / f"{name}.json"
    try:
        card = card_of(path.read_bytes(), name)
        data = _file_bytes(folder / f"{name}.tflite")
    except OSError as error:
        known = ", ".join(sorted(path.stem for path in folder.glob("*.json"))) or "none"
        raise BadModel(
            f"there is no model {name} in {folder}: {error.strerror}",
            hint=f"nvr model add puts one there. Known: {known}.",
        ) from None
    if (digest := hashlib.sha256(data).hexdigest()) != card.sha256:
        raise BadModel(
            f"the file of model {name} is not the one its card describes: {digest[:12]} instead of {card.sha256[:12]}",
            hint="It was changed or damaged. Add it again with nvr model add.",
        )
    return card, data


def card_text(card: Card) -> str:
    return json.dumps(asdict(card), indent=1, ensure_ascii=False) + "\n"


def card_of(text: bytes, name: str) -> Card:
    """Raises BadModel for anything but a card of this name."""
    try:
        fields: dict[str, Any] = json.loads(text)
        if fields.get("version") != CARD_VERSION:
            raise ValueError(f"version {fields.get('version')}, this program reads {CARD_VERSION}")
        card = Card(
            **{**fields, "labels": tuple(map(str, fields["labels"])), "output_tensors": tuple(fields["output_tensors"])}
        )
        whole = (card.size_bytes, card.width, card.height, card.zero, card.input_tensor, *card.output_tensors)
        if not all(isinstance(number, int) for number in whole) or len(card.output_tensors) != 4:
            raise ValueError("a number is not whole, or one is missing")
        if not (32 <= card.width <= 2048 and 32 <= card.height <= 2048 and isinstance(card.scale, float | int)):
            raise ValueError(f"an input of {card.width} x {card.height}")
        if card.name != name:
            raise ValueError(f"it calls itself {card.name!r}")
        if not isinstance(card.kinds, dict) or not set(card.kinds.values()) <= set(KINDS):
            raise ValueError(f"kinds other than {', '.join(KINDS)}")
        if not all(
            isinstance(each, str) for each in (card.sha256, card.licence, card.origin, card.input_type, card.notes)
        ):
            raise ValueError("a text is missing")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BadModel(
            f"the card of model {name} cannot be read: {error}", hint="Add the model again with nvr model add."
        ) from None
    return card


def _file_bytes(path: Path) -> bytes:
    size = path.stat().st_size
    if size > FILE_MOST_BYTES:
        raise BadModel(
            f"{path} has {size >> 20} MiB, {FILE_MOST_BYTES >> 20} at most", hint="Take a model for small boards."
        )
    return path.read_bytes()


def _replace(path: Path, data: bytes) -> None:
    """Durable and whole, or not at all."""
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
