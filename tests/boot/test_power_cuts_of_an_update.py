"""Power cuts at random moments of a whole update of the real image, and the way back from each by the box's own bootloader.

One box in QEMU is ordered by a real hub to update: it fetches the bundle, installs it, restarts, starts its new slot and commits it, and every write and
flush of bootloader and kernel is logged (write_log.py). Then the disks of CUTS moments are made, as many of each stretch, each with its own fate of
what was not flushed. From each a box is started beside the same hub: it comes back, by the slot it should, records, and holds what had been called durable.

    NVR_CUTS=20 NVR_SEED=1 NVR_UPDATE_SESSION=/var/tmp/session python -m pytest -s -n 2 -m campaign tests/boot/test_power_cuts_of_an_update.py

NVR_UPDATE_SESSION keeps the log, and takes it from there when it is there already; with -n it must be there already.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import films
import pytest
from pretend import PretendCamera

from boot import vm as vms
from boot.conftest import FILM, PASSWORD, SITE, USER, port_of
from boot.cut_session import Session, Watcher, check_file_system, durable_at, lived, mounted
from boot.test_ordered_by_the_hub import administrator, order, rolled_out
from boot.test_virt_x86 import comes_back, wait_until
from boot.write_log import Cutter, Fate, sparse_copy
from image.disk import SECTOR
from nvr.ring.reader import Ring
from tests.uplink.real_hub import RealHub

pytestmark = [pytest.mark.boot, pytest.mark.campaign]

CUTS = int(os.environ.get("NVR_CUTS", "20"))
SEED = int(os.environ.get("NVR_SEED", "1"))
KEPT = os.environ.get("NVR_UPDATE_SESSION", "")
LIMIT_S = 900.0
VERSION = "1.6"
# What may start after a cut of each stretch.
SLOTS = {"fetched": "A", "written": "A", "made first": "AB", "started": "B", "committed": "B"}


def live(session: Session, new_box, builder, work: Path) -> None:
    """From the first start to a minute after the new slot was committed; the hub's data lies in the session when it is over."""
    bundle = builder.changed(lambda firmware: None, VERSION, work)
    film = f"gate={films.footage(FILM)}"
    with PretendCamera(film, user=USER, password=PASSWORD) as camera, RealHub(session.folder / "hub") as hub:
        told = f'hub: {{url: "https://10.0.2.101", code: {hub.code}, fingerprint: "{hub.fingerprint}"}}\ncameras:'
        session.site = SITE.replace("cameras:", told)
        box = new_box("update", site=session.site, ports=[port_of(camera)], hub=int(hub.listen.rpartition(":")[2]))
        box.toolbox = vms.Toolbox(box.toolbox.path, (*box.toolbox.folders, session.folder))
        sparse_copy(box.disk, session.base)
        shutil.copy(box.key, session.key)
        box.writes = session.folder / "writes"
        watcher = Watcher(box, session)
        try:
            box.start()
            comes_back(box)
            wait_until(lambda: hub.rows("SELECT * FROM box WHERE heartbeat IS NOT NULL"), LIMIT_S, "a heartbeat")
            watcher.listen()
            wait_until(lambda: durable_at(session, 1 << 60), LIMIT_S, "something durable")
            parts = json.loads(box.toolbox.run(["sfdisk", "--json", box.disk], folders=[box.disk.parent]).output)
            for each in parts["partitiontable"]["partitions"]:
                session.marks[each["name"]] = each["start"] * SECTOR
            watcher.mark("ordered")
            with administrator(hub) as api:
                begin = len(box.text())
                rollout_id = order(api, bundle.read_bytes(), VERSION)
                box.wait_for("nvr: slot B committed", after=begin)
                watcher.mark("committed")
                assert comes_back(box, begin) == "B"
                watcher.listen()
                wait_until(lambda: rolled_out(api, rollout_id)["box"]["state"] == "good", LIMIT_S, "the hub knows")
            watcher.mark("end")
            assert (box.resets, box.crashes) == (1, 0), "one log for each slot"
        finally:
            box.kill()
            watcher.close()
    session.save()


@pytest.fixture(scope="module")
def session(request, tmp_path_factory) -> Session:
    return lived(request, tmp_path_factory, KEPT, live)


@dataclass(frozen=True)
class Moment:
    stretch: str
    number: int  # of the request behind which the power goes
    fate: Fate


