"""The walker, in Python and in C: every test runs with both."""

from __future__ import annotations

import gc
import random
import sys

import pytest

from nvr.h264 import AccessUnitBoundary
from nvr.rtsp.rtp import PICTURE_LIMIT_BYTES, PyWalker
from rtsp.streams import (
    AUD,
    IDR,
    LATER_SLICE,
    OTHER_SPS,
    PPS,
    PROTOCOL,
    SEI,
    SLICE,
    SPS,
    Sender,
    flat,
    fu_a,
    interleaved,
    keyframe_stream,
    nals_of,
    payload_of,
    rtp,
    stap_a,
    walk_all,
)

try:
    from nvr._fast import Walker as FastWalker
except ImportError:
    FastWalker = None  # type: ignore[assignment,misc]


@pytest.fixture(params=["python", "c"])
def make(request):
    if request.param == "c" and FastWalker is None:
        pytest.skip("nvr._fast is not built: no compiler here")
    return PyWalker if request.param == "python" else FastWalker


@pytest.fixture
def walker(make):
    return make(96)


def pictures(walker, data: bytes):
    assert walk_all(walker, data) == len(data)
    walker.flush()
    return [(nals_of(payload_of(picture[0])), *picture[1:]) for picture in walker.take()]


def trusting(walker) -> Sender:
    """Shows the walker enough pictures that it believes the marker; the sender that goes on from there."""
    sender = Sender()
    walk_all(walker, b"".join(flat(keyframe_stream(12, gop=100, sender=sender))))
    walker.take()
    return sender


# -- payload formats ------------------------------------------------------------------------------------


def test_single_nal_units_become_one_picture_with_a_length_before_each(walker):
    sender = Sender()
    packets = [sender.packet(SEI), sender.packet(IDR, marker=True)]
    [(nals, ts, is_keyframe, lost, sets, arrival_ns, restarted)] = pictures(walker, b"".join(packets))
    assert nals == [SEI, IDR]
    assert (ts, is_keyframe, lost, sets, arrival_ns, restarted) == (9000, True, 0, (), 5, False)


@pytest.mark.parametrize("size", [1, 2, 7, 50, 1386])
def test_fragments_of_any_size_are_put_together(walker, size):
    nal = bytes((0x65, 0x88)) + bytes(n & 255 for n in range(3000))
    sender = Sender()
    packets = [sender.packet(part) for part in fu_a(nal, size)]
    [(nals, *_)] = pictures(walker, b"".join(packets))
    assert nals == [nal]


def test_an_aggregation_packet_needs_four_bytes_more_where_two_are_spent(walker):
    sender = Sender()
    data = sender.packet(stap_a([AUD, SEI, IDR]), marker=True)
    [(nals, *_)] = pictures(walker, data)
    assert nals == [AUD, SEI, IDR]


def test_parameter_sets_are_taken_out_of_the_payload_however_they_are_packed(walker):
    sender = Sender()
    data = sender.packet(stap_a([SPS, PPS, IDR]), marker=True)
    sender.ts += 3600
    data += sender.packet(SPS) + sender.packet(PPS) + sender.packet(IDR, marker=True)
    sender.ts += 3600
    data += b"".join(sender.packet(part) for part in fu_a(SPS, 8)) + sender.packet(IDR, marker=True)
    got = pictures(walker, data)
    assert [picture[0] for picture in got] == [[IDR], [IDR], [IDR]]
    assert [picture[4] for picture in got] == [(SPS, PPS), (SPS, PPS), (SPS,)]


def test_filler_is_left_out(walker):
    sender = Sender()
    [(nals, *_)] = pictures(walker, sender.packet(IDR) + sender.packet(b"\x0c\xff\xff\xff\x80", marker=True))
    assert nals == [IDR]


def test_padding_contributing_sources_and_extensions_are_not_payload(walker):
    sender = Sender()
    data = sender.packet(IDR, csrc=3, padding=9)
    data += b"".join(sender.packet(part, extension=b"12345678", padding=4, csrc=15) for part in fu_a(SLICE, 10))
    data += sender.packet(stap_a([SEI, SEI]), extension=b"", marker=True)
    [(nals, *_)] = pictures(walker, data)
    assert nals == [IDR, SLICE, SEI, SEI]


