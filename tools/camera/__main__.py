"""`python -m tools.camera FILE.mp4 ...`: serve each file as rtsp://127.0.0.1:8554/FILE, in real time."""

from __future__ import annotations

import argparse
import asyncio
import gc
import pathlib
import signal
import ssl
import sys
import time

from nvr.errors import NvrError
from tools.camera.access import Access
from tools.camera.footage import read
from tools.camera.server import Manners, PretendServer
from tools.camera.stream import PretendCamera


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.camera",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="A pretend camera for the demo and for tests: serves H.264 MP4 files over RTSP.\n\n"
        "Faults are switched on while it runs, for instance:\n"
        "    curl -X POST 'http://127.0.0.1:8554/street?silent=1'\n"
        "    curl -X POST 'http://127.0.0.1:8554/street?drop=3'\n"
        "    curl -X POST 'http://127.0.0.1:8554/street?cut=1'\n"
        "    curl http://127.0.0.1:8554/            what was sent, and to whom\n"
        "tools/camera/stream.py lists all of them.",
    )
    parser.add_argument(
        "files", nargs="+", metavar="[NAME=]FILE[+FILE]", help="one camera each; after + what `footage=1` changes to"
    )
    parser.add_argument("--bind", default="127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add_argument("--port", type=int, default=8554, help="default %(default)s; 0 takes a free one")
    parser.add_argument("--user", default="")
    parser.add_argument("--password", default="")
    parser.add_argument("--scheme", choices=("basic", "digest", "both"), default="digest")
    parser.add_argument(
        "--loop", action=argparse.BooleanOptionalAction, default=True, help="begin again at the end (default)"
    )
    parser.add_argument("--speed", type=float, default=1.0, help="times real time (default %(default)s)")
    parser.add_argument(
        "--rewind", action="store_true", help="who comes first sees the first picture, not the present one"
    )
    parser.add_argument("--copies", type=int, default=1, help="serve each file as NAME0, NAME1 ... (for load)")
    parser.add_argument("--stagger", action="store_true", help="copies do not show the same picture at the same time")
    parser.add_argument(
        "--pace-mbit", type=float, default=0, help="send no faster than this on a connection (for load)"
    )
    parser.add_argument(
        "--session-s", type=int, default=60, help="drop a client that is silent for so long (default %(default)s)"
    )
    parser.add_argument("--keep-alive", choices=("GET_PARAMETER", "OPTIONS"), default="GET_PARAMETER")
    parser.add_argument(
        "--sent", metavar="FILE", help="note every picture: wall time in ns, camera, to how many it was sent"
    )
    parser.add_argument("--tls", metavar="PEM", help="certificate and key: serve rtsps")
    return parser.parse_args()


def _cameras(options: argparse.Namespace) -> list[PretendCamera]:
    cameras = []
    for each in options.files:
        name, _, files = each.rpartition("=")
        footage = [read(path) for path in files.split("+")]
        name = name or pathlib.Path(files.split("+")[0]).stem
        names = [name] if options.copies == 1 else [f"{name}{number}" for number in range(options.copies)]
        cameras += [
            PretendCamera(
                each, footage, speed=options.speed, loops=options.loop, rewinds=options.rewind,
                starts_at=number / len(names) if options.stagger else 0.0,
            )
            for number, each in enumerate(names)
        ]  # fmt: skip
    return cameras


def _note_pictures(cameras: list[PretendCamera], path: str) -> None:
    notes = open(path, "a", buffering=1)  # line by line: whoever reads it may come at any moment

    def note(name: str, watchers: int) -> None:
        notes.write(f"{time.time_ns()} {name} {watchers}\n")

    for camera in cameras:
        camera.on_picture = note


def _manners(options: argparse.Namespace) -> Manners:
    return Manners(options.session_s, keep_alive=options.keep_alive, pace_bytes_per_s=int(options.pace_mbit * 1e6 / 8))


async def _serve(options: argparse.Namespace, cameras: list[PretendCamera]) -> None:
    tls = None
    if options.tls:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(options.tls)
    access = Access(options.user, options.password, options.scheme)
    if options.sent:
        _note_pictures(cameras, options.sent)
    server = PretendServer(cameras, access=access, manners=_manners(options))
    await server.start(options.bind, options.port, tls)
    host = f"[{options.bind}]" if ":" in options.bind else options.bind
    for camera in cameras:
        print(f"{'rtsps' if tls else 'rtsp'}://{host}:{server.port}/{camera.name}", flush=True)
    print("ready", flush=True)
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await server.run()


def main() -> int:
    options = _options()
    try:
        cameras = _cameras(options)
    except (NvrError, OSError) as error:
        print(f"{error}\n{getattr(error, 'hint', '')}".strip(), file=sys.stderr)
        return 2
    gc.freeze()  # footage stays for ever: nothing for the collector to walk
    try:
        asyncio.run(_serve(options, cameras))
    except asyncio.CancelledError:
        pass
    except OSError as error:
        print(f"{error}\nIs another camera running on port {options.port}? Use --port.", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
