"""Opening hours kept, waiting, traffic: what is added up, and what nobody can know."""

from __future__ import annotations

import csv
import io
import itertools
from dataclasses import replace
from datetime import date
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert

from nvr.hub import tables as core
from nvr.hub.people import hours, opening, reports, roles, words
from nvr.hub.people.opening import Change
from tests.hub.people.world import NOW_MS

ZONE = ZoneInfo("Asia/Jayapura")
DAY = date(2026, 11, 26)
MIDNIGHT = opening.day_ms(DAY, ZONE)
H = 3_600_000


def at(hour: float) -> int:
    return MIDNIGHT + round(hour * H)


def change(hour: float, state: str, due: str = "open", boot: str = "1") -> Change:
    return Change(at(hour), state, due, boot, f"{hour}")


ALL_DAY = [(at(0), at(24))]
USUAL = [
    change(0, "cannot tell", "closed"), change(8, "cannot tell"), change(8.5, "open"), change(12, "closed"), change(13, "open"),
    change(14, "cannot tell", "closed"),
]  # fmt: skip


def test_a_usual_day_adds_up_and_says_how_late_it_was():
    found = opening.days(opening.stretches(USUAL, ALL_DAY, at(24)), ZONE, DAY, DAY)
    assert found == [opening.Day(DAY, 6 * 3600, round(4.5 * 3600), 3600, 1800, at(8), at(14), at(8.5), at(14), 0)]
    assert found[0].kept == round(4.5 / 5.5, 4)


def test_after_a_restart_of_the_box_nobody_knows_what_was_since_it_was_heard_last():
    """The box lost power at ten while the office was open, and came back at twelve: two hours are not `open`."""
    told = [
        change(8, "open"),
        change(12, "cannot tell", boot="2"),
        change(12.2, "open", boot="2"),
        change(14, "cannot tell", "closed", "2"),
    ]
    found = opening.days(opening.stretches(told, [(at(0), at(10)), (at(12), at(24))], at(24)), ZONE, DAY, DAY)[0]
    assert (found.open_s, found.cannot_tell_s) == (round(3.8 * 3600), round(2.2 * 3600))


def closed(hour: float, behind_s: float = 310) -> Change:
    return replace(change(hour, "closed"), behind_ms=round(behind_s * 1000))


def test_closed_holds_as_far_as_its_end_says():
    """Told at 9.2, of nine o'clock on; somebody opens at eleven, and what was confirmed ends five minutes before."""
    ended = replace(change(11 - 310 / 3600, "cannot tell"), behind_ms=310_000)
    told = [change(8, "cannot tell"), closed(9), ended, change(11, "open"), change(14, "cannot tell", "closed")]
    found = opening.days(opening.stretches(told, ALL_DAY, at(24)), ZONE, DAY, DAY)[0]
    assert (found.closed_s, found.cannot_tell_s, found.open_s) == (2 * 3600 - 310, 3600 + 310, 3 * 3600)


def test_closed_that_stands_is_counted_up_to_when_it_is_confirmed():
    found = opening.days(opening.stretches([closed(8)], [(at(0), at(9))], at(9)), ZONE, DAY, DAY)[0]
    assert (found.closed_s, found.cannot_tell_s) == (3600 - 310, 310)


def test_a_detection_that_was_killed_confirmed_nothing_of_its_last_minutes():
    """The box went on, and a new process began to look at ten: nobody said how far `closed` was confirmed."""
    told = [closed(8), change(10, "cannot tell"), change(14, "cannot tell", "closed")]
    found = opening.days(opening.stretches(told, ALL_DAY, at(24)), ZONE, DAY, DAY)[0]
    assert (found.closed_s, found.cannot_tell_s) == (2 * 3600 - 310, 4 * 3600 + 310)


def test_a_box_that_was_only_offline_is_believed_when_its_word_arrives():
    told = [change(8, "open"), change(12, "closed"), change(14, "cannot tell", "closed")]
    found = opening.days(opening.stretches(told, [(at(0), at(9)), (at(13), at(24))], at(24)), ZONE, DAY, DAY)[0]
    assert (found.open_s, found.closed_s, found.cannot_tell_s) == (4 * 3600, 2 * 3600, 0)


