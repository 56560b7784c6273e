"""A whole box on a disk that fills up, becomes read-only, or vanishes and comes back: real file systems on loop devices."""

from __future__ import annotations

import fcntl
import itertools
import os
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli.recorded_box import film, told
from e2e.running import RunningBox, children_of, free_port

from nvr.events import Events

pytestmark = [pytest.mark.root, pytest.mark.slow]

STREAM = "film/main"
SITE = """\
site: test
box: test-1
time_zone: UTC
web: {{listen: 127.0.0.1, port: {port}}}
storage: {{reserve_gb: 0.01, loss_bound_s: 2}}
cameras:
  film:
    main: {{source: replay, file: "{film}", loop: true}}
    ring_gb: 0.03
"""
_EXT4_IOC_SHUTDOWN = 0x8004587D  # everything fails from now on, as if the disk had been pulled (linux/ext4.h)
_WITHOUT_FLUSH = 1


class Disk:
    """A file system of its own, mounted at `path`; each mount() is a new device to the kernel, as with a disk that is plugged in again."""

    def __init__(self, image: Path, path: Path, size_bytes: int = 160 << 20) -> None:
        self.image, self.path = image, path
        with open(image, "wb") as file:
            file.truncate(size_bytes)
        _run("mkfs.ext4", "-q", "-F", image)
        path.mkdir(parents=True)
        self._devices: list[str] = []
        self.mount()

    def mount(self) -> None:
        device = _run("losetup", "-f", "--show", self.image)
        self._devices.append(device)
        _run("mount", device, self.path)

    def pull(self) -> None:
        """Gone, with whatever was not durable."""
        fd = os.open(self.path, os.O_RDONLY)
        fcntl.ioctl(fd, _EXT4_IOC_SHUTDOWN, struct.pack("I", _WITHOUT_FLUSH))
        os.close(fd)
        self.unmount()

    def make_read_only(self) -> None:
        """As the kernel does after an error."""
        subprocess.run(["mount", "-o", "remount,abort", str(self.path)], check=False, capture_output=True)

    def unmount(self) -> None:
        _run("umount", "-l", self.path)

    def repair(self) -> None:
        assert subprocess.run(["e2fsck", "-fy", str(self.image)], check=False, capture_output=True).returncode <= 1

    def close(self) -> None:
        while os.path.ismount(self.path):
            self.unmount()
        for device in self._devices:
            subprocess.run(["losetup", "-d", device], check=False, capture_output=True)


