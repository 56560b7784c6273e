"""Sizes of access units tell of movement where they can, and are not believed where they cannot."""

from __future__ import annotations

import random

from nvr.detect.activity import Gate, Type, type_of
from nvr.gather import Gather
from nvr.media import AccessUnit
from tools.bench import gate_limits

P, DISPOSABLE, IDR = 0x41, 0x01, 0x65


def unit(size_bytes: int, header: int = P) -> AccessUnit:
    payload = Gather()
    payload.append(memoryview((size_bytes - 4).to_bytes(4, "big") + bytes([header]) + bytes(size_bytes - 5)))
    return AccessUnit(payload, 0, 0, 0, header == IDR)


def play(
    gate: Gate, quiet_bytes: int, moving_bytes: int, *, rounds: int, noise: float = 0.1
) -> list[tuple[bool, bool]]:
    """(is moving, is active) of each picture: ten seconds of quiet, four of movement, five pictures a second."""
    chance = random.Random(1)
    seen = []
    for number in range(rounds * 70):
        is_moving = number % 70 >= 50
        if number % 10 == 0:
            gate.look(unit(8000, IDR))
        else:
            size = (moving_bytes if is_moving else quiet_bytes) * chance.uniform(1 - noise, 1 + noise)
            seen.append((is_moving, gate.look(unit(round(size))).is_active))
        gate.told(is_moving)
    return seen


def test_types_are_read_from_the_first_slice():
    assert type_of(unit(100, IDR)) is Type.KEYFRAME
    assert type_of(unit(100)) is Type.REFERENCE
    assert type_of(unit(100, DISPOSABLE)) is Type.DISPOSABLE


def test_everything_is_decoded_until_quiet_and_movement_are_known():
    gate = Gate()
    assert all(active for _, active in play(gate, 200, 3000, rounds=2))
    assert not gate.is_trusted


def test_where_movement_takes_bytes_quiet_pictures_need_not_be_decoded():
    gate = Gate()
    play(gate, 200, 3000, rounds=6)
    assert gate.is_trusted
    seen = play(gate, 200, 3000, rounds=3)
    assert all(active for moving, active in seen if moving)
    quiet = [active for moving, active in seen if not moving]
    assert sum(quiet) < 0.05 * len(quiet)


def test_a_camera_of_constant_bit_rate_is_never_believed():
    """It fills quiet pictures up to the same size, so a gate by sizes would sleep through everything."""
    gate = Gate()
    assert all(active for _, active in play(gate, 3000, 3000, rounds=20))


def test_a_camera_that_begins_to_fill_up_is_no_longer_believed():
    gate = Gate()
    play(gate, 200, 3000, rounds=6)
    play(gate, 3000, 3000, rounds=6)
    assert not gate.is_trusted


def test_keyframes_are_always_active():
    gate = Gate()
    play(gate, 200, 3000, rounds=8)
    assert gate.look(unit(8000, IDR)).is_active


# -- what a gate could save at best: tools/bench/gate_limits.py ---------------------------------------


def stream(moving: range, excess: float) -> tuple[list[gate_limits.Unit], dict[int, bool]]:
    """40 GOPs of 2 s; pictures of `moving` are larger by so much (log2)."""
    units, moves = [], {}
    for number in range(400):
        place = number % 10
        at_ns = number * 200_000_000
        kind = Type.KEYFRAME if place == 0 else Type.REFERENCE
        ripple = 0.05 * (number * 7 % 5 - 2)
        units.append(gate_limits.Unit(at_ns, kind, place, 10.0 + ripple + (excess if number in moving else 0.0)))
        moves[at_ns] = number in moving
    return units, moves


def test_the_bench_finds_a_threshold_where_sizes_tell_and_none_where_they_do_not():
    for excess, least, most in ((2.0, 0.1, 0.6), (0.0, 0.9, 1.0)):
        units, moves = stream(range(303, 306), excess)
        for name, measure in gate_limits.MEASURES.items():
            share = gate_limits.best(units, moves, measure(units, moves), may_be_late=False)
            assert least <= share <= most, (name, excess, share)


def test_a_movement_between_two_keyframes_is_missed_by_a_gate_that_never_opens():
    units, moves = stream(range(303, 306), 2.0)
    found = gate_limits.gated(units, moves, [0.0] * len(units), 1.0)
    assert (found.missed, found.latest_s) == (3, float("inf"))
    assert found.decoded == 0.1
