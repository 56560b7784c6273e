"""The program around the groups: which there are, how errors look, exit status, help, completion.

Exit status: 0 good, 1 a fault was found or something could not be done, 2 wrong use. Never a traceback without --debug.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any

import click

from nvr import __version__
from nvr.errors import NvrError

# name -> what the list of commands says; the module of that name holds the command. A test compares them.
GROUPS = {
    "site": "Make site files from a list of cameras, and check them.",
    "camera": "Find cameras, judge what they send, and set them.",
    "card": "Write images and site files to cards, many at once, and read them back.",
    "box": "Find boxes and look after them.",
    "hub": "Set up a hub, its people, tokens and one-time codes.",
    "image": "Build disk images and update bundles.",
    "doctor": "Tell whether this laptop has what nvrctl needs.",
    "completion": "Print what makes the shell complete commands.",
}


class Program(click.Group):
    """Imports a group when it is used; turns errors into a message, a hint and an exit status."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(GROUPS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in GROUPS:
            return None
        if name not in self.commands:
            module = importlib.import_module(f"tools.nvrctl.{name}")
            self.add_command(_with_yes(getattr(module, name)), name)
        return self.commands[name]

    def load_all(self) -> None:
        """Every group, for documents and tests."""
        for name in GROUPS:
            self.get_command(click.Context(self), name)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):  # from the table: nothing is imported for it
            formatter.write_dl(list(GROUPS.items()))

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        context.meta["nvr.arguments"] = list(args)  # what is wrong may stand before --json
        return super().parse_args(context, args)

    def invoke(self, context: click.Context) -> Any:
        if "NO_COLOR" in os.environ:
            context.color = False
        try:
            return super().invoke(context)
        except NvrError as error:
            # nvr.site, which the box has as well, names its own command; ours looks at all files together too.
            _fail(context, str(error), error.hint.replace("`nvr site check ", "`nvrctl site check "))
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] in ("nvr", "tools"):
                raise
            _fail(
                context,
                f"the package {error.name} is not installed",
                "pip install 'nvr[laptop]' brings all that nvrctl needs.",
            )
        except BrokenPipeError:  # `nvrctl camera find | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            context.exit(1)
        except KeyboardInterrupt:
            _fail(context, "stopped", "")
        except OSError as error:
            what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            _fail(context, what, "Check that it is there, and that you may use it (`nvrctl doctor`).")
        except click.ClickException as error:  # wrong use; click says it to people
            if "--json" in context.meta["nvr.arguments"]:
                click.echo(json.dumps({"error": error.format_message(), "hint": _help_of(error)}))
            raise
        except (click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            _fail(context, f"this should not have happened: {type(error).__name__}: {error}",
                  "Run it again with `nvrctl --debug ...` and report what it prints.")  # fmt: skip


def _help_of(error: click.ClickException) -> str:
    where = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx is not None else ""
    return f"`{where} --help` says how it is used." if where else ""


def _with_yes(command: click.Command) -> click.Command:
    """Scripts may say --yes always: a command that asks nothing takes it too, and does not list it."""
    if isinstance(command, click.Group):
        for each in command.commands.values():
            _with_yes(each)
    elif not any("--yes" in parameter.opts for parameter in command.params):
        command.params.append(click.Option(["--yes"], is_flag=True, expose_value=False, hidden=True))
    return command


def _fail(context: click.Context, message: str, hint: str) -> None:
    if context.params.get("debug"):
        raise
    click.echo(f"nvrctl: {message}", err=True)
    if hint:
        click.echo(f"        {hint}", err=True)
    if context.meta.get("nvr.json"):
        click.echo(json.dumps({"error": message, "hint": hint}))
    context.exit(1)


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="nvrctl", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show where an error comes from.")
def nvrctl(debug: bool) -> None:
    """From a list of cameras to cards in boxes: what an installer does on a laptop.

    \b
    A day's work, in order:
        nvrctl doctor                                       is this laptop ready?
        nvrctl camera find                                  which cameras are there?
        nvrctl site new --table cameras.csv --out sites     a site file for each box
        nvrctl card write box.img.zst /dev/sdb /dev/sdc --site sites
        nvrctl box find                                     are they up?
    \b
    Exit status: 0 good, 1 a fault was found or something could not be done, 2 wrong use.
    Every command prints JSON with --json, and takes --yes: what it would do only after asking is done. Passwords are read from
    files instead (--password-file), and `nvrctl box wipe` wants the box's name (--name-again).
    """
