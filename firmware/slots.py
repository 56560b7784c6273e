"""Where the state that decides which slot boots is kept: its two copies on the selector, and RAUC's questions about it.

RAUC, the bootloader and we share nothing but that state (slot_state.py). Two copies, each with a CRC-32 over 508 bytes as
U-Boot's `env export -c` has it, written one after the other; the first good one counts, so a torn write costs at most the
change that was being made. The files exist since the image was built and are written in place.

`python -m firmware.slots` is RAUC's custom backend (RAUC 1.13, docs/integration, "Custom"): get-primary, set-primary, get-state, set-state.
On a board whose firmware reads autoboot.txt, `tryboot.py` stands behind the same four.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from firmware import tryboot
from firmware.slot_state import NoState, State, choice, committed, emptied, filled, packed, unpacked

SELECTOR = Path("/boot/selector")
COPIES = ("bootstate.0", "bootstate.1")


def read(selector: Path = SELECTOR) -> State:
    """What counts now. Raises NoState when neither copy is good: the bootloader then takes State()."""
    why = []
    for name in COPIES:
        try:
            return unpacked((selector / name).read_bytes())
        except (OSError, NoState) as error:
            why.append(f"{name}: {error}")
    raise NoState("; ".join(why))


def write(state: State, selector: Path = SELECTOR) -> None:
    """Put `state` into both copies, each durable before the next is touched. Raises OSError."""
    data = packed(state)
    for name in COPIES:
        fd = os.open(selector / name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.pwrite(fd, data, 0) != len(data):
                raise OSError(f"{name}: written in part")
            os.fsync(fd)
        finally:
            os.close(fd)
    if (selector / tryboot.NAME).exists():
        tryboot.write(state, selector)


def read_or_new(selector: Path = SELECTOR) -> State:
    try:
        return read(selector)
    except NoState:
        return State()


def booted_slot(cmdline: str | None = None) -> str:
    """The slot we run from, as the bootloader told the kernel; "" where none did."""
    text = Path("/proc/cmdline").read_text() if cmdline is None else cmdline
    told = next((word.partition("=")[2] for word in text.split() if word.startswith("rauc.slot=")), "")
    if told or cmdline is not None:
        return told
    return tryboot.started_slot()


def restart(selector: Path = SELECTOR) -> None:
    """Restart the box into the slot that is first."""
    state = read_or_new(selector)
    special = (selector / tryboot.NAME).exists() and tryboot.needs_tryboot(state)
    subprocess.run(
        ["systemctl", "reboot", *([f"--reboot-argument={tryboot.ARGUMENT}"] if special else [])], check=False
    )


# -- RAUC's questions --------------------------------------------------------------------------------


def answer(arguments: list[str], selector: Path = SELECTOR) -> str:
    """What RAUC gets to read. Raises ValueError for a question that is none, OSError when the state cannot be written."""
    state = read_or_new(selector)
    match arguments:
        case ["get-primary"]:
            return choice(state)[0]
        case ["set-primary", ("A" | "B") as slot]:
            write(filled(state, slot), selector)
        case ["get-state", ("A" | "B") as slot]:
            return "good" if state.left(slot) > 0 or state.good(slot) else "bad"
        case ["set-state", ("A" | "B") as slot, "good"]:
            write(committed(state, slot), selector)
        case ["set-state", ("A" | "B") as slot, "bad"]:
            write(emptied(state, slot), selector)
        case ["get-current"]:
            return booted_slot()
        case _:
            raise ValueError(f"RAUC asks {arguments}")
    return ""


def main() -> int:
    try:
        told = answer(sys.argv[1:])
    except (OSError, ValueError) as error:
        print(f"slots: {error}", file=sys.stderr)
        return 1
    if told:
        print(told)
    return 0


if __name__ == "__main__":
    sys.exit(main())
