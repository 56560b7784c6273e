"""The process behind the page: routes, the live WebSocket, and how it starts and ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from nvr import systemd
from nvr.clock import Clock, SystemClock
from nvr.errors import NvrError
from nvr.http_connection import Impatient
from nvr.media import Position
from nvr.web.access import SESSION_VALID_S, Access
from nvr.web.answers import SECURITY_HEADERS, error_answer, json_answer, json_body
from nvr.web.api import Api
from nvr.web.assets import Assets
from nvr.web.cutting import Cutting
from nvr.web.footage import Footage
from nvr.web.guard import Guard, address_of, is_same_origin
from nvr.web.live import Live, Watcher
from nvr.web.missing import Missing
from nvr.web.seeing import Seeing
from nvr.web.settings import PageSettings
from nvr.web.sharing import Sharing

log = logging.getLogger(__name__)

PAGES_AT_ONCE = 40  # open live pages; each costs at most one fragment of memory at a time
SESSION_CHECK_S = 10.0  # an open live page ends this long after its log-out
MESSAGE_BYTES = 16 << 10  # what a page may send at once
REQUESTS_AT_ONCE = 200
READS_AT_ONCE = 4


class ListenFailed(NvrError):
    """The address of the page cannot be used."""


class Page:
    """Everything behind the page of one box."""

    def __init__(self, data_dir: Path, settings: PageSettings, clock: Clock | None = None) -> None:
        clock = clock or SystemClock()
        self.settings = settings
        self.access = Access(data_dir, clock)
        self.guard = Guard(self.access)
        self.assets = Assets()
        self.live = Live(data_dir / "run", settings.stream_names, clock)
        self.footage = Footage(data_dir, settings, clock)
        missing = Missing(self.footage)
        self.cutting = Cutting(data_dir, settings, self.footage, clock)
        self.api = Api(data_dir, settings, self.live, self.footage, missing, self.cutting, clock)
        self.seeing = Seeing(data_dir, settings, self.guard)
        self.sharing = Sharing(data_dir, settings.box)
        self._pages_open = 0
        self._readers = ThreadPoolExecutor(READS_AT_ONCE, "live")

    def app(self) -> Starlette:
        guard = self.guard
        routes: list[BaseRoute] = [
            Route("/", self._start),
            Route("/login", self._login_page),
            Route("/enter", self._login_page),
            Route("/page/{version}/{name}", self.assets.versioned),
            Route("/api/login", guard.open(self._log_in), methods=["POST"]),
            Route("/api/password", guard.open(self._set_password), methods=["POST"]),
            Route("/api/logout", guard.closed(self._log_out), methods=["POST"]),
            Route("/api/session", guard.closed(self._session)),
            *self.api.routes(guard),
            *self.seeing.routes(),
            *self.sharing.routes(guard),
            WebSocketRoute("/live", self._live),
        ]
        app = Starlette(routes=routes, lifespan=self._lifespan)
        app.router.redirect_slashes = False  # every address is spelled in one way
        app.add_exception_handler(404, _not_found)
        app.add_exception_handler(405, _not_found)
        app.add_exception_handler(500, _failed)
        return app

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(work) for work in self._works()]
        for task in tasks:
            task.add_done_callback(_say_if_failed)
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _works(self) -> tuple[Coroutine[Any, Any, None], ...]:
        """What goes on all the time beside the answers."""
        return (
            systemd.signs_of_life(),
            self.live.listen(),
            self.live.tell(),
            self.live.look(),
            self.cutting.tidy_up(),
            self.seeing.listen(),
        )

    async def _start(self, request: Request) -> Response:
        if self.guard.session(request) is None:
            return RedirectResponse("/login", 303, {"cache-control": "no-store", **SECURITY_HEADERS})
        return self.assets.answer(request, "index.html", "no-store")

    async def _login_page(self, request: Request) -> Response:
        return self.assets.answer(request, "login.html", "no-store")

    async def _log_in(self, request: Request) -> Response:
        password = (await json_body(request)).get("password")
        name = await asyncio.to_thread(self.access.log_in, str(password or ""), address_of(request))
        return self._logged_in(request, name)

    async def _set_password(self, request: Request) -> Response:
        body = await json_body(request)
        token, password = str(body.get("token") or ""), str(body.get("password") or "")
        name = await asyncio.to_thread(self.access.set_password, token, password, address_of(request))
        return self._logged_in(request, name)

    def _logged_in(self, request: Request, name: str) -> Response:
        response = json_answer({"ok": True})
        self.guard.set_cookie(request, response, name, SESSION_VALID_S)
        return response

    async def _log_out(self, request: Request) -> Response:
        await asyncio.to_thread(self.access.log_out, request.state.session)
        response = json_answer({"ok": True}, headers={"clear-site-data": '"cache", "storage"'})
        self.guard.set_cookie(request, response, "", 0)
        return response

    async def _session(self, request: Request) -> Response:
        return json_answer({"csrf": request.state.session.csrf, **self.settings.to_json()})

    async def _live(self, websocket: WebSocket) -> None:
        """Fragments as they are recorded; the protocol is in live.py."""
        if not is_same_origin(websocket) or websocket.headers.get("origin") is None:
            await websocket.close(4403)
            return
        if self.guard.session(websocket) is None:
            await websocket.close(4401)
            return
        if self._pages_open >= PAGES_AT_ONCE:
            await websocket.close(4429)
            return
        self._pages_open += 1
        watcher = self.live.add()
        try:
            await websocket.accept()
            listening = asyncio.create_task(self._hear(websocket, watcher))
            try:
                await self._send(websocket, watcher, listening)
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)
        except (WebSocketDisconnect, ConnectionError, RuntimeError):
            pass  # the page was closed, or the link broke in the middle of a message
        finally:
            self.live.remove(watcher)
            self._pages_open -= 1

    async def _hear(self, websocket: WebSocket, watcher: Watcher) -> None:
        """Take the page's messages until it closes or says nonsense."""
        while True:
            text = await websocket.receive_text()
            try:
                if len(text) > MESSAGE_BYTES:
                    raise ValueError
                message = json.loads(text)
                if "watch" in message:
                    watcher.watch([str(name) for name in message["watch"]])
                elif "got" in message:
                    watcher.got(str(message["got"]))
                elif "again" in message:
                    watcher.again(str(message["again"]))
            except (ValueError, TypeError, RecursionError):
                await websocket.close(4400)
                return

    async def _read(self, work: Callable[[Position], bytes], position: Position) -> bytes:
        """Bytes that were just written come from memory; a disk that hangs costs these threads and no others."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, work, position)

    async def _send(self, websocket: WebSocket, watcher: Watcher, listening: asyncio.Task[None]) -> None:
        """Send what the watcher has, one message at a time, until the page is closed."""
        checked_s = time.monotonic()
        while not listening.done():
            if time.monotonic() - checked_s > SESSION_CHECK_S:
                checked_s = time.monotonic()
                if self.guard.session(websocket) is None:
                    await websocket.close(4401)
                    return
            while watcher.texts:
                await websocket.send_text(watcher.texts.popleft())
            item = watcher.next_fragment()
            if item is None:
                watcher.awake.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(watcher.awake.wait(), 2.0)
                continue
            queue, (position, record) = item
            try:
                payload = await self._read(self.footage.fragment, position)
                init = b""
                if queue.init_of != (position.segment, position.lap):
                    init = await self._read(self.footage.init_segment, position)
                    queue.init_of = (position.segment, position.lap)
            except (NvrError, OSError) as error:
                log.warning("%s: a fragment could not be read for a live page: %s", position.stream, error)
                queue.on_the_way -= 1
                queue.skipped += 1
                queue.needs_keyframe = True
                queue.waiting.clear()
                continue
            header = self.live.header(position.stream, record, len(init), queue.skipped)
            queue.skipped = 0
            await websocket.send_bytes(b"".join((header, init, payload)))


async def _not_found(request: Request, error: Exception) -> Response:
    return error_answer("there is no such page", "Go to the start page: /", getattr(error, "status_code", 404))


async def _failed(request: Request, error: Exception) -> Response:
    return error_answer("the page made a mistake", "Look into the log of the box; recording goes on.", 500)


def _say_if_failed(task: asyncio.Task[None]) -> None:
    """A task that runs for ever ended: end the process, so that the box starts it anew instead of half a page."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a background task failed, ending so that the box starts it anew", exc_info=error)
        raise SystemExit(1)


