"""Writes each card that is put in, as long as there are site files without one."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from nvr.errors import NvrError
from tools.nvrctl import disks, identity, selector, udev
from tools.nvrctl.burn import Burn, Card
from tools.nvrctl.card_shown import card_json
from tools.nvrctl.claims import Claims
from tools.nvrctl.device import BlockDisk
from tools.nvrctl.disks import DiskFacts
from tools.nvrctl.image_file import ImageFile
from tools.nvrctl.labels import save_labels
from tools.nvrctl.output import many, print_json, size_text
from tools.nvrctl.records import CODES, Records


class Watching:
    """Cards come in one by one; each is written by a thread of its own."""

    def __init__(
        self,
        image: ImageFile,
        sites: Sequence[Path],
        records: Records,
        besides: dict[str, bytes],
        *,
        even_if_not_removable: bool,
        as_json: bool,
    ) -> None:
        self._image, self._sites, self._records, self._besides = image, list(sites), records, besides
        self._even_if_not_removable, self._as_json = even_if_not_removable, as_json
        self._lock = threading.Lock()
        self._busy: dict[str, Any] = {}  # device -> its Burn, None before it began
        self._stopped = False
        self.good = self.bad = 0

    def run(self) -> None:
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
            claims = Claims(self._records.folder)
            site_path = self._next_site(claims)
            if site_path is None:
                click.echo(
                    f"left alone: {path}: the boxes without a card are being written by another nvrctl", err=True
                )
                return
            self._busy[path] = None
        threading.Thread(target=self._write, args=(disk, site_path, claims), daemon=True).start()

    def _next_site(self, claims: Claims) -> Path | None:
        """The next site file whose box has no card and gets none elsewhere, claimed; those that have one meanwhile are done."""
        for path in list(self._sites):
            try:
                found = self._records.claimed_for([path], 1, claims)
                if found or not self._records.without_card([path]):
                    self._sites.remove(path)
                if found:
                    return path
            except (NvrError, OSError) as error:  # changed since the start; the others go on
                click.echo(f"{path}: passed over: {error}", err=True)
        return None

    def _write(self, disk: DiskFacts, site_path: Path, claims: Claims) -> None:
        is_good = False
        try:
            own = identity.identities([site_path], 1)[0]
            patches = selector.patches_for(self._image, [own.files | self._besides])[0]
            click.echo(f"{disk.path}: {size_text(disk.size_bytes)} {disk.model}: becomes {own.box}", err=True)
            card_ = Card(BlockDisk(Path(disk.path), disk.size_bytes), patches)
            with self._lock:
                self._records.begin(
                    own,
                    {"device": disk.path, "model": disk.model, "serial": disk.serial, "size_bytes": disk.size_bytes},
                    {"name": self._image.name, "sha256": self._image.sha256},
                )
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
                labels = save_labels(self._records.folder, [own] if is_good else [])
            if self._as_json:
                codes = str(self._records.folder / CODES)
                more = {"image": self._image.name, "labels": str(labels) if labels else None, "codes": codes}
                print_json(card_json(disk.path, own, verdict) | more)
            elif is_good:
                click.echo(
                    f"{disk.path}: good, read back. It is {own.box}; label {labels}. Take it out; {many(len(self._sites), 'site file')} left."
                )
            else:
                click.echo(f"{disk.path}: NOT GOOD: {verdict.kind}: {verdict.detail}")
        except (NvrError, OSError) as error:
            click.echo(f"{disk.path}: not written: {error}", err=True)
        finally:
            with self._lock, claims:
                if is_good:
                    self.good += 1
                else:
                    self.bad += 1
                    self._sites.insert(0, site_path)
                self._busy.pop(disk.path, None)
