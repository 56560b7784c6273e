"""What writing and reading back a card costs, beside `dd` and `cmp` of the same image in the same run.

    python -m tools.bench card            as root: loop devices play the cards; else plain files

Ours is the whole command, from start to exit: with the site file of each card, the marks for cards that lie, checksums of everything, records
and labels. Theirs is what a careful person types: `dd` past the page cache with a sync at its end, then `cmp` past the cache.
"""

from __future__ import annotations

import hashlib
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.nvrctl import blockmap

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20
IMAGE_BYTES = 256 * MIB
WRITE_BPS, READ_BPS = 40_000_000, 90_000_000  # what a good SD card in a USB 3 reader does
BLKIO = Path("/sys/fs/cgroup/blkio")
SITE = 'site: bench\nbox: bench-1\ntime_zone: Asia/Jayapura\ncameras:\n  one:\n    main: {source: rtsp, url: "rtsp://10.0.0.11/main"}\n    ring_gb: 0.02\n'


def make_image(folder: Path, filled: float) -> Path:
    """A disk with a selector and one partition, of which so much is random data; the rest is holes."""
    image = folder / "box.img"
    with open(image, "wb") as file:
        file.truncate(IMAGE_BYTES)
    table = "label: gpt\nstart=2048, size=67584, type=uefi, name=selector\nstart=71680, type=linux, name=root-a\n"
    subprocess.run(["sfdisk", "--quiet", str(image)], input=table, text=True, check=True, capture_output=True)
    subprocess.run(
        ["mformat", "-i", f"{image}@@1M", "-F", "-c", "1", "-T", "67584", "::"],
        env={**os.environ, "MTOOLS_SKIP_CHECK": "1"},
        check=True,
        capture_output=True,
    )
    draw = random.Random(1)
    ranges: list[tuple[int, bytes]] = []
    with open(image, "r+b") as file:
        file.seek(0)
        ranges.append((0, file.read(4 * MIB)))
        step = 8 * MIB
        for offset in range(40 * MIB, IMAGE_BYTES - step, step):
            data = draw.randbytes(int(step * filled) // 4096 * 4096)
            file.seek(offset)
            file.write(data)
            ranges.append((offset, data))
    if filled < 1:
        (folder / "box.img.bmap").write_bytes(blockmap.written(IMAGE_BYTES, ranges))
    return image


@contextmanager
def card(folder: Path) -> Iterator[str]:
    """A loop device on a file of the disk that is measured, or the name of a file."""
    backing = folder / "card"
    if os.geteuid() != 0:
        yield str(backing)
        return
    with open(backing, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, IMAGE_BYTES + 64 * MIB)
    device = subprocess.run(
        ["losetup", "--direct-io=on", "--find", "--show", str(backing)], capture_output=True, text=True, check=True
    ).stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=False)


@contextmanager
def held_to_a_cards_pace(device: str) -> Iterator[bool]:
    """This process and its children write and read `device` no faster than a card takes it, where the kernel can do that (cgroup v1, blkio)."""
    group = BLKIO / "nvr-bench-card"
    try:
        number = os.stat(device).st_rdev
        place = f"{os.major(number)}:{os.minor(number)}"
        group.mkdir(exist_ok=True)
        (group / "blkio.throttle.write_bps_device").write_text(f"{place} {WRITE_BPS}")
        (group / "blkio.throttle.read_bps_device").write_text(f"{place} {READ_BPS}")
        (group / "cgroup.procs").write_text(str(os.getpid()))
    except OSError:
        yield False
        return
    try:
        yield True
    finally:
        (BLKIO / "cgroup.procs").write_text(str(os.getpid()))
        group.rmdir()


def shell(command: str) -> None:
    subprocess.run(
        ["bash", "-c", f"set -eo pipefail; {command}"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def ours(folder: Path, image: Path, device: str) -> None:
    command = [
        sys.executable,
        "-m",
        "tools.nvrctl",
        "card",
        "write",
        str(image),
        device,
        "--site",
        str(folder / "site.yaml"),
        "--records",
        str(folder / "cards"),
        "--again",
        "--yes",
        "--even-if-not-removable",
    ]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def theirs(image: Path, device: str) -> None:
    """cmp reads by its page cache; O_DIRECT input of dd makes it past the cache, as ours is."""
    source = f"zstd -dcq {image}" if image.suffix == ".zst" else f"cat {image}"
    size = IMAGE_BYTES
    if image.suffix == ".zst":
        shell(f"{source} | dd of={device} bs=4M iflag=fullblock oflag=direct conv=fsync")
        shell(f"cmp <({source}) <(dd if={device} bs=4M iflag=direct,count_bytes count={size})")
    else:
        shell(f"dd if={image} of={device} bs=4M oflag=direct conv=fsync")
        shell(f"cmp {image} <(dd if={device} bs=4M iflag=direct,count_bytes count={size})")


def timed(work: Callable[..., None], *arguments: object) -> float:
    subprocess.run(["sync"], check=True)
    started = time.monotonic()
    work(*arguments)
    return time.monotonic() - started


def measure(rounds: int, work: Path) -> str:
    """The section of docs/bench.md."""
    work.mkdir(parents=True, exist_ok=True)
    rows = []
    with (
        tempfile.TemporaryDirectory(dir=work) as name,
        card(Path(name)) as device,
        held_to_a_cards_pace(device) as is_paced,
    ):
        folder = Path(name)
        (folder / "site.yaml").write_text(SITE)
        for what, filled, packing in (
            ("raw, full", 1.0, ""),
            ("raw, 40 % data, block map", 0.4, ""),
            ("zstd, full", 1.0, "zstd"),
            ("zstd, 40 % data, block map", 0.4, "zstd"),
        ):
            image = make_image(folder, filled)
            if packing:
                subprocess.run(["zstd", "-q", "-1", "-f", "-T2", "--rm", str(image)], check=True)
                image = folder / "box.img.zst"
            (folder / f"{image.name}.sha256").write_text(
                f"{hashlib.file_digest(open(image, 'rb'), 'sha256').hexdigest()}  {image.name}\n"
            )
            pairs = [(timed(ours, folder, image, device), timed(theirs, image, device)) for _ in range(rounds)]
            mine, other = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
            ratio = statistics.median(pair[0] / pair[1] for pair in pairs)
            rows.append(f"| {what} | {mine:.2f} | {other:.2f} | {ratio:.2f} |")
            for each in folder.glob("box.img*"):
                each.unlink()
    pace = (
        f", held to a card's pace ({WRITE_BPS / 1e6:.0f} MB/s writing, {READ_BPS / 1e6:.0f} MB/s reading)"
        if is_paced
        else ""
    )
    place = f"a loop device with direct I/O{pace}" if os.geteuid() == 0 else "a plain file"
    load = f"{os.getloadavg()[0]:.0f} processes wanted a CPU at the end"
    return "\n".join(
        [
            f"An image of {IMAGE_BYTES // MIB} MiB to {place} on the same disk, {rounds} interleaved rounds. Ours is the whole command `nvrctl card write`; theirs is `dd` (4 MiB, direct, fsync) and `cmp` past the cache; {load}.",
            "", "| image | ours, s | dd and cmp, s | ours / theirs |", "| --- | --- | --- | --- |", *rows, "",
        ]
    )  # fmt: skip
