from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from firmware import firstboot, network
from firmware.firstboot import Places

ED25519 = base64.b64encode((11).to_bytes(4, "big") + b"ssh-ed25519" + (32).to_bytes(4, "big") + bytes(32)).decode()
KEY = f"ssh-ed25519 {ED25519} installer\n".encode()
SITE = b"""site: puskesmas-waihaong
time_zone: Asia/Jayapura
box: waihaong-1
storage: {reserve_gb: 0}
cameras:
  gate:
    main: {source: rtsp, url: "rtsp://10.0.0.11/main", user: viewer, password: secret-word-7}
    ring_gb: 0.05
"""
NETWORK = b"""ethernet: {address: 192.168.7.20/24, gateway: 192.168.7.1, dns: [192.168.7.1]}
wifi: {ssid: Balai Kota, password: "pala dan cengkih", country: ID}
ntp: [ntp.example.org]
"""


@pytest.fixture
def places(tmp_path) -> Places:
    for name in ("card", "data", "run", "iwd"):
        (tmp_path / name).mkdir()
    return Places(tmp_path / "card", tmp_path / "data", tmp_path / "run", tmp_path / "iwd")


def result(places: Places) -> str:
    return (places.card / "RESULT.txt").read_bytes().decode()


def test_a_good_card_is_taken_and_nothing_of_it_stays_behind(places):
    (places.card / "site.yaml").write_bytes(SITE)
    (places.card / "network.yaml").write_bytes(NETWORK)
    (places.card / "authorized_keys").write_bytes(KEY)
    assert [outcome.faults for outcome in firstboot.take_all(places)] == [(), (), ()]
    assert sorted(path.name for path in places.card.iterdir()) == ["RESULT.txt"]
    assert places.site.read_bytes() == SITE
    assert places.site.stat().st_mode & 0o777 == 0o640
    assert (places.system / "network.yaml").stat().st_mode & 0o777 == 0o600
    text = result(places)
    assert "diterima (kotak waihaong-1, 1 kamera)" in text
    assert "accepted (box waihaong-1, 1 cameras)" in text
    assert "secret-word-7" not in text
    assert "cengkih" not in text


def test_a_secret_is_overwritten_before_its_file_goes(places, monkeypatch):
    (places.card / "site.yaml").write_bytes(SITE)
    seen = []
    unlink = Path.unlink
    monkeypatch.setattr(
        Path, "unlink", lambda path, **options: (seen.append(path.read_bytes()), unlink(path, **options))
    )
    firstboot.take_all(places)
    assert seen == [bytes(len(SITE))]


def test_a_faulty_site_file_stays_on_the_card_and_its_lines_are_named(places):
    firstboot.put(places.site, SITE, mode=0o640)
    wrong = SITE.replace(b"ring_gb: 0.05", b"ring_gb: vierzig").replace(
        b"time_zone: Asia/Jayapura", b"time_zone: Asia/Ambon"
    )
    (places.card / "site.yaml").write_bytes(wrong)
    (outcome,) = firstboot.take_all(places)
    assert {fault.line for fault in outcome.faults} == {2, 8}
    assert (places.card / "site.yaml").read_bytes() == wrong
    assert places.site.read_bytes() == SITE
    text = result(places)
    assert "baris/line 8" in text
    assert "Pengaturan lama yang benar tetap dipakai" in text
    assert "The good settings from before stay in force" in text
    assert "secret-word-7" not in text


def test_rings_that_do_not_fit_are_said_on_the_card_with_the_numbers(places):
    (places.card / "site.yaml").write_bytes(SITE.replace(b"0.05", b"90000"))
    (outcome,) = firstboot.take_all(places)
    assert "do not fit" in outcome.faults[0].what
    assert "90000" in result(places)


@pytest.mark.parametrize("text", [b"\xef\xbb\xbf" + SITE, SITE.replace(b"\n", b"\r\n")])
def test_what_editors_on_laptops_do_to_text_is_no_fault(places, text):
    (places.card / "site.yaml").write_bytes(text)
    (outcome,) = firstboot.take_all(places)
    assert outcome.faults == ()
    assert places.site.read_bytes() == SITE


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 5000,
        b"\xff\xfe" + "site: x".encode("utf-16-le"),
        b"- [",
        b"x" * (firstboot.FILE_BYTES + 1),
        os.urandom(300),
    ],
)
@pytest.mark.parametrize("name", ["site.yaml", "network.yaml", "authorized_keys"])
def test_rubbish_on_the_card_is_told_and_harms_nothing(places, name, data):
    (places.card / name).write_bytes(data)
    (outcome,) = firstboot.take_all(places)
    assert outcome.faults
    assert name in result(places)
    firstboot.prepare(places)


@pytest.mark.parametrize("calls", range(1, 14))
def test_a_power_cut_at_any_step_leaves_the_file_in_one_place_whole(places, monkeypatch, calls):
    """Every fsync, rename and unlink may be the last thing that happened; the next start gets everything right."""
    (places.card / "site.yaml").write_bytes(SITE)

    class PowerCut(BaseException):
        pass

    left = [calls]

    def counted(function):
        def call(*arguments, **options):
            left[0] -= 1
            if left[0] <= 0:
                raise PowerCut
            return function(*arguments, **options)

        return call

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", counted(os.fsync))
        patched.setattr(Path, "replace", counted(Path.replace))
        patched.setattr(Path, "unlink", counted(Path.unlink))
        try:
            firstboot.take_all(places)
        except PowerCut:
            pass
    whole = [path for path in (places.card / "site.yaml", places.site) if path.exists() and path.read_bytes() == SITE]
    assert whole
    firstboot.take_all(places)
    assert places.site.read_bytes() == SITE
    assert not any(b"secret" in path.read_bytes() for path in places.card.iterdir())


