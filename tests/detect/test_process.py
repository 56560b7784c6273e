"""The detect process beside a real recorder: from announced fragments to stored events, and never in recording's way."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("av", reason="frames are decoded with PyAV")
pytest.importorskip("numpy", reason="frames are numpy arrays")

import av
from e2e.running import RunningBox, RunningRecorder, children_of, free_port

from nvr import site
from nvr.announce import SEEN_SOCKET, Subscriber
from nvr.clock import SystemClock
from nvr.detect import models
from nvr.detect.feeds import BEHIND_NS, Feed, OwnStream, Piece, own_pictures, piece_of
from nvr.detect.looker import Looker, looked_of
from nvr.detect.objects import ObjectModel
from nvr.detect.process import seen_message
from nvr.events import EventLog, Events
from nvr.media import FragmentRecord, RunStarted
from nvr.processes import record_settings
from nvr.ring import check
from nvr.ring.reader import Ring
from nvr.scene import Event, Facts
from nvr.source.replay import Replay
from tools.scenes import demo_footage

NS = 1_000_000_000
MODEL = Path(__file__).parents[3] / "shared" / "data" / "model" / "ssd_mobilenet_v1_1_metadata.tflite"
SITE = """\
site: test
box: test-1
time_zone: Asia/Jayapura
storage: {{reserve_gb: 0.1}}
web: {{listen: 127.0.0.1, port: {port}}}
cameras:
  square:
    main: {{source: replay, file: "{films}/square.mp4"{more}}}
    ring_gb: 0.05
    zones: {{middle: [[0.2, 0.3], [0.8, 0.3], [0.8, 1.0], [0.2, 1.0]]}}
    lines: {{across: {{from: [0.5, 1.0], to: [0.5, 0.0]}}}}
    masks: {{sky: [[0.0, 0.0], [1.0, 0.0], [1.0, 0.2], [0.0, 0.2]]}}
    rules: {{line_crossing: {{line: across}}, crowd: {{zone: middle, alert_above: 1, for_s: 1}}}}
  gate:
    main: {{source: replay, file: "{films}/gate.mp4"{more}}}
    ring_gb: 0.05
"""


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    for scene in demo_footage.SCENES:
        if scene.name in ("square", "gate"):
            demo_footage.write(scene, folder / f"{scene.name}.mp4", length_s=8)
    return folder


def site_file(folder: Path, films: Path, more: str = "") -> Path:
    path = folder / "site.yaml"
    path.write_text(SITE.format(films=films, more=more, port=free_port()))
    return path


@pytest.fixture(scope="module")
def recorded(films, tmp_path_factory) -> tuple[site.Site, Path]:
    """A ring with eight seconds of each film, recorded as fast as it goes."""
    folder = tmp_path_factory.mktemp("recorded")
    settings = site.load(site_file(folder, films, ", speed: max"))
    recorder = RunningRecorder(record_settings(settings, folder / "data", once=True), folder / "log")
    assert recorder.process.wait(60) == 0, (folder / "log").read_text()
    return settings, folder / "data"


def look(
    recorded: tuple[site.Site, Path], *, model: ObjectModel | None = None, leave_out: frozenset[int] = frozenset()
):
    """Everything of the square's ring through a looker: (looker, facts, events with their evidence and still)."""
    settings, data_dir = recorded
    looker = Looker(looked_of(settings.cameras[0]), settings, data_dir, model, 0)
    facts: list[Facts] = []
    told: list[tuple[Event, object, bytes | None]] = []

    def tell(looker: Looker, seen: Facts, wall_ns: int) -> None:
        facts.append(seen)
        told.extend(looker.judge(seen))

    with Ring(data_dir / "rings" / "square" / "main") as ring:
        for row in ring.rows():
            looker.recorded(row.record.mono_ns, row.record.sequence)
            if row.record.sequence not in leave_out:
                looker.look(piece_of(row.position, row.record), tell)
    looker.close()
    return looker, facts, told


