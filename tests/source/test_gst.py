"""The RTSP source against a server that is not ours: GStreamer's."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from pretend import nal_units
from source_suite import Drained, bytes_of, drain_together

from nvr.arena import Arena
from nvr.media import Cause, RunEnded, RunStarted
from nvr.source.rtsp import Rtsp

pytestmark = pytest.mark.gst
PASSWORD = "s3cret"


@pytest.fixture(scope="module", params=["none", "basic", "digest"])
def port(request, film, other_film):
    script = Path(__file__).parent / "gst_rtsp_server.py"
    command = ["/usr/bin/python3", str(script), str(film.path), str(other_film.path), request.param, "viewer", PASSWORD]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    yield int(server.stdout.readline())
    server.terminate()
    server.wait(10)
    server.stdout.close()


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_two_cameras_of_gstreamer_arrive_byte_for_byte(port, film, other_film, transport):
    arena = Arena()
    films = (film, other_film)
    both = [
        Drained(Rtsp(f"rtsp://127.0.0.1:{port}/{number}", "viewer", PASSWORD, transport, arena=arena))
        for number in (0, 1)
    ]
    try:
        drain_together(both, lambda: all(len(seen.units()) >= 40 for seen in both), "40 pictures of both")
        for seen, each in zip(both, films, strict=True):
            started = seen.of(RunStarted)[0]
            assert (started.width, started.height) == (each.width, each.height)
            units = seen.units()[:40]
            assert [nal_units(bytes_of(unit)) for unit in units] == [list(nals) for nals in each.pictures[:40]]
            assert [unit.decode_ticks for unit in units] == [number * 3600 for number in range(40)]
            assert sum(unit.lost_packets for unit in units) == 0
            assert seen.source.facts()["transport"] == transport
    finally:
        for seen in both:
            seen.source.close()


def test_gstreamer_refuses_a_wrong_password_and_it_is_named(port, request):
    if request.node.callspec.params["port"] == "none":
        pytest.skip("this server lets everybody in")
    seen = Drained(Rtsp(f"rtsp://127.0.0.1:{port}/0", "viewer", "wrong", "tcp", arena=Arena()))
    try:
        seen.until(lambda: bool(seen.of(RunEnded)), "refusal")
        assert seen.events[0].cause is Cause.CAMERA and "refuses user viewer" in seen.events[0].detail
    finally:
        seen.source.close()
