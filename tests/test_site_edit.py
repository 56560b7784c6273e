"""Drawing on the page changes a site file as a careful person would: here and there a line, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr import site_edit
from nvr.site import SiteFaulty, check_text
from nvr.site_edit import CannotEdit, ChangedMeanwhile, Drawing, Drawn, changed, save, version_of

PATH = Path("/etc/nvr/site.yaml")
SITE = """\
# Puskesmas Waihaong, second floor
site: waihaong
box: waihaong-1
time_zone: Asia/Jayapura   # WIT
cameras:
  hall:  # above the door
    main: {source: rtsp, url: "rtsp://10.0.0.11/main", user: admin, password: "pa#ss: 0123"}
    ring_gb: 40   # two weeks
    hours: {mon-thu: "08:00-14:00"}
    zones:
      # where patients stand
      counter: [[0.1, 0.2], [0.6, 0.2], [0.6, 0.9]]  # measured by Ina
      door:
        - [0.7, 0.2]
        - [0.9, 0.2]  # the hinge
        - [0.9, 0.8]
    lines:
      entry: {from: [0.0, 0.7], to: [1.0, 0.7]}
    rules:
      service_open: {zone: counter}
      queue: [{zone: counter, alert_above: 8}, {zone: door}]
      line_crossing: {line: entry}
  yard: {main: {source: rtsp, url: "rtsp://10.0.0.12/main"}, ring_gb: 4}
  gate:
    main: {source: rtsp, url: "rtsp://10.0.0.13/main"}
    ring_gb: 4
