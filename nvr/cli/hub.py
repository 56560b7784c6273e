"""`nvr hub`: be the hub, make its database, let boxes and people in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nvr.cli.options import Command, json_option, print_json

if TYPE_CHECKING:
    from nvr.hub.settings import HubSettings


def hub_options(command: Command) -> Command:
    """--data, --database, --objects: which hub."""
    command = click.option(
        "--objects", metavar="FOLDER|s3://..", help="Where clips lie, instead of the setting `objects`."
    )(command)
    command = click.option(
        "--database", metavar="URL", help="postgresql+psycopg://.. or sqlite:///.., instead of the setting `database`."
    )(command)
    return click.option(
        "--data", "data_dir", type=click.Path(file_okay=False, path_type=Path), default=Path("hub-data"), show_default=True,
        help="Directory of the hub, with its hub.yaml.",
    )(command)  # fmt: skip


def _settings(data_dir: Path, database: str | None, objects: str | None, **more: Any) -> HubSettings:
    from nvr.hub.settings import load

    return load(data_dir, database=database, objects=objects, **more)


@click.group()
def hub() -> None:
    """The hub: where boxes report, and where people see them."""


@hub.command()
@click.option(
    "--listen", metavar="HOST:PORT", help="Instead of the setting `listen`; 127.0.0.1:8443 where there is none."
)
@hub_options
@json_option
def run(data_dir: Path, database: str | None, objects: str | None, listen: str | None, as_json: bool) -> None:
    """Serve boxes and people until stopped by Ctrl-C or SIGTERM.

    A new directory becomes a complete hub: SQLite and a folder. With --json it prints its address as a line of JSON.

    \b
    Examples:
        nvr hub run --data hub-data
        nvr hub run --data hub-data --listen 127.0.0.1:8444
    """
    from nvr import systemd
    from nvr.hub import process

    systemd.set_up_logging("hub")
    settings = _settings(data_dir, database, objects, listen=listen)

    def tell(address: str) -> None:
        if as_json:
            print_json({"kind": "hub", "address": address})
        else:
            click.echo(f"hub at {settings.url or address}")

    process.serve(settings, tell)


@hub.command()
@hub_options
@json_option
def init(data_dir: Path, database: str | None, objects: str | None, as_json: bool) -> None:
    """Make the directory, the tables and the place for objects, and say whether all of them can be used.

    Does nothing to what is there already. While nobody can administer the hub, it prints a one-time link that
    makes the first administrator, within a day; there is no default password.

    \b
    Example:
        nvr hub init --data hub-data --database postgresql+psycopg://hub@/hub
    """
    import time

    from nvr.hub.database import Store, migrate
    from nvr.hub.people import access
    from nvr.hub.storage import open_blobs

    settings = _settings(data_dir, database, objects)
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    store = Store(settings.database_url)
    _, now = migrate(store, settings.data_dir)
    open_blobs(settings.objects_url, settings.data_dir).check()
    link = access.link_for_nobody(
        store, "city", settings.url or f"http://{settings.listen}", time.time_ns() // 1_000_000
    )
    store.close()
    if as_json:
        print_json({"data": str(settings.data_dir), "revision": now, "link": link})
    else:
        click.echo(f"The hub in {settings.data_dir} is ready (tables {now}). Next: nvr hub run --data {data_dir}")
        if link:
            click.echo(f"Then open this once, within a day, to be its first administrator:\n{link}")


@hub.command()
@hub_options
@json_option
def migrate(data_dir: Path, database: str | None, objects: str | None, as_json: bool) -> None:
    """Bring the tables to this version. Make a backup first; stop older hub processes.

    SQLite is migrated by `nvr hub run` as well; PostgreSQL only by this.

    \b
    Example:
        nvr hub migrate --data hub-data
    """
    from nvr.hub import database as database_room

    settings = _settings(data_dir, database, objects)
    store = database_room.Store(settings.database_url)
    before, after = database_room.migrate(store, settings.data_dir)
    store.close()
    if as_json:
        print_json({"before": before, "after": after})
    else:
        click.echo(f"tables: {before or 'none'} -> {after}" if before != after else f"tables: {after}, nothing to do")


@hub.command()
@click.option("--tenant", default="city", show_default=True, help="Whose box it will be.")
@click.option("--box", "box_name", default="", help="Only for a box of this name.")
@click.option("--site", "site_name", default="", help="Only for a box of this site.")
@click.option("--days", type=click.IntRange(1, 3650), default=90, show_default=True, help="How long it may be used.")
@hub_options
@json_option
def code(
    data_dir: Path,
    database: str | None,
    objects: str | None,
    tenant: str,
    box_name: str,
    site_name: str,
    days: int,
    as_json: bool,
) -> None:
    """Print a new one-time code, with which one box enrols. It is shown once; the hub keeps its hash.

    \b
    Example:
        nvr hub code --data hub-data --box waihaong-1
    """
    import time

    from nvr.hub import identity
    from nvr.hub.database import open_store

    settings = _settings(data_dir, database, objects)
    store = open_store(settings.database_url, settings.data_dir)
    with store.writing() as connection:
        tenant_id = identity.tenant_id(connection, tenant)
        if tenant_id is None:
            raise click.UsageError(f"There is no tenant {tenant!r}.")
        text = identity.add_code(
            connection, tenant_id=tenant_id, now_ms=time.time_ns() // 1_000_000, site=site_name, box=box_name, by_user="nvr hub code",
            valid_ms=days * 24 * 3600 * 1000,
        )  # fmt: skip
    store.close()
    if as_json:
        print_json({"code": text, "tenant": tenant, "box": box_name, "site": site_name, "days": days})
    else:
        click.echo(text)


@hub.command()
@click.argument("name")
@click.option(
    "--role",
    "roles",
    multiple=True,
    required=True,
    metavar="ROLE[@PLACE]",
    help="viewer, operator, mayor or administrator; everywhere, or at one place. May be repeated.",
)
@click.option("--tenant", default="city", show_default=True, help="Whose user it is.")
@click.option(
    "--ask-password", is_flag=True, help="Ask for the password here, instead of printing a link that sets it."
)
@hub_options
@json_option
def user(
    name: str,
    roles: tuple[str, ...],
    tenant: str,
    ask_password: bool,
    data_dir: Path,
    database: str | None,
    objects: str | None,
    as_json: bool,
) -> None:
    """Make a user or give one other roles, and print a one-time link that sets the password.

    The first user of a hub is made like this; others are made on its pages.

    \b
    Examples:
        nvr hub user wati --role administrator --data hub-data
        nvr hub user budi --role operator@puskesmas-waihaong --data hub-data
    """
    import time

    from nvr.hub import identity
    from nvr.hub.database import open_store
    from nvr.hub.people import access

    settings = _settings(data_dir, database, objects)
    password = click.prompt("Password", hide_input=True, confirmation_prompt=True) if ask_password else None
    store = open_store(settings.database_url, settings.data_dir)
    with store.reading() as connection:
        tenant_id = identity.tenant_id(connection, tenant)
        if tenant_id is None:
            raise click.UsageError(f"There is no tenant {tenant!r}.")
        grants: list[tuple[str, int | None]] = []
        for each in roles:
            role, at, place = each.partition("@")
            place_id = identity.place_id(connection, tenant_id, place) if at else None
            if at and place_id is None:
                raise click.UsageError(f"There is no place {place!r}; places appear when their boxes report.")
            grants.append((role, place_id))
    token = access.set_user(store, tenant, name, password, grants, time.time_ns() // 1_000_000)
    store.close()
    link = f"{settings.url.rstrip('/') or f'http://{settings.listen}'}/enter#{token}" if token else None
    if as_json:
        print_json({"user": name, "roles": list(roles), "link": link})
    else:
        click.echo(link or f"{name} can log in.")


@hub.command()
@click.argument("user_name", metavar="USER")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    help="see, footage, act, report, health, hold, metrics ... May be repeated.",
)
@click.option("--title", default="command line", show_default=True, help="What it is for; shown in the list of tokens.")
@click.option("--tenant", default="city", show_default=True, help="Whose user it is.")
@hub_options
@json_option
def token(
    user_name: str,
    scopes: tuple[str, ...],
    title: str,
    tenant: str,
    data_dir: Path,
    database: str | None,
    objects: str | None,
    as_json: bool,
) -> None:
    """Print a new API token of a user, for programs. It is shown once; it can do what the user can and the scopes name.

    \b
    Example:
        nvr hub token wati --scope metrics --title prometheus --data hub-data
    """
    import time

    from nvr.hub.database import open_store
    from nvr.hub.people import access

    settings = _settings(data_dir, database, objects)
    store = open_store(settings.database_url, settings.data_dir)
    text = access.create_token(store, tenant, user_name, title, scopes, time.time_ns() // 1_000_000)
    store.close()
    if as_json:
        print_json({"token": text, "user": user_name, "scopes": list(scopes)})
    else:
        click.echo(text)
