"""A box in QEMU, started from a real image by its own bootloader; its only ways out are the ports and cameras it is given.

The user network is restricted: nothing of the guest reaches another host. A camera is a relay to a pretend camera on this
machine's loopback; page and SSH are forwarded ports. Every byte of the serial line stays in a log.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from boot import write_log
from image.disk import MIB
from image.run import Toolbox

CAMERAS = "10.0.2.100"  # where the guest finds cameras, one port each from FIRST_CAMERA
FIRST_CAMERA = 8554
HUB = "10.0.2.101"
MEMORY_MB = 1024
# An emulated box beside a busy machine takes minutes for what a board does in seconds.
BOOT_S, SHELL_S = 900.0, 600.0


SSH_OPTIONS = [
    word
    for option in (
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "LogLevel=ERROR",
        "ConnectTimeout=120",
        "BatchMode=yes",
    )
    for word in ("-o", option)
]


class VmFailed(AssertionError):
    pass


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@cache
def accelerator(toolbox: Toolbox, kernel: Path) -> str:
    """ "kvm" where a stock kernel really starts under it. A /dev/kvm alone proves nothing: some run paravirtual guests only."""
    if not Path("/dev/kvm").exists():
        return "tcg"
    command = ["qemu-system-x86_64", "-accel", "kvm", "-cpu", "host", "-m", "512", "-display", "none", "-monitor", "none", "-nic", "none", "-no-reboot",
               "-serial", "stdio", "-kernel", str(kernel), "-append", "console=ttyS0 panic=-1"]  # fmt: skip
    try:
        told = subprocess.run(
            toolbox.command(command), capture_output=True, timeout=20, check=False, stdin=subprocess.DEVNULL
        ).stdout
    except subprocess.TimeoutExpired as error:
        told = error.stdout or b""
    return "kvm" if b"Linux version" in told else "tcg"


@dataclass
class Vm:
    """One disk and, while it runs, one QEMU. `disk` is this box's own copy."""

    toolbox: Toolbox
    disk: Path
    log: Path
    architecture: str = "amd64"
    accel: str = "tcg"
    cameras: Sequence[int] = ()  # ports of pretend cameras on this machine
    hub: int = 0
    more: Sequence[str] = ()
    writes: Path | None = None  # logs what the guest writes (write_log.py): one file for each start of QEMU, in `logs`
    logs: list[Path] = field(default_factory=list)
    key: Path | None = None  # private key for SSH
    process: subprocess.Popen[bytes] | None = None
    power: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    resets: int = 0
    crashes: int = 0
    started_s: float = 0.0
    seen_bytes: int = 0
    ssh_port: int = field(default_factory=free_port)
    page_port: int = field(default_factory=free_port)

    def command(self) -> list[str]:
        forwards = f"hostfwd=tcp:127.0.0.1:{self.ssh_port}-:22,hostfwd=tcp:127.0.0.1:{self.page_port}-:8080"
        for number, port in enumerate(self.cameras):
            forwards += f",guestfwd=tcp:{CAMERAS}:{FIRST_CAMERA + number}-cmd:nc 127.0.0.1 {port}"
        if self.hub:
            forwards += f",guestfwd=tcp:{HUB}:443-cmd:nc 127.0.0.1 {self.hub}"
        if self.architecture == "amd64":
            machine = [
                "qemu-system-x86_64",
                "-M",
                "pc",
                "-cpu",
                "host" if self.accel == "kvm" else "max",
                "-bios",
                "/usr/lib/u-boot/qemu-x86_64/u-boot.rom",
            ]
        else:
            machine = [
                "qemu-system-aarch64",
                "-M",
                "virt",
                "-cpu",
                "cortex-a72",
                "-bios",
                "/usr/lib/u-boot/qemu_arm64/u-boot.bin",
            ]
        accel = "kvm" if self.accel == "kvm" else "tcg,thread=multi,tb-size=512"
        return [
            *machine, "-accel", accel, "-m", str(MEMORY_MB), "-smp", "1", "-no-reboot", "-display", "none", "-monitor", "none", "-serial", "stdio",
            *self._disk(), "-device", "virtio-blk-pci,drive=d0",
            "-netdev", f"user,id=n0,restrict=on,{forwards}", "-device", "virtio-net-pci,netdev=n0,romfile=",
            "-device", "virtio-rng-pci", "-device", "i6300esb", *self.more,
        ]  # fmt: skip

    def _disk(self) -> list[str]:
        if self.writes is None:
            # writeback: what the guest wrote is in this machine's page cache and survives the kill of QEMU.
            return ["-drive", f"if=none,id=d0,file={self.disk},format=raw,cache=writeback,discard=unmap"]
        self.logs.append(self.writes.with_suffix(f".{len(self.logs)}"))
        return write_log.options(self.disk, self.logs[-1], "d0")

    def start(self) -> Vm:
        assert self.process is None
        self.started_s = time.monotonic()
        self.seen_bytes = self.log.stat().st_size if self.log.exists() else 0
        self.power = threading.Event()
        self._turn_on()
        threading.Thread(target=self._watch, args=(self.power,), daemon=True).start()
        return self

    def _turn_on(self) -> None:
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.toolbox.command(self.command(), folders=[self.disk.parent]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _watch(self, power: threading.Event) -> None:
        """A reset ends QEMU, and a new one starts: U-Boot for PCs does not survive a warm reset of QEMU's PC (it stops in its first stage)."""
        while not power.wait(0.5):
            with self.lock:
                status = None if power.is_set() or self.process is None else self.process.poll()
                if status == 0:
                    self.resets += 1
                    self._turn_on()
                elif status == -signal.SIGABRT and self.crashes < 3:
                    # QEMU 10.0, emulating: "iotlb_to_section: Assertion `section_index < ..." now and then. To the box it is a power cut.
                    self.crashes += 1
                    self._turn_on()

    def kill(self) -> None:
        """As a power cut: nothing of QEMU or the guest gets to do anything any more."""
        self.power.set()
        with self.lock:
            if self.process is not None:
                self.process.kill()
                self.process.wait()
                self.process = None

    def __enter__(self) -> Vm:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    # -- serial line --

    def text(self) -> str:
        """The serial line since the start."""
        with open(self.log, "rb") as file:
            file.seek(self.seen_bytes)
            return file.read().decode(errors="replace").replace("\r", "")

    def wait_for(self, pattern: str, limit_s: float = BOOT_S, *, after: int = 0) -> re.Match[str]:
        """Until the serial line shows it, beyond character `after`. Raises VmFailed."""
        end_s = time.monotonic() + limit_s
        while True:
            text = self.text()
            found = re.compile(pattern).search(text, after)
            if found:
                return found
            if self.process is None or self.process.poll() not in (None, 0, -signal.SIGABRT):
                raise VmFailed(f"QEMU ended while waiting for {pattern!r}:\n{text[-2000:]}")
            if time.monotonic() > end_s:
                raise VmFailed(f"no {pattern!r} within {limit_s:.0f} s:\n{text[-2000:]}")
            time.sleep(1)

    def since_start_s(self) -> float:
        return time.monotonic() - self.started_s

    # -- shell and page --

    def ssh(self, command: str, *, limit_s: float = SHELL_S, check: bool = True, given: bytes = b"") -> str:
        assert self.key is not None
        done = subprocess.run(
            ["ssh", *SSH_OPTIONS, "-i", self.key, "-p", str(self.ssh_port), "root@127.0.0.1", command],
            input=given,
            capture_output=True,
            timeout=limit_s,
            check=False,
        )
        output = done.stdout.decode(errors="replace")
        if check and done.returncode != 0:
            raise VmFailed(
                f"{command}: status {done.returncode}\n{output[-1500:]}{done.stderr.decode(errors='replace')[-1500:]}"
            )
        return output

    def wait_for_shell(self, limit_s: float = BOOT_S) -> None:
        end_s = time.monotonic() + limit_s
        while True:
            with contextlib.suppress(VmFailed, subprocess.TimeoutExpired):
                self.ssh("true", limit_s=60)
                return
            if time.monotonic() > end_s:
                raise VmFailed(f"no shell within {limit_s:.0f} s:\n{self.text()[-2000:]}")
            time.sleep(2)

    def put(self, source: Path, target: str) -> None:
        self.ssh(f"cat > {shlex.quote(target)}", given=source.read_bytes())

    def page(self, path: str = "/") -> tuple[int, bytes]:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://127.0.0.1:{self.page_port}{path}", timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def wait_for_page(self, limit_s: float = BOOT_S) -> tuple[int, bytes]:
        end_s = time.monotonic() + limit_s
        while True:
            with contextlib.suppress(OSError):
                return self.page()
            if time.monotonic() > end_s:
                raise VmFailed(f"no page within {limit_s:.0f} s:\n{self.text()[-2000:]}")
            time.sleep(2)

    def update_status(self) -> dict:
        return json.loads(self.ssh("nvr-update status"))

    def recording(self, data_dir: str = "/data/nvr") -> dict[str, bool]:
        """What `record` says of each stream."""
        code = (
            f"import json; from pathlib import Path; from nvr.announce import Subscriber; s = Subscriber(Path('{data_dir}/run'))\n"
            "while (m := s.receive(20)).get('kind') != 'status': pass\n"
            "print(json.dumps({n: t['recording'] for n, t in m['streams'].items()}))"
        )
        return json.loads(self.ssh(f"python3 -c {shlex.quote(code)}"))


def copy_of(image: Path, target: Path, *, size_mib: int = 0) -> Path:
    """A box's own disk; a card is larger than the image on it."""
    subprocess.run(["cp", "--sparse=always", image, target], check=True)
    if size_mib:
        with open(target, "r+b") as file:
            file.truncate(size_mib * MIB)
    return target


class Card:
    """The FAT of a disk that no box runs from just now, as a laptop sees it."""

    def __init__(self, toolbox: Toolbox, disk: Path, first_mib: int = 1) -> None:
        self.toolbox, self.disk, self.place = toolbox, disk, f"{disk}@@{first_mib}M"

    def put(self, name: str, data: bytes) -> None:
        path = self.disk.with_name("for-the-card")
        path.write_bytes(data)
        self._run("mcopy", "-o", "-i", self.place, path, f"::{name}")
        path.unlink()

    def get(self, name: str) -> bytes | None:
        path = self.disk.with_name("from-the-card")
        path.unlink(missing_ok=True)
        with contextlib.suppress(Exception):
            self._run("mcopy", "-n", "-i", self.place, f"::{name}", path)
        return path.read_bytes() if path.exists() else None

    def names(self, folder: str = "site") -> list[str]:
        return self._run("mdir", "-b", "-i", self.place, f"::{folder}").output.split()

    def _run(self, *words):
        return self.toolbox.run(words, folders=[self.disk.parent], environment={"MTOOLS_SKIP_CHECK": "1"})


def contents_of(toolbox: Toolbox, bundle: Path, folder: Path) -> Path:
    """The files inside a bundle; its signature is not looked at."""
    into = folder / "contents"
    toolbox.run(["unsquashfs", "-quiet", "-no-progress", "-dest", into, bundle], folders=[folder, bundle.parent])
    return into


def make_key(folder: Path) -> Path:
    key = folder / "key"
    if not key.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", key], check=True)
    return key
