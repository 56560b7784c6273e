"""H.264 parameter sets: what they say, and which are in force.

Follows ITU-T H.264 (08/2021), section numbers below. Every byte string gives a value or BadH264; nothing else is raised.
"""

from __future__ import annotations

from dataclasses import dataclass

from nvr.h264 import PPS, SPS, BadH264, Buffer, nal_type, rbsp
from nvr.media import ParameterSets

# Longest parameter set that is looked at: cameras send under 100 bytes, avcC has room for 65535.
MAX_PARAMETER_SET_BYTES = 65_535


@dataclass(frozen=True, slots=True)
class Sps:
    """What a sequence parameter set says (7.4.2.1.1, E.2.1)."""

    profile: int  # profile_idc
    constraints: int  # the byte between profile and level
    level: int  # level_idc
    id: int
    chroma_format: int  # 0 monochrome, 1 4:2:0, 2 4:2:2, 3 4:4:4
    bit_depth: int  # luma
    bit_depth_chroma: int
    width: int  # luma samples after cropping
    height: int
    is_interlaced: bool  # may hold fields
    max_ref_frames: int
    reorder_frames: int  # pictures that may come earlier in decoding and later on the screen, at most
    is_reorder_told: (
        bool  # the camera said so; otherwise it is what its profile, level and reference pictures make likely
    )
    sample_aspect: tuple[int, int]  # (0, 0) when it does not say
    fps: float | None  # of frames, where it says and the rate is fixed or not
    is_full_range: bool
    frame_num_bits: int  # of frame_num in a slice header
    order_type: int  # pic_order_cnt_type
    order_bits: int  # of pic_order_cnt_lsb in a slice header; 0 unless order_type is 0
    has_separate_planes: bool

    @property
    def codec(self) -> str:
        """As RFC 6381 writes it, for browsers: avc1.64001f."""
        return f"avc1.{self.profile:02x}{self.constraints:02x}{self.level:02x}"


# -- bits --------------------------------------------------------------------------------------------


class Bits:
    """Reads a few hundred bits, from the first on; raises BadH264 at the end."""

    __slots__ = ("_end", "_place", "_value")

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._end = self._place = len(data) * 8

    def u(self, count: int) -> int:
        """The next `count` bits as a number."""
        if count > self._place:
            raise BadH264(f"the parameter set ends too early: {self._end} bits")
        self._place -= count
        return self._value >> self._place & (1 << count) - 1

    def ue(self) -> int:
        """Exp-Golomb code (9.1)."""
        zeros = 0
        while not self.u(1):
            zeros += 1
            if zeros > 32:
                raise BadH264("a number in the parameter set has more than 32 bits")
        return (1 << zeros) - 1 + self.u(zeros)

    def se(self) -> int:
        value = self.ue()
        return (value + 1) // 2 if value & 1 else -(value // 2)


# -- reading them ------------------------------------------------------------------------------------

_HAS_CHROMA_FORMAT = frozenset((100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135))  # 7.3.2.1.1

# Table E-1, from aspect_ratio_idc 1.
_ASPECTS = ((1, 1), (12, 11), (10, 11), (16, 11), (40, 33), (24, 11), (20, 11), (32, 11), (80, 33), (18, 11), (15, 11), (64, 33),
            (160, 99), (4, 3), (3, 2), (2, 1))  # fmt: skip
_EXTENDED_SAR = 255

# Table A-1: MaxDpbMbs by level_idc.
_MAX_DPB_MBS = {9: 396, 10: 396, 11: 900, 12: 2376, 13: 2376, 20: 2376, 21: 4752, 22: 8100, 30: 8100, 31: 18000, 32: 20480, 40: 32768,
                41: 32768, 42: 34816, 50: 110400, 51: 184320, 52: 184320, 60: 696320, 61: 696320, 62: 696320}  # fmt: skip


