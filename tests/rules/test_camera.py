"""Tamper and the camera's own health: told when it lasts, over when it is over; a night is not a cover."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_site import gate, good

from nvr import site
from nvr.rules.camera import CameraRule
from nvr.rules.tamper import TamperRule
from nvr.rules.templates import settings_of
from nvr.scene import Health
from rules.scenes import BLIND, CLEAR, NS, look, told

TOLD = [name for name in BLIND if name != "dark"]


def span(from_s: float, to_s: float, **more):
    return [look(step / 5, **more) for step in range(round(from_s * 5), round(to_s * 5))]


def states(events):
    return [(event.state, event.is_end) for event in events]


@pytest.mark.parametrize("what", TOLD)
def test_each_way_to_blind_a_camera_is_told_once_and_over_once(what):
    events = told(TamperRule(), [*span(0, 60), *span(60, 180, tamper=BLIND[what]), *span(180, 300)])
    assert states(events) == [(what, False), (what, True)]
    assert events[0].to_ns <= 80 * NS


def test_a_night_is_not_a_cover():
    looks = []
    for step in range(600):
        light = max(0.02, 0.44 - step * 0.002)
        looks.append(
            look(
                step,
                tamper=replace(
                    CLEAR,
                    brightness=light,
                    dark_share=0.99 if light < 0.1 else 0.1,
                    detail=0.05 if light < 0.1 else 0.6,
                ),
            )
        )
    assert told(TamperRule(), looks) == []


@pytest.mark.parametrize("what", TOLD)
def test_somebody_who_walks_past_the_lens_is_no_tampering(what):
    short = {"frozen": replace(CLEAR, frozen_ns=3 * NS), "looped": replace(CLEAR, loop_ns=3 * NS)}.get(
        what, BLIND[what]
    )
    assert told(TamperRule(), [*span(0, 60), *span(60, 62, tamper=short), *span(62, 120)]) == []


def test_nothing_is_said_about_the_picture_of_a_camera_that_is_gone():
    assert told(TamperRule(), span(0, 120, tamper=BLIND["covered"], has_picture=False)) == []


WELL = Health(width_px=640, height_px=360, wanted_px=(640, 360))


@pytest.mark.parametrize(
    ("health", "what"),
    [
        (replace(WELL, is_sending=False, cause="network", detail="no route to host"), "down"),
        (replace(WELL, camera_clock_error_ns=-3600 * NS), "wrong clock"),
        (replace(WELL, width_px=352, height_px=288), "wrong resolution"),
    ],
)
def test_what_is_wrong_with_a_camera_is_told_and_ends(health, what):
    events = told(
        CameraRule(),
        [
            *span(0, 60, health=WELL),
            *span(60, 200, health=health),
            *span(200, 400, health=replace(WELL, camera_clock_error_ns=0)),
        ],
    )
    assert states(events) == [(what, False), (what, True)]


@pytest.mark.parametrize("cause", ["disk failed", "disk full", "disk slow", "held back", "box off", "box busy"])
def test_a_camera_is_not_accused_of_what_the_box_fails_at(cause):
    """The city simulator: a card became read-only, and three cameras that sent as well as ever were told to be down."""
    looks = [
        *span(0, 60, health=WELL),
        *span(60, 200, health=Health(is_sending=False, cause=cause)),
        *span(200, 300, health=WELL),
    ]
    assert told(CameraRule(), looks) == []
    down = [
        *span(0, 60, health=Health(is_sending=False, cause="network")),
        *span(60, 120, health=Health(is_sending=False, cause=cause)),
    ]
    assert states(told(CameraRule(), down)) == [("down", False)]  # and one that was down is not said to be well


def test_a_camera_that_keeps_losing_packets_is_told_and_a_single_burst_is_not():
    steady = [look(step, health=replace(WELL, lost_packets=step * 2)) for step in range(200)]
    assert states(told(CameraRule(), steady)) == [("losing packets", False)]
    burst = [look(step, health=replace(WELL, lost_packets=15 if step > 50 else 0)) for step in range(200)]
    assert told(CameraRule(), burst) == []


# -- which rules a camera has --------------------------------------------------------------------------


def rules(lines: str) -> list[tuple[str, str]]:
    camera = good(gate(lines)).cameras[0]
    return [
        (rule.name, str(rule.settings.get("zone") or rule.settings.get("line") or "")) for rule in settings_of(camera)
    ]


def test_a_template_gives_its_rules_to_every_zone_and_line():
    places = "zones: {a: [[0, 0], [1, 0], [1, 1]], b: [[0, 0], [1, 0], [0, 1]]}\nlines: {l: {from: [0, 0], to: [1, 1]}}"
    assert rules(f"template: traffic\n{places}") == [
        ("congestion", "a"), ("congestion", "b"), ("stopped_vehicle", "a"), ("stopped_vehicle", "b"), ("line_crossing", "l"),
        ("tamper", ""), ("camera", ""),
    ]  # fmt: skip


def test_rules_that_need_hours_are_left_out_of_a_template_without_them():
    assert [name for name, _ in rules("template: service-office\nzones: {a: [[0, 0], [1, 0], [1, 1]]}")] == [
        "queue",
        "tamper",
        "camera",
    ]


def test_a_camera_with_rules_of_its_own_has_those_and_is_looked_after():
    assert rules("template: traffic\nzones: {a: [[0, 0], [1, 0], [1, 1]]}\nrules: {crowd: {zone: a}}") == [
        ("crowd", "a"),
        ("tamper", ""),
        ("camera", ""),
    ]


def test_holidays_come_from_the_time_zone_unless_the_site_says_otherwise(tmp_path):
    text = gate("").replace("time_zone: UTC", "time_zone: Asia/Jayapura")
    assert 2026 in good(text).holidays.years
    assert not good(text + "holidays: none\n").holidays.days
    faults = site.check_text((text + "holidays: nowhere.yaml\n").encode(), tmp_path / "site.yaml").faults
    assert [(fault.line, fault.key) for fault in faults] == [(8, "holidays")]
