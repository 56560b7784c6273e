"""Updates the hub asks for: the bundle is fetched in pieces over however bad a link, checked, and handed to the box's updater.

    DATA/updates/wanted.json    what is being fetched; a restart goes on with it
    DATA/updates/SHA256.part    what is here of it
    DATA/updates/SHA256.raucb   all of it, by its SHA-256
    DATA/updates/ready.json     {"file", "version", "id"}: for the updater, which checks the signature (firmware/update.py, docs/update.md)

How it goes is told in DATA/run/update.json, which the heartbeat carries. Nothing here can install anything: this process has no rights to.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from nvr import wire
from nvr.errors import NvrError
from nvr.ring.disk import write_file
from nvr.uplink.link import ANSWER_S, CONNECT_S, HubFailed, Link
from nvr.uplink.upload import back_off_s

log = logging.getLogger(__name__)

WANTED, READY, FOLDER = "wanted.json", "ready.json", "updates"
BUNDLE_BYTES_MOST = 1 << 30
SPARE_BYTES = 128 << 20  # stay free for what the box itself writes
DAMAGED_TRIES = 2  # a bundle that is another one when it is here: a bad file, not a bad link
WAIT_S_MOST = 600.0
TELL_BYTES = 4 << 20
_RANGE = re.compile(r"bytes (\d{1,16})-\d{1,16}/(\d{1,16})")


class GivenUp(NvrError):
    """This bundle will not be fetched; the reason goes to the hub."""


@dataclass(frozen=True, slots=True)
class WantedBundle:
    """One order of the hub."""

    id: str
    url: str  # https; on the hub itself it is asked for with the box's token
    sha256: str
    version: str
    by: str = ""


class Bundles:
    """One bundle at a time; a new order replaces the one before. Belongs to the event loop."""

    def __init__(self, link: Link, data_dir: Path, cap_kbit_s: Callable[[], float | None]) -> None:
        self._link, self._cap_kbit_s = link, cap_kbit_s
        self._folder, self._told_path = data_dir / FOLDER, data_dir / "run" / "update.json"
        self._changed = asyncio.Event()
        self._damaged = 0

    async def want(self, wanted: WantedBundle) -> None:
        """Durable on return. Raises OSError."""
        await asyncio.to_thread(self._keep, wanted)
        self._damaged = 0
        self._changed.set()

    async def run(self) -> None:
        """Fetch what is wanted, until cancelled."""
        failures = 0
        while True:
            self._changed.clear()
            wanted = await asyncio.to_thread(self._wanted)
            if wanted is None:
                await self._changed.wait()
                continue
            try:
                await self._fetch(wanted)
            except GivenUp as error:
                log.warning("update %s is given up: %s", wanted.version, error)
                await asyncio.to_thread(self._forget, wanted)
                self._tell("refused", wanted.version, str(error))
                continue
            except (HubFailed, httpx.HTTPError, httpx.InvalidURL, OSError) as error:
                failures += 1
                self._tell(
                    "fetching", wanted.version, f"{self._here(wanted) >> 20} MiB here; {error or type(error).__name__}"
                )
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(back_off_s(failures) * 4, WAIT_S_MOST)):
                        await self._changed.wait()
                continue
            failures = 0

    async def _fetch(self, wanted: WantedBundle) -> None:
        part = self._folder / f"{wanted.sha256}.part"
        is_ours = wanted.url.startswith(self._link.url + "/")
        begin = self._here(wanted)
        headers = {
            "Range": f"bytes={begin}-",
            "Accept-Encoding": "identity",
            **(self._link.headers() if is_ours else {}),
        }
        async with self._client(is_ours) as client, client.stream("GET", wanted.url, headers=headers) as answer:
            if answer.status_code != 416:  # all of it was here
                size_bytes = self._size(answer, begin)
                if answer.status_code == 200 and begin:
                    await asyncio.to_thread(_truncate, part)
                    begin = 0
                room = shutil.disk_usage(self._folder).free - SPARE_BYTES
                if size_bytes - begin > room:
                    raise GivenUp(
                        f"the bundle needs {(size_bytes - begin) >> 20} MiB more, {max(room, 0) >> 20} are free"
                    )
                await self._take(answer, part, wanted, begin, size_bytes)
        await self._hand_over(wanted, part)

    async def _take(
        self, answer: httpx.Response, part: Path, wanted: WantedBundle, begin: int, size_bytes: int
    ) -> None:
        here = told = begin
        began_s = time.monotonic()
        with open(part, "ab", buffering=0) as file:
            async for piece in answer.aiter_raw():
                here += len(piece)
                if here > size_bytes:
                    raise HubFailed(f"{wanted.url} sends more than the {size_bytes} bytes it promised")
                await asyncio.to_thread(file.write, piece)
                if here - told >= TELL_BYTES or told == begin:
                    told = here
                    self._tell("fetching", wanted.version, f"{here >> 20} of {size_bytes >> 20} MiB")
                cap = self._cap_kbit_s()
                if cap:  # a link with a cap is shared, in this direction as well
                    await asyncio.sleep(max(0.0, (here - begin) / (cap * 125) - (time.monotonic() - began_s)))
        if here < size_bytes:
            raise HubFailed(f"{wanted.url} ended after {here} of {size_bytes} bytes")

    async def _hand_over(self, wanted: WantedBundle, part: Path) -> None:
        found = await asyncio.to_thread(_sha256, part)
        if found != wanted.sha256:
            await asyncio.to_thread(part.unlink)
            self._damaged += 1
            if self._damaged >= DAMAGED_TRIES:
                raise GivenUp(f"what {wanted.url} gives has the SHA-256 {found}")
            raise HubFailed(f"what {wanted.url} gave was not the bundle that was asked for")
        await asyncio.to_thread(self._ready, wanted, part)
        log.warning("update %s is here; the updater takes over", wanted.version)
        self._tell("fetched", wanted.version, "waits for the updater")

    @staticmethod
    def _size(answer: httpx.Response, begin: int) -> int:
        """Bytes of the whole bundle. Raises HubFailed, or GivenUp where asking again cannot help."""
        if answer.status_code in (401, 403, 404, 410):
            raise GivenUp(f"{answer.url} answers {answer.status_code}")
        found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if answer.status_code == 206 and found and int(found[1]) == begin:
            size_bytes = int(found[2])
        elif answer.status_code == 200 and answer.headers.get("Content-Length", "").isdigit():
            size_bytes = int(answer.headers["Content-Length"])
        else:
            raise HubFailed(f"{answer.url} answers {answer.status_code} without a size")
        if not 0 < size_bytes <= BUNDLE_BYTES_MOST:
            raise GivenUp(f"{answer.url} has {size_bytes} bytes, which is no bundle")
        return size_bytes

    def _client(self, is_ours: bool) -> httpx.AsyncClient:
        if is_ours:
            return self._link.client()
        timeout = httpx.Timeout(ANSWER_S, connect=CONNECT_S)
        return httpx.AsyncClient(
            trust_env=False, follow_redirects=False, timeout=timeout, headers={"User-Agent": "nvr-box"}
        )

    # -- files

    def _here(self, wanted: WantedBundle) -> int:
        try:
            return (self._folder / f"{wanted.sha256}.part").stat().st_size
        except OSError:
            return 0

    def _keep(self, wanted: WantedBundle) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        write_file(self._folder / WANTED, json.dumps(asdict(wanted)).encode())

    def _wanted(self) -> WantedBundle | None:
        """What was ordered last; the pieces of another bundle are swept."""
        try:
            said = json.loads((self._folder / WANTED).read_bytes()[:8192])
            wanted = WantedBundle(**{key: str(said[key]) for key in ("id", "url", "sha256", "version", "by")})
        except (OSError, ValueError, TypeError, KeyError):
            wanted = None
        if wanted is not None and not wire.is_sha256(wanted.sha256):
            wanted = None
        for path in self._folder.glob("*.part") if self._folder.exists() else ():
            if wanted is None or path.stem != wanted.sha256:
                path.unlink(missing_ok=True)
        return wanted

    def _ready(self, wanted: WantedBundle, part: Path) -> None:
        target = part.with_suffix(".raucb")
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        part.replace(target)
        ready = {"file": target.name, "version": wanted.version, "id": wanted.id}
        write_file(self._folder / READY, json.dumps(ready).encode())
        self._forget(wanted)

    def _forget(self, wanted: WantedBundle) -> None:
        if self._wanted() == wanted:  # not the order that came meanwhile
            (self._folder / WANTED).unlink(missing_ok=True)

    def _tell(self, state: str, version: str, reason: str) -> None:
        said: dict[str, Any] = {"state": state, "version": version, "reason": reason[:200]}
        draft = self._told_path.with_name(".update.json")
        with suppress(OSError):
            draft.write_text(json.dumps(said))
            draft.replace(self._told_path)


def _truncate(path: Path) -> None:
    with open(path, "wb"):
        pass


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
