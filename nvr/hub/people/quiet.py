"""When a message may be sent: quiet hours in the city's time, and what is put together into one message. Pure.

An alarm passes quiet hours. Everything else waits until they are over and then comes as one message, not as thirty.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

ALARM = 0  # as in wire.VALUES
GROUP_S = 60.0  # what comes within a minute for the same target is one message
_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From, inclusive, to, exclusive, in minutes after midnight; may go over midnight. The same twice: never quiet."""

    from_min: int
    to_min: int

    def holds_at(self, minute: int) -> bool:
        if self.from_min <= self.to_min:
            return self.from_min <= minute < self.to_min
        return minute >= self.from_min or minute < self.to_min


def quiet_hours(text: str) -> QuietHours | None:
    """`22:00-06:00`; None for the empty text. Raises ValueError."""
    if not text:
        return None
    match = _HOURS.fullmatch(text)
    if match is None:
        raise ValueError("quiet hours are written 22:00-06:00")
    hours = [int(part) for part in match.groups()]
    return QuietHours(hours[0] * 60 + hours[1], hours[2] * 60 + hours[3])


def send_at_ms(now_ms: int, value: int, quiet: QuietHours | None, zone: ZoneInfo) -> int:
    """When a message that came up now may be sent: now, or when quiet hours are over."""
    if value <= ALARM or quiet is None:
        return now_ms
    local = datetime.fromtimestamp(now_ms / 1000, zone)
    if not quiet.holds_at(local.hour * 60 + local.minute):
        return now_ms
    end = local.replace(hour=quiet.to_min // 60, minute=quiet.to_min % 60, second=0, microsecond=0, fold=0)
    if end <= local:
        end += timedelta(days=1)
    return round(end.astimezone(UTC).timestamp() * 1000)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message that waits for one target."""

    id: int
    value: int
    created_ms: int
    due_ms: int


def batch(waiting: Sequence[Waiting], now_ms: int, group_s: float = GROUP_S, most: int = 20) -> list[Waiting]:
    """What goes out together now, for one target; empty: nothing yet.

    An alarm goes at once and takes along what is due. Others wait until the oldest has waited for `group_s`, so that what one
    cause sets off (a power cut, twelve boxes) is one message.
    """
    due = sorted(
        (each for each in waiting if each.due_ms <= now_ms), key=lambda each: (each.value, each.created_ms, each.id)
    )
    if not due:
        return []
    is_urgent = due[0].value <= ALARM
    oldest_ms = min(max(each.created_ms, each.due_ms) for each in due)
    if not is_urgent and now_ms - oldest_ms < group_s * 1000:
        return []
    return due[:most]


def retry_at_ms(now_ms: int, tries: int) -> int | None:
    """When to try again after the `tries`-th failure; None: give up, three days are over."""
    waits_s = (10, 30, 120, 600, 1800, 3600, 4 * 3600, 8 * 3600, 12 * 3600, 24 * 3600, 24 * 3600)
    return now_ms + waits_s[tries - 1] * 1000 if 1 <= tries <= len(waits_s) else None
