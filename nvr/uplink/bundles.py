"""Updates the hub asks for: the bundle is fetched in pieces over however bad a link, checked, and handed to the box's updater.

    DATA/updates/wanted.json    what is being fetched; a restart goes on with it
    DATA/updates/SHA256.part    what is here of it
    DATA/updates/SHA256.raucb   all of it, by its SHA-256
    DATA/updates/ready.json     {"file", "version", "id"}: for the updater, which checks the signature (firmware/update.py, docs/update.md)
    DATA/updates/kept/SHA256.raucb    the newest one a week longer, for neighbours on the LAN (nvr/web/sharing.py)

One box of a site fetches it from the hub, the others from that box: whoever has less of it waits for whoever has more, as long as that grows.
A neighbour is trusted with nothing but its speed: what comes from one is checked like everything else, and the hub is asked where it is wrong.

How it goes is told in DATA/run/update.json, which the heartbeat carries. Nothing here can install anything: this process has no rights to.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import random
import re
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from nvr import wire
from nvr.errors import NvrError
from nvr.ring.disk import write_file
from nvr.uplink import neighbours
from nvr.uplink.link import ANSWER_S, CONNECT_S, HubFailed, Link
from nvr.uplink.upload import back_off_s

log = logging.getLogger(__name__)

WANTED, READY, FOLDER, KEPT = "wanted.json", "ready.json", "updates", "kept"
BUNDLE_BYTES_MOST = 1 << 30
SPARE_BYTES = 128 << 20  # stay free for what the box itself writes
DAMAGED_TRIES = 2  # a bundle that is another one when it is here: a bad file, not a bad link
WAIT_S_MOST = 600.0
TELL_BYTES = 4 << 20
NOT_BEGUN = -1  # bytes of a bundle that a box only has the order for: one that has begun comes before it
KEPT_S = 7 * 86_400  # a roll-out goes through its groups in days
TIDY_S = 60.0
ASK_NEIGHBOURS_S = 10.0  # while one of them fetches
STALLED_S = 120.0  # a neighbour that gets no further for so long is not waited for
WAIT_FOR_NEIGHBOURS_S = 6 * 3600.0  # the hub gives a box a day; a bundle of 200 MB in this time is 75 kbit/s
LAN_LEAST_BYTES_S = 32 << 10  # slower than this after SLOW_S, and the hub is asked instead
SLOW_S = 30.0
LAN_ANSWER_S = 5.0
_RANGE = re.compile(r"bytes (\d{1,16})-\d{1,16}/(\d{1,16})")


class GivenUp(NvrError):
    """This bundle will not be fetched; the reason goes to the hub."""


@dataclass(frozen=True, slots=True)
class WantedBundle:
    """One order of the hub."""

    id: str
    url: str  # https, or a path of the hub itself, which is asked for with the box's token
    sha256: str
    version: str
    by: str = ""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """What another box says of the bundle that is wanted here."""

    page: str
    box: str = ""
    here_bytes: int = NOT_BEGUN
    is_whole: bool = False


def to_wait_for(box: str, here_bytes: int, neighbours: Sequence[Neighbour]) -> Neighbour | None:
    """Who fetches it for all of us, None if that is this box. Of two that have as much the first by name: both must come to the same answer."""
    others = [each for each in neighbours if each.box != box]
    first = min(others, key=lambda each: (-each.here_bytes, each.box), default=None)
    return first if first is not None and (-first.here_bytes, first.box) < (-here_bytes, box) else None


class Bundles:
    """One bundle at a time; a new order replaces the one before. Belongs to the event loop."""

    def __init__(self, link: Link, data_dir: Path, cap_kbit_s: Callable[[], float | None], box: str) -> None:
        self._link, self._cap_kbit_s, self._box = link, cap_kbit_s, box
        self._folder, self._told_path = data_dir / FOLDER, data_dir / "run" / "update.json"
        self._changed = asyncio.Event()
        self._damaged = 0
        self._asks_neighbours = True

    async def want(self, wanted: WantedBundle) -> None:
        """Durable on return. Raises OSError."""
        await asyncio.to_thread(self._keep, wanted)
        self._damaged, self._asks_neighbours = 0, True
        self._changed.set()

    async def run(self) -> None:
        """Fetch what is wanted, until cancelled."""
        failures = 0
        while True:
            self._changed.clear()
            wanted = await asyncio.to_thread(self._wanted)
            if wanted is None:
                await asyncio.to_thread(self._tidy_up)
                await self._wait(TIDY_S)
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
                await self._wait(min(back_off_s(failures) * 4, WAIT_S_MOST))
                continue
            failures = 0

    async def _wait(self, seconds: float) -> None:
        """Or until there is another order."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    async def _fetch(self, wanted: WantedBundle) -> None:
        """From ourselves, a neighbour or the hub. Returns without it when there is another order."""
        if await asyncio.to_thread(self._take_kept, wanted):
            await self._hand_over(wanted, self._part(wanted))
            return
        page = await self._neighbour_with(wanted) if self._asks_neighbours else None
        if self._changed.is_set():
            return
        if page is not None:
            try:
                await self._fetch_from(f"{page}/bundles/{wanted.sha256}", wanted, is_neighbour=True)
                return
            except (HubFailed, GivenUp, httpx.HTTPError, httpx.InvalidURL) as error:
                log.info("update %s from %s: %s; the hub is asked", wanted.version, page, error or type(error).__name__)
        await asyncio.to_thread(self._part(wanted).touch)  # from here on neighbours wait for us
        await self._fetch_from(wanted.url, wanted)

    async def _fetch_from(self, url: str, wanted: WantedBundle, *, is_neighbour: bool = False) -> None:
        part = self._part(wanted)
        is_ours = not is_neighbour and url.startswith(("/", self._link.url + "/"))
        begin = self._here(wanted)
        headers = {
            "Range": f"bytes={begin}-",
            "Accept-Encoding": "identity",
            **(self._link.headers() if is_ours else {}),
        }
        async with self._client(is_ours) as client, client.stream("GET", url, headers=headers) as answer:
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
                await self._take(answer, part, wanted, begin, size_bytes, is_neighbour)
        await self._hand_over(wanted, part)

    async def _take(
        self, answer: httpx.Response, part: Path, wanted: WantedBundle, begin: int, size_bytes: int, is_neighbour: bool
    ) -> None:
        here = told = begin
        whose = f" from the neighbour {answer.url.host}" if is_neighbour else ""
        began_s = time.monotonic()
        with open(part, "ab", buffering=0) as file:
            async for piece in answer.aiter_raw():
                here += len(piece)
                if here > size_bytes:
                    raise HubFailed(f"{answer.url} sends more than the {size_bytes} bytes it promised")
                await asyncio.to_thread(file.write, piece)
                if here - told >= TELL_BYTES or told == begin:
                    told = here
                    self._tell("fetching", wanted.version, f"{here >> 20} of {size_bytes >> 20} MiB{whose}")
                took_s = time.monotonic() - began_s
                if is_neighbour:
                    if took_s > SLOW_S and here - begin < took_s * LAN_LEAST_BYTES_S:
                        raise HubFailed(f"only {here - begin} bytes in {took_s:.0f} s")
                elif cap := self._cap_kbit_s():  # a link with a cap is shared, in this direction as well
                    await asyncio.sleep(max(0.0, (here - begin) / (cap * 125) - took_s))
        if here < size_bytes:
            raise HubFailed(f"{answer.url} ended after {here} of {size_bytes} bytes")

    async def _hand_over(self, wanted: WantedBundle, part: Path) -> None:
        found = await asyncio.to_thread(_sha256, part)
        if found != wanted.sha256:
            await asyncio.to_thread(part.unlink)
            if self._asks_neighbours:  # some of it may be theirs
                self._asks_neighbours = False
                raise HubFailed("what came was not the bundle that was asked for; neighbours are not asked again")
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

    def _client(self, is_ours: bool, answer_s: float = ANSWER_S) -> httpx.AsyncClient:
        if is_ours:
            return self._link.client()
        timeout = httpx.Timeout(answer_s, connect=min(answer_s, CONNECT_S))
        return httpx.AsyncClient(
            trust_env=False, follow_redirects=False, timeout=timeout, headers={"User-Agent": "nvr-box"}
        )

    # -- neighbours

    async def _neighbour_with(self, wanted: WantedBundle) -> str | None:
        """The page of one that has all of it, once there is one. None: nobody has it and nobody fetches it for us, or there is another order."""
        seen: dict[str, tuple[int, float]] = {}  # box -> the most it had, and since when
        until_s = time.monotonic() + WAIT_FOR_NEIGHBOURS_S
        while not self._changed.is_set() and (now_s := time.monotonic()) < until_s:
            told = await self._ask_neighbours(wanted)
            if whole := [each for each in told if each.is_whole]:
                return random.choice(whole).page
            for each in told:
                if each.here_bytes > seen.get(each.box, (NOT_BEGUN - 1, 0.0))[0]:
                    seen[each.box] = (each.here_bytes, now_s)
            alive = [each for each in told if now_s - seen[each.box][1] < STALLED_S]
            here_bytes = self._here(wanted) if self._part(wanted).exists() else NOT_BEGUN
            first = to_wait_for(self._box, here_bytes, alive)
            if first is None:
                return None
            self._tell(
                "fetching",
                wanted.version,
                f"{first.box} fetches it, {max(first.here_bytes, 0) >> 20} MiB so far; we take it from there",
            )
            await self._wait(ASK_NEIGHBOURS_S)
        return None

    async def _ask_neighbours(self, wanted: WantedBundle) -> list[Neighbour]:
        """Those that have something of it; ourselves left out."""
        pages = await asyncio.to_thread(neighbours.pages)
        async with self._client(False, LAN_ANSWER_S) as client:
            found = await asyncio.gather(*(self._ask(client, page, wanted.sha256) for page in pages))
        return [each for each in found if each is not None and each.box != self._box]

    @staticmethod
    async def _ask(client: httpx.AsyncClient, page: str, sha256: str) -> Neighbour | None:
        """One byte of it, from a box that has it all; from one that fetches it, how much it has."""
        try:
            async with asyncio.timeout(LAN_ANSWER_S):
                async with client.stream("GET", f"{page}/bundles/{sha256}", headers={"Range": "bytes=0-0"}) as answer:
                    if answer.status_code == 206:
                        return Neighbour(page, is_whole=True)
                    if answer.status_code == 503:  # it has all of it, and others are before us
                        return Neighbour(page, page, BUNDLE_BYTES_MOST)
                    if answer.status_code != 202 or int(answer.headers.get("Content-Length", "9999")) > 1000:
                        return None
                    said = json.loads(await answer.aread())
            box, here_bytes = str(said["box"]), int(said["bytes"])
            return Neighbour(page, box[:64], here_bytes) if NOT_BEGUN <= here_bytes <= BUNDLE_BYTES_MOST else None
        except (
            TimeoutError,
            httpx.HTTPError,
            httpx.InvalidURL,
            OSError,
            ValueError,
            TypeError,
            KeyError,
            RecursionError,
        ):
            return None

    # -- files

    def _part(self, wanted: WantedBundle) -> Path:
        return self._folder / f"{wanted.sha256}.part"

    def _kept(self, sha256: str) -> Path:
        return self._folder / KEPT / f"{sha256}.raucb"

    def _take_kept(self, wanted: WantedBundle) -> bool:
        """Ordered once more, and still here: no byte of it is fetched again."""
        kept, part = self._kept(wanted.sha256), self._part(wanted)
        try:
            if _sha256(kept) != wanted.sha256:
                kept.unlink()
                return False
            part.unlink(missing_ok=True)
            os.link(kept, part)
        except OSError:
            return False
        return True

    def _tidy_up(self, but: str = "") -> None:
        """What is kept for neighbours goes when it is old, when another one was ordered, and before the disk is full."""
        for path in (self._folder / KEPT).glob("*"):
            is_old = time.time() - path.stat().st_mtime > KEPT_S
            if is_old or (but and path.stem != but) or shutil.disk_usage(self._folder).free < SPARE_BYTES:
                path.unlink(missing_ok=True)

    def _here(self, wanted: WantedBundle) -> int:
        try:
            return self._part(wanted).stat().st_size
        except OSError:
            return 0

    def _keep(self, wanted: WantedBundle) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._tidy_up(but=wanted.sha256)
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
        with suppress(OSError):  # a file system without hard links keeps none
            (self._folder / KEPT).mkdir(mode=0o700, exist_ok=True)
            os.link(target, self._kept(wanted.sha256))
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
