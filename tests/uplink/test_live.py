"""Live pictures and stills of a camera that records: only while somebody asks, decodable, masks black, the newest first."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cli.recorded_box import film
from e2e.running import RunningRecorder

from nvr import troubles
from nvr.evidence import is_signed_by
from nvr.recorder import Settings
from nvr.stream import RecordedStream
from nvr.wire import still_signed
from tests.uplink.boxes import Running, until
from tests.uplink.small_hub import SmallHub, served

SITE = """\
site: a
box: a-1
time_zone: UTC
storage: {{path: data, reserve_gb: 0}}
hub: {{url: "{url}", code: 7F3K-QM2P-XW9D, fingerprint: "{fingerprint}", still_s: 2}}
cameras:
  gate:
    main: {{source: replay, file: "{film}", loop: true}}
    ring_gb: 0.064
    masks: {{window: [[0, 0], [0.5, 0], [0.5, 0.5], [0, 0.5]]}}
"""


@dataclass
class Live:
    hub: SmallHub
    running: Running
    recorder: RunningRecorder


class _Box:
    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir


@pytest.fixture(scope="module")
def live(tmp_path_factory) -> Iterator[Live]:
    pytest.importorskip("av", reason="PyAV makes the film, and the stills")
    folder = tmp_path_factory.mktemp("live")
    clip = film(folder / "film.mp4", 150)
    source = {"kind": "replay", "file": str(clip), "loop": True, "speed": 1.0}
    settings = Settings(str(folder / "data"), 5.0, (RecordedStream("gate/main", source, 64_000_000),))
    recorder = RunningRecorder(settings, folder / "record.log")
    try:
        with served(folder) as listening:
            listening.hub.welcome["still_s"] = 2
            (folder / "site.yaml").write_text(
                SITE.format(url=listening.url, fingerprint=listening.fingerprint, film=clip)
            )
            with Running(_Box(folder / "data"), folder / "site.yaml") as running:  # type: ignore[arg-type]
                until(lambda: running.uplink.control.is_connected, "it is connected")
                until(lambda: running.uplink.heard.keyframes, "the recorder announces")
                yield Live(listening.hub, running, recorder)
    finally:
        recorder.kill()


def pictures_of(data: bytes) -> int:
    import av

    with av.open(io.BytesIO(data)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_live_comes_only_while_it_is_asked_for_and_each_fragment_decodes(live):
    hub = live.hub
    assert not hub.live
    id = hub.ask("live_on", stream="gate/main", watch_s=60)
    until(lambda: len(hub.live) >= 4, "four fragments")
    assert hub.reply_to(id)["ok"]
    first, second = hub.live[0], hub.live[1]
    assert first.body["init_bytes"] > 0 and second.body["init_bytes"] == 0 and first.body["is_keyframe"]
    init = first.payload[: first.body["init_bytes"]]
    assert pictures_of(first.payload) > 0 and pictures_of(init + second.payload) > 0
    assert (
        second.body["mono_ms"] > 0
        and 0 <= second.body["age_ms"] < 60_000
        and second.body["captured_ms"] > 1_700_000_000_000
    )
    off = hub.ask("live_off", stream="gate/main")
    until(lambda: hub.reply_to(off), "it is off")
    time.sleep(0.5)
    number = len(hub.live)
    time.sleep(2.5)
    assert len(hub.live) == number
    again = hub.ask("live_on", stream="gate/main", watch_s=60)
    until(lambda: len(hub.live) > number, "it is on again")
    assert hub.live[number].body["init_bytes"] > 0, "whoever comes now has no init segment yet"
    assert hub.reply_to(again)["ok"]
    hub.ask("live_off", stream="gate/main")


@pytest.mark.parametrize("stream", ["attic/main", "gate/small"])
def test_a_stream_that_is_not_there_is_refused_by_name(live, stream):
    id = live.hub.ask("live_on", stream=stream, watch_s=60)
    until(lambda: live.hub.reply_to(id), "the answer")
    assert not live.hub.reply_to(id)["ok"] and stream in live.hub.reply_to(id)["detail"]


def test_stills_are_signed_small_and_black_where_the_mask_is(live):
    import av

    until(lambda: len(live.hub.stills) >= 2, "two stills")
    one, two = live.hub.stills[0], live.hub.stills[-1]
    digest = hashlib.sha256(two.payload).hexdigest()
    body = two.body
    assert body["sha256"] == digest and body["captured_ms"] > one.body["captured_ms"] - 1
    key = live.running.uplink.identity.public_bytes
    assert is_signed_by(key, still_signed("gate", body["captured_ms"], digest), bytes.fromhex(body["signature"]))
    assert abs(body["captured_ms"] - time.time() * 1000) < 60_000
    with av.open(io.BytesIO(two.payload)) as picture:
        pixels = next(picture.decode(video=0)).to_ndarray(format="rgb24")
    height, width = pixels.shape[:2]
    assert width <= 480 and len(two.payload) < 20_000
    assert pixels[: height // 2 - 8, : width // 2 - 8].max() < 16, "the mask"
    assert pixels[height // 2 + 8 :].max() > 60, "and the rest is a picture"


def test_a_still_that_somebody_asks_for_comes_at_once(live):
    number = len(live.hub.stills)
    id = live.hub.ask("still", camera="gate")
    until(lambda: live.hub.reply_to(id) and len(live.hub.stills) > number, "a still")
    assert live.hub.reply_to(id)["ok"]


def test_a_heartbeat_says_what_the_recorder_says(live):
    until(lambda: live.hub.heartbeats and live.hub.heartbeats[-1][1]["cameras"]["gate"]["recording"], "it records")
    said = live.hub.heartbeats[-1][1]
    assert "states" not in said, "nobody looks at this camera, so nothing is taken back"
    assert said["outbox"]["depth"] == 0 and said["shed"] == [] and said["troubles"] == []


def test_a_heartbeat_says_what_is_wrong_with_the_box_itself(live):
    run_dir = live.running.uplink.data_dir / "run"
    troubles.write(run_dir, [troubles.Trouble(troubles.SITE, "line 7: torn", 5)])
    try:
        wanted = [{"kind": "site file", "detail": "line 7: torn", "since_ms": 5}]
        until(lambda: live.hub.heartbeats and live.hub.heartbeats[-1][1]["troubles"] == wanted, "it is told")
    finally:
        troubles.write(run_dir, [])
