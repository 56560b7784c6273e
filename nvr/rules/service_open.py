"""`service_open`: is this place serving people? `open`, `closed` or `cannot tell`, and what that rests on.

`closed` accuses somebody, so it needs the whole of: opening hours that are certain, a clock that is known, and a camera that could see the zone
without a break for `quiet_s` and saw nobody. Whatever is missing makes it `cannot tell`, at once. Outside opening
hours nothing is claimed; `due` says what the place should be.

A frozen or looped picture shows itself only after a while, and what was believed until then was false. So `closed` never speaks of the last
CONFIRM_S: it is said of a span that ends so long ago, when everything has had the time to show that the span was not what the camera
saw. An event rests on `from_ns` to `to_ns`, and its state holds from `to_ns` on; `behind_s` is how much later it was told. While `closed` stands, it
holds up to `behind_s` before now. What ends it is a `cannot tell` whose `to_ns` is the last confirmed moment, before anything else is said; so whoever
goes from one `to_ns` to the next never counts a second that was not confirmed (docs/decisions/0030-closed-is-said-of-the-past.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from nvr.rules.debounce import Debounced
from nvr.rules.rule import CANNOT_TELL, NS_PER_S, event, is_motion_only, people, seconds
from nvr.rules.schedule import Due, Hours, Schedule
from nvr.rules.tamper import blindness
from nvr.scene import PERSON, Event, Facts, InZone, Rect, ZoneFacts

OPEN, CLOSED = "open", "closed"

# How far back loops.py recognises a loop (HISTORY_NS, 5 minutes), what must repeat before rules/tamper.py believes it (5 s), and some
# frames more. Everything else that blinds a camera shows itself within seconds.
CONFIRM_S = 310.0

_OPEN_HOLD_S = 3.0  # a false detection rarely lasts so long
_DOUBT_HOLD_S = 10.0  # somebody in front of the lens does not end an open place
_LOOKED_NS = 3 * NS_PER_S  # something moved for so long and the model had no time to look
_GAP_NS = 5 * NS_PER_S  # without any facts
_MOTION_SHARE = 0.02
_SEATS_MOST = 8
_SAME_SEAT = 0.3  # iou
_MOTION_FACTOR = 2  # without a model, stillness must last twice as long


@dataclass(frozen=True, slots=True)
class Verdict:
    state: str
    why: str
    from_ns: int  # since when what it rests on was seen


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is remembered; media time."""

    watching_ns: int | None = None  # since when the camera sees the zone without a break, within these hours
    seen_ns: int | None = None  # when somebody was last there
    since_ns: int | None = None  # when they came, if nobody was there for `quiet` before


def verdict(
    at_ns: int, hours: Hours | None, blind: str, evidence: Evidence, quiet_ns: int, late_ns: int, confirm_ns: int
) -> Verdict:
    """What can be said now. `late_ns`: media time before which nobody is called late."""
    if hours is None:
        return Verdict(CANNOT_TELL, "the clock is not known", at_ns)
    if hours.due is Due.CLOSED:
        return Verdict(CANNOT_TELL, hours.why, at_ns)
    if blind or evidence.watching_ns is None:
        return Verdict(CANNOT_TELL, blind or "not watched yet", at_ns)
    if evidence.seen_ns is not None and at_ns - evidence.seen_ns < quiet_ns:
        return Verdict(OPEN, "people are there", evidence.seen_ns if evidence.since_ns is None else evidence.since_ns)
    quiet_since_ns = max(evidence.watching_ns, evidence.seen_ns or 0)
    confirmed_ns = at_ns - confirm_ns
    if confirmed_ns - quiet_since_ns < quiet_ns:
        return Verdict(
            CANNOT_TELL, f"nobody seen, for less than {seconds(quiet_ns + confirm_ns):.0f} s", quiet_since_ns
        )
    if hours.due is Due.UNKNOWN:
        return Verdict(CANNOT_TELL, hours.why, quiet_since_ns)
    if confirmed_ns < late_ns:
        return Verdict(CANNOT_TELL, "opening time was just now", quiet_since_ns)
    return Verdict(CLOSED, "nobody was seen in opening hours", quiet_since_ns)


