"""Session descriptions of real cameras, most of which broke somebody's client."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.parameter_sets import parse_sps
from nvr.rtsp import messages, sdp
from nvr.rtsp.messages import BadRtsp
from nvr.rtsp.sdp import CodecRefused, control_url
from rtsp.streams import PROTOCOL

MANIFEST = json.loads((PROTOCOL / "manifest.json").read_text()) if (PROTOCOL / "manifest.json").exists() else {}
NAMES = [
    name for name, entry in MANIFEST.items() if ("media" in entry and "onvif" not in name) or name.startswith("sdp-")
]
pytestmark = pytest.mark.skipif(not NAMES, reason="shared protocol data is not here")


def described(name: str) -> tuple[sdp.Description, str]:
    """(what it offers, the base of its controls), asked as rtsp://asked/path."""
    data = (PROTOCOL / name).read_bytes()
    if not data.startswith(b"RTSP/"):
        return sdp.parse(data), "rtsp://asked/path"
    answer = messages.parse(data, 0, len(data))[0]
    return sdp.parse(answer.body), sdp.base_url("rtsp://asked/path", answer.header("content-base"), "")


@pytest.mark.parametrize("name", NAMES)
def test_every_description_is_read_as_its_manifest_says(name):
    description, _ = described(name)
    expected = MANIFEST[name].get("media", [])
    assert [media.kind for media in description.media] == [entry["media"] for entry in expected]
    for media, entry in zip(description.media, expected, strict=True):
        assert media.control == (entry["control"] or "")
        assert list(media.formats) == [text.strip() for text in entry["fmt"] if text.strip()]
        assert [f"{number} {text}".strip() for number, text in media.rtpmap.items()] == [
            text.strip() for text in entry["rtpmap"]
        ]
        sets = sdp.sprop_parameter_sets(next(iter(media.fmtp.values()), ""))
        wanted = entry.get("sprop", [])
        assert (len(sets.sps), len(sets.pps)) == (
            sum(one["nal_type"] == 7 for one in wanted),
            sum(one["nal_type"] == 8 for one in wanted),
        )
        for found, one in zip(sets.sps, [one for one in wanted if one["nal_type"] == 7], strict=True):
            parsed = parse_sps(found)
            assert (parsed.width, parsed.height, parsed.profile, parsed.level) == (
                one["width"], one["height"], one["profile_idc"], one["level_idc"],
            )  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_h264_is_chosen_and_everything_else_refused_by_its_name(name):
    description, _ = described(name)
    names = [text for entry in MANIFEST[name].get("media", []) if entry["media"] == "video" for text in entry["rtpmap"]]
    if any("H264" in text for text in names):
        assert sdp.choose_video(description).media.kind == "video"
        return
    with pytest.raises(CodecRefused) as refused:
        sdp.choose_video(description)
    for text in names:
        assert text.split()[1] in str(refused.value)
    assert refused.value.hint


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("rtsp-retina/anjvision_describe.txt", "H265/90000, which this recorder does not record yet"),
        ("rtsp-retina/tplink_sdp.txt", "H265/90000"),
        ("sdp-gortsplib/gortsplib-116-ioi-trk-101.sdp", "MP4V-ES/1000"),
        ("sdp-gortsplib/gortsplib-501-avigilon-cameras.sdp", "payload type 96"),
        ("sdp-gortsplib/gortsplib-1068-bzbgear-bg-vptz-10hsu3.sdp", "only meta META /0"),
        ("sdp-gortsplib/mediamtx-127-amcrest-cameras.sdp", "no stream at all"),
    ],
)
def test_a_refusal_says_what_is_offered_instead(name, says):
    with pytest.raises(CodecRefused, match=says):
        sdp.choose_video(described(name)[0])


def control_of(name: str) -> str:
    description, base = described(name)
    return control_url(base, sdp.choose_video(description).media.control)


def test_dahua_wants_its_control_behind_the_query():
    assert control_of("rtsp-retina/dahua_describe_h264_aac_onvif.txt") == (
        "rtsp://192.168.5.111:554/cam/realmonitor?channel=1&subtype=1&unicast=true&proto=Onvif/trackID=0"
    )


def test_gw_security_wants_a_slash_between_query_and_control():
    assert control_of("rtsp-retina/gw_main_describe.txt") == (
        "rtsp://192.168.1.110:5050/H264?channel=1&subtype=0&unicast=true&proto=Onvif/video"
    )


def test_hikvision_gives_whole_urls_for_the_stream_and_for_the_session():
    description, base = described("rtsp-retina/hikvision_describe.txt")
    assert control_of("rtsp-retina/hikvision_describe.txt") == (
        "rtsp://192.168.5.106:554/Streaming/Channels/101/trackID=1?transportmode=unicast&profile=Profile_1"
    )
    assert control_url(base, description.control) == (
        "rtsp://192.168.5.106:554/Streaming/Channels/101/?transportmode=unicast&profile=Profile_1"
    )


