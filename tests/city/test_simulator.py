"""The city simulator: the same seed asks for the same, and what is wrong is found, whatever it is."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from nvr.ledger import Part
from nvr.media import Cause
from tools.city import city as city_room
from tools.city.simulator import score, script, sheet, truth
from tools.city.simulator.score import Asked, ClipSeen, Seen, ToldAlarm
from tools.city.simulator.script import FAULTS, Fault
from tools.city.simulator.truth import Alarm, Done, Sent, Window

ROOT = Path(__file__).resolve().parents[2]
REAL = {"poka-1": ("a", "b"), "passo-1": ("c",)}
LIGHT = ("galala-1", "benteng-1")
NS = 1_000_000_000


# -- the script --------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_script_and_another_one_another():
    first, again, other = (script.draw(seed, 600, REAL, LIGHT) for seed in (1, 1, 2))
    assert first == again and first.digest() == again.digest()
    assert first.digest() != other.digest()


def test_the_script_of_a_seed_is_the_same_in_another_process():
    arguments = [sys.executable, "-m", "tools.city", "simulate", "--script-only", "--seed", "7", "--minutes", "3"]
    told = {
        subprocess.run(
            arguments, cwd=ROOT, check=True, capture_output=True, text=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1 and "script" in told.pop()


@pytest.mark.parametrize("seed", range(12))
def test_a_script_leaves_time_before_and_after_and_hurts_nothing_twice_at_once(seed):
    drawn = script.draw(seed, 600, REAL, LIGHT)
    assert len(drawn.faults) > 30
    for fault in drawn.faults:
        assert script.QUIET_BEFORE_S <= fault.at_s <= fault.end_s <= 600 - script.QUIET_AFTER_S
        least_s, most_s = FAULTS[fault.kind, fault.how]
        assert least_s <= fault.for_s <= most_s
        assert fault.target in {"power": REAL, "clock": REAL, "card": REAL, "hub": ("",), "load": ("",)}.get(
            fault.kind, [*REAL, *LIGHT, "a", "b", "c"]
        )
        if fault.target in LIGHT:
            assert fault.kind == "link"
    for one, other in pairwise(sorted(drawn.faults, key=lambda fault: (fault.kind, fault.target, fault.at_s))):
        assert (one.kind, one.target) != (other.kind, other.target) or one.end_s < other.at_s
    for gone in [fault for fault in drawn.faults if fault.how == "gone"]:
        mine = [each for each in drawn.faults if each.kind == "camera" and each.target in REAL[gone.target]]
        assert not any(each.at_s < gone.end_s and gone.at_s < each.end_s for each in mine)
    for ask in drawn.asks:
        assert 0 <= ask.from_s < ask.to_s < ask.at_s < 600


def test_in_ten_minutes_every_fault_happens():
    drawn = script.draw(1, 600, REAL, LIGHT)
    assert {(fault.kind, fault.how) for fault in drawn.faults} == set(FAULTS)


def test_too_short_a_time_is_refused():
    with pytest.raises(ValueError, match="too short"):
        script.draw(1, 60, REAL, LIGHT)


def test_the_city_has_room_for_it():
    """The boxes that the command makes real have cameras, and names that tell them apart from cameras."""
    city = city_room.load()
    names = {name for box in city.boxes for name, _ in box.cameras}
    assert len(city.boxes) == 11 and not names & {box.name for box in city.boxes}


# -- what may be missing -------------------------------------------------------------------------------------------------


def done(kind: str, how: str, target: str, from_s: float, to_s: float) -> Done:
    return Done(Fault(from_s, to_s - from_s, kind, how, target), from_s, to_s)


@pytest.mark.parametrize(
    ("each", "at_s", "allowed"),
    [
        (done("power", "cut", "poka-1", 100, 110), 97, {Cause.BOX_OFF, Cause.CAMERA, Cause.NETWORK}),
        (done("power", "cut", "poka-1", 100, 110), 94, set()),
        (done("power", "cut", "passo-1", 100, 110), 105, set()),
        (done("camera", "silent", "a", 100, 120), 119, {Cause.CAMERA, Cause.NETWORK}),
        (done("camera", "silent", "b", 100, 120), 119, set()),
        (done("camera", "gone", "poka-1", 100, 120), 119, {Cause.CAMERA, Cause.NETWORK}),
        (done("camera", "frozen", "a", 100, 120), 110, set()),
        (done("camera", "other size", "a", 100, 120), 110, set()),
        (done("card", "errors", "poka-1", 100, 120), 110, {Cause.DISK_FAILED, Cause.DISK_FULL, Cause.DISK_SLOW}),
        (done("card", "slow", "poka-1", 100, 120), 110, set()),
        (done("card", "stuck", "poka-1", 100, 120), 110, {Cause.DISK_SLOW}),
        (done("card", "full", "poka-1", 100, 120), 50, {Cause.RECYCLED}),
        (done("link", "down", "poka-1", 100, 120), 110, set()),
        (done("clock", "lost", "poka-1", 100, 120), 110, set()),
        (done("hub", "killed", "", 100, 120), 110, set()),
        (done("load", "busy", "", 100, 120), 110, set()),
    ],
)
def test_each_fault_excuses_what_it_can_cause_and_nothing_else(each, at_s, allowed):
    found = [window for window in truth.windows([each], "a", "poka-1") if window.from_s <= at_s < window.to_s]
    assert frozenset().union(*(window.causes for window in found)) == allowed


# -- the ledger beside the oracle ------------------------------------------------------------------------------------------

EVERY_SECOND = Sent(dict.fromkeys(range(100, 200), 5), dict.fromkeys(range(100, 200), 5))
PICTURES = dict.fromkeys(range(100, 200), 5.0)


def parts(*cuts: tuple[float, Cause | None]) -> list[Part]:
    """From 100 on: (until, cause)."""
    found, at_s = [], 100.0
    for to_s, cause in cuts:
        found.append(Part(round(at_s * NS), round(to_s * NS), cause))
        at_s = to_s
    return found


def scored(account, *, pictures=PICTURES, windows=(), sent=EVERY_SECOND, silences=()) -> score.CameraScore:
    return score.of_camera("a", account, pictures, windows, sent, silences, 100, 200)


def test_footage_without_a_gap_is_all_there():
    found = scored(parts((200, None)))
    assert (found.seconds, found.recorded, found.pictures_recorded, found.pictures_sent) == (100, 100, 500, 500)
    assert not found.is_quietly_lost()


def test_a_gap_in_which_nothing_had_happened_is_found():
    found = scored(parts((150, None), (153, Cause.CAMERA), (200, None)))
    assert [wrong.second for wrong in found.lost] == [150, 151, 152]
    assert found.is_quietly_lost()


def test_a_gap_with_a_cause_that_did_not_happen_is_found():
    window = Window(149, 160, frozenset((Cause.DISK_FAILED,)), "card errors")
    found = scored(parts((150, None), (153, Cause.CAMERA), (200, None)), windows=[window])
    assert [wrong.second for wrong in found.wrong] == [150, 151, 152] and found.is_quietly_lost()
    right = scored(parts((150, None), (153, Cause.DISK_FAILED), (200, None)), windows=[window])
    assert dict(right.excused) == {"disk failed": 3} and not right.is_quietly_lost()


def test_a_second_that_the_ledger_leaves_out_is_found():
    found = scored(parts((190, None)))
    assert [wrong.second for wrong in found.unsaid] == list(range(190, 200)) and found.is_quietly_lost()


def test_footage_of_a_camera_that_sent_nothing_is_found():
    window = Window(118, 150, frozenset((Cause.CAMERA,)), "camera silent")
    found = scored(parts((200, None)), windows=[window], silences=[(120.0, 130.0)])
    assert [wrong.second for wrong in found.invented] == list(range(122, 128))


def test_pictures_that_were_sent_and_do_not_lie_in_the_ring_are_found():
    fewer = dict.fromkeys(PICTURES, 4.0)
    assert scored(parts((200, None)), pictures=fewer).pictures_wrong
    late = {**PICTURES, 100: 3.0}  # two were on their way when the time began
    assert not scored(parts((200, None)), pictures=late).pictures_wrong


def test_a_second_is_as_its_greater_part_is():
    assert scored(parts((150.7, None), (151.2, Cause.CAMERA), (200, None))).recorded == 100
    assert scored(parts((150.2, None), (151, Cause.CAMERA), (200, None))).recorded == 99


def test_pictures_are_counted_in_the_seconds_they_were_taken_in():
    assert score.pictures_by_second([(100 * NS + NS // 2, NS, 10)]) == {100: 5, 101: 5}


def test_what_a_camera_noted_is_read_but_for_a_line_that_was_cut():
    lines = [f"{100 * NS} a 1", f"{100 * NS + 1} a 0", f"{101 * NS} b 1", f"{101 * NS} a"]
    assert truth.sent_of(lines) == {"a": Sent({100: 2}, {100: 1}), "b": Sent({101: 1}, {101: 1})}


# -- alarms ----------------------------------------------------------------------------------------------------------------


def test_a_camera_that_is_silent_long_enough_must_be_told_and_one_beside_a_power_cut_may_be():
    due = truth.camera_alarms([done("camera", "silent", "a", 100, 140)], REAL)
    assert due == [Alarm("a", "camera", "down", 100, 140)]
    both = [done("camera", "silent", "a", 100, 140), done("power", "cut", "poka-1", 120, 130)]
    assert [alarm.is_sure for alarm in truth.camera_alarms(both, REAL)] == [False]
    assert truth.camera_alarms([done("camera", "silent", "a", 100, 104)], REAL) == []
    later = [done("camera", "silent", "a", 100, 140), done("power", "cut", "poka-1", 160, 170)]
    assert [alarm.is_sure for alarm in truth.camera_alarms(later, REAL)] == [True]
    gone = truth.camera_alarms([done("camera", "gone", "poka-1", 100, 140)], REAL)
    assert [(alarm.camera, alarm.state) for alarm in gone] == [("a", "down"), ("b", "down")]
    frozen = truth.camera_alarms([done("camera", "frozen", "c", 100, 140)], REAL)
    assert [(alarm.kind, alarm.state, alarm.is_sure) for alarm in frozen] == [("tamper", "frozen", True)]


def test_what_a_box_could_not_tell_in_time_is_not_due():
    def states(camera: str, at_s: float) -> list[tuple[str, str]]:
        return [("crowd", "crowd")] if 100 <= at_s < 130 else []

    heard = truth.story_alarms(states, ["a"], 90, 200, lambda camera, at_s: False)
    assert heard == [Alarm("a", "crowd", "crowd", 99, 130)]
    cut_off = truth.story_alarms(states, ["a"], 90, 200, lambda camera, at_s: 95 <= at_s < 140)
    assert [alarm.is_sure for alarm in cut_off] == [False]


ALARM = Alarm("a", "camera", "down", 100, 140)
TOLD = ToldAlarm("a", "camera", "down", 102, 116)


def test_alarms_are_found_missed_false_and_told_twice():
    found = score.of_alarms([ALARM], [TOLD])
    assert (found.recall, found.precision, found.delays_s, found.twice) == (1.0, 1.0, [16], [])
    assert score.of_alarms([ALARM], []).missed == [ALARM]
    other = replace(TOLD, camera="b")
    assert score.of_alarms([ALARM], [TOLD, other]).false == [other]
    assert score.of_alarms([ALARM], [TOLD, other]).precision == 0.5
    assert score.of_alarms([ALARM], [TOLD, replace(TOLD, from_s=120, received_s=130)]).twice == [ALARM]
    renewed = replace(TOLD, received_s=136)  # the same beginning: the same alarm, with other numbers
    assert score.of_alarms([ALARM], [TOLD, renewed]).twice == []


def test_an_alarm_that_may_come_is_neither_missed_nor_false():
    perhaps = replace(ALARM, is_sure=False)
    assert score.of_alarms([perhaps], []).missed == [] and score.of_alarms([perhaps], [TOLD]).false == []


def test_an_alarm_of_a_box_whose_clock_is_wrong_is_known_by_when_it_came():
    assert score.of_alarms([ALARM], [replace(TOLD, from_s=102 - 3600)]).found == 1


# -- clips, heartbeats, verdicts ---------------------------------------------------------------------------------------------

CLIP = ClipSeen("a", "c" * 64, True, True, "", 100, 110, "cmd")
ASKED = Asked("a", 100, 110, "cmd", "done", "", True)


def test_a_clip_must_be_whole_genuine_the_same_and_there_once():
    assert score.of_clips([CLIP], [ASKED], {}).wrong == []
    for broken in (
        replace(CLIP, is_whole=False),
        replace(CLIP, is_genuine=False),
        replace(CLIP, differs="other bytes"),
    ):
        assert len(score.of_clips([broken], [ASKED], {}).wrong) == 1
    twice = [CLIP, replace(CLIP, sha256="d" * 64)]
    assert "came twice" in score.of_clips(twice, [ASKED], {}).wrong[0]
    parts_of_one = [CLIP, replace(CLIP, sha256="d" * 64, from_s=110, to_s=115)]
    assert score.of_clips(parts_of_one, [ASKED], {}).wrong == []
    assert "no clip" in score.of_clips([], [ASKED], {}).wrong[0]
    assert score.of_clips([], [replace(ASKED, state="refused", is_there=False)], {}).wrong == []
    assert score.of_clips([], [replace(ASKED, state="refused")], {}).wrong
    assert "did not come" in score.of_clips([], [], {"event": "a"}).wrong[0]


def look(at_s: float, is_here: bool, *, recording: bool = True, named: str = "", age_s: float = 5.0) -> Seen:
    return Seen(at_s, "poka-1", is_here, {"a": recording, "b": True}, named, age_s)


def test_a_box_is_silent_when_it_is_cut_off_and_only_then():
    cut = [done("link", "down", "poka-1", 100, 160)]
    assert score.of_heartbeats([look(120, True), look(140, False)], cut, REAL).lies == []
    assert score.of_heartbeats([look(140, True)], cut, REAL).lies
    assert score.of_heartbeats([look(300, False)], cut, REAL).false_silence
    assert not score.of_heartbeats([look(170, False)], cut, REAL).false_silence  # it is still on its way back


def test_a_camera_that_cannot_be_recorded_is_not_shown_as_recording():
    silent = [done("camera", "silent", "a", 100, 160)]
    assert score.of_heartbeats([look(140, True)], silent, REAL).lies
    assert not score.of_heartbeats([look(140, True, recording=False)], silent, REAL).lies
    assert not score.of_heartbeats([look(140, True, age_s=30)], silent, REAL).lies  # an old word, and shown as such


def test_a_card_in_trouble_must_be_named():
    card = [done("card", "errors", "poka-1", 100, 125)]
    assert score.of_heartbeats([look(110, True, named="disk failed")], card, REAL).named == 1
    assert score.of_heartbeats([look(110, True)], card, REAL).unnamed


def whole(**fields) -> score.Score:
    nothing = score.AlarmScore()
    base = {
        "cameras": [scored(parts((200, None)))], "check_faults": [], "real_alarms": nothing, "light_alarms": nothing,
        "clips": score.ClipScore(), "heartbeats": score.HeartbeatScore(),
    }  # fmt: skip
    return score.Score(**{**base, **fields})


def test_the_exit_status_says_whether_footage_was_lost_quietly():
    assert whole().exit_status() == 0
    assert whole(cameras=[scored(parts((150, None), (153, Cause.CAMERA), (200, None)))]).exit_status() == 1
    assert whole(cameras=[scored(parts((200, None)), pictures={})]).exit_status() == 1
    assert whole(check_faults=["a hash is wrong"]).exit_status() == 1
    assert whole(clips=score.ClipScore(wrong=["it came twice"])).exit_status() == 2


def test_the_sheet_names_what_is_wrong_in_text_and_json():
    drawn = script.draw(1, 600, REAL, LIGHT)
    broken = whole(cameras=[scored(parts((150, None), (153, Cause.CAMERA), (200, None)))])
    page = sheet.page(drawn, broken, {"poka-1": "real"}, began_s=100)
    assert "FOOTAGE WAS LOST QUIETLY" in page and "lost: a at 50: missing because of camera" in page
    assert drawn.digest() in page
    told = json.loads(json.dumps(sheet.as_json(drawn, broken, 100)))
    assert told["exit_status"] == 1 and len(told["findings"]["lost"]) == 3
    assert "Everything was kept" in sheet.page(drawn, whole(), {}, 100)
