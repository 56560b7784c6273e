"""Longer trials than CI has time for: bundles that fail in other ways, and power cuts at random moments.

    NVR_CUTS=20 NVR_SEED=1 python -m pytest -m campaign tests/boot/test_campaign.py -s

A power cut kills QEMU with SIGKILL. What the guest had sent to its disk is then in this machine's page cache and stays, also what it had not flushed:
a disk that loses its own cache is harsher, and is not played here.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from boot import vm as vms
from boot.conftest import SITE
from boot.test_virt_x86 import comes_back, last_update, make_it_impatient, pictures, wait_until
from image import keys
from tests.uplink.real_hub import RealHub

pytestmark = [pytest.mark.boot, pytest.mark.campaign]

CUTS = int(os.environ.get("NVR_CUTS", "20"))
SEED = int(os.environ.get("NVR_SEED", "1"))
LIMIT_S = 600.0  # emulated, on a busy machine


@pytest.fixture(scope="module")
def hub(tmp_path_factory) -> Iterator[RealHub]:
    with RealHub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.fixture(scope="module")
def box(new_box, hub) -> vms.Vm:
    site = SITE.replace(
        "cameras:", f'hub: {{url: "https://10.0.2.101", code: {hub.code}, fingerprint: "{hub.fingerprint}"}}\ncameras:'
    )
    found = new_box("campaign", site=site, hub=int(hub.listen.rpartition(":")[2])).start()
    found.wait_for("nvr: slot A committed")
    found.wait_for_shell()
    wait_until(lambda: heartbeat(hub), 300, "a heartbeat")
    return found


@pytest.fixture(scope="module")
def page(box) -> Iterator[httpx.Client]:
    with logged_in(box) as client:
        yield client


@contextlib.contextmanager
def logged_in(box: vms.Vm, data_dir: str = "/data/nvr") -> Iterator[httpx.Client]:
    """The box's own page, as somebody sees it who has set its password."""
    link = box.ssh(f"runuser -u nvr -- nvr web link --site /data/nvr/site/site.yaml --data {data_dir} --json")
    token = json.loads(link)["link"].partition("#")[2]
    with httpx.Client(base_url=f"http://127.0.0.1:{box.page_port}", trust_env=False, timeout=60) as client:
        answer = client.post("/api/password", json={"token": token, "password": "kopi di tepi laut"})
        assert answer.status_code == 200, answer.text
        yield client


def heartbeat(hub: RealHub) -> dict:
    found = hub.rows("SELECT heartbeat FROM box WHERE heartbeat IS NOT NULL")
    return json.loads(found[0]["heartbeat"]) if found else {}


def assert_everybody_is_told(box, hub, page, *, state: str, version: str, reason: str) -> None:
    """What became of the update is on the box, in its heartbeat at the hub, and on its own page: the same words."""
    last = last_update(box)
    assert (last["state"], last["version"]) == (state, version), last
    assert reason in last["reason"]
    wait_until(lambda: heartbeat(hub).get("update", {}).get("version") == version, 300, "a heartbeat that tells of it")
    expected = {"state": state, "version": version, "reason": last["reason"][:200]}
    wait_until(lambda: heartbeat(hub)["update"] == expected, 300, f"a heartbeat that says {expected}")
    assert heartbeat(hub)["slot"] == box.update_status()["slot"]
    assert page.get("/api/status").json()["update"] == expected


def test_an_update_that_does_not_start_is_tried_three_times_and_left(box, hub, page, builder, tmp_path):
    root = tmp_path / "root.img"
    root.write_bytes(bytes(8 << 20))
    bundle = builder.signed_by(_signer(builder), tmp_path, root, builder.built.boot.path / "boot.img", "9.9-dead")
    running = box.update_status()["slot"]
    box.put(bundle, "/data/update.raucb")
    begin = len(box.text())
    box.ssh("nvr-update install /data/update.raucb", limit_s=900, check=False)
    assert comes_back(box, begin) == running
    text = box.text()[begin:]
    assert text.count("resetting") == 3
    assert_everybody_is_told(box, hub, page, state="return", version="9.9-dead", reason="3 times")


