"""Films that the source tests play; drawn once for each run of the tests."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from pretend import Film, film_of


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Film:
    """Four seconds, 640x360, a keyframe every second, no B-frames."""
    if importlib.util.find_spec("av") is None or importlib.util.find_spec("numpy") is None:
        pytest.skip("films are drawn with the packages av and numpy")
    from tools.scenes import demo_footage

    path: Path = tmp_path_factory.mktemp("films") / "square.mp4"
    demo_footage.write(demo_footage.SCENES[2], path, length_s=4)
    return film_of(path)


@pytest.fixture(scope="session")
def other_film(tmp_path_factory: pytest.TempPathFactory, film: Film) -> Film:
    """Another size, so other parameter sets."""
    from dataclasses import replace

    from tools.scenes import demo_footage

    path: Path = tmp_path_factory.mktemp("films") / "gate.mp4"
    demo_footage.write(replace(demo_footage.SCENES[0], width=480, height=272), path, length_s=2)
    return film_of(path)
