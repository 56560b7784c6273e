"""A whole city on this machine: `make demo`, or one box with cameras of your own: `make demo CAMERAS="rtsp://... rtsp://..."`.

Nothing of it is a mock. Two real boxes (`nvr run`: recording, detection, uplink) record films that `tools.camera` serves over RTSP on loopback;
the other boxes of the city are light ones (tools/city/light_box.py) that say over the real wire what a box says, of drawn cameras. All of them report to
a real hub, whose address is printed. Everything lies in demo-data/. Ctrl-C stops everything; the next start goes on where this one ended.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nvr.child import how_it_ended
from tools.city import city as city_room

ROOT = Path(__file__).resolve().parent.parent
READY_S = 60.0
STOP_S = 30.0  # `nvr run` makes everything durable first


class DemoFailed(Exception):
    """What happened, and behind a newline what to do."""


def films(folder: Path) -> dict[str, Path]:
    """Four films by camera name, drawn once. Raises DemoFailed."""
    if len(list(folder.glob("*.mp4"))) < 4:
        print("drawing four films for the demo (once, half a minute) ...", flush=True)
        made = subprocess.run(
            [sys.executable, "-m", "tools.city.films", str(folder)], cwd=ROOT, check=False, stdout=subprocess.DEVNULL
        )
        if made.returncode != 0:
            raise DemoFailed(
                "the films could not be drawn.\nRun `make setup` again; PyAV and numpy are needed for this."
            )
    return {path.stem: path for path in sorted(folder.glob("*.mp4"))}


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
    """A box alone, with cameras that somebody named."""
    cameras = "".join(
        f"  {name}:\n    main: {{source: rtsp, url: {quoted(address)}}}\n    ring_gb: {ring_gb:g}\n"
        for name, address in addresses.items()
    )
    return (
        "# Written by `make demo` at every start. docs/settings.md says what else can stand here.\n"
        f"site: demo\nbox: demo-1\ntime_zone: {time_zone()}\nstorage: {{path: .}}\nweb: {{port: {port}}}\ncameras:\n{cameras}"
    )


@dataclass(frozen=True, slots=True)
class RealCamera:
    """A camera of a real box of the demo: what it shows and where it stands in the city."""

    film: int  # the film's number; there are four
    name: str
    place: str  # of tools/city/ambon.yaml
    template: str
    zone: str
    more: str = ""


ALL_DAY = '{mon-sun: "00:00-24:00"}'  # whoever tries the demo does so at any hour
ZONE = "[[0.05, 0.35], [0.95, 0.35], [0.95, 0.98], [0.05, 0.98]]"
REAL_BOXES: dict[str, tuple[RealCamera, ...]] = {
    "waihaong-9": (
        RealCamera(0, "pintu", "puskesmas-waihaong", "service-office", "counter", f"    hours: {ALL_DAY}\n"),
        RealCamera(1, "loket", "puskesmas-waihaong", "service-office", "counter", f"    hours: {ALL_DAY}\n"),
    ),
    "pusat-9": (
        RealCamera(2, "lapangan", "lapangan-merdeka", "public-space", "square"),
        RealCamera(3, "jalan", "jalan-pattimura", "traffic", "lane", "    lines: {stop: {from: [0.0, 0.7], to: [1.0, 0.7]}}\n"),
    ),
}  # fmt: skip
REAL_PLACES = {camera.place for cameras in REAL_BOXES.values() for camera in cameras}


def city_site_file(
    box: str, addresses: list[str], port: int, ring_gb: float, hub_url: str, fingerprint: str, code: str
) -> str:
    """A box of the city, which reports to the hub."""
    cameras = "".join(
        f"  {camera.place}-{camera.name}:\n    place: {camera.place}\n    template: {camera.template}\n"
        f"    main: {{source: rtsp, url: {quoted(addresses[camera.film])}}}\n    ring_gb: {ring_gb:g}\n"
        f"    zones: {{{camera.zone}: {ZONE}}}\n{camera.more}"
        for camera in REAL_BOXES[box]
    )
    secret = f", code: {code}" if code else ""
    return (
        "# Written by `make demo` at every start. docs/settings.md says what else can stand here.\n"
        f"site: {box.rpartition('-')[0]}\nbox: {box}\ntime_zone: Asia/Jayapura\nstorage: {{path: .}}\nweb: {{port: {port}}}\n"
        f"hub: {{url: {quoted(hub_url)}, fingerprint: {quoted(fingerprint)}{secret}}}\ncameras:\n{cameras}"
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


def write_secret(path: Path, text: str) -> None:
    draft = path.with_suffix(".new")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    draft.rename(path)


def run(options: argparse.Namespace) -> int:
    folder: Path = options.data
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with alone_in(folder):
        return run_box(options, folder) if options.cameras else run_city(options, folder)


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Another demo in the same folder would write over the settings of the one that runs. Raises DemoFailed."""
    with open(folder / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoFailed(
                f"a demo is running in {folder}.\nUse that one, stop it with Ctrl-C, or run another beside it: "
                ".venv/bin/python -m tools.demo --data FOLDER"
            ) from None
        yield


def run_box(options: argparse.Namespace, folder: Path) -> int:
    """One box with cameras of somebody's own, and its page."""
    addresses = {f"camera-{number}": url for number, url in enumerate(options.cameras, 1)}
    site_path = folder / "site.yaml"
    write_secret(site_path, site_file(addresses, free_port(options.port), ring_gb(folder, len(addresses))))
    for name, address in addresses.items():
        # What stands before the last @ of the host is a user and a password.
        print(f"camera {name}: {address.split('://')[0]}://{address.split('://')[-1].rpartition('@')[2]}", flush=True)
    print(f"recording into {folder}; Ctrl-C stops\n", flush=True)
    return supervise([Part("the box", [sys.executable, "-m", "nvr", "run", "--site", str(site_path)])])


def run_city(options: argparse.Namespace, folder: Path) -> int:
    """Hub, two real boxes, and light boxes for the rest of the city; prints the address of the hub."""
    from tools.city import front, furnish

    city = city_room.load()
    light = city.without(REAL_PLACES)
    hub_folder, keys = folder / "hub", folder / "light-boxes"
    port = free_port(options.port)
    front_port = free_port(port + 1)
    address = f"http://127.0.0.1:{port}"
    with contextlib.ExitStack() as stack:
        found = films(folder / "city-films")
        print("starting four pretend cameras ...", flush=True)
        addresses = list(stack.enter_context(pretend_cameras(found)).values())
        furnish.settings_file(hub_folder, city, f"127.0.0.1:{port}")
        furnished = furnish.furnish(hub_folder, city, [*REAL_BOXES, *(box.name for box in light.boxes)])
        pem_path, fingerprint = front.certificate(hub_folder)
        parts = [
            Part("the hub", [sys.executable, "-m", "nvr", "hub", "run", "--data", str(hub_folder)], ready="hub at "),
            Part(
                "TLS in front of the hub",
                [
                    sys.executable,
                    "-m",
                    "tools.city.front",
                    "--port",
                    str(front_port),
                    "--hub-port",
                    str(port),
                    "--pem",
                    str(pem_path),
                ],
                ready="ready",
            ),
        ]
        gb = ring_gb(folder, 4)
        page_port = front_port
        for box in REAL_BOXES:
            page_port = free_port(page_port + 1)
            box_folder = folder / box
            box_folder.mkdir(mode=0o700, exist_ok=True)
            site_path = box_folder / "site.yaml"
            code = furnished.codes.get(box, "")
            text = city_site_file(box, addresses, page_port, gb, f"https://127.0.0.1:{front_port}", fingerprint, code)
            write_secret(site_path, text)
            parts.append(
                Part(
                    f"box {box}",
                    [sys.executable, "-m", "nvr", "run", "--site", str(site_path)],
                    log_path=box_folder / "log",
                )
            )
        codes = json.dumps({"codes": {name: code for name, code in furnished.codes.items() if name not in REAL_BOXES}})
        arguments = ["--hub", address, "--keys", str(keys), "--without", ",".join(sorted(REAL_PLACES))]
        parts.append(
            Part(
                "the light boxes", [sys.executable, "-m", "tools.city", "light", *arguments], ready="ready", says=codes
            )
        )
        print(f"starting the hub, {len(REAL_BOXES)} boxes and {len(light.boxes)} light ones ...", flush=True)

        def tell() -> None:
            print(f"\nThe city: {address}\n", flush=True)
            for name, role in furnish.PEOPLE:
                print(f"    {name:<10} {furnished.passwords[name]:<22} ({role})", flush=True)
            print(f"\nPasswords of this demo only. Everything lies in {folder}; Ctrl-C stops.\n", flush=True)

        return supervise(parts, tell)


@dataclass
class Part:
    """One program of the demo."""

    name: str
    arguments: list[str]
    ready: str = ""  # what it prints when the next one may start
    says: str = ""  # on its standard input
    is_talking: bool = False  # more will be said
    log_path: Path | None = None  # where its words go; None: here
    process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Raises DemoFailed when it does not get ready."""
        out = open(self.log_path, "a") if self.log_path else None
        # A session of its own: Ctrl-C reaches this program first, which stops the others in their order.
        self.process = subprocess.Popen(
            self.arguments, cwd=ROOT, start_new_session=True, text=True, stdin=subprocess.PIPE if self.says else subprocess.DEVNULL,
            stdout=subprocess.PIPE if self.ready else out, stderr=out,
        )  # fmt: skip
        if out is not None:
            out.close()
        if self.says and self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.say(self.says)
                if not self.is_talking:
                    self.process.stdin.close()
        if self.ready:
            self._wait()

    def say(self, text: str) -> None:
        """Raises BrokenPipeError when it has ended."""
        assert self.process is not None and self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def _wait(self) -> None:
        process = self.process
        assert process is not None and process.stdout is not None
        too_late = threading.Timer(READY_S, process.kill)
        too_late.start()
        try:
            for line in process.stdout:
                if line.startswith(self.ready):
                    # Whatever it prints later must go somewhere, or it would wait for us.
                    threading.Thread(target=process.stdout.read, daemon=True).start()
                    return
        finally:
            too_late.cancel()
        raise DemoFailed(f"{self.name} did not start.\nIts last words stand above.")


def supervise(parts: list[Part], on_ready: Callable[[], None] = lambda: None) -> int:
    """Run all of them until somebody asks to stop or one ends; stop them, the last one first."""
    asked = threading.Event()

    def ask(number: int, frame: object) -> None:
        if not asked.is_set():
            print("\nstopping: making everything durable ...", flush=True)
        asked.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask)
    ended: Part | None = None
    try:
        for part in parts:
            if not asked.is_set():
                part.start()
        if not asked.is_set():
            on_ready()
        while not asked.wait(0.5):
            ended = next((part for part in parts if part.process is not None and part.process.poll() is not None), None)
            if ended is not None:
                break
    finally:
        _stop([part.process for part in reversed(parts) if part.process is not None])
    if ended is not None and ended.process is not None and not asked.is_set():
        # What it had to say it has said; a signal lets it say nothing.
        raise DemoFailed(
            f"{ended.name} {how_it_ended(ended.process.returncode)}.\n"
            f"Its last words stand {'in ' + str(ended.log_path) if ended.log_path else 'above'}. `make demo` starts again and goes on where this ended."
        )
    print("stopped. `make demo` goes on where this ended.", flush=True)
    return 0


def _stop(processes: list[subprocess.Popen[str]]) -> None:
    """Ask all at once, wait for all: a recorder needs some seconds to make everything durable."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
    deadline_s = time.monotonic() + STOP_S
    for process in processes:
        try:
            process.wait(max(0.1, deadline_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.demo", description=__doc__.splitlines()[0])
    parser.add_argument(
        "cameras", nargs="*", metavar="rtsp://...", help="real cameras: then one box with them, without them a city"
    )
    parser.add_argument("--data", type=Path, default=ROOT / "demo-data", help="where to record (default demo-data)")
    parser.add_argument(
        "--port",
        type=int,
        default=int(os.environ.get("PORT") or 8080),
        help="of the hub, or of the box, or the next free one (default 8080)",
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
