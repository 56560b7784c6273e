"""A real hub for the tests: its own process, its own directory, a port of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.hub.simulated import SimulatedBox


class HubProcess:
    """`nvr hub run`, which may be killed and started again."""

    def __init__(self, data_dir: Path, *options: str, environment: dict[str, str] | None = None) -> None:
        self.data_dir, self.options = data_dir, options
        self.environment = {**os.environ, **(environment or {})}
        self.url, self.listen = "", "127.0.0.1:0"
        self.process: subprocess.Popen[str] | None = None

    def command(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "nvr", "hub", *words, "--data", str(self.data_dir), *self.options],
            capture_output=True, text=True, env=self.environment, check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def start(self) -> None:
        log = open(self.data_dir.parent / f"{self.data_dir.name}.log", "a")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nvr", "hub", "run", "--json", "--data", str(self.data_dir), "--listen", self.listen, *self.options],
            stdout=subprocess.PIPE, stderr=log, text=True, env=self.environment,
        )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, (self.data_dir.parent / f"{self.data_dir.name}.log").read_text()[-2000:]
        self.url = json.loads(line)["address"]
        self.listen = self.url.partition("//")[2]  # the same one after a restart
        wait_for(lambda: _answers(self.url), "the hub answers")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self.kill()

    def code(self) -> str:
        return self.command("code")


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=10).status_code == 200
    except httpx.TransportError:
        return False


def wait_for(is_so: Callable[[], bool], what: str, timeout_s: float = 120.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < end_s, f"waited {timeout_s} s in vain until {what}"
        time.sleep(0.05)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubProcess]:
    data_dir = tmp_path / "hub"
    data_dir.mkdir()
    process = HubProcess(data_dir)
    process.start()
    yield process
    process.stop()


@pytest.fixture
def box(hub: HubProcess) -> Iterator[SimulatedBox]:
    """Enrolled, not connected."""
    box = SimulatedBox(hub.url)
    assert box.enrol(hub.code()).status_code == 200
    yield box
    box.close()
