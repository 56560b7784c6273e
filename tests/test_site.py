"""The site file is taken as a whole, and what is wrong in it is told with its line and what to write instead."""

from __future__ import annotations

import dataclasses
import inspect
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr import site, site_yaml
from nvr.errors import NvrError
from nvr.site_budget import BudgetTooLarge, budget

SECRET = "geheim-4711"

COMPLETE = f"""\
site: puskesmas-waihaong
time_zone: Asia/Jayapura
box: waihaong-1
storage:
  path: /data/rings
  loss_bound_s: 5
hub:
  url: https://hub.example.org
  code: 7F3K-QM2P-XW9D
cameras:
  entrance:
    place: puskesmas-waihaong
    template: service-office
    main:  {{source: rtsp, url: "rtsp://10.0.0.11/main", user: viewer, password: {SECRET}}}
    small: {{source: rtsp, url: "rtsp://10.0.0.11/sub"}}
    ring_gb: 40
    keep_days: 30
    zones:
      counter: [[0.10, 0.20], [0.60, 0.20], [0.60, 0.90], [0.10, 0.90]]
    hours: {{mon-thu: "08:00-14:00", fri: "08:00-11:00", sat: "08:00-12:30"}}
    rules:
      service_open: {{zone: counter}}
      queue: {{zone: counter, alert_above: 8, for_s: 300}}
  street:
    place: simpang-mardika
    template: traffic
    main: {{source: replay, file: clip.mp4, loop: true, speed: 1.0}}
    ring_gb: 20
    zones:
      inbound: [[0.0, 0.4], [1.0, 0.4], [1.0, 1.0], [0.0, 1.0]]
    lines:
      stop: {{from: [0.0, 0.7], to: [1.0, 0.7]}}
    rules:
      line_crossing: {{line: stop}}
      congestion: {{zone: inbound}}
      stopped_vehicle: {{zone: inbound, after_s: 15}}
"""

SMALLEST = """\
site: a
box: b
time_zone: UTC
cameras:
  gate:
    main: {source: rtsp, url: "rtsp://10.0.0.1/x"}
    ring_gb: 1
"""


def read(text: str, folder: Path = Path("/nowhere")) -> site.Checked:
    return site.check_text(text.encode(), folder / "site.yaml")


def good(text: str, folder: Path = Path("/nowhere")) -> site.Site:
    checked = read(text, folder)
    assert checked.faults == ()
    assert checked.site is not None
    return checked.site


def only_fault(text: str) -> site.Fault:
    checked = read(text)
    assert checked.site is None
    assert len(checked.faults) == 1, checked.faults
    return checked.faults[0]


def gate(lines: str) -> str:
    """The smallest site file with more lines for its camera; they begin at line 8."""
    return SMALLEST + "".join(f"    {line}\n" for line in lines.splitlines())


# -- what is good ------------------------------------------------------------------------------------


def test_the_complete_example_is_taken_as_it_stands():
    found = good(COMPLETE)
    assert (found.name, found.box, found.time_zone.key) == ("puskesmas-waihaong", "waihaong-1", "Asia/Jayapura")
    entrance, street = found.cameras
    assert entrance.main == site.RtspSource("rtsp://10.0.0.11/main", "viewer", SECRET)
    assert entrance.ring_bytes == 40_000_000_000
    assert entrance.keep_days == 30
    assert street.main == site.ReplaySource("/nowhere/clip.mp4", loop=True, speed=1.0)
    assert street.lines[0].end == (1.0, 0.7)
    assert dict(street.rules[2].settings) == {"zone": "inbound", "after_s": 15, "red_light_s": 0}
    assert found.hub is not None
    assert found.hub.code == "7F3K-QM2P-XW9D"
    assert [stream.name for stream in found.recorded_streams()] == ["entrance/main", "street/main"]


def test_everything_but_cameras_and_names_has_a_default():
    found = good(SMALLEST)
    assert found.storage.loss_bound_s == 5
    assert (found.web.listen, found.web.port) == ("0.0.0.0", 8080)
    assert found.hub is None
    camera = found.cameras[0]
    assert (camera.place, camera.stall_s, camera.evidence, camera.keep_days) == ("a", 10, True, None)