def _run(*arguments: object) -> str:
    done = subprocess.run([str(each) for each in arguments], check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{arguments}: {done.stderr}"
    return done.stdout.strip()


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    pytest.importorskip("av", reason="PyAV makes the film")
    folder = tmp_path_factory.mktemp("site")
    (folder / "site.yaml").write_text(SITE.format(port=free_port(), film=film(folder / "film.mp4", 100)))
    return folder / "site.yaml"


@pytest.fixture(params=["all of DATA", "DATA/rings"])
def place(request, tmp_path) -> Iterator[tuple[Disk, Path]]:
    """A disk with the whole data directory on it, or with the rings alone."""
    if request.param == "all of DATA":
        disk = Disk(tmp_path / "image", tmp_path / "mount")
        data_dir = disk.path / "data"
    else:
        data_dir = tmp_path / "data"
        disk = Disk(tmp_path / "image", data_dir / "rings")
    yield disk, data_dir
    disk.close()


def account(data_dir: Path) -> dict:
    """The ledger of the stream; its parts add up."""
    found = told("ledger", "--data", data_dir, "--gaps")["streams"]
    assert [each["stream"] for each in found] == [STREAM]
    assert found[0]["recorded_s"] + found[0]["missing_s"] == pytest.approx(found[0]["total_s"], abs=0.0011)
    assert sum(found[0]["by_cause"].values()) == pytest.approx(found[0]["missing_s"], abs=0.0011)
    return found[0]


def records_on(box: RunningBox) -> None:
    """Fragments become durable, more than there were."""
    before = box.stream(STREAM)["ring"]["durable_sequence"]
    box.until(
        lambda: box.is_recording(STREAM) and box.stream(STREAM)["ring"]["durable_sequence"] > before + 2,
        60,
        "it records on",
    )


@pytest.mark.parametrize("how", ["vanishes", "becomes read-only"])
def test_a_disk_that_fails_is_named_and_taken_up_again_when_it_is_back(site, place, tmp_path, how):
    disk, data_dir = place
    with RunningBox(site, data_dir, tmp_path / "log") as box:
        box.until(lambda: box.is_recording(STREAM), what="recording")
        records_on(box)
        if how == "vanishes":
            disk.pull()
        else:
            disk.make_read_only()
        box.until(lambda: box.stream(STREAM).get("cause") == "disk failed", 30, "the status says so")
        dropped = box.stream(STREAM)["ring"]["dropped"].get("disk failed", 0)
        box.until(
            lambda: box.stream(STREAM)["ring"]["dropped"].get("disk failed", 0) > dropped + 50,
            30,
            "pictures are counted",
        )
        if how != "vanishes":
            disk.unmount()
        box.until(
            lambda: box.stream(STREAM)["ring"]["dropped"].get("disk failed", 0) > dropped + 200, 30, "and counted on"
        )
        assert list(disk.path.iterdir()) == [], "something was written beneath the mount point"
        if how == "vanishes" and data_dir.exists():  # the journal is there, and tells while the disk is away
            assert set(account(data_dir)["by_cause"]) >= {"disk failed"}
        disk.repair()
        disk.mount()
        box.until(lambda: box.is_recording(STREAM), 60, "it records again")
        records_on(box)
        assert box.stop(60) == 0, box.log()
    assert told("ring", "check", "--data", data_dir)["faults"] == []
    street = account(data_dir)
    assert street["by_cause"]["disk failed"] > 8
    assert street["recorded_s"] > 2
    assert set(street["by_cause"]) <= {"disk failed", "box off"}


def test_a_disk_that_is_absent_at_the_start_is_waited_for(site, tmp_path):
    data_dir = tmp_path / "data"
    disk = Disk(tmp_path / "image", data_dir / "rings")
    try:
        for turn in range(2):
            with RunningBox(site, data_dir, tmp_path / "log") as box:
                if turn == 1:
                    box.until(lambda: box.stream(STREAM).get("cause") == "disk failed", 30, "the status says so")
                    assert "another disk than before" in box.stream(STREAM)["detail"]
                    assert list(disk.path.iterdir()) == []
                    disk.mount()
                box.until(lambda: box.is_recording(STREAM), 30, "recording")
                records_on(box)
                assert box.stop(60) == 0, box.log()
            if turn == 0:
                disk.unmount()
        assert told("ring", "check", "--data", data_dir)["faults"] == []
        assert account(data_dir)["by_cause"]["disk failed"] > 0
    finally:
        disk.close()


def test_a_full_disk_makes_the_ring_shorter_and_costs_no_picture(site, tmp_path):
    disk = Disk(tmp_path / "image", tmp_path / "mount")
    data_dir = disk.path / "data"
    faster = tmp_path / "site.yaml"  # so that segments of 4 MiB are soon full
    faster.write_text(site.read_text().replace("loop: true", "loop: true, speed: 30"))
    try:
        with RunningBox(faster, data_dir, tmp_path / "log") as box:
            box.until(lambda: box.status.get("sync", {}).get("segments", {}).get(STREAM, 0) >= 2, 60, "two segments")
            with open(disk.path / "filler", "wb") as filler, pytest.raises(OSError, match="No space left"):
                while True:
                    filler.write(bytes(1 << 20))
                    filler.flush()
            sequence = box.stream(STREAM)["ring"]["sequence"]
            box.until(lambda: "has no room for another segment" in box.log(), 60, "it is told")
            box.until(lambda: box.stream(STREAM)["ring"]["sequence"] > sequence + 100, 60, "it records on")
            assert box.is_recording(STREAM)
            assert box.stream(STREAM)["ring"]["dropped"] == {}
            assert box.stop(60) == 0, box.log()
        assert told("ring", "check", "--data", data_dir)["faults"] == []
    finally:
        disk.close()


@pytest.mark.parametrize("of", ["blocks", "inodes"])
def test_a_disk_without_room_for_another_file_records_on_and_is_started_again_from(site, tmp_path, of):
    """All of DATA on it, nothing left: `nvr run` ended at its start, again and again, because the one-time link of the page could not be written."""
    disk = Disk(tmp_path / "image", tmp_path / "mount")
    data_dir = disk.path / "data"
    faster = tmp_path / "site.yaml"
    faster.write_text(site.read_text().replace("loop: true", "loop: true, speed: 30"))
    try:
        with RunningBox(faster, data_dir, tmp_path / "log") as box:
            box.until(lambda: box.status.get("sync", {}).get("segments", {}).get(STREAM, 0) >= 2, 60, "two segments")
            box.until((data_dir / "site-kept.yaml").exists, 60, "a box that has recorded before (decisions/0071)")
            use_up(disk.path, of)
            goes_on(box)
            assert box.stop(60) == 0, box.log()
        use_up(disk.path, of)  # what the end of a box gives free
        with RunningBox(faster, data_dir, tmp_path / "log") as box:
            box.until(lambda: box.is_recording(STREAM), 60, "it records again, from a start")
            goes_on(box)
            assert box.page["link"] is None and "No space left" in box.page["error"]
            assert box.stop(60) == 0, box.log()
        assert told("ring", "check", "--data", data_dir)["faults"] == []
        assert set(account(data_dir)["by_cause"]) <= {"recycled", "box off"}
    finally:
        disk.close()


def use_up(folder: Path, of: str) -> None:
    with pytest.raises(OSError, match="No space left"):
        if of == "inodes":
            for number in itertools.count():
                (folder / f"empty-{number}").touch()
        else:
            with open(folder / "filler", "ab") as filler:
                while True:
                    filler.write(bytes(4096))
                    filler.flush()


def goes_on(box: RunningBox) -> None:
    sequence = box.stream(STREAM)["ring"]["sequence"]
    box.until(lambda: box.stream(STREAM)["ring"]["sequence"] > sequence + 100, 60, "it records on")
    assert box.stream(STREAM)["ring"]["dropped"] == {}


def test_a_disk_that_turns_read_only_under_detection_is_survived_and_events_are_stored_again(tmp_path):
    """What is seen meanwhile waits in memory; detection is not started again and again, and recording takes the disk up when it is back."""
    pytest.importorskip("av", reason="PyAV makes the film, and reads it")
    from tools.scenes import demo_footage

    scene = next(scene for scene in demo_footage.SCENES if scene.name == "square")
    demo_footage.write(scene, tmp_path / "square.mp4", length_s=8)
    disk = Disk(tmp_path / "image", tmp_path / "mount")
    data_dir = disk.path / "data"
    site_path = tmp_path / "site.yaml"
    site_path.write_text(
        SITE.format(port=free_port(), film=tmp_path / "square.mp4")
        + "    lines: {across: {from: [0.5, 1.0], to: [0.5, 0.0]}}\n    rules: {line_crossing: {line: across}}\n"
    )
    try:
        with RunningBox(site_path, data_dir, tmp_path / "log") as box:
            box.until(lambda: len(Events(data_dir / "events").after(0, 9)) >= 2, 120, "something is seen")
            before = children_of(box.process.pid)
            disk.make_read_only()
            box.until(lambda: box.stream(STREAM).get("cause") == "disk failed", 60, "the status says so")
            time.sleep(20)  # two tries of the store of events, and a film and a half
            newest = Events(data_dir / "events").newest(limit=1)[0].number
            assert children_of(box.process.pid) == before, f"no process ended\n{box.log()}"
            disk.unmount()
            disk.repair()
            disk.mount()
            box.until(lambda: box.is_recording(STREAM), 60, "it records again")
            records_on(box)
            box.until(
                lambda: Events(data_dir / "events").newest(limit=1)[0].number > newest, 120, "events are stored again"
            )
            assert children_of(box.process.pid) == before, box.log()
            assert box.stop(60) == 0, box.log()
        assert told("ring", "check", "--data", data_dir)["faults"] == []
        assert set(account(data_dir)["by_cause"]) <= {"disk failed", "box off"}
        seen = [(each.event.from_ns, each.event.tracks) for each in Events(data_dir / "events").after(0, 1000)]
        assert len(seen) == len(set(seen)), "no event is stored twice"
    finally:
        disk.close()
