from __future__ import annotations

import json
import time

import pytest

from firmware import gate
from firmware.gate import STEADY_S, UNHEARD_BOUND_S, Before, Now, Patience, missing, verdict
from firmware.slot_state import State, committed, emptied, filled
from nvr.clock import boot_id

OLD = committed(State(left_b=0), "A")  # A recorded once, B is empty
NEW = filled(emptied(OLD, "B"), "B")  # B holds something new
BOUND_S = Patience().bound_s
BEFORE = Before("1.0", ("gate/main", "hall/main"), uplink=True)
GOOD = Now({"gate/main": True, "hall/main": True}, {}, True)


def test_nothing_is_owed_when_everything_records_and_the_uplink_talks():
    assert missing(BEFORE, GOOD) == []


@pytest.mark.parametrize(
    ("now", "word"),
    [
        (Now(), "record does not answer"),
        (Now({"gate/main": True, "hall/main": False}, {"hall/main": "wrong password"}, True), "wrong password"),
        (Now({"gate/main": True}, {}, True), "hall/main does not record"),
        (Now({"gate/main": True, "hall/main": True}, {}, None), "hub"),
        (Now({"gate/main": True, "hall/main": True}, {}, False), "hub"),
    ],
)
def test_what_is_owed_is_named(now, word):
    assert any(word in owed for owed in missing(BEFORE, now))


def test_a_camera_that_did_not_record_before_is_not_asked_for():
    assert missing(Before("1.0", ("gate/main",)), Now({"gate/main": True, "hall/main": False}, {}, None)) == []


def test_a_hub_that_was_not_reached_before_is_not_asked_for():
    assert missing(Before("1.0", ("gate/main",), uplink=False), Now({"gate/main": True}, {}, False)) == []


def test_a_new_slot_is_committed_once_it_stayed_good_for_a_while():
    assert verdict(NEW, "B", [], 30, STEADY_S - 1, BOUND_S).action == "wait"
    assert verdict(NEW, "B", [], 30, STEADY_S, BOUND_S).action == "commit"


def test_a_new_slot_that_owes_something_goes_back_after_the_bound_and_says_why():
    assert verdict(NEW, "B", ["hall/main does not record"], BOUND_S - 1, 0, BOUND_S).action == "wait"
    judged = verdict(NEW, "B", ["hall/main does not record"], BOUND_S, 0, BOUND_S)
    assert judged.action == "return"
    assert "hall/main" in judged.reason


def test_a_new_slot_that_comes_and_goes_is_not_committed():
    judged = verdict(NEW, "B", [], BOUND_S, 3, BOUND_S)
    assert judged.action == "return"
    assert "does not stay" in judged.reason


def test_a_slot_with_nowhere_to_go_stays_and_is_judged_again():
    assert verdict(State(left_b=0), "A", ["record does not answer"], BOUND_S, 0, BOUND_S).action == "stay"


def test_a_slot_that_proved_itself_is_not_left_because_cameras_are_away():
    assert missing(Before(), Now({"gate/main": False}, {}, False)) == []
    assert verdict(OLD, "A", [], 1, 0, BOUND_S).action == "commit"


def test_a_slot_in_which_record_does_not_start_at_all_is_left_later():
    both_good = committed(committed(State(), "A"), "B")
    owed = missing(Before(), Now())
    assert verdict(both_good, "A", owed, UNHEARD_BOUND_S - 1, 0, BOUND_S).action == "wait"
    assert verdict(both_good, "A", owed, UNHEARD_BOUND_S, 0, BOUND_S).action == "return"


TALKS = {"connected": True, "age_ms": 0, "boot_id": boot_id().hex()}


@pytest.mark.parametrize(
    ("said", "talks"),
    [
        (TALKS, True),
        ({**TALKS, "connected": False}, False),
        ({**TALKS, "age_ms": 61_000}, False),
        ({**TALKS, "boot_id": "ab" * 16}, False),
        ({"connected": True}, None),
        ([], None),
    ],
    ids=["talks", "does not", "a minute ago", "before the restart", "of another version", "nonsense"],
)
def test_the_uplink_talks_when_it_says_so_in_this_boot(tmp_path, said, talks):
    """A box that restarts within a minute into a slot that cannot reach the hub found the other slot's "connected", written just before
    the restart, and committed the slot: seen in a virtual PC. The file's date says nothing, least of all on a board without a clock.
    """
    if "age_ms" in said:
        mono_ms = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
        said = {**said, "mono_ms": mono_ms - said["age_ms"]}
    (tmp_path / "run").mkdir()
    (tmp_path / "run/uplink.json").write_text(json.dumps(said))
    assert gate.Listener(tmp_path)._uplink() is talks


