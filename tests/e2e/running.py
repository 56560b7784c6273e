"""Real processes for end-to-end tests: a recorder, and what it announced until it was killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from nvr.announce import Subscriber, fragment_of
from nvr.media import FragmentRecord, Position
from nvr.recorder import RecordedStream, Settings

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
