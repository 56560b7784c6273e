"""Wall time worked out afterwards, against simulated boxes whose clocks do what clocks on poles do."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from clocks import T0, record
from hypothesis import given, settings
from hypothesis import strategies as st

from nvr.clock import NS_PER_S, SYNC_FLOOR_NS
from nvr.media import ClockState
from nvr.timeline import FAR_NS, ClockSample, Timeline, samples_of

DAY = 86_400 * NS_PER_S
WEEK = 7 * DAY
MINUTE = 60 * NS_PER_S


@dataclass(frozen=True)
class Boot:
    """What happens to the clock of one boot, in seconds of box time."""

    off_s: int = 60  # dark before it
    length_s: int = 600
    ppm: int = 0  # the oscillator runs fast by this
    rtc_off_s: int | None = None  # the battery clock is ahead of the truth by this; None: starts in 1970
    set_at: dict[int, int] = field(default_factory=dict)  # at this second a person sets it, wrong by so many seconds
    sync_at_s: int | None = None
    poll_s: int = 1024


def simulate(boots, *, fragment_s=10, stream="gate/main"):
    """(rows, truth in ns of each row's beginning)."""
    now_ns, sequence, rows, truth = T0, 0, [], []
    for number, boot in enumerate(boots):
        now_ns += boot.off_s * NS_PER_S
        boot_id = bytes([number]) * 16
        booted_ns = now_ns

        def real(mono_ns, booted_ns=booted_ns, boot=boot):
            return booted_ns + mono_ns * 1_000_000 // (1_000_000 + boot.ppm)

        offset_ns = 0 if boot.rtc_off_s is None else booted_ns + boot.rtc_off_s * NS_PER_S
        state = ClockState.UNKNOWN if boot.rtc_off_s is None else ClockState.PLAUSIBLE
        polled_ns = None
        for second in range(0, boot.length_s, fragment_s):
            mono_ns = (second + 5) * NS_PER_S
            for at_s, wrong_s in boot.set_at.items():
                if second <= at_s < second + fragment_s and polled_ns is None:
                    offset_ns, state = real(mono_ns) + wrong_s * NS_PER_S - mono_ns, ClockState.PLAUSIBLE
            if (
                boot.sync_at_s is not None
                and second >= boot.sync_at_s
                and (polled_ns is None or mono_ns - polled_ns >= boot.poll_s * NS_PER_S)
            ):
                polled_ns, state = mono_ns, ClockState.SYNCED
                offset_ns = real(mono_ns) - mono_ns + (7_000_000 if second % 20 else -7_000_000)
            error_ns = {ClockState.UNKNOWN: 0, ClockState.PLAUSIBLE: WEEK}.get(state, 0)
            if polled_ns is not None:
                error_ns = SYNC_FLOOR_NS + (mono_ns - polled_ns) * 500 // 1_000_000
            sequence += 1
            rows.append(
                record(
                    boot_id,
                    sequence,
                    mono_ns,
                    mono_ns + offset_ns,
                    state,
                    error_ns,
                    number,
                    fragment_s * 90_000,
                    stream,
                )
            )
            truth.append(real(mono_ns))
        now_ns = real((boot.length_s + 6) * NS_PER_S)
    return rows, truth


def check(rows, truth, timeline=None):
    """None lost, none overlapping, order kept, every one within its stated error; returns the places."""
    timeline = timeline or Timeline.from_rows([rows])
    placed = timeline.place(rows)
    assert [place.what for place in placed] == rows
    before_ns = None
    for place, true_ns in zip(placed, truth, strict=True):
        assert place.to_ns - place.from_ns > 0.7 * place.what.duration_ns
        assert before_ns is None or place.from_ns >= before_ns
        before_ns = place.to_ns
        assert abs(place.from_ns - true_ns) <= place.error_ns, (place.from_ns - true_ns, place.error_ns, place.state)
    return placed


def test_a_clock_that_starts_in_1970_is_repaired_backwards_when_the_time_is_learned():
    rows, truth = simulate([Boot(length_s=1200, sync_at_s=600)])
    assert rows[0].wall_ns < DAY
    placed = check(rows, truth)
    assert all(place.state is ClockState.SYNCED for place in placed)
    assert max(place.error_ns for place in placed) < NS_PER_S // 2


@pytest.mark.parametrize("ppm", [-500, 500])
def test_an_oscillator_500_ppm_off_costs_what_the_error_says(ppm):
    rows, truth = simulate([Boot(length_s=6 * 3600, sync_at_s=3 * 3600, ppm=ppm)], fragment_s=30)
    placed = check(rows, truth)
    assert 5 * NS_PER_S < placed[0].error_ns < 6 * NS_PER_S  # three hours before it was known: 5.4 s
    synced = [abs(place.from_ns - true) for place, true in zip(placed, truth, strict=True)][400:-40]
    assert max(synced) < 20_000_000, "between good samples the drift itself is known"


def test_a_clock_forty_minutes_ahead_that_is_put_right_neither_overlaps_nor_loses():
    rows, truth = simulate([Boot(length_s=7200, rtc_off_s=2400, sync_at_s=3600)])
    step = max(before.wall_ns - after.wall_ns for before, after in pairwise(rows))
    assert step > 2300 * NS_PER_S
    assert max(place.error_ns for place in check(rows, truth)) < 3 * NS_PER_S


def test_a_step_by_years_forward_is_no_gap():
    rows, truth = simulate([Boot(length_s=600, set_at={300: 0})])
    placed = check(rows, truth)
    assert {after.from_ns - before.to_ns for before, after in pairwise(placed)} == {0}


def test_a_time_zone_changes_nothing():
    """Rows hold UTC; a box moved to another zone records the same numbers. The process's zone must not matter."""
    rows, _ = simulate([Boot(length_s=600, sync_at_s=0)])
    places = [(place.from_ns, place.to_ns) for place in Timeline.from_rows([rows]).place(rows)]
    zone = os.environ.get("TZ")
    try:
        for name in ("Asia/Jayapura", "America/Caracas"):
            os.environ["TZ"] = name
            assert [(place.from_ns, place.to_ns) for place in Timeline.from_rows([rows]).place(rows)] == places
    finally:
        os.environ.pop("TZ", None)
        if zone is not None:
            os.environ["TZ"] = zone


@pytest.mark.parametrize("leap_s", [1, -1])
def test_a_leap_second_is_spread_and_stays_within_the_error(leap_s):
    rows = [
        record(mono_ns=s * NS_PER_S, wall_ns=T0 + s * NS_PER_S - (leap_s * NS_PER_S if s >= 3000 else 0), sequence=s)
        for s in range(6000)
    ]
    placed = Timeline.from_rows([rows]).place(rows)
    for place, row in zip(placed, rows, strict=True):
        assert abs(place.from_ns - row.wall_ns) <= place.error_ns
        assert 0.99 <= (place.to_ns - place.from_ns) / NS_PER_S <= 1.01
    far = [place for place, row in zip(placed, rows, strict=True) if not 2000 < row.sequence < 4000]
    assert all(place.from_ns == place.what.wall_ns for place in far)


def test_a_boot_that_never_learned_the_time_stands_after_the_one_before_with_the_error_its_neighbours_leave():
    rows, truth = simulate([Boot(sync_at_s=0), Boot(off_s=100, length_s=300), Boot(off_s=3600, sync_at_s=100)])
    placed = check(rows, truth)
    dark = [place for place in placed if place.what.boot_id == b"\1" * 16]
    assert {place.state for place in dark} == {ClockState.UNKNOWN}
    assert 3600 * NS_PER_S < dark[0].error_ns < 3800 * NS_PER_S
    last_before = [place for place in placed if place.what.boot_id == b"\0" * 16][-1]
    assert dark[0].from_ns == last_before.to_ns


def test_boots_before_anybody_knew_the_time_end_where_the_first_that_knows_begins():
    rows, truth = simulate([Boot(), Boot(), Boot(sync_at_s=100)])
    placed = check(rows, truth)
    assert placed[119].to_ns == placed[120].from_ns
    assert placed[0].state is ClockState.UNKNOWN
    assert placed[0].error_ns == FAR_NS, "how long before, nobody can say"


def test_boots_that_all_start_in_1970_follow_each_other():
    rows, _ = simulate([Boot(), Boot(), Boot()])
    placed = Timeline.from_rows([rows]).place(rows)
    assert all(a.to_ns <= b.from_ns for a, b in pairwise(placed))
    assert all(place.error_ns == FAR_NS for place in placed)


def test_a_battery_clock_days_off_is_bounded_by_its_neighbours():
    rows, truth = simulate([Boot(sync_at_s=0), Boot(off_s=600, rtc_off_s=3 * 86_400), Boot(off_s=600, sync_at_s=0)])
    placed = check(rows, truth)
    assert max(place.error_ns for place in placed) < 2000 * NS_PER_S


def test_one_wrong_boot_between_many_good_ones_moves_alone():
    """A false time server put one boot ten years ahead, and said it was sure."""
    rows, truth = simulate([Boot(sync_at_s=0)] * 5)
    false = [
        record(r.boot_id, r.sequence, r.mono_ns, r.wall_ns + 3650 * DAY, r.clock_state, r.clock_error_ns)
        if r.boot_id[0] == 2
        else r
        for r in rows
    ]
    placed = Timeline.from_rows([false]).place(false)
    for place, true_ns in zip(placed, truth, strict=True):
        if place.what.boot_id[0] != 2:
            assert abs(place.from_ns - true_ns) < NS_PER_S
    assert all(a.to_ns <= b.from_ns for a, b in pairwise(placed))


def test_a_good_sample_from_elsewhere_repairs_a_boot():
    """A person or the hub tells the time; the journal keeps it, though the box's clock stays in 1970."""
    rows, truth = simulate([Boot(length_s=600)])
    said = ClockSample(rows[0].boot_id, rows[30].mono_ns, truth[30] + NS_PER_S, ClockState.PLAUSIBLE, 5 * NS_PER_S)
    placed = check(rows, truth, Timeline.from_rows([rows], [said]))
    assert placed[0].state is ClockState.PLAUSIBLE
    assert placed[0].error_ns < 6 * NS_PER_S


def test_a_surer_sample_beats_a_later_one_that_is_ten_times_less_sure():
    rows, truth = simulate([Boot(length_s=600, rtc_off_s=-4000)])
    said = ClockSample(rows[0].boot_id, rows[3].mono_ns, truth[3], ClockState.PLAUSIBLE, 2 * NS_PER_S)
    assert check(rows, truth, Timeline.from_rows([rows], [said]))[-1].error_ns < 3 * NS_PER_S


def test_samples_that_contradict_each_other_widen_the_error_over_both():
    rows = [
        record(mono_ns=s * NS_PER_S, wall_ns=T0 + (s + (5000 if s > 50 else 0)) * NS_PER_S, sequence=s)
        for s in range(100)
    ]
    when = Timeline.from_rows([rows]).wall_of(rows[0].boot_id, 0)
    assert when.ns == T0 + 5000 * NS_PER_S
    assert when.error_ns >= 5000 * NS_PER_S


def test_streams_that_were_not_always_there_still_agree_on_the_order_of_boots():
    rows, _ = simulate([Boot(), Boot(), Boot(), Boot()])
    one = [row for row in rows if row.boot_id[0] in (0, 2)]
    other = [row for row in rows if row.boot_id[0] in (0, 1, 2)]
    third = [row for row in rows if row.boot_id[0] in (2, 3)]
    assert [boot[0] for boot in Timeline.from_rows([third, one, other]).boots()] == [0, 1, 2, 3]


def test_histories_that_contradict_each_other_are_followed_as_far_as_they_agree():
    rows, _ = simulate([Boot(sync_at_s=0), Boot(sync_at_s=0)])
    timeline = Timeline.from_rows([rows, rows[::-1]])
    assert sorted(timeline.boots()) == [b"\0" * 16, b"\1" * 16]


def test_no_samples_make_an_empty_timeline_and_an_unknown_boot_is_nowhere():
    timeline = Timeline.from_samples([])
    assert timeline.boots() == []
    assert timeline.moments(0, T0) == []
    assert timeline.wall_of(b"x" * 16, 5).state is ClockState.UNKNOWN


def test_fragments_of_a_fast_camera_end_where_the_next_begins():
    """Its ticks say 1 s, box time went on by 0.9995 s."""
    rows = [record(mono_ns=s * 999_500_000, wall_ns=T0 + s * 999_500_000, sequence=s) for s in range(100)]
    placed = Timeline.from_rows([rows]).place(rows)
    assert all(a.to_ns == b.from_ns for a, b in pairwise(placed))


def test_a_run_that_begins_inside_the_one_before_is_put_behind_it():
    """A file played as fast as it goes fills more box time than passes; the next one must not hide it."""
    rows = [record(mono_ns=s * NS_PER_S, wall_ns=T0 + s * NS_PER_S, sequence=s, run=1) for s in range(60)]
    rows += [record(mono_ns=s * NS_PER_S, wall_ns=T0 + s * NS_PER_S, sequence=60 + s, run=2) for s in range(2, 62)]
    placed = Timeline.from_rows([rows]).place(rows)
    assert all(a.to_ns <= b.from_ns for a, b in pairwise(placed))
    assert sum(place.to_ns - place.from_ns for place in placed) == 120 * NS_PER_S
    assert placed[-1].error_ns >= 58 * NS_PER_S


def test_moments_say_which_box_time_a_wall_span_is():
    rows, _ = simulate([Boot(sync_at_s=0), Boot(off_s=100, sync_at_s=0)])
    timeline = Timeline.from_rows([rows])
    placed = timeline.place(rows)
    from_ns, to_ns = placed[10].from_ns, placed[70].to_ns
    inside = [
        row for row in rows for moment in timeline.moments(from_ns, to_ns)
        if row.boot_id == moment.boot_id and moment.from_mono_ns <= row.mono_ns < moment.to_mono_ns
    ]  # fmt: skip
    assert inside == rows[10:71]
    assert timeline.moments(0, T0 - DAY) == []


boots = st.builds(
    Boot,
    off_s=st.sampled_from([1, 30, 600, 86_400, 3 * 86_400]),
    length_s=st.sampled_from([30, 100, 700, 4000]),
    ppm=st.integers(-499, 499),
    rtc_off_s=st.one_of(
        st.none(), st.none(), st.integers(-5 * 86_400, 5 * 86_400), st.sampled_from([2400, -2400, 0, 1])
    ),
    set_at=st.dictionaries(st.integers(0, 700), st.sampled_from([0, -2400, 2400, 86_400, -7200]), max_size=2),
    sync_at_s=st.one_of(st.none(), st.integers(0, 3000)),
    poll_s=st.sampled_from([64, 1024]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(boots, min_size=1, max_size=6))
def test_whatever_clocks_do_every_fragment_is_within_its_error_in_order_and_whole(history):
    rows, truth = simulate(history)
    check(rows, truth)


@settings(max_examples=60, deadline=None)
@given(st.lists(boots, min_size=1, max_size=5), st.integers(0, 2**32))
def test_thinned_samples_of_several_streams_say_the_same(history, seed):
    rows, truth = simulate(history)
    rng = random.Random(seed)
    streams = [[row for row in rows if rng.random() < share] for share in (0.9, 0.3, 0.05)]
    timeline = Timeline.from_rows([*streams, rows[:1] + rows[-1:]])
    for row, true_ns in zip(rows, truth, strict=True):
        if row.boot_id in timeline.boots():
            when = timeline.wall_of(row.boot_id, row.mono_ns)
            assert abs(when.ns - true_ns) <= when.error_ns


any_ns = st.integers(0, 2**63)
any_samples = st.builds(
    ClockSample,
    st.sampled_from([b"a" * 16, b"b" * 16, b"c" * 16]),
    any_ns,
    st.integers(-(2**63), 2**63),
    st.sampled_from(list(ClockState)),
    any_ns,
    any_ns,
)


@settings(max_examples=200, deadline=None)
@given(st.lists(any_samples, max_size=20))
def test_any_samples_make_a_timeline_in_which_time_rises(samples):
    """Commit records are checked, but a clock may say anything at all."""
    timeline = Timeline.from_samples(samples)
    last = None
    for boot_id in timeline.boots():
        moments = sorted({sample.mono_ns for sample in samples if sample.boot_id == boot_id})
        for mono_ns in moments:
            when = timeline.wall_of(boot_id, mono_ns)
            assert last is None or when.ns >= last
            assert 0 <= when.error_ns <= FAR_NS
            last = when.ns


def test_thinning_keeps_what_matters():
    rows, _ = simulate([Boot(length_s=7200, sync_at_s=3600)], fragment_s=1)
    thin = list(samples_of(rows))
    assert len(thin) < 300
    assert thin[0].mono_ns == rows[0].mono_ns
    assert thin[-1].until_ns == rows[-1].mono_ns + NS_PER_S
