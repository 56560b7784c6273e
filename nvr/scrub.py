"""Reads footage back from the disk itself, slowly and for ever, and says what the disk has forgotten.

Cards lie: they acknowledge what they never keep, wrap round at half the size that is printed on them, or lose blocks after years. A
CRC at the next start finds that when it is too late. This process reads every finished segment, the newest and the oldest in turn, past the
page cache, at a rate that no camera notices, with the priority of nobody. What does not read back twice is written into `forgotten` in
its ring (ring/forgotten.py), logged, and told in DATA/run/scrub.json; the footage before and after it stays what it is. It also keeps
the account of what was written to the disk (wear.py).

    python -m nvr.scrub --data DIR
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nvr import fmp4, systemd, wear
from nvr.clock import SystemClock, boot_id
from nvr.errors import NvrError
from nvr.fmp4 import BadAtom
from nvr.priority import step_back
from nvr.ring import forgotten
from nvr.ring.disk import DeviceReader
from nvr.ring.forgotten import Forgotten
from nvr.ring.layout import SegmentState
from nvr.ring.reader import Ring, Row, streams

log = logging.getLogger(__name__)

RATE_BYTES_PER_S = 2_000_000  # a tenth of what a slow card reads; 16 GB in two and a quarter hours
LOOK_AGAIN_S = 20.0
STATUS_EVERY_S = 5.0
TOLD_MOST = 50
WEAR_EVERY_S = 600.0  # the account of what was written is kept this often: a power cut costs ten minutes of it
STATUS_NAME = "scrub.json"
STATUS_MOST_BYTES = 100_000


@dataclass
class Seen:
    """What was read of one ring, so that everything has its turn and nothing is read twice in a row."""

    laps: dict[int, int] = field(default_factory=dict)  # segment -> lap that was read back
    turns: int = 0


def next_segment(sealed: list[SegmentState], seen: Seen) -> SegmentState | None:
    """One that was not read in this lap, of those oldest first: the newest and the oldest in turn; None when all of them were.

    A card that drops writes shows at the newest; one that wraps round has written over the oldest.
    """
    unread = [state for state in sealed if seen.laps.get(state.number) != state.lap]
    if not unread:
        return None
    seen.turns += 1
    return unread[-1] if seen.turns % 2 else unread[0]


class Scrub:
    """All rings of a box; `turn()` reads one segment."""

    def __init__(
        self,
        data_dir: Path,
        *,
        rate_bytes_per_s: float = RATE_BYTES_PER_S,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self.data_dir = data_dir
        self._rate, self._wait = rate_bytes_per_s, wait
        self._seen: dict[str, Seen] = {}
        self.read_bytes = 0
        self.segments = 0
        self.passes = 0
        self.forgotten: dict[str, int] = {}  # stream -> fragments that its ring has lost now
        self.told: list[dict[str, Any]] = []  # the newest faults
        self.trouble = ""
        self.is_direct = True
        self._wear = wear.load(data_dir)
        self._kept_wear_s = float("-inf")

    def look_at_wear(self, mono_s: float) -> dict[str, Any] | None:
        """How much was written to the recording disk, and how long it will bear that; None where the kernel does not say."""
        disk = wear.disk_of(self.data_dir / "rings")
        if disk is None:
            return None
        self._wear = wear.looked(self._wear, disk, boot_id().hex(), mono_s)
        if mono_s - self._kept_wear_s >= WEAR_EVERY_S:
            self._kept_wear_s = mono_s
            with contextlib.suppress(OSError):
                wear.save(self.data_dir, self._wear)
        return {"disk": disk.name, "size_bytes": disk.size_bytes, **wear.forecast(self._wear, disk).to_json()}

    def turn(self) -> bool:
        """Read back one segment; False when there was nothing left to read. Never raises for the disk."""
        try:
            paths = streams(self.data_dir)
        except NvrError as error:
            self.trouble = str(error)
            return False
        # The ring with the fewest segments read goes first, so that one large ring does not keep the others waiting.
        for stream in sorted(paths, key=lambda name: len(self._seen.setdefault(name, Seen()).laps)):
            try:
                with contextlib.closing(Ring(paths[stream])) as ring:
                    state = next_segment(ring.sealed(), self._seen[stream])
                    if state is not None:
                        self._read(ring, state)
                        self._seen[stream].laps[state.number] = state.lap
                        self.segments += 1
                        self.trouble = ""
                        return True
            except (NvrError, OSError) as error:
                self.trouble = f"{stream}: {error}"
                log.debug("%s", self.trouble)
        if any(seen.laps for seen in self._seen.values()):
            self.passes += 1
            for seen in self._seen.values():
                seen.laps.clear()
        return False

    def _read(self, ring: Ring, state: SegmentState) -> None:
        known = {each.sequence: each for each in self._known(ring)}
        before = dict(known)
        reader = DeviceReader(ring.path / f"{state.number:06}.mp4")
        self.is_direct = reader.is_direct
        try:
            for row in self._rows(ring, state, set(known)):
                what = self._fault(reader, ring, row)
                self._wait(row.position.size_bytes / self._rate)
                if not what:
                    continue
                what = self._fault(reader, ring, row)  # a reader that was unlucky once is no reason to give footage up
                if what and ring.still_there(row.position):
                    known[row.record.sequence] = Forgotten(state.number, state.lap, row.record.sequence, what)
                    self._tell(ring.stream, row, what)
        finally:
            reader.close()
        if known != before:
            try:
                forgotten.save(ring.path, known.values())
            except OSError as error:
                self.trouble = f"{ring.stream}: what the disk forgot cannot be written down: {error}"
        self.forgotten[ring.stream] = len(known)

    def _known(self, ring: Ring) -> list[Forgotten]:
        try:
            found = forgotten.load(ring.path)
        except (NvrError, OSError) as error:
            log.warning("%s", error)
            return []
        return forgotten.still_true(found, {state.number: state.lap for state in ring.sealed()})

    def _rows(self, ring: Ring, state: SegmentState, skip: set[int]) -> Iterator[Row]:
        for row in ring.rows(state.first_sequence):
            if row.record.sequence > state.last_sequence:
                return
            if row.position.segment == state.number and row.record.sequence not in skip:
                yield row

    def _fault(self, reader: DeviceReader, ring: Ring, row: Row) -> str:
        """Why a fragment does not read back; "" when it does, or when its place was used again meanwhile."""
        try:
            data = reader.read(row.position.size_bytes, row.position.offset)
            self.read_bytes += len(data)
            _, record = fmp4.check_fragment(data)
        except BadAtom as fault:
            what = str(fault)
        except OSError as error:
            what = f"the disk says: {error.strerror}"
        else:
            if (record.stream, record.sequence, record.hash) == (ring.stream, row.record.sequence, row.record.hash):
                return ""
            what = f"fragment {record.sequence} of {record.stream} lies in its place"
        return what if ring.still_there(row.position) else ""

    def _tell(self, stream: str, row: Row, what: str) -> None:
        log.error("%s: fragment %d, durable once, does not read back from the disk: %s. Replace this disk.", stream,
                  row.record.sequence, what, extra={"stream": stream})  # fmt: skip
        self.told = [*self.told, {
            "stream": stream, "sequence": row.record.sequence, "segment": row.position.segment, "offset": row.position.offset,
            "wall_ms": row.record.wall_ns // 1_000_000, "what": what,
        }][-TOLD_MOST:]  # fmt: skip

    def status(self) -> dict[str, Any]:
        return {
            "read_bytes": self.read_bytes, "segments": self.segments, "passes": self.passes, "is_direct": self.is_direct,
            "forgotten": {stream: count for stream, count in self.forgotten.items() if count}, "newest": self.told,
            "trouble": self.trouble, "at_ms": time.time_ns() // 1_000_000, "wear": self.look_at_wear(SystemClock().mono_ns() / 1e9),
        }  # fmt: skip

    def write_status(self) -> None:
        """For the page and the heartbeat; a disk that is away has no place for it, and that is told elsewhere."""
        path = self.data_dir / "run" / STATUS_NAME
        draft = path.with_suffix(".new")
        with contextlib.suppress(OSError):
            draft.write_text(json.dumps(self.status()))
            os.replace(draft, path)


def read_status(data_dir: Path) -> dict[str, Any]:
    """What the scrub told last; empty when it has not told anything."""
    try:
        found = json.loads((data_dir / "run" / STATUS_NAME).read_bytes()[:STATUS_MOST_BYTES])
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m nvr.scrub", description="Read a box's footage back from the disk, slowly."
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the box's data directory")
    parser.add_argument(
        "--rate-mb", type=float, default=RATE_BYTES_PER_S / 1e6, help="megabytes a second (default %(default)g)"
    )
    options = parser.parse_args()
    systemd.set_up_logging("scrub")
    systemd.end_with_parent()
    step_back()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    told_s = float("-inf")
    scrub: Scrub

    def wait(seconds: float) -> None:
        nonlocal told_s
        systemd.sign_of_life()
        if stopping.wait(seconds):
            raise SystemExit(0)
        if time.monotonic() - told_s > STATUS_EVERY_S:
            told_s = time.monotonic()
            scrub.write_status()

    scrub = Scrub(options.data, rate_bytes_per_s=options.rate_mb * 1e6, wait=wait)
    while True:
        if not scrub.turn():
            wait(LOOK_AGAIN_S)


if __name__ == "__main__":
    sys.exit(main())
