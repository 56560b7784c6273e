"""What seeing costs: CPU milliseconds for each second of one camera, stage by stage.

    python -m tools.bench.detect_cost [--model FILE.tflite] [--fps 5] [FILM ...]

Each film is brought to 640 x 360 at `--fps` pictures a second first (x264, a keyframe every 2 s, as a camera's small stream
is). Without a film one is drawn: a still scene with noise, through which something goes in half of the time. Each stage
is measured alone over the same pictures, then all of them together, as CPU time of this process on one core.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import av
import numpy as np

from nvr.detect import models
from nvr.detect.activity import Gate
from nvr.detect.decoder import Decoder, Frame
from nvr.detect.motion import Background, Motion, blobs, small
from nvr.detect.objects import ObjectModel
from nvr.detect.pipeline import Pipeline, Settings
from nvr.detect.tamper import TamperLook
from nvr.media import AccessUnit, RunEnded, RunStarted
from nvr.scene import Line, Zone
from nvr.source.replay import Replay

WIDTH, HEIGHT = 640, 360
CONSTANT_QUALITY = {"crf": "26"}
ZONES = (
    Zone("left", ((0.0, 0.3), (0.5, 0.3), (0.5, 1.0), (0.0, 1.0))),
    Zone("right", ((0.5, 0.3), (1.0, 0.3), (1.0, 1.0), (0.5, 1.0))),
)
LINES = (Line("across", (0.0, 0.6), (1.0, 0.6)),)


def small_stream(pictures: Iterator[Any], target: Path, fps: int, encoder: Mapping[str, str]) -> None:
    """Write RGB `pictures` as a camera's small stream would be; `encoder`: options of x264, for its rate."""
    with av.open(str(target), "w", options={"movflags": "faststart"}) as out:
        stream = out.add_stream(
            "libx264", rate=fps, options={"preset": "veryfast", "bf": "0", "g": str(2 * fps), **encoder}
        )
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def frames_of(source: Path, fps: int) -> Iterator[Any]:
    due_s = 0.0
    with av.open(str(source)) as film:
        for frame in film.decode(video=0):
            if frame.time is not None and frame.time >= due_s:
                due_s += 1 / fps
                yield frame.reformat(WIDTH, HEIGHT, "rgb24").to_ndarray()


def drawn(fps: int, seconds: int) -> Iterator[Any]:
    random = np.random.default_rng(1)
    ground = np.kron(random.integers(50, 200, (HEIGHT // 20, WIDTH // 20)), np.ones((20, 20), np.int64))
    for number in range(fps * seconds):
        picture = ground + random.normal(0, 2.0, ground.shape)
        if number // (10 * fps) % 2:
            left = round((number % (10 * fps)) / (10 * fps) * (WIDTH - 60))
            picture[200:300, left : left + 60] = 230
        yield np.repeat(np.clip(picture, 0, 255).astype(np.uint8)[:, :, np.newaxis], 3, 2)


def events_of(path: Path) -> list[Any]:
    source = Replay(path, loop=False, speed=None)
    events: list[Any] = []
    while not (events and isinstance(events[-1], RunEnded) and events[-1].is_final):
        events += source.drain(0)
    return events


def at_ns(unit: AccessUnit) -> int:
    return unit.decode_ticks * 100_000 // 9


def cpu_ms(what: Callable[[], Any], times: int = 1) -> float:
    """The least of three runs of `times` each: what else the machine does only ever adds."""
    best = float("inf")
    for _ in range(3):
        started_ns = time.process_time_ns()
        for _ in range(times):
            what()
        best = min(best, (time.process_time_ns() - started_ns) / 1e6 / times)
    return best


def stages(events: list[Any], model: ObjectModel | None) -> tuple[dict[str, float], dict[str, object]]:
    """CPU ms for each second of film by stage, and how often each was asked."""
    units = [event for event in events if isinstance(event, AccessUnit)]
    started = next(event for event in events if isinstance(event, RunStarted))
    seconds = (units[-1].decode_ticks - units[0].decode_ticks) / 90_000 * len(units) / (len(units) - 1)
    frames: list[Frame] = []
    motions: list[Motion] = []

    def activity() -> None:
        gate = Gate()
        for unit in units:
            gate.look(unit)
            gate.told(False)

    def decode() -> None:
        decoder = Decoder(started)
        frames.clear()
        for unit in units:
            frames.extend(decoder.decode(unit, at_ns(unit)))

    def motion() -> None:
        background = Background()
        motions.clear()
        for frame in frames:
            motions.append(background.look(small(frame.luma), frame.at_ns))

    def shapes() -> None:
        for each in motions:
            blobs(each.foreground.mask)

    def tamper() -> None:
        look = TamperLook()
        for frame, each in zip(frames, motions, strict=True):
            look.look(frame.luma, each, frame.at_ns)

    spent: list[Pipeline] = []

    def whole(*, is_gated: bool, with_model: bool) -> None:
        pipeline = Pipeline(
            "bench",
            ZONES,
            LINES,
            model=model if with_model else None,
            settings=Settings(is_gated=is_gated, has_crops=False),
        )
        pipeline.start_run(started)
        for unit in units:
            pipeline.take(unit, at_ns(unit))
        pipeline.end_run()
        spent.append(pipeline)

    found = {
        "activity": cpu_ms(activity, 5),
        "decode": cpu_ms(decode),
        "motion": cpu_ms(motion),
        "blobs": cpu_ms(shapes),
        "tamper": cpu_ms(tamper),
    }
    found["all without a model, everything decoded"] = cpu_ms(lambda: whole(is_gated=False, with_model=False))
    found["all without a model"] = cpu_ms(lambda: whole(is_gated=True, with_model=False))
    facts: dict[str, object] = {"without a model": spent[-1].spent}
    if model is not None:
        pictures = [frame.rgb for frame in frames[:: max(len(frames) // 20, 1)]]
        found["model, for one picture (ms)"] = (
            cpu_ms(lambda: [model.detect(picture) for picture in pictures]) / len(pictures) * seconds
        )
        found["all with the model"] = cpu_ms(lambda: whole(is_gated=True, with_model=True))
        facts["with the model"] = spent[-1].spent
    return {name: ms / seconds for name, ms in found.items()}, facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("films", nargs="*", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--fps", type=int, default=5)
    options = parser.parse_args()
    model = None
    if options.model is not None:
        data = options.model.read_bytes()
        model = ObjectModel(models.describe(data, "bench", licence="not asked"), data)
    for film in options.films or [None]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "small.mp4"
            pictures = drawn(options.fps, 60) if film is None else frames_of(film, options.fps)
            small_stream(pictures, path, options.fps, CONSTANT_QUALITY)
            costs, facts = stages(events_of(path), model)
        print(
            f"\n{film.name if film else 'drawn scene'}, {WIDTH}x{HEIGHT}, {options.fps} pictures/s: CPU ms for each camera-second"
        )
        for name, ms in costs.items():
            print(f"  {name:45} {ms:8.3f}")
        print(f"  {'activity against decode':45} 1/{costs['decode'] / costs['activity']:.0f}")
        for name, spent in facts.items():
            print(f"  {name}: {spent}")


if __name__ == "__main__":
    main()
