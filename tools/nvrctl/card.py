"""`nvrctl card`: which disks are cards, writing them, and writing each one that is put in."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nvr.errors import NvrError
from tools.nvrctl.output import FILE, FOLDER, confirm, json_option, many, print_json, print_table, size_text, yes_option

if TYPE_CHECKING:
    from tools.nvrctl.burn import Card, Verdict
    from tools.nvrctl.claims import Claims
    from tools.nvrctl.disks import DiskFacts
    from tools.nvrctl.identity import Identity
    from tools.nvrctl.image_file import ImageFile
    from tools.nvrctl.records import Records


@click.group()
def card() -> None:
    """Write images and site files to cards, many at once, and read them back.

    \b
    Examples:
        nvrctl card ls
        nvrctl card write box.img.zst /dev/sdb /dev/sdc --site sites
        nvrctl card watch box.img.zst --site sites
    """


@card.command("ls")
@json_option
def list_disks(as_json: bool) -> None:
    """List the disks of this machine, and say for each whether it may become a card.

    \b
    Example:
        nvrctl card ls
    """
    from tools.nvrctl import disks

    found = [(each, disks.refusal(each, 0)) for each in disks.all_disks() if each.size_bytes]
    if as_json:
        print_json(
            {
                "disks": [
                    {**asdict(each), "is_card": why is None, "why_not": None if why is None else str(why)}
                    for each, why in found
                ]
            }
        )
        return
    rows = [
        [
            each.path,
            size_text(each.size_bytes),
            each.transport,
            each.model or "-",
            each.contents_text(),
            "yes" if why is None else f"no: {str(why).removeprefix(each.path + ' ')}",
        ]
        for each, why in found
    ]
    print_table(["device", "size", "by", "model", "contents", "a card?"], rows, right=(1,))


def _besides_options(command):  # type: ignore[no-untyped-def]
    """What `write` and `watch` have in common; the command gets `folder` and `besides`: files that every card gets."""

    @click.option(
        "--records",
        "folder",
        type=FOLDER,
        default=Path("cards"),
        show_default=True,
        help="Where the records, the hashes of codes and the labels go.",
    )
    @click.option(
        "--ssh-key",
        "ssh_keys",
        multiple=True,
        type=FILE,
        help="Public SSH key that may enter the boxes; may be given several times.",
    )
    @click.option("--network", "network_path", type=FILE, help="network.yaml for the boxes: Wi-Fi, or a fixed address.")
    @functools.wraps(command)
    def with_besides(*arguments: Any, ssh_keys: tuple[Path, ...], network_path: Path | None, **more: Any) -> Any:
        from tools.nvrctl import identity

        besides: dict[str, bytes] = {}
        if ssh_keys:
            besides["authorized_keys"] = identity.authorized_keys(ssh_keys)
        if network_path is not None:
            besides["network.yaml"] = identity.check_network(network_path)
        return command(*arguments, besides=besides, **more)

    return with_besides


_SITE_HELP = "A folder of site files, or several: the next that have no card yet are written. One file alone: its box name is counted on for several cards."


@card.command()
@click.argument("image", type=FILE)
@click.argument("devices", nargs=-1, required=True)
@click.option(
    "--site", "sites", multiple=True, required=True, type=click.Path(exists=True, path_type=Path), help=_SITE_HELP
)
@click.option("--again", is_flag=True, help="A new card for a box that has one; the old card's code is taken back.")
@click.option(
    "--even-if-not-removable",
    is_flag=True,
    help="Write a disk that is built in, or larger than any card. Never the one this machine runs from.",
)
@click.option("--replace", is_flag=True, help="Replace a plain file also where it is no image for a box.")
@_besides_options
@json_option
@yes_option
@click.pass_context
def write(
    context: click.Context,
    image: Path,
    devices: tuple[str, ...],
    sites: tuple[Path, ...],
    folder: Path,
    besides: dict[str, bytes],
    again: bool,
    even_if_not_removable: bool,
    replace: bool,
    as_json: bool,
    yes: bool,
) -> None:
    """Write an image and a site file to SD cards, and read them back.

    All cards are written at once, from one unpacking. Each gets its own box name and one-time code; a printed label (PDF) for
    each lies in the records afterwards. A DEVICE that is no device is a plain file, for any other writer of cards.

    What makes no sense is refused: the disk this machine runs from, disks in use, disks that are not removable, cards too small; the
    image, a site file, the records; a plain file that is no image for a box, without --replace. Before anything is erased you see what it is and are asked. A card is good when all of it was read back, past the computer's memory, and
    was what had been sent, and when it really has the size it claims. The partition table is written last: whatever stops the
    writing (Ctrl-C, a pulled card, a power cut) leaves a card that looks empty, never one that looks whole and is not.

    IMAGE may be raw, .zst or .xz. A block map beside it (.bmap) saves writing what is empty; a .sha256 beside it is checked.
    Exit status 1 when any card is not good.

    \b
    Examples:
        nvrctl card write box.img.zst /dev/sdb /dev/sdc --site harbour-office.yaml
        nvrctl card write box.img.zst /dev/sd[b-k] --site sites
        nvrctl card write box.img.zst waihaong-1.img --site sites/waihaong-1.yaml
    """
    from tools.nvrctl import card_targets, image_file
    from tools.nvrctl.claims import Claims
    from tools.nvrctl.records import Records
    from tools.nvrctl.site import site_files

    targets = card_targets.targets(devices)
    records = Records(folder)
    found = image_file.look_at(image)
    paths = site_files(sites)
    card_targets.check_files(targets, found, paths, folder, may_replace=replace)
    facts = card_targets.facts(targets, found, even_if_not_removable)
    with Claims(folder) as claims:
        is_counted_on = len(sites) == 1 and sites[0].is_file()
        identities = _chosen(records, claims, paths, len(targets), again=again, is_counted_on=is_counted_on)
        _show(found, targets, facts, identities)
        confirm(f"Erase {'these' if len(targets) > 1 else 'this'} {many(len(targets), 'card')} and write?", yes=yes)
        verdicts = _written(found, targets, facts, identities, records, besides)
    _told(context, found, targets, identities, verdicts, records, as_json=as_json)


def _chosen(
    records: Records, claims: Claims, paths: Sequence[Path], count: int, *, again: bool, is_counted_on: bool
) -> list[Identity]:
    """Who the cards become, each box claimed. Raises click.UsageError for more cards than boxes, and NvrError.

    `is_counted_on`: `paths` is one site file, and the name of its box is counted on.
    """
    from tools.nvrctl import identity
    from tools.nvrctl.records import box_of

    if again or is_counted_on:
        if not is_counted_on and len(paths) != count:
            raise click.UsageError(
                f"{many(count, 'card')} and {many(len(paths), 'site file')}: --again wants one for each card, in the same order."
            )
        identities = identity.identities(paths, count)
        records.claim(identities, claims)
        if not again:
            records.check_new(identities)
        return identities
    identity.check_names([box_of(path) for path in paths])
    free = records.claimed_for(paths, count, claims)  # a folder for ten boxes, and three readers
    if len(free) < count:
        waiting = records.without_card(paths)
        elsewhere = (
            f", {len(waiting) - len(free)} of them being written by another nvrctl" if len(waiting) > len(free) else ""
        )
        raise click.UsageError(
            f"{many(count, 'card')} are too many: of {many(len(paths), 'site file')} {len(waiting)} have no card yet{elsewhere}. "
            f"{len(free)} can be written now{': ' + ', '.join(path.name for path in free) if free else ''}; --again makes another card for a box that has one."
        )
    return identity.identities(free, count)


def _waiting(records: Records, paths: Sequence[Path]) -> list[Path]:
    """The site files that have no card yet. Raises NvrError when all have one."""
    found: list[Path] = records.without_card(paths)
    if not found:
        raise NvrError(
            "every one of these site files has its card",
            hint=f"`nvrctl card write --again` makes another; the records lie in {records.folder}.",
        )
    return found


def _show(
    image: ImageFile, targets: Sequence[Path], facts: Sequence[DiskFacts | None], identities: Sequence[Identity]
) -> None:
    packed = f", {image.packing}" if image.packing else ""
    mapped = (
        f", {size_text(image.map.mapped_bytes)} of it data"
        if image.has_map
        else ", without a block map: all of it is written"
    )
    click.echo(f"image {image.name}: {size_text(image.size_bytes)}{mapped}{packed}", err=True)
    if not image.sha256 and not image.has_map:
        click.echo(
            "note: neither a .sha256 nor a block map lies beside it, so damage on its way here cannot be noticed",
            err=True,
        )
    rows = []
    for path, disk, identity in zip(targets, facts, identities, strict=True):
        what = (
            [size_text(disk.size_bytes), disk.model or disk.transport, disk.contents_text()]
            if disk
            else ["-", "plain file", "exists, is replaced" if path.exists() else "new"]
        )
        rows.append([str(path), *what, identity.box, identity.site])
    print_table(
        ["device", "size", "model", "contents, to be erased", "becomes box", "of site"], rows, right=(1,), err=True
    )
    for disk, identity in zip(facts, identities, strict=True):
        room_bytes = disk.size_bytes - image.size_bytes if disk else None
        if room_bytes is not None and identity.disk_bytes > room_bytes:
            click.echo(
                f"warning: the rings of {identity.box} take {size_text(identity.disk_bytes)}, this card leaves about {size_text(room_bytes)}: it needs a disk, a larger card, or smaller ring_gb",
                err=True,
            )


def _written(
    image: ImageFile,
    targets: Sequence[Path],
    facts: Sequence[DiskFacts | None],
    identities: Sequence[Identity],
    records: Records,
    besides: dict[str, bytes],
) -> list[Verdict]:
    """Write them all; what became of each. Only good cards count in the records."""
    from tools.nvrctl import selector
    from tools.nvrctl.burn import FAILED, Burn, Card, noted_signals
    from tools.nvrctl.card_shown import Shown
    from tools.nvrctl.device import BlockDisk, FileDisk

    patches = selector.patches_for(image, [identity.files | besides for identity in identities])
    click.echo("Ctrl-C stops it; cards that are not finished then look empty.", err=True)
    stop = threading.Event()
    cards: list[Card] = []
    begun: list[Identity] = []
    with noted_signals(stop):
        try:
            for path, disk, identity, own in zip(targets, facts, identities, patches, strict=True):
                opened = BlockDisk(path, disk.size_bytes) if disk else FileDisk(path, image.size_bytes)
                cards.append(Card(opened, own))
                records.begin(identity, _device(path, disk), {"name": image.name, "sha256": image.sha256})
                begun.append(identity)
            shown = Shown(cards, [identity.box for identity in identities])
            burn = Burn(image, cards, on_change=shown.tell, stop=stop)
        except BaseException:
            for card_ in cards:
                card_.disk.close(whole=False)
            with contextlib.suppress(OSError):  # the first error is the one to tell, and no record here says "good"
                for identity in begun:
                    records.end(identity, FAILED)
            raise
        burn.run()
        for card_, identity in zip(cards, identities, strict=True):
            records.end(identity, _verdict(card_).kind)
        shown.end()  # last: its terminal may be gone
    return [_verdict(card_) for card_ in cards]


def _device(path: Path, disk: DiskFacts | None) -> dict[str, Any]:
    """What the records keep of it."""
    if disk is None:
        return {"device": str(path)}
    return {"device": str(path), "model": disk.model, "serial": disk.serial, "size_bytes": disk.size_bytes}


def _verdict(card_: Card) -> Verdict:
    assert card_.verdict is not None  # Burn.run() gives every card one
    return card_.verdict


def _told(
    context: click.Context,
    image: ImageFile,
    targets: Sequence[Path],
    identities: Sequence[Identity],
    verdicts: Sequence[Verdict],
    records: Records,
    *,
    as_json: bool,
) -> None:
    """Labels for the good ones, a line for each, and what to do next; ends with the exit status."""
    from tools.nvrctl.card_shown import card_json
    from tools.nvrctl.labels import save_labels

    good = [identity for identity, verdict in zip(identities, verdicts, strict=True) if verdict.is_good]
    labels = save_labels(records.folder, good)
    if as_json:
        print_json(
            {
                "image": image.name,
                "cards": [
                    card_json(str(path), identity, verdict)
                    for path, identity, verdict in zip(targets, identities, verdicts, strict=True)
                ],
                "labels": str(labels) if labels else None, "codes": str(records.folder / "codes.json"),
            }
        )  # fmt: skip
    else:
        for path, identity, verdict in zip(targets, identities, verdicts, strict=True):
            if verdict.is_good:
                past = "" if verdict.read_past_cache else " (this file system cannot be read past its cache)"
                click.echo(f"{path}: good, read back{past}. It is {identity.box}.")
            else:
                click.echo(
                    click.style(f"{path}: NOT GOOD: {verdict.kind}", fg="red")
                    + (f": {verdict.detail}" if verdict.detail else "")
                )
        bad = len(verdicts) - len(good)
        if bad:
            click.echo(
                f"{many(bad, 'card')} of {len(verdicts)} not good: do not use {'it' if bad == 1 else 'them'}; `--again` is not needed to try once more."
            )
        if labels:
            click.echo(f"Labels: {labels}")
        if any(identity.hub for identity in good):
            click.echo(
                f"Next: nvrctl hub code import {records.folder / 'codes.json'}, so that the hub knows their codes; then put the cards into boxes."
            )
        elif good:
            click.echo("Next: put the cards into boxes; `nvrctl box find` shows when they are up.")
    context.exit(0 if len(good) == len(verdicts) else 1)


# -- watch ---------------------------------------------------------------------------------------------


@card.command()
@click.argument("image", type=FILE)
@click.option(
    "--site",
    "sites",
    multiple=True,
    required=True,
    type=click.Path(exists=True, path_type=Path),
    help="Site files, or a folder of them; each card gets the next one that has no card yet.",
)
@click.option(
    "--even-if-not-removable", is_flag=True, help="Also disks that call themselves built in. Never one in use."
)
@_besides_options
@json_option
@yes_option
@click.pass_context
def watch(
    context: click.Context,
    image: Path,
    sites: tuple[Path, ...],
    folder: Path,
    besides: dict[str, bytes],
    even_if_not_removable: bool,
    as_json: bool,
    yes: bool,
) -> None:
    """Write each card that is put in from now on, with the next site file, until every site file has its card.

    Disks that are there already are left alone. Several readers work at once. Ctrl-C ends it; a card that was being written then looks
    empty. Exit status 1 when any card was not good.

    \b
    Example:
        nvrctl card watch box.img.zst --site sites
    """
    from tools.nvrctl import image_file
    from tools.nvrctl.records import Records
    from tools.nvrctl.site import site_files

    found = image_file.look_at(image)
    records = Records(folder)
    waiting = _waiting(records, site_files(sites))
    click.echo(
        f"image {found.name}: {size_text(found.size_bytes)}; {many(len(waiting), 'site file')} without a card: {', '.join(path.stem for path in waiting)}",
        err=True,
    )
    confirm("EVERY card that is put in from now on is erased and written, without another question. Begin?", yes=yes)
    from tools.nvrctl.card_watch import Watching

    watching = Watching(found, waiting, records, besides, even_if_not_removable=even_if_not_removable, as_json=as_json)
    watching.run()
    context.exit(0 if watching.bad == 0 else 1)
