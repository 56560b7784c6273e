"""How access units become fragments: where they are cut, in what order the bytes go out, and that none is copied."""

from __future__ import annotations

import hashlib
import os
import random
from dataclasses import replace

import pytest
from fakes import MemoryDisk
from rig import (
    BOX,
    OTHER_STARTED,
    PARAMETER_SETS,
    STARTED,
    STREAM,
    TICKS,
    Rig,
    memory_directory,
    segment_files,
    unit_of,
)

from nvr import fmp4
from nvr.gather import Gather, PyGather
from nvr.media import PAGE_BYTES, AccessUnit, AccessUnits, Cause, ParameterSets, RunStarted
from nvr.ring import layout
from nvr.ring.reader import Ring
from nvr.ring.writer import WRITE_BYTES

INIT = fmp4.init_segment(PARAMETER_SETS, 640, 360)


def a_rig(**settings: object) -> Rig:
    rig = Rig(MemoryDisk(), **settings).open()  # type: ignore[arg-type]
    rig.start_run()
    return rig


def media_of(rig: Rig) -> bytes:
    """All payloads in the order of their fragments, read back from the segments."""
    files = dict(segment_files(rig))
    parts = []
    for position, record in rig.written:
        data = files[layout.segment_name(position.segment)]
        start = position.offset + fmp4.HEAD_RESERVE_BYTES
        parts.append(data[start : start + record.payload_bytes])
    return b"".join(parts)


# -- bytes -------------------------------------------------------------------------------------------


def test_media_bytes_go_to_the_kernel_from_where_they_were_received(tmp_path, monkeypatch):
    """Every byte handed to pwritev lies in the buffer that the source received it into, but heads, records and padding."""
    monkeypatch.setattr("nvr.ring.writer.Gather", PyGather)
    received = bytearray(random.Random(7).randbytes(3_000_000))  # the source's buffer
    source = memoryview(received)
    handed: list[memoryview] = []
    real_pwritev = os.pwritev

    def pwritev(fd, buffers, offset, *flags):
        handed.extend(buffers)
        return real_pwritev(fd, buffers, offset, *flags)

    rig = Rig(tmp_path, segment_bytes=1 << 20).open()
    rig.start_run()
    monkeypatch.setattr(os, "pwritev", pwritev)
    place, lengths = 0, [60_000, 9_000, 9_001, 12_345, 20_000, 700] * 10
    for number, length in enumerate(lengths):
        gather = PyGather()
        for start in range(place, place + length, 1400):
            gather.append(source[start : min(start + 1400, place + length)])
        place += length
        rig.clock.advance(40_000_000)
        unit = AccessUnit(gather, number * TICKS, 0, rig.clock.mono_ns(), number % 6 == 0)
        rig.written += rig.writer.push(unit, rig.clock.read())
        rig.syncer.burst()
    rig.end_run()
    assert sum(w.record.pictures for w in rig.written) == len(lengths)
    assert media_of(rig) == received[:place]
    ours = [view for view in handed if view.obj is received]
    others = [view for view in handed if view.obj is not received]
    assert sum(map(len, ours)) == place
    # What is not the camera's: per fragment a head's reserve, a commit record with padding, a free page.
    assert sum(map(len, others)) <= len(rig.written) * (
        fmp4.HEAD_RESERVE_BYTES + fmp4.RECORD_MIN_BYTES + 2 * PAGE_BYTES
    )


def test_what_is_read_back_is_what_was_pushed_in_whatever_pieces_it_came():
    rig = a_rig()
    rng = random.Random(3)
    pushed = []
    for number in range(40):
        data = rng.randbytes(rng.randrange(1, 6000))
        pushed.append(len(data).to_bytes(4, "big") + data)
        rig.push(data, is_keyframe=number % 7 == 0, pieces=rng.randrange(1, 9))
        rig.syncer.burst()
    rig.end_run()
    assert media_of(rig) == b"".join(pushed)


