"""The uplink as a whole, against a hub that also misbehaves."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import pytest
from web.boxes import NS

from firmware.gate import UPLINK_OLD_S
from nvr import clips
from nvr.clock import SystemClock
from nvr.events import EventLog
from nvr.media import ClockReading
from nvr.ring import holds
from nvr.uplink.process import STATUS_S, status_pause_s
from tests.uplink.boxes import EventfulBox, Running, until
from tests.uplink.small_hub import SmallHub, served


@pytest.fixture
def box(tmp_path: Path) -> EventfulBox:
    return EventfulBox(tmp_path)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """A test does not wait as a city of boxes should."""
    monkeypatch.setattr("nvr.uplink.upload.BACK_OFF_S", (0.05,))


def test_events_arrive_once_and_their_clips_byte_for_byte_with_a_genuine_proof(box, tmp_path):
    box.event("intrusion", "present", 12.0, has_still=True)
    box.event("service_open", "open", 20.0)
    box.event("line_crossing", "crossed", 25.0)
    with served(tmp_path) as hub:
        path = box.site_file(hub.url, hub.fingerprint)
        with Running(box, path) as running:
            until(lambda: len(hub.hub.events) == 3, "three events")
            until(lambda: len(hub.hub.objects) == 2, "two clips")
            until(lambda: running.uplink.outbox.depth()["depth"] == 0, "nothing waits")
            until(lambda: hub.hub.heartbeats, "a heartbeat")
            until(lambda: holds.load(box.data_dir / "holds.json") == [], "nothing is held any more")
        told = [hub.hub.events[id]["event"]["kind"] for id in hub.hub.event_order]
        assert told[0] == "intrusion", "alarms first"
        alarm = next(each for each in hub.hub.events.values() if each["event"]["kind"] == "intrusion")
        assert (alarm["value"], alarm["still_sha256"]) == (0, hashlib.sha256(hub.hub.stills[0].payload).hexdigest())
        of_alarm = next(upload for upload in hub.hub.uploads.values() if upload.about["clip"] == alarm["clip"])
        assert (of_alarm.about["value"], of_alarm.about["event"]) == ("alarm", alarm["id"])
        assert set(hub.hub.stored_times.values()) == {1}
        clip_path = tmp_path / "clip.mp4"
        clip_path.write_bytes(bytes(of_alarm.data))
        verdict = clips.verify(clip_path)
        assert verdict["genuine"], verdict
        assert list((box.data_dir / "outbox" / "clips").iterdir()) == []


def test_alarms_leave_while_nobody_can_write_into_the_outbox(box, tmp_path):
    """A card on which each sync takes five seconds, and clips that are cut and stored one after the other: the alarm stood in the queue for the
    outbox's lock, its acknowledgement stood there again, and the next alarm behind that: up to 34 s. What is durable in DATA/events may leave."""
    with served(tmp_path) as hub:
        path = box.site_file(hub.url, hub.fingerprint)
        with Running(box, path) as running:
            uplink = running.uplink
            until(lambda: uplink.control.is_connected, "it is connected")
            with uplink.outbox._lock:  # held as long as a sync lasts; here for ever
                for number in range(40):  # with their stills more than may be on the way at once
                    box.event("intrusion", "present", 12.0 + number / 4, has_still=True)
                    running._loop.call_soon_threadsafe(uplink.heard.on_event)  # as `detect` tells
                until(lambda: len(hub.hub.events) == 40, "all of them arrive", 90)
                until(lambda: len(uplink._to_forget) == 40, "all of them are acknowledged", 90)
                assert uplink.outbox.cursor() == (0, ""), "nothing was taken over"
            until(lambda: len(hub.hub.objects) == 40 and uplink.outbox.depth()["depth"] == 0, "their clips follow", 180)
        assert len(hub.hub.event_order) == 40, "each was told once"


def test_an_alarm_that_was_told_before_it_was_taken_over_is_told_again_by_the_next_process_and_is_one(box, tmp_path):
    box.event("intrusion", "present", 12.0)
    with served(tmp_path) as hub:
        path = box.site_file(hub.url, hub.fingerprint)
        with Running(box, path) as running:
            until(lambda: hub.hub.objects and running.uplink.outbox.depth()["depth"] == 0, "all is told")
        running.uplink.outbox.__init__(box.data_dir / "outbox")
        running.uplink.outbox.begin_anew((0, ""))  # as if it had been killed before it took the event over
        running.uplink.outbox.close()
        with Running(box, path) as running:
            until(
                lambda: running.uplink.outbox.cursor()[0] == 1 and running.uplink.outbox.depth()["depth"] == 0, "again"
            )
        assert len(hub.hub.events) == 1 and set(hub.hub.stored_times.values()) == {1}


