"""`python -m tools.soak`: a box records many cameras for hours; is it at the end what it was at the beginning?

Pretend cameras at real rate, the real `nvr run`, rings so small that they go round several times. Every half minute it notes memory,
descriptors, threads and CPU of each process. At the end: slopes over the time after the first laps, gaps and their causes from the
ledger, and what `nvr ring check` finds. `--seeing` adds the four cameras of the demo, which are looked at, and a real hub that gets what is seen.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from nvr.ring.layout import RING_MIN_BYTES
from tools import demo
from tools.bench import content
from tools.city import front

ROOT = Path(__file__).resolve().parent.parent
SAMPLE_S = 30.0
WARM_SHARE = 0.2  # of the time: what is still growing then is not what grows for ever


@dataclass(frozen=True)
class Sample:
    """One process at one moment."""

    at_s: float
    process: str
    pss_kib: int
    descriptors: int
    threads: int
    cpu_s: float


def sample(pid: int, name: str, at_s: float) -> Sample | None:
    """None when it has ended."""
    try:
        memory = Path(f"/proc/{pid}/smaps_rollup").read_text()
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    match = re.search(r"Pss:\s+(\d+)", memory)
    cpu_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return Sample(at_s, name, int(match[1]) if match else 0, descriptors, int(fields[17]), cpu_s)


def processes_of(pid: int) -> dict[int, str]:
    """The box and its children, by name."""
    found = {pid: "box"}
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        module = words[words.index(b"-m") + 1].decode() if b"-m" in words else "?"
        found[int(child)] = module.removeprefix("nvr.").partition(".")[0]
    return found


def slope(points: list[tuple[float, float]]) -> float:
    """Least squares, per hour; 0 for fewer than two moments."""
    if len({x for x, _ in points}) < 2:
        return 0.0
    line = statistics.linear_regression([x / 3600 for x, _ in points], [y for _, y in points])
    return line.slope


def cpu_by_part(samples: list[Sample], parts: int = 4) -> list[float]:
    """CPU seconds per minute in each part of the time."""
    first_s, last_s = samples[0].at_s, samples[-1].at_s
    borders = [first_s + (last_s - first_s) * number / parts for number in range(parts + 1)]
    at = [min(samples, key=lambda each, border=border: abs(each.at_s - border)) for border in borders]
    return [
        60 * (after.cpu_s - before.cpu_s) / (after.at_s - before.at_s)
        for before, after in pairwise(at)
        if after.at_s > before.at_s
    ]


def nvr(*arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "nvr", *arguments, "--json"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if not done.stdout:
        raise SystemExit(f"nvr {' '.join(arguments)}: {done.stderr}")
    return json.loads(done.stdout)


class Soak:
    def __init__(self, work: Path, cameras: int, port: int, ring_gb: float, *, is_seeing: bool = False) -> None:
        self.work, self.cameras = work, cameras
        self.footage = work / "camera-1080p25.mp4"
        content.make(self.footage)
        self.data = work / "data"
        shutil.rmtree(self.data, ignore_errors=True)
        self.site = work / "site.yaml"
        lines = ["site: soak", "box: soak-1", "time_zone: Asia/Jayapura", "storage: {reserve_gb: 0}",
                 f"web: {{listen: 127.0.0.1, port: {port + 10}}}", "cameras:"]  # fmt: skip
        lines += [
            f"  cam{number}: {{main: {{source: rtsp, url: 'rtsp://127.0.0.1:{port + number % 2}/cam{number // 2}'}}, ring_gb: {ring_gb}}}"
            for number in range(cameras)
        ]
        self.hub: demo.Part | None = None
        films: list[str] = []
        if is_seeing:
            lines.insert(-cameras - 1, self._start_hub(demo.free_port(port + 20)))
            found = demo.films(work / "films")
            films = [f"{name}={path}" for name, path in found.items()]
            lines += self._seeing(list(found), port, ring_gb)
        self.site.write_text("\n".join(lines) + "\n")
        self.site.chmod(0o600)
        self.farm = [
            subprocess.Popen(
                [sys.executable, "-m", "tools.camera", f"cam={self.footage}", *films, "--port", str(port + part), "--copies",
                 str(max(cameras // 2 + 1, 2)), "--pace-mbit", "100", "--stagger"], cwd=ROOT, stdout=subprocess.DEVNULL,
            ) for part in range(2)
        ]  # fmt: skip
        self.log = open(work / "box.log", "w")
        self.box = subprocess.Popen(
            [sys.executable, "-m", "nvr", "run", "--site", str(self.site), "--data", str(self.data)],
            cwd=ROOT, stdout=self.log, stderr=self.log,
        )  # fmt: skip

    def _start_hub(self, port: int) -> str:
        """The hub, over TLS; the line of the site file that names it."""
        folder = self.work / "hub"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        pem, fingerprint = front.certificate(folder)
        (folder / "hub.yaml").write_text(f"certificate: {pem}\nkey: {pem}\n")
        program = [sys.executable, "-m", "nvr", "hub"]
        code = subprocess.run(
            [*program, "code", "--data", folder], cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout.strip()
        run = [*program, "run", "--data", str(folder), "--listen", f"127.0.0.1:{port}"]
        self.hub = demo.Part("the hub", run, ready="hub at ")
        self.hub.start()
        return f"hub: {{url: 'https://127.0.0.1:{port}', fingerprint: {fingerprint}, code: {code}}}"

    def _seeing(self, films: list[str], port: int, ring_gb: float) -> list[str]:
        """The cameras of the demo's real boxes, as lines of the site file."""
        return [
            f"  {each.place}-{each.name}:\n    template: {each.template}\n    ring_gb: {ring_gb}\n    zones: {{{each.zone}: {demo.ZONE}}}\n"
            f"    main: {{source: rtsp, url: 'rtsp://127.0.0.1:{port}/{films[each.film]}0'}}\n{each.more}".rstrip()
            for cameras in demo.REAL_BOXES.values()
            for each in cameras
        ]

    def told(self) -> dict[str, int]:
        """What the hub has of the box, and what still waits for it."""
        if self.hub is None:
            return {}
        counts = {}
        with contextlib.closing(sqlite3.connect(f"file:{self.work / 'hub' / 'hub.db'}?mode=ro", uri=True)) as base:
            counts["events"] = base.execute("SELECT count(*) FROM event").fetchone()[0]
            for kind, count in base.execute("SELECT kind, count(*) FROM object GROUP BY kind"):
                counts[f"{kind}s"] = count
        outbox = self.data / "outbox" / "outbox.db"
        with contextlib.closing(sqlite3.connect(f"file:{outbox}?mode=ro", uri=True)) as base:
            for table in ("events", "clips"):
                counts[f"waiting {table}"] = base.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        return counts

    def run(self, length_s: float) -> list[Sample]:
        began_s = time.monotonic()
        samples: list[Sample] = []
        with open(self.work / "samples.jsonl", "w") as file:
            while (at_s := time.monotonic() - began_s) < length_s:
                time.sleep(min(SAMPLE_S, length_s - at_s))
                if self.box.poll() is not None:
                    raise SystemExit(f"the box ended with {self.box.returncode}: see {self.work / 'box.log'}")
                at_s = time.monotonic() - began_s
                running = processes_of(self.box.pid)
                if self.hub is not None and self.hub.process is not None:
                    running[self.hub.process.pid] = "hub"
                new = [each for pid, name in running.items() if (each := sample(pid, name, at_s))]
                samples += new
                for each in new:
                    file.write(json.dumps(asdict(each)) + "\n")
                file.flush()
        return samples

    def close(self) -> None:
        self.box.send_signal(signal.SIGTERM)
        self.box.wait(60)
        if self.hub is not None and self.hub.process is not None:
            self.hub.process.terminate()
            self.hub.process.wait()
        for process in self.farm:
            process.terminate()
            process.wait()
        self.log.close()


