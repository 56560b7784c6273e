"""The journal of a box: what it told stays told, whatever the power, the disk or a stranger does to the file."""

from __future__ import annotations

import itertools
import random
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvr.clock import NS_PER_S
from nvr.journal import (
    CELL_BYTES,
    ENTRIES_PER_PAGE,
    MAX_STREAM_BYTES,
    MIN_SIZE_BYTES,
    Entry,
    Journal,
    JournalFailed,
    JournalFile,
    Kind,
    Reader,
    Story,
    cell_of,
    entry_of,
    kept_name,
    read,
    story_of,
)
from nvr.media import PAGE_BYTES, Cause, ClockReading, ClockState
from nvr.timeline import Timeline

BOOT = bytes(range(16))
SMALL = 32 * PAGE_BYTES


def at(second: int) -> ClockReading:
    return ClockReading(second * NS_PER_S, (1_800_000_000 + second) * NS_PER_S, ClockState.SYNCED, 1_000_000)


class CuttableFile:
    """Stands in for JournalFile: remembers what was synced and what was written since, page by page."""

    def __init__(self, size_bytes: int = SMALL, content: bytes | None = None) -> None:
        self.size_bytes = size_bytes
        self.durable = bytearray(content or bytes(size_bytes))
        self.now = bytearray(self.durable)
        self.unsynced: list[tuple[int, bytes]] = []
        self.fails = False

    def read_all(self) -> bytes:
        return bytes(self.now)

    def write(self, page: bytes, offset: int) -> None:
        if self.fails:
            raise OSError(28, "No space left on device")
        assert offset % PAGE_BYTES == 0
        assert len(page) == PAGE_BYTES
        assert offset + PAGE_BYTES <= self.size_bytes
        self.now[offset : offset + PAGE_BYTES] = page
        self.unsynced.append((offset, page))

    def sync(self) -> None:
        if self.fails:
            raise OSError(5, "Input/output error")
        self.durable = bytearray(self.now)
        self.unsynced.clear()

    def close(self) -> None:
        pass

    def cuts(self, rng: random.Random):
        """Disks that a power cut could leave now: each unsynced page kept, lost, torn at a sector, or zeroed."""
        offsets = sorted({offset for offset, _ in self.unsynced})
        fates = list(itertools.product(("kept", "lost", "head", "tail", "zero", "mixed"), repeat=len(offsets)))
        for fate in rng.sample(fates, min(len(fates), 12)):
            disk = bytearray(self.durable)
            for offset, how in zip(offsets, fate, strict=True):
                page = rng.choice([page for where, page in self.unsynced if where == offset])
                old = bytes(disk[offset : offset + PAGE_BYTES])
                sectors = [(old[n : n + 512], page[n : n + 512]) for n in range(0, PAGE_BYTES, 512)]
                torn = {
                    "kept": page,
                    "lost": old,
                    "head": page[:1536] + old[1536:],
                    "tail": old[:1536] + page[1536:],
                    "zero": bytes(PAGE_BYTES),
                    "mixed": b"".join(rng.choice(pair) for pair in sectors),
                }[how]
                disk[offset : offset + PAGE_BYTES] = torn
            yield bytes(disk)


def test_what_was_noted_is_told_in_order_with_its_cause(tmp_path):
    journal = Journal.open(tmp_path / "journal", BOOT, at(0), SMALL)
    journal.note(Kind.STARTED, at(1), "nvr 0.1.0")
    journal.note_stream("gate/main", at(2), None)
    journal.note_stream("gate/main", at(3), None)
    journal.note_stream("gate/main", at(9), Cause.NETWORK, "no access unit for 5 s, reconnecting")
    journal.note(Kind.DISK, at(10), "took 2.1 s for one sync", cause=Cause.DISK_SLOW)
    journal.sync(at(12))
    story = read(tmp_path / "journal")
    assert [(e.kind, e.stream, e.cause, e.detail) for e in story.entries] == [
        (Kind.STARTED, "", None, "nvr 0.1.0"),
        (Kind.STREAM, "gate/main", None, ""),
        (Kind.STREAM, "gate/main", Cause.NETWORK, "no access unit for 5 s, reconnecting"),
        (Kind.DISK, "", Cause.DISK_SLOW, "took 2.1 s for one sync"),
    ]
    assert [entry.sequence for entry in story.entries] == [1, 2, 3, 4]
    assert story.life is not None
    assert story.life.reading == at(12)
    assert story.is_from_the_start
    assert [sample.mono_ns for sample in story.samples()] == [n * NS_PER_S for n in (1, 12)]


