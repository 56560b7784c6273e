"""Real processes whose wall clock is moved while they record: what they wrote ends up at its right time.

libfaketime moves CLOCK_REALTIME of a child by a file that the test rewrites; CLOCK_BOOTTIME stays the machine's own. The
child does what `record` does with time: RunClock for the pictures, a reading of the clock when a fragment is
closed, a journal with signs of life; and it is ended by SIGKILL.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
from clocks import record
from e2e.running import RunningRecorder, replays

from nvr.clock import NS_PER_S, SystemClock, boot_id
from nvr.journal import Kind, read
from nvr.ledger import account, ledger, unbroken
from nvr.media import Cause, ClockState, FragmentRecord
from nvr.ring.reader import Ring, streams
from nvr.timeline import Timeline

LIBRARIES = list(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
pytestmark = [
    pytest.mark.faketime,
    pytest.mark.skipif(not LIBRARIES, reason="libfaketime is not installed (Debian: libfaketime)"),
]

# Fragments of 0.2 s, so that a test takes seconds. Prints one line for each; the run's ticks go by box time.
CHILD = """
import json, select, signal, sys
from pathlib import Path
from nvr.clock import RunClock, SystemClock
from nvr.journal import Journal, Kind

boot_id, path, run, sequence = bytes.fromhex(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
clock = SystemClock()
journal = Journal.open(path, boot_id, clock.read(), 64 * 4096)
journal.note(Kind.STARTED, clock.read())
signal.alarm(60)  # never outlive a test that went wrong
begin_ns = clock.mono_ns()
run_clock = RunClock(begin_ns)
journal.note_stream("gate/main", clock.read(), None)
number = 0
while True:
    ticks = number * 18_000
    # libfaketime 0.9.10 moves the deadline of clock_nanosleep(2) too, which time.sleep() uses.
    select.select([], [], [], max(0, begin_ns + (number + 1) * 200_000_000 - clock.mono_ns()) / 1e9)
    mono_ns = run_clock.mono_ns(ticks, begin_ns + ticks * 100_000 // 9)
    reading = clock.read()
    sequence += 1
    journal.sync(reading)
    wall_ns = reading.wall_ns - reading.mono_ns + mono_ns
    print(json.dumps([sequence, mono_ns, wall_ns, reading.state, reading.error_ns, run]), flush=True)
    number += 1
"""


class Machine:
    """Runs the child under a wall clock that the test sets, seconds away from the truth."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.offset_path = folder / "offset"
        self.rows: list[FragmentRecord] = []

    def set_clock(self, ahead_s: int) -> None:
        draft = self.folder / "offset.new"
        draft.write_text(f"{ahead_s:+d}s\n")
        draft.replace(self.offset_path)

    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self.offset_path),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def boot(self, number: int, *, clock: list[tuple[int, int]]) -> None:
        """Record so many fragments at each (seconds ahead of the truth, fragments); then SIGKILL."""
        self.set_clock(clock[0][0])
        boot_id = bytes([number]) * 16
        environment = {**os.environ, **self.environment(), "PYTHONPATH": str(Path(__file__).parents[2])}
        arguments = [boot_id.hex(), str(self.folder / "journal"), str(number), str(len(self.rows))]
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, *arguments], stdout=subprocess.PIPE, env=environment, text=True
        )
        try:
            assert child.stdout is not None
            for ahead_s, count in clock:
                self.set_clock(ahead_s)
                for _ in range(count):
                    sequence, mono_ns, wall_ns, state, error_ns, run = json.loads(child.stdout.readline())
                    row = record(boot_id, sequence, mono_ns, wall_ns, ClockState(state), error_ns, run, 18_000)
                    self.rows.append(row)
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
            child.stdout.close()


def truth_of(mono_ns: int) -> int:
    """The wall time of this machine, which is the truth here, at a moment of box time."""
    return time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME) + mono_ns


def in_order(placed) -> bool:
    return all(one.from_ns < one.to_ns <= other.from_ns for one, other in pairwise(placed))


