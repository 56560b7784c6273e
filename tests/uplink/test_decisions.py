"""What is decided without a clock, a disk or a hub: worth, the ladder, the size of pieces, live that does not hold up the channel."""

from __future__ import annotations

from collections import deque

import pytest
from clocks import ManualClock, record

from nvr import ledger, wire
from nvr.clock import NS_PER_S
from nvr.errors import NvrError
from nvr.events import Evidence, State, Stored
from nvr.ledger import Part, StreamLedger
from nvr.media import Cause, Position
from nvr.scene import Event
from nvr.site_settings import Hub
from nvr.uplink import health, heartbeat, ladder
from nvr.uplink.ladder import Ladder, step, strain_of
from nvr.uplink.relay import Relay, Watched
from nvr.uplink.upload import PIECE_LEAST_BYTES, PIECE_MOST_BYTES, Counts, piece_bytes
from nvr.uplink.worth import RANK_ALARM, RANK_CLIP, RANK_MOMENT, RANK_STATE, clip_rank, rank_of, value_name, value_of

HUB = Hub("https://hub.example.org")


def stored(kind: str, state: str, *, is_end: bool = False, stream: str = "gate/main", **words: str) -> Stored:
    event = Event(kind, "gate", "z", state, 10**9, 2 * 10**9, 5 * 10**18, words=tuple(words.items()), is_end=is_end)
    return Stored(7, "life", event, Evidence(stream, "ab" * 16, 1, 2), False)


@pytest.mark.parametrize(
    ("kind", "state", "more", "rank", "clip"),
    [
        ("intrusion", "present", {}, RANK_ALARM, RANK_ALARM),
        ("intrusion", "present", {"is_end": True}, RANK_STATE, None),
        ("tamper", "covered", {}, RANK_ALARM, RANK_ALARM),
        ("stopped_vehicle", "stopped", {}, RANK_ALARM, RANK_ALARM),
        ("congestion", "jam", {}, RANK_ALARM, RANK_ALARM),
        ("congestion", "dense", {}, RANK_STATE, RANK_CLIP),
        ("queue", "long queue", {}, RANK_ALARM, RANK_ALARM),
        ("queue", "visit", {}, RANK_MOMENT, None),
        ("service_open", "closed", {"due": "open"}, RANK_ALARM, RANK_ALARM),
        ("service_open", "closed", {"due": "closed"}, RANK_STATE, RANK_CLIP),
        ("service_open", "cannot tell", {"due": "open"}, RANK_STATE, RANK_CLIP),
        ("line_crossing", "crossed", {}, RANK_MOMENT, None),
        ("camera", "down", {"stream": ""}, RANK_STATE, None),
    ],
)
def test_what_an_event_is_worth(kind, state, more, rank, clip):
    each = stored(kind, state, **more)
    assert (rank_of(each), clip_rank(each, HUB)) == (rank, clip)
    assert value_of(each) == (wire.ALARM if rank == RANK_ALARM else wire.STATE)


def test_a_site_may_want_the_clips_of_alarms_only_or_none():
    alarm, state = stored("intrusion", "present"), stored("service_open", "open")
    assert [clip_rank(each, Hub("", clips="alarms")) for each in (alarm, state)] == [RANK_ALARM, None]
    assert [clip_rank(each, Hub("", clips="none")) for each in (alarm, state)] == [None, None]
    assert [value_name(rank) for rank in (0, 10, 15, 20, 25, 30)] == ["alarm", "state", "state", "clip", "clip", "bulk"]


def test_steps_are_given_up_one_by_one_while_recording_suffers_and_come_back_after_quiet_minutes():
    now, seen = Ladder(), []
    for second in range(80):
        now = step(now, "late", float(second))
        seen.append(now.level)
    assert seen[0] == 1 and seen[9] == 1 and seen[10] == 2 and seen[79] == 5
    assert now.shed == ["object detection", "stills", "live", "ordinary clips", "clips of alarms"]
    for second in range(80, 420):
        now = step(now, "", float(second))
    assert now.level == 0 and now.shed == []


@pytest.mark.parametrize(
    ("status", "suffers"),
    [({}, False), ({"late_ms": 100, "sync": {"last_burst_s": 0.2}}, False), ({"late_ms": 900}, True), ({"sync": {"last_burst_s": 5.0}}, True),
     ({"late_ms": "x", "sync": 7}, False)],
)  # fmt: skip
def test_recording_suffers_when_it_is_late_or_the_disk_does_not_follow(status, suffers):
    assert bool(strain_of(status)) is suffers
    assert ladder.STEPS[0] == "object detection"


