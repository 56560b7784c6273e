"""A site file that became faulty does not keep a box from recording that recorded with it before."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nvr import site_kept, site_trial
from nvr.errors import NvrError
from nvr.site import SiteFaulty
from nvr.site_budget import BudgetTooLarge
from nvr.site_kept import in_force, keep, kept, start_with

GOOD = """\
site: a
box: b
time_zone: UTC
storage: {path: data, reserve_gb: 0}
cameras:
  gate: {main: {source: rtsp, url: "rtsp://10.0.0.1/"}, ring_gb: 0.02}
"""
FAULTS = {
    "torn": GOOD[: len(GOOD) - 20],
    "empty": "",
    "zeros": "\0" * 300,
    "garbage": "\udcff\udcfe{[",
    "a wrong word": GOOD.replace("ring_gb", "rnig_gb"),
    "too large": GOOD.replace("0.02", "90000"),
}


@pytest.fixture
def site_path(tmp_path: Path) -> Path:
    (tmp_path / "data" / "run").mkdir(parents=True)
    path = tmp_path / "site.yaml"
    path.write_text(GOOD)
    return path


@pytest.fixture
def data_dir(site_path: Path) -> Path:
    return site_path.parent / "data"


def write(path: Path, text: str) -> None:
    path.write_bytes(text.encode("utf-8", "surrogateescape"))


@pytest.mark.parametrize("name", FAULTS)
def test_a_box_that_recorded_records_with_the_last_text_that_did_and_says_so(site_path, data_dir, name):
    keep(data_dir, site_path, GOOD.encode())
    write(site_path, FAULTS[name])
    start = start_with(site_path, data_dir)
    assert start.is_kept and [stream.name for stream in start.site.recorded_streams()] == ["gate/main"]
    assert start.site.path == site_path and "not in force" in start.fault and "\n" not in start.fault
    assert in_force(site_path, data_dir, is_kept=True).cameras == start.site.cameras


def test_a_file_that_is_gone_is_no_reason_either(site_path, data_dir):
    keep(data_dir, site_path, GOOD.encode())
    site_path.unlink()
    assert start_with(site_path, data_dir).is_kept


@pytest.mark.parametrize("name", FAULTS)
def test_at_the_first_start_a_faulty_file_is_refused(site_path, data_dir, name):
    write(site_path, FAULTS[name])
    with pytest.raises((SiteFaulty, BudgetTooLarge)):
        start_with(site_path, data_dir)


def test_a_good_file_is_in_force_whatever_was_kept(site_path, data_dir):
    keep(data_dir, site_path, GOOD.replace("gate", "yard").encode())
    start = start_with(site_path, data_dir)
    assert not start.is_kept and not start.fault and start.site.cameras[0].name == "gate"


def test_another_site_file_is_never_replaced(site_path, data_dir, tmp_path):
    """Somebody starts another site with the same data: its faults are theirs to mend."""
    keep(data_dir, site_path, GOOD.encode())
    other = tmp_path / "other.yaml"
    write(other, FAULTS["torn"])
    with pytest.raises(SiteFaulty):
        start_with(other, data_dir)


def test_who_waits_for_the_end_is_told_instead(site_path, data_dir):
    keep(data_dir, site_path, GOOD.encode())
    write(site_path, FAULTS["torn"])
    with pytest.raises(SiteFaulty):
        start_with(site_path, data_dir, is_box=False)


@pytest.mark.parametrize(
    "storage",
    ["storage: {reserve_gb: 0, path: data}", 'storage:  # the card\n  reserve_gb: 0\n  path: "data"  # relative', "storage:\n  path: data"],
)  # fmt: skip
def test_without_a_data_option_the_place_is_read_from_what_is_left_of_the_file(site_path, data_dir, storage):
    keep(data_dir, site_path, GOOD.encode())
    write(site_path, f"site: a\n{storage}\nbox: [torn")
    assert start_with(site_path, None).data_dir == data_dir


def test_rings_that_are_there_go_on_on_a_disk_that_got_fuller(site_path, data_dir, monkeypatch):
    """The same text recorded yesterday: a log that grew meanwhile must not end recording at the next start."""
    keep(data_dir, site_path, GOOD.encode())

    def too_large(site: object, place: Path) -> None:
        raise BudgetTooLarge("the rings do not fit", hint="")

    monkeypatch.setattr(site_kept, "check_budgets", too_large)
    start = start_with(site_path, data_dir)
    assert not start.is_kept and "it is recorded all the same" in start.fault


def test_a_file_on_trial_gives_way_to_the_one_before_it(site_path, data_dir):
    """And the trial is over: else the one that records would be taken for the one that is tried."""
    before = GOOD.replace("10.0.0.1", "10.0.0.9")
    trial = site_trial.Trial("c" * 32, "d" * 64, before, ("gate/main",), 60)
    site_trial.write_file(data_dir / site_trial.TRIAL, site_trial.json.dumps(site_trial.asdict(trial)).encode())
    keep(data_dir, site_path, GOOD.encode())
    write(site_path, FAULTS["torn"])
    start = start_with(site_path, data_dir)
    assert not start.is_kept and start.site.cameras[0].main.url.startswith("rtsp://10.0.0.9")
    assert not site_trial.is_tried(data_dir)


@pytest.mark.parametrize("damage", [b"", b"# Kept", b"\xff" * 99, GOOD.encode()])
def test_what_was_kept_may_be_damaged_too(site_path, data_dir, damage):
    (data_dir / site_kept.KEPT).write_bytes(damage)
    assert kept(data_dir, site_path) is None
    write(site_path, FAULTS["torn"])
    with pytest.raises(NvrError):
        start_with(site_path, data_dir)


def test_what_is_kept_is_the_text_itself_and_nobody_elses_business(site_path, data_dir):
    text = GOOD.encode() + b"# \xc3\xa9\r\n"
    assert keep(data_dir, site_path, text)
    found = kept(data_dir, site_path)
    assert found is not None and found.text == text
    assert os.stat(data_dir / site_kept.KEPT).st_mode & 0o077 == 0
    assert not keep(data_dir, site_path, text), "written once"
