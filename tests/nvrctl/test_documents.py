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


# -- the guide, and every example, run

# Lines that the guide shows and a test machine cannot: they begin so.
OF_THE_READER = {
    "ok    installation": "where it is installed",
    "ok    udevadm": "whether this machine has it",
    "ok    space here": "the folder's name",
    "ok    network": "name of the network port",
    "ok    clock": "time zone",
    "1 answered; knocking at": "one pretend camera that is given by its address answers no multicast",
    "...": "the guide leaves out partitions",
    "/dev/": "which disks this machine has; tests/nvrctl/test_disks.py has the guide's",
    "street/main": "the box that runs here has one camera",
    "clock: synchronised": "whether this machine's clock is",
}
# Examples that no test can run as they stand.
NOT_RUN = {
    "nvrctl site new": "asks a person; tests/nvrctl/test_nvrctl_site.py answers",
    "nvrctl card write box.img.zst /dev/sd[b-k] --site sites": "the shell makes ten devices of it; test_card_command.py writes ten",
    "nvrctl card watch box.img.zst --site sites": "waits for somebody to put in cards; test_card_command.py puts in files",
    "nvrctl box page waihaong-1 --open": "opens a browser",
    "nvrctl box page waihaong-1 --link": "by SSH: tests/boot/test_nvrctl_on_a_box.py, in a virtual box",
    "nvrctl box logs waihaong-1": "by SSH: the same",
    "nvrctl box logs waihaong-1 -f": "by SSH, and ends by Ctrl-C",
    "nvrctl box update waihaong-1 nvr-1.2.raucb": "by SSH: tests/boot/test_nvrctl_on_a_box.py",
    "nvrctl box update waihaong-1 nvr-1.2.raucb --hub https://hub.example.org --token-file token": "needs a bundle, and a box that fetches it: test_update_by_hub.py",
    "nvrctl box reboot waihaong-1": "by SSH: the same",
    "nvrctl box wipe waihaong-1 --name-again waihaong-1": "by SSH: the same",
    "nvrctl image build virt-x86": "needs root, a mirror and minutes: tests/boot builds it",
    "nvrctl image build virt-x86 -o out": "the same",
    "nvrctl image report build/virt-x86": "of a built image: tests/boot",
    "nvrctl image report out": "the same",
}


def shape(line: str) -> str:
    """A line without what is of one machine, day or camera: numbers, units, addresses, and how far columns stand apart."""
    line = line.replace("gate/main", "entrance/main")
    line = re.sub(r"[0-9a-f]{64}", "HASH", line)
    line = re.sub(r"/dev/(sd[b-z])\b", r"\1.img", line)
    line = re.sub(r"rtsp://\S+?/[a-z]+(\?[^\s\"]*)?", "RTSP", line)
    line = re.sub(r"\b\d+\.\d+\.\d+\.\d+(:\d+)?", "ADDRESS", line)
    line = re.sub(r"\b[kMGT]B\b", "MB", re.sub(r"\d+(\.\d+)*", "0", line))
    return re.sub(r"[\s#-]+", " ", line).strip()


def guide_steps() -> list[tuple[str, list[str]]]:
    """(command, lines that the guide shows below it), in the guide's order."""
    text = (ROOT / "docs" / "guide" / "install.md").read_text("utf-8")
    steps: list[tuple[str, list[str]]] = []
    for block in re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                steps.append((line.removeprefix("$ "), []))
            elif line.strip():
                steps[-1][1].append(line)
    return steps


