from __future__ import annotations

from pathlib import Path

import pytest

from firmware import wifi


def radio(interfaces: Path, name: str, state: str) -> None:
    (interfaces / name / "phy80211").mkdir(parents=True)
    (interfaces / name / "operstate").write_text(f"{state}\n")


@pytest.mark.parametrize(
    ("states", "silent"),
    [
        ({}, []),
        ({"wlan0": "down"}, ["wlan0"]),
        ({"wlan0": "up"}, []),
        ({"wlan0": "dormant"}, []),  # it has the access point, and waits for its keys
        ({"wlan0": "down", "wlan1": "up"}, []),
        ({"wlan1": "down", "wlan0": "down"}, ["wlan0", "wlan1"]),
    ],
)
def test_radios_are_silent_when_none_has_joined(tmp_path, states, silent):
    for name, state in states.items():
        radio(tmp_path, name, state)
    (tmp_path / "eth0").mkdir()
    (tmp_path / "eth0/operstate").write_text("up\n")  # a cable says nothing about the radio
    assert wifi.silent_radios(tmp_path) == silent


def test_a_radio_that_is_pulled_meanwhile_is_no_reason_to_fail(tmp_path):
    (tmp_path / "wlan0/phy80211").mkdir(parents=True)
    assert wifi.silent_radios(tmp_path) == ["wlan0"]


def test_iwd_is_started_anew_only_then(tmp_path, monkeypatch, capsys):
    """iwd took a handshake that a starved access point cut short for a wrong passphrase, and joined only after a person had asked once more."""
    asked = tmp_path / "asked"
    monkeypatch.setattr(wifi, "START_ANEW", ("touch", str(asked)))
    monkeypatch.setattr(wifi, "silent_radios", lambda: [])
    assert wifi.main() == 0
    assert not asked.exists()
    monkeypatch.setattr(wifi, "silent_radios", lambda: ["wlan0"])
    assert wifi.main() == 0
    assert asked.exists()
    assert "wlan0: no Wi-Fi joined" in capsys.readouterr().out