def test_an_update_without_uplink_goes_back(box, hub, page, builder, tmp_path):
    """Its firewall lets nothing out to the hub. The box restarts within a minute of the last word that the old slot's uplink wrote."""

    def shut_the_hub_out(firmware):
        make_it_impatient(firmware)
        rules = firmware / "etc/nftables.conf"
        chain = "    chain output {\n        type filter hook output priority filter; policy accept;\n        tcp dport 443 drop\n    }\n"
        rules.write_text(rules.read_text().replace("    chain forward {", f"{chain}    chain forward {{"))

    bundle = builder.changed(shut_the_hub_out, "1.3-silent", tmp_path)
    running = box.update_status()["slot"]
    box.put(bundle, "/data/update.raucb")
    begin = len(box.text())
    box.ssh("nvr-update install /data/update.raucb", limit_s=900, check=False)
    box.wait_for(r"not committed, return: .*hub was reached before", after=begin)
    assert comes_back(box, begin) == running
    assert_everybody_is_told(box, hub, page, state="return", version="1.3-silent", reason="hub was reached before")


def test_an_update_that_does_not_record_goes_back(box, hub, page, builder, tmp_path):
    """It looks for its cameras where none is, and serves page and uplink all the while."""

    def blind_it(firmware):
        make_it_impatient(firmware)
        rules = firmware / "etc/nftables.conf"
        chain = "    chain output {\n        type filter hook output priority filter; policy accept;\n        tcp dport 8554 drop\n    }\n"
        rules.write_text(rules.read_text().replace("    chain forward {", f"{chain}    chain forward {{"))

    bundle = builder.changed(blind_it, "1.35-blind", tmp_path)
    running = box.update_status()["slot"]
    box.put(bundle, "/data/update.raucb")
    begin = len(box.text())
    box.ssh("nvr-update install /data/update.raucb", limit_s=900, check=False)
    box.wait_for(r"not committed, return: .*gate/main does not record", after=begin)
    assert comes_back(box, begin) == running
    assert_everybody_is_told(box, hub, page, state="return", version="1.35-blind", reason="gate/main does not record")


