"""How old is the picture on the screen? Measured where it is seen: in a browser, from the picture itself.

`python -m tools.bench.live_latency` starts cameras whose pictures carry the time they were taken (live_camera.py),
the recorder, the page and a headless Chromium on this machine; a script in the page reads the bar code of every
picture that is shown from a canvas and compares it with the clock. Prints one line of JSON: milliseconds from
"taken" to "on screen". The camera here delivers without delay: a real one adds its own (80 to 300 ms).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from nvr.web.access import create_one_time_link
from tests.web.browser import Browser
from tools.bench.live_camera import BITS, CELLS, CHECK_BITS, site_text

ROOT = Path(__file__).parents[2]
PORT = 8197
SETTLE_S = 12.0  # the player finds its distance to now within this

# Reads the bar code of each picture as it is presented; its age is the browser's clock minus the number in the picture.
SCRIPT = """
(() => {
  const video = document.querySelector("[data-stream='%(stream)s'] video");
  const canvas = document.createElement("canvas");
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  window.ages = [];
  window.unread = 0;
  const look = (_, metadata) => {
    const width = video.videoWidth, height = video.videoHeight;
    canvas.width = width; canvas.height = 4;
    pen.drawImage(video, 0, height - 10, width, 4, 0, 0, width, 4);
    const pixels = pen.getImageData(0, 1, width, 1).data;
    let code = 0n;
    for (let cell = 0; cell < %(cells)d; cell++) {
      const x = Math.floor((cell + 0.5) * width / %(cells)d);
      code = code << 1n | (pixels[4 * x] > 128 ? 1n : 0n);
    }
    const value = Number(code >> %(check)dn), check = Number(code & 0xffn);
    if (((value ^ (value >> 8) ^ (value >> 16) ^ 0xa5) & 0xff) !== check) window.unread++;
    else {
      const shown = performance.timeOrigin + metadata.expectedDisplayTime;
      window.ages.push(((Math.round(shown) %% 2 ** %(bits)d) - value + 2 ** %(bits)d) %% 2 ** %(bits)d);
    }
    video.requestVideoFrameCallback(look);
  };
  video.requestVideoFrameCallback(look);
})()
"""


def measure(seconds: float, cameras: int, gop: int, size: str) -> dict[str, Any]:
    """Run everything for `seconds`; the ages of all pictures shown meanwhile, as figures."""
    with tempfile.TemporaryDirectory(prefix="latency-") as folder:
        data_dir, site_path = Path(folder) / "data", Path(folder) / "site.yaml"
        data_dir.mkdir()
        site_path.write_text(site_text(cameras))
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        commands = [
            [
                "tools.bench.live_camera",
                "--data",
                str(data_dir),
                "--cameras",
                str(cameras),
                "--gop",
                str(gop),
                "--size",
                size,
            ],
            ["nvr.web", "--data", str(data_dir), "--listen", f"127.0.0.1:{PORT}", "--site", str(site_path)],
        ]
        running = [
            subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for command in commands
        ]
        try:
            return _watch(data_dir, seconds)
        finally:
            for process in running:
                process.send_signal(signal.SIGTERM)
            for process in running:
                process.wait(20)


def _watch(data_dir: Path, seconds: float) -> dict[str, Any]:
    time.sleep(3)
    link = create_one_time_link(data_dir, f"http://127.0.0.1:{PORT}")
    with Browser() as browser:
        browser.open(link)
        browser.wait("!!document.querySelector('form')", "the log-in page comes")
        browser.run(
            "for (const input of document.querySelectorAll('input[type=password]')) input.value = 'only for this bench';"
            "document.querySelector('form').requestSubmit()"
        )
        browser.wait("[...document.querySelectorAll('video')].some(video => video.currentTime > 0)", "pictures move")
        time.sleep(SETTLE_S)
        stream = browser.run("document.querySelector('.tile').dataset.stream")
        browser.run(SCRIPT % {"stream": stream, "cells": CELLS, "check": CHECK_BITS, "bits": BITS})
        time.sleep(seconds)
        ages = sorted(browser.run("window.ages"))
        if not ages:
            raise SystemExit("no picture could be read")
        return {
            "pictures": len(ages),
            "unreadable": browser.run("window.unread"),
            "median_ms": round(statistics.median(ages)),
            "p5_ms": round(ages[len(ages) // 20]),
            "p95_ms": round(ages[len(ages) * 19 // 20]),
            "max_ms": round(ages[-1]),
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench.live_latency", description="From picture taken to picture seen."
    )
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--cameras", type=int, default=1)
    parser.add_argument(
        "--gop", type=int, default=25, help="pictures from keyframe to keyframe, at 25 a second (default %(default)s)"
    )
    parser.add_argument("--size", default="640x360")
    options = parser.parse_args()
    figures = measure(options.seconds, options.cameras, options.gop, options.size)
    setting = {"cameras": options.cameras, "gop_s": options.gop / 25, "size": options.size, "cores": os.cpu_count()}
    print(json.dumps({**setting, **figures, "machine": platform.machine(), "load": round(os.getloadavg()[0], 1)}))


if __name__ == "__main__":
    main()
