"""The kernel, its modules and whatever else a board takes out of single packages: downloaded and unpacked, never installed.

So no package's script runs, no initramfs is made by Debian's tools, and a kernel from backports or from the board's maker does not
pull the rest of the root along. Modules that no device of the recipe needs are left out.
"""

from __future__ import annotations

import fnmatch
import lzma
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from image.mirror import Mirror, fetch
from image.run import Toolbox
from nvr.errors import NvrError

PREFIX = "linux-image-"


def make(
    into: Path, toolbox: Toolbox, mirror: Mirror, *, architecture: str, suite: str, kernel: str, from_backports: bool, vendor_source: str,
    modules: tuple[str, ...], initramfs_modules: tuple[str, ...], others: tuple[str, ...],
) -> None:  # fmt: skip
    """`into/tree` is what the packages hold, `into/vmlinuz` the kernel, `into/modules/VERSION` the modules that stay, with their lists."""
    named = f"{kernel}/{suite}-backports" if from_backports else kernel
    archives = fetch(into, toolbox, mirror, architecture, suite, [named, *others], components="main non-free-firmware",
                     backports=from_backports, follow=PREFIX, more=[vendor_source] if vendor_source else [])  # fmt: skip
    (into / "packages.tsv").write_text("".join(_described(toolbox, archive) for archive in archives))
    for archive in archives:
        archive.unlink()
    kernels = sorted((into / "tree/boot").glob("vmlinu[zx]-*"))
    if len(kernels) != 1:
        raise NvrError(f"{kernel} holds {len(kernels)} kernels", hint="Name the package of one kernel.")
    version = kernels[0].name.partition("-")[2]
    shutil.copy(kernels[0], into / "vmlinuz")
    whole = next(
        path for path in (into / "tree/usr/lib/modules" / version, into / "tree/lib/modules" / version) if path.is_dir()
    )
    keep_modules(whole, into / "modules" / version, modules, initramfs_modules)
    # depmod is the toolbox's own, also for another architecture: under emulation it takes a minute.
    toolbox.run(["sh", "-c", 'mkdir -p "$1/lib" && mv "$1/modules" "$1/lib/modules" && depmod -b "$1" "$2" && mv "$1/lib/modules" "$1/modules" && rmdir "$1/lib"', "sh", into, version])  # fmt: skip
    shutil.rmtree(whole)


def keep_modules(whole: Path, kept: Path, patterns: Iterable[str], names: Iterable[str]) -> None:
    """Copy the modules under `whole` that a pattern or a name of `names` asks for, unpacked, with all that they need."""
    files = {path.relative_to(whole).as_posix(): path for path in whole.rglob("*.ko*")}
    needs = (
        dependencies((whole / "modules.dep").read_text())
        if (whole / "modules.dep").exists()
        else needs_of(whole, files)
    )
    plain = {plain_name(name) for name in names}
    wanted = [name for name in files if is_wanted(name, tuple(patterns)) or plain_name(name) in plain]
    for name in closure(wanted, needs):
        target = kept / name.partition(".ko")[0]
        target = target.with_name(target.name + ".ko")
        target.parent.mkdir(parents=True, exist_ok=True)
        data = files[name].read_bytes()
        # Unpacked: the file system compresses them again, and better together.
        target.write_bytes(lzma.decompress(data) if name.endswith(".xz") else data)
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        if (whole / name).exists():
            kept.mkdir(parents=True, exist_ok=True)
            shutil.copy(whole / name, kept / name)


def is_wanted(name: str, patterns: tuple[str, ...]) -> bool:
    """`name` as in modules.dep: kernel/fs/ext4/ext4.ko.xz. A pattern names a folder or a file below kernel/."""
    below = name.removeprefix("kernel/")
    return any(below.startswith(f"{each}/") or fnmatch.fnmatchcase(below, each) for each in patterns)


def dependencies(text: str) -> dict[str, list[str]]:
    """modules.dep: which modules each needs."""
    return {name: needed.split() for name, _, needed in (line.partition(":") for line in text.splitlines())}


def closure(wanted: Iterable[str], needs: Mapping[str, list[str]]) -> list[str]:
    found: dict[str, None] = {}
    waiting = list(wanted)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = None
            waiting += needs.get(name, [])
    return sorted(found)


def needs_of(whole: Path, files: Mapping[str, Path]) -> dict[str, list[str]]:
    """What depmod would say of direct needs, from the modules themselves: packages carry no modules.dep, their scripts make it."""
    by_name = {plain_name(name): name for name in files}
    needs: dict[str, list[str]] = {}
    for name, path in files.items():
        data = path.read_bytes()
        if name.endswith(".xz"):
            data = lzma.decompress(data)
        at = data.find(b"\0depends=")
        told = data[at + 9 : data.find(b"\0", at + 9)].decode() if at >= 0 else ""
        needs[name] = [by_name[each] for each in map(plain_name, filter(None, told.split(","))) if each in by_name]
    return needs


def plain_name(name: str) -> str:
    return name.rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def _described(toolbox: Toolbox, archive: Path) -> str:
    fields = toolbox.run(["dpkg-deb", "-f", archive, "Package", "Version", "Installed-Size", "Source"]).output
    found = dict(line.split(": ", 1) for line in fields.splitlines() if ": " in line)
    source = found.get("Source", found["Package"]).split()[0]
    return f"{found['Package']}\t{found['Version']}\t{found.get('Installed-Size', '0')}\t{source}\n"
