"""Working days of a small office: who is at the counter when, what the camera can see, and what may be said of it.

A day has its opening hours and what really happened: late, early, a lunch break, a holiday, an absence, and everything that
can be wrong with the camera or the box. `truth_at()` is what a fair person who knows everything would allow to be said.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from nvr.scene import CAR, PERSON, Detection, Facts, Health, Rect, Tamper, Zone
from tools.scenes.telling import CLEAR, Teller, There

ZONE = Zone("counter", ((0.55, 0.2), (0.95, 0.2), (0.95, 0.9), (0.55, 0.9)))
TIME_ZONE = ZoneInfo("Asia/Jayapura")
QUIET_S = (
    600.0  # an empty counter for less than this closes nothing; whoever leaves is out of the zone some seconds earlier
)
_NS = 1_000_000_000
_H = 3600

# Faults of the camera or the box that make the honest answer "cannot tell", by what the box notices of them.
BLIND = (
    "covered",
    "dark",
    "out of focus",
    "moved",
    "frozen",
    "looped",
    "absent",
    "box off",
    "no clock",
    "no model time",
)


@dataclass(frozen=True, slots=True)
class Spell:
    """Something lasts from one time of the day to another, in seconds since midnight."""

    what: str
    from_s: float
    to_s: float

    def holds(self, at_s: float) -> bool:
        return self.from_s <= at_s < self.to_s


@dataclass(frozen=True, slots=True)
class Day:
    name: str
    day: date
    hours: tuple[Spell, ...]  # when it should be open
    staffed: tuple[Spell, ...]  # when somebody really is at the counter
    wrong: tuple[Spell, ...] = ()  # of BLIND
    unseen: tuple[Spell, ...] = ()  # somebody is there and the detector does not tell: behind a screen, bent down
    is_holiday: bool = False
    from_s: float = 7.5 * _H  # what is looked at of it
    until_s: float = 17 * _H

    def blind(self, at_s: float) -> str:
        return next((spell.what for spell in self.wrong if spell.holds(at_s)), "")

    def truth_at(self, at_s: float) -> frozenset[str]:
        """All that may be said at this moment; `cannot tell` alone where anything else would be a lie."""
        if self.is_holiday or not any(spell.holds(at_s) for spell in self.hours) or self.blind(at_s):
            return frozenset(("cannot tell",))
        if any(spell.holds(at_s) for spell in self.staffed):
            return frozenset(("open", "cannot tell")) if self._came_s(at_s) < QUIET_S else frozenset(("open",))
        left_s = max((spell.to_s for spell in self.staffed if spell.to_s <= at_s), default=0.0)
        opened_s = max(spell.from_s for spell in self.hours if spell.holds(at_s))
        saw_s = max((spell.to_s for spell in self.wrong if spell.to_s <= at_s), default=0.0)
        if at_s - max(left_s, opened_s, saw_s) < 2 * QUIET_S:
            return frozenset(
                ("open", "cannot tell", "closed") if at_s - left_s > QUIET_S - 15 else ("open", "cannot tell")
            )
        return frozenset(("closed",))

    def _came_s(self, at_s: float) -> float:
        """Since when both somebody is there and the camera sees."""
        came_s = max(spell.from_s for spell in self.staffed if spell.holds(at_s))
        saw_s = max((spell.to_s for spell in self.wrong if spell.to_s <= at_s), default=0.0)
        return at_s - max(came_s, saw_s)

    def wall_ns(self, at_s: float) -> int:
        midnight = datetime(self.day.year, self.day.month, self.day.day, tzinfo=TIME_ZONE)
        return round((midnight + timedelta(seconds=at_s)).timestamp() * _NS)


FULL = (Spell("open", 8 * _H, 12 * _H), Spell("open", 13 * _H, 16 * _H))
_NORMAL = (Spell("clerk", 7.9 * _H, 12.05 * _H), Spell("clerk", 12.95 * _H, 16.1 * _H))
_MONDAY = date(2026, 3, 9)


def _days() -> tuple[Day, ...]:
    tuesday, wednesday = _MONDAY + timedelta(days=1), _MONDAY + timedelta(days=2)
    lunch_s = 12.6 * _H
    days = [
        Day("as it should be", _MONDAY, FULL, _NORMAL),
        Day("opens 70 minutes late", tuesday, FULL, (Spell("clerk", 9.17 * _H, 12 * _H), _NORMAL[1])),
        Day("closes 80 minutes early", wednesday, FULL, (_NORMAL[0], Spell("clerk", 12.95 * _H, 14.67 * _H))),
        Day("never opens", _MONDAY, FULL, ()),
        Day("a long lunch", tuesday, FULL, (_NORMAL[0], Spell("clerk", 14 * _H, 16.1 * _H))),
        Day("holiday", date(2026, 1, 1), FULL, (), is_holiday=True),
        Day("Sunday", date(2026, 3, 15), (), ()),
        Day("cleaner at night", wednesday, FULL, (Spell("cleaner", 5 * _H, 6 * _H), *_NORMAL, Spell("late", 18 * _H, 19 * _H)), from_s=4 * _H, until_s=20 * _H),
        Day(
            "clerk behind a screen", _MONDAY, FULL, _NORMAL,
            unseen=tuple(Spell("screen", 8.5 * _H + k * 1200, 8.5 * _H + k * 1200 + 480) for k in range(20)),
        ),
    ]  # fmt: skip
    # Each fault on a day when nobody is there, so that a false `closed` would be easy; and on a staffed one.
    for number, what in enumerate(BLIND):
        spell = Spell(what, 9.2 * _H + 137 * number, 11.4 * _H + 61 * number)
        days.append(
            Day(
                f"{what}, nobody there",
                tuesday,
                FULL,
                (Spell("clerk", 7.9 * _H, 9.1 * _H),),
                (spell,),
                from_s=8.8 * _H,
                until_s=lunch_s,
            )
        )
        days.append(Day(f"{what}, staffed", wednesday, FULL, _NORMAL, (spell,), from_s=8.8 * _H, until_s=lunch_s))
        days.append(
            Day(
                f"{what} from before opening",
                _MONDAY,
                FULL,
                (),
                (Spell(what, 6 * _H, 9.5 * _H),),
                from_s=7.8 * _H,
                until_s=10 * _H,
            )
        )
    return tuple(days)


DAYS = _days()


def wrong_tamper(what: str, since_s: float) -> Tamper:
    """What the picture's numbers are while something is wrong with it."""
    for_ns = round(since_s * _NS)
    return {
        "covered": replace(CLEAR, brightness=0.3, contrast=0.03, dark_share=0.0, sharpness=0.05, edges_kept=0.02, detail=0.02),
        "dark": replace(CLEAR, brightness=0.03, contrast=0.01, dark_share=0.99, sharpness=0.1, edges_kept=0.05, detail=0.05),
        "out of focus": replace(CLEAR, sharpness=0.06, edges_kept=0.15, detail=0.35),
        "moved": replace(CLEAR, edges_kept=0.15, shift=(0.2, 0.05), shift_trust=0.8),
        "frozen": replace(CLEAR, frozen_ns=for_ns),
        "looped": replace(CLEAR, loop_ns=max(0, for_ns - 20 * _NS), loop_period_ns=20 * _NS),
    }.get(what, CLEAR)  # fmt: skip


