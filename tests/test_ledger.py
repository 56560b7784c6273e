"""Every second is recorded or missing with its cause, against an oracle that knows what really happened."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from clocks import record
from hypothesis import given, settings
from hypothesis import strategies as st

from nvr.clock import NS_PER_S
from nvr.journal import Entry, Kind, Story
from nvr.ledger import Part, StreamLedger, account, unbroken
from nvr.media import Cause, ClockReading, ClockState, FragmentRecord
from nvr.timeline import Timeline

T0 = 1_800_000_000  # s
STREAM = "gate/main"
DAY_S = 86_400


class Box:
    """Simulates a box second by second: what it writes, and what really was."""

    def __init__(self) -> None:
        self.now_s = T0
        self.boot = 0
        self.booted_s = T0 - 30
        self.run = 0
        self.sequence = 0
        self.segment = 0
        self.rows: list[FragmentRecord] = []
        self.entries: list[Entry] = []
        self.life: Entry | None = None
        self.truth: dict[int, Cause | None] = {}
        self.state = ClockState.SYNCED

    def reading(self, ago_s: float = 0) -> ClockReading:
        mono_ns = int((self.now_s - self.booted_s - ago_s) * NS_PER_S)
        wall_ns = int((self.now_s - ago_s) * NS_PER_S) if self.state is not ClockState.UNKNOWN else mono_ns
        return ClockReading(mono_ns, wall_ns, self.state, 50_000_000)

    def boot_id(self) -> bytes:
        return self.boot.to_bytes(16, "big")

    def tell(
        self, kind: Kind, cause: Cause | None = None, detail: str = "", ago_s: float = 0, stream: str = ""
    ) -> None:
        self.entries.append(
            Entry(kind, self.boot_id(), self.reading(ago_s), stream, cause, detail, len(self.entries) + 1)
        )

    def start(self, starting_s: int = 3) -> None:
        self.tell(Kind.STARTED)
        self.pass_time(starting_s, Cause.BOX_OFF)

    def pass_time(self, seconds: int, fate: Cause | None) -> None:
        for second in range(seconds):
            self.truth[self.now_s + second] = fate
        self.now_s += seconds

    def record(self, seconds: int) -> None:
        self.tell(Kind.STREAM, stream=STREAM)
        self.run += 1
        for _ in range(seconds):
            self.sequence += 1
            if self.sequence % 60 == 0:
                self.segment += 1
            reading = self.reading()
            row = record(self.boot_id(), self.sequence, reading.mono_ns, reading.wall_ns, self.state, run=self.run)
            self.rows.append(replace(row, segment=self.segment))
            self.pass_time(1, None if self.state is not ClockState.UNKNOWN else Cause.CLOCK_UNKNOWN)

    def miss(self, seconds: int, cause: Cause, noticed_s: int = 5) -> None:
        self.pass_time(min(noticed_s, seconds), cause)
        if seconds > noticed_s:
            self.tell(Kind.STREAM, cause, f"no access unit for {noticed_s} s", stream=STREAM)
            self.pass_time(seconds - noticed_s, cause)

    def cut(self, off_s: int, lost_s: int = 3, reboot: bool = True) -> None:
        """The power fails; the last `lost_s` were not durable."""
        life = Entry(Kind.LIFE, self.boot_id(), self.reading(1.5), detail="cut off")
        del self.rows[len(self.rows) - lost_s :]
        for second in range(lost_s):
            self.truth[self.now_s - 1 - second] = Cause.BOX_OFF
        self.sequence -= lost_s
        self.pass_time(off_s, Cause.BOX_OFF)
        if reboot:
            self.boot += 1
            self.booted_s = self.now_s
        self.entries.append(replace(life, sequence=len(self.entries) + 1))
        self.start()

    def stop(self, off_s: int) -> None:
        self.tell(Kind.STOPPED)
        self.pass_time(off_s, Cause.BOX_OFF)

    def story(self) -> Story:
        return Story(tuple(self.entries), Entry(Kind.LIFE, self.boot_id(), self.reading(1), sequence=9))

    def account(self, from_s: int | None = None, to_s: int | None = None, story: Story | None = None) -> StreamLedger:
        story = self.story() if story is None else story
        timeline = Timeline.from_rows([self.rows], story.samples())
        from_ns = (T0 if from_s is None else from_s) * NS_PER_S
        to_ns = (self.now_s if to_s is None else to_s) * NS_PER_S
        return account(STREAM, unbroken(self.rows), story, timeline, from_ns, to_ns, now_ns=self.now_s * NS_PER_S)


def by_second(ledger: StreamLedger) -> dict[int, Cause | None]:
    return {
        second: part.cause
        for part in ledger.parts
        for second in range(
            -(-(part.from_ns - NS_PER_S // 2) // NS_PER_S), -(-(part.to_ns - NS_PER_S // 2) // NS_PER_S)
        )
    }


def check(box: Box) -> StreamLedger:
    ledger = box.account()
    assert by_second(ledger) == box.truth
    assert sum(ledger.by_cause_ns().values()) + ledger.recorded_ns == ledger.total_ns
    return ledger


def test_a_day_with_faults_agrees_with_what_really_happened_second_by_second():
    box = Box()
    box.start()
    box.record(3600)
    box.miss(47, Cause.CAMERA)
    box.record(5000)
    box.miss(3, Cause.NETWORK, noticed_s=1)
    box.record(100)
    box.cut(off_s=1800)
    box.record(10_000)
    box.miss(600, Cause.DISK_FULL, noticed_s=0)
    box.record(20_000)
    box.cut(off_s=7, reboot=False)
    box.record(2_000)
    box.stop(off_s=3_000)
    box.start(1)
    box.record(DAY_S - (box.now_s - T0))
    ledger = check(box)
    assert ledger.total_ns == DAY_S * NS_PER_S
    assert ledger.by_cause_ns() == {
        Cause.BOX_OFF: (3 + 3 + 1800 + 3 + 3 + 7 + 3 + 3000 + 1) * NS_PER_S,
        Cause.DISK_FULL: 600 * NS_PER_S,
        Cause.CAMERA: 47 * NS_PER_S,
        Cause.NETWORK: 3 * NS_PER_S,
    }
    details = {part.detail for part in ledger.gaps()}
    assert {"cut off", "stopped", "starting", "not durable when it ended", "no access unit for 5 s"} <= details


@pytest.mark.parametrize("seed", range(25))
def test_random_days_agree_with_what_really_happened(seed):
    rng = random.Random(seed)
    box = Box()
    box.start(rng.randint(0, 4))
    box.record(rng.randint(5, 500))
    while box.now_s < T0 + 6000:
        what = rng.randrange(4)
        if what == 0:
            box.miss(rng.randint(8, 300), rng.choice([Cause.CAMERA, Cause.NETWORK, Cause.DISK_SLOW, Cause.HELD_BACK]))
        elif what == 1:
            box.cut(rng.randint(1, 900), rng.randint(0, 4), reboot=rng.random() < 0.7)
        elif what == 2:
            box.stop(rng.randint(0, 50))
            box.boot += 1
            box.booted_s = box.now_s - rng.randint(0, 20)
            box.start()
        box.record(rng.randint(5, 500))
    check(box)
    for _ in range(20):
        from_s = rng.randint(T0 - 100, box.now_s - 1)
        ledger = box.account(from_s, rng.randint(from_s + 1, box.now_s + 50))
        seconds = by_second(ledger)
        assert {s: c for s, c in seconds.items() if s >= T0} == {s: c for s, c in box.truth.items() if s in seconds}
        assert sum(ledger.by_cause_ns().values()) + ledger.recorded_ns == ledger.total_ns


def test_what_the_ring_used_again_is_recycled_and_what_was_missing_then_keeps_its_cause():
    box = Box()
    box.start(0)
    box.record(300)
    box.miss(60, Cause.CAMERA, noticed_s=0)
    box.record(300)
    box.rows = [row for row in box.rows if row.sequence > 420]
    ledger = box.account()
    assert ledger.by_cause_ns() == {Cause.RECYCLED: 420 * NS_PER_S, Cause.CAMERA: 60 * NS_PER_S}
    assert ledger.recorded_ns == 180 * NS_PER_S


def test_held_footage_stays_and_what_was_recycled_around_it_is_said():
    box = Box()
    box.start(0)
    box.record(1200)
    kept = {2, 3, 4, 15, 16, 17, 18, 19, 20}
    box.rows = [row for row in box.rows if row.segment in kept]
    ledger = box.account()
    assert set(ledger.by_cause_ns()) == {Cause.RECYCLED}
    assert ledger.recorded_ns == len(box.rows) * NS_PER_S


def test_a_damaged_fragment_in_the_middle_of_a_segment_is_the_disk():
    box = Box()
    box.start(0)
    box.record(50)
    del box.rows[20]
    ledger = box.account()
    assert [(part.cause, part.length_ns) for part in ledger.gaps()] == [(Cause.DISK_FAILED, NS_PER_S)]


def test_pictures_that_did_not_come_within_a_run_are_the_cameras():
    box = Box()
    box.start(0)
    box.record(50)
    box.rows = box.rows[:20] + [replace(row, mono_ns=row.mono_ns + 4 * NS_PER_S) for row in box.rows[20:]]
    box.now_s += 4
    assert box.account().by_cause_ns() == {Cause.CAMERA: 4 * NS_PER_S}


def test_rounding_between_fragments_is_no_gap_and_nothing_is_counted_twice():
    """29.97 pictures a second: 3003 ticks each; and box time slewed after a drifting camera."""
    box = Box()
    box.start(0)
    box.record(600)
    rng = random.Random(3)
    mono_ns, rows = box.rows[0].mono_ns, []
    for row in box.rows:
        rows.append(replace(row, mono_ns=mono_ns, duration_ticks=30 * 3003, pictures=30))
        mono_ns += rows[-1].duration_ns + rng.randint(-10_000_000, 10_000_000)
    box.rows = rows
    box.now_s = T0 + 599
    ledger = box.account()
    assert ledger.missing_ns == 0
    assert len(unbroken(rows)) == 1


def test_a_boot_that_never_learned_the_time_is_accounted_for_separately():
    box = Box()
    box.start(0)
    box.record(100)
    box.cut(off_s=0, lost_s=0)
    box.entries.pop()  # its STARTED, told by a clock in 1970
    box.now_s -= 3
    box.state = ClockState.UNKNOWN
    box.tell(Kind.STARTED)
    box.record(200)
    life = Entry(Kind.LIFE, box.boot_id(), box.reading(0), sequence=len(box.entries) + 1)
    box.entries.append(life)
    box.pass_time(1000, Cause.BOX_OFF)
    box.boot, box.booted_s, box.state = 2, box.now_s, ClockState.SYNCED
    box.start(0)
    box.record(100)
    ledger = box.account()
    assert ledger.recorded_ns == 200 * NS_PER_S
    causes = ledger.by_cause_ns()
    assert causes[Cause.CLOCK_UNKNOWN] == 200 * NS_PER_S
    assert set(causes) == {Cause.CLOCK_UNKNOWN, Cause.BOX_OFF}
    part = next(part for part in ledger.parts if part.cause is Cause.CLOCK_UNKNOWN)
    assert part.error_ns >= 1000 * NS_PER_S
    assert part.state is ClockState.UNKNOWN


def test_footage_without_time_that_lies_elsewhere_is_counted_beside_the_sum():
    box = Box()
    box.state = ClockState.UNKNOWN
    box.booted_s = T0
    box.start(0)
    box.record(50)
    ledger = box.account()
    assert ledger.unplaced_ns == 50 * NS_PER_S


def test_without_a_journal_gaps_are_not_known():
    box = Box()
    box.start(0)
    box.record(100)
    box.miss(60, Cause.CAMERA)
    box.record(100)
    ledger = box.account(from_s=T0 - 50, story=Story())
    assert ledger.by_cause_ns() == {Cause.NOT_KNOWN: 110 * NS_PER_S}


def test_a_journal_that_began_anew_does_not_explain_what_was_before():
    box = Box()
    box.start(0)
    box.record(100)
    box.miss(60, Cause.CAMERA)
    box.record(100)
    box.entries.clear()
    box.tell(Kind.STARTED)
    box.record(100)
    assert box.account().by_cause_ns() == {Cause.NOT_KNOWN: 60 * NS_PER_S}


def test_damaged_entries_leave_their_stretch_not_known():
    box = Box()
    box.start(0)
    box.record(100)
    box.miss(60, Cause.CAMERA, noticed_s=2)
    box.record(100)
    entries = tuple(entry for entry in box.entries if entry.cause is not Cause.CAMERA)
    gap = box.entries.index(next(entry for entry in box.entries if entry.cause is Cause.CAMERA)) + 1
    ledger = box.account(story=replace(box.story(), entries=entries, missing=((gap, gap),)))
    assert ledger.by_cause_ns() == {Cause.NOT_KNOWN: 60 * NS_PER_S}


def test_a_recorder_that_died_and_was_never_started_again_is_off_since_its_last_sign_of_life():
    box = Box()
    box.start(0)
    box.record(100)
    story = box.story()
    box.now_s += 5000
    ledger = box.account(story=story)
    assert ledger.by_cause_ns() == {Cause.BOX_OFF: 5000 * NS_PER_S}


def test_the_fragment_that_is_being_written_is_neither_recorded_nor_missing():
    box = Box()
    box.start(0)
    box.record(100)
    box.now_s += 2
    ledger = box.account()
    assert ledger.missing_ns == 0
    assert ledger.to_ns == (T0 + 100) * NS_PER_S
    assert box.account(to_s=T0 + 10_000).to_ns == (T0 + 100) * NS_PER_S, "nor is the future"


def test_what_a_slow_disk_holds_up_is_on_its_way_until_it_is_known_to_be_missing():
    """Recording waited for the disk: the journal says so before anybody knows what a camera left out meanwhile."""
    box = Box()
    box.start()
    box.record(20)
    box.tell(Kind.STREAM, Cause.DISK_SLOW, "recording waited 8 s", stream=STREAM)
    box.pass_time(8, Cause.DISK_SLOW)
    held_up = box.account()
    assert held_up.by_cause_ns() == {Cause.BOX_OFF: 3 * NS_PER_S} and held_up.to_ns == (box.now_s - 8) * NS_PER_S
    box.record(10)  # and what it did not hold is missing because of the disk
    assert by_second(check(box))[T0 + 25] is Cause.DISK_SLOW


def test_a_camera_added_later_is_not_missing_before():
    box = Box()
    box.start(0)
    box.tell(Kind.STREAM, stream="yard/main")
    box.pass_time(1000, Cause.BOX_OFF)
    box.stop(10)
    box.start(0)
    box.record(100)
    ledger = box.account()
    assert {part.detail for part in ledger.gaps()} == {"before this stream was first recorded"}
    assert ledger.since_the_first().missing_ns == 0
    assert ledger.since_the_first().recorded_ns == ledger.recorded_ns
    assert ledger.since_the_first().since_the_first() == ledger.since_the_first()


def test_a_stream_nobody_knows_has_one_part():
    ledger = account("no/main", [], Story(), Timeline.from_samples([]), 0, 10, now_ns=100)
    assert [(part.cause, part.length_ns) for part in ledger.parts] == [(Cause.NOT_KNOWN, 10)]
    assert account("no/main", [], Story(), Timeline.from_samples([]), 10, 0, now_ns=100).parts == ()


def test_parts_that_overlap_or_leave_a_hole_are_refused():
    with pytest.raises(ValueError, match="does not follow"):
        StreamLedger(STREAM, 0, 10, (Part(0, 4, None), Part(5, 10, None)))
    with pytest.raises(ValueError, match="does not follow"):
        StreamLedger(STREAM, 0, 10, (Part(0, 6, None), Part(5, 10, None)))
    with pytest.raises(ValueError, match="ends at"):
        StreamLedger(STREAM, 0, 10, (Part(0, 4, None),))


def test_the_json_has_the_documented_keys():
    box = Box()
    box.start(0)
    box.record(100)
    box.miss(60, Cause.CAMERA)
    box.record(40)
    assert box.account().to_json() == {
        "stream": STREAM,
        "total_s": 200.0,
        "recorded_s": 140.0,
        "missing_s": 60.0,
        "by_cause": {"camera": 60.0},
    }


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([None, *Cause]), st.integers(1, 10**12)), max_size=30))
def test_the_json_sums_to_the_total_to_the_millisecond(lengths):
    parts, at_ns = [], 0
    for cause, length_ns in lengths:
        parts.append(Part(at_ns, at_ns + length_ns, cause))
        at_ns += length_ns
    told = StreamLedger(STREAM, 0, at_ns, tuple(parts)).to_json()
    ms = {name: round(told[name] * 1000) for name in ("total_s", "recorded_s", "missing_s")}
    assert ms["recorded_s"] + ms["missing_s"] == ms["total_s"]
    assert sum(round(seconds * 1000) for seconds in told["by_cause"].values()) == ms["missing_s"]
    assert abs(told["total_s"] - at_ns / 1e9) <= 0.001
    assert min([0, *told["by_cause"].values()]) >= 0
