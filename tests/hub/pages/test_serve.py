"""The built pages as a hub gives them out: compressed when they were built, kept for ever under their hash, nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from nvr.hub.pages import serve

PAGE = b"<!doctype html><title>page</title>" + b" " * 600
SCRIPT = b"export const a = 1;" * 100


@pytest.fixture
def built(tmp_path: Path) -> Path:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_bytes(PAGE)
    (tmp_path / "index.html.gz").write_bytes(b"gzipped page")
    (tmp_path / "assets" / "index-abc123.js").write_bytes(SCRIPT)
    (tmp_path / "assets" / "index-abc123.js.br").write_bytes(b"brotli script")
    (tmp_path / "assets" / "index-abc123.js.gz").write_bytes(b"gzipped script")
    return tmp_path


@pytest.fixture
def client(built: Path) -> TestClient:
    return TestClient(serve.pages(built), headers={"Accept-Encoding": "identity"})


def raw(client: TestClient, address: str, encoding: str) -> tuple[str | None, bytes]:
    with client.stream("GET", address, headers={"Accept-Encoding": encoding}) as answer:
        return answer.headers.get("content-encoding"), b"".join(answer.iter_raw())


def test_the_smallest_form_that_the_browser_takes_is_sent(client):
    script = "/assets/index-abc123.js"
    assert raw(client, script, "gzip, deflate, br") == ("br", b"brotli script")
    assert raw(client, script, "gzip") == ("gzip", b"gzipped script")
    assert raw(client, script, "br;q=0, gzip") == ("gzip", b"gzipped script")
    assert raw(client, script, "identity") == (None, SCRIPT)
    assert raw(client, "/wall", "br, gzip") == ("gzip", b"gzipped page")  # a form that was not made is not sent


def test_files_with_a_hash_are_kept_for_a_year_and_the_page_is_asked_for_each_time(client):
    script = client.get("/assets/index-abc123.js")
    assert "immutable" in script.headers["cache-control"] and script.headers["content-type"].startswith(
        "text/javascript"
    )
    page = client.get("/", headers={"Accept-Encoding": "identity"})
    assert page.headers["cache-control"] == "no-cache"
    again = client.get("/", headers={"If-None-Match": page.headers["etag"], "Accept-Encoding": "identity"})
    assert (again.status_code, again.content) == (304, b"")
    # Another encoding is another representation (RFC 9110, 8.8.3).
    other = client.head("/", headers={"If-None-Match": page.headers["etag"], "Accept-Encoding": "gzip"})
    assert other.status_code == 200 and other.headers["etag"] != page.headers["etag"]


@pytest.mark.parametrize("address", ["/", "/wall", "/places/puskesmas-waihaong", "/cameras/7", "/enter", "/anything"])
def test_every_address_of_people_is_the_page(client, address):
    answer = client.get(address, headers={"Accept-Encoding": "identity"})
    assert (answer.status_code, answer.content) == (200, PAGE)


@pytest.mark.parametrize(
    "address", ["/api/v1/nothing", "/api", "/box/v1/nothing", "/live", "/metrics", "/healthz", "/openapi.json"]
)
def test_an_address_of_programs_that_nobody_answered_is_no_page(client, address):
    for method in ("GET", "POST"):
        answer = client.request(method, address)
        assert answer.status_code == 404 and "error" in answer.json()


def test_what_was_never_built_is_not_found_and_nothing_is_written(client):
    assert client.get("/assets/other.js").status_code == 404
    assert client.post("/wall").status_code == 405
    assert client.get("/assets/../../secret").status_code in (200, 404)  # 200: the page, as for every address
    assert b"secret" not in client.get("/assets/%2e%2e/%2e%2e/etc/passwd").content


def test_the_policy_lets_nothing_in_from_elsewhere(client):
    policy = client.get("/wall").headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self'" in policy and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy and "http" not in policy and "data:" not in policy


def test_tiles_are_the_only_thing_that_may_come_from_elsewhere():
    assert "img-src 'self' blob: https://tiles.example.org;" in serve.policy(
        "https://tiles.example.org/{z}/{x}/{y}.png"
    )
    for odd in ("javascript:alert(1)", "//tiles.example.org/", "https://", "data:image/png,x"):
        assert serve.policy(odd) == serve.policy()


def test_a_hub_without_pages_says_how_to_build_them_in_both_languages(tmp_path):
    client = TestClient(serve.pages(tmp_path / "built"))
    answer = client.get("/wall")
    assert answer.status_code == 503 and answer.headers["cache-control"] == "no-store"
    assert "make pages" in answer.text and "Halaman pusat" in answer.text and "pages are not built" in answer.text
    assert client.get("/api/v1/nothing").status_code == 404


def test_half_a_build_is_none(tmp_path):
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "index-1.js").write_text("x")
    assert serve.files(tmp_path) == {}
