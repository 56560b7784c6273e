"""A disk that is full, read-only, failing, slow or gone costs footage, which is counted with its cause; it never costs the recorder."""

from __future__ import annotations

import errno
import logging
import os
import random
from itertools import pairwise

import pytest
from fakes import MemoryDisk, kept, torn
from rig import OTHER_STARTED, PICTURE_NS, STARTED, STREAM, Rig, segment_files
from test_power_cut import recovered, sequences_on

from nvr.media import Cause
from nvr.ring import disk as real_disk
from nvr.ring.disk import DiskFailed, check_same_disk
from nvr.ring.layout import SEGMENTS_MIN
from nvr.ring.reader import Ring

GONE, IO, FULL, READ_ONLY = errno.ENODEV, errno.EIO, errno.ENOSPC, errno.EROFS


def recorded(rig: Rig, pictures: int = 60, burst_every: int = 6) -> None:
    """Record for a while, housekeeping included; time goes on so that back-offs end."""
    for _ in range(pictures // burst_every):
        rig.record(burst_every, gop=3)
        rig.syncer.burst()
        rig.clock.advance(2_000_000_000)


def a_good_recording(**settings: object) -> Rig:
    rig = Rig(MemoryDisk(), **settings).open()  # type: ignore[arg-type]
    rig.start_run()
    recorded(rig)
    return rig


CALLS = a_good_recording().disk.calls  # type: ignore[union-attr]


def one_call_fails(call: int, error: int, times: int) -> None:
    """Record while the disk refuses `times` calls from `call` on; afterwards it is well again, and so is the ring."""
    disk = MemoryDisk()
    disk.fail(call, error, times=times)
    rig = Rig(disk).open()
    rig.start_run()
    recorded(rig)
    disk.heal()
    rig.clock.advance(60_000_000_000)
    recorded(rig, 24)
    note = f"call {call} fails with {errno.errorcode[error]}"
    assert rig.writer.trouble is None, f"{note}: {rig.writer.trouble}"
    before = rig.writer.sequence
    recorded(rig, 24)
    assert rig.writer.sequence > before, note
    rig.stop()
    numbers = [w.record.sequence for w in rig.written]
    assert numbers == list(range(1, len(numbers) + 1)), note
    after = Rig(disk.cut(kept), boot=2).open()
    assert after.recovered[STREAM].sequence == numbers[-1], note
    assert after.faults() == [], note
    lost = sum(rig.writer.dropped.values())
    assert lost + sum(w.record.pictures for w in rig.written) == 108, note


@pytest.mark.parametrize("error", [IO, FULL, GONE], ids=errno.errorcode.get)
@pytest.mark.parametrize("times", [1, 3])
def test_any_call_may_fail_and_recording_goes_on(error, times):
    """One call in seven; the test below takes them all."""
    for call in range(0, CALLS, 7):
        one_call_fails(call, error, times)


@pytest.mark.slow
@pytest.mark.parametrize("error", [IO, FULL, GONE, READ_ONLY], ids=errno.errorcode.get)
@pytest.mark.parametrize("times", [1, 3])
def test_every_single_call_may_fail_and_recording_goes_on(error, times):
    for call in range(CALLS):
        one_call_fails(call, error, times)


def cut_while_recording() -> MemoryDisk:
    """What a power cut left of a ring in its second lap: an open segment, a hole in it, an index that is behind."""
    rig = Rig(MemoryDisk(), segments=5).open()
    rig.start_run()
    rig.record(230, gop=5, burst_every=10)
    assert isinstance(rig.disk, MemoryDisk)
    rng = random.Random(7)
    return rig.disk.cut(torn(rng))


def test_every_call_of_a_recovery_may_fail_and_no_good_fragment_goes_nor_is_a_number_used_twice():
    """A card that is failing is mostly found out by the start after a power cut. Where the newest segment could not be read, its numbers were given
    again: two fragments had the same one as soon as it could."""
    cut = cut_while_recording()
    well = cut.cut(kept)
    recovered(well)
    calls, good = well.calls, sequences_on(well)
    assert calls > 5 and len(good) > 10
    for error in (IO, GONE, READ_ONLY):
        for call in range(calls):
            note = f"call {call} of recovery fails with {errno.errorcode[error]}"
            disk = cut.cut(kept)
            disk.fail(call, error)
            try:
                assert recovered(disk).sequence >= max(good), note
            except DiskFailed:
                pass
            disk.heal()
            assert sequences_on(disk) == good, note
            assert recovered(disk).sequence == max(good), f"{note}: what was not read is read at the next start"

            disk = cut.cut(kept)
            disk.fail(call, error)
            rig = Rig(disk, boot=2).open()
            disk.heal()
            rig.clock.advance(60_000_000_000)
            rig.syncer.burst()
            rig.start_run()
            rig.record(10, gop=5)
            assert rig.writer.trouble is None, f"{note}: {rig.writer.trouble}"
            rig.stop()
            assert rig.faults() == [], note
            assert min(each.record.sequence for each in rig.written) > max(good), note


@pytest.mark.slow
@pytest.mark.parametrize("error", [IO, FULL, GONE, READ_ONLY], ids=errno.errorcode.get)
def test_a_disk_that_fails_for_ever_costs_pictures_and_nothing_else(error):
    for call in range(CALLS):
        disk = MemoryDisk()
        disk.fail(call, error, times=0)
        rig = Rig(disk).open()
        rig.start_run()
        recorded(rig)
        rig.stop()
        note = f"from call {call} on {errno.errorcode[error]}"
        assert sum(rig.writer.dropped.values()) + sum(w.record.pictures for w in rig.written) == 60, note
        disk.heal()
        after = Rig(disk.cut(kept), boot=2).open()
        assert after.faults() == [], note
        assert max(rig.durable, default=0) <= after.recovered[STREAM].sequence, note


def test_a_full_disk_stops_the_ring_growing_and_it_reuses_its_oldest_segment(caplog):
    disk = MemoryDisk()
    rig = Rig(disk, segments=20)
    disk.capacity_bytes = 5 * 32 * 4096 + 120_000
    rig.open()
    rig.start_run()
    with caplog.at_level(logging.WARNING):
        rig.record(300, gop=5, burst_every=5)
    assert rig.writer.dropped == {}
    assert len(rig.keeper.states) == 5
    assert "reuses the oldest" in caplog.text
    assert caplog.text.count("reuses the oldest") == 1
    rig.stop()
    assert rig.faults() == []


def test_a_disk_that_is_full_for_a_moment_erases_nothing():
    """The city simulator filled a disk for ten seconds, and the oldest segment of a camera went, though its ring had room left in its budget
    and the segment that was written had minutes left."""
    disk = MemoryDisk()
    rig = Rig(disk, segments=20).open()
    rig.start_run()
    while len(rig.keeper.states) < 5:
        rig.record(5, gop=5, burst_every=5)
    disk.capacity_bytes = sum(len(file.data) for file in disk.files.values())
    while rig.writer.ready:  # until that one is written to, and the next is to be prepared
        rig.record(5, gop=5)
    rig.syncer.burst()
    rig.clock.advance(10_000_000_000)
    rig.syncer.burst()
    assert not rig.writer.ready
    assert len(rig.keeper.states) == 5
    disk.capacity_bytes = None
    rig.clock.advance(10_000_000_000)
    rig.record(100, gop=5, burst_every=5)
    assert len(rig.keeper.states) > 5
    assert rig.writer.dropped == {}
    assert {state.lap for state in rig.keeper.states.values()} == {1}, "a segment was used again"
    rig.stop()
    assert rig.faults() == []


def test_a_disk_without_room_for_a_ring_says_disk_full():
    disk = MemoryDisk()
    disk.capacity_bytes = 100_000
    rig = Rig(disk).open()
    rig.start_run()
    rig.record(10)
    assert rig.writer.trouble is not None
    assert rig.writer.trouble.cause is Cause.DISK_FULL
    assert rig.writer.dropped == {Cause.DISK_FULL: 10}
    disk.capacity_bytes = None  # somebody made room
    rig.clock.advance(700_000_000_000)
    rig.syncer.burst()
    rig.record(20)
    assert rig.writer.trouble is None
    assert rig.writer.sequence > 0


def test_a_read_only_disk_is_named():
    disk = MemoryDisk()
    rig = Rig(disk).open()
    rig.start_run()
    rig.record(10, gop=5)
    disk.fail(disk.calls, READ_ONLY, times=0)
    rig.record(10, gop=5)
    assert rig.writer.trouble is not None
    assert rig.writer.trouble.cause is Cause.DISK_FAILED
    assert "EROFS" in rig.writer.trouble.detail


def test_a_failed_sync_closes_its_segment_for_good_and_names_what_may_be_lost():
    """After a failed fsync Linux marks the pages clean: a second one succeeds and means nothing."""
    disk = MemoryDisk()
    rig = Rig(disk).open()
    rig.start_run()
    rig.record(8, gop=2)
    rig.syncer.burst()
    durable = rig.durable[-1]
    rig.record(6, gop=2)
    closed = rig.writer.current
    assert closed is not None
    last = rig.writer.sequence
    disk.fail(disk.calls, IO)
    rig.syncer.burst()
    assert rig.lost == [(durable + 1, last)]
    rig.clock.advance(1_000_000_000)
    rig.syncer.burst()
    rig.record(8, gop=2, burst_every=2)
    assert rig.writer.current is not None and rig.writer.current.number != closed.number
    assert rig.durable[-1] > last
    rig.record(200, gop=4, burst_every=4)
    assert rig.writer.current.number != closed.number
    assert closed.number not in {segment.number for segment in rig.writer.ready}


def test_while_no_segment_is_ready_pictures_are_dropped_and_the_next_keyframe_goes_on():
    rig = Rig(MemoryDisk()).open()
    rig.start_run()
    rig.record(300, gop=5)  # the syncer does not get a turn: the disk is slow
    assert rig.writer.trouble is not None
    assert rig.writer.trouble.cause is Cause.DISK_SLOW
    dropped = rig.writer.dropped[Cause.DISK_SLOW]
    assert dropped > 0
    rig.syncer.burst()
    rig.record(10, gop=5)
    assert rig.writer.trouble is None
    rig.end_run()
    assert rig.written[-1].record.is_keyframe
    assert rig.writer.dropped[Cause.DISK_SLOW] == dropped
    run = {w.record.run for w in rig.written}
    assert run == {1}, "the camera was never interrupted"


def test_a_gap_in_a_run_shows_in_its_ticks():
    rig = Rig(MemoryDisk()).open()
    rig.start_run()
    rig.record(300, gop=5)
    rig.syncer.burst()
    rig.record(10, gop=5)
    rig.end_run()
    records = [w.record for w in rig.written]
    gaps = [b.run_ticks - a.run_ticks - a.duration_ticks for a, b in pairwise(records)]
    assert sum(gaps) == rig.writer.dropped[Cause.DISK_SLOW] * 3600
    assert all(b.mono_ns > a.mono_ns for a, b in pairwise(records))
    assert records[-1].mono_ns - records[0].mono_ns == pytest.approx(
        (records[-1].run_ticks - records[0].run_ticks) / 9e4 * 1e9, rel=0.01
    )


def test_a_picture_that_fits_no_segment_is_the_cameras_fault():
    rig = Rig(MemoryDisk()).open()
    rig.start_run()
    rig.push(bytes(40 * 4096), is_keyframe=True)
    assert rig.writer.dropped == {Cause.CAMERA: 1}
    assert rig.writer.trouble is not None
    assert "a segment of this ring has" in rig.writer.trouble.detail
    rig.push(bytes(100), is_keyframe=False)
    assert rig.writer.dropped == {Cause.CAMERA: 2}
    rig.record(10)
    assert rig.writer.sequence > 0
    assert rig.writer.trouble is None


def test_a_disk_that_comes_back_is_recorded_on_again(tmp_path):
    """The directory behind the descriptor is another one after the disk was plugged in again."""
    disk = MemoryDisk()
    rig = Rig(disk).open()
    rig.start_run()
    recorded(rig, 30)
    before = rig.writer.sequence
    disk.fail(disk.calls, GONE, times=0)
    recorded(rig, 60)
    assert rig.writer.trouble is not None and rig.writer.trouble.cause is Cause.DISK_FAILED
    assert "plug" in DiskFailed("x", hint="The disk went away: plug it in again").hint
    disk.heal()
    rig.clock.advance(60_000_000_000)
    recorded(rig, 60)
    assert rig.writer.trouble is None
    assert rig.writer.sequence > before
    rig.stop()
    assert rig.faults() == []


def test_an_absent_disk_never_fills_the_root_file_system(tmp_path):
    check_same_disk(tmp_path)
    check_same_disk(tmp_path)
    (tmp_path / "rings").rename(tmp_path / "the disk")  # unmounted
    with pytest.raises(DiskFailed, match="is not there"):
        check_same_disk(tmp_path)
    (tmp_path / "rings").mkdir()  # the empty mount point
    with pytest.raises(DiskFailed, match="another disk than before") as failure:
        check_same_disk(tmp_path)
    assert failure.value.cause is Cause.DISK_FAILED
    assert list((tmp_path / "rings").iterdir()) == []


def test_a_data_directory_that_went_away_with_its_disk_is_not_begun_anew(tmp_path):
    data_dir = tmp_path / "mount point" / "data"
    data_dir.mkdir(parents=True)
    mark = check_same_disk(data_dir)
    (tmp_path / "mount point").rename(tmp_path / "the disk")
    (tmp_path / "mount point").mkdir()
    for _ in range(2):
        with pytest.raises(DiskFailed, match="is not there"):
            check_same_disk(data_dir, mark)
    assert list((tmp_path / "mount point").iterdir()) == []
    data_dir.mkdir()
    with pytest.raises(DiskFailed):
        check_same_disk(data_dir, mark)
    (tmp_path / "mount point" / "data").rmdir()
    (tmp_path / "mount point").rmdir()
    (tmp_path / "the disk").rename(tmp_path / "mount point")
    assert check_same_disk(data_dir, mark) == mark


def test_a_writer_without_a_disk_counts_and_records_when_it_comes():
    rig = Rig(MemoryDisk())
    rig.start_run()
    rig.record(10, gop=5)
    assert rig.writer.dropped == {Cause.DISK_SLOW: 10}
    rig.open()
    rig.record(10, gop=5)
    assert rig.writer.sequence == 1


@pytest.mark.parametrize(
    ("error", "cause"),
    [(FULL, Cause.DISK_FULL), (errno.EDQUOT, Cause.DISK_FULL), (IO, Cause.DISK_FAILED), (GONE, Cause.DISK_FAILED)],
)
def test_every_error_has_its_cause_and_advice(error, cause):
    failure = real_disk.failed(OSError(error, "no"), "writing")
    assert failure.cause is cause
    assert failure.hint


def test_segments_that_cannot_be_used_are_passed_over():
    rig = Rig(MemoryDisk(), segments=SEGMENTS_MIN + 2).open()
    rig.start_run()
    rig.record(60, gop=5, burst_every=5)
    assert rig.keeper._ring is not None
    rig.keeper._ring.refused.add(0)
    before = dict(segment_files(rig))["000000.mp4"]
    rig.record(300, gop=5, burst_every=5)
    assert dict(segment_files(rig))["000000.mp4"] == before
    assert rig.writer.dropped == {}
    assert PICTURE_NS > 0


def test_a_segment_that_somebody_removes_while_it_is_written_is_noticed(tmp_path):
    """Writes and syncs of a removed file succeed, and all of it is gone when it is closed: the box said "recording"."""
    rig = Rig(tmp_path).open()
    rig.start_run()
    rig.record(10)
    rig.syncer.burst()
    (rig.settings.path / "000000.mp4").unlink()
    rig.record(10)
    rig.syncer.burst()
    assert rig.lost and rig.keeper.failed_syncs == 1
    for _ in range(20):
        rig.clock.advance(2_000_000_000)
        rig.record(5)
        rig.syncer.burst()
    assert rig.writer.trouble is None
    rig.stop()
    _, last = rig.lost[0]
    assert {number for number in rig.durable if number > last}, "later fragments are durable again"
    assert rig.faults() == []


def test_two_recorders_whose_data_directories_lead_to_the_same_rings_do_not_write_into_each_others_segments(tmp_path):
    """The lock was in DATA/run alone; with DATA/rings a link, or one disk mounted twice, both wrote into the same files."""
    (tmp_path / "one" / "rings").mkdir(parents=True)
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "rings").symlink_to(tmp_path / "one" / "rings")
    one, two = Rig(tmp_path / "one").open(), Rig(tmp_path / "two").open()
    for rig in (one, two):
        rig.start_run()
        rig.record(10)
    assert one.writer.trouble is None
    assert two.writer.trouble is not None and "another recorder" in two.writer.trouble.detail
    assert two.writer.dropped == {Cause.DISK_FAILED: 10}
    one.stop()
    two.clock.advance(60_000_000_000)
    two.syncer.burst()
    two.record(10)
    assert two.writer.trouble is None
    two.stop()
    assert two.faults() == []


