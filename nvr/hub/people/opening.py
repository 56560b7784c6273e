"""Opening hours kept: what the rule `service_open` said, day by day, against the hours a place should be open. Pure.

Every second of due time is open, closed, or `cannot tell`; they add up. A state holds until the next one of the same process of the box.
Where the box was restarted meanwhile, it holds until the box was last heard; after that nobody can tell. The newest state holds until the
box was last heard. `closed` is said of the past (docs/decisions/0030-closed-is-said-of-the-past.md): what ends it says how far it was
confirmed; without that it holds for `behind_ms` less.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

OPEN, CLOSED, CANNOT_TELL = "open", "closed", "cannot tell"
STATES = (OPEN, CLOSED, CANNOT_TELL)


@dataclass(frozen=True, slots=True)
class Change:
    """One event of `service_open`: from when on what holds, and whether the place should be open."""

    from_ms: int
    state: str
    due: str  # "open", "closed", "unknown" (may be a holiday: nobody is blamed)
    boot_id: str
    event_id: str = ""
    behind_ms: int = 0  # of `closed` and of what ends it: how much later it was told


@dataclass(frozen=True, slots=True)
class Stretch:
    from_ms: int
    to_ms: int
    state: str
    due: str
    event_id: str


@dataclass(frozen=True, slots=True)
class Day:
    """One place on one day; seconds. `opened_ms` 0: it was not seen open."""

    day: date
    due_s: int
    open_s: int
    closed_s: int
    cannot_tell_s: int
    due_from_ms: int
    due_to_ms: int
    opened_ms: int
    last_open_ms: int
    maybe_holiday_s: int  # due is unknown: told, and counted for nothing

    @property
    def kept(self) -> float | None:
        """Share of what could be judged; None: nothing could."""
        judged = self.open_s + self.closed_s
        return round(self.open_s / judged, 4) if judged else None


def stretches(changes: Sequence[Change], heard: Sequence[tuple[int, int]], until_ms: int) -> list[Stretch]:
    """What held when. `changes` of one zone in the order they were told; `heard`: spans in which the box was heard, in order."""
    found: list[Stretch] = []
    bound_ms = until_ms
    for number in range(len(changes) - 1, -1, -1):
        change, to_ms = changes[number], bound_ms
        if change.from_ms >= to_ms:
            continue  # a newer word rests on what was seen earlier: it counts
        bound_ms = change.from_ms
        behind_ms = change.behind_ms if change.state == CLOSED else 0
        after = changes[number + 1] if number + 1 < len(changes) else None
        # A process that is killed ends no `closed`: what comes after it does not say how far it was confirmed.
        is_trusted = after is not None and after.boot_id == change.boot_id and (not behind_ms or after.behind_ms > 0)
        heard_ms = last_heard_ms(heard, to_ms) - behind_ms
        known_ms = to_ms if is_trusted else min(to_ms, max(change.from_ms, heard_ms))
        if known_ms < to_ms:
            found.append(Stretch(known_ms, to_ms, CANNOT_TELL, change.due, ""))
        if known_ms > change.from_ms:
            found.append(Stretch(change.from_ms, known_ms, change.state, change.due, change.event_id))
    return found[::-1]


def last_heard_ms(heard: Sequence[tuple[int, int]], before_ms: int) -> int:
    """The last moment before `before_ms` at which the box was heard; 0: never."""
    return max((min(to_ms, before_ms) for from_ms, to_ms in heard if from_ms < before_ms), default=0)


def merged(cameras: Iterable[Sequence[Stretch]]) -> list[Stretch]:
    """One place as its cameras judge it: open where one says so, closed where all that judge say so, else `cannot tell`."""
    lists = [list(each) for each in cameras if each]
    if len(lists) <= 1:
        return lists[0] if lists else []
    edges = sorted({edge for each in lists for stretch in each for edge in (stretch.from_ms, stretch.to_ms)})
    found: list[Stretch] = []
    at = [0] * len(lists)
    for from_ms, to_ms in itertools.pairwise(edges):
        there: list[Stretch | None] = []
        for number, each in enumerate(lists):
            while at[number] < len(each) and each[at[number]].to_ms <= from_ms:
                at[number] += 1
            stretch = each[at[number]] if at[number] < len(each) else None
            there.append(stretch if stretch is not None and stretch.from_ms <= from_ms else None)
        said = [each for each in there if each is not None]
        if not said:
            continue
        dues = {each.due for each in said}
        due = next((each for each in ("open", "unknown", "closed") if each in dues), "unknown")
        opened = next((each for each in said if each.state == OPEN), None)
        is_closed = len(said) == len(lists) and all(each.state == CLOSED for each in said)
        state = OPEN if opened else CLOSED if is_closed else CANNOT_TELL
        event_id = opened.event_id if opened else said[0].event_id
        if found and (found[-1].to_ms, found[-1].state, found[-1].due) == (from_ms, state, due):
            found[-1] = Stretch(found[-1].from_ms, to_ms, state, due, found[-1].event_id)
        else:
            found.append(Stretch(from_ms, to_ms, state, due, event_id))
    return found


def days(held: Iterable[Stretch], zone: ZoneInfo, first: date, last: date) -> list[Day]:
    """One row for each day of which anything is known."""
    by_day: dict[date, list[Stretch]] = {}
    for stretch in held:
        day = datetime.fromtimestamp(stretch.from_ms / 1000, zone).date()
        while True:
            begin_ms, end_ms = day_ms(day, zone), day_ms(day + timedelta(days=1), zone)
            from_ms, to_ms = max(stretch.from_ms, begin_ms), min(stretch.to_ms, end_ms)
            if from_ms < to_ms and first <= day <= last:
                by_day.setdefault(day, []).append(Stretch(from_ms, to_ms, stretch.state, stretch.due, stretch.event_id))
            if stretch.to_ms <= end_ms or day > last:
                break
            day += timedelta(days=1)
    return [_day(day, by_day[day]) for day in sorted(by_day)]


def _day(day: date, held: Sequence[Stretch]) -> Day:
    due = [each for each in held if each.due == "open"]
    sums_ms = {state: sum(each.to_ms - each.from_ms for each in due if each.state == state) for state in STATES}
    opened = [each for each in due if each.state == OPEN]
    seconds = {state: round(ms / 1000) for state, ms in sums_ms.items()}
    return Day(
        day, sum(seconds.values()), seconds[OPEN], seconds[CLOSED], seconds[CANNOT_TELL],
        min((each.from_ms for each in due), default=0), max((each.to_ms for each in due), default=0),
        min((each.from_ms for each in opened), default=0), max((each.to_ms for each in opened), default=0),
        round(sum(each.to_ms - each.from_ms for each in held if each.due == "unknown") / 1000),
    )  # fmt: skip


def day_ms(day: date, zone: ZoneInfo) -> int:
    """When a day begins there."""
    return round(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() * 1000)


def month_span(month: str, zone: ZoneInfo) -> tuple[date, date, int, int]:
    """First and last day, begin and end in ms. `month` is `2026-11`. Raises ValueError."""
    if len(month) != 7 or month[4] != "-" or not (month[:4] + month[5:]).isdigit() or not month.isascii():
        raise ValueError("a month is written 2026-11")
    year, number = int(month[:4]), int(month[5:])
    if not 2000 <= year <= 2200:
        raise ValueError("a year from 2000 to 2200")
    first = date(year, number, 1)
    after = date(year + number // 12, number % 12 + 1, 1)
    return first, after - timedelta(days=1), day_ms(first, zone), day_ms(after, zone)
