"""A hub that lies, and two boxes with one key: nothing of a box is lost, and nothing of it obeys."""

from __future__ import annotations

import json
import struct
import time
from pathlib import Path

import pytest

from nvr import wire
from tests.uplink.boxes import EventfulBox, Running, until
from tests.uplink.small_hub import SmallHub, served

GARBAGE: list[str | bytes] = [
    "", "{", "[]", "null", '{"v":1}', '{"v":2,"kind":"ack","events":[]}', '{"v":1,"kind":"ack","events":{"a":1}}',
    '{"v":1,"kind":"ack","events":[1,null,{}]}', '{"v":1,"kind":"command"}', '{"v":1,"kind":"command","id":"../../etc/passwd","do":"fetch","args":{}}',
    json.dumps({"v": 1, "kind": "command", "id": "0" * 32, "do": "x" * 100, "args": {}}),
    json.dumps({"v": 1, "kind": "command", "id": "1" * 32, "do": "fetch", "args": []}),
    '{"v":1,"kind":"ping","n":"a"}', '{"v":1,"kind":"welcome","wall_ms":-5}', '{"v":1,"kind":"refused","what":7}', "[" * 5000,
    '{"v":1,"kind":"welcome","wall_ms":1e400}', b"", b"\0", b"\xff" * 100, struct.pack(">I", 2**31) + b"{}", b"\0\0\0\2{}",
]  # fmt: skip


@pytest.fixture
def box(tmp_path: Path) -> EventfulBox:
    return EventfulBox(tmp_path)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr("nvr.uplink.upload.BACK_OFF_S", (0.05,))
    monkeypatch.setattr("nvr.uplink.process.REFUSED_S", 0.3)


def test_messages_that_are_none_change_nothing(box, tmp_path):
    hub = SmallHub()
    hub.garbage = GARBAGE
    box.event("intrusion", "present", 12.0, has_still=True)
    with (
        served(tmp_path, hub) as listening,
        Running(box, box.site_file(listening.url, listening.fingerprint)) as running,
    ):
        until(lambda: len(hub.events) == 1 and len(hub.objects) == 1, "an event and its clip")
        until(lambda: running.uplink.control.bad_messages >= 10, "the garbage was counted")
        assert running.uplink.control.connections == 1


def test_a_hub_that_says_nothing_but_garbage_is_let_go_of(box, tmp_path):
    hub = SmallHub()
    hub.garbage = ["{"] * 60
    with (
        served(tmp_path, hub) as listening,
        Running(box, box.site_file(listening.url, listening.fingerprint)) as running,
    ):
        until(lambda: running.uplink.control.connections >= 2, "it connects anew")


def test_a_message_without_end_is_not_read_to_its_end(box, tmp_path):
    hub = SmallHub()
    hub.garbage = ["x" * (wire.TEXT_BYTES_MOST * 5)]
    with (
        served(tmp_path, hub) as listening,
        Running(box, box.site_file(listening.url, listening.fingerprint)) as running,
    ):
        until(lambda: running.uplink.control.connections >= 2, "the connection is closed")


def test_an_acknowledgement_of_what_was_never_sent_takes_nothing_out(box, tmp_path):
    hub = SmallHub()
    hub.acknowledges = False
    box.event("service_open", "open", 20.0)
    with (
        served(tmp_path, hub) as listening,
        Running(box, box.site_file(listening.url, listening.fingerprint)) as running,
    ):
        until(lambda: hub.events, "the event")
        hub.say(wire.Message("ack", {"events": ["f" * 32] * 1000}))
        hub.say(wire.Message("ping", {"n": 5}))
        until(lambda: running.uplink.outbox.events(10), "it waits")
        (id,) = hub.events
        hub.say(wire.Message("ack", {"events": [id]}))
        until(lambda: not running.uplink.outbox.events(10), "it is gone")


