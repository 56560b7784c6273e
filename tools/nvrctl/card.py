"""`nvrctl card`: which disks are cards, writing them, and writing each one that is put in."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nvr.errors import NvrError
from tools.nvrctl.output import FILE, FOLDER, confirm, json_option, print_json, print_table, size_text, yes_option

if TYPE_CHECKING:
    from tools.nvrctl.burn import Card, Verdict
    from tools.nvrctl.disks import DiskFacts
    from tools.nvrctl.identity import Identity
    from tools.nvrctl.image_file import ImageFile

AT_ONCE_MOST = 32


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
        print_json({"disks": [{**asdict(each), "is_card": why is None, "why_not": None if why is None else str(why)} for each, why in found]})
        return
    rows = [[each.path, size_text(each.size_bytes), each.transport, each.model or "-", each.contents_text(), "yes" if why is None else f"no: {str(why).removeprefix(each.path + ' ')}"] for each, why in found]
    print_table(["device", "size", "by", "model", "contents", "a card?"], rows, right=(1,))


_SITE_HELP = "Site file, or a folder of them; may be given several times. As many as cards, or one whose box name is counted on."


@card.command()
@click.argument("image", type=FILE)
@click.argument("devices", nargs=-1, required=True)
@click.option("--site", "sites", multiple=True, required=True, type=click.Path(exists=True, path_type=Path), help=_SITE_HELP)
@click.option("--records", "folder", type=FOLDER, default=Path("cards"), show_default=True, help="Where the records, the hashes of codes and the labels go.")
@click.option("--again", is_flag=True, help="A new card for a box that has one; the old card's code is taken back.")
@click.option("--even-if-not-removable", is_flag=True, help="Write a disk that is built in, or larger than any card. Never the one this machine runs from.")
@json_option
@yes_option
@click.pass_context
def write(
    context: click.Context, image: Path, devices: tuple[str, ...], sites: tuple[Path, ...], folder: Path, again: bool, even_if_not_removable: bool, as_json: bool, yes: bool
) -> None:
    """Write an image and a site file to SD cards, and read them back.

    All cards are written at once, from one unpacking. Each gets its own box name and one-time code; a printed label (PDF) for
    each lies in the records afterwards. A DEVICE that is no device is a plain file, for any other writer of cards.

    What makes no sense is refused: the disk this machine runs from, disks in use, disks that are not removable, cards too small. Before
    anything is erased you see what it is and are asked. A card is good when all of it was read back, past the computer's memory, and
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
    from tools.nvrctl import identity, image_file
    from tools.nvrctl.records import Records
    from tools.nvrctl.site import site_files

    targets = _targets(devices)
    identities = identity.identities(site_files(sites), len(targets))
    records = Records(folder)
    if not again:
        records.check_new(identities)
    found = image_file.look_at(image)
    facts = _facts(targets, found, even_if_not_removable)
    _show(found, targets, facts, identities)
    confirm(f"Erase {'these' if len(targets) > 1 else 'this'} {_many(len(targets), 'card')} and write?", yes=yes)
    verdicts = _written(found, targets, facts, identities, records, as_json=as_json)
    _told(context, found, targets, identities, verdicts, records, as_json=as_json)


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count != 1 else ''}"


def _targets(devices: Sequence[str]) -> list[Path]:
    """Each once. Raises click.UsageError."""
    found: dict[str, Path] = {}
    for text in devices:
        path = Path(text)
        real = os.path.realpath(path)
        if real in found:
            raise click.UsageError(f"{text} is given twice{'' if text == str(found[real]) else f' (it is {found[real]})'}.")
        if not path.exists() and (real.startswith("/dev/") or not path.absolute().parent.is_dir()):
            raise click.UsageError(f"There is no device {text}. `nvrctl card ls` lists what is there.")
        if path.is_dir():
            raise click.UsageError(f"{text} is a folder: give a device, or the name of a file.")
        found[real] = path
    if len(found) > AT_ONCE_MOST:
        raise click.UsageError(f"{len(found)} cards at once are too many, {AT_ONCE_MOST} at most.")
    return list(found.values())