def facts_of(day: Day, *, every_s: float = 1.0, seed: int = 1) -> Iterator[tuple[float, Facts]]:
    """One day as facts, (second of the day, facts)."""
    chance = random.Random(seed)
    teller = Teller([ZONE], every_s=every_s, camera="hall", wall_at_0_ns=day.wall_ns(0))
    poster = Detection(Rect(0.6, 0.22, 0.66, 0.42), PERSON, 0.55)  # hangs in the zone and looks like somebody
    last: Facts | None = None
    for step in range(round((day.until_s - day.from_s) / every_s)):
        at_s = day.from_s + step * every_s
        what = day.blind(at_s)
        since_s = next((at_s - spell.from_s for spell in day.wrong if spell.holds(at_s)), 0.0)
        if what == "box off":
            continue
        if what == "absent" and last is not None:
            yield at_s, teller.absent(at_s, last, Health(is_sending=False, cause="network", detail="no route to host"))
            continue
        seen: list[Detection] = []
        there: list[There] = []
        if what not in ("covered", "dark", "out of focus"):
            if chance.random() > 0.4:
                seen.append(poster)
            is_there = any(spell.holds(at_s) for spell in day.staffed)
            is_hidden = any(spell.holds(at_s) for spell in day.unseen) or what in (
                "frozen",
                "looped",
                "moved",
                "no model time",
            )
            if is_there and not is_hidden:
                x = _where(day, at_s)
                # Sits for hours, so the place counts as empty; typing shows now and then.
                goes = abs(x - _SEAT) > 0.005
                there.append(There(Rect(x, 0.35, x + 0.1, 0.8), goes or chance.random() < 0.15, is_new=goes))
                if chance.random() > 0.1:
                    x += 0.004 * chance.gauss(0, 1)
                    seen.append(Detection(Rect(x, 0.35, x + 0.1, 0.8), PERSON, 0.8))
            if chance.random() < 0.002:
                seen.append(Detection(Rect(0.1, 0.6, 0.25, 0.9), CAR, 0.5))
        facts = teller.see(at_s, seen, there, tamper=wrong_tamper(what, since_s))
        if what == "no clock":
            facts = replace(facts, wall_ns=None)
        if what == "no model time":
            stale = replace(facts.sight, looked_ns=round((at_s - since_s) * _NS), shed=round(since_s * 5))
            zones = tuple(replace(zone, motion_share=0.05) for zone in facts.zones)
            facts = replace(facts, sight=stale, zones=zones, motion_share=0.05)
        last = facts
        yield at_s, facts


_SEAT = 0.72


def _where(day: Day, at_s: float) -> float:
    """Left edge of whoever is at the counter: walks in and out, sits, gets up every four minutes to fetch a form."""
    spell = next((spell for spell in day.staffed if spell.holds(at_s)), None)
    if spell is None:
        return _SEAT
    walking_s = min(at_s - spell.from_s, spell.to_s - at_s, 8.0)
    fetching_s = min(at_s % 240, 12.0)
    return _SEAT - 0.45 * (1 - walking_s / 8.0) + 0.12 * math.sin(math.pi * fetching_s / 12.0)
