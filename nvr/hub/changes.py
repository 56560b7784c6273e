"""What changed, told to whoever listens in any process of this hub: pages fetch again, a box gets its command.

    what        ids
    wall        cameras with a new still or another state      places, alerts    theirs
    boxes       boxes that said something or fell silent        commands          boxes for which a command waits
    taken       "box:connection", a newer connection of a box   blocked           boxes that were blocked or let in again

Told inside the transaction that makes it true, heard after its commit. PostgreSQL carries it by NOTIFY; with SQLite, whose writers
come one after the other, each process reads the `change` table. No ids means: anything of that kind. Nothing that matters
rests on hearing: who listens also looks by itself, slowly.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, text
from sqlalchemy.exc import SQLAlchemyError

from nvr.hub import tables
from nvr.hub.database import Store

log = logging.getLogger(__name__)

KINDS = ("wall", "places", "alerts", "boxes", "commands", "taken", "blocked")
POLL_S = 0.5
KEPT_MS = 60_000
IDS_MOST = 150  # 8000 bytes is the most that NOTIFY carries; a page that hears "anything" fetches the whole list anyway
_CHANNEL = "nvr_changes"

Told = tuple[str, tuple[Any, ...]]


class _Ear:
    """One listener: what it has not heard yet, merged, so that a slow one costs no memory."""

    def __init__(self) -> None:
        self.waiting: dict[str, set[Any]] = {}
        self.anything: set[str] = set()
        self.awake = asyncio.Event()

    def put(self, what: str, ids: Iterable[Any]) -> None:
        known = self.waiting.setdefault(what, set())
        ids = tuple(ids)
        known.update(ids)
        if not ids or len(known) > IDS_MOST:
            self.anything.add(what)
            known.clear()
        self.awake.set()

    def take(self) -> list[Told]:
        told = [(what, () if what in self.anything else tuple(sorted(ids))) for what, ids in self.waiting.items()]
        self.waiting, self.anything = {}, set()
        self.awake.clear()
        return told


class Changes:
    def __init__(self, store: Store, now_ms: Callable[[], int]) -> None:
        self._store, self._now_ms = store, now_ms
        self._ears: set[_Ear] = set()

    def tell(self, connection: Connection, what: str, ids: Iterable[Any] = ()) -> None:
        """Part of a writing transaction; heard everywhere after its commit. `ids`: integers or texts of one kind; none: anything."""
        assert what in KINDS, what
        listed = list(dict.fromkeys(ids))
        if what != "taken" and what != "commands" and what != "blocked" and len(listed) > IDS_MOST:
            listed = []
        for begin in range(0, max(1, len(listed)), IDS_MOST):
            some = listed[begin : begin + IDS_MOST]
            if self._store.is_sqlite:
                connection.execute(insert(tables.change).values(at_ms=self._now_ms(), what=what, ids=some))
            else:
                connection.execute(
                    text("SELECT pg_notify(:channel, :told)"), {"channel": _CHANNEL, "told": json.dumps([what, some])}
                )

    async def listen(self) -> AsyncIterator[Told]:
        """From now on, until the caller stops asking; what comes faster than it is asked for is merged."""
        ear = _Ear()
        self._ears.add(ear)
        try:
            while True:
                await ear.awake.wait()
                for told in ear.take():
                    yield told
        finally:
            self._ears.discard(ear)

    def _heard(self, what: str, ids: Iterable[Any]) -> None:
        ids = tuple(ids)
        for ear in self._ears:
            ear.put(what, ids)

    def _heard_anything(self) -> None:
        for what in KINDS:
            if what != "taken":  # "anything" would close every connection
                self._heard(what, ())

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await (self._read_table() if self._store.is_sqlite else self._hear_notifications())
            except Exception as error:
                log.warning("changes are not heard for a moment: %s", error)
                await asyncio.sleep(2.0)
                self._heard_anything()

    async def _read_table(self) -> None:
        last = await asyncio.to_thread(self._newest_number)
        pruned_s = time.monotonic()
        while True:
            await asyncio.sleep(POLL_S)
            rows = await asyncio.to_thread(self._rows_after, last)
            for number, what, ids in rows:
                last = number
                self._heard(what, ids)
            if time.monotonic() - pruned_s > KEPT_MS / 1000:
                pruned_s = time.monotonic()
                await asyncio.to_thread(self._prune)

    def _newest_number(self) -> int:
        with self._store.reading() as connection:
            return connection.execute(select(func.coalesce(func.max(tables.change.c.number), 0))).scalar_one()

    def _rows_after(self, number: int) -> list[tuple[int, str, list[Any]]]:
        table = tables.change
        with self._store.reading() as connection:
            question = (
                select(table.c.number, table.c.what, table.c.ids)
                .where(table.c.number > number)
                .order_by(table.c.number)
            )
            return [(row.number, row.what, row.ids) for row in connection.execute(question)]

    def _prune(self) -> None:
        try:
            with self._store.writing() as connection:
                connection.execute(delete(tables.change).where(tables.change.c.at_ms < self._now_ms() - KEPT_MS))
        except SQLAlchemyError as error:
            log.info("old changes stay for now: %s", error)

    async def _hear_notifications(self) -> None:
        import psycopg

        url = self._store.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        async with await psycopg.AsyncConnection.connect(url, autocommit=True, connect_timeout=10) as connection:
            await connection.execute(f"LISTEN {_CHANNEL}")
            self._heard_anything()  # what was told before this connection stood
            async for notification in connection.notifies():
                what, ids = json.loads(notification.payload)
                self._heard(what, ids)