@pytest.mark.parametrize(
    ("bytes_s", "between", "expected"),
    [
        (10.0, 1e9, PIECE_LEAST_BYTES),
        (1e9, 1e9, PIECE_MOST_BYTES),
        (25_000, 1e9, 98_304),
        (1e9, 5_000_000, 59_392),
        (1e9, 100, PIECE_LEAST_BYTES),
    ],
)
def test_a_piece_follows_the_link(bytes_s, between, expected):
    assert piece_bytes(bytes_s, between) == expected


def test_a_link_that_breaks_makes_pieces_smaller_and_one_that_holds_larger_again():
    counts = Counts()
    for number in range(12):
        counts.got_through(100_000)
        counts.broke(100.0 * number)
        counts.broke(100.0 * number + 2.0)  # another lane notices the same break
    assert counts.between_breaks_bytes() == pytest.approx(100_000, rel=0.1)
    counts.got_through(50_000_000)
    assert counts.between_breaks_bytes() == 50_000_000


class Now:
    s = 100.0

    def __call__(self) -> float:
        return self.s


def fragment(sequence: int, size_bytes: int = 100_000, is_keyframe: bool = True):  # type: ignore[no-untyped-def]
    from dataclasses import replace

    return Position("gate/main", 0, 1, 4096, size_bytes), replace(record(sequence=sequence), is_keyframe=is_keyframe)


def test_live_goes_on_at_a_keyframe_when_it_fell_behind():
    watched = Watched(1e9)
    for number in range(1, 6):
        watched.put(fragment(number))
    assert [each[1].sequence for each in watched.waiting] == [4, 5] and watched.skipped == 3
    watched.skip_to_keyframe()
    watched.put(fragment(6, is_keyframe=False))
    assert watched.waiting == deque() and watched.skipped == 6


def test_a_fragment_the_link_is_too_slow_for_is_left_out_so_that_heartbeats_are_not_late(tmp_path):
    now = Now()
    relay = Relay(tmp_path, None, now)  # type: ignore[arg-type]
    relay.watched["gate/main"] = Watched(1e9)
    relay.sent(100_000, 8.0)  # a fragment took eight seconds
    relay.take(fragment(1))
    assert relay.next() is None and relay.watched["gate/main"].skipped == 1
    relay.take(fragment(2, 20_000))
    assert relay.next() is not None, "a small one goes"
    now.s += 20
    relay.take(fragment(3))
    assert relay.next() is not None, "and after a while it is tried again"


def test_a_small_fragment_that_waited_behind_a_large_one_is_not_what_is_too_large(tmp_path):
    """A page fell to the small stream and saw one second of it, then nothing for fifteen: the first small fragment had
    stood four seconds behind the rest of a large one, and the link was taken for one of 3 kB/s."""
    now = Now()
    relay = Relay(tmp_path, None, now)  # type: ignore[arg-type]
    relay.watched["gate/main"] = Watched(1e9)
    for _ in range(3):
        relay.sent(125_000, 0.0)  # on the wide link: the kernel took them at once
    relay.sent(125_000, 3.1)
    relay.take(fragment(1, 125_000))
    assert relay.next() is None, "what went well before does not hide that it is narrow now"
    now.s += 4
    relay.sent(12_500, 4.0)
    relay.take(fragment(2, 12_500))
    assert relay.next() is not None
    relay.take(fragment(3, 125_000))
    assert relay.next() is None, "the large one is too large still"


def test_live_ends_when_nobody_asks_again(tmp_path):
    now = Now()
    relay = Relay(tmp_path, None, now)  # type: ignore[arg-type]
    (tmp_path / "rings" / "gate" / "main").mkdir(parents=True)
    assert relay.on("gate/main", 1e9, None) == "" and relay.on("attic/main", 5, None) == "there is no stream attic/main"
    assert relay.watched["gate/main"].until_s == now.s + 120
    now.s += 121
    relay.take(fragment(1))
    assert relay.watched == {}


def test_only_what_the_running_detect_process_said_is_true_now():
    state = State(stored("service_open", "open"), 1, "life")
    assert [each["state"] for each in heartbeat.states_body([state], "life", b"x" * 16)] == ["open"]
    assert heartbeat.states_body([state], "another", b"x" * 16) == []
    assert heartbeat.states_body([State(state.stored, 0, "life")], "life", b"x" * 16) == []


