"""A box tells, and people see: a real hub process, the control channel, the API over HTTP. What a box says is what arrives."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from tests.hub.conftest import HubProcess, wait_for
from tests.hub.simulated import JPEG, SimulatedBox

PASSWORD = "empat kata yang acak"


@pytest.fixture
def person(hub: HubProcess) -> Iterator[httpx.Client]:
    """The first administrator, who came by the link that `nvr hub init` or `nvr hub user` prints."""
    link = json.loads(hub.command("init", "--json"))["link"]
    if link is None:
        link = json.loads(hub.command("user", "walikota", "--role", "administrator", "--json"))["link"]
    code = re.fullmatch(r"http://.*/enter#(.*)", link)
    assert code is not None
    with httpx.Client(base_url=hub.url, timeout=120) as client:
        answer = client.post("/api/v1/session/link", json={"code": code[1], "password": PASSWORD, "name": "walikota"})
        assert answer.status_code == 200, answer.text
        client.headers["X-CSRF"] = answer.json()["csrf"]
        yield client


def service(box: SimulatedBox, state: str, **more: Any) -> dict[str, Any]:
    return box.event(state=state, words={"due": "open"}, detail="nobody was seen in opening hours", **more)


def state_of(event: dict[str, Any]) -> dict[str, Any]:
    return {**event["event"], "id": event["id"], "boot_id": event["boot_id"]}


def test_a_closed_office_is_on_the_board_with_its_evidence_and_becomes_an_alert_that_is_done(hub, box, person):
    box.join()
    still, jpeg = box.still(captured_ms=None)
    closed = service(box, "closed", has_still=True)
    body = {**closed, "still_sha256": still["sha256"]}
    with connect(
        hub.url.replace("http", "ws") + "/api/v1/changes",
        additional_headers={"Cookie": f"nvr={person.cookies['nvr']}"},
        open_timeout=60,
    ) as changes:
        box.send("event", **body)
        box.send("still", jpeg, **{**still, "event": closed["id"]})
        box.hear_acks(closed["id"])
        told = set()
        while "alerts" not in told:
            change = json.loads(changes.recv(timeout=60))
            assert change["ids"] == []  # ids of other places would tell that something happens there
            told.add(change["what"])
    box.send_still()
    box.send("heartbeat", **box.heartbeat([state_of(closed)]))

    def board() -> dict[str, Any] | None:
        found = person.get(f"/api/v1/places/{box.place}").json()
        return found if found.get("service", {}) and found["state_of_cameras"].get("live") else None

    found = wait_for(board, "the place has a live camera")
    assert (found["service"]["state"], found["service"]["due"]) == ("closed", "open")
    assert found["service"]["evidence"]["event"] == closed["id"]
    picture = person.get(found["service"]["evidence"]["still_url"])
    assert (picture.status_code, picture.content) == (200, JPEG)

    alerts = person.get("/api/v1/alerts", params={"state": "open"}).json()["alerts"]
    (alert,) = [each for each in alerts if closed["id"] in each["event_ids"]]
    assert (alert["family"], alert["kind"], alert["what"], alert["count"]) == ("service", "service_open", "closed", 1)
    assert person.post(f"/api/v1/alerts/{alert['id']}/done", json={"note": "loket dibuka"}).json()["state"] == "done"

    opened = service(box, "open")
    box.send("event", **opened)
    box.hear_acks(opened["id"])
    box.send("heartbeat", **box.heartbeat([state_of(opened)]))
    wait_for(
        lambda: person.get(f"/api/v1/places/{box.place}").json()["service"]["state"] == "open", "the office is open"
    )
    log = [each["what"] for each in person.get("/api/v1/audit").json()["entries"]]
    assert {"link used", "still seen", "alert done"} <= set(log)
    assert person.get("/api/v1/audit/check").json()["is_whole"]


def test_the_wall_shows_a_signed_still_and_a_fetch_reaches_the_box(hub, person):
    box = hub.box("mardika-1", cameras=("street",))
    box.place = "simpang-mardika"
    box.join()
    sent = box.send_still("street")
    box.send("heartbeat", **box.heartbeat())

    def tile() -> dict[str, Any] | None:
        cameras = person.get("/api/v1/wall").json()["cameras"]
        return next((each for each in cameras if each["place"] == "simpang-mardika" and each["state"] == "live"), None)

    found = wait_for(tile, "the tile is live")
    assert found["still_ms"] == sent["captured_ms"]
    assert person.get(found["still_url"]).content == JPEG
    fetch = person.post(
        f"/api/v1/cameras/{found['id']}/fetch",
        json={"from_ms": sent["captured_ms"] - 60_000, "to_ms": sent["captured_ms"], "reason": "x"},
    )
    assert fetch.status_code == 202
    command = box.hear("command")
    assert (command["id"], command["do"], command["args"]["camera"]) == (fetch.json()["id"], "fetch", "street")
    assert command["by"] == "walikota"
    box.send("reply", id=command["id"], ok=True, detail="cutting", more={})
    wait_for(
        lambda: person.get(f"/api/v1/commands/{command['id']}").json()["state"] == "answered", "the answer arrives"
    )
    with httpx.Client(timeout=120) as client:
        stored = box.upload(
            client,
            b"not really a clip" * 1000,
            command=command["id"],
            camera="street",
            from_ms=sent["captured_ms"] - 60_000,
            to_ms=sent["captured_ms"],
        )
    assert stored.headers["nvr-stored"]
    done = wait_for(
        lambda: (found := person.get(f"/api/v1/commands/{command['id']}").json())["state"] == "done" and found,
        "the clip is here",
    )
    assert person.get(f"/api/v1/clips/{done['clip']}", headers={"Range": "bytes=0-15"}).content == b"not really a cli"
    assert person.get(f"/api/v1/clips/{done['clip']}/proof").json()["genuine"] is not True
    boxes = {each["name"]: each for each in person.get("/api/v1/boxes").json()["boxes"]}
    assert (boxes["mardika-1"]["state"], boxes["mardika-1"]["heartbeat"]["temperature_c"]) == ("here", 51.5)
