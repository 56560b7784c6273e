"""The page as a browser meets it, over a ring that the real writer wrote; without a browser."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import json
import os
import random
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from nvr import __version__, fmp4, installed, troubles
from nvr.announce import fragment_message
from nvr.arena import Arena
from nvr.clock import boot_id
from nvr.media import Cause, ClockState
from nvr.source.rtsp import Rtsp
from nvr.web.access import create_one_time_link
from nvr.web.api import _camera_facts
from nvr.web.assets import PAGE_DIR, Assets
from nvr.web.guard import COOKIE, SAFE_COOKIE
from nvr.web.server import ListenFailed, Page, listening_socket

from .boxes import DAY_NS, NS, SETTINGS, START_NS, DiskBox

PASSWORD = "kopi di tepi laut"
ROOT = Path(__file__).parents[2]
START_MS = START_NS // 10**6


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> DiskBox:
    """20 s recorded, 30 s the camera did not answer, 10 s recorded."""
    box = DiskBox(tmp_path_factory.mktemp("box"))
    box.record(20)
    box.miss(30, Cause.NETWORK, "no route")
    box.record(10)
    box.close()
    return box


class Visitor:
    """Somebody with a browser's manners: keeps cookies, says where it comes from, sends the token of the page."""

    def __init__(self, page: Page, base_url: str = "http://box.local:8080") -> None:
        self.client = TestClient(page.app(), base_url=base_url, follow_redirects=False, raise_server_exceptions=False)
        self.page = page
        self.origin = base_url
        self.csrf = ""

    def get(self, path: str, **options):
        return self.client.get(path, **options)

    def send(self, method: str, path: str, content: object = None, **headers: str):
        headers = {"origin": self.origin, "x-csrf-token": self.csrf, **headers}
        return self.client.request(method, path, json=content or {}, headers=headers)

    def enter(self) -> Visitor:
        token = create_one_time_link(self.page.footage.data_dir, self.origin, self.page.access._clock).split("#")[1]
        assert self.send("POST", "/api/password", {"token": token, "password": PASSWORD}).status_code == 200
        self.csrf = self.get("/api/session").json()["csrf"]
        return self


@pytest.fixture
def page(recorded: DiskBox) -> Page:
    return Page(recorded.data_dir, SETTINGS, recorded.clock)


@pytest.fixture
def visitor(page: Page) -> Visitor:
    return Visitor(page).enter()


@pytest.fixture
def stranger(page: Page) -> Visitor:
    return Visitor(page)


# -- who may look ------------------------------------------------------------------------------------

PATHS = [
    "/api/session", "/api/streams", "/api/status", "/api/day?stream=gate/main&date=2026-07-01", "/api/ledger", "/api/fragments", "/api/clips",
    "/api/clips/x.mp4", "/api/holds", "/media/gate/main/0/1", "/api/seeing", "/api/events", "/api/events/1/still", "/api/scene?camera=gate",
]  # fmt: skip


def test_every_way_in_is_closed_without_a_session(stranger):
    for path in PATHS:
        answer = stranger.get(path)
        assert answer.status_code == 401, path
        assert set(answer.json()) == {"error", "hint"}
    for method, path in [
        ("POST", "/api/clips"),
        ("POST", "/api/holds"),
        ("DELETE", "/api/holds"),
        ("DELETE", "/api/clips/x.mp4"),
        ("POST", "/api/logout"),
        ("POST", "/api/scene"),
    ]:
        assert stranger.send(method, path).status_code == 401, path
    assert stranger.get("/").headers["location"] == "/login"
    with (
        pytest.raises(WebSocketDisconnect) as closed,
        stranger.client.websocket_connect("ws://box.local:8080/live", headers={"origin": stranger.origin}),
    ):
        pass
    assert closed.value.code in (1000, 4401, 1006, 403)


def test_every_route_of_the_page_is_in_this_table_or_meant_to_be_open(page):
    known = {path.split("?")[0] for path in PATHS} | {
        "/",
        "/login",
        "/enter",
        "/live",
        "/seen",
        "/api/login",
        "/api/password",
        "/api/logout",
        "/bundles/{sha256}",  # signed, without secrets, by its SHA-256 only: test_sharing.py
    }
    known |= {
        "/page/{version}/{name}",
        "/media/{camera}/{kind}/{segment}/{lap}",
        "/api/clips/{name}",
        "/api/events/{number}/still",
    }
    assert {route.path for route in page.app().routes} <= known


