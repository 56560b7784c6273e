from __future__ import annotations

import pytest
from films import BYTE_STREAMS, footage, opened, units_of
from hypothesis import given
from hypothesis import strategies as st

from nvr import h264


@pytest.mark.parametrize("name", BYTE_STREAMS)
def test_a_byte_stream_is_cut_into_the_pictures_that_a_demuxer_finds(name):
    boundary = h264.AccessUnitBoundary()
    pictures: list[list[bytes]] = [[]]
    for unit in units_of(name):
        if boundary.is_first(unit) and pictures[-1]:
            pictures.append([])
        pictures[-1].append(unit)
    with opened(footage(name)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert len(pictures) == len(packets)
    for units, packet in zip(pictures, packets, strict=True):
        data = bytes(packet)
        assert [data[offset : offset + size] for offset, size in h264.annex_b_units(data)] == units
        # PyAV also calls pictures keyframes that are not IDR (recovery points); ours is the stricter claim.
        assert packet.is_keyframe or not h264.is_keyframe(units)


@pytest.mark.parametrize("name", BYTE_STREAMS)
def test_nothing_of_a_byte_stream_is_left_out_but_start_codes_and_zeros(name):
    data = footage(name).read_bytes()
    places = list(h264.annex_b_units(data))
    kept = [False] * len(data)
    for offset, size in places:
        kept[offset : offset + size] = [True] * size
    assert {byte for byte, is_kept in zip(data, kept, strict=True) if not is_kept} <= {0, 1}


@given(st.lists(st.binary(min_size=1, max_size=6), max_size=12))
def test_a_picture_with_several_slices_stays_whole(filler):
    """Whatever stands between the slices of a picture, only a first slice or what announces one ends it."""
    boundary = h264.AccessUnitBoundary()
    first, later = b"\x65\x88", b"\x65\x40"  # first_mb_in_slice 0 and 1
    assert [boundary.is_first(unit) for unit in (b"\x09\xf0", b"\x67\x64", b"\x68\xef", first, later, later)] == [
        False
    ] * 6
    assert boundary.is_first(first)
    assert [boundary.is_first(unit) for unit in (later, b"\x0c\xff", later)] == [False] * 3
    assert boundary.is_first(b"\x06\x05") and not boundary.is_first(b"\x67\x64") and not boundary.is_first(first)
    for unit in filler:
        assert boundary.is_first(unit) in (True, False)


@given(st.lists(st.binary(max_size=4), max_size=6))
def test_a_keyframe_has_idr_slices_and_no_others(units):
    kinds = {unit[0] & 0x1F for unit in units if unit}
    assert h264.is_keyframe(units) == (5 in kinds and not kinds & {1, 2})


@given(st.binary(max_size=400))
def test_any_bytes_are_a_byte_stream_with_some_units_or_none(data):
    for offset, size in h264.annex_b_units(data):
        assert size > 0 and data[offset - 3 : offset] == h264.START_CODE
        assert h264.START_CODE not in data[offset : offset + size]


def test_emulation_prevention_is_taken_out():
    assert h264.rbsp(bytes.fromhex("67 000003 01 000003 000003 02")) == bytes.fromhex("0000 01 0000 0000 02")
    assert h264.rbsp(b"") == b"" == h264.rbsp(b"\x67")
