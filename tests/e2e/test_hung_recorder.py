"""A recorder that hangs is noticed and replaced where no systemd does it."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import asdict

import pytest
from cli.recorded_box import film
from e2e.running import replays

from nvr import box
from nvr.announce import Subscriber
from nvr.child import Child
from nvr.watching import Health


@pytest.fixture
def recorder(tmp_path) -> Child:
    pytest.importorskip("av", reason="PyAV makes the film")
    settings = replays(tmp_path / "data", [film(tmp_path / "film.mp4", 100)], 64 << 20)
    (tmp_path / "data").mkdir()
    return Child("record", ["nvr.recorder"], asdict(settings))


def until(holds, what: str, seconds: float = 120) -> None:
    end_s = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end_s, what
        time.sleep(0.05)


def test_a_recorder_that_hangs_is_killed_and_another_one_records(recorder, tmp_path, monkeypatch):
    monkeypatch.setattr(box, "HUNG_S", 3.0)
    running = box.Box(tmp_path / "data", recorder, [], {"camera0/main"})
    pids: list[int] = []
    faults: list[BaseException] = []

    def attack() -> None:
        try:
            until(lambda: running.health.status, "it records")
            assert recorder.process is not None
            pids.append(recorder.process.pid)
            os.kill(pids[0], signal.SIGSTOP)
            until(lambda: recorder.process is not None and recorder.process.pid != pids[0], "another one is started")
            until(lambda: running.health.heard_s > recorder.started_s, "and heard")
            assert running.health.status["streams"]["camera0/main"]["recording"] is not None
            pids.append(recorder.process.pid)
        except BaseException as fault:
            faults.append(fault)
        finally:
            running._stopping = True

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    attacker = threading.Thread(target=attack)
    attacker.start()
    try:
        assert running.run(once=False) == 0
    finally:
        attacker.join()
        for number, handler in before.items():
            signal.signal(number, handler)
    assert not faults
    assert len(set(pids)) == 2


def test_a_box_that_was_stopped_itself_kills_nobody(recorder, tmp_path, monkeypatch):
    """The time in which it did not listen is not the recorder's silence."""
    running = box.Box(tmp_path / "data", recorder, [], {"camera0/main"})
    running._subscriber = Subscriber.__new__(Subscriber)  # only whether there is one is asked
    running.health = Health({}, recorder.started_s + 1)
    killed: list[int] = []

    class Process:
        def kill(self) -> None:
            killed.append(1)

    recorder.process = Process()  # type: ignore[assignment]
    running._end_hung(False, time.monotonic() - 3600)
    assert killed == []
    for _ in range(round(box.HUNG_S / box.TURN_MOST_S) + 1):
        running._end_hung(False, time.monotonic() - 3600)
    assert killed == [1]


def test_one_that_opens_its_rings_is_given_time(recorder, tmp_path):
    running = box.Box(tmp_path / "data", recorder, [], {"camera0/main"})
    running._subscriber = Subscriber.__new__(Subscriber)
    recorder.started_s = time.monotonic()
    for _ in range(1000):
        running._end_hung(False, time.monotonic() - 3600)
    assert running._silent_s == 0
