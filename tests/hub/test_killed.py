"""A hub that is killed at any moment holds everything it confirmed: events, stills, replies, uploads. On every database and store."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import threading
import time
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from nvr.hub import tables
from tests.hub.conftest import HubProcess, wait_for
from tests.hub.simulated import SimulatedBox

AWAY = (ConnectionClosed, InvalidHandshake, OSError, httpx.TransportError, TimeoutError)


class Speaker(threading.Thread):
    """A box that says events with stills, and remembers what was acknowledged."""

    def __init__(self, box: SimulatedBox) -> None:
        super().__init__(daemon=True)
        self.box, self.confirmed, self.ended = box, {}, threading.Event()
        self.said = 0

    def run(self) -> None:
        while not self.ended.is_set():
            with contextlib.suppress(*AWAY):
                self.box.join()
                while not self.ended.is_set():
                    self.said += 1
                    still, jpeg = self.box.still(jpeg=b"\xff\xd8\xff" + os.urandom(2000))
                    event = self.box.event(still_sha256=still["sha256"])
                    self.box.send("event", **event)
                    self.box.send("still", jpeg, **still, event=event["id"])
                    self.box.hear_acks(event["id"], timeout_s=10)
                    self.confirmed[event["id"]] = jpeg
            time.sleep(0.05)


class Uploader(threading.Thread):
    """A box that uploads one object after the other, goes on where it was, and remembers what was stored."""

    def __init__(self, box: SimulatedBox) -> None:
        super().__init__(daemon=True)
        self.box, self.confirmed, self.ended = box, {}, threading.Event()
        self.held_bytes = 0  # of the current one, as the hub last confirmed
        self.lost = ""

    def run(self) -> None:
        data = os.urandom(150_000)
        while not self.ended.is_set():
            with contextlib.suppress(*AWAY), httpx.Client(timeout=30) as client:
                answer = self.box.begin_upload(client, data, kind="report", camera=None)
                if answer.status_code != 201:
                    continue
                offset = int(answer.headers["upload-offset"])
                if offset < self.held_bytes:
                    self.lost = f"the hub had confirmed {self.held_bytes} bytes and holds {offset}"
                location = answer.headers["location"]
                while "nvr-stored" not in answer.headers and answer.status_code in (201, 204):
                    self.held_bytes = offset = int(answer.headers["upload-offset"])
                    answer = self.box.send_piece(client, location, data[offset : offset + 40_000], offset)
                if "nvr-stored" in answer.headers:
                    self.confirmed[answer.headers["nvr-stored"]] = data
                    data, self.held_bytes = os.urandom(150_000), 0
            time.sleep(0.05)


def kill_it_often(hub: HubProcess, times: int, seed: int) -> None:
    chance = random.Random(seed)
    speakers = [Speaker(hub.box(f"waihaong-{number}")) for number in range(3)]
    uploaders = [Uploader(hub.box(f"uploader-{number}")) for number in range(2)]
    everybody = [*speakers, *uploaders]
    for each in everybody:
        each.start()
    for _ in range(times):
        before = sum(len(each.confirmed) for each in everybody)
        wait_for(
            lambda before=before: sum(len(each.confirmed) for each in everybody) > before + 3, "more was confirmed"
        )
        time.sleep(chance.random() * 0.3)
        hub.kill()
        hub.start()
    for each in everybody:
        each.ended.set()
    for each in everybody:
        each.join(timeout=60)

    confirmed = {event_id: jpeg for each in speakers for event_id, jpeg in each.confirmed.items()}
    events = {row["id"]: row for row in hub.rows(tables.event)}
    objects = {row["sha256"]: row for row in hub.rows(tables.object_)}
    for event_id, jpeg in confirmed.items():
        assert events[event_id]["has_still"]
        assert b"".join(hub.blobs.read(objects[hashlib.sha256(jpeg).hexdigest()]["blob"])) == jpeg
    for each in uploaders:
        assert not each.lost
        for digest, data in each.confirmed.items():
            assert b"".join(hub.blobs.read(objects[digest]["blob"])) == data
    assert confirmed and any(each.confirmed for each in uploaders)
    assert len(events) <= sum(each.said for each in speakers)


def test_a_hub_that_is_killed_lost_nothing_it_confirmed(own_hub):
    kill_it_often(own_hub, times=2, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_hub_that_is_killed_again_and_again_lost_nothing_it_confirmed(own_hub, seed):
    kill_it_often(own_hub, times=8, seed=seed)


def test_a_hub_whose_disk_is_full_confirms_nothing_and_goes_on_afterwards(tmp_path: Path):
    """The file of the database may not grow any more (RLIMIT_FSIZE): no acknowledgement goes out, and nobody is thrown out."""
    import subprocess

    hub = HubProcess(tmp_path / "data")
    hub.start()
    try:
        box = hub.box()
        box.join()
        box.send("event", **(first := box.event()))
        box.hear_acks(first["id"])
        assert hub.process is not None
        # Another program would do this by filling the disk; a limit on the running process does the same for it alone.
        full = f"--fsize={os.path.getsize(hub.data_dir / 'hub.db-wal')}"
        subprocess.run(["prlimit", "--pid", str(hub.process.pid), f"{full}:unlimited"], check=True)
        box.send("event", **(second := box.event()))
        with pytest.raises(TimeoutError):
            box.hear_acks(second["id"], timeout_s=3)
        wait_for(
            lambda: httpx.get(f"{hub.url}/healthz", timeout=30).status_code == 503, "the hub says that it cannot store"
        )
        subprocess.run(["prlimit", "--pid", str(hub.process.pid), "--fsize=unlimited:unlimited"], check=True)
        box.hear_acks(second["id"])
        wait_for(lambda: httpx.get(f"{hub.url}/healthz", timeout=30).status_code == 200, "the hub is well again")
        assert {first["id"], second["id"]} == {row["id"] for row in hub.rows(tables.event)}
    finally:
        hub.stop()


@pytest.mark.postgres
def test_a_database_that_goes_away_is_waited_for(postgres, tmp_path: Path):
    """PostgreSQL is killed like in a power cut and comes back: boxes stay connected, nothing is confirmed meanwhile, all of it afterwards."""
    import signal

    hub = HubProcess(tmp_path / "data", "--database", postgres.database())
    hub.command("init")
    hub.start()
    try:
        box = hub.box()
        box.join()
        box.send("event", **(first := box.event()))
        box.hear_acks(first["id"])
        postgres.stop(signal.SIGQUIT)  # immediate: no checkpoint, recovery from its log
        box.send("event", **(second := box.event()))
        with pytest.raises(TimeoutError):
            box.hear_acks(second["id"], timeout_s=3)
        postgres.start()
        box.hear_acks(second["id"])
        assert {first["id"], second["id"]} == {row["id"] for row in hub.rows(tables.event)}
    finally:
        hub.stop()
        hub.store.close()
