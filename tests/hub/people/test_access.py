"""Log-in, sessions, CSRF, throttling, one-time links, the second factor."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pyotp
import pytest
from sqlalchemy import func, select, update

from nvr.hub import tables as core
from nvr.hub.people import access, audit, passwords, roles, tables, throttle
from tests.hub.people.world import PASSWORD

LOGIN = {"name": "ani", "password": PASSWORD}


@pytest.fixture
def ani(world):
    world.user("ani", (roles.OPERATOR, None), password=PASSWORD)
    return world.client()


def test_the_first_administrator_comes_by_a_link_that_works_once_and_there_is_no_default_password(world):
    client = world.client()
    assert client.post("/api/v1/session", json={"name": "admin", "password": "admin"}).status_code == 401
    address = access.first_link(world.hub.store, "city", "https://hub.example", world.clock.now)
    page, _, code = address.partition("#")
    assert page == "https://hub.example/enter"
    weak = client.post("/api/v1/session/link", json={"code": code, "password": "1234567890", "name": "walikota"})
    assert (weak.status_code, weak.json()["key"]) == (422, "password refused")  # and the link is as good as before
    made = client.post("/api/v1/session/link", json={"code": code, "password": PASSWORD, "name": "Walikota"})
    assert made.status_code == 200
    assert (made.json()["user"], made.json()["roles"]) == ("walikota", [{"role": "administrator", "place": None}])
    assert client.get("/api/v1/users").status_code == 200
    assert (
        client.post("/api/v1/session/link", json={"code": code, "password": PASSWORD, "name": "second"}).status_code
        == 401
    )


def test_a_link_for_the_first_administrator_is_made_while_there_is_none(world):
    assert access.link_for_nobody(world.hub.store, "city", "https://hub.example", world.clock.now) is None
    with world.hub.store.writing() as connection:
        connection.execute(update(tables.user).values(blocked=True))
    assert access.link_for_nobody(world.hub.store, "city", "https://hub.example", world.clock.now).startswith(
        "https://hub.example/enter#"
    )


def test_looking_at_the_same_thing_again_and_again_is_one_line_in_ten_minutes(world):
    client = world.as_role(roles.OPERATOR)
    span = {"from_ms": world.clock.now - 1000, "to_ms": world.clock.now}
    for seconds in (0, 10, 20, 700):
        world.clock.pass_s(seconds)
        assert client.get(f"/api/v1/cameras/{world.own.camera}/timeline", params=span).status_code == 200
    entries = (
        world.as_role(roles.ADMINISTRATOR).get("/api/v1/audit", params={"what": "timeline seen"}).json()["entries"]
    )
    assert len(entries) == 2


def test_a_link_that_is_used_twice_at_the_same_time_makes_one_administrator(world):
    code = access.first_link(world.hub.store, "city", "", world.clock.now).partition("#")[2]

    def use(name: str) -> int:
        return (
            world.client()
            .post("/api/v1/session/link", json={"code": code, "password": PASSWORD, "name": name})
            .status_code
        )

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(use, ["first", "second", "third", "fourth"])) == [200, 401, 401, 401]


def test_a_link_ends_after_a_day(world):
    code = access.first_link(world.hub.store, "city", "", world.clock.now).partition("#")[2]
    world.clock.pass_s(access.LINK_S)
    assert (
        world.client()
        .post("/api/v1/session/link", json={"code": code, "password": PASSWORD, "name": "late"})
        .status_code
        == 401
    )


def test_the_cookie_is_out_of_reach_of_scripts_plain_pages_and_other_sites(world, ani):
    answer = ani.post("/api/v1/session", json=LOGIN)
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-nvr=")
    for part in ("HttpOnly", "Secure", "SameSite=lax", "Path=/"):
        assert part in cookie
    assert "Domain" not in cookie
    assert ani.get("/api/v1/session").json()["csrf"] == answer.json()["csrf"]


def test_over_plain_http_the_cookie_has_a_plain_name_that_tls_does_not_take(world, ani):
    plain = world.client(base_url="http://127.0.0.1")
    assert plain.post("/api/v1/session", json=LOGIN).headers["set-cookie"].startswith("nvr=")
    secure = world.client()
    secure.cookies.set("nvr", plain.cookies["nvr"])
    assert secure.get("/api/v1/session").status_code == 401


def test_a_session_name_from_before_the_log_in_is_worth_nothing_after_it(world, ani):
    """Session fixation: somebody sets a cookie in a victim's browser and waits for the log-in."""
    ani.cookies.set("__Host-nvr", "chosen-by-somebody-else")
    assert ani.post("/api/v1/session", json=LOGIN).status_code == 200
    thief = world.client()
    thief.cookies.set("__Host-nvr", "chosen-by-somebody-else")
    assert thief.get("/api/v1/session").status_code == 401


