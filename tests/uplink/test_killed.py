"""The uplink and the real hub, killed again and again while clips travel: what arrives is whole, and there once."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.uplink.boxes import EventfulBox, until
from tests.uplink.real_hub import RealHub

ROOT = Path(__file__).parents[2]
CLIPS = 12


@pytest.mark.slow
def test_killed_at_any_moment_on_either_side_every_clip_is_there_once_and_whole(tmp_path):
    dice = random.Random(3)
    box = EventfulBox(tmp_path / "box", seconds=90, picture_bytes=3000)
    for number in range(CLIPS):
        box.event("intrusion" if number % 4 == 0 else "service_open", "open", 10.0 + 5 * number, has_still=True)
    with RealHub(tmp_path / "hub") as hub:
        path = box.site_file(hub.url, hub.fingerprint, ", cap_kbit_s: 3000", code=hub.code)

        def start() -> subprocess.Popen[bytes]:
            with open(tmp_path / "uplink.log", "ab") as log:
                return subprocess.Popen(
                    [sys.executable, "-m", "nvr.uplink", "--data", str(box.data_dir), "--site", str(path)],
                    stderr=log, stdout=log, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
                )  # fmt: skip

        uplink = start()
        try:
            for kill in range(8):
                time.sleep(dice.uniform(1.0, 3.0))
                if kill % 3 == 2:
                    hub.kill()
                    hub.start()
                else:
                    uplink.kill()
                    uplink.wait()
                    uplink = start()
            until(lambda: len(hub.clips()) >= CLIPS, f"all clips\n{(tmp_path / 'uplink.log').read_text()[-3000:]}", 240)
            until(lambda: len(hub.rows("SELECT id FROM event")) == CLIPS, "all events", 120)
            until(lambda: not list((box.data_dir / "outbox" / "clips").iterdir()), "the box has let go of them", 120)
        finally:
            uplink.kill()
            uplink.wait()
        found = hub.clips()
        assert len({clip["event_id"] for clip in found}) == CLIPS == len(found)
        assert all(clip["genuine"] == 1 for clip in found)
        assert all(hashlib.sha256(hub.blob(clip["blob"])).hexdigest() == clip["sha256"] for clip in found)
        assert len(hub.rows("SELECT id FROM object WHERE kind = 'still'")) >= 1
