"""The simulated street and waiting room behave like ones, and the same seed makes the same."""

from __future__ import annotations

import itertools

import pytest

pytest.importorskip("numpy", reason="scenes are drawn with numpy (extra codecs)")

import numpy as np

from nvr.scene import PERSON
from tools.scenes import road, scripted, view, waiting

FREE = road.Phase(0, 250)
DENSE = road.Phase(0, 1300, 8.0)
JAM = road.Phase(0, 1000, 11.0, light_m=185.0, green_s=8, cycle_s=45)
RED_LIGHT = road.Phase(0, 600, 11.0, light_m=152.0, green_s=30, cycle_s=60)


def looks_of(phase, length_s=420, **more):
    return list(road.Street([phase], **more).run(length_s, every_s=1.0))


def test_the_same_seed_gives_the_same_street():
    first, second = looks_of(DENSE, 120, seed=7), looks_of(DENSE, 120, seed=7)
    assert first == second
    assert first != looks_of(DENSE, 120, seed=8)


@pytest.mark.parametrize(("phase", "state"), [(FREE, "free"), (DENSE, "dense"), (JAM, "jam")])
def test_a_street_is_what_its_demand_makes_of_it(phase, state):
    states = road.traffic_states(looks_of(phase))[200:]
    assert states.count(state) / len(states) > 0.97


def test_a_red_light_that_clears_is_no_jam():
    assert road.traffic_states(looks_of(RED_LIGHT))[150:].count("jam") == 0


@pytest.mark.parametrize("phase", [DENSE, JAM, RED_LIGHT])
def test_cars_of_one_lane_never_drive_into_each_other(phase):
    for look in looks_of(phase):
        for lane in (0, 1):
            cars = sorted(
                (each for each in look.vehicles if each.lane == lane and each.kind != "two-wheeler"),
                key=lambda each: each.way_m,
            )
            for behind, ahead in itertools.pairwise(cars):
                assert behind.way_m < ahead.way_m - ahead.size_m[2] + 0.01


def test_a_breakdown_stands_for_as_long_as_told_and_others_pass():
    street = road.Street([road.Phase(0, 700)], [road.Breakdown(60, 90, 135)])
    passed = len(list(street.run(300, every_s=1.0))) and street.standing()
    assert len(passed) == 1
    _, from_s, to_s = passed[0]
    assert 80 < to_s - from_s < 95
    assert max(vehicle.number for vehicle in street.vehicles) > passed[0][0] + 20


def test_a_queue_keeps_little_s_law():
    """Mean number waiting = arrivals per second x mean wait (Little 1961), whatever the distributions."""
    everybody = waiting.visits([waiting.Rate(0, 50)], 40_000, mean_service_s=60, seed=3)
    waited = sum(visit.served_s - visit.arrives_s for visit in everybody) / len(everybody)
    mean = np.mean([len(waiting.waiting_at(everybody, at_s)) for at_s in range(0, 40_000, 20)])
    assert mean == pytest.approx(len(everybody) / 40_000 * waited, rel=0.1)


def test_nobody_is_served_before_those_who_came_earlier():
    everybody = waiting.visits([waiting.Rate(0, 100, clerks=2)], 7200, mean_service_s=60, seed=4)
    assert [visit.served_s for visit in everybody] == sorted(visit.served_s for visit in everybody)


def test_who_waits_stands_in_the_zone_and_who_is_served_does_not():
    from nvr.scene import Zone

    area = Zone("waiting", waiting.zone())
    everybody = waiting.visits([waiting.Rate(0, 70)], 1800, mean_service_s=55, seed=5)
    for _, people in waiting.Room(everybody).run(1800, every_s=10):
        for each, rect in zip(people, waiting.rects(people), strict=True):
            foot = ((rect[0] + rect[2]) / 2, rect[3])
            if each.is_waiting and waiting_settled(each):
                assert area.contains(foot)
            elif each.z_m < 4.9 and each.x_m > 3.2:
                assert not area.contains(foot)


def waiting_settled(each):
    """Stands in one of the first three rows: later ones reach beyond the area."""
    return each.z_m < waiting.place_in_line(17)[1] + 0.1


def test_what_is_nearer_is_larger_and_lower():
    rects = view.View().rects(np.array([[0.0, 15.0], [0.0, 45.0]]), np.array([[1.8, 1.5, 4.3]] * 2))
    near, far = rects
    assert near[3] > far[3]
    assert near[2] - near[0] > 2 * (far[2] - far[0])


def test_a_rect_behind_another_is_hidden_and_the_one_before_it_is_not():
    rects = np.array([[0.1, 0.1, 0.3, 0.5], [0.12, 0.15, 0.3, 0.5]])
    assert list(view.hidden_share(rects, np.array([2.0, 1.0]))) == [0.0, pytest.approx(1.0)]


def test_the_scripted_detector_misses_as_often_as_it_says():
    people = [waiting.Stander(number, x, 6.0, True, 100) for number, x in enumerate((-2.0, 0.0, 2.0))]
    detector = scripted.Detector(scripted.Faults(miss=0.1, ghosts=0.0))
    told = [len(detector.people(people)) for _ in range(2000)]
    assert sum(told) / 6000 == pytest.approx(0.9, abs=0.02)


def test_the_scripted_detector_tells_ten_at_most_and_says_when_it_did():
    people = [waiting.Stander(n, *waiting.place_in_line(n), True, 100) for n in range(18)]
    detector = scripted.Detector(scripted.Faults(miss=0.0, hidden_miss=0.0))
    told = detector.people(people)
    assert len(told) == 10
    assert detector.is_saturated
    assert all(each.kind == PERSON and 0.5 <= each.score <= 1 for each in told)
    detector.people(people[:4])
    assert not detector.is_saturated
