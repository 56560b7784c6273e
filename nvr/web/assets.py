"""The files of the page, read once and kept compressed; their address changes when they change."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from nvr.web.answers import SECURITY_HEADERS, error_answer

PAGE_DIR = Path(__file__).parent / "page"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
VERSION_MARK = b"__VERSION__"


class Assets:
    """All files of the page in memory: about 100 kB. Only names that exist here can be asked for."""

    def __init__(self, page_dir: Path = PAGE_DIR) -> None:
        files = {path.name: path.read_bytes() for path in sorted(page_dir.iterdir()) if path.suffix in TYPES}
        digest = hashlib.sha256(b"".join(name.encode() + content for name, content in files.items()))
        self.version = digest.hexdigest()[:12]
        self._files = {
            name: content.replace(VERSION_MARK, self.version.encode()) if name.endswith(".html") else content
            for name, content in files.items()
        }
        self._zipped = {name: gzip.compress(content, 9, mtime=0) for name, content in self._files.items()}

    def answer(self, request: Request, name: str, cache: str) -> Response:
        if name not in self._files:
            return error_answer("there is no such page", "Go to the start page: /", 404)
        headers = {"cache-control": cache, "vary": "accept-encoding", **SECURITY_HEADERS}
        body = self._files[name]
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers["content-encoding"], body = "gzip", self._zipped[name]
        return Response(body, 200, headers, TYPES[Path(name).suffix])

    async def versioned(self, request: Request) -> Response:
        """A file under the version's own address; a browser may keep it for ever."""
        cache = "public, max-age=31536000, immutable"
        if request.path_params["version"] != self.version:
            cache = "no-store"  # a page from before an update; it gets what there is
        return self.answer(request, request.path_params["name"], cache)
