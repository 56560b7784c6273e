"""What a site file says about the picture: zones, lines, opening hours and the rules that use them.

Checked completely, used by detection. A corner is a pair of fractions of width and height; a zone that crosses
itself has no inside, so it is refused.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from nvr import site_keys
from nvr.scene import Line, Point, Zone
from nvr.site_kinds import Number, Wrong, check_name, closest, scalar, shown
from nvr.site_yaml import Entry, Reader, line_of

CORNERS_MOST = 64  # drawn by hand; each costs a test per detection
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_MIN = 24 * 60


@dataclass(frozen=True, slots=True)
class OpenTime:
    """Open on one day of the week, in the site's time zone; the end is not part of it."""

    day: int  # 0 is Monday
    from_min: int  # minutes since midnight
    to_min: int  # at most 1440


@dataclass(frozen=True, slots=True)
class Rule:
    name: str  # "queue"
    settings: Mapping[str, Any]  # as in site_keys.RULES, with defaults


# -- zones and lines ---------------------------------------------------------------------------------

_FRACTION = Number(0, 1)


def _point(node: yaml.Node) -> Point:
    """Raises Wrong."""
    if not isinstance(node, yaml.SequenceNode) or len(node.value) != 2:
        raise Wrong("a corner is a pair", "[0.25, 0.80]")
    try:
        x, y = (float(_FRACTION.read(part, "")) for part in node.value)
    except Wrong as wrong:
        text = " ".join(str(part.value) for part in node.value if isinstance(part, yaml.ScalarNode))
        if re.fullmatch(r"\d{1,5} \d{1,5}", text):
            raise Wrong(
                f"[{text.replace(' ', ', ')}] are pixels",
                "Divide x by the width and y by the height: fractions from 0 to 1.",
            ) from None
        raise Wrong(wrong.what, "Fractions of width and height, from 0 to 1.") from None
    return x, y


def _named(reader: Reader, node: yaml.Node | None, path: str) -> list[Entry]:
    """The entries of a group whose keys are names; bad names are faults."""
    found = []
    for entry in reader.entries(node, path).values() if node is not None else ():
        try:
            check_name(entry.name)
            found.append(entry)
        except Wrong as wrong:
            reader.fault(entry.line, entry.path, wrong.what, wrong.instead)
    return found


def read_zones(reader: Reader, node: yaml.Node | None, path: str) -> tuple[Zone, ...]:
    zones = []
    for entry in _named(reader, node, path):
        try:
            zones.append(Zone(entry.name, _corners(entry.value)))
        except Wrong as wrong:
            reader.fault(entry.line, entry.path, wrong.what, wrong.instead)
    return tuple(zones)


def _corners(node: yaml.Node) -> tuple[Point, ...]:
    """Raises Wrong."""
    if not isinstance(node, yaml.SequenceNode):
        raise Wrong("a zone is a list of corners", "[[0.1, 0.2], [0.6, 0.2], [0.6, 0.9]]")
    if len(node.value) > CORNERS_MOST:
        raise Wrong(
            f"{len(node.value)} corners are too many, {CORNERS_MOST} at most", "Leave out what does not matter."
        )
    corners = [_point(corner) for corner in node.value]
    if len(corners) > 1 and corners[0] == corners[-1]:
        corners.pop()  # drawing tools close a polygon by its first corner
    if len(set(corners)) < len(corners):
        raise Wrong("two corners are the same", "Take one of them out.")
    if len(corners) < 3:
        raise Wrong(f"a zone has at least three corners, not {len(corners)}", "[[0.1, 0.2], [0.6, 0.2], [0.6, 0.9]]")
    crossing = _self_crossing(corners)
    if crossing is not None:
        first, second = crossing
        raise Wrong(
            f"the zone crosses itself: the side from corner {first + 1} meets the one from corner {second + 1}",
            "Give the corners in order, around the zone.",
        )
    area = abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(corners, corners[1:] + corners[:1], strict=True))) / 2
    if area < 1e-5:  # less than a 4 x 4 square of pixels at 1280x720
        raise Wrong("the zone has no area", "Move its corners apart.")
    return tuple(corners)


