"""Every call to the disk fails in turn, under the programs that keep their promises in SQLite: nothing that was said to be durable is missing, and nothing is
there twice.

Real SQLite, the real code of the rooms; the error is made at the edge of the process (LD_PRELOAD, tools/city/simulator/edge.c). Each program goes
through its life once for every call that could fail, until one life meets no error any more.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.city.simulator.edge import Edge, NoCompiler, library

ROOT = Path(__file__).parents[2]
# What all of them share: `life(folder, heal)` is one life, `held(folder)` judges what it left; both are defined before this runs.
EVERY_CALL = """
first, times, step, met, errors_met = 0, int(sys.argv[2]), int(sys.argv[3]), True, 0
while met:
    folder = base / str(first)
    folder.mkdir()
    edge.fail_some(errno.EIO if not (first // step) % 2 else errno.ENOSPC, first, times)
    def heal():
        edge.set(error=0)
    said = life(folder, heal)
    met = edge.calls() > first
    heal()
    held(folder, said, f"call {first} of {edge.calls()}")
    shutil.rmtree(folder)
    errors_met += met
    first += step
print(errors_met)
"""
BEGIN = """
import contextlib, errno, hashlib, json, logging, os, random, shutil, sqlite3, sys, time
from pathlib import Path
from tools.city.simulator.edge import Edge
base = Path(sys.argv[1])
edge = Edge(Path("unused"), Path(os.environ["NVR_EDGE_FILE"]), base)
logging.disable()
"""

OUTBOX = """
from nvr.uplink.outbox import Clip, Made, Outbox, OutboxFailed, Told, Wanted

def life(folder, heal):
    said = {"taken": set(), "told": set(), "stored": set()}
    box = None
    def until_done(do):
        nonlocal box
        for turn in range(9):
            if turn == 7:
                heal()
            try:
                box = box or Outbox(folder / "outbox")
                return do()
            except OutboxFailed:
                if turn == 3:  # as if the process had been started again
                    if box is not None:
                        box.close()
                    box = None
        raise AssertionError("it does not recover")
    for number in range(1, 9):
        id = f"{number:032x}"
        clip = Clip(id, 25, number, Wanted("gate/main", "", 1, 2, event=id), None)
        until_done(lambda: box.take([Told(number, id, 0, id)], [clip], (number, "life"), number))
        said["taken"].add(number)
        if number % 3 == 0:
            until_done(lambda: box.acknowledged([id]))
            said["told"].add(number)
        if number % 4 == 0:
            until_done(lambda: box.made(id, [Made("a.mp4", "0" * 64, 5, 0, 1)]))
            with contextlib.suppress(OSError):  # who cuts clips has tests of its own
                (box.clips_path / "a.mp4").write_bytes(b"a clip")
            until_done(lambda: box.stored(id))
            said["stored"].add(number)
    box.close()
    return said

def held(folder, said, note):
    box = Outbox(folder / "outbox")
    assert {each.number for each in box.events(99)} == said["taken"] - said["told"], note
    assert {int(each.id, 16) for each in box.to_cut()} == said["taken"] - said["stored"], note
    assert box.cursor() == (8, "life"), note
    box.sweep()
    assert not list(box.clips_path.iterdir()), f"{note}: a file that nobody wants stays"
    box.close()
    assert not list((folder / "outbox").glob("damaged*")), f"{note}: a good outbox was put aside"
"""

EVENTS = """
from nvr import events
from nvr.events import EventLog, Events, Evidence
from nvr.scene import Event

def life(folder, heal):
    log = EventLog(folder / "events", "life")
    said = {}
    for number in range(12):
        log.add(Event("intrusion", "gate", "yard", "begins", number, number + 1, 1_800_000_000_000_000_000 + number),
                Evidence("gate/main", "00"), b"still" * 300 if number % 2 else None)
        if number % 3 == 2:
            for turn in range(9):
                if turn == 6:
                    heal()
                log._retry_s = 0.0  # the ten seconds to the next try are over
                stored = log.commit()
                said.update((each.event.from_ns, each.number) for each in stored)
                log.tidy()
                if stored:
                    break
            else:
                raise AssertionError("it does not recover: " + log.trouble)
    heal()
    log.close()
    return said

def held(folder, said, note):
    assert sorted(said) == list(range(12)), note
    found = [(each.event.from_ns, each.number) for each in Events(folder / "events").after(0, 99)]
    assert sorted(found) == sorted(said.items()), f"{note}: told {sorted(said.items())}, kept {sorted(found)}"
    assert not list((folder / "events").glob("damaged*")), f"{note}: a good store was put aside"
"""

HUB = """
from sqlalchemy import insert
from nvr import wire
from nvr.hub import committer, tables
from nvr.hub.app import Hub
from nvr.hub.checking import checked
from nvr.hub.committer import Item
from nvr.hub.identity import Box
from nvr.hub.intake import Speaker
from nvr.hub.settings import HubSettings
committer.RETRY_LEAST_S = committer.RETRY_MOST_S = 0.0
# A hub that is made anew for each of some hundred calls would be made for minutes: its tables are there before the errors begin.
template = base / "template"
hub = Hub(HubSettings(template), lambda: 1_800_000_000_000)
box = Box("ab" * 16, 1, "box", bytes(32))
with hub.store.writing() as connection:
    connection.execute(insert(tables.box).values(id=box.id, tenant_id=1, name="box", site="site", public_key="00" * 32, enrolled_ms=1))
hub.store.close()

def life(folder, heal):
    edge.set(error=0)
    shutil.copytree(template, folder / "hub")
    hub = Hub(HubSettings(folder / "hub"), lambda: 1_800_000_000_000)
    speaker = Speaker(box, "connection")
    def say(kind, body):
        outcome = []
        item = Item(kind, speaker, checked(wire.Message(kind, body)), 1_800_000_000_000, done=outcome.append)
        hub.committer._commit([item])
        assert not item.refusal, item.refusal
        assert outcome == [None], outcome
    say("hello", {"box": "box", "site": "site", "cameras": [{"camera": "gate", "place": "harbour", "template": "traffic"}]})
    edge.fail_some(errno.EIO, first, times)
    for number in range(1, 7):
        event = {"camera": "gate", "kind": "service_open", "zone": "", "state": "open", "from_ms": number, "to_ms": number, "detail": "x" * 3000}
        say("event", {"id": f"{number:032x}", "event": event})
    hub.store.close()
    return set(range(1, 7))

def held(folder, said, note):
    base = sqlite3.connect(folder / "hub" / "hub.db")
    assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",), note
    found = sorted(int(id, 16) for (id,) in base.execute("SELECT id FROM event"))
    base.close()
    assert found == sorted(said), f"{note}: {found}"
"""


def all_calls(program: str, tmp_path: Path, *, times: int, step: int) -> int:
    """How many lives met an error. Raises AssertionError with what the program said."""
    try:
        edge = Edge(library(tmp_path), tmp_path / "edge", tmp_path / "data")
    except NoCompiler as error:
        pytest.skip(str(error))
    (tmp_path / "data").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + program + EVERY_CALL, str(tmp_path / "data"), str(times), str(step)],
        env={**os.environ, **edge.environment(), "PYTHONPATH": str(ROOT)}, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return int(done.stdout)


PROGRAMS = [
    pytest.param(OUTBOX, id="the outbox"), pytest.param(EVENTS, id="the store of events"), pytest.param(HUB, id="the hub's database"),
]  # fmt: skip


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_call_that_fails_costs_nothing_that_was_durable(program, tmp_path):
    """One call in five; the test below takes them all."""
    assert all_calls(program, tmp_path, times=1, step=5) > 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "times"),
    [
        *(pytest.param(OUTBOX, times, id=f"the outbox, {times}") for times in (1, 3)),
        *(pytest.param(EVENTS, times, id=f"the store of events, {times}") for times in (1, 3)),
        pytest.param(HUB, 1, id="the hub's database, 1"),  # each of its lives takes half a second
    ],
)
def test_every_single_call_may_fail_and_costs_nothing_that_was_durable(program, times, tmp_path):
    assert all_calls(program, tmp_path, times=times, step=1) > 25