def test_a_recorded_ring_becomes_facts_and_events_that_point_into_it(recorded):
    looker, facts, told = look(recorded)
    assert len(facts) >= 30
    assert all(one.at_ns < other.at_ns for one, other in itertools.pairwise(facts))
    assert {track.kind for each in facts for track in each.tracks} == {"moving"}
    crossings = [(event, evidence, jpeg) for event, evidence, jpeg in told if event.kind == "line_crossing"]
    assert crossings
    _, data_dir = recorded
    with Ring(data_dir / "rings" / "square" / "main") as ring:
        rows = {row.record.sequence: row.record for row in ring.rows()}
    for event, evidence, _ in crossings:
        assert evidence.stream == "square/main"
        first = rows[evidence.from_sequence]
        assert first.mono_ns <= event.from_ns <= first.mono_ns + first.duration_ns + NS // 10
        assert abs(first.wall_ns + (event.from_ns - first.mono_ns) - event.wall_ns) < NS
    assert looker.trouble == ""


def test_whoever_passes_events_on_finds_span_footage_and_still_with_each(recorded, tmp_path):
    """What `uplink` reads: Events.after(number), in order; the fragments an event rests on are in the ring, its still is a JPEG."""
    _, _, told = look(recorded)
    log = EventLog(tmp_path / "events", "life")
    for event, evidence, jpeg in told:
        log.add(event, evidence, jpeg)
    log.commit()
    log.close()
    reader, number, read = Events(tmp_path / "events"), 0, []
    while batch := reader.after(number, 2):
        read += batch
        number = batch[-1].number
    assert [each.event for each in read] == [event for event, _, _ in told]
    with Ring(recorded[1] / "rings" / "square" / "main") as ring:
        sequences = {row.record.sequence for row in ring.rows()}
    for each in read:
        assert {each.evidence.from_sequence, each.evidence.to_sequence} <= sequences
        assert each.evidence.from_sequence <= each.evidence.to_sequence
        assert len(each.evidence.boot_id) == 32
        assert each.event.from_ns <= each.event.to_ns and each.event.wall_ns is not None
        still = reader.still(each.number)
        assert (still is not None) == each.has_still
        if still is not None:
            assert still[:2] == b"\xff\xd8"
    assert any(each.has_still for each in read)
    assert {"number", "camera", "kind", "zone", "state", "is_end", "is_moment", "from_ms", "to_ms", "tracks", "numbers", "words", "detail", "stream",
            "from_sequence", "to_sequence", "has_still"} <= set(read[0].to_json())  # fmt: skip


def test_the_same_ring_gives_the_same_events(recorded):
    def plain(told):
        return [(event, evidence) for event, evidence, _ in told]

    assert plain(look(recorded)[2]) == plain(look(recorded)[2])


def pixels(jpeg: bytes):
    with av.open(io.BytesIO(jpeg)) as file:
        return next(file.decode(video=0)).to_ndarray(format="rgb24")


def test_stills_show_what_happened_and_nothing_behind_a_mask(recorded):
    stills = [jpeg for event, _, jpeg in look(recorded)[2] if jpeg is not None and event.kind == "line_crossing"]
    assert stills
    for jpeg in stills:
        assert len(jpeg) < 100_000
        picture = pixels(jpeg).astype(int)
        assert picture.shape == (360, 640, 3)
        masked = picture[:70]
        # The masked sky is black but for thin lines drawn over it; the ground below is not.
        assert (masked.max(axis=2) < 40).mean() > 0.9
        assert (picture[90:].max(axis=2) > 60).mean() > 0.8
        yellow = (picture[:, :, 0] > 200) & (picture[:, :, 1] > 140) & (picture[:, :, 2] < 110)
        assert yellow.sum() > 40, "the thing it is about has a bright rect"


