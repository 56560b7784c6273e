"""Which hub, and who asks: the options that all commands of `nvrctl hub` share."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from tools.nvrctl import secret
from tools.nvrctl.hub_client import HubClient, HubRefused
from tools.nvrctl.output import FILE


def hub_options(command):  # type: ignore[no-untyped-def]
    """Which hub, and who asks; the command gets an open `client`."""

    @click.option(
        "--hub", "url", envvar="NVRCTL_HUB", required=True, metavar="URL", help="Address of the hub.  [env: NVRCTL_HUB]"
    )
    @click.option(
        "--token-file",
        envvar="NVRCTL_TOKEN_FILE",
        type=FILE,
        help="File with an administrator's token.  [env: NVRCTL_TOKEN_FILE]",
    )
    @click.option(
        "--as",
        "as_name",
        metavar="NAME",
        help="Log in as this user; asks for the password, and for the second factor where there is one.",
    )
    @click.option("--password-file", type=FILE, help="Password for --as, where nobody can be asked.")
    @click.option(
        "--fingerprint", default="", help="SHA-256 of the hub's certificate, where no public authority vouches for it."
    )
    @functools.wraps(command)
    def with_client(
        *arguments: Any,
        url: str,
        token_file: Path | None,
        as_name: str | None,
        password_file: Path | None,
        fingerprint: str,
        **more: Any,
    ) -> Any:
        with hub_client(url, token_file, as_name, password_file, fingerprint) as client:
            return command(*arguments, client=client, **more)

    return with_client


@contextmanager
def hub_client(
    url: str, token_file: Path | None, as_name: str | None, password_file: Path | None, fingerprint: str
) -> Iterator[HubClient]:
    """The hub, for whoever the options say. Raises click.UsageError, HubRefused."""
    if token_file is None and as_name is None:
        raise click.UsageError("Say who asks: --token-file FILE, or --as NAME.")
    # A token in the environment does not stand in the way of a person.
    token = secret.read(token_file).strip() if token_file and as_name is None else ""
    with HubClient(url, token, fingerprint) as client:
        if as_name is not None:
            _log_in(client, as_name, password_file)
        yield client


def _log_in(client: HubClient, name: str, password_file: Path | None) -> None:
    password = secret.password(f"Password of {name}", password_file, "--as")
    try:
        client.log_in(name, password)
    except HubRefused as refused:
        if (
            "totp" not in str(refused).lower() and "second factor" not in str(refused).lower()
        ) or not sys.stdin.isatty():
            raise
        client.log_in(name, password, totp=click.prompt("Code of the second factor", err=True))


def day_text(ms: Any) -> str:
    return (
        datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d")
        if isinstance(ms, int) and 0 < ms < 253_402_214_400_000
        else "-"
    )
