"""A recorder on a disk whose syncs take seconds: the loop that records waits for none of them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from e2e.running import RunningRecorder, replays

from nvr.ring import check
from nvr.ring.reader import Ring, streams

SYNC_S = 1.5


@pytest.mark.slow
def test_syncs_that_take_seconds_cost_no_picture(tmp_path):
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler for the slow disk: apt install gcc")
    demo_footage = pytest.importorskip("tools.scenes.demo_footage", reason="PyAV makes the footage")
    pytest.importorskip("av", reason="PyAV makes the footage")
    slow_disk = tmp_path / "slow_disk.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-o", slow_disk, Path(__file__).with_name("slow_disk.c"), "-ldl"], check=True
    )
    footage = demo_footage.write_all(tmp_path / "footage", length_s=4)[:3]
    recorder = RunningRecorder(
        replays(tmp_path / "data", footage, 64 << 20), tmp_path / "log",
        environment={"LD_PRELOAD": str(slow_disk), "NVR_TEST_SYNC_MS": str(round(SYNC_S * 1000))},
    )  # fmt: skip
    assert recorder.listen(90, lambda: min((len(told) for told in recorder.announced.values()), default=0) >= 15)
    status = recorder.status
    assert recorder.stop(90) == 0
    assert status["sync"]["longest_burst_s"] >= SYNC_S * len(footage)
    assert all(stream["ring"]["dropped"] == {} for stream in status["streams"].values())
    assert check.check(tmp_path / "data") == []
    for path in streams(tmp_path / "data").values():
        numbers = [row.record.sequence for row in Ring(path).rows()]
        assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) >= 15
