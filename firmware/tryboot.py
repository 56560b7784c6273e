"""Slots on a board whose firmware chooses them: the Raspberry Pi 5 reads `autoboot.txt` on the selector (Raspberry Pi documentation, "autoboot.txt").

    [all]      boot_partition=2    what every start takes
    [tryboot]  boot_partition=3    what the one start takes that `reboot "0 tryboot"` asked for; the flag is gone before the kernel runs

So a new slot has one attempt instead of three, and whatever goes wrong in it, the next start is the old one. `autoboot.txt` follows the state
of slot_state.py and is replaced as a whole. Nothing here was ever run on a board: `chosen()` is our reading of the documentation.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from firmware.slot_state import State, other

NAME = "autoboot.txt"
PARTITIONS = {"A": 2, "B": 3}
ARGUMENT = "0 tryboot"
# Where the firmware tells which partition it started from (device-tree documentation, chosen/bootloader).
STARTED_FROM = Path("/proc/device-tree/chosen/bootloader/partition")


def stays(state: State) -> str:
    """The slot that every ordinary start takes: never one that did not prove itself, if there is another."""
    first = state.order[0]
    return first if state.good(first) or not state.good(other(first)) else other(first)


def text(state: State) -> str:
    slot = stays(state)
    return f"[all]\ntryboot_a_b=1\nboot_partition={PARTITIONS[slot]}\n[tryboot]\nboot_partition={PARTITIONS[other(slot)]}\n"


def needs_tryboot(state: State) -> bool:
    """Whether the next start must be asked for specially, to get at the slot that is first."""
    return stays(state) != state.order[0]


def write(state: State, selector: Path) -> None:
    """Put autoboot.txt in its place by a rename. Raises OSError."""
    draft = selector / "autoboot.new"
    with open(draft, "w") as file:
        file.write(text(state))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(selector / NAME)
    fd = os.open(selector, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def chosen(autoboot: str, *, flag: bool) -> int:
    """A simulation of the firmware: the partition it starts from. Without a readable file that is the first one."""
    partition, section = 1, "all"
    for line in autoboot.splitlines():
        header = re.fullmatch(r"\[(\w+)\]", line.strip())
        if header:
            section = header[1]
        value = re.fullmatch(r"boot_partition=(\d+)", line.strip())
        if value and (section == "all" or (section == "tryboot" and flag)):
            partition = int(value[1])
    return partition


def started_slot(path: Path = STARTED_FROM) -> str:
    """The slot the firmware says it started from; "" where it says nothing."""
    try:
        number = int.from_bytes(path.read_bytes()[:4], "big")
    except OSError:
        return ""
    return next((slot for slot, partition in PARTITIONS.items() if partition == number), "")
