"""USB and ribbon cameras: the suite with a stand-in at the very edge, and the feed between feeder and recorder.

Nobody has these cameras in a test. So PyAV opens a film or a drawn picture where it would open /dev/video0, and a
module called picamera2 that says it is a stand-in encodes real H.264; all else is what runs on a box.
"""

from __future__ import annotations

import errno
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pretend import film_of, nal_units
from source_suite import CLOCK, Drained, Rig, SourceSuite, bytes_of, children, drain_together

from nvr.media import AccessUnit, Cause, ParameterSets, RunEnded, RunStarted
from nvr.source import feed, usb
from nvr.source.feed import BadFeed, Fed, Reader, Writer
from nvr.source.picamera import PiCamera, PiCameraSmall
from nvr.source.usb import Usb

pytest.importorskip("av")
STAND_INS = Path(__file__).parent / "stand_ins"
DRAWN = "testsrc=size=320x240:rate=50,realtime"


def kill_feeder() -> None:
    (child,) = children()
    os.kill(int(child), signal.SIGKILL)


@pytest.fixture(scope="module")
def byte_stream(film, tmp_path_factory) -> Path:
    """The film as a camera's driver gives it, ten times over: start codes, parameter sets, no times."""
    path = tmp_path_factory.mktemp("usb") / "film.h264"
    started = b"".join(b"\0\0\0\1" + each for each in (*parameter_sets(film.path).sps, *parameter_sets(film.path).pps))
    pictures = b"".join(
        (started if nals[-1][0] & 31 == 5 else b"") + b"".join(b"\0\0\0\1" + nal for nal in nals)
        for nals in film.pictures
    )
    path.write_bytes(pictures * 10)
    return path


def parameter_sets(path: Path) -> ParameterSets:
    from nvr.mp4file import Mp4File

    return Mp4File(path.read_bytes()).parameter_sets


class TestUsbWithItsOwnH264(SourceSuite):
    @pytest.fixture
    def rig(self, film, byte_stream):
        return Rig(
            make=lambda: Usb(str(byte_stream), opens_as="h264"),
            size=(film.width, film.height),
            pictures=lambda: film.pictures,
            interrupt=kill_feeder,
            causes=(Cause.CAMERA,),
        )

    def test_after_an_interruption_the_run_ends_with_a_cause_and_another_begins(self, rig, drained):
        """The film is over in no time, so it interrupts itself: the stream ends, and the feeder is started again."""
        drained.until(lambda: len(drained.of(RunStarted)) == 2, "second run")
        ended = drained.of(RunEnded)[0]
        assert ended.cause is Cause.CAMERA and "ended its stream" in ended.detail and not ended.is_final

    def test_drain_never_waits(self, rig, drained):
        drained.until(lambda: bool(drained.of(RunEnded)), "end of the run")
        assert drained.longest_s < 2.5


class TestUsbEncodedHere(SourceSuite):
    @pytest.fixture
    def rig(self):
        return Rig(
            make=lambda: Usb(DRAWN, opens_as="lavfi", fps=50),
            size=(320, 240),
            pictures=lambda: [],
            interrupt=kill_feeder,
            causes=(Cause.CAMERA,),
        )

    def test_every_nal_unit_is_delivered_byte_for_byte(self, rig, drained):
        """What the encoder made is known to the feeder alone; so it is decoded, and must be what was drawn."""
        units = drained.until_pictures(60)[:60]
        shown = decoded(drained.of(RunStarted)[0], units)
        assert len(shown) == 60 and len({bytes(frame.planes[0]) for frame in shown}) == 60
        keyframes = [number for number, unit in enumerate(units) if unit.is_keyframe]
        assert keyframes == [0, 50], "one every second"


def test_a_usb_camera_is_opened_by_what_it_has(monkeypatch):
    """A format that a camera lacks is EINVAL. To PyAV that is a ValueError, and every camera without H.264 was given up as "Invalid argument"."""
    import av

    asked = []

    def opened(device, *, options, **_):
        asked.append(options.get("input_format"))
        if asked[-1] is not None:
            av.error.err_check(-errno.EINVAL, device)
        return "opened"

    monkeypatch.setattr(av, "open", opened)
    options = {"device": "/dev/video0", "width": 320, "height": 180, "fps": 5, "opens_as": "v4l2"}
    assert usb._opened(options) == "opened"
    assert asked == ["h264", "mjpeg", None]


