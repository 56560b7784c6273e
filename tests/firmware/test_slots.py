from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hush import Hush

from firmware import slot_state, slots
from firmware.slot_state import State, choice, committed, emptied, filled, given_up, packed, unpacked

ROOT = Path(__file__).resolve().parents[2]
STATES = [
    State(order, left_a, left_b, good_a, good_b)
    for order, left_a, left_b, good_a, good_b in itertools.product(
        (("A", "B"), ("B", "A")), range(4), range(4), (False, True), (False, True)
    )
]


def chooser() -> str:
    text = (ROOT / "firmware/boot/boot.cmd").read_text()
    return text.partition("# choose begins\n")[2].partition("# choose ends\n")[0]


def variables(state: State) -> dict[str, str]:
    texts = packed(state)[4:].split(b"\0\0")[0].decode().split("\0")
    return dict(text.split("=", 1) for text in texts)


def test_the_boot_script_chooses_as_choice_does_in_every_state():
    script = chooser()
    assert "setexpr" not in script
    for state in STATES:
        hush = Hush(variables(state))
        hush.run(script)
        slot, after = choice(state)
        assert hush.environment["pick"] == slot, state
        assert {name: hush.environment[name] for name in variables(after)} == variables(after), state


def test_the_boot_script_starts_with_no_state_at_all():
    hush = Hush({})
    hush.run(chooser())
    slot, after = choice(State())
    assert (hush.environment["pick"], hush.environment["BOOT_A_LEFT"]) == (slot, str(after.left_a))


# -- every way through: what boots, what does not, and where the power is cut -------------------------


def boots_until_quiet(
    state: State, works: dict[str, bool], *, proves: dict[str, bool], limit: int = 40
) -> tuple[str, State] | None:
    """Start again and again as a box does: a slot that does not start resets, one that does not prove itself gives up if it may.

    Returns the slot that stays, committed or (with nowhere to go) not; None when none ever stays.
    """
    for _ in range(limit):
        slot, state = choice(state)
        if not works[slot]:
            continue
        if proves[slot] or state.good(slot):  # a slot that is good only has to start record
            return slot, committed(state, slot)
        if not slot_state.can_return(state, slot):
            return slot, state
        state = given_up(state, slot)
    return None


@pytest.mark.parametrize("works_a", [True, False])
@pytest.mark.parametrize("works_b", [True, False])
@pytest.mark.parametrize("proves_a", [True, False])
@pytest.mark.parametrize("proves_b", [True, False])
def test_from_every_state_a_slot_that_works_is_reached(works_a, works_b, proves_a, proves_b):
    works, proves = {"A": works_a, "B": works_b}, {"A": proves_a, "B": proves_b}
    for state in STATES:
        end = boots_until_quiet(state, works, proves=proves)
        if not (works_a or works_b):
            assert end is None
            continue
        assert end is not None, f"dead end from {state}"
        assert works[end[0]]


@pytest.mark.parametrize("slot", ["A", "B"])
def test_an_update_that_does_not_prove_itself_ends_where_it_began(slot):
    other = slot_state.other(slot)
    before = committed(State(), slot)
    state = filled(emptied(before, other), other)
    for works, proves in (
        ({slot: True, other: False}, {slot: True, other: False}),
        ({slot: True, other: True}, {slot: True, other: False}),
    ):
        end = boots_until_quiet(state, works, proves=proves)
        assert end is not None
        assert end[0] == slot
        # and it stays there, however often the box starts
        again = choice(end[1])[0]
        assert again == slot
        assert not end[1].good(other)


@pytest.mark.parametrize("slot", ["A", "B"])
def test_an_update_that_proves_itself_stays_and_the_old_one_can_be_returned_to(slot):
    other = slot_state.other(slot)
    state = filled(emptied(committed(State(), slot), other), other)
    end = boots_until_quiet(state, {"A": True, "B": True}, proves={"A": True, "B": True})
    assert end is not None
    assert end[0] == other
    assert slot_state.can_return(end[1], other)


@pytest.mark.parametrize("cuts", range(8))
@pytest.mark.parametrize("slot", ["A", "B"])
def test_power_cuts_while_starting_never_leave_a_box_that_starts_nothing_good(cuts, slot):
    """Each cut costs an attempt; whatever is started in the end was either committed before or proves itself now."""
    other = slot_state.other(slot)
    for state in (
        committed(State(), slot),
        filled(emptied(committed(State(), slot), other), other),
        emptied(committed(State(), slot), other),
    ):
        now = state
        for _ in range(cuts):
            _, now = choice(now)
        end = boots_until_quiet(now, {slot: True, other: state.left(other) > 0}, proves={slot: True, other: True})
        assert end is not None
        assert end[0] == slot or state.left(other) > 0


