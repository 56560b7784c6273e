"""A real hub for the tests: its own process, its own directory, a port of its own. Each test runs on SQLite with a folder, and, marked, on
PostgreSQL with S3."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from nvr.hub import identity
from nvr.hub.blobs import Blobs
from nvr.hub.database import Store
from nvr.hub.settings import load
from nvr.hub.storage import open_blobs
from tests.hub import engines
from tests.hub.simulated import SimulatedBox


class HubProcess:
    """`nvr hub run`, which may be killed and started again; the tests look into its database and its objects."""

    def __init__(self, data_dir: Path, *options: str, environment: dict[str, str] | None = None) -> None:
        data_dir.mkdir(parents=True, exist_ok=True)
        self.data_dir, self.options = data_dir, options
        self.environment = {**os.environ, **(environment or {})}
        self.url, self.listen = "", "127.0.0.1:0"
        self.process: subprocess.Popen[str] | None = None
        self.log_path = data_dir.parent / f"{data_dir.name}.log"

    def command(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "nvr", "hub", *words, "--data", str(self.data_dir), *self.options],
            capture_output=True, text=True, env=self.environment, check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def start(self) -> None:
        with open(self.log_path, "a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "nvr", "hub", "run", "--json", "--data", str(self.data_dir), "--listen", self.listen, *self.options],
                stdout=subprocess.PIPE, stderr=log, text=True, env=self.environment,
            )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log_path.read_text()[-2000:]
        self.url = json.loads(line)["address"]
        self.listen = self.url.partition("//")[2]  # the same one after a restart
        wait_for(self.answers, "the hub answers")

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/healthz", timeout=10).status_code == 200
        except httpx.TransportError:
            return False

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

    @cached_property
    def settings(self) -> Any:
        given = dict(zip((each.lstrip("-") for each in self.options[::2]), self.options[1::2], strict=True))
        return load(self.data_dir, **given)

    @cached_property
    def store(self) -> Store:
        return Store(self.settings.database_url)

    @cached_property
    def blobs(self) -> Blobs:
        os.environ.update({key: value for key, value in self.environment.items() if key.startswith("AWS_")})
        return open_blobs(self.settings.objects_url, self.data_dir)

    def rows(self, table: Any, *where: Any) -> list[dict[str, Any]]:
        with self.store.reading() as connection:
            return [dict(row) for row in connection.execute(select(table).where(*where)).mappings()]

    def code(self, **more: Any) -> str:
        with self.store.writing() as connection:
            tenant_id = identity.tenant_id(connection, "city")
            assert tenant_id is not None
            return identity.add_code(connection, tenant_id=tenant_id, now_ms=int(time.time() * 1000), **more)

    def box(self, name: str = "waihaong-1", **more: Any) -> SimulatedBox:
        """A new one, enrolled."""
        box = SimulatedBox(self.url, name, **more)
        answer = box.enrol(self.code())
        assert answer.status_code == 200, answer.text
        return box


def wait_for(is_so: Callable[[], Any], what: str, timeout_s: float = 120.0) -> Any:
    end_s = time.monotonic() + timeout_s
    while not (found := is_so()):
        assert time.monotonic() < end_s, f"waited {timeout_s} s in vain until {what}"
        time.sleep(0.05)
    return found


@pytest.fixture(scope="session")
def postgres() -> Iterator[engines.Postgres]:
    with engines.postgres() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def swift() -> Iterator[engines.Swift]:
    with engines.swift() as store:
        yield store


BACKENDS = [
    pytest.param("sqlite+folder"),
    pytest.param("postgresql+s3", marks=[pytest.mark.postgres, pytest.mark.s3]),
]


@contextmanager
def hub_on(backend: str, data_dir: Path, request: pytest.FixtureRequest) -> Iterator[HubProcess]:
    """A hub that is made and not started yet."""
    if backend == "sqlite+folder":
        hub = HubProcess(data_dir)
    else:
        cluster, store = request.getfixturevalue("postgres"), request.getfixturevalue("swift")
        hub = HubProcess(
            data_dir, "--database", cluster.database(), "--objects", store.bucket(), environment=store.environment
        )
        hub.command("init")
    try:
        yield hub
    finally:
        hub.stop()
        hub.store.close()


@pytest.fixture(scope="module", params=BACKENDS)
def hub(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """One for all tests of a file; a test that kills one takes `own_hub`."""
    with hub_on(request.param, tmp_path_factory.mktemp("hub") / "data", request) as hub:
        hub.start()
        yield hub


@pytest.fixture(params=BACKENDS)
def own_hub(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[HubProcess]:
    with hub_on(request.param, tmp_path / "data", request) as hub:
        hub.start()
        yield hub


@pytest.fixture
def box(hub: HubProcess) -> Iterator[SimulatedBox]:
    """Enrolled, not connected."""
    box = hub.box()
    yield box
    box.close()


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=120) as client:
        yield client