def test_a_ring_that_cannot_be_opened_costs_no_descriptor_at_each_try(tmp_path):
    """Every try left its directory open, one each half minute: after some hours no camera could be connected."""
    rig = Rig(tmp_path)
    (rig.settings.path / "index").mkdir(parents=True)
    rig.open()
    assert rig.writer.syncer_trouble is not None
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        rig.clock.advance(60_000_000_000)
        rig.syncer.burst()
    assert len(os.listdir("/proc/self/fd")) == before
    (rig.settings.path / "index").rmdir()
    rig.clock.advance(60_000_000_000)
    rig.syncer.burst()
    rig.start_run()
    rig.record(10)
    assert rig.writer.dropped == {}
    rig.stop()


def test_pictures_too_large_for_a_segment_do_not_use_up_the_ring(tmp_path):
    """Each of them began another segment, in which it did not fit either."""
    rig = Rig(MemoryDisk(), segments=6).open()
    rig.start_run()
    for _ in range(10):
        rig.push(bytes(3000), is_keyframe=True)
        rig.push(bytes(40 * 4096), is_keyframe=True)
        rig.syncer.burst()
    assert len(rig.keeper.states) == 2
    assert rig.writer.dropped == {Cause.CAMERA: 10}


def test_finished_segments_are_synced_before_a_camera_must_wait_for_one(tmp_path):
    """Between two bursts a ring of few segments said that none could be used, and pictures were dropped."""
    rig = Rig(MemoryDisk()).open()
    for number in range(12):
        rig.start_run(OTHER_STARTED if number % 2 else STARTED)
        rig.record(3)
        rig.syncer._keep()
    assert rig.writer.dropped == {}
    rig.stop()
    assert rig.faults() == []


