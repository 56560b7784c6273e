"""An update reaches one box, then a tenth, then all; whatever goes wrong stops it, and a box fetches its bundle in pieces."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from nvr import wire
from nvr.evidence import Identity
from nvr.hub import commands
from nvr.hub import tables as core
from nvr.hub.people import roles, rolling, rollouts, worker
from nvr.hub.people.rollouts import ASKED, BUSY, FAILED, GOOD, SKIPPED, WAITING, Box, Heard
from tests.hub.people.world import BUNDLE, NOW_MS

MINUTE = 60_000
V2 = {"state": "committed", "version": "2.0", "reason": ""}


# -- decisions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("boxes", "sizes"), [(1, [1, 0, 0]), (2, [1, 1, 0]), (5, [1, 1, 3]), (37, [1, 4, 32]), (500, [1, 50, 449])]
)
def test_one_box_then_a_tenth_then_all(boxes, sizes):
    found = rollouts.stages([str(number) for number in range(boxes)])
    assert found == sorted(found) and [found.count(stage) for stage in range(3)] == sizes


BEFORE = {"state": "return", "version": "2.0", "reason": "the last try"}


@pytest.mark.parametrize(
    ("said", "before", "seen_min", "answer", "now_min", "expected"),
    [
        ({}, None, 5, "", 5, (ASKED, "")), (BEFORE, BEFORE, 5, "", 5, (ASKED, "")), (BEFORE, None, 5, "", 5, (FAILED, "return: the last try")),
        ({"state": "fetching", "version": "2.0", "reason": "43 of 180 MiB"}, BEFORE, 5, "", 5, (BUSY, "fetching: 43 of 180 MiB")),
        ({"state": "restarting", "version": "2.0"}, None, 5, "", 5, (BUSY, "restarting")), (V2, BEFORE, 9, "", 9, (GOOD, "")),
        ({"state": "committed", "version": "1.0"}, None, 5, "", 5, (ASKED, "")),
        ({"state": "refused", "version": "2.0", "reason": "signature"}, None, 5, "", 5, (FAILED, "refused: signature")),
        ({}, None, 0, "the box says: no", 1, (FAILED, "the box says: no")),
        ({"state": "restarting", "version": "2.0"}, None, 2, "", 31, (BUSY, "restarting")),
        ({"state": "restarting", "version": "2.0"}, None, 2, "", 33, (FAILED, "silent for 31 minutes since it was asked")),
        ({}, None, -600, "", 20, (ASKED, "")),  # it was away for long before it was asked
        ({"state": "fetching", "version": "2.0", "reason": "1 of 180 MiB"}, None, 1441, "", 1441, (FAILED, "not done after 24 hours; it says: fetching 1 of 180 MiB")),
    ],
)  # fmt: skip
def test_a_box_is_believed_about_this_update_and_not_about_an_earlier_one(
    said, before, seen_min, answer, now_min, expected
):
    heard = Heard(NOW_MS + seen_min * MINUTE, said, answer)
    assert rollouts.judged("2.0", NOW_MS, before, heard, NOW_MS + now_min * MINUTE) == expected


@pytest.mark.parametrize(
    ("stage", "boxes", "after"),
    [
        (0, [(0, GOOD, True, 0), (1, WAITING, True, 0)], 1), (0, [(0, GOOD, True, 6), (1, WAITING, True, 0)], 0),  # it is watched for ten minutes
        (0, [(0, WAITING, False, 0), (1, WAITING, True, 0)], 0), (0, [(0, BUSY, True, 0), (1, WAITING, True, 0)], 0),
        (0, [(0, SKIPPED, True, 0), (1, WAITING, True, 0)], 1), (0, [(0, GOOD, True, 0)], 1), (1, [(0, GOOD, True, 0)], 2),
        (1, [(0, GOOD, True, 0), (1, GOOD, True, 0), (1, WAITING, False, 0), (2, WAITING, True, 0)], 2),  # one is away: it is asked later
        (1, [(0, GOOD, True, 0), (1, WAITING, False, 0), (2, WAITING, True, 0)], 1),  # nothing is proved
        (1, [(0, GOOD, True, 0), (1, GOOD, True, 0), (1, WAITING, True, 0), (2, WAITING, True, 0)], 1),
        (2, [(0, GOOD, True, 0), (1, WAITING, False, 0), (2, GOOD, True, 0)], 2), (2, [(0, GOOD, True, 0), (2, GOOD, True, 0)], 3),
        (2, [(0, GOOD, True, 0), (2, SKIPPED, True, 0), (2, FAILED, True, 0)], 3),
    ],
)  # fmt: skip
def test_a_group_proves_itself_before_the_next_begins(stage, boxes, after):
    now_ms = NOW_MS + 12 * MINUTE
    found = [
        Box(of, state, is_here, NOW_MS + ended_min * MINUTE if state == GOOD else 0)
        for of, state, is_here, ended_min in boxes
    ]
    assert rollouts.next_stage(stage, found, now_ms) == after


def test_a_bundle_whose_own_version_is_another_than_somebody_typed_is_still_this_update():
    """The uplink fetches it under the hub's word for it, the firmware tells what the bundle says of itself."""
    said = {"state": "committed", "version": "2.0-rc1", "reason": ""}
    for has_begun, expected in ((False, ASKED), (True, GOOD)):
        heard = Heard(NOW_MS, said, has_begun=has_begun)
        assert rollouts.judged("2.0", NOW_MS, None, heard, NOW_MS)[0] == expected


