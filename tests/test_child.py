"""A process of the box that hangs is killed and started again; one that is only slow is left alone. Real processes, time as a number."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nvr import child as child_room
from nvr.child import HUNG_S, START_S, Child

SPEAKS = "import time; from nvr import systemd\nwhile True: systemd.sign_of_life(); time.sleep(0.02)"
SPEAKS_ONCE = "import time; from nvr import systemd\nsystemd.sign_of_life(); time.sleep(999)"
CIRCLES = "from nvr import systemd\nsystemd.sign_of_life()\nwhile True: pass"
NEVER_SPEAKS = "import time; time.sleep(999)"


@pytest.fixture
def started(tmp_path: Path, monkeypatch) -> Iterator:
    made: list[Child] = []

    def start(code: str) -> Child:
        folder = tmp_path / "modules"
        folder.mkdir(exist_ok=True)
        (folder / "pretended.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(folder), str(Path(__file__).parents[1]))))
        made.append(Child("web", ["pretended"], {}, is_watched=True))
        made[-1].start()
        return made[-1]

    yield start
    for each in made:
        if each.process is not None:
            each.process.kill()
            each.process.wait()
            each._close_sign()


def until(holds, what: str, seconds: float = 60) -> None:
    end_s = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end_s, what
        time.sleep(0.02)


def spoken(child: Child) -> None:
    def has_spoken() -> bool:
        child.watch(0.0, 0.0)
        return child._has_spoken

    until(has_spoken, "its first sign")


def sleeps(child: Child) -> bool:
    """Whether it does nothing now, and has nothing to do."""
    assert child.process is not None
    first = child_room._at_work(child.process.pid)
    time.sleep(0.3)
    return not first[0] and child_room._at_work(child.process.pid) == first


def is_killed(child: Child, by_s: float) -> bool:
    """Whether so many seconds of silence end it; a turn of the box is a second here."""
    for second in range(round(by_s)):
        child.watch(1.0, second)
        if child.hangs:
            assert child.process is not None and child.process.wait(20) == -signal.SIGKILL
            return True
    return False


@pytest.mark.parametrize("code", [SPEAKS_ONCE, NEVER_SPEAKS])
def test_one_that_says_nothing_is_killed_and_another_one_started(started, code):
    child = started(code)
    if code == SPEAKS_ONCE:
        spoken(child)
    until(lambda: sleeps(child), "it has started, and sleeps")
    assert is_killed(child, START_S + 10)
    assert "hung" in child.trouble(0.0)
    child.poll(0.0)
    child.poll(60.0)
    assert child.process is not None and child.process.poll() is None


def test_a_stopped_one_is_killed(started):
    child = started(SPEAKS)
    spoken(child)
    os.kill(child.process.pid, signal.SIGSTOP)
    until(lambda: sleeps(child), "it stands")
    child._has_signs()
    assert is_killed(child, HUNG_S + 10)


def test_one_that_speaks_lives_for_ever(started):
    child = started(SPEAKS)
    spoken(child)
    for _ in range(3):
        time.sleep(0.2)
        child.watch(HUNG_S + 1, 0.0)  # a long turn, in which it spoke
    assert not child.hangs


def test_until_its_first_sign_it_has_ten_minutes(started):
    child = started(NEVER_SPEAKS)
    until(lambda: sleeps(child), "it has started, and sleeps")
    assert not is_killed(child, START_S - 10)


def test_one_that_gets_no_processor_is_not_silent_however_long(started, monkeypatch):
    """Load 30, or a quota of 5 %: what it got of the processor counts, and not how long it waited for it."""
    child = started(SPEAKS_ONCE)
    spoken(child)
    had_s = iter(range(100_000))
    monkeypatch.setattr(child_room, "_at_work", lambda pid: (True, next(had_s) * 0.01))
    assert not is_killed(child, 60 * (HUNG_S - 10))
    assert is_killed(child, 60 * HUNG_S), "but one that had a minute of it and said nothing runs in circles"


def test_one_that_runs_in_circles_is_killed(started):
    """A hundred per cent of a processor and no sign. Its own time is counted, so that this takes a little on a busy machine."""
    child = started(CIRCLES)
    spoken(child)
    child._silent_s = HUNG_S - 0.2
    until(lambda: child.watch(1.0, 0.0) or child.hangs, "a fifth of a second of processor time")
    assert child.process.wait(20) == -signal.SIGKILL


def test_what_a_process_had_of_the_processor_is_what_the_kernel_says():
    before_s = child_room._at_work(os.getpid())[1]
    begin_s = time.thread_time()
    while time.thread_time() < begin_s + 0.5:
        pass
    is_ready, work_s = child_room._at_work(os.getpid())
    assert is_ready and 0.3 < work_s - before_s < 5


def test_a_process_that_does_not_stay_alive_is_told(started):
    child = started("raise SystemExit(2)")
    for now_s in range(0, 100, 40):
        child.process and child.process.wait(20)
        child.poll(float(now_s))
        child.poll(float(now_s) + 35)
    assert child.trouble(101.0) == "web does not stay alive: ended with status 2"


def test_a_sign_never_waits_and_costs_nothing_where_no_box_watches(started, monkeypatch):
    from nvr import systemd

    monkeypatch.delenv("NVR_SIGN_FD", raising=False)
    systemd.sign_of_life()
    ours_fd, theirs_fd = os.pipe2(os.O_NONBLOCK)
    monkeypatch.setenv("NVR_SIGN_FD", str(theirs_fd))
    try:
        for _ in range(100_000):  # more than a pipe holds
            systemd.sign_of_life()
        assert os.read(ours_fd, 10) == b"." * 10
    finally:
        os.close(ours_fd)
        os.close(theirs_fd)


def test_a_child_does_not_inherit_somebody_elses_watch():
    from nvr import systemd

    assert "NVR_SIGN_FD" not in systemd.environment_for_children()
    assert systemd.environment_for_children(7)["NVR_SIGN_FD"] == "7"
