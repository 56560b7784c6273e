"""One detection for one thing."""

from __future__ import annotations

import pytest

pytest.importorskip("av", reason="pictures are resized with PyAV")
pytest.importorskip("numpy", reason="pictures are numpy arrays")

from nvr.detect.objects import without_doubles
from nvr.scene import Detection, Rect


def test_two_rects_of_one_thing_become_their_mean():
    whole = Detection(Rect(0.20, 0.2, 0.40, 0.4), "truck", 0.6)
    again = Detection(Rect(0.22, 0.2, 0.42, 0.4), "car", 0.3)
    (one,) = without_doubles([again, whole])
    assert (one.kind, one.score) == ("truck", 0.6)
    assert one.rect.left == pytest.approx((0.6 * 0.20 + 0.3 * 0.22) / 0.9)


def test_a_part_of_a_thing_is_left_out_and_moves_nothing():
    whole, part = Detection(Rect(0.2, 0.2, 0.4, 0.4), "car", 0.8), Detection(Rect(0.25, 0.2, 0.35, 0.4), "car", 0.5)
    assert without_doubles([whole, part]) == [whole]


def test_two_people_beside_each_other_are_two():
    two = [Detection(Rect(0.2, 0.2, 0.3, 0.6), "person", 0.8), Detection(Rect(0.26, 0.2, 0.36, 0.6), "person", 0.7)]
    assert without_doubles(two) == two


def test_who_rides_is_part_of_the_two_wheeler():
    bike, rider = (
        Detection(Rect(0.2, 0.5, 0.3, 0.7), "two-wheeler", 0.7),
        Detection(Rect(0.21, 0.35, 0.29, 0.62), "person", 0.8),
    )
    assert without_doubles([bike, rider]) == [bike]