def test_a_one_time_link_works_once_and_the_password_after_it(page, stranger):
    token = create_one_time_link(page.footage.data_dir, stranger.origin, page.access._clock).split("#")[1]
    answer = stranger.send("POST", "/api/password", {"token": token, "password": PASSWORD})
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "secure" not in cookie
    assert stranger.get("/api/session").status_code == 200
    other = Visitor(page)
    assert other.send("POST", "/api/password", {"token": token, "password": PASSWORD}).status_code == 403
    assert other.send("POST", "/api/login", {"password": "something else"}).status_code == 403
    assert other.send("POST", "/api/login", {"password": PASSWORD}).status_code == 200


def test_over_tls_the_cookie_is_secure_and_bound_to_the_host(page):
    visitor = Visitor(page, "https://box.local")
    token = create_one_time_link(page.footage.data_dir, visitor.origin, page.access._clock).split("#")[1]
    cookie = visitor.send("POST", "/api/password", {"token": token, "password": PASSWORD}).headers["set-cookie"]
    assert cookie.startswith(SAFE_COOKIE)
    assert "Secure" in cookie
    # A cookie planted without TLS opens nothing behind TLS.
    name = visitor.client.cookies[SAFE_COOKIE]
    planted = Visitor(page, "https://box.local")
    planted.client.cookies.set(COOKIE, name)
    assert planted.get("/api/session").status_code == 401


def test_logging_out_closes_the_door(visitor):
    assert visitor.send("POST", "/api/logout").status_code == 200
    assert visitor.get("/api/session").status_code == 401


@pytest.mark.parametrize("headers", [
    {"x-csrf-token": ""}, {"x-csrf-token": "0" * 64}, {"x-csrf-token": "\xff"}, {"origin": "http://evil.example"}, {"origin": "null"},
    {"origin": "http://box.local:8081"}, {"origin": "http://["},
])  # fmt: skip
def test_a_change_that_does_not_come_from_our_page_is_refused(visitor, headers):
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    answer = visitor.send("POST", "/api/holds", {"stream": "gate/main", "from": START_MS, "to": START_MS + 5000}, **raw)
    assert answer.status_code == 403


def test_log_in_from_another_site_is_refused(stranger):
    assert stranger.send("POST", "/api/login", {"password": PASSWORD}, origin="http://evil.example").status_code == 403


def test_too_many_wrong_passwords_must_wait(visitor, page):
    other = Visitor(page)
    codes = [other.send("POST", "/api/login", {"password": "wrong"}).status_code for _ in range(6)]
    assert codes[0] == 403
    assert codes[-1] == 429
    assert int(other.send("POST", "/api/login", {"password": "wrong"}).headers["retry-after"]) >= 1


def test_live_needs_our_own_origin(visitor):
    for headers in ({}, {"origin": "http://evil.example"}, {"origin": "http://box.local"}):
        with (
            pytest.raises(WebSocketDisconnect),
            visitor.client.websocket_connect("ws://box.local:8080/live", headers=headers),
        ):
            pass


# -- what comes back -----------------------------------------------------------------------------------


def test_answers_forbid_everything_a_page_of_ours_does_not_need(visitor):
    for path in ("/", "/login", "/api/session", "/nowhere"):
        policy = visitor.get(path).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy


def test_the_first_page_is_small_and_asks_nobody_else(page):
    assets = Assets()
    index = assets._files["index.html"].decode()
    files = set(re.findall(r"/page/\w+/([\w.]+)", index))
    sent_bytes = sum(len(assets._zipped[name]) for name in files) + len(assets._zipped["index.html"])
    assert sent_bytes < 30_000
    assert sum(len(assets._files[name]) for name in files) < 60_000
    for path in PAGE_DIR.glob("*.*"):
        text = path.read_text()
        assert "<script>" not in text
        assert " style=" not in text
        assert "innerHTML" not in text
        assert not re.search(r"https?://(?!www\.w3\.org)", text), path


