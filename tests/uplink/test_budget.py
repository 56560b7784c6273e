"""Cap, floor, order and quiet hours, by a clock that a test moves."""

from __future__ import annotations

import asyncio
import socket

import pytest

from nvr.uplink.budget import Budget, is_quiet, socket_facts
from nvr.uplink.worth import RANK_ALARM, RANK_ASKED, RANK_CLIP


class Seconds:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def sent_in(budget: Budget, clock: Seconds, seconds: float, rank: int, chunk: int = 500) -> int:
    """How much goes out when there is always more."""
    total, end = 0, clock.now + seconds
    while clock.now < end:
        while budget.may_send(rank):
            budget.spend(chunk, is_urgent=rank < 10)
            total += chunk
        clock.now += 0.01
    return total


@pytest.mark.parametrize("cap", [64.0, 256.0, 5000.0])
def test_the_cap_is_kept_within_five_percent(cap):
    clock = Seconds()
    budget = Budget(cap, 0.0, clock)
    sent_in(budget, clock, 5, RANK_CLIP)
    rate = sent_in(budget, clock, 60, RANK_CLIP) * 8 / 60_000
    assert rate == pytest.approx(cap, rel=0.05)


def test_the_floor_is_left_to_what_is_urgent():
    clock = Seconds()
    budget = Budget(256.0, 64.0, clock)
    sent_in(budget, clock, 5, RANK_CLIP)
    assert sent_in(budget, clock, 60, RANK_CLIP) * 8 / 60_000 == pytest.approx(192.0, rel=0.05)
    assert budget.may_send(RANK_ALARM) or budget._all > -600


def test_what_is_urgent_goes_at_once_and_is_paid_for_afterwards():
    clock = Seconds()
    budget = Budget(80.0, 16.0, clock)
    budget.spend(30_000, is_urgent=True)  # three seconds of the cap
    assert not budget.may_send(RANK_CLIP)
    clock.now += 2.9
    assert not budget.may_send(RANK_CLIP)
    clock.now += 0.5
    assert budget.may_send(RANK_CLIP)


def test_a_debt_has_an_end():
    clock = Seconds()
    budget = Budget(80.0, 16.0, clock)
    for _ in range(100):
        budget.spend(100_000, is_urgent=True)
    clock.now += 11
    assert budget.may_send(RANK_ALARM)


def test_no_piece_of_an_ordinary_clip_is_begun_while_an_alarm_travels():
    budget = Budget(None, 0.0)
    budget.begin(RANK_ALARM)
    assert budget.may_begin(RANK_ALARM) and not budget.may_begin(RANK_CLIP) and not budget.may_begin(RANK_ASKED)
    assert budget.may_begin(16), "a still is small, and a wall without stills is blind"
    budget.end(RANK_ALARM)
    assert budget.may_begin(RANK_CLIP)


def test_of_two_that_wait_the_more_valuable_goes_first():
    async def run() -> list[str]:
        clock = Seconds()
        budget = Budget(80.0, 0.0, clock)
        budget.spend(5_000, is_urgent=False)
        order: list[str] = []

        async def take(name: str, rank: int) -> None:
            await budget.take(2_000, rank)
            order.append(name)

        tasks = [asyncio.create_task(take("clip", RANK_CLIP)), asyncio.create_task(take("asked", RANK_ASKED))]
        await asyncio.sleep(0.1)
        while not all(task.done() for task in tasks):
            clock.now += 0.05
            await asyncio.sleep(0.06)
        return order

    assert asyncio.run(run()) == ["asked", "clip"]


def test_without_a_cap_nothing_waits():
    budget = Budget(None, 16.0)
    budget.spend(10**9, is_urgent=False)
    assert budget.may_send(RANK_CLIP)


@pytest.mark.parametrize(
    ("hours", "minute", "quiet"),
    [((), 0, False), (((420, 1320),), 419, False), (((420, 1320),), 420, True), (((420, 1320),), 1320, False),
     (((1320, 360),), 1400, True), (((1320, 360),), 0, True), (((1320, 360),), 360, False), (((0, 60), (600, 660)), 630, True)],
)  # fmt: skip
def test_quiet_hours_may_go_over_midnight(hours, minute, quiet):
    assert is_quiet(hours, minute) is quiet


def test_headers_and_repetitions_are_paid_for_as_the_kernel_counts_them():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        other, _ = server.accept()
        with other:
            budget = Budget(None, 0.0)
            meter = budget.watch(client)
            client.sendall(bytes(10_000))
            while len(other.recv(20_000, socket.MSG_PEEK)) < 10_000:
                pass
            meter.paid_bytes += 10_000
            facts = socket_facts(client)
            assert facts is not None and facts.sent_bytes == 10_000 and facts.segments >= 2
            budget.settle()
            assert budget.sent_bytes == facts.segments * 52
            budget.settle()
            assert budget.sent_bytes == facts.segments * 52, "once"
    assert socket_facts(client) is None
