"""A Wi-Fi that the card names and that is not joined: iwd is started anew, and tries again as on the first day.

iwd takes every handshake that fails for a wrong passphrase, also one that a weak signal or an access point that was just starting cut short, and
from then on waits for a person to join the network by hand. Nobody is there. It remembers this as long as it runs and no longer, so a
new start is all it needs. What it remembers of access points is bounded in firmware/etc/iwd/main.conf.

Run by nvr-wifi.timer where there is a network to join. A radio that is just shaking hands is left alone.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

INTERFACES = Path("/sys/class/net")
# Linux, Documentation/networking/operstates.rst: associated and waiting for the keys is "dormant".
BUSY = ("up", "dormant")
START_ANEW = ("systemctl", "try-restart", "iwd.service")


def silent_radios(interfaces: Path = INTERFACES) -> list[str]:
    """The radios, when there are some and none of them has joined or is about to."""
    states = {path.name: _state(path) for path in interfaces.glob("*") if (path / "phy80211").exists()}
    return [] if any(state in BUSY for state in states.values()) else sorted(states)


def _state(interface: Path) -> str:
    try:
        return (interface / "operstate").read_text().strip()
    except OSError:
        return ""  # unplugged meanwhile


def main() -> int:
    radios = silent_radios()
    if not radios:
        return 0
    print(f"{', '.join(radios)}: no Wi-Fi joined, iwd is started anew", flush=True)
    return subprocess.run(START_ANEW, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