def _facts(targets: Sequence[Path], image: ImageFile, even_if_not_removable: bool) -> list[DiskFacts | None]:
    """What each target is, None for a plain file. Raises CardRefused with every refusal at once."""
    from tools.nvrctl import disks

    facts: list[DiskFacts | None] = []
    refusals = []
    for path in targets:
        if path.is_file() or not path.exists():
            facts.append(None)
            free_bytes = _free_bytes(path)
            if free_bytes < image.map.mapped_bytes:
                refusals.append(disks.CardRefused(f"there are {size_text(free_bytes)} free for {path}, the image takes {size_text(image.map.mapped_bytes)}", hint="Write it elsewhere."))
            continue
        try:
            disk = disks.disk_at(str(path))
        except disks.CardRefused as error:
            refusals.append(error)
            continue
        refused = disks.refusal(disk, image.size_bytes, even_if_not_removable=even_if_not_removable)
        if refused is not None:
            refusals.append(refused)
        facts.append(disk)
    if refusals:
        raise disks.CardRefused("\n".join(map(str, refusals)), hint="\n        ".join(dict.fromkeys(each.hint for each in refusals)))
    return facts


def _free_bytes(path: Path) -> int:
    state = os.statvfs(path.absolute().parent)
    return state.f_bavail * state.f_frsize


def _show(image: ImageFile, targets: Sequence[Path], facts: Sequence[DiskFacts | None], identities: Sequence[Identity]) -> None:
    packed = f", {image.packing}" if image.packing else ""
    mapped = f", {size_text(image.map.mapped_bytes)} of it data" if image.has_map else ", without a block map: all of it is written"
    checked = "" if image.sha256 else " (no .sha256 beside it: damage on the way here would not be noticed)" if not image.has_map else ""
    click.echo(f"image {image.name}: {size_text(image.size_bytes)}{mapped}{packed}{checked}", err=True)
    rows = []
    for path, disk, identity in zip(targets, facts, identities, strict=True):
        what = [size_text(disk.size_bytes), disk.model or disk.transport, disk.contents_text()] if disk else ["-", "plain file", "exists, is replaced" if path.exists() else "new"]
        rows.append([str(path), *what, identity.box, identity.site])
    print_table(["device", "size", "model", "contents, to be erased", "becomes box", "of site"], rows, right=(1,), err=True)
    for disk, identity in zip(facts, identities, strict=True):
        room_bytes = disk.size_bytes - image.size_bytes if disk else None
        if room_bytes is not None and identity.disk_bytes > room_bytes:
            click.echo(f"warning: the rings of {identity.box} take {size_text(identity.disk_bytes)}, this card leaves about {size_text(room_bytes)}: it needs a disk, a larger card, or smaller ring_gb", err=True)


def _written(image: ImageFile, targets: Sequence[Path], facts: Sequence[DiskFacts | None], identities: Sequence[Identity], records: Any, *, as_json: bool) -> list[Verdict]:
    """Write them all; what became of each. Only good cards count in the records."""
    from tools.nvrctl import selector
    from tools.nvrctl.burn import Burn, Card
    from tools.nvrctl.device import BlockDisk, FileDisk

    patches = selector.patches_for(image, [identity.text for identity in identities])
    cards: list[Card] = []
    try:
        for path, disk, own in zip(targets, facts, patches, strict=True):
            opened = BlockDisk(path, disk.size_bytes) if disk else FileDisk(path, image.size_bytes)
            cards.append(Card(opened, own))
    except BaseException:
        for card_ in cards:
            card_.disk.close(whole=False)
        raise
    for path, disk, identity in zip(targets, facts, identities, strict=True):
        device = {"device": str(path), "model": disk.model, "serial": disk.serial, "size_bytes": disk.size_bytes} if disk else {"device": str(path)}
        records.begin(identity, device, {"name": image.name, "sha256": image.sha256})
    shown = Shown(cards, [identity.box for identity in identities])
    burn = Burn(image, cards, on_change=shown.tell)
    burn.run()
    shown.end()
    verdicts = []
    for card_, identity in zip(cards, identities, strict=True):
        assert card_.verdict is not None
        records.end(identity, card_.verdict.kind)
        verdicts.append(card_.verdict)
    return verdicts


