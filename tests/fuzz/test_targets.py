"""Whatever comes from a network, a card or a disk: every parser gives a value or its own error."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.fuzz.__main__ import CORPUS, plain
from tools.fuzz.grow import KEPT_BYTES, is_grown, steps, worth_keeping
from tools.fuzz.targets import TARGETS, corpus, seeds, try_one

ROOT = Path(__file__).parents[2]
GUIDED_S = int(os.environ.get("FUZZ_S", "10"))
CORPUS_BYTES = 300_000


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
    """FUZZ_S=600 looks for longer; FUZZ_GROW=1 keeps what it reached, to be committed."""
    grow = ["--grow"] if os.environ.get("FUZZ_GROW") else []
    done = subprocess.run(
        [sys.executable, "-m", "tools.fuzz", name, "--seconds", str(GUIDED_S), *grow],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "guided" in done.stdout


def test_the_corpus_is_small_and_each_input_has_the_name_of_its_bytes_or_of_its_story():
    files = [path for path in CORPUS.glob("*/*") if path.is_file()]
    assert {path.parent.name for path in files} == set(TARGETS)
    assert sum(path.stat().st_size for path in files) < CORPUS_BYTES
    for path in files:
        if is_grown(path):
            assert path.stat().st_size <= KEPT_BYTES
            assert path.name == hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        else:
            assert not path.name.startswith("fault-"), f"{path}: mend it, and name it after its story"


def test_only_what_reaches_further_is_kept_and_the_smallest_of_it():
    seed = seeds("sdp")[0]
    sound = b"v=0\r\nm=audio 0 RTP/AVP 8\r\n"  # no seed is without video
    assert worth_keeping("sdp", [seed]) == []
    assert worth_keeping("sdp", [sound + sound, sound, seed]) == [sound]
    assert steps(lambda: try_one("sdp", sound)) - steps(lambda: try_one("sdp", seed))


@pytest.mark.slow
def test_what_is_imported_already_is_no_guide(tmp_path):
    """The search had imported the parsers before they could be instrumented: for days "guided" was not."""
    code = "import nvr.errors\nfrom pathlib import Path\nfrom tools.fuzz.__main__ import guided\nguided('sdp', 1, Path('.'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "would not be instrumented" in done.stderr or "No module named 'atheris'" in done.stderr
