"""When it was, worked out afterwards: box time of every boot to wall time, with its error and its state.

A box learns the time late (NTP after minutes), wrongly (a flat battery, a person), or never. Fragments therefore
carry box time, which only ever goes on, beside the wall clock as it stood when they were closed: a clock
sample. From all samples of all boots a `Timeline` says when everything was, and says it better as better samples
come in; no media is rewritten. docs/time.md has the reasons and worked examples. In short:

1. In a boot the best kind of sample counts alone: synced, then plausible, then unknown.
2. Between two good samples time is interpolated; beyond them it goes on at the box's own rate. The error grows
   by 500 ppm with the distance from the nearest sample.
3. Samples that contradict each other: the later ones are right (the clock was corrected), unless the earlier
   were ten times surer; the error then covers both.
4. Boots never overlap and keep their order. One that contradicts its neighbours is moved, the least sure first;
   one that never learned the time stands right after the boot before it, with the error that its neighbours leave.

Everything is an integer number of nanoseconds, since 1970-01-01 UTC as the kernel counts (no leap seconds).
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, Protocol, TypeVar

from nvr.clock import MAX_DRIFT_PPM, NS_PER_S
from nvr.media import ClockState, FragmentRecord, Span

FAR_NS = 100 * 365 * 86_400 * NS_PER_S  # an error that says: nobody knows
THIN_NS = 60 * NS_PER_S  # one clock sample a minute says as much as one a second

KNOT_NS = 600 * NS_PER_S  # samples are compared at this distance, so that one leap second bends time by 1/600
SAME_SETTING_NS = 10_000_000  # an undisciplined clock keeps its distance to box time until somebody sets it
_LEAP_NS = 1_100_000_000  # a leap second, and the time it takes to notice


@dataclass(frozen=True, slots=True)
class ClockSample:
    """What the wall clock said at a moment of a boot."""

    boot_id: bytes
    mono_ns: int
    wall_ns: int
    state: ClockState
    error_ns: int
    until_ns: int = 0  # box time up to which this boot certainly lived; 0: no longer than mono_ns


@dataclass(frozen=True, slots=True)
class WallTime:
    """A moment, how wrong that may be, and what kind of clock said so."""

    ns: int
    error_ns: int  # |ns - truth| is at most this, if the clocks that were asked told the truth about themselves
    state: ClockState


@dataclass(frozen=True, slots=True)
class Moment:
    """A stretch of box time in one boot; the end is not part of it."""

    boot_id: bytes
    from_mono_ns: int
    to_mono_ns: int


class Stretch(Protocol):
    """Anything that lies in box time: a FragmentRecord, or several in a row."""

    @property
    def boot_id(self) -> bytes: ...
    @property
    def mono_ns(self) -> int: ...
    @property
    def duration_ns(self) -> int: ...


S = TypeVar("S", bound=Stretch)


@dataclass(frozen=True, slots=True)
class Placed(Generic[S]):
    """A stretch with its place in wall time; those of one stream never overlap."""

    what: S
    from_ns: int
    to_ns: int
    error_ns: int
    state: ClockState


def samples_of(rows: Iterable[FragmentRecord]) -> Iterator[ClockSample]:
    """The clock samples of one stream's fragments, thinned out; `rows` in the order of their sequence numbers."""
    before: FragmentRecord | None = None
    kept: FragmentRecord | None = None
    for row in rows:
        if kept is not None and before is not None:
            if (
                row.boot_id == kept.boot_id
                and row.clock_state is kept.clock_state
                and abs(row.wall_ns - kept.wall_ns - (row.mono_ns - kept.mono_ns)) < SAME_SETTING_NS
                and 0 <= row.mono_ns - kept.mono_ns < THIN_NS
                and row.clock_error_ns >= kept.clock_error_ns
            ):
                before = row
                continue
            if before is not kept:
                yield _sample(before)
        yield _sample(row)
        kept = before = row
    if before is not None and before is not kept:
        yield _sample(before)


