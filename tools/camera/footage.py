"""A video file as what a camera's encoder puts out: pictures, each with its NAL units and times."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from nvr.h264 import is_keyframe, nal_type
from nvr.mp4file import FileSample, Mp4File, NoH264
from tools.camera.packets import Template, template_of


@dataclass(slots=True)
class Picture:
    """One access unit, with the packets it becomes."""

    nal_units: tuple[bytes, ...]
    decode_ticks: int  # 90 kHz, from 0 at the first picture of the file
    composition_ticks: int  # shown so much later
    parameter_sets: tuple[bytes, ...]  # go before it when it is a keyframe; else empty
    _templates: dict[bool, Template] = field(default_factory=dict)

    @property
    def is_keyframe(self) -> bool:
        return bool(self.parameter_sets)

    def template(self, *, with_parameter_sets: bool) -> Template:
        """Its packets, cut the first time and kept."""
        kind = with_parameter_sets and self.is_keyframe
        if kind not in self._templates:
            self._templates[kind] = template_of((*self.parameter_sets, *self.nal_units) if kind else self.nal_units)
        return self._templates[kind]


@dataclass(frozen=True, slots=True)
class Footage:
    sps: tuple[bytes, ...]
    pps: tuple[bytes, ...]
    pictures: tuple[Picture, ...]
    duration_ticks: int


def read(path: str | pathlib.Path) -> Footage:
    """The H.264 track of an MP4 file. Raises BadAtom, NoH264 or OSError."""
    data = pathlib.Path(path).read_bytes()
    file = Mp4File(data)
    sets = file.parameter_sets
    pictures: list[Picture] = []
    duration_ticks = 0
    for sample in file.samples():
        nal_units = tuple(_nal_units(data, sample, file.length_size))
        if not nal_units:
            continue
        before = (*sets.sps, *sets.pps) if is_keyframe(nal_units) else ()
        pictures.append(Picture(nal_units, sample.decode_ticks, sample.composition_ticks, before))
        duration_ticks = sample.decode_ticks + max(sample.duration_ticks, 1)
    if not pictures or not pictures[0].is_keyframe:
        raise NoH264(f"{path} does not begin with a keyframe", hint="Take a file that does.")
    return Footage(sets.sps, sets.pps, tuple(pictures), duration_ticks)


def _nal_units(data: bytes, sample: FileSample, length_size: int) -> Iterator[bytes]:
    """Those of one picture, without parameter sets and delimiters, which go their own way."""
    at, end = sample.offset, sample.offset + sample.size_bytes
    while at + length_size < end:
        size = int.from_bytes(data[at : at + length_size], "big")
        at += length_size
        if size and nal_type(data[at : at + 1]) not in (7, 8, 9):
            yield data[at : at + size]
        at += size