@pytest.mark.parametrize("kind", [25, 26, 27, 29])
def test_the_b_variants_are_refused_and_counted(walker, kind):
    sender = Sender()
    data = sender.packet(IDR) + sender.packet(bytes((kind,)) + bytes(20), marker=True)
    assert pictures(walker, data) == []
    assert walker.refused == 1
    assert walker.damaged == 1


def test_a_fragmented_unit_without_an_end_bit_ends_with_the_marker(walker):
    sender = Sender()
    parts = fu_a(IDR, 10)
    parts[-1] = bytes((parts[-1][0], parts[-1][1] & ~0x40)) + parts[-1][2:]
    data = b"".join(sender.packet(part, marker=part is parts[-1]) for part in parts)
    [(nals, *_)] = pictures(walker, data)
    assert nals == [IDR]
    assert walker.unended == 1


def test_an_empty_packet_is_harmless(walker):
    sender = Sender()
    data = sender.packet(b"") + sender.packet(IDR) + sender.packet(b"", marker=True)
    [(nals, *_)] = pictures(walker, data)
    assert nals == [IDR]


# -- loss -------------------------------------------------------------------------------------------------


def test_a_lost_packet_drops_its_picture_and_is_told_with_the_next_one(walker):
    stream = keyframe_stream(12)
    lost = stream[4].pop(1)
    assert lost
    got = pictures(walker, b"".join(flat(stream)))
    assert len(got) == 11
    assert [picture[3] for picture in got] == [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]
    assert (walker.lost, walker.damaged, walker.packets) == (1, 1, sum(map(len, stream)))


def test_no_nal_unit_with_a_hole_is_ever_delivered(make):
    stream = keyframe_stream(6, gop=3)
    packets = flat(stream)
    whole = [nals for picture in pictures(make(96), b"".join(packets)) for nals in picture[0]]
    for missing in range(len(packets)):
        got = pictures(make(96), b"".join(packets[:missing] + packets[missing + 1 :]))
        assert all(nal in whole for picture in got for nal in picture[0])
        assert len(got) >= 4  # before the marker is trusted, a packet lost between two pictures may belong to either


def test_whole_pictures_that_are_lost_cost_nothing_but_themselves(walker):
    sender = trusting(walker)
    before = walker.packets
    lost = sender.picture(SLICE) + sender.picture(SLICE)
    kept = sender.picture(SLICE)
    got = pictures(walker, b"".join(kept))
    assert [picture[3] for picture in got] == [len(lost)]
    assert walker.packets == before + len(kept)
    assert walker.damaged == 0


def test_a_picture_that_lost_its_first_slice_is_dropped(walker):
    sender = trusting(walker)
    sender.packet(SLICE)  # lost
    data = sender.packet(LATER_SLICE, marker=True)
    assert pictures(walker, data) == []
    assert (walker.lost, walker.damaged) == (1, 1)


def test_sequence_numbers_wrap(walker):
    got = pictures(walker, b"".join(flat(keyframe_stream(40, sender=Sender(seq=65_530)))))
    assert len(got) == 40
    assert walker.lost == 0
    assert walker.base_seq == 65_530


def test_duplicates_and_late_packets_are_counted_and_not_used(walker):
    packets = flat(keyframe_stream(4))
    data = b"".join([*packets[:6], packets[2], packets[5], *packets[6:]])
    assert len(pictures(walker, data)) == 4
    assert (walker.late, walker.lost) == (2, 0)


def test_a_jump_of_the_sequence_number_is_believed_when_the_next_packet_confirms_it(walker):
    sender = trusting(walker)
    sender.seq += 20_000
    data = b"".join(flat([sender.picture(SLICE), sender.picture(SLICE), sender.picture(SLICE)]))
    got = pictures(walker, data)
    assert len(got) == 2  # the first picture confirmed the jump
    assert walker.jumps == 1
    assert walker.lost < 5  # nobody knows how many, but not 20 000


def test_one_packet_with_a_wild_number_is_passed_over(walker):
    stream = keyframe_stream(6)
    wild = interleaved(rtp(SLICE, 40_000, 9000))
    got = pictures(walker, b"".join([*flat(stream[:3]), wild, *flat(stream[3:])]))
    assert len(got) == 6
    assert walker.jumps == 0


