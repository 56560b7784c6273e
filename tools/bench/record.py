"""`python -m tools.bench record`: this recorder and its peers on the same cameras, side by side.

For every N and every round, each peer in turn records N pretend cameras for a while; a steady window of it is
measured. The order of the peers rotates from round to round, so that a slow minute of the machine hits
everybody. What is printed are medians over the rounds, and ratios of medians.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tools.bench import content, measure
from tools.bench.peers import PEERS, Peer, Picture, environment, lost_pictures, probed

PORT = 18554
PACE_MBIT = 100  # a camera's Ethernet; without it a picture arrives as one burst, which no camera does
NAMESPACE = "nvr-bench"
SETTLE_S = 4.0  # after everybody has connected
STOP_S = 15.0
# In a virtual machine, memory that nobody used for a minute is not there: the first write to each page waits for the host.
# So much of it is used before each run, for everybody: what one window takes, for the page cache of two file systems.
WARM_BYTES = 2 << 30
MOUNT = "noatime,commit=30"  # as firmware/etc/fstab mounts /data


@dataclass(frozen=True)
class Run:
    """One peer on N cameras, one window."""

    peer: str
    cameras: int
    round: int
    window_s: float
    cpu_per_camera_minute_s: float
    memory_mb: float
    write_calls_per_camera_minute: float
    written_per_media: float  # bytes handed to write calls, per media byte
    device_per_media: (
        float  # bytes written to the block device from start to a sync after the end, per byte recorded; -1 not known
    )
    device_read_bytes: int  # in the window
    switches_per_camera_minute: float
    files: int
    pictures_per_s_slowest: float
    pictures_lost: int  # -1 where the recording was not looked at
    source_skipped: int  # pictures that the cameras could not deliver
    syscalls_per_camera_minute: float  # -1 where not traced
    syncs_per_camera_minute: float
    load: float  # processes that wanted a processor in the minute before this one began
    machine: str  # and the day


class Farm:
    """N pretend cameras in processes of their own, on the other processor where there is one."""

    def __init__(self, cameras: int, footage: Path, prefix: list[str]) -> None:
        processes = 1 if cameras <= 32 else 2  # one process fed 32 cameras with room to spare; see docs/bench.md
        self.urls: list[str] = []
        self.processes = []
        self.ports = []
        for number in range(processes):
            copies = cameras // processes + (number < cameras % processes)
            port = PORT + number
            self.ports.append(port)
            self.processes.append(
                subprocess.Popen(
                    [*prefix, *_pinned(-1), sys.executable, "-m", "tools.camera", f"cam={footage}", "--port", str(port),
                     "--copies", str(copies), "--pace-mbit", str(PACE_MBIT), "--stagger"],
                    stdout=subprocess.PIPE, text=True, env=environment({}),
                )
            )  # fmt: skip
        for process in self.processes:
            assert process.stdout is not None
            for line in process.stdout:
                if line.strip() == "ready":
                    break
                self.urls.append(line.strip())
        if len(self.urls) != cameras:
            self.close()
            raise SystemExit(f"the cameras did not start: {self.urls}")

    def skipped(self, prefix: list[str]) -> int:
        """Pictures left out because a recorder did not take its data, over all cameras."""
        total = 0
        for port in self.ports:
            if prefix:
                text = subprocess.run(
                    [*prefix, sys.executable, "-c",
                     f"import urllib.request as u; print(u.urlopen('http://127.0.0.1:{port}/').read().decode())"],
                    capture_output=True, text=True, check=True,
                ).stdout  # fmt: skip
            else:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as answer:
                    text = answer.read().decode()
            state = json.loads(text)
            cameras = state["cameras"] if isinstance(state, dict) else state
            total += sum(camera["skipped"] for camera in cameras)
        return total

    def close(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait()


def _pinned(which: int) -> list[str]:
    """Recorder on one processor, cameras on the other: neither takes time from the other."""
    processors = sorted(os.sched_getaffinity(0))
    return ["taskset", "-c", str(processors[which])] if len(processors) > 1 else []


@contextlib.contextmanager
def network() -> Iterator[list[str]]:
    """A loopback that looks like Ethernet (MTU 1500, no offloads), where root may make one; else the plain one."""
    if os.geteuid() != 0 or not shutil.which("ethtool"):
        yield []
        return
    subprocess.run(["ip", "netns", "del", NAMESPACE], capture_output=True, check=False)
    subprocess.run(["ip", "netns", "add", NAMESPACE], check=True)
    inside = ["ip", "netns", "exec", NAMESPACE]
    subprocess.run([*inside, "ip", "link", "set", "lo", "mtu", "1500", "up"], check=True)
    subprocess.run(
        [*inside, "ethtool", "-K", "lo", "tso", "off", "gso", "off", "gro", "off"], check=True, capture_output=True
    )
    # Bursts of 1 ms of the paced rate, some nine packets; the kernel's default makes them larger where the way is short.
    subprocess.run([*inside, "sysctl", "-qw", "net.ipv4.tcp_tso_rtt_log=0"], check=False)
    try:
        yield inside
    finally:
        subprocess.run(["ip", "netns", "del", NAMESPACE], check=False)


def forget_files(directory: Path) -> None:
    """Nothing of what was prepared stays in memory: a ring that is used again is far larger than a box's memory."""
    os.sync()
    for path in directory.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextlib.contextmanager
