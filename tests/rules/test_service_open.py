"""`closed` accuses somebody: it is never said of a place the camera could not see, or outside its hours."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvr import site_holidays
from nvr.rules.schedule import Schedule
from nvr.rules.service_open import ServiceOpen, closed_spans
from nvr.scene import MOVING, Facts, Health, Rect, Sight
from rules.scenes import BLIND, CLEAR, NS, look, told, track
from rules.test_schedule import AMBON, WEEK, wall

SCHEDULE = Schedule(AMBON, WEEK, site_holidays.load("indonesia", Path()))
OPENING = wall("2026-06-10 08:00")


def rule(quiet_s: float = 60.0, grace_s: float = 0.0, confirm_s: float = 0.0) -> ServiceOpen:
    """Without confirm_s `closed` is said of this very moment, which keeps these days short."""
    return ServiceOpen("z", SCHEDULE, quiet_s=quiet_s, grace_s=grace_s, confirm_s=confirm_s)


def day(from_s: float, to_s: float, begin_ns: int = OPENING, *, who=lambda at_s: (), **more) -> list[Facts]:
    return [look(at, who(at), wall_ns=begin_ns + round(at * NS), **more) for at in range(round(from_s), round(to_s))]


def states(events) -> list[str]:
    return [event.state for event in events]


def somebody(at_s: float):
    return (track(at_s=at_s),)


def test_a_counter_with_people_is_open_and_closed_after_the_quiet_time():
    events = told(rule(), [*day(0, 100, who=somebody), *day(100, 300)])
    assert states(events) == ["cannot tell", "open", "closed"]
    assert events[-1].to_ns == 159 * NS
    assert (events[-1].from_ns, dict(events[-1].numbers)["evidence_s"]) == (99 * NS, 60.0)
    assert events[1].tracks == (1,)


@pytest.mark.parametrize("why", BLIND)
def test_a_camera_that_sees_nothing_never_says_closed(why):
    assert "closed" not in states(told(rule(), day(0, 1000, tamper=BLIND[why])))


@pytest.mark.parametrize("why", BLIND)
def test_an_accusation_ends_at_once_when_the_camera_stops_seeing_and_needs_all_its_proof_again(why):
    subject = rule()
    assert states(told(subject, day(0, 100)))[-1] == "closed"
    assert states(told(subject, day(100, 101, tamper=BLIND[why]))) == ["cannot tell"]
    assert states(told(subject, day(101, 160))) == []
    assert states(told(subject, day(160, 170))) == ["closed"]


def test_a_camera_that_is_gone_never_says_closed():
    gone = Health(is_sending=False, cause="network")
    assert "closed" not in states(told(rule(), day(0, 1000, has_picture=False, health=gone)))


def test_a_gap_in_what_was_seen_breaks_the_proof():
    looks = [facts for facts in day(0, 1000) if facts.at_ns // NS % 50 < 40]
    assert "closed" not in states(told(rule(), looks))


def test_without_a_clock_nothing_is_said():
    looks = [replace(facts, wall_ns=None) for facts in day(0, 500)]
    assert states(told(rule(), looks)) == ["cannot tell"]


@pytest.mark.parametrize(
    "begin", ["2026-06-10 12:00", "2026-06-10 20:00", "2026-06-13 10:00", "2026-03-19 10:00", "2027-03-10 10:00"]
)
def test_breaks_nights_weekends_and_holidays_are_no_reason_to_say_closed(begin):
    assert "closed" not in states(told(rule(), day(0, 1800, wall(begin))))


def test_what_was_quiet_before_opening_is_no_proof():
    events = told(rule(), day(0, 700, OPENING - 600 * NS))
    assert [(event.state, dict(event.words)["due"]) for event in events] == [
        ("cannot tell", "closed"), ("cannot tell", "open"), ("closed", "open"),
    ]  # fmt: skip
    assert events[-1].to_ns >= 660 * NS


def test_nobody_is_late_within_the_grace():
    assert "closed" not in states(told(rule(grace_s=900), day(0, 899)))


def test_a_poster_keeps_no_place_open():
    poster = track(9, rect=Rect(0.1, 0.1, 0.2, 0.3), has_moved=False)
    assert (
        states(told(rule(), day(0, 200, who=lambda at_s: (replace(poster, seen_ns=round(at_s * NS)),))))[-1] == "closed"
    )


def test_who_is_seen_again_where_somebody_sat_is_no_poster():
    """A clerk was hidden behind a screen for minutes; the tracker gave a new number to somebody who sat still."""
    subject = rule()
    told(subject, day(0, 50, who=somebody))
    events = told(subject, day(50, 400, who=lambda at_s: (track(2, at_s=at_s, first_s=50, has_moved=False),)))
    assert "closed" not in states(events)


def test_without_a_model_stillness_must_last_twice_as_long():
    events = told(rule(), day(0, 200, sight=Sight(kinds=frozenset((MOVING,)))))
    assert [event.to_ns // NS for event in events if event.state == "closed"] == [120]
    assert dict(events[-1].words)["by"] == "motion"


def test_a_model_that_had_no_time_to_look_is_no_witness():
    looks = [replace(facts, sight=replace(facts.sight, looked_ns=0)) for facts in day(0, 400, motion=0.05)]
    assert "closed" not in states(told(rule(), looks))


# -- said of the past --------------------------------------------------------------------------------


def test_closed_is_said_of_a_span_that_ended_long_enough_ago():
    events = told(rule(confirm_s=310), [*day(0, 100, who=somebody), *day(100, 800)])
    closed = events[-1]
    assert closed.state == "closed"
    doubted_ns = events[
        -2
    ].to_ns  # nobody for a minute: told as `cannot tell` some seconds later, and no time goes back behind that
    assert states(events)[-2] == "cannot tell" and doubted_ns == 167 * NS
    assert (closed.from_ns, closed.to_ns) == (99 * NS, doubted_ns)
    assert dict(closed.numbers) == {"evidence_s": 68.0, "behind_s": 310.0}
    assert closed_spans(events, 799 * NS) == [(167 * NS, 489 * NS)]


def looped_from(begin_s: int, period_s: int):
    """A loop is seen as one when it came round, and believed when it repeated for five seconds."""

    def tamper(at_s: int):
        since_s = at_s - begin_s - period_s
        return CLEAR if since_s < 0 else replace(CLEAR, loop_ns=since_s * NS, loop_period_ns=period_s * NS)

    return tamper


@pytest.mark.parametrize("period_s", [10, 60, 300])
def test_nothing_is_ever_said_of_a_loop_although_it_is_noticed_late(period_s):
    subject, tamper = rule(confirm_s=310), looped_from(1000, period_s)
    looks = [look(at, (), wall_ns=OPENING + at * NS, tamper=tamper(at)) for at in range(1800)]
    events = told(subject, looks)
    assert states(events)[-2:] == ["closed", "cannot tell"]
    assert [span for span in closed_spans(events, 1799 * NS) if span[1] > 1000 * NS] == []


def test_nothing_is_said_of_the_time_a_box_was_off_after_it_comes_back():
    looks = [facts for facts in day(0, 3000) if not 1000 <= facts.at_ns // NS < 2500]
    spans = closed_spans(told(rule(confirm_s=310), looks), 2999 * NS)
    assert spans[0][1] == (999 - 310) * NS
    assert all(from_ns >= 2500 * NS for from_ns, _ in spans[1:])


def test_who_comes_ends_what_is_claimed_at_the_last_confirmed_moment():
    events = told(rule(confirm_s=310), [*day(0, 1000), *day(1000, 1100, who=somebody)])
    assert states(events)[-3:] == ["closed", "cannot tell", "open"]
    assert all(one.to_ns <= other.to_ns for one, other in itertools.pairwise(events))
    assert closed_spans(events, 1099 * NS) == [(60 * NS, (999 - 310) * NS)]


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["", *BLIND, "absent", "no clock"]), st.booleans(), st.integers(1, 120)),
        min_size=1,
        max_size=25,
    ),
    begin=st.integers(0, 7 * 86_400),
)
def test_whatever_happens_closed_always_rests_on_seeing_nobody_in_certain_hours(steps, begin):
    """The promise, over every mix of faults, people and times: while `closed` stands, the camera sees, nobody was there for quiet_s, and it is due to be open."""
    subject, state, at_s, clean_s = rule(), "", 0, 0.0
    begin_ns = wall("2026-06-08 00:00") + begin * NS
    for what, is_somebody, length in steps:
        for _ in range(length):
            facts = look(
                at_s, somebody(at_s) if is_somebody else (), wall_ns=None if what == "no clock" else begin_ns + at_s * NS,
                tamper=BLIND.get(what, CLEAR), has_picture=what != "absent",
            )  # fmt: skip
            clean_s = 0.0 if what or is_somebody else clean_s + 1
            for event in subject.look(facts):
                state = event.state
            if state == "closed" and not is_somebody:
                assert not what
                assert clean_s >= 60
                assert SCHEDULE.at(begin_ns + at_s * NS).due.value == "open"
            at_s += 1
