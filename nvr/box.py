"""One box: builds its processes from a site file and keeps them running.

`record` is started first and stopped last; `detect` runs where a camera has something to look for, `uplink` where the site has a hub. When
the site file changes, these two alone start anew with it: recording goes on. A site file that the hub sent is tried as a whole (`site_trial.py`). Each process gets what it needs on standard input, so passwords
never stand in a command line. A process that dies is started again, quickly at first and then with back-off;
nothing else of the box stops for it. systemd's watchdog is fed only while `record` reports, and every
configured stream is either recording or known to be missing for a reason (docs/architecture.md).
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import signal
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from nvr import site_kept, site_trial, systemd, troubles
from nvr.announce import Subscriber
from nvr.child import HUNG_S, Child
from nvr.errors import NvrError
from nvr.processes import detect_arguments, is_looking, is_reporting, record_settings, uplink_arguments, web_arguments
from nvr.site_kept import Start
from nvr.troubles import Teller
from nvr.watching import Health, SiteWatch, TrialWatch

log = logging.getLogger(__name__)

DATA_DIR_MODE = 0o700  # footage, a key and sessions: nobody else's business
TURN_MOST_S = 1.0  # of one turn of the loop, of its own silence: a box that was stopped itself has heard nobody either
START_ANEW = -1  # of Box.run(): with the site file as it is then


class AlreadyRunning(NvrError):
    """Another `nvr run` uses the same data directory."""


class Box:
    """The processes of one box and the loop that looks after them."""

    def __init__(
        self, data_dir: Path, record: Child, others: list[Child], streams: set[str], watch: SiteWatch | None = None,
        trial: TrialWatch | None = None,
    ) -> None:  # fmt: skip
        self._watch = watch
        self._watches = [each for each in (watch, trial) if each is not None]
        self._teller = Teller(data_dir / "run")
        self._of_the_card = [(each.kind, each.detail) for each in troubles.of_the_card()]
        self.data_dir = data_dir
        self.record = record
        self.others = others
        self.children = (record, *others)
        self.streams = streams
        self.health = Health()
        self._subscriber: Subscriber | None = None
        self._silent_s = 0.0  # how long the recorder has said nothing while we listened
        self._stopping = False
        self._lock: TextIO | None = None

    def run(self, *, once: bool, on_status: Callable[[dict[str, Any]], None] = lambda status: None) -> int:
        """Keep everything running until a signal comes, or, with `once`, until `record` ends by itself.

        Returns the exit status for the command line, or START_ANEW when somebody asked for that. Raises AlreadyRunning.
        """
        self._take_lock()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        fed_s, is_ready, goes_on = float("-inf"), False, False
        interval_s = systemd.watchdog_interval_s()
        try:
            while not self._stopping:
                now_s = time.monotonic()
                self.record.poll(now_s)
                if once and self.record.exit_status is not None:
                    return self.record.exit_status
                for child in self.others:
                    child.poll(now_s)
                if any(watch.wants_start(self.health, now_s) for watch in self._watches):
                    goes_on = True
                    return START_ANEW
                self._tell_troubles(now_s)
                is_heard = self._listen(now_s)
                self._end_hung(is_heard, now_s)
                passed_s = min(time.monotonic() - now_s, TURN_MOST_S)
                for child in self.others:
                    child.watch(passed_s, now_s)
                if is_heard:
                    self._keep_lock()
                    on_status(self.health.status)
                is_good = self.health.is_good(self.streams, now_s)
                if is_good and not is_ready:
                    systemd.notify(READY="1")
                    is_ready = True
                if is_good and interval_s is not None and now_s - fed_s >= interval_s / 2:
                    systemd.notify(WATCHDOG="1", STATUS=self.health.summary())
                    fed_s = now_s
            return 0
        finally:
            if not goes_on:
                systemd.notify(STOPPING="1")
            # The last one is stopped first; one that cannot be stopped does not keep the others.
            with contextlib.ExitStack() as stopping:
                for child in self.children:
                    stopping.callback(child.stop)
            if self._subscriber is not None:
                self._subscriber.close()
            if self._lock is not None:
                self._lock.close()

    def _tell_troubles(self, now_s: float) -> None:
        found = list(self._of_the_card)
        if self._watch is not None and self._watch.fault:
            found.append((troubles.SITE, self._watch.fault))
        found += [(troubles.PROCESS, words) for child in self.children if (words := child.trouble(now_s))]
        self._teller.tell(found)

    def _end_hung(self, is_heard: bool, now_s: float) -> None:
        """A recorder that hangs does not record, and does not end either: it is killed, and poll() starts another.

        One that has not spoken yet is left alone: opening rings may take minutes. The other processes are watched by Child.watch().
        """
        if is_heard or self._subscriber is None or self.health.heard_s < self.record.started_s:
            self._silent_s = 0.0
            return
        self._silent_s += min(time.monotonic() - now_s, TURN_MOST_S)
        if self._silent_s > HUNG_S and self.record.process is not None:
            log.error("record has said nothing for %.0f s and is killed", self._silent_s)
            self._silent_s = 0.0
            self.record.hangs, self.record.hung_s = self.record.hangs + 1, now_s
            self.record.process.kill()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True

    def _take_lock(self) -> None:
        """One box per data directory: two recorders would write into the same rings."""
        run_dir = self.data_dir / "run"
        run_dir.mkdir(parents=True, exist_ok=True)
        self._lock = open(run_dir / "box.lock", "a+")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.seek(0)
            raise AlreadyRunning(
                f"{self.data_dir} is in use by another `nvr run` (process {self._lock.read().strip() or 'unknown'})",
                hint="Stop it first, or give this one another --data directory.",
            ) from None
        try:
            # Not through the file's buffer, which would try again at close().
            os.ftruncate(self._lock.fileno(), 0)
            os.write(self._lock.fileno(), b"%d\n" % os.getpid())
        except OSError as error:
            # It only says who we are. A disk that is full must not keep a box from recording in the segments that it has.
            log.warning("%s/box.lock does not name this process: %s", run_dir, error.strerror)

    def _keep_lock(self) -> None:
        """The disk with the data directory may have gone and come back: our lock is on what was there before."""
        assert self._lock is not None
        try:
            here = os.stat(self.data_dir / "run" / "box.lock")
        except OSError:
            return  # it is away
        if not os.path.samestat(here, os.fstat(self._lock.fileno())):
            self._lock.close()
            self._take_lock()

    def _listen(self, now_s: float) -> bool:
        """Hear from the recorder for up to a fifth of a second; True when there is a new status."""
        if self._subscriber is None:
            try:
                self._subscriber = Subscriber(self.data_dir / "run")
            except OSError:
                time.sleep(0.1)
                return False
        try:
            message = self._subscriber.receive(0.2)
        except OSError:
            self._subscriber.close()
            self._subscriber = None
            return False
        if message is None or message.get("kind") != "status":
            return False
        self.health = Health(message, now_s)
        return True


def run(start: Start, *, once: bool = False, on_status: Callable[[dict[str, Any]], None] = lambda status: None) -> int:
    """Start the processes of the box that `start` describes and look after them until told to stop.

    With `once` there is no page, and it ends when every source has ended. Returns the exit status. Raises NvrError:
    another box runs there, or a site file that came meanwhile can be no more used than the one before.
    """
    path, data_dir = start.site.path, start.data_dir
    data_dir.mkdir(parents=True, exist_ok=True)
    data_dir.chmod(DATA_DIR_MODE)
    if not once and site_trial.started(data_dir, path):
        start = site_kept.start_with(path, data_dir)
    while (status := _run(start, once=once, on_status=on_status)) == START_ANEW:
        if site_trial.started(data_dir, path):
            log.info("the site file before is back")
        start = site_kept.start_with(path, data_dir)
    return status


def _run(start: Start, *, once: bool, on_status: Callable[[dict[str, Any]], None]) -> int:
    site, data_dir = start.site, start.data_dir
    if start.fault:
        log.error("%s: %s", site.path, start.fault)
    settings = record_settings(site, data_dir, once=once)
    record = Child("record", ["nvr.recorder"], asdict(settings))
    kept = ["--kept"] if start.is_kept else []
    detect = Child(
        "detect", [*detect_arguments(site, data_dir), *kept], {}, is_wanted=is_looking(site), is_watched=True
    )
    uplink = Child(
        "uplink", [*uplink_arguments(site, data_dir), *kept], {}, is_wanted=is_reporting(site), is_watched=True
    )
    scrub = Child("scrub", ["nvr.scrub", "--data", str(data_dir.absolute())], {}, is_watched=True)
    web = Child("web", [*web_arguments(site, data_dir), *kept], {}, is_watched=True)
    others = [] if once else [web, detect, uplink, scrub]
    watch = None if once else SiteWatch(start, detect, uplink)
    trial = None if once else TrialWatch(site.path, data_dir)
    box = Box(data_dir, record, others, {stream.name for stream in settings.streams}, watch, trial)
    return box.run(once=once, on_status=on_status)
