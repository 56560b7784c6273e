"""What docs/detection.md promises of offices and queues, on one seed that nobody tuned on; `python -m tools.scenes eval` takes more of them."""

from __future__ import annotations

import pytest

pytest.importorskip("numpy", reason="scenes are drawn with numpy (extra codecs)")
pytest.importorskip("av", reason="films are encoded with PyAV (extra codecs)")

from tools.scenes import rows
from tools.scenes.row import Row

ONE = rows.SEEDS[:1]


def assert_kept(found: list[Row]) -> None:
    promised = [row for row in found if row.is_kept is not None]
    assert promised
    broken = [row for row in promised if not row.is_kept]
    assert not broken, broken


@pytest.mark.slow
def test_no_second_is_called_closed_of_which_nobody_could_tell():
    assert_kept(rows.service_open())


@pytest.mark.slow
def test_the_interval_of_a_queue_holds_how_many_wait():
    assert_kept(rows.queue(seeds=ONE))
