"""The load tool against a real hub, a short look: nothing is lost, everything is acknowledged. How much a hub carries is in docs/hub-load.md."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    "more",
    [[], pytest.param(["--database", "postgresql", "--hubs", "2"], marks=pytest.mark.postgres)],
    ids=["sqlite", "postgresql"],
)
def test_a_few_boxes_for_a_moment(more):
    command = [
        sys.executable,
        "-m",
        "tools.bench.hub",
        "--boxes",
        "20",
        "--cameras",
        "4",
        "--seconds",
        "4",
        "--warm",
        "1",
        *more,
    ]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False, timeout=500
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert told["acknowledged"] > 0 and told["lost_connections"] == 0 and told["rows"]["event"] >= told["acknowledged"]
