"""The product's eyes on drawn frames: a fault is told by its name, and a bus, a night and a person before the lens are none."""

from __future__ import annotations

import pytest

pytest.importorskip("numpy", reason="scenes are drawn with numpy (extra codecs)")
pytest.importorskip("av", reason="the pipeline decodes with PyAV (extra codecs)")

from tools.scenes import pixels, rows_pixels, streams


@pytest.fixture(scope="module")
def by_day():
    """One trial of each class, on a street by day."""
    return {result.trial.fault.kind: result for result in pixels.tried("street", "day", every_s=0.8, per_class=1)}


@pytest.mark.parametrize("what", ["covered", "defocused", "moved", "frozen"])
def test_a_fault_is_told_by_its_name_and_soon(by_day, what):
    assert by_day[what].after_s is not None
    assert by_day[what].after_s <= 40
    assert by_day[what].others == ()


@pytest.mark.slow
def test_a_loop_of_an_empty_room_is_known_however_it_was_encoded():
    found = streams.looped("room", "day", at_h=3.0, seed=5)
    assert len(found) == 2 * len(streams.CODINGS)
    # Keyframes ten seconds apart are all that such a stream tells.
    assert [each for each in found if each.after_s is None and "every 50" not in each.coding] == []
    assert not any(each.false_s for each in found)


def test_a_bus_before_the_camera_is_no_fault():
    assert pixels.alarms_of_day("street", from_h=11.96, to_h=12.03) == []


def test_somebody_who_dusts_the_lens_is_no_fault():
    assert pixels.alarms_of_day("room", from_h=11.97, to_h=12.02) == []


@pytest.mark.slow
def test_every_fault_is_told_in_each_light_and_nothing_where_light_changes():
    """The table has two seeds and whole days; here one, and the hours in which light changes."""
    found = rows_pixels.tamper(rows_pixels.DAY_PARTS_H, seeds=rows_pixels.TAMPER_SEEDS[:1])
    broken = [row for row in found if row.is_kept is False]
    assert not broken, broken
