"""`nvrctl box`: find boxes, and see how they are, on their own network or through the hub; looking after them is in box_care.py."""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nvr.errors import NvrError
from tools.nvrctl import box_by_hub, secret
from tools.nvrctl.box_by_hub import FarAway, hub_option, lan_only
from tools.nvrctl.box_care import ENVIRONMENT, logs, reboot, update, wipe
from tools.nvrctl.hub_access import hub_client
from tools.nvrctl.output import FILE, json_option, print_json, print_table, printable, size_text

if TYPE_CHECKING:
    from tools.nvrctl.box_page import BoxPage
    from tools.nvrctl.hub_client import HubClient


@click.group()
def box() -> None:
    """Find boxes and look after them.

    BOX is a name that `nvrctl box find` shows, or an address. Pictures and status come from the box's page, with its password; logs,
    updates and restarts go by SSH, with the key that is on its card.

    \b
    Examples:
        nvrctl box find
        nvrctl box status waihaong-1
        nvrctl box aim waihaong-1 --camera entrance
    """


def _page_options(command):  # type: ignore[no-untyped-def]
    """The box's page, logged in; the command gets a `page`."""

    @click.argument("name", metavar="BOX")
    @click.option("--port", type=click.IntRange(1, 65535), default=8080, show_default=True, help="Port of the page.")
    @click.option("--password-file", type=FILE, help="Password of the page, where nobody can be asked.")
    @functools.wraps(command)
    def with_page(*arguments: Any, name: str, port: int, password_file: Path | None, **more: Any) -> Any:
        from tools.nvrctl.box_page import BoxPage

        with BoxPage(_address(name, port)) as page:
            page.log_in(secret.password(f"Password of the page of {name}", password_file, "The page"))
            return command(*arguments, name=name, page=page, **more)

    return with_page


def _address(name: str, port: int) -> str:
    from tools.nvrctl import lan

    host = lan.address_of(name)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


# -- find ----------------------------------------------------------------------------------------------


@box.command()
@click.option(
    "--wait", "wait_s", type=click.FloatRange(0.5, 60), default=3.0, show_default=True, help="Seconds to listen."
)
@click.option(
    "--interface", metavar="ADDRESS", help="Address of this laptop on the boxes' network, where there are several."
)
@hub_option
@json_option
@click.pass_context
def find(context: click.Context, wait_s: float, interface: str | None, far: FarAway | None, as_json: bool) -> None:
    """Find the boxes on this network: each announces its page by multicast DNS. Exit status 1 when there is none.

    With --hub: the boxes that the hub knows, wherever they are.

    \b
    Examples:
        nvrctl box find
        nvrctl box find --hub https://hub.example.org --token-file token
    """
    if far is not None:
        context.exit(_find_by_hub(far, as_json))
    from tools.nvrctl import lan

    found = lan.boxes(wait_s=wait_s, interface=interface)
    if as_json:
        print_json(
            {
                "boxes": [
                    {
                        "box": each.name,
                        "address": each.address,
                        "port": each.port,
                        "page": each.page,
                        **dict(each.facts),
                    }
                    for each in found
                ]
            }
        )
    elif found:
        print_table(
            ["box", "page", "says"],
            [[each.name, each.page, " ".join(f"{key}={value}" for key, value in each.facts)] for each in found],
        )
        click.echo(f"Next: nvrctl box status {found[0].name}")
    else:
        click.echo("no box answered")
        click.echo(
            "        A box needs a minute to start. Its light blinks when its site file is faulty; then the card says what is wrong, in site/RESULT.txt."
        )
    context.exit(0 if found else 1)


def _find_by_hub(far: FarAway, as_json: bool) -> int:
    with far.client() as client:
        found = box_by_hub.boxes(client)
    if as_json:
        print_json({"boxes": found})
    elif found:
        rows = [[str(each.get(key) or "-") for key in ("name", "site", "state", "software", "id")] for each in found]
        print_table(["box", "site", "state", "version", "id"], rows)
    else:
        click.echo("the hub knows no box")
    return 0 if found else 1


# -- by the page ---------------------------------------------------------------------------------------


