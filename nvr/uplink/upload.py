"""Clips to the hub: a tus 1.0 client with checksums. Every clip arrives byte for byte, once, over a link that breaks all the time.

A transfer begins with a question: how much of this content do you hold? So nothing about a half-finished one is remembered here, and
nothing is sent twice but the piece that was on its way when the connection broke. The size of a piece follows the link: about 1 % of what
mostly gets through between two breaks, and no more than four seconds of it. Two lanes share the ordinary clips, because a lane
waits for an answer after each piece; alarms have a lane, and a connection, of their own, and where there are several of them
the others as well.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from nvr.uplink.budget import Budget, Meter
from nvr.uplink.link import Answer, Busy, HubFailed, Link, asked, wait_s
from nvr.uplink.outbox import Clip
from nvr.uplink.worth import RANK_STATE, value_name

log = logging.getLogger(__name__)

UPLOADS = "/box/v1/uploads"
PIECE_LEAST_BYTES, PIECE_MOST_BYTES = 4 * 1024, 1024 * 1024
PIECE_S = 4.0
LOST_SHARE = 0.012  # of what goes through between two breaks; on average half a piece of each lane is sent in vain
BREAK_BYTES = 1_000_000  # until a link has shown better or worse
SAME_BREAK_S = 5.0
CHUNK_BYTES = 2048
BACK_OFF_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
IDLE_S = 1.0
TUS = {"Tus-Resumable": "1.0.0"}


class Refused(Exception):
    """The hub will never take this clip as it is."""


class Yielded(Exception):
    """Something more valuable has to go first; the hub keeps what it has."""


class Spoilt(Exception):
    """The file is not what it was when it was cut."""


def piece_bytes(bytes_s: float, between_breaks_bytes: float) -> int:
    """How much to send in one request, in whole chunks."""
    wanted = min(bytes_s * PIECE_S, between_breaks_bytes * LOST_SHARE)
    return int(max(PIECE_LEAST_BYTES, min(wanted, PIECE_MOST_BYTES))) // CHUNK_BYTES * CHUNK_BYTES


def metadata(clip: Clip) -> str:
    """Upload-Metadata (tus 1.0, creation): names and base64."""
    assert clip.made is not None
    wanted, made = clip.wanted, clip.made
    fields = {
        "sha256": made.sha256, "kind": "clip", "camera": wanted.stream.partition("/")[0], "stream": wanted.stream,
        "from_ms": str(made.from_ms), "to_ms": str(made.to_ms), "value": value_name(clip.rank), "clip": clip.id,
        "event": wanted.event, "command": wanted.command,
    }  # fmt: skip
    return ",".join(f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in fields.items() if value)


class Turn:
    """Of sending the body of a piece: while one lane waits for an answer the other sends, and a break costs one piece, not two."""

    def __init__(self, lock: asyncio.Lock) -> None:
        self._lock = lock
        self._has_it = False

    async def begin(self) -> None:
        await self._lock.acquire()
        self._has_it = True

    def end(self) -> None:
        if self._has_it:
            self._has_it = False
            self._lock.release()


class Counts:
    """What all lanes did since the process began, and what they share."""

    def __init__(self) -> None:
        self._of_alarms, self._of_others = asyncio.Lock(), asyncio.Lock()
        self.sent_bytes = 0  # of clips
        self.resent_bytes = 0  # of these in vain
        self.stored = 0
        self.breaks = 0
        self.begun_s: deque[float] = deque(
            maxlen=100
        )  # of alarms: from when the event was taken over to the first byte of its clip
        self.through_bytes = 0  # that the hub said it holds
        self._broke_s = float("-inf")
        self._since_break = 0
        self._between_breaks = float(BREAK_BYTES)

    def between_breaks_bytes(self) -> float:
        return max(self._between_breaks, self._since_break)

    def turn(self, rank: int) -> Turn:
        """An alarm waits for no other clip's piece."""
        return Turn(self._of_alarms if rank < RANK_STATE else self._of_others)

    def got_through(self, size_bytes: int) -> None:
        self._since_break += size_bytes
        self.through_bytes += size_bytes

    def broke(self, now_s: float) -> None:
        self.breaks += 1
        if now_s - self._broke_s < SAME_BREAK_S:
            return  # all lanes notice the same one
        self._broke_s = now_s
        self._between_breaks = (self._between_breaks + self._since_break) / 2
        self._since_break = 0


