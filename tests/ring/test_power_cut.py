"""Power goes at every call that touches the disk; what was durable is there afterwards, and all is consistent."""

from __future__ import annotations

import random

import pytest
from fakes import MemoryDisk, PageFate, any_version, kept, lost, mixed, torn, zeroed
from rig import BOX, OTHER_STARTED, STARTED, STREAM, Rig, memory_directory

from nvr.media import Cause
from nvr.ring import index, layout
from nvr.ring.index import Index
from nvr.ring.layout import State
from nvr.ring.recover import OpenRing, open_ring
from nvr.ring.walk import walk


def sequences_on(disk: MemoryDisk) -> set[int]:
    """Every fragment that the media holds."""
    directory = memory_directory(disk)
    found: set[int] = set()
    opened = Index.open(directory)
    for name in directory.names():
        number = layout.segment_number(name)
        if number is not None:
            fd = directory.open(name)
            found |= {row.record.sequence for row in walk(directory, fd, STREAM, number, opened.segment_bytes).rows}
    return found


def slots_of(disk: MemoryDisk) -> dict[int, bytes]:
    directory = memory_directory(disk)
    opened = Index.open(directory)
    numbers = [n for n in map(layout.segment_number, directory.names()) if n is not None]
    return {number: opened.raw(number) for number in numbers}


def recovered(disk: MemoryDisk) -> OpenRing:
    """Only the recovery: opening a ring for recording prepares a segment as well, and may recycle the oldest for that."""
    rig = Rig(disk, boot=2)
    return open_ring(
        rig.directory(), rig.settings, box_id=BOX.box_id, boot_id=bytes(16), sign=BOX.sign, public_key=BOX.public_bytes
    )


def recover_and_check(disk: MemoryDisk, durable: int, written: int, *, needed: set[int], note: str) -> None:
    """Open the ring as after a power cut; everything `needed` is there and nothing contradicts anything."""
    ring = recovered(disk)
    assert not ring.recovered.unreadable, note
    assert Rig(disk).faults() == [], note
    found = sequences_on(disk)
    assert needed <= found, (
        f"{note}: durable fragments {sorted(needed - found)} are gone; repairs {ring.recovered.repairs}"
    )
    assert ring.sequence >= durable, note
    assert max(found, default=0) <= written + 1, note  # the one being written may have made it
    copy = disk.cut(kept)
    index.rebuild_ring(memory_directory(copy), STREAM)  # type: ignore[arg-type]
    assert slots_of(copy) == slots_of(disk), f"{note}: the rebuilt index differs"


def goes_on(disk: MemoryDisk, note: str) -> None:
    """Recording continues, with new sequence numbers, and what it writes is whole."""
    rig = Rig(disk, boot=2, seed=99).open()
    last = rig.recovered[STREAM].sequence
    rig.start_run()
    rig.record(7, gop=3)
    rig.stop()
    assert [w.record.sequence for w in rig.written] == list(range(last + 1, last + 1 + len(rig.written))), note
    assert rig.written, f"{note}: {rig.writer.trouble}"
    assert rig.faults() == [], note


def needed_at(moment_durable: int, on_disk_now: set[int]) -> set[int]:
    """Durable fragments that the ring has not recycled by itself."""
    return {sequence for sequence in on_disk_now if sequence <= moment_durable}


class Story:
    """A recording during which the power may go after any call."""

    def __init__(self, seed: int) -> None:
        self.disk = MemoryDisk()
        self.seed = seed

    def play(self, visit: object) -> None:
        """Record; `visit(rig, story)` is called after every call that changes the disk."""
        rig = Rig(self.disk, seed=self.seed)
        failures: list[AssertionError] = []

        def after_call() -> None:
            if not failures:  # the syncer outlives any exception, so it is kept for the end
                try:
                    visit(rig)  # type: ignore[operator]
                except AssertionError as failure:
                    failures.append(failure)

        self.disk.after_call = after_call
        rig.open()
        rig.start_run(STARTED)
        rig.record(140, gop=4, burst_every=7)
        rig.end_run()
        rig.start_run(STARTED)  # a reconnect
        rig.record(47, gop=40, burst_every=6)
        rig.end_run()
        rig.start_run(OTHER_STARTED)  # the camera was set up anew
        rig.record(120, gop=6, burst_every=8)
        rig.stop()
        self.disk.after_call = lambda: None
        if failures:
            raise failures[0]
        assert rig.faults() == []
        assert set(rig.writer.dropped) <= {Cause.DISK_SLOW}  # the syncer has its turn seldom here


def fates(rng: random.Random) -> list[tuple[str, PageFate]]:
    return [
        ("all kept", kept), ("all lost", lost), ("all zeroed", zeroed), ("torn", torn(rng)), ("versions", any_version(rng)),
        ("mixed", mixed(rng)), ("mixed again", mixed(rng)),
    ]  # fmt: skip


