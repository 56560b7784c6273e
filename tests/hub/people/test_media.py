"""Wall, stills, events, clips, camera, live, changes: bytes and what stands around them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert, select, update

from nvr import wire
from nvr.hub import commands
from nvr.hub import tables as core
from nvr.hub.blobs import byte_range
from nvr.hub.people import live, roles
from nvr.hub.people.recorded import Minute, by_the_minute, count_of, spans_of
from tests.hub.people.world import CLIP, JPEG, NOW_MS


def test_the_wall_answers_not_changed_until_something_but_the_time_changed(world):
    client = world.as_role(roles.VIEWER)
    first = client.get("/api/v1/wall")
    assert [each["place"] for each in first.json()["cameras"]] == [world.own.place, world.foreign.place]
    assert {each["state"] for each in first.json()["cameras"]} == {"live"}
    world.clock.pass_s(3)
    again = client.get("/api/v1/wall", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    world.clock.pass_s(12)
    late = client.get("/api/v1/wall", headers={"If-None-Match": first.headers["etag"]})
    assert {each["state"] for each in late.json()["cameras"]} == {"late"}
    world.clock.pass_s(30)
    assert {each["state"] for each in client.get("/api/v1/wall").json()["cameras"]} == {"silent"}


def test_a_wall_of_37_cameras_is_small(world):
    with world.hub.store.writing() as connection:
        for number in range(35):
            connection.execute(
                insert(core.camera).values(
                    box_id=world.own.box,
                    tenant_id=1,
                    place_id=world.own.place_id,
                    name=f"camera-{number}",
                    streams=[],
                    zones={},
                    rules={},
                )
            )
    answer = world.as_role(roles.VIEWER).get("/api/v1/wall")
    assert len(answer.json()["cameras"]) == 37
    assert len(answer.content) < 20_000  # at 10 s and 1 Mbit/s that is 1.6 % of the link


def test_a_still_is_cached_for_good_under_the_time_it_was_taken_and_checked_otherwise(world):
    client = world.as_role(roles.VIEWER)
    tile = client.get("/api/v1/wall").json()["cameras"][0]
    answer = client.get(tile["still_url"])
    assert (answer.content, answer.headers["content-type"]) == (JPEG, "image/jpeg")
    assert "immutable" in answer.headers["cache-control"]
    for address in (f"/api/v1/stills/{world.own.camera}", f"/api/v1/stills/{world.own.camera}?at=5"):
        assert client.get(address).headers["cache-control"] == "private, no-cache"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", (0, 99, False)), ("bytes=0-", (0, 99, True)), ("bytes=10-19", (10, 19, True)), ("bytes=90-500", (90, 99, True)),
        ("bytes=-10", (90, 99, True)), ("bytes=-500", (0, 99, True)), ("bytes=100-", None), ("bytes=-0", None),
        ("bytes=20-10", (0, 99, False)), ("bytes=0-1,5-6", (0, 99, False)), ("items=0-1", (0, 99, False)), ("bytes=-", (0, 99, False)),
    ],
)  # fmt: skip
def test_parts_of_a_clip_are_what_was_asked_for(header, expected):
    assert byte_range(header, 100) == expected


@given(st.text(max_size=30), st.integers(0, 1000))
def test_any_range_header_gives_a_part_of_the_clip_or_the_whole_or_nothing(header, size):
    found = byte_range(header, size)
    assert found is None or 0 <= found[0] <= max(found[1], 0) <= max(size - 1, 0)


def test_a_clip_arrives_byte_for_byte_in_one_piece_or_in_parts(world):
    client = world.as_role(roles.OPERATOR)
    listed = client.get("/api/v1/clips", params={"place": world.own.place}).json()["clips"]
    assert [each["sha256"] for each in listed] == [world.own.clip]
    answer = client.get(listed[0]["url"])
    assert (answer.content, answer.headers["content-type"], answer.headers["accept-ranges"]) == (
        CLIP,
        "video/mp4",
        "bytes",
    )
    parts = b""
    for begin in range(0, len(CLIP), 3000):
        part = client.get(listed[0]["url"], headers={"Range": f"bytes={begin}-{begin + 2999}"})
        assert part.status_code == 206
        assert part.headers["content-range"] == f"bytes {begin}-{min(begin + 2999, len(CLIP) - 1)}/{len(CLIP)}"
        parts += part.content
    assert parts == CLIP
    assert client.get(listed[0]["url"], headers={"Range": f"bytes={len(CLIP)}-"}).status_code == 416
    assert client.get(f"{listed[0]['url']}?download=true").headers["content-disposition"].startswith("attachment")


def audited(world, who: str) -> list[tuple[str, str]]:
    entries = world.as_role(roles.ADMINISTRATOR).get("/api/v1/audit", params={"who": who}).json()["entries"]
    return [(each["what"], each["object"]) for each in entries]


@pytest.mark.parametrize("part", ["bytes=1-", "bytes=-100", "bytes=5-9"])
def test_no_part_of_a_clip_is_seen_without_a_line_in_the_audit_log(world, part):
    client = world.as_role(roles.OPERATOR)
    who = client.get("/api/v1/session").json()["user"]
    for _ in range(2):
        assert client.get(f"/api/v1/clips/{world.own.clip}", headers={"Range": part}).status_code == 206
    assert audited(world, who).count(("clip seen", f"clip {world.own.clip}")) == 1


def test_bytes_that_are_gone_from_the_store_are_no_fault_of_the_server(world):
    with world.hub.store.reading() as connection:
        blob = connection.execute(
            select(core.object_.c.blob).where(core.object_.c.sha256 == world.own.clip)
        ).scalar_one()
    world.hub.blobs.delete(blob)
    assert world.as_role(roles.OPERATOR).get(f"/api/v1/clips/{world.own.clip}").status_code == 410


def test_a_viewer_sees_events_and_no_address_of_their_clips(world):
    viewer, operator = world.as_role(roles.VIEWER), world.as_role(roles.OPERATOR)
    address = f"/api/v1/events/{world.own.event}"
    assert viewer.get(address).json()["clip_url"] is None
    assert operator.get(address).json()["clip_url"] == f"/api/v1/clips/{world.own.clip}"
    assert viewer.get(f"{address}/still").content == JPEG


def test_events_are_read_page_by_page(world):
    for number in range(7):
        world.clock.pass_s(1)
        world.store_event("congestion", ("free", "dense")[number % 2], world.foreign)
    client = world.as_role(roles.VIEWER)
    seen, before = [], None
    while True:
        page = client.get(
            "/api/v1/events",
            params={"limit": 3, "place": world.foreign.place, **({"before": before} if before else {})},
        ).json()
        seen += [each["id"] for each in page["events"]]
        before = page["before"]
        if before is None:
            break
    assert len(seen) == len(set(seen)) == 8


def test_a_fetch_asks_the_box_once_and_tells_how_far_it_is(world):
    client = world.as_role(roles.OPERATOR)
    body = {"from_ms": NOW_MS - 3_600_000, "to_ms": NOW_MS - 3_500_000, "reason": "laporan polisi 12"}
    answer = client.post(f"/api/v1/cameras/{world.own.camera}/fetch", json=body)
    assert (answer.status_code, answer.json()["state"]) == (202, "waiting")
    command = answer.json()["id"]
    with world.hub.store.writing() as connection:
        row = connection.execute(select(core.command).where(core.command.c.id == command)).one()
        assert row.args == {"camera": "hall", **body}
        assert row.by_user == "operator-all"
        connection.execute(
            update(core.command).where(core.command.c.id == command).values(sent_ms=1, answered_ms=2, ok=True)
        )
    assert client.get(f"/api/v1/commands/{command}").json()["state"] == "answered"
    with world.hub.store.writing() as connection:
        connection.execute(
            update(core.object_).where(core.object_.c.sha256 == world.own.clip).values(command_id=command)
        )
    found = client.get(f"/api/v1/commands/{command}").json()
    assert (found["state"], found["clip"]) == ("done", world.own.clip)


@pytest.mark.parametrize(
    "span", [(NOW_MS, NOW_MS - 1), (NOW_MS - 7_200_000, NOW_MS - 1), (NOW_MS + 1000, NOW_MS + 2000), (5, 5)]
)
def test_a_span_that_cannot_be_fetched_is_refused_in_words(world, span):
    answer = world.as_role(roles.OPERATOR).post(
        f"/api/v1/cameras/{world.own.camera}/fetch", json={"from_ms": span[0], "to_ms": span[1]}
    )
    assert (answer.status_code, answer.json()["key"]) == (422, "span")


def test_a_box_that_does_not_answer_is_not_asked_for_ever_more(world):
    client = world.as_role(roles.OPERATOR)
    statuses = [
        client.post(
            f"/api/v1/cameras/{world.own.camera}/fetch",
            json={"from_ms": NOW_MS - 9000 - number, "to_ms": NOW_MS - 1000},
        ).status_code
        for number in range(22)
    ]
    assert statuses == [202] * 19 + [429] * 3  # one waited already


def test_the_strip_of_a_camera_has_no_holes_and_says_what_is_not_known():
    minutes = [Minute(10, True, ""), Minute(11, True, ""), Minute(12, False, "network"), Minute(14, None, "")]
    assert by_the_minute(minutes, 590_000, 930_000) == [
        {"from_ms": 590_000, "to_ms": 600_000, "what": "unknown", "cause": "not heard"},
        {"from_ms": 600_000, "to_ms": 720_000, "what": "recorded", "cause": ""},
        {"from_ms": 720_000, "to_ms": 780_000, "what": "missing", "cause": "network"},
        {"from_ms": 780_000, "to_ms": 840_000, "what": "unknown", "cause": "not heard"},
        {"from_ms": 840_000, "to_ms": 900_000, "what": "unknown", "cause": ""},
        {"from_ms": 900_000, "to_ms": 930_000, "what": "unknown", "cause": "not heard"},
    ]


def told_count(from_ms: int, to_ms: int, *gaps: tuple[int, int, str]) -> dict[str, Any]:
    return {"from_ms": from_ms, "to_ms": to_ms, "gaps": [list(gap) for gap in gaps]}


def test_where_the_box_counted_the_timeline_is_to_the_second_and_the_newest_count_holds():
    minutes = [Minute(10, True, ""), Minute(11, True, ""), Minute(12, False, "network")]
    older = count_of(told_count(600_000, 700_000, (610_000, 611_500, "network")), 600_000, 1)
    newer = count_of(
        told_count(640_000, 730_000, (650_000, 653_000, "camera"), (725_000, 730_000, "disk slow")), 640_000, 2
    )
    assert older and newer
    assert spans_of(minutes, [older, newer], 600_000, 840_000) == [
        {"from_ms": 600_000, "to_ms": 610_000, "what": "recorded", "cause": ""},
        {"from_ms": 610_000, "to_ms": 611_500, "what": "missing", "cause": "network"},
        {"from_ms": 611_500, "to_ms": 650_000, "what": "recorded", "cause": ""},
        {"from_ms": 650_000, "to_ms": 653_000, "what": "missing", "cause": "camera"},
        {"from_ms": 653_000, "to_ms": 725_000, "what": "recorded", "cause": ""},
        {"from_ms": 725_000, "to_ms": 730_000, "what": "missing", "cause": "disk slow"},
        {"from_ms": 730_000, "to_ms": 780_000, "what": "missing", "cause": "network"},
        {"from_ms": 780_000, "to_ms": 840_000, "what": "unknown", "cause": "not heard"},
    ]
    first = count_of(
        told_count(660_000, 700_000), 600_000, 3
    )  # a new box: nobody misses what was before its first picture
    assert first and spans_of([Minute(10, False, "box off"), Minute(11, True, "")], [first], 600_000, 720_000) == [
        {"from_ms": 600_000, "to_ms": 660_000, "what": "unknown", "cause": "not heard"},
        {"from_ms": 660_000, "to_ms": 720_000, "what": "recorded", "cause": ""},
    ]
    assert spans_of([], [older], 900_000, 960_000) == [
        {"from_ms": 900_000, "to_ms": 960_000, "what": "unknown", "cause": "not heard"}
    ]


@pytest.mark.parametrize(
    "told",
    [
        None, [], {}, {"from_ms": 0, "to_ms": 10}, {"from_ms": 10, "to_ms": 10, "gaps": []}, {"from_ms": True, "to_ms": 10, "gaps": []},
        told_count(0, 10, (4, 3, "camera")), told_count(0, 10, (4, 11, "camera")), told_count(5, 10, (4, 6, "camera")),
        told_count(0, 10, (2, 5, "camera"), (4, 6, "camera")), {"from_ms": 0, "to_ms": 10, "gaps": ["x"]}, {"from_ms": 0, "to_ms": 2**60, "gaps": []},
    ],
)  # fmt: skip
def test_a_count_that_cannot_be_is_none(told):
    assert count_of(told, 0, 1) is None


def test_a_cause_that_nobody_knows_is_not_shown_as_the_box_wrote_it():
    count = count_of({"from_ms": 0, "to_ms": 10, "gaps": [[1, 2, "<b>"], [3, 4, {}]]}, 0, 1)
    assert count is not None and [gap[2] for gap in count.gaps] == ["not known", "not known"]


def test_the_box_counts_for_the_timeline_once_for_each_span(world):
    client, table = world.as_role(roles.OPERATOR), core.command
    camera = f"/api/v1/cameras/{world.own.camera}"
    span = {"from_ms": NOW_MS - 600_000, "to_ms": NOW_MS}

    def ask() -> dict[str, Any]:
        answer = client.post(f"{camera}/count", json=span)
        assert answer.status_code == 202, answer.text
        return answer.json()

    def says(id: str, *gaps: tuple[int, int, str]) -> None:
        more = told_count(NOW_MS - 600_000, NOW_MS - 5_000, *gaps)
        reply = wire.Message("reply", {"id": id, "ok": True, "detail": "", "more": more})
        with world.hub.store.writing() as connection:
            assert commands.answered(connection, world.own.box, reply, world.clock.now)

    first = ask()
    assert (first["do"], first["state"]) == ("ledger", "waiting")
    assert ask()["id"] == first["id"]  # it is being counted
    says(first["id"], (NOW_MS - 90_000, NOW_MS - 88_500, "network"))
    second = ask()
    assert second["id"] != first["id"]
    found = client.get(f"{camera}/timeline", params=span).json()  # the old count holds until the new one is there
    assert found["counted"] == {"from_ms": NOW_MS - 600_000, "to_ms": NOW_MS - 5_000, "at_ms": world.clock.now}
    gaps = [each for each in found["spans"] if each["what"] == "missing"]
    assert [(each["from_ms"], each["to_ms"], each["cause"]) for each in gaps] == [(NOW_MS - 90_000, NOW_MS - 88_500, "network")]  # fmt: skip
    assert found["spans"][-1]["what"] != "recorded" or found["spans"][-1]["to_ms"] <= NOW_MS - 5_000
    says(second["id"])
    found = client.get(f"{camera}/timeline", params=span).json()
    assert not [each for each in found["spans"] if each["what"] == "missing"]
    ask()
    with world.hub.store.reading() as connection:
        kept = connection.execute(select(table.c.id).where(table.c.do == "ledger")).scalars().all()
    assert len(kept) == 2 and first["id"] not in kept
    for minute in range(7):
        assert client.post(f"{camera}/count", json={"from_ms": minute, "to_ms": NOW_MS // 2**30}).status_code == 202
    assert client.post(f"{camera}/count", json={"from_ms": 9, "to_ms": NOW_MS // 2**30}).status_code == 429
    assert client.post(f"{camera}/fetch", json=span).status_code == 202
    world.clock.pass_s(3600)
    silent = client.post(f"{camera}/count", json=span)
    assert (silent.status_code, silent.json()["key"]) == (409, "box silent")
    too_long = {"from_ms": 0, "to_ms": NOW_MS}
    assert client.post(f"{camera}/count", json=too_long).status_code == 422


def test_the_timeline_joins_what_the_box_said_what_is_here_and_what_comes(world):
    with world.hub.store.writing() as connection:
        minutes = [
            {
                "box_id": world.own.box,
                "minute": NOW_MS // 60_000 - ago,
                "body": {"cameras": {"hall": True if ago != 5 else "camera"}},
            }
            for ago in range(10)
        ]
        connection.execute(insert(core.heartbeat_history), minutes)
    span = {"from_ms": NOW_MS - 600_000, "to_ms": NOW_MS}
    found = world.as_role(roles.OPERATOR).get(f"/api/v1/cameras/{world.own.camera}/timeline", params=span).json()
    assert {each["what"] for each in found["spans"]} == {"unknown", "recorded", "missing", "hub", "fetching"}
    assert [each["id"] for each in found["events"]] == [world.own.event]
    too_long = {"from_ms": 0, "to_ms": NOW_MS}
    assert (
        world.as_role(roles.OPERATOR).get(f"/api/v1/cameras/{world.own.camera}/timeline", params=too_long).status_code
        == 422
    )


class Socket:
    """What live.py and guard.py read of a WebSocket."""

    def __init__(self, world, client, **headers: str) -> None:
        from starlette.datastructures import URL, Headers

        self.app, self.url, self.cookies = world.app, URL("wss://hub.example/live/x"), dict(client.cookies)
        self.headers, self.client = Headers({"host": "hub.example", **headers}), None


def test_live_is_for_who_sees_the_camera_and_ends_with_the_session(world):
    viewer = world.as_role(roles.VIEWER, world.own.place_id)
    socket = Socket(world, viewer)
    assert live._may_watch(socket, world.own.box, "hall/main")
    assert live._may_watch(socket, world.own.box, "")
    who = viewer.get("/api/v1/session").json()["user"]
    assert audited(world, who).count(("live seen", f"camera {world.own.camera}")) == 1  # nobody asked for the address
    for box, stream in (
        (world.own.box, "other/main"),
        (world.foreign.box, "hall/main"),
        (world.other.box, ""),
        ("0" * 32, ""),
    ):
        assert not live._may_watch(socket, box, stream)
    assert not live._may_watch(Socket(world, viewer, origin="https://evil.example"), world.own.box, "hall/main")
    viewer.delete("/api/v1/session")
    assert not live._may_watch(socket, world.own.box, "hall/main")


def test_changes_are_for_who_is_logged_in(world):
    """That they arrive, over a real connection, is in test_end_to_end.py."""
    from starlette.websockets import WebSocketDisconnect

    with pytest.raises(WebSocketDisconnect) as closed, world.client().websocket_connect("/api/v1/changes"):
        pass
    assert closed.value.code == 4401


def test_metrics_are_what_prometheus_reads_and_name_nobody(world):
    person = world.as_role(roles.ADMINISTRATOR)
    token = person.post("/api/v1/tokens", json={"title": "t", "scopes": ["metrics"]}).json()["token"]
    answer = world.client().get("/metrics", headers={"Authorization": f"Bearer {token}"})
    assert answer.headers["content-type"].startswith("text/plain")
    lines = answer.text.splitlines()
    assert 'nvr_hub_boxes{state="here"} 2.0' in lines
    assert 'nvr_hub_cameras{state="live"} 2.0' in lines
    assert 'nvr_hub_alerts{family="service",state="open"} 2.0' in lines
    assert f'nvr_hub_objects_bytes{{kind="clip"}} {2 * len(CLIP):.1f}' in lines
    assert world.client().get("/metrics").status_code == 401
