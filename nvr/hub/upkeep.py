"""What goes on beside the answers: boxes that fell silent, commands nobody answered, uploads nobody finished, old history.

Every process does all of it; each step is one short transaction that finds nothing where another process was first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, delete, select, update

from nvr import wire
from nvr.hub import commands, tables
from nvr.hub.blobs import Blobs, BlobsUnusable
from nvr.hub.changes import Changes
from nvr.hub.database import Store
from nvr.hub.intake import SMALL_BOX, Intake

log = logging.getLogger(__name__)

SILENCE_LOOK_S = 5.0
SLOW_LOOK_S = 300.0
OBJECTS_LOOK_S = 10.0
GRACE_MS = int(wire.SILENT_S * 1000)
ROWS_AT_ONCE = 5_000


class Upkeep:
    def __init__(
        self,
        store: Store,
        changes: Changes,
        intake: Intake,
        expire_uploads: Callable[[], int],
        history_keep_days: int,
        now_ms: Callable[[], int],
    ) -> None:
        self._store, self._changes, self._intake, self._now_ms = store, changes, intake, now_ms
        self._expire_uploads = expire_uploads
        self._history_keep_days = history_keep_days
        self._started_ms = now_ms()

    async def watch_silence(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(SILENCE_LOOK_S)
            await asyncio.to_thread(_logged, self.tell_silent)

    async def tidy_up(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.to_thread(_logged, self.withdraw_commands)
            await asyncio.to_thread(_logged, self._expire_uploads)
            await asyncio.to_thread(_logged, self.forget_history)
            await asyncio.sleep(SLOW_LOOK_S)

    def tell_silent(self) -> list[str]:
        """Boxes that said nothing for 30 s are silent from now on; their ids. A hub that just started gives them as long to come back."""
        now_ms = self._now_ms()
        if now_ms - self._started_ms < GRACE_MS:
            return []
        table = tables.box
        is_silent = (table.c.state == "here", table.c.seen_ms < now_ms - GRACE_MS)
        with self._store.reading() as connection:
            if connection.execute(select(table.c.id).where(*is_silent).limit(1)).first() is None:
                return []
        with self._store.writing() as connection:
            rows = (
                connection.execute(
                    update(table)
                    .where(*is_silent)
                    .values(state="silent", since_ms=table.c.seen_ms)
                    .returning(*SMALL_BOX)
                )
                .mappings()
                .all()
            )
            if not rows:
                return []
            ids = [row["id"] for row in rows]
            self._intake.run_hooks(connection, self._intake.on_boxes, "silent", [dict(row) for row in rows])
            self._changes.tell(connection, "boxes", ids)
            self._changes.tell(connection, "wall", _cameras_of(connection, ids))
        log.info("%d boxes fell silent", len(ids))
        return ids

    def withdraw_commands(self) -> int:
        with self._store.writing() as connection:
            return commands.withdraw(connection, self._changes, self._now_ms())

    def forget_history(self) -> int:
        """Old rows, some at a time."""
        table, counted = tables.heartbeat_history, tables.command
        oldest = (self._now_ms() - self._history_keep_days * 24 * 3600 * 1000) // 60_000
        with self._store.writing() as connection:
            boxes = connection.execute(select(tables.box.c.id)).scalars().all()
            gone = 0
            for box_id in boxes:
                gone += connection.execute(
                    delete(table).where(table.c.box_id == box_id, table.c.minute < oldest)
                ).rowcount
                gone += connection.execute(  # what it counted is of the same history
                    delete(counted).where(
                        counted.c.box_id == box_id, counted.c.do == "ledger", counted.c.created_ms < oldest * 60_000
                    )
                ).rowcount
                if gone > ROWS_AT_ONCE:
                    break
        return gone


class ObjectsWatch:
    """Whether clips can be stored now, found out by trying. This process's own view: its disk may be another one's, too."""

    def __init__(self, blobs: Blobs, free_least_mb: int) -> None:
        self._blobs, self._free_least_bytes = blobs, free_least_mb * 1024 * 1024
        self.state: str = "ok"  # or a Trouble of blobs.py
        self.free_bytes: int | None = None  # None where nobody knows

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.to_thread(_logged, self.look)
            await asyncio.sleep(OBJECTS_LOOK_S)

    def look(self) -> None:
        why = ""
        try:
            self._blobs.check()
            self.free_bytes = self._blobs.free_bytes()
            state = "ok" if self.free_bytes is None or self.free_bytes >= self._free_least_bytes else "full"
        except BlobsUnusable as error:
            self.free_bytes, state, why = None, error.trouble, f": {error}. {error.hint}"
        if state != self.state:
            log.log(
                logging.INFO if state == "ok" else logging.ERROR,
                "the store of objects: %s%s", "clips are taken again" if state == "ok" else f"{state}, boxes keep their clips", why,
            )  # fmt: skip
        self.state = state


def _cameras_of(connection: Connection, box_ids: list[str]) -> list[int]:
    return list(
        connection.execute(select(tables.camera.c.id).where(tables.camera.c.box_id.in_(box_ids[:500]))).scalars()
    )


def _logged(work: Callable[[], Any]) -> None:
    """A database that is away is no reason to stop looking."""
    try:
        work()
    except Exception as error:
        log.warning("%s: %s", getattr(work, "__name__", work), str(error).splitlines()[0][:300])
