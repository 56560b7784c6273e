"""What others on the same link notice of the box: `python -m tools.bench.shared_uplink`, as root; `--keep` puts the table into docs/bench.md.

A link of 1 Mbit/s up and down, 80 ms there and back, with a queue of a quarter of a second, as cheap modems have. The box has more clips than
it can send. Beside it somebody sends photographs (one greedy TCP of the kernel's default kind) and somebody reads pages (a small question
every quarter of a second). Both with and without `hub.yields`, and each alone.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from tests.uplink.boxes import EventfulBox  # noqa: E402
from tests.uplink.real_hub import RealHub  # noqa: E402
from tools.bench.shaped_link import HUB, Shape, ShapedLink  # noqa: E402
from tools.bench.uplink import PORT, process_of  # noqa: E402

SINK_PORT, ECHO_PORT = 9001, 9002
CLIPS = 40
SETTLE_S = 25.0  # enrolment, and the controller has found its rate


@dataclass
class Figures:
    """Of one way to share the link."""

    title: str
    public_kbit_s: float | None = None
    answers_ms: list[float] = field(default_factory=list)
    box_kbit_s: float | None = None


def sink() -> None:
    """In the hub's namespace: takes everything, and answers questions."""
    import selectors

    chosen = selectors.DefaultSelector()
    for port in (SINK_PORT, ECHO_PORT):
        chosen.register(socket.create_server((HUB, port)), selectors.EVENT_READ, "new")
    print("ready", flush=True)
    while True:
        for key, _ in chosen.select():
            ours = key.fileobj
            assert isinstance(ours, socket.socket)
            if key.data == "new":
                chosen.register(ours.accept()[0], selectors.EVENT_READ, "")
            elif not (data := ours.recv(65536)):
                chosen.unregister(ours)
                ours.close()
            elif ours.getsockname()[1] == ECHO_PORT:
                ours.sendall(data)


def photographs(seconds: float) -> None:
    """In the box's namespace: bytes that were acknowledged after the first seconds, as kbit/s."""
    out = socket.create_connection((HUB, SINK_PORT))
    out.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
    out.setblocking(False)
    piece, begin_s, sent = bytes(16384), time.monotonic(), 0
    while time.monotonic() - begin_s < seconds:
        try:
            sent += out.send(piece)
        except BlockingIOError:
            time.sleep(0.02)
    unsent = int.from_bytes(fcntl.ioctl(out, 0x5411, bytes(4)), sys.byteorder)  # SIOCOUTQ
    print((sent - unsent) * 8 / 1000 / seconds, flush=True)


def questions(seconds: float) -> None:
    """In the box's namespace: how long each answer takes, in milliseconds."""
    out = socket.create_connection((HUB, ECHO_PORT))
    out.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    begin_s = time.monotonic()
    while time.monotonic() - begin_s < seconds:
        asked_s, left = time.monotonic(), 200
        out.sendall(bytes(left))
        while left:
            left -= len(out.recv(left))
        print((time.monotonic() - asked_s) * 1000, flush=True)
        time.sleep(0.25)


def box_bytes(data_dir: Path) -> int:
    """All that the box has sent, headers and repetitions too; as of the last seconds."""
    return int(json.loads((data_dir / "run" / "uplink.json").read_text())["uplink"]["sent_bytes"])


def one(folder: Path, title: str, seconds: float, *, box: str, is_greedy: bool) -> Figures:
    """`box`: "" for none, or what its site file says besides."""
    found = Figures(title)
    with ShapedLink(f"sha{os.getpid() % 1000}", Shape(1000, 0.04, 0.0)) as link, contextlib.ExitStack() as stack:
        us = [sys.executable, "-m", "tools.bench.shared_uplink"]
        taker = subprocess.Popen(link.command("hub", *us, "--part", "sink"), stdout=subprocess.PIPE, cwd=ROOT)
        stack.callback(taker.kill)
        assert taker.stdout is not None
        taker.stdout.readline()
        if box:
            recorded = EventfulBox(folder, seconds=90, picture_bytes=8000)
            for number in range(CLIPS):
                recorded.event("service_open", "open", 10 + number % 60)
            hub = stack.enter_context(RealHub(folder / "hub", f"{HUB}:{PORT}", tuple(link.command("hub"))))
            site_path = recorded.site_file(f"https://{HUB}:{PORT}", hub.fingerprint, box, code=hub.code)
            command = link.command(
                "box", sys.executable, "-m", "nvr.uplink", "--data", str(recorded.data_dir), "--site", str(site_path)
            )
            stack.enter_context(process_of(folder / "uplink.log", *command))
            time.sleep(SETTLE_S)
        people = [
            subprocess.Popen(
                link.command("box", *us, "--part", "questions", "--seconds", str(seconds)),
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
            )
        ]
        if is_greedy:
            people.append(
                subprocess.Popen(
                    link.command("box", *us, "--part", "photographs", "--seconds", str(seconds)),
                    stdout=subprocess.PIPE,
                    text=True,
                    cwd=ROOT,
                )
            )
        before_bytes, begin_s = box_bytes(recorded.data_dir) if box else 0, time.monotonic()
        said = [each.communicate()[0] for each in people]
        found.answers_ms = [float(line) for line in said[0].split()]
        if is_greedy:
            found.public_kbit_s = float(said[1])
        if box:
            passed_s = time.monotonic() - begin_s
            found.box_kbit_s = (box_bytes(recorded.data_dir) - before_bytes) * 8 / 1000 / passed_s
    return found


def table(rows: list[Figures]) -> str:
    lines = [
        "| on the link | photographs kbit/s | an answer ms, median (19 of 20) | the box kbit/s |",
        "| --- | --- | --- | --- |",
    ]
    for each in rows:
        ordered = sorted(each.answers_ms)
        late = ordered[int(len(ordered) * 0.95)]
        public = "-" if each.public_kbit_s is None else f"{each.public_kbit_s:.0f}"
        box = "-" if each.box_kbit_s is None else f"{each.box_kbit_s:.0f}"
        lines.append(f"| {each.title} | {public} | {statistics.median(ordered):.0f} ({late:.0f}) | {box} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--part", choices=("sink", "photographs", "questions"), help=argparse.SUPPRESS)
    parser.add_argument("--keep", action="store_true", help="put the table into docs/bench.md")
    options = parser.parse_args()
    if options.part:
        {
            "sink": sink,
            "photographs": lambda: photographs(options.seconds),
            "questions": lambda: questions(options.seconds),
        }[options.part]()
        return
    ways = (
        ("people reading", "", False), ("and the box", ", yields: false", False), ("and the box that yields", ", yields: true", False),
        ("people reading, photographs", "", True), ("and the box", ", yields: false", True), ("and the box that yields", ", yields: true", True),
    )  # fmt: skip
    rows = []
    for title, box, is_greedy in ways:
        with tempfile.TemporaryDirectory(prefix="nvr-shared-") as folder:
            rows.append(one(Path(folder), title, options.seconds, box=box, is_greedy=is_greedy))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    text = table(rows)
    if options.keep:
        from tools.bench.__main__ import keep
        from tools.bench.measure import machine

        keep(
            "shared",
            f"`python -m tools.bench.shared_uplink --seconds {options.seconds:g}`. Measured on {machine()}.\n\n{text}",
        )


if __name__ == "__main__":
    main()
