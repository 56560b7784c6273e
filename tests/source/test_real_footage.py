"""Real films, sent by the pretend camera and received by the RTSP source: the decoder must see no difference."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable

import pytest
from films import CLIPS, footage
from pretend import PretendCamera, film_of, nal_units
from source_suite import Drained, bytes_of

from nvr.arena import Arena
from nvr.media import AccessUnit, RunStarted, StreamEvent
from nvr.source.rtsp import Rtsp

av = pytest.importorskip("av")
PICTURES = 150  # several GOPs of each; `slow` below takes all of them


def received(name: str, transport: str, count: int) -> list[StreamEvent]:
    """Everything up to the `count`-th picture."""
    with PretendCamera(footage(name), rewind=True, speed=20) as camera:
        seen = Drained(Rtsp(camera.url, transport=transport, arena=Arena()))
        try:
            last = seen.until_pictures(count)[count - 1]
            return seen.events[: seen.events.index(last) + 1]
        finally:
            seen.source.close()


def units_of(events: list[StreamEvent]) -> list[AccessUnit]:
    return [event for event in events if isinstance(event, AccessUnit)]


def pictures_of_file(name: str, count: int) -> list[str]:
    with av.open(str(footage(name))) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size][:count]
        return digests([frame for packet in [*packets, None] for frame in stream.codec_context.decode(packet)])


def pictures_of(events: list[StreamEvent]) -> list[str]:
    """Each run decoded for itself, as whoever plays it does."""
    found: list[str] = []
    at = [number for number, event in enumerate(events) if isinstance(event, RunStarted)]
    for start, end in zip(at, [*at[1:], len(events)], strict=True):
        decoder = av.CodecContext.create("h264", "r")
        sets = events[start].parameter_sets
        before = b"".join(b"\0\0\0\1" + each for each in (*sets.sps, *sets.pps))
        frames = []
        for unit in units_of(events[start:end]):
            packet = av.Packet(before + b"".join(b"\0\0\0\1" + nal for nal in nal_units(bytes_of(unit))))
            packet.dts, packet.pts = unit.decode_ticks, unit.decode_ticks + unit.composition_ticks
            frames += decoder.decode(packet)
            before = b""
        frames += decoder.decode(None)
        # A camera that does not say it reorders is found out in its first GOP, which then ends the run.
        was_found_out = end < len(events) and "shown" in events[end - 1].detail
        if not was_found_out:
            assert all(a.pts < b.pts for a, b in itertools.pairwise(frames)), "shown in the order of their times"
        found += digests(frames)
    return found


def digests(frames: Iterable) -> list[str]:
    return [hashlib.sha1(b"".join(bytes(plane) for plane in frame.planes)).hexdigest() for frame in frames]


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("name", CLIPS)
def test_real_films_decode_to_the_same_pictures(name, transport):
    film = film_of(footage(name))
    count = min(PICTURES, len(film.pictures))
    events = received(name, transport, count)
    assert [nal_units(bytes_of(unit)) for unit in units_of(events)] == [list(each) for each in film.pictures[:count]]
    assert pictures_of(events) == pictures_of_file(name, count)


@pytest.mark.slow
@pytest.mark.parametrize("name", CLIPS)
def test_whole_real_films_decode_to_the_same_pictures(name):
    film = film_of(footage(name))
    events = received(name, "tcp", len(film.pictures))
    assert pictures_of(events) == pictures_of_file(name, len(film.pictures))
