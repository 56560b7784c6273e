"""What documents say of nvrctl is true: commands, options, examples, and the guide, whose every command is run here."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import films
import pytest
from boxes_here import PASSWORD
from cards import make_image, needs_tools
from click.testing import CliRunner
from pretend import PretendCamera
from pretend_onvif import PretendOnvif
from test_hub import PretendHub

from nvr.cli import document as nvr_document
from tools.nvrctl import document, program
from tools.nvrctl.program import nvrctl

ROOT = Path(__file__).resolve().parents[2]
nvrctl.load_all()
COMMANDS = {name: command for name, command, _ in nvr_document.commands(nvrctl, "nvrctl")}
LEAVES = {name: command for name, command in COMMANDS.items() if not isinstance(command, click.Group)}


def documents() -> list[Path]:
    return [
        path
        for path in (*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md")
        if path.name != "commands-nvrctl.md"
    ]


def in_blocks(text: str) -> list[str]:
    return [
        line
        for block in re.findall(r"^```.*?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]


def in_lines(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def examples() -> list[tuple[str, str]]:
    """(where, command) of each example in help, and of each command in a block of a document."""
    found = [
        (name, line.strip())
        for name, command in COMMANDS.items()
        for line in (command.help or "").splitlines()
        if re.match(r"\s{4,}nvrctl ", line)
    ]
    for path in documents():
        found += [(path.name, line) for line in in_blocks(path.read_text("utf-8"))]
    cut = [(where, re.sub(r"^(\$ )?(sudo )?", "", re.split(r"\s{2,}|\s[>|]\s", line)[0])) for where, line in found]
    return [(where, line) for where, line in cut if re.match(r"nvrctl [a-z]", line)]


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_every_command_that_is_named_in_a_sentence_exists_with_its_options(path):
    for code in in_lines(path.read_text("utf-8")):
        if not re.match(r"nvrctl [a-z]", code):
            continue
        name, words = "nvrctl", code.split()[1:]
        while words and f"{name} {words[0]}" in COMMANDS:
            name = f"{name} {words.pop(0)}"
        command = COMMANDS[name]
        assert not (isinstance(command, click.Group) and words and words[0].islower()), f"{path.name}: {code}"
        known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        assert all(word in known for word in words if word.startswith("--")), f"{path.name}: {code}"


def test_the_list_of_commands_is_what_the_code_says():
    written = (ROOT / "docs" / "commands-nvrctl.md").read_text("utf-8")
    # Other versions of click break lines elsewhere.
    assert re.sub(r"\s+", " ", written) == re.sub(r"\s+", " ", document.commands_document()), "run `make docs`"


def test_what_help_says_of_each_group_is_what_the_group_says():
    for name, text in program.GROUPS.items():
        assert (COMMANDS[f"nvrctl {name}"].help or "").startswith(text.rstrip(".")), name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name):
    assert re.search(rf"^\s*{name}( |$)", COMMANDS[name].help or "", re.MULTILINE) or isinstance(
        COMMANDS[name], click.Group
    )
    assert "Example" in (COMMANDS[name].help or "") or name == "nvrctl"


def test_every_command_prints_json():
    for name, command in LEAVES.items():
        assert any("--json" in parameter.opts for parameter in command.params), name


def test_every_command_takes_yes_as_a_flag():
    """`nvrctl --help` says so; 26 of 35 said there is no such option, and `box wipe` wanted a word after it."""
    for name, command in LEAVES.items():
        (option,) = [each for each in command.params if "--yes" in each.opts]
        assert isinstance(option, click.Option) and option.is_flag, name


def test_a_command_that_asks_nothing_does_what_it_does_with_yes_too():
    result = CliRunner().invoke(nvrctl, ["card", "ls", "--yes", "--json"])
    assert result.exit_code == 0, result.output


def test_no_two_parameters_of_a_command_share_a_name():
    """`hub user add NAME --as NAME`: one overwrote the other."""
    for name, command in COMMANDS.items():
        names = [parameter.name for parameter in command.params]
        assert len(set(names)) == len(names), name


def test_help_is_instant_and_imports_no_group():
    code = "import sys; from tools.nvrctl.program import nvrctl\ntry: nvrctl(['--help'])\nexcept SystemExit: pass\nprint(sorted(name for name in sys.modules if name.startswith('tools.nvrctl.') or name in ('httpx', 'yaml', 'nvr.site')))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "['tools.nvrctl.program']"


@pytest.mark.parametrize("where, line", examples(), ids=lambda text: text[:60])
def test_every_example_is_a_command_that_is_understood(where, line, tmp_path, monkeypatch):
    """Parsed as typed, with the files it names there; what it does is in other tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NVRCTL_HUB", "https://hub.example.org")
    words = shlex.split(line.replace("~", str(tmp_path)))
    for word in words:
        if re.search(
            r"\.(yaml|csv|xlsx|zst|img|raucb|json|pub)$|(^|/)(token|camera-password|page-password|sites)$", word
        ):
            (tmp_path / word).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / word).mkdir(exist_ok=True) if word.endswith("sites") else (tmp_path / word).touch()
        elif re.fullmatch(r"out|build/[a-z0-9-]+", word):
            (tmp_path / word).mkdir(parents=True, exist_ok=True)
    if "new" in words and "--out" in words:
        shutil.rmtree(tmp_path / "sites", ignore_errors=True)
    command, context = nvrctl, click.Context(nvrctl, info_name="nvrctl")
    rest = words[1:]
    while isinstance(command, click.Group) and rest:
        name = rest.pop(0)
        if name in ("IMAGE", "..."):
            return
        command = command.get_command(context, name)
        assert command is not None, f"{where}: {line}"
    if any((word.isupper() and len(word) > 2) or word.endswith("...") for word in rest):
        return  # IMAGE, DEVICE...: a form, not an example
    if isinstance(command, click.Group):
        return
    command.make_context(name, [word.split("/")[-1] if "[" in word else word for word in rest], parent=context)