def _sample(row: FragmentRecord) -> ClockSample:
    return ClockSample(
        row.boot_id, row.mono_ns, row.wall_ns, row.clock_state, row.clock_error_ns, row.mono_ns + row.duration_ns
    )


class Timeline:
    """Box time of every known boot to wall time; a value: made once from samples, never changed."""

    def __init__(self, boots: Sequence[_Boot]) -> None:
        self._boots = boots
        self._by_id = {boot.boot_id: boot for boot in boots}

    @classmethod
    def from_samples(cls, *histories: Iterable[ClockSample]) -> Timeline:
        """Work out when everything was.

        Each history is in order, oldest boot first: the fragments of one stream, the journal. The order of boots is
        that of the histories together; within a boot the order of samples does not matter.
        """
        by_boot: dict[bytes, list[ClockSample]] = {}
        orders = []
        for history in histories:
            order: dict[bytes, None] = {}
            for sample in history:
                order.setdefault(sample.boot_id)
                by_boot.setdefault(sample.boot_id, []).append(sample)
            orders.append(list(order))
        fitted = {boot_id: _fit(boot_id, samples) for boot_id, samples in by_boot.items()}
        boots = [fitted[boot_id] for boot_id in _in_one_order(orders, fitted)]
        _place(boots)
        _bound(boots)
        return cls(boots)

    @classmethod
    def from_rows(
        cls, rows_by_stream: Iterable[Iterable[FragmentRecord]], *histories: Iterable[ClockSample]
    ) -> Timeline:
        """The same from fragments; rows of each stream in the order of their sequence numbers."""
        return cls.from_samples(*histories, *(samples_of(rows) for rows in rows_by_stream))

    def boots(self) -> list[bytes]:
        """All boots, oldest first."""
        return [boot.boot_id for boot in self._boots]

    def wall_of(self, boot_id: bytes, mono_ns: int) -> WallTime:
        """When that was. A boot nobody has a sample of is nowhere: 1970, unknown."""
        boot = self._by_id.get(boot_id)
        if boot is None:
            return WallTime(mono_ns, FAR_NS, ClockState.UNKNOWN)
        return boot.wall_of(mono_ns)

    def span_of(self, row: FragmentRecord) -> Span:
        """Where one fragment lies by itself. Neighbours may overlap by a drift: place() settles that."""
        return Span(
            row.stream,
            self.wall_of(row.boot_id, row.mono_ns).ns,
            self.wall_of(row.boot_id, row.mono_ns + row.duration_ns).ns,
        )

    def place(self, stretches: Iterable[S]) -> list[Placed[S]]:
        """Stretches of one stream, in the order of recording, to places that never overlap and keep that order.

        Where one reaches into the next by less than half of either (a camera clock that runs fast) it ends where the
        next begins; where it is more (a file played faster than it lasts, then another) the next begins where it ends.
        """
        placed: list[Placed[S]] = []
        for what in stretches:
            begin = self.wall_of(what.boot_id, what.mono_ns)
            from_ns, to_ns = begin.ns, max(self.wall_of(what.boot_id, what.mono_ns + what.duration_ns).ns, begin.ns)
            moved_ns = 0
            if placed and from_ns < placed[-1].to_ns:
                before = placed[-1]
                over_ns = before.to_ns - from_ns
                if (
                    from_ns > before.from_ns
                    and 2 * over_ns <= before.to_ns - before.from_ns
                    and over_ns <= to_ns - from_ns
                ):
                    placed[-1] = Placed(before.what, before.from_ns, from_ns, before.error_ns, before.state)
                else:
                    moved_ns = over_ns
            placed.append(Placed(what, from_ns + moved_ns, to_ns + moved_ns, begin.error_ns + moved_ns, begin.state))
        return placed

    def moments(self, from_ns: int, to_ns: int) -> list[Moment]:
        """Which box time a stretch of wall time is, boot by boot, oldest first: what to look for in the rings."""
        found = []
        for boot in self._boots:
            from_mono_ns, to_mono_ns = boot.mono_at(from_ns), boot.mono_at(to_ns)
            if from_mono_ns < to_mono_ns:
                found.append(Moment(boot.boot_id, from_mono_ns, to_mono_ns))
        return found


