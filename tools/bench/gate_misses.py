"""What the gate of sizes leaves out, and what it misses by that.

    python -m tools.bench.gate_misses [--fps 5] [--times 4] [--length-s 600] FILM|SCENE ...

A FILM is played so many times on end; a SCENE is one of `python -m tools.scenes film`. Both become a camera's small stream first
(640 x 360, x264, a keyframe every 2 s), once with a constant quality and once held to a constant bit rate. Truth is the motion stage with every
picture decoded, so a share is of what the box would have found without the gate. Nothing is timed here.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nvr.detect.pipeline import AWAKE_NS, Pipeline, Settings
from nvr.media import AccessUnit, RunStarted
from tools.bench.detect_cost import CONSTANT_QUALITY, at_ns, drawn, events_of, frames_of, small_stream
from tools.scenes import film as scenes

NS_PER_S = 1_000_000_000
APART_NS = AWAKE_NS  # stillness as long as this ends a movement
ENCODERS = {
    "constant quality": CONSTANT_QUALITY,
    "constant bit rate": {"b": "400k", "maxrate": "400k", "bufsize": "400k", "x264-params": "nal-hrd=cbr"},
}


@dataclass(frozen=True, slots=True)
class Missed:
    looks: int
    decoded: float  # share of access units
    moving: int  # looks on which something moves, with everything decoded
    moving_missed: int  # of these, those on which the gate let the picture pass undecoded
    movements: int
    movements_missed: int  # on none of whose looks anything was decoded
    latest_s: float  # how long after its beginning a movement was first looked at, at most


def pictures(what: str, fps: int, times: int, length_s: int) -> Iterator[Any]:
    """RGB, of a scene's name or a film's path. Raises SystemExit."""
    if what == "drawn":
        yield from drawn(fps, length_s)
        return
    if what in scenes.FILMS:
        for number, (luma, _) in enumerate(scenes.FILMS[what](length_s)):
            if number % (scenes.FPS // fps) == 0:
                yield np.repeat(luma[:, :, np.newaxis], 3, 2)
        return
    if not Path(what).is_file():
        raise SystemExit(f"{what}: no film, and no scene of {', '.join(['drawn', *sorted(scenes.FILMS)])}")
    for _ in range(times):
        yield from frames_of(Path(what), fps)


def looks(events: list[Any], fps: int, *, is_gated: bool) -> tuple[dict[int, bool], Pipeline, set[int]]:
    """Whether something moves, by the time of each look; the pipeline; the looks that passed undecoded."""
    settings = Settings(is_gated=is_gated, has_crops=False, frames_per_s=fps)
    pipeline = Pipeline("bench", settings=settings)
    moves: dict[int, bool] = {}
    passed: set[int] = set()
    for event in events:
        if isinstance(event, RunStarted):
            pipeline.start_run(event)
        elif isinstance(event, AccessUnit):
            before = pipeline.spent.quiet
            facts = pipeline.take(event, at_ns(event))
            if pipeline.spent.quiet > before:
                passed.add(facts[-1].at_ns)
            for each in facts:
                moves[each.at_ns] = each.motion_share >= settings.motion_least or each.is_light_change
    return moves, pipeline, passed


def movements(moves: dict[int, bool]) -> list[list[int]]:
    """Times of looks with something moving, in groups with stillness between them."""
    groups: list[list[int]] = []
    for at in sorted(at for at, is_moving in moves.items() if is_moving):
        if groups and at - groups[-1][-1] <= APART_NS:
            groups[-1].append(at)
        else:
            groups.append([at])
    return groups


def compare(events: list[Any], fps: int) -> Missed:
    truth, _, _ = looks(events, fps, is_gated=False)
    _, pipeline, passed = looks(events, fps, is_gated=True)
    groups = movements(truth)
    seen = [[at for at in group if at not in passed] for group in groups]
    return Missed(
        looks=len(truth),
        decoded=pipeline.spent.decoded / pipeline.spent.units,
        moving=sum(truth.values()),
        moving_missed=sum(is_moving and at in passed for at, is_moving in truth.items()),
        movements=len(groups),
        movements_missed=sum(not found for found in seen),
        latest_s=max(
            ((found[0] - group[0]) / NS_PER_S for group, found in zip(groups, seen, strict=True) if found), default=0.0
        ),
    )


def asked(description: str | None, arguments: Sequence[str] | None) -> argparse.Namespace:
    """films, fps, times and length_s of a command line."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("films", nargs="+", metavar="FILM|SCENE")
    parser.add_argument("--fps", type=int, default=5)
    parser.add_argument("--times", type=int, default=4, help="a film is played so often on end (default 4)")
    parser.add_argument("--length-s", type=int, default=600, help="of a scene (default 600)")
    return parser.parse_args(arguments)


def streams(options: argparse.Namespace) -> Iterator[tuple[str, str, list[Any]]]:
    """Each film by each encoder: their names, and the events of the small stream."""
    for what in options.films:
        for name, encoder in ENCODERS.items():
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "small.mp4"
                small_stream(pictures(what, options.fps, options.times, options.length_s), path, options.fps, encoder)
                events = events_of(path)
            yield Path(what).name, name, events


def main(arguments: Sequence[str] | None = None) -> None:
    options = asked(__doc__, arguments)
    print(
        "| film | encoder | pictures decoded | looks with movement that passed undecoded | movements never seen | first look at a movement, at most |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for film, encoder, events in streams(options):
        found = compare(events, options.fps)
        print(
            f"| {film} | {encoder} | {found.decoded:.0%} | {found.moving_missed} of {found.moving} "
            f"| {found.movements_missed} of {found.movements} | {found.latest_s:.1f} s later |", flush=True,
        )  # fmt: skip


if __name__ == "__main__":
    main()
