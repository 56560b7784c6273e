"""What waits for the hub: order, bounds, idempotence, and a process that is killed at any moment."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from nvr.uplink import outbox as outbox_room
from nvr.uplink.outbox import Clip, Made, Outbox, OutboxFailed, Told, Wanted
from nvr.uplink.worth import RANK_ALARM, RANK_ASKED, RANK_CLIP, RANK_MOMENT, RANK_STATE

ROOT = Path(__file__).parents[2]
WANTED = Wanted("gate/main", "", 1, 2, size_bytes=100)


def told(number: int, rank: int = RANK_STATE) -> Told:
    return Told(number, f"{number:032x}", rank, None)


def clip(number: int, rank: int = RANK_CLIP) -> Clip:
    return Clip(f"{number:032x}", rank, number, WANTED, None)


@pytest.fixture
def outbox(tmp_path) -> Outbox:
    return Outbox(tmp_path / "outbox")


def test_alarms_go_first_then_states_then_what_is_counted_by_the_thousand_each_in_their_order(outbox):
    events = [told(1, RANK_MOMENT), told(2), told(3, RANK_ALARM), told(4), told(5, RANK_ALARM)]
    outbox.take(events, [], (5, "life"), 0)
    assert [each.number for each in outbox.events(10)] == [3, 5, 2, 4, 1]
    assert [each.number for each in outbox.events(2, frozenset((told(3).id,)))] == [5, 2]


def test_the_same_events_taken_again_change_nothing(outbox):
    for _ in range(2):
        outbox.take([told(1)], [clip(1)], (1, "life"), 0)
    assert (len(outbox.events(10)), len(outbox.to_cut()), outbox.cursor()) == (1, 1, (1, "life"))


def test_only_what_the_hub_confirmed_leaves(outbox):
    outbox.take([told(1), told(2)], [clip(1)], (2, "life"), 0)
    outbox.acknowledged([told(1).id, "f" * 32])
    assert [each.number for each in outbox.events(10)] == [2]
    path = outbox.clips_path / "a.mp4"
    path.write_bytes(b"x")
    outbox.made(clip(1).id, [Made("a.mp4", "0" * 64, 1, 0, 1)])
    assert [each.made.file for each in outbox.to_send()] == ["a.mp4"] and path.exists()
    outbox.stored(clip(1).id)
    assert outbox.to_send() == [] and not path.exists()


def test_what_somebody_asked_for_goes_before_what_nobody_did(outbox):
    outbox.take([], [clip(1), clip(2, RANK_ALARM)], (1, "life"), 0)
    outbox.want(clip(3, RANK_ASKED))
    assert [each.rank for each in outbox.to_cut()] == [RANK_ALARM, RANK_ASKED, RANK_CLIP]


def test_a_clip_in_parts_is_several_uploads(outbox):
    outbox.take([], [clip(1)], (1, "life"), 0)
    outbox.made(clip(1).id, [Made("a-1.mp4", "0" * 64, 1, 0, 1), Made("a-2.mp4", "1" * 64, 1, 1, 2)])
    assert [each.made.file for each in outbox.to_send()] == ["a-1.mp4", "a-2.mp4"] and outbox.to_cut() == []


def test_the_parts_of_a_clip_take_no_other_clips_place(outbox):
    """They were named by the clip's id with another end, and one clip in 4096 has an id that ends so."""
    outbox.take([], [clip(0x1000), clip(0x1001)], (1, "life"), 0)
    outbox.made(clip(0x1000).id, [Made("a-1.mp4", "0" * 64, 1, 0, 1), Made("a-2.mp4", "1" * 64, 1, 1, 2)])
    assert [each.id for each in outbox.to_cut()] == [clip(0x1001).id] and len(outbox.to_send()) == 2


def test_beyond_its_bounds_the_least_valuable_and_oldest_is_given_up_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(outbox_room, "EVENTS_MOST", 3)
    monkeypatch.setattr(outbox_room, "CLIPS_MOST", 2)
    outbox = Outbox(tmp_path)
    outbox.take([told(1, RANK_ALARM), told(2, RANK_MOMENT), told(3), told(4, RANK_MOMENT)], [], (4, "life"), 0)
    assert [each.number for each in outbox.events(10)] == [1, 3, 4]
    outbox.take([], [clip(1), clip(2), clip(3, RANK_ALARM)], (4, "life"), 0)
    assert [each.id for each in outbox.bound_clips()] == [clip(1).id]
    assert outbox.depth()["given_up"] == {"clips given up": 1, "events given up": 1}