def test_the_small_stream_is_recorded_when_it_has_a_ring_of_its_own():
    text = gate('small: {source: rtsp, url: "rtsp://10.0.0.1/y"}\nsmall_ring_gb: 0.5')
    streams = good(text).recorded_streams()
    assert [(stream.name, stream.ring_bytes) for stream in streams] == [
        ("gate/main", 1_000_000_000),
        ("gate/small", 500_000_000),
    ]


def test_two_streams_of_one_camera_share_their_login_but_two_hosts_do_not():
    entrance = good(COMPLETE).cameras[0]
    assert isinstance(entrance.small, site.RtspSource)
    assert (entrance.small.user, entrance.small.password) == ("viewer", SECRET)
    elsewhere = good(COMPLETE.replace("10.0.0.11/sub", "10.0.0.12/sub")).cameras[0]
    assert isinstance(elsewhere.small, site.RtspSource)
    assert elsewhere.small.password == ""


def test_user_and_password_are_taken_out_of_an_address():
    text = SMALLEST.replace("rtsp://10.0.0.1/x", "rtsp://us%40er:p%2Fw:x@10.0.0.1:554/x?y=1")
    assert good(text).cameras[0].main == site.RtspSource("rtsp://10.0.0.1:554/x?y=1", "us@er", "p/w:x")


@pytest.mark.parametrize("written", ["0123", "yes", "1e3", "12:30", "0x10", '"~"', "'#hash'", "pa:ss"])
def test_a_password_stays_as_it_was_written(written):
    text = SMALLEST.replace('/x"}', f'/x", user: u, password: {written}}}')
    source = good(text).cameras[0].main
    assert isinstance(source, site.RtspSource)
    assert source.password == written.strip("\"'")


def test_speed_max_is_as_fast_as_it_goes():
    text = SMALLEST.replace('source: rtsp, url: "rtsp://10.0.0.1/x"', "source: replay, file: /a.mp4, speed: max")
    source = good(text).cameras[0].main
    assert isinstance(source, site.ReplaySource)
    assert source.speed == math.inf


def test_a_relative_replay_file_lies_beside_the_site_file(tmp_path):
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "clip.mp4").touch()
    text = SMALLEST.replace('source: rtsp, url: "rtsp://10.0.0.1/x"', "source: replay, file: films/clip.mp4")
    checked = read(text, tmp_path)
    assert checked.warnings == ()
    assert checked.site is not None
    assert checked.site.cameras[0].main.file == str(tmp_path / "films" / "clip.mp4")


def test_a_template_gives_what_the_camera_does_not_say():
    text = """\
site: a
box: b
time_zone: UTC
templates:
  counter: {ring_gb: 7, keep_days: 3, rules: {queue: {zone: desk}}}
cameras:
  one: &one
    template: counter
    main: {source: rtsp, url: "rtsp://10.0.0.1/x"}
    ring_gb: 9
    zones: {desk: [[0, 0], [1, 0], [1, 1]]}
"""
    camera = good(text).cameras[0]
    assert (camera.ring_bytes, camera.keep_days) == (9_000_000_000, 3)
    assert camera.rules[0].settings["zone"] == "desk"


def test_hours_are_minutes_of_each_day_in_order():
    text = gate('hours: {fri-sun: "13:00-16:00", mon: "08:00-12:00, 13:00-24:00", tue: closed}')
    hours = [(time.day, time.from_min, time.to_min) for time in good(text).cameras[0].hours]
    assert hours == [(0, 480, 720), (0, 780, 1440), (4, 780, 960), (5, 780, 960), (6, 780, 960)]


def test_a_polygon_closed_by_its_first_corner_is_the_same_polygon():
    text = gate("zones: {a: [[0, 0], [1, 0], [1, 1], [0, 0]]}")
    assert good(text).cameras[0].zones[0].corners == ((0, 0), (1, 0), (1, 1))


# -- what is wrong -----------------------------------------------------------------------------------


