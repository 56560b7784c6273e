"""`nvrctl hub`: set up a hub, its people, tokens and one-time codes."""

from __future__ import annotations

import functools
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nvr.errors import NvrError
from tools.nvrctl.output import FILE, FOLDER, confirm, json_option, many, print_json, print_table, yes_option

if TYPE_CHECKING:
    from tools.nvrctl.hub_client import HubClient


class CodesUnreadable(NvrError):
    """The file with the codes is not one."""


@click.group()
def hub() -> None:
    """Set up a hub, its people, tokens and one-time codes.

    Which hub: --hub URL, or the variable NVRCTL_HUB. Who asks: --token-file FILE (or NVRCTL_TOKEN_FILE), or --as NAME, which
    asks for the password.

    \b
    Examples:
        nvrctl hub init hub-data --url https://hub.example.org
        nvrctl hub code import cards/codes.json --hub https://hub.example.org --token-file token
        nvrctl hub user add ibu-ani --role operator --hub https://hub.example.org --as admin
    """


def _hub_options(command):  # type: ignore[no-untyped-def]
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
        from tools.nvrctl.hub_client import HubClient

        if (token_file is None) == (as_name is None):
            raise click.UsageError("Say who asks: --token-file FILE, or --as NAME.")
        token = token_file.read_text("utf-8").strip() if token_file else ""
        with HubClient(url, token, fingerprint) as client:
            if as_name is not None:
                _log_in(client, as_name, password_file)
            return command(*arguments, client=client, **more)

    return with_client


def _log_in(client: HubClient, name: str, password_file: Path | None) -> None:
    from tools.nvrctl.hub_client import HubRefused

    if password_file is not None:
        password = password_file.read_text("utf-8").rstrip("\r\n")
    elif sys.stdin.isatty():
        password = click.prompt(f"Password of {name}", hide_input=True, err=True)
    else:
        raise click.UsageError("--as needs --password-file here: nobody can be asked.")
    try:
        client.log_in(name, password)
    except HubRefused as refused:
        if (
            "totp" not in str(refused).lower() and "second factor" not in str(refused).lower()
        ) or not sys.stdin.isatty():
            raise
        client.log_in(name, password, totp=click.prompt("Code of the second factor", err=True))


# -- init ----------------------------------------------------------------------------------------------


@hub.command()
@click.argument("folder", type=FOLDER)
@click.option("--url", required=True, help="Address by which boxes and people reach it.")
@click.option(
    "--listen",
    default="127.0.0.1:8443",
    show_default=True,
    metavar="HOST:PORT",
    help="Where it listens; behind a web server with a certificate this machine alone will do.",
)
@click.option("--self-signed", is_flag=True, help="Make a certificate of its own; boxes know it by its fingerprint.")
@json_option
def init(folder: Path, url: str, listen: str, self_signed: bool, as_json: bool) -> None:
    """Make a folder into a hub on this machine: settings, keys, tables, and the link that makes the first administrator.

    What is there already stays as it is. TLS: with --self-signed the hub has a certificate of its own, whose fingerprint goes into
    the site files; without, a web server in front of it (caddy, nginx) brings one of a public authority.

    \b
    Examples:
        nvrctl hub init /srv/hub --url https://hub.example.org
        nvrctl hub init /srv/hub --url https://10.0.0.5:8443 --listen 0.0.0.0:8443 --self-signed
    """
    from urllib.parse import urlsplit

    from tools.nvrctl import hub_folder

    if urlsplit(url).scheme != "https" or not urlsplit(url).hostname:
        raise click.BadParameter("An address such as https://hub.example.org is wanted.", param_hint="--url")
    made = hub_folder.make(folder, url, listen, self_signed=self_signed)
    if as_json:
        print_json({"folder": str(folder), "url": url, "fingerprint": made.fingerprint or None, "told": made.told})
        return
    click.echo(made.told)
    if not made.wrote_settings:
        click.echo(f"{folder / 'hub.yaml'} was there and stays as it is.")
    if made.fingerprint:
        click.echo(f"fingerprint: {made.fingerprint}\n    for `nvrctl site new --hub {url} --fingerprint ...`")
    else:
        click.echo(
            f"TLS: put a web server with a certificate for {urlsplit(url).hostname} in front of {listen}, or begin again with --self-signed."
        )
    click.echo(f"Next: nvr hub run --data {folder}")


# -- users ---------------------------------------------------------------------------------------------


@hub.group()
def user() -> None:
    """People of the hub.

    \b
    Example:
        nvrctl hub user ls --as admin
    """


def _link(url: str, code: str | None) -> str | None:
    return f"{url.rstrip('/')}/enter#{code}" if code else None


@user.command("ls")
@_hub_options
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
@_hub_options
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
@_hub_options
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
@_hub_options
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
    from urllib.parse import quote

    return quote(text, safe="")


# -- tokens --------------------------------------------------------------------------------------------


@hub.group()
def token() -> None:
    """Tokens for programs.

    \b
    Example:
        nvrctl hub token ls --as admin
    """


@token.command("ls")
@_hub_options
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
            _day(each.get("expires_ms")),
            _day(each.get("used_ms")),
        ]
        for each in found
    ]
    print_table(["id", "user", "what for", "may", "until", "used"], rows, right=(0,))


