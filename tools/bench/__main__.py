"""`make bench`: measure, print, and keep the tables in docs/bench.md with machine and date.

python -m tools.bench                 everything, N = 1 4 16 37 64, three rounds: about two hours
python -m tools.bench record -n 16    one part; each replaces its own section of docs/bench.md
python -m tools.bench table FILE      the table of runs that were kept as JSON lines
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tools.bench import record
from tools.bench.measure import machine
from tools.bench.peers import PEERS

PAGE = Path(__file__).parents[2] / "docs" / "bench.md"


def keep(name: str, text: str) -> None:
    """Replace the section between the markers of `name` in docs/bench.md."""
    page = PAGE.read_text()
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    if start not in page or end not in page:
        raise SystemExit(f"{PAGE} has no section {name}")
    before, _, rest = page.partition(start)
    after = rest.partition(end)[2]
    PAGE.write_text(f"{before}{start}\n{text}\n{end}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "part", nargs="?", default="all", choices=["all", "record", "hash", "clip", "card", "device", "table"]
    )
    parser.add_argument("files", nargs="*", type=Path, help="for `table`: JSON lines of earlier runs")
    parser.add_argument("-n", "--cameras", default="1,4,16,37,64", help="numbers of cameras, with commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--window", type=float, default=20.0, help="seconds that are measured of each run")
    parser.add_argument("--seconds", type=float, default=120.0, help="how long `device` looks")
    parser.add_argument("--peers", default=",".join(peer.key for peer in PEERS), help="default: %(default)s")
    parser.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir()) / "nvr-bench", help="scratch directory on a real disk"
    )
    options = parser.parse_args()
    said = f"Measured on {machine()}.\n"
    if options.part in ("all", "card"):
        from tools.bench import card

        keep("card", f"`python -m tools.bench card`. {said}\n{card.measure(options.rounds, options.work)}")
    if options.part in ("all", "hash"):
        from tools.bench import hashes

        text = hashes.run()
        print(text)
        keep("hash", f"`python -m tools.bench hash`. {said}\n{text}")
    if options.part in ("all", "clip"):
        from tools.bench import clip

        text = clip.run(options.work)
        print(text)
        keep("clip", f"`python -m tools.bench clip`. {said}\n{text}")
    if options.part in ("all", "device"):
        from tools.bench import device

        text = device.run(options.work, 16, options.seconds)
        print(text)
        keep("device", f"`python -m tools.bench device`. {said}\n{text}")
    if options.part in ("all", "record"):
        results = options.work / "results.jsonl"
        counts = [int(number) for number in options.cameras.split(",")]
        runs = record.run(counts, options.rounds, options.window, options.peers.split(","), options.work, results)
        text = record.table(runs)
        print(text)
        command = " ".join(["python -m tools.bench", *sys.argv[1:]])
        keep("record", f"`{command}`. {said}\n{text}")
    if options.part == "table":
        lines = [line for path in options.files for line in path.read_text().splitlines()]
        print(record.table([record.Run(**json.loads(line)) for line in lines]))


if __name__ == "__main__":
    main()
