"""Updates on the box: `install` puts a bundle into the other slot by RAUC and restarts; `status` says what became of the last one.

RAUC checks signature, compatibility and, block by block while writing, the content. Before it writes anything it asks
`before-install`: a slot that has not proved itself yet must not overwrite the only one that has. That is also the moment
at which what records now is written down, for `gate.py` to ask for after the restart.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from firmware import gate, slot_state, slots

DATA = Path(os.environ.get("NVR_DATA", "/data/nvr"))
HEAR_S = 15.0
TRIED = "tried.json"  # in /data/update: which bundle of the hub's, and how often
TRIES = 3
BUNDLE_NAME = re.compile(r"[0-9a-f]{64}\.raucb")


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
    target = slot_state.other(slots.booted_slot() or "A")
    version = _version_in(bundle)
    # Before a byte is written: what a power cut leaves half done must not be taken for the update before it.
    here = {"slot": target, "version": version, "wall_ms": time.time_ns() // 1_000_000}
    gate.keep(folder, gate.LAST, {"state": "installing", **here, "reason": ""})
    told = subprocess.run(
        ["rauc", "install", bundle], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    print(told.stdout, end="")
    here = {"slot": target, "version": version, "wall_ms": time.time_ns() // 1_000_000}
    if told.returncode != 0:
        lines = told.stdout.splitlines()
        # RAUC's own word for why, then whatever looks like one.
        why = [line.removeprefix("LastError: ") for line in lines if line.startswith("LastError:")]
        lines = why or [line for line in lines if "rror" in line or "ailed" in line] or lines
        reason = (lines or ["RAUC gave no reason"])[-1][:500]
        gate.keep(folder, gate.LAST, {"state": "refused", **here, "reason": reason})
        print(f"refused: {reason}", file=sys.stderr)
        return 1
    gate.keep(folder, gate.LAST, {"state": "restarting" if restart else "installed", **here, "reason": ""})
    if restart:
        slots.restart()
    return 0


def requested(data_dir: Path = DATA, folder: Path = gate.UPDATE_DIR) -> int:
    """Install what the uplink fetched for the hub (nvr/uplink/bundles.py), and restart into it. Exit status 1 when it was refused.

    The order comes from a process without rights: it names a file in its own folder by that file's SHA-256 and can do no more;
    RAUC checks the signature. The order is taken back when it has been dealt with, so a power cut in the middle only costs time; one
    that cannot be dealt with in TRIES starts is refused.
    """
    place = data_dir / "updates"
    ready, bundle = place / "ready.json", None
    try:
        said = json.loads(ready.read_bytes()[:4096])
        name, version = str(said["file"]), str(said["version"])[:64]
        bundle = place / name if BUNDLE_NAME.fullmatch(name) else None
    except FileNotFoundError:
        return 0
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        version = "unknown"
    try:
        if bundle is None or bundle.is_symlink() or not bundle.is_file():
            return _refuse(folder, version, "the order names no bundle")
        if _runs_already(folder, bundle):
            if (last := gate.kept(folder, gate.LAST))["state"] != "committed":
                gate.keep(folder, gate.LAST, {**last, "state": "restarting"})
            print(f"{version} is installed and runs: the power failed before its order was taken back", flush=True)
            return 0
        if (tries := _tries(folder, bundle.name)) > TRIES:
            return _refuse(folder, version, f"it could not be installed in {TRIES} tries")
        print(f"installing {version}, ordered by the hub, try {tries}", flush=True)
        status = install(str(bundle), folder, restart=False)
        if status == 0:
            gate.keep(folder, gate.LAST, {**gate.kept(folder, gate.LAST), "state": "restarting"})
    finally:
        ready.unlink(missing_ok=True)
        (data_dir / "run" / "update.json").unlink(missing_ok=True)  # from here on last.json says how it goes
        for path in place.glob("*.raucb"):
            path.unlink()
    if status == 0:
        slots.restart()
    return status


def _runs_already(folder: Path, bundle: Path) -> bool:
    """Whether this slot is the one that the bundle was written to. One that is not written to its end has no attempts, and does not start."""
    tried, last = gate.kept(folder, TRIED), gate.kept(folder, gate.LAST)
    return (
        tried.get("file") == bundle.name
        and last.get("slot") == slots.booted_slot()
        and last.get("state") in ("installing", "installed", "restarting", "committed")
        and last.get("version") == _version_in(str(bundle))
    )


def _tries(folder: Path, name: str) -> int:
    """Which try at this bundle this is, counted before it begins."""
    before = gate.kept(folder, TRIED)
    try:
        tries = int(before["tries"]) + 1 if before["file"] == name else 1
    except (ValueError, TypeError, KeyError):
        tries = 1
    gate.keep(folder, TRIED, {"file": name, "tries": tries})
    return tries


def _refuse(folder: Path, version: str, reason: str) -> int:
    target = slot_state.other(slots.booted_slot() or "A")
    gate.keep(
        folder, gate.LAST,
        {"state": "refused", "slot": target, "version": version, "wall_ms": time.time_ns() // 1_000_000, "reason": reason},
    )  # fmt: skip
    print(f"refused: {reason}", file=sys.stderr)
    return 1


def _version_in(bundle: str) -> str:
    told = subprocess.run(["rauc", "info", "--output-format=json", bundle], capture_output=True, text=True, check=False)
    try:
        return str(json.loads(told.stdout)["version"])
    except (ValueError, KeyError, TypeError):
        return "unknown"


def status(folder: Path = gate.UPDATE_DIR, selector: Path = slots.SELECTOR) -> dict[str, object]:
    """For heartbeat and page: the running slot, the state, the last update and why it ended as it did."""
    state = slots.read_or_new(selector)
    last = gate.kept(folder, gate.LAST) or None
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
        case ["requested"]:
            return requested()
        case ["restart"]:
            slots.restart()
            return 0
        case ["status"]:
            print(json.dumps(status(), ensure_ascii=False))
            return 0
    print(
        "usage: update install [--no-restart] BUNDLE | requested | restart | status | before-install", file=sys.stderr
    )
    return 2


if __name__ == "__main__":
    sys.exit(main())
