"""Serves the built pages: one page for every address, and its hashed files beside it.

Files are read once, at start, with the forms that were compressed when they were built: nothing is compressed, and nothing is looked up on
disk, while a request waits. A file under assets/ carries its hash in its name and is kept by browsers for a year; the page itself is asked
for every time (ETag). Without a built page the hub runs all the same and says here how to build it.

The policy lets scripts, styles and pictures come from this hub only (Content Security Policy Level 3); pictures also from one tile server, if the
city configured one.
"""

from __future__ import annotations

import mimetypes
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

BUILT_PATH = Path(__file__).parent / "built"
NOT_BUILT = (
    "<!doctype html><html lang=id><meta charset=utf-8><meta name=viewport content='width=device-width'><title>nvr</title>"
    "<h1>Halaman pusat belum dibangun</h1><p>Pusat bekerja; hanya halamannya yang belum ada. Jalankan <code>make pages</code>, lalu nyalakan ulang pusat.</p>"
    "<h1 lang=en>The hub's pages are not built</h1><p lang=en>The hub works; only its pages are missing. Run <code>make pages</code>, then start the hub again.</p>"
)
# Not for the page, although nobody else answered: a wrong API address must not look like a page.
OTHERS = ("/api", "/box", "/live", "/healthz", "/metrics", "/openapi.json")
FOREVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class File:
    """One built file in every form it is kept in."""

    forms: dict[str, bytes] = field(repr=False)  # by Content-Encoding; "" as it is
    media_type: str
    etag: str

    def form_for(self, accepted: str) -> tuple[str, bytes]:
        """The smallest form that the client takes (RFC 9110, 12.5.3)."""
        offered = {part.split(";")[0].strip() for part in accepted.lower().split(",") if not _is_refused(part)}
        for encoding in ("br", "gzip"):
            if encoding in self.forms and encoding in offered:
                return encoding, self.forms[encoding]
        return "", self.forms[""]


def _is_refused(part: str) -> bool:
    _, _, quality = part.partition(";")
    return quality.strip().replace(" ", "") in ("q=0", "q=0.0", "q=0.00", "q=0.000")


def files(folder: Path) -> dict[str, File]:
    """Every file of a build by its address. Empty when there is no whole build."""
    if not (folder / "index.html").is_file():
        return {}
    found = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.suffix in (".br", ".gz"):
            continue
        plain = path.read_bytes()
        forms = {"": plain}
        for encoding, ending in (("br", ".br"), ("gzip", ".gz")):
            compressed = path.with_name(path.name + ending)
            if compressed.is_file():
                forms[encoding] = compressed.read_bytes()
        media_type = {".js": "text/javascript", ".md": "text/plain"}.get(path.suffix) or mimetypes.guess_type(
            path.name
        )[0]
        found["/" + path.relative_to(folder).as_posix()] = File(
            forms, media_type or "application/octet-stream", f'"{sha256(plain).hexdigest()[:20]}"'
        )
    return found


def policy(tiles_url: str = "") -> str:
    """The Content-Security-Policy header. `tiles_url`: of the map's tiles, or nothing."""
    address = urlsplit(tiles_url)
    tiles = f" {address.scheme}://{address.netloc}" if address.scheme in ("http", "https") and address.netloc else ""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        f"img-src 'self' blob:{tiles}; media-src 'self' blob:; manifest-src 'self'; "
        "form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
    )


def pages(folder: Path = BUILT_PATH, *, tiles_url: str = "") -> ASGIApp:
    """The ASGI application to mount last."""
    found = files(folder)
    headers = {
        "Content-Security-Policy": policy(tiles_url),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    }

    def answer(request: Request) -> Response:
        # A mounted application sees its own root path; the address is what the browser asked for.
        address = request.url.path
        if any(address == other or address.startswith(other + "/") for other in OTHERS):
            return Response(
                '{"error": "there is no such address", "key": "not found", "hint": ""}',
                404,
                headers,
                "application/json",
            )
        if request.method not in ("GET", "HEAD"):
            return Response(status_code=405, headers={"Allow": "GET, HEAD", **headers})
        if not found:
            return Response(NOT_BUILT, 503, {**headers, "Cache-Control": "no-store"}, "text/html")
        file = found.get(address)
        if file is None and address.startswith("/assets/"):
            return Response("not found", 404, {**headers, "Cache-Control": "no-store"}, "text/plain")
        file = file or found["/index.html"]
        encoding, body = file.form_for(request.headers.get("accept-encoding", ""))
        etag = f'{file.etag[:-1]}{"-" + encoding if encoding else ""}"'
        caching = FOREVER if address.startswith("/assets/") else "no-cache"
        more = {**headers, "Cache-Control": caching, "Vary": "Accept-Encoding", "ETag": etag}
        if encoding:
            more["Content-Encoding"] = encoding
        if etag in (each.strip() for each in request.headers.get("if-none-match", "").split(",")):
            return Response(status_code=304, headers=more)
        return Response(body, 200, more, file.media_type)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 4404})
        elif scope["type"] == "http":
            await answer(Request(scope))(scope, receive, send)

    return application