def test_a_fragment_that_was_left_out_costs_itself_and_no_more(recorded):
    everything = look(recorded)[1]
    _, facts, _ = look(recorded, leave_out=frozenset((3,)))
    assert len(everything) - 8 <= len(facts) < len(everything)


def test_a_fragment_that_is_gone_is_counted_as_trouble_and_the_next_one_is_looked_at(recorded):
    settings, data_dir = recorded
    looker = Looker(looked_of(settings.cameras[0]), settings, data_dir, None, 0)
    with Ring(data_dir / "rings" / "square" / "main") as ring:
        rows = list(ring.rows())
    gone = piece_of(rows[0].position.__class__(**{**_fields(rows[0].position), "lap": 99}), rows[0].record)
    looker.look(gone, lambda *_: None)
    assert "used again" in looker.trouble
    looker.look(piece_of(*rows[1]), lambda *_: None)
    assert looker.trouble == ""
    assert looker.looks > 0
    looker.close()


def test_a_camera_whose_looking_fails_begins_anew_and_the_others_go_on(recorded):
    settings, data_dir = recorded
    looker = Looker(looked_of(settings.cameras[0]), settings, data_dir, None, 0)
    with Ring(data_dir / "rings" / "square" / "main") as ring:
        rows = list(ring.rows())
    looker.look(piece_of(*rows[0]), lambda *_: None)
    before = looker.looks
    looker.give_up(rows[1].record.mono_ns, ZeroDivisionError("a rule"))
    assert "ZeroDivisionError" in looker.trouble
    looker.look(piece_of(*rows[2]), lambda *_: None)
    assert looker.looks == before, "it rests"
    late = piece_of(rows[3].position, dataclasses.replace(rows[3].record, mono_ns=rows[3].record.mono_ns + 20 * NS))
    looker.look(late, lambda *_: None)
    assert looker.looks > before
    assert looker.trouble == ""
    looker.close()


def _fields(position) -> dict[str, object]:
    return {name: getattr(position, name) for name in position.__slots__}


@pytest.mark.skipif(not MODEL.exists(), reason="needs a model in ../shared/data/model")
def test_with_a_model_the_same_ring_gives_facts_that_name_it(recorded, tmp_path):
    pytest.importorskip("ai_edge_litert", reason="runs the model")
    models.add(tmp_path, MODEL, "ssd", licence="Apache-2.0")
    model = ObjectModel(*models.load(tmp_path, "ssd"))
    _, facts, _ = look(recorded, model=model)
    assert facts[-1].sight.model == "ssd"
    assert "person" in facts[-1].sight.kinds
    assert seen_message(facts[-1], 5 * NS)["model"] == "ssd"


# -- feeds ---------------------------------------------------------------------------------------------


def piece(second: int, *, is_keyframe: bool = True, size_bytes: int = 0) -> Piece:
    return Piece(1, second, second * NS, NS, second * NS, True, is_keyframe, 25, size_bytes)


def test_a_feed_holds_a_few_seconds_and_counts_what_it_drops():
    feed = Feed("a/main")
    for second in range(60):
        feed.put(piece(second))
    kept = list(iter(feed.take, None))
    assert kept[-1].number == 59
    assert kept[-1].at_ns + NS - kept[0].at_ns <= BEHIND_NS
    assert feed.shed == 25 * (60 - len(kept))


def test_after_a_drop_a_feed_goes_on_at_a_keyframe():
    feed = Feed("a/main")
    for second in range(61):  # a keyframe every ten seconds
        feed.put(piece(second, is_keyframe=second % 10 == 0))
    kept = list(iter(feed.take, None))
    assert [each.number for each in kept] == [60]
    assert feed.shed == 25 * 60
    feed.put(piece(61, is_keyframe=False))
    assert feed.take() is not None