def test_payload_goes_out_as_it_arrives_in_writes_that_end_where_blocks_of_the_file_do():
    rig = a_rig(segment_bytes=512 * PAGE_BYTES)
    disk = rig.disk
    assert isinstance(disk, MemoryDisk)
    file = disk.files[f"/rings/{STREAM}/000000.mp4"]
    rig.push(bytes(WRITE_BYTES), is_keyframe=True)
    rig.push(bytes(WRITE_BYTES + 1), is_keyframe=False)
    del file.pending[0]  # the header, now that the parameter sets are known
    assert len(file.pending) == 2, "before the fragment is closed"
    assert all(offset % PAGE_BYTES == 0 for offset, _ in file.pending)
    assert all((offset + len(data)) % WRITE_BYTES == 0 for offset, data in file.pending)
    rig.end_run()
    payload, head_rest, head_start = file.pending[2:]
    assert payload[0] % PAGE_BYTES == 0 and len(payload[1]) % PAGE_BYTES == 0
    start = rig.written[0].position.offset
    assert (head_rest[0], len(head_rest[1])) == (start + 8, fmp4.HEAD_RESERVE_BYTES - 8)
    assert (head_start[0], head_start[1]) == (start, (1016).to_bytes(4, "big") + b"moof")


def test_no_page_that_holds_announced_media_is_written_again():
    rig = a_rig(segments=8)
    disk = rig.disk
    assert isinstance(disk, MemoryDisk)
    announced: dict[str, set[int]] = {}
    for number in range(120):
        before = {path: len(file.pending) for path, file in disk.files.items()}
        written = rig.push(bytes(2000), is_keyframe=number % 5 == 0)
        for path, file in disk.files.items():
            for offset, data in file.pending[before.get(path, 0) :]:
                touched = set(range(offset // PAGE_BYTES, -(-(offset + len(data)) // PAGE_BYTES)))
                assert not touched & announced.get(path, set()), f"{path} at {offset}"
        for position, _ in written:
            path = f"/rings/{STREAM}/{layout.segment_name(position.segment)}"
            first = position.offset // PAGE_BYTES
            announced.setdefault(path, set()).update(range(first, first + position.size_bytes // PAGE_BYTES))
        rig.syncer.burst()
        for path in announced:  # prepared for the next lap: recycled, not announced any more
            name = path.rsplit("/", 1)[1]
            if any(layout.segment_name(segment.number) == name for segment in rig.writer.ready):
                announced[path] = set()
    assert announced


def atoms_reach_the_end(data: bytes) -> bool:
    place = 0
    while place < len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        if size < 8 or data[place + 4 : place + 8] not in (b"ftyp", b"moov", b"uuid", b"free", b"moof", b"mdat"):
            return False
        place += size
    return place == len(data)


def test_a_segment_is_a_valid_mp4_after_every_single_write():
    """Whoever copies the file at any moment gets one that plays: also while it is prepared for its next lap."""
    disk = MemoryDisk()
    rig = Rig(disk).open()
    copies = 0

    def look() -> None:
        nonlocal copies
        for path, file in disk.files.items():
            if path.endswith(".mp4") and file.pending and any(file.data[:4096]):
                copies += 1
                assert atoms_reach_the_end(bytes(file.data)), path

    failures: list[BaseException] = []

    def after_call() -> None:
        try:
            look()
        except AssertionError as failure:
            failures.append(failure)

    disk.after_call = after_call
    rig.start_run()
    rig.record(150, gop=5, burst_every=5)
    rig.start_run(OTHER_STARTED)
    rig.record(150, gop=9, burst_every=5)
    rig.stop()
    disk.after_call = lambda: None
    assert not failures, failures[0]
    assert copies > 150


# -- where fragments are cut -------------------------------------------------------------------------


def durations_of(rig: Rig) -> list[int]:
    return [w.record.duration_ticks for w in rig.written]


def test_a_keyframe_begins_a_fragment():
    rig = a_rig()
    rig.record(30, gop=10)
    rig.end_run()
    assert durations_of(rig) == [36_000] * 3
    assert all(w.record.is_keyframe for w in rig.written)


def test_a_long_gop_is_split_and_the_parts_say_so():
    rig = a_rig()
    rig.record(75, gop=75, size_bytes=200)
    rig.end_run()
    assert [w.record.is_keyframe for w in rig.written] == [True, False, False]
    assert max(durations_of(rig)) <= 99_000
    assert sum(durations_of(rig)) == 75 * TICKS


def test_a_gop_of_a_second_and_a_picture_is_not_split():
    rig = a_rig()
    for number in range(52):
        rig.push(bytes(300), is_keyframe=number % 26 == 0)
    rig.end_run()
    assert durations_of(rig) == [26 * TICKS] * 2


def test_a_fragment_holds_no_more_pictures_than_its_head():
    rig = a_rig(segments=20)
    for number in range(200):
        rig.push(bytes(50), is_keyframe=number == 0, ticks=1000)
    rig.end_run()
    assert max(w.record.pictures for w in rig.written) <= fmp4.MAX_SAMPLES
    assert sum(w.record.pictures for w in rig.written) == 200


def test_a_fragment_never_takes_more_than_a_quarter_of_a_segment_unless_one_picture_does():
    rig = a_rig()
    segment_bytes = rig.settings.segment_bytes
    assert segment_bytes is not None
    for number in range(12):
        rig.push(bytes(9000), is_keyframe=number == 0)
        rig.syncer.burst()
    rig.push(bytes(segment_bytes // 2), is_keyframe=True)
    rig.syncer.burst()
    rig.end_run()
    sizes = [w.position.size_bytes for w in rig.written]
    assert max(sizes[:-1]) <= segment_bytes // 4
    assert sizes[-1] > segment_bytes // 2
    assert rig.writer.dropped == {}


def test_a_segment_begins_with_a_keyframe_where_that_costs_little():
    rig = a_rig()
    rig.record(300, gop=5, size_bytes=1000, burst_every=5)
    rig.end_run()
    firsts = {}
    for position, record in rig.written:
        firsts.setdefault((position.segment, position.lap), record.is_keyframe)
    assert len(firsts) > 5
    assert all(firsts.values())


def test_one_picture_is_a_fragment_as_well():
    rig = a_rig()
    rig.push(b"x", is_keyframe=True)
    rig.end_run()
    assert [(w.record.pictures, w.record.duration_ticks) for w in rig.written] == [(1, 3600)]


def test_an_empty_run_writes_nothing():
    rig = a_rig()
    rig.end_run()
    rig.start_run()
    rig.end_run()
    assert rig.written == []
    rig.start_run()
    rig.record(5)
    rig.end_run()
    assert rig.written[0].record.run == 1


def test_pictures_before_the_first_keyframe_are_dropped_and_counted():
    rig = a_rig()
    rig.push(b"x", is_keyframe=False)
    rig.push(b"y", is_keyframe=True)
    rig.end_run()
    assert rig.writer.dropped == {Cause.CAMERA: 1}
    assert len(rig.written) == 1


# -- what a fragment says ----------------------------------------------------------------------------


def test_sequence_goes_on_over_runs_segments_laps_and_starts():
    disk = MemoryDisk()
    rig = Rig(disk).open()
    rig.start_run()
    rig.record(200, gop=5, burst_every=5)
    rig.start_run()
    rig.record(20, gop=5, burst_every=5)
    rig.stop()
    again = Rig(disk, boot=2).open()
    again.start_run()
    again.record(10)
    again.stop()
    numbers = [w.record.sequence for w in rig.written + again.written]
    assert numbers == list(range(1, len(numbers) + 1))
    assert sorted({w.record.run for w in rig.written + again.written}) == [1, 2, 3]
    assert max(w.record.lap for w in rig.written) >= 2


@pytest.mark.parametrize("boot", (1, 2))
def test_no_media_go_into_pages_that_were_read(boot):
    """After a start every write of a camera cost 40 us more, for as long as its first segment lasted: recovery had read it, and
    the kernel had read ahead into pieces of 2 MiB, whose pages each write walked."""
    disk = MemoryDisk()
    rig = Rig(disk).open()
    rig.start_run()
    rig.record(40, burst_every=5)
    rig.stop()
    again = Rig(disk, boot=boot).open()
    again.start_run()
    again.record(300, burst_every=5)
    assert max(w.record.lap for w in again.written) >= 2
    again.stop()
    assert disk.bytes_read and disk.media_into_read_pages == 0


def test_hashes_chain_the_fragments_of_a_run():
    rig = a_rig()
    rig.record(15, gop=5)
    rig.start_run()
    rig.record(10, gop=5)
    rig.end_run()
    first, second, third, fourth, fifth = (w.record for w in rig.written)
    assert first.previous_hash == fourth.previous_hash == bytes(32)
    assert (second.previous_hash, third.previous_hash, fifth.previous_hash) == (first.hash, second.hash, fourth.hash)
    data = dict(segment_files(rig))["000000.mp4"]
    for position, record in rig.written:
        fragment = data[position.offset : position.offset + position.size_bytes]
        assert fmp4.check_fragment(fragment)[1] == record
        assert fmp4.hash_of(fragment, hashlib.sha256()) == record.hash


def test_without_evidence_there_are_no_hashes_and_the_crc_still_finds_a_flipped_bit():
    rig = a_rig(evidence=False)
    rig.record(5)
    rig.stop()
    assert rig.written[0].record.hash == bytes(32)
    file = rig.disk.files[f"/rings/{STREAM}/000000.mp4"]  # type: ignore[union-attr]
    file.data[rig.written[0].position.offset + 2000] ^= 1
    assert any("CRC-32C" in fault.what for fault in rig.faults())


def test_lost_packets_and_the_cameras_clock_are_kept():
    rig = a_rig()
    rig.push(b"a", is_keyframe=True, camera_wall_ns=123)
    rig.push(b"b", is_keyframe=False, lost_packets=3)
    rig.push(b"c", is_keyframe=False, lost_packets=4, camera_wall_ns=456)
    rig.end_run()
    record = rig.written[0].record
    assert (record.lost_packets, record.camera_wall_ns, record.pictures) == (7, 123, 3)


def test_runs_of_one_segment_stand_at_their_distance_and_begin_at_zero():
    rig = a_rig()
    rig.record(10, gop=5, size_bytes=100)
    rig.end_run()
    rig.clock.advance(20_000_000_000)
    rig.start_run()
    rig.record(10, gop=5, size_bytes=100)
    rig.end_run()
    data = dict(segment_files(rig))["000000.mp4"]
    heads = [fmp4.parse_head(data[w.position.offset :]) for w in rig.written]
    assert [head.sequence for head in heads] == [1, 2, 3, 4]
    assert [head.decode_ticks for head in heads[:2]] == [0, 5 * TICKS]
    assert heads[2].decode_ticks == pytest.approx(20 * 90_000 + 10 * TICKS, abs=TICKS)
    assert heads[3].decode_ticks == heads[2].decode_ticks + 5 * TICKS


def test_other_parameter_sets_start_a_new_segment_and_the_same_ones_do_not():
    rig = a_rig()
    rig.record(5)
    rig.start_run()
    rig.record(5)
    rig.start_run(OTHER_STARTED)
    rig.syncer.burst()
    rig.record(5)
    rig.start_run(STARTED)
    rig.syncer.burst()
    rig.record(5)
    rig.stop()
    assert [w.position.segment for w in rig.written] == [0, 0, 1, 2]
    assert rig.faults() == []


def test_parameter_sets_of_many_pages_fit_the_header(tmp_path):
    big = ParameterSets(
        PARAMETER_SETS.sps, tuple(PARAMETER_SETS.pps[0] + bytes([1]) * 700 + bytes([number]) for number in range(20))
    )
    rig = Rig(tmp_path).open()
    rig.start_run(RunStarted(big, 640, 360))
    rig.record(60, gop=5, burst_every=5)
    rig.stop()
    assert rig.written[0].position.offset > 3 * PAGE_BYTES
    assert rig.faults() == []
    with Ring(rig.settings.path) as ring:
        rows = list(ring.rows())
        assert rows and ring.init_segment(rows[-1].position) == fmp4.init_segment(big, 640, 360)


def test_broken_parameter_sets_are_the_cameras_fault():
    rig = a_rig()
    rig.start_run(RunStarted(ParameterSets((b"\x67",), (b"\x68",)), 640, 360))
    rig.record(10)
    assert rig.writer.dropped == {Cause.CAMERA: 10}
    assert rig.writer.trouble is not None and rig.writer.trouble.cause is Cause.CAMERA
    rig.start_run(STARTED)
    rig.record(10)
    assert rig.writer.trouble is None


def test_a_full_segment_is_sealed_and_signed_by_the_box():
    rig = a_rig()
    rig.record(100, gop=5, burst_every=5)
    directory = memory_directory(rig.disk)  # type: ignore[arg-type]
    sealed = [number for number, state in rig.keeper.states.items() if state.state is layout.State.SEALED]
    assert sealed
    for number in sealed:
        fd = directory.open(layout.segment_name(number))
        seal = layout.parse_seal(directory.read(fd, PAGE_BYTES, rig.settings.segment_bytes - PAGE_BYTES))  # type: ignore[operator]
        assert seal is not None
        assert seal.public_key == BOX.public_bytes
        assert seal.box_id == BOX.box_id
    rig.stop()
    assert rig.faults() == []


@pytest.mark.parametrize("seed", range(12))
def test_units_that_come_together_are_written_as_single_ones_are(tmp_path, seed):
    """Wherever a fragment ends among them: for its duration, its pictures, its bytes, or the end of the segment."""
    files = []
    for together in (False, True):
        rig = Rig(tmp_path / str(together), segments=4, segment_bytes=64 * PAGE_BYTES).open()
        rig.start_run()
        noise, ticks = random.Random(seed), 0
        for turn in range(60):
            rig.clock.advance(400_000_000)
            now_ns, units = rig.clock.mono_ns(), []
            if turn % 5 == 0:
                units.append(unit_of(noise.randbytes(9000), ticks, now_ns, is_keyframe=True))
                ticks += TICKS
            sizes, times, whole = [], [], Gather()
            for _ in range(noise.randrange(1, 10)):
                unit = unit_of(noise.randbytes(noise.randrange(1, 2000 + 4000 * (seed % 3))), ticks, now_ns, is_keyframe=False, camera_wall_ns=10**18 + ticks * 100_000 // 9)  # fmt: skip
                ticks += TICKS * noise.choice((1, 1, 1, 1, 3)) // (1 + 7 * (seed % 2))
                sizes.append(unit.payload.size_bytes)
                times.append(unit.decode_ticks)
                whole.extend(unit.payload)
                if not together:
                    units.append(unit)
            if together:
                units.append(AccessUnits(whole, sizes, times, now_ns, 10**18 + times[0] * 100_000 // 9))
            rig.written += rig.writer.push_all(units, rig.clock.read())
            rig.syncer.burst()
        rig.stop()
        files.append((
            [(w.position, replace(w.record, camera_wall_ns=w.record.camera_wall_ns // 10, hash=b"", previous_hash=b"")) for w in rig.written],
            rig.writer.dropped, [path.name for path in sorted((tmp_path / str(together)).rglob("*.mp4"))],
        ))  # fmt: skip
        assert rig.faults() == []
    assert files[0] == files[1] and len(files[0][0]) >= 12
