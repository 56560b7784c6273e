"""What the uplink fetched for the hub is installed once, with RAUC as a mock at the edge: there is none on a machine without slots."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from firmware import gate, slots, update

NAME = f"{'a' * 64}.raucb"


class Places:
    def __init__(self, folder: Path) -> None:
        self.data, self.kept = folder / "data", folder / "update"
        self.updates = self.data / "updates"
        self.updates.mkdir(parents=True)
        (self.data / "run").mkdir()
        self.kept.mkdir()
        self.installed: list[str] = []
        self.restarts = 0

    def order(self, **said: object) -> None:
        (self.updates / NAME).write_bytes(b"bundle")
        (self.data / "run" / "update.json").write_text("{}")
        (self.updates / "ready.json").write_text(json.dumps({"file": NAME, "version": "1.2", "id": "0" * 32, **said}))

    def last(self) -> dict:
        return json.loads((self.kept / gate.LAST).read_bytes())

    def requested(self) -> int:
        return update.requested(self.data, self.kept)


@pytest.fixture
def places(tmp_path, monkeypatch) -> Places:
    places = Places(tmp_path)

    def install(bundle: str, folder: Path, *, restart: bool) -> int:
        assert not restart
        assert Path(bundle).read_bytes() == b"bundle"
        places.installed.append(bundle)
        gate.keep(folder, gate.LAST, {"state": "installed", "slot": "B", "version": "1.2", "reason": ""})
        return 0

    def restart() -> None:
        places.restarts += 1

    monkeypatch.setattr(update, "install", install)
    monkeypatch.setattr(update.slots, "restart", restart)
    return places


def test_a_bundle_is_installed_once_and_the_box_restarts(places):
    places.order()
    assert places.requested() == 0
    assert places.requested() == 0  # nothing is ordered any more
    assert places.installed == [str(places.updates / NAME)]
    assert places.restarts == 1
    assert places.last()["state"] == "restarting"
    assert list(places.updates.iterdir()) == []
    assert not (places.data / "run" / "update.json").exists()


def test_a_refused_bundle_does_not_restart_the_box(places, monkeypatch):
    monkeypatch.setattr(update, "install", lambda *_, **__: 1)
    places.order()
    assert places.requested() == 1
    assert places.restarts == 0
    assert list(places.updates.iterdir()) == []


def test_a_power_cut_while_installing_is_tried_again_but_not_for_ever(places, monkeypatch):
    class PowerCut(BaseException):
        pass

    def cut(*_: object, **__: object) -> int:
        raise PowerCut

    monkeypatch.setattr(update, "install", cut)
    for _ in range(update.TRIES):
        places.order()  # after a cut it is still there
        with pytest.raises(PowerCut):
            places.requested()
    places.order()
    assert places.requested() == 1
    assert places.last()["state"] == "refused"
    assert "tries" in places.last()["reason"]


@pytest.mark.parametrize("noted", ["installing", "installed", "restarting"])
def test_an_order_that_outlived_its_own_update_is_taken_back(places, monkeypatch, noted):
    """The power failed when the bundle was in slot B and the order still there: slot B started, tried it again, and told the hub *refused*."""
    monkeypatch.setattr(update.slots, "booted_slot", lambda: "B")
    monkeypatch.setattr(update, "_version_in", lambda bundle: "1.2")
    gate.keep(places.kept, update.TRIED, {"file": NAME, "tries": 1})
    gate.keep(places.kept, gate.LAST, {"state": noted, "slot": "B", "version": "1.2", "reason": ""})
    places.order()
    assert places.requested() == 0
    assert (places.installed, places.restarts) == ([], 0)
    assert places.last()["state"] == "restarting"  # until the gate says what became of it
    assert list(places.updates.iterdir()) == []


@pytest.mark.parametrize(
    "last",
    [
        {"state": "installing", "slot": "A", "version": "1.2"},  # it was cut short: A would not run otherwise
        {"state": "return", "slot": "B", "version": "1.2"},
        {"state": "committed", "slot": "B", "version": "1.1"},  # somebody installed another one by hand meanwhile
        {},
    ],
)
def test_an_order_that_was_not_dealt_with_is_installed(places, monkeypatch, last):
    monkeypatch.setattr(update.slots, "booted_slot", lambda: "B")
    monkeypatch.setattr(update, "_version_in", lambda bundle: "1.2")
    gate.keep(places.kept, update.TRIED, {"file": NAME, "tries": 1})
    gate.keep(places.kept, gate.LAST, last)
    places.order()
    assert places.requested() == 0
    assert (len(places.installed), places.restarts) == (1, 1)


@pytest.mark.parametrize("file", ["../../../etc/passwd", "x.raucb", "/data/x", f"{'a' * 64}.raucb\n", 7])
def test_an_order_names_a_bundle_in_its_own_folder_or_is_refused(places, file):
    places.order(file=file)
    assert places.requested() == 1
    assert places.installed == []
    assert "names no bundle" in places.last()["reason"]
    assert not (places.updates / "ready.json").exists()


def test_an_order_that_is_garbage_or_leads_elsewhere_is_refused(places):
    places.order()
    (places.updates / "ready.json").write_text("[" * 4000)
    assert places.requested() == 1
    places.order()
    (places.updates / NAME).unlink()
    (places.updates / NAME).symlink_to("/etc/hostname")
    assert places.requested() == 1
    assert places.installed == []


def test_while_it_is_installed_the_box_says_so(tmp_path, monkeypatch):
    """RAUC is played by a script that looks at what the box says meanwhile: a power cut leaves just that."""
    rauc = tmp_path / "bin/rauc"
    rauc.parent.mkdir()
    rauc.write_text(
        f'#!/bin/sh\n[ $1 = info ] && echo \'{{"version": "1.2"}}\' || cp {tmp_path}/last.json {tmp_path}/seen.json\n'
    )
    rauc.chmod(0o755)
    monkeypatch.setenv("PATH", f"{rauc.parent}:/usr/bin:/bin")
    monkeypatch.setattr(slots, "booted_slot", lambda: "A")
    assert update.install("some.raucb", tmp_path, restart=False) == 0
    seen, last = (json.loads((tmp_path / name).read_bytes()) for name in ("seen.json", gate.LAST))
    assert (seen["state"], seen["slot"], seen["version"]) == ("installing", "B", "1.2")
    assert (last["state"], last["slot"], last["version"]) == ("installed", "B", "1.2")
