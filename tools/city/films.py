"""Films for the real boxes of the city: `python -m tools.city.films FOLDER`. Drawn once, kept.

They are longer than a box remembers pictures (nvr/detect/loops.py, HISTORY_NS: five minutes): of a shorter film that begins again it says, rightly,
that its camera is shown a loop. Five pictures a second, so that drawing them takes half a minute and recording them hardly any disk.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from pathlib import Path

import av
import numpy as np

from tools.city import city as city_room
from tools.city import day, pictures

FPS = 5
LENGTH_S = 330
# Film, place and camera: what the four cameras of the demo's real boxes see.
FILMS = (
    ("1-pintu", "puskesmas-waihaong", "pintu"), ("2-loket", "puskesmas-waihaong", "loket"), ("3-lapangan", "lapangan-merdeka", "lapangan"),
    ("4-jalan", "jalan-pattimura", "jalan"),
)  # fmt: skip


def draw(
    path: Path,
    place: city_room.Place,
    camera: str,
    length_s: int = LENGTH_S,
    size: tuple[int, int] = (pictures.WIDTH, pictures.HEIGHT),
) -> None:
    """The film appears under its name when it is whole. `size`: width and height in pixels."""
    unfinished = path.with_suffix(".unfinished")
    name = place.camera_name(camera)
    with av.open(str(unfinished), "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.gop_size = FPS
        stream.options = {
            "preset": "ultrafast",
            "crf": "29",
            "bf": "0",
            "sc_threshold": "0",
            "threads": "1",
            "profile": "baseline",
        }
        for number in range(length_s * FPS):
            at_s = number / FPS
            # An office that is late in the story would be shut for most of a film.
            seen = day.scene(place, name, at_s + 240, is_due=True)
            frame = av.VideoFrame.from_ndarray(
                np.clip(pictures.picture(place, name, seen, at_s, noise=0.8), 0, 255).astype(np.uint8), "rgb24"
            )
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    unfinished.replace(path)


def _draw_one(job: tuple[Path, str, str]) -> None:
    path, place_name, camera = job
    place = next(each for each in city_room.load().places if each.name == place_name)
    draw(path, place, camera)


def draw_all(folder: Path) -> list[Path]:
    """All four, two at a time; those that are there stay."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.mp4" for name, _, _ in FILMS]
    jobs = [(path, place, camera) for path, (_, place, camera) in zip(paths, FILMS, strict=True) if not path.exists()]
    if jobs:
        with multiprocessing.Pool(2) as pool:
            pool.map(_draw_one, jobs)
    return paths


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.city.films", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    for path in draw_all(parser.parse_args().folder):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
