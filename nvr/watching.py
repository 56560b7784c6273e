"""What the box looks at while its processes run: what `record` says, and the site file: was it replaced, does one that is being tried record?"""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nvr import site_kept, site_trial
from nvr.child import Child
from nvr.errors import NvrError
from nvr.processes import is_looking, is_reporting, looked_for, needs_start, reported
from nvr.site import check_budgets, check_text, load
from nvr.site_kept import Start, fault_words
from nvr.site_settings import Site

log = logging.getLogger(__name__)

LOOK_AT_SITE_S = 1.0
STATUS_TOO_OLD_S = 10.0  # record reports every second; ten missed reports are not a hiccup


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

    def is_recording(self, now_s: float) -> bool:
        """Whether anything is recorded now."""
        streams = self.status.get("streams", {}).values()
        return now_s - self.heard_s <= STATUS_TOO_OLD_S and any(stream.get("recording") for stream in streams)

    def summary(self) -> str:
        streams = self.status.get("streams", {}).values()
        recording = sum(1 for stream in streams if stream["recording"])
        return f"{recording} of {len(streams)} streams recording"


class SiteWatch:
    """Notices when the site file is replaced, and what of it takes effect without stopping anything."""

    def __init__(self, start: Start, detect: Child, uplink: Child) -> None:
        self._site, self._data_dir, self._detect, self._uplink = start.site, start.data_dir, detect, uplink
        self.fault = start.fault  # why the file is not in force as it is now; "" when it is
        self._is_kept = start.is_kept
        self._recorded_since_s: float | None = None
        self._is_kept_now = start.is_kept
        self._mark = self._marked()
        self._looked_s = 0.0
        self._runs_with = needs_start(start.site, start.data_dir)  # what `record` was started with

    def _marked(self) -> tuple[int, ...] | None:
        try:
            state = os.stat(self._site.path)
        except OSError:
            return None  # being replaced, or a card that was pulled: what was read stays in force
        return state.st_ino, state.st_size, state.st_mtime_ns

    def wants_start(self, health: Health, now_s: float) -> bool:
        """Whether the box is to start anew with the file as it is now. Never raises: a faulty one is told, and what was read stays in force."""
        if now_s - self._looked_s < LOOK_AT_SITE_S:
            return False
        self._looked_s = now_s
        mark = self._marked()
        if mark is None or mark == self._mark:
            self._keep(health, now_s)
            return False
        self._mark = mark
        try:
            site = load(self._site.path)
            if self._is_kept:
                check_budgets(site, self._data_dir)
        except NvrError as error:
            self.fault = f"{fault_words(error)}; not in force, what was read before stays so"
            log.warning("the site file changed and is faulty: %s", self.fault)
            return False
        self.fault = ""
        if self._is_kept:
            log.warning("the site file is good again: the box starts anew with it")
            return True
        self._take(site, now_s)
        return False

    def _keep(self, health: Health, now_s: float) -> None:
        """Once the file has recorded for a while, it is the one to go on with when it becomes faulty."""
        if self._is_kept_now or self.fault or not health.is_recording(now_s) or site_trial.is_tried(self._data_dir):
            self._recorded_since_s = None
            return
        if self._recorded_since_s is None:
            self._recorded_since_s = now_s
        if now_s - self._recorded_since_s < site_trial.STEADY_S:
            return
        self._is_kept_now = True
        path, data_dir = self._site.path, self._data_dir
        try:
            text = path.read_bytes()
        except OSError:
            return
        found = check_text(text, path).site
        if found is None or needs_start(found, data_dir) != needs_start(self._site, data_dir):
            return  # changed this moment: seen in the next turn
        if needs_start(found, data_dir) == self._runs_with:
            # In a thread, because it waits for the disk.
            threading.Thread(target=_kept, args=(data_dir, path, text), name="keep", daemon=True).start()

    def _take(self, site: Site, now_s: float) -> None:
        before, self._site = self._site, site
        self._is_kept_now = False
        if reported(before) != reported(self._site):
            self._uplink.restart(now_s, is_wanted=is_reporting(self._site))
        if looked_for(before) != looked_for(self._site):
            log.info("the site file changed: detection starts anew, recording goes on")
            self._detect.restart(now_s, is_wanted=is_looking(self._site))
        if needs_start(before, self._data_dir) != needs_start(self._site, self._data_dir):
            log.warning(
                "the site file changed what is recorded or where the page is: that takes effect when the box starts again"
            )


def _kept(data_dir: Path, path: Path, text: bytes) -> None:
    try:
        if site_kept.keep(data_dir, path, text):
            log.info("the site file records, and is kept for the day when it is faulty")
    except OSError as error:
        log.warning("the site file that records could not be kept: %s", error)


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
