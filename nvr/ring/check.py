"""Everything in a ring verified, and everything shown. The recorder must not be running.

What is checked: every atom of every segment, the CRC-32C and evidence hash of every fragment, the hash chain of every
run, sequence numbers and laps, seals with their signatures, and that the index is what the media gives.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nvr import evidence, fmp4
from nvr.errors import NvrError
from nvr.media import PAGE_BYTES, FragmentRecord
from nvr.ring import layout
from nvr.ring.disk import Directory
from nvr.ring.index import Index, IndexDamaged, slot_of
from nvr.ring.layout import ZERO_HASH, HeaderFlag, Row
from nvr.ring.reader import streams
from nvr.ring.walk import Walked, walk


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is not as we wrote it."""

    stream: str
    segment: int | None  # None: of the whole ring
    offset: int | None
    what: str

    def __str__(self) -> str:
        where = (
            ""
            if self.segment is None
            else f", segment {self.segment}" + ("" if self.offset is None else f" at byte {self.offset}")
        )
        return f"{self.stream}{where}: {self.what}"


def check(data_dir: Path) -> list[Fault]:
    """Verify every ring of a box; empty when nothing is wrong."""
    faults: list[Fault] = []
    for stream, path in streams(data_dir).items():
        try:
            directory = Directory(path)
        except OSError as error:
            faults.append(Fault(stream, None, None, f"cannot be opened: {error.strerror}"))
            continue
        try:
            faults += check_ring(directory, stream)
        finally:
            directory.close()
    return faults


def check_ring(directory: Directory, stream: str) -> list[Fault]:
    """Verify one ring."""
    return _Check(directory, stream).run()


class _Check:
    def __init__(self, directory: Directory, stream: str) -> None:
        self._directory, self._stream = directory, stream
        self._faults: list[Fault] = []

    def _fault(self, what: str, segment: int | None = None, offset: int | None = None) -> None:
        self._faults.append(Fault(self._stream, segment, offset, what))

    def run(self) -> list[Fault]:
        try:
            index = Index.open(self._directory)
        except (IndexDamaged, OSError) as error:
            self._fault(str(error))
            return self._faults
        if index.stream != self._stream:
            self._fault(f"the index is of {index.stream}")
        segments = []
        for name in self._directory.names():
            number = layout.segment_number(name)
            if number is not None:
                try:
                    segments.append(self._segment(index, name, number))
                except OSError as error:
                    self._fault(f"cannot be read: {error.strerror}", number)
        index.close()
        self._order([walked for walked in segments if walked.rows])
        return self._faults

    def _segment(self, index: Index, name: str, number: int) -> Walked:
        fd = self._directory.open(name, write=False)
        try:
            size_bytes = self._directory.size(fd)
            if size_bytes != index.segment_bytes:
                self._fault(f"has {size_bytes} bytes, segments here have {index.segment_bytes}", number)
            walked = walk(self._directory, fd, self._stream, number, index.segment_bytes)
            if walked.header is None:
                self._fault(f"header: {walked.header_fault}", number, 0)
            for offset, what in walked.faults:
                self._fault(what, number, offset)
            if walked.header is None or not walked.header.flags & HeaderFlag.EMPTIED:
                self._atoms(fd, number, index.segment_bytes)
            for row in walked.rows:
                self._fragment(fd, row)
            if walked.seal is not None:
                self._seal(walked)
        finally:
            self._directory.close_file(fd)
        self._slot(index, walked)
        return walked

    def _atoms(self, fd: int, number: int, segment_bytes: int) -> None:
        """Any player must get from the first atom to the end of the file."""
        place = 0
        while place < segment_bytes:
            head = self._directory.read(fd, 8, place)
            size_bytes = int.from_bytes(head[:4], "big")
            if size_bytes < 8 or size_bytes > segment_bytes - place:
                self._fault(f"the atom {head[4:8]!r} has {size_bytes} bytes", number, place)
                return
            if head[4:8] not in (b"ftyp", b"moov", b"uuid", b"free", b"moof", b"mdat"):
                self._fault(f"an atom of the unknown type {head[4:8]!r}", number, place)
            place += size_bytes

    def _fragment(self, fd: int, row: Row) -> None:
        position = row.position
        data = self._directory.read(fd, position.size_bytes, position.offset)
        try:
            _, record = fmp4.check_fragment(data)
            if record.hash != ZERO_HASH and fmp4.hash_of(data, hashlib.sha256()) != record.hash:
                self._fault(
                    f"the evidence hash of fragment {record.sequence} is wrong", position.segment, position.offset
                )
        except fmp4.BadAtom as error:
            self._fault(f"fragment {row.record.sequence}: {error}", position.segment, position.offset)

    def _seal(self, walked: Walked) -> None:
        seal, records = walked.seal, [row.record for row in walked.rows]
        assert seal is not None
        if not records:
            self._fault("is sealed and holds no fragment", walked.number)
            return
        if not seal.fits(records):
            self._fault(
                f"the seal is for {seal.fragments} fragments, {seal.first_sequence} to {seal.last_sequence}; "
                f"there are {len(records)}, {records[0].sequence} to {records[-1].sequence}", walked.number,
            )  # fmt: skip
        if seal.is_signed:
            if evidence.box_id(seal.public_key) != seal.box_id:
                self._fault("the seal was signed by a box that it does not name", walked.number)
            elif not evidence.is_signed_by(seal.public_key, seal.message(), seal.signature):
                self._fault("the signature of the seal is wrong", walked.number)

    def _slot(self, index: Index, walked: Walked) -> None:
        expected = slot_of(walked, index.segment_bytes)
        found = index.raw(walked.number)
        if found == expected:
            return
        state = index.state(walked.number)
        says = (
            f"{state.state.name.lower()}, lap {state.lap}, {state.fragments} fragments" if state else "nothing readable"
        )
        self._fault(
            f"the index says {says}; the media says {walked.state.name.lower()}, lap {walked.lap}, {len(walked.rows)} fragments",
            walked.number,
        )

    def _order(self, segments: list[Walked]) -> None:
        """Sequence numbers rise through the ring, and the hashes of a run are a chain where no fragment is missing."""
        segments.sort(key=lambda walked: walked.rows[0].record.sequence)
        before: FragmentRecord | None = None
        for walked in segments:
            for row in walked.rows:
                record, position = row.record, row.position
                if before is not None:
                    if record.sequence <= before.sequence:
                        self._fault(
                            f"fragment {record.sequence} comes after {before.sequence}",
                            position.segment,
                            position.offset,
                        )
                    if (
                        record.sequence == before.sequence + 1
                        and record.run == before.run
                        and record.previous_hash != before.hash
                    ):
                        self._fault(
                            f"fragment {record.sequence} does not continue the hash chain",
                            position.segment,
                            position.offset,
                        )
                    if (
                        record.sequence == before.sequence + 1
                        and record.run != before.run
                        and record.previous_hash != ZERO_HASH
                    ):
                        self._fault(
                            f"fragment {record.sequence} begins a run with a hash before it",
                            position.segment,
                            position.offset,
                        )
                    if record.run < before.run:
                        self._fault(f"run {record.run} comes after run {before.run}", position.segment, position.offset)
                before = record