def remembered(evidence: Evidence, at_ns: int, is_blind: bool, is_somebody: bool, quiet_ns: int) -> Evidence:
    if is_blind:
        return Evidence(None, evidence.seen_ns, evidence.since_ns)
    watching_ns = at_ns if evidence.watching_ns is None else evidence.watching_ns
    if not is_somebody:
        return Evidence(watching_ns, evidence.seen_ns, evidence.since_ns)
    is_new = evidence.seen_ns is None or at_ns - evidence.seen_ns >= quiet_ns
    return Evidence(watching_ns, at_ns, at_ns if is_new else evidence.since_ns)


class ServiceOpen:
    kind = "service_open"

    def __init__(
        self,
        zone: str,
        schedule: Schedule,
        *,
        quiet_s: float = 600.0,
        grace_s: float = 900.0,
        confirm_s: float = CONFIRM_S,
    ) -> None:
        self.where = zone
        self._confirm_ns = round(confirm_s * NS_PER_S)
        self._confirmed_ns = 0  # while `closed` stands: until when
        self._told_ns = 0  # `to_ns` of the last event
        self._schedule = schedule
        self._quiet_s = quiet_s
        self._grace_s = grace_s
        self._evidence = Evidence()
        self._hours: Hours | None = None
        self._late_ns = 0
        self._last_ns: int | None = None
        self._seats: list[Rect] = []  # where people who had moved were last seen; the newest last
        self._state: Debounced[str] = Debounced(
            CANNOT_TELL, {OPEN: _OPEN_HOLD_S, CLOSED: 0.0, CANNOT_TELL: _DOUBT_HOLD_S}
        )
        self._told: tuple[str, str] | None = None

    def look(self, facts: Facts) -> list[Event]:
        zone = facts.zone(self.where)
        blind = self._blindness(facts, zone)
        quiet_ns = round(self._quiet_s * NS_PER_S) * (_MOTION_FACTOR if is_motion_only(facts) else 1)
        self._follow_hours(facts)
        there = people(facts, zone)
        sits_still = self._sits_still(zone, there)
        is_somebody = bool(there) or sits_still or (is_motion_only(facts) and zone.motion_share >= _MOTION_SHARE)
        self._evidence = remembered(
            self._evidence, facts.at_ns, bool(blind), is_somebody and not facts.is_light_change, quiet_ns
        )
        found = verdict(facts.at_ns, self._hours, blind, self._evidence, quiet_ns, self._late_ns, self._confirm_ns)
        if found.state == CLOSED and facts.at_ns - self._confirm_ns < self._told_ns:
            # What was told of that moment stands; `closed` holds from later on, so that times only rise.
            found = Verdict(CANNOT_TELL, found.why, found.from_ns)
        self._take(facts, found)
        if self._state.state == CLOSED and found.state == CLOSED:
            self._confirmed_ns = facts.at_ns - self._confirm_ns
        return self._tell(facts, found, tuple(each.track.number for each in there))

    def _sits_still(self, zone: ZoneFacts, there: tuple[InZone, ...]) -> bool:
        """Whether somebody sits where somebody sat before.

        A clerk who was hidden for a while is a new track that never moved. A poster is one too, but nobody ever sat there.
        """
        for each in there:
            rect = each.track.rect
            self._seats = [seat for seat in self._seats if seat.iou(rect) < _SAME_SEAT][1 - _SEATS_MOST :] + [rect]
        return any(seat.iou(each.track.rect) >= _SAME_SEAT for each in zone.parked(PERSON) for seat in self._seats)

    def _blindness(self, facts: Facts, zone: ZoneFacts) -> str:
        gap_ns = 0 if self._last_ns is None else facts.at_ns - self._last_ns
        self._last_ns = facts.at_ns
        if blind := blindness(facts):
            return blind
        if gap_ns > _GAP_NS:
            return "pictures are missing"
        if (
            facts.sight.model
            and facts.at_ns - facts.sight.looked_ns > _LOOKED_NS
            and zone.motion_share >= _MOTION_SHARE
            and not facts.is_light_change
        ):
            return "the box had no time to look"
        return ""

    def _follow_hours(self, facts: Facts) -> None:
        """What was seen in other hours is no evidence for these."""
        if facts.wall_ns is None:
            hours = None
        elif self._hours is not None and self._hours.holds_at(facts.wall_ns):
            return
        else:
            hours = self._schedule.at(facts.wall_ns)
        if hours != self._hours:
            self._evidence = Evidence()
            if hours is not None and facts.wall_ns is not None:
                self._late_ns = facts.at_ns - (facts.wall_ns - hours.from_ns) + round(self._grace_s * NS_PER_S)
        self._hours = hours

    def _take(self, facts: Facts, found: Verdict) -> None:
        at_s = seconds(facts.at_ns)
        is_due = self._hours is not None and self._hours.due is not Due.CLOSED
        if found.state == CANNOT_TELL and (self._state.state == CLOSED or not is_due):
            self._state.take(at_s, CANNOT_TELL)  # an accusation ends with its proof
        else:
            self._state.observe(at_s, found.state)

    def _tell(self, facts: Facts, found: Verdict, tracks: tuple[int, ...]) -> list[Event]:
        due = self._hours.due.value if self._hours is not None else Due.UNKNOWN.value
        state = self._state.state
        if self._told == (state, due):
            return []
        if found.state != state and self._told is not None and self._told[1] == due:
            return []  # still being voted on
        was_closed = self._told is not None and self._told[0] == CLOSED
        self._told = (state, due)
        by = "motion" if is_motion_only(facts) else "people"
        is_same = found.state == state
        from_ns = found.from_ns if is_same else facts.at_ns
        behind_ns = self._confirm_ns if state == CLOSED else 0
        numbers = [("evidence_s", seconds(facts.at_ns - behind_ns - from_ns) if is_same else 0.0)]
        if state == CLOSED:
            numbers.append(("behind_s", seconds(behind_ns)))
        told = event(
            self,
            facts,
            state,
            from_ns,
            tracks=tracks if state == OPEN else (),
            numbers=tuple(numbers),
            words=(("due", due), ("by", by)),
            detail=found.why if is_same else "just began to look",
        )
        told = replace(told, to_ns=told.to_ns - behind_ns)
        ended = self._ended(facts, told) if was_closed else []
        if was_closed and state == CANNOT_TELL:
            return ended
        self._told_ns = told.to_ns
        return [*ended, told]

    def _ended(self, facts: Facts, told: Event) -> list[Event]:
        """`closed` held up to its last confirmed moment: from there on nobody can tell, whatever is said of later."""
        one = event(
            self,
            facts,
            CANNOT_TELL,
            self._confirmed_ns,
            numbers=(("evidence_s", 0.0), ("behind_s", seconds(facts.at_ns - self._confirmed_ns))),
            words=told.words,
            detail=told.detail,
        )
        self._told_ns = self._confirmed_ns
        return [replace(one, to_ns=self._confirmed_ns)]


def closed_spans(events: Iterable[Event], now_ns: int) -> list[tuple[int, int]]:
    """Media time of all that `closed` was said of by the events of one rule; `now_ns` is the last moment that was looked at."""
    found: list[tuple[int, int]] = []
    standing: Event | None = None
    for each in (one for one in events if one.kind == ServiceOpen.kind):
        if standing is not None:
            found.append((standing.to_ns, each.to_ns))
        standing = each if each.state == CLOSED else None
    if standing is not None:
        found.append((standing.to_ns, now_ns - round(dict(standing.numbers)["behind_s"] * NS_PER_S)))
    return found
