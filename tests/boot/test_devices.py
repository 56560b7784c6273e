"""Hardware that the kernel itself can play, in a virtual PC: a USB camera (vivid), a radio and its access point (mac80211_hwsim, hostapd).

What vivid is not: a device on a bus, with its own faults. What hwsim is not: air.
"""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from boot import vm as vms
from boot.conftest import SITE
from boot.test_virt_x86 import wait_until
from image.mirror import Mirror, fetch, mirror_of_this_machine
from image.run import Toolbox

pytestmark = [pytest.mark.boot, pytest.mark.campaign]

LIMIT_S = 300.0
RADIO_S = 900.0  # nvr-wifi.timer looks every three minutes; emulated, on a busy machine
SSID, PASSPHRASE = "Balai Kota", "pala dan cengkih"
WITH_USB = (
    SITE
    + """  bench:
    main: {source: usb, device: /dev/video0, size: 320x180, fps: 5}
    ring_gb: 0.1
"""
)
NETWORK = f'wifi: {{ssid: {SSID}, password: "{PASSPHRASE}", country: ID}}\n'
HOSTAPD = f"""interface=wlan1
driver=nl80211
ssid={SSID}
hw_mode=g
channel=6
wpa=2
wpa_key_mgmt=WPA-PSK
rsn_pairwise=CCMP
wpa_passphrase={PASSPHRASE}
"""
ROUTER = """[Match]
Name=wlan1

[Network]
Address=10.77.0.1/24
DHCPServer=yes
"""


def make_hostapd(into: Path, toolbox: Toolbox, mirror: Mirror, *, architecture: str) -> None:
    """`into/tree`: the access point, as Debian has it, for the box to run from memory."""
    packages = ["hostapd", "libnl-3-200", "libnl-genl-3-200", "libnl-route-3-200", "libssl3t64"]
    for archive in fetch(into, toolbox, mirror, architecture, "trixie", packages):
        archive.unlink()


@pytest.fixture(scope="module")
def box(new_box) -> vms.Vm:
    made = new_box("devices", site=WITH_USB)
    vms.Card(made.toolbox, made.disk).put("site/network.yaml", NETWORK.encode())
    made.start().wait_for("nvr: slot A committed")
    made.wait_for_shell()
    return made


def test_a_usb_camera_that_is_plugged_in_later_is_recorded(box):
    wait_until(lambda: box.recording() == {"gate/main": True, "bench/main": False}, LIMIT_S, "only the other records")
    box.ssh("modprobe vivid n_devs=1 node_types=0x1")
    assert "vivid" in box.ssh("cat /sys/class/video4linux/video0/name").lower()
    wait_until(lambda: box.recording()["bench/main"], LIMIT_S, "it records")

    def listed() -> dict:
        streams = json.loads(box.ssh("nvr ring ls --data /data/nvr --json"))["streams"]
        return next((each for each in streams if each["stream"] == "bench/main"), {"pictures": 0})

    wait_until(lambda: listed()["pictures"] >= 30, LIMIT_S, "thirty pictures")
    assert (listed()["width"], listed()["height"], listed()["codec"]) == (320, 180, "h264")
    assert box.recording()["gate/main"]


def access_point(box: vms.Vm, name: str) -> None:
    box.ssh(
        f"systemd-run --unit=ap-{name} --setenv=LD_LIBRARY_PATH=$(dirname $(find /run/ap -name 'libnl-3.so.200')) "
        f"$(find /run/ap -name hostapd -type f -perm /1 | head -1) /run/ap/{name}.conf"
    )


def test_a_network_that_the_card_names_is_joined_and_nobody_is_asked(box, builder):
    """The card's file has name and password; the access point is Debian's hostapd, the address comes by DHCP. At first its handshakes fail,
    as they do beside a weak or starting access point: iwd takes that for a wrong passphrase and waits for a person, and nobody is there.
    """
    architecture = builder.order.recipe.architecture
    tree = builder.built.kitchen.make(
        "hostapd",
        make_hostapd,
        context={"toolbox": builder.built.toolbox, "mirror": mirror_of_this_machine()},
        architecture=architecture,
    ).path
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(tree / "tree/usr", "usr")
    box.ssh("mkdir -p /run/ap && tar -x -C /run/ap", given=packed.getvalue())
    box.ssh("cat > /run/ap/hostapd.conf", given=HOSTAPD.encode())
    box.ssh("cat > /run/ap/wrong.conf", given=HOSTAPD.replace(PASSPHRASE, "another passphrase").encode())
    # One of the two radios is the access point's: iwd, which would take both, leaves it alone.
    unit = "[Service]\nExecStart=\nExecStart=/usr/libexec/iwd -P phy1\n"
    box.ssh(
        "mkdir -p /run/systemd/system/iwd.service.d && cat > /run/systemd/system/iwd.service.d/test.conf",
        given=unit.encode(),
    )
    box.ssh("cat > /run/systemd/network/10-ap.network && networkctl reload", given=ROUTER.encode())
    box.ssh("nft insert rule inet nvr input iifname wlan1 udp dport 67 accept")
    assert SSID in box.ssh("ls /var/lib/iwd")
    box.ssh("systemctl daemon-reload && systemctl stop iwd && modprobe mac80211_hwsim radios=2")
    access_point(box, "wrong")
    box.ssh("systemctl start iwd")
    wait_until(
        lambda: "PSK-MISMATCH" in box.ssh("journalctl -u ap-wrong --no-pager"), RADIO_S, "a handshake that fails"
    )
    box.ssh("systemctl stop ap-wrong")
    access_point(box, "hostapd")

    def address() -> str:
        told = json.loads(box.ssh("ip -json -4 address show dev wlan0", check=False) or "[]")
        return next(
            (
                each["local"]
                for link in told
                for each in link.get("addr_info", ())
                if each["local"].startswith("10.77.")
            ),
            "",
        )

    wait_until(address, RADIO_S, "an address by radio")
    print(box.ssh("journalctl -u nvr-wifi -u iwd --no-pager -o short-monotonic | tail -20"))
    assert SSID in box.ssh("iwctl station wlan0 show")
    assert box.recording()["gate/main"]  # by cable, all the while
    card = vms.Card(box.toolbox, box.disk)
    assert "network.yaml" not in " ".join(card.names())
