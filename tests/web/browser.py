"""A headless Chromium for tests, driven over its own debugging protocol; nothing but `websockets` is needed."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
START_S = 60.0
ANSWER_S = 60.0


class BrowserFault(Exception):
    """The browser, or a script in it, failed."""


class Browser:
    """One browser with one page and a profile of its own; a context manager."""

    def __init__(
        self,
        *,
        width: int = 1280,
        height: int = 800,
        language: str = "en",
        dark: bool = False,
        options: tuple[str, ...] = (),
    ) -> None:
        if CHROMIUM is None:
            raise BrowserFault("there is no Chromium on this machine")
        self._open = contextlib.ExitStack()
        self._profile = tempfile.mkdtemp(prefix="browser-")
        self.downloads = Path(self._profile) / "downloads"
        self.downloads.mkdir()
        self._process = subprocess.Popen(
            [
                CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--mute-audio", "--no-first-run",
                "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update",
                "--disable-background-timer-throttling", "--disable-renderer-backgrounding",
                "--autoplay-policy=no-user-gesture-required", f"--lang={language}", f"--accept-lang={language}",
                f"--user-data-dir={self._profile}", f"--window-size={width},{height}", "--remote-debugging-port=0", *options, "about:blank",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            self._connect()
            self.size(width, height)
            if dark:
                self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
            self.call(
                "Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.downloads), eventsEnabled=True
            )
        except BaseException:
            self.close()
            raise

    def _connect(self) -> None:
        port_path = Path(self._profile) / "DevToolsActivePort"
        deadline_s = time.monotonic() + START_S
        while not (port_path.exists() and "\n" in port_path.read_text()):
            if time.monotonic() > deadline_s or self._process.poll() is not None:
                raise BrowserFault(f"Chromium did not start within {START_S:.0f} s")
            time.sleep(0.1)
        port = port_path.read_text().split("\n")[0]
        while True:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=10) as answer:
                pages = [page for page in json.load(answer) if page["type"] == "page"]
            if pages:
                break
            time.sleep(0.1)
        # Nobody listens while a test waits for something else: no pings then, and room for what the browser tells.
        opened = connect(pages[0]["webSocketDebuggerUrl"], max_size=64 << 20, max_queue=None, ping_interval=None)
        self._socket = self._open.enter_context(opened)
        self._number = 0
        self.faults: list[str] = []  # what scripts of the page failed with
        self.requests: list[str] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command; events that come meanwhile are looked at for faults. Raises BrowserFault."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        deadline_s = time.monotonic() + ANSWER_S
        while True:
            message = json.loads(self._socket.recv(timeout=max(0.1, deadline_s - time.monotonic())))
            if message.get("id") == self._number:
                if "error" in message:
                    raise BrowserFault(f"{method}: {message['error']['message']}")
                return dict(message["result"])
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        method, parameters = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            self.faults.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.faults.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression, awaited. Raises BrowserFault with what it threw."""
        answer = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise BrowserFault(details.get("exception", {}).get("description") or details["text"])
        return answer["result"].get("value")

    def open(self, address: str) -> None:
        self.call("Page.navigate", url=address)

    def wait(self, script: str, what: str, timeout_s: float = 30.0) -> Any:
        """Until a JavaScript expression is true; its value. Raises BrowserFault saying `what` did not happen."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            try:
                if value := self.run(script):
                    return value
            except BrowserFault as error:
                if "context" not in str(error) and "navigated" not in str(error) and "null" not in str(error):
                    raise
            if time.monotonic() > deadline_s:
                text = self.run("document.body ? document.body.innerText.slice(0, 800) : ''")
                raise BrowserFault(
                    f"within {timeout_s:.0f} s this did not happen: {what}; faults {self.faults}; page says:\n{text}"
                )
            time.sleep(0.1)

    def until(self, happens: Callable[[], Any], what: str, timeout_s: float = 30.0) -> Any:
        """The same for something outside of the page."""
        deadline_s = time.monotonic() + timeout_s
        while not (value := happens()):
            if time.monotonic() > deadline_s:
                raise BrowserFault(f"within {timeout_s:.0f} s this did not happen: {what}")
            time.sleep(0.1)
        return value

    def size(self, width: int, height: int, *, phone: bool = False) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )

    def press(self, key: str) -> None:
        text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        code = {"Enter": 13, "Tab": 9, "ArrowLeft": 37, "ArrowRight": 39, "Escape": 27}.get(key, 0)
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def click(self, x: float, y: float) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))

    def close(self) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)  # its own session: the browser and its children, nobody else
        except ProcessLookupError:
            pass
        self._process.wait()
        self._open.close()
        shutil.rmtree(self._profile, ignore_errors=True)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
