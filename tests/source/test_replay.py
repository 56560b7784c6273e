from __future__ import annotations

import functools
import gc
import io
import itertools
import mmap
import shutil
import struct
import tempfile
from pathlib import Path

import pytest
from films import CLIPS, DRAWN, built, first_page, footage, fragments_of, play, segment_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pretend import nal_units
from source_suite import Rig, SourceSuite

from nvr import h264
from nvr.errors import NvrError
from nvr.fmp4 import BadAtom, atoms
from nvr.gather import Gather
from nvr.media import TICKS_PER_S, AccessUnit, Cause, RunEnded, RunStarted, StreamEvent
from nvr.mp4file import Mp4File, NoH264
from nvr.source.replay import BadReplay, Replay

av = pytest.importorskip("av", reason="needs PyAV, the second opinion")

NS_PER_S = 1_000_000_000
FILM = DRAWN[0]  # 10 s, 25 pictures a second, a keyframe every second


def drained(source: Replay, *, until_s: float, step_s: float = 0.1, from_s: float = 0.0) -> list[StreamEvent]:
    """What a source gives when it is asked every `step_s`."""
    events: list[StreamEvent] = []
    for step in range(round((until_s - from_s) / step_s) + 1):
        events += source.drain(round((from_s + step * step_s) * NS_PER_S))
    return events


def units(events: list[StreamEvent]) -> list[AccessUnit]:
    return [event for event in events if isinstance(event, AccessUnit)]


def payload(unit: AccessUnit) -> bytes:
    return b"".join(unit.payload.views())


def assert_is_a_stream(events: list[StreamEvent]) -> None:
    """What Source promises: runs, each from a keyframe at tick 0, decoding times strictly rising."""
    running, last = False, -1
    for event in events:
        if isinstance(event, RunStarted):
            assert not running
            running, last = True, -1
        elif isinstance(event, AccessUnit):
            assert running
            assert event.is_keyframe and event.decode_ticks == 0 if last < 0 else event.decode_ticks > last
            assert event.composition_ticks >= 0
            last = event.decode_ticks
        else:
            running = False


# -- what every source does ----------------------------------------------------------------------------


class TestReplayOfAFile(SourceSuite):
    @pytest.fixture(
        params=[*DRAWN, "vehicle_street.mp4", "otvision_cars-truck_fr20.mp4", "otvision_cars-truck_fr20.h264"]
    )
    def rig(self, request):
        path = footage(request.param)
        (started, *_), found = play(path), units(play(path))
        pictures = [tuple(nal_units(payload(unit))) for unit in found]
        return Rig(
            make=lambda: Replay(path, loop=True, speed=8.0), size=(started.width, started.height), pictures=lambda: pictures * 3
        )  # fmt: skip


# -- what a file holds ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", (*CLIPS, *DRAWN))
def test_every_picture_of_a_file_is_what_pyav_reads(name):
    found = units(play(footage(name)))
    with av.open(str(footage(name))) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        scale = stream.time_base * 90_000
    assert [payload(unit) for unit in found] == [bytes(packet) for packet in packets]
    assert [unit.is_keyframe for unit in found] == [packet.is_keyframe for packet in packets]
    apart_decode = {round(packet.dts * scale) - unit.decode_ticks for unit, packet in zip(found, packets, strict=True)}
    apart_shown = {
        round(packet.pts * scale) - unit.decode_ticks - unit.composition_ticks
        for unit, packet in zip(found, packets, strict=True)
    }
    assert max(apart_decode) - min(apart_decode) <= 1 and max(apart_shown) - min(apart_shown) <= 1


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"movflags": "faststart"},
        {"movflags": "frag_keyframe+empty_moov"},
        {"movflags": "frag_keyframe+empty_moov+default_base_moof+negative_cts_offsets"},
        {"movflags": "frag_every_frame+empty_moov+omit_tfhd_offset"},
        {"movflags": "negative_cts_offsets"},
        {"video_track_timescale": "600"},
        {"movflags": "dash+frag_keyframe", "brand": "iso6"},
    ],
    ids=lambda options: " ".join(options.values()) or "plain",
)  # fmt: skip
@pytest.mark.parametrize("name", [*DRAWN, "otvision_cars-truck_fr20.mp4", "car-detection.mp4"])
def test_every_kind_of_mp4_gives_the_same_pictures_at_the_same_times(name, options, tmp_path):
    """The same film as other writers lay it out: moov at the end, fragments of every sort, negative offsets, odd time scales."""
    path = tmp_path / "film.mp4"
    with av.open(str(footage(name))) as source, av.open(str(path), "w", format="mp4", options=options) as target:
        stream = source.streams.video[0]
        copied = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.size:
                packet.stream = copied
                target.mux(packet)
    before, after = units(play(footage(name))), units(play(path))
    assert [payload(unit) for unit in after] == [payload(unit) for unit in before]
    scale = TICKS_PER_S // 600 if "video_track_timescale" in options else 1
    for mine, theirs in zip(after, before, strict=True):
        assert abs(mine.decode_ticks - theirs.decode_ticks) <= 2 * scale
        shown = mine.decode_ticks + mine.composition_ticks - after[0].composition_ticks
        assert abs(shown - (theirs.decode_ticks + theirs.composition_ticks - before[0].composition_ticks)) <= 3 * scale


