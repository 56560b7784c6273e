"""`python -m nvr.web --data DIR --listen ADDR:PORT --site FILE`: the page of one box as a process of its own."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from nvr import site_kept, systemd
from nvr.errors import NvrError
from nvr.web.server import serve
from nvr.web.settings import PageSettings


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m nvr.web", description="Serve the page of one box.")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the box's data directory")
    parser.add_argument("--listen", required=True, metavar="ADDR:PORT", help="0.0.0.0:8080, [::]:8080 or :8080")
    parser.add_argument("--site", type=Path, required=True, metavar="FILE", help="the box's site file")
    parser.add_argument(
        "--tls-cert", type=Path, metavar="PEM", help="certificate chain; then the page is served by HTTPS"
    )
    parser.add_argument("--tls-key", type=Path, metavar="PEM")
    parser.add_argument("--kept", action="store_true", help="the site is the one that `nvr run` kept")
    options = parser.parse_args()
    systemd.set_up_logging("web")
    systemd.end_with_parent()
    try:
        settings = PageSettings.from_site(site_kept.in_force(options.site, options.data, is_kept=options.kept))
        serve(options.data, options.listen, settings, certificate_path=options.tls_cert, key_path=options.tls_key)
    except NvrError as error:
        print(f"{error}\n{error.hint}".rstrip(), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
