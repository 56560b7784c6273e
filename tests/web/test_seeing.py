"""What the page tells of detection and takes of zones, without a browser and without detection."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from nvr import site
from nvr.announce import SEEN_SOCKET, Announcer
from nvr.events import EventLog, Evidence
from nvr.scene import Event
from nvr.web.access import create_one_time_link
from nvr.web.server import Page
from nvr.web.settings import PageSettings

ORIGIN = "http://box.local:8080"
NS = 1_000_000_000
SITE = """\
site: test
box: test-1
time_zone: Asia/Jayapura
cameras:
  hall:
    main: {source: rtsp, url: "rtsp://192.0.2.1/x", user: admin, password: very secret}
    ring_gb: 1
    zones:
      counter: [[0.1, 0.2], [0.6, 0.2], [0.6, 0.9]]  # by Ina
    rules: {queue: {zone: counter}}
  yard:
    main: {source: rtsp, url: "rtsp://192.0.2.2/x"}
    ring_gb: 1
"""
DRAWING = {
    "camera": "hall",
    "zones": [{"name": "counter", "was": "counter", "points": [[0.1, 0.2], [0.6, 0.2], [0.6, 0.8]]}],
    "masks": [{"name": "screen", "was": "", "points": [[0, 0], [0.2, 0], [0.2, 0.2]]}],
    "lines": [{"name": "door", "was": "", "points": [[0, 0.5], [1, 0.5]]}],
}


class Visitor:
    """Somebody who is logged in."""

    def __init__(self, folder: Path) -> None:
        self.site_path = folder / "site.yaml"
        self.site_path.write_text(SITE)
        self.data_dir = folder / "data"
        self.data_dir.mkdir()
        self.data_dir.mkdir(parents=True, exist_ok=True)  # the recorder makes it; the page never does
        self.page = Page(self.data_dir, PageSettings.from_site(site.load(self.site_path)))
        self.client = TestClient(self.page.app(), base_url=ORIGIN, raise_server_exceptions=False)
        self.headers = {"origin": ORIGIN}
        token = create_one_time_link(self.data_dir, ORIGIN).split("#")[-1].split("=")[-1]
        done = self.client.post(
            "/api/password", json={"token": token, "password": "kopi di tepi laut"}, headers=self.headers
        )
        assert done.status_code == 200, done.text
        self.headers["x-csrf-token"] = self.client.get("/api/session").json()["csrf"]

    def get(self, path: str, **parameters: object):
        return self.client.get(path, params=parameters)

    def draw(self, **changes: object):
        version = self.get("/api/scene", camera="hall").json()["version"]
        return self.client.post("/api/scene", json={**DRAWING, "version": version, **changes}, headers=self.headers)


@pytest.fixture
def visitor(tmp_path) -> Visitor:
    return Visitor(tmp_path)


@pytest.fixture(scope="module")
def onlooker(tmp_path_factory) -> Visitor:
    """For tests after which everything is as before."""
    return Visitor(tmp_path_factory.mktemp("onlooker"))


def event(
    kind: str = "queue",
    state: str = "3",
    *,
    camera: str = "hall",
    zone: str = "counter",
    is_end: bool = False,
    at_s: int = 100,
) -> Event:
    return Event(
        kind, camera, zone, state, at_s * NS, (at_s + 5) * NS, 1_800_000_000 * NS, (7,),
        (("waiting", 3.0), ("waiting_least", 2.0), ("waiting_most", 4.0)), (("by", "people"),), "three people", is_end,
    )  # fmt: skip


def stored(visitor: Visitor, *events: Event, life: str = "aa", jpeg: bytes | None = None) -> None:
    log = EventLog(visitor.data_dir / "events", life)
    for each in events:
        log.add(each, Evidence("hall/main", "00" * 16, 5, 9), jpeg)
    assert len(log.commit()) == len(events)
    log.close()


PATHS = ["/api/seeing", "/api/events", "/api/events/1/still", "/api/scene?camera=hall"]


@pytest.mark.parametrize("path", PATHS)
def test_nobody_sees_anything_without_a_session(onlooker, path):
    assert TestClient(onlooker.page.app(), base_url=ORIGIN).get(path).status_code == 401


def test_zones_cannot_be_changed_by_another_sites_page(visitor):
    before = visitor.site_path.read_text()
    body = {**DRAWING, "version": visitor.get("/api/scene", camera="hall").json()["version"]}
    for headers in (
        {"origin": ORIGIN},
        {**visitor.headers, "origin": "http://evil.example"},
        {**visitor.headers, "x-csrf-token": "x"},
    ):
        assert visitor.client.post("/api/scene", json=body, headers=headers).status_code == 403
    assert visitor.site_path.read_text() == before


def test_the_scene_holds_zones_and_no_password(visitor):
    answer = visitor.get("/api/scene", camera="hall")
    scene = answer.json()
    assert scene["zones"] == [{"name": "counter", "points": [[0.1, 0.2], [0.6, 0.2], [0.6, 0.9]], "rules": ["queue"]}]
    assert scene["is_looked_at"]
    assert not visitor.get("/api/scene", camera="yard").json()["is_looked_at"]
    assert "secret" not in answer.text
    assert visitor.get("/api/scene", camera="../hall").status_code == 404


def test_what_is_drawn_stands_in_the_site_file(visitor):
    answer = visitor.draw()
    assert answer.status_code == 200, answer.text
    assert answer.json()["version"] == visitor.get("/api/scene", camera="hall").json()["version"]
    text = visitor.site_path.read_text()
    assert "counter: [[0.1, 0.2], [0.6, 0.2], [0.6, 0.8]]  # by Ina" in text
    [hall, _] = site.load(visitor.site_path).cameras
    assert [mask.name for mask in hall.masks] == ["screen"]
    assert [line.name for line in hall.lines] == ["door"]


def test_a_file_that_somebody_changed_meanwhile_is_not_overwritten(visitor):
    version = visitor.get("/api/scene", camera="hall").json()["version"]
    visitor.site_path.write_text(SITE + "# by hand\n")
    assert visitor.draw(version=version).status_code == 409
    assert visitor.site_path.read_text() == SITE + "# by hand\n"


@pytest.mark.parametrize(
    ("changes", "status", "word"),
    [
        ({"zones": []}, 422, "no zone 'counter'"),  # a rule needs it
        ({"zones": [{"name": "counter", "was": "counter", "points": [[0.1, 0.1], [0.9, 0.9], [0.9, 0.1], [0.1, 0.9]]}]}, 422, "crosses itself"),
        ({"zones": [{"name": "a: b\nhub", "points": [[0, 0], [1, 0], [1, 1]]}]}, 400, "name"),
        ({"zones": [{"name": "counter", "points": [[0, 0], [2, 0], [1, 1]]}]}, 400, "fractions"),
        ({"zones": [{"name": "counter", "points": [[0, 0], [float("1e308"), True], [1, 1]]}]}, 400, "fractions"),
        ({"zones": "all"}, 400, "list"),
        ({"zones": [{"name": f"z{n}", "points": [[0, 0], [1, 0], [1, 1]]} for n in range(65)]}, 400, "64"),
        ({"lines": [{"name": "door", "points": [[0, 0.5]]}]}, 400, "points"),
        ({"camera": "nobody"}, 404, "camera"),
        ({"version": "old"}, 409, "changed"),
    ],
)  # fmt: skip
def test_nonsense_is_refused_in_words_and_changes_nothing(onlooker, changes, status, word):
    answer = onlooker.draw(**changes)
    assert answer.status_code == status, answer.text
    assert word in answer.text
    assert set(answer.json()) >= {"error", "hint"}
    assert onlooker.site_path.read_text() == SITE


def test_a_site_file_that_cannot_be_written_is_told(visitor, monkeypatch):
    def refused(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("nvr.site_edit.os.open", refused)
    answer = visitor.draw()
    assert answer.status_code == 500
    assert "cannot be written" in answer.json()["error"]


def test_events_come_newest_first_in_pages_with_their_stills(visitor):
    assert visitor.get("/api/events").json() == {"events": []}
    stored(visitor, *(event(state=str(number), at_s=100 + number) for number in range(5)), jpeg=b"\xff\xd8jpeg")
    stored(visitor, event("line_crossing", "crossed", zone="door"))
    found = visitor.get("/api/events", camera="hall", limit=3).json()["events"]
    assert [each["number"] for each in found] == [6, 5, 4]
    assert [each["number"] for each in visitor.get("/api/events", limit=3, before=4).json()["events"]] == [3, 2, 1]
    assert [each["number"] for each in visitor.get("/api/events", moments="false", limit=1).json()["events"]] == [5]
    assert found[1] == {
        "number": 5, "camera": "hall", "kind": "queue", "zone": "counter", "state": "4", "is_end": False, "is_moment": False,
        "from_ms": 1_800_000_000_000, "to_ms": 1_800_000_005_000, "tracks": [7],
        "numbers": {"waiting": 3.0, "waiting_least": 2.0, "waiting_most": 4.0}, "words": {"by": "people"}, "detail": "three people",
        "stream": "hall/main", "from_sequence": 5, "to_sequence": 9, "has_still": True,
    }  # fmt: skip
    still = visitor.get("/api/events/5/still")
    assert (still.content, still.headers["content-type"]) == (b"\xff\xd8jpeg", "image/jpeg")
    assert visitor.get("/api/events/6/still").status_code == 404
    for wrong in ({"before": "x"}, {"limit": 10**6}, {"limit": "-1"}):
        assert visitor.get("/api/events", **wrong).status_code == 400
    assert visitor.get("/api/events", camera="nobody").status_code == 404


def test_states_without_a_living_detection_are_of_yesterday(visitor):
    stored(visitor, event(state="3"), event("intrusion", "intrusion"), event("intrusion", "intrusion", is_end=True))
    seeing = visitor.get("/api/seeing").json()
    assert not seeing["is_looking"]
    [state] = seeing["cameras"]["hall"]["states"]
    assert (state["state"], state["is_now"]) == ("3", False)


def test_a_damaged_store_is_said_and_nothing_else_fails(visitor):
    (visitor.data_dir / "events").mkdir(parents=True)
    (visitor.data_dir / "events" / "events.db").write_bytes(b"no database" * 1000)
    answer = visitor.get("/api/events")
    assert answer.status_code == 503
    assert "cannot be read" in answer.json()["error"]
    assert visitor.get("/api/scene", camera="hall").status_code == 200


def test_a_page_gets_tracks_and_events_of_its_camera_only(visitor):
    stored(visitor, event(state="3"), life="now")
    (visitor.data_dir / "run").mkdir(parents=True, exist_ok=True)
    announcer = Announcer(visitor.data_dir / "run", SEEN_SOCKET)
    with (
        visitor.client,
        visitor.client.websocket_connect("ws://box.local:8080/seen?camera=hall", headers={"origin": ORIGIN}) as page,
    ):
        assert page.receive_json()["is_looking"] is False
        while not visitor.get("/api/seeing").json()["is_looking"]:
            announcer.welcome()
            announcer.status({"life": "now", "model": "", "cameras": {"hall": {"shed": 3, "stream": "hall/main"}}})
            announcer.flush()
        states = page.receive_json()
        assert states["is_looking"] and states["states"][0]["is_now"] and states["status"]["shed"] == 3
        for camera in ("yard", "hall"):
            announcer.tell({"kind": "seen", "camera": camera, "at_ms": 1, "tracks": []})
        announcer.tell({"kind": "event", "event": {"camera": "yard"}})
        announcer.tell({"kind": "event", "event": {"camera": "hall", "kind": "queue"}})
        announcer.flush()
        told = []
        while len(told) < 2:
            message = page.receive_json()
            told += [message] if message["kind"] != "states" else []
        assert [(each["kind"], each.get("camera") or each["event"]["camera"]) for each in told] == [
            ("seen", "hall"),
            ("event", "hall"),
        ]
    announcer.close()


@pytest.mark.parametrize("headers", [{"origin": "http://evil.example"}, {}])
def test_another_sites_page_hears_nothing(onlooker, headers):
    with (
        pytest.raises(WebSocketDisconnect),
        onlooker.client.websocket_connect("ws://box.local:8080/seen?camera=hall", headers=headers),
    ):
        pass


def test_garbage_from_the_socket_ends_nothing(visitor):
    (visitor.data_dir / "run").mkdir(parents=True, exist_ok=True)
    announcer = Announcer(visitor.data_dir / "run", SEEN_SOCKET)
    with visitor.client:
        for _ in range(200):
            announcer.welcome()
            announcer.tell({"kind": "seen"})
            announcer.tell({"kind": "event", "event": 7})
            announcer.tell({"no": "kind"})
            announcer.flush()
            assert json.loads(visitor.get("/api/seeing").text)["is_looking"] is False
    announcer.close()
