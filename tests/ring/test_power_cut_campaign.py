"""Ten thousand power cuts in a recording of eight streams: reuse, holds, reconnects, and a clock that is set twice."""

from __future__ import annotations

import pytest
from campaign import LOSS_BOUND_S, campaign


def test_a_power_cut_costs_each_of_eight_streams_at_most_the_loss_bound(tmp_path):
    outcome = campaign(seed=50, cuts=150, work=tmp_path)
    assert outcome.cuts >= 100
    assert max(outcome.loss_ms) <= LOSS_BOUND_S * 1000


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_ten_thousand_power_cuts(seed, tmp_path):
    """Each cut point is one disk that a power cut could leave; eight seeds of 1,400 make more than 10,000."""
    outcome = campaign(seed=seed, cuts=1400, work=tmp_path)
    assert outcome.cuts >= 1250
    assert outcome.recoveries >= outcome.cuts
    assert max(outcome.loss_ms) <= LOSS_BOUND_S * 1000
    assert max(outcome.loss_ms) > 1000, "a campaign that never loses anything does not cut"
