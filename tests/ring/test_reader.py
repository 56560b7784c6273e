"""What other processes see of a ring while it is being written, recycled and damaged."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest
from rig import OTHER_STARTED, PARAMETER_SETS, SMALL_SEGMENT_BYTES, STREAM, Rig

from nvr import fmp4
from nvr.clock import SystemClock
from nvr.media import Cause, ClockState
from nvr.ring import check, holds, index, layout
from nvr.ring.holds import Hold, HoldsDamaged, NoSuchHold
from nvr.ring.layout import State
from nvr.ring.reader import NoInitSegment, Recycled, Ring, RingUnreadable, streams
from nvr.ring.syncer import Syncer


def test_rows_appear_as_soon_as_the_fragment_is_in_the_file(tmp_path):
    rig = Rig(tmp_path).open()
    rig.start_run()
    with Ring(rig.settings.path) as ring:
        assert list(ring.rows()) == []
        assert ring.newest() is None
        for number in range(150):
            for written in rig.push(os.urandom(1500), is_keyframe=number % 5 == 0):
                newest = ring.newest()
                assert newest is not None and tuple(newest) == tuple(written)
            if number % 10 == 0:
                rig.syncer.burst()
        rows = list(ring.rows())
    sequences = [row.record.sequence for row in rows]
    assert sequences == list(range(sequences[0], rig.writer.sequence + 1))
    by_sequence = {w.record.sequence: w for w in rig.written}
    assert all(tuple(row) == tuple(by_sequence[row.record.sequence]) for row in rows)


def test_rows_from_a_sequence_on(tmp_path):
    rig = Rig(tmp_path, segments=8).open()
    rig.start_run()
    rig.record(120, gop=5, burst_every=5)
    rig.end_run()
    with Ring(rig.settings.path) as ring:
        assert [row.record.sequence for row in ring.rows(20)] == list(range(20, 25))
        assert list(ring.rows(25)) == []


def test_a_fragment_is_read_whole_and_its_segments_parameter_sets_too(tmp_path):
    rig = Rig(tmp_path).open()
    rig.start_run()
    rig.record(20)
    rig.stop()
    with Ring(rig.settings.path) as ring:
        for row in ring.rows():
            assert fmp4.check_fragment(ring.read(row.position))[1] == row.record
            assert ring.init_segment(row.position) == fmp4.init_segment(PARAMETER_SETS, 640, 360)
            assert ring.still_there(row.position)


def test_a_recycled_fragment_is_never_taken_for_another(tmp_path):
    rig = Rig(tmp_path).open()
    rig.start_run()
    rig.record(20, burst_every=5)
    old = rig.written[0].position
    with Ring(rig.settings.path) as ring:
        ring.read(old)
        rig.record(250, burst_every=5)
        for ask in (ring.read, ring.init_segment):
            with pytest.raises(Recycled, match="used again"):
                ask(old)
        assert not ring.still_there(old)
        assert all(row.record.sequence > rig.written[0].record.sequence for row in ring.rows())


def test_a_segment_that_is_prepared_for_its_next_lap_while_it_is_read_raises_recycled(tmp_path, monkeypatch):
    rig = Rig(tmp_path).open()
    rig.start_run()
    rig.record(20, burst_every=5)
    old = rig.written[0].position
    with Ring(rig.settings.path) as ring:
        real_read = ring._directory.read

        def read_slowly(fd, size_bytes, offset):
            data = real_read(fd, size_bytes, offset)
            if offset == old.offset:
                rig.record(250, burst_every=5)
            return data

        monkeypatch.setattr(ring._directory, "read", read_slowly)
        with pytest.raises(Recycled):
            ring.read(old)


def test_a_segment_with_more_fragments_than_its_slot_holds_is_read_from_its_media(tmp_path):
    rig = Rig(tmp_path, segment_bytes=64 * 4096).open()
    assert index.rows_max(64 * 4096) == 22
    rig.start_run()
    for number in range(150):
        rig.push(b"small", is_keyframe=True)
        if number % 10 == 0:
            rig.syncer.burst()
    rig.stop()
    with Ring(rig.settings.path) as ring:
        assert [row.record.sequence for row in ring.rows()] == list(range(1, 151))
        assert any(state.state is State.SEALED and not state.has_all_rows for state in ring.segments())
    assert check.check(tmp_path) == []
    again = Rig(tmp_path, boot=2, segment_bytes=64 * 4096).open()
    assert again.recovered[STREAM].sequence == 150


def test_all_rings_of_a_box_are_found_by_name(tmp_path):
    assert streams(tmp_path) == {}
    rig = Rig(tmp_path).open()
    assert streams(tmp_path) == {STREAM: rig.settings.path}
    with pytest.raises(RingUnreadable):
        Ring(tmp_path / "rings" / "nowhere")


def test_a_rebuilt_index_is_equal_and_a_flipped_bit_anywhere_is_found(tmp_path):
    rig = Rig(tmp_path).open()
    rig.start_run()
    rig.record(120, burst_every=5)
    rig.start_run(OTHER_STARTED)
    rig.record(20, burst_every=5)
    rig.stop()
    assert check.check(tmp_path) == []
    with Ring(rig.settings.path) as ring:
        rows = list(ring.rows())
    assert index.rebuild(tmp_path) == {STREAM: len(rows)}
    with Ring(rig.settings.path) as ring:
        assert list(ring.rows()) == rows
    assert check.check(tmp_path) == []
    rng = random.Random(4)
    for _ in range(40):
        row = rng.choice(rows)
        path = rig.settings.path / layout.segment_name(row.position.segment)
        place = row.position.offset + rng.randrange(row.position.size_bytes)
        if 20 <= place - row.position.offset < 68:
            continue  # mfhd's number and tfdt: where it stands in this file, which CRC and hash leave out
        flip(path, place)
        faults = check.check(tmp_path)
        assert faults and faults[0].stream == STREAM and faults[0].segment == row.position.segment, place
        flip(path, place)
    assert check.check(tmp_path) == []


def flip(path: Path, place: int) -> None:
    with open(path, "r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 0x10]))


def test_a_removed_fragment_does_not_fit_the_seal(tmp_path):
    rig = Rig(tmp_path).open()
    rig.start_run()
    rig.record(120, burst_every=5)
    rig.stop()
    with Ring(rig.settings.path) as ring:
        sealed = next(state for state in ring.segments() if state.state is State.SEALED)
        row = [row for row in ring.rows() if row.position.segment == sealed.number][2]
    with open(rig.settings.path / layout.segment_name(sealed.number), "r+b") as file:
        file.seek(row.position.offset)
        file.write(layout.free_page(row.position.size_bytes)[:8])
    index.rebuild(tmp_path)
    assert any("the seal is for" in fault.what for fault in check.check(tmp_path))


def test_lost_parameter_sets_are_said_to_be_lost(tmp_path):
    rig = Rig(tmp_path).open()
    rig.start_run()
    rig.record(20, burst_every=5)
    rig.stop()
    (rig.settings.path / "index").unlink()
    with open(rig.settings.path / "000000.mp4", "r+b") as file:
        file.write(bytes(4096))
    again = Rig(tmp_path, boot=2).open()
    assert any("parameter sets are lost" in line for line in again.recovered[STREAM].repairs)
    with Ring(rig.settings.path) as ring:
        rows = list(ring.rows())
        assert [row.record.sequence for row in rows] == [w.record.sequence for w in rig.written]
        with pytest.raises(NoInitSegment):
            ring.init_segment(rows[0].position)


def test_a_dump_names_every_segment_and_fragment(tmp_path):
    rig = Rig(tmp_path).open()
    rig.start_run()
    rig.record(120, burst_every=5)
    rig.stop()
    text = "\n".join(check.dump(rig.settings.path))
    with Ring(rig.settings.path) as ring:
        for row in ring.rows():
            assert f"fragment {row.record.sequence} run 1" in text
    assert "signed by" in text


# -- retention ---------------------------------------------------------------------------------------


def test_footage_beyond_its_days_cannot_be_read_any_more(tmp_path):
    rig = Rig(tmp_path, segments=10, keep_days=30).open()
    rig.start_run()
    rig.record(100, burst_every=5)
    old = [w.position for w in rig.written if w.position.segment == 0]
    rig.clock.advance(31 * 86_400 * 10**9)
    rig.syncer.burst()
    with Ring(rig.settings.path) as ring:
        for position in old:
            with pytest.raises(Recycled):
                ring.read(position)
        assert {row.position.segment for row in ring.rows()} <= {rig.writer.current.number}
    rig.start_run()
    rig.record(30, burst_every=5)
    rig.stop()
    assert rig.faults() == []
    assert [w.record.sequence for w in rig.written] == list(range(1, len(rig.written) + 1))


def test_nothing_is_old_while_the_clock_is_not_synced(tmp_path):
    rig = Rig(tmp_path, segments=10, keep_days=30).open()
    rig.start_run()
    rig.record(100, burst_every=5)
    rig.clock.set_wall(rig.clock.read().wall_ns + 400 * 86_400 * 10**9, ClockState.PLAUSIBLE)
    rig.syncer.burst()
    with Ring(rig.settings.path) as ring:
        assert len(list(ring.rows())) == len(rig.written)


def test_a_time_server_that_is_wrong_by_years_takes_nothing_away(tmp_path):
    rig = Rig(tmp_path, segments=10, keep_days=30).open()
    rig.start_run()
    rig.record(100, burst_every=5)
    rig.clock.set_wall(rig.clock.read().wall_ns + 3650 * 86_400 * 10**9)
    for _ in range(5):
        rig.record(20, burst_every=5)
        rig.clock.advance(61 * 10**9)
        rig.syncer.burst()
    rig.clock.set_wall(rig.clock.read().wall_ns - 3650 * 86_400 * 10**9)
    rig.clock.advance(61 * 10**9)
    rig.syncer.burst()
    with Ring(rig.settings.path) as ring:
        assert len(list(ring.rows())) == len(rig.written)


def test_a_held_span_outlives_the_ring_and_the_ring_grows_by_its_budget(tmp_path):
    rig = Rig(tmp_path, hold_bytes=2 * 32 * 4096).open()
    rig.start_run()
    rig.record(60, burst_every=5)
    wanted = rig.written[4]
    holds.add(tmp_path / "holds.json", Hold("h1", STREAM, wanted.record.wall_ns, wanted.record.wall_ns + 1, "evidence"))
    rig.record(400, burst_every=5)
    with Ring(rig.settings.path) as ring:
        assert fmp4.check_fragment(ring.read(wanted.position))[1] == wanted.record
        assert len(ring.segments()) == 5
    holds.release(tmp_path / "holds.json", "h1")
    rig.record(200, burst_every=5)
    with Ring(rig.settings.path) as ring:
        assert not ring.still_there(wanted.position)
        assert len(ring.segments()) == 4
    rig.stop()
    assert rig.faults() == []


def test_a_ring_that_is_all_held_says_so_and_does_not_crash(tmp_path):
    rig = Rig(tmp_path, hold_bytes=40 * 32 * 4096).open()
    holds.add(tmp_path / "holds.json", Hold("h1", STREAM, 0, 1 << 62, "everything"))
    rig.keeper._grow_again_ns = 1 << 62  # and the disk is full
    real_grown = rig.keeper._grown
    rig.start_run()
    rig.keeper._grow_again_ns = 0
    rig.record(60, burst_every=5)
    rig.keeper._grown = lambda ring: None  # type: ignore[method-assign]
    rig.record(400, burst_every=5)
    assert rig.writer.trouble is not None
    assert rig.writer.trouble.cause is Cause.HELD_BACK
    assert rig.writer.dropped[Cause.HELD_BACK] > 0
    rig.keeper._grown = real_grown  # type: ignore[method-assign]
    holds.release(tmp_path / "holds.json", "h1")
    rig.clock.advance(60 * 10**9)
    rig.syncer.burst()
    rig.record(10)
    assert rig.writer.trouble is None


def test_a_smaller_budget_gives_the_oldest_segments_back(tmp_path):
    rig = Rig(tmp_path, segments=10).open()
    rig.start_run()
    rig.record(300, burst_every=5)
    rig.stop()
    again = Rig(tmp_path, segments=5, boot=2).open()
    again.start_run()
    again.record(100, burst_every=5)
    again.stop()
    assert len([name for name in os.listdir(rig.settings.path) if name.endswith(".mp4")]) == 5
    assert again.faults() == []
    with Ring(rig.settings.path) as ring:
        sequences = [row.record.sequence for row in ring.rows()]
    assert sequences == list(range(sequences[0], again.writer.sequence + 1))


def test_holds_that_cannot_be_read_are_refused_and_the_last_ones_stay_in_force(tmp_path):
    path = tmp_path / "holds.json"
    assert holds.load(path) == []
    holds.add(path, Hold("a", STREAM, 1, 2, "why"))
    holds.add(path, Hold("a", STREAM, 1, 3, "why"))
    assert holds.load(path) == [Hold("a", STREAM, 1, 3, "why")]
    with pytest.raises(NoSuchHold, match="'b'"):
        holds.release(path, "b")
    for text in (
        "",
        "{",
        "[]",
        '{"holds": [1]}',
        '{"holds": [{"id": "a"}]}',
        '{"holds": [{"id":"a","stream":"s","from_ns":"x","to_ns":2,"reason":""}]}',
    ):
        path.write_text(text)
        assert holds.load(path) == [Hold("a", STREAM, 1, 3, "why")]  # by its copy
        holds.copy_of(path).write_text(text)
        with pytest.raises(HoldsDamaged):
            holds.load(path)
        holds.copy_of(path).unlink()
        with pytest.raises(HoldsDamaged):
            holds.load(path)
        path.unlink()
        holds.save(path, [Hold("a", STREAM, 1, 3, "why")])


def test_no_flipped_bit_lets_evidence_go_and_the_next_change_mends_the_file(tmp_path):
    path = tmp_path / "holds.json"
    held = [Hold("a", STREAM, 1_000_000, 2_000_000, "why"), Hold("b", STREAM, 5, 9, "why", 3, 4)]
    holds.save(path, held)
    whole = path.read_bytes()
    for place in range(len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            assert holds.load(path) == held, (place, bit)
    holds.put(path, "b", held[1:])  # which changes nothing
    assert path.read_bytes() == whole


def test_what_is_held_stays_held_over_a_start_with_a_damaged_file(tmp_path):
    rig = Rig(tmp_path, segments=4, hold_bytes=2 * SMALL_SEGMENT_BYTES).open()
    rig.start_run()
    rig.record(20, gop=5, burst_every=5)
    held = rig.written[0].record.sequence
    holds.add(tmp_path / "holds.json", Hold("h1", STREAM, 0, 0, "evidence", held, held))
    rig.stop()
    (tmp_path / "holds.json").write_bytes(b"")
    again = Rig(tmp_path, segments=4, hold_bytes=2 * SMALL_SEGMENT_BYTES, boot=2).open()
    again.start_run()
    again.record(600, gop=5, burst_every=5)
    again.stop()
    with Ring(rig.settings.path) as ring:
        assert next(ring.rows()).record.sequence == held


# -- the thread --------------------------------------------------------------------------------------


def test_the_thread_makes_everything_durable_in_time_and_at_the_end(tmp_path):
    """Real clock, real files: durable sequences rise while it records, and nothing is left over at the end."""
    rig = Rig(tmp_path, segments=6, clock=None)
    clock = SystemClock()
    told: list[int] = []
    rig.syncer = Syncer(
        [rig.writer], clock=clock, loss_bound_s=1, on_durable=lambda stream, sequence: told.append(sequence)
    )
    rig.syncer.open()
    rig.syncer.start()
    rig.start_run()
    deadline_s = time.monotonic() + 20
    number = 0
    while len(told) < 3 and time.monotonic() < deadline_s:
        rig.push(os.urandom(400), is_keyframe=number % 5 == 0)
        number += 1
        time.sleep(0.002)
    rig.stop()
    assert len(told) >= 3
    assert told == sorted(set(told))
    assert told[-1] == rig.writer.sequence
    assert rig.faults() == []