def test_what_was_told_is_not_told_again_by_the_next_process(box, tmp_path):
    box.event("service_open", "open", 20.0)
    with served(tmp_path) as hub:
        path = box.site_file(hub.url, hub.fingerprint)
        with Running(box, path) as running:
            until(lambda: hub.hub.objects and running.uplink.outbox.depth()["depth"] == 0, "all is told")
        box.event("service_open", "closed", 30.0, due="open")
        with Running(box, path) as running:
            until(
                lambda: len(hub.hub.objects) == 2 and running.uplink.outbox.depth()["depth"] == 0,
                "the second one is told",
            )
        assert (len(hub.hub.event_order), hub.hub.enrolments) == (2, 1)


def test_lost_answers_cost_time_and_nothing_else(box, tmp_path):
    """Enrolment, creation and pieces are each done by the hub, and then it fails to say so."""
    box.event("intrusion", "present", 12.0)
    hub = SmallHub()
    hub.lose_answers = 6
    with served(tmp_path, hub) as listening:
        path = box.site_file(listening.url, listening.fingerprint)
        with Running(box, path) as running:
            until(
                lambda: hub.lose_answers == 0 and running.uplink.outbox.depth()["depth"] == 0 and hub.objects,
                "all is told",
                120,
            )
    assert set(hub.stored_times.values()) == {1}
    (size_bytes,) = [len(data) for data in hub.objects.values()]
    assert hub.received_bytes == size_bytes


def test_a_clip_whose_confirmation_is_lost_waits_and_leaves_as_soon_as_it_is_said_again(box, tmp_path):
    """The last thing a bad link loses. The box keeps the clip, through a restart as well, asks again, and sends no byte of it twice."""
    box.event("intrusion", "present", 12.0)
    hub = SmallHub()
    hub.loses_confirmations = True
    with served(tmp_path, hub) as listening:
        path = box.site_file(listening.url, listening.fingerprint)
        for process in range(2):
            lost = hub.lost_confirmations
            with Running(box, path) as running:
                until(lambda lost=lost: hub.lost_confirmations >= lost + 3, f"process {process} asks again and again")
                (waiting,) = running.uplink.outbox.to_send()
                assert waiting.made and (running.uplink.outbox.clips_path / waiting.made.file).exists()
                assert running.uplink.outbox.depth()["given_up"] == {}
        hub.loses_confirmations = False
        with Running(box, path) as running:
            until(lambda: running.uplink.outbox.depth()["depth"] == 0, "the box lets go of it")
            assert running.uplink.counts.resent_bytes == running.uplink.counts.sent_bytes == 0
        assert list((box.data_dir / "outbox" / "clips").iterdir()) == []
    (size_bytes,) = [len(data) for data in hub.objects.values()]
    assert (hub.received_bytes, set(hub.stored_times.values())) == (size_bytes, {1})


def test_an_event_whose_acknowledgement_is_lost_is_told_again_over_the_next_connection(box, tmp_path):
    box.event("service_open", "open", 20.0)
    hub = SmallHub()
    hub.acknowledges = False
    with (
        served(tmp_path, hub) as listening,
        Running(box, box.site_file(listening.url, listening.fingerprint)) as running,
    ):
        until(lambda: hub.events, "the event is at the hub")
        assert running.uplink.outbox.events(10), "and the box does not know it"
        hub.acknowledges = True
        hub.hang_up()
        until(lambda: not running.uplink.outbox.events(10), "it is told again, and acknowledged")
        assert len(hub.event_order) == 1


def test_in_quiet_hours_ordinary_clips_wait_and_alarms_do_not(box, tmp_path):
    box.event("service_open", "open", 20.0)
    box.event("intrusion", "present", 12.0)
    with served(tmp_path) as hub:
        path = box.site_file(hub.url, hub.fingerprint, ', quiet_hours: "00:00-12:00, 12:00-00:00"')
        with Running(box, path) as running:
            until(lambda: len(hub.hub.events) == 2 and hub.hub.objects, "both events, and the clip of the alarm")
            until(lambda: running.uplink.outbox.depth()["depth"] == 1, "the other clip waits")
            assert running.uplink.status()["quiet"]
        assert [upload.about["value"] for upload in hub.hub.uploads.values()] == ["alarm"]


def test_a_full_disk_makes_clips_wait_in_the_ring(box, tmp_path, monkeypatch):
    monkeypatch.setattr("nvr.uplink.cutting.RESERVE_BYTES", 2**60)
    box.event("intrusion", "present", 12.0)
    with served(tmp_path) as hub, Running(box, box.site_file(hub.url, hub.fingerprint)):
        until(lambda: hub.hub.events, "the event is told all the same")
        until(lambda: holds.load(box.data_dir / "holds.json"), "its footage is held")
        assert not hub.hub.objects
        monkeypatch.setattr("nvr.uplink.cutting.RESERVE_BYTES", 0)
        until(lambda: hub.hub.objects, "there is room again")