def test_pictures_of_our_own_are_bounded_in_memory():
    feed = Feed("a/small")
    for number in range(100):
        feed.put(Piece(1, number, number * NS // 100, NS // 100, 0, True, True, 1, size_bytes=4 << 20))
    assert sum(each.size_bytes for each in iter(feed.take, None)) <= 32 << 20


def test_a_stream_of_our_own_gives_every_picture_in_order(films):
    source = Replay(str(films / "gate.mp4"), loop=False, speed=None)
    own = OwnStream(source, Feed("gate/small"), SystemClock())
    found = []
    for _ in range(200):
        own.drain()
        while (taken := own.feed.take()) is not None:
            started, pictures = own_pictures(taken)
            assert isinstance(started, RunStarted)
            assert taken.is_keyframe == pictures[0].unit.is_keyframe
            found += pictures
    assert len(found) + own.feed.shed == 8 * demo_footage.FPS
    assert all(one.at_ns < other.at_ns for one, other in itertools.pairwise(found))
    assert not own.is_sending  # the film is over
    own.source.close()


# -- real processes ------------------------------------------------------------------------------------


def rows_of(data_dir: Path, camera: str) -> list[FragmentRecord]:
    with Ring(data_dir / "rings" / camera / "main") as ring:
        return [row.record for row in ring.rows()]


def assert_nothing_is_missing(data_dir: Path, *cameras: str) -> None:
    """Every fragment follows on the one before, in one run, with all its pictures."""
    for camera in cameras:
        records = rows_of(data_dir, camera)
        assert len(records) > 5
        for before, record in itertools.pairwise(records):
            assert record.sequence == before.sequence + 1, camera
            if record.run == before.run:
                gap_ns = record.mono_ns - before.mono_ns - before.duration_ns
                assert abs(gap_ns) < NS // 5, f"{camera}: {gap_ns / 1e6:.0f} ms before fragment {record.sequence}"


def detect_of(box: RunningBox) -> int | None:
    return next((pid for pid, words in children_of(box.process.pid).items() if "nvr.detect" in words), None)


def record_of(box: RunningBox) -> int | None:
    return next((pid for pid, words in children_of(box.process.pid).items() if "nvr.recorder" in words), None)


@pytest.fixture
def box(films, tmp_path) -> Iterator[RunningBox]:
    path = site_file(tmp_path, films, ", loop: true")
    with RunningBox(path, tmp_path / "data", tmp_path / "log") as box:
        box.until(lambda: box.is_recording("square/main") and box.is_recording("gate/main"), 60, "both record")
        box.until(lambda: status_of(box), 60, "detect tells")
        yield box


def status_of(box: RunningBox) -> dict | None:
    """What detect tells now; None while it does not run."""
    with contextlib.suppress(OSError):
        subscriber = Subscriber(box.data_dir / "run", SEEN_SOCKET)
        try:
            for _ in range(100):
                message = subscriber.receive(2.0)
                if message is None:
                    return None
                if message["kind"] == "status":
                    return message
        finally:
            subscriber.close()
    return None


@pytest.mark.slow
def test_a_detect_that_is_killed_again_and_again_costs_recording_nothing(box):
    box.until(lambda: (status_of(box) or {}).get("cameras", {}).get("square", {}).get("looks", 0) > 5, 60, "it looks")
    assert set((status_of(box) or {})["cameras"]) == {"square"}, "a camera with nothing to look for is only recorded"
    for _ in range(3):
        pid = detect_of(box)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        box.until(lambda pid=pid: detect_of(box) not in (None, pid), 60, "it is started again")
        box.until(lambda: status_of(box), 60, "it tells again")
        time.sleep(1)
    box.until(lambda: Events(box.data_dir / "events").newest(), 60, "an event is stored")
    assert box.stop() == 0
    assert_nothing_is_missing(box.data_dir, "square", "gate")
    assert check.check(box.data_dir) == []


@pytest.mark.slow
def test_a_new_site_file_restarts_detection_alone(box):
    detect, record = detect_of(box), record_of(box)
    text = box.site_path.read_text()
    box.site_path.write_text(text.replace("alert_above: 1", "alert_above: none"))
    time.sleep(3)
    assert detect_of(box) == detect, "a faulty file changes nothing"
    draft = box.site_path.with_name("draft")
    draft.write_text(text.replace("middle: [[0.2", "middle: [[0.1"))
    os.replace(draft, box.site_path)
    box.until(lambda: detect_of(box) not in (None, detect), 30, "detection starts anew")
    box.until(lambda: status_of(box), 60, "and tells")
    assert record_of(box) == record
    draft.write_text(
        "\n".join(line for line in text.splitlines() if not line.lstrip().startswith(("zones", "lines", "rules")))
    )
    os.replace(draft, box.site_path)
    box.until(lambda: detect_of(box) is None, 30, "nothing is looked for any more")
    assert record_of(box) == record
    assert box.stop() == 0
    assert_nothing_is_missing(box.data_dir, "square", "gate")


DAMAGED = Path(__file__).parents[3] / "shared" / "data" / "video" / "conformance" / "BA_MW_D_IDR_LOST.264"


@pytest.mark.slow
@pytest.mark.skipif(not DAMAGED.exists(), reason="needs the conformance streams in ../shared/data/video")
def test_a_damaged_stream_and_a_model_that_is_none_leave_the_other_camera_alone(films, tmp_path):
    path = site_file(tmp_path, films, ", loop: true")
    path.write_text(
        path.read_text()
        + f"""  lost:
    main: {{source: replay, file: "{DAMAGED}", loop: true, fps: 25}}
    ring_gb: 0.05
    zones: {{all: [[0, 0], [1, 0], [1, 1], [0, 1]]}}
"""
    )
    folder = tmp_path / "data" / "models"
    folder.mkdir(parents=True)
    (folder / "cut.tflite").write_bytes(b"\0\0\0\0TFL3" + bytes(100))
    (folder / "cut.json").write_text("{}")
    with RunningBox(path, tmp_path / "data", tmp_path / "log") as box:
        box.until(lambda: box.is_recording("square/main") and box.is_recording("lost/main"), 60, "both record")
        box.until(lambda: looks_of(box, "square") > 20 and looks_of(box, "lost") > 5, 90, "both are looked at")
        assert (status_of(box) or {})["model"] == ""
        assert box.stop() == 0
    log = (tmp_path / "log").read_text()
    assert "the card of model cut cannot be read" in log and "nvr model add" in log
    assert "Traceback" not in log
    assert_nothing_is_missing(tmp_path / "data", "square")


RIBBON = """\
site: test
box: test-1
time_zone: Asia/Jayapura
storage: {{reserve_gb: 0.1}}
web: {{listen: 127.0.0.1, port: {port}}}
cameras:
  door:
    main: {{source: picamera, size: 640x480, fps: 10, rate_mbit: 1}}
    small: {{source: picamera, size: 320x240, rate_mbit: 0.3}}
    ring_gb: 0.05
    zones: {{all: [[0, 0], [1, 0], [1, 1], [0, 1]]}}
"""


@pytest.mark.slow
def test_a_ribbon_camera_is_recorded_large_and_looked_at_small(tmp_path):
    """One sensor, two encoders (a stand-in for picamera2): `record` has the main stream, `detect` the small one, and either may be killed."""
    stand_ins = Path(__file__).parents[1] / "source" / "stand_ins"
    path = tmp_path / "site.yaml"
    path.write_text(RIBBON.format(port=free_port()))
    with RunningBox(path, tmp_path / "data", tmp_path / "log", modules=stand_ins) as box:
        box.until(lambda: box.is_recording("door/main"), 60, "it records")
        box.until(lambda: looks_of(box, "door") > 10, 90, "it looks")
        camera = (status_of(box) or {})["cameras"]["door"]
        assert (camera["stream"], camera["is_keyframes_only"]) == ("door/small", False)
        pid = detect_of(box)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        box.until(lambda: detect_of(box) not in (None, pid) and looks_of(box, "door") > 10, 90, "it looks again")
        assert box.stop() == 0
    with Ring(tmp_path / "data" / "rings" / "door" / "main") as ring:
        assert {row.record.run for row in ring.rows()} == {1}
    assert not (tmp_path / "data" / "rings" / "door" / "small").exists()
    assert_nothing_is_missing(tmp_path / "data", "door")


def looks_of(box: RunningBox, camera: str) -> int:
    return int((status_of(box) or {}).get("cameras", {}).get(camera, {}).get("looks", 0))


@contextlib.contextmanager
def quota(pid: int, share: float) -> Iterator[None]:
    """So much of one CPU for a process and no more, by cgroups of either version."""
    v1, v2 = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")
    is_v1 = (v1 / "cgroup.procs").exists()
    root = v1 if is_v1 else v2
    group = root / f"nvr-test-{pid}"
    try:
        group.mkdir()
        if is_v1:
            (group / "cpu.cfs_period_us").write_text("100000")
            (group / "cpu.cfs_quota_us").write_text(str(round(share * 100_000)))
        else:
            (group / "cpu.max").write_text(f"{round(share * 100_000)} 100000")
        (group / "cgroup.procs").write_text(str(pid))
    except OSError as error:
        with contextlib.suppress(OSError):
            group.rmdir()
        pytest.skip(f"needs cgroups with CPU quotas: {error}")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            for each in (group / "cgroup.procs").read_text().split():
                (root / "cgroup.procs").write_text(each)
        with contextlib.suppress(OSError):
            group.rmdir()


@pytest.mark.slow
@pytest.mark.root
def test_with_a_twentieth_of_a_cpu_detection_leaves_out_pictures_and_recording_none(films, tmp_path):
    """Four cameras of moving pictures on 5 % of one CPU: far more than that can decode."""
    cameras = "".join(
        f"""  lane-{number}x:
    main: {{source: replay, file: "{films}/square.mp4", loop: true}}
    ring_gb: 0.05
    zones: {{middle: [[0.2, 0.3], [0.8, 0.3], [0.8, 1.0], [0.2, 1.0]]}}
    rules: {{crowd: {{zone: middle}}}}
"""
        for number in range(4)
    )
    path = tmp_path / "site.yaml"
    path.write_text(SITE.format(films=films, more=", loop: true", port=free_port()) + cameras)
    names = ["square", "gate", *(f"lane-{number}x" for number in range(4))]
    with RunningBox(path, tmp_path / "data", tmp_path / "log") as box:
        box.until(lambda: all(box.is_recording(f"{name}/main") for name in names), 60, "all record")
        box.until(
            lambda: (status_of(box) or {}).get("cameras", {}).get("square", {}).get("looks", 0) > 5, 90, "it looks"
        )
        pid = detect_of(box)
        assert pid is not None
        assert os.sched_getscheduler(pid) == os.SCHED_IDLE
        assert os.getpriority(os.PRIO_PROCESS, pid) >= 15
        with quota(pid, 0.05):
            before = status_of(box)
            time.sleep(20)
            box.until(
                lambda: sum(each["shed"] for each in (status_of(box) or {"cameras": {}})["cameras"].values()) > 100,
                60,
                "pictures are left out",
            )
            after = status_of(box)
        assert before is not None and after is not None
        print(json.dumps({name: (each["looks"], each["shed"]) for name, each in after["cameras"].items()}))
        assert max(each["behind_s"] for each in after["cameras"].values()) < 10
        dropped = {name: box.stream(f"{name}/main").get("ring", {}).get("dropped") for name in names}
        assert not any(any(each.values()) for each in dropped.values() if each), dropped
        assert box.stop() == 0
    assert_nothing_is_missing(tmp_path / "data", *names)
