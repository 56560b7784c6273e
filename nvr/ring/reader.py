"""Rows and bytes of a ring, for every process but the one that writes it. No locks.

A segment may be used again at any moment. So whatever was read counts only if the segment still has the same lap
*afterwards*: its header changes before any of its bytes do.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from pathlib import Path

from nvr.errors import NvrError
from nvr.media import Position
from nvr.ring import forgotten, layout
from nvr.ring.disk import Directory, failed
from nvr.ring.index import Index, IndexDamaged, rows_max
from nvr.ring.layout import DamagedHeader, HeaderFlag, Row, SegmentHeader, SegmentState, State
from nvr.ring.walk import read_header, walk

__all__ = ["NoInitSegment", "Recycled", "Ring", "RingUnreadable", "Row", "streams"]


class RingUnreadable(NvrError):
    """There is no ring, or it cannot be read."""


class Recycled(NvrError):
    """The segment was used again: the fragment is not there any more."""


class NoInitSegment(NvrError):
    """The segment's parameter sets were lost in a power cut; those of another segment of the stream may fit."""


def streams(data_dir: Path) -> dict[str, Path]:
    """Every ring of a box: "camera/main" to its directory."""
    found = {}
    rings_path = data_dir / "rings"
    for camera in sorted(_directories(rings_path)):
        for kind in sorted(_directories(camera)):
            found[f"{camera.name}/{kind.name}"] = kind
    return found


