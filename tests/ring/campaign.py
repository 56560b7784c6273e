"""Eight streams on one disk that may lose power after any call; what is then found, and how much each stream lost.

`python tests/ring/campaign.py --cuts 12000` prints the histogram of docs/losing-footage.md. Time is simulated, so a sync takes none
of it: what a slow card adds to the loss is in layout.sync_interval_s, and not in this figure.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2]), str(Path(__file__).parent)]

from clocks import ManualClock
from fakes import MemoryDirectory, MemoryDisk, PageFate, any_version, kept, lost, mixed, torn, zeroed
from rig import BOX, OTHER_STARTED, PICTURE_NS, SMALL_SEGMENT_BYTES, STARTED, TICKS, unit_of

from nvr.clock import NS_PER_S
from nvr.media import PAGE_BYTES, ClockState
from nvr.ring import holds, index, layout
from nvr.ring.check import check_ring
from nvr.ring.holds import Hold
from nvr.ring.index import Index
from nvr.ring.layout import RingSettings
from nvr.ring.recover import open_ring
from nvr.ring.syncer import Syncer
from nvr.ring.walk import walk
from nvr.ring.writer import Writer

STREAMS = 8
LOSS_BOUND_S = 5.0
SEGMENTS = 4
SEGMENT_BYTES = SMALL_SEGMENT_BYTES
PICTURES = 25 * 50  # 50 s of each stream: every ring goes round more than once


@dataclass
class Outcome:
    """What a campaign found; the assertions are in `Box.cut`."""

    cuts: int = 0
    recoveries: int = 0
    loss_ms: list[int] = field(default_factory=list)  # of one stream at one cut

    def histogram(self) -> dict[str, int]:
        """Losses by half seconds, as text for people."""
        counts = Counter(ms // 500 for ms in self.loss_ms)
        return {f"{step / 2:.1f} to {step / 2 + 0.5:.1f} s": counts[step] for step in range(max(counts, default=0) + 1)}


class Box:
    """Eight writers and their one syncer; `play` records while `after_call` may look at the disk."""

    def __init__(self, seed: int, work: Path) -> None:
        self.random = random.Random(seed)
        self.disk = MemoryDisk()
        self.clock = ManualClock(wall_ns=5_000_000_000, state=ClockState.UNKNOWN)  # it starts in 1970
        self.names = [f"cam{number}/main" for number in range(STREAMS)]
        self.holds_path = work / f"holds-{seed}.json"
        self.holds_path.unlink(missing_ok=True)
        self.writers = {
            name: Writer(self._settings(name), box_id=BOX.box_id, boot_id=bytes([1]) * 16) for name in self.names
        }
        self.durable = dict.fromkeys(self.names, 0)
        self.held: dict[str, range] = {}
        self.began: set[str] = set()
        self.syncer = Syncer(
            self.writers.values(), clock=self.clock, loss_bound_s=LOSS_BOUND_S, identity=BOX, holds_path=self.holds_path,
            on_durable=lambda stream, sequence: self.durable.__setitem__(stream, sequence),
            open_directory=lambda path, create=False: self.disk.directory(str(path)),
        )  # fmt: skip

    def _settings(self, name: str) -> RingSettings:
        return RingSettings(
            name,
            Path("/rings") / name,
            SEGMENTS * SEGMENT_BYTES,
            segment_bytes=SEGMENT_BYTES,
            hold_bytes=2 * SEGMENT_BYTES,
        )

    def play(self, visit: Callable[[Box], None]) -> None:
        """Record with reconnects, new parameter sets, holds, and a clock that is set twice. Raises the first failed assertion."""
        failures: list[BaseException] = []

        def after_call() -> None:
            if not failures:
                try:
                    visit(self)
                except AssertionError as failure:  # the syncer outlives exceptions, so it is kept for the end
                    failures.append(failure)

        self.disk.after_call = after_call
        self.syncer.open()
        began_ns = self.clock.mono_ns()
        next_burst_ns = began_ns
        gops = {name: self.random.choice((12, 25, 25, 50, 100)) for name in self.names}
        ticks = dict.fromkeys(self.names, 0)
        lengths = dict.fromkeys(self.names, 0)
        for picture in range(PICTURES):
            self.clock.advance(PICTURE_NS)
            if picture == PICTURES // 4:  # NTP answers: years forward
                self.clock.set_wall(1_800_000_000 * NS_PER_S, ClockState.SYNCED, 1_000_000)
            if picture == PICTURES // 2:  # somebody sets it back by 40 minutes
                self.clock.set_wall(self.clock.read().wall_ns - 2400 * NS_PER_S, ClockState.PLAUSIBLE, NS_PER_S)
            if picture == PICTURES // 3:
                self._hold(self.names[2])
            if picture == PICTURES * 2 // 3:
                holds.release(self.holds_path, "evidence")
                self.held.clear()
            for name in self.names:
                if lengths[name] == 0 and (name not in self.began or self.random.random() < 0.003):
                    other = self.random.random() < 0.2 and name in self.began
                    self.writers[name].start_run(OTHER_STARTED if other else STARTED, self.clock.read())
                    self.began.add(name)
                    ticks[name] = 0
                is_keyframe = lengths[name] == 0
                size = self.random.randrange(300, 900) * (3 if is_keyframe else 1)
                unit = unit_of(
                    self.random.randbytes(size), ticks[name], self.clock.mono_ns(), is_keyframe=is_keyframe, pieces=2
                )
                self.writers[name].push(unit, self.clock.read())
                ticks[name] += TICKS
                lengths[name] = (lengths[name] + 1) % gops[name]
            if self.clock.mono_ns() >= next_burst_ns:
                next_burst_ns = self.clock.mono_ns() + round(self.syncer.interval_s() * NS_PER_S)
                self.syncer.burst()
            elif picture % 12 == 0:
                self.syncer._keep()  # segments are prepared when the writers ask for them
        self.disk.after_call = lambda: None
        if failures:
            raise failures[0]

    def _hold(self, name: str) -> None:
        """Keep what the newest durable second or two holds, by sequence: the clock is about to be set."""
        last = self.durable[name]
        self.held = {name: range(max(1, last - 2), last + 1)}
        holds.add(self.holds_path, Hold("evidence", name, 0, 0, "a test", max(1, last - 2), last))

    def directory(self, disk: MemoryDisk, name: str) -> MemoryDirectory:
        return disk.directory(f"/rings/{name}")

    def laps(self, name: str) -> list[int]:
        directory = self.directory(self.disk, name)
        opened = Index.open(directory)  # type: ignore[arg-type]
        states = (opened.state(number) for number in range(opened.slots()))
        return [state.lap for state in states if state is not None]

    def records(self, disk: MemoryDisk, name: str) -> dict[int, int]:
        """Sequence numbers of all fragments on the disk, and when each ended (mono ns)."""
        directory = self.directory(disk, name)
        if "index" not in directory.names():
            return {}
        opened = Index.open(directory)  # type: ignore[arg-type]
        found: dict[int, int] = {}
        for file in directory.names():
            number = layout.segment_number(file)
            if number is not None:
                fd = directory.open(file)
                for row in walk(directory, fd, name, number, opened.segment_bytes).rows:  # type: ignore[arg-type]
                    found[row.record.sequence] = row.record.mono_ns + row.record.duration_ns
        return found

    def cut(self, name: str, fate: PageFate, *, names_kept: bool, note: str, before: dict[int, int]) -> int:
        """The power goes now: recover one stream and hold it to promises 1 to 3. Milliseconds of it that are lost."""
        after = self.disk.cut(fate, names_kept=names_kept)
        durable = {sequence for sequence in before if sequence <= self.durable[name]}
        ring = open_ring(
            self.directory(after, name), self._settings(name), box_id=BOX.box_id, boot_id=bytes(16),  # type: ignore[arg-type]
            sign=BOX.sign, public_key=BOX.public_bytes,
        )  # fmt: skip
        assert not ring.recovered.unreadable, note
        found = self.records(after, name)
        assert durable <= set(found), f"{note}: durable fragments {sorted(durable - set(found))} are gone"
        # Footage whose place was being used again may come back; the fragment being closed may be there, and none after it.
        assert max(found, default=0) <= self.writers[name].sequence + 1, (
            f"{note}: fragment {max(found)} was never written"
        )
        for held in self.held.get(name, ()):
            assert held in found, f"{note}: held fragment {held} was recycled"
        assert check_ring(self.directory(after, name), name) == [], note  # type: ignore[arg-type]
        copy = after.cut(kept)
        index.rebuild_ring(self.directory(copy, name), name)  # type: ignore[arg-type]
        assert self._slots(copy, name) == self._slots(after, name), f"{note}: the rebuilt index differs"
        if name not in self.began:
            return 0
        end_ns = found[max(found)] if found else self._first_ns
        lost_ms = (self.clock.mono_ns() - end_ns) // 1_000_000
        assert lost_ms <= LOSS_BOUND_S * 1000, f"{note}: {lost_ms} ms are lost"
        return max(lost_ms, 0)

    @property
    def _first_ns(self) -> int:
        return 1_000_000_000

    def _slots(self, disk: MemoryDisk, name: str) -> dict[int, bytes]:
        directory = self.directory(disk, name)
        opened = Index.open(directory)  # type: ignore[arg-type]
        numbers = [n for n in map(layout.segment_number, directory.names()) if n is not None]
        return {number: opened.raw(number) for number in numbers}


def campaign(seed: int, cuts: int, work: Path) -> Outcome:
    """About `cuts` cut points spread over a recording; at each, some streams are recovered, now and then all."""
    calls = _calls(seed, work)
    rng = random.Random(seed + 1000)
    outcome = Outcome()
    fates: list[tuple[str, Callable[[], PageFate]]] = [
        ("all kept", lambda: kept), ("all lost", lambda: lost), ("all zeroed", lambda: zeroed), ("torn", lambda: torn(rng)),
        ("versions", lambda: any_version(rng)), ("mixed", lambda: mixed(rng)), ("mixed again", lambda: mixed(rng)),
    ]  # fmt: skip
    per_visit = 4
    share = cuts / per_visit / calls
    number = 0

    def visit(box: Box) -> None:
        nonlocal number
        number += 1
        if rng.random() >= share:
            return
        for which in range(per_visit):
            name, fate = rng.choice(fates)
            streams = box.names if outcome.cuts % 50 == 0 else [rng.choice(box.names)]
            for stream in streams:
                before = box.records(box.disk, stream)
                if not before and "index" not in box.directory(box.disk, stream).names():
                    continue
                note = f"seed {seed}, call {number}, cut {which}, {stream}, {name}"
                outcome.loss_ms.append(box.cut(stream, fate(), names_kept=rng.random() < 0.7, note=note, before=before))
                outcome.recoveries += 1
            outcome.cuts += 1

    Box(seed, work).play(visit)
    return outcome


def _calls(seed: int, work: Path) -> int:
    box = Box(seed, work)
    calls = 0

    def count(_: Box) -> None:
        nonlocal calls
        calls += 1

    box.play(count)
    laps = [max(box.laps(name)) for name in box.names]
    assert min(laps) >= 2, f"no ring goes round: laps {laps}"
    used = sum(len(file.data) for file in box.disk.files.values())
    assert used < STREAMS * (SEGMENTS + 4) * SEGMENT_BYTES + STREAMS * 64 * PAGE_BYTES, "rings are bounded"
    return calls


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cuts", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # each repair has its line
    with tempfile.TemporaryDirectory() as work:
        outcome = campaign(options.seed, options.cuts, Path(work))
    print(f"{outcome.cuts} cut points, {outcome.recoveries} rings recovered, loss bound {LOSS_BOUND_S:.0f} s")
    for label, count in outcome.histogram().items():
        print(f"{label:>14}  {count:6}  {'#' * (60 * count // len(outcome.loss_ms))}")


if __name__ == "__main__":
    main()
