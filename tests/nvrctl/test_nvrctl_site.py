"""A list of cameras becomes site files, or every wrong cell is named and nothing is written."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from nvr import site as site_room
from nvr.errors import NvrError
from tools.nvrctl import site_draft, table
from tools.nvrctl.program import nvrctl
from tools.nvrctl.site_draft import Row, column_letters, hours_of

ROOT = Path(__file__).resolve().parents[2]
GOOD = """\
box,camera,template,url,small,user,password,hours,ring_gb,place
waihaong-1,entrance,service-office,rtsp://10.0.0.11/main,rtsp://10.0.0.11/sub,viewer,"p""a,s#: s",mon-thu 08:00-14:00; fri 08:00-11:00,40,puskesmas-waihaong
waihaong-1,street,traffic,rtsp://10.0.0.12/main,,viewer,0123,,20.5,
mardika-1,market,public-space,rtsps://10.0.1.11/main,,,,,30,pasar-mardika
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def new(*arguments: str, status: int = 0, **more):
    result = CliRunner().invoke(nvrctl, ["site", "new", *arguments], **more)
    assert result.exit_code == status, result.output
    return result


def from_table(text: str | bytes, *arguments: str, name: str = "cameras.csv", status: int = 0):
    with open(name, "wb") as file:
        file.write(text if isinstance(text, bytes) else text.encode())
    return new("--table", name, *arguments, status=status)


def test_a_table_becomes_a_site_file_for_each_box(folder):
    from_table(GOOD, "--hub", "https://hub.example.org")
    first = site_room.load(folder / "sites" / "waihaong-1.yaml")
    assert [camera.name for camera in first.cameras] == ["entrance", "street"]
    assert first.cameras[0].main.password == 'p"a,s#: s' and first.cameras[1].main.password == "0123"
    assert first.cameras[0].small.url == "rtsp://10.0.0.11/sub" and first.cameras[0].small.user == "viewer"
    assert first.cameras[0].place == "puskesmas-waihaong" and first.name == "waihaong"
    assert len(first.cameras[0].hours) == 5 and first.cameras[1].ring_bytes == 20_500_000_000
    assert first.hub.url == "https://hub.example.org" and not first.hub.code
    assert first.cameras[1].zones and first.cameras[1].lines  # what the template looks at, to be drawn anew
    assert site_room.load(folder / "sites" / "mardika-1.yaml").cameras[0].template == "public-space"
    assert (folder / "sites" / "waihaong-1.yaml").stat().st_mode & 0o077 == 0  # passwords


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_whatever_a_spreadsheet_program_saves_is_read(folder, encoding, delimiter):
    text = GOOD.replace("; fri 08:00-11:00", "").replace('"p""a,s#: s"', "geheim é")
    from_table(text.replace(",", delimiter).encode(encoding))
    assert site_room.load(folder / "sites" / "waihaong-1.yaml").cameras[0].main.password == "geheim é"


def test_indonesian_headings_and_days_are_understood(folder):
    from_table(
        "Kotak;Nama Kamera;Jenis;Alamat;Pengguna;Kata Sandi;Jam Buka;Tempat;GB\n"
        "waihaong-1;pintu;service-office;rtsp://10.0.0.11/main;admin;x;senin-kamis 08.00-14.00, jumat 8.00-11.00;puskesmas;40\n"
    )
    found = site_room.load(folder / "sites" / "waihaong-1.yaml").cameras[0]
    assert [(time.day, time.from_min) for time in found.hours] == [(0, 480), (1, 480), (2, 480), (3, 480), (4, 480)]


def test_a_spreadsheet_is_read_with_its_numbers(folder):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    hidden = book.active
    hidden.sheet_state = "hidden"
    sheet = book.create_sheet("Kamera")
    sheet.append(["box", "camera", "url", "ring_gb", "password", "user"])
    sheet.append(["waihaong-1", "street", "rtsp://10.0.0.12/main", 20, 1234, "admin"])
    sheet.append([None] * 6)
    sheet.append(["waihaong-1", "gate", "rtsp://10.0.0.13/main", 20.5, None, None])
    book.save("cameras.xlsx")
    new("--table", "cameras.xlsx")
    found = site_room.load(folder / "sites" / "waihaong-1.yaml")
    assert found.cameras[0].main.password == "1234" and found.cameras[1].ring_bytes == 20_500_000_000
    sheet["C4"] = "http://10.0.0.13/"
    book.save("cameras.xlsx")
    assert "cell C4 (url)" in new("--table", "cameras.xlsx", "--replace", status=1).output


