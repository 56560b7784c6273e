"""Rows of a table, or answers of a person, to the text of a site file: one for each box.

Pure. What is written is judged by `nvr.site.check_text`, and each of its faults is led back to the cell that caused it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nvr.errors import NvrError
from nvr.site import check_text
from nvr.site_keys import BUILT_IN_TEMPLATES
from nvr.site_kinds import closest

TIME_ZONE = "Asia/Jayapura"  # of the first city; a table may say another
RING_GB = "20"  # two days of 1080p at 1 Mbit/s, three of a small card's cameras fit 64 GB


class TableFaulty(NvrError):
    """Cells of a table are wrong; no file was written."""

    def __init__(self, name: str, faults: Sequence[CellFault]) -> None:
        lines = [f"{name}: {fault.text()}" for fault in faults]
        super().__init__("\n".join(lines), hint="Mend these cells and run it again; nothing was written.")
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True, order=True)
class CellFault:
    """What is wrong in one cell, and what to write instead."""

    row: int  # from 1, as spreadsheets count; the heading is row 1
    column: int  # from 0; -1: the row as a whole
    name: str  # of the column
    what: str
    instead: str

    @property
    def cell(self) -> str:
        return f"{column_letters(self.column)}{self.row}" if self.column >= 0 else f"row {self.row}"

    def text(self) -> str:
        where = f"cell {self.cell} ({self.name})" if self.column >= 0 else self.cell
        return f"{where}: {self.sentence()}"

    def sentence(self) -> str:
        return self.what + (f"; instead: {self.instead}" if self.instead else "")


def column_letters(number: int) -> str:
    """0 is A, 26 is AA."""
    letters = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(65 + rest) + letters
    return letters


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    key: str  # of the site file, within its camera, its box, or its source
    words: tuple[str, ...]  # other headings people write, in English and Indonesian
    required: bool = False


COLUMNS = (
    Column("site", "site", ("lokasi", "situs")),
    Column("box", "box", ("kotak", "nvr", "recorder"), required=True),
    Column("camera", "camera", ("kamera", "camera name", "nama kamera"), required=True),
    Column("template", "template", ("templat", "jenis", "kind")),
    Column("url", "main.url", ("main", "address", "rtsp", "alamat", "utama", "main url"), required=True),
    Column("small", "small.url", ("small url", "sub", "substream", "kecil", "sub url")),
    Column("user", "main.user", ("username", "login", "pengguna")),
    Column("password", "main.password", ("pass", "sandi", "kata sandi")),
    Column("place", "place", ("tempat",)),
    Column("ring_gb", "ring_gb", ("gb", "ring", "disk", "ukuran gb")),
    Column("keep_days", "keep_days", ("days", "hari", "simpan hari")),
    Column("hours", "hours", ("opening hours", "open", "jam", "jam buka")),
    Column("time_zone", "time_zone", ("timezone", "tz", "zona waktu")),
    Column("hub", "hub.url", ("hub url", "pusat")),
    Column("fingerprint", "hub.fingerprint", ("hub fingerprint", "sidik jari")),
)
OF_THE_BOX = ("site", "time_zone", "hub", "fingerprint")

# What a camera of each template looks at, until somebody draws it.
_PLACES = {
    "traffic": "zones: {road: [[0.02, 0.35], [0.98, 0.35], [0.98, 0.98], [0.02, 0.98]]}\nlines: {stop: {from: [0.02, 0.7], to: [0.98, 0.7]}}",
    "service-office": "zones: {counter: [[0.1, 0.2], [0.9, 0.2], [0.9, 0.95], [0.1, 0.95]]}",
    "public-space": "zones: {square: [[0.02, 0.25], [0.98, 0.25], [0.98, 0.98], [0.02, 0.98]]}",
}
HOURS = {"service-office": "mon-thu 08:00-14:00; fri 08:00-11:00; sat 08:00-12:30"}

_DAYS = {
    "senin": "mon", "sen": "mon", "selasa": "tue", "sel": "tue", "rabu": "wed", "rab": "wed", "kamis": "thu", "kam": "thu",
    "jumat": "fri", "jum'at": "fri", "jum": "fri", "sabtu": "sat", "sab": "sat", "minggu": "sun", "ming": "sun", "min": "sun",
    "monday": "mon", "tuesday": "tue", "wednesday": "wed", "thursday": "thu", "friday": "fri", "saturday": "sat", "sunday": "sun",
    "tutup": "closed",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One camera as a table says it; cells are stripped text, absent ones are not there."""

    number: int  # from 1
    cells: Mapping[str, str]  # column name -> text

    def __getitem__(self, name: str) -> str:
        return self.cells.get(name, "")


