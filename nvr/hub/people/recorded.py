"""What a box recorded of a camera, as far as the hub was told: by the minute from its heartbeats, to the second where it counted. Pure.

A box counts when somebody asks it to (`ledger` in nvr/wire.py); its last count of a stretch stays good for when it is silent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from nvr.media import Cause

MINUTE_MS = 60_000
_CAUSES = frozenset(cause.value for cause in Cause)

Span = dict[str, Any]  # from_ms, to_ms, what, cause


@dataclass(frozen=True, slots=True)
class Minute:
    """What a box said of a camera in one minute of the history."""

    minute: int  # since 1970
    is_recording: bool | None  # None: it did not say
    cause: str


@dataclass(frozen=True, slots=True)
class Count:
    """A stretch of one camera as its box counted it; what is no gap was recorded."""

    asked_ms: int  # the begin that it was asked for: nothing was ever recorded between this and `from_ms`
    from_ms: int
    to_ms: int
    at_ms: int  # when it said so
    gaps: tuple[tuple[int, int, str], ...]  # from, to, cause; in order, apart from each other


def count_of(told: object, asked_ms: int, at_ms: int) -> Count | None:
    """What a box answered to who asked from `asked_ms` on; None for what is none, because a box may say anything."""
    if not isinstance(told, dict):
        return None
    from_ms, to_ms, gaps = told.get("from_ms"), told.get("to_ms"), told.get("gaps")
    if not _is_ms(from_ms) or not _is_ms(to_ms) or not isinstance(gaps, list):
        return None
    found, end_ms = [], from_ms
    for gap in gaps:
        if not isinstance(gap, list) or len(gap) != 3 or not _is_ms(gap[0]) or not _is_ms(gap[1]):
            return None
        if not end_ms <= gap[0] < gap[1] <= to_ms:
            return None
        end_ms = gap[1]
        found.append(
            (gap[0], gap[1], gap[2] if isinstance(gap[2], str) and gap[2] in _CAUSES else Cause.NOT_KNOWN.value)
        )
    return Count(min(asked_ms, from_ms), from_ms, to_ms, at_ms, tuple(found)) if from_ms < to_ms else None


def _is_ms(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def spans_of(minutes: Sequence[Minute], counts: Iterable[Count], from_ms: int, to_ms: int) -> list[Span]:
    """Recorded, missing with its cause, unknown where the box was not heard; in order and without holes.

    `counts`: oldest first; where they lie, they hold, the newest before all.
    """
    spans = by_the_minute(minutes, from_ms, to_ms)
    for count in counts:
        spans = _laid_over(spans, count)
    return spans


def by_the_minute(minutes: Sequence[Minute], from_ms: int, to_ms: int) -> list[Span]:
    """A minute is as the box said in it last; a gap that is shorter may not show."""
    found: list[Span] = []
    at_ms = from_ms
    for each in minutes:
        begin_ms = each.minute * MINUTE_MS
        if begin_ms > at_ms:
            _add(found, at_ms, min(begin_ms, to_ms), "unknown", "not heard")
        what = "unknown" if each.is_recording is None else "recorded" if each.is_recording else "missing"
        _add(found, max(begin_ms, from_ms), min(begin_ms + MINUTE_MS, to_ms), what, each.cause)
        at_ms = max(at_ms, begin_ms + MINUTE_MS)
    _add(found, at_ms, to_ms, "unknown", "not heard")
    return found


def _laid_over(spans: Sequence[Span], count: Count) -> list[Span]:
    """`spans`, but between the ends of `count` what that says."""
    if not spans:
        return []
    from_ms, to_ms = max(count.asked_ms, spans[0]["from_ms"]), min(count.to_ms, spans[-1]["to_ms"])
    if from_ms >= to_ms:
        return list(spans)
    found: list[Span] = []
    for each in spans:
        _add(found, each["from_ms"], min(each["to_ms"], from_ms), each["what"], each["cause"])
    at_ms = min(max(count.from_ms, from_ms), to_ms)
    _add(found, from_ms, at_ms, "unknown", "not heard")
    for gap_from_ms, gap_to_ms, cause in count.gaps:
        gap_from_ms, gap_to_ms = max(gap_from_ms, from_ms), min(gap_to_ms, to_ms)
        if gap_from_ms < gap_to_ms:
            _add(found, at_ms, gap_from_ms, "recorded", "")
            _add(found, gap_from_ms, gap_to_ms, "missing", cause)
            at_ms = gap_to_ms
    _add(found, at_ms, to_ms, "recorded", "")
    for each in spans:
        _add(found, max(each["from_ms"], to_ms), each["to_ms"], each["what"], each["cause"])
    return found


def _add(found: list[Span], from_ms: int, to_ms: int, what: str, cause: str) -> None:
    if from_ms >= to_ms:
        return
    if found and (found[-1]["to_ms"], found[-1]["what"], found[-1]["cause"]) == (from_ms, what, cause):
        found[-1]["to_ms"] = to_ms
    else:
        found.append({"from_ms": from_ms, "to_ms": to_ms, "what": what, "cause": cause})
