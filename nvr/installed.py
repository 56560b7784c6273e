"""Which system runs on this box, and what became of the last update: for the heartbeat and for the page."""

from __future__ import annotations

import json
from pathlib import Path

# Where the image's firmware keeps it (docs/update.md); DATA/run/update.json while the uplink fetches one, or where something else updates the box.
LAST_UPDATE = Path("/data/update/last.json")


def slot() -> str:
    """The slot this system was started from, as the boot loader said; "" where there are none."""
    try:
        words = Path("/proc/cmdline").read_text().split()
    except OSError:
        return ""
    return next((word.partition("=")[2][:20] for word in words if word.startswith("rauc.slot=")), "")


def last_update(run_dir: Path, firmware: Path = LAST_UPDATE) -> dict[str, str]:
    """Its state, version and reason; {} when nobody says."""
    for path in (run_dir / "update.json", firmware):
        try:
            said = json.loads(path.read_bytes()[:4096])
            return {key: str(said[key])[:200] for key in ("state", "version", "reason") if key in said}
        except (OSError, ValueError, TypeError, RecursionError):
            continue
    return {}
