"""Whatever comes from a network, a card or a disk: every parser gives a value or its own error."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.fuzz.__main__ import CORPUS, plain
from tools.fuzz.targets import TARGETS, corpus, try_one

ROOT = Path(__file__).parents[2]
GUIDED_S = int(os.environ.get("FUZZ_S", "10"))


@pytest.mark.parametrize("name", TARGETS)
def test_mutations_of_what_is_known_never_surprise(name):
    tried, found = plain(name, rounds=400, seed=0)
    assert found is None, f"after {tried} inputs: {found!r}"


@pytest.mark.parametrize("name", TARGETS)
def test_every_input_that_once_was_a_fault_stays_mended(name):
    kept = corpus(name, CORPUS)
    assert kept
    for data in kept:
        try_one(name, data)
        for end in range(0, len(data), max(1, len(data) // 50)):
            try_one(name, data[:end])


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="needs the package atheris (x86-64, Python 3.11 to 3.13)"
)
@pytest.mark.parametrize("name", TARGETS)
def test_a_guided_search_finds_nothing(name):
    """FUZZ_S=600 looks for longer."""
    done = subprocess.run(
        [sys.executable, "-m", "tools.fuzz", name, "--seconds", str(GUIDED_S)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "guided" in done.stdout
