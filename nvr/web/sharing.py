"""Update bundles for other boxes on the LAN, without a log-in: a bundle is signed, holds no secret, and only who knows its SHA-256 gets it.

GET /bundles/SHA256     200 or 206: the bundle, if this box has it whole and keeps it (nvr/uplink/bundles.py)
                        202: {"box", "bytes"}: this box has the order to fetch it, and so much of it; -1: it has not begun
                        404: neither; 503: enough boxes are fetching it from here already
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from nvr.web.answers import SECURITY_HEADERS, NotFound, Unavailable, json_answer
from nvr.web.guard import Guard

AT_ONCE = 3  # recording shares the processor and the disk
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


class Sharing:
    """Reads what the uplink keeps below DATA/updates."""

    def __init__(self, data_dir: Path, box: str) -> None:
        self._folder, self._box = data_dir / "updates", box
        self.now = 0  # bundles being sent

    def routes(self, guard: Guard) -> list[BaseRoute]:
        return [Route("/bundles/{sha256}", guard.open(self._bundle))]

    async def _bundle(self, request: Request) -> Response:
        sha256 = request.path_params["sha256"]
        if not _SHA256.fullmatch(sha256):
            raise NotFound("a bundle is named by its SHA-256")
        kept = self._folder / "kept" / f"{sha256}.raucb"
        if kept.is_file():
            if self.now >= AT_ONCE:
                raise Unavailable(f"{self.now} boxes fetch it from here already", hint="Ask again in a minute.")
            return _Sent(self, kept)
        if _wanted(self._folder) == sha256:
            part = self._folder / f"{sha256}.part"
            here_bytes = part.stat().st_size if part.exists() else -1
            return json_answer({"box": self._box, "bytes": here_bytes}, 202)
        raise NotFound("this box does not have it")


class _Sent(FileResponse):
    """Counted while it is on its way."""

    def __init__(self, sharing: Sharing, path: Path) -> None:
        super().__init__(path, headers=SECURITY_HEADERS, media_type="application/octet-stream")
        self._sharing = sharing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._sharing.now += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._sharing.now -= 1


def _wanted(folder: Path) -> str:
    try:
        return str(json.loads((folder / "wanted.json").read_bytes()[:8192])["sha256"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return ""