@pytest.fixture
def day(tmp_path, monkeypatch, announced, running):
    """A folder as an installer has it, in which commands are run: cameras, hub and box are those of the tests, cards are files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    make_image(tmp_path, packing="zstd")
    for name, text in {
        "camera-password": "secret",
        "page-password": PASSWORD,
        "hub-password": "secret",
        "token": "t0ken",
        "id_ed25519.pub": "ssh-ed25519 AAAAC3Nz joe@laptop",
    }.items():
        (tmp_path / name).write_text(text + "\n")
        (tmp_path / name).chmod(0o600)
    shutil.copy(ROOT / "docs" / "example-cameras.csv", tmp_path / "cameras.csv")
    with (
        PretendHub() as hub,
        PretendOnvif(user="viewer", password="secret", scheme="token", ahead_s=-9 * 3600) as onvif,
        PretendCamera(films.footage("drawn/gate.mp4"), user="viewer", password="secret") as camera,
    ):
        monkeypatch.setenv("NVRCTL_HUB", hub.url)
        instead = {
            "https://hub.example.org": hub.url, "rtsp://10.0.0.11/main": camera.url, "camera find": f"camera find --interface 127.0.0.1 --network 127.0.0.1/32 --port {onvif.port} --wait 0.5",
            "--interface eth0": "", "setup 10.0.0.11:8000": f"setup 127.0.0.1:{onvif.port}", "setup 10.0.0.11": f"setup 127.0.0.1:{onvif.port}", "box find": "box find --interface 127.0.0.1",
            "aim waihaong-1": f"aim {running[0]} --port {running[2]}", "--camera entrance": "--camera gate", "/srv/hub": "srv-hub", "user admin": "user viewer", "--seconds 30": "--seconds 5", "--out token": "--out new-token", "camera-password --table cameras.csv": "camera-password --table new.csv",
        }  # fmt: skip

        def run(line: str) -> tuple[int, str]:
            real = line
            if "--hub" not in line:
                real = real.replace("status waihaong-1", f"status {running[0]} --port {running[2]}")
            if not line.startswith(
                ("nvrctl site new", "nvrctl hub init")
            ):  # sites and hubs have TLS, the pretend hub has not
                for text, other in instead.items():
                    real = real.replace(text, other)
            real = re.sub(r"/dev/(sd[b-z])", r"\1.img", real.replace("/srv/hub", "srv-hub"))
            if line.startswith("nvrctl hub code import"):
                codes = tmp_path / "cards" / "codes.json"
                codes.write_text(codes.read_text().replace("https://hub.example.org", hub.url))
            words = shlex.split(real)
            assert words[0] == "nvrctl", line
            result = CliRunner().invoke(nvrctl, words[1:])
            return result.exit_code, result.output

        yield run


@pytest.mark.slow
@needs_tools
def test_every_command_of_the_guide_does_what_it_says_and_prints_what_it_shows(day):
    """In the guide's order, in one folder."""
    told: list[str] = []
    for line, shown in guide_steps():
        status, output = day(line)
        told.append(f"$ {line}\n{output}")
        assert status == 0 or (line.startswith("nvrctl doctor") and status == 1), told[-1]
        printed = {shape(each) for each in output.splitlines()}
        missing = [
            each for each in shown if shape(each) not in printed and not each.strip().startswith(tuple(OF_THE_READER))
        ]
        assert not missing, f"the guide shows {missing}\n{told[-1]}"
    if os.environ.get("SHOW_GUIDE"):
        Path(os.environ["SHOW_GUIDE"]).write_text("\n".join(told))
    assert len(told) >= 12
    # The command of the guide that stands in a sentence.
    status, output = day("nvrctl card write box.img.zst waihaong-1.img --site sites/waihaong-1.yaml --again --yes")
    assert status == 0, output


# The pretend hub has no boxes and does not change users: the command is run, asks it, and tells what it says. With a real hub: test_hub.py.
ANSWERED_WITH_NO = {
    "box status waihaong-1 --hub": "the hub knows no box waihaong-1",
    "box logs waihaong-1 --hub": "the hub knows no box waihaong-1",
    "box reboot waihaong-1 --hub": "the hub knows no box waihaong-1",
    "hub user block": "the hub says no",
    "hub user link": "the hub says no",
    "hub token revoke": "the hub says no",
}
# What an example needs to be run where nobody can be asked.
MORE = (
    (r"^nvrctl card write", "--yes --again"),
    (r"^nvrctl camera setup", "--yes"),
    (r"^nvrctl camera check rtsp://10.0.0.11/main$", "--user viewer --password-file camera-password"),
    (r"^nvrctl camera find$", "--user viewer --password-file camera-password"),
    (r"^nvrctl site new", "--replace"),
    (r"^nvrctl box (status|aim)(?!.*--hub)", "--password-file page-password"),
    (r"^nvrctl box aim", "--count 1"),
    (r"^nvrctl (hub user (block|link)|box reboot)", "--yes"),
    (r"--as admin", "--password-file hub-password"),
)


@pytest.mark.slow
@needs_tools
def test_every_example_of_help_and_documents_can_be_run(day, tmp_path):
    """Each once, in one folder; the guide's own commands are run above."""
    of_the_guide = {line for line, _ in guide_steps()}
    lines = list(dict.fromkeys(line for _, line in examples() if line not in of_the_guide))
    assert set(NOT_RUN) <= set(lines), "no example any more"
    # What examples before them would have made.
    for name, line in (("sites", "nvrctl site new --table cameras.csv --out sites"), ("", "nvrctl card write box.img.zst one.img two.img --site sites --yes")):  # fmt: skip
        status, output = day(line + (" --hub https://hub.example.org" if name else ""))
        assert status == 0, output
    shutil.copy(tmp_path / "sites" / "waihaong-1.yaml", tmp_path / "harbour.yaml")
    shutil.copy(tmp_path / "sites" / "waihaong-1.yaml", tmp_path / "harbour-office.yaml")
    for line in lines:
        if line in NOT_RUN or re.search(r"[A-Z]{3,}|\.\.\.", line):
            continue
        real = " ".join([line, *(words for pattern, words in MORE if re.search(pattern, line))])
        if line.startswith("nvrctl card write") and "harbour-office" in line:
            real = real.replace("/dev/sdc ", "")  # one site file is one card
        status, output = day(real)
        expected = next((words for text, words in ANSWERED_WITH_NO.items() if text in line), "")
        assert (status, expected in output) == (bool(expected), True), f"{real}\n{output}"