def _directories(path: Path) -> list[Path]:
    try:
        return [entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RingUnreadable(f"cannot read {path}: {error.strerror}", hint="Run as the user that records.") from error


class _Tail:
    """What is known of a segment that is being written: fragments are only ever added."""

    def __init__(self, lap: int) -> None:
        self.lap = lap
        self.rows: list[Row] = []


class Ring:
    """One ring, read only. Cheap to keep open; not for several threads at once."""

    def __init__(self, path: Path) -> None:
        """Raises RingUnreadable."""
        self.path = path
        try:
            self._directory = Directory(path)
        except OSError as error:
            raise RingUnreadable(
                f"there is no ring in {path}: {error.strerror}", hint="nvr ring ls names the rings."
            ) from error
        try:
            self._index = Index.open(self._directory)
        except (IndexDamaged, OSError) as fault:
            self._directory.close()
            hint = fault.hint if isinstance(fault, NvrError) else "Run as the user that records."
            raise RingUnreadable(f"cannot read the index in {path}: {fault}", hint=hint) from fault
        self.stream = self._index.stream
        self.segment_bytes = self._index.segment_bytes
        self._tails: dict[int, _Tail] = {}
        self.forgotten: frozenset[int] = frozenset()  # sequence numbers that do not read back; rows() leaves them out
        self._forgotten_seen: tuple[int, int] | None = None
        self.look_for_forgotten()

    def look_for_forgotten(self) -> bool:
        """Read again what scrub.py found, if that changed; whether it did."""
        try:
            found = os.stat(self.path / forgotten.NAME)
            seen: tuple[int, int] | None = (found.st_mtime_ns, found.st_ino)
        except OSError:
            seen = None
        if seen == self._forgotten_seen:
            return False
        try:
            laps = {state.number: state.lap for state in self._states()} if seen else {}
            known = forgotten.still_true(forgotten.load(self.path), laps) if seen else []
        except (NvrError, OSError):
            return False
        self._forgotten_seen = seen
        self.forgotten = frozenset(each.sequence for each in known)
        return True

    def close(self) -> None:
        self._index.close()
        self._directory.close()

    def __enter__(self) -> Ring:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # -- rows --------------------------------------------------------------------------------------

    def rows(self, from_sequence: int = 0) -> Iterator[Row]:
        """Every fragment from `from_sequence` on, in order, up to what is in the file now.

        A segment that is used again meanwhile is left out, as a whole or from there on; so are fragments that the disk has
        forgotten. Raises RingUnreadable.
        """
        self.look_for_forgotten()
        last = from_sequence - 1
        # Segments by their first sequence number. What an open one holds is only known by looking at its media, but all of it
        # was numbered after the segment was prepared: it is not looked at before that number comes, which may be never.
        heap: list[tuple[int, int, bool, SegmentState]] = []
        for state in self._states():
            if state.state is State.SEALED and state.last_sequence > last:
                heap.append((state.first_sequence, state.number, True, state))
            elif state.state is State.OPEN:
                heap.append((state.sequence_floor + 1, state.number, False, state))
        heapify(heap)
        while heap:
            _, number, is_first, state = heappop(heap)
            rows = self._rows_of(state)
            if not is_first:
                if rows:
                    heappush(heap, (rows[0].record.sequence, number, True, state))
                continue
            for row in rows:
                if row.record.sequence > last:
                    last = row.record.sequence
                    if last not in self.forgotten:
                        yield row

    def newest(self) -> Row | None:
        """The last fragment that is in the file."""
        states = self._states()
        for state in sorted(states, key=lambda state: (self._newest_of(state), state.number), reverse=True):
            rows = self._rows_of(state)
            if rows:
                return rows[-1]
        return None

    def segments(self) -> list[SegmentState]:
        """All segments, oldest fragments first; those without any come last."""
        filled = []
        for state in self._states():
            if state.state is State.OPEN:
                rows = self._rows_of(state)
                state = layout.state_of(
                    state.number, state.lap, State.OPEN, state.header_bytes, [row.record for row in rows],
                    sequence_floor=state.sequence_floor, run_floor=state.run_floor, rows_max=rows_max(self.segment_bytes),
                )  # fmt: skip
            filled.append(state)
        return sorted(filled, key=lambda state: (not state.fragments, state.first_sequence, state.number))

    def sealed(self) -> list[SegmentState]:
        """The segments that are full, oldest first, by the index alone: no media is read."""
        states = [state for state in self._states() if state.state is State.SEALED and state.fragments]
        return sorted(states, key=lambda state: state.first_sequence)

    def _states(self) -> list[SegmentState]:
        """Of every segment file; one whose slot cannot be read counts as open."""
        try:
            numbers = [n for n in map(layout.segment_number, self._directory.names()) if n is not None]
            return [self._index.state(number) or SegmentState(number, 0, State.OPEN) for number in numbers]
        except OSError as error:
            raise RingUnreadable(f"cannot read the ring in {self.path}: {error.strerror}") from failed(error, "reading")

    def _newest_of(self, state: SegmentState) -> int:
        if state.state is not State.OPEN:
            return state.last_sequence
        rows = self._tail(state.number)
        return rows[-1].record.sequence if rows else 0

    def _rows_of(self, state: SegmentState) -> list[Row]:
        if state.state is State.FREE:
            return []
        if state.state is State.SEALED:
            try:
                found = self._index.rows(state.number)
            except OSError as error:
                raise RingUnreadable(f"cannot read the index in {self.path}: {error.strerror}") from error
            self._tails.pop(state.number, None)
            if found is not None and found[0].state is State.SEALED and found[0].has_all_rows:
                return found[1] if found[0].lap == state.lap else []
        return self._tail(state.number)

    def _tail(self, number: int) -> list[Row]:
        """The rows of a segment by its media; only what was added since the last time is read."""
        try:
            fd = self._directory.open(layout.segment_name(number), write=False)
        except OSError as error:
            if error.errno == errno.ENOENT:  # removed meanwhile
                return []
            raise RingUnreadable(f"cannot read segment {number} in {self.path}: {error.strerror}") from error
        try:
            header = read_header(self._directory, fd)
            tail = self._tails.get(number)
            if tail is None or tail.lap != header.lap:
                tail = self._tails[number] = _Tail(header.lap)
            if header.flags & HeaderFlag.EMPTIED:
                return []
            walked = walk(
                self._directory,
                fd,
                self.stream,
                number,
                self.segment_bytes,
                from_row=tail.rows[-1] if tail.rows else None,
            )
            if read_header(self._directory, fd).lap != header.lap:
                del self._tails[number]
                return []
            tail.rows += walked.rows
            return tail.rows
        except DamagedHeader:
            return walk(self._directory, fd, self.stream, number, self.segment_bytes).rows
        except OSError as error:
            raise RingUnreadable(f"cannot read segment {number} in {self.path}: {error.strerror}") from error
        finally:
            self._directory.close_file(fd)

    # -- bytes -------------------------------------------------------------------------------------

    def read(self, position: Position) -> bytes:
        """The whole fragment: head, media, commit record. Raises Recycled, RingUnreadable."""
        fd = self._open(position)
        try:
            data = self._directory.read(fd, position.size_bytes, position.offset)
            self._check_lap(fd, position)
        except OSError as error:
            raise RingUnreadable(
                f"cannot read segment {position.segment} at {position.offset}: {error.strerror}"
            ) from error
        finally:
            self._directory.close_file(fd)
        if len(data) != position.size_bytes:
            raise RingUnreadable(
                f"segment {position.segment} of {self.stream} is too short: {position.offset + len(data)} bytes"
            )
        return data

    def init_segment(self, position: Position) -> bytes:
        """`ftyp` and `moov` of the segment that `position` lies in. Raises Recycled, NoInitSegment, RingUnreadable."""
        fd = self._open(position)
        try:
            header = self._check_lap(fd, position)
        except OSError as error:
            raise RingUnreadable(f"cannot read segment {position.segment}: {error.strerror}") from error
        finally:
            self._directory.close_file(fd)
        if not header.has_moov:
            raise NoInitSegment(
                f"segment {position.segment} of {self.stream} has lost its parameter sets",
                hint="Take those of the segment before or after; a camera seldom changes them.",
            )
        return header.init

    def segment_path(self, position: Position) -> Path:
        return self.path / layout.segment_name(position.segment)

    def still_there(self, position: Position) -> bool:
        """Whether the segment still has that lap. Ask after copying from it."""
        try:
            fd = self._open(position)
        except (Recycled, RingUnreadable):
            return False
        try:
            self._check_lap(fd, position)
        except (Recycled, OSError):
            return False
        finally:
            self._directory.close_file(fd)
        return True

    def _open(self, position: Position) -> int:
        try:
            return self._directory.open(layout.segment_name(position.segment), write=False)
        except OSError as error:
            if error.errno == errno.ENOENT:
                raise self._recycled(position) from None
            raise RingUnreadable(f"cannot open segment {position.segment}: {error.strerror}") from error

    def _check_lap(self, fd: int, position: Position) -> SegmentHeader:
        try:
            header = read_header(self._directory, fd)
        except DamagedHeader:
            raise self._recycled(position) from None
        if header.lap != position.lap or header.flags & HeaderFlag.EMPTIED:
            raise self._recycled(position)
        return header

    def _recycled(self, position: Position) -> Recycled:
        return Recycled(
            f"segment {position.segment} of {position.stream} has been used again since lap {position.lap}",
            hint="The ring is full and keeps the newest footage. Raise ring_gb, or hold what must stay.",
        )
