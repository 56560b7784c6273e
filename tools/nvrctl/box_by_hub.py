"""Boxes that are far away: what `nvrctl box` asks of the hub instead of the box itself.

What goes through the hub is what it may ask of a box by the wire (docs/formats/wire.md); a page, a shell and deleting footage do not
(docs/decisions/0065-what-goes-through-the-hub.md).
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from nvr.errors import NvrError
from tools.nvrctl import secret
from tools.nvrctl.hub_client import HubClient
from tools.nvrctl.output import FILE

ANSWER_S = 60.0  # a box that is here answers within seconds, over a bad link in half a minute
LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class FarAway:
    """Which hub to ask, and as whom."""

    url: str
    token_file: Path | None
    fingerprint: str

    def client(self) -> HubClient:
        """Raises click.UsageError where nobody said who asks."""
        if self.token_file is None:
            raise click.UsageError("The hub wants an administrator's --token-file.")
        return HubClient(self.url, secret.read(self.token_file).strip(), self.fingerprint)


def hub_option(command):  # type: ignore[no-untyped-def]
    """--hub, --token-file, --fingerprint; the command gets `far`, None for a box on this network. The environment alone asks no hub."""

    @click.option("--hub", "hub_url", metavar="URL", help="Ask this hub, for a box that is far away.")
    @click.option(
        "--token-file", type=FILE, envvar="NVRCTL_TOKEN_FILE", help="Token for the hub.  [env: NVRCTL_TOKEN_FILE]"
    )
    @click.option("--fingerprint", default="", help="SHA-256 of the hub's certificate, where no authority vouches.")
    @functools.wraps(command)
    def with_hub(*arguments: Any, hub_url: str | None, token_file: Path | None, fingerprint: str, **more: Any) -> Any:
        return command(*arguments, far=FarAway(hub_url, token_file, fingerprint) if hub_url else None, **more)

    return with_hub


def lan_only(why: str):  # type: ignore[no-untyped-def]
    """--hub for a command that never goes through one: it says why, instead of `No such option`."""

    def refuse(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
        if value:
            raise click.UsageError(f"This does not go through the hub: {why}")

    return click.option("--hub", metavar="URL", hidden=True, expose_value=False, callback=refuse)


def boxes(client: HubClient) -> list[dict[str, Any]]:
    found = client.ask("GET", "/api/v1/boxes").get("boxes")
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def named(client: HubClient, name: str) -> list[dict[str, Any]]:
    """Those of that name, at whatever site, or the one with that id."""
    return [each for each in boxes(client) if name in (each.get("name"), each.get("id"))]


def one(client: HubClient, name: str) -> dict[str, Any]:
    """The box of that name or id. Raises NvrError where there is none, or more than one."""
    found = named(client, name)
    if not found:
        raise NvrError(f"the hub knows no box {name}", hint="`nvrctl box find --hub URL` lists those that it knows.")
    if len(found) > 1:
        ids = ", ".join(f"{each.get('id')} of {each.get('site')}" for each in found)
        raise NvrError(f"the hub knows {len(found)} boxes {name}: {ids}", hint="Give the id.")
    return found[0]


def ask(client: HubClient, box: dict[str, Any], do: str, **args: Any) -> dict[str, Any]:
    """What the box answered. Raises NvrError when it does not within ANSWER_S, or says no."""
    place = f"/api/v1/boxes/{box['id']}"
    told = client.ask("POST", f"{place}/ask", {"do": do, **args})
    end_s = time.monotonic() + ANSWER_S
    while told.get("state") in ("waiting", "sent") and time.monotonic() < end_s:
        time.sleep(LOOK_S)
        told = client.ask("GET", f"{place}/asked/{told['id']}")
    if told.get("state") == "answered":
        return told
    if told.get("state") == "refused":
        raise NvrError(f"{box.get('name')} says no: {told.get('detail')}")
    raise NvrError(
        f"{box.get('name')} has not answered within {ANSWER_S:.0f} s; to the hub it is {box.get('state')}",
        hint="It will be asked for a day, as soon as the hub hears it.",
    )
