"""Runs the light boxes of the city: `python -m tools.city --hub URL --keys FOLDER` with one-time codes as JSON on stdin."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import sys
import time
from pathlib import Path

from tools.city import city as city_room
from tools.city.light_box import LightBox, identity_of, run_all
from tools.city.story import Story


async def run(options: argparse.Namespace, codes: dict[str, str]) -> None:
    city = city_room.load()
    if options.without:
        city = city.without(set(options.without.split(",")))
    story = Story(time.time(), city.time_zone, is_always_open=not options.real_hours, is_night_shown=options.real_hours)
    boxes = []
    for box in city.boxes:
        light = LightBox(box, story, identity_of(options.keys, box.name), options.hub, city.time_zone)
        if code := codes.get(box.name):
            await light.enrol(code)
        boxes.append(light)
    print(f"ready: {len(boxes)} light boxes, {sum(len(box.cameras) for box in boxes)} cameras", flush=True)
    await run_all(boxes)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.city", description=__doc__)
    parser.add_argument("--hub", required=True, help="address of the hub")
    parser.add_argument("--keys", type=Path, required=True, help="where the keys of the light boxes are kept")
    parser.add_argument("--without", default="", help="places that somebody else looks at, with commas")
    parser.add_argument("--real-hours", action="store_true", help="offices keep their hours, and nights are dark")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    codes = {} if sys.stdin.isatty() else json.loads(sys.stdin.read() or "{}")
    options.keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run(options, codes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
