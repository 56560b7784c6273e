"""Lanes and lines: a jam stands, a queue is no crash, a parked car is nothing."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest

from nvr.rules.congestion import Congestion
from nvr.rules.line_crossing import LineCrossing, direction
from nvr.rules.stopped_vehicle import StoppedVehicle, is_incident
from nvr.scene import CAR, PERSON, TWO_WHEELER, Crossing, Line, Rect, Sight, Zone
from rules.scenes import BLIND, NS, look, told, track

LANE = Zone("z", ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)))
PLACES = [
    Rect(0.1 + 0.2 * (number % 4), 0.1 + 0.3 * (number // 4), 0.25 + 0.2 * (number % 4), 0.35 + 0.3 * (number // 4))
    for number in range(12)
]


def cars(count: int, at_s: float, speed: float, has_moved: bool = True):
    return [
        track(number + 1, CAR, PLACES[number], at_s=at_s, velocity=(0.0, speed), has_moved=has_moved)
        for number in range(count)
    ]


def lane(from_s: float, to_s: float, count: int, speed: float, **more):
    covered = sum(rect.area for rect in PLACES[:count])
    return [
        look(step / 2, cars(count, step / 2, speed, **more), covered=covered)
        for step in range(round(from_s * 2), round(to_s * 2))
    ]


def states(events) -> list[str]:
    return [event.state for event in events]


# -- congestion ----------------------------------------------------------------------------------------


def test_a_lane_goes_from_free_through_dense_to_a_jam_and_back():
    looks = [*lane(0, 100, 0, 0), *lane(100, 300, 6, 0.3), *lane(300, 600, 10, 0.005), *lane(600, 900, 0, 0)]
    events = told(Congestion(LANE), looks)
    assert states(events)[:4] == ["cannot tell", "free", "dense", "jam"]
    assert states(events)[-1] == "free"


def test_dense_traffic_that_moves_is_no_jam():
    assert "jam" not in states(told(Congestion(LANE), lane(0, 3600, 11, 0.25)))


def test_parked_cars_are_no_jam():
    assert states(told(Congestion(LANE), lane(0, 1200, 10, 0.0, has_moved=False))) == ["cannot tell", "free"]


def test_a_red_light_is_no_jam():
    looks = []
    for cycle in range(10):
        looks += [*lane(90 * cycle, 90 * cycle + 40, 6, 0.0), *lane(90 * cycle + 40, 90 * cycle + 90, 6, 0.4)]
    assert "jam" not in states(told(Congestion(LANE), looks))


def test_a_jam_that_was_there_before_anybody_looked_is_not_called_free():
    """Its cars have not driven yet, so they pass for parked; within a minute of looking some drive on."""
    looks = [*lane(0, 45, 10, 0.0, has_moved=False), *lane(45, 55, 10, 0.2), *lane(55, 300, 10, 0.0)]
    assert states(told(Congestion(LANE), looks)) == ["cannot tell", "dense", "jam"]


@pytest.mark.parametrize("apart_s", [1, 4, 5])
def test_a_lane_is_free_also_where_only_keyframes_are_looked_at(apart_s):
    assert states(told(Congestion(LANE), [look(float(at_s)) for at_s in range(0, 300, apart_s)])) == [
        "cannot tell",
        "free",
    ]


def test_a_lane_nobody_can_see_is_not_free():
    blind = [replace(facts, tamper=BLIND["covered"]) for facts in lane(0, 60, 0, 0)]
    assert states(told(Congestion(LANE), blind)) == ["cannot tell"]


# Without a model: a share of the lane differs from the empty scene, and a share of it moves.


def shapes(from_s: float, to_s: float, covered: float, moves: float, *, is_light_change: bool = False):
    sight = Sight()
    found = []
    for step in range(round(from_s * 2), round(to_s * 2)):
        facts = look(step / 2, sight=sight, motion=moves, is_light_change=is_light_change)
        lane, whole = (replace(zone, foreground_share=covered) for zone in facts.zones)
        found.append(replace(facts, zones=(lane, whole)))
    return found


def test_without_a_model_a_lane_that_is_covered_and_stands_is_a_jam():
    looks = [*shapes(0, 200, 0.03, 0.03), *shapes(200, 400, 0.18, 0.15), *shapes(400, 800, 0.7, 0.07)]
    events = told(Congestion(LANE), [*looks, *shapes(800, 1100, 0.05, 0.05)])
    assert states(events) == ["cannot tell", "free", "dense", "jam", "dense", "free"]
    jam = next(event for event in events if event.state == "jam")
    assert dict(jam.words) == {"by": "motion"}
    assert [name for name, _ in jam.numbers] == ["occupancy"], "one shape that stands is not counted and has no speed"


def test_without_a_model_what_parked_in_a_free_lane_is_no_jam():
    assert "jam" not in states(told(Congestion(LANE), [*shapes(0, 100, 0.0, 0.0), *shapes(100, 700, 0.3, 0.01)]))


def test_without_a_model_a_jam_that_became_part_of_the_scene_is_still_one():
    """What stands for ten minutes is learned as the empty scene. Nothing drove away, so nothing ended."""
    looks = [*shapes(0, 100, 0.03, 0.03), *shapes(100, 400, 0.7, 0.05), *shapes(400, 1000, 0.7, 0.0)]
    looks += shapes(1000, 1500, 0.0, 0.0)
    assert states(told(Congestion(LANE), looks))[-1] == "jam"
    leaving = [*shapes(1500, 1560, 0.4, 0.3), *shapes(1560, 1700, 0.04, 0.04)]
    assert states(told(Congestion(LANE), [*looks, *leaving]))[-1] == "free"


def test_without_a_model_a_lane_whose_scene_is_learned_anew_is_not_called_free():
    looks = [*shapes(0, 100, 0.7, 0.2), *shapes(100, 101, 0.0, 0.0, is_light_change=True), *shapes(101, 150, 0.0, 0.0)]
    assert states(told(Congestion(LANE), looks))[-1] == "cannot tell"


def test_speeds_are_in_metres_where_the_site_says_how_long_the_zone_is():
    event = told(Congestion(replace(LANE), length_m=50), lane(0, 1, 2, 0.2))[0]
    numbers = dict(event.numbers)
    assert numbers["speed_px_s"] == pytest.approx(0.2 * 360)
    assert numbers["speed_m_s"] == pytest.approx(0.2 * 50 / (16 / 9), abs=0.01)


def test_a_lane_at_the_edge_between_two_states_does_not_flap():
    chance = random.Random(3)
    looks = [facts for step in range(1800) for facts in lane(step, step + 0.5, chance.choice((0, 1, 2, 3)), 0.3)]
    events = told(Congestion(LANE), looks)
    gaps = [(later.to_ns - earlier.to_ns) / NS for earlier, later in itertools.pairwise(events)]
    assert all(gap >= 10 for gap in gaps)


# -- stopped vehicle -----------------------------------------------------------------------------------


def stand(
    from_s: float, to_s: float, *, moved_s: float, others=lambda at_s: (), number: int = 1, has_moved: bool = True
):
    rect = Rect(0.4, 0.4, 0.55, 0.6)
    return [
        look(
            step / 5, (track(number, CAR, rect, at_s=step / 5, moved_s=moved_s, has_moved=has_moved), *others(step / 5))
        )
        for step in range(round(from_s * 5), round(to_s * 5))
    ]


def drive(from_s: float, to_s: float, number: int = 1):
    """Comes down the picture to where stand() stands."""
    steps = range(round(from_s * 5), round(to_s * 5))
    found = []
    for step in steps:
        away = 0.1 * (to_s - step / 5)
        rect = Rect(0.4, 0.4 - away, 0.55, 0.6 - away)
        found.append(look(step / 5, (track(number, CAR, rect, at_s=step / 5, velocity=(0.0, 0.1)),)))
    return found


def passing(at_s: float):
    number = 100 + int(at_s // 3)
    y = 0.35 * (at_s % 3)
    return (track(number, CAR, Rect(0.7, y, 0.85, y + 0.2), at_s=at_s, first_s=at_s - 5, velocity=(0.0, 0.35)),)


def test_a_vehicle_that_stops_in_the_lane_is_told_within_its_time():
    events = told(StoppedVehicle("z", after_s=10), [*drive(0, 3), *stand(3, 60, moved_s=3, others=passing)])
    assert [event.state for event in events] == ["stopped"]
    assert 13 <= events[0].to_ns / NS <= 14
    assert events[0].tracks == (1,)


def test_it_is_over_when_the_vehicle_drives_on():
    subject = StoppedVehicle("z", after_s=10)
    told(subject, [*drive(0, 3), *stand(3, 60, moved_s=3, others=passing)])
    assert [event.is_end for event in told(subject, drive(60, 63))] == [True]


def test_what_never_drove_is_parked():
    assert told(StoppedVehicle("z", after_s=10), stand(0, 600, moved_s=0, has_moved=False, others=passing)) == []


def test_what_stays_for_ten_minutes_is_parked_from_then_on():
    events = told(StoppedVehicle("z", after_s=10), [*drive(0, 3), *stand(3, 1300, moved_s=3)])
    assert [(event.is_end, event.detail) for event in events] == [
        (False, "a vehicle stands in the lane"),
        (True, "parked"),
    ]


def test_a_red_light_is_not_an_incident_where_the_site_says_there_is_one():
    rule = StoppedVehicle("z", after_s=10, red_light_s=60)
    assert told(rule, [*drive(0, 3), *stand(3, 60, moved_s=3), *drive(60, 63)]) == []


def test_a_place_where_vehicles_keep_stopping_is_learned():
    subject = StoppedVehicle("z", after_s=10)
    told_each = []
    for number in range(1, 7):
        begin = number * 100.0
        events = told(
            subject,
            [
                *drive(begin, begin + 3, number),
                *stand(begin + 3, begin + 35, moved_s=begin + 3, number=number),
                *drive(begin + 35, begin + 38, number),
            ],
        )
        told_each.append(len(events))
    assert told_each[0] > 0
    assert told_each[3:] == [0, 0, 0]


def test_what_stands_behind_something_waits_for_that():
    ahead = track(2, CAR, Rect(0.4, 0.62, 0.55, 0.85), moved_s=0)

    def waits(at_s: float):
        return (replace(ahead, seen_ns=round(at_s * NS)), *passing(at_s))

    events = told(StoppedVehicle("z", after_s=10), [*drive(0, 3), *stand(3, 40, moved_s=3, others=waits)])
    assert [event.tracks for event in events] == [(2,)]


def test_a_vehicle_whose_track_was_lost_still_stands():
    subject = StoppedVehicle("z", after_s=20)
    looks = [*drive(0, 3), *stand(3, 15, moved_s=3, others=passing)]
    looks += [look(15 + step / 5, passing(15 + step / 5)) for step in range(15)]
    looks += stand(18, 40, moved_s=18, number=50, has_moved=False, others=passing)
    assert [event.state for event in told(subject, looks)] == ["stopped"]


@pytest.mark.parametrize(
    ("stood_s", "others", "passed", "light", "usual", "head", "wanted"),
    [
        (14, 0, 0, 0, None, True, False),  # not long enough
        (16, 0, 0, 0, None, True, True),
        (16, 2, 0, 0, None, True, False),  # a queue
        (16, 2, 4, 0, None, True, True),  # a queue that others drive past
        (16, 2, 4, 0, None, False, False),  # not its head
        (50, 0, 0, 60, None, True, False),  # a light
        (70, 0, 0, 60, None, True, True),
        (50, 0, 9, 0, 40, True, False),  # a bus stop
        (95, 2, 0, 0, None, True, True),
    ],
)
def test_when_standing_is_an_incident(stood_s, others, passed, light, usual, head, wanted):
    found = is_incident(
        stood_s, after_s=15, red_light_s=light, usual_s=usual, others_stand=others, passed=passed, is_head=head
    )
    assert found is wanted


# -- lines ---------------------------------------------------------------------------------------------

LINE = Line("stop", (0.0, 0.7), (1.0, 0.7))


def crossing(at_s: float, number: int, kind: str = CAR, is_to_right: bool = True, tracks=()):
    facts = look(at_s, tracks or (track(number, kind, at_s=at_s),))
    return replace(facts, crossings=(Crossing("stop", number, kind, round(at_s * NS), is_to_right),))


@pytest.mark.parametrize(
    ("start", "end", "is_to_right", "wanted"),
    [((0, 0.7), (1, 0.7), True, "down"), ((0, 0.7), (1, 0.7), False, "up"), ((1, 0.7), (0, 0.7), True, "up"),
     ((0.5, 0), (0.5, 1), True, "left"), ((0.5, 0), (0.5, 1), False, "right")],
)  # fmt: skip
def test_directions_are_as_people_see_them(start, end, is_to_right, wanted):
    assert direction(Line("l", start, end), is_to_right, 16 / 9) == wanted


def test_crossings_are_counted_by_class_and_direction():
    subject = LineCrossing(LINE)
    told(subject, [crossing(1, 1), crossing(2, 2), crossing(3, 3, is_to_right=False), crossing(4, 4, TWO_WHEELER)])
    assert subject.counts == {("car", "down"): 2, ("car", "up"): 1, ("two-wheeler", "down"): 1}


def test_what_stands_on_a_line_is_counted_once():
    subject = LineCrossing(LINE)
    told(subject, [crossing(1 + number / 5, 1, is_to_right=number % 2 == 0) for number in range(40)])
    assert sum(subject.counts.values()) == 1


def test_a_rider_is_no_pedestrian():
    bike = track(1, TWO_WHEELER, Rect(0.4, 0.5, 0.55, 0.9), velocity=(0.0, 0.2))
    rider = track(2, PERSON, Rect(0.42, 0.4, 0.53, 0.8), velocity=(0.0, 0.2))
    subject = LineCrossing(LINE)
    told(subject, [crossing(1, 1, TWO_WHEELER, tracks=(bike, rider)), crossing(1.2, 2, PERSON, tracks=(bike, rider))])
    assert subject.counts == {("two-wheeler", "down"): 1}
