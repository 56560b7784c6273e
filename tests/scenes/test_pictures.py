"""Frames of the renderer: deterministic, and each fault does to a frame what its name says."""

from __future__ import annotations

import pytest

pytest.importorskip("numpy", reason="scenes are drawn with numpy (extra codecs)")

import numpy as np

from tools.scenes import faults, paint, road
from tools.scenes.view import View

SIZE = (320, 180)


@pytest.fixture(scope="module")
def vehicles():
    return list(road.Street([road.Phase(0, 1300, 8.0)]).run(60, every_s=1.0))[-1].vehicles


def frame_of(vehicles, light=paint.DAY, seed=1):
    return paint.expose(paint.street(vehicles, light, View(), *SIZE), light, np.random.default_rng(seed))


def test_the_same_seed_draws_the_same_frame(vehicles):
    assert (frame_of(vehicles) == frame_of(vehicles)).all()
    assert (frame_of(vehicles) != frame_of(vehicles, seed=2)).any()


def test_a_vehicle_is_where_its_rect_says(vehicles):
    empty, full = frame_of(()).astype(int), frame_of(vehicles).astype(int)
    changed = np.abs(full - empty) > 25
    inside = np.zeros_like(changed)
    for each in vehicles:
        left, top, right, bottom = View().rects(np.array([[each.x_m, each.z_m]]), np.array([each.size_m]))[0]
        grown = (right - left) * 0.5 + 0.01  # the shadow falls to the right
        inside[
            max(0, int((top - 0.02) * SIZE[1])) : int((bottom + 0.04) * SIZE[1]) + 1,
            max(0, int((left - grown) * SIZE[0])) : int((right + grown) * SIZE[0]) + 1,
        ] = True
    assert changed.sum() > 200
    assert (changed & ~inside).mean() < 0.002


def test_a_night_is_dark_with_bright_headlights(vehicles):
    night = frame_of(vehicles, paint.NIGHT)
    assert night.mean() < 55
    assert (night > 200).any()
    assert not (frame_of((), paint.NIGHT) > 200).any()


def detail_of(frame):
    return np.abs(np.diff(frame.astype(int), axis=1)).mean()


@pytest.mark.parametrize("flavour", [0, 1])
def test_a_covered_lens_shows_no_shapes(vehicles, flavour):
    fault = faults.Fault("covered", 0, 10, flavour=flavour)
    chance = np.random.default_rng(1)
    picture = fault.apply_to_scene(paint.street(vehicles, paint.DAY, View(), *SIZE), chance)
    assert detail_of(picture) < 0.5


def test_out_of_focus_takes_detail_and_leaves_light(vehicles):
    picture = paint.street(vehicles, paint.DAY, View(), *SIZE)
    soft = faults.Fault("defocused", 0, 10, strength=0.3).apply_to_scene(picture, np.random.default_rng(1))
    assert detail_of(soft) < 0.5 * detail_of(picture)
    assert soft.mean() == pytest.approx(picture.mean(), abs=2)


def test_a_frozen_camera_repeats_one_frame_and_a_looped_one_a_film(vehicles):
    frames = [frame_of(vehicles, seed=number) for number in range(30)]
    for kind, distinct in (("frozen", 1), ("looped", 20)):
        fault = faults.Fault(kind, 20.0, 100.0, flavour=1)
        for at_s, frame in enumerate(frames[:20]):
            fault.remember(frame, float(at_s))
        shown = [fault.apply_to_frame(frames[20]).tobytes() for _ in range(45)]
        assert len(set(shown)) == distinct
        assert set(shown) <= {frame.tobytes() for frame in frames[:20]}


def test_blur_of_a_flat_picture_is_the_same_picture():
    assert faults.soften(np.full((40, 60), 77.0), 9) == pytest.approx(np.full((40, 60), 77.0))


def test_a_turned_camera_shows_the_same_things_elsewhere():
    picture = np.arange(100 * 80, dtype=np.float32).reshape(80, 100)
    assert (faults.shifted(picture, 10, 5)[:70, :80] == picture[5:75, 10:90]).all()
