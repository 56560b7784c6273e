"""A card that acknowledges and forgets, and one that wraps round at half its size, under a real ext4: found while the box runs, named, and a
hole with its cause from then on.

The card is an image behind a loop device. What it forgets is written over in the image, below the file system, so that the kernel's page
cache still has the right bytes: only who reads from the device sees what a power cut would leave.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from cli.recorded_box import film as small_film
from cli.recorded_box import program, told
from e2e.running import RunningBox, free_port
from e2e.test_failing_disks import Disk

from nvr.ring.reader import Ring, Row
from nvr.uplink import health

pytestmark = [pytest.mark.root, pytest.mark.slow]

STREAM = "film/main"
SITE = """\
site: test
box: test-1
time_zone: UTC
web: {{listen: 127.0.0.1, port: {port}}}
storage: {{reserve_gb: 0.01}}
cameras:
  film:
    main: {{source: replay, file: "{film}", speed: {speed}, loop: {loop}}}
    ring_gb: 0.06
"""


def noise(path: Path, pictures: int) -> Path:
    """A film of which every second is some megabytes, so that segments fill."""
    av = pytest.importorskip("av", reason="PyAV makes the film")
    np = pytest.importorskip("numpy")
    rng = np.random.default_rng(1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=25, options={"preset": "ultrafast", "bf": "0", "g": "25", "qp": "24"}
        )
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for _ in range(pictures):
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(rng.integers(0, 255, (360, 640, 3), np.uint8), "rgb24"))
            )
        container.mux(stream.encode())
    return path


def forget(image: Path, data: bytes) -> None:
    """Write zeros over `data` wherever it lies in the image."""
    whole = image.read_bytes()
    at = whole.find(data)
    assert at >= 0, "the fragment lies in the image"
    with open(image, "r+b") as file:
        file.seek(at)
        file.write(bytes(len(data)))


def sealed_rows(data_dir: Path) -> list[Row]:
    with Ring(data_dir / "rings" / STREAM) as ring:
        numbers = {state.number for state in ring.sealed()}
        return [row for row in ring.rows() if row.position.segment in numbers]


def test_a_card_that_forgets_is_found_while_the_box_runs(tmp_path):
    film = noise(tmp_path / "film.mp4", 200)
    disk = Disk(tmp_path / "image", tmp_path / "mount", 200 << 20)
    try:
        data_dir = disk.path / "data"
        site = tmp_path / "site.yaml"
        site.write_text(SITE.format(port=free_port(), film=film, speed="1.0", loop="false"))
        done = program("run", "--site", site, "--data", data_dir, "--once")
        assert done.returncode == 0, done.stderr
        rows = sealed_rows(data_dir)
        assert len(rows) >= 5
        lost = rows[len(rows) // 2 : len(rows) // 2 + 2]
        with Ring(data_dir / "rings" / STREAM) as ring:
            for row in lost:
                forget(disk.image, ring.read(row.position)[8192:12288])
        before = told("ledger", "--data", data_dir, "--gaps")["streams"][0]
        quiet = small_film(tmp_path / "quiet.mp4", 100)  # so that the ring does not come round meanwhile
        site.write_text(SITE.format(port=free_port(), film=quiet, speed="1.0", loop="true"))
        with RunningBox(site, data_dir, tmp_path / "log") as box:
            status = data_dir / "run" / "scrub.json"
            box.until(
                lambda: status.exists() and json.loads(status.read_text())["forgotten"] == {STREAM: len(lost)},
                240,
                "the scrub finds it",
            )
            found = json.loads(status.read_text())
            box.until(lambda: box.is_recording(STREAM), 30, "recording goes on")
            assert box.stop() == 0
        assert found["is_direct"]
        assert {each["sequence"] for each in found["newest"]} == {row.record.sequence for row in lost}
        assert "Replace this disk" in (tmp_path / "log").read_text()
        after = told("ledger", "--data", data_dir, "--gaps")["streams"][0]
        seconds = sum(row.record.duration_ns for row in lost) / 1e9
        assert before["by_cause"].get("disk failed", 0) == 0
        assert after["by_cause"]["disk failed"] == pytest.approx(seconds, abs=0.2)
        assert any("does not give it back" in gap["detail"] for gap in after["gaps"])
    finally:
        disk.close()


def extents(path: Path) -> list[tuple[int, int]]:
    """Where a file lies on its device: (first byte, length)."""
    told = subprocess.run(["filefrag", "-v", "-b1", str(path)], check=True, capture_output=True, text=True).stdout
    found = []
    for line in told.splitlines():
        parts = line.replace(":", " ").replace("..", " ").split()
        if len(parts) >= 6 and parts[0].isdigit():
            found.append((int(parts[3]), int(parts[5])))
    return found


def wrap(image: Path, ring_path: Path) -> int:
    """What lies behind the real end of the card was written from its beginning on, over what was there. How many bytes of footage that hit.

    Only where footage lies below: a real one hits the file system's own blocks too, and is then read-only or gone (test_failing_disks.py).
    """
    places = [extent for path in sorted(ring_path.glob("*.mp4")) for extent in extents(path)]
    pages = {at for begin, length in places for at in range(begin, begin + length, 4096)}
    # The end that hurts most, wherever ext4 put the footage.
    ends = {above - below for above, _ in places for below, _ in places if above > below}
    real_bytes = max(ends, key=lambda end: (sum(at - end in pages for at in pages), end))
    hit = 0
    with open(image, "r+b") as file:
        for at in sorted(pages):
            below = at - real_bytes
            if below in pages:
                file.seek(at)
                data = file.read(4096)
                file.seek(below)
                file.write(data)
                hit += 4096
    return hit


def test_a_card_that_is_smaller_than_it_says_is_found_in_service(tmp_path):
    """Sold as twice its size: everything is acknowledged, and the newest footage lies over the oldest."""
    film = noise(tmp_path / "film.mp4", 350)
    disk = Disk(tmp_path / "image", tmp_path / "mount", 110 << 20)
    try:
        data_dir = disk.path / "data"
        site = tmp_path / "site.yaml"
        site.write_text(SITE.format(port=free_port(), film=film, speed="1.0", loop="false"))
        done = program("run", "--site", site, "--data", data_dir, "--once")
        assert done.returncode == 0, done.stderr
        before = told("ledger", "--data", data_dir)["streams"][0]
        quiet = small_film(tmp_path / "quiet.mp4", 100)
        site.write_text(SITE.format(port=free_port(), film=quiet, speed="1.0", loop="true"))
        with RunningBox(site, data_dir, tmp_path / "log") as box:
            box.until(lambda: box.is_recording(STREAM), 60, "recording")
            subprocess.run(["sync", "-f", str(disk.path)], check=True)
            assert wrap(disk.image, data_dir / "rings" / STREAM) > 12 << 20
            box.until(lambda: "Replace this disk" in (tmp_path / "log").read_text(), 300, "the log says so")
            box.until(
                lambda: "does not read back" in health.disk(data_dir, "")["trouble"], 60, "the heartbeat would name it"
            )
            box.until(lambda: box.is_recording(STREAM), 30, "recording goes on")
            assert box.stop(60) == 0
        after = told("ledger", "--data", data_dir, "--gaps")["streams"][0]
        assert before["by_cause"].get("disk failed", 0) == 0
        assert after["by_cause"].get("disk failed", 0) > 0, after["gaps"]
        assert any("does not give it back" in gap["detail"] for gap in after["gaps"])
        assert set(after["by_cause"]) <= {"disk failed", "box off", "recycled", "camera"}  # the film ended
    finally:
        disk.close()
