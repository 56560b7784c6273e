"""Every ten minutes: what must survive a power cut on a box whose log and clock live in memory.

The date of chrony's drift file is where a box without a battery clock starts from. The newest log lines from notice upwards go
to a file that is bounded twice: at most LINES_MAX a time, and two files of FILE_BYTES.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SYSTEM = Path("/data/system")
LINES_MAX = 500
FILE_BYTES = 512_000


def keep_time(drift: Path) -> None:
    """A clock that went back to its start is not kept: it would take the next start back too."""
    import time

    try:
        if drift.stat().st_mtime < time.time():
            os.utime(drift)
    except FileNotFoundError:
        drift.write_text("0.0 1000000.0\n")  # what chrony writes before it knows anything


def keep_log(folder: Path) -> None:
    """Append what the journal has since last time; the cursor is its own file, so that nothing comes twice."""
    log_path = folder / "journal.log"
    new = subprocess.run(
        ["journalctl", "--quiet", "--priority=notice", f"--cursor-file={folder / 'journal.cursor'}", f"--lines={LINES_MAX}", "--output=short-iso"],
        capture_output=True,
        check=False,
    ).stdout  # fmt: skip
    if not new:
        return
    if log_path.exists() and log_path.stat().st_size + len(new) > FILE_BYTES:
        log_path.replace(folder / "journal.log.1")
    with open(log_path, "ab") as file:
        file.write(new)
        file.flush()
        os.fsync(file.fileno())


def main() -> int:
    (SYSTEM / "log").mkdir(parents=True, exist_ok=True)
    keep_time(SYSTEM / "chrony" / "drift")
    keep_log(SYSTEM / "log")
    return 0


if __name__ == "__main__":
    sys.exit(main())