def parse_sps(unit: Buffer) -> Sps:
    """Read a sequence parameter set NAL unit (7.3.2.1.1). Raises BadH264."""
    if not 4 <= len(unit) <= MAX_PARAMETER_SET_BYTES or nal_type(unit) != SPS or unit[0] & 0x80:
        raise BadH264(f"this is no sequence parameter set: {len(unit)} bytes, NAL unit type {nal_type(unit)}")
    # Nothing behind the first 1000 bytes matters: without scaling lists 7.3.2.1.1 ends far earlier.
    bits = Bits(rbsp(unit[:2000]))
    profile, constraints, level = bits.u(8), bits.u(8), bits.u(8)
    sps_id = _at_most(31, bits.ue(), "seq_parameter_set_id")
    chroma_format, depth, depth_chroma, separate = 1, 8, 8, 0
    if profile in _HAS_CHROMA_FORMAT:
        chroma_format = _at_most(3, bits.ue(), "chroma_format_idc")
        if chroma_format == 3:
            separate = bits.u(1)
        depth = 8 + _at_most(6, bits.ue(), "bit_depth_luma_minus8")
        depth_chroma = 8 + _at_most(6, bits.ue(), "bit_depth_chroma_minus8")
        bits.u(1)  # qpprime_y_zero_transform_bypass_flag
        if bits.u(1):
            for index in range(8 if chroma_format != 3 else 12):
                if bits.u(1):
                    _skip_scaling_list(bits, 16 if index < 6 else 64)
    frame_num_bits = 4 + _at_most(12, bits.ue(), "log2_max_frame_num_minus4")
    order_type, order_bits = _at_most(2, bits.ue(), "pic_order_cnt_type"), 0
    if order_type == 0:
        order_bits = 4 + _at_most(12, bits.ue(), "log2_max_pic_order_cnt_lsb_minus4")
    elif order_type == 1:
        bits.u(1)
        bits.se()
        bits.se()
        for _ in range(_at_most(255, bits.ue(), "num_ref_frames_in_pic_order_cnt_cycle")):
            bits.se()
    max_ref_frames = _at_most(16, bits.ue(), "max_num_ref_frames")
    bits.u(1)  # gaps_in_frame_num_value_allowed_flag
    width_mbs, height_units = bits.ue() + 1, bits.ue() + 1
    frame_mbs_only = bits.u(1)
    if not frame_mbs_only:
        bits.u(1)  # mb_adaptive_frame_field_flag
    bits.u(1)  # direct_8x8_inference_flag
    height_mbs = height_units * (2 - frame_mbs_only)
    width, height = 16 * width_mbs, 16 * height_mbs
    if bits.u(1):
        step_x = 2 if chroma_format in (1, 2) and not separate else 1
        step_y = (2 if chroma_format == 1 and not separate else 1) * (2 - frame_mbs_only)
        width -= step_x * (bits.ue() + bits.ue())
        height -= step_y * (bits.ue() + bits.ue())
    if not (0 < width <= 16_384 and 0 < height <= 16_384):  # level 6.2 allows 16 880; MP4 has 16 bits
        raise BadH264(f"the parameter set describes pictures of {width}x{height}")
    vui = _Vui()
    if bits.u(1):
        vui = _parse_vui(bits)
    told = vui.reorder_frames is not None
    if vui.reorder_frames is not None:
        reorder = vui.reorder_frames
    elif order_type == 2 or max_ref_frames < 2:
        # 8.2.1.3: order type 2 is decoding order. A B picture needs one reference before it and one behind; a
        # decoder could hold pictures back for no reason, but no encoder is known that does.
        reorder = 0
    else:
        reorder = min(_most_reorder(profile, constraints, level, width_mbs * height_mbs), max_ref_frames)
    return Sps(
        profile=profile,
        constraints=constraints,
        level=level,
        id=sps_id,
        chroma_format=chroma_format,
        bit_depth=depth,
        bit_depth_chroma=depth_chroma,
        width=width,
        height=height,
        is_interlaced=not frame_mbs_only,
        max_ref_frames=max_ref_frames,
        reorder_frames=reorder,
        is_reorder_told=told or order_type == 2,
        sample_aspect=vui.sample_aspect,
        fps=vui.fps,
        is_full_range=vui.is_full_range,
        frame_num_bits=frame_num_bits,
        order_type=order_type,
        order_bits=order_bits,
        has_separate_planes=bool(separate),
    )


def _at_most(limit: int, value: int, name: str) -> int:
    if value > limit:
        raise BadH264(f"{name} is {value}; the standard allows {limit}")
    return value


def _skip_scaling_list(bits: Bits, count: int) -> None:
    """7.3.2.1.1.1"""
    last = following = 8
    for _ in range(count):
        if following:
            following = (last + bits.se()) % 256
        last = following or last


