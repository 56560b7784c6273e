"""One hub process: sockets, uvicorn, and an end that leaves nothing half done."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Callable

import uvicorn

from nvr import wire
from nvr.errors import NvrError
from nvr.http_connection import Impatient, connections_most
from nvr.hub.app import create
from nvr.hub.settings import HubSettings

log = logging.getLogger(__name__)

CONNECTIONS_MOST = 20_000
WAITING_MESSAGES = 4  # of one WebSocket, received and not yet taken: bounds what a hostile box makes us hold


class ListenFailed(NvrError):
    """The address of the hub cannot be used."""


def listening_socket(listen: str) -> socket.socket:
    """A socket at ADDR:PORT or [ADDR]:PORT. Raises ListenFailed."""
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^\[\]:]*):(\d{1,5})", listen, re.ASCII)
    try:
        if match is None or int(match[2]) > 65535:
            raise ValueError("it is not ADDRESS:PORT")
        host, port = match[1].strip("[]"), int(match[2])
        if not host:
            return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=1024
        )
    except (OSError, ValueError) as error:
        raise ListenFailed(
            f"the hub cannot listen on {listen}: {error}",
            hint="Give an address of this machine and a free port, such as 127.0.0.1:8443.",
        ) from error


def serve(settings: HubSettings, on_listening: Callable[[str], None] = lambda address: None) -> None:
    """Serve until SIGTERM or SIGINT. Raises ListenFailed, DatabaseUnusable, BlobsUnusable."""
    app = create(settings)
    with listening_socket(settings.listen) as server_socket:
        host, port = server_socket.getsockname()[:2]
        scheme = "https" if settings.certificate_path else "http"
        on_listening(f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}")
        config = uvicorn.Config(
            app,
            ssl_certfile=settings.certificate_path,
            ssl_keyfile=settings.key_path,
            http=Impatient,
            ws="websockets-sansio",
            ws_max_size=wire.BINARY_BYTES_MOST,
            ws_max_queue=WAITING_MESSAGES,
            ws_per_message_deflate=False,  # JPEG and video do not shrink; this would only cost CPU and memory
            ws_ping_interval=20.0,
            ws_ping_timeout=30.0,
            limit_concurrency=connections_most(CONNECTIONS_MOST),
            timeout_graceful_shutdown=5,
            timeout_keep_alive=30,
            h11_max_incomplete_event_size=32 << 10,
            server_header=False,
            proxy_headers=True,
            forwarded_allow_ips=list(settings.proxies),
            access_log=False,
            log_config=None,
            log_level="warning",
            lifespan="on",
        )
        uvicorn.Server(config).run(sockets=[server_socket])