def test_another_ssrc_is_a_new_beginning_and_says_so(walker):
    first = keyframe_stream(3)
    second = keyframe_stream(3, sender=Sender(seq=9, ts=77, ssrc=8))
    got = pictures(walker, b"".join(flat(first + second)))
    assert [picture[6] for picture in got] == [
        False,
        False,
        True,
        False,
        False,
    ]  # the open picture of the old one is dropped
    assert walker.restarts == 1
    assert walker.ssrc == 8


def test_another_ssrc_that_goes_on_counting_is_the_same_sender(walker):
    sender = Sender()
    data = b"".join(sender.picture(SPS, PPS, IDR))
    sender.ssrc = 99
    data += b"".join(sender.picture(SLICE))
    assert len(pictures(walker, data)) == 2
    assert walker.restarts == 0


# -- where a picture ends -----------------------------------------------------------------------------------


def test_pictures_end_where_the_time_stamp_changes_when_no_marker_is_ever_set(walker):
    data = b""
    sender = Sender()
    for n in range(30):
        data += sender.packet(SLICE + bytes((n,))) + sender.packet(LATER_SLICE)
        sender.ts += 3600
    got = pictures(walker, data)
    assert [len(picture[0]) for picture in got] == [2] * 30


def test_a_marker_on_every_nal_unit_does_not_cut_pictures_in_pieces(walker):
    data = b""
    sender = Sender()
    for _ in range(30):
        data += b"".join(sender.packet(nal, marker=True) for nal in (AUD, SPS, PPS, SEI, IDR, LATER_SLICE, LATER_SLICE))
        sender.ts += 3600
    got = pictures(walker, data)
    assert [len(picture[0]) for picture in got] == [5] * 30
    assert walker.strays == 0


def test_a_marker_that_proved_itself_ends_a_picture_at_once(walker):
    sender = trusting(walker)
    walk_all(walker, b"".join(sender.picture(SLICE)))
    assert len(walker.take()) == 1


def test_slices_behind_a_trusted_marker_end_the_trust(walker):
    sender = trusting(walker)
    data = sender.packet(SLICE, marker=True) + sender.packet(LATER_SLICE, marker=True)
    sender.ts += 3600
    for _ in range(3):
        data += sender.packet(SLICE, marker=True) + sender.packet(LATER_SLICE, marker=True)
        sender.ts += 3600
    got = pictures(walker, data)
    assert [len(picture[0]) for picture in got] == [1, 2, 2, 2]
    assert walker.strays == 1


def test_parameter_sets_with_a_time_stamp_of_their_own_belong_to_the_next_picture(walker):
    data = b""
    sender = Sender()
    for _ in range(20):
        data += sender.packet(SPS) + sender.packet(PPS) + sender.packet(SEI)
        sender.ts += 1
        data += sender.packet(IDR, marker=True)
        sender.ts += 3600
    got = pictures(walker, data)
    assert [picture[0] for picture in got] == [[SEI, IDR]] * 20
    assert all(picture[4] == (SPS, PPS) for picture in got)


def test_two_pictures_with_one_time_stamp_are_two_pictures_where_the_marker_is_trusted(walker):
    sender = trusting(walker)
    data = sender.packet(SLICE, marker=True) + sender.packet(SLICE, marker=True)
    assert len(pictures(walker, data)) == 2


# -- streams and buffers --------------------------------------------------------------------------------------


def test_the_recorded_wowza_stream_gives_every_picture(make):
    """Big Buck Bunny as Wowza sent it: 371 interleaved packets, 102 of sound on channel 0, 269 of video on channel 2."""
    path = PROTOCOL / "rtsp-retina" / "bunny_interleaved.rtsp"
    if not path.exists():
        pytest.skip("shared protocol data is not here")
    data = path.read_bytes()
    walker = make(97, 2, 3)
    got = pictures(walker, data)
    assert (walker.packets, walker.other_packets, walker.lost, walker.malformed) == (269, 102, 0, 0)
    assert len(got) == 245
    assert got[0][4] == (SPS, PPS)


def test_payload_lies_where_it_was_received(make):
    stream = b"".join(flat(keyframe_stream(12)))
    buffer = bytearray(stream) + bytearray(32)
    walker = make(96)
    walker.walk(buffer, 0, len(stream), 0)
    got = walker.take()
    assert got
    for picture in got:
        assert all(view.obj is buffer for view in picture[0].views())


