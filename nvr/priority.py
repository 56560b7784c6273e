"""Who gives way to whom: every process but `record` takes what is left over."""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path

_SYS_IOPRIO_SET = {"x86_64": 251, "aarch64": 30, "armv7l": 314, "armv6l": 314, "riscv64": 30}
_IOPRIO_IDLE = 3 << 13  # IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0), ioprio_set(2)


def step_back() -> None:
    """Take only the CPU and the disk that nobody else wants, and be the first to go when memory is short."""
    with contextlib.suppress(OSError):
        os.nice(15)
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with contextlib.suppress(OSError, AttributeError, KeyError):
        ctypes.CDLL(None, use_errno=True).syscall(_SYS_IOPRIO_SET[os.uname().machine], 1, 0, _IOPRIO_IDLE)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("800")
