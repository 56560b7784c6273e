"""The loop of the record process with sources that go wrong: a fault of one stream stays with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from clocks import ManualClock

from nvr import recorder
from nvr.gather import Gather
from nvr.media import AccessUnit, Cause, ParameterSets, RunStarted
from nvr.recorder import RecordedStream, Recorder, Settings

SETS = ParameterSets(
    sps=(bytes.fromhex("6742c01eda0280bfe5c044000003000400000300c83c58ba80"),), pps=(bytes.fromhex("68ce3c80"),)
)


class Scripted:
    """A source with a picture in every drain; `composition_ticks` are as wrong as its test wants."""

    def __init__(self, composition_ticks: int = 0) -> None:
        self.composition_ticks = composition_ticks
        self.pictures = 0

    def drain(self, now_ns: int) -> list[object]:
        gather = Gather()
        gather.append(memoryview(b"\0\0\0\5\x65abcd"))
        unit = AccessUnit(gather, self.pictures * 9000, self.composition_ticks, now_ns, self.pictures % 10 == 0)
        self.pictures += 1
        return [unit] if self.pictures > 1 else [RunStarted(SETS, 640, 360), unit]

    def close(self) -> None:
        pass

    def may_wait(self) -> int:
        return 0

    def facts(self) -> dict[str, object]:
        return {}


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sources = {"bad/main": lambda: Scripted(-1), "good/main": Scripted}
    monkeypatch.setattr(recorder, "source_of", lambda settings, arena: sources[settings.name]())
    streams = tuple(RecordedStream(name, {"kind": "scripted"}, 16 << 20) for name in sources)
    made = Recorder(Settings(str(tmp_path), 5.0, streams), clock=ManualClock())
    made.syncer.open()
    yield made
    made._shut_down()


def test_a_fragment_that_cannot_be_closed_costs_its_own_stream_only(box):
    """Closing it was tried again while giving the source up, failed again, and ended the process: for every camera."""
    for _ in range(400):
        box.turn()
        box.clock.advance(100_000_000)
        if box.clock.mono_ns() % 2_000_000_000 == 0:
            box.syncer.burst()
    bad, good = (stream for stream in box.streams)
    assert good.writer.dropped == {} and good.writer.sequence >= 38
    assert bad.writer.sequence == 0 and sum(bad.writer.dropped.values()) > 10
    told = box.status()["streams"]["bad/main"]
    assert told["cause"] == Cause.CAMERA.value and "ValueError" in told["detail"]
