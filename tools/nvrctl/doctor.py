"""`nvrctl doctor`: whether this laptop has what nvrctl needs. Each check says what is wrong and what to do."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from nvr import __version__
from nvr.errors import NvrError
from tools.nvrctl.output import json_option, print_json, print_table, size_text

FREE_WISHED_BYTES = 10_000_000_000  # an image, and one or two cards written as files
PACKAGES = {
    "httpx": "cameras, boxes and the hub over HTTP", "zeroconf": "finding boxes", "ifaddr": "finding cameras", "openpyxl": "spreadsheets of cameras",
    "zstandard": "images packed as .zst", "defusedxml": "what cameras answer", "fpdf": "labels", "segno": "QR codes on labels", "PIL": "aiming", "pyudev": "card watch",
    "cryptography": "proofs and certificates",
}  # fmt: skip
PROGRAMS = {
    "lsblk": ("util-linux", "which disks there are", True), "mcopy": ("mtools", "the site file on cards", True), "ssh": ("openssh-client", "logs, updates and restarts of boxes", True),
    "udevadm": ("udev", "card watch", False),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Check:
    what: str
    state: str  # good, note, bad
    found: str
    hint: str = ""


@click.command()
@json_option
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Tell whether this laptop has what nvrctl needs: versions, programs, permissions, space, network, clock.

    Exit status 1 when something is missing without which a group of commands does not work.

    \b
    Example:
        nvrctl doctor
    """
    made = [check for each in CHECKS for check in each()]
    bad = [check for check in made if check.state == "bad"]
    if as_json:
        print_json({"ok": not bad, "version": __version__, "checks": [asdict(check) for check in made]})
    else:
        print_table(
            ["", "what", "found"],
            [[{"good": "ok", "note": "note", "bad": "BAD"}[check.state], check.what, check.found] for check in made],
        )
        for check in made:
            if check.hint:
                click.echo(f"{check.what}: {check.hint}")
        click.echo(f"{len(bad)} of {len(made)} bad" if bad else "this laptop is ready")
    context.exit(1 if bad else 0)


def _versions() -> list[Check]:
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, nvr {__version__}"
    if platform.system() != "Linux":
        return [
            Check(
                "system",
                "bad",
                system,
                "Cards are written on Linux; site files, cameras and the hub work elsewhere too.",
            )
        ]
    return [Check("system", "good", system)]


def _packages() -> list[Check]:
    missing = [f"{name} ({what})" for name, what in PACKAGES.items() if importlib.util.find_spec(name) is None]
    if missing:
        return [Check("packages", "bad", f"{len(missing)} missing: {', '.join(missing)}", "pip install 'nvr[laptop]'")]
    return [Check("packages", "good", f"all {len(PACKAGES)}")]


def _programs() -> list[Check]:
    made = []
    for name, (package, what, is_needed) in PROGRAMS.items():
        found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
        hint = "" if found else f"sudo apt install {package}"
        made.append(Check(name, "good" if found else "bad" if is_needed else "note", found or f"missing: {what}", hint))
    return made


def _permission() -> list[Check]:
    """Whether cards may be written: as root, or in the group that owns them."""
    from tools.nvrctl import disks

    try:
        cards = [disk for disk in disks.all_disks() if disks.refusal(disk, 0) is None]
    except NvrError as error:
        return [Check("disks", "bad", str(error), error.hint)]
    denied = [disk.path for disk in cards if not os.access(disk.path, os.R_OK | os.W_OK)]
    if denied:
        return [
            Check(
                "cards",
                "bad",
                f"may not write {', '.join(denied)}",
                "Run `sudo nvrctl card write ...`, or: sudo usermod -aG disk $USER, and log in again.",
            )
        ]
    if cards:
        return [Check("cards", "good", f"{len(cards)} to be written: {', '.join(disk.path for disk in cards)}")]
    can = os.geteuid() == 0 or "disk" in _groups()
    hint = "" if can else "Without sudo this user will not be allowed to write cards."
    return [Check("cards", "note", "none is in a reader now", hint)]


def _groups() -> set[str]:
    import grp

    names = set()
    for number in os.getgroups():
        try:
            names.add(grp.getgrgid(number).gr_name)
        except KeyError:
            pass
    return names


def _space() -> list[Check]:
    made = []
    for what, path in (("space here", Path.cwd()), ("temporary space", Path(os.environ.get("TMPDIR", "/tmp")))):
        try:
            free = shutil.disk_usage(path).free
        except OSError as error:
            made.append(Check(what, "bad", f"{path}: {error.strerror}", "Choose another folder."))
            continue
        wished = FREE_WISHED_BYTES if what == "space here" else 300_000_000
        made.append(
            Check(
                what,
                "good" if free >= wished else "note",
                f"{size_text(free)} free in {path}",
                "" if free >= wished else f"{size_text(wished)} are comfortable.",
            )
        )
    return made


def _network() -> list[Check]:
    from tools.nvrctl import discovery

    try:
        own = discovery.chosen(discovery.interfaces(), None)
    except NvrError as error:
        return [Check("network", "note", str(error), error.hint)]
    except ImportError:
        return []
    return [Check("network", "good", ", ".join(f"{each.name} {each.network.with_prefixlen}" for each in own))]


def _clock() -> list[Check]:
    """Cameras are set from this clock, and labels bear its date."""
    now = time.strftime("%Y-%m-%d %H:%M:%S %Z")
    if time.time() < 1_735_689_600:
        return [Check("clock", "bad", now, "It is wrong: set it, or connect to the internet.")]
    try:
        done = subprocess.run(
            ["timedatectl", "show", "--property=NTPSynchronized", "--value"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
        synced = done.stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        synced = ""
    if synced == "no":
        return [
            Check("clock", "note", f"{now}, not synchronised", "Cameras are set from it: look whether it is right.")
        ]
    return [Check("clock", "good", now)]


def _install() -> list[Check]:
    try:
        importlib.metadata.version("nvr")
    except importlib.metadata.PackageNotFoundError:
        return [
            Check(
                "installation",
                "note",
                f"run from {Path(__file__).resolve().parents[2]}",
                "`make setup` puts nvrctl into .venv/bin.",
            )
        ]
    return [Check("installation", "good", sys.prefix)]


CHECKS: tuple[Callable[[], list[Check]], ...] = (
    _versions,
    _install,
    _packages,
    _programs,
    _permission,
    _space,
    _network,
    _clock,
)
