"""What a device was told to write is told apart by whose it is: worth nothing if it counted the wrong sectors."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

import pytest

from tools.bench.sectors import Extent, Share, Writes, extents, requests, shares

TRACE = """\
# tracer: nop
  kworker/0:1-17 [000] d..1. 100.1: block_rq_issue: 7,3 W 8192 () 1024 + 16 none,0,0 [kworker/0:1]
  kworker/0:1-17 [000] d..1. 100.2: block_rq_issue: 7,3 FF 0 () 0 + 0 none,0,0 [kworker/0:1]
  kworker/0:1-17 [000] d..1. 100.3: block_rq_issue: 7,3 R 4096 () 2048 + 8 none,0,0 [kworker/0:1]
  jbd2/loop3-8-9 [001] d..1. 100.4: block_rq_issue: 7,3 WSM 4096 () 4096 + 8 [jbd2/loop3-8]
  kworker/0:1-17 [000] d..1. 100.5: block_rq_issue: 7,4 W 8192 () 1024 + 16 none,0,0 [kworker/0:1]
"""


def test_only_writes_of_the_device_count_in_the_words_of_older_and_newer_kernels():
    assert list(requests(TRACE.splitlines(), (7, 3))) == [Extent(524288, 532480), Extent(2097152, 2101248)]


@pytest.mark.parametrize(
    ("request_", "found"),
    [
        (Extent(100, 200), {"media": (100, 1), "rest": (0, 0)}),
        (Extent(50, 150), {"media": (50, 1), "rest": (50, 1)}),
        (Extent(0, 50), {"media": (0, 0), "rest": (50, 1)}),
        (Extent(150, 450), {"media": (200, 1), "rest": (100, 1)}),
        (Extent(400, 500), {"media": (0, 0), "rest": (100, 1)}),
    ],
)
def test_a_request_is_divided_where_extents_begin_and_end(request_, found):
    owners = {"media": [Extent(100, 200), Extent(250, 400)]}
    assert shares([request_], owners, "rest") == {name: Share(*each) for name, each in found.items()}


@pytest.mark.root
def test_on_a_real_device_a_written_file_counts_as_its_own_and_the_journal_as_the_file_systems(tmp_path):
    image, mount = tmp_path / "image", tmp_path / "mount"
    with open(image, "wb") as file:
        file.truncate(64 << 20)
    mount.mkdir()
    subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", image], check=True)
    with contextlib.ExitStack() as stack:
        device = _run("losetup", "-f", "--show", image)
        stack.callback(_run, "losetup", "-d", device)
        _run("mount", device, mount)
        stack.callback(_run, "umount", mount)
        try:
            watch = stack.enter_context(Writes(Path(device).name))
        except OSError as error:
            pytest.skip(f"the kernel does not let block requests be traced: {error}")
        (mount / "media").write_bytes(bytes(1 << 20))
        _run("sync", "-f", mount)
        found = shares(watch.so_far(), {"media": extents(mount / "media")}, "rest")
    assert found["media"].size_bytes == 1 << 20
    assert 3 * 4096 <= found["rest"].size_bytes < 1 << 20, "a descriptor, a block and a commit of the journal at least"


def _run(*arguments: object) -> str:
    return subprocess.run([str(each) for each in arguments], check=True, capture_output=True, text=True).stdout.strip()
