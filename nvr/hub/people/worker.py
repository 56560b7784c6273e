"""What only one hub process may do at a time: alerts of silent boxes, overdue instructions, messages, webhooks, MQTT, deletion.

Every process runs this; a row with a term elects one (lease). A process that dies loses it within half a minute. Whoever
loses it in the middle of a round does no harm: each step is a transaction that finds what is due by itself.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, delete, update

from nvr.hub.database import upsert
from nvr.hub.parts import Hub
from nvr.hub.people import alerting, audit, deleting, mqtt, notify, outgoing, rolling, tables, webhooks
from nvr.hub.people.sealed import Seal

log = logging.getLogger(__name__)

LEASE = "people"
LEASE_MS = 30_000
ROUND_S = 2.0
LOOKS_EVERY_S = 60.0
DELETE_EVERY_S = 600.0
FIRST_DELETE_S = 60.0  # after a start: a clock that is wrong then is often right a minute later
LOOK_EVERY_S = 5.0
ROLL_EVERY_S = 5.0


def take_lease(connection: Connection, name: str, holder: str, now_ms: int, lease_ms: int = LEASE_MS) -> bool:
    """Whether `holder` is the one now. Also renews. In a writing transaction."""
    table = tables.lease
    connection.execute(upsert(connection, table).values(name=name, holder="", until_ms=0).on_conflict_do_nothing())
    mine = (table.c.holder == holder) | (table.c.until_ms <= now_ms) | (table.c.until_ms > now_ms + 2 * lease_ms)
    taken = update(table).where(table.c.name == name, mine).values(holder=holder, until_ms=now_ms + lease_ms)
    return connection.execute(taken).rowcount == 1


def give_lease_back(connection: Connection, name: str, holder: str) -> None:
    connection.execute(delete(tables.lease).where(tables.lease.c.name == name, tables.lease.c.holder == holder))


@dataclass(slots=True)
class Worker:
    hub: Hub
    seal: Seal
    mqtt_settings: mqtt.MqttSettings | None
    holder: str = field(default_factory=lambda: secrets.token_hex(16))
    publisher: mqtt.Publisher | None = None
    after_box: str = ""
    due_s: dict[str, float] = field(default_factory=lambda: {"delete": time.monotonic() + FIRST_DELETE_S})

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                await asyncio.to_thread(self.round)
                await asyncio.sleep(ROUND_S)
        finally:
            await asyncio.to_thread(self.stop)

    def stop(self) -> None:
        if self.publisher is not None:
            self.publisher.stop()
            self.publisher = None
        self._step("lease", self._give_back)

    def _give_back(self) -> None:
        with self.hub.store.writing() as connection:
            give_lease_back(connection, LEASE, self.holder)

    def round(self) -> bool:
        """Whether this process was the one. A step that fails is told and tried again; the others go on."""
        is_mine = False

        def elect() -> None:
            nonlocal is_mine
            with self.hub.store.writing() as connection:
                is_mine = take_lease(connection, LEASE, self.holder, self.hub.now_ms())

        self._step("lease", elect)
        if not is_mine:
            if self.publisher is not None:
                self.publisher.stop()
                self.publisher = None
            return False
        if self._is_due("look", LOOK_EVERY_S) or self.after_box:
            self._step("boxes", self._look)
        self._step("overdue", self._overdue)
        if self._is_due("looks", LOOKS_EVERY_S):
            self._step("audit log", self._fold_looks)
        if self._is_due("rollouts", ROLL_EVERY_S):
            self._step("updates", self._roll_out)
        self._step("notifications", lambda: notify.send_waiting(self.hub, self.seal, self.hub.now_ms()))
        self._step("webhooks", lambda: webhooks.send_waiting(self.hub, self.seal, self.hub.now_ms()))
        if self.mqtt_settings is not None:
            self._step("mqtt", self._publish)
        if self._is_due("delete", DELETE_EVERY_S):
            self._step("deletion", self._delete)
        return True

    def _is_due(self, what: str, every_s: float) -> bool:
        now_s = time.monotonic()
        if now_s < self.due_s.get(what, 0.0):
            return False
        self.due_s[what] = now_s + every_s
        return True

    def _step(self, what: str, work: Callable[[], Any]) -> None:
        try:
            work()
        except Exception as error:  # a database that is away, a message that breaks something: the other steps matter
            log.warning(
                "%s: %s: %s", what, type(error).__name__, str(error).splitlines()[0][:300] if str(error) else ""
            )

    def _look(self) -> None:
        with self.hub.store.writing() as connection:
            self.after_box = alerting.look_at_boxes(connection, self.hub, self.hub.now_ms(), self.after_box)

    def _overdue(self) -> None:
        with self.hub.store.writing() as connection:
            alerting.bring_back_overdue(connection, self.hub, self.hub.now_ms())

    def _fold_looks(self) -> None:
        with self.hub.store.writing() as connection:
            audit.fold_looks(connection, self.hub.now_ms())

    def _roll_out(self) -> None:
        with self.hub.store.writing() as connection:
            rolling.step(connection, self.hub, self.hub.now_ms())

    def _publish(self) -> None:
        assert self.mqtt_settings is not None
        if self.publisher is None:
            self.publisher = mqtt.Publisher(self.mqtt_settings, f"nvr-hub-{self.holder[:8]}")
            self.publisher.start()
        mqtt.publish(self.hub, self.publisher)

    def _delete(self) -> None:
        deleting.run(self.hub)
        with self.hub.store.writing() as connection:
            outgoing.drop_old(connection, self.hub.now_ms())
