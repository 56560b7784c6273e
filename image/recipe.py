"""Recipes: one YAML file for each kind of box, values without conditions; read as a whole, every fault with its line.

A recipe may name a base. Lists of the base come first and the recipe's are added; any other value of the recipe replaces
the base's. Reading is that of site files (`nvr/site_yaml.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from nvr.errors import NvrError
from nvr.site_kinds import Choice, Flag, Key, Name, Number, Text, Wrong, scalar, shown
from nvr.site_yaml import Entry, Fault, Reader, compose, line_of

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
PACKAGE = r"[a-z0-9][a-z0-9+.-]{1,80}"
MODULE = r"[A-Za-z0-9_-]{1,60}"
PATTERN = r"/?[A-Za-z0-9_*][A-Za-z0-9_*?.+/-]{0,120}"  # relative to the root; the one of a package's file begins with /


class RecipeFaulty(NvrError):
    """The recipe has faults; nothing was built."""

    def __init__(self, faults: tuple[tuple[Path, Fault], ...]) -> None:
        lines = [f"{path}:{each.line}: {each.key + ': ' if each.key else ''}{each.what}" for path, each in faults]
        hints = [each.instead for _, each in faults if each.instead]
        super().__init__("\n".join(lines), hint=hints[0] if hints else "")
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Words:
    """A list of words of one form."""

    pattern: str
    looks_like: str

    def read(self, node: yaml.Node, name: str) -> tuple[str, ...]:
        if not isinstance(node, yaml.SequenceNode):
            raise Wrong("must be a list", f"{name}: [{self.looks_like}]")
        words = []
        for each in node.value:
            word = scalar(each)
            if re.fullmatch(self.pattern, word) is None or ".." in word:
                raise Wrong(
                    f"{shown(word)} in line {line_of(each)} cannot stand here", f"Write such as {self.looks_like}."
                )
            words.append(word)
        return tuple(words)

    def form(self) -> str:
        return f"a list of such as `{self.looks_like}`"


@dataclass(frozen=True, slots=True)
class Block:
    """Text of several lines that goes into a file as it is."""

    def read(self, node: yaml.Node, name: str) -> str:
        text = scalar(node, "text")
        if len(text) > 10_000 or re.search(r"[^\x20-\x7e\n]", text):
            raise Wrong("holds something else than plain letters, or too many of them")
        return text

    def form(self) -> str:
        return "text"


@dataclass(frozen=True, slots=True)
class Files:
    """Files out of packages: `package: {path in it: where it goes}`.

    That is a name on the selector, a folder of the root that begins with a slash, or a raw place before the first partition: `@KiB`.
    """

    def read(self, node: yaml.Node, name: str) -> tuple[tuple[str, str, str], ...]:
        if not isinstance(node, yaml.MappingNode):
            raise Wrong(
                "must be a group of packages, each with its files",
                f"{name}: {{u-boot-rpi: {{usr/lib/u-boot/rpi_arm64/u-boot.bin: u-boot.bin}}}}",
            )
        found = []
        for key, below in node.value:
            package = scalar(key)
            if re.fullmatch(PACKAGE, package) is None or not isinstance(below, yaml.MappingNode):
                raise Wrong(f"{shown(package)} in line {line_of(key)} must be a package with its files below it")
            for source, target in below.value:
                pair = scalar(source), scalar(target)
                if (
                    re.fullmatch(PATTERN, pair[0]) is None
                    or re.fullmatch(r"@\d{1,6}|/?[A-Za-z0-9_./-]{1,80}", pair[1]) is None
                    or ".." in "".join(pair)
                ):
                    raise Wrong(f"line {line_of(source)}: {shown(': '.join(pair))} names no file and no place for it")
                found.append((package, *pair))
        return tuple(found)

    def form(self) -> str:
        return "packages, each with its files and where they go"


KEYS = (
    Key("base", Name(), "The recipe that this one adds to."),
    Key("board", Text(), "What it is for, as people call it.", required=True),
    Key("architecture", Choice(("amd64", "arm64")), "Debian's name for it.", required=True),
    Key("compatible", Text(r"nvr-[a-z0-9-]{2,40}", "a name such as `nvr-virt`"), "A box takes bundles with its own `compatible` only.", required=True),
    Key("suite", Name(), "Debian's release.", required=True),
    Key("packages", Words(PACKAGE, "python3-av"), "Installed into the root.", ()),
    Key("backports", Words(PACKAGE, "libcamera-ipa"), "Installed from the suite's backports.", ()),
    Key("without", Words(PATTERN, "/usr/share/man/*"), "Files of packages that are never unpacked.", ()),
    Key("prune", Words(PATTERN, "usr/include"), "Taken out of the root afterwards.", ()),
    Key("kernel", Text(PACKAGE, "a package such as `linux-image-arm64`"), "The kernel's package.", required=True),
    Key("kernel_from_backports", Flag(), "Take the kernel from backports.", False),
    Key("vendor_source", Text(r"deb [ -~]{10,300}", "a line of sources.list"), "An archive of the board's maker, for its kernel.", ""),
    Key("modules", Words(PATTERN, "drivers/net/virtio_net*"), "Kernel modules that stay, below the kernel's folder; what they need stays too.", ()),
    Key("initramfs_modules", Words(MODULE, "virtio_blk"), "Loaded before there is a root.", ()),
    Key("loader", Choice(("u-boot", "tryboot")), "What chooses the slot.", required=True),
    Key("console", Text(r"[a-zA-Z0-9,]{0,30}", "a name such as `ttyS0`"), "Where the kernel talks, on boards whose device tree does not say.", ""),
    Key("device_trees", Words(PATTERN, "broadcom/bcm2711-rpi-4-b.dtb"), "Go into the boot slots.", ()),
    Key("config_txt", Block(), "The Raspberry Pi's config.txt.", ""),
    Key("files", Files(), "Files that packages give to the selector, to the root (`/folder/`) or to a raw place before the first partition (`@KiB`).", ()),
    Key("first_mib", Number(1, 64, is_whole=True), "Where the first partition begins.", 1),
    Key("is_hybrid", Flag(), "The selector stands in an MBR too: the Raspberry Pi 3 reads no GPT.", False),
    Key("selector_mib", Number(34, 512, is_whole=True), "The selector.", 64),
    Key("boot_mib", Number(34, 512, is_whole=True), "Each boot slot.", 96),
    Key("root_mib", Number(64, 4096, is_whole=True), "Each root slot.", 512),
    Key("data_mib", Number(32, 4096, is_whole=True), "The data partition before it grows.", 64),
    Key("watchdog_s", Number(5, 600, is_whole=True), "After how long without a sign of life the hardware resets the board.", 60),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe with its base in it; the meaning of each value is in KEYS."""

    name: str
    board: str
    architecture: str
    compatible: str
    suite: str
    packages: tuple[str, ...]
    backports: tuple[str, ...]
    without: tuple[str, ...]
    prune: tuple[str, ...]
    kernel: str
    kernel_from_backports: bool
    vendor_source: str
    modules: tuple[str, ...]
    initramfs_modules: tuple[str, ...]
    loader: str
    console: str
    device_trees: tuple[str, ...]
    config_txt: str
    files: tuple[tuple[str, str, str], ...]
    first_mib: int
    is_hybrid: bool
    selector_mib: int
    boot_mib: int
    root_mib: int
    data_mib: int
    watchdog_s: int


