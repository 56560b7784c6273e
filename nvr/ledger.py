"""Every second of every stream: recorded, or missing with its cause. The sum is 100 %.

What was recorded is read from the rings and placed in wall time by `timeline.py`; what is missing is explained by the
journal, and where the journal cannot, by "not known". Everything is counted in whole nanoseconds, in parts that
touch each other from the first to the last, so that nothing can be counted twice or be left out.

A gap is explained by what the journal says of its stretch: off, starting, or the stream's own cause. Where it
says "recorded" and nothing is there, the reason lies beside it:

    before the oldest fragment that is kept            recycled
    fragments missing between two segments             recycled (around held ones)
    fragments missing within one segment               disk failed: a damaged fragment was left out
    the recorder or the box ended right afterwards     box off: what was not durable yet
    the stream was said to be missing just after or before    that cause: it took a moment to notice
    otherwise                                          camera: it sent no picture
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from nvr.errors import NvrError
from nvr.journal import Entry, Kind, Story, kept_name
from nvr.journal import read as read_journal
from nvr.media import Cause, ClockReading, ClockState, FragmentRecord
from nvr.ring import reader
from nvr.ring.layout import SegmentState
from nvr.ring.reader import Ring, RingUnreadable
from nvr.timeline import ClockSample, Placed, Timeline

NS_PER_S = 1_000_000_000

BEFORE_FIRST = "before this stream was first recorded"  # the detail of a gap that nobody misses
# A recorder gives a sign of life with every sync, at most a minute apart (loss_bound_s); after this it is dead.
SILENT_NS = 90 * NS_PER_S
# The fragment being written, and one that is on its way into the index: neither recorded nor missing yet.
PENDING_NS = 15 * NS_PER_S
# RunClock slews by up to 2 %, so box time between two fragments of a run may be that much more than their ticks.
_SLEW_PART = 32
FORGOTTEN = "recorded, but the disk does not give it back"


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of one stream's wall time with one fate; the end is not part of it."""

    from_ns: int
    to_ns: int
    cause: Cause | None  # None: recorded
    detail: str = ""
    error_ns: int = 0  # of the times themselves
    state: ClockState = ClockState.SYNCED

    @property
    def length_ns(self) -> int:
        return self.to_ns - self.from_ns


@dataclass(frozen=True, slots=True)
class StreamLedger:
    """One stream from `from_ns` to `to_ns`: parts that touch each other and leave nothing out."""

    stream: str
    from_ns: int
    to_ns: int  # may be earlier than asked for: the future, and what is just being written, are not accounted for
    parts: tuple[Part, ...]
    unplaced_ns: int = 0  # recorded, but by a box that did not know the time, and so outside of the span asked for

    def __post_init__(self) -> None:
        at_ns = self.from_ns
        for part in self.parts:
            if part.from_ns != at_ns or part.to_ns <= part.from_ns:
                raise ValueError(
                    f"{self.stream}: ledger part from {part.from_ns} to {part.to_ns} does not follow {at_ns}"
                )
            at_ns = part.to_ns
        if at_ns != self.to_ns:
            raise ValueError(f"{self.stream}: ledger ends at {at_ns}, not at {self.to_ns}")

    @property
    def total_ns(self) -> int:
        return self.to_ns - self.from_ns

    @property
    def recorded_ns(self) -> int:
        return sum(part.length_ns for part in self.parts if part.cause is None)

    @property
    def missing_ns(self) -> int:
        return self.total_ns - self.recorded_ns

    def by_cause_ns(self) -> dict[Cause, int]:
        """Missing time by cause, the largest first."""
        sums: dict[Cause, int] = {}
        for part in self.parts:
            if part.cause is not None:
                sums[part.cause] = sums.get(part.cause, 0) + part.length_ns
        return dict(sorted(sums.items(), key=lambda item: -item[1]))

    def gaps(self) -> list[Part]:
        return [part for part in self.parts if part.cause is not None]

    def since_the_first(self) -> StreamLedger:
        """Without what lies before the stream was first recorded, which nobody misses."""
        if not self.parts or self.parts[0].detail != BEFORE_FIRST:
            return self
        return replace(self, from_ns=self.parts[0].to_ns, parts=self.parts[1:])

    def to_json(self) -> dict[str, Any]:
        """As `nvr ledger --json` prints it. Seconds are rounded to milliseconds so that the sums still hold."""
        causes = self.by_cause_ns()
        total_ms, recorded_ms = _ms(self.total_ns), min(_ms(self.recorded_ns), _ms(self.total_ns))
        by_cause_ms = _rounded(list(causes.values()), total_ms - recorded_ms)
        return {
            "stream": self.stream,
            "total_s": total_ms / 1000,
            "recorded_s": recorded_ms / 1000,
            "missing_s": (total_ms - recorded_ms) / 1000,
            "by_cause": {cause.value: ms / 1000 for cause, ms in zip(causes, by_cause_ms, strict=True)},
        }


