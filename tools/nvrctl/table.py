"""Tables of cameras from CSV, TSV and XLSX files: rows of text, whatever program wrote them. openpyxl is imported only here.

A table is a stranger's file: sizes are bounded, and every fault is TableUnreadable or a cell with its name.
"""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path
from typing import Any

from nvr.errors import NvrError
from tools.nvrctl.site_draft import CellFault, Row, column_letters, columns_of

FILE_BYTES = 10 << 20
UNPACKED_BYTES = 100 << 20  # of an XLSX, which is a ZIP: a bomb of a few kB may claim terabytes
ROWS_MOST = 5000
COLUMNS_MOST = 64


class TableUnreadable(NvrError):
    """The file is no table that can be read."""


def read(path: Path) -> tuple[list[Row], dict[str, int], list[CellFault]]:
    """The rows, where each column stands, and what is wrong with the heading. Raises TableUnreadable."""
    lines = _lines(path)
    number = next((number for number, cells in enumerate(lines) if any(cells)), None)
    if number is None:
        raise TableUnreadable(
            f"{path}: the table is empty", hint="First row: box, camera, url; then a row for each camera."
        )
    columns, faults = columns_of(lines[number])
    rows = []
    for offset, cells in enumerate(lines[number + 1 :], number + 2):
        if not any(cells):
            continue
        found = {name: cells[place] for name, place in columns.items() if place < len(cells) and cells[place]}
        rows.append(Row(offset, found))
    if not rows:
        raise TableUnreadable(f"{path}: there is no camera below the heading", hint="A row for each camera.")
    faults = [CellFault(number + 1, fault.column, fault.name, fault.what, fault.instead) for fault in faults]
    return rows, columns, faults


def _lines(path: Path) -> list[list[str]]:
    try:
        with open(path, "rb") as file:
            data = file.read(FILE_BYTES + 1)
    except OSError as error:
        raise TableUnreadable(
            f"cannot read {path}: {error.strerror}", hint="Check its name and its permissions."
        ) from error
    if len(data) > FILE_BYTES:
        raise TableUnreadable(f"{path} has more than {FILE_BYTES >> 20} MB", hint="Is this the list of cameras?")
    if data.startswith(b"PK\x03\x04"):
        lines = _spreadsheet(path, data)
    elif data.startswith(b"\xd0\xcf\x11\xe0"):
        raise TableUnreadable(f"{path} is a spreadsheet of the old kind (.xls)", hint="Save it as .xlsx or as CSV.")
    else:
        lines = _text_table(path, data)
    if len(lines) > ROWS_MOST or any(len(cells) > COLUMNS_MOST for cells in lines):
        raise TableUnreadable(
            f"{path} has more than {ROWS_MOST} rows or {COLUMNS_MOST} columns", hint="Is this the list of cameras?"
        )
    return [[cell.strip() for cell in cells] for cells in lines]


def _text_table(path: Path, data: bytes) -> list[list[str]]:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = data.decode("utf-16", "replace")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("cp1252", "replace")  # what old spreadsheets write
    if "\0" in text:
        raise TableUnreadable(f"{path} is neither CSV, TSV nor XLSX", hint="Save the table as CSV (UTF-8) or XLSX.")
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(",;\t", key=first.count)
    try:
        csv.field_size_limit(64 << 10)
        return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise TableUnreadable(
            f"{path} is not good CSV: {error}",
            hint="A cell that holds quotes, commas or line breaks stands in quotes as a whole.",
        ) from error


def _spreadsheet(path: Path, data: bytes) -> list[list[str]]:
    """The first sheet that is shown."""
    import openpyxl

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > UNPACKED_BYTES:
                raise TableUnreadable(
                    f"{path} unpacks to more than {UNPACKED_BYTES >> 20} MB", hint="Is this the list of cameras?"
                )
        book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
        sheet = next((sheet for sheet in book.worksheets if sheet.sheet_state == "visible"), None)
        if sheet is None:
            raise TableUnreadable(f"{path} has no sheet with cells", hint="Put the cameras on the first sheet.")
        lines = _cells(sheet)
        _check_formulas(path, lines, _cells(openpyxl.load_workbook(io.BytesIO(data), read_only=True)[sheet.title]))
    except TableUnreadable:
        raise
    except Exception as error:  # openpyxl raises whatever it stumbles over: KeyError, ValueError, BadZipFile ...
        raise TableUnreadable(
            f"{path} is not a good XLSX file: {type(error).__name__}: {str(error)[:100]}",
            hint="Save the table again, as XLSX or as CSV.",
        ) from error
    # Empty rows keep their numbers, empty columns at the end are a spreadsheet's habit.
    while lines and not any(lines[-1]):
        lines.pop()
    width = max((place + 1 for line in lines for place, cell in enumerate(line) if cell), default=0)
    return [line[:width] for line in lines]


def _cells(sheet: Any) -> list[list[str]]:
    rows = sheet.iter_rows(max_row=ROWS_MOST + 1, max_col=COLUMNS_MOST + 1, values_only=True)
    return [[_cell(value) for value in row] for row in rows]


def _check_formulas(path: Path, values: list[list[str]], written: list[list[str]]) -> None:
    """Raises TableUnreadable for formulas whose value is not in the file: they would count as empty, and a default be taken for them."""
    missing = [
        f"{column_letters(column)}{number}"
        for number, (seen, formulas) in enumerate(zip(values, written, strict=True), 1)
        for column, (value, formula) in enumerate(zip(seen, formulas, strict=True))
        if formula.startswith("=") and not value
    ]
    if missing:
        raise TableUnreadable(
            f"{path}: {', '.join(missing[:10])}{' and more' if len(missing) > 10 else ''}: a formula without its value",
            hint="Open the table in a spreadsheet program and save it there, or write the values themselves.",
        )


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value == int(value):
        return str(int(value))
    return str(value)
