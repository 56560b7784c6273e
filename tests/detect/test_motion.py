"""What moves, what differs from the empty scene, and what is only light."""

from __future__ import annotations

import pytest

np = pytest.importorskip("numpy", reason="detection needs numpy")
pytest.importorskip("av", reason="detection needs PyAV")

from nvr.detect.motion import Background, Sums, blobs, small, zone_mask  # noqa: E402
from nvr.scene import Rect, Zone  # noqa: E402

STEP_NS = 200_000_000


def scenery(seed: int = 1):  # type: ignore[no-untyped-def]
    random = np.random.default_rng(seed)
    return np.kron(random.integers(60, 180, (9, 16)), np.ones((10, 10))).astype(np.float32), random


def watched(
    seconds: float,
    background: Background,
    random,
    ground,
    *,
    start: int = 0,
    thing=None,
    light: float = 0.0,
    step: int = 1,
):  # type: ignore[no-untyped-def]
    found = []
    for number in range(start, start + round(seconds * 5), step):
        picture = ground * (1 + light) + random.normal(0, 0.7, ground.shape)
        if thing is not None:
            left = thing(number)
            picture[40:70, left : left + 12] = 240
        found.append(background.look(picture.astype(np.float32), number * STEP_NS))
    return found


@pytest.mark.parametrize("shape", [(360, 640), (352, 641), (1080, 1920), (96, 96), (40, 30), (3000, 4000)])
def test_small_is_the_mean_of_blocks(shape):
    luma = np.random.default_rng(2).integers(0, 256, shape).astype(np.uint8)
    result = small(luma)
    side = max(1, round(shape[0] / 90))
    expected = (
        luma[: shape[0] // side * side, : shape[1] // side * side]
        .reshape(shape[0] // side, side, -1, side)
        .mean((1, 3))
    )
    assert np.allclose(result, expected, atol=1e-3)


def test_noise_is_no_movement():
    ground, random = scenery()
    found = watched(20, Background(), random, ground)
    assert max(motion.moving.share for motion in found) == 0
    assert max(motion.foreground.share for motion in found[10:]) == 0


def test_a_thing_that_goes_through_is_found_where_it_is():
    ground, random = scenery()
    background = Background()
    watched(20, background, random, ground)
    motion = watched(3, background, random, ground, start=100, thing=lambda number: 3 * (number - 100) + 20)[-1]
    blob = blobs(motion.foreground.mask)[0]
    expected = Rect(62 / 160, 40 / 90, 74 / 160, 70 / 90)
    assert blob.rect.iou(expected) > 0.7
    assert motion.moving.share > 0.005


def test_a_thing_that_stays_differs_for_minutes():
    ground, random = scenery()
    background = Background()
    watched(60, background, random, ground)
    stays = watched(240, background, random, ground, start=300, thing=lambda number: 50, step=8)
    assert stays[-1].foreground.share > 0.01, "after four minutes"
    assert stays[-1].moving.share == 0


def test_what_leaves_leaves_no_ghost():
    """The empty scene used to be mixed with what stood in it: a person who had waited for 20 s was seen for minutes after."""
    ground, random = scenery()
    background = Background()
    watched(60, background, random, ground)
    watched(20, background, random, ground, start=300, thing=lambda number: 50)
    assert watched(1, background, random, ground, start=400)[-1].foreground.share == 0


def test_what_stays_for_ten_minutes_belongs_to_the_scene():
    ground, random = scenery()
    background = Background()
    watched(60, background, random, ground, step=4)
    watched(240, background, random, ground, start=300, thing=lambda number: 50, step=8)
    assert (
        watched(600, background, random, ground, start=1500, thing=lambda number: 50, step=8)[-1].foreground.share == 0
    )


def test_a_cloud_is_neither_movement_nor_foreground():
    ground, random = scenery()
    background = Background()
    watched(20, background, random, ground)
    for step in range(20):
        motion = watched(0.2, background, random, ground, start=100 + step, light=-0.015 * step)[-1]
        assert motion.moving.share < 0.01
        assert motion.foreground.share < 0.02


def test_a_lamp_that_turns_everything_is_told_as_light():
    ground, random = scenery()
    background = Background()
    watched(20, background, random, ground)
    other = scenery(5)[0]
    assert watched(0.2, background, random, other, start=100)[0].is_light_change
    assert not watched(2, background, random, other, start=101)[-1].is_light_change


def test_a_zone_on_blocks_is_the_zone():
    zone = Zone("z", ((0.1, 0.2), (0.8, 0.1), (0.9, 0.9), (0.5, 0.4), (0.2, 0.95)))
    mask = zone_mask(zone, 45, 80)
    assert all(
        mask[row, column] == zone.contains(((column + 0.5) / 80, (row + 0.5) / 45))
        for row in range(45)
        for column in range(80)
    )


def test_shares_in_rects_are_counted_right():
    mask = np.random.default_rng(1).random((90, 160)) > 0.7
    sums = Sums(mask)
    assert sums.in_rect(Rect(0.25, 0.1, 0.5, 0.4)) == pytest.approx(mask[9:36, 40:80].mean())
    assert sums.in_rect(Rect(-3.0, -2.0, 5.0, 7.0)) == pytest.approx(mask.mean())
    assert 0 <= sums.in_rect(Rect(1.0, 1.0, 1.0, 1.0)) <= 1


def test_blobs_bridge_one_block_and_not_two():
    mask = np.zeros((90, 160), np.bool_)
    mask[10:20, 10:20] = mask[10:20, 21:30] = mask[40:50, 100:110] = mask[40:50, 112:120] = True
    assert len(blobs(mask)) == 3
