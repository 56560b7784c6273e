"""Alerts: what becomes one, what belongs together, and that none ends without a word."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select

from nvr.hub.people import alerting, alerts, roles, tables, words
from nvr.hub.people.alerts import Sign

NOW = 1_795_651_200_000
MINUTE = 60_000


def sign(
    kind: str = "tamper",
    what: str = "covered",
    at_ms: int = NOW,
    *,
    is_over: bool = False,
    value: int = 1,
    event: str = "",
) -> Sign:
    return Sign(kind, what, "", at_ms, value, is_over, event)


@pytest.mark.parametrize(
    ("kind", "state", "is_end", "expected"),
    [
        ("service_open", "closed", False, "begins"), ("service_open", "open", False, "ends"), ("service_open", "cannot tell", False, "ends"),
        ("congestion", "jam", False, "begins"), ("congestion", "dense", False, "ends"), ("queue", "long queue", False, "begins"),
        ("queue", "long queue", True, "ends"), ("queue", "7", False, None), ("queue", "visit", False, None),
        ("line_crossing", "crossed", False, None), ("stopped_vehicle", "stopped", False, "begins"), ("tamper", "frozen", True, "ends"),
        ("camera", "down", False, "begins"), ("something new", "x", False, None), ("asked", "asked", False, None),
    ],
)  # fmt: skip
def test_what_an_event_means_for_alerts(kind, state, is_end, expected):
    found = alerts.sign_of(kind, state, "z", at_ms=NOW, is_end=is_end)
    assert (None if found is None else "ends" if found.is_over else "begins") == expected


def test_a_storm_of_one_camera_is_one_alert_that_counts_and_keeps_its_first_and_newest_events():
    alert = alerts.opened(sign(event="first"))
    news = 0
    for number in range(1000):
        what = ("covered", "frozen", "moved")[number % 3]
        following = sign(what=what, at_ms=NOW + number * 1000, event=f"e{number}")
        assert alerts.joins(alert, following)
        before, alert = alert, alerts.after(alert, following)
        news += alerts.is_news(before, alert)
    assert (alert.count, news, alert.first_ms, alert.last_ms) == (1001, 0, NOW, NOW + 999_000)
    assert len(alert.event_ids) == alerts.IDS_KEPT
    assert (alert.event_ids[0], alert.event_ids[-1]) == ("first", "e999")


def test_what_is_over_stays_until_somebody_says_what_was_done():
    alert = alerts.after(alerts.opened(sign()), sign(at_ms=NOW + MINUTE, is_over=True))
    assert (alert.state, alert.over_ms) == (alerts.OPEN, NOW + MINUTE)
    assert alerts.after(alert, sign(at_ms=NOW + 2 * MINUTE)).over_ms == 0


def test_an_alert_is_called_after_what_is_true_now_and_an_alarm_keeps_its_name():
    """A camera that was not recorded once and is recorded since, but covered now, is not "not recorded, still going on"."""
    over = alerts.after(alerts.opened(sign(what="frozen")), sign(what="frozen", at_ms=NOW + MINUTE, is_over=True))
    assert over.what == "frozen"
    now = alerts.after(over, sign(what="covered", at_ms=NOW + 2 * MINUTE))
    assert (now.what, now.over_ms, now.count) == ("covered", 0, 2)
    assert alerts.after(now, sign(what="moved", at_ms=NOW + 3 * MINUTE)).what == "covered", "the first of several"
    alarm = alerts.after(alerts.opened(sign(what="frozen", value=0)), sign(what="frozen", at_ms=NOW + 1, is_over=True))
    assert alerts.after(alarm, sign(what="covered", at_ms=NOW + 2 * MINUTE)).what == "frozen"


def test_after_half_an_hour_the_same_thing_is_seen_anew_by_whoever_acknowledged_it():
    """Acknowledged at eight, again at five: it must not vanish in the alert of the morning."""
    taken_up = alerts.after(alerts.acknowledged(alerts.opened(sign())), sign(at_ms=NOW + MINUTE, is_over=True))
    assert alerts.joins(taken_up, sign(at_ms=NOW + 20 * MINUTE))
    assert not alerts.joins(taken_up, sign(at_ms=NOW + 31 * MINUTE))
    assert not alerts.joins(alerts.done(taken_up, "x"), sign(at_ms=NOW + 1000))


def test_an_alarm_in_something_smaller_opens_it_again():
    alert = alerts.acknowledged(alerts.opened(sign()))
    worse = alerts.after(alert, sign(at_ms=NOW + 1000, value=0))
    assert (worse.state, worse.value) == (alerts.OPEN, 0)
    assert alerts.is_news(alert, worse)


@given(st.lists(st.sampled_from(["acknowledge", "instruct", "overdue", "sign", "end"]), max_size=30))
def test_no_row_of_steps_ends_an_alert_without_a_word(steps):
    alert = alerts.opened(sign())
    for number, step in enumerate(steps):
        at_ms = NOW + number * MINUTE
        try:
            if step == "acknowledge":
                alert = alerts.acknowledged(alert)
            elif step == "instruct":
                alert = alerts.instructed(alert, "Ani", "buka", at_ms + MINUTE, at_ms)
            elif step == "overdue" and alerts.is_overdue(alert, at_ms + 10 * MINUTE):
                alert = alerts.overdue(alert)
            elif alerts.joins(alert, sign(at_ms=at_ms, is_over=step == "end")):
                alert = alerts.after(alert, sign(at_ms=at_ms, is_over=step == "end"))
        except alerts.NotPossible:
            pass
        assert alert.state != alerts.DONE
    with pytest.raises(alerts.NotPossible):
        alerts.done(alert, "  ")


def test_what_an_instruction_lacks_is_said():
    alert = alerts.opened(sign())
    for to, what, due_ms in (("", "x", NOW + 1), ("x", " ", NOW + 1), ("x", "y", NOW)):
        with pytest.raises(alerts.NotPossible):
            alerts.instructed(alert, to, what, due_ms, NOW)
    assert alerts.acknowledged(replace(alert, due_ms=NOW + 1)).state == alerts.INSTRUCTED


def heartbeat(**cameras) -> dict:
    return {"cameras": cameras}


def test_what_the_hub_notices_by_itself():
    good = {"recording": True, "since_ms": NOW - 10**6}
    down = {"recording": False, "cause": "network", "since_ms": NOW - 61_000}
    just = {"recording": False, "cause": "network", "since_ms": NOW - 59_000}
    found = alerts.conditions(NOW - 1000, heartbeat(a=good, b=down, c=just), NOW)
    assert [(each.camera, each.kind, each.since_ms) for each in found] == [("b", "not recording", NOW - 61_000)]
    ill = {
        "disk": {"trouble": "read-only", "life_left_percent": 4},
        "ledger": {"a": {"missing_s": 61.2, "by_cause": {"camera": 61.2}}, "b": {"missing_s": 59}},
    }
    assert [each.kind for each in alerts.conditions(NOW - 1000, ill, NOW)] == ["disk", "disk", "footage missing"]
    silent = alerts.conditions(NOW - 91_000, {**ill, **heartbeat(b=down)}, NOW)
    assert [each.kind for each in silent] == ["box silent"]  # of its cameras nothing is known
    assert alerts.conditions(None, {}, NOW, was_enrolled_ms=NOW - 1000) == []


def test_what_is_wrong_with_a_box_itself_is_an_alert_of_its_own():
    troubles = [
        {"kind": "site file", "detail": "line 7", "since_ms": NOW - 5},
        {"kind": "process", "detail": "web hung", "since_ms": True},
        7,
    ]
    found = alerts.conditions(NOW - 1000, {"troubles": troubles}, NOW)
    assert [(each.kind, each.what, each.since_ms) for each in found][:2] == [
        ("box", "site file", NOW - 5),
        ("box", "process", NOW),
    ]
    for kind in ("site file", "card file", "process"):
        assert words.happened("box", kind, "id") != words.happened("box", kind, "en")


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["cameras", "disk", "ledger", "trouble", "a", "recording", "missing_s", "since_ms", "life_left_percent", "troubles", "kind"]), inner, max_size=4), max_leaves=12))  # fmt: skip
def test_any_heartbeat_is_looked_at_without_a_fault(value):
    for condition in alerts.conditions(NOW - 1000, value if isinstance(value, dict) else {"cameras": value}, NOW):
        assert condition.kind in alerts.FAMILIES


# -- in the tables -----------------------------------------------------------------------------------------------


def test_a_storm_of_events_is_one_alert_and_one_line_in_its_history(world):
    for number in range(40):
        world.clock.pass_s(1)
        world.store_event("tamper", ("covered", "frozen")[number % 2])
    client = world.as_role(roles.OPERATOR, world.own.place_id)
    found = [
        each
        for each in client.get("/api/v1/alerts", params={"state": "open"}).json()["alerts"]
        if each["family"] == "picture"
    ]
    assert [(each["count"], each["kind"], each["what"]) for each in found] == [(40, "tamper", "covered")]
    steps = client.get(f"/api/v1/alerts/{found[0]['id']}").json()["steps"]
    assert [each["what"] for each in steps] == ["opened"]


def test_the_same_event_told_twice_counts_once(world):
    row = world.store_event("stopped_vehicle", "stopped")
    with world.hub.store.writing() as connection:
        alerting.take_events(connection, world.hub, [row], world.clock.now)
    client = world.as_role(roles.OPERATOR)
    assert [
        each["count"] for each in client.get("/api/v1/alerts").json()["alerts"] if each["kind"] == "stopped_vehicle"
    ] == [1]


def test_an_alert_goes_from_open_to_done_and_its_whole_history_is_kept(world):
    client = world.as_role(roles.MAYOR)
    address = f"/api/v1/alerts/{world.own.alert}"
    assert client.post(f"{address}/acknowledge").json()["state"] == "acknowledged"
    assert client.post(f"{address}/acknowledge").status_code == 409
    term = {"to": "Kepala puskesmas", "what": "Buka loket sekarang", "due_ms": world.clock.now + 3_600_000}
    found = client.post(f"{address}/instruct", json=term).json()
    assert (found["state"], found["instructions"][0]["to"], found["due_ms"]) == (
        "instructed",
        "Kepala puskesmas",
        term["due_ms"],
    )
    assert client.post(f"{address}/done", json={"note": " "}).status_code == 409
    found = client.post(f"{address}/done", json={"note": "Loket dibuka 09.40"}).json()
    assert found["state"] == "done"
    assert found["instructions"][0]["done_ms"] == world.clock.now
    assert [(each["what"], each["who"]) for each in found["steps"]] == [
        ("acknowledged", "mayor-all"), ("instructed", "mayor-all"), ("done", "mayor-all"),
    ]  # fmt: skip
    assert client.post(f"{address}/done", json={"note": "again"}).status_code == 409


def test_an_instruction_that_is_not_done_in_time_brings_its_alert_back(world):
    client = world.as_role(roles.MAYOR)
    address = f"/api/v1/alerts/{world.own.alert}"
    client.post(f"{address}/instruct", json={"to": "Ani", "what": "buka", "due_ms": world.clock.now + 600_000})
    world.clock.pass_s(599)
    with world.hub.store.writing() as connection:
        assert alerting.bring_back_overdue(connection, world.hub, world.clock.now) == 0
    world.clock.pass_s(2)
    with world.hub.store.writing() as connection:
        assert alerting.bring_back_overdue(connection, world.hub, world.clock.now) == 1
        assert alerting.bring_back_overdue(connection, world.hub, world.clock.now) == 0
    found = client.get(address).json()
    assert (found["state"], found["is_overdue"], found["steps"][-1]["what"], found["steps"][-1]["who"]) == (
        "open",
        True,
        "overdue",
        "",
    )


def test_a_mayor_instructs_where_nothing_rang(world):
    client = world.as_role(roles.MAYOR)
    body = {"place": world.foreign.place, "to": "Dishub", "what": "Atur lampu", "due_ms": world.clock.now + 60_000}
    answer = client.post("/api/v1/alerts", json=body)
    assert answer.status_code == 201
    assert (answer.json()["kind"], answer.json()["state"], answer.json()["place"]) == (
        "asked",
        "instructed",
        world.foreign.place,
    )
    assert client.post("/api/v1/alerts", json={**body, "due_ms": 5}).status_code == 409


def test_of_two_people_at_the_same_time_one_is_told_that_the_other_was_faster(world):
    clients = [world.as_role(role) for role in (roles.MAYOR, roles.OPERATOR, roles.ADMINISTRATOR)]
    with ThreadPoolExecutor(3) as pool:
        statuses = pool.map(
            lambda client: client.post(f"/api/v1/alerts/{world.own.alert}/acknowledge").status_code, clients
        )
        assert sorted(statuses) == [200, 409, 409]


def look(world) -> None:
    with world.hub.store.writing() as connection:
        alerting.look_at_boxes(connection, world.hub, world.clock.now)


def of_family(client, family: str) -> list[dict]:
    return [each for each in client.get("/api/v1/alerts").json()["alerts"] if each["family"] == family]


def test_a_silent_box_is_one_alert_however_long_and_says_when_it_is_back(world):
    client = world.as_role(roles.OPERATOR, world.own.place_id)
    look(world)
    assert of_family(client, "box") == []
    for _ in range(10):
        world.clock.pass_s(30)
        look(world)
    found = of_family(client, "box")
    assert [(each["kind"], each["count"], each["over_ms"], each["box_name"]) for each in found] == [
        ("box silent", 1, None, "box-a")
    ]
    assert (
        of_family(world.as_role(roles.VIEWER, world.other.place_id, tenant_id=2), "box")[0]["box_id"] == world.other.box
    )
    world.heard(world.own)
    look(world)
    assert of_family(client, "box")[0]["over_ms"] == world.clock.now
    assert of_family(client, "box")[0]["state"] == "open"


def test_a_camera_that_is_not_recorded_alerts_and_its_box_going_silent_neither_ends_nor_repeats_it(world):
    client = world.as_role(roles.OPERATOR, world.own.place_id)
    down = {"recording": False, "cause": "camera", "since_ms": world.clock.now}
    world.clock.pass_s(70)
    world.heard(world.own, {"cameras": {"hall": down}})
    look(world)
    assert [each["numbers"] for each in of_family(client, "picture")] == [{"cause": "camera"}]
    world.clock.pass_s(200)
    look(world)
    assert [(each["over_ms"], each["count"]) for each in of_family(client, "picture")] == [(None, 1)]
    world.heard(world.own, {"cameras": {"hall": {"recording": True, "since_ms": world.clock.now}}})
    look(world)
    assert of_family(client, "picture")[0]["over_ms"] == world.clock.now


def test_a_blocked_box_alerts_nobody(world):
    world.as_role(roles.ADMINISTRATOR).post(f"/api/v1/boxes/{world.own.box}/block", json={"blocked": True})
    world.clock.pass_s(500)
    look(world)
    with world.hub.store.reading() as connection:
        table = tables.alert
        assert (
            connection.execute(
                select(func.count()).where(table.c.box_id == world.own.box, table.c.family == "box")
            ).scalar_one()
            == 0
        )
