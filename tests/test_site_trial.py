"""A site file from afar: tried, kept when it records, given back when it does not."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from nvr import site, site_trial
from nvr.site_trial import Trial, TrialRefused

OLD = """\
site: a
box: b
time_zone: UTC
storage: {path: data, reserve_gb: 0}
hub: {url: "https://hub.example.org"}
cameras:
  gate: {main: {source: rtsp, url: "rtsp://10.0.0.1/"}, ring_gb: 0.02}
"""
NEW = OLD.replace("10.0.0.1", "10.0.0.2")
TRIAL = Trial("c" * 32, "d" * 64, OLD, ("gate/main", "yard/main"), 60)
GOOD = {"gate/main": {"recording": True}}


@pytest.fixture
def box(tmp_path: Path) -> site.Site:
    (tmp_path / "data" / "run").mkdir(parents=True)
    (tmp_path / "site.yaml").write_text(OLD)
    return site.load(tmp_path / "site.yaml")


def begin(box: site.Site, text: str, digest: str | None = None) -> None:
    digest = digest or hashlib.sha256(text.encode()).hexdigest()
    site_trial.begin(box.storage.path, box, text.encode(), digest, "c" * 32, 60, ("gate/main",))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (NEW.replace("ring_gb: 0.02", "ring_gb: x"), "not a number"),
        (NEW.replace('hub: {url: "https://hub.example.org"}\n', ""), "names no hub"),
        (NEW.replace("path: data", "path: elsewhere"), "storage.path"),
        ("", "line"),
        ("[" * 1000, "line"),
    ],
)
def test_what_cannot_be_right_is_not_even_tried(box, text, says):
    with pytest.raises(TrialRefused, match=says):
        begin(box, text)
    assert box.path.read_text() == OLD and site_trial.load(box.storage.path) is None


def test_a_text_that_did_not_arrive_whole_is_refused(box):
    with pytest.raises(TrialRefused, match="did not arrive"):
        begin(box, NEW, "0" * 64)


def test_one_at_a_time(box):
    begin(box, NEW)
    with pytest.raises(TrialRefused, match="another"):
        begin(box, NEW)


def test_a_trial_that_is_kept(box):
    data_dir = box.storage.path
    begin(box, NEW)
    assert box.path.read_text() == NEW and site_trial.restart_asked(data_dir) and not site_trial.restart_asked(data_dir)
    trial = site_trial.load(data_dir)
    assert trial is not None and trial.before == OLD
    site_trial.keep(data_dir, trial)
    result = site_trial.result(data_dir)
    assert result is not None and result.is_kept and result.command == "c" * 32 and site_trial.load(data_dir) is None
    site_trial.forget_result(data_dir)
    assert site_trial.result(data_dir) is None


def test_a_box_that_keeps_losing_its_power_with_the_new_file_gets_the_old_one_back(box):
    data_dir = box.storage.path
    begin(box, NEW)
    assert [site_trial.started(data_dir, box.path) for _ in range(3)] == [False, False, True]
    assert box.path.read_text() == OLD
    result = site_trial.result(data_dir)
    assert result is not None and not result.is_kept and "2 times" in result.detail


def test_a_trial_that_cannot_be_read_is_none(box):
    (box.storage.path / site_trial.TRIAL).write_text("{")
    assert site_trial.load(box.storage.path) is None and not site_trial.started(box.storage.path, box.path)


@pytest.mark.parametrize(
    ("streams", "good_for_s", "running_s", "verdict"),
    [
        (GOOD, 10.0, 12.0, True),
        (GOOD, 9.0, 12.0, None),  # not steady yet
        (GOOD, 9.0, 60.0, False),
        ({}, 0.0, 5.0, None),
        ({}, 0.0, 60.0, False),
        ({"gate/main": {"recording": False, "cause": "camera"}}, 0.0, 60.0, False),
        ({**GOOD, "yard/main": {"recording": False, "cause": "network"}}, 0.0, 60.0, False),  # it recorded before
        ({**GOOD, "new/main": {"recording": False, "cause": "network"}}, 10.0, 12.0, True),  # a camera that is not there yet
    ],
)  # fmt: skip
def test_what_recorded_before_and_is_still_wanted_must_record(streams, good_for_s, running_s, verdict):
    assert site_trial.judge(TRIAL, streams, good_for_s, running_s) is verdict


def test_where_nothing_recorded_before_nothing_needs_to_record_now():
    trial = replace(TRIAL, recorded=())
    assert site_trial.judge(trial, {"gate/main": {"recording": False}}, 10.0, 12.0) is True
