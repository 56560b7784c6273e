"""The parts of one hub process, put together."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Any

from nvr.hub import commands
from nvr.hub.changes import Changes
from nvr.hub.committer import Committer
from nvr.hub.control import Control
from nvr.hub.database import open_store
from nvr.hub.identity import Tries
from nvr.hub.intake import BoxHook, EventHook, Intake
from nvr.hub.live import Live, MayWatch
from nvr.hub.settings import HubSettings
from nvr.hub.stills import FolderStills, Stills, TableStills
from nvr.hub.storage import open_blobs
from nvr.hub.upkeep import ObjectsWatch, Upkeep
from nvr.hub.uploads import Uploads

Work = Callable[[], Coroutine[Any, Any, None]]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Hub:
    """All parts of one hub process. The people side gets this and adds its own."""

    def __init__(self, settings: HubSettings, now_ms: Callable[[], int] = now_ms) -> None:
        """Opens database and objects, migrates SQLite. Raises DatabaseUnusable, BlobsUnusable."""
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.settings, self.now_ms = settings, now_ms
        self.store = open_store(settings.database_url, settings.data_dir)
        self.blobs = open_blobs(settings.objects_url, settings.data_dir)
        in_folder = not settings.objects_url.startswith("s3://")
        self.stills: Stills = FolderStills(settings.data_dir / "stills") if in_folder else TableStills(self.store)
        self.changes = Changes(self.store, now_ms)
        self.intake = Intake(self.store, self.changes, self.stills, now_ms)
        self.committer = Committer(self.store, self.intake)
        self.live = Live(now_ms)
        self.control = Control(self.store, self.committer, self.changes, self.blobs, self.live, now_ms)
        self.live.say = self.control.say
        self.uploads = Uploads(
            self.store, self.blobs, self.changes, settings.data_dir / "assembling", now_ms, upload_most_mb=settings.upload_most_mb,
            free_least_mb=settings.free_least_mb, keep_days=settings.uploads_keep_days,
        )  # fmt: skip
        self.upkeep = Upkeep(
            self.store, self.changes, self.intake, self.uploads.expire, settings.history_keep_days, now_ms
        )
        self.objects_watch = ObjectsWatch(self.blobs, settings.free_least_mb)
        self.tries = Tries(lambda: self.now_ms() / 1000)
        self.works: list[Work] = [
            self.changes.run,
            self.control.listen,
            self.live.run,
            self.upkeep.watch_silence,
            self.upkeep.tidy_up,
            self.objects_watch.run,
        ]

    @property
    def on_events(self) -> list[EventHook]:
        """f(connection, rows) inside the transaction that stores new events."""
        return self.intake.on_events

    @property
    def on_boxes(self) -> list[BoxHook]:
        """f(connection, "silent" | "back", rows) inside the transaction that says so."""
        return self.intake.on_boxes

    @property
    def may_watch(self) -> MayWatch:
        return self.live.may_watch

    @may_watch.setter
    def may_watch(self, function: MayWatch) -> None:
        self.live.may_watch = function

    def command(self, connection: Any, *, tenant_id: int, box_id: str, do: str, args: dict[str, Any], by: str) -> str:
        """Ask a box for something, inside a writing transaction; the id under which its answer will stand."""
        return commands.add(
            connection, self.changes, tenant_id=tenant_id, box_id=box_id, do=do, args=args, by=by, now_ms=self.now_ms()
        )

    def close(self) -> None:
        self.committer.stop()
        self.store.close()
