from __future__ import annotations

import hashlib
import itertools
import re
import struct

import pytest

from image import disk, initramfs, kernel, release
from image.disk import MIB, SECTOR, Partition


@pytest.fixture
def partitions() -> tuple[Partition, ...]:
    return disk.layout(first_mib=1, selector_mib=64, boot_mib=96, root_mib=384, data_mib=64)


def test_partitions_lie_one_behind_the_other_on_whole_mebibytes(partitions):
    assert [each.name for each in partitions] == ["selector", "bootA", "bootB", "rootA", "rootB", "data"]
    for before, after in itertools.pairwise(partitions):
        assert after.start == before.start + before.size
    assert all(each.start % MIB == 0 and each.size % MIB == 0 for each in partitions)
    assert disk.size_bytes(partitions) == partitions[-1].start + partitions[-1].size + MIB


def test_only_the_data_partition_has_the_type_that_grows(partitions):
    """systemd-repart takes the first partition of a type: once that was a root slot, and nothing grew."""
    assert [each.name for each in partitions if each.kind == disk.DATA] == ["data"]


def test_what_sfdisk_reads_names_every_partition(partitions):
    text = disk.table(partitions)
    assert re.findall(r"name=(\w+)", text) == [each.name for each in partitions]
    assert len(set(re.findall(r"uuid=([0-9A-F-]+)", text))) == 6


def test_a_hybrid_mbr_shows_the_selector_and_protects_the_rest(partitions):
    mbr = disk.hybrid(bytes(SECTOR), partitions[0])
    assert len(mbr) == SECTOR
    assert mbr[510:] == b"\x55\xaa"
    kinds = [struct.unpack_from("<B3sB3sII", mbr, 446 + 16 * number) for number in range(4)]
    assert (kinds[0][2], kinds[0][4], kinds[0][5]) == (0x0C, 2048, 64 * MIB // SECTOR)
    assert (kinds[1][2], kinds[1][4], kinds[1][5]) == (0xEE, 1, 2047)
    assert kinds[2][2] == kinds[3][2] == 0


def test_zeros_of_a_file_system_are_written_too(partitions):
    """A used card kept clusters of its old FAT, because blocks of zeros were left out of the map."""
    sources = {"selector": 64 * MIB, "bootA": 96 * MIB, "rootA": 200 * MIB + 4096, "data": 64 * MIB}
    spans = disk.must_be_written(partitions, sources)
    by_name = {each.name: each for each in partitions}

    def is_written(start: int, end: int) -> bool:
        return any(first <= start and end <= last for first, last in spans)

    assert is_written(0, by_name["selector"].start)  # MBR, GPT, a loader
    for name, size in sources.items():
        assert is_written(by_name[name].start, by_name[name].start + size), name
    for name in ("bootB", "rootB"):  # what an earlier life left there does not start
        assert is_written(by_name[name].start, by_name[name].start + 4096), name
    end = disk.size_bytes(partitions)
    assert is_written(end - 33 * SECTOR, end)  # the second GPT
    assert sum(last - first for first, last in spans) < 450 * MIB


# -- block map ---------------------------------------------------------------------------------------


def test_a_block_map_names_what_was_written_and_its_checksums(tmp_path):
    path = tmp_path / "disk.img"
    with open(path, "wb") as file:
        file.truncate(10 * MIB)
        file.seek(4 * MIB)
        file.write(b"x" * 5000)
    text = release.block_map(path, [(4 * MIB, 4 * MIB + 5000)])
    assert f"<ImageSize> {10 * MIB} </ImageSize>" in text
    ranges = re.findall(r'chksum="([0-9a-f]{64})"> (\d+)(?:-(\d+))? <', text)
    covered = b"".join(
        path.read_bytes()[int(first) * 4096 : (int(last or first) + 1) * 4096] for _, first, last in ranges
    )
    assert covered.count(b"x") == 5000
    for checksum, first, last in ranges:
        data = path.read_bytes()[int(first) * 4096 : (int(last or first) + 1) * 4096]
        assert hashlib.sha256(data).hexdigest() == checksum
    (own,) = re.findall(r"<BmapFileChecksum> ([0-9a-f]{64}) <", text)
    assert hashlib.sha256(text.replace(own, "0" * 64).encode()).hexdigest() == own


def test_neighbours_become_one_range():
    assert release.merged([(0, 100), (4096, 5000), (20000, 20001)]) == [(0, 8192), (16384, 20480)]


# -- initramfs and modules ---------------------------------------------------------------------------


def test_the_archive_is_the_same_for_the_same_files_and_ends_as_the_kernel_wants(tmp_path):
    for name in ("one", "two"):
        tree = tmp_path / name
        (tree / "bin").mkdir(parents=True)
        (tree / "init").write_text("#!/bin/sh\n")
        (tree / "init").chmod(0o755)
        (tree / "bin/x").write_bytes(b"abc")
    first = initramfs.archive(tmp_path / "one")
    assert first == initramfs.archive(tmp_path / "two")
    assert first.startswith(b"070701")
    assert first[-20:].rstrip(b"\0").endswith(b"TRAILER!!!")
    assert len(first) % 4 == 0


def test_modules_bring_along_what_they_need():
    needs = kernel.dependencies(
        "kernel/fs/a.ko: kernel/lib/b.ko\nkernel/lib/b.ko: kernel/lib/c.ko\nkernel/lib/c.ko:\nkernel/x.ko:\n"
    )
    assert kernel.closure(["kernel/fs/a.ko"], needs) == ["kernel/fs/a.ko", "kernel/lib/b.ko", "kernel/lib/c.ko"]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("kernel/fs/ext4/ext4.ko.xz", True),
        ("kernel/fs/ext4x/y.ko.xz", False),
        ("kernel/drivers/net/virtio_net.ko.xz", True),
        ("kernel/drivers/net/tun.ko", False),
    ],
)
def test_a_pattern_names_a_folder_or_files(name, wanted):
    assert kernel.is_wanted(name, ("fs/ext4", "drivers/net/virtio_*")) is wanted