def listening_socket(listen: str) -> socket.socket:
    """A socket at ADDR:PORT, [ADDR]:PORT or :PORT. Raises ListenFailed."""
    match = re.fullmatch(r"(\[[0-9a-fA-F:.%\w]+\]|[^\[\]:]*):(\d{1,5})", listen, re.ASCII)
    try:
        if match is None or int(match[2]) > 65535:
            raise ValueError("it is not ADDRESS:PORT")
        host, port = match[1].strip("[]"), match[2]
        if not host:
            return socket.create_server(("::", int(port)), family=socket.AF_INET6, dualstack_ipv6=True, backlog=128)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, int(port)), family=family, backlog=128)
    except (OSError, ValueError) as error:
        raise ListenFailed(
            f"the page cannot listen on {listen}: {error}",
            hint="Write an address of this machine and a free port into the site file, such as `web: {port: 8090}`. Recording goes on meanwhile.",
        ) from error


def serve(
    data_dir: Path,
    listen: str,
    settings: PageSettings,
    *,
    certificate_path: Path | None = None,
    key_path: Path | None = None,
) -> None:
    """Serve the page until SIGTERM or SIGINT. Raises ListenFailed."""
    page = Page(data_dir, settings)
    with listening_socket(listen) as server_socket:
        config = uvicorn.Config(
            page.app(),
            ssl_certfile=certificate_path,
            ssl_keyfile=key_path,
            http=Impatient,
            ws_max_size=MESSAGE_BYTES,
            ws_per_message_deflate=False,  # video does not shrink; this would only cost CPU
            ws_ping_interval=10.0,
            ws_ping_timeout=20.0,
            limit_concurrency=REQUESTS_AT_ONCE,
            timeout_graceful_shutdown=1,
            h11_max_incomplete_event_size=32 << 10,
            server_header=False,
            proxy_headers=False,  # nothing stands in front of a box; an address from a header is hearsay
            access_log=False,
            log_config=None,
            log_level="warning",  # that a page was opened, and its process started, is nobody's news
            lifespan="on",
        )
        uvicorn.Server(config).run(sockets=[server_socket])
