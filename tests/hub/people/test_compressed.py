"""JSON answers shrink for whoever takes gzip; pictures, clips, small and streamed answers go through as they are."""

from __future__ import annotations

import gzip
import json
import warnings

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from nvr.hub.compressed import IN_THREAD_BYTES, LEAST_BYTES, Compressed, takes_gzip

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

CAMERAS = {
    "cameras": [{"id": number, "state": "live", "still_url": f"/api/v1/stills/{number}"} for number in range(40)]
}
MANY = {"rows": list(range(IN_THREAD_BYTES // 2))}
JPEG = b"\xff\xd8\xff" + bytes(5000)


async def parts():  # type: ignore[no-untyped-def]
    for _ in range(3):
        yield b'{"part": 1}\n' * 200


@pytest.fixture
def client():
    app = Starlette(
        routes=[
            Route("/json", lambda request: JSONResponse(CAMERAS)), Route("/many", lambda request: JSONResponse(MANY)),
            Route("/small", lambda request: JSONResponse({"ok": True})), Route("/jpeg", lambda request: Response(JPEG, media_type="image/jpeg")),
            Route("/parts", lambda request: StreamingResponse(parts(), media_type="application/json")),
            Route("/done", lambda request: Response(gzip.compress(b"x" * 5000), media_type="application/json", headers={"Content-Encoding": "gzip"})),
            Route("/none", lambda request: Response(status_code=204)), Route("/broken", lambda request: 1 / 0),
        ]
    )  # fmt: skip
    app.add_middleware(Compressed)
    return TestClient(app, raise_server_exceptions=False)


@pytest.mark.parametrize(("path", "body"), [("/json", CAMERAS), ("/many", MANY)])
def test_json_shrinks_and_says_so(client, path, body):
    answer = client.get(path, headers={"Accept-Encoding": "gzip, br"})
    assert answer.json() == body
    assert (answer.headers["content-encoding"], answer.headers["vary"]) == ("gzip", "Accept-Encoding")
    assert int(answer.headers["content-length"]) < len(json.dumps(body)) / 2
    plain = client.get(path, headers={"Accept-Encoding": "identity"})
    assert plain.json() == body and "content-encoding" not in plain.headers


@pytest.mark.parametrize("path", ["/small", "/jpeg", "/parts", "/none"])
def test_everything_else_goes_through_as_it_is(client, path):
    answer = client.get(path, headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in answer.headers
    assert answer.content == client.get(path, headers={"Accept-Encoding": "identity"}).content


def test_what_is_compressed_already_is_not_compressed_again(client):
    assert client.get("/done", headers={"Accept-Encoding": "gzip"}).content == b"x" * 5000


def test_an_error_before_the_answer_is_one(client):
    assert client.get("/broken", headers={"Accept-Encoding": "gzip"}).status_code == 500


@pytest.mark.parametrize(
    ("accepted", "takes"),
    [("gzip", True), ("GZIP;q=0.5", True), ("br, gzip", True), ("gzip;q=0", False), ("gzip; q=0.000", False), ("br", False), ("", False), ("gzip;q=1", True), ("gzip;q=1.000", True),
     ("identity, x-gzip", True)],
)  # fmt: skip
def test_accept_encoding_is_read_as_the_standard_has_it(accepted, takes):
    assert takes_gzip(accepted) == takes


def test_the_hubs_own_wall_is_sent_compressed(world):
    from nvr.hub.people import roles

    client = world.as_role(roles.ADMINISTRATOR)
    answer = client.get("/openapi.json", headers={"Accept-Encoding": "gzip"})
    assert len(answer.content) > LEAST_BYTES and answer.headers["content-encoding"] == "gzip"
    wall = client.get("/api/v1/wall", headers={"Accept-Encoding": "gzip"})
    again = client.get("/api/v1/wall", headers={"Accept-Encoding": "gzip", "If-None-Match": wall.headers["etag"]})
    assert again.status_code == 304
