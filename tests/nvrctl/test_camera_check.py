"""What is unfit about a stream, and how to set it: first as facts, then on streams of the pretend camera."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace

import films
import pytest
from click.testing import CliRunner
from pretend import PretendCamera

from tools.nvrctl import fitness
from tools.nvrctl.fitness import Measured, clock_text, findings, is_b_slice
from tools.nvrctl.program import nvrctl

GOOD = Measured(
    seconds=10.0,
    pictures=250,
    keyframes=5,
    payload_bytes=2_500_000,
    sizes=((1920, 1080),),
    fps=25.0,
    gops=(2.0, 2.0, 2.0, 2.0),
    clock_ahead_s=0.3,
    transport="tcp",
)


def unfit(**changes) -> dict[str, fitness.Finding]:
    return {each.kind: each for each in findings(replace(GOOD, **changes)) if each.is_unfit}


def test_a_good_stream_is_fit():
    assert findings(GOOD) == []


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"b_pictures": 100}, "b-frames", "Baseline"),
        ({"codecs_refused": "H265", "pictures": 0}, "codec", "H.264 instead"),
        ({"gops": (10.0,), "keyframes": 2}, "gop", "50 pictures"),
        ({"gops": (), "keyframes": 1}, "gop", "50 pictures"),
        ({"sizes": ((1920, 1080), (1280, 720))}, "size", "adaptive"),
        ({"clock_ahead_s": -3600 * 9.0}, "clock", "camera setup"),
        ({"lost_packets": 40}, "losses", "TCP"),
        ({"pictures": 0, "trouble": "no connection"}, "no stream", "camera find"),
        ({"interruptions": ("the connection broke",)}, "interrupted", "cable"),
    ],
)
def test_what_is_unfit_is_named_with_how_to_set_it(changes, kind, words):
    found = unfit(**changes)
    assert set(found) == {kind} and words in found[kind].how


@pytest.mark.parametrize(
    "changes",
    [
        {"clock_ahead_s": None},
        {"gops": (2.0, 2.0, 3.9)},
        {"fps": 60.0},
        {"fps": 2.0},
        {"payload_bytes": 20_000_000},
        {"lost_packets": 1},
    ],
)
def test_what_is_only_worth_knowing_does_not_make_it_unfit(changes):
    assert unfit(**changes) == {} and findings(replace(GOOD, **changes))


@pytest.mark.parametrize(
    ("ahead_s", "text"),
    [(3.2, "3.2 s ahead"), (-200, "3 min behind"), (9 * 3600, "9.0 h ahead (a time zone taken for UTC?)"), (-5.5 * 3600 + 3, "5.5 h behind (a time zone taken for UTC?)"),
     (9 * 3600 + 300, "9.1 h ahead"), (-11 * 365 * 86_400, "4015 days behind")],
)  # fmt: skip
def test_a_clock_error_reads_like_one(ahead_s, text):
    assert clock_text(ahead_s) == text


@pytest.mark.parametrize(("slice_type", "is_b"), [(0, False), (1, True), (2, False), (5, False), (6, True), (7, False)])
@pytest.mark.parametrize("first_mb", [0, 1, 100, 8159])
def test_a_b_slice_is_known_by_its_header(slice_type, is_b, first_mb):
    def ue(value: int) -> str:
        bits = f"{value + 1:b}"
        return "0" * (len(bits) - 1) + bits

    bits = (ue(first_mb) + ue(slice_type) + "1").ljust(64, "0")
    nal = b"\x01" + int(bits[:64], 2).to_bytes(8, "big")
    assert is_b_slice(nal) is is_b
    assert not is_b_slice(b"\x65" + nal[1:])


@pytest.mark.parametrize("nal", [b"", b"\x01", b"\x01\x00", b"\x01" + bytes(8), b"\x01" + b"\xff" * 3])
def test_a_cut_off_slice_is_no_b_slice(nal):
    assert not is_b_slice(nal)


# -- real streams


def check(url: str, *arguments: str, status: int):
    result = CliRunner().invoke(nvrctl, ["camera", "check", url, "--json", *arguments])
    assert result.exit_code == status, result.output
    return json.loads(result.stdout)


def test_a_good_camera_is_measured_through_the_recorders_own_client():
    with PretendCamera(films.footage("drawn/gate.mp4"), user="viewer", password="a@b") as camera:
        found = check(camera.url.replace("rtsp://", "rtsp://viewer:a%40b@"), "--seconds", "4", status=0)
    assert found["sizes"] == [[320, 192]] and found["fps"] == pytest.approx(25, abs=0.5)
    assert found["gops"] and all(gop == pytest.approx(1.0, abs=0.05) for gop in found["gops"])
    assert found["b_pictures"] == 0 and abs(found["clock_ahead_s"]) < 2
    assert "a@b" not in json.dumps(found)


def test_b_frames_and_a_wrong_clock_are_found():
    with PretendCamera(films.footage("drawn/b-pictures.mp4")) as camera:
        camera.switch(clock_s=-7200)
        found = check(camera.url, "--seconds", "5", status=1)
    kinds = {each["kind"] for each in found["findings"] if each["is_unfit"]}
    assert kinds == {"b-frames", "clock"}
    assert found["b_pictures"] > 30


def test_a_wrong_password_is_tried_and_told_without_itself():
    with PretendCamera(films.footage("drawn/gate.mp4"), user="viewer", password="right") as camera:
        found = check(camera.url.replace("rtsp://", "rtsp://viewer:wrong77@"), "--seconds", "2", status=1)
    assert "viewer" in found["trouble"] and "wrong77" not in json.dumps(found)


def test_an_address_where_nobody_is_ends_soon_and_says_so(monkeypatch):
    from tools.nvrctl import measure

    monkeypatch.setattr(measure, "FIRST_PICTURE_S", 1.0)
    assert "no connection" in check("rtsp://127.0.0.1:9/main", status=1)["trouble"]


def test_a_password_in_the_address_is_warned_of_and_never_shown(monkeypatch):
    from tools.nvrctl import measure

    monkeypatch.setattr(measure, "FIRST_PICTURE_S", 1.0)
    result = CliRunner().invoke(nvrctl, ["camera", "check", "rtsp://viewer:geheim@127.0.0.1:9/main"])
    assert "everybody on this machine can read a password" in result.output and "geheim" not in result.output


@pytest.mark.parametrize("url", ["http://10.0.0.1/", "rtsp://", "nonsense", "rtsp://host:99999999/"])
def test_what_is_no_address_is_wrong_use(url):
    assert CliRunner().invoke(nvrctl, ["camera", "check", url]).exit_code == 2


H265_SDP = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H265/90000\r\na=control:track1\r\n"


def test_a_camera_that_sends_h265_is_told_apart():
    """A server of ten lines that offers H.265 and nothing else."""

    async def serve(ready: threading.Event, place: list[int], over: asyncio.Event) -> None:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while request := await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b"":
                cseq = next(line for line in request.split(b"\r\n") if line.lower().startswith(b"cseq"))
                body = H265_SDP.encode() if request.startswith(b"DESCRIBE") else b""
                head = (
                    b"RTSP/1.0 200 OK\r\n"
                    + cseq
                    + b"\r\nPublic: DESCRIBE, SETUP, PLAY\r\nContent-Type: application/sdp\r\nContent-Length: %d\r\n\r\n"
                    % len(body)
                )
                writer.write(head + body)
                if body:
                    return

        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        place.append(server.sockets[0].getsockname()[1])
        ready.set()
        await over.wait()

    ready, place, over, loop = threading.Event(), [], asyncio.Event(), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(ready, place, over),), daemon=True)
    thread.start()
    assert ready.wait(10)
    found = check(f"rtsp://127.0.0.1:{place[0]}/main", status=1)
    loop.call_soon_threadsafe(over.set)
    thread.join(10)
    assert found["findings"][0]["kind"] == "codec" and found["codecs_refused"] == "H265"
