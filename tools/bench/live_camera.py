"""Cameras whose pictures carry the moment they were taken, recorded by the real recorder in this process.

`python -m tools.bench.live_camera --data DIR --cameras 4` draws, encodes and records until it is stopped. Each
picture has a bar code at its lower edge: 24 bits of milliseconds since 1970 (they begin anew every 4.6 hours) and 8
check bits, most significant first, white is 1. A file DIR/run/<camera>.cut takes a camera's cable out while it is
there, DIR/run/<camera>.silent makes it say nothing; with DIR/run/<camera>.less it comes back with smaller pictures.
"""

from __future__ import annotations

import argparse
import logging
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np

from nvr import h264, recorder
from nvr.arena import Arena
from nvr.gather import Gather
from nvr.media import TICKS_PER_S, AccessUnit, Cause, ParameterSets, RunEnded, RunStarted, StreamEvent
from nvr.recorder import Recorder, Settings
from nvr.stream import RecordedStream
from tools.scenes.demo_footage import SCENES, draw

FPS = 25
BITS = 24
CHECK_BITS = 8
CELLS = BITS + CHECK_BITS
BAR_SHARE = 0.06  # of the height
FRAMES_KEPT = 200  # drawn once, then shown in turn: drawing costs more than encoding


def code_of(ms: int) -> int:
    """The number in the bar code for a time."""
    value = ms % (1 << BITS)
    check = (value ^ (value >> 8) ^ (value >> 16) ^ 0xA5) & 0xFF
    return value << CHECK_BITS | check


def burn(y: np.ndarray, ms: int) -> None:
    """Put the bar code into a luma plane."""
    height, width = y.shape
    top = height - int(height * BAR_SHARE)
    code = code_of(ms)
    edges = [round(cell * width / CELLS) for cell in range(CELLS + 1)]
    for cell in range(CELLS):
        y[top:, edges[cell] : edges[cell + 1]] = 235 if code >> (CELLS - 1 - cell) & 1 else 16


