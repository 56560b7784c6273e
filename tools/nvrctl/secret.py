"""Passwords: from a file, or asked for where somebody can answer; never from the command line, where everybody on the machine sees them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import click


def password(question: str, path: Path | None, option: str) -> str:
    """From `path`, else asked for. Raises click.UsageError where nobody can be asked; `option` is what wants it."""
    if path is not None:
        return read(path)
    if not sys.stdin.isatty():
        raise click.UsageError(f"{option} needs --password-file here: nobody can be asked.")
    return str(click.prompt(question, hide_input=True, err=True))


def warn_of_address(url: str, instead: str) -> None:
    """Says so when a password stands in an address that was given on the command line; `instead`: how to give it."""
    try:
        has_one = bool(urlsplit(url).password)
    except ValueError:
        has_one = False
    if has_one:
        click.echo(
            f"warning: everybody on this machine can read a password on the command line, and the shell keeps it: {instead}",
            err=True,
        )


def read(path: Path) -> str:
    """The secret in a file, without the end of its line; says so when everybody on this machine can read it."""
    with open(path, encoding="utf-8") as file:
        if os.fstat(file.fileno()).st_mode & 0o004:
            click.echo(f"warning: everybody on this machine can read {path}: chmod 600 {path}", err=True)
        return file.read().rstrip("\r\n")
