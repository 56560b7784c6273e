from __future__ import annotations

import itertools

import pytest
from films import footage, opened
from hypothesis import given
from hypothesis import strategies as st

from nvr.parameter_sets import parse_sps
from nvr.rtsp.decode_clock import DecodeClock


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
    sps = parse_sps(config[8 : 8 + int.from_bytes(config[6:8], "big")])
    picture_ticks = sorted(shown)[1] - sorted(shown)[0]
    clock = DecodeClock(sps.reorder_frames, picture_ticks)
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
    clock = DecodeClock(0)
    for ticks in shown:
        clock.times(ticks)
    assert clock.needed_frames == 2


@given(st.integers(0, 16), st.lists(st.integers(-(2**40), 2**40), max_size=60))
def test_decoding_times_rise_and_nothing_is_shown_before_it_is_decoded(reorder_frames, shown):
    clock = DecodeClock(reorder_frames, 3600)
    last = -1
    for ticks in shown:
        decode, composition = clock.times(ticks)
        assert decode > last and composition >= 0
        last = decode


@given(st.permutations(range(12)), st.integers(1, 5000))
def test_enough_reordering_keeps_every_picture_at_its_time(order, picture_ticks):
    """For any order whatever: a clock with as many frames as were needed moves all pictures by the same amount."""
    probe = DecodeClock(16, picture_ticks)
    shown = [0] + [(1 + place) * picture_ticks for place in order]
    for ticks in shown:
        probe.times(ticks)
    clock = DecodeClock(probe.needed_frames, picture_ticks)
    assert {
        decode + composition - ticks
        for ticks, (decode, composition) in zip(shown, map(clock.times, shown), strict=True)
    } == {probe.needed_frames * picture_ticks}
