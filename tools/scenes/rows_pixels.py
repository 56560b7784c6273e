"""The figures of what is seen in drawn pixels: a camera that is broken, and traffic without a model."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from nvr.cli.detect import film_events
from nvr.detect.pipeline import Pipeline
from nvr.detect.replay import facts_of
from nvr.rules.congestion import Congestion
from nvr.scene import Zone
from tools.scenes import camera_day, faults, film, paint, pixels, road, score, streams, view
from tools.scenes.row import Row

_NS = 1_000_000_000

TAMPER_SEEDS = (57, 58)  # what a night out of focus looks like was seen on 51, 52 and 61
# Where light changes: what a whole day has, at a fifth of its price.
DAY_PARTS_H = ((5.6, 7.6), (11.9, 12.1), (14.1, 14.6), (15.6, 15.8), (16.4, 17.2), (17.7, 18.9))


def tamper(
    parts_h: Sequence[tuple[float, float]] = ((0.0, 24.0),),
    cameras: Sequence[str] = ("street", "room"),
    per_class: int = 4,
    seeds: Sequence[int] = TAMPER_SEEDS,
) -> list[Row]:
    rows = []
    results = [
        result
        for seed in seeds
        for kind, light in camera_day.LIGHTS
        if kind in cameras
        for result in pixels.tried(kind, light, per_class=per_class, seed=seed)
    ]
    for what in faults.CLASSES:
        of_class = [each for each in results if each.trial.fault.kind == what]
        rows.append(_recall(pixels.NAMES[what], "each camera and light", of_class, 0.95))
    rows.append(looped_streams(seeds[:1]))
    others = sum(len(each.others) for each in results)
    rows.append(Row("tamper", f"the same {len(results)} trials", "pixels", f"{others} told in another class", "", None))
    hours = sum(to_h - from_h for from_h, to_h in parts_h)
    for kind in cameras:
        told = [
            event.state
            for from_h, to_h in parts_h
            for event in pixels.alarms_of_day(kind, from_h=from_h, to_h=to_h, seed=seeds[0])
        ]
        rows.append(Row(
            "tamper", f"{kind}: {hours:.4g} h of one day: dawn, noon, rain, lamps off, dusk", "pixels",
            f"{len(told)} false alarms" + (f" ({', '.join(sorted(set(told)))})" if told else ""), "<= 1 a day", len(told) <= 1,
        ))  # fmt: skip
    return rows


def looped_streams(seeds: Sequence[int] = TAMPER_SEEDS[:1]) -> Row:
    """Encoded loops: an empty room, and streets; the stream itself and its pictures encoded again."""
    scenes = (("room", "day", 3.0), ("room", "lamp light", 3.0), ("street", "day", 10.0), ("street", "night", 10.0))
    found = [
        each
        for seed in seeds
        for kind, light, at_h in scenes
        for each in streams.looped(kind, light, at_h=at_h, seed=seed)
    ]
    after_s = [each.after_s for each in found if each.after_s is not None]
    again = [each for each in found if each.is_again]
    missed = sorted({f"{each.kind}, {each.light}, {each.coding}" for each in found if each.after_s is None})
    recall, false_s = len(after_s) / len(found), sum(each.false_s for each in found)
    return Row(
        "tamper", f"looped, through an encoder: an empty room and a street, {len(found)} trials, {len(again)} of them encoded again", "pixels",
        f"recall {recall:.2f}, after {statistics.median(after_s) if after_s else 0:.0f} s in the middle, {max(after_s, default=0):.0f} s at most; "
        f"{false_s:.0f} s told of the same cameras living" + (f"; missed: {'; '.join(missed)}" if missed else ""),
        ">= 0.95", recall >= 0.95 and not false_s,
    )  # fmt: skip


def _recall(name: str, where: str, results: Sequence[pixels.Result], least: float) -> Row:
    found = [each.after_s for each in results if each.after_s is not None]
    recall = len(found) / max(len(results), 1)
    missed = sorted({f"{each.trial.kind}, {each.trial.light}" for each in results if each.after_s is None})
    return Row(
        "tamper", f"{name}: {where}, {len(results)} trials", "pixels",
        f"recall {recall:.2f}, after {statistics.median(found) if found else 0:.0f} s in the middle, {max(found, default=0):.0f} s at most"
        + (f"; missed: {'; '.join(missed)}" if missed else ""),
        f">= {least}", recall >= least,
    )  # fmt: skip


# -- traffic without a model -------------------------------------------------------------------------


SEEDS = (52,)  # thresholds without a model were chosen on 51
SETTLE_S = 150.0  # as for the facts: so long either answer is right after a change
# Each so long that three minutes of it are graded.
RUSH = (
    road.Phase(0, 1300, 8.0),
    road.Phase(480, 1000, 11.0, light_m=185.0, green_s=8, cycle_s=45),
    road.Phase(960, 250),
)
RED_LIGHT = (road.Phase(0, 600, 11.0, light_m=152.0, green_s=30, cycle_s=60),)


def congestion_film(
    phases: Sequence[road.Phase] = RUSH, length_s: int = 1360, seeds: Sequence[int] = SEEDS, light_s: int = 600
) -> list[Row]:
    """The same promise as on facts, from a film: drawn, encoded, decoded and looked at without a model."""
    total: dict[str, score.Counts] = {}
    for seed in seeds:
        total = score.added(total, counts_of_film(phases, length_s, seed, parked=2))
    f1s = {state: total[state].f1 for state in ("free", "dense", "jam") if state in total}
    rows = [
        Row(
            "congestion", f"dense, jam, free; {len(seeds) * length_s / 60:.0f} min of film by day, seeds {', '.join(map(str, seeds))}, no model", "pixels",
            "F1 " + ", ".join(f"{state} {f1:.3f}" for state, f1 in f1s.items()) + f"; mean {statistics.mean(f1s.values()):.3f}",
            "F1 >= 0.9", {"free", "jam"} <= set(f1s) and min(f1s.values()) >= 0.9,
        )
    ]  # fmt: skip
    if light_s:
        false_jam_s = counts_of_film(RED_LIGHT, light_s, seeds[0]).get("jam", score.Counts()).wrong
        rows.append(Row(
            "congestion", f"a red light alone; {light_s / 60:.0f} min of film, no model", "pixels",
            f"{false_jam_s:.0f} s of false jam", "none", false_jam_s == 0,
        ))  # fmt: skip
    return rows


def counts_of_film(
    phases: Sequence[road.Phase], length_s: int, seed: int, *, parked: int = 0
) -> dict[str, score.Counts]:
    street, chance, seen_from = road.Street(phases, seed=seed, parked=parked), np.random.default_rng(seed), view.View()
    looks: list[road.Look] = []

    def frames() -> Iterator[np.ndarray]:
        for look in street.run(length_s):
            looks.append(look)
            picture = paint.street(look.vehicles, paint.DAY, seen_from, *film.SIZE)
            yield paint.expose(picture, paint.DAY, chance)

    area = Zone("lane", road.zone(seen_from))
    rule, events = Congestion(area), []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "street.mp4"
        film.encode(frames(), path, round(1 / road.STEP_S))
        for facts in facts_of(film_events(path, None), Pipeline("scene", [area]), None):
            events += rule.look(facts)
    times = [look.at_s for look in looks]
    truth = road.traffic_states(looks)
    graded = [ok and at_s > SETTLE_S for ok, at_s in zip(score.settled(truth, times, SETTLE_S), times, strict=True)]
    second = slice(0, None, 5)
    return score.counts(truth[second], score.said_at(events, times)[second], graded[second])


def without_model(
    length_s: int = 150, films: Sequence[str] = ("street-free", "street-dense", "street-jam")
) -> list[Row]:
    """What is said of drawn traffic that was there before anybody looked, after a minute and a half."""
    rows = []
    area = Zone("lane", road.zone(view.View()))
    for name in films:
        rule, events, times = Congestion(area), [], []
        for _, facts in pixels.film_facts(name, length_s, [area]):
            events += rule.look(facts)
            times.append(facts.at_ns / _NS)
        said = score.said_at(events, times)
        late = [state for state, at_s in zip(said, times, strict=True) if at_s > length_s * 0.6]
        share = {state: late.count(state) / max(len(late), 1) for state in sorted(set(late))}
        wanted = name.partition("-")[2]
        figure = ", ".join(f"{state} {part:.0%}" for state, part in share.items())
        where = f"{name}, {length_s} s of film, no model"
        rows.append(Row("congestion", where, "pixels", figure, wanted, share.get(wanted, 0.0) > 0.9))
    return rows