def report(samples: list[Sample], cameras: int, data: Path) -> dict[str, Any]:
    """What is to be flat, and what is to be accounted for."""
    length_s = max(each.at_s for each in samples)
    rows = {}
    for name in sorted({each.process for each in samples}):
        mine = [each for each in samples if each.process == name and each.at_s >= length_s * WARM_SHARE]
        if len(mine) < 2:
            continue
        rows[name] = {
            "pss_mb_first": round(mine[0].pss_kib / 1000, 2),
            "pss_mb_last": round(mine[-1].pss_kib / 1000, 2),
            "pss_kb_per_hour": round(slope([(each.at_s, each.pss_kib) for each in mine]), 1),
            "descriptors": [min(each.descriptors for each in mine), max(each.descriptors for each in mine)],
            "descriptors_per_hour": round(slope([(each.at_s, each.descriptors) for each in mine]), 2),
            "threads": [min(each.threads for each in mine), max(each.threads for each in mine)],
            "cpu_s_per_camera_minute": [round(each / cameras, 4) for each in cpu_by_part(mine)],
        }
    streams = nvr("ledger", "--data", str(data), "--gaps")["streams"]
    causes: Counter[str] = Counter()
    for stream in streams:
        causes.update(stream["by_cause"])
    return {
        "length_s": round(length_s),
        "cameras": cameras,
        "processes": rows,
        "recorded_s": round(sum(stream["recorded_s"] for stream in streams)),
        "missing_s_by_cause": {cause: round(seconds, 1) for cause, seconds in causes.items()},
        "gaps_without_a_cause": sum(1 for stream in streams for gap in stream["gaps"] if not gap["cause"]),
        "faults": len(nvr("ring", "check", "--data", str(data))["faults"]),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.soak", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cameras", type=int, default=37)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument(
        "--ring-gb", type=float, default=RING_MIN_BYTES * 4 / 1e9, help="each camera's ring (default: %(default).2f)"
    )
    parser.add_argument("--seeing", action="store_true", help="four more cameras that are looked at, and a hub")
    parser.add_argument("--port", type=int, default=18654)
    parser.add_argument("--work", type=Path, required=True, help="where everything lies; footage is kept there")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    soak = Soak(options.work, options.cameras, options.port, options.ring_gb, is_seeing=options.seeing)
    try:
        samples = soak.run(options.hours * 3600)
        told = soak.told()
    finally:
        soak.close()
    result = {**report(samples, options.cameras, soak.data), "told": told}
    (options.work / "report.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    return 1 if result["faults"] or result["gaps_without_a_cause"] else 0


if __name__ == "__main__":
    sys.exit(main())
