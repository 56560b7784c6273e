"""How much of the machine a process may take: everybody beside `record` steps back, each as far as its work may wait."""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path

_SYS_IOPRIO_SET = {"x86_64": 251, "aarch64": 30, "armv7l": 314, "armv6l": 314, "riscv64": 30}
IO_LAST = (2 << 13) | 7  # IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 7), ioprio_set(2): behind all others, and never starved
IO_IDLE = 3 << 13  # IOPRIO_CLASS_IDLE: only what nobody else wants


def step_back(*, nice: int = 15, io: int = IO_IDLE, is_idle: bool = True, out_of_memory: int = 800) -> None:
    """Give way to others from now on, to all of them without arguments; what a system does not know of this is left out.

    `is_idle`: only the CPU that nobody wants. `out_of_memory`: from 0 to 1000, the highest goes first when memory is short.
    """
    with contextlib.suppress(OSError):
        os.nice(nice)
    if is_idle:
        with contextlib.suppress(OSError, AttributeError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with contextlib.suppress(OSError, AttributeError, KeyError):
        ctypes.CDLL(None, use_errno=True).syscall(_SYS_IOPRIO_SET[os.uname().machine], 1, 0, io)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(out_of_memory))


_M_ARENA_MAX, _M_MMAP_THRESHOLD = -8, -3  # mallopt(3)


def keep_memory_small() -> None:
    """For a process with threads: one heap for all of them, and large blocks go back as soon as they are freed. glibc only."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_ARENA_MAX, 1)
        libc.mallopt(_M_MMAP_THRESHOLD, 256 * 1024)


def give_back_memory() -> None:
    """What was freed goes back to the system; after work that took much for a moment. glibc only."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