# -- one boot ----------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Boot:
    boot_id: bytes
    state: ClockState
    first_ns: int  # box time from which and up to which something is known of this boot
    last_ns: int
    knots_mono: list[int]
    knots_wall: list[int]
    knots_error: list[int]
    widened_ns: int = 0  # contradicting samples, or the distance it was moved
    shift_ns: int = 0
    low_ns: int = -FAR_NS  # by the neighbours, first_ns was no earlier than this
    high_ns: int = FAR_NS * 10  # and last_ns no later

    def wall_of(self, mono_ns: int) -> WallTime:
        wall_ns, error_ns = self.fitted(mono_ns)
        wall_ns += self.shift_ns
        error_ns = min(error_ns + self.widened_ns, FAR_NS)
        low_ns = max(wall_ns - error_ns, self.low_ns + _shrunk(mono_ns - self.first_ns))
        high_ns = min(wall_ns + error_ns, self.high_ns - _shrunk(self.last_ns - mono_ns))
        if low_ns <= high_ns:  # otherwise the neighbours contradict: then they bound nothing
            error_ns = max(wall_ns - low_ns, high_ns - wall_ns)
        return WallTime(wall_ns, min(error_ns, FAR_NS), self.state)

    def fitted(self, mono_ns: int) -> tuple[int, int]:
        """(wall time, error) by this boot's samples alone; wall time rises strictly with box time."""
        knots = self.knots_mono
        right = bisect_right(knots, mono_ns)
        if right == 0 or right == len(knots):
            near = 0 if right == 0 else right - 1
            away_ns = mono_ns - knots[near]
            return self.knots_wall[near] + away_ns, self.knots_error[near] + _drift(abs(away_ns))
        left = right - 1
        left_ns, right_ns = mono_ns - knots[left], knots[right] - mono_ns
        left_wall, right_wall = self.knots_wall[left], self.knots_wall[right]
        wall_ns = left_wall + left_ns * (right_wall - left_wall) // (left_ns + right_ns)
        left_error = self.knots_error[left] + _drift(left_ns)
        right_error = self.knots_error[right] + _drift(right_ns)
        low_ns = max(left_wall + left_ns - left_error, right_wall - right_ns - right_error)
        high_ns = min(left_wall + left_ns + left_error, right_wall - right_ns + right_error)
        if low_ns > high_ns:  # a leap second, or a drift beyond all bounds: either may be right
            low_ns, high_ns = (
                min(low_ns, high_ns) - left_error - right_error,
                max(low_ns, high_ns) + left_error + right_error,
            )
        return wall_ns, max(wall_ns - low_ns, high_ns - wall_ns)

    def mono_at(self, wall_ns: int) -> int:
        """The first moment of this boot at or after `wall_ns`; last_ns if there is none."""
        low_ns, high_ns = self.first_ns, self.last_ns
        while low_ns < high_ns:
            middle_ns = (low_ns + high_ns) // 2
            if self.fitted(middle_ns)[0] + self.shift_ns >= wall_ns:
                high_ns = middle_ns
            else:
                low_ns = middle_ns + 1
        return low_ns


def _drift(away_ns: int) -> int:
    return away_ns * MAX_DRIFT_PPM // 1_000_000 + 1


def _shrunk(length_ns: int) -> int:
    """What this much box time lasted at least; what a negative length lasted at most."""
    return length_ns - _drift(abs(length_ns))