def test_a_refused_event_is_not_repeated_for_ever(box, tmp_path):
    hub = SmallHub()
    hub.acknowledges = False
    box.event("service_open", "open", 20.0)
    with (
        served(tmp_path, hub) as listening,
        Running(box, box.site_file(listening.url, listening.fingerprint)) as running,
    ):
        until(lambda: hub.events, "the event")
        (id,) = hub.events
        hub.say(wire.Message("refused", {"what": "no camera gate", "hint": "", "event": id}))
        until(lambda: not running.uplink.outbox.events(10), "it is given up")
        given_up = running.uplink.outbox.depth()
        assert given_up["given_up"]["events given up"] == 1 and "no camera gate" in given_up["given_up_why"]


def test_the_word_that_a_clip_is_stored_counts_only_with_its_own_hash(box, tmp_path):
    hub = SmallHub()
    hub.location = "https://elsewhere.example.org/box/v1/uploads/x"
    box.event("intrusion", "present", 12.0)
    with (
        served(tmp_path, hub) as listening,
        Running(box, box.site_file(listening.url, listening.fingerprint)) as running,
    ):
        until(lambda: "404" in running.uplink.standing.last_error, "the path is asked of this hub, and of no other")
        hub.location = "/etc/passwd"
        until(lambda: "for an upload" in running.uplink.standing.last_error, "a path that is none is not followed")
        assert running.uplink.outbox.to_send()
        hub.location = ""
        until(lambda: not running.uplink.outbox.to_send() and hub.objects, "it arrives after all")


@pytest.mark.parametrize("status", [404, 429, 500, 503, 507])
def test_a_hub_that_takes_no_uploads_for_now_gets_them_later(box, tmp_path, status):
    hub = SmallHub()
    hub.refuse_uploads = status
    box.event("intrusion", "present", 12.0)
    with (
        served(tmp_path, hub) as listening,
        Running(box, box.site_file(listening.url, listening.fingerprint)) as running,
    ):
        until(lambda: str(status) in running.uplink.standing.last_error, "it was refused")
        hub.refuse_uploads = 0
        until(lambda: hub.objects, "it arrives")


def test_a_clip_the_hub_will_never_take_is_given_up_by_name(box, tmp_path):
    hub = SmallHub()
    hub.refuse_uploads = 413
    box.event("intrusion", "present", 12.0)
    with (
        served(tmp_path, hub) as listening,
        Running(box, box.site_file(listening.url, listening.fingerprint)) as running,
    ):
        until(lambda: running.uplink.outbox.depth()["given_up"].get("clips given up") == 1, "given up")
        assert "413" in running.uplink.outbox.depth()["given_up_why"]


@pytest.mark.parametrize("status", [400, 408])
def test_a_piece_that_was_cut_short_on_the_way_is_no_reason_to_give_up_its_clip(box, tmp_path, status):
    """A link was away for 45 s in the middle of a piece; the hub called that a bad request, and the box gave up the clip."""
    hub = SmallHub()
    hub.refuse_pieces = [status, status]
    box.event("intrusion", "present", 12.0)
    with (
        served(tmp_path, hub) as listening,
        Running(box, box.site_file(listening.url, listening.fingerprint)) as running,
    ):
        until(lambda: hub.objects, "it arrives")
        assert running.uplink.outbox.depth()["given_up"] == {}


def test_a_piece_that_is_damaged_on_the_way_is_sent_again(box, tmp_path):
    hub = SmallHub()
    hub.damage_pieces = 2
    box.event("intrusion", "present", 12.0)
    with (
        served(tmp_path, hub) as listening,
        Running(box, box.site_file(listening.url, listening.fingerprint)) as running,
    ):
        until(lambda: hub.objects, "it arrives")
        assert running.uplink.counts.resent_bytes > 0


def test_a_clip_whose_file_rots_while_it_waits_is_cut_again(box, tmp_path):
    hub = SmallHub()
    hub.refuse_uploads = 503
    box.event("intrusion", "present", 12.0)
    with (
        served(tmp_path, hub) as listening,
        Running(box, box.site_file(listening.url, listening.fingerprint)) as running,
    ):
        until(lambda: running.uplink.outbox.to_send(), "it is cut")
        (clip,) = running.uplink.outbox.to_send()
        path = running.uplink.outbox.clips_path / clip.made.file
        path.write_bytes(path.read_bytes()[:-100])
        hub.refuse_uploads = 0
        until(lambda: hub.objects and not running.uplink.outbox.to_send(), "it arrives, whole")
    (data,) = hub.objects.values()
    assert len(data) == clip.made.size_bytes


