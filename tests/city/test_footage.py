"""Whether a clip holds the bytes of the ring it was cut from; a wrong answer here would accuse the box."""

from __future__ import annotations

from contextlib import closing

from ring.rig import STREAM, Rig

from nvr.ring.reader import Ring
from tools.city.simulator.footage import _difference, fmp4_head


def test_a_clip_is_compared_with_what_the_ring_still_has(tmp_path):
    """A ring that went on had recycled the clip's footage, and a genuine clip was called wrong (the run with seed 1, ten minutes)."""
    rig = Rig(tmp_path).open()
    rig.start_run()
    rig.record(20, gop=5, burst_every=5)
    with closing(Ring(rig.settings.path)) as ring:
        first = bytes(ring.read(next(iter(ring.rows())).position))
    clip = first + first
    assert _difference(clip, tmp_path, STREAM) == ""
    media = len(fmp4_head(first)) + 50
    damaged = first[:media] + bytes((first[media] ^ 1,)) + first[media + 1 :]
    assert "other bytes" in _difference(damaged, tmp_path, STREAM)
    rig.record(300, gop=5, burst_every=5)
    rig.stop()
    with closing(Ring(rig.settings.path)) as ring:
        rows = list(ring.rows())
        newest = bytes(ring.read(rows[-1].position))
    assert rows[0].record.sequence > 1, "the first fragment is recycled"
    assert _difference(clip + newest, tmp_path, STREAM) == ""
    elsewhere = Rig(tmp_path / "elsewhere").open()
    elsewhere.start_run()
    elsewhere.record(5, gop=5)
    elsewhere.stop()
    assert "not in the ring" in _difference(newest, tmp_path / "elsewhere", STREAM)
    assert "no fragment" in _difference(b"", tmp_path, STREAM)
