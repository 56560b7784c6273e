"""The loop of the record process with sources that go wrong: a fault of one stream stays with it."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from clocks import ManualClock

from nvr import journal, recorder, stream
from nvr.announce import Subscriber
from nvr.gather import Gather
from nvr.journal import Kind, read
from nvr.ledger import ledger
from nvr.media import AccessUnit, Cause, ClockReading, ClockState, ParameterSets, RunEnded, RunStarted
from nvr.recorder import QueueTime, Recorder, Settings, held_up_by
from nvr.stream import RecordedStream

SETS = ParameterSets(
    sps=(bytes.fromhex("6742c01eda0280bfe5c044000003000400000300c83c58ba80"),), pps=(bytes.fromhex("68ce3c80"),)
)


class Scripted:
    """A source with a picture in every drain; `composition_ticks` are as wrong as its test wants."""

    def __init__(self, composition_ticks: int = 0) -> None:
        self.composition_ticks = composition_ticks
        self.pictures = 0

    def drain(self, now_ns: int) -> list[object]:
        gather = Gather()
        gather.append(memoryview(b"\0\0\0\5\x65abcd"))
        unit = AccessUnit(gather, self.pictures * 9000, self.composition_ticks, now_ns, self.pictures % 10 == 0)
        self.pictures += 1
        return [unit] if self.pictures > 1 else [RunStarted(SETS, 640, 360), unit]

    def close(self) -> None:
        pass

    def may_wait(self) -> int:
        return 0

    def facts(self) -> dict[str, object]:
        return {}


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sources = {"bad/main": lambda: Scripted(-1), "good/main": Scripted}
    monkeypatch.setattr(recorder, "source_of", lambda settings, arena, **more: sources[settings.name]())
    streams = tuple(RecordedStream(name, {"kind": "scripted"}, 16 << 20) for name in sources)
    made = Recorder(Settings(str(tmp_path), 5.0, streams), clock=ManualClock())
    made.syncer.open()
    yield made
    made._shut_down()


def test_a_fragment_that_cannot_be_closed_costs_its_own_stream_only(box):
    """Closing it was tried again while giving the source up, failed again, and ended the process: for every camera."""
    for _ in range(400):
        box.turn()
        box.clock.advance(100_000_000)
        if box.clock.mono_ns() % 2_000_000_000 == 0:
            box.syncer.burst()
    bad, good = (stream for stream in box.streams)
    assert good.writer.dropped == {} and good.writer.sequence >= 38
    assert bad.writer.sequence == 0 and sum(bad.writer.dropped.values()) > 10
    told = box.status()["streams"]["bad/main"]
    assert told["cause"] == Cause.CAMERA.value and "ValueError" in told["detail"]


def test_a_damaged_key_costs_no_footage(tmp_path, caplog):
    """The recorder ended at once, again and again, until somebody went to the pole."""
    (tmp_path / "identity").mkdir()
    (tmp_path / "identity" / "key").write_bytes(b"garbage")
    made = Recorder(Settings(str(tmp_path), 5.0, ()), clock=ManualClock())
    assert "is damaged" in made.status()["identity_fault"] and "is damaged" in caplog.text
    made._shut_down()
    assert (tmp_path / "identity" / "key").read_bytes() == b"garbage", "it may still be put right"


def test_a_turn_that_waited_for_the_disk_is_told_and_stays_in_the_journal(box, tmp_path, caplog):
    """With a page cache that is full a write waits for the disk, and every camera with it; nothing said so."""
    box.turn()
    box.clock.advance(2_500_000_000)
    box.streams[1].writer.longest_write_ns = 2_400_000_000
    for late_ns in (2_500_000_000, 3_000_000_000):  # once a minute is enough
        box._note_late(late_ns, box.clock.mono_ns())
    box.journal.sync(box.clock.read())
    told = [entry for entry in journal.read(tmp_path / "journal").entries if entry.kind is journal.Kind.DISK]
    assert [(entry.cause, entry.detail[:23]) for entry in told] == [(Cause.DISK_SLOW, "recording waited 2.5 s;")]
    assert caplog.text.count("recording waited") == 1
    status = box.status()
    assert status["late_ms"] == 3000
    assert status["disk_slow"].startswith("recording waited 3.0 s;")
    box.clock.advance(61 * 10**9)
    assert box.status()["disk_slow"] == "", "it is told for a minute"


def test_a_stream_whose_turn_comes_after_a_write_that_took_long_is_drained_by_the_time_it_is_then(box, monkeypatch):
    """The city simulator: writes of one camera took ten seconds. The others were drained right afterwards, by the time of before; in the next turn
    their sockets were empty, "nothing arrived for 10 s", and five cameras were dialled again."""
    box.turn()
    began_ns, seen = box.clock.mono_ns(), []
    first, second = box.streams[:2]
    drain = second.drain

    def slow(reading):
        box.clock.advance(9_700_000_000)
        return []

    def noted(reading):
        seen.append(reading.mono_ns - began_ns)
        return drain(reading)

    monkeypatch.setattr(first, "drain", slow)
    monkeypatch.setattr(second, "drain", noted)
    for stream_ in (first, second):
        monkeypatch.setattr(stream_, "may_rest", lambda turn: False)
    box.turn()
    assert seen == [9_700_000_000]


@pytest.mark.parametrize(
    ("late_s", "queued_s", "write_s", "cause"),
    [
        (8, 0.0, 5.0, Cause.DISK_SLOW),
        (8, 7.5, 0.02, Cause.BOX_BUSY),  # load 30
        (8, 7.5, 5.0, Cause.BOX_BUSY),  # the long write was another day, or itself had no processor
        (8, 1.0, 5.0, Cause.DISK_SLOW),
        (8, 0.0, 0.02, Cause.BOX_BUSY),  # it was stopped, or the kernel counts nothing
    ],
)
def test_why_recording_came_late(late_s, queued_s, write_s, cause):
    assert held_up_by(late_s * 10**9, round(queued_s * 1e9), round(write_s * 1e9)) is cause


def test_time_in_the_queue_for_a_processor_is_what_the_kernel_counts():
    """Two that want one processor: each waits about half of the time."""
    mine = os.sched_getaffinity(0)
    one = {min(mine)}
    spinning = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        os.sched_setaffinity(0, one)
        os.sched_setaffinity(spinning.pid, one)
        queue = QueueTime()
        assert queue._fd >= 0, "this kernel counts nothing"
        end_s = time.monotonic() + 20
        while queue.lately_ns() < 200_000_000 and time.monotonic() < end_s:
            pass
        assert queue.lately_ns() >= 200_000_000
        queue.mark()
        assert queue.lately_ns() < 150_000_000
    finally:
        os.sched_setaffinity(0, mine)
        spinning.kill()
        spinning.wait()


@pytest.mark.parametrize("cause", [Cause.DISK_SLOW, Cause.BOX_BUSY])
def test_what_is_missing_while_the_box_held_up_recording_is_not_blamed_on_the_camera(box, tmp_path, cause):
    """The city simulator, and a disk whose writes took five seconds: the ledger said that the camera had sent nothing. And on a box with
    load 30, where no write took long, it said so still."""
    for _ in range(3):
        box.turn()
        box.clock.advance(200_000_000)
    began_ns = box.clock.mono_ns()
    box.clock.advance(8 * 10**9)
    if cause is Cause.DISK_SLOW:
        box.streams[0].writer.longest_write_ns = 5 * 10**9
    box._note_late(8 * 10**9, box.clock.mono_ns())
    assert bool(box.status()["box_busy"]) == (cause is Cause.BOX_BUSY) != bool(box.status()["disk_slow"])
    box.clock.advance(5 * 10**9)
    box._look_whether_held_up(box.clock.mono_ns())
    box.clock.advance(6 * 10**9)
    box._look_whether_held_up(box.clock.mono_ns())
    box.journal.sync(box.clock.read())
    entries = journal.read(tmp_path / "journal").entries
    for each in box.streams:
        told = [entry for entry in entries if entry.kind is journal.Kind.STREAM and entry.stream == each.name]
        assert [entry.cause for entry in told[-2:]] == [cause, None]
        assert [entry.reading.mono_ns - began_ns for entry in told[-2:]] == [0, 19 * 10**9]


class FallsSilent(Scripted):
    """Pictures for 20 s, then none; that is noticed 12 s later."""

    def drain(self, now_ns: int) -> list[object]:
        if self.pictures < 200:
            return super().drain(now_ns)
        self.pictures += 1
        return [RunEnded(Cause.CAMERA, "no picture for 12 s, reconnecting")] if self.pictures == 320 else []


def test_a_camera_that_fell_silent_is_missing_from_its_last_picture_on(tmp_path, monkeypatch):
    monkeypatch.setattr(recorder, "source_of", lambda settings, arena, **more: FallsSilent())
    streams = (RecordedStream("gate/main", {"kind": "scripted"}, 16 << 20),)
    box = Recorder(Settings(str(tmp_path), 5.0, streams), clock=ManualClock())
    box.syncer.open()
    begin = box.clock.read()
    for _ in range(400):
        box.turn()
        box.clock.advance(100_000_000)
        if box.clock.mono_ns() % 2_000_000_000 == 0:
            box.syncer.burst()
    since_ms = box.status()["streams"]["gate/main"]["since_ms"]
    assert since_ms == (begin.wall_ns + 19_900_000_000) // 1_000_000
    box.journal.sync(box.clock.read())
    now = box.clock.read()
    told = ledger(tmp_path, now=now, boot_id=box.boot_id)[0]
    box._shut_down()
    assert told.by_cause_ns() == {Cause.CAMERA: pytest.approx(20 * 10**9, abs=300_000_000)}
    entry = next(each for each in read(tmp_path / "journal").entries if each.cause is Cause.CAMERA)
    assert entry.reading.mono_ns - begin.mono_ns == 19_900_000_000
    assert entry.reading.wall_ns - begin.wall_ns == 19_900_000_000


def test_a_disk_that_fails_is_the_cause_from_when_it_failed_not_from_the_last_picture():
    now = ClockReading(50_000_000_000, 10**18 + 50_000_000_000, ClockState.SYNCED, 1000)
    assert stream._earlier(now, 60_000_000_000) == now
    before = stream._earlier(now, 48_000_000_000)
    assert (before.mono_ns, before.wall_ns) == (48_000_000_000, 10**18 + 48_000_000_000)
    assert before.error_ns == 1000 + 1_000_000


def test_where_all_of_data_went_away_with_its_disk_its_files_are_taken_again(tmp_path, monkeypatch):
    monkeypatch.setattr(recorder, "source_of", lambda settings, arena, **more: Scripted())
    data_dir, away = tmp_path / "mount" / "data", tmp_path / "away"
    streams = (RecordedStream("gate/main", {"kind": "scripted"}, 16 << 20),)
    box = Recorder(Settings(str(data_dir), 5.0, streams), clock=ManualClock())
    box.syncer.open()
    box.turn()
    box.journal.sync(box.clock.read())
    listener = Subscriber(data_dir / "run")
    (tmp_path / "mount").rename(away)
    box._return_to_disk()
    assert not (tmp_path / "mount").exists()
    shutil.copytree(
        away, tmp_path / "mount", ignore=shutil.ignore_patterns("*.sock")
    )  # the same disk under another number
    box.journal.note(Kind.DISK, box.clock.read(), "noted while it was away")
    box._return_to_disk()
    box._listen_again()
    box.journal.sync(box.clock.read())
    assert "noted while it was away" in [entry.detail for entry in read(data_dir / "journal").entries]
    with open(data_dir / "run" / "record.lock") as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    newcomer = Subscriber(data_dir / "run")
    for _ in range(2):
        box.announcer.welcome()
        box.announcer.status({"streams": {}})
        box.announcer.flush()
    assert newcomer.receive(1)["kind"] == listener.receive(1)["kind"] == "status"
    box._shut_down()