@pytest.mark.parametrize("cut", [1, 3, 17, 18, 19, 100])
def test_pictures_are_the_same_however_the_stream_is_cut_into_buffers(make, cut):
    stream = b"".join(flat(keyframe_stream(30, gop=5)))
    expected = pictures(make(96), stream)
    walker = make(96)
    carry, at = b"", 0
    while at < len(stream):
        piece = carry + stream[at : at + cut]
        at += cut
        buffer = bytearray(piece) + bytearray(16)
        carry = piece[walker.walk(buffer, 0, len(piece), 5) :]
    walker.flush()
    assert [(nals_of(payload_of(picture[0])), *picture[1:]) for picture in walker.take()] == expected


def test_datagrams_and_interleaved_packets_give_the_same(make):
    packets = flat(keyframe_stream(10))
    by_tcp = pictures(make(96), b"".join(packets))
    walker = make(96, -1, -1)
    for packet in packets:
        buffer = bytearray(packet[4:]) + bytearray(16)
        walker.packet(buffer, 0, len(packet) - 4, 5)
    walker.flush()
    assert [(nals_of(payload_of(picture[0])), *picture[1:]) for picture in walker.take()] == by_tcp


def test_walking_stops_at_what_is_no_packet(walker):
    data = b"".join(Sender().picture(IDR))
    assert walk_all(walker, data + b"RTSP/1.0 200 OK\r\n\r\n") == len(data)
    assert walk_all(walker, b"$") == 0
    assert walk_all(walker, b"") == 0
    assert walk_all(walker, b"$\0\xff\xff" + bytes(100)) == 0


def test_control_packets_are_handed_over_and_others_only_counted(walker):
    report = b"\x80\xc8" + bytes(26)
    data = interleaved(report, 1) + interleaved(b"sound", 2) + interleaved(b"", 9)
    assert walk_all(walker, data) == len(data)
    assert walker.take_control() == [(1, report)]
    assert walker.take_control() == []
    assert (walker.other_packets, walker.other_bytes) == (3, len(report) + 5)


def test_control_packets_that_nobody_takes_do_not_pile_up(walker):
    data = interleaved(bytes(8), 1) * 1000
    walk_all(walker, data)
    assert len(walker.take_control()) == 256


def test_other_payload_types_on_the_channel_are_counted_and_break_nothing(walker):
    stream = keyframe_stream(4)
    sender = Sender(seq=stream and 100 + len(stream[0]) + len(stream[1]), ts=1)
    odd = sender.packet(b"whatever", payload_type=107)
    later = [
        interleaved(
            rtp(p[16:], int.from_bytes(p[6:8], "big") + 1, int.from_bytes(p[8:12], "big"), marker=p[5] >> 7 == 1)
        )
        for p in flat(stream[2:])
    ]
    got = pictures(walker, b"".join([*flat(stream[:2]), odd, *later]))
    assert len(got) == 4
    assert (walker.other_payload, walker.lost) == (1, 0)


def test_arguments_that_make_no_sense_are_refused(make):
    for arguments in [(-1,), (128,), (96, 256), (96, 0, 300), (96, -2)]:
        with pytest.raises(ValueError):
            make(*arguments)
    walker = make(96)
    for start, end in [(0, 100), (5, 3), (-1, 2), (0, 85)]:
        with pytest.raises(ValueError):
            walker.walk(bytearray(100), start, end, 0)
        with pytest.raises(ValueError):
            walker.packet(bytearray(100), start, end, 0)


