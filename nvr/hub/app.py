"""The hub as one ASGI application: `create(settings)`. Routes of boxes here; of people in people/, pages in pages/."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
from collections.abc import AsyncIterator, Callable

from fastapi import FastAPI
from starlette.routing import WebSocketRoute

from nvr import __version__
from nvr.hub.box_routes import BoxRoutes
from nvr.hub.compressed import Compressed
from nvr.hub.pages import serve
from nvr.hub.parts import Hub, now_ms
from nvr.hub.settings import HubSettings

log = logging.getLogger(__name__)


def create(settings: HubSettings, now_ms: Callable[[], int] = now_ms) -> FastAPI:
    """The whole hub; its background work runs while the application does. `app.state.hub` is the Hub."""
    hub = Hub(settings, now_ms)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        hub.committer.start()
        tasks = [asyncio.create_task(work()) for work in hub.works]
        for task in tasks:
            task.add_done_callback(_say_if_failed)
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(hub.close)

    app = FastAPI(title="nvr hub", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.hub = hub
    app.add_middleware(Compressed)
    app.router.routes += [
        *BoxRoutes(hub).routes(),
        WebSocketRoute("/box/v1/control", hub.control.serve),
        WebSocketRoute("/live/{box_id}", hub.live.serve),
    ]
    if importlib.util.find_spec("nvr.hub.people") is not None:
        from nvr.hub.people import install

        install(app, hub)
    # Last, because it answers every address that nobody else does.
    app.mount("/", serve.pages(tiles_url=str((hub.settings.people.get("tiles") or {}).get("url", ""))))
    return app


def _say_if_failed(task: asyncio.Task[None]) -> None:
    """A task that runs for ever ended: end the process, so that its supervisor starts it anew instead of half a hub."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a background task failed, ending so that the supervisor starts this process anew", exc_info=error)
        raise SystemExit(1)