# -- the guide


def guide_commands() -> list[str]:
    text = (ROOT / "docs" / "guide" / "install.md").read_text("utf-8")
    return [
        line.removeprefix("$ ")
        for block in re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
        if line.startswith("$ ")
    ]


@pytest.mark.slow
@needs_tools
def test_every_command_of_the_guide_does_what_it_says(tmp_path, monkeypatch, announced, running, capsys):
    """In the guide's order, in one folder: cameras, hub and box are those of the tests, cards are files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    make_image(tmp_path, packing="zstd")
    for name, text in {
        "camera-password": "secret",
        "page-password": PASSWORD,
        "token": "t0ken",
        "id_ed25519.pub": "ssh-ed25519 AAAAC3Nz joe@laptop",
    }.items():
        (tmp_path / name).write_text(text + "\n")
    shutil.copy(ROOT / "docs" / "example-cameras.csv", tmp_path / "cameras.csv")
    told: list[str] = []
    with (
        PretendHub() as hub,
        PretendOnvif(user="viewer", password="secret", scheme="token", ahead_s=-9 * 3600) as onvif,
        PretendCamera(films.footage("drawn/gate.mp4"), user="viewer", password="secret") as camera,
    ):
        instead = {
            "https://hub.example.org": hub.url, "rtsp://10.0.0.11/main": camera.url, "camera find": f"camera find --interface 127.0.0.1 --network 127.0.0.1/32 --port {onvif.port} --wait 0.5",
            "setup 10.0.0.11": f"setup 127.0.0.1:{onvif.port}", "box find": "box find --interface 127.0.0.1", "status waihaong-1": f"status {running[0]} --port {running[2]}",
            "aim waihaong-1": f"aim {running[0]} --port {running[2]}", "--camera entrance": "--camera gate",
        }  # fmt: skip
        for line in guide_commands():
            real = line
            for text, other in instead.items():
                real = real.replace(text, other)
            real = re.sub(r"/dev/(sd[b-z])", r"\1.img", real)
            if line.startswith("nvrctl site new"):
                # Sites have hubs with TLS; what is told to the pretend hub is for its own address.
                real = real.replace(hub.url, "https://hub.example.org")
            words = shlex.split(real)
            assert words[0] == "nvrctl", line
            result = CliRunner().invoke(nvrctl, words[1:])
            told.append(f"$ {line}\n{result.output}")
            if line.startswith("nvrctl hub code import"):
                assert result.exit_code == 0, result.output  # for another hub, left out: said so
            elif line.startswith("nvrctl doctor"):
                assert result.exit_code in (0, 1)
            else:
                assert result.exit_code == 0, f"{line}\n{result.output}"
    if os.environ.get("SHOW_GUIDE"):
        Path(os.environ["SHOW_GUIDE"]).write_text("\n".join(told))
    assert len(told) >= 12
