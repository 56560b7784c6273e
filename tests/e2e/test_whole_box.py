"""A whole box as an operator meets it: cameras over RTSP, `nvr run`, faults, the ledger, clips, and what is refused."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest
from cli.recorded_box import film, program, told
from e2e.running import RunningBox, Supervisor, children_of, free_port
from pretend import PretendCamera

from nvr.journal import Kind, read

SITE = """\
site: test
box: test-1
time_zone: Asia/Jayapura
web: {{listen: 127.0.0.1, port: {port}}}
storage: {{reserve_gb: 0.1}}
cameras:
  street:
    main: {{source: rtsp, url: "{street}"}}
    stall_s: 2
    ring_gb: 0.05
  gate:
    main: {{source: rtsp, url: "{gate}"}}
    stall_s: 2
    ring_gb: 0.05
"""
REPLAY = """\
site: test
box: test-2
time_zone: UTC
web: {{listen: 127.0.0.1, port: {port}}}
storage: {{reserve_gb: 0.1}}
cameras:
  film:
    main: {{source: replay, file: "{film}"{more}}}
    ring_gb: 0.05
"""
PICTURES = 100


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    pytest.importorskip("av", reason="PyAV makes the film")
    return film(tmp_path_factory.mktemp("film") / "film.mp4", PICTURES)


# -- systemd -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Watched:
    """A box under a supervisor; its recorder was stopped at `stopped_s`."""

    box: RunningBox
    supervisor: Supervisor
    record_pid: int
    stopped_s: float


@pytest.fixture(scope="module", autouse=True)
def watched(tmp_path_factory, clip: Path) -> Iterator[Watched]:
    """Begins before the other tests, because it takes a box ten seconds to give its recorder up."""
    folder = tmp_path_factory.mktemp("watched")
    site = folder / "site.yaml"
    site.write_text(REPLAY.format(port=free_port(), film=clip, more=", loop: true"))
    supervisor = Supervisor(folder / "notify")
    environment = {"NOTIFY_SOCKET": str(supervisor.path), "WATCHDOG_USEC": "1000000"}
    with RunningBox(site, folder / "data", folder / "log", environment=environment) as box:
        box.until(lambda: supervisor.heard("READY"), what="READY=1")
        assert box.status, "ready before anything was heard from the recorder"
        box.until(lambda: len(supervisor.heard("WATCHDOG")) >= 3, what="WATCHDOG=1")
        record_pid = next(pid for pid, command in children_of(box.process.pid).items() if "nvr.recorder" in command)
        os.kill(record_pid, signal.SIGSTOP)
        yield Watched(box, supervisor, record_pid, time.monotonic())
    supervisor.close()


# -- one box, from the first picture to the last command ---------------------------------------------


@dataclass(frozen=True)
class Box:
    site_path: Path
    data_dir: Path
    silent_s: tuple[float, float]  # when the street sent nothing (time.time)
    second_run: str  # what another `nvr run` on the same data said

    @property
    def at(self) -> list[str]:
        return ["--site", str(self.site_path), "--data", str(self.data_dir)]


@pytest.fixture(scope="module")
def box(tmp_path_factory, clip: Path, watched: Watched) -> Iterator[Box]:
    """Both cameras are recorded; then the street falls silent and the gate loses its network; then both come back."""
    folder = tmp_path_factory.mktemp("box")
    site, data_dir = folder / "site.yaml", folder / "data"
    names = ("street/main", "gate/main")
    with PretendCamera(f"street={clip}") as street, PretendCamera(f"gate={clip}") as gate:
        site.write_text(SITE.format(port=free_port(), street=street.url, gate=gate.url))
        with RunningBox(site, data_dir, folder / "log") as running:
            running.until(
                lambda: all(running.stream(name).get("pictures", 0) > 60 for name in names), what="60 pictures"
            )
            assert [each["stream"] for each in told("ring", "ls", "--data", data_dir)["streams"]] == sorted(names)
            silent_from = time.time()
            street.switch(silent=1)
            gate.switch(refuse=503)
            gate.switch(cut=1)
            running.until(lambda: not any(map(running.is_recording, names)), what="both are missing")
            second = program("run", "--site", site, "--data", data_dir)
            assert second.returncode == 1
            street.switch(silent=0)
            gate.switch(refuse=0)
            silent_to = time.time()
            running.until(lambda: all(map(running.is_recording, names)), what="both are back")
            pictures = {name: running.stream(name)["pictures"] for name in names}
            running.until(
                lambda: all(running.stream(name)["pictures"] > pictures[name] + 40 for name in names),
                what="more pictures",
            )
            assert running.stop() == 0, running.log()
        yield Box(site, data_dir, (silent_from, silent_to), second.stderr)


def test_every_second_of_a_cut_camera_is_accounted_for_with_its_cause(box):
    streams = {each["stream"]: each for each in told("ledger", *box.at)["streams"]}
    assert set(streams) == {"street/main", "gate/main"}
    for each in streams.values():
        assert each["recorded_s"] + each["missing_s"] == pytest.approx(each["total_s"], abs=0.0011)
        assert sum(each["by_cause"].values()) == pytest.approx(each["missing_s"], abs=0.0011)
        assert each["recorded_s"] > 3
    assert set(streams["gate/main"]["by_cause"]) <= {"camera", "network", "box off"}
    silent_s = box.silent_s[1] - box.silent_s[0]
    for name in streams:
        missing_s = sum(
            seconds for cause, seconds in streams[name]["by_cause"].items() if cause in ("camera", "network")
        )
        assert silent_s - 1.5 < missing_s, streams[name]


def test_the_gap_of_a_silent_camera_begins_with_its_last_picture(box):
    street = told("ledger", *box.at, "--camera", "street", "--gaps")["streams"][0]
    longest = max(street["gaps"], key=lambda gap: gap["seconds"])
    assert longest["cause"] in ("camera", "network")
    begins = datetime.fromisoformat(longest["from"]).timestamp()
    assert abs(begins - box.silent_s[0]) < 1.0


def test_what_was_recorded_is_sound_after_the_box_stopped(box):
    checked = told("ring", "check", *box.at)
    assert (checked["streams"], checked["faults"]) == (2, [])
    assert checked["pictures"] > 200
    assert read(box.data_dir / "journal").entries[-1].kind is Kind.STOPPED


def test_a_clip_is_genuine_until_a_bit_is_flipped(box, tmp_path):
    path = tmp_path / "street.mp4"
    report = told("clip", "cut", *box.at, "--camera", "street", "-o", path)
    assert report["gaps"]
    verdict = told("clip", "verify", path)
    assert (verdict["genuine"], verdict["camera"], verdict["reasons"]) == (True, "street", [])
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0x10
    path.write_bytes(data)
    verdict = told("clip", "verify", path, status=1)
    assert verdict["genuine"] is False
    assert verdict["reasons"]


def test_a_second_box_on_the_same_data_is_refused(box):
    assert "is in use by another `nvr run`" in box.second_run


def test_budgets_that_do_not_fit_are_refused_with_the_numbers(box, tmp_path):
    site = tmp_path / "site.yaml"
    site.write_text(box.site_path.read_text().replace("ring_gb: 0.05", "ring_gb: 70000"))
    refused = program("run", "--site", site, "--data", tmp_path / "data")
    assert refused.returncode == 1
    assert "GB are wanted" in refused.stderr
    assert "GB are there" in refused.stderr
    assert not (tmp_path / "data" / "rings").exists()


def test_once_ends_by_itself_with_everything_durable(clip, tmp_path):
    site, data_dir = tmp_path / "site.yaml", tmp_path / "data"
    site.write_text(REPLAY.format(port=free_port(), film=clip, more=", speed: max"))
    done = program("run", "--site", site, "--data", data_dir, "--once")
    assert done.returncode == 0, done.stderr
    assert [each["pictures"] for each in told("ring", "ls", "--data", data_dir)["streams"]] == [PICTURES]
    assert told("ring", "check", "--data", data_dir)["faults"] == []
    film_ledger = told("ledger", "--data", data_dir)["streams"][0]
    assert (film_ledger["total_s"], film_ledger["missing_s"]) == (pytest.approx(PICTURES / 25, abs=0.05), 0)


def test_nothing_of_a_box_outlives_it(clip, tmp_path):
    site = tmp_path / "site.yaml"
    site.write_text(REPLAY.format(port=free_port(), film=clip, more=", loop: true"))
    with RunningBox(site, tmp_path / "data", tmp_path / "log") as box:
        box.until(lambda: box.is_recording("film/main"), what="recording")
        children = children_of(box.process.pid)
        assert len(children) == 3, children  # record, web, scrub
        box.process.kill()
        box.process.wait()
        end_s = time.monotonic() + 20
        while any(
            children_of(parent).get(pid) == command
            for pid, command in children.items()
            for parent in (1, box.process.pid)
        ):
            assert time.monotonic() < end_s, "a process of the box is still there"
            time.sleep(0.1)
    assert told("ring", "check", "--data", tmp_path / "data")["faults"] == []


def test_the_watchdog_is_fed_while_record_reports_and_not_while_it_hangs(watched):
    box, supervisor = watched.box, watched.supervisor
    given_up_s = watched.stopped_s + 10.5
    while time.monotonic() < given_up_s + 1.5:
        time.sleep(0.1)
    assert supervisor.heard("WATCHDOG", watched.stopped_s, watched.stopped_s + 8)
    assert supervisor.heard("WATCHDOG", given_up_s) == []
    os.kill(watched.record_pid, signal.SIGCONT)
    again_s = time.monotonic()
    box.until(lambda: supervisor.heard("WATCHDOG", again_s), what="WATCHDOG=1 after it went on")
    assert "1 of 1 streams recording" in supervisor.heard("STATUS", again_s)[-1]
    assert box.stop() == 0, box.log()
    assert supervisor.heard("STOPPING") == ["1"]
    assert supervisor.heard("READY") == ["1"]