def test_nothing_is_copied_on_the_way():
    """The bytes that are handed on are the mapping of the file itself."""
    for unit in units(play(footage(FILM))):
        (view,) = unit.payload.views()
        assert isinstance(view.obj, mmap.mmap)


def test_a_byte_stream_gets_its_times_from_the_setting_and_lengths_before_its_nal_units():
    path = footage("otvision_cars-truck_fr20.h264")
    found = units(play(path, fps=20))
    assert [unit.decode_ticks for unit in found] == [number * 4500 for number in range(60)]
    pieces = found[0].payload.views()
    assert [struct.unpack(">I", size)[0] for size in pieces[::2]] == [len(unit) for unit in pieces[1::2]]
    assert all(isinstance(unit.obj, mmap.mmap) for unit in pieces[1::2])
    assert b"".join(b"".join(unit.payload.views()[1::2]) for unit in found) == b"".join(
        path.read_bytes()[offset : offset + size] for offset, size in h264.annex_b_units(path.read_bytes())
    )


def test_lengths_of_two_bytes_become_four(tmp_path):
    """14496-15 allows 1, 2 and 4 bytes before a NAL unit; fragments have 4."""
    started, *others = play(footage(FILM))
    before = [unit for unit in units(others) if unit.payload.size_bytes < 60_000]
    short = []
    for unit in before:
        data, place, body = payload(unit), 0, b""
        while place < len(data):
            size = int.from_bytes(data[place : place + 4], "big")
            body += struct.pack(">H", size) + data[place + 4 : place + 4 + size]
            place += 4 + size
        gather = Gather()
        gather.append(memoryview(body))
        short.append(AccessUnit(gather, unit.decode_ticks, unit.composition_ticks, unit.arrival_ns, unit.is_keyframe))
    segment = segment_of([started, *short])
    config = segment.index(b"avcC") + 4
    path = tmp_path / "short.mp4"
    path.write_bytes(segment[: config + 4] + b"\xfd" + segment[config + 5 :])
    assert [payload(unit) for unit in units(play(path))] == [payload(unit) for unit in before]


def test_changed_parameter_sets_start_another_run(tmp_path):
    """Two films one behind the other in one byte stream, as a camera that is switched to another size sends them."""
    path = tmp_path / "two.264"
    path.write_bytes(
        footage("conformance/BA_MW_D.264").read_bytes() + footage("conformance/CVFC1_Sony_C.jsv").read_bytes()
    )
    events = play(path)
    assert_is_a_stream(events)
    assert [(event.width, event.height) for event in events if isinstance(event, RunStarted)] == [
        (176, 144),
        (300, 168),
    ]
    assert len(units(events)) == 150


def test_pictures_before_the_first_keyframe_are_left_out():
    events = play(footage("conformance/BA_MW_D_IDR_LOST.264"))
    assert_is_a_stream(events)
    assert len(units(events)) == 70


