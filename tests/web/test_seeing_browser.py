"""What is seen and the editor of zones, in a real Chromium over a real recorder and the real detect process."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from clocks import zone_of_noon

from nvr import site
from nvr.web.access import create_one_time_link

from .browser import CHROMIUM, Browser

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: chromium)"),
]
pytest.importorskip("av", reason="PyAV encodes the pictures and looks at them (extra `codecs`)")

ROOT = Path(__file__).parents[2]
PASSWORD = "only for this test"
PHONE = (390, 844)
ZONES = """\
    zones:
      # what the guard watches
      yard: [[0.05, 0.45], [0.6, 0.45], [0.6, 0.95], [0.05, 0.95]]
    lines:
      doorway: {from: [0.62, 0.98], to: [0.62, 0.4]}
    masks: {window: [[0.0, 0.0], [0.2, 0.0], [0.2, 0.2], [0.0, 0.2]]}
    rules: {line_crossing: {line: doorway}, crowd: {zone: yard, alert_above: 1, for_s: 2}}
"""
STREET = """\
    zones: {lanes: [[0.0, 0.5], [1.0, 0.5], [1.0, 0.95], [0.0, 0.95]]}
    lines: {stop: {from: [0.5, 0.4], to: [0.5, 1.0]}}
    rules: {line_crossing: {line: stop}, congestion: {zone: lanes}}
