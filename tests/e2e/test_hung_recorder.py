"""A process that hangs is noticed and replaced where no systemd does it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import asdict

import pytest
from cli.recorded_box import film
from e2e.running import free_port, replays

from nvr import box, troubles
from nvr import child as child_room
from nvr.announce import Subscriber
from nvr.child import Child
from nvr.processes import detect_arguments, uplink_arguments, web_arguments
from nvr.site import load
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


def run_beside(running: box.Box, attack: Callable[[], None]) -> None:
    """Run the box in this thread, as it wants to be, until `attack` in another one has ended; raises what that raised."""
    faults: list[BaseException] = []

    def whole() -> None:
        try:
            attack()
        except BaseException as fault:
            faults.append(fault)
        finally:
            running._stopping = True

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    attacker = threading.Thread(target=whole)
    attacker.start()
    try:
        assert running.run(once=False) == 0
    finally:
        attacker.join()
        for number, handler in before.items():
            signal.signal(number, handler)
    assert not faults


def test_a_recorder_that_hangs_is_killed_and_another_one_records(recorder, tmp_path, monkeypatch):
    monkeypatch.setattr(box, "HUNG_S", 3.0)
    running = box.Box(tmp_path / "data", recorder, [], {"camera0/main"})
    pids: list[int] = []

    def attack() -> None:
        until(lambda: running.health.status, "it records")
        assert recorder.process is not None
        pids.append(recorder.process.pid)
        os.kill(pids[0], signal.SIGSTOP)
        until(lambda: recorder.process is not None and recorder.process.pid != pids[0], "another one is started")
        until(lambda: running.health.heard_s > recorder.started_s, "and heard")
        assert running.health.status["streams"]["camera0/main"]["recording"] is not None
        pids.append(recorder.process.pid)

    run_beside(running, attack)
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


SITE = """\
site: test
box: test-1
time_zone: UTC
web: {{listen: 127.0.0.1, port: {port}}}
storage: {{path: data, reserve_gb: 0}}
hub: {{url: "https://127.0.0.1:{nobody}", code: 7F3K-QM2P-XW9D}}
cameras:
  camera0:
    template: public-space
    main: {{source: replay, file: "film.mp4", loop: true}}
    ring_gb: 0.05
"""


def test_page_detection_and_uplink_that_hang_are_killed_and_told_and_recording_goes_on(recorder, tmp_path, monkeypatch):
    for package in ("numpy", "httpx", "websockets", "uvicorn"):
        pytest.importorskip(package)
    path, data = tmp_path / "site.yaml", tmp_path / "data"
    path.write_text(SITE.format(port=free_port(), nobody=free_port()))
    site = load(path)
    arguments = (web_arguments(site, data), detect_arguments(site, data), uplink_arguments(site, data))
    others = [Child(each[0].removeprefix("nvr."), each, {}, is_watched=True) for each in arguments]
    running = box.Box(data, recorder, others, {"camera0/main"})
    first: dict[str, int] = {}

    def attack() -> None:
        until(lambda: running.health.status and all(child._has_spoken for child in others), "everything runs")
        record_pid = recorder.process.pid
        for child in others:
            first[child.name] = child.process.pid
            os.kill(child.process.pid, signal.SIGSTOP)
        monkeypatch.setattr(child_room, "HUNG_S", 6.0)  # only now: a busy machine may let them wait so long
        until(lambda: all(child.hangs for child in others), "all three are killed")
        monkeypatch.setattr(child_room, "HUNG_S", 60.0)
        until(lambda: all(child.process and child.process.pid != first[child.name] and child._has_spoken for child in others),
              "and others are in their place")  # fmt: skip
        until(lambda: len(troubles.read(data / "run")) == 3, "and it is told")
        assert recorder.process.pid == record_pid and running.health.status["streams"]["camera0/main"]["recording"]

    run_beside(running, attack)
    told = sorted(each.detail for each in troubles.read(data / "run"))
    assert told == [f"{name} hung and was started again" for name in ("detect", "uplink", "web")]
