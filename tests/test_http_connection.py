"""A connection that brings no request is let go; one that is answered, or is a WebSocket, is not."""

from __future__ import annotations

import asyncio
import resource
import socket
import threading
import time
from collections.abc import Iterator

import pytest

pytest.importorskip("uvicorn")
import uvicorn
from websockets.sync.client import connect

from nvr import http_connection

HEAD = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
PART_BYTES = 32 << 10
LARGE = {"/clip": 64 << 20}  # more than the kernel holds for who does not read
PATIENCE_S = 60.0  # of the test: what must happen does so sooner


async def _app(scope, receive, send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        return
    if scope["path"] in LARGE:
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-length", b"%d" % LARGE[scope["path"]])],
            }
        )
        for _ in range(LARGE[scope["path"]] // PART_BYTES):
            await send({"type": "http.response.body", "body": bytes(PART_BYTES), "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        return
    await asyncio.sleep(4 * http_connection.HEAD_S if scope["path"] == "/slow" else 0)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def port(monkeypatch) -> Iterator[int]:
    monkeypatch.setattr(http_connection, "HEAD_S", 0.5)
    monkeypatch.setattr(http_connection, "TAKE_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(
            _app, http=http_connection.Impatient, ws="websockets-sansio", lifespan="off", log_config=None,
            timeout_keep_alive=1000,
        )  # fmt: skip
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield listening.getsockname()[1]
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def dialled(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)


def answer(connection: socket.socket) -> bytes:
    found = b""
    while not found.endswith(b"ok"):
        part = connection.recv(1000)
        assert part, found
        found += part
    return found


def trickle(connection: socket.socket) -> bool:
    """One byte of a head after the other; True when the other side ends the connection."""
    connection.settimeout(0.05)
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        try:
            connection.sendall(b"x")
            if connection.recv(1000) == b"":
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


def test_a_connection_that_says_nothing_ends(port):
    with dialled(port) as connection:
        assert connection.recv(1000) == b""


def test_a_connection_that_trickles_a_head_ends(port):
    with dialled(port) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nx: ")
        assert trickle(connection)


def test_so_it_does_behind_a_request_that_was_answered(port):
    with dialled(port) as connection:
        connection.sendall(HEAD)
        assert answer(connection).startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET / HTTP/1.1\r\nx: ")
        assert trickle(connection)


def test_a_request_may_take_as_long_as_it_takes(port):
    with dialled(port) as connection:
        connection.sendall(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
        assert answer(connection).startswith(b"HTTP/1.1 200")
        connection.sendall(HEAD)
        assert answer(connection).startswith(b"HTTP/1.1 200")


def test_a_websocket_stays(port):
    with connect(f"ws://127.0.0.1:{port}/", open_timeout=PATIENCE_S) as websocket, dialled(port) as idle:
        assert idle.recv(1) == b""  # a connection made later has ended
        websocket.send("still here")
        assert websocket.recv(PATIENCE_S) == "still here"


def asks_for(port: int, path: str) -> socket.socket:
    """Whose receive buffer is small, as a phone's."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(PATIENCE_S)
    connection.connect(("127.0.0.1", port))
    connection.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    return connection


def is_over(connection: socket.socket) -> bool:
    """Whether the other side gave up; found out without taking anything of what it had sent."""
    state = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return state != 1  # TCP_ESTABLISHED


def test_who_takes_nothing_of_an_answer_is_let_go(port):
    with asks_for(port, "/clip") as connection:
        end_s = time.monotonic() + PATIENCE_S
        while not is_over(connection):
            assert time.monotonic() < end_s, "the connection is still held"
            time.sleep(0.05)


def test_no_more_connections_than_descriptors():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        most = http_connection.connections_most(10_000_000)
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert soft >= before[0]
        assert most <= soft - http_connection.SPARE_DESCRIPTORS
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
