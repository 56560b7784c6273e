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
import importlib.util
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from nvr import site_trial, systemd
from nvr.announce import Subscriber
from nvr.errors import NvrError
from nvr.recorder import Settings
from nvr.site import check, load
from nvr.site_budget import check_budgets
from nvr.site_settings import Site, StreamSettings, source_options
from nvr.stream import RecordedStream

log = logging.getLogger(__name__)

DATA_DIR_MODE = 0o700  # footage, a key and sessions: nobody else's business
STATUS_TOO_OLD_S = 10.0  # record reports every second; ten missed reports are not a hiccup
HUNG_S = 60.0  # as long as systemd waits (firmware/units/nvr.service); a write that waits for a dying card may take half of that
TURN_MOST_S = 1.0  # of one turn of the loop, of its own silence: a box that was stopped itself has heard nobody either
STOP_S = 20.0  # record needs one sync burst to stop; on a slow card that takes seconds
BACK_OFF_S = (0.2, 1.0, 2.0, 5.0, 10.0, 30.0)
STEADY_S = 60.0  # a process that ran so long starts again without back-off
RESTART_S = 10.0  # for a process that is to start anew: then it is killed
LOOK_AT_SITE_S = 1.0
START_ANEW = -1  # of Box.run(): with the site file as it is then


class AlreadyRunning(NvrError):
    """Another `nvr run` uses the same data directory."""


def how_it_ended(status: int) -> str:
    """A process's exit status in words; negative ones are signals, as `subprocess` counts."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


@dataclass
class Child:
    """One process of the box, and when to start it again."""

    name: str
    arguments: list[str]
    settings: dict[str, Any]
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    next_start_s: float = 0.0
    deaths: int = 0
    exit_status: int | None = None
    is_wanted: bool = True
    ends_by_s: float = float("inf")  # it was asked to end, and is killed then

    def start(self) -> None:
        self.started_s = time.monotonic()
        self.exit_status = None
        self.process = subprocess.Popen(
            [sys.executable, "-m", *self.arguments],
            stdin=subprocess.PIPE,
            env=systemd.environment_for_children(),
            start_new_session=True,  # Ctrl-C reaches the box, which stops its children in order
        )
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(self.settings).encode())
            self.process.stdin.close()
        except BrokenPipeError:
            pass  # it died while starting; poll() will tell

    def poll(self, now_s: float) -> None:
        """Start the process when it is due; note its death."""
        if self.process is None:
            if self.is_wanted and now_s >= self.next_start_s:
                self.start()
            return
        status = self.process.poll()
        if status is None:
            if now_s >= self.ends_by_s:
                self.process.kill()
            return
        self.process, self.exit_status = None, status
        if self.ends_by_s < float("inf"):
            self.ends_by_s, self.deaths, self.next_start_s = float("inf"), 0, now_s
            return
        if now_s - self.started_s > STEADY_S:
            self.deaths = 0
        wait_s = BACK_OFF_S[min(self.deaths, len(BACK_OFF_S) - 1)]
        self.deaths += 1
        self.next_start_s = now_s + wait_s
        log.warning("%s %s after %.0f s; starting again in %.1f s",
                    self.name, how_it_ended(status), now_s - self.started_s, wait_s)  # fmt: skip

    def restart(self, now_s: float, *, is_wanted: bool = True) -> None:
        """Have it end, and start anew if it is wanted; waits for nothing."""
        self.is_wanted, self.next_start_s, self.deaths = is_wanted, now_s, 0
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.ends_by_s = now_s + RESTART_S

    def stop(self) -> None:
        """Ask to stop, wait, and only then insist."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.exit_status = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            log.error("%s did not stop within %.0f s and is killed", self.name, STOP_S)
            self.process.kill()
            self.exit_status = self.process.wait()
        self.process = None


@dataclass
class Health:
    """What the box last heard from its recorder."""

    status: dict[str, Any] = field(default_factory=dict)
    heard_s: float = float("-inf")

    def is_good(self, streams: set[str], now_s: float) -> bool:
        """Whether every stream is accounted for: recording, or missing for a named reason."""
        if now_s - self.heard_s > STATUS_TOO_OLD_S:
            return False
        told = self.status.get("streams", {})
        return all(told.get(name, {}).get("recording") or told.get(name, {}).get("cause") for name in streams)

    def summary(self) -> str:
        streams = self.status.get("streams", {}).values()
        recording = sum(1 for stream in streams if stream["recording"])
        return f"{recording} of {len(streams)} streams recording"