def test_every_module_that_the_first_page_needs_is_loaded_at_once():
    """A module found only inside another costs one more trip over a slow link."""
    preloaded = set(re.findall(r"([\w]+\.js)", (PAGE_DIR / "index.html").read_text()))
    for name in preloaded:
        imported = set(re.findall(r'^import .* from "\./([\w.]+)";', (PAGE_DIR / name).read_text(), re.MULTILINE))
        assert imported <= preloaded, name


@pytest.mark.parametrize("state", ["return", "refused", "committed"])
def test_what_became_of_the_last_update_is_told_with_its_reason(visitor, tmp_path, monkeypatch, state):
    kept = tmp_path / "last.json"
    kept.write_text(json.dumps({"state": state, "version": "1.3", "reason": "gate/main does not record", "slot": "B"}))
    monkeypatch.setattr(installed.last_update, "__defaults__", (kept,))
    answer = visitor.get("/api/status").json()
    assert answer["update"] == {"state": state, "version": "1.3", "reason": "gate/main does not record"}
    assert answer["system"]["version"] == __version__
    words = (PAGE_DIR / "words.js").read_text()
    assert words.count(f'"update.{state}": ') == 2  # in both languages


def test_both_languages_have_the_same_words():
    english: set[str] = set()
    for name in ("words.js", "seeing-words.js"):
        here, there = (
            set(re.findall(r'(?:^|[{,])\s*("[\w. -]+"|\w+): "', part, re.MULTILINE))
            for part in (PAGE_DIR / name).read_text().split("\n  id: {")
        )
        assert here == there, name
        assert not here & english, f"{name} says again what words.js says"
        english |= here
    used = set()
    for path in PAGE_DIR.glob("*.js"):
        used |= set(re.findall(r'\bt\("(\w+)"', path.read_text()))
    assert used <= {name.strip('"') for name in english}
    assert {f'"cause.{cause.value}"' for cause in Cause} <= english


def test_a_file_of_the_page_is_kept_by_browsers_until_it_changes(page, stranger):
    answer = stranger.get(f"/page/{page.assets.version}/app.js")
    assert answer.status_code == 200
    assert "immutable" in answer.headers["cache-control"]
    assert stranger.get("/page/old/app.js").headers["cache-control"] == "no-store"
    for path in ("/page/x/../server.py", "/page/x/%2e%2e%2fserver.py", "/page/x/__init__.py", "/page/x/nothing.js"):
        assert stranger.get(path).status_code == 404


def test_a_day_is_accounted_for_with_its_causes(visitor):
    answer = visitor.get("/api/day?stream=gate/main&date=2026-07-01").json()
    assert answer["from_ms"] == DAY_NS // 10**6
    assert answer["to_ms"] - answer["from_ms"] == 86_400_000
    assert answer["recorded_ms"] == pytest.approx(30_000, abs=500)
    causes = [span["cause"] for span in answer["spans"]]
    assert causes[:4] == ["box off", None, "network", None]
    assert [span["is_before"] for span in answer["spans"][:4]] == [True, False, False, False]
    assert all(
        one["to_ms"] == other["from_ms"] for one, other in zip(answer["spans"], answer["spans"][1:], strict=False)
    )


def test_what_a_camera_and_its_source_say_reaches_the_page():
    """The camera's clock and its last fault never did: the page asked for them by other names."""
    source = Rtsp("rtsp://127.0.0.1:9/x", arena=Arena(), label="gate/main")
    told = {"last_fault": {"cause": "network", "detail": "no route", "since_ms": 5}, "source": source.facts()}
    source.close()
    assert {"reconnects", "transport", "camera_clock_offset_s"} <= set(told["source"])
    told["source"]["camera_clock_offset_s"] = -3600.2
    facts = _camera_facts(told)
    assert (facts["clock_offset_s"], facts["reconnects"], facts["last_fault"]) == (-3600.2, 0, told["last_fault"])


