"""A film through detection and rules, as fast as it goes: the same film and site give the same lines, byte for byte.

Access units come from any source, facts from the pipeline, events from the rules; this holds them together on media
time and turns events into the lines that `nvr detect replay --json` prints. No clock is read: the film's first picture is taken at
a time that the caller gives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import Any, Protocol

from nvr.media import AccessUnit, RunEnded, RunStarted, StreamEvent
from nvr.scene import Event, Facts

_NS = 1_000_000_000
_BETWEEN_RUNS_NS = 40_000_000  # a film whose parameter sets change goes on with the next picture

# Things that happen; all other events are states that begin or end.
MOMENTS = frozenset((("line_crossing", "crossed"), ("queue", "visit")))
PLACES = {"line_crossing": "line"}


class Looks(Protocol):
    """What of `pipeline.Pipeline` is needed here."""

    def start_run(self, started: RunStarted) -> None: ...
    def take(self, unit: AccessUnit, at_ns: int, wall_ns: int | None = None) -> list[Facts]: ...
    def end_run(self) -> list[Facts]: ...


def facts_of(events: Iterable[StreamEvent], pipeline: Looks, wall_at_0_ns: int | None) -> Iterator[Facts]:
    """What the pipeline sees in a film. Raises what the source says went wrong, when not a single picture came."""
    base_ns = last_ns = 0
    is_running = False
    for event in events:
        if isinstance(event, RunStarted):
            base_ns = last_ns + _BETWEEN_RUNS_NS if last_ns else 0
            pipeline.start_run(event)
            is_running = True
        elif isinstance(event, RunEnded):
            if is_running:
                yield from pipeline.end_run()
            is_running = False
        elif isinstance(event, AccessUnit):
            at_ns = base_ns + event.decode_ticks * 100_000 // 9
            last_ns = max(last_ns, at_ns)
            yield from pipeline.take(event, at_ns, None if wall_at_0_ns is None else wall_at_0_ns + at_ns)
    if is_running:
        yield from pipeline.end_run()


@dataclass
class Summary:
    """What a whole film came to."""

    looks: int = 0
    last_ns: int = 0
    model: str = ""
    damaged: int = 0
    moved: dict[int, str] = field(default_factory=dict)  # track that moved -> what it was at last
    still: dict[int, str] = field(default_factory=dict)
    counts: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)  # rule, place, class, direction
    states: dict[tuple[str, str], str] = field(default_factory=dict)  # rule, place -> the last state

    def add(self, facts: Facts, events: Iterable[Event]) -> None:
        self.looks += 1
        self.last_ns = facts.at_ns
        self.model = facts.sight.model
        self.damaged = facts.health.damaged
        for track in facts.tracks:
            (self.moved if track.has_moved else self.still)[track.number] = track.kind
            if track.has_moved:
                self.still.pop(track.number, None)
        for event in events:
            if (event.kind, event.state) in MOMENTS:
                words = dict(event.words)
                self.counts[event.kind, event.zone, words.get("class", ""), words.get("direction", "")] += 1
            elif event.is_end:
                self.states.pop((event.kind, event.zone), None)
            else:
                self.states[event.kind, event.zone] = event.state

    def line(self) -> dict[str, Any]:
        """The last line of a replay."""
        crossings = [
            {"line": place, "class": kind, "direction": direction, "count": count}
            for (rule, place, kind, direction), count in sorted(self.counts.items())
            if rule == "line_crossing"
        ]
        visits = {place: count for (rule, place, _, _), count in sorted(self.counts.items()) if rule == "queue"}
        states = [
            {"what": rule, **place_of(rule, place), "state": state}
            for (rule, place), state in sorted(self.states.items())
        ]
        return {
            "kind": "summary",
            "length_s": round(self.last_ns / _NS, 3),
            "looks": self.looks,
            "model": self.model or None,
            "damaged": self.damaged,
            "things_that_moved": dict(sorted(Counter(self.moved.values()).items())),
            "things_that_never_moved": dict(sorted(Counter(self.still.values()).items())),
            "crossings": crossings,
            "visits_ended": visits,
            "states": states,
        }


def replay(
    events: Iterable[StreamEvent], pipeline: Looks, look: Callable[[Facts], list[Event]], wall_at_0_ns: int | None
) -> Iterator[tuple[Facts, list[Event]]]:
    """Each look at the film with what followed from it."""
    for facts in facts_of(events, pipeline, wall_at_0_ns):
        yield facts, look(facts)


def place_of(rule: str, place: str) -> dict[str, str]:
    return {PLACES.get(rule, "zone"): place} if place else {}


def line_of(event: Event, zone: tzinfo) -> dict[str, Any]:
    """One event or change of state, as `--json` prints it. Times in seconds of the film, `wall` as ISO 8601."""
    is_moment = (event.kind, event.state) in MOMENTS
    told_ns = event.from_ns if event.kind == "line_crossing" else event.to_ns
    line: dict[str, Any] = {
        "at_s": round(told_ns / _NS + dict(event.numbers).get("behind_s", 0.0), 3),  # `closed` is said of the past
        "kind": "event" if is_moment else "state",
        "what": event.kind,
        "camera": event.camera,
        **place_of(event.kind, event.zone),
        **dict(event.words),
        "state": event.state,
        "from_s": round(event.from_ns / _NS, 3),
    }
    for name, value in event.numbers:
        if name in ("count", "waiting"):
            line["count"] = round(value)
        elif name.startswith("waiting_"):
            line[name.replace("waiting_", "count_")] = round(value)
        else:
            line[name] = round(value, 4)
    if event.wall_ns is not None:
        line["wall"] = datetime.fromtimestamp(event.wall_ns / _NS, zone).isoformat(timespec="milliseconds")
    if event.tracks:
        line["tracks"] = list(event.tracks)
    if event.detail:
        line["detail"] = event.detail
    if event.is_end:
        line["ended"] = True
    return line


def sentence(line: dict[str, Any]) -> str:
    """The same for people."""
    place = line.get("zone") or line.get("line") or ""
    words = [f"{line['at_s']:9.2f} s", line["what"], *([place] if place else []), line["state"]]
    words += [f"{line[name]}" for name in ("class", "direction") if name in line]
    if "count" in line:
        least, most = line.get("count_least"), line.get("count_most")
        interval = f" ({least} to {most if most is not None else 'any'})" if least is not None else ""
        words.append(f"count {line['count']}{interval}")
    for name in ("dwell_s", "longest_s", "stood_s", "occupancy", "speed_px_s", "speed_m_s", "evidence_s"):
        if name in line:
            words.append(f"{name} {line[name]:g}")
    if line.get("ended"):
        words.append("(over)")
    if line.get("detail"):
        words.append(f"- {line['detail']}")
    return "  ".join(words)
