"""From access units through a real ring to a clip that is proved and played."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from clip_ring import NS, START_NS
from films import footage, play
from test_clips import encoded, says_of

from nvr import clips
from nvr.evidence import Identity
from nvr.gather import Gather
from nvr.media import AccessUnit, ClockReading, ClockState, ParameterSets, RunStarted
from nvr.ring import layout
from nvr.ring.reader import Ring
from nvr.ring.syncer import Syncer
from nvr.ring.writer import Writer
from nvr.timeline import Timeline

BOOT = b"boot" * 4
BOOTED_NS = 1_000 * NS  # the box has been up for so long when the tests begin


class Box:
    """A ring written by the real writer, on a clock that the test moves."""

    def __init__(self, data_dir: Path, *, evidence: bool = True, ring_bytes: int = layout.RING_MIN_BYTES) -> None:
        self.data_dir = data_dir
        self.identity = Identity.load_or_create(data_dir / "identity" / "key")
        settings = layout.RingSettings("porch/main", data_dir / "rings/porch/main", ring_bytes, evidence=evidence)
        self.writer = Writer(settings, box_id=self.identity.box_id, boot_id=BOOT)
        self.now_ns = 0
        self.state = ClockState.SYNCED
        self.syncer = Syncer([self.writer], clock=self, loss_bound_s=5, identity=self.identity)
        self.syncer.open()

    def mono_ns(self) -> int:
        return BOOTED_NS + self.now_ns

    def read(self) -> ClockReading:
        wall_ns = START_NS + self.now_ns if self.state is ClockState.SYNCED else self.now_ns
        return ClockReading(self.mono_ns(), wall_ns, self.state, 1_000_000)

    def sleep_until(self, mono_ns: int) -> None:
        raise AssertionError("nobody sleeps in these tests")

    def record(self, sets: ParameterSets, units: list[AccessUnit], *, width: int = 160, height: int = 120) -> None:
        start_ns = self.now_ns
        self.writer.start_run(RunStarted(sets, width, height), self.read())
        for unit in units:
            self.now_ns = start_ns + unit.decode_ticks * 100_000 // 9
            moved = AccessUnit(
                unit.payload, unit.decode_ticks, unit.composition_ticks, self.mono_ns(), unit.is_keyframe
            )
            self.writer.push(moved, self.read())
            if unit.is_keyframe:
                self.syncer.burst()
        self.now_ns += 100_000_000
        self.writer.end_run(self.read())
        self.syncer.burst()

    def cut(self, from_s: float | None, to_s: float | None, path: Path, **more) -> clips.ClipReport:
        span = [None if seconds is None else START_NS + round(seconds * NS) for seconds in (from_s, to_s)]
        return clips.cut(self.data_dir, "porch/main", *span, path, clock=self, **more)


def units_of(seconds: int) -> tuple[ParameterSets, list[AccessUnit]]:
    sets, fragments = encoded(seconds=seconds)
    units = []
    for picture in (picture for pictures in fragments for picture in pictures):
        gather = Gather()
        gather.append(memoryview(picture.data))
        units.append(AccessUnit(gather, len(units) * 9000, 0, 0, picture.is_keyframe))
    return sets, units


@pytest.fixture
def box(tmp_path) -> Box:
    return Box(tmp_path / "data")


def seconds_of(report: clips.ClipReport) -> tuple[float, float]:
    return (report.span.from_ns - START_NS) / NS, (report.span.to_ns - START_NS) / NS


def genuine(box: Box, path: Path) -> dict:
    verdict = clips.verify(path, box.identity.fingerprint)
    assert verdict["genuine"], verdict["reasons"]
    return verdict


def test_a_span_of_a_real_ring_becomes_a_genuine_clip_that_plays(box, tmp_path):
    av = pytest.importorskip("av")
    box.record(*units_of(8))
    report = box.cut(2.5, 4.5, tmp_path / "clip.mp4")
    assert seconds_of(report) == pytest.approx((2, 5), abs=0.15)
    assert genuine(box, report.path)["notes"] == []
    assert says_of(report.path)["in_ring"] == {"before": True, "after": True}
    with av.open(str(report.path)) as container:
        assert len(list(container.decode(video=0))) == report.pictures == 30


def test_without_times_a_clip_takes_all_that_is_there(box, tmp_path):
    box.record(*units_of(5))
    report = box.cut(None, None, tmp_path / "clip.mp4")
    assert report.pictures == 50 and report.gaps == ()
    assert says_of(report.path)["requested"] == {"from": None, "to": None}
    assert says_of(report.path)["in_ring"] == {"before": False, "after": False}
    assert genuine(box, report.path)


def test_a_clip_over_a_gap_tells_it(box, tmp_path):
    box.record(*units_of(3))
    box.now_ns += 20 * NS
    box.record(*units_of(3))
    report = box.cut(1, 100, tmp_path / "clip.mp4")
    assert report.pictures == 50 and len(report.gaps) == 1
    assert (report.gaps[0].to_ns - report.gaps[0].from_ns) / NS == pytest.approx(20, abs=0.3)
    assert genuine(box, report.path)["notes"][0].startswith("no pictures from 2025-06-15T15:06:43")


def test_footage_from_before_the_clock_was_set_is_found_at_its_right_time(box, tmp_path):
    """The first run is recorded in 1970; a minute later NTP answers."""
    box.state = ClockState.UNKNOWN
    box.record(*units_of(4))
    box.now_ns = 60 * NS
    box.state = ClockState.SYNCED
    box.record(*units_of(4))
    report = box.cut(1.5, 2.5, tmp_path / "clip.mp4")
    assert seconds_of(report) == pytest.approx((1, 3), abs=0.2)
    assert genuine(box, report.path)


def test_a_given_timeline_is_used(box, tmp_path):
    box.record(*units_of(4))
    with Ring(box.data_dir / "rings/porch/main") as ring:
        timeline = Timeline.from_rows([[row.record for row in ring.rows()]])
    assert box.cut(1, 2, tmp_path / "clip.mp4", timeline=timeline).pictures >= 10


@pytest.mark.parametrize(("from_s", "to_s"), [(100, 200), (-200, -100), (2, 2), (3, 1)])
def test_a_span_without_footage_is_an_error_that_says_what_there_is(box, tmp_path, from_s, to_s):
    box.record(*units_of(3))
    with pytest.raises(clips.NothingRecorded) as failed:
        box.cut(from_s, to_s, tmp_path / "clip.mp4")
    assert failed.value.hint and not (tmp_path / "clip.mp4").exists()


def test_an_unknown_stream_is_an_error_that_names_the_known(box, tmp_path):
    box.record(*units_of(1))
    with pytest.raises(clips.NothingRecorded) as failed:
        clips.cut(box.data_dir, "door/main", None, None, tmp_path / "clip.mp4")
    assert "porch/main" in failed.value.hint


def test_changed_parameter_sets_are_refused_or_become_several_clips(box, tmp_path):
    sets, units = units_of(3)
    box.record(sets, units)
    box.now_ns += NS
    other = ParameterSets((sets.sps[0].replace(sets.sps[0][3:4], bytes((sets.sps[0][3] + 1,)), 1),), sets.pps)
    box.record(other, units_of(3)[1])
    with pytest.raises(clips.PicturesChange) as failed:
        box.cut(None, None, tmp_path / "clip.mp4")
    assert len(failed.value.changes_ns) == 1
    reports = clips.cut_parts(box.data_dir, "porch/main", None, None, tmp_path / "clip.mp4", clock=box)
    assert [report.path.name for report in reports] == ["clip-1.mp4", "clip-2.mp4"]
    assert [report.pictures for report in reports] == [30, 30]
    assert all(genuine(box, report.path) for report in reports)


def test_one_part_keeps_its_name(box, tmp_path):
    box.record(*units_of(2))
    (report,) = clips.cut_parts(box.data_dir, "porch/main", None, None, tmp_path / "clip.mp4", clock=box)
    assert report.path.name == "clip.mp4" and genuine(box, report.path)


def test_footage_of_an_older_key_of_this_box_is_told_as_such(box, tmp_path):
    """The key was lost and made anew: what is in the ring names the box as it was."""
    box.record(*units_of(2))
    newer = Identity.create()
    report = box.cut(None, None, tmp_path / "clip.mp4", identity=newer)
    verdict = clips.verify(report.path, newer.fingerprint)
    assert verdict["genuine"]
    assert verdict["notes"] == [
        f"recorded by box {box.identity.box_id.hex()}, but cut and signed by box {newer.box_id.hex()}"
    ]


def test_a_ring_that_has_gone_round_is_cut_from_what_is_left(tmp_path):
    box = Box(tmp_path / "data")
    big = []
    for number in range(70):
        gather = Gather()
        gather.append(memoryview(b"\0\x05\0\0\x65" + bytes(5 << 16)))
        big.append(AccessUnit(gather, number * 90_000, 0, 0, True))
    sets, _ = units_of(1)
    box.record(sets, big)
    report = box.cut(0, 1000, tmp_path / "clip.mp4")
    assert 20 < report.fragments < 70 and seconds_of(report)[0] > 5
    assert says_of(report.path)["in_ring"]["before"] is False
    assert genuine(box, report.path)


def test_real_footage_survives_recording_and_cutting(tmp_path):
    av = pytest.importorskip("av")
    path = footage("vehicle_street.mp4")
    events = play(path)
    started = next(event for event in events if isinstance(event, RunStarted))
    units = [event for event in events if isinstance(event, AccessUnit)]
    box = Box(tmp_path / "data", ring_bytes=64 << 20)
    box.record(started.parameter_sets, units, width=started.width, height=started.height)
    report = box.cut(None, None, tmp_path / "clip.mp4")
    assert genuine(box, report.path)
    with av.open(str(path)) as source, av.open(str(report.path)) as clip:
        pairs = zip(source.decode(video=0), clip.decode(video=0), strict=True)
        assert (
            sum(bool((one.to_ndarray() == other.to_ndarray()).all()) for one, other in pairs)
            == report.pictures
            == len(units)
        )


@pytest.mark.browser
def test_chromium_plays_a_clip_knows_its_length_and_seeks_over_the_gap(box, tmp_path):
    spec = importlib.util.spec_from_file_location("browser", Path(__file__).parent / "web" / "browser.py")
    browser = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(browser)
    if browser.CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine")
    box.record(*units_of(4))
    box.now_ns += 10 * NS
    box.record(*units_of(4))
    report = box.cut(None, None, tmp_path / "clip.mp4")
    page = tmp_path / "page.html"
    page.write_text('<video muted src="clip.mp4"></video>')
    with browser.Browser() as chromium:
        chromium.open(page.as_uri())
        chromium.wait("document.querySelector('video').readyState >= 2", "the first picture")
        length_s = (report.span.to_ns - report.span.from_ns) / NS
        assert chromium.run("document.querySelector('video').duration") == pytest.approx(length_s, abs=0.2)
        chromium.run("document.querySelector('video').currentTime = 16.05")
        chromium.wait("!document.querySelector('video').seeking", "the seek over the gap")
        chromium.run("document.querySelector('video').play()")
        chromium.wait("document.querySelector('video').currentTime > 16.5", "moving pictures")
        assert chromium.run("document.querySelector('video').error") is None
        assert chromium.run("document.querySelector('video').videoWidth") == 160
