"""The pretend camera of `tools/camera` as a process of its own, for tests; and what a film holds, by PyAV's account."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


class PretendCamera:
    """Use it in a `with` statement; `url` is known inside."""

    def __init__(self, *films: Path | str, **options: object) -> None:
        """`options` are those of the command line: speed=4, user="u", rewind=True."""
        self.urls: list[str] = []
        arguments: list[str] = []
        for name, value in {"port": 0, **options}.items():
            flag = f"--{name.replace('_', '-')}"
            arguments += [flag] if value is True else [flag, str(value)]
        self._command = [sys.executable, "-m", "tools.camera", *map(str, films), *arguments]

    def __enter__(self) -> PretendCamera:
        self.process = subprocess.Popen(self._command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        while (line := self.process.stdout.readline().strip()) != "ready":
            assert line.startswith("rtsp"), f"the pretend camera did not start: {line}"
            self.urls.append(line)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()

    @property
    def url(self) -> str:
        return self.urls[0]

    def switch(self, **fields: object) -> None:
        """Set faults of the first camera: switch(silent=1)."""
        self._request(urllib.parse.urlsplit(self.url).path + "?" + urllib.parse.urlencode(fields), "POST")

    def reset(self) -> None:
        """As it was at the start: nobody watches, no faults."""
        self.switch(reset=1)
        end = time.monotonic() + 10
        while self.state()["watchers"]:
            assert time.monotonic() < end, "somebody still watches"
            time.sleep(0.01)

    def state(self, number: int = 0) -> dict[str, Any]:
        return json.loads(self._request("/", "GET"))[number]

    def _request(self, path: str, method: str) -> bytes:
        address = "http://" + urllib.parse.urlsplit(self.url).netloc
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(urllib.request.Request(address + path, method=method), timeout=10) as answer:
            return answer.read()


@dataclass(frozen=True)
class Film:
    path: Path
    width: int
    height: int
    pictures: list[tuple[bytes, ...]]  # NAL units of each, without parameter sets and delimiters


def film_of(path: Path) -> Film:
    """Read by PyAV: the second opinion about what a source should deliver."""
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        is_annex_b = bytes(stream.codec_context.extradata or b"\0")[0] == 0
        pictures = [
            tuple(nal for nal in nal_units(bytes(packet), is_annex_b=is_annex_b) if nal[0] & 31 not in (7, 8, 9))
            for packet in container.demux(stream)
            if packet.size
        ]
        return Film(path, stream.width, stream.height, pictures)


def nal_units(data: bytes, *, is_annex_b: bool = False) -> list[bytes]:
    """The NAL units of a picture, as MP4 (lengths of 4 bytes) or byte streams (start codes) hold them."""
    if is_annex_b:
        return [piece.rstrip(b"\0") for piece in data.split(b"\0\0\1")[1:]]
    found, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        found.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return found
