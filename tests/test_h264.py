from __future__ import annotations

import itertools

import pytest
from films import CLIPS, DRAWN, FOOTAGE, footage, opened
from hypothesis import given
from hypothesis import strategies as st

from nvr import h264
from nvr.media import ParameterSets
from nvr.mp4file import Mp4File

BYTE_STREAMS = sorted(
    path.relative_to(FOOTAGE).as_posix() for path in FOOTAGE.glob("**/*.*") if path.suffix in (".264", ".h264", ".jsv")
) or ["none.h264"]  # skipped with its reason where the collection is not at hand

# What x264 writes for 800x600, 25 fps, with B pictures.
SPS = bytes.fromhex("6764001facd940c8137e5840000003004000000c83c60c6580")
PPS = bytes.fromhex("68ef8fcb")


def units_of(name: str) -> list[bytes]:
    data = footage(name).read_bytes()
    return [data[offset : offset + size] for offset, size in h264.annex_b_units(data)]


# -- parameter sets ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BYTE_STREAMS)
def test_size_and_profile_in_a_byte_stream_are_those_that_a_decoder_finds(name):
    sps = h264.parse_sps(next(unit for unit in units_of(name) if h264.nal_type(unit) == h264.SPS))
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
    sps = h264.parse_sps(Mp4File(data).parameter_sets.sps[0])
    with opened(footage(name)) as container:
        context = container.streams.video[0].codec_context
        assert (sps.width, sps.height) == (context.width, context.height)
        assert sps.reorder_frames >= int(context.has_b_frames)


def test_cropping_and_pixel_shape_are_read():
    assert (lambda sps: (sps.width, sps.height))(h264.parse_sps(units_of("conformance/CVFC1_Sony_C.jsv")[0])) == (
        300,
        168,
    )
    assert h264.parse_sps(units_of("conformance/SarVui.264")[0]).sample_aspect == (80, 33)


def test_a_camera_that_tells_its_reordering_is_believed():
    sps = h264.parse_sps(SPS)
    assert (sps.width, sps.height, sps.codec) == (800, 600, "avc1.64001f")
    assert sps.reorder_frames == 2 and sps.is_reorder_told and sps.fps == 25.0


def test_a_silent_camera_with_one_reference_picture_has_no_b_pictures():
    data = footage("vehicle_street.mp4").read_bytes()
    sps = h264.parse_sps(Mp4File(data).parameter_sets.sps[0])
    assert (sps.max_ref_frames, sps.is_reorder_told, sps.reorder_frames) == (1, False, 0)


def test_emulation_prevention_is_taken_out():
    assert h264.rbsp(bytes.fromhex("67 000003 01 000003 000003 02")) == bytes.fromhex("0000 01 0000 0000 02")
    assert h264.rbsp(b"") == b"" == h264.rbsp(b"\x67")


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
        sps = h264.parse_sps(unit)
        raise AssertionError(f"taken for {sps}")


@given(st.binary(max_size=300))
def test_any_bytes_are_a_parameter_set_or_refused(data):
    for parse, head in ((h264.parse_sps, b"\x67"), (h264.pps_ids, b"\x68")):
        for unit in (data, head + data, SPS[:4] + data, bytes.fromhex("67f4001e") + data):
            try:
                value = parse(unit)
            except h264.BadH264:
                continue
            if isinstance(value, h264.Sps):
                assert 0 < value.width <= 16_384 and 0 < value.height <= 16_384 and 0 <= value.reorder_frames <= 16


