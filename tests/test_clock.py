"""The clocks of the machine, and the box time of pictures that arrive late, in bursts or by a wrong clock."""

from __future__ import annotations

import random
import time
from itertools import pairwise

import pytest

from nvr import clock as clocks
from nvr.clock import NS_PER_S, RunClock, SystemClock
from nvr.media import ClockState

MS = 1_000_000


def arrivals(seconds, *, camera_ppm=0, fps=25, jitter_ms=0, start_ns=10 * NS_PER_S, seed=1):
    """(ticks, taken_ns, arrival_ns) of a camera whose clock runs `camera_ppm` fast, behind a network with jitter."""
    rng = random.Random(seed)
    arrival_ns = 0
    for number in range(seconds * fps):
        ticks = number * 90_000 // fps
        taken_ns = start_ns + ticks * 100_000 // 9 * 1_000_000 // (1_000_000 + camera_ppm)
        arrival_ns = max(arrival_ns, taken_ns + 20 * MS + rng.randint(0, jitter_ms * MS))
        yield ticks, taken_ns, arrival_ns


def errors(pictures):
    """How far (ns) box time is from the truth plus the fixed delay, picture by picture; checks that it rises."""
    found, run, before_ns = [], None, -1
    for ticks, taken_ns, arrival_ns in pictures:
        run = run or RunClock(arrival_ns)
        mono_ns = run.mono_ns(ticks, arrival_ns)
        assert mono_ns > before_ns
        before_ns = mono_ns
        found.append(mono_ns - taken_ns - 20 * MS)
    return found