def test_every_fault_is_told_at_once_in_the_order_of_the_file():
    text = (
        COMPLETE.replace("box:", "boxx:")
        .replace("ring_gb: 40", "ring_gb: 40 GB")
        .replace("loss_bound_s: 5", "loss_bound_s: 500")
    )
    faults = read(text).faults
    assert [(fault.line, fault.key) for fault in faults] == [
        (3, "boxx"),
        (6, "storage.loss_bound_s"),
        (16, "cameras.entrance.ring_gb"),
    ]
    assert faults[2].instead == "ring_gb: 40"


@pytest.mark.parametrize(
    ("line", "key", "instead"),
    [
        ("ring_size_mb: 500", "ring_size_mb", ""),
        ("keep_day: 3", "keep_day", "keep_days: 3"),
        ("retention: 3", "retention", "keep_days: (did you mean this?)"),
        ("stall_ms: 5000", "stall_ms", "stall_s: 5"),
        ("stall: 5", "stall", "stall_s: 5"),
        ("stall_min: 2", "stall_min", "stall_s: 120"),
        ("stall_s: 90 s", "stall_s", "stall_s: 90"),
        ("stall_s: 1m", "stall_s", "stall_s: 60"),
        ("keep_days: 2 weeks", "keep_days", "keep_days: 14"),
        ("keep_days: 2,5", "keep_days", "keep_days: 2.5"),
        ("keep_days: .nan", "keep_days", "Write a number from 0.04 to 3660."),
        ("keep_days: .inf", "keep_days", "Write a number from 0.04 to 3660."),
        ("keep_days: -3", "keep_days", "keep_days: 0.04"),
        ("keep_days: [3]", "keep_days", ""),
        ("keep_days:", "keep_days", "Give it one, or take the key out."),
        ("evidence: maybe", "evidence", "evidence: true"),
        ("port: 8080", "port", "Move it to web.port."),
        ("loss_bound_s: 3", "loss_bound_s", "Move it to storage.loss_bound_s."),
        ("url: rtsp://x/", "url", "Move it to cameras.NAME.main.url."),
        ("ring_gb: 2", "ring_gb", "Take one of them out."),
        ("small_ring_gb: 2", "small_ring_gb", "Add `small:`, or take this out."),
        ("template: trafic", "template", "template: traffic"),
        ("<<: {a: 1}", "<<", "Put what cameras share under `templates:` and name it with `template:`."),
        ("zones: {a: [[0, 0], [1, 1]]}", "zones.a", "[[0.1, 0.2], [0.6, 0.2], [0.6, 0.9]]"),
        ("zones: {a: [[0, 0], [1, 1], [1, 0], [0, 1]]}", "zones.a", "Give the corners in order, around the zone."),
        ("zones: {a: [[0, 0], [1, 0], [0.5, 0], [0.5, 1]]}", "zones.a", "Give the corners in order, around the zone."),
        ("zones: {a: [[0, 0], [0.5, 0], [1, 0]]}", "zones.a", "Move its corners apart."),
        ("zones: {a: [[0, 0], [1, 0], [1, 1], [1, 0]]}", "zones.a", "Take one of them out."),
        ("zones: {a: [[0, 0], [1, 0], [1, 1.2]]}", "zones.a", "Fractions of width and height, from 0 to 1."),
        ("zones: {a: [[640, 360], [0, 0], [9, 9]]}", "zones.a", "Divide x by the width and y by the height: fractions from 0 to 1."),
        ("zones: {a: 7}", "zones.a", "[[0.1, 0.2], [0.6, 0.2], [0.6, 0.9]]"),
        ("zones: {A b: [[0, 0], [1, 0], [1, 1]]}", "zones.A b", "a-b"),
        ("lines: {a: {from: [0, 0], to: [0, 0]}}", "lines.a", "Move its ends apart."),
        ("lines: {a: {from: [0, 0]}}", "lines.a", "{from: [0.0, 0.7], to: [1.0, 0.7]}"),
        ('hours: {mon: "14:00-08:00"}', "hours.mon", None),
        ('hours: {mon: "08:00-12:00, 11:00-13:00"}', "hours.mon", "Join them, or put the earlier first."),
        ('hours: {mon-wed: "08:00-12:00", tue: closed}', "hours.tue", None),
        ('hours: {monday: "08:00-12:00"}', "hours.monday", "mon"),
        ('hours: {mon: "25:00-26:00"}', "hours.mon", '"08:00-14:00"'),
        ("hours: {mon: 8}", "hours.mon", '"08:00-12:00, 13:00-16:00", or closed'),
        ("rules: {queu: {zone: a}}", "rules.queu", "queue:"),
        ("rules: {queue: 3}", "rules.queue", "queue: {zone: counter}"),
        ("rules: {queue: {}}", "rules.queue.zone", None),
        ("rules: {queue: {zone: nowhere}}", "rules.queue.zone", "Add it under `zones:`."),
        ("rules: {line_crossing: {line: x}}", "rules.line_crossing.line", "Add it under `lines:`."),
        ("rules: {tamper: {}, tamper: {}}", "rules.tamper", "Take one of them out."),
    ],
)  # fmt: skip
def test_a_fault_names_its_line_its_key_and_what_to_write_instead(line, key, instead):
    fault = only_fault(gate(line))
    assert (fault.line, fault.key) == (8, f"cameras.gate.{key}")
    if instead:
        assert fault.instead == instead


