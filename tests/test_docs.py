"""Every path, command and setting that a document names exists, and generated documents are what the code says."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import click
import pytest

from nvr import site, site_keys
from nvr.cli import document
from nvr.cli.command import nvr as program
from nvr.hub import settings as hub_settings

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("nvr", "tools", "tests", "docs", "requirements", "firmware", "image", "recipes", ".ci", "demo")

# Begin like a command and are bytes that are signed (docs/formats/clip.md).
NOT_COMMANDS = ("nvr clip manifest 1", "nvr segment seal 1")


@cache
def documents() -> tuple[Path, ...]:
    """What is part of the project: files git knows or would take in."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    names = listed.stdout.split("\0")[:-1] if listed.returncode == 0 else []
    return tuple(sorted(ROOT / name for name in names if (ROOT / name).is_file())) or tuple(
        sorted(ROOT.glob("docs/**/*.md"))
    )


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def code_in(text: str) -> list[str]:
    """What stands in backticks or in indented or fenced blocks."""
    fenced = re.findall(r"^```.*?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    without = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return [*(line for block in fenced for line in block.splitlines()), *re.findall(r"`([^`\n]+)`", without)]


@pytest.mark.parametrize("path", documents(), ids=named)
def test_every_link_of_a_document_leads_somewhere(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text("utf-8")):
        if "://" in target or target.startswith(("#", "mailto:")):
            continue
        file = (path.parent / target.partition("#")[0]).resolve()
        assert file.exists(), f"{named(path)} links to {target}"


@pytest.mark.parametrize("path", documents(), ids=named)
def test_every_path_in_a_document_exists(path):
    pattern = re.compile(rf"(?<![\w./-])((?:{'|'.join(map(re.escape, FOLDERS))})/[\w./-]*[\w/])")
    for code in code_in(path.read_text("utf-8")):
        for name in pattern.findall(code):
            if any(letter in code for letter in "*<{…"):
                continue
            assert (ROOT / name).exists(), f"{named(path)} names {name}"


@cache
def commands() -> dict[str, click.Command]:
    return {name: command for name, command, _ in document.commands(program, "nvr")}


@pytest.mark.parametrize("path", documents(), ids=named)
def test_every_command_in_a_document_exists_with_its_options(path):
    for code in code_in(path.read_text("utf-8")):
        match = re.match(r"(?:\$ |sudo |\.venv/bin/)*(nvr(?: [a-z]+)*)(?=\s|$)(.*)", code.strip())
        if match is None or code.startswith(NOT_COMMANDS):
            continue
        words = match[1].split()
        name = words[0]
        for word in words[1:]:
            if f"{name} {word}" not in commands():
                break
            name = f"{name} {word}"
        command = commands()[name]
        if isinstance(command, click.Group) and len(words) > len(name.split()):
            unknown = words[len(name.split())]
            coming = ("hub", "detect")  # described by the design, built later
            assert unknown in coming, f"{named(path)}: `{code}`: there is no command {name} {unknown}"
            continue
        known = {option for parameter in command.params for option in parameter.opts} | {
            "--help",
            "--version",
            "--debug",
        }
        for option in re.findall(r"(?<!\S)(--[a-z][a-z-]*)", match[2].partition(" | ")[0]):
            assert option in known or isinstance(command, click.Group), (
                f"{named(path)}: `{code}`: {name} has no {option}"
            )


@pytest.mark.parametrize("path", documents(), ids=named)
def test_every_make_target_in_a_document_exists(path):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for code in code_in(path.read_text("utf-8")):
        for target in re.findall(r"^\s*make ([a-z]+)", code):
            assert target in targets, f"{named(path)} names make {target}"


@pytest.mark.parametrize("path", documents(), ids=named)
def test_every_setting_in_a_document_exists(path):
    """A word in backticks that carries a setting's unit and a colon is meant as a setting."""
    tables = (
        site_keys.SITE,
        site_keys.STORAGE,
        site_keys.WEB,
        site_keys.HUB,
        site_keys.CAMERA,
        *site_keys.SOURCES.values(),
        *site_keys.RULES.values(),
    )
    known = {key.name for keys in tables for key in keys} | set(hub_settings.KEYS)
    for code in re.findall(r"`([^`\n]+)`", path.read_text("utf-8")):
        for name in re.findall(r"\b([a-z_]+_(?:gb|days|mbit)|storage\.[a-z_]+|web\.(?:listen|port))\b", code):
            assert name.rpartition(".")[2] in known, f"{named(path)} names the setting {name}"


def test_the_list_of_settings_is_what_the_code_says():
    assert (ROOT / "docs" / "settings.md").read_text("utf-8") == site_keys.settings_document(), "run `make docs`"


def test_the_list_of_commands_is_what_the_code_says():
    written = (ROOT / "docs" / "commands.md").read_text("utf-8")
    # Other versions of click break lines elsewhere.
    assert re.sub(r"\s+", " ", written) == re.sub(r"\s+", " ", document.commands_document()), "run `make docs`"


def test_the_example_of_a_site_file_has_no_fault():
    checked = site.check_text((ROOT / "docs" / "example-site.yaml").read_bytes(), ROOT / "docs" / "example-site.yaml")
    assert checked.faults == ()


def test_the_overview_of_the_api_is_what_the_code_says():
    from nvr.hub.people import document as api

    assert (ROOT / "docs" / "api.md").read_text("utf-8") == api.document(), "run `make docs`"


@pytest.mark.parametrize("name", commands())
def test_every_command_has_help_with_an_example(name):
    command = commands()[name]
    assert command.help
    if not isinstance(command, click.Group):
        assert f"    {name}" in command.help  # Python 3.13 takes indentation out of docstrings


def test_every_command_but_groups_prints_json():
    for name, command in commands().items():
        if not isinstance(command, click.Group):
            assert any("--json" in parameter.opts for parameter in command.params), name
