"""Which parts of the picture are looked at enlarged."""

from __future__ import annotations

from itertools import pairwise

import pytest

from nvr.detect.tile import OVERLAP, SMALL_AREA, crops, whole_in
from nvr.scene import Detection, Rect, Zone

ASPECT = 16 / 9


def zone(left: float, top: float, right: float, bottom: float, name: str = "zone") -> Zone:
    return Zone(name, ((left, top), (right, top), (right, bottom), (left, bottom)))


def test_a_small_zone_is_one_square():
    (crop,) = crops([zone(0.4, 0.4, 0.6, 0.7)], ASPECT)
    assert crop.width * ASPECT == pytest.approx(crop.height)
    assert crop.area < SMALL_AREA


def test_a_road_across_the_picture_is_cut_into_squares_that_overlap():
    found = crops([zone(0.0, 0.05, 1.0, 0.5)], 4 / 3)
    assert len(found) == 3
    for one, next_one in pairwise(found):
        assert one.right - next_one.left >= OVERLAP * one.width - 1e-6
    assert found[0].left == pytest.approx(0) and found[-1].right == pytest.approx(1)


@pytest.mark.parametrize("large", [(0.0, 0.0, 1.0, 1.0), (0.3, 0.25, 1.0, 1.0)])
def test_a_zone_as_large_as_the_picture_gains_nothing(large):
    assert crops([zone(*large)], ASPECT) == ()


def test_a_zone_that_takes_more_looks_than_there_are_is_left_out_as_a_whole():
    assert crops([zone(0.0, 0.4, 1.0, 0.5)], ASPECT) == ()
    assert len(crops([zone(0.0, 0.4, 1.0, 0.5)], ASPECT, most=20)) > 3


def test_every_crop_lies_in_the_picture():
    for corner in ((0.0, 0.0), (0.9, 0.9), (0.0, 0.9), (0.9, 0.0)):
        for crop in crops([zone(corner[0], corner[1], corner[0] + 0.1, corner[1] + 0.1)], ASPECT):
            assert crop.left >= -1e-9 and crop.top >= -1e-9 and crop.right <= 1 + 1e-9 and crop.bottom <= 1 + 1e-9


def test_what_a_crop_cuts_through_is_left_to_the_next_one():
    crop = Rect(0.3, 0.0, 0.7, 0.6)
    cut, whole = Detection(Rect(0.305, 0.2, 0.4, 0.3), "car", 0.9), Detection(Rect(0.4, 0.2, 0.5, 0.3), "car", 0.5)
    at_the_picture_s_edge = Detection(Rect(0.45, 0.0, 0.5, 0.1), "car", 0.5)
    assert whole_in([cut, whole, at_the_picture_s_edge], crop) == [whole, at_the_picture_s_edge]
