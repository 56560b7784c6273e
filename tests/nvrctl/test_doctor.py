"""What is missing on a laptop is named with how to get it; errors have no traceback; completion completes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from tools.nvrctl import doctor, program
from tools.nvrctl.program import nvrctl


def call(*arguments: str):
    return CliRunner().invoke(nvrctl, list(arguments))


def test_doctor_tells_what_is_there():
    found = json.loads(call("doctor", "--json").stdout)
    assert {"system", "packages", "lsblk", "mcopy", "clock"} <= {check["what"] for check in found["checks"]}
    assert found["ok"] == all(check["state"] != "bad" for check in found["checks"])


def test_a_missing_package_and_a_missing_program_are_named_with_how_to_get_them(monkeypatch):
    monkeypatch.setattr(doctor, "PACKAGES", {"no_such_package": "dreams"})
    monkeypatch.setattr(doctor, "PROGRAMS", {"no-such-program": ("its-package", "dreams", True)})
    result = call("doctor")
    assert result.exit_code == 1
    for words in ("no_such_package (dreams)", "pip install 'nvr[laptop]'", "sudo apt install its-package", "2 of"):
        assert words in result.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_code_for_the_shell(shell):
    result = call("completion", shell)
    assert result.exit_code == 0 and "_NVRCTL_COMPLETE" in result.stdout
    if shell == "bash":
        assert subprocess.run(["bash", "-n"], input=result.stdout, text=True, check=False).returncode == 0


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("x"), "should not have happened"),
        (PermissionError(13, "Permission denied", "/dev/sdx"), "/dev/sdx: Permission denied"),
        (ModuleNotFoundError("no", name="openpyxl"), "nvr[laptop]"),
    ],
)
def test_an_error_is_a_sentence_and_a_hint_and_never_a_traceback(monkeypatch, error, words):
    def fail(*_):
        raise error

    monkeypatch.setattr(doctor, "CHECKS", (fail,))
    result = call("doctor", "--json")
    assert result.exit_code == 1 and words in result.output and "Traceback" not in result.output
    assert set(json.loads(result.stdout)) == {"error", "hint"}


def test_no_colours_without_a_terminal(monkeypatch):
    assert "\x1b[" not in call("doctor").output
    assert "\x1b[" not in call("--help").output


def test_an_unknown_group_is_wrong_use():
    result = call("cards")
    assert result.exit_code == 2 and "No such command" in result.output
    assert set(program.GROUPS) >= {"site", "camera", "card", "box", "hub", "image", "doctor"}


def test_images_are_built_in_a_checkout_from_any_folder(tmp_path):
    said = subprocess.run(
        [sys.executable, "-c", "from tools.nvrctl import main; main()", "image", "ls"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    assert "virt-x86" in said.stdout


def test_without_a_checkout_building_says_where_it_is_done(monkeypatch, tmp_path):
    from tools.nvrctl import image

    monkeypatch.setattr(image, "ROOT", tmp_path)
    result = call("image", "ls")
    assert result.exit_code == 1 and "checkout" in result.output and "make setup" in result.output


def test_a_folder_that_no_image_was_built_in_is_said(tmp_path):
    result = CliRunner().invoke(nvrctl, ["image", "report", str(tmp_path)])
    assert (
        result.exit_code == 1 and "no image was built there" in result.output and "nvrctl image build" in result.output
    )
