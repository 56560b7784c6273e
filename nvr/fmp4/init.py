"""What comes before the first fragment: how the pictures are to be decoded."""

from __future__ import annotations

import struct

from nvr import h264
from nvr.fmp4.atom import atom, full_atom
from nvr.fmp4.fragment import OTHER_FLAGS
from nvr.media import TICKS_PER_S, ParameterSets
from nvr.parameter_sets import parse_sps

_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x4000_0000)  # 6.2.2: neither turned nor scaled


def init_segment(parameter_sets: ParameterSets, width: int, height: int) -> bytes:
    """`ftyp` and `moov` for one video track whose pictures come in fragments.

    `width` and `height` are luma samples after cropping. Raises BadH264 if the first SPS cannot be read.
    """
    sps = parse_sps(parameter_sets.sps[0]) if parameter_sets.sps else None
    if sps is None or not parameter_sets.pps:
        raise h264.BadH264("there is no SPS or no PPS", hint="The camera must send both before its first picture.")
    avc_config = atom(b"avcC", avc_decoder_configuration(parameter_sets))
    shown_width = width
    if sps.sample_aspect not in ((0, 0), (1, 1)):
        across, down = sps.sample_aspect
        avc_config += atom(b"pasp", struct.pack(">II", across, down))
        shown_width = min(round(width * across / down), 0xFFFF)
    entry = atom(
        b"avc1",
        struct.pack(">6xH16xHHIIIH32xHh", 1, width, height, 0x48_0000, 0x48_0000, 0, 1, 24, -1),
        avc_config,
    )
    sample_table = atom(
        b"stbl",
        full_atom(b"stsd", 0, 0, struct.pack(">I", 1), entry),
        full_atom(b"stts", 0, 0, bytes(4)),
        full_atom(b"stsc", 0, 0, bytes(4)),
        full_atom(b"stsz", 0, 0, bytes(8)),
        full_atom(b"stco", 0, 0, bytes(4)),
    )
    media = atom(
        b"mdia",
        full_atom(b"mdhd", 0, 0, struct.pack(">IIIIHH", 0, 0, TICKS_PER_S, 0, 0x55C4, 0)),  # language "und"
        full_atom(b"hdlr", 0, 0, struct.pack(">4x4s12x", b"vide"), b"video\0"),
        atom(
            b"minf",
            full_atom(b"vmhd", 0, 1, bytes(8)),
            atom(b"dinf", full_atom(b"dref", 0, 0, struct.pack(">I", 1), full_atom(b"url ", 0, 1))),
            sample_table,
        ),
    )
    track = atom(
        b"trak",
        full_atom(
            b"tkhd",
            0,
            3,  # enabled, in movie
            struct.pack(">IIIII8xhhHH", 0, 0, 1, 0, 0, 0, 0, 0, 0),
            _MATRIX,
            struct.pack(">II", shown_width << 16, height << 16),
        ),
        media,
    )
    movie = atom(
        b"moov",
        full_atom(
            b"mvhd",
            0,
            0,
            struct.pack(">IIIIIH10x", 0, 0, TICKS_PER_S, 0, 0x10000, 0x100),
            _MATRIX,
            bytes(24),
            struct.pack(">I", 2),
        ),
        track,
        atom(b"mvex", full_atom(b"trex", 0, 0, struct.pack(">IIIII", 1, 1, 0, 0, OTHER_FLAGS))),
    )
    # iso5 is the first brand with default-base-is-moof, iso6 the first with tfdt.
    return atom(b"ftyp", struct.pack(">4sI", b"iso6", 0), b"iso5iso6avc1mp41") + movie


def avc_decoder_configuration(parameter_sets: ParameterSets) -> bytes:
    """The body of `avcC` (14496-15, 5.3.3.1). Raises BadH264."""
    first = parse_sps(parameter_sets.sps[0])
    sps, pps = parameter_sets.sps[:31], parameter_sets.pps[:255]
    parts = [bytes((1, first.profile, first.constraints, first.level, 0xFC | 3, 0xE0 | len(sps)))]
    for unit in sps:
        parts += (struct.pack(">H", len(unit)), unit)
    parts.append(bytes((len(pps),)))
    for unit in pps:
        parts += (struct.pack(">H", len(unit)), unit)
    if first.profile in (100, 110, 122, 144):
        parts.append(
            bytes((0xFC | first.chroma_format, 0xF8 | first.bit_depth - 8, 0xF8 | first.bit_depth_chroma - 8, 0))
        )
    return b"".join(parts)
