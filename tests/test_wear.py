"""What was written to a disk is added up over boots, and the forecast says what it assumes. The kernel's files are stand-ins here."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from nvr import wear
from nvr.wear import Disk, Wear, forecast, looked

CARD = Disk("mmcblk0", "cid 1", 32 * 10**9, 5 * 10**9, None)
DAY_S = 86_400.0


def fake_sys(folder: Path, path: Path, *, written_sectors: int, **files: str) -> Path:
    """/sys for the disk that `path` lies on, as a partition of mmcblk0."""
    device = os.stat(path).st_dev
    disk = folder / "devices" / "mmcblk0"
    part = disk / "mmcblk0p6"
    part.mkdir(parents=True)
    (part / "partition").write_text("6\n")
    (disk / "stat").write_text(f"1 2 3 4 5 6 {written_sectors} 8 9 10 11\n")
    (disk / "size").write_text("62500000\n")
    (disk / "device").mkdir()
    for name, text in files.items():
        (disk / "device" / name).write_text(text)
    (folder / "dev" / "block").mkdir(parents=True)
    (folder / "dev" / "block" / f"{os.major(device)}:{os.minor(device)}").symlink_to(part)
    return folder


def test_the_disk_is_the_whole_one_and_not_the_partition(tmp_path):
    sys = fake_sys(tmp_path / "sys", tmp_path, written_sectors=2000, cid="abc\n", life_time="0x02 0x05\n")
    assert wear.disk_of(tmp_path, sys) == Disk("mmcblk0", "abc", 32_000_000_000, 1_024_000, 50)


def test_a_disk_that_does_not_say_its_name_is_known_by_its_size(tmp_path):
    sys = fake_sys(tmp_path / "sys", tmp_path, written_sectors=1)
    found = wear.disk_of(tmp_path, sys)
    assert found is not None
    assert (found.identity, found.life_used_percent) == ("mmcblk0 32000000000", None)


def test_where_there_is_no_disk_nothing_is_claimed(tmp_path):
    assert wear.disk_of(tmp_path, tmp_path / "no sys") is None
    assert wear.disk_of(tmp_path / "nowhere") is None


def test_what_was_written_is_added_up_over_boots():
    account = looked(None, CARD, "a", 100.0)
    assert account.written_bytes == 0, "what was written before anybody looked is not ours to guess"
    account = looked(account, replace(CARD, written_bytes=7 * 10**9), "a", 3700.0)
    assert (account.written_bytes, account.observed_s) == (2 * 10**9, 3600.0)
    account = looked(account, replace(CARD, written_bytes=10**9), "b", 1800.0)
    assert (account.written_bytes, account.observed_s) == (3 * 10**9, 5400.0)
    account = looked(account, replace(CARD, written_bytes=10**6), "b", 1900.0)  # taken out and put in again
    assert account.written_bytes == 3 * 10**9 + 10**6


def test_another_card_begins_its_own_account():
    account = looked(Wear("cid 1", 10**12, DAY_S, "a", 1, 1.0), replace(CARD, identity="cid 2"), "a", 10.0)
    assert (account.identity, account.written_bytes) == ("cid 2", 0)


def test_the_forecast_follows_its_assumptions():
    """32 GB, 1,000 cycles, twice the writes: it bears 16 TB; at 40 GB a day that is 400 days."""
    account = Wear("cid 1", 4 * 10**12, 100 * DAY_S)
    told = forecast(account, CARD, cycles=1000, write_amplification=2.0)
    assert told.bytes_per_day == 40 * 10**9
    assert told.life_left_percent == 75.0
    assert told.days_left == pytest.approx(300.0)
    assert forecast(account, CARD, cycles=2000, write_amplification=2.0).days_left == pytest.approx(700.0)
    assert not told.is_from_disk


def test_what_the_disk_says_of_itself_counts_more():
    told = forecast(Wear("cid 1", 10**9, DAY_S), replace(CARD, life_used_percent=90))
    assert (told.life_left_percent, told.is_from_disk) == (10.0, True)


def test_before_an_hour_there_is_no_date():
    told = forecast(Wear("cid 1", 10**9, 3599.0), CARD)
    assert (told.bytes_per_day, told.days_left) == (None, None)


def test_the_account_is_kept_and_a_damaged_one_begins_anew(tmp_path):
    account = Wear("cid 1", 5, 6.0, "a", 7, 8.0)
    wear.save(tmp_path, account)
    assert wear.load(tmp_path) == account
    for text in (
        "",
        "[]",
        "{}",
        '{"identity": 1}',
        '{"identity": "x", "written_bytes": -1}',
        '{"identity": "x", "more": 1}',
    ):
        (tmp_path / "wear.json").write_text(text)
        assert wear.load(tmp_path) is None, text
