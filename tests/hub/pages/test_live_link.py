"""Live over a link that narrows, end to end: a whole box, a real hub, the page in a browser, and packets that go through a shaped link.

What is measured is printed, and stands in docs/hub.md; what is asserted holds on a loaded machine, too.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from nvr.hub.pages import serve
from tests.uplink.boxes import until
from tests.uplink.real_hub import RealHub
from tests.web.browser import CHROMIUM, Browser
from tools.bench.shaped_link import HUB, Shape, ShapedLink
from tools.bench.uplink import process_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.root,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: chromium)"),
    pytest.mark.skipif(not serve.files(serve.BUILT_PATH), reason="the hub's pages are not built: make pages"),
    pytest.mark.skipif(not Path("/dev/net/tun").exists(), reason="needs TUN"),
]

PORT = 8443
MAIN_BIT_S, SMALL_BIT_S = 1_000_000, 100_000
WIDE_KBIT_S, NARROW_KBIT_S, THREAD_KBIT_S = 2000.0, 350.0, 60.0
LOADED_S = 10.0  # what a machine that also records, draws, serves and browses for us may add
SITE = """\
site: waihaong
box: waihaong-1
time_zone: Asia/Jayapura
web: {{listen: 127.0.0.1, port: 8080}}
storage: {{reserve_gb: 0}}
hub: {{url: "https://{hub}:{port}", code: {code}, fingerprint: "{fingerprint}", still_s: 2}}
cameras:
  gate:
    place: simpang-mardika
    main: {{source: replay, file: "{main}", loop: true}}
    small: {{source: replay, file: "{small}", loop: true}}
    ring_gb: 0.064
    small_ring_gb: 0.02
