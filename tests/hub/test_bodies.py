"""Bodies that strangers send to the people's side never fill the hub's memory."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import httpx
import pytest

from nvr.hub import bodies


def dialled(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=60)


def sent_until_refused(connection: socket.socket, chunk: bytes, most_bytes: int) -> tuple[bytes, int]:
    """(what was answered, bytes that were taken)."""
    sent_bytes = 0
    try:
        while sent_bytes < most_bytes:
            connection.sendall(chunk)
            sent_bytes += len(chunk)
    except OSError:
        pass
    try:
        return connection.recv(100), sent_bytes
    except OSError:
        return b"", sent_bytes


def test_a_body_that_says_it_is_too_long_is_not_read(hub):
    with dialled(hub.url) as connection:
        connection.sendall(
            b"POST /api/v1/session HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 400000000\r\n\r\n"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_a_body_of_any_length_in_chunks_is_cut_off(hub):
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with dialled(hub.url) as connection:
        connection.sendall(
            b"POST /api/v1/session HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        _, sent_bytes = sent_until_refused(connection, chunk, 64 << 20)
    assert sent_bytes < 32 << 20  # what the kernels at both ends hold, and no more


@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT", "DELETE", "GET"])
def test_no_address_takes_more(hub, method):
    for path in ("session", "users", "webhooks", "nonsense"):
        with dialled(hub.url) as connection:
            connection.sendall(
                f"{method} /api/v1/{path} HTTP/1.1\r\nhost: x\r\ncontent-length: {bodies.BODY_BYTES_MOST + 1}\r\n\r\n".encode()
            )
            assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_a_body_that_is_just_short_enough_is_read(hub):
    body = b'{"name": "nobody", "password": "' + b"x" * (bodies.BODY_BYTES_MOST - 34) + b'"}'
    assert len(body) == bodies.BODY_BYTES_MOST
    headers = {"content-type": "application/json"}
    assert httpx.post(f"{hub.url}/api/v1/session", content=body, headers=headers, timeout=60).status_code in (401, 422)