class Lane:
    """One connection, one clip at a time."""

    def __init__(
        self, link: Link, budget: Budget, counts: Counts, clips_path: Path, *, name: str,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.name = name
        self.clip_id: str | None = None  # that is being sent
        self._link, self._budget, self._counts, self._clips_path = link, budget, counts, clips_path
        self._now_s = now_s
        self._client: httpx.AsyncClient | None = None
        self._meter: Meter | None = None
        self._meter_of: object = None
        self._bytes_s = PIECE_MOST_BYTES / PIECE_S
        self._handed: dict[str, int] = {}  # clip -> end of what was handed to a connection

    async def send(self, clip: Clip) -> None:
        """Until the hub said that it holds all of it. Raises HubFailed (try again), Yielded (later), Refused, Spoilt."""
        assert clip.made is not None
        self.clip_id = clip.id
        self._budget.begin(clip.rank)
        try:
            path, offset, stored = await self._create(clip)
            if not stored:
                with open(self._clips_path / clip.made.file, "rb") as file:
                    await self._pieces(clip, file, path, offset)
        except FileNotFoundError:
            raise Spoilt("its file is gone") from None
        except Busy:
            raise
        except HubFailed:
            self._counts.broke(self._now_s())
            await self._hang_up()
            raise
        finally:
            self.clip_id = None
            self._budget.end(clip.rank)
        self._handed.pop(clip.id, None)
        self._counts.stored += 1

    async def _create(self, clip: Clip) -> tuple[str, int, bool]:
        """(path of the upload, how much the hub holds, whether it has stored all). Asked anew at each beginning."""
        assert clip.made is not None
        headers = {
            **self._link.headers(),
            **TUS,
            "Upload-Length": str(clip.made.size_bytes),
            "Upload-Metadata": metadata(clip),
        }
        answer = await self._ask("POST", UPLOADS, headers=headers)
        if answer.status not in (200, 201):
            raise self._refusal(answer)
        path = urlsplit(answer.headers.get("Location", "")).path
        offset = _offset(answer, clip.made.size_bytes)
        stored = answer.headers.get("Nvr-Stored") == clip.made.sha256
        # A location is used as a path of this hub, whatever host it names: the box talks to nobody else.
        if not stored and (not path.startswith(f"{UPLOADS}/") or ".." in path):
            raise HubFailed(f"the hub gives {path[:80]!r} for an upload")
        if offset == clip.made.size_bytes and not stored:
            head = await self._ask("HEAD", path, headers={**self._link.headers(), **TUS})
            stored = head.status in (200, 204) and head.headers.get("Nvr-Stored") == clip.made.sha256
            if not stored:
                raise HubFailed("the hub holds all of a clip and has not stored it yet")
        self._counts.resent_bytes += max(0, self._handed.get(clip.id, 0) - offset)
        self._handed[clip.id] = offset
        return path, offset, stored

    async def _pieces(self, clip: Clip, file: Any, path: str, offset: int) -> None:
        assert clip.made is not None
        made = clip.made
        while True:
            if not self._budget.may_begin(clip.rank):
                raise Yielded
            size_bytes = min(piece_bytes(self._bytes_s, self._counts.between_breaks_bytes()), made.size_bytes - offset)
            data = await asyncio.to_thread(_read, file, offset, size_bytes)
            if len(data) != size_bytes:
                raise Spoilt(f"its file ends at byte {offset + len(data)} of {made.size_bytes}")
            headers = {
                **self._link.headers(), **TUS, "Upload-Offset": str(offset), "Content-Length": str(size_bytes),
                "Content-Type": "application/offset+octet-stream",
                "Upload-Checksum": f"sha256 {base64.b64encode(hashlib.sha256(data).digest()).decode()}",
            }  # fmt: skip
            turn = self._counts.turn(clip.rank)
            await turn.begin()
            try:
                began_s = self._now_s()
                answer = await self._ask("PATCH", path, headers=headers, content=self._body(clip, data, offset, turn))
            finally:
                turn.end()
            if answer.status == 422:
                raise Spoilt("the hub received other bytes than were cut")
            if answer.status == 460:
                self._counts.resent_bytes += size_bytes
                log.warning("clip %s: a piece arrived damaged and is sent again", clip.id)
                continue
            if answer.status not in (200, 204):
                raise self._refusal(answer)
            new_offset = _offset(answer, made.size_bytes)
            if new_offset != offset + size_bytes:
                raise HubFailed(f"the hub stands at byte {new_offset}, {offset + size_bytes} were sent")
            offset = new_offset
            self._counts.got_through(size_bytes)
            took_s = max(self._now_s() - began_s, 0.001)
            self._bytes_s = 0.7 * self._bytes_s + 0.3 * size_bytes / took_s
            if offset == made.size_bytes:
                if answer.headers.get("Nvr-Stored") != made.sha256:
                    raise HubFailed("the hub has all of a clip and does not say that it is stored")
                return

    async def _body(self, clip: Clip, data: bytes, offset: int, turn: Turn) -> AsyncIterator[bytes]:
        """The piece, as fast as the budget lets it."""
        for place in range(0, len(data), CHUNK_BYTES):
            chunk = data[place : place + CHUNK_BYTES]
            await self._budget.take(len(chunk), clip.rank)
            if place == 0 and offset == 0 and clip.rank < RANK_STATE:
                self._counts.begun_s.append(max(time.time() - clip.came_ms / 1000, 0.0))
            if self._meter is not None:
                self._meter.paid_bytes += len(chunk)
            self._counts.sent_bytes += len(chunk)
            self._handed[clip.id] = max(self._handed.get(clip.id, 0), offset + place + len(chunk))
            yield chunk
        turn.end()

    async def _ask(self, method: str, path: str, **more: Any) -> Answer:
        if self._client is None:
            self._client = self._link.client()
        answer = await asked(self._client, method, path, **more)
        if answer.socket is not None and answer.socket is not self._meter_of:
            self._forget()
            self._meter, self._meter_of = self._budget.watch(answer.socket), answer.socket
        return answer

    async def warm(self) -> None:
        """Have a connection, so that an alarm does not wait for one: with 300 ms and loss that is seconds. Raises HubFailed."""
        if self._client is None:
            self._client = self._link.client()
        await self._link.ask_time(self._client)

    async def _hang_up(self) -> None:
        self._forget()
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _forget(self) -> None:
        if self._meter is not None:
            self._budget.forget(self._meter)
        self._meter = self._meter_of = None

    async def close(self) -> None:
        await self._hang_up()

    @staticmethod
    def _refusal(answer: Answer) -> Exception:
        # A piece that was cut short on the way is a bad request too; only what a clip is can be refused for ever.
        if answer.status == 413 or (answer.status in (400, 415) and answer.asked == f"POST {UPLOADS}"):
            return Refused(f"the hub answers {answer.status} to {answer.asked}")
        wait = wait_s(answer)
        if wait is not None and answer.status in (429, 503, 507):
            return Busy(f"the hub answers {answer.status} to {answer.asked}, and asks for {wait:.0f} s", wait)
        return HubFailed(f"the hub answers {answer.status} to {answer.asked}")


def _read(file: Any, offset: int, size_bytes: int) -> bytes:
    file.seek(offset)
    data: bytes = file.read(size_bytes)
    return data


def _offset(answer: Answer, size_bytes: int) -> int:
    text = answer.headers.get("Upload-Offset", "")
    if not (text.isascii() and text.isdigit() and len(text) < 16 and int(text) <= size_bytes):
        raise HubFailed(f"the hub answers {answer.asked} with the offset {text[:40]!r}")
    return int(text)


def back_off_s(failures: int) -> float:
    """With a part of chance: all boxes of a city lose the hub at the same moment."""
    return BACK_OFF_S[min(failures, len(BACK_OFF_S) - 1)] * random.uniform(0.7, 1.3)