class LiveCamera:
    """A source (nvr.source.Source) that takes a picture every 40 ms, when it is asked for those since the last time."""

    def __init__(
        self,
        number: int,
        run_dir: Path,
        name: str,
        *,
        width: int = 640,
        height: int = 360,
        gop: int = FPS,
        has_code: bool = True,
    ) -> None:
        self._has_code = has_code
        self._whole = replace(SCENES[number % len(SCENES)], width=width, height=height)
        self._scene = self._whole
        self._cut_path, self._silent_path, self._less_path = (
            run_dir / f"{name}.{fault}" for fault in ("cut", "silent", "less")
        )
        self._frames: list[np.ndarray] = []
        self._gop = gop
        self._encoder: Any = None
        self._run_ns = 0
        self._count = 0
        self._shown = 0
        self._reconnects = 0
        self._told: str | None = None

    def _open(self) -> None:
        quarters = 3 if self._less_path.exists() else 4
        scene = replace(
            self._whole, width=self._whole.width * quarters // 8 * 2, height=self._whole.height * quarters // 8 * 2
        )
        if scene != self._scene:
            self._scene, self._frames = scene, []
        encoder = av.CodecContext.create("libx264", "w")
        encoder.width, encoder.height, encoder.pix_fmt = self._scene.width, self._scene.height, "yuv420p"
        encoder.framerate = FPS
        encoder.gop_size = self._gop
        encoder.options = {
            "preset": "ultrafast", "tune": "zerolatency", "crf": "26", "bf": "0", "sc_threshold": "0", "threads": "1",
            "x264-params": f"keyint={self._gop}:min-keyint={self._gop}",
        }  # fmt: skip
        self._encoder = encoder
        self._count = 0

    def drain(self, now_ns: int) -> Sequence[StreamEvent]:
        fault = "cut" if self._cut_path.exists() else "silent" if self._silent_path.exists() else None
        if fault != self._told:
            self._told = fault
            if fault is not None:
                self._encoder = None
                self._reconnects += 1
                if fault == "cut":
                    return [RunEnded(Cause.NETWORK, "the camera's address does not answer")]
        if fault is not None:
            return []
        events: list[StreamEvent] = []
        if self._encoder is None:
            self._open()
            self._run_ns = now_ns
        while (due_ns := self._run_ns + self._count * 1_000_000_000 // FPS) <= now_ns:
            events += self._picture(due_ns, now_ns)
            self._count += 1
        return events

    def _picture(self, due_ns: int, now_ns: int) -> list[StreamEvent]:
        taken_ms = (time.time_ns() - (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - due_ns)) // 1_000_000
        if len(self._frames) < FRAMES_KEPT:
            canvas = draw(self._scene, self._shown)
            self._frames.append(np.concatenate([plane.ravel() for plane in (canvas.y, canvas.cb, canvas.cr)]))
        # There and back again, so that nothing jumps.
        turn = self._shown % (2 * FRAMES_KEPT - 2)
        planes = self._frames[turn if turn < FRAMES_KEPT else 2 * FRAMES_KEPT - 2 - turn].copy()
        self._shown += 1
        width, height = self._scene.width, self._scene.height
        if self._has_code:
            burn(planes[: width * height].reshape(height, width), taken_ms)
        frame = av.VideoFrame.from_ndarray(planes.reshape(-1, width), "yuv420p")
        frame.pts = self._count
        data = b"".join(bytes(packet) for packet in self._encoder.encode(frame))
        units = [data[start : start + size] for start, size in h264.annex_b_units(data)]
        sps = tuple(unit for unit in units if h264.nal_type(unit) == 7)
        pps = tuple(unit for unit in units if h264.nal_type(unit) == 8)
        payload = Gather()
        for unit in units:
            if h264.nal_type(unit) not in (7, 8, 9):
                payload.append(memoryview(len(unit).to_bytes(4, "big") + unit))
        events: list[StreamEvent] = []
        if self._count == 0:
            events.append(RunStarted(ParameterSets(sps, pps), width, height, "drawn here"))
        ticks = self._count * TICKS_PER_S // FPS
        events.append(
            AccessUnit(payload, ticks, 0, max(due_ns, now_ns), bool(sps), camera_wall_ns=taken_ms * 1_000_000)
        )
        return events

    def may_wait(self) -> int:
        return 2  # as a camera over TCP: nothing is lost between two drains

    def facts(self) -> dict[str, object]:
        return {"transport": "drawn", "reconnects": self._reconnects, "clock_offset_s": 0.0}

    def close(self) -> None:
        self._encoder = None


def names_of(cameras: int) -> list[str]:
    return [
        SCENES[number].name if number < len(SCENES) else f"{SCENES[number % 4].name}-{number}"
        for number in range(cameras)
    ]


def site_text(cameras: int, ring_gb: float = 0.2, time_zone: str = "Asia/Jayapura") -> str:
    """A site file for a box with these cameras; what it says of their sources is not used here."""
    lines = ["site: puskesmas-waihaong", f"time_zone: {time_zone}", "box: waihaong-1", "cameras:"]
    for name in names_of(cameras):
        lines += [
            f"  {name}:",
            f'    main: {{source: rtsp, url: "rtsp://192.0.2.1/{name}"}}',
            f"    ring_gb: {ring_gb}",
        ]
    return "\n".join(lines) + "\n"


def record(
    data_dir: Path,
    cameras: int,
    *,
    gop: int = FPS,
    ring_bytes: int = 200_000_000,
    width: int = 640,
    height: int = 360,
    has_code: bool = True,
) -> None:
    """Record until SIGTERM or SIGINT; everything is durable on return."""
    names = names_of(cameras)
    run_dir = data_dir / "run"
    streams = tuple(RecordedStream(f"{name}/main", {"kind": "drawn"}, ring_bytes) for name in names)

    def source_of(stream: RecordedStream, arena: Arena, *, joins: bool = False) -> LiveCamera:
        name = stream.name.split("/")[0]
        return LiveCamera(names.index(name), run_dir, name, width=width, height=height, gop=gop, has_code=has_code)

    recorder.source_of = source_of  # type: ignore[assignment]
    running = Recorder(Settings(str(data_dir), 5.0, streams))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: running.stop())
    running.run()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench.live_camera", description="Cameras whose pictures carry their time."
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cameras", type=int, default=4)
    parser.add_argument("--gop", type=int, default=FPS, help="pictures from keyframe to keyframe (default %(default)s)")
    parser.add_argument("--ring-mb", type=int, default=200)
    parser.add_argument("--size", default="640x360")
    parser.add_argument("--plain", action="store_true", help="no bar code, for screenshots")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options.data.mkdir(parents=True, exist_ok=True)
    width, height = map(int, options.size.split("x"))
    record(
        options.data,
        options.cameras,
        gop=options.gop,
        ring_bytes=options.ring_mb * 1_000_000,
        width=width,
        height=height,
        has_code=not options.plain,
    )


if __name__ == "__main__":
    main()
