"""A bundle for the updater: fetched over a link that breaks, checked, handed over once; and everything that is wrong with one."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

import pytest

from nvr import installed
from nvr.uplink import bundles
from tests.uplink.boxes import EventfulBox, Running, until
from tests.uplink.small_hub import SmallHub, served

BUNDLE = random.Random(7).randbytes(300_000)
SHA256 = hashlib.sha256(BUNDLE).hexdigest()


@pytest.fixture
def box(tmp_path: Path) -> EventfulBox:
    return EventfulBox(tmp_path)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr("nvr.uplink.upload.BACK_OFF_S", (0.02,))
    monkeypatch.setattr("nvr.uplink.process.REFUSED_S", 0.3)
    monkeypatch.setattr("nvr.uplink.neighbours.pages", list)  # tests/uplink/test_sharing.py has some


@pytest.fixture
def hub() -> SmallHub:
    hub = SmallHub()
    hub.bundles[SHA256] = BUNDLE
    return hub


def order(hub: SmallHub, url: str, sha256: str = SHA256) -> str:
    """`url` is "" for a path of the hub itself: a hub need not know by which name boxes call it."""
    return hub.ask("update", url=f"{url}/box/v1/bundles/{sha256}", sha256=sha256, version="1.2")


def ready(box: EventfulBox) -> dict | None:
    try:
        return json.loads((box.data_dir / "updates" / bundles.READY).read_bytes())
    except OSError:
        return None


def told(box: EventfulBox) -> dict:
    return installed.last_update(box.data_dir / "run", Path("/nonexistent"))


def connected(hub: SmallHub) -> bool:
    return bool(hub.hellos)


def test_it_arrives_over_a_link_that_breaks_and_no_byte_comes_twice(box, hub, tmp_path):
    hub.bundle_breaks = [70_000, 100_000, 5_000]
    with served(tmp_path, hub) as listening, Running(box, box.site_file(listening.url, listening.fingerprint)):
        until(lambda: connected(hub), "connected")
        id = order(hub, "")
        until(lambda: ready(box), "the bundle is here")
        until(lambda: hub.heartbeats, "a heartbeat")
        reply = hub.reply_to(id)
    assert reply is not None
    assert reply["ok"]
    assert ready(box) == {"file": f"{SHA256}.raucb", "version": "1.2", "id": id}
    assert (box.data_dir / "updates" / f"{SHA256}.raucb").read_bytes() == BUNDLE
    assert len(hub.bundle_asked) == 4
    assert hub.bundle_asked == sorted(hub.bundle_asked)  # each goes on where the one before had come to
    assert hub.bundle_asked[1] > 0
    assert told(box) == {"state": "fetched", "version": "1.2", "reason": "waits for the updater"}


def test_a_box_that_starts_anew_goes_on_where_it_was(box, hub, tmp_path):
    hub.bundle_breaks = [120_000] + [0] * 1000
    with served(tmp_path, hub) as listening:
        site_path = box.site_file(listening.url, listening.fingerprint)
        with Running(box, site_path):
            until(lambda: connected(hub), "connected")
            order(hub, listening.url)
            until(lambda: len(hub.bundle_asked) > 1, "it broke")
        assert told(box)["state"] == "fetching"
        hub.bundle_breaks, hub.bundle_asked = [], []
        with Running(box, site_path):
            until(lambda: ready(box), "the bundle is here")
        assert hub.bundle_asked[0] > 0
    assert (box.data_dir / "updates" / f"{SHA256}.raucb").read_bytes() == BUNDLE


def test_a_server_without_ranges_is_read_from_the_beginning(box, hub, tmp_path):
    hub.ignores_ranges = True
    hub.bundle_breaks = [70_000]
    with served(tmp_path, hub) as listening, Running(box, box.site_file(listening.url, listening.fingerprint)):
        until(lambda: connected(hub), "connected")
        order(hub, listening.url)
        until(lambda: ready(box), "the bundle is here")
    assert (box.data_dir / "updates" / f"{SHA256}.raucb").read_bytes() == BUNDLE


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda hub, monkeypatch: hub.bundles.update({SHA256: BUNDLE[:-1] + b"?"}), "SHA-256"),
        (lambda hub, monkeypatch: hub.bundles.clear(), "404"),
        (lambda hub, monkeypatch: monkeypatch.setattr(bundles, "BUNDLE_BYTES_MOST", 1000), "no bundle"),
        (lambda hub, monkeypatch: monkeypatch.setattr(bundles, "SPARE_BYTES", 1 << 60), "free"),
    ],
    ids=["another one", "not there", "too large", "no room"],
)
def test_what_cannot_be_is_given_up_with_the_reason_and_leaves_nothing(box, hub, tmp_path, monkeypatch, change, reason):
    change(hub, monkeypatch)
    with served(tmp_path, hub) as listening, Running(box, box.site_file(listening.url, listening.fingerprint)):
        until(lambda: connected(hub), "connected")
        order(hub, listening.url)
        until(lambda: told(box).get("state") == "refused", "it is given up")
    assert reason in told(box)["reason"]
    assert ready(box) is None
    assert not (box.data_dir / "updates" / bundles.WANTED).exists()


def test_the_boxs_token_goes_to_its_hub_only(box, hub, tmp_path):
    """Another address gets a plain request; here its certificate is not believed, so it gets nothing at all."""
    other = SmallHub()
    other.bundles[SHA256] = BUNDLE
    with (
        served(tmp_path / "hub", hub) as listening,
        served(tmp_path / "other", other) as elsewhere,
        Running(box, box.site_file(listening.url, listening.fingerprint)),
    ):
        until(lambda: connected(hub), "connected")
        order(hub, elsewhere.url)
        until(lambda: "CERTIFICATE" in told(box).get("reason", "").upper(), "it is not believed")
    assert other.bundle_asked == []
