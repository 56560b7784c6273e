"""What schemathesis makes of the OpenAPI description, with a session: no 5xx, and nothing of another tenant or place in any answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from nvr.hub.people import roles
from tests.hub.people.world import World

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed (extra `dev`)")

pytestmark = [pytest.mark.fuzz, pytest.mark.filterwarnings("ignore")]

EXAMPLES = 20  # of each route, of what fits its description, and again of what does not
# They would end the session, or the role, that the fuzzing rests on; or send a real message.
LEFT_OUT = {
    ("DELETE", "/api/v1/session"), ("PATCH", "/api/v1/session"), ("PATCH", "/api/v1/users/{name}"), ("POST", "/api/v1/notifications/{hook_id}/try"),
}  # fmt: skip


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """On SQLite only: the rest of the suite runs on both, and this takes minutes."""
    world = World(tmp_path / "hub")
    yield world
    world.close()


def sent_as(case: Any) -> dict[str, Any]:
    """What the client of the tests sends for a case."""
    found = case.as_transport_kwargs(base_url="https://hub.example")
    return {
        key: value
        for key, value in found.items()
        if key in ("method", "url", "params", "json", "content", "data", "headers") and value is not None
    }


class Fuzzed:
    def __init__(self, world: World, client: Any, hidden: tuple[str, ...]) -> None:
        self.world, self.client, self.hidden = world, client, hidden
        self.statuses: dict[int, int] = {}
        self.schema = schemathesis.openapi.from_dict(world.app.openapi())

    def look(self, name: str, case: Any) -> None:
        sent = sent_as(case)
        if case.meta is None or case.meta.generation.mode is schemathesis.GenerationMode.POSITIVE:
            # Ids that are made up exist nowhere: half of the requests are about something that is there.
            sent["url"] = "https://hub.example" + self.world.own.address(name.split()[1])
        # Credentials are ours: what is fuzzed is everything behind them. (test_access.py has garbage for credentials.)
        sent["headers"] = {
            key: value
            for key, value in dict(sent.get("headers") or {}).items()
            if key.lower() not in ("authorization", "cookie", "x-csrf", "origin", "host", "content-length")
        }
        answer = self.client.request(**sent)
        self.statuses[answer.status_code] = self.statuses.get(answer.status_code, 0) + 1
        assert answer.status_code < 500, (name, sent, answer.text)
        assert answer.status_code != 401 or "/session" in name, (name, sent, answer.text)
        for mark in self.hidden:
            assert mark not in answer.text, (name, mark, sent)
        if answer.status_code >= 400 and name.split()[0] != "HEAD":
            assert answer.json()["error"], (name, sent)

    def every_route(self) -> None:
        for result in self.schema.get_all_operations():
            operation = result.ok()
            name = f"{operation.method.upper()} {operation.path}"
            if (operation.method.upper(), operation.path) in LEFT_OUT:
                continue
            for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
                self._fuzz(name, operation, mode)

    def _fuzz(self, name: str, operation: Any, mode: Any) -> None:
        @settings(
            max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(operation.as_strategy(generation_mode=mode))
        def fuzz(case: Any) -> None:
            self.look(name, case)

        try:
            fuzz()
        except BaseException as error:
            # A route that takes nothing has nothing that could be wrong.
            if type(error).__name__ not in ("Unsatisfiable", "SkipTest", "Skipped"):
                raise


@pytest.mark.parametrize("everywhere", [True, False], ids=["administrator of all", "administrator of one place"])
def test_whatever_is_sent_no_answer_is_a_fault_of_ours_or_names_what_is_not_to_be_seen(world, everywhere):
    client = world.as_role(roles.ADMINISTRATOR, None if everywhere else world.own.place_id)
    hidden = world.other.marks if everywhere else (*world.other.marks, *world.foreign.marks)
    fuzzed = Fuzzed(world, client, hidden)
    fuzzed.every_route()
    print({status: fuzzed.statuses[status] for status in sorted(fuzzed.statuses)})
    # The fuzzing got behind the door: it is worth nothing where everything is refused.
    assert fuzzed.statuses.get(200, 0) > 100
    assert fuzzed.statuses.get(422, 0) > 100
    assert client.get("/api/v1/session").status_code == 200


def test_nobody_gets_in_whatever_is_sent(world):
    fuzzed = Fuzzed(world, world.client(), (*world.own.marks, *world.foreign.marks, *world.other.marks))
    fuzzed.look = lambda name, case: _refused(fuzzed, name, case)  # type: ignore[method-assign]
    fuzzed.every_route()


def _refused(fuzzed: Fuzzed, name: str, case: Any) -> None:
    answer = fuzzed.client.request(**sent_as(case))
    assert answer.status_code < 500, (name, case)
    assert answer.status_code >= 400, (name, case)
    for mark in fuzzed.hidden:
        assert mark not in answer.text, (name, mark)
