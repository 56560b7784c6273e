"""The control channel of a real hub process, spoken to by a simulated box."""

from __future__ import annotations

import json
import time

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from nvr import wire
from nvr.hub import commands, tables
from nvr.hub.changes import Changes
from tests.hub.conftest import wait_for


def row_of(hub, box) -> dict:
    (row,) = hub.rows(tables.box, tables.box.c.id == box.id)
    return row


def cameras_of(hub, box) -> dict[str, dict]:
    return {row["name"]: row for row in hub.rows(tables.camera, tables.camera.c.box_id == box.id)}


def states_of(hub, box, camera="entrance") -> list[tuple]:
    camera_id = cameras_of(hub, box)[camera]["id"]
    rows = hub.rows(tables.state_now, tables.state_now.c.camera_id == camera_id)
    return sorted((row["kind"], row["zone"], row["slot"], row["state"], row["open"]) for row in rows)


def test_a_box_is_welcome_and_its_cameras_and_places_are_known(hub, box):
    assert box.join()["heartbeat_s"] == 10.0
    assert set(cameras_of(hub, box)) == {"entrance", "street"}
    place = hub.rows(tables.place, tables.place.c.id == cameras_of(hub, box)["street"]["place_id"])[0]
    assert (place["name"], place["kind"]) == ("puskesmas-waihaong", "health-centre")
    assert row_of(hub, box)["state"] == "here"


def test_a_camera_that_left_the_site_file_is_gone_and_comes_back_as_the_same(hub, box):
    box.join()
    before = cameras_of(hub, box)["street"]["id"]
    box.close()
    box.cameras = ("entrance",)
    box.join()
    assert cameras_of(hub, box)["street"]["gone_ms"] is not None
    box.close()
    box.cameras = ("entrance", "street")
    box.join()
    assert (cameras_of(hub, box)["street"]["id"], cameras_of(hub, box)["street"]["gone_ms"]) == (before, None)


def test_an_acknowledged_event_is_in_the_table(hub, box):
    box.join()
    event = box.event(value=wire.ALARM)
    box.send("event", **event)
    box.hear_acks(event["id"])
    (row,) = hub.rows(tables.event, tables.event.c.id == event["id"])
    assert (row["kind"], row["state"], row["value"], row["body"]["from_sequence"]) == ("service_open", "closed", 0, 1)


def test_an_event_that_comes_again_is_acknowledged_again_and_stored_once(hub, box):
    box.join()
    event = box.event()
    for _ in range(3):
        box.send("event", **event)
        box.hear_acks(event["id"])
    assert len(hub.rows(tables.event, tables.event.c.id == event["id"])) == 1


def test_an_event_of_unknown_time_counts_from_when_it_came(hub, box):
    box.join()
    event = box.event(from_ms=None, to_ms=None)
    box.send("event", **event)
    box.hear_acks(event["id"])
    (row,) = hub.rows(tables.event, tables.event.c.id == event["id"])
    assert not row["is_time_known"] and row["from_ms"] == row["received_ms"]


def test_the_id_of_another_boxs_event_is_refused_and_changes_nothing(hub, box):
    box.join()
    event = box.event()
    box.send("event", **event)
    box.hear_acks(event["id"])
    other = hub.box("waihaong-2")
    other.join()
    other.send("event", **{**event, "event": {**event["event"], "state": "open"}})
    assert other.hear("refused")["event"] == event["id"]
    assert hub.rows(tables.event, tables.event.c.id == event["id"])[0]["state"] == "closed"
    other.close()


def test_an_event_with_a_still_is_acknowledged_when_both_are_stored(hub, box):
    box.join()
    still, jpeg = box.still()
    event, other = box.event(still_sha256=still["sha256"]), box.event()
    box.send("event", **event)
    box.send("event", **other)
    assert box.hear("ack")["events"] == [other["id"]]
    box.send("still", jpeg, **still, event=event["id"])
    box.hear_acks(event["id"])
    (row,) = hub.rows(tables.object_, tables.object_.c.box_id == box.id)
    assert b"".join(hub.blobs.read(row["blob"])) == jpeg
    assert hub.rows(tables.event, tables.event.c.id == event["id"])[0]["has_still"]


def test_the_still_may_come_before_its_event(hub, box):
    box.join()
    still, jpeg = box.still(jpeg=b"\xff\xd8\xff another picture")
    event = box.event(still_sha256=still["sha256"])
    box.send("still", jpeg, **still, event=event["id"])
    wait_for(lambda: hub.rows(tables.object_, tables.object_.c.sha256 == still["sha256"]), "the still is stored")
    box.send("event", **event)
    box.hear_acks(event["id"])


