"""Times as people type them."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.cli import times

AMBON = ZoneInfo("Asia/Jayapura")
BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 7, 1, 14, 30, tzinfo=AMBON)


def at(text: str, zone: ZoneInfo = AMBON) -> str:
    return times.iso(times.parsed_ns(text, zone, NOW), zone)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-07-01T09:00:00+09:00", "2026-07-01T09:00:00.000+09:00"),
        ("2026-07-01T00:00:00Z", "2026-07-01T09:00:00.000+09:00"),
        ("2026-07-01T09:00:00", "2026-07-01T09:00:00.000+09:00"),
        ("2026-07-01 09:00", "2026-07-01T09:00:00.000+09:00"),
        ("2026-07-01", "2026-07-01T00:00:00.000+09:00"),
        ("14:03", "2026-07-01T14:03:00.000+09:00"),
        ("9:03:07.5", "2026-07-01T09:03:07.500+09:00"),
        ("23:00", "2026-06-30T23:00:00.000+09:00"),
        ("yesterday 23:00", "2026-06-30T23:00:00.000+09:00"),
        ("today", "2026-07-01T00:00:00.000+09:00"),
        ("now", "2026-07-01T14:30:00.000+09:00"),
        ("-10m", "2026-07-01T14:20:00.000+09:00"),
        ("-90s", "2026-07-01T14:28:30.000+09:00"),
        ("-2h", "2026-07-01T12:30:00.000+09:00"),
        ("-1d", "2026-06-30T14:30:00.000+09:00"),
    ],
)
def test_a_time_without_an_offset_is_meant_at_the_site(text, meant):
    assert at(text) == meant


def test_an_hour_that_comes_twice_is_the_first_of_the_two():
    assert at("2025-10-26 02:30", BERLIN) == "2025-10-26T02:30:00.000+02:00"


def test_nanoseconds_are_kept():
    assert times.parsed_ns("2026-07-01T00:00:00.123456789Z", AMBON, NOW) % 1_000_000_000 == 123_456_789


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tomorrow",
        "25:00",
        "14:61",
        "-10",
        "10m",
        "2026-13-01",
        "1969-12-31T00:00:00Z",
        "-999999999d",
        "0001-01-01",
        "yesterday noon",
    ],
)
def test_what_is_no_time_is_refused_with_a_sentence(text):
    with pytest.raises(ValueError, match=r"is no time|lies outside"):
        times.parsed_ns(text, AMBON, NOW)


def test_a_refused_time_is_named_as_it_was_typed():
    with pytest.raises(ValueError, match=r"^'25:99' is no time"):
        times.parsed_ns("25:99", AMBON, NOW)


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_refused(text):
    try:
        times.parsed_ns(text, AMBON, NOW)
    except ValueError as error:
        assert str(error)


@given(st.integers(0, 253_402_200_000 * 1000))
def test_what_is_printed_is_read_back_to_the_millisecond(ms):
    text = times.iso(ms * 1_000_000, BERLIN)
    assert times.parsed_ns(text, AMBON, datetime.now(UTC)) == ms * 1_000_000
