"""What was written to which card, kept in a folder: so that no two cards share an identity, and the hub learns the codes.

    cards/BOX.json      one for each box, the latest card last
    cards/codes.json    what `nvrctl hub code import` sends: hashes, never codes
    cards/labels.pdf    printed labels; carries codes in clear, for the printer
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
from tools.nvrctl.identity import Identity

CODE_DAYS = 90.0  # from the laptop to the pole; an enrolled box needs it no more


class AlreadyGiven(NvrError):
    """The identity is on a card already."""


class RecordsUnreadable(NvrError):
    """A record is there and cannot be understood."""


@dataclass(frozen=True, slots=True)
class Records:
    folder: Path

    def check_new(self, identities: Sequence[Identity]) -> None:
        """Raises AlreadyGiven when one of these boxes has a card."""
        given = []
        for identity in identities:
            cards = self.cards_of(identity.box)
            if cards:
                given.append(f"{identity.box} (written {cards[-1]['written_at'][:16].replace('T', ' ')} to {cards[-1]['device']})")
        if given:
            raise AlreadyGiven(f"there are cards already for {', '.join(given)}", hint="Two boxes never share a name. --again makes a new card in place of the old one, whose code is taken back.")

    def cards_of(self, box: str) -> list[dict[str, Any]]:
        path = self.folder / f"{box}.json"
        try:
            found = json.loads(path.read_text("utf-8"))
            return list(found["cards"])
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RecordsUnreadable(f"the record {path} cannot be read: {error}", hint="Move it away if it is not worth mending; then its box counts as new.") from error

    def add(self, identity: Identity, device: dict[str, Any], image: dict[str, Any], now: datetime | None = None) -> None:
        """Note a card that was written and read back; the code of an earlier card of the same box is taken back."""
        now = now or datetime.now(UTC)
        cards = self.cards_of(identity.box)
        cards.append(
            {
                "box": identity.box, "site": identity.site, "places": list(identity.places), "hub": identity.hub,
                "code_hash": identity.code_hash or None, "device": device["device"], "model": device.get("model"), "size_bytes": device.get("size_bytes"),
                "image": image["name"], "image_sha256": image.get("sha256") or None, "written_at": now.isoformat(timespec="seconds"),
            }
        )  # fmt: skip
        write(self.folder / f"{identity.box}.json", json.dumps({"cards": cards}, indent=2, ensure_ascii=False) + "\n")
        self._write_codes(now)

    def codes(self) -> list[dict[str, Any]]:
        """What the hub has to know: of each box the last card's code; earlier ones are revoked."""
        found = []
        for path in sorted(self.folder.glob("*.json")):
            if path.name in ("codes.json",):
                continue
            cards = [card for card in self.cards_of(path.stem) if card.get("code_hash")]
            for card in cards:
                written = datetime.fromisoformat(card["written_at"])
                found.append(
                    {
                        "code_hash": card["code_hash"], "site": card["site"], "box": card["box"], "hub": card["hub"],
                        "expires_at": (written + timedelta(days=CODE_DAYS)).isoformat(timespec="seconds"), "is_revoked": card is not cards[-1],
                    }
                )  # fmt: skip
        return found

    def _write_codes(self, now: datetime) -> None:
        write(self.folder / "codes.json", json.dumps({"version": 1, "made_at": now.isoformat(timespec="seconds"), "codes": self.codes()}, indent=2) + "\n")


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
