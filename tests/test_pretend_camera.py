"""The pretend camera, judged by FFmpeg: if a client that is not ours plays it, it is a camera."""

from __future__ import annotations

import itertools
import shutil
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pretend import PretendCamera, film_of

from tools.camera import packets
from tools.camera.access import Access

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs FFmpeg: apt install ffmpeg")


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    pytest.importorskip("av")
    pytest.importorskip("numpy")
    from tools.scenes import demo_footage

    path = tmp_path_factory.mktemp("film") / "gate.mp4"
    demo_footage.write(demo_footage.SCENES[0], path, length_s=2)
    return film_of(path)


@needs_ffmpeg
@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("scheme", ["basic", "digest"])
def test_ffmpeg_plays_it_and_gets_every_byte(film, transport, scheme, tmp_path: Path):
    with PretendCamera(film.path, user="u", password="p", scheme=scheme, rewind=True, speed=2) as camera:
        out = tmp_path / "out.h264"
        url = camera.url.replace("//", "//u:p@")
        command = [
            "ffmpeg",
            "-v",
            "error",
            "-rtsp_transport",
            transport,
            "-i",
            url,
            "-frames:v",
            "40",
            "-c",
            "copy",
            str(out),
        ]
        subprocess.run(command, check=True, timeout=60, stdin=subprocess.DEVNULL)
    assert film_of(out).pictures[:40] == film.pictures[:40]


@needs_ffmpeg
def test_ffmpeg_sees_time_go_on_when_the_film_begins_again(film, tmp_path: Path):
    with PretendCamera(film.path, rewind=True, speed=4) as camera:
        command = ["ffprobe", "-v", "error", "-rtsp_transport", "tcp", "-show_entries", "packet=pts_time,flags", "-of", "csv=p=0",
                   "-read_intervals", "%+#110", camera.url]  # fmt: skip
        lines = subprocess.run(command, check=True, timeout=60, capture_output=True, text=True).stdout.split()
    times = [float(line.split(",")[0]) for line in lines if not line.startswith("N/A")]
    assert len(times) > 100 and all(0.03 < after - before < 0.05 for before, after in itertools.pairwise(times[1:]))


def test_a_client_that_does_not_read_loses_pictures_and_others_do_not(film):
    with PretendCamera(film.path, speed=400) as camera:
        host, port = camera.url.removeprefix("rtsp://").split("/")[0].split(":")
        with socket.create_connection((host, int(port))) as stuck:
            for number, (method, more) in enumerate(
                (("SETUP", "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"), ("PLAY", ""))
            ):
                stuck.sendall(f"{method} {camera.url} RTSP/1.0\r\nCSeq: {number}\r\n{more}\r\n".encode())
                assert stuck.recv(65536).startswith(b"RTSP/1.0 200")
            end = time.monotonic() + 60
            while not camera.state()["skipped"]:
                assert time.monotonic() < end, camera.state()
                time.sleep(0.05)
            assert camera.state()["watchers"][0]["unsent_bytes"] < 16 << 20


def test_wrong_use_is_explained(tmp_path: Path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no film")
    command = [sys.executable, "-m", "tools.camera", str(broken)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], timeout=60)
    assert done.returncode == 2 and done.stderr and "Traceback" not in done.stderr


@given(st.lists(st.binary(min_size=2, max_size=5000).map(lambda data: b"\x65" + data), min_size=1, max_size=4))
def test_packets_put_together_are_the_nal_units_again(nals):
    template = packets.template_of(nals)
    data = packets.filled(template, 65534, 2**32 + 5, 7)
    split = packets.split(data, template.offsets)
    assert [struct.unpack_from(">H", each, 2)[0] for each in split] == [(65534 + n) & 0xFFFF for n in range(len(split))]
    assert {struct.unpack_from(">II", each, 4) for each in split} == {(5, 7)}
    assert [each[1] >> 7 for each in split] == [0] * (len(split) - 1) + [1], "the marker is on the last packet alone"
    assert max(map(len, split)) <= packets.PAYLOAD_BYTES + packets.RTP_HEADER_BYTES
    found: list[bytes] = []
    for each in split:
        payload = bytes(each[12:])
        if payload[0] & 31 != packets.FU_A:
            found.append(payload)
        elif payload[1] & 0x80:
            found.append(bytes([payload[0] & 0xE0 | payload[1] & 0x1F]) + payload[2:])
        else:
            found[-1] += payload[2:]
    assert found == nals


def test_a_sender_report_holds_the_time_it_was_given():
    report = packets.sender_report(7, 1_700_000_000_500_000_000, 90_000, 3, 400)
    version, kind, words, ssrc, seconds, fraction, ticks, count, size = struct.unpack_from(">BBHIIIIII", report)
    assert (version, kind, words, ssrc, ticks, count, size) == (0x80, 200, 6, 7, 90_000, 3, 400)
    assert seconds - 2_208_988_800 == 1_700_000_000 and fraction == 2**31
    assert len(report) % 4 == 0 and report[29] == 202


def test_the_example_of_rfc_2617_is_let_in():
    access = Access("Mufasa", "Circle Of Life", algorithm="MD5")
    challenge = access.challenges()[0]
    assert challenge.startswith("Digest ") and 'qop="auth"' in challenge
    assert access.verdict("GET", "") == "wrong"
    assert access.verdict("GET", 'Digest username="Mufasa", nonce="old", uri="/", response="00"') == "stale"
    assert Access().verdict("GET", "") == "", "without a user everybody may watch"