@dataclass(frozen=True, slots=True)
class Draft:
    """A site file that was not judged yet."""

    box: str
    text: str
    # dotted key of the site file -> row and column that it came from
    origin: Mapping[str, tuple[int, str]] = field(default_factory=dict)


# -- reading the heading -------------------------------------------------------------------------------


def columns_of(heading: Sequence[str]) -> tuple[dict[str, int], list[CellFault]]:
    """Where each known column stands; faults for headings nobody knows, that stand twice, or that are missing."""
    found: dict[str, int] = {}
    faults: list[CellFault] = []
    known = {word: column.name for column in COLUMNS for word in (column.name, *column.words)}
    for place, text in enumerate(heading):
        word = re.sub(r"[\s_-]+", " ", text.strip().lower())
        if not word:
            continue
        name = known.get(word) or known.get(word.replace(" ", "_"))
        if name is None:
            near = closest(word, known)
            instead = known[near] if near else "one of " + ", ".join(column.name for column in COLUMNS)
            faults.append(CellFault(1, place, text.strip()[:40], "nobody knows this heading", instead))
        elif name in found:
            faults.append(
                CellFault(
                    1,
                    place,
                    name,
                    f"stands a second time; the first is {column_letters(found[name])}1",
                    "Take one of them out.",
                )
            )
        else:
            found[name] = place
    for column in COLUMNS:
        if column.required and column.name not in found:
            faults.append(
                CellFault(
                    1,
                    -1,
                    column.name,
                    f"there is no column {column.name}",
                    f"A heading `{column.name}`, and a value in each row.",
                )
            )
    return found, faults


def hours_of(text: str) -> dict[str, str]:
    """`mon-thu 08:00-14:00; fri 08:00-11:00` or `senin-kamis 08.00-14.00` as the site file's `hours`."""
    found: dict[str, str] = {}
    for part in re.split(r"[;\n]|(?<=\d),(?=\s*[a-zA-Z])", text):
        part = part.strip().lower()
        if not part:
            continue
        match = re.fullmatch(r"([a-z', -]+?)[ :]+((?:\d{1,2}[:.]\d\d|closed|tutup).*)", part)
        if match is None:
            raise ValueError(part)
        days = re.sub(r"[a-z']+", lambda word: _DAYS.get(word[0], word[0]), match[1]).replace(" ", "")
        times = re.sub(r"(\d{1,2})\.(\d\d)", r"\1:\2", match[2].replace("tutup", "closed"))
        times = re.sub(r"\b(\d):", r"0\1:", re.sub(r"\s*-\s*", "-", times)).strip()
        found[days] = times
    return found


# -- writing -------------------------------------------------------------------------------------------


def quoted(text: str) -> str:
    """A scalar that YAML reads back as exactly this text."""
    if re.fullmatch(r"[A-Za-z/][A-Za-z0-9/_.-]{0,200}", text) and text.lower() not in (
        "true",
        "false",
        "yes",
        "no",
        "on",
        "off",
        "null",
        "y",
        "n",
    ):
        return text
    return json.dumps(text, ensure_ascii=False)


