"""Is a clip that arrived what its box recorded? nvr/verify_clip.py says so, in a process of its own.

A clip may be anything up to the largest upload. In its own process it can use up neither the memory nor the time of the hub, nor hold
up the others while Python computes. Run as `python -m nvr.hub.proof FILE PUBLIC_KEY`; prints the verdict as JSON.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from nvr import verify_clip

MEMORY_BYTES = (
    3 << 30
)  # the verifier maps the file and copies one fragment at a time; a forged one is as large as the file
CPU_S = 120
WAIT_S = 300.0
VERDICT_BYTES_MOST = 256 * 1024


def verdict(path: Path, public_key: bytes, camera: str) -> tuple[bool | None, dict[str, Any]]:
    """(genuine, the whole verdict); None with the reason where it could not be judged. Never raises for what is in the file."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "nvr.hub.proof", str(path), public_key.hex()],
            capture_output=True, timeout=WAIT_S, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        said = json.loads(done.stdout) if len(done.stdout) <= VERDICT_BYTES_MOST else None
    except (subprocess.TimeoutExpired, ValueError, OSError) as error:
        return None, {"genuine": None, "reasons": [f"it could not be judged: {type(error).__name__}"]}
    if not isinstance(said, dict) or not isinstance(said.get("genuine"), bool):
        return None, {"genuine": None, "reasons": ["it could not be judged"]}
    if said["genuine"] and camera and said.get("camera") != camera:
        said["genuine"] = False
        said["reasons"] = [f"it is of camera {said.get('camera')}, and was sent as one of {camera}"]
    return said["genuine"], said


def main(path: str, key: str) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    os.nice(5)
    try:
        said = verify_clip.verify(path, key)
    except Exception as error:  # whatever a forged file makes of it
        said = {"genuine": False, "reasons": [f"it is damaged in a way that stops the check: {type(error).__name__}"]}
    said["reasons"], said["notes"] = (
        [str(each)[:500] for each in said.get("reasons", [])[:50]],
        [str(each)[:500] for each in said.get("notes", [])[:50]],
    )
    print(json.dumps({key: value if not isinstance(value, str) else value[:500] for key, value in said.items()}))


if __name__ == "__main__":
    main(*sys.argv[1:3])
