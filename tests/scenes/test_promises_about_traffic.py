"""What docs/detection.md promises of traffic, on one seed that nobody tuned on; `python -m tools.scenes eval` takes more of them."""

from __future__ import annotations

import pytest

pytest.importorskip("numpy", reason="scenes are drawn with numpy (extra codecs)")
pytest.importorskip("av", reason="films are encoded with PyAV (extra codecs)")

from tools.scenes import rows, rows_pixels
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
def test_without_a_model_free_dense_and_jam_are_told_on_films():
    assert_kept(rows_pixels.without_model())