# -- a roll-out over the API, with boxes that answer -----------------------------------------------------------------


class Fleet:
    """Boxes of the first tenant, which say what a test makes them say."""

    def __init__(self, world: Any, number: int) -> None:
        self.world = world
        self.ids = [f"{number:032x}" for number in range(1, number + 1)]
        with world.hub.store.writing() as connection:
            connection.execute(
                update(core.box).where(core.box.c.tenant_id == 1).values(blocked=True)
            )  # the world's own
            for number, id in enumerate(self.ids):
                connection.execute(
                    insert(core.box).values(
                        id=id, tenant_id=1, name=f"pole-{number:02d}", site="s", public_key=f"{number:064x}", enrolled_ms=1, state="here"
                    )
                )  # fmt: skip
        self.says: dict[str, dict[str, Any]] = {id: {} for id in self.ids}
        self.away: set[str] = set()
        self.turn(0)

    def turn(self, seconds: float = 5) -> None:
        """Time passes, boxes say something, the worker looks."""
        self.world.clock.pass_s(seconds)
        with self.world.hub.store.writing() as connection:
            for id in set(self.ids) - self.away:
                values = {"heartbeat": {"update": self.says[id]}, "seen_ms": self.world.clock.now}
                connection.execute(update(core.box).where(core.box.c.id == id).values(**values))
        with self.world.hub.store.writing() as connection:
            rolling.step(connection, self.world.hub, self.world.clock.now)

    def asked(self) -> list[str]:
        """Boxes that have the command, in order."""
        table = core.command
        with self.world.hub.store.reading() as connection:
            rows = connection.execute(
                select(table).where(table.c.do == "update").order_by(table.c.created_ms, table.c.id)
            )
            return sorted({row.box_id for row in rows})

    def shown(self, client: Any) -> dict[str, Any]:
        return client.get("/api/v1/rollouts").json()["rollouts"][0]


@pytest.fixture
def fleet(world):
    world.hub.settings = replace_url(world.hub.settings)
    return Fleet(world, 12)


def replace_url(settings: Any) -> Any:
    from dataclasses import replace

    return replace(settings, url="https://hub.example")