def test_a_picture_that_never_ends_is_given_up(make):
    walker = make(96)
    sender = Sender()
    part = bytes((0x7C, 0x01)) + bytes(60_000)
    start = bytes((0x7C, 0x81)) + bytes(1000)
    walk_all(walker, sender.packet(start))
    for _ in range(PICTURE_LIMIT_BYTES // 60_000 + 2):
        walk_all(walker, sender.packet(part))
    sender.ts += 3600
    assert pictures(walker, sender.packet(IDR)) != []
    assert walker.damaged == 1


def test_what_a_picture_needs_stays_and_nothing_else_does(make):
    """Buffers live as long as somebody holds a picture of them, and no longer."""
    stream = b"".join(flat(keyframe_stream(20)))
    buffer = bytearray(stream) + bytearray(32)
    walker = make(96)
    walker.walk(buffer, 0, len(stream), 0)
    walker.flush()
    got = walker.take()
    with pytest.raises(BufferError):
        buffer.extend(b"x")
    expected = payload_of(got[0][0])
    reference = got[0][0]
    del got
    gc.collect()
    assert payload_of(reference) == expected
    del reference
    gc.collect()
    buffer.extend(b"x")  # nobody holds it any more
    assert sys.getrefcount(buffer) == 2


def test_parameter_sets_without_end_are_bounded(walker):
    sender = Sender()
    data = b"".join(sender.packet(OTHER_SPS + bytes((n,)) * 3) for n in range(200)) + sender.packet(
        bytes((0x67,)) + bytes(5000)
    )
    data += sender.packet(IDR, marker=True)
    [picture] = pictures(walker, data)
    assert len(picture[4]) == 64
    assert walker.malformed == 137


# -- real footage ---------------------------------------------------------------------------------------------

FOOTAGE = sorted((PROTOCOL.parent / "video" / "conformance").glob("*")) if PROTOCOL.exists() else []


@pytest.mark.skipif(not FOOTAGE, reason="shared footage is not here")
@pytest.mark.parametrize("path", FOOTAGE, ids=lambda path: path.stem)
def test_real_footage_comes_out_as_it_went_in(make, path):
    """Conformance streams (many slices, several parameter sets, B pictures, cropping) as packets of every form."""
    units = [unit.rstrip(b"\0") for unit in path.read_bytes().replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")[1:]]
    boundary = AccessUnitBoundary()
    wanted: list[list[bytes]] = [[]]
    for unit in units:
        if boundary.is_first(unit):
            wanted.append([])
        wanted[-1].append(unit)
    sender, packets = Sender(seq=65_000), []
    for number, picture in enumerate(wanted):
        payloads: list[bytes] = []
        for unit in picture:
            if len(unit) > 700:
                payloads += fu_a(unit, 600)
            elif payloads and len(unit) < 40 and number % 2:
                payloads.append(stap_a([unit, SEI]))
            else:
                payloads.append(unit)
        packets += [sender.packet(payload, marker=payload is payloads[-1]) for payload in payloads]
        sender.ts += 3600
    got = pictures(make(96), b"".join(packets))
    kept = [[unit for unit in picture if unit[0] & 31 not in (7, 8, 12)] for picture in wanted]
    kept = [picture for picture in kept if any(unit[0] & 31 in (1, 5) for unit in picture)]
    assert [[unit for unit in picture[0] if unit != SEI] for picture in got] == [
        [unit for unit in picture if unit != SEI] for picture in kept
    ]
    assert sum(len(picture[4]) for picture in got) == sum(unit[0] & 31 in (7, 8) for unit in units)


@pytest.mark.parametrize("seed", range(20))
def test_joined_pictures_are_those_that_come_singly(make, seed):
    noise = random.Random(seed)
    packets = flat(keyframe_stream(60, gop=noise.choice((3, 25, 60)), sender=Sender(seq=65_500)))
    for _ in range(noise.randrange(3)):
        del packets[noise.randrange(len(packets))]
    data = b"".join(packets)
    cuts = sorted(noise.randrange(len(data)) for _ in range(6))
    single, joining = make(96), make(96, joins=True)
    seen: list[list[tuple]] = [[], []]
    for pictures, walker in zip(seen, (single, joining), strict=True):
        at = 0
        buffer = bytearray(data + bytes(16))
        for number, cut in enumerate([*cuts, len(data)]):
            at = walker.walk(buffer, at, cut, number)
            for row in walker.take():
                if len(row) == 4:
                    payload, stamps, sizes, arrival_ns = row
                    assert sum(sizes) == payload.size_bytes and len(sizes) <= 32
                    for ts, size_bytes in zip(stamps, sizes, strict=True):
                        pictures.append((payload_of(payload.split(size_bytes)), ts, False, 0, (), arrival_ns, False))
                else:
                    pictures.append((payload_of(row[0]), *row[1:]))
    assert seen[1] == seen[0] and len(seen[0]) > 40
    assert joining.packets == single.packets
