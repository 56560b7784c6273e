"""Power goes at any call of a program that keeps its promises in SQLite: what it said to be durable is there afterwards.

Real SQLite, the real code of the rooms, their real writes and syncs; only the disk that loses them is simulated.
"""

from __future__ import annotations

import hashlib
import json
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from e2e.cut_disk import Entry, lay_out, logged, play
from fakes import MemoryDisk, any_version, kept, lost, mixed, torn, zeroed

EVENTS = """
import os, random, sys
from pathlib import Path
from nvr.events import EventLog, Evidence
from nvr.scene import Event
folder = Path(sys.argv[1])
rng = random.Random(int(sys.argv[2]))
acks = os.open(folder / "acks", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
log = EventLog(folder / "events", "life", stills_bytes=60_000, events_kept=40)
for number in range(90):
    state = rng.choice(("closed", "open", "crossed"))
    kind = "line_crossing" if state == "crossed" else "service_open"
    log.add(Event(kind, "gate", "counter", state, number, number + 1, 1_800_000_000_000_000_000 + number), Evidence("gate/main", "00"),
            rng.randbytes(rng.randrange(200, 5000)) if rng.random() < 0.6 else None)
    if rng.random() < 0.5:
        for stored in log.commit():
            os.write(acks, b"%d %d\\n" % (stored.number, stored.event.from_ns))
log.close()
"""

OUTBOX = """
import os, random, sys
from pathlib import Path
from nvr.uplink.outbox import Clip, Made, Outbox, Told, Wanted
folder = Path(sys.argv[1])
rng = random.Random(int(sys.argv[2]))
acks = os.open(folder / "acks", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
outbox = Outbox(folder / "outbox")
for number in range(1, 61):
    id = f"{number:032x}"
    clip = Clip(id, 25, number, Wanted("gate/main", "", 1, 2, event=id), None)
    outbox.take([Told(number, id, rng.choice((0, 10, 15)), id)], [clip], (number, "life"), number)
    os.write(acks, b"taken %d\\n" % number)
    if rng.random() < 0.5:
        gone = f"{rng.randrange(1, number + 1):032x}"
        outbox.acknowledged([gone])
        os.write(acks, b"told %d\\n" % int(gone, 16))
    if rng.random() < 0.3:
        outbox.made(id, [Made("a.mp4", "0" * 64, 5, 0, 1)])
        outbox.stored(id)
        os.write(acks, b"stored %d\\n" % number)
outbox.close()
"""


HUB = """
import hashlib, os, random, sys
from pathlib import Path
from sqlalchemy import insert
from nvr import wire
from nvr.hub import tables
from nvr.hub.parts import Hub
from nvr.hub.blobs import object_key
from nvr.hub.committer import Item
from nvr.hub.identity import Box
from nvr.hub.checking import checked
from nvr.hub.intake import Speaker
from nvr.hub.settings import HubSettings
folder = Path(sys.argv[1])
rng = random.Random(int(sys.argv[2]))
acks = os.open(folder / "acks", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
hub = Hub(HubSettings(folder / "hub"), lambda: 1_800_000_000_000)
box = Box("ab" * 16, 1, "box", bytes(32))
with hub.store.writing() as connection:
    connection.execute(insert(tables.box).values(id=box.id, tenant_id=1, name="box", site="site", public_key="00" * 32, enrolled_ms=1))
speaker = Speaker(box, "connection")
def say(kind, body):
    item = Item(kind, speaker, checked(wire.Message(kind, body)), 1_800_000_000_000)
    hub.committer._commit([item])
    assert not item.refusal
say("hello", {"box": "box", "site": "site", "cameras": [{"camera": "gate", "place": "harbour", "template": "traffic"}]})
for number in range(1, 60):
    size = 0
    if rng.random() < 0.3:
        still = rng.randbytes(rng.randrange(200, 5000))
        digest, size = hashlib.sha256(still).hexdigest(), len(still)
        hub.blobs.put(object_key(1, box.id, digest), still)
    event = {"camera": "gate", "kind": "service_open", "zone": "", "state": rng.choice(("open", "closed")), "from_ms": number, "to_ms": number,
             "detail": digest if size else "x" * rng.randrange(3000)}
    say("event", {"id": f"{number:032x}", "event": event})
    if rng.random() < 0.3:
        say("heartbeat", {"filler": "x" * rng.randrange(3000)})
    os.write(acks, b"%d %d\\n" % (number, size))
hub.store.close()
"""