def test_a_usb_camera_that_is_away_or_refuses_is_not_asked_for_every_format(monkeypatch):
    import av

    asked = []

    def opened(device, *, options, **_):
        asked.append(options.get("input_format"))
        av.error.err_check(-errno.ENOENT, device)

    monkeypatch.setattr(av, "open", opened)
    with pytest.raises(FileNotFoundError):
        usb._opened({"device": "/dev/video0", "width": 320, "height": 180, "fps": 5, "opens_as": "v4l2"})
    assert asked == ["h264"]


class MotionJpeg:
    """What FFmpeg's v4l2 gives of a camera, a packet for each of the driver's buffers; the torn ones begin and end as they should, the lost ones are empty."""

    def __init__(self, *, torn: set[int], lost: set[int], count: int) -> None:
        import av

        self._torn, self._lost, self._count = torn, lost, count
        self.codec_context = av.CodecContext.create("mjpeg", "r")

    def demux(self, stream):
        import av

        encoder = av.CodecContext.create("mjpeg", "w")
        encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 64, 48, "yuvj420p", Fraction(1, 25)
        frame = av.VideoFrame(64, 48, "yuvj420p")
        for number in range(self._count):
            frame.pts = number
            whole = b"".join(bytes(packet) for packet in encoder.encode(frame))
            torn = whole[:2] + b"\xff\xc0" + bytes(200) + whole[-2:]
            yield av.Packet(b"" if number in self._lost else torn if number in self._torn else whole)


def test_a_torn_picture_of_a_usb_camera_costs_itself_alone():
    """The first picture of many cameras is torn; the feeder gave up the camera for it."""
    camera = MotionJpeg(torn={0, 7, 8}, lost={3, 20}, count=30)
    assert len(list(usb._decoded(camera, camera))) == 25


def test_a_usb_camera_that_sends_nothing_but_torn_pictures_is_started_again():
    import av

    camera = MotionJpeg(torn=set(range(5, 5 + usb.DAMAGED_MOST)), lost=set(), count=70)
    with pytest.raises(av.FFmpegError):
        list(usb._decoded(camera, camera))


def decoded(started: RunStarted, units: list[AccessUnit]) -> list:
    import av

    decoder = av.CodecContext.create("h264", "r")
    frames = []
    sets = b"".join(b"\0\0\0\1" + each for each in (*started.parameter_sets.sps, *started.parameter_sets.pps))
    for unit in units:
        frames += decoder.decode(av.Packet(sets + b"".join(b"\0\0\0\1" + nal for nal in nal_units(bytes_of(unit)))))
        sets = b""
    return frames + decoder.decode(None)


class TestPiCamera(SourceSuite):
    @pytest.fixture
    def rig(self, monkeypatch, tmp_path):
        monkeypatch.setenv("PYTHONPATH", str(STAND_INS))
        monkeypatch.setenv("PICAMERA2_STAND_IN_WRITES", str(tmp_path / "encoded.h264"))

        def pictures():
            time.sleep(0.3)  # the stand-in writes what it encodes, and is a little ahead of us
            return film_of(tmp_path / "encoded.h264").pictures

        return Rig(
            make=lambda: PiCamera(0, 320, 240, 50.0, 1.0),
            size=(320, 240),
            pictures=pictures,
            interrupt=kill_feeder,
            causes=(Cause.CAMERA,),
        )


@pytest.fixture
def both(monkeypatch, tmp_path):
    """Main and small stream of one sensor, as `record` and `detect` have them."""
    monkeypatch.setenv("PYTHONPATH", str(STAND_INS))
    monkeypatch.setenv("PICAMERA2_STAND_IN_WRITES", str(tmp_path / "encoded.h264"))
    path = str(tmp_path / "small.sock")
    main = PiCamera(0, 640, 480, 50.0, 1.0, (320, 240), 0.3, small_socket=path)
    small = PiCameraSmall(0, small_socket=path)
    yield Drained(main), Drained(small), tmp_path / "encoded.h264"
    small.close()
    main.close()