"""


def film(path: Path, width: int, height: int, bit_s: int) -> Path:
    """20 s of noise, which takes exactly the bits that it may, with a keyframe each second."""
    av, np = pytest.importorskip("av"), pytest.importorskip("numpy")
    noise = np.random.default_rng(1)
    with av.open(str(path), "w") as container:
        limits = {"preset": "ultrafast", "bf": "0", "g": "25", "maxrate": str(bit_s), "bufsize": str(bit_s // 2)}
        stream = container.add_stream("libx264", rate=25, options=limits)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = width, height, "yuv420p", bit_s
        for _ in range(500):
            pixels = noise.integers(0, 255, (height // 8, width // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode())
    return path


@contextlib.contextmanager
def within(namespace: str) -> Iterator[None]:
    """This thread, and what it starts, are in that network namespace."""
    libc, clone_newnet = ctypes.CDLL(None, use_errno=True), 0x40000000
    with open("/proc/thread-self/ns/net") as before, open(f"/run/netns/{namespace}") as other:
        if libc.setns(other.fileno(), clone_newnet):
            raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
        try:
            yield
        finally:
            libc.setns(before.fileno(), clone_newnet)


class Page:
    def __init__(self, browser: Browser, link: ShapedLink) -> None:
        self.browser, self.link = browser, link

    def narrow(self, kbit_s: float) -> None:
        for shape in self.link.shapes.values():
            shape.kbit_s = kbit_s

    def shows(self, stream: str, what: str, bound_s: float) -> float:
        began_s = time.monotonic()
        is_so = f"document.querySelector('.viewer[data-live=playing]')?.dataset.stream === '{stream}'"
        self.browser.wait(is_so, what, bound_s)
        took_s = time.monotonic() - began_s
        print(f"{what}: {took_s:.1f} s")
        return took_s

    def ages_s(self, seconds: float) -> list[float]:
        found = []
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            words = self.browser.run("document.querySelector('.viewer .tag.live')?.innerText ?? ''")
            if match := re.search(r"(\d+(?:,\d+)?) dtk", words):
                found.append(float(match[1].replace(",", ".")))
            time.sleep(0.5)
        return found


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    main = film(tmp_path / "main.mp4", 640, 360, MAIN_BIT_S)
    small = film(tmp_path / "small.mp4", 160, 96, SMALL_BIT_S)
    shape = Shape(kbit_s=WIDE_KBIT_S, delay_s=0.02, loss=0.0, queue_bytes=64_000)
    with contextlib.ExitStack() as stack:
        link = stack.enter_context(ShapedLink(f"v{os.getpid() % 10000}", shape))
        stack.enter_context(within(link.namespace("hub")))
        hub = RealHub(tmp_path / "hub", listen=f"{HUB}:{PORT}")
        told = hub._command("user", "wati", "--role", "administrator")
        code = re.search(r"#(\S+)", told)
        assert code is not None, told
        stack.enter_context(hub)
        password = "empat kata yang acak"
        answer = httpx.post(
            f"{hub.url}/api/v1/session/link", json={"code": code[1], "password": password}, verify=False, timeout=60
        )
        assert answer.status_code == 200, answer.text
        site_path = tmp_path / "site.yaml"
        site_path.write_text(
            SITE.format(hub=HUB, port=PORT, code=hub.code, fingerprint=hub.fingerprint, main=main, small=small)
        )
        program = (sys.executable, "-m", "nvr", "run", "--site", str(site_path), "--data", str(tmp_path / "data"))
        stack.enter_context(process_of(tmp_path / "box.log", *link.command("box", *program)))
        until(lambda: hub.rows("SELECT * FROM box WHERE heartbeat IS NOT NULL"), "the hub hears the box", 90)
        until(lambda: hub.rows("SELECT * FROM still"), "and has a still", 90)
        browser = stack.enter_context(
            Browser(width=1280, height=900, language="id", options=("--ignore-certificate-errors",))
        )
        browser.open(f"{hub.url}/cameras/{hub.rows('SELECT id FROM camera')[0]['id']}")
        browser.wait("!!document.querySelector('input[name=username]')", "the form to log in")
        for name, value in (("username", "wati"), ("password", password)):
            browser.run(f"document.querySelector('input[name={name}]').focus()")
            browser.type(value)
        browser.press("Enter")
        browser.wait("!!document.querySelector('.viewer button.main')", "the camera's page", 60)
        yield Page(browser, link)


def test_live_falls_with_its_link_and_comes_back_up(page):
    browser = page.browser
    browser.wait("!!document.querySelector('[data-counted=yes]')", "the box counts the day to the second", 30)
    assert "Sampai ke detik" in browser.run("document.querySelector('[data-counted]').innerText")
    browser.run("document.querySelector('.viewer button.main').click()")
    page.shows("gate/main", "live opens on 2 Mbit/s", 2.0 + LOADED_S)
    ages_s = page.ages_s(10)
    print(f"age on 2 Mbit/s: {min(ages_s):.1f} to {max(ages_s):.1f} s")
    assert sorted(ages_s)[len(ages_s) // 2] <= 3.0 + LOADED_S / 2

    page.narrow(NARROW_KBIT_S)  # of 1 Mbit/s it carries a third, of the small stream all
    page.shows("gate/small", "350 kbit/s: the small stream", 12 + LOADED_S)
    assert "Gambar kecil" in browser.run("document.querySelector('.viewer').innerText")
    ages_s = page.ages_s(8)
    print(f"age on 350 kbit/s: {min(ages_s):.1f} to {max(ages_s):.1f} s")

    page.narrow(THREAD_KBIT_S)  # and of the small one a half: whole seconds are left out, and it says so
    browser.wait("document.querySelector('.viewer').innerText.includes('dilewati')", "what is left out is said", 90)
    assert browser.run("document.querySelector('.viewer').dataset.stream") == "gate/small"

    page.link.down(True)
    browser.wait(
        "document.querySelector('.viewer.old') && document.querySelector('.viewer').dataset.live !== 'playing'"
        " && document.querySelector('.viewer img')?.naturalWidth > 0",
        "without a link: the last still, and never as if it were live", 60,
    )  # fmt: skip

    page.link.down(False)
    page.narrow(WIDE_KBIT_S)
    page.shows("gate/small", "the link is back: the small stream", 90)
    page.shows("gate/main", "and the large one", 150)
