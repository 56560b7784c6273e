"""Being watched: what systemd wants to hear (ready, alive, log lines with fields), and ending with the box.

Does nothing where there is no systemd. The only place that imports systemd-python. Notifications follow sd_notify(3):
one datagram to the socket named in NOTIFY_SOCKET, which needs no library, so that a box without systemd-python is
still watched.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import socket
import sys


def notify(**fields: str) -> None:
    """Tell systemd, e.g. notify(READY="1", STATUS="4 cameras recording"). Silent where nobody listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address[0] == "@":
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as datagram:
        try:
            datagram.sendto("\n".join(f"{key}={value}" for key, value in fields.items()).encode(), address)
        except OSError as error:
            logging.getLogger(__name__).warning("systemd does not take notifications: %s", error)


def watchdog_interval_s() -> float | None:
    """How often systemd wants a sign of life (half of WatchdogSec); None when it wants none."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID", str(os.getpid()))
    if not microseconds.isdigit() or pid != str(os.getpid()):
        return None
    return int(microseconds) / 2e6


def environment_for_children(sign_fd: int = -1) -> dict[str, str]:
    """What end_with_parent() and sign_of_life() of a child want to know. `sign_fd`: where it is to write; it must inherit that."""
    told = {_PARENT: str(os.getpid())} | ({_SIGN: str(sign_fd)} if sign_fd >= 0 else {})
    return {**{key: value for key, value in os.environ.items() if key != _SIGN}, **told}


def sign_of_life() -> None:
    """Tell the box that the main thread goes round; never waits. Silent where no box watches.

    To be called at least every few seconds, from where the work of a process comes by, and from no thread that would go on without it.
    """
    fd = os.environ.get(_SIGN, "")
    if fd.isdigit():
        with contextlib.suppress(OSError):  # full: the box is busy and has signs enough
            os.write(int(fd), b".")


async def signs_of_life() -> None:
    """sign_of_life() for a process whose main thread is an event loop. Run until cancelled."""
    import asyncio  # here: `record` has none, and its memory is counted

    while True:
        sign_of_life()
        await asyncio.sleep(SIGN_S)


def end_with_parent() -> None:
    """Have the kernel end this process when its box is killed (prctl(2)): nobody would watch it, start it again or stop it.

    Raises SystemExit if that has happened already.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.environ.get(_PARENT, str(os.getppid())) != str(os.getppid()):
        raise SystemExit(1)


SIGN_S = 1.0
_PR_SET_PDEATHSIG = 1
_PARENT = "NVR_BOX_PID"
_SIGN = "NVR_SIGN_FD"


class StreamField(logging.Filter):
    """Gives each record of a stream's logger the journal fields CAMERA and STREAM (`extra={"stream": ...}`)."""

    def filter(self, record: logging.LogRecord) -> bool:
        stream = getattr(record, "stream", None)
        if isinstance(stream, str):
            record.STREAM = stream
            record.CAMERA = stream.partition("/")[0]
        return True


def set_up_logging(process: str, level: int = logging.INFO) -> None:
    """Log to the journal with fields when systemd started us and its library is there, else to standard error."""
    handler: logging.Handler | None = None
    if os.environ.get("JOURNAL_STREAM"):
        try:
            from systemd.journal import JournalHandler

            handler = JournalHandler(SYSLOG_IDENTIFIER=f"nvr-{process}")
            handler.setFormatter(logging.Formatter("%(message)s"))
        except ImportError:
            pass
    if handler is None:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter(f"%(asctime)s {process} %(levelname).1s %(message)s", "%H:%M:%S"))
    handler.addFilter(StreamField())
    logging.basicConfig(level=level, handlers=[handler], force=True)