def test_a_rule_that_needs_opening_hours_says_so():
    text = gate("zones: {desk: [[0, 0], [1, 0], [1, 1]]}\nrules: {service_open: {zone: desk}}")
    assert only_fault(text).instead == 'hours: {mon-fri: "08:00-14:00"}'


def test_a_rule_of_a_template_is_held_against_the_zones_of_each_camera():
    text = (
        SMALLEST.replace("cameras:", "templates: {t: {rules: {queue: {zone: desk}}}}\ncameras:") + "    template: t\n"
    )
    fault = only_fault(text)
    assert fault.line == 4
    assert fault.what == "camera gate has no zone 'desk'"


def test_a_zone_outside_the_picture_is_told_once_and_not_again_by_the_rules_that_name_it():
    text = gate("zones: {desk: [[0, 0], [1.5, 0], [1, 1]]}\nrules: {queue: {zone: desk}, crowd: {zone: desk}}")
    assert only_fault(text).what == "'1.5' makes no sense: a number from 0 to 1 is possible"


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ("gate", "stands here a second time; the first is in line 5"),
        ("ga-te", "can be mistaken for the camera 'gate'"),
        ("Gate", "'Gate' cannot be a name: lower-case letters, digits, - and _, at most 40 characters"),
        ("../x", "'../x' cannot be a name: lower-case letters, digits, - and _, at most 40 characters"),
    ],
)
def test_names_that_overlap_or_are_none_are_refused(other, what):
    text = f'{SMALLEST}  {other}:\n    main: {{source: rtsp, url: "rtsp://10.0.0.2/x"}}\n    ring_gb: 1\n'
    fault = only_fault(text)
    assert (fault.line, fault.what) == (8, what)


def test_a_zone_and_a_line_of_one_name_are_refused():
    text = gate("zones: {a: [[0, 0], [1, 0], [1, 1]]}\nlines: {a: {from: [0, 0], to: [1, 1]}}")
    assert only_fault(text).what == "a zone of this camera has the same name"


def test_two_cameras_at_one_address_are_a_warning():
    text = SMALLEST + '  door:\n    main: {source: rtsp, url: "rtsp://10.0.0.1/x"}\n    ring_gb: 1\n'
    checked = read(text)
    assert checked.site is not None
    assert [(warning.line, warning.what) for warning in checked.warnings] == [
        (9, "cameras.gate.main records the same address")
    ]


def test_two_cameras_at_one_usb_port_are_a_fault():
    text = SMALLEST.replace('source: rtsp, url: "rtsp://10.0.0.1/x"', "source: usb, device: /dev/video0")
    text += "  door:\n    main: {source: usb, device: /dev/video0}\n    ring_gb: 1\n"
    assert only_fault(text).what == "cameras.gate.main uses the same device, and only one can have it"


