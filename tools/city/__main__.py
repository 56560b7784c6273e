"""The city: `python -m tools.city simulate` hurts it by a script and keeps the score (simulator/); `light` runs its light boxes alone."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

from tools.city import city as city_room
from tools.city.light_box import LightBox, identity_of, run_all
from tools.city.story import Story


async def run(options: argparse.Namespace, told: dict[str, Any]) -> None:
    """`told`: one-time codes by box, and addresses of the hub for boxes that have a way of their own to it."""
    city = city_room.load()
    if options.without:
        city = city.without(set(options.without.split(",")))
    only = set(options.only.split(",")) if options.only else {box.name for box in city.boxes}
    story = Story(
        options.story_start or time.time(),
        city.time_zone,
        is_always_open=not options.real_hours,
        is_night_shown=options.real_hours,
    )
    if options.no_outages:
        story.outages = lambda box, story_s: False
    boxes = []
    for box in city.boxes:
        if box.name not in only:
            continue
        hub = told.get("hubs", {}).get(box.name, options.hub)
        light = LightBox(box, story, identity_of(options.keys, box.name), hub, city.time_zone)
        if code := told.get("codes", {}).get(box.name):
            await light.enrol(code)
        boxes.append(light)
    print(f"ready: {len(boxes)} light boxes, {sum(len(box.cameras) for box in boxes)} cameras", flush=True)
    await run_all(boxes)


def light(options: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    told = {} if sys.stdin.isatty() else json.loads(sys.stdin.read() or "{}")
    options.keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run(options, told))
    return 0


def simulate(options: argparse.Namespace) -> int:
    from tools.city.simulator import run as simulation

    return simulation.main(options)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.city", description=__doc__)
    commands = parser.add_subparsers(required=True)
    lights = commands.add_parser("light", help="run the light boxes; JSON on stdin has their one-time codes")
    lights.add_argument("--hub", required=True, help="address of the hub")
    lights.add_argument("--keys", type=Path, required=True, help="where the keys of the light boxes are kept")
    lights.add_argument("--without", default="", help="places that somebody else looks at, with commas")
    lights.add_argument("--only", default="", help="boxes, with commas; the others are somebody else's")
    lights.add_argument("--real-hours", action="store_true", help="offices keep their hours, and nights are dark")
    lights.add_argument("--story-start", type=float, default=0.0, help="when the story began, in seconds since 1970")
    lights.add_argument("--no-outages", action="store_true", help="no box of the story loses its link by itself")
    lights.set_defaults(do=light)
    hurt = commands.add_parser("simulate", help="hurt the city by a script drawn from a seed, and keep the score")
    hurt.add_argument("--seed", type=int, default=1, help="default %(default)s")
    hurt.add_argument(
        "--minutes", type=float, default=10.0, help="of real time in which faults happen (default %(default)g)"
    )
    hurt.add_argument(
        "--real-boxes", type=int, default=4, help="how many are `nvr run`, the others are light (default %(default)s)"
    )
    hurt.add_argument(
        "--boxes", type=int, default=0, help="so many in all, the first of the city (default: all of them)"
    )
    hurt.add_argument(
        "--data", type=Path, default=None, help="where everything lies, emptied first (default: taken away at the end)"
    )
    hurt.add_argument("--json", type=Path, metavar="FILE", help="write the score there, too")
    hurt.add_argument("--script-only", action="store_true", help="print what would be done, and end")
    hurt.set_defaults(do=simulate)
    options = parser.parse_args()
    return int(options.do(options))


if __name__ == "__main__":
    sys.exit(main())