@box.command()
@click.argument("name", metavar="BOX")
@click.option("--port", type=click.IntRange(1, 65535), default=8080, show_default=True, help="Port of the page.")
@click.option("--password-file", type=FILE, help="Password of the page, where nobody can be asked.")
@click.option(
    "--hub",
    "hub_url",
    metavar="URL",
    envvar="NVRCTL_HUB",
    help="Ask the hub instead: for boxes that are far away.  [env: NVRCTL_HUB]",
)
@click.option(
    "--token-file", type=FILE, envvar="NVRCTL_TOKEN_FILE", help="Token for the hub.  [env: NVRCTL_TOKEN_FILE]"
)
@click.option("--as", "as_name", metavar="NAME", help="Ask the hub as this user; --password-file is then of this user.")
@click.option(
    "--fingerprint", default="", help="SHA-256 of the hub's certificate, where no public authority vouches for it."
)
@json_option
@click.pass_context
def status(
    context: click.Context,
    name: str,
    port: int,
    password_file: Path | None,
    hub_url: str | None,
    token_file: Path | None,
    as_name: str | None,
    fingerprint: str,
    as_json: bool,
) -> None:
    """Tell whether a box records, what each camera sends, and how its disk and clock are. Exit status 1 when something is wrong.

    \b
    Examples:
        nvrctl box status waihaong-1
        nvrctl box status waihaong-1 --hub https://hub.example.org --token-file token
        nvrctl box status waihaong-1 --hub https://hub.example.org --as admin
    """
    if as_name is not None and not hub_url:
        raise click.UsageError("--as names a user of the hub: say which, with --hub URL.")
    if hub_url and (password_file is None or as_name is not None):
        with hub_client(hub_url, token_file, as_name, password_file, fingerprint) as client:
            context.exit(_status_by_hub(name, client, as_json))
    from tools.nvrctl.box_page import BoxPage

    with BoxPage(_address(name, port)) as page:
        session = page.log_in(secret.password(f"Password of the page of {name}", password_file, "The page"))
        found = page.get("/api/status")
    streams = found.get("streams", {})
    wrong = [stream for stream, each in streams.items() if not each.get("recording")]
    disk = found.get("disk", {})
    trouble = (
        bool(wrong) or bool(disk.get("cause")) or bool(found.get("troubles")) or found.get("recorder_silent_s", 0) > 10
    )
    if as_json:
        print_json({"box": session.get("box"), "site": session.get("site"), "ok": not trouble, **found})
    else:
        _print_status(session, found, wrong)
    context.exit(1 if trouble else 0)


def _print_status(session: dict[str, Any], found: dict[str, Any], wrong: list[str]) -> None:
    streams, disk, clock = found.get("streams", {}), found.get("disk", {}), found.get("clock", {})
    click.echo(
        printable(
            f"{session.get('box')} of {session.get('site')}: records {len(streams) - len(wrong)} of {len(streams)} streams"
        )
    )
    rows = []
    for stream, each in streams.items():
        state = "recording" if each.get("recording") else f"NOT: {each.get('cause') or 'not yet'}"
        size = f"{each['width']}x{each['height']}" if each.get("width") else "-"
        rate = f"{each['bits_per_s'] / 1e6:.2f} Mbit/s" if each.get("bits_per_s") else "-"
        rows.append(
            [
                stream,
                state,
                size,
                f"{each['pictures_per_s']:.1f}/s" if each.get("pictures_per_s") else "-",
                rate,
                str(each.get("last_fault") or ("" if each.get("recording") else each.get("detail")) or "")[:60],
            ]
        )
    print_table(
        ["  stream", "state", "size", "rate", "bits", "last trouble"], [["  " + row[0], *row[1:]] for row in rows]
    )
    if disk.get("total_bytes"):
        click.echo(
            f"disk: {size_text(disk['free_bytes'])} free of {size_text(disk['total_bytes'])}{', TROUBLE: ' + str(disk['cause']) if disk.get('cause') else ''}"
        )
    else:
        click.echo(f"disk: TROUBLE: {disk.get('cause')} {disk.get('detail') or ''}")
    for each in found.get("troubles") or ():  # a box of an older version says nothing of it
        click.echo(printable(f"{each.get('kind')}: TROUBLE: {each.get('detail')}"))
    states = {0: "unknown: never set since the box started", 1: "plausible, not disciplined", 2: "synchronised"}
    click.echo(f"clock: {states.get(clock.get('state'), 'unknown')}")