def test_the_newest_state_holds_no_longer_than_the_box_was_heard():
    found = opening.days(opening.stretches([change(8, "open")], [(at(0), at(9))], at(11)), ZONE, DAY, DAY)[0]
    assert (found.open_s, found.cannot_tell_s) == (3600, 2 * 3600)


def test_closed_since_before_it_was_told_replaces_the_doubt_and_nothing_is_counted_twice():
    told = [
        change(8, "cannot tell"),
        change(8.1, "open"),
        change(9, "closed"),
        change(8.6, "closed"),
        change(14, "cannot tell", "closed"),
    ]
    found = opening.stretches(told, ALL_DAY, at(24))
    assert all(a.to_ms <= b.from_ms for a, b in itertools.pairwise(found))
    assert opening.days(found, ZONE, DAY, DAY)[0].due_s == 6 * 3600


def test_a_day_that_may_be_a_holiday_blames_nobody():
    told = [change(8, "cannot tell", "unknown"), change(14, "cannot tell", "closed")]
    found = opening.days(opening.stretches(told, ALL_DAY, at(24)), ZONE, DAY, DAY)[0]
    assert (found.due_s, found.maybe_holiday_s, found.kept) == (0, 6 * 3600, None)


def test_a_place_is_open_where_one_camera_says_so_and_closed_where_all_do():
    first = opening.stretches(
        [change(8, "open"), change(10, "closed"), change(14, "cannot tell", "closed")], ALL_DAY, at(24)
    )
    second = opening.stretches(
        [change(8, "closed"), change(12, "cannot tell"), change(14, "cannot tell", "closed")], ALL_DAY, at(24)
    )
    found = opening.days(opening.merged([first, second]), ZONE, DAY, DAY)[0]
    assert (found.open_s, found.closed_s, found.cannot_tell_s) == (2 * 3600, 2 * 3600, 2 * 3600)


@given(
    st.lists(
        st.tuples(
            st.floats(0, 48),
            st.sampled_from(opening.STATES),
            st.sampled_from(["open", "closed", "unknown"]),
            st.sampled_from("12"),
        ),
        max_size=12,
    ),
    st.lists(st.tuples(st.floats(0, 24), st.floats(0, 24)), max_size=4),
)
def test_whatever_was_told_every_second_is_counted_at_most_once(told, heard):
    changes = [change(*each) for each in told]
    spans = sorted((at(begin), at(begin + length)) for begin, length in heard)
    found = opening.stretches(changes, spans, at(48))
    assert all(each.from_ms < each.to_ms for each in found)
    assert all(a.to_ms <= b.from_ms for a, b in itertools.pairwise(found))
    for day in opening.days(found, ZONE, DAY, date(2026, 11, 27)):
        assert day.due_s == day.open_s + day.closed_s + day.cannot_tell_s
        assert 0 <= day.due_s + day.maybe_holiday_s <= 24 * 3600 + 3


@pytest.mark.parametrize("month", ["2026-13", "2026-0", "26-11", "２０２６-11", "1999-01", "2026-11-01", ""])
def test_what_is_no_month_is_refused(month):
    with pytest.raises(ValueError):
        opening.month_span(month, ZONE)


