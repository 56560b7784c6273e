"""The control channel of a real hub process, spoken to by a simulated box."""

from __future__ import annotations


def test_a_box_enrols_once_and_is_welcome(hub, box):
    assert box.join()["heartbeat_s"] == 10.0


def test_an_event_is_acknowledged(hub, box):
    box.join()
    event = box.event()
    box.send("event", **event)
    box.hear_acks(event["id"])


def test_an_event_with_a_still_is_acknowledged_when_both_are_stored(hub, box):
    box.join()
    still, jpeg = box.still()
    event = box.event(still_sha256=still["sha256"])
    box.send("event", **event)
    other = box.event()
    box.send("event", **other)
    assert box.hear("ack")["events"] == [other["id"]]
    box.send("still", jpeg, **still, event=event["id"])
    box.hear_acks(event["id"])
