"""The whole way of an update: stored at a real hub, rolled out there, fetched by a virtual PC, installed, proven, and told to the hub.

With it the rest of what a box owes its hub is seen in a real image: it enrols by its card's code, its heartbeats and its clips arrive.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator

import httpx
import pytest

from boot.conftest import SITE
from boot.test_virt_x86 import comes_back, make_it_impatient, wait_until
from tests.uplink.real_hub import RealHub

pytestmark = pytest.mark.boot

LIMIT_S = 900.0  # emulated, on a busy machine


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with RealHub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@contextlib.contextmanager
def administrator(hub: RealHub) -> Iterator[httpx.Client]:
    """Somebody who may store bundles and order updates, at the hub's API."""
    hub._command("user", "wati", "--role", "administrator")
    token = hub._command("token", "wati", "--scope", "administer").strip().splitlines()[-1]
    with httpx.Client(
        base_url=f"{hub.url}/api/v1",
        headers={"Authorization": f"Bearer {token}"},
        verify=False,
        timeout=120,
        trust_env=False,
    ) as client:
        yield client


@pytest.fixture(scope="module")
def api(hub):
    with administrator(hub) as client:
        yield client


@pytest.fixture(scope="module")
def box(new_box, hub):
    site = SITE.replace(
        "cameras:", f'hub: {{url: "https://10.0.2.101", code: {hub.code}, fingerprint: "{hub.fingerprint}"}}\ncameras:'
    )
    return new_box("ordered", site=site, hub=int(hub.listen.rpartition(":")[2])).start()


def rolled_out(api: httpx.Client, rollout_id: int) -> dict:
    found = next(each for each in api.get("/rollouts").json()["rollouts"] if each["id"] == rollout_id)
    return {**found, "box": found["boxes"][0]}


def order(api: httpx.Client, bundle: bytes, version: str) -> int:
    stored = api.post("/bundles", params={"version": version}, content=bundle)
    assert stored.status_code == 201, stored.text
    made = api.post("/rollouts", json={"sha256": stored.json()["sha256"]})
    assert made.status_code == 201, made.text
    return int(made.json()["id"])


def test_it_enrols_and_its_heartbeats_and_clips_arrive(box, hub):
    box.wait_for("nvr: slot A committed")
    wait_until(lambda: hub.rows("SELECT * FROM box WHERE heartbeat IS NOT NULL"), LIMIT_S, "a heartbeat")
    box.wait_for_shell()
    wait_until(lambda: box.recording() == {"gate/main": True}, LIMIT_S, "recording")
    time.sleep(12)  # of footage to ask for
    now_ms = int(float(box.ssh("date +%s.%N")) * 1000)
    hub.command("fetch", camera="gate", from_ms=now_ms - 8000, to_ms=now_ms - 2000, reason="a test")
    clip = wait_until(hub.clips, LIMIT_S, "a clip")[0]
    assert clip["genuine"] == 1


def test_a_site_file_from_the_hub_is_tried_and_kept_and_outlives_a_restart(box, hub):
    text = box.ssh("cat /data/nvr/site/site.yaml").replace("ring_gb: 0.2", "ring_gb: 0.25")
    digest = hashlib.sha256(text.encode()).hexdigest()
    hub.command("site", text=text, digest=digest, rollback_s=600)
    wait_until(lambda: digest in box.ssh("sha256sum /data/nvr/site/site.yaml"), LIMIT_S, "it is in place")
    wait_until(lambda: box.ssh("ls /data/nvr/site-trial.json", check=False).strip() == "", LIMIT_S, "the trial is over")
    assert digest in box.ssh("sha256sum /data/nvr/site/site.yaml")
    box.ssh("systemctl restart nvr")
    wait_until(lambda: box.recording() == {"gate/main": True}, LIMIT_S, "recording")
    assert digest in box.ssh("sha256sum /data/nvr/site/site.yaml")


def test_an_update_that_is_rolled_out_is_fetched_installed_and_proven(box, hub, api, builder, tmp_path):
    bundle = builder.changed(lambda firmware: None, "2.0", tmp_path)
    begin = len(box.text())
    rollout_id = order(api, bundle.read_bytes(), "2.0")
    assert comes_back(box, begin) == "B"
    wait_until(lambda: rolled_out(api, rollout_id)["box"]["state"] == "good", LIMIT_S, "the hub knows that it is good")
    # The hub would watch the first box for ten minutes more.
    assert api.post(f"/rollouts/{rollout_id}/stop", json={"reason": "the test goes on"}).status_code < 300
    status = box.update_status()
    assert (status["slot"], status["version"], status["last"]["state"]) == ("B", "2.0", "committed")
    # Nothing is left but what neighbours on the LAN may fetch for a week.
    sha256 = hashlib.sha256(bundle.read_bytes()).hexdigest()
    assert box.ssh("cd /data/nvr/updates && find . -type f").split() == [f"./kept/{sha256}.raucb"]


def test_one_that_does_not_record_goes_back_and_stops_the_rollout_with_the_reason(box, hub, api, builder, tmp_path):
    def break_it(firmware):
        make_it_impatient(firmware)
        drop_in = firmware / "etc/systemd/system/nvr.service.d/broken.conf"
        drop_in.parent.mkdir(parents=True)
        drop_in.write_text("[Service]\nExecStart=\nExecStart=/usr/bin/false\n")

    begin = len(box.text())
    rollout_id = order(api, builder.changed(break_it, "2.1-mute", tmp_path).read_bytes(), "2.1-mute")
    box.wait_for(r"nvr: slot A not committed, return", after=begin)
    assert comes_back(box, begin) == "B"
    wait_until(lambda: rolled_out(api, rollout_id)["state"] == "stopped", LIMIT_S, "the roll-out has stopped")
    assert "record does not answer" in rolled_out(api, rollout_id)["box"]["detail"]