def test_fragments_of_a_window_are_read_as_they_are_on_disk(visitor, recorded):
    answer = visitor.get(f"/api/fragments?stream=gate/main&from={START_MS + 3500}&to={START_MS + 7500}").json()
    fragments = answer["fragments"]
    assert [each["is_keyframe"] for each in fragments] == [True] * len(fragments)
    assert fragments[0]["from_ms"] <= START_MS + 3500
    assert fragments[-1]["to_ms"] >= START_MS + 7400
    for each in fragments:
        path = f"/media/gate/main/{each['segment']}/{each['lap']}"
        end = each["offset"] + each["size_bytes"] - 1
        answer = visitor.get(path, headers={"range": f"bytes={each['offset']}-{end}"})
        assert answer.status_code == 206
        _, told = fmp4.check_fragment(answer.content)
        assert told.sequence == each["sequence"]
        init = visitor.get(path, headers={"range": f"bytes=0-{each['init_bytes'] - 1}"}).content
        assert [kind for kind, *_ in fmp4.atoms(init)] == [b"ftyp", b"moov"]


def test_a_window_in_a_gap_says_where_footage_goes_on(visitor):
    answer = visitor.get(f"/api/fragments?stream=gate/main&from={START_MS + 25_000}&to={START_MS + 40_000}").json()
    assert answer["fragments"] == []
    assert answer["next_ms"] == pytest.approx(START_MS + 50_000, abs=500)
    assert visitor.get(f"/api/fragments?stream=gate/main&from={START_MS + 90_000}&to={START_MS + 99_000}").json() == {
        "fragments": [],
        "next_ms": None,
    }


def test_a_lap_that_is_over_is_not_there_any_more(visitor):
    each = visitor.get(f"/api/fragments?stream=gate/main&from={START_MS}&to={START_MS + 2000}").json()["fragments"][0]
    headers = {"range": f"bytes={each['offset']}-{each['offset'] + 4095}"}
    assert visitor.get(f"/media/gate/main/{each['segment']}/{each['lap'] + 1}", headers=headers).status_code == 404


def test_a_ring_that_was_never_recorded_says_so(visitor):
    answer = visitor.get("/api/day?stream=street/main&date=2026-07-01")
    assert answer.status_code == 503
    assert answer.json()["hint"]
    assert visitor.get("/api/status").json()["streams"]["street/main"]["ring"]["from_ms"] is None


HOSTILE = [
    "",
    "..",
    "../../etc/passwd",
    "%00",
    "\u202e",
    "a" * 5000,
    "-1",
    "9" * 30,
    "NaN",
    "{}",
    "[]",
    "null",
    "gate/main/..",
    "' OR 1=1 --",
    "<script>",
]


def test_hostile_parameters_get_an_error_in_json_and_never_a_fault(visitor):
    rng = random.Random(5)
    for _ in range(150):
        pick = [rng.choice(HOSTILE) for _ in range(4)]
        stream = rng.choice(["gate/main", pick[0]])
        for path, question in [
            ("/api/day", {"stream": stream, "date": pick[1]}), ("/api/ledger", {"stream": stream, "from": pick[1], "to": pick[2]}),
            ("/api/fragments", {"stream": stream, "from": pick[1], "to": pick[2]}),
        ]:  # fmt: skip
            answer = visitor.get(path, params=question)
            assert answer.status_code in (400, 404), (path, question)
            assert set(answer.json()) == {"error", "hint"}
    for name in HOSTILE:
        for method in ("GET", "DELETE"):
            answer = visitor.send(method, f"/api/clips/{name.replace('%', '%25')}")
            assert answer.status_code in (400, 404), name
        answer = visitor.get(f"/media/gate/main/{name.replace('/', '%2f')}/1", headers={"range": "bytes=0-10"})
        assert answer.status_code in (400, 404)
        for body in (
            name,
            [name],
            {"stream": name},
            {"stream": "gate/main", "from": name, "to": name},
            {"stream": ["gate/main"]},
        ):
            assert visitor.send("POST", "/api/holds", body).status_code in (400, 404)
            assert visitor.send("POST", "/api/clips", body).status_code in (400, 404)


def test_a_body_that_is_too_long_or_not_json_is_refused(visitor):
    headers = {"origin": visitor.origin, "x-csrf-token": visitor.csrf}
    for content, kind in [
        (b"x" * 100_000, "application/json"),
        (b"{" * 9000, "application/json"),
        (b"a=1", "application/x-www-form-urlencoded"),
        (b"\xff", "application/json"),
    ]:
        answer = visitor.client.post("/api/holds", content=content, headers={**headers, "content-type": kind})
        assert answer.status_code == 400


