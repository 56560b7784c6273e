"""Opening hours through weeks, breaks, nights, holidays and clock changes."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvr import site_holidays
from nvr.errors import NvrError
from nvr.rules.schedule import Due, Schedule
from nvr.site_scene import OpenTime

AMBON = ZoneInfo("Asia/Jayapura")
WEEK = tuple(OpenTime(day, *span) for day in range(5) for span in ((480, 720), (780, 960)))
HOLIDAYS = site_holidays.load("indonesia", Path())


def wall(text: str, zone: ZoneInfo = AMBON) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()) * 1_000_000_000


def due(text: str, hours=WEEK, holidays=HOLIDAYS, zone: ZoneInfo = AMBON) -> tuple[str, str]:
    found = Schedule(zone, hours, holidays).at(wall(text, zone))
    return found.due.value, found.why


@pytest.mark.parametrize(
    ("moment", "wanted"),
    [
        ("2026-06-10 07:59:59", ("closed", "opens at 08:00")),
        ("2026-06-10 08:00:00", ("open", "opening hours")),
        ("2026-06-10 12:00:00", ("closed", "break until 13:00")),
        ("2026-06-10 13:00:00", ("open", "opening hours")),
        ("2026-06-10 16:00:00", ("closed", "closed since 16:00")),
        ("2026-06-13 10:00:00", ("closed", "closed on sat")),
        ("2026-03-19 10:00:00", ("closed", "holiday: Hari Suci Nyepi (Tahun Baru Saka 1948)")),
        ("2026-03-20 10:00:00", ("closed", "holiday: Cuti bersama: Idul Fitri")),
        ("2027-08-17 10:00:00", ("closed", "holiday: Proklamasi Kemerdekaan")),
        ("2031-08-18 10:00:00", ("open", "opening hours")),
    ],
)
def test_a_place_is_due_to_be_open_in_its_hours_and_at_no_other_time(moment, wanted):
    assert due(moment) == wanted


@pytest.mark.parametrize("day", ["2027-03-09", "2027-03-10", "2027-03-11", "2027-03-12", "2027-05-17", "2027-05-18"])
def test_a_day_that_a_moon_sighting_may_make_a_holiday_is_neither_open_nor_closed(day):
    state, why = due(f"{day} 10:00")
    assert state == "unknown"
    assert "not settled yet: Idul" in why


def test_hours_outside_of_an_unsettled_day_are_closed_all_the_same():
    assert due("2027-03-10 20:00")[0] == "closed"


def test_a_night_shift_is_one_opening():
    night = tuple(OpenTime(day, *span) for day in range(7) for span in ((0, 360), (1320, 1440)))
    found = Schedule(AMBON, night).at(wall("2026-06-10 02:00"))
    assert (found.due, found.from_ns, found.to_ns) == (Due.OPEN, wall("2026-06-09 22:00"), wall("2026-06-10 06:00"))


def test_the_box_asks_for_the_next_opening_over_weekends_and_holidays():
    found = Schedule(AMBON, WEEK, HOLIDAYS).first_opening_ns(wall("2026-03-17 17:00"))
    assert found == wall("2026-03-25 08:00")
    assert Schedule(AMBON, ()).first_opening_ns(wall("2026-03-17 17:00")) is None


@settings(max_examples=150, deadline=None)
@given(
    seconds=st.integers(0, 3 * 366 * 86_400),
    zone=st.sampled_from(["Asia/Jayapura", "Europe/Berlin", "Australia/Lord_Howe", "Africa/Casablanca", "UTC"]),
)
def test_every_instant_has_one_answer_and_all_instants_of_a_span_have_the_same(seconds, zone):
    schedule = Schedule(ZoneInfo(zone), (*WEEK, OpenTime(6, 0, 1440), OpenTime(5, 120, 180)), HOLIDAYS)
    at_ns = wall("2025-12-31 00:00") + seconds * 1_000_000_000
    found = schedule.at(at_ns)
    assert found.from_ns <= at_ns < found.to_ns
    for other_ns in (found.from_ns, found.to_ns - 1, (found.from_ns + found.to_ns) // 2):
        assert schedule.at(other_ns) == found


# -- lists of holidays ---------------------------------------------------------------------------------


def test_the_list_of_2026_has_the_seventeen_holidays_and_eight_days_of_leave_of_its_decree():
    days = [date(2026, 1, 1) + timedelta(days=number) for number in range(365)]
    found = [holiday for holiday in map(HOLIDAYS.on, days) if holiday is not None]
    assert all(holiday.is_certain for holiday in found)
    assert (sum(not each.is_leave for each in found), sum(each.is_leave for each in found)) == (17, 8)


def test_days_that_follow_easter_lie_where_easter_says():
    for year, easter in ((2026, date(2026, 4, 5)), (2027, date(2027, 3, 28))):  # computed by the Gregorian rule
        a, b, c = year % 19, year // 100, year % 100
        h = (19 * a + b - b // 4 - (b - (b + 8) // 25 + 1) // 3 + 15) % 30
        k = (32 + 2 * (b % 4) + 2 * (c // 4) - h - c % 4) % 7
        m = (a + 11 * h + 22 * k) // 451
        month, day = divmod(h + k - 7 * m + 114, 31)
        assert date(year, month, day + 1) == easter
        for offset in (-2, 0, 39):
            assert HOLIDAYS.on(easter + timedelta(days=offset)) is not None


def test_a_list_of_ones_own_adds_days_and_takes_some_away(tmp_path):
    (tmp_path / "ambon.yaml").write_text(
        "also: indonesia\nevery_year:\n  - {day: 09-07, name: HUT Kota Ambon}\n"
        "days:\n  - {day: 2027-03-11, name: Idul Fitri, sure: decree}\nworking_days: [2026-12-24]\n"
    )
    found = site_holidays.load("ambon.yaml", tmp_path)
    assert found.on(date(2030, 9, 7)).name == "HUT Kota Ambon"  # type: ignore[union-attr]
    assert found.on(date(2027, 3, 11)).is_certain  # type: ignore[union-attr]
    assert found.on(date(2026, 12, 24)) is None
    assert found.on(date(2026, 12, 25)) is not None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("days:\n  - {day: 2026-02-30, name: x}", ":2: days.1.day: '2026-02-30' is no date"),
        ("days:\n  - {name: x}", "days.1.day: is missing"),
        ("days: 7", "days: must be a list"),
        ("days:\n  - {day: 2026-02-03, name: x, give_days: 1}", "a certain day cannot move"),
        ("also: ambon.yaml", "never end"),
        ("\x00", "not YAML"),
        ("working_days: [tomorrow]", "'tomorrow' is no date"),
    ],
)
def test_a_faulty_list_says_where(text, said, tmp_path):
    (tmp_path / "ambon.yaml").write_text(text)
    with pytest.raises(NvrError) as caught:
        site_holidays.load("ambon.yaml", tmp_path)
    assert said in str(caught.value)
    assert caught.value.hint


def test_a_list_that_is_not_there_says_which_there_are(tmp_path):
    with pytest.raises(NvrError) as caught:
        site_holidays.load("atlantis", tmp_path)
    assert "indonesia" in caught.value.hint
