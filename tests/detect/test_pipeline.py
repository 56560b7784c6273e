"""From access units to facts: the same twice, from damaged streams too, and with as little decoding as possible."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import films
import pytest

np = pytest.importorskip("numpy", reason="detection needs numpy")
av = pytest.importorskip("av", reason="detection needs PyAV")

from nvr.detect.decoder import MAX_PIXELS, CannotDecode, Decoder  # noqa: E402
from nvr.detect.pipeline import Pipeline, Settings  # noqa: E402
from nvr.gather import Gather  # noqa: E402
from nvr.media import AccessUnit, Cause, RunEnded, RunStarted  # noqa: E402
from nvr.scene import Facts, Health, Line, Zone  # noqa: E402

CONFORMANCE = ("BA_MW_D.264", "BA_MW_D_IDR_LOST.264", "BA_MW_D_P_LOST.264", "CVFC1_Sony_C.jsv", "MIDR_MW_D.264", "MPS_MW_A.264",
               "MR1_BT_A.h264", "NRF_MW_E.264", "SVA_FM1_E.264", "SarVui.264", "Zhling_1280x720.264", "test_cif_P_CABAC_slice.264",
               "Cisco_Men_whisper_640x320_CABAC_Bframe_9.264")  # fmt: skip
MIDDLE = Line("middle", (0.5, 1.0), (0.5, 0.0))  # drawn upwards: its right hand is the picture's right
HALF = Zone("half", ((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0)))


def watch(pipeline: Pipeline, events: list, *, from_ns: int = 0) -> list[Facts]:  # type: ignore[type-arg]
    facts: list[Facts] = []
    for event in events:
        if isinstance(event, RunStarted):
            pipeline.start_run(event)
        elif isinstance(event, AccessUnit):
            facts += pipeline.take(event, from_ns + event.decode_ticks * 100_000 // 9)
        else:
            facts += pipeline.end_run()
    return facts


@pytest.mark.parametrize("name", films.DRAWN)
def test_every_picture_is_decoded_in_the_order_it_is_shown(name):
    events = films.play(films.footage(name))
    decoder = Decoder(events[0])
    times = []
    for event in events[1:]:
        if isinstance(event, AccessUnit):
            times += [
                frame.at_ns
                for frame in decoder.decode(event, (event.decode_ticks + event.composition_ticks) * 100_000 // 9)
            ]
    times += [frame.at_ns for frame in decoder.drain()]
    assert len(times) == 250
    assert times == sorted(times)
    assert decoder.damaged == 0


@pytest.mark.parametrize("name", films.DRAWN)
def test_what_goes_through_the_picture_is_followed_counted_and_found_in_its_zone(name):
    facts = watch(Pipeline("cam", (HALF,), (MIDDLE,)), films.play(films.footage(name)))
    assert len(facts) == 50
    crossings = [crossing for each in facts for crossing in each.crossings]
    assert [(crossing.line, crossing.kind, crossing.is_to_right) for crossing in crossings] == [
        ("middle", "moving", True)
    ]
    assert not facts[10].zone("half").present()
    assert facts[40].zone("half").present("moving")
    assert all(each.sight.model == "" and each.sight.kinds == {"moving"} for each in facts)


@pytest.mark.parametrize("name", films.DRAWN)
def test_the_same_film_gives_the_same_facts_to_the_last_digit(name):
    events = films.play(films.footage(name))
    first, second = (repr(watch(Pipeline("cam", (HALF,), (MIDDLE,)), events)) for _ in range(2))
    assert first == second


def damaged(events: list, seed: int) -> list:  # type: ignore[type-arg]
    """Bits turned, units cut short, pictures lost."""
    chance = random.Random(seed)
    result = []
    for event in events:
        if isinstance(event, AccessUnit):
            if chance.random() < 0.05:
                continue
            data = bytearray(films.payload_of(event))
            for _ in range(chance.choice((0, 0, 1, 5))):
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            if chance.random() < 0.05:
                del data[chance.randrange(len(data)) :]
            payload = Gather()
            payload.append(memoryview(bytes(data)))
            event = event._replace(payload=payload)
        result.append(event)
    return result


@pytest.mark.parametrize("seed", range(6))
def test_a_damaged_stream_is_counted_and_never_an_error(seed):
    events = damaged(films.play(films.footage(films.DRAWN[0])), seed)
    pipeline = Pipeline("cam", (HALF,), (MIDDLE,))
    facts = watch(pipeline, events)
    assert len(facts) > 5, "every keyframe that is whole is seen"
    assert pipeline.absent(facts[-1].at_ns, None, Health()).health.damaged > 0
    assert [each.at_ns for each in facts] == sorted({each.at_ns for each in facts})


@pytest.mark.parametrize("name", CONFORMANCE)
def test_conformance_streams_and_what_is_left_of_them_after_losses(name):
    events = films.play(films.footage(f"conformance/{name}"))
    assert watch(Pipeline("cam", (HALF,), (MIDDLE,)), events)
    watch(Pipeline("cam", (HALF,), (MIDDLE,)), damaged(events, 1))


def test_an_access_unit_of_which_nothing_is_left_does_not_end_the_stream():
    """To FFmpeg an empty packet means that the stream is over: everything behind it was refused."""
    events = films.play(films.footage(films.DRAWN[0]))
    nothing = Gather()
    nothing.append(memoryview(b"\xff\xff\xff\xff\x41"))
    events[10] = events[10]._replace(payload=nothing)
    assert len(watch(Pipeline("cam"), events)) > 30


def test_a_picture_that_no_memory_holds_is_refused_with_advice():
    started = films.play(films.footage(films.DRAWN[0]))[0]
    with pytest.raises(CannotDecode, match=f"{MAX_PIXELS} pixels at most") as refused:
        Decoder(replace(started, width=16384, height=16384))
    assert "smaller stream" in refused.value.hint


def test_while_there_is_no_picture_that_is_said_and_nothing_else():
    pipeline = Pipeline("cam", (HALF,), (MIDDLE,))
    facts = watch(pipeline, films.play(films.footage(films.DRAWN[0])))
    absent = pipeline.absent(facts[-1].at_ns + 1_000_000_000, None, Health(is_sending=False, cause=Cause.NETWORK.value))
    assert not absent.has_picture
    assert (absent.health.is_sending, absent.health.cause) == (False, "network")
    assert absent.crossings == ()
    assert absent.wall_ns is None


def test_what_was_shed_is_counted_and_nothing_is_decoded_before_the_next_keyframe():
    events = films.play(films.footage(films.DRAWN[0]))
    pipeline = Pipeline("cam")
    watch(pipeline, events[:20])
    pipeline.shed(12)
    decoded = pipeline.spent.decoded
    facts = watch(pipeline, events[32:51])  # up to the keyframe at 50, not included
    assert pipeline.spent.decoded <= decoded + 1
    assert watch(pipeline, events[51:])
    assert all(each.sight.shed == 12 for each in facts)
    assert pipeline.absent(99_000_000_000, None, Health()).health.fps == 0, "less than ten seconds were seen"


def test_wall_time_goes_with_media_time():
    events = films.play(films.footage(films.DRAWN[0]))
    pipeline = Pipeline("cam")
    pipeline.start_run(events[0])
    facts = []
    for event in events[1:]:
        if isinstance(event, AccessUnit):
            at_ns = event.decode_ticks * 100_000 // 9
            facts += pipeline.take(event, at_ns, 1_767_222_000_000_000_000 + at_ns)
    assert all(each.wall_ns == 1_767_222_000_000_000_000 + each.at_ns for each in facts)


def test_a_mask_hides_what_is_behind_it_from_everybody():
    everything = Zone("all", ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)))
    pipeline = Pipeline("cam", (HALF,), (MIDDLE,), settings=Settings(masks=(everything,)))
    facts = watch(pipeline, films.play(films.footage(films.DRAWN[0])))
    assert all(not each.tracks and each.motion_share == 0 for each in facts)
    assert pipeline.frame is not None
    assert not pipeline.frame.any()


@pytest.fixture(scope="module")
def long_film(tmp_path_factory) -> Path:
    """Five minutes of a still scene, five pictures a second; every 30 s something goes through."""
    path = tmp_path_factory.mktemp("films") / "long.mp4"
    chance = np.random.default_rng(1)
    ground = np.kron(chance.integers(60, 180, (12, 20)), np.ones((16, 16))).astype(np.float32)
    with av.open(str(path), "w", options={"movflags": "faststart"}) as target:
        stream = target.add_stream(
            "libx264", rate=5, options={"preset": "ultrafast", "bf": "0", "g": "10", "crf": "28"}
        )
        stream.width, stream.height, stream.pix_fmt = 320, 192, "yuv420p"
        for number in range(1500):
            picture = np.full((288, 320), 128, np.uint8)
            scene = ground + chance.normal(0, 0.8, ground.shape)
            if number % 150 >= 110:
                left = (number % 150 - 110) * 7
                scene[60:130, left : left + 30] = 220
            picture[:192] = np.clip(scene, 0, 255).astype(np.uint8)
            target.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "yuv420p")))
        target.mux(stream.encode(None))
    return path


@pytest.mark.slow
def test_a_quiet_scene_is_hardly_decoded_and_no_movement_is_missed(long_film):
    events = films.play(long_film)
    every, gated = Pipeline("cam", lines=(MIDDLE,), settings=Settings(is_gated=False)), Pipeline("cam", lines=(MIDDLE,))
    full, lean = watch(every, events), watch(gated, events)
    assert [each.at_ns for each in lean] == [each.at_ns for each in full], "facts come all the time"
    assert sum(len(each.crossings) for each in full) == 10
    assert sum(len(each.crossings) for each in lean) == 10
    quiet = sum(each.motion_share == 0 for each in full)
    assert gated.spent.quiet > 0.3 * quiet


def test_the_last_picture_before_a_run_ends_is_not_lost():
    events = films.play(films.footage(films.DRAWN[1]))
    assert isinstance(events[-1], RunEnded)
    pipeline = Pipeline("cam")
    assert watch(pipeline, events)[-1].at_ns >= 9_600_000_000


# -- real footage and a real model -------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(shared_data: Path):  # type: ignore[no-untyped-def]
    from nvr.detect import models, objects

    data = (shared_data / "model" / "ssd_mobilenet_v1_1_metadata.tflite").read_bytes()
    try:
        return objects.ObjectModel(models.describe(data, "ssd"), data)
    except objects.NoRuntime:
        pytest.skip("needs ai-edge-litert or tflite-runtime")


def test_a_motionless_false_person_is_never_present(model):
    """vehicle_street: the model says person, 0.50 to 0.60, on 75 % of the frames, of something that never moves."""
    gate = Line("gate", (0.30, 0.55), (0.95, 0.65))
    facts = watch(Pipeline("street", (), (gate,), model=model), films.play(films.footage("vehicle_street.mp4")))
    assert any(track.kind == "person" for each in facts for track in each.tracks)
    assert not any(each.zone("").present("person") for each in facts)
    crossings = [crossing for each in facts for crossing in each.crossings]
    assert [(crossing.kind, crossing.is_to_right) for crossing in crossings] == [("car", True)] * 4


def test_movement_from_above_is_timed_and_not_named(model):
    """car-detection: seen steeply from above, the model says cell phone of every car."""
    facts = watch(Pipeline("park", model=model), films.play(films.footage("car-detection.mp4")))
    assert {track.kind for each in facts for track in each.tracks} == {"moving"}
    moving = [each.at_ns / 1e9 for each in facts if each.motion_share > 0.02]
    for begin, end in ((4.56, 8.56), (14.64, 19.04), (25.28, 27.84)):
        inside = [at_s for at_s in moving if begin - 2 < at_s < end + 2]
        assert abs(inside[0] - begin) <= 0.6
        assert abs(inside[-1] - end) <= 0.6


@pytest.mark.slow
def test_six_who_come_one_after_the_other_are_six(model):
    facts = watch(Pipeline("room", model=model), films.play(films.footage("one-by-one-person-detection.mp4")))
    visits = [
        (62, 197),
        (228, 447),
        (507, 697),
        (747, 866),
        (927, 1197),
        (1237, 1357),
    ]  # frames at 10 a second, by hand
    sure = [each for each in facts if all(abs(each.at_ns / 1e8 - edge) > 12 for visit in visits for edge in visit)]
    right = [
        each
        for each in sure
        if len(each.zone("").present("person")) == sum(a <= each.at_ns / 1e8 <= b for a, b in visits)
    ]
    assert len(right) >= 0.97 * len(sure)
    assert len({each.track.number for one in facts for each in one.zone("").present("person")}) == 6