RIBBON = SMALLEST.replace('source: rtsp, url: "rtsp://10.0.0.1/x"', "source: picamera, size: 1280x720")


def test_main_and_small_of_a_ribbon_camera_are_one_sensor():
    camera = good(RIBBON + "    small: {source: picamera, size: 640x360, rate_mbit: 0.3}\n").cameras[0]
    assert isinstance(camera.main, site.PiCameraSource)
    assert (camera.main.small_size, camera.main.small_rate_mbit) == ((640, 360), 0.3)
    assert camera.small == site.PiCameraSmallSource(0)


@pytest.mark.parametrize(
    ("small", "key", "what"),
    [
        ("size: 1920x1080", "small.size", "1920x1080 is larger than main, which has 1280x720"),
        ("size: 640x360, fps: 5", "small.fps", "the sensor gives main 25 pictures a second, and so small"),
    ],
)
def test_a_small_stream_that_its_sensor_cannot_give_is_a_fault(small, key, what):
    fault = only_fault(RIBBON + f"    small: {{source: picamera, {small}}}\n")
    assert (fault.key, fault.what) == (f"cameras.gate.{key}", what)


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1/x",
        "10.0.0.1/x",
        "rtsp:///x",
        "rtsp://h:99999/x",
        "rtsp://h:0/x",
        f"rtsp://u:{SECRET}/x@10.0.0.1/x",
        f"rtsp://u:{SECRET}#x@10.0.0.1/x",
        f"http://u:{SECRET}@10.0.0.1/x",
        f"rtsp://u:{SECRET} x@10.0.0.1/x",
        "rtsp://[::1/x",
    ],
)
def test_an_address_that_cannot_be_dialled_is_refused_without_showing_it(url):
    fault = only_fault(SMALLEST.replace("rtsp://10.0.0.1/x", url))
    assert fault.key == "cameras.gate.main.url"
    assert SECRET not in f"{fault.what} {fault.instead}"


@pytest.mark.parametrize(
    "change",
    [
        ("user: viewer, ", ""),
        ("password", "pasword"),
        ("rtsp://10.0.0.11/main", f"rtsp://x:{SECRET}@10.0.0.11/main"),
        (SECRET, f'"{SECRET}\\x01"'),
        (f"password: {SECRET}", f"password: {{a: {SECRET}}}"),
        ("source: rtsp", "source: usb"),
        ("rtsp://10.0.0.11/main", f"rtsp://{SECRET}@/"),
    ],
)
def test_no_fault_shows_a_password(change):
    checked = read(COMPLETE.replace(*change, 1))
    assert checked.faults
    assert SECRET not in str(checked)


def test_no_setting_shows_a_password_or_a_code():
    found = good(COMPLETE)
    assert SECRET not in repr(found)
    assert "7F3K" not in repr(found)


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("", 1, "the file is empty"),
        ("# nothing\n", 1, "the file is empty"),
        ("- a\n", 1, "a site file is a group of keys"),
        ("site: a\n\tbox: b\n", 2, "the line is indented with a tab"),
        ("site: a: b\n", 1, "a value holds `: ` or this line is indented too far"),
        ("site: a\nbox: [1, 2\n", 3, "not YAML: expected ',' or ']', but got '<stream end>'"),
        ("site: *nobody\n", 1, "not YAML: found undefined alias 'nobody'"),
        ("[" * 5000, 1, "nested too deeply to be a site file"),
        ("a: 1\n---\nb: 1\n", 2, "not YAML: but found another document"),
    ],
)
def test_what_is_no_yaml_is_told_with_its_line(text, line, what):
    fault = read(text).faults[0]
    assert (fault.line, fault.what) == (line, what)


def test_an_alias_that_holds_itself_ends():
    assert read("site: a\ncameras: &x\n  gate: *x\n").faults


@given(st.binary(max_size=300))
def test_any_bytes_give_a_site_or_faults(data):
    checked = site.check_text(data, Path("/nowhere/site.yaml"))
    assert (checked.site is None) == bool(checked.faults)


