"""Ten cards at once, some of them bad: each gets the right verdict, and none that is not good looks whole."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
import time

import pytest
from cards import (
    IMAGE_BYTES,
    MIB,
    DroppingCard,
    LimboCard,
    MemoryCard,
    PulledCard,
    data_ranges,
    make_image,
    needs_tools,
)

from tools.nvrctl import image_file
from tools.nvrctl.burn import DROPS, FAILED, GONE, LIES, STALLED, STOPPED, Burn, Card
from tools.nvrctl.device import FileDisk
from tools.nvrctl.plan import Patch

pytestmark = needs_tools


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    return image_file.look_at(make_image(tmp_path_factory.mktemp("image"), packing="zstd"))


@pytest.fixture(scope="module")
def unpacked(image) -> bytes:
    data = memoryview(bytearray(image.size_bytes))
    with image_file.opened(image) as stream:
        stream.read_into(data)
    return bytes(data)


@pytest.fixture(scope="module")
def writes_in_all(image) -> int:
    """How often a good card is written."""
    (card,) = burned(image, MemoryCard())
    return len(card.disk.writes)


def burned(image, *disks, patches=(), **options) -> list[Card]:
    cards = [Card(disk, tuple(patches)) for disk in disks]
    Burn(image, cards, **options).run(tick_s=0.01)
    return cards


def kinds(cards: list[Card]) -> list[str]:
    return [card.verdict.kind if card.verdict else "none" for card in cards]


def test_a_good_card_holds_the_image_wherever_the_image_has_data(image, unpacked):
    (card,) = burned(image, MemoryCard())
    assert card.verdict.is_good and card.disk.closed_whole
    for offset, data in data_ranges(unpacked):
        assert card.disk.data[offset : offset + len(data)] == data
    assert card.disk.data[: 1 << 20] == unpacked[: 1 << 20]


def test_what_is_empty_is_not_written(image):
    (card,) = burned(image, MemoryCard())
    behind_the_fat = [(offset, size) for offset, size in card.disk.writes if offset >= 34 * MIB]
    assert sum(size for offset, size in behind_the_fat if offset < IMAGE_BYTES) < 9 * MIB < IMAGE_BYTES - 34 * MIB


def test_nothing_of_an_earlier_use_is_left_in_a_fat(image, unpacked):
    """A block map leaves out zeros. On a used card, what stood there made entries of the FAT's tables: fsck found 65,000 lost clusters."""
    (card,) = burned(image, MemoryCard())
    assert card.disk.data[MIB : 34 * MIB] == unpacked[MIB : 34 * MIB]


def test_ten_cards_at_once_get_the_right_verdict_each(image):
    good = [MemoryCard(name=f"/dev/good{number}") for number in range(6)]
    bad = [
        MemoryCard(256 * MIB, real_bytes=64 * MIB),  # lies about its size, wraps around
        LimboCard(256 * MIB, real_bytes=64 * MIB),  # lies about its size, forgets
        DroppingCard(keeps=0.5),
        PulledCard(after_writes=40),
    ]
    cards = burned(image, *good, *bad)
    assert kinds(cards) == ["good"] * 6 + [LIES, LIES, DROPS, GONE]
    assert cards[6].verdict.real_bytes == 64 * MIB
    assert 48 * MIB <= cards[7].verdict.real_bytes <= 64 * MIB
    assert all(disk.looks_whole for disk in good)
    assert not any(disk.looks_whole for disk in bad)
    assert not any(disk.closed_whole for disk in bad)


@pytest.mark.parametrize("real_mib", [8, 30, 40, 50, 72, 128, 200])
@pytest.mark.parametrize("kind", [MemoryCard, LimboCard])
def test_a_card_smaller_than_it_says_is_found_whatever_its_real_size(image, kind, real_mib):
    (card,) = burned(image, kind(256 * MIB, real_bytes=real_mib * MIB))
    assert card.verdict.kind == LIES
    assert not card.disk.looks_whole


@pytest.mark.parametrize("keeps", [0.0, 0.3, 0.9])
def test_a_card_that_drops_writes_is_found(image, keeps):
    (card,) = burned(image, DroppingCard(keeps=keeps))
    assert card.verdict.kind == DROPS
    assert not card.disk.looks_whole


@pytest.mark.parametrize(
    ("error", "when"),
    [
        (errno.ENODEV, {"after_writes": 0}), (errno.EIO, {"after_writes": 3}), (errno.ENXIO, {"after_writes": -4}), (errno.EIO, {"after_writes": -1}),
        (errno.ENOMEDIUM, {"after_reads": 0}), (errno.EIO, {"after_reads": 2}),
    ],
)  # fmt: skip
def test_a_card_that_is_pulled_out_is_gone_and_the_others_go_on(image, writes_in_all, error, when):
    when = {name: count % writes_in_all if name == "after_writes" else count for name, count in when.items()}
    pulled, stays = PulledCard(error=error, **when), MemoryCard()
    assert kinds(burned(image, pulled, stays)) == [GONE, "good"]
    assert not pulled.looks_whole


def test_a_card_that_is_full_or_refuses_says_so(image):
    (card,) = burned(image, PulledCard(after_writes=5, error=errno.EPERM))
    assert card.verdict.kind == FAILED
    assert "not permitted" in card.verdict.detail


