"""Every route of the API, for every role, with own and foreign objects. A route without a line in ROUTES fails."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from nvr.hub.people import roles
from tests.hub.people.world import NOW_MS, Corner, World

PUBLIC, SELF, LIST, PLACE, TENANT = "public", "self", "list", "place", "tenant"
# public: without log-in   self: about oneself   list: filtered by place   place: one object of a place   tenant: needs a role at all places


@dataclass(frozen=True)
class Line:
    scope: str
    permission: str = ""
    body: Any = None
    query: dict[str, Any] = field(default_factory=dict)
    by_session: bool = False
    has_object: bool = False  # of scope `tenant`: an id in the path


LATER = NOW_MS + 3_600_000
SPAN = {"from_ms": NOW_MS - 60_000, "to_ms": NOW_MS - 30_000}
ROUTES: dict[str, Line] = {
    "GET /api/v1/session": Line(SELF),
    "POST /api/v1/session": Line(PUBLIC, body={"name": "x", "password": "y"}),
    "POST /api/v1/session/link": Line(PUBLIC, body={"code": "x", "password": "y"}),
    "PATCH /api/v1/session": Line(SELF, body={"language": "en"}, by_session=True),
    "DELETE /api/v1/session": Line(SELF, by_session=True),
    "POST /api/v1/session/totp": Line(SELF, by_session=True),
    "PUT /api/v1/session/totp": Line(SELF, body={"code": "000000"}, by_session=True),
    "GET /api/v1/wall": Line(LIST, roles.SEE),
    "GET /api/v1/stills/{camera_id}": Line(PLACE, roles.SEE),
    "GET /api/v1/places": Line(LIST, roles.SEE),
    "GET /api/v1/places/{name}": Line(PLACE, roles.SEE),
    "PATCH /api/v1/places/{name}": Line(PLACE, roles.ADMINISTER, body={"title_en": "new"}),
    "GET /api/v1/cameras/{camera_id}": Line(PLACE, roles.SEE),
    "GET /api/v1/cameras/{camera_id}/timeline": Line(PLACE, roles.FOOTAGE, query=SPAN),
    "POST /api/v1/cameras/{camera_id}/fetch": Line(PLACE, roles.FOOTAGE, body=SPAN),
    "POST /api/v1/cameras/{camera_id}/count": Line(PLACE, roles.FOOTAGE, body=SPAN),
    "POST /api/v1/cameras/{camera_id}/live": Line(PLACE, roles.SEE),
    "GET /api/v1/commands/{command_id}": Line(PLACE, roles.FOOTAGE),
    "GET /api/v1/events": Line(LIST, roles.SEE),
    "GET /api/v1/events/{event_id}": Line(PLACE, roles.SEE),
    "GET /api/v1/events/{event_id}/still": Line(PLACE, roles.SEE),
    "GET /api/v1/clips": Line(LIST, roles.FOOTAGE),
    "GET /api/v1/clips/{sha256}": Line(PLACE, roles.FOOTAGE),
    "GET /api/v1/clips/{sha256}/proof": Line(PLACE, roles.FOOTAGE),
    "GET /api/v1/alerts": Line(LIST, roles.SEE),
    "POST /api/v1/alerts": Line(
        LIST, roles.ACT, body={"place": "{place}", "to": "Ibu Ani", "what": "buka", "due_ms": LATER}
    ),
    "GET /api/v1/alerts/{alert_id}": Line(PLACE, roles.SEE),
    "POST /api/v1/alerts/{alert_id}/acknowledge": Line(PLACE, roles.ACT),
    "POST /api/v1/alerts/{alert_id}/instruct": Line(
        PLACE, roles.ACT, body={"to": "Ibu Ani", "what": "buka", "due_ms": LATER}
    ),
    "POST /api/v1/alerts/{alert_id}/done": Line(PLACE, roles.ACT, body={"note": "dibuka"}),
    "GET /api/v1/reports/opening": Line(LIST, roles.REPORT),
    "GET /api/v1/reports/waiting": Line(LIST, roles.REPORT),
    "GET /api/v1/reports/traffic": Line(LIST, roles.REPORT),
    "GET /api/v1/boxes": Line(LIST, roles.HEALTH),
    "GET /api/v1/boxes/{box_id}": Line(PLACE, roles.HEALTH),
    "POST /api/v1/boxes/{box_id}/block": Line(TENANT, roles.ADMINISTER, body={"blocked": False}, has_object=True),
    "POST /api/v1/boxes/{box_id}/ask": Line(TENANT, roles.ADMINISTER, body={"do": "logs"}, has_object=True),
    "GET /api/v1/boxes/{box_id}/asked/{command_id}": Line(TENANT, roles.ADMINISTER, has_object=True),
    "GET /api/v1/bundles": Line(TENANT, roles.ADMINISTER),
    "POST /api/v1/bundles": Line(TENANT, roles.ADMINISTER, query={"version": "2.0"}),
    "DELETE /api/v1/bundles/{sha256}": Line(TENANT, roles.ADMINISTER, has_object=True),
    "GET /api/v1/rollouts": Line(TENANT, roles.ADMINISTER),
    "POST /api/v1/rollouts": Line(
        TENANT, roles.ADMINISTER, body={"sha256": "0" * 64, "url": "https://example.org/a.raucb", "version": "2.0"}
    ),
    "POST /api/v1/rollouts/{rollout_id}/stop": Line(
        TENANT, roles.ADMINISTER, body={"reason": "it is late"}, has_object=True
    ),
    "POST /api/v1/rollouts/{rollout_id}/go-on": Line(TENANT, roles.ADMINISTER, body={}, has_object=True),
    "GET /api/v1/codes": Line(TENANT, roles.ADMINISTER),
    "POST /api/v1/codes": Line(TENANT, roles.ADMINISTER, body={}),
    "GET /api/v1/users": Line(TENANT, roles.ADMINISTER),
    "POST /api/v1/users": Line(TENANT, roles.ADMINISTER, body={"name": "new-one"}, by_session=True),
    "PATCH /api/v1/users/{name}": Line(
        TENANT, roles.ADMINISTER, body={"full_name": "New"}, by_session=True, has_object=True
    ),
    "GET /api/v1/tokens": Line(SELF),
    "POST /api/v1/tokens": Line(SELF, body={"title": "t", "scopes": ["see"]}, by_session=True),
    "DELETE /api/v1/tokens/{token_id}": Line(
        TENANT, roles.ADMINISTER, by_session=True, has_object=True
    ),  # somebody else's
    "GET /api/v1/audit": Line(TENANT, roles.ADMINISTER),
    "GET /api/v1/audit/check": Line(TENANT, roles.ADMINISTER),
    "GET /api/v1/webhooks": Line(TENANT, roles.ADMINISTER),
    "POST /api/v1/webhooks": Line(TENANT, roles.ADMINISTER, body={"title": "w", "url": "https://example.org/"}),
    "PATCH /api/v1/webhooks/{hook_id}": Line(TENANT, roles.ADMINISTER, body={"is_on": True}, has_object=True),
    "DELETE /api/v1/webhooks/{hook_id}": Line(TENANT, roles.ADMINISTER, has_object=True),
    "POST /api/v1/webhooks/{hook_id}/try": Line(TENANT, roles.ADMINISTER, has_object=True),
    "GET /api/v1/notifications": Line(TENANT, roles.ADMINISTER),
    "POST /api/v1/notifications": Line(TENANT, roles.ADMINISTER, body={"title": "n", "address": "json://127.0.0.1:1/"}),
    "PATCH /api/v1/notifications/{hook_id}": Line(TENANT, roles.ADMINISTER, body={"is_on": True}, has_object=True),
    "DELETE /api/v1/notifications/{hook_id}": Line(TENANT, roles.ADMINISTER, has_object=True),
    "POST /api/v1/notifications/{hook_id}/try": Line(TENANT, roles.ADMINISTER, has_object=True),
    "GET /api/v1/holds": Line(LIST, roles.HOLD),
    "POST /api/v1/holds": Line(LIST, roles.HOLD, body={"place": "{place}", "reason": "court", **SPAN}),
    "POST /api/v1/holds/{hold_id}/release": Line(
        TENANT, roles.ADMINISTER, body={"reason": "the court has it"}, has_object=True
    ),
    "GET /api/v1/deletions": Line(TENANT, roles.ADMINISTER),
    "GET /api/v1/deletions/{deletion_id}": Line(TENANT, roles.ADMINISTER, has_object=True),
    "POST /api/v1/deletions": Line(TENANT, roles.ADMINISTER, body={"person": "p", "reason": "r", **SPAN}),
    "POST /api/v1/deletions/{deletion_id}/decide": Line(
        TENANT, roles.ADMINISTER, body={"granted": False, "answer": "a crime"}, has_object=True
    ),
    "GET /metrics": Line(TENANT, roles.METRICS),
}
WEBSOCKETS = {"/api/v1/changes", "/live/{box_id}", "/box/v1/control"}
ORDER = {"GET": 0, "PUT": 1, "POST": 2, "PATCH": 3, "DELETE": 4}
KNOWN = sorted(ROUTES, key=lambda each: (each == "DELETE /api/v1/session", ORDER[each.split()[0]], each))


def routes_of(world: World) -> set[str]:
    paths = world.app.openapi()["paths"]
    return {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}


def ask(client: Any, name: str, corner: Corner) -> Any:
    method, path = name.split()
    line = ROUTES[name]
    body = json.loads(json.dumps(line.body).replace("{place}", corner.place)) if line.body is not None else None
    return client.request(method, corner.address(path), json=body, params=line.query)


def hides(answer: Any, name: str, *marks: str) -> None:
    """Nothing of another place or tenant is named in an answer, whatever its status."""
    for mark in marks:
        assert mark not in answer.text, (name, mark)


def test_every_route_of_the_api_has_a_line_in_the_table(world):
    assert routes_of(world) == set(ROUTES)


def test_every_route_with_a_body_refuses_what_it_does_not_know(world):
    client = world.as_role(roles.ADMINISTRATOR)
    for name in KNOWN:
        line = ROUTES[name]
        if isinstance(line.body, dict):
            method, path = name.split()
            answer = client.request(
                method, world.own.address(path), json={**line.body, "unheard_of": 1}, params=line.query
            )
            assert answer.status_code == 422, name


def test_nobody_gets_anything_without_logging_in(world):
    client = world.client()
    for name in KNOWN:
        if ROUTES[name].scope != PUBLIC:
            assert ask(client, name, world.own).status_code == 401, name


@pytest.mark.parametrize("role", roles.ROLES)
def test_a_role_at_one_place_does_what_it_may_there_and_sees_nothing_elsewhere(world, role):
    client = world.as_role(role, world.own.place_id)
    for name in KNOWN:
        line, allowed = ROUTES[name], roles.ALLOWED[role]
        if line.scope in (PUBLIC, SELF):
            continue
        answer = ask(client, name, world.own)
        status = answer.status_code
        hides(answer, name, *world.foreign.marks, *world.other.marks)
        if line.scope == TENANT:
            # Somebody else's token is no object for who may not administer: it does not exist.
            assert status == (404 if name.startswith("DELETE /api/v1/tokens") else 403), name
            continue
        assert (status not in (401, 403, 404)) == (line.permission in allowed), (name, status)
        assert status < 500
        if line.scope == PLACE or name.startswith("POST"):
            for corner in (world.foreign, world.other):
                answer = ask(client, name, corner)
                assert answer.status_code == (404 if line.permission in allowed else 403), (
                    name,
                    corner.place,
                    answer.text,
                )


@pytest.mark.parametrize("role", roles.ROLES)
def test_a_role_at_all_places_ends_at_the_tenant(world, role):
    client = world.as_role(role)
    for name in KNOWN:
        line, allowed = ROUTES[name], roles.ALLOWED[role]
        if line.scope in (PUBLIC, SELF):
            continue
        if line.scope == PLACE or line.has_object or (line.scope == LIST and name.startswith("POST")):
            answer = ask(client, name, world.other)
            expected = 404 if line.permission in allowed or name.startswith("DELETE /api/v1/tokens") else 403
            assert answer.status_code == expected, (name, answer.text)
        if line.scope == PLACE:
            answer = ask(client, name, world.foreign)
            assert (answer.status_code not in (401, 403, 404)) == (line.permission in allowed), (name, answer.text)
        answer = ask(client, name, world.own)
        hides(answer, name, *world.other.marks)
        if name.startswith("DELETE /api/v1/tokens"):
            assert answer.status_code == (204 if line.permission in allowed else 404), name
        else:
            assert (answer.status_code not in (401, 403, 404)) == (line.permission in allowed), (name, answer.text)
        assert answer.status_code < 500 or name.endswith("/try"), (name, answer.text)


@pytest.mark.parametrize("scope", roles.SCOPES)
def test_a_token_does_what_its_scope_names_and_nothing_a_person_must_do(world, scope):
    person = world.as_role(roles.ADMINISTRATOR)
    token = person.post("/api/v1/tokens", json={"title": "t", "scopes": [scope]}).json()["token"]
    client = world.client()
    client.headers["Authorization"] = f"Bearer {token}"
    for name in KNOWN:
        line = ROUTES[name]
        if line.scope == PUBLIC:
            continue
        status = ask(client, name, world.own).status_code
        may = not line.by_session and (line.scope == SELF or line.permission == scope)
        assert (status not in (401, 403, 404)) == may, (name, status)


def test_a_token_never_does_more_than_its_owner_may_now(world):
    user_id = world.user("ani", (roles.OPERATOR, None))
    token = (
        world.session(user_id).post("/api/v1/tokens", json={"title": "t", "scopes": ["see", "footage"]}).json()["token"]
    )
    client = world.client()
    client.headers["Authorization"] = f"Bearer {token}"
    assert client.get("/api/v1/clips").status_code == 200
    administrator = world.as_role(roles.ADMINISTRATOR)
    assert (
        administrator.patch(
            "/api/v1/users/ani", json={"roles": [{"role": "viewer", "place": world.own.place}]}
        ).status_code
        == 200
    )
    assert client.get("/api/v1/clips").status_code == 403
    assert client.get(f"/api/v1/places/{world.foreign.place}").status_code == 404
    assert administrator.patch("/api/v1/users/ani", json={"disabled": True}).status_code == 200
    assert client.get("/api/v1/wall").status_code == 401


def test_nobody_gives_a_token_what_they_may_not_do_themselves(world):
    answer = world.as_role(roles.VIEWER).post("/api/v1/tokens", json={"title": "t", "scopes": ["see", "administer"]})
    assert (answer.status_code, answer.json()["permission"]) == (403, "administer")


def test_no_route_changes_anything_for_a_page_of_somebody_else(world):
    """A browser that is logged in here, sent by another site: it has the cookie, not the token of the page, or says where it comes from."""
    client = world.as_role(roles.ADMINISTRATOR)
    csrf = client.headers.pop("X-CSRF")
    for name in KNOWN:
        if name.startswith("GET") or ROUTES[name].scope == PUBLIC:
            continue
        for headers in ({}, {"X-CSRF": csrf[::-1]}, {"X-CSRF": csrf, "Origin": "https://evil.example"}):
            client.headers.update(headers)
            answer = ask(client, name, world.own)
            assert answer.status_code == 403 and answer.json()["key"] in ("csrf", "origin"), (
                name,
                headers,
                answer.text,
            )
            for header in headers:
                del client.headers[header]


@pytest.mark.parametrize("trick", ["{id}/", "{id}%2f", "%2e%2e%2f{id}", "{id}%00", " {id}", "0{id}", "+{id}", "{id}.0", "\uff11", "..", "*", "{id}%20or%201=1", "-1", "9" * 30])  # fmt: skip
def test_an_id_that_is_written_otherwise_leads_nowhere_else(world, trick):
    client = world.as_role(roles.ADMINISTRATOR, world.own.place_id)
    for name in KNOWN:
        method, path = name.split()
        if "{" not in path or ROUTES[name].scope not in (PLACE, TENANT):
            continue
        foreign = world.foreign.address(path).split("/")
        at = next(number for number, part in enumerate(path.split("/")) if part.startswith("{"))
        foreign[at] = trick.replace("{id}", foreign[at])
        answer = client.request(method, "/".join(foreign), json=ROUTES[name].body, params=ROUTES[name].query)
        assert answer.status_code in (307, 403, 404, 405, 422), (name, foreign, answer.status_code)
        hides(answer, name, *world.foreign.marks) if answer.status_code != 307 else None
