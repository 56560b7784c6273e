"""A recorder on a disk that takes seconds: the loop that records waits for no sync, memory holds what a write holds up, and it is said."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.running import RunningRecorder, children_of, free_port, replays

from nvr import journal
from nvr.clock import SystemClock, boot_id
from nvr.ledger import ledger
from nvr.media import Cause
from nvr.recorder import Settings
from nvr.ring import check
from nvr.ring.reader import Ring, streams
from nvr.stream import RecordedStream
from tools.city.simulator.edge import Edge, NoCompiler, library
from tools.city.simulator.truth import sent_of
from tools.city.simulator.world import Cameras, kill_group

pytestmark = pytest.mark.slow

SYNC_MS = WRITE_MS = 5000


@pytest.fixture
def edge(tmp_path) -> Edge:
    """Named as what it is: an edge of the program (LD_PRELOAD), not a device; the kernel's own disk below is healthy."""
    try:
        return Edge(library(tmp_path), tmp_path / "edge", tmp_path / "data")
    except NoCompiler as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def footage(tmp_path_factory) -> list[Path]:
    pytest.importorskip("av", reason="PyAV makes the footage")
    from tools.scenes import demo_footage

    return demo_footage.write_all(tmp_path_factory.mktemp("footage"), length_s=4)[:3]


def is_slow(recorder: RunningRecorder) -> bool:
    return bool(recorder.status.get("disk_slow"))


def test_syncs_that_take_five_seconds_cost_no_picture_and_are_named(tmp_path, edge, footage):
    recorder = RunningRecorder(
        replays(tmp_path / "data", footage, 64 << 20), tmp_path / "log", environment=edge.environment()
    )
    try:
        assert recorder.listen(90, lambda: len(recorder.announced) == len(footage))
        assert not is_slow(recorder)
        edge.set(sync_ms=SYNC_MS)
        assert recorder.listen(120, lambda: is_slow(recorder)), "a sync that has not ended is told already"
        assert "a power cut would cost up to" in recorder.status["disk_slow"]
        have = {stream: len(told) for stream, told in recorder.announced.items()}
        assert recorder.listen(
            120, lambda: all(len(told) >= have[stream] + 15 for stream, told in recorder.announced.items())
        )
        edge.set_card("")
        assert recorder.listen(180, lambda: not is_slow(recorder)), "it is healthy again"
        status = recorder.status
        assert recorder.stop(120) == 0
    finally:
        kill_group_of(recorder)
    assert status["sync"]["longest_burst_s"] >= SYNC_MS / 1000 * len(footage)
    assert all(stream["ring"]["dropped"] == {} for stream in status["streams"].values())
    assert check.check(tmp_path / "data") == []
    for path in streams(tmp_path / "data").values():
        with contextlib.closing(Ring(path)) as ring:
            numbers = [row.record.sequence for row in ring.rows()]
        assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) >= 15


@pytest.fixture
def cameras(tmp_path, footage) -> Iterator[Cameras]:
    found = Cameras(
        "box", ["a", "b"], [str(path) for path in footage[:2]], free_port(), tmp_path / "sent", tmp_path / "cameras.log"
    )
    found.start()
    yield found
    assert found.part is not None
    kill_group(found.part.process)


def settings_of(cameras: Cameras, tmp_path: Path) -> Settings:
    return Settings(
        data_dir=str(tmp_path / "data"),
        loss_bound_s=5.0,
        streams=tuple(
            RecordedStream(
                name=f"{name}/main",
                source={"kind": "rtsp", "url": f"rtsp://127.0.0.1:{cameras.port}/{name}", "stall_s": 10.0},
                ring_bytes=64 << 20,
            )
            for name in cameras.names
        ),
    )


