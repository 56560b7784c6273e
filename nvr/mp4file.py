"""Reads the H.264 track of an MP4 file, progressive or fragmented, picture by picture, out of a mapping.

Written for replay: it finds where each access unit lies and when it is decoded and shown; the media bytes are not
touched. Other tracks are passed over. Follows ISO/IEC 14496-12:2015 and 14496-15:2017.

What is left out on purpose: edit lists (8.6.6) only move the whole track, and a run starts at tick 0 anyway; `stss` (8.6.2)
is not read because the NAL units themselves tell which picture is a keyframe; encrypted tracks are refused by name.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, repeat

from nvr.errors import NvrError
from nvr.fmp4 import BadAtom, Buffer, atoms
from nvr.media import TICKS_PER_S, ParameterSets

_HINT_BROKEN = "Try `ffmpeg -i FILE -c copy other.mp4`, or take the original file."
_LOOK_AHEAD = 64  # fragments; B pictures show their pattern within one or two GOPs
_CONTAINERS = frozenset((b"moov", b"trak", b"mdia", b"minf", b"stbl", b"mvex"))
_CODEC_NAMES = {b"hvc1": "H.265", b"hev1": "H.265", b"av01": "AV1", b"vp09": "VP9", b"mp4v": "MPEG-4 Part 2", b"jpeg": "Motion JPEG",
                b"mjpa": "Motion JPEG", b"encv": "encrypted video", b"vvc1": "H.266", b"s263": "H.263"}  # fmt: skip

# tfhd and trun flags, 8.8.7 and 8.8.8
_BASE_OFFSET, _DESCRIPTION, _DEFAULT_DURATION, _DEFAULT_SIZE = 0x1, 0x2, 0x8, 0x10
_DATA_OFFSET, _FIRST_FLAGS, _DURATION, _SIZE, _FLAGS, _COMPOSITION = 0x1, 0x4, 0x100, 0x200, 0x400, 0x800


class NoH264(NvrError):
    """The file is whole but holds no H.264 track that can be taken as it is."""


@dataclass(frozen=True, slots=True)
class FileSample:
    """One access unit in the file."""

    offset: int  # bytes from the start of the file
    size_bytes: int
    decode_ticks: int  # 90 kHz, strictly rising
    composition_ticks: int  # never negative: the most negative offset of the track is taken as 0
    duration_ticks: int  # to the next access unit, as the file says; may be 0


@dataclass(slots=True)
class _Track:
    id: int = 0
    handler: bytes = b""
    timescale: int = 0
    entry: bytes = b""  # type of the first sample entry
    config: bytes = b""  # body of avcC
    tables: dict[bytes, tuple[int, int]] | None = None  # sample tables: type -> (offset of the body, end)


class Mp4File:
    """The H.264 track of one file; `data` (usually an mmap) must stay as it is while this is used.

    Raises BadAtom for bytes that are no MP4 file, NoH264 for one without an H.264 track.
    """

    def __init__(self, data: Buffer) -> None:
        self._data = data
        self._defaults: dict[int, tuple[int, int]] = {}  # track -> duration and size, from trex
        tracks: list[_Track] = []
        try:
            for kind, offset, size, header_bytes in self._top_level():
                if kind == b"moov":
                    self._read_moov(tracks, offset + header_bytes, offset + size)
                    break  # fragments are only looked at when their turn comes: a recorder must not wait for a whole disk
            self._track = self._h264_of(tracks)
            self.length_size, self.parameter_sets = _decoder_configuration(self._track.config)
            if self._track.timescale < 1:
                raise BadAtom("the track has a time scale of 0", hint=_HINT_BROKEN)
            self._earliest = self._earliest_composition()
        except (struct.error, IndexError) as error:
            raise BadAtom(f"the file contradicts itself: {error}", hint=_HINT_BROKEN) from None

    @property
    def is_fragmented(self) -> bool:
        return bool(self._defaults)

    def samples(self) -> Iterator[FileSample]:
        """All access units in decoding order. Raises BadAtom where the file is damaged; what came before is good."""
        scale, last = self._track.timescale, -1
        try:
            for number, (offset, size_bytes, decode, duration, composition) in enumerate(self._raw_samples()):
                if number > len(self._data):
                    raise BadAtom(f"there are more pictures than the file has bytes ({number})", hint=_HINT_BROKEN)
                if size_bytes == 0:
                    continue  # some writers keep the place of a dropped picture
                if offset < 0 or offset + size_bytes > len(self._data):
                    raise BadAtom(
                        f"the file ends at byte {len(self._data)}, but a picture lies at bytes {offset} to {offset + size_bytes}",
                        hint="The file was cut short: copy it again.",
                    )
                shown = (decode + composition - self._earliest) * TICKS_PER_S // scale
                decode_ticks = max(decode * TICKS_PER_S // scale, last + 1)
                last = decode_ticks
                yield FileSample(
                    offset, size_bytes, decode_ticks, max(shown - decode_ticks, 0), duration * TICKS_PER_S // scale
                )
        except (struct.error, IndexError) as error:
            raise BadAtom(f"the file contradicts itself: {error}", hint=_HINT_BROKEN) from None

    # -- moov ----------------------------------------------------------------------------------------

    def _top_level(self) -> Iterator[tuple[bytes, int, int, int]]:
        """Top-level atoms; a last one that is cut off ends the file, as long as something came before it."""
        seen = False
        try:
            for atom in atoms(self._data):
                yield atom
                seen = True
        except BadAtom:
            if not seen:
                raise

    def _read_moov(self, tracks: list[_Track], start: int, end: int) -> None:
        data = self._data
        for kind, offset, size, header_bytes in atoms(data, start, end):
            body, stop = offset + header_bytes, offset + size
            if kind == b"trak":
                tracks.append(_Track(tables={}))
                self._read_trak(tracks[-1], body, stop)
            elif kind == b"mvex":
                for inner, inner_offset, _, inner_header in atoms(data, body, stop):
                    if inner == b"trex":
                        track, _, duration, size_bytes = struct.unpack_from(
                            ">IIII", data, inner_offset + inner_header + 4
                        )
                        self._defaults[track] = (duration, size_bytes)

    def _read_trak(self, track: _Track, start: int, end: int) -> None:
        data = self._data
        for kind, offset, size, header_bytes in atoms(data, start, end):
            body, stop = offset + header_bytes, offset + size
            if kind in _CONTAINERS:
                self._read_trak(track, body, stop)
            elif kind == b"tkhd":
                (track.id,) = struct.unpack_from(">I", data, body + (20 if data[body] == 1 else 12))
            elif kind == b"mdhd":
                (track.timescale,) = struct.unpack_from(">I", data, body + (20 if data[body] == 1 else 12))
            elif kind == b"hdlr" and not track.handler:  # QuickTime has a second one, for the data, in minf
                track.handler = bytes(data[body + 8 : body + 12])
            elif kind == b"stsd":
                self._read_stsd(track, body + 8, stop)
            elif track.tables is not None:
                track.tables[kind] = (body, stop)

    def _read_stsd(self, track: _Track, start: int, end: int) -> None:
        for kind, offset, size, header_bytes in atoms(self._data, start, end):
            track.entry = kind
            if kind in (b"avc1", b"avc3"):
                for inner, inner_offset, inner_size, inner_header in atoms(
                    self._data, offset + header_bytes + 78, offset + size
                ):
                    if inner == b"avcC":
                        track.config = bytes(self._data[inner_offset + inner_header : inner_offset + inner_size])
            return  # a second description would be another run; whoever writes such files sends the sets in band too

    @staticmethod
    def _h264_of(tracks: list[_Track]) -> _Track:
        if not tracks:
            raise BadAtom("there is no moov atom: the file is cut short, or it is no MP4 file", hint=_HINT_BROKEN)
        for track in tracks:
            if track.config:
                return track
        videos = [
            _CODEC_NAMES.get(track.entry, repr(track.entry.decode("latin-1")))
            for track in tracks
            if track.handler == b"vide"
        ]
        raise NoH264(
            f"the file holds {', '.join(videos)} and no H.264" if videos else "the file holds no video track",
            hint="Only H.264 is recorded. Convert it: `ffmpeg -i FILE -c:v libx264 other.mp4`.",
        )

    # -- samples -------------------------------------------------------------------------------------

    def _raw_samples(self) -> Iterator[tuple[int, int, int, int, int]]:
        """(offset, size, decode time, duration, composition offset), times in the track's scale."""
        end = 0
        for sample in self._table_samples():
            end = sample[2] + sample[3]
            yield sample
        for moof in self._moofs():
            for sample in self._fragment_samples(moof, end):
                end = sample[2] + sample[3]
                yield sample

    def _moofs(self) -> Iterator[tuple[int, int]]:
        """(offset, size) of each fragment's `moof`; none in a progressive file."""
        if self._defaults:
            yield from ((offset, size) for kind, offset, size, _ in self._top_level() if kind == b"moof")

    def _table(self, kind: bytes) -> tuple[int, int, int]:
        """(count, offset of the first entry, end) of a sample table; (0, 0, 0) where there is none."""
        place = (self._track.tables or {}).get(kind)
        if place is None:
            return 0, 0, 0
        (count,) = struct.unpack_from(">I", self._data, place[0] + 4)
        return count, place[0] + 8, place[1]

    def _entries(self, kind: bytes, layout: str) -> Iterator[tuple[int, ...]]:
        count, offset, end = self._table(kind)
        form = struct.Struct(layout)
        if count * form.size > end - offset:
            raise BadAtom(
                f"{kind.decode()} announces {count} entries, its {end - offset} bytes hold fewer", hint=_HINT_BROKEN
            )
        for place in range(offset, offset + count * form.size, form.size):
            yield form.unpack_from(self._data, place)

    def _runs(self, kind: bytes, layout: str, otherwise: int) -> Iterator[int]:
        """The values of a run-length table (stts, ctts), one for each sample; then `otherwise` for ever."""
        for count, value in self._entries(kind, layout):
            yield from repeat(value, count)
        yield from repeat(otherwise)

    def _sizes(self) -> Iterator[int]:
        size_bytes, offset, end = self._table(b"stsz")  # 8.7.3.2: first the common size, then the count
        if not end:
            if (self._track.tables or {}).get(b"stz2"):
                raise BadAtom("the file has a compact size table (stz2), which is not read", hint=_HINT_BROKEN)
            return
        (count,) = struct.unpack_from(">I", self._data, offset)
        if size_bytes:
            if count * size_bytes > len(self._data):
                raise BadAtom(f"{count} pictures of {size_bytes} bytes do not fit into the file", hint=_HINT_BROKEN)
            yield from repeat(size_bytes, count)
            return
        if 4 * count > end - offset - 4:
            raise BadAtom(f"stsz announces {count} pictures, its {end - offset} bytes hold fewer", hint=_HINT_BROKEN)
        for place in range(offset + 4, offset + 4 + 4 * count, 4):
            yield struct.unpack_from(">I", self._data, place)[0]

    def _chunks(self) -> Iterator[tuple[int, int]]:
        """(offset, samples) of each chunk."""
        runs = list(self._entries(b"stsc", ">III"))
        large = self._table(b"co64")[0]
        offsets = self._entries(b"co64", ">Q") if large else self._entries(b"stco", ">I")
        row = -1
        for number, (offset,) in enumerate(offsets, 1):
            while row + 1 < len(runs) and runs[row + 1][0] <= number:
                row += 1
            if row < 0:
                raise BadAtom("stsc does not begin with the first chunk", hint=_HINT_BROKEN)
            yield offset, runs[row][1]

    def _composition_layout(self) -> str:
        # Version 0 is unsigned by the standard, yet several writers put negative numbers there; nobody means two billion.
        return ">Ii"

    def _table_samples(self) -> Iterator[tuple[int, int, int, int, int]]:
        sizes = self._sizes()
        durations = self._runs(b"stts", ">II", 0)
        compositions = self._runs(b"ctts", self._composition_layout(), 0)
        decode = 0
        for offset, count in self._chunks():
            for _ in range(count):
                size_bytes = next(sizes, None)
                if size_bytes is None:
                    return
                duration = next(durations)
                yield offset, size_bytes, decode, duration, next(compositions)
                offset += size_bytes
                decode += duration

    def _runs_of(self, moof: tuple[int, int], decode: int) -> Iterator[tuple[int, int, int, int, int, int, int]]:
        """(flags, count, place of the first entry, data offset or -1, decode time or -1, duration, size) of each trun."""
        data = self._data
        start, size = moof
        for kind, offset, traf_bytes, header_bytes in atoms(data, start + 8, start + size):
            if kind != b"traf":
                continue
            base = start
            duration, size_bytes = self._defaults.get(self._track.id, (0, 0))
            mine = False
            for inner, inner_offset, inner_bytes, inner_header in atoms(
                data, offset + header_bytes, offset + traf_bytes
            ):
                place = inner_offset + inner_header
                stop = inner_offset + inner_bytes
                flags = int.from_bytes(data[place + 1 : place + 4], "big")
                if inner == b"tfhd":
                    (track,) = struct.unpack_from(">I", data, place + 4)
                    mine = track == self._track.id
                    place += 8
                    if flags & _BASE_OFFSET:
                        (base,) = struct.unpack_from(">Q", data, place)
                        place += 8
                    place += 4 if flags & _DESCRIPTION else 0
                    if flags & _DEFAULT_DURATION:
                        (duration,) = struct.unpack_from(">I", data, place)
                        place += 4
                    if flags & _DEFAULT_SIZE:
                        (size_bytes,) = struct.unpack_from(">I", data, place)
                elif inner == b"tfdt" and mine:
                    (decode,) = struct.unpack_from(">Q" if data[place] == 1 else ">I", data, place + 4)
                elif inner == b"trun" and mine:
                    (count,) = struct.unpack_from(">I", data, place + 4)
                    place += 8
                    data_offset = -1
                    if flags & _DATA_OFFSET:
                        data_offset = base + struct.unpack_from(">i", data, place)[0]
                        place += 4
                    place += 4 if flags & _FIRST_FLAGS else 0
                    entry_bytes = 4 * sum(1 for flag in (_DURATION, _SIZE, _FLAGS, _COMPOSITION) if flags & flag)
                    if count * entry_bytes > stop - place or count > len(data):
                        raise BadAtom(
                            f"trun announces {count} pictures, its {inner_bytes} bytes hold fewer", hint=_HINT_BROKEN
                        )
                    yield flags, count, place, data_offset, decode, duration, size_bytes
                    decode = -1

    def _fragment_samples(self, moof: tuple[int, int], end: int) -> Iterator[tuple[int, int, int, int, int]]:
        data = self._data
        offset, decode = moof[0], end
        for flags, count, place, data_offset, run_decode, default_duration, default_size in self._runs_of(moof, end):
            offset = data_offset if data_offset >= 0 else offset
            decode = run_decode if run_decode >= 0 else decode
            for _ in range(count):
                duration, size_bytes, composition = default_duration, default_size, 0
                if flags & _DURATION:
                    (duration,) = struct.unpack_from(">I", data, place)
                    place += 4
                if flags & _SIZE:
                    (size_bytes,) = struct.unpack_from(">I", data, place)
                    place += 4
                place += 4 if flags & _FLAGS else 0
                if flags & _COMPOSITION:
                    (composition,) = struct.unpack_from(">i", data, place)
                    place += 4
                yield offset, size_bytes, decode, duration, composition
                offset += size_bytes
                decode += duration

    def _earliest_composition(self) -> int:
        """The most negative composition offset of the track, 0 if none is negative; of fragments, the first ones count."""
        earliest = min((value for _, value in self._entries(b"ctts", self._composition_layout())), default=0)
        for moof in islice(self._moofs(), _LOOK_AHEAD):
            for flags, count, place, *_ in self._runs_of(moof, 0):
                if flags & _COMPOSITION:
                    entry = struct.Struct(f">{4 * sum(1 for flag in (_DURATION, _SIZE, _FLAGS) if flags & flag)}xi")
                    rows = entry.iter_unpack(bytes(self._data[place : place + count * entry.size]))
                    earliest = min(earliest, min((row[0] for row in rows), default=0))
        return min(earliest, 0)


def _decoder_configuration(config: bytes) -> tuple[int, ParameterSets]:
    """(bytes of each NAL unit's length, parameter sets) from the body of `avcC` (14496-15, 5.3.3.1)."""
    if len(config) < 7 or config[0] != 1:
        raise BadAtom(
            f"the decoder configuration (avcC) has {len(config)} bytes and version {config[:1].hex()}",
            hint=_HINT_BROKEN,
        )
    sets: list[list[bytes]] = [[], []]
    place = 5
    for which, mask in ((0, 0x1F), (1, 0xFF)):
        count = config[place] & mask
        place += 1
        for _ in range(count):
            (size,) = struct.unpack_from(">H", config, place)
            unit = config[place + 2 : place + 2 + size]
            if len(unit) < size or not unit:
                raise BadAtom("the decoder configuration (avcC) is cut short", hint=_HINT_BROKEN)
            sets[which].append(unit)
            place += 2 + size
    length_size = (config[4] & 3) + 1
    if length_size == 3:
        raise BadAtom("the decoder configuration (avcC) has 3-byte lengths, which do not exist", hint=_HINT_BROKEN)
    return length_size, ParameterSets(tuple(sets[0]), tuple(sets[1]))
