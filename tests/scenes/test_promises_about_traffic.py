"""What docs/detection.md promises of traffic, on one seed that nobody tuned on; `python -m tools.scenes eval` takes more of them."""

from __future__ import annotations

import pytest

pytest.importorskip("numpy", reason="scenes are drawn with numpy (extra codecs)")
pytest.importorskip("av", reason="films are encoded with PyAV (extra codecs)")

from tools.scenes import road, rows, rows_pixels
from tools.scenes.row import Row

ONE = rows.SEEDS[:1]


def assert_kept(found: list[Row]) -> None:
    promised = [row for row in found if row.is_kept is not None]
    assert promised
    broken = [row for row in promised if not row.is_kept]
    assert not broken, broken


@pytest.mark.slow
def test_free_dense_and_jam_are_told_apart():
    assert_kept(rows.congestion(seeds=ONE))


@pytest.mark.slow
def test_breakdowns_are_told_within_15_s_and_nothing_else_in_an_hour():
    assert_kept(rows.stopped_vehicle(seeds=ONE))


@pytest.mark.slow
def test_a_jam_on_a_film_is_told_without_a_model():
    """A third of what the page promises: free, then a jam that creeps; two minutes of one core."""
    phases = (road.Phase(0, 250), road.Phase(320, 1000, 11.0, light_m=185.0, green_s=8, cycle_s=45))
    assert_kept(rows_pixels.congestion_film(phases, 800, rows_pixels.SEEDS[:1], light_s=0))


@pytest.mark.slow
def test_without_a_model_a_free_street_is_no_jam():
    assert_kept(rows_pixels.without_model())
