"""Each command as a person or a script calls it, on footage that was really recorded."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded_box import ROOT, Box, call, program, told

from nvr import site_kept
from nvr.cli.ledger import percents
from nvr.ledger import StreamLedger

ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+09:00")


def ends(box: Box, stream: str = "street/main") -> tuple[str, str]:
    """From when to when a stream was recorded."""
    found = next(each for each in told("ring", "ls", *box.at)["streams"] if each["stream"] == stream)
    return found["from"], found["to"]


# -- ring --------------------------------------------------------------------------------------------


def test_ring_ls_tells_what_is_recorded_in_the_sites_own_time(recorded):
    streams = told("ring", "ls", *recorded.at)["streams"]
    assert [each["stream"] for each in streams] == ["gate/main", "street/main"]
    for each in streams:
        assert set(each) == {"stream", "segments", "from", "to", "bytes", "pictures", "codec", "width", "height"}
        assert (each["pictures"], each["codec"], each["width"], each["height"]) == (recorded.pictures, "h264", 320, 240)
        assert ISO.fullmatch(each["from"])
        length_s = (datetime.fromisoformat(each["to"]) - datetime.fromisoformat(each["from"])).total_seconds()
        assert length_s == pytest.approx(recorded.pictures / 25, abs=0.2)


def test_ring_ls_as_text_has_a_line_for_each_stream(recorded):
    result = call("ring", "ls", *recorded.at)
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["stream", "gate/main", "street/main"]


def test_rings_are_read_by_the_data_directory_alone(recorded):
    assert len(told("ring", "ls", "--data", recorded.data_dir)["streams"]) == 2


def test_ring_check_finds_nothing_wrong_with_what_was_recorded(recorded):
    found = told("ring", "check", *recorded.at)
    assert (found["streams"], found["pictures"], found["faults"]) == (2, 2 * recorded.pictures, [])
    assert found["fragments"] >= 2


def test_ring_check_finds_a_flipped_bit_and_says_where(recorded):
    segment = recorded.data_dir / "rings" / "street" / "main" / "000000.mp4"
    with open(segment, "r+b") as file:
        file.seek(10_000)
        byte = file.read(1)[0]
        file.seek(10_000)
        file.write(bytes([byte ^ 4]))
    found = told("ring", "check", *recorded.at, status=1)
    assert {fault["stream"] for fault in found["faults"]} == {"street/main"}
    assert all(set(fault) == {"stream", "segment", "offset", "what"} for fault in found["faults"])
    assert call("ring", "check", *recorded.at).exit_code == 1


def test_ring_rebuild_makes_the_index_again_from_the_media(recorded):
    before = told("ring", "ls", *recorded.at)
    (recorded.data_dir / "rings" / "street" / "main" / "index").unlink()
    broken = call("ring", "ls", *recorded.at, "--json")
    assert broken.exit_code == 1
    assert "street/main" in broken.stderr
    rebuilt = told("ring", "rebuild", *recorded.at)["streams"]
    assert {each["stream"] for each in rebuilt} >= {"street/main"}
    assert told("ring", "ls", *recorded.at) == before
    assert told("ring", "check", *recorded.at)["faults"] == []


@pytest.mark.parametrize("command", ["check", "rebuild"])
def test_what_needs_the_rings_for_itself_refuses_while_the_recorder_runs(recorded, command):
    (recorded.data_dir / "run").mkdir(exist_ok=True)
    with open(recorded.data_dir / "run" / "box.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = call("ring", command, *recorded.at)
    assert result.exit_code == 1
    assert "is recording into" in result.stderr


def test_ring_dump_prints_every_fragment(recorded):
    lines = call("ring", "dump", *recorded.at, "--camera", "street", "--json").stdout.splitlines()
    fragments = [json.loads(line) for line in lines]
    assert sum(each["pictures"] for each in fragments) == recorded.pictures
    assert {each["stream"] for each in fragments} == {"street/main"}
    assert call("ring", "dump", *recorded.at).stdout.count("fragment") >= 2 * len(fragments)


def test_a_reader_that_goes_away_is_no_error(recorded):
    done = subprocess.run(
        f"{sys.executable} -m nvr ring dump --data {recorded.data_dir} | head -1",
        shell=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.stderr == ""


def test_a_hold_is_kept_until_it_is_released(recorded):
    begin, end = ends(recorded)
    held = told(
        "ring", "hold", *recorded.at, "--camera", "street", "--from", begin, "--to", end, "--reason", "case 4711"
    )
    assert (held["stream"], held["reason"], held["from"]) == ("street/main", "case 4711", begin)
    other = call(
        "ring", "hold", *recorded.at, "--camera", "street", "--from", begin, "--to", end, "--reason", "x"
    ).stdout
    release = shlex.split(other.partition("let it go with: nvr ")[2])  # as somebody copies it from the terminal
    assert call(*release).exit_code == 0
    assert told("ring", "release", *recorded.at)["holds"] == [held]
    assert told("ring", "release", held["id"], *recorded.at) == {"released": held["id"]}
    assert told("ring", "release", *recorded.at)["holds"] == []
    assert call("ring", "release", held["id"], *recorded.at).exit_code == 2


# -- ledger ------------------------------------------------------------------------------------------


def test_the_ledger_accounts_for_every_second(recorded):
    begin, end = ends(recorded)
    streams = told("ledger", *recorded.at, "--from", begin, "--to", end)["streams"]
    assert len(streams) == 2
    for each in streams:
        assert set(each) == {"stream", "total_s", "recorded_s", "missing_s", "by_cause"}
        assert each["recorded_s"] + each["missing_s"] == pytest.approx(each["total_s"])
        assert sum(each["by_cause"].values()) == pytest.approx(each["missing_s"])
    street = next(each for each in streams if each["stream"] == "street/main")
    assert street["recorded_s"] == pytest.approx(recorded.pictures / 25, abs=0.2)


def test_the_ledger_lists_gaps_with_their_causes(recorded):
    begin, _ = ends(recorded)
    early = datetime.fromisoformat(begin).timestamp() - 3600
    from_text = datetime.fromtimestamp(early).astimezone().isoformat()
    street = told("ledger", *recorded.at, "--from", from_text, "--to", begin, "--camera", "street", "--gaps")[
        "streams"
    ][0]
    assert street["missing_s"] == pytest.approx(3600, abs=1)
    assert sum(gap["seconds"] for gap in street["gaps"]) == pytest.approx(street["missing_s"], abs=0.01)
    assert {gap["cause"] for gap in street["gaps"]} == set(street["by_cause"])


def test_the_ledger_as_text_shows_percents_that_add_up_and_each_gap(recorded):
    begin, _ = ends(recorded)
    early = datetime.fromtimestamp(datetime.fromisoformat(begin).timestamp() - 10).astimezone().isoformat()
    result = call("ledger", *recorded.at, "--camera", "street", "--from", early)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith("street/main  20")
    shown = re.findall(r"^  (\w[\w ]*\w) +(\d+\.\d\d) %", result.stdout, re.MULTILINE)
    assert shown[0][0] == "recorded"
    assert sum(round(100 * float(part)) for _, part in shown) == 10_000
    assert any(re.fullmatch(rf"    {ISO.pattern} to {ISO.pattern} .*box off: before .*", line) for line in lines)


def test_a_camera_that_never_sent_anything_is_not_recorded_to_a_hundred_percent(recorded, monkeypatch):
    monkeypatch.setattr("nvr.ledger.ledger", lambda *_, **__: [StreamLedger("street/main", 5, 5, ())])
    result = call("ledger", *recorded.at)
    assert result.exit_code == 0
    assert result.stdout == "street/main  nothing was recorded in this span yet\n"


@given(st.lists(st.integers(0, 10**18), min_size=1, max_size=9))
def test_percents_always_add_up_to_a_hundred(parts):
    assert sum(round(100 * float(part)) for part in percents(parts)) == 10_000


def test_the_ledger_of_a_ring_that_is_gone_says_that_the_disk_failed(recorded):
    shutil.rmtree(recorded.data_dir / "rings" / "street")
    result = call("ledger", *recorded.at, "--json")
    assert "there is no ring of street/main" in result.stderr
    gate, street = json.loads(result.stdout)["streams"]
    assert gate["missing_s"] == pytest.approx(0, abs=0.2)
    assert street["missing_s"] == pytest.approx(street["total_s"])
    assert set(street["by_cause"]) <= {"disk failed", "camera", "box off"}


# -- clip --------------------------------------------------------------------------------------------


def test_a_clip_of_everything_is_genuine_and_holds_every_picture(recorded, tmp_path):
    clip = tmp_path / "clip.mp4"
    report = told("clip", "cut", *recorded.at, "--camera", "street", "-o", clip)
    assert (report["file"], report["pictures"]) == (str(clip), recorded.pictures)
    assert report["bytes"] == clip.stat().st_size
    verdict = told("clip", "verify", clip)
    assert (verdict["genuine"], verdict["camera"], verdict["reasons"]) == (True, "street", [])
    key = told("clip", "key", *recorded.at)["fingerprint"]
    assert told("clip", "verify", clip, "--key", key)["genuine"]


def test_a_clip_says_who_cut_it_and_its_verdict_says_what_else_is_known(recorded, tmp_path):
    clip = tmp_path / "clip.mp4"
    cut = call("clip", "cut", *recorded.at, "--camera", "street", "--by", "petugas jaga, perkara 4711", "-o", clip)
    fingerprint = call("clip", "key", *recorded.at).stdout.strip()
    assert f"signed by {fingerprint}" in cut.stdout
    text = call("clip", "verify", clip).stdout
    assert re.search(r"^  note: signed by key .*not compared", text, re.MULTILINE)
    assert b"petugas jaga, perkara 4711" in clip.read_bytes()


def test_a_clip_with_one_flipped_bit_is_not_genuine(recorded, tmp_path):
    clip = tmp_path / "clip.mp4"
    told("clip", "cut", *recorded.at, "--camera", "street/main", "-o", clip)
    data = bytearray(clip.read_bytes())
    data[len(data) // 2] ^= 1
    clip.write_bytes(data)
    verdict = told("clip", "verify", clip, status=1)
    assert not verdict["genuine"]
    assert verdict["reasons"]
    assert "NOT GENUINE" in call("clip", "verify", clip).stdout


def test_a_clip_is_not_signed_by_somebody_elses_key(recorded, tmp_path):
    clip = tmp_path / "clip.mp4"
    told("clip", "cut", *recorded.at, "--camera", "street", "-o", clip)
    assert not told("clip", "verify", clip, "--key", "00" * 32, status=1)["genuine"]


def test_without_a_key_the_verdict_says_that_it_was_not_compared(recorded, tmp_path):
    """`genuine` alone reads like a proof of which box it was, and anybody can sign with a key of his own."""
    clip = tmp_path / "clip.mp4"
    cut = call("clip", "cut", *recorded.at, "--camera", "street", "-o", clip).stdout
    assert "not compared with the key of any box" in call("clip", "verify", clip).stdout
    key = told("clip", "key", *recorded.at)["fingerprint"]
    assert f'nvr clip verify {clip} --key "{key}"' in cut
    assert "not compared" not in call("clip", "verify", clip, "--key", key).stdout


def test_what_is_no_fingerprint_is_wrong_use_and_no_verdict(recorded, tmp_path):
    clip = tmp_path / "clip.mp4"
    told("clip", "cut", *recorded.at, "--camera", "street", "-o", clip)
    result = call("clip", "verify", clip, "--key", "fc67 b593")
    assert result.exit_code == 2 and "64 hexadecimal digits" in result.stderr


def test_a_clip_of_part_of_the_time_holds_the_seconds_asked_for(recorded, tmp_path):
    begin, _ = ends(recorded)
    second = datetime.fromisoformat(begin).timestamp() + 1.5
    times = [
        "--from",
        datetime.fromtimestamp(second).astimezone().isoformat(),
        "--to",
        datetime.fromtimestamp(second + 1).astimezone().isoformat(),
    ]
    report = told("clip", "cut", *recorded.at, "--camera", "street", *times, "-o", tmp_path / "clip.mp4")
    assert 25 <= report["pictures"] < recorded.pictures
    assert report["from"] <= times[1] or datetime.fromisoformat(report["from"]).timestamp() <= second


def test_a_clip_does_not_overwrite_a_file_unless_told_to(recorded, tmp_path):
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"mine")
    result = call("clip", "cut", *recorded.at, "--camera", "street", "-o", clip)
    assert result.exit_code == 1
    assert clip.read_bytes() == b"mine"
    assert call("clip", "cut", *recorded.at, "--camera", "street", "-o", clip, "--replace").exit_code == 0


def test_a_clip_of_a_time_without_footage_says_so_and_leaves_nothing(recorded, tmp_path):
    clip = tmp_path / "clip.mp4"
    result = call(
        "clip",
        "cut",
        *recorded.at,
        "--camera",
        "street",
        "--from",
        "2001-01-01",
        "--to",
        "2001-01-02",
        "-o",
        clip,
        "--json",
    )
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"]
    assert list(tmp_path.glob("clip*")) == []


# -- wrong use ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nothing"],
        ["ring", "ls"],
        ["ring", "ls", "--site", "/nowhere.yaml"],
        ["ring", "ls", "--data", "/nowhere"],
        ["run"],
        ["run", "--site", "/nowhere.yaml"],
        ["site", "check", "/nowhere.yaml"],
        ["clip", "verify", "/nowhere.mp4"],
        ["clip", "cut", "--data", "/tmp"],
        ["ledger", "--data", "/tmp", "--from", "tomorrow"],
        ["ledger", "--data", "/tmp", "--from", "14:00", "--to", "-100d"],
        ["ring", "dump", "--data", "/tmp", "--camera", "street/large"],
        ["ring", "hold", "--data", "/tmp", "--camera", "street", "--reason", "x"],
    ],
)
def test_wrong_use_is_status_2_with_a_word_on_what_is_right(arguments):
    result = call(*arguments)
    assert result.exit_code == 2
    assert result.stderr or "Usage:" in result.output


@pytest.mark.parametrize(
    "arguments",
    [["ring", "ls"], ["ring", "nosuch"], ["ring", "ls", "--nosuch"], ["clip", "verify", "/no/such/file"], ["run", "--site", "/no/such/file"]],
)  # fmt: skip
def test_wrong_use_with_json_is_said_in_json_too(arguments):
    result = call(*arguments, "--json")
    assert result.exit_code == 2
    found = json.loads(result.stdout)
    assert found["error"] and set(found) == {"error", "hint"}
    assert result.stderr, "and to people as always"


def test_times_in_errors_are_those_of_the_site(recorded):
    found = call(
        "clip",
        "cut",
        *recorded.at,
        "--camera",
        "street",
        "--from",
        "2001-01-01 10:00",
        "--to",
        "2001-01-01 10:01",
    )
    assert found.exit_code == 1
    assert re.search(r"2001-01-01T10:00:00\.000[+-]\d\d:\d\d", found.stderr) and not re.search(
        r"\.\d{9}Z", found.stderr
    )


def test_an_unknown_camera_names_those_that_are_there(recorded):
    result = call("ring", "dump", *recorded.at, "--camera", "door", "--json")
    assert result.exit_code == 2
    assert "gate/main, street/main" in result.stderr


def test_an_error_is_a_message_and_a_hint_and_never_a_traceback(recorded):
    (recorded.data_dir / "holds.json").write_text("{")
    done = program("ring", "release", *recorded.at)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) >= 2
    assert "Traceback" not in done.stderr
    assert "Traceback" in program("--debug", "ring", "release", *recorded.at).stderr


def test_nothing_is_coloured_without_a_terminal(recorded):
    for arguments in (["--help"], ["ring", "ls", *recorded.at], ["ledger", *recorded.at]):
        assert "\x1b" not in program(*arguments).stdout


def test_the_version_is_printed():
    assert re.fullmatch(r"nvr \d+\.\d+\.\d+\n", program("--version").stdout)


# -- site --------------------------------------------------------------------------------------------


def test_site_check_is_silent_about_nothing(tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text(
        "site: a\nbox: b\ntime_zone: UTC\ncameras:\n  gate:\n    main: {source: rtsp, url: 'rtsp://h/x'}\n    ring_gb: 4 TB\n"
    )
    found = told("site", "check", path, status=1)
    assert found["ok"] is False
    assert found["faults"] == [
        {
            "line": 7,
            "key": "cameras.gate.ring_gb",
            "what": "'4 TB' is not a number; the unit stands in the name: GB (1,000,000,000 bytes)",
            "instead": "ring_gb: 4000",
        }
    ]
    text = call("site", "check", path)
    assert text.exit_code == 1
    assert text.stdout.startswith(f"{path}:7: cameras.gate.ring_gb: ")


def test_site_check_says_when_a_box_records_with_an_earlier_text(tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text("site: a\nbox: b\ntime_zone: UTC\nstorage: {path: data}\ncameras: {gate: [torn\n")
    assert told("site", "check", path, status=1)["recorded_before"] is False
    (tmp_path / "data").mkdir()
    site_kept.keep(tmp_path / "data", path, b"the text that recorded")
    assert told("site", "check", path, status=1)["recorded_before"] is True
    assert "NOT IN FORCE" in call("site", "check", path).stdout


def test_site_check_of_a_good_file_is_ok(recorded):
    assert told("site", "check", recorded.site_path)["ok"] is True


def test_site_check_with_a_data_directory_holds_the_budgets_against_the_disk(tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text(
        "site: a\nbox: b\ntime_zone: UTC\ncameras:\n  gate:\n    main: {source: rtsp, url: 'rtsp://h/x'}\n    ring_gb: 90000\n"
    )
    assert told("site", "check", path)["ok"] is True
    found = told("site", "check", path, "--data", tmp_path, status=1)
    assert "GB are wanted" in found["faults"][0]["what"]


# -- web and run -------------------------------------------------------------------------------------


def test_web_link_prints_an_address_that_is_new_each_time(recorded):
    first, second = (told("web", "link", *recorded.at)["link"] for _ in range(2))
    assert first != second
    assert re.match(r"http://[^/]+:8080/", first)
    assert told("web", "link", *recorded.at, "--host", "box.lan")["link"].startswith("http://box.lan:8080/")


def test_run_refuses_a_faulty_site_file_with_every_fault(tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text(
        "site: a\nbox: B\ntime_zone: UTC\ncameras:\n  gate:\n    main: {source: rtsp, url: 'rtsp://h/x'}\n    ring_gb: x\n"
    )
    done = program("run", "--site", path, "--data", tmp_path / "data")
    assert done.returncode == 1
    assert f"{path}:2: box: " in done.stderr
    assert f"{path}:7: cameras.gate.ring_gb: " in done.stderr
    assert not (tmp_path / "data").exists()


def test_run_refuses_budgets_that_do_not_fit_the_disk_with_the_numbers(tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text(
        "site: a\nbox: b\ntime_zone: UTC\ncameras:\n  gate:\n    main: {source: rtsp, url: 'rtsp://h/x'}\n    ring_gb: 90000\n"
    )
    done = program("run", "--site", path, "--data", tmp_path / "data")
    assert done.returncode == 1
    assert re.search(r"99\d\d\d\S* GB are wanted, \S+ GB are there", done.stderr)
    assert not (tmp_path / "data" / "rings").exists()


def test_run_says_that_its_port_is_taken_and_prints_no_link_to_somebody_elses_page(recorded_once, tmp_path):
    text = recorded_once.site_path.read_text().replace("speed: max", "loop: true")
    path = tmp_path / "site.yaml"
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", 0))
        somebody.listen()
        path.write_text(f"{text}web: {{port: {somebody.getsockname()[1]}, listen: 127.0.0.1}}\n")
        process = subprocess.Popen(
            [sys.executable, "-m", "nvr", "run", "--site", str(path), "--data", str(tmp_path / "data")],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert "cannot listen on 127.0.0.1" in line and "enter#" not in line
        finally:
            process.send_signal(signal.SIGTERM)
            rest, _ = process.communicate(timeout=30)
    assert "enter#" not in rest and process.returncode == 0


def test_run_prints_a_one_time_link_and_stops_cleanly_when_asked(recorded_once, tmp_path):
    pytest.importorskip("starlette")
    text = recorded_once.site_path.read_text().replace("speed: max", "loop: true")
    path = tmp_path / "site.yaml"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path.write_text(f"{text}web: {{port: {port}, listen: 127.0.0.1}}\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "nvr", "run", "--site", str(path), "--data", str(tmp_path / "data")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert re.search(rf"http://127\.0\.0\.1:{port}/enter#\S{{20,}}", line), line
        until_s = time.monotonic() + 30
        while "recording 2 of 2 streams" not in line and time.monotonic() < until_s:
            line = process.stdout.readline()
        assert "recording 2 of 2 streams" in line
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 0
    assert Path(tmp_path / "data" / "rings" / "street" / "main" / "index").exists()
    assert told("ring", "check", "--data", tmp_path / "data")["faults"] == []
