"""The drawn films of the demo: the same on every run, and what a camera would send."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

av = pytest.importorskip("av")
pytest.importorskip("numpy")

from tools.scenes import demo_footage  # noqa: E402


@pytest.mark.parametrize("scene", demo_footage.SCENES, ids=lambda scene: scene.name)
def test_a_film_is_the_same_every_time_and_moves_with_a_keyframe_every_second(scene, tmp_path: Path):
    small = replace(scene, width=320, height=180)
    paths = [tmp_path / "first.mp4", tmp_path / "second.mp4"]
    for path in paths:
        demo_footage.write(small, path, length_s=2)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with av.open(str(paths[0])) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height, stream.average_rate) == ("h264", 320, 180, 25)
        packets = [packet for packet in container.demux(stream) if packet.size]
        assert [number for number, packet in enumerate(packets) if packet.is_keyframe] == [0, 25]
        assert all(packet.pts == packet.dts for packet in packets), "no B-frames"
    first, last = demo_footage.draw(small, 0), demo_footage.draw(small, 49)
    assert (first.y != last.y).any()


def test_films_that_are_there_are_kept(tmp_path: Path):
    for scene in demo_footage.SCENES:
        (tmp_path / f"{scene.name}.mp4").write_bytes(b"mine")
    assert all(path.read_bytes() == b"mine" for path in demo_footage.write_all(tmp_path))