"""


class SeeingBox:
    """Two drawn cameras, the recorder, detection and the page as processes of their own."""

    def __init__(self, folder: Path) -> None:
        from tools.bench.live_camera import site_text

        self.data_dir = folder / "data"
        self.data_dir.mkdir()
        self.site_path = folder / "site.yaml"
        lines = site_text(2, time_zone=zone_of_noon()).replace("  street:\n", ZONES + "  street:\n") + STREET
        self.site_path.write_text(lines)
        assert site.check(self.site_path).faults == ()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.log_path = folder / "log"
        self.processes = [
            self._start("tools.bench.live_camera", "--data", self.data_dir, "--cameras", "2", "--plain"),
            self._start(
                "nvr.web", "--data", self.data_dir, "--listen", f"127.0.0.1:{self.port}", "--site", self.site_path
            ),
        ]
        self.detect = self.start_detect()

    def _start(self, module: str, *arguments: object) -> subprocess.Popen[bytes]:
        with open(self.log_path, "ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", module, *map(str, arguments)], cwd=ROOT, stdout=log, stderr=log,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )  # fmt: skip

    def start_detect(self) -> subprocess.Popen[bytes]:
        return self._start("nvr.detect", "--data", self.data_dir, "--site", self.site_path)

    def wait(self) -> None:
        deadline_s = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            assert time.monotonic() < deadline_s, self.log_path.read_text()
            time.sleep(0.1)

    def stop(self) -> None:
        for process in (self.detect, *reversed(self.processes)):
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="module")
def box(tmp_path_factory) -> Iterator[SeeingBox]:
    box = SeeingBox(tmp_path_factory.mktemp("seeing"))
    try:
        box.wait()
        yield box
    finally:
        box.stop()


def enter(browser: Browser, box: SeeingBox) -> None:
    browser.open(create_one_time_link(box.data_dir, box.address))
    browser.wait("!!document.querySelector('form')", "the log-in page comes")
    browser.run(
        f"for (const input of document.querySelectorAll('input[type=password]')) input.value = '{PASSWORD}';"
        "document.querySelector('form').requestSubmit()"
    )
    browser.wait("location.pathname === '/' && document.querySelectorAll('.tile').length === 2", "the wall comes", 60)


@pytest.fixture(scope="module")
def browser(box) -> Iterator[Browser]:
    with Browser() as browser:
        enter(browser, box)
        yield browser


def shot(browser: Browser, name: str) -> None:
    """Pictures for a person, where somebody asked for them."""
    if folder := os.environ.get("NVR_SCREENSHOTS"):
        browser.screenshot(Path(folder) / f"{name}.png", whole=True)


def on_camera(browser: Browser, name: str) -> None:
    browser.run("location.hash = '#/'")
    browser.wait("!!document.querySelector('.wall')", "the wall comes")
    browser.run(f"location.hash = '#/camera/{name}'")
    browser.wait("document.querySelector('.tile.big')?.dataset.picture === 'live'", "the camera is live", 60)


def on_editor(browser: Browser, name: str) -> None:
    browser.run("location.hash = '#/'")
    browser.wait("!!document.querySelector('.wall')", "the wall comes")
    browser.run(f"location.hash = '#/zones/{name}'")
    browser.wait(
        "document.querySelectorAll('.editor .place').length > 0 && document.querySelector('.editor video').videoWidth > 0",
        "the editor is there",
        60,
    )


# Of the canvas over the picture: how many of its points are of about this colour.
COLOURED = """(([r, g, b], selector) => {{
  const canvas = document.querySelector(selector);
  const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  let found = 0;
  for (let i = 0; i < data.length; i += 4)
    if (data[i + 3] > 120 && Math.abs(data[i] - r) + Math.abs(data[i + 1] - g) + Math.abs(data[i + 2] - b) < 30) found++;
  return found;
}})({colour}, '{selector}')"""


def coloured(browser: Browser, colour: tuple[int, int, int], selector: str) -> int:
    return int(browser.run(COLOURED.format(colour=list(colour), selector=selector)))


def test_zones_and_what_moves_are_drawn_over_the_live_picture(box, browser):
    on_camera(browser, "street")
    browser.until(lambda: coloured(browser, (255, 255, 255), ".overlay") > 150, "things that move are framed", 60)
    browser.until(lambda: coloured(browser, (64, 200, 235), ".overlay") > 300, "the line is drawn", 30)
    shot(browser, "camera-desktop-en")
    browser.run("document.querySelector('.seeing button[aria-pressed]').click()")
    browser.until(lambda: coloured(browser, (64, 200, 235), ".overlay") == 0, "it can be taken away")
    browser.run("document.querySelector('.seeing button[aria-pressed]').click()")
    assert browser.faults == []


def test_events_come_with_stills_and_lead_into_the_timeline(box, browser):
    on_camera(browser, "street")
    browser.run("document.querySelector('.check input').click()")
    browser.wait(
        "[...document.querySelectorAll('.events img')].some(still => still.complete && still.naturalWidth > 100)",
        "a still comes",
        90,
    )
    browser.wait("document.querySelector('.states li strong')?.textContent.length > 2", "a state is told", 30)
    shot(browser, "events-desktop-en")
    # The oldest one, and the newest one: also what happened a second ago is shown from its beginning, not what comes after it.
    for which in (-1, 0):
        browser.run(f"[...document.querySelectorAll('.events .still')].at({which}).click()")
        browser.wait(
            "[...document.querySelectorAll('.replays video')].some(video => !video.hidden && video.readyState >= 2)",
            "that moment plays",
            30,
        )
        browser.run(
            "[...document.querySelectorAll('.camera .bar button.main')].find(each => !each.closest('form')).click()"
        )
        browser.wait("!document.querySelector('.replays')", "and live is a click away")
    assert browser.faults == []


def test_states_are_marked_as_old_when_detection_is_gone(box, browser):
    on_camera(browser, "street")
    browser.wait("!!document.querySelector('.states li:not([data-mood=old])')", "a state of now", 60)
    box.detect.kill()
    box.detect.wait()
    browser.wait("document.querySelectorAll('.states li:not([data-mood=old])').length === 0", "it is old", 30)
    browser.wait("document.querySelector('.seeing .hint').textContent.includes('not running')", "and the page says so")
    assert browser.run("document.querySelector('.tile.big').dataset.picture") == "live"
    box.detect = box.start_detect()
    browser.wait("!!document.querySelector('.states li:not([data-mood=old])')", "it is back", 60)


def at(browser: Browser, x: float, y: float) -> tuple[float, float]:
    """Where a place of the picture is on the screen."""
    rect = browser.run(
        "(r => [r.left, r.top, r.width, r.height])(document.querySelector('.editor canvas').getBoundingClientRect())"
    )
    left, top, width, height = rect
    picture = min(width / 16, height / 9)
    return left + (width - picture * 16) / 2 + x * picture * 16, top + (height - picture * 9) / 2 + y * picture * 9


def drag(browser: Browser, start: tuple[float, float], end: tuple[float, float]) -> None:
    (x0, y0), (x1, y1) = at(browser, *start), at(browser, *end)
    browser.call("Input.dispatchMouseEvent", type="mousePressed", x=x0, y=y0, button="left", clickCount=1)
    for part in (0.5, 1.0):
        browser.call(
            "Input.dispatchMouseEvent",
            type="mouseMoved",
            x=x0 + part * (x1 - x0),
            y=y0 + part * (y1 - y0),
            button="left",
            buttons=1,
        )
    browser.call("Input.dispatchMouseEvent", type="mouseReleased", x=x1, y=y1, button="left", clickCount=1)


def button(browser: Browser, words: str) -> None:
    browser.run(
        f"[...document.querySelectorAll('.editor button')].find(each => each.textContent === '{words}').click()"
    )


def save(browser: Browser) -> None:
    button(browser, "Save into the site file")
    browser.wait("document.querySelector('.editor .state').textContent.startsWith('Saved')", "it is saved")


def test_a_zone_is_drawn_with_the_mouse_and_saved_with_all_comments(box, browser):
    on_editor(browser, "gate")
    before = box.site_path.read_text()
    drag(browser, (0.05, 0.45), (0.15, 0.55))
    button(browser, "New zone")
    for point in ((0.7, 0.3), (0.9, 0.3), (0.9, 0.6), (0.7, 0.3)):
        browser.click(*at(browser, *point))
    browser.wait(
        "[...document.querySelectorAll('.place input')].some(input => input.value === 'zone-1')", "the zone is there"
    )
    browser.run(
        "(input => { input.value = 'bench'; input.dispatchEvent(new Event('input')); })([...document.querySelectorAll('.place input')].find(each => each.value === 'zone-1'))"
    )
    shot(browser, "editor-desktop-en")
    save(browser)
    after = box.site_path.read_text()
    assert "# what the guard watches" in after
    [gate] = [camera for camera in site.load(box.site_path).cameras if camera.name == "gate"]
    zones = {zone.name: zone.corners for zone in gate.zones}
    assert zones["yard"][0] == pytest.approx((0.15, 0.55), abs=0.01)
    assert zones["yard"][1:] == ((0.6, 0.45), (0.6, 0.95), (0.05, 0.95))
    assert zones["bench"] == pytest.approx(
        [pytest.approx(point, abs=0.01) for point in ((0.7, 0.3), (0.9, 0.3), (0.9, 0.6))]
    )
    # A person's file, but for one changed line and one new one.
    assert len(set(after.splitlines()) - set(before.splitlines())) == 2
    assert browser.faults == []


def test_the_editor_works_with_the_keyboard_alone(box, browser):
    on_editor(browser, "street")
    button(browser, "New line")
    button(browser, "Place it in the middle")
    browser.run("document.querySelector('.editor canvas').focus()")
    for key in ("ArrowLeft", "ArrowLeft", "]", "ArrowRight"):
        browser.press(key)
    save(browser)
    [street] = [camera for camera in site.load(box.site_path).cameras if camera.name == "street"]
    line = next(line for line in street.lines if line.name == "line-1")
    assert (line.start, line.end) == ((0.23, 0.5), (0.76, 0.5))


def test_what_cannot_be_is_refused_in_words_and_nothing_is_written(box, browser):
    on_editor(browser, "gate")
    before = box.site_path.read_bytes()
    button(browser, "New zone")
    for point in ((0.7, 0.7), (0.9, 0.9), (0.9, 0.7), (0.7, 0.9)):
        browser.click(*at(browser, *point))
    button(browser, "Finish")
    button(browser, "Save into the site file")
    browser.wait("document.querySelector('.editor .note').textContent.includes('crosses itself')", "the fault is told")
    box.site_path.write_bytes(before + b"# a person was here\n")
    button(browser, "Save into the site file")
    browser.wait(
        "document.querySelector('.editor .note').textContent.includes('changed by somebody else')",
        "the other's work is not lost",
    )
    shot(browser, "editor-fault-en")
    assert box.site_path.read_bytes() == before + b"# a person was here\n"
    box.site_path.write_bytes(before)
    browser.faults.clear()  # Chromium calls each refusal one


@pytest.mark.parametrize("language", ["id", "en"])
def test_it_fits_on_a_phone_and_is_drawn_by_touch(box, language):
    with Browser(width=PHONE[0], height=PHONE[1], language=language) as browser:
        browser.size(*PHONE, phone=True)
        browser.call("Emulation.setTouchEmulationEnabled", enabled=True)
        enter(browser, box)
        on_camera(browser, "street")
        browser.wait("document.querySelector('.states li strong')?.textContent.length > 2", "a state is told", 60)
        time.sleep(2)
        shot(browser, f"camera-phone-{language}")
        assert browser.run("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out"
        on_editor(browser, "gate")
        x, y = at(browser, 0.6, 0.95)
        x1, y1 = at(browser, 0.55, 0.8)
        for kind, points in (
            ("touchStart", [{"x": x + 6, "y": y + 4}]),
            ("touchMove", [{"x": x1, "y": y1}]),
            ("touchEnd", []),
        ):
            browser.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)
        browser.wait("!document.querySelector('.editor .save button').disabled", "the corner was moved")
        shot(browser, f"editor-phone-{language}")
        assert browser.run("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out"
        words = browser.run("document.body.innerText")
        assert ("Simpan" in words) == (language == "id")
        assert not re.search(r"\b(state|rule|kind|number|direction)\.\w", words), "a word has no translation"
        assert browser.faults == []