def drafts(rows: Sequence[Row], defaults: Mapping[str, str]) -> tuple[list[Draft], list[CellFault]]:
    """A draft for each box, in the order in which boxes come in the table. Cells that are absent come from `defaults`.

    Where there are faults, drafts are only to be judged, so that every fault is told at once: a camera that stands twice has one by itself.
    """
    boxes: dict[str, list[Row]] = {}
    faults: list[CellFault] = []
    for row in rows:
        missing = [column for column in COLUMNS if column.required and not row[column.name]]
        faults += [CellFault(row.number, -2, column.name, "is empty", _example(column.name)) for column in missing]
        if not missing:
            boxes.setdefault(row["box"], []).append(row)
    made = []
    for box, cameras in boxes.items():
        faults += _disagreements(cameras)
        first = {row["camera"]: row for row in reversed(cameras)}
        made.append(_draft(box, [row for row in cameras if first[row["camera"]] is row], defaults, faults))
        made += [_draft(box, [row], defaults, faults) for row in cameras if first[row["camera"]] is not row]
    faults += _shared([row for cameras in boxes.values() for row in cameras])
    return made, faults


def _shared(rows: Sequence[Row]) -> list[CellFault]:
    """Cameras that two boxes would record; `nvrctl site check` would refuse their files."""
    first: dict[str, Row] = {}
    faults = []
    for row in rows:
        scheme, sign, rest = row["url"].partition("://")
        host, slash, path = rest.partition("/")
        address = f"{scheme}{sign}{host.rpartition('@')[2]}{slash}{path}"
        other = first.setdefault(address, row)
        if other["box"] != row["box"]:
            what = f"this camera is recorded by the box {other['box']} of row {other.number} already"
            faults.append(CellFault(row.number, -2, "url", what, "Take one of the rows out."))
    return faults


def _example(name: str) -> str:
    return {"box": "waihaong-1", "camera": "entrance", "url": "rtsp://10.0.0.11/main"}.get(name, "")


def _disagreements(rows: Iterable[Row]) -> list[CellFault]:
    """Cells of one box that say different things of it, and cameras that stand twice."""
    said: dict[str, tuple[str, int]] = {}
    faults = []
    for row in rows:
        for name in (*OF_THE_BOX, f"camera {row['camera']}"):
            is_camera = name.startswith("camera ")
            text = row["camera"] if is_camera else row[name]
            if not text:
                continue
            first, number = said.setdefault(name, (text, row.number))
            if is_camera and number != row.number:
                faults.append(
                    CellFault(
                        row.number,
                        -2,
                        "camera",
                        f"{text!r} of this box stands in row {number} already",
                        "Give each camera of a box a name of its own.",
                    )
                )
            elif first != text:
                faults.append(
                    CellFault(row.number, -2, name, f"{text!r}, but row {number} says {first!r} of the same box", first)
                )
    return faults


def _draft(box: str, rows: Sequence[Row], defaults: Mapping[str, str], faults: list[CellFault]) -> Draft:
    origin: dict[str, tuple[int, str]] = {}

    def of_box(name: str, key: str, otherwise: str) -> str:
        row = next((row for row in rows if row[name]), None)
        origin[key] = (row or rows[0]).number, name
        return row[name] if row else defaults.get(name, "") or otherwise

    origin["box"] = rows[0].number, "box"
    lines = [
        f"site: {quoted(of_box('site', 'site', re.sub(r'[-_]?[0-9]+$', '', box) or box))}",
        f"time_zone: {quoted(of_box('time_zone', 'time_zone', TIME_ZONE))}",
        f"box: {quoted(box)}",
        "storage:",
        "  path: /data/rings",
    ]
    hub = of_box("hub", "hub.url", "")
    fingerprint = of_box("fingerprint", "hub.fingerprint", "")
    if hub:
        lines += ["hub:", f"  url: {quoted(hub)}"]
        if fingerprint:
            lines.append(f"  fingerprint: {quoted(fingerprint)}")
        lines.append("  # `nvrctl card write` puts the one-time code here.")
    lines.append("cameras:")
    for row in rows:
        lines += [f"  {line}" for line in _camera(row, defaults, origin, faults)]
    return Draft(box, "\n".join(lines) + "\n", origin)


