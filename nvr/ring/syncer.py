"""The second thread of `record`: makes what was written durable, for all streams in one burst.

Between two bursts lies as much time as `loss_bound_s` allows (layout.sync_interval_s says how much), less when a
stream writes faster than recovery would look. After each burst it tells which fragments are durable, and then does
the housekeeping that the next minutes need (keeper.py).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from nvr.clock import Clock
from nvr.errors import NvrError
from nvr.media import Cause
from nvr.ring import holds, layout
from nvr.ring.disk import Directory, DiskFailed
from nvr.ring.holds import Hold
from nvr.ring.keeper import Keeper, Signer
from nvr.ring.recover import Recovered
from nvr.ring.writer import UNSYNCED_MAX_BYTES, Writer

log = logging.getLogger(__name__)

NS_PER_S = 1_000_000_000
_KEEP_EVERY_S = 2.0  # a ring in trouble is tried again, however long the sync interval is
_SLOW_S = 1.0  # a burst that takes longer than this is worth a line in the log
_REMEMBER = 0.9  # of the longest burst, each time: a stall counts for the next half minute


class Syncer:
    """Owns every ring's housekeeping. One thread; `burst()` by hand does the same."""

    def __init__(
        self, writers: Iterable[Writer], *, clock: Clock, loss_bound_s: float, identity: Signer | None = None,
        holds_path: Path | None = None, on_durable: Callable[[str, int], None] = lambda stream, sequence: None,
        on_lost: Callable[[str, int, int], None] = lambda stream, first, last: None,
        open_directory: Callable[..., Directory] = Directory, before_opening: Callable[[], object] = lambda: None,
    ) -> None:  # fmt: skip
        """`on_durable(stream, sequence)` and `on_lost(stream, first, last)` are called in the syncer's thread.

        `before_opening` is called before rings are opened, and raises DiskFailed if they must not be (check_same_disk).
        """
        self._clock = clock
        self._loss_bound_s = loss_bound_s
        self._holds_path = holds_path
        self._holds: Sequence[Hold] = ()
        self._holds_seen: tuple[int, int, int] | None = None
        self._on_durable = on_durable
        self._before_opening = before_opening
        self._keepers = [
            Keeper(writer, clock, identity=identity, open_directory=open_directory, on_lost=on_lost)
            for writer in writers
        ]
        self._told: dict[str, int] = {}
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._fragment_s = max((k.settings.fragment_s for k in self._keepers), default=1.0)
        self.bursts = 0
        self.last_burst_s = 0.0
        self.longest_burst_s = 0.0
        self._usual_burst_s = 0.0
        self._burst_began_ns: int | None = None  # of the one that is not over yet
        for keeper in self._keepers:
            keeper.writer.wake_syncer = self._wake.set

    def open(self) -> dict[str, Recovered]:
        """Recover every ring and have a first segment ready. One that cannot be opened is retried by the thread."""
        self._read_holds()
        recovered: dict[str, Recovered] = {}
        for keeper in self._keepers:
            try:
                self._before_opening()
                recovered[keeper.settings.stream] = keeper.open()
            except DiskFailed as failure:
                keeper.refuse(failure)
        return recovered

    def start(self) -> None:
        """Begin to sync in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="syncer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Make everything durable that the writers wrote, and let go of the files. The writers must be closed before."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.burst()
        for keeper in self._keepers:
            keeper.close()

    def interval_s(self) -> float:
        return layout.sync_interval_s(self._loss_bound_s, self._fragment_s * 1.1, self._usual_burst_s)

    def slow_text(self) -> str:
        """What a disk that is too slow for the loss bound costs, in words; "" while it keeps up. For any thread.

        A burst that has not ended counts as long as it has lasted: one that never ends is told, too.
        """
        began_ns, burst_s = self._burst_began_ns, self._usual_burst_s
        if began_ns is not None:
            burst_s = max(burst_s, (self._clock.mono_ns() - began_ns) / NS_PER_S)
        risk_s = layout.at_risk_s(self._loss_bound_s, self._fragment_s * 1.1, burst_s)
        if burst_s <= _SLOW_S or risk_s <= self._loss_bound_s:
            return ""
        return f"making footage durable takes {burst_s:.0f} s: a power cut would cost up to {risk_s:.0f} s of video, not {self._loss_bound_s:g} s"

    def _run(self) -> None:
        next_ns = self._clock.mono_ns() + round(self.interval_s() * NS_PER_S)
        while not self._stopping:
            wait_ns = next_ns - self._clock.mono_ns()
            if wait_ns > 0 and self._wake.wait(min(wait_ns / NS_PER_S, _KEEP_EVERY_S)):
                self._wake.clear()
                if self._stopping:
                    return
                # Somebody needs a segment, or wrote a lot: housekeeping now, syncs only if they are due.
                if not any(keeper.unsynced_bytes() > UNSYNCED_MAX_BYTES for keeper in self._keepers):
                    self._keep()
                    continue
            elif wait_ns > 0 and self._clock.mono_ns() < next_ns:
                self._keep()
                continue
            began_ns = self._clock.mono_ns()
            try:
                self.burst()
            except Exception:
                log.exception("the syncer goes on after an error of its own")
            next_ns = began_ns + round(self.interval_s() * NS_PER_S)

    def burst(self) -> None:
        """Sync all streams, tell what is durable, then do the housekeeping."""
        began_ns = self._burst_began_ns = self._clock.mono_ns()
        try:
            for keeper in self._keepers:
                keeper.sync()
        finally:
            self._burst_began_ns = None
        took_s = (self._clock.mono_ns() - began_ns) / NS_PER_S
        self.bursts += 1
        self.last_burst_s = took_s
        self.longest_burst_s = max(self.longest_burst_s, took_s)
        self._usual_burst_s = max(took_s, self._usual_burst_s * _REMEMBER)
        if took_s > _SLOW_S:
            log.warning("making all streams durable took %.1f s; at most %.1f s of video would be lost in a power cut now",
                        took_s, self._fragment_s + self.interval_s() + took_s)  # fmt: skip
        self._tell()
        self._keep()

    def _tell(self) -> None:
        for keeper in self._keepers:
            stream, sequence = keeper.settings.stream, keeper.writer.durable_sequence
            if sequence > self._told.get(stream, 0):
                self._told[stream] = sequence
                self._on_durable(stream, sequence)

    def _keep(self) -> None:
        self._read_holds()
        for keeper in self._keepers:
            try:
                keeper.keep(self._holds, self._before_opening)
            except Exception:
                # One ring's surprise must not stop the others from being synced.
                log.exception("%s: housekeeping of its ring failed", keeper.settings.stream)

    def _read_holds(self) -> None:
        """Look at holds.json again when it changed; one that cannot be read leaves the last ones in force."""
        if self._holds_path is None:
            return
        try:
            found = self._holds_path.stat()
            seen = (found.st_mtime_ns, found.st_size, found.st_ino)
        except FileNotFoundError:
            seen = (0, 0, 0)
        except OSError:
            return
        if seen == self._holds_seen:
            return
        self._holds_seen = seen
        try:
            self._holds = holds.load(self._holds_path)
        except NvrError as error:
            log.error("the holds stay as this process knew them, %d: %s %s", len(self._holds), error, error.hint)

    def facts(self) -> dict[str, object]:
        """For the status: how long syncs take, and what the rings have."""
        return {
            "bursts": self.bursts,
            "last_burst_s": round(self.last_burst_s, 3),
            "longest_burst_s": round(self.longest_burst_s, 3),
            "interval_s": round(self.interval_s(), 3),
            "failed_syncs": sum(keeper.failed_syncs for keeper in self._keepers),
            "segments": {keeper.settings.stream: len(keeper.states) for keeper in self._keepers},
            "over_hold_budget": {
                keeper.settings.stream: len(keeper.over_hold_budget)
                for keeper in self._keepers
                if keeper.over_hold_budget
            },
            "disk_full": any(
                keeper.writer.syncer_trouble is not None and keeper.writer.syncer_trouble.cause is Cause.DISK_FULL
                for keeper in self._keepers
            ),
        }
