"""A whole box, `nvr run` with a film as its camera, and a real hub: what the hub asks for is done, and said."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from cli.recorded_box import film, program
from e2e.running import RunningBox, children_of, free_port

from nvr import clips
from tests.uplink.boxes import until
from tests.uplink.real_hub import RealHub

pytestmark = pytest.mark.slow  # half a minute: two whole systems start

SITE = """\
site: waihaong
box: waihaong-1
time_zone: Asia/Jayapura
web: {{listen: 127.0.0.1, port: {port}}}
storage: {{reserve_gb: 0}}
hub: {{url: "{url}", code: {code}, fingerprint: "{fingerprint}", still_s: 2}}
cameras:
  gate:
    place: simpang-mardika
    main: {{source: replay, file: "{film}", loop: true}}
    ring_gb: 0.064
    hold_gb: 0.032
    masks: {{window: [[0, 0], [0.5, 0], [0.5, 0.5], [0, 0.5]]}}
"""


@dataclass
class Both:
    hub: RealHub
    box: RunningBox
    site_path: Path


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> Iterator[Both]:
    pytest.importorskip("av", reason="PyAV makes the film, and the stills")
    folder = tmp_path_factory.mktemp("both")
    clip = film(folder / "film.mp4", 250)
    with RealHub(folder / "hub") as hub:
        site_path = folder / "site.yaml"
        site_path.write_text(
            SITE.format(port=free_port(), url=hub.url, code=hub.code, fingerprint=hub.fingerprint, film=clip)
        )
        with RunningBox(site_path, folder / "data", folder / "box.log") as box:
            box.until(lambda: box.is_recording("gate/main"), 60, "it records")
            box.until(lambda: hub.rows("SELECT * FROM box WHERE heartbeat IS NOT NULL"), 60, "the hub hears the box")
            yield Both(hub, box, site_path)


def answer(both: Both, id: str, seconds: float = 60.0) -> dict:
    until(lambda: both.hub.answer_to(id), f"an answer to {id}\n{both.box.log()}", seconds)
    found = both.hub.answer_to(id)
    assert found is not None
    return found


def test_a_heartbeat_says_what_is_recorded(both):
    def beat() -> dict:
        return json.loads(both.hub.rows("SELECT heartbeat FROM box")[0]["heartbeat"])

    until(lambda: beat()["cameras"]["gate"]["recording"], "it says that it records")
    until(lambda: beat()["ledger"].get("gate", {}).get("recorded_s", 0) > 1, "today's ledger", 120)
    said = beat()
    assert said["disk"]["free_bytes"] > 0
    assert said["clock"]["state"] in ("synced", "plausible")
    assert said["cameras"]["gate"]["looked_at"] == "no"


def test_the_hub_believes_the_stills(both):
    """It checks hash and signature before it keeps one; what they show is looked at in test_live.py."""
    until(lambda: both.hub.rows("SELECT * FROM still"), "a still")
    row = both.hub.rows("SELECT * FROM still")[0]
    assert abs(row["captured_ms"] - time.time() * 1000) < 120_000 and row["size_bytes"] > 500


def test_a_window_that_somebody_asks_for_arrives_and_is_genuine(both, tmp_path):
    both.box.until(lambda: both.box.stream("gate/main").get("pictures", 0) > 200, 60, "eight seconds are recorded")
    to_ms = int(time.time() * 1000) - 3000
    id = both.hub.command("fetch", camera="gate", from_ms=to_ms - 4000, to_ms=to_ms, reason="a test")
    assert answer(both, id)["ok"] == 1
    until(lambda: [clip for clip in both.hub.clips() if clip["command_id"] == id], "its clip")
    (clip,) = [clip for clip in both.hub.clips() if clip["command_id"] == id]
    data = both.hub.blob(clip["blob"])
    assert hashlib.sha256(data).hexdigest() == clip["sha256"]
    (tmp_path / "clip.mp4").write_bytes(data)
    assert clips.verify(tmp_path / "clip.mp4")["genuine"]
    assert clip["genuine"] == 1
    assert clip["from_ms"] <= to_ms - 4000 and clip["to_ms"] >= to_ms


def test_a_window_in_which_nothing_was_recorded_is_refused_by_name(both):
    id = both.hub.command("fetch", camera="gate", from_ms=1_700_000_000_000, to_ms=1_700_000_010_000, reason="a test")
    found = answer(both, id)
    assert found["ok"] == 0 and "nothing is recorded" in found["detail"]


def test_the_box_counts_every_second_of_a_span_as_its_own_ledger_does(both):
    both.box.until(lambda: both.box.stream("gate/main").get("pictures", 0) > 200, 60, "eight seconds are recorded")
    to_ms = int(time.time() * 1000)
    found = answer(both, both.hub.command("ledger", camera="gate", from_ms=to_ms - 3_600_000, to_ms=to_ms))
    assert found["ok"] == 1, found
    told = json.loads(found["more"])
    done = program("ledger", "--site", str(both.site_path), "--data", str(both.box.data_dir), "--json")
    (said,) = json.loads(done.stdout)["streams"]
    missing_s = sum(gap[1] - gap[0] for gap in told["gaps"]) / 1000
    assert 8 < (told["to_ms"] - told["from_ms"]) / 1000 <= said["total_s"] + 1  # it begins with the first picture
    assert missing_s == pytest.approx(said["missing_s"], abs=0.01)


@pytest.mark.parametrize(
    ("do", "args", "says"),
    [
        ("fetch", {"camera": "../../etc", "from_ms": 1, "to_ms": 2}, "must be a name"),
        ("fetch", {"camera": "attic", "from_ms": 1, "to_ms": 2}, "no camera attic"),
        ("fetch", {"camera": "gate", "from_ms": 0, "to_ms": 10**12}, "at most 900 s"),
        ("ledger", {"camera": "attic", "from_ms": 1, "to_ms": 2}, "no camera attic"),
        ("ledger", {"camera": "gate", "from_ms": 0, "to_ms": 10**12}, "at most 777600 s"),
        ("release", {"hold": "mine"}, "only what it held itself"),
        ("update", {"url": "http://evil/x", "sha256": "0" * 64, "version": "1"}, "https"),
        ("site", {"text": "x: 1", "digest": "0" * 64}, "did not arrive"),
    ],
)  # fmt: skip
def test_what_a_hub_must_not_ask_is_refused(both, do, args, says):
    found = answer(both, both.hub.command(do, **args))
    assert found["ok"] == 0 and says in found["detail"]


def test_a_span_is_held_and_released(both):
    now_ms = int(time.time() * 1000)
    held = answer(both, both.hub.command("hold", camera="gate", from_ms=now_ms - 5000, to_ms=now_ms, reason="evidence"))
    name = json.loads(held["more"])["hold"]
    holds_path = both.box.data_dir / "holds.json"
    assert name in holds_path.read_text()
    assert answer(both, both.hub.command("release", hold=name))["ok"] == 1
    assert name not in holds_path.read_text()


def test_the_status_command_says_how_it_stands(both):
    done = program("uplink", "status", "--site", str(both.site_path), "--data", str(both.box.data_dir), "--json")
    said = json.loads(done.stdout)
    assert done.returncode == 0 and said["connected"] and said["enrolled"]
    text = program("uplink", "status", "--site", str(both.site_path), "--data", str(both.box.data_dir)).stdout
    assert "connected     since 20" in text and "waiting " in text


def test_an_update_that_lies_at_the_hub_is_fetched_and_handed_to_the_firmware(both):
    data = b"hsqs" + bytes(range(256)) * 1500
    digest = hashlib.sha256(data).hexdigest()
    both.hub._command("user", "ani", "--role", "administrator")
    token = next(
        word for word in both.hub._command("token", "ani", "--scope", "administer").split() if word.startswith("nvr_")
    )
    stored = httpx.post(
        f"{both.hub.url}/api/v1/bundles", params={"version": "1.2.0", "sha256": digest}, content=data,
        headers={"Authorization": f"Bearer {token}"}, verify=False, timeout=60,
    )  # fmt: skip
    assert stored.status_code == 201, stored.text
    url = f"{both.hub.url}/box/v1/bundles/{digest}"
    answered = answer(both, both.hub.command("update", url=url, sha256=digest, version="1.2.0"))
    assert answered["ok"] == 1, answered
    updates = both.box.data_dir / "updates"
    until(lambda: (updates / "ready.json").exists(), "it is whole", 90)
    ready = json.loads((updates / "ready.json").read_text())
    assert ready["version"] == "1.2.0" and (updates / ready["file"]).read_bytes() == data


def test_a_killed_uplink_comes_back_and_the_hub_hears_it_again(both):
    before = both.hub.rows("SELECT seen_ms FROM box")[0]["seen_ms"]
    (pid,) = [pid for pid, line in children_of(both.box.process.pid).items() if "nvr.uplink" in line]
    import os
    import signal

    os.kill(pid, signal.SIGKILL)
    until(lambda: both.hub.rows("SELECT seen_ms FROM box")[0]["seen_ms"] > before, "it is heard again", 90)


def test_a_site_file_that_records_is_kept_and_one_that_does_not_is_given_back(both):
    """The last test of this file: the box starts anew three times."""
    good = both.site_path.read_text() + "  # a remark from the hub\n"
    digest = hashlib.sha256(good.encode()).hexdigest()
    kept = answer(both, both.hub.command("site", text=good, digest=digest, rollback_s=90), 150)
    assert kept["ok"] == 1, (kept, both.box.log())
    assert both.site_path.read_text() == good
    bad = good.replace("film.mp4", "no-such-film.mp4")
    digest = hashlib.sha256(bad.encode()).hexdigest()
    refused = answer(both, both.hub.command("site", text=bad, digest=digest, rollback_s=20), 150)
    assert refused["ok"] == 0 and "did not record within 20 s" in refused["detail"], (refused, both.box.log())
    assert both.site_path.read_text() == good
    both.box.until(lambda: both.box.is_recording("gate/main"), 60, "it records again")
