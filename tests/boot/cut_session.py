"""A box in QEMU whose writes are logged, and what it said meanwhile: what campaigns of power cuts have in common.

`Session` is what is kept of such a life, `Watcher` takes down what the box announced over SSH; afterwards the disk of any moment is made
(write_log.py), mounted and looked at.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import shlex
import subprocess
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from boot import vm as vms

CLONE_NEWNS = 0x00020000  # linux/sched.h
RING_GB = 0.033  # seven segments of 4 MiB

LISTENER = """
import json, time
from pathlib import Path
from nvr.announce import Subscriber, fragment_of
while True:
    try:
        subscriber = Subscriber(Path("/data/nvr/run"))
        while True:
            message = subscriber.receive(5)
            if message is None or message["kind"] not in ("fragment", "durable", "status", "dropped"):
                continue
            told = {"kind": message["kind"], "at_ns": time.clock_gettime_ns(time.CLOCK_BOOTTIME)}
            if message["kind"] == "fragment":
                position, record = fragment_of(message)
                told |= {"stream": position.stream, "sequence": record.sequence, "segment": position.segment, "lap": position.lap}
            elif message["kind"] == "durable":
                told |= {"stream": message["stream"], "sequence": message["sequence"]}
            elif message["kind"] == "status":
                told |= {"late_ms": message["late_ms"], "burst_ms": round(message["sync"]["longest_burst_s"] * 1000)}
            print(json.dumps(told), flush=True)
    except OSError:
        time.sleep(0.5)
"""


@dataclass
class Session:
    """What is kept of a box's life. Times are those of this machine's monotonic clock, in ns."""

    folder: Path
    site: str
    data_start: int = 0  # where the data partition lies on the disk, in bytes
    data_size: int = 0
    marks: dict[str, int] = field(default_factory=dict)  # bytes of the log at a moment
    told: list[tuple[int, int, dict[str, Any]]] = field(
        default_factory=list
    )  # (when heard, bytes of the log by then, what)
    grown: list[tuple[int, int]] = field(default_factory=list)  # (bytes of the log, when first seen)
    ring_gb: float = RING_GB
    hashes: dict[str, str] = field(default_factory=dict)  # of the bundle's parts, and of slot A

    @property
    def base(self) -> Path:
        return self.folder / "base.img"

    @property
    def logs(self) -> list[Path]:
        """One for each start of QEMU."""
        return sorted(self.folder.glob("writes.*"))

    @property
    def key(self) -> Path:
        return self.folder / "key"

    def save(self) -> None:
        (self.folder / "session.json").write_text(json.dumps(asdict(self), default=str))

    @classmethod
    def load(cls, folder: Path) -> Session:
        found = cls(**json.loads((folder / "session.json").read_text()))
        found.folder = folder
        found.grown = [(size, when) for size, when in found.grown]
        found.told = [(when, size, told) for when, size, told in found.told]
        return found

    def guest_ns(self, log_bytes: int) -> int:
        """The box's clock when its log had so many bytes; a little later than it was, never earlier."""
        place = min(bisect_left(self.grown, (log_bytes, 0)), len(self.grown) - 1)
        return self.grown[place][1] - min(when - told["at_ns"] for when, _, told in self.told)


class Watcher:
    """Hears what the box says, and sees its log grow."""

    def __init__(self, box: vms.Vm, session: Session) -> None:
        self._box, self._session = box, session
        self._end = threading.Event()
        self._ssh: subprocess.Popen[str] | None = None
        threading.Thread(target=self._look, daemon=True).start()

    def size(self) -> int:
        return sum(log.stat().st_size for log in self._session.logs)

    def mark(self, name: str) -> None:
        self._session.marks[name] = self.size()

    def _look(self) -> None:
        last = 0
        while not self._end.wait(0.02):
            size = self.size()
            if size > last:
                self._session.grown.append((size, time.monotonic_ns()))
                last = size

    def listen(self) -> None:
        words = ["ssh", *vms.SSH_OPTIONS, "-i", str(self._box.key), "-p", str(self._box.ssh_port), "root@127.0.0.1",
                 f"python3 -c {shlex.quote(LISTENER)}"]  # fmt: skip
        self._ssh = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self._hear, daemon=True).start()

    def _hear(self) -> None:
        assert self._ssh is not None
        assert self._ssh.stdout is not None
        for line in self._ssh.stdout:
            told = json.loads(line)
            assert told["kind"] != "dropped", "the listener was too slow"
            self._session.told.append((time.monotonic_ns(), self.size(), told))

    def close(self) -> None:
        self._end.set()
        if self._ssh is not None:
            self._ssh.kill()
            self._ssh.wait()


def durable_at(session: Session, log_bytes: int) -> dict[str, int]:
    """What the box had said to be durable, by stream."""
    found: dict[str, int] = {}
    for _, size, told in session.told:
        if size > log_bytes:
            break
        if told["kind"] == "durable":
            found[told["stream"]] = told["sequence"]
    return found


def slowness_ms(session: Session, log_bytes: int) -> int:
    """What the emulated machine, beside others, adds to the bound: how late the recorder said it was, and its longest burst of syncs."""
    told = [each for _, size, each in session.told if each["kind"] == "status" and size <= log_bytes]
    return max((each["late_ms"] for each in told), default=0) + max((each["burst_ms"] for each in told), default=0)


def lived(request, tmp_path_factory, kept: str, live: Callable[..., None]) -> Session:
    """The session in the folder `kept`; where there is none yet, or no folder is named, `live(session, new_box, builder, work)` makes one."""
    folder = Path(kept) if kept else tmp_path_factory.mktemp("session")
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "session.json").exists():
        box, builder = request.getfixturevalue("new_box"), request.getfixturevalue("builder")
        live(Session(folder, ""), box, builder, tmp_path_factory.mktemp("life"))
    return Session.load(folder)


# -- the disk of one moment --------------------------------------------------------------------------


@functools.cache
def _see_mounts_alone() -> None:
    """Toolboxes (image/run.py) take copies of this machine's mounts with them: what one of them holds, umount does not unmount."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)


@contextlib.contextmanager
def mounted(disk: Path, start: int, size: int, at: Path) -> Iterator[Path]:
    """The data partition as the box's next start mounts it: the kernel replays the journal."""
    _see_mounts_alone()
    at.mkdir(exist_ok=True)
    where = f"loop,offset={start},sizelimit={size},nosuid,nodev,noexec"
    subprocess.run(["mount", "-t", "ext4", "-o", where, disk, at], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", at], check=True)


def check_file_system(disk: Path, start: int, note: str) -> None:
    """After its journal was replayed nothing is wrong with it."""
    done = subprocess.run(["e2fsck", "-fn", f"{disk}?offset={start}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{note}: {done.stdout[-1500:]}"
