"""Live through the hub: from a box to its viewers, while they watch."""

from __future__ import annotations

import json
import socket
import threading

import pytest
import uvicorn
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from nvr import wire
from nvr.hub import identity, live
from nvr.hub.app import create
from nvr.hub.live import Live, Viewer
from nvr.hub.settings import HubSettings
from nvr.hub.transit import Transit
from tests.hub.simulated import SimulatedBox

BOX = "ab" * 16
INIT, OTHER_INIT = b"init" * 10, b"other" * 10


class Said:
    def __init__(self) -> None:
        self.commands: list[tuple[str, str]] = []

    def __call__(self, box_id: str, message: wire.Message) -> bool:
        self.commands.append((message.body["do"], message.body["args"]["stream"]))
        return True


@pytest.fixture
def room():
    room = Live(lambda: 1_000)
    room.say = Said()
    return room


def fragment(payload=b"moof", *, keyframe=True, init=b"", run=1, stream="gate/main", **more) -> wire.Message:
    body = {"stream": stream, "run": run, "init_bytes": len(init), "run_ticks": 0, "duration_ticks": 90_000, "is_keyframe": keyframe,
            "captured_ms": 5, "age_ms": 100, "skipped": 0, **more}  # fmt: skip
    return wire.Message("live", body, init + payload)


def watching(room, *streams) -> Viewer:
    viewer = Viewer(BOX)
    room.viewers.add(viewer)
    room.watch(viewer, list(streams) or ["gate/main"])
    return viewer


def parts(data: bytes) -> tuple[dict, bytes]:
    length = int.from_bytes(data[:4], "big")
    return json.loads(data[4 : 4 + length]), data[4 + length :]


def test_the_first_viewer_turns_a_stream_on_and_the_last_one_off(room):
    first, second = watching(room), watching(room)
    assert room.say.commands == [("live_on", "gate/main")]
    room.watch(first, [])
    assert len(room.say.commands) == 1
    room.watch(second, [])
    assert room.say.commands[-1] == ("live_off", "gate/main")
    assert not room._streams


def test_a_viewer_gets_the_init_segment_once_and_again_when_it_changes(room):
    viewer = watching(room)
    room.take(BOX, fragment(b"one", init=INIT))
    room.take(BOX, fragment(b"two", keyframe=False))
    assert [parts(viewer.next_bytes(2_000))[1] for _ in range(2)] == [INIT + b"one", b"two"]
    viewer.got("gate/main"), viewer.got("gate/main")
    room.take(BOX, fragment(b"three", init=OTHER_INIT, run=2))
    header, payload = parts(viewer.next_bytes(2_000))
    assert (header["init_bytes"], payload) == (len(OTHER_INIT), OTHER_INIT + b"three")


def test_who_comes_later_begins_at_the_last_keyframe(room):
    watching(room)
    room.take(BOX, fragment(b"old", init=INIT))
    room.take(BOX, fragment(b"key"))
    room.take(BOX, fragment(b"next", keyframe=False))
    later = watching(room)
    assert [parts(later.next_bytes(2_000))[1] for _ in range(2)] == [INIT + b"key", b"next"]


def test_a_slow_viewer_loses_whole_fragments_up_to_a_keyframe_and_is_told(room):
    slow, quick = watching(room), watching(room)
    room.take(BOX, fragment(b"0", init=INIT))
    got = [parts(quick.next_bytes(2_000))[1]]
    quick.got("gate/main")
    for number in range(1, 40):
        room.take(BOX, fragment(str(number).encode(), keyframe=number % 10 == 0))
        got.append(parts(quick.next_bytes(2_000))[1])
        quick.got("gate/main")
    assert got == [INIT + b"0", *(str(number).encode() for number in range(1, 40))]
    assert len(slow.queues["gate/main"].waiting) <= live.QUEUE_MOST
    header, payload = parts(slow.next_bytes(2_000))
    assert header["is_keyframe"] and payload.startswith(INIT) and header["skipped"] > 0


def test_a_viewer_that_confirms_nothing_gets_no_more_than_its_window(room):
    viewer = watching(room)
    for number in range(6):
        room.take(BOX, fragment(str(number).encode(), init=INIT))
    sent = 0
    while viewer.next_bytes(2_000) is not None:
        sent += 1
    assert sent <= live.WINDOW