def test_another_certificate_is_not_spoken_to(box, tmp_path):
    """Whoever sits between a box and its hub gets no token, no code and no event."""
    box.event("intrusion", "present", 12.0)
    with served(tmp_path) as listening, Running(box, box.site_file(listening.url, "ab" * 32)) as running:
        until(lambda: "fingerprint" in running.uplink.standing.last_error, "it says why")
        time.sleep(0.5)
        assert not listening.hub.enrolments and not listening.hub.hellos
        assert listening.fingerprint in running.uplink.standing.last_error


def test_a_wrong_code_is_said_and_tried_again_slowly(box, tmp_path):
    hub = SmallHub(code="AAAA-BBBB-CCCC")
    with (
        served(tmp_path, hub) as listening,
        Running(box, box.site_file(listening.url, listening.fingerprint)) as running,
    ):
        until(lambda: "refuses the code" in running.uplink.standing.last_error, "it says why")
        assert not running.uplink.enrolment.is_done()
        hub.code_hash = wire.code_hash("7f3k qm2p xw9d")
        until(lambda: running.uplink.control.is_connected, "it gets in")


def test_a_hub_that_forgot_the_box_enrols_it_again(box, tmp_path):
    with served(tmp_path) as listening, Running(box, box.site_file(listening.url, listening.fingerprint)) as running:
        until(lambda: running.uplink.control.is_connected, "it is connected")
        listening.hub.keys.clear()
        listening.hub.hang_up()
        until(
            lambda: listening.hub.enrolments == 2 and running.uplink.control.is_connected, "it is enrolled again", 120
        )


def test_commands_that_come_twice_are_done_once(box, tmp_path):
    with served(tmp_path) as listening, Running(box, box.site_file(listening.url, listening.fingerprint)) as running:
        hub = listening.hub
        until(lambda: running.uplink.control.is_connected, "it is connected")
        from_ms = box.written[0].record.wall_ns // 1_000_000
        id = hub.ask("fetch", camera="gate", from_ms=from_ms + 5000, to_ms=from_ms + 9000)
        until(lambda: hub.reply_to(id), "the answer")
        until(lambda: len(hub.objects) == 1, "the clip")
        hub.ask("fetch", id=id, camera="gate", from_ms=from_ms + 5000, to_ms=from_ms + 9000)
        until(lambda: len([reply for reply in hub.replies if reply["id"] == id]) == 2, "the same answer again")
        assert [reply["ok"] for reply in hub.replies] == [True, True]
        time.sleep(1.5)
        assert len(hub.objects) == 1
        (upload,) = hub.uploads.values()
        assert upload.about["command"] == id and upload.about["value"] == "clip"


def test_of_two_boxes_with_one_key_both_say_so(box, tmp_path):
    """A card was copied. The hub keeps the newer connection; whoever lost it waits a while, so that they do not fight all the time."""
    (tmp_path / "copy").mkdir()
    other = EventfulBox(tmp_path / "copy")
    (other.data_dir / "identity" / "key").write_bytes((box.data_dir / "identity" / "key").read_bytes())
    with served(tmp_path) as listening:
        paths = [each.site_file(listening.url, listening.fingerprint) for each in (box, other)]
        with Running(box, paths[0]) as one:
            until(lambda: one.uplink.control.is_connected, "the first is connected")
            with Running(other, paths[1]):
                until(
                    lambda: "took over" in one.uplink.standing.last_error, "the first says that another one took over"
                )
                until(lambda: one.uplink.control.connections >= 2, "it tries again, later")


def test_an_uplink_of_the_same_box_is_there_once(box, tmp_path):
    with served(tmp_path) as listening:
        path = box.site_file(listening.url, listening.fingerprint)
        with Running(box, path):
            from nvr import site
            from nvr.errors import NvrError
            from nvr.uplink.process import Uplink

            with pytest.raises(NvrError, match="another uplink"):
                Uplink(site.load(path), box.data_dir)