@pytest.mark.parametrize(
    ("old", "new_text", "words"),
    [
        ("waihaong-1,street", "waihaong-1,The Street", "cell B3 (camera): 'The Street' cannot be a name"),
        (",traffic,", ",trafic,", "cell C3 (template): there is no template 'trafic'; instead: traffic"),
        ("rtsp://10.0.0.12/main", "10.0.0.12", "cell D3 (url)"),
        ("rtsp://10.0.0.11/sub", "http://10.0.0.11/sub", "cell E2 (small)"),
        (",20.5,", ",plenty,", "cell I3 (ring_gb): 'plenty' is not a number"),
        (",20.5,", ',"20,5",', "cell I3 (ring_gb)"),
        ("fri 08:00-11:00", "fri 8-11 o'clock", "cell H2 (hours)"),
        ("fri 08:00-11:00", "fri 08:00-25:00", "cell H2 (hours)"),
        ("mon-thu 08:00-14:00", "someday 08:00-14:00", "cell H2 (hours)"),
        (
            "waihaong-1,street",
            "waihaong-1,entrance",
            "cell B3 (camera): 'entrance' of this box stands in row 2 already",
        ),
        ("waihaong-1,street", ",street", "cell A3 (box): is empty; instead: waihaong-1"),
        ("rtsp://10.0.0.12/main", "", "cell D3 (url): is empty"),
        ("pasar-mardika", "Pasar Mardika", "cell J4 (place)"),
        ("mardika-1,market", "Mardika 1,market", "cell A4 (box)"),
        ("box,camera", "box,kamra", "cell B1 (kamra): nobody knows this heading; instead: camera"),
        ("box,camera", "box,box", "cell B1 (box): stands a second time"),
        ("viewer,0123", ",0123", "cell G3 (password)"),
    ],
)
def test_a_wrong_cell_is_named_and_nothing_is_written(folder, old, new_text, words):
    assert old in GOOD
    output = from_table(GOOD.replace(old, new_text, 1), status=1).output
    assert words in output
    assert not (folder / "sites").exists()


def test_all_wrong_cells_are_named_at_once():
    output = from_table(
        GOOD.replace("rtsp://10.0.0.12/main", "x").replace(",30,", ",y,").replace("public-space", "z"), status=1
    ).output
    assert all(cell in output for cell in ("D3", "I4", "C4"))


def test_a_camera_that_stands_twice_hides_no_other_fault():
    text = GOOD.replace("waihaong-1,street", "waihaong-1,entrance").replace("rtsps://10.0.1.11/main", "http://x")
    output = from_table(text.replace(",20.5,", ",plenty,").replace("fri 08:00-11:00", "fri 8 o'clock"), status=1).output
    assert all(cell in output for cell in ("cell B3 (camera)", "cell I3 (ring_gb)", "cell H2 (hours)", "cell D4 (url)"))
    assert output.count("cell ") == 4


def test_a_camera_of_two_boxes_is_refused_as_site_check_would(folder):
    output = from_table(GOOD.replace("rtsps://10.0.1.11/main", "rtsp://10.0.0.12/main"), status=1).output
    assert "cell D4 (url): this camera is recorded by the box waihaong-1 of row 3 already" in output
    login = GOOD.replace("rtsps://10.0.1.11/main", "rtsp://joe:x@10.0.0.12/main")
    assert "of row 3 already" in from_table(login, status=1).output


def test_a_formula_without_its_value_is_not_taken_for_an_empty_cell(folder):
    """What a program wrote that does not calculate: ring_gb became 20, quietly."""
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(["box", "camera", "url", "ring_gb"])
    book.active.append(["waihaong-1", "street", "rtsp://10.0.0.12/main", "=30*2"])
    book.save("cameras.xlsx")
    output = new("--table", "cameras.xlsx", status=1).output
    assert "cameras.xlsx: D2: a formula without its value" in output and not (folder / "sites").exists()