Holds = Callable[[Path], Callable[[Path, MemoryDisk, str], None]]  # a folder -> what is held to be true of each disk


def acked(disk: MemoryDisk, under: Path) -> dict[int, int]:
    """What the program had said to be durable when the power went: number -> from_ns."""
    file = disk.files.get(f"{under}/acks")
    lines = bytes(file.data).decode().splitlines() if file is not None else []
    return dict(tuple(map(int, line.split())) for line in lines)  # type: ignore[misc]


def cut_everywhere(
    entries: list[Entry], under: Path, to: Path, *, seed: int, cuts: int, check: Callable[[Path, MemoryDisk, str], None]
) -> int:
    """Lay out about `cuts` disks over all moments, and have each checked."""
    rng = random.Random(seed)
    fates = [("all kept", lambda: kept), ("all lost", lambda: lost), ("torn", lambda: torn(rng)), ("versions", lambda: any_version(rng)),
             ("mixed", lambda: mixed(rng)), ("zeroed", lambda: zeroed)]  # fmt: skip
    disk, done = MemoryDisk(), 0
    share = cuts / max(len(entries), 1)
    for number, entry in enumerate(entries):
        play(disk, entry)
        times = int(share) + (rng.random() < share % 1)
        for _ in range(times):
            name, fate = rng.choice(fates)
            names_kept = rng.random() < 0.6
            lay_out(disk, fate(), names_kept=names_kept, under=under, to=to)
            check(
                to,
                disk,
                f"seed {seed}, call {number} ({entry.kind} {Path(entry.path).name}), {name}, names {'kept' if names_kept else 'lost'}",
            )
            done += 1
    return done


def events_hold(under: Path) -> Callable[[Path, MemoryDisk, str], None]:
    def check(folder: Path, disk: MemoryDisk, note: str) -> None:
        promised = acked(disk, under)
        path = folder / "events" / "events.db"
        if not path.exists():
            assert not promised, f"{note}: the store is gone"
            return
        base = sqlite3.connect(path)
        try:
            assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",), note
            has_tables = base.execute("SELECT 1 FROM sqlite_master WHERE name = 'states'").fetchone()
            assert has_tables or not promised, f"{note}: promised events without tables"
            if not has_tables:
                return
            numbers = {number for (number,) in base.execute("SELECT number FROM events")}
            newest = max(numbers, default=0)
            # Bounded on purpose: what lies more than 40 events back may be gone, and a commit that was not said yet may be there.
            missing = {number for number in promised if number > newest - 40} - numbers
            assert not missing, f"{note}: promised events {sorted(missing)} are gone"
            assert newest >= max(promised, default=0), note
        finally:
            base.close()

    return check


