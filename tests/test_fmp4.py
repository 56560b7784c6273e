from __future__ import annotations

import hashlib
import itertools
import struct
from dataclasses import replace
from pathlib import Path

import crc32c
import pytest
from films import CLIPS, DRAWN, STREAMS, footage, fragments_of, opened, play, segment_of
from golden.dump import dump
from golden.make import EXAMPLES, FRAGMENT_RECORD, FRAGMENT_SAMPLES
from hypothesis import given
from hypothesis import strategies as st

from nvr import fmp4, h264
from nvr.media import PAGE_BYTES, ClockState, FragmentRecord, ParameterSets

GOLDEN = Path(__file__).parent / "golden"
FRAGMENT = (GOLDEN / "fragment-v1.bin").read_bytes()
PLACE_BYTES = {*range(20, 24), *range(60, 68)}  # where the fragment stands in its file

u32 = st.integers(0, 2**32 - 1)
samples = st.lists(
    st.builds(fmp4.Sample, st.integers(1, 2**20), st.integers(0, 2**31), st.integers(0, 2**31), st.just(False)),
    min_size=1,
    max_size=fmp4.MAX_SAMPLES,
).flatmap(lambda found: st.booleans().map(lambda is_keyframe: [found[0]._replace(is_keyframe=is_keyframe), *found[1:]]))
i64 = st.integers(-(2**63), 2**63 - 1)
u64 = st.integers(0, 2**64 - 1)
names = st.text(max_size=60).filter(lambda name: len(name.encode("utf-8", "replace")) <= 255 and name.isprintable())
records = st.builds(
    FragmentRecord,
    box_id=st.binary(min_size=16, max_size=16),
    boot_id=st.binary(min_size=16, max_size=16),
    stream=names,
    run=u32,
    lap=u32,
    segment=u32,
    sequence=u64,
    mono_ns=i64,
    wall_ns=i64,
    clock_state=st.sampled_from(ClockState),
    clock_error_ns=u64,
    run_ticks=u64,
    duration_ticks=u32,
    pictures=u32,
    payload_bytes=st.integers(0, 2**31),
    lost_packets=u32,
    is_keyframe=st.booleans(),
    camera_wall_ns=i64,
    previous_hash=st.binary(min_size=32, max_size=32),
    hash=st.binary(min_size=32, max_size=32),
)


# -- golden bytes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXAMPLES)
def test_golden_bytes_are_still_what_is_written(name):
    """A difference here is a new format version: keep the old file, write a new one (`python -m golden.make` in tests/)."""
    golden = (GOLDEN / f"{name}.bin").read_bytes()
    assert dump(EXAMPLES[name]()) == (GOLDEN / f"{name}.txt").read_text()
    assert EXAMPLES[name]() == golden


def test_golden_fragment_of_version_1_is_read():
    head, record = fmp4.check_fragment(FRAGMENT)
    assert record == replace(FRAGMENT_RECORD, hash=record.hash)
    assert head.samples == FRAGMENT_SAMPLES
    assert (head.sequence, head.decode_ticks) == (9, 720_000)
    assert fmp4.hash_of(FRAGMENT, hashlib.sha256()) == record.hash