def test_a_password_never_stands_in_an_error():
    output = from_table(GOOD.replace("viewer,0123", "viewer,geheim\x07x"), status=1).output
    assert "cell G3 (password)" in output and "geheim" not in output


@pytest.mark.parametrize("address", ["http://viewer:geheim@10.0.0.11/", "rtsp://viewer:geheim:x@h@10.0.0.11/a b\x07"])
@pytest.mark.parametrize("column", ["url", "small"])
def test_a_password_in_a_wrong_address_never_stands_in_an_error(address, column):
    row = {"url": "rtsp://10.0.0.12/main", "small": "", column: address}
    output = from_table(f"box,camera,url,small\na-1,one,{row['url']},{row['small']}\n", status=1).output
    assert f"({column})" in output and "geheim" not in output
    output = new("--box", "a-1", "--camera", address, status=2).output
    assert "is not NAME=URL" in output and "geheim" not in output


def test_a_password_on_the_command_line_is_warned_of_and_never_shown(folder):
    result = new("--box", "a-1", "--camera", "one=rtsp://viewer:geheim@10.0.0.11/main")
    assert "everybody on this machine can read a password on the command line" in result.output
    assert (
        "geheim" not in result.output and site_room.load(folder / "sites/a-1.yaml").cameras[0].main.password == "geheim"
    )
    assert "warning" not in new("--box", "a-2", "--camera", "one=rtsp://10.0.0.12/main").output


def test_a_password_file_that_everybody_can_read_is_warned_of(folder):
    (folder / "pw").write_text("geheim\n")
    for mode in (0o644, 0o600):
        (folder / "pw").chmod(mode)
        output = new(
            "--box", f"a-{mode}", "--camera", f"one=rtsp://h{mode}/a", "--user", "v", "--password-file", "pw"
        ).output
        assert ("everybody on this machine can read pw" in output) == (mode == 0o644)


def test_two_zones_for_one_box_are_told():
    text = "box,camera,url,time_zone\na-1,one,rtsp://10.0.0.1/a,Asia/Jayapura\na-1,two,rtsp://10.0.0.2/a,Asia/Tokyo\n"
    assert "cell D3 (time_zone): 'Asia/Tokyo', but row 2 says 'Asia/Jayapura'" in from_table(text, status=1).output


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\n\n", b"box,camera,url\n", b"\xff\xfe", b"\0" * 100, b"PK\x03\x04" + b"\0" * 50, b"\xd0\xcf\x11\xe0" + b"\0" * 500, b'"' * 1001, b'box,camera,url\n"a\n',
        b"box,camera,url\n" + b"a" * 70_000, b"x," * 100 + b"\n", b"%PDF-1.4\n%\xe2\xe3", b"<html><table><tr><td>box</td></tr></table></html>",
    ],
    ids=range(13),
)  # fmt: skip
def test_garbage_is_refused_with_a_sentence(folder, data):
    output = from_table(data, status=1).output
    assert output.startswith("nvrctl: ") and "should not have happened" not in output
    assert not (folder / "sites").exists()


@given(st.binary(max_size=400))
def test_any_bytes_are_a_table_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "garbage.csv"
    path.write_bytes(data)
    try:
        rows, columns, faults = table.read(path)
    except NvrError:
        return
    drafts, more = site_draft.drafts(rows, {})
    for draft in drafts:
        more += site_draft.faults_of(draft, path.parent)
    site_draft.placed([*faults, *more], columns)