def _self_crossing(corners: list[Point]) -> tuple[int, int] | None:
    """The numbers of two sides that meet and are not neighbours, or that lie on each other."""
    count = len(corners)
    sides = [(corners[number], corners[(number + 1) % count]) for number in range(count)]
    for (first, a), (second, b) in itertools.combinations(enumerate(sides), 2):
        if second == first + 1 or (first == 0 and second == count - 1):
            shared = a[1] if second == first + 1 else a[0]
            outer_a, outer_b = (a[0] if shared == a[1] else a[1]), (b[0] if shared == b[1] else b[1])
            # Neighbours share a corner; they may not run back over each other.
            ahead = sum((outer_a[axis] - shared[axis]) * (outer_b[axis] - shared[axis]) for axis in (0, 1)) > 0
            if count > 3 and _turn(outer_a, shared, outer_b) == 0 and ahead:
                return first, second
        elif _meet(*a, *b):
            return first, second
    return None


def _turn(a: Point, b: Point, c: Point) -> int:
    cross = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    return 0 if abs(cross) < 1e-12 else (1 if cross > 0 else -1)


def _meet(a: Point, b: Point, c: Point, d: Point) -> bool:
    """Whether the sides a-b and c-d have a point in common."""
    turns = (_turn(a, b, c), _turn(a, b, d), _turn(c, d, a), _turn(c, d, b))
    if turns[0] != turns[1] and turns[2] != turns[3]:
        return True
    return any(
        turn == 0 and min(p[0], q[0]) <= r[0] <= max(p[0], q[0]) and min(p[1], q[1]) <= r[1] <= max(p[1], q[1])
        for turn, p, q, r in zip(turns, (a, a, c, c), (b, b, d, d), (c, d, a, b), strict=True)
    )


def read_lines(reader: Reader, node: yaml.Node | None, path: str) -> tuple[Line, ...]:
    lines = []
    for entry in _named(reader, node, path):
        ends = reader.entries(entry.value, entry.path)
        for name in ends:
            if name not in ("from", "to"):
                reader.fault(ends[name].line, ends[name].path, "unknown key", "A line has `from` and `to`.")
        try:
            if "from" not in ends or "to" not in ends:
                raise Wrong("a line has two ends", "{from: [0.0, 0.7], to: [1.0, 0.7]}")
            start, end = _point(ends["from"].value), _point(ends["to"].value)
            if start == end:
                raise Wrong("the line begins where it ends", "Move its ends apart.")
            lines.append(Line(entry.name, start, end))
        except Wrong as wrong:
            reader.fault(entry.line, entry.path, wrong.what, wrong.instead)
    return tuple(lines)


# -- hours -------------------------------------------------------------------------------------------


def read_hours(reader: Reader, node: yaml.Node | None, path: str) -> tuple[OpenTime, ...]:
    times: list[OpenTime] = []
    said: dict[int, str] = {}  # day -> the key that gave its hours
    for entry in reader.entries(node, path).values() if node is not None else ():
        try:
            days, spans = _days(entry.name), _spans(scalar(entry.value, "times such as 08:00-14:00"))
            for day in days:
                if day in said:
                    raise Wrong(
                        f"{DAYS[day]} already has its hours from `{said[day]}`",
                        "Give each day once; several times are written 08:00-12:00, 13:00-16:00.",
                    )
                said[day] = entry.name
                times += [OpenTime(day, from_min, to_min) for from_min, to_min in spans]
        except Wrong as wrong:
            reader.fault(entry.line, entry.path, wrong.what, wrong.instead)
    return tuple(sorted(times, key=lambda time: (time.day, time.from_min)))


