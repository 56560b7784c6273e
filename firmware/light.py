"""The box's light blinks while a file of its card or its site file is faulty: who stands below the pole with no laptop sees which box wants its card.

Run at every start, once the card was read, and whenever `nvr run` tells something else about the box (nvr-light.path). The kernel blinks, so nothing
runs in between. What the light showed before (card activity, mostly) is kept in /run and given back when all is good. A board without a
light, or with a kernel without the `timer` trigger, blinks nothing: page and RESULT.txt say the same.

Follows Documentation/leds/leds-class.rst of Linux: LED/trigger lists the triggers, the one in force in brackets.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from nvr import systemd, troubles
from nvr.troubles import Trouble

log = logging.getLogger(__name__)

LEDS = Path("/sys/class/leds")
SETUP = Path("/run/nvr-setup")  # what firstboot.py found on the card
FORMER = Path("/run/nvr-light")  # a file for each light that blinks by us, with the trigger it had before
BLINK = "timer"
# Twice a second, as long on as off: an activity light flickers, `heartbeat` beats twice and rests.
HALF_MS = 250
# In this order; the first word that stands in a name wins. "ACT" and "led0" are the Raspberry Pi's, the others are usual in device trees.
WORDS = ("act", "led0", "activity", "status", "sys", "user", "work", "standby", "heartbeat")


def chosen(names: Iterable[str]) -> str | None:
    """The light to blink with, of all that the board has; None where none of them is one. Never a keyboard's, a network port's or a storage device's own."""
    lights = sorted(name for name in names if not re.match(r"input\d|mmc\d|enp|eth\d|end\d|wlan|phy\d", name))
    return next((name for word in WORDS for name in lights if word in re.split(r"[^a-z0-9]+", name.lower())), None)


def is_wrong(found: Sequence[Trouble]) -> bool:
    return any(each.kind in (troubles.SITE, troubles.CARD) for each in found)


def show(wrong: bool, leds: Path, former: Path) -> str:
    """Have the light blink, or give back what it showed; returns what was done, for the log. Raises OSError."""
    kept = sorted(former.iterdir()) if former.is_dir() else []
    if not wrong:
        for path in kept:
            (leds / path.name / "trigger").write_text(path.read_text())
            path.unlink()
        return f"{kept[0].name} shows again what it showed before" if kept else ""
    if kept:
        return ""
    name = chosen(path.name for path in leds.iterdir()) if leds.is_dir() else None
    if name is None:
        return "this board has no light that could blink"
    triggers = (leds / name / "trigger").read_text()
    if BLINK not in re.findall(r"[\w-]+", triggers):
        return f"{name} cannot blink: its kernel has no trigger {BLINK!r}"
    before = re.search(r"\[([\w-]+)\]", triggers)
    former.mkdir(exist_ok=True)
    (former / name).write_text(before[1] if before else "none")
    (leds / name / "trigger").write_text(BLINK)
    for delay in ("delay_on", "delay_off"):  # they are there once the trigger is
        (leds / name / delay).write_text(str(HALF_MS))
    return f"{name} blinks"


def main() -> int:
    systemd.set_up_logging("light")
    told = [*troubles.read(SETUP), *troubles.read(Path(os.environ.get("NVR_DATA", "/data/nvr")) / "run")]
    try:
        done = show(is_wrong(told), LEDS, FORMER)
    except OSError as error:
        log.warning("the light: %s", error)
        return 1
    if done:
        log.info("%s", done)
    return 0


if __name__ == "__main__":
    sys.exit(main())
