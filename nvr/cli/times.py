"""Times as people type them, and as we print them: ISO 8601 with an offset, in the site's time zone."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_AGO = re.compile(r"-\s*(\d{1,9})\s*([smhd])", re.ASCII)
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_CLOCK = re.compile(r"(\d{1,2}):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?", re.ASCII)
_HOW = 'write 2026-07-01T14:03:00+09:00, or at the site "2026-07-01 14:03", "14:03", "yesterday 14:03", "-10m" or "now"'


def parsed_ns(text: str, zone: tzinfo, now: datetime) -> int:
    """Nanoseconds since 1970 UTC of a time somebody typed; without an offset it is meant in `zone`.

    "14:03" is the last time it was 14:03. A local time that comes twice, when clocks are set back, is the first
    of the two. Raises ValueError with a sentence for a person.
    """
    text = text.strip()
    if text.lower() == "now":
        return _ns(now)
    if match := _AGO.fullmatch(text):
        return _checked(_ns(now) - int(match[1]) * _UNIT_S[match[2]] * 1_000_000_000, text)
    day, _, clock = text.lower().partition(" ")
    if day in ("today", "yesterday"):
        date = (now.astimezone(zone) - timedelta(days=day == "yesterday")).date()
        return _at(date.isoformat(), clock or "00:00", zone, text)
    if _CLOCK.fullmatch(text):
        date = now.astimezone(zone).date()
        at_ns = _at(date.isoformat(), text, zone, text)
        return at_ns if at_ns <= _ns(now) else _at((date - timedelta(days=1)).isoformat(), text, zone, text)
    return _iso_ns(text, zone)


def _at(date: str, clock: str, zone: tzinfo, text: str) -> int:
    match = _CLOCK.fullmatch(clock)
    if match is None:
        raise ValueError(f"{text!r} is no time: {_HOW}")
    hour, minute, second, fraction = match.groups()
    return _iso_ns(f"{date}T{int(hour):02}:{minute}:{second or '00'}.{(fraction or '0'):0<9}", zone, text)


def _iso_ns(text: str, zone: tzinfo, typed: str = "") -> int:
    # datetime keeps microseconds; what lies behind them is added by hand.
    match = re.fullmatch(r"(.*\d{2}:\d{2}:\d{2}[.,]\d{6})(\d{1,3})\d*(.*)", text)
    nanoseconds = int(f"{match[2]:0<3}") if match else 0
    try:
        moment = datetime.fromisoformat(match[1] + match[3] if match else text)
    except ValueError:
        raise ValueError(f"{(typed or text)!r} is no time: {_HOW}") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    try:
        return _checked(_ns(moment) + nanoseconds, text)
    except OverflowError:
        raise ValueError(f"{text!r} lies outside the years 1970 to 9999") from None


def _checked(ns: int, text: str) -> int:
    if not 0 <= ns < 253_402_300_800 * 1_000_000_000:
        raise ValueError(f"{text!r} lies outside the years 1970 to 9999")
    return ns


def _ns(moment: datetime) -> int:
    since = moment - _EPOCH
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1000


def iso(wall_ns: int, zone: tzinfo) -> str:
    """2026-07-01T14:03:00.120+09:00, cut to milliseconds; nothing is later than the year 9999."""
    seconds, rest_ns = divmod(max(wall_ns, 0), 1_000_000_000)
    moment = datetime.fromtimestamp(min(seconds, 253_402_214_400), UTC).astimezone(zone)
    return moment.replace(microsecond=rest_ns // 1_000_000 * 1000).isoformat(timespec="milliseconds")


def zone_of_this_machine() -> tzinfo:
    """By name where the machine has one, so that past offsets are right; UTC when it has none."""
    for name in (_zone_name(),):
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            pass
    return UTC


def _zone_name() -> str:
    import os

    if os.environ.get("TZ"):
        return os.environ["TZ"].lstrip(":")
    try:
        return str(Path("/etc/localtime").resolve()).partition("zoneinfo/")[2] or "UTC"
    except OSError:
        return "UTC"
