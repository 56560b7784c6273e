"""Pictures to runs: where a run starts, why it ends, and the ticks in between."""

from __future__ import annotations

import random

import pytest

from nvr.clock import RunClock
from nvr.gather import Gather
from nvr.media import AccessUnit, AccessUnits, Cause, ParameterSets, RunEnded, RunStarted
from nvr.rtsp.rtcp import SenderReport
from nvr.rtsp.run import Learned, Runs
from rtsp.streams import OTHER_SPS, PPS, SPS, nals_of, payload_of

NONE = ParameterSets((), ())
OFFERED = ParameterSets((SPS,), (PPS,))
# Main profile with bitstream_restriction: up to 2 pictures are reordered (from x264 -bf 2, 1280x720).
REORDERED_SPS = bytes.fromhex("674d401feca02802dd8088000003000800000301e078c18cb0")


def picture(
    ts: int,
    *,
    key: bool = False,
    lost: int = 0,
    sets: tuple[bytes, ...] = (),
    arrival_ns: int | None = None,
    restarted: bool = False,
):
    gather = Gather()
    gather.append(memoryview(b"\0\0\0\1\x65"))
    arrival_ns = ts * 100_000 // 9 if arrival_ns is None else arrival_ns
    return (gather, ts & 0xFFFFFFFF, key, lost, sets, arrival_ns, restarted)


def push(runs: Runs, *pictures):
    return [event for one in pictures for event in runs.push(one)]


def kinds(events) -> str:
    return "".join({RunStarted: "S", AccessUnit: "a", RunEnded: "E"}[type(event)] for event in events)


def test_a_run_starts_at_the_first_keyframe_at_tick_0():
    runs = Runs(OFFERED, "rtsp/tcp")
    events = push(runs, picture(1000), picture(4600, key=True, sets=(SPS, PPS)), picture(8200))
    assert kinds(events) == "Saa"
    assert events[0] == RunStarted(OFFERED, 240, 160, "rtsp/tcp")
    assert [(unit.decode_ticks, unit.composition_ticks, unit.is_keyframe) for unit in events[1:]] == [
        (0, 0, True),
        (3600, 0, False),
    ]
    assert runs.skipped == 1


def test_parameter_sets_may_come_in_the_stream_alone():
    runs = Runs(NONE, "")
    events = push(runs, picture(0, key=True), picture(3600), picture(7200, key=True, sets=(SPS, PPS)))
    assert kinds(events) == "ESa"
    assert "without parameter sets" in events[0].detail


def test_other_parameter_sets_start_a_new_run_at_their_keyframe():
    runs = Runs(OFFERED, "")
    events = push(
        runs, picture(0, key=True), picture(3600), picture(7200, key=True, sets=(OTHER_SPS, PPS)), picture(10_800)
    )
    assert kinds(events) == "SaaESaa"
    assert events[3].cause is Cause.CAMERA
    assert (events[4].width, events[4].height) == (2560, 1440)
    assert events[5].decode_ticks == 0


def test_the_same_parameter_sets_again_change_nothing():
    runs = Runs(OFFERED, "")
    events = push(runs, *(picture(n * 3600, key=n % 3 == 0, sets=(SPS, PPS) if n % 3 == 0 else ()) for n in range(9)))
    assert kinds(events) == "S" + "a" * 9


def test_changed_parameter_sets_without_their_keyframe_end_the_run_until_the_next():
    runs = Runs(OFFERED, "")
    events = push(
        runs, picture(0, key=True), picture(3600, lost=3, sets=(OTHER_SPS,)), picture(7200), picture(10_800, key=True)
    )
    assert kinds(events) == "SaESa"
    assert events[-1].lost_packets == 3


def test_trailing_zeros_and_start_codes_do_not_make_another_parameter_set():
    runs = Runs(OFFERED, "")
    events = push(
        runs, picture(0, key=True, sets=(SPS + b"\0\0\0\1", PPS + b"\0")), picture(3600, key=True, sets=(SPS, PPS))
    )
    assert kinds(events) == "Saa"


def test_ticks_go_on_over_the_wrap_of_the_time_stamp():
    runs = Runs(OFFERED, "")
    start = (1 << 32) - 5000
    events = push(runs, *(picture(start + n * 3600, key=n == 0) for n in range(5)))
    assert [unit.decode_ticks for unit in events[1:]] == [0, 3600, 7200, 10_800, 14_400]


def test_time_stamps_that_jump_end_the_run():
    for jump in (90_000 * 3600, -90_000 * 60):
        runs = Runs(OFFERED, "")
        later = 90_000 * 7200
        events = push(
            runs,
            picture(later, key=True, arrival_ns=0),
            picture(later + jump, arrival_ns=40_000_000),
            picture(later + jump + 3600, key=True, arrival_ns=80_000_000),
        )
        assert kinds(events) == "SaESa"
        assert "time stamps jumped" in events[2].detail