class SiteWatch:
    """Notices when the site file is replaced, and what of it takes effect without stopping anything."""

    def __init__(self, site: Site, data_dir: Path, detect: Child, uplink: Child) -> None:
        self._site, self._data_dir, self._detect, self._uplink = site, data_dir, detect, uplink
        self._mark = self._marked()
        self._looked_s = 0.0

    def _marked(self) -> tuple[int, ...] | None:
        try:
            state = os.stat(self._site.path)
        except OSError:
            return None  # being replaced, or a card that was pulled: what was read stays in force
        return state.st_ino, state.st_size, state.st_mtime_ns

    def look(self, now_s: float) -> None:
        """Never raises: a faulty file is told, and what was read before stays in force."""
        if now_s - self._looked_s < LOOK_AT_SITE_S:
            return
        self._looked_s = now_s
        mark = self._marked()
        if mark is None or mark == self._mark:
            return
        self._mark = mark
        try:
            checked = check(self._site.path)
        except NvrError as error:
            log.warning("the site file changed and cannot be read, what was read before stays in force: %s", error)
            return
        if checked.site is None:
            fault = checked.faults[0]
            log.warning(
                "the site file changed and is faulty, what was read before stays in force: line %d, %s: %s",
                fault.line, fault.key, fault.what,
            )  # fmt: skip
            return
        before, self._site = self._site, checked.site
        if reported(before) != reported(self._site):
            self._uplink.restart(now_s, is_wanted=is_reporting(self._site))
        if looked_for(before) != looked_for(self._site):
            log.info("the site file changed: detection starts anew, recording goes on")
            self._detect.restart(now_s, is_wanted=is_looking(self._site))
        if _needs_restart(before, self._data_dir) != _needs_restart(self._site, self._data_dir):
            log.warning(
                "the site file changed what is recorded or where the page is: that takes effect when the box starts again"
            )


def looked_for(site: Site) -> object:
    """All of a site that detection depends on."""
    cameras = [camera for camera in site.cameras if camera.is_looked_at]
    return site.time_zone.key, site.holidays, cameras


def reported(site: Site) -> object:
    """All of a site that the uplink depends on."""
    return site.hub, site.name, site.box, site.time_zone.key, site.cameras


def is_reporting(site: Site) -> bool:
    """Whether there is a hub, and what it takes to reach it."""
    if site.hub is None:
        return False
    missing = [name for name in ("httpx", "websockets") if importlib.util.find_spec(name) is None]
    if missing:
        log.warning("nothing is reported to the hub: the packages %s are not installed", ", ".join(missing))
    return not missing


def is_looking(site: Site) -> bool:
    """Whether there is anything to look for, and what it takes to look."""
    if not any(camera.is_looked_at for camera in site.cameras):
        return False
    missing = [name for name in ("av", "numpy") if importlib.util.find_spec(name) is None]
    if missing:
        log.warning(
            "detection is off: the packages %s are not installed; recording does not need them", ", ".join(missing)
        )
    return not missing


def _needs_restart(site: Site, data_dir: Path) -> object:
    return record_settings(site, data_dir), web_arguments(site, data_dir)


class TrialWatch:
    """Looks whether a site file that is being tried records, and whether somebody asked for a start with the file as it is now."""

    def __init__(self, site_path: Path, data_dir: Path) -> None:
        self._site_path, self._data_dir = site_path, data_dir
        self._trial = site_trial.load(data_dir)
        self._began_s = time.monotonic()
        self._good_since_s: float | None = None
        self._looked_s = 0.0

    def wants_start(self, health: Health, now_s: float) -> bool:
        """Whether the box is to start anew now; keeps or gives back the file that is being tried."""
        if now_s - self._looked_s < LOOK_AT_SITE_S:
            return False
        self._looked_s = now_s
        why = site_trial.restart_asked(self._data_dir)
        if why:
            log.warning("the box starts anew: %s", why)
            return True
        if self._trial is None:
            return False
        is_new = now_s - health.heard_s <= STATUS_TOO_OLD_S
        streams = health.status.get("streams", {}) if is_new else {}
        if not site_trial.is_good(self._trial, streams):
            self._good_since_s = None
        elif self._good_since_s is None:
            self._good_since_s = now_s
        good_for_s = 0.0 if self._good_since_s is None else now_s - self._good_since_s
        verdict = site_trial.judge(self._trial, streams, good_for_s, now_s - self._began_s)
        if verdict is None:
            return False
        trial, self._trial = self._trial, None
        if verdict:
            site_trial.keep(self._data_dir, trial)
            return False
        not_now = sorted(set(trial.recorded) - set(site_trial.recording(streams))) or ["any stream"]
        site_trial.give_back(
            self._data_dir,
            self._site_path,
            trial,
            f"{', '.join(not_now)[:300]} did not record within {trial.rollback_s} s",
        )
        return True


