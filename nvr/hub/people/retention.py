"""How long what the hub holds is kept, by kind and place; what a legal hold protects. Pure; `deleting.py` acts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

DAY_MS = 24 * 3_600_000

# Days. No law sets a number for cameras of a city; these are what the purpose needs, and each place may say less or more.
DEFAULT_DAYS: dict[str, int] = {
    "clip": 30,
    "still": 90,  # of events
    "event": 400,  # a year of reports, and the month that is being written
    "report": 400,
    "bundle-log": 90,
}
LEAST_DAYS, MOST_DAYS = 1, 3650

EXPIRED, ASKED = "expired", "asked for by a person"  # why something was deleted


@dataclass(frozen=True, slots=True)
class Kept:
    """One thing the hub holds: a clip, the still of an event, an event."""

    kind: str
    place_id: int | None
    camera_id: int | None
    from_ms: int  # when it was seen; 0: not known
    to_ms: int
    stored_ms: int  # when it came


@dataclass(frozen=True, slots=True)
class LegalHold:
    """Footage somebody needs: of one place, or one camera of it, for a span. It counts more than every retention and every request."""

    id: int
    place_id: int | None  # None: all places
    camera_id: int | None  # None: all cameras of the place
    from_ms: int
    to_ms: int

    def protects(self, kept: Kept) -> bool:
        if self.camera_id is not None and kept.camera_id != self.camera_id:
            return False
        if self.place_id is not None and kept.place_id != self.place_id:
            return False
        if not kept.from_ms:
            return True  # when it was seen is not known: it may be inside
        return kept.from_ms < self.to_ms and self.from_ms < max(kept.to_ms, kept.from_ms + 1)


def days(retention: Mapping[str, Any] | None, kind: str) -> int:
    """Of one place; what it does not say, or says wrongly, is the default. A wrong number never deletes."""
    default = DEFAULT_DAYS.get(kind, DEFAULT_DAYS["clip"])
    said = (retention or {}).get(f"{kind}_days")
    if isinstance(said, bool) or not isinstance(said, int) or not LEAST_DAYS <= said <= MOST_DAYS:
        return default
    return said


def is_expired(kept: Kept, retention: Mapping[str, Any] | None, holds: Iterable[LegalHold], now_ms: int) -> bool:
    """By when it came: a box may send what it saw weeks ago, and that must not vanish before anybody saw it.

    Things that seem to come from the future, because the hub's clock was wrong once, stay.
    """
    is_old = now_ms - kept.stored_ms > days(retention, kept.kind) * DAY_MS
    return is_old and not any(hold.protects(kept) for hold in holds)


def is_asked_for(kept: Kept, place_ids: frozenset[int] | None, from_ms: int, to_ms: int) -> bool:
    """Whether a granted request covers it. What has no known time is not deleted by a guess: a person decides."""
    if place_ids is not None and kept.place_id not in place_ids:
        return False
    return bool(kept.from_ms) and kept.from_ms < to_ms and from_ms < max(kept.to_ms, kept.from_ms + 1)
