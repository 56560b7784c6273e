"""A loop shows itself by grain that comes again, also where nothing moves; and nothing that lives is one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

np = pytest.importorskip("numpy", reason="detection needs numpy")

from nvr.detect.loops import HISTORY_NS, SURE, LoopLook  # noqa: E402

SHAPE = (90, 160)
LOOK_NS = 200_000_000


def room(count: int, *, noise: float = 1.0, seed: int = 1) -> Iterator[np.ndarray]:
    """A room in which nobody moves, as a sensor sees it."""
    chance = np.random.default_rng(seed)
    scene = chance.uniform(40, 200, SHAPE).astype(np.float32)
    for _ in range(count):
        yield scene + chance.normal(0, noise, SHAPE).astype(np.float32)


def looked(pictures: Iterable[np.ndarray], look: LoopLook | None = None, *, step_ns: int = LOOK_NS, from_: int = 0) -> list[tuple[int, int]]:  # fmt: skip
    look = look or LoopLook()
    return [look.look(picture, (from_ + number) * step_ns) for number, picture in enumerate(pictures)]


def test_a_living_camera_in_a_still_room_shows_no_loop():
    look = LoopLook()
    assert set(looked(room(1600), look)) == {(0, 0)}
    assert look.grain.sums.max() < SURE / 2


def test_a_loop_in_which_nobody_moves_is_known_within_three_seconds():
    film = list(room(100))
    told = looked([*room(200, seed=2), *film, *film])
    first = next(number for number, each in enumerate(told) if each[0])
    assert 300 < first <= 315
    assert told[-1] == (pytest.approx(100 * LOOK_NS, abs=2 * LOOK_NS), 100 * LOOK_NS)


def test_a_loop_that_was_encoded_again_is_known_too():
    """A third of what is left of the grain is the film's; the rest is what the second encoder made."""
    film = list(room(100))
    again = [picture + noise - noise.mean() for picture, noise in zip(film * 3, room(300, noise=1.4, seed=3), strict=True)]  # fmt: skip
    told = looked(again)
    assert any(each[1] == 100 * LOOK_NS for each in told[100:220])
    assert all(each[1] % (100 * LOOK_NS) == 0 for each in told), "no other length is told"


def test_a_loop_without_noise_is_known_by_what_moves_in_it():
    """Coding took the noise away; somebody walks about."""
    scene, chance = next(room(1, noise=0.0)), np.random.default_rng(7)
    places = np.cumsum(chance.integers(-6, 7, (100, 2)), axis=0) % (50, 120)
    film = []
    for row, column in places:
        picture = scene.copy()
        picture[row : row + 40, column : column + 40] = 90
        film.append(picture)
    assert looked(film * 3)[-1][1] == 100 * LOOK_NS


def test_a_loop_is_over_within_seconds_after_the_camera_lives_again():
    film, look = list(room(60)), LoopLook()
    assert looked(film * 3, look)[-1][0] > 0
    assert looked(room(60, seed=4), look, from_=180)[-1] == (0, 0)


def test_a_mast_that_sways_is_no_loop():
    """What changes is the same each time, once to the left and once to the right: it resembles itself at every lag."""
    wide = np.random.default_rng(1).uniform(40, 200, (90, 170)).astype(np.float32)
    chance = np.random.default_rng(2)

    def pictures() -> Iterator[np.ndarray]:
        for number in range(500):
            left = round(2 + 2 * np.sin(number / 5 * 1.1))
            yield wide[:, left : left + 160] + chance.normal(0, 0.5, SHAPE)

    assert set(looked(pictures())) == {(0, 0)}


@pytest.mark.parametrize("noise", [0.2, 1.0])
def test_cars_that_drive_by_like_each_other_are_no_loop(noise):
    """Every 8 s one of the same make, in the same lane, at the same speed."""

    car = np.random.default_rng(6).uniform(20, 230, (20, 30))

    def pictures() -> Iterator[np.ndarray]:
        for number, picture in enumerate(room(500, noise=noise)):
            wide = np.pad(picture, ((0, 0), (30, 30)))
            wide[40:60, number % 40 * 5 : number % 40 * 5 + 30][:, : 220 - number % 40 * 5] = car[
                :, : 220 - number % 40 * 5
            ]
            yield wide[:, 30:190]

    assert set(looked(pictures())) == {(0, 0)}


def test_a_light_that_flickers_is_no_loop():
    def pictures() -> Iterator[np.ndarray]:
        for number, picture in enumerate(room(600)):
            yield picture + 8 * np.sin(number * 0.7 + np.arange(90)[:, None] / 9)

    assert set(looked(pictures())) == {(0, 0)}


def test_a_keyframe_that_looks_the_same_each_time_is_no_loop():
    """Without noise an encoder writes the same keyframe again and again: every one resembles every other."""
    scene = next(room(1, noise=0.0))
    keyframe = scene + np.random.default_rng(5).normal(0, 1, SHAPE)
    assert set(looked(keyframe if number % 10 == 0 else scene for number in range(500))) == {(0, 0)}


def test_a_loop_is_known_from_keyframes_alone():
    """Asleep, a box looks at keyframes only: one in two seconds."""
    film = list(room(10))
    told = looked(film * 8, step_ns=2_000_000_000)
    assert told[-1][0] > 60e9
    assert told[-1][1] == 40_000_000_000, "two rounds: a lag of fewer than 15 looks says nothing"


def test_what_was_shown_long_ago_is_not_compared():
    film = list(room(160))
    assert set(looked(film * 2, step_ns=HISTORY_NS // 150)) == {(0, 0)}


def test_a_picture_of_another_size_begins_anew():
    film, look = list(room(60)), LoopLook()
    looked(film * 2, look)
    assert look.look(np.zeros((60, 80), np.float32), 10**12) == (0, 0)
    assert look.look(np.zeros((1, 1), np.float32), 2 * 10**12) == (0, 0)
    assert look.look(np.zeros((1, 1), np.float32), 3 * 10**12) == (0, 0)
