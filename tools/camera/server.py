"""RTSP 1.0 (RFC 2326) as cameras speak it, RTP over TCP and UDP, and HTTP switches on the same port.

    OPTIONS DESCRIBE SETUP PLAY PAUSE GET_PARAMETER SET_PARAMETER TEARDOWN     rtsp://host:port/NAME
    GET /                    what was sent and to whom, as JSON
    POST /NAME?field=value   set a fault (stream.Faults); NAME `all` means every camera
    POST /NAME?reset=1       all faults off, and the first user and password again
    POST /NAME?cut=1         close the connections of those who watch NAME
    POST /all?down_s=3       nobody listens for so long: connections are refused

HTTP is answered to this machine only. One timer sends the pictures of all cameras.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import re
import socket
import ssl
import struct
import time
import urllib.parse
from dataclasses import dataclass, replace

from tools.camera import packets
from tools.camera.access import Access
from tools.camera.stream import Faults, PretendCamera

# Pictures of many cameras that are due within this time are sent in one wake-up.
TICK_S = 0.004
# A client that has so much unread is left out until it catches up; about 4 s of a large camera.
MOST_UNSENT_BYTES = 4 << 20
_SO_MAX_PACING_RATE = 47  # Linux, asm-generic/socket.h; Python has no name for it
_METHODS = "OPTIONS, DESCRIBE, SETUP, PLAY, PAUSE, GET_PARAMETER, SET_PARAMETER, TEARDOWN"
_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
            454: "Session Not Found", 455: "Method Not Valid in This State", 461: "Unsupported Transport", 503: "Service Unavailable"}  # fmt: skip


@dataclass(slots=True)
class Manners:
    """How this make of camera talks, where makes differ."""

    session_s: int = 60  # a client that says nothing for so long is dropped
    pace_bytes_per_s: int = 0  # the kernel spreads what is sent, as a slow Ethernet port does; 0: as fast as it goes
    keep_alive: str = "GET_PARAMETER"  # named in Public; "OPTIONS" where the camera knows nothing better


class PretendServer:
    """Cameras behind one port. `await start()`, then `await run()` until cancelled."""

    def __init__(
        self, cameras: list[PretendCamera], *, access: Access | None = None, manners: Manners | None = None
    ) -> None:
        self.cameras = {camera.name: camera for camera in cameras}
        self.access = access or Access()
        self.first_access = replace(self.access)
        self.manners = manners or Manners()
        self.port = 0
        self.connections: set[_Connection] = set()
        self.udp: tuple[socket.socket, socket.socket] | None = None
        self._listener: asyncio.base_events.Server | None = None
        self._where: tuple[str, int, ssl.SSLContext | None] = ("127.0.0.1", 0, None)

    async def start(self, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        """Listen; afterwards `port` is known. Raises OSError when the port is taken."""
        self._where = (host, port, tls)
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: _Connection(self), host, port, ssl=tls, backlog=256)
        self.port = self._listener.sockets[0].getsockname()[1]
        if self.udp is None:
            self.udp = _udp_pair(host)
            loop.add_reader(self.udp[1].fileno(), self._receive_reports)

    async def run(self) -> None:
        """Send pictures when they are due, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            now_ns, started = time.monotonic_ns(), loop.time()
            next_ns = now_ns + 20_000_000  # a camera that stands still may be asked to play meanwhile
            for camera in self.cameras.values():
                camera.send_due(now_ns)
                if not camera.has_ended:
                    next_ns = min(next_ns, camera.due_ns())
            for connection in [each for each in self.connections if each.is_forgotten(started)]:
                connection.close()
            await asyncio.sleep(max(TICK_S, (next_ns - time.monotonic_ns()) / 1e9))

    async def stay_down(self, seconds: float) -> None:
        """Refuse connections for a while, as a camera that boots."""
        assert self._listener is not None
        await asyncio.sleep(0.05)  # the answer to who asked for this goes out first
        self._listener.close()
        for connection in tuple(self.connections):
            connection.close()
        await asyncio.sleep(seconds)
        await self.start(self._where[0], self.port, self._where[2])

    def _receive_reports(self) -> None:
        assert self.udp is not None
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while True:
                data, address = self.udp[1].recvfrom(2048)
                for connection in self.connections:
                    if connection.udp_to is not None and connection.udp_to[1] == address[:2]:
                        connection.hear_report(data)


