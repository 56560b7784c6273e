"""What the disk gets in steady state: device bytes per media byte, over minutes, on a ring that has gone round.

The short runs of `record` begin with an empty journal and end in the middle of a fragment; here nothing of that counts.
The recorder is stopped (SIGSTOP) for a moment at either end, everything is synced, and the device's counter is read; media
is what the rows of the ring say that was recorded between. Segments have their usual size, the file system is mounted as a
box mounts it (firmware/etc/fstab).
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from nvr.ring.reader import Ring
from tools.bench import content, measure, peers, record

RING_BYTES = 256 << 20  # segments of 64 MiB, as in any larger ring
FILL_LOOPS = 14  # of the footage, 20 MB each: once around, and the ring is used again


@dataclass(frozen=True)
class Amount:
    """All that was recorded, and what the device was told, so far."""

    media_bytes: int
    fragment_bytes: int  # media with heads, records and padding
    fragments: int
    device_written_bytes: int
    device_read_bytes: int


def _amount(directory: Path, cameras: int, device: str, process: subprocess.Popen[bytes]) -> Amount:
    """With the recorder stopped meanwhile, so that nothing is counted on one side only."""
    process.send_signal(signal.SIGSTOP)
    try:
        os.sync()
        read, written = measure.device_bytes(device)
        media = size = count = 0
        for number in range(cameras):
            ring = Ring(directory / "rings" / f"c{number}" / "main")
            try:
                for row in ring.rows():
                    if row.record.run > 1:  # the first one is what prepare() wrote
                        media, size, count = media + row.record.payload_bytes, size + row.position.size_bytes, count + 1
            finally:
                ring.close()
        return Amount(media, size, count, written, read)
    finally:
        process.send_signal(signal.SIGCONT)


def run(work: Path, cameras: int, seconds: float) -> str:
    """A Markdown table. Needs root, for a file system of its own."""
    work.mkdir(parents=True, exist_ok=True)
    footage = work / "camera-1080p25.mp4"
    content.make(footage)
    peer = next(peer for peer in peers.PEERS if peer.key == "crc")
    assert isinstance(peer, peers.Ours)
    peers.RING_BYTES, peers.FILL_LOOPS = RING_BYTES, FILL_LOOPS
    long_name = footage.with_stem(footage.stem + f"-{FILL_LOOPS}")  # what prepare() makes of it has a name of its own
    if not long_name.exists():
        long_name.symlink_to(footage)
    with record.network() as inside, record.disk(work, 2 + cameras * 5 // 16) as (directory, device):
        if device is None:
            return "Not measured: a file system of its own needs root.\n"
        farm = record.Farm(cameras, footage, inside)
        try:
            peer.prepare(cameras, directory, long_name)
            [(arguments, text, extra)] = peer.commands(farm.urls, directory)
            process = subprocess.Popen([*inside, *arguments], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, env=peers.environment(extra))  # fmt: skip
            assert process.stdin is not None
            process.stdin.write(text)
            process.stdin.close()
            time.sleep(15)
            before = _amount(directory, cameras, device, process)
            time.sleep(seconds)
            after = _amount(directory, cameras, device, process)
            process.send_signal(signal.SIGINT)
            process.wait()
        finally:
            farm.close()
    media = after.media_bytes - before.media_bytes
    fragments = after.fragments - before.fragments
    size = after.fragment_bytes - before.fragment_bytes
    written = after.device_written_bytes - before.device_written_bytes
    minutes = cameras * seconds / 60
    return (
        f"{cameras} cameras, {seconds:.0f} s, {media / 1e6:.0f} MB of media in {fragments} fragments, second lap, ext4 mounted with `{record.MOUNT}`.\n\n"
        "| bytes for each media byte | |\n| --- | --- |\n"
        f"| fragments: media, head, commit record, padding to pages | {size / media:.4f} |\n"
        f"| the device: those, pages written again after a sync, index, journal, file system | {written / media:.4f} |\n"
        f"| read from the device in that time | {after.device_read_bytes - before.device_read_bytes} bytes |\n"
        f"| fragments for each camera-minute | {fragments / minutes:.0f} |\n"
    )