def test_a_recorder_that_says_nothing_is_not_recording(tmp_path):
    from nvr import site

    (tmp_path / "site.yaml").write_text(
        'site: a\nbox: b\ntime_zone: UTC\ncameras:\n  gate: {main: {source: rtsp, url: "rtsp://10.0.0.1/"}, ring_gb: 0.02}\n'
    )
    settings = site.load(tmp_path / "site.yaml")
    record_says = {"streams": {"gate/main": {"recording": True, "pictures_per_s": 25.0, "bits_per_s": 4_000_000}}}
    now = heartbeat.cameras_body(settings, record_says, 1.0, {}, {"gate": 7})["gate"]
    assert (now["recording"], now["fps"], now["kbit_s"], now["looked_at"]) == (True, 25.0, 4000, "no")
    assert now["same_since_ms"] == 7
    silent = heartbeat.cameras_body(settings, record_says, 11.0, {}, {}, now_ms=1_800_000_000_000)["gate"]
    assert (silent["recording"], silent["cause"]) == (False, "box off")
    assert silent["since_ms"] == 1_799_999_989_000, "a hub must not believe that it lasts as long as the machine is up"
    assert heartbeat.cameras_body(settings, record_says, 11.0, {}, {})["gate"]["since_ms"] == 0, "nobody knows the time"


def test_the_day_of_a_new_camera_begins_with_its_first_picture(tmp_path, monkeypatch):
    from nvr import site

    clock = ManualClock()
    now = clock.read()
    put_up_ns, seen_ns, from_ns = (now.wall_ns - seconds * NS_PER_S for seconds in (300, 100, 900))
    told = [
        StreamLedger(
            "new/main", from_ns, now.wall_ns, (
                Part(from_ns, put_up_ns, Cause.BOX_OFF, ledger.BEFORE_FIRST),
                Part(put_up_ns, seen_ns, None),
                Part(seen_ns, now.wall_ns, Cause.CAMERA),
            ),
        ),
        StreamLedger("newest/main", from_ns, now.wall_ns, (Part(from_ns, now.wall_ns, Cause.NOT_KNOWN),)),
    ]  # fmt: skip
    (tmp_path / "site.yaml").write_text(
        "site: a\nbox: b\ntime_zone: UTC\ncameras:\n"
        '  new: {main: {source: rtsp, url: "rtsp://10.0.0.1/"}, ring_gb: 0.02}\n'
        '  newest: {main: {source: rtsp, url: "rtsp://10.0.0.2/"}, ring_gb: 0.02}\n'
    )
    monkeypatch.setattr(ledger.reader, "streams", lambda data_dir: {each.stream: data_dir for each in told})
    monkeypatch.setattr(ledger, "ledger", lambda *_, **__: told)
    day = health.ledger_today(site.load(tmp_path / "site.yaml"), tmp_path, clock)
    assert day == {"new": {"recorded_s": 200.0, "missing_s": 100.0, "by_cause": {"camera": 100.0}}}


def test_the_gaps_of_a_span_are_told_to_the_millisecond_and_no_more_than_a_message_holds(tmp_path, monkeypatch):
    clock = ManualClock()
    to_ns = clock.read().wall_ns // NS_PER_S * NS_PER_S
    from_ns = to_ns - 100 * NS_PER_S
    ms = to_ns // 1_000_000
    parts = (
        Part(from_ns, to_ns - 90 * NS_PER_S, Cause.BOX_OFF, ledger.BEFORE_FIRST),
        Part(to_ns - 90 * NS_PER_S, to_ns - 60 * NS_PER_S, None),
        Part(to_ns - 60 * NS_PER_S, to_ns - 58_500_000_000, Cause.NETWORK),
        Part(to_ns - 58_500_000_000, to_ns - 40 * NS_PER_S, None),
        Part(to_ns - 40 * NS_PER_S, to_ns - 40 * NS_PER_S + 999, Cause.CAMERA),
        Part(to_ns - 40 * NS_PER_S + 999, to_ns - 20 * NS_PER_S, None),
        Part(to_ns - 20 * NS_PER_S, to_ns, Cause.DISK_SLOW),
    )
    monkeypatch.setattr(ledger.reader, "streams", lambda data_dir: {"gate/main": data_dir})
    monkeypatch.setattr(ledger, "ledger", lambda *_, **__: [StreamLedger("gate/main", from_ns, to_ns, parts)])
    told = health.gaps(tmp_path, "gate/main", from_ns, to_ns, clock)
    last = [ms - 20_000, ms, "disk slow"]
    assert told == {"from_ms": ms - 90_000, "to_ms": ms, "gaps": [[ms - 60_000, ms - 58_500, "network"], last]}
    monkeypatch.setattr(health, "GAPS_MOST", 1)
    told = health.gaps(tmp_path, "gate/main", from_ns, to_ns, clock)
    assert (told["to_ms"], len(told["gaps"])) == (ms - 20_000, 1), "what was not told is not called recorded"
    with pytest.raises(NvrError, match="nothing was ever recorded"):
        health.gaps(tmp_path, "attic/main", from_ns, to_ns, clock)
