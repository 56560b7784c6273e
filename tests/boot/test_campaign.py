"""Longer trials than CI has time for: bundles that fail in other ways, and power cuts at random moments.

    NVR_CUTS=20 NVR_SEED=1 python -m pytest -m campaign tests/boot/test_campaign.py -s

A power cut kills QEMU with SIGKILL. What the guest had sent to its disk is then in this machine's page cache and stays, also what it had not flushed:
a disk that loses its own cache is harsher, and is not played here.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from boot import vm as vms
from boot.test_virt_x86 import comes_back, last_update, make_it_impatient, pictures, wait_until

pytestmark = [pytest.mark.boot, pytest.mark.campaign]

CUTS = int(os.environ.get("NVR_CUTS", "20"))
SEED = int(os.environ.get("NVR_SEED", "1"))


@pytest.fixture(scope="module")
def box(new_box) -> vms.Vm:
    found = new_box("campaign").start()
    found.wait_for("nvr: slot A committed")
    found.wait_for_shell()
    return found


def test_an_update_that_does_not_start_is_tried_three_times_and_left(box, builder, tmp_path):
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
    last = last_update(box)
    assert last["state"] == "return"
    assert "3 times" in last["reason"]


def test_an_update_without_uplink_goes_back(box, builder, tmp_path):
    """The uplink is played: somebody renews DATA/run/uplink.json, as the real one does, in the old slot only."""
    box.ssh(
        "systemd-run --unit=played-uplink --property=User=nvr sh -c "
        """'while :; do echo "{\\"connected\\": true}" > /data/nvr/run/uplink.json; sleep 5; done'"""
    )
    bundle = builder.changed(make_it_impatient, "1.3-silent", tmp_path)
    running = box.update_status()["slot"]
    box.put(bundle, "/data/update.raucb")
    begin = len(box.text())
    box.ssh("nvr-update install /data/update.raucb", limit_s=900, check=False)
    box.wait_for(r"not committed, return: .*hub was reached before", after=begin)
    assert comes_back(box, begin) == running
    assert "hub" in last_update(box)["reason"]


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
            f"cut {number}: after {wait_s:.0f} of {install_s:.0f} s -> slot {slot}, {status['version']}, {status['last']['result']}",
            flush=True,
        )
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
    from boot.conftest import SITE

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


def test_recordings_go_to_a_usb_disk_that_is_plugged_in_later(new_box, tmp_path):
    from boot.conftest import SITE

    usb = tmp_path / "usb.img"
    with open(usb, "wb") as file:
        file.truncate(1 << 30)
    monitor = tmp_path / "monitor"
    box = new_box("usb", site=SITE.replace("reserve_gb: 0.1", "path: /disk/rings, reserve_gb: 0.1"),
                  more=["-device", "qemu-xhci,id=usb", "-monitor", f"unix:{monitor},server=on,wait=off"])  # fmt: skip
    box.toolbox = vms.Toolbox(box.toolbox.path, (*box.toolbox.folders, tmp_path))
    box.toolbox.run(["mke2fs", "-q", "-t", "ext4", "-L", "NVR-DISK", usb])
    with box:
        box.wait_for_shell()
        assert box.ssh("findmnt -n /disk", check=False).strip() == ""
        assert int(box.ssh("du -sk /disk | cut -f1")) == 0
        _monitor(monitor, f"drive_add 0 if=none,id=stick,file={usb},format=raw")
        _monitor(monitor, "device_add usb-storage,bus=usb.0,drive=stick,id=stick-device")
        wait_until(
            lambda: (
                "NVR-DISK" in box.ssh("findmnt -no LABEL /disk", check=False)
                or "/disk" in box.ssh("findmnt -n /disk", check=False)
            ),
            120,
            "the disk mounted",
        )
        wait_until(
            lambda: "000000.mp4" in box.ssh("ls /disk/nvr/rings/gate/main", check=False), 240, "a ring on the disk"
        )
        _monitor(monitor, "device_del stick-device")
        wait_until(lambda: box.ssh("findmnt -n /disk", check=False).strip() == "", 120, "the disk gone")
        assert box.ssh("systemctl is-active ssh").strip() == "active"


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
    from image import keys

    return keys.development_signer(builder.order.cache.absolute() / "keys", builder.built.toolbox)
