"""The processes of a simulation, and what can be done to them. The only room here that starts and ends anything."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tools.city import front, furnish
from tools.city.city import Box, City
from tools.city.simulator.edge import Edge
from tools.city.simulator.script import Fault
from tools.city.simulator.truth import LOSS_BOUND_S
from tools.demo import ROOT, Part, free_port

RING_GB = 0.06  # of each camera; light streams fill some ten megabytes in ten minutes
AGAIN_S = 2.0  # as firmware/units/nvr.service has it: a box that ended is started again
CLOCKS_S = {"ahead": 3600.0, "behind": -2400.0}  # "lost": 1970


def ended(process: subprocess.Popen[str] | None) -> bool:
    return process is None or process.poll() is not None


def kill_group(process: subprocess.Popen[str] | None) -> None:
    """Everything that it started, as when the power goes. It must have been started with a session of its own."""
    if process is not None and process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@dataclass
class Cameras:
    """The pretend cameras of one real box, behind one switch."""

    box: str
    names: list[str]
    films: list[str]  # one argument of tools.camera for each name: FILE+FILE
    port: int
    sent_path: Path
    log_path: Path
    part: Part | None = None

    def start(self) -> None:
        arguments = [sys.executable, "-m", "tools.camera", "--port", str(self.port), "--sent", str(self.sent_path)]
        arguments += [f"{name}={films}" for name, films in zip(self.names, self.films, strict=True)]
        self.part = Part(f"the cameras of {self.box}", arguments, ready="ready")
        self.part.start()

    def switch(self, name: str, **fields: object) -> None:
        """A fault of one camera, or of `all` (tools/camera/stream.py)."""
        told = "&".join(f"{key}={value}" for key, value in fields.items())
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/{name}?{told}", method="POST")
        with urllib.request.urlopen(request, timeout=20) as answer:
            answer.read()


@dataclass
class RealBox:
    """`nvr run` with all its processes; started again when it ends, as systemd does."""

    name: str
    cameras: list[str]
    folder: Path
    edge: Edge
    process: subprocess.Popen[str] | None = None
    is_powered: bool = False
    starts: int = 0
    _ended_s: float = float("-inf")

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    @property
    def site_path(self) -> Path:
        return self.folder / "site.yaml"

    def power(self, is_on: bool) -> None:
        self.is_powered = is_on
        if is_on:
            self._start()
        else:
            kill_group(self.process)

    def look_after(self, now_s: float) -> None:
        if not self.is_powered or not ended(self.process):
            self._ended_s = now_s
        elif now_s - self._ended_s >= AGAIN_S:
            self._start()

    def _start(self) -> None:
        self.starts += 1
        with open(self.folder / "log", "a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "nvr", "run", "--site", str(self.site_path), "--data", str(self.data_dir)],
                cwd=ROOT, start_new_session=True, text=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, **self.edge.environment()},
            )  # fmt: skip

    def stop(self) -> None:
        self.is_powered = False
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def wait(self, seconds: float) -> None:
        if self.process is None:
            return
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            kill_group(self.process)


@dataclass
class World:
    """Everything that runs. Use it in a `with` statement: nothing of it stays behind."""

    city: City
    real: list[Box]
    light: list[Box]
    folder: Path
    films: Sequence[str]  # FILE+FILE of tools.camera, for the cameras in turn
    edge_library: Path
    boxes: dict[str, RealBox] = field(default_factory=dict)
    cameras: dict[str, Cameras] = field(default_factory=dict)
    hub: Part | None = None
    passwords: Mapping[str, str] = field(default_factory=dict)
    hub_url: str = ""
    story_s: float = 0.0
    _others: list[Part] = field(default_factory=list)
    _link: Part | None = None
    _busy: list[subprocess.Popen[str]] = field(default_factory=list)

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Boxes first and in order; what does not end is killed."""
        for box in self.boxes.values():
            box.stop()
        for box in self.boxes.values():
            box.wait(60)
        for busy in self._busy:
            kill_group(busy)
        for part in [*self._others, self.hub, *(each.part for each in self.cameras.values())]:
            if part is not None and part.process is not None and part.process.poll() is None:
                part.process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    part.process.wait(15)
                kill_group(part.process)

    def start(self) -> None:
        """Hub, TLS, links, cameras, boxes; each when the one before is ready. Raises tools.demo.DemoFailed."""
        hub_folder = self.folder / "hub"
        hub_port = free_port(18100)
        tls_port = free_port(hub_port + 1)
        self.hub_url = f"http://127.0.0.1:{hub_port}"
        furnish.settings_file(hub_folder, self.city, f"127.0.0.1:{hub_port}")
        furnished = furnish.furnish(hub_folder, self.city, [box.name for box in (*self.real, *self.light)])
        self.passwords = furnished.passwords
        pem_path, fingerprint = front.certificate(hub_folder)
        self.hub = Part(
            "the hub",
            [sys.executable, "-m", "nvr", "hub", "run", "--data", str(hub_folder)],
            ready="hub at ",
            log_path=hub_folder / "log",
        )
        self.hub.start()
        ports = ["--port", str(tls_port), "--hub-port", str(hub_port), "--pem", str(pem_path)]
        self._begin(Part("TLS before the hub", [sys.executable, "-m", "tools.city.front", *ports], ready="ready"))
        links = self._start_links(hub_port, tls_port)
        port = max(links.values())
        for number, box in enumerate(self.real):
            port = free_port(port + 1)
            names = [name for name, _ in box.cameras]
            folder = self.folder / box.name
            folder.mkdir(mode=0o700)
            films = [self.films[(number + each) % len(self.films)] for each in range(len(names))]
            cameras = Cameras(box.name, names, films, port, folder / "sent", folder / "cameras.log")
            cameras.start()
            self.cameras[box.name] = cameras
            edge = Edge(self.edge_library, folder / "edge", folder / "data")
            real = RealBox(box.name, names, folder, edge)
            port = free_port(port + 1)
            text = site_file(
                box, self.city.time_zone, cameras.port, port, links[box.name], fingerprint, furnished.codes[box.name]
            )
            with open(os.open(real.site_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(text)
            self.boxes[box.name] = real
            real.power(True)
        self.story_s = time.time()
        told = {
            "codes": {box.name: furnished.codes[box.name] for box in self.light},
            "hubs": {box.name: f"http://127.0.0.1:{links[box.name]}" for box in self.light},
        }
        arguments = [
            "--hub",
            self.hub_url,
            "--keys",
            str(self.folder / "light-boxes"),
            "--story-start",
            str(self.story_s),
            "--no-outages",
        ]
        only = ["--only", ",".join(box.name for box in self.light)]
        if self.light:
            self._begin(
                Part("the light boxes", [sys.executable, "-m", "tools.city", "light", *arguments, *only], ready="ready", says=json.dumps(told))
            )  # fmt: skip

    def _begin(self, part: Part) -> None:
        self._others.append(part)
        part.start()

    def _start_links(self, hub_port: int, tls_port: int) -> dict[str, int]:
        """A port for each box; real ones reach TLS behind it, light ones the hub itself."""
        listen, port = {}, tls_port
        for box in (*self.real, *self.light):
            port = free_port(port + 1)
            listen[box.name] = [port, tls_port if box in self.real else hub_port]
        self._link = Part(
            "the links",
            [sys.executable, "-m", "tools.city.simulator.link"],
            ready="ready",
            says=json.dumps({"listen": listen}) + "\n",
            is_talking=True,
        )
        self._begin(self._link)
        return {name: ports[0] for name, ports in listen.items()}

    def look_after(self, now_s: float) -> None:
        for box in self.boxes.values():
            box.look_after(now_s)

    # -- what the script does

    def begin(self, fault: Fault) -> None:
        self._do(fault, is_on=True)

    def finish(self, fault: Fault) -> None:
        self._do(fault, is_on=False)

    def _do(self, fault: Fault, *, is_on: bool) -> None:
        kind, how, target = fault.kind, fault.how, fault.target
        if kind == "power":
            self.boxes[target].power(not is_on)
        elif kind == "clock":
            ahead_s = CLOCKS_S.get(how, 60.0 - time.time()) if is_on else 0.0
            self.boxes[target].edge.set(clock_ns=round(ahead_s * 1e9))
        elif kind == "card":
            self.boxes[target].edge.set_card(how if is_on else "")
        elif kind == "link":
            assert self._link is not None
            self._link.say(json.dumps({"set": target, "how": how if is_on else ""}) + "\n")
        elif kind == "camera":
            self._camera(fault, is_on=is_on)
        elif kind == "hub":
            assert self.hub is not None
            if is_on:
                kill_group(self.hub.process)
            else:
                self.hub.start()
        elif kind == "load":
            for busy in self._busy:
                kill_group(busy)
            cores = os.cpu_count() or 1
            self._busy = [_counting() for _ in range(2 * cores)] if is_on else []

    def _camera(self, fault: Fault, *, is_on: bool) -> None:
        box = fault.target if fault.target in self.cameras else self.box_of(fault.target)
        if fault.how == "gone":
            if is_on:  # it comes back by itself
                self.cameras[box].switch("all", down_s=fault.for_s)
            return
        field_name = {"silent": "silent", "frozen": "frozen", "other size": "footage"}[fault.how]
        self.cameras[box].switch(fault.target, **{field_name: int(is_on)})

    def box_of(self, camera: str) -> str:
        return next(name for name, box in self.boxes.items() if camera in box.cameras)


def _counting() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "while True: pass"], start_new_session=True, text=True, stdin=subprocess.DEVNULL
    )


def site_file(
    box: Box, time_zone: str, camera_port: int, web_port: int, hub_port: int, fingerprint: str, code: str
) -> str:
    """A real box of the simulation: its cameras are looked at, and no zone of them is: what they tell is that they are down, or frozen."""
    cameras = "".join(
        f"  {name}:\n    place: {place.name}\n    template: {place.template}\n"
        f'    main: {{source: rtsp, url: "rtsp://127.0.0.1:{camera_port}/{name}"}}\n    ring_gb: {RING_GB:g}\n    hold_gb: {RING_GB / 2:g}\n'
        for name, place in box.cameras
    )
    return (
        f"site: {box.name.rpartition('-')[0]}\nbox: {box.name}\ntime_zone: {time_zone}\n"
        f"storage: {{path: ., reserve_gb: 0.01, loss_bound_s: {LOSS_BOUND_S:g}}}\nweb: {{listen: 127.0.0.1, port: {web_port}}}\n"
        f'hub: {{url: "https://127.0.0.1:{hub_port}", fingerprint: "{fingerprint}", code: {code}}}\ncameras:\n{cameras}'
    )
