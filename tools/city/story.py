"""The running story: which second of it is now, what each camera sees, and what somebody changed by hand (tests do)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from nvr import site
from nvr.rules.schedule import Due, Schedule
from tools.city import day
from tools.city.city import Place


@cache
def schedule(hours_json: str, time_zone: str) -> Schedule:
    """Opening hours as a site file has them, read by the program that reads site files."""
    text = (
        f"site: city\nbox: city-1\ntime_zone: {time_zone}\ncameras:\n  counter:\n"
        f"    main: {{source: rtsp, url: 'rtsp://127.0.0.1/'}}\n    ring_gb: 1\n    hours: {hours_json}\n"
    )
    checked = site.check_text(text.encode(), Path("city.yaml"))
    assert checked.site is not None, checked.faults
    return Schedule(ZoneInfo(time_zone), checked.site.cameras[0].hours)


class Story:
    """`is_always_open`: offices are due at any hour, so that the demo shows something whenever it is tried."""

    def __init__(
        self, start_s: float, time_zone: str, *, is_always_open: bool = True, is_night_shown: bool = False
    ) -> None:
        self.start_s, self.time_zone = start_s, time_zone
        self.is_always_open, self.is_night_shown = is_always_open, is_night_shown
        self.changes: dict[str, Mapping[str, Any]] = {}  # camera or place -> fields of its scene
        self.hours: dict[str, Mapping[str, str]] = {}  # place -> other hours than its own
        self.silent: set[str] = set()  # boxes
        self.update_fails: set[str] = set()  # boxes that go back from every update
        self.scenes: Callable[..., day.Scene] = day.scene
        self.outages: Callable[[str, float], bool] = day.is_silent

    def at_s(self, wall_s: float) -> float:
        return wall_s - self.start_s

    def is_due(self, place: Place, wall_s: float) -> bool:
        hours = self.hours.get(place.name)
        if hours is None and (self.is_always_open or not place.hours):
            return True
        found = schedule(json.dumps(dict(hours or place.hours or {})), self.time_zone)
        return found.at(round(wall_s * 1e9)).due is Due.OPEN

    def scene(self, place: Place, camera: str, wall_s: float) -> day.Scene:
        found = self.scenes(
            place, camera, self.at_s(wall_s), is_due=self.is_due(place, wall_s), light=self._light(wall_s)
        )
        return replace(found, **{**self.changes.get(place.name, {}), **self.changes.get(camera, {})})

    def states(self, place: Place, seen: day.Scene, wall_s: float) -> list[day.State]:
        return day.states(place, seen, due="open" if self.is_due(place, wall_s) else "closed")

    def is_silent(self, box: str, wall_s: float) -> bool:
        return box in self.silent or self.outages(box, self.at_s(wall_s))

    def _light(self, wall_s: float) -> float:
        if not self.is_night_shown:
            return 1.0
        from datetime import datetime

        hour = datetime.fromtimestamp(wall_s, ZoneInfo(self.time_zone)).hour
        return 1.0 if 6 <= hour < 18 else 0.3
