"""A raw H.264 byte stream (annex B: `.264`, `.h264`, `.jsv`) as pictures with times, which it does not have.

Pictures are decoded at a steady rate. When they are shown follows from their order counts (8.2.1): inside a group, from one
keyframe to the next, they are shown in the order of those. Where pictures are never reordered nothing is looked at
and nothing waits; otherwise a whole group is read before its first picture is given.

Left out: order counts of type 1 and the resetting of them by a marking command (8.2.5.4.5); such streams are shown in
decoding order. A field that stands alone counts as a picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap

from nvr import h264
from nvr.h264 import BadH264
from nvr.media import TICKS_PER_S
from nvr.parameter_sets import Bits, ParameterSetStore, Sps, parse_sps

GROUP_LIMIT = 2000  # pictures that are put in order together; a camera's group has a few hundred at most
_SLICES = (h264.SLICE, h264.SLICE_A, h264.IDR)


@dataclass(frozen=True, slots=True)
class StreamPicture:
    """One access unit; the views are of the stream itself."""

    units: tuple[memoryview, ...]  # NAL units without start codes
    decode_ticks: int
    composition_ticks: int
    duration_ticks: int


def pictures(data: bytes | mmap, fps: float) -> Iterator[StreamPicture]:
    """Every picture of the stream, in decoding order, `fps` of them a second. Raises nothing, whatever the bytes are."""
    sets = ParameterSetStore()
    group: list[tuple[memoryview, ...]] = []
    orders: list[int] = []
    order = _OrderCount()
    count, depth = 0, 0
    for units in access_units(data):
        is_keyframe = h264.is_keyframe(units)
        if group and (is_keyframe or len(group) == GROUP_LIMIT):
            yield from _shown(group, orders, count, depth, fps)
            count += len(group)
            group, orders = [], []
        for unit in units:
            try:
                sets.add(unit)
            except BadH264:
                pass  # the decoder will see it too
        sps = _sps_of(units, sets)
        if is_keyframe:
            depth = max(
                depth, sps.reorder_frames if sps and sps.order_type == 0 else 0
            )  # never less: times would go back
        if depth == 0:
            yield from _shown([units], [0], count, 0, fps)
            count += 1
            continue
        orders.append(order.of(units, sps, otherwise=orders[-1] + 1 if orders else 0))
        group.append(units)
    yield from _shown(group, orders, count, depth, fps)


def access_units(data: bytes | mmap) -> Iterator[tuple[memoryview, ...]]:
    """The NAL units of each access unit; what has no slice at the end of the stream is left out."""
    view = memoryview(data)
    boundary = h264.AccessUnitBoundary()
    units: list[memoryview] = []
    for offset, size_bytes in h264.annex_b_units(data):
        unit = view[offset : offset + size_bytes]
        if boundary.is_first(unit) and units:
            yield tuple(units)
            units = []
        units.append(unit)
    if any(h264.nal_type(unit) in _SLICES for unit in units):
        yield tuple(units)


def _shown(
    group: list[tuple[memoryview, ...]], orders: list[int], first: int, depth: int, fps: float
) -> Iterator[StreamPicture]:
    """Pictures of one group, the `first` one of which is that number of the stream, each shown `depth` pictures late."""
    places = [0] * len(group)
    for place, index in enumerate(sorted(range(len(group)), key=orders.__getitem__)):
        places[index] = place
    for index, units in enumerate(group):
        decode_ticks = round((first + index) * TICKS_PER_S / fps)
        shown_ticks = round((first + places[index] + depth) * TICKS_PER_S / fps)
        yield StreamPicture(units, decode_ticks, max(shown_ticks - decode_ticks, 0), round(TICKS_PER_S / fps))


def _sps_of(units: tuple[memoryview, ...], sets: ParameterSetStore) -> Sps | None:
    """The parameter set that the first slice refers to."""
    for unit in units:
        if h264.nal_type(unit) in _SLICES:
            try:
                bits = Bits(h264.rbsp(unit[:40]))
                bits.ue()  # first_mb_in_slice
                bits.ue()  # slice_type
                sps = sets.sps_of(bits.ue())
                return None if sps is None else parse_sps(sps)
            except BadH264:
                return None
    return None


class _OrderCount:
    """PicOrderCnt of one picture after the other (8.2.1.1)."""

    def __init__(self) -> None:
        self._high, self._low = 0, 0  # of the last reference picture

    def of(self, units: tuple[memoryview, ...], sps: Sps | None, otherwise: int) -> int:
        """`otherwise` for a picture that does not tell."""
        for unit in units:
            if h264.nal_type(unit) in _SLICES and sps is not None and sps.order_type == 0:
                try:
                    low = _order_low(unit, sps)
                except BadH264:
                    return otherwise
                return self._whole(low, 1 << sps.order_bits, h264.nal_type(unit) == h264.IDR, unit[0] & 0x60 != 0)
        return otherwise

    def _whole(self, low: int, limit: int, is_idr: bool, is_reference: bool) -> int:
        if is_idr:
            self._high = self._low = 0
        high = self._high
        if low < self._low and self._low - low >= limit // 2:
            high += limit
        elif low > self._low and low - self._low > limit // 2:
            high -= limit
        if is_reference:
            self._high, self._low = high, low
        return high + low


def _order_low(unit: memoryview, sps: Sps) -> int:
    """pic_order_cnt_lsb of a slice (7.3.3). Raises BadH264."""
    bits = Bits(h264.rbsp(unit[:40]))
    bits.ue()  # first_mb_in_slice
    bits.ue()  # slice_type
    bits.ue()  # pic_parameter_set_id
    if sps.has_separate_planes:
        bits.u(2)
    bits.u(sps.frame_num_bits)
    if sps.is_interlaced and bits.u(1):
        bits.u(1)  # bottom_field_flag
    if h264.nal_type(unit) == h264.IDR:
        bits.ue()  # idr_pic_id
    return bits.u(sps.order_bits)