def _most_reorder(profile: int, constraints: int, level: int, frame_mbs: int) -> int:
    """max_num_reorder_frames where the camera does not tell it (E.2.1)."""
    if profile == 66:  # Baseline has no B slices and no fields
        return 0
    if profile in (44, 86, 100, 110, 122, 244) and constraints & 0x10:
        return 0
    if level == 11 and constraints & 0x10 and profile in (66, 77, 88):
        level = 9  # level 1b
    return min(_MAX_DPB_MBS.get(level, 696_320) // frame_mbs, 16)


@dataclass(slots=True)
class _Vui:
    sample_aspect: tuple[int, int] = (0, 0)
    is_full_range: bool = False
    fps: float | None = None
    reorder_frames: int | None = None


def _parse_vui(bits: Bits) -> _Vui:
    """E.1.1. Some cameras cut the VUI short: what was read before the end counts."""
    vui = _Vui()
    try:
        if bits.u(1):
            number = bits.u(8)
            if number == _EXTENDED_SAR:
                across, down = bits.u(16), bits.u(16)
                vui.sample_aspect = (across, down) if across and down else (0, 0)
            elif 1 <= number <= len(_ASPECTS):
                vui.sample_aspect = _ASPECTS[number - 1]
        if bits.u(1):
            bits.u(1)  # overscan_appropriate_flag
        if bits.u(1):
            bits.u(3)
            vui.is_full_range = bool(bits.u(1))
            if bits.u(1):
                bits.u(24)
        if bits.u(1):
            bits.ue()
            bits.ue()
        if bits.u(1):
            units, scale = bits.u(32), bits.u(32)
            bits.u(1)  # fixed_frame_rate_flag
            if units and scale:
                vui.fps = scale / (2 * units)  # a tick is a field
        hrd = 0
        for _ in range(2):
            if bits.u(1):
                hrd = 1
                _skip_hrd(bits)
        if hrd:
            bits.u(1)
        bits.u(1)  # pic_struct_present_flag
        if bits.u(1):
            bits.u(1)
            for _ in range(4):
                bits.ue()
            reorder, buffering = bits.ue(), bits.ue()
            if reorder <= min(16, buffering):
                vui.reorder_frames = reorder
    except BadH264:
        pass
    return vui


def _skip_hrd(bits: Bits) -> None:
    """E.1.2"""
    count = _at_most(31, bits.ue(), "cpb_cnt_minus1") + 1
    bits.u(8)
    for _ in range(count):
        bits.ue()
        bits.ue()
        bits.u(1)
    bits.u(20)


def pps_ids(unit: Buffer) -> tuple[int, int]:
    """(pic_parameter_set_id, seq_parameter_set_id) of a picture parameter set NAL unit (7.3.2.2). Raises BadH264."""
    if not 2 <= len(unit) <= MAX_PARAMETER_SET_BYTES or nal_type(unit) != PPS or unit[0] & 0x80:
        raise BadH264(f"this is no picture parameter set: {len(unit)} bytes, NAL unit type {nal_type(unit)}")
    bits = Bits(rbsp(unit[:64]))
    return _at_most(255, bits.ue(), "pic_parameter_set_id"), _at_most(31, bits.ue(), "seq_parameter_set_id")


# -- which are in force ------------------------------------------------------------------------------


class ParameterSetStore:
    """The parameter sets that are in force, while a stream changes them; each replaces the one with its number (7.4.1.2.1)."""

    __slots__ = ("_pps", "_sps")

    def __init__(self, sets: ParameterSets | None = None) -> None:
        self._sps: dict[int, bytes] = {}
        self._pps: dict[int, bytes] = {}
        if sets is not None:
            for unit in (*sets.sps, *sets.pps):
                self.add(unit)

    def add(self, unit: Buffer) -> None:
        """Take over a NAL unit if it is a parameter set. Raises BadH264 for one that cannot be read; nothing changes then."""
        kind = nal_type(unit)
        if kind == SPS:
            self._sps[parse_sps(unit).id] = bytes(unit)
        elif kind == PPS:
            self._pps[pps_ids(unit)[0]] = bytes(unit)

    def current(self) -> ParameterSets:
        """All of them, ordered by number."""
        return ParameterSets(
            tuple(self._sps[key] for key in sorted(self._sps)), tuple(self._pps[key] for key in sorted(self._pps))
        )

    def sps_of(self, pps_id: int) -> bytes | None:
        """The SPS that a PPS refers to."""
        unit = self._pps.get(pps_id)
        return None if unit is None else self._sps.get(pps_ids(unit)[1])
