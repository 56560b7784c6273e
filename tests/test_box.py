"""What the box says about its processes; what it does with them is in tests/e2e/."""

from __future__ import annotations

import pytest

from nvr.child import how_it_ended
from nvr.ring.recover import Recovered


@pytest.mark.parametrize(
    ("status", "words"),
    [(0, "ended with status 0"), (1, "ended with status 1"), (-9, "was ended by SIGKILL"), (-250, "was ended by signal 250")],
)  # fmt: skip
def test_how_a_process_ended_is_said_by_the_name_of_its_signal(status, words):
    assert how_it_ended(status) == words


def test_what_opening_a_ring_found_is_one_sentence_with_every_repair():
    assert str(Recovered("gate/main")) == "a new ring"
    found = Recovered("gate/main", 488, 74, 1, 3, ["segment 2, 4096: hole"], ["segment 0: cannot be read"], 0.21)
    assert str(found) == (
        "goes on behind fragment 488; 3 segments; 74 fragments of 1 open ones walked in 0.2 s; "
        "repaired: segment 2, 4096: hole; left as it is: segment 0: cannot be read"
    )
