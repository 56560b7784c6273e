"""How far each card is, on the terminal; what became of it, as JSON."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from tools.nvrctl.burn import Card, Verdict
from tools.nvrctl.identity import Identity
from tools.nvrctl.output import time_text


def card_json(device: str, identity: Identity, verdict: Verdict) -> dict[str, Any]:
    """One card, as `write --json` and `watch --json` print it (docs/commands-nvrctl.md)."""
    who = {"device": device, "box": identity.box, "site": identity.site, "code_hash": identity.code_hash or None}
    return who | asdict(verdict)


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
        width = shutil.get_terminal_size().columns
        lines = [self.line(number)[: width - 1] for number in range(len(self._cards))]
        up = f"\x1b[{self._lines}A" if self._lines else ""
        click.echo(up + "".join(f"\x1b[2K{line}\n" for line in lines), err=True, nl=False)
        self._lines = len(lines)

    def line(self, number: int, now_s: float | None = None) -> str:
        """`/dev/sdb  waihaong-1  writing  45 %  31.2 MB/s  1:20 left`."""
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