def _camera(
    row: Row, defaults: Mapping[str, str], origin: dict[str, tuple[int, str]], faults: list[CellFault]
) -> list[str]:
    path = f"cameras.{row['camera']}"
    origin[path] = row.number, "camera"
    for column in COLUMNS:
        if column.name not in OF_THE_BOX and column.name not in ("box", "camera"):
            origin[f"{path}.{column.key}"] = row.number, column.name

    def value(name: str, otherwise: str = "") -> str:
        return row[name] or defaults.get(name, "") or otherwise

    lines = [f"{quoted(row['camera'])}:"]
    template = value("template")
    for name in ("place", "template"):
        if value(name):
            lines.append(f"  {name}: {quoted(value(name))}")
    user, password = value("user"), value("password")
    login = (f", user: {quoted(user)}" if user else "") + (f", password: {quoted(password)}" if password else "")
    lines.append(f"  main: {{source: rtsp, url: {quoted(row['url'])}{login}}}")
    if row["small"]:
        lines.append(f"  small: {{source: rtsp, url: {quoted(row['small'])}}}")
    lines.append(f"  ring_gb: {_number(value('ring_gb', RING_GB))}")
    if value("keep_days"):
        lines.append(f"  keep_days: {_number(value('keep_days'))}")
    if template in _PLACES:
        lines.append("  # A first guess: draw it on the box's page, over the live picture.")
        lines += [f"  {line}" for line in _PLACES[template].splitlines()]
    hours = value("hours", HOURS.get(template, ""))
    if hours:
        try:
            days = hours_of(hours)
        except ValueError as error:
            example = HOURS["service-office"]
            faults.append(CellFault(row.number, -2, "hours", f"{str(error)[:40]!r} is no day with its times", example))
            days = hours_of(example)  # so that nothing else is said of them
        times = ", ".join(f"{quoted(day)}: {json.dumps(spans)}" for day, spans in days.items())
        lines.append(f"  hours: {{{times}}}")
    return lines


def _number(text: str) -> str:
    """As it stands when it is a number; else quoted, for the judge to name it."""
    return text if re.fullmatch(r"\d{1,9}(\.\d{1,6})?", text) else quoted(text)


# -- judging -------------------------------------------------------------------------------------------


def faults_of(draft: Draft, folder: Path) -> list[CellFault]:
    """What `nvr site check` would say of the draft, with the row and the column that it came from."""
    checked = check_text(draft.text.encode(), folder / f"{draft.box}.yaml")
    found = []
    for fault in checked.faults:
        row, column = _origin(draft, fault.key)
        instead = re.sub(r"^[a-z_]+: ", "", fault.instead)
        instead = (
            instead.removeprefix("Write ").removesuffix(".") if instead.startswith("Write ") else instead.strip('"')
        )
        found.append(CellFault(row, -2, column, fault.what, instead))
    return found


def fault_of_answer(name: str, text: str, others: Mapping[str, str]) -> str:
    """What is wrong with one answer, "" when it is good; `others`: cells that it depends on, such as the template of hours."""
    row = Row(1, {"box": "box-1", "camera": "camera", "url": "rtsp://10.0.0.1/main", **others, name: text})
    made, faults = drafts([row], {})
    for draft in made:
        faults += faults_of(draft, Path())
    return next((fault.sentence() for fault in faults if fault.name == name), "")


def _origin(draft: Draft, key: str) -> tuple[int, str]:
    while key:
        if key in draft.origin:
            return draft.origin[key]
        key = key.rpartition(".")[0]
    return next(iter(draft.origin.values()), (0, "box"))


def placed(faults: Iterable[CellFault], columns: Mapping[str, int]) -> list[CellFault]:
    """Faults by name of column with the number of that column; rows as a whole where the table has no such column."""
    return sorted(
        {
            CellFault(fault.row, columns.get(fault.name, -1) if fault.column == -2 else fault.column, fault.name,
                      fault.what if fault.column != -2 or fault.name in columns else f"{fault.name}: {fault.what}", fault.instead)
            for fault in faults
        }
    )  # fmt: skip


def is_template(name: str) -> bool:
    return name in BUILT_IN_TEMPLATES
