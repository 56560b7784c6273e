"""`nvrctl box logs|update|reboot|wipe`: by SSH on the box's own network, or through the hub as far as it may (box_by_hub.py)."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tools.nvrctl import box_by_hub
from tools.nvrctl.box_by_hub import FarAway, hub_option, lan_only
from tools.nvrctl.output import FILE, confirm, json_option, print_json, printable, size_text, yes_option

if TYPE_CHECKING:
    from tools.nvrctl.ssh import Shell

# What firmware/firstboot.py leaves for services: NVR_SITE and NVR_DATA.
ENVIRONMENT = "set -a; . /run/nvr-setup/environment; set +a;"
BUNDLE_PLACE = "/data/system/update.raucb"


def ssh_options(command):  # type: ignore[no-untyped-def]
    """How a box is entered; the command gets a `shell`."""

    @click.argument("name", metavar="BOX")
    @click.option("--ssh-user", default="root", show_default=True)
    @click.option("--ssh-port", type=click.IntRange(1, 65535), default=22, show_default=True)
    @click.option("--ssh-key", type=FILE, help="Private key, instead of what ssh itself would take.")
    @functools.wraps(command)
    def with_shell(*arguments: Any, name: str, ssh_user: str, ssh_port: int, ssh_key: Path | None, **more: Any) -> Any:
        from tools.nvrctl import lan
        from tools.nvrctl.ssh import Shell

        if more.get("far") is not None:
            return command(*arguments, name=name, shell=None, **more)
        return command(*arguments, name=name, shell=Shell(lan.address_of(name), ssh_user, ssh_port, ssh_key), **more)

    return with_shell


@click.command()
@click.option(
    "-n", "--lines", type=click.IntRange(1, 100_000), default=100, show_default=True, help="How many of the last lines."
)
@click.option("-f", "--follow", is_flag=True, help="Go on printing until Ctrl-C.")
@click.option("--all", "everything", is_flag=True, help="The whole system's, not only nvr's.")
@hub_option
@ssh_options
@json_option
def logs(
    shell: Shell, name: str, lines: int, follow: bool, everything: bool, far: FarAway | None, as_json: bool
) -> None:
    """Print a box's log.

    With --hub: the newest lines of nvr's own services, 500 and 64 KiB at most. The hub keeps who read them in its audit log.

    \b
    Examples:
        nvrctl box logs waihaong-1
        nvrctl box logs waihaong-1 -f
        nvrctl box logs waihaong-1 --hub https://hub.example.org --token-file token
    """
    if far is not None:
        if follow or everything or lines > 500:
            raise click.UsageError("Through the hub: at most 500 lines, of nvr's own services, once.")
        with far.client() as client:
            told = box_by_hub.ask(client, box_by_hub.one(client, name), "logs", lines=lines)
        for line in told.get("lines") or ():
            print_json({"line": line}) if as_json else click.echo(printable(str(line)))
        return
    command = [
        "journalctl",
        "--no-pager",
        "-n",
        str(lines),
        *([] if everything else ["-u", "nvr*"]),
        *(["-o", "json"] if as_json else []),
    ]
    if follow:
        shell.follow([*command, "-f"])
    else:
        click.echo(shell.run(command), nl=False)


@click.command()
@hub_option
@ssh_options
@click.argument("bundle", type=FILE)
@click.option("--version", metavar="V", help="With --hub: what it is called there, where its file name does not say.")
@click.option("--no-wait", is_flag=True, help="With --hub: end when it is ordered.")
@json_option
@yes_option
def update(
    shell: Shell, name: str, far: FarAway | None, bundle: Path, version: str | None, no_wait: bool, as_json: bool, yes: bool
) -> None:  # fmt: skip
    """Send a signed bundle to a box, which installs it into its other slot and starts from there.

    The box itself checks the signature. If it does not record again after the start, it goes back to the slot it came from.

    With --hub the bundle is stored at the hub, and the box fetches it over its own link, resuming where that breaks. To update many
    boxes, one first and the others when that one records, use the hub's page.

    \b
    Examples:
        nvrctl box update waihaong-1 nvr-1.2.raucb
        nvrctl box update waihaong-1 nvr-1.2.raucb --hub https://hub.example.org --token-file token
    """
    confirm(f"Update {name} with {bundle.name} ({size_text(bundle.stat().st_size)}) and restart it?", yes=yes)
    if far is not None:
        _update_by_hub(far, name, bundle, version, no_wait=no_wait, as_json=as_json)
        return
    shell.send(bundle, BUNDLE_PLACE)
    told = shell.run(
        # Restarted a second later, so that what was installed is told before the connection ends.
        f"nvr-update install --no-restart {BUNDLE_PLACE}; status=$?; rm -f {BUNDLE_PLACE}; [ $status = 0 ] || exit $status; "
        "nohup sh -c 'sleep 1; nvr-update restart' >/dev/null 2>&1 &",
        timeout_s=1800,
    )
    print_json({"box": name, "installed": bundle.name, "told": told}) if as_json else click.echo(
        f"{told.strip()}\n{name} restarts now. In two minutes: nvrctl box status {name}"
    )


def _update_by_hub(far: FarAway, name: str, bundle: Path, version: str | None, *, no_wait: bool, as_json: bool) -> None:
    from tools.nvrctl import update_by_hub

    called = update_by_hub.version_of(bundle, version)
    size_bytes = bundle.stat().st_size

    def tell(state: str, detail: str = "") -> None:
        click.echo(f"{name}: {state}{f', {printable(detail)}' if detail else ''}", err=as_json)

    with far.client() as client:
        found = box_by_hub.one(client, name)
        with click.progressbar(length=size_bytes, label=f"Sending {bundle.name}", file=sys.stderr) as bar:
            digest = update_by_hub.store(client, bundle, called, lambda sent: bar.update(sent - bar.pos))
        number = update_by_hub.begin(client, found, digest)
        tell("ordered", "the box fetches it when the hub hears it next")
        state = "ordered"
        if not no_wait:
            try:
                state, _ = update_by_hub.follow(client, number, tell)
            except KeyboardInterrupt:
                click.echo("The update goes on at the hub; its page shows how.", err=True)
                raise
    if as_json:
        print_json({"box": name, "version": called, "sha256": digest, "rollout": number, "state": state})
    elif not no_wait:
        click.echo(f"{name} runs {called} and records.")


@click.command()
@hub_option
@ssh_options
@json_option
@yes_option
def reboot(shell: Shell, name: str, far: FarAway | None, as_json: bool, yes: bool) -> None:
    """Restart a box. It misses a minute of footage, which its ledger will say.

    With --hub nvr's programs start anew and the box's system stays up: seconds are missed. A hub cannot start a system anew.

    \b
    Examples:
        nvrctl box reboot waihaong-1
        nvrctl box reboot waihaong-1 --hub https://hub.example.org --token-file token
    """
    if far is not None:
        confirm(f"Start the programs of {name} anew? It records nothing for some seconds.", yes=yes)
        with far.client() as client:
            box_by_hub.ask(client, box_by_hub.one(client, name), "restart")
        print_json({"box": name, "restarts": True}) if as_json else click.echo(f"the programs of {name} start anew")
        return
    confirm(f"Restart {name}? It records nothing for about a minute.", yes=yes)
    # Answered before it goes down, so that a closed connection is not taken for a failure.
    shell.run("nohup sh -c 'sleep 1; systemctl reboot' >/dev/null 2>&1 &")
    print_json({"box": name, "restarts": True}) if as_json else click.echo(
        f"{name} restarts. In a minute: nvrctl box status {name}"
    )


@click.command()
@lan_only("footage is deleted on the box's own network alone, so that no stolen token of the hub can.")
@click.option("--footage-only", is_flag=True, help="Keep the site file, the keys and the page's password.")
@ssh_options
@json_option
@click.option(
    "--name-again",
    "typed",
    metavar="BOX",
    help="The box's name once more, instead of being asked; --yes is not enough here.",
)
def wipe(shell: Shell, name: str, footage_only: bool, as_json: bool, typed: str | None) -> None:
    """Delete all footage of a box, and unless told otherwise also its site file, keys and passwords. It cannot be undone.

    For a box that is given away or moves to another place. What the hub has stays there.

    \b
    Example:
        nvrctl box wipe waihaong-1 --name-again waihaong-1
    """
    if typed is None:
        if not sys.stdin.isatty():
            raise click.UsageError("Nobody can be asked here, and --yes is not enough: say --name-again BOX.")
        typed = click.prompt(
            f"ALL footage{'' if footage_only else ', keys and settings'} of {name} will be deleted. Type its name",
            err=True,
        )
    if typed != name:
        raise click.UsageError(f"{typed!r} is not {name!r}: nothing was deleted.")
    shell.run(wipe_script(footage_only=footage_only), timeout_s=600)
    print_json({"box": name, "wiped": True, "footage_only": footage_only}) if as_json else click.echo(
        f"{name} is empty{'' if footage_only else '; it needs a card written anew, or a site.yaml on its card'}."
    )


def wipe_script(*, footage_only: bool) -> str:
    """What the box's shell does. It refuses a data directory that is none, and never leaves it."""
    data = (
        f"{ENVIRONMENT} set -eu; "
        # `set -e` does not see a failed test in the middle of `a && b && c`, so each says for itself what follows.
        'case "$NVR_DATA" in *..*) exit 9 ;; /data/?*|/disk/?*) ;; *) exit 9 ;; esac; test -d "$NVR_DATA" || exit 9; test ! -L "$NVR_DATA" || exit 9; '
        "systemctl stop nvr.service; "
    )
    if footage_only:
        return (
            data
            + 'for each in rings rings.disk clips events outbox updates holds.json holds.copy.json ledger journal; do rm -rf -- "$NVR_DATA/$each"; done; sync; systemctl start nvr.service'
        )
    return (
        data
        + 'find "$NVR_DATA" -mindepth 1 -xdev -delete; rm -rf -- /data/site /data/nvr/site /data/system/authorized_keys /data/system/network.yaml; sync; nohup sh -c "sleep 1; systemctl reboot" >/dev/null 2>&1 &'
    )
