"""One process of a box: how it is started, ended, and started again; and whether it hangs.

`web`, `detect`, `uplink` and `scrub` give a sign of life with every turn of their main thread (systemd.sign_of_life()). Silence is counted in
time in which a process could have spoken: while it waits for a processor that others have, only what it got of that counts. So a
starved or throttled process is left alone however long it takes, and one that sleeps, is stopped or runs in circles is not.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nvr import systemd

log = logging.getLogger(__name__)

STOP_S = 20.0  # record needs one sync burst to stop; on a slow card that takes seconds
BACK_OFF_S = (0.2, 1.0, 2.0, 5.0, 10.0, 30.0)
STEADY_S = 60.0  # a process that ran so long starts again without back-off
RESTART_S = 10.0  # for a process that is to start anew: then it is killed
HUNG_S = 60.0  # as long as systemd waits (firmware/units/nvr.service); a write that waits for a dying card may take half of that
QUIET_S = 5.0  # so long nobody asks what a process does: that costs as much as many of its signs
START_S = 600.0  # until its first sign: packages and a model from a slow card
TELL_HUNG_S = 86_400.0
TELL_DEATHS = 3  # in a row; once is a reboot of something


def how_it_ended(status: int) -> str:
    """A process's exit status in words; negative ones are signals, as `subprocess` counts."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def _at_work(pid: int) -> tuple[bool, float]:
    """Whether a thread of it runs or waits for a processor, and the processor time of all of them so far, in seconds (proc(5))."""
    is_ready, ticks = False, 0
    for path in Path(f"/proc/{pid}/task").glob("*/stat"):
        try:
            fields = path.read_bytes().rpartition(b")")[2].split()
            is_ready |= fields[0] == b"R"
            ticks += int(fields[11]) + int(fields[12])
        except (OSError, IndexError, ValueError):
            continue  # it ended meanwhile
    return is_ready, ticks / os.sysconf("SC_CLK_TCK")


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
    last_status: int = 0
    is_wanted: bool = True
    ends_by_s: float = float("inf")  # it was asked to end, and is killed then
    is_watched: bool = False  # it gives signs of life
    hangs: int = 0  # how often it hung since the box began
    hung_s: float = float("-inf")  # when it did last
    _sign_fd: int = -1
    _has_spoken: bool = False
    _silent_s: float = 0.0
    _work_s: float = -1.0  # what it had of the processor when it was looked at last

    def start(self) -> None:
        self.started_s = time.monotonic()
        self.exit_status = None
        self._has_spoken, self._silent_s, self._work_s = False, 0.0, -1.0
        theirs_fd = -1
        if self.is_watched:
            self._close_sign()
            self._sign_fd, theirs_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *self.arguments],
                stdin=subprocess.PIPE,
                env=systemd.environment_for_children(theirs_fd),
                pass_fds=[theirs_fd] if self.is_watched else [],
                start_new_session=True,  # Ctrl-C reaches the box, which stops its children in order
            )
        finally:
            if theirs_fd >= 0:
                os.close(theirs_fd)
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
        self.process, self.exit_status, self.last_status = None, status, status
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

    def watch(self, passed_s: float, now_s: float) -> None:
        """Kill the process when it hangs; poll() starts another one. `passed_s`: since the last call, while the box itself was awake."""
        if not self.is_watched or self.process is None or self.ends_by_s < float("inf"):
            return
        if self._has_signs():
            self._has_spoken, self._silent_s = True, 0.0
            return
        if self._silent_s < QUIET_S:
            self._silent_s += passed_s
            self._work_s = -1.0
            return
        is_ready, work_s = _at_work(self.process.pid)
        if self._work_s >= 0:
            self._silent_s += min(max(work_s - self._work_s, 0.0), passed_s) if is_ready else passed_s
        self._work_s = work_s
        if self._silent_s <= (HUNG_S if self._has_spoken else START_S):
            return
        self.hangs, self.hung_s = self.hangs + 1, now_s
        log.error("%s gave no sign of life for %.0f s and is killed", self.name, self._silent_s)
        self._silent_s = 0.0
        self.process.kill()

    def _has_signs(self) -> bool:
        try:
            return bool(os.read(self._sign_fd, 65536))
        except OSError:
            return False

    def _close_sign(self) -> None:
        if self._sign_fd >= 0:
            os.close(self._sign_fd)
            self._sign_fd = -1

    def trouble(self, now_s: float) -> str:
        """What people should know of it, in words; "" when nothing."""
        if now_s - self.hung_s < TELL_HUNG_S:
            times = f", {self.hangs} times since the box started" if self.hangs > 1 else ""
            return f"{self.name} hung and was started again{times}"
        if self.deaths >= TELL_DEATHS and (self.process is None or now_s - self.started_s < STEADY_S):
            return f"{self.name} does not stay alive: {how_it_ended(self.last_status)}"
        return ""

    def restart(self, now_s: float, *, is_wanted: bool = True) -> None:
        """Have it end, and start anew if it is wanted; waits for nothing."""
        self.is_wanted, self.next_start_s, self.deaths = is_wanted, now_s, 0
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.ends_by_s = now_s + RESTART_S

    def stop(self) -> None:
        """Ask to stop, wait, and only then insist."""
        self._close_sign()
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