def stretches(session: Session, cutter: Cutter) -> dict[str, tuple[int, int]]:
    """First request of each stretch, and the first one after it: as the log itself shows them."""
    begin = cutter.number_at(session.marks["ordered"])
    first_log = cutter.number_at(session.logs[0].stat().st_size)
    slot_b = [session.marks["bootB"], session.marks["rootA"], session.marks["rootB"], session.marks["data"]]
    written = [
        at
        for at in range(begin, first_log)
        if (entry := cutter.entries[at]).size
        and (slot_b[0] <= entry.offset < slot_b[1] or slot_b[2] <= entry.offset < slot_b[3])
    ]
    committed, end = cutter.number_at(session.marks["committed"]), cutter.number_at(session.marks["end"])
    edges = [begin, written[0], written[-1] + 1, first_log, committed, end]
    return dict(zip(SLOTS, itertools.pairwise(edges), strict=True))


def moments(session: Session, cutter: Cutter) -> list[Moment]:
    """CUTS of them, the same for the same seed; the stretches take turns."""
    chance = random.Random(SEED)
    found = []
    for at in range(CUTS):
        name, (first, last) = list(stretches(session, cutter).items())[at % len(SLOTS)]
        number = chance.randrange(first + 1, last + 1)
        found.append(Moment(name, number, chance.choice((Fate.MIXED, Fate.MIXED, Fate.PREFIX, Fate.LOST, Fate.KEPT))))
    return found


def recording_again(hub: RealHub, boots: set[str]) -> dict:
    """The box's heartbeat at the hub once it says that it records, in another boot than those; {} until then."""
    (told,) = hub.rows("SELECT heartbeat FROM box")
    heartbeat = json.loads(told["heartbeat"])
    is_recording = all(camera["recording"] for camera in heartbeat["cameras"].values())
    return heartbeat if heartbeat["boot_id"] not in boots and is_recording else {}


@pytest.mark.parametrize("count", range(CUTS))
def test_the_box_comes_back_and_records(session, new_box, tmp_path, count):
    """It is asked nothing, a start under emulation is dear: the serial line, the hub and afterwards its disk say all there is to know."""
    cutter = Cutter(session.base, session.logs, tmp_path)
    moment = moments(session, cutter)[count]
    note = f"cut {count}: seed {SEED}, request {moment.number}, while it is {moment.stretch}, {moment.fate.value}"
    shutil.copytree(session.folder / "hub/hub-data", tmp_path / "hub-data")
    film = f"gate={films.footage(FILM)}"
    with (
        PretendCamera(film, user=USER, password=PASSWORD) as camera,
        RealHub(session.folder / "hub", data_dir=tmp_path / "hub-data") as hub,
    ):
        boots = {json.loads(row["heartbeat"])["boot_id"] for row in hub.rows("SELECT heartbeat FROM box")}
        port = int(hub.listen.rpartition(":")[2])
        box = new_box(f"cut-{count}", site="", with_key=False, ports=[port_of(camera)], hub=port)
        at_stake = cutter.cut(moment.number, moment.fate, random.Random(f"{SEED} {count}"), box.disk)
        durable = durable_at(session, cutter.log_bytes_at(moment.number))["gate/main"]
        cutter.close()
        with box:
            slot = box.wait_for(r"nvr: slot (\w) committed")[1]
            heartbeat = wait_until(lambda: recording_again(hub, boots), LIMIT_S, "recording, and the hub is told")
            took_s = box.since_start_s()
    update = heartbeat["update"]
    print(
        f"{note}, {at_stake} writes at stake: slot {slot}, records and tells the hub after {took_s:.0f} s; the update: {update or 'not begun'}",
        flush=True,
    )
    assert slot == heartbeat["slot"], note
    assert slot in SLOTS[moment.stretch], note
    assert update.get("state") not in ("return", "refused"), f"{note}: nothing was wrong with it: {update}"
    start = session.marks["data"]
    size = box.disk.stat().st_size - start
    with mounted(box.disk, start, size, tmp_path / "data") as data, Ring(data / "nvr/rings/gate/main") as ring:
        records = {row.record.sequence: row.record for row in ring.rows()}
    check_file_system(box.disk, start, note)
    first, last = min(records), max(records)
    missing = [sequence for sequence in range(min(first, 1), durable + 1) if sequence not in records]
    assert not missing, f"{note}: {missing} had been called durable"
    assert records[last].boot_id.hex() == heartbeat["boot_id"].replace("-", ""), f"{note}: nothing new is in the ring"
    box.disk.unlink()
