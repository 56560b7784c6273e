"""The newest lines of nvr's own services, for whoever looks after a box that is far away: bounded, and without the secrets of its site file.

Our programs write no secret into the log; what is blotted out here is what a foreign library or a camera's answer might have brought there.
The journal is read with `journalctl`, which the image lets the user nvr do; where there is none, that is said.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Collection
from urllib.parse import quote

from nvr.errors import NvrError
from nvr.site_settings import Site

LINES_MOST = 500
BYTES_MOST = 64 << 10  # of one reply; a message of the wire takes four times as much
LINE_BYTES_MOST = 2000
UNITS = "nvr*"
ANSWER_S = 20.0
BLOT = "(blotted out)"
_SHORTEST = 4  # a shorter secret would blot out half of every line, and be told by it


class NoLog(NvrError):
    """This box keeps no log that nvr may read."""


def newest(site: Site, lines: int) -> list[str]:
    """At most `lines` of them, oldest first. Waits for the journal. Raises NoLog."""
    command = ["journalctl", "--quiet", "--no-pager", "--output=short-iso", f"--unit={UNITS}", f"--lines={lines}"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=ANSWER_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoLog(f"the log cannot be read: {error}") from None
    if done.returncode != 0 or not done.stdout:
        told = done.stderr.decode("utf-8", "replace").strip().partition("\n")[0]
        raise NoLog(f"there is no log that nvr may read{f': {told}' if told else ''}"[:300])
    return bounded(scrubbed(done.stdout.decode("utf-8", "replace"), secrets_of(site)).splitlines()[-lines:])


def secrets_of(site: Site) -> set[str]:
    """All that must not leave the box, as it stands in the site file and as it stands in an address."""
    found = {
        str(getattr(stream, "password", ""))
        for camera in site.cameras
        for stream in (camera.main, camera.small)
        if stream is not None
    }
    found.add(site.hub.code if site.hub is not None else "")
    return {each for secret in found if len(secret) >= _SHORTEST for each in (secret, quote(secret, safe=""))}


def scrubbed(text: str, secrets: Collection[str]) -> str:
    text = re.sub(r"(\w+://)[^/\s:@]+:[^/\s@]+@", rf"\1{BLOT}@", text)
    text = re.sub(r"(?i)((?:basic|bearer)\s+)[A-Za-z0-9+/=._~-]{8,}", rf"\1{BLOT}", text)
    text = re.sub(r"(/enter#)\S+", rf"\1{BLOT}", text)  # the one-time link to the page, which a first start prints
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, BLOT)
    return text


def bounded(lines: list[str]) -> list[str]:
    """The newest that fit into BYTES_MOST."""
    kept: list[str] = []
    size_bytes = 0
    for line in reversed(lines):
        line = "".join(letter if letter.isprintable() else "?" for letter in line[:LINE_BYTES_MOST])
        size_bytes += len(line.encode()) + 1
        if size_bytes > BYTES_MOST:
            break
        kept.append(line)
    return kept[::-1]