class Box:
    """The processes of one box and the loop that looks after them."""

    def __init__(
        self, data_dir: Path, record: Child, others: list[Child], streams: set[str], watch: SiteWatch | None = None,
        trial: TrialWatch | None = None,
    ) -> None:  # fmt: skip
        self._watch = watch
        self._trial = trial
        self.data_dir = data_dir
        self.record = record
        self.others = others
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
                if self._watch is not None:
                    self._watch.look(now_s)
                if self._trial is not None and self._trial.wants_start(self.health, now_s):
                    goes_on = True
                    return START_ANEW
                is_heard = self._listen(now_s)
                self._end_hung(is_heard, now_s)
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
                for child in (self.record, *self.others):
                    stopping.callback(child.stop)
            if self._subscriber is not None:
                self._subscriber.close()
            if self._lock is not None:
                self._lock.close()

    def _end_hung(self, is_heard: bool, now_s: float) -> None:
        """A recorder that hangs does not record, and does not end either: it is killed, and poll() starts another.

        One that has not spoken yet is left alone: opening rings may take minutes. Other processes may hang; that costs no footage.
        """
        if is_heard or self._subscriber is None or self.health.heard_s < self.record.started_s:
            self._silent_s = 0.0
            return
        self._silent_s += min(time.monotonic() - now_s, TURN_MOST_S)
        if self._silent_s > HUNG_S and self.record.process is not None:
            log.error("record has said nothing for %.0f s and is killed", self._silent_s)
            self._silent_s = 0.0
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
        self._lock.truncate(0)
        self._lock.write(f"{os.getpid()}\n")
        self._lock.flush()

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


def run(
    site: Site, data_dir: Path, *, once: bool = False, on_status: Callable[[dict[str, Any]], None] = lambda status: None
) -> int:
    """Start the processes of the box that `site` describes and look after them until told to stop.

    With `once` there is no page, and it ends when every source has ended. Returns the exit status. Raises NvrError:
    the budgets do not fit the disk, or another box runs there.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    data_dir.chmod(DATA_DIR_MODE)
    if not once and site_trial.started(data_dir, site.path):
        site = load(site.path)
    while (status := _run(site, data_dir, once=once, on_status=on_status)) == START_ANEW:
        if site_trial.started(data_dir, site.path):
            log.info("the site file before is back")
        site = _loaded(site.path, data_dir)
    return status


def _loaded(path: Path, data_dir: Path) -> Site:
    """The site file for another start; one that cannot be used any more gives way to the one before the trial."""
    try:
        site = load(path)
        check_budgets(site, data_dir)
        return site
    except NvrError as error:
        trial = site_trial.load(data_dir)
        if trial is None:
            raise
        site_trial.give_back(data_dir, path, trial, str(error))
        return load(path)


def _run(site: Site, data_dir: Path, *, once: bool, on_status: Callable[[dict[str, Any]], None]) -> int:
    check_budgets(site, data_dir)
    settings = record_settings(site, data_dir, once=once)
    record = Child("record", ["nvr.recorder"], asdict(settings))
    detect = Child("detect", detect_arguments(site, data_dir), {}, is_wanted=is_looking(site))
    uplink = Child("uplink", uplink_arguments(site, data_dir), {}, is_wanted=is_reporting(site))
    scrub = Child("scrub", ["nvr.scrub", "--data", str(data_dir.absolute())], {})
    others = [] if once else [Child("web", web_arguments(site, data_dir), {}), detect, uplink, scrub]
    watch = None if once else SiteWatch(site, data_dir, detect, uplink)
    trial = None if once else TrialWatch(site.path, data_dir)
    box = Box(data_dir, record, others, {stream.name for stream in settings.streams}, watch, trial)
    return box.run(once=once, on_status=on_status)


def record_settings(site: Site, data_dir: Path, *, once: bool = False) -> Settings:
    """What the recorder must know of a site."""
    return Settings(
        data_dir=str(data_dir.absolute()),
        loss_bound_s=site.storage.loss_bound_s,
        streams=tuple(_recorded(stream, data_dir) for stream in site.recorded_streams()),
        once=once,
    )


def _recorded(stream: StreamSettings, data_dir: Path) -> RecordedStream:
    return RecordedStream(
        name=stream.name,
        source=source_options(stream.source, stream.stall_s, data_dir),
        ring_bytes=stream.ring_bytes,
        hold_bytes=stream.hold_bytes,
        keep_days=stream.keep_days,
        evidence=stream.evidence,
    )


def web_arguments(site: Site, data_dir: Path) -> list[str]:
    """How the page's process is started."""
    listen = f"[{site.web.listen}]" if ":" in site.web.listen else site.web.listen
    return [
        "nvr.web",
        "--data",
        str(data_dir.absolute()),
        "--site",
        str(site.path),
        "--listen",
        f"{listen}:{site.web.port}",
    ]


def detect_arguments(site: Site, data_dir: Path) -> list[str]:
    return ["nvr.detect", "--data", str(data_dir.absolute()), "--site", str(site.path)]


def uplink_arguments(site: Site, data_dir: Path) -> list[str]:
    return ["nvr.uplink", "--data", str(data_dir.absolute()), "--site", str(site.path)]
