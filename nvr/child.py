"""One process of a box: how it is started, ended, and started again."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

from nvr import systemd

log = logging.getLogger(__name__)

STOP_S = 20.0  # record needs one sync burst to stop; on a slow card that takes seconds
BACK_OFF_S = (0.2, 1.0, 2.0, 5.0, 10.0, 30.0)
STEADY_S = 60.0  # a process that ran so long starts again without back-off
RESTART_S = 10.0  # for a process that is to start anew: then it is killed


def how_it_ended(status: int) -> str:
    """A process's exit status in words; negative ones are signals, as `subprocess` counts."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


@dataclass
class Child:
    """One process of the box, and when to start it again."""

    name: str
    arguments: list[str]
    settings: dict[str, Any]
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    next_start_s: float = 0.0
    deaths: int = 0
    exit_status: int | None = None
    is_wanted: bool = True
    ends_by_s: float = float("inf")  # it was asked to end, and is killed then

    def start(self) -> None:
        self.started_s = time.monotonic()
        self.exit_status = None
        self.process = subprocess.Popen(
            [sys.executable, "-m", *self.arguments],
            stdin=subprocess.PIPE,
            env=systemd.environment_for_children(),
            start_new_session=True,  # Ctrl-C reaches the box, which stops its children in order
        )
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(self.settings).encode())
            self.process.stdin.close()
        except BrokenPipeError:
            pass  # it died while starting; poll() will tell

    def poll(self, now_s: float) -> None:
        """Start the process when it is due; note its death."""
        if self.process is None:
            if self.is_wanted and now_s >= self.next_start_s:
                self.start()
            return
        status = self.process.poll()
        if status is None:
            if now_s >= self.ends_by_s:
                self.process.kill()
            return
        self.process, self.exit_status = None, status
        if self.ends_by_s < float("inf"):
            self.ends_by_s, self.deaths, self.next_start_s = float("inf"), 0, now_s
            return
        if now_s - self.started_s > STEADY_S:
            self.deaths = 0
        wait_s = BACK_OFF_S[min(self.deaths, len(BACK_OFF_S) - 1)]
        self.deaths += 1
        self.next_start_s = now_s + wait_s
        log.warning("%s %s after %.0f s; starting again in %.1f s",
                    self.name, how_it_ended(status), now_s - self.started_s, wait_s)  # fmt: skip

    def restart(self, now_s: float, *, is_wanted: bool = True) -> None:
        """Have it end, and start anew if it is wanted; waits for nothing."""
        self.is_wanted, self.next_start_s, self.deaths = is_wanted, now_s, 0
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.ends_by_s = now_s + RESTART_S

    def stop(self) -> None:
        """Ask to stop, wait, and only then insist."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.exit_status = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            log.error("%s did not stop within %.0f s and is killed", self.name, STOP_S)
            self.process.kill()
            self.exit_status = self.process.wait()
        self.process = None