def _day(ms: Any) -> str:
    return (
        datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d")
        if isinstance(ms, int) and 0 < ms < 253_402_214_400_000
        else "-"
    )


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
@_hub_options
@json_option
def add_token(
    client: HubClient, title: str, scopes: tuple[str, ...], days: int, out: Path | None, as_json: bool
) -> None:
    """Make a token for a program. It is shown once, or written into a file.

    \b
    Example:
        nvrctl hub token add laptop-of-joe --scope administer --out token --as admin
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
@_hub_options
@json_option
def revoke_token(client: HubClient, number: int, as_json: bool) -> None:
    """Take a token back; it opens nothing from now on.

    \b
    Example:
        nvrctl hub token revoke 7 --as admin
    """
    client.ask("DELETE", f"/api/v1/tokens/{number}")
    print_json({"revoked": number}) if as_json else click.echo(f"token {number} opens nothing any more.")


# -- codes ---------------------------------------------------------------------------------------------


@hub.group()
def code() -> None:
    """One-time codes with which boxes enrol.

    \b
    Example:
        nvrctl hub code ls --token-file token
    """


@code.command("ls")
@_hub_options
@json_option
def list_codes(client: HubClient, as_json: bool) -> None:
    """List codes: which are open, and which box used one. The codes themselves are nowhere.

    \b
    Example:
        nvrctl hub code ls --token-file token
    """
    found = client.ask("GET", "/api/v1/codes").get("codes", [])
    if as_json:
        print_json({"codes": found})
        return
    rows = [
        [
            str(each.get("box") or "any"),
            str(each.get("site") or "any"),
            str(each.get("by") or "-"),
            _day(each.get("expires_ms")),
            f"used {_day(each.get('used_ms'))}" if each.get("used_by") or each.get("used_ms") else "open",
        ]
        for each in found
    ]
    print_table(["box", "site", "by", "until", "state"], rows)


@code.command("import")
@click.argument("file", type=FILE, default=Path("cards/codes.json"))
@_hub_options
@json_option
def import_codes(file: Path, client: HubClient, as_json: bool) -> None:
    """Tell the hub the codes of cards that were written; it gets their hashes, the codes are on the cards alone.

    May be run again: what the hub knows already stays as it is. Codes of cards that were written anew are taken back.

    \b
    Example:
        nvrctl hub code import cards/codes.json --hub https://hub.example.org --token-file token
    """
    from tools.nvrctl.hub_client import HubRefused

    told: dict[str, list[str]] = {"new": [], "known": [], "revoked": [], "other hub": []}
    for each in codes_in(file):
        if each["hub"].rstrip("/") != client.url.rstrip("/"):
            told["other hub"].append(each["box"])
        elif each["is_revoked"]:
            try:
                client.ask("DELETE", f"/api/v1/codes/{each['code_hash']}")
                told["revoked"].append(each["box"])
            except HubRefused as refused:
                if refused.status not in (404, 405):  # never known there, or used: nothing to take back
                    raise
        else:
            try:
                client.ask(
                    "POST", "/api/v1/codes", {key: each[key] for key in ("code_hash", "site", "box", "expires_at")}
                )
                told["new"].append(each["box"])
            except HubRefused as refused:
                if refused.status != 409:
                    raise
                told["known"].append(each["box"])
    if as_json:
        print_json(told)
        return
    for kind, boxes in told.items():
        if boxes:
            what = {
                "new": "told to the hub",
                "known": "known there already",
                "revoked": "taken back",
                "other hub": "for another hub, left out",
            }[kind]
            click.echo(f"{many(len(boxes), 'code')} {what}: {', '.join(boxes)}")
    if not any(told.values()):
        click.echo("there is no code in it")


def codes_in(file: Path) -> list[dict[str, Any]]:
    """The entries of a codes.json. Raises CodesUnreadable."""
    import re

    try:
        entries = json.loads(file.read_bytes())["codes"]
        for each in entries:
            if not re.fullmatch(r"[0-9a-f]{64}", each["code_hash"]) or not all(
                isinstance(each[key], str) for key in ("site", "box", "hub", "expires_at")
            ):
                raise ValueError(f"the entry for {each.get('box')!r} is not whole")
            each["is_revoked"] = bool(each.get("is_revoked"))
        return list(entries)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CodesUnreadable(
            f"{file} holds no codes: {error}", hint="`nvrctl card write` writes it: cards/codes.json."
        ) from error


@code.command("new")
@click.option("--box", default="", help="Only for a box of this name.")
@click.option("--site", default="", help="Only for a box of this site.")
@click.option("--days", type=click.IntRange(1, 90), default=30, show_default=True, help="How long it may be used.")
@_hub_options
@json_option
def new_code(client: HubClient, box: str, site: str, days: int, as_json: bool) -> None:
    """Print a new one-time code for a card that is there already: it goes into its site file, as `code:` below `hub:`.

    \b
    Example:
        nvrctl hub code new --box waihaong-1 --token-file token
    """
    made = client.ask("POST", "/api/v1/codes", {"box": box or None, "site": site or None, "valid_hours": days * 24})
    print_json({"code": made.get("code"), "expires_ms": made.get("expires_ms")}) if as_json else click.echo(
        made.get("code")
    )