def _ms(ns: int) -> int:
    return (ns + 500_000) // 1_000_000


def _rounded(values_ns: Sequence[int], total_ms: int) -> list[int]:
    """Milliseconds that add up to `total_ms`; the largest value takes what rounding leaves."""
    rounded = [_ms(value) for value in values_ns]
    if rounded:
        rounded[0] += total_ms - sum(rounded)
    return rounded


# -- what was recorded -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unbroken:
    """Fragments of one run that follow each other without a gap."""

    first: FragmentRecord
    last: FragmentRecord
    mono_ns: int
    duration_ns: int

    @property
    def boot_id(self) -> bytes:
        return self.first.boot_id


def unbroken(rows: Iterable[FragmentRecord]) -> list[Unbroken]:
    """Merge rows, given in the order of their sequence numbers; one picture more or less between two is no gap."""
    merged: list[Unbroken] = []
    rows = iter(rows)
    first = last = next(rows, None)
    if first is None or last is None:
        return merged
    end_ns = last.mono_ns + last.duration_ns
    for row in rows:
        mono_ns = row.mono_ns
        if (
            row.sequence == last.sequence + 1
            and row.run == last.run
            and mono_ns >= last.mono_ns
            and (mono_ns <= end_ns or mono_ns - end_ns <= _allowed_ns(last))
            and row.boot_id == last.boot_id
        ):
            last = row
        else:
            merged.append(Unbroken(first, last, first.mono_ns, end_ns - first.mono_ns))
            first = last = row
        end_ns = mono_ns + row.duration_ticks * 100_000 // 9
    merged.append(Unbroken(first, last, first.mono_ns, end_ns - first.mono_ns))
    return merged


