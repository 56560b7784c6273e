"""What a recorder cost while it ran: CPU, memory, system calls, bytes written. Read from the kernel, from outside.

CPU comes from a cpuacct control group (exact, children included) where root may make one, otherwise from
/proc/*/schedstat of the process tree. Nothing here slows the measured processes, except `syscalls()`, which
traces them and is therefore run in a window of its own.
"""

from __future__ import annotations

import datetime
import functools
import os
import platform
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

CPUACCT = Path("/sys/fs/cgroup/cpuacct")


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def tree(pids: list[int]) -> list[int]:
    """The processes and all their descendants that are alive."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            match = re.match(r"\d+ \(.*\) \S (\d+)", _read(entry / "stat"))
            if match:
                children.setdefault(int(match[1]), []).append(int(entry.name))
    found, queue = [], list(pids)
    while queue:
        pid = queue.pop()
        found.append(pid)
        queue += children.get(pid, [])
    return found


class Group:
    """The processes of one peer. Use `enter` as preexec_fn, so that children are counted from the start."""

    def __init__(self) -> None:
        self.path = CPUACCT / f"nvr-bench-{os.getpid()}-{time.monotonic_ns()}"
        try:
            self.path.mkdir()
            self.is_exact = True
        except OSError:
            self.is_exact = False
        self.roots: list[int] = []

    def enter(self) -> None:
        if self.is_exact:
            (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def pids(self) -> list[int]:
        if self.is_exact:
            return [int(line) for line in _read(self.path / "cgroup.procs").split()]
        return tree(self.roots)

    def cpu_s(self) -> float:
        if self.is_exact:
            return int(_read(self.path / "cpuacct.usage")) / 1e9
        total_ns = 0
        for pid in self.pids():
            for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
                total_ns += int((_read(thread).split() or ["0"])[0])
        return total_ns / 1e9

    def close(self) -> None:
        if self.is_exact:
            for _ in range(20):
                try:
                    self.path.rmdir()
                    return
                except OSError:
                    time.sleep(0.1)


@functools.cache
def machine() -> str:
    """One line: processor, cores, kernel, versions of the peers, date."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    ffmpeg = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=False).stdout.split(
        " Copyright"
    )[0]
    return (
        f"{model[1] if model else platform.machine()}, {len(os.sched_getaffinity(0))} cores, Linux {platform.release()}, "
        f"Python {platform.python_version()}, {ffmpeg}, {datetime.date.today().isoformat()}"
    )


@dataclass(frozen=True)
class Snapshot:
    """Counters at one moment; subtract two for a window."""

    time_s: float
    cpu_s: float
    written_bytes: int  # handed to write calls
    write_calls: int
    device_written_bytes: int  # -1 where the file system has no block device of its own
    device_read_bytes: int
    switches: int


def warm_memory(size_bytes: int) -> None:
    """Use so much memory and give it back, in a process of its own: what is taken next is there."""
    code = "import mmap, sys\nwith mmap.mmap(-1, int(sys.argv[1])) as room:\n    while room.tell() < len(room):\n        room.write(bytes(1 << 20))"
    subprocess.run([sys.executable, "-c", code, str(size_bytes)], check=True)


def device_bytes(device: str | None) -> tuple[int, int]:
    """(read, written) by a block device so far; -1 where there is none of our own."""
    for line in _read("/proc/diskstats").splitlines():
        fields = line.split()
        if fields[2] == device:
            return int(fields[5]) * 512, int(fields[9]) * 512
    return -1, -1


def snapshot(group: Group, device: str | None) -> Snapshot:
    written = calls = switches = 0
    for pid in group.pids():
        io = dict(re.findall(r"(\w+): (\d+)", _read(f"/proc/{pid}/io")))
        written += int(io.get("wchar", 0))
        calls += int(io.get("syscw", 0))
        for status in Path(f"/proc/{pid}/task").glob("*/status"):
            match = re.search(r"\nvoluntary_ctxt_switches:\s+(\d+)", _read(status))
            switches += int(match[1]) if match else 0
    device_read, device_written = device_bytes(device)
    return Snapshot(time.monotonic(), group.cpu_s(), written, calls, device_written, device_read, switches)


def memory_mb(group: Group) -> float:
    """Proportional set size of all processes, MB (10^6)."""
    kib = 0
    for pid in group.pids():
        match = re.search(r"Pss:\s+(\d+)", _read(f"/proc/{pid}/smaps_rollup"))
        kib += int(match[1]) if match else 0
    return kib * 1024 / 1e6


def syscalls(group: Group, seconds: float) -> dict[str, int]:
    """System calls by name in a window of `seconds`, by strace; the traced processes run slower meanwhile."""
    arguments = ["strace", "-f", "-c", "-U", "calls,name", "-qq"]
    for pid in group.pids():
        arguments += ["-p", str(pid)]
    tracer = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
    time.sleep(seconds)
    tracer.send_signal(2)
    report = tracer.communicate(timeout=30)[1]
    return {name: int(calls) for calls, name in re.findall(r"^\s*(\d+)\s+(\w+)$", report, re.M) if name != "total"}
