from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nvr.hub import database
from tests.hub.people.world import World


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    address = ""
    if request.param == "postgresql":
        address = request.getfixturevalue("postgres").database()
        store = database.Store(address)
        database.migrate(store, tmp_path)
        store.close()
    world = World(tmp_path / "hub", address, may_call_itself=True)  # receivers of tests are here
    yield world
    world.close()
