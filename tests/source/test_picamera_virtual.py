"""picamera2 for real: libcamera's `virtual` pipeline is the camera, `nvr/source/picamera.py` captures and encodes it, a recorder writes its ring."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import camera_tree
import pytest

from image import build
from image.cache import Kitchen
from image.mirror import mirror_of_this_machine
from image.run import Toolbox
from nvr.recorder import Settings
from nvr.ring import check, reader
from nvr.stream import RecordedStream

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
pytestmark = [
    pytest.mark.boot,
    pytest.mark.campaign,
    pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("mmdebstrap") is None,
        reason="makes a tree of Debian 13: needs root and mmdebstrap",
    ),
]


def test_the_ribbon_camera_is_recorded_through_picamera2(tmp_path):
    made = Kitchen(build.CACHE.absolute(), tell=print).make(
        "camera-tree", camera_tree.make, context={"mirror": mirror_of_this_machine()}, shim=HERE / "played_udmabuf.c"
    )
    data = tmp_path / "data"
    data.mkdir()
    stream = RecordedStream(
        name="ribbon/main", source={"kind": "picamera", "number": 0, "width": 1280, "height": 720, "fps": 25.0, "rate_mbit": 2.0, "stall_s": 30.0},
        ring_bytes=64 << 20, hold_bytes=0, keep_days=None, evidence=True,
    )  # fmt: skip
    settings = Settings(str(data), 5.0, (stream,))
    inside = Toolbox(made.path / "tree", (ROOT, tmp_path))
    environment = ["env", "-i", "PATH=/usr/bin:/bin", "HOME=/tmp", f"PYTHONPATH={ROOT}:{HERE / 'played_camera'}", "LD_PRELOAD=/usr/local/lib/played-udmabuf.so",
                   "NVR_PURE=1", "PYTHONDONTWRITEBYTECODE=1"]  # fmt: skip
    with open(tmp_path / "log", "wb") as log:
        recorder = subprocess.Popen(
            inside.command([*environment, "python3", "-m", "nvr.recorder"]),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
        )
    assert recorder.stdin is not None
    recorder.stdin.write(settings.to_json().encode())
    recorder.stdin.close()
    try:
        end_s = time.monotonic() + 240
        while not _pictures(data) >= 50:
            assert recorder.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < end_s, (tmp_path / "log").read_text()[-3000:]
            time.sleep(1)
    finally:
        recorder.terminate()
        recorder.wait(60)
    assert check.check(data) == []
    assert _decoded(data) >= 50


def _pictures(data: Path) -> int:
    try:
        rings = reader.streams(data)
        return sum(row.record.pictures for row in reader.Ring(rings["ribbon/main"]).rows())
    except Exception:
        return 0  # not there yet


def _decoded(data: Path) -> int:
    """By PyAV, from the segment as it lies on the disk."""
    av = pytest.importorskip("av")
    count, brightness = 0, set()
    for segment in sorted((data / "rings/ribbon/main").glob("*.mp4")):
        with av.open(str(segment)) as film:
            for frame in film.decode(video=0):
                assert (frame.width, frame.height) == (1280, 720)
                count += 1
                brightness.add(round(float(frame.to_ndarray(format="gray").mean())))
            break
    assert brightness - {0, 255}, "pictures with nothing on them"
    return count
