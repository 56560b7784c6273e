"""What a disk forgot is found by reading it back, is a hole with its cause from then on, and nothing else changes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from ring.rig import STREAM, Rig

from nvr.errors import NvrError
from nvr.ring import forgotten
from nvr.ring.disk import DeviceReader
from nvr.ring.forgotten import Forgotten
from nvr.ring.layout import SegmentState, State
from nvr.ring.reader import Ring, Row
from nvr.scrub import Scrub, Seen, next_segment, read_status


@pytest.fixture
def recorded(tmp_path) -> tuple[Path, list[Row]]:
    """A ring with three finished segments and one that is being written."""
    rig = Rig(tmp_path, segments=8).open()
    rig.start_run()
    for _ in range(400):
        rig.record(5, gop=5)
        rig.syncer.burst()
        if sum(state.state is State.SEALED for state in rig.keeper.states.values()) >= 3:
            break
    rig.stop()
    with Ring(tmp_path / "rings" / STREAM) as ring:
        assert len(ring.sealed()) >= 3
        return tmp_path, list(ring.rows())


def damage(data_dir: Path, row: Row, with_bytes: bytes = bytes(64)) -> None:
    with open(data_dir / "rings" / STREAM / f"{row.position.segment:06}.mp4", "r+b") as file:
        file.seek(row.position.offset + 2048)
        file.write(with_bytes)


def scrubbed(data_dir: Path) -> Scrub:
    scrub = Scrub(data_dir, wait=lambda seconds: None)
    while scrub.turn():
        pass
    return scrub


def test_a_good_disk_is_read_once_round_and_nothing_is_said(recorded):
    data_dir, rows = recorded
    scrub = scrubbed(data_dir)
    sealed = [
        row for row in rows if row.position.segment in {s.number for s in Ring(data_dir / "rings" / STREAM).sealed()}
    ]
    assert scrub.read_bytes == sum(row.position.size_bytes for row in sealed)
    assert (scrub.passes, scrub.told, scrub.trouble) == (1, [], "")
    assert not (data_dir / "rings" / STREAM / forgotten.NAME).exists()
    assert scrub.turn()  # and begins again


def test_what_does_not_read_back_is_left_out_and_the_rest_stays(recorded, caplog):
    data_dir, rows = recorded
    bad = rows[3]
    damage(data_dir, bad)
    scrub = scrubbed(data_dir)
    assert scrub.forgotten == {STREAM: 1}
    assert "CRC-32C" in scrub.told[0]["what"]
    assert scrub.told[0]["sequence"] == bad.record.sequence
    assert "Replace this disk" in caplog.text
    with Ring(data_dir / "rings" / STREAM) as ring:
        assert [row.record.sequence for row in ring.rows()] == [row.record.sequence for row in rows if row is not bad]
        assert ring.forgotten == {bad.record.sequence}
    scrub.turn()
    assert len(scrub.told) == 1, "it is told once"


def test_a_card_that_wraps_is_found_by_other_footage_in_the_place(recorded):
    """At the end of its real size a counterfeit card writes over its beginning: whole, right fragments, in the wrong place."""
    data_dir, rows = recorded
    early = rows[1]
    late = next(
        row
        for row in rows[2:]
        if row.position.size_bytes == early.position.size_bytes and row.position.segment != early.position.segment
    )
    folder = data_dir / "rings" / STREAM
    data = (folder / f"{late.position.segment:06}.mp4").read_bytes()[late.position.offset :][: late.position.size_bytes]
    with open(folder / f"{early.position.segment:06}.mp4", "r+b") as file:
        file.seek(early.position.offset)
        file.write(data)
    scrub = scrubbed(data_dir)
    assert scrub.told[0]["what"] == f"fragment {late.record.sequence} of {STREAM} lies in its place"


def test_a_running_reader_notices(recorded):
    data_dir, rows = recorded
    with Ring(data_dir / "rings" / STREAM) as ring:
        assert len(list(ring.rows())) == len(rows)
        damage(data_dir, rows[2])
        scrubbed(data_dir)
        assert len(list(ring.rows())) == len(rows) - 1


def test_a_segment_that_is_used_again_forgets_its_faults():
    known = [Forgotten(0, 1, 5, "x"), Forgotten(1, 2, 9, "y")]
    assert forgotten.still_true(known, {0: 2, 1: 2}) == [known[1]]


def test_the_newest_and_the_oldest_are_read_in_turn_and_each_once_a_lap():
    states = [SegmentState(number, 1, State.SEALED) for number in (4, 7, 2)]  # oldest first
    seen = Seen()
    order = []
    while (state := next_segment(states, seen)) is not None:
        order.append(state.number)
        seen.laps[state.number] = state.lap
    assert order == [2, 4, 7]
    assert next_segment([*states, SegmentState(4, 2, State.SEALED)], seen) == SegmentState(4, 2, State.SEALED)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"fragments": [{}]}',
        '{"fragments": [{"segment": "a", "lap": 1, "sequence": 1, "what": ""}]}',
        "\xff",
    ],
)
def test_a_damaged_list_hides_no_footage(recorded, text):
    data_dir, rows = recorded
    (data_dir / "rings" / STREAM / forgotten.NAME).write_bytes(text.encode("latin-1"))
    with pytest.raises(NvrError):
        forgotten.load(data_dir / "rings" / STREAM)
    with Ring(data_dir / "rings" / STREAM) as ring:
        assert len(list(ring.rows())) == len(rows)
    assert scrubbed(data_dir).told == []


def test_a_disk_that_is_away_is_trouble_and_no_exception(tmp_path):
    scrub = Scrub(tmp_path / "nowhere", wait=lambda seconds: None)
    assert not scrub.turn()
    scrub.write_status()
    assert read_status(tmp_path / "nowhere") == {}


def test_the_status_is_read_whatever_lies_there(tmp_path):
    (tmp_path / "run").mkdir()
    for text, expected in (("", {}), ("[1]", {}), (json.dumps({"forgotten": {}}), {"forgotten": {}})):
        (tmp_path / "run" / "scrub.json").write_text(text)
        assert read_status(tmp_path) == expected


def test_the_device_reader_gives_what_is_there(tmp_path):
    data = os.urandom(5 * 4096)
    (tmp_path / "file").write_bytes(data)
    reader = DeviceReader(tmp_path / "file")
    assert bytes(reader.read(2 * 4096, 4096)) == data[4096 : 3 * 4096]
    assert bytes(reader.read(8 * 4096, 3 * 4096)) == data[3 * 4096 :]
    reader.close()