def test_an_event_whose_still_was_lost_is_acknowledged_without_it(hub, box):
    box.join()
    event = box.event(still_sha256="ab" * 32)
    box.send("event", **event)
    event["still_sha256"] = None
    box.send("event", **event)
    box.hear_acks(event["id"])


def test_the_newest_still_is_kept_with_its_times(hub, box):
    box.join()
    body = box.send_still(captured_ms=int(time.time() * 1000) - 700)
    camera_id = cameras_of(hub, box)["entrance"]["id"]
    (row,) = wait_for(lambda: hub.rows(tables.still, tables.still.c.camera_id == camera_id), "the still is stored")
    assert (row["sha256"], row["captured_ms"], row["clock_state"]) == (body["sha256"], body["captured_ms"], "synced")


@pytest.mark.parametrize(
    "lie", [{"signature": "00" * 64}, {"sha256": "ab" * 32}, {"captured_ms": 5}, {"camera": "attic"}]
)
def test_a_still_that_the_box_did_not_sign_like_this_is_refused(hub, box, lie):
    box.join()
    body, jpeg = box.still()
    box.send("still", jpeg, **{**body, **lie})
    assert "still" in box.hear("refused")["what"]


def test_states_follow_events_and_heartbeats_have_the_last_word(hub, box):
    box.join()
    box.send("event", **(opened := box.event(state="open")))
    box.send("event", **(jam := box.event(kind="stopped_vehicle", state="stands")))
    box.send("event", **(jam2 := box.event(kind="stopped_vehicle", state="stands")))
    box.hear_acks(opened["id"], jam["id"], jam2["id"])
    assert states_of(hub, box) == [
        ("service_open", "counter", "", "open", 1),
        ("stopped_vehicle", "counter", "stands", "stands", 2),
    ]
    ended = box.event(kind="stopped_vehicle", state="stands", is_end=True)
    box.send("event", **ended)
    box.hear_acks(ended["id"])
    assert ("stopped_vehicle", "counter", "stands", "stands", 1) in states_of(hub, box)
    told = {
        "camera": "entrance",
        "kind": "service_open",
        "zone": "counter",
        "state": "cannot tell",
        "from_ms": int(time.time() * 1000),
    }
    box.send("heartbeat", **box.heartbeat([told]))
    wait_for(
        lambda: states_of(hub, box) == [("service_open", "counter", "", "cannot tell", 1)],
        "the heartbeat's states are there",
    )


def test_an_event_that_comes_late_does_not_turn_the_state_back(hub, box):
    box.join()
    now_ms = int(time.time() * 1000)
    new, old = box.event(state="open", from_ms=now_ms), box.event(state="closed", from_ms=now_ms - 3_600_000)
    for event in (new, old):
        box.send("event", **event)
        box.hear_acks(event["id"])
    assert states_of(hub, box) == [("service_open", "counter", "", "open", 1)]


def test_a_heartbeat_is_kept_whole_and_small_in_the_history(hub, box):
    box.join()
    box.send("heartbeat", **box.heartbeat())
    wait_for(lambda: row_of(hub, box)["heartbeat"], "the heartbeat is stored")
    assert row_of(hub, box)["heartbeat"]["cameras"]["street"]["kbit_s"] == 4100
    (row,) = hub.rows(tables.heartbeat_history, tables.heartbeat_history.c.box_id == box.id)
    assert (row["body"]["cameras"], row["body"]["temperature_c"]) == ({"entrance": True, "street": True}, 51.5)


def ask(hub, box, do: str, **args) -> str:
    now_ms = int(time.time() * 1000)
    with hub.store.writing() as connection:
        return commands.add(
            connection,
            Changes(hub.store, lambda: now_ms),
            tenant_id=1,
            box_id=box.id,
            do=do,
            args=args,
            by="wati",
            now_ms=now_ms,
        )


def test_a_command_reaches_a_box_that_is_here_and_its_answer_is_kept(hub, box):
    box.join()
    command_id = ask(hub, box, "fetch", camera="street", from_ms=1, to_ms=2, reason="crash")
    command = box.hear("command")
    assert (command["id"], command["do"], command["by"], command["args"]["reason"]) == (
        command_id,
        "fetch",
        "wati",
        "crash",
    )
    box.send("reply", id=command_id, ok=True, detail="it comes", more={"pieces": 3})
    row = wait_for(
        lambda: [each for each in hub.rows(tables.command, tables.command.c.id == command_id) if each["answered_ms"]],
        "answered",
    )[0]
    assert (row["ok"], row["detail"], row["more"]) == (True, "it comes", {"pieces": 3})
    assert row["sent_ms"] is not None


