"""Holiday lists: YAML in, checked values out. One for Indonesia comes with nvr (`rules/holidays/indonesia.yaml`).

A list says which days are off and how sure that is; what follows for opening hours is `rules/schedule.py`'s business.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import yaml

from nvr.errors import NvrError
from nvr.site_kinds import Choice, Flag, Key, Number, Text, Wrong, scalar, shown
from nvr.site_yaml import Fault, Reader, compose, line_of

SHIPPED = Path(__file__).parent / "rules" / "holidays"
NONE = "none"

# Where people keep the holidays of a list that comes with nvr, if the site file does not say.
OF_TIME_ZONE = dict.fromkeys(("Asia/Jakarta", "Asia/Pontianak", "Asia/Makassar", "Asia/Jayapura"), "indonesia")


@dataclass(frozen=True, slots=True)
class Holiday:
    name: str  # as people there call it
    english: str = ""
    is_certain: bool = True  # False: announced by decree or moon sighting, and not settled when the list was written
    is_leave: bool = False  # joint leave: offices are closed by decree, others may work


@dataclass(frozen=True, slots=True)
class Holidays:
    """Days off by date. A day that is not in it is a working day, for the years in `years`."""

    every_year: Mapping[tuple[int, int], Holiday] = field(default_factory=dict)  # (month, day)
    days: Mapping[date, Holiday] = field(default_factory=dict)
    maybe: Mapping[date, Holiday] = field(default_factory=dict)  # beside an uncertain day, within what it may move
    working: frozenset[date] = frozenset()  # days that are not off here, whatever the rest says

    def on(self, day: date) -> Holiday | None:
        """A certain holiday counts more than an uncertain one, and that more than a neighbour of one."""
        if day in self.working:
            return None
        found = [
            holiday
            for holiday in (self.every_year.get((day.month, day.day)), self.days.get(day), self.maybe.get(day))
            if holiday is not None
        ]
        return next((holiday for holiday in found if holiday.is_certain), found[0] if found else None)

    @property
    def years(self) -> frozenset[int]:
        """Years of which movable days are listed; of others only those of `every_year` are known."""
        return frozenset(day.year for day in self.days)


class HolidaysFaulty(NvrError):
    """A holiday list has faults."""

    def __init__(self, path: Path, faults: tuple[Fault, ...]) -> None:
        super().__init__(
            "\n".join(f"{path}:{fault.line}: {fault.key}: {fault.what}" for fault in faults),
            hint=faults[0].instead or f"{SHIPPED / 'indonesia.yaml'} shows how a list is written.",
        )
        self.faults = faults


def load(name: str, beside: Path) -> Holidays:
    """The list `name`: `none`, one that comes with nvr, or a file relative to the directory `beside`.

    Raises HolidaysFaulty with every fault, or NvrError when there is no such list.
    """
    return _load(name, beside, depth=0)


def shipped() -> list[str]:
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def _load(name: str, beside: Path, depth: int) -> Holidays:
    if name == NONE:
        return Holidays()
    path = SHIPPED / f"{name}.yaml" if re.fullmatch(r"[a-z]{2,40}", name) else beside / Path(name).expanduser()
    if depth > 4:
        raise NvrError(f"{path}: the lists named by `also` never end", hint="A list may not name itself.")
    try:
        with open(path, "rb") as file:
            data = file.read((1 << 20) + 1)
    except OSError as error:
        raise NvrError(
            f"cannot read the holiday list {path}: {error.strerror}",
            hint=f"holidays: {NONE}, one of {', '.join(shipped())}, or a file beside the site file.",
        ) from error
    node, fault = compose(data)
    if node is None:
        raise HolidaysFaulty(path, (fault,) if fault else ())
    reader = Reader()
    values = reader.section(reader.entries(node, ""), _LIST, path="", line=1)
    every_year: dict[tuple[int, int], Holiday] = {}
    days: dict[date, Holiday] = {}
    maybe: dict[date, Holiday] = {}
    for entry in _items(reader, values["every_year"], "every_year"):
        found = reader.section(entry[1], _EVERY_YEAR_DAY, path=entry[0], line=entry[2])
        if found["day"] is not None and found["name"] is not None:
            every_year[found["day"]] = Holiday(found["name"], found["english"])
    for entry in _items(reader, values["days"], "days"):
        found = reader.section(entry[1], _DAY, path=entry[0], line=entry[2])
        if found["day"] is None or found["name"] is None:
            continue
        is_certain = found["sure"] != "expected"
        if found["give_days"] and is_certain:
            reader.fault(
                entry[2], entry[0], "a certain day cannot move", "Write sure: expected, or leave out give_days."
            )
        holiday = Holiday(found["name"], found["english"], is_certain, found["is_leave"])
        days[found["day"]] = holiday
        for offset in range(-found["give_days"], found["give_days"] + 1):
            maybe.setdefault(found["day"] + timedelta(days=offset), holiday)
    if reader.faults:
        raise HolidaysFaulty(path, tuple(sorted(reader.faults)))
    working = frozenset(_dates(values["working_days"]))
    if values["also"]:
        base = _load(values["also"], path.parent, depth + 1)
        return Holidays(
            {**base.every_year, **every_year}, {**base.days, **days}, {**base.maybe, **maybe}, base.working | working
        )
    return Holidays(every_year, days, maybe, working)


def _items(reader: Reader, node: yaml.Node | None, path: str):  # type: ignore[no-untyped-def]
    """(path, entries, line) of each group in a list."""
    if node is None:
        return
    for number, item in enumerate(node.value):
        where = f"{path}.{number + 1}"
        yield where, reader.entries(item, where), line_of(item)


def _dates(node: yaml.Node | None) -> list[date]:
    return [] if node is None else [_Date().read(item, "working_days") for item in node.value]


# -- kinds and keys ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Date:
    def read(self, node: yaml.Node, name: str) -> date:
        text = scalar(node, "a date").strip()
        try:
            if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text, re.ASCII):
                return date.fromisoformat(text)
        except ValueError:
            pass
        raise Wrong(f"{shown(text)} is no date", f"{name}: 2026-08-17")

    def form(self) -> str:
        return "a date such as `2026-08-17`"


@dataclass(frozen=True, slots=True)
class _MonthDay:
    def read(self, node: yaml.Node, name: str) -> tuple[int, int]:
        text = scalar(node, "month and day").strip()
        try:
            if re.fullmatch(r"\d{2}-\d{2}", text, re.ASCII):
                day = date.fromisoformat(f"2024-{text}")  # a leap year, so that 02-29 is one
                return day.month, day.day
        except ValueError:
            pass
        raise Wrong(f"{shown(text)} is no month and day", f"{name}: 08-17")

    def form(self) -> str:
        return "month and day such as `08-17`"


@dataclass(frozen=True, slots=True)
class _List:
    """A list whose items somebody else reads."""

    what: str
    of: Any = None

    def read(self, node: yaml.Node, name: str) -> yaml.Node:
        if not isinstance(node, yaml.SequenceNode):
            raise Wrong("must be a list", self.what)
        if self.of is not None:
            for item in node.value:
                self.of.read(item, name)
        return node

    def form(self) -> str:
        return self.what


_NAME = Key("name", Text(), "What the day is called.", required=True)
_ENGLISH = Key("english", Text(), "The same in English.", "")
_EVERY_YEAR_DAY = (Key("day", _MonthDay(), "Month and day.", required=True), _NAME, _ENGLISH)
_DAY = (
    Key("day", _Date(), "The date.", required=True),
    _NAME,
    _ENGLISH,
    Key("sure", Choice(("fixed", "decree", "expected")), "How sure the date is.", "fixed"),
    Key("give_days", Number(0, 3, is_whole=True), "By so many days it may still move.", 0),
    Key("is_leave", Flag(), "Joint leave: offices are closed.", False),
)
_LIST = (
    Key("also", Text(r"[^\x00-\x1f]{1,200}", "a list that comes with nvr, or a file"), "A list that this one adds to.", ""),
    Key("every_year", _List("- {day: 08-17, name: Proklamasi Kemerdekaan}"), "Days that are off every year."),
    Key("days", _List("- {day: 2026-03-19, name: Hari Suci Nyepi}"), "Days that are off once."),
    Key("working_days", _List("[2026-12-24]", _Date()), "Days of the other list that are not off here."),
)  # fmt: skip
