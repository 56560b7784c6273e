"""Sender reports, receiver reports, goodbyes."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from nvr.rtsp import rtcp
from nvr.rtsp.rtcp import Bye, Reception, SenderClock, SenderReport

WALL_NS = 1_700_000_000_250_000_000
NTP = (1_700_000_000 + 2_208_988_800) << 32 | 1 << 30


def sender_report(ntp: int = NTP, rtp_ts: int = 90_000, ssrc: int = 7, blocks: bytes = b"", count: int = 0) -> bytes:
    return struct.pack(">BBHIQIII", 0x80 | count, 200, 6 + len(blocks) // 4, ssrc, ntp, rtp_ts, 10, 1000) + blocks


def test_a_sender_report_says_when_by_the_cameras_clock():
    [report] = rtcp.parse(sender_report())
    assert report == SenderReport(7, NTP, 90_000, 10, 1000)
    assert report.wall_ns == WALL_NS


def test_time_stamps_around_a_report_are_mapped_in_both_directions_and_over_the_wrap():
    clock = SenderClock()
    assert clock.wall_ns(5) == 0
    clock.learn(SenderReport(7, NTP, 0xFFFFFF00, 0, 0), 0)
    assert clock.wall_ns(0xFFFFFF00) == WALL_NS
    assert clock.wall_ns((0xFFFFFF00 + 90_000) & 0xFFFFFFFF) == WALL_NS + 1_000_000_000
    assert clock.wall_ns(0xFFFFFF00 - 90_000) == WALL_NS - 1_000_000_000


def test_the_next_ntp_era_begins_in_2036():
    assert SenderReport(7, 10 << 32, 0, 0, 0).wall_ns == ((1 << 32) + 10 - 2_208_988_800) * 1_000_000_000


def test_a_camera_without_a_clock_says_nothing():
    clock = SenderClock()
    clock.learn(SenderReport(7, 0, 5, 0, 0), 0)
    assert clock.wall_ns(5) == 0


def test_all_packets_of_a_compound_are_read_also_behind_unknown_ones():
    unknown = struct.pack(">BBHI", 0x81, 204, 1, 9)
    bye = struct.pack(">BBHII", 0x82, 203, 2, 7, 8)
    assert rtcp.parse(unknown + sender_report() + bye)[1:] == [Bye((7, 8))]


def test_a_cut_off_report_is_passed_over():
    data = sender_report()
    for end in range(len(data)):
        assert rtcp.parse(data[:end]) == []


def test_a_receiver_report_says_loss_as_rfc_3550_computes_it():
    reception, clock = Reception(1), SenderClock()
    clock.learn(SenderReport(7, NTP, 0, 0, 0), 1_000_000_000)
    first = reception.report(7, (100, 0, 0), 90, 10, clock, 1_500_000_000)
    version, kind, words, own, ssrc, loss, highest, jitter, last, delay = struct.unpack_from(">BBHIIIIIII", first)
    assert (version, kind, words, own, ssrc) == (0x81, 201, 7, 1, 7)
    assert loss >> 24 == 10 * 256 // 100
    assert loss & 0xFFFFFF == 10
    assert highest == 199
    assert (jitter, last, delay) == (0, NTP >> 16 & 0xFFFFFFFF, 32768)
    second = reception.report(7, (100, 0, 0), 190, 10, clock, 2_500_000_000)
    assert second[12] == 0  # nothing lost since
    assert struct.unpack_from(">I", second, 16)[0] == 299
    assert second[32:34] == b"\x81\xca"  # our name follows: a compound needs it


def test_the_highest_sequence_number_counts_its_wraps():
    report = Reception(1).report(7, (65_530, 0, 0), 100_000, 0, SenderClock(), 0)
    assert struct.unpack_from(">I", report, 16)[0] == 65_530 + 99_999


def test_after_a_jump_the_counts_begin_anew():
    reception = Reception(1)
    reception.report(7, (100, 0, 0), 1000, 0, SenderClock(), 0)
    report = reception.report(7, (5000, 1000, 3), 1010, 3, SenderClock(), 0)
    assert struct.unpack_from(">I", report, 16)[0] == 5009
    assert report[12:16] == bytes(4)


def test_jitter_follows_delay_that_varies_and_ignores_jumps():
    reception = Reception(1)
    for n in range(100):
        reception.picture(n * 3600, n * 40_000_000 + (n % 2) * 10_000_000)
    assert 700 < reception.jitter_ticks < 950  # 10 ms are 900 ticks
    before = reception.jitter_ticks
    reception.picture(1 << 31, 4_000_000_000)
    assert reception.jitter_ticks == before


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_passed_over(data):
    for report in rtcp.parse(data):
        if isinstance(report, SenderReport):
            assert report.wall_ns >= 0


@given(st.integers(0, 2**40), st.integers(0, 2**40), st.integers(0, 65535), st.integers(0, 2**60))
def test_any_counts_fit_into_a_report(packets, lost, base, now_ns):
    assert len(Reception(1).report(7, (base, 0, 0), packets, lost, SenderClock(), now_ns)) % 4 == 0
