"""Reads what a TFLite file says about itself, without the runtime: tensors, the detection post-processing, metadata.

A TFLite file is a FlatBuffer (schema.fbs of TensorFlow Lite, file identifier TFL3): tables of fields that are found through
offsets, every one of which is checked, because models come from strangers. A ZIP archive with the labels may be appended.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass

from nvr.errors import NvrError

POST_PROCESS = "TFLite_Detection_PostProcess"
ELEMENTS_MOST = 200_000  # of one vector; the largest detection models have some hundred tensors
LABELS_MOST_BYTES = 1 << 20

# TensorType of the schema; names as numpy has them
_TYPES = {0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 5: "string", 6: "bool", 7: "int16", 9: "int8"}


class BadModel(NvrError):
    """The file is no model that can be used; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Tensor:
    index: int  # in the file's subgraph, as the runtime counts too
    name: str
    shape: tuple[int, ...]
    type: str
    scale: float = 0.0  # quantisation; 0 for none
    zero: int = 0


@dataclass(frozen=True, slots=True)
class ModelFile:
    """What the file says."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    post_process: tuple[Tensor, ...]  # its outputs: boxes, classes, scores, count; () where the model has none
    custom_operators: tuple[str, ...]
    licence: str  # of its metadata; "" when it does not say
    author: str
    name: str
    labels: tuple[str, ...]  # of the label file inside; () without one


class _Table:
    """One table of a FlatBuffer; a field is found through the table's vtable."""

    __slots__ = ("data", "place", "vtable", "vtable_bytes")

    def __init__(self, data: bytes, place: int) -> None:
        self.data, self.place = data, place
        (back,) = struct.unpack_from("<i", data, place)
        self.vtable = place - back
        if self.vtable < 0:
            raise struct.error("vtable before the file")
        (self.vtable_bytes,) = struct.unpack_from("<H", data, self.vtable)

    def at(self, field: int) -> int:
        """Where the field lies; 0 when it is left out."""
        entry = 4 + 2 * field
        if entry + 2 > self.vtable_bytes:
            return 0
        (offset,) = struct.unpack_from("<H", self.data, self.vtable + entry)
        return self.place + offset if offset else 0

    def number(self, field: int, layout: str, otherwise: int = 0) -> int:
        place = self.at(field)
        return int(struct.unpack_from(layout, self.data, place)[0]) if place else otherwise

    def vector(self, field: int) -> tuple[int, int]:
        """(place of the first element, count); (0, 0) when it is left out."""
        place = self.at(field)
        if not place:
            return 0, 0
        start = place + struct.unpack_from("<I", self.data, place)[0]
        (count,) = struct.unpack_from("<I", self.data, start)
        if count > len(self.data) - start - 4:
            raise struct.error("vector longer than the file")
        return start + 4, count

    def numbers(self, field: int, layout: str = "i") -> tuple[int, ...]:
        start, count = self.vector(field)
        if count > ELEMENTS_MOST:
            raise struct.error("vector too long")
        return struct.unpack_from(f"<{count}{layout}", self.data, start) if count else ()

    def bytes(self, field: int) -> bytes:
        start, count = self.vector(field)
        return self.data[start : start + count]

    def text(self, field: int) -> str:
        return self.bytes(field)[:2000].decode("utf-8", "replace").strip("\0")

    def tables(self, field: int) -> Iterator[_Table]:
        start, count = self.vector(field)
        if count > ELEMENTS_MOST:
            raise struct.error("vector too long")
        for place in range(start, start + 4 * count, 4):
            yield _Table(self.data, place + struct.unpack_from("<I", self.data, place)[0])


def read(data: bytes) -> ModelFile:
    """Raises BadModel for anything but a whole TFLite model."""
    if len(data) < 8 or data[4:8] != b"TFL3":
        raise BadModel(
            f"this is no TFLite model: it begins with {data[:8].hex(' ') or 'nothing'}",
            hint="A TFLite file has TFL3 at byte 4. Convert the model, or take the .tflite file.",
        )
    try:
        return _read(data)
    except (struct.error, IndexError, RecursionError):
        raise BadModel(
            f"the model file points outside of its {len(data)} bytes, or at itself",
            hint="It is cut short or damaged: copy it again.",
        ) from None


def _read(data: bytes) -> ModelFile:
    model = _Table(data, struct.unpack_from("<I", data, 0)[0])
    codes = [code.text(1) for code in model.tables(1)]
    graph = next(model.tables(2), None)
    if graph is None:
        raise BadModel("the model has no graph", hint="It is cut short or damaged: copy it again.")
    tensors = [_tensor(number, table) for number, table in enumerate(graph.tables(0))]
    post_process: tuple[Tensor, ...] = ()
    for operator in graph.tables(3):
        if codes[operator.number(0, "<I")] == POST_PROCESS:
            post_process = tuple(tensors[place] for place in operator.numbers(2))
    name = licence = author = ""
    for entry in model.tables(6):
        if entry.text(0) == "TFLITE_METADATA":
            buffer = list(model.tables(4))[entry.number(1, "<I")].bytes(0)
            about = _Table(buffer, struct.unpack_from("<I", buffer, 0)[0])
            name, author, licence = about.text(0), about.text(4), about.text(5)
    return ModelFile(
        inputs=tuple(tensors[place] for place in graph.numbers(1)),
        outputs=tuple(tensors[place] for place in graph.numbers(2)),
        post_process=post_process,
        custom_operators=tuple(sorted({code for code in codes if code})),
        licence=licence,
        author=author,
        name=name,
        labels=_labels_inside(data),
    )


def _tensor(number: int, table: _Table) -> Tensor:
    scale, zero = 0.0, 0
    if table.at(4):
        quantization = _Table(table.data, table.at(4) + struct.unpack_from("<I", table.data, table.at(4))[0])
        start, count = quantization.vector(2)
        if count == 1:
            (scale,) = struct.unpack_from("<f", table.data, start)
            zero = quantization.numbers(3, "q")[0]
    kind = table.number(1, "<b")
    return Tensor(number, table.text(3), table.numbers(0), _TYPES.get(kind, f"type {kind}"), scale, zero)


def _labels_inside(data: bytes) -> tuple[str, ...]:
    """The first text file of the archive behind the model; () without one that can be read."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for entry in archive.infolist():
                if entry.filename.endswith(".txt") and entry.file_size <= LABELS_MOST_BYTES:
                    return labels_of(archive.read(entry).decode("utf-8", "replace"))
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, RuntimeError, EOFError):
        pass
    return ()


def labels_of(text: str) -> tuple[str, ...]:
    """One label a line, or `index  name` lines; a first line `???` stands for the background and is not a class."""
    lines = [line.strip() for line in text.splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    numbered = [line.split(maxsplit=1) for line in lines]
    if lines and all(len(words) == 2 and words[0].isdecimal() and len(words[0]) < 5 for words in numbered):
        names = {int(words[0]): words[1] for words in numbered}
        return tuple(names.get(number, "") for number in range(max(names) + 1))
    if lines and lines[0] in ("???", "background"):
        lines = lines[1:]
    return tuple("" if line == "???" else line for line in lines)
