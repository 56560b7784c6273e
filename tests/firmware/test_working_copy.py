"""Whose site file is in force: the card's, until the hub or the page changed it, until a card brings another one."""

from __future__ import annotations

import pytest

from firmware import working_copy


@pytest.fixture
def given(tmp_path):
    path = tmp_path / "given.yaml"
    path.write_text("site: one\n")
    return path


def test_the_cards_file_is_taken_once(given, tmp_path):
    in_force = tmp_path / "nvr" / "site" / "site.yaml"
    assert working_copy.take(given, in_force)
    assert in_force.read_text() == "site: one\n"
    assert in_force.stat().st_mode & 0o777 == 0o600
    assert not working_copy.take(given, in_force)


def test_what_was_changed_here_stays_until_a_card_brings_another_file(given, tmp_path):
    in_force = tmp_path / "nvr" / "site" / "site.yaml"
    working_copy.take(given, in_force)
    in_force.write_text("site: from the hub\n")
    assert not working_copy.take(given, in_force)
    assert in_force.read_text() == "site: from the hub\n"
    given.write_text("site: another card\n")
    assert working_copy.take(given, in_force)
    assert in_force.read_text() == "site: another card\n"


def test_a_copy_that_a_power_cut_emptied_is_made_again(given, tmp_path):
    in_force = tmp_path / "nvr" / "site" / "site.yaml"
    working_copy.take(given, in_force)
    in_force.write_text("")
    assert working_copy.take(given, in_force)
    assert in_force.read_text() == "site: one\n"


@pytest.mark.parametrize("at", [0, 1])
def test_a_power_cut_between_leaves_the_old_one_or_the_new_one(given, tmp_path, monkeypatch, at):
    in_force = tmp_path / "nvr" / "site" / "site.yaml"
    working_copy.take(given, in_force)
    given.write_text("site: two\n")
    replaced, count = working_copy._replace, iter(range(9))

    def cut(path, text):
        if next(count) == at:
            raise OSError("power")
        replaced(path, text)

    monkeypatch.setattr(working_copy, "_replace", cut)
    with pytest.raises(OSError, match="power"):
        working_copy.take(given, in_force)
    assert in_force.read_text() in ("site: one\n", "site: two\n")
    monkeypatch.setattr(working_copy, "_replace", replaced)
    assert working_copy.take(given, in_force)
    assert in_force.read_text() == "site: two\n"


SITE = """\
site: a
box: b
time_zone: UTC
cameras:
  gate: {main: {source: rtsp, url: "rtsp://10.0.0.1/"}, ring_gb: 0.02}
"""


@pytest.mark.parametrize("damage", [None, "", SITE[:-9], "\0" * 99])
def test_a_given_file_that_the_disk_did_not_keep_does_not_replace_a_good_one(given, tmp_path, damage, capsys):
    in_force = tmp_path / "nvr" / "site" / "site.yaml"
    given.write_text(SITE)
    working_copy.take(given, in_force)
    if damage is None:
        given.unlink()
    else:
        given.write_text(damage)
    assert not working_copy.take(given, in_force)
    assert in_force.read_text() == SITE
    assert "in force stays" in capsys.readouterr().out, "never quietly"


def test_without_any_copy_a_given_file_that_is_gone_is_an_error(given, tmp_path):
    given.unlink()
    with pytest.raises(FileNotFoundError):
        working_copy.take(given, tmp_path / "nvr" / "site" / "site.yaml")