CELL = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "box": st.sampled_from(["a-1", "b"]),
                "camera": st.sampled_from(["x", "y"]),
                "url": st.sampled_from(["rtsp://h/a", 'rtsp://h/b?c="d"']),
                "user": CELL,
                "password": CELL,
                "place": CELL,
                "hours": CELL,
                "template": st.sampled_from(["traffic", "service-office", ""]),
            }
        ),
        min_size=1,
        max_size=4,
    )
)
def test_whatever_stands_in_a_cell_comes_out_as_it_was_or_is_named(tmp_path_factory, cells):
    rows = [
        Row(number, {name: text.strip() for name, text in each.items() if text.strip()})
        for number, each in enumerate(cells, 2)
    ]
    drafts, faults = site_draft.drafts(rows, {})
    for draft in drafts:
        faults += site_draft.faults_of(draft, tmp_path_factory.getbasetemp())
    if faults:
        return
    for draft in drafts:
        found = site_room.check_text(draft.text.encode(), tmp_path_factory.getbasetemp() / "s.yaml").site
        mine = [row for row in rows if row["box"] == draft.box]
        assert [(camera.name, camera.main.user, camera.main.password) for camera in found.cameras] == [
            (row["camera"], row["user"], row["password"]) for row in mine
        ]


def test_a_zip_bomb_is_refused(folder):
    with zipfile.ZipFile("bomb.xlsx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", b"0" * (table.UNPACKED_BYTES + 1))
    assert "unpacks to more" in new("--table", "bomb.xlsx", status=1).output


def test_columns_are_called_as_spreadsheets_call_them():
    assert [column_letters(number) for number in (0, 25, 26, 51, 52, 701, 702)] == [
        "A",
        "Z",
        "AA",
        "AZ",
        "BA",
        "ZZ",
        "AAA",
    ]


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("mon-thu 08:00-14:00; fri 08:00-11:00", {"mon-thu": "08:00-14:00", "fri": "08:00-11:00"}),
        ("mon-fri: 08:00 - 12:00, 13:00-16:00", {"mon-fri": "08:00-12:00, 13:00-16:00"}),
        ("Senin - Jum'at 8.00-14.30\nSabtu tutup", {"mon-fri": "08:00-14:30", "sat": "closed"}),
        ("sat,sun 09:00-12:00", {"sat,sun": "09:00-12:00"}),
    ],
)
def test_hours_are_read_as_people_write_them(text, hours):
    assert hours_of(text) == hours


# -- without a table


def test_flags_make_a_site_file(folder):
    (folder / "pw").write_text("secret\n")
    new(
        "--box",
        "harbour",
        "--template",
        "traffic",
        "--camera",
        "gate=rtsp://10.0.0.1/main,rtsp://10.0.0.1/sub",
        "--camera",
        "street=rtsp://10.0.0.2/main",
        "--user",
        "viewer",
        "--password-file",
        "pw",
    )
    found = site_room.load(folder / "sites" / "harbour.yaml")
    assert [(camera.name, camera.main.user, camera.main.password, camera.template) for camera in found.cameras] == [
        ("gate", "viewer", "secret", "traffic"), ("street", "viewer", "secret", "traffic"),
    ]  # fmt: skip


def typed(arguments: list[str], answers: list[str]) -> tuple[int, str]:
    """What a command says to somebody at a real terminal, who answers each question when it is asked."""
    primary, secondary = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-m", "tools.nvrctl", *arguments],
        stdin=secondary,
        stdout=secondary,
        stderr=secondary,
        env=environment,
    )
    os.close(secondary)
    said, left, end = b"", list(answers), time.monotonic() + 60
    try:
        while time.monotonic() < end:
            if not select.select([primary], [], [], 1.0)[0]:
                continue
            data = os.read(primary, 4096)
            said += data
            if left and said.endswith(b": "):
                time.sleep(0.05)  # a hidden question throws away what was typed before it
                os.write(primary, left.pop(0).encode() + b"\n")
    except OSError:
        pass  # the other end was closed
    finally:
        if time.monotonic() >= end:
            process.kill()
        os.close(primary)
    return process.wait(60), said.decode("utf-8", "replace")


def test_a_person_is_asked(folder):
    answers = [
        "waihaong-1",
        "",
        "",
        "-",
        "entrance",
        "rtsp://10.0.0.11/main",
        "-",
        "viewer",
        "secret",
        "service-office",
        "",
        "40",
        "n",
    ]
    status, said = typed(["site", "new"], answers)
    assert status == 0, said
    found = site_room.load(folder / "sites" / "waihaong-1.yaml")
    assert found.cameras[0].ring_bytes == 40_000_000_000 and found.name == "waihaong" and found.cameras[0].hours
    assert found.cameras[0].main.password == "secret"


