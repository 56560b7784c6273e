"""The `nvr` command, with all of its groups."""

from __future__ import annotations

import click

from nvr import __version__
from nvr.cli.clip import clip
from nvr.cli.detect import detect
from nvr.cli.hub import hub
from nvr.cli.ledger import ledger
from nvr.cli.model import model
from nvr.cli.program import Program
from nvr.cli.ring import ring
from nvr.cli.run import run
from nvr.cli.site import site
from nvr.cli.uplink import uplink
from nvr.cli.web import web


class _Program(Program):
    prog = "nvr"
    os_hint = "Check that the disk is there, and that this user may read it."


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="nvr", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show where an error comes from.")
def nvr(debug: bool) -> None:
    """Record cameras, look after what was recorded, and prove it.

    \b
    Examples:
        nvr site check site.yaml
        nvr run --site site.yaml
        nvr ring ls --site site.yaml
        nvr clip cut --site site.yaml --camera street --from 14:03 --to 14:05 -o crash.mp4
    """


for _command in (run, site, ring, ledger, clip, detect, model, web, uplink, hub):
    nvr.add_command(_command)