@pytest.mark.parametrize(("slow_s", "loses"), [(1, False), (20, True)])
def test_writes_that_take_five_seconds_are_held_by_memory_and_named(tmp_path, edge, cameras, slow_s, loses):
    """What comes meanwhile waits in the sockets, some seconds of it. What a camera leaves out because nobody reads is missing because of the
    disk: until the city simulator asked, the ledger said "camera: no pictures came"."""
    recorder = RunningRecorder(settings_of(cameras, tmp_path), tmp_path / "log", environment=edge.environment())
    try:
        assert recorder.listen(90, lambda: len(recorder.announced) == 2)
        begun_s = time.time() + 1
        edge.set(write_ms=WRITE_MS)
        # A recorder that writes once a second or two: not every second has a write in it.
        assert recorder.listen(60, lambda: edge.held() > 0)
        recorder.listen(slow_s)
        edge.set_card("")
        assert recorder.listen(120, lambda: is_slow(recorder)), (tmp_path / "log").read_text()[-2000:]
        assert "recording waited" in recorder.status["disk_slow"]
        ended_s = time.time()
        assert recorder.listen(
            120, lambda: all(told[-1][1].wall_ns / 1e9 > ended_s + 2 for told in recorder.announced.values())
        )
        assert recorder.stop(120) == 0
    finally:
        kill_group_of(recorder)
    assert check.check(tmp_path / "data") == []
    sent = sent_of((tmp_path / "sent").read_text().splitlines())
    for account in ledger(tmp_path / "data", now=SystemClock().read(), boot_id=boot_id()):
        gaps = [part for part in account.gaps() if part.to_ns / 1e9 > begun_s]
        assert {part.cause for part in gaps} <= ({Cause.DISK_SLOW} if loses else set()), gaps
        assert sum(part.length_ns for part in gaps) / 1e9 < slow_s + WRITE_MS / 1000 * len(cameras.names)
        wanted = sum(sent[account.stream.partition("/")[0]].sent.values())
        # What the recorder was given it has recorded, but for what was on its way at the end, and the GOPs that begin and end the gap.
        assert recorded_pictures(tmp_path / "data", account.stream) == pytest.approx(wanted, abs=120 if loses else 60)


def test_a_recorder_that_does_not_get_to_run_says_so_and_blames_no_camera(tmp_path, cameras):
    """Stopped for 20 s, as a box is that has other things to do. No disk was slow."""
    recorder = RunningRecorder(settings_of(cameras, tmp_path), tmp_path / "log")
    try:
        assert recorder.listen(90, lambda: len(recorder.announced) == 2)
        recorder.listen(3)
        begun_s = time.time() - 2
        os.kill(recorder.process.pid, signal.SIGSTOP)
        time.sleep(20)
        os.kill(recorder.process.pid, signal.SIGCONT)
        ended_s = time.time()
        assert recorder.listen(60, lambda: bool(recorder.status.get("box_busy"))), (tmp_path / "log").read_text()[
            -2000:
        ]
        assert not is_slow(recorder)
        assert recorder.listen(
            120, lambda: all(told[-1][1].wall_ns / 1e9 > ended_s + 15 for told in recorder.announced.values())
        )
        assert recorder.stop(120) == 0
    finally:
        kill_group_of(recorder)
    entries = journal.read(tmp_path / "data" / "journal").entries
    for account in ledger(tmp_path / "data", now=SystemClock().read(), boot_id=boot_id()):
        causes = [entry.cause for entry in entries if entry.stream == account.stream]
        assert causes[-2:] == [Cause.BOX_BUSY, None], causes
        # What two small cameras send in this time is kept by their sockets; a large one loses some of it.
        assert {part.cause for part in account.gaps() if part.to_ns / 1e9 > begun_s} <= {Cause.BOX_BUSY}


def recorded_pictures(data_dir: Path, stream: str) -> int:
    with contextlib.closing(Ring(streams(data_dir)[stream])) as ring:
        return sum(row.record.pictures for row in ring.rows())


def kill_group_of(recorder: RunningRecorder) -> None:
    if recorder.process.poll() is None:
        assert not children_of(recorder.process.pid)
        recorder.process.kill()
        recorder.process.wait()
