"""Footage of one ring that stands where another ring records: folders renamed, cards mixed up, files copied. It is not written over unasked."""

from __future__ import annotations

import shutil
from pathlib import Path

from rig import SMALL_SEGMENT_BYTES, STREAM, Rig

from nvr.ring import index
from nvr.ring.layout import ASIDE_PREFIX
from nvr.ring.reader import Ring

OTHER = "gate/main"


def recorded(data_dir: Path, *, stream: str = STREAM, pictures: int = 200, **settings: object) -> Rig:
    rig = Rig(data_dir, stream=stream, segments=16, **settings).open()  # type: ignore[arg-type]
    rig.start_run()
    rig.record(pictures, gop=5, burst_every=5)
    rig.stop()
    return rig


def whole_files(path: Path) -> set[bytes]:
    return {each.read_bytes() for each in path.glob("*.mp4")}


def aside(rig: Rig) -> list[Path]:
    return sorted(rig.settings.path.glob(f"{ASIDE_PREFIX}*"))


def test_the_folder_of_a_camera_was_renamed_and_its_footage_is_all_there(tmp_path):
    before = recorded(tmp_path)
    footage = whole_files(before.settings.path)
    (tmp_path / "rings/gate").mkdir()
    before.settings.path.rename(tmp_path / "rings" / OTHER)
    after = recorded(tmp_path, stream=OTHER, pictures=20, boot=2)
    assert {each.read_bytes() for each in aside(after)} == footage
    assert len(after.recovered[OTHER].unreadable) == len(footage) + 1  # and the index
    assert "put aside" in str(after.recovered[OTHER])
    assert after.faults() == []
    assert after.written[0].record.sequence == 1


def test_segments_of_another_camera_copied_over_ours_are_put_aside(tmp_path):
    other = recorded(tmp_path, stream=OTHER)
    ours = recorded(tmp_path)
    shutil.copy(other.settings.path / "000002.mp4", ours.settings.path / "000002.mp4")
    (ours.settings.path / "index").unlink()
    again = recorded(tmp_path, pictures=20, boot=2)
    assert [each.read_bytes() for each in aside(again)] == [(other.settings.path / "000002.mp4").read_bytes()]
    with Ring(again.settings.path) as ring:
        numbers = [row.record.sequence for row in ring.rows()]
    lost = {written.record.sequence for written in ours.written if written.position.segment == 2}
    assert set(numbers) == {written.record.sequence for written in ours.written + again.written} - lost


def test_a_rebuilt_index_does_not_give_foreign_segments_away(tmp_path):
    other = recorded(tmp_path, stream=OTHER)
    ours = recorded(tmp_path)
    shutil.copy(other.settings.path / "000001.mp4", ours.settings.path / "000001.mp4")
    index.rebuild(tmp_path)
    again = recorded(tmp_path, pictures=20, boot=2)
    assert [each.read_bytes() for each in aside(again)] == [(other.settings.path / "000001.mp4").read_bytes()]


def test_what_was_put_aside_counts_against_the_budget_and_goes_first(tmp_path):
    before = recorded(tmp_path, pictures=600)
    count = len(whole_files(before.settings.path))
    (tmp_path / "rings/gate").mkdir()
    before.settings.path.rename(tmp_path / "rings" / OTHER)
    after = Rig(tmp_path, stream=OTHER, segments=16, boot=2).open()
    after.start_run()
    fewer = []
    for _ in range(60):
        after.record(10, gop=5, burst_every=5)
        assert len(list(after.settings.path.glob("*.mp4"))) * SMALL_SEGMENT_BYTES <= after.settings.ring_bytes
        fewer.append(len(aside(after)))
    assert after.writer.dropped == {}
    assert count >= fewer[0] > 0 == fewer[-1]
    assert fewer == sorted(fewer, reverse=True)
    with Ring(after.settings.path) as ring:
        oldest = next(ring.rows()).record.sequence
    assert oldest == 1 or fewer[-1] == 0  # nothing of ours went before
    after.stop()
    assert after.faults() == []
