"""The initramfs: busybox, the modules that the disk needs, and firmware/boot/init. Nothing foreign runs to make it."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from image.cache import Made
from image.kernel import closure, dependencies, plain_name
from image.run import Toolbox

FOLDERS = ("bin", "dev", "proc", "sys", "run", "newroot")


def make(into: Path, toolbox: Toolbox, *, kernel: Made, modules: tuple[str, ...], init: Path) -> None:
    """`into/initrd.img`."""
    tree = into / "tree"
    for folder in FOLDERS:
        (tree / folder).mkdir(parents=True)
    (version,) = (path.name for path in (kernel.path / "modules").iterdir())
    whole, kept = kernel.path / "modules" / version, tree / "lib/modules" / version
    needs = dependencies((whole / "modules.dep").read_text())
    by_name = {plain_name(name): name for name in needs}
    there = [name for name in modules if plain_name(name) in by_name]  # the others are built into this kernel
    for name in closure((by_name[plain_name(each)] for each in there), needs):
        (kept / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(whole / name, kept / name)
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        if (whole / name).exists():
            shutil.copy(whole / name, kept / name)
    toolbox.run(["depmod", "-b", tree, version])
    for program in ("usr/bin/busybox", "bin/busybox"):
        if (kernel.path / "tree" / program).exists():
            shutil.copy(kernel.path / "tree" / program, tree / "bin/busybox")
    (tree / "bin/busybox").chmod(0o755)
    shutil.copy(init, tree / "init")
    (tree / "init").chmod(0o755)
    (tree / "modules").write_text("\n".join(there) + "\n")
    (into / "initrd.cpio").write_bytes(archive(tree))
    toolbox.run(["zstd", "-q", "-19", "--rm", "-o", into / "initrd.img", into / "initrd.cpio"])
    shutil.rmtree(tree)


def archive(tree: Path) -> bytes:
    """A cpio archive in the `newc` form (kernel: Documentation/driver-api/early-userspace/buffer-format.rst), always the same for the same files."""
    parts: list[bytes] = []
    names = sorted(path.relative_to(tree).as_posix() for path in tree.rglob("*"))
    for number, name in enumerate(names, start=1):
        path = tree / name
        is_folder = path.is_dir()
        mode = (stat.S_IFDIR | 0o755) if is_folder else stat.S_IFREG | (0o755 if os.access(path, os.X_OK) else 0o644)
        parts += _entry(name, number, mode, b"" if is_folder else path.read_bytes(), 2 if is_folder else 1)
    parts += _entry("TRAILER!!!", 0, 0, b"", 1)
    return b"".join(parts)


def _entry(name: str, number: int, mode: int, data: bytes, links: int) -> list[bytes]:
    fields = (number, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08X" % value for value in fields) + name.encode() + b"\0"
    return [head, bytes(-len(head) % 4), data, bytes(-len(data) % 4)]