def cut_everywhere(seed: int, *, every: int, cut_seed: int) -> int:
    rng = random.Random(cut_seed)
    calls = 0
    cuts = 0

    def visit(rig: Rig) -> None:
        nonlocal calls, cuts
        calls += 1
        if rng.randrange(every):
            return
        durable, written = max(rig.durable, default=0), rig.writer.sequence
        live = sequences_on(story.disk) if any(p.endswith("/index") for p in story.disk.files) else set()
        needed = needed_at(durable, live)
        for name, fate in fates(rng):
            names_kept = rng.random() < 0.7
            note = f"seed {seed}/{cut_seed}, call {calls}, {name}, names {'kept' if names_kept else 'lost'}"
            after = story.disk.cut(fate, names_kept=names_kept)
            recover_and_check(after, durable, written, needed=needed, note=note)
            if rng.random() < 0.3:
                goes_on(after, note)
            cuts += 1

    story = Story(seed)
    story.play(visit)
    return cuts


@pytest.mark.parametrize("seed", range(3))
def test_whatever_a_power_cut_leaves_no_durable_fragment_is_missing(seed):
    assert cut_everywhere(seed, every=12, cut_seed=seed + 100) > 100


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_after_every_single_call_the_power_may_go(seed):
    assert cut_everywhere(seed, every=1, cut_seed=seed) > 1000


def test_a_cut_during_recovery_is_recovered_from_as_well():
    rng = random.Random(5)
    story = Story(3)
    moments: list[tuple[MemoryDisk, int, set[int]]] = []

    def visit(rig: Rig) -> None:
        if rng.randrange(60) == 0 and rig.durable:
            durable = max(rig.durable)
            moments.append((story.disk.cut(mixed(rng)), durable, needed_at(durable, sequences_on(story.disk))))

    story.play(visit)
    assert len(moments) > 3
    for number, (disk, durable, needed) in enumerate(moments):
        again: list[MemoryDisk] = []
        disk.after_call = lambda disk=disk, again=again: again.append(disk.cut(mixed(rng)))
        recovered(disk)
        disk.after_call = lambda: None
        for place, second in enumerate(again):
            recover_and_check(
                second, durable, 1 << 40, needed=needed, note=f"moment {number}, call {place} of recovery"
            )


def test_after_a_kill_everything_that_was_written_is_there():
    """Without a power cut the page cache survives: nothing at all is lost but the fragment being written."""
    disk = MemoryDisk()
    rig = Rig(disk).open()
    rig.start_run()
    rig.record(23, gop=5)
    after = disk.cut(kept)
    again = Rig(after, boot=1).open()
    assert again.recovered[STREAM].sequence == rig.writer.sequence
    assert again.recovered[STREAM].repairs == []
    assert again.faults() == []


def test_recovering_twice_changes_nothing_more():
    rng = random.Random(11)
    disk = MemoryDisk()
    rig = Rig(disk).open()
    rig.start_run()
    rig.record(60, gop=4, burst_every=7)
    after = disk.cut(mixed(rng))
    directory = memory_directory(after)
    Rig(after, boot=2).open().keeper.close()
    first = {name: bytes(file.data) for name, file in after.files.items()}
    second = Rig(after, boot=3).open()
    assert second.recovered[STREAM].repairs == []
    changed = {name for name, file in after.files.items() if bytes(file.data) != first[name]}
    # Only the segment prepared for the next fragments is prepared anew.
    prepared = {f"/rings/{STREAM}/{layout.segment_name(s.number)}" for s in second.writer.ready if not s.fragments}
    assert changed <= prepared | {f"/rings/{STREAM}/index"}
    assert directory.names()


def test_a_start_reads_only_what_the_cut_left_open():
    disk = MemoryDisk()
    rig = Rig(disk, segments=12).open()
    rig.start_run()
    rig.record(400, gop=5, burst_every=5)
    rig.stop()
    disk.bytes_read = 0
    again = Rig(disk, boot=2, segments=12).open()
    assert len(again.keeper.states) == 12
    assert again.recovered[STREAM].segments_walked <= 2
    assert sum(state.state is State.SEALED for state in again.keeper.states.values()) >= 9
    segment_bytes = rig.settings.segment_bytes
    assert segment_bytes is not None
    assert disk.bytes_read < 5 * segment_bytes


def test_a_lost_index_is_made_again_at_the_start():
    disk = MemoryDisk()
    rig = Rig(disk).open()
    rig.start_run()
    rig.record(80, gop=5, burst_every=5)
    rig.stop()
    before = sequences_on(disk)
    del disk.files[f"/rings/{STREAM}/index"]
    again = Rig(disk, boot=2).open()
    assert "made again from 4 segments" in again.recovered[STREAM].repairs[0]
    assert sequences_on(disk) == before
    assert again.faults() == []


def test_a_recorder_that_dies_again_and_again_does_not_eat_its_ring():
    disk = MemoryDisk()
    rig = Rig(disk, segments=6).open()
    rig.start_run()
    rig.record(80, gop=5, burst_every=5)
    before = sequences_on(disk)
    for boot in range(2, 40):
        again = Rig(disk, segments=6, boot=boot).open()
        again.start_run()
        again.record(3)
        again.syncer.burst()
    assert before <= sequences_on(disk)
