"""How a box becomes known to its hub: once, with the one-time code of its card. Repeating it is harmless, the answer may have been lost."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import httpx

from nvr import wire
from nvr.evidence import Identity
from nvr.ring.disk import write_file
from nvr.uplink.link import HubFailed, Link, NotWelcome, answer_of, asked, wait_s

log = logging.getLogger(__name__)

_PURPOSE = b"nvr enrol\0"


def proof(identity: Identity, code: str) -> str:
    """Shows that whoever has the code has the key as well, in hexadecimal (docs/formats/wire.md)."""
    return identity.sign(_PURPOSE + wire.code_hash(code).encode() + b"\0" + identity.public_bytes).hex()


def request(identity: Identity, code: str, box: str, site: str, software: str) -> dict[str, Any]:
    return {
        "v": wire.VERSION, "code": code, "public_key": identity.public_bytes.hex(), "box": box, "site": site,
        "software": software, "proof": proof(identity, code),
    }  # fmt: skip


class Enrolment:
    """What is remembered of it, in DATA/outbox/enrolled: at which hub, as whom. Not a secret."""

    def __init__(self, path: Path, url: str, box_id: str) -> None:
        self._path, self._url, self._box_id = path, url, box_id

    def is_done(self) -> bool:
        """For this hub and this key; another hub or another key is enrolled anew."""
        try:
            said = json.loads(self._path.read_text())
            return bool(said["url"] == self._url and said["box_id"] == self._box_id)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def done(self) -> None:
        write_file(self._path, json.dumps({"url": self._url, "box_id": self._box_id}).encode())

    def forget(self) -> None:
        """The hub does not know us any more: the code, where there is one, is tried again."""
        self._path.unlink(missing_ok=True)


async def enrol(client: httpx.AsyncClient, link: Link, code: str, box: str, site: str, software: str) -> None:
    """Raises NotWelcome when the hub refuses the code or the box, HubFailed when it cannot be asked now."""
    if not code:
        raise NotWelcome(
            "the hub does not know this box, and the site file has no code",
            hint="Get a code at the hub and write it into `hub: code:`.",
        )
    body = json.dumps(request(link.identity, code, box, site, software)).encode()
    response = await asked(client, "POST", "/box/v1/enrol", content=body, headers={"Content-Type": "application/json"})
    status = response.status
    if status == 403:
        raise NotWelcome(
            "the hub refuses the code: wrong, used by another box, or expired", hint="Get another code at the hub."
        )
    if status == 409:
        raise NotWelcome("the hub has blocked this box", hint="Ask whoever administers the hub.")
    if status == 429:
        raise HubFailed(f"the hub takes no more enrolments for {wait_s(response) or 60:.0f} s")
    answer = answer_of(response)
    if answer.get("box_id") != link.box_id:
        raise HubFailed(
            f"the hub enrolled {str(answer.get('box_id'))[:40]!r}, we are {link.box_id}",
            hint="Is something between us and the hub?",
        )
    log.info("enrolled at %s as %s", link.url, link.box_id)