class TestTheSmallStreamOfARibbonCamera:
    def test_both_come_from_one_sensor_each_whole(self, both):
        main, small, written = both
        drain_together(both[:2], lambda: len(main.units()) >= 100 and len(small.units()) >= 60, "pictures of both")
        starts = [each.of(RunStarted)[0] for each in (main, small)]
        assert [(each.width, each.height) for each in starts] == [(640, 480), (320, 240)]
        units = small.units()
        assert units[0].is_keyframe and units[0].decode_ticks == 0
        assert len(decoded(starts[1], units[:50])) == 50
        time.sleep(0.3)
        encoded = [list(nals) for nals in film_of(Path(f"{written}.lores")).pictures]
        first = encoded.index(nal_units(bytes_of(units[0])))
        assert [nal_units(bytes_of(unit)) for unit in units[:50]] == encoded[first : first + 50]
        assert "small" in starts[1].detail

    def test_before_the_recorder_has_the_camera_it_says_so(self, tmp_path):
        assert "does not offer its small stream yet" in reason_of(
            PiCameraSmall(0, small_socket=str(tmp_path / "none.sock"))
        )

    def test_a_feeder_that_dies_ends_both_and_both_come_again(self, both):
        main, small, _ = both
        drain_together(both[:2], lambda: bool(main.units() and small.units()), "pictures of both")
        kill_feeder()
        drain_together(
            both[:2], lambda: len(main.of(RunStarted)) == 2 and len(small.of(RunStarted)) == 2, "second runs"
        )
        assert small.of(RunEnded)[0].cause is Cause.CAMERA

    def test_a_reader_that_never_reads_costs_the_main_stream_nothing(self, both):
        """Its socket fills, its pictures are left out, and the recorder has every one of its own."""
        main, small, _ = both
        drain_together(both[:2], lambda: bool(main.units() and small.units()), "pictures of both")
        before = len(main.units())
        main.until(lambda: len(main.units()) >= before + 250, "250 pictures of main alone")
        ticks = [unit.decode_ticks for unit in main.units()[before:]]
        assert all(0 < after - earlier < 4 * 1800 for earlier, after in itertools.pairwise(ticks))
        assert len(main.of(RunStarted)) == 1

    def test_who_comes_later_takes_over_and_begins_with_a_keyframe(self, both):
        main, small, _ = both
        drain_together(both[:2], lambda: bool(main.units() and small.units()), "pictures of both")
        second = Drained(PiCameraSmall(0, small_socket=small.source._path))
        try:
            drain_together((main, second), lambda: len(second.units()) > 5, "pictures of the second reader")
            assert second.units()[0].is_keyframe
        finally:
            second.source.close()

    def test_a_place_where_no_socket_can_be_costs_only_the_small_stream(self, monkeypatch, tmp_path):
        monkeypatch.setenv("PYTHONPATH", str(STAND_INS))
        source = PiCamera(0, 320, 240, 50.0, 1.0, (160, 120), small_socket=str(tmp_path / "gone" / "small.sock"))
        try:
            Drained(source).until_pictures(20)
        finally:
            source.close()


def test_what_is_missing_is_said_in_one_line(monkeypatch):
    """No /dev/video0, no picamera2, no camera behind it: the same source reports each in the words a person needs."""
    assert reason_of(Usb("/dev/video-not-there")) == "/dev/video-not-there: No such file or directory"
    assert reason_of(PiCamera()) == "picamera2 is not installed, and picamera cameras need it"
    monkeypatch.setenv("PYTHONPATH", str(STAND_INS))
    assert "there is no camera 3: 1 found" in reason_of(PiCamera(3))


def reason_of(source: Fed) -> str:
    seen = Drained(source)
    try:
        seen.until(lambda: bool(seen.events), "reason")
        for _ in range(100):  # the feeder's end is no news after its own words
            seen.events += source.drain(CLOCK.mono_ns())
            time.sleep(0.005)
        (ended,) = seen.events
        assert isinstance(ended, RunEnded) and ended.cause is Cause.CAMERA
        return ended.detail
    finally:
        source.close()


def test_a_feeder_ends_when_its_recorder_is_killed(tmp_path):
    """Otherwise it would keep the camera, and the next recorder would find it busy."""
    code = f"""
import sys, time
from nvr.clock import SystemClock
from nvr.source.usb import Usb
source = Usb({DRAWN!r}, opens_as="lavfi")
while not source.facts()["pictures"]:
    source.drain(SystemClock().mono_ns())
    time.sleep(0.02)
print(source._process.pid, flush=True)
time.sleep(60)
"""
    recorder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert recorder.stdout is not None
    feeder = int(recorder.stdout.readline())
    recorder.kill()
    recorder.wait()
    recorder.stdout.close()
    end = time.monotonic() + 20
    while Path(f"/proc/{feeder}/stat").exists() and " Z " not in Path(f"/proc/{feeder}/stat").read_text():
        assert time.monotonic() < end, "the feeder is still there"
        time.sleep(0.05)