@pytest.mark.parametrize("text", ["", "{", "[]", '{"streams": 3}', '{"version": "1", "streams": ["a"], "uplink": 1'])
def test_a_damaged_note_of_what_was_before_asks_for_nothing(tmp_path, text):
    (tmp_path / gate.BEFORE).write_text(text)
    assert gate.read_before(tmp_path) == Before()


def test_the_list_of_boots_is_bounded(tmp_path):
    for number in range(1500):
        gate.note_boot(tmp_path, {"what": "started", "number": number, "why": "x" * 40})
    lines = (tmp_path / gate.BOOTS).read_text().splitlines()
    assert sum(map(len, lines)) <= gate.BOOTS_BYTES
    assert json.loads(lines[-1])["number"] == 1499


def test_a_return_by_the_bootloader_is_explained_by_the_slot_it_returned_to(tmp_path):
    gate.keep(tmp_path, gate.LAST, {"state": "installed", "slot": "B", "version": "1.1", "reason": ""})
    gate._explain_return(tmp_path, "A", State(("B", "A"), 2, 0, good_a=True), tmp_path, tmp_path)
    last = json.loads((tmp_path / gate.LAST).read_text())
    assert last["state"] == "return"
    assert "started 3 times" in last["reason"]


def test_an_installation_that_was_not_started_yet_is_not_called_a_return(tmp_path):
    gate.keep(tmp_path, gate.LAST, {"state": "installed", "slot": "B", "version": "1.1", "reason": ""})
    gate._explain_return(tmp_path, "A", NEW, tmp_path, tmp_path)
    assert json.loads((tmp_path / gate.LAST).read_text())["state"] == "installed"


@pytest.mark.parametrize(("is_ordered", "state"), [(False, "refused"), (True, "installing")])
def test_an_installation_that_was_cut_short_is_no_return(tmp_path, is_ordered, state):
    """The other slot has no attempts then, as after three starts. The update before was said to have been started three times: seen in a
    virtual PC whose power was cut. What the hub ordered is tried again, and a roll-out must not stop for that.
    """
    gate.keep(tmp_path, gate.LAST, {"state": "installing", "slot": "B", "version": "1.1", "reason": ""})
    if is_ordered:
        (tmp_path / "updates").mkdir()
        (tmp_path / gate.ORDER).write_text("{}")
    gate._explain_return(tmp_path, "A", emptied(OLD, "B"), tmp_path, tmp_path)
    last = json.loads((tmp_path / gate.LAST).read_text())
    assert last["state"] == state
    assert "3 times" not in last["reason"]
    assert ("power failed" in last["reason"]) is not is_ordered


def test_an_installation_whose_slot_runs_was_not_cut_short(tmp_path):
    """The power failed between RAUC's last write and the note of it: the new slot told the hub that it had been refused."""
    gate.keep(tmp_path, gate.LAST, {"state": "installing", "slot": "B", "version": "1.1", "reason": ""})
    gate._explain_return(tmp_path, "B", State(("B", "A"), 3, 2, good_a=True), tmp_path, tmp_path)
    assert json.loads((tmp_path / gate.LAST).read_text())["state"] == "installing"


def test_a_slow_board_gets_the_time_it_needs():
    assert Patience().ends_s(15) == BOUND_S
    assert Patience().ends_s(120) == 600
    owed = ["record does not answer"]
    assert verdict(NEW, "B", owed, BOUND_S + 1, 0, Patience().ends_s(120)).action == "wait"


def test_a_drop_in_of_the_unit_says_how_patient_it_is():
    assert Patience.told({}) == Patience()
    assert Patience.told({"NVR_GATE_BOUND_S": "40", "NVR_GATE_STARTS": "1"}) == Patience(40, 1)


@pytest.mark.parametrize("text", ["0", "-3", "nan", "inf", "soon", "1e9"])
def test_a_patience_that_makes_no_sense_changes_nothing(text):
    assert Patience.told({"NVR_GATE_BOUND_S": text}) == Patience()
