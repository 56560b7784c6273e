"""The state that decides which slot boots: what it means, what is decided by it, and its bytes. Pure; the files are slots.py's.

    order        the slot to try first, then the other
    left         of each slot: attempts to boot it that are left, 3 when it is new
    good         of each slot: whether what is in it recorded once (it was committed)

The bootloader takes an attempt from the slot it starts (`choice()`; for U-Boot boot/boot.cmd says the same). A slot that proved
itself gets its attempts back (`committed()`).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

SIZE_BYTES = 512  # one sector: most disks write it whole or not at all
ATTEMPTS = 3
SLOTS = ("A", "B")


class NoState(Exception):
    """No copy of the state has a good checksum."""


@dataclass(frozen=True, slots=True)
class State:
    """See above. Every value of every field is a state that the bootloader must get out of."""

    order: tuple[str, str] = ("A", "B")
    left_a: int = ATTEMPTS
    left_b: int = ATTEMPTS
    good_a: bool = False
    good_b: bool = False

    def left(self, slot: str) -> int:
        return self.left_a if slot == "A" else self.left_b

    def good(self, slot: str) -> bool:
        return self.good_a if slot == "A" else self.good_b

    def with_slot(self, slot: str, left: int, good: bool) -> State:
        return replace(self, left_a=left, good_a=good) if slot == "A" else replace(self, left_b=left, good_b=good)


def other(slot: str) -> str:
    return "B" if slot == "A" else "A"


# -- what is decided ---------------------------------------------------------------------------------


def choice(state: State) -> tuple[str, State]:
    """What the bootloader does: the slot it starts, and the state it leaves behind."""
    for slot in state.order:
        if state.left(slot) > 0:
            return slot, state.with_slot(slot, state.left(slot) - 1, state.good(slot))
    # No attempts left anywhere. What worked once comes first; but that it worked once proves nothing, so the other gets its turn again too.
    first = next((slot for slot in state.order if state.good(slot)), state.order[0])
    again = replace(state, order=(first, other(first)), left_a=ATTEMPTS, left_b=ATTEMPTS)
    return first, again.with_slot(first, ATTEMPTS - 1, state.good(first))


def emptied(state: State, slot: str) -> State:
    """Before `slot` is written: it is not started until it is whole."""
    return replace(state.with_slot(slot, 0, False), order=(other(slot), slot))


def filled(state: State, slot: str) -> State:
    """`slot` holds something new and whole: it is tried next."""
    return replace(state.with_slot(slot, ATTEMPTS, False), order=(slot, other(slot)))


def committed(state: State, slot: str) -> State:
    """What runs in `slot` has proved itself. If the other one used up its attempts, this one is first from now on."""
    after = state.with_slot(slot, ATTEMPTS, True)
    return replace(after, order=(slot, other(slot))) if after.left(other(slot)) == 0 else after


def given_up(state: State, slot: str) -> State:
    """What runs in `slot` did not prove itself: the other one is started from now on."""
    return replace(state.with_slot(slot, 0, False), order=(other(slot), slot))


def can_return(state: State, slot: str) -> bool:
    """Whether the other slot holds something that recorded once, and has not used up its attempts since: else both would send the box to and fro."""
    return state.good(other(slot)) and state.left(other(slot)) > 0


# -- its bytes ---------------------------------------------------------------------------------------


def packed(state: State) -> bytes:
    """One copy, as `env import -c` takes it: CRC-32, then NUL-ended texts up to an empty one."""
    texts = (
        f"BOOT_ORDER={' '.join(state.order)}",
        f"BOOT_A_LEFT={state.left_a}",
        f"BOOT_B_LEFT={state.left_b}",
        f"BOOT_A_GOOD={int(state.good_a)}",
        f"BOOT_B_GOOD={int(state.good_b)}",
    )
    data = b"".join(text.encode() + b"\0" for text in texts).ljust(SIZE_BYTES - 4, b"\0")
    return zlib.crc32(data).to_bytes(4, "little") + data


def unpacked(data: bytes) -> State:
    """The state in one copy; whatever U-Boot may have left out has its first value. Raises NoState for anything else."""
    if len(data) != SIZE_BYTES or int.from_bytes(data[:4], "little") != zlib.crc32(data[4:]):
        raise NoState(f"{len(data)} bytes whose checksum is wrong")
    fields = dict(
        text.split("=", 1) for text in data[4:].split(b"\0\0")[0].decode("ascii", "replace").split("\0") if "=" in text
    )
    order = tuple(fields.get("BOOT_ORDER", "A B").split())
    lefts = tuple(fields.get(f"BOOT_{slot}_LEFT", str(ATTEMPTS)) for slot in SLOTS)
    if sorted(order) != list(SLOTS) or any(left not in ("0", "1", "2", "3") for left in lefts):
        raise NoState(f"order {order}, left {lefts}")
    goods = tuple(fields.get(f"BOOT_{slot}_GOOD", "0") == "1" for slot in SLOTS)
    return State((order[0], order[1]), int(lefts[0]), int(lefts[1]), *goods)
