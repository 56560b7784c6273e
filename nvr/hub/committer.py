"""One transaction for all that boxes said within a moment.

A sync of the disk costs milliseconds and is the same for one row or for hundreds, so one thread takes what waits, prepares it
(checks signatures, writes files), commits it, and only then lets acknowledgements go. What is newest of a kind
replaces what waits of it (a heartbeat, a still), so memory is bounded by boxes and cameras, not by their speed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Connection
from sqlalchemy.exc import InterfaceError, OperationalError, TimeoutError

from nvr.hub.database import Store

log = logging.getLogger(__name__)

GATHER_S = 0.05  # what comes within it shares a sync; an acknowledgement waits as long at least
BATCH_MOST = 2000
RETRY_LEAST_S, RETRY_MOST_S = 0.2, 5.0


@dataclass(slots=True)
class Item:
    """One thing a box said. `done` is called once, in the committer's thread, after commit (None) or when it cannot be stored."""

    kind: str
    box: Any  # the connection's facts, for intake.py
    message: Any
    received_ms: int
    key: object = None  # of the same key only the newest counts; None: every one counts
    done: Callable[[Exception | None], None] | None = None
    is_quiet: bool = False  # `done` only hears of refusals and errors
    prepared: Any = None
    acks: tuple[str, ...] = ()  # events that are stored now, with all that belongs to them
    refusal: str = ""  # set while preparing or applying: why it is not taken


class Worker(Protocol):
    def prepare(self, items: list[Item]) -> None: ...
    def apply(self, connection: Connection, items: list[Item]) -> None: ...
    def committed(self) -> None: ...


class Committer:
    def __init__(self, store: Store, worker: Worker) -> None:
        self._store, self._worker = store, worker
        self._waiting: dict[object, Item] = {}
        self._awake = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="committer", daemon=True)
        self.trouble = ""  # why nothing can be stored now
        self.commits = 0
        self.items = 0
        self.replaced = 0  # newer ones came first
        self.commit_s = 0.0  # in transactions, for /metrics

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """What waits is committed first, if the database takes it."""
        with self._awake:
            self._ended = True
            self._awake.notify()
        self._thread.join(timeout=10)

    def put(self, item: Item) -> None:
        """From any thread; never waits. Who sends things that all count keeps count of them itself (control.py)."""
        with self._awake:
            key = id(item) if item.key is None else item.key
            old = self._waiting.pop(key, None)
            self._waiting[key] = item
            self.replaced += old is not None
            self._awake.notify()
        if old is not None and old.done is not None:
            old.done(None)

    @property
    def depth(self) -> int:
        return len(self._waiting)

    def _run(self) -> None:
        while True:
            with self._awake:
                while not self._waiting and not self._ended:
                    self._awake.wait()
                if not self._waiting:
                    return
            if not self._ended:
                time.sleep(GATHER_S)
            with self._awake:
                keys = list(self._waiting)[:BATCH_MOST]
                batch = [self._waiting.pop(key) for key in keys]
            self._commit(batch)

    def _commit(self, batch: list[Item]) -> None:
        try:
            self._worker.prepare(batch)
        except Exception as error:
            log.exception("what boxes said could not be prepared")
            _finish(batch, error)
            return
        _finish([item for item in batch if item.refusal], None)
        self._store_all([item for item in batch if not item.refusal])

    def _store_all(self, batch: list[Item]) -> None:
        wait_s = RETRY_LEAST_S
        while batch:
            try:
                self._transaction(batch)
                self.trouble = ""
                return
            except (OperationalError, InterfaceError, TimeoutError, OSError) as error:
                # The database is away or its disk is full: everybody waits, nobody is told that anything is stored.
                self.trouble = str(error).splitlines()[0][:300]
                log.error("nothing can be stored, trying again in %.1f s: %s", wait_s, self.trouble)
                if self._ended:
                    _finish(batch, error)
                    return
                time.sleep(wait_s)
                wait_s = min(2 * wait_s, RETRY_MOST_S)
            except Exception as error:
                if len(batch) == 1:
                    log.exception("%s cannot be stored", batch[0].kind)
                    _finish(batch, error)
                    return
                # One of them is poison: each by itself, so that only that one is refused.
                log.warning("a batch of %d cannot be stored together: %s", len(batch), error)
                for item in batch:
                    self._store_all([item])
                return

    def _transaction(self, batch: list[Item]) -> None:
        began_s = time.monotonic()
        with self._store.writing() as connection:
            self._worker.apply(connection, batch)
        self._worker.committed()
        self.commits += 1
        self.items += len(batch)
        self.commit_s += time.monotonic() - began_s
        _finish(batch, None)


def _finish(batch: list[Item], error: Exception | None) -> None:
    for item in batch:
        if item.done is not None and (error is not None or item.refusal or not item.is_quiet):
            item.done(error)