def test_logging_in_again_ends_the_session_that_was_open_in_this_browser(world, ani):
    ani.post("/api/v1/session", json=LOGIN)
    before = ani.cookies["__Host-nvr"]
    ani.post("/api/v1/session", json=LOGIN)
    copy = world.client()
    copy.cookies.set("__Host-nvr", before)
    assert copy.get("/api/v1/session").status_code == 401


def test_logging_out_ends_the_session_wherever_its_cookie_was_copied_to(world, ani):
    csrf = ani.post("/api/v1/session", json=LOGIN).json()["csrf"]
    copy = world.client()
    copy.cookies.set("__Host-nvr", ani.cookies["__Host-nvr"])
    assert copy.get("/api/v1/wall").status_code == 200
    assert ani.delete("/api/v1/session", headers={"X-CSRF": csrf}).status_code == 204
    assert copy.get("/api/v1/wall").status_code == 401


def test_a_session_ends_after_a_shift_without_use_and_after_two_weeks_with_it(world, ani):
    ani.post("/api/v1/session", json=LOGIN)
    world.clock.pass_s(access.SESSION_S - 10)
    assert ani.get("/api/v1/session").status_code == 200
    world.clock.pass_s(access.SESSION_S)
    assert ani.get("/api/v1/session").status_code == 401
    ani.post("/api/v1/session", json=LOGIN)
    for _ in range(access.SESSION_MOST_S // (access.SESSION_S // 2) - 1):
        world.clock.pass_s(access.SESSION_S // 2)
        assert ani.get("/api/v1/session").status_code == 200
    world.clock.pass_s(access.SESSION_S // 2)
    assert ani.get("/api/v1/session").status_code == 401


def test_nothing_is_changed_without_the_token_of_this_session(world, ani):
    csrf = ani.post("/api/v1/session", json=LOGIN).json()["csrf"]
    other = world.client()
    other_csrf = other.post("/api/v1/session", json=LOGIN).json()["csrf"]
    assert other_csrf != csrf
    body = {"language": "en"}
    for headers in ({}, {"X-CSRF": ""}, {"X-CSRF": other_csrf}, {"X-CSRF": "ä"}):
        answer = ani.patch("/api/v1/session", json=body, headers={k: v.encode() for k, v in headers.items()})
        assert (answer.status_code, answer.json()["key"]) == (403, "csrf")
    assert ani.patch("/api/v1/session", json=body, headers={"X-CSRF": csrf}).status_code == 204


def test_another_site_can_neither_log_a_browser_in_nor_change_anything(world, ani):
    evil = {"Origin": "https://evil.example"}
    assert ani.post("/api/v1/session", json=LOGIN, headers=evil).status_code == 403
    csrf = ani.post("/api/v1/session", json=LOGIN, headers={"Origin": "https://hub.example"}).json()["csrf"]
    assert ani.patch("/api/v1/session", json={"language": "en"}, headers={"X-CSRF": csrf, **evil}).status_code == 403
    # A form of another site cannot send JSON; as text it is refused.
    assert (
        ani.post(
            "/api/v1/session", content=b'{"name":"a","password":"b"}', headers={"Content-Type": "text/plain"}
        ).status_code
        == 422
    )


def test_a_wrong_name_a_wrong_password_and_a_blocked_user_get_the_same_answer(world, ani):
    world.user("budi", password=PASSWORD)
    with world.hub.store.writing() as connection:
        connection.execute(update(tables.user).where(tables.user.c.name == "budi").values(blocked=True))
    tries = [
        {"name": "nobody", "password": PASSWORD},
        {"name": "ani", "password": "wrong"},
        {"name": "budi", "password": PASSWORD},
    ]
    tries.append({"name": "ani", "password": PASSWORD, "tenant": "no-such"})
    answers = [ani.post("/api/v1/session", json=body) for body in tries]
    assert {(answer.status_code, answer.text) for answer in answers} == {(401, answers[0].text)}


def test_tries_from_one_address_wait_longer_and_longer_whatever_the_account(world, ani):
    for number in range(throttle.FREE_TRIES):
        assert ani.post("/api/v1/session", json={"name": f"user{number}", "password": "wrong"}).status_code == 401
    answer = ani.post("/api/v1/session", json=LOGIN)
    assert (answer.status_code, answer.headers["retry-after"], answer.json()["retry_s"]) == (429, "1", 1)
    world.clock.pass_s(1.1)
    assert ani.post("/api/v1/session", json={"name": "ani", "password": "wrong"}).status_code == 401
    assert ani.post("/api/v1/session", json=LOGIN).json()["retry_s"] == 2
    world.clock.pass_s(2.1)
    assert ani.post("/api/v1/session", json=LOGIN).status_code == 200
    assert (
        ani.post("/api/v1/session", json={"name": "ani", "password": "wrong"}).status_code == 401
    )  # forgiven: free again


def test_tries_at_one_account_from_many_addresses_are_slowed_and_its_owner_is_not_locked_out(world, ani):
    for number in range(throttle.FREE_TRIES):
        access.take_try(world.hub.store, "city", "ani", f"198.51.100.{number}", world.clock.now)
    with pytest.raises(access.TooManyTries):
        access.take_try(world.hub.store, "city", "ani", "198.51.100.99", world.clock.now)
    for number in range(20):
        world.clock.pass_s(max(throttle.ACCOUNT_WAIT_S) + 0.1)
        access.take_try(world.hub.store, "city", "ani", f"192.0.2.{number}", world.clock.now)
    world.clock.pass_s(max(throttle.ACCOUNT_WAIT_S) + 0.1)
    assert ani.post("/api/v1/session", json=LOGIN).status_code == 200


def test_tries_at_the_same_time_count_too(world):
    def attempt(_: int) -> bool:
        try:
            access.take_try(world.hub.store, "city", "ani", "203.0.113.9", world.clock.now)
        except access.TooManyTries:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(24))) == throttle.FREE_TRIES


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("203.0.113.9", "203.0.113.9"), ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"), ("::ffff:203.0.113.9", "203.0.113.9"), ("x", "unknown"),
    ],
)  # fmt: skip
def test_an_ipv6_host_cannot_choose_itself_a_new_address(address, key):
    assert throttle.subscriber(address) == key