def test_a_card_without_a_site_file_says_what_is_missing(places):
    assert firstboot.take_all(places) == []
    assert "put a site.yaml into this folder" in result(places)


def test_a_damaged_file_in_force_is_said_on_the_card_in_both_languages(places):
    """Nobody put a new file on the card: the disk did not keep the one inside."""
    firstboot.put(places.site, SITE, mode=0o640)
    firstboot.put(places.in_force, SITE[:-40], mode=0o600)
    firstboot.take_all(places)
    assert "Berkas lokasi di dalam kotak ini rusak" in result(places)
    assert "records with the last one that recorded" in result(places)
    assert "secret-word-7" not in result(places)


def test_a_box_whose_given_file_is_gone_or_damaged_keeps_its_data_where_it_was(places):
    """Rings on a USB disk: with the wrong data directory it would begin new ones on the card."""
    text = SITE.replace(b"reserve_gb: 0", b"path: /disk/rings, reserve_gb: 0")
    firstboot.put(places.in_force, text, mode=0o600)
    for damaged in (None, b"\0" * 300):
        if damaged is not None:
            firstboot.put(places.site, damaged, mode=0o640)
        firstboot.prepare(places)
        assert "NVR_DATA=/disk/nvr" in (places.run / "nvr-setup/environment").read_text()


# -- SSH keys ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("ssh-ed25519 AAAA", "cut off"),
        (f'command="sh" ssh-ed25519 {ED25519}', "does not begin"),
        (f"ssh-rsa {ED25519}", "cut off or damaged"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "private key"),
        ("ssh-dss AAAAB3NzaC1kc3M=", "does not begin"),
    ],
)
def test_a_key_that_is_none_is_refused(line, what):
    assert what in firstboot.fault_of_key(line)


def test_a_key_is_taken():
    assert firstboot.fault_of_key(KEY.decode()) == ""


# -- what others read --------------------------------------------------------------------------------


def test_the_network_of_the_card_becomes_what_networkd_and_iwd_read(places):
    firstboot.put(places.site, SITE, mode=0o640)
    firstboot.put(places.system / "network.yaml", NETWORK, mode=0o600)
    firstboot.prepare(places)
    wired = (places.run / "systemd/network/20-ethernet.network").read_text()
    assert "Address=192.168.7.20/24" in wired
    assert "Gateway=192.168.7.1" in wired
    secret = places.iwd / "Balai Kota.psk"
    assert "Passphrase=pala dan cengkih" in secret.read_text()
    assert secret.stat().st_mode & 0o777 == 0o600
    assert "server ntp.example.org" in (places.run / "chrony-dhcp/site.sources").read_text()
    assert (places.run / "nvr-setup/hostname").read_text() == "waihaong-1\n"
    assert os.readlink(places.system / "localtime") == "/usr/share/zoneinfo/Asia/Jayapura"


def test_without_a_file_every_port_asks_for_an_address_and_has_one_of_its_own(places):
    firstboot.prepare(places)
    wired = (places.run / "systemd/network/20-ethernet.network").read_text()
    assert "DHCP=yes" in wired
    assert "LinkLocalAddressing=yes" in wired
    assert "NVR_PORT=8080" in (places.run / "nvr-setup/environment").read_text()
    announced = places.run / "systemd/dnssd/nvr.dnssd"
    assert "Type=_nvr._tcp\nPort=8080\n" in announced.read_text()
    assert announced.stat().st_mode & 0o777 == 0o644  # resolved is not root
    assert list(places.iwd.iterdir()) == []


def test_rings_on_a_usb_disk_are_where_the_site_file_says(places):
    (places.card / "site.yaml").write_bytes(SITE.replace(b"reserve_gb: 0", b"path: /disk/rings, reserve_gb: 0"))
    (outcome,) = firstboot.take_all(places)
    assert outcome.faults == ()  # the disk may come later
    firstboot.prepare(places)
    assert "NVR_DATA=/disk/nvr" in (places.run / "nvr-setup/environment").read_text()


def test_what_is_damaged_on_the_data_partition_does_not_stop_the_start(places):
    firstboot.put(places.system / "network.yaml", b"\0\0\0", mode=0o600)
    firstboot.put(places.site, b"\xff\xff", mode=0o640)
    firstboot.prepare(places)
    assert "DHCP=yes" in (places.run / "systemd/network/20-ethernet.network").read_text()


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        (b"ethernet: {address: 10.0.0.5}", 1, "ethernet.address"),
        (b"ethernet:\n  address: 10.0.0.5/24\n  gateway: 10.0.1.1", 2, "ethernet.gateway"),
        (b"wifi: {ssid: a, password: short, country: ID}", 1, "wifi.password"),
        (b"wifi: {ssid: a, country: Indonesia}", 1, "wifi.country"),
        (b"wlan: {}", 1, "wlan"),
        (b"ntp: [a b]", 1, "ntp"),
    ],
)
def test_a_mistake_in_the_network_file_is_named(text, line, key):
    found, faults = network.read(text)
    assert found is None
    assert (faults[0].line, faults[0].key) == (line, key)
    assert "short" not in str(faults)


def test_a_network_name_with_other_letters_is_written_as_iwd_wants_it():
    assert list(network.iwd_files(network.Wifi("Café", "ID", "12345678"))) == ["=436166c3a9.psk"]
    assert list(network.iwd_files(network.Wifi("open", "ID"))) == ["open.open"]
