"""From a span that the hub shall have to a file: kept in the ring until it is cut, cut when its turn comes. Blocking; called in a thread.

Nothing is copied before it is about to be sent, so an outage of weeks costs the card nothing: the spans are held in the ring
(`ring/holds.py`), behind everything that people hold, and within the same budget. What does not fit into it may be recycled; then it
is given up by name.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections.abc import Sequence
from contextlib import closing
from itertools import takewhile
from pathlib import Path

from nvr import clips, journal
from nvr.clock import Clock
from nvr.errors import NvrError
from nvr.evidence import Identity
from nvr.media import FragmentRecord
from nvr.ring import holds, reader
from nvr.ring.layout import segment_bytes_for
from nvr.site_settings import Site
from nvr.timeline import Timeline
from nvr.uplink.outbox import Clip, Made, Outbox, Wanted
from nvr.uplink.worth import RANK_STATE

log = logging.getLogger(__name__)

PREFIX = "outbox-"
HOLDS_MOST = 500  # of ours in holds.json, which is replaced as a whole
SPOOL_BYTES = 300_000_000  # of files that wait to be sent
SPOOL_CLIPS = 6
RESERVE_BYTES = 500_000_000  # of the disk, that clips never take: recording goes first
SETTLE_NS = 2_000_000_000  # what was taken at a moment is in the ring so long after it
ROWS_NEAR = 700  # fragments around a span, for when it was


class CannotCut(NvrError):
    """Not now: the disk has no room, or cannot be read."""


class Gone(NvrError):
    """Never: the footage is not there."""


def is_due(wanted: Wanted, boot_id: str, mono_ns: int, wall_ns: int) -> bool:
    """Whether all of the span has been recorded, as far as it ever will be."""
    if wanted.boot_id:
        return wanted.boot_id != boot_id or mono_ns >= wanted.to_ns + SETTLE_NS
    return wall_ns >= wanted.to_ns + SETTLE_NS


def timeline_near(data_dir: Path, wanted: Wanted) -> Timeline:
    """When things were, by the journal and by the fragments around the span."""
    story = journal.read(data_dir / "journal")
    rows: list[FragmentRecord] = []
    if wanted.from_sequence:
        paths = reader.streams(data_dir)
        if wanted.stream in paths:
            first, last = max(wanted.from_sequence - ROWS_NEAR, 1), wanted.to_sequence + ROWS_NEAR
            with closing(reader.Ring(paths[wanted.stream])) as ring:
                rows = [row.record for row in takewhile(lambda row: row.record.sequence <= last, ring.rows(first))]
    return Timeline.from_rows([rows], story.samples())


def wall_span(timeline: Timeline, wanted: Wanted) -> tuple[int, int]:
    if not wanted.boot_id:
        return wanted.from_ns, wanted.to_ns
    boot = bytes.fromhex(wanted.boot_id)
    return timeline.wall_of(boot, wanted.from_ns).ns, timeline.wall_of(boot, wanted.to_ns).ns


def may_have(data_dir: Path, stream: str, from_ns: int, to_ns: int) -> bool:
    """Whether the ring may hold anything of a span, by what its segments say of their ends; False is certain."""
    try:
        with closing(reader.Ring(reader.streams(data_dir)[stream])) as ring:
            segments = [segment for segment in ring.segments() if segment.fragments]
    except KeyError:
        return False
    return any(
        segment.unknown_clock
        or not segment.wall_to_ns
        or (segment.wall_from_ns < to_ns and from_ns < segment.wall_to_ns)
        for segment in segments
    )


class Cutter:
    def __init__(
        self, site: Site, data_dir: Path, outbox: Outbox, identity: Identity, clock: Clock, boot_id: str
    ) -> None:
        self._data_dir, self._outbox, self._identity, self._clock = data_dir, outbox, identity, clock
        self._boot_id = boot_id
        self._streams = {stream.name: stream for stream in site.recorded_streams()}

    def next(self, below: int) -> Clip | None:
        """What is to be cut now, of a rank below `below`: alarms at once, others while the spool has room."""
        reading = self._clock.read()
        for clip in self._outbox.to_cut(200):
            if clip.rank >= below:
                return None
            if not is_due(clip.wanted, self._boot_id, reading.mono_ns, reading.wall_ns):
                continue
            is_full = len(self._outbox.to_send(SPOOL_CLIPS)) >= SPOOL_CLIPS or self._outbox.made_bytes() >= SPOOL_BYTES
            return None if is_full and clip.rank >= RANK_STATE else clip
        return None

    def cut(self, clip: Clip) -> list[Made]:
        """Cut it into DATA/outbox/clips, durably, and say so in the outbox. Raises CannotCut, Gone, OutboxFailed."""
        folder = self._outbox.clips_path
        try:
            disk = os.statvfs(folder)
        except OSError as error:
            raise CannotCut(f"{folder} is not there: {error.strerror}") from error
        if disk.f_bavail * disk.f_frsize < RESERVE_BYTES + clip.wanted.size_bytes:
            raise CannotCut(
                f"the disk has {disk.f_bavail * disk.f_frsize / 1e6:.0f} MB left",
                hint="Clips wait in the ring until there is room.",
            )
        try:
            timeline = timeline_near(self._data_dir, clip.wanted)
            from_ns, to_ns = wall_span(timeline, clip.wanted)
            reports = clips.cut_parts(
                self._data_dir, clip.wanted.stream, from_ns, to_ns, folder / f"{clip.id}.mp4", identity=self._identity,
                timeline=timeline, cut_by="uplink", replace=True, clock=self._clock,
            )  # fmt: skip
            made = [
                Made(
                    report.path.name,
                    _sha256(report.path),
                    report.size_bytes,
                    report.span.from_ns // 1_000_000,
                    report.span.to_ns // 1_000_000,
                )
                for report in reports
            ]
        except (clips.NothingRecorded, clips.Recycled) as error:
            raise Gone(str(error)) from error
        except (NvrError, OSError, ValueError) as error:
            raise CannotCut(f"{clip.wanted.stream}: {error}") from error
        self._outbox.made(clip.id, made)
        return made

    # -- what the ring must keep

    def hold(self) -> list[str]:
        """Have the ring keep what is owed, the most valuable first; ids of clips for which there is no room any more.

        Raises NvrError when holds.json cannot be written.
        """
        owed = [clip for clip in self._outbox.owed() if clip.wanted.is_held and clip.wanted.stream in self._streams]
        wanted = [self._hold_of(clip) for clip in owed[:HOLDS_MOST]]
        path = self._data_dir / holds.HOLDS_NAME
        everybody = [hold for hold in holds.load(path) if not hold.id.startswith(PREFIX)] + wanted
        over = {clip.id for clip in owed[HOLDS_MOST:]}
        for name in {hold.stream for hold in wanted}:
            over |= self._over(name, [hold for hold in everybody if hold.stream == name])
        holds.put(path, PREFIX, [hold for hold in wanted if hold.id.removeprefix(PREFIX) not in over])
        if over:
            self._outbox.held(over, False)
            log.warning(
                "%d spans that wait for the hub are more than the ring may hold; they may be recycled before they are sent",
                len(over),
            )
        return sorted(over)

    def _over(self, stream: str, held: Sequence[holds.Hold]) -> set[str]:
        """Clips whose spans do not fit: holds are served in their order, and ours come last."""
        settings = self._streams[stream]
        budget = settings.hold_bytes // segment_bytes_for(settings.ring_bytes)
        try:
            with closing(reader.Ring(reader.streams(self._data_dir)[stream])) as ring:
                segments = ring.segments()
        except (KeyError, NvrError):
            return set()
        refused = holds.held_segments(segments, held, budget)[1]
        lost = [segment for segment in segments if segment.number in refused]
        return {
            hold.id.removeprefix(PREFIX) for hold in held
            if hold.id.startswith(PREFIX) and any(hold.covers(segment) for segment in lost)
        }  # fmt: skip

    def _hold_of(self, clip: Clip) -> holds.Hold:
        wanted = clip.wanted
        first = last = 0
        if wanted.from_sequence:  # where the clock was wrong these hold, whatever the times say
            around = math.ceil((wanted.to_ns - wanted.from_ns) / 1e9) + 2
            first, last = max(wanted.from_sequence - around, 1), wanted.to_sequence + around
        from_ns, to_ns = wanted.from_ns, wanted.to_ns
        if wanted.boot_id == self._boot_id:
            reading = self._clock.read()
            from_ns, to_ns = (at_ns + reading.wall_ns - reading.mono_ns for at_ns in (from_ns, to_ns))
        elif wanted.boot_id and first:
            from_ns = to_ns = 0
        elif wanted.boot_id:
            from_ns, to_ns = wall_span(timeline_near(self._data_dir, wanted), wanted)
        return holds.Hold(f"{PREFIX}{clip.id}", wanted.stream, from_ns, to_ns, "waits for the hub", first, last)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
