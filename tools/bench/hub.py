"""How many boxes a hub carries: simulated ones that heartbeat, send stills and events, against a real hub in processes of its own.

    python -m tools.bench.hub                                    500 boxes x 8 cameras for 300 s on SQLite and a folder
    python -m tools.bench.hub --database postgresql --hubs 2     the same on PostgreSQL, two hub processes sharing the boxes by their id
    python -m tools.bench.hub --boxes 50 --seconds 20            a short look

Each box sends a heartbeat and a still of each camera every 10 s, at times of its own, and an event every EVENT_S; every tenth event is an
alarm with a still. Latency is from sending an event to its acknowledgement, after commit and sync; heartbeats and stills share its
transactions. The generator runs on the same machine: its CPU is shown beside the hub's, in seconds per second of the window.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import func, insert, select
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from nvr import wire
from nvr.evidence import Identity
from nvr.hub import tables
from nvr.hub.database import Store, migrate
from nvr.hub.settings import load
from tests.hub import engines

STILL_BYTES = 16_000  # 37 of them each 10 s are half of a 1 Mbit/s link
EVENT_S = 20.0  # between two events of one box
_TICKS = os.sysconf("SC_CLK_TCK")


class Facts:
    """What the generator saw; `is_measuring` after everybody is welcome and warm."""

    def __init__(self) -> None:
        self.is_measuring = False
        self.latencies_s: list[float] = []
        self.sent = {"heartbeat": 0, "still": 0, "event": 0}
        self.late = 0  # things that went out more than 5 s after their time: then generator or hub is too slow
        self.lost = 0  # connections
        self.unacknowledged = 0


class LoadBox:
    """One box, for ever."""

    def __init__(self, url: str, number: int, cameras: int, facts: Facts) -> None:
        self.url, self.name, self.facts = url.replace("http", "ws", 1), f"box-{number:05d}", facts
        self.cameras = [f"camera-{each}" for each in range(cameras)]
        self.identity = Identity.create()
        self.id = self.identity.box_id.hex()
        self.waiting: dict[str, float] = {}
        self._number = 0
        self._chance = random.Random(number)
        self._jpeg = b"\xff\xd8\xff" + self._chance.randbytes(STILL_BYTES)
        self._digest = hashlib.sha256(self._jpeg).hexdigest()

    async def run(self, welcome: asyncio.Semaphore) -> None:
        while True:
            try:
                async with welcome:  # not all at once: a real city's boxes come back by back-off
                    to_sign = wire.token_to_sign(self.identity.box_id, int(time.time()))
                    token = wire.signed_token(to_sign, self.identity.sign(to_sign))
                    socket = await connect(
                        f"{self.url}/box/v1/control", subprotocols=[wire.SUBPROTOCOL], compression=None, open_timeout=120,  # type: ignore[list-item]
                        additional_headers=wire.request_headers(self.identity.box_id, token), ping_interval=None,
                    )  # fmt: skip
                    await socket.send(wire.Message("hello", self._hello()).to_text())
                    await asyncio.wait_for(socket.recv(), 120)
                try:
                    await asyncio.gather(self._speak(socket), self._hear(socket))
                finally:
                    await socket.close()
            except (WebSocketException, OSError, TimeoutError):
                self.facts.lost += 1
                await asyncio.sleep(1 + self._chance.random() * 5)

    def _hello(self) -> dict[str, Any]:
        cameras = [
            {"camera": name, "place": f"place-{self.name[4:]}", "template": "traffic", "streams": []}
            for name in self.cameras
        ]
        return {"box": self.name, "site": "site", "boot_id": "b" * 32, "software": "bench", "cameras": cameras}

    async def _hear(self, socket: ClientConnection) -> None:
        async for text in socket:
            message = json.loads(text)
            if message["kind"] == "ack":
                now_s = time.monotonic()
                for event_id in message["events"]:
                    sent_s = self.waiting.pop(event_id, None)
                    if sent_s is not None and self.facts.is_measuring:
                        self.facts.latencies_s.append(now_s - sent_s)

    async def _speak(self, socket: ClientConnection) -> None:
        """Everything at its own time, each 10 s anew."""
        now_s = time.monotonic()
        due = [(now_s + self._chance.random() * 10, "still", name) for name in self.cameras]
        due += [
            (now_s + self._chance.random() * 10, "heartbeat", ""),
            (now_s + self._chance.random() * EVENT_S, "event", ""),
        ]
        while True:
            due.sort()
            at_s, kind, camera = due.pop(0)
            wait_s = at_s - time.monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            elif wait_s < -5 and self.facts.is_measuring:
                self.facts.late += 1
            if kind == "still":
                await socket.send(self._still(camera))
            elif kind == "heartbeat":
                await socket.send(wire.Message("heartbeat", self._heartbeat()).to_text())
            else:
                await self._event(socket)
            if self.facts.is_measuring:
                self.facts.sent[kind] += 1
            due.append((at_s + (EVENT_S if kind == "event" else 10.0), kind, camera))

    def _still(self, camera: str, event_id: str | None = None) -> bytes:
        now_ms = time.time_ns() // 1_000_000
        signature = self.identity.sign(wire.still_signed(camera, now_ms, self._digest)).hex()
        body = {
            "camera": camera,
            "captured_ms": now_ms,
            "clock": {"state": "synced", "error_ms": 3},
            "sha256": self._digest,
            "signature": signature,
        }
        return wire.Message("still", body if event_id is None else {**body, "event": event_id}, self._jpeg).to_bytes()

    def _heartbeat(self) -> dict[str, Any]:
        """Some 3 kB, as a real one with eight cameras has."""
        camera = {
            "recording": True,
            "cause": None,
            "detail": "",
            "since_ms": 1,
            "fps": 25.0,
            "kbit_s": 4100,
            "lost_packets": 0,
            "looked_at": True,
        }
        ledger = {"recorded_s": 40_000, "missing_s": 12, "by_cause": {"camera": 10, "network": 2}}
        state = {
            "kind": "congestion",
            "zone": "inbound",
            "state": "free",
            "from_ms": 1_700_000_000_000,
            "numbers": {"occupancy": 0.2},
        }
        return {
            "at_ms": time.time_ns() // 1_000_000, "mono_ms": 1, "boot_id": "b" * 32, "clock": {"state": "synced", "error_ms": 3},
            "cameras": dict.fromkeys(self.cameras, camera), "states": [{"camera": name, **state} for name in self.cameras],
            "ledger": dict.fromkeys(self.cameras, ledger), "disk": {"total_bytes": 10**11, "free_bytes": 10**9, "life_left_percent": 93},
            "temperature_c": 50 + self._chance.random() * 10, "load": 0.4, "outbox": {"depth": 0, "bytes": 0}, "shed": [], "slot": "a",
        }  # fmt: skip

    async def _event(self, socket: ClientConnection) -> None:
        self._number += 1
        event_id = wire.event_id(self.identity.box_id, self.name, self._number)
        is_alarm, camera, now_ms = (
            self._number % 10 == 0,
            self._chance.choice(self.cameras),
            time.time_ns() // 1_000_000,
        )
        event = {
            "number": self._number, "camera": camera, "kind": "congestion", "zone": "inbound", "state": self._chance.choice(["free", "dense", "jam"]),
            "from_ms": now_ms, "to_ms": now_ms, "tracks": [1, 2, 3], "numbers": {"occupancy": 0.4, "speed": 0.1}, "words": {}, "detail": "",
            "stream": f"{camera}/main", "from_sequence": 1, "to_sequence": 9,
        }  # fmt: skip
        body = {"id": event_id, "event": event, "value": wire.ALARM if is_alarm else wire.STATE, "boot_id": "b" * 32}
        if is_alarm:
            self._jpeg = b"\xff\xd8\xff" + self._chance.randbytes(STILL_BYTES)
            self._digest = hashlib.sha256(self._jpeg).hexdigest()
            body["still_sha256"] = self._digest
        self.waiting[event_id] = time.monotonic()
        await socket.send(wire.Message("event", body).to_text())
        if is_alarm:
            await socket.send(self._still(camera, event_id))


def cpu_s(*pids: int) -> float:
    """Seconds of CPU so far, with those of children that are still there."""
    total = 0.0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / _TICKS
            for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                total += cpu_s(int(each))
    return total


def threads_cpu_s(pid: int) -> dict[str, float]:
    """By thread name: what saturates first is one of them."""
    found: dict[str, float] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            fields = (task / "stat").read_text().rpartition(")")[2].split()
            name = "event loop" if task.name == str(pid) else (task / "comm").read_text().strip()
            found[name] = found.get(name, 0.0) + (int(fields[11]) + int(fields[12])) / _TICKS
    return found


def memory_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) / 1000


@contextlib.contextmanager
def hubs(folder: Path, database: str, count: int) -> Iterator[tuple[list[subprocess.Popen[str]], list[str]]]:
    processes: list[subprocess.Popen[str]] = []
    urls = []
    try:
        for _ in range(count):
            process = subprocess.Popen(
                [sys.executable, "-m", "nvr", "hub", "run", "--json", "--data", str(folder), "--listen", "127.0.0.1:0", "--database", database],
                stdout=subprocess.PIPE, text=True, stderr=open(folder / "log", "a"),
            )  # fmt: skip
            processes.append(process)
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, (folder / "log").read_text()[-2000:]
            urls.append(json.loads(line)["address"])
        yield processes, urls
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(timeout=60)


class DiskProbe(threading.Thread):
    """How long a sync of 4 kB takes on the same disk meanwhile: no acknowledgement can be quicker than that."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self._path, self.ended = folder / "probe", threading.Event()
        self.took_s: list[float] = []

    def run(self) -> None:
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT)
        while not self.ended.wait(0.1):
            os.write(fd, bytes(4096))
            began_s = time.monotonic()
            os.fdatasync(fd)
            self.took_s.append(time.monotonic() - began_s)
        os.close(fd)


