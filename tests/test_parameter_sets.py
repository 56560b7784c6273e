from __future__ import annotations

import pytest
from films import BYTE_STREAMS, CLIPS, DRAWN, footage, opened, units_of
from hypothesis import given
from hypothesis import strategies as st

from nvr import h264
from nvr.media import ParameterSets
from nvr.mp4file import Mp4File
from nvr.parameter_sets import ParameterSetStore, Sps, parse_sps, pps_ids

# What x264 writes for 800x600, 25 fps, with B pictures.
SPS = bytes.fromhex("6764001facd940c8137e5840000003004000000c83c60c6580")
PPS = bytes.fromhex("68ef8fcb")


@pytest.mark.parametrize("name", BYTE_STREAMS)
def test_size_and_profile_in_a_byte_stream_are_those_that_a_decoder_finds(name):
    sps = parse_sps(next(unit for unit in units_of(name) if h264.nal_type(unit) == h264.SPS))
    with opened(footage(name)) as container:
        context = container.streams.video[0].codec_context
        assert (sps.width, sps.height) == (context.width, context.height)
        aspect = context.sample_aspect_ratio
        assert (
            sps.sample_aspect in ((0, 0), (1, 1))
            if not aspect or aspect == 1
            else sps.sample_aspect == aspect.as_integer_ratio()
        )


@pytest.mark.parametrize("name", (*CLIPS, *DRAWN))
def test_size_and_reordering_in_a_file_are_those_that_a_decoder_finds(name):
    data = footage(name).read_bytes()
    sps = parse_sps(Mp4File(data).parameter_sets.sps[0])
    with opened(footage(name)) as container:
        context = container.streams.video[0].codec_context
        assert (sps.width, sps.height) == (context.width, context.height)
        assert sps.reorder_frames >= int(context.has_b_frames)


def test_cropping_and_pixel_shape_are_read():
    assert (lambda sps: (sps.width, sps.height))(parse_sps(units_of("conformance/CVFC1_Sony_C.jsv")[0])) == (
        300,
        168,
    )
    assert parse_sps(units_of("conformance/SarVui.264")[0]).sample_aspect == (80, 33)


def test_a_camera_that_tells_its_reordering_is_believed():
    sps = parse_sps(SPS)
    assert (sps.width, sps.height, sps.codec) == (800, 600, "avc1.64001f")
    assert sps.reorder_frames == 2 and sps.is_reorder_told and sps.fps == 25.0


def test_a_silent_camera_with_one_reference_picture_has_no_b_pictures():
    data = footage("vehicle_street.mp4").read_bytes()
    sps = parse_sps(Mp4File(data).parameter_sets.sps[0])
    assert (sps.max_ref_frames, sps.is_reorder_told, sps.reorder_frames) == (1, False, 0)


@pytest.mark.parametrize(
    "unit",
    [
        b"",
        b"\x67",
        SPS[:4],
        SPS[:8],
        b"\xe7" + SPS[1:],
        b"\x68" + SPS[1:],
        PPS,
        SPS[:4] + bytes(2000),
        b"\x67" * 70_000,
    ],
    ids=[
        "nothing",
        "one byte",
        "only the profile",
        "half",
        "forbidden bit",
        "of another type",
        "a PPS",
        "zeros",
        "too long",
    ],
)
def test_what_is_no_sps_is_refused(unit):
    with pytest.raises(h264.BadH264):
        sps = parse_sps(unit)
        raise AssertionError(f"taken for {sps}")


@given(st.binary(max_size=300))
def test_any_bytes_are_a_parameter_set_or_refused(data):
    for parse, head in ((parse_sps, b"\x67"), (pps_ids, b"\x68")):
        for unit in (data, head + data, SPS[:4] + data, bytes.fromhex("67f4001e") + data):
            try:
                value = parse(unit)
            except h264.BadH264:
                continue
            if isinstance(value, Sps):
                assert 0 < value.width <= 16_384 and 0 < value.height <= 16_384 and 0 <= value.reorder_frames <= 16


@given(st.integers(0, len(SPS) * 8 - 1), st.integers(0, len(SPS)))
def test_a_damaged_parameter_set_is_read_or_refused(bit, end):
    damaged = bytearray(SPS)
    damaged[bit // 8] ^= 1 << bit % 8
    for unit in (damaged, SPS[:end], memoryview(bytes(damaged))[:end]):
        try:
            parse_sps(unit)
        except h264.BadH264:
            pass


def test_a_parameter_set_replaces_the_one_with_its_number():
    store = ParameterSetStore(ParameterSets((SPS,), (PPS,)))
    assert store.current() == ParameterSets((SPS,), (PPS,))
    other = SPS[:3] + b"\x1e" + SPS[4:]  # another level, the same number
    store.add(memoryview(other))
    assert store.current() == ParameterSets((other,), (PPS,))
    with pytest.raises(h264.BadH264):
        store.add(SPS[:5])
    assert store.current().sps == (other,)