# -- time ----------------------------------------------------------------------------------------------


def test_a_file_is_played_in_its_own_time():
    source = Replay(footage(FILM), loop=False, speed=1.0)
    events = drained(source, until_s=2.0)
    assert_is_a_stream(events)
    assert len(units(events)) == pytest.approx(50, abs=2)
    assert units(events)[-1].decode_ticks <= 2 * TICKS_PER_S
    assert units(source.drain(2 * NS_PER_S)) == []
    for unit in units(events):
        assert unit.arrival_ns == pytest.approx(unit.decode_ticks * 100_000 / 9, abs=1)


def test_a_file_is_played_three_times_as_fast():
    source = Replay(footage(FILM), loop=False, speed=3.0)
    assert units(drained(source, until_s=2.0))[-1].decode_ticks == pytest.approx(6 * TICKS_PER_S, abs=4000)


def test_as_fast_as_it_goes_gives_two_seconds_at_a_time():
    source = Replay(footage(FILM), loop=False, speed=None)
    for _ in range(4):
        found = units(source.drain(0))
        assert 0 < found[-1].decode_ticks - found[0].decode_ticks <= 2 * TICKS_PER_S


def test_as_fast_as_it_goes_gets_over_a_long_pause_in_the_file(tmp_path):
    """Two pictures with an hour between them."""
    events = play(footage(FILM))
    started, first, *others = events
    late = next(unit for unit in others if isinstance(unit, AccessUnit) and unit.is_keyframe)
    moved = AccessUnit(late.payload, 3600 * TICKS_PER_S, 0, 0, True)
    path = tmp_path / "pause.mp4"
    path.write_bytes(segment_of([started, first, moved]))
    assert [unit.decode_ticks for unit in units(play(path))] == [0, 3600 * TICKS_PER_S]


@pytest.mark.parametrize("speed", [1.0, 8.0, None])
@pytest.mark.parametrize(
    "name", ["vehicle_street.mp4", "otvision_cars-truck_fr20.mp4", "otvision_cars-truck_fr20.h264"]
)
def test_in_a_loop_ticks_go_on_rising_in_the_same_run(name, speed):
    source = Replay(footage(name), loop=True, speed=speed)
    events = drained(source, until_s=30, step_s=0.5)
    assert_is_a_stream(events)
    assert sum(isinstance(event, RunStarted) for event in events) == 1
    assert not any(isinstance(event, RunEnded) for event in events)
    steps = [after.decode_ticks - before.decode_ticks for before, after in itertools.pairwise(units(events))]
    assert max(steps) <= 2 * min(steps)  # the seam is no longer than any other step
    assert source.facts()["loops"] >= 2


def test_in_a_loop_a_last_picture_without_duration_gets_that_of_the_others(tmp_path):
    """Many writers end their tables with a duration of 0."""
    started, *found = play(footage(FILM))[:26]
    fragment = built(units(found), [3600] * 24 + [0], sequence=1)
    path = tmp_path / "film.mp4"
    path.write_bytes(first_page(started) + fragment.data)
    ticks = [unit.decode_ticks for unit in units(drained(Replay(path, loop=True, speed=1.0), until_s=5))]
    assert len(ticks) > 100 and {after - before for before, after in itertools.pairwise(ticks)} == {3600}


def test_a_loop_over_files_whose_parameter_sets_change_starts_runs_again(tmp_path):
    path = tmp_path / "two.264"
    path.write_bytes(
        footage("conformance/BA_MW_D.264").read_bytes() + footage("conformance/CVFC1_Sony_C.jsv").read_bytes()
    )
    source = Replay(path, loop=True, speed=None)
    events = drained(source, until_s=1.0)
    assert_is_a_stream(events)
    assert [event.width for event in events if isinstance(event, RunStarted)][:4] == [176, 300, 176, 300]


