"""Counting people: queue, crowd, intrusion, loitering."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest

from nvr.rules.crowd import CrowdRule
from nvr.rules.crowding import Count, crowd_of
from nvr.rules.intrusion import Intrusion
from nvr.rules.loitering import Loitering
from nvr.rules.queue import Queue
from nvr.rules.schedule import Schedule
from nvr.scene import MOVING, TWO_WHEELER, Rect, Sight
from rules.scenes import BLIND, NS, SEEING, look, told, track
from rules.test_schedule import AMBON, WEEK, wall


def people(count: int, at_s: float, **more):
    return [
        track(number + 1, rect=Rect(0.08 * number, 0.3, 0.08 * number + 0.06, 0.8), at_s=at_s, **more)
        for number in range(count)
    ]


def span(from_s: float, to_s: float, count: int = 0, **more):
    return [look(step / 5, people(count, step / 5), **more) for step in range(round(from_s * 5), round(to_s * 5))]


def states(events) -> list[tuple[str, bool]]:
    return [(event.state, event.is_end) for event in events if event.state != "visit"]


# -- queue ---------------------------------------------------------------------------------------------


def test_the_queue_tells_its_number_with_an_interval_and_each_visit():
    subject = Queue("z")
    events = told(subject, [*span(0, 20), *span(20, 60, 2), *span(60, 80)])
    assert [state for state, _ in states(events)] == ["cannot tell", "0", "2", "0"]
    numbers = dict(next(event for event in events if event.state == "2").numbers)
    assert numbers["waiting_least"] <= numbers["waiting"] == 2 <= numbers["waiting_most"]
    visits = [dict(event.numbers)["dwell_s"] for event in events if event.state == "visit"]
    assert visits == [pytest.approx(59.8), pytest.approx(59.8)]  # their tracks began at 0 s
    assert subject.visits == 2


def test_a_model_that_tells_all_it_can_leaves_the_interval_open():
    full = replace(SEEING, is_saturated=True)
    events = told(Queue("z"), span(0, 30, 10, sight=full))
    assert events[-1].state == "10 or more"
    assert "waiting_most" not in dict(events[-1].numbers)


def test_the_count_of_a_shaky_detector_does_not_flap():
    """Three people, each missed on one frame of five and one ghost on one of ten."""
    chance = random.Random(4)
    looks = []
    for step in range(3000):
        seen = sum(chance.random() > 0.2 for _ in range(3)) + (chance.random() < 0.1)
        looks.append(look(step / 5, people(seen, step / 5)))
    events = [event for event in told(Queue("z"), looks) if event.state != "visit"]
    # ten minutes; raw counts change some 1500 times
    assert len(events) < 60
    gaps = [(later.to_ns - earlier.to_ns) / NS for earlier, later in itertools.pairwise(events[1:])]
    assert min(gaps, default=9.0) >= 1.4


def test_a_poster_widens_the_interval_and_is_not_counted():
    poster = [track(9, has_moved=False)]
    found = told(Queue("z"), [look(step / 5, poster) for step in range(100)])[-1]
    assert found.state == "0"
    assert dict(found.numbers)["waiting_most"] == 1


def test_a_long_queue_is_told_after_its_time_and_ends():
    subject = Queue("z", alert_above=3, for_s=30)
    events = told(subject, [*span(0, 60, 5), *span(60, 120, 1)])
    alerts = [event for event in events if event.state == "long queue"]
    assert [(event.is_end) for event in alerts] == [False, True]
    assert 22 <= alerts[0].to_ns / NS <= 35


@pytest.mark.parametrize("why", BLIND)
def test_a_queue_nobody_can_see_is_not_empty(why):
    events = told(Queue("z"), [*span(0, 20, 2), *span(20, 60, 0, tamper=BLIND[why])])
    assert states(events)[-1][0] == "cannot tell"
    assert "0" not in [state for state, _ in states(events)]


def test_who_rides_is_not_who_waits():
    bike = track(7, TWO_WHEELER, Rect(0.4, 0.5, 0.55, 0.9), velocity=(0.1, 0.0))
    rider = track(8, rect=Rect(0.42, 0.4, 0.53, 0.8), velocity=(0.1, 0.0))
    events = told(Queue("z"), [look(step / 5, (bike, rider)) for step in range(50)])
    assert events[-1].state == "0"


def test_the_interval_of_counts_holds_what_was_seen():
    counts = tuple(Count(number / 5, number % 3, 0, False) for number in range(50))
    found = crowd_of(counts)
    assert (found.least, found.number) == (0, 1)
    assert found.most is not None
    assert found.most >= 2


# -- crowd, intrusion, loitering -----------------------------------------------------------------------


def test_a_crowd_is_many_for_long():
    subject = CrowdRule("z", alert_above=4, for_s=20)
    events = told(subject, [*span(0, 10, 6), *span(10, 30, 2), *span(30, 80, 6), *span(80, 140, 1)])
    assert states(events) == [("crowd", False), ("crowd", True)]
    assert 40 <= events[0].to_ns / NS <= 52


def test_somebody_outside_the_hours_is_an_intruder_once():
    subject = Intrusion("z", Schedule(AMBON, WEEK))
    night = [
        replace(facts, wall_ns=wall("2026-06-10 22:00") + facts.at_ns)
        for facts in [*span(0, 30, 1), *span(30, 35), *span(35, 50, 1), *span(50, 120)]
    ]
    events = told(subject, night)
    assert states(events) == [("intrusion", False), ("intrusion", True)]
    assert events[0].from_ns == 0
    assert events[0].tracks == (1,)


def test_nobody_is_an_intruder_in_the_hours_or_while_the_clock_is_not_known():
    day = [replace(facts, wall_ns=wall("2026-06-10 10:00") + facts.at_ns) for facts in span(0, 30, 1)]
    assert told(Intrusion("z", Schedule(AMBON, WEEK)), day) == []
    assert told(Intrusion("z", Schedule(AMBON, WEEK)), span(0, 30, 1)) == []


def test_a_thing_that_never_moved_is_no_intruder_no_loiterer_and_no_crowd():
    looks = [look(step / 5, people(12, step / 5, has_moved=False)) for step in range(2000)]
    for subject in (Intrusion("z", None), Loitering("z", after_s=60), CrowdRule("z", alert_above=3, for_s=10)):
        assert told(subject, looks) == []


def test_without_a_model_what_moves_may_be_somebody_and_the_event_says_so():
    blind = Sight(kinds=frozenset((MOVING,)))
    events = told(
        Intrusion("z", None), [look(step / 5, [track(1, MOVING, at_s=step / 5)], sight=blind) for step in range(50)]
    )
    assert dict(events[0].words)["by"] == "motion"


def test_without_a_model_nobody_is_counted():
    """One walker is torn into several blobs: played without a model, one film of six visits gave 111 of them."""
    blind = Sight(kinds=frozenset((MOVING,)))
    looks = [
        look(step / 5, [track(number, MOVING, at_s=step / 5) for number in range(1, 12)], sight=blind)
        for step in range(3000)
    ]
    assert states(told(Queue("z"), looks)) == [("cannot tell", False)]
    assert "model" in told(Queue("z"), looks)[0].detail
    assert told(CrowdRule("z", alert_above=2, for_s=5), looks) == []
    assert told(Loitering("z", after_s=10), looks) == []


def test_a_loiterer_is_told_once_and_again_when_they_leave():
    events = told(Loitering("z", after_s=60), [*span(0, 200, 1), *span(200, 230)])
    assert states(events) == [("loitering", False), ("loitering", True)]
    assert dict(events[1].numbers)["stayed_s"] == pytest.approx(199.8)


def test_waiting_for_the_bus_is_not_loitering_yet():
    assert told(Loitering("z", after_s=120), span(0, 119, 3)) == []
