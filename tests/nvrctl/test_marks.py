"""What comes back from a card, and what it means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.nvrctl import marks
from tools.nvrctl.marks import BLOCK, Answer

GB = 1_000_000_000


def test_marks_lie_behind_the_image_and_the_last_block_has_one():
    found = marks.places(64 * GB, 4 * GB)
    assert found[0] >= 4 * GB and found[-1] == 64 * GB // BLOCK * BLOCK - BLOCK
    assert all(place % BLOCK == 0 for place in found)
    assert 256 <= len(found) <= 400


@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_marks_never_lie_on_the_image_or_outside_the_card(size_bytes, image_bytes):
    for place in marks.places(size_bytes, image_bytes):
        assert image_bytes <= place <= size_bytes - BLOCK


@pytest.mark.parametrize("real_gb", [1, 2, 4, 7.4, 7.9, 8, 14.8, 16, 31.9, 32])
def test_a_wrap_of_any_usual_size_meets_the_image_or_another_mark(real_gb):
    """Cards that say 64 GB and are smaller; the image is 3 GB, the first of it data."""
    real = int(real_gb * GB) // BLOCK * BLOCK
    landed: dict[int, int] = {}
    clashes = 0
    for place in marks.places(64 * GB, 3 * GB):
        clashes += place >= real and (place % real < 1 * GB or place % real in landed)
        landed[place % real] = place
    assert clashes


def test_a_mark_knows_where_it_was_written_and_for_which_run():
    block = marks.mark(b"n" * 12, 40960)
    assert marks.offset_of(block, b"n" * 12) == 40960
    assert marks.offset_of(block, b"m" * 12) is None
    assert marks.offset_of(block[:-1] + bytes([block[-1] ^ 1]), b"n" * 12) is None


@given(st.binary(max_size=100))
def test_whatever_comes_back_is_a_mark_or_none(data):
    assert marks.offset_of(data, b"n" * 12) is None
    assert marks.offset_of(data.ljust(BLOCK, b"\0"), b"n" * 12) is None


def answers(*rights: bool, marks_from: int = 10**9) -> list[Answer]:
    return [Answer(number * 100, 100, right, number >= marks_from) for number, right in enumerate(rights)]


def test_all_right_is_good():
    assert marks.finding(answers(True, True), 200).kind == "good"


def test_nothing_behind_a_point_is_a_lie_about_the_size():
    found = marks.finding(answers(True, True, True, False, False), 500)
    assert (found.kind, found.real_bytes) == ("lies about its size", 300)


def test_wrong_here_and_there_is_dropped():
    assert marks.finding(answers(True, False, True, True), 400).kind == "drops writes"


def test_nothing_kept_at_all_is_dropped():
    assert marks.finding(answers(False, False, False), 300).kind == "drops writes"


def test_something_of_ours_in_the_wrong_place_is_a_wrap_and_tells_the_real_size():
    wrapped = [
        Answer(0, 100, False, False, came_from=6400),
        Answer(100, 100, False, False, came_from=12900),
        Answer(6400, 100, True, False),
    ]
    assert marks.finding(wrapped, 25600).real_bytes == 6400
