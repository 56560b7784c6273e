"""What is deleted when; that what is held never is; and that bytes, rows and tombstones agree whenever the hub dies."""

from __future__ import annotations

import pytest
from sqlalchemy import insert, select, update

from nvr.hub import tables as core
from nvr.hub.people import deleting, retention, roles, tables, worker
from nvr.hub.people.retention import DAY_MS, Kept, LegalHold
from tests.hub.people.world import CLIP as CLIP_BYTES
from tests.hub.people.world import JPEG, NOW_MS

CLIP = Kept("clip", 1, 7, NOW_MS - 31 * DAY_MS, NOW_MS - 31 * DAY_MS + 60_000, NOW_MS - 31 * DAY_MS)


@pytest.mark.parametrize(
    ("hold", "is_protected"),
    [
        (LegalHold(1, 1, None, CLIP.from_ms - 5, CLIP.from_ms + 5), True), (LegalHold(1, None, None, 0, NOW_MS), True),
        (LegalHold(1, 1, 7, CLIP.from_ms, CLIP.to_ms), True), (LegalHold(1, 2, None, 0, NOW_MS), False),
        (LegalHold(1, 1, 8, 0, NOW_MS), False), (LegalHold(1, 1, None, CLIP.to_ms, NOW_MS), False), (LegalHold(1, 1, None, 0, CLIP.from_ms), False),
    ],
)  # fmt: skip
def test_a_hold_protects_what_touches_its_span_at_its_place_or_camera(hold, is_protected):
    assert hold.protects(CLIP) is is_protected
    assert retention.is_expired(CLIP, None, [hold], NOW_MS) is not is_protected
    unknown = Kept("clip", hold.place_id, hold.camera_id or 7, 0, 0, NOW_MS)
    assert hold.protects(unknown)  # nobody knows when it was: it may be inside


@pytest.mark.parametrize(
    "said",
    [None, {}, {"clip_days": 0}, {"clip_days": True}, {"clip_days": "5"}, {"clip_days": -1}, {"clip_days": 10**9}],
)
def test_a_wrong_number_of_days_never_deletes(said):
    assert retention.days(said, "clip") == 30
    assert retention.days({"clip_days": 7}, "clip") == 7


def test_what_came_from_the_future_stays():
    assert not retention.is_expired(Kept("clip", 1, 1, 1, 2, NOW_MS + 10**12), None, [], NOW_MS)


def objects(world) -> dict[str, bool]:
    """SHA-256 of clips -> whether row and bytes are there; they never differ after a whole round."""
    with world.hub.store.reading() as connection:
        rows = connection.execute(select(core.object_).where(core.object_.c.kind == "clip")).all()
    found = {}
    for row in rows:
        is_there = world.hub.blobs.size(row.blob) is not None
        assert is_there == (row.deleted_ms is None)
        found[row.sha256] = is_there
    return found


def test_clips_go_after_their_time_each_place_by_its_own_rule_and_leave_a_tombstone(world):
    client = world.as_role(roles.ADMINISTRATOR)
    assert (
        client.patch(f"/api/v1/places/{world.foreign.place}", json={"retention": {"clip_days": 60}}).status_code == 204
    )
    world.clock.pass_s(31 * 86_400)
    deleting.run(world.hub)
    assert objects(world) == {world.own.clip: False, world.foreign.clip: True, world.other.clip: False}
    client = world.as_role(roles.ADMINISTRATOR)
    assert client.get(f"/api/v1/clips/{world.own.clip}").status_code == 404
    assert client.get(f"/api/v1/events/{world.own.event}").json()["clip"] is None
    with world.hub.store.reading() as connection:
        stones = connection.execute(select(tables.tombstone).where(tables.tombstone.c.tenant_id == 1)).all()
    assert [(stone.object, stone.why, stone.blob) for stone in stones] == [(world.own.clip, "expired", "")]
    assert [each["more"] for each in client.get("/api/v1/audit", params={"what": "retention"}).json()["entries"]] == [
        {"deleted": 1}
    ]


def test_events_that_a_state_rests_on_stay_and_others_go_after_their_time(world):
    with world.hub.store.writing() as connection:
        connection.execute(
            insert(core.state_now).values(
                camera_id=world.own.camera, kind="service_open", zone="counter", slot="", state="closed", open=1, since_ms=NOW_MS,
                event_id=world.own.event, body={},
            )
        )  # fmt: skip
    world.clock.pass_s(401 * 86_400)
    deleting.run(world.hub)
    with world.hub.store.reading() as connection:
        assert connection.execute(select(core.event.c.id)).scalars().all() == [world.own.event]