def test_a_month_ends_where_the_next_begins_also_over_a_change_of_clocks():
    for zone, month in (
        (ZONE, "2026-12"),
        (ZoneInfo("Europe/Berlin"), "2026-03"),
        (ZoneInfo("America/Sao_Paulo"), "2018-11"),
    ):
        first, last, from_ms, to_ms = opening.month_span(month, zone)
        assert (first.day, last.month, (to_ms - from_ms) // (24 * H) in (29, 30, 31)) == (1, first.month, True)


def test_waiting_is_told_by_values_that_were_measured():
    visits = [hours.Visit(at(9) + each, float(each)) for each in range(1, 11)] + [hours.Visit(at(10), 5.0)]
    assert hours.waiting_by_hour(visits, ZONE) == [hours.Waiting(9, 10, 5, 9, 10), hours.Waiting(10, 1, 5, 5, 5)]


def test_jams_of_two_lanes_at_the_same_time_are_one_jam():
    lanes = [[(at(7.5), at(8.5), "jam")], [(at(8), at(9), "jam"), (at(9), at(9.5), "dense")]]
    assert hours.jam_by_hour(hours.worst_of(lanes), ZONE) == [
        hours.Jammed("2026-11-26", 7, 1800, 0), hours.Jammed("2026-11-26", 8, 3600, 0), hours.Jammed("2026-11-26", 9, 0, 1800),
    ]  # fmt: skip


def test_a_cell_that_begins_like_a_formula_is_told_as_text():
    assert [words.cell(each) for each in ("=1+1", "@x", "-5", "+62 811", None, 0.5)] == [
        "'=1+1",
        "'@x",
        "-5",
        "'+62 811",
        "",
        "0.5",
    ]


# -- through the API ---------------------------------------------------------------------------------------------


def store_day(world) -> None:
    rows = []
    for number, each in enumerate(USUAL):
        told = {"words": {"due": each.due}, "numbers": {}, "boot_id": each.boot_id}
        rows.append(
            world.event_row(
                1, world.own.box, world.own.camera, world.own.place_id, "service_open", each.state, event_id=f"{number:032x}",
                from_ms=each.from_ms - 24 * H, to_ms=each.from_ms - 24 * H, body=told,
            )
        )  # fmt: skip
    with world.hub.store.writing() as connection:
        connection.execute(insert(core.event), rows)
        minutes = [
            {"box_id": world.own.box, "minute": minute, "body": {}}
            for minute in range((at(-24)) // 60_000, NOW_MS // 60_000)
        ]
        connection.execute(insert(core.heartbeat_history), minutes)


def test_the_report_of_opening_hours_counts_the_days_of_its_month(world):
    store_day(world)
    client = world.as_role(roles.MAYOR)
    found = client.get("/api/v1/reports/opening").json()
    yesterday = next(each for each in found["days"] if each["day"] == "2026-11-25")
    assert (yesterday["due_s"], yesterday["open_s"], yesterday["closed_s"]) == (6 * 3600, round(4.5 * 3600), 3600)
    assert found["places"][0]["kept"] == pytest.approx(yesterday["kept"], abs=0.001)  # and some seconds of today
    assert client.get("/api/v1/reports/opening", params={"month": "2026-10"}).json()["days"] == []


def test_a_table_for_spreadsheets_is_utf8_without_a_mark_and_speaks_both_languages(world):
    store_day(world)
    client = world.as_role(roles.OPERATOR)
    for language, first in (("id", "Kode tempat"), ("en", "Place code")):
        answer = client.get("/api/v1/reports/opening", params={"format": "csv", "language": language})
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        assert not answer.content.startswith(b"\xef\xbb\xbf")
        rows = list(csv.reader(io.StringIO(answer.content.decode())))
        assert rows[0][0] == first
        assert (rows[1][0], rows[1][2], rows[1][5]) == (world.own.place, "2026-11-25", "08:30")


def test_what_crosses_a_line_is_counted_once_and_stays_counted_when_its_event_is_deleted(world):
    for number in range(5):
        words_ = {"class": "car" if number else "two-wheeler", "direction": "in"}
        world.store_event(
            "line_crossing",
            "crossed",
            world.foreign,
            is_moment=True,
            zone="stop",
            body={"words": words_, "numbers": {}},
        )
    with world.hub.store.writing() as connection:
        connection.execute(core.event.delete().where(core.event.c.kind == "line_crossing"))
    found = world.as_role(roles.OPERATOR).get("/api/v1/reports/traffic").json()["hours"]
    assert [(each["place"], each["thing"], each["count"], each["hour"]) for each in found] == [
        (world.foreign.place, "car", 4, 8), (world.foreign.place, "two-wheeler", 1, 8),
    ]  # fmt: skip
    board = world.as_role(roles.VIEWER).get(f"/api/v1/places/{world.foreign.place}").json()
    assert board["traffic"] is None  # counts alone are no judgement


def test_waiting_by_hour_comes_from_visits(world):
    for dwell_s in (60.0, 120.0, 600.0):
        world.store_event("queue", "visit", is_moment=True, body={"numbers": {"dwell_s": dwell_s}, "words": {}})
    found = world.as_role(roles.MAYOR).get("/api/v1/reports/waiting").json()
    assert [(each["hour"], each["visits"], each["median_s"], each["longest_s"]) for each in found["hours"]] == [
        (9, 3, 120, 600)
    ]
    assert found["is_complete"]
    assert reports.month_of(NOW_MS, ZONE) == "2026-11"