# the end
"""
HALL = Drawing(
    (
        Drawn("counter", ((0.1, 0.2), (0.6, 0.2), (0.6, 0.9)), "counter"),
        Drawn("door", ((0.7, 0.2), (0.9, 0.2), (0.9, 0.8)), "door"),
    ),
    (),
    (Drawn("entry", ((0.0, 0.7), (1.0, 0.7)), "entry"),),
)
SQUARE = ((0.2, 0.2), (0.4, 0.2), (0.4, 0.45678), (0.2, 0.4))


def change(camera: str, drawing: Drawing, text: str = SITE) -> str:
    return changed(text.encode(), PATH, camera, drawing).decode()


def difference(old: str, new: str) -> tuple[list[str], list[str]]:
    """Lines that went and lines that came."""
    before, after = old.splitlines(), new.splitlines()
    return [line for line in before if line not in after], [line for line in after if line not in before]


def test_what_nobody_moved_stays_to_the_letter():
    assert change("hall", HALL) == SITE


def test_a_moved_corner_changes_one_line_and_keeps_its_comment():
    counter = Drawn("counter", ((0.1, 0.25), (0.6, 0.2), (0.6, 0.9)), "counter")
    new = change("hall", Drawing((counter, HALL.zones[1]), (), HALL.lines))
    assert difference(SITE, new) == (
        ["      counter: [[0.1, 0.2], [0.6, 0.2], [0.6, 0.9]]  # measured by Ina"],
        ["      counter: [[0.1, 0.25], [0.6, 0.2], [0.6, 0.9]]  # measured by Ina"],
    )


def test_corners_written_one_a_line_become_one_line_when_they_move():
    door = Drawn("door", ((0.7, 0.2), (0.95, 0.2), (0.9, 0.8)), "door")
    new = change("hall", Drawing((HALL.zones[0], door), (), HALL.lines))
    assert "      door: [[0.7, 0.2], [0.95, 0.2], [0.9, 0.8]]\n    lines:\n" in new


def test_a_renamed_zone_is_renamed_in_the_rules_of_its_camera():
    desk = Drawn("desk", HALL.zones[0].points, "counter")
    new = change("hall", Drawing((desk, HALL.zones[1]), (), HALL.lines))
    assert "desk: [[0.1, 0.2], [0.6, 0.2], [0.6, 0.9]]  # measured by Ina" in new
    assert "service_open: {zone: desk}" in new
    assert "queue: [{zone: desk, alert_above: 8}, {zone: door}]" in new


def test_a_zone_that_a_rule_needs_cannot_be_taken_away():
    with pytest.raises(SiteFaulty) as refused:
        change("hall", Drawing((HALL.zones[0],), (), HALL.lines))
    assert any("no zone 'door'" in fault.what for fault in refused.value.faults)


def test_new_zones_masks_and_lines_are_added_to_each_way_of_writing():
    drawing = Drawing(
        (*HALL.zones, Drawn("bench", SQUARE)),
        (Drawn("screen", SQUARE),),
        (*HALL.lines, Drawn("exit", ((0.5, 0.1), (0.5, 0.9)))),
    )
    new = change("hall", drawing)
    gone, came = difference(SITE, new)
    assert gone == []
    assert came == [
        "      bench: [[0.2, 0.2], [0.4, 0.2], [0.4, 0.4568], [0.2, 0.4]]",
        "      exit: {from: [0.5, 0.1], to: [0.5, 0.9]}",
        "    masks:",
        "      screen: [[0.2, 0.2], [0.4, 0.2], [0.4, 0.4568], [0.2, 0.4]]",
    ]
    for camera in ("yard", "gate"):
        fresh = change(camera, Drawing((Drawn("lane", SQUARE),), (), (Drawn("stop", ((0, 0.5), (1, 0.5))),)))
        site = check_text(fresh.encode(), PATH).site
        assert site is not None
        found = next(each for each in site.cameras if each.name == camera)
        assert [zone.name for zone in found.zones] == ["lane"]
        assert [line.name for line in found.lines] == ["stop"]
        assert fresh.endswith("# the end\n")


def test_everything_can_be_taken_away_again():
    text = change("gate", Drawing((Drawn("lane", SQUARE), Drawn("walk", SQUARE)), (), ()))
    without_one = change("gate", Drawing((Drawn("walk", SQUARE, "walk"),), (), ()), text)
    assert "lane" not in without_one
    empty = change("gate", Drawing((), (), ()), without_one)
    assert "    zones: {}\n" in empty
    again = change("gate", Drawing((Drawn("lane", SQUARE),), (), ()), empty)
    assert "zones: {lane: [[0.2, 0.2]" in again


def test_a_zone_replaced_by_one_of_another_name_goes_where_it_was():
    text = change("gate", Drawing((Drawn("lane", SQUARE),), (), ()))
    new = change("gate", Drawing((Drawn("other", SQUARE),), (), ()), text)
    assert "zones:\n      other: [[" in new
    assert "lane" not in new


def test_zones_of_a_template_become_the_cameras_own_when_they_change():
    text = SITE.replace(
        "cameras:\n", "templates:\n  alike:\n    zones: {bay: [[0, 0], [1, 0], [1, 1]]}\ncameras:\n"
    ).replace("  gate:\n", "  gate:\n    template: alike\n")
    assert change("gate", Drawing((Drawn("bay", ((0, 0), (1, 0), (1, 1)), "bay"),), (), ()), text) == text
    moved = change("gate", Drawing((Drawn("bay", ((0, 0), (1, 0), (1, 0.5)), "bay"),), (), ()), text)
    assert "    zones: {bay: [[0, 0], [1, 0], [1, 1]]}\n" in moved
    assert "    zones:\n      bay: [[0, 0], [1, 0], [1, 0.5]]\n" in moved


def test_windows_line_ends_and_a_missing_last_one_stay():
    text = SITE.replace("\n", "\r\n").removesuffix("# the end\r\n").removesuffix("\r\n")
    new = change("gate", Drawing((Drawn("lane", SQUARE),), (), ()), text)
    assert new.count("\n") == new.count("\r\n")
    assert new.startswith(text)


def test_zones_that_are_an_alias_are_left_to_a_person():
    text = SITE.replace("    zones:\n", "    zones: &places\n").replace("  gate:\n", "  gate:\n    zones: *places\n")
    with pytest.raises(CannotEdit, match="alias"):
        change("gate", Drawing((Drawn("lane", SQUARE),), (), ()), text)


@pytest.mark.parametrize(
    ("points", "what"),
    [
        (((0.1, 0.1), (0.9, 0.9), (0.9, 0.1), (0.1, 0.9)), "crosses itself"),
        (((0.1, 0.1), (0.9, 0.9)), "three corners"),
        (((0.1, 0.1), (1.2, 0.1), (0.9, 0.9)), "makes no sense"),
    ],
)
def test_a_zone_that_cannot_be_is_refused_with_its_place(points, what):
    with pytest.raises(SiteFaulty) as refused:
        change("gate", Drawing((Drawn("lane", points),), (), ()))
    assert any(what in fault.what and fault.key == "cameras.gate.zones.lane" for fault in refused.value.faults)


_FRACTION = st.integers(0, 10_000).map(lambda value: value / 10_000)
_NAME = st.text("abcxyz0-_:#{ \n'\"&*", min_size=1, max_size=8)


@given(
    st.lists(st.tuples(_NAME, st.lists(st.tuples(_FRACTION, _FRACTION), min_size=1, max_size=6)), max_size=4),
    st.sampled_from(("hall", "yard", "gate")),
)
def test_whatever_is_drawn_nothing_else_of_the_file_changes(drawn, camera):
    """Names from a request are hostile: they may look like YAML."""
    drawing = Drawing(tuple(Drawn(name, tuple(points)) for name, points in drawn), (), ())
    try:
        new = check_text(changed(SITE.encode(), PATH, camera, drawing), PATH).site
    except (SiteFaulty, CannotEdit):
        return
    old = check_text(SITE.encode(), PATH).site
    assert new is not None and old is not None
    assert [each for each in new.cameras if each.name != camera] == [
        each for each in old.cameras if each.name != camera
    ]
    assert (new.name, new.box, new.storage, new.hub) == (old.name, old.box, old.storage, old.hub)


def test_the_file_is_replaced_as_a_whole_and_keeps_its_mode(tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text(SITE)
    path.chmod(0o640)
    version = save(path, version_of(SITE.encode()), "gate", Drawing((Drawn("lane", SQUARE),), (), ()))
    assert version == version_of(path.read_bytes())
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["site.yaml"]


def test_a_file_that_changed_meanwhile_is_not_touched(tmp_path, monkeypatch):
    path = tmp_path / "site.yaml"
    path.write_text(SITE + "# by hand\n")
    drawing = Drawing((Drawn("lane", SQUARE),), (), ())
    with pytest.raises(ChangedMeanwhile):
        save(path, version_of(SITE.encode()), "gate", drawing)

    def changed_late(*arguments):
        path.write_text(SITE + "# at the last moment\n")
        return changed(*arguments)

    monkeypatch.setattr(site_edit, "changed", changed_late)
    with pytest.raises(ChangedMeanwhile):
        save(path, version_of(path.read_bytes()), "gate", drawing)
    assert path.read_text() == SITE + "# at the last moment\n"
    assert os.listdir(tmp_path) == ["site.yaml"]
