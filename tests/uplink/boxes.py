"""Boxes for the tests of the uplink: a ring on disk, events that `detect` would have stored, and the uplink itself in a thread."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

from web.boxes import NS, DiskBox

from nvr import site
from nvr.clock import Clock
from nvr.events import EventLog, Evidence
from nvr.scene import Event
from nvr.uplink.process import Uplink

BOOT = b"a" * 16
JPEG = b"\xff\xd8\xff\xe0" + bytes(4000) + b"\xff\xd9"
SITE = """\
site: puskesmas-waihaong
box: waihaong-1
time_zone: Asia/Jayapura
storage: {{path: data, reserve_gb: 0}}
hub: {{url: "{url}", code: {code}, fingerprint: "{fingerprint}"{more}}}
cameras:
  gate:
    main: {{source: rtsp, url: "rtsp://127.0.0.1:9/main"}}
    ring_gb: 0.064
    hold_gb: 0.032
"""


def until(holds: Callable[[], object], what: str = "", seconds: float = 60.0) -> None:
    end_s = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end_s, f"not within {seconds} s: {what}"
        time.sleep(0.05)


class EventfulBox:
    """DATA with footage of gate/main, and events in it."""

    def __init__(self, folder: Path, seconds: int = 40, picture_bytes: int = 900) -> None:
        self.folder, self.data_dir = folder, folder / "data"
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.disk = DiskBox(self.data_dir, boot=BOOT)
        self.begin_ns = self.disk.clock.mono_ns()
        self.written = self.disk.record(seconds, picture_bytes=picture_bytes)
        self.disk.close()
        self.log = EventLog(self.data_dir / "events", "life-1")

    def site_file(self, url: str, fingerprint: str, more: str = "", code: str = "7F3K-QM2P-XW9D") -> Path:
        path = self.folder / "site.yaml"
        path.write_text(SITE.format(url=url, fingerprint=fingerprint, more=more, code=code))
        return path

    def event(
        self,
        kind: str,
        state: str,
        at_s: float,
        *,
        has_still: bool = False,
        is_end: bool = False,
        boot: bytes = BOOT,
        **words: str,
    ) -> None:
        """At so many seconds of the footage; stored at once."""
        from_ns = self.begin_ns + round(at_s * NS)
        sequence = self.written[min(int(at_s), len(self.written) - 1)].record.sequence
        wall_ns = self.written[0].record.wall_ns + round(at_s * NS)
        event = Event(
            kind, "gate", "counter", state, from_ns, from_ns + NS, wall_ns, words=tuple(words.items()), is_end=is_end
        )
        self.log.add(event, Evidence("gate/main", boot.hex(), sequence, sequence), JPEG if has_still else None)
        assert self.log.commit()


class Running:
    """The uplink of a box, in a thread of its own. Use it in a `with` statement."""

    def __init__(self, box: EventfulBox, site_path: Path, clock: Clock | None = None) -> None:
        self.uplink = Uplink(site.load(site_path), box.data_dir, clock=clock)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        async def run() -> None:
            self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
            try:
                await self.uplink.run()
            except asyncio.CancelledError:
                pass

        asyncio.run(run())

    def __enter__(self) -> Running:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        until(lambda: self._task is not None, "the uplink runs")
        assert self._loop is not None and self._task is not None
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(30)
        assert not self._thread.is_alive()
