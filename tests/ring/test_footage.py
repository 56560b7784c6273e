"""Real footage through a ring: a segment copied at any moment plays, and every picture is the camera's."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from films import DRAWN, footage, payload_of, play
from rig import STREAM, Rig

from nvr.media import AccessUnit, ParameterSets, RunStarted
from nvr.ring import layout
from nvr.ring.reader import Ring
from nvr.rtsp.run import Learned, Runs

av = pytest.importorskip("av", reason="PyAV is the second opinion here")

FILM = "vehicle_street.mp4"


def pictures_in(path: Path) -> list[str]:
    with av.open(str(path)) as container:
        return [hashlib.sha256(frame.to_ndarray().tobytes()).hexdigest() for frame in container.decode(video=0)]


def test_a_segment_copied_while_it_is_written_and_after_it_was_reused_plays_picture_by_picture(tmp_path):
    source = footage(FILM)
    events = play(source)
    started = next(event for event in events if isinstance(event, RunStarted))
    units = [event for event in events if isinstance(event, AccessUnit)][:300]
    originals = pictures_in(source)
    payloads = [payload_of(unit) for unit in units]
    rig = Rig(tmp_path, segment_bytes=512 << 10).open()
    copies: list[Path] = []
    for lap in range(3):
        rig.written += rig.writer.start_run(started, rig.clock.read())
        for number, unit in enumerate(units if lap == 0 else play_again(source, len(units))):
            rig.clock.advance(40_000_000)
            rig.written += rig.writer.push(unit, rig.clock.read())
            if number % 20 == 0:
                rig.syncer.burst()
            if number in (90, 250) and rig.writer.current is not None:
                copy = tmp_path / f"copy-{lap}-{number}.mp4"
                name = layout.segment_name(rig.writer.current.number)
                copy.write_bytes((rig.settings.path / name).read_bytes())
                copies.append(copy)
    rig.stop()
    assert rig.writer.dropped == {}
    with Ring(rig.settings.path) as ring:
        rows = list(ring.rows())
        assert sum(row.record.pictures for row in rows) > 100
        media = b"".join(ring.read(row.position)[1024 : 1024 + row.record.payload_bytes] for row in rows)
    whole = b"".join(payloads * 3)
    assert whole.endswith(media), "what the ring kept is the end of what was recorded, byte for byte"
    assert max(row.position.lap for row in rows) > 1, "segments were reused"
    played = 0
    for copy in copies:
        found = pictures_in(
            copy
        )  # from the first keyframe on: a GOP longer than an eighth of a segment goes over its end
        assert set(found) <= set(originals[: len(units)]), copy.name
        played += len(found)
    assert played > 50
    assert rig.faults() == []
    assert STREAM in rig.recovered


def play_again(source: Path, count: int) -> list[AccessUnit]:
    """A writer keeps what it is given, so every lap needs access units of its own."""
    return [event for event in play(source) if isinstance(event, AccessUnit)][:count]


def test_footage_of_a_camera_that_changes_its_parameter_sets_all_the_time_plays(tmp_path):
    """Its keyframes carry them, in segments whose header has those that came first."""
    films = [footage(name) for name in DRAWN]
    runs = Runs(ParameterSets((), ()), "", Learned(has_changing_sets=True))
    rig = Rig(tmp_path, segment_bytes=4 << 20).open()
    originals: list[str] = []
    for gop in range(6):
        film = films[gop % 2]
        originals += pictures_in(film)[:25]
        [started, *units] = [event for event in play(film) if isinstance(event, RunStarted | AccessUnit)][:26]
        sets = (*started.parameter_sets.sps, *started.parameter_sets.pps)
        for unit in units:
            rig.clock.advance(40_000_000)
            ticks = gop * 25 * 3600 + unit.decode_ticks + unit.composition_ticks
            picture = (
                unit.payload,
                ticks,
                unit.is_keyframe,
                0,
                sets if unit.is_keyframe else (),
                rig.clock.mono_ns(),
                False,
            )
            for event in runs.push(picture):
                if isinstance(event, RunStarted):
                    rig.writer.start_run(event, rig.clock.read())
                elif isinstance(event, AccessUnit):
                    rig.writer.push(event, rig.clock.read())
    rig.stop()
    assert set(pictures_in(rig.settings.path / "000000.mp4")) == set(originals)
    assert rig.faults() == []
