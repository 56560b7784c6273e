"""What the box sees, for the page: live tracks and states, stored events with their stills, and the zones drawn over the picture.

Listens to `detect` on DATA/run/seen.sock, however often that starts anew; states and events come from DATA/events, so they are
there without it too, and marked as old. Zones are read from the site file at each question and written back into its text.

Wire of the WebSocket /seen?camera=NAME, box to page, JSON text:
    {"kind": "seen", ...}                                      as detect/process.py tells it, for this camera
    {"kind": "event", "event": {...}}                          the same
    {"kind": "states", "states": [...], "is_looking", "status"}   at the beginning, once a second when something of it changed
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from nvr import site, site_edit
from nvr.announce import SEEN_SOCKET
from nvr.errors import NvrError
from nvr.events import Events, EventsUnreadable, State
from nvr.hearing import packets
from nvr.site_edit import CannotEdit, ChangedMeanwhile, Drawing, Drawn
from nvr.web.answers import SECURITY_HEADERS, NotFound, Unavailable, WrongQuestion, error_answer, json_answer, json_body
from nvr.web.guard import Guard, is_same_origin
from nvr.web.settings import PageSettings

log = logging.getLogger(__name__)

SILENT_S = (
    20.0  # detect tells its state every second, but a busy box gives it little CPU; when it is gone its socket ends
)
LOOK_S = 1.0  # what it told is looked at again so often, while detection says nothing
WATCHERS_MOST = 40
WAITING_MOST = 30  # messages for one page: some seconds of one camera
EVENTS_MOST = 200  # in one answer
PLACES_MOST = 64  # zones, masks and lines of one camera in one request
POINTS_MOST = 64
SESSION_CHECK_S = 10.0
ANSWERS_S = 20.0
DRAWING_BYTES = 128 << 10  # 64 places with 64 corners


class _Watcher:
    """One open page that looks at one camera. Only ever touched by the event loop."""

    def __init__(self, camera: str) -> None:
        self.camera = camera
        self.waiting: deque[str] = deque(maxlen=WAITING_MOST)
        self.awake = asyncio.Event()
        self.told = ""

    def put(self, text: str) -> None:
        self.waiting.append(text)
        self.awake.set()


class Seeing:
    def __init__(self, data_dir: Path, settings: PageSettings, guard: Guard) -> None:
        self._run_dir = data_dir / "run"
        self._settings = settings
        self._guard = guard
        self._events = Events(data_dir / "events")
        self._cameras = frozenset(camera.name for camera in settings.cameras)
        self._watchers: set[_Watcher] = set()
        self._status: dict[str, Any] = {}
        self._heard_s = float("-inf")
        self._readers = ThreadPoolExecutor(2, "seeing")
        self._editing = asyncio.Lock()

    def routes(self) -> list[BaseRoute]:
        closed = self._guard.closed
        return [
            Route("/api/seeing", closed(self._seeing)),
            Route("/api/events", closed(self._list)),
            Route("/api/events/{number}/still", closed(self._still)),
            Route("/api/scene", closed(self._scene)),
            Route("/api/scene", closed(self._draw), methods=["POST"]),
            WebSocketRoute("/seen", self._seen),
        ]

    async def _read(self, work: Any, *arguments: Any) -> Any:
        """Something that waits for the disk. Raises Unavailable when that hangs."""
        try:
            async with asyncio.timeout(ANSWERS_S):
                return await asyncio.get_running_loop().run_in_executor(self._readers, work, *arguments)
        except EventsUnreadable as error:
            raise Unavailable(str(error), hint=error.hint) from error
        except TimeoutError:
            raise Unavailable(
                f"the disk has not answered for {ANSWERS_S:.0f} s", hint="Look at the health page."
            ) from None

    # -- detect

    @property
    def is_looking(self) -> bool:
        return time.monotonic() - self._heard_s < SILENT_S

    async def listen(self) -> None:
        """Run until cancelled."""
        async with contextlib.aclosing(packets(self._run_dir, SEEN_SOCKET, idle_s=LOOK_S)) as heard:
            async for packet in heard:
                if packet is None:
                    self._heard_s = float("-inf")
                elif packet:
                    try:
                        await self._take(packet)
                    except (ValueError, KeyError, TypeError) as error:
                        log.warning("detection said something that cannot be understood: %r", error)
                if not self.is_looking:
                    await self._tell_states()

    async def _take(self, packet: bytes) -> None:
        is_seen = packet.startswith(b'{"kind":"seen"')
        if is_seen and not self._watchers:
            return  # most of the time nobody looks, and many a message a second is not worth reading
        message = json.loads(packet)
        kind = message.get("kind")
        if kind == "status":
            self._status, self._heard_s = message, time.monotonic()
            await self._tell_states()
            return
        camera = message["camera"] if is_seen else message["event"]["camera"] if kind == "event" else None
        for watcher in self._watchers:
            if watcher.camera == camera:
                watcher.put(packet.decode())

    async def _tell_states(self) -> None:
        if not self._watchers:
            return
        try:
            states = await self._read(self._events.states)
        except NvrError as error:
            log.warning("%s", error)
            return
        for watcher in self._watchers:
            self._tell_one(watcher, states)

    def _tell_one(self, watcher: _Watcher, states: list[State]) -> None:
        text = json.dumps({"kind": "states", **self._states_of(watcher.camera, states)}, separators=(",", ":"))
        if text != watcher.told:
            watcher.told = text
            watcher.put(text)

    def _states_of(self, camera: str, states: list[State]) -> dict[str, Any]:
        """`is_now` False: what was true when detection was last heard of."""
        life = self._status.get("life") if self.is_looking else None
        told = [
            {**state.stored.to_json(), "open": state.open, "is_now": state.life == life}
            for state in states
            if state.stored.event.camera == camera and (state.open > 0)
        ]
        cameras = self._status.get("cameras")
        status = cameras.get(camera) if self.is_looking and isinstance(cameras, dict) else None
        short = (
            {key: status.get(key) for key in ("stream", "looks_per_s", "shed", "trouble", "is_keyframes_only")}
            if status
            else None
        )
        return {"states": told, "is_looking": self.is_looking, "model": self._status.get("model", ""), "status": short}

    async def _seen(self, websocket: WebSocket) -> None:
        if not is_same_origin(websocket) or websocket.headers.get("origin") is None:
            await websocket.close(4403)
            return
        if self._guard.session(websocket) is None:
            await websocket.close(4401)
            return
        camera = websocket.query_params.get("camera", "")
        if camera not in self._cameras or len(self._watchers) >= WATCHERS_MOST:
            await websocket.close(4404 if camera not in self._cameras else 4429)
            return
        watcher = _Watcher(camera)
        self._watchers.add(watcher)
        try:
            await websocket.accept()
            self._tell_one(watcher, await self._read(self._events.states))
            hearing = asyncio.create_task(self._hear(websocket))
            try:
                await self._send(websocket, watcher, hearing)
            finally:
                hearing.cancel()
                await asyncio.gather(hearing, return_exceptions=True)
        except (WebSocketDisconnect, ConnectionError, RuntimeError, NvrError):
            pass  # the page was closed, or the link broke in the middle of a message
        finally:
            self._watchers.discard(watcher)

    async def _hear(self, websocket: WebSocket) -> None:
        """The page has nothing to say; this ends when it is closed."""
        while True:
            await websocket.receive_text()

    async def _send(self, websocket: WebSocket, watcher: _Watcher, hearing: asyncio.Task[None]) -> None:
        checked_s = time.monotonic()
        while not hearing.done():
            if time.monotonic() - checked_s > SESSION_CHECK_S:
                checked_s = time.monotonic()
                if self._guard.session(websocket) is None:
                    await websocket.close(4401)
                    return
            while watcher.waiting:
                await websocket.send_text(watcher.waiting.popleft())
            watcher.awake.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(watcher.awake.wait(), 2.0)

    # -- states and events

    async def _seeing(self, request: Request) -> Response:
        """Every camera: what is true now, and how well it is looked at."""
        states = await self._read(self._events.states)
        cameras = {camera.name: self._states_of(camera.name, states) for camera in self._settings.cameras}
        return json_answer(
            {"is_looking": self.is_looking, "cameras": cameras, "status": self._status if self.is_looking else None}
        )

    async def _list(self, request: Request) -> Response:
        parameters = request.query_params
        camera = parameters.get("camera")
        if camera is not None and camera not in self._cameras:
            raise NotFound(f"there is no camera {camera[:40]} on this box", hint="GET /api/streams lists them.")
        before = _whole(parameters.get("before"), "before", 1 << 53) if "before" in parameters else None
        limit = _whole(parameters.get("limit", "50"), "limit", EVENTS_MOST)
        moments = parameters.get("moments", "true") != "false"
        found = await self._read(
            lambda: self._events.newest(camera=camera, before=before, limit=limit, moments=moments)
        )
        return json_answer({"events": [stored.to_json() for stored in found]})

    async def _still(self, request: Request) -> Response:
        number = _whole(request.path_params["number"], "number", 1 << 53)
        jpeg = await self._read(self._events.still, number)
        if jpeg is None:
            raise NotFound("there is no still of this event (any more)", hint="Look at the recorded picture instead.")
        return Response(jpeg, 200, {"cache-control": "private, no-store", **SECURITY_HEADERS}, "image/jpeg")

    # -- zones

    def _site_path(self) -> Path:
        if self._settings.site_path is None:
            raise NotFound("this page was started without a site file", hint="Start it with --site.")
        return self._settings.site_path

    async def _scene(self, request: Request) -> Response:
        camera = request.query_params.get("camera", "")
        return json_answer(await self._read(self._scene_of, camera))

    def _scene_of(self, name: str) -> dict[str, Any]:
        path = self._site_path()
        data = site_edit.read(path)
        found = site.check_text(data, path).site
        if found is None:
            raise Unavailable(
                "the site file has faults, so its zones cannot be shown", hint="On the box, type: nvr site check"
            )
        camera = next((each for each in found.cameras if each.name == name), None)
        if camera is None or name not in self._cameras:
            raise NotFound("there is no such camera on this box", hint="GET /api/streams lists them.")
        used: dict[str, list[str]] = {}
        for rule in camera.rules:
            for key in ("zone", "line"):
                if rule.settings.get(key):
                    used.setdefault(str(rule.settings[key]), []).append(rule.name)
        return {
            "version": site_edit.version_of(data),
            "is_looked_at": camera.is_looked_at,
            "zones": [
                {"name": zone.name, "points": zone.corners, "rules": used.get(zone.name, [])} for zone in camera.zones
            ],
            "masks": [{"name": zone.name, "points": zone.corners, "rules": []} for zone in camera.masks],
            "lines": [
                {"name": line.name, "points": (line.start, line.end), "rules": used.get(line.name, [])}
                for line in camera.lines
            ],
        }

    async def _draw(self, request: Request) -> Response:
        body = await json_body(request, DRAWING_BYTES)
        camera, version = str(body.get("camera")), str(body.get("version"))
        if camera not in self._cameras:
            raise NotFound("there is no such camera on this box", hint="GET /api/streams lists them.")
        drawing = Drawing(_drawn(body, "zones"), _drawn(body, "masks"), _drawn(body, "lines", ends=2))
        path = self._site_path()
        async with self._editing:
            try:
                new = await self._read(site_edit.save, path, version, camera, drawing)
            except ChangedMeanwhile as error:
                return error_answer(str(error), error.hint, 409)
            except site.SiteFaulty as error:
                return _faulty(error, camera)
            except CannotEdit as error:
                return error_answer(str(error), error.hint, 422)
        log.info("somebody drew zones of %s into %s", camera, path)
        return json_answer({"version": new})


def _faulty(error: site.SiteFaulty, camera: str) -> Response:
    """The first fault in words, all of them as data; places in the file mean nothing to somebody who draws."""
    faults = [
        {
            "line": fault.line,
            "key": fault.key.removeprefix(f"cameras.{camera}."),
            "what": fault.what,
            "instead": fault.instead,
        }
        for fault in error.faults
    ]
    first = error.faults[0]
    what = f"{first.key.removeprefix(f'cameras.{camera}.')}: {first.what}"
    return json_answer({"error": what, "hint": first.instead, "faults": faults}, 422)


def _drawn(body: dict[str, Any], group: str, ends: int | None = None) -> tuple[Drawn, ...]:
    """Raises WrongQuestion."""
    places = body.get(group)
    if not isinstance(places, list) or len(places) > PLACES_MOST:
        raise WrongQuestion(f"`{group}` is a list of at most {PLACES_MOST} places", hint="Reload the page.")
    return tuple(_place(place, group, ends) for place in places)


def _place(place: Any, group: str, ends: int | None) -> Drawn:
    """Raises WrongQuestion."""
    points = place.get("points") if isinstance(place, dict) else None
    if not isinstance(points, list) or len(points) > POINTS_MOST or (ends is not None and len(points) != ends):
        raise WrongQuestion(f"a place in `{group}` has a name and points", hint="Reload the page.")
    found = []
    for point in points:
        if (
            not isinstance(point, list)
            or len(point) != 2
            or not all(
                isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1 for value in point
            )
        ):
            raise WrongQuestion("a point is a pair of fractions from 0 to 1", hint="Reload the page.")
        found.append((round(float(point[0]), site_edit.DIGITS), round(float(point[1]), site_edit.DIGITS)))
    name, was = place.get("name"), place.get("was") or ""
    if not isinstance(name, str) or not isinstance(was, str) or not site_edit.is_name(name):
        raise WrongQuestion(
            f"{str(name)[:40]!r} cannot be the name of a place",
            hint="Use lower-case letters, digits, - and _, at most 40 characters.",
        )
    return Drawn(name, tuple(found), was)


def _whole(text: str | None, name: str, most: int) -> int:
    """Raises WrongQuestion."""
    if text is None or not (text.isascii() and text.isdecimal()) or len(text) > 16 or not 1 <= int(text) <= most:
        raise WrongQuestion(f"{name} is a whole number from 1 to {most}", hint="Take it from /api/events.")
    return int(text)