def test_hash_and_crc_are_those_that_the_document_describes():
    """Made again from the byte table in docs/formats/ring.md alone."""
    data = FRAGMENT
    media_bytes = int.from_bytes(data[1016:1020], "big") - 8
    media, record = data[1024 : 1024 + media_bytes], data[1024 + media_bytes :]
    head = data[:20] + bytes(4) + data[24:60] + bytes(8) + data[68:1024]
    assert (
        hashlib.sha256(media + head + record[:168] + bytes(32) + record[200:-4] + bytes(4)).digest() == record[168:200]
    )
    assert struct.pack(">I", crc32c.crc32c(media + head + record[:-4])) == record[-4:]
    assert len(data) == -(-(1024 + media_bytes + 512) // PAGE_BYTES) * PAGE_BYTES


# -- fragments ---------------------------------------------------------------------------------------


@given(u32, u64, samples)
def test_a_head_is_read_back_as_it_was_written(sequence, decode_ticks, found):
    payload_bytes = sum(sample.size_bytes for sample in found)
    data = fmp4.head(sequence, decode_ticks, found, payload_bytes)
    assert len(data) == fmp4.HEAD_RESERVE_BYTES
    assert fmp4.parse_head(data) == fmp4.Head(sequence, decode_ticks, tuple(found), payload_bytes)
    assert fmp4.parse_head(memoryview(data + b"media")) == fmp4.parse_head(data)


@given(records)
def test_a_commit_record_is_read_back_as_it_was_written(record):
    size_bytes = fmp4.commit_record_size(record.payload_bytes)
    data = fmp4.commit_record(record, FRAGMENT[:1024], 0, size_bytes)
    assert len(data) == size_bytes
    assert fmp4.parse_commit_record(data) == record


@given(st.integers(0, 2**32 - 10))
def test_a_fragment_fills_whole_pages_and_wastes_less_than_one(payload_bytes):
    size_bytes = fmp4.fragment_size(payload_bytes)
    assert size_bytes % PAGE_BYTES == 0
    assert 0 <= size_bytes - payload_bytes - fmp4.HEAD_RESERVE_BYTES - fmp4.RECORD_MIN_BYTES < PAGE_BYTES
    assert size_bytes == fmp4.HEAD_RESERVE_BYTES + payload_bytes + fmp4.commit_record_size(payload_bytes)


def test_the_layout_follows_from_the_first_page():
    layout = fmp4.fragment_layout(FRAGMENT[:PAGE_BYTES])
    assert layout.size_bytes == len(FRAGMENT)
    assert FRAGMENT[layout.record_offset + 4 : layout.record_offset + 8] == b"uuid"


def test_as_many_access_units_fit_as_are_promised():
    most = [fmp4.Sample(10, 3600, 3600, False)] * fmp4.MAX_SAMPLES
    assert len(fmp4.head(1, 0, most, 10 * len(most))) == fmp4.HEAD_RESERVE_BYTES
    with pytest.raises(ValueError):
        fmp4.head(1, 0, [*most, most[0]], 10 * len(most) + 10)


@pytest.mark.parametrize(
    ("found", "payload_bytes", "decode_ticks"),
    [
        ([], 0, 0),
        ([fmp4.Sample(5, 1, 0, True), fmp4.Sample(5, 1, 0, True)], 10, 0),
        ([fmp4.Sample(5, 1, 0, True)], 6, 0),
        ([fmp4.Sample(5, 2**32, 0, True)], 5, 0),
        ([fmp4.Sample(5, 1, -1, True)], 5, 0),
        ([fmp4.Sample(2**32, 1, 0, True)], 2**32, 0),
        ([fmp4.Sample(5, 1, 0, True)], 5, -1),
    ],
    ids=[
        "nothing",
        "keyframe in the middle",
        "wrong sum",
        "too long",
        "shown before decoded",
        "too large",
        "before the start",
    ],
)
def test_what_a_fragment_cannot_hold_is_refused(found, payload_bytes, decode_ticks):
    with pytest.raises(ValueError):
        fmp4.head(1, decode_ticks, found, payload_bytes)


def test_what_a_commit_record_cannot_hold_is_refused_but_lost_packets_are_only_capped():
    head, size_bytes = FRAGMENT[:1024], fmp4.commit_record_size(FRAGMENT_RECORD.payload_bytes)
    for wrong in (
        replace(FRAGMENT_RECORD, run=-1),
        replace(FRAGMENT_RECORD, stream="ä" * 200),
        replace(FRAGMENT_RECORD, wall_ns=2**63),
        replace(FRAGMENT_RECORD, payload_bytes=2**20),  # then it would not end with the page
    ):
        with pytest.raises(ValueError):
            fmp4.commit_record(wrong, head, 0, size_bytes)
    many = fmp4.commit_record(replace(FRAGMENT_RECORD, lost_packets=2**40), head, 0, size_bytes)
    assert fmp4.parse_commit_record(many).lost_packets == 2**32 - 1


def test_moving_a_fragment_changes_neither_crc_nor_hash():
    moved = fmp4.renumbered(FRAGMENT[:1024], 4321, 2**40) + FRAGMENT[1024:]
    head, record = fmp4.check_fragment(moved)
    assert (head.sequence, head.decode_ticks) == (4321, 2**40)
    assert fmp4.hash_of(moved, hashlib.sha256()) == record.hash
    assert {place for place in range(1024) if moved[place] != FRAGMENT[place]} <= PLACE_BYTES


def test_any_flipped_bit_is_found():
    """Media, padding, record, the padding of the record: in every byte one bit, another one in the next."""
    for place in set(range(len(FRAGMENT))) - PLACE_BYTES:
        damaged = bytearray(FRAGMENT)
        damaged[place] ^= 1 << place * 5 % 8
        with pytest.raises(fmp4.BadAtom):
            fmp4.check_fragment(damaged)


def test_a_head_whose_padding_or_constants_were_changed_is_none():
    """Not only the CRC, which needs the whole fragment, but the first page alone tells."""
    end_of_trun = FRAGMENT.index(b"free") - 4
    for place in (*range(20), *range(24, 60), *range(84, 88), *range(end_of_trun, 1016), *range(1020, 1024)):
        damaged = bytearray(FRAGMENT[:1024])
        damaged[place] ^= 0x11
        with pytest.raises(fmp4.BadAtom):
            fmp4.parse_head(damaged)


@pytest.mark.parametrize("kind", ["zeroed", "of another fragment", "shortened"])
def test_a_torn_page_is_found(kind):
    fragment = next(fragments_of(play(footage(DRAWN[0])))).data
    assert len(fragment) > 4 * PAGE_BYTES
    for start in range(0, len(fragment), PAGE_BYTES):
        end = start + PAGE_BYTES
        torn = {
            "zeroed": fragment[:start] + bytes(PAGE_BYTES) + fragment[end:],
            "of another fragment": fragment[:start] + (fragment[PAGE_BYTES * 2 : PAGE_BYTES * 3] if start != 2 * PAGE_BYTES else fragment[:PAGE_BYTES]) + fragment[end:],
            "shortened": fragment[:start],
        }[kind]  # fmt: skip
        with pytest.raises(fmp4.BadAtom):
            fmp4.check_fragment(torn)


@given(st.binary(max_size=1200), st.integers(0, 1500))
def test_any_bytes_are_a_fragment_or_refused(data, end):
    places = (0, 8, 20, 76, 1016, 1024, 1024 + 24, len(FRAGMENT) - 8)
    mixed = [FRAGMENT[:place] + data + FRAGMENT[place + len(data) :] for place in places]
    for candidate in (data, FRAGMENT[:end], FRAGMENT[:end] + data, *mixed):
        for parse in (
            fmp4.parse_head,
            fmp4.fragment_layout,
            fmp4.check_fragment,
            fmp4.parse_commit_record,
            lambda data: list(fmp4.atoms(data)),
        ):
            try:
                parse(candidate)
            except fmp4.BadAtom:
                pass
        for record_data in (
            FRAGMENT[-len(data) :],
            FRAGMENT[fmp4.fragment_layout(FRAGMENT).record_offset :][:end] + data,
        ):
            try:
                fmp4.parse_commit_record(record_data)
            except fmp4.BadAtom:
                pass


@given(st.binary(min_size=16, max_size=600), st.integers(0, 40), st.integers(0, 700))
def test_atoms_of_any_bytes_lie_inside_and_one_behind_the_other(data, start, end):
    last = start
    try:
        for kind, offset, size, header_bytes in fmp4.atoms(data, start, end):
            assert offset == last and size >= header_bytes >= 8 and len(kind) == 4
            last = offset + size
            assert last <= min(end, len(data))
    except fmp4.BadAtom:
        pass


def test_atoms_of_64_bits_and_to_the_end_of_the_file_are_read():
    data = struct.pack(">I4sQ4x", 1, b"mdat", 20) + struct.pack(">I4s", 0, b"free") + b"rest"
    assert list(fmp4.atoms(data)) == [(b"mdat", 0, 20, 16), (b"free", 20, 12, 8)]


# -- init segment ------------------------------------------------------------------------------------


def test_an_init_segment_needs_parameter_sets_that_can_be_read():
    for sets in (ParameterSets((), ()), ParameterSets((b"\x67\x42",), (b"\x68",)), ParameterSets((EXAMPLES_SPS,), ())):
        with pytest.raises(h264.BadH264):
            fmp4.init_segment(sets, 16, 16)


EXAMPLES_SPS = bytes.fromhex("6764001facd940c8137e5840000003004000000c83c60c6580")


# -- a second opinion --------------------------------------------------------------------------------


def decoded(path: Path) -> list[tuple[int, bytes]]:
    """(time since the first picture in ticks, SHA-256 of its pixels) of every picture as PyAV shows them."""
    frames = []
    with opened(path) as container:
        for frame in container.decode(video=0):
            digest = hashlib.sha256()
            for plane in frame.planes:
                digest.update(plane)
            frames.append((None if frame.pts is None else round(frame.pts * frame.time_base * 90_000), digest.digest()))
    return frames


@pytest.mark.parametrize("name", (*CLIPS, *DRAWN))
def test_every_picture_of_a_film_is_the_same_in_fragments(name, tmp_path):
    path = tmp_path / "segment.mp4"
    path.write_bytes(segment_of(play(footage(name))))
    ours, source = decoded(path), decoded(footage(name))
    assert [digest for _, digest in ours] == [digest for _, digest in source]
    for (mine, _), (theirs, _) in zip(ours, source, strict=True):
        assert abs(mine - ours[0][0] - (theirs - source[0][0])) <= 1  # time scales of files are not 90 kHz


@pytest.mark.parametrize("name", STREAMS)
def test_every_picture_of_a_byte_stream_is_the_same_in_fragments(name, tmp_path):
    path = tmp_path / "segment.mp4"
    path.write_bytes(segment_of(play(footage(name), fps=25)))
    ours = decoded(path)
    assert [digest for _, digest in ours] == [digest for _, digest in decoded(footage(name))]
    assert all(after - before == 3600 for (before, _), (after, _) in itertools.pairwise(ours))


def test_the_hashes_of_a_run_are_a_chain():
    fragments = list(fragments_of(play(footage(DRAWN[0]))))
    assert len(fragments) > 5
    for before, after in itertools.pairwise(fragments):
        assert fmp4.check_fragment(after.data)[1].previous_hash == fmp4.hash_of(before.data, hashlib.sha256())


def test_the_payload_is_hashed_without_using_up_the_hasher():
    hasher = hashlib.sha256(FRAGMENT[1024:1034])
    before = hasher.digest()
    fmp4.fragment_hash(hasher, FRAGMENT[:1024], FRAGMENT_RECORD)
    assert hasher.digest() == before
