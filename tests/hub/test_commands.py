"""`nvr hub` as an operator types it."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from nvr import wire
from nvr.cli.command import nvr
from nvr.hub import tables
from nvr.hub.database import Store
from nvr.hub.settings import load


@pytest.fixture
def say(tmp_path):
    """Runs `nvr hub ...` on a hub of its own; what it printed as JSON, or (exit status, text)."""

    def say(*words: str, status: int = 0):
        done = CliRunner().invoke(nvr, ["hub", *words, "--data", str(tmp_path / "hub"), "--json"])
        assert done.exit_code == status, done.output
        return json.loads(done.stdout) if status == 0 else done.output

    say.data_dir = tmp_path / "hub"
    return say


def test_a_hub_is_made_once_and_again_without_harm(say):
    first, again = say("init"), say("init")
    assert first["revision"] == again["revision"] and "/enter#" in again["link"]
    assert first["link"] != again["link"]  # the newest one works: nobody knows who read the one before
    assert say("migrate") == {"before": first["revision"], "after": first["revision"]}


def test_a_code_is_printed_and_only_its_hash_is_kept(say):
    say("init")
    told = say("code", "--box", "waihaong-1")
    store = Store(load(say.data_dir).database_url)
    with store.reading() as connection:
        (row,) = connection.execute(tables.code.select()).all()
    store.close()
    assert (row.code_hash, row.box) == (wire.code_hash(told["code"]), "waihaong-1")
    assert told["code"].replace("-", "") not in str(row)


def test_a_code_for_nobody_is_wrong_use(say):
    say("init")
    assert "no tenant 'moon'" in say("code", "--tenant", "moon", status=2)


def test_the_first_user_gets_a_link_and_may_have_a_token(say):
    say("init")
    told = say("user", "wati", "--role", "administrator")
    assert "/enter#" in told["link"]
    assert say("token", "wati", "--scope", "metrics")["token"]
    assert "no place 'moon'" in say("user", "budi", "--role", "operator@moon", status=2)
    assert "role" in say("user", "budi", "--role", "king", status=1)


def test_settings_that_cannot_be_are_named_with_what_to_do(say):
    say("init")
    (say.data_dir / "hub.yaml").write_text("listne: x\n")
    assert "listne" in say("migrate", status=1)
