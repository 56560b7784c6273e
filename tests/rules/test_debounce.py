"""Noise does not flap; a true change is told once."""

from __future__ import annotations

import itertools
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from nvr.rules.debounce import Debounced


def changes(state: Debounced[str], samples: list[tuple[float, str | None]]) -> list[tuple[float, str]]:
    return [(at_s, found.state) for at_s, value in samples if (found := state.observe(at_s, value)) is not None]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), wrong=st.floats(0, 0.25), hold_s=st.sampled_from([5.0, 10.0, 30.0]))
def test_noise_changes_nothing_and_a_true_change_is_told_once(seed, wrong, hold_s):
    chance = random.Random(seed)
    samples: list[tuple[float, str | None]] = []
    for number in range(3000):  # ten minutes at 5 a second, the truth changes in the middle
        truth, other = ("a", "b") if number < 1500 else ("b", "a")
        samples.append((number / 5, other if chance.random() < 0.8 * wrong else truth))
    found = changes(Debounced("a", hold_s), samples)
    assert [state for _, state in found] == ["b"]
    assert 300 < found[0][0] <= 300 + 4 * hold_s


@settings(max_examples=100, deadline=None)
@given(
    samples=st.lists(st.tuples(st.floats(0.01, 3), st.sampled_from(["a", "b", "c", None])), max_size=400),
    hold_s=st.floats(0.5, 20),
)
def test_whatever_comes_changes_are_a_window_apart(samples, hold_s):
    at_s, shown = 0.0, []
    for gap_s, value in samples:
        at_s += gap_s
        shown.append((at_s, value))
    found = changes(Debounced("a", hold_s), shown)
    assert all(later[0] - earlier[0] >= hold_s - 1e-6 for earlier, later in itertools.pairwise(found))
    assert all(earlier[1] != later[1] for earlier, later in itertools.pairwise(found))


def test_silence_is_no_evidence():
    state = Debounced("a", 10.0)
    assert changes(state, [(0.0, "b"), (60.0, "b"), (61.0, "b")]) == []


def test_a_camera_of_which_only_keyframes_are_looked_at_changes_its_state():
    """A large stream with a keyframe every 4 s: a sample spoke for 2 s of them, so three quarters of a window were never reached."""
    samples = [(4.0 * number, "a" if number < 10 else "b") for number in range(30)]
    for hold_s in (5.0, 20.0, 60.0):
        [(at_s, state)] = changes(Debounced("a", hold_s), samples)
        assert state == "b" and 40 <= at_s <= 40 + hold_s + 4


def test_what_is_looked_at_less_than_every_five_seconds_is_not_known_well_enough():
    assert changes(Debounced("a", 30.0), [(8.0 * number, "b") for number in range(60)]) == []


def test_a_sample_that_says_nothing_speaks_for_nobody():
    samples: list[tuple[float, str | None]] = [(number / 5, "b" if number % 2 else None) for number in range(600)]
    assert changes(Debounced("a", 10.0), samples) == []


def test_a_change_says_since_when_it_was_seen():
    state = Debounced("a", 2.0)
    found = [state.observe(number / 5, "a" if number < 50 else "b") for number in range(80)]
    change = next(each for each in found if each is not None)
    assert (change.before, change.state, round(change.from_s, 1)) == ("a", "b", 10.0)
    assert 11.4 <= change.at_s <= 12.1
