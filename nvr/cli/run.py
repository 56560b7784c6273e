"""`nvr run`: be a box."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nvr.cli.addresses import taken
from nvr.cli.options import FOLDER, json_option, place_text
from nvr.errors import NvrError

if TYPE_CHECKING:
    from nvr.site import Site


# It may be missing: a box whose site file is gone records with the one that it kept.
SITE_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option("--site", "site_path", type=SITE_FILE, required=True, help="Site file of this box.")
@click.option("--data", "data_dir", type=FOLDER, help="Data directory, instead of the one in the site file.")
@click.option("--once", is_flag=True, help="No page; end when every source has ended (replays without loop).")
@json_option
@click.pass_context
def run(context: click.Context, site_path: Path, data_dir: Path | None, once: bool, as_json: bool) -> None:
    """Record what the site file says and serve the box's page, until stopped by Ctrl-C or SIGTERM.

    On the first start it prints a link with which to set the password of the page. With --json it prints the
    recorder's status as one line of JSON each second.

    A faulty site file is refused with every fault and exit status 1. Only where this very file recorded before, the box says what is
    wrong and records with its last text that did (kept in the data directory), until the file is good again.

    \b
    Examples:
        nvr run --site site.yaml
        nvr run --site site.yaml --data /mnt/disk/rings
        nvr run --site films.yaml --data /tmp/rings --once
    """
    from nvr import box, site_kept, systemd

    systemd.set_up_logging("box")
    try:
        start = site_kept.start_with(site_path, data_dir, is_box=not once)
    except NvrError:
        if not site_path.exists():
            raise click.BadParameter(f"There is no file {site_path}.", param_hint="--site") from None
        raise
    told = _Teller(start.site, start.data_dir, place_text(site_path, data_dir), has_page=not once, as_json=as_json)
    context.exit(box.run(start, once=once, on_status=told.tell))


class _Teller:
    """Says where the page is, and what is recorded whenever that changes."""

    def __init__(self, site: Site, data_dir: Path, place: str, *, has_page: bool, as_json: bool) -> None:
        """`place`: the options that lead other commands to this box."""
        self.site = site
        self.data_dir = data_dir
        self._place = place
        self.has_page = has_page
        self.as_json = as_json
        self._last = ""
        # Asked before our own page is there: a link to somebody else's would be a lie.
        self._no_page = taken(site) if has_page else ""

    def tell(self, status: dict[str, Any]) -> None:
        if self.has_page:
            # Only now: a second `nvr run` that is refused must not make the first one's link useless.
            self.has_page = False
            self._tell_page()
        if self.as_json:
            click.echo(json.dumps(status))
            return
        line = summary(status)
        if line != self._last:
            self._last = line
            click.echo(line)

    def _tell_page(self) -> None:
        from nvr.cli.addresses import page_address
        from nvr.web import access

        if self._no_page:
            if self.as_json:
                click.echo(json.dumps({"kind": "page", "address": None, "link": None, "error": self._no_page}))
            else:
                click.echo(
                    f"{self._no_page}\n  (it is tried again; recording goes on. Write a free port into the site file: `web: {{port: 8090}}`)"
                )
            return
        address = page_address(self.site)
        link = fault = ""
        if not access.has_password(self.data_dir):
            try:
                link = access.create_one_time_link(self.data_dir, address)
            except OSError as error:  # a disk that is full: recording goes on in the segments that it has
                fault = f"no link could be written: {error.strerror}"
        if self.as_json:
            page = {"kind": "page", "address": address, "link": link or None}
            click.echo(json.dumps({**page, "error": fault} if fault else page))
        elif fault:
            click.echo(
                f"the page of this box:  {address}\n  ({fault}; when there is room: `nvr web link {self._place}`)"
            )
        elif link:
            click.echo(
                f"the page of this box:  {link}\n  (opens once, within a day, to set the password; another: `nvr web link {self._place}`)"
            )
        else:
            click.echo(f"the page of this box:  {address}\n  (password forgotten? `nvr web link {self._place}`)")


def summary(status: dict[str, Any]) -> str:
    """One line: how many streams are recorded, and why the others are not."""
    streams = status.get("streams", {})
    missing = {name: stream for name, stream in streams.items() if not stream.get("recording")}
    line = f"recording {len(streams) - len(missing)} of {len(streams)} streams"
    # The details are what `record` says when it happens, with the time.
    why = [f"{name} ({stream.get('cause') or 'not yet'})" for name, stream in missing.items()]
    return f"{line}; not {', '.join(why)}" if why else line
