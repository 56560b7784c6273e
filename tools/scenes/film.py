"""Scenes as H.264 files with their truth beside them, for `nvr detect replay` and `nvr detect eval`.

Small and slow on purpose, 640x360 at 10 frames a second: what detection looks at. One encoder thread, because how x264 divides
its work over threads changes what it writes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np

from tools.scenes import paint, road, waiting
from tools.scenes.view import View

FPS = 10
SIZE = (640, 360)
Shown = Iterator[tuple[np.ndarray, dict[str, Any]]]  # luma, and what is true of it


def _street(phase: road.Phase, light: paint.Light, **more: Any) -> Callable[[int], Shown]:
    def frames(length_s: int) -> Shown:
        view, chance = View(), np.random.default_rng(1)
        street = road.Street([phase], seed=1, **more)
        for _ in street.run(60):  # the street fills before the film begins
            pass
        for number, look in enumerate(street.run(length_s)):
            # The street steps five times a second; the frame between two steps shows vehicles half a step further.
            for between in (0.0, 0.5):
                vehicles = [_ahead(vehicle, between) for vehicle in look.vehicles]
                picture = paint.street(vehicles, light, view, *SIZE)
                paint.rain(picture, light, chance)
                frame = paint.expose(picture, light, chance)
                inside = [each for each in vehicles if road.NEAR_M <= each.z_m <= road.FAR_M]
                yield (
                    frame,
                    {
                        "at_s": round(number * road.STEP_S + between * road.STEP_S, 3),
                        "vehicles": len(inside),
                        "two_wheelers": sum(each.kind == "two-wheeler" for each in inside),
                        "density_per_km": round(look.density, 2),
                        "speed_m_s": None if look.speed is None else round(look.speed, 2),
                        "standing": sum(each.stands_since_s is not None for each in inside),
                    },
                )

    return frames


def _ahead(vehicle: road.Vehicle, steps: float) -> road.Vehicle:
    moved = road.Vehicle(**{name: getattr(vehicle, name) for name in road.Vehicle.__slots__})
    moved.way_m += vehicle.speed * road.STEP_S * steps
    return moved


def _room(rates: tuple[waiting.Rate, ...], light: paint.Light) -> Callable[[int], Shown]:
    def frames(length_s: int) -> Shown:
        chance = np.random.default_rng(2)
        everybody = waiting.visits(rates, length_s, mean_service_s=30, seed=2)
        for at_s, people in waiting.Room(everybody, seed=2).run(length_s, every_s=1 / FPS):
            frame = paint.expose(paint.room(people, light, *SIZE), light, chance)
            yield (
                frame,
                {"at_s": round(at_s, 3), "waiting": sum(each.is_waiting for each in people), "people": len(people)},
            )

    return frames


_JAM = road.Phase(0, 1000, 11.0, light_m=185.0, green_s=8, cycle_s=45)
FILMS: dict[str, Callable[[int], Shown]] = {
    "street-free": _street(road.Phase(0, 350), paint.DAY),
    "street-dense": _street(road.Phase(0, 1300, 8.0), paint.DAY),
    "street-jam": _street(_JAM, paint.DAY),
    "street-light": _street(road.Phase(0, 600, 11.0, light_m=152.0), paint.DAY),
    "street-stopped": _street(road.Phase(0, 500), paint.DAY, breakdowns=[road.Breakdown(65, 40, 135.0)]),
    "street-night": _street(road.Phase(0, 500), paint.NIGHT),
    "street-rain": _street(road.Phase(0, 900, 8.0), paint.RAIN),
    "waiting-room": _room((waiting.Rate(0, 150),), paint.DAY),
}


def encode(frames: Iterable[np.ndarray], path: Path, fps: int) -> None:
    """Write luma frames of SIZE as an MP4 file, as a camera's small stream would be; chroma is grey."""
    with av.open(str(path), "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.gop_size = 2 * fps
        stream.options = {"preset": "veryfast", "crf": "24", "bf": "0", "sc_threshold": "0", "threads": "1"}
        grey = np.full((SIZE[1] // 2, SIZE[0]), 128, np.uint8)
        for number, luma in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.concatenate([luma, grey]), "yuv420p")
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def write(name: str, folder: Path, *, length_s: int = 60) -> list[Path]:
    """NAME.mp4 and NAME.truth.json; each appears under its name only when it is whole. Returns both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    path, truth_path = folder / f"{name}.mp4", folder / f"{name}.truth.json"
    unfinished = path.with_suffix(".unfinished")
    truth = []

    def frames() -> Iterator[np.ndarray]:
        for luma, said in FILMS[name](length_s):
            truth.append(said)
            yield luma

    encode(frames(), unfinished, FPS)
    zone = waiting.zone() if name.startswith("waiting") else road.zone(View())
    unfinished.rename(path)
    truth_path.write_text(json.dumps({"fps": FPS, "zone": zone, "frames": truth}), "utf-8")
    return [path, truth_path]