def test_a_clock_that_starts_in_1970_and_steps_by_years_loses_and_overlaps_nothing(tmp_path):
    machine = Machine(tmp_path)
    to_1970_s = -int(time.time()) + 60
    machine.boot(0, clock=[(to_1970_s, 8), (0, 8)])
    assert machine.rows[0].wall_ns < 3600 * NS_PER_S
    assert machine.rows[0].clock_state is ClockState.UNKNOWN
    placed = Timeline.from_rows([machine.rows], read(tmp_path / "journal").samples()).place(machine.rows)
    assert [place.what for place in placed] == machine.rows
    assert in_order(placed)
    assert all(abs(place.from_ns - truth_of(place.what.mono_ns)) < NS_PER_S // 2 for place in placed)


def test_a_clock_that_steps_back_forty_minutes_loses_and_overlaps_nothing(tmp_path):
    machine = Machine(tmp_path)
    machine.boot(0, clock=[(2400, 8), (0, 8)])
    placed = Timeline.from_rows([machine.rows], read(tmp_path / "journal").samples()).place(machine.rows)
    assert len(placed) == 16
    assert in_order(placed)
    assert all(abs(place.from_ns - truth_of(place.what.mono_ns)) < NS_PER_S // 2 for place in placed)


def test_a_recorder_killed_between_two_clocks_leaves_an_account_that_adds_up(tmp_path):
    """Right, killed, then 1970 for a whole boot, killed, then right again."""
    machine = Machine(tmp_path)
    machine.boot(0, clock=[(0, 6)])
    machine.boot(1, clock=[(-int(time.time()) + 60, 6)])
    machine.boot(2, clock=[(0, 6)])
    story = read(tmp_path / "journal")
    assert [entry.kind for entry in story.entries if entry.kind is not Kind.STREAM] == [
        Kind.STARTED,
        Kind.LIFE,
        Kind.STARTED,
        Kind.LIFE,
        Kind.STARTED,
    ]
    timeline = Timeline.from_rows([machine.rows], story.samples())
    placed = timeline.place(machine.rows)
    assert len(placed) == 18
    assert in_order(placed)
    assert {place.state for place in placed[6:12]} == {ClockState.UNKNOWN}
    for place in placed:
        assert abs(place.from_ns - truth_of(place.what.mono_ns)) <= place.error_ns + NS_PER_S // 10
    told = account(
        "gate/main", unbroken(machine.rows), story, timeline, placed[0].from_ns, placed[-1].to_ns, now_ns=time.time_ns()
    )
    causes = told.by_cause_ns()
    assert set(causes) == {Cause.CLOCK_UNKNOWN, Cause.BOX_OFF}
    assert told.recorded_ns + sum(causes.values()) == told.total_ns
    assert told.recorded_ns == pytest.approx(12 * NS_PER_S // 5, abs=1000)


@pytest.fixture(scope="module")
def footage(tmp_path_factory) -> list[Path]:
    demo_footage = pytest.importorskip("tools.scenes.demo_footage", reason="PyAV makes the footage")
    pytest.importorskip("av", reason="PyAV makes the footage")
    return demo_footage.write_all(tmp_path_factory.mktemp("footage"), length_s=4)[:2]


def test_a_recorder_whose_clock_steps_from_1970_and_back_forty_minutes_accounts_for_every_second(
    tmp_path, footage, monkeypatch
):
    """The recorder itself, two cameras: three clocks in one life, SIGKILL, a pause, and a clean end."""
    machine, data_dir = Machine(tmp_path), tmp_path / "data"
    settings = replays(data_dir, footage, 64 << 20)
    begun_ns = time.time_ns()
    machine.set_clock(-int(time.time()) + 60)
    recorder = RunningRecorder(settings, tmp_path / "log", environment=machine.environment())
    try:
        for ahead_s in (None, 2400, 0):
            if ahead_s is not None:
                machine.set_clock(ahead_s)
            have = {stream: len(told) for stream, told in recorder.announced.items()}
            assert recorder.listen(
                60,
                lambda have=have: (
                    len(recorder.announced) == 2
                    and all(len(told) >= have.get(stream, 0) + 3 for stream, told in recorder.announced.items())
                ),
            ), (tmp_path / "log").read_text()[-2000:]
    finally:
        recorder.kill()
    time.sleep(1)
    recorder = RunningRecorder(settings, tmp_path / "log", environment=machine.environment())
    assert recorder.listen(
        60, lambda: len(recorder.announced) == 2 and all(len(told) >= 3 for told in recorder.announced.values())
    )
    assert recorder.stop() == 0

    rows = {stream: [row.record for row in Ring(path).rows()] for stream, path in streams(data_dir).items()}
    story = read(data_dir / "journal")
    timeline = Timeline.from_rows(rows.values(), story.samples())
    for stream, told in rows.items():
        assert told[0].clock_state is ClockState.UNKNOWN, stream
        assert [row.sequence for row in told] == list(range(1, len(told) + 1))
        placed = timeline.place(told)
        assert in_order(placed)
        for place in placed:
            assert abs(place.from_ns - truth_of(place.what.mono_ns)) < NS_PER_S // 2
    now = SystemClock().read()
    whole = ledger(data_dir, now=now, boot_id=boot_id())
    monkeypatch.setattr("nvr.ledger._ALL_ROWS", 0)  # as a large ring does: only the segments a span needs
    assert ledger(data_dir, now=now, boot_id=boot_id()) == whole
    assert (
        ledger(data_dir, [whole[1].stream], whole[1].from_ns, whole[1].to_ns, now=now, boot_id=boot_id()) == whole[1:]
    )
    for told in whole:
        assert set(told.by_cause_ns()) <= {Cause.BOX_OFF, Cause.CAMERA}, told.gaps()
        assert told.by_cause_ns()[Cause.BOX_OFF] > NS_PER_S // 2
        assert told.recorded_ns + sum(told.by_cause_ns().values()) == told.total_ns
        assert begun_ns - NS_PER_S < told.from_ns < told.to_ns < time.time_ns() + NS_PER_S
        fragments_ns = sum(row.duration_ns for row in rows[told.stream])
        assert told.recorded_ns == pytest.approx(fragments_ns, rel=0.03)
