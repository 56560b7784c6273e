"""RTSP messages: what real devices answered, and what must not get through."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.rtsp import messages
from nvr.rtsp.messages import BadRtsp, RtpInfo
from rtsp.streams import PROTOCOL

ANSWERS = sorted(path for path in (PROTOCOL / "rtsp-retina").glob("*.txt") if path.read_bytes()[:5] == b"RTSP/")
NEEDS_ANSWERS = pytest.mark.skipif(not ANSWERS, reason="shared protocol data is not here")


def read(name: str) -> messages.Message:
    data = (PROTOCOL / "rtsp-retina" / name).read_bytes()
    parsed = messages.parse(data, 0, len(data))
    assert parsed is not None and parsed[1] == len(data)
    return parsed[0]


def message(text: str) -> messages.Message:
    data = text.replace("\n", "\r\n").encode()
    parsed = messages.parse(data, 0, len(data))
    assert parsed is not None
    return parsed[0]


@NEEDS_ANSWERS
@pytest.mark.parametrize("path", ANSWERS, ids=lambda path: path.stem)
def test_every_recorded_answer_says_what_its_manifest_says(path):
    expected = json.loads((PROTOCOL / "manifest.json").read_text())[f"rtsp-retina/{path.name}"]
    answer = read(path.name)
    assert answer.status == expected["status"]
    assert messages.parse_session(answer)[0] == expected.get("session", "")
    if "transport" in expected:
        assert answer.header("Transport") == expected["transport"]
        assert messages.parse_transport(answer).is_tcp == ("interleaved" in expected["transport"])


@NEEDS_ANSWERS
@pytest.mark.parametrize("path", ANSWERS, ids=lambda path: path.stem)
def test_an_answer_that_comes_byte_by_byte_is_incomplete_until_its_last_byte(path):
    data = path.read_bytes()
    for end in range(len(data)):
        assert messages.parse(data, 0, end) is None
    assert messages.parse(b"xx" + data + b"rest", 2, len(data) + 6)[1] == len(data) + 2


@NEEDS_ANSWERS
def test_hikvision_pads_its_session_with_spaces():
    assert messages.parse_session(read("hikvision_setup.txt")) == ("708345999", 60)


@NEEDS_ANSWERS
def test_hikvision_writes_an_ssrc_with_a_space():
    assert messages.parse_transport(read("hikvision_setup_ssrc_space.txt")).ssrc == 0xD6D6627


@NEEDS_ANSWERS
def test_gw_security_raises_its_timeout_with_play():
    assert messages.parse_session(read("gw_main_setup_video.txt"))[1] == 60
    assert messages.parse_session(read("gw_main_play.txt"))[1] == 120


@NEEDS_ANSWERS
def test_dahua_does_not_say_its_timeout_twice():
    assert messages.parse_session(read("dahua_setup.txt"))[1] == 60
    assert messages.parse_session(read("dahua_play.txt"))[1] is None


@NEEDS_ANSWERS
def test_luckfox_puts_its_ssrc_first_in_both_transports():
    tcp = messages.parse_transport(read("luckfox_rkipc_setup_tcp.txt"))
    assert (tcp.is_tcp, tcp.channels, tcp.ssrc) == (True, (0, 1), 0x22345684)
    udp = messages.parse_transport(read("luckfox_rkipc_setup_udp.txt"))
    assert (udp.is_tcp, udp.server_ports, udp.client_ports) == (False, (49152, 49153), (54060, 54061))


@NEEDS_ANSWERS
def test_h264dvr_writes_cseq_its_own_way_and_answers_with_ports():
    answer = read("h264dvr_setup_video.txt")
    assert answer.cseq == 4
    assert messages.parse_transport(answer).server_ports == (40004, 40005)


@NEEDS_ANSWERS
def test_longse_puts_a_space_behind_its_cseq():
    assert read("longse_unauthorized.txt").cseq == 1


@NEEDS_ANSWERS
def test_wowza_with_a_bad_rtptime_says_minus_one():
    first, second = messages.parse_rtp_info(read("bad_rtptime.txt"))
    assert first == RtpInfo("trackID=1", 1, None)
    assert (second.seq, second.rtptime) == (1, None)


@NEEDS_ANSWERS
def test_hikvision_has_a_query_in_its_rtp_info_and_laureii_a_semicolon_behind_it():
    [info] = messages.parse_rtp_info(read("hikvision_play.txt"))
    assert info.url.endswith("?transportmode=unicast&profile=Profile_1")
    assert (info.seq, info.rtptime) == (24104, 1270711678)
    assert messages.parse_rtp_info(read("laureii_play.txt")) == (
        RtpInfo("rtsp://192.168.1.19:554/0/main/trackID=0", 0, 0),
    )


@NEEDS_ANSWERS
def test_dahua_and_reolink_list_all_tracks_in_one_rtp_info():
    assert [info.url for info in messages.parse_rtp_info(read("dahua_play.txt"))] == [
        "trackID=0",
        "trackID=1",
        "trackID=4",
    ]
    assert [info.seq for info in messages.parse_rtp_info(read("reolink_play.txt"))] == [16852, 39409]


@NEEDS_ANSWERS
def test_dahua_names_its_methods():
    assert "GET_PARAMETER" in messages.parse_public(read("dahua_options.txt"))


# -- made up -------------------------------------------------------------------------------------------


def test_bare_line_feeds_folded_lines_and_lines_without_colon_are_read():
    data = b"RTSP/1.0 200 OK\nCSeq: 3\nTransport: RTP/AVP/TCP;\n interleaved=2-3\nnonsense\n\n"
    answer, end = messages.parse(data, 0, len(data))
    assert end == len(data)
    assert answer.cseq == 3
    assert messages.parse_transport(answer).channels == (2, 3)


def test_a_status_line_without_a_reason_is_enough():
    assert message("RTSP/1.0 200\nCSeq: 1\n\n").status == 200


def test_a_request_of_the_server_is_told_from_an_answer():
    request = message("OPTIONS rtsp://10.0.0.1/ RTSP/1.0\nCSeq: 7\n\n")
    assert (request.status, request.method, request.url, request.cseq) == (0, "OPTIONS", "rtsp://10.0.0.1/", 7)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("HTTP/1.1 400 Bad Request\n\n", "in HTTP"),
        ("RTSP/1.0 abc\n\n", "status line"),
        ("RTSP/1.0 200 OK\nContent-Length: 99999999\n\n", "more than"),
        ("RTSP/1.0 200 OK\nContent-Length: -5\n\n", "Content-Length"),
        ("RTSP/1.0 200 OK\n" + "a: b\n" * 200 + "\n", "headers"),
        ("RTSP/1.0 200 OK\nx: " + "y" * 20_000, "head without an end"),
        ("OPTIONS\n\n", "neither"),
    ],
)
def test_nonsense_and_excess_are_refused_with_a_reason(text, says):
    with pytest.raises(BadRtsp, match=says):
        message(text)


@pytest.mark.parametrize(
    "text", ["", "http://x/", "rtsp://", "rtsp://host:99999/", "rtsp://ho st/", "rtsp://h/\r\nEvil: 1", "rtsp://[::1/"]
)
def test_what_is_no_rtsp_url_is_refused(text):
    with pytest.raises(BadRtsp):
        messages.without_login(text)


def test_a_url_is_sent_and_logged_without_its_login():
    assert messages.without_login("rtsp://me:se%40cret@cam:8554/a?b=c#d") == "rtsp://cam:8554/a?b=c"
    assert messages.without_login("rtsps://u:p@[fe80::1]:322/x") == "rtsps://[fe80::1]:322/x"


@given(st.binary(max_size=400), st.integers(0, 50))
def test_any_bytes_give_a_message_or_nothing_or_bad_rtsp(data, at):
    data = b"RTSP/1.0 200 OK\r\n"[: at % 20] + data
    try:
        parsed = messages.parse(data, 0, len(data))
    except BadRtsp:
        return
    if parsed is not None:
        answer, end = parsed
        assert 0 < end <= len(data)
        messages.parse_session(answer)
        messages.parse_transport(answer)
        messages.parse_rtp_info(answer)
        messages.parse_public(answer)


_WORDS = st.sampled_from(
    ["url=", "a", ";", ",", "seq=", "rtptime=", "7", "-1", " ", "interleaved=", "0-1", "ssrc=", "timeout=", '"', "/TCP"]
)


@given(st.lists(_WORDS, max_size=60).map("".join))
def test_any_header_value_is_read_or_passed_over(value):
    answer = messages.Message(200, "", "", "", (("rtp-info", value), ("transport", value), ("session", value)), b"")
    messages.parse_rtp_info(answer)
    messages.parse_transport(answer)
    messages.parse_session(answer)
