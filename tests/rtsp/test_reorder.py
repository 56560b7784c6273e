"""Datagrams in order again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nvr.rtsp.reorder import HELD_LIMIT, WAIT_NS, ReorderWindow


def place(seq: int, now_ns: int = 0):
    return (bytearray(), seq, seq, now_ns)


def push_all(window: ReorderWindow, seqs, now_ns: int = 0) -> list[int]:
    return [out[1] for seq in seqs for out in window.push(seq & 0xFFFF, place(seq, now_ns))]


def test_what_is_in_order_goes_straight_through():
    assert push_all(ReorderWindow(), range(65_500, 65_600)) == list(range(65_500, 65_600))


def test_swapped_packets_are_put_right_also_around_the_wrap():
    assert push_all(ReorderWindow(), [65_534, 65_536, 65_535, 65_538, 65_537]) == list(range(65_534, 65_539))


def test_a_missing_packet_is_waited_for_only_so_long():
    window = ReorderWindow()
    assert push_all(window, [1, 3, 4], now_ns=0) == [1]
    assert window.expire(WAIT_NS) == []
    assert [out[1] for out in window.expire(WAIT_NS + 1)] == [3, 4]
    assert push_all(window, [2]) == [2]  # late: the walker counts it
    assert push_all(window, [5]) == [5]


def test_no_more_than_a_window_is_held():
    window = ReorderWindow()
    out = push_all(window, [0, *range(2, HELD_LIMIT + 4)])
    assert out == [0, *range(2, HELD_LIMIT + 4)]


def test_a_jump_lets_everything_go():
    window = ReorderWindow()
    assert push_all(window, [0, 2, 30_000, 30_001]) == [0, 2, 30_000, 30_001]


@given(st.lists(st.integers(0, 65_535), max_size=300))
def test_nothing_is_lost_and_nothing_invented(seqs):
    window = ReorderWindow()
    out = push_all(window, seqs) + [held[1] for held in window.expire(WAIT_NS * 2)]
    assert sorted(out) == sorted(seqs)


@given(st.permutations(range(40)))
def test_any_order_within_the_window_comes_out_sorted(seqs):
    window = ReorderWindow()
    first = push_all(window, [-1 & 0xFFFF])
    assert first == [65_535]
    assert push_all(window, seqs) == list(range(40))
