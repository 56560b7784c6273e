"""`nvrctl hub user` and `nvrctl hub token`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from tools.nvrctl.hub_access import day_text, hub_options
from tools.nvrctl.hub_client import HubClient
from tools.nvrctl.output import confirm, json_option, print_json, print_table, yes_option

# -- users ---------------------------------------------------------------------------------------------


@click.group()
def user() -> None:
    """People of the hub.

    \b
    Example:
        nvrctl hub user ls --as admin
    """


def _link(url: str, code: str | None) -> str | None:
    return f"{url.rstrip('/')}/enter#{code}" if code else None


@user.command("ls")
@hub_options
@json_option
def list_users(client: HubClient, as_json: bool) -> None:
    """List who may enter, and with which roles.

    \b
    Example:
        nvrctl hub user ls --hub https://hub.example.org --token-file token
    """
    found = client.ask("GET", "/api/v1/users").get("users", [])
    if as_json:
        print_json({"users": found})
        return
    rows = [
        [
            str(each.get("name")),
            str(each.get("full_name") or "-"),
            _roles_text(each.get("roles") or []),
            "blocked" if each.get("disabled") else "no password yet" if not each.get("has_password") else "-",
        ]
        for each in found
    ]
    print_table(["user", "name", "roles", "remark"], rows)


def _roles_text(roles: list[Any]) -> str:
    return (
        ", ".join(
            f"{each.get('role')}{' at ' + each['place'] if each.get('place') else ''}"
            for each in roles
            if isinstance(each, dict)
        )
        or "-"
    )


@user.command("add")
@click.argument("name")
@click.option(
    "--role",
    "roles",
    multiple=True,
    required=True,
    metavar="ROLE[@PLACE]",
    help="What they may do, everywhere or at one place; may be given several times.",
)
@click.option("--full-name", default="", help="As the pages show it.")
@click.option("--language", type=click.Choice(["id", "en"]), default="id", show_default=True)
@hub_options
@json_option
def add_user(
    client: HubClient, name: str, roles: tuple[str, ...], full_name: str, language: str, as_json: bool
) -> None:
    """Make a user, and print the one-time link with which they set their password.

    \b
    Examples:
        nvrctl hub user add ibu-ani --role operator --as admin
        nvrctl hub user add pak-budi --role viewer@puskesmas-waihaong --as admin
    """
    wanted = [{"role": role, "place": place or None} for role, _, place in (each.partition("@") for each in roles)]
    made = client.ask(
        "POST", "/api/v1/users", {"name": name, "full_name": full_name, "language": language, "roles": wanted}
    )
    link = _link(client.url, made.get("link_code"))
    if as_json:
        print_json({"user": made.get("user"), "link": link})
    else:
        click.echo(
            f"{name} was made." + (f" Give them this link; it works once, within a day:\n{link}" if link else "")
        )


@user.command("block")
@click.argument("name")
@hub_options
@json_option
@yes_option
def block_user(client: HubClient, name: str, as_json: bool, yes: bool) -> None:
    """Take away somebody's access at once; what they did stays in the log.

    \b
    Example:
        nvrctl hub user block ibu-ani --as admin
    """
    confirm(f"Block {name}?", yes=yes)
    made = client.ask("PATCH", f"/api/v1/users/{_path_part(name)}", {"disabled": True})
    print_json({"user": made.get("user")}) if as_json else click.echo(f"{name} is blocked.")


@user.command("link")
@click.argument("name")
@hub_options
@json_option
@yes_option
def new_link(client: HubClient, name: str, as_json: bool, yes: bool) -> None:
    """Print a new one-time link for somebody who forgot the password; the old password and all sessions end.

    \b
    Example:
        nvrctl hub user link ibu-ani --as admin
    """
    confirm(f"End {name}'s password and sessions?", yes=yes)
    link = _link(
        client.url, client.ask("PATCH", f"/api/v1/users/{_path_part(name)}", {"new_link": True}).get("link_code")
    )
    print_json({"link": link}) if as_json else click.echo(link)


def _path_part(text: str) -> str:
    return quote(text, safe="")


# -- tokens --------------------------------------------------------------------------------------------


@click.group()
def token() -> None:
    """Tokens for programs.

    \b
    Example:
        nvrctl hub token ls --as admin
    """


@token.command("ls")
@hub_options
@json_option
def list_tokens(client: HubClient, as_json: bool) -> None:
    """List tokens: whose, what for, and when they were used. The tokens themselves are nowhere.

    \b
    Example:
        nvrctl hub token ls --as admin
    """
    found = client.ask("GET", "/api/v1/tokens").get("tokens", [])
    if as_json:
        print_json({"tokens": found})
        return
    rows = [
        [
            str(each.get("id")),
            str(each.get("user")),
            str(each.get("title")),
            " ".join(each.get("scopes") or []),
            day_text(each.get("expires_ms")),
            day_text(each.get("used_ms")),
        ]
        for each in found
    ]
    print_table(["id", "user", "what for", "may", "until", "used"], rows, right=(0,))


@token.command("add")
@click.argument("title")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    help="What it may do (see, health, administer ...); may be given several times.",
)
@click.option("--days", type=click.IntRange(1, 3650), default=90, show_default=True, help="How long it works.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write it into this file, readable by you alone, instead of printing it.",
)
@hub_options
@json_option
def add_token(
    client: HubClient, title: str, scopes: tuple[str, ...], days: int, out: Path | None, as_json: bool
) -> None:
    """Make a token for a program. It is shown once, or written into a file.

    \b
    Example:
        nvrctl hub token add laptop-of-joe --scope administer --scope health --out token --as admin
    """
    if out is not None and out.exists():
        raise click.UsageError(f"{out} is there already.")
    made = client.ask("POST", "/api/v1/tokens", {"title": title, "scopes": list(scopes), "valid_days": days})
    if out is not None:
        fd = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(f"{made.get('token')}\n")
    shown = None if out else made.get("token")
    print_json({"id": made.get("id"), "token": shown, "file": str(out) if out else None}) if as_json else click.echo(
        f"written to {out}" if out else shown
    )


@token.command("revoke")
@click.argument("number", type=int)
@hub_options
@json_option
@yes_option
def revoke_token(client: HubClient, number: int, as_json: bool, yes: bool) -> None:
    """Take a token back; it opens nothing from now on.

    \b
    Example:
        nvrctl hub token revoke 7 --yes --as admin
    """
    confirm(f"Take token {number} back? Whatever uses it gets no answer any more.", yes=yes)
    client.ask("DELETE", f"/api/v1/tokens/{number}")
    print_json({"revoked": number}) if as_json else click.echo(f"token {number} opens nothing any more.")