def disk(work: Path, size_gb: int) -> Iterator[tuple[Path, str | None]]:
    """(directory, block device) of a fresh ext4 of its own, where root may mount one; else a plain directory."""
    if os.geteuid() != 0:
        directory = work / "out"
        directory.mkdir(exist_ok=True)
        yield directory, None
        return
    image, mount = work / "disk.img", work / "mnt"
    mount.mkdir(exist_ok=True)
    with open(image, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, size_gb << 30)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(image)], check=True)
    device = subprocess.run(
        ["losetup", "-f", "--show", str(image)], check=True, capture_output=True, text=True
    ).stdout.strip()
    try:
        subprocess.run(["mount", "-o", MOUNT, device, str(mount)], check=True)
        yield mount, Path(device).name
    finally:
        subprocess.run(["umount", str(mount)], check=False)
        subprocess.run(["losetup", "-d", device], check=False)
        image.unlink(missing_ok=True)


def one_run(
    peer: Peer,
    number: int,
    cameras: int,
    footage: Path,
    source: list[Picture],
    work: Path,
    window_s: float,
    inside: list[str],
    *,
    trace: bool,
) -> Run:
    group, load = measure.Group(), os.getloadavg()[0]
    media_bytes_per_s = sum(size for _, size in source) / (len(source) / content.FPS)
    # Room for two minutes of everything, rings and preallocated files included.
    size_gb = 2 + cameras // 8
    processes: list[subprocess.Popen[bytes]] = []
    with (
        contextlib.closing(Farm(cameras, footage, inside)) as farm,
        disk(work, size_gb) as (directory, device),
        open(work / "peer.log", "wb") as output,
    ):
        peer.prepare(cameras, directory, footage)
        forget_files(directory)
        measure.warm_memory(WARM_BYTES)
        written_at_start = measure.device_bytes(device)[1]
        try:
            for arguments, text, extra in peer.commands(farm.urls, directory):
                process = subprocess.Popen(
                    [*inside, *_pinned(0), *arguments], stdin=subprocess.PIPE, stdout=output, stderr=output,
                    env=environment(extra), preexec_fn=group.enter, start_new_session=True,
                )  # fmt: skip
                assert process.stdin is not None
                process.stdin.write(text)
                process.stdin.close()
                processes.append(process)
            group.roots = [process.pid for process in processes]
            _wait_until_connected(farm, cameras, inside, processes)
            time.sleep(SETTLE_S + window_s / 4)
            before = measure.snapshot(group, device)
            time.sleep(window_s)
            after = measure.snapshot(group, device)
            memory_mb = measure.memory_mb(group)
            calls = measure.syscalls(group, 6.0) if trace else {}
        finally:
            skipped = farm.skipped(inside)
            for process in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGINT)
            for process in processes:
                try:
                    process.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            farm.close()
            group.close()
        files = sum(1 for path in directory.rglob("*") if path.is_file())
        os.sync()
        written_at_end = measure.device_bytes(device)[1]
        lost, slowest, recorded_bytes = _lost(peer, directory, cameras, source, after.time_s - before.time_s)
    seconds = after.time_s - before.time_s
    camera_minutes = cameras * seconds / 60
    media_bytes = media_bytes_per_s * cameras * seconds
    traced = sum(calls.values()) / (cameras * 6.0 / 60) if trace else -1
    return Run(
        peer=peer.key,
        cameras=cameras,
        round=number,
        window_s=seconds,
        cpu_per_camera_minute_s=(after.cpu_s - before.cpu_s) / camera_minutes,
        memory_mb=memory_mb,
        write_calls_per_camera_minute=(after.write_calls - before.write_calls) / camera_minutes,
        written_per_media=(after.written_bytes - before.written_bytes) / media_bytes,
        device_per_media=(written_at_end - written_at_start) / recorded_bytes if device and recorded_bytes else -1,
        device_read_bytes=after.device_read_bytes - before.device_read_bytes if device else -1,
        switches_per_camera_minute=(after.switches - before.switches) / camera_minutes,
        files=files,
        pictures_per_s_slowest=slowest,
        pictures_lost=lost,
        source_skipped=skipped,
        syscalls_per_camera_minute=traced,
        syncs_per_camera_minute=sum(count for name, count in calls.items() if "sync" in name) / (cameras * 0.1)
        if trace
        else -1,
        load=load,
        machine=measure.machine(),
    )


