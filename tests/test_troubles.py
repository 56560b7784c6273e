"""What `nvr run` says of the box itself, for those who read it."""

from __future__ import annotations

import json

import pytest

from nvr import troubles
from nvr.troubles import MOST, NAME, PROCESS, SITE, Teller, Trouble, read, write


def test_what_was_written_is_read(tmp_path):
    told = (Trouble(SITE, "line 3: torn", 1000), Trouble(PROCESS, "web hung", 0))
    write(tmp_path, told)
    assert read(tmp_path) == told


@pytest.mark.parametrize(
    "data", [None, b"", b"\xff", b"{}", b"7", b"[7]", b"[{}]", b"[" * 90_000, b'[{"kind": 1, "detail": 2, "since_ms": "x"}]']
)  # fmt: skip
def test_anything_else_is_nothing(tmp_path, data):
    if data is not None:
        (tmp_path / NAME).write_bytes(data)
    assert read(tmp_path) == ()


def test_it_is_bounded(tmp_path):
    (tmp_path / NAME).write_text(json.dumps([{"kind": "k" * 999, "detail": "d" * 999, "since_ms": 1}] * 25))
    found = read(tmp_path)
    assert len(found) == MOST and len(found[0].detail) == troubles.DETAIL_MOST


def test_since_when_is_from_when_it_was_noticed_and_what_is_over_goes(tmp_path):
    teller = Teller(tmp_path)

    def told(*found: tuple[str, str]) -> tuple[Trouble, ...]:
        teller.tell(found)
        if teller._writing is not None:
            teller._writing.join()
        return read(tmp_path)

    assert told() == ()
    (first,) = told((SITE, "a"))
    assert first.since_ms > 1_700_000_000_000
    both = told((SITE, "a"), (PROCESS, "b"))
    assert both[0] == first and both[1].since_ms >= first.since_ms
    assert told() == ()


def test_a_disk_that_is_away_stops_nobody(tmp_path):
    write(tmp_path / "gone", [Trouble(SITE, "a", 1)])
    assert read(tmp_path / "gone") == ()
