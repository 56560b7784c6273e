"""`python -m tools.soak`: a box records many cameras for hours; is it at the end what it was at the beginning?

Pretend cameras at real rate, the real `nvr run`, rings so small that they go round several times. Every half minute it notes memory,
descriptors, threads and CPU of each process. At the end: slopes over the time after the first laps, gaps and their causes from the
ledger, and what `nvr ring check` finds.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
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
from tools.bench import content

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
    def __init__(self, work: Path, cameras: int, port: int, ring_gb: float) -> None:
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
        self.site.write_text("\n".join(lines) + "\n")
        self.farm = [
            subprocess.Popen(
                [sys.executable, "-m", "tools.camera", f"cam={self.footage}", "--port", str(port + part), "--copies",
                 str(max(cameras // 2 + 1, 2)), "--pace-mbit", "100", "--stagger"], cwd=ROOT, stdout=subprocess.DEVNULL,
            ) for part in range(2)
        ]  # fmt: skip
        self.log = open(work / "box.log", "w")
        self.box = subprocess.Popen(
            [sys.executable, "-m", "nvr", "run", "--site", str(self.site), "--data", str(self.data)],
            cwd=ROOT, stdout=self.log, stderr=self.log,
        )  # fmt: skip

    def run(self, length_s: float) -> list[Sample]:
        began_s = time.monotonic()
        samples: list[Sample] = []
        with open(self.work / "samples.jsonl", "w") as file:
            while (at_s := time.monotonic() - began_s) < length_s:
                time.sleep(min(SAMPLE_S, length_s - at_s))
                if self.box.poll() is not None:
                    raise SystemExit(f"the box ended with {self.box.returncode}: see {self.work / 'box.log'}")
                at_s = time.monotonic() - began_s
                new = [each for pid, name in processes_of(self.box.pid).items() if (each := sample(pid, name, at_s))]
                samples += new
                for each in new:
                    file.write(json.dumps(asdict(each)) + "\n")
                file.flush()
        return samples

    def close(self) -> None:
        self.box.send_signal(signal.SIGTERM)
        self.box.wait(60)
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
    parser.add_argument("--port", type=int, default=18654)
    parser.add_argument("--work", type=Path, required=True, help="where everything lies; footage is kept there")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    soak = Soak(options.work, options.cameras, options.port, options.ring_gb)
    try:
        samples = soak.run(options.hours * 3600)
    finally:
        soak.close()
    result = report(samples, options.cameras, soak.data)
    (options.work / "report.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    return 1 if result["faults"] or result["gaps_without_a_cause"] else 0


if __name__ == "__main__":
    sys.exit(main())
