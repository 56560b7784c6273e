"""A recorder that is killed at any moment, again and again, loses only what it had not announced.

SIGKILL leaves the kernel alive, so everything that was written is there afterwards: every announced fragment must
be. (What a power cut may take beyond that is tests/ring's business.)
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from e2e.running import RunningRecorder, replays

from nvr.ring import check, index
from nvr.ring.reader import Ring, streams

STREAMS = 8
LOSS_BOUND_S = 5  # e2e.running.replays
RING_BYTES = 64 << 20


@pytest.fixture(scope="module")
def footage(tmp_path_factory) -> list[Path]:
    demo_footage = pytest.importorskip("tools.scenes.demo_footage", reason="PyAV makes the footage")
    pytest.importorskip("av", reason="PyAV makes the footage")
    made = demo_footage.write_all(tmp_path_factory.mktemp("footage"), length_s=4)
    return [made[number % len(made)] for number in range(STREAMS)]


def assert_nothing_announced_is_missing(data_dir: Path, announced: dict[str, dict[int, bytes]]) -> None:
    for stream, path in streams(data_dir).items():
        rows = {row.record.sequence: row.record.hash for row in Ring(path).rows()}
        oldest = min(rows, default=0)
        wanted = {sequence: digest for sequence, digest in announced.get(stream, {}).items() if sequence >= oldest}
        assert {sequence: rows.get(sequence) for sequence in wanted} == wanted, stream


def kill_again_and_again(tmp_path: Path, footage: list[Path], times: int, seed: int) -> None:
    chance = random.Random(seed)
    data_dir = tmp_path / "data"
    announced: dict[str, dict[int, bytes]] = {}
    for number in range(times):
        recorder = RunningRecorder(replays(data_dir, footage, RING_BYTES), tmp_path / "log")
        is_up = recorder.listen(60, lambda recorder=recorder: len(recorder.announced) == STREAMS)
        assert is_up, (
            f"restart {number}: {sorted(recorder.announced)} of {STREAMS} record; {(tmp_path / 'log').read_text()[-3000:]}"
        )
        recorder.listen(chance.uniform(0, 1.5))
        if number % 10 == 9:
            assert recorder.stop() == 0
            assert check.check(data_dir) == [], f"after restart {number}"
        else:
            killed_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            recorder.kill()
            for stream, told in recorder.announced.items():
                end_ns = told[-1][1].mono_ns + told[-1][1].duration_ns
                assert killed_ns - end_ns < LOSS_BOUND_S * 1e9, f"{stream} lost {(killed_ns - end_ns) / 1e9:.1f} s"
        for stream, told in recorder.announced.items():
            announced.setdefault(stream, {}).update({record.sequence: record.hash for _, record in told})
        assert_nothing_announced_is_missing(data_dir, announced)
    recorder = RunningRecorder(replays(data_dir, footage, RING_BYTES), tmp_path / "log")
    assert recorder.listen(60, lambda: len(recorder.announced) == STREAMS)
    assert recorder.stop() == 0
    assert check.check(data_dir) == []
    kept = {stream: (path / "index").read_bytes() for stream, path in streams(data_dir).items()}
    index.rebuild(data_dir)
    assert {stream: (path / "index").read_bytes() for stream, path in streams(data_dir).items()} == kept


def test_a_recorder_killed_three_times_has_everything_it_announced(tmp_path, footage):
    kill_again_and_again(tmp_path, footage, times=3, seed=1)


@pytest.mark.slow
def test_a_recorder_killed_200_times_has_everything_it_announced(tmp_path, footage):
    kill_again_and_again(tmp_path, footage, times=200, seed=2)