def _days(text: str) -> list[int]:
    """Raises Wrong."""
    days: list[int] = []
    for part in text.lower().split(","):
        first, dash, last = (word.strip() for word in part.partition("-"))
        numbers = []
        for word in (first, last) if dash else (first,):
            if word not in DAYS:
                near = next((day for day in DAYS if word.startswith(day)), "") or closest(word, DAYS)
                raise Wrong(
                    f"{shown(text)} is no day of the week: {', '.join(DAYS)}",
                    text.lower().replace(word, near) if near and word else "mon-fri",
                )
            numbers.append(DAYS.index(word))
        day = numbers[0]
        days.append(day)
        while day != numbers[-1]:  # fri-mon goes around the weekend
            day = (day + 1) % 7
            days.append(day)
    if len(set(days)) < len(days):
        raise Wrong(f"{shown(text)} names a day twice", "Name each day once.")
    return days


_TIME = re.compile(r"(\d{1,2})[:.](\d{2})", re.ASCII)


def _spans(text: str) -> list[tuple[int, int]]:
    """Times of one day as minutes, in order. Raises Wrong."""
    if text.strip().lower() == "closed":
        return []
    spans: list[tuple[int, int]] = []
    for part in text.split(","):
        ends = [_TIME.fullmatch(word.strip()) for word in part.replace("–", "-").split("-")]
        if len(ends) != 2 or ends[0] is None or ends[1] is None:
            raise Wrong(f"{shown(text)} are no times", '"08:00-12:00, 13:00-16:00", or closed')
        from_min, to_min = (int(end[1]) * 60 + int(end[2]) for end in ends if end)
        if max(from_min, to_min) > _DAY_MIN or any(int(end[2]) > 59 for end in ends if end):
            raise Wrong(f"{shown(part.strip())}: a day ends at 24:00", '"08:00-14:00"')
        if from_min >= to_min:
            raise Wrong(
                f"{shown(part.strip())} ends before it begins",
                "Over midnight: give the evening to one day (22:00-24:00) and the morning to the next (00:00-06:00).",
            )
        if spans and from_min < spans[-1][1]:
            raise Wrong(f"{shown(text)}: the times overlap or are not in order", "Join them, or put the earlier first.")
        spans.append((from_min, to_min))
    return spans


# -- rules -------------------------------------------------------------------------------------------


def read_rules(
    reader: Reader, node: yaml.Node | None, path: str, known: tuple[set[str], set[str]] | None, camera: str
) -> tuple[Rule, ...]:
    """`known`: the zones and lines that rules may name; None in a template, which does not know them yet."""
    rules = []
    for entry in reader.entries(node, path).values() if node is not None else ():
        if entry.name not in site_keys.RULES:
            near = closest(entry.name.replace("-", "_"), site_keys.RULES)
            reader.fault(
                entry.line,
                entry.path,
                "there is no such rule",
                f"{near}:" if near else f"Known: {', '.join(site_keys.RULES)}.",
            )
            continue
        groups = entry.value.value if isinstance(entry.value, yaml.SequenceNode) else [entry.value]
        for group in groups:
            if not isinstance(group, yaml.MappingNode):
                reader.fault(
                    line_of(group),
                    entry.path,
                    "a rule is a group of keys",
                    f"{entry.name}: {{zone: counter}}" if site_keys.RULES[entry.name] else f"{entry.name}: {{}}",
                )
                continue
            keys = reader.entries(group, entry.path)
            settings = reader.section(
                keys, site_keys.RULES[entry.name], path=entry.path, line=line_of(group), elsewhere=site_keys.BELONGS
            )
            if known is not None:
                _check_reference(reader, keys, settings, known, camera)
            rules.append(Rule(entry.name, settings))
    return tuple(rules)


def _check_reference(
    reader: Reader,
    keys: Mapping[str, Entry],
    settings: Mapping[str, Any],
    known: tuple[set[str], set[str]],
    camera: str,
) -> None:
    for what, names in (("zone", known[0]), ("line", known[1])):
        wanted = settings.get(what)
        if wanted and wanted not in names:
            near = closest(wanted, names) or next(iter(sorted(names)), "")
            reader.fault(
                keys[what].line,
                keys[what].path,
                f"camera {camera} has no {what} {shown(wanted)}",
                f"{what}: {near}" if near else f"Add it under `{what}s:`.",
            )
