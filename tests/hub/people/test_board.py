"""Tiles and the place board: nothing looks live, open or closed that is not known to be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nvr.hub.people import board, tile
from nvr.hub.people.board import Watched
from nvr.hub.people.tile import Camera, StateNow

NOW = 1_795_651_200_000
GOOD = Camera(
    seen_ms=NOW - 3000,
    heard={"recording": True, "looked_at": "yes"},
    captured_ms=NOW - 4000,
    received_ms=NOW - 3500,
    heartbeat_ms=NOW - 3000,
)


def with_states(*states: StateNow, camera: Camera = GOOD) -> Camera:
    return replace(camera, states=states)


def service(state: str, since_ms: int = NOW - 60_000, due: str = "open") -> StateNow:
    return StateNow("service_open", "counter", state, since_ms, "e" * 32, {}, {"due": due}, "because", True)


CASES = {
    "live": (GOOD, "live", None),
    "never heard": (replace(GOOD, seen_ms=None), "unknown", "box never heard"),
    "silent for 31 s": (replace(GOOD, seen_ms=NOW - 31_000), "silent", "box silent"),
    "silent for 29 s": (replace(GOOD, seen_ms=NOW - 29_000), "live", None),
    "not in the heartbeat": (replace(GOOD, heard={}), "unknown", "box does not name the camera"),
    "not recording": (replace(GOOD, heard={"recording": False, "cause": "network", "since_ms": 5}), "down", "not recording"),
    "down by its rule": (with_states(StateNow("camera", "", "down", 7)), "down", "no picture"),
    "covered": (with_states(StateNow("tamper", "", "covered", 7)), "tampered", "covered"),
    "frozen": (with_states(StateNow("tamper", "", "frozen", 7)), "tampered", "frozen"),
    "dark": (with_states(StateNow("tamper", "", "dark", 7)), "dark", "dark"),
    "worst first": (with_states(StateNow("tamper", "", "dark", 7), StateNow("camera", "", "down", 8)), "down", "no picture"),
    "no still yet": (replace(GOOD, captured_ms=0, received_ms=0), "unknown", "no picture yet"),
    "still of 16 s ago": (replace(GOOD, captured_ms=NOW - 16_000), "late", "picture late"),
    "came now, taken long ago": (replace(GOOD, captured_ms=NOW - 900_000, received_ms=NOW - 100), "late", "picture late"),
    "the box does not know the time": (replace(GOOD, captured_ms=0, received_ms=NOW - 5000), "live", None),
    "a clock that runs ahead does not make it young": (
        replace(GOOD, captured_ms=NOW + 900_000, received_ms=NOW - 16_000), "late", "picture late",
    ),
    "a clock that runs ahead is told": (replace(GOOD, captured_ms=NOW + 900_000, received_ms=NOW - 5000), "live", "box clock ahead"),
    "the same bytes again and again": (replace(GOOD, heard={**GOOD.heard, "same_since_ms": NOW - 6_000}), "tampered", "same picture"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_tile_says_the_worst_that_is_known(name):
    camera, state, key = CASES[name]
    found = tile.tile(camera, NOW)
    assert (found.state, found.why.get("key")) == (state, key)


@pytest.mark.parametrize("camera", [camera for camera, state, _ in CASES.values() if state == "live"])
def test_every_live_tile_marks_itself_within_fifteen_seconds_of_its_picture(camera):
    for later_ms in range(0, 120_000, 500):
        found = tile.tile(camera, NOW + later_ms)
        if NOW + later_ms - found.still_ms > 15_000:
            assert found.state != "live", later_ms


BLIND = {name: camera for name, (camera, state, _) in CASES.items() if state in tile.BLIND and name != "no still yet"}
BLIND["nobody looks"] = replace(GOOD, heard={"recording": True, "looked_at": "detection does not run"})
BLIND["stills come and heartbeats do not"] = replace(GOOD, heartbeat_ms=NOW - 46_000)


@pytest.mark.parametrize("name", BLIND)
@pytest.mark.parametrize("state", ["open", "closed"])
def test_open_and_closed_become_cannot_tell_when_the_camera_cannot_be_believed(name, state):
    camera = replace(BLIND[name], states=(*BLIND[name].states, service(state)))
    found = board.board([Watched(1, camera)], NOW).service
    assert found["state"] == "cannot tell"
    assert found["why"]["key"]


def test_open_and_closed_name_their_evidence_and_since_when():
    for state in ("open", "closed"):
        found = board.board([Watched(4, with_states(service(state)))], NOW).service
        assert (found["state"], found["since_ms"], found["due"]) == (state, NOW - 60_000, "open")
        assert found["evidence"] == {
            "event": "e" * 32, "camera_id": 4, "at_ms": NOW - 60_000, "zone": "counter", "still_url": f"/api/v1/events/{'e' * 32}/still",
        }  # fmt: skip


def test_closed_says_up_to_when_it_is_sure():
    """The box says `closed` of five minutes ago and before; a number that makes no sense is none."""
    first, second = (replace(service("closed"), numbers={"behind_s": behind_s}) for behind_s in (310.0, 250.0))
    found = board.board([Watched(1, with_states(first)), Watched(2, with_states(second))], NOW).service
    assert found["sure_ms"] == GOOD.heartbeat_ms - 310_000
    for behind_s in (float("nan"), float("inf"), -1.0):
        odd = replace(service("closed"), numbers={"behind_s": behind_s})
        assert board.board([Watched(1, with_states(odd))], NOW).service["sure_ms"] == GOOD.heartbeat_ms


def test_closed_needs_every_camera_that_judges_the_place():
    closed, blind = with_states(service("closed")), replace(GOOD, seen_ms=NOW - 99_000, states=(service("closed"),))
    unsure = with_states(service("cannot tell"))
    assert board.board([Watched(1, closed), Watched(2, closed)], NOW).service["state"] == "closed"
    assert board.board([Watched(1, closed), Watched(2, blind)], NOW).service["state"] == "cannot tell"
    assert board.board([Watched(1, closed), Watched(2, unsure)], NOW).service["state"] == "cannot tell"
    assert board.board([Watched(1, closed), Watched(2, with_states(service("open")))], NOW).service["state"] == "open"


def test_a_place_that_nobody_judges_has_no_service_queue_or_traffic():
    found = board.board([Watched(1, GOOD)], NOW)
    assert (found.service, found.queue, found.traffic, found.incidents) == (None, None, None, [])


def waiting(number: float, most: float | None = None, longest_s: float = 60.0) -> StateNow:
    numbers = {"waiting": number, "waiting_least": number - 1, "longest_s": longest_s}
    return StateNow(
        "queue",
        "counter",
        str(int(number)),
        NOW - 5000,
        "q" * 32,
        numbers | ({} if most is None else {"waiting_most": most}),
    )


def test_queues_of_a_place_are_added_up_and_an_unseen_one_makes_them_incomplete():
    first, second = with_states(waiting(3, 4)), with_states(waiting(2, 2, longest_s=600.0))
    found = board.board([Watched(1, first), Watched(2, second)], NOW).queue
    assert (found["waiting"], found["waiting_least"], found["waiting_most"], found["wait_s"]) == (5, 3, 6, 600)
    assert found["is_complete"]
    blind = replace(second, seen_ms=NOW - 99_000)
    found = board.board([Watched(1, first), Watched(2, blind)], NOW).queue
    assert (found["waiting"], found["is_complete"], found["why"]["key"]) == (3, False, "box silent")
    assert board.board([Watched(2, blind)], NOW).queue["waiting"] is None
    assert board.board([Watched(1, with_states(waiting(10)))], NOW).queue["waiting_most"] is None  # ten or more


def test_the_worst_lane_decides_and_lanes_that_are_not_seen_are_told():
    def lane(state: str, **numbers: float) -> StateNow:
        return StateNow("congestion", state, state, NOW - 1000, "c" * 32, numbers)

    seen = with_states(lane("free"), lane("jam", speed_px_s=3.0, speed_m_s=0.4), lane("dense"))
    found = board.board([Watched(1, seen)], NOW, {"car": 12}).traffic
    assert (found["state"], found["counts"], found["speed"], found["is_complete"]) == (
        "jam",
        {"car": 12},
        {"value": 0.4, "unit": "m_s"},
        True,
    )
    blind = replace(seen, heard={"recording": False})
    assert board.board([Watched(1, blind)], NOW).traffic["state"] == "cannot tell"
    both = board.board([Watched(1, blind), Watched(2, with_states(lane("free")))], NOW).traffic
    assert (both["state"], both["is_complete"]) == ("free", False)


def test_an_incident_stays_when_its_camera_goes_blind_and_says_that_its_end_would_not_be_seen():
    stopped = StateNow("stopped_vehicle", "inbound", "stopped", NOW - 9000, "s" * 32, {"stood_s": 20.0})
    long_queue = StateNow("queue", "counter", "long queue", NOW - 3000, "l" * 32)
    camera = with_states(stopped, long_queue, camera=replace(GOOD, seen_ms=NOW - 40_000))
    found = board.board([Watched(1, camera)], NOW).incidents
    assert [each["state"] for each in found] == ["long queue", "stopped"]
    assert {each["why"]["key"] for each in found} == {"box silent"}
