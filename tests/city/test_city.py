"""The city of the demo: complete, the same every time, and honest about what is drawn."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from tools import demo
from tools.city import city as city_room
from tools.city import day, pictures
from tools.city.story import Story

CITY = city_room.load()
PLACES = {place.name: place for place in CITY.places}
NOON_S = 1_795_662_000.0  # 2026-11-25T12:00:00+09:00, a Wednesday


def test_there_are_37_cameras_of_which_19_look_at_traffic():
    cameras = [(name, place) for box in CITY.boxes for name, place in box.cameras]
    assert len(cameras) == 37 and sum(place.kind == "traffic" for _, place in cameras) == 19
    assert len({name for name, _ in cameras}) == 37
    assert len(PLACES) == len(CITY.places)


def test_every_place_lies_around_the_bay_and_has_a_name_in_both_languages():
    for place in CITY.places:
        assert -3.83 < place.lat < -3.55 and 128.0 < place.lon < 128.35, place.name
        assert place.title_id and place.title_en
        assert (place.hours is not None) == (place.template == "service-office")


def test_without_places_that_somebody_else_looks_at_the_rest_stays():
    rest = CITY.without({"balai-kota", "disdukcapil", "simpang-skip"})
    assert len(rest.places) == len(CITY.places) - 3
    assert "balai-kota-1" not in {box.name for box in rest.boxes}


def test_the_story_is_the_same_every_time_and_has_everything_in_it():
    seen: Counter[tuple[str, str]] = Counter()
    for at_s in range(0, day.ROUND_S, 5):
        for box in CITY.boxes:
            for camera, place in box.cameras:
                first = day.scene(place, camera, at_s, is_due=True)
                assert first == day.scene(place, camera, at_s, is_due=True)
                for state in day.states(place, first, due="open"):
                    seen[state.kind, state.state] += 1
    for wanted in (
        ("service_open", "open"), ("service_open", "closed"), ("service_open", "cannot tell"), ("congestion", "free"), ("congestion", "dense"),
        ("congestion", "jam"), ("stopped_vehicle", "stopped"), ("queue", "waiting"), ("queue", "long queue"), ("crowd", "crowd"), ("tamper", "covered"),
    ):  # fmt: skip
        assert seen[wanted], wanted


def test_a_covered_camera_accuses_nobody():
    place = PLACES["puskesmas-passo"]
    said = {state.kind: state.state for state in day.states(place, day.Scene(shut=True, fault="covered"), due="open")}
    assert said["service_open"] == "cannot tell" and "queue" not in said


def test_a_queue_beyond_ten_has_no_upper_bound():
    assert dict(day.queue_numbers(4)) == {"waiting": 4.0, "waiting_least": 3.0, "waiting_most": 5.0, "longest_s": 660.0}
    assert "waiting_most" not in dict(day.queue_numbers(11))
    assert dict(day.queue_numbers(0))["waiting_most"] == 0.0


@pytest.mark.parametrize(("local_hour", "is_due"), [(7.9, False), (8.0, True), (13.9, True), (14.0, False)])
def test_offices_keep_the_hours_of_the_city_when_they_are_asked_to(local_hour, is_due):
    story = Story(0.0, CITY.time_zone, is_always_open=False)
    assert story.is_due(PLACES["puskesmas-rijali"], NOON_S + (local_hour - 12) * 3600) is is_due
    assert Story(0.0, CITY.time_zone).is_due(PLACES["puskesmas-rijali"], NOON_S + (local_hour - 12) * 3600)


@pytest.mark.parametrize("name", ["simpang-mardika", "puskesmas-rijali", "lapangan-merdeka"])
def test_pictures_are_jpegs_that_fit_the_link_and_no_two_are_the_same(name):
    place = PLACES[name]
    camera = place.camera_name(place.cameras[0])
    seen = day.scene(place, camera, 100.0, is_due=True)
    first, again, later = (pictures.still(place, camera, seen, at_s) for at_s in (100.0, 100.0, 110.0))
    assert first == again != later
    assert first[:2] == b"\xff\xd8"
    # 37 of them in ten seconds stay below half of 1 Mbit/s.
    assert 2_000 < len(first) < 17_000


def test_what_is_seen_differs_from_what_is_not():
    place = PLACES["simpang-mardika"]
    camera = place.camera_name("utara")
    empty = pictures.picture(place, camera, day.Scene(vehicles=0.0), 5.0)
    full = pictures.picture(place, camera, day.Scene(vehicles=0.95), 5.0)
    dark = pictures.picture(place, camera, day.Scene(fault="covered"), 5.0)
    assert float(np.abs(empty - full).mean()) > 3
    assert float(dark.mean()) < 40 < float(empty.mean())


def test_a_second_demo_in_the_same_folder_is_refused_before_it_touches_anything(tmp_path):
    with demo.alone_in(tmp_path):
        second = subprocess.run(
            [sys.executable, "-m", "tools.demo", "--data", str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
        )  # fmt: skip
    assert (second.returncode, second.stdout) == (1, "")
    assert f"a demo is running in {tmp_path}" in second.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    with demo.alone_in(tmp_path):
        pass
