"""`python -m tools.scenes`: play simulated scenes to the product's rules, and keep the figures in docs/detection.md.

python -m tools.scenes eval                 everything, a few minutes; writes the table between its markers
python -m tools.scenes eval queue tamper    some of it, printed only
python -m tools.scenes film street-jam OUT  one scene as an H.264 file with its truth beside it
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
from collections.abc import Sequence
from pathlib import Path

from tools.scenes import film, rows
from tools.scenes.row import Row

PAGE = Path(__file__).parents[2] / "docs" / "detection.md"
START, END = "<!-- scenes -->", "<!-- end of scenes -->"
COMMAND = "python -m tools.scenes eval"


def table(found: Sequence[Row]) -> str:
    lines = ["| rule | scene | through | found | promised | kept |", "| --- | --- | --- | --- | --- | --- |"]
    return "\n".join([*lines, *("| " + " | ".join(row.cells()) + " |" for row in found)])


def with_section(page: str, text: str) -> str:
    """The page with `text` between the markers; at its end where it has none."""
    if START not in page or END not in page:
        return f"{page.rstrip()}\n\n## Rendered scenes\n\n{START}\n{text}\n{END}\n"
    before, _, rest = page.partition(START)
    return f"{before}{START}\n{text}\n{END}{rest.partition(END)[2]}"


def evaluate(names: Sequence[str]) -> list[Row]:
    """Parts run beside each other, one for each processor; what comes out does not depend on that."""
    with concurrent.futures.ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        running = {name: pool.submit(rows.ROWS[name]) for name in names}
        return [row for name in names for row in running[name].result()]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.scenes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    evaluation = commands.add_parser("eval", help="measure the rules on simulated scenes")
    evaluation.add_argument(
        "parts", nargs="*", help=f"of {', '.join(rows.ROWS)}; without any: all, and the table is kept"
    )
    filming = commands.add_parser("film", help="write one scene as a film with its truth")
    filming.add_argument("scene", choices=sorted(film.FILMS))
    filming.add_argument("folder", type=Path)
    filming.add_argument("--length-s", type=int, default=60, help="default %(default)s")
    options = parser.parse_args()
    if options.command == "film":
        for path in film.write(options.scene, options.folder, length_s=options.length_s):
            print(path)
        return
    for part in options.parts:
        if part not in rows.ROWS:
            parser.error(f"there is no part {part}: {', '.join(rows.ROWS)}")
    text = table(evaluate(options.parts or list(rows.ROWS)))
    print(text)
    if not options.parts and PAGE.exists():
        said = f"`{COMMAND}`: simulated and drawn scenes with known truth (`tools/scenes/`), the same on every machine."
        PAGE.write_text(with_section(PAGE.read_text("utf-8"), f"{said}\n\n{text}"), "utf-8")


if __name__ == "__main__":
    main()
