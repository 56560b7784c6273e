"""A hub with two tenants, two places and everything that hangs on them, for tests of the people's side; in one process, own clock."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from sqlalchemy import event, insert, update

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it recommends a successor of httpx that nobody else here uses
    from starlette.testclient import TestClient

from nvr.hub import tables as core
from nvr.hub.app import create
from nvr.hub.parts import Hub
from nvr.hub.people import access, passwords, tables
from nvr.hub.settings import HubSettings

NOW_MS = 1_795_651_200_000  # Thu 2026-11-26 09:00 in Ambon (UTC+9)
PASSWORD = "empat kata yang acak"
JPEG = b"\xff\xd8\xff\xe0 a street \xff\xd9"
CLIP = bytes(range(256)) * 40
BUNDLE = b"hsqs" + bytes(range(256)) * 8


def _unsynced(connection: Any, record: Any) -> None:
    """These tests cut no power."""
    connection.execute("PRAGMA synchronous = OFF")


class Clock:
    def __init__(self, now_ms: int = NOW_MS) -> None:
        self.now = now_ms

    def __call__(self) -> int:
        return self.now

    def pass_s(self, seconds: float) -> None:
        self.now += round(seconds * 1000)


@dataclass
class Corner:
    """What hangs on one place: ids to put into addresses."""

    tenant_id: int
    place: str
    place_id: int
    box: str
    camera: int
    event: str
    clip: str
    command: str
    alert: int
    hold: int = 0
    rows: dict[str, int | str] = field(default_factory=dict)  # of the tenant as a whole

    def address(self, path: str) -> str:
        """A route's path with these ids."""
        ids = {
            "name": self.place if path.startswith("/api/v1/places") else self.rows["user"], "camera_id": self.camera, "event_id": self.event,
            "sha256": self.rows["bundle"] if "/bundles/" in path else self.clip, "command_id": self.command, "alert_id": self.alert,
            "box_id": self.box, "hold_id": self.hold, "rollout_id": self.rows["rollout"],
            "token_id": self.rows["token"], "deletion_id": self.rows["deletion"],
            "hook_id": self.rows["webhook"] if "/webhooks/" in path else self.rows["notification"],
        }  # fmt: skip
        return path.format(**ids)

    @property
    def marks(self) -> tuple[str, ...]:
        """What must not be in an answer for somebody who does not see this corner."""
        return (self.place, self.box, self.event, self.clip, self.command)


