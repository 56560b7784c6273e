"""The page of a box that has no site file yet: what RESULT.txt on the card says, and nothing else. Ends when a site file came with the next start."""

from __future__ import annotations

import html
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

RESULT = Path("/run/nvr-setup/RESULT.txt")
_PAGE = """<!doctype html><html lang="id"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>nvr</title><style>body{{font:1rem/1.5 system-ui,sans-serif;max-width:48rem;margin:2rem auto;padding:0 1rem}}
pre{{white-space:pre-wrap;background:#f4f4f4;padding:1rem}}</style>
<h1>Kotak ini belum diatur<br><small lang="en">This box is not set up yet</small></h1><pre>{text}</pre></html>"""


class Page(BaseHTTPRequestHandler):
    timeout = 20

    def do_GET(self) -> None:
        try:
            text = RESULT.read_text()
        except OSError:
            text = "?"
        body = _PAGE.format(text=html.escape(text)).encode()
        self.send_response(503)  # whoever asks by program must not take this for the page of a box that records
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def main() -> int:
    ThreadingHTTPServer(("", int(os.environ.get("NVR_PORT", "8080"))), Page).serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