def test_a_steady_camera_keeps_its_own_rhythm_exactly():
    run = RunClock(5 * NS_PER_S)
    assert [run.mono_ns(ticks, 5 * NS_PER_S + ticks * 100_000 // 9) for ticks in (0, 90_000, 180_000)] == [
        5 * NS_PER_S,
        6 * NS_PER_S,
        7 * NS_PER_S,
    ]


def test_network_jitter_does_not_show_in_the_distance_of_two_pictures():
    pictures = list(arrivals(120, jitter_ms=300))
    found = errors(pictures)
    steps = [b - a for a, b in pairwise(found[2500:])]
    assert max(abs(step) for step in steps) <= MS  # slewing only: 2 % of 40 ms
    assert max(abs(error) for error in found[60 * 25 :]) < 150 * MS


@pytest.mark.parametrize("camera_ppm", [-500, -100, 100, 500])
def test_a_camera_clock_that_drifts_by_500_ppm_is_followed_for_hours(camera_ppm):
    found = errors(arrivals(3 * 3600, camera_ppm=camera_ppm, fps=2, jitter_ms=50))
    assert max(abs(error) for error in found[600:]) < 100 * MS  # uncorrected it would be 5.4 s


@pytest.mark.parametrize("camera_ppm", [-500, 500])
def test_a_fragment_ends_no_more_than_a_drift_after_the_next_begins(camera_ppm):
    run, ends_ns = None, None
    for ticks, _, arrival_ns in arrivals(3600, camera_ppm=camera_ppm, fps=1, jitter_ms=80):
        run = run or RunClock(arrival_ns)
        mono_ns = run.mono_ns(ticks, arrival_ns)
        if ends_ns is not None:
            assert abs(mono_ns - ends_ns) <= NS_PER_S * 20_000 // 1_000_000
        ends_ns = mono_ns + NS_PER_S


def test_a_camera_whose_ticks_stood_still_for_five_seconds_is_placed_anew():
    pictures = list(arrivals(20))
    stopped = [
        (ticks, taken_ns + 5 * NS_PER_S, arrival_ns + 5 * NS_PER_S) for ticks, taken_ns, arrival_ns in pictures[250:]
    ]
    found = errors(pictures[:250] + stopped)
    assert found[:250] == [0] * 250
    assert max(abs(error) for error in found[250 + 26 :]) < 10 * MS  # known after a second of pictures


def test_a_fragment_closed_after_the_stall_was_understood_is_right_from_its_first_picture():
    pictures = list(arrivals(20))
    run = RunClock(pictures[0][2])
    for ticks, _, arrival_ns in pictures[:250]:
        run.observe(ticks, arrival_ns)
    assert run.mono_ns(pictures[225][0], pictures[225][2]) == pictures[225][2]
    for ticks, _, arrival_ns in pictures[250:280]:
        run.observe(ticks, arrival_ns + 5 * NS_PER_S)
    assert run.mono_ns(pictures[249][0], pictures[249][2]) == pictures[249][2], "before the stall nothing moved"
    assert run.mono_ns(pictures[250][0], pictures[250][2] + 5 * NS_PER_S) == pictures[250][2] + 5 * NS_PER_S


def test_pictures_that_a_network_held_back_for_five_seconds_keep_their_place():
    """A TCP connection that stalls delivers everything at once afterwards; the pictures were taken in time."""
    pictures = list(arrivals(20))
    held_until_ns = pictures[375][2]
    late = [(ticks, taken_ns, max(arrival_ns, held_until_ns)) for ticks, taken_ns, arrival_ns in pictures[250:]]
    assert max(abs(error) for error in errors(pictures[:250] + late)) < 10 * MS


def test_a_burst_of_old_pictures_at_the_start_is_dated_back():
    """Servers that keep the last GOP send it at once on PLAY: its pictures are up to a GOP old."""
    pictures = list(arrivals(300))
    start_ns = pictures[25][2]
    burst = [(ticks, taken_ns, max(arrival_ns, start_ns)) for ticks, taken_ns, arrival_ns in pictures]
    run = RunClock(start_ns)
    for ticks, _, arrival_ns in burst[:26]:
        run.observe(ticks, arrival_ns)
    assert abs(run.mono_ns(0, start_ns) - pictures[0][2]) < MS
    after_end = RunClock(start_ns, not_before_ns=start_ns - NS_PER_S // 2)
    for ticks, _, arrival_ns in burst[:26]:
        after_end.observe(ticks, arrival_ns)
    assert after_end.mono_ns(0, start_ns) == start_ns - NS_PER_S // 2, "but not into the run before"
    found = errors(burst)
    assert abs(found[-1]) < 50 * MS, "and asked picture by picture, it is made good within minutes"


@pytest.mark.parametrize("speed", [0.25, 2.0, 1000.0])
def test_a_file_played_at_another_speed_stays_in_order_and_keeps_its_length_where_it_can(speed):
    run, first_ns, mono_ns = RunClock(NS_PER_S), None, -1
    for second in range(600):
        arrival_ns = NS_PER_S + int(second / speed * NS_PER_S)
        before_ns, mono_ns = mono_ns, run.mono_ns(second * 90_000, arrival_ns)
        assert mono_ns > before_ns
        first_ns = mono_ns if first_ns is None else first_ns
    if speed > 1:
        assert mono_ns - first_ns == pytest.approx(599 * NS_PER_S, rel=0.005)


def test_any_order_of_calls_gives_strictly_rising_times():
    rng = random.Random(7)
    for _ in range(300):
        arrival_ns, ticks, before_ns = rng.randint(0, 10 * NS_PER_S), 0, -1
        run = RunClock(arrival_ns, not_before_ns=rng.choice([0, arrival_ns]))
        for _ in range(200):
            if rng.random() < 0.5:
                run.observe(ticks, arrival_ns)
            if rng.random() < 0.7:
                mono_ns = run.mono_ns(ticks, arrival_ns)
                assert mono_ns > before_ns
                before_ns = mono_ns
            ticks += rng.choice([1, 3_600, 3_600, 90_000, 900_000])
            arrival_ns += rng.choice([0, 0, 40 * MS, NS_PER_S, 7 * NS_PER_S])


def test_the_system_clock_reads_both_clocks_and_says_how_sure_it_is():
    clock = SystemClock()
    reading = clock.read()
    assert 0 <= clock.mono_ns() - reading.mono_ns < 60 * NS_PER_S
    assert abs(time.time_ns() - reading.wall_ns) < 60 * NS_PER_S
    assert isinstance(reading.state, ClockState)
    assert reading.error_ns > 0 or reading.state is ClockState.UNKNOWN


def test_sleeping_ends_at_the_moment_asked_for_or_at_once():
    clock = SystemClock()
    until_ns = clock.mono_ns() + 20 * MS
    clock.sleep_until(until_ns)
    assert clock.mono_ns() >= until_ns
    clock.sleep_until(until_ns - NS_PER_S)


def test_the_boot_id_stays_the_same_within_a_boot():
    assert len(clocks.boot_id()) == 16
    assert clocks.boot_id() == clocks.boot_id()


def test_a_wall_clock_older_than_this_software_is_unknown(monkeypatch):
    monkeypatch.setattr(clocks.time, "time_ns", lambda: 3600 * NS_PER_S)
    assert SystemClock().read().state is ClockState.UNKNOWN


def test_a_kernel_that_will_not_tell_leaves_the_clock_plausible(monkeypatch):
    """Containers may forbid adjtimex(2); other C libraries may not have it."""
    monkeypatch.setattr(clocks.time, "time_ns", lambda: clocks.SOURCE_DATE_NS + 1)
    for adjtimex in (None, lambda timex: -1):
        monkeypatch.setattr(clocks, "_adjtimex", adjtimex)
        reading = SystemClock().read()
        assert reading.state is ClockState.PLAUSIBLE
        assert reading.error_ns in (clocks.RTC_ERROR_NS, clocks.NO_RTC_ERROR_NS)


def test_the_error_of_a_synced_clock_is_what_the_kernel_says_and_a_floor(monkeypatch):
    def adjtimex(pointer):
        timex = pointer._obj
        timex.status, timex.maxerror, timex.offset = 0x2001, 1500, -2_000_000  # us; ns because of STA_NANO
        return 0

    monkeypatch.setattr(clocks, "_adjtimex", adjtimex)
    assert clocks.kernel_error_ns() == 1_500_000 + 2_000_000 + clocks.SYNC_FLOOR_NS


def test_a_box_without_a_battery_clock_is_known_by_its_empty_class_directory(tmp_path):
    assert not clocks.has_battery_clock(tmp_path)
    assert not clocks.has_battery_clock(tmp_path / "absent")
    (tmp_path / "rtc0").mkdir()
    assert clocks.has_battery_clock(tmp_path)