def _told(context: click.Context, image: ImageFile, targets: Sequence[Path], identities: Sequence[Identity], verdicts: Sequence[Verdict], records: Any, *, as_json: bool) -> None:
    """Labels for the good ones, a line for each, and what to do next; ends with the exit status."""
    good = [identity for identity, verdict in zip(identities, verdicts, strict=True) if verdict.is_good]
    labels = _labels(records.folder, good)
    if as_json:
        print_json(
            {
                "image": image.name,
                "cards": [
                    {"device": str(path), "box": identity.box, "site": identity.site, "code_hash": identity.code_hash or None, **asdict(verdict)}
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
                click.echo(click.style(f"{path}: NOT GOOD: {verdict.kind}", fg="red") + (f": {verdict.detail}" if verdict.detail else ""))
        bad = len(verdicts) - len(good)
        if bad:
            click.echo(f"{_many(bad, 'card')} of {len(verdicts)} not good: do not use {'it' if bad == 1 else 'them'}; `--again` is not needed to try once more.")
        if labels:
            click.echo(f"Labels: {labels}")
        if any(identity.hub for identity in good):
            click.echo(f"Next: nvrctl hub code import {records.folder / 'codes.json'}, so that the hub knows their codes; then put the cards into boxes.")
        elif good:
            click.echo("Next: put the cards into boxes; `nvrctl box find` shows when they are up.")
    context.exit(0 if len(good) == len(verdicts) else 1)


def _labels(folder: Path, good: Sequence[Identity]) -> Path | None:
    from tools.nvrctl import labels, records

    if not good:
        return None
    path = folder / f"labels-{good[0].box}{f'-to-{good[-1].box}' if len(good) > 1 else ''}.pdf"
    records.write(path, labels.labels_pdf(good))
    return path


class Shown:
    """Progress on the terminal: a line for each card, written over; elsewhere a line every ten per cent."""

    def __init__(self, cards: Sequence[Card], boxes: Sequence[str]) -> None:
        self._cards, self._boxes = cards, boxes
        self._started_s = time.monotonic()
        self._is_terminal = sys.stderr.isatty()
        self._lines = 0
        self._told = -1
        self._since: dict[int, tuple[str, float, int]] = {}  # card -> its phase, since when, bytes then

    def tell(self) -> None:
        if self._is_terminal:
            self._draw()
            return
        done = sum(card_.progress.written_bytes + card_.progress.read_bytes for card_ in self._cards)
        total = sum(2 * card_.progress.total_bytes for card_ in self._cards) or 1
        tenth = 10 * done // total
        if tenth > self._told:
            self._told = tenth
            rate = done / max(time.monotonic() - self._started_s, 1e-3)
            click.echo(f"{10 * tenth} %, {rate / 1e6:.0f} MB/s over all cards", err=True)

    def end(self) -> None:
        if self._is_terminal:
            self._draw()

    def _draw(self) -> None:
        import shutil

        width = shutil.get_terminal_size().columns
        lines = [self.line(number)[: width - 1] for number in range(len(self._cards))]
        up = f"\x1b[{self._lines}A" if self._lines else ""
        click.echo(up + "".join(f"\x1b[2K{line}\n" for line in lines), err=True, nl=False)
        self._lines = len(lines)

    def line(self, number: int, now_s: float | None = None) -> str:
        """`/dev/sdb  waihaong-1  writing  45 %  31.2 MB/s  1:20 left`."""
        from tools.nvrctl.output import time_text

        card_ = self._cards[number]
        progress = card_.progress
        now_s = time.monotonic() if now_s is None else now_s
        start = f"{card_.disk.name:<14} {self._boxes[number]:<18} "
        if card_.verdict is not None:
            return start + ("good" if card_.verdict.is_good else f"NOT GOOD: {card_.verdict.kind}")
        done = progress.written_bytes + progress.read_bytes
        if self._since.get(number, ("", 0.0, 0))[0] != progress.phase:
            self._since[number] = (progress.phase, now_s, done)
        _, since_s, before = self._since[number]
        rate = (done - before) / (now_s - since_s) if now_s - since_s > 1 else 0.0
        total = 2 * progress.total_bytes
        text = f"{progress.phase:<13} {100 * done // max(total, 1):>3} %"
        return start + (f"{text}  {rate / 1e6:6.1f} MB/s  {time_text((total - done) / rate)} left" if rate else text)


# -- watch ---------------------------------------------------------------------------------------------


@card.command()
@click.argument("image", type=FILE)
@click.option("--site", "sites", multiple=True, required=True, type=click.Path(exists=True, path_type=Path), help="Site files, or a folder of them; each card gets the next one that has no card yet.")
@click.option("--records", "folder", type=FOLDER, default=Path("cards"), show_default=True, help="Where the records, the hashes of codes and the labels go.")
@click.option("--even-if-not-removable", is_flag=True, help="Also disks that call themselves built in. Never one in use.")
@json_option
@yes_option
@click.pass_context
def watch(context: click.Context, image: Path, sites: tuple[Path, ...], folder: Path, even_if_not_removable: bool, as_json: bool, yes: bool) -> None:
    """Write each card that is put in from now on, with the next site file, until every site file has its card.

    Disks that are there already are left alone. Several readers work at once. Ctrl-C ends it; a card that was being written then looks
    empty. Exit status 1 when any card was not good.

    \b
    Example:
        nvrctl card watch box.img.zst --site sites
    """
    from nvr import site as site_room
    from tools.nvrctl import image_file
    from tools.nvrctl.records import Records
    from tools.nvrctl.site import site_files

    found = image_file.look_at(image)
    records = Records(folder)
    waiting = [path for path in site_files(sites) if records.good_card(site_room.load(path).box) is None]
    if not waiting:
        raise NvrError("every one of these site files has its card", hint=f"`nvrctl card write --again` makes another; the records lie in {folder}.")
    click.echo(f"image {found.name}: {size_text(found.size_bytes)}; {_many(len(waiting), 'site file')} without a card: {', '.join(path.stem for path in waiting)}", err=True)
    confirm("EVERY card that is put in from now on is erased and written, without another question. Begin?", yes=yes)
    watching = Watching(found, waiting, records, even_if_not_removable=even_if_not_removable, as_json=as_json)
    watching.run()
    context.exit(0 if watching.bad == 0 else 1)


class Watching:
    """Cards come in one by one; each is written by a thread of its own."""

    def __init__(self, image: ImageFile, sites: Sequence[Path], records: Any, *, even_if_not_removable: bool, as_json: bool) -> None:
        self._image, self._sites, self._records = image, list(sites), records
        self._even_if_not_removable, self._as_json = even_if_not_removable, as_json
        self._lock = threading.Lock()
        self._busy: dict[str, Any] = {}  # device -> its Burn, None before it began
        self._stopped = False
        self.good = self.bad = 0

    def run(self) -> None:
        import signal

        from tools.nvrctl import udev

        before = {number: signal.signal(number, lambda *_: self._stop()) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            for path in udev.inserted(self._is_over, lambda: click.echo("Put in a card.", err=True)):
                self.came(path)
            while self._busy:
                time.sleep(0.2)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _is_over(self) -> bool:
        return self._stopped or (not self._sites and not self._busy)

    def _stop(self) -> None:
        self._stopped = True
        for burn in list(self._busy.values()):
            if burn is not None:
                burn.stop()

    def came(self, path: str) -> None:
        """A disk that may be a card: write it if it may be written and there is a site file left."""
        from tools.nvrctl import disks

        with self._lock:
            if path in self._busy or self._stopped or not self._sites:
                return
            try:
                disk = disks.disk_at(path)
                refused = disks.refusal(disk, self._image.size_bytes, even_if_not_removable=self._even_if_not_removable)
            except NvrError:
                return  # it went as fast as it came
            if refused is not None:
                if disk.size_bytes:
                    click.echo(f"left alone: {refused}", err=True)
                return
            self._busy[path] = None
            site_path = self._sites.pop(0)
        threading.Thread(target=self._write, args=(disk, site_path), daemon=True).start()

    def _write(self, disk: DiskFacts, site_path: Path) -> None:
        from tools.nvrctl import identity, selector
        from tools.nvrctl.burn import Burn, Card
        from tools.nvrctl.device import BlockDisk

        is_good = False
        try:
            own = identity.identities([site_path], 1)[0]
            patches = selector.patches_for(self._image, [own.text])[0]
            click.echo(f"{disk.path}: {size_text(disk.size_bytes)} {disk.model}: becomes {own.box}", err=True)
            card_ = Card(BlockDisk(Path(disk.path), disk.size_bytes), patches)
            with self._lock:
                self._records.begin(own, {"device": disk.path, "model": disk.model, "serial": disk.serial, "size_bytes": disk.size_bytes}, {"name": self._image.name, "sha256": self._image.sha256})
            burn = Burn(self._image, [card_])
            self._busy[disk.path] = burn
            if self._stopped:
                burn.stop()
            burn.run()
            verdict = card_.verdict
            assert verdict is not None
            is_good = verdict.is_good
            with self._lock:
                self._records.end(own, verdict.kind)
                labels = _labels(self._records.folder, [own] if is_good else [])
            if self._as_json:
                print_json({"device": disk.path, "box": own.box, **asdict(verdict), "labels": str(labels) if labels else None})
            elif is_good:
                click.echo(f"{disk.path}: good, read back. It is {own.box}; label {labels}. Take it out; {_many(len(self._sites), 'site file')} left.")
            else:
                click.echo(f"{disk.path}: NOT GOOD: {verdict.kind}: {verdict.detail}")
        except (NvrError, OSError) as error:
            click.echo(f"{disk.path}: not written: {error}", err=True)
        finally:
            with self._lock:
                if is_good:
                    self.good += 1
                else:
                    self.bad += 1
                    self._sites.insert(0, site_path)
                self._busy.pop(disk.path, None)
