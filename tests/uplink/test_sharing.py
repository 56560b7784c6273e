"""One download for each site: boxes on a LAN get an update from the one that has it. Their pages are real processes; how they find each other is test_neighbours.py."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from e2e.running import free_port

from nvr.uplink import bundles
from tests.uplink.boxes import EventfulBox, Running, until
from tests.uplink.small_hub import Served, SmallHub, served
from tests.uplink.test_bundles import ready, told

ROOT = Path(__file__).parents[2]
BUNDLE = random.Random(8).randbytes(400_000)
SHA256 = hashlib.sha256(BUNDLE).hexdigest()
PATH = f"/box/v1/bundles/{SHA256}"


@dataclass
class Site:
    """Boxes of one LAN, each with a hub of its own, so that what each one fetches can be told apart."""

    folder: Path
    pages: list[str]

    @contextlib.contextmanager
    def box(self, name: str, *, more: str = "") -> Iterator[Each]:
        folder = self.folder / name
        box, hub, port = EventfulBox(folder, seconds=3), SmallHub(), free_port()
        hub.bundles[SHA256] = BUNDLE
        with served(folder, hub) as listening:
            site_path = box.site_file(listening.url, listening.fingerprint, more)
            site_path.write_text(site_path.read_text().replace("waihaong-1", name))
            command = [
                sys.executable,
                "-m",
                "nvr.web",
                "--data",
                str(box.data_dir),
                "--listen",
                f"127.0.0.1:{port}",
                "--site",
                str(site_path),
            ]
            page = f"http://127.0.0.1:{port}"
            web = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)})
            try:
                until(lambda: _answers(page), "the page answers")
                self.pages.append(page)
                yield Each(box, hub, listening, site_path, page)
            finally:
                web.terminate()
                web.wait(20)


@dataclass
class Each:
    box: EventfulBox
    hub: SmallHub
    listening: Served
    site_path: Path
    page: str

    def running(self) -> Running:
        return Running(self.box, self.site_path)

    def order(self) -> None:
        until(lambda: self.hub.hellos, "connected")
        self.hub.ask("update", url=PATH, sha256=SHA256, version="1.2")

    def has_it(self) -> bool:
        path = self.box.data_dir / "updates" / f"{SHA256}.raucb"
        return ready(self.box) is not None and path.read_bytes() == BUNDLE

    def installed(self) -> None:
        """What firmware/update.py leaves: it takes the order and the bundle away."""
        for name in (bundles.READY, f"{SHA256}.raucb"):
            (self.box.data_dir / "updates" / name).unlink()


def _answers(page: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{page}/login", trust_env=False).status_code == 200
    return False


@pytest.fixture
def site(tmp_path, monkeypatch) -> Site:
    found = Site(tmp_path, [])
    monkeypatch.setattr("nvr.uplink.neighbours.pages", lambda: list(found.pages))
    monkeypatch.setattr(bundles, "ASK_NEIGHBOURS_S", 0.1)
    monkeypatch.setattr("nvr.uplink.upload.BACK_OFF_S", (0.02,))
    return found


def test_the_second_box_gets_it_from_the_first_also_after_that_one_installed_it(site):
    with site.box("waihaong-1") as one, site.box("waihaong-2") as two, one.running(), two.running():
        one.order()
        until(one.has_it, "the first box has it")
        one.installed()
        two.order()
        until(two.has_it, "the second box has it")
    assert one.hub.bundle_asked == [0]
    assert two.hub.bundle_asked == []


def test_boxes_that_are_asked_at_once_fetch_it_once(site):
    """At 1.6 Mbit/s it takes two seconds: the others wait, and say for whom."""
    cap = ", cap_kbit_s: 1600"
    with contextlib.ExitStack() as stack:
        boxes = [stack.enter_context(site.box(f"waihaong-{number}", more=cap)) for number in (1, 2, 3)]
        for each in boxes:
            stack.enter_context(each.running())
        for each in boxes:
            until(lambda each=each: each.hub.hellos, "connected")
        for each in reversed(boxes):
            each.order()
        reasons: set[str] = set()

        def all_have_it() -> bool:
            reasons.update(told(each.box).get("reason", "") for each in boxes)
            return all(each.has_it() for each in boxes)

        until(all_have_it, "all have it")
    # Whoever asked before another had its order began; the one with more of it went on to the end.
    complete = [each for each in boxes if each.hub.bundle_asked]
    assert len(complete) == 1, [each.hub.bundle_asked for each in boxes]
    assert any("fetches it" in reason for reason in reasons), reasons


def test_a_neighbour_that_dies_in_the_middle_is_not_waited_for_for_ever(site, monkeypatch):
    monkeypatch.setattr(bundles, "STALLED_S", 0.5)
    with site.box("waihaong-1") as one, site.box("waihaong-2") as two:
        folder = one.box.data_dir / "updates"
        folder.mkdir()
        (folder / bundles.WANTED).write_text(json.dumps({"sha256": SHA256}))
        (folder / f"{SHA256}.part").write_bytes(BUNDLE[:1000])  # its uplink does not run
        with two.running():
            two.order()
            until(two.has_it, "the second box has it")
    assert two.hub.bundle_asked == [0]


def test_a_neighbour_that_gives_something_else_costs_one_try_and_is_not_asked_again(site):
    with site.box("waihaong-1") as one, site.box("waihaong-2") as two:
        kept = one.box.data_dir / "updates" / bundles.KEPT / f"{SHA256}.raucb"
        kept.parent.mkdir(parents=True)
        kept.write_bytes(BUNDLE[:-1] + b"?")
        with two.running():
            two.order()
            until(two.has_it, "the second box has it")
    assert two.hub.bundle_asked == [0]


def test_a_bundle_that_is_ordered_again_is_not_fetched_again(site):
    with site.box("waihaong-1") as one, one.running():
        one.order()
        until(one.has_it, "it has it")
        one.installed()
        one.order()
        until(one.has_it, "it has it again")
    assert one.hub.bundle_asked == [0]


def test_what_is_kept_goes_with_the_next_order_with_time_and_before_the_disk_is_full(site, monkeypatch):
    monkeypatch.setattr(bundles, "TIDY_S", 0.05)
    other = "ab" * 32
    with site.box("waihaong-1") as one:
        folder = one.box.data_dir / "updates" / bundles.KEPT
        folder.mkdir(parents=True)

        def keep(sha256: str, age_s: float = 0.0) -> Path:
            path = folder / f"{sha256}.raucb"
            path.write_bytes(BUNDLE)
            os.utime(path, (time.time() - age_s,) * 2)
            return path

        old, recent = keep("cd" * 32, 8 * 86_400), keep(other)
        with one.running():
            until(lambda: not old.exists(), "the old one goes")
            assert recent.exists()
            one.order()
            until(one.has_it, "it has it")
            assert not recent.exists()
            assert (folder / f"{SHA256}.raucb").exists()
            monkeypatch.setattr(bundles, "SPARE_BYTES", 1 << 60)
            until(lambda: not list(folder.iterdir()), "nothing is kept on a full disk")


def test_only_who_knows_its_sha256_gets_it_and_only_a_few_at_once(site, monkeypatch):
    with site.box("waihaong-1") as one, httpx.Client(base_url=one.page, trust_env=False) as stranger:
        assert stranger.get(f"/bundles/{SHA256}").status_code == 404
        assert stranger.get("/bundles/..%2f..%2fidentity%2fkey").status_code == 404
        folder = one.box.data_dir / "updates"
        (folder / bundles.KEPT).mkdir(parents=True)
        (folder / bundles.KEPT / f"{SHA256}.raucb").write_bytes(BUNDLE * 100)
        (folder / bundles.WANTED).write_text(json.dumps({"sha256": "ef" * 32}))
        assert stranger.get(f"/bundles/{'ef' * 32}").json() == {"box": "waihaong-1", "bytes": -1}
        part = stranger.get(f"/bundles/{SHA256}", headers={"Range": "bytes=399999-"})
        assert (part.status_code, len(part.content)) == (206, len(BUNDLE) * 100 - 399_999)
        with contextlib.ExitStack() as stack:
            answers = [stack.enter_context(stranger.stream("GET", f"/bundles/{SHA256}")) for _ in range(4)]
            assert [each.status_code for each in answers] == [200, 200, 200, 503]
        until(
            lambda: stranger.get(f"/bundles/{SHA256}", headers={"Range": "bytes=0-0"}).status_code == 206,
            "room again",
        )
