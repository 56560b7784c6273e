"""What was written to which card, kept in a folder: so that no two cards share an identity, and the hub learns the codes.

cards/BOX.json      one for each box, the latest card last
cards/codes.json    what `nvrctl hub code import` sends: hashes, never codes
cards/labels-*.pdf  printed labels; carries codes in clear, for the printer
cards/.*.lock       who is writing what at this moment (claims.py)
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from nvr.errors import NvrError
from tools.nvrctl.claims import Claims, changing
from tools.nvrctl.identity import Identity

CODES = "codes.json"
SUFFIXES = (".json", ".pdf", ".lock")  # of all that lies in the folder
CODE_DAYS = 90.0  # from the laptop to the pole; an enrolled box needs it no more


class AlreadyGiven(NvrError):
    """The identity is on a card already."""


class BeingWritten(NvrError):
    """Another writing has the box at this moment."""


class NameUnusable(NvrError):
    """No record can have the name of this box."""


class RecordsUnreadable(NvrError):
    """A record is there and cannot be understood."""


@dataclass(frozen=True, slots=True)
class Records:
    folder: Path

    def check_new(self, identities: Sequence[Identity]) -> None:
        """Raises AlreadyGiven when one of these boxes has a good card."""
        given = []
        for identity in identities:
            good = self.good_card(identity.box)
            if good is not None:
                given.append(
                    f"{identity.box} (written {good['written_at'][:16].replace('T', ' ')} to {good['device']})"
                )
        if given:
            raise AlreadyGiven(
                f"there are cards already for {', '.join(given)}",
                hint="Two boxes never share a name. --again makes a new card in place of the old one, whose code is taken back.",
            )

    def good_card(self, box: str) -> dict[str, Any] | None:
        """The latest good card of a box."""
        return next((card for card in reversed(self.cards_of(box)) if card.get("verdict") == "good"), None)

    def without_card(self, paths: Sequence[Path]) -> list[Path]:
        """Those of these site files whose boxes have no good card, in their order. Raises SiteFaulty."""
        return [path for path in paths if self.good_card(box_of(path)) is None]

    def claimed_for(self, paths: Sequence[Path], most: int, claims: Claims) -> list[Path]:
        """The first `most` of these site files whose boxes have no good card, each claimed; those being written elsewhere are passed over.

        Raises SiteFaulty, RecordsUnreadable, OSError.
        """
        found: list[Path] = []
        for path in paths:
            if len(found) == most:
                break
            box = box_of(path)
            if claims.take(box):
                # Looked at only now: whoever had it before may have finished a card for it.
                if self.good_card(box) is None:
                    found.append(path)
                else:
                    claims.let_go(box)
        return found

    def claim(self, identities: Sequence[Identity], claims: Claims) -> None:
        """Raises BeingWritten when another writing has one of these boxes, NameUnusable."""
        for identity in identities:
            self._path(identity.box)
            if not claims.take(identity.box):
                raise BeingWritten(
                    f"a card for {identity.box} is being written at this moment, by another nvrctl",
                    hint="Two boxes never share a name: wait until that one has ended.",
                )

    def cards_of(self, box: str) -> list[dict[str, Any]]:
        path = self._path(box)
        try:
            found = json.loads(path.read_text("utf-8"))["cards"]
            if not all(isinstance(card["written_at"], str) and isinstance(card["box"], str) for card in found):
                raise ValueError("a card without its box or its time")
            return list(found)
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RecordsUnreadable(
                f"the record {path} cannot be read: {error}",
                hint="Move it away if it is not worth mending; then its box counts as new.",
            ) from error

    def begin(
        self, identity: Identity, device: dict[str, Any], image: dict[str, Any], now: datetime | None = None
    ) -> None:
        """Note a card before it is written: were the laptop to die now, the hub could still learn of its code."""
        now = now or datetime.now(UTC)
        card = {
            "box": identity.box, "site": identity.site, "places": list(identity.places), "hub": identity.hub,
            "code_hash": identity.code_hash or None, "device": device["device"], "model": device.get("model"), "serial": device.get("serial"),
            "size_bytes": device.get("size_bytes"), "image": image["name"], "image_sha256": image.get("sha256") or None,
            "written_at": now.isoformat(timespec="seconds"), "verdict": "being written",
        }  # fmt: skip
        with changing(self.folder):
            self._save(identity.box, [*self.cards_of(identity.box), card])

    def end(self, identity: Identity, verdict: str) -> None:
        """What became of the card begun last for this box."""
        with changing(self.folder):
            cards = self.cards_of(identity.box)
            cards[-1]["verdict"] = verdict
            self._save(identity.box, cards)

    def _save(self, box: str, cards: list[dict[str, Any]]) -> None:
        write(self._path(box), json.dumps({"cards": cards}, indent=2, ensure_ascii=False) + "\n")
        self._write_codes()

    def _path(self, box: str) -> Path:
        """Raises NameUnusable for the one name that is taken."""
        path = self.folder / f"{box}.json"
        if path.name == CODES:
            raise NameUnusable(
                f"a box cannot be called {box}: {path} holds the codes of all boxes",
                hint="Change `box:` in its site file.",
            )
        return path

    def codes(self) -> list[dict[str, Any]]:
        """What the hub has to know: the code of each box's last card; those of earlier ones are taken back. Cards that failed never count."""
        found = []
        for path in sorted(self.folder.glob("*.json")):
            if path.name == CODES:
                continue
            cards = [
                card
                for card in self.cards_of(path.stem)
                if card.get("code_hash") and card.get("verdict") in ("good", "being written")
            ]
            for card in cards:
                expires = datetime.fromisoformat(card["written_at"]) + timedelta(days=CODE_DAYS)
                found.append(
                    {
                        "code_hash": card["code_hash"], "site": card["site"], "box": card["box"], "hub": card["hub"],
                        "expires_at": expires.isoformat(timespec="seconds"), "is_revoked": card is not cards[-1],
                    }
                )  # fmt: skip
        return found

    def _write_codes(self) -> None:
        write(self.folder / CODES, json.dumps({"version": 1, "codes": self.codes()}, indent=2) + "\n")


def box_of(path: Path) -> str:
    """The box that a site file is for. Raises SiteFaulty."""
    from nvr import site

    return site.load(path).box


def write(path: Path, content: str | bytes) -> None:
    """Replace a file as a whole, readable by us alone."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.new")
    data = content.encode() if isinstance(content, str) else content
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)