def test_waits_grow_and_are_forgiven_after_an_hour_also_when_the_clock_was_set_back():
    tries = throttle.Tries()
    waits = []
    for _ in range(14):
        tries = throttle.counted(tries, 10**12)
        waits.append(throttle.wait_ms(tries, 10**12, throttle.ADDRESS_WAIT_S) // 1000)
    assert waits == [0, 0, 0, 1, 2, 5, 15, 30, 60, 120, 300, 300, 300, 300]
    assert throttle.wait_ms(tries, 10**12 + 3_600_001, throttle.ADDRESS_WAIT_S) == 0
    assert throttle.wait_ms(tries, 10**12 - 3_600_001, throttle.ADDRESS_WAIT_S) == 0


def test_the_second_factor_is_asked_for_and_a_code_works_once(world, ani):
    csrf = ani.post("/api/v1/session", json=LOGIN).json()["csrf"]
    headers = {"X-CSRF": csrf}
    secret = ani.post("/api/v1/session/totp", headers=headers).json()["secret"]
    totp = pyotp.TOTP(secret)

    def code() -> str:
        return totp.at(world.clock.now // 1000)

    assert ani.put("/api/v1/session/totp", json={"code": "000000"}, headers=headers).status_code == 409
    assert ani.put("/api/v1/session/totp", json={"code": code()}, headers=headers).status_code == 204
    assert ani.post("/api/v1/session/totp", headers=headers).status_code == 409  # a thief at an open page adds none
    fresh = world.client()
    needed = fresh.post("/api/v1/session", json=LOGIN)
    assert (needed.status_code, needed.json()["key"]) == (401, "totp needed")
    used = fresh.post("/api/v1/session", json={**LOGIN, "totp": code()})
    assert used.status_code == 401  # it was used to confirm
    world.clock.pass_s(60)
    assert fresh.post("/api/v1/session", json={**LOGIN, "totp": code()}).status_code == 200
    assert world.client().post("/api/v1/session", json={**LOGIN, "totp": code()}).status_code == 401
    with world.hub.store.reading() as connection:
        stored = connection.execute(select(tables.user.c.totp).where(tables.user.c.name == "ani")).scalar_one()
    assert stored and secret not in stored


def test_codes_cannot_be_guessed_in_a_row(world, ani):
    user = access.by_session(world.hub.store, None, 0)
    assert user is None
    with world.hub.store.writing() as connection:
        user_id = connection.execute(select(tables.user.c.id).where(tables.user.c.name == "ani")).scalar_one()
        sealed = world.app.state.seal.close(pyotp.random_base32(), f"totp {user_id}")
        connection.execute(update(tables.user).where(tables.user.c.id == user_id).values(totp=sealed))
    statuses = [ani.post("/api/v1/session", json={**LOGIN, "totp": f"{number:06}"}).status_code for number in range(6)]
    assert statuses == [401] * throttle.FREE_TRIES + [429] * 2


def test_a_new_password_needs_the_old_one_and_ends_all_other_sessions(world, ani):
    csrf = ani.post("/api/v1/session", json=LOGIN).json()["csrf"]
    elsewhere = world.client()
    elsewhere.post("/api/v1/session", json=LOGIN)
    headers = {"X-CSRF": csrf}
    new = {"new_password": "lain lagi kata kata"}
    assert ani.patch("/api/v1/session", json={**new, "password": "wrong"}, headers=headers).status_code == 403
    assert ani.patch("/api/v1/session", json={**new, "password": PASSWORD}, headers=headers).status_code == 204
    assert ani.get("/api/v1/wall").status_code == 200
    assert elsewhere.get("/api/v1/wall").status_code == 401
    assert world.client().post("/api/v1/session", json=LOGIN).status_code == 401


def test_blocking_a_user_ends_their_sessions_at_once(world, ani):
    ani.post("/api/v1/session", json=LOGIN)
    assert world.as_role(roles.ADMINISTRATOR).patch("/api/v1/users/ani", json={"disabled": True}).status_code == 200
    assert ani.get("/api/v1/wall").status_code == 401


def test_the_last_administrator_cannot_be_taken_away(world):
    administrator = world.as_role(roles.ADMINISTRATOR)
    name = administrator.get("/api/v1/session").json()["user"]
    assert administrator.patch(f"/api/v1/users/{world.own.rows['user']}", json={"disabled": True}).status_code == 200
    for body in ({"disabled": True}, {"roles": []}, {"roles": [{"role": "administrator", "place": world.own.place}]}):
        answer = administrator.patch(f"/api/v1/users/{name}", json=body)
        assert (answer.status_code, answer.json()["key"]) == (409, "last administrator")
    assert administrator.get("/api/v1/users").status_code == 200


def test_a_user_has_at_most_twenty_sessions_and_the_oldest_ends(world):
    user_id = world.user("ani", (roles.VIEWER, None))
    first = world.session(user_id)
    for _ in range(access.SESSIONS_MOST):
        world.clock.pass_s(1)
        world.session(user_id)
    assert first.get("/api/v1/wall").status_code == 401
    with world.hub.store.reading() as connection:
        assert connection.execute(select(func.count()).select_from(tables.session)).scalar_one() == access.SESSIONS_MOST


@pytest.mark.parametrize("password", ["short", "aaaaaaaaaaaa", "ani-ani-12", "Password1234", "x" * 257])
def test_a_password_that_anybody_tries_first_is_refused(password):
    with pytest.raises(passwords.PasswordRefused):
        passwords.check(password, "ani-ani")


def test_the_database_holds_no_password_token_session_or_link(world, ani):
    session = ani.post("/api/v1/session", json=LOGIN)
    token = ani.post(
        "/api/v1/tokens", json={"title": "t", "scopes": ["see"]}, headers={"X-CSRF": session.json()["csrf"]}
    ).json()["token"]
    link = access.first_link(world.hub.store, "city", "", world.clock.now).partition("#")[2]
    world.hub.store.engine.dispose()
    data = b"".join(path.read_bytes() for path in world.hub.settings.data_dir.glob("hub.db*"))
    for secret in (PASSWORD, token, link, ani.cookies["__Host-nvr"], session.json()["csrf"]):
        assert secret.encode() not in data
    key = world.hub.settings.data_dir / "secret.key"
    assert key.stat().st_mode & 0o777 == 0o600


def test_garbage_for_credentials_is_refused_and_breaks_nothing(world):
    client = world.client()
    for header in (
        "Bearer",
        "Bearer ",
        "Bearer nvr_x",
        "Basic YTpi",
        "nonsense",
        "Bearer " + "x" * 5000,
        "Bearer nvr_\x7f",
    ):
        assert client.get("/api/v1/wall", headers={"Authorization": header}).status_code == 401
    for cookie in ("x" * 5000, "%00", "nvr"):
        client.cookies.set("__Host-nvr", cookie)
        assert client.get("/api/v1/wall").status_code == 401
    for body in (
        b"",
        b"[]",
        b"{",
        b'{"name": "\\ud800", "password": "x"}',
        b'{"name": "a\\u0000", "password": "x"}',
        b"\xff",
    ):
        answer = client.post("/api/v1/session", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in (400, 401, 422), body
        assert answer.json()["error"]


def test_a_refused_log_in_never_repeats_what_was_typed(world):
    answer = world.client().post("/api/v1/session", json={"name": "ani", "password": 17, "hunter2": "hunter2secret"})
    assert answer.status_code == 422
    assert "hunter2secret" not in answer.text


def test_log_ins_changes_and_views_are_in_the_audit_log_and_the_chain_shows_tampering(world, ani):
    csrf = ani.post("/api/v1/session", json=LOGIN).json()["csrf"]
    ani.get("/api/v1/wall")
    ani.get("/api/v1/wall")
    ani.get(f"/api/v1/events/{world.own.event}/still")
    ani.get(f"/api/v1/clips/{world.own.clip}?download=true")
    ani.post(f"/api/v1/alerts/{world.own.alert}/acknowledge", headers={"X-CSRF": csrf})
    administrator = world.as_role(roles.ADMINISTRATOR)
    entries = administrator.get("/api/v1/audit", params={"who": "ani"}).json()["entries"]
    assert [(each["what"], each["object"]) for each in reversed(entries)] == [
        ("logged in", ""), ("wall watched", ""), ("clip exported", f"clip {world.own.clip}"), ("alert acknowledged", f"alert {world.own.alert}"),
        ("still seen", f"event {world.own.event}"),
    ]  # fmt: skip
    assert {each["address"] for each in entries} == {"203.0.113.7"}
    assert administrator.get("/api/v1/audit/check").json() == {"is_whole": True, "faults": []}
    table = tables.audit
    changes = (
        update(table).where(table.c.number == 2).values(who="somebody else"),
        table.delete().where(table.c.number == 3),
        table.delete().where(table.c.number == select(func.max(table.c.number)).scalar_subquery()),
    )
    for change in changes:
        with world.hub.store.engine.connect() as connection:
            connection.execute(change)
            assert audit.verify(connection, 1), change
            connection.rollback()


def test_a_list_of_stills_is_one_line_in_the_audit_log_that_names_every_one_of_them(world, ani):
    ani.post("/api/v1/session", json=LOGIN)
    with world.hub.store.reading() as connection:
        still = connection.execute(
            select(core.event.c.still_sha256).where(core.event.c.id == world.own.event)
        ).scalar_one()
    events = [world.store_event("tamper", "covered", still_sha256=still, has_still=True)["id"] for _ in range(3)]
    events.append(world.own.event)
    for event_id in (*events, *events):
        assert ani.get(f"/api/v1/events/{event_id}/still").status_code == 200
        world.clock.pass_s(1)

    def lines() -> list[dict]:
        with world.hub.store.reading() as connection:
            table = tables.audit
            return [
                dict(row) for row in connection.execute(select(table).where(table.c.what == "still seen")).mappings()
            ]

    def fold() -> None:
        with world.hub.store.writing() as connection:
            audit.fold_looks(connection, world.clock.now)

    fold()
    assert lines() == []
    world.clock.pass_s(600)
    fold()
    (line,) = lines()
    assert (line["who"], line["address"], line["object"]) == ("ani", "203.0.113.7", "4 events")
    assert line["more"]["events"] == events and line["more"]["to_ms"] - line["more"]["from_ms"] == 3000
    ani.get(f"/api/v1/events/{events[0]}/still")
    world.as_role(roles.ADMINISTRATOR).get("/api/v1/audit")  # who reads the log reads all of it
    assert [each["object"] for each in lines()] == ["4 events", f"event {events[0]}"]
    with world.hub.store.reading() as connection:
        assert audit.verify(connection, 1) == []


def test_what_failed_leaves_no_line_in_the_audit_log_and_lines_written_at_the_same_time_follow_each_other(world):
    def write(number: int) -> None:
        with world.hub.store.writing() as connection:
            audit.append(connection, 1, audit.Entry("x", "thing", str(number)), world.clock.now)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(60)))
    with pytest.raises(RuntimeError), world.hub.store.writing() as connection:
        audit.append(connection, 1, audit.Entry("x", "never"), world.clock.now)
        raise RuntimeError
    with world.hub.store.reading() as connection:
        assert audit.verify(connection, 1) == []
        assert connection.execute(select(func.count()).select_from(tables.audit)).scalar_one() == 60
