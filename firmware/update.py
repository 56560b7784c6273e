"""Updates on the box: `install` puts a bundle into the other slot by RAUC and restarts; `status` says what became of the last one.

RAUC checks signature, compatibility and, block by block while writing, the content. Before it writes anything it asks
`before-install`: a slot that has not proved itself yet must not overwrite the only one that has. That is also the moment
at which what records now is written down, for `gate.py` to ask for after the restart.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from firmware import gate, slots

DATA = Path(os.environ.get("NVR_DATA", "/data/nvr"))
HEAR_S = 15.0


def before_install(data_dir: Path = DATA, folder: Path = gate.UPDATE_DIR, selector: Path = slots.SELECTOR) -> str:
    """Note what is true now. Returns why nothing may be installed, or ""."""
    slot = slots.booted_slot()
    if slot and not slots.read_or_new(selector).good(slot):
        return f"slot {slot} has not proved itself yet; the other one may be the only one that works"
    listener = gate.Listener(data_dir)
    until_s = time.monotonic() + HEAR_S
    while (now := listener.now()).recording is None and time.monotonic() < until_s:
        pass
    streams = tuple(sorted(name for name, is_recording in (now.recording or {}).items() if is_recording))
    gate.keep(folder, gate.BEFORE, asdict(gate.Before(gate.version_of_this_slot(), streams, bool(now.uplink))))
    return ""


def install(bundle: str, folder: Path = gate.UPDATE_DIR, *, restart: bool = True) -> int:
    """Exit status 0 when the other slot holds the bundle; the box then restarts unless `restart` is False."""
    target = slots.other(slots.booted_slot() or "A")
    told = subprocess.run(
        ["rauc", "install", bundle], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    print(told.stdout, end="")
    version = _version_in(bundle)
    here = {"slot": target, "version": version, "wall_ms": time.time_ns() // 1_000_000}
    if told.returncode != 0:
        lines = told.stdout.splitlines()
        # RAUC's own word for why, then whatever looks like one.
        why = [line.removeprefix("LastError: ") for line in lines if line.startswith("LastError:")]
        lines = why or [line for line in lines if "rror" in line or "ailed" in line] or lines
        gate.keep(
            folder, gate.LAST, {"state": "refused", **here, "reason": (lines or ["RAUC gave no reason"])[-1][:500]}
        )
        return 1
    gate.keep(folder, gate.LAST, {"state": "restarting" if restart else "installed", **here, "reason": ""})
    if restart:
        slots.restart()
    return 0


def _version_in(bundle: str) -> str:
    told = subprocess.run(["rauc", "info", "--output-format=json", bundle], capture_output=True, text=True, check=False)
    try:
        return str(json.loads(told.stdout)["version"])
    except (ValueError, KeyError, TypeError):
        return "unknown"


def status(folder: Path = gate.UPDATE_DIR, selector: Path = slots.SELECTOR) -> dict[str, object]:
    """For heartbeat and page: the running slot, the state, the last update and why it ended as it did."""
    state = slots.read_or_new(selector)
    try:
        last = json.loads((folder / gate.LAST).read_bytes())
    except (OSError, ValueError):
        last = None
    return {"slot": slots.booted_slot(), "version": gate.version_of_this_slot(), "state": asdict(state), "last": last}


def main() -> int:
    match sys.argv[1:]:
        case ["before-install"]:
            refused = before_install()
            if refused:
                print(refused, file=sys.stderr)
            return 1 if refused else 0
        case ["install", bundle]:
            return install(bundle)
        case ["install", "--no-restart", bundle]:
            return install(bundle, restart=False)
        case ["status"]:
            print(json.dumps(status(), ensure_ascii=False))
            return 0
    print("usage: update install [--no-restart] BUNDLE | status | before-install", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
