"""How every group prints and asks: JSON, tables, sizes, and the question before something is destroyed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

Command = Callable[..., Any]
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)
ANY_PATH = click.Path(path_type=Path)


def json_option(command: Command) -> Command:
    """--json; the command gets `as_json`."""

    def remember(context: click.Context, parameter: click.Parameter, value: bool) -> bool:
        context.meta["nvr.json"] = value
        return value

    return click.option("--json", "as_json", is_flag=True, callback=remember, is_eager=True, help="Print JSON.")(
        command
    )


def yes_option(command: Command) -> Command:
    """--yes; the command gets `yes`."""
    return click.option("--yes", is_flag=True, help="Do it without asking.")(command)


def print_json(value: object) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None))


def print_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = (), err: bool = False
) -> None:
    """Columns wide enough for what is in them; those in `right` are aligned right."""
    shown = [[printable(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[column]) for row in shown) for column in range(len(head))]
    for row in shown:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        click.echo("  ".join(cells).rstrip(), err=err)


def printable(text: str) -> str:
    """What a device calls itself may hold control characters; a terminal must not obey them."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def size_text(size_bytes: float) -> str:
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes:.0f} B"


def time_text(seconds: float) -> str:
    """2:05, or 1:02:05."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes}:{rest:02}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something is destroyed. Raises click.UsageError where nobody can answer, click.Abort at "no"."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} Nobody can be asked here: say --yes.")
    click.confirm(question, default=False, abort=True, err=True)


def many(count: int, what: str) -> str:
    """`1 card`, `2 cards`."""
    return f"{count} {what}{'s' if count != 1 else ''}"
