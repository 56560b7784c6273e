"""Sizes, headers, seals, and which segment is used next."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rig import BOX, OTHER_PARAMETER_SETS, PARAMETER_SETS

from nvr import evidence, fmp4
from nvr.media import PAGE_BYTES
from nvr.ring import layout
from nvr.ring.holds import Hold, held_segments
from nvr.ring.layout import (
    DamagedHeader,
    HeaderFlag,
    RingRefused,
    RingSettings,
    Seal,
    SegmentHeader,
    SegmentState,
    State,
)

INIT = fmp4.init_segment(PARAMETER_SETS, 640, 360)
GB = 1_000_000_000
DAY_NS = 86_400 * 10**9
HEADER = SegmentHeader(BOX.box_id, bytes(16), "porch/main", 7, 3, 64 << 20, 99, 4, HeaderFlag.NONE, INIT)

headers = st.builds(
    SegmentHeader, st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=60), st.integers(0, 10**6), st.integers(1, 2**32 - 1),
    st.sampled_from([4 << 20, 64 << 20]), st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1),
    st.sampled_from(list(HeaderFlag)), st.sampled_from([b"", INIT, fmp4.init_segment(OTHER_PARAMETER_SETS, 640, 360)]),
)  # fmt: skip


@given(headers)
def test_a_header_is_read_as_it_was_written(header):
    pages = layout.header_pages(header)
    assert len(pages) % PAGE_BYTES == 0
    read = layout.parse_header(pages + bytes(PAGE_BYTES))
    assert replace(read, header_bytes=0, init=b"") == replace(header, init=b"")
    assert read.header_bytes == len(pages)
    assert read.has_moov == bool(header.init)
    atoms = [kind for kind, *_ in fmp4.atoms(pages)]
    assert atoms == [b"ftyp", *([b"moov"] if header.init else []), b"uuid", b"free"]


@given(st.integers(0, 900), st.integers(0, 7))
def test_a_flipped_bit_in_a_header_is_found(place, bit):
    pages = bytearray(layout.header_pages(HEADER))
    pages[place] ^= 1 << bit
    try:
        assert layout.parse_header(bytes(pages)) == layout.parse_header(layout.header_pages(HEADER))
    except DamagedHeader:
        return
    assert place >= len(INIT) + 100, "only the padding may change unseen"


@given(st.binary(max_size=300), st.integers(0, 1200))
def test_any_bytes_are_a_header_or_are_refused(noise, place):
    pages = bytearray(layout.header_pages(HEADER))
    pages[place : place + len(noise)] = noise
    for data in (noise, bytes(pages), bytes(pages[:place])):
        try:
            layout.parse_header(data)
        except DamagedHeader:
            pass
        layout.parse_seal(data)


def test_a_seal_is_read_as_it_was_written_and_its_signature_holds():
    seal = Seal(BOX.box_id, "porch/main", 3, 9, 100, 227, 128, bytes(range(32)), BOX.public_bytes, bytes(64))
    seal = replace(seal, signature=BOX.sign(seal.message()))
    page = layout.seal_page(seal)
    assert len(page) == PAGE_BYTES
    read = layout.parse_seal(page)
    assert read == seal
    assert evidence.is_signed_by(read.public_key, read.message(), read.signature)
    for changed in (replace(seal, lap=10), replace(seal, last_sequence=228), replace(seal, hashes_digest=bytes(32))):
        assert not evidence.is_signed_by(changed.public_key, changed.message(), changed.signature)


@given(st.integers(0, 8 * 211), st.integers(0, 255))
def test_a_changed_seal_is_no_seal(place, value):
    seal = Seal(BOX.box_id, "porch/main", 3, 9, 100, 227, 128, bytes(range(32)), BOX.public_bytes, bytes(64))
    page = bytearray(layout.seal_page(seal))
    page[place] = value
    assert layout.parse_seal(bytes(page)) in (None, seal)


@pytest.mark.parametrize(
    ("ring_bytes", "segment_mib"),
    [(16 << 20, 4), (40 << 20, 8), (100 << 20, 16), (GB // 4, 32), (GB, 64), (500 * GB, 64)],
)
def test_a_ring_has_at_least_four_segments_and_small_ones_only_where_it_must(ring_bytes, segment_mib):
    segment_bytes = layout.segment_bytes_for(ring_bytes)
    assert segment_bytes == segment_mib << 20
    assert ring_bytes // segment_bytes >= layout.SEGMENTS_MIN
    assert layout.disk_bytes(ring_bytes) <= ring_bytes * 1.005


def test_a_ring_that_is_too_small_is_refused_with_the_numbers():
    with pytest.raises(RingRefused, match=r"15\.0 MiB is too small") as refused:
        RingSettings("a/main", Path("/x"), 15 << 20)
    assert "16 MiB" in refused.value.hint


@pytest.mark.parametrize("loss_bound_s", [1, 2, 5, 60])
@pytest.mark.parametrize("sync_s", [0.0, 0.05, 0.3])
def test_fragment_interval_and_sync_stay_within_the_loss_bound(loss_bound_s, sync_s):
    fragment_s = layout.fragment_s_for(loss_bound_s) * 1.1
    interval_s = layout.sync_interval_s(loss_bound_s, fragment_s, sync_s)
    assert fragment_s + interval_s + sync_s <= loss_bound_s + 1e-9


def segment(number: int, first: int, last: int, **fields: object) -> SegmentState:
    values = {
        "state": State.SEALED,
        "lap": 1,
        "fragments": last - first + 1,
        "first_sequence": first,
        "last_sequence": last,
    }
    return SegmentState(number, **{**values, **fields})  # type: ignore[arg-type]


SEGMENTS = [segment(0, 301, 400), segment(1, 1, 100), segment(2, 101, 200), segment(3, 201, 300)]


@pytest.mark.parametrize(("kept", "reused"), [(set(), 1), ({1}, 2), ({1, 2}, 3), ({0, 1, 2, 3}, None), ({0, 3}, 1)])
def test_the_oldest_segment_that_nobody_needs_is_used_next(kept, reused):
    found = layout.segment_to_reuse(SEGMENTS, kept)
    assert (found.number if found else None) == reused


def test_a_segment_without_footage_is_used_before_any_other():
    free = SegmentState(9, 5, State.FREE)
    assert layout.segment_to_reuse([*SEGMENTS, free], set()) is free


@given(st.lists(st.integers(0, 30), unique=True, min_size=1), st.sets(st.integers(0, 30)))
def test_never_a_kept_one_and_always_the_lowest_sequence(numbers, kept):
    segments = [segment(number, place * 10 + 1, place * 10 + 10) for place, number in enumerate(numbers)]
    found = layout.segment_to_reuse(segments, kept)
    free = [s for s in segments if s.number not in kept]
    assert found == (free[0] if free else None)


def aged(number: int, first: int, days_old: float, now_ns: int, **fields: object) -> SegmentState:
    end_ns = now_ns - round(days_old * DAY_NS)
    return segment(number, first, first + 9, wall_from_ns=end_ns - 10**9, wall_to_ns=end_ns, **fields)


def test_footage_older_than_the_law_allows_goes_and_takes_what_is_older_with_it():
    now_ns = 1_800_000_000 * 10**9
    segments = [
        aged(0, 1, 40, now_ns),
        segment(1, 11, 20, unknown_clock=10),  # before the clock was set: as old as the next
        aged(2, 21, 31, now_ns),
        aged(3, 31, 29, now_ns),
        aged(4, 41, 0, now_ns),
    ]
    assert layout.expired(segments, now_ns, 30, DAY_NS) == [0, 1, 2]
    assert layout.expired(segments, now_ns, 50, DAY_NS) == []


def test_a_segment_that_cannot_tell_its_time_is_not_old_by_itself():
    now_ns = 1_800_000_000 * 10**9
    assert layout.expired([segment(0, 1, 10, unknown_clock=10)], now_ns, 1) == []
    assert layout.expired([aged(0, 1, 40, now_ns, unknown_clock=1)], now_ns, 1) == []


def test_a_clock_that_jumped_is_not_believed_at_once():
    """A false time server: footage that was recorded an hour ago is ten years old all of a sudden."""
    now_ns = 1_800_000_000 * 10**9
    before = [aged(number, 10 * number + 1, 3650 + 1 - number * 0.1, now_ns) for number in range(5)]
    after = [aged(5 + number, 51 + 10 * number, 0.9 - number * 0.1, now_ns) for number in range(9)]
    assert layout.expired(before, now_ns, 30) == []
    assert layout.expired([*before, *after], now_ns, 30) == []
    assert layout.expired([*before, *after], now_ns + DAY_NS // 4, 30) == [0, 1, 2, 3, 4]  # a day of it was recorded
    assert layout.expired(before, now_ns, 30, DAY_NS) == [0, 1, 2, 3, 4]  # nothing was recorded, and a day has passed
    # What is behind the jump is as old as it says, and what is before it is older.
    assert layout.expired([*before, *after], now_ns, 0.4) == list(range(10))


def test_a_jump_in_the_middle_of_a_segment_is_one():
    now_ns = 1_800_000_000 * 10**9
    before = [aged(number, 10 * number + 1, 3650 + 1 - number * 0.1, now_ns) for number in range(5)]
    across = segment(5, 51, 60, wall_from_ns=before[-1].wall_to_ns, wall_to_ns=now_ns - DAY_NS // 2)
    assert layout.expired([*before, across], now_ns, 30) == []
    assert layout.expired([*before, across], now_ns + DAY_NS, 30, DAY_NS) == [0, 1, 2, 3, 4]


def test_holds_are_served_in_their_order_within_their_budget():
    segments = [
        replace(s, wall_from_ns=s.first_sequence * 100, wall_to_ns=s.last_sequence * 100 + 100) for s in SEGMENTS
    ]
    first = Hold("a", "porch/main", 15_000, 16_000, "evidence")
    second = Hold("b", "porch/main", 0, 40_000, "clip")
    assert held_segments(segments, [first, second], 2) == ({2, 1}, {3, 0})
    assert held_segments(segments, [first, second], 9) == ({0, 1, 2, 3}, set())
    assert held_segments(segments, [], 2) == (set(), set())


def test_a_hold_by_sequence_finds_footage_whose_clock_was_wrong():
    hold = Hold("a", "porch/main", 0, 1, "evidence", from_sequence=150, to_sequence=150)
    assert [s.number for s in SEGMENTS if hold.covers(s)] == [2]


@pytest.mark.parametrize(
    ("name", "number"),
    [("000000.mp4", 0), ("1234567.mp4", 1234567), ("0.mp4", None), ("index", None), ("00001x.mp4", None)],
)
def test_only_our_own_file_names_are_segments(name, number):
    assert layout.segment_number(name) == number


@pytest.mark.parametrize("burst_s", [0.0, 0.1, 1.0, 2.0])
def test_a_disk_that_keeps_up_keeps_the_loss_bound(burst_s):
    assert layout.at_risk_s(5.0, 1.1, burst_s) <= 5.0 + 1e-9


def test_a_disk_that_is_too_slow_costs_its_whole_burst():
    assert layout.at_risk_s(5.0, 1.1, 25.0) == pytest.approx(1.1 + layout.ON_THE_WAY_S + 0.1 + 25.0)
