"""Whatever a box, or somebody who pretends to be one, sends: no answer is the hub's own fault (5xx), and memory stays bounded."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import socket
import struct
import time
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from websockets.exceptions import ConnectionClosed

from nvr import wire
from nvr.hub.checking import checked
from nvr.hub.live import Live, Viewer
from nvr.hub.uploads import UploadRefused, check_piece, checked_metadata

TEXT = some.text(max_size=60)
JSON = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | TEXT, lambda inner: some.lists(inner, max_size=5) | some.dictionaries(TEXT, inner, max_size=5), max_leaves=20
)  # fmt: skip
HEADER = some.text(some.characters(min_codepoint=32, max_codepoint=126), max_size=200)
MANY = settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)


def memory_bytes(hub) -> int:
    with open(f"/proc/{hub.process.pid}/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS"))


@given(some.sampled_from(["hello", "heartbeat", "event", "still", "reply"]), some.dictionaries(some.sampled_from(
    ["id", "event", "camera", "cameras", "box", "site", "from_ms", "still_sha256", "states", "captured_ms", "clock", "sha256", "ok", "more", "x"]), JSON))  # fmt: skip
def test_a_message_is_checked_or_refused(kind, body):
    with contextlib.suppress(wire.WireError):
        message = checked(wire.Message(kind, body, b""))
        json.dumps(message.body, allow_nan=False).encode()


@given(
    some.dictionaries(
        some.sampled_from(["stream", "run", "init_bytes", "run_ticks", "is_keyframe", "age_ms", "captured_ms"]), JSON
    ),
    some.binary(max_size=50),
)
def test_a_live_fragment_is_taken_or_refused(body, payload):
    live = Live(lambda: 0)
    viewer = Viewer("ab" * 16)
    live.watch(viewer, ["gate/main"])
    with contextlib.suppress(wire.WireError):
        live.take("ab" * 16, wire.Message("live", {"stream": "gate/main", **body}, payload))
    viewer.next_bytes(2_000)


@given(HEADER | some.text(max_size=100), some.binary(max_size=50), HEADER)
def test_headers_of_an_upload_are_taken_or_refused(header, data, checksum):
    with contextlib.suppress(UploadRefused):
        checked_metadata(header)
    with contextlib.suppress(UploadRefused):
        check_piece(data, checksum)


@MANY
@given(some.sampled_from(["GET", "POST", "PATCH", "HEAD", "DELETE", "OPTIONS", "PUT", "BREW"]), some.sampled_from(["enrol", "time", "control", "uploads", "uploads/x", "uploads/" + "a" * 32, "uploads/%2e%2e/x"]),
       some.dictionaries(some.sampled_from(["upload-length", "upload-offset", "upload-metadata", "upload-checksum", "content-type", "authorization", "tus-resumable"]), HEADER.map(str.strip)),
       some.binary(max_size=500))  # fmt: skip
def test_no_request_without_a_token_is_the_hubs_fault(hub, method, path, headers, body):
    answer = httpx.request(method, f"{hub.url}/box/v1/{path}", headers=headers, content=body, timeout=60)
    assert answer.status_code < 500, (answer.status_code, answer.text)


@MANY
@given(some.sampled_from(["POST", "PATCH", "HEAD", "DELETE"]), some.booleans(),
       some.dictionaries(some.sampled_from(["upload-length", "upload-offset", "upload-metadata", "upload-checksum", "content-type"]),
                         HEADER.map(str.strip) | some.integers(0, 2**70).map(str) | some.just("application/offset+octet-stream") | some.just("sha256 " + base64.b64encode(bytes(32)).decode())),
       some.binary(max_size=500))  # fmt: skip
def test_no_request_of_a_box_is_the_hubs_fault(hub, box, method, is_real, headers, body):
    with httpx.Client(timeout=60) as client:
        place = (
            box.begin_upload(client, b"x" * 1000, kind="report", camera=None).headers["location"]
            if is_real
            else "/box/v1/uploads/" + "f" * 32
        )
        url = f"{hub.url}/box/v1/uploads" if method == "POST" else hub.url + place
        answer = client.request(
            method, url, headers={**box.headers(**{"tus-resumable": "1.0.0"}), **headers}, content=body
        )
    assert answer.status_code < 500, (answer.status_code, answer.text)
    assert answer.headers["x-content-type-options"] == "nosniff"


@MANY
@given(
    some.dictionaries(some.sampled_from(["v", "code", "public_key", "box", "site", "software", "proof"]), JSON) | JSON
)
def test_no_enrolment_is_the_hubs_fault(hub, body):
    answer = httpx.post(
        f"{hub.url}/box/v1/enrol", content=json.dumps(body).encode("utf-8", "surrogatepass"), timeout=60
    )
    assert answer.status_code < 500


@MANY
@given(
    some.lists(
        some.dictionaries(some.sampled_from(["kind", "v", "id", "event", "cameras", "states", "camera", "slot"]), JSON)
        | some.binary(max_size=100)
        | TEXT,
        max_size=10,
    )
)
def test_no_message_ends_the_hub_or_the_channel(hub, box, messages):
    box.join()
    for message in messages:
        if isinstance(message, dict):
            message = json.dumps({"v": 1, "kind": "event", **message})
        with contextlib.suppress(UnicodeEncodeError):
            box.socket.send(message)
    with contextlib.suppress(UnicodeEncodeError):
        box.socket.send(
            json.dumps(
                {
                    "v": 1,
                    "kind": "heartbeat",
                    "states": [message for message in messages if isinstance(message, dict)],
                    "slot": 5,
                }
            )
        )
    event = box.event()
    box.send("event", **event)
    box.hear_acks(event["id"])
    box.close()


def test_a_flood_of_large_messages_costs_bounded_memory(hub):
    """Four boxes send as fast as the hub takes it: stills of the largest size that is refused, stills that are taken, large heartbeats."""
    boxes = [hub.box(f"flood-{number}") for number in range(4)]
    for box in boxes:
        box.join()
    before = memory_bytes(hub)
    large, filler = b"\xff\xd8\xff" + os.urandom(7 * 1024 * 1024), "x" * 200_000
    taken = b"\xff\xd8\xff" + os.urandom(500_000)
    for _ in range(8):
        for box in boxes:
            with contextlib.suppress(ConnectionClosed):
                box.send_still(jpeg=large)
                box.send_still(jpeg=taken)
                box.send("heartbeat", **{**box.heartbeat(), "filler": filler})
    for box in boxes:
        event = box.event()
        box.send("event", **event)
        box.hear_acks(event["id"])
        box.close()
    assert memory_bytes(hub) - before < 250 * 1024 * 1024
    assert hub.answers()


def test_a_message_larger_than_the_wire_allows_ends_that_channel_only(hub, box):
    box.join()
    with pytest.raises((ConnectionClosed, OSError)):
        box.socket.send(bytes(wire.BINARY_BYTES_MOST + 1))
        while True:
            box.socket.recv(timeout=60)
    box.join()


def test_half_a_request_is_not_waited_for_in_memory(hub):
    """A thousand connections that say half a request, or claim a large body and send none."""
    address = urlsplit(hub.url)
    before, connections = memory_bytes(hub), []
    for number in range(300):
        connection = socket.create_connection((address.hostname, address.port), timeout=60)
        head = b"PATCH /box/v1/uploads/%032d HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n" % number
        connection.sendall(head if number % 2 else head + b"\r\n" + b"x" * 1000)
        connections.append(connection)
    assert hub.answers()
    assert memory_bytes(hub) - before < 100 * 1024 * 1024
    for connection in connections:
        connection.close()


def test_bytes_that_are_no_http_and_no_websocket(hub):
    address = urlsplit(hub.url)
    for garbage in (
        b"\x16\x03\x01\x02\x00" + os.urandom(200),
        b"GET " + b"/" * 100_000,
        b"\0" * 1000,
        struct.pack(">I", 2**31),
    ):
        with (
            socket.create_connection((address.hostname, address.port), timeout=60) as connection,
            contextlib.suppress(OSError),
        ):
            connection.sendall(garbage + b"\r\n\r\n")
            connection.recv(1000)
    assert hub.answers()


def test_readers_that_are_slow_and_steady_hold_up_nobody_and_no_memory(hub, box, client):
    """Thirty people download a clip of 24 MB over links that give a byte now and then, for ever: without nginx, too."""
    data = os.urandom(24 * 1024 * 1024)
    box.join()
    assert box.upload(client, data, piece_bytes=1024 * 1024).status_code == 204
    hub.command("user", "ani", "--role", "operator")
    said = hub.command("token", "ani", "--scope", "footage")
    token = next(word for word in said.split() if word.startswith("nvr_"))
    address, path = urlsplit(hub.url), f"/api/v1/clips/{hashlib.sha256(data).hexdigest()}?download=true"
    head = {"Authorization": f"Bearer {token}"}
    assert client.get(hub.url + path, headers={**head, "Range": "bytes=0-99"}).content == data[:100]
    before, slow = memory_bytes(hub), []
    for _ in range(30):
        reader = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect((address.hostname, address.port))
        reader.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        slow.append(reader)
    most = 0
    for _ in range(5):
        for reader in slow:
            assert reader.recv(1)
        began_s = time.monotonic()
        assert hub.answers()
        assert time.monotonic() - began_s < 5.0  # on a machine that does other things, too
        most = max(most, memory_bytes(hub) - before)
        time.sleep(0.5)
    assert client.get(hub.url + path, headers=head, timeout=120).content == data, "somebody on a good link has it all"
    assert most < 100 * 1024 * 1024, f"{most >> 20} MB for 30 readers of 24 MB"
    for reader in slow:
        reader.close()
