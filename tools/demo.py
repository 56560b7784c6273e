"""A box with four cameras on this machine: `make demo`, or `make demo CAMERAS="rtsp://... rtsp://..."`.

Nothing of it is a mock: `tools.camera` serves films over RTSP on loopback, and `nvr run` records them like any
camera into demo-data/ and serves its page. Ctrl-C stops everything; the next start goes on where this one ended.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from nvr.box import how_it_ended

ROOT = Path(__file__).resolve().parent.parent
REAL_FILMS = ROOT.parent / "shared" / "data" / "video"
# Real films where they are at hand: street traffic, people, a car park, a road.
REAL = {
    "street": "vehicle_street.mp4",
    "entrance": "one-by-one-person-detection.mp4",
    "parking": "car-detection.mp4",
    "road": "otvision_cars-truck_fr20.mp4",
}
READY_S = 60.0
STOP_S = 30.0  # `nvr run` makes everything durable first


class DemoFailed(Exception):
    """What happened, and behind a newline what to do."""


def films(folder: Path) -> dict[str, Path]:
    """Four films by camera name: real ones, or drawn ones, made once. Raises DemoFailed."""
    real = {name: REAL_FILMS / file for name, file in REAL.items()}
    if all(path.is_file() for path in real.values()):
        return real
    drawn = sorted(folder.glob("*.mp4"))
    if len(drawn) < 4:
        print("drawing four films for the demo (once, half a minute) ...", flush=True)
        draft = folder.with_name("films.new")
        made = subprocess.run([sys.executable, "-m", "tools.scenes.demo_footage", str(draft)], cwd=ROOT, check=False)
        if made.returncode != 0:
            raise DemoFailed(
                "the films could not be drawn.\nRun `make setup` again; PyAV and numpy are needed for this."
            )
        draft.rename(folder)
        drawn = sorted(folder.glob("*.mp4"))
    return {path.stem: path for path in drawn}


@contextlib.contextmanager
def pretend_cameras(found: dict[str, Path]) -> Iterator[dict[str, str]]:
    """Serve films as cameras; addresses by name. Raises DemoFailed."""
    arguments = [
        sys.executable,
        "-m",
        "tools.camera",
        "--port",
        "0",
        *(f"{name}={path}" for name, path in found.items()),
    ]
    # A session of its own: Ctrl-C first reaches the recorder, and the cameras go on until it has finished.
    process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        yield _addresses(process, list(found))
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()


def _addresses(process: subprocess.Popen[str], names: list[str]) -> dict[str, str]:
    assert process.stdout is not None
    found: list[str] = []
    too_late = threading.Timer(READY_S, process.kill)  # its output then ends, and with it the loop
    too_late.start()
    try:
        for line in process.stdout:
            if line.strip() == "ready":
                return dict(zip(names, found, strict=True))
            found.append(line.strip())
    finally:
        too_late.cancel()
    raise DemoFailed("the pretend cameras did not start.\nWhat they said stands above.")


def free_port(wanted: int) -> int:
    """`wanted`, or the next port that nobody uses. Raises DemoFailed."""
    for port in range(wanted, wanted + 50):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("0.0.0.0", port))
                return port
    raise DemoFailed(f"the ports from {wanted} to {wanted + 49} are all in use.\nStop something, or use PORT.")


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def site_file(addresses: dict[str, str], port: int, ring_gb: float) -> str:
    cameras = "".join(
        f"  {name}:\n    main: {{source: rtsp, url: {quoted(address)}}}\n    ring_gb: {ring_gb:g}\n"
        for name, address in addresses.items()
    )
    return (
        "# Written by `make demo` at every start. docs/settings.md says what else can stand here.\n"
        f"site: demo\nbox: demo-1\ntime_zone: {time_zone()}\nstorage: {{path: .}}\nweb: {{port: {port}}}\ncameras:\n{cameras}"
    )


def time_zone() -> str:
    """This machine's, by name."""
    return str(Path("/etc/localtime").resolve()).partition("zoneinfo/")[2] or "UTC"


def ring_gb(folder: Path, cameras: int) -> float:
    """One GB for each camera, less where the disk has little: the demo takes a third of what is free or taken by it."""
    disk = os.statvfs(folder)
    taken_bytes = sum(path.stat().st_blocks * 512 for path in folder.glob("rings/*/*/*") if path.is_file())
    share_gb = (disk.f_bavail * disk.f_frsize + taken_bytes) / 1e9 / 3 / cameras
    if share_gb < 0.05:
        raise DemoFailed(f"the disk of {folder} has too little room: {share_gb * 3 * cameras:.2f} GB.\nFree some.")
    return min(1.0, round(share_gb, 2))


def run(options: argparse.Namespace) -> int:
    folder: Path = options.data
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        if options.cameras:
            addresses = {f"camera-{number}": url for number, url in enumerate(options.cameras, 1)}
        else:
            found = films(folder / "films")
            print("starting four pretend cameras ...", flush=True)
            addresses = stack.enter_context(pretend_cameras(found))
        site_path = folder / "site.yaml"
        draft = folder / "site.yaml.new"
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(site_file(addresses, free_port(options.port), ring_gb(folder, len(addresses))))
        draft.rename(site_path)
        for name, address in addresses.items():
            # What stands before the last @ of the host is a user and a password.
            print(
                f"camera {name}: {address.split('://')[0]}://{address.split('://')[-1].rpartition('@')[2]}", flush=True
            )
        print(f"recording into {folder}; Ctrl-C stops\n", flush=True)
        return supervise([sys.executable, "-m", "nvr", "run", "--site", str(site_path)])


def supervise(arguments: list[str]) -> int:
    """Run the box; hand signals on, wait until it has finished, and say so."""
    process = subprocess.Popen(arguments, cwd=ROOT, start_new_session=True)
    asked = False

    def ask(number: int, frame: object) -> None:
        nonlocal asked
        if not asked:
            print("\nstopping: making everything durable ...", flush=True)
            process.terminate()
        asked = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask)
    while process.poll() is None:
        try:
            process.wait(0.5)
        except subprocess.TimeoutExpired:
            continue
    if asked:
        print("stopped. `make demo` goes on where this ended.", flush=True)
        return 0 if process.returncode in (0, -signal.SIGTERM) else 1
    if process.returncode != 0:
        # What `nvr run` has to say it has said; a signal lets it say nothing.
        raise DemoFailed(
            f"`nvr run` {how_it_ended(process.returncode)}.\n"
            "Its last words stand above. `make demo` starts it again and goes on where this ended."
        )
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.demo", description=__doc__.splitlines()[0])
    parser.add_argument("cameras", nargs="*", metavar="rtsp://...", help="real cameras; without them four pretend ones")
    parser.add_argument("--data", type=Path, default=ROOT / "demo-data", help="where to record (default demo-data)")
    parser.add_argument(
        "--port",
        type=int,
        default=int(os.environ.get("PORT") or 8080),
        help="of the page, or the next free one (default 8080)",
    )
    try:
        return run(parser.parse_args())
    except DemoFailed as failure:
        print(f"\nmake demo: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
