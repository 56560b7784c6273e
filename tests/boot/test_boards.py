"""What the boot ROMs and firmware of real boards look for, checked on the disks that are made for them. No board was ever started from one.

The kernel, the loaders and the partition tables are real; the root in these disks is a stand-in, because making arm64's takes a quarter of an hour.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from pathlib import Path

import pytest

from firmware import slot_state, tryboot
from image import build, disk, kernel, recipe, slots
from image.cache import Kitchen, Made
from image.mirror import mirror_of_this_machine
from image.run import Toolbox

pytestmark = [pytest.mark.boot, pytest.mark.campaign]


class Board:
    """A recipe's selector and disk."""

    def __init__(self, name: str, folder: Path) -> None:
        self.recipe = found = recipe.load(recipe.recipe_path(name))
        cache = build.CACHE.absolute()
        kitchen = Kitchen(cache, tell=print)
        mirror = mirror_of_this_machine()
        tools = build.open_toolbox(kitchen, mirror, "amd64")
        self.toolbox = Toolbox(tools.path, (*tools.folders, folder))
        self.parts = kitchen.make(
            "kernel", kernel.make, context={"toolbox": tools, "mirror": mirror}, architecture=found.architecture, suite=found.suite, kernel=found.kernel,
            from_backports=found.kernel_from_backports, vendor_source="", modules=found.modules, initramfs_modules=found.initramfs_modules,
            others=("busybox-static", *dict.fromkeys(package for package, _, _ in found.files if package != found.kernel)),
        )  # fmt: skip
        initramfs = folder / "initramfs"
        initramfs.mkdir()
        (initramfs / "initrd.img").write_bytes(b"stand-in")
        root = folder / "root"
        root.mkdir()
        (root / "root.img").write_bytes(b"stand-in" * 512)
        inside = {"toolbox": self.toolbox}
        made = {}
        for step, maker, inputs in (
            ("boot", slots.make_boot, {"kernel": self.parts, "initramfs": Made("", initramfs, ""), "console": found.console, "device_trees": found.device_trees,
             "config_txt": found.config_txt, "loader": found.loader, "source_date": 0, "size_mib": found.boot_mib}),
            ("selector", disk.make_selector, {"kernel": self.parts, "boot_script": build.ROOT / "firmware/boot/boot.cmd", "files": found.files,
             "config_txt": found.config_txt, "loader": found.loader, "architecture": "arm64", "source_date": 0, "size_mib": found.selector_mib,
             "state": slot_state.packed(disk.FIRST_STATE), "autoboot": tryboot.text(disk.FIRST_STATE)}),
        ):  # fmt: skip
            into = folder / step
            into.mkdir()
            maker(into, **inside, **inputs)
            made[step] = Made(step, into, "")
        into = folder / "disk"
        into.mkdir()
        disk.make_disk(into, self.toolbox, selector=made["selector"], boot=made["boot"], root=Made("", root, ""), kernel=self.parts, files=found.files,
                       sizes=(found.first_mib, found.selector_mib, found.boot_mib, found.root_mib, found.data_mib),
                       is_hybrid=found.is_hybrid, source_date=0)  # fmt: skip
        self.disk = into / "disk.img"

    def partitions(self) -> list[dict]:
        return json.loads(self.toolbox.run(["sfdisk", "--json", self.disk]).output)["partitiontable"]["partitions"]

    def names(self, partition: int) -> set[str]:
        start = self.partitions()[partition - 1]["start"] * disk.SECTOR
        listed = self.toolbox.run(
            ["mdir", "-b", "-/", "-i", f"{self.disk}@@{start}", "::"], environment={"MTOOLS_SKIP_CHECK": "1"}
        ).output
        return {line.removeprefix("::/") for line in listed.split()}

    def raw(self, kib: int, size: int) -> bytes:
        with open(self.disk, "rb") as file:
            file.seek(kib * 1024)
            return file.read(size)


def blob(board: Board, source: str) -> bytes:
    (path,) = (board.parts.path / "tree").glob(source)
    return path.read_bytes()


def test_rpi_has_what_boot_rom_firmware_and_u_boot_look_for(tmp_path):
    board = Board("rpi", tmp_path)
    # The Pi 3's ROM: an MBR whose entry is a FAT, with bootcode.bin in its root. The Pi 4's EEPROM: start4.elf.
    mbr = board.raw(0, 512)
    kind, start = struct.unpack_from("<4xB3xI", mbr, 446)
    assert (kind, start) == (0x0C, 2048)
    assert mbr[510:] == b"\x55\xaa"
    names = board.names(1)
    assert {
        "bootcode.bin",
        "start.elf",
        "fixup.dat",
        "start4.elf",
        "fixup4.dat",
        "config.txt",
        "u-boot.bin",
        "boot.scr",
        "bootstate.0",
        "bootstate.1",
    } <= names
    for device_tree in ("bcm2837-rpi-3-b.dtb", "bcm2837-rpi-zero-2-w.dtb", "bcm2711-rpi-4-b.dtb"):
        assert device_tree in names
        assert f"dtb/broadcom/{device_tree}" in board.names(2)
    assert {"vmlinuz", "initrd.img", "args.txt"} <= board.names(2)
    assert [each["name"] for each in board.partitions()] == ["selector", "bootA", "bootB", "rootA", "rootB", "data"]