# -- clips and holds -----------------------------------------------------------------------------------


def test_a_clip_is_cut_listed_downloaded_verified_and_deleted(visitor, tmp_path):
    question = {"stream": "gate/main", "from": START_MS + 5000, "to": START_MS + 9000}
    answer = visitor.send("POST", "/api/clips", question)
    assert answer.status_code == 201, answer.text
    clip = answer.json()
    assert clip["from_ms"] <= START_MS + 5000
    assert clip["name"].startswith("gate-main_2026-07-01_090005")
    assert visitor.send("POST", "/api/clips", question).json() == clip  # once more is the same one
    assert [each["name"] for each in visitor.get("/api/clips").json()["clips"]] == [clip["name"]]
    download = visitor.get(clip["path"])
    assert "attachment" in download.headers["content-disposition"]
    path = tmp_path / "clip.mp4"
    path.write_bytes(download.content)
    verdict = subprocess.run(
        [sys.executable, ROOT / "tools" / "verify_clip.py", path], capture_output=True, text=True, check=False
    )
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr
    assert visitor.send("DELETE", clip["path"]).status_code == 200
    assert visitor.get(clip["path"]).status_code == 404
    assert visitor.get("/api/clips").json()["clips"] == []


def test_a_clip_of_nothing_says_so(visitor):
    answer = visitor.send(
        "POST", "/api/clips", {"stream": "gate/main", "from": START_MS + 25_000, "to": START_MS + 28_000}
    )
    assert answer.status_code == 404
    assert answer.json()["hint"]


def test_clips_are_kept_within_their_budget_and_the_newest_stays(visitor, page):
    object.__setattr__(
        page.cutting,
        "_settings",
        type(SETTINGS)(**{**{name: getattr(SETTINGS, name) for name in SETTINGS.__slots__}, "clips_bytes": 60_000}),
    )
    names = []
    for second in range(4):
        clip = visitor.send(
            "POST",
            "/api/clips",
            {"stream": "gate/main", "from": START_MS + second * 1000, "to": START_MS + 5000 + second * 1000},
        ).json()
        names.append(clip["name"])
    left = [each["name"] for each in visitor.get("/api/clips").json()["clips"]]
    assert names[-1] in left
    assert len(left) < 4
    for name in left:
        visitor.send("DELETE", f"/api/clips/{name}")


def test_a_disk_that_is_too_slow_is_named_though_everything_is_recorded(tmp_path):
    box = DiskBox(tmp_path / "data")
    box.record(3)
    box.close()
    page = Page(box.data_dir, SETTINGS, box.clock)
    visitor = Visitor(page).enter()
    assert visitor.get("/api/status").json()["disk"]["cause"] is None
    page.live.take({"kind": "status", "streams": {}, "disk_slow": "making footage durable takes 25 s"})
    disk = visitor.get("/api/status").json()["disk"]
    assert (disk["cause"], disk["detail"]) == ("disk slow", "making footage durable takes 25 s")
    page.live.take({"kind": "status", "streams": {}, "disk_slow": ""})
    assert visitor.get("/api/status").json()["disk"]["cause"] is None


def test_what_is_wrong_with_the_box_itself_is_on_its_health_and_on_the_wall(tmp_path):
    box = DiskBox(tmp_path / "data")
    box.record(3)
    box.close()
    page = Page(box.data_dir, SETTINGS, box.clock)
    visitor = Visitor(page).enter()
    assert visitor.get("/api/status").json()["troubles"] == []
    trouble = troubles.Trouble(troubles.SITE, "line 7, cameras: torn; not in force", START_MS)
    (box.data_dir / "run").mkdir(exist_ok=True)
    troubles.write(box.data_dir / "run", [trouble])
    assert visitor.get("/api/status").json()["troubles"] == [asdict(trouble)]
    look = page.live.look()
    with contextlib.suppress(TimeoutError):
        asyncio.run(asyncio.wait_for(look, 1.0))
    assert json.loads(page.live.status_text("alive"))["troubles"] == [asdict(trouble)]


