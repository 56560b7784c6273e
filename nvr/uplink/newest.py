"""The newest picture of each camera: a still for the wall when one is due or asked for, and when it was taken, by the best clock there is."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nvr.clock import Clock
from nvr.evidence import Identity
from nvr.media import ClockState, FragmentRecord
from nvr.site_settings import Camera
from nvr.uplink import ladder
from nvr.uplink.control import Control
from nvr.uplink.hearing import Heard
from nvr.uplink.link import Link
from nvr.uplink.standing import Standing

if TYPE_CHECKING:
    from nvr.uplink.stills import Stills

log = logging.getLogger(__name__)

ALIVE_NS = 60_000_000_000  # a keyframe that is older shows nothing of now


class Newest:
    """Belongs to the event loop; pictures are decoded in a thread."""

    def __init__(
        self, cameras: Iterable[Camera], data_dir: Path, still_s: float, *,
        heard: Heard, link: Link, control: Control, standing: Standing, identity: Identity, clock: Clock,
    ) -> None:  # fmt: skip
        self._cameras, self._data_dir, self._clock = tuple(cameras), data_dir, clock
        self._heard, self._link, self._control, self._standing, self._identity = (
            heard,
            link,
            control,
            standing,
            identity,
        )
        self._least_s = self.still_s = still_s
        self._wanted: set[str] = set()
        self._told: dict[str, tuple[int, int]] = {}  # camera -> run and sequence of its last still
        self.trouble = ""

    def want(self, camera: str) -> None:
        """As soon as there is one that was not sent yet."""
        self._wanted.add(camera)

    def set_still_s(self, still_s: float) -> None:
        """The hub may ask for fewer than the site file allows, never for more."""
        self.still_s = max(still_s, self._least_s)

    async def run(self) -> None:
        """Until cancelled."""
        try:
            from nvr.uplink import stills
        except ImportError as error:
            self.trouble = f"the package {error.name} is not installed"
            log.warning("no stills: %s", self.trouble)
            await asyncio.Event().wait()
            return
        maker = stills.Stills(self._data_dir, self._cameras)
        due = {camera.name: time.monotonic() for camera in self._cameras}
        while True:
            await asyncio.sleep(0.5)
            if not self._control.is_connected or self._standing.ladder.level >= ladder.STILLS:
                continue
            for camera in due:
                if time.monotonic() >= due[camera] or camera in self._wanted:
                    await self._make(maker, camera, due)

    async def _make(self, maker: Stills, camera: str, due: dict[str, float]) -> None:
        from nvr.uplink import stills

        fragment = self.keyframe(camera)
        if fragment is None or self._told.get(camera) == (fragment[1].run, fragment[1].sequence):
            return  # an old picture is not sent again: the wall shows its age
        due[camera] = time.monotonic() + self.still_s
        self._wanted.discard(camera)
        self._told[camera] = (fragment[1].run, fragment[1].sequence)
        try:
            made = await asyncio.to_thread(maker.make, *fragment)
        except stills.NoStill as error:
            log.debug("%s", error)
            return
        self._control.still(stills.message(made, self._identity, *self._captured(made)))

    def keyframe(self, camera: str) -> Any:
        """Of the small stream where it is recorded and alive, else of the main one; None where there is none of late."""
        found = [self._heard.keyframes.get(f"{camera}/{kind}") for kind in ("small", "main")]
        now_ns = self._clock.mono_ns()
        alive = [each for each in found if each is not None and now_ns - each[1].mono_ns < ALIVE_NS]
        return alive[0] if alive else None

    def taken_ms(self, record: FragmentRecord) -> int:
        """By the hub's time where it is known: that is who reads it."""
        now_ns = self._link.now_ns()
        taken_ns = record.wall_ns if now_ns is None else now_ns - (self._clock.mono_ns() - record.mono_ns)
        return taken_ns // 1_000_000

    def _captured(self, made: Any) -> tuple[int, str, int]:
        """(wall time, clock state, error): the recorder's, or the hub's own where the box does not know the time."""
        record = made.record
        if record.clock_state is ClockState.SYNCED:
            return made.captured_ns, "synced", record.clock_error_ns
        hub_ns = self._link.now_ns()
        if self._link.time is not None and hub_ns is not None:
            ago_ns = self._clock.mono_ns() - record.mono_ns - (made.captured_ns - record.wall_ns)
            return hub_ns - ago_ns, record.clock_state.name.lower(), self._link.time.error_ns
        if record.clock_state is ClockState.UNKNOWN:
            return 0, "unknown", 0
        return made.captured_ns, "plausible", record.clock_error_ns
