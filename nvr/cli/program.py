"""What a command line does with errors, `nvr` and `nvrctl` alike: a message, a hint and an exit status; never a traceback.

Exit status 1: a fault was found or something could not be done; 2, by click: wrong use. With --json the error is told in JSON as well.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import click

from nvr.errors import NvrError

_ARGUMENTS = "nvr.arguments"  # of the context's meta


class Program(click.Group):
    """The whole command; `prog` is what people call it."""

    prog = ""
    os_hint = ""  # for errors of the system

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        context.meta[_ARGUMENTS] = list(args)  # what is wrong may stand before --json
        return super().parse_args(context, args)

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except BrokenPipeError:  # `nvr ring dump ... | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            context.exit(1)
        except click.ClickException as error:  # wrong use; click says it to people
            if "--json" in context.meta[_ARGUMENTS]:
                click.echo(json.dumps({"error": error.format_message(), "hint": _help_of(error)}))
            raise
        except (click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            self.end(context, *self.told(error))

    def told(self, error: Exception) -> tuple[str, str]:
        """Message and hint. May raise the error again: then it is a traceback."""
        if isinstance(error, NvrError):
            return str(error), error.hint
        if isinstance(error, OSError):
            return f"{error.filename}: {error.strerror}" if error.filename else str(error), self.os_hint
        return (
            f"this should not have happened: {type(error).__name__}: {error}",
            f"Run it again with `{self.prog} --debug ...` and report what it prints.",
        )

    def end(self, context: click.Context, message: str, hint: str) -> None:
        """To be called while the error is handled."""
        if context.params.get("debug"):
            raise
        click.echo(f"{self.prog}: {message}", err=True)
        if hint:
            click.echo(f"{'':{len(self.prog)}}  {hint}", err=True)
        if context.meta.get("nvr.json"):
            click.echo(json.dumps({"error": message, "hint": hint}))
        context.exit(1)


def _help_of(error: click.ClickException) -> str:
    where = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx is not None else ""
    return f"`{where} --help` says how it is used." if where else ""