def test_a_ring_that_was_moved_away_begins_anew_where_people_look_and_what_was_moved_is_whole(tmp_path):
    rig = Rig(tmp_path).open()
    rig.start_run()
    recorded(rig)
    before = len(rig.written)
    moved = rig.settings.path.rename(tmp_path / "elsewhere")
    recorded(rig)
    rig.stop()
    assert rig.writer.displaced == ""
    with Ring(rig.settings.path) as ring:
        here = {row.record.sequence for row in ring.rows()}
    with Ring(moved) as ring:
        there = {row.record.sequence for row in ring.rows()}
    assert here
    assert max(there) >= before
    assert here | there == {each.record.sequence for each in rig.written}
    assert rig.faults() == []


@pytest.mark.parametrize("how", ["moved", "covered"])
def test_where_the_rings_are_not_recording_goes_on_where_they_are_and_it_is_told(tmp_path, caplog, how):
    rig = Rig(tmp_path)
    mark = check_same_disk(tmp_path)
    rig.syncer._before_opening = lambda: check_same_disk(tmp_path, mark)
    rig.open()
    rig.start_run()
    recorded(rig)
    (tmp_path / "rings").rename(tmp_path / "away")
    if how == "covered":  # as by a mount: another directory, without the mark
        (tmp_path / "rings/porch/main").mkdir(parents=True)
    dropped = dict(rig.writer.dropped)
    with caplog.at_level(logging.ERROR):
        recorded(rig)
    assert rig.writer.dropped == dropped
    assert rig.writer.displaced.startswith("recorded where nobody looks for it: ")
    assert len([each for each in caplog.messages if "where nobody looks" in each]) == 1
    if how == "covered":
        assert list((tmp_path / "rings").rglob("*.mp4")) == []
        (tmp_path / "rings").rename(tmp_path / "cover")
    (tmp_path / "away").rename(tmp_path / "rings")
    recorded(rig)
    assert rig.writer.displaced == ""
    rig.stop()
    with Ring(rig.settings.path) as ring:
        numbers = [row.record.sequence for row in ring.rows()]
    assert numbers[-1] == rig.written[-1].record.sequence
    assert rig.faults() == []
