"""HTTP connections of strangers: uvicorn's own protocol, without its endless patience.

uvicorn waits for ever for the head of a request, and for who does not take its answer. So a few hundred connections that say
nothing, or take one byte a minute, shut out everybody else: of the box's page, and of a hub without nginx before it. `Impatient`
lets a connection go that has not brought the whole head of a request in HEAD_S, and one that does not take the next 48 KiB of its
answer in TAKE_S; a request that takes long to be answered, and a WebSocket, are not its business.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import struct
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 20.0  # a phone on a bad link needs a few
# uvicorn stops writing when asyncio holds 64 KiB and goes on at 16: the slowest reader that we wait for takes 0.4 KiB/s. A phone at
# the edge of a cell takes more; and what the kernel holds beside (some 100 KiB on such a link) goes first.
TAKE_S = 120.0
SPARE_DESCRIPTORS = 256  # for databases, files, and connections that are just told that there are too many


class Impatient(H11Protocol):
    """To be given to uvicorn as `http`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._head_is_due: asyncio.TimerHandle | None = None
        self._taking_is_due: asyncio.TimerHandle | None = None
        self._is_upgraded = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        if not self.transport.get_write_buffer_size():  # the answer before was taken
            self._has_taken()
        super().data_received(data)
        self._expect_head()

    def handle_websocket_upgrade(self, event: Any) -> None:
        self._is_upgraded = True
        self._has_taken()
        super().handle_websocket_upgrade(event)

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_upgraded = True
        self._expect_head()
        self._has_taken()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_taking()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._has_taken()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            self._expect_taking()

    def _expect_head(self) -> None:
        """Between two requests the time runs, and bytes that are no whole head do not set it back."""
        is_between = not self._is_upgraded and (self.cycle is None or self.cycle.response_complete)
        if is_between and self._head_is_due is None:
            self._head_is_due = self.loop.call_later(HEAD_S, self._let_go)
        elif not is_between and self._head_is_due is not None:
            self._head_is_due.cancel()
            self._head_is_due = None

    def _expect_taking(self) -> None:
        if self._taking_is_due is None:
            self._taking_is_due = self.loop.call_later(TAKE_S, self._give_up)

    def _has_taken(self) -> None:
        if self._taking_is_due is not None:
            self._taking_is_due.cancel()
            self._taking_is_due = None

    def _give_up(self) -> None:
        """close() would wait for the rest to be taken, and so would the kernel without this option: it drops what it holds."""
        self._taking_is_due = None
        if self.transport.get_write_buffer_size():
            if (connection := self.transport.get_extra_info("socket")) is not None:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()

    def _let_go(self) -> None:
        self.transport.close()


def connections_most(wanted: int) -> int:
    """How many connections a process may take: as many as it wants, if there are descriptors for them.

    Takes all descriptors that it is allowed. Beyond this uvicorn answers 503; without descriptors nobody is answered at all.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != soft:
        enough = wanted + SPARE_DESCRIPTORS
        soft = max(soft, enough if hard == resource.RLIM_INFINITY else min(enough, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(16, min(wanted, soft - SPARE_DESCRIPTORS))