def _fit(boot_id: bytes, samples: Sequence[ClockSample]) -> _Boot:
    first_ns = min(sample.mono_ns for sample in samples)
    last_ns = max(max(sample.mono_ns, sample.until_ns) for sample in samples)
    state = max(sample.state for sample in samples)
    if state is ClockState.UNKNOWN:
        last = max(samples, key=lambda sample: sample.mono_ns)
        return _Boot(boot_id, state, first_ns, last_ns, [last.mono_ns], [last.wall_ns], [FAR_NS])
    best = sorted((sample for sample in samples if sample.state is state), key=lambda sample: sample.mono_ns)
    settings = _settings(best)
    chosen = _setting_to_believe(settings)
    knots = _knots(_not_outdone(chosen))
    boot = _Boot(
        boot_id,
        state,
        first_ns,
        last_ns,
        [k.mono_ns for k in knots],
        [k.wall_ns for k in knots],
        [k.error_ns for k in knots],
    )
    for setting in settings:
        if setting is not chosen:
            for sample in setting:
                wall_ns, error_ns = boot.fitted(sample.mono_ns)
                apart_ns = abs(wall_ns - sample.wall_ns)
                if apart_ns > error_ns + sample.error_ns:
                    boot.widened_ns = max(boot.widened_ns, apart_ns + sample.error_ns - error_ns)
    return boot


def _settings(samples: Sequence[ClockSample]) -> list[list[ClockSample]]:
    """Split where somebody set the clock: there its distance to box time changes by more than it can by itself."""
    settings = [[samples[0]]]
    for before, sample in pairwise(samples):
        away_ns = sample.mono_ns - before.mono_ns
        change_ns = abs(sample.wall_ns - before.wall_ns - away_ns)
        allowed_ns = SAME_SETTING_NS
        if sample.state is ClockState.SYNCED:  # small corrections go on all the time
            allowed_ns = before.error_ns + sample.error_ns + _drift(away_ns) + _LEAP_NS
        if change_ns > allowed_ns:
            settings.append([])
        settings[-1].append(sample)
    return settings


def _setting_to_believe(settings: Sequence[list[ClockSample]]) -> list[ClockSample]:
    """The last, because it corrected the ones before; an earlier one only where it was ten times surer."""
    best, best_error_ns = settings[-1], min(sample.error_ns for sample in settings[-1])
    for setting in reversed(settings[:-1]):
        error_ns = min(sample.error_ns for sample in setting)
        if error_ns * 10 < best_error_ns:
            best, best_error_ns = setting, error_ns
    return best


def _not_outdone(samples: Sequence[ClockSample]) -> list[ClockSample]:
    """Without those that another sample tells better from afar; between answers the kernel's error grows as ours."""
    for _ in range(2):  # forwards, then backwards
        kept: list[ClockSample] = []
        for sample in samples:
            if not kept or sample.error_ns < kept[-1].error_ns + _drift(abs(sample.mono_ns - kept[-1].mono_ns)):
                kept.append(sample)
        samples = kept[::-1]
    return list(samples)


def _go_together(one: ClockSample, other: ClockSample) -> bool:
    away_ns = other.mono_ns - one.mono_ns
    return away_ns >= KNOT_NS and 4 * abs(other.wall_ns - one.wall_ns - away_ns) <= away_ns


def _knots(samples: Sequence[ClockSample]) -> list[ClockSample]:
    """The surest of every ten minutes, and none that would bend time by a quarter."""
    knots: list[ClockSample] = []
    for sample in samples:
        while knots and not _go_together(knots[-1], sample) and sample.error_ns < knots[-1].error_ns:
            knots.pop()
        if not knots or _go_together(knots[-1], sample):
            knots.append(sample)
    return knots


# -- all boots ---------------------------------------------------------------------------------------