@pytest.mark.slow
def test_a_card_that_takes_nothing_is_left_behind_and_the_others_go_on(image):
    class Hanging(MemoryCard):
        released = threading.Event()

        def write(self, offset, view):
            if offset >= 35 * MIB and offset < IMAGE_BYTES:
                self.released.wait(60)
            super().write(offset, view)

    hanging, good = Hanging(), MemoryCard()
    releaser = threading.Timer(4, Hanging.released.set)
    releaser.start()
    # More pieces than buffers, so that the hanging card holds up the unpacking.
    patches = [Patch(offset, b"x" * 4096) for offset in range(34 * MIB, 48 * MIB, MIB)]
    import tools.nvrctl.burn as burn_module

    before, burn_module.BUFFERS = burn_module.BUFFERS, 2
    try:
        cards = burned(image, hanging, good, patches=patches, stall_s=1.0)
    finally:
        burn_module.BUFFERS = before
        Hanging.released.set()
        releaser.cancel()
    assert kinds(cards) == [STALLED, "good"]
    assert not hanging.looks_whole


class StopAt(MemoryCard):
    """Presses Ctrl-C at the n-th write."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number, self.burn = number, None

    def write(self, offset, view):
        self.number -= 1
        if self.number == 0:
            self.burn.stop()
            time.sleep(0.01)
        super().write(offset, view)


@pytest.mark.parametrize("number", [1, 2, 3, 4, 100, *range(-9, 1)])
def test_ctrl_c_at_any_write_leaves_a_card_that_is_good_or_looks_empty(image, writes_in_all, number):
    disk = StopAt(number if number > 0 else writes_in_all + number)
    card = Card(disk)
    disk.burn = Burn(image, [card])
    disk.burn.run(tick_s=0.01)
    assert card.verdict.kind in (STOPPED, "good")
    assert disk.looks_whole == card.verdict.is_good


def test_the_partition_table_is_written_last(image):
    (card,) = burned(image, MemoryCard())
    head = [number for number, (offset, _) in enumerate(card.disk.writes) if offset < MIB]
    assert head[0] == 0  # wiped
    assert head[1:] == [len(card.disk.writes) - 1]


def test_what_one_card_has_for_itself_lies_on_it_and_on_no_other(image, unpacked):
    place = 40 * MIB  # in a hole of the map
    cards = [Card(MemoryCard(), (Patch(place, bytes([65 + number]) * 4096),)) for number in range(3)]
    Burn(image, cards).run(tick_s=0.01)
    assert kinds(cards) == ["good"] * 3
    for number, card in enumerate(cards):
        assert card.disk.data[place : place + 4096] == bytes([65 + number]) * 4096
        assert card.disk.data[34 * MIB : 35 * MIB] == unpacked[34 * MIB : 35 * MIB]


def test_an_old_partition_table_at_the_end_of_the_card_is_gone(image):
    (card,) = burned(image, MemoryCard())
    assert card.disk.data[-33 * 512 :] == bytes(33 * 512)


@pytest.mark.parametrize("packing", ["", "zstd", "xz"])
@pytest.mark.parametrize("with_map", [True, False])
def test_every_packing_gives_the_same_card(tmp_path, packing, with_map):
    image = image_file.look_at(make_image(tmp_path, packing=packing, with_map=with_map))
    (card,) = burned(image, MemoryCard())
    assert card.verdict.is_good
    if not with_map:
        assert hashlib.sha256(card.disk.data[MIB:IMAGE_BYTES]).hexdigest() == _body_hash(image)


def _body_hash(image) -> str:
    data = memoryview(bytearray(image.size_bytes))
    with image_file.opened(image) as stream:
        stream.read_into(data)
    return hashlib.sha256(data[MIB:]).hexdigest()


@pytest.mark.parametrize("packing", ["", "zstd", "xz"])
@pytest.mark.parametrize("place", [0.3, 0.9])
def test_a_damaged_image_makes_no_card_that_looks_whole(tmp_path, packing, place):
    """Whether the block map, the SHA-256 beside the file or the unpacker notices."""
    path = make_image(tmp_path, packing=packing, with_map=False)
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 1
    path.write_bytes(data)
    disk = MemoryCard()
    try:
        (card,) = burned(image_file.look_at(path), disk)
    except image_file.ImageFaulty:
        return  # unpacked once before anything is touched, because nothing else says its size
    assert card.verdict.kind == FAILED
    assert not disk.looks_whole


def test_an_image_that_is_not_what_its_block_map_says_makes_no_card(tmp_path):
    path = make_image(tmp_path, with_sha256=False)
    data = bytearray(path.read_bytes())
    data[35 * MIB] ^= 1
    path.write_bytes(data)
    disk = MemoryCard()
    (card,) = burned(image_file.look_at(path), disk)
    assert card.verdict.kind == FAILED and "block map" in card.verdict.detail
    assert not disk.looks_whole


def test_an_image_that_shrinks_while_it_is_written_is_noticed(tmp_path):
    path = make_image(tmp_path, with_map=False, with_sha256=False)
    image = image_file.look_at(path)
    os.truncate(path, 40 * MIB)
    (card,) = burned(image, MemoryCard())
    assert card.verdict.kind == FAILED and "ends after" in card.verdict.detail


def test_a_link_in_the_place_of_the_draft_is_not_followed(tmp_path):
    other = tmp_path / "the system's disk"
    other.write_bytes(b"precious")
    (tmp_path / "card.img.unfinished").symlink_to(other)
    disk = FileDisk(tmp_path / "card.img", 4096)
    disk.write(0, memoryview(b"image"))
    disk.close(whole=True)
    assert other.read_bytes() == b"precious"
    assert (tmp_path / "card.img").stat().st_size == 4096
