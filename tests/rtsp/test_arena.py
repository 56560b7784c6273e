"""Room to receive into: what somebody holds is never written again."""

from __future__ import annotations

import random

from nvr.arena import LEAST_ROOM_BYTES, SLACK_BYTES, Arena
from nvr.rtsp.rtp import Walker
from rtsp.streams import SLICE, Sender, payload_of


def test_there_is_always_room_and_what_came_before_lies_in_front_of_it():
    arena = Arena(128 * 1024)
    noise = random.Random(1)
    for _ in range(500):
        before = noise.randbytes(noise.choice((0, 1, 700, 65_539)))
        room = arena.room(before)
        assert len(room) >= LEAST_ROOM_BYTES
        assert bytes(arena.buffer[arena.used : arena.used + len(before)]) == before
        size_bytes = noise.randrange(len(room) + 1)
        room[:size_bytes] = bytes(size_bytes)
        arena.took(len(before) + size_bytes)
        assert arena.used <= len(arena.buffer) - SLACK_BYTES


def test_views_that_somebody_holds_keep_their_bytes():
    arena = Arena(128 * 1024)
    noise = random.Random(2)
    held: list[tuple[memoryview, bytes]] = []
    for number in range(2000):
        room = arena.room()
        data = number.to_bytes(4, "big") * noise.randrange(1, 5000)
        room[: len(data)] = data
        if noise.random() < 0.05:
            held.append((room[: len(data)], data))
        if noise.random() < 0.04 and held:
            held.pop(noise.randrange(len(held)))
        arena.took(len(data))
        assert all(view == data for view, data in held[-3:])
    assert all(view == data for view, data in held)


def test_pictures_that_somebody_holds_keep_their_bytes():
    arena, walker, sender = Arena(128 * 1024), Walker(96), Sender()
    noise = random.Random(3)
    held = []
    for number in range(1500):
        nal = SLICE + number.to_bytes(4, "big") * 500
        data = b"".join(sender.picture(nal, size=900))
        room = arena.room()
        room[: len(data)] = data
        start = arena.used
        arena.took(len(data))
        walker.walk(arena.buffer, start, start + len(data), 0)
        room = None
        for picture in walker.take():
            if noise.random() < 0.03:
                held.append((picture[0], payload_of(picture[0])))
        if noise.random() < 0.02 and held:
            held.pop(noise.randrange(len(held)))
    assert len(held) > 5
    assert all(payload_of(gather) == payload for gather, payload in held)


def test_memory_that_a_backlog_needed_is_given_back():
    arena = Arena(64 * 1024)
    kept = []

    def turns(count: int) -> None:
        for _ in range(count):
            view = arena.room(at_least=40 * 1024)
            arena.took(40 * 1024)
            kept.append(view[:1])

    turns(20)
    assert len(arena._spent) >= 19
    kept.clear()
    for _ in range(200):
        turns(1)
        kept.clear()
    assert len(arena._spent) <= 6