@given(
    st.integers(0, len(COMPLETE) - 1),
    st.integers(0, 40),
    st.sampled_from(["", "[", "{", ":", "-", "\t", "&a", "*a", "!!python/none", "0", "é"]),
)
def test_any_damage_to_a_good_file_gives_a_site_or_faults(place, length, inserted):
    text = COMPLETE[:place] + inserted + COMPLETE[place + length :]
    checked = read(text)
    assert (checked.site is None) == bool(checked.faults)
    assert all(1 <= fault.line <= text.count("\n") + 1 for fault in checked.faults)


# Nothing that YAML can say is left out: anchors and aliases, merges, tags, several documents, keys twice, odd scalars, depth.
_SCALARS = st.one_of(
    st.sampled_from(["", "~", "null", "yes", "0x1f", "1e999", ".nan", "-.inf", "1_000", "2026-11-25", "12:30:00", "!!binary aGk=", "!!python/none ''",
                     "&a x", "*a", "<<", "'", '"', "|", ">", "? x", "- x", "{", "[", "@x", "%x", "\t", "\u2028", "\ufeff"]),
    st.sampled_from(sorted({word.strip(" :-{}[],") for word in COMPLETE.split()} - {""})),
    st.text(max_size=8), st.integers().map(str), st.floats().map(str),
)  # fmt: skip
_TREES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5).map(lambda parts: "[" + ", ".join(parts) + "]"),
        st.lists(st.tuples(_SCALARS, inner), max_size=5).map(
            lambda pairs: "{" + ", ".join(f"{key}: {value}" for key, value in pairs) + "}"
        ),
    ),
    max_leaves=40,
)
_LINES = st.lists(st.tuples(st.integers(0, 4), _SCALARS, _TREES), max_size=20).map(
    lambda lines: "\n".join(f"{'  ' * depth}{key}: {value}" for depth, key, value in lines)
)


