"""`nvrctl box update --hub`: a bundle is stored at the hub and rolled out to one box, which fetches it over its own link.

The hub cannot check a bundle's signature; the box does, and goes back by itself if it does not record again (docs/update.md).
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nvr.errors import NvrError
from tools.nvrctl.hub_client import HubClient

LOOK_S = 5.0
NOT_UPDATED = ("failed", "skipped")  # how a box may end but for "good"
_VERSION = re.compile(r"[A-Za-z0-9._+~-]{1,64}")
_OF_NAME = re.compile(r"(\d[\w.+~]*\w)(?=\.raucb$)")  # as the hub's page reads it from nvr-virt-1.2.raucb


class UpdateFailed(NvrError):
    """The box did not take the update, or the hub stopped it."""


def version_of(bundle: Path, given: str | None) -> str:
    """What the hub calls it. Raises NvrError."""
    found = _OF_NAME.search(bundle.name)
    version = given or (found[1] if found else "")
    if not _VERSION.fullmatch(version):
        raise NvrError(
            f"{version!r} is no version" if version else f"which version is {bundle.name}?",
            hint="Say --version, such as --version 1.2.",
        )
    return version


def store(client: HubClient, bundle: Path, version: str, on_progress: Callable[[int], None]) -> str:
    """Send the file, unless it lies at the hub already; returns its SHA-256, in hex. Raises NvrError, OSError."""
    with open(bundle, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    stored = client.ask("GET", "/api/v1/bundles").get("bundles", [])
    if not any(each.get("sha256") == digest for each in stored):
        client.send(f"/api/v1/bundles?version={version}&sha256={digest}", bundle, on_progress)
    return digest


def begin(client: HubClient, box: dict[str, Any], sha256: str) -> int:
    """The number of the roll-out, to this box alone. Raises HubRefused: another one is under way."""
    body = {"sha256": sha256, "boxes": [box["id"]], "first": box["id"]}
    return int(client.ask("POST", "/api/v1/rollouts", body)["id"])


def follow(client: HubClient, number: int, on_change: Callable[[str, str], None]) -> tuple[str, str]:
    """(state, detail) of the box at its end, telling each change; raises UpdateFailed, HubUnreachable."""
    before = ("", "")
    while True:
        found = [each for each in client.ask("GET", "/api/v1/rollouts").get("rollouts", []) if each.get("id") == number]
        if not found or not found[0].get("boxes"):
            raise UpdateFailed(f"the hub has no roll-out {number} any more")
        rollout, box = found[0], found[0]["boxes"][0]
        now = (str(box.get("state", "")), str(box.get("detail", "")))
        if now != before:
            on_change(*now)
            before = now
        if now[0] == "good":
            return now
        if now[0] in NOT_UPDATED or rollout.get("state") != "running":
            why = now[1] or str(rollout.get("why") or "") or f"it is {rollout.get('state')}"
            raise UpdateFailed(
                f"{box.get('name')} was not updated: {why}", hint="What it runs now: nvrctl box status BOX --hub URL"
            )
        time.sleep(LOOK_S)
