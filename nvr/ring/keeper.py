"""What the syncer does for one ring: syncs, seals, prepares the next segment, lets old footage go.

Everything here may wait for the disk, and runs in the syncer's thread only. What the writer needs is handed over
ready to use (`Writer.ready`), what it is done with is taken back (`Writer.finished`).
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from nvr.clock import Clock
from nvr.media import PAGE_BYTES, Cause, ClockState
from nvr.ring import layout, recover
from nvr.ring.disk import Directory, DiskFailed, Trouble, failed
from nvr.ring.holds import Hold, held_segments
from nvr.ring.index import rows_max
from nvr.ring.layout import HeaderFlag, SegmentHeader, SegmentState, State
from nvr.ring.recover import OpenRing, Recovered
from nvr.ring.segment import OpenSegment, write_header
from nvr.ring.writer import Writer

log = logging.getLogger(__name__)

NS_PER_S = 1_000_000_000
_RETRY_NS = (NS_PER_S // 2, NS_PER_S, 2 * NS_PER_S, 5 * NS_PER_S)  # nothing is recorded meanwhile, so never rarely
_GROW_SOON_NS = 5 * NS_PER_S  # a disk that was just found full may have room again in a moment
_GROW_RETRY_NS = 600 * NS_PER_S  # one that stays full is asked again now and then
_AGE_EVERY_NS = 60 * NS_PER_S
_JUMP_NS = 3600 * NS_PER_S
_REOPEN_AFTER = 3  # failures in a row; a disk that came back is another one to its old descriptors


class Signer(Protocol):
    """nvr.evidence.Identity."""

    public_bytes: bytes

    def sign(self, message: bytes) -> bytes: ...


class Keeper:
    """One ring, from the syncer's side."""

    def __init__(
        self, writer: Writer, clock: Clock, *, identity: Signer | None = None,
        open_directory: Callable[..., Directory] = Directory,
        on_lost: Callable[[str, int, int], None] = lambda stream, first, last: None,
    ) -> None:  # fmt: skip
        self.writer = writer
        self.settings = writer.settings
        self._clock = clock
        self._identity = identity
        self._open_directory = open_directory
        self._on_lost = on_lost
        self._ring: OpenRing | None = None
        self._holds: Sequence[Hold] = ()
        self._handed: set[int] = set()  # numbers that the writer has; it takes and returns them when it likes
        self._grow_again_ns = 0
        self._stays_full = False  # the disk: the ring reuses what it has, though it may grow
        self._retry_ns = 0
        self._aged_ns = -_AGE_EVERY_NS
        self._ahead_ns = 0  # of the wall clock, before the monotonic one
        self._steady_since_ns = 0  # since when that has been so
        self._failures = 0
        self.over_hold_budget: set[int] = set()
        self.failed_syncs = 0
        self._is_failing = False  # the disk; not only that it is full

    @property
    def states(self) -> dict[int, SegmentState]:
        return self._ring.states if self._ring else {}

    # -- opening -----------------------------------------------------------------------------------

    def open(self) -> Recovered:
        """Recover the ring and have a segment ready. Raises DiskFailed; then the writer is in trouble."""
        try:
            directory = self._open_directory(self.settings.path, create=True)
        except OSError as error:
            raise failed(error, f"opening {self.settings.path}") from error
        try:
            directory.lock()
            ring = recover.open_ring(
                directory, self.settings, box_id=self.writer.box_id, boot_id=self.writer.boot_id,
                sign=self._identity.sign if self._identity else None,
                public_key=self._identity.public_bytes if self._identity else bytes(32),
                mono_ns=self._clock.mono_ns,
            )  # fmt: skip
        except BlockingIOError:
            directory.close()
            raise DiskFailed(
                f"another recorder writes into {self.settings.path}", hint="Two boxes must not share a rings directory: stop one.",
            ) from None  # fmt: skip
        except DiskFailed:
            directory.close()
            raise
        self._ring = ring
        self._failures = 0
        self.writer.adopt(ring.sequence, ring.run)
        self.writer.durable_sequence = max(self.writer.durable_sequence, ring.sequence)
        if ring.resume is not None:
            self._hand(ring.resume)
        self.prepare()
        return ring.recovered

    def _hand(self, segment: OpenSegment) -> None:
        self._handed.add(segment.number)
        self.writer.ready.append(segment)

    def _take_back(self, segment: OpenSegment) -> None:
        self._handed.discard(segment.number)
        try:
            segment.directory.close_file(segment.fd)
        except OSError:
            pass  # the disk is gone; there is nothing left to lose

    def refuse(self, failure: DiskFailed) -> None:
        """Note that nothing can be prepared now, say so once, and try again later."""
        now_ns = self._clock.mono_ns()
        self._retry_ns = now_ns + _RETRY_NS[min(self._failures, len(_RETRY_NS) - 1)]
        self._failures += 1
        self._is_failing = failure.cause is Cause.DISK_FAILED
        before = self.writer.syncer_trouble
        if before is None or before.cause is not failure.cause or before.since_ns == 0:
            log.error("%s: %s. %s", self.settings.stream, failure, failure.hint)
            before = Trouble(failure.cause, str(failure), now_ns)
        self.writer.syncer_trouble = before

    # -- making durable ----------------------------------------------------------------------------

    def unsynced_bytes(self) -> int:
        current = self.writer.current
        segments = [*([current] if current else []), *self.writer.finished]
        return sum(segment.written_bytes - segment.synced_bytes for segment in segments)

    def sync(self) -> int:
        """Make durable what is in the files; returns the last sequence that certainly is. Raises nothing."""
        # The open segment first: if the writer finishes it meanwhile, it is in `finished` as well.
        current = self.writer.current
        segments = list(self.writer.finished)
        if current is not None and current not in segments:
            segments.append(current)
        for segment in segments:
            if segment.written_bytes == segment.synced_bytes:
                continue
            written_bytes, last_sequence = segment.written_bytes, segment.last_sequence
            try:
                segment.directory.sync(segment.fd)
                if not segment.directory.has_name(segment.fd):
                    raise FileNotFoundError(errno.ENOENT, "somebody removed the file while it was written")
            except OSError as error:
                self._sync_failed(segment, error)
                continue
            segment.synced_bytes = written_bytes
            if self._ring is not None and segment.number not in self._ring.refused:
                self.writer.durable_sequence = max(self.writer.durable_sequence, last_sequence)
        return self.writer.durable_sequence

    def _sync_failed(self, segment: OpenSegment, error: OSError) -> None:
        """Nobody knows what the disk holds of it: never written again, and its slot stays open for the next recovery."""
        self.failed_syncs += 1
        segment.has_failed = True
        segment.synced_bytes = segment.written_bytes
        if self._ring is not None:
            self._ring.refused.add(segment.number)
        failure = failed(error, f"making segment {segment.number} durable")
        self.refuse(failure)
        first, last = self.writer.durable_sequence + 1, segment.last_sequence
        if first <= last:
            log.error("%s: fragments %d to %d may be lost: %s", self.settings.stream, first, last, failure)
            self._on_lost(self.settings.stream, first, last)

    # -- housekeeping ------------------------------------------------------------------------------

    def keep(self, holds: Sequence[Hold], before_opening: Callable[[], object] = lambda: None) -> None:
        """Seal, prepare, let go; open the ring again when the disk came back. Raises nothing."""
        self._holds = [hold for hold in holds if hold.stream == self.settings.stream]
        if self._clock.mono_ns() < self._retry_ns:
            return
        try:
            if self._ring is None:
                before_opening()
                self.open()
                return
            # While the writer still has a segment it may be fine; when it gives it up, nothing is lost by starting over.
            if self._failures >= _REOPEN_AFTER and self._is_failing and self._drain():
                self._let_go()
                before_opening()
                self.open()
                return
            if self._should_follow(before_opening):
                self._leave()
                return
            self.seal_finished()
            try:
                self.prepare()
            except DiskFailed:
                if not any(segment.written_bytes != segment.synced_bytes for segment in self.writer.finished):
                    raise
                # Segments that the writer is done with can be used again, if nobody waits for the next burst.
                self.sync()
                self.seal_finished()
                self.prepare()
            self._let_old_go()
        except DiskFailed as failure:
            self.refuse(failure)

    def _should_follow(self, before_opening: Callable[[], object]) -> bool:
        """Whether the ring must be opened anew because its path leads elsewhere now, where it may be recorded.

        Where it may not (the disk is not there, or another one is), recording goes on in the directory that is open: what was moved, or
        lies beneath another mount, is better than nothing. But it is told: nobody finds it until it is back.
        """
        assert self._ring is not None
        if self._ring.directory.is_in_place():
            self.writer.displaced = ""
            return False
        try:
            before_opening()
        except DiskFailed as failure:
            if not self.writer.displaced:
                log.error("%s: recorded where nobody looks for it: %s. %s", self.settings.stream, failure, failure.hint)
            self.writer.displaced = f"recorded where nobody looks for it: {failure}"
            return False
        return True

    def _leave(self) -> None:
        """Everything durable in the directory that was moved away, then the ring anew. Raises DiskFailed."""
        with self.writer.handover:
            while self.writer.ready:
                self._take_back(self.writer.ready.popleft())
            if self.writer.current is not None:
                self.writer.current.has_failed = True  # the writer gives it up with its open fragment, and wakes us
        self.sync()
        self.seal_finished()
        if self._drain():
            log.warning("%s: %s was moved away; the ring begins anew there", self.settings.stream, self.settings.path)
            self._let_go()
            self.writer.displaced = ""
            self.open()

    def seal_finished(self) -> None:
        """Seal the segments that the writer is done with, and put their rows into the index. Raises DiskFailed."""
        ring = self._ring
        assert ring is not None
        while self.writer.finished:
            segment = self.writer.finished[0]
            if segment.written_bytes != segment.synced_bytes:
                return  # the next burst syncs it first
            if segment.number not in ring.refused:
                self._seal(ring, segment)
            self.writer.finished.popleft()
            self._take_back(segment)

    def _seal(self, ring: OpenRing, segment: OpenSegment) -> None:
        rows = segment.rows()
        records = [row.record for row in rows]
        state = State.OPEN
        header = segment.header
        try:
            if segment.has_failed and segment.end < segment.data_end:
                segment.directory.write(segment.fd, layout.free_page(segment.data_end - segment.end), segment.end)
            if records:
                state = State.SEALED
                signer = self._identity if header.box_id == self.writer.box_id else None
                seal = layout.sealed(
                    records,
                    header.box_id,
                    signer.sign if signer else None,
                    signer.public_bytes if signer else bytes(32),
                )
                segment.directory.write(segment.fd, layout.seal_page(seal), segment.data_end)
            segment.directory.sync(segment.fd)
            new = layout.state_of(
                segment.number, segment.lap, state, header.header_bytes, records,
                sequence_floor=header.sequence_floor, run_floor=header.run_floor,
                rows_max=rows_max(ring.index.segment_bytes),
            )  # fmt: skip
            ring.index.write(new, rows)
            ring.states[segment.number] = new
        except OSError as error:
            ring.refused.add(segment.number)
            raise failed(error, f"sealing segment {segment.number}") from error

    def prepare(self) -> None:
        """Have one empty segment ready for the writer. Raises DiskFailed when there cannot be one."""
        ring = self._ring
        assert ring is not None
        if any(not segment.fragments for segment in self.writer.ready):
            return
        segment = self._prepared(ring)
        if segment is None:
            return
        self._hand(segment)
        self.writer.syncer_trouble = None
        self._failures = 0

    def _prepared(self, ring: OpenRing) -> OpenSegment | None:
        """None where the disk is full and it is too early to erase footage for that: asked again with the next housekeeping."""
        segment_bytes = ring.index.segment_bytes
        hold_segments = self.settings.hold_bytes // segment_bytes
        kept, self.over_hold_budget = held_segments(list(ring.states.values()), self._holds, hold_segments)
        # Held segments have a budget of their own: while they are kept, the ring may have as many more.
        allowed = self.settings.ring_bytes // segment_bytes + min(len(kept), hold_segments)
        in_use = self._handed | ring.refused
        while ring.aside and len(ring.states) + len(ring.aside) >= allowed:
            self._remove_aside(ring)
        while len(ring.states) > allowed:
            surplus = layout.segment_to_reuse(ring.states.values(), kept | in_use)
            if surplus is None:
                break
            self._remove(ring, surplus.number)
        reused = layout.segment_to_reuse(ring.states.values(), kept | in_use)
        if len(ring.states) < allowed and (reused is None or self._clock.mono_ns() >= self._grow_again_ns):
            segment = self._grown(ring)
            while segment is None and ring.aside:
                self._remove_aside(ring)
                segment = self._grown(ring)
            if segment is not None:
                self._grow_again_ns, self._stays_full = 0, False
                return segment
        if reused is not None and len(ring.states) < allowed and not self._stays_full:
            if self._is_early():
                return None
            self._stays_full = True
            self._grow_again_ns = self._clock.mono_ns() + _GROW_RETRY_NS
            log.warning(
                "%s: the disk has no room for another segment; the ring stays at %d segments of %d MiB and reuses the oldest",
                self.settings.stream, len(ring.states), ring.index.segment_bytes >> 20,
            )  # fmt: skip
        if reused is None:
            if kept:
                raise DiskFailed(
                    f"all {len(ring.states)} segments are held or in use", cause=Cause.HELD_BACK,
                    hint="Release a hold, or raise hold_gb or ring_gb.",
                )  # fmt: skip
            raise DiskFailed(
                f"the disk has room for {len(ring.states)} of {allowed} segments, and none of them can be used",
                cause=Cause.DISK_FULL if self._grow_again_ns else Cause.DISK_FAILED, hint="Free space on the disk, or lower ring_gb.",
            )  # fmt: skip
        return self._reused(ring, reused)

    def _is_early(self) -> bool:
        """Whether the segment that is written now is not yet half full: there is time to wait for the next one."""
        current = self.writer.current
        return current is not None and not current.has_failed and current.end < current.data_end // 2

    def _header(self, ring: OpenRing, number: int, lap: int, flags: HeaderFlag = HeaderFlag.NONE) -> SegmentHeader:
        """With the parameter sets that were used last, which are almost always the next ones."""
        current = self.writer.current or next(iter(self.writer.ready), None)
        init = current.header.init if current is not None and not flags else b""
        return SegmentHeader(
            self.writer.box_id, self.writer.boot_id, self.settings.stream, number, lap, ring.index.segment_bytes,
            self.writer.sequence, self.writer.run, flags, init,
        )  # fmt: skip

    def _grown(self, ring: OpenRing) -> OpenSegment | None:
        """A new segment; None when the disk has no room for it, and the ring stays as it is."""
        number = layout.new_number(ring.states)
        name = layout.segment_name(number)
        directory = ring.directory
        try:
            fd = directory.open(name, create=True)
            try:
                ring.index.grow(number + 1)
                directory.allocate(fd, ring.index.segment_bytes)
                segment = self._begun(ring, fd, self._header(ring, number, 1))
                directory.sync_names()
            except OSError:
                ring.states.pop(number, None)
                directory.close_file(fd)
                self._give_up(directory, name)
                raise
        except OSError as error:
            failure = failed(error, f"making segment {number}")
            if failure.cause is not Cause.DISK_FULL:
                raise failure from error
            self._grow_again_ns = self._clock.mono_ns() + (_GROW_RETRY_NS if self._stays_full else _GROW_SOON_NS)
            return None
        return segment

    def _give_up(self, directory: Directory, name: str) -> None:
        """Remove a file that was just made and in which nothing was ever recorded."""
        try:
            directory.remove(name)
        except OSError as error:
            log.warning("%s: %s stays as an empty file: %s", self.settings.stream, name, error.strerror)

    def _reused(self, ring: OpenRing, state: SegmentState) -> OpenSegment:
        try:
            fd = ring.directory.open(layout.segment_name(state.number))
        except OSError as error:
            ring.refused.add(state.number)
            raise failed(error, f"opening segment {state.number}") from error
        try:
            return self._begun(ring, fd, self._header(ring, state.number, state.lap + 1))
        except OSError as error:
            ring.directory.close_file(fd)
            ring.refused.add(state.number)  # in this process; the next start looks at it again
            raise failed(error, f"preparing segment {state.number}") from error

    def _begun(self, ring: OpenRing, fd: int, header: SegmentHeader) -> OpenSegment:
        """A segment ready to be written: first its slot says so, then its header. Raises OSError."""
        state = SegmentState(
            header.segment, header.lap, State.OPEN, sequence_floor=header.sequence_floor, run_floor=header.run_floor
        )
        ring.index.write(state)
        ring.index.sync()
        ring.states[header.segment] = state
        written, end = self._write_blank(ring, fd, header)
        return OpenSegment(ring.directory, fd, written, end)

    def _write_blank(self, ring: OpenRing, fd: int, header: SegmentHeader) -> tuple[SegmentHeader, int]:
        ring.directory.forget(fd)
        # The last page first: the file is a valid MP4 as soon as it has a header.
        ring.directory.write(fd, layout.free_page(PAGE_BYTES), header.segment_bytes - PAGE_BYTES)
        written, end = write_header(ring.directory, fd, header)
        ring.directory.sync(fd)
        return written, end

    def _remove(self, ring: OpenRing, number: int) -> None:
        """Give a segment back to the file system: the budget became smaller, or a hold was released."""
        try:
            ring.directory.remove(layout.segment_name(number))
            ring.directory.sync_names()
            ring.index.clear(number)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise failed(error, f"removing segment {number}") from error
        del ring.states[number]
        log.info("%s: segment %d removed, the ring's budget became smaller", self.settings.stream, number)

    def _remove_aside(self, ring: OpenRing) -> None:
        """Files of another ring, which recovery put aside, make room before anything of our own does."""
        name = ring.aside[0]
        try:
            ring.directory.remove(name)
            ring.directory.sync_names()
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise failed(error, f"removing {name}") from error
        del ring.aside[0]
        log.warning("%s: %s removed, its room is needed", self.settings.stream, name)

    def _let_old_go(self) -> None:
        """Make footage unreadable that is older than the law allows. Raises DiskFailed."""
        ring = self._ring
        now_ns = self._clock.mono_ns()
        if self.settings.keep_days is None or ring is None or now_ns - self._aged_ns < _AGE_EVERY_NS:
            return
        self._aged_ns = now_ns
        reading = self._clock.read()
        if reading.state is not ClockState.SYNCED:
            return
        ahead_ns = reading.wall_ns - reading.mono_ns
        if abs(ahead_ns - self._ahead_ns) > _JUMP_NS:
            self._ahead_ns, self._steady_since_ns = ahead_ns, now_ns
        numbers = layout.expired(
            ring.states.values(), reading.wall_ns - reading.error_ns, self.settings.keep_days, now_ns - self._steady_since_ns
        )  # fmt: skip
        if not numbers:
            return
        kept, _ = held_segments(
            list(ring.states.values()), self._holds, self.settings.hold_bytes // ring.index.segment_bytes
        )
        for number in numbers:
            if number not in kept | self._handed | ring.refused:
                self._empty(ring, number)

    def _empty(self, ring: OpenRing, number: int) -> None:
        old = ring.states[number]
        header = self._header(ring, number, old.lap + 1, HeaderFlag.EMPTIED)
        try:
            fd = ring.directory.open(layout.segment_name(number))
            try:
                self._begun(ring, fd, header)
            finally:
                ring.directory.close_file(fd)
            state = SegmentState(
                number, header.lap, State.FREE, sequence_floor=header.sequence_floor, run_floor=header.run_floor
            )
            ring.index.write(state)
            ring.states[number] = state
        except OSError as error:
            ring.refused.add(number)
            raise failed(error, f"emptying segment {number}") from error
        log.info("%s: segment %d emptied, older than %g days", self.settings.stream, number, self.settings.keep_days)

    def _drain(self) -> bool:
        """Take everything back from the writer; False, and nothing done, while it is writing."""
        with self.writer.handover:
            if self.writer.current is not None:
                return False
            for handed in (self.writer.ready, self.writer.finished):
                while handed:
                    self._take_back(handed.popleft())
        return True

    def close(self) -> None:
        """Let go of everything. The writer is closed, and everything durable."""
        current, self.writer.current = self.writer.current, None
        if current is not None:
            self._take_back(current)
        self._drain()
        self._let_go()

    def _let_go(self) -> None:
        ring, self._ring = self._ring, None
        if ring is None:
            return
        try:
            ring.index.sync()
            ring.index.close()
        except OSError as error:
            log.error("%s: closing the index: %s", self.settings.stream, error.strerror)
        ring.directory.close()