class _Connection(asyncio.Protocol):
    """One client: its requests, and as a Watcher the way its packets go."""

    def __init__(self, server: PretendServer) -> None:
        self._server = server
        self._unread = b""
        self._camera: PretendCamera | None = None
        self._session = ""
        self._channel = 0
        self.udp_to: tuple[tuple[str, int], tuple[str, int]] | None = None
        self.waits_for_keyframe = True
        self._is_playing = False
        self._heard_s = 0.0
        self._requests: dict[str, int] = {}
        self._reports_heard = self._pictures = self._skipped = 0
        self._last_lost = 0

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=MOST_UNSENT_BYTES)
        if self._server.manners.pace_bytes_per_s:
            connection: socket.socket = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, self._server.manners.pace_bytes_per_s)
        self._heard_s = asyncio.get_running_loop().time()
        self._server.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._stop()
        self._server.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self._heard_s = asyncio.get_running_loop().time()
        self._unread += data
        while self._unread:
            if self._unread[0] == 0x24:
                if len(self._unread) < 4:
                    return
                size = int.from_bytes(self._unread[2:4], "big")
                if len(self._unread) < 4 + size:
                    return
                self.hear_report(self._unread[4 : 4 + size])
                self._unread = self._unread[4 + size :]
                continue
            head, found, rest = self._unread.partition(b"\r\n\r\n")
            if not found:
                if len(self._unread) > 65536:
                    self.close()
                return
            size = int(m[1]) if (m := re.search(rb"(?i)content-length:\s*(\d+)", head)) else 0
            if len(rest) < size:
                return
            self._unread = rest[size:]
            self._answer(head.decode("latin-1"))

    # Watcher

    def send_picture(self, data: bytearray, offsets: list[int] | tuple[int, ...]) -> bool:
        camera = self._camera
        assert camera is not None and self._server.udp is not None
        if self.udp_to is not None:
            if not camera.faults.udp_lost:
                for packet in packets.split(data, offsets):
                    with contextlib.suppress(OSError):  # nobody there any more, or no room: it is UDP
                        self._server.udp[0].sendto(packet, self.udp_to[0])
            self._pictures += 1
            return True
        if self._transport.get_write_buffer_size() > MOST_UNSENT_BYTES:
            self.waits_for_keyframe = True
            self._skipped += 1
            return False
        if self._channel:
            data = bytearray(data)
            for offset in offsets:
                data[offset + 1] = self._channel
        self._transport.write(data)
        self._pictures += 1
        return True

    def send_report(self, report: bytes) -> None:
        if self.udp_to is None:
            self._transport.write(struct.pack(">cBH", b"$", self._channel + 1, len(report)) + report)
        elif self._camera is not None and not self._camera.faults.udp_lost and self._server.udp is not None:
            with contextlib.suppress(OSError):
                self._server.udp[1].sendto(report, self.udp_to[1])

    def send_raw(self, data: bytes) -> None:
        if self.udp_to is None:
            self._transport.write(data)

    def close(self) -> None:
        self._stop()
        self._transport.abort()

    def state(self) -> dict[str, object]:
        return {
            "transport": "udp" if self.udp_to is not None else "tcp", "pictures": self._pictures, "skipped": self._skipped,
            "unsent_bytes": self._transport.get_write_buffer_size(), "requests": self._requests,
            "receiver_reports": self._reports_heard, "reported_lost": self._last_lost,
        }  # fmt: skip

    def hear_report(self, data: bytes) -> None:
        """RTCP from the client; a receiver report says what it has lost (RFC 3550, 6.4.2)."""
        self._heard_s = asyncio.get_running_loop().time()
        if len(data) >= 32 and data[1] == 201 and data[0] & 31:
            self._reports_heard += 1
            self._last_lost = int.from_bytes(data[13:16], "big", signed=True)

    def is_forgotten(self, now_s: float) -> bool:
        return self._is_playing and now_s - self._heard_s > self._server.manners.session_s

    # requests

    def _stop(self) -> None:
        if self._camera is not None and self in self._camera.watchers:
            self._camera.watchers.remove(self)
        self._is_playing = False

    def _play(self) -> None:
        assert self._camera is not None
        self.waits_for_keyframe = True
        self._is_playing = True
        if self not in self._camera.watchers:
            self._camera.watchers.append(self)

    def _answer(self, head: str) -> None:
        first, *lines = head.split("\r\n")
        method, url, version = (*first.split(" "), "", "")[:3]
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if version.startswith("HTTP/"):
            self._answer_http(method, url)
            return
        self._requests[method] = self._requests.get(method, 0) + 1
        self._sequence = headers.get("cseq", "0")
        parts = urllib.parse.urlsplit(url)
        name = parts.path.strip("/").split("/")[0]
        camera = self._server.cameras.get(name)
        if camera is not None and camera.faults.hang:
            return
        if method == "OPTIONS":
            methods = (
                _METHODS
                if self._server.manners.keep_alive == "GET_PARAMETER"
                else _METHODS.replace("GET_PARAMETER, ", "")
            )
            self._say(200, f"Public: {methods}")
            return
        if camera is None:
            self._say(404)
            return
        if camera.faults.refuse:
            self._say(camera.faults.refuse)
            return
        if problem := self._server.access.verdict(method, headers.get("authorization", "")):
            said = self._server.access.challenges(is_stale=problem == "stale" and "authorization" in headers)
            self._say(401, *(f"WWW-Authenticate: {each}" for each in said))
            return
        handler = {"DESCRIBE": self._describe, "SETUP": self._setup, "PLAY": self._start_playing, "PAUSE": self._pause,
                   "TEARDOWN": self._tear_down, "GET_PARAMETER": self._nothing, "SET_PARAMETER": self._nothing}.get(method)  # fmt: skip
        if handler is None:
            self._say(405, f"Allow: {_METHODS}")
        elif method not in ("DESCRIBE", "SETUP") and (
            not self._session or headers.get("session", self._session) != self._session
        ):
            self._say(454)
        else:
            handler(camera, f"{parts.scheme}://{parts.netloc}/{name}/", headers)

    def _say(self, status: int, *lines: str, body: str = "") -> None:
        head = [
            f"RTSP/1.0 {status} {_REASONS.get(status, 'Because')}",
            f"CSeq: {self._sequence}",
            "Server: pretend camera",
            *lines,
        ]
        if body:
            head.append(f"Content-Length: {len(body)}")
        self._transport.write(("\r\n".join(head) + "\r\n\r\n" + body).encode())

    def _describe(self, camera: PretendCamera, base: str, headers: dict[str, str]) -> None:
        sps, pps = camera.footage.sps, camera.footage.pps
        sprop = ",".join(base64.b64encode(each).decode() for each in (*sps, *pps))
        address = self._transport.get_extra_info("sockname")[0]
        kind = "IP6" if ":" in address else "IP4"
        body = [
            "v=0", f"o=- {camera.ssrc} 1 IN {kind} {address}", "s=Pretend camera", "t=0 0", "a=control:*", "a=range:npt=now-",
            f"m=video 0 RTP/AVP {packets.PAYLOAD_TYPE}", f"c=IN {kind} {'::' if kind == 'IP6' else '0.0.0.0'}",
            f"a=rtpmap:{packets.PAYLOAD_TYPE} H264/90000",
            f"a=fmtp:{packets.PAYLOAD_TYPE} packetization-mode=1;profile-level-id={sps[0][1:4].hex().upper()}"
            + (f";sprop-parameter-sets={sprop}" if camera.faults.sprop else ""),
            "a=control:trackID=1",
        ]  # fmt: skip
        self._say(200, f"Content-Base: {base}", "Content-Type: application/sdp", body="\r\n".join(body) + "\r\n")

    def _setup(self, camera: PretendCamera, base: str, headers: dict[str, str]) -> None:
        self._stop()
        asked = headers.get("transport", "")
        session_s = self._server.manners.session_s
        for offer in asked.split(","):
            if camera.faults.only and ("udp" if "client_port" in offer else "tcp") != camera.faults.only:
                continue
            if "interleaved" in offer or "/TCP" in offer:
                self._channel = int(m[1]) if (m := re.search(r"interleaved=(\d+)", offer)) else 0
                self.udp_to = None
                answer = f"RTP/AVP/TCP;unicast;interleaved={self._channel}-{self._channel + 1}"
                break
            if m := re.search(r"client_port=(\d+)-(\d+)", offer):
                assert self._server.udp is not None
                peer = self._transport.get_extra_info("peername")[0]
                self.udp_to = ((peer, int(m[1])), (peer, int(m[2])))
                ports = "-".join(str(each.getsockname()[1]) for each in self._server.udp)
                answer = f"RTP/AVP;unicast;client_port={m[1]}-{m[2]};server_port={ports}"
                break
        else:
            self._say(461)
            return
        self._camera = camera
        self._session = self._session or os.urandom(4).hex().upper()
        self._say(200, f"Transport: {answer};ssrc={camera.ssrc:08X}", f"Session: {self._session};timeout={session_s}")

    def _start_playing(self, camera: PretendCamera, base: str, headers: dict[str, str]) -> None:
        lines = [f"Session: {self._session}", "Range: npt=now-"]
        if camera.start_for_first(time.monotonic_ns()):
            lines.append(f"RTP-Info: url={base}trackID=1;seq={camera.sequence};rtptime={camera.rtp_ticks()}")
        if not camera.faults.early:
            self._say(200, *lines)
        self._play()
        if camera.faults.early:
            camera.send_due(time.monotonic_ns())
            self._say(200, *lines)

    def _pause(self, camera: PretendCamera, base: str, headers: dict[str, str]) -> None:
        self._stop()
        self._say(200, f"Session: {self._session}")

    def _tear_down(self, camera: PretendCamera, base: str, headers: dict[str, str]) -> None:
        self._stop()
        self._say(200)
        self._session = ""

    def _nothing(self, camera: PretendCamera, base: str, headers: dict[str, str]) -> None:
        self._say(200, f"Session: {self._session}")

    # switches

    def _answer_http(self, method: str, url: str) -> None:
        status, answer = 200, ""
        if self._transport.get_extra_info("peername")[0] not in ("127.0.0.1", "::1"):
            status, answer = 403, "only from this machine"
        elif method == "POST":
            try:
                self._switch(urllib.parse.urlsplit(url))
            except (ValueError, KeyError) as error:
                status, answer = 400, str(error)
        else:
            answer = json.dumps([camera.state() for camera in self._server.cameras.values()])
        body = answer.encode()
        self._transport.write(
            f"HTTP/1.0 {status} {_REASONS[status]}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        )
        self._transport.close()

    def _switch(self, url: urllib.parse.SplitResult) -> None:
        server, name = self._server, url.path.strip("/")
        cameras = list(server.cameras.values()) if name == "all" else [server.cameras[name]]
        for field, value in urllib.parse.parse_qsl(url.query, keep_blank_values=True):
            if field == "down_s":
                asyncio.get_running_loop().create_task(server.stay_down(float(value)))
            elif field == "cut":
                for camera in cameras:
                    for connection in [each for each in server.connections if each._camera is camera]:
                        connection.close()
            elif field == "reset":
                server.access = replace(server.first_access)
                for camera in cameras:
                    camera.faults = Faults()
            elif field in ("user", "password", "scheme", "qop", "algorithm"):
                setattr(server.access, field, value)
            elif field == "nonce_uses":
                server.access.nonce_uses = int(value)
            else:
                for camera in cameras:
                    camera.faults.set(field, value)


def _udp_pair(host: str) -> tuple[socket.socket, socket.socket]:
    """An even port for RTP and the odd one above it for RTCP (RFC 3550, 11)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(64):
        first, second = socket.socket(family, socket.SOCK_DGRAM), socket.socket(family, socket.SOCK_DGRAM)
        for each in (first, second):
            each.setblocking(False)
        try:
            first.bind((host, 0))
            port = first.getsockname()[1]
            if port % 2 == 0 and port < 65535:
                second.bind((host, port + 1))
                return first, second
        except OSError:
            pass
        first.close()
        second.close()
    raise OSError(f"no even and odd pair of UDP ports free on {host}")
