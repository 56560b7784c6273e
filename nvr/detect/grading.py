"""What was seen in a film against what is true of it: one row for each promise. Pure, but for reading the truth.

A truth file is JSON, beside the site file it names; every film may have several checks. Which kinds there are is
`CHECKS`; docs/detection.md shows one. A check that needs a model says so where there is none.
"""

from __future__ import annotations

import bz2
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nvr.errors import NvrError
from nvr.scene import MOVING, VEHICLES, Event, Facts, Rect

_NS = 1_000_000_000
Span = tuple[float, float]  # seconds


class BadTruth(NvrError):
    """A truth file cannot be used."""


@dataclass(frozen=True, slots=True)
class Row:
    """One promise about one film."""

    film: str
    what: str
    found: str
    promised: str
    is_kept: bool


@dataclass(frozen=True, slots=True)
class Truth:
    path: Path
    film: Path
    site: Path
    camera: str  # "" where the site file has one
    model: Path | None
    begin: str  # when the film begins, as --at takes it; ""
    fps: float | None
    looks_per_s: float | None  # None: as a box does
    checks: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """A film as it was seen."""

    facts: Sequence[Facts]
    events: Sequence[Event]
    truth: Truth

    def at_s(self) -> list[float]:
        return [each.at_ns / _NS for each in self.facts]


