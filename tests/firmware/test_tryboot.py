"""The Raspberry Pi 5's own choice of a slot, simulated: no board and no emulator that we have runs that firmware."""

from __future__ import annotations

import pytest

from firmware import slots, tryboot
from firmware.slot_state import State, committed, emptied, filled, given_up

A, B = 2, 3


class Board:
    """The firmware with its one-shot flag, and the file it reads."""

    def __init__(self, selector) -> None:
        self.selector = selector
        (selector / tryboot.NAME).write_text("")
        slots.write(committed(State(left_b=0), "A"), selector)
        self.flag = False

    def change(self, change) -> None:
        slots.write(change(slots.read(self.selector)), self.selector)

    def restart(self) -> int:
        self.flag = tryboot.needs_tryboot(slots.read(self.selector))
        return self.power_on()

    def power_on(self) -> int:
        flag, self.flag = self.flag, False
        return tryboot.chosen((self.selector / tryboot.NAME).read_text(), flag=flag)


@pytest.fixture
def board(tmp_path) -> Board:
    return Board(tmp_path)


def install(board: Board, slot: str) -> None:
    board.change(lambda state: emptied(state, slot))
    board.change(lambda state: filled(state, slot))


def test_an_update_is_tried_once_and_stays_when_it_proved_itself(board):
    install(board, "B")
    assert board.restart() == B
    board.change(lambda state: committed(state, "B"))
    assert [board.power_on() for _ in range(3)] == [B, B, B]


def test_a_power_cut_while_it_proves_itself_goes_back(board):
    install(board, "B")
    assert board.restart() == B
    assert board.power_on() == A


def test_an_update_that_gives_itself_up_goes_back(board):
    install(board, "B")
    assert board.restart() == B
    board.change(lambda state: given_up(state, "B"))
    assert board.restart() == A


def test_a_power_cut_between_installation_and_restart_stays_with_the_old_one(board):
    install(board, "B")
    assert board.power_on() == A


def test_a_half_written_slot_is_never_started(board):
    board.change(lambda state: emptied(state, "B"))
    assert board.restart() == A
    assert board.power_on() == A


def test_updates_go_to_and_fro(board):
    for slot, partition in (("B", B), ("A", A), ("B", B)):
        install(board, slot)
        assert board.restart() == partition
        board.change(lambda state, slot=slot: committed(state, slot))
        assert board.power_on() == partition


def test_the_partition_the_firmware_names_is_the_slot(tmp_path):
    path = tmp_path / "partition"
    assert tryboot.started_slot(path) == ""
    for slot, partition in tryboot.PARTITIONS.items():
        path.write_bytes(partition.to_bytes(4, "big"))
        assert tryboot.started_slot(path) == slot
