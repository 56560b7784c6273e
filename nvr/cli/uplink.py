"""`nvr uplink`: how the box stands with its hub."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import click

from nvr.cli.options import Place, json_option, place_options, print_json, size_text

OLD_S = 20.0  # the process replaces it every three seconds


@click.group()
def uplink() -> None:
    """The way to the hub."""


@uplink.command()
@place_options
@json_option
@click.pass_context
def status(context: click.Context, place: Place, as_json: bool) -> None:
    """Say whether the hub hears this box, and what waits for it.

    Exit status 1 while it is not connected.

    \b
    Example:
        nvr uplink status --site site.yaml
    """
    told = _read(place)
    if as_json:
        print_json(told)
    else:
        for line in lines(told, place):
            click.echo(line)
    context.exit(0 if told.get("connected") else 1)


def _read(place: Place) -> dict[str, Any]:
    path = place.data_dir / "run" / "uplink.json"
    if place.site is not None and place.site.hub is None:
        return {"connected": False, "last_error": "the site file names no hub"}
    try:
        age_s = datetime.now(UTC).timestamp() - path.stat().st_mtime
        told: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {"connected": False, "last_error": "the uplink has not run since the box was started"}
    if age_s > OLD_S:
        told |= {
            "connected": False,
            "last_error": f"the uplink has said nothing for {age_s:.0f} s: does `nvr run` run?",
        }
    return told


def lines(told: dict[str, Any], place: Place) -> list[str]:
    """For people."""

    def when(ms: Any) -> str:
        return place.iso(ms * 1_000_000) if isinstance(ms, int) and ms > 0 else "never"

    found = [f"hub           {told['hub']}"] if told.get("hub") else []
    found.append(f"connected     {'since ' + when(told.get('since_ms')) if told.get('connected') else 'no'}")
    if told.get("last_error"):
        found.append(f"last error    {told['last_error']}")
    if "hub" not in told:
        return found
    found.append(f"enrolled      {'yes, as ' + str(told.get('box_id')) if told.get('enrolled') else 'no'}")
    found.append(f"last word     {when(told.get('last_ok_ms'))}")
    outbox = told.get("outbox") or {}
    by_value = ", ".join(f"{number} {name}" for name, number in (outbox.get("by_value") or {}).items()) or "nothing"
    found.append(
        f"waiting       {by_value}; {size_text(outbox.get('bytes') or 0)}, the oldest since {when(outbox.get('oldest_ms'))}"
    )
    for name, number in (outbox.get("given_up") or {}).items():
        found.append(f"{name}: {number} {outbox.get('given_up_why', '')}".rstrip())
    sent = told.get("uplink") or {}
    cap = f"{sent['cap_kbit_s']:g} kbit/s" if sent.get("cap_kbit_s") else "none"
    found.append(
        f"sent          {size_text(sent.get('sent_bytes') or 0)}, {size_text(sent.get('resent_bytes') or 0)} of it again; cap {cap}; {sent.get('breaks', 0)} breaks"
    )
    if told.get("quiet"):
        found.append("quiet hours   ordinary clips wait")
    if told.get("shed"):
        found.append(f"given up      for recording: {', '.join(told['shed'])}")
    if told.get("trouble"):
        found.append(f"trouble       {told['trouble']}")
    return found