def test_silence_is_no_jump():
    runs = Runs(OFFERED, "")
    events = push(runs, picture(0, key=True), picture(90_000 * 30))
    assert kinds(events) == "Saa"
    assert events[2].decode_ticks == 90_000 * 30


def test_a_network_that_holds_back_and_delivers_at_once_is_no_jump():
    runs = Runs(OFFERED, "")
    events = push(runs, *(picture(n * 3600, key=n == 0, arrival_ns=60_000_000_000 if n else 0) for n in range(200)))
    assert kinds(events) == "S" + "a" * 200


def test_a_time_stamp_that_repeats_still_rises():
    runs = Runs(OFFERED, "")
    events = push(runs, picture(0, key=True), picture(0), picture(3600))
    assert [unit.decode_ticks for unit in events[1:]] == [0, 1, 3600]


def test_a_camera_whose_time_stands_still_is_recorded_by_ours():
    runs = Runs(OFFERED, "")
    began_ns, fps, count = 7_000_000_000, 25, 25 * 60
    pictures = [picture(5000, key=n % 50 == 0, arrival_ns=began_ns + n * 10**9 // fps) for n in range(count)]
    events = [event for turn in range(0, count, 3) for event in runs.push_all(pictures[turn : turn + 3])]
    assert kinds(events).replace("ES", "") == "S" + "a" * count
    assert kinds(events).count("E") <= 1  # it looks as if pictures were reordered, and that is believed once
    ticks = [unit.decode_ticks for unit in events if isinstance(unit, AccessUnit)]
    assert 56 * 90_000 < max(ticks) <= 60 * 90_000
    again = runs.push_all(
        [picture(5000 + n * 3600, key=n == 1, arrival_ns=began_ns + 60 * 10**9 + n * 40_000_000) for n in range(1, 50)]
    )
    assert kinds(again) == "a" * 49  # and goes on when it moves again
    assert again[-1].decode_ticks - ticks[-1] == pytest.approx(49 * 3600, abs=2 * 3600)


def test_a_sender_that_began_anew_starts_a_new_run():
    runs = Runs(OFFERED, "")
    events = push(runs, picture(0, key=True), picture(50, restarted=True), picture(3650, key=True))
    assert kinds(events) == "SaESa"


def test_pictures_in_decoding_order_get_decoding_times_that_rise():
    runs = Runs(ParameterSets((REORDERED_SPS,), (PPS,)), "")
    shown = [0, 4, 2, 1, 3, 8, 6, 5, 7]
    events = push(runs, *(picture(9000 + n * 3600, key=n == 0, arrival_ns=0) for n in shown))
    units = events[1:]
    decode = [unit.decode_ticks for unit in units]
    assert decode == sorted(set(decode)) and decode[0] == 0
    assert all(unit.composition_ticks >= 0 for unit in units)
    on_screen = [unit.decode_ticks + unit.composition_ticks for unit in units]
    assert [value - on_screen[0] for value in on_screen] == [n * 3600 for n in shown]


def test_b_pictures_that_the_parameter_sets_did_not_announce_are_learned():
    runs = Runs(OFFERED, "")
    gop = [0, 2, 1, 4, 3]
    events = push(runs, *(picture(9000 + (g * 5 + n) * 3600, key=n == 0, arrival_ns=0) for g in range(3) for n in gop))
    assert kinds(events) == "SaaaaaESaaaaaaaaaa"
    units = events[8:]
    on_screen = [unit.decode_ticks + unit.composition_ticks for unit in units]
    assert sorted(on_screen) == [on_screen[0] + n * 3600 for n in range(10)]


def test_a_parameter_set_that_cannot_be_read_is_said_once():
    runs = Runs(NONE, "")
    bad = b"\x67\xff"
    events = push(runs, picture(0, key=True, sets=(bad, PPS)), picture(3600, key=True, sets=(bad, PPS)))
    assert kinds(events) == "E"
    assert "cannot be read" in events[0].detail


def test_the_cameras_own_clock_is_told_with_each_picture():
    runs = Runs(OFFERED, "")
    before = push(runs, picture(9000, key=True))
    runs.clock.learn(SenderReport(7, (1_700_000_000 + 2_208_988_800) << 32, 9000, 0, 0), 0)
    [after] = push(runs, picture(9000 + 45_000))
    assert before[1].camera_wall_ns == 0
    assert after.camera_wall_ns == 1_700_000_000_500_000_000


def alternating(gops: int, *, start: int = 0):
    """A camera that sends other parameter sets with every keyframe."""
    for gop in range(gops):
        sets = (OTHER_SPS if gop % 2 else SPS, PPS)
        ts = start + gop * 10_800
        yield from (picture(ts, key=True, sets=sets), picture(ts + 3600), picture(ts + 7200))


def test_a_camera_that_changes_its_parameter_sets_all_the_time_does_not_use_up_its_ring():
    """Each change began another segment: a ring of 40 GB was gone in ten minutes, with a picture or two in each segment."""
    runs = Runs(NONE, "rtsp/tcp")
    events = push(runs, *alternating(50))
    assert sum(isinstance(event, AccessUnit) for event in events) == 150
    assert [event.detail for event in events if isinstance(event, RunStarted)] == [
        "rtsp/tcp", "rtsp/tcp", "rtsp/tcp", "rtsp/tcp, its parameter sets change all the time"
    ]  # fmt: skip
    keyframes = [event for event in events if isinstance(event, AccessUnit) and event.is_keyframe]
    nals = [nals_of(payload_of(unit.payload)) for unit in keyframes]
    assert nals[2] == [b"\x65"]
    assert nals[3:5] == [[OTHER_SPS, PPS, b"\x65"], [SPS, PPS, b"\x65"]]


def test_parameter_sets_before_a_keyframe_leave_its_own_bytes_where_they_were_received():
    runs = Runs(NONE, "", Learned(has_changing_sets=True))
    one = picture(0, key=True, sets=(SPS, PPS))
    [*_, unit] = push(runs, one)
    assert unit.payload.views()[-1].obj is one[0].views()[-1].obj
    assert unit.payload.size_bytes == 4 + len(SPS) + 4 + len(PPS) + one[0].size_bytes


def test_a_person_who_changes_the_camera_three_times_in_ten_minutes_is_no_such_camera():
    runs = Runs(NONE, "")
    events = push(
        runs, *(picture(gop * 90_000 * 200, key=True, sets=(OTHER_SPS if gop % 2 else SPS, PPS)) for gop in range(6))
    )
    assert kinds(events) == "Sa" + "ESa" * 5


def test_the_next_session_begins_with_the_b_pictures_that_the_last_one_learned():
    """After every reconnect the first GOP was recorded with wrong times again, and cost a new run at the second keyframe."""
    learned = Learned()
    gop = [0, 2, 1, 4, 3]
    pictures = [picture(9000 + (g * 5 + n) * 3600, key=n == 0, arrival_ns=0) for g in range(2) for n in gop]
    assert kinds(push(Runs(OFFERED, "", learned), *pictures)) == "SaaaaaESaaaaa"
    pictures = [picture(9000 + (g * 5 + n) * 3600, key=n == 0, arrival_ns=0) for g in range(2) for n in gop]
    events = push(Runs(OFFERED, "", learned), *pictures)
    assert kinds(events) == "S" + "a" * 10
    on_screen = [unit.decode_ticks + unit.composition_ticks for unit in events[1:]]
    assert sorted(on_screen) == [on_screen[0] + n * 3600 for n in range(10)]


@pytest.mark.parametrize("rate", [1.2, 2.0, 10.0])
def test_a_camera_whose_time_runs_faster_than_the_boxs_is_not_dated_into_the_future(rate):
    """Stamped for 25 pictures a second and sent at 30, an hour of footage reached 12 minutes into the future."""
    runs, clock = Runs(OFFERED, ""), RunClock(0)
    events: list = []
    for tick in range(6000):  # ten minutes, drained ten times a second
        arrival_ns = tick * 100_000_000
        stamps = [round((tick * 3 + n) * 3000 * rate) for n in range(3)]
        drained = runs.push_all([picture(ts, key=ts == 0, arrival_ns=arrival_ns) for ts in stamps])
        events += drained
        units = [event for event in drained if isinstance(event, AccessUnit)]
        for unit in units:
            clock.observe(unit.decode_ticks, unit.arrival_ns)
        error_ns = clock.mono_ns(units[0].decode_ticks, units[0].arrival_ns) - arrival_ns
        assert error_ns < 11_000_000_000
    assert kinds(events) == "S" + "a" * 18_000
    assert abs(error_ns) < 1_000_000_000, "in the end it is right"


@pytest.mark.parametrize("rate", [0.9, 0.5, 0.1, 0.01])
def test_a_camera_whose_time_runs_slower_than_the_boxs_is_dated_right_after_half_a_minute(rate):
    """At a tenth of the truth ten minutes of footage lay in one, and nine were missing because of the camera."""
    learned = Learned()
    runs, clock = Runs(OFFERED, "", learned), RunClock(0)
    events: list = []
    last_ticks = []
    for tick in range(3000):  # five minutes, drained ten times a second; a keyframe every two seconds
        arrival_ns = tick * 100_000_000
        stamps = [round((tick * 3 + n) * 3000 * rate) for n in range(3)]
        drained = runs.push_all(
            [picture(ts, key=tick % 20 == 0 and n == 0, arrival_ns=arrival_ns) for n, ts in enumerate(stamps)]
        )
        events += drained
        for event in drained:
            if isinstance(event, RunStarted):
                clock = RunClock(arrival_ns)
            elif isinstance(event, AccessUnit):
                clock.observe(event.decode_ticks, event.arrival_ns)
                last_ticks.append((arrival_ns, event.decode_ticks))
        units = [event for event in drained if isinstance(event, AccessUnit)]
        if units and arrival_ns > 40 * 10**9:
            error_ns = clock.mono_ns(units[0].decode_ticks, units[0].arrival_ns) - arrival_ns
            assert abs(error_ns) < 2 * 10**9, arrival_ns
    ended = [event for event in events if isinstance(event, RunEnded)]
    assert [event.cause for event in ended] == [Cause.CAMERA] and "too slow" in ended[0].detail
    assert learned.stretch == pytest.approx(1 / rate, rel=0.02)
    (first_ns, first), (end_ns, end) = last_ticks[-1000], last_ticks[-1]
    assert (end - first) / 90_000 == pytest.approx((end_ns - first_ns) / 1e9, rel=0.03), "it lasts as long as it lasted"


@pytest.mark.parametrize("held_s", [5, 11])
def test_a_network_that_stalls_again_and_again_is_no_slow_clock(held_s):
    learned = Learned()
    runs = Runs(OFFERED, "", learned)
    waiting: list = []
    for tick in range(6000):
        waiting.append((tick * 9000, tick % 20 == 0))
        if (tick // 10) % (held_s * 3) >= held_s:  # the others come at once, when it goes on
            runs.push_all([picture(ts, key=key, arrival_ns=tick * 100_000_000) for ts, key in waiting])
            waiting = []
    assert learned.stretch == 1.0 and runs.runs == 1


def test_a_camera_that_pauses_now_and_then_without_counting_it_is_no_slow_clock():
    learned = Learned()
    runs, paused = Runs(OFFERED, "", learned), 0
    for tick in range(6000):
        if tick % 250 < 40:  # four seconds of every 25
            paused += 1
            continue
        runs.push_all([picture((tick - paused) * 9000, key=tick % 50 == 41, arrival_ns=tick * 100_000_000)])
    assert learned.stretch == 1.0 and runs.runs == 1


def test_pictures_that_a_server_had_kept_for_a_new_watcher_keep_their_distances():
    runs = Runs(OFFERED, "")
    events = runs.push_all([picture(n * 3600, key=n == 0, arrival_ns=0) for n in range(125)])
    events += runs.push_all([picture(n * 3600, arrival_ns=(n - 125) * 40_000_000) for n in range(125, 1000)])
    assert [event.decode_ticks for event in events[1:]] == [n * 3600 for n in range(1000)]


@pytest.mark.parametrize("seed", range(30))
def test_joined_pictures_give_the_same_units_as_single_ones(seed):
    """Rising times, times that repeat, jump or go back (B pictures), with a keyframe now and then."""
    noise = random.Random(seed)
    single, joined = Runs(OFFERED, ""), Runs(OFFERED, "")
    seen: list[list] = [[], []]
    ts, together = 0xFFFF0000, 0
    for turn in range(60):
        arrival_ns = turn * 200_000_000
        rows: list[list] = [[], []]
        if turn % 10 == 0:
            for row in rows:
                row.append(picture(ts, key=True, arrival_ns=arrival_ns))
        stamps = []
        for _ in range(noise.randrange(1, 6)):
            ts += 3600 if seed < 10 else noise.choice((3600, 3600, 3600, 3600, 0, -3600, 7200, 95_000, 2_000_000))
            stamps.append(ts & 0xFFFFFFFF)
        rows[0] += [picture(each, arrival_ns=arrival_ns) for each in stamps]
        payload = Gather()
        for each in rows[0][-len(stamps) :]:
            payload.extend(each[0])
        rows[1].append((payload, stamps, [payload.size_bytes // len(stamps)] * len(stamps), arrival_ns))
        for events, runs, row in zip(seen, (single, joined), rows, strict=True):
            for event in runs.push_all(row):
                if isinstance(event, AccessUnits):
                    together += 1
                    while event.sizes_bytes:
                        one, event = event.take(1)
                        events.append(one.single())
                else:
                    events.append(event)
    assert len(seen[0]) == len(seen[1])
    for one, other in zip(*seen, strict=True):
        if isinstance(one, AccessUnit):
            assert one[1:] == other[1:] and one.payload.size_bytes == other.payload.size_bytes
        else:
            assert one == other
    assert (single.pictures, single.skipped, single.runs) == (joined.pictures, joined.skipped, joined.runs)
    assert together or seed >= 10
