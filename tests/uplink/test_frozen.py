"""A camera that sends the same picture again and again: noticed by the bytes of its keyframes, soon, and never of one that lives."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from web.boxes import DiskBox

from nvr.ring.writer import Written
from nvr.uplink.frozen import LOOK_S, SAME_S, Frozen, frozen_since
from tests.uplink.boxes import EventfulBox, Running, until
from tests.uplink.small_hub import served


def keyframes(word: str, every_s: float = 1.0) -> list[tuple[bytes, int]]:
    return [(letter.encode(), round(1000 * every_s * number)) for number, letter in enumerate(word)]


@pytest.mark.parametrize(
    ("word", "every_s", "forms", "since_s"),
    [
        ("abcdefghijkl", 1.0, "", 0), ("abcaaaaaa", 1.0, "a", 3), ("abcaaaaa", 1.0, "", 0), ("xyababab", 1.0, "ab", 2), ("xyzabab", 1.0, "", 0),
        ("xaa", 4.0, "", 0), ("xaaa", 4.0, "a", 1), ("ab", 10.0, "", 0), ("xaa", 10.0, "a", 1), ("abab", 10.0, "ab", 0), ("aba", 10.0, "", 0),
        ("abcabcabcabc", 1.0, "", 0), ("aaaaaaaaab", 1.0, "", 0), ("aaaaaabc", 1.0, "", 0), ("", 1.0, "", 0), ("a", 1.0, "", 0),
    ],
)  # fmt: skip
def test_two_forms_of_one_picture_are_a_frozen_camera_and_three_are_a_loop(word, every_s, forms, since_s):
    found = frozen_since(keyframes(word, every_s))
    expected = (frozenset(letter.encode() for letter in forms), round(1000 * every_s * since_s))
    assert found == (expected if forms else None)


class Clockwork:
    """A camera whose keyframes come every `every_s`, looked at as the uplink does; no ring, no waiting."""

    def __init__(self, written: Written, every_s: float, picture: object) -> None:
        self._written, self._every_s, self._picture = written, every_s, picture
        self._next, self.at_s = 0, 0.0
        self.frozen = Frozen(Path("nowhere"), ("gate",), lambda camera: self._last)
        self.frozen.digest = lambda fragment: self._picture(fragment[1].sequence * every_s)  # type: ignore[operator, method-assign]

    def look(self, at_s: float) -> int:
        while self._next * self._every_s <= at_s:
            record = replace(self._written.record, sequence=self._next)
            self._last = (self._written.position, record)
            self.frozen.take(self._last)
            self._next += 1
        self.frozen.look(lambda record: round(1000 * (1 + record.sequence * self._every_s)))
        return self.frozen.since_ms["gate"]


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Written:
    disk = DiskBox(tmp_path_factory.mktemp("box"))
    found = disk.record(3)
    disk.close()
    return found[0]


def looks(seed: int) -> list[float]:
    """For two minutes, as late as a busy machine makes them."""
    dice, at_s, found = random.Random(seed), 0.0, []
    while at_s < 120:
        found.append(at_s)
        at_s += LOOK_S + dice.uniform(0, 0.4)
    return found


@pytest.mark.parametrize("every_s", [0.5, 1.0, 2.0, 4.0])
def test_a_living_camera_is_never_called_frozen(written, every_s):
    camera = Clockwork(written, every_s, lambda at_s: str(at_s).encode())
    assert not any(camera.look(at_s) for at_s in looks(1))


@pytest.mark.parametrize("forms", [1, 2])
@pytest.mark.parametrize("every_s", [0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("froze_s", [30.0, 31.3, 32.9])
def test_a_frozen_camera_is_called_so_within_a_dozen_seconds_until_it_lives_again(written, forms, every_s, froze_s):
    def picture(at_s: float) -> bytes:
        return f"frozen {round(at_s / every_s) % forms}".encode() if froze_s <= at_s < 80 else str(at_s).encode()

    camera = Clockwork(written, every_s, picture)
    said = {at_s: since_ms for at_s in looks(round(froze_s)) if (since_ms := camera.look(at_s))}
    # Two forms are known as such from four keyframes on.
    bound_s = max(every_s + SAME_S, 2 * forms * every_s) + 2 * (LOOK_S + 0.4)
    assert said and min(said) - froze_s <= bound_s
    assert all(since_ms / 1000 - 1 >= froze_s for since_ms in said.values())
    assert max(said) < 80 + every_s + LOOK_S + 0.4


@pytest.mark.parametrize("loop_s", [3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 15, 20, 30])
def test_footage_in_a_loop_of_seconds_is_not_called_frozen(written, loop_s):
    """Demonstrations and tests play such."""
    camera = Clockwork(written, 1.0, lambda at_s: str(int(at_s) % loop_s).encode())
    assert not any(camera.look(at_s) for at_s in looks(loop_s))


@pytest.mark.parametrize(("forms", "is_frozen"), [(1, True), (2, True), (251, False)])
def test_keyframes_are_read_from_the_ring_and_compared_without_what_tells_the_time(tmp_path, forms, is_frozen):
    disk = DiskBox(tmp_path)
    written = disk.record(30, forms=forms)
    disk.close()
    newest = [(written[0].position, written[0].record)]
    frozen = Frozen(tmp_path, ("gate",), lambda camera: newest[0])
    changes = []
    for each in written:
        newest[0] = (each.position, each.record)
        frozen.take(newest[0])
        changes.append(frozen.look(lambda record: record.wall_ns // 1_000_000))
    assert changes.count(True) == int(is_frozen) and bool(frozen.since_ms["gate"]) == is_frozen
    if is_frozen:
        assert changes.index(True) == SAME_S
        assert frozen.since_ms["gate"] == written[0].record.wall_ns // 1_000_000


def test_a_camera_that_sends_nothing_is_not_frozen(tmp_path):
    frozen = Frozen(tmp_path, ("gate",), lambda camera: None)
    frozen.since_ms["gate"] = 5
    assert frozen.look(lambda record: 0) and frozen.since_ms == {"gate": 0}


def test_the_box_says_it_in_a_heartbeat_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("nvr.uplink.frozen.LOOK_S", 0.05)
    monkeypatch.setattr("nvr.uplink.frozen.SAME_S", 0.0)
    box = EventfulBox(tmp_path)
    with served(tmp_path) as listening:
        listening.hub.welcome["heartbeat_s"] = 60  # what comes sooner comes because of the camera
        with Running(box, box.site_file(listening.url, listening.fingerprint)) as running:
            until(lambda: listening.hub.heartbeats, "the first heartbeat")
            assert listening.hub.heartbeats[-1][1]["cameras"]["gate"]["same_since_ms"] == 0
            frozen = running.uplink.frozen
            turn = iter(box.written * 1000)

            def newest(camera):  # type: ignore[no-untyped-def]
                each = next(turn)
                frozen.take((each.position, each.record))
                return each.position, each.record

            frozen._newest = newest
            frozen.digest = lambda fragment: b"the same"  # type: ignore[method-assign]
            until(lambda: listening.hub.heartbeats[-1][1]["cameras"]["gate"]["same_since_ms"] > 0, "it is said")
