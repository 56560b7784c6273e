"""The real hub, `nvr hub run` over TLS in a process of its own; what it holds is read from its database and its folder."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.uplink.small_hub import certificate

ROOT = Path(__file__).parents[2]


class RealHub:
    """Use it in a `with` statement. `inside`: words before the command, such as those that enter a network namespace.

    `data_dir`: a copy of what an earlier hub in `folder` held. It is that hub then, with its key and its boxes.
    """

    def __init__(
        self, folder: Path, listen: str = "127.0.0.1:0", inside: tuple[str, ...] = (), *, data_dir: Path | None = None
    ) -> None:
        self.folder, self.data_dir, self.listen, self._inside = folder, data_dir or folder / "hub-data", listen, inside
        self.url = self.code = self.fingerprint = ""
        self.process: subprocess.Popen[str] | None = None
        if data_dir is not None:
            return
        self.data_dir.mkdir(parents=True)
        cert, key, self.fingerprint = certificate(folder)
        # The machine of a test may have little room left.
        (self.data_dir / "hub.yaml").write_text(f"certificate: {cert}\nkey: {key}\nfree_least_mb: 16\n")
        self.code = self._command("code").strip()

    def _command(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "nvr", "hub", *words, "--data", str(self.data_dir)], capture_output=True, text=True, check=False, cwd=ROOT,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self) -> None:
        with open(self.folder / "hub.log", "a") as log:
            self.process = subprocess.Popen(
                [*self._inside, sys.executable, "-m", "nvr", "hub", "run", "--json", "--data", str(self.data_dir), "--listen", self.listen],
                stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT, start_new_session=True,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, (self.folder / "hub.log").read_text()[-2000:]
        self.url = json.loads(line)["address"]
        self.listen = self.url.partition("//")[2]

    def __enter__(self) -> RealHub:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def rows(self, question: str) -> list[dict[str, Any]]:
        base = sqlite3.connect(f"file:{self.data_dir / 'hub.db'}?mode=ro", uri=True, timeout=30)
        base.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in base.execute(question)]
        finally:
            base.close()

    def clips(self) -> list[dict[str, Any]]:
        return self.rows("SELECT * FROM object WHERE kind = 'clip' ORDER BY id")

    def blob(self, key: str) -> bytes:
        found = [path for path in (self.data_dir / "objects").rglob("*") if path.is_file() and str(path).endswith(key)]
        assert len(found) == 1, (key, found)
        return found[0].read_bytes()

    def command(self, do: str, **args: Any) -> str:
        """Ask a box as the hub's own pages do."""
        from nvr.hub import commands
        from nvr.hub.changes import Changes
        from nvr.hub.database import open_store
        from nvr.hub.settings import load

        settings = load(self.data_dir)
        store = open_store(settings.database_url, settings.data_dir)
        now_ms = int(time.time() * 1000)
        box = self.rows("SELECT * FROM box")[0]
        try:
            with store.writing() as connection:
                id: str = commands.add(
                    connection,
                    Changes(store, lambda: now_ms),
                    tenant_id=box["tenant_id"],
                    box_id=box["id"],
                    do=do,
                    args=args,
                    by="test",
                    now_ms=now_ms,
                )
            return id
        finally:
            store.close()

    def answer_to(self, id: str) -> dict[str, Any] | None:
        """The command's row once the box has answered."""
        return next(iter(self.rows(f"SELECT * FROM command WHERE id = '{id}' AND answered_ms IS NOT NULL")), None)
