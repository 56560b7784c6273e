"""The recorded box that the tests of commands look at."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from recorded_box import SITE, Box, film, program

PICTURES = 100


@pytest.fixture(scope="session")
def recorded_once(tmp_path_factory: pytest.TempPathFactory) -> Box:
    pytest.importorskip("av", reason="needs PyAV to make a film")
    folder = tmp_path_factory.mktemp("recorded")
    site_path = folder / "site.yaml"
    site_path.write_text(SITE.format(film=film(folder / "film.mp4", PICTURES)))
    done = program("run", "--site", site_path, "--data", folder / "data", "--once")
    assert done.returncode == 0, done.stderr
    return Box(site_path, folder / "data", PICTURES)


@pytest.fixture
def recorded(recorded_once: Box, tmp_path: Path) -> Box:
    """A copy that a test may damage."""
    ignored = shutil.ignore_patterns("*.sock")
    shutil.copytree(recorded_once.data_dir, tmp_path / "data", ignore=ignored)
    return Box(recorded_once.site_path, tmp_path / "data", recorded_once.pictures)
