"""The image for Raspberry Pi in QEMU's boards: its U-Boot, its kernel, its root, from its card, as far as those machines go.

QEMU plays the firmware: it puts U-Boot and the device tree into memory, where on a board `bootcode.bin` and `start.elf` do it from the card.
"""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest

from boot import vm as vms
from image import build, recipe
from image.run import Toolbox

pytestmark = [pytest.mark.boot, pytest.mark.campaign]

LIMIT_S = 1200.0
CARD_MIB = 4096  # QEMU takes powers of two only
BY_LOADER = (r"nvr: slot A \(state 0, order A B", r"Starting kernel")
# How far QEMU 10.0 goes. Its raspi3b takes the arming of the watchdog for a restart (hw/misc/bcm2835_powermgt.c: RSTC), and systemd arms it first of
# all; on its raspi4b the kernel says nothing on the line that we read.
MARKS = {"raspi3b": (*BY_LOADER, r"initramfs: rootA is /dev/mmcblk\dp4"), "raspi4b": BY_LOADER}
# The device tree that the firmware would have taken.
BOARDS = {"raspi3b": "bcm2837-rpi-3-b.dtb", "raspi4b": "bcm2711-rpi-4-b.dtb"}


@pytest.mark.parametrize("machine", BOARDS)
def test_the_image_for_raspberry_pi_starts_as_far_as_qemu_goes(tmp_path, logs, machine):
    order = build.Order(recipe.load(recipe.recipe_path("rpi")), version="1.0")
    built = build.build(order, tell=print)
    disk = vms.copy_of(built.disk.path / "disk.img", tmp_path / "disk.img", size_mib=CARD_MIB)
    (loader,) = (built.kernel.path / "tree").glob("usr/lib/u-boot/rpi_arm64/u-boot.bin")
    (device_tree,) = (built.kernel.path / "tree").glob(f"usr/lib/linux-image-*/broadcom/{BOARDS[machine]}")
    if machine not in built.toolbox.run(["qemu-system-aarch64", "-M", "help"]).output:
        pytest.skip(f"the QEMU at hand does not know {machine}")
    tools = Toolbox(built.toolbox.path, (*built.toolbox.folders, tmp_path, logs))
    # The board's serial line is the second one: U-Boot begins on the first and goes where the device tree says.
    serial = logs / f"{machine}.log"
    serial.unlink(missing_ok=True)
    words = ["qemu-system-aarch64", "-M", machine, "-kernel", str(loader), "-dtb", str(device_tree), "-drive", f"if=sd,file={disk},format=raw",
             "-display", "none", "-monitor", "none", "-serial", "null", "-serial", f"file:{serial}", "-no-reboot"]  # fmt: skip
    began_s = time.monotonic()
    with open(logs / f"{machine}-qemu.log", "wb") as told:
        qemu = subprocess.Popen(tools.command(words), stdin=subprocess.DEVNULL, stdout=told, stderr=told)
    try:
        for mark in MARKS[machine]:
            wait_for(mark, serial, qemu)
            print(f"{machine}: {mark}: after {time.monotonic() - began_s:.0f} s")
    finally:
        qemu.kill()
        qemu.wait()


def wait_for(mark: str, serial: Path, qemu: subprocess.Popen[bytes]) -> None:
    end_s = time.monotonic() + LIMIT_S
    while True:
        text = serial.read_bytes().decode(errors="replace") if serial.exists() else ""
        if re.search(mark, text):
            return
        assert qemu.poll() is None, f"QEMU ended while waiting for {mark}:\n{text[-2000:]}"
        assert time.monotonic() < end_s, f"no {mark} within {LIMIT_S:.0f} s:\n{text[-2000:]}"
        time.sleep(1)