def test_after_a_pause_of_the_machine_the_film_goes_on_where_it_was():
    """A laptop that slept for an hour must not get an hour of video at once."""
    source = Replay(footage(FILM), loop=True, speed=1.0)
    before = units(drained(source, until_s=1.0))[-1]
    after = drained(source, from_s=3601, until_s=3602)
    assert units(after)[0].decode_ticks - before.decode_ticks <= 4000
    assert len(units(after)) == pytest.approx(25, abs=2)


# -- ends and errors -----------------------------------------------------------------------------------


def test_the_end_is_final_and_is_said_once():
    source = Replay(footage(FILM), loop=False, speed=None)
    events = drained(source, until_s=5)
    assert isinstance(events[-1], RunEnded) and events[-1].is_final
    assert sum(isinstance(event, RunEnded) for event in events) == 1
    assert source.drain(10 * NS_PER_S) == []


def test_access_units_outlive_their_source():
    source = Replay(footage(FILM), loop=False, speed=None)
    found = units(source.drain(0))
    before = [payload(unit) for unit in found]
    source.close()
    source.close()
    assert source.drain(NS_PER_S) == []
    del source
    gc.collect()
    assert [payload(unit) for unit in found] == before


def final(path: Path) -> RunEnded:
    (event,) = Replay(path, loop=True, speed=1.0).drain(0)
    assert isinstance(event, RunEnded) and event.is_final and event.cause is Cause.CAMERA
    return event


def test_what_cannot_be_played_is_refused_by_name(tmp_path):
    assert "No such file" in final(tmp_path / "none.mp4").detail
    path = tmp_path / "film.mp4"
    for data, said in (
        (b"", "empty"),
        (b"\x1a\x45\xdf\xa3" + bytes(20), "MKV"),
        (b"\x1a\x45\xdf\xa3" + bytes(20), "ffmpeg -i"),
        (b"RIFF1234AVI LIST", "neither MP4"),
        (bytes(100), "neither MP4"),
        (b"\0\0\0\1\x09\xf0", "no keyframe"),
        (b"\0\0\0\1\x65\x88\x84", "no parameter sets"),
        (struct.pack(">I4s", 8, b"free"), "no moov"),
    ):
        path.write_bytes(data)
        assert said in final(path).detail


def test_another_codec_is_refused_by_its_name(tmp_path):
    data = footage(FILM).read_bytes()
    with pytest.raises(NoH264, match=r"H\.265"):
        Mp4File(data.replace(b"avc1", b"hvc1").replace(b"avcC", b"hvcC"))
    with pytest.raises(
        NoH264, match=r"H\.265"
    ):  # QuickTime has a second handler, for the data, behind the one for video
        Mp4File(data.replace(b"avc1", b"hvc1").replace(b"avcC", b"hvcC").replace(b"dinf", b"hdlr"))
    with pytest.raises(NoH264, match="no video"):
        Mp4File(data.replace(b"avc1", b"xxxx").replace(b"vide", b"soun"))


