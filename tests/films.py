"""Footage for tests: real files where they are at hand, and segments made of them straight from `fmp4`, without a ring."""

from __future__ import annotations

import functools
import hashlib
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from nvr import fmp4, h264
from nvr.media import PAGE_BYTES, TICKS_PER_S, AccessUnit, ClockState, FragmentRecord, RunEnded, RunStarted, StreamEvent
from nvr.source.replay import Replay

FOOTAGE = Path(__file__).resolve().parents[2] / "shared" / "data" / "video"
CLIPS = ("vehicle_street.mp4", "one-by-one-person-detection.mp4", "otvision_cars-truck_fr20.mp4", "car-detection.mp4")
STREAMS = (
    "otvision_cars-truck_fr20.h264",
    "conformance/BA_MW_D.264",
    "conformance/MPS_MW_A.264",
    "conformance/CVFC1_Sony_C.jsv",
    "conformance/Cisco_Men_whisper_640x320_CABAC_Bframe_9.264",
)

BYTE_STREAMS = sorted(
    path.relative_to(FOOTAGE).as_posix() for path in FOOTAGE.glob("**/*.*") if path.suffix in (".264", ".h264", ".jsv")
) or ["none.h264"]  # skipped with its reason where the collection is not at hand


# Drawn by ourselves, the same everywhere; the second one has B pictures.
DRAWN = ("drawn/gate.mp4", "drawn/b-pictures.mp4")


def opened(path: Path):  # type: ignore[no-untyped-def]
    """The film as PyAV opens it; the test is skipped where PyAV is missing."""
    return pytest.importorskip("av", reason="needs PyAV, the second opinion").open(str(path))


@functools.cache
def _drawn(name: str) -> Path:
    av = pytest.importorskip("av", reason="films are drawn with PyAV and numpy")
    numpy = pytest.importorskip("numpy", reason="films are drawn with PyAV and numpy")
    directory = tempfile.TemporaryDirectory(prefix="films-")
    _DIRECTORIES.append(directory)
    path = Path(directory.name) / Path(name).name
    with av.open(str(path), "w", options={"movflags": "faststart"}) as target:
        options = {"preset": "veryfast", "bf": "3" if "b-pictures" in name else "0", "g": "25", "qp": "30"}
        stream = target.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 320, 192, "yuv420p"
        random = numpy.random.default_rng(1)
        ground = random.integers(60, 180, (192, 320), numpy.uint8)
        for number in range(250):
            picture = numpy.full((288, 320), 128, numpy.uint8)
            picture[:192] = ground
            picture[60:100, number : number + 40] = 220  # something goes from left to right
            target.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "yuv420p")))
        target.mux(stream.encode(None))
    return path


_DIRECTORIES: list[tempfile.TemporaryDirectory[str]] = []  # they vanish when the tests end


def footage(name: str) -> Path:
    """The path of a film; the test is skipped where the collection is not at hand, or what draws films."""
    if name in DRAWN:
        return _drawn(name)
    path = FOOTAGE / name
    if not path.exists():
        pytest.skip(f"no real footage at {FOOTAGE}")
    return path


def units_of(name: str) -> list[bytes]:
    """The NAL units of a byte stream; the test is skipped where the collection is not at hand."""
    data = footage(name).read_bytes()
    return [data[offset : offset + size] for offset, size in h264.annex_b_units(data)]


def play(path: Path, *, fps: float | None = None) -> list[StreamEvent]:
    """All events of one file, as fast as it goes."""
    source = Replay(path, loop=False, speed=None, fps=fps)
    events: list[StreamEvent] = []
    for drain in range(100_000):
        events += source.drain(drain * 100_000_000)
        if events and isinstance(events[-1], RunEnded) and events[-1].is_final:
            source.close()
            return events
    raise AssertionError(f"{path} never ends")


@dataclass(frozen=True, slots=True)
class Built:
    """A fragment and what went into it."""

    data: bytes
    record: FragmentRecord
    samples: tuple[fmp4.Sample, ...]


def payload_of(unit: AccessUnit) -> bytes:
    return b"".join(unit.payload.views())


def built(
    units: Sequence[AccessUnit],
    durations: Sequence[int],
    *,
    sequence: int,
    previous_hash: bytes = bytes(32),
    number: int | None = None,
) -> Built:
    """One fragment of `units`."""
    payload = b"".join(payload_of(unit) for unit in units)
    samples = tuple(
        fmp4.Sample(unit.payload.size_bytes, duration, unit.composition_ticks, unit.is_keyframe)
        for unit, duration in zip(units, durations, strict=True)
    )
    head = fmp4.head(number or sequence, units[0].decode_ticks, samples, len(payload))
    record = FragmentRecord(
        box_id=bytes(range(16)),
        boot_id=bytes(range(16, 32)),
        stream="porch/main",
        run=3,
        lap=1,
        segment=7,
        sequence=sequence,
        mono_ns=60_000_000_000 + units[0].decode_ticks * 100_000 // 9,
        wall_ns=1_750_000_000_000_000_000 + units[0].decode_ticks * 100_000 // 9,
        clock_state=ClockState.SYNCED,
        clock_error_ns=12_000_000,
        run_ticks=units[0].decode_ticks,
        duration_ticks=sum(durations),
        pictures=len(units),
        payload_bytes=len(payload),
        lost_packets=sum(unit.lost_packets for unit in units),
        is_keyframe=units[0].is_keyframe,
        camera_wall_ns=0,
        previous_hash=previous_hash,
        hash=bytes(32),
    )
    record = replace(record, hash=fmp4.fragment_hash(hashlib.sha256(payload), head, record))
    crc = fmp4.record.crc32c(payload)
    return Built(
        head + payload + fmp4.commit_record(record, head, crc, fmp4.commit_record_size(len(payload))), record, samples
    )


def fragments_of(events: Sequence[StreamEvent]) -> Iterator[Built]:
    """Fragments of the first run: from keyframe to keyframe, at most a second long."""
    starts = [place for place, event in enumerate(events) if isinstance(event, RunStarted)]
    units = [event for event in events[: [*starts, len(events)][1]] if isinstance(event, AccessUnit)]
    times = [unit.decode_ticks for unit in units] + [2 * units[-1].decode_ticks - units[-2].decode_ticks]
    durations = [after - before for before, after in itertools.pairwise(times)]
    first, sequence, previous = 0, 1, bytes(32)
    for end in range(1, len(units) + 1):
        if (
            end == len(units)
            or units[end].is_keyframe
            or end - first == fmp4.MAX_SAMPLES
            or times[end + 1] - times[first] > TICKS_PER_S
        ):
            yield (fragment := built(units[first:end], durations[first:end], sequence=sequence, previous_hash=previous))
            first, sequence, previous = end, sequence + 1, fragment.record.hash


def first_page(started: RunStarted) -> bytes:
    """Init segment, filled up to a page with a `free` atom."""
    init = fmp4.init_segment(started.parameter_sets, started.width, started.height)
    return init + fmp4.open_head(PAGE_BYTES - len(init))[: PAGE_BYTES - len(init)].ljust(PAGE_BYTES - len(init), b"\0")


def segment_of(events: Sequence[StreamEvent], *, free_bytes: int = 64 * PAGE_BYTES) -> bytes:
    """A segment with the first run of `events`, the way a ring writes it, and free space behind it."""
    started = next(event for event in events if isinstance(event, RunStarted))
    media = b"".join(fragment.data for fragment in fragments_of(events))
    return first_page(started) + media + fmp4.open_head(free_bytes).ljust(free_bytes, b"\0")
