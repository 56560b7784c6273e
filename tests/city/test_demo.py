"""`make demo`, whole: hub, real boxes with cameras, light ones; live, a fetched clip and its proof through the hub, in a browser."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from nvr.hub.pages import serve
from tests.web.browser import CHROMIUM, Browser
from tools.city import city as city_room
from tools.city import films

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: chromium)"),
    pytest.mark.skipif(not serve.files(serve.BUILT_PATH), reason="the hub's pages are not built: make pages"),
]

ROOT = Path(__file__).resolve().parents[2]
FILM_S = 20  # as long as this test looks; the box may call it a loop later
CAMERA = "jalan-pattimura-jalan"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str], subprocess.Popen[str]]]:
    folder = tmp_path_factory.mktemp("demo")
    places = {place.name: place for place in city_room.load().places}
    (folder / "city-films").mkdir()
    for name, place, camera in films.FILMS:
        films.draw(folder / "city-films" / f"{name}.mp4", places[place], camera, FILM_S)
    log_path = folder / "demo.log"
    with open(log_path, "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tools.demo", "--data", str(folder), "--port", "18080"],
            cwd=ROOT,
            stdout=log,
            stderr=log,
            text=True,
        )
    end_s = time.monotonic() + 240
    while (found := re.search(r"The city: (http://[\d.:]+)", log_path.read_text())) is None:
        assert process.poll() is None and time.monotonic() < end_s, log_path.read_text()[-3000:]
        time.sleep(0.5)
    try:
        yield found[1], json.loads((folder / "hub" / "demo-passwords.json").read_text()), process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(90)


def set_time(browser: Browser, field: str, at_ms: float) -> None:
    shown = datetime.fromtimestamp(at_ms / 1000, ZoneInfo("Asia/Jayapura")).strftime("%H:%M:%S")
    browser.run(
        f"(() => {{ const field = document.querySelector('input[name={field}]'); field.value = '{shown}'; field.dispatchEvent(new Event('change', {{ bubbles: true }})); }})()"
    )
    browser.wait(f"document.querySelector('input[name={field}]').value === '{shown}'", f"{field} is {shown}")


def test_live_footage_and_its_proof_come_from_a_real_box_through_the_hub(demo):
    address, passwords, _ = demo
    with Browser(width=1366, height=900, language="id") as browser:
        browser.open(address + "/login")
        browser.wait("!!document.querySelector('input[name=username]')", "the form")
        for field, text in (("username", "operator"), ("password", passwords["operator"])):
            browser.run(f"document.querySelector('input[name={field}]').focus()")
            browser.type(text)
        browser.press("Enter")
        browser.wait("document.querySelectorAll('.tile').length === 37", "37 tiles", 60)
        tile = f"document.querySelector('.tile[data-camera={CAMERA}]')"
        browser.wait(f"{tile}?.dataset.state === 'live'", "a camera of a real box is live", 120)
        browser.open(address + browser.run(f"{tile}.getAttribute('href')"))
        browser.wait("!!document.querySelector('.viewer .controls button.main')", "the camera's page", 60)
        began_s = time.monotonic()
        browser.run("document.querySelector('.viewer .controls button.main').click()")
        browser.wait(
            "document.querySelector('.viewer').dataset.live === 'playing' && document.querySelector('.viewer video').currentTime > 0.2",
            "live plays",
            60,
        )
        print(
            f"live after {time.monotonic() - began_s:.1f} s, {browser.run('document.querySelector(`.viewer .tag`).innerText')}"
        )
        now_ms = time.time() * 1000
        browser.run("document.querySelector('.viewer .controls button').click()")
        time.sleep(3)  # what is asked for must be over, and in the ring
        set_time(browser, "from", now_ms - 8_000)
        set_time(browser, "to", now_ms - 3_000)
        browser.run("document.querySelector('input[name=reason]').focus()")
        browser.type("laporan polisi")
        before = browser.run("document.querySelectorAll('[data-clip]').length")
        browser.run("document.querySelector('form.card button.main').click()")
        browser.wait("!!document.querySelector('form .note')", "it is asked for")
        browser.wait(f"document.querySelectorAll('[data-clip]').length > {before}", "the clip arrives", 120)
        browser.run("document.querySelector('[data-clip] button[title=\"Bukti keaslian\"]').click()")
        browser.wait(
            "document.querySelector('dialog')?.innerText.includes('Asli: tanda tangan kotak cocok')",
            "it is genuine",
            60,
        )
        browser.press("Escape")
        browser.run("document.querySelector('[data-clip] button').click()")
        browser.wait("document.querySelector('.viewer video')?.currentTime > 0.3", "the clip plays", 60)
        assert "bukan siaran langsung" in browser.run("document.querySelector('.viewer .tag').innerText")


def test_the_demo_ends_when_it_is_asked_to_and_leaves_nothing_running(demo):
    _, _, process = demo
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) >= 6  # cameras, hub, TLS, two boxes, light boxes
    process.send_signal(signal.SIGINT)
    assert process.wait(90) == 0
    for child in children:
        with pytest.raises(ProcessLookupError):
            os.kill(int(child), 0)
