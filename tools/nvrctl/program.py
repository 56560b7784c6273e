"""The program around the groups: which there are, exit status, help, completion.

Exit status: 0 good, 1 a fault was found or something could not be done, 2 wrong use (nvr/cli/program.py). Never a traceback without --debug.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

import click

from nvr import __version__
from nvr.cli.program import Program

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


class _Program(Program):
    """Imports a group when it is used."""

    prog = "nvrctl"
    os_hint = "Check that it is there, and that you may use it (`nvrctl doctor`)."

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

    def invoke(self, context: click.Context) -> Any:
        if "NO_COLOR" in os.environ:
            context.color = False
        try:
            return super().invoke(context)
        except KeyboardInterrupt:
            self.end(context, "stopped", "")

    def told(self, error: Exception) -> tuple[str, str]:
        if isinstance(error, ModuleNotFoundError):
            if (error.name or "").split(".")[0] in ("nvr", "tools"):
                raise error
            return (
                f"the package {error.name} is not installed",
                "pip install 'nvr[laptop]' brings all that nvrctl needs.",
            )
        message, hint = super().told(error)
        # nvr.site, which the box has as well, names its own command; ours looks at all files together too.
        return message, hint.replace("`nvr site check ", "`nvrctl site check ")


def _with_yes(command: click.Command) -> click.Command:
    """Scripts may say --yes always: a command that asks nothing takes it too, and does not list it."""
    if isinstance(command, click.Group):
        for each in command.commands.values():
            _with_yes(each)
    elif not any("--yes" in parameter.opts for parameter in command.params):
        command.params.append(click.Option(["--yes"], is_flag=True, expose_value=False, hidden=True))
    return command


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
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
