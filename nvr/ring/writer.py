"""Access units to fragments in the open segment; belongs to the one thread of `record`.

The order of writes (docs/formats/ring.md): whole pages of payload as they arrive; the rest of it, the commit record and a
`free` page in one gathered write; the head, its first 8 bytes last. Nothing here waits for a sync or for new blocks:
the syncer has prepared the next segment. Media bytes go from where they were received to the kernel without being
copied. A disk that fails costs pictures, which are counted with their cause, and raises nothing.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import sub
from typing import NamedTuple

from nvr import fmp4, h264
from nvr.clock import RunClock
from nvr.gather import Gather
from nvr.media import (
    TICKS_PER_S,
    AccessUnit,
    AccessUnits,
    Cause,
    ClockReading,
    FragmentRecord,
    Position,
    RunStarted,
)
from nvr.ring import disk, layout
from nvr.ring.disk import Trouble
from nvr.ring.layout import ZERO_HASH, RingSettings, Row
from nvr.ring.segment import OpenSegment

log = logging.getLogger(__name__)

NS_PER_S = 1_000_000_000
# Pages wait in memory until there are so many: 4 writes a second at 4 Mbit/s. Waiting costs no safety, since a fragment
# counts only when it is closed. A write ends where a block of as many bytes ends in the file: the kernel keeps a file in
# pieces of up to that size, and writing half of one costs it as much as writing all (docs/bench.md).
WRITE_BYTES = 128 << 10
# The syncer is woken when a stream has written so much: recovery looks no further than this (walk.SCAN_BYTES).
UNSYNCED_MAX_BYTES = 8 << 20
# A GOP of "one second" is 1.00 s give or take a picture: splitting off its last picture would double the fragments.
_FRAGMENT_SLACK = 1.1
_OVERHEAD_BYTES = fmp4.HEAD_RESERVE_BYTES + fmp4.RECORD_MIN_BYTES
_USUAL_TICKS = TICKS_PER_S // 25  # of a picture that nothing follows, where nothing says better
_BACK_OFF_NS = (NS_PER_S // 2, 2 * NS_PER_S, 5 * NS_PER_S, 10 * NS_PER_S)
_WHOLE_BLOCKS = ~(WRITE_BYTES - 1)


class Written(NamedTuple):
    """A fragment that is in the file; durable when the syncer says so."""

    position: Position
    record: FragmentRecord


_NOTHING: list[Written] = []
_NO_UNITS = AccessUnits(Gather(), [], [], 0)


class _Fragment:
    """The fragment that is being written."""

    __slots__ = (
        "arrival_ns", "camera_wall_ns", "composition", "crc", "first_ticks", "gather", "hasher", "is_keyframe", "last_ticks",
        "lost_packets", "payload_bytes", "payload_max", "segment", "sizes", "ticks", "ticks_max", "written_bytes",
    )  # fmt: skip

    def __init__(
        self, segment: OpenSegment, unit: AccessUnit, payload_max: int, ticks_max: int, hasher: object
    ) -> None:
        self.segment = segment
        self.gather = Gather()
        self.gather.append(memoryview(fmp4.open_head(segment.data_end - segment.end)))
        self.written_bytes = 0  # of the whole fragment, from segment.end
        self.payload_bytes = 0
        self.payload_max = payload_max
        self.first_ticks = unit.decode_ticks
        self.ticks_max = unit.decode_ticks + ticks_max
        self.last_ticks = unit.decode_ticks
        self.arrival_ns = unit.arrival_ns
        self.camera_wall_ns = unit.camera_wall_ns
        self.is_keyframe = unit.is_keyframe
        self.lost_packets = 0
        self.crc = 0
        self.hasher = hasher
        self.sizes: list[int] = []
        self.ticks: list[int] = []
        self.composition: list[int] = []


class Writer:
    """One stream. Made before its ring is open; until then, and whenever the disk fails, pictures are dropped and counted."""

    def __init__(self, settings: RingSettings, *, box_id: bytes, boot_id: bytes) -> None:
        self.settings = settings
        self.box_id = box_id
        self.boot_id = boot_id
        self.dropped: dict[Cause, int] = {}
        self.longest_write_ns = 0
        self.durable_sequence = 0  # the syncer's
        # Handed over between the two threads; each of these has one who appends and one who takes.
        self.ready: deque[OpenSegment] = deque()  # from the syncer: continued or prepared
        self.finished: deque[OpenSegment] = deque()  # to the syncer, which syncs and seals them
        self.current: OpenSegment | None = None  # written by this thread, synced by the other
        self.displaced = ""  # by the syncer: why what is recorded is not found where it should be
        self.handover = threading.Lock()  # while a segment goes from `ready` to `current`, or all are taken back
        self.syncer_trouble: Trouble | None = Trouble(Cause.DISK_SLOW, "the ring is not open yet", 0)
        self.wake_syncer: Callable[[], object] = lambda: None
        self.sequence = 0  # the last one used
        self.run = 0
        self._has_run = False  # a run is going on
        self._run_number = 0  # of this run; 0 until its first fragment
        self._init = b""
        self._clock: RunClock | None = None
        self._fragment: _Fragment | None = None
        self._hash = ZERO_HASH  # of the fragment before, in this run
        self._needs_keyframe = True
        self._trouble: Trouble | None = None
        self._failures = 0
        self._retry_ns = 0
        self._picture_ticks = _USUAL_TICKS
        self._ticks_max = round(settings.fragment_s * _FRAGMENT_SLACK * TICKS_PER_S)
        self._gop_bytes = 0  # on disk: of the GOP before, and of this one so far
        self._this_gop_bytes = 0
        self._end_mono_ns = 0  # when the last fragment ended

    # -- what others may ask -----------------------------------------------------------------------

    @property
    def trouble(self) -> Trouble | None:
        """Why nothing is recorded just now; None while all is well, or while there is nothing to record."""
        return self._trouble

    def adopt(self, sequence: int, run: int) -> None:
        """The ring was opened: go on behind these numbers. Called by the syncer before it hands over segments."""
        self.sequence = max(self.sequence, sequence)
        self.run = max(self.run, run)

    def facts(self) -> dict[str, object]:
        segment = self.current
        return {
            "sequence": self.sequence,
            "durable_sequence": self.durable_sequence,
            "segment": segment.number if segment else None,
            "lap": segment.lap if segment else None,
            "dropped": {cause.value: count for cause, count in self.dropped.items()},
            "longest_write_ms": self.longest_write_ns // 1_000_000,
        }

    # -- runs --------------------------------------------------------------------------------------

    def start_run(self, started: RunStarted, reading: ClockReading) -> list[Written]:
        """The next access unit is the first of a new run. Ends the run before, if one is open."""
        written = self.end_run(reading)
        try:
            self._init = fmp4.init_segment(started.parameter_sets, started.width, started.height)
        except h264.BadH264 as error:
            self._init = b""
            self._fail(Trouble(Cause.CAMERA, f"its parameter sets cannot be recorded: {error}", reading.mono_ns))
        self._has_run = True
        self._run_number = 0
        self._clock = None
        self._hash = ZERO_HASH
        self._needs_keyframe = True
        self._this_gop_bytes = 0
        return written

    def push(self, unit: AccessUnit, reading: ClockReading) -> list[Written]:
        """Take one access unit; returns the fragment that it closed, if it did.

        `unit.payload` belongs to the writer from now on. `reading` is of this moment, or of this tick.
        """
        return self.push_all((unit,), reading)

    def push_all(self, units: Sequence[AccessUnit | AccessUnits], reading: ClockReading) -> list[Written]:
        """push() for each of `units`, in order; at least one."""
        self._observe(units)
        written: list[Written] = []
        for unit in units:
            if type(unit) is AccessUnits:
                self._push_together(unit, reading, written)
            else:
                written += self._push(unit, reading)  # type: ignore[arg-type]
        return written

    def _push(self, unit: AccessUnit, reading: ClockReading) -> list[Written]:
        payload, ticks, composition_ticks, _, is_keyframe, lost_packets, _ = unit
        size_bytes = payload.size_bytes
        fragment, written = self._fragment, _NOTHING  # which nobody changes
        if fragment is not None:
            self._picture_ticks = picture_ticks = ticks - fragment.last_ticks
            if (
                is_keyframe
                or ticks + picture_ticks > fragment.ticks_max
                or len(fragment.sizes) >= fmp4.MAX_SAMPLES
                or fragment.payload_bytes + size_bytes > fragment.payload_max
            ):
                written = self._close_fragment(picture_ticks, reading)
                fragment = None
            else:
                fragment.ticks.append(picture_ticks)
                fragment.last_ticks = ticks
        if fragment is None:
            fragment = self._open_fragment(unit, size_bytes, reading)
            if fragment is None:
                return written
        fragment.sizes.append(size_bytes)
        fragment.composition.append(composition_ticks)
        fragment.lost_packets += lost_packets
        self._put(fragment, payload, size_bytes, reading)
        return written

    def _push_together(self, units: AccessUnits, reading: ClockReading, written: list[Written]) -> None:
        """_push() for each, those that the open fragment takes at once. What it closes is added to `written`."""
        while units.sizes_bytes:
            fragment, count = self._fragment, 0
            if fragment is not None:
                times, sizes = units.decode_ticks, units.sizes_bytes
                ticks = [times[0] - fragment.last_ticks, *map(sub, times[1:], times)]
                count = _fitting(fragment, times, ticks, sizes)
            if fragment is None or not count:
                one, units = units.take(1)
                written += self._push(one.single(), reading)
                continue
            taken = units
            if count == len(sizes):
                units = _NO_UNITS
            else:
                taken, units = units.take(count)
            self._picture_ticks = ticks[count - 1]
            fragment.last_ticks = times[count - 1]
            fragment.ticks += ticks[:count]
            fragment.sizes += taken.sizes_bytes
            fragment.composition += [0] * count
            self._put(fragment, taken.payload, taken.payload.size_bytes, reading)

    def _put(self, fragment: _Fragment, payload: Gather, size_bytes: int, reading: ClockReading) -> None:
        """The media of pictures that are in the fragment's tables; on its way to the disk as soon as there is enough of it."""
        fragment.payload_bytes += size_bytes
        fragment.crc = payload.crc32c(fragment.crc)
        if fragment.hasher is not None:
            payload.update(fragment.hasher)  # type: ignore[arg-type]
        gather = fragment.gather
        gather.extend(payload)
        if gather.size_bytes >= WRITE_BYTES:
            at = fragment.segment.end + fragment.written_bytes
            self._write(fragment, (at + gather.size_bytes & _WHOLE_BLOCKS) - at, reading)

    def _observe(self, units: Sequence[AccessUnit | AccessUnits]) -> None:
        """Show the run's clock what arrived; of units that arrived together the last was delayed least."""
        clock, last = self._clock, units[-1]
        if clock is None:
            clock = self._clock = RunClock(units[0].arrival_ns, not_before_ns=self._end_mono_ns)
        if units[0].arrival_ns != last.arrival_ns:
            for unit in units[:-1]:
                clock.observe(_last_ticks(unit), unit.arrival_ns)
        clock.observe(_last_ticks(last), last.arrival_ns)

    def end_run(self, reading: ClockReading) -> list[Written]:
        """The stream was interrupted: close the fragment that is open."""
        written = self._close_fragment(self._picture_ticks, reading) if self._fragment is not None else []
        self._has_run = False
        self._needs_keyframe = True
        return written

    def abandon_run(self) -> None:
        """End the run without the fragment that is open: it cannot be closed, for a reason that nobody foresaw."""
        if self._fragment is not None:
            self._abandon(self._fragment)
        self._has_run = False
        self._needs_keyframe = True

    def close(self, reading: ClockReading) -> list[Written]:
        """Nothing more will come. What was written becomes durable with Syncer.stop()."""
        return self.end_run(reading)

    # -- fragments ---------------------------------------------------------------------------------

    def _open_fragment(self, unit: AccessUnit, size_bytes: int, reading: ClockReading) -> _Fragment | None:
        if self._needs_keyframe and not unit.is_keyframe:
            self._drop(1)
            return None
        if not self._init or not self._has_run:
            self._drop(1, Cause.CAMERA)
            return None
        if unit.is_keyframe:
            self._gop_bytes = max(self._this_gop_bytes, self._gop_bytes * 7 // 8)
            self._this_gop_bytes = 0
        need_bytes = layout.pages(size_bytes + _OVERHEAD_BYTES)
        segment = self._segment_with(need_bytes, unit, reading)
        if segment is None:
            self._drop(1)
            return None
        room_bytes = segment.data_end - segment.end
        limit_bytes = max(layout.fragment_limit_bytes(segment.header.segment_bytes), need_bytes)
        self._needs_keyframe = False
        hasher = hashlib.sha256() if self.settings.evidence else None
        self._fragment = fragment = _Fragment(
            segment, unit, min(room_bytes, limit_bytes) - _OVERHEAD_BYTES, self._ticks_max, hasher
        )
        return fragment

    def _segment_with(self, need_bytes: int, unit: AccessUnit, reading: ClockReading) -> OpenSegment | None:
        """The open segment if it has room, else the next one; None while there is none."""
        segment = self.current
        if segment is not None and segment.has_failed:  # a sync failed: the syncer said so
            self._finish_segment()
            segment = None
        if segment is not None:
            room_bytes = segment.data_end - segment.end
            # Better a little left over than a segment that starts in the middle of a GOP.
            gop_bytes = min(self._gop_bytes, segment.header.segment_bytes // 8) if unit.is_keyframe else 0
            if segment.header.init == self._init and room_bytes >= max(need_bytes, gop_bytes):
                return segment
            if need_bytes > segment.data_end - segment.header.header_bytes:
                # No other segment has more room: one after the other would be left almost empty.
                self._fail_picture(need_bytes, segment, reading)
                return None
            self._finish_segment()
        if reading.mono_ns < self._retry_ns:
            return None
        try:
            with self.handover:
                segment = self.current = self._next_segment()
        except OSError as error:
            self._disk_failed(error, reading)
            return None
        if segment is None:
            self._fail(self._reason("the disk has not made room for the next segment yet", reading))
            self.wake_syncer()
            return None
        self.wake_syncer()  # to prepare the one after
        if need_bytes > segment.data_end - segment.end:
            if segment.fragments:
                return self._segment_with(need_bytes, unit, reading)
            self._fail_picture(need_bytes, segment, reading)
            return None
        return segment

    def _next_segment(self) -> OpenSegment | None:
        """Take a segment for this run's parameter sets from the syncer. Raises OSError."""
        while True:
            try:
                segment = self.ready.popleft()
            except IndexError:
                return None
            if segment.header.init == self._init:
                return segment
            if segment.fragments:  # continued after a start, but the camera has changed
                self.finished.append(segment)
                continue
            try:
                segment.write_header(self._init)
            except OSError:
                segment.has_failed = True
                self.finished.append(segment)
                raise
            except ValueError as error:
                self.ready.appendleft(segment)
                self._init = b""
                self._trouble = Trouble(Cause.CAMERA, f"its parameter sets cannot be recorded: {error}", 0)
                return None
            return segment

    def _finish_segment(self) -> None:
        if self.current is not None:
            self.finished.append(self.current)
            self.current = None
            self.wake_syncer()

    def _write(self, fragment: _Fragment, size_bytes: int, reading: ClockReading) -> bool:
        segment = fragment.segment
        before_ns = time.monotonic_ns()
        try:
            segment.directory.write_gather(
                segment.fd, fragment.gather, segment.end + fragment.written_bytes, size_bytes
            )
        except OSError as error:
            self._disk_failed(error, reading)
            return False
        self._took(time.monotonic_ns() - before_ns)
        fragment.written_bytes += size_bytes
        segment.written_bytes += size_bytes
        if segment.written_bytes - segment.synced_bytes > UNSYNCED_MAX_BYTES:
            self.wake_syncer()
        return True

    def _took(self, took_ns: int) -> None:
        if took_ns > self.longest_write_ns:
            self.longest_write_ns = took_ns

    def _close_fragment(self, last_ticks: int, reading: ClockReading) -> list[Written]:
        """Write what is left, the commit record, and then the head. The last picture lasts `last_ticks`."""
        fragment = self._fragment
        assert fragment is not None and self._clock is not None
        segment = fragment.segment
        if segment.has_failed:  # a sync failed while the fragment grew
            self._fail(self._reason("the disk could not keep what was written", reading))
            self._abandon(fragment)
            return []
        if self._run_number == 0:
            self.run += 1
            self._run_number = self.run
        fragment.ticks.append(last_ticks)
        is_keyframe = fragment.is_keyframe
        mono_ns = self._clock.mono_ns(fragment.first_ticks, fragment.arrival_ns)
        decode_ticks = segment.decode_ticks(self._run_number, fragment.first_ticks, mono_ns, self.boot_id)
        head = fmp4.head_of_tables(
            segment.next_in_file, decode_ticks, fragment.sizes, fragment.ticks, fragment.composition, fragment.payload_bytes,
            is_keyframe=is_keyframe,
        )  # fmt: skip
        duration_ticks = fragment.last_ticks + last_ticks - fragment.first_ticks
        record = FragmentRecord(
            self.box_id, self.boot_id, self.settings.stream, self._run_number, segment.lap, segment.number, self.sequence + 1,
            mono_ns, reading.wall_ns - reading.mono_ns + mono_ns, reading.state, reading.error_ns, fragment.first_ticks,
            duration_ticks, len(fragment.sizes), fragment.payload_bytes, fragment.lost_packets, is_keyframe, fragment.camera_wall_ns,
            self._hash, ZERO_HASH,
        )  # fmt: skip
        if fragment.hasher is not None:
            record = replace(record, hash=fmp4.fragment_hash(fragment.hasher, head, record))  # type: ignore[arg-type]
        record_bytes = fmp4.commit_record_size(fragment.payload_bytes)
        size_bytes = fmp4.HEAD_RESERVE_BYTES + fragment.payload_bytes + record_bytes
        fragment.gather.append(memoryview(fmp4.commit_record(record, head, fragment.crc, record_bytes)))
        free_bytes = segment.data_end - segment.end - size_bytes
        if free_bytes:
            fragment.gather.append(memoryview(layout.free_page(free_bytes)))
        if not self._write(fragment, fragment.gather.size_bytes, reading):
            return []
        try:
            segment.directory.write(segment.fd, memoryview(head)[8:], segment.end + 8)
            segment.directory.write(segment.fd, memoryview(head)[:8], segment.end)  # from now on there is a fragment
        except OSError as error:
            self._disk_failed(error, reading)
            return []
        written = Written(segment.position(size_bytes), record)
        segment.next_in_file += 1
        segment.last_decode_ticks, segment.last_mono_ns = decode_ticks, mono_ns
        segment.decode_end_ticks = decode_ticks + duration_ticks
        segment.tick_run, segment.tick_base = self._run_number, fragment.first_ticks - decode_ticks
        segment.append(Row(*written))
        self.sequence = record.sequence
        self._hash = record.hash
        self._end_mono_ns = mono_ns + record.duration_ns
        self._this_gop_bytes += size_bytes
        self._fragment = None
        self._trouble, self._failures = None, 0
        return [written]

    # -- what goes wrong ---------------------------------------------------------------------------

    def _drop(self, pictures: int, cause: Cause | None = None) -> None:
        """Count pictures that are not recorded; what follows needs a keyframe."""
        if cause is None:
            cause = self._trouble.cause if self._trouble else Cause.CAMERA
        self.dropped[cause] = self.dropped.get(cause, 0) + pictures
        self._needs_keyframe = True

    def _fail(self, trouble: Trouble) -> None:
        if self._trouble is None or self._trouble.cause is not trouble.cause:
            log.warning("%s: not recording, %s: %s", self.settings.stream, trouble.cause.value, trouble.detail)
            self._trouble = trouble

    def _reason(self, otherwise: str, reading: ClockReading) -> Trouble:
        """What the syncer says, which knows the disk."""
        known = self.syncer_trouble
        if known is None:
            return Trouble(Cause.DISK_SLOW, otherwise, reading.mono_ns)
        return Trouble(known.cause, known.detail, reading.mono_ns)

    def _abandon(self, fragment: _Fragment) -> None:
        self._drop(len(fragment.sizes))
        self._fragment = None

    def _disk_failed(self, error: OSError, reading: ClockReading) -> None:
        """A write failed: give up the fragment and its segment, try again with another one a little later."""
        self._retry_ns = reading.mono_ns + _BACK_OFF_NS[min(self._failures, len(_BACK_OFF_NS) - 1)]
        self._failures += 1
        failure = disk.failed(error, f"writing segment {self.current.number if self.current else '?'}")
        self._fail(Trouble(failure.cause, str(failure), reading.mono_ns))
        if self._fragment is not None:
            self._abandon(self._fragment)
        if self.current is not None:
            self.current.has_failed = True
        self._finish_segment()

    def _fail_picture(self, need_bytes: int, segment: OpenSegment, reading: ClockReading) -> None:
        self._fail(Trouble(
            Cause.CAMERA,
            f"a picture needs {need_bytes} bytes, a segment of this ring has {segment.data_end - segment.header.header_bytes}: raise ring_gb",
            reading.mono_ns,
        ))  # fmt: skip


def _fitting(fragment: _Fragment, times: list[int], ticks: list[int], sizes: list[int]) -> int:
    """How many of these pictures go into the open fragment; by the rules of _push()."""
    room = fmp4.MAX_SAMPLES - len(fragment.sizes)
    room_bytes = fragment.payload_max - fragment.payload_bytes
    if times[-1] + max(ticks) <= fragment.ticks_max and len(sizes) <= room and sum(sizes) <= room_bytes:
        return len(sizes)
    count = 0
    for at_ticks, picture_ticks, size_bytes in zip(times, ticks, sizes, strict=True):
        room_bytes -= size_bytes
        if at_ticks + picture_ticks > fragment.ticks_max or count >= room or room_bytes < 0:
            break
        count += 1
    return count


def _last_ticks(unit: AccessUnit | AccessUnits) -> int:
    return unit.decode_ticks[-1] if type(unit) is AccessUnits else unit.decode_ticks  # type: ignore[return-value]