def outbox_holds(under: Path) -> Callable[[Path, MemoryDisk, str], None]:
    def check(folder: Path, disk: MemoryDisk, note: str) -> None:
        file = disk.files.get(f"{under}/acks")
        said: dict[str, set[int]] = {"taken": set(), "told": set(), "stored": set()}
        for line in bytes(file.data).decode().splitlines() if file is not None else []:
            what, number = line.split()
            said[what].add(int(number))
        path = folder / "outbox" / "outbox.db"
        if not path.exists():
            assert not said["taken"], f"{note}: the outbox is gone"
            return
        base = sqlite3.connect(path)
        try:
            assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",), note
            if not base.execute("SELECT 1 FROM sqlite_master WHERE name = 'facts'").fetchone():
                assert not said["taken"], f"{note}: what was taken has no tables"
                return
            events = {number for (number,) in base.execute("SELECT number FROM events")}
            clips = {int(id, 16) for (id,) in base.execute("SELECT id FROM clips")}
            cursor = (base.execute("SELECT number FROM facts WHERE name = 'cursor'").fetchone() or (0,))[0]
            newest = max(said["taken"], default=0)
            assert newest <= cursor <= newest + 1, f"{note}: the cursor stands at {cursor}, {newest} was taken"
            # One change may be durable that was not said yet; none that was said may be missing.
            assert len(said["taken"] - said["told"] - events) <= 1, f"{note}: events are gone"
            assert len(said["taken"] - said["stored"] - clips) <= 1, f"{note}: clips are gone"
            assert not said["told"] & events and not said["stored"] & clips, f"{note}: what was confirmed is back"
        finally:
            base.close()

    return check


def hub_holds(under: Path) -> Callable[[Path, MemoryDisk, str], None]:
    def check(folder: Path, disk: MemoryDisk, note: str) -> None:
        promised = acked(disk, under)
        path = folder / "hub" / "hub.db"
        if not path.exists():
            assert not promised, f"{note}: the hub's database is gone"
            return
        base = sqlite3.connect(path)
        try:
            assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",), note
            has_tables = base.execute("SELECT 1 FROM sqlite_master WHERE name = 'event'").fetchone()
            assert has_tables or not promised, f"{note}: promised events without tables"
            stored = dict(base.execute("SELECT id, body FROM event").fetchall()) if has_tables else {}
            for number, size in promised.items():
                body = stored.get(f"{number:032x}")
                assert body is not None, f"{note}: event {number} was acknowledged and is gone"
                if size:
                    digest = json.loads(body)["detail"]
                    data = (folder / "hub" / "objects" / "objects" / "1" / ("ab" * 16) / digest).read_bytes()
                    assert hashlib.sha256(data).hexdigest() == digest, f"{note}: the still of event {number} is damaged"
        finally:
            base.close()

    return check


def cut_program(program: str, holds: Holds, tmp_path: Path, *, seed: int, cuts: int, syncs: int) -> int:
    """Run a program with its calls logged, cut its disk everywhere, and have each disk held to its promise; how many were."""
    under = tmp_path / "data"
    under.mkdir()
    entries = logged(program, under, tmp_path, seed)
    assert sum(entry.kind == "s" for entry in entries) > syncs
    return cut_everywhere(entries, under, tmp_path / "after", seed=seed, cuts=cuts, check=holds(under))


@pytest.mark.parametrize(
    ("program", "holds", "cuts", "least", "syncs"),
    [
        pytest.param(
            OUTBOX, outbox_holds, 150, 100, 20, id="the outbox keeps what it took, and nothing confirmed comes back"
        ),
        pytest.param(EVENTS, events_hold, 150, 100, 20, id="no event that was said to be stored is lost"),
        pytest.param(HUB, hub_holds, 120, 80, 50, id="no event that a hub acknowledged is lost"),
    ],
)
def test_a_power_cut_breaks_no_promise_of_a_database(program, holds, cuts, least, syncs, tmp_path):
    assert cut_program(program, holds, tmp_path, seed=1, cuts=cuts, syncs=syncs) > least


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "holds", "seed", "cuts", "least"),
    [
        *(pytest.param(OUTBOX, outbox_holds, seed, 600, 500, id=f"outbox {seed}") for seed in range(2, 6)),
        *(pytest.param(EVENTS, events_hold, seed, 600, 500, id=f"events {seed}") for seed in range(2, 6)),
        *(pytest.param(HUB, hub_holds, seed, 500, 400, id=f"hub {seed}") for seed in range(2, 5)),
    ],
)
def test_hundreds_of_power_cuts_break_no_promise_of_a_database(program, holds, seed, cuts, least, tmp_path):
    assert cut_program(program, holds, tmp_path, seed=seed, cuts=cuts, syncs=0) > least