def test_wrong_signature_and_half_a_bundle_are_told_everywhere(box, hub, page, builder, tmp_path):
    foreign_keys = vms.Toolbox(builder.built.toolbox.path, (*builder.built.toolbox.folders, tmp_path))
    foreign = keys.development_signer(tmp_path / "keys", foreign_keys)
    root, boot = builder.built.root_image.path / "root.img", builder.built.boot.path / "boot.img"
    half = tmp_path / "half.raucb"
    whole = (builder.built.bundle.path / "update.raucb").read_bytes()
    half.write_bytes(whole[: len(whole) // 2])
    running = box.update_status()
    for bundle, word in ((builder.signed_by(foreign, tmp_path, root, boot, "6.6"), "signature"), (half, "signature")):
        box.put(bundle, "/data/update.raucb")
        box.ssh("nvr-update install /data/update.raucb", limit_s=600, check=False)
        last = last_update(box)
        assert word in last["reason"].lower(), last
        assert_everybody_is_told(box, hub, page, state="refused", version=last["version"], reason=last["reason"])
    assert box.update_status()["slot"] == running["slot"]
    assert box.recording() == {"gate/main": True}


def test_power_cuts_while_an_update_is_installed(box, builder, tmp_path):
    """Some hit while the slot is written, some while the state changes, some the first start of the new slot."""
    chance = random.Random(SEED)
    bundle = builder.changed(lambda firmware: None, "1.4", tmp_path)
    box.put(bundle, "/data/update.raucb")
    box.ssh("sync")
    started_s = time.monotonic()
    box.ssh("nvr-update install --no-restart /data/update.raucb", limit_s=900)
    install_s = time.monotonic() - started_s
    ends = []
    for number in range(CUTS):
        before = pictures(box)
        box.ssh("systemd-run --collect --unit=trial nvr-update install /data/update.raucb", check=False)
        wait_s = chance.uniform(0, install_s * 1.4)  # beyond its end: shutdown and the next start
        time.sleep(wait_s)
        box.kill()
        box.start()
        slot = comes_back(box)
        status = box.update_status()
        ends.append((round(wait_s), slot, status["version"]))
        print(
            f"cut {number}: after {wait_s:.0f} of {install_s:.0f} s -> slot {slot}, {status['version']}, {status['last']['state']}",
            flush=True,
        )
        assert status["last"]["state"] != "return", status  # nothing is wrong with it: it only takes longer
        assert pictures(box) >= before - 100  # what was not synced may be gone: seconds, never more
    assert len(ends) == CUTS


def test_power_cuts_at_the_first_start(new_box):
    chance = random.Random(SEED)
    for number in range(max(1, CUTS // 4)):
        box = new_box(f"first-{number}")
        cuts = [chance.uniform(2, 75) for _ in range(chance.randint(1, 3))]
        for wait_s in cuts:
            with box:
                time.sleep(wait_s)
        with box:
            slot = comes_back(box)
            print(f"first start {number}: cut after {[round(cut) for cut in cuts]} s -> slot {slot}", flush=True)
            assert box.ssh("hostname").strip() == "test-1"
            assert int(box.ssh("df --output=size /data | tail -1")) > 1_500_000


def test_a_site_file_with_a_mistake_is_told_on_page_and_card(new_box):
    box = new_box("mistake", site=SITE.replace("ring_gb: 0.2", "ring_gb: vierzig"))
    with box:
        box.wait_for("nvr: slot A committed")
        status, body = box.wait_for_page()
        assert status == 503
        assert "baris/line 8" in body.decode()
    card = vms.Card(box.toolbox, box.disk)
    assert "line 8" in card.get("site/RESULT.txt").decode()
    # mended on a laptop
    card.put("site/site.yaml", SITE.encode())
    with box:
        comes_back(box)


def test_recordings_go_to_a_usb_disk_that_is_plugged_in_later_and_pulled(new_box, tmp_path):
    """Without it nothing is recorded anywhere else, the page says why, and what was recorded goes on where it was when it is back."""
    usb = tmp_path / "usb.img"
    with open(usb, "wb") as file:
        file.truncate(1 << 30)
    monitor = tmp_path / "monitor"
    box = new_box("usb", site=SITE.replace("reserve_gb: 0.1", "path: /disk/rings, reserve_gb: 0.1"),
                  more=["-device", "qemu-xhci,id=usb", "-monitor", f"unix:{monitor},server=on,wait=off"])  # fmt: skip
    box.toolbox = vms.Toolbox(box.toolbox.path, (*box.toolbox.folders, tmp_path))
    box.toolbox.run(["mke2fs", "-q", "-t", "ext4", "-L", "NVR-DISK", usb])

    def plug_in() -> None:
        _monitor(monitor, f"drive_add 0 if=none,id=stick,file={usb},format=raw")
        _monitor(monitor, "device_add usb-storage,bus=usb.0,drive=stick,id=stick-device")
        wait_until(is_mounted, LIMIT_S, "the disk mounted")
        wait_until(is_recording, LIMIT_S, "recording on the disk")

    def is_mounted() -> bool:
        return box.ssh("findmnt -no FSTYPE /disk", check=False).strip() == "ext4"

    def is_recording() -> bool:
        try:
            return box.recording("/disk/nvr") == {"gate/main": True}
        except (vms.VmFailed, ValueError):
            return False

    def told(page: httpx.Client) -> dict:
        """What the page says of the disk; {} while it is being asked in vain."""
        try:
            return page.get("/api/status").json().get("disk", {})
        except (httpx.HTTPError, ValueError):
            return {}

    def recorded() -> int:
        listed = json.loads(box.ssh("nvr ring ls --data /disk/nvr --json"))["streams"]
        return sum(each["pictures"] for each in listed)

    with box:
        box.wait_for_shell()
        assert not is_mounted()
        assert box.ssh("ls -A /disk").strip() == ""
        plug_in()
        wait_until(lambda: recorded() > 100, LIMIT_S, "pictures on the disk")
        with logged_in(box, "/disk/nvr") as page:
            before = recorded()
            pulled_s = time.monotonic()
            _monitor(monitor, "device_del stick-device")
            wait_until(lambda: not is_mounted(), LIMIT_S, "the disk gone")
            disk = wait_until(
                lambda: (found := told(page)).get("cause") == "disk failed" and found, LIMIT_S, "the page says so"
            )
            print(f"pulled while it recorded: the page says so after {time.monotonic() - pulled_s:.0f} s: {disk}")
        assert box.ssh("ls -A /disk").strip() == ""
        assert box.ssh("ls -A /data/nvr/rings", check=False).strip() == ""
        assert box.ssh("systemctl is-active ssh").strip() == "active"
        plug_in()
        print(f"plugged in again: records after {time.monotonic() - pulled_s:.0f} s in all")
        wait_until(lambda: recorded() > before + 50, LIMIT_S, "more pictures than before")
        assert json.loads(box.ssh("nvr ledger --data /disk/nvr --json"))["streams"][0]["by_cause"]


def _monitor(path: Path, command: str) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.settimeout(20)
        connection.recv(4096)
        connection.sendall(command.encode() + b"\n")
        time.sleep(1)
        connection.recv(65536)


def _signer(builder):
    return keys.development_signer(builder.order.cache.absolute() / "keys", builder.built.toolbox)
