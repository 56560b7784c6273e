"""A box as a hub sees one: its key, its tokens, its messages. The real one is nvr/uplink; this one can also lie."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import time
from collections.abc import Mapping
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

from nvr import wire
from nvr.evidence import Identity
from nvr.hub.identity import enrolment_signed

# A JPEG begins like this; the hub looks at nothing behind it.
JPEG = b"\xff\xd8\xff\xe0" + b"a picture of a street" * 40


class SimulatedBox:
    def __init__(
        self,
        url: str,
        name: str = "waihaong-1",
        cameras: tuple[str, ...] = ("entrance", "street"),
        identity: Identity | None = None,
    ) -> None:
        self.url, self.name, self.cameras = url.rstrip("/"), name, cameras
        self.identity = identity or Identity.create()
        self.id = self.identity.box_id.hex()
        self.place = "puskesmas-waihaong"
        self.socket: ClientConnection | None = None
        self._numbers = itertools.count(1)

    # -- HTTP

    def token(self, now_s: int | None = None) -> str:
        to_sign = wire.token_to_sign(self.identity.box_id, int(time.time()) if now_s is None else now_s)
        return wire.signed_token(to_sign, self.identity.sign(to_sign))

    def headers(self, **more: str) -> dict[str, str]:
        return {**wire.request_headers(self.identity.box_id, self.token()), **more}

    def enrolment(self, code: str, **more: Any) -> dict[str, Any]:
        digest = wire.code_hash(code)
        proof = self.identity.sign(enrolment_signed(digest, self.identity.public_bytes))
        return {
            "v": 1, "code": code, "public_key": self.identity.public_bytes.hex(), "box": self.name, "site": self.name.rpartition("-")[0] or "site",
            "software": "nvr test", "proof": proof.hex(), **more,
        }  # fmt: skip

    def enrol(self, code: str, **more: Any) -> httpx.Response:
        return httpx.post(f"{self.url}/box/v1/enrol", json=self.enrolment(code, **more), timeout=60)

    # -- the control channel

    def connect(self, token: str | None = None) -> ClientConnection:
        """Connected, nothing said yet."""
        self.socket = connect(
            self.url.replace("http", "ws", 1) + "/box/v1/control", subprotocols=[wire.SUBPROTOCOL],  # type: ignore[list-item]
            additional_headers=wire.request_headers(self.identity.box_id, token or self.token()), open_timeout=60, max_size=None, compression=None, legacy=True,
        )  # fmt: skip
        return self.socket

    def join(self) -> dict[str, Any]:
        """Connected and welcome."""
        self.connect()
        self.send("hello", **self.hello())
        return self.hear("welcome")

    def hello(self) -> dict[str, Any]:
        return {
            "box": self.name, "site": "waihaong", "boot_id": "b" * 32, "software": "nvr test", "slot": "a", "time_zone": "Asia/Jayapura",
            "site_digest": "", "cameras": [
                {"camera": camera, "place": self.place, "template": "service-office",
                 "streams": [{"stream": f"{camera}/main", "codec": "avc1.64001f", "width": 1280, "height": 720}], "zones": {}, "rules": {}}
                for camera in self.cameras
            ],
        }  # fmt: skip

    def send(self, kind: str, payload: bytes | None = None, **body: Any) -> None:
        assert self.socket is not None
        message = wire.Message(kind, body, payload or b"")
        self.socket.send(message.to_text() if payload is None else message.to_bytes())

    def hear(self, kind: str, timeout_s: float = 60.0) -> dict[str, Any]:
        """The next message of this kind; others are passed over."""
        assert self.socket is not None
        end_s = time.monotonic() + timeout_s
        while True:
            message = json.loads(self.socket.recv(timeout=max(0.0, end_s - time.monotonic())))
            if message["kind"] == kind:
                return dict(message)

    def hear_acks(self, *event_ids: str, timeout_s: float = 60.0) -> None:
        """Until all of them are acknowledged."""
        left = set(event_ids)
        while left:
            left -= set(self.hear("ack", timeout_s)["events"])

    def event(
        self, camera: str = "entrance", kind: str = "service_open", state: str = "closed", **more: Any
    ) -> dict[str, Any]:
        number = next(self._numbers)
        now_ms = int(time.time() * 1000)
        event: dict[str, Any] = {
            "number": number, "camera": camera, "kind": kind, "zone": "counter",
            "state": state, "is_end": False, "is_moment": False, "from_ms": now_ms, "to_ms": now_ms, "tracks": [], "numbers": {}, "words": {},
            "detail": "", "stream": f"{camera}/main", "from_sequence": 1, "to_sequence": 2, "has_still": False,
        }  # fmt: skip
        inner = {key: more.pop(key) for key in list(more) if key in event}
        return {
            "id": wire.event_id(self.identity.box_id, "life", number), "event": {**event, **inner}, "boot_id": "b" * 32,
            "value": wire.STATE, **more,
        }  # fmt: skip

    def still(
        self, camera: str = "entrance", jpeg: bytes = JPEG, captured_ms: int | None = None, **more: Any
    ) -> tuple[dict[str, Any], bytes]:
        captured_ms = int(time.time() * 1000) if captured_ms is None else captured_ms
        digest = hashlib.sha256(jpeg).hexdigest()
        signature = self.identity.sign(wire.still_signed(camera, captured_ms, digest)).hex()
        body = {
            "camera": camera,
            "captured_ms": captured_ms,
            "clock": {"state": "synced", "error_ms": 5},
            "sha256": digest,
            "signature": signature,
        }
        return {**body, **more}, jpeg

    def send_still(self, *arguments: Any, **more: Any) -> dict[str, Any]:
        body, jpeg = self.still(*arguments, **more)
        self.send("still", jpeg, **body)
        return body

    def heartbeat(self, states: list[Mapping[str, Any]] | None = None) -> dict[str, Any]:
        cameras = {
            name: {"recording": True, "cause": None, "detail": "", "since_ms": 0, "fps": 25.0, "kbit_s": 4100}
            for name in self.cameras
        }
        return {
            "at_ms": int(time.time() * 1000),
            "mono_ms": 1,
            "boot_id": "b" * 32,
            "cameras": cameras,
            "states": states or [],
            "temperature_c": 51.5,
        }

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    # -- uploads

    @staticmethod
    def digest(data: bytes) -> str:
        return hashlib.sha256(data).hexdigest()

    def upload_metadata(self, data: bytes, **about: Any) -> str:
        values = {
            "sha256": hashlib.sha256(data).hexdigest(),
            "kind": "clip",
            "camera": "entrance",
            "from_ms": 1000,
            "to_ms": 2000,
            "value": "clip",
            **about,
        }
        return ",".join(
            f"{key} {base64.b64encode(str(value).encode()).decode()}"
            for key, value in values.items()
            if value is not None
        )

    def begin_upload(self, client: httpx.Client, data: bytes, **about: Any) -> httpx.Response:
        return client.post(
            f"{self.url}/box/v1/uploads",
            headers=self.headers(
                **{
                    "tus-resumable": "1.0.0",
                    "upload-length": str(len(data)),
                    "upload-metadata": self.upload_metadata(data, **about),
                }
            ),
        )

    def send_piece(
        self, client: httpx.Client, location: str, data: bytes, offset: int, algorithm: str = "sha256"
    ) -> httpx.Response:
        digest = base64.b64encode(hashlib.new(algorithm, data).digest()).decode()
        headers = {
            "tus-resumable": "1.0.0", "upload-offset": str(offset), "content-type": "application/offset+octet-stream",
            "upload-checksum": f"{algorithm} {digest}",
        }  # fmt: skip
        return client.patch(httpx.URL(self.url).join(location), headers=self.headers(**headers), content=data)

    def upload(self, client: httpx.Client, data: bytes, piece_bytes: int = 64 * 1024, **about: Any) -> httpx.Response:
        """The whole of it; the last answer."""
        answer = self.begin_upload(client, data, **about)
        assert answer.status_code == 201, answer.text
        location, offset = answer.headers["location"], int(answer.headers["upload-offset"])
        while offset < len(data):
            answer = self.send_piece(client, location, data[offset : offset + piece_bytes], offset)
            assert answer.status_code == 204, (answer.status_code, answer.text)
            offset = int(answer.headers["upload-offset"])
        return answer
