"""Opening hours as time goes by: should this place be open now, why, and until when.

Days and hours are meant in the site's time zone; breaks are the times between two openings of one day. A day that may
turn out to be a holiday (a decree or a moon sighting settles it) makes the answer `unknown`: nobody is blamed for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import Enum
from zoneinfo import ZoneInfo

from nvr.site_holidays import Holiday, Holidays
from nvr.site_scene import DAYS, OpenTime

_NS = 1_000_000_000
_LOOK_DAYS = 8  # a place that opens less than once a week has no opening hours


class Due(str, Enum):
    """What a place should be."""

    OPEN = "open"
    CLOSED = "closed"
    UNKNOWN = "unknown"  # the day may be a holiday


@dataclass(frozen=True, slots=True)
class Hours:
    """What a schedule says about one instant, and for how long the same holds."""

    due: Due
    why: str  # "opening hours", "break until 13:00", "closed on sun", "holiday: Hari Suci Nyepi"
    from_ns: int  # wall time
    to_ns: int  # not part of it; at the latest, the next thing may be of the same kind

    def holds_at(self, wall_ns: int) -> bool:
        return self.from_ns <= wall_ns < self.to_ns


@dataclass(frozen=True, slots=True)
class Schedule:
    zone: ZoneInfo
    hours: tuple[OpenTime, ...]
    holidays: Holidays = field(default_factory=Holidays)

    def at(self, wall_ns: int) -> Hours:
        """Pure, for any time; the same for all instants between `from_ns` and `to_ns` of the answer."""
        today = datetime.fromtimestamp(wall_ns // _NS, self.zone).date()
        spans = self._day(today)
        number = next(number for number, span in enumerate(spans) if span.from_ns <= wall_ns < span.to_ns)
        found = spans[number]
        if number == 0:
            found = self._joined_back(found, today)
        if number == len(spans) - 1:
            found = self._joined_on(found, today)
        return found

    def first_opening_ns(self, after_ns: int) -> int | None:
        """When the place opens next, holidays considered; None when it has no hours in the coming weeks."""
        day = datetime.fromtimestamp(after_ns // _NS, self.zone).date()
        for offset in range(60):
            for span in self._day(day + timedelta(days=offset)):
                if span.due is Due.OPEN and span.to_ns > after_ns:
                    return max(span.from_ns, after_ns)
        return None

    def _joined_back(self, found: Hours, day: date) -> Hours:
        """Extended over midnights, so that a night shift is one opening."""
        for offset in range(1, _LOOK_DAYS):
            before = self._day(day - timedelta(days=offset))
            if before[-1].due is not found.due or (found.due is not Due.OPEN and before[-1].why != found.why):
                break
            found = Hours(found.due, found.why, before[-1].from_ns, found.to_ns)
            if len(before) > 1:
                break
        return found

    def _joined_on(self, found: Hours, day: date) -> Hours:
        for offset in range(1, _LOOK_DAYS):
            after = self._day(day + timedelta(days=offset))
            if after[0].due is not found.due or (found.due is not Due.OPEN and after[0].why != found.why):
                break
            found = Hours(found.due, found.why, found.from_ns, after[0].to_ns)
            if len(after) > 1:
                break
        return found

    def _day(self, day: date) -> list[Hours]:
        """All of one day, in order and without holes."""
        holiday = self.holidays.on(day)
        begin_ns, end_ns = self._wall_ns(day, 0), self._wall_ns(day + timedelta(days=1), 0)
        times = [time for time in self.hours if time.day == day.weekday()]
        if not times:
            return [Hours(Due.CLOSED, f"closed on {DAYS[day.weekday()]}", begin_ns, end_ns)]
        if holiday is not None and holiday.is_certain:
            return [Hours(Due.CLOSED, f"holiday: {holiday.name}", begin_ns, end_ns)]
        spans: list[Hours] = []
        at_ns = begin_ns
        for number, time in enumerate(times):
            from_ns, to_ns = self._wall_ns(day, time.from_min), self._wall_ns(day, time.to_min)
            if from_ns > at_ns:
                why = f"opens at {_clock(time.from_min)}" if number == 0 else f"break until {_clock(time.from_min)}"
                spans.append(Hours(Due.CLOSED, why, at_ns, from_ns))
            if to_ns > max(from_ns, at_ns):  # else the clock was put forward over all of it
                spans.append(_opening(holiday, max(from_ns, at_ns), to_ns))
                at_ns = to_ns
            else:
                at_ns = max(at_ns, from_ns)
        if at_ns < end_ns:
            spans.append(Hours(Due.CLOSED, f"closed since {_clock(times[-1].to_min)}", at_ns, end_ns))
        return spans

    def _wall_ns(self, day: date, minutes: int) -> int:
        day, minutes = day + timedelta(days=minutes // 1440), minutes % 1440
        moment = datetime(day.year, day.month, day.day, minutes // 60, minutes % 60, tzinfo=self.zone)
        return round(moment.timestamp()) * _NS


def _opening(holiday: Holiday | None, from_ns: int, to_ns: int) -> Hours:
    if holiday is None:
        return Hours(Due.OPEN, "opening hours", from_ns, to_ns)
    return Hours(Due.UNKNOWN, f"may be a holiday, not settled yet: {holiday.name}", from_ns, to_ns)


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"
