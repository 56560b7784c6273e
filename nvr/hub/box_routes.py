"""What boxes ask over plain HTTP: the time, enrolment, uploads. Reads requests, asks the room that knows, answers."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from sqlalchemy import Row, select, text
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from nvr import __version__, wire
from nvr.hub import tables, uploads
from nvr.hub.blobs import BlobGone, BlobsUnusable, byte_range
from nvr.hub.identity import Box, Refused, bearer, box_of_token, enrol
from nvr.hub.parts import Hub
from nvr.hub.uploads import UploadRefused

log = logging.getLogger(__name__)

ENROL_BYTES_MOST = 4096
RECEIVING_BYTES_MOST = 256 * 1024 * 1024  # pieces that are being received, of all boxes
REQUESTS_OF_BOX = 8  # at once
BODY_SILENT_S = (
    45.0  # a link that broke at one end only leaves requests behind that never end, and each takes one of those
)
HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
TUS = {"tus-resumable": uploads.VERSION}

Handler = Callable[[Request], Awaitable[Response]]


class BoxRoutes:
    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._receiving_bytes = 0
        self._requests: dict[str, int] = {}

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/box/v1/time", self.time, methods=["GET"]),
            Route("/box/v1/enrol", _answering(self.enrol), methods=["POST"]),
            Route("/box/v1/uploads", self.options, methods=["OPTIONS"]),
            Route("/box/v1/uploads", _answering(self.create), methods=["POST"]),
            Route("/box/v1/uploads/{upload_id}", _answering(self.upload), methods=["HEAD", "PATCH", "DELETE"]),
            Route("/box/v1/bundles/{sha256}", _answering(self.bundle), methods=["GET"]),
            Route("/healthz", self.health, methods=["GET"]),
        ]

    async def time(self, request: Request) -> Response:
        return answer({"v": wire.VERSION, "wall_ms": self._hub.now_ms()})

    async def enrol(self, request: Request) -> Response:
        hub, address = self._hub, request.client.host if request.client else ""
        if hub.tries.too_many(address):
            return fault("too many wrong codes from this address", "Wait a minute.", 429, {"retry-after": "60"})
        try:
            async with asyncio.timeout(BODY_SILENT_S):  # a stranger's: all of it, not each part
                body = wire.parse_object(await bounded_body(request, ENROL_BYTES_MOST))
            box_id = await run_in_threadpool(enrol, hub.store, body, hub.now_ms())
        except TimeoutError:
            return fault("the body did not come in time", "Send it again.", 408)
        except Refused as refused:
            if refused.status == 403:
                hub.tries.failed(address)
            raise
        return answer({"v": wire.VERSION, "box_id": box_id, "wall_ms": hub.now_ms()})

    # -- uploads

    async def options(self, request: Request) -> Response:
        headers = {
            **TUS, "tus-version": uploads.VERSION, "tus-extension": uploads.EXTENSIONS,
            "tus-checksum-algorithm": ",".join(uploads.ALGORITHMS), "tus-max-size": str(self._hub.uploads.size_most_bytes),
        }  # fmt: skip
        return Response(status_code=204, headers={**HEADERS, **headers})

    async def create(self, request: Request) -> Response:
        box = await self._box(request)
        with self._counted(box):
            told = request.headers
            upload = await run_in_threadpool(
                self._hub.uploads.create, box, told.get("upload-length"), told.get("upload-metadata")
            )
        return self._about(upload, 201, {"location": f"/box/v1/uploads/{upload.id}"})

    async def upload(self, request: Request) -> Response:
        box, upload_id = await self._box(request), request.path_params["upload_id"]
        with self._counted(box):
            if request.method == "HEAD":
                upload = await run_in_threadpool(self._hub.uploads.status, box, upload_id)
                return self._about(upload, 200, {"upload-length": str(upload.size_bytes)})
            if request.method == "DELETE":
                await run_in_threadpool(self._hub.uploads.terminate, box, upload_id)
                return Response(status_code=204, headers={**HEADERS, **TUS})
            return await self._piece(request, box, upload_id)

    async def _piece(self, request: Request, box: Box, upload_id: str) -> Response:
        told = request.headers
        if told.get("content-type") != "application/offset+octet-stream":
            raise UploadRefused("a piece is application/offset+octet-stream", 415)
        length = told.get("content-length", "")
        room_bytes = min(
            int(length) if length.isdecimal() and len(length) < 12 else uploads.PIECE_BYTES_MOST,
            uploads.PIECE_BYTES_MOST,
        )
        if self._receiving_bytes + room_bytes > RECEIVING_BYTES_MOST:
            raise UploadRefused("too much is being received", 503, headers={"retry-after": "5"})
        self._receiving_bytes += room_bytes
        try:
            data = await bounded_body(request, uploads.PIECE_BYTES_MOST)
            upload = await run_in_threadpool(
                self._hub.uploads.take, box, upload_id, told.get("upload-offset"), told.get("upload-checksum"), data
            )
        finally:
            self._receiving_bytes -= room_bytes
        return self._about(upload, 204)

    # -- updates

    async def bundle(self, request: Request) -> Response:
        """An update, whole or from a byte on: a box fetches it in pieces, over whatever link it has."""
        sha256, token = request.path_params["sha256"], bearer(request.headers.get("authorization"))
        box, _ = await run_in_threadpool(box_of_token, self._hub.store, token, self._hub.now_ms() / 1000)
        with self._counted(box):
            row = await run_in_threadpool(self._bundle, box, sha256)
            if row is None:
                return fault("there is no such update", "It was removed.", 404)
            size = int(row.size_bytes)
            span = byte_range(request.headers.get("range", ""), size)
            headers = {**HEADERS, "accept-ranges": "bytes", "etag": f'"{sha256}"'}
            if span is None:
                return fault(f"the update has {size} bytes", "", 416, {**headers, "content-range": f"bytes */{size}"})
            first, last, is_part = span
            headers["content-length"] = str(last - first + 1)
            if is_part:
                headers["content-range"] = f"bytes {first}-{last}/{size}"
            data = await run_in_threadpool(self._hub.blobs.read, row.blob, first, last + 1)
            return StreamingResponse(data, 206 if is_part else 200, headers, "application/octet-stream")

    def _bundle(self, box: Box, sha256: str) -> Row[Any] | None:
        table = tables.bundle
        with self._hub.store.reading() as connection:
            this = table.c.tenant_id == box.tenant_id, table.c.sha256 == sha256
            return connection.execute(select(table).where(*this)).one_or_none()

    def _about(self, upload: Row[Any], status: int, more: dict[str, str] | None = None) -> Response:
        expires = email.utils.formatdate(self._hub.uploads.expires_ms(upload) / 1000, usegmt=True)
        headers = {
            **HEADERS,
            **TUS,
            "upload-offset": str(upload.offset_bytes),
            "upload-expires": expires,
            **(more or {}),
        }
        if upload.stored_ms is not None:
            headers["nvr-stored"] = upload.sha256
        return Response(status_code=status, headers=headers)

    async def _box(self, request: Request) -> Box:
        if request.headers.get("tus-resumable") != uploads.VERSION:
            raise UploadRefused(f"this hub speaks tus {uploads.VERSION}", 412, headers={"tus-version": uploads.VERSION})
        token = bearer(request.headers.get("authorization"))
        box, _ = await run_in_threadpool(box_of_token, self._hub.store, token, self._hub.now_ms() / 1000)
        return box

    @contextlib.contextmanager
    def _counted(self, box: Box) -> Iterator[None]:
        if self._requests.get(box.id, 0) >= REQUESTS_OF_BOX:
            raise UploadRefused("too many requests of this box at once", 429, headers={"retry-after": "5"})
        self._requests[box.id] = self._requests.get(box.id, 0) + 1
        try:
            yield
        finally:
            self._requests[box.id] -= 1
            if not self._requests[box.id]:
                del self._requests[box.id]

    # -- for a load balancer

    async def health(self, request: Request) -> Response:
        """200 while this process can store what it is given, else 503."""
        hub = self._hub

        def ask() -> None:
            with hub.store.reading() as connection:
                connection.execute(text("SELECT 1"))

        is_failing, objects = bool(hub.committer.trouble), hub.objects_watch.state
        try:
            await asyncio.wait_for(run_in_threadpool(ask), 5.0)
        except Exception:
            is_failing = True
        is_ok = not is_failing and objects == "ok"
        facts = {
            "ok": is_ok,
            "database": "failing" if is_failing else "ok",
            "objects": objects,
            "boxes": len(hub.control.connections),
            "viewers": len(hub.live.viewers),
            "waiting": hub.committer.depth,
        }
        return answer({**facts, "software": __version__}, 200 if is_ok else 503)


def _answering(handler: Handler) -> Handler:
    """Every error of ours as its answer; a database or store that is away as 503: the box comes again."""

    async def handle(request: Request) -> Response:
        try:
            return await handler(request)
        except UploadRefused as refused:
            return fault(str(refused), refused.hint, refused.status, {**TUS, **refused.headers})
        except Refused as refused:
            return fault(str(refused), refused.hint, refused.status)
        except TooLarge as error:
            return fault(str(error), error.hint, 413)
        except wire.WireError as error:
            return fault(str(error), error.hint, 400)
        except BlobGone as error:
            log.error("%s %s: %s", request.method, request.url.path, error)
            return fault("the bytes are not there any more", "Tell the administrator.", 410)
        except (BlobsUnusable, SQLAlchemyError, OSError) as error:
            log.error("%s %s: %s", request.method, request.url.path, str(error).splitlines()[0][:300])
            return fault("the hub cannot store anything now", "Try again later.", 503, {"retry-after": "10"})

    return handle


def answer(body: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse(body, status, {**HEADERS, **(headers or {})})


def fault(what: str, hint: str, status: int, headers: dict[str, str] | None = None) -> Response:
    return answer({"error": what[:500], "hint": hint}, status, headers)


class TooLarge(wire.WireError):
    """A body of more bytes than may be."""


async def bounded_body(request: Request, most_bytes: int) -> bytes:
    """The body, never more of it in memory than may be. Raises WireError, and UploadRefused (408) for a connection that died without a word."""
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_SILENT_S) as silence:
            async for part in request.stream():
                silence.reschedule(asyncio.get_running_loop().time() + BODY_SILENT_S)
                size += len(part)
                if size > most_bytes:
                    raise TooLarge(f"a body of more than {most_bytes} bytes")
                parts.append(part)
    except TimeoutError:
        raise UploadRefused(f"nothing of the body came for {BODY_SILENT_S:.0f} s", 408) from None
    except ClientDisconnect:
        raise wire.WireError("the body ended too early") from None
    return b"".join(parts)
