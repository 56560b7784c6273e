"""Bodies of requests that people send, bounded before anybody looks at who sends them: FastAPI reads a body to its end first.

What boxes send is bounded where it is read (box_routes.py).
"""

from __future__ import annotations

import asyncio

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_BYTES_MOST = 2 << 20  # a site file of 1 MiB as JSON; docs/nginx-hub.conf says the same
BODY_S = 120.0
ALL_BYTES_MOST = 64 << 20  # of bodies that are being received


class BoundedBodies:
    """413 for a body that is too long, 408 for one that does not come to its end, 503 when there are too many at once."""

    def __init__(self, app: ASGIApp, prefix: str, streamed: frozenset[tuple[str, str]] = frozenset()) -> None:
        """`prefix`: of the addresses whose bodies are bounded, but for those (method, path) that look at who sends before they read."""
        self._app, self._prefix, self._streamed = app, prefix, streamed
        self._receiving_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_bounded = scope["type"] == "http" and scope["path"].startswith(self._prefix)
        if not is_bounded or (scope["method"], scope["path"]) in self._streamed:
            await self._app(scope, receive, send)
            return
        told = dict(scope["headers"]).get(b"content-length", b"0")
        try:
            if not told.isdigit() or len(told) > 12 or int(told) > BODY_BYTES_MOST:
                raise _Refused(413, "too large", f"a body of more than {BODY_BYTES_MOST} bytes")
            body = await self._whole(receive)
        except _Refused as refused:
            # The rest of the body is not read: the connection ends with the answer.
            headers = {"cache-control": "no-store", "connection": "close"}
            fault = {"error": str(refused), "key": refused.key, "hint": ""}
            await JSONResponse(fault, refused.status, headers)(scope, receive, send)
            return
        first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return first.pop() if first else await receive()

        await self._app(scope, again, send)

    async def _whole(self, receive: Receive) -> bytes:
        """The body. Raises _Refused."""
        parts: list[bytes] = []
        size_bytes = 0
        try:
            async with asyncio.timeout(BODY_S):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":  # whoever sent it is gone, and will hear no answer
                        return b"".join(parts)
                    parts.append(message.get("body", b""))
                    size_bytes += len(parts[-1])
                    self._receiving_bytes += len(parts[-1])
                    if size_bytes > BODY_BYTES_MOST:
                        raise _Refused(413, "too large", f"a body of more than {BODY_BYTES_MOST} bytes")
                    if self._receiving_bytes > ALL_BYTES_MOST:
                        raise _Refused(503, "busy", "too much is being received")
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            raise _Refused(408, "too slow", f"the body did not come within {BODY_S:.0f} s") from None
        finally:
            self._receiving_bytes -= size_bytes


class _Refused(Exception):
    def __init__(self, status: int, key: str, what: str) -> None:
        super().__init__(what)
        self.status, self.key = status, key
