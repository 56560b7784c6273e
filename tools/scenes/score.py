"""How well what was said fits the truth: plain counting over moments and spans."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nvr.scene import Event

_NS = 1_000_000_000


def said_at(events: Iterable[Event], times_s: Sequence[float], before: str = "") -> list[str]:
    """The state that was standing at each time, from when it was said (not from when its evidence began)."""
    changes = [(event.to_ns / _NS, before if event.is_end else event.state) for event in events]
    found, state, number = [], before, 0
    for at_s in times_s:
        while number < len(changes) and changes[number][0] <= at_s + 1e-9:
            state = changes[number][1]
            number += 1
        found.append(state)
    return found


@dataclass(frozen=True, slots=True)
class Counts:
    """Of one class: true positives, false positives, false negatives."""

    right: int = 0
    wrong: int = 0
    missed: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.right + other.right, self.wrong + other.wrong, self.missed + other.missed)

    @property
    def f1(self) -> float:
        total = 2 * self.right + self.wrong + self.missed
        return 2 * self.right / total if total else 1.0


def settled(truth: Sequence[str], times_s: Sequence[float], margin_s: float) -> list[bool]:
    """Whether the truth has been the same for `margin_s` before and stays so after: else both answers are right."""
    found = [True] * len(truth)
    edges = [times_s[number] for number in range(1, len(truth)) if truth[number] != truth[number - 1]]
    for number, at_s in enumerate(times_s):
        if any(abs(at_s - edge_s) < margin_s for edge_s in edges):
            found[number] = False
    return found


def counts(truth: Sequence[str], said: Sequence[str], graded: Sequence[bool]) -> dict[str, Counts]:
    """For each state of the truth and of what was said."""
    found: dict[str, Counts] = {}
    for true, told, counted in zip(truth, said, graded, strict=True):
        if not counted:
            continue
        for state in {true, told}:
            one = Counts(
                int(true == told == state), int(told == state and true != state), int(true == state and told != state)
            )
            found[state] = found.get(state, Counts()) + one
    return found


def added(first: Mapping[str, Counts], second: Mapping[str, Counts]) -> dict[str, Counts]:
    return {state: first.get(state, Counts()) + second.get(state, Counts()) for state in {*first, *second}}
