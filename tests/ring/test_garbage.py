"""A card comes back with anything on it: every file of a ring may hold anything, and nothing falls over."""

from __future__ import annotations

import random

import pytest
from fakes import MemoryDisk, kept
from rig import STREAM, Rig, memory_directory

from nvr.errors import NvrError
from nvr.ring import check, index
from nvr.ring.reader import Ring


def a_ring(seed: int) -> MemoryDisk:
    disk = MemoryDisk()
    rig = Rig(disk, seed=seed).open()
    rig.start_run()
    rig.record(90, gop=5, burst_every=5)
    rig.stop()
    return disk


def damaged(disk: MemoryDisk, rng: random.Random) -> MemoryDisk:
    after = disk.cut(kept)
    for _ in range(rng.randrange(1, 4)):
        file = after.files[rng.choice(sorted(after.files))]
        match rng.randrange(5):
            case 0:  # noise over a stretch
                start = rng.randrange(len(file.data))
                length = min(rng.choice([1, 8, 100, 5000, 70_000]), len(file.data) - start)
                file.data[start : start + length] = rng.randbytes(length)
            case 1:  # cut short
                del file.data[rng.randrange(len(file.data)) :]
            case 2:  # the bytes of another place
                start, other = rng.randrange(len(file.data)) & ~4095, rng.randrange(len(file.data)) & ~4095
                file.data[start : start + 4096] = file.data[other : other + 4096]
            case 3:  # fields of the first pages
                for _ in range(5):
                    if len(file.data) > 8192:
                        file.data[rng.randrange(8192)] = rng.choice([0, 1, 255, rng.randrange(256)])
            case 4:
                file.data[:] = bytes(len(file.data))
    return after.cut(kept)


@pytest.mark.parametrize("seed", range(60))
def test_whatever_the_files_hold_the_ring_opens_and_records(seed):
    rng = random.Random(seed)
    disk = damaged(a_ring(seed % 3), rng)
    directory = memory_directory(disk)
    check.check_ring(directory, STREAM)
    rig = Rig(disk, boot=2, seed=seed).open()
    assert STREAM in rig.recovered, rig.writer.syncer_trouble
    rig.start_run()
    rig.record(60, gop=5, burst_every=5)
    rig.stop()
    assert rig.writer.trouble is None
    assert rig.written
    assert rig.written[0].record.sequence == rig.recovered[STREAM].sequence + 1
    copy = disk.cut(kept)
    index.rebuild_ring(memory_directory(copy), STREAM)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_files_hold_a_reader_returns_or_raises_its_own_error(seed, tmp_path):
    rng = random.Random(seed)
    for path, file in damaged(a_ring(seed % 3), rng).files.items():
        target = tmp_path / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.data)
    ring_path = tmp_path / "rings" / STREAM
    try:
        with Ring(ring_path) as ring:
            rows = list(ring.rows())
            sequences = [row.record.sequence for row in rows]
            assert sequences == sorted(set(sequences))
            ring.segments()
            ring.newest()
            for row in rows:
                try:
                    ring.read(row.position)
                    ring.init_segment(row.position)
                except NvrError:
                    pass
    except NvrError:
        pass
    assert isinstance(check.check(tmp_path), list)
    index.rebuild(tmp_path)


def test_a_stray_file_with_a_huge_number_is_left_alone_and_costs_nothing(tmp_path):
    rig = Rig(tmp_path).open()
    rig.start_run()
    rig.record(60, gop=5, burst_every=5)
    rig.stop()
    stray = rig.settings.path / "999999.mp4"
    stray.write_bytes(b"holiday film")
    again = Rig(tmp_path, boot=2).open()
    assert again.recovered[STREAM].unreadable == ["999999.mp4 is not a segment of this ring; left as it is"]
    again.start_run()
    again.record(60, gop=5, burst_every=5)
    again.stop()
    assert stray.read_bytes() == b"holiday film"
    assert (rig.settings.path / "index").stat().st_size < 1 << 20
    index.rebuild(tmp_path)
    assert (rig.settings.path / "index").stat().st_size < 1 << 20
