import resource
from pathlib import Path

import pytest

from nvr.announce import LISTENERS_MAX, QUEUE_LENGTH, Announcer, Subscriber, fragment_of
from nvr.media import ClockState, FragmentRecord, Position

POSITION = Position("street/main", segment=3, lap=2, offset=4096, size_bytes=8192)
RECORD = FragmentRecord(
    box_id=b"B" * 16, boot_id=b"b" * 16, stream="street/main", run=7, lap=2, segment=3, sequence=99, mono_ns=10**12,
    wall_ns=1_780_000_000 * 10**9, clock_state=ClockState.SYNCED, clock_error_ns=10**6, run_ticks=90_000,
    duration_ticks=90_000, pictures=25, payload_bytes=6000, lost_packets=0, is_keyframe=True, camera_wall_ns=0,
    previous_hash=b"\0" * 32, hash=b"\x11" * 32,
)  # fmt: skip


@pytest.fixture
def announcer(tmp_path: Path):
    announcer = Announcer(tmp_path)
    yield announcer
    announcer.close()


def test_a_fragment_arrives_as_it_was_announced(announcer, tmp_path):
    subscriber = Subscriber(tmp_path)
    announcer.welcome()
    announcer.flush()
    announcer.fragment(POSITION, RECORD)
    announcer.welcome()
    announcer.flush()
    assert fragment_of(subscriber.receive(1)) == (POSITION, RECORD)


def test_a_new_subscriber_is_told_the_last_status_at_once(announcer, tmp_path):
    announcer.status({"streams": {"street/main": {"recording": True}}})
    subscriber = Subscriber(tmp_path)
    announcer.welcome()
    announcer.flush()
    assert subscriber.receive(1) == {"kind": "status", "streams": {"street/main": {"recording": True}}}


def test_a_subscriber_that_does_not_read_loses_its_oldest_messages_and_is_told_how_many(announcer, tmp_path):
    subscriber = Subscriber(tmp_path)
    announcer.welcome()
    announcer.flush()
    for sequence in range(5000):
        announcer.durable("street/main", sequence)
        announcer.welcome()
        announcer.flush()
    messages, told = [], 0
    while (message := subscriber.receive(0.05)) is not None:
        if message["kind"] == "dropped":
            told += message["messages"]
        else:
            messages.append(message["sequence"])
        announcer.welcome()
        announcer.flush()
    assert told > 0
    assert told + len(messages) == 5000
    assert messages == sorted(messages)
    assert messages[-QUEUE_LENGTH:] == list(range(5000 - QUEUE_LENGTH, 5000))


def test_a_subscriber_that_goes_away_is_forgotten(announcer, tmp_path):
    subscriber = Subscriber(tmp_path)
    other = Subscriber(tmp_path)
    announcer.welcome()
    announcer.flush()
    subscriber.close()
    for sequence in range(3):
        announcer.durable("a/main", sequence)
        announcer.welcome()
        announcer.flush()
    assert [other.receive(1)["sequence"] for _ in range(3)] == [0, 1, 2]


def test_the_socket_may_lie_deeper_than_a_socket_address_is_long(tmp_path):
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    announcer = Announcer(deep)
    subscriber = Subscriber(deep)
    announcer.status({})
    announcer.welcome()
    announcer.flush()
    assert subscriber.receive(1) == {"kind": "status"}
    announcer.close()
    with pytest.raises(ConnectionError):
        subscriber.receive(1)


def test_a_recorder_that_died_leaves_nothing_that_hinders_the_next(announcer, tmp_path):
    successor = Announcer(tmp_path)
    subscriber = Subscriber(tmp_path)
    successor.status({"boot": 2})
    successor.welcome()
    successor.flush()
    assert subscriber.receive(1)["boot"] == 2


def test_a_storm_of_subscribers_leaves_descriptors_for_cameras_and_a_place_for_those_who_read(announcer, tmp_path):
    """accept() took everybody; at the process's limit it raised EMFILE in the loop that records, and recording ended."""
    reader = Subscriber(tmp_path)
    announcer.welcome()
    deaf = []
    for number in range(3 * LISTENERS_MAX):
        deaf.append(Subscriber(tmp_path))
        for sequence in range(8):
            announcer.durable("street/main", 8 * number + sequence)
        announcer.welcome()
        announcer.flush()
        while reader.receive(0) is not None:
            pass
    assert len(announcer._listeners) == LISTENERS_MAX
    announcer.durable("street/main", 9999)
    announcer.flush()
    assert reader.receive(1)["sequence"] == 9999
    for subscriber in deaf:
        subscriber.close()


def test_without_a_free_descriptor_newcomers_wait_and_nothing_breaks(announcer, tmp_path):
    reader = Subscriber(tmp_path)
    announcer.welcome()
    late = Subscriber(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        announcer.welcome()
        announcer.durable("street/main", 1)
        announcer.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert reader.receive(1)["sequence"] == 1
    announcer.status({"boot": 3})
    announcer.welcome()
    announcer.flush()
    assert late.receive(1)["boot"] == 3