def begin(client: Any, **more: Any) -> int:
    body = {"sha256": "5" * 64, "url": "https://updates.example/2.0.raucb", "version": "2.0", **more}
    answer = client.post("/api/v1/rollouts", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def test_it_goes_from_one_box_to_a_tenth_to_all_and_says_how_each_stands(world, fleet):
    client = world.as_role(roles.ADMINISTRATOR)
    first = fleet.ids[3]
    begin(client, first=first)
    fleet.turn()
    assert fleet.asked() == [first]
    assert (
        client.post("/api/v1/rollouts", json={"sha256": "5" * 64, "url": "https://x.example/", "version": "3"}).json()[
            "key"
        ]
        == "another update"
    )
    fleet.says[first] = {"state": "fetching", "version": "2.0", "reason": "3 of 180 MiB"}
    fleet.turn()
    of_first = next(each for each in fleet.shown(client)["boxes"] if each["id"] == first)
    assert (of_first["stage"], of_first["state"], of_first["detail"]) == (0, "busy", "fetching: 3 of 180 MiB")
    fleet.says[first] = V2
    fleet.turn()
    fleet.turn(rollouts.SOAK_MS / 1000 - 10)
    assert fleet.asked() == [first], "it is watched for a while"
    fleet.turn(10)
    assert len(fleet.asked()) == 2 and fleet.shown(client)["stage"] == 1
    for id in fleet.asked():
        fleet.says[id] = V2
    fleet.away.add(fleet.ids[7])
    fleet.turn()
    fleet.turn(rollouts.SOAK_MS / 1000)
    assert set(fleet.asked()) == set(fleet.ids) - {fleet.ids[7]}
    for id in fleet.ids:
        fleet.says[id] = V2
    fleet.turn()
    assert fleet.shown(client)["state"] == "running", "one is away"
    fleet.away.clear()
    fleet.turn()
    fleet.turn()
    shown = fleet.shown(client)
    assert shown["state"] == "done" and {each["state"] for each in shown["boxes"]} == {"good"}
    assert next(each for each in shown["boxes"] if each["id"] == fleet.ids[7])["detail"] == "had it already"
    said = [each["what"] for each in client.get("/api/v1/audit").json()["entries"]]
    assert said.count("update ordered") == 11 and {"rollout begun", "rollout done"} <= set(said)


@pytest.mark.parametrize("how", ["refused", "return", "answer", "silent"])
def test_a_box_that_fails_stops_it_by_itself(world, fleet, how):
    client = world.as_role(roles.ADMINISTRATOR)
    number = begin(client, first=fleet.ids[0])
    fleet.turn()
    if how == "answer":
        with world.hub.store.writing() as connection:
            (row,) = commands.waiting(connection, fleet.ids[0], world.clock.now)
            reply = wire.Message("reply", {"id": row.id, "ok": False, "detail": "no room", "more": {}})
            commands.answered(connection, fleet.ids[0], reply, world.clock.now)
    elif how == "silent":
        fleet.away.add(fleet.ids[0])
        fleet.turn(rollouts.SILENT_MS / 1000 + 10)
    else:
        fleet.says[fleet.ids[0]] = {"state": how, "version": "2.0", "reason": "door/main does not record"}
    fleet.turn()
    shown = fleet.shown(client)
    assert shown["state"] == "stopped" and "pole-00" in shown["why"] and shown["boxes"][0]["state"] == "failed"
    fleet.turn(rollouts.SOAK_MS / 1000 * 2)
    assert fleet.asked() == [fleet.ids[0]]
    (entry, *_) = client.get("/api/v1/audit", params={"what": "rollout stopped"}).json()["entries"]
    assert entry["who"] == "hub" and "pole-00" in entry["more"]["why"]
    # Somebody looked why, and tries that box again.
    fleet.away.clear()
    assert client.post(f"/api/v1/rollouts/{number}/go-on", json={"retry": True}).status_code == 204
    fleet.turn()
    assert fleet.shown(client)["boxes"][0]["state"] == "asked", "what it said of the first try is not of this one"
    fleet.says[fleet.ids[0]] = V2
    fleet.turn()
    assert fleet.shown(client)["boxes"][0]["state"] == "good"


def test_somebody_stops_it_with_a_reason_and_goes_on_without_the_box_that_failed(world, fleet):
    client = world.as_role(roles.ADMINISTRATOR)
    number = begin(client, boxes=fleet.ids[:4])
    fleet.turn()
    assert client.post(f"/api/v1/rollouts/{number}/stop", json={"reason": " "}).status_code == 422
    assert client.post(f"/api/v1/rollouts/{number}/stop", json={"reason": "sidang kota hari ini"}).status_code == 204
    assert client.post(f"/api/v1/rollouts/{number}/stop", json={"reason": "sekali lagi"}).status_code == 409
    assert "sidang" in fleet.shown(client)["why"]
    (tried,) = fleet.asked()
    fleet.says[tried] = {"state": "return", "version": "2.0", "reason": "dark"}
    assert client.post(f"/api/v1/rollouts/{number}/go-on", json={}).status_code == 204
    fleet.turn()
    assert fleet.shown(client)["state"] == "stopped"
    assert client.post(f"/api/v1/rollouts/{number}/go-on", json={"retry": False}).status_code == 204
    fleet.turn()
    fleet.turn()
    shown = fleet.shown(client)
    assert [each["state"] for each in shown["boxes"]] == ["skipped", "asked", "waiting", "waiting"]
    assert {each["id"] for each in shown["boxes"]} == set(fleet.ids[:4])


def test_boxes_and_bundles_of_others_cannot_be_named(world, fleet):
    client = world.as_role(roles.ADMINISTRATOR)
    for body in ({"boxes": [world.other.box]}, {"first": world.other.box}, {"boxes": [world.own.box]}):
        answer = client.post(
            "/api/v1/rollouts", json={"sha256": "5" * 64, "url": "https://u.example/", "version": "2", **body}
        )
        assert answer.status_code == 404, "of another tenant, or blocked"
    assert client.post("/api/v1/rollouts", json={"sha256": world.other.rows["bundle"]}).status_code == 404


def test_one_worker_rolls_out(world, fleet):
    client = world.as_role(roles.ADMINISTRATOR)
    begin(client)
    assert worker.Worker(world.hub, world.app.state.seal, None).round()
    assert len(fleet.asked()) == 1


# -- bundles -----------------------------------------------------------------------------------------------------------


def test_a_bundle_is_stored_once_by_its_content_and_nothing_else_is_one(world):
    client = world.as_role(roles.ADMINISTRATOR)
    data = b"hsqs" + b"an update" * 70_000
    digest = hashlib.sha256(data).hexdigest()
    for _ in range(2):
        answer = client.post("/api/v1/bundles", params={"version": "2.0", "sha256": digest}, content=data)
        assert answer.status_code == 201 and answer.json()["sha256"] == digest, answer.text
    listed = client.get("/api/v1/bundles").json()["bundles"]
    assert [(each["version"], each["size_bytes"]) for each in listed] == [("2.0", len(data)), ("1.0", len(BUNDLE))]
    assert (
        client.post("/api/v1/bundles", params={"version": "3.0", "sha256": "0" * 64}, content=data).json()["key"]
        == "other bundle"
    )
    for nothing in (b"", b"hs", b"PK\x03\x04 a zip", b"<html>"):
        assert client.post("/api/v1/bundles", params={"version": "3.0"}, content=nothing).json()["key"] == "no bundle"
    assert list((world.hub.settings.data_dir / "assembling").iterdir()) == []
    assert len(client.get("/api/v1/audit", params={"what": "bundle stored"}).json()["entries"]) == 1


def test_a_bundle_is_longer_than_other_bodies_and_a_strangers_is_not_read(world):
    data = b"hsqs" + bytes(3 << 20)
    made = world.as_role(roles.ADMINISTRATOR).post("/api/v1/bundles", params={"version": "4.0"}, content=data)
    assert made.status_code == 201, made.text
    refused = world.client().post("/api/v1/bundles", params={"version": "4.0"}, content=data)
    assert refused.status_code == 401


def test_a_hub_without_room_says_so(world, monkeypatch):
    client = world.as_role(roles.ADMINISTRATOR)
    monkeypatch.setattr(world.hub.blobs, "free_bytes", lambda: 10)
    assert client.post("/api/v1/bundles", params={"version": "3.0"}, content=BUNDLE).status_code == 507


def test_a_box_fetches_a_bundle_from_any_byte_on_and_only_its_own_tenants(world, tmp_path):
    identity = Identity.load_or_create(tmp_path / "key")
    with world.hub.store.writing() as connection:
        values = {
            "id": identity.box_id.hex(),
            "tenant_id": 1,
            "name": "real",
            "site": "s",
            "public_key": identity.public_bytes.hex(),
        }
        connection.execute(insert(core.box).values(enrolled_ms=1, **values))
    box = world.client()
    to_sign = wire.token_to_sign(identity.box_id, world.clock.now // 1000)
    box.headers.update(wire.request_headers(identity.box_id, wire.signed_token(to_sign, identity.sign(to_sign))))
    address = f"/box/v1/bundles/{world.own.rows['bundle']}"
    whole = box.get(address)
    assert (whole.status_code, whole.content, whole.headers["content-length"]) == (200, BUNDLE, str(len(BUNDLE)))
    rest = box.get(address, headers={"Range": "bytes=1000-", "Accept-Encoding": "identity"})
    assert (rest.status_code, rest.content) == (206, BUNDLE[1000:])
    assert rest.headers["content-range"] == f"bytes 1000-{len(BUNDLE) - 1}/{len(BUNDLE)}"
    assert box.get(address, headers={"Range": f"bytes={len(BUNDLE)}-"}).status_code == 416
    assert box.get(f"/box/v1/bundles/{world.other.rows['bundle']}").status_code == 404
    assert world.client().get(address).status_code == 401
    world.as_role(roles.ADMINISTRATOR).delete(f"/api/v1/bundles/{world.own.rows['bundle']}")
    assert box.get(address).status_code == 404


def test_a_bundle_that_boxes_fetch_stays(world, fleet):
    client = world.as_role(roles.ADMINISTRATOR)
    digest = world.own.rows["bundle"]
    assert client.post("/api/v1/rollouts", json={"sha256": digest}).status_code == 201
    fleet.turn()
    (command,) = _commands(world)
    assert command.args == {"url": f"/box/v1/bundles/{digest}", "sha256": digest, "version": "1.0"}
    assert client.delete(f"/api/v1/bundles/{digest}").json()["key"] == "in use"


def _commands(world: Any) -> list[Any]:
    with world.hub.store.reading() as connection:
        return list(connection.execute(select(core.command).where(core.command.c.do == "update")).all())
