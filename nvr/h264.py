"""H.264 in its bytes: NAL units, parameter sets, where an access unit begins, and when it is decoded.

Follows ITU-T H.264 (08/2021), section numbers below. Nothing here decodes pictures. Every byte string gives a value or
BadH264; nothing else is raised.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from mmap import mmap

from nvr.errors import NvrError
from nvr.media import ParameterSets

Buffer = bytes | bytearray | memoryview

# nal_unit_type, table 7-1
SLICE, SLICE_A, SLICE_B, SLICE_C, IDR, SEI, SPS, PPS, AUD = 1, 2, 3, 4, 5, 6, 7, 8, 9
END_OF_SEQUENCE, END_OF_STREAM, FILLER = 10, 11, 12

START_CODE = b"\0\0\1"

# Longest parameter set that is looked at: cameras send under 100 bytes, avcC has room for 65535.
MAX_PARAMETER_SET_BYTES = 65_535


class BadH264(NvrError):
    """These bytes are not the H.264 they should be."""


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


def nal_type(unit: Buffer) -> int:
    """nal_unit_type; 0 (unspecified) for an empty unit."""
    return unit[0] & 0x1F if len(unit) else 0


def annex_b_units(data: bytes | bytearray | mmap, offset: int = 0) -> Iterator[tuple[int, int]]:
    """(offset, size) of each NAL unit in a byte stream (annex B.1), without start codes and trailing zeros.

    `data` must have find(): bytes, bytearray or mmap.
    """
    start = data.find(START_CODE, offset)
    while start >= 0:
        start += 3
        following = data.find(START_CODE, start)
        end = len(data) if following < 0 else following
        while end > start and data[end - 1] == 0:
            end -= 1
        if end > start:
            yield start, end - start
        start = following


def rbsp(unit: Buffer) -> bytes:
    """The payload of a NAL unit without its first byte and without emulation prevention (7.3.1, 7.4.1.1)."""
    return bytes(unit[1:]).replace(b"\0\0\3", b"\0\0")


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


# -- parameter sets ----------------------------------------------------------------------------------

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


# -- access units ------------------------------------------------------------------------------------

_STARTS_ACCESS_UNIT = frozenset((SEI, SPS, PPS, AUD, 14, 15, 16, 17, 18))  # 7.4.1.2.3
_SLICES = frozenset((SLICE, SLICE_A, IDR))  # those that begin with first_mb_in_slice; B and C follow an A


class AccessUnitBoundary:
    """Tells, NAL unit by NAL unit, where one picture ends and the next begins (7.4.1.2.3, 7.4.1.2.4).

    A slice whose first_mb_in_slice is 0 starts a picture. The standard compares seven fields instead, for streams
    with arbitrary slice order; no camera sends such streams, and what would be wrong is a picture cut in two.
    """

    __slots__ = ("_has_slice",)

    def __init__(self) -> None:
        self._has_slice = False

    def is_first(self, unit: Buffer) -> bool:
        """Whether `unit` is the first NAL unit of another picture than the one before; call it for every unit, in order."""
        kind = nal_type(unit)
        if kind in _SLICES:
            starts = self._has_slice and is_first_slice(unit)
            self._has_slice = True
            return starts
        if kind in _STARTS_ACCESS_UNIT and self._has_slice:
            self._has_slice = False
            return True
        return False


def is_first_slice(unit: Buffer) -> bool:
    """Whether a slice NAL unit begins with macroblock 0: ue(0) is a single 1 bit."""
    return len(unit) > 1 and unit[1] & 0x80 != 0


def is_keyframe(units: Iterable[Buffer]) -> bool:
    """Whether an access unit is an IDR picture: all its slices are of type 5 (7.4.1.2.4)."""
    kinds = [nal_type(unit) for unit in units]
    return IDR in kinds and SLICE not in kinds and SLICE_A not in kinds


# -- decoding time -----------------------------------------------------------------------------------


class DecodeClock:
    """Makes decoding times from presentation times, picture by picture, without looking ahead.

    A camera's RTP timestamps say when a picture is shown; with B pictures they do not rise. If no picture is overtaken by
    more than `reorder_frames` others, then the n-th picture may be decoded at the (n - reorder_frames)-th smallest
    presentation time: when picture n has come, that one can no longer change. The first `reorder_frames` pictures have
    no such time; they are set before the first presentation time, `picture_ticks` apart. So decoding starts at 0,
    and everything is shown `reorder_frames * picture_ticks` later than the timestamps say, which start at 0 too.
    """

    __slots__ = (
        "_count",
        "_first",
        "_last",
        "_lead_ticks",
        "_picture_ticks",
        "_recent",
        "needed_frames",
        "reorder_frames",
    )

    def __init__(self, reorder_frames: int, picture_ticks: int = 3600) -> None:
        self.reorder_frames = reorder_frames
        self.needed_frames = (
            0  # the most pictures that have overtaken one so far; more than reorder_frames: start again with it
        )
        self._picture_ticks = max(picture_ticks, 1)
        self._lead_ticks = reorder_frames * self._picture_ticks
        self._recent: list[int] = []  # the largest presentation times so far, rising
        self._first = 0
        self._last = -1
        self._count = 0

    def plain_times(self, presentation_ticks: list[int]) -> list[int] | None:
        """Decoding times of pictures with rising times that none overtakes, as almost every camera sends them.

        None: ask times() for each.
        """
        first = self._first
        if self.reorder_frames or not self._count or presentation_ticks[0] - first <= max(self._recent[-1], self._last):
            return None
        times = [ticks - first for ticks in presentation_ticks]
        self._recent = [*self._recent, *times][-17:]
        self._last = times[-1]
        self._count += len(times)
        return times

    def times(self, presentation_ticks: int) -> tuple[int, int]:
        """(decode_ticks, composition_ticks) of the next picture in decoding order.

        Decoding time strictly rises and composition is never negative, whatever comes. Where a picture is overtaken by
        more than `reorder_frames`, or a time repeats, it is shown late by what is missing: see `needed_frames`.
        """
        if self._count == 0:
            self._first = presentation_ticks
        shown = presentation_ticks - self._first + self._lead_ticks
        if not self.reorder_frames and self._count and shown > self._recent[-1]:
            # What almost every camera does: no picture overtakes another.
            self._count += 1
            self._recent.append(shown)
            if len(self._recent) > 17:
                del self._recent[0]
            if shown > self._last:
                self._last = shown
                return shown, 0
            self._last += 1
            return self._last, 0
        insort(self._recent, shown)
        overtaken_by = len(self._recent) - 1 - self._recent.index(shown)
        self.needed_frames = max(self.needed_frames, overtaken_by)
        if self._count < self.reorder_frames:
            decode = self._count * self._picture_ticks
        else:
            decode = self._recent[-1 - self.reorder_frames]
        if len(self._recent) > 17:  # 16 is the most that H.264 allows
            del self._recent[0]
        self._count += 1
        decode = max(decode, self._last + 1)
        self._last = decode
        return decode, max(shown - decode, 0)
