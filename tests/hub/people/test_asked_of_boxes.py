"""What an administrator asks of a box through the hub: audited, one of a kind at a time, and what a box answers is believed to be text."""

from __future__ import annotations

from sqlalchemy import select, update

from nvr.hub import tables as core
from nvr.hub.people import roles


def test_a_box_is_asked_once_at_a_time_and_its_answer_is_given(world):
    client = world.as_role(roles.ADMINISTRATOR)
    box = f"/api/v1/boxes/{world.own.box}"
    asked = client.post(f"{box}/ask", json={"do": "logs", "lines": 7})
    assert asked.status_code == 202 and asked.json()["state"] == "waiting"
    assert client.post(f"{box}/ask", json={"do": "logs"}).status_code == 429
    assert client.post(f"{box}/ask", json={"do": "restart"}).status_code == 202
    table, command = core.command, asked.json()["id"]
    with world.hub.store.writing() as connection:
        row = connection.execute(select(table).where(table.c.id == command)).one()
        assert (row.do, row.args) == ("logs", {"lines": 7})
        said = {"lines": ["a", 7, {"b": 1}, "x" * 9000], "more": 1}
        connection.execute(update(table).where(table.c.id == command).values(answered_ms=1, ok=True, more=said))
    answer = client.get(f"{box}/asked/{command}").json()
    assert answer["state"] == "answered" and answer["lines"][:3] == ["a", "7", "{'b': 1}"]
    assert len(answer["lines"][3]) == 2000
    audit = [each["what"] for each in client.get("/api/v1/audit").json()["entries"]]
    assert {"box log read", "box restarted"} <= set(audit)


def test_nothing_else_is_asked(world):
    client = world.as_role(roles.ADMINISTRATOR)
    for body in ({"do": "site"}, {"do": "update"}, {"do": "logs", "lines": 501}, {"do": "logs", "lines": 0}):
        assert client.post(f"/api/v1/boxes/{world.own.box}/ask", json=body).status_code == 422