def test_a_file_that_was_cut_short_is_played_up_to_there(tmp_path):
    whole = footage(FILM).read_bytes()
    path = tmp_path / "film.mp4"
    segment = segment_of(play(footage(FILM)))
    for data in (whole[: len(whole) * 2 // 3], segment[: len(segment) // 2]):
        path.write_bytes(data)
        events = play(path)
        assert_is_a_stream(events)
        assert 50 < len(units(events)) < len(units(play(footage(FILM))))
        assert "cut short" in events[-1].detail


def test_a_file_that_shrinks_while_it_plays_ends_the_play(tmp_path):
    """Reading a mapping behind the end of its file kills a process (SIGBUS), so nothing more is taken from it."""
    path = tmp_path / "film.mp4"
    shutil.copyfile(footage(FILM), path)
    source = Replay(path, loop=True, speed=1.0)
    assert units(drained(source, until_s=0.5))
    with open(path, "r+b") as file:
        file.truncate(1000)
    (event,) = source.drain(NS_PER_S)
    assert isinstance(event, RunEnded) and event.is_final and "shorter" in event.detail
    assert source.drain(2 * NS_PER_S) == []


def test_a_damaged_picture_is_left_out_and_counted(tmp_path):
    data = bytearray(footage(FILM).read_bytes())
    place = list(Mp4File(bytes(data)).samples())[10].offset
    data[place : place + 4] = b"\xff\xff\xff\xf0"
    path = tmp_path / "film.mp4"
    path.write_bytes(data)
    source = Replay(path, loop=False, speed=None)
    found = units(drained(source, until_s=5))
    assert len(found) == 249 and source.facts()["damaged"] == 1
    assert [unit.lost_packets for unit in found[9:12]] == [0, 1, 0]


@pytest.mark.parametrize(
    ("speed", "fps"), [(0.0, None), (-1.0, None), (1e9, None), (1.0, 0.0), (1.0, -5.0), (float("nan"), None)]
)
def test_settings_that_make_no_sense_are_refused(speed, fps):
    with pytest.raises(BadReplay):
        Replay("film.264", loop=False, speed=speed, fps=fps)


# -- any bytes -----------------------------------------------------------------------------------------


@functools.cache
def small_films() -> list[bytes]:
    """A fragmented and a progressive file of a few pictures, so that every byte of their tables can be damaged."""
    events = play(footage(DRAWN[1]))[:9]
    assert isinstance(events[0], RunStarted)
    fragmented = first_page(events[0]) + b"".join(fragment.data for fragment in fragments_of(events))
    out = io.BytesIO()
    with av.open(str(footage(DRAWN[1]))) as source, av.open(out, "w", format="mp4") as target:
        stream = source.streams.video[0]
        copied = target.add_stream_from_template(stream)
        for packet in itertools.islice(source.demux(stream), 8):
            packet.stream = copied
            target.mux(packet)
    return [fragmented, out.getvalue()]


def _is_read_or_refused(data: bytes) -> None:
    try:
        film = Mp4File(data)
        last = -1
        for sample in itertools.islice(film.samples(), 10_000):
            assert sample.offset >= 0 and sample.size_bytes > 0 and sample.offset + sample.size_bytes <= len(data)
            assert sample.decode_ticks > last and sample.composition_ticks >= 0
            last = sample.decode_ticks
    except (BadAtom, NoH264):
        pass


@given(st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.data_too_large, HealthCheck.too_slow])
def test_a_damaged_file_is_read_as_far_as_it_goes_or_refused(data):
    film = bytearray(small_films()[data.draw(st.sampled_from((0, 1)))])
    tables = [(offset, size) for kind, offset, size, _ in atoms(bytes(film)) if kind in (b"moov", b"moof")]
    for _ in range(data.draw(st.integers(1, 4))):
        offset, size = data.draw(st.sampled_from(tables))
        place = min(offset + data.draw(st.integers(0, size - 1)), len(film) - 1)
        kind = data.draw(st.sampled_from(("byte", "number", "gone")))
        if kind == "byte":
            film[place] = data.draw(st.integers(0, 255))
        elif kind == "number":
            film[place : place + 4] = data.draw(
                st.sampled_from((bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\1", b"\x80\0\0\0"))
            )
        else:
            del film[place : place + data.draw(st.integers(1, 40))]
    _is_read_or_refused(bytes(film))


@given(st.binary(max_size=400))
def test_any_bytes_are_a_film_or_refused(data):
    for head in (b"", struct.pack(">I4s", 8 + len(data), b"moov"), struct.pack(">I4s", 8, b"ftyp")):
        _is_read_or_refused(head + data)


@given(
    st.binary(min_size=1, max_size=200),
    st.sampled_from((b"", b"\0\0\1", b"\0\0\0\1\x67", b"\0\0\0\x18ftyp", b"\x1a\x45\xdf\xa3")),
)
@settings(max_examples=60)
def test_a_replay_of_any_bytes_ends_with_a_reason(data, head):
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
        file.write(head + data)
        file.flush()
        events = play(Path(file.name))
    assert_is_a_stream(events)
    assert isinstance(events[-1], RunEnded) and events[-1].is_final


def test_every_error_says_what_to_do():
    for data in (b"", bytes(30), struct.pack(">I4s", 8, b"moov")):
        with pytest.raises(NvrError) as caught:
            Mp4File(data)
        assert str(caught.value)