def test_a_timeline_of_a_long_journal_needs_few_samples_and_comes_out_the_same():
    chance = random.Random(3)
    entries, mono_ns, offset_ns = [], 0, 1_750_000_000 * NS_PER_S
    for number in range(5000):
        mono_ns += chance.randrange(1, 90) * NS_PER_S
        if number % 1000 == 700:  # somebody set the clock
            offset_ns += chance.randrange(-(10**12), 10**12)
        state = ClockState.PLAUSIBLE if number % 1000 < 900 else ClockState.SYNCED
        reading = ClockReading(mono_ns, mono_ns + offset_ns, state, chance.randrange(10**8, 10**9))
        entries.append(Entry(Kind.CLOCK, bytes([number // 1000]) * 16, reading, sequence=number + 1))
        if number % 1000 == 999:
            mono_ns = 0
    story = Story(tuple(entries))
    thin, whole = Timeline.from_samples(story.samples()), Timeline.from_samples([entry.sample() for entry in entries])
    assert len(story.samples()) < 0.3 * len(entries)
    for entry in entries:
        seen, wanted = (t.wall_of(entry.boot_id, entry.reading.mono_ns) for t in (thin, whole))
        assert (seen.state, abs(seen.ns - wanted.ns) <= seen.error_ns + wanted.error_ns) == (wanted.state, True)
        assert seen.error_ns <= wanted.error_ns + 2 * 500 * 600_000  # 500 ppm of ten minutes, on either side


def test_a_detail_that_changes_every_second_does_not_fill_the_journal():
    journal = Journal(file := CuttableFile(), BOOT, at(0))
    for second in range(300):
        journal.note_stream("gate/main", at(second), Cause.CAMERA, f"no access unit for {second} s")
    journal.note_stream("gate/main", at(300), Cause.NETWORK, "no route")
    journal.sync(at(300))
    details = [entry.detail for entry in story_of(file.read_all()).entries]
    assert details == [*(f"no access unit for {second} s" for second in range(0, 300, 60)), "no route"]


def test_nothing_is_written_before_flush_so_that_recording_never_waits(tmp_path):
    journal = Journal.open(tmp_path / "journal", BOOT, at(0), SMALL)
    before = (tmp_path / "journal").read_bytes()
    journal.note(Kind.STARTED, at(1))
    assert (tmp_path / "journal").read_bytes() == before
    journal.flush()
    assert read(tmp_path / "journal").entries[0].kind is Kind.STARTED


def test_the_file_never_changes_its_size_or_blocks(tmp_path):
    path = tmp_path / "journal"
    journal = Journal.open(path, BOOT, at(0), SMALL)
    made = path.stat()
    for second in range(5 * SMALL // CELL_BYTES // 7):
        for _ in range(7):
            journal.note(Kind.CLOCK, at(second))
        journal.sync(at(second))
    assert (path.stat().st_size, path.stat().st_blocks, path.stat().st_ino) == (
        made.st_size,
        made.st_blocks,
        made.st_ino,
    )
    assert [file.name for file in tmp_path.iterdir()] == ["journal"]
    story = read(path)
    assert not story.missing
    assert len(story.entries) >= (SMALL // PAGE_BYTES - 3) * ENTRIES_PER_PAGE


def test_a_recorder_that_was_cut_off_leaves_its_last_sign_of_life(tmp_path):
    path = tmp_path / "journal"
    journal = Journal.open(path, BOOT, at(0), SMALL)
    journal.note(Kind.STARTED, at(0))
    for second in range(0, 60, 2):
        journal.sync(at(second))
    again = Journal.open(path, b"b" * 16, at(3), SMALL)
    again.note(Kind.STARTED, at(3))
    again.sync(at(4))
    entries = read(path).entries
    assert [entry.kind for entry in entries] == [Kind.STARTED, Kind.LIFE, Kind.STARTED]
    assert (entries[1].boot_id, entries[1].reading) == (BOOT, at(58))
    again.close(at(10))
    Journal.open(path, b"c" * 16, at(1), SMALL).sync(at(2))
    assert [entry.kind for entry in read(path).entries] == [Kind.STARTED, Kind.LIFE, Kind.STARTED, Kind.STOPPED]


@pytest.mark.parametrize("seed", range(30))
def test_a_power_cut_at_any_moment_never_loses_what_a_sync_made_durable(seed):
    """Cut, start again from every disk the cut could leave, cut again: three times."""
    rng = random.Random(seed)
    disks, promised, oldest, newest_life = [bytes(SMALL)], {}, 0, -1
    second = 0
    for _ in range(3):
        left = []
        for disk in disks:
            file = CuttableFile(content=disk)
            told = {entry.sequence: entry for entry in story_of(disk).entries}
            for sequence, entry in promised.items():
                assert sequence < oldest or told.get(sequence) == entry
            assert newest_life < 0 or story_of(disk).life.reading.mono_ns >= newest_life
            left.append(file)
        file = rng.choice(left)
        reading = at(second)
        if rng.random() < 0.3:  # the cut comes while it is being opened

            class Cut(Exception):
                pass

            def sync():
                raise Cut

            file.sync = sync
            with pytest.raises(Cut):
                Journal(file, BOOT, reading)
            disks = list(file.cuts(rng))
            continue
        journal = Journal(file, BOOT, reading)
        for _ in range(rng.choice([1, 5, 40])):
            second += 1
            for _ in range(rng.choice([0, 1, 1, 3, 70])):
                journal.note(Kind.CLOCK, at(second), f"entry {rng.random()}")
            if rng.random() < 0.3:
                journal.flush(at(second))
            if rng.random() < 0.7:
                journal.sync(at(second))
                newest_life = at(second).mono_ns
                promised = {entry.sequence: entry for entry in story_of(bytes(file.durable)).entries}
        journal.flush(at(second))
        # Pages written since make room by taking the oldest; those entries were never promised for ever.
        top = max(promised, default=0)
        written = max(entry.sequence for entry in story_of(bytes(file.now)).entries) if promised else 0
        oldest = max(written, top) - (SMALL // PAGE_BYTES - 4) * ENTRIES_PER_PAGE
        disks = list(file.cuts(rng)) or [bytes(file.durable)]
    for disk in disks:
        told = {entry.sequence: entry for entry in story_of(disk).entries}
        assert all(sequence < oldest or told.get(sequence) == entry for sequence, entry in promised.items())


def test_a_disk_that_takes_nothing_for_a_while_costs_no_entry():
    file = CuttableFile()
    journal = Journal(file, BOOT, at(0))
    journal.note(Kind.STARTED, at(0))
    journal.sync(at(1))
    file.fails = True
    for second in range(2, 200):
        journal.note(Kind.CLOCK, at(second))
        journal.sync(at(second))
    assert journal.fault == "No space left on device"
    assert journal.dropped == 0
    file.fails = False
    journal.sync(at(200))
    assert journal.fault is None
    assert [entry.sequence for entry in story_of(bytes(file.durable)).entries] == list(range(1, 200))


def test_what_a_failed_sync_left_unknown_is_written_again():
    """After EIO the kernel may have dropped the pages and calls them clean."""
    file = CuttableFile()
    journal = Journal(file, BOOT, at(0))
    for second in range(3 * ENTRIES_PER_PAGE):
        journal.note(Kind.CLOCK, at(second))
    journal.flush(at(99))
    file.fails = True
    journal.sync(at(100))
    file.fails = False
    file.now = bytearray(file.durable)  # dropped
    journal.sync(at(101))
    assert len(story_of(bytes(file.durable)).entries) == 3 * ENTRIES_PER_PAGE


def test_a_journal_whose_disk_went_away_goes_on_in_the_same_file_when_it_is_back(tmp_path):
    path = tmp_path / "journal"
    journal = Journal.open(path, BOOT, at(0), SMALL)
    for second in range(40):  # more than a page
        journal.note(Kind.CLOCK, at(second))
    journal.sync(at(40))
    durable = path.read_bytes()
    for second in range(40, 80):
        journal.note(Kind.CLOCK, at(second))
    journal.sync(at(80))
    (tmp_path / "journal").rename(tmp_path / "away")
    (tmp_path / "journal").write_bytes(durable)  # the same journal, without what the disk did not keep
    with pytest.raises(OSError, match="not"):
        journal.go_on_in(JournalFile(tmp_path / "another", 2 * SMALL))
    for second in range(80, 100):
        journal.note(Kind.CLOCK, at(second))
    journal.go_on_in(JournalFile(path, SMALL))
    journal.sync(at(100))
    assert journal.fault is None
    story = read(path)
    assert [entry.sequence for entry in story.entries][-20:] == list(range(81, 101))
    assert story.life is not None and story.life.reading == at(100)
    later = Journal.open(path, BOOT, at(101), SMALL)
    later.note(Kind.CLOCK, at(101))
    later.sync(at(102))
    assert read(path).entries[-1].sequence == 102  # one for having been cut off


def test_a_disk_that_takes_nothing_for_very_long_costs_the_oldest_and_counts_them(monkeypatch):
    monkeypatch.setattr("nvr.journal.MAX_WAITING", 50)
    file = CuttableFile()
    journal = Journal(file, BOOT, at(0))
    file.fails = True
    for second in range(80):
        journal.note(Kind.CLOCK, at(second))
        journal.flush()
    assert journal.dropped == 30
    file.fails = False
    journal.sync(at(80))
    assert [entry.sequence for entry in story_of(bytes(file.durable)).entries] == list(range(31, 81))


def test_a_camera_that_records_for_months_is_not_forgotten_when_the_ring_goes_round():
    file = CuttableFile()
    journal = Journal(file, BOOT, at(0))
    journal.note_stream("gate/main", at(1), None)
    journal.note_stream("yard/main", at(1), Cause.CAMERA, "401 Unauthorized")
    for second in range(5 * SMALL // CELL_BYTES):
        journal.note(Kind.CLOCK, at(second))
        if second % 40 == 0:
            journal.sync(at(second))
    story = story_of(file.read_all())
    assert not story.is_from_the_start
    states = {entry.stream: entry for entry in story.entries if entry.kind is Kind.STREAM}
    assert states["gate/main"].cause is None
    assert (states["yard/main"].cause, states["yard/main"].detail) == (Cause.CAMERA, "401 Unauthorized")


def test_a_damaged_page_costs_its_own_entries_and_is_seen(tmp_path):
    path = tmp_path / "journal"
    journal = Journal.open(path, BOOT, at(0), SMALL)
    for second in range(4 * ENTRIES_PER_PAGE + 3):
        journal.note(Kind.CLOCK, at(second))
        journal.sync(at(second))
    content = bytearray(path.read_bytes())
    content[3 * PAGE_BYTES + 5 * CELL_BYTES + 40] ^= 1
    path.write_bytes(content)
    story = read(path)
    assert story.missing == ((ENTRIES_PER_PAGE + 5, ENTRIES_PER_PAGE + 5),)


def test_a_file_cut_short_is_put_aside_and_a_new_journal_begins(tmp_path):
    path = tmp_path / "journal"
    path.write_bytes(b"nvj1" * 100)
    Journal.open(path, BOOT, at(0), SMALL).sync(at(1))
    aside = [file for file in tmp_path.iterdir() if file.name.startswith("journal.damaged-")]
    assert len(aside) == 1
    assert aside[0].read_bytes() == b"nvj1" * 100
    assert path.stat().st_size == SMALL
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_folder_that_is_not_there_is_an_error_with_a_hint(tmp_path):
    with pytest.raises(JournalFailed) as failed:
        Journal.open(tmp_path / "absent" / "journal", BOOT, at(0))
    assert failed.value.hint
    assert read(tmp_path / "absent" / "journal").entries == ()


def test_long_names_and_details_are_cut_at_whole_characters():
    stream, detail = "kamera-" + "ä" * 60 + "/main", "Verbindung abgebrochen: " + "€" * 60
    entry = entry_of(cell_of(Entry(Kind.STREAM, BOOT, at(0), stream, Cause.CAMERA, detail, 7)))
    assert entry is not None
    assert len(entry.stream.encode()) <= MAX_STREAM_BYTES
    assert entry.stream == kept_name(stream)
    assert detail.startswith(entry.detail)
    assert kept_name("gate/main") == "gate/main"


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(Kind),
    st.binary(min_size=16, max_size=16),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from(ClockState),
    st.integers(0, 2**64 - 1),
    st.text(max_size=10),
    st.sampled_from([None, *Cause]),
    st.text(max_size=12),
    st.integers(1, 2**64 - 1),
)
def test_a_cell_says_what_its_entry_said(kind, boot, mono, wall, state, error, stream, cause, detail, sequence):
    entry = Entry(kind, boot, ClockReading(mono, wall, state, error), stream, cause, detail, sequence)
    assert entry_of(cell_of(entry)) == entry


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=3 * PAGE_BYTES))
def test_any_bytes_make_a_story_without_an_error(content):
    assert story_of(content).entries == ()


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40))
def test_flipped_bits_lose_cells_and_never_change_one(seed, flips):
    rng = random.Random(seed)
    file = CuttableFile(MIN_SIZE_BYTES)
    journal = Journal(file, BOOT, at(0))
    for second in range(100):
        journal.note(Kind.CLOCK, at(second), "as it was")
    journal.sync(at(100))
    truth = {entry.sequence: entry for entry in story_of(file.read_all()).entries}
    content = bytearray(file.read_all())
    for _ in range(flips):
        content[rng.randrange(4 * CELL_BYTES * 32)] ^= 1 << rng.randrange(8)
    assert all(truth[entry.sequence] == entry for entry in story_of(bytes(content)).entries)
    Journal(CuttableFile(MIN_SIZE_BYTES, bytes(content)), BOOT, at(101)).sync(at(102))


def test_a_reader_sees_whole_entries_only_while_the_journal_is_written(tmp_path):
    path = tmp_path / "journal"
    journal = Journal.open(path, BOOT, at(0), SMALL)
    stop = threading.Event()

    def write():
        for second in itertools.count():
            journal.note(Kind.CLOCK, at(second), f"{second}")
            journal.flush(at(second))
            if stop.is_set():
                return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        reader, newest = Reader(path), 0
        for number in itertools.count():
            if number >= 50 and newest > 0:
                break
            entries = reader.story().entries
            assert all(entry.detail == str(entry.reading.mono_ns // NS_PER_S) for entry in entries)
            assert not entries or entries[-1].sequence >= newest
            newest = entries[-1].sequence if entries else newest
    finally:
        stop.set()
        writer.join()
    assert newest > 0


def test_a_reader_that_asks_again_gets_the_same_as_one_that_asks_first(tmp_path):
    path: Path = tmp_path / "journal"
    journal, reader = Journal.open(path, BOOT, at(0), SMALL), Reader(path)
    for second in range(2000):
        journal.note(Kind.CLOCK, at(second))
        if second % 90 == 0:
            journal.sync(at(second))
            assert reader.story() == read(path)
    path.unlink()
    assert reader.story().entries == ()