def _allowed_ns(row: FragmentRecord) -> int:
    return max(row.duration_ns // max(row.pictures, 1), row.duration_ns // _SLEW_PART)


# -- what the journal says ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Fate:
    """What the journal says of a stream from a moment on."""

    from_ns: int
    cause: Cause | None  # None: it was recorded
    detail: str = ""
    is_end: bool = False  # the recorder was not running, or not yet ready


def fates_of(stream: str, story: Story, timeline: Timeline, oldest_ns: int | None, now_ns: int) -> list[_Fate]:
    """The fates of one stream, oldest first; the first holds from ever, the last for ever.

    `oldest_ns`: wall time of the oldest fragment that is kept, None where there is none.
    """
    name = kept_name(stream)
    begins_ns = None
    for entry in story.entries:
        if entry.kind is Kind.STREAM and entry.stream == name:
            begins_ns = timeline.wall_of(entry.boot_id, entry.reading.mono_ns).ns
            break
    nothing_before = story.is_from_the_start and (
        oldest_ns is None or begins_ns is None or oldest_ns >= begins_ns - PENDING_NS
    )
    fates = [
        _Fate(-(2**63), Cause.BOX_OFF, BEFORE_FIRST, True)
        if nothing_before
        else _Fate(-(2**63), Cause.NOT_KNOWN, "the journal does not reach back to here")
    ]

    def put(entry: Entry, cause: Cause | None, detail: str, is_end: bool = False) -> None:
        # Boots and box time keep their order on a timeline; max() is for entries of a damaged journal.
        at_ns = max(timeline.wall_of(entry.boot_id, entry.reading.mono_ns).ns, fates[-1].from_ns)
        fates.append(_Fate(at_ns, cause, detail, is_end))

    told_of = _sessions_that_tell_of(name, story)
    lost_after = {first for first, _ in story.missing}
    session = 0
    has_begun = not nothing_before
    for entry in story.entries:
        if entry.kind is Kind.STARTED:
            session += 1
            if session in told_of:
                put(entry, Cause.BOX_OFF, "starting" if has_begun else fates[0].detail, True)
            elif has_begun:
                put(entry, Cause.NOT_KNOWN, "the journal says nothing of this stream")
        elif entry.kind in (Kind.STOPPED, Kind.LIFE):
            if has_begun:
                put(entry, Cause.BOX_OFF, "stopped" if entry.kind is Kind.STOPPED else "cut off", True)
        elif entry.kind is Kind.STREAM and entry.stream == name:
            has_begun = True
            put(entry, entry.cause, entry.detail)
        if entry.sequence + 1 in lost_after:
            put(entry, Cause.NOT_KNOWN, "entries of the journal are damaged")
    if story.life is not None and not (story.entries and story.entries[-1].kind is Kind.STOPPED):
        life_ns = timeline.wall_of(story.life.boot_id, story.life.reading.mono_ns).ns
        if now_ns - life_ns > SILENT_NS and has_begun:
            fates.append(_Fate(max(life_ns, fates[-1].from_ns), Cause.BOX_OFF, "no sign of life since", True))
    return fates


def _sessions_that_tell_of(name: str, story: Story) -> set[int]:
    """Which recorder sessions, counted by STARTED from 1, say anything of a stream."""
    session, found = 0, set()
    for entry in story.entries:
        if entry.kind is Kind.STARTED:
            session += 1
        elif entry.kind is Kind.STREAM and entry.stream == name:
            found.add(session)
    return found


# -- the account -------------------------------------------------------------------------------------


def account(
    stream: str,
    recorded: Iterable[Unbroken],
    story: Story,
    timeline: Timeline,
    from_ns: int,
    to_ns: int,
    *,
    now_ns: int,
    oldest: FragmentRecord | None = None,
    unreadable: str = "",
    forgotten: Collection[int] = (),
) -> StreamLedger:
    """Account for every nanosecond of one stream from `from_ns` to `to_ns`, or to `now_ns` if that is earlier.

    `recorded` is in the order of recording: at least all that may lie in the span, better with its neighbours.
    `oldest` is the oldest fragment kept, if that is not the first of `recorded`. `unreadable` says why the ring cannot be
    read: what the journal believes recorded is then missing because of the disk. `forgotten`: sequence numbers that were recorded
    and do not read back; they are not in `recorded`.
    """
    placed = timeline.place(recorded)
    oldest_ns = placed[0].from_ns if placed else None
    if oldest is not None:
        oldest_ns = timeline.wall_of(oldest.boot_id, oldest.mono_ns).ns
    fates = fates_of(stream, story, timeline, oldest_ns, now_ns)
    if unreadable:
        fates = [fate if fate.cause else replace(fate, cause=Cause.DISK_FAILED, detail=unreadable) for fate in fates]
    from_ns = min(from_ns, now_ns)
    to_ns = max(min(to_ns, now_ns), from_ns)
    # What holds up recording has what is on its way, too: whether that is missing is known when it has caught up.
    is_on_its_way = fates[-1].cause in (None, Cause.DISK_SLOW, Cause.BOX_BUSY)
    if placed and is_on_its_way and from_ns < placed[-1].to_ns < to_ns <= placed[-1].to_ns + PENDING_NS:
        to_ns = placed[-1].to_ns
    parts: list[Part] = []
    unplaced_ns = 0
    at_ns = from_ns
    before: Placed[Unbroken] | None = None
    for place in placed:
        inside_from_ns, inside_to_ns = max(place.from_ns, from_ns), min(place.to_ns, to_ns)
        if place.state is ClockState.UNKNOWN:
            unplaced_ns += place.to_ns - place.from_ns - max(inside_to_ns - inside_from_ns, 0)
        if inside_from_ns < inside_to_ns:
            if at_ns < inside_from_ns:
                parts += _gap(at_ns, inside_from_ns, before, place, fates, oldest_ns, forgotten)
            parts.append(_recorded(inside_from_ns, inside_to_ns, place))
            at_ns = inside_to_ns
        elif place.from_ns >= to_ns and at_ns < to_ns:
            parts += _gap(at_ns, to_ns, before, place, fates, oldest_ns, forgotten)
            at_ns = to_ns
        before = place
    if at_ns < to_ns:
        parts += _gap(at_ns, to_ns, before, None, fates, oldest_ns, forgotten)
    return StreamLedger(stream, from_ns, to_ns, tuple(_joined(parts)), unplaced_ns)


def _recorded(from_ns: int, to_ns: int, place: Placed[Unbroken]) -> Part:
    if place.state is ClockState.UNKNOWN:
        detail = "recorded by a box that did not know the time; it is somewhere near here"
        return Part(from_ns, to_ns, Cause.CLOCK_UNKNOWN, detail, place.error_ns, place.state)
    return Part(from_ns, to_ns, None, "", place.error_ns, place.state)


def _joined(parts: Iterable[Part]) -> list[Part]:
    """Neighbours with the same fate become one; a recorded run beside another one too."""
    joined: list[Part] = []
    for part in parts:
        last = joined[-1] if joined else None
        if last is not None and (last.cause, last.detail, last.state) == (part.cause, part.detail, part.state):
            joined[-1] = Part(
                last.from_ns, part.to_ns, last.cause, last.detail, max(last.error_ns, part.error_ns), last.state
            )
        else:
            joined.append(part)
    return joined


def _gap(
    from_ns: int,
    to_ns: int,
    before: Placed[Unbroken] | None,
    after: Placed[Unbroken] | None,
    fates: Sequence[_Fate],
    oldest_ns: int | None,
    forgotten: Collection[int],
) -> list[Part]:
    """The part from `from_ns` to `to_ns` of a gap, divided by what the journal says of it."""
    # Explained as a whole and cut afterwards, so that a second has the same cause whatever span is asked for.
    starts = [fate.from_ns for fate in fates]
    whole_from_ns = min(before.to_ns, from_ns) if before is not None else from_ns
    whole_to_ns = to_ns
    if after is not None:
        whole_to_ns = max(after.from_ns, to_ns)
    elif (number := bisect_right(starts, to_ns)) < len(starts):
        whole_to_ns = starts[number] + 1  # far enough to see what follows
    pieces: list[tuple[int, int, _Fate]] = []
    for number in range(bisect_right(starts, whole_from_ns) - 1, len(fates)):
        piece_from_ns = max(starts[number], whole_from_ns)
        piece_to_ns = min(starts[number + 1], whole_to_ns) if number + 1 < len(fates) else whole_to_ns
        if piece_from_ns >= whole_to_ns:
            break
        if piece_from_ns < piece_to_ns:
            pieces.append((piece_from_ns, piece_to_ns, fates[number]))
    parts: list[Part] = []

    def put(piece_from_ns: int, piece_to_ns: int, cause: Cause, detail: str) -> None:
        piece_from_ns, piece_to_ns = max(piece_from_ns, from_ns), min(piece_to_ns, to_ns)
        if piece_from_ns < piece_to_ns:
            parts.append(Part(piece_from_ns, piece_to_ns, cause, detail))

    for index, (piece_from_ns, piece_to_ns, fate) in enumerate(pieces):
        if fate.cause is not None:
            put(piece_from_ns, piece_to_ns, fate.cause, fate.detail)
            continue
        # The journal says "recorded". What was kept and what followed say why it is not there.
        recycled_to_ns = piece_to_ns if oldest_ns is None else max(min(piece_to_ns, oldest_ns), piece_from_ns)
        put(piece_from_ns, recycled_to_ns, Cause.RECYCLED, "")
        earlier = [fate for _, _, fate in pieces[:index]]
        later = [fate for _, _, fate in pieces[index + 1 :]]
        put(recycled_to_ns, piece_to_ns, *_why(before, after, earlier, later, forgotten))
    return parts


def _why(
    before: Placed[Unbroken] | None,
    after: Placed[Unbroken] | None,
    earlier: Sequence[_Fate],
    later: Sequence[_Fate],
    forgotten: Collection[int],
) -> tuple[Cause, str]:
    """Why something the journal believed recorded is not there, though older fragments are."""
    if later and later[0].is_end:
        return Cause.BOX_OFF, "not durable when it ended"
    if (before is not None and before.what.last.sequence + 1 in forgotten) or (
        after is not None and after.what.first.sequence - 1 in forgotten
    ):
        return Cause.DISK_FAILED, FORGOTTEN
    if before is not None and after is not None:
        left, right = before.what.last, after.what.first
        if right.sequence > left.sequence + 1:
            if (left.segment, left.lap) != (right.segment, right.lap):
                return Cause.RECYCLED, ""
            return Cause.DISK_FAILED, "damaged fragments were left out"
    for fate in [*later[:1], *earlier[-1:]]:
        if fate.cause is not None:
            return fate.cause, fate.detail
    return Cause.CAMERA, "no pictures came"


# -- from the files ----------------------------------------------------------------------------------

# So many fragments are read as a whole (a second of CPU); of more, only the segments that a span needs.
_ALL_ROWS = 300_000


def ledger(
    data_dir: Path,
    streams: Iterable[str] | None = None,
    from_ns: int | None = None,
    to_ns: int | None = None,
    *,
    now: ClockReading,
    boot_id: bytes,
    on_unreadable: Callable[[str, NvrError], None] = lambda stream, error: None,
) -> list[StreamLedger]:
    """The ledgers of the given streams, from the rings and the journal under `data_dir`.

    `streams` None: all that have a ring, and those that the recorder's last session speaks of. A ring that is not there or
    cannot be read hides nothing: `on_unreadable` is told, and what should be in it is missing because of the disk.
    Without `from_ns` each begins when its stream was first recorded, as far as anybody knows; without `to_ns` it ends
    now, or when the recorder was stopped on purpose. Raises KeyError for a stream that nobody knows, and RingUnreadable when
    neither rings nor journal can be read.
    """
    story = read_journal(data_dir / "journal")
    present = ClockSample(boot_id, now.mono_ns, now.wall_ns, now.state, now.error_ns)
    told_of = _last_told_of(story)
    no_rings: NvrError | None = None
    try:
        paths = reader.streams(data_dir)
    except RingUnreadable as error:
        if not told_of:
            raise
        paths, no_rings = {}, error
    have_a_ring = {kept_name(name) for name in paths}
    known = sorted([*paths, *(name for name in told_of if name not in have_a_ring)])
    names = known if streams is None else list(streams)
    if unknown := set(names) - set(known):
        raise KeyError(", ".join(sorted(unknown)))
    found = {name: _read(data_dir, name, paths.get(name), from_ns, to_ns, no_rings) for name in known}
    timeline = Timeline.from_rows((each.rows for each in found.values()), [*story.samples(), present])
    now_ns = timeline.wall_of(boot_id, now.mono_ns).ns
    for name in names:
        if (why := found[name].unreadable) is not None:
            on_unreadable(name, why)
    return [_ledger(name, found[name], story, timeline, from_ns, to_ns, now_ns) for name in names]


def _last_told_of(story: Story) -> set[str]:
    """Streams that the last session of the recorder speaks of."""
    found: set[str] = set()
    for entry in story.entries:
        if entry.kind is Kind.STARTED:
            found.clear()
        elif entry.kind is Kind.STREAM:
            found.add(entry.stream)
    return found


@dataclass(frozen=True, slots=True)
class _Found:
    """What a ring holds of a span."""

    rows: Sequence[FragmentRecord] = ()
    oldest: FragmentRecord | None = None
    unreadable: NvrError | None = None
    forgotten: frozenset[int] = frozenset()


def _read(
    data_dir: Path, stream: str, path: Path | None, from_ns: int | None, to_ns: int | None, no_rings: NvrError | None
) -> _Found:
    try:
        if path is None:
            raise no_rings or RingUnreadable(
                f"there is no ring of {stream} in {data_dir}",
                hint="It could never be made, or its disk is not mounted.",
            )
        with closing(Ring(path)) as ring:
            return _Found(rows_near(ring, from_ns, to_ns), _oldest(ring), forgotten=ring.forgotten)
    except NvrError as error:
        return _Found(unreadable=error)
    except OSError as error:
        return _Found(unreadable=RingUnreadable(f"cannot read {path}: {error.strerror}", hint="Look at the disk."))


def _ledger(
    stream: str,
    found: _Found,
    story: Story,
    timeline: Timeline,
    from_ns: int | None,
    to_ns: int | None,
    now_ns: int,
) -> StreamLedger:
    recorded, oldest = unbroken(found.rows), found.oldest
    last_ns = max((place.to_ns for place in timeline.place(recorded)[-1:]), default=now_ns)
    now_ns = max(now_ns, last_ns)  # a file that was played faster than it lasts reaches into the future
    if from_ns is None:
        known = [timeline.wall_of(entry.boot_id, entry.reading.mono_ns).ns for entry in _first_of(stream, story)]
        if oldest is not None:
            known.append(timeline.wall_of(oldest.boot_id, oldest.mono_ns).ns)
        from_ns = min(known, default=now_ns)
    if to_ns is None:
        to_ns = now_ns
        if story.entries and story.entries[-1].kind is Kind.STOPPED:
            entry = story.entries[-1]
            to_ns = max(timeline.wall_of(entry.boot_id, entry.reading.mono_ns).ns, last_ns)
            if to_ns - last_ns <= PENDING_NS:
                to_ns = last_ns
    unreadable = str(found.unreadable or "")
    return account(
        stream, recorded, story, timeline, from_ns, to_ns, now_ns=now_ns, oldest=oldest, unreadable=unreadable,
        forgotten=found.forgotten,
    )  # fmt: skip


def _first_of(stream: str, story: Story) -> list[Entry]:
    """The first entry that says that the stream was recorded; an empty list where there is none."""
    name = kept_name(stream)
    recorded = (e for e in story.entries if e.kind is Kind.STREAM and e.stream == name and e.cause is None)
    return list(islice(recorded, 1))


def _oldest(ring: Ring) -> FragmentRecord | None:
    return next((row.record for row in ring.rows()), None)


def rows_near(ring: Ring, from_ns: int | None, to_ns: int | None) -> list[FragmentRecord]:
    """What may lie in the span, by the clocks at the time of recording, with a segment more on either side.

    Of a ring that is not huge it is everything. Raises RingUnreadable and OSError.
    """
    segments = sorted((each for each in ring.segments() if each.fragments), key=lambda each: each.first_sequence)
    first, last = 0, None
    if sum(each.fragments for each in segments) > _ALL_ROWS:
        wanted = [number for number, segment in enumerate(segments) if _may_lie_in(segment, from_ns, to_ns)] or [0]
        first = segments[max(wanted[0] - 1, 0)].first_sequence
        if wanted[-1] + 1 < len(segments):
            last = segments[wanted[-1] + 1].last_sequence
    return [row.record for row in takewhile(lambda row: last is None or row.record.sequence <= last, ring.rows(first))]


def _may_lie_in(segment: SegmentState, from_ns: int | None, to_ns: int | None) -> bool:
    if segment.unknown_clock or not segment.wall_to_ns:
        return True
    return (to_ns is None or segment.wall_from_ns < to_ns) and (from_ns is None or segment.wall_to_ns > from_ns)
