"""A hub of one file, for what the real one never does: it lies, forgets, loses answers, says garbage. Starlette and uvicorn, over TLS."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import hashlib
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.exceptions import InvalidState

from nvr import wire
from nvr.evidence import box_id, is_signed_by
from nvr.wire import Message


def certificate(folder: Path, from_year: int = 2026, to_year: int = 2036) -> tuple[Path, Path, str]:
    """A self-signed one for 127.0.0.1: (certificate, key, fingerprint)."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hub")])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(7)
        .not_valid_before(datetime.datetime(from_year, 1, 1)).not_valid_after(datetime.datetime(to_year, 1, 1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False).sign(key, hashes.SHA256())
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    cert_path, key_path = folder / "hub.crt", folder / "hub.key"
    cert_path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert_path, key_path, hashlib.sha256(made.public_bytes(serialization.Encoding.DER)).hexdigest()


class Upload:
    def __init__(self, length: int, about: dict[str, str]) -> None:
        self.length, self.about = length, about
        self.data = bytearray()
        self.is_stored = False


class SmallHub:
    """The state, and the knobs by which it misbehaves."""

    def __init__(self, code: str = "7F3K-QM2P-XW9D") -> None:
        self.code_hash = wire.code_hash(code)
        self.keys: dict[str, bytes] = {}
        self.uploads: dict[str, Upload] = {}
        self.objects: dict[str, bytes] = {}
        self.stored_times: dict[str, int] = {}  # how often an object was completed
        self.received_bytes = 0  # of pieces, with those that came twice
        self.events: dict[str, dict[str, Any]] = {}
        self.event_order: list[str] = []
        self.heartbeats: list[tuple[float, dict[str, Any]]] = []
        self.stills: list[Message] = []
        self.live: list[Message] = []
        self.replies: list[dict[str, Any]] = []
        self.hellos: list[dict[str, Any]] = []
        self.enrolments = 0
        self.wrong_pins = 0
        self.welcome: dict[str, Any] = {"heartbeat_s": 10, "still_s": 10, "cap_kbit_s": None}
        # -- knobs
        self.wall_s = time.time
        self.lose_answers = 0  # of so many requests: done, and not answered
        self.loses_confirmations = False  # it stores, and each answer that says so is lost
        self.lost_confirmations = 0
        self.acknowledges = True
        self.refuse_uploads = 0  # an HTTP status
        self.refuse_pieces: list[int] = []  # HTTP statuses of the next ones
        self.claims_without_storing = False
        self.garbage: list[str | bytes] = []  # said after the welcome
        self.location = ""  # given instead of the true one
        self.damage_pieces = 0
        self.is_away = False
        self.bundles: dict[str, bytes] = {}  # by their SHA-256, for updates
        self.bundle_asked: list[int] = []  # from which byte on
        self.bundle_breaks: list[int] = []  # after so many bytes of the next answers
        self.ignores_ranges = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._socket: WebSocket | None = None
        self.app = Starlette(
            routes=[
                Route("/box/v1/time", self._time), Route("/box/v1/enrol", self._enrol, methods=["POST"]),
                Route("/box/v1/uploads", self._create, methods=["POST"]),
                Route("/box/v1/uploads/{id}", self._upload, methods=["PATCH", "HEAD"]),
                Route("/box/v1/bundles/{sha256}", self._bundle),
                WebSocketRoute("/box/v1/control", self._control),
            ]
        )  # fmt: skip

    def _box(self, headers: Any) -> str | None:
        try:
            token = wire.parse_token(headers.get("authorization", "").removeprefix("Bearer "))
        except wire.WireError:
            return None
        key = self.keys.get(token.box_id)
        if (
            key is None
            or not is_signed_by(key, token.signed, token.signature)
            or not wire.is_in_time(token, self.wall_s())
        ):
            return None
        return token.box_id

    def _lost(self, response: Response) -> Response:
        """Done, and the answer never arrives."""
        if self.loses_confirmations and "nvr-stored" in response.headers:
            self.lost_confirmations += 1
            raise RuntimeError("this word is lost on purpose")
        if self.lose_answers > 0:
            self.lose_answers -= 1
            raise RuntimeError("this answer is lost on purpose")
        return response

    async def _time(self, request: Request) -> Response:
        return JSONResponse({"v": 1, "wall_ms": int(self.wall_s() * 1000)})

    async def _enrol(self, request: Request) -> Response:
        body = await request.json()
        key = bytes.fromhex(body["public_key"])
        proven = is_signed_by(
            key, b"\0".join((b"nvr enrol", wire.code_hash(body["code"]).encode(), key)), bytes.fromhex(body["proof"])
        )
        if (
            not proven
            or wire.code_hash(body["code"]) != self.code_hash
            or (self.keys and key not in self.keys.values())
        ):
            return JSONResponse({"error": "no"}, 403)
        id = box_id(key).hex()
        self.keys[id] = key
        self.enrolments += 1
        return self._lost(JSONResponse({"v": 1, "box_id": id, "wall_ms": int(self.wall_s() * 1000)}))

    # -- tus

    async def _create(self, request: Request) -> Response:
        if self._box(request.headers) is None:
            return Response(status_code=401)
        if self.refuse_uploads:
            return Response(status_code=self.refuse_uploads)
        about = {}
        for field in request.headers["upload-metadata"].split(","):
            name, _, value = field.strip().partition(" ")
            about[name] = base64.b64decode(value).decode()
        digest = about["sha256"]
        upload = self.uploads.setdefault(digest, Upload(int(request.headers["upload-length"]), about))
        headers = {
            "Location": self.location or f"/box/v1/uploads/{digest}", "Upload-Offset": str(len(upload.data)), "Tus-Resumable": "1.0.0",
        }  # fmt: skip
        if upload.is_stored:
            headers["Nvr-Stored"] = digest
        return self._lost(Response(status_code=201, headers=headers))

    async def _upload(self, request: Request) -> Response:
        if self._box(request.headers) is None:
            return Response(status_code=401)
        digest = request.path_params["id"]
        upload = self.uploads.get(digest)
        if upload is None:
            return Response(status_code=404)
        if request.method == "PATCH":
            answer = await self._patch(request, digest, upload)
            if answer is not None:
                return answer
        headers = {"Upload-Offset": str(len(upload.data)), "Tus-Resumable": "1.0.0"}
        if upload.is_stored or self.claims_without_storing:
            headers["Nvr-Stored"] = digest
        return self._lost(Response(status_code=204 if request.method == "PATCH" else 200, headers=headers))

    async def _patch(self, request: Request, digest: str, upload: Upload) -> Response | None:
        if self.refuse_pieces:
            return Response(status_code=self.refuse_pieces.pop())
        offset = int(request.headers["upload-offset"])
        if offset != len(upload.data):
            return Response(status_code=409)
        body = bytearray()
        try:
            async for chunk in request.stream():
                self.received_bytes += len(chunk)
                body += chunk
        except ClientDisconnect:
            return Response(status_code=400)  # half a piece is none
        _, _, wanted = request.headers["upload-checksum"].partition(" ")
        if self.damage_pieces > 0:
            self.damage_pieces -= 1
            body[0] ^= 1
        if base64.b64decode(wanted) != hashlib.sha256(body).digest():
            return Response(status_code=460)
        upload.data += body
        if len(upload.data) == upload.length and not upload.is_stored:
            if hashlib.sha256(upload.data).hexdigest() != digest:
                del self.uploads[digest]
                return Response(status_code=422)
            upload.is_stored = True
            self.objects[digest] = bytes(upload.data)
            self.stored_times[digest] = self.stored_times.get(digest, 0) + 1
        return None

    async def _bundle(self, request: Request) -> Response:
        if self._box(request.headers) is None:
            return Response(status_code=401)
        data = self.bundles.get(request.path_params["sha256"])
        if data is None:
            return Response(status_code=404)
        begin = 0 if self.ignores_ranges else int(request.headers["range"].removeprefix("bytes=").removesuffix("-"))
        self.bundle_asked.append(begin)
        if begin >= len(data):
            return Response(status_code=416, headers={"Content-Range": f"bytes */{len(data)}"})
        until = begin + self.bundle_breaks.pop(0) if self.bundle_breaks else len(data)

        async def pieces():  # type: ignore[no-untyped-def]
            for at in range(begin, len(data), 5000):
                yield data[at : min(at + 5000, until)]
                if at + 5000 >= until and until < len(data):
                    raise RuntimeError("the connection breaks on purpose")

        headers = {"Content-Length": str(len(data) - begin)}
        if not self.ignores_ranges:
            headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        return StreamingResponse(pieces(), 200 if self.ignores_ranges else 206, headers)

    # -- control

    async def _control(self, websocket: WebSocket) -> None:
        await websocket.accept(wire.SUBPROTOCOL)
        if self._box(websocket.headers) is None:
            await websocket.close(4401)
            return
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            while True:
                received = await websocket.receive()
                if received["type"] != "websocket.receive":
                    return
                data = received.get("text") if received.get("text") is not None else received.get("bytes")
                await self._take(websocket, wire.parse(data, wire.UP))

    async def _take(self, websocket: WebSocket, message: Message) -> None:
        body = dict(message.body)
        if message.kind == "hello":
            self.hellos.append(body)
            before, self._socket = self._socket, websocket
            if before is not None and before is not websocket:
                with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                    await before.close(4409)
            welcome = Message("welcome", {"wall_ms": int(self.wall_s() * 1000), **self.welcome})
            await websocket.send_text(welcome.to_text())
            for each in self.garbage:
                await (websocket.send_text(each) if isinstance(each, str) else websocket.send_bytes(each))
        elif message.kind == "heartbeat":
            self.heartbeats.append((time.time(), body))
        elif message.kind == "event":
            if body["id"] not in self.events:
                self.event_order.append(body["id"])
            self.events[body["id"]] = body
            if self.acknowledges:
                await websocket.send_text(Message("ack", {"events": [body["id"]]}).to_text())
        elif message.kind == "still":
            self.stills.append(message)
        elif message.kind == "live":
            self.live.append(message)
        elif message.kind == "reply":
            self.replies.append(body)

    def say(self, message: Message | str) -> None:
        """To the box that is connected; from any thread."""
        assert self._loop is not None and self._socket is not None
        text = message if isinstance(message, str) else message.to_text()
        asyncio.run_coroutine_threadsafe(self._socket.send_text(text), self._loop).result(10)

    def hang_up(self) -> None:
        """End the connection, as a hub that is started anew does."""
        assert self._loop is not None and self._socket is not None
        asyncio.run_coroutine_threadsafe(self._socket.close(1012), self._loop).result(30)

    def ask(self, do: str, id: str | None = None, **args: Any) -> str:
        """A command; its id."""
        id = id or wire.new_id()
        self.say(Message("command", {"id": id, "do": do, "args": args, "by": "test"}))
        return id

    def reply_to(self, id: str) -> dict[str, Any] | None:
        return next((reply for reply in reversed(self.replies) if reply["id"] == id), None)


class Served:
    """A SmallHub that listens, in a thread of this process."""

    def __init__(self, hub: SmallHub, folder: Path, port: int = 0, years: tuple[int, int] = (2026, 2036)) -> None:
        import socket

        self.hub = hub
        cert, key, self.fingerprint = certificate(folder, *years)
        self._socket = socket.create_server(("127.0.0.1", port))
        self.port = self._socket.getsockname()[1]
        self.url = f"https://127.0.0.1:{self.port}"
        self._server = uvicorn.Server(config(hub, cert, key))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        async def serve() -> None:
            self.hub._loop = asyncio.get_running_loop()
            await self._server.serve(sockets=[self._socket])

        with contextlib.suppress(InvalidState):  # uvicorn, when a connection is just closing
            asyncio.run(serve())

    def stop(self) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(20)
        self._socket.close()


def config(hub: SmallHub, cert: Path, key: Path) -> uvicorn.Config:
    return uvicorn.Config(
        hub.app, ssl_certfile=cert, ssl_keyfile=key, log_level="critical", lifespan="off", ws_max_size=wire.BINARY_BYTES_MOST,
        timeout_keep_alive=130, ssl_version=ssl.PROTOCOL_TLS_SERVER, ws="websockets-sansio",
    )  # fmt: skip


@contextlib.contextmanager
def served(folder: Path, hub: SmallHub | None = None, years: tuple[int, int] = (2026, 2036)) -> Iterator[Served]:
    found = Served(hub or SmallHub(), folder, years=years)
    try:
        yield found
    finally:
        found.stop()
