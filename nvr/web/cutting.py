"""Clips that people cut on the page: made in DATA/clips/page, kept within a budget, the oldest going first.

One clip is cut at a time. Clips that wait to be uploaded are somebody else's and lie elsewhere.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from nvr import clips
from nvr.clock import Clock
from nvr.errors import NvrError
from nvr.web.answers import NotFound, Unavailable, WrongQuestion
from nvr.web.footage import Footage
from nvr.web.settings import PageSettings

log = logging.getLogger(__name__)

CLIP_NAME = re.compile(r"[A-Za-z0-9_.-]{1,150}\.mp4", re.ASCII)
WAITING = 4  # clips that may be asked for at the same time; each waits for the one before
TIDY_EVERY_S = 600.0
DRAFT_OLD_S = 3600.0  # no clip takes so long to cut
LONGEST_CLIP_S = 6 * 3600
RESERVE_BYTES = 500_000_000  # of the disk, that clips never take: recording goes first


@dataclass(frozen=True, slots=True)
class Clip:
    name: str
    size_bytes: int
    made_s: float
    facts: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "path": f"/api/clips/{self.name}", "size_bytes": self.size_bytes, **self.facts}


class Cutting:
    def __init__(self, data_dir: Path, settings: PageSettings, footage: Footage, clock: Clock) -> None:
        self._data_dir = data_dir
        self._dir = data_dir / "clips" / "page"
        self._settings = settings
        self._footage = footage
        self._clock = clock
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def cut(self, stream: str, from_ns: int, to_ns: int) -> Clip:
        """Cut a clip, or give the one that was cut of the same span before. Raises NvrError."""
        if self._waiting >= WAITING:
            raise Unavailable(f"{self._waiting} clips are being cut", hint="Try again when they are done.")
        self._waiting += 1
        try:
            async with self._turn:
                return await asyncio.to_thread(self._cut, stream, from_ns, to_ns)
        finally:
            self._waiting -= 1

    def name_of(self, stream: str, from_ns: int, to_ns: int) -> str:
        """A file name that says what is inside, in the site's own time: street-main_2026-07-01_093000_90s.mp4."""
        begin = datetime.fromtimestamp(from_ns // 1_000_000_000, self._settings.zone)
        milliseconds = from_ns // 1_000_000 % 1000
        return f"{stream.replace('/', '-')}_{begin:%Y-%m-%d_%H%M%S}.{milliseconds:03d}_{(to_ns - from_ns) / 1e9:g}s.mp4"

    def _cut(self, stream: str, from_ns: int, to_ns: int) -> Clip:
        name = self.name_of(stream, from_ns, to_ns)
        try:
            for folder in (self._dir.parent, self._dir):  # never DATA itself: it may be a disk that is away
                folder.mkdir(exist_ok=True)
        except OSError as error:
            raise Unavailable(
                f"there is no place for clips in {self._data_dir}: {error.strerror}",
                hint="Is the disk there? Look at the health page.",
            ) from error
        disk = os.statvfs(self._dir)
        free_bytes = disk.f_bavail * disk.f_frsize
        if free_bytes < RESERVE_BYTES:
            raise Unavailable(
                f"the disk has {free_bytes / 1e6:.0f} MB left, {RESERVE_BYTES / 1e6:.0f} MB stay free for recording",
                hint="Delete clips that were downloaded already.",
            )
        path = self._dir / name
        if path.exists() and path.with_suffix(".json").exists():
            return self._clip(path)
        timeline = self._footage.timeline()
        try:
            report = clips.cut(
                self._data_dir,
                stream,
                from_ns,
                to_ns,
                path,
                timeline=timeline,
                cut_by="page",
                replace=True,
                clock=self._clock,
            )
        except clips.ClipFailed as error:
            raise type(error)(clips.at_the_site(str(error), self._settings.zone), hint=error.hint) from error
        facts = {"stream": stream, "from_ms": report.span.from_ns // 1_000_000, "to_ms": report.span.to_ns // 1_000_000}
        path.with_suffix(".json").write_text(json.dumps(facts))
        self._tidy(keep=name)
        return self._clip(path)

    @staticmethod
    def _clip(path: Path) -> Clip:
        state = path.stat()
        facts = json.loads(path.with_suffix(".json").read_text())
        return Clip(path.name, state.st_size, state.st_mtime, facts)

    def clips(self) -> list[Clip]:
        """What is there, newest first."""
        found = []
        if self._dir.is_dir():
            for path in self._dir.glob("*.mp4"):
                try:
                    found.append(self._clip(path))
                except (OSError, ValueError):
                    continue  # being cut, or being deleted
        return sorted(found, key=lambda clip: clip.made_s, reverse=True)

    def path_of(self, name: str) -> Path:
        """Raises WrongQuestion or NotFound; a name can lead nowhere but into our folder."""
        if not CLIP_NAME.fullmatch(name) or name.startswith("."):
            raise WrongQuestion("this is no name of a clip", hint="GET /api/clips lists them.")
        path = self._dir / name
        if not path.is_file() or path.is_symlink() or not path.with_suffix(".json").is_file():
            raise NotFound(f"there is no clip {name} (any more)", hint="Cut it again: the ring may still hold it.")
        return path

    def delete(self, name: str) -> None:
        path = self.path_of(name)
        path.with_suffix(".json").unlink(missing_ok=True)
        path.unlink(missing_ok=True)

    async def tidy_up(self) -> None:
        """Remove what killed processes left, then keep the folder within its budget. Run until cancelled."""
        try:
            await asyncio.to_thread(self._sweep)
        except OSError as error:
            log.warning("web: unfinished clips could not be removed: %s", error)
        while True:
            try:
                await asyncio.to_thread(self._tidy)
            except (OSError, NvrError) as error:
                log.warning("old clips could not be deleted: %s", error)
            await asyncio.sleep(TIDY_EVERY_S)

    def _sweep(self) -> None:
        # Only this process cuts into our folder, and it has just begun; in the others somebody may be at work.
        swept = clips.sweep(self._dir)
        for folder in {self._dir.parent, *self._dir.parent.glob("*/")} - {self._dir}:
            swept += clips.sweep(folder, older_than_s=DRAFT_OLD_S)
        if swept:
            log.info("web: %d unfinished clips removed", swept)

    def _tidy(self, keep: str = "") -> None:
        """Delete the oldest beyond bytes and days, and what a killed process left half done an hour ago."""
        if not self._dir.is_dir():
            return
        used_bytes, now_s = 0, time.time()
        known = set()
        for clip in self.clips():
            used_bytes += clip.size_bytes
            known |= {clip.name, Path(clip.name).with_suffix(".json").name}
            is_old = now_s - clip.made_s > self._settings.clips_days * 86_400
            if clip.name != keep and (is_old or used_bytes > self._settings.clips_bytes):
                log.info("clip %s is deleted, the page's clips are over their budget or age", clip.name)
                self.delete(clip.name)
                used_bytes -= clip.size_bytes
        for path in self._dir.iterdir():
            if path.name not in known and path.is_file() and now_s - path.stat().st_mtime > 3600:
                path.unlink(missing_ok=True)
