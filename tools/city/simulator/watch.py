"""What the hub shows, asked as a person would; and what lies in it at the end."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select

from nvr.errors import NvrError
from nvr.hub import storage, tables
from nvr.hub.database import open_store
from nvr.hub.settings import load
from tools.city.simulator.score import Seen, ToldAlarm
from tools.city.simulator.script import Ask
from tools.nvrctl.hub_client import HubClient

WHO = "admin"  # of furnish.PEOPLE: may see boxes and footage everywhere
DISK_CAUSES = ("disk failed", "disk full", "disk slow")


@dataclass
class Wish:
    """An Ask on its way: put to the hub when that is there, then followed."""

    ask: Ask
    from_s: float
    to_s: float
    command: str = ""
    state: str = "not asked"
    detail: str = ""

    @property
    def is_over(self) -> bool:
        return self.state in ("done", "refused", "withdrawn")


@dataclass
class Watch:
    """Somebody who looks at the hub."""

    url: str
    password: str
    seen: list[Seen] = field(default_factory=list)
    wishes: list[Wish] = field(default_factory=list)
    waiting: dict[str, int] = field(default_factory=dict)  # box -> depth of its outbox, by its last heartbeat
    _client: HubClient | None = None
    _camera_ids: dict[str, int] = field(default_factory=dict)

    def look(self, now_s: float) -> bool:
        """One look at all boxes, and at every wish; False when the hub does not answer."""
        try:
            if self._client is None:
                client = HubClient(self.url)
                client.log_in(WHO, self.password)
                self._client = client
            answer = self._client.ask("GET", "/api/v1/boxes")
            for box in answer["boxes"]:
                self._camera_ids.update({camera["name"]: camera["id"] for camera in box["cameras"]})
                self._note(now_s, answer["now_ms"], box)
            for wish in self.wishes:
                self._follow(wish)
        except NvrError:
            return False
        return True

    def _note(self, now_s: float, now_ms: int, box: dict[str, Any]) -> None:
        heartbeat = box["heartbeat"] or {}
        cameras = heartbeat.get("cameras") or {}
        named = [str((heartbeat.get("disk") or {}).get("trouble") or "")]
        named += sorted({str(each.get("cause")) for each in cameras.values() if each.get("cause") in DISK_CAUSES})
        recording = {name: bool(each.get("recording")) for name, each in cameras.items()}
        age_s = (now_ms - box["seen_ms"]) / 1000 if box["seen_ms"] else float("inf")
        if box["state"] in ("here", "silent"):
            self.seen.append(
                Seen(now_s, box["name"], box["state"] == "here", recording, ", ".join(filter(None, named)), age_s)
            )
        self.waiting[box["name"]] = int((heartbeat.get("outbox") or {}).get("depth") or 0)

    def _follow(self, wish: Wish) -> None:
        assert self._client is not None
        if wish.is_over:
            return
        if not wish.command:
            body = {"from_ms": round(wish.from_s * 1000), "to_ms": round(wish.to_s * 1000), "reason": "simulation"}
            answer = self._client.ask("POST", f"/api/v1/cameras/{self._camera_ids[wish.ask.camera]}/fetch", body)
            wish.command = answer["id"]
        else:
            answer = self._client.ask("GET", f"/api/v1/commands/{wish.command}")
        wish.state, wish.detail = answer["state"], answer["detail"]

    def close(self) -> None:
        if self._client is not None:
            with contextlib.suppress(NvrError):
                self._client.__exit__()


@dataclass(frozen=True, slots=True)
class StoredClip:
    box: str
    public_key: str
    camera: str
    sha256: str
    from_s: float
    to_s: float
    command: str
    event: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Held:
    """What lies at the hub when everything is over."""

    alarms: list[tuple[str, ToldAlarm]]  # box, alarm
    clips: list[StoredClip]
    owed: dict[str, str]  # events that promised a clip -> their camera
    events: int


def held(folder: Path) -> Held:
    """Read the hub's tables and objects, while it runs or not."""
    settings = load(folder)
    store = open_store(settings.database_url, settings.data_dir)
    objects = storage.open_blobs(settings.objects_url, settings.data_dir)
    event, box, camera, stored = tables.event, tables.box, tables.camera, tables.object_
    try:
        with store.reading() as connection:
            names = {row.id: row.name for row in connection.execute(select(camera.c.id, camera.c.name))}
            boxes = {row.id: (row.name, row.public_key) for row in connection.execute(select(box))}
            events = connection.execute(select(event)).all()
            rows = connection.execute(select(stored).where(stored.c.kind == "clip")).all()
    finally:
        store.close()
    alarms = [
        (
            boxes[row.box_id][0],
            ToldAlarm(names[row.camera_id], row.kind, row.state, row.from_ms / 1000, row.received_ms / 1000),
        )
        for row in events
        if not row.is_end and not row.is_moment
    ]
    clips = [
        StoredClip(
            *boxes[row.box_id], names[row.camera_id], row.sha256, row.from_ms / 1000, row.to_ms / 1000, row.command_id or "",
            row.event_id or "", b"".join(objects.read(row.blob)),
        )
        for row in rows
    ]  # fmt: skip
    owed = {row.id: names[row.camera_id] for row in events if isinstance(row.body, dict) and row.body.get("clip")}
    return Held(alarms, clips, owed, len(events))
