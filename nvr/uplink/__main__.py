"""`python -m nvr.uplink --data DIR --site FILE`: reports one box to its hub, as a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
from pathlib import Path

from nvr import priority, site_kept, systemd
from nvr.errors import NvrError
from nvr.uplink.process import Uplink


async def run(uplink: Uplink) -> None:
    working = asyncio.create_task(uplink.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, working.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await working


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m nvr.uplink", description="Report one box to its hub.")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the box's data directory")
    parser.add_argument("--site", type=Path, required=True, metavar="FILE", help="the box's site file")
    parser.add_argument("--kept", action="store_true", help="the site is the one that `nvr run` kept")
    options = parser.parse_args()
    systemd.set_up_logging("uplink")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for each piece of a clip helps nobody
    systemd.end_with_parent()
    priority.step_back(nice=5, io=priority.IO_LAST, is_idle=False, out_of_memory=500)
    priority.keep_memory_small()
    try:
        settings = site_kept.in_force(options.site, options.data, is_kept=options.kept)
        if settings.hub is None:
            print("the site file names no hub", file=sys.stderr)
            return 2
        uplink = Uplink(settings, options.data)
    except NvrError as error:
        print(f"{error}\n{error.hint}".rstrip(), file=sys.stderr)
        return 2
    asyncio.run(run(uplink))
    return 0


if __name__ == "__main__":
    sys.exit(main())
