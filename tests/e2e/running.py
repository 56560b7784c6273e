"""Real processes for end-to-end tests: a recorder, and what it announced until it was killed; a whole box."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nvr.announce import Subscriber, fragment_of
from nvr.media import FragmentRecord, Position
from nvr.recorder import Settings
from nvr.stream import RecordedStream

ROOT = Path(__file__).parents[2]


class RunningRecorder:
    """`python -m nvr.recorder` with these settings; collects its announcements."""

    def __init__(self, settings: Settings, log_path: Path, *, environment: dict[str, str] | None = None) -> None:
        self.data_dir = Path(settings.data_dir)
        self.announced: dict[str, list[tuple[Position, FragmentRecord]]] = {}
        self.durable: dict[str, int] = {}
        self.status: dict[str, object] = {}
        self._subscriber: Subscriber | None = None
        with open(log_path, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "nvr.recorder"],
                stdin=subprocess.PIPE, stderr=log, stdout=log, cwd=ROOT,
                env={**os.environ, **(environment or {}), "PYTHONPATH": str(ROOT)},
            )  # fmt: skip
        assert self.process.stdin is not None
        self.process.stdin.write(settings.to_json().encode())
        self.process.stdin.close()

    def listen(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Hear announcements for so long, or until `until` holds; True when it does."""
        end = time.monotonic() + seconds
        while (remaining := end - time.monotonic()) > 0 and self.process.poll() is None:
            if until():
                return True
            if self._subscriber is None:
                try:
                    self._subscriber = Subscriber(self.data_dir / "run")
                except OSError:
                    time.sleep(0.02)
                    continue
            try:
                message = self._subscriber.receive(min(remaining, 0.2))
            except ConnectionError:
                self._subscriber = None
                continue
            if message is not None:
                self._take(message)
        return until()

    def _take(self, message: dict) -> None:
        kind = message["kind"]
        if kind == "fragment":
            position, record = fragment_of(message)
            self.announced.setdefault(position.stream, []).append((position, record))
        elif kind == "durable":
            self.durable[message["stream"]] = message["sequence"]
        elif kind == "status":
            self.status = message
        elif kind == "dropped":
            raise AssertionError(f"the test was too slow to listen: {message}")

    def kill(self) -> None:
        """SIGKILL, and what was announced before it died."""
        self.process.kill()
        self.process.wait()
        if self._subscriber is not None:
            with contextlib.suppress(ConnectionError):
                while (message := self._subscriber.receive(0)) is not None:
                    self._take(message)
            self._subscriber.close()

    def stop(self, timeout_s: float = 30) -> int:
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        end = time.monotonic() + timeout_s
        while self.process.poll() is None and time.monotonic() < end:
            self.listen(0.2)
        return self.process.wait(1)


class RunningBox:
    """`nvr run --json`, and what it told last. Use it in a `with` statement, so that nothing of it stays behind."""

    def __init__(
        self,
        site_path: Path,
        data_dir: Path,
        log_path: Path,
        *arguments: str,
        environment: dict[str, str] | None = None,
        modules: Path | None = None,
    ) -> None:
        """`modules`: a folder with stand-ins for packages that this machine lacks."""
        self.site_path, self.data_dir, self.log_path = site_path, data_dir, log_path
        self.status: dict[str, Any] = {}
        self.page: dict[str, Any] = {}
        with open(log_path, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "nvr", "run", "--site", str(site_path), "--data", str(data_dir), "--json", *arguments],
                stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL, cwd=ROOT, text=True,
                env={**os.environ, **(environment or {}), "PYTHONPATH": os.pathsep.join(map(str, filter(None, (ROOT, modules))))},
            )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                told = json.loads(line)
                if told.get("kind") == "page":
                    self.page = told
                else:
                    self.status = told

    def __enter__(self) -> RunningBox:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            children = children_of(self.process.pid)
            self.process.kill()
            self.process.wait()
            for pid in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._reader.join(10)

    def until(self, holds: Callable[[], object], seconds: float = 30, what: str = "") -> None:
        """Wait until something holds; fails with the box's log."""
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, f"not within {seconds} s: {what}\n{self.status}\n{self.log()}"
            assert self.process.poll() is None, f"nvr run ended with {self.process.returncode}\n{self.log()}"
            time.sleep(0.05)

    def log(self) -> str:
        return self.log_path.read_text()[-4000:]

    def stream(self, name: str) -> dict[str, Any]:
        """The last status of a stream; empty before the first."""
        return self.status.get("streams", {}).get(name, {})

    def is_recording(self, name: str) -> bool:
        return bool(self.stream(name).get("recording"))

    def stop(self, timeout_s: float = 30) -> int:
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)


def children_of(pid: int) -> dict[int, str]:
    """Process ids and command lines of the children of a process."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(stat[1]) == pid:
                    found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ").strip()
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Supervisor:
    """A socket as systemd gives it to a service; remembers each notification and when it came."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.told: list[tuple[float, dict[str, str]]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            try:
                lines = self._socket.recv(65536).decode().splitlines()
            except OSError:
                return
            self.told.append((time.monotonic(), dict(line.split("=", 1) for line in lines)))

    def heard(self, field: str, since: float = 0.0, before: float = float("inf")) -> list[str]:
        """The values of a field that came between two moments (time.monotonic)."""
        return [told[field] for when, told in list(self.told) if since <= when < before and field in told]

    def close(self) -> None:
        self._socket.close()


def replays(data_dir: Path, footage: list[Path], ring_bytes: int, **options: object) -> Settings:
    """Settings for one looping replay per file."""
    return Settings(
        data_dir=str(data_dir),
        loss_bound_s=5.0,
        streams=tuple(
            RecordedStream(
                name=f"camera{number}/main",
                source={"kind": "replay", "file": str(path), "loop": True, "speed": 1.0, **options},
                ring_bytes=ring_bytes,
            )
            for number, path in enumerate(footage)
        ),
    )
