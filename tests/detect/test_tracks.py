"""One number for one thing, and whether it ever moved by itself."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.detect.assignment import IMPOSSIBLE, assignment
from nvr.detect.tracks import Tracker
from nvr.scene import Detection, Rect, Track

STEP_NS = 200_000_000


@dataclass
class Scenery:
    """What the motion stage would say, made up."""

    moves: Callable[[Rect], float] = lambda rect: 0.0
    differs: Callable[[Rect], float] = lambda rect: 0.0
    known_s: float = 60.0

    def moving(self, rect: Rect) -> float:
        return self.moves(rect)

    def foreground(self, rect: Rect) -> float:
        return self.differs(rect)


STILL = Scenery()
LIVELY = Scenery(moves=lambda rect: 0.3, differs=lambda rect: 0.6)


def person(x: float, y: float = 0.5, score: float = 0.7, width: float = 0.1) -> Detection:
    return Detection(Rect(x - width / 2, y - 0.2, x + width / 2, y + 0.2), "person", score)


def car(x: float, y: float = 0.5, score: float = 0.7, kind: str = "car") -> Detection:
    return Detection(Rect(x - 0.06, y - 0.05, x + 0.06, y + 0.05), kind, score)


def follow(
    frames: list[list[Detection]], scene: Scenery = STILL, tracker: Tracker | None = None
) -> list[tuple[Track, ...]]:
    tracker = tracker or Tracker()
    told = []
    for number, found in enumerate(frames):
        tracker.update(found, number * STEP_NS, scene)
        told.append(tracker.tracks())
    return told


# -- who is who --------------------------------------------------------------------------------------


def test_a_strong_detection_is_told_at_once_and_a_weak_one_after_three():
    assert len(follow([[person(0.5, score=0.8)]])[-1]) == 1
    weak = follow([[person(0.5, score=0.5)]] * 3)
    assert [len(tracks) for tracks in weak] == [0, 0, 1]


def test_what_is_too_weak_begins_nothing_and_goes_on_with_what_is_known():
    assert follow([[person(0.5, score=0.4)]] * 10)[-1] == ()
    flickering = [[person(0.5, score=score)] for score in (0.8, 0.7, 0.6, 0.35, 0.4, 0.35, 0.35, 0.4, 0.35, 0.4)]
    assert [track.number for track in follow(flickering)[-1]] == [1]


def whole(left: float, right: float, score: float) -> Detection:
    return Detection(Rect(left, 0.04, right, 0.9), "person", score)


def test_who_goes_out_takes_his_number_with_him_though_a_weak_rect_stays_behind():
    """one-by-one-person-detection.mp4, 119 s: blurred by his going, a person had a second, weak rect where he had been, and it took his number.

    It stood there, 4 s later the next one came in, and five of six numbers were left.
    """
    tracker = Tracker()
    edges = [(0.49, 0.67), (0.48, 0.68), (0.50, 0.75), (0.50, 0.79), (0.53, 0.82), (0.61, 0.84), (0.58, 0.91)]
    frames = [[whole(left, right, 0.6)] for left, right in edges]
    frames += [[whole(0.76, 0.97, 0.64), whole(0.52, 0.92, 0.34)], [whole(0.77, 1.0, 0.68)], [whole(0.72, 0.99, 0.52)]]
    assert {track.number for told in follow(frames, LIVELY, tracker) for track in told} == {1}
    tracker.update([], len(frames) * STEP_NS, LIVELY)
    assert tracker.tracks() == ()


def test_a_truck_is_kept_from_its_surer_cab():
    """The whole is seen weakly and the cab surely, within it: the track stays with the whole."""
    truck, cab = Rect(0.2, 0.3, 0.6, 0.6), Rect(0.2, 0.32, 0.34, 0.58)
    frames = [[Detection(truck, "truck", 0.7)]] * 4
    frames += [[Detection(truck, "truck", 0.4), Detection(cab, "truck", 0.7)]] * 4
    (track,) = follow(frames, LIVELY)[-1]
    assert track.number == 1
    assert track.rect.iou(truck) > 0.9


@pytest.mark.parametrize("away_s", [10, 600])
def test_who_comes_when_nothing_moved_for_long_is_another(away_s):
    """He left through a door; nothing moved and nothing was looked at, so he was remembered until the next one came through it."""
    tracker = Tracker()
    follow([[person(0.3 + 0.02 * n, score=0.8)] for n in range(10)] + [[]] * 10, LIVELY, tracker)
    at_ns = 20 * STEP_NS
    for _ in range(away_s * 5):
        at_ns += STEP_NS
        tracker.hold(at_ns)
    tracker.update([person(0.48, score=0.8)], at_ns + STEP_NS, LIVELY)
    assert [track.number for track in tracker.tracks()] == [2]


def test_who_stands_there_while_nothing_moves_keeps_his_number():
    tracker = Tracker()
    follow([[person(0.5, score=0.8)]] * 50, tracker=tracker)
    at_ns = 50 * STEP_NS
    for _ in range(3000):
        at_ns += STEP_NS
        tracker.hold(at_ns)
    tracker.update([person(0.5, score=0.8)], at_ns + STEP_NS, STILL)
    assert [track.number for track in tracker.tracks()] == [1]


def test_two_who_pass_each_other_keep_their_numbers():
    frames = [[person(0.1 + 0.04 * n, 0.45), person(0.9 - 0.04 * n, 0.55)] for n in range(21)]
    first, last = follow(frames, LIVELY)[3], follow(frames, LIVELY)[-1]
    left = min(first, key=lambda track: track.rect.left).number
    assert max(last, key=lambda track: track.rect.left).number == left
    assert len(last) == 2


def test_a_number_survives_two_seconds_behind_a_pillar():
    frames = (
        [[person(0.2 + 0.02 * n)] for n in range(10)] + [[]] * 10 + [[person(0.2 + 0.02 * n)] for n in range(20, 25)]
    )
    told = follow(frames, LIVELY)
    assert told[18] == (), "after a second it is not told any more"
    assert {track.number for tracks in told for track in tracks} == {1}


def test_who_left_at_the_edge_is_gone_at_once():
    frames = [[person(0.7 + 0.02 * n)] for n in range(13)] + [[]] * 2
    told = follow(frames, LIVELY)
    assert told[-1] == ()


def test_car_and_truck_are_the_same_vehicle_and_the_better_name_wins():
    kinds = ["car", "truck", "truck", "car", "truck", "truck", "truck"]
    told = follow([[car(0.2 + 0.02 * n, kind=kind)] for n, kind in enumerate(kinds)], LIVELY)
    assert [(track.number, track.kind) for track in told[-1]] == [(1, "truck")]


def test_a_vehicle_goes_on_as_a_whole_although_the_model_is_surer_of_its_cab():
    """A truck that was followed for a second lost its number to its cab, which had 0.64 where the truck had 0.43."""
    frames = []
    for step in range(8):
        x = 0.3 + 0.02 * step
        whole = Detection(Rect(x, 0.4, x + 0.2, 0.55), "truck", 0.6 if step < 4 else 0.43)
        cab = Detection(Rect(x + 0.09, 0.4, x + 0.2, 0.55), "truck", 0.64)
        frames.append([whole] if step < 4 else [cab, whole])
    told = follow(frames, Scenery(moves=lambda rect: 0.05))
    assert told[-1][0].number == told[3][0].number
    assert told[-1][0].rect.width > 0.18


@pytest.mark.parametrize("looks_per_s", [3, 5, 10, 20])
def test_who_drives_has_moved_at_any_rate_of_looks(looks_per_s):
    tracker = Tracker()
    for look in range(2 * looks_per_s):
        at_s = look / looks_per_s
        tracker.update([car(0.2 + 0.15 * at_s)], round(at_s * 1e9), LIVELY)
    (track,) = tracker.tracks()
    assert track.has_moved
    assert track.velocity[0] == pytest.approx(0.15, abs=0.03)


def test_a_person_never_becomes_a_car():
    told = follow([[person(0.5)]] * 5 + [[Detection(person(0.5).rect, "car", 0.7)]] * 5)
    assert {track.kind for track in told[-1]} == {"person", "car"}


def test_the_same_frames_give_the_same_tracks():
    chance = random.Random(4)
    frames = [[person(chance.random(), chance.random(), chance.uniform(0.3, 0.9)) for _ in range(6)] for _ in range(60)]
    assert follow(frames, LIVELY) == follow(frames, LIVELY)


def test_after_a_gap_only_what_stood_keeps_its_number():
    tracker = Tracker()
    follow([[person(0.2 + 0.03 * n), person(0.8)] for n in range(10)], LIVELY, tracker)
    tracker.jump(60_000_000_000)
    assert [round(track.rect.centre[0], 1) for track in tracker.tracks()] == [0.8]


# -- has it moved? -----------------------------------------------------------------------------------


def test_who_walks_has_moved():
    assert follow([[person(0.1 + 0.03 * n)] for n in range(10)], LIVELY)[-1][0].has_moved


def test_a_poster_never_moves_however_its_rect_trembles():
    chance = random.Random(3)
    frames = [[person(0.5 + chance.gauss(0, 0.004), 0.5 + chance.gauss(0, 0.01))] for _ in range(600)]
    assert not any(track.has_moved for tracks in follow(frames) for track in tracks)


def test_a_car_that_drives_past_does_not_wake_the_parked_one():
    parked = car(0.5, 0.4)
    frames = [[parked, car(0.02 * n, 0.47)] for n in range(50)]
    scene = Scenery(moves=lambda rect: 0.4 if rect.bottom > 0.48 else 0.15, differs=lambda rect: 0.2)
    told = follow(frames, scene)
    standing = [track for track in told[30] if abs(track.rect.centre[1] - 0.4) < 0.02]
    assert standing
    assert not standing[0].has_moved


def test_a_rect_that_jumps_to_the_neighbour_has_not_moved():
    """Cars that wait close together: the model takes now this one, now that one."""
    frames = [[car(0.5)]] * 20 + [[car(0.57)]] * 20
    assert not any(track.has_moved for track in follow(frames, Scenery(moves=lambda rect: 0.1))[-1])


def test_somebody_who_sits_there_from_the_beginning_is_found_out_by_fidgeting():
    inside = person(0.5).rect
    scene = Scenery(moves=lambda rect: 0.05 if rect.area <= inside.area * 1.02 else 0.05 * inside.area / rect.area)
    told = follow([[person(0.5)]] * 30, scene)
    assert not told[3][0].has_moved
    assert told[-1][0].has_moved


def test_somebody_who_stands_where_the_scene_was_empty_has_come():
    assert follow([[person(0.5)]] * 8, Scenery(differs=lambda rect: 0.7))[-1][0].has_moved


def test_a_blob_that_only_differs_has_not_moved():
    """car-detection: a bush in the corner was counted as a vehicle for the rest of the film."""
    blob = Detection(Rect(0.9, 0.9, 1.0, 1.0), "moving", 0.6)
    assert not any(track.has_moved for track in follow([[blob]] * 60, Scenery(differs=lambda rect: 0.7))[-1])


def test_nothing_came_while_the_scene_is_not_known_yet():
    assert not follow([[person(0.5)]] * 8, Scenery(differs=lambda rect: 0.7, known_s=3.0))[-1][0].has_moved


def test_who_stands_still_stays_while_the_model_misses_him():
    """A person with the back to the camera: the model lost him, and the scene is as little empty as before."""
    walk = [[person(0.2 + 0.03 * n)] for n in range(10)] + [[person(0.5)]] * 10
    scene = Scenery(moves=lambda rect: 0.0 if rect.left > 0.4 else 0.3, differs=lambda rect: 0.8)
    told = follow(walk + [[]] * 40, scene)
    assert [track.number for track in told[-1]] == [1]


# -- assignment --------------------------------------------------------------------------------------


@given(st.integers(1, 5), st.integers(1, 5), st.randoms(use_true_random=False))
def test_the_assignment_costs_least(rows, columns, chance):
    costs = [[chance.choice((chance.random(), IMPOSSIBLE)) for _ in range(columns)] for _ in range(rows)]
    pairs = assignment(costs)
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)

    def total(chosen):
        return sum(min(costs[row][column] - IMPOSSIBLE, 0.0) for row, column in chosen)

    if rows <= columns:
        every = ([*zip(range(rows), order, strict=True)] for order in itertools.permutations(range(columns), rows))
    else:
        every = ([*zip(order, range(columns), strict=True)] for order in itertools.permutations(range(rows), columns))
    assert abs(total(pairs) - min(total(chosen) for chosen in every)) < 1e-6


def test_nothing_is_assigned_to_nobody():
    assert assignment([]) == []
    assert assignment([[]]) == []
    assert assignment([[IMPOSSIBLE]]) == []
