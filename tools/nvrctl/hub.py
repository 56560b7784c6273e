"""`nvrctl hub`: set up a hub, its people, tokens and one-time codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from nvr.errors import NvrError
from tools.nvrctl.hub_access import day_text, hub_options
from tools.nvrctl.hub_client import HubClient
from tools.nvrctl.hub_people import token, user
from tools.nvrctl.output import FILE, FOLDER, json_option, many, print_json, print_table


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


hub.add_command(user)
hub.add_command(token)


# -- codes ---------------------------------------------------------------------------------------------


@hub.group()
def code() -> None:
    """One-time codes with which boxes enrol.

    \b
    Example:
        nvrctl hub code ls --token-file token
    """


@code.command("ls")
@hub_options
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
            day_text(each.get("expires_ms")),
            f"used {day_text(each.get('used_ms'))}" if each.get("used_by") or each.get("used_ms") else "open",
        ]
        for each in found
    ]
    print_table(["box", "site", "by", "until", "state"], rows)


@code.command("import")
@click.argument("file", type=FILE, default=Path("cards/codes.json"))
@hub_options
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
                client.ask(
                    "POST",
                    "/api/v1/codes",
                    {"code_hash": each["code_hash"], "box": each["box"], "site": each["site"], "revoke": True},
                )
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
@hub_options
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
