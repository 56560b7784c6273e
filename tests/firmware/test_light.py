"""The light that blinks while a file is faulty. The folder here stands in for /sys/class/leds: a file takes what is written, as sysfs does, but shows no brackets by itself."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from firmware import firstboot, light
from firmware.firstboot import Places
from nvr import troubles
from nvr.troubles import CARD, PROCESS, SITE, Trouble

UNITS = Path(light.__file__).parent / "units"
OFFERED = "none kbd-scrolllock timer heartbeat disk-activity {}"


@pytest.fixture
def leds(tmp_path) -> Path:
    for name in ("ACT", "PWR", "mmc0::", "input3::capslock"):
        (tmp_path / "leds" / name).mkdir(parents=True)
        (tmp_path / "leds" / name / "trigger").write_text(OFFERED.format("[mmc0]"))
    return tmp_path / "leds"


def shown(leds: Path) -> str:
    return (leds / "ACT" / "trigger").read_text()


def test_it_blinks_while_something_is_wrong_and_shows_again_what_it_showed(leds, tmp_path):
    former = tmp_path / "former"
    assert light.show(False, leds, former) == ""
    assert shown(leds) == OFFERED.format("[mmc0]")
    assert light.show(True, leds, former) == "ACT blinks"
    assert shown(leds) == "timer"
    assert {(leds / "ACT" / name).read_text() for name in ("delay_on", "delay_off")} == {"250"}
    assert light.show(True, leds, former) == ""  # what it had before is not forgotten
    assert "again" in light.show(False, leds, former)
    assert shown(leds) == "mmc0"
    assert light.show(False, leds, former) == ""


def test_the_other_lights_are_left_alone(leds, tmp_path):
    light.show(True, leds, tmp_path / "former")
    for name in ("PWR", "mmc0::", "input3::capslock"):
        assert (leds / name / "trigger").read_text() == OFFERED.format("[mmc0]")


@pytest.mark.parametrize(
    "names, expected",
    [
        (("ACT", "PWR"), "ACT"),
        (("default-on", "led0", "led1"), "led0"),
        (("green:activity", "blue:status"), "green:activity"),
        (("nanopi:red:pwr", "nanopi:green:status"), "nanopi:green:status"),
        (("mmc0::", "input0::numlock", "input0::capslock", "enp1s0-act"), None),
        ((), None),
    ],
)
def test_which_light_it_is(names, expected):
    assert light.chosen(names) == expected


def test_a_board_without_a_light_or_without_blinking_stays_as_it_is(leds, tmp_path):
    assert "no light" in light.show(True, tmp_path / "nowhere", tmp_path / "former")
    (leds / "ACT" / "trigger").write_text("[none] heartbeat")
    assert "no trigger" in light.show(True, leds, tmp_path / "former")
    assert shown(leds) == "[none] heartbeat"
    assert not (tmp_path / "former").exists()


@pytest.mark.parametrize(
    "found, expected",
    [
        ([], False),
        ([Trouble(PROCESS, "web hung", 0)], False),
        ([Trouble(SITE, "line 3", 0)], True),
        ([Trouble(CARD, "x", 0)], True),
    ],
)
def test_it_is_the_files_that_it_blinks_for(found, expected):
    assert light.is_wrong(found) is expected


@pytest.mark.parametrize("at", ["card", "box"])
def test_it_is_told_by_the_card_at_the_start_and_by_the_box_while_it_runs(leds, tmp_path, monkeypatch, at):
    data, setup = tmp_path / "data", tmp_path / "setup"
    (data / "run").mkdir(parents=True)
    setup.mkdir()
    for name, place in (("LEDS", leds), ("SETUP", setup), ("FORMER", tmp_path / "former")):
        monkeypatch.setattr(light, name, place)
    monkeypatch.setenv("NVR_DATA", str(data))
    folder = setup if at == "card" else data / "run"
    troubles.write(folder, [Trouble(CARD if at == "card" else SITE, "line 8", 0)])
    assert light.main() == 0
    assert shown(leds) == "timer"
    troubles.write(folder, [])
    assert light.main() == 0
    assert shown(leds) == "mmc0"


# -- what the card's reader tells it


@pytest.fixture
def places(tmp_path) -> Places:
    for name in ("card", "data", "run", "iwd"):
        (tmp_path / name).mkdir()
    return Places(tmp_path / "card", tmp_path / "data", tmp_path / "run", tmp_path / "iwd")


def test_what_is_wrong_with_the_card_is_told_in_one_line_and_gone_when_it_is_good(places):
    from test_firstboot import SITE as GOOD

    told = places.run / "nvr-setup"
    firstboot.take_all(places)
    assert [each.detail for each in troubles.read(told)] == ["not taken: there is no site.yaml on it"]
    (places.card / "site.yaml").write_bytes(GOOD.replace(b"ring_gb: 0.05", b"ring_gb: vierzig"))
    (places.card / "network.yaml").write_bytes(b"- [")
    firstboot.take_all(places)
    (found,) = troubles.read(told)
    assert found.kind == CARD
    assert re.match(r"not taken: site.yaml, line 8: .*; network.yaml, line 1: ", found.detail)
    assert "secret-word-7" not in found.detail
    assert (told / troubles.NAME).stat().st_mode & 0o777 == 0o644  # `nvr run` is another user
    (places.card / "site.yaml").write_bytes(GOOD)
    (places.card / "network.yaml").unlink()
    firstboot.take_all(places)
    assert troubles.read(told) == ()


def test_services_get_the_place_of_it(places):
    firstboot.prepare(places)
    environment = (places.run / "nvr-setup/environment").read_text()
    assert f"{troubles.TOLD_BY}={places.run}/nvr-setup\n" in environment


def test_the_unit_may_little(tmp_path):
    """As `systemd-analyze` of this machine counts; the boot suite asks the one in the image."""
    try:
        told = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--no-pager", UNITS / "nvr-light.service"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no systemd-analyze that looks at files here: {error}")
    (exposure,) = re.findall(r"exposure level for \S+: ([0-9.]+)", told)
    assert float(exposure) <= 2.0, told
