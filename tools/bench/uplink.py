"""What the uplink does over a bad link: `python -m tools.bench.uplink`, as root; prints a table, `--keep` puts it into docs/bench.md.

A box with footage and events on disk, the real `nvr.uplink` and a hub in network namespaces of their own, between them a link that is
shaped packet by packet (`shaped_link.py`): 256 kbit/s, 300 ms there and back, 8 % of the packets of either direction lost. While ordinary
clips travel, every TCP connection is broken again and again, the link is down for a while, and alarms happen.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import json
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from nvr.clock import SystemClock  # noqa: E402
from tests.uplink.boxes import EventfulBox  # noqa: E402
from tests.uplink.real_hub import RealHub  # noqa: E402
from tools.bench.shaped_link import HUB, Shape, ShapedLink  # noqa: E402

PORT = 8443
SETTLE_S = 180.0  # for the last word of the hub: a connection is given up after 45 s of silence, a new one after 30 s, and again


@dataclass
class Plan:
    """What happens on the link."""

    shape: Shape = field(default_factory=Shape)
    clips: int = 60  # events with ordinary clips that wait at the beginning
    picture_bytes: int = 4000  # five pictures a second: a clip of 21 s has 105 of them
    alarms: int = 6
    resets: int = 40
    outage_s: float = 60.0  # stands for two hours: only the back-off, at most a minute, depends on its length
    cap_kbit_s: float | None = None
    longest_s: float = 1500.0
    reset_every_s: float = 20.0
    alarm_every_s: float = 75.0  # their clips do not wait for each other


@dataclass
class Figures:
    clips: int = 0
    stored_once: int = 0
    identical: int = 0
    seconds: float = 0.0
    clip_bytes: int = 0
    resent_bytes: int = 0
    link_bytes: int = 0
    resets: int = 0
    breaks: int = 0
    alarm_event_s: list[float] = field(default_factory=list)  # stored on the box -> at the hub
    alarm_told_s: list[float] = field(default_factory=list)  # taken over -> handed to the kernel
    alarm_clip_s: list[float] = field(default_factory=list)  # the same -> first byte of its clip handed to the kernel
    heartbeat_gaps_s: list[float] = field(default_factory=list)  # at the hub, outside of the outage
    busiest_kbit_s: float = 0.0  # of any ten seconds
    mean_kbit_s: float = 0.0  # of all ten seconds that were busy
    waiting: int = 0  # events and clips in the outbox on disk, `settled_s` after the hub had stored the last clip
    settled_s: float = 0.0  # until the outbox was empty, at most SETTLE_S
    given_up: dict[str, int] = field(default_factory=dict)
    events: int = 0
    lost_share: float = 0.0

    @property
    def resent_share(self) -> float:
        return self.resent_bytes / max(self.clip_bytes, 1)


class Hub:
    """The real hub inside of the link, and what it saw when."""

    def __init__(self, folder: Path, link: ShapedLink) -> None:
        self.real = RealHub(folder, f"{HUB}:{PORT}", tuple(link.command("hub")))
        self.heartbeats: list[float] = []
        self._mono_ms = 0

    def look(self) -> int:
        """How many clips it has stored; notes each new heartbeat."""
        for row in self.real.rows("SELECT heartbeat FROM box"):
            mono_ms = json.loads(row["heartbeat"] or "{}").get("mono_ms", 0)
            if mono_ms != self._mono_ms:
                self._mono_ms = mono_ms
                self.heartbeats.append(time.time())
        return int(self.real.rows("SELECT count(*) AS n FROM object WHERE kind = 'clip'")[0]["n"])


def outbox_on_disk(data_dir: Path) -> tuple[int, dict[str, int]]:
    """(events and clips that the box has not let go of, what it gave up). Its own word is as old as its last heartbeat."""
    base = sqlite3.connect(f"file:{data_dir / 'outbox' / 'outbox.db'}?mode=ro", uri=True, timeout=30)
    with contextlib.closing(base):
        (number,) = base.execute("SELECT (SELECT count(*) FROM events) + (SELECT count(*) FROM clips)").fetchone()
        return number, dict(base.execute("SELECT name, number FROM facts WHERE name <> 'cursor'").fetchall())


def last_words(data_dir: Path) -> dict[str, Any]:
    """What the box says in a status that it began to write after this call."""
    path = data_dir / "run" / "uplink.json"
    from_ms = SystemClock().mono_ns() // 1_000_000
    end_s = time.monotonic() + 60
    while (status := json.loads(path.read_text()))["mono_ms"] <= from_ms and time.monotonic() < end_s:
        time.sleep(0.2)
    return dict(status)


def measure(folder: Path, plan: Plan, name: str = "upl") -> Figures:
    """Blocks until everything has arrived and the box knows it, or `longest_s` passed. Needs root."""
    box = EventfulBox(folder, seconds=90, picture_bytes=plan.picture_bytes)
    for number in range(plan.clips):
        box.event("service_open", "open", 10 + number % 60)
    figures = Figures()
    with ShapedLink(name, plan.shape) as link, contextlib.ExitStack() as stack:
        hub = Hub(folder / "hub", link)
        stack.enter_context(hub.real)
        more = f", cap_kbit_s: {plan.cap_kbit_s:g}" if plan.cap_kbit_s else ""
        site_path = box.site_file(f"https://{HUB}:{PORT}", hub.real.fingerprint, more, code=hub.real.code)
        stack.enter_context(process_of(folder / "uplink.log", *link.command(
            "box", sys.executable, "-m", "nvr.uplink", "--data", str(box.data_dir), "--site", str(site_path))))  # fmt: skip
        began_s = time.time()
        told: list[float] = []  # alarms: when they were stored on the box
        outages: list[tuple[float, float]] = []
        resets = 0
        next_reset_s, next_alarm_s = began_s + 20.0, began_s + 40.0
        while time.time() - began_s < plan.longest_s:
            time.sleep(0.2)
            stored, now_s = hub.look(), time.time()
            if resets < plan.resets and now_s >= next_reset_s:
                link.reset()
                resets += 1
                next_reset_s = now_s + plan.reset_every_s
            if len(told) < plan.alarms and now_s >= next_alarm_s:
                told.append(now_s)
                box.event("intrusion", "present", 20 + len(told))
                next_alarm_s = now_s + plan.alarm_every_s
            if plan.outage_s and not outages and resets >= plan.resets // 2 and len(told) >= plan.alarms // 2:
                link.down(True)
                time.sleep(plan.outage_s)
                link.down(False)
                outages.append((now_s, time.time()))
                next_reset_s, next_alarm_s = time.time() + plan.reset_every_s, time.time() + 60.0
            if stored >= plan.clips + plan.alarms and resets >= plan.resets:
                break
        figures.seconds = time.time() - began_s
        if stored >= plan.clips + plan.alarms:
            # The hub has all; that the box hears it needs the link once more, and a new connection if one broke just now.
            until_s = time.monotonic() + SETTLE_S
            while outbox_on_disk(box.data_dir)[0] and time.monotonic() < until_s:
                time.sleep(0.2)
            figures.settled_s = SETTLE_S - (until_s - time.monotonic())
        figures.waiting, figures.given_up = outbox_on_disk(box.data_dir)
        status = last_words(box.data_dir)
        figures.resets, figures.link_bytes = link.resets, link.counted["up"].sent_bytes
        figures.lost_share = link.counted["up"].lost / max(link.counted["up"].packets, 1)
        _rates(figures, link.timeline)
        clips = hub.real.clips()
        events = hub.real.rows("SELECT * FROM event ORDER BY received_ms")
    figures.clips = plan.clips + len(told)
    figures.events = len(events)
    figures.stored_once = (
        len({clip["event_id"] for clip in clips}) if len(clips) == len({clip["event_id"] for clip in clips}) else -1
    )
    figures.identical = sum(
        hashlib.sha256(hub.real.blob(clip["blob"])).hexdigest() == clip["sha256"] and clip["genuine"] == 1
        for clip in clips
    )
    figures.clip_bytes = sum(clip["size_bytes"] for clip in clips)
    figures.resent_bytes, figures.breaks = status["uplink"]["resent_bytes"], status["uplink"]["breaks"]
    alarms = [event["received_ms"] / 1000 for event in events if event["value"] == 0]
    for stored_s, at_s in zip(told, alarms, strict=False):
        if not any(begin_s - 1 <= stored_s < end_s for begin_s, end_s in outages):  # without a link nothing arrives
            figures.alarm_event_s.append(at_s - stored_s)
    figures.alarm_told_s, figures.alarm_clip_s = status["alarm_told_s"], status["alarm_clip_begun_s"]
    for before_s, after_s in itertools.pairwise(hub.heartbeats):
        if not any(before_s < end_s + 70 and begin_s < after_s for begin_s, end_s in outages):
            figures.heartbeat_gaps_s.append(after_s - before_s)
    return figures


def _rates(figures: Figures, timeline: list[tuple[float, int]]) -> None:
    """Over whole stretches of ten seconds, all packets and headers."""
    sums: dict[int, int] = {}
    for when_s, size in timeline:
        sums[int(when_s / 10)] = sums.get(int(when_s / 10), 0) + size
    inside = [size * 8 / 10_000 for _, size in sorted(sums.items())[1:-2]]
    busy = [rate for rate in inside if rate > 0.5 * max(inside, default=0)]
    figures.busiest_kbit_s = max(inside, default=0.0)
    figures.mean_kbit_s = statistics.mean(busy) if busy else 0.0


@contextlib.contextmanager
def process_of(log_path: Path, *command: str):  # type: ignore[no-untyped-def]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with open(log_path, "ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=ROOT, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def table(rows: list[tuple[str, Figures]]) -> str:
    head = (
        "| link | clips, each once and identical | clips MB | time s | connections broken | sent again | busiest 10 s, mean kbit/s | alarm at the hub s, median (most) "
        "| it leaves the box s, most | first byte of its clip leaves s, median (most) | heartbeats apart s, median (most) |"
    )
    lines = [head, "|" + " --- |" * 11]
    for name, each in rows:
        events, gaps = each.alarm_event_s or [0.0], each.heartbeat_gaps_s or [0.0]
        lines.append(
            f"| {name} | {min(each.stored_once, each.identical)} of {each.clips} | {each.clip_bytes / 1e6:.1f} | {each.seconds:.0f} | {each.resets} | {100 * each.resent_share:.2f} % "
            f"| {each.busiest_kbit_s:.0f}, {each.mean_kbit_s:.0f} | {statistics.median(events):.1f} ({max(events):.1f}) "
            f"| {max(each.alarm_told_s, default=0):.2f} | {statistics.median(each.alarm_clip_s or [0]):.1f} ({max(each.alarm_clip_s, default=0):.1f}) | {statistics.median(gaps):.1f} ({max(gaps):.1f}) |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--resets", type=int, default=40)
    parser.add_argument("--outage", type=float, default=60.0)
    parser.add_argument("--cap", type=float, help="kbit/s, on a link of four times as much")
    parser.add_argument("--rate", type=float, default=256.0)
    parser.add_argument("--loss", type=float, default=0.08)
    parser.add_argument("--alarms", type=int, default=6)
    parser.add_argument("--every", type=float, default=20.0, help="seconds between two resets")
    parser.add_argument("--longest", type=float, default=1500.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    shape = Shape(kbit_s=options.rate, loss=options.loss)
    plan = Plan(
        shape,
        options.clips,
        alarms=options.alarms,
        resets=options.resets,
        outage_s=options.outage,
        cap_kbit_s=options.cap,
        reset_every_s=options.every,
        longest_s=options.longest,
    )
    with tempfile.TemporaryDirectory(prefix="nvr-uplink-") as folder:
        figures = measure(Path(folder), plan, name=f"upl{os.getpid() % 1000}")
        name = f"{options.rate:g} kbit/s, {100 * options.loss:g} % lost" + (
            f", cap {options.cap:g}" if options.cap else ""
        )
        print(json.dumps(figures.__dict__) if options.json else table([(name, figures)]))
        for log in ("uplink.log", "hub/hub.log"):
            print("\n".join((Path(folder) / log).read_text().splitlines()[-15:]), file=sys.stderr)


if __name__ == "__main__":
    main()