def _status_by_hub(name: str, client: HubClient, as_json: bool) -> int:
    found = box_by_hub.named(client, name)
    if not found:
        raise NvrError(
            f"the hub knows no box {name}",
            hint="Has it enrolled? `nvrctl hub code ls` tells which codes are still open.",
        )
    if as_json:
        print_json({"boxes": found})
    for each in found if not as_json else ():
        click.echo(
            printable(
                f"{each.get('name')} of {each.get('site')}: {each.get('state')}, version {each.get('software') or '?'}"
            )
        )
        rows = [
            [
                "  " + str(camera.get("name")),
                str(camera.get("place") or "-"),
                str(camera.get("state")),
                str(camera.get("why") or ""),
            ]
            for camera in each.get("cameras") or []
        ]
        if rows:
            print_table(["  camera", "place", "state", "why"], rows)
    return 0 if all(each.get("state") == "here" for each in found) else 1


@box.command()
@lan_only("the page would need a way in from the internet, and a box opens none.")
@click.argument("name", metavar="BOX")
@click.option("--port", type=click.IntRange(1, 65535), default=8080, show_default=True, help="Port of the page.")
@click.option("--link", is_flag=True, help="A new one-time link (by SSH), with which the password is set.")
@click.option("--open", "open_it", is_flag=True, help="Open it in the browser.")
@click.option("--ssh-user", default="root", show_default=True)
@click.option("--ssh-port", type=click.IntRange(1, 65535), default=22, show_default=True)
@click.option("--ssh-key", type=FILE, help="Private key, instead of what ssh itself would take.")
@json_option
def page(
    name: str, port: int, link: bool, open_it: bool, ssh_user: str, ssh_port: int, ssh_key: Path | None, as_json: bool
) -> None:
    """Print the address of a box's page; with --link one that opens it once, to set the password.

    \b
    Examples:
        nvrctl box page waihaong-1 --open
        nvrctl box page waihaong-1 --link
    """
    address = _address(name, port)
    if link:
        from tools.nvrctl import lan
        from tools.nvrctl.ssh import Shell

        host = lan.address_of(name)
        address = (
            Shell(host, ssh_user, ssh_port, ssh_key)
            .run(f'{ENVIRONMENT} nvr web link --site "$NVR_SITE" --data "$NVR_DATA" --host {host}')
            .strip()
        )
    if open_it:
        click.launch(address)
    print_json({"page": address}) if as_json else click.echo(address)


@box.command()
@lan_only("a live picture for focusing needs the box's own network.")
@click.option("--camera", required=True, metavar="NAME[/STREAM]", help="Camera to aim.")
@click.option(
    "--every",
    "every_s",
    type=click.FloatRange(0.2, 60),
    default=1.0,
    show_default=True,
    help="Seconds from picture to picture.",
)
@click.option("--count", type=click.IntRange(1), help="End after so many pictures.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Keep the latest picture in this JPEG file."
)
@_page_options
@json_option
def aim(
    page: BoxPage, name: str, camera: str, every_s: float, count: int | None, out: Path | None, as_json: bool
) -> None:
    """Show what a camera sees now, and how sharp it is, until Ctrl-C: for aiming and focusing.

    Turn the lens until the figure stops rising; beside it stands the best so far. It compares pictures of this camera at this
    place, and nothing else. Needs the decoder of the extra `codecs`.

    \b
    Example:
        nvrctl box aim waihaong-1 --camera entrance
    """
    import shutil

    from tools.nvrctl import aim as aiming
    from tools.nvrctl.records import write

    stream = camera if "/" in camera else f"{camera}/main"
    best, number = 0.0, 0
    while count is None or number < count:
        if number:
            time.sleep(every_s)
        number += 1
        rgb = aiming.frame_of(page.latest_keyframe(stream))
        figure = aiming.sharpness(rgb)
        best = max(best, figure)
        if out is not None:
            write(out, aiming.jpeg(rgb))
        if as_json:
            print_json(
                {"stream": stream, "sharpness": figure, "best": best, "width": rgb.shape[1], "height": rgb.shape[0]}
            )
            continue
        line = f"{stream}: sharpness {figure:8.1f}  {aiming.bar(figure, best)}  best {best:.1f}"
        if aiming.can_draw():
            size = shutil.get_terminal_size()
            click.echo("\x1b[H\x1b[2J" + aiming.drawn(rgb, size.columns, size.lines - 3))
        click.echo(line)


for _command in (logs, update, reboot, wipe):
    box.add_command(_command)