def _wait_until_connected(
    farm: Farm, cameras: int, inside: list[str], processes: list[subprocess.Popen[bytes]]
) -> None:
    """Until every camera is watched; a peer that does not get there in a minute is measured as it is."""
    end = time.monotonic() + 60
    code = (
        "import urllib.request as u, json\n"
        f"states = [json.loads(u.urlopen(f'http://127.0.0.1:{{port}}/').read()) for port in {farm.ports}]\n"
        "cameras = [camera for state in states for camera in (state['cameras'] if isinstance(state, dict) else state)]\n"
        "print(sum(1 for camera in cameras if camera['watchers']))"
    )
    while time.monotonic() < end:
        done = subprocess.run(
            [*inside, sys.executable, "-c", code], capture_output=True, text=True, check=False
        ).stdout.strip()
        if done == str(cameras):
            return
        if any(process.poll() is not None for process in processes):
            return
        time.sleep(0.5)


def _lost(peer: Peer, directory: Path, cameras: int, source: list[Picture], window_s: float) -> tuple[int, float, int]:
    """(pictures missing inside the recordings, pictures per second of the camera with the fewest, media bytes of all)."""
    lost, fewest, recorded_bytes = 0, None, 0
    for number in range(cameras):
        if peer.key == "floor":
            return -1, -1, 0
        recorded = peer.pictures(directory, number)
        if not recorded:
            fewest = 0
            continue
        missing, count = lost_pictures(recorded, source)
        lost += missing
        recorded_bytes += sum(size for _, size in recorded)
        fewest = count if fewest is None else min(fewest, count)
    return lost, (fewest or 0) / (window_s * 1.25 + SETTLE_S), recorded_bytes


