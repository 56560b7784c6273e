"""What fills a slot: the read-only root as an erofs, and the FAT beside it with kernel, initramfs and the kernel's arguments."""

from __future__ import annotations

import shutil
from pathlib import Path

from image.cache import Made
from image.run import Toolbox
from nvr.errors import NvrError

MIB = 1 << 20
ROOT_UUID = "6e767200-0000-4000-8000-000000000001"  # always the same: nothing finds a slot by it
# fsck.repair: nobody is there to answer what it asks.
KERNEL_ARGUMENTS = "ro quiet fsck.repair=yes systemd.volatile=state systemd.show_status=no panic=10 net.ifnames=1"


def make_root(into: Path, toolbox: Toolbox, *, root: Made, source_date: int, limit_mib: int) -> None:
    """`into/root.img`. Raises NvrError when it does not fit its slot."""
    target = into / "root.img"
    # 64 KiB clusters: 12 % smaller than 16 KiB ones, and reading ahead on a card is free. lz4hc: no board waits for it.
    toolbox.run(
        [
            "mkfs.erofs",
            "--quiet",
            "-zlz4hc,9",
            "-C65536",
            f"-T{source_date}",
            f"-U{ROOT_UUID}",
            "-x-1",
            "-Lnvr-root",
            target,
            root.path / "tree",
        ]
    )
    size = target.stat().st_size
    if size > limit_mib * MIB:
        raise NvrError(
            f"the root has {size / 1e6:.0f} MB, its slot {limit_mib} MiB",
            hint="Prune more, or raise root_mib in the recipe.",
        )


def make_boot(
    into: Path, toolbox: Toolbox, *, kernel: Made, initramfs: Made, console: str, device_trees: tuple[str, ...], config_txt: str,
    loader: str, source_date: int, size_mib: int,
) -> None:  # fmt: skip
    """`into/boot.img`, the same for both slots: which one it lies in, the bootloader knows."""
    tree = into / "tree"
    (tree / "dtb").mkdir(parents=True)
    shutil.copy(kernel.path / "vmlinuz", tree / "vmlinuz")
    shutil.copy(initramfs.path / "initrd.img", tree / "initrd.img")
    arguments = f"{KERNEL_ARGUMENTS}{f' console={console}' if console else ''}"
    (tree / "args.txt").write_text(f"args={arguments}\n")
    known = [path for place in ("usr/lib", "boot", "lib") for path in (kernel.path / "tree" / place).glob("**/*.dtb")]
    for name in device_trees:
        found = [path for path in known if path.as_posix().endswith(f"/{name}")]
        if not found:
            raise NvrError(
                f"the kernel's package has no device tree {name}",
                hint="Its name is as below dts/, such as broadcom/bcm2711-rpi-4-b.dtb.",
            )
        target = tree / "dtb" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(found[0], target)
    if loader == "tryboot":  # the board's firmware starts the kernel itself: it wants everything beside its config.txt
        (tree / "config.txt").write_text(config_txt)
        (tree / "cmdline.txt").write_text(f"{arguments}\n")  # the initramfs asks the firmware which slot this is
        for path in (tree / "dtb").rglob("*.dtb"):
            shutil.copy(path, tree / path.name)
        shutil.rmtree(tree / "dtb")
    fat(toolbox, tree, into / "boot.img", size_mib * MIB, "NVR-BOOT", "4e565242", source_date)
    shutil.rmtree(tree)


def fat(toolbox: Toolbox, tree: Path, target: Path, size_bytes: int, label: str, number: str, source_date: int) -> None:
    """A FAT32 with the files of `tree`, without mounting anything; the same files give the same bytes."""
    with open(target, "wb") as file:
        file.truncate(size_bytes)
    dates = {"SOURCE_DATE_EPOCH": str(source_date), "MTOOLS_SKIP_CHECK": "1", "TZ": "UTC"}
    toolbox.run(
        ["mkfs.vfat", "--invariant", "-F", "32", "-s", "1", "-n", label, "-i", number, target], environment=dates
    )
    for path in sorted(tree.rglob("*")):
        name = f"::{path.relative_to(tree).as_posix()}"
        if path.is_dir():
            toolbox.run(["mmd", "-i", target, name], environment=dates)
        else:
            toolbox.run(["mcopy", "-i", target, path, name], environment=dates)
