from __future__ import annotations

import itertools

import pytest
from films import FOOTAGE, footage
from hypothesis import given
from hypothesis import strategies as st

from nvr import byte_stream, h264

av = pytest.importorskip("av", reason="needs PyAV, the second opinion")

NAMES = sorted(
    path.relative_to(FOOTAGE).as_posix() for path in FOOTAGE.glob("**/*.*") if path.suffix in (".264", ".h264", ".jsv")
) or ["none.h264"]  # skipped with its reason where the collection is not at hand


def shown_order(times: list[int]) -> list[int]:
    return sorted(range(len(times)), key=times.__getitem__)


def encoded(pictures: int, **options: str) -> bytes:
    """A byte stream with B pictures, made here."""
    numpy = pytest.importorskip("numpy")
    context = av.CodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt, context.framerate = 64, 64, "yuv420p", 25
    context.options = {"preset": "veryfast", **options}
    data = b""
    for number in range(pictures):
        plane = numpy.full((96, 64), number * 7 % 200, numpy.uint8)
        frame = av.VideoFrame.from_ndarray(plane, "yuv420p")
        frame.pts = number
        data += b"".join(bytes(packet) for packet in context.encode(frame))
    return data + b"".join(bytes(packet) for packet in context.encode(None))


def decoder_order(data: bytes) -> list[int]:
    """Which coded picture, by its number, a decoder shows first, second ..."""
    context = av.CodecContext.create("h264", "r")
    shown = []
    for number, units in enumerate(byte_stream.access_units(data)):
        packet = av.Packet(b"".join(b"\0\0\0\1" + bytes(unit) for unit in units))
        packet.pts = packet.dts = number
        shown += context.decode(packet)
    return [frame.opaque if frame.pts is None else frame.pts for frame in shown + context.decode(None)]


@pytest.mark.parametrize(
    "name",
    [
        "conformance/BA_MW_D.264",
        "otvision_cars-truck_fr20.h264",
    ],
)
def test_pictures_of_real_streams_are_shown_in_the_order_of_a_decoder(name):
    data = footage(name).read_bytes()
    found = list(byte_stream.pictures(data, 25))
    times = [picture.decode_ticks + picture.composition_ticks for picture in found]
    assert len(set(times)) == len(found)
    assert shown_order(times) == decoder_order(data)


@pytest.mark.parametrize(
    "options",
    [{"bf": "0"}, {"bf": "2"}, {"bf": "3", "g": "12"}, {"x264-params": "bframes=5:b-pyramid=normal:ref=5", "g": "30"}],
)
def test_pictures_of_an_encoder_are_shown_in_the_order_they_were_drawn(options):
    """90 pictures: order counts wrap around several times in between, and groups follow each other."""
    data = encoded(90, **options)
    found = list(byte_stream.pictures(data, 25))
    times = [picture.decode_ticks + picture.composition_ticks for picture in found]
    assert len(found) == 90
    assert shown_order(times) == decoder_order(data)
    assert {after - before for before, after in itertools.pairwise(sorted(times))} == {3600}
    assert [picture.decode_ticks for picture in found] == list(range(0, 90 * 3600, 3600))


@pytest.mark.parametrize("name", NAMES)
def test_decoding_times_rise_and_nothing_is_lost(name):
    data = footage(name).read_bytes()
    found = list(byte_stream.pictures(data, 24.04))
    assert [bytes(unit) for picture in found for unit in picture.units] == [
        data[place : place + size] for place, size in h264.annex_b_units(data)
    ]
    assert all(before.decode_ticks < after.decode_ticks for before, after in itertools.pairwise(found))
    assert all(picture.composition_ticks >= 0 for picture in found)


@given(st.binary(max_size=300), st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=20))
def test_any_bytes_are_pictures_or_nothing(data, changes):
    film = bytearray(FILM)
    for place, value in changes:
        film[place % len(film)] = value
    for stream in (data, b"\0\0\1" + data, bytes(film), bytes(film[:200]) + data):
        last = -1
        for picture in byte_stream.pictures(stream, 25):
            assert picture.decode_ticks > last and picture.composition_ticks >= 0 and picture.units
            last = picture.decode_ticks


FILM = encoded(20, bf="3", g="8")
