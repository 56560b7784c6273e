"""The controller against a link of its own kind: a pipe with a queue, and somebody else's packets in it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nvr.uplink.budget import Budget
from nvr.uplink.courtesy import KEPT_SHARE, LEAST_BYTES_S, Courtesy
from nvr.uplink.worth import RANK_ALARM, RANK_ASKED, RANK_BULK, RANK_CLIP, RANK_STATE

LOOK_S = 0.2


def ours_after(
    seconds: float,
    link_bytes_s: float,
    others: Callable[[float], float],
    queue_bytes: float = 32_768,
    wants: float = 1e9,
) -> tuple[Courtesy, float, float]:
    """A fluid model: (the controller, our bytes per second and the queue in ms, both over the last third)."""
    courtesy, queue, at_s, late_bytes, delays = Courtesy(), 0.0, 0.0, 0.0, []
    while at_s < seconds:
        ours = min(courtesy.bytes_s, wants) * LOOK_S
        theirs = others(at_s) * LOOK_S
        if theirs > link_bytes_s * LOOK_S:  # greedy: as much as the queue takes
            theirs = max(queue_bytes + link_bytes_s * LOOK_S - queue - ours, 0.0)
        queue = max(0.0, min(queue + ours + theirs - link_bytes_s * LOOK_S, queue_bytes))
        courtesy.look(queue / link_bytes_s * 1000, round(ours), LOOK_S)
        if at_s > seconds * 2 / 3:
            late_bytes += ours
            delays.append(queue / link_bytes_s * 1000)
        at_s += LOOK_S
    return courtesy, late_bytes / (seconds / 3), sum(delays) / len(delays)


@pytest.mark.parametrize("link_bytes_s", [16_000, 125_000, 1_250_000])
def test_alone_it_takes_the_link_and_leaves_its_queue_short(link_bytes_s):
    _, ours, queue_ms = ours_after(120, link_bytes_s, lambda at_s: 0.0, queue_bytes=max(32_768, link_bytes_s / 4))
    assert 0.85 * link_bytes_s < ours < 1.02 * link_bytes_s
    assert queue_ms < 80


def test_beside_somebody_greedy_it_goes_down_to_what_it_keeps():
    _, ours, _ = ours_after(120, 125_000, lambda at_s: 1e9 if at_s > 40 else 0.0)
    assert LEAST_BYTES_S <= ours < 1.3 * KEPT_SHARE * 125_000


def test_when_they_have_gone_the_link_is_taken_again():
    _, ours, _ = ours_after(180, 125_000, lambda at_s: 1e9 if 40 < at_s < 100 else 0.0)
    assert ours > 0.8 * 125_000


def test_beside_somebody_modest_both_get_what_they_want():
    _, ours, _ = ours_after(120, 125_000, lambda at_s: 40_000.0)
    assert 0.75 * 85_000 < ours < 1.05 * 85_000


def test_a_rate_that_is_not_used_does_not_rise():
    courtesy, *_ = ours_after(300, 125_000, lambda at_s: 0.0, wants=3_000)
    assert courtesy.bytes_s < 20_000


def test_only_what_can_wait_waits():
    budget = Budget(None, 0.0, yields=True)
    assert budget.courtesy is not None
    budget.courtesy.spend(1_000_000)
    assert [budget.may_send(rank) for rank in (RANK_ALARM, RANK_STATE, RANK_ASKED, RANK_CLIP, RANK_BULK)] == [
        True,
        True,
        True,
        False,
        False,
    ]
