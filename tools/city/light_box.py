"""A light box: everything a box says to its hub, over the real wire, of cameras that are only drawn.

Enrolment with a one-time code, an Ed25519 key of its own, signed tokens, one WebSocket; heartbeats, signed stills, events with their
stills, repeated until the hub acknowledged them. It keeps no footage: it answers `fetch` and `live_on` with "no", in words.
What nvr/uplink does for a real box this does for many, in one process and without a disk, so that a whole city runs on a laptop.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from nvr import __version__, wire
from nvr.evidence import Identity
from tools.city import day, pictures
from tools.city.city import Box, Place
from tools.city.story import Story

log = logging.getLogger(__name__)

TICK_S = 1.0
UPDATE_STEP_S = 4.0  # of an update that is only played
RETRY_S = (1.0, 2.0, 5.0)
RENEWED_S = 20.0  # how often a queue's numbers are told again when they changed
ALARMS = frozenset((("congestion", "jam"), ("queue", "long queue"), ("crowd", "crowd"), ("stopped_vehicle", "stopped")))


class HubRefused(Exception):
    """The hub does not want this box; trying again helps nobody."""


@dataclass
class Told:
    """A state that holds, as its event told it."""

    state: day.State
    event_id: str
    body: dict[str, Any]
    told_s: float


class LightBox:
    def __init__(self, box: Box, story: Story, identity: Identity, hub_url: str, time_zone: str) -> None:
        self.box, self.story, self.identity = box, story, identity
        self.url, self.time_zone = hub_url.rstrip("/"), time_zone
        self.life, self.boot_id = secrets.token_hex(8), secrets.token_hex(16)
        self.cameras: list[tuple[str, Place]] = box.cameras
        self._began_s = time.monotonic()
        self._number = 0
        self._told: dict[str, dict[tuple[str, str, str], Told]] = {name: {} for name, _ in self.cameras}
        self._since: dict[str, tuple[bool, int]] = {}  # camera -> recording, since
        self._waiting: dict[str, tuple[wire.Message, wire.Message | None]] = {}  # events that are not acknowledged
        self._still_s = wire.STILL_S
        self._heartbeat_s = wire.HEARTBEAT_S
        self._looked_s = 0.0
        self._sent_bytes = 0
        self._update: dict[str, str] | None = None  # as the heartbeat tells it
        self._updating: asyncio.Task[None] | None = None
        self._heartbeat_due_s = 0.0

    # -- who it is

    def token(self) -> str:
        to_sign = wire.token_to_sign(self.identity.box_id, int(time.time()))
        return wire.signed_token(to_sign, self.identity.sign(to_sign))

    async def enrol(self, code: str) -> None:
        """Make the box known to the hub. Raises HubRefused, httpx.HTTPError."""
        digest = wire.code_hash(code)
        proof = self.identity.sign(b"\0".join((b"nvr enrol", digest.encode(), self.identity.public_bytes)))
        body = {
            "v": wire.VERSION, "code": code, "public_key": self.identity.public_bytes.hex(), "box": self.box.name, "site": self.site,
            "software": self.software, "proof": proof.hex(),
        }  # fmt: skip
        async with httpx.AsyncClient(timeout=30) as client:
            answer = await client.post(f"{self.url}/box/v1/enrol", json=body)
        if answer.status_code != 200:
            raise HubRefused(
                f"{self.box.name}: the hub did not take the code: {answer.status_code} {answer.text[:200]}"
            )

    @property
    def site(self) -> str:
        return self.box.name.rpartition("-")[0]

    @property
    def software(self) -> str:
        return f"nvr {__version__} light replay"

    # -- the connection

    async def run(self) -> None:
        """Until cancelled. Raises HubRefused when the hub closed the door for good."""
        tries = 0
        while True:
            if self.story.is_silent(self.box.name, time.time()):
                await asyncio.sleep(TICK_S)
                continue
            try:
                await self._connected()
                tries = 0
            except (OSError, WebSocketException, TimeoutError) as error:
                code = getattr(getattr(error, "rcvd", None), "code", 0)
                if code in (4401, 4403):
                    raise HubRefused(f"{self.box.name}: the hub closed the connection ({code})") from None
                log.info("%s: %s, trying again", self.box.name, str(error) or type(error).__name__)
            await asyncio.sleep(RETRY_S[min(tries, len(RETRY_S) - 1)])
            tries += 1

    async def _connected(self) -> None:
        headers = {"Authorization": f"Bearer {self.token()}"}
        address = self.url.replace("http", "ws", 1) + "/box/v1/control"
        async with connect(
            address, subprotocols=[wire.SUBPROTOCOL], additional_headers=headers, compression=None, open_timeout=30
        ) as socket:  # type: ignore[list-item]
            await self._say(socket, wire.Message("hello", self.hello()))
            welcome = json.loads(await asyncio.wait_for(socket.recv(), 30))
            self._heartbeat_s = float(welcome.get("heartbeat_s", wire.HEARTBEAT_S))
            self._still_s = float(welcome.get("still_s", wire.STILL_S))
            for event, still in list(self._waiting.values()):
                await self._say_event(socket, event, still)
            tasks = [asyncio.create_task(each) for each in (self._hear(socket), self._speak(socket))]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _say(self, socket: ClientConnection, message: wire.Message) -> None:
        data: str | bytes = message.to_bytes() if message.payload else message.to_text()
        self._sent_bytes += len(data)
        await socket.send(data)

    async def _say_event(self, socket: ClientConnection, event: wire.Message, still: wire.Message | None) -> None:
        await self._say(socket, event)
        if still is not None:
            await self._say(socket, still)

    async def _hear(self, socket: ClientConnection) -> None:
        async for data in socket:
            try:
                message = wire.parse(data, wire.DOWN)
            except wire.WireError as error:
                log.warning("%s: the hub said something odd: %s", self.box.name, error)
                continue
            if message.kind == "ack":
                for event_id in message.body.get("events", ()):
                    self._waiting.pop(event_id, None)
            elif message.kind == "ping":
                await self._say(socket, wire.Message("pong", {"n": message.body.get("n", 0)}))
            elif message.kind == "refused":
                self._waiting.pop(str(message.body.get("event")), None)
                log.warning("%s: refused: %s", self.box.name, message.body.get("what"))
            elif message.kind == "command":
                await self._command(socket, message)

    async def _command(self, socket: ClientConnection, message: wire.Message) -> None:
        do, args = message.body.get("do"), message.body.get("args") or {}
        if do == "still":
            place = dict(self.cameras).get(args.get("camera"))
            if place is not None:
                await self._still(socket, args["camera"], place, time.time())
        if do == "update":
            self._updating = asyncio.create_task(self._play_update(str(args.get("version"))))
        is_ok = do in ("still", "live_off", "restart", "update")
        detail = "" if is_ok else "a light replay of the demo keeps no footage"
        await self._say(
            socket, wire.Message("reply", {"id": message.body.get("id"), "ok": is_ok, "detail": detail, "more": {}})
        )

    async def _play_update(self, version: str) -> None:
        """What a box that updates itself says, a bit faster; nothing is fetched."""
        steps = [("fetching", "9 of 180 MiB"), ("fetching", "120 of 180 MiB"), ("restarting", ""), ("committed", "")]
        if self.box.name in self.story.update_fails:
            steps[-1] = ("return", "its cameras did not record")
        for state, reason in steps:
            self._update = {"state": state, "version": version, "reason": reason}
            self._heartbeat_due_s = 0.0
            await asyncio.sleep(UPDATE_STEP_S)

    async def _speak(self, socket: ClientConnection) -> None:
        """Looks once a second; heartbeats and stills when they are due, the stills spread over their ten seconds."""
        self._heartbeat_due_s = 0.0
        stills_s = {
            name: time.monotonic() + self._still_s * number / max(1, len(self.cameras)) - self._still_s
            for number, (name, _) in enumerate(self.cameras)
        }
        while True:
            wall_s, now_s = time.time(), time.monotonic()
            if self.story.is_silent(self.box.name, wall_s):
                return
            await self._look(socket, wall_s)
            if now_s >= self._heartbeat_due_s:
                self._heartbeat_due_s = now_s + self._heartbeat_s
                await self._say(socket, wire.Message("heartbeat", self.heartbeat(wall_s)))
            for name, place in self.cameras:
                if now_s >= stills_s[name]:
                    stills_s[name] = max(stills_s[name] + self._still_s, now_s)
                    await self._still(socket, name, place, wall_s)
            await asyncio.sleep(TICK_S)

    # -- what it says

    def hello(self) -> dict[str, Any]:
        cameras = []
        for name, place in self.cameras:
            zone = {"traffic": "lane", "public-space": "square"}.get(place.kind, "counter")
            cameras.append(
                {
                    "camera": name, "place": place.name, "template": place.template,
                    "streams": [{"stream": f"{name}/main", "codec": "avc1.64001f", "width": 1280, "height": 720}],
                    "zones": {zone: [[0.1, 0.4], [0.9, 0.4], [0.9, 0.95], [0.1, 0.95]]},
                    "lines": {"line": {"from": [0.1, 0.8], "to": [0.9, 0.8]}} if place.kind == "traffic" else {},
                    "rules": {}, "hours": dict(place.hours) if place.hours else None,
                }
            )  # fmt: skip
        return {
            "box": self.box.name, "site": self.site, "boot_id": self.boot_id, "software": self.software, "slot": "A",
            "time_zone": self.time_zone, "site_digest": "", "cameras": cameras,
        }  # fmt: skip

    def heartbeat(self, wall_s: float) -> dict[str, Any]:
        cameras, seed, up_s = {}, self.box.name, time.monotonic() - self._began_s
        for name, place in self.cameras:
            is_down = self.story.scene(place, name, wall_s).fault == "down"
            was = self._since.get(name)
            if was is None or was[0] == is_down:
                was = self._since[name] = (not is_down, round(wall_s * 1000))
            cameras[name] = {
                "recording": not is_down, "cause": "camera" if is_down else None, "detail": "", "since_ms": was[1], "fps": 0.0 if is_down else 25.0,
                "kbit_s": 0 if is_down else 2100, "lost_packets": 0, "looked_at": "yes",
            }  # fmt: skip
        states = [
            {**told.body, "id": told.event_id, "open": 1} for camera in self._told.values() for told in camera.values()
        ]
        total_bytes = 128_000_000_000
        return {
            "at_ms": round(wall_s * 1000), "mono_ms": round(up_s * 1000), "boot_id": self.boot_id, "clock": {"state": "synced", "error_ms": 12},
            "cameras": cameras, "states": states,
            "ledger": {name: {"recorded_s": round(up_s), "missing_s": 0, "by_cause": {}} for name, _ in self.cameras},
            "disk": {"total_bytes": total_bytes, "free_bytes": round(total_bytes * (0.1 + 0.5 * day.chance(seed, "disk"))), "written_bytes": 0,
                     "life_left_percent": round(100 - 40 * day.chance(seed, "life")), "trouble": ""},
            "temperature_c": round(44 + 14 * day.chance(seed, "heat") + 2 * day.chance(seed, round(wall_s / 60)), 1),
            "load": round(0.3 + day.chance(seed, "load"), 2),
            "uplink": {"sent_bytes": self._sent_bytes, "resent_bytes": 0, "cap_kbit_s": 512, "rtt_ms": round(30 + 90 * day.chance(seed, "rtt"))},
            "outbox": {"depth": len(self._waiting), "bytes": 0, "oldest_ms": None, "by_value": {}}, "shed": [], "slot": "A", "update": self._update,
        }  # fmt: skip

    async def _still(
        self, socket: ClientConnection, name: str, place: Place, wall_s: float, event_id: str | None = None
    ) -> wire.Message | None:
        """Send the newest still; None when the camera gives none. With `event_id` it is only made, and belongs to that event."""
        seen = self.story.scene(place, name, wall_s)
        if seen.fault == "down":
            return None
        at_s = self.story.at_s(wall_s) if seen.fault != "frozen" else 0.0
        jpeg = await asyncio.to_thread(pictures.still, place, name, seen, at_s)
        captured_ms, digest = round(wall_s * 1000), sha256(jpeg).hexdigest()
        body = {
            "camera": name, "captured_ms": captured_ms, "clock": {"state": "synced", "error_ms": 12}, "sha256": digest,
            "signature": self.identity.sign(wire.still_signed(name, captured_ms, digest)).hex(),
        }  # fmt: skip
        message = wire.Message("still", body if event_id is None else {**body, "event": event_id}, jpeg)
        if event_id is None:
            await self._say(socket, message)
        return message

    async def _look(self, socket: ClientConnection, wall_s: float) -> None:
        """Tell what began, what ended and what became another."""
        before_s, self._looked_s = self._looked_s or wall_s, wall_s
        for name, place in self.cameras:
            seen = self.story.scene(place, name, wall_s)
            now = {state.key: state for state in self.story.states(place, seen, wall_s)}
            told = self._told[name]
            for key in [key for key in told if key not in now]:
                ended = told.pop(key)
                if key[2]:  # one that follows others does not end, another one follows
                    await self._event(
                        socket, name, place, ended.state, wall_s, is_end=True, from_ms=ended.body["from_ms"]
                    )
            for key, state in now.items():
                old = told.get(key)
                if old is None or (old.state.state, old.state.words) != (state.state, state.words):
                    told[key] = await self._event(socket, name, place, state, wall_s)
                elif old.state.numbers != state.numbers and wall_s - old.told_s > RENEWED_S:
                    since = old.body["from_ms"]
                    told[key] = (
                        await self._event(socket, name, place, state, wall_s, from_ms=since)
                        if state.kind == "queue"
                        else Told(state, old.event_id, {**old.body, "numbers": dict(state.numbers)}, wall_s)
                    )
            if place.kind == "traffic" and not seen.fault:
                for thing, way in day.crossings(place, name, self.story.at_s(before_s), self.story.at_s(wall_s)):
                    passed = day.State(
                        "line_crossing", "line", "crossed", (("count", 1.0),), (("class", thing), ("direction", way))
                    )
                    await self._event(socket, name, place, passed, wall_s, is_moment=True)

    async def _event(
        self, socket: ClientConnection, name: str, place: Place, state: day.State, wall_s: float, *, is_end: bool = False,
        is_moment: bool = False, from_ms: int | None = None,
    ) -> Told:  # fmt: skip
        self._number += 1
        event_id = wire.event_id(self.identity.box_id, self.life, self._number)
        now_ms = round(wall_s * 1000)
        body = {
            "number": self._number, "camera": name, "kind": state.kind, "zone": state.zone, "state": state.state, "is_end": is_end,
            "is_moment": is_moment, "from_ms": from_ms or now_ms, "to_ms": now_ms, "tracks": [], "numbers": dict(state.numbers),
            "words": dict(state.words), "detail": state.detail, "stream": f"{name}/main", "from_sequence": 0, "to_sequence": 0, "has_still": not is_moment,
        }  # fmt: skip
        still = None if is_moment else await self._still(socket, name, place, wall_s, event_id)
        is_alarm = (
            (state.kind, state.state) in ALARMS
            or state.kind == "tamper"
            or (state.kind, state.state, dict(state.words).get("due")) == ("service_open", "closed", "open")
        )
        message = wire.Message(
            "event",
            {
                "id": event_id, "event": body, "boot_id": self.boot_id, "from_mono_ns": 0, "to_mono_ns": 0,
                "value": wire.ALARM if is_alarm and not is_end else wire.STATE, **({} if still is None else {"still_sha256": still.body["sha256"]}),
            },
        )  # fmt: skip
        self._waiting[event_id] = (message, still)
        await self._say_event(socket, message, still)
        return Told(state, event_id, body, wall_s)


async def run_all(boxes: list[LightBox]) -> None:
    """All of them until cancelled. One that the hub refused is told and left; the others go on."""

    async def one(box: LightBox) -> None:
        try:
            await box.run()
        except HubRefused as refused:
            log.error("%s", refused)

    await asyncio.gather(*(one(box) for box in boxes))


def identity_of(folder: Path, name: str) -> Identity:
    """The key of a light box, kept, so that the next start needs no new code."""
    return Identity.load_or_create(folder / f"{name}.key")
