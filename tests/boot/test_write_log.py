"""QEMU's own log of what it was asked to write is read as it means it."""

from __future__ import annotations

import json
import random

import pytest

from boot.write_log import DISCARD, FLUSH, SECTOR, Cutter, Fate, entries, options

pytestmark = [pytest.mark.boot, pytest.mark.campaign]
KIB = 1024


@pytest.fixture
def played(builder, tmp_path):
    """Disk and log after: a page of 1, a flush, the page again as 2, the next one as 3, a flush, a page of 4, and the first one discarded."""
    disk, log = tmp_path / "disk.img", tmp_path / "log"
    with open(disk, "wb") as file:
        file.truncate(64 * KIB)
    base = tmp_path / "base.img"
    base.write_bytes(disk.read_bytes())
    words = options(disk, log, "d0")
    image, logged = json.loads(words[1]), json.loads(words[3])
    whole = json.dumps({**{key: value for key, value in logged.items() if key != "node-name"}, "file": image})
    asked = (
        "write -P 1 0 4k",
        "flush",
        "write -P 2 0 4k",
        "write -P 3 4k 4k",
        "flush",
        "write -P 4 8k 4k",
        "discard 0 4k",
    )
    builder.built.toolbox.run(
        [
            "qemu-io",
            "-t",
            "writeback",
            "-d",
            "unmap",
            *(word for each in asked for word in ("-c", each)),
            f"json:{whole}",
        ],
        folders=[tmp_path],
    )
    return base, disk, log


def test_every_request_is_in_the_log_in_order(played):
    _, disk, log = played
    found = [(entry.offset, entry.size, entry.flags) for entry in entries(log)]
    assert found[:6] == [(0, 4096, 0), (0, 0, FLUSH), (0, 4096, 0), (4096, 4096, 0), (0, 0, FLUSH), (8192, 4096, 0)]
    assert (0, 4096, DISCARD) in found[6:]
    assert disk.read_bytes()[: 12 * KIB] == bytes(4 * KIB) + b"\3" * 4 * KIB + b"\4" * 4 * KIB


@pytest.mark.parametrize(
    ("number", "fate", "pages"),
    [
        (1, Fate.LOST, [{0}, {0}, {0}]),
        (1, Fate.KEPT, [{1}, {0}, {0}]),
        (2, Fate.LOST, [{1}, {0}, {0}]),
        (4, Fate.LOST, [{1}, {0}, {0}]),
        (4, Fate.KEPT, [{2}, {3}, {0}]),
        (4, Fate.MIXED, [{1, 2}, {0, 3}, {0}]),
        (4, Fate.PREFIX, [{1, 2}, {0, 3}, {0}]),
        (5, Fate.LOST, [{2}, {3}, {0}]),
        (6, Fate.LOST, [{2}, {3}, {0}]),
        (6, Fate.MIXED, [{2}, {3}, {0, 4}]),
        (7, Fate.KEPT, [{0}, {3}, {4}]),
    ],
)
def test_a_cut_keeps_what_was_flushed_and_of_the_rest_what_its_fate_allows(played, tmp_path, number, fate, pages):
    base, _, log = played
    seen: list[set[int]] = [set(), set(), set()]
    for seed in range(40):
        cutter = Cutter(base, [log], tmp_path)
        cutter.cut(number, fate, random.Random(seed), tmp_path / "cut.img")
        cutter.close()
        data = (tmp_path / "cut.img").read_bytes()
        for sector in range(12 * KIB // SECTOR):
            (value,) = set(data[sector * SECTOR : (sector + 1) * SECTOR])  # a sector is never torn
            seen[sector // 8].add(value)
    assert seen == pages