def test_what_is_held_outlives_its_time_until_the_hold_is_released(world):
    client = world.as_role(roles.OPERATOR, world.own.place_id)
    body = {"camera_id": world.own.camera, "from_ms": NOW_MS - 1000, "to_ms": NOW_MS, "reason": "laporan polisi"}
    hold = client.post("/api/v1/holds", json=body).json()["id"]
    assert [each["held"] for each in client.get("/api/v1/clips").json()["clips"]] == [True]
    world.clock.pass_s(500 * 86_400)
    deleting.run(world.hub)
    assert objects(world) == {world.own.clip: True, world.foreign.clip: False, world.other.clip: False}
    administrator = world.as_role(roles.ADMINISTRATOR)
    address = f"/api/v1/holds/{hold}/release"
    assert administrator.post(address, json={"reason": "     "}).status_code == 422, (
        "no hold is released without a word"
    )
    assert next(each for each in administrator.get("/api/v1/holds").json()["holds"] if each["id"] == hold)["kept"] == {
        "count": 2, "size_bytes": len(CLIP_BYTES) + len(JPEG),
    }  # fmt: skip
    assert administrator.post(address, json={"reason": "perkara selesai"}).status_code == 204
    assert administrator.post(address, json={"reason": "perkara selesai"}).status_code == 404
    deleting.run(world.hub)
    assert objects(world)[world.own.clip] is False
    listed = administrator.get("/api/v1/holds").json()["holds"]
    released = next(each for each in listed if each["id"] == hold)
    assert (released["released_by"], released["release_reason"], released["kept"]) == (
        "administrator-all", "perkara selesai", None,
    )  # fmt: skip
    told = administrator.get("/api/v1/audit", params={"what": "hold released"}).json()["entries"]
    assert (told[0]["object"], told[0]["more"]) == (f"hold {hold}", {"reason": "perkara selesai"})


def test_before_a_request_is_decided_one_sees_what_it_covers_and_what_a_hold_keeps_of_it(world):
    administrator = world.as_role(roles.ADMINISTRATOR)
    body = {
        "person": "Bapak B",
        "places": [world.own.place],
        "from_ms": NOW_MS - 120_000,
        "to_ms": NOW_MS,
        "reason": "saya",
    }
    number = administrator.post("/api/v1/deletions", json=body).json()["id"]
    size = len(CLIP_BYTES) + len(JPEG)
    look = administrator.get(f"/api/v1/deletions/{number}").json()
    assert (look["covered"], look["held"]) == ({"count": 2, "size_bytes": size}, {"count": 0, "size_bytes": 0})
    assert {each["kind"] for each in look["things"]} == {"clip", "still"}
    assert all(
        (each["place"], each["camera"], each["is_held"]) == (world.own.place, "hall", False) for each in look["things"]
    )
    hold = {"camera_id": world.own.camera, "from_ms": NOW_MS - 1000, "to_ms": NOW_MS, "reason": "laporan polisi"}
    administrator.post("/api/v1/holds", json=hold)
    look = administrator.get(f"/api/v1/deletions/{number}").json()
    assert (look["covered"]["count"], look["held"]["count"]) == (0, 2)
    decision = {"granted": True, "answer": "akan dihapus, kecuali yang ditahan"}
    assert administrator.post(f"/api/v1/deletions/{number}/decide", json=decision).status_code == 200
    deleting.run(world.hub)
    look = administrator.get(f"/api/v1/deletions/{number}").json()
    done = look["deletion"]
    assert (done["state"], done["deleted"], done["kept_by_hold"], look["held"]["count"]) == ("done", 0, 2, 2)
    said = {each["what"] for each in administrator.get("/api/v1/audit").json()["entries"]}
    assert {"deletion asked for", "deletion looked at", "deletion granted", "deletion done"} <= said


def test_an_operator_of_one_place_holds_nothing_elsewhere(world):
    client = world.as_role(roles.OPERATOR, world.own.place_id)
    span = {"from_ms": 1, "to_ms": NOW_MS, "reason": "because"}
    assert client.post("/api/v1/holds", json=span).status_code == 403  # all places
    assert client.post("/api/v1/holds", json={**span, "camera_id": world.foreign.camera}).status_code == 404
    assert client.post("/api/v1/holds", json={**span, "place": world.foreign.place}).status_code == 404
    everywhere = world.as_role(roles.OPERATOR)
    two = {**span, "camera_id": world.own.camera, "place": world.foreign.place}
    assert everywhere.post("/api/v1/holds", json=two).status_code == 422


