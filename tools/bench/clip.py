"""A 60 s clip out of a ring: what our cut costs beside ffmpeg, and beside the bare copy in the kernel.

The ring is written by the real writer, from the same picture that all peers record, with a clock that is ahead of time.
On ext4 (a loop mount) where root may make one, else on whatever the scratch directory is on. Everything is in the page
cache, as footage of the last minutes is on a box.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nvr import clips
from nvr.clock import boot_id
from nvr.evidence import Identity
from nvr.media import AccessUnit, ClockReading, ClockState, RunStarted
from nvr.ring import reader
from nvr.ring.layout import RingSettings
from nvr.ring.syncer import Syncer
from nvr.ring.writer import Writer
from nvr.source.replay import Replay
from nvr.timeline import Timeline
from tools.bench import content

NS_PER_S = 1_000_000_000
STREAM = "street/main"
RECORDED_S = 400
CLIP_FROM_S, CLIP_S = 150, 60
ROUNDS = 9
DISK_BYTES = 1_500_000_000
START_NS = 1_782_864_000 * NS_PER_S  # 2026-07-01T00:00:00Z


class _AheadClock:
    """A clock that is as late as it is told to be."""

    def __init__(self) -> None:
        self.now_ns = NS_PER_S

    def mono_ns(self) -> int:
        return self.now_ns

    def read(self) -> ClockReading:
        return ClockReading(self.now_ns, START_NS + self.now_ns, ClockState.SYNCED, 1_000_000)

    def sleep_until(self, mono_ns: int) -> None:
        self.now_ns = max(self.now_ns, mono_ns)


@contextmanager
def disk(work: Path) -> Iterator[tuple[Path, str]]:
    """A directory and what kind of file system it is on."""
    image, place = work / "clip.ext4", work / "clip-disk"
    place.mkdir(parents=True, exist_ok=True)
    mounted = False
    if os.geteuid() == 0:
        with open(image, "wb") as file:
            file.truncate(DISK_BYTES)
        made = subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=False)
        mounted = (
            made.returncode == 0 and subprocess.run(["mount", "-o", "loop", image, place], check=False).returncode == 0
        )
    try:
        kind = subprocess.run(
            ["stat", "-f", "-c", "%T", place], capture_output=True, text=True, check=True
        ).stdout.strip()
        yield place, "ext4, loop mount" if mounted else kind
    finally:
        if mounted:
            subprocess.run(["umount", place], check=True)
        image.unlink(missing_ok=True)


def record(data_dir: Path, film: Path) -> Timeline:
    """Fill a ring with RECORDED_S seconds; the last segment is not full, so readers must look at its media."""
    clock = _AheadClock()
    identity = Identity.load_or_create(data_dir / "identity" / "key")
    settings = RingSettings(stream=STREAM, path=data_dir / "rings" / "street" / "main", ring_bytes=512 << 20)
    writer = Writer(settings, box_id=identity.box_id, boot_id=boot_id())
    syncer = Syncer([writer], clock=clock, loss_bound_s=5.0, identity=identity)
    syncer.open()
    source = Replay(str(film), loop=True, speed=1.0)
    turns = 0
    while clock.now_ns < (RECORDED_S + 1) * NS_PER_S:
        for event in source.drain(clock.now_ns):
            if isinstance(event, AccessUnit):
                writer.push(event, clock.read())
            elif isinstance(event, RunStarted):
                writer.start_run(event, clock.read())
        clock.now_ns += NS_PER_S // 10
        turns += 1
        if turns % 10 == 0:
            syncer.burst()
    writer.close(clock.read())
    syncer.stop()
    source.close()
    with reader.Ring(settings.path) as ring:
        return Timeline.from_rows([[row.record for row in ring.rows()]])


def _cpu_ms(who: int) -> float:
    usage = resource.getrusage(who)
    return (usage.ru_utime + usage.ru_stime) * 1000


def _measured(work: Callable[[], object], out: Path, who: int) -> float:
    out.unlink(missing_ok=True)
    before = _cpu_ms(who)
    work()
    cost = _cpu_ms(who) - before
    assert out.stat().st_size > CLIP_S * 4e6 / 8 * 0.8, f"{out} is too small for {CLIP_S} s"
    return cost


def _copy_alone(data_dir: Path, out: Path, pieces: list[tuple[Path, int, int]]) -> None:
    out_fd = os.open(out, os.O_RDWR | os.O_CREAT)
    for path, offset, size_bytes in pieces:
        fd = os.open(path, os.O_RDONLY)
        while size_bytes:
            copied = os.copy_file_range(fd, out_fd, size_bytes, offset)
            offset, size_bytes = offset + copied, size_bytes - copied
        os.close(fd)
    os.fsync(out_fd)
    os.close(out_fd)


def run(work: Path) -> str:
    """A Markdown table: CPU of one clip, user + system, milliseconds."""
    film = work / "camera.mp4"
    content.make(film)
    with disk(work) as (place, kind):
        data_dir, plain, out = place / "data", place / "plain.mp4", place / "out.mp4"
        data_dir.mkdir(exist_ok=True)
        timeline = record(data_dir, film)
        subprocess.run(
            ["ffmpeg", "-v", "error", "-nostdin", "-y", "-stream_loop", "-1", "-i", film, "-t", str(RECORDED_S), "-c", "copy", plain], check=True
        )  # fmt: skip
        from_ns = START_NS + NS_PER_S + CLIP_FROM_S * NS_PER_S
        to_ns = from_ns + CLIP_S * NS_PER_S
        report = clips.cut(data_dir, STREAM, from_ns, to_ns, out, timeline=timeline, replace=True)
        with reader.Ring(data_dir / "rings" / "street" / "main") as ring:
            rows = [row for row in ring.rows() if from_ns <= START_NS + row.record.mono_ns < to_ns]
            copied = [(ring.segment_path(row.position), row.position.offset, row.position.size_bytes) for row in rows]
        ffmpeg = [
            "ffmpeg",
            "-v",
            "error",
            "-nostdin",
            "-y",
            "-ss",
            str(CLIP_FROM_S),
            "-i",
            plain,
            "-t",
            str(CLIP_S),
            "-c",
            "copy",
            out,
        ]
        nvr = [sys.executable, "-m", "nvr", "clip", "cut", "--data", data_dir, "--camera", STREAM, "-o", out,
               "--from", clips.iso(from_ns)[:23] + "+00:00", "--to", clips.iso(to_ns)[:23] + "+00:00"]  # fmt: skip
        quiet = {"check": True, "stdout": subprocess.DEVNULL}
        ours, children = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
        peers: list[tuple[str, Callable[[], object], int]] = [
            ("our cut, in a process that knows the timeline (the page)", lambda: clips.cut(data_dir, STREAM, from_ns, to_ns, out, timeline=timeline), ours),
            (f"our cut, timeline made anew from {RECORDED_S} s of rows", lambda: clips.cut(data_dir, STREAM, from_ns, to_ns, out), ours),
            ("`nvr clip cut`, a process of its own with Python's start", lambda: subprocess.run(nvr, **quiet), children),
            ("`ffmpeg -ss -t 60 -c copy` from a plain file", lambda: subprocess.run(ffmpeg, **quiet), children),
            ("floor: copy_file_range and fsync alone", lambda: _copy_alone(data_dir, out, copied), ours),
        ]  # fmt: skip
        costs: dict[str, list[float]] = {title: [] for title, _, _ in peers}
        for number in range(ROUNDS + 1):  # the first is the warm-up
            for title, work_of, who in peers:
                cost = _measured(work_of, out, who)
                if number:
                    costs[title].append(cost)
    lines = [
        f"A clip of {CLIP_S} s ({report.size_bytes / 1e6:.1f} MB) out of {RECORDED_S} s at 4 Mbit/s on {kind}, everything in the page cache, {ROUNDS} interleaved rounds "
        f"after a warm-up. Ours is durable at the end (fsync) and carries its signed proof; copied by `{report.copied_by}`.",
        "",
        "| what | CPU ms, median | least | most |",
        "| --- | --- | --- | --- |",
    ]
    for title, values in costs.items():
        lines.append(f"| {title} | {statistics.median(values):.1f} | {min(values):.1f} | {max(values):.1f} |")
    return "\n".join(lines) + "\n"
