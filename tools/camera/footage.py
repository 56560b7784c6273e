"""A video file as what a camera's encoder puts out: pictures, each with its NAL units and times."""

from __future__ import annotations

import pathlib
from dataclasses import dataclass, field

from tools.camera.packets import Template, template_of

TICKS_PER_S = 90_000


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
    """The H.264 track of an MP4 file."""
    import av

    with av.open(str(path)) as c:
        s = c.streams.video[0]
        x = s.codec_context.extradata
        at, sets = 6, [[], []]
        n = x[5] & 31
        for which in (0, 1):
            for _ in range(n):
                k = int.from_bytes(x[at:at + 2], "big"); sets[which].append(x[at + 2:at + 2 + k]); at += 2 + k
            if which == 0:
                n = x[at]; at += 1
        sps, pps = tuple(sets[0]), tuple(sets[1])
        pics = []; first = None; end = 0
        for p in c.demux(s):
            if p.dts is None: continue
            if first is None: first = p.dts
            tick = lambda v: int(v * s.time_base * 90000)
            data = bytes(p); o = 0; nals = []
            while o < len(data):
                k = int.from_bytes(data[o:o + 4], "big"); nals.append(data[o + 4:o + 4 + k]); o += 4 + k
            nals = tuple(x for x in nals if x[0] & 31 not in (7, 8))
            pics.append(Picture(nals, tick(p.dts - first), tick(p.pts - p.dts), (sps + pps) if p.is_keyframe else ()))
            end = tick(p.dts - first + p.duration)
    return Footage(sps, pps, tuple(pics), end)