def _in_one_order(orders: Sequence[Sequence[bytes]], boots: dict[bytes, _Boot]) -> list[bytes]:
    """One order that keeps all the given ones; boots that no history compares go by their clock.

    Histories that contradict each other (a ring restored from a copy) are followed as far as they agree.
    """
    after: dict[bytes, set[bytes]] = {boot_id: set() for boot_id in boots}
    waits = dict.fromkeys(boots, 0)
    for order in orders:
        for earlier, later in pairwise(order):
            if later not in after[earlier]:
                after[earlier].add(later)
                waits[later] += 1
    position = {boot_id: number for number, boot_id in enumerate(boots)}
    ready = [(boots[b].fitted(boots[b].first_ns)[0], position[b], b) for b, count in waits.items() if count == 0]
    heapq.heapify(ready)
    left = dict.fromkeys(boots)
    result: list[bytes] = []
    while left:
        if not ready:  # a circle
            boot_id = next(iter(left))
            ready.append((0, position[boot_id], boot_id))
        boot_id = heapq.heappop(ready)[2]
        if boot_id not in left:
            continue
        del left[boot_id]
        result.append(boot_id)
        for later in after[boot_id]:
            waits[later] -= 1
            if waits[later] == 0:
                heapq.heappush(ready, (boots[later].fitted(boots[later].first_ns)[0], position[later], later))
    return result


def _place(boots: Sequence[_Boot]) -> None:
    """Move boots so that none overlaps the next, the surest the least.

    With the lengths of all earlier boots taken off, "no overlap" is "never falling": isotonic regression by pooling
    neighbours, each pool at its weighted median. A boot that never learned the time has no weight.
    """
    packed_ns = 0  # the lengths of all boots before
    wanted: list[int] = []
    for boot in boots:
        begin_ns, end_ns = boot.fitted(boot.first_ns)[0], boot.fitted(boot.last_ns)[0]
        wanted.append(begin_ns - packed_ns)
        packed_ns += end_ns - begin_ns
    pools: list[tuple[int, list[int]]] = []
    for number, boot in enumerate(boots):
        if boot.state is ClockState.UNKNOWN:
            continue
        pools.append((wanted[number], [number]))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            members = pools[-2][1] + pools[-1][1]
            del pools[-2:]
            pools.append((_weighted_median(boots, wanted, members), members))
    settled = {number: value for value, members in pools for number in members}
    nobody_knows = not settled
    value = pools[0][0] if pools else 0  # what comes before the first that knows ends where that begins
    for number, boot in enumerate(boots):
        value = max(value, wanted[number]) if nobody_knows else settled.get(number, value)
        boot.shift_ns = value - wanted[number]
        boot.widened_ns += abs(boot.shift_ns)


def _weighted_median(boots: Sequence[_Boot], wanted: Sequence[int], members: Sequence[int]) -> int:
    """Weight is 1 / error squared; of two equally sure boots the later one counts, which is the earlier time."""
    weighed = []
    for number in members:
        error_ns = boots[number].fitted(boots[number].first_ns)[1] + boots[number].widened_ns
        weighed.append((wanted[number], 10**42 // (error_ns + 1) ** 2))
    weighed.sort()
    half = sum(weight for _, weight in weighed)
    for value, weight in weighed:
        half -= 2 * weight
        if half <= 0:
            return value
    return weighed[-1][0]


def _bound(boots: Sequence[_Boot]) -> None:
    """Tell every boot what its neighbours leave: the ones before it had ended, and the next had not begun."""
    low_ns = -FAR_NS
    lows = []
    for boot in boots:
        lows.append(low_ns)
        low_ns += _shrunk(boot.last_ns - boot.first_ns)
        if boot.state is not ClockState.UNKNOWN:
            end = boot.wall_of(boot.last_ns)
            low_ns = max(low_ns, end.ns - end.error_ns)
    high_ns = 10 * FAR_NS
    highs = []
    for boot in reversed(boots):
        highs.append(high_ns)
        high_ns -= _shrunk(boot.last_ns - boot.first_ns)
        if boot.state is not ClockState.UNKNOWN:
            begin = boot.wall_of(boot.first_ns)
            high_ns = min(high_ns, begin.ns + begin.error_ns)
    for boot, low, high in zip(boots, lows, reversed(highs), strict=True):
        boot.low_ns, boot.high_ns = low, high
