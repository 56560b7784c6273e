"""A box whose clock stands in 1970: it gets in, and learns from the hub when its footage was."""

from __future__ import annotations

import json
import time

import pytest
from clocks import ManualClock
from e2e.running import RunningRecorder

from nvr import journal
from nvr.clock import NS_PER_S, OFFER_NAME, boot_id, offer_reading, offered_reading
from nvr.journal import Journal, JournalFile, Kind
from nvr.media import ClockReading, ClockState
from nvr.recorder import Settings
from nvr.timeline import Timeline
from nvr.uplink.link import HubTime, better, hub_time
from tests.uplink.boxes import EventfulBox, Running, until
from tests.uplink.small_hub import SmallHub, served

BOOT = b"b" * 16
NOW = ClockReading(100 * NS_PER_S, 50 * NS_PER_S, ClockState.UNKNOWN, 0)
HUB_NS = 1_795_000_000 * NS_PER_S


class EarlyClock:
    """Box time goes on; wall time began in 1970, at the start."""

    def mono_ns(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def read(self) -> ClockReading:
        return ClockReading(self.mono_ns(), self.mono_ns(), ClockState.UNKNOWN, 0)

    def sleep_until(self, mono_ns: int) -> None:
        raise AssertionError("nobody sleeps here")


def test_a_box_of_1970_gets_in_by_the_hubs_time_and_offers_it_to_its_recorder(tmp_path):
    """The hub's own clock is an hour ahead of this machine: a token signed by any other clock would be refused."""
    box = EventfulBox(tmp_path)
    hub = SmallHub()
    hub.wall_s = lambda: time.time() + 3600.0
    box.event("intrusion", "present", 12.0)
    with (
        served(tmp_path, hub) as listening,
        Running(box, box.site_file(listening.url, listening.fingerprint), clock=EarlyClock()) as running,
    ):
        until(
            lambda: running.uplink.control.is_connected and hub.heartbeats and hub.objects,
            "it is in, with heartbeat and clip",
        )
        assert hub.heartbeats[0][1]["at_ms"] == 0
        until((box.data_dir / "run" / OFFER_NAME).exists, "the hub's time is offered")
        reading = offered_reading(box.data_dir / "run", boot_id(), EarlyClock().read())
    assert reading is not None and reading.state is ClockState.PLAUSIBLE
    expected_ns = (time.time() + 3600.0) * 1e9 - (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - reading.mono_ns)
    assert abs(reading.wall_ns - expected_ns) <= reading.error_ns
    (told,) = hub.events.values()
    assert told["event"]["from_ms"] == box.written[0].record.wall_ns // 1_000_000 + 12_000


def test_a_recorder_notes_the_offered_time_in_its_journal_once(tmp_path):
    data_dir = tmp_path / "data"
    recorder = RunningRecorder(Settings(str(data_dir), 1.0, ()), tmp_path / "log")
    try:
        until(lambda: recorder.listen(0.2, lambda: bool(recorder.status)), "it runs")
        mono_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        offered = ClockReading(mono_ns, HUB_NS, ClockState.PLAUSIBLE, 300_000_000)
        offer_reading(data_dir / "run", boot_id(), offered)

        def noted() -> list[journal.Entry]:
            return [entry for entry in journal.read(data_dir / "journal").entries if entry.kind is Kind.CLOCK]

        until(noted, "it is noted")
        recorder.listen(2.5)
        assert [(entry.reading, entry.detail) for entry in noted()] == [(offered, "the hub")]
    finally:
        recorder.kill()


def test_footage_of_a_box_that_never_knew_the_time_finds_its_place_by_the_hubs_word(tmp_path):
    clock = ManualClock(mono_ns=10 * NS_PER_S, wall_ns=10 * NS_PER_S, state=ClockState.UNKNOWN)
    written = Journal(JournalFile(tmp_path / "journal", journal.MIN_SIZE_BYTES), BOOT, clock.read())
    for _ in range(30):
        written.note(Kind.CLOCK, clock.read())
        clock.advance(60 * NS_PER_S)
    offered = ClockReading(clock.mono_ns(), HUB_NS, ClockState.PLAUSIBLE, 400_000_000)
    written.note(Kind.CLOCK, offered, "the hub")
    written.sync(clock.read())
    timeline = Timeline.from_samples(journal.read(tmp_path / "journal").samples())
    wall = timeline.wall_of(BOOT, 20 * NS_PER_S)
    assert wall.ns == HUB_NS - (offered.mono_ns - 20 * NS_PER_S)
    assert wall.state is ClockState.PLAUSIBLE and wall.error_ns < 2 * NS_PER_S


def test_a_clock_that_ntp_disciplines_is_believed_before_the_hub():
    """A hub that is hostile, or only wrong, moves no footage of a box that knows the time."""
    from nvr.timeline import ClockSample

    true = ClockSample(BOOT, 100 * NS_PER_S, HUB_NS, ClockState.SYNCED, 50_000_000)
    false = ClockSample(BOOT, 200 * NS_PER_S, HUB_NS + 10**18, ClockState.PLAUSIBLE, 1_000_000)
    assert Timeline.from_samples([true, false]).wall_of(BOOT, 100 * NS_PER_S).ns == HUB_NS


@pytest.mark.parametrize(
    "fields",
    [
        ["00" * 16, 1, HUB_NS, 1, 10**8],  # another boot
        [BOOT.hex(), 101 * NS_PER_S, HUB_NS, 1, 10**8],  # the future
        [BOOT.hex(), -5, HUB_NS, 1, 10**8],
        [BOOT.hex(), 1, 5, 1, 10**8],  # 1970
        [BOOT.hex(), 1, 2**63, 1, 10**8],
        [BOOT.hex(), 1, HUB_NS, 2, 10**8],  # nobody disciplines by it
        [BOOT.hex(), 1, HUB_NS, 1, 0],
        [BOOT.hex(), 1, HUB_NS, 1, 10**18],
        [BOOT.hex(), 1, HUB_NS, 7, 10**8],
        [BOOT.hex(), "x", HUB_NS, 1, 10**8],
        [], {}, None, 5,
    ],
)  # fmt: skip
def test_an_offer_that_cannot_be_is_none(tmp_path, fields):
    (tmp_path / OFFER_NAME).write_text(json.dumps(fields))
    assert offered_reading(tmp_path, BOOT, NOW) is None


def test_an_offer_that_is_good_is_taken_and_garbage_is_not(tmp_path):
    assert offered_reading(tmp_path, BOOT, NOW) is None
    reading = ClockReading(1, HUB_NS, ClockState.PLAUSIBLE, 10**8)
    offer_reading(tmp_path, BOOT, reading)
    assert offered_reading(tmp_path, BOOT, NOW) == reading
    (tmp_path / OFFER_NAME).write_bytes(b"\xff[" * 5000)
    assert offered_reading(tmp_path, BOOT, NOW) is None


def test_the_surer_of_two_answers_counts_until_it_is_old_or_the_hubs_clock_was_set():
    slow, quick = hub_time(0, 2 * NS_PER_S, 1_000_000), hub_time(3 * NS_PER_S, 3 * NS_PER_S + 10**8, 1_002_050)
    assert quick.error_ns < slow.error_ns
    assert better(None, slow) is slow and better(slow, quick) is quick and better(quick, slow) is quick
    old = HubTime(quick.mono_ns + 4000 * NS_PER_S, quick.wall_ns + 4000 * NS_PER_S, slow.error_ns)
    assert better(quick, old) is old
    stepped = HubTime(quick.mono_ns + NS_PER_S, quick.wall_ns + 3600 * NS_PER_S, slow.error_ns)
    assert better(quick, stepped) is stepped