def read(path: Path) -> Truth:
    """Raises BadTruth; the film need not be there."""
    try:
        fields = json.loads(path.read_bytes())
        checks = tuple(fields["checks"])
        for check in checks:
            if check["check"] not in CHECKS:
                raise ValueError(f"no check is called {check['check']!r}; there are: {', '.join(CHECKS)}")
        folder = path.parent
        return Truth(
            path, folder / fields["film"], folder / fields["site"], str(fields.get("camera", "")),
            folder / fields["model"] if "model" in fields else None, str(fields.get("begin", "")), fields.get("fps"), fields.get("looks_per_s"),
            checks,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise BadTruth(f"{path} is no truth file: {what}", hint="docs/detection.md shows one.") from None


def grade(seen: Seen) -> list[Row]:
    """A row for each check, in the order of the file. Raises BadTruth for a check that lacks something."""
    rows = []
    for check in seen.truth.checks:
        try:
            what, found, promised, is_kept = CHECKS[check["check"]](seen, check)
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise BadTruth(f"{seen.truth.path}: check {check['check']!r}: {type(error).__name__} {error}") from None
        rows.append(Row(seen.truth.film.name, what, found, promised, is_kept))
    return rows


Verdict = tuple[str, str, str, bool]


def _count(seen: Seen, check: dict[str, Any]) -> Verdict:
    """So many things of a kind in a zone, within spans and outside of them, away from the labelled edges."""
    spans: list[Span] = [tuple(span) for span in check["spans"]]
    edge_s, inside, outside = check.get("edge_s", 0.0), check.get("number", 1), check.get("else", 0)
    right = looks = 0
    ever = _moved(seen) if check.get("ever_moved") else frozenset()
    for facts in seen.facts:
        at_s = facts.at_ns / _NS
        if any(abs(at_s - edge) <= edge_s for span in spans for edge in span):
            continue
        is_inside = any(begin <= at_s < end for begin, end in spans)
        there = facts.zone(check.get("zone", ""))
        number = len(there.present(check["kind"]))
        if check.get("ever_moved"):  # known afterwards to have been one from the beginning
            number = sum(each.track.kind == check["kind"] and each.track.number in ever for each in there.tracks)
        looks += 1
        right += number == (inside if is_inside else outside)
    share = right / looks if looks else 0.0
    return (
        f"{check['kind']} count right, away from the edges by {edge_s:g} s", f"{100 * share:.1f} % of {looks} looks",
        f">= {100 * check['least']:g} %", share >= check["least"],
    )  # fmt: skip


def _visits(seen: Seen, check: dict[str, Any]) -> Verdict:
    """As many visits as true ones, each as long as the true one."""
    spans: list[Span] = [tuple(span) for span in check["spans"]]
    visits = [event for event in seen.events if event.kind == "queue" and event.state == "visit"]
    dwells = [dict(event.numbers)["dwell_s"] for event in sorted(visits, key=lambda event: event.from_ns)]
    errors = [abs(dwell - (end - begin)) for dwell, (begin, end) in zip(dwells, spans, strict=False)]
    is_kept = len(dwells) == len(spans) and all(error <= check["within_s"] for error in errors)
    return (
        "entries, and how long each stayed", f"{len(dwells)} entries, dwell off by {max(errors, default=0.0):.1f} s at most",
        f"{len(spans)} entries, within {check['within_s']:g} s", is_kept,
    )  # fmt: skip


def _empty(seen: Seen, check: dict[str, Any]) -> Verdict:
    """The queue is told to be 0 in each of these spans, and stays so in none of the others."""
    states = [
        (event.to_ns / _NS, event.state) for event in seen.events if event.kind == "queue" and event.state != "visit"
    ]
    told = 0
    for begin, end in check["spans"]:
        standing = [state for at_s, state in states if at_s < begin][-1:]
        within = [state for at_s, state in states if begin <= at_s < end + check.get("edge_s", 0.0)]
        told += "0" in (*standing[: 0 if within else 1], *within)
    total = len(check["spans"])
    return "queue told to be empty between visits", f"{told} of {total} times", f"{total} of {total}", told == total


def _state(seen: Seen, check: dict[str, Any]) -> Verdict:
    """A rule's state at given times."""
    found = []
    for at_s, _ in check["at"]:
        states = [
            event for event in seen.events
            if event.kind == check["rule"] and event.state not in ("visit", "crossed") and event.to_ns <= at_s * _NS
        ]  # fmt: skip
        found.append(states[-1].state if states and not states[-1].is_end else "")
    wanted = [state for _, state in check["at"]]
    times = ", ".join(f"{state} at {at_s:g} s" for (at_s, _), state in zip(check["at"], found, strict=True))
    return f"{check['rule']}", times, ", ".join(wanted), found == wanted


def _crossings(seen: Seen, check: dict[str, Any]) -> Verdict:
    kinds = VEHICLES if check["kind"] == "vehicles" else {check["kind"]}
    direction = check.get("direction")
    number = 0
    for event in seen.events:
        words = dict(event.words)
        if event.kind == "line_crossing" and words["class"] in kinds and direction in (None, words["direction"]):
            number += 1
    way = f" {direction}" if direction else ""
    return f"{check['kind']} over the line{way}", str(number), f"exactly {check['number']}", number == check["number"]


def _never(seen: Seen, check: dict[str, Any]) -> Verdict:
    """Nothing of a kind ever counts as present, and no event says so."""
    looks = sum(bool(facts.zone("").present(check["kind"])) for facts in seen.facts)
    events = sum(event.kind in check.get("events", ()) for event in seen.events)
    still = len(
        {
            track.number
            for facts in seen.facts
            for track in facts.tracks
            if track.kind == check["kind"] and not track.has_moved
        }
    )
    return (
        f"{check['kind']} present, or an event of one",
        f"{looks} looks, {events} events ({still} motionless ones left out)", "none", looks == 0 and events == 0,
    )  # fmt: skip


def _motion(seen: Seen, check: dict[str, Any]) -> Verdict:
    """When something moved, as spans: pauses shorter than `join_s` do not count."""
    moving = [facts.at_ns / _NS for facts in seen.facts if facts.motion_share >= check["least_share"]]
    spans: list[list[float]] = []
    for at_s in moving:
        if spans and at_s - spans[-1][1] <= check["join_s"]:
            spans[-1][1] = at_s
        else:
            spans.append([at_s, at_s])
    spans = [span for span in spans if span[1] - span[0] >= check.get("shortest_s", 0.5)]
    errors = [
        abs(a - b) for span, true in zip(spans, check["spans"], strict=False) for a, b in zip(span, true, strict=True)
    ]
    is_kept = len(spans) == len(check["spans"]) and max(errors, default=0.0) <= check["within_s"]
    return (
        "motion intervals", f"{len(spans)}, ends off by {max(errors, default=0.0):.2f} s at most",
        f"{len(check['spans'])}, within {check['within_s']:g} s", is_kept,
    )  # fmt: skip


def _no_claim(seen: Seen, check: dict[str, Any]) -> Verdict:
    """Whatever moves is not given a class, on any look."""
    moved = _moved(seen)
    claims = [
        track.kind for facts in seen.facts for track in facts.tracks if track.number in moved and track.kind != MOVING
    ]
    told = f"{', '.join(sorted(set(claims)))} on {len(claims)} looks" if claims else "none"
    return "class claimed for what moves", f"{told} ({len(moved)} things moved)", "none", not claims and bool(moved)


def _moved(seen: Seen) -> frozenset[int]:
    """Tracks that moved sooner or later: a thing is known to be one only after some frames."""
    return frozenset(track.number for facts in seen.facts for track in facts.tracks if track.has_moved)


def _followed(seen: Seen, check: dict[str, Any]) -> Verdict:
    """The biggest moving vehicle of somebody else's tracks lies under one of ours."""
    truth = _upstream(seen.truth.path.parent / check["tracks"], check["size_px"])
    best = max(
        (track for track in truth.values() if _travelled(track) > 0.1),
        key=lambda track: sum(r.area for r in track.values()) / len(track),
    )
    frames = hits = 0
    moved = _moved(seen)
    numbers: dict[int, list[float]] = defaultdict(list)
    for facts in seen.facts:
        rect = best.get(round(facts.at_ns / _NS * check["fps"]) + 1)
        if rect is None:
            continue
        frames += 1
        over = [(track.rect.iou(rect), track.number) for track in facts.tracks if track.number in moved]
        if over and max(over)[0] >= 0.5:
            hits += 1
            numbers[max(over)[1]].append(facts.at_ns / _NS)
    share = hits / frames if frames else 0.0
    longest = max((times[-1] - times[0] for times in numbers.values()), default=0.0)
    return (
        "biggest moving vehicle: IoU >= 0.5 with the upstream rects", f"{100 * share:.0f} % of {frames} looks, one track for {longest:.1f} s",
        f">= {100 * check['least']:g} %, {check['for_s']:g} s", share >= check["least"] and longest >= check["for_s"],
    )  # fmt: skip


def _found(seen: Seen, check: dict[str, Any]) -> Verdict:
    """How many of somebody else's rects lie under one of ours, of things that drive and of things that stand."""
    truth = _upstream(seen.truth.path.parent / check["tracks"], check["size_px"])
    there = found = 0
    for facts in seen.facts:
        frame = round(facts.at_ns / _NS * check["fps"]) + 1
        for track in truth.values():
            if (rect := track.get(frame)) is None or len(track) < check["fps"]:
                continue  # shorter ones are what upstream's model was not sure of
            there += 1
            found += any(each.rect.iou(rect) >= 0.5 for each in facts.tracks)
    share = found / there if there else 0.0
    return (
        "every vehicle: IoU >= 0.5 with the upstream rects of a second and more", f"{100 * share:.0f} % of {there} rects",
        f">= {100 * check['least']:g} %", share >= check["least"],
    )  # fmt: skip


def _moving(seen: Seen, check: dict[str, Any]) -> Verdict:
    """So many vehicles drive, each followed for so long."""
    times: dict[int, list[float]] = defaultdict(list)
    moved = _moved(seen)
    for facts in seen.facts:
        for track in facts.tracks:
            if track.number in moved and track.kind in VEHICLES:
                times[track.number].append(facts.at_ns / _NS)
    long_enough = [number for number, seen_s in times.items() if seen_s[-1] - seen_s[0] >= check["for_s"]]
    return (
        f"driving vehicles followed for {check['for_s']:g} s", str(len(long_enough)), f"at least {check['least']}",
        len(long_enough) >= check["least"],
    )  # fmt: skip


CHECKS: dict[str, Callable[[Seen, dict[str, Any]], Verdict]] = {
    "count": _count,
    "visits": _visits,
    "empty": _empty,
    "state": _state,
    "crossings": _crossings,
    "never": _never,
    "motion": _motion,
    "no-claim": _no_claim,
    "followed": _followed,
    "found": _found,
    "moving": _moving,
}


def _upstream(path: Path, size_px: Sequence[int]) -> dict[int, dict[int, Rect]]:
    """Tracks of an .ottrk file (JSON, perhaps with bzip2; centre and size in pixels): number -> frame -> rect."""
    data = path.read_bytes()
    detections = json.loads(bz2.decompress(data) if data.startswith(b"BZh") else data)["data"]["detections"]
    width, height = size_px
    tracks: dict[int, dict[int, Rect]] = defaultdict(dict)
    for each in detections:
        x, y, half_w, half_h = each["x"] / width, each["y"] / height, each["w"] / width / 2, each["h"] / height / 2
        tracks[int(each["track-id"])][int(each["frame"])] = Rect(x - half_w, y - half_h, x + half_w, y + half_h)
    return tracks


def _travelled(track: dict[int, Rect]) -> float:
    first, last = track[min(track)], track[max(track)]
    return abs(first.centre[0] - last.centre[0]) + abs(first.centre[1] - last.centre[1])