def test_a_cut_while_a_slot_is_written_starts_the_other_one():
    for slot in slot_state.SLOTS:
        state = emptied(committed(State(), slot), slot_state.other(slot))
        for _ in range(2 * slot_state.ATTEMPTS):  # so many cuts in a row, each before anything was confirmed
            started, state = choice(state)
            assert started == slot


def test_both_slots_bad_ends_in_the_older_good_one_being_tried_again():
    state = State(("B", "A"), 0, 0, good_a=True, good_b=False)
    started = ""
    for _ in range(12):
        slot, state = choice(state)
        started += slot
    # And the other one too: A was good once and may be what is broken now.
    assert started == "AAABBBAAABBB"


# -- the copies --------------------------------------------------------------------------------------


def test_every_state_survives_packing():
    for state in STATES:
        data = packed(state)
        assert len(data) == slot_state.SIZE_BYTES
        assert unpacked(data) == state


def test_the_bytes_are_those_that_u_boot_writes():
    """Read back from `env export -c -s 0x200` of U-Boot 2025.01 (qemu-x86_64) for one variable, arch=x86."""
    data = bytes.fromhex("bc4762b6") + b"arch=x86".ljust(508, b"\0")
    assert unpacked(data) == State()


def test_any_bytes_give_a_state_or_no_state():
    good = packed(State())
    for at in range(len(good)):
        for bit in (1, 0x80):
            damaged = bytearray(good)
            damaged[at] ^= bit
            with pytest.raises(slot_state.NoState):
                unpacked(bytes(damaged))
    for size in (0, 4, 511, 513):
        with pytest.raises(slot_state.NoState):
            unpacked(good[:size].ljust(size, b"x"))


def test_a_write_that_is_torn_anywhere_costs_at_most_the_change(tmp_path):
    before, after = committed(State(), "A"), filled(emptied(committed(State(), "A"), "B"), "B")
    old, new = packed(before), packed(after)
    for copy in (0, 1):
        for cut in range(0, slot_state.SIZE_BYTES + 1, 32):
            torn = new[:cut] + old[cut:]
            (tmp_path / slots.COPIES[copy]).write_bytes(torn)
            (tmp_path / slots.COPIES[1 - copy]).write_bytes(old if copy == 0 else new)
            assert slots.read(tmp_path) in (before, after)


def test_writing_keeps_the_files_where_they_are(tmp_path):
    slots.write(State(), tmp_path)
    numbers = [(tmp_path / name).stat().st_ino for name in slots.COPIES]
    slots.write(committed(State(), "B"), tmp_path)
    assert [(tmp_path / name).stat().st_ino for name in slots.COPIES] == numbers
    assert slots.read(tmp_path).good_b


def test_without_a_good_copy_it_is_as_the_boot_script_has_it(tmp_path):
    with pytest.raises(slot_state.NoState):
        slots.read(tmp_path)
    assert slots.read_or_new(tmp_path) == State()


# -- RAUC --------------------------------------------------------------------------------------------


def test_rauc_installs_into_the_other_slot(tmp_path):
    slots.write(committed(State(left_b=0), "A"), tmp_path)
    assert slots.answer(["get-primary"], tmp_path) == "A"
    assert slots.answer(["get-state", "B"], tmp_path) == "bad"
    slots.answer(["set-state", "B", "bad"], tmp_path)
    assert slots.answer(["get-primary"], tmp_path) == "A"
    slots.answer(["set-primary", "B"], tmp_path)
    assert slots.answer(["get-primary"], tmp_path) == "B"
    assert slots.answer(["get-state", "B"], tmp_path) == "good"
    slots.answer(["set-state", "B", "good"], tmp_path)
    assert slots.read(tmp_path).good_b


@pytest.mark.parametrize("question", [[], ["set-primary", "C"], ["set-state", "A", "fine"], ["reboot"]])
def test_other_questions_are_refused(tmp_path, question):
    with pytest.raises(ValueError):
        slots.answer(question, tmp_path)


def test_the_booted_slot_is_what_the_kernel_was_told():
    assert slots.booted_slot("quiet rauc.slot=B ro") == "B"
    assert slots.booted_slot("quiet") == ""