def test_anjvision_leaves_the_scheme_out_of_its_base():
    _, base = described("rtsp-retina/anjvision_describe.txt")
    assert base == "rtsp://192.168.1.10:554/stream0/"


def test_reolink_may_put_its_control_before_or_behind_the_other_lines():
    assert control_of("rtsp-retina/reolink_describe.txt") == control_of(
        "rtsp-retina/reolink_describe_control_first.txt"
    )
    assert control_of("rtsp-retina/reolink_describe.txt") == "rtsp://192.168.5.206/h264Preview_01_main/trackID=1"


def test_a_stream_without_a_control_is_the_session_itself():
    """vlc 3.0.11 as a server (mediamtx issue 115)."""
    assert control_of("sdp-gortsplib/mediamtx-115-rr-bitrate.sdp") == "rtsp://asked/path"


def test_gw_security_leaves_a_start_code_behind_its_parameter_sets():
    sets = sdp.choose_video(described("rtsp-retina/gw_main_describe.txt")[0]).parameter_sets
    assert sets.pps == (bytes.fromhex("68ee3c80"),)


def test_dahua_leaves_a_zero_byte_behind_its_parameter_sets():
    sets = sdp.choose_video(described("rtsp-retina/dahua_describe_h264_aac_onvif.txt")[0]).parameter_sets
    assert sets.pps == (bytes.fromhex("68ee31b21b"),)


def test_a_camera_without_sprop_is_taken_with_empty_parameter_sets():
    sets = sdp.choose_video(described("sdp-gortsplib/gortsplib-448-no-v-0-at-start.sdp")[0]).parameter_sets
    assert sets.sps == () and sets.pps == ()


def test_macrovideo_writes_its_profile_in_base64_and_nobody_minds():
    assert sdp.choose_video(described("rtsp-retina/macrovideo_describe.txt")[0]).payload_type == 96


def test_the_interleaved_packetization_mode_is_refused_by_name():
    body = b"m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=2\r\n"
    with pytest.raises(CodecRefused, match="packetization-mode 2"):
        sdp.choose_video(sdp.parse(body))


def test_the_second_format_of_a_stream_may_be_the_one():
    body = b"m=video 0 RTP/AVP 98 97\na=rtpmap:98 H265/90000\na=rtpmap:97 h264/90000\n"
    assert sdp.choose_video(sdp.parse(body)).payload_type == 97


@pytest.mark.parametrize(
    ("base", "control", "expected"),
    [
        ("rtsp://h/a", "*", "rtsp://h/a"),
        ("rtsp://h/a", "", "rtsp://h/a"),
        ("rtsp://h/a", "t1", "rtsp://h/a/t1"),
        ("rtsp://h/a/", "t1", "rtsp://h/a/t1"),
        ("rtsp://h/a/", "/t1", "rtsp://h/a/t1"),
        ("rtsp://h/a?x=1", "t1", "rtsp://h/a?x=1/t1"),
        ("rtsp://h/a", "?t=1", "rtsp://h/a?t=1"),
        ("rtsp://h/a", "RTSP://u:p@other:1/t1", "rtsp://other:1/t1"),
    ],
)
def test_controls_are_put_behind_their_base(base, control, expected):
    assert control_url(base, control) == expected


@pytest.mark.parametrize("control", ["a b", "x\r\nEvil: yes", "a\tb", "rtsp://"])
def test_a_control_cannot_smuggle_anything_into_a_request(control):
    with pytest.raises(BadRtsp):
        control_url("rtsp://h/a", control)


_LINES = st.sampled_from(
    ["m=video 0 RTP/AVP 96", "m=video", "m=", "a=rtpmap:96 H264/90000", "a=rtpmap:96", "a=rtpmap:", "a=fmtp:96 sprop-parameter-sets=", "a=control:*",
     "a=fmtp:96 sprop-parameter-sets=Z0LAHtkDxWhAAAADAEAAAAwDxYuS,aMuMsg==,!!!!,=,Zw", "m=video 0 RTP/AVP 99999 x", "a", "=", "\x00", "v=0"]
)  # fmt: skip


@given(st.one_of(st.binary(max_size=300), st.lists(_LINES, max_size=20).map(lambda lines: "\r\n".join(lines).encode())))
def test_any_description_gives_a_video_or_bad_rtsp(body):
    try:
        video = sdp.choose_video(sdp.parse(body))
    except BadRtsp:
        return
    assert 0 <= video.payload_type <= 127