def shares_ms(seconds: list[float]) -> dict[str, int]:
    ordered = sorted(seconds) or [float("inf")]
    at = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "most": 1.0}
    return {name: round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000) for name, share in at.items()}


def make_known(store: Store, boxes: list[LoadBox]) -> None:
    """Enrolment is not what is measured."""
    with store.writing() as connection:
        tenant_id = connection.execute(select(tables.tenant.c.id)).scalar_one()
        for box in boxes:
            connection.execute(
                insert(tables.box).values(
                    id=box.id,
                    tenant_id=tenant_id,
                    name=box.name,
                    site="site",
                    public_key=box.identity.public_bytes.hex(),
                    enrolled_ms=1,
                )
            )


async def measure(
    boxes: list[LoadBox],
    facts: Facts,
    pids: list[int],
    database_pid: int | None,
    seconds: float,
    warm_s: float,
    folder: Path,
) -> dict[str, Any]:
    began_s = time.monotonic()
    welcome = asyncio.Semaphore(40)
    tasks = [asyncio.create_task(box.run(welcome)) for box in boxes]
    async with httpx.AsyncClient(timeout=60) as client:
        while True:
            told = [
                (await client.get(f"{url}/healthz")).json()
                for url in {box.url.replace("ws", "http", 1) for box in boxes}
            ]
            if sum(each["boxes"] for each in told) == len(boxes):
                break
            if time.monotonic() - began_s > 300:
                raise SystemExit(f"only {told} of {len(boxes)} boxes were welcome after 300 s")
            await asyncio.sleep(0.5)
    joined_s = time.monotonic() - began_s
    print(f"{len(boxes)} boxes welcome after {joined_s:.1f} s", file=sys.stderr, flush=True)
    await asyncio.sleep(warm_s)
    everybody = [*pids, os.getpid(), *([] if database_pid is None else [database_pid])]
    before = {pid: cpu_s(pid) for pid in everybody}
    threads_before = {pid: threads_cpu_s(pid) for pid in pids}
    probe = DiskProbe(folder)
    probe.start()
    facts.is_measuring, began_s = True, time.monotonic()
    await asyncio.sleep(seconds)
    took_s = time.monotonic() - began_s
    facts.is_measuring = False
    probe.ended.set()
    used = {pid: (cpu_s(pid) - before[pid]) / took_s for pid in everybody}
    threads: dict[str, float] = {}
    for pid in pids:
        for name, used_s in threads_cpu_s(pid).items():
            share = (used_s - threads_before[pid].get(name, 0.0)) / took_s
            threads[name] = max(threads.get(name, 0.0), share)
    facts.unacknowledged = sum(1 for box in boxes for sent_s in box.waiting.values() if time.monotonic() - sent_s > 5)
    memory = max(memory_mb(pid) for pid in pids)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return {
        "seconds": round(took_s, 1), "boxes": len(boxes), "cameras": sum(len(box.cameras) for box in boxes), "joined_s": round(joined_s, 1),
        "sent_per_s": {kind: round(count / took_s, 1) for kind, count in facts.sent.items()}, "acknowledged": len(facts.latencies_s),
        "latency_ms": shares_ms(facts.latencies_s), "disk_sync_ms": shares_ms(probe.took_s), "late": facts.late, "lost_connections": facts.lost, "unacknowledged_5s": facts.unacknowledged,
        "cpu": {"hubs": [round(used[pid], 2) for pid in pids], "database": None if database_pid is None else round(used[database_pid], 2), "generator": round(used[os.getpid()], 2)},
        "busiest_threads": {name: round(share, 2) for name, share in sorted(threads.items(), key=lambda each: -each[1])[:5]},
        "memory_mb": round(memory),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boxes", type=int, default=500)
    parser.add_argument("--cameras", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument(
        "--warm", type=float, default=12.0, help="seconds before it is measured: each camera had its first still"
    )
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--hubs", type=int, default=1)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that hubs and database end with it
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nvr-bench-")))
        cluster = stack.enter_context(engines.postgres()) if options.database == "postgresql" else None
        database = load(folder).database_url if cluster is None else cluster.database()
        store = Store(database)
        migrate(store, folder)
        processes, urls = stack.enter_context(hubs(folder, database, options.hubs))
        facts = Facts()
        boxes = [LoadBox("", number, options.cameras, facts) for number in range(options.boxes)]
        for box in boxes:
            box.url = urls[int(box.id, 16) % len(urls)].replace("http", "ws", 1)  # as nginx would share them out
        make_known(store, boxes)
        print(f"{len(urls)} hubs listen, {len(boxes)} boxes are known", file=sys.stderr, flush=True)
        database_pid = None if cluster is None or cluster.process is None else cluster.process.pid
        told = asyncio.run(
            measure(
                boxes,
                facts,
                [process.pid for process in processes],
                database_pid,
                options.seconds,
                options.warm,
                folder,
            )
        )
        with store.reading() as connection:
            stored = {
                table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
                for table in (tables.event, tables.still, tables.object_)
            }
        store.close()
        print(json.dumps({"database": options.database, "hubs": options.hubs, **told, "rows": stored}))


if __name__ == "__main__":
    main()
