"""What every source must do, whatever it reads from. A kind of source passes it by a subclass with a `rig` fixture:

class TestRtspOverTcp(SourceSuite):
    @pytest.fixture
    def rig(self, film): ...yield Rig(...)
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pretend import nal_units

from nvr.clock import SystemClock
from nvr.media import AccessUnit, Cause, RunEnded, RunStarted, StreamEvent
from nvr.source import Source

CLOCK = SystemClock()
PATIENCE_S = 60  # for a machine that does much else; a good one needs a second or two


@dataclass
class Rig:
    """One kind of source with something to read from."""

    make: Callable[[], Source]
    size: tuple[int, int]
    pictures: Callable[[], list[tuple[bytes, ...]]]  # what the first ones of a run must hold, NAL unit by NAL unit
    interrupt: Callable[[], None] | None = None  # None: nothing can interrupt it
    causes: tuple[Cause, ...] = (Cause.CAMERA, Cause.NETWORK)
    secrets: tuple[str, ...] = ()


@dataclass
class Drained:
    """Everything a source gave so far, and how long the longest drain took."""

    source: Source
    events: list[StreamEvent] = field(default_factory=list)
    longest_s: float = 0.0
    rate: float = 1.0  # how much faster time goes by for the source
    _start_ns: int = field(default_factory=CLOCK.mono_ns)

    def now_ns(self) -> int:
        return self._start_ns + int((CLOCK.mono_ns() - self._start_ns) * self.rate)

    def until(self, is_enough: Callable[[], bool], what: str) -> None:
        drain_together([self], is_enough, what)

    def once(self) -> None:
        before = time.monotonic()
        self.events += self.source.drain(self.now_ns())
        self.longest_s = max(self.longest_s, time.monotonic() - before)

    def until_pictures(self, count: int) -> list[AccessUnit]:
        self.until(lambda: len(self.units()) >= count, f"{count} pictures")
        return self.units()

    def units(self) -> list[AccessUnit]:
        return [event for event in self.events if isinstance(event, AccessUnit)]

    def of(self, kind: type) -> list[StreamEvent]:
        return [event for event in self.events if isinstance(event, kind)]

    def summary(self) -> str:
        return (
            str([event for event in self.events if not isinstance(event, AccessUnit)])
            + f" and {len(self.units())} pictures"
        )


def drain_together(all_of_them: Sequence[Drained], is_enough: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not is_enough():
        if time.monotonic() > end:
            seen = "; ".join(f"{each.summary()}, {each.source.facts()}" for each in all_of_them)
            raise AssertionError(f"no {what} within {PATIENCE_S} s: {seen}")
        for each in all_of_them:
            each.once()
        time.sleep(0.01)


def bytes_of(unit: AccessUnit) -> bytes:
    return b"".join(bytes(view) for view in unit.payload.views())


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


def children() -> list[str]:
    return [line for task in Path("/proc/self/task").iterdir() for line in (task / "children").read_text().split()]


class SourceSuite:
    """Subclasses give the `rig`."""

    @pytest.fixture
    def drained(self, rig: Rig):
        source = rig.make()
        yield Drained(source)
        source.close()

    def test_a_run_starts_with_its_parameter_sets_and_a_keyframe_at_tick_0(self, rig, drained):
        drained.until_pictures(2)
        while isinstance(drained.events[0], RunEnded):
            del drained.events[0]  # why there is no run yet may be said before
        started, first = drained.events[:2]
        assert isinstance(started, RunStarted) and isinstance(first, AccessUnit)
        assert (started.width, started.height) == rig.size
        assert started.parameter_sets.sps[0][0] & 31 == 7 and started.parameter_sets.pps[0][0] & 31 == 8
        assert first.is_keyframe and first.decode_ticks == 0

    def test_ticks_rise_strictly_and_arrival_never_goes_back(self, drained):
        units = drained.until_pictures(40)
        ticks = [unit.decode_ticks for unit in units]
        assert all(before < after for before, after in itertools.pairwise(ticks))
        arrivals = [unit.arrival_ns for unit in units]
        assert all(before <= after for before, after in itertools.pairwise(arrivals))
        assert arrivals[-1] <= CLOCK.mono_ns()
        assert all(unit.composition_ticks >= 0 for unit in units)

    def test_every_nal_unit_is_delivered_byte_for_byte(self, rig, drained):
        units = drained.until_pictures(30)
        expected = rig.pictures()[: len(units)]
        assert len(expected) >= 30
        for number, (unit, nals) in enumerate(zip(units, expected, strict=False)):
            assert nal_units(bytes_of(unit)) == list(nals), f"picture {number}"
        assert sum(unit.lost_packets for unit in units) == 0

    def test_a_payload_stays_as_it_is_while_others_are_received(self, drained):
        units = list(drained.until_pictures(5))
        as_received = [bytes_of(unit) for unit in units]
        drained.until_pictures(len(units) + 30)
        assert [bytes_of(unit) for unit in units] == as_received

    def test_after_an_interruption_the_run_ends_with_a_cause_and_another_begins(self, rig, drained):
        if rig.interrupt is None:
            pytest.skip("nothing interrupts a file")
        drained.until_pictures(3)
        before = len(drained.events)
        rig.interrupt()
        drained.until(lambda: any(isinstance(each, RunEnded) for each in drained.events[before:]), "end of the run")
        ended = next(each for each in drained.events[before:] if isinstance(each, RunEnded))
        assert ended.cause in rig.causes and ended.detail and not ended.is_final
        assert not any(secret in ended.detail for secret in rig.secrets)
        at = drained.events.index(ended)
        drained.until(
            lambda: any(isinstance(each, AccessUnit) for each in drained.events[at:]), "picture of another run"
        )
        later = [each for each in drained.events[at:] if not isinstance(each, RunEnded)]
        assert isinstance(later[0], RunStarted)
        assert isinstance(later[1], AccessUnit) and later[1].is_keyframe and later[1].decode_ticks == 0

    def test_close_leaves_no_descriptor_and_no_process_behind(self, rig):
        fds, processes = open_fds(), children()
        source = rig.make()
        drained = Drained(source)
        drained.until_pictures(2)
        source.close()
        drained.events.clear()  # payloads may be views of a file
        assert children() == processes
        assert open_fds() == fds

    def test_close_is_allowed_before_anything_has_begun_and_twice(self, rig):
        fds = open_fds()
        source = rig.make()
        source.close()
        source.close()
        source = rig.make()
        source.drain(CLOCK.mono_ns())
        source.close()
        assert open_fds() == fds

    def test_drain_never_waits(self, rig, drained):
        """The bound is far above what any drain takes and far below any timeout of a camera, name server or process."""
        drained.until_pictures(20)
        if rig.interrupt is not None:
            rig.interrupt()
            drained.until(lambda: bool(drained.of(RunEnded)), "end of the run")
        assert drained.longest_s < 2.5

    def test_facts_can_be_sent_as_they_are_and_hold_no_password(self, rig, drained):
        drained.until_pictures(2)
        text = json.dumps(drained.source.facts())
        assert "transport" in text or "file" in text
        for secret in rig.secrets:
            assert secret not in text + repr(drained.source)