def circumstances(runs: list[Run]) -> str:
    """Where, when and beside what all of it was measured; one paragraph."""
    machines = "; ".join(sorted({run.machine for run in runs}))
    loads, windows = sorted(run.load for run in runs), sorted({round(run.window_s) for run in runs})
    return (
        f"Measured on {machines}. {len(runs)} runs with windows of {' and '.join(map(str, windows))} s; load when each began: "
        f"{loads[0]:.1f} to {loads[-1]:.1f}, median {statistics.median(loads):.1f} (the peer before is in it).\n"
    )


def table(runs: list[Run]) -> str:
    """Medians per N and peer, and what was wanted of them, as Markdown."""
    sections = [_comparison(cameras, [run for run in runs if run.cameras == cameras])
                for cameras in sorted({run.cameras for run in runs})]  # fmt: skip
    return "\n".join([*sections, _goals([run for run in runs if run.cameras == 16], runs)])


def _median(runs: list[Run], key: str, name: str) -> float:
    """Of the runs of one peer that have the number; -1 when none has."""
    values = [getattr(run, name) for run in runs if run.peer == key and getattr(run, name) != -1]
    return statistics.median(values) if values else -1


def _comparison(cameras: int, here: list[Run]) -> str:
    titles = {peer.key: peer.title for peer in PEERS}
    ffmpeg, floor = (_median(here, key, "cpu_per_camera_minute_s") for key in ("ffmpeg", "floor"))
    lines = [f"\n### {cameras} camera{'s' if cameras > 1 else ''}\n",
             "| recorder | runs | CPU s/camera-minute (min - max) | ffmpeg / it | it / floor | memory MB | write calls/cm | bytes written / media | device bytes / media | device reads | syncs/cm | system calls/cm | files | pictures lost |",
             "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for key in [peer.key for peer in PEERS if any(run.peer == peer.key for run in here)]:
        mine = [run for run in here if run.peer == key]
        cpu = _median(here, key, "cpu_per_camera_minute_s")
        spread = sorted(run.cpu_per_camera_minute_s for run in mine)
        lost = [run.pictures_lost for run in mine if run.pictures_lost >= 0]
        cells = [
            titles[key], str(len(mine)), f"{cpu:.4f} ({spread[0]:.4f} - {spread[-1]:.4f})",
            _or_dash(ffmpeg / cpu if ffmpeg > 0 else -1, ".1f"), _or_dash(cpu / floor if floor > 0 else -1, ".2f"),
            _or_dash(_median(here, key, "memory_mb"), ".1f"), _or_dash(_median(here, key, "write_calls_per_camera_minute"), ".0f"),
            _or_dash(_median(here, key, "written_per_media"), ".4f"), _or_dash(_median(here, key, "device_per_media"), ".4f"),
            _or_dash(_median(here, key, "device_read_bytes"), ".0f"), _or_dash(_median(here, key, "syncs_per_camera_minute"), ".1f"),
            _or_dash(_median(here, key, "syscalls_per_camera_minute"), ".0f"), _or_dash(_median(here, key, "files"), ".0f"),
            str(sum(lost)) if lost else "-",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    skipped = {titles[key]: sum(run.source_skipped for run in here if run.peer == key) for key in titles}
    told = ", ".join(f"{title} {count}" for title, count in skipped.items() if count) or "none"
    lines.append(f"\nPictures that the cameras could not deliver: {told}.")
    return "\n".join(lines)


# What was asked for before it was built, with 16 cameras: (peer, ffmpeg / it at least, it / floor at most). With CRC and without
# the hash, as the trial that they come from had neither.
_GOALS = (("pure-crc", 5, 3.5), ("crc", 9, 2.0))
_GOAL_MEMORY_MB, _GOAL_MORE_MB, _GOAL_SYSTEM_CALLS = 25, 0.5, 2500


def _goals(sixteen: list[Run], runs: list[Run]) -> str:
    """What was asked for against what was measured; only what these runs can tell."""
    titles = {peer.key: peer.title for peer in PEERS}
    rows: list[tuple[str, str, str, bool]] = []
    ffmpeg, floor = (_median(sixteen, key, "cpu_per_camera_minute_s") for key in ("ffmpeg", "floor"))
    for key, of_ffmpeg, of_floor in _GOALS:
        cpu = _median(sixteen, key, "cpu_per_camera_minute_s")
        if cpu > 0 and ffmpeg > 0:
            rows.append((titles[key], f"1/{of_ffmpeg} of ffmpeg", f"1/{ffmpeg / cpu:.1f}", ffmpeg / cpu >= of_ffmpeg))
        if cpu > 0 and floor > 0:
            rows.append((titles[key], f"{of_floor} times the floor", f"{cpu / floor:.2f}", cpu / floor <= of_floor))
    for key in ("pure-crc", "crc", "full"):
        memory_mb = _median(sixteen, key, "memory_mb")
        if memory_mb > 0:
            rows.append(
                (
                    titles[key],
                    f"{_GOAL_MEMORY_MB} MB with 16 cameras",
                    f"{memory_mb:.1f} MB",
                    memory_mb <= _GOAL_MEMORY_MB,
                )
            )
        most = max((run.cameras for run in runs if run.peer == key), default=16)
        if memory_mb > 0 and most > 16:
            more_mb = (_median([run for run in runs if run.cameras == most], key, "memory_mb") - memory_mb) / (
                most - 16
            )
            rows.append(
                (
                    titles[key],
                    f"{_GOAL_MORE_MB} MB for each more",
                    f"{more_mb:.2f} MB (up to {most})",
                    more_mb <= _GOAL_MORE_MB,
                )
            )
        calls = _median(sixteen, key, "syscalls_per_camera_minute")
        if calls > 0:
            rows.append(
                (
                    titles[key],
                    f"{_GOAL_SYSTEM_CALLS} system calls a camera-minute",
                    f"{calls:.0f}",
                    calls <= _GOAL_SYSTEM_CALLS,
                )
            )
    many = [
        run for run in runs if run.peer in ("pure-crc", "crc", "full") and run.cameras > 16 and run.pictures_lost >= 0
    ]
    if many:
        lost = sum(run.pictures_lost for run in many)
        rows.append(("nvr, more than 16 cameras", "no picture lost", f"{lost} in {len(many)} runs", lost == 0))
    if not rows:
        return ""
    lines = [
        "\n### What was asked for, 16 cameras\n",
        "| recorder | asked | here | reached |",
        "| --- | --- | --- | --- |",
    ]
    lines += [f"| {title} | {asked} | {here} | {'yes' if reached else 'no'} |" for title, asked, here, reached in rows]
    return "\n".join(lines) + "\n"


def _or_dash(value: float, form: str) -> str:
    return "-" if value < 0 else format(value, form)


def run(counts: list[int], rounds: int, window_s: float, keys: list[str], work: Path, results_path: Path) -> None:
    """Measure everything; each run is added to `results_path` (JSON lines) as soon as it is there."""
    work.mkdir(parents=True, exist_ok=True)
    footage = work / "camera-1080p25.mp4"
    content.make(footage)
    source = probed(footage)
    peers = [peer for peer in PEERS if peer.key in keys]
    with network() as inside:
        for cameras in counts:
            for number in range(rounds):
                turn = number % len(peers)
                for peer in peers[turn:] + peers[:turn]:
                    result = one_run(
                        peer, number, cameras, footage, source, work, window_s, inside, trace=number == rounds - 1
                    )
                    with open(results_path, "a") as results:
                        results.write(json.dumps(asdict(result)) + "\n")
                    print(f"N={cameras} round {number + 1}/{rounds} {peer.key}: {result.cpu_per_camera_minute_s:.4f} CPU s/cm, "
                          f"{result.memory_mb:.1f} MB, lost {result.pictures_lost}, slowest {result.pictures_per_s_slowest:.1f}/s",
                          flush=True)  # fmt: skip
