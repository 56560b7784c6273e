from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.errors import NvrError
from nvr.web.answers import NotFound, WrongQuestion, byte_range, day_of, span_of, stream_of, time_ns

KNOWN = frozenset({"street/main", "gate-2/small"})
AMBON = ZoneInfo("Asia/Jayapura")
HOUR_NS = 3600 * 10**9


def test_a_known_stream_is_taken_and_an_unknown_one_is_not_found():
    assert stream_of("street/main", KNOWN) == "street/main"
    with pytest.raises(NotFound):
        stream_of("square/main", KNOWN)


@pytest.mark.parametrize("text", [
    None, "", "street", "street/", "/main", "../main", "street/../main", "..", "street/main/..", "street/main\n", "a/b/main",
    "street/huge", "street%2fmain", "street\0/main", "." * 70 + "/main", "-/main", "ströet/main", " street/main",
])  # fmt: skip
def test_what_is_no_stream_is_refused_before_anything_is_opened(text):
    with pytest.raises(NvrError):
        stream_of(text, KNOWN)


def test_times_are_iso_8601_with_an_offset_or_milliseconds():
    assert time_ns("2026-07-01T09:30:00+09:00", "from") == time_ns("2026-07-01T00:30:00Z", "from")
    assert time_ns("1782865800000", "from") == time_ns(1782865800000, "from") == 1782865800000 * 10**6


@pytest.mark.parametrize("text", [
    None, "", "now", "2026-07-01T09:30:00", "2026-13-01T00:00:00Z", "-1", "1e9", "9" * 15, "9" * 400, True, 1.5, [], {},
    "1969-12-31T23:59:59Z", "9999-12-31T23:59:59.9-23:00", "０", "2026-07-01T09:30:00+99:00",
])  # fmt: skip
def test_what_is_no_time_is_refused(text):
    with pytest.raises(WrongQuestion):
        time_ns(text, "from")


@given(st.text(max_size=60))
def test_any_text_is_a_time_or_a_wrong_question(text):
    try:
        assert 0 <= time_ns(text, "from") < 2**63
    except WrongQuestion as error:
        assert error.hint


@given(
    st.dictionaries(
        st.sampled_from(["from", "to"]), st.one_of(st.text(max_size=30), st.integers(), st.none(), st.floats())
    )
)
def test_any_span_is_in_order_and_short_enough_or_refused(question):
    try:
        from_ns, to_ns = span_of(question, 3600)
    except WrongQuestion:
        return
    assert 0 < to_ns - from_ns <= HOUR_NS


def test_a_day_is_the_day_at_the_site():
    from_ns, to_ns = day_of("2026-07-01", AMBON)
    assert from_ns == time_ns("2026-07-01T00:00:00+09:00", "from")
    assert to_ns - from_ns == 24 * HOUR_NS


def test_a_day_on_which_the_clock_is_set_has_23_or_25_hours():
    berlin = ZoneInfo("Europe/Berlin")
    lengths = [to_ns - from_ns for from_ns, to_ns in (day_of(day, berlin) for day in ("2026-03-29", "2026-10-25"))]
    assert lengths == [23 * HOUR_NS, 25 * HOUR_NS]


@pytest.mark.parametrize(
    "text", [None, "", "today", "2026-7-1", "2026-02-30", "0000-01-01", "9999-12-31", "1969-01-01", "2026-07-01x"]
)
def test_what_is_no_day_is_refused(text):
    with pytest.raises(WrongQuestion):
        day_of(text, AMBON)


def test_a_range_gives_offset_and_size():
    assert byte_range("bytes=4096-8191", 10_000, 8192) == (4096, 4096)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes=",
        "bytes=0-",
        "bytes=-5",
        "bytes=5-4",
        "bytes=0-10000",
        "bytes=0-1,3-4",
        "items=0-1",
        "bytes=0-9999",
    ],
)
def test_a_range_outside_of_the_file_or_longer_than_allowed_is_refused(header):
    with pytest.raises(WrongQuestion):
        byte_range(header, 10_000, 8192)
