from __future__ import annotations

import os
import threading
import time

import pytest

from image import cache
from image.cache import Kitchen, Made, content_hash
from image.wheels import without


def bake(into, *, flour: str, folder=None, before=None, oven: str = "") -> None:
    (into / "bread").write_text(flour)
    if flour == "burnt":
        raise RuntimeError("burnt")


@pytest.fixture
def kitchen(tmp_path) -> Kitchen:
    return Kitchen(tmp_path / "cache", tell=lambda line: None)


def test_the_same_inputs_are_made_once(kitchen):
    first = kitchen.make("bread", bake, flour="rye")
    assert kitchen.make("bread", bake, flour="rye") == first
    assert kitchen.make("bread", bake, flour="oat") != first
    assert [took.was_cached for took in kitchen.took] == [False, True, False]


def test_how_it_is_made_does_not_count(kitchen):
    assert kitchen.make("bread", bake, context={"oven": "gas"}, flour="rye") == kitchen.make(
        "bread", bake, context={"oven": "wood"}, flour="rye"
    )


def test_a_file_counts_by_its_content_and_not_by_its_place(kitchen, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("same")
    first = kitchen.make("bread", bake, flour="rye", folder=tmp_path / "one")
    assert kitchen.make("bread", bake, flour="rye", folder=tmp_path / "two") == first
    (tmp_path / "two" / "file").write_text("other")
    assert kitchen.make("bread", bake, flour="rye", folder=tmp_path / "two") != first


def test_a_change_of_an_earlier_step_reaches_the_later_ones(kitchen):
    before = [kitchen.make("bread", bake, flour=flour) for flour in ("rye", "oat")]
    first, second = (kitchen.make("toast", bake, flour="x", before=each) for each in before)
    assert first != second


def test_a_step_that_fails_leaves_nothing_that_looks_finished(kitchen):
    for _ in range(2):
        with pytest.raises(RuntimeError):
            kitchen.make("bread", bake, flour="burnt")
    assert kitchen.took == []


def test_the_longest_unused_go_so_that_the_disk_is_not_filled(kitchen, monkeypatch):
    """Each change of our code left 1.3 GB behind, and the disk of a machine that built all day was full."""
    monkeypatch.setattr(cache, "KEPT", 3)
    made = [kitchen.make("bread", bake, flour=flour) for flour in ("rye", "oat", "wheat")]
    for age_s, each in zip((30, 20, 10), made, strict=True):
        os.utime(each.path, (time.time() - age_s,) * 2)
    assert kitchen.make("bread", bake, flour="rye") == made[0]  # used once more
    kitchen.make("bread", bake, flour="spelt")
    assert [each.path.exists() for each in made] == [True, False, True]


def test_two_builds_at_once_make_a_step_once(tmp_path):
    made: list[Made] = []
    kitchens = [Kitchen(tmp_path / "cache", tell=lambda line: None) for _ in range(4)]
    threads = [
        threading.Thread(target=lambda each=each: made.append(each.make("bread", bake, flour="rye")))
        for each in kitchens
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 1
    assert sum(not took.was_cached for each in kitchens for took in each.took) == 1


def test_what_python_leaves_behind_does_not_count(tmp_path):
    (tmp_path / "a.py").write_text("x")
    before = content_hash(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_text("y")
    assert content_hash(tmp_path) == before


def test_packages_of_debian_are_taken_out_of_the_lock_with_their_hashes():
    lock = "av==18.1.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\nclick==8.5.1 \\\n    --hash=sha256:cc\nnumpy==2.4 ; python_full_version < '3.12' \\\n    --hash=sha256:dd\n"
    assert without(lock, ("av", "numpy")) == "click==8.5.1 \\\n    --hash=sha256:cc\n"