def test_the_depth_counts_by_value_and_since_when(outbox):
    outbox.take([told(1, RANK_ALARM), told(2), told(3, RANK_MOMENT)], [clip(7)], (3, "life"), 5)
    said = outbox.depth()
    assert (said["depth"], said["by_value"], said["oldest_ms"], said["bytes"]) == (
        4,
        {"alarm": 1, "state": 2, "clip": 1},
        5,
        100,
    )


def test_commands_are_remembered_and_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(outbox_room, "COMMANDS_KEPT", 2)
    outbox = Outbox(tmp_path)
    assert outbox.command("a") is None
    outbox.answered("a", None)
    assert outbox.command("a") == {}
    outbox.answered("a", {"ok": True})
    assert outbox.command("a") == {"ok": True}
    outbox.answered("b", None)
    outbox.answered("c", None)
    assert outbox.command("a") is None


def test_files_that_no_clip_names_are_swept(outbox):
    outbox.take([], [clip(1)], (1, "life"), 0)
    outbox.made(clip(1).id, [Made("a.mp4", "0" * 64, 1, 0, 1)])
    for name in ("a.mp4", "b.mp4", ".draft"):
        (outbox.clips_path / name).write_bytes(b"x")
    assert outbox.sweep() == 2 and (outbox.clips_path / "a.mp4").exists()


def test_every_commit_is_synced(outbox):
    """A power cut takes nothing that was taken over: SQLite promises it for a log that is synced at each commit."""
    assert outbox._base.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert outbox._base.execute("PRAGMA synchronous").fetchone()[0] == 2


def test_a_damaged_file_is_put_aside_and_a_new_one_begins(tmp_path):
    outbox = Outbox(tmp_path)
    outbox.take([told(1)], [], (1, "life"), 0)
    outbox.close()
    (tmp_path / "outbox.db").write_bytes(b"not a database at all, but long enough to be looked at" * 100)
    outbox = Outbox(tmp_path)
    assert outbox.cursor() == (0, "") and (tmp_path / "damaged-outbox.db").exists()
    assert outbox.depth()["given_up"] == {"damaged": 1}


def test_a_disk_that_takes_nothing_is_said_and_nothing_is_half_done(tmp_path, monkeypatch):
    outbox = Outbox(tmp_path)
    outbox.take([told(1)], [], (1, "life"), 0)
    outbox._base.execute("PRAGMA max_page_count = 1")  # SQLite's own way of a full disk
    many = [replace(told(number), id=f"{number:032x}") for number in range(2, 4000)]
    with pytest.raises(OutboxFailed, match="full"):
        outbox.take(many, [], (4000, "life"), 0)
    assert outbox.cursor() == (1, "life") and [each.number for each in outbox.events(10)] == [1]
    outbox._base.execute("PRAGMA max_page_count = 100000")
    outbox.take(many, [], (4000, "life"), 0)
    assert outbox.cursor() == (4000, "life")


CHILD = """
import sys
from pathlib import Path
from nvr.uplink.outbox import Outbox, Told
outbox = Outbox(Path(sys.argv[1]))
number = outbox.cursor()[0]
while True:
    number += 1
    outbox.take([Told(number, f"{number:032x}", 10, None)], [], (number, "life"), 0)
    print("taken", number, flush=True)
    if number % 3 == 0:
        outbox.acknowledged([f"{number - 1:032x}"])
        print("acknowledged", number - 1, flush=True)
"""


def test_killed_at_any_moment_it_holds_what_it_took_and_not_what_was_acknowledged(tmp_path):
    dice = random.Random(7)
    taken, acknowledged = 0, set()
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert process.stdout is not None
        lines = [process.stdout.readline()]  # it has begun
        time.sleep(dice.uniform(0.0, 0.3))
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.read().splitlines()
        process.wait()
        for line in lines:
            what, _, number = line.strip().partition(" ")
            if what == "taken" and number:
                taken = max(taken, int(number))
            elif what == "acknowledged" and number:
                acknowledged.add(int(number))
        outbox = Outbox(tmp_path)
        there = {each.number for each in outbox.events(100_000)}
        cursor = outbox.cursor()[0]
        outbox.close()
        assert taken <= cursor <= taken + 1
        assert not acknowledged & there
        missing = set(range(1, taken + 1)) - there - acknowledged
        assert len(missing) <= 1, "at most the one whose acknowledgement was committed and not printed yet"
        acknowledged |= missing
    assert taken > 6