def test_a_recorder_that_does_not_read_costs_whole_pictures_up_to_a_keyframe():
    """The feeder must go on emptying the camera; what is left out is said, and a new run begins."""
    source = Usb("testsrc2=size=1280x720:rate=50,realtime", opens_as="lavfi", fps=50, rate_mbit=50)
    seen = Drained(source)
    try:
        seen.until_pictures(5)
        waited_from = time.monotonic()
        while time.monotonic() - waited_from < 5:
            time.sleep(0.1)  # the recorder is stuck
        seen.until(lambda: len(seen.of(RunStarted)) == 2, "second run")
        seen.until_pictures(len(seen.units()) + 1)
        (ended,) = seen.of(RunEnded)
        assert ended.cause is Cause.DISK_SLOW and "did not take" in ended.detail
        at = seen.events.index(seen.of(RunStarted)[1])
        assert seen.events[at + 1].is_keyframe and seen.events[at + 1].decode_ticks == 0
    finally:
        source.close()


def test_record_imports_none_of_the_heavy_packages():
    code = "import sys, nvr.source.usb, nvr.source.picamera, nvr.source.rtsp; print([m for m in ('av', 'numpy', 'picamera2', 'ssl', 'asyncio') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


# -- the feed itself -------------------------------------------------------------------------------------

SETS = ParameterSets((b"\x67\x42\xc0\x1e\xda",), (b"\x68\xce\x38\x80",))


@pytest.fixture
def ends():
    ours, theirs = feed.pair()
    yield ours, theirs
    ours.close()
    theirs.close()


@given(st.lists(st.binary(min_size=1, max_size=3000), min_size=1, max_size=5), st.integers(1, 4000))
def test_messages_arrive_whole_however_they_are_cut(payloads, cut):
    """A stream socket keeps no borders: the reader gets the same messages from pieces of any size."""
    writing, collected = socket.socketpair()
    with writing, collected:
        writer = Writer(writing)
        for number, payload in enumerate(payloads):
            writer.unit(
                [payload], decode_ticks=number, composition_ticks=7, mono_ns=number + 1, is_keyframe=number == 0
            )
        data = collected.recv(1 << 20)
    ours, theirs = feed.pair()
    with ours, theirs:
        reader, messages = Reader(ours), []
        for at in range(0, len(data), cut):
            theirs.sendall(data[at : at + cut])
            while (message := reader.read()) is not None:
                messages.append(message)
    assert [bytes(each.payload[4:]) for each in messages] == payloads
    assert [(each.decode_ticks, each.composition_ticks, each.mono_ns) for each in messages] == [
        (number, 7, number + 1) for number in range(len(payloads))
    ]


@given(st.binary(min_size=28, max_size=200))
def test_a_reader_returns_or_refuses_whatever_comes(data):
    ours, theirs = feed.pair()
    with ours, theirs:
        theirs.sendall(data)
        theirs.close()
        reader = Reader(ours)
        try:
            while (message := reader.read()) is not None:
                assert 0 < len(message.payload) <= feed.MOST_BYTES
        except BadFeed:
            return
        assert reader.has_ended


def test_a_start_and_a_stop_carry_what_was_said(ends):
    ours, theirs = ends
    Writer(theirs).start(SETS, 320, 240, "a camera")
    Writer(theirs).stop(Cause.CAMERA, "unplugged")
    source = Fed("usb", {})
    source._reader, source._socket = Reader(ours), ours
    source._heard_ns = CLOCK.mono_ns()
    started, ended = source.drain(CLOCK.mono_ns())
    assert started == RunStarted(SETS, 320, 240, "a camera")
    assert ended == RunEnded(Cause.CAMERA, "unplugged")
    source.close()


@pytest.mark.parametrize("ticks", [[1], [0, 0], [0, 5, 4], [-1]])
def test_ticks_that_do_not_rise_from_0_end_the_feeder(ends, ticks):
    ours, theirs = ends
    writer = Writer(theirs)
    writer.start(SETS, 320, 240, "a camera")
    for each in ticks:
        writer.unit([b"\x65abc"], decode_ticks=each, composition_ticks=0, mono_ns=1, is_keyframe=True)
    source = Fed("usb", {})
    source._reader, source._socket = Reader(ours), ours
    source._heard_ns = CLOCK.mono_ns()
    events = source.drain(CLOCK.mono_ns())
    assert isinstance(events[-1], RunEnded) and "nonsense" in events[-1].detail
    source.close()


def test_a_feeder_that_cannot_be_started_is_tried_again(monkeypatch):
    source = Usb(DRAWN, opens_as="lavfi")
    seen = Drained(source)
    fds = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patched:
        patched.setattr(
            feed.subprocess, "Popen", lambda *_, **__: (_ for _ in ()).throw(OSError(12, "Cannot allocate memory"))
        )
        seen.until(lambda: bool(seen.events), "reason")
    assert "cannot be started: Cannot allocate memory" in seen.events[0].detail
    assert len(os.listdir("/proc/self/fd")) == fds
    seen.until_pictures(1)
    source.close()