def test_a_ring_that_cannot_be_read_hides_nothing_else(page, visitor, monkeypatch):
    def fails(stream):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(page.footage, "placed", fails)
    answer = visitor.get("/api/status")
    assert answer.status_code == 200
    assert answer.json()["streams"]["gate/main"]["ring"]["from_ms"] is None
    assert "cause" in answer.json()["disk"]


def test_a_page_whose_disk_is_away_makes_nothing_in_its_place(tmp_path):
    box = DiskBox(tmp_path / "mount" / "data")
    box.record(3)
    box.close()
    page = Page(box.data_dir, SETTINGS, box.clock)
    visitor = Visitor(page).enter()
    (tmp_path / "mount").rename(tmp_path / "away")
    question = {"stream": "gate/main", "from": START_MS, "to": START_MS + 2000}
    assert visitor.send("POST", "/api/clips", question).status_code == 503
    assert visitor.get("/api/status").json()["disk"]["cause"] == "disk failed"
    visitor.send("POST", "/api/logout")
    assert visitor.get("/api/status").status_code == 401
    assert visitor.send("POST", "/api/login", {"password": PASSWORD}).status_code >= 400
    assert not (tmp_path / "mount").exists()


def test_a_page_that_starts_removes_what_a_killed_one_left_and_nothing_else(page):
    mine, other = page.cutting._dir, page.cutting._dir.parent / "uplink"
    for folder in (mine, other):
        folder.mkdir(parents=True, exist_ok=True)
    stale, fresh = mine / ".gate.mp4.0123abcd.partial", other / ".gate.mp4.0123abcd.partial"
    old, clip = other / ".gate.mp4.89abcdef.partial", mine / "gate.mp4"
    for path in (stale, fresh, old, clip):
        path.write_bytes(b"x")
    os.utime(old, (1, 1))
    page.cutting._sweep()
    assert [path.exists() for path in (stale, old, fresh, clip)] == [False, False, True, True]
    for path in (fresh, clip):
        path.unlink()


def test_a_span_is_held_by_time_and_by_sequence_and_released(visitor, recorded):
    answer = visitor.send("POST", "/api/holds", {"stream": "gate/main", "from": START_MS + 1000, "to": START_MS + 4000})
    assert answer.status_code == 201
    stored = json.loads((recorded.data_dir / "holds.json").read_text())
    assert "gate/main" in json.dumps(stored)
    held = visitor.get("/api/holds").json()["holds"]
    assert [(each["from_ms"], each["to_ms"]) for each in held] == [(START_MS + 1000, START_MS + 4000)]
    assert visitor.send("DELETE", "/api/holds", {"id": held[0]["id"]}).status_code == 200
    assert visitor.send("DELETE", "/api/holds", {"id": held[0]["id"]}).status_code == 404
    assert visitor.get("/api/holds").json()["holds"] == []


# -- live ----------------------------------------------------------------------------------------------


def binary(message: bytes) -> tuple[dict, bytes, bytes]:
    length = int.from_bytes(message[:4], "big")
    header = json.loads(message[4 : 4 + length])
    at = 4 + length + header["init_bytes"]
    return header, message[4 + length : at], message[at:]


def test_live_gives_the_bytes_on_disk_with_the_init_segment_first(tmp_path):
    box = DiskBox(tmp_path)
    written = box.record(3)
    page = Page(tmp_path, SETTINGS, box.clock)
    visitor = Visitor(page).enter()
    for each in written:
        page.live.take(fragment_message(each.position, each.record))
    with visitor.client.websocket_connect("ws://box.local:8080/live", headers={"origin": visitor.origin}) as socket:
        assert socket.receive_json()["kind"] == "status"
        socket.send_json({"watch": ["gate/main", "no/such", "../x/main"]})
        header, init, fragment = binary(socket.receive_bytes())
        assert (header["stream"], header["is_keyframe"]) == ("gate/main", True)
        assert hashlib.sha256(fragment).digest() == hashlib.sha256(page.footage.fragment(written[-1].position)).digest()
        assert [kind for kind, *_ in fmp4.atoms(init)] == [b"ftyp", b"moov"]
        socket.send_json({"got": "gate/main"})
        socket.send_json({"again": "gate/main"})
        header, init, _ = binary(socket.receive_bytes())
        assert header["init_bytes"] == len(init) > 0
    box.close()