def load(path: Path) -> Recipe:
    """The recipe in `path`. Raises RecipeFaulty with every fault of it and of its base, NvrError when one cannot be read."""
    faults: list[tuple[Path, Fault]] = []
    entries, reader = _entries(path, faults)
    base_path = None
    base: dict[str, Any] = {}
    if "base" in entries:
        name = reader.value(Name(), entries["base"])
        base_path = path.parent / f"{name}.yaml"
        if name and not base_path.exists():
            reader.fault(entries["base"].line, "base", f"there is no recipe {shown(name)} beside this one")
        elif name:
            base_entries, base_reader = _entries(base_path, faults)
            base = _values(base_reader, base_entries, needed=frozenset())
            if "base" in base_entries:
                base_reader.fault(
                    base_entries["base"].line, "base", "a base has no base of its own", "Name one base in each recipe."
                )
            faults += [(base_path, each) for each in sorted(base_reader.faults)]
    missing = frozenset(key.name for key in KEYS if key.required and key.name not in base)
    values = {**base}
    for name, value in _values(reader, entries, needed=missing).items():
        values[name] = (*base.get(name, ()), *value) if isinstance(value, tuple) else value
    faults += [(path, each) for each in sorted(reader.faults)]
    if faults:
        raise RecipeFaulty(tuple(faults))
    values = {**{key.name: key.default for key in KEYS}, **values, "name": path.stem}
    return Recipe(**{field.name: values[field.name] for field in fields(Recipe)})


def _entries(path: Path, faults: list[tuple[Path, Fault]]) -> tuple[Mapping[str, Entry], Reader]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise NvrError(
            f"cannot read the recipe {path}: {error.strerror}", hint="`nvrctl image ls` lists those that come with nvr."
        ) from error
    node, fault = compose(data)
    reader = Reader()
    if node is None:
        assert fault is not None
        raise RecipeFaulty((*faults, (path, fault)))
    return reader.entries(node, ""), reader


def _values(reader: Reader, entries: Mapping[str, Entry], needed: frozenset[str]) -> dict[str, Any]:
    """Of what stands in one file; a value that is wrong is left out after noting the fault."""
    keys = tuple(Key(key.name, key.kind, key.meaning, None, key.name in needed, key.why) for key in KEYS)
    read = reader.section(entries, keys, path="", line=1)
    return {name: read[name] for name in read if name in entries and read[name] is not None}


def recipe_path(name: str) -> Path:
    """A recipe by its path, or by the name of one that comes with nvr."""
    given = Path(name)
    return given if given.suffix or given.exists() else RECIPES / f"{name}.yaml"
