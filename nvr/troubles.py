"""What is wrong with a box itself, told by `nvr run` for the page and the heartbeat: DATA/run/troubles.json.

Cameras and disk speak for themselves through `record`. Here stands what no other process can say: a site file that is not in force,
a process that hung or does not stay alive, a file of the card that was not taken.

What the system around `nvr run` found before it started stands in a file of the same form, in the folder that the environment names
(TOLD_BY; firmware/firstboot.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nvr.clock import SystemClock
from nvr.media import ClockState

SITE, PROCESS, BUSY, CARD = "site file", "process", "box busy", "card file"  # kinds
TOLD_BY = "NVR_TOLD"
NAME = "troubles.json"
MOST = 20
DETAIL_MOST = 500
FILE_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Trouble:
    kind: str  # SITE, PROCESS, BUSY or CARD
    detail: str
    since_ms: int  # wall time; 0 where nobody knew it


def write(run_dir: Path, troubles: Sequence[Trouble]) -> None:
    """Replace what was told; not synced, because it is only of now. A disk that is away is told elsewhere."""
    draft = run_dir / f".{NAME}"
    with contextlib.suppress(OSError):
        draft.write_text(json.dumps([asdict(each) for each in troubles[:MOST]]))
        os.replace(draft, run_dir / NAME)


def read(run_dir: Path) -> tuple[Trouble, ...]:
    """What was told last; nothing for whatever is not that."""
    try:
        with open(run_dir / NAME, "rb") as file:
            found = json.loads(file.read(FILE_BYTES))
        return tuple(
            Trouble(str(each["kind"])[:40], str(each["detail"])[:DETAIL_MOST], int(each["since_ms"]))
            for each in found[:MOST]
        )
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return ()


def all_of(run_dir: Path, record: Mapping[str, Any], now_ms: int) -> tuple[Trouble, ...]:
    """With what `record` says in its status: that the processor was not to be had."""
    busy = str(record.get("box_busy") or "")[:DETAIL_MOST]
    return read(run_dir) + ((Trouble(BUSY, busy, now_ms),) if busy else ())


def of_the_card() -> tuple[Trouble, ...]:
    """What was wrong with the files of the card when the box started; nothing where no card brings files."""
    folder = os.environ.get(TOLD_BY)
    return tuple(each for each in read(Path(folder)) if each.kind == CARD) if folder else ()


class Teller:
    """Tells what is wrong now, where that changed; in a thread, because the disk may not answer and `nvr run` waits for nobody."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._clock = SystemClock()
        self._since_ms: dict[tuple[str, str], int] = {}
        self._told: list[Trouble] | None = None
        self._writing: threading.Thread | None = None

    def tell(self, found: Sequence[tuple[str, str]]) -> None:
        """All that is wrong now, as (kind, detail). Returns at once."""
        if set(found) != self._since_ms.keys():
            now_ms = self._now_ms()
            self._since_ms = {each: self._since_ms.get(each, now_ms) for each in found}
        now = [Trouble(kind, detail, since_ms) for (kind, detail), since_ms in self._since_ms.items()]
        if now == self._told or (self._writing is not None and self._writing.is_alive()):
            return
        self._told = now
        self._writing = threading.Thread(target=write, args=(self._run_dir, now), name="troubles", daemon=True)
        self._writing.start()

    def _now_ms(self) -> int:
        reading = self._clock.read()
        return 0 if reading.state is ClockState.UNKNOWN else reading.wall_ns // 1_000_000
