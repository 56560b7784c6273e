"""`make bench`: measure, print, and keep the tables in docs/bench.md with machine and date.

python -m tools.bench                 everything, N = 1 4 16 37 64, three rounds: about two hours
python -m tools.bench record -n 16    one part; each replaces its own section of docs/bench.md
python -m tools.bench record --add    the same in pieces: with the runs that were kept in the scratch directory before
python -m tools.bench table FILE      the section again from runs that were kept as JSON lines
"""

from __future__ import annotations

import argparse
import json
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
    parser.add_argument("--add", action="store_true", help="`record`: to the runs that are kept in --work")
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
        if not options.add:
            results.unlink(missing_ok=True)
        counts = [int(number) for number in options.cameras.split(",")]
        record.run(counts, options.rounds, options.window, options.peers.split(","), options.work, results)
        keep_record([results])
    if options.part == "table":
        keep_record(options.files)


def keep_record(paths: list[Path]) -> None:
    """The section `record` from all runs that `paths` hold."""
    runs = [record.Run(**json.loads(line)) for path in paths for line in path.read_text().splitlines()]
    text = record.table(runs)
    print(text)
    keep("record", f"`python -m tools.bench record`. {record.circumstances(runs)}\n{text}")


if __name__ == "__main__":
    main()