def test_footage_that_is_gone_is_given_up_by_name(box, tmp_path):
    box.event("intrusion", "present", 12.0, boot=b"z" * 16)  # a boot of which neither ring nor journal knows anything
    with served(tmp_path) as hub, Running(box, box.site_file(hub.url, hub.fingerprint)) as running:
        until(lambda: running.uplink.outbox.depth()["given_up"].get("clips given up"), "it is given up")
        assert "nothing is recorded" in running.uplink.outbox.depth()["given_up_why"]
        until(lambda: hub.hub.events, "the event is told")


def test_a_clip_that_was_promised_and_cannot_be_cut_is_taken_back_and_that_answer_cannot_be_lost(
    box, tmp_path, monkeypatch
):
    """The city simulator: somebody asked for a span in which the card was read-only, in the middle of a segment. The box said "it will
    come", found nothing to cut, and the hub kept the first answer: whoever asked waited for ever."""
    monkeypatch.setattr("nvr.uplink.commands.may_have", lambda *_: True)  # of a segment only both ends are known
    with served(tmp_path) as listening:
        hub, path = listening.hub, box.site_file(listening.url, listening.fingerprint)
        with Running(box, path) as running:
            until(lambda: running.uplink.control.is_connected, "it is connected")
            from_ms = box.written[-1].record.wall_ns // 1_000_000 + 20_000
            id = hub.ask("fetch", camera="gate", from_ms=from_ms, to_ms=from_ms + 4000)
            until(lambda: (hub.reply_to(id) or {}).get("ok") is False, "it is taken back", 120)
            answers = [reply for reply in hub.replies if reply["id"] == id]
            assert [reply["ok"] for reply in answers] == [True, False]
            assert "nothing is recorded" in answers[1]["detail"]
        hub.replies.clear()
        with Running(box, path):
            until(lambda: hub.reply_to(id), "it is told again, in case the answer was lost", 120)
            assert hub.reply_to(id)["ok"] is False


def test_the_heartbeat_names_a_disk_that_is_too_slow_and_takes_it_back(box, tmp_path):
    with served(tmp_path) as hub, Running(box, box.site_file(hub.url, hub.fingerprint)) as running:
        until(lambda: hub.hub.heartbeats, "a heartbeat")
        heard = running.uplink.heard

        def beats(text: str, trouble: str) -> bool:
            heard.record, heard.record_s = {"disk_slow": text}, time.monotonic()
            assert running._loop is not None
            running._loop.call_soon_threadsafe(running.uplink._beat_now.set)
            return hub.hub.heartbeats[-1][1]["disk"]["trouble"] == trouble

        text = "making footage durable takes 25 s"
        until(lambda: beats(text, f"disk slow: {text}"), "it is named")
        until(lambda: beats("", ""), "it is taken back")


def test_a_store_of_events_that_began_anew_is_read_from_its_beginning(box, tmp_path):
    for second in (10.0, 14.0, 18.0):
        box.event("service_open", "open", second)
    with served(tmp_path) as hub:
        path = box.site_file(hub.url, hub.fingerprint)
        with Running(box, path) as running:
            until(lambda: len(hub.hub.events) == 3 and running.uplink.outbox.depth()["depth"] == 0, "all are told")
        box.log.close()
        for file in (box.data_dir / "events").iterdir():
            file.unlink()
        box.log = EventLog(box.data_dir / "events", "life-2")
        box.event("service_open", "closed", 22.0)
        with Running(box, path):
            until(lambda: len(hub.hub.events) == 4, "number 1 of another life is another event")


def test_a_clock_that_jumps_by_years_stops_nothing(box, tmp_path):
    class Jumping(SystemClock):
        years = 0

        def read(self) -> ClockReading:
            reading = super().read()
            return ClockReading(
                reading.mono_ns, reading.wall_ns + self.years * 31_536_000 * NS, reading.state, reading.error_ns
            )

    clock = Jumping()
    with served(tmp_path) as hub, Running(box, box.site_file(hub.url, hub.fingerprint), clock=clock) as running:
        for number, years in enumerate((0, 20, -30), start=1):
            clock.years = years
            box.event("intrusion", "present", 8.0 + number)
            until(lambda number=number: len(hub.hub.objects) == number, f"clip {number}")
        until(lambda: running.uplink.outbox.depth()["depth"] == 0, "nothing waits")
        assert running.uplink.control.connections == 1
    times = sorted(upload.about["from_ms"] for upload in hub.hub.uploads.values())
    assert all(abs(int(ms) - box.written[0].record.wall_ns // 1_000_000) < 60_000 for ms in times)


def test_the_word_that_a_slot_is_judged_by_never_gets_old_while_the_uplink_talks():
    """The outbox took nine seconds of a card that was just starting: nothing was said for seven minutes, and a good update was near its return."""
    assert status_pause_s(0.02) == STATUS_S
    assert STATUS_S < status_pause_s(0.2) < UPLINK_OLD_S / 2
    for took_s in (9.0, 60.0, 3600.0):
        assert status_pause_s(took_s) < UPLINK_OLD_S / 2
