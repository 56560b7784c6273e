"""`nvr web`: the box's page."""

from __future__ import annotations

import click

from nvr.cli.options import Place, json_option, place_options, print_json


@click.group()
def web() -> None:
    """The box's page."""


@web.command()
@click.option("--host", help="Name or address by which browsers reach this box; found out where it is not given.")
@place_options
@json_option
def link(place: Place, host: str | None, as_json: bool) -> None:
    """Print a new one-time link that opens the page, to set or change the password.

    It works once, within 24 hours; the one before stops working. Whoever can run this on the box may enter.

    \b
    Example:
        nvr web link --site site.yaml
    """
    from nvr.cli.addresses import page_address
    from nvr.web import access

    address = access.create_one_time_link(place.data_dir, page_address(place.site, host))
    if as_json:
        print_json({"link": address})
    else:
        click.echo(address)