@pytest.mark.parametrize("text", ["", "nonsense", "[" * 5000, '{"watch": 3}', '{"watch": null}', "x" * 20_000, "7"])
def test_a_page_that_talks_nonsense_is_cut_off(visitor, text):
    with visitor.client.websocket_connect("ws://box.local:8080/live", headers={"origin": visitor.origin}) as socket:
        socket.receive_json()
        socket.send_text(text)
        with pytest.raises(WebSocketDisconnect) as closed:
            for _ in range(10):
                socket.receive_text()
        assert closed.value.code == 4400


# -- time ----------------------------------------------------------------------------------------------


def test_footage_of_a_box_that_did_not_know_the_time_is_shown_apart(tmp_path):
    box = DiskBox(tmp_path, wall_ns=60 * NS, state=ClockState.UNKNOWN)
    box.record(5)
    box.close()
    later = DiskBox(tmp_path, boot=b"b" * 16)
    later.record(5)
    later.close()
    visitor = Visitor(Page(tmp_path, SETTINGS, later.clock)).enter()
    answer = visitor.get("/api/day?stream=gate/main&date=2026-07-01").json()
    assert answer["recorded_ms"] == pytest.approx(5000, abs=400)
    assert [each["to_ms"] - each["from_ms"] for each in answer["clock_unknown"]] == [pytest.approx(5000, abs=400)]
    first = answer["clock_unknown"][0]["from_ms"]
    played = visitor.get(f"/api/fragments?stream=gate/main&from={first}&to={first + 3000}").json()["fragments"]
    assert played
    assert all(each["clock_state"] == 0 for each in played)


def test_a_box_that_does_not_know_the_time_yet_still_tells_what_it_recorded_before(tmp_path):
    box = DiskBox(tmp_path)
    box.record(5)
    box.close()
    now = DiskBox(tmp_path, wall_ns=60 * NS, state=ClockState.UNKNOWN, boot=boot_id())
    now.record(5)
    visitor = Visitor(Page(tmp_path, SETTINGS, now.clock)).enter()
    answer = visitor.get("/api/day?stream=gate/main&date=2026-07-01").json()
    assert answer["recorded_ms"] == pytest.approx(5000, abs=400)
    assert [each["to_ms"] - each["from_ms"] for each in answer["clock_unknown"]] == [pytest.approx(5000, abs=400)]
    assert answer["spans"][-1]["cause"] == Cause.CLOCK_UNKNOWN.value


def test_a_window_that_begins_inside_a_long_gop_begins_with_its_keyframe(tmp_path):
    box = DiskBox(tmp_path)
    box.record(12, keyframe_every_s=4)
    box.close()
    visitor = Visitor(Page(tmp_path, SETTINGS, box.clock)).enter()
    found = visitor.get(f"/api/fragments?stream=gate/main&from={START_MS + 6500}&to={START_MS + 8000}").json()[
        "fragments"
    ]
    assert found[0]["is_keyframe"]
    assert found[0]["from_ms"] == pytest.approx(START_MS + 4000, abs=400)


def test_fragments_that_come_later_are_found_without_reading_all_again(tmp_path):
    box = DiskBox(tmp_path)
    box.record(4)
    page = Page(tmp_path, SETTINGS, box.clock)
    first = page.footage.look("gate/main")
    box.record(4)
    page.footage._known["gate/main"].looked_s = float("-inf")
    both = page.footage.look("gate/main")
    assert both[0].last == first[0].last
    assert both[-1].last.sequence == 8
    box.close()


# -- the process ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "listen", ["", "8080", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000", "192.0.2.77:8080", "[::1:80"]
)
def test_an_address_that_cannot_be_used_is_named(listen):
    with pytest.raises(ListenFailed):
        listening_socket(listen)


def test_an_address_that_can_be_used_is_opened():
    with listening_socket("127.0.0.1:0") as opened:
        assert opened.getsockname()[0] == "127.0.0.1"
