"""What a box gives away of its log to the hub: bounded, without secrets. `journalctl` is a script here: the sandbox has no journal."""

from __future__ import annotations

from pathlib import Path

import pytest

from nvr import site as site_room
from nvr.uplink import own_log

SITE = """\
site: s
box: b
time_zone: UTC
hub: {url: "https://hub.example.org", code: 7F3K-QM2P-XW9D}
cameras:
  gate:
    main: {source: rtsp, url: "rtsp://10.0.0.11/main", user: viewer, password: "pala / cengkih"}
    ring_gb: 1
"""


@pytest.fixture
def site(tmp_path):
    (tmp_path / "site.yaml").write_text(SITE)
    return site_room.load(tmp_path / "site.yaml")


def journal(tmp_path: Path, monkeypatch, text: str, status: int = 0) -> Path:
    """A journalctl that says this and keeps what it was asked."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "told").write_text(text)
    program = tmp_path / "bin" / "journalctl"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\ncat {tmp_path}/told\nexit {status}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    return tmp_path / "asked"


def test_the_newest_lines_come_without_the_secrets_of_the_site_file(site, tmp_path, monkeypatch):
    asked = journal(
        tmp_path,
        monkeypatch,
        "a: wrong: pala / cengkih\nb: rtsp://viewer:pala%20%2F%20cengkih@10.0.0.11/main\nc: 7F3K-QM2P-XW9D\n"
        "d: Authorization: Basic dmlld2VyOnBhbGEgLyBjZW5na2lo\ne: ftp://joe:other@x\n"
        "the page of this box:  http://10.0.0.5:8080/enter#8qprIGpiuk8gGsddVlkrz (opens once)\nf: gate/main: reconnecting\x1b[2J\n",
    )
    found = own_log.newest(site, 100)
    text = "\n".join(found)
    for secret in ("pala", "cengkih", "7F3K", "dmlld2Vy", "joe:other", "8qprIGpiuk8gGsddVlkrz"):
        assert secret not in text
    assert found[-1] == "f: gate/main: reconnecting?[2J"
    assert "--lines=100" in asked.read_text() and "--unit=nvr*" in asked.read_text()


def test_it_is_bounded_in_lines_and_bytes_and_the_newest_stay(site, tmp_path, monkeypatch):
    journal(tmp_path, monkeypatch, "".join(f"{number} {'x' * 5000}\n" for number in range(600)))
    found = own_log.newest(site, 500)
    assert sum(len(line.encode()) + 1 for line in found) <= own_log.BYTES_MOST
    assert found[-1].startswith("599 ") and len(found) == own_log.BYTES_MOST // (own_log.LINE_BYTES_MOST + 1)
    assert len(own_log.newest(site, 3)) == 3


@pytest.mark.parametrize("status", [0, 1])
def test_a_box_without_a_log_says_so(site, tmp_path, monkeypatch, status):
    journal(tmp_path, monkeypatch, "", status)
    with pytest.raises(own_log.NoLog, match="no log"):
        own_log.newest(site, 10)


def test_a_box_without_a_journal_says_so(site, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(own_log.NoLog):
        own_log.newest(site, 10)
