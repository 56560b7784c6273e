"""The `nvr` command: one file per group; parses, calls a room, prints.

Exit status: 0 good, 1 a fault was found or something could not be done, 2 wrong use. Heavy rooms are imported inside
the command that needs them, so that help is quick and a laptop needs no camera packages.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import click

from nvr import __version__
from nvr.cli.clip import clip
from nvr.cli.detect import detect
from nvr.cli.hub import hub
from nvr.cli.ledger import ledger
from nvr.cli.model import model
from nvr.cli.ring import ring
from nvr.cli.run import run
from nvr.cli.site import site
from nvr.cli.uplink import uplink
from nvr.cli.web import web
from nvr.errors import NvrError


class _Program(click.Group):
    """Turns errors into a message, a hint and an exit status; never into a traceback."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        context.meta["nvr.arguments"] = list(args)  # what is wrong may stand before --json
        return super().parse_args(context, args)

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except NvrError as error:
            _fail(context, str(error), error.hint)
        except BrokenPipeError:  # `nvr ring dump ... | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            context.exit(1)
        except OSError as error:
            what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            _fail(context, what, "Check that the disk is there, and that this user may read it.")
        except click.ClickException as error:  # wrong use; click says it to people
            if "--json" in context.meta["nvr.arguments"]:
                click.echo(json.dumps({"error": error.format_message(), "hint": _help_of(error)}))
            raise
        except (click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            _fail(context, f"this should not have happened: {type(error).__name__}: {error}",
                  "Run it again with `nvr --debug ...` and report what it prints.")  # fmt: skip


def _help_of(error: click.ClickException) -> str:
    where = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx is not None else ""
    return f"`{where} --help` says how it is used." if where else ""


def _fail(context: click.Context, message: str, hint: str) -> None:
    if context.params.get("debug"):
        raise
    click.echo(f"nvr: {message}", err=True)
    if hint:
        click.echo(f"     {hint}", err=True)
    if context.meta.get("nvr.json"):
        click.echo(json.dumps({"error": message, "hint": hint}))
    context.exit(1)


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


def main() -> None:
    nvr(prog_name="nvr")
