"""`python -m tools.bench.wear`: what each way of recording writes to the disk, beside the media itself.

The same pretend cameras, one after the other: this recorder (rings that were gone round once), ffmpeg in files of 10 seconds, ffmpeg with one growing
file an hour. Each writes to an ext4 of its own on a loop device, whose counters are read from /proc/diskstats from start to a sync after the end: bytes,
write requests, flushes. Where the kernel lets block requests be traced, each is told apart by whose sectors it wrote (sectors.py): files with media,
our other files (index, journal of the box, locks), and the file system's own, which is its journal, inodes, bitmaps and extents. Needs root.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tools.bench import content, sectors
from tools.bench.peers import FFMPEG_INPUT, FfmpegEach, Ours, Peer, environment, probed
from tools.bench.record import Farm, disk


@dataclass(frozen=True)
class FfmpegHour(Peer):
    """One growing fragmented file for each camera, as MediaMTX and many scripts write: readable up to the last fragment."""

    def commands(self, urls: list[str], directory: Path) -> list[tuple[list[str], bytes, dict[str, str]]]:
        return [
            (["ffmpeg", "-hide_banner", "-nostdin", "-v", "error", *FFMPEG_INPUT, "-i", url, "-c", "copy", "-an",
              "-movflags", "frag_keyframe+empty_moov+default_base_moof", "-flush_packets", "1", str(directory / f"c{number}-hour.mp4")], b"", {})
            for number, url in enumerate(urls)
        ]  # fmt: skip


PEERS: tuple[Peer, ...] = (
    Ours("nvr", "nvr, default"),
    FfmpegEach("ffmpeg-10s", "ffmpeg, files of 10 s"),
    FfmpegHour("ffmpeg-hour", "ffmpeg, one growing file an hour"),
)


@dataclass(frozen=True)
class Counters:
    """/proc/diskstats, fields 7, 8, 10 and 18 of Documentation/admin-guide/iostats.rst (counted from the name)."""

    requests: int
    written_bytes: int
    read_bytes: int
    flushes: int


def counters(device: str) -> Counters:
    for line in Path("/proc/diskstats").read_text().splitlines():
        fields = line.split()
        if fields[2] == device:
            flushes = int(fields[18]) if len(fields) > 18 else 0  # since Linux 5.5
            return Counters(int(fields[7]), int(fields[9]) * 512, int(fields[5]) * 512, flushes)
    raise SystemExit(f"the kernel has no counters for {device}")


@dataclass(frozen=True)
class Run:
    peer: str
    media_bytes: int
    written_per_media: float
    flushes_per_camera_minute: float
    requests_per_camera_minute: float
    files: int
    # Whose -> (bytes for each media byte, requests for each camera-minute); empty where it was not traced.
    shares: dict[str, tuple[float, float]]


MEDIA, OTHER, FILE_SYSTEM = "media files", "other files", "file system"


def one_run(peer: Peer, cameras: int, footage: Path, work: Path, seconds: float) -> Run:
    farm = Farm(cameras, footage, [])
    processes: list[subprocess.Popen[bytes]] = []
    try:
        with (
            disk(work, 2 + cameras // 4) as (directory, device),
            open(work / "peer.log", "wb") as log,
            contextlib.ExitStack() as traced,
        ):
            if device is None:
                raise SystemExit("this needs root: a disk of its own shows what is written to it")
            peer.prepare(cameras, directory, footage)
            subprocess.run(["sync", "-f", str(directory)], check=True)
            before = counters(device)
            watch = _watch(traced, device)
            for arguments, text, extra in peer.commands(farm.urls, directory):
                process = subprocess.Popen(
                    arguments,
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    env=environment(extra),
                    start_new_session=True,
                )
                assert process.stdin is not None
                process.stdin.write(text)
                process.stdin.close()
                processes.append(process)
            time.sleep(seconds)
            for process in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGINT)
            for process in processes:
                process.wait(30)
            subprocess.run(["sync", "-f", str(directory)], check=True)
            after = counters(device)
            media_bytes = sum(size for number in range(cameras) for _, size in _pictures(peer, directory, number))
            paths = [path for path in directory.rglob("*") if path.is_file()]
            shares = _shares(watch, paths)
    finally:
        farm.close()
    minutes = cameras * seconds / 60
    return Run(
        peer.key, media_bytes, (after.written_bytes - before.written_bytes) / media_bytes,
        (after.flushes - before.flushes) / minutes, (after.requests - before.requests) / minutes, len(paths),
        {name: (share.size_bytes / media_bytes, share.requests / minutes) for name, share in shares.items()},
    )  # fmt: skip


def _watch(stack: contextlib.ExitStack, device: str) -> sectors.Writes | None:
    """The requests of a device until `stack` ends; None where the kernel does not show them."""
    try:
        return stack.enter_context(sectors.Writes(device))
    except OSError as error:
        print(f"whose sectors are written is not measured: {error}", file=sys.stderr)
        return None


def _shares(watch: sectors.Writes | None, paths: list[Path]) -> dict[str, sectors.Share]:
    if watch is None:
        return {}
    owners: dict[str, list[sectors.Extent]] = {MEDIA: [], OTHER: []}
    for path in paths:
        owners[MEDIA if path.suffix == ".mp4" else OTHER] += sectors.extents(path)
    return sectors.shares(watch.so_far(), owners, FILE_SYSTEM)


def _pictures(peer: Peer, directory: Path, number: int) -> list[tuple[bool, int]]:
    if isinstance(peer, FfmpegHour):
        return probed(directory / f"c{number}-hour.mp4")
    return peer.pictures(directory, number)


def _median(values: Iterable[float], digits: int) -> str:
    values = list(values)
    return f"{statistics.median(values):.{digits}f}" if values else "-"


def table(runs: list[Run]) -> str:
    """Two Markdown tables: what the device counted, and for whom it was."""
    whose = (MEDIA, OTHER, FILE_SYSTEM)
    lines = ["| way of recording | runs | device bytes / media byte (min - max) | flushes/camera-minute | write requests/camera-minute | files |",
             "| --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    more = ["| bytes / media byte, requests/camera-minute | " + " | ".join(whose) + " |", "| --- | --- | --- | --- |"]
    for peer in PEERS:
        mine = [run for run in runs if run.peer == peer.key]
        if not mine:
            continue
        written = sorted(run.written_per_media for run in mine)
        lines.append(
            f"| {peer.title} | {len(mine)} | {statistics.median(written):.4f} ({written[0]:.4f} - {written[-1]:.4f}) "
            f"| {_median((run.flushes_per_camera_minute for run in mine), 1)} "
            f"| {_median((run.requests_per_camera_minute for run in mine), 0)} | {mine[-1].files} |"
        )
        traced = [run.shares for run in mine if run.shares]
        cells = (
            f"{_median((each[name][0] for each in traced), 4)}, {_median((each[name][1] for each in traced), 1)}"
            for name in whose
        )
        more.append(f"| {peer.title} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *more]) + "\n"


def run(cameras: int, rounds: int, seconds: float, work: Path) -> str:
    work.mkdir(parents=True, exist_ok=True)
    footage = work / "camera-1080p25.mp4"
    content.make(footage)
    runs = []
    for number in range(rounds):
        for peer in PEERS[number % len(PEERS) :] + PEERS[: number % len(PEERS)]:
            runs.append(one_run(peer, cameras, footage, work, seconds))
            print(f"round {number + 1}/{rounds} {runs[-1]}", file=sys.stderr, flush=True)
    return table(runs)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.bench.wear", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-n", "--cameras", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "nvr-wear")
    options = parser.parse_args()
    print(run(options.cameras, options.rounds, options.seconds, options.work))


if __name__ == "__main__":
    main()