@given(st.integers(0, len(SPS) * 8 - 1), st.integers(0, len(SPS)))
def test_a_damaged_parameter_set_is_read_or_refused(bit, end):
    damaged = bytearray(SPS)
    damaged[bit // 8] ^= 1 << bit % 8
    for unit in (damaged, SPS[:end], memoryview(bytes(damaged))[:end]):
        try:
            h264.parse_sps(unit)
        except h264.BadH264:
            pass


def test_a_parameter_set_replaces_the_one_with_its_number():
    store = h264.ParameterSetStore(ParameterSets((SPS,), (PPS,)))
    assert store.current() == ParameterSets((SPS,), (PPS,))
    other = SPS[:3] + b"\x1e" + SPS[4:]  # another level, the same number
    store.add(memoryview(other))
    assert store.current() == ParameterSets((other,), (PPS,))
    with pytest.raises(h264.BadH264):
        store.add(SPS[:5])
    assert store.current().sps == (other,)


# -- access units ------------------------------------------------------------------------------------


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
    assert [boundary.is_first(unit) for unit in (b"\x09\xf0", SPS, PPS, first, later, later)] == [False] * 6
    assert boundary.is_first(first)
    assert [boundary.is_first(unit) for unit in (later, b"\x0c\xff", later)] == [False] * 3
    assert boundary.is_first(b"\x06\x05") and not boundary.is_first(SPS) and not boundary.is_first(first)
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


# -- decoding time -----------------------------------------------------------------------------------


def presentation_times(name: str) -> tuple[list[int], list[int], bytes]:
    """Presentation and decoding times in ticks as the file has them, and its SPS."""
    with opened(footage(name)) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        scale = stream.time_base * 90_000
        extradata = stream.codec_context.extradata
        shown = [round(packet.pts * scale) for packet in packets]
        return shown, [round(packet.dts * scale) for packet in packets if packet.dts is not None], extradata


@pytest.mark.parametrize(
    "name",
    ["one-by-one-person-detection.mp4", "otvision_cars-truck_fr20.mp4", "person_close_walk.mkv", "vehicle_street.mp4"],
)
def test_decoding_times_of_real_b_pictures_are_made_from_what_a_camera_tells(name):
    """RTP carries presentation times only; what comes out keeps every picture's place, and is the file's own order of decoding."""
    shown, decoded, config = presentation_times(name)
    sps = h264.parse_sps(config[8 : 8 + int.from_bytes(config[6:8], "big")])
    picture_ticks = sorted(shown)[1] - sorted(shown)[0]
    clock = h264.DecodeClock(sps.reorder_frames, picture_ticks)
    times = [clock.times(ticks) for ticks in shown]
    lead = sps.reorder_frames * picture_ticks
    assert [decode + composition - lead for decode, composition in times] == [ticks - shown[0] for ticks in shown]
    decodes = [decode for decode, _ in times]
    assert decodes[0] == 0 and all(before < after for before, after in itertools.pairwise(decodes))
    assert clock.needed_frames <= sps.reorder_frames
    if len(decoded) < len(shown):
        return  # Matroska has no decoding times
    # The file's own decoding times are ours but for a constant, where pictures come at a steady rate.
    apart = {
        round((mine - theirs - decodes[-1] + decoded[-1]) / picture_ticks, 1)
        for mine, theirs in zip(decodes, decoded, strict=True)
    }
    assert apart == {0.0}


def test_a_clock_that_expects_too_little_reordering_says_what_it_takes():
    shown, _, _ = presentation_times("otvision_cars-truck_fr20.mp4")
    clock = h264.DecodeClock(0)
    for ticks in shown:
        clock.times(ticks)
    assert clock.needed_frames == 2


@given(st.integers(0, 16), st.lists(st.integers(-(2**40), 2**40), max_size=60))
def test_decoding_times_rise_and_nothing_is_shown_before_it_is_decoded(reorder_frames, shown):
    clock = h264.DecodeClock(reorder_frames, 3600)
    last = -1
    for ticks in shown:
        decode, composition = clock.times(ticks)
        assert decode > last and composition >= 0
        last = decode


@given(st.permutations(range(12)), st.integers(1, 5000))
def test_enough_reordering_keeps_every_picture_at_its_time(order, picture_ticks):
    """For any order whatever: a clock with as many frames as were needed moves all pictures by the same amount."""
    probe = h264.DecodeClock(16, picture_ticks)
    shown = [0] + [(1 + place) * picture_ticks for place in order]
    for ticks in shown:
        probe.times(ticks)
    clock = h264.DecodeClock(probe.needed_frames, picture_ticks)
    assert {
        decode + composition - ticks
        for ticks, (decode, composition) in zip(shown, map(clock.times, shown), strict=True)
    } == {probe.needed_frames * picture_ticks}