@given(
    st.one_of(
        _LINES, _LINES.map(lambda text: f"{COMPLETE}\n{text}"), _LINES.map(lambda text: f"{text}\n---\n{COMPLETE}")
    )
)
def test_any_yaml_gives_a_site_or_faults_with_their_place(text):
    try:
        data = text.encode()
    except UnicodeEncodeError:
        data = text.encode("utf-8", "surrogatepass")
    checked = site.check_text(data, Path("/nowhere/site.yaml"))
    assert (checked.site is None) == bool(checked.faults)
    lines = len(text.splitlines()) + 1
    assert all(1 <= fault.line <= lines and fault.what for fault in (*checked.faults, *checked.warnings))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a: &a [x, x]\n" + "".join(f"k{n}: &k{n} [*{'a' if n == 0 else f'k{n - 1}'}, *{'a' if n == 0 else f'k{n - 1}'}]\n" for n in range(40)), id="aliases that double forty times"),
        pytest.param("[" * 5000, id="brackets five thousand deep"),
        pytest.param("".join(f"{' ' * n}a:\n" for n in range(1200)), id="keys ever deeper"),
        pytest.param("site: " + "9" * 500_000, id="a number of half a million digits"),
        pytest.param("cameras: {" + ", ".join(f"c{n}: {{}}" for n in range(20_000)) + "}", id="twenty thousand cameras"),
        pytest.param("a: &a\n  <<: *a\n", id="a mapping that contains itself"),
        pytest.param("site: '" + "\n" * 300_000, id="a text without an end"),
    ],
)  # fmt: skip
def test_what_is_made_to_take_for_ever_ends_within_bounds_of_time_and_memory(text, tmp_path):
    """A hub may send a site file, and a card may carry one. The bounds are the kernel's, in processor seconds: a busy machine changes nothing."""
    path = tmp_path / "site.yaml"
    path.write_text(text)
    code = (
        "import resource, sys\nfrom nvr import site\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (20, 20))\nresource.setrlimit(resource.RLIMIT_DATA, (400 << 20, 400 << 20))\n"
        "checked = site.check(sys.argv[1])\n"
        "assert checked.faults and all(fault.line >= 1 and fault.what for fault in checked.faults)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.returncode}: {done.stderr[-2000:]}"


def test_a_file_that_is_not_there_is_an_error_with_a_hint(tmp_path):
    with pytest.raises(NvrError) as raised:
        site.load(tmp_path / "none.yaml")
    assert raised.value.hint


def test_loading_a_faulty_file_tells_every_fault_with_its_place(tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text(SMALLEST.replace("ring_gb: 1", "ring_gb: none").replace("box: b", "box: B b"))
    with pytest.raises(site.SiteFaulty) as raised:
        site.load(path)
    assert str(raised.value).splitlines()[0].startswith(f"{path}:2: box: ")
    assert str(raised.value).splitlines()[1].startswith(f"{path}:7: cameras.gate.ring_gb: ")


def test_a_file_with_passwords_that_everybody_can_read_is_a_warning(tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text(COMPLETE)
    path.chmod(0o644)
    assert any(warning.instead == f"chmod 640 {path}" for warning in site.check(path).warnings)
    path.chmod(0o640)
    assert not any("chmod" in warning.instead for warning in site.check(path).warnings)


# -- budgets -----------------------------------------------------------------------------------------


def test_budgets_larger_than_the_disk_are_refused_with_the_numbers(tmp_path):
    found = good(SMALLEST.replace("ring_gb: 1", "ring_gb: 90000"))
    with pytest.raises(BudgetTooLarge) as raised:
        site.check_budgets(found, tmp_path)
    assert "99352.53 GB are wanted" in str(raised.value)  # the ring with its index, a tenth for holds, a reserve of 1
    assert "gate/main 90000" in str(raised.value)
    assert "off the budgets" in raised.value.hint


def test_what_a_ring_occupies_already_counts_as_there(tmp_path):
    ring = tmp_path / "rings" / "gate" / "main"
    ring.mkdir(parents=True)
    fd = os.open(ring / "000000.mp4", os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(fd, 0, 8 << 20)
    os.close(fd)
    found = budget(good(SMALLEST), tmp_path)
    assert 8 << 20 <= found.occupied < 9 << 20
    assert found.orphans == ()


def test_a_ring_that_the_site_file_does_not_name_is_not_counted_as_room(tmp_path):
    ring = tmp_path / "rings" / "old" / "main"
    ring.mkdir(parents=True)
    (ring / "000000.mp4").write_bytes(b"x" * 100_000)
    found = budget(good(SMALLEST), tmp_path)
    assert found.occupied == 0
    assert [name for name, _ in found.orphans] == ["old/main"]


def test_a_data_directory_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NvrError) as raised:
        site.check_budgets(good(SMALLEST), tmp_path / "file" / "data")
    assert raised.value.hint


def test_every_source_takes_what_the_site_file_says_of_it():
    """A key that the site file has and the source does not would stop a box at its start."""
    from nvr.source.picamera import PiCamera, PiCameraSmall
    from nvr.source.replay import Replay
    from nvr.source.rtsp import Rtsp
    from nvr.source.usb import Usb

    for settings, source in (
        (site.RtspSource, Rtsp),
        (site.ReplaySource, Replay),
        (site.UsbSource, Usb),
        (site.PiCameraSource, PiCamera),
        (site.PiCameraSmallSource, PiCameraSmall),
    ):
        said = {field.name for field in dataclasses.fields(settings)} - {"kind", "file"}
        assert said <= set(inspect.signature(source).parameters), settings


def test_a_file_with_ever_so_many_faults_is_judged_in_a_time_that_grows_with_its_length(monkeypatch):
    compared = 0
    equal = site_yaml.Fault.__eq__

    def counting(self: object, other: object) -> bool:
        nonlocal compared
        compared += 1
        return equal(self, other)  # type: ignore[arg-type]

    monkeypatch.setattr(site_yaml.Fault, "__eq__", counting)
    checked = site.check_text(b"nonsense: 1\n" * 2000, Path("site.yaml"))
    assert len(checked.faults) > 2000
    assert compared < 100_000