class World:
    def __init__(self, data_dir: Path, database: str = "", **people: Any) -> None:
        self.clock = Clock()
        self.app: FastAPI = create(HubSettings(data_dir, database=database, people=people), self.clock)
        self.hub: Hub = self.app.state.hub
        if self.hub.store.is_sqlite:
            event.listen(self.hub.store.engine, "connect", _unsynced)
            self.hub.store.engine.dispose()
        with self.hub.store.writing() as connection:
            connection.execute(insert(core.tenant).values(name="second", title=""))
        self._people: dict[tuple[str, int | None, int], int] = {}
        self.own = self._corner(1, "puskesmas-waihaong", "a")
        self.foreign = self._corner(1, "simpang-mardika", "b")
        self.other = self._corner(2, "balai-kota", "c")
        self.foreign.rows = self.own.rows

    # -- rows

    def _corner(self, tenant_id: int, place: str, letter: str) -> Corner:
        now_ms, box = self.clock.now, letter * 32
        with self.hub.store.writing() as connection:
            kind = "traffic" if place.startswith("simpang") else "health-centre"
            place_id = connection.execute(
                insert(core.place).values(tenant_id=tenant_id, name=place, kind=kind, title_id=place.title(), title_en=place.title(), address="Jl. 1", lat=-3.69, lon=128.18)
            ).inserted_primary_key[0]  # fmt: skip
            heartbeat = {
                "cameras": {"hall": {"recording": True, "cause": "", "looked_at": "yes", "since_ms": now_ms}},
                "states": [],
            }
            connection.execute(
                insert(core.box).values(
                    id=box, tenant_id=tenant_id, name=f"box-{letter}", site=f"site-{letter}", public_key=letter * 64, software="1", slot="a",
                    boot_id="", time_zone="", site_digest="", state="here", enrolled_ms=now_ms - 10**9, seen_ms=now_ms - 1000,
                    heartbeat=heartbeat, heartbeat_ms=now_ms - 1000,
                )
            )  # fmt: skip
            camera = connection.execute(
                insert(core.camera).values(
                    box_id=box, tenant_id=tenant_id, place_id=place_id, name="hall", template="service-office",
                    streams=[{"stream": "hall/main"}, {"stream": "hall/small"}], zones={}, rules={},
                )
            ).inserted_primary_key[0]  # fmt: skip
            sha = {"still": letter * 63 + "1", "clip": letter * 63 + "2"}
            event = letter * 31 + "e"
            for kind_, data in (("still", JPEG), ("clip", CLIP)):
                key = f"objects/{tenant_id}/{box}/{sha[kind_]}"
                self.hub.blobs.put(key, data)
                connection.execute(
                    insert(core.object_).values(
                        sha256=sha[kind_], tenant_id=tenant_id, box_id=box, camera_id=camera, place_id=place_id, kind=kind_,
                        from_ms=now_ms - 60_000, to_ms=now_ms, size_bytes=len(data), blob=key, event_id=event, stored_ms=now_ms,
                    )
                )  # fmt: skip
            connection.execute(
                insert(core.event).values(**self.event_row(
                    tenant_id, box, camera, place_id, "service_open", "closed", event_id=event, still_sha256=sha["still"], has_still=True,
                    clip_sha256=sha["clip"],
                ))
            )  # fmt: skip
            connection.execute(
                insert(core.still).values(
                    camera_id=camera,
                    captured_ms=now_ms - 2000,
                    received_ms=now_ms - 1500,
                    sha256="0" * 64,
                    signature="",
                    size_bytes=9,
                )
            )
            command = letter * 31 + "d"
            connection.execute(
                insert(core.command).values(
                    id=command, tenant_id=tenant_id, box_id=box, do="fetch", by_user="somebody", created_ms=now_ms,
                    args={"camera": "hall", "from_ms": now_ms - 90_000, "to_ms": now_ms - 80_000, "reason": ""},
                )
            )  # fmt: skip
            alert = connection.execute(
                insert(tables.alert).values(
                    tenant_id=tenant_id, place_id=place_id, box_id=box, camera_id=camera, family="service", kind="service_open", what="closed",
                    value=1, state="open", first_ms=now_ms, last_ms=now_ms, times=1, signs=[], event_ids=[event], numbers={},
                )
            ).inserted_primary_key[0]  # fmt: skip
            hold = connection.execute(
                insert(tables.legal_hold).values(
                    tenant_id=tenant_id,
                    place_id=place_id,
                    from_ms=1,
                    to_ms=2,
                    reason="court",
                    by_user="x",
                    created_ms=now_ms,
                )
            ).inserted_primary_key[0]
            rows = self._tenant_rows(connection, tenant_id, letter) if letter != "b" else {}
        self.hub.stills.put_newest(camera, now_ms - 2000, now_ms - 1500, JPEG)
        return Corner(tenant_id, place, place_id, box, camera, event, sha["clip"], command, alert, hold, rows)

    def event_row(
        self, tenant_id: int, box: str, camera: int, place_id: int, kind: str, state: str, *, event_id: str, **more: Any
    ) -> dict[str, Any]:
        now_ms = self.clock.now
        return {
            "id": event_id, "tenant_id": tenant_id, "box_id": box, "camera_id": camera, "place_id": place_id, "kind": kind, "zone": "counter",
            "state": state, "is_end": False, "is_moment": False, "from_ms": now_ms - 5000, "to_ms": now_ms, "is_time_known": True,
            "received_ms": now_ms, "value": 1, "body": {"numbers": {}, "words": {"due": "open"}, "detail": "", "boot_id": "1" * 32},
            "still_sha256": None, "has_still": False, "clip_sha256": None, **more,
        }  # fmt: skip

    def _tenant_rows(self, connection: Any, tenant_id: int, letter: str) -> dict[str, int | str]:
        now_ms, seal = self.clock.now, self.app.state.seal
        user = connection.execute(
            insert(tables.user).values(
                tenant_id=tenant_id, name=f"somebody-{letter}", title="Somebody", password="x", created_ms=now_ms
            )
        ).inserted_primary_key[0]
        connection.execute(insert(tables.role).values(user_id=user, role="administrator", place_id=None))
        token, _ = access.new_token(connection, user, "somebody's", ["see"], now_ms)
        digest = f"{letter}b".ljust(64, "0")
        self.hub.blobs.put(f"bundles/{tenant_id}/{digest}", BUNDLE)
        bundle = {
            "sha256": digest,
            "version": "1.0",
            "size_bytes": len(BUNDLE),
            "blob": f"bundles/{tenant_id}/{digest}",
            "by_user": "x",
        }
        connection.execute(insert(core.bundle).values(tenant_id=tenant_id, stored_ms=now_ms, **bundle))
        made: dict[str, int | str] = {"user": f"somebody-{letter}", "token": token, "bundle": digest}
        for name, table, values in (
            ("webhook", tables.webhook, {"title": "w", "url": "http://127.0.0.1:9/", "secret": seal.close("s", "webhook"), "what": [], "is_on": False}),
            ("notification", tables.notification, {"title": "n", "address": seal.close("json://127.0.0.1:9/", "notification"), "families": [], "is_on": False}),
            ("deletion", tables.deletion_request, {
                "person": "p", "reason": "r", "from_ms": 1, "to_ms": 2, "state": "received", "received_ms": now_ms, "answer_by_ms": now_ms, "by_user": "x",
            }),
            ("rollout", tables.rollout, {
                "version": "0.9", "sha256": digest, "url": "https://hub.example/old", "state": "stopped", "by_user": "x", "created_ms": now_ms,
            }),
        ):  # fmt: skip
            made[name] = connection.execute(insert(table).values(tenant_id=tenant_id, **values)).inserted_primary_key[0]
        return made

    # -- people

    def user(self, name: str, *grants: tuple[str, int | None], tenant_id: int = 1, password: str | None = None) -> int:
        """Without a password there is nothing to hash: tests of what is allowed start sessions themselves."""
        with self.hub.store.writing() as connection:
            user_id = access.add_user(connection, tenant_id, name, password, grants, self.clock.now)
            if password is None:
                connection.execute(update(tables.user).where(tables.user.c.id == user_id).values(password="x"))
        return user_id

    def client(self, *, base_url: str = "https://hub.example") -> TestClient:
        """A browser, or program, that knows nothing yet. Without the hub's background work."""
        return TestClient(self.app, base_url=base_url, raise_server_exceptions=True, client=("203.0.113.7", 40000))

    def session(self, user_id: int) -> TestClient:
        """A browser of somebody who is logged in."""
        with self.hub.store.writing() as connection:
            name = access.start_session(connection, user_id, "203.0.113.7", self.clock.now)
        client = self.client()
        client.cookies.set("__Host-nvr", name)
        person = access.by_session(self.hub.store, name, self.clock.now)
        assert person is not None
        client.headers["X-CSRF"] = person.csrf
        return client

    def as_role(self, role: str, place_id: int | None = None, *, tenant_id: int = 1) -> TestClient:
        """Somebody with this role at a place, or at all; the same person each time."""
        key = role, place_id, tenant_id
        if key not in self._people:
            self._people[key] = self.user(f"{role}-{place_id or 'all'}", (role, place_id), tenant_id=tenant_id)
        return self.session(self._people[key])

    def store_event(self, kind: str, state: str, corner: Corner | None = None, **more: Any) -> dict[str, Any]:
        """An event as intake stores it, with what follows from it."""
        corner = corner or self.own
        number = self._numbers = getattr(self, "_numbers", 0) + 1
        row = self.event_row(
            corner.tenant_id, corner.box, corner.camera, corner.place_id, kind, state, event_id=f"{number:032x}", **more
        )
        with self.hub.store.writing() as connection:
            connection.execute(insert(core.event).values(**row))
            for hook in self.hub.on_events:
                hook(connection, [row])
        return row

    def heard(self, corner: Corner, heartbeat: Mapping[str, Any] | None = None) -> None:
        """A heartbeat of now."""
        values: dict[str, Any] = {"seen_ms": self.clock.now, "heartbeat_ms": self.clock.now}
        if heartbeat is not None:
            values["heartbeat"] = dict(heartbeat)
        with self.hub.store.writing() as connection:
            connection.execute(update(core.box).where(core.box.c.id == corner.box).values(**values))

    def hashed(self, password: str) -> str:
        return passwords.hashed(password)

    def close(self) -> None:
        self.hub.store.close()