def test_growing_the_data_partition_keeps_the_hybrid_mbr(tmp_path):
    board = Board("rpi", tmp_path)
    before = board.raw(0, 512)
    with open(board.disk, "r+b") as file:
        file.truncate(4 << 30)
    board.toolbox.run(["sh", "-c", 'echo ", +" | sfdisk --no-tell-kernel -q -N6 "$1"', "sh", board.disk])
    grown = board.partitions()[5]
    assert grown["size"] * disk.SECTOR > 2 << 30
    assert board.raw(0, 512)[446:] == before[446:]


def test_rpi5_has_what_its_firmware_looks_for(tmp_path):
    board = Board("rpi5", tmp_path)
    assert {"autoboot.txt", "bootstate.0", "bootstate.1"} <= board.names(1)
    assert {"config.txt", "cmdline.txt", "vmlinuz", "initrd.img", "bcm2712-rpi-5-b.dtb"} <= board.names(2)


LOADERS = {
    "rpi": "usr/lib/u-boot/rpi_arm64/u-boot.bin",
    "rockchip": "usr/lib/u-boot/rock64-rk3328/u-boot-rockchip.bin",
    "sunxi": "usr/lib/u-boot/pine64_plus/u-boot-sunxi-with-spl.bin",
}


@pytest.mark.parametrize("name", LOADERS)
def test_what_the_loader_brings_into_memory_lies_side_by_side(name, tmp_path):
    """Debian's kernel is not packed and has 38 MB; a Raspberry Pi's U-Boot puts the initramfs at 39 MiB, where the kernel still is, and
    refused to start it: seen in QEMU's raspi3b. The addresses are the loader's own, and what boot.cmd says instead.
    """
    board = Board(name, tmp_path)
    found = dict(re.findall(rb"(?<=\0)(\w+)=(0x[0-9A-Fa-f]+)(?=\0)", blob(board, LOADERS[name])))
    address = {key.decode(): int(value, 16) for key, value in found.items()}
    script = (build.ROOT / "firmware/boot/boot.cmd").read_text()
    if name == "rpi":
        (line,) = (line for line in script.splitlines() if '"${board}" = "rpi"' in line)
        address |= {key: int(value, 16) for key, value in re.findall(r"setenv (\w+) (0x\w+)", line)}
    kernel_bytes = board.parts.path / "vmlinuz"
    # Documentation/arch/arm64/booting.rst: image_size; U-Boot moves the kernel up to a multiple of 2 MiB.
    (image_size,) = struct.unpack_from("<Q", kernel_bytes.read_bytes()[:64], 16)
    first = address["kernel_addr_r"]
    end = -(-first // (2 << 20)) * (2 << 20) + image_size
    for key, size in (("fdt_addr_r", 1 << 20), ("ramdisk_addr_r", 16 << 20)):
        assert address[key] >= end or address[key] + size <= first, (
            f"{key}: {address[key]:#x} in {first:#x} to {end:#x}"
        )
    assert abs(address["fdt_addr_r"] - address["ramdisk_addr_r"]) >= 1 << 20


def test_rockchip_has_its_loader_before_the_first_partition(tmp_path):
    board = Board("rockchip", tmp_path)
    loader = blob(board, "usr/lib/u-boot/rock64-rk3328/u-boot-rockchip.bin")
    assert board.raw(32, len(loader)) == loader
    assert board.partitions()[0]["start"] * disk.SECTOR == 16 * disk.MIB > 32 * 1024 + len(loader)
    assert "boot.scr" in board.names(1)
    assert "dtb/rockchip/rk3328-rock64.dtb" in board.names(2)


def test_sunxi_has_its_loader_where_the_boot_rom_looks_and_no_gpt_lies(tmp_path):
    """At 8 KiB it lay over the partition table's entries: sfdisk has no word to move them, and said so where nobody looked."""
    board = Board("sunxi", tmp_path)
    loader = blob(board, "usr/lib/u-boot/pine64_plus/u-boot-sunxi-with-spl.bin")
    assert board.raw(128, len(loader)) == loader
    assert b"eGON.BT0" in loader[:16]  # what the boot ROM looks for
    first = board.partitions()[0]
    assert first["name"] == "selector"
    assert 128 * 1024 + len(loader) <= first["start"] * disk.SECTOR
    # UEFI 2.10, table 5-5: where the entries lie, how many, how large, and their CRC.
    entries, count, size, crc = struct.unpack_from("<QIII", board.raw(0, 1024), 512 + 72)
    assert entries * disk.SECTOR + count * size <= 128 * 1024
    assert zlib.crc32(board.raw(entries * disk.SECTOR // 1024, count * size)) == crc
    told = board.toolbox.run(["sfdisk", "--verify", board.disk])
    assert "No errors detected" in told.output