def asked_for(world, **more) -> int:
    body = {
        "person": "Bapak X",
        "contact": "0811",
        "from_ms": NOW_MS - 30_000,
        "to_ms": NOW_MS,
        "reason": "anak saya",
        **more,
    }
    answer = world.as_role(roles.ADMINISTRATOR).post("/api/v1/deletions", json=body)
    assert answer.status_code == 201
    return answer.json()["id"]


def test_nothing_a_person_asks_for_is_deleted_before_somebody_decided(world):
    number = asked_for(world, places=[world.own.place])
    deleting.run(world.hub)
    assert objects(world)[world.own.clip]
    client = world.as_role(roles.ADMINISTRATOR)
    listed = client.get("/api/v1/deletions").json()["deletions"][0]
    assert (listed["state"], listed["answer_by_ms"] - listed["received_ms"], listed["is_late"]) == (
        "received",
        3 * DAY_MS,
        False,
    )
    decided = client.post(f"/api/v1/deletions/{number}/decide", json={"granted": True, "answer": "dihapus"})
    assert decided.json()["state"] == "granted"
    assert (
        client.post(f"/api/v1/deletions/{number}/decide", json={"granted": False, "answer": "no after all"}).status_code
        == 409
    )
    deleting.run(world.hub)
    assert objects(world) == {world.own.clip: False, world.foreign.clip: True, world.other.clip: True}
    done = client.get("/api/v1/deletions").json()["deletions"][0]
    assert (done["state"], done["deleted"], done["kept_by_hold"]) == ("done", 2, 0)  # the clip and the still
    assert client.get(f"/api/v1/events/{world.own.event}/still").status_code == 404
    assert "Bapak X" not in client.get("/api/v1/audit").text


def test_a_hold_counts_more_than_a_request(world):
    world.as_role(roles.OPERATOR).post(
        "/api/v1/holds", json={"place": world.own.place, "from_ms": 1, "to_ms": NOW_MS + 5, "reason": "court"}
    )
    number = asked_for(world)
    client = world.as_role(roles.ADMINISTRATOR)
    client.post(f"/api/v1/deletions/{number}/decide", json={"granted": True, "answer": "as far as we may"})
    deleting.run(world.hub)
    assert objects(world) == {world.own.clip: True, world.foreign.clip: False, world.other.clip: True}
    assert client.get("/api/v1/deletions").json()["deletions"][0]["kept_by_hold"] == 2


def test_a_hub_that_dies_between_row_and_bytes_goes_on_where_it_was(world, monkeypatch):
    world.clock.pass_s(31 * 86_400)
    delete = world.hub.blobs.delete

    def dies(key: str) -> None:
        raise OSError("killed here")

    monkeypatch.setattr(world.hub.blobs, "delete", dies)
    deleting.run(world.hub)
    with world.hub.store.reading() as connection:
        rows = connection.execute(select(core.object_).where(core.object_.c.kind == "clip")).all()
        assert all(row.deleted_ms and world.hub.blobs.size(row.blob) is not None for row in rows)
    monkeypatch.setattr(world.hub.blobs, "delete", delete)
    deleting.run(world.hub)
    assert not any(objects(world).values())


def test_one_worker_is_elected_and_another_takes_over_when_it_dies(world):
    first, second = (worker.Worker(world.hub, world.app.state.seal, None) for _ in range(2))
    assert [first.round(), second.round(), first.round()] == [True, False, True]
    world.clock.pass_s(worker.LEASE_MS / 1000 + 1)  # the first one hangs or is dead
    assert [second.round(), first.round()] == [True, False]
    second.stop()
    assert first.round()


def test_a_lease_from_a_clock_that_ran_ahead_keeps_nobody_out(world):
    with world.hub.store.writing() as connection:
        assert worker.take_lease(connection, "x", "a", world.clock.now + 10**12)
        assert worker.take_lease(connection, "x", "b", world.clock.now)


def test_a_step_of_the_worker_that_fails_does_not_hold_up_the_others(world, monkeypatch):
    def fails(*_: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(worker.notify, "send_waiting", fails)
    client = world.as_role(roles.MAYOR)
    client.post(
        f"/api/v1/alerts/{world.own.alert}/instruct", json={"to": "a", "what": "b", "due_ms": world.clock.now + 1000}
    )
    world.clock.pass_s(200)
    with world.hub.store.writing() as connection:
        connection.execute(update(core.box).where(core.box.c.id == world.own.box).values(seen_ms=NOW_MS))
    assert worker.Worker(world.hub, world.app.state.seal, None).round()
    found = client.get("/api/v1/alerts").json()["alerts"]
    assert {each["kind"] for each in found} == {"service_open", "box silent"}
    assert next(each for each in found if each["id"] == world.own.alert)["is_overdue"]