def dump(ring_path: Path) -> Iterator[str]:
    """A ring in text: one line for each segment, fragment and hole. Raises NvrError."""
    try:
        directory = Directory(ring_path)
    except OSError as error:
        raise NvrError(f"cannot open {ring_path}: {error.strerror}", hint="nvr ring ls names the rings.") from error
    try:
        index = Index.open(directory)
        yield f"ring {index.stream}: {index.slots()} slots, segments of {index.segment_bytes} bytes"
        for name in directory.names():
            number = layout.segment_number(name)
            if number is None:
                continue
            fd = directory.open(name, write=False)
            walked = walk(directory, fd, index.stream, number, index.segment_bytes)
            directory.close_file(fd)
            yield from _lines(walked, index)
        index.close()
    except OSError as error:
        raise NvrError(f"cannot read {ring_path}: {error.strerror}") from error
    finally:
        directory.close()


def _lines(walked: Walked, index: Index) -> Iterator[str]:
    header, slot_state = walked.header, index.state(walked.number)
    yield (
        f"segment {walked.number}: {walked.state.name.lower()}, lap {walked.lap}, {len(walked.rows)} fragments, "
        f"slot {slot_state.state.name.lower() if slot_state else 'unreadable'}"
    )
    if header is None:
        yield f"  0 header: {walked.header_fault}"
    else:
        yield (
            f"  0 header {header.header_bytes} bytes, box {header.box_id.hex()}, boot {header.boot_id.hex()}, "
            f"init {len(header.init)} bytes{'' if header.has_moov else ' (no parameter sets)'}, after sequence {header.sequence_floor}"
        )
    lines = [(offset, f"hole of {end - offset} bytes") for offset, end in walked.holes]
    lines += [(offset, f"fault: {what}") for offset, what in walked.faults]
    for row in walked.rows:
        r = row.record
        lines.append((row.position.offset, (
            f"fragment {r.sequence} run {r.run} {row.position.size_bytes} bytes, {r.pictures} pictures, "
            f"{r.duration_ticks} ticks at {r.run_ticks}, mono {r.mono_ns}, wall {r.wall_ns} {r.clock_state.name.lower()} "
            f"+-{r.clock_error_ns}{', keyframe' if r.is_keyframe else ''}"
            f"{f', {r.lost_packets} packets lost' if r.lost_packets else ''}, hash {r.hash.hex()[:16]}"
        )))  # fmt: skip
    for offset, text in sorted(lines):
        yield f"  {offset} {text}"
    yield f"  {walked.end} end of fragments"
    if walked.seal is not None:
        seal = walked.seal
        signed = f"signed by {seal.public_key.hex()[:16]}" if seal.is_signed else "not signed"
        yield f"  {index.segment_bytes - PAGE_BYTES} seal over {seal.fragments} fragments, {signed}"