def test_a_command_waits_for_a_box_that_is_away(hub, box):
    command_id = ask(hub, box, "still", camera="street")
    box.join()
    assert box.hear("command")["id"] == command_id
    box.close()
    box.join()
    assert box.hear("command")["id"] == command_id  # it was not answered
    box.send("reply", id=command_id, ok=False, detail="no such camera")
    wait_for(lambda: hub.rows(tables.command, tables.command.c.id == command_id)[0]["answered_ms"], "answered")


def test_a_no_takes_back_a_yes_and_never_the_other_way(hub, box):
    """A box says at once that a clip will come, and may find out later that nothing is there to cut."""
    command_id = ask(hub, box, "fetch", camera="street", from_ms=1, to_ms=2)
    box.join()
    box.hear("command")

    def row() -> dict:
        return hub.rows(tables.command, tables.command.c.id == command_id)[0]

    box.send("reply", id=command_id, ok=True, detail="it will come")
    wait_for(lambda: row()["ok"] is True, "yes")
    box.send("reply", id=command_id, ok=False, detail="nothing is recorded there")
    wait_for(lambda: row()["ok"] is False, "no")
    box.send("reply", id=command_id, ok=True, detail="it will come")
    box.send("reply", id=command_id, ok=False, detail="another reason")
    event = box.event()
    box.send("event", **event)
    box.hear_acks(event["id"])  # what was sent before it has been taken
    assert row()["detail"] == "nothing is recorded there"


def test_a_command_of_another_box_cannot_be_answered(hub, box):
    command_id = ask(hub, box, "still", camera="street")
    other = hub.box("waihaong-3")
    other.join()
    other.send("reply", id=command_id, ok=True)
    assert "no such command" in other.hear("refused")["what"]
    assert hub.rows(tables.command, tables.command.c.id == command_id)[0]["answered_ms"] is None
    other.close()


def test_a_newer_connection_takes_over(hub, box):
    box.join()
    old = box.socket
    box.join()
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            old.recv(timeout=60)
    assert closed.value.rcvd.code == 4409
    event = box.event()
    box.send("event", **event)
    box.hear_acks(event["id"])


def test_hello_comes_first(hub, box):
    box.connect()
    box.send("heartbeat", **box.heartbeat())
    assert "hello" in box.hear("refused")["what"]


@pytest.mark.parametrize(
    "nonsense",
    ["", "{", "[]", "null", '{"v":1}', '{"v":2,"kind":"event"}', '{"v":1,"kind":"welcome"}', '{"v":1,"kind":"event"}', "[" * 50_000,
     '{"v":1,"kind":"event","event":{"kind":1}}', '{"v":1,"kind":"reply","id":"x"}', b"", b"\0\0\0\x02{}", b"\xff\xff\xff\xff", b"\0\0\0\x05{\xff\xff\xff}abc"],
    ids=range(15),
)  # fmt: skip
def test_nonsense_is_refused_and_the_channel_goes_on(hub, box, nonsense):
    box.join()
    box.socket.send(nonsense)
    box.hear("refused")
    event = box.event()
    box.send("event", **event)
    box.hear_acks(event["id"])


def test_what_databases_do_not_take_is_made_plain(hub, box):
    box.join()
    event = box.event(detail="a\0b \ud800 c", numbers={"x": 1e308, "deep": [[[[[[[1]]]]]]]}, words={"k\0": "\udfff"})
    text = json.dumps({"v": 1, "kind": "event", **event}).replace("1e+308", "1e999")
    box.socket.send(text)
    box.hear_acks(event["id"])
    (row,) = hub.rows(tables.event, tables.event.c.id == event["id"])
    assert row["body"]["detail"].startswith("ab ") and row["body"]["numbers"]["x"] is None


def test_a_box_that_says_nonsense_without_end_is_let_go(hub, box):
    box.join()
    with pytest.raises(ConnectionClosed):
        for _ in range(10_000):
            box.socket.send("{")
            box.hear("refused")


def test_boxes_that_go_leave_no_traceback_in_the_log(own_hub):
    for how in ("close", "vanish", "nonsense"):
        box = own_hub.box(f"going-{how}")
        box.join()
        box.send("event", **box.event())
        if how == "close":
            box.close()
        elif how == "vanish":
            box.socket.socket.shutdown(2)  # no goodbye, with an acknowledgement on its way
        else:
            box.socket.send(b"\xff" * 3)
            box.socket.socket.shutdown(2)
    wait_for(lambda: httpx.get(f"{own_hub.url}/healthz", timeout=60).json()["boxes"] == 0, "all of them are gone")
    own_hub.stop()
    assert "Traceback" not in own_hub.log_path.read_text()