def test_a_wrong_answer_is_told_at_once_and_asked_again(folder):
    """`traffic` for the time zone was taken, and told after the last question: all answers were lost."""
    answers = [
        "Waihaong 1", "waihaong-1", "", "traffic", "", "http://hub", "-", "entrance", "", "http://10.0.0.11/", "rtsp://10.0.0.11/main", "-", "-", "service-office", "never", "",
        "plenty", "40", "y", "entrance", "gate", "rtsp://10.0.0.12/main", "-", "-", "traffic", "20", "n",
    ]  # fmt: skip
    status, said = typed(["site", "new"], answers)
    assert status == 0, said
    for words in (
        "'Waihaong 1' cannot be a name",
        "traffic",
        "is empty",
        "'plenty' is not a number",
        "another camera already",
    ):
        assert words in said
    assert said.count("Error: ") == 8, said
    found = site_room.load(folder / "sites" / "waihaong-1.yaml")
    assert [camera.name for camera in found.cameras] == ["entrance", "gate"] and found.time_zone.key == "Asia/Jayapura"


def test_nobody_to_ask_is_wrong_use():
    assert "--table FILE" in new(status=2).output


def test_a_site_file_that_somebody_worked_on_is_kept(folder):
    from_table(GOOD)
    (folder / "sites" / "mardika-1.yaml").write_text("mine")
    assert "there already" in from_table(GOOD, status=1).output
    assert (folder / "sites" / "mardika-1.yaml").read_text() == "mine"
    from_table(GOOD, "--replace")
    assert "pasar-mardika" in (folder / "sites" / "mardika-1.yaml").read_text()


# -- check and show


def test_check_tells_what_is_only_wrong_together(folder):
    from_table(GOOD)
    (folder / "sites" / "copy.yaml").write_text((folder / "sites" / "mardika-1.yaml").read_text())
    result = CliRunner().invoke(nvrctl, ["site", "check", "sites", "--json"])
    assert result.exit_code == 1
    found = {fault["key"]: fault for fault in json.loads(result.stdout)["faults"]}
    assert set(found) == {"box", "cameras.market.main.url"}
    lines = (folder / "sites" / "mardika-1.yaml").read_text().splitlines()
    assert lines[found["box"]["line"] - 1].startswith("box:")
    assert "rtsps://10.0.1.11/main" in lines[found["cameras.market.main.url"]["line"] - 1]


def test_check_tells_two_boxes_that_are_one_on_the_network(folder):
    from_table(GOOD)
    text = (folder / "sites" / "mardika-1.yaml").read_text()
    (folder / "sites" / "other.yaml").write_text(
        text.replace("mardika-1", "mardika_1").replace("10.0.1.11", "10.0.1.12")
    )
    result = CliRunner().invoke(nvrctl, ["site", "check", "sites"])
    assert result.exit_code == 1 and "the box name 'mardika_1' stands in" in result.stdout


def test_check_names_file_line_and_fix(folder):
    (folder / "s.yaml").write_text(
        "site: a\nbox: b\ntime_zone: Asia/Jayapur\ncameras:\n  x: {main: {source: rtsp, url: 'rtsp://h/a'}, ring_gb: 1}\n"
    )
    result = CliRunner().invoke(nvrctl, ["site", "check", "s.yaml"])
    assert (
        result.exit_code == 1
        and "s.yaml:3: time_zone" in result.stdout
        and "instead: time_zone: Asia/Jayapura" in result.stdout
    )


def test_show_tells_everything_but_passwords(folder):
    from_table(GOOD.replace("0123", "geheim"))
    result = CliRunner().invoke(nvrctl, ["site", "show", "sites"])
    assert result.exit_code == 0 and "rtsp://10.0.0.12/main" in result.stdout and "geheim" not in result.output
    assert "geheim" not in CliRunner().invoke(nvrctl, ["site", "show", "sites", "--json"]).output


def test_an_empty_folder_is_said(folder):
    (folder / "empty").mkdir()
    result = CliRunner().invoke(nvrctl, ["site", "check", "empty"])
    assert result.exit_code == 1 and "no site file in empty" in result.output
