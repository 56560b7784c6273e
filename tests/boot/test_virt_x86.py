"""The image of the virtual PC: made here, started by its own bootloader, told what to record by its card, updated, broken, and back again.

One box lives through the whole file, because a start under emulation is dear. `pytest -m boot` builds what it needs; the logs
of the serial line are kept where NVR_BOOT_LOGS says.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from boot import vm as vms
from image import keys
from image.build import ROOT
from nvr.uplink import neighbours

pytestmark = pytest.mark.boot

UNITS = ("nvr-setup", "nvr", "nvr-slot-good", "nvr-keep", "nvr-light", "nvr-unset-page", "nvr-disk-owner", "nvr-update-ordered", "nvr-wifi")  # fmt: skip
EXPOSURE_MOST = 2.0  # systemd-analyze security counts from 0 to 10


@dataclass(frozen=True)
class Lan:
    """A cable between the box and this machine, without a router: both have link-local addresses."""

    name: str
    address: str


@pytest.fixture(scope="module")
def lan() -> Iterator[Lan | None]:
    """None where this machine makes no network devices."""
    made = Lan(f"nvr{os.getpid() % 100_000}", f"169.254.{200 + os.getpid() % 50}.1")
    added = subprocess.run(["ip", "tuntap", "add", "dev", made.name, "mode", "tap"], capture_output=True, check=False)
    if added.returncode != 0:
        yield None
        return
    try:
        subprocess.run(["ip", "address", "add", f"{made.address}/16", "dev", made.name], check=True)
        subprocess.run(["ip", "link", "set", made.name, "up"], check=True)
        yield made
    finally:
        subprocess.run(["ip", "link", "delete", made.name], check=True)


@pytest.fixture(scope="module")
def box(new_box, lan) -> vms.Vm:
    cable = (
        [
            "-netdev",
            f"tap,id=n1,ifname={lan.name},script=no,downscript=no",
            "-device",
            "virtio-net-pci,netdev=n1,romfile=",
        ]
        if lan
        else []
    )
    return new_box("virt-x86", more=cable).start()


def wait_until(condition, limit_s: float, what: str):
    end_s = time.monotonic() + limit_s
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end_s, f"not within {limit_s:.0f} s: {what}"
        time.sleep(2)


def comes_back(box: vms.Vm, after: int = 0, streams: Sequence[str] = ("gate/main",)) -> str:
    """The slot that commits and records, whichever it is."""
    slot: str = box.wait_for(r"nvr: slot (\w) committed", after=after)[1]
    box.wait_for_shell()
    wait_until(lambda: box.recording() == dict.fromkeys(streams, True), 240, "recording")
    return slot


def pictures(box: vms.Vm) -> int:
    listed = json.loads(box.ssh("nvr ring ls --data /data/nvr --json"))
    return sum(stream["pictures"] for stream in listed["streams"])


def last_update(box: vms.Vm) -> dict:
    return box.update_status()["last"]


def make_it_impatient(firmware) -> None:
    """The bound is five minutes on a box; what is tested here is that it ends, and a test has less time."""
    drop_in(firmware, "nvr-slot-good", "[Service]\nEnvironment=NVR_GATE_BOUND_S=40 NVR_GATE_STARTS=1\n")


def drop_in(firmware, unit: str, text: str) -> None:
    path = firmware / f"etc/systemd/system/{unit}.service.d/test.conf"
    path.parent.mkdir(parents=True)
    path.write_text(text)


# -- a new card --------------------------------------------------------------------------------------


def test_a_new_card_records_serves_its_page_and_commits(box, builder):
    box.wait_for(r"nvr: slot A \(state 0")
    box.wait_for("nvr: slot A committed")
    print(f"from power on to committed: {box.since_start_s():.0f} s with {box.accel}")
    status, _ = box.wait_for_page()
    assert status in (200, 303, 401)
    box.wait_for_shell()
    assert box.recording() == {"gate/main": True}
    first = pictures(box)
    wait_until(lambda: pictures(box) > first, 120, "more pictures")
    assert box.ssh("hostname").strip() == "test-1"
    assert box.update_status()["state"] == {
        "order": ["A", "B"],
        "left_a": 3,
        "left_b": 0,
        "good_a": True,
        "good_b": False,
    }


def test_data_grew_to_the_end_of_the_card_and_nothing_failed(box):
    size_kib = int(box.ssh("df --output=size /data | tail -1"))
    assert size_kib > 1_500_000
    assert box.ssh("systemctl --failed --no-legend --plain").strip() == ""
    assert box.ssh("findmnt -no OPTIONS / | tr , '\\n' | head -1").strip() == "ro"
    assert box.ssh("wc -l < /proc/swaps").strip() == "2"  # zram, and nothing on the card


def test_nvrctl_finds_it_on_the_lan(box, lan):
    if lan is None:
        pytest.skip("this machine makes no network device: needs root and /dev/net/tun")

    def found() -> list[dict]:
        command = [sys.executable, "-m", "tools.nvrctl", "box", "find", "--interface", lan.address, "--json"]
        told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        return json.loads(told.stdout)["boxes"] if told.stdout else []

    (seen,) = wait_until(found, 240, "the box announced")
    assert (seen["box"], seen["port"]) == ("test-1", 8080)
    assert seen["address"].startswith("169.254.")


def test_boxes_find_each_other_beside_systemd_resolved(box, lan):
    """Whoever has an update on the LAN: the box's own resolver answers our one question, and the box, behind its firewall, hears another's."""
    if lan is None:
        pytest.skip("this machine makes no network device: needs root and /dev/net/tun")
    wait_until(
        lambda: [page for page in neighbours.pages() if page.startswith("http://169.254.")], 240, "the box answers"
    )
    from zeroconf import IPVersion, ServiceInfo, Zeroconf

    other = Zeroconf(interfaces=[lan.address], ip_version=IPVersion.V4Only)
    name = f"waihaong-2.{neighbours.SERVICE}."
    info = ServiceInfo(
        f"{neighbours.SERVICE}.", name, port=8085, addresses=[socket.inet_aton(lan.address)], server="waihaong-2.local."
    )
    other.register_service(info)
    code = "from nvr.uplink import neighbours; print(neighbours.pages())"
    try:
        wait_until(
            lambda: f"http://{lan.address}:8085" in box.ssh(f"runuser -u nvr -- python3 -c {shlex.quote(code)}"),
            240,
            "the box hears it",
        )
    finally:
        other.unregister_service(info)
        other.close()


def test_everything_that_the_processes_of_a_box_load_is_in_the_image(box):
    """Once a library was pruned that FFmpeg links: no still, no detection, no USB camera, and no test of the image that asked for one."""
    modules = (
        "av",
        "numpy",
        "ai_edge_litert.interpreter",
        "crc32c",
        "argon2",
        "cryptography",
        "httpx",
        "starlette",
        "uvicorn",
        "websockets",
        "yaml",
        "systemd.daemon",
    )
    code = "import importlib; print(*(importlib.import_module(name).__name__ for name in " + repr(modules) + "))"
    assert box.ssh(f"runuser -u nvr -- python3 -c {shlex.quote(code)}").split() == list(modules)


def test_the_secrets_of_the_card_are_gone_from_it(box):
    card = vms.Card(box.toolbox, box.disk)
    assert set(card.names()) == {"::/site/README.txt", "::/site/RESULT.txt"}
    result = card.get("site/RESULT.txt").decode()
    assert "diterima" in result
    assert "accepted" in result
    with open(box.disk, "rb") as disk:
        disk.seek(1 << 20)
        assert b"secret-word-7" not in disk.read(64 << 20)
    assert box.ssh("journalctl -b --no-pager | grep -c secret-word-7", check=False).strip() == "0"


def test_no_unit_of_ours_may_do_more_than_it_needs(builder):
    """Counted from the tree of the root alone, by the systemd that the image has; the report of every build has it."""
    exposures = builder.built.report["exposure"]
    assert {f"{name}.service" for name in UNITS} == set(exposures)
    print(f"exposure: {exposures}")
    assert all(value <= EXPOSURE_MOST for value in exposures.values()), exposures


def test_units_of_ours_are_locked_in(box):
    told = box.ssh(
        f"for unit in {' '.join(UNITS)}; do systemd-analyze security --no-pager $unit.service | tail -1; done",
        limit_s=900,
    )
    exposures = dict(re.findall(r"level for (\S+)\.service: ([0-9.]+)", told))
    assert set(exposures) == set(UNITS), told
    print(f"exposure: {exposures}")
    assert all(float(value) <= EXPOSURE_MOST for value in exposures.values()), exposures
    assert box.ssh("ps -o user= -C python3 | sort | uniq -c | sort -n | tail -1").split()[-1] == "nvr"
    asked = "runuser -u nvr -- busctl call de.pengutronix.rauc / de.pengutronix.rauc.Installer GetSlotStatus 2>&1"
    assert "access denied" in box.ssh(asked, check=False).lower()


# -- updates -----------------------------------------------------------------------------------------


def test_an_update_is_committed_when_the_camera_records_again(box, builder, tmp_path):
    bundle = builder.changed(lambda firmware: None, "1.1", tmp_path)
    before = pictures(box)
    box.put(bundle, "/data/update.raucb")
    started = box.text().__len__()
    box.ssh("nvr-update install --no-restart /data/update.raucb", limit_s=600)
    state = box.update_status()["state"]
    assert (state["order"], state["left_b"], state["good_b"]) == (["B", "A"], 3, False)
    box.ssh("systemctl reboot", check=False)
    box.wait_for(r"nvr: slot B \(state 0", after=started)
    box.wait_for("nvr: slot B committed", after=started)
    box.wait_for_shell()
    status = box.update_status()
    assert (status["slot"], status["version"], status["last"]["state"]) == ("B", "1.1", "committed")
    assert status["state"]["good_a"]
    assert pictures(box) > before  # the ring went along


def test_a_bundle_with_another_signature_or_cut_in_half_changes_nothing(box, builder, tmp_path):
    ours = builder.built.bundle.path / "update.raucb"
    foreign = keys.development_signer(
        tmp_path / "keys", vms.Toolbox(builder.built.toolbox.path, (*builder.built.toolbox.folders, tmp_path))
    )
    wrong = builder.signed_by(
        foreign, tmp_path, builder.built.root_image.path / "root.img", builder.built.boot.path / "boot.img", "6.6"
    )
    half = tmp_path / "half.raucb"
    half.write_bytes(ours.read_bytes()[: ours.stat().st_size // 2])
    before = box.update_status()["state"]
    for bundle, word in ((wrong, "signature"), (half, "signature")):
        box.put(bundle, "/data/update.raucb")
        box.ssh("nvr-update install --no-restart /data/update.raucb && echo installed", check=False, limit_s=600)
        last = last_update(box)
        assert last["state"] == "refused"
        assert word in last["reason"].lower() or "size" in last["reason"].lower(), last
        assert box.update_status()["state"] == before
    assert box.recording() == {"gate/main": True}


def test_an_update_that_does_not_record_goes_back_by_itself_and_says_why(box, builder, tmp_path):
    def break_it(firmware):
        make_it_impatient(firmware)
        drop_in(firmware, "nvr", "[Service]\nExecStart=\nExecStart=/usr/bin/false\n")

    bundle = builder.changed(break_it, "1.2-mute", tmp_path)
    running = box.update_status()
    box.put(bundle, "/data/update.raucb")
    started = len(box.text())
    box.ssh("nvr-update install /data/update.raucb", limit_s=600, check=False)
    other = "A" if running["slot"] == "B" else "B"
    box.wait_for(rf"nvr: slot {other} \(state 0", after=started)
    box.wait_for(rf"nvr: slot {other} not committed, return", after=started)
    box.wait_for(rf"nvr: slot {running['slot']} \(state 0", after=started)
    box.wait_for(rf"nvr: slot {running['slot']} committed", after=started)
    box.wait_for_shell()
    status = box.update_status()
    assert (status["slot"], status["version"]) == (running["slot"], running["version"])
    assert status["last"]["state"] == "return"
    assert "record does not answer" in status["last"]["reason"]
    wait_until(lambda: box.recording() == {"gate/main": True}, 120, "recording again")
