"""A film through detection and rules: the same lines twice, errors that name the place, and the promises about real films."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("av", reason="films are decoded with PyAV")
pytest.importorskip("numpy", reason="frames are numpy arrays")

from films import DRAWN, FOOTAGE, _drawn
from rules.scenes import look, track
from rules.test_schedule import AMBON

from nvr.detect import grading
from nvr.detect.replay import MOMENTS, Summary, line_of, sentence
from nvr.scene import Event

ROOT = Path(__file__).resolve().parents[2]
TRUTH = Path(__file__).parent / "truth"
MODEL = FOOTAGE.parent / "model" / "ssd_mobilenet_v1_1_metadata.tflite"

SITE = """\
site: a
box: b
time_zone: Asia/Jayapura
cameras:
  gate:
    main: {source: rtsp, url: "rtsp://10.0.0.1/x"}
    ring_gb: 1
    zones: {all: [[0, 0], [1, 0], [1, 1], [0, 1]]}
    lines: {middle: {from: [0.5, 0], to: [0.5, 1]}}
    hours: {mon-fri: "08:00-14:00"}
    rules:
      line_crossing: {line: middle}
      intrusion: {zone: all, when: always}
      service_open: {zone: all, quiet_s: 2}
"""


def nvr(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nvr", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.fixture
def site_path(tmp_path: Path) -> Path:
    path = tmp_path / "site.yaml"
    path.write_text(SITE)
    return path


def lines(*arguments: object) -> list[dict]:
    done = nvr("detect", "replay", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("name", DRAWN)
def test_the_same_film_gives_the_same_bytes_twice(name, site_path):
    first, second = (nvr("detect", "replay", _drawn(name), "--site", site_path, "--json") for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    assert first.stdout.count("\n") > 1


def test_something_that_goes_through_the_picture_is_told_with_its_place_and_time(site_path):
    told = lines(_drawn(DRAWN[0]), "--site", site_path)
    assert told[-1]["kind"] == "summary"
    assert told[-1]["model"] is None
    crossed = [line for line in told[:-1] if line["what"] == "line_crossing"]
    assert [(line["line"], line["class"], line["direction"], line["count"]) for line in crossed] == [
        ("middle", "moving", "right", 1)
    ]
    assert 4.5 < crossed[0]["at_s"] < 7.0  # it is 40 wide and goes a pixel a picture, 25 a second, over 160
    opened = [line for line in told[:-1] if line["what"] == "service_open"]
    assert {line["state"] for line in opened} <= {"open", "closed", "cannot tell"}
    assert told[0]["wall"].startswith("2026-01-05T08:00:")  # a fixed time, so that it is the same tomorrow


def test_a_film_can_be_put_at_any_time(site_path):
    told = lines(_drawn(DRAWN[0]), "--site", site_path, "--at", "2026-03-19 10:00")
    opened = [line for line in told[:-1] if line["what"] == "service_open"]
    assert [(line["state"], line["due"]) for line in opened] == [("cannot tell", "closed")]
    assert "Nyepi" in opened[0]["detail"]


def test_what_was_seen_is_drawn_into_a_film(site_path, tmp_path):
    import av

    out = tmp_path / "out.mp4"
    assert nvr("detect", "replay", _drawn(DRAWN[0]), "--site", site_path, "--draw", out).returncode == 0
    with av.open(str(out)) as film:
        assert sum(1 for _ in film.decode(video=0)) > 10


def test_a_site_with_several_cameras_asks_which(site_path):
    other = SITE[SITE.index("  gate:") :].replace("gate:", "yard:")
    site_path.write_text(SITE + other)
    done = nvr("detect", "replay", _drawn(DRAWN[0]), "--site", site_path)
    assert done.returncode == 2
    assert "gate or yard" in done.stderr


@pytest.mark.parametrize(
    ("wrong", "right", "place"),
    [
        ("[[0, 0], [1, 0], [1, 1], [0, 1]]", "[[0, 0], [1.4, 0], [1, 1]]", "site.yaml:8: cameras.gate.zones.all"),
        ('"08:00-14:00"', '"14:00-08:00"', "site.yaml:10: cameras.gate.hours.mon-fri"),
        ("{line: middle}", "{line: midle}", "site.yaml:12: cameras.gate.rules.line_crossing.line"),
    ],
)
def test_a_faulty_site_file_is_refused_with_the_place(wrong, right, place, site_path):
    site_path.write_text(SITE.replace(wrong, right))
    done = nvr("detect", "replay", _drawn(DRAWN[0]), "--site", site_path)
    assert done.returncode == 1
    assert place in done.stderr


@pytest.mark.parametrize("data", [b"", b"not a film", b"\0\0\0\x18ftypisom" + bytes(64)])
def test_what_is_no_film_is_refused_in_one_sentence(data, site_path, tmp_path):
    for suffix in (".mp4", ".mkv"):
        path = tmp_path / f"film{suffix}"
        path.write_bytes(data)
        done = nvr("detect", "replay", path, "--site", site_path)
        assert done.returncode == 1
        assert "should not have happened" not in done.stderr
        assert done.stderr.startswith("nvr: ")


def test_a_film_cut_off_in_the_middle_is_seen_up_to_there(site_path, tmp_path):
    whole = _drawn(DRAWN[0]).read_bytes()
    path = tmp_path / "half.mp4"
    path.write_bytes(whole[: len(whole) // 2])
    done = nvr("detect", "replay", path, "--site", site_path, "--json")
    assert "should not have happened" not in done.stderr
    assert done.returncode == 1 or json.loads(done.stdout.splitlines()[-1])["looks"] > 5


@pytest.mark.parametrize("name", ["BA_MW_D_IDR_LOST.264", "BA_MW_D_P_LOST.264", "SVA_FM1_E.264"])
def test_a_damaged_stream_is_seen_as_far_as_it_can_be(name, site_path):
    path = FOOTAGE / "conformance" / name
    if not path.exists():
        pytest.skip(f"needs {path}")
    done = nvr("detect", "replay", path, "--site", site_path, "--fps", 15, "--json")
    assert "should not have happened" not in done.stderr
    assert done.returncode == 0, done.stderr


# -- lines ---------------------------------------------------------------------------------------------


def test_numbers_with_their_uncertainty_stand_in_the_line():
    event = Event(
        "queue", "hall", "z", "3", 1_000_000_000, 9_000_000_000, 1_767_567_600_000_000_000, (4, 5),
        numbers=(("waiting", 3.0), ("waiting_least", 2.0), ("waiting_most", 5.0), ("longest_s", 61.23456)),
    )  # fmt: skip
    line = line_of(event, AMBON)
    assert line["at_s"] == 9.0
    assert (line["count"], line["count_least"], line["count_most"], line["longest_s"]) == (3, 2, 5, 61.2346)
    assert (line["kind"], line["what"], line["zone"], line["tracks"]) == ("state", "queue", "z", [4, 5])
    assert line["wall"] == "2026-01-05T08:00:00.000+09:00"
    assert "3 (2 to 5)" in sentence(line)


def test_the_summary_tells_what_moved_from_what_never_did():
    summary = Summary()
    summary.add(look(1, (track(1), track(2, has_moved=False))), [])
    assert summary.line()["things_that_moved"] == {"person": 1}
    assert summary.line()["things_that_never_moved"] == {"person": 1}


def test_what_happens_is_an_event_and_what_lasts_is_a_state():
    for kind, state in MOMENTS:
        assert line_of(Event(kind, "c", "z", state, 0, 1, None), AMBON)["kind"] == "event"
    assert line_of(Event("congestion", "c", "z", "jam", 0, 1, None), AMBON)["kind"] == "state"


# -- eval ----------------------------------------------------------------------------------------------


def test_an_evaluation_counts_what_is_right_and_says_what_is_not(tmp_path):
    shutil.copy(_drawn(DRAWN[0]), tmp_path / "film.mp4")
    (tmp_path / "site.yaml").write_text(SITE)
    checks = [
        {"check": "crossings", "kind": "moving", "direction": "right", "number": 1},
        {"check": "crossings", "kind": "moving", "direction": "left", "number": 1},
    ]
    truth = {"film": "film.mp4", "site": "site.yaml", "checks": checks}
    (tmp_path / "film.json").write_text(json.dumps(truth))
    (tmp_path / "gone.json").write_text(json.dumps({**truth, "film": "gone.mp4"}))
    done = nvr("detect", "eval", tmp_path, "--json")
    found = json.loads(done.stdout)
    assert [row["is_kept"] for row in found["rows"]] == [True, False]
    assert done.returncode == 1
    assert "gone.mp4" in found["left_out"][0]


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "no truth file"), ("{}", "'checks' is missing"), ('{"checks": [{"check": "magic"}]}', "no check is called 'magic'"), ("[]", "no truth file")],
)  # fmt: skip
def test_a_faulty_truth_file_says_what_is_wrong(text, said, tmp_path):
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(grading.BadTruth, match=said) as caught:
        grading.read(tmp_path / "t.json")
    assert caught.value.hint


def test_a_check_that_lacks_something_names_itself(tmp_path):
    truth = grading.Truth(tmp_path / "t.json", tmp_path, tmp_path, "", None, "", None, None, ({"check": "count"},))
    with pytest.raises(grading.BadTruth, match="check 'count'"):
        grading.grade(grading.Seen([], [], truth))


def test_every_truth_file_here_can_be_read_and_has_its_site():
    from nvr import site

    for path in sorted(TRUTH.glob("*.json")):
        site.load(grading.read(path).site)


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(TRUTH.glob("*.json")), ids=lambda path: path.stem)
def test_the_promises_about_real_films_are_kept(path):
    from nvr.cli.detect import seen_of

    truth = grading.read(path)
    for needed in (truth.film, MODEL):
        if not needed.exists():
            pytest.skip(f"needs {needed}")
    try:
        rows = grading.grade(seen_of(truth, MODEL))
    except Exception as error:
        if type(error).__name__ == "NoRuntime":
            pytest.skip("needs ai-edge-litert or tflite-runtime")
        raise
    broken = [row for row in rows if not row.is_kept]
    assert not broken, "; ".join(f"{row.what}: {row.found}, promised {row.promised}" for row in broken)
