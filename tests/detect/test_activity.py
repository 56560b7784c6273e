"""Sizes of access units tell of movement where they can, and are not believed where they cannot."""

from __future__ import annotations

import random

from nvr.detect.activity import Gate, Type, type_of
from nvr.gather import Gather
from nvr.media import AccessUnit

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
