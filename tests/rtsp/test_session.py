"""Whole conversations with a camera that answers from a script; time is a number."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvr.arena import Arena
from nvr.media import AccessUnit, Cause, RunEnded, RunStarted
from nvr.rtsp.digest import Credentials
from nvr.rtsp.messages import BadRtsp
from nvr.rtsp.session import Again, Session, SessionEnded, State
from rtsp.streams import (
    IDR,
    OTHER_SPS,
    PPS,
    PROTOCOL,
    SLICE,
    SPS,
    Camera,
    Sender,
    flat,
    interleaved,
    keyframe_stream,
    payload_of,
    session,
)
from rtsp.test_rtcp import WALL_NS, sender_report


def units(camera: Camera) -> list[AccessUnit]:
    return [event for event in camera.events if isinstance(event, AccessUnit)]


def ended(call) -> SessionEnded:
    with pytest.raises(SessionEnded) as error:
        call()
    return error.value


def stream(pictures: int = 20, **more) -> bytes:
    return b"".join(flat(keyframe_stream(pictures, sender=Sender(**more))))


# -- the way to PLAY ------------------------------------------------------------------------------------


def test_a_session_asks_in_order_and_plays():
    camera = Camera(session("rtsp://user:pass@10.0.0.2:8554/live")).play()
    assert [(method, url) for method, url, _ in camera.requests] == [
        ("OPTIONS", "rtsp://10.0.0.2:8554/live"),
        ("DESCRIBE", "rtsp://10.0.0.2:8554/live"),
        ("SETUP", "rtsp://10.0.0.2:8554/live/trackID=1"),
        ("PLAY", "rtsp://10.0.0.2:8554/live"),
    ]
    assert camera.requests[2][2]["transport"] == "RTP/AVP/TCP;unicast;interleaved=0-1"
    assert camera.requests[3][2]["session"] == "42"
    assert camera.session.state is State.PLAYING


@pytest.mark.parametrize("piece_bytes", [1, 3, 100, 32 * 1024])
def test_pictures_are_the_same_however_the_bytes_come(piece_bytes):
    camera = Camera(session())
    camera.piece_bytes = piece_bytes
    camera.play()
    camera.feed(stream())
    assert isinstance(camera.events[0], RunStarted)
    assert [unit.decode_ticks for unit in units(camera)] == [3600 * n for n in range(20)]


def test_the_recorded_wowza_stream_is_accepted_one_byte_at_a_time():
    path = PROTOCOL / "rtsp-retina" / "bunny_interleaved.rtsp"
    if not path.exists():
        pytest.skip("shared protocol data is not here")
    results = []
    for piece_bytes in (1, 1460, 32 * 1024):
        camera = Camera(session())
        camera.sdp = camera.sdp.replace("96", "97")
        camera.extra["SETUP"] = "Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=2-3\r\n"
        camera.play()
        camera.piece_bytes, camera.byte_ns = piece_bytes, 62_000  # 162 kB of 10 s
        camera.feed(path.read_bytes())
        facts = camera.session.facts()
        assert (facts["packets"], facts["other_packets"], facts["lost"], facts["garbage_bytes"]) == (269, 102, 0, 0)
        results.append([(payload_of(unit.payload), unit.decode_ticks, unit.is_keyframe) for unit in units(camera)])
    assert results[0] == results[1] == results[2]
    assert len(results[0]) == 245


def test_payload_stays_where_it_was_received():
    camera = Camera(session()).play()
    buffer = camera.session._arena.buffer
    camera.feed(stream())
    assert all(view.obj is buffer for unit in units(camera) for view in unit.payload.views())


def test_the_channels_are_those_that_the_camera_chose():
    camera = Camera(session())
    camera.extra["SETUP"] = "Session: 1\r\nTransport: RTP/AVP/TCP;interleaved=8-9\r\n"
    camera.play()
    camera.feed(stream(channel=8))
    assert len(units(camera)) == 20
    camera.wait(5)
    assert camera.session.outgoing()[:2] == b"$\x09"


def test_packets_may_come_before_the_answer_to_play():
    camera = Camera(session())
    camera.session.start(camera.now_ns)
    for _ in range(3):
        for method, _, headers in camera.read_requests():
            camera.feed(camera.answer(method, headers))
    [(method, _, headers)] = camera.read_requests()
    assert method == "PLAY"
    data = stream(12)
    camera.feed(data[:300])
    camera.feed(data[300:] + camera.answer("PLAY", headers))
    assert camera.session.state is State.PLAYING
    assert len(units(camera)) == 12


def test_a_camera_that_does_not_know_options_is_described_all_the_same():
    camera = Camera(session())
    camera.status["OPTIONS"] = "501 Not Implemented"
    camera.play()
    assert camera.session.state is State.PLAYING


def test_play_is_asked_again_without_a_range_where_there_is_none():
    camera = Camera(session())
    camera.status["PLAY"] = "457 Invalid Range"
    camera.session.start(camera.now_ns)
    for _ in range(4):
        for method, _, headers in camera.read_requests():
            camera.feed(camera.answer(method, headers))
    assert "range" not in camera.read_requests()[0][2]


@pytest.mark.parametrize(
    ("method", "status", "again"),
    [
        ("DESCRIBE", "404 Not Found", Again.NEVER_AS_IS),
        ("DESCRIBE", "403 Forbidden", Again.NEVER_AS_IS),
        ("DESCRIBE", "503 Service Unavailable", Again.LATER),
        ("SETUP", "461 Unsupported Transport", Again.OTHER_TRANSPORT),
        ("SETUP", "454 Session Not Found", Again.LATER),
        ("PLAY", "453 Not Enough Bandwidth", Again.LATER),
    ],
)
def test_a_refusal_says_what_was_refused_and_what_to_do(method, status, again):
    camera = Camera(session())
    camera.status[method] = status
    error = ended(camera.play)
    assert f"{method} with {status}" in str(error)
    assert (error.cause, error.again) == (Cause.CAMERA, again)
    assert camera.session.state is State.ENDED


def test_another_codec_is_refused_by_its_name():
    camera = Camera(session())
    camera.sdp = camera.sdp.replace("H264", "H265")
    error = ended(camera.play)
    assert "H265/90000, which this recorder does not record yet" in str(error)
    assert error.again is Again.NEVER_AS_IS
    assert "H.264" in error.hint


def test_a_camera_that_answers_with_udp_when_asked_for_tcp_is_asked_differently():
    camera = Camera(session())
    camera.extra["SETUP"] = "Session: 1\r\nTransport: RTP/AVP;unicast;client_port=1-2;server_port=3-4\r\n"
    assert ended(camera.play).again is Again.OTHER_TRANSPORT


def test_a_web_server_is_told_from_a_camera():
    camera = Camera(session())
    camera.session.start(camera.now_ns)
    error = ended(lambda: camera.feed(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    assert "HTTP" in str(error) and "554" in error.hint


def test_redirects_are_followed_but_not_out_of_tls():
    camera = Camera(session("rtsp://10.0.0.2/live"))
    camera.status["DESCRIBE"] = "302 Moved"
    camera.extra["DESCRIBE"] = "Location: rtsp://10.0.0.3:554/other\r\n"
    error = ended(camera.play)
    assert (error.again, error.url) == (Again.ELSEWHERE, "rtsp://10.0.0.3:554/other")
    camera = Camera(session("rtsps://10.0.0.2/live"))
    camera.status["DESCRIBE"] = "302 Moved"
    camera.extra["DESCRIBE"] = "Location: rtsp://10.0.0.3:554/other\r\n"
    assert ended(camera.play).again is Again.NEVER_AS_IS


def test_no_answer_is_noticed():
    camera = Camera(session(answer_s=10.0))
    camera.session.start(camera.now_ns)
    camera.wait(9.9)
    error = ended(lambda: camera.wait(0.2))
    assert "no answer to OPTIONS for 10 s" in str(error)


# -- logins ------------------------------------------------------------------------------------------------


class LockedCamera(Camera):
    """Wants a login for everything but OPTIONS."""

    challenge = 'Digest realm="cam", nonce="n{}", qop="auth"'
    password = "right"
    nonce = 1
    accepted = 0

    def answer(self, method: str, headers: dict[str, str]) -> bytes:
        login = self.session._talk._credentials
        right = login is not None and login.password == self.password
        if method != "OPTIONS" and not (right and f'nonce="n{self.nonce}"' in headers.get("authorization", "")):
            return (
                f"RTSP/1.0 401 Unauthorized\r\nCSeq: {headers['cseq']}\r\nWWW-Authenticate: {self.challenge.format(self.nonce)}\r\n\r\n"
            ).encode()
        self.accepted += 1
        return super().answer(method, headers)


def test_a_challenge_is_answered_and_remembered_for_the_next_connection():
    login = Credentials("admin", "right")
    camera = LockedCamera(session(credentials=login)).play()
    assert camera.session.state is State.PLAYING
    assert [method for method, _, _ in camera.requests].count("DESCRIBE") == 2
    again = LockedCamera(session(credentials=login)).play()
    assert [method for method, _, _ in again.requests].count("DESCRIBE") == 1


def test_a_nonce_of_yesterday_is_replaced():
    login = Credentials("admin", "right")
    LockedCamera(session(credentials=login)).play()
    camera = LockedCamera(session(credentials=login))
    camera.nonce = 2
    assert camera.play().session.state is State.PLAYING


def test_a_wrong_password_is_tried_once_and_named():
    camera = LockedCamera(session(credentials=Credentials("admin", "wrong")))
    error = ended(camera.play)
    assert "refused user and password" in str(error)
    assert error.again is Again.NEVER_AS_IS
    assert [method for method, _, _ in camera.requests].count("DESCRIBE") == 2
    assert "wrong" not in str(error) + error.hint


def test_a_missing_login_is_named():
    assert "wants a user and a password" in str(ended(LockedCamera(session()).play))


def test_a_camera_that_hangs_up_after_its_challenge_is_called_again_at_once():
    """Longse answers 401 and closes the connection."""
    camera = LockedCamera(session(credentials=Credentials("admin", "right")))
    camera.session.start(camera.now_ns)
    for _ in range(2):
        for method, _, headers in camera.read_requests():
            camera.feed(camera.answer(method, headers))
    assert ended(camera.session.closed_by_peer).again is Again.NOW


# -- while playing -------------------------------------------------------------------------------------------


def test_keep_alives_go_out_at_half_the_timeout_by_the_method_the_camera_knows():
    for public, method in [("OPTIONS, GET_PARAMETER", "GET_PARAMETER"), ("OPTIONS, DESCRIBE", "OPTIONS")]:
        camera = Camera(session())
        camera.extra["OPTIONS"] = f"Public: {public}\r\n"
        camera.extra["SETUP"] = camera.extra["SETUP"].replace("60", "20")
        camera.play()
        sent = []
        sender = Sender()
        for _ in range(40):
            camera.feed(b"".join(sender.picture(SPS, PPS, IDR, step=90_000)))
            camera.wait(1)
            for name, _, headers in camera.read_requests():
                sent.append((camera.now_ns // 10**9, name, headers["session"]))
                camera.feed(camera.answer(name, headers))
        assert [seconds for seconds, *_ in sent] == [11, 21, 31, 41]
        assert {name for _, name, _ in sent} == {method}
        assert {identifier for *_, identifier in sent} == {"42"}


def test_a_keep_alive_that_the_camera_announced_and_refuses_is_not_sent_again():
    camera = Camera(session()).play()
    camera.session._talk.keep_alive(camera.now_ns)
    [(method, _, headers)] = camera.read_requests()
    camera.feed(f"RTSP/1.0 451 Parameter Not Understood\r\nCSeq: {headers['cseq']}\r\n\r\n".encode())
    camera.session._talk.keep_alive(camera.now_ns)
    assert (method, camera.read_requests()[0][0]) == ("GET_PARAMETER", "OPTIONS")


def test_a_forgotten_session_ends():
    camera = Camera(session()).play()
    camera.session._talk.keep_alive(camera.now_ns)
    [(_, _, headers)] = camera.read_requests()
    error = ended(lambda: camera.feed(f"RTSP/1.0 454 Session Not Found\r\nCSeq: {headers['cseq']}\r\n\r\n".encode()))
    assert "forgotten our session" in str(error)


def test_receiver_reports_go_out_and_answer_the_cameras_report():
    camera = Camera(session()).play()
    camera.feed(stream())
    camera.feed(interleaved(sender_report(), 1))
    camera.wait(5)
    data = camera.session.outgoing()
    assert data[:2] == b"$\x01"
    kind, ssrc, last = data[5], struct.unpack_from(">I", data, 12)[0], struct.unpack_from(">I", data, 28)[0]
    assert (kind, ssrc) == (201, 7)
    assert last != 0


def test_the_cameras_clock_reaches_the_access_units():
    camera = Camera(session()).play()
    camera.feed(interleaved(sender_report(rtp_ts=9000), 1))
    camera.feed(stream())
    assert units(camera)[0].camera_wall_ns == WALL_NS


def test_requests_of_the_camera_are_answered_between_packets():
    camera = Camera(session()).play()
    data = stream()
    camera.feed(data[:500] if data[500:501] == b"$" else data[: data.index(b"$\0", 400)])
    for method in ("OPTIONS", "GET_PARAMETER", "SET_PARAMETER", "NONSENSE"):
        if method != "NONSENSE":
            camera.feed(f"{method} rtsp://10.0.0.9/ RTSP/1.0\r\nCSeq: 5\r\n\r\n".encode())
            assert camera.session.outgoing().startswith(b"RTSP/1.0 200 OK\r\nCSeq: 5\r\n")
    camera.feed(b"SETUP rtsp://10.0.0.9/ RTSP/1.0\r\nCSeq: 6\r\n\r\n")
    assert camera.session.outgoing().startswith(b"RTSP/1.0 405 ")


def test_a_camera_may_send_us_elsewhere_or_away():
    camera = Camera(session()).play()
    error = ended(lambda: camera.feed(b"REDIRECT rtsp://a/ RTSP/1.0\r\nCSeq: 1\r\nLocation: rtsp://b/\r\n\r\n"))
    assert (error.again, error.url) == (Again.ELSEWHERE, "rtsp://b/")
    camera = Camera(session()).play()
    assert "TEARDOWN" in str(ended(lambda: camera.feed(b"TEARDOWN rtsp://a/ RTSP/1.0\r\nCSeq: 1\r\n\r\n")))


def test_pictures_that_came_before_the_end_are_delivered_before_it():
    camera = Camera(session()).play()
    camera.feed(stream() + b"TEARDOWN rtsp://a/ RTSP/1.0\r\nCSeq: 1\r\n\r\n")
    assert len(units(camera)) == 20
    assert "TEARDOWN" in str(ended(lambda: camera.wait(0)))


def test_an_announcement_brings_parameter_sets_for_the_next_keyframe():
    camera = Camera(session()).play()
    sender = Sender()
    camera.feed(b"".join(flat(keyframe_stream(12, sender=sender))))
    import base64

    body = camera.sdp.replace("Z0LAHtkDxWhAAAADAEAAAAwDxYuS", base64.b64encode(OTHER_SPS).decode())
    camera.feed(f"ANNOUNCE rtsp://a/ RTSP/1.0\r\nCSeq: 1\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
    camera.feed(b"".join(sender.picture(IDR) + sender.picture(SLICE)))
    started = [event for event in camera.events if isinstance(event, RunStarted)]
    assert [run.width for run in started] == [240, 2560]
    body = camera.sdp.replace("H264", "H265")
    error = ended(
        lambda: camera.feed(
            f"ANNOUNCE rtsp://a/ RTSP/1.0\r\nCSeq: 2\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )
    )
    assert "H265" in str(error)


def test_garbage_is_skipped_counted_and_survived():
    camera = Camera(session()).play()
    parts = keyframe_stream(30)
    noise = random.Random(7)
    for number, packets in enumerate(parts):
        if number % 3 == 1:
            camera.feed(bytes(noise.randrange(256) for _ in range(noise.randrange(1, 200))))
        camera.feed(b"".join(packets))
    assert camera.session.facts()["garbage_bytes"] > 100
    # A `$` in the noise may swallow a packet or two; most pictures come through and none is invented.
    clean = Camera(session()).play()
    clean.feed(b"".join(flat(parts)))
    whole = {payload_of(unit.payload) for unit in units(clean)}
    assert len(units(camera)) >= 20
    assert all(payload_of(unit.payload) in whole for unit in units(camera))


@pytest.mark.parametrize("cut", range(1, 30, 3))
def test_a_message_behind_garbage_is_found_however_it_is_cut(cut):
    camera = Camera(session()).play()
    camera.piece_bytes = cut
    camera.feed(b"xyzRTSRTGET_" + b"GET_PARAMETER rtsp://a/ RTSP/1.0\r\nCSeq: 5\r\n\r\n" + b"noise" + stream())
    assert b"200 OK" in camera.session.outgoing()
    assert camera.session.facts()["garbage_bytes"] == 12 + 5
    assert len(units(camera)) == 20


def test_a_flood_of_messages_ends_the_session():
    camera = Camera(session()).play()
    assert "at once" in str(ended(lambda: camera.feed(b"OPTIONS x RTSP/1.0\r\n\r\n" * 500)))


def test_an_answer_after_goodbye_is_passed_over():
    camera = Camera(session()).play()
    camera.session._talk.keep_alive(camera.now_ns)
    camera.session.close()
    camera.feed(b"RTSP/1.0 200 OK\r\nCSeq: 99\r\n\r\n")
    assert camera.session.state is State.ENDED


def test_nothing_but_garbage_ends_the_session():
    camera = Camera(session()).play()
    error = ended(lambda: camera.feed(b"x" * (2 << 20)))
    assert "not RTSP" in str(error)


def test_silence_is_told_apart_from_a_camera_without_pictures():
    camera = Camera(session(stall_s=12.0)).play()
    camera.feed(stream())
    camera.wait(7)
    assert [method for method, *_ in camera.read_requests()] == ["GET_PARAMETER"]  # asks before it gives up
    error = ended(lambda: camera.wait(6))
    assert (str(error), error.cause) == ("nothing arrived for 12 s", Cause.NETWORK)

    camera = Camera(session(stall_s=12.0)).play()
    camera.feed(stream())
    camera.wait(7)
    camera.wait(1)
    camera.converse()
    error = ended(lambda: camera.wait(4.5))
    assert "but the camera answers" in str(error)
    assert error.cause is Cause.CAMERA


def test_a_stream_without_keyframes_is_named():
    camera = Camera(session()).play()
    sender = Sender()
    for _ in range(40):
        camera.feed(b"".join(sender.picture(SLICE)))
        camera.wait(1)
        camera.converse()
    [event] = camera.events
    assert isinstance(event, RunEnded)
    assert "no keyframe" in event.detail


def test_a_goodbye_counts_when_packets_stop():
    goodbye = interleaved(struct.pack(">BBHI", 0x81, 203, 1, 7), 1)
    camera = Camera(session()).play()
    sender = Sender()
    camera.feed(b"".join(flat(keyframe_stream(12, sender=sender))) + goodbye)
    camera.feed(b"".join(sender.picture(SLICE)))
    camera.wait(2)  # it went on: not meant
    camera.feed(goodbye)
    camera.wait(0.5)
    assert "BYE" in str(ended(lambda: camera.wait(1)))


def test_a_closed_connection_says_what_was_waited_for():
    camera = Camera(session())
    camera.session.start(camera.now_ns)
    assert "instead of answering OPTIONS" in str(ended(camera.session.closed_by_peer))
    camera = Camera(session()).play()
    assert ended(camera.session.closed_by_peer).cause is Cause.NETWORK


def test_goodbye_is_said_once_and_only_where_there_is_a_session():
    camera = Camera(session()).play()
    camera.session.outgoing()
    camera.session.close()
    assert [method for method, *_ in camera.read_requests()] == ["TEARDOWN"]
    camera.session.close()
    assert camera.session.outgoing() == b""
    fresh = session()
    fresh.start(0)
    fresh.outgoing()
    fresh.close()
    assert fresh.outgoing() == b""


# -- UDP --------------------------------------------------------------------------------------------------


def udp_camera(**more) -> Camera:
    camera = Camera(session(transport="udp", client_port=50_000, **more))
    camera.extra["SETUP"] = (
        "Session: 1\r\nTransport: RTP/AVP;unicast;client_port=50000-50001;server_port=6000-6001;source=10.0.0.9\r\n"
    )
    return camera.play()


def send_datagrams(camera: Camera, packets: list[bytes]) -> None:
    for packet in packets:
        room = camera.session.datagram_room()
        room[: len(packet) - 4] = packet[4:]
        camera.events += camera.session.datagram(len(packet) - 4, camera.now_ns)


def test_udp_is_asked_for_with_our_ports_and_learns_theirs():
    camera = udp_camera()
    assert camera.requests[2][2]["transport"] == "RTP/AVP;unicast;client_port=50000-50001"
    assert (camera.session.peer_ports, camera.session.peer_host) == ((6000, 6001), "10.0.0.9")


def test_datagrams_out_of_order_make_whole_pictures():
    camera = udp_camera()
    packets = flat(keyframe_stream(30))
    for at in range(1, len(packets) - 5, 5):
        packets[at], packets[at + 2] = packets[at + 2], packets[at]
    send_datagrams(camera, packets)
    assert len(units(camera)) == 30
    facts = camera.session.facts()
    assert (facts["lost"], facts["damaged_pictures"]) == (0, 0)
    assert facts["reordered"] > 0


def test_a_lost_datagram_is_given_up_after_a_moment():
    camera = udp_camera()
    pictures = keyframe_stream(30)
    send_datagrams(camera, flat(pictures[:20]))
    before = len(units(camera))
    send_datagrams(camera, pictures[20][1:] + pictures[21])
    assert len(units(camera)) == before
    camera.wait(0.3)
    send_datagrams(camera, pictures[22])
    assert units(camera)[-1].lost_packets + sum(unit.lost_packets for unit in units(camera)[before:-1]) == 1


def test_receiver_reports_go_out_as_datagrams():
    camera = udp_camera()
    send_datagrams(camera, flat(keyframe_stream(3)))
    camera.wait(5)
    [report] = camera.session.outgoing_control()
    assert report[1] == 201
    assert camera.session.control_datagram(sender_report(), camera.now_ns) == []


def test_udp_that_a_firewall_eats_is_tried_over_tcp():
    camera = udp_camera(stall_s=12.0)
    camera.wait(7)
    error = ended(lambda: camera.wait(6))
    assert error.again is Again.OTHER_TRANSPORT
    assert "firewall" in str(error)


# -- anything at all ------------------------------------------------------------------------------------------


def test_what_is_no_url_is_refused_at_once():
    with pytest.raises(BadRtsp):
        Session("http://10.0.0.2/", Arena())


_PIECES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n", b"RTSP/1.0 401 No\r\nCSeq: 2\r\nWWW-Authenticate: Digest nonce=1\r\n\r\n", b"$\0\0\x10", b"$\1\0\4\x80\xc8\0\0",
         b"RTSP/1.0 302 x\r\nLocation: rtsp://b\r\n\r\n", b"ANNOUNCE x RTSP/1.0\r\nContent-Length: 4\r\n\r\nm=vi", b"\r\n", b"OPTIONS", stream(3)]
    ),
)  # fmt: skip


@settings(max_examples=150)
@given(st.lists(_PIECES, max_size=15), st.booleans(), st.integers(1, 50))
def test_whatever_a_camera_sends_a_session_goes_on_or_ends(pieces, plays, piece_bytes):
    camera = Camera(session(credentials=Credentials("a", "b")))
    if plays:
        camera.play()
    else:
        camera.session.start(camera.now_ns)
    camera.piece_bytes = piece_bytes
    try:
        for piece in pieces:
            camera.feed(piece)
            camera.read_requests()
            camera.wait(0.1)
    except SessionEnded as error:
        assert str(error)
    camera.session.facts()


def test_memory_does_not_grow_with_what_was_received():
    """A stream whose pictures are let go leaves only the newest buffers behind."""
    camera = Camera(session()).play()
    sender = Sender()
    buffers = set()
    for _ in range(200):
        camera.feed(b"".join(sender.picture(SPS, PPS, IDR + bytes(8000), size=1380)))
        camera.events.clear()
        buffers.add(id(camera.session._arena.buffer))
    assert len(camera.session._carry) < 1500
    assert camera.session.facts()["pictures"] >= 199


def test_a_session_may_last_for_days():
    """Once, the count of messages that ends a flood was never set back, and so ended every session after 200 keep-alives."""
    camera = Camera(session()).play()
    sender = Sender()
    for _ in range(300):
        camera.feed(b"".join(sender.picture(SPS, PPS, IDR, step=10 * 90_000)))
        camera.wait(10)
        camera.converse()
    assert camera.session.state is State.PLAYING
    assert len([method for method, *_ in camera.requests if method == "GET_PARAMETER"]) > 200


def test_play_is_not_asked_without_end():
    camera = Camera(session())
    camera.status["PLAY"] = "457 Invalid Range"
    assert "PLAY with 457" in str(ended(camera.play))


@pytest.mark.parametrize("seed", range(8))
def test_datagrams_that_are_received_together_say_what_single_ones_say(seed):
    """Lost, doubled and swapped on the way; with holes where a stranger sent something."""
    noise = random.Random(seed)
    packets = flat(keyframe_stream(40, gop=10, sender=Sender(seq=65_500)))
    for _ in range(noise.randrange(1, 12)):
        at = noise.randrange(2, len(packets) - 1)
        match noise.randrange(3):
            case 0:
                del packets[at]
            case 1:
                packets.insert(at + noise.randrange(3), packets[at])
            case 2:
                packets[at], packets[at - 1] = packets[at - 1], packets[at]
    datagrams = [packet[4:] for packet in packets]
    seen = []
    for together in (False, True):
        camera = Camera(session(transport="udp", client_port=5000))
        camera.extra["SETUP"] = (
            "Session: 42\r\nTransport: RTP/AVP;unicast;client_port=5000-5001;server_port=6000-6001\r\n"
        )
        camera.play()
        at, now_ns = 0, camera.now_ns
        events: list[object] = []
        order = random.Random(seed)
        while at < len(datagrams):
            some = datagrams[at : at + order.randrange(1, 64)]
            at += len(some)
            now_ns += 100_000_000
            if together:
                buffer, start = camera.session.datagrams_room()
                for number, data in enumerate(some):
                    buffer[start + number * 2048 : start + number * 2048 + len(data)] = data
                events += camera.session.datagrams([*map(len, some), -1], now_ns)
            else:
                for data in some:
                    camera.session.datagram_room()[: len(data)] = data
                    events += camera.session.datagram(len(data), now_ns)
            events += camera.session.tick(now_ns)
        facts = camera.session.facts()
        facts.pop("jitter_ms")
        seen.append(([(payload_of(each.payload), *each[1:]) for each in events if isinstance(each, AccessUnit)], facts))
    assert seen[0] == seen[1] and len(seen[0][0]) > 20