def test_what_nobody_watches_is_not_kept(room):
    room.take(BOX, fragment(init=INIT))
    assert not room._streams and room.left_out == 1


def test_nothing_goes_out_before_an_init_segment(room):
    viewer = watching(room)
    room.take(BOX, fragment(b"x"))
    assert viewer.next_bytes(2_000) is None


@pytest.mark.parametrize(
    "faulty", [{"stream": "gate"}, {"is_keyframe": 1}, {"run": "x"}, {"init_bytes": 10**9}, {"age_ms": -1}]
)
def test_a_fragment_that_is_none_is_refused(room, faulty):
    watching(room)
    with pytest.raises(wire.WireError):
        room.take(BOX, fragment(**faulty))


def test_a_box_that_came_back_is_asked_again(room):
    watching(room)
    room.box_came(BOX)
    assert room.say.commands == [("live_on", "gate/main")] * 2


@pytest.fixture
def open_hub(tmp_path):
    """A hub in this process whose viewers need no leave: who may watch is the people side's to say."""
    app = create(HubSettings(tmp_path / "hub"))

    async def everybody(websocket, box_id, stream) -> bool:
        return stream != "attic/main"

    app.state.hub.may_watch = everybody
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="websockets-sansio", ws_ping_interval=None))
        thread = threading.Thread(target=lambda: server.run(sockets=[listening]))
        thread.start()
        yield app.state.hub, f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def test_from_a_box_to_a_viewer_while_it_watches(open_hub):
    hub, url = open_hub
    box = SimulatedBox(url)
    with hub.store.writing() as connection:
        code = identity.add_code(connection, tenant_id=1, now_ms=hub.now_ms())
    assert box.enrol(code).status_code == 200
    box.join()
    place = f"{url.replace('http', 'ws')}/live/{box.id}?stream=entrance/main"
    with connect(place, open_timeout=60, legacy=True) as viewer:
        command = box.hear("command")
        assert (command["do"], command["args"]["stream"]) == ("live_on", "entrance/main")
        message = fragment(b"moof and mdat", init=INIT, stream="entrance/main")
        box.send("live", message.payload, **message.body)
        data = viewer.recv(timeout=60)
        while isinstance(data, str):
            data = viewer.recv(timeout=60)
        header, payload = parts(data)
        assert (header["stream"], header["wall_ms"], payload) == ("entrance/main", 5, INIT + b"moof and mdat")
    assert box.hear("command")["do"] == "live_off"
    with connect(place, open_timeout=60, legacy=True) as viewer:
        viewer.send(json.dumps({"watch": ["attic/main"]}))
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                viewer.recv(timeout=60)
        assert closed.value.rcvd.code == 4404
    box.close()


def test_without_leave_nobody_watches(hub, box):
    box.join()
    with pytest.raises(InvalidStatus):
        connect(f"{hub.url.replace('http', 'ws')}/live/{box.id}?stream=entrance/main", open_timeout=60, legacy=True)


def test_what_was_long_on_its_way_to_the_hub_is_as_much_older_and_says_when_it_left(room):
    viewer = watching(room)
    room.take(BOX, fragment(init=INIT), late_ms=2_800)
    header, _ = parts(viewer.next_bytes(7_000))
    assert 2_900 <= header["age_ms"] < 3_900
    assert header["sent_ms"] == 7_000


def test_a_message_is_late_by_what_it_took_longer_than_the_fastest():
    transit = Transit()
    box_ms = 5_000_000  # its clock began long before ours
    assert transit.late_ms(box_ms, 10.0) == 0
    assert transit.late_ms(box_ms + 1_000, 13.8) == 2_800
    assert transit.late_ms(box_ms + 4_000, 13.9) == 0  # faster than all before: now that one counts
    assert transit.late_ms(box_ms + 5_000, 15.0) == 100
    for seconds in range(10, 1_200, 10):  # its clock is 100 ppm slower; nobody takes that for a slow link
        sent_ms = round(box_ms + 4_000 + seconds * 1000 * 0.9999)
        assert transit.late_ms(sent_ms, 13.9 + seconds) <= 62
    assert transit.late_ms(0, 2_000.0) == 120_000  # one that lies
